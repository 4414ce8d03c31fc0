"""Plans: the published counting rule with small numbers, and what tells outputs apart."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.errors import RecipeError
from synth.noise.bank import NoiseBank, join_banks, make_bank
from synth.noise.cameras import CameraNoise
from synth.noise.model import make_physical_model
from synth.recipe import Output, Plan, Recipe
from synth.scene import Outline, Scene
from synth.steps import Choose, Distract, Mixup, Move, Residual, Step, Turn
from synth.targets import Target


def source(id_: str, targets: int, shape: tuple[int, int] = (64, 64)) -> Outline:
    found = tuple(
        Target(index, 5 + index, 9, (5.0 + index, 9.0), 1, (5, 9, 6, 10))
        for index in range(targets)
    )
    return Outline(id_, shape, found)


def bank_of(patches: int) -> NoiseBank:
    return make_bank(np.arange(patches * 4, dtype=np.uint8).reshape(patches, 2, 2))


def outputs(
    steps: Iterable[Step], sources: Sequence[Outline], **how: Any
) -> list[tuple[str, Output]]:
    """Source and output, in the order of the ids' numbers."""
    plan = Plan(Recipe(steps), sources, **{"seed": 0, **how})
    found = [
        (output.draws.noise, one.id, output)
        for index, one in enumerate(sources)
        for output in plan.of(index)
    ]
    ordered = sorted(found, key=lambda one: one[0])
    assert [output.id for _, _, output in ordered] == list(plan.ids())
    assert len(plan) == len(ordered)
    return [(id_, output) for _, id_, output in ordered]


def combination(pair: tuple[str, Output]) -> tuple[str, int, int]:
    id_, output = pair
    return id_, output.variant["target"], output.variant["quarter_turns"]


def choices(steps: Sequence[Step], sources: Sequence[Outline], **how: Any) -> list[dict[str, Any]]:
    """What the steps chose for each output, on images that are all the same."""
    recipe, seed = Recipe(steps), how.get("seed", 0)
    known = {one.id: one for one in sources}
    found = []
    for id_, output in outputs(steps, sources, **how):
        image = np.zeros(known[id_].shape, np.uint8)
        scene = Scene(image, image > 0, id_, targets=known[id_].targets)
        chosen: dict[str, Any] = {"source": id_, "id": output.id}
        draws = output.draws
        for number, step in enumerate(recipe.steps):
            rng = np.random.default_rng(abs(hash((seed, output.id, number))))
            given = output.variant if number == recipe.enumerating else {}
            resolved = step.resolve(scene.drawn(draws), rng, given)
            if resolved is not None:
                chosen[resolved[0].name] = resolved[1]
        found.append(chosen)
    return found


counts = st.lists(st.integers(0, 3), min_size=1, max_size=4)
TURN = Turn()


