"""Realisations of a camera's noise: new every time, with the spectrum of the model."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shared_noise import independent_limit, pair_correlations
from simulated_noise import Camera

from synth.noise.blocks import find_noise_blocks
from synth.noise.cameras import CameraNoise, generate_frames
from synth.noise.model import NoiseModel, fit_model, make_physical_model
from synth.noise.realisation import NoiseGenerator, realisation_seed


def fitted(*, blur: float = 0.6, keep_patches: bool = False) -> NoiseModel:
    rng = np.random.default_rng(0)
    camera = Camera(sigma=4.0, gain=0.0, column=0.0, row=0.0, blur=blur)
    made = camera.frames(rng, rng.uniform(60, 180, 6), (160, 192))
    blocks = find_noise_blocks((frame, None) for frame in made)
    return fit_model(blocks, keep_patches=keep_patches)


def shown_in_blocks(stack: np.ndarray, side: int) -> np.ndarray:
    """Mean power spectrum of blocks side by side, (side, side), mean 1."""
    rows, cols = (n // side for n in stack.shape[1:])
    blocks = stack[:, : rows * side, : cols * side].reshape(-1, rows, side, cols, side)
    power = (np.abs(np.fft.fft2(blocks.swapaxes(2, 3))) ** 2).mean((0, 1, 2))
    return power / power.mean()


def test_200_generated_frames_share_no_noise() -> None:
    cameras = CameraNoise([fitted()])
    frames = np.stack([f.astype(float) for f in generate_frames(cameras, (64, 64), 200)])
    limit = independent_limit(frames)
    assert pair_correlations(frames).max() < limit
    # Half of a frame in another one would stand out by far.
    frames -= frames.mean((1, 2), keepdims=True)
    frames[7, :, 32:] = frames[3, :, :32]
    assert pair_correlations(frames).max() > 2 * limit


def test_frames_of_two_seeds_and_of_two_cameras_share_no_noise() -> None:
    one, other = CameraNoise([fitted()]), CameraNoise([fitted(blur=0.9)])
    first, second, third = (
        np.stack([f.astype(float) for f in generate_frames(cameras, (64, 64), 60, seed)])
        for cameras, seed in ((one, 0), (one, 1), (other, 0))
    )
    for others in (second, third):
        limit = independent_limit(np.concatenate([first, others]))
        assert pair_correlations(first, others).max() < limit


def test_no_pattern_of_columns_or_rows_comes_twice() -> None:
    model = make_physical_model(sigma=1.0, column=1.0, row=1.0)
    seeds = [realisation_seed(build, "x", number) for build in (0, 1) for number in range(50)]
    cameras = NoiseGenerator(model), NoiseGenerator(replace(model, sigma=2 * model.sigma))
    lines = [
        line
        for camera, own in zip(cameras, (seeds, seeds[:20]), strict=True)
        for seed in own
        for line in camera.draw((128, 128), seed)[1:]
    ]
    stack = np.stack(lines)[:, None]
    assert pair_correlations(stack).max() < independent_limit(stack)


def test_the_same_seed_makes_the_same_noise() -> None:
    model = fitted()
    first, again, other = (
        np.concatenate([part.ravel() for part in NoiseGenerator(model).draw((50, 70), seed)])
        for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    assert abs(np.corrcoef(first, other)[0, 1]) < 0.1


@pytest.mark.parametrize("tails", [False, True])
def test_blocks_show_the_spectrum_of_the_model(tails: bool) -> None:
    model = fitted(blur=0.8)
    if tails:
        share = (np.arange(257) + 0.5) / 257
        laplace = np.sign(share - 0.5) * -np.log(2 * np.minimum(share, 1 - share))
        model = replace(model, quantiles=(laplace / laplace.std())[None])
    camera = NoiseGenerator(model)
    stack = np.stack([camera.draw((200, 230), seed)[0] for seed in range(60)])
    assert stack.var() == pytest.approx(1, abs=0.02)
    away = np.log10(shown_in_blocks(stack, 32) / model.spectrum[0])
    # 2,520 blocks: a standard deviation of 0.009 decades by chance. Where the spectrum is low,
    # heavy tails have more power than correlations can take away.
    assert np.sqrt((away**2).mean()) < (0.03 if tails else 0.02)
    assert abs(away).max() < (0.2 if tails else 0.1)


@pytest.mark.parametrize("shape", [(64, 64), (65, 65)])
def test_whole_outputs_of_a_white_model_have_no_frequency_more_or_less(
    shape: tuple[int, int],
) -> None:
    # At one size the transform has a column of the highest frequency, at the other it has none.
    camera = NoiseGenerator(make_physical_model(sigma=1.0))
    stack = np.stack([camera.draw(shape, seed)[0] for seed in range(200)])
    # The mean square of normal values has a standard deviation of √(2 / n).
    assert abs((stack**2).mean() - 1) < 5 * np.sqrt(2 / stack.size)
    power = (np.abs(np.fft.rfft2(stack)) ** 2).mean(0) / stack[0].size
    # 200 outputs of at least 64 columns or 33 rows; a frequency of real values has a standard
    # deviation of √2 by chance.
    for axis, counted in ((0, shape[0]), (1, power.shape[1])):
        assert abs(power.mean(axis) - 1).max() < 5 * np.sqrt(2 / (200 * counted))


def test_opposite_borders_of_an_output_are_independent() -> None:
    # A Gaussian of σ 2.5 has blurred this noise: pixels correlate by 0.16 at a distance of 7.
    blur = np.exp(-((2 * np.pi * 2.5 * np.fft.fftfreq(64)) ** 2))
    spectrum = np.outer(blur, blur)[None] / blur.mean() ** 2
    camera = NoiseGenerator(replace(make_physical_model(sigma=1.0), spectrum=spectrum))
    # Sizes that a transform is fast at, which it would not enlarge for its speed.
    stack = np.stack([camera.draw((48, 64), seed)[0] for seed in range(600)])
    for first, last in ((stack[:, 0], stack[:, -1]), (stack[:, :, 0], stack[:, :, -1])):
        found = (first * last).mean(1)
        assert abs(found.mean()) < 4 * found.std() / np.sqrt(len(found))


@given(st.tuples(st.integers(1, 60), st.integers(1, 60)), st.integers(0, 2**53 - 1))
@settings(max_examples=30, deadline=None)
def test_outputs_of_any_size_have_variance_1(shape: tuple[int, int], seed: int) -> None:
    model = make_physical_model(sigma=1.0, column=1.0, drift=1.0)
    pixels, columns, rows = NoiseGenerator(model).draw(shape, seed)
    assert (pixels.shape, columns.shape, rows.shape) == (shape, shape[1:], shape[:1])
    assert all(np.isfinite(part).all() for part in (pixels, columns, rows))
    # The mean square of n normal values.
    assert abs((pixels**2).mean() - 1) < 6 * np.sqrt(2 / pixels.size) + 12 / pixels.size


def test_patterns_have_variance_1_and_the_spectrum_of_the_model() -> None:
    model = make_physical_model(sigma=1.0, column=1.0, drift=1.0)
    camera = NoiseGenerator(model)
    columns, rows = (
        np.stack([camera.draw((200, 300), s)[of] for s in range(200)]) for of in (1, 2)
    )
    assert columns.var() == pytest.approx(1, abs=0.03)
    assert (rows**2).mean() == pytest.approx(1, abs=0.1)
    neighbours = [float((line[:, 1:] * line[:, :-1]).mean()) for line in (columns, rows)]
    assert abs(neighbours[0]) < 0.03
    # Drift goes on from row to row, and is not the same at both ends of a frame.
    assert neighbours[1] > 0.4
    assert float((rows[:, 0] * rows[:, -1]).mean()) < neighbours[1] - 0.2


def test_tiled_residuals_are_as_varied_and_correlated_as_the_real_ones() -> None:
    model = fitted(blur=0.7, keep_patches=True)
    camera = NoiseGenerator(model)
    stack = np.stack([camera.draw((200, 230), realisation_seed(0, "x", k))[0] for k in range(40)])
    assert stack.var() == pytest.approx(1, abs=0.05)
    shown = shown_in_blocks(stack, 32)
    wanted = shown_in_blocks(model.patches, 32)
    far = np.ix_(range(3, 30), range(3, 30))
    # The lowest frequencies went with the trend of the patches; windows smooth the others.
    assert np.sqrt((np.log10(shown / wanted)[far] ** 2).mean()) < 0.06
    # No seams: the variance at the tiles' borders is that of their middles.
    columns = (stack**2).mean((0, 1))
    period = [columns[at::16].mean() for at in range(16)]
    assert max(period) / min(period) < 1.25


def places_of_patches(model: NoiseModel, build: int, outputs: int) -> np.ndarray:
    """Which patch is at each place of a build's first outputs, (outputs, places)."""
    # A patch of a single pixel in its middle, whose value tells which one it is.
    patches = np.zeros_like(model.patches)
    patches[:, 15, 15] = np.arange(1, len(patches) + 1)
    kind = np.zeros(len(patches), np.int64)
    camera = NoiseGenerator(replace(model, patches=patches, patch_kind=kind))
    seeds = [realisation_seed(build, "x", number) for number in range(outputs)]
    stack = np.stack([camera.draw((64, 80), seed)[0] for seed in seeds])
    values = stack[:, stack.any(0)]
    return np.rint(values / np.sin(15.5 * np.pi / 32) ** 2).astype(int)


