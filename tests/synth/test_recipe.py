"""Plans: the published counting rule with small numbers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synth.blend import BLENDS

from synth.errors import RecipeError
from synth.noise.bank import NoiseBank, join_banks, make_bank
from synth.recipe import (
    LabelledSource,
    NoiseChoice,
    NoiseRule,
    Recipe,
    Spec,
    TurnChoice,
    plan_negatives,
    plan_transfer,
)
from synth.targets import Target

RULE = NoiseRule((0.1,))


def source(id_: str, targets: int, shape: tuple[int, int] = (64, 64)) -> LabelledSource:
    found = tuple(
        Target(index, 5 + index, 9, (5.0 + index, 9.0), 1, (5, 9, 6, 10))
        for index in range(targets)
    )
    return LabelledSource(id_, shape, found)


def bank_of(patches: int) -> NoiseBank:
    return make_bank(np.arange(patches * 4, dtype=np.uint8).reshape(patches, 2, 2))


def combination(spec: Spec) -> tuple[str, int, int]:
    assert spec.turn is not None
    return spec.source, spec.turn.target, spec.turn.quarter_turns


def patch_of(spec: Spec) -> int:
    assert spec.noise is not None
    return spec.noise.patch


counts = st.lists(st.integers(0, 3), min_size=1, max_size=4)


@given(counts, st.integers(0, 60), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_every_turn_of_every_target_comes_first_then_repeats(
    targets: Sequence[int], more: int, seed: int
) -> None:
    sources = [source(f"{n:03d}", count) for n, count in enumerate(targets, start=1)]
    every = [(s.id, t.index, k) for s in sources for t in s.targets for k in range(4)]
    if not every:
        return
    recipe = Recipe(count=len(every) + more, noise=RULE)
    specs = plan_negatives(
        recipe, sources, bank_of(70), seed=seed, taken_ids=[s.id for s in sources]
    )
    assert [combination(spec) for spec in specs[: len(every)]] == every
    first = len(sources) + 1
    assert [spec.id for spec in specs] == [f"{first + n:03d}" for n in range(len(every) + more)]
    # Repeats go round without replacement: no combination is two rounds ahead of another.
    repeats = Counter(combination(spec) for spec in specs)
    assert set(repeats) == set(every)
    assert max(repeats.values()) - min(repeats.values()) <= 1
    patches = defaultdict(list)
    for spec in specs:
        patches[combination(spec)].append(patch_of(spec))
    assert all(len(set(used)) == len(used) for used in patches.values())


def test_without_a_count_each_turn_is_made_once() -> None:
    sources = [source("a", 2), source("b", 0), source("c", 1)]
    specs = plan_negatives(Recipe(turns=(1, 3)), sources, None, seed=0)
    assert [spec.id for spec in specs] == [
        "a_k1_j0", "a_k3_j0", "a_k1_j1", "a_k3_j1", "c_k1_j0", "c_k3_j0",
    ]  # fmt: skip
    assert [combination(spec) for spec in specs][2:4] == [("a", 1, 1), ("a", 1, 3)]


@given(st.integers(0, 24), st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_fewer_are_a_seeded_choice_in_order(count: int, seed: int) -> None:
    sources = [source("a", 3), source("b", 3)]
    every = [combination(spec) for spec in plan_negatives(Recipe(), sources, None, seed=seed)]
    specs = plan_negatives(Recipe(count=count), sources, None, seed=seed)
    chosen = [combination(spec) for spec in specs]
    assert len(chosen) == count
    assert chosen == [where for where in every if where in set(chosen)]


def test_fewer_are_not_always_the_same() -> None:
    sources = [source("a", 30)]
    plans = {
        tuple(map(combination, plan_negatives(Recipe(count=5), sources, None, seed=seed)))
        for seed in range(20)
    }
    assert len(plans) > 15


@given(st.integers(0, 2**32), st.integers(1, 40))
@settings(max_examples=25, deadline=None)
def test_equal_arguments_give_equal_plans(seed: int, count: int) -> None:
    arguments = Recipe(count=count, noise=NoiseRule((0.1, 0.5))), [source("a", 2), source("b", 3)]
    assert plan_negatives(*arguments, bank_of(9), seed=seed) == plan_negatives(
        *arguments, bank_of(9), seed=seed
    )


def test_another_seed_draws_other_noise() -> None:
    recipe, sources = Recipe(noise=RULE), [source("a", 10)]
    plans = [plan_negatives(recipe, sources, bank_of(60), seed=seed) for seed in (0, 1)]
    assert [patch_of(spec) for spec in plans[0]] != [patch_of(spec) for spec in plans[1]]


def test_noise_of_an_output_does_not_depend_on_later_sources() -> None:
    recipe = Recipe(noise=RULE)
    alone = plan_negatives(recipe, [source("a", 2)], bank_of(60), seed=0)
    more = plan_negatives(recipe, [source("a", 2), source("b", 2)], bank_of(60), seed=0)
    assert more[: len(alone)] == alone


def noise_seeds(specs: Sequence[Spec]) -> list[int]:
    return [spec.noise.seed for spec in specs if spec.noise is not None]


def test_builds_share_a_realisation_of_noise_only_where_they_are_the_same_build() -> None:
    rule = NoiseRule((1.0,), "residual")
    recipe, sources, bank = Recipe(noise=rule), [source("a", 2), source("b", 3)], bank_of(3)
    ids = [one.id for one in sources]
    builds = {
        "first": (recipe, sources, 0),
        "another seed": (recipe, sources, 1),
        "another recipe": (replace(recipe, side=16), sources, 0),
        "another strength": (replace(recipe, noise=NoiseRule((2.0,), "residual")), sources, 0),
        "another name": (recipe, [source("a", 2), source("c", 3)], 0),
        "another size": (recipe, [source("a", 2), source("b", 3, (64, 80))], 0),
        "other targets": (recipe, [source("a", 2), source("b", 2)], 0),
    }
    seeds = {
        name: noise_seeds(plan_negatives(recipe, sources, bank, seed=seed))
        for name, (recipe, sources, seed) in builds.items()
    }
    seeds["transfer"] = noise_seeds(plan_transfer(rule, ids, bank, seed=0))
    seeds["other images"] = noise_seeds(plan_transfer(rule, [*ids, "c"], bank, seed=0))
    assert noise_seeds(plan_negatives(recipe, sources, bank, seed=0)) == seeds["first"]
    assert noise_seeds(plan_transfer(rule, ids, bank, seed=0)) == seeds["transfer"]
    every = [seed for found in seeds.values() for seed in found]
    assert len(set(every)) == len(every) > 100


def test_repeats_have_names_of_their_own_where_ids_are_no_numbers() -> None:
    recipe = Recipe(turns=(0,), count=5, noise=RULE)
    specs = plan_negatives(recipe, [source("Misc_1", 2)], bank_of(9), seed=0, taken_ids=["Misc_1"])
    assert [spec.id for spec in specs[:4]] == [
        "Misc_1_k0_j0", "Misc_1_k0_j1", "Misc_1_k0_j0_r1", "Misc_1_k0_j1_r1",
    ]  # fmt: skip
    assert specs[4].id in ("Misc_1_k0_j0_r2", "Misc_1_k0_j1_r2")


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
    specs = plan_negatives(Recipe(), [source("01", 1)], None, seed=0, taken_ids=taken)
    assert specs[0].id == first
    assert len({spec.id for spec in specs}) == 4


def test_an_id_that_is_taken_is_refused() -> None:
    with pytest.raises(RecipeError, match="'a_k0_j0' already"):
        plan_negatives(Recipe(), [source("a", 1)], None, seed=0, taken_ids=["a", "a_k0_j0"])


def test_a_box_larger_than_an_image_is_refused_by_its_id() -> None:
    sources = [source("fits", 1), source("small", 1, (31, 90))]
    with pytest.raises(RecipeError, match="side 32 is larger than image 'small'"):
        plan_negatives(Recipe(side=32), sources, None, seed=0)
    without = [source("fits", 1), source("small", 0, (31, 90))]
    assert len(plan_negatives(Recipe(side=32), without, None, seed=0)) == 4


def test_a_set_without_targets_is_refused_unless_nothing_is_asked() -> None:
    with pytest.raises(RecipeError, match="no training image has a target"):
        plan_negatives(Recipe(count=3), [source("a", 0)], None, seed=0)
    assert plan_negatives(Recipe(count=0), [source("a", 0)], None, seed=0) == []


def test_more_repeats_than_patches_are_refused() -> None:
    sources = [source("a", 1)]
    assert len(plan_negatives(Recipe(count=12, noise=RULE), sources, bank_of(3), seed=0)) == 12
    with pytest.raises(RecipeError, match="noise bank holds 3 patches"):
        plan_negatives(Recipe(count=13, noise=RULE), sources, bank_of(3), seed=0)


def test_repeats_without_noise_are_refused() -> None:
    with pytest.raises(RecipeError, match="without noise"):
        plan_negatives(Recipe(count=5), [source("a", 1)], None, seed=0)


def test_kinds_of_noise_have_the_same_say() -> None:
    # One camera has fifty times the patches of the other, and gets half of the outputs.
    bank = join_banks([bank_of(2), make_bank(np.zeros((100, 2, 2), np.uint8))])
    specs = plan_transfer(RULE, [str(n) for n in range(2000)], bank, seed=0)
    share = sum(patch_of(spec) < 2 for spec in specs) / len(specs)
    assert abs(share - 0.5) < 0.05


def test_ratios_and_patches_are_drawn_uniformly() -> None:
    ratios = (0.1, 0.2, 0.3, 0.4, 0.5)
    specs = plan_transfer(NoiseRule(ratios), [str(n) for n in range(5000)], bank_of(10), seed=1)
    by_ratio = Counter(spec.noise.amount for spec in specs if spec.noise)
    assert set(by_ratio) == set(ratios)
    # 1,000 expected, standard deviation 28.
    assert all(abs(count - 1000) < 140 for count in by_ratio.values())
    # 500 expected, standard deviation 21.
    by_patch = Counter(map(patch_of, specs))
    assert all(abs(by_patch[patch] - 500) < 106 for patch in range(10))


def test_transfer_keeps_ids_and_draws_by_id_alone() -> None:
    together = plan_transfer(RULE, ["b", "a", "c"], bank_of(50), seed=4)
    assert [(spec.id, spec.source, spec.turn) for spec in together] == [
        (id_, id_, None) for id_ in ("b", "a", "c")
    ]
    assert plan_transfer(RULE, ["a"], bank_of(50), seed=4)[0] == together[1]


noise = st.builds(NoiseChoice, st.integers(0, 10**6), st.floats(0, 1))
turns = st.builds(
    TurnChoice,
    st.integers(0, 99),
    st.integers(1, 512),
    st.integers(0, 3),
    st.booleans(),
    st.sampled_from(BLENDS),
    st.booleans(),
)
specs = st.builds(Spec, st.text(), st.text(), st.none() | noise, st.none() | turns)


@given(specs)
@settings(max_examples=60, deadline=None)
def test_a_spec_survives_its_record(spec: Spec) -> None:
    assert Spec.from_record(spec.record()) == spec


@given(specs)
@settings(max_examples=20, deadline=None)
def test_a_record_survives_json(spec: Spec) -> None:
    import json

    assert Spec.from_record(json.loads(json.dumps(spec.record()))) == spec


FULL = Spec("a", "b", NoiseChoice(1, 0.1), TurnChoice(0, 32, 1, True)).record()


@pytest.mark.parametrize("key", sorted(FULL.keys() - {"noise_patch", "target"}))
def test_a_record_that_lacks_a_key_is_refused_by_the_key(key: str) -> None:
    with pytest.raises(RecipeError, match=key):
        Spec.from_record({name: value for name, value in FULL.items() if name != key})


def test_a_record_has_the_published_keys() -> None:
    assert set(FULL) == {
        "id", "source", "noise_patch", "mode", "ratio",
        "target", "side", "quarter_turns", "mirror", "blend",
    }  # fmt: skip


def test_a_share_of_the_turns_is_of_the_target_alone_by_any_angle() -> None:
    sources = [source(f"{n:03d}", 3) for n in range(1, 60)]
    plain = plan_negatives(Recipe(moves=0.3), sources, None, seed=4)
    specs = plan_negatives(Recipe(moves=0.3, any_angle=0.5), sources, None, seed=4)
    alone = [spec for spec in specs if spec.move is not None and spec.move.stay]
    moved = [spec for spec in specs if spec.move is not None and not spec.move.stay]
    boxes = [spec for spec in specs if spec.turn is not None]
    assert len(alone) + len(moved) + len(boxes) == len(specs) == 59 * 3 * 4
    assert len(alone) == pytest.approx(0.7 * 0.5 * len(specs), rel=0.15)
    angles = np.array([spec.move.angle for spec in alone if spec.move is not None])
    assert np.histogram(angles, np.linspace(-180, 180, 7))[0].min() > 0.6 * len(angles) / 6
    # Which targets are moved, and where to, is not changed by it.
    assert moved == [spec for spec in plain if spec.move is not None]
    for spec in alone:
        assert Spec.from_record(spec.record()) == spec


def test_copies_of_any_target_are_drawn_and_tell_repeats_apart() -> None:
    sources = [source(f"{n:03d}", 3) for n in range(1, 20)]
    plain = Recipe(moves=0.5, scr=(2, 9))
    with pytest.raises(RecipeError, match="repeats apart"):
        plan_negatives(replace(plain, count=300), sources, None, seed=4)
    specs = plan_negatives(replace(plain, count=300, copies=(1, 3)), sources, None, seed=4)
    assert {len(spec.copies) for spec in specs} == {1, 2, 3}
    assert {one.target for spec in specs for one in spec.copies} == {0, 1, 2}
    assert all(2 <= one.scr <= 9 and not one.stay for spec in specs for one in spec.copies)
    assert len({spec.copies for spec in specs}) == len(specs)
    for spec in specs:
        assert Spec.from_record(spec.record()) == spec
    # What else is drawn is not changed by them.
    without = plan_negatives(plain, sources, None, seed=4)
    assert [(one.move, one.turn) for one in specs[:228]] == [(s.move, s.turn) for s in without]
