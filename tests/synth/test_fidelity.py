"""Fidelity scores: nothing between equal noise, more the more it differs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from math import floor, log

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import signal, stats
from simulated_noise import Camera

from synth.errors import NoiseError
from synth.noise.blocks import NoiseBlocks, find_noise_blocks
from synth.noise.fidelity import (
    compare_noise,
    describe_noise,
    map_divergence,
    measure_floor,
    residual_shares,
    share_divergence,
    variance_maps,
)


def blocks(camera: Camera, seed: int, frames: int = 8) -> NoiseBlocks:
    rng = np.random.default_rng(seed)
    made = camera.frames(rng, np.linspace(60, 180, frames), (160, 192))
    return find_noise_blocks((frame, None) for frame in made)


PLAIN = Camera(column=0.0, row=0.0)


def test_noise_is_at_no_distance_from_itself() -> None:
    one = describe_noise(blocks(PLAIN, 0))
    assert set(compare_noise(one, one).values()) == {0.0}


def test_other_frames_of_a_camera_are_as_near_as_its_halves() -> None:
    found = compare_noise(describe_noise(blocks(PLAIN, 0)), describe_noise(blocks(PLAIN, 1)))
    floor = measure_floor(blocks(PLAIN, 2, frames=16))
    for name, score in found.items():
        assert score < 3 * floor[name], name


@pytest.mark.parametrize(
    ("other", "names"),
    [
        (Camera(column=0, row=0, blur=0.0), ("spectrum", "correlation")),
        (Camera(column=0, row=0, sigma=6.0), ("wasserstein", "kl", "level", "spectrum", "kld")),
        (Camera(column=3.0, row=0), ("columns", "wasserstein")),
        (Camera(column=0, row=3.0), ("rows", "wasserstein")),
    ],
)
def test_other_noise_is_told_apart(other: Camera, names: tuple[str, ...]) -> None:
    real = describe_noise(blocks(PLAIN, 0))
    found = compare_noise(describe_noise(blocks(other, 1)), real)
    floor = measure_floor(blocks(PLAIN, 2, frames=16))
    for name in names:
        assert found[name] > 4 * floor[name], name


def test_scores_are_those_of_their_definitions() -> None:
    real, louder = (describe_noise(blocks(Camera(sigma=s, gain=0, column=0, row=0, blur=0), 0))
                    for s in (4.0, 8.0))  # fmt: skip
    found = compare_noise(louder, real)
    # Of normal noise: W1 is (σ' − σ) √(2/π); spectra are log10 4 apart, levels log10 2.
    assert found["wasserstein"] == pytest.approx(4 * np.sqrt(2 / np.pi), rel=0.05)
    assert found["spectrum"] == pytest.approx(np.log10(4), rel=0.05)
    assert found["level"] == pytest.approx(np.log10(2), rel=0.1)
    assert found["correlation"] < 0.02
    edges = np.concatenate([[-np.inf], np.linspace(-30.5, 30.5, 62)[1:-1], [np.inf]])
    share = [np.diff(stats.norm.cdf(edges, scale=s)) + 0.0005 for s in (8.0, 4.0)]
    assert found["kl"] == pytest.approx(stats.entropy(*share), rel=0.1)


def test_noise_without_common_intensity_has_no_score_that_depends_on_it() -> None:
    rng = np.random.default_rng(0)
    dark, bright = (
        describe_noise(find_noise_blocks((f, None) for f in PLAIN.frames(rng, np.full(2, level))))
        for level in (40.0, 200.0)
    )
    found = compare_noise(dark, bright)
    assert {name for name, score in found.items() if np.isnan(score)} == {"level", "akld"}


def test_one_frame_cannot_be_halved() -> None:
    with pytest.raises(NoiseError, match="cannot be halved"):
        measure_floor(blocks(PLAIN, 0, frames=1))


def histogram_divergence(made: NDArray[np.float64], real: NDArray[np.float64], top: float) -> float:
    return share_divergence(residual_shares(made, top), residual_shares(real, top))


def variance_map_divergence(
    made: NDArray[np.float64], real: NDArray[np.float64], top: float
) -> float:
    return map_divergence(variance_maps(made, top), variance_maps(real, top))


def published_kld(made: NDArray[np.float64], real: NDArray[np.float64], top: float) -> float:
    """Bins counted one residual after the other."""
    counts = [Counter(floor((x / top + 1) * 128) for x in values.ravel().tolist())
              for values in (real, made)]  # fmt: skip
    shares = [{k: n / values.size for k, n in count.items()}
              for count, values in zip(counts, (real, made), strict=True)]  # fmt: skip
    both = shares[0].keys() & shares[1].keys()
    return sum(shares[0][k] * (log(shares[0][k]) - log(shares[1][k])) for k in both)


def published_akld(made: NDArray[np.float64], real: NDArray[np.float64], top: float) -> float:
    """Windows summed in two dimensions, block after block, pixel after pixel."""
    line = cv2.getGaussianKernel(7, -1)
    terms = []
    for pair in zip(made, real, strict=True):
        fake, true = (
            signal.convolve2d(np.pad((one / top) ** 2, 3, "reflect"), line @ line.T, "valid")
            for one in pair
        )
        for v, w in zip(fake.ravel().tolist(), true.ravel().tolist(), strict=True):
            r = min(max(max(v, 1e-10) / max(w, 1e-10), 0.1), 10.0)
            terms.append(log(1 / r) + r - 1)
    return sum(terms) / len(terms) / 2


@pytest.mark.parametrize(("top", "sigma"), [(255.0, 6.0), (65535.0, 1500.0), (65535.0, 0.6)])
def test_published_measures_are_those_of_their_definitions(top: float, sigma: float) -> None:
    rng = np.random.default_rng(0)
    real = rng.normal(0, sigma, (6, 20, 24))
    made = rng.standard_t(3, (6, 20, 24)) * sigma * np.linspace(0.1, 4, 6)[:, None, None]
    few = made[:2]
    assert histogram_divergence(few, real, top) == pytest.approx(
        published_kld(few, real, top), abs=1e-6
    )
    assert variance_map_divergence(made, real, top) == pytest.approx(
        published_akld(made, real, top), abs=1e-6
    )


def test_published_measures_are_relative_to_full_scale() -> None:
    made, real = np.random.default_rng(0).normal(0, [[[[6.0]]], [[[5.0]]]], (2, 4, 16, 16))
    for measure in (histogram_divergence, variance_map_divergence):
        deep = measure(257 * made, 257 * real, 65535.0)
        assert deep == pytest.approx(measure(made, real, 255.0), abs=1e-12)


def test_published_measures_without_any_noise() -> None:
    none, some = np.zeros((2, 16, 16)), np.random.default_rng(0).normal(0, 5, (2, 16, 16))
    for measure in (histogram_divergence, variance_map_divergence):
        assert measure(none, none, 255.0) == 0
    # Ratios of local variances end at 0.1 and at 10.
    assert variance_map_divergence(none, some, 255.0) == pytest.approx((log(10) - 0.9) / 2)
    assert variance_map_divergence(some, none, 255.0) == pytest.approx((9 - log(10)) / 2)
    # The published sum leaves out what only one of them has, so too little noise is below 0.
    share = (np.floor(some / 255 * 128) == 0).mean()
    assert histogram_divergence(none, some, 255.0) == pytest.approx(share * log(share))


def test_published_measures_are_undefined_without_anything_in_common() -> None:
    ones = np.ones((2, 16, 16))
    assert np.isnan(histogram_divergence(20 * ones, -20 * ones, 255.0))
    assert np.isnan(variance_map_divergence(ones[:0], ones[:0], 255.0))


def one_frame(mean: NDArray[np.float64], seed: int, depth: int = 8) -> NoiseBlocks:
    """White noise whose σ rises with the intensity, in the blocks of one frame."""
    rng = np.random.default_rng(seed)
    scale = (2.0**depth - 1) / 255
    residual = rng.normal(0, 1, (len(mean), 32, 32)) * (1 + mean / 20)[:, None, None] * scale
    none = np.zeros(len(mean), np.int64)
    return NoiseBlocks(residual, mean * scale, none, none, none, depth)


@pytest.mark.parametrize("depth", [8, 16])
def test_blocks_of_like_intensity_are_paired(depth: int) -> None:
    mean = np.linspace(20, 200, 32)
    made, real = one_frame(mean, 0, depth), one_frame(mean, 1, depth)
    shuffled = made.take(np.random.default_rng(0).permutation(32))
    found = compare_noise(describe_noise(shuffled), describe_noise(real))
    top = 2.0**depth - 1
    pairs = variance_map_divergence(made.residual, real.residual, top)
    assert found["akld"] == pytest.approx(pairs, abs=1e-12)
    whole = histogram_divergence(made.residual, real.residual, top)
    assert found["kld"] == pytest.approx(whole, abs=1e-12)


def test_numbers_of_blocks_and_where_their_intensities_crowd_do_not_matter() -> None:
    real = one_frame(np.linspace(20, 200, 32), 0)
    even = compare_noise(describe_noise(one_frame(np.linspace(20, 200, 32), 1)),
                         describe_noise(real))  # fmt: skip
    # Three frames, most of whose blocks are dark, against one.
    crowd = one_frame(20 + 180 * np.linspace(0, 1, 96) ** 3, 2)
    crowd = replace(crowd, frame=np.arange(96) % 3)
    found = compare_noise(describe_noise(crowd), describe_noise(real))
    assert found["akld"] == pytest.approx(even["akld"], rel=0.25)
