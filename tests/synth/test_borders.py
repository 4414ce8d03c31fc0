"""Borders that a filter with zeros beyond the image darkened."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.inspect.check import SIDES, border_shares


def frame(seed: int, shape: tuple[int, int] = (40, 50)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    smooth = cv2.GaussianBlur(rng.normal(0, 60, shape), (0, 0), 4)
    return (120 + smooth + rng.normal(0, 3, shape)).clip(30, 255)


@given(st.integers(0, 2**32 - 1), st.floats(0.8, 1.2), st.sampled_from([np.uint8, np.uint16]))
@settings(max_examples=30, deadline=None)
def test_a_blur_over_zeros_is_found_on_all_sides(
    seed: int, sigma: float, dtype: type[np.generic]
) -> None:
    scale = 1 if dtype == np.uint8 else 50
    values = frame(seed) * scale
    dark = cv2.GaussianBlur(values, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT)
    clean = cv2.GaussianBlur(values, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    shares = border_shares(dark.astype(dtype))
    assert all(share is not None and 0.4 < share < 0.8 for share in shares)
    assert border_shares(clean.astype(dtype)) == (None,) * 4


@pytest.mark.parametrize("side", range(4))
def test_the_side_is_told(side: int) -> None:
    values = frame(0)
    turned = np.rot90(values, side).copy()
    turned[0] *= 0.5
    values = np.rot90(turned, -side)
    # A quarter turn brings the right side up.
    shares = border_shares(values.astype(np.uint8))
    assert [name for name, share in zip(SIDES, shares, strict=True) if share] == [SIDES[side]]


@pytest.mark.parametrize("fill", [0, 10, 255])
def test_black_or_padded_frames_are_not_darkened(fill: int) -> None:
    values = frame(1).astype(np.uint8)
    values[0] = values[:, 0] = fill
    assert border_shares(values) == (None,) * 4
    assert border_shares(np.full((30, 30), fill, np.uint8)) == (None,) * 4
    assert border_shares(np.full((10, 300), 100, np.uint8)) == (None,) * 4
