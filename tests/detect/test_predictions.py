import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pytest
from prediction_cases import make_case

from detect.errors import DetectError, PredictionError
from detect.evaluate import require_ids
from detect.predictions import open_predictions
from synth.dataset import Dataset, open_dataset
from synth.errors import FrameError

Pair = tuple[np.ndarray, np.ndarray]


@pytest.fixture
def dataset(tiny_set: Path) -> Dataset:
    return open_dataset(tiny_set)


def fill(
    folder: Path, dataset: Dataset, make: Callable[[np.ndarray], np.ndarray], ending: str = ".png"
) -> Path:
    folder.mkdir()
    for id_ in dataset.ids("test"):
        values = make(dataset.read_mask(id_))
        if ending.endswith(".npy"):
            np.save(folder / f"{id_}{ending}", values)
        else:
            cv2.imwrite(str(folder / f"{id_}{ending}"), values)
    return folder


def read_pairs(folder: Path, dataset: Dataset) -> Iterator[Pair]:
    ids = dataset.ids("test")
    predictions = open_predictions(folder, ids)
    for id_ in ids:
        truth = dataset.read_mask(id_)
        yield predictions.read(id_, truth.shape), truth


@pytest.mark.parametrize(
    ("make", "ending"),
    [
        (lambda mask: mask.astype(np.uint8), ".png"),
        (lambda mask: mask * np.uint8(255), ".png"),
        (lambda mask: mask * np.uint8(255), "_Pred.png"),
        (lambda mask: mask * np.uint8(255), ".bmp"),
        (lambda mask: mask * np.uint16(65535), ".png"),
        (lambda mask: mask.astype(np.uint16), ".tif"),
        (lambda mask: np.dstack([mask * np.uint8(255)] * 3), ".png"),
        (lambda mask: mask, ".npy"),
        (lambda mask: mask.astype(np.int64), "_Pred.npy"),
        (lambda mask: mask.astype(np.float32), ".npy"),
        (lambda mask: mask[None, None] * np.uint8(255), ".npy"),
    ],
)
def test_masks_of_every_kind_are_the_labels(
    tmp_path: Path, dataset: Dataset, make: Callable[[np.ndarray], np.ndarray], ending: str
) -> None:
    folder = fill(tmp_path / "p", dataset, make, ending)
    pairs = list(read_pairs(folder, dataset))
    assert len(pairs) == 3
    for found, truth in pairs:
        assert found.dtype == np.bool_
        np.testing.assert_array_equal(found, truth)


def ramp(mask: np.ndarray) -> np.ndarray:
    return np.linspace(0, 1, mask.size).reshape(mask.shape)


@pytest.mark.parametrize(
    ("make", "ending", "step"),
    [
        (lambda mask: (ramp(mask) * 255).astype(np.uint8), ".png", 1 / 255),
        (lambda mask: (ramp(mask) * 65535).astype(np.uint16), ".png", 1 / 65535),
        (lambda mask: (ramp(mask) * 65535).astype(np.uint16), ".npy", 1 / 65535),
        (lambda mask: ramp(mask).astype(np.float32), ".npy", 1e-7),
        (ramp, ".npy", 1e-15),
    ],
)
def test_probabilities_are_scaled_by_their_depth(
    tmp_path: Path,
    dataset: Dataset,
    make: Callable[[np.ndarray], np.ndarray],
    ending: str,
    step: float,
) -> None:
    folder = fill(tmp_path / "p", dataset, make, ending)
    for found, truth in read_pairs(folder, dataset):
        np.testing.assert_allclose(found, ramp(truth), atol=step)


def test_one_faint_image_does_not_make_the_others_masks(tmp_path: Path, dataset: Dataset) -> None:
    folder = fill(tmp_path / "p", dataset, lambda mask: (ramp(mask) * 200).astype(np.uint8))
    cv2.imwrite(str(folder / f"{dataset.ids('test')[0]}.png"), np.eye(32, dtype=np.uint8))
    first, _ = next(read_pairs(folder, dataset))
    assert first.max() == 1 / 255


RED = (0, 0, 255)


@pytest.mark.parametrize(
    ("make", "ending"),
    [
        (lambda mask: mask * np.uint8(38), ".png"),
        (lambda mask: mask * np.uint16(2), ".png"),
        (lambda mask: mask * np.uint16(255), ".png"),
        (lambda mask: mask[..., None] * np.array(RED, np.uint8), ".png"),
        (lambda mask: np.dstack([mask * np.uint8(0)] * 3 + [mask * np.uint8(128)]), ".png"),
        (lambda mask: mask * np.int64(7), ".npy"),
    ],
)
def test_masks_of_one_value_beside_0_are_masks(
    tmp_path: Path, dataset: Dataset, make: Callable[[np.ndarray], np.ndarray], ending: str
) -> None:
    folder = fill(tmp_path / "p", dataset, make, ending)
    for found, truth in read_pairs(folder, dataset):
        np.testing.assert_array_equal(found, truth)


