"""Entropy against scikit-image, contrast against loops, gains against what was done to targets."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from skimage.measure import shannon_entropy

from synth.inspect.quality import compare_signals, entropy, local_contrast
from synth.targets import Signal, measure_signals

frames = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=24))


@given(frames)
@settings(max_examples=100, deadline=None)
def test_entropy_is_that_of_scikit_image(frame: NDArray[np.uint8]) -> None:
    assert entropy(frame) == pytest.approx(shannon_entropy(frame), abs=1e-9)


@given(frames, st.integers(1, 250), st.integers(0, 1000))
@settings(max_examples=100, deadline=None)
def test_entropy_of_few_grey_values_does_not_depend_on_their_spacing(
    frame: NDArray[np.uint8], gain: int, offset: int
) -> None:
    deep = frame.astype(np.uint16) * np.uint16(gain) + np.uint16(offset)
    assert entropy(deep) == pytest.approx(entropy(frame), abs=1e-9)


def test_entropy_of_deep_frames_counts_at_most_256_bins() -> None:
    frame = np.arange(65_536, dtype=np.uint16).reshape(256, 256)
    assert entropy(frame) == 8.0
    assert entropy(frame[:, :128]) == 8.0


def test_a_constant_frame_has_no_information() -> None:
    assert str(entropy(np.full((5, 5), 4095, np.uint16))) == "0.0"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_local_contrast_is_the_mean_deviation_of_all_windows(dtype: type) -> None:
    frame = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (17, 21)).astype(dtype)
    windows = [frame[row : row + 9, col : col + 9].std() for row in range(9) for col in range(13)]
    assert local_contrast(frame) == pytest.approx(np.mean(windows))


def test_local_contrast_of_a_constant_frame_is_nothing_and_of_a_tiny_one_undefined() -> None:
    assert local_contrast(np.full((30, 30), 65_535, np.uint16)) == 0
    assert math.isnan(local_contrast(np.zeros((8, 40), np.uint8)))


def scene(
    contrast: float, sigma: float, border: bool = False
) -> tuple[NDArray[np.uint16], NDArray[np.bool_]]:
    """A target of 3x3 pixels over noise; the noise has one pattern whatever its σ."""
    noise = np.random.default_rng(1).standard_normal((80, 80))
    mask = np.zeros((80, 80), bool)
    top = 0 if border else 40
    mask[top : top + 3, 40:43] = True
    # Integers far from 0 stay what they are in uint16, so nothing is rounded away.
    image = 10_000 + 100 * np.rint(sigma * 10 * noise * ~mask) + 1000 * contrast * mask
    return image.astype(np.uint16), mask


@pytest.mark.parametrize("border", [False, True])
def test_twice_the_contrast_is_an_scr_gain_of_two(border: bool) -> None:
    image, mask = scene(5, 1, border)
    before = measure_signals(image, mask)[0]
    brighter = image + np.rint(before.contrast * mask).astype(np.uint16)
    gain, suppression = compare_signals(before, measure_signals(brighter, mask)[0])
    assert gain == pytest.approx(2, rel=1e-3)
    assert suppression == pytest.approx(1)


def test_twice_the_noise_halves_the_suppression_factor() -> None:
    quiet, mask = scene(5, 1)
    loud, _ = scene(5, 2)
    _, suppression = compare_signals(
        measure_signals(quiet, mask)[0], measure_signals(loud, mask)[0]
    )
    assert suppression == pytest.approx(0.5, rel=0.02)


@pytest.mark.parametrize("lift", [1, 3])
def test_gain_and_offset_of_a_frame_leave_the_scr(lift: int) -> None:
    image, mask = scene(5, 1)
    signals = [measure_signals(frame, mask)[0] for frame in (image, image * lift)]
    gain, suppression = compare_signals(*signals)
    assert gain == pytest.approx(1)
    assert suppression == pytest.approx(1 / lift)


@pytest.mark.parametrize(
    ("before", "after", "scr_gain", "suppression"),
    [
        (Signal(4, 2), Signal(4, 0), math.inf, math.inf),
        (Signal(4, 0), Signal(4, 0), math.nan, math.nan),
        (Signal(0, 2), Signal(4, 2), math.inf, 1),
        (Signal(0, 2), Signal(0, 2), math.nan, 1),
        (Signal(math.nan, math.nan), Signal(4, 2), math.nan, math.nan),
    ],
)
def test_gains_over_nothing_are_infinite_or_undefined(
    before: Signal, after: Signal, scr_gain: float, suppression: float
) -> None:
    np.testing.assert_equal(compare_signals(before, after), (scr_gain, suppression))
