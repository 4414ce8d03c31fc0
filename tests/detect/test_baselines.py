"""Classical detectors against plain restatements of their papers, and what all of them share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from image_files import read_mask
from numpy.typing import NDArray
from real_data import real_data
from scipy.ndimage import center_of_mass

from detect.baselines import Baseline, baseline_names, find_saliency, segment
from detect.baselines.lowrank import measure_corners, separate_matrix, separate_tensor
from detect.errors import DetectError
from detect.evaluate import evaluate
from pipelines.cli.detect import main
from synth.dataset import open_dataset

Array = NDArray[np.generic]

frames = st.one_of(
    hnp.arrays(dtype, st.tuples(st.integers(1, 22), st.integers(1, 22)))
    for dtype in (np.uint8, np.uint16)
)
names = pytest.mark.parametrize("name", baseline_names())


def ramp_with_point(shape: tuple[int, int], at: tuple[int, int], dtype: type, gain: int) -> Array:
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    point = np.exp(-((rows - at[0]) ** 2 + (cols - at[1]) ** 2) / 2)
    return np.rint(gain * (60 + 0.3 * rows + 0.2 * cols + 60 * point)).astype(dtype)


def window(frame: Array, row: int, col: int, half: int) -> Array:
    """Cut the part of a square around a pixel that is in the frame."""
    rows = slice(max(row - half, 0), max(row + half + 1, 0))
    return frame[rows, max(col - half, 0) : max(col + half + 1, 0)]


def at_every_pixel(frame: Array, value: Callable[[int, int], float]) -> NDArray[np.float64]:
    found = np.empty(frame.shape)
    for row, col in np.ndindex(*frame.shape):
        found[row, col] = value(row, col)
    return found


# What all methods share


@names
@settings(max_examples=25, deadline=None)
@given(frame=frames)
def test_a_map_has_the_frames_size_and_is_the_same_every_time(name: str, frame: Array) -> None:
    before = frame.copy()
    saliency = find_saliency(name, frame)
    assert (saliency.shape, saliency.dtype) == (frame.shape, np.float32)
    assert (saliency >= 0).all()
    assert np.isfinite(saliency).all()
    assert np.array_equal(saliency, find_saliency(name, frame))
    assert np.array_equal(frame, before)


@names
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 9), (12, 14), (120, 90)])
@pytest.mark.parametrize(("dtype", "value"), [(np.uint8, 0), (np.uint8, 201), (np.uint16, 65535)])
def test_a_flat_frame_holds_nothing(
    name: str, shape: tuple[int, int], dtype: type, value: int
) -> None:
    frame = np.full(shape, value, dtype)
    assert not find_saliency(name, frame).any()
    assert not Baseline(name)(frame).any()


@names
@pytest.mark.parametrize(("dtype", "gain"), [(np.uint8, 1), (np.uint16, 37)])
@pytest.mark.parametrize("at", [(30, 41), (59, 7)])
def test_a_point_on_a_ramp_is_found(name: str, dtype: type, gain: int, at: tuple[int, int]) -> None:
    mask = Baseline(name)(ramp_with_point((66, 80), at, dtype, gain))
    assert mask.any()
    assert np.linalg.norm(np.subtract(center_of_mass(mask), at)) <= 1


@pytest.mark.parametrize("name", ["ipi", "pstnn"])
def test_patches_do_not_see_gain_and_offset_of_16_bits(name: str) -> None:
    frame = ramp_with_point((96, 100), (44, 61), np.uint8, 1).astype(np.uint16)
    saliency = find_saliency(name, frame)
    other = find_saliency(name, frame * np.uint16(64) + np.uint16(3000))
    np.testing.assert_allclose(other, 64 * saliency, rtol=1e-3, atol=1e-2 * other.max())


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(DetectError, match="did you mean 'top-hat'"):
        find_saliency("tophat", np.zeros((3, 3), np.uint8))


# Filters and contrasts, pixel by pixel


@settings(max_examples=30, deadline=None)
@given(frame=frames)
def test_top_hat_is_what_an_opening_removes(frame: Array) -> None:
    eroded = at_every_pixel(frame, lambda row, col: window(frame, row, col, 2).min())
    opened = at_every_pixel(frame, lambda row, col: window(eroded, row, col, 2).max())
    assert np.array_equal(find_saliency("top-hat", frame), frame - opened)


@settings(max_examples=30, deadline=None)
@given(frame=frames)
def test_max_median_is_what_exceeds_all_four_medians(frame: Array) -> None:
    padded = np.pad(frame.astype(int), 2, mode="symmetric")

    def exceed(row: int, col: int) -> float:
        square = padded[row : row + 5, col : col + 5]
        lines = (square[2], square[:, 2], np.diag(square), np.diag(square[::-1]))
        return max(square[2, 2] - max(np.median(line) for line in lines), 0)

    assert np.array_equal(find_saliency("max-median", frame), at_every_pixel(frame, exceed))


AROUND = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1) if down or right]


@settings(max_examples=20, deadline=None)
@given(frame=frames)
def test_rlcm_is_the_least_contrast_with_a_neighbour(frame: Array) -> None:
    def brightest(row: int, col: int, count: int) -> float | None:
        cell = np.sort(window(frame, row, col, 4), axis=None)[::-1].astype(float)
        return cell[:count].mean() if cell.size else None

    def contrast(row: int, col: int) -> float:
        best = 0.0
        for inner, outer in ((2, 4), (5, 9), (9, 16)):
            centre = brightest(row, col, inner)
            cells = [brightest(row + 9 * i, col + 9 * j, outer) for i, j in AROUND]
            ratios = [centre / max(cell, 1) for cell in cells if cell is not None]
            if ratios:
                best = max(best, min(ratios) * centre - centre)
        return best

    expected = at_every_pixel(frame, contrast)
    np.testing.assert_allclose(find_saliency("rlcm", frame), expected, rtol=1e-5, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(frame=frames)
def test_mpcm_is_the_least_product_of_opposite_differences(frame: Array) -> None:
    padded = np.pad(frame.astype(float), 18, mode="edge")

    def contrast(row: int, col: int) -> float:
        best = 0.0
        for side in (3, 5, 7, 9):
            half = side // 2

            def mean(down: int, right: int, side: int = side, half: int = half) -> float:
                top, left = row + 18 + down * side, col + 18 + right * side
                return padded[top - half : top + half + 1, left - half : left + half + 1].mean()

            centre = mean(0, 0)
            products = [
                (centre - mean(down, right)) * (centre - mean(-down, -right))
                for down, right in ((-1, -1), (-1, 0), (-1, 1), (0, 1))
            ]
            best = max(best, min(products))
        return best

    expected = at_every_pixel(frame, contrast)
    scale = float(frame.max()) ** 2
    np.testing.assert_allclose(find_saliency("mpcm", frame), expected, rtol=1e-5, atol=1e-7 * scale)


# Separations


def low_rank_plus_sparse(
    shape: tuple[int, int], rank: int, share: float, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    low_rank = rng.normal(size=(shape[0], rank)) @ rng.normal(size=(rank, shape[1]))
    return low_rank, np.where(rng.random(shape) < share, rng.choice([-9.0, 9.0], shape), 0)


@pytest.mark.parametrize("shape", [(90, 130), (130, 90)])
def test_a_matrix_comes_apart_into_what_it_was_made_of(shape: tuple[int, int]) -> None:
    low_rank, sparse = low_rank_plus_sparse(shape, 4, 0.05, seed=1)
    found, rest = separate_matrix(low_rank + sparse, 1 / np.sqrt(max(shape)))
    assert np.linalg.norm(found - low_rank) < 0.02 * np.linalg.norm(low_rank)
    assert np.linalg.norm(rest - sparse) < 0.02 * np.linalg.norm(sparse)
    assert np.linalg.matrix_rank(found, tol=1e-3) == 4
    assert (np.sign(rest) == np.sign(sparse)).mean() > 0.98


def two_block_gradient(
    data: NDArray[np.float64], sparsity: float, iterations: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Run accelerated proximal gradient as its papers state it, with both blocks and the SVD."""
    values = np.linalg.svd(data, compute_uv=False)
    mu, floor = values[1], 0.005 * values[3]
    a = a_before = e = e_before = np.zeros_like(data)
    t = t_before = 1.0
    for _ in range(iterations):
        share = (t_before - 1) / t
        y_a, y_e = a + share * (a - a_before), e + share * (e - e_before)
        gradient = y_a + y_e - data
        u, s, v = np.linalg.svd(y_a - gradient / 2, full_matrices=False)
        a_before, e_before = a, e
        a = u @ np.diag(np.maximum(s - mu / 2, 0)) @ v
        step = y_e - gradient / 2
        e = np.sign(step) * np.maximum(np.abs(step) - sparsity * mu / 2, 0)
        mu = max(0.9 * mu, floor)
        t_before, t = t, (1 + np.sqrt(1 + 4 * t * t)) / 2
    return a, e


