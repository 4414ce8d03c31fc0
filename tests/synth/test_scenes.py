"""Simulated frames: what is asked for is what is in them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.simulate.scenes import SCENE_KINDS, make_sensor, paint_scene, simulate_frame
from synth.targets import find_targets, label_targets, local_scr

kinds = st.sampled_from(SCENE_KINDS)


@given(
    kind=kinds,
    height=st.integers(16, 90),
    width=st.integers(16, 90),
    bits=st.sampled_from([8, 12, 14, 16]),
    seed=st.integers(0, 2**32),
    polarity=st.sampled_from(["positive", "negative", "both"]),
)
@settings(max_examples=60, deadline=None)
def test_any_size_and_depth_gives_one_component_a_target(
    kind: str, height: int, width: int, bits: int, seed: int, polarity: str
) -> None:
    rng = np.random.default_rng(seed)
    sensor = make_sensor((height, width), rng, bits=bits)
    frame = simulate_frame(kind, sensor, rng, targets=(1, 4), polarity=polarity)
    assert frame.image.shape == frame.mask.shape == (height, width)
    assert frame.image.dtype == (np.uint8 if bits == 8 else np.uint16)
    assert frame.mask.dtype == np.bool_
    assert int(frame.image.max()) < 2**bits
    assert label_targets(frame.mask)[0] == len(frame.scr) <= 4


@pytest.mark.parametrize("kind", SCENE_KINDS)
@pytest.mark.parametrize("shape", [(16, 16), (17, 101), (256, 320)])
def test_radiance_is_finite_and_varied_and_within_the_range(
    kind: str, shape: tuple[int, int]
) -> None:
    for seed in range(4):
        scene = paint_scene(kind, shape, np.random.default_rng(seed))
        assert scene.radiance.shape == scene.density.shape == shape
        assert scene.radiance.dtype == scene.density.dtype == np.float64
        assert 0 <= scene.radiance.min() < scene.radiance.max() <= 255
        assert scene.density.min() >= 0
        assert 0 < scene.density.max() <= 1


@pytest.mark.parametrize("kind", SCENE_KINDS)
def test_same_generator_state_same_frame(kind: str) -> None:
    frames = []
    for _ in range(2):
        rng = np.random.default_rng(11)
        frames.append(simulate_frame(kind, make_sensor((80, 100), rng), rng))
    np.testing.assert_array_equal(frames[0].image, frames[1].image)
    np.testing.assert_array_equal(frames[0].mask, frames[1].mask)
    assert frames[0].scr == frames[1].scr


@pytest.mark.parametrize("kind", SCENE_KINDS)
def test_frames_without_targets_have_empty_masks(kind: str) -> None:
    rng = np.random.default_rng(0)
    frame = simulate_frame(kind, make_sensor((64, 48), rng), rng, targets=(0, 0))
    assert not frame.mask.any()
    assert frame.scr == ()


@pytest.mark.parametrize("bits", [8, 14])
def test_the_frame_has_the_scr_that_it_names(bits: int) -> None:
    rng = np.random.default_rng(1)
    sensor = make_sensor((192, 224), rng, bits=bits)
    errors = []
    for kind in SCENE_KINDS * 6:
        frame = simulate_frame(kind, sensor, rng, targets=(1, 1))
        (target,) = find_targets(frame.mask)
        errors.append(local_scr(frame.image, frame.mask, target) / frame.scr[0] - 1)
    # Rounding, and the few that clip, are what is left.
    assert np.percentile(np.abs(errors), 90) < 0.05


def test_greater_scr_asked_greater_scr_got() -> None:
    medians = []
    for wanted in (1.5, 3.0, 6.0, 12.0):
        rng = np.random.default_rng(2)
        sensor = make_sensor((128, 128), rng)
        got = []
        for kind in ("clear", "cloud", "sea") * 5:
            frame = simulate_frame(kind, sensor, rng, targets=(1, 1), scr=(wanted, wanted))
            (target,) = find_targets(frame.mask)
            got.append(local_scr(frame.image, frame.mask, target))
        medians.append(np.median(got))
    assert medians == sorted(medians)
    assert medians[0] == pytest.approx(1.5, rel=0.15)
    assert medians[-1] == pytest.approx(12.0, rel=0.15)


@pytest.mark.parametrize(("polarity", "sign"), [("positive", 1), ("negative", -1)])
def test_polarity(polarity: str, sign: int) -> None:
    rng = np.random.default_rng(3)
    sensor = make_sensor((128, 128), rng)
    for _ in range(8):
        frame = simulate_frame(
            "clear", sensor, rng, targets=(1, 1), scr=(6.0, 6.0), polarity=polarity
        )
        contrast = frame.image[frame.mask].mean() - frame.image[~frame.mask].mean()
        assert np.sign(contrast) == sign


def test_targets_are_small_and_grow_with_their_sigma() -> None:
    areas = {}
    for sigma in (0.3, 1.0, 2.5):
        rng = np.random.default_rng(4)
        sensor = make_sensor((128, 128), rng)
        frames = [
            simulate_frame("clear", sensor, rng, target_sigma=(sigma, sigma)) for _ in range(12)
        ]
        areas[sigma] = np.median([t.area for f in frames for t in find_targets(f.mask)])
    assert 4 <= areas[0.3] < areas[1.0] < areas[2.5] < 150


def test_frames_of_one_camera_share_its_pattern_and_nothing_else() -> None:
    rng = np.random.default_rng(5)
    sensor = make_sensor((96, 96), rng, column_sigma=4.0)
    other = make_sensor((96, 96), rng, column_sigma=4.0)

    def columns(camera: object) -> np.ndarray:
        frames = [
            simulate_frame("clear", camera, rng, targets=(0, 0)).image.astype(float)
            for _ in range(12)
        ]
        profile = np.mean(frames, axis=(0, 1))
        return np.diff(profile)

    first, second, foreign = columns(sensor), columns(sensor), columns(other)
    assert np.corrcoef(first, second)[0, 1] > 0.95
    assert abs(np.corrcoef(first, foreign)[0, 1]) < 0.4


def test_more_targets_than_fit_are_left_out() -> None:
    rng = np.random.default_rng(6)
    frame = simulate_frame("clear", make_sensor((24, 24), rng), rng, targets=(50, 50))
    assert 1 <= len(frame.scr) < 50
    assert label_targets(frame.mask)[0] == len(frame.scr)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"targets": (3, 1)}, "targets"),
        ({"targets": (-1, 1)}, "targets"),
        ({"scr": (0.0, 3.0)}, "scr"),
        ({"scr": (5.0, 3.0)}, "scr"),
        ({"target_sigma": (1.0, 9.0)}, "target_sigma"),
        ({"target_sigma": (float("nan"), 1.0)}, "target_sigma"),
        ({"polarity": "hot"}, "polarity"),
    ],
)
def test_wrong_arguments_are_named(wrong: dict[str, object], message: str) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=message):
        simulate_frame("clear", make_sensor((32, 32), rng), rng, **wrong)


def test_an_unknown_kind_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="clear, cloud, sea"):
        paint_scene("space", (32, 32), np.random.default_rng(0))
    with pytest.raises(ValueError, match="at least 16"):
        paint_scene("sea", (15, 32), np.random.default_rng(0))
