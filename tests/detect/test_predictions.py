from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from detect.errors import DetectError, PredictionError
from detect.evaluate import require_ids
from detect.predictions import open_predictions
from synth.dataset import Dataset, open_dataset


def read_predictions(folder: Path, dataset: Dataset, ids: Sequence[str]) -> Iterator[Any]:
    """Pairs of prediction and label."""
    predictions = open_predictions(folder, ids)
    for id_ in ids:
        truth = dataset.read_mask(id_)
        yield predictions.read(id_, truth.shape), truth


@pytest.fixture
def dataset(tiny_set: Path) -> Dataset:
    return open_dataset(tiny_set)


def fill(folder: Path, dataset: Dataset, make: Callable[[np.ndarray], np.ndarray]) -> Path:
    folder.mkdir()
    for id_ in dataset.ids("test"):
        cv2.imwrite(str(folder / f"{id_}.png"), make(dataset.read_mask(id_)))
    return folder


@pytest.mark.parametrize(
    "make",
    [
        lambda mask: mask.astype(np.uint8),
        lambda mask: mask * np.uint8(255),
        lambda mask: mask * np.uint16(65535),
        lambda mask: mask.astype(np.uint16),
    ],
)
def test_masks_of_every_kind_are_the_labels(
    tmp_path: Path, dataset: Dataset, make: Callable[[np.ndarray], np.ndarray]
) -> None:
    folder = fill(tmp_path / "p", dataset, make)
    pairs = list(read_predictions(folder, dataset, dataset.ids("test")))
    assert len(pairs) == 3
    for found, truth in pairs:
        assert found.dtype == np.bool_
        np.testing.assert_array_equal(found, truth)


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.uint16, 65535)])
def test_probabilities_are_scaled_by_their_depth(
    tmp_path: Path, dataset: Dataset, dtype: type, top: int
) -> None:
    def ramp(mask: np.ndarray) -> np.ndarray:
        return np.linspace(0, top, mask.size).reshape(mask.shape).astype(dtype)

    folder = fill(tmp_path / "p", dataset, ramp)
    for found, truth in read_predictions(folder, dataset, dataset.ids("test")):
        expected = np.linspace(0, 1, truth.size).reshape(truth.shape)
        np.testing.assert_allclose(found, expected, atol=1 / top)


def test_one_faint_image_does_not_make_the_others_masks(tmp_path: Path, dataset: Dataset) -> None:
    folder = fill(tmp_path / "p", dataset, lambda mask: mask * np.uint8(200))
    cv2.imwrite(str(folder / f"{dataset.ids('test')[0]}.png"), np.eye(32, dtype=np.uint8))
    first, _ = next(iter(read_predictions(folder, dataset, dataset.ids("test"))))
    assert first.max() == 1 / 255


def test_masks_of_two_ranges_are_masks(tmp_path: Path, dataset: Dataset) -> None:
    ranges = iter([1, 255, 1])
    folder = fill(tmp_path / "p", dataset, lambda mask: mask * np.uint8(next(ranges)))
    for found, truth in read_predictions(folder, dataset, dataset.ids("test")):
        np.testing.assert_array_equal(found, truth)


def test_deep_images_of_shallow_values_are_not_guessed_at(tmp_path: Path, dataset: Dataset) -> None:
    folder = fill(tmp_path / "p", dataset, lambda mask: mask * np.uint16(255))
    with pytest.raises(PredictionError, match="nothing above 255"):
        list(read_predictions(folder, dataset, dataset.ids("test")))


def test_what_is_missing_double_or_of_another_size_is_named(
    tmp_path: Path, dataset: Dataset
) -> None:
    folder = fill(tmp_path / "p", dataset, lambda mask: mask * np.uint8(255))
    ids = dataset.ids("test")
    last = folder / f"{ids[-1]}.png"
    cv2.imwrite(str(last), np.zeros((32, 31), np.uint8))
    with pytest.raises(PredictionError, match=rf"{ids[-1]}\.png: is 32x31 but its label is 32x32"):
        list(read_predictions(folder, dataset, ids))
    cv2.imwrite(str(last.with_suffix(".bmp")), np.zeros((32, 32), np.uint8))
    with pytest.raises(PredictionError, match="predicts the same image"):
        list(read_predictions(folder, dataset, ids))
    last.unlink()
    last.with_suffix(".bmp").unlink()
    with pytest.raises(PredictionError, match=rf"{ids[-1]}\.png: is missing"):
        list(read_predictions(folder, dataset, ids))
    with pytest.raises(PredictionError, match="no such folder"):
        list(read_predictions(tmp_path / "q", dataset, ids))


def test_an_empty_split_is_named(tmp_path: Path, write_set: Callable[..., Path]) -> None:
    dataset = open_dataset(write_set(tmp_path / "s", test=0))
    with pytest.raises(DetectError, match="'test' is empty; choose --split train"):
        require_ids(dataset, "test")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_of_probabilities_are_taken_as_they_are(
    tmp_path: Path, dataset: Dataset, dtype: type
) -> None:
    rng = np.random.default_rng(0)
    maps = {id_: rng.random((32, 32)).astype(dtype) for id_ in dataset.ids("test")}
    for id_, values in maps.items():
        np.save(tmp_path / f"{id_}_Pred.npy", values)
    predictions = open_predictions(tmp_path, dataset.ids("test"))
    assert not predictions.masks
    for id_, values in maps.items():
        np.testing.assert_array_equal(predictions.read(id_, (32, 32)), values)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (np.full((32, 32), 2.0), "apply the sigmoid"),
        (np.full((32, 32), np.nan), "apply the sigmoid"),
        (np.zeros((2, 32, 32)), "rows and columns"),
        (np.full((32, 32), 7), "save probabilities as"),
        (np.full((32, 32), None), "is damaged, or no numpy array"),
    ],
)
def test_arrays_that_are_no_prediction_are_named(
    tmp_path: Path, dataset: Dataset, values: np.ndarray, problem: str
) -> None:
    for id_ in dataset.ids("test"):
        np.save(tmp_path / f"{id_}.npy", values)
    with pytest.raises(PredictionError, match=problem):
        open_predictions(tmp_path, dataset.ids("test"))
