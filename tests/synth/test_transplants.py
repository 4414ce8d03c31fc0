"""Targets in other images: all of the target arrives, nothing else changes, labels tell all."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synth.moves import Mover
from synth.realise import Realiser, realise

from synth.errors import RecipeError
from synth.frames import Frame, Mask
from synth.noise.bank import make_bank
from synth.recipe import (
    Hosts,
    LabelledSource,
    MoveChoice,
    NegativePlan,
    NoiseRule,
    Recipe,
    Spec,
    plan_negatives,
)
from synth.scenes import SCENE_KINDS, simulate_frame
from synth.sensor import make_sensor
from synth.targets import Target, find_targets, label_targets, local_scr


def simulated(
    seed: int, shape: tuple[int, int] = (96, 112), targets: tuple[int, int] = (1, 3), bits: int = 8
) -> tuple[Frame, Mask, list[Target]]:
    rng = np.random.default_rng(seed)
    kind = SCENE_KINDS[seed % len(SCENE_KINDS)]
    frame = simulate_frame(kind, make_sensor(shape, rng, bits=bits), rng, targets=targets)
    return frame.image, frame.mask, find_targets(frame.mask)


@given(st.integers(0, 10_000), st.booleans())
@settings(max_examples=30, deadline=None)
def test_a_host_gets_the_target_and_keeps_its_own(seed: int, empty: bool) -> None:
    image, mask, targets = simulated(seed)
    other, other_mask, _ = simulated(seed + 1, (80, 128), (0, 0) if empty else (1, 3))
    host = Mover(other, other_mask, find_targets(other_mask))
    put = Mover(image, mask, targets).copy(0, seed, (other, other_mask), host=host)
    if put is None:
        return
    assert (put.image.dtype, put.image.shape) == (other.dtype, other.shape)
    assert (put.mask & other_mask).sum() == other_mask.sum()
    new = put.mask & ~other_mask
    place = np.argwhere(label_targets(mask)[1] == 1) + np.array(put.shift)
    np.testing.assert_array_equal(np.argwhere(new), place)
    # Far from the target not one pixel is another.
    away = cv2.distanceTransform((~new).view(np.uint8), cv2.DIST_L2, 5) > 8
    np.testing.assert_array_equal(put.image[away], other[away])


@pytest.mark.parametrize("scr", [3.0, 8.0])
def test_a_host_shows_the_contrast_that_is_asked_for(scr: float) -> None:
    reached = []
    for seed in range(12):
        image, mask, targets = simulated(seed)
        other, other_mask, _ = simulated(seed + 40, targets=(0, 0))
        put = Mover(image, mask, targets).copy(
            0, seed, (other, other_mask), host=Mover(other, other_mask, []), scr=scr
        )
        assert put is not None
        if 0.2 < put.scale < 2.5:
            (target,) = find_targets(put.mask)
            reached.append(local_scr(put.image, put.mask, target))
    assert len(reached) >= 4
    assert np.median(np.abs(np.array(reached) / scr - 1)) < 0.2


def test_depths_are_not_mixed() -> None:
    image, mask, targets = simulated(0)
    other, other_mask, _ = simulated(1, bits=12)
    with pytest.raises(ValueError, match="uint8 cannot go into uint16"):
        Mover(image, mask, targets).copy(
            0, 0, (other, other_mask), host=Mover(other, other_mask, [])
        )
    spec = Spec("o", "s", move=MoveChoice(0, 0, host="far"))
    with pytest.raises(RecipeError, match="output o: host far: "):
        realise(spec, image, mask, targets, load_host=lambda name: (other, other_mask))
    with pytest.raises(RecipeError, match="host far is not there"):
        realise(spec, image, mask, targets)


@given(st.integers(0, 10_000), st.sampled_from([0.5, 0.8, 1.3, 2.0, 3.0]))
@settings(max_examples=30, deadline=None)
def test_a_target_grows_with_its_label(seed: int, zoom: float) -> None:
    image, mask, targets = simulated(seed, (128, 144), (1, 1))
    moved = Mover(image, mask, targets).move(0, seed, zoom=zoom)
    if moved.shift == (0, 0):
        return
    (target,) = targets
    area = int(moved.mask.sum())
    wanted = max(1, round(target.area * zoom**2))
    # A pixel that it hardly covers is not counted.
    assert wanted * 0.7 - 1 <= area <= wanted


def test_what_grows_keeps_its_brightness() -> None:
    image = np.full((64, 64), 40, np.uint8)
    place = np.mgrid[:64, :64] - 30
    spot = 120 * np.exp(-(place**2).sum(0) / (2 * 1.5**2))
    image = np.rint(image + spot).astype(np.uint8)
    mask = spot > 40
    moved = Mover(image, mask, find_targets(mask)).move(0, 3, zoom=2.0)
    assert moved.shift != (0, 0)
    assert abs(int(moved.image.max()) - int(image.max())) <= 6
    # What is bright enough to be labelled covers four times as many pixels.
    assert ((moved.image > 80).sum() / (image > 80).sum()) == pytest.approx(4, rel=0.2)
    assert moved.mask.sum() / mask.sum() == pytest.approx(4, rel=0.2)


SOURCES = [
    LabelledSource("a", (96, 112), tuple(simulated(0, targets=(2, 2))[2])),
    LabelledSource("b", (96, 112), tuple(simulated(1, targets=(1, 1))[2])),
    LabelledSource("c", (96, 112), tuple(simulated(2, targets=(1, 1))[2])),
]


def plan(recipe: Recipe, hosts: Hosts, seed: int = 0) -> list[Spec]:
    wanted = NegativePlan(recipe, SOURCES, None, seed=seed, hosts=hosts)
    return [spec for index in range(len(SOURCES)) for spec in wanted.of(index)]


def test_hosts_are_other_images_and_the_share_is_kept() -> None:
    recipe = Recipe(side=9, count=2000, moves=1, transplants=0.6, scr=(2, 5), zoom=(1, 2))
    specs = plan(recipe, Hosts(("a", "b", "c"), ("S2/1.png", "S2/2.png")))
    moves = [spec.move for spec in specs if spec.move is not None]
    assert len(moves) == len(specs) == 2000
    hosted = [spec for spec in specs if spec.move is not None and spec.move.host]
    assert len(hosted) / len(specs) == pytest.approx(0.6, abs=0.05)
    assert all(spec.move is not None and spec.move.host != spec.source for spec in hosted)
    empty = [spec for spec in hosted if spec.move is not None and "/" in spec.move.host]
    assert len(empty) / len(hosted) == pytest.approx(0.5, abs=0.05)
    # All targets of an image go into an empty frame, and one of them beside others.
    for spec in hosted:
        assert len(spec.copies) == (1 if spec in empty and spec.source == "a" else 0)
    assert {1.0} < {move.zoom for move in moves}
    assert all(1 <= move.zoom <= 2 and 2 <= move.scr <= 5 for move in moves)
    assert [Spec.from_record(spec.record()) for spec in specs] == specs


def test_an_image_alone_has_no_host() -> None:
    with pytest.raises(RecipeError, match="no other image to put a target into"):
        NegativePlan(Recipe(transplants=0.5), SOURCES[:1], None, seed=0, hosts=Hosts(("a",)))
    found = plan_negatives(Recipe(side=9, moves=0), SOURCES, None, seed=0)
    assert all(spec.move is None for spec in found)


def test_transplants_do_not_change_what_the_other_negatives_are() -> None:
    recipe = Recipe(side=9, moves=0.5, scr=(2, 5), distractors=(0, 2))
    before = plan(recipe, Hosts())
    after = plan(
        Recipe(side=9, moves=0.5, scr=(2, 5), distractors=(0, 2), transplants=0.4),
        Hosts(("a", "b", "c")),
    )
    same = [new for old, new in zip(before, after, strict=True) if old == new]
    assert 0 < len(same) < len(after)
    assert all(new.move is not None and new.move.host for new in after if new not in same)


def test_a_share_of_the_negatives_gets_noise_and_repeats_of_a_turn_always() -> None:
    bank = make_bank(np.random.default_rng(0).integers(0, 256, (900, 8, 8)).astype(np.uint8))
    rule = NoiseRule((0.1,), share=0.25)
    wanted = NegativePlan(Recipe(side=9, noise=rule, count=1600), SOURCES, bank, seed=0)
    specs = [spec for index in range(len(SOURCES)) for spec in wanted.of(index)]
    quiet = [(spec.source, spec.turn) for spec in specs if spec.noise is None]
    assert 0 < len(quiet) == len(set(quiet)) < 16
    moved = NegativePlan(Recipe(side=9, noise=rule, count=1600, moves=1), SOURCES, bank, seed=0)
    noisy = [spec.noise is not None for index in range(len(SOURCES)) for spec in moved.of(index)]
    assert np.mean(noisy) == pytest.approx(0.25, abs=0.04)


def test_an_output_is_made_of_both_images() -> None:
    image, mask, targets = simulated(0, targets=(2, 2))
    far, _, _ = simulated(5, (200, 240), (0, 0))
    loaded: list[str] = []

    def load(name: str) -> tuple[Frame, Mask]:
        loaded.append(name)
        return far, np.zeros(far.shape, bool)

    realiser = Realiser(image, mask, targets, load_host=load)
    spec = Spec("o", "s", move=MoveChoice(0, 7, scr=6.0, host="far"), copies=(MoveChoice(1, 9),))
    made, made_mask = realiser.image(spec), realiser.mask(spec)
    assert made.shape == made_mask.shape == image.shape
    assert len(find_targets(made_mask)) == 2
    row, col = realiser.facts["place"]
    assert made_mask[row, col]
    assert loaded == ["far"]
    # Another seed is another part of the frame.
    again = Spec("o", "s", move=MoveChoice(0, 8, host="far"))
    assert (realiser.image(again) != made).mean() > 0.5
    # Masks are the same whichever is asked for first.
    other = Realiser(image, mask, targets, load_host=load)
    np.testing.assert_array_equal(other.mask(spec), made_mask)
    np.testing.assert_array_equal(other.image(spec), made)
    assert "place" in other.facts
    assert "shift" not in other.facts


def test_a_host_without_room_stays_as_it_is() -> None:
    image, mask, targets = simulated(0)
    full = np.ones((30, 30), bool)
    small = np.full((30, 30), 9, np.uint8)
    realiser = Realiser(image, mask, targets, load_host=lambda name: (small, full))
    spec = Spec("o", "s", move=MoveChoice(0, 7, host="full"))
    np.testing.assert_array_equal(realiser.image(spec), small)
    np.testing.assert_array_equal(realiser.mask(spec), full)
    assert realiser.facts["place"] is None


@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.floats(0.25, 8),
    st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_images_of_any_size_are_hosts(
    shape: tuple[int, int], host: tuple[int, int], zoom: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, shape).astype(np.uint8)
    mask = np.zeros(shape, bool)
    mask[shape[0] // 2, shape[1] // 2 :] = True
    other = rng.integers(0, 256, host).astype(np.uint8)
    empty = np.zeros(host, bool)
    move = MoveChoice(0, seed, angle=20.0 * (seed % 2), scr=4.0, zoom=zoom, host="h")
    spec = Spec("o", "s", move=move)
    made, label = realise(
        spec, image, mask, find_targets(mask), load_host=lambda name: (other, empty)
    )
    assert made.shape == label.shape == tuple(map(min, shape, host))
    assert made.dtype == np.uint8