def test_no_patch_is_twice_at_the_same_place() -> None:
    model = fitted(keep_patches=True)
    outputs = len(model.patches) // 2
    places = places_of_patches(model, 5, outputs)
    assert places.shape[1] >= 3 * 4
    for place in places.T:
        assert len(set(place)) == outputs


def test_two_builds_put_other_patches_side_by_side() -> None:
    model = fitted(keep_patches=True)
    one, other = (places_of_patches(model, build, 40) for build in (5, 6))
    # No output of one build is put together as any of the other.
    same = (one[:, None] == other).sum(2)
    assert same.max() <= 3
    assert same.mean() < 2 * one.shape[1] / len(model.patches)


@given(st.integers(0, 2**63), st.integers(0, 2**32 - 2))
@settings(max_examples=30)
def test_seeds_of_a_purpose_differ(seed: int, ordinal: int) -> None:
    found = [realisation_seed(seed, "negatives", one) for one in (ordinal, ordinal + 1)]
    assert len({*found, realisation_seed(seed, "transfer", ordinal)}) == 3
    assert all(0 <= one < 2**53 for one in found)


def test_threads_that_draw_many_sizes_get_what_one_alone_gets() -> None:
    model = fitted()
    shared = NoiseGenerator(model)
    jobs = [((200 + 16 * k, 900 + 64 * k), k) for k in range(24)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda job: shared.draw(*job)[0], jobs))
    for job, found in zip(jobs[::8], together[::8], strict=True):
        np.testing.assert_array_equal(NoiseGenerator(model).draw(*job)[0], found)
