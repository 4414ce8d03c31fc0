"""Noise models of single frames: known cameras are measured right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from simulated_noise import Camera

from synth.errors import NoiseError
from synth.noise.bank import make_bank
from synth.noise.blocks import bank_blocks, find_noise_blocks
from synth.noise.cameras import CameraNoise, load_cameras, load_noise, sequence_model
from synth.noise.components import measure_components, measure_gain
from synth.noise.model import (
    SUMMARY,
    NoiseModel,
    correlation_length,
    fit_model,
    make_physical_model,
    model_from,
)

CAMERAS = {
    "flat": (Camera(), False),
    "scenes": (Camera(), True),
    "blurred": (Camera(blur=0.8), True),
    "16 bit": (Camera(dn=40.0), True),
    "striped": (Camera(sigma=0.5, gain=0.1, column=0.3, row=1.5), False),
}


def fit(camera: Camera, seed: int, scene: bool = False, frames: int = 20) -> NoiseModel:
    rng = np.random.default_rng(seed)
    made = camera.frames(rng, rng.uniform(30, 200, frames), (160, 192), scene)
    return fit_model(find_noise_blocks((frame, None) for frame in made))


def truth(camera: Camera, model: NoiseModel) -> dict[str, float]:
    at = model.frame_levels.mean(1)
    length = correlation_length(camera.correlation)
    return {
        "sigma": float(np.sqrt(np.mean([camera.sigma_at(level) ** 2 for level in at]))),
        "column": camera.column * camera.dn,
        "row": camera.row * camera.dn,
        "gain": camera.gain * camera.dn,
        "length_rows": length,
        "length_cols": length,
    }


@pytest.mark.parametrize("name", CAMERAS)
def test_a_known_camera_is_measured_from_twenty_frames(name: str) -> None:
    camera, scene = CAMERAS[name]
    draws = 8 if name == "flat" else 4
    models = [fit(camera, seed, scene) for seed in range(draws)]
    for key in SUMMARY:
        found = np.array([model.summary[key] for model in models])
        known = np.array([truth(camera, model)[key] for model in models])
        error = np.array([model.error[key] for model in models])
        assert found.mean() == pytest.approx(known.mean(), rel=0.15), key
        assert (np.abs(found - known) < 3 * error).all(), key


def fit_flat(seed: int, **camera: float) -> NoiseModel:
    rng = np.random.default_rng(seed)
    made = Camera(sigma=3.0, gain=0.0, **camera).frames(rng, np.full(8, 100.0), (128, 128))
    return fit_model(find_noise_blocks((frame, None) for frame in made))


@pytest.mark.parametrize("blur", [0.0, 0.7])
def test_patterns_that_are_not_there_are_not_found(blur: float) -> None:
    """As variances, which are normal around 0, with the errors that follow from those of σ."""
    models = [fit_flat(seed, blur=blur, column=0.0, row=0.0) for seed in range(30)]
    for key in ("column", "row"):
        sigma = np.array([model.summary[key] for model in models])
        error = np.array([model.error[key] for model in models])
        wide = np.maximum(2 * sigma * error, error**2)
        assert (sigma**2 < 4 * wide).all(), key
        # The positive part of a normal number of variance 1 has mean 0.40, standard deviation 0.58.
        assert (sigma**2).mean() < (0.40 + 3 * 0.58 / np.sqrt(len(models))) * wide.mean(), key
        frames = np.array([(getattr(model, f"frame_{key}") ** 2).mean() for model in models])
        np.testing.assert_allclose(np.sqrt(frames), sigma, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("blur", [0.0, 0.7])
def test_patterns_are_measured_without_bias(blur: float) -> None:
    models = [fit_flat(seed, blur=blur, column=0.5, row=2.0) for seed in range(30)]
    for key, known in (("column", 0.5), ("row", 2.0)):
        square = np.array([model.summary[key] for model in models]) ** 2
        error = square.std(ddof=1) / np.sqrt(len(models))
        assert abs(square.mean() - known**2) < 3 * error, key


def test_patterns_of_some_frames_are_theirs_alone() -> None:
    rng = np.random.default_rng(0)
    still = Camera(sigma=3.0, gain=0.0, column=0.0, row=0.0)
    striped = replace(still, row=2.0)
    levels = np.full(6, 100.0)
    made = still.frames(rng, levels) + striped.frames(rng, levels)
    model = fit_model(find_noise_blocks((frame, None) for frame in made))
    assert model.frame_row[:6].max() < 0.3
    np.testing.assert_allclose(model.frame_row[6:], 2.0, rtol=0.25)


@pytest.mark.parametrize("blur", [pytest.param(0.0, marks=pytest.mark.slow), 0.6])
def test_a_known_camera_is_measured_from_sequences_of_a_flat_field(blur: float) -> None:
    camera = Camera(sigma=4.0, gain=0.4, column=1.2, row=2.0, blur=blur, dn=40.0)
    gains, found = [], {"tvh": [], "v": [], "h": [], "length": []}
    for seed in range(20):
        rng = np.random.default_rng(seed)
        both = []
        for level in (40.0, 200.0):
            made = np.stack(camera.frames(rng, np.full(100, level), (48, 64)))
            both.append(measure_components(made))
            known = camera.sigma_at(level * camera.dn)
            found["tvh"].append(both[-1].sigma["tvh"] / known)
            found["v"].append(both[-1].sigma["v"] / (camera.row * camera.dn))
            found["h"].append(both[-1].sigma["h"] / (camera.column * camera.dn))
            found["length"].append(correlation_length(both[-1].correlation[2]))
        gain, error = measure_gain(both)
        gains.append(gain / (camera.gain * camera.dn))
        assert abs(gain - camera.gain * camera.dn) < 4 * error
    assert np.mean(gains) == pytest.approx(1, abs=0.05)
    for name in ("tvh", "v", "h"):
        assert np.mean(found[name]) == pytest.approx(1, abs=0.05), name
    known = correlation_length(camera.correlation)
    assert np.mean(found["length"]) == pytest.approx(known, rel=0.05, abs=0.05)


def test_noise_level_follows_intensity_and_gain_changes_of_frames() -> None:
    camera = Camera(sigma=1.0, gain=0.1, column=0, row=0, blur=0)
    rng = np.random.default_rng(0)
    levels = np.linspace(30, 200, 12)
    quiet = camera.frames(rng, levels, scene=True)
    loud = Camera(sigma=2.0, gain=0.4, column=0, row=0, blur=0).frames(rng, levels, scene=True)
    model = fit_model(find_noise_blocks((frame, None) for frame in quiet + loud))
    ratio = model.frame_factor[12:].mean() / model.frame_factor[:12].mean()
    assert ratio == pytest.approx(2, rel=0.1)
    level = np.array([50.0, 180.0])
    found = model.sigma_at(level) * model.frame_factor[:12].mean()
    np.testing.assert_allclose(found, [camera.sigma_at(at) for at in level], rtol=0.1)


def test_frames_of_other_spectra_have_spectra_of_their_own() -> None:
    rng = np.random.default_rng(0)
    frames = [
        frame
        for blur in (0.0, 1.0)
        for frame in Camera(blur=blur, column=0, row=0).frames(rng, np.full(6, 100.0))
    ]
    model = fit_model(find_noise_blocks((frame, None) for frame in frames[:6]))
    assert len(model) == 6
    patches = np.concatenate([_windows(frame) for frame in frames])
    names = [f"{k // 80:02d}" for k in range(len(patches))]
    mixed = fit_model(bank_blocks(make_bank(patches, frame=names)))
    assert set(mixed.frame_kind[:6].tolist()).isdisjoint(mixed.frame_kind[6:].tolist())


def _windows(frame: np.ndarray) -> np.ndarray:
    return np.stack([p for row in np.split(frame, 8) for p in np.split(row, 10, 1)])


def test_texture_is_no_noise() -> None:
    camera = Camera(column=0, row=0)
    rng = np.random.default_rng(3)
    made = camera.frames(rng, np.full(6, 120.0))
    for frame in made:
        strong = 12 * np.sin(np.arange(160) / 2.0)
        frame[:, :160] = np.rint(frame[:, :160] + strong).clip(0, 255).astype(np.uint8)
    blocks = find_noise_blocks((frame, None) for frame in made)
    assert (blocks.col >= 144).all()
    assert len(blocks) > 300


def test_blocks_keep_clear_of_masks_and_of_clipped_pixels() -> None:
    rng = np.random.default_rng(0)
    frame = rng.normal(100, 3, (128, 128)).round().astype(np.uint8)
    mask = np.zeros((128, 128), bool)
    mask[:64, :64] = True
    frame[64:, 64:] = rng.normal(250, 9, (64, 64)).clip(0, 255).astype(np.uint8)
    blocks = find_noise_blocks([(frame, mask)])
    for row, col in zip(blocks.row, blocks.col, strict=True):
        assert not mask[row : row + 32, col : col + 32].any()
        assert (frame[row : row + 32, col : col + 32] == 255).mean() <= 0.01


@pytest.mark.parametrize(
    ("frames", "why"),
    [
        ([np.full((64, 64), 7, np.uint8)], "textured, clipped, or smaller"),
        ([np.zeros((8, 8), np.uint8)], "textured, clipped, or smaller"),
        ([], "textured, clipped, or smaller"),
        ([np.zeros((64, 64), np.uint8), np.zeros((64, 64), np.uint16)], "one depth"),
    ],
)
def test_frames_without_noise_are_refused(frames: list[np.ndarray], why: str) -> None:
    with pytest.raises(NoiseError, match=why):
        find_noise_blocks((frame, None) for frame in frames)


def test_one_frame_is_modelled_without_errors() -> None:
    rng = np.random.default_rng(0)
    frame = rng.normal(100, 3, (96, 96)).round().astype(np.uint8)
    model = fit_model(find_noise_blocks([(frame, None)]))
    assert model.summary["sigma"] == pytest.approx(3, rel=0.05)
    assert np.isnan(model.error["sigma"])


def test_patches_too_small_or_too_few_are_refused() -> None:
    rng = np.random.default_rng(0)
    small = make_bank(rng.integers(90, 110, (50, 8, 8)).astype(np.uint8))
    with pytest.raises(NoiseError, match="side 8 are too small"):
        bank_blocks(small)
    few = make_bank(rng.integers(90, 110, (5, 16, 16)).astype(np.uint8))
    with pytest.raises(NoiseError, match="only 5 blocks"):
        fit_model(bank_blocks(few))


def test_the_length_of_gaussian_noise_is_twice_its_blur() -> None:
    for sigma in (0.7, 1.0, 2.5):
        lags = np.arange(16)
        assert correlation_length(np.exp(-((lags / (2 * sigma)) ** 2))) == pytest.approx(2 * sigma)
    assert correlation_length(np.eye(1, 5)[0]) == 0
    assert correlation_length(np.ones(5)) == 4


@pytest.mark.parametrize("name", ["flat", "blurred", "16 bit"])
def test_the_order_of_sums_makes_no_other_model(name: str) -> None:
    """Threads and processors choose it, and the last digits of the blocks show it."""
    camera, scene = CAMERAS[name]
    rng = np.random.default_rng(5)
    made = camera.frames(rng, rng.uniform(30, 200, 12), (160, 192), scene)
    blocks = find_noise_blocks((frame, None) for frame in made)
    shaken = blocks.residual * (1 + 1e-15 * rng.standard_normal(blocks.residual.shape))
    assert (shaken != blocks.residual).any()
    found = fit_model(blocks).arrays()
    for key, values in fit_model(replace(blocks, residual=shaken)).arrays().items():
        assert (values == found[key]).all(), key


def test_models_survive_their_file(tmp_path: Path) -> None:
    cameras = CameraNoise([fit(Camera(), 0, frames=3), make_physical_model(sigma=2, dead=0.01)])
    path = tmp_path / "cameras.npz"
    path.write_bytes(cameras.to_bytes())
    again = load_noise(path)
    assert isinstance(again, CameraNoise)
    assert again.to_bytes() == cameras.to_bytes()
    assert [len(model) for model in again.models] == [3, 1]
    assert [part.tolist() for part in again.members()] == [[0, 1, 2], [3]]
    assert again.models[0].summary == cameras.models[0].summary


@pytest.mark.parametrize(
    "change",
    [
        {"0/sigma": np.full(3, -1.0)},
        {"0/spectrum": np.zeros((2, 4, 4))},
        {"0/frame_kind": np.array([7])},
        {"0/level": np.array([5.0, 4.0, 3.0])},
        {"0/quantiles": np.full((1, 257), np.nan)},
        {"0/depth": np.array(12)},
        {"0/frame_levels": None},
        {"2/sigma": np.ones(3)},
    ],
)
def test_what_is_no_model_is_refused(tmp_path: Path, change: dict[str, np.ndarray | None]) -> None:
    path = tmp_path / "model.npz"
    model = make_physical_model(sigma=2.0)
    arrays = {f"0/{name}": array for name, array in model.arrays().items()} | change
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(NoiseError, match=r"model\.npz: is not (a noise model|noise)"):
        load_noise(path)


def test_sequences_become_models_of_what_comes_and_goes(tmp_path: Path) -> None:
    camera = Camera(sigma=4.0, gain=0.4, column=3.0, row=3.0, blur=0.6, dn=40.0)
    rng = np.random.default_rng(0)
    levels = [
        measure_components(np.stack(camera.frames(rng, np.full(40, at), (48, 64))))
        for at in (60.0, 180.0)
    ]
    model = sequence_model(*levels)
    np.testing.assert_allclose(
        model.sigma, [camera.sigma_at(at * camera.dn) for at in (60.0, 180.0)], rtol=0.05
    )
    # The patterns of this camera stay, so they may be scene.
    assert model.summary["column"] < 0.05 * model.summary["sigma"]
    assert model.summary["length_rows"] == pytest.approx(
        correlation_length(camera.correlation), rel=0.1
    )
    shaken = (replace(one, correlation=one.correlation * (1 + 1e-15)) for one in levels)
    found = model.arrays()
    for key, values in sequence_model(*shaken).arrays().items():
        assert (values == found[key]).all(), key
    path = tmp_path / "sequence.npz"
    path.write_bytes(levels[0].to_bytes())
    assert load_cameras(path).models[0].depth == 16


@pytest.mark.parametrize(
    "changes",
    [
        {"spectrum": np.zeros((1, 32, 32))},
        {"quantiles": np.zeros((1, 257))},
        {"sigma": np.array([1e40])},
        {"frame_factor": np.array([1e38])},
        {"frame_column": np.array([1e39])},
        {"patches": np.zeros((80, 32, 32), np.float32), "patch_kind": np.zeros(80, np.int64)},
        {"patches": np.ones((80, 31, 31), np.float32), "patch_kind": np.zeros(80, np.int64)},
        {"patches": np.ones((80, 32, 32), np.float32), "patch_kind": np.zeros(8, np.int64)},
    ],
)
def test_arrays_that_are_no_noise_are_refused(
    changes: dict[str, np.ndarray], tmp_path: Path
) -> None:
    model = make_physical_model(sigma=3.0)
    arrays = replace(model, level=model.level[:1], sigma=model.sigma[:1]).arrays()
    assert len(model_from(arrays, tmp_path)) == 1
    with pytest.raises(NoiseError, match="is not a noise model"):
        model_from(arrays | changes, tmp_path)
