"""The seven components: known sensors are measured right, and what is generated has them again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from real_data import real_data

from synth.disk.folders import find_frames
from synth.disk.npz import read_npz
from synth.errors import NoiseError
from synth.frames import read_frame
from synth.noise.cameras import load_noise
from synth.noise.components import (
    COMPONENTS,
    NoiseComponents,
    components_from,
    estimate_variances,
    find_bad_pixels,
    generate_sequence,
    measure_components,
)

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


# Filters over time, rows and columns that colour the tvh noise, of lags below `LAGS`.
FILTERS = {
    "white": ([1.0], [1.0], [1.0]),
    "blurred": ([1.0], [0.25, 1.0, 0.25], [0.5, 1.0, 0.5]),
    "blurred and slow": ([1.0, 0.5], [0.25, 1.0, 0.25], [0.5, 1.0, 0.5]),
}


def simulate(
    rng: np.random.Generator,
    sigma: dict[str, float],
    noise: str,
    shape: tuple[int, int, int] = (20, 24, 32),
) -> np.ndarray:
    """A sequence whose tvh noise is coloured by a filter along each axis."""
    filters = FILTERS[noise]
    field = rng.standard_normal([n + len(f) - 1 for n, f in zip(shape, filters, strict=True)])
    for axis, (length, taps) in enumerate(zip(shape, filters, strict=True)):
        parts = [
            weight * np.moveaxis(field, axis, 0)[at : at + length] for at, weight in enumerate(taps)
        ]
        field = np.moveaxis(sum(parts) / np.linalg.norm(taps), 0, axis)
    total = 1000 + sigma["tvh"] * field
    for name, value in sigma.items():
        if name != "tvh":
            size = [n if axis in name else 1 for axis, n in zip("tvh", shape, strict=True)]
            total += value * rng.standard_normal(size)
    return np.rint(total).astype(np.uint16)


@pytest.mark.parametrize("noise", ["white", "blurred and slow"])
@pytest.mark.parametrize("present", [*COMPONENTS, "all"])
def test_variances_are_unbiased_and_their_errors_right(present: str, noise: str) -> None:
    """Alone, in tvh noise of 1 DN that rounding needs, and mixed; in DN², which are normal at 0.

    The seeds are fixed. 100 draws tell a spread within 8%, so right errors fail the limit of 30%
    about once in 10,000 comparisons; unbiased means fail theirs once in 370. Neither happens with
    these seeds.
    """
    sigma = KNOWN if present == "all" else {"tvh": 1.0} | {present: 2.0}
    seed = [*COMPONENTS, "all"].index(present)
    draws = [
        estimate_variances(
            simulate(np.random.default_rng((seed, draw)), sigma, noise).astype(np.float64),
            np.zeros((24, 32), bool),
        )
        for draw in range(100)
    ]
    for number, name in enumerate(COMPONENTS):
        found = np.array([variance[number] for variance, *_ in draws])
        spread = found.std(ddof=1)
        away = (found.mean() - sigma.get(name, 0.0) ** 2) / (spread / np.sqrt(len(found)))
        assert abs(away) < 3, name
        error = np.sqrt(np.mean([error[number] ** 2 for _, error, *_ in draws]))
        assert error == pytest.approx(spread, rel=0.3), name


def test_known_components_are_found() -> None:
    draws = [measure_components(make_sequence(seed)) for seed in range(20)]
    for name, known in KNOWN.items():
        found = np.array([draw.sigma[name] for draw in draws])
        error = np.array([draw.error[name] for draw in draws])
        # σ is the root of an unbiased variance, and so too small by a part of its error.
        assert found.mean() == pytest.approx(known, rel=0.05), name
        assert (np.abs(found - known) / error < 3).mean() >= 0.9, name


@pytest.mark.parametrize("noise", FILTERS)
def test_components_that_are_not_there_are_not_found(noise: str) -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        found = measure_components(simulate(rng, {"tvh": 3.0}, noise, SHAPE))
        for name in COMPONENTS[1:]:
            # As variances, which are near to normal where σ is not.
            sigma, error = found.sigma[name], found.error[name]
            assert sigma**2 < 4 * max(2 * sigma * error, error**2), name


def test_correlation_is_that_of_the_noise() -> None:
    rng = np.random.default_rng(0)
    found = [measure_components(simulate(rng, {"tvh": 4.0}, "blurred and slow")) for _ in range(20)]
    correlation = np.array([one.correlation[:, :4] for one in found])
    for row, taps in zip(np.moveaxis(correlation, 1, 0), FILTERS["blurred and slow"], strict=True):
        whole = np.correlate(taps, taps, "full")[len(taps) - 1 :]
        known = np.pad(whole / whole[0], (0, 4))[:4]
        error = row.std(0, ddof=1)[1:] / np.sqrt(len(row))
        # A twelfth of a DN² of white rounding lowers correlations by half a percent.
        assert (np.abs(row.mean(0) - known)[1:] < 3 * error + 0.005 * known[1:]).all()


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


def test_generated_noise_correlates_within_a_frame_alone() -> None:
    correlation = np.eye(1, 9)[0] * np.ones((3, 1))
    correlation[:, 1:3] = 0.5, 0.2
    model = replace(
        measure_components(make_sequence(0, {"tvh": 20.0})), correlation=correlation, mean=1000.0
    )
    noise = generate_sequence(model, (200, 40, 50), np.random.default_rng(0)) - 1000.0
    scale = (noise**2).mean()
    assert scale == pytest.approx(model.sigma["tvh"] ** 2, rel=0.02)
    for lag, known in ((1, 0.5), (2, 0.2), (3, 0.0)):
        assert (noise[:, lag:] * noise[:, :-lag]).mean() / scale == pytest.approx(known, abs=0.02)
        assert (noise[..., lag:] * noise[..., :-lag]).mean() / scale == pytest.approx(
            known, abs=0.02
        )
        assert abs((noise[lag:] * noise[:-lag]).mean() / scale) < 0.02
    # No border is the neighbour of the opposite one.
    assert abs((noise[:, 0] * noise[:, -1]).mean() / scale) < 0.05
    assert abs((noise[..., 0] * noise[..., -1]).mean() / scale) < 0.05


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_frames_of_few_rows_have_the_same_noise(rows: int) -> None:
    correlation = np.eye(1, 9)[0] * np.ones((3, 1))
    correlation[:, 1:3] = 0.5, 0.2
    model = replace(
        measure_components(make_sequence(0, {"tvh": 20.0})), correlation=correlation, mean=1000.0
    )
    noise = generate_sequence(model, (4000, rows, 20), np.random.default_rng(0)) - 1000.0
    scale = (noise**2).mean()
    assert scale == pytest.approx(model.sigma["tvh"] ** 2, rel=0.02)
    for apart in range(1, rows):
        known = correlation[1, apart]
        found = (noise[:, apart:] * noise[:, :-apart]).mean() / scale
        assert found == pytest.approx(known, abs=0.03)


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
        {"correlation": np.full((3, 9), 1e9)},
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
