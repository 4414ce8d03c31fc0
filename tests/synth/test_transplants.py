"""Targets in other images: all of the target arrives, nothing else changes, labels tell all."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from movers import Mover

from synth.errors import RecipeError
from synth.frames import Frame, Mask
from synth.recipe import Plan, Recipe, remake
from synth.scene import Outline, Scene
from synth.simulate.scenes import SCENE_KINDS, simulate_frame
from synth.simulate.sensor import make_sensor
from synth.steps import Choose, Hosts, Move, Supply, Transplant
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
    put = Mover(image, mask, targets).copy(0, seed, Scene(other, other_mask))
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
        put = Mover(image, mask, targets).copy(0, seed, Scene(other, other_mask), scr=scr)
        assert put is not None
        if 0.2 < put.scale < 2.5:
            (target,) = find_targets(put.mask)
            reached.append(local_scr(put.image, put.mask, target))
    assert len(reached) >= 4
    assert np.median(np.abs(np.array(reached) / scr - 1)) < 0.2


def test_depths_are_not_mixed() -> None:
    image, mask, targets = simulated(0)
    other, other_mask, _ = simulated(1, bits=12)
    scene = Scene(image, mask, "s", targets=targets)
    with pytest.raises(RecipeError, match="host far: is of uint16; a target of uint8 cannot go"):
        put_into(scene, lambda name: (other, other_mask), "far", {"target": 0, "draw": 0})


def put_into(scene: Scene, load: Any, host: str, *targets: dict[str, Any]) -> Any:
    """Put targets into a host; the scene and the facts."""
    step = Transplant(Hosts(load))
    return step.apply(scene, {"host": host, "targets": list(targets)})


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


def test_hosts_are_other_images_and_both_kinds_have_the_same_say() -> None:
    image, mask, targets = simulated(0, targets=(2, 2))
    scene = Scene(image, mask, "a", targets=targets)
    hosts = Hosts(lambda name: (image, mask), ("a", "b", "c"), ("S2/1.png", "S2/2.png"))
    step, rng = Transplant(hosts, scr=(2, 5), zoom=(1, 2)), np.random.default_rng(0)
    chosen = [choice for _ in range(1000) if (choice := step.choose(scene, rng)) is not None]
    assert len(chosen) == 1000
    empty = [choice for choice in chosen if "/" in choice["host"]]
    assert {choice["host"] for choice in chosen} == {"b", "c", "S2/1.png", "S2/2.png"}
    assert len(empty) / len(chosen) == pytest.approx(0.5, abs=0.05)
    # All targets of an image go into an empty frame, and one of them beside others.
    assert {len(choice["targets"]) for choice in empty} == {2}
    assert {len(choice["targets"]) for choice in chosen if choice not in empty} == {1}
    puts = [put for choice in chosen for put in choice["targets"]]
    assert {put["target"] for put in puts} == {0, 1}
    assert all(1 <= put["zoom"] <= 2 and 2 <= put["scr"] <= 5 for put in puts)


def test_an_image_alone_has_no_host() -> None:
    image, mask, targets = simulated(0)
    outline = Outline("a", mask.shape, tuple(targets))
    alone = Transplant(Hosts(lambda name: (image, mask), ("a",)))
    with pytest.raises(RecipeError, match="no other image to put a target into"):
        Plan(Recipe([alone]), [outline], seed=0)
    with pytest.raises(RecipeError, match="needs images to put targets into"):
        Plan(Recipe([Transplant()]), [outline], seed=0)
    # Where several steps may be chosen, another one takes its place.
    either = Choose(((1.0, alone), (0.0, Move())))
    found = either.resolve(Scene(image, mask, "a"), np.random.default_rng(0), {"target": 0})
    assert found is not None
    assert found[0].name == "move"


def test_arrays_are_hosts() -> None:
    image, mask, _ = simulated(0)
    far, near = simulated(5, targets=(0, 0))[0], simulated(6)[:2]
    recipe = Recipe([Transplant([far, near], scr=(3, 6))])
    made = {}
    for seed in range(12):
        sample = recipe(image, mask, rng=np.random.default_rng(seed), id="mine")
        ((_, choice),) = sample.steps
        made[choice["host"]] = sample
    assert set(made) == {"0", "1"}
    assert made["0"].image.shape == far.shape
    assert (made["1"].mask & near[1]).sum() == near[1].sum()


def test_an_output_is_made_of_both_images() -> None:
    image, mask, targets = simulated(0, targets=(2, 2))
    far, _, _ = simulated(5, (200, 240), (0, 0))
    scene = Scene(image, mask, targets=targets)
    loaded: list[str] = []

    def load(name: str) -> tuple[Frame, Mask]:
        loaded.append(name)
        return far, np.zeros(far.shape, bool)

    made, facts = put_into(
        scene, load, "far", {"target": 0, "draw": 7, "scr": 6.0}, {"target": 1, "draw": 9}
    )
    assert made.image.shape == made.mask.shape == image.shape
    assert len(made.targets) == 2
    for row, col in facts["places"]:
        assert made.mask[row, col]
    assert loaded == ["far"]
    # Another seed is another part of the frame.
    again, _ = put_into(scene, load, "far", {"target": 0, "draw": 8})
    assert (again.image != made.image).mean() > 0.5


def test_a_host_without_room_stays_as_it_is() -> None:
    image, mask, _ = simulated(0)
    full = np.ones((30, 30), bool)
    small = np.full((30, 30), 9, np.uint8)
    made, facts = put_into(
        Scene(image, mask), lambda name: (small, full), "full", {"target": 0, "draw": 7}
    )
    np.testing.assert_array_equal(made.image, small)
    np.testing.assert_array_equal(made.mask, full)
    assert facts == {"places": [None]}


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
    put = {"target": 0, "draw": seed, "angle": 20.0 * (seed % 2), "scr": 4.0, "zoom": zoom}
    made = remake(
        Scene(image, mask),
        [("transplant", {"host": "h", "targets": [put]})],
        Supply(hosts=Hosts(lambda name: (other, empty))),
    )
    assert made.image.shape == made.mask.shape == tuple(map(min, shape, host))
    assert made.image.dtype == np.uint8