def test_the_gradient_of_one_block_is_that_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detect.baselines.lowrank._IPI_ITERATIONS", 25)
    monkeypatch.setattr("detect.baselines.lowrank._IPI_STEADY", 1000)
    monkeypatch.setattr("detect.baselines.lowrank._IPI_RANK_SHARE", 1.0)
    data = sum(low_rank_plus_sparse((40, 60), 4, 0.05, seed=2))
    found = separate_matrix(data, 0.1)
    for part, expected in zip(found, two_block_gradient(data, 0.1, 25), strict=True):
        np.testing.assert_allclose(part, expected, atol=1e-3)


def slice_by_slice(
    data: NDArray[np.float64], sparsity: float, prior: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Run PSTNN's method of multipliers, every Fourier slice and its conjugate on their own."""
    slices = len(data)
    unfolded = np.linalg.svd(data.reshape(slices, -1), compute_uv=False)
    free = max(sum(value >= 0.1 * unfolded[0] for value in unfolded), 1)
    t, y = np.zeros_like(data), np.zeros_like(data)
    weight = np.ones_like(data)
    mu, positive = 2e-3, 0
    for _ in range(500):
        spectrum = np.fft.fft(data - t - y / mu, axis=0)
        for index in range(slices):
            u, s, v = np.linalg.svd(spectrum[index], full_matrices=False)
            kept = np.concatenate([s[:free], np.maximum(s[free:] - 1 / mu, 0)])
            spectrum[index] = u @ np.diag(kept) @ v
        b = np.fft.ifft(spectrum, axis=0).real
        rest = data - b - y / mu
        t = np.sign(rest) * np.maximum(np.abs(rest) - weight * sparsity / mu, 0)
        weight = free / (np.abs(t) + 0.01) / prior
        count = (t > 0).sum()
        error = np.linalg.norm(b + t - data) / np.linalg.norm(data)
        if error < 1e-3 or (positive > 0 and count == positive):
            break
        positive = count
        y = y + mu * (b + t - data)
        mu *= 1.05
    return t


@pytest.mark.parametrize("slices", [6, 7])
def test_a_tensor_comes_apart_as_the_paper_says(slices: int) -> None:
    rng = np.random.default_rng(3)
    background = np.einsum("kr,mr,nr->kmn", *(rng.uniform(1, 8, (n, 2)) for n in (slices, 16, 20)))
    target = np.where(rng.random(background.shape) < 0.003, 90.0, 0.0)
    prior = rng.uniform(0.2, 1, background.shape)
    sparsity = 0.6 / np.sqrt(20 * slices)
    low_rank, sparse = separate_tensor(background + target, sparsity, prior)
    expected = slice_by_slice(background + target, sparsity, prior)
    np.testing.assert_allclose(sparse, expected, atol=1e-6)
    assert ((sparse > 45) == (target > 0)).all()
    assert np.abs(low_rank - background).max() < 45


def test_nothing_is_target_where_the_prior_is_zero() -> None:
    rng = np.random.default_rng(4)
    tensor = rng.uniform(0, 255, (4, 12, 12))
    prior = np.zeros(tensor.shape)
    prior[:, :6] = rng.uniform(0.1, 1, (4, 6, 12))
    _, sparse = separate_tensor(tensor, 0.05, prior)
    assert sparse[:, :6].any()
    assert not sparse[:, 6:].any()


def test_corners_outweigh_edges() -> None:
    image = np.zeros((40, 40))
    image[10:, 20:] = 100
    corners = measure_corners(image)
    assert (corners.min(), corners.max()) == (0, 1)
    assert (
        np.abs(np.subtract(np.unravel_index(corners.argmax(), corners.shape), (10, 20))).max() <= 1
    )
    assert corners[30, 18:22].max() < 1e-6
    assert corners[8:12, 30].max() < 1e-6
    assert not measure_corners(np.full((1, 5), 7.0)).any()


# Thresholds


@settings(max_examples=50, deadline=None)
@given(
    saliency=hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 9), st.integers(1, 9)),
        elements=st.floats(0, 1e6, width=32),
    ),
    sigmas=st.floats(0, 6),
)
def test_thresholds_are_those_of_the_literature(saliency: Array, sigmas: float) -> None:
    values = saliency.astype(float)
    spread = np.sqrt(((values - values.mean()) ** 2).mean())
    adaptive, sigma = segment(saliency), segment(saliency, "sigma", sigmas)
    assert np.array_equal(
        adaptive, values > max(0.7 * values.max(), values.mean() + 0.5 * values.std())
    )
    clear = np.abs(values - values.mean() - sigmas * spread) > 1e-6 * (1 + values.max())
    assert np.array_equal(sigma[clear], (values > values.mean() + sigmas * spread)[clear])
    if values.min() == values.max():
        assert not adaptive.any()
        assert not sigma.any()


