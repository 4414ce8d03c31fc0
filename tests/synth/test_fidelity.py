"""Fidelity scores: nothing between equal noise, more the more it differs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from simulated_noise import Camera

from synth.errors import NoiseError
from synth.noise.blocks import NoiseBlocks, find_noise_blocks
from synth.noise.fidelity import SCORES, compare_noise, describe_noise, measure_floor


def blocks(camera: Camera, seed: int, frames: int = 8) -> NoiseBlocks:
    rng = np.random.default_rng(seed)
    made = camera.frames(rng, np.linspace(60, 180, frames), (160, 192))
    return find_noise_blocks((frame, None) for frame in made)


PLAIN = Camera(column=0.0, row=0.0)


def test_noise_is_at_no_distance_from_itself() -> None:
    one = describe_noise(blocks(PLAIN, 0))
    assert compare_noise(one, one) == dict.fromkeys(SCORES, 0.0)


def test_other_frames_of_a_camera_are_as_near_as_its_halves() -> None:
    found = compare_noise(describe_noise(blocks(PLAIN, 0)), describe_noise(blocks(PLAIN, 1)))
    floor = measure_floor(blocks(PLAIN, 2, frames=16))
    for name in SCORES:
        assert found[name] < 3 * floor[name], name


@pytest.mark.parametrize(
    ("other", "names"),
    [
        (Camera(column=0, row=0, blur=0.0), ("spectrum", "correlation")),
        (Camera(column=0, row=0, sigma=6.0), ("wasserstein", "kl", "level", "spectrum")),
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


def test_noise_without_common_intensity_has_no_score_of_its_level() -> None:
    rng = np.random.default_rng(0)
    dark, bright = (
        describe_noise(find_noise_blocks((f, None) for f in PLAIN.frames(rng, np.full(2, level))))
        for level in (40.0, 200.0)
    )
    assert np.isnan(compare_noise(dark, bright)["level"])


def test_one_frame_cannot_be_halved() -> None:
    with pytest.raises(NoiseError, match="cannot be halved"):
        measure_floor(blocks(PLAIN, 0, frames=1))