def test_several_labels_are_refused_until_one_is_chosen(tmp_path: Path, dataset: Dataset) -> None:
    values = iter([1, 2, 2])
    folder = fill(tmp_path / "p", dataset, lambda mask: mask * np.uint8(next(values)))
    ids = dataset.ids("test")
    with pytest.raises(PredictionError, match=r"1 \(1 mask, .*\) and 2 \(2 masks, .*--predicted"):
        open_predictions(folder, ids)
    for label, wanted in ((1, [True, False, False]), ("any", [True, True, True])):
        chosen = open_predictions(folder, ids, label)
        found = [chosen.read(id_, (32, 32)).any() for id_ in ids]
        assert found == wanted
    with pytest.raises(PredictionError, match="no mask holds the label 3"):
        open_predictions(folder, ids, 3)


def test_masks_of_two_ranges_are_masks(tmp_path: Path, dataset: Dataset) -> None:
    ranges = iter([1, 255, 1])
    folder = fill(tmp_path / "p", dataset, lambda mask: mask * np.uint8(next(ranges)))
    for found, truth in read_pairs(folder, dataset):
        np.testing.assert_array_equal(found, truth)


def test_files_of_other_images_are_left_alone(tmp_path: Path, dataset: Dataset) -> None:
    folder = fill(tmp_path / "p", dataset, lambda mask: mask * np.uint8(255), "_Pred.png")
    for id_ in dataset.ids("test"):
        (folder / f"{id_}_GT.png").write_bytes(b"not an image")
    (folder / "notes.txt").write_text("ours")
    assert len(list(read_pairs(folder, dataset))) == 3


def test_only_masks_are_refused_where_probabilities_are_needed(
    tmp_path: Path, dataset: Dataset
) -> None:
    ids = dataset.ids("test")
    folder = fill(tmp_path / "p", dataset, lambda mask: mask * np.uint8(255))
    with pytest.raises(PredictionError, match=rf"{folder}: holds masks"):
        open_predictions(folder, ids).require_probabilities()
    cv2.imwrite(str(folder / f"{ids[0]}.png"), np.arange(1024, dtype=np.uint16).reshape(32, 32))
    open_predictions(folder, ids).require_probabilities()


@pytest.mark.parametrize(
    ("make", "ending", "problem"),
    [
        (lambda mask: (ramp(mask) * 255).astype(np.uint16), ".png", "nothing above 255"),
        (lambda mask: mask * 9.0 - 4.5, ".npy", r"\.npy: holds -4.5 to 4.5; .* sigmoid"),
        (lambda mask: mask * np.nan, ".npy", "between 0 and 1"),
        (lambda mask: mask * np.int64(-1), ".npy", "holds int64 values"),
        (lambda mask: mask * 1j, ".npy", "holds complex128 values"),
        (lambda mask: np.stack([mask, mask]), ".npy", r"shape \(2, 32, 32\)"),
        (lambda mask: np.zeros((0, 4)), ".npy", "array"),
        (lambda mask: np.array([{}]), ".npy", "no numpy array"),
    ],
)
def test_values_that_are_not_clear_are_not_guessed_at(
    tmp_path: Path,
    dataset: Dataset,
    make: Callable[[np.ndarray], np.ndarray],
    ending: str,
    problem: str,
) -> None:
    folder = fill(tmp_path / "p", dataset, make, ending)
    with pytest.raises(PredictionError, match=problem):
        list(read_pairs(folder, dataset))


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"no array", b"PK\x03\x04" + bytes(18)])
def test_damaged_arrays_are_named(tmp_path: Path, dataset: Dataset, content: bytes) -> None:
    folder = fill(tmp_path / "p", dataset, lambda mask: mask, ".npy")
    file = folder / f"{dataset.ids('test')[1]}.npy"
    file.write_bytes(content)
    with pytest.raises(PredictionError, match=rf"{file}: is damaged, or no numpy array"):
        open_predictions(folder, dataset.ids("test"))
    whole = (folder / f"{dataset.ids('test')[0]}.npy").read_bytes()
    for part in (whole[:-5], whole.replace(b"(32, 32)", b"(9000000,9000000)")):
        file.write_bytes(part)
        with pytest.raises(PredictionError, match=rf"{file}: is damaged, or no numpy array"):
            open_predictions(folder, dataset.ids("test"))


