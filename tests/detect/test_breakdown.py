"""Bins of targets against counts of single targets, and by hand."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.breakdown import EDGES, break_down
from detect.metrics import Tally, measure
from synth.targets import find_targets, local_scr


def squares(*sides: int) -> np.ndarray:
    """A mask of squares in a row, 12 pixels apart."""
    mask = np.zeros((24, 12 * len(sides)), bool)
    for i, side in enumerate(sides):
        mask[4 : 4 + side, 12 * i + 1 : 12 * i + 1 + side] = True
    return mask


def test_areas_by_hand() -> None:
    truth = squares(2, 3, 4, 10)
    found = squares(2, 0, 3, 10)
    rows = break_down(found, truth, "area").rows()
    bounds = [(row["from"], row["below"], row["targets"]) for row in rows]
    assert bounds == [(1, 10, 2), (10, 26, 1), (81, None, 1)]
    assert [row["pd"] for row in rows] == [1 / 2, 1, 1]
    assert [row["recall"] for row in rows] == [4 / 13, 9 / 16, 1]
    assert [row["iou"] for row in rows] == [1, 9 / 16, 1]


def test_a_bin_ends_where_the_next_begins() -> None:
    for area, start in ((9, 1), (10, 10), (25, 10), (26, 26), (80, 50), (81, 81)):
        truth = np.zeros((3, 100), bool)
        truth[1, 1 : 1 + area] = True
        (row,) = break_down(truth, truth, "area").rows()
        assert row["from"] == start


def test_contrast_decides_the_bin_of_a_target() -> None:
    rng = np.random.default_rng(0)
    truth = np.zeros((40, 120), bool)
    frame = rng.normal(1000, 10, truth.shape)
    for i, ratio in enumerate((0.5, 1.5, 3.0, 6.0, 12.0)):
        truth[18:21, 24 * i + 10 : 24 * i + 13] = True
        frame[18:21, 24 * i + 10 : 24 * i + 13] = 1000 + 10 * ratio
    frame = frame.round().astype(np.uint16)
    # The two dimmest are missed.
    found = truth.copy()
    found[:, :40] = False
    rows = break_down(found, truth, "scr", frame).rows()
    assert [row["from"] for row in rows] == list(EDGES["scr"])
    assert [row["pd"] for row in rows] == [0, 0, 1, 1, 1]


def test_a_target_that_fills_its_frame_has_no_contrast() -> None:
    truth = np.ones((6, 6), bool)
    (row,) = break_down(truth, truth, "scr", np.zeros((6, 6), np.uint8)).rows()
    assert (row["from"], row["below"], row["targets"], row["pd"]) == (None, None, 1, 1)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    quality=st.sampled_from(["area", "scr", "border"]),
    protocol=st.sampled_from(["strict", "basicirstd", "dnanet"]),
)
def test_bins_hold_all_targets_and_matches(seed: int, quality: Any, protocol: Any) -> None:
    rng = np.random.default_rng(seed)
    total, tally, counts = None, Tally(), np.zeros(len(EDGES[quality]) + 1, int)
    for _ in range(2):
        shape = tuple(rng.integers(4, 40, 2))
        frame = rng.integers(0, 256, shape).astype(np.uint8)
        truth = rng.random(shape) < 0.05
        probability = (rng.random(shape) < 0.1) * 0.3 + 0.6 * truth
        part = break_down(probability, truth, quality, frame, protocol, 0.4)
        total = part if total is None else total + part
        tally += measure(probability, truth, protocol, 0.4)
        for target in find_targets(truth):
            row, col = target.centroid
            value = {
                "area": target.area,
                "scr": local_scr(frame, truth, target),
                "border": min(row, col, shape[0] - 1 - row, shape[1] - 1 - col),
            }[quality]
            counts[sum(value >= start for start in EDGES[quality]) - 1] += 1
    assert total is not None
    rows = total.rows()
    assert [row["targets"] for row in rows] == counts[counts > 0].tolist()
    answered = sum(row["pd"] * row["targets"] for row in rows)
    assert answered == pytest.approx(tally.matched)


def test_wrong_input_is_refused() -> None:
    truth = squares(3)
    with pytest.raises(ValueError, match="needs its frame"):
        break_down(truth, truth, "scr")
    with pytest.raises(ValueError, match="cannot answer"):
        break_down(truth[:-1], truth, "area")
    by_scr = break_down(truth, truth, "scr", np.zeros(truth.shape, np.uint8))
    with pytest.raises(ValueError, match="do not add up"):
        break_down(truth, truth, "area") + by_scr
