"""Moved targets: what is labelled moves with the target, and the place that it leaves is whole."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from movers import Mover
from real_data import real_data

from synth.dataset import open_dataset
from synth.errors import RecipeError
from synth.frames import Frame, Mask
from synth.scene import Scene
from synth.simulate.scenes import SCENE_KINDS, simulate_frame
from synth.simulate.sensor import make_sensor
from synth.steps import Move
from synth.targets import Target, find_targets, local_scr, measure_offsets


def simulated(
    seed: int, shape: tuple[int, int] = (128, 144), bits: int = 8, targets: tuple[int, int] = (1, 3)
) -> tuple[Frame, Mask, list[Target]]:
    rng = np.random.default_rng(seed)
    kind = SCENE_KINDS[seed % len(SCENE_KINDS)]
    frame = simulate_frame(kind, make_sensor(shape, rng, bits=bits), rng, targets=targets)
    return frame.image, frame.mask, find_targets(frame.mask)


@given(st.integers(0, 10_000), st.sampled_from([8, 12]))
@settings(max_examples=40, deadline=None)
def test_a_move_keeps_count_area_and_form(seed: int, bits: int) -> None:
    image, mask, targets = simulated(seed, bits=bits)
    mover = Mover(image, mask, targets)
    for target in targets:
        moved = mover.move(target.index, seed)
        assert (moved.image.dtype, moved.image.shape) == (image.dtype, image.shape)
        assert len(find_targets(moved.mask)) == len(targets)
        assert moved.mask.sum() == mask.sum()
        rows, cols = np.nonzero(np.roll(moved.mask, (-moved.shift[0], -moved.shift[1]), (0, 1)))
        own = {tuple(place) for place in np.argwhere(mask)}
        assert len(own & set(zip(rows.tolist(), cols.tolist(), strict=True))) >= target.area


def test_nothing_but_the_two_places_changes_and_again_is_the_same() -> None:
    image, mask, targets = simulated(3)
    first, again = (Mover(image, mask, targets).move(0, 11) for _ in range(2))
    np.testing.assert_array_equal(first.image, again.image)
    assert first.shift != (0, 0)
    far = np.ones(mask.shape, bool)
    for shift in ((0, 0), first.shift):
        row, col = targets[0].row + shift[0], targets[0].col + shift[1]
        far[max(row - 20, 0) : row + 21, max(col - 20, 0) : col + 21] = False
    np.testing.assert_array_equal(first.image[far], image[far])
    assert {Mover(image, mask, targets).move(0, draw).shift for draw in range(8)} != {first.shift}


def test_a_move_does_not_depend_on_those_before() -> None:
    image, mask, targets = simulated(3)
    mover = Mover(image, mask, targets)
    ways = [(0.0, 0.0), (33.0, 0.0), (0.0, 4.0), (-70.0, 4.0)]
    for draw, (angle, scr) in enumerate(2 * ways):
        used = mover.move(0, draw, angle=angle, scr=scr)
        fresh = Mover(image, mask, targets).move(0, draw, angle=angle, scr=scr)
        np.testing.assert_array_equal(used.image, fresh.image)
        np.testing.assert_array_equal(used.mask, fresh.mask)


def test_a_target_keeps_its_contrast_and_leaves_none() -> None:
    left, taken = [], []
    for seed in range(30):
        image, mask, targets = simulated(seed, targets=(1, 1))
        target = targets[0]
        moved = Mover(image, mask, targets).move(0, seed)
        if moved.shift == (0, 0) or local_scr(image, mask, target) < 3:
            continue
        new = find_targets(moved.mask)[0]
        values, after = image.astype(float), moved.image.astype(float)
        ring = _ring(mask) & ~moved.mask
        contrast = values[mask].mean() - values[ring].mean()
        left.append((after[mask].mean() - after[ring].mean()) / contrast)
        ring = _ring(moved.mask)
        taken.append((after[moved.mask].mean() - after[ring].mean()) / contrast)
        assert new.area == target.area
    assert len(left) > 12
    assert abs(np.median(left)) < 0.12
    assert np.median(taken) == pytest.approx(1, abs=0.15)


def _ring(mask: Mask) -> Mask:
    target = find_targets(mask)[0]
    top, left, bottom, right = target.box
    ring = np.zeros(mask.shape, bool)
    ring[max(top - 8, 0) : bottom + 8, max(left - 8, 0) : right + 8] = True
    ring[max(top - 4, 0) : bottom + 4, max(left - 4, 0) : right + 4] = False
    return ring


def test_targets_are_scaled_to_the_scr_that_is_asked_for() -> None:
    found = []
    for seed in range(40):
        image, mask, targets = simulated(seed, bits=12, targets=(1, 1))
        moved = Mover(image, mask, targets).move(0, seed, scr=4.0)
        assert 0.2 <= moved.scale <= 2.5
        if 0.2 < moved.scale < 2.5:
            found.append(local_scr(moved.image, moved.mask, find_targets(moved.mask)[0]))
    assert len(found) > 20
    assert np.median(found) == pytest.approx(4, rel=0.1)
    assert np.mean(np.abs(np.array(found) / 4 - 1) < 0.1) > 0.8


def test_a_target_that_stays_unchanged_changes_nothing() -> None:
    image, mask, targets = simulated(5)
    moved = Mover(image, mask, targets).move(0, 1, stay=True)
    np.testing.assert_array_equal(moved.image, image)
    np.testing.assert_array_equal(moved.mask, mask)


def test_turned_masks_keep_their_area_and_follow_the_image() -> None:
    image = np.full((96, 96), 50, np.uint8)
    mask = np.zeros((96, 96), bool)
    mask[46:50, 36:60] = True
    image[mask] = 200
    mover = Mover(image, mask, find_targets(mask))
    for angle in (90.0, 30.0, -45.0, 180.0):
        moved = mover.move(0, 0, stay=True, angle=angle)
        assert moved.mask.sum() == mask.sum()
        # Interpolation may decide otherwise on a corner's pixel.
        wrong = (moved.mask != (moved.image > 125)).sum()
        assert wrong <= (4 if angle % 90 == 0 else 16)
    tall = mover.move(0, 0, stay=True, angle=90.0).mask
    assert (tall.any(1).sum(), tall.any(0).sum()) == (24, 4)


@pytest.mark.parametrize("angle", [90.0, 137.0])
def test_a_mask_beside_its_target_stays_on_its_side(angle: float) -> None:
    image = np.full((64, 64), 40, np.uint8)
    shown = np.zeros((64, 64), bool)
    shown[28:34, 28:36] = True
    image[shown] = 220
    mask = np.roll(shown, (-1, -1), (0, 1))
    moved = Mover(image, mask, find_targets(mask)).move(0, 0, stay=True, angle=angle)
    offset = measure_offsets(moved.image, moved.mask)[0]
    np.testing.assert_allclose(offset, (-1, -1), atol=0.4)


@pytest.mark.parametrize("shape", [(20, 20), (16, 300)])
def test_where_no_place_is_free_the_target_stays(shape: tuple[int, int]) -> None:
    mask = np.zeros(shape, bool)
    mask[6:14, :] = True
    image = np.where(mask, 200, 20).astype(np.uint8)
    moved = Mover(image, mask, find_targets(mask)).move(0, 0)
    assert moved.shift == (0, 0)
    np.testing.assert_array_equal(moved.mask, mask)


@pytest.mark.parametrize("place", [(0, 0), (0, 31), (47, 63), (24, 63)])
def test_targets_on_the_border_are_moved_whole_as_far_as_they_show(place: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(60, 2, (48, 64)).round().astype(np.uint8)
    mask = np.zeros((48, 64), bool)
    mask[max(place[0] - 1, 0) : place[0] + 2, max(place[1] - 1, 0) : place[1] + 2] = True
    image[mask] = 180
    for angle in (0.0, 50.0):
        moved = Mover(image, mask, find_targets(mask)).move(0, 4, angle=angle)
        assert moved.mask.sum() == mask.sum()
        assert moved.image[moved.mask].mean() > 120
        assert moved.image[mask & ~moved.mask].mean() < 80


def test_no_such_target_is_an_error() -> None:
    image, mask, targets = simulated(0)
    with pytest.raises(RecipeError, match="no target 9"):
        Move().apply(Scene(image, mask, targets=targets), {"target": 9, "draw": 0})


def test_real_targets_keep_their_area_under_any_angle() -> None:
    dataset = open_dataset(real_data("NUDT-SIRST"))
    before = after = 0
    for number, id_ in enumerate(dataset.ids("train")[:60]):
        image, mask = dataset.read_pair(id_)
        targets = find_targets(mask)
        mover = Mover(image, mask, targets)
        for target in targets:
            moved = mover.move(target.index, number, stay=True, angle=7.0 * number)
            before, after = before + mask.sum(), after + moved.mask.sum()
            moved = mover.move(target.index, number)
            assert moved.mask.sum() == mask.sum()
            assert len(find_targets(moved.mask)) == len(targets)
    assert after == pytest.approx(before, rel=0.02)


@given(st.integers(0, 10_000), st.sampled_from([8, 12]), st.sampled_from([0.0, 30.0]))
@settings(max_examples=30, deadline=None)
def test_a_copy_is_one_more_target_and_changes_its_place_alone(
    seed: int, bits: int, angle: float
) -> None:
    image, mask, targets = simulated(seed, bits=bits)
    mover = Mover(image, mask, targets)
    before = image.copy(), mask.copy()
    for target in targets:
        made = mover.copy(target.index, seed, (image, mask), angle=angle)
        assert made.image.dtype == image.dtype
        assert (made.mask & mask).sum() == mask.sum()
        if made is None:
            continue
        # Near the border it shows in part.
        assert len(find_targets(made.mask)) == len(targets) + 1
        assert 0 < (made.mask & ~mask).sum() <= target.area
        changed = np.argwhere(made.image != image) - (target.row, target.col) - made.shift
        assert np.abs(changed).max() <= 2 * max(np.ptp(np.argwhere(mask), 0)) + 30
        again = mover.copy(target.index, seed, (image, mask), angle=angle)
        assert (again.image == made.image).all()
    assert (image == before[0]).all()
    assert (mask == before[1]).all()


def test_copies_keep_clear_of_each_other_and_have_the_contrast_of_their_target() -> None:
    image, mask, targets = simulated(5, (160, 160), targets=(1, 1))
    mover = Mover(image, mask, targets)
    found, label = image, mask
    for draw in range(4):
        made = mover.copy(0, draw, (found, label))
        found, label = made.image, made.mask
    assert len(find_targets(label)) == 5
    rise = float(found[label & ~mask].mean()) - float(image[label & ~mask].mean())
    around = float(np.median(image[cv2.dilate(mask.view(np.uint8), np.ones((9, 9))) - mask > 0]))
    assert rise == pytest.approx(float(image[mask].mean()) - around, rel=0.2)
