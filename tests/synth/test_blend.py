"""Blended patches: no step at the border, the grain kept inside, masks that fit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from synth.scene import Outline, Scene
from synth.simulate.scenes import SCENE_KINDS, make_sensor, simulate_frame
from synth.steps.blend import BLENDS, Blend, blend_mask, blend_patch
from synth.steps.turn import Turn, fit_side
from synth.targets import find_targets, target_box

PATCHES = st.tuples(st.integers(1, 24), st.integers(1, 24)).flatmap(
    lambda shape: st.tuples(arrays(np.uint16, shape), arrays(np.uint16, shape))
)


@given(PATCHES, st.sampled_from(BLENDS))
@settings(max_examples=60, deadline=None)
def test_size_depth_and_range_stay(pair: tuple[np.ndarray, np.ndarray], blend: Blend) -> None:
    before, after = pair
    blended = blend_patch(before, after, blend)
    assert (blended.shape, blended.dtype) == (before.shape, before.dtype)
    assert blended.min() >= min(before.min(), after.min())
    assert blended.max() <= max(before.max(), after.max())
    assert blended is not before
    assert blended is not after


@pytest.mark.parametrize("blend", BLENDS)
def test_what_was_not_changed_stays(blend: Blend) -> None:
    patch = np.random.default_rng(0).integers(0, 4096, (17, 23)).astype(np.uint16)
    np.testing.assert_array_equal(blend_patch(patch, patch, blend), patch)
    mask = patch > 3000
    np.testing.assert_array_equal(blend_mask(mask, mask, blend), mask)


def test_poisson_keeps_the_border_and_takes_differences_there_off_the_middle() -> None:
    rng = np.random.default_rng(1)
    before = rng.integers(9000, 12000, (41, 35)).astype(np.uint16)
    after = rng.integers(9000, 12000, (41, 35)).astype(np.uint16)
    # A ramp that spans its own border is all that the membrane takes off.
    ramp = (20 * np.arange(35) + 11 * np.arange(41)[:, None]).astype(np.uint16)
    smooth = np.full((41, 35), 10500, np.uint16)
    blended = blend_patch(smooth, smooth + ramp, "poisson", 8.0)
    assert np.abs(blended.astype(int) - smooth).max() <= 1
    free = blend_patch(before, after, "poisson", 8.0).astype(float)
    assert np.abs(free - before)[[0, -1]].max() < 2
    grain = (free - after)[10:-10, 10:-10]
    # In the middle the changed patch is there but for something smooth.
    assert np.abs(np.diff(grain, axis=0)).max() < 0.2 * np.abs(np.diff(after.astype(int))).mean()


def test_feather_takes_the_middle_whole_and_fades_to_the_border() -> None:
    before, after = np.full((25, 25), 100, np.uint8), np.full((25, 25), 200, np.uint8)
    for ramp, whole in ((None, 7), (3.0, 3), (12.0, 12)):
        row = blend_patch(before, after, "feather", ramp)[12].astype(int)
        assert (row[whole:-whole] == 200).all()
        assert row[0] < 130
        assert (np.diff(row[: whole + 1]) >= 0).all()
        np.testing.assert_array_equal(row, row[::-1])


@pytest.mark.parametrize("blend", ["feather", "poisson"])
def test_a_blended_box_leaves_no_step(blend: Blend) -> None:
    """Steps across the box's border, over those across the same lines of the source."""
    rng = np.random.default_rng(2)
    ratios: dict[str, list[float]] = {"paste": [], blend: []}
    for number in range(24):
        kind = SCENE_KINDS[number % len(SCENE_KINDS)]
        frame = simulate_frame(kind, make_sensor((96, 96), rng), rng, targets=(1, 1))
        targets = find_targets(frame.mask)
        scene = Scene(frame.image, frame.mask)
        for way, found in ratios.items():
            step = Turn("auto", 2, blend=way)  # type: ignore[arg-type]
            choice = step.choose(scene, rng, target=0)
            assert choice is not None
            made, _ = step.apply(scene, choice)
            box = target_box(targets[0], choice["side"], frame.mask.shape)
            found.append(_step(made.image, box) / _step(frame.image, box))
    assert np.median(ratios["paste"]) > 1.2
    assert np.median(ratios[blend]) < 1.08


def _step(image: np.ndarray, box: tuple[int, int, int, int]) -> float:
    """Mean difference between the pixels on either side of a box's border."""
    top, left, bottom, right = box
    values = image.astype(float)
    steps = []
    for row, beyond in ((top, top - 1), (bottom - 1, bottom)):
        if 0 <= beyond < image.shape[0]:
            steps.append(np.abs(values[row, left:right] - values[beyond, left:right]))
    for col, beyond in ((left, left - 1), (right - 1, right)):
        if 0 <= beyond < image.shape[1]:
            steps.append(np.abs(values[top:bottom, col] - values[top:bottom, beyond]))
    return float(np.concatenate(steps).mean())


@given(st.integers(0, 10_000), st.sampled_from(BLENDS), st.booleans())
@settings(max_examples=25, deadline=None)
def test_count_and_area_of_targets_stay_where_boxes_are_fitted(
    seed: int, blend: Blend, mirror: bool
) -> None:
    rng = np.random.default_rng(seed)
    frame = simulate_frame("clear", make_sensor((80, 90), rng), rng, targets=(1, 2))
    targets = find_targets(frame.mask)
    scene = Scene(frame.image, frame.mask)
    step = Turn("auto", mirror=mirror, blend=blend)
    for variant in step.variants(scene):
        choice = step.choose(scene, rng, **variant)
        assert choice is not None
        mask = step.apply(scene, choice)[0].mask
        top, left, bottom, right = target_box(
            targets[choice["target"]], choice["side"], frame.mask.shape
        )
        ring = frame.mask[top:bottom, left:right].copy()
        ring[2:-2, 2:-2] = False
        if not ring.any():
            assert len(find_targets(mask)) == len(targets)
            assert mask.sum() == frame.mask.sum()


def test_fitted_boxes_are_odd_hold_their_target_and_leave_the_others_out() -> None:
    mask = np.zeros((120, 90), bool)
    mask[40:45, 30:39] = mask[52:54, 33:36] = mask[100:103, 60:63] = mask[0, 0] = True
    targets = find_targets(mask)
    source = Outline("a", mask.shape, tuple(targets))
    sides = [fit_side(target, source) for target in targets]
    assert sides == [21, 17, 15, 23]
    for target, side in zip(targets[1:], sides[1:], strict=True):
        top, left, bottom, right = target_box(target, side, mask.shape)
        assert mask[top:bottom, left:right].sum() == target.area


def test_a_fitted_box_is_no_larger_than_its_image() -> None:
    mask = np.ones((12, 9), bool)
    (target,) = find_targets(mask)
    assert fit_side(target, Outline("a", mask.shape, (target,))) == 9
    small = np.ones((6, 8), bool)
    (target,) = find_targets(small)
    assert fit_side(target, Outline("a", small.shape, (target,))) == 5