@pytest.mark.parametrize("ending", [".png", ".npy"])
def test_what_is_missing_double_or_of_another_size_is_named(
    tmp_path: Path, dataset: Dataset, ending: str
) -> None:
    folder = fill(tmp_path / "p", dataset, lambda mask: mask * np.uint8(255), ending)
    ids = dataset.ids("test")
    last = folder / f"{ids[-1]}{ending}"
    if ending == ".npy":
        np.save(last, np.zeros((32, 31), bool))
    else:
        cv2.imwrite(str(last), np.zeros((32, 31), np.uint8))
    with pytest.raises(PredictionError, match=rf"{last}: is 32x31 but its label is 32x32"):
        list(read_pairs(folder, dataset))
    cv2.imwrite(str(last.with_suffix(".bmp")), np.zeros((32, 32), np.uint8))
    with pytest.raises(PredictionError, match="predicts the same image"):
        list(read_pairs(folder, dataset))
    last.unlink()
    last.with_suffix(".bmp").unlink()
    with pytest.raises(PredictionError, match=rf"{ids[-1]}\.png: is missing"):
        list(read_pairs(folder, dataset))
    (folder / f"{ids[0]}{ending}").unlink()
    with pytest.raises(PredictionError, match=rf"{ids[0]}\.png: is missing.*\(2 are missing\)"):
        list(read_pairs(folder, dataset))
    with pytest.raises(PredictionError, match="no such folder"):
        open_predictions(tmp_path / "q", ids)


def test_an_empty_split_is_named(tmp_path: Path, write_set: Callable[..., Path]) -> None:
    dataset = open_dataset(write_set(tmp_path / "s", test=0))
    with pytest.raises(DetectError, match="'test' is empty; choose --split train"):
        require_ids(dataset, "test")


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_predictions_in_folders_and_in_other_forms_of_unicode_are_found(
    tmp_path: Path, form: Literal["NFC", "NFD"]
) -> None:
    folder = tmp_path / "p" / "rec1"
    folder.mkdir(parents=True)
    mask = np.eye(8, dtype=np.uint8)
    cv2.imwrite(str(folder / f"{unicodedata.normalize(form, 'é1')}.png"), mask)
    found = open_predictions(tmp_path / "p", ["rec1_é1"]).read("rec1_é1", (8, 8))
    np.testing.assert_array_equal(found, mask == 1)


