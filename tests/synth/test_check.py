"""Soundness: each fault is found and named, and sound sets have none."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from small_sets import SmallSet

from synth.check import FAULTS, Report, check_dataset
from synth.dataset import open_dataset
from synth.targets import find_targets


def check(made: SmallSet) -> Report:
    return check_dataset(open_dataset(made.root))


def put(path: object, values: np.ndarray) -> None:
    assert cv2.imwrite(str(path), values)


def no_end(made: SmallSet) -> None:
    made.image("001").write_bytes(made.image("001").read_bytes()[:-20])


def other_size(made: SmallSet) -> None:
    put(made.mask("001"), np.full((5, 5), 255, np.uint8))


def test_again(made: SmallSet) -> None:
    shutil.copy(made.image(made.test[0]), made.image("001"))


test_again.__test__ = False  # type: ignore[attr-defined]


def twice(made: SmallSet) -> None:
    shutil.copy(made.image("002"), made.image("001"))


def unlisted(made: SmallSet) -> None:
    made.write_lists(made.train[1:], made.test)


def grey(made: SmallSet) -> None:
    mask = cv2.imread(str(made.mask("001")), -1)
    put(made.mask("001"), np.maximum(cv2.GaussianBlur(mask, (3, 3), 0.5), mask // 4 * 3))


def empty(made: SmallSet) -> None:
    put(made.mask("001"), np.zeros((48, 64), np.uint8))


def large(made: SmallSet) -> None:
    mask = np.zeros((48, 64), np.uint8)
    mask[:7, :7] = 255
    put(made.mask("001"), mask)


def colour(made: SmallSet) -> None:
    put(made.image("001"), np.random.default_rng(9).integers(0, 255, (48, 64, 3)).astype(np.uint8))


def alpha(made: SmallSet) -> None:
    grey_ = cv2.imread(str(made.image("001")), -1)
    put(made.image("001"), cv2.cvtColor(grey_, cv2.COLOR_GRAY2BGRA))


def constant(made: SmallSet) -> None:
    put(made.image("001"), np.full((48, 64), 77, np.uint8))


@pytest.mark.parametrize(
    ("break_it", "fault"),
    [
        (no_end, "unreadable file"),
        (other_size, "mask of another size"),
        (test_again, "equal image in train and test"),
        (twice, "equal images in one split"),
        (unlisted, "image in no split"),
        (grey, "grey mask"),
        (empty, "mask without target"),
        (large, "target larger than small"),
        (colour, "colour image"),
        (alpha, "image with alpha"),
        (constant, "constant image"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_fault_is_found_and_its_file_named(
    small_set: SmallSet, break_it: Callable[[SmallSet], None], fault: str
) -> None:
    assert fault not in check(small_set).faults
    break_it(small_set)
    report = check(small_set)
    assert len(report.faults[fault]) == 1
    assert "001" in report.faults[fault][0]
    # Only the large mask and the one of another size bring a second fault with them.
    assert report.sound == (not next(f.error for f in FAULTS if f.name == fault))


def test_a_sound_set_has_no_fault_and_right_counts(
    make_set: Callable[..., SmallSet],
) -> None:
    made = make_set(train=5, test=3, shapes=((48, 64), (60, 61)), dtype=np.uint16)
    dataset = open_dataset(made.root)
    report = check(made)
    assert report.faults == {}
    assert report.sound
    assert report.images == {"train": 5, "test": 3}
    assert report.targets == {
        split: sum(len(find_targets(dataset.read_mask(id_))) for id_ in dataset.ids(split))
        for split in ("train", "test")
    }
    assert report.shapes == {"48x64": 4, "60x61": 4}
    assert report.dtypes == {"uint16": 8}


def test_equal_pixels_are_found_whatever_the_file_type(small_set: SmallSet) -> None:
    frame = cv2.imread(str(small_set.image(small_set.test[0])), -1)
    small_set.image("001").unlink()
    put(small_set.image("001").with_suffix(".bmp"), frame)
    assert list(check(small_set).faults) == ["equal image in train and test"]


def test_masks_of_0_and_1_are_reported(small_set: SmallSet) -> None:
    # "Anything else read is binarised [...], and `synth check` reports it."
    for id_ in small_set.train:
        mask = cv2.imread(str(small_set.mask(id_)), -1)
        put(small_set.mask(id_), (mask > 0).astype(np.uint8))
    report = check(small_set)
    assert report.sound
    assert any(len(cases) == len(small_set.train) for cases in report.faults.values())


@pytest.mark.parametrize(
    ("offset", "words"),
    [
        ((0.0, 0.0), []),
        ((-0.5, 0.0), ["to the top of 100%, to the bottom of 0%"]),
        ((0.4, 0.5), ["to the bottom of 100%, to the top of 0%", "to the right of 100%"]),
    ],
)
def test_a_habit_of_the_masks_is_told(
    make_set: Callable[..., SmallSet], offset: tuple[float, float], words: list[str]
) -> None:
    made = make_set(train=32)
    rows, cols = np.mgrid[:48, :64]
    for number, id_ in enumerate(made.train):
        row, col = 15 + number % 16, 20 + number % 23
        shown = np.exp(-((rows - row + offset[0]) ** 2 + (cols - col + offset[1]) ** 2) / 4)
        put(made.image(id_), np.rint(30 + 150 * shown + number).astype(np.uint8))
        disc = np.hypot(rows - row, cols - col) < 2.5
        put(made.mask(id_), disc.astype(np.uint8) * 255)
    found = check(made).faults.get("masks beside their targets", [])
    assert len(found) == len(words)
    for line, wanted in zip(found, words, strict=True):
        assert wanted in line
