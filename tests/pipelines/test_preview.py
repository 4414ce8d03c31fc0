"""Contact sheets: everything is in its cell, and targets are outlined."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipelines.preview import contact_sheet, outlined


def green(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where a picture is clearly green; greys never are."""
    blue, level, red = cv2.split(picture.astype(int))
    return (level > blue + 50) & (level > red + 50)


def frame(shape: tuple[int, int], dtype: type[np.generic] = np.uint8) -> NDArray[np.generic]:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape).astype(dtype)


@given(st.integers(1, 80), st.integers(1, 80), st.integers(32, 90))
@settings(max_examples=30, deadline=None)
def test_an_image_fills_its_cell_in_its_own_proportions(height: int, width: int, cell: int) -> None:
    picture = outlined(frame((height, width)), np.zeros((height, width), bool), cell)
    assert max(picture.shape[:2]) == cell
    scale = cell / max(height, width)
    assert abs(picture.shape[0] - height * scale) <= 1
    assert abs(picture.shape[1] - width * scale) <= 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_box_is_drawn_around_every_target_and_nowhere_else(dtype: type) -> None:
    mask = np.zeros((64, 64), bool)
    mask[10:13, 20:22] = mask[40, 50] = True
    marked = green(outlined(frame((64, 64), dtype), mask, 64))
    wanted = np.zeros((64, 64), bool)
    for top, left, bottom, right in ((8, 18, 15, 24), (38, 48, 43, 53)):
        wanted[top : bottom + 1, left : right + 1] = True
        wanted[top + 1 : bottom, left + 1 : right] = False
    np.testing.assert_array_equal(marked, wanted)


def test_targets_stay_visible_inside_their_box() -> None:
    image, mask = np.full((32, 32), 50, np.uint8), np.zeros((32, 32), bool)
    image[10, 10] = 250
    mask[10, 10] = True
    picture = outlined(image, mask, 128)
    assert (picture[40:44, 40:44] > 200).all()


def test_a_constant_image_is_drawn() -> None:
    assert outlined(np.full((8, 8), 7, np.uint16), np.zeros((8, 8), bool), 32).shape == (32, 32, 3)


@given(st.integers(1, 9), st.integers(1, 4), st.integers(32, 64))
@settings(max_examples=15, deadline=None)
def test_a_sheet_has_a_green_box_for_each_of_its_images(
    count: int, columns: int, cell: int
) -> None:
    mask = np.zeros((32, 32), bool)
    mask[15:17, 15:17] = True
    items = [(f"a long caption {n}", frame((32, 32)).astype(np.uint8), mask) for n in range(count)]
    sheet = contact_sheet(items, columns, cell)
    assert sheet.dtype == np.uint8
    boxes, _ = cv2.connectedComponents(green(sheet).astype(np.uint8), connectivity=8)
    assert boxes - 1 == count
