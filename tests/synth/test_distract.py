"""Distractors disturb an image clear of its labels, and none looks like a target."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.simulate.scenes import simulate_frame
from synth.simulate.sensor import make_sensor
from synth.steps.distract import (
    KINDS,
    MOST_LIKE_A_SPOT,
    Distract,
    Kind,
    add_distractor,
    spot_likeness,
)


@given(st.integers(0, 2**31), st.sampled_from(KINDS), st.sampled_from([8, 14]))
@settings(max_examples=60, deadline=None)
def test_a_distractor_keeps_away_from_labels_and_is_no_spot(
    draw: int, kind: Kind, bits: int
) -> None:
    rng = np.random.default_rng(draw)
    frame = simulate_frame("cloud", make_sensor((96, 128), rng, bits=bits), rng, targets=(1, 3))
    made, box = add_distractor(frame.image, frame.mask, kind, draw)
    assert (made.dtype, made.shape) == (frame.image.dtype, frame.image.shape)
    change = made.astype(np.float64) - frame.image
    if box is None:
        assert not change.any()
        return
    top, left, bottom, right = box
    assert change.any()
    inside = np.zeros(frame.mask.shape, bool)
    inside[top:bottom, left:right] = True
    assert not change[~inside].any()
    near = cv2.dilate(frame.mask.astype(np.uint8), np.ones((13, 13), np.uint8)) > 0
    assert not (near & inside).any()
    assert spot_likeness(change[top:bottom, left:right]) <= MOST_LIKE_A_SPOT
    again, same = add_distractor(frame.image, frame.mask, kind, draw)
    assert same == box
    np.testing.assert_array_equal(again, made)


@pytest.mark.parametrize("kind", KINDS)
def test_most_distractors_find_a_place(kind: Kind) -> None:
    rng = np.random.default_rng(0)
    frame = simulate_frame("urban", make_sensor((256, 256), rng), rng, targets=(2, 2))
    boxes = [add_distractor(frame.image, frame.mask, kind, draw)[1] for draw in range(60)]
    assert sum(box is not None for box in boxes) > 50
    assert len(set(boxes)) > 40


@pytest.mark.parametrize("sigma", [0.7, 1.0, 1.5, 2.0])
def test_a_blur_spot_is_a_spot_and_a_line_is_none(sigma: float) -> None:
    field = np.zeros((41, 41), np.float64)
    field[20, 20] = 100
    spot = cv2.GaussianBlur(field, (0, 0), sigma)
    assert spot_likeness(spot) > 0.97
    assert spot_likeness(-spot) > 0.97
    field[20, 5:36] = 100
    assert spot_likeness(cv2.GaussianBlur(field, (0, 0), sigma)) < MOST_LIKE_A_SPOT
    assert spot_likeness(np.zeros((9, 9), np.float64)) == 0


def test_where_no_place_is_free_nothing_is_added() -> None:
    image = np.random.default_rng(0).integers(0, 255, (40, 40)).astype(np.uint8)
    mask = np.zeros((40, 40), bool)
    mask[::8, ::8] = True
    for kind in KINDS:
        made, box = add_distractor(image, mask, kind, 1)
        assert box is None
        np.testing.assert_array_equal(made, image)
    tiny = image[:5, :5]
    assert add_distractor(tiny, mask[1:6, 1:6], "edge", 0)[1] is None


@pytest.mark.parametrize("count", [(), (2, 1), (1, 2, 3), -1, (0, 1001)])
def test_a_count_is_one_number_or_two(count: Any) -> None:
    with pytest.raises(ValueError, match="count: must be one or two numbers"):
        Distract(count=count)
