"""NIQE: distributions against SciPy's samples, scores against what was done to the frame."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from real_data import real_data
from scipy import stats

from synth.disk.folders import find_frames
from synth.errors import QualityError
from synth.frames import read_frame
from synth.inspect.quality import (
    FEATURES,
    NiqeModel,
    fit_niqe,
    fit_shape,
    fit_symmetric_shape,
    load_niqe,
    niqe,
    patch_features,
    pristine_features,
)

Frame = NDArray[np.uint16]


def texture(seed: int, shape: tuple[int, int] = (128, 128)) -> Frame:
    """A 16-bit frame whose spectrum falls with frequency as that of natural scenes."""
    rng = np.random.default_rng(seed)
    rows, cols = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])
    spectrum = np.fft.rfft2(rng.standard_normal(shape)) / (0.01 + np.hypot(rows, cols)) ** 1.5
    field = np.fft.irfft2(spectrum, shape)
    return np.rint(8000 + 400 * field / field.std()).astype(np.uint16)


def noisy(frame: Frame, sigma: float, seed: int = 0) -> Frame:
    noise = np.random.default_rng(seed).normal(0, sigma, frame.shape)
    return np.rint(frame + noise).astype(np.uint16)


def quantiles(exponent: float, count: int) -> NDArray[np.float64]:
    """Samples of a generalised Gaussian distribution of scale 1, without chance."""
    return np.asarray(stats.gennorm.ppf((np.arange(count) + 0.5) / count, exponent))


def median_score(model: NiqeModel, frames: list[Frame]) -> float:
    return float(np.median([niqe(model, frame) for frame in frames]))


@pytest.fixture(scope="module")
def model() -> NiqeModel:
    return fit_niqe([pristine_features(texture(seed), 32) for seed in range(16)], 32)


@pytest.fixture(scope="module")
def held_out() -> list[Frame]:
    return [texture(seed) for seed in range(100, 108)]


@pytest.mark.parametrize("exponent", [0.5, 0.8, 1.0, 2.0, 4.0])
@pytest.mark.parametrize(("left", "right"), [(1.0, 1.0), (0.3, 2.0), (5.0, 1.0)])
def test_parameters_of_an_asymmetric_distribution_are_recovered(
    exponent: float, left: float, right: float
) -> None:
    count = 60_000
    samples = np.concatenate(
        [
            side * np.abs(quantiles(exponent, round(count * abs(side) / (left + right))))
            for side in (-left, right)
        ]
    )
    found, mean, below, above = fit_shape(samples)
    assert float(found) == pytest.approx(exponent, rel=0.02)
    assert float(below) == pytest.approx(left, rel=0.03)
    assert float(above) == pytest.approx(right, rel=0.03)
    assert float(mean) == pytest.approx(samples.mean(), abs=0.02 * max(left, right))


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0, 4.0])
def test_parameters_of_a_symmetric_distribution_are_recovered(exponent: float) -> None:
    samples = 3 * quantiles(exponent, 60_000)
    found, scale = fit_symmetric_shape(samples)
    assert float(found) == pytest.approx(exponent, rel=0.02)
    assert float(scale) == pytest.approx(3.0, rel=0.03)


def test_many_sets_of_samples_are_fitted_as_each_alone() -> None:
    samples = np.random.default_rng(0).standard_normal((2, 3, 500))
    together = fit_shape(samples)
    alone = fit_shape(samples[1, 2])
    for of_all, of_one in zip(together, alone, strict=True):
        assert of_all.shape == (2, 3)
        assert float(of_all[1, 2]) == float(of_one)


def test_blurred_frames_are_worse_than_pristine_ones(
    model: NiqeModel, held_out: list[Frame]
) -> None:
    blurred = [cv2.GaussianBlur(frame, (0, 0), 1.0) for frame in held_out]
    assert median_score(model, blurred) > 1.3 * median_score(model, held_out)  # type: ignore[arg-type]


def test_scores_grow_with_noise(model: NiqeModel, held_out: list[Frame]) -> None:
    scores = [
        median_score(model, [noisy(frame, sigma) for frame in held_out])
        for sigma in (0, 10, 20, 40, 80, 160)
    ]
    assert scores == sorted(scores)
    assert scores[-1] > 2 * scores[0]


def test_depth_gain_and_offset_do_not_count(model: NiqeModel) -> None:
    frame = (texture(5) // 16).clip(400, 655).astype(np.uint16)
    eight_bit = (frame - 400).astype(np.uint8)
    score = niqe(model, eight_bit)
    assert niqe(model, frame) == pytest.approx(score, rel=1e-6)
    assert niqe(model, eight_bit.astype(np.uint16) * 257) == pytest.approx(score, rel=1e-6)


@pytest.mark.parametrize("shape", [(64, 64), (65, 131), (90, 64), (257, 200)])
def test_any_size_from_two_patches_on_is_scored(model: NiqeModel, shape: tuple[int, int]) -> None:
    score = niqe(model, texture(9, shape))
    assert 0 < score < 100


def test_patches_reach_all_borders() -> None:
    frame = texture(1, (95, 81))
    plain, _ = patch_features(frame, 32)
    for corner in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        changed = frame.copy()
        rows = slice(0, 16) if corner[0] == 0 else slice(-16, None)
        cols = slice(0, 16) if corner[1] == 0 else slice(-16, None)
        changed[rows, cols] = noisy(changed[rows, cols], 300)
        assert not np.allclose(patch_features(changed, 32)[0], plain)


@pytest.mark.parametrize("shape", [(63, 200), (200, 63), (1, 1)])
def test_a_frame_that_is_too_small_is_told(model: NiqeModel, shape: tuple[int, int]) -> None:
    with pytest.raises(QualityError, match=f"{shape[0]}x{shape[1]}.*64x64"):
        niqe(model, np.zeros(shape, np.uint8))


def test_a_constant_frame_has_no_score(model: NiqeModel) -> None:
    frame = np.full((96, 96), 40_000, np.uint16)
    assert np.isnan(niqe(model, frame))
    assert pristine_features(frame, 32).shape == (0, FEATURES)


def test_a_frame_that_is_half_saturated_is_scored_by_the_rest(model: NiqeModel) -> None:
    frame = texture(3)
    frame[:, 64:] = 65_535
    assert np.isfinite(niqe(model, frame))


def test_blurred_patches_are_not_fitted_on() -> None:
    frame = texture(2)
    frame[:, :64] = cv2.GaussianBlur(frame, (0, 0), 4)[:, :64]
    assert len(pristine_features(frame, 32)) <= 8 < len(patch_features(frame, 32)[0])


def test_too_few_patches_are_told() -> None:
    with pytest.raises(QualityError, match="more than 36; give more frames"):
        fit_niqe([pristine_features(texture(0), 32)], 32)
    with pytest.raises(QualityError, match="0 frames have 0 sharp patches"):
        fit_niqe([], 32)


def test_a_model_scores_the_same_from_its_file(model: NiqeModel, tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    path.write_bytes(model.to_bytes())
    read = load_niqe(path)
    assert niqe(read, texture(50)) == niqe(model, texture(50))
    assert (read.side, read.frames, read.patches) == (32, 16, model.patches)
    assert read.to_bytes() == model.to_bytes()


def stored(path: Path, model: NiqeModel, **changes: object) -> Path:
    arrays: dict[str, object] = {
        "side": model.side,
        "mean": model.mean,
        "covariance": model.covariance,
        "frames": model.frames,
        "patches": model.patches,
    }
    arrays |= changes
    np.savez(path, **{k: np.asarray(v) for k, v in arrays.items() if v is not None})  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {"mean": None},
        {"side": 33},
        {"side": 0},
        {"side": 32.0},
        {"mean": np.zeros(18)},
        {"covariance": np.full((36, 36), np.nan)},
        {"mean": np.array(["a"] * 36)},
        {"frames": np.zeros(2, int)},
    ],
)
def test_a_file_that_is_no_model_is_told(
    model: NiqeModel, tmp_path: Path, changes: dict[str, object]
) -> None:
    path = stored(tmp_path / "m.npz", model, **changes)
    with pytest.raises(QualityError, match="is not a NIQE model; make one with"):
        load_niqe(path)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 torn", b"no archive"])
def test_a_damaged_file_is_told(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "m.npz"
    path.write_bytes(data)
    with pytest.raises(QualityError, match=r"m\.npz: is not a NIQE model"):
        load_niqe(path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(QualityError, match="no such file"):
        load_niqe(tmp_path / "none.npz")


def test_real_frames_kept_aside_score_better_than_blurred_and_noisy_ones() -> None:
    files = find_frames([real_data("NUDT-SIRST") / "images"])[::40]
    frames = [read_frame(file) for file in files]
    fitted = fit_niqe([pristine_features(frame, 32) for frame in frames[::2]], 32)

    def median(change: object) -> float:
        return float(np.median([niqe(fitted, change(frame)) for frame in frames[1::2]]))  # type: ignore[operator]

    def add_noise(sigma: float) -> object:
        rng = np.random.default_rng(0)
        return lambda frame: np.rint(frame + rng.normal(0, sigma, frame.shape)).clip(0, 255)

    clean = median(lambda frame: frame)
    assert clean < median(lambda frame: cv2.GaussianBlur(frame, (0, 0), 0.7))
    levels = [median(lambda f, s=s: add_noise(s)(f).astype(np.uint8)) for s in (2, 5, 10, 20)]  # type: ignore[operator]
    assert [clean, *levels] == sorted([clean, *levels])