# The command


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["baseline", *(str(a) for a in arguments)])


def test_help_lists_the_methods() -> None:
    text = call("--help").stdout
    assert "detect baseline top-hat" in text
    assert all(f"  {name} " in text for name in baseline_names())


@names
@pytest.mark.parametrize("protocol", ["strict", "basicirstd"])
def test_masks_score_what_the_command_says(
    name: str, protocol: str, tiny_set: Path, tmp_path: Path
) -> None:
    out = tmp_path / "masks"
    result = call(name, tiny_set, "--protocol", protocol, "--out", out, "--jobs", 1, "--json")
    assert result.exit_code == 0, result.output
    scores = json.loads(result.stdout)
    assert (scores["baseline"], scores["threshold_rule"]) == (name, "adaptive")
    judged = CliRunner().invoke(
        main, ["score", str(out), str(tiny_set), "--protocol", protocol, "--json"]
    )
    read_back = json.loads(judged.stdout)
    shared = set(scores) & set(read_back)
    assert {"iou", "pd", "fa", "hiou", "images", "targets", "protocol"} <= shared
    assert {key: scores[key] for key in shared} == {key: read_back[key] for key in shared}
    dataset = open_dataset(tiny_set)
    for id_ in dataset.ids("test"):
        expected = Baseline(name)(dataset.read_image(id_))
        assert np.array_equal(read_mask(out / f"{id_}.png"), expected)