@given(counts, st.integers(0, 60), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_every_turn_of_every_target_comes_first_then_repeats(
    targets: Sequence[int], more: int, seed: int
) -> None:
    sources = [source(f"{n:03d}", count) for n, count in enumerate(targets, start=1)]
    every = [(s.id, t.index, k) for s in sources for t in s.targets for k in range(4)]
    if not every:
        return
    steps = [Mixup(bank_of(70)), TURN]
    how: dict[str, Any] = {"seed": seed, "count": len(every) + more}
    how["taken_ids"] = [s.id for s in sources]
    found = outputs(steps, sources, **how)
    assert [combination(pair) for pair in found[: len(every)]] == every
    first = len(sources) + 1
    assert [one.id for _, one in found] == [f"{first + n:03d}" for n in range(len(every) + more)]
    # Repeats go round without replacement: no combination is two rounds ahead of another.
    repeats = Counter(map(combination, found))
    assert set(repeats) == set(every)
    assert max(repeats.values()) - min(repeats.values()) <= 1
    patches = defaultdict(list)
    for pair, chosen in zip(found, choices(steps, sources, **how), strict=True):
        patches[combination(pair)].append(chosen["mixup"]["patch"])
    assert all(len(set(used)) == len(used) for used in patches.values())


def test_without_a_count_each_turn_is_made_once() -> None:
    sources = [source("a", 2), source("b", 0), source("c", 1)]
    found = outputs([Turn(turns=(1, 3))], sources)
    assert [output.id for _, output in found] == [
        "a_k1_j0", "a_k3_j0", "a_k1_j1", "a_k3_j1", "c_k1_j0", "c_k3_j0",
    ]  # fmt: skip
    assert [combination(pair) for pair in found][2:4] == [("a", 1, 1), ("a", 1, 3)]


@given(st.integers(0, 24), st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_fewer_are_a_seeded_choice_in_order(count: int, seed: int) -> None:
    sources = [source("a", 3), source("b", 3)]
    every = [combination(pair) for pair in outputs([TURN], sources, seed=seed)]
    chosen = [combination(pair) for pair in outputs([TURN], sources, seed=seed, count=count)]
    assert len(chosen) == count
    assert chosen == [where for where in every if where in set(chosen)]


def test_fewer_are_not_always_the_same() -> None:
    sources = [source("a", 30)]
    plans = {
        tuple(map(combination, outputs([TURN], sources, count=5, seed=seed))) for seed in range(20)
    }
    assert len(plans) > 15


@given(st.integers(0, 2**32), st.integers(1, 40))
@settings(max_examples=25, deadline=None)
def test_equal_arguments_give_equal_plans(seed: int, count: int) -> None:
    steps = [Mixup(bank_of(9), ratio=(0.1, 0.5)), TURN]
    sources = [source("a", 2), source("b", 3)]
    first, again = (outputs(steps, sources, seed=seed, count=count) for _ in range(2))
    assert first == again


def test_another_seed_draws_other_noise() -> None:
    steps, sources = [Mixup(bank_of(60)), TURN], [source("a", 10)]
    first, other = (
        [one["mixup"]["patch"] for one in choices(steps, sources, seed=seed)] for seed in (0, 1)
    )
    assert first != other


CAMERAS = CameraNoise([make_physical_model(sigma=2.0)])


def noise_seeds(steps: Sequence[Step], sources: Sequence[Outline], **how: Any) -> list[int]:
    return [one["residual"]["seed"] for one in choices(steps, sources, **how)]


def test_builds_share_a_realisation_of_noise_only_where_they_are_the_same_build() -> None:
    noise, sources = Residual(CAMERAS), [source("a", 2), source("b", 3)]
    builds: dict[str, tuple[Sequence[Step], Sequence[Outline], dict[str, Any]]] = {
        "first": ([TURN, noise], sources, {}),
        "another seed": ([TURN, noise], sources, {"seed": 1}),
        "another recipe": ([Turn(side=16), noise], sources, {}),
        "another strength": ([TURN, Residual(CAMERAS, strength=2.0)], sources, {}),
        "another name": ([TURN, noise], [source("a", 2), source("c", 3)], {}),
        "another size": ([TURN, noise], [source("a", 2), source("b", 3, (64, 80))], {}),
        "other targets": ([TURN, noise], [source("a", 2), source("b", 2)], {}),
        "noise alone": ([noise], sources, {"keep_ids": True}),
        "other images": ([noise], [*sources, source("c", 1)], {"keep_ids": True}),
    }
    seeds = {name: noise_seeds(steps, of, **how) for name, (steps, of, how) in builds.items()}
    assert noise_seeds([TURN, noise], sources) == seeds["first"]
    every = [seed for found in seeds.values() for seed in found]
    assert len(set(every)) == len(every) > 100


def test_two_steps_with_noise_add_different_noise() -> None:
    image = np.full((64, 64), 100, np.uint8)
    recipe = Recipe([Residual(CAMERAS), Residual(CAMERAS)])
    plan = Plan(recipe, [Outline("a", (64, 64), ())], seed=0)
    (output,) = plan.of(0)
    sample = recipe.make(Scene(image, image > 200, "a"), output, 0)
    first, second = (choice["seed"] for _, choice in sample.steps)
    assert first != second
    # What turned out twice is there twice.
    assert len(sample.facts) == 2


def test_repeats_have_names_of_their_own_where_ids_are_no_numbers() -> None:
    steps = [Mixup(bank_of(9)), Turn(turns=(0,))]
    found = outputs(steps, [source("Misc_1", 2)], count=5, taken_ids=["Misc_1"])
    ids = [output.id for _, output in found]
    assert ids[:4] == ["Misc_1_k0_j0", "Misc_1_k0_j1", "Misc_1_k0_j0_r1", "Misc_1_k0_j1_r1"]
    assert ids[4] in ("Misc_1_k0_j0_r2", "Misc_1_k0_j1_r2")


@pytest.mark.parametrize(
    ("taken", "first"),
    [
        (["000001", "001327"], "001328"),
        (["7"], "8"),
        (["99", "10"], "100"),
        (["01", "002"], "01_k0_j0"),
        (["01", "x2"], "01_k0_j0"),
        (["٣٣", "٤٤"], "01_k0_j0"),
    ],
)
def test_numbers_of_one_width_are_continued(taken: list[str], first: str) -> None:
    found = outputs([TURN], [source("01", 1)], taken_ids=taken)
    assert found[0][1].id == first
    assert len({output.id for _, output in found}) == 4


def test_an_id_that_is_taken_is_refused() -> None:
    with pytest.raises(RecipeError, match="'a_k0_j0' already"):
        outputs([TURN], [source("a", 1)], taken_ids=["a", "a_k0_j0"])


def test_a_box_larger_than_an_image_is_refused_by_its_id() -> None:
    sources = [source("fits", 1), source("small", 1, (31, 90))]
    with pytest.raises(RecipeError, match="side 32 is larger than image 'small'"):
        outputs([TURN], sources)
    without = [source("fits", 1), source("small", 0, (31, 90))]
    assert len(outputs([TURN], without)) == 4


def test_a_set_without_targets_is_refused_unless_nothing_is_asked() -> None:
    with pytest.raises(RecipeError, match="no training image has a target"):
        outputs([TURN], [source("a", 0)], count=3)
    assert outputs([TURN], [source("a", 0)], count=0) == []


def test_more_repeats_than_patches_are_refused() -> None:
    sources = [source("a", 1)]
    assert len(outputs([Mixup(bank_of(3)), TURN], sources, count=12)) == 12
    with pytest.raises(RecipeError, match="noise bank holds 3 patches"):
        outputs([Mixup(bank_of(3)), TURN], sources, count=13)


@pytest.mark.parametrize(
    "steps",
    [
        [TURN],
        [TURN, Distract(count=(0, 2))],
        [Choose(((0.5, Move()), (0.5, TURN)))],
        [Choose(((0.5, Move()),))],
    ],
)
def test_repeats_that_nothing_tells_apart_are_refused(steps: list[Step]) -> None:
    with pytest.raises(RecipeError, match="tells repeats apart"):
        outputs(steps, [source("a", 1)], count=5)
    assert len(outputs([*steps, Distract(count=(1, 2))], [source("a", 1)], count=5)) == 5


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_repeats_use_every_patch_before_one_comes_again(sizes: list[int], seed: int) -> None:
    bank = join_banks([bank_of(size) for size in sizes])
    repeats = len(bank)
    found = choices([Mixup(bank), Turn(turns=0)], [source("a", 1)], count=repeats, seed=seed)
    assert sorted(one["mixup"]["patch"] for one in found) == list(range(repeats))


def test_kinds_of_noise_have_the_same_say() -> None:
    # One camera has fifty times the patches of the other, and gets half of the outputs.
    bank = join_banks([bank_of(2), make_bank(np.zeros((100, 2, 2), np.uint8))])
    sources = [source(str(n), 0) for n in range(2000)]
    found = choices([Mixup(bank)], sources, keep_ids=True)
    share = sum(one["mixup"]["patch"] < 2 for one in found) / len(found)
    assert abs(share - 0.5) < 0.05


def test_ratios_and_patches_are_drawn_uniformly() -> None:
    ratios = (0.1, 0.2, 0.3, 0.4, 0.5)
    sources = [source(str(n), 0) for n in range(5000)]
    found = [one["mixup"] for one in choices([Mixup(bank_of(10), ratio=ratios)], sources)]
    by_ratio = Counter(one["ratio"] for one in found)
    assert set(by_ratio) == set(ratios)
    # 1,000 expected, standard deviation 28.
    assert all(abs(count - 1000) < 140 for count in by_ratio.values())
    # 500 expected, standard deviation 21.
    by_patch = Counter(one["patch"] for one in found)
    assert all(abs(by_patch[patch] - 500) < 106 for patch in range(10))


def test_outputs_may_keep_the_ids_of_their_sources() -> None:
    sources = [source("b", 1), source("a", 0), source("c", 2)]
    found = outputs([Mixup(bank_of(50))], sources, keep_ids=True)
    assert [(id_, output.id) for id_, output in found] == [(one, one) for one in "bac"]


def test_shares_of_steps_are_kept_and_all_targets_have_their_turn() -> None:
    sources = [source(f"{n:03d}", 3) for n in range(1, 260)]
    step = Choose(
        ((0.3, Move(scr=(2, 9))), (0.35, Move(stay=True, angle=180.0)), (0.35, Turn(side=9)))
    )
    found = choices([step], sources)
    assert len(found) == 259 * 3 * 4
    moves = [one["move"] for one in found if "move" in one]
    alone = [one for one in moves if one.get("stay")]
    assert len(moves) - len(alone) == pytest.approx(0.3 * len(found), rel=0.1)
    assert len(alone) == pytest.approx(0.35 * len(found), rel=0.1)
    angles = np.array([one["angle"] for one in alone])
    assert np.histogram(angles, np.linspace(-180, 180, 7))[0].min() > 0.6 * len(angles) / 6
    assert all(2 <= one["scr"] <= 9 for one in moves if not one.get("stay"))
    drawn = Counter((one["source"], one.get("move", one.get("turn"))["target"]) for one in found)
    assert set(drawn.values()) == {4}


def test_noise_has_its_share_and_repeats_of_a_turn_always_have_some() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
    mask = np.zeros((64, 64), bool)
    mask[9, 9] = mask[40, 30] = True
    scene = Scene(image, mask, "a")
    bank = make_bank(np.random.default_rng(0).integers(0, 256, (900, 8, 8)).astype(np.uint8))
    noise = Mixup(bank, share=0.25)

    def made(step: Step) -> list[dict[str, Any]]:
        recipe = Recipe([step, noise])
        plan = Plan(recipe, [Outline("a", (64, 64), tuple(scene.targets))], seed=0, count=800)
        return [dict(recipe.make(scene, output, 0).steps) for output in plan.of(0)]

    quiet = [tuple(one["turn"].items()) for one in made(Turn(side=9)) if "mixup" not in one]
    assert 0 < len(quiet) == len(set(quiet)) < 9
    noisy = ["mixup" in one for one in made(Move())]
    assert np.mean(noisy) == pytest.approx(0.25, abs=0.05)


def test_variants_are_those_of_the_first_step_that_has_some() -> None:
    assert Recipe([Mixup(), Distract(), TURN]).enumerating == 2
    assert Recipe([Move(), TURN]).enumerating == 0
    assert Recipe([Mixup()]).enumerating is None
    # Where nothing is enumerated every source is a variant of its own.
    assert len(outputs([Distract(count=1)], [source("a", 0), source("b", 2)])) == 2


class Careless(Step):
    """A step that writes into what it is given."""

    name = "careless"

    def apply(self, scene: Scene, choice: dict[str, Any]) -> tuple[Scene, dict[str, Any]]:
        scene.image[0, 0] = 0
        return scene, {}


def test_a_step_cannot_change_what_later_outputs_are_made_of() -> None:
    image, mask = np.full((32, 32), 90, np.uint8), np.zeros((32, 32), np.bool_)
    with pytest.raises(RecipeError, match=r"step careless: ValueError: .* read-only"):
        Recipe([Careless()])(image, mask, rng=0)
    assert (image == 90).all()
    assert image.flags.writeable
    sample = Recipe([])(image, mask, rng=0)
    sample.image[:], sample.mask[:] = 1, True  # the caller's own
    assert (image == 90).all()
    assert not mask.any()
