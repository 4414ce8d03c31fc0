"""Targets against scikit-image, and boxes against the published rule."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import ndimage
from skimage import measure

from synth.targets import (
    Target,
    box_window,
    find_targets,
    label_targets,
    local_scr,
    measure_signals,
    target_box,
)

masks = hnp.arrays(
    np.bool_,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=20),
    elements=st.sampled_from([False, False, True]),
)


def at(row: int, col: int) -> Target:
    return Target(0, row, col, (row, col), 1, (row, col, row + 1, col + 1))


@given(masks, st.integers(0, 6))
@settings(max_examples=60, deadline=None)
def test_a_window_holds_all_within_the_margin_of_a_box(
    mask: NDArray[np.bool_], margin: int
) -> None:
    for target in find_targets(mask):
        boxed, found = np.zeros((2, *mask.shape), np.uint8)
        boxed[box_window(target.box)] = 1
        found[box_window(target.box, margin)] = 1
        grown = ndimage.grey_dilation(boxed, 2 * margin + 1) if margin else boxed
        np.testing.assert_array_equal(found, grown)
        top, left, bottom, right = target.box
        assert boxed.sum() == (bottom - top) * (right - left)


@given(masks)
@settings(max_examples=100, deadline=None)
def test_labels_are_those_of_scikit_image(mask: NDArray[np.bool_]) -> None:
    wanted, wanted_count = measure.label(mask, connectivity=2, return_num=True)
    count, labels = label_targets(mask)
    assert count == wanted_count
    np.testing.assert_array_equal(labels, wanted)


@given(masks)
@settings(max_examples=100, deadline=None)
def test_targets_are_the_regions_of_scikit_image(mask: NDArray[np.bool_]) -> None:
    regions = measure.regionprops(measure.label(mask, connectivity=2))
    targets = find_targets(mask)
    assert [t.index for t in targets] == list(range(len(regions)))
    assert [(t.area, t.box) for t in targets] == [(r.area, r.bbox) for r in regions]
    for target, region in zip(targets, regions, strict=True):
        assert target.centroid == pytest.approx(region.centroid)


@given(masks)
@settings(max_examples=30, deadline=None)
def test_views_of_a_mask_are_labelled_as_copies_are(mask: NDArray[np.bool_]) -> None:
    for view in (mask.T, mask[::-1], mask[:, ::-1], mask[::2, ::2]):
        assert find_targets(view) == find_targets(view.copy())
        np.testing.assert_array_equal(label_targets(view)[1], label_targets(view.copy())[1])


@given(masks)
@settings(max_examples=100, deadline=None)
def test_centres_are_exact_centroids_rounded_half_up(mask: NDArray[np.bool_]) -> None:
    labels = measure.label(mask, connectivity=2)
    for target in find_targets(mask):
        rows, cols = np.nonzero(labels == target.index + 1)
        for centre, values in ((target.row, rows), (target.col, cols)):
            exact = Fraction(int(values.sum()), len(values))
            assert centre == math.floor(exact + Fraction(1, 2))


@given(st.integers(1, 40), st.integers(0, 60), st.integers(0, 60), st.data())
@settings(max_examples=80, deadline=None)
def test_box_begins_at_centre_minus_half_unless_it_has_to_move(
    side: int, more_rows: int, more_cols: int, data: st.DataObject
) -> None:
    shape = side + more_rows, side + more_cols
    row, col = (data.draw(st.integers(0, length - 1)) for length in shape)
    top, left, bottom, right = target_box(at(row, col), side, shape)
    assert (bottom - top, right - left) == (side, side)
    assert 0 <= top <= bottom <= shape[0]
    assert 0 <= left <= right <= shape[1]
    assert top <= row < bottom
    assert left <= col < right
    for first, centre, length in ((top, row, shape[0]), (left, col, shape[1])):
        asked = centre - side // 2
        assert first == asked or (asked < 0 and first == 0) or first == length - side < asked


@pytest.mark.parametrize("side", [0, 9, 100])
def test_a_box_larger_than_the_image_is_refused(side: int) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        target_box(at(3, 3), side, (8, 12))


@given(st.integers(0, 2**32), st.integers(0, 25))
@settings(max_examples=40, deadline=None)
def test_scr_is_that_of_a_loop_over_pixels(seed: int, margin: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (24, 31)).astype(np.uint8)
    mask = rng.random((24, 31)) < 0.05
    for target in find_targets(mask):
        own, around = [], []
        labels = measure.label(mask, connectivity=2)
        top, left, bottom, right = target.box
        for row in range(24):
            for col in range(31):
                if labels[row, col] == target.index + 1:
                    own.append(float(image[row, col]))
                near = top - margin <= row < bottom + margin and (
                    left - margin <= col < right + margin
                )
                if near and not mask[row, col]:
                    around.append(float(image[row, col]))
        found = local_scr(image, mask, target, margin)
        if not around:
            assert math.isnan(found)
        elif np.std(around) == 0:
            assert math.isinf(found)
        else:
            wanted = abs(np.mean(own) - np.mean(around)) / np.std(around)
            assert found == pytest.approx(wanted)


@given(st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_signals_of_all_targets_have_the_scr_of_each(seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 65_536, (40, 40)).astype(np.uint16)
    mask = rng.random((40, 40)) < 0.02
    found = [signal.scr for signal in measure_signals(image, mask, margin=5)]
    assert found == [local_scr(image, mask, target, 5) for target in find_targets(mask)]


def test_a_target_that_fills_the_image_has_no_signal() -> None:
    (signal,) = measure_signals(np.ones((4, 4), np.uint8), np.ones((4, 4), bool))
    assert math.isnan(signal.scr)
    assert measure_signals(np.ones((4, 4), np.uint8), np.zeros((4, 4), bool)) == []
