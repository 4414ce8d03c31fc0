"""Mixup against exact rational arithmetic, resizing against Pillow."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from synth.errors import NoiseError
from synth.noise.transfer import mixup, resize_patch

PUBLISHED = [Fraction(n, 10) for n in (1, 2, 3, 4, 5)]
depths = st.sampled_from([np.uint8, np.uint16])


def enlarged_times(patch: NDArray[np.generic], shape: tuple[int, int]) -> NDArray[np.int64]:
    """Bilinear enlargement to (H, W), times 4 H W, in exact integers."""
    return _enlarge_rows(_enlarge_rows(patch.astype(np.int64), shape[0]).T, shape[1]).T


def _enlarge_rows(values: NDArray[np.int64], wanted: int) -> NDArray[np.int64]:
    rows = []
    for row in range(wanted):
        # The centre of output pixel `row` is at (row + 1/2) · size / wanted - 1/2 of the input.
        position = (2 * row + 1) * len(values) - wanted  # in units of 1 / (2 wanted)
        low, part = divmod(position, 2 * wanted)
        below = values[min(max(low, 0), len(values) - 1)]
        above = values[min(max(low + 1, 0), len(values) - 1)]
        rows.append(below * (2 * wanted - part) + above * part)
    return np.array(rows)


def exact_weights(size: int, wanted: int) -> NDArray[np.object_]:
    """(wanted, size) weights of a bilinear resize, antialiased where it shrinks, as fractions."""
    step = Fraction(size, wanted)
    weights = np.full((wanted, size), Fraction(0), object)
    for line, index in np.ndindex(wanted, size):
        distance = abs(index + Fraction(1, 2) - (line + Fraction(1, 2)) * step)
        weights[line, index] = max(1 - distance / max(step, Fraction(1)), Fraction(0))
    return weights / weights.sum(axis=1, keepdims=True)


@given(
    st.integers(0, 2**32),
    st.sampled_from(PUBLISHED),
    depths,
    st.sampled_from([(32, 32), (16, 16), (13, 31), (1, 7)]),
    st.sampled_from([(256, 256), (301, 233), (255, 257), (480, 200), (97, 321)]),
)
@settings(max_examples=40, deadline=None)
def test_published_mix_is_the_exact_value_rounded_half_up(
    seed: int, ratio: Fraction, dtype: type, size: tuple[int, int], shape: tuple[int, int]
) -> None:
    rng = np.random.default_rng(seed)
    top = int(np.iinfo(dtype).max)
    patch = rng.integers(0, top, size, endpoint=True).astype(dtype)
    image = rng.integers(0, top, shape, endpoint=True).astype(dtype)
    mixed = mixup(image, patch, float(ratio))
    # All terms over one denominator: floor(x + 1/2) in integers.
    whole = 4 * shape[0] * shape[1]
    exact = enlarged_times(patch, shape) * ratio.numerator
    exact += image.astype(np.int64) * ((ratio.denominator - ratio.numerator) * whole)
    unit = whole * ratio.denominator
    wanted = (2 * exact + unit) // (2 * unit)
    assert mixed.dtype == dtype
    np.testing.assert_array_equal(mixed, wanted)


sides = st.tuples(st.integers(1, 21), st.integers(1, 21))


@given(
    st.integers(0, 2**32),
    st.decimals(0, 1, places=3).map(Fraction),
    st.sampled_from([None, Fraction(1, 4), Fraction(1, 10), Fraction(3)]),
    depths,
    sides,
    sides,
)
@settings(max_examples=40, deadline=None)
def test_a_mix_of_any_sizes_is_the_exact_value_rounded_half_up(
    seed: int,
    ratio: Fraction,
    gain: Fraction | None,
    dtype: type,
    size: tuple[int, int],
    shape: tuple[int, int],
) -> None:
    rng = np.random.default_rng(seed)
    top = int(np.iinfo(dtype).max)
    patch = rng.integers(0, top, size, endpoint=True).astype(dtype)
    image = rng.integers(0, top, shape, endpoint=True).astype(dtype)
    mixed = mixup(image, patch, float(ratio), None if gain is None else float(gain))
    rows, cols = (exact_weights(*sides) for sides in zip(size, shape, strict=True))
    noise = rows @ patch.astype(object) @ cols.T
    exact = ratio * (gain or 1) * noise + (1 - ratio) * image.astype(object)
    wanted = [min(math.floor(value + Fraction(1, 2)), top) for value in exact.flat]
    assert mixed.ravel().tolist() == wanted


@given(st.integers(0, 255), st.integers(0, 255), st.sampled_from(PUBLISHED))
@settings(max_examples=200, deadline=None)
def test_constant_images_mix_to_the_exact_value(image: int, noise: int, ratio: Fraction) -> None:
    exact = ratio * noise + (1 - ratio) * image
    mixed = mixup(np.full((3, 5), image, np.uint8), np.full((2, 2), noise, np.uint8), float(ratio))
    assert set(mixed.ravel().tolist()) == {math.floor(exact + Fraction(1, 2))}


@given(
    st.integers(0, 2**32),
    st.floats(0, 1),
    depths,
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
@settings(max_examples=60, deadline=None)
def test_any_mix_of_any_size_is_within_rounding_of_the_formula(
    seed: int, ratio: float, dtype: type, shape: tuple[int, int]
) -> None:
    rng = np.random.default_rng(seed)
    top = int(np.iinfo(dtype).max)
    patch = rng.integers(0, top, (16, 16), endpoint=True).astype(dtype)
    image = rng.integers(0, top, shape, endpoint=True).astype(dtype)
    mixed = mixup(image, patch, ratio)
    wanted = ratio * resize_patch(patch.astype(np.float64), shape) + (1 - ratio) * image
    assert mixed.dtype == dtype
    assert mixed.shape == shape
    assert np.abs(mixed - wanted).max() <= 0.5 + 2e-3


@given(st.integers(0, 2**32), depths)
@settings(max_examples=20, deadline=None)
def test_nothing_is_mixed_at_0_and_all_at_1(seed: int, dtype: type) -> None:
    rng = np.random.default_rng(seed)
    image, patch = rng.integers(0, np.iinfo(dtype).max, (2, 9, 9), endpoint=True).astype(dtype)
    np.testing.assert_array_equal(mixup(image, patch, 0.0), image)
    np.testing.assert_array_equal(mixup(image, patch, 1.0), patch)


@given(
    st.integers(0, 2**32),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
    depths,
)
@settings(max_examples=100, deadline=None)
def test_resizing_is_pillows(
    seed: int, size: tuple[int, int], wanted: tuple[int, int], dtype: type
) -> None:
    patch = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, size).astype(dtype)
    image = Image.fromarray(patch.astype(np.float32))
    oracle = np.asarray(image.resize(wanted[::-1], Image.Resampling.BILINEAR))
    resized = resize_patch(patch.astype(np.float64), wanted)
    assert resized.shape == wanted
    np.testing.assert_allclose(resized, oracle, rtol=2e-6, atol=np.iinfo(dtype).max * 1e-6)


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 255))
@settings(max_examples=40, deadline=None)
def test_a_constant_patch_stays_constant(height: int, width: int, level: int) -> None:
    resized = resize_patch(np.full((13, 11), float(level)), (height, width))
    np.testing.assert_allclose(resized, level, rtol=1e-12)


def test_the_arguments_stay_as_they_are() -> None:
    image = np.random.default_rng(0).integers(0, 255, (8, 8)).astype(np.uint8)
    patch = image[::-1].copy()
    before, before_patch = image.copy(), patch.copy()
    mixup(image, patch, 0.5)
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(patch, before_patch)


@given(st.integers(0, 2**32), st.floats(0.1, 600))
@settings(max_examples=40, deadline=None)
def test_a_gain_multiplies_the_noise_and_the_range_clips(seed: int, gain: float) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 65535, (6, 6), endpoint=True).astype(np.uint16)
    patch = rng.integers(0, 255, (6, 6), endpoint=True).astype(np.uint8)
    mixed = mixup(image, patch, 0.3, gain)
    wanted = np.clip(0.3 * gain * patch + 0.7 * image, 0, 65535)
    assert mixed.dtype == np.uint16
    assert np.abs(mixed - wanted).max() <= 0.5 + 1e-3


def test_a_gain_of_one_is_no_gain() -> None:
    rng = np.random.default_rng(0)
    image, patch = rng.integers(0, 256, (2, 30, 30)).astype(np.uint8)
    np.testing.assert_array_equal(mixup(image, patch, 0.2, 1.0), mixup(image, patch, 0.2))


@pytest.mark.parametrize(("image", "noise"), [(np.uint8, np.uint16), (np.uint16, np.uint8)])
def test_noise_of_another_depth_needs_a_gain(image: type, noise: type) -> None:
    with pytest.raises(NoiseError, match="gain"):
        mixup(np.ones((4, 4), image), np.ones((4, 4), noise), 0.1)


@pytest.mark.parametrize("ratio", [-0.01, 1.01, math.nan])
def test_a_ratio_outside_0_to_1_is_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        mixup(np.ones((4, 4), np.uint8), np.ones((4, 4), np.uint8), ratio)
