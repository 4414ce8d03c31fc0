"""Sets that nobody prepared: what can be read of them, and what is told."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from small_sets import SmallSet

from synth.dataset import open_dataset
from synth.disk.looseset import open_loosely
from synth.errors import DatasetError

Change = Callable[[SmallSet], None]


def test_a_prepared_set_is_read_as_ever(small_set: SmallSet) -> None:
    loose = open_loosely(small_set.root)
    assert loose.dataset == open_dataset(small_set.root)
    assert loose.problems == ()


def write_list(made: SmallSet, *lines: str) -> None:
    (made.root / "50_50" / "train.txt").write_text("".join(f"{line}\n" for line in lines))


def absent(made: SmallSet) -> None:
    write_list(made, *made.train, "ghost")


def twice(made: SmallSet) -> None:
    write_list(made, *made.train, "001")


def in_both(made: SmallSet) -> None:
    write_list(made, *made.train, made.test[0])


def with_folders(made: SmallSet) -> None:
    write_list(made, "other/001.png", *made.train[1:])


def no_text(made: SmallSet) -> None:
    (made.root / "50_50" / "train.txt").write_bytes(b"\xff\xfe\xfa\x00")


def no_lists(made: SmallSet) -> None:
    shutil.rmtree(made.root / "50_50")


def no_mask(made: SmallSet) -> None:
    made.mask("001").unlink()


def no_image(made: SmallSet) -> None:
    made.mask("001").rename(made.root / "masks" / "stray.png")
    shutil.copy(made.root / "masks" / "stray.png", made.mask("001"))


def two_files(made: SmallSet) -> None:
    shutil.copy(made.image("001"), made.image("001").with_suffix(".bmp"))


def other_name(made: SmallSet) -> None:
    made.mask("001").rename(made.root / "masks" / "001_mask.png")


def mask_beside(made: SmallSet) -> None:
    shutil.copy(made.mask("001"), made.root / "images" / "001_gt.png")


def no_name(made: SmallSet) -> None:
    shutil.copy(made.mask("001"), made.root / "masks" / "a\nb.png")


def other_folders(made: SmallSet) -> None:
    (made.root / "images").rename(made.root / "IR frames")
    (made.root / "masks").rename(made.root / "binary_masks")


@pytest.mark.parametrize(
    ("change", "fault", "about"),
    [
        (absent, "listed id without image", "ghost"),
        (twice, "id listed twice", "001"),
        (in_both, "id in two splits", "005"),
        (with_folders, "list entry with folders", "001"),
        (no_text, "unreadable list", "train.txt"),
        (no_lists, "no list of splits", "source"),
        (no_mask, "image without mask", "001"),
        (no_image, "mask without image", "stray"),
        (two_files, "id of two files", "001"),
        (other_name, "mask of another name", "001"),
        (mask_beside, "mask among the images", "001"),
        (no_name, "name that no list can hold", "a\\nb"),
        (other_folders, "folders of other names", "binary_masks"),
    ],
)
def test_a_fault_is_one_problem_that_names_it(
    small_set: SmallSet, change: Change, fault: str, about: str
) -> None:
    change(small_set)
    (problem,) = open_loosely(small_set.root).problems
    assert problem.fault == fault
    assert about in problem.words


@pytest.mark.parametrize("change", [twice, with_folders, two_files, other_name, other_folders])
def test_what_can_be_told_is_not_lost(small_set: SmallSet, change: Change) -> None:
    change(small_set)
    dataset = open_loosely(small_set.root).dataset
    assert dataset.splits == {"train": tuple(small_set.train), "test": tuple(small_set.test)}
    for id_ in dataset.ids("all"):
        assert dataset.read_pair(id_)[1].any()


def test_what_is_in_two_splits_stays_in_the_test_split(small_set: SmallSet) -> None:
    in_both(small_set)
    dataset = open_loosely(small_set.root).dataset
    assert dataset.splits == {"train": tuple(small_set.train), "test": tuple(small_set.test)}


@pytest.mark.parametrize("name", ["{}_mask", "{}-label", "gt_{}", "{}.seg", "{}_pixels0"])
def test_images_and_masks_in_one_folder_are_told_apart(tmp_path: Path, name: str) -> None:
    for id_ in ("7", "frame 8"):
        cv2.imwrite(str(tmp_path / f"{id_}.png"), np.full((9, 9), 50, np.uint8))
        cv2.imwrite(str(tmp_path / f"{name.format(id_)}.png"), np.eye(9, dtype=np.uint8) * 255)
    loose = open_loosely(tmp_path)
    assert loose.dataset.splits == {"train": ("7", "frame 8"), "test": ()}
    for id_ in ("7", "frame 8"):
        assert loose.dataset.read_image(id_).max() == 50
        assert loose.dataset.read_mask(id_).any()
    assert {p.fault for p in loose.problems} >= {"folders of other names", "no list of splits"}


def test_images_alone_are_all_without_masks(small_set: SmallSet) -> None:
    shutil.rmtree(small_set.root / "masks")
    problems = open_loosely(small_set.root).problems
    assert [p.fault for p in problems] == ["image without mask"] * 6


@pytest.mark.parametrize("make", [True, False])
def test_a_folder_without_images_is_an_error(tmp_path: Path, make: bool) -> None:
    if make:
        (tmp_path / "x").mkdir()
        (tmp_path / "x" / "notes.txt").touch()
    with pytest.raises(DatasetError, match="x: "):
        open_loosely(tmp_path / "x")
