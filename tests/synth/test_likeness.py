"""Nearly equal frames are found through noise, gain and shifts, and others are not."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.frames import Frame
from synth.inspect.splits import NEARLY, difference_hash, nearly_equal, scene_signature


def scene(seed: int, shape: tuple[int, int] = (96, 128)) -> np.ndarray:
    """A cloudy scene: noise with structures of many sizes."""
    rng = np.random.default_rng(seed)
    layers = [
        cv2.resize(rng.normal(0, size, (size, size)), shape[::-1], interpolation=cv2.INTER_CUBIC)
        / size
        * 20
        for size in (6, 12, 24)
    ]
    return 110 + np.sum(layers, axis=0)


def as_frame(values: np.ndarray) -> Frame:
    return np.rint(values).clip(0, 255).astype(np.uint8)


def found(frames: list[Frame]) -> dict[tuple[int, int], float]:
    pairs = nearly_equal(
        [difference_hash(frame) for frame in frames], [scene_signature(frame) for frame in frames]
    )
    return {(first, second): likeness for first, second, likeness in pairs}


@given(
    st.integers(0, 2**32 - 1),
    st.floats(0.6, 1.2),
    st.floats(-15, 15),
    st.floats(0, 3),
    st.sampled_from([(96, 128), (48, 64), (120, 160)]),
)
@settings(max_examples=40, deadline=None)
def test_a_copy_is_found_through_gain_offset_noise_and_size(
    seed: int, gain: float, offset: float, noise: float, shape: tuple[int, int]
) -> None:
    values = scene(seed)
    rng = np.random.default_rng(seed)
    copy = cv2.resize(values, shape[::-1], interpolation=cv2.INTER_AREA)
    copy = copy * gain + offset + rng.normal(0, noise, shape)
    assert found([as_frame(values), as_frame(copy)])[0, 1] >= NEARLY


def test_a_copy_with_another_target_a_pixel_aside_is_found() -> None:
    values = scene(1, (192, 256))
    other = np.roll(values, (1, -1), (0, 1))
    values[20:24, 30:33] = 250
    other[70:73, 90:94] = 240
    assert (0, 1) in found([as_frame(values), as_frame(other)])


def test_other_scenes_are_not_alike() -> None:
    assert found([as_frame(scene(seed)) for seed in range(150)]) == {}


def test_skies_over_the_same_horizon_are_not_alike() -> None:
    rng = np.random.default_rng(0)
    sky = np.where(np.arange(96) < 70, 140, 95)[:, None] + np.zeros(128)
    frames = [as_frame(sky + rng.normal(0, 2, sky.shape)) for _ in range(6)]
    assert found(frames) == {}


@pytest.mark.parametrize("count", [0, 1])
def test_few_frames_have_no_pairs(count: int) -> None:
    assert found([as_frame(scene(0))] * count) == {}


def test_pairs_come_once_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [as_frame(scene(seed)) for seed in range(5)]
    whole = found(frames + frames[::-1])
    assert set(whole) == {(number, 9 - number) for number in range(5)}
    monkeypatch.setattr("synth.inspect.splits._ROWS", 3)
    assert found(frames + frames[::-1]) == whole
