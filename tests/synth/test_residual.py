"""Transfer of the residual: the sensor's noise is added, and no more than the image lacks."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_noise import Camera

from synth.errors import NoiseError
from synth.noise.blocks import find_noise_blocks
from synth.noise.model import NoiseModel, correlation_length, fit_model, make_physical_model
from synth.noise.realisation import NoiseGenerator
from synth.noise.residual import NO_NOISE, generate_frame, transfer_residual


def fitted(camera: Camera, seed: int = 0, frames: int = 12) -> NoiseModel:
    rng = np.random.default_rng(seed)
    made = camera.frames(rng, rng.uniform(40, 200, frames), (160, 192))
    return fit_model(find_noise_blocks((frame, None) for frame in made))


def refitted(model: NoiseModel, count: int = 24) -> NoiseModel:
    noise = NoiseGenerator(model)
    made = [generate_frame(noise, (192, 192), seed=k, frame=k % len(model)) for k in range(count)]
    return fit_model(find_noise_blocks((frame, None) for frame in made))


def added(image: np.ndarray, noise: NoiseGenerator, **settings: float) -> float:
    """Root mean square of what is added to an image, DN."""
    made = transfer_residual(image, noise, seed=0, **settings).image
    return float(np.sqrt(((made.astype(float) - image) ** 2).mean()))


@pytest.mark.parametrize(
    "camera", [Camera(), Camera(blur=0.9, column=2.0, row=0.0), Camera(dn=40.0, row=1.5)]
)
def test_generated_noise_has_the_model_again(camera: Camera) -> None:
    model = fitted(camera)
    again = refitted(model)
    for key in ("sigma", "column", "row", "gain"):
        if model.summary[key] > 0.1 * model.summary["sigma"] or key == "gain":
            assert again.summary[key] == pytest.approx(model.summary[key], rel=0.15), key
    for key in ("length_rows", "length_cols"):
        assert again.summary[key] == pytest.approx(model.summary[key], rel=0.05), key


def test_generated_noise_has_the_tails_of_the_model() -> None:
    model = make_physical_model(sigma=200.0, depth=16)
    share = (np.arange(257) + 0.5) / 257
    tails = np.sign(share - 0.5) * -np.log(2 * np.minimum(share, 1 - share))
    model = replace(model, quantiles=(tails / tails.std())[None])
    frame = generate_frame(NoiseGenerator(model), (400, 400), seed=5).astype(np.float64)
    z = (frame - frame.mean()) / frame.std()
    # The distribution of Laplace: excess kurtosis 3, of its 257 quantiles 2.2.
    assert float((z**4).mean()) - 3 == pytest.approx(2.3, abs=0.4)
    assert np.quantile(np.abs(z), 0.5) == pytest.approx(np.log(2) / np.sqrt(2), abs=0.03)


def test_strength_scales_the_noise_and_0_adds_nothing() -> None:
    noise = NoiseGenerator(make_physical_model(sigma=50.0, column=20.0, row=10.0, depth=16))
    image = np.full((256, 256), 30000, np.uint16)
    none, once, twice = (added(image, noise, strength=s, own=NO_NOISE) for s in (0, 1, 2))
    assert none == 0
    assert once == pytest.approx(np.sqrt(50**2 + 20**2 + 10**2), rel=0.05)
    assert twice == pytest.approx(2 * once, rel=1e-4)
    assert transfer_residual(image, noise, strength=0, seed=9).noisier == 0


def test_an_image_with_the_sensor_s_noise_gets_none() -> None:
    camera = Camera(sigma=4.0, gain=0.0, column=0, row=0, blur=0.6)
    model = fitted(camera)
    noise = NoiseGenerator(model)
    (noisy,) = camera.frames(np.random.default_rng(1), np.array([120.0]), (256, 256))
    clean = np.full((256, 256), 120, np.uint8)
    assert added(clean, noise) == pytest.approx(4, rel=0.1)
    made = transfer_residual(noisy, noise, seed=0)
    # What is left of the variance is the error of the estimate of the image's own.
    assert added(noisy, noise) < 0.45 * 4
    assert made.image.astype(float).std() == pytest.approx(4, rel=0.1)
    weaker = transfer_residual(noisy, noise, seed=0, strength=0.5)
    assert weaker.noisier == 1
    assert (weaker.image == noisy).all()


@pytest.mark.parametrize("slope", [0.05, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("blur", [0.0, 1.5])
def test_a_rounded_ramp_has_no_noise_of_its_own(slope: float, blur: float) -> None:
    camera = NoiseGenerator(fitted(Camera(sigma=3.0, gain=0.0, column=0, row=0, blur=blur)))
    down, along = np.mgrid[:128, :128]
    ramp = np.rint(20 + slope * (0.8 * along + 0.6 * down)).astype(np.uint8)
    assert added(ramp, camera) == pytest.approx(3, rel=0.1)


def test_half_of_the_sensor_s_noise_is_made_up_for() -> None:
    model = fitted(Camera(sigma=4.0, gain=0.0, column=0, row=0, blur=0.6))
    (half,) = Camera(sigma=2.0, gain=0.0, column=0, row=0, blur=0.6).frames(
        np.random.default_rng(1), np.array([120.0]), (256, 256)
    )
    made = transfer_residual(half, NoiseGenerator(model), seed=0)
    assert made.image.astype(float).std() == pytest.approx(4, rel=0.05)
    assert made.noisier == 0


def test_the_mean_stays_at_the_ends_of_the_range_too() -> None:
    noise = NoiseGenerator(make_physical_model(sigma=6.0, column=1.0, row=1.0))
    ramp = np.tile(np.linspace(0, 255, 256).round().astype(np.uint8), (256, 1))
    for image in (ramp, np.zeros_like(ramp), np.full_like(ramp, 255), np.full_like(ramp, 2)):
        made = transfer_residual(image, noise, seed=3, own=NO_NOISE).image
        assert abs(float(made.mean()) - float(image.mean())) < 0.1
        assert made.dtype == np.uint8


@given(
    st.tuples(st.integers(1, 70), st.integers(1, 90)),
    st.sampled_from([np.uint8, np.uint16]),
    st.integers(0, 2**31),
    st.floats(0, 5),
)
@settings(max_examples=40, deadline=None)
def test_any_image_gets_noise(
    shape: tuple[int, int], dtype: type, seed: int, strength: float
) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, np.iinfo(dtype).max, shape, endpoint=True).astype(dtype)
    noise = GENERATORS[dtype]
    made = transfer_residual(image, noise, seed=seed, strength=strength)
    assert (made.image.shape, made.image.dtype) == (image.shape, image.dtype)
    assert 0 <= made.noisier <= 1
    again = transfer_residual(image, noise, seed=seed, strength=strength)
    np.testing.assert_array_equal(made.image, again.image)


GENERATORS = {
    np.uint8: NoiseGenerator(make_physical_model(sigma=2.0, drift=1.0)),
    np.uint16: NoiseGenerator(make_physical_model(sigma=300.0, gain=0.5, row=9.0, depth=16)),
}


def test_large_images_get_noise_everywhere() -> None:
    image = np.full((1500, 1100), 100, np.uint8)
    made = transfer_residual(image, GENERATORS[np.uint8], seed=12345, own=NO_NOISE).image
    tiles = made.reshape(15, 100, 11, 100).swapaxes(1, 2).reshape(-1, 100, 100)
    assert tiles.std((1, 2)).min() > 1.5
    assert len({tile.tobytes() for tile in tiles}) == len(tiles)


def test_what_does_not_fit_is_refused() -> None:
    noise = GENERATORS[np.uint8]
    deep = np.zeros((20, 20), np.uint16)
    with pytest.raises(NoiseError, match="8 bits does not fit an image of uint16"):
        transfer_residual(deep, noise, seed=0)
    made = added(deep + np.uint16(9000), noise, gain=100.0, own=NO_NOISE)
    assert made == pytest.approx(200 * np.sqrt(1 + 0.25), rel=0.3)


def test_a_physical_camera_has_the_numbers_that_were_asked_for() -> None:
    model = make_physical_model(
        sigma=30.0, netd=0.05, responsivity=800.0, gain=0.5, column=12.0, drift=20.0, depth=16
    )
    noise = NoiseGenerator(model)
    for level in (5000, 40000):
        frames = [
            transfer_residual(
                np.full((256, 256), level, np.uint16), noise, seed=9973 * k, own=NO_NOISE
            ).image.astype(float)
            for k in range(12)
        ]
        pixels = [f - f.mean(0) - f.mean(1)[:, None] + f.mean() for f in frames]
        wanted = np.sqrt(30**2 + 40**2 + 0.5 * level)
        assert np.mean([p.std() for p in pixels]) == pytest.approx(wanted, rel=0.03)
        assert np.mean([f.mean(0).std() for f in frames]) == pytest.approx(
            np.hypot(12, wanted / 16), rel=0.1
        )
        rows = np.array([f.mean(1) for f in frames])
        assert rows.std() == pytest.approx(np.hypot(20, wanted / 16), rel=0.25)
        # Drift goes on from row to row; of white rows the steps are √2 times as large.
        step = np.diff(rows, axis=1).std()
        assert step < 1.2 * rows.std()


def test_dead_pixels_stay_and_blinking_ones_move() -> None:
    image = np.full((128, 128), 100, np.uint8)
    image[0, :2] = 0, 255
    dead = NoiseGenerator(make_physical_model(dead=0.01))
    first, second = (transfer_residual(image, dead, seed=seed).image for seed in (1, 2))
    np.testing.assert_array_equal(first, second)
    assert (first == 0).mean() == pytest.approx(0.01, abs=0.004)
    blinking = NoiseGenerator(make_physical_model(blinking=0.01))
    first, second = (transfer_residual(image, blinking, seed=seed).image for seed in (1, 2))
    assert (first == 255).mean() == pytest.approx(0.01, abs=0.004)
    assert ((first == 255) & (second == 255)).sum() < 12


def test_at_strength_0_no_pixel_is_defective() -> None:
    camera = NoiseGenerator(make_physical_model(sigma=1.0, dead=0.1, blinking=0.1))
    image = np.arange(128, dtype=np.uint8)[None].repeat(100, 0)
    made = transfer_residual(image, camera, seed=0, strength=0.0)
    np.testing.assert_array_equal(made.image, image)


def test_two_cameras_have_different_dead_pixels() -> None:
    image = np.full((128, 128), 100, np.uint8)
    image[0, 0] = 0
    first, second = (
        transfer_residual(image, NoiseGenerator(camera), seed=0).image
        for camera in (make_physical_model(dead=0.05), make_physical_model(row=1e-3, dead=0.05))
    )
    assert ((first == 0) & (second == 0)).sum() < 0.3 * (first == 0).sum()


def test_contrast_of_a_target_stays() -> None:
    rng = np.random.default_rng(0)
    noise = NoiseGenerator(make_physical_model(sigma=3.0))
    image = cv2.GaussianBlur(rng.normal(100, 20, (128, 128)), (0, 0), 8).round().astype(np.uint8)
    target = np.zeros((128, 128), bool)
    target[60:64, 60:64] = True
    image[target] += 40
    change = [
        transfer_residual(image, noise, seed=k * 999, own=NO_NOISE).image[target].mean()
        - image[target].mean()
        for k in range(200)
    ]
    assert abs(np.mean(change)) < 4 * 3 / 4 / np.sqrt(200)


def test_noise_of_a_model_correlates_as_far_as_it_says() -> None:
    camera = Camera(sigma=5.0, gain=0, column=0, row=0, blur=1.2)
    model = refitted(fitted(camera))
    assert model.summary["length_rows"] == pytest.approx(
        correlation_length(camera.correlation), rel=0.1
    )
