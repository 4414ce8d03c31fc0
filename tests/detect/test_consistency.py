from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from test_augment import make_bank, plain
from turned_patches import turn_patch

from detect.augment import DRAWS, Views, choose_views, take_windows
from detect.consistency import TurnedBox, consistency, find_turned_boxes
from detect.errors import TrainingError
from detect.lineage import Origin, Turn
from detect.recipe import Augment
from detect.sampler import Entry
from synth.targets import find_targets, target_box

Array = NDArray[Any]

PLACES = ((0, 8), (1, 11), (1, 6))
KINDS = ((1, False), (2, True), (3, True), (0, False))
TURNS = [Turn(target, side, k, mirror) for target, side in PLACES for k, mirror in KINDS]


def scene() -> tuple[Array, list[Array], list[TurnedBox]]:
    """Answers on a source, of any values, and on its negatives: the same, turned in the box."""
    rng = np.random.default_rng(0)
    mask = np.zeros((40, 44), bool)
    mask[3:5, 4] = mask[20:23, 30:32] = True
    answer = rng.integers(0, 256, mask.shape, np.uint8)
    boxes = []
    for turn in TURNS:
        box = target_box(find_targets(mask)[turn.target], turn.side, mask.shape)
        boxes.append(TurnedBox(box, turn))
    negatives = [
        turn_patch(answer, mask, found.box, found.turn.quarter_turns, found.turn.mirror)[0]
        for found in boxes
    ]
    return answer, negatives, boxes


def compare(
    augment: Augment, seed: int, answers: list[Array], boxes: list[TurnedBox]
) -> tuple[float, Views]:
    """Cut the answers themselves as the images are cut, and measure."""
    bank = make_bank(answers)
    draws = np.tile(np.random.default_rng(seed).random(DRAWS), (len(answers), 1))
    images = np.arange(len(answers))
    views = choose_views(augment, bank, images, draws)
    values, _ = take_windows(bank, images, views, augment)
    logits = (values.clamp(0.1, 254.9) / 255).logit()
    entries = [Entry(row, 0, (0, 0, row)) for row in range(len(answers))]
    of = dict(enumerate(boxes, 1))
    return consistency(logits, entries, views, of).item(), views


@pytest.mark.parametrize("seed", range(8))
def test_an_answer_that_turns_with_the_box_is_consistent(seed: int) -> None:
    answer, negatives, boxes = scene()
    distance, _ = compare(plain(crop=32), seed, [answer, *negatives], boxes)
    assert distance == pytest.approx(0, abs=1e-7)


def test_an_answer_that_does_not_turn_is_not() -> None:
    answer, _, boxes = scene()
    # The same answer on source and negative: a turn by nothing is all that it is right about.
    for box in boxes:
        distance, _ = compare(plain(crop=40), 0, [answer, answer], [box])
        assert (distance > 0.05) == (box.turn.quarter_turns > 0 or box.turn.mirror)


def test_it_is_the_mean_over_the_pixels_of_the_box() -> None:
    answer, negatives, boxes = scene()
    for negative, found in zip(negatives, boxes, strict=True):
        top, left, bottom, right = found.box
        worse = negative.copy()
        worse[top, left] = 255 - worse[top, left]
        elsewhere = worse.copy()
        elsewhere[bottom, right] ^= 255
        expected = ((worse / 255 - negative / 255) ** 2).sum() / found.turn.side**2
        augment = plain(crop=44, mirror="none", transpose=False)
        for changed in (worse, elsewhere):
            distance, _ = compare(augment, 0, [answer, changed], [found])
            assert distance == pytest.approx(expected, rel=0.01)


def test_windows_that_scale_and_rotate_are_turned_back_too() -> None:
    rows, cols = np.indices((40, 44))
    smooth = 128 + 100 * np.sin(rows / 3) * np.cos(cols / 4)
    mask = np.zeros((40, 44), bool)
    mask[20:23, 20:22] = True
    box = TurnedBox(target_box(find_targets(mask)[0], 14, mask.shape), Turn(0, 14, 1, True))
    answer = smooth.astype(np.uint8)
    negative, _ = turn_patch(answer, mask, box.box, 1, True)
    augment = plain(crop=40, scale=(0.9, 1.2), rotation=20.0, pick=4)
    same, views = compare(augment, 4, [answer, negative], [box])
    assert views.angle[0] != 0
    other, _ = compare(augment, 4, [answer, answer], [box])
    # The seams of the box are blurred by the interpolation, no more.
    assert same < 0.15 * other


def test_nothing_in_the_window_is_nothing_to_compare() -> None:
    answer, negatives, boxes = scene()
    augment = plain(crop=16, mirror="none", transpose=False)
    bank = make_bank([answer, negatives[0]])
    views = choose_views(augment, bank, np.arange(2), np.full((2, DRAWS), 0.999))
    logits = torch.randn(2, 1, 16, 16, requires_grad=True)
    entries = [Entry(0, 0, (0, 0, 0)), Entry(1, 0, (0, 0, 1))]
    assert consistency(logits, entries, views, {1: boxes[0]}).item() == 0
    alone = consistency(logits, entries[:1], views[[0]], {1: boxes[0]})
    alone.backward()
    assert alone.item() == 0


def test_both_sides_learn() -> None:
    answer, negatives, boxes = scene()
    bank = make_bank([answer, negatives[0]])
    views = choose_views(plain(crop=32), bank, np.zeros(2, int), np.full((2, DRAWS), 0.1))
    logits = torch.randn(2, 1, 32, 32, requires_grad=True)
    entries = [Entry(0, 0, (0, 0, 0)), Entry(1, 0, (0, 0, 1))]
    consistency(logits, entries, views, {1: boxes[0]}).backward()
    assert logits.grad is not None
    assert (logits.grad.abs().sum((1, 2, 3)) > 0).all()


def test_boxes_are_those_of_the_source_s_targets() -> None:
    mask = np.zeros((40, 40), bool)
    mask[3:5, 4] = mask[20:23, 30:32] = True
    turn = Turn(1, 8, 2, False)
    origins = {
        "a": Origin("a", False, None),
        "n": Origin("a", True, turn),
        "m": Origin("gone", True, turn),
        "o": Origin("a", True, None),
    }
    empty = np.zeros_like(mask)
    found = find_turned_boxes(("n", "a", "m", "o"), [empty, mask, empty, empty], origins)
    assert found == {0: TurnedBox((17, 27, 25, 35), turn)}
    for broken in (replace(turn, target=2), replace(turn, side=99)):
        with pytest.raises(TrainingError, match="n is a with the box"):
            find_turned_boxes(("n", "a"), [empty, mask], origins | {"n": Origin("a", True, broken)})
