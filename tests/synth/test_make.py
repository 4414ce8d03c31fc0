"""Outputs of recipes: steps change pixels in their order, as the plain functions do."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from turned_patches import turn_patch

from synth.errors import NoiseError, RecipeError
from synth.noise.bank import make_bank
from synth.noise.transfer import mixup
from synth.recipe import Recipe, Sample, remake
from synth.scene import Scene
from synth.steps import Choose, Distract, Mixup, Move, Step, Supply, Transplant, Turn
from synth.steps.blend import BLENDS, Blend
from synth.targets import find_targets, measure_offsets, target_box

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (40, 50)).astype(np.uint8)
MASK = np.zeros((40, 50), bool)
MASK[3:6, 40:42] = MASK[20:22, 7:9] = True
TARGETS = find_targets(MASK)
BANK = make_bank(RNG.integers(0, 256, (3, 8, 8)).astype(np.uint8))


def turn(target: int = 1, turns: int = 3, mirror: bool = True, **more: Any) -> tuple[str, Any]:
    choice = {"target": target, "side": 9, "quarter_turns": turns, "mirror": mirror}
    return "turn", choice | {"blend": "paste"} | more


def mix(patch: int = 2, ratio: float = 0.3, **more: Any) -> tuple[str, Any]:
    return "mixup", {"patch": patch, "ratio": ratio, **more}


def make(*steps: tuple[str, Any], image: np.ndarray = IMAGE, mask: np.ndarray = MASK) -> Sample:
    return remake(Scene(image, mask, "s"), steps, Supply(bank=BANK))


@given(st.integers(0, 2), st.floats(0, 1), st.integers(0, 1), st.integers(0, 3), st.booleans())
@settings(max_examples=40, deadline=None)
def test_noise_before_the_turn_is_turned_with_it(
    patch: int, ratio: float, target: int, turns: int, mirror: bool
) -> None:
    made = make(mix(patch, ratio), turn(target, turns, mirror))
    box = target_box(TARGETS[target], 9, IMAGE.shape)
    wanted = turn_patch(mixup(IMAGE, BANK.patches[patch], ratio), MASK, box, turns, mirror)
    np.testing.assert_array_equal(made.image, wanted[0])
    np.testing.assert_array_equal(made.mask, wanted[1])


def test_noise_after_the_turn_is_not() -> None:
    made = make(turn(), mix())
    box = target_box(TARGETS[1], 9, IMAGE.shape)
    wanted = mixup(turn_patch(IMAGE, MASK, box, 3, True)[0], BANK.patches[2], 0.3)
    np.testing.assert_array_equal(made.image, wanted)
    assert (made.image != make(mix(), turn()).image).any()


def test_pixels_outside_the_box_are_those_of_the_mix() -> None:
    made = make(mix(), turn())
    top, left, bottom, right = target_box(TARGETS[1], 9, IMAGE.shape)
    outside = np.ones(IMAGE.shape, bool)
    outside[top:bottom, left:right] = False
    mixed = mixup(IMAGE, BANK.patches[2], 0.3)
    np.testing.assert_array_equal(made.image[outside], mixed[outside])
    np.testing.assert_array_equal(made.mask[outside], MASK[outside])
    assert (made.image != mixed).any()


def test_a_turn_alone_moves_pixels_and_makes_none() -> None:
    made = make(turn())
    np.testing.assert_array_equal(np.sort(made.image, axis=None), np.sort(IMAGE, axis=None))
    assert made.mask.sum() == MASK.sum()


def test_noise_alone_leaves_the_mask() -> None:
    made = make(mix())
    np.testing.assert_array_equal(made.image, mixup(IMAGE, BANK.patches[2], 0.3))
    np.testing.assert_array_equal(made.mask, MASK)


def test_no_step_is_the_source() -> None:
    made = make()
    np.testing.assert_array_equal(made.image, IMAGE)
    np.testing.assert_array_equal(made.mask, MASK)


def test_16_bit_needs_noise_of_its_depth_or_a_gain() -> None:
    deep = IMAGE.astype(np.uint16) * 257
    with pytest.raises(NoiseError, match="gain"):
        make(mix(), image=deep)
    assert make(mix(gain=257.0), image=deep).image.dtype == np.uint16


@pytest.mark.parametrize("patch", [-1, 3])
def test_a_patch_that_is_not_in_the_bank_is_told(patch: int) -> None:
    with pytest.raises(NoiseError, match=f"noise patch {patch}"):
        make(mix(patch))


def test_noise_without_a_bank_is_told() -> None:
    with pytest.raises(RecipeError, match="mixup: needs a noise bank"):
        remake(Scene(IMAGE, MASK), [mix()])


@pytest.mark.parametrize("target", [-1, 2])
def test_a_target_that_is_not_in_the_mask_is_told(target: int) -> None:
    with pytest.raises(RecipeError, match=f"source s has no target {target}"):
        make(turn(target))


@pytest.mark.parametrize("blend", BLENDS)
@pytest.mark.parametrize("mirror", [False, True])
def test_a_mask_beside_its_target_stays_on_its_side(mirror: bool, blend: Blend) -> None:
    rows, cols = np.mgrid[:60, :60]
    shown = np.exp(-((rows - 30.5) ** 2 + (cols - 28.5) ** 2) / 6)
    image = np.rint(40 + 150 * shown).astype(np.uint8)
    mask = np.hypot(rows - 30, cols - 28) < 2.9
    np.testing.assert_allclose(measure_offsets(image, mask), [[-0.5, -0.5]], atol=0.1)
    for turns in range(4):
        how = {"side": 25, "blend": blend}
        kept = make(turn(0, turns, mirror, keep_offset=True, **how), image=image, mask=mask)
        assert kept.mask.sum() == mask.sum()
        np.testing.assert_allclose(measure_offsets(kept.image, kept.mask), [[-0.5, -0.5]], atol=0.1)
        plain = make(turn(0, turns, mirror, **how), image=image, mask=mask)
        away = measure_offsets(kept.image, plain.mask)
        same = turns == (1 if mirror else 0)
        assert (np.abs(away + 0.5).max() < 0.1) == same


def test_a_mask_that_its_box_cuts_is_only_turned() -> None:
    made = make(turn(0, 2, False, side=2, keep_offset=True))
    np.testing.assert_array_equal(made.mask, make(turn(0, 2, False, side=2)).mask)


STEPS = (Mixup(BANK, ratio=(0.1, 0.5)), Move(scr=(2, 6), angle=30.0), Distract(count=(1, 3)))


def test_a_recipe_on_arrays_depends_on_its_generator_alone() -> None:
    recipe = Recipe(STEPS)
    first, again = (recipe(IMAGE, MASK, rng=np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(first.image, again.image)
    assert first.record == again.record
    other = recipe(IMAGE, MASK, rng=np.random.default_rng(8))
    assert (first.image != other.image).any()
    # A generator that goes on gives another output every time.
    rng = np.random.default_rng(7)
    assert (recipe(IMAGE, MASK, rng).image != recipe(IMAGE, MASK, rng).image).any()


def test_an_output_is_made_again_from_its_record() -> None:
    for seed in range(5):
        made = Recipe(STEPS)(IMAGE, MASK, rng=np.random.default_rng(seed))
        again = make(*made.steps)
        np.testing.assert_array_equal(made.image, again.image)
        np.testing.assert_array_equal(made.mask, again.mask)


def test_arrays_that_are_given_are_never_written_to() -> None:
    image, mask = IMAGE.copy(), MASK.copy()
    Recipe([*STEPS, Turn(side=9)])(image, mask, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(image, IMAGE)
    np.testing.assert_array_equal(mask, MASK)


def test_an_image_without_targets_passes_what_works_on_targets() -> None:
    made = Recipe([Move(), Turn(side=9)])(IMAGE, np.zeros_like(MASK), np.random.default_rng(0))
    assert made.record == {"steps": [], "facts": {}}
    np.testing.assert_array_equal(made.image, IMAGE)


@pytest.mark.parametrize(
    ("image", "mask", "error", "words"),
    [
        (IMAGE / 255, MASK, TypeError, "uint8"),
        (IMAGE, MASK.astype(np.uint8) * 255, TypeError, "bool"),
        (IMAGE, MASK[:-1], ValueError, "shape"),
    ],
)
def test_other_arrays_are_refused(image: Any, mask: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        Recipe(STEPS)(image, mask)


def test_a_scene_gives_what_its_arrays_give_however_often() -> None:
    recipe, scene = Recipe([*STEPS, Turn(side=9, keep_offset=True)]), Scene(IMAGE, MASK)
    for seed in (3, 4, 3):
        made, wanted = (
            recipe(*given, rng=np.random.default_rng(seed)) for given in ((scene,), (IMAGE, MASK))
        )
        np.testing.assert_array_equal(made.image, wanted.image)
        np.testing.assert_array_equal(made.mask, wanted.mask)
        made.mask[:], made.image[:] = True, 0


def test_choose_keeps_its_shares_where_a_step_draws_nothing() -> None:
    step = Choose([(0.5, Distract(count=(0, 1))), (0.5, Turn(side=9))])
    recipe, rng = Recipe([step]), np.random.default_rng(0)
    made = [dict(recipe(IMAGE, MASK, rng).steps) for _ in range(600)]
    assert np.mean(["turn" in one for one in made]) == pytest.approx(0.5, abs=0.06)
    assert np.mean([not one for one in made]) == pytest.approx(0.25, abs=0.05)


def test_each_of_several_turns_keeps_to_its_own() -> None:
    step = Choose([(0.5, Turn(side=9)), (0.5, Turn(side=9, turns=0, mirror=True))])
    scene, rng = Scene(IMAGE, MASK), np.random.default_rng(0)
    for variant in 20 * list(step.variants(scene)):
        found = step.resolve(scene, rng, variant)
        assert found is not None
        choice = found[1]
        assert choice["target"] == variant["target"]
        assert not choice["mirror"] or choice["quarter_turns"] == 0


def test_a_box_that_no_longer_fits_is_told_or_passed_over() -> None:
    small = RNG.integers(0, 256, (16, 16)).astype(np.uint8)
    put = Transplant([small], scr=(2, 5))
    with pytest.raises(RecipeError, match="a box of side 32 does not fit image"):
        Recipe([put, Turn(side=32)])(IMAGE, MASK, np.random.default_rng(0))
    either = Choose([(1, Turn(side=32)), (0, Move())])
    made = Recipe([put, either])(IMAGE, MASK, np.random.default_rng(0))
    assert [name for name, _ in made.steps] == ["transplant", "move"]


@pytest.mark.parametrize(
    "images",
    [[(IMAGE, MASK.astype(np.uint8))], [IMAGE / 255], [(IMAGE, MASK[:-1])], {"a": (IMAGE, None)}],
)
def test_hosts_are_frames_and_masks(images: Any) -> None:
    if isinstance(images, dict):
        assert Transplant(images).images.empty == ("a",)
        return
    with pytest.raises((TypeError, ValueError), match="host 0"):
        Transplant(images)


def test_recipes_travel_to_other_processes() -> None:
    recipe = Recipe([Transplant([(IMAGE, MASK), (IMAGE[::-1], MASK[::-1])])])
    again = pickle.loads(pickle.dumps(recipe))
    made, wanted = (one(IMAGE, MASK, np.random.default_rng(3)) for one in (again, recipe))
    np.testing.assert_array_equal(made.image, wanted.image)


def test_a_host_is_never_changed_through_a_sample() -> None:
    host = IMAGE.copy()
    sample = Recipe([Transplant([(host, np.ones_like(MASK))])])(IMAGE, MASK)
    sample.image[:], sample.mask[:] = 0, False
    np.testing.assert_array_equal(host, IMAGE)


@dataclass(frozen=True)
class Faulty(Step):
    name = "faulty"

    how: str = ""

    def apply(self, scene: Scene, choice: Any) -> Any:
        image, mask = scene.image, scene.mask
        return {
            "float": lambda: (scene.changed(image / 2), {}),
            "mask": lambda: (scene.changed(image, mask.view(np.uint8)), {}),
            "shape": lambda: (scene.changed(image[1:]), {}),
            "scene": lambda: scene,
            "error": lambda: 1 / 0,
        }[self.how]()


@pytest.mark.parametrize("how", ["float", "mask", "shape", "scene", "error"])
def test_a_faulty_step_is_named(how: str) -> None:
    with pytest.raises(RecipeError, match=r"^step faulty: "):
        Recipe([Faulty(how)])(IMAGE, MASK)


def test_scenes_do_not_remember_every_zoom() -> None:
    recipe, scene = Recipe([Move(zoom=(1, 4), angle=90.0)]), Scene(IMAGE, MASK)
    rng = np.random.default_rng(0)
    for _ in range(30):
        recipe(scene, rng=rng)
    assert len(scene._known) < 12


def test_what_is_no_step_is_refused() -> None:
    with pytest.raises(TypeError, match="made of steps"):
        Recipe([Turn])  # type: ignore[list-item]
