"""Normalised coefficients against SciPy's filters, and the range that frames are brought to."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from synth.inspect.quality import normalise, to_own_range


def test_coefficients_are_those_of_scipys_gaussian_window() -> None:
    values = np.random.default_rng(0).uniform(0, 255, (40, 31))
    mean = ndimage.gaussian_filter(values, 7 / 6, radius=3, mode="nearest")
    square = ndimage.gaussian_filter(values**2, 7 / 6, radius=3, mode="nearest")
    sigma = np.sqrt(square - mean**2)
    coefficients, deviation = normalise(values)
    np.testing.assert_allclose(deviation, sigma, rtol=1e-9)
    np.testing.assert_allclose(coefficients, (values - mean) / (sigma + 1), rtol=1e-9)


@pytest.mark.parametrize("level", [0.0, 1 / 3, 254.9])
def test_flat_areas_are_exactly_zero(level: float) -> None:
    values = np.full((30, 30), level)
    values[:, 20:] += np.random.default_rng(0).normal(0, 9, (30, 10))
    assert not normalise(values)[0][:, :17].any()


@given(st.integers(1, 250), st.integers(0, 65535 - 250 * 255), st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_gain_and_offset_drop_out(gain: int, offset: int, seed: int) -> None:
    frame = np.random.default_rng(seed).integers(0, 256, (20, 24)).astype(np.uint16)
    np.testing.assert_allclose(
        to_own_range(gain * frame + np.uint16(offset)), to_own_range(frame), atol=1e-9
    )


def test_hot_pixels_do_not_move_the_range() -> None:
    frame = np.random.default_rng(0).integers(900, 1100, (256, 256)).astype(np.uint16)
    hot = frame.copy()
    hot[::64, ::64] = 60_000
    usual = np.ones(frame.shape, bool)
    usual[::64, ::64] = False
    assert np.abs(to_own_range(hot) - to_own_range(frame))[usual].max() < 1.5


def test_a_frame_with_few_other_pixels_keeps_them() -> None:
    frame = np.full((64, 64), 10, np.uint8)
    frame[3, 3] = 20
    assert to_own_range(frame)[3, 3] == 255
    assert not to_own_range(np.full((9, 9), 300, np.uint16)).any()
