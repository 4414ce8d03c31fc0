from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.augment import choose_view, take_view
from detect.recipe import Augment

ZERO, ONE = np.zeros(1, np.float32), np.ones(1, np.float32)


def plain(**changes: Any) -> Augment:
    base = Augment(16, 0.0, "mirror", "both", True, (1.0, 1.0), 0.0, 0.0, 0.0, 0.0, 0.0)
    return replace(base, **changes)


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    fill=st.sampled_from(["mirror", "zero"]),
)
def test_image_and_mask_move_together(seed: int, shape: tuple[int, int], fill: Any) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random(shape) < 0.2
    frame = mask * np.uint8(200)
    augment = plain(fill=fill)
    view = choose_view(augment, shape, np.empty((0, 2)), rng)
    values, truth = take_view(augment, view, frame, mask, ZERO, ONE)
    assert values.shape == (1, 16, 16)
    np.testing.assert_array_equal(values[0] == 200, truth)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6), row=st.integers(0, 39), col=st.integers(0, 29))
def test_a_window_around_a_target_holds_it(seed: int, row: int, col: int) -> None:
    augment = plain(target_share=1.0)
    rng = np.random.default_rng(seed)
    view = choose_view(augment, (40, 30), np.array([[row, col]], float), rng)
    assert view.top <= row < view.top + 16
    assert view.left <= col < view.left + 16
    assert 0 <= view.top <= 24
    assert 0 <= view.left <= 14


def test_all_eight_turns_occur_and_no_more() -> None:
    frame = np.arange(256, dtype=np.uint8).reshape(16, 16)
    mask = np.zeros((16, 16), bool)
    expected = {np.rot90(f, k).tobytes() for k in range(4) for f in (frame, frame[::-1])}
    seen = set()
    for seed in range(100):
        view = choose_view(plain(), (16, 16), np.empty((0, 2)), np.random.default_rng(seed))
        values, _ = take_view(plain(), view, frame, mask, ZERO, ONE)
        seen.add(values[0].astype(np.uint8).tobytes())
    assert seen == expected


def test_windows_reach_every_place_equally_often() -> None:
    rng = np.random.default_rng(0)
    tops = [choose_view(plain(), (20, 16), np.empty((0, 2)), rng).top for _ in range(2000)]
    counts = np.bincount(tops)
    assert len(counts) == 5
    assert counts.min() > 300


def test_scale_enlarges_as_opencv_does() -> None:
    augment = plain(scale=(2.0, 2.0), mirror="none", transpose=False)
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (32, 32), np.uint8)
    view = choose_view(augment, (32, 32), np.empty((0, 2)), rng)
    assert view.side == 8
    values, _ = take_view(augment, view, frame, frame > 128, ZERO, ONE)
    window = frame[view.top : view.top + 8, view.left : view.left + 8]
    np.testing.assert_array_equal(values[0], cv2.resize(window, (16, 16)))


def test_grey_changes_stay_within_what_was_asked() -> None:
    augment = plain(gain=0.5, offset=0.2, noise=0.1)
    frame, mask = np.full((16, 16), 3, np.uint8), np.zeros((16, 16), bool)
    for seed in range(50):
        view = choose_view(augment, (16, 16), np.empty((0, 2)), np.random.default_rng(seed))
        assert 1 / 1.5 <= view.gain <= 1.5
        assert abs(view.offset) <= 0.2
        values, _ = take_view(augment, view, frame, mask, ZERO, ONE)
        again, _ = take_view(augment, view, frame, mask, ZERO, ONE)
        np.testing.assert_array_equal(values, again)
        residual = values - (3 * view.gain + view.offset)
        assert residual.std() == pytest.approx(view.noise, rel=0.25, abs=1e-6)


def test_channels_are_copies_of_one_grey_frame() -> None:
    augment = plain(noise=1.0, blur=1.0)
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (16, 16), np.uint8)
    view = choose_view(augment, (16, 16), np.empty((0, 2)), rng)
    three = np.zeros(3, np.float32), np.ones(3, np.float32)
    values, _ = take_view(augment, view, frame, frame > 9, *three)
    assert (values == values[:1]).all()


def test_a_rotation_moves_image_and_mask_together_and_keeps_the_area() -> None:
    rows, cols = np.mgrid[:64, :64]
    mask = (abs(rows - 30) < 8) & (abs(cols - 36) < 5)
    frame = mask * np.uint8(200)
    augment = plain(crop=64, rotation=45.0)
    angles, areas = [], []
    for seed in range(60):
        view = choose_view(augment, (64, 64), np.empty((0, 2)), np.random.default_rng(seed))
        values, truth = take_view(augment, view, frame, mask, ZERO, ONE)
        # 8-bit interpolation rounds, so a pixel that is half target may go either way.
        clear = abs(values[0] - 100) > 3
        np.testing.assert_array_equal((values[0] > 100)[clear], truth[clear])
        angles.append(view.angle)
        areas.append(truth.sum())
    assert 15 < sum(angle == 0 for angle in angles) < 45
    assert max(map(abs, angles)) <= 45
    assert np.mean(areas) == pytest.approx(mask.sum(), rel=0.02)


def test_a_rotation_is_counter_clockwise_about_the_centre() -> None:
    frame = np.zeros((9, 9), np.uint8)
    frame[4, 8] = 100
    view = choose_view(plain(crop=9), (9, 9), np.empty((0, 2)), np.random.default_rng(0))
    view = replace(view, angle=90.0, flip_rows=False, flip_cols=False, transpose=False)
    values, _ = take_view(plain(crop=9), view, frame, frame > 0, ZERO, ONE)
    assert np.unravel_index(values[0].argmax(), (9, 9)) == (0, 4)
