"""Turned patches against a loop over pixels."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from turned_patches import turn_patch

from synth.targets import find_targets, target_box


@st.composite
def patches(draw: st.DrawFn) -> tuple[NDArray[np.uint16], NDArray[np.bool_], tuple[int, ...]]:
    """An image, its mask and a square box inside."""
    height, width = draw(st.integers(1, 18)), draw(st.integers(1, 18))
    side = draw(st.integers(1, min(height, width)))
    top, left = draw(st.integers(0, height - side)), draw(st.integers(0, width - side))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    dtype = draw(st.sampled_from([np.uint8, np.uint16]))
    image = rng.integers(0, np.iinfo(dtype).max, (height, width)).astype(dtype)
    return image, rng.random((height, width)) < 0.3, (top, left, top + side, left + side)


@given(patches(), st.integers(-5, 9), st.booleans())
@settings(max_examples=100, deadline=None)
def test_every_pixel_comes_from_where_the_turn_takes_it(
    case: tuple, turns: int, mirror: bool
) -> None:
    image, mask, box = case
    top, left, bottom, _ = box
    last = bottom - top - 1
    turned, turned_mask = turn_patch(image, mask, box, turns, mirror)
    wanted, wanted_mask = image.copy(), mask.copy()
    for row in range(last + 1):
        for col in range(last + 1):
            # Back from a pixel of the result: a counter-clockwise turn moves (r, c) to
            # (last - c, r), so it is undone by (r, c) -> (c, last - r).
            from_row, from_col = row, col
            for _ in range(turns % 4):
                from_row, from_col = from_col, last - from_row
            if mirror:
                from_col = last - from_col
            wanted[top + row, left + col] = image[top + from_row, left + from_col]
            wanted_mask[top + row, left + col] = mask[top + from_row, left + from_col]
    assert turned.dtype == image.dtype
    assert turned_mask.dtype == np.bool_
    np.testing.assert_array_equal(turned, wanted)
    np.testing.assert_array_equal(turned_mask, wanted_mask)


@given(patches())
@settings(max_examples=40, deadline=None)
def test_four_quarter_turns_are_none(case: tuple) -> None:
    image, mask, box = case
    turned = image, mask
    for _ in range(4):
        turned = turn_patch(*turned, box, 1)
    np.testing.assert_array_equal(turned[0], image)
    np.testing.assert_array_equal(turned[1], mask)


@given(patches(), st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_a_mirrored_turn_undoes_itself(case: tuple, turns: int) -> None:
    image, mask, box = case
    twice = turn_patch(*turn_patch(image, mask, box, turns, True), box, turns, True)
    np.testing.assert_array_equal(twice[0], image)
    np.testing.assert_array_equal(twice[1], mask)


@given(patches(), st.integers(0, 3), st.booleans())
@settings(max_examples=40, deadline=None)
def test_the_arguments_stay_as_they_are(case: tuple, turns: int, mirror: bool) -> None:
    image, mask, box = case
    before, before_mask = image.copy(), mask.copy()
    turned, turned_mask = turn_patch(image, mask, box, turns, mirror)
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(mask, before_mask)
    assert not np.shares_memory(turned, image)
    assert not np.shares_memory(turned_mask, mask)


@given(st.integers(0, 2**32), st.integers(1, 3), st.booleans(), st.integers(9, 16))
@settings(max_examples=60, deadline=None)
def test_targets_that_lie_whole_in_the_box_keep_their_area(
    seed: int, turns: int, mirror: bool, side: int
) -> None:
    rng = np.random.default_rng(seed)
    mask = np.zeros((40, 50), bool)
    row, col = int(rng.integers(0, 37)), int(rng.integers(0, 47))
    mask[row : row + 3, col : col + 3] = rng.random((3, 3)) < 0.8
    mask[row, col] = True
    image = rng.integers(0, 255, mask.shape).astype(np.uint8)
    target = find_targets(mask)[0]
    turned = turn_patch(image, mask, target_box(target, side, mask.shape), turns, mirror)
    assert turned[1].sum() == mask.sum()
