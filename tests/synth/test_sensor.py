"""The simulated camera: depth, noise and fixed pattern are what was asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.simulate.sensor import Sensor, blur, make_sensor, quantise, respond, temporal_noise

SHAPE = (96, 128)


def expose(sensor: Sensor, scene: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A frame of a scene, as the camera takes it."""
    noise = temporal_noise(sensor, rng)
    return quantise(sensor, respond(sensor, blur(sensor, scene), noise))


def flat_frames(sensor: Sensor, count: int, level: float = 127.5) -> np.ndarray:
    """Frames of a featureless scene, in DN of 8-bit data."""
    rng = np.random.default_rng(7)
    scene = np.full(sensor.shape, level, np.float64)
    return np.stack([expose(sensor, scene, rng) for _ in range(count)]) / sensor.dn_per_level


@given(
    bits=st.integers(8, 16),
    height=st.integers(16, 70),
    width=st.integers(16, 70),
    seed=st.integers(0, 99),
)
@settings(max_examples=25, deadline=None)
def test_any_scene_gives_a_frame_of_the_cameras_shape_and_range(
    bits: int, height: int, width: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    sensor = make_sensor((height, width), rng, bits=bits)
    scene = rng.uniform(-300, 600, (height, width)).astype(np.float64)
    frame = expose(sensor, scene, rng)
    assert frame.shape == (height, width)
    assert frame.dtype == (np.uint8 if bits == 8 else np.uint16)
    assert frame.max() == 2**bits - 1  # clipped, not wrapped
    assert frame.min() == 0


def test_same_generator_state_same_camera_and_frame() -> None:
    frames = []
    for _ in range(2):
        sensor = make_sensor(SHAPE, np.random.default_rng(3), bits=12)
        scene = np.full(SHAPE, 90, np.float64)
        frames.append(expose(sensor, scene, np.random.default_rng(4)))
    np.testing.assert_array_equal(*frames)


@pytest.mark.parametrize("bits", [8, 14])
@pytest.mark.parametrize("sigma", [1.5, 4.0])
def test_temporal_sigma_at_half_range(bits: int, sigma: float) -> None:
    sensor = make_sensor(SHAPE, np.random.default_rng(0), bits=bits, temporal_sigma=sigma)
    frames = flat_frames(sensor, 60)
    working = np.ones(sensor.shape, bool)
    working.flat[sensor.defects] = False
    measured = np.sqrt(frames.var(axis=0, ddof=1)[working].mean())
    assert measured == pytest.approx(sigma, rel=0.05)


def test_noise_grows_with_the_signal() -> None:
    sensor = make_sensor(SHAPE, np.random.default_rng(0), temporal_sigma=4.0, dead_fraction=0.0)
    dim, bright = (flat_frames(sensor, 30, level).var(axis=0).mean() for level in (40.0, 200.0))
    # var = σ²(0.6 + 0.4·E/127.5)
    expected = (0.6 + 0.4 * 200 / 127.5) / (0.6 + 0.4 * 40 / 127.5)
    assert bright / dim == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("seed", range(3))
def test_noise_has_unit_variance_and_the_cameras_correlation(seed: int) -> None:
    sensor = make_sensor((300, 400), np.random.default_rng(seed))
    noise = temporal_noise(sensor, np.random.default_rng(seed + 10))
    assert noise.std() == pytest.approx(1.0, rel=0.02)
    for ahead, behind in ((noise[1:], noise[:-1]), (noise[:, 1:], noise[:, :-1])):
        assert np.mean(ahead * behind) == pytest.approx(sensor.correlation, abs=0.02)


def test_mean_of_many_frames_is_the_fixed_pattern() -> None:
    sensor = make_sensor(SHAPE, np.random.default_rng(1), column_sigma=2.0, row_sigma=1.0)
    mean = flat_frames(sensor, 200).mean(axis=0)
    working = np.ones(sensor.shape, bool)
    working.flat[sensor.defects] = False
    expected = 127.5 * sensor.gain + sensor.offset
    error = (mean - expected)[working]
    # 2 DN of temporal noise averaged over 200 frames leave 0.14 DN.
    assert error.std() < 0.2
    assert abs(error.mean()) < 0.05


def test_column_and_row_patterns_have_the_sigmas_asked_for() -> None:
    sensor = make_sensor((512, 640), np.random.default_rng(2), column_sigma=3.0, row_sigma=1.5)
    # Differences of neighbours remove the smooth shading.
    columns = np.diff(sensor.offset.mean(axis=0)).std() / np.sqrt(2)
    rows = np.diff(sensor.offset.mean(axis=1)).std() / np.sqrt(2)
    assert columns == pytest.approx(3.0, rel=0.15)
    assert rows == pytest.approx(1.5, rel=0.15)


@pytest.mark.parametrize("fraction", [0.0, 2e-4, 0.01])
def test_defective_pixels_are_as_many_as_asked_and_blind(fraction: float) -> None:
    sensor = make_sensor(SHAPE, np.random.default_rng(5), dead_fraction=fraction)
    assert sensor.defects.size == round(fraction * SHAPE[0] * SHAPE[1])
    assert np.unique(sensor.defects).size == sensor.defects.size
    dark, light = (flat_frames(sensor, 1, level)[0] for level in (60.0, 180.0))
    blind = np.flatnonzero(light - dark < 60)
    np.testing.assert_array_equal(blind, sensor.defects)


def test_deeper_bits_scale_the_same_signal() -> None:
    shallow, deep = (make_sensor(SHAPE, np.random.default_rng(6), bits=bits) for bits in (8, 14))
    scene = np.full(SHAPE, 100, np.float64)
    eight, fourteen = (expose(s, scene, np.random.default_rng(8)) for s in (shallow, deep))
    assert np.abs(fourteen / deep.dn_per_level - eight).max() <= 0.51


def test_blur_keeps_energy_and_has_the_psfs_width() -> None:
    sensor = make_sensor((65, 65), np.random.default_rng(0), blur_sigma=1.7)
    point = np.zeros((65, 65), np.float64)
    point[32, 32] = 1.0
    spot = blur(sensor, point)
    offsets = np.arange(65) - 32.0
    assert spot.sum() == pytest.approx(1.0, rel=1e-3)
    assert np.sqrt((spot.sum(axis=0) * offsets**2).sum()) == pytest.approx(1.7, rel=0.03)


def test_a_camera_without_blur_or_noise_is_transparent() -> None:
    sensor = make_sensor(
        SHAPE,
        np.random.default_rng(0),
        temporal_sigma=0.0,
        column_sigma=0.0,
        row_sigma=0.0,
        dead_fraction=0.0,
        blur_sigma=0.0,
    )
    scene = np.tile(np.linspace(0, 250, SHAPE[1], dtype=np.float64), (SHAPE[0], 1))
    signal = respond(sensor, blur(sensor, scene), np.ones(SHAPE, np.float64))
    np.testing.assert_allclose(signal, scene * sensor.gain, atol=1e-3)
    np.testing.assert_array_equal(quantise(sensor, signal), np.rint(scene * sensor.gain))


@pytest.mark.parametrize(
    "wrong",
    [
        {"bits": 7},
        {"bits": 17},
        {"temporal_sigma": -1.0},
        {"column_sigma": float("nan")},
        {"row_sigma": float("inf")},
        {"blur_sigma": -0.1},
        {"dead_fraction": 0.5},
    ],
)
def test_wrong_arguments_are_named(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        make_sensor(SHAPE, np.random.default_rng(0), **wrong)


def test_small_and_mismatched_shapes_are_errors() -> None:
    with pytest.raises(ValueError, match="at least 16"):
        make_sensor((15, 40), np.random.default_rng(0))
    sensor = make_sensor((20, 30), np.random.default_rng(0))
    with pytest.raises(ValueError, match="does not fit"):
        expose(sensor, np.zeros((30, 20), np.float64), np.random.default_rng(0))
