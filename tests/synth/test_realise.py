"""Outputs: noise first, then the turn, as the plain functions give them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synth.blend import BLENDS, Blend
from synth.negatives import turn_patch
from synth.realise import realise

from synth.errors import NoiseError, RecipeError
from synth.noise.bank import make_bank
from synth.noise.transfer import mixup
from synth.recipe import NoiseChoice, Spec, TurnChoice
from synth.targets import find_targets, measure_offsets, target_box

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (40, 50)).astype(np.uint8)
MASK = np.zeros((40, 50), bool)
MASK[3:6, 40:42] = MASK[20:22, 7:9] = True
TARGETS = find_targets(MASK)
BANK = make_bank(RNG.integers(0, 256, (3, 8, 8)).astype(np.uint8))
BOTH = Spec("o", "s", NoiseChoice(2, 0.3), TurnChoice(1, 9, 3, True))


@given(st.integers(0, 2), st.floats(0, 1), st.integers(0, 1), st.integers(0, 3), st.booleans())
@settings(max_examples=40, deadline=None)
def test_noise_comes_before_the_turn(
    patch: int, ratio: float, target: int, turns: int, mirror: bool
) -> None:
    spec = Spec("o", "s", NoiseChoice(patch, ratio), TurnChoice(target, 9, turns, mirror))
    image, mask = realise(spec, IMAGE, MASK, TARGETS, BANK)
    box = target_box(TARGETS[target], 9, IMAGE.shape)
    wanted = turn_patch(mixup(IMAGE, BANK.patches[patch], ratio), MASK, box, turns, mirror)
    np.testing.assert_array_equal(image, wanted[0])
    np.testing.assert_array_equal(mask, wanted[1])


def test_pixels_outside_the_box_are_those_of_the_mix() -> None:
    image, mask = realise(BOTH, IMAGE, MASK, TARGETS, BANK)
    top, left, bottom, right = target_box(TARGETS[1], 9, IMAGE.shape)
    outside = np.ones(IMAGE.shape, bool)
    outside[top:bottom, left:right] = False
    mixed = mixup(IMAGE, BANK.patches[2], 0.3)
    np.testing.assert_array_equal(image[outside], mixed[outside])
    np.testing.assert_array_equal(mask[outside], MASK[outside])
    assert (image != mixed).any()


def test_a_turn_alone_moves_pixels_and_makes_none() -> None:
    image, mask = realise(replace(BOTH, noise=None), IMAGE, MASK, TARGETS)
    np.testing.assert_array_equal(np.sort(image, axis=None), np.sort(IMAGE, axis=None))
    assert mask.sum() == MASK.sum()


def test_noise_alone_leaves_the_mask() -> None:
    image, mask = realise(replace(BOTH, turn=None), IMAGE, MASK, (), BANK)
    np.testing.assert_array_equal(image, mixup(IMAGE, BANK.patches[2], 0.3))
    np.testing.assert_array_equal(mask, MASK)


def test_no_choice_is_the_source() -> None:
    image, mask = realise(Spec("o", "s"), IMAGE, MASK, ())
    np.testing.assert_array_equal(image, IMAGE)
    np.testing.assert_array_equal(mask, MASK)


def test_16_bit_needs_noise_of_its_depth_or_a_gain() -> None:
    deep = IMAGE.astype(np.uint16) * 257
    with pytest.raises(NoiseError, match="gain"):
        realise(BOTH, deep, MASK, TARGETS, BANK)
    assert realise(BOTH, deep, MASK, TARGETS, BANK, gain=257.0)[0].dtype == np.uint16


@pytest.mark.parametrize("patch", [-1, 3])
def test_a_patch_that_is_not_in_the_bank_is_told(patch: int) -> None:
    with pytest.raises(NoiseError, match=f"output o: noise patch {patch}"):
        realise(replace(BOTH, noise=NoiseChoice(patch, 0.1)), IMAGE, MASK, TARGETS, BANK)


def test_noise_without_a_bank_is_told() -> None:
    with pytest.raises(NoiseError, match="not in the bank"):
        realise(BOTH, IMAGE, MASK, TARGETS)


@pytest.mark.parametrize("target", [-1, 2])
def test_a_target_that_is_not_in_the_mask_is_told(target: int) -> None:
    spec = replace(BOTH, turn=TurnChoice(target, 9, 1, False))
    with pytest.raises(RecipeError, match=f"source s has no target {target}"):
        realise(spec, IMAGE, MASK, TARGETS, BANK)


@pytest.mark.parametrize("blend", BLENDS)
@pytest.mark.parametrize("mirror", [False, True])
def test_a_mask_beside_its_target_stays_on_its_side(mirror: bool, blend: Blend) -> None:
    rows, cols = np.mgrid[:60, :60]
    shown = np.exp(-((rows - 30.5) ** 2 + (cols - 28.5) ** 2) / 6)
    image = np.rint(40 + 150 * shown).astype(np.uint8)
    mask = np.hypot(rows - 30, cols - 28) < 2.9
    targets = find_targets(mask)
    np.testing.assert_allclose(measure_offsets(image, mask), [[-0.5, -0.5]], atol=0.1)
    for turns in range(4):
        spec = Spec("o", "s", None, TurnChoice(0, 25, turns, mirror, blend, True))
        made, kept = realise(spec, image, mask, targets)
        assert kept.sum() == mask.sum()
        np.testing.assert_allclose(measure_offsets(made, kept), [[-0.5, -0.5]], atol=0.1)
        plain = replace(spec, turn=TurnChoice(0, 25, turns, mirror, blend))
        away = measure_offsets(made, realise(plain, image, mask, targets)[1])
        same = turns == (1 if mirror else 0)
        assert (np.abs(away + 0.5).max() < 0.1) == same


def test_a_mask_that_its_box_cuts_is_only_turned() -> None:
    spec = Spec("o", "s", None, TurnChoice(0, 2, 2, False, "paste", True))
    plain = replace(spec, turn=TurnChoice(0, 2, 2, False))
    for made in (spec, plain):
        np.testing.assert_array_equal(
            realise(made, IMAGE, MASK, TARGETS)[1], realise(plain, IMAGE, MASK, TARGETS)[1]
        )
