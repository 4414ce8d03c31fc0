"""The seam probe finds open seams, and none where nothing was done."""

from __future__ import annotations

import numpy as np
import pytest

from synth.frames import Frame
from synth.inspect.seams import describe_border, probe_seams
from synth.simulate.scenes import SCENE_KINDS, simulate_frame
from synth.simulate.sensor import make_sensor
from synth.steps.blend import Blend, blend_patch

BOX = (30, 34, 62, 66)


@pytest.fixture(scope="module")
def scenes() -> list[Frame]:
    rng = np.random.default_rng(0)
    sensor = make_sensor((96, 96), rng, temporal_sigma=1.0)
    return [
        simulate_frame(SCENE_KINDS[k % len(SCENE_KINDS)], sensor, rng, targets=(0, 0)).image
        for k in range(120)
    ]


def turn(image: Frame, blend: Blend) -> Frame:
    top, left, bottom, right = BOX
    made = image.copy()
    patch = image[top:bottom, left:right]
    made[top:bottom, left:right] = blend_patch(patch, np.rot90(patch, 1).copy(), blend, 10.0)
    return made


def probe(made: list[Frame], originals: list[Frame]) -> float:
    count = len(originals)
    labels = [True] * count + [False] * count
    return probe_seams([*made, *originals], [BOX] * 2 * count, labels, list(range(count)) * 2)


def test_pasted_boxes_are_found_and_blended_ones_are_not(scenes: list[Frame]) -> None:
    assert probe([turn(scene, "paste") for scene in scenes], scenes) > 0.8
    assert probe([turn(scene, "poisson") for scene in scenes], scenes) < 0.65


def test_untouched_images_give_chance(scenes: list[Frame]) -> None:
    rng = np.random.default_rng(1)
    found = [
        probe_seams(scenes, [BOX] * len(scenes), rng.permutation(len(scenes)) % 2, range(120))
        for _ in range(5)
    ]
    assert np.mean(found) == pytest.approx(0.5, abs=0.08)
    # The same images on both sides tell nothing at all.
    assert probe(scenes, scenes) == pytest.approx(0.5, abs=0.02)


def test_borders_without_room_are_left_out() -> None:
    image = np.random.default_rng(0).integers(0, 255, (40, 40)).astype(np.uint8)
    assert describe_border(image, (0, 0, 40, 40)) is None
    assert describe_border(image, (10, 10, 14, 14)) is None
    assert describe_border(image, (0, 0, 20, 20)) is not None
    flat = describe_border(np.full((40, 40), 7, np.uint8), (8, 8, 28, 28))
    assert flat is not None
    assert np.isfinite(flat).all()


def test_too_little_to_judge_is_an_error() -> None:
    image = np.zeros((40, 40), np.uint8)
    with pytest.raises(ValueError, match="too few to probe"):
        probe_seams([image] * 8, [(8, 8, 28, 28)] * 8, [True, False] * 4, range(8))