def test_workers_change_nothing(tiny_set: Path) -> None:
    one, two = (call("mpcm", tiny_set, "--split", "all", "--jobs", n, "--json") for n in (1, 2))
    assert one.exit_code == 0, one.output
    assert one.stdout == two.stdout


def test_a_rule_with_more_sigmas_takes_less(tiny_set: Path) -> None:
    found = []
    for sigmas in (0, 4, 1000):
        result = call(
            "top-hat",
            tiny_set,
            "--threshold-rule",
            "sigma",
            "--sigmas",
            sigmas,
            "--jobs",
            1,
            "--json",
        )
        found.append(json.loads(result.stdout)["recall"])
    assert found[0] >= found[1] > found[2] == 0


def test_wrong_use_is_one_line(tiny_set: Path) -> None:
    for arguments, part in (
        (("tophat", tiny_set), "'top-hat'"),
        (("top-hat", tiny_set, "--out", tiny_set / "masks"), "--out"),
        (("top-hat", tiny_set, "--threshold-rule", "otsu"), "--threshold-rule"),
    ):
        result = call(*arguments)
        assert result.exit_code == 2
        assert part in result.stderr
        assert not result.stdout
    before = cv2.imread(str(next((tiny_set / "masks").iterdir())), cv2.IMREAD_UNCHANGED)
    assert before.max() == 255
    result = call("top-hat", tiny_set / "none", "--jobs", 1)
    assert result.exit_code == 1
    assert "none" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


# Real frames


def test_top_hat_scores_what_the_tables_say() -> None:
    dataset = open_dataset(real_data("NUDT-SIRST"))
    pairs = (dataset.read_pair(id_) for id_ in dataset.ids("test"))
    scores = evaluate(Baseline("top-hat"), pairs, "basicirstd").scores()
    assert scores["iou"] == pytest.approx(0.2072, abs=0.010)
    assert scores["pd"] == pytest.approx(0.7841, abs=0.020)
    assert scores["fa"] == pytest.approx(166.7e-6, rel=0.15)