def number_instances(mask: np.ndarray, number: int) -> np.ndarray:
    """So many instances of 2 x 2 pixels, numbered from 1."""
    found = np.zeros_like(mask, np.uint8)
    for at in range(number):
        row, col = divmod(at, mask.shape[1] // 3)
        found[3 * row : 3 * row + 2, 3 * col : 3 * col + 2] = at + 1
    return found


@pytest.mark.parametrize("number", [3, 17, 60])
@pytest.mark.parametrize(
    ("dtype", "ending"),
    [(np.uint8, ".png"), (np.uint16, ".png"), (np.int32, ".npy"), (np.uint8, ".npy")],
)
def test_numbers_of_instances_are_no_probabilities(
    tmp_path: Path, dataset: Dataset, number: int, dtype: type, ending: str
) -> None:
    folder = fill(
        tmp_path / "p", dataset, lambda mask: number_instances(mask, number).astype(dtype), ending
    )
    ids = dataset.ids("test")
    with pytest.raises(PredictionError, match="--predicted"):
        open_predictions(folder, ids)
    found = open_predictions(folder, ids, "any").read(ids[0], (32, 32))
    np.testing.assert_array_equal(found, number_instances(np.zeros((32, 32)), number) > 0)


def test_faint_probabilities_of_few_values_are_read(tmp_path: Path, dataset: Dataset) -> None:
    folder = fill(tmp_path / "p", dataset, lambda mask: (ramp(mask) * 10).astype(np.uint8))
    for found, _ in read_pairs(folder, dataset):
        assert found.max() == 10 / 255


@pytest.mark.parametrize(
    ("odd", "ending"),
    [
        (lambda mask: mask.astype(np.uint8), ".npy"),
        (lambda mask: mask.astype(np.uint8), ".png"),
        (lambda mask: mask * np.uint8(38), ".png"),
        (lambda mask: mask.astype(np.int64), ".npy"),
        (lambda mask: mask[..., None] * np.array([0, 0, 255], np.uint8), ".png"),
        (lambda mask: (ramp(mask) * 65535).astype(np.int32), ".npy"),
        (lambda mask: (ramp(mask) * 200).astype(np.int32), ".npy"),
        (lambda mask: np.dstack([mask * np.uint8(255)] * 2 + [mask * np.uint8(255)] * 2), ".png"),
    ],
)
def test_a_file_without_a_scale_among_probabilities_is_named(
    tmp_path: Path,
    dataset: Dataset,
    odd: Callable[[np.ndarray], np.ndarray],
    ending: str,
) -> None:
    folder = fill(tmp_path / "p", dataset, ramp, ".npy")
    first = dataset.ids("test")[0]
    (folder / f"{first}.npy").unlink()
    mask = np.eye(32, dtype=bool)
    if ending == ".npy":
        np.save(folder / f"{first}.npy", odd(mask))
    else:
        cv2.imwrite(str(folder / f"{first}.png"), odd(mask))
    with pytest.raises(PredictionError, match=rf"{first}\{ending}: h.* are probabilities"):
        open_predictions(folder, dataset.ids("test"))


@pytest.mark.parametrize("ending", [".npy", ".png"])
def test_bool_arrays_beside_probabilities_are_0_and_1(
    tmp_path: Path, dataset: Dataset, ending: str
) -> None:
    make = ramp if ending == ".npy" else lambda mask: (ramp(mask) * 255).astype(np.uint8)
    folder = fill(tmp_path / "p", dataset, make, ending)
    first = dataset.ids("test")[0]
    (folder / f"{first}{ending}").unlink()
    np.save(folder / f"{first}.npy", np.eye(32, dtype=bool))
    found = open_predictions(folder, dataset.ids("test")).read(first, (32, 32))
    np.testing.assert_array_equal(found, np.eye(32))


def test_probabilities_have_no_label(tmp_path: Path, dataset: Dataset) -> None:
    folder = fill(tmp_path / "p", dataset, ramp, ".npy")
    with pytest.raises(PredictionError, match=r"\.npy: holds probabilities.* --predicted"):
        open_predictions(folder, dataset.ids("test"), 1)


# What a person can do about it.
WAYS_OUT = re.compile(r"save|give|write|divide|apply|predict at|remove|must be|replace|copy|again")


def read_folder(number: int, count: int, root: Path) -> tuple[str, int]:
    """What became of a folder drawn at random, and its number of files; a wrong reading fails."""
    case = make_case(number, count)
    name = f"{number}: {case.kind}"
    root.mkdir()
    for file, data in case.files.items():
        (root / file).write_bytes(data)
    ids = [f"{place:04d}" for place in range(count)]
    found, words = [], None
    try:
        opened = open_predictions(root, ids, case.label)
        found = [opened.read(id_, meant.shape) for id_, meant in zip(ids, case.meant, strict=True)]
    except (PredictionError, FrameError) as error:
        words = str(error)
    if words is not None:
        assert case.verdict != "read", f"{name}: {words}"
        assert words.startswith(str(root)), f"{name}: {words}"
        assert "\n" not in words, f"{name}: {words}"
        assert WAYS_OUT.search(words.removeprefix(str(root))), f"{name}: {words}"
        return "refused", len(case.files)
    assert case.verdict != "refused", f"{name} is read"
    for read, meant in zip(found, case.meant, strict=True):
        if meant.dtype == np.bool_ and not case.step:
            assert read.dtype == np.bool_, name
        np.testing.assert_allclose(
            read.astype(float), meant.astype(float), rtol=0, atol=case.step, err_msg=name
        )
    return "read", len(case.files)


def read_folders(numbers: range, count: int, root: Path) -> Counter[str]:
    files: Counter[str] = Counter()
    for number in numbers:
        outcome, written = read_folder(number, count, root / str(number))
        files[outcome] += written
    return files


def test_100_files_drawn_at_random_are_read_right_or_refused(tmp_path: Path) -> None:
    files = read_folders(range(40), 3, tmp_path)
    assert files.total() >= 100
    assert files["read"] >= 50


@pytest.mark.slow
def test_2000_files_drawn_at_random_are_read_right_or_refused(tmp_path: Path) -> None:
    files = read_folders(range(1000, 1420), 5, tmp_path)
    assert files.total() >= 2000
    assert files["read"] >= 1000
    assert files["refused"] >= 300


@pytest.mark.parametrize("value", [20, 38, 100, 127])
def test_jpeg_masks_of_another_value_are_refused(
    tmp_path: Path, dataset: Dataset, value: int
) -> None:
    folder = fill(tmp_path / "p", dataset, lambda mask: mask * np.uint8(value), ".jpg")
    with pytest.raises(PredictionError, match=r"JPEG .* as PNG"):
        open_predictions(folder, dataset.ids("test"))
