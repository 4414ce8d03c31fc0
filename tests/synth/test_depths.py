"""Depths: mixed sets are parted as they were mixed, and those of one camera are not parted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.inspect.depths import Levels, group_by_depth, measure_levels


def camera_frame(rng: np.random.Generator, bits: int, dimmest: float) -> np.ndarray:
    """A noisy frame of a camera of so many bits, of a scene as dim as `dimmest` or brighter."""
    top = (2**bits - 1) * dimmest ** rng.random()
    scene = np.linspace(0.6 * top, top, 40 * 50).reshape(40, 50)
    return (scene + rng.normal(0, 2, scene.shape)).clip(0, 2**bits - 1).astype(np.uint16)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    bits=st.sampled_from([10, 12, 14, 16]),
    dimmest=st.floats(0.02, 1),
    count=st.integers(20, 60),
)
def test_bright_and_dim_scenes_of_one_camera_are_one_group(
    seed: int, bits: int, dimmest: float, count: int
) -> None:
    rng = np.random.default_rng(seed)
    levels = [measure_levels(camera_frame(rng, bits, dimmest)) for _ in range(count)]
    # Two depths are seen where nothing is between; scenes by chance leave such a gap sometimes.
    tops = np.sort([own.high for own in levels])
    if (tops[1:] / np.maximum(tops[:-1], 1)).max() < 4:
        assert len(group_by_depth(levels)) == 1


@pytest.mark.parametrize("bits", [12, 14])
@pytest.mark.parametrize("dim", [300, 1000, 3000])
def test_a_dim_and_a_bright_recording_of_one_camera_are_one_group(bits: int, dim: int) -> None:
    rng = np.random.default_rng(dim)
    bright = 2**bits - 1
    levels = [
        measure_levels(rng.integers(top // 2, top, (30, 30)).astype(np.uint16))
        for top in (dim, bright)
        for _ in range(10)
    ]
    assert len(group_by_depth(levels)) == 1


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), kind=st.sampled_from(["type", "8", "12", "step"]))
def test_a_mixed_set_is_parted_as_it_was_mixed(seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    few, many = np.sort(rng.integers(1, 40, 2))
    order = rng.permutation(few + many + 1)
    one, other = set(order[:few].tolist()), set(order[few:].tolist())
    levels = []
    for at in range(few + many + 1):
        shallow = rng.integers(0, int(rng.integers(60, 256)), (32, 32)).astype(np.uint8)
        deep = camera_frame(rng, 14, 0.4)
        if kind == "type":
            frame = shallow if at in one else deep
        elif kind == "8":
            frame = shallow.astype(np.uint16) if at in one else deep
        elif kind == "12":
            frame = camera_frame(rng, 12, 0.3) if at in one else camera_frame(rng, 16, 0.5)
        else:
            frame = shallow.astype(np.uint16) * 257 if at in one else deep
        levels.append(measure_levels(frame))
    groups = group_by_depth(levels)
    assert [set(members) for members, _ in groups] == [one, other]
    for members, of_all in groups:
        assert of_all.low == min(levels[at].low for at in members)
        assert of_all.high == max(levels[at].high for at in members)


def test_a_defective_pixel_makes_no_second_group() -> None:
    rng = np.random.default_rng(0)
    frames = [camera_frame(rng, 12, 0.5) for _ in range(20)]
    for frame in frames[::2]:
        frame[3, 4] = 65535
    assert len(group_by_depth([measure_levels(frame) for frame in frames])) == 1


def test_frames_of_one_value_are_in_no_group() -> None:
    deep = Levels(16, 6000, 12000, 11000, 1)
    dark = Levels(16, 100, 100, 100, 0)
    assert [members for members, _ in group_by_depth([deep, dark, deep])] == [[0, 2]]
    assert group_by_depth([dark]) == []
    assert group_by_depth([]) == []


def test_frames_stretched_to_16_bits_are_parted_from_those_of_14() -> None:
    rng = np.random.default_rng(0)
    frames = [camera_frame(rng, 14, 0.5) for _ in range(8)]
    for at in (1, 4, 6):
        scaled = frames[at] - frames[at].min().astype(float)
        frames[at] = np.rint(scaled / scaled.max() * 65535).astype(np.uint16)
    groups = group_by_depth([measure_levels(frame) for frame in frames])
    assert [members for members, _ in groups] == [[1, 4, 6], [0, 2, 3, 5, 7]]
