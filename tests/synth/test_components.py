"""The seven components: known sensors are measured right, and what is generated has them again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from real_data import real_data

from synth.errors import NoiseError
from synth.frames import find_frames, read_frame
from synth.noise.cameras import load_noise
from synth.noise.components import (
    COMPONENTS,
    NoiseComponents,
    components_from,
    find_bad_pixels,
    generate_sequence,
    measure_components,
)
from synth.npz import read_npz

KNOWN = {"tvh": 5.0, "vh": 2.0, "tv": 1.0, "th": 0.8, "t": 0.5, "v": 1.5, "h": 2.5}
SHAPE = (60, 64, 80)


def make_sequence(
    seed: int, sigma: dict[str, float] = KNOWN, shape: tuple[int, int, int] = SHAPE
) -> np.ndarray:
    rng = np.random.default_rng(seed)
    total = np.full(shape, 1000.0)
    for name, value in sigma.items():
        size = [n if axis in name else 1 for axis, n in zip("tvh", shape, strict=True)]
        total += value * rng.standard_normal(size)
    return np.rint(total).astype(np.uint16)


def test_known_components_are_found() -> None:
    draws = [measure_components(make_sequence(seed)) for seed in range(20)]
    for name, known in KNOWN.items():
        found = np.array([draw.sigma[name] for draw in draws])
        error = np.array([draw.error[name] for draw in draws])
        assert found.mean() == pytest.approx(known, rel=0.05), name
        # Three standard errors hold nearly always, and the errors are neither too small nor large.
        strays = np.abs(found - known) / error
        assert (strays < 3).mean() >= 0.9, name
        assert 0.5 < found.std(ddof=1) / error.mean() < 2, name


def test_components_that_are_not_there_are_not_found() -> None:
    for seed in range(5):
        found = measure_components(make_sequence(seed, {"tvh": 3.0}))
        for name in COMPONENTS[1:]:
            # As variances, which are near to normal where σ is not.
            sigma, error = found.sigma[name], found.error[name]
            assert sigma**2 < 4 * max(2 * sigma * error, error**2), name


def test_correlated_noise_does_not_leak_into_rows_and_columns() -> None:
    found = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        noise = rng.standard_normal((60, 64, 82))
        noise = (noise[..., :-2] + noise[..., 1:-1] + noise[..., 2:]) * 4 / np.sqrt(3)
        found.append(measure_components(np.rint(2000 + noise).astype(np.uint16)))
    assert np.mean([f.sigma["tvh"] for f in found]) == pytest.approx(4, rel=0.01)
    # Uncorrected, the rows of a frame would have σ = 4 √(3 / 80) = 0.77.
    assert np.mean([f.sigma["tv"] for f in found]) < 0.15
    correlation = np.mean([f.correlation[2] for f in found], 0)
    np.testing.assert_allclose(correlation[:4], [1, 2 / 3, 1 / 3, 0], atol=0.02)


def test_rounding_is_not_counted_as_noise() -> None:
    found = [measure_components(make_sequence(seed, {"tvh": 0.6})) for seed in range(4)]
    assert np.mean([f.sigma["tvh"] for f in found]) == pytest.approx(0.6, rel=0.02)


def test_bad_pixels_are_found_and_do_no_harm() -> None:
    sequence = make_sequence(0)
    rng = np.random.default_rng(1)
    sequence[:, 5, 6] = 900
    sequence[:, 20, 30] = rng.integers(0, 5000, SHAPE[0])
    sequence[17, 40, 50] = 4000
    wanted = np.zeros(SHAPE[1:], bool)
    wanted[[5, 20, 40], [6, 30, 50]] = True
    np.testing.assert_array_equal(find_bad_pixels(sequence), wanted)
    found = measure_components(sequence)
    np.testing.assert_array_equal(found.bad, wanted)
    assert found.sigma["tvh"] == pytest.approx(5, rel=0.02)
    assert abs(found.kurtosis) < 0.1


def test_good_pixels_are_not_called_bad() -> None:
    assert sum(find_bad_pixels(make_sequence(seed)).sum() for seed in range(10)) <= 1


def test_a_constant_sequence_has_no_noise() -> None:
    found = measure_components(np.full((8, 16, 20), 77, np.uint8))
    assert set(found.sigma.values()) == {0.0}
    assert (found.mean, found.depth, found.bad.sum()) == (77.0, 8, 0)
    again = generate_sequence(found, (3, 16, 16), np.random.default_rng(0))
    assert again.dtype == np.uint8
    assert set(np.unique(again)) == {77}


@pytest.mark.parametrize("shape", [(3, 20, 20), (9, 15, 20), (9, 20, 15), (20, 20)])
def test_too_little_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(NoiseError, match="at least 4 frames of at least 16x16 pixels"):
        measure_components(np.zeros(shape, np.uint8))


def test_what_is_generated_has_the_components_again() -> None:
    model = measure_components(make_sequence(3))
    again = [
        measure_components(generate_sequence(model, SHAPE, np.random.default_rng(seed)))
        for seed in range(20)
    ]
    assert_same(model, again)


@pytest.mark.parametrize("name", ["LWIR", "MWIR"])
def test_real_sequences_can_be_generated(name: str) -> None:
    frames = [read_frame(path) for path in find_frames([real_data("IR-raw") / name])]
    sequence = np.stack(frames)
    model = measure_components(sequence)
    assert 0 < model.bad.sum() < 0.01 * model.bad.size
    assert abs(model.kurtosis) < 0.5
    again = [
        measure_components(generate_sequence(model, sequence.shape, np.random.default_rng(seed)))
        for seed in range(20)
    ]
    assert_same(model, again)


def assert_same(model: NoiseComponents, again: list[NoiseComponents]) -> None:
    for name in COMPONENTS:
        mean = np.mean([found.sigma[name] for found in again])
        near = max(3 * model.error[name], 0.15 * model.sigma["tvh"])
        assert abs(mean - model.sigma[name]) < near, name
    assert np.mean([f.sigma["tvh"] for f in again]) == pytest.approx(model.sigma["tvh"], rel=0.01)


def test_a_model_survives_its_file(tmp_path: Path) -> None:
    model = measure_components(make_sequence(0))
    path = tmp_path / "model.npz"
    path.write_bytes(model.to_bytes())
    read = components_from(read_npz(path, "noise"), path)
    assert (read.sigma, read.error) == (model.sigma, model.error)
    assert (read.mean, read.kurtosis, read.frames, read.depth) == (
        model.mean, model.kurtosis, model.frames, model.depth,
    )  # fmt: skip
    np.testing.assert_array_equal(read.bad, model.bad)
    np.testing.assert_array_equal(read.correlation, model.correlation)
    assert read.to_bytes() == model.to_bytes()


@pytest.mark.parametrize(
    "change",
    [
        {"sigma": np.full(7, -1.0)},
        {"sigma": np.zeros(6)},
        {"error": np.full(7, np.nan)},
        {"correlation": np.zeros((3, 4))},
        {"depth": np.array(12)},
        {"bad": np.zeros((4, 4))},
        {"mean": None},
    ],
)
def test_what_is_no_model_is_refused(tmp_path: Path, change: dict[str, np.ndarray | None]) -> None:
    path = tmp_path / "model.npz"
    path.write_bytes(measure_components(make_sequence(0, shape=(4, 16, 16))).to_bytes())
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files} | change
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(NoiseError, match=r"model\.npz: is not (a noise model|noise)"):
        load_noise(path)
    path.write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(NoiseError, match=r"model\.npz: is not noise"):
        load_noise(path)
