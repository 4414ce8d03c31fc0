"""A labelled set that has not been prepared: what can be made of it, and what is wrong with it.

`open_dataset` refuses a set at its first fault. Here faults of folders, names and lists become
rows, and what is left is a `Dataset` whose every listed id has an image and a mask.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from synth.dataset import Dataset, dataset_of, open_dataset
from synth.disk.description import is_sharded
from synth.disk.folders import child_folders
from synth.disk.foreign import describe_foreign
from synth.disk.layout import (
    MASK_WORD,
    Place,
    Problem,
    Trees,
    divide_by_split,
    find_places,
    folder_kind,
    read_layout,
    stripped_mask_name,
    undecided,
)
from synth.disk.split_names import split_told
from synth.errors import DatasetError, InvertedError, LossyError
from synth.frames import SUFFIXES
from synth.masks import Label

_MASK_FOLDER = re.compile(rf"(?:^|[^a-z]){MASK_WORD}(?:[^a-z]|$)", re.IGNORECASE)
_DEEPEST = 3


class LooseSet(NamedTuple):
    """What a folder holds: its pairs, what stood in the way, and the folders that were read.

    Ids of the lists that lack an image or a mask are not in it; a set in shards has no folders.
    """

    dataset: Dataset
    problems: tuple[Problem, ...]
    places: tuple[Place, ...] = ()


def open_loosely(path: Path | str, label: Label | None = None) -> LooseSet:
    """Find the images, masks and splits of a folder, whatever is wrong with them.

    Folders of other names are told apart by words such as ``mask`` and ``gt`` in their names, and
    so are images and masks that are in one folder. The index of a set in shards is right, or an
    error. Where masks hold several labels and none is chosen, all of them count as target. `label`
    is that of `open_dataset`.

    Raises
    ------
    DatasetError
        There is no such folder, or no image in it; it is a set of another tool; it cannot be
        decided which folders are meant; the index of a set in shards is damaged.
    """
    root = Path(path)
    if not root.is_dir() or is_sharded(root):
        return LooseSet(open_dataset(root), ())
    problems: list[Problem] = []
    trees = Trees(problems.append)
    known = find_places(root, trees)
    foreign = None if known else describe_foreign(root)
    try:
        places = known or _guess_places(root, trees)
        layout = read_layout(root, places, trees)
    except DatasetError as error:
        raise (DatasetError(root, foreign) if foreign else error) from None
    if foreign and not layout.masks:
        raise DatasetError(root, foreign)
    if layout.masks and not known:
        first = places[0]
        words = f"images in {first.images.name}, masks in {(first.masks or first.images).name}"
        problems.append(Problem("folders of other names", words))
    try:
        dataset = dataset_of(root, layout, label, own=False)
    except DatasetError as error:
        if label is not None:
            raise
        lossy = isinstance(error, LossyError)
        # Masks that are turned inside out are found one by one.
        if not isinstance(error, InvertedError):
            fault = "lossy labels" if lossy else "several labels"
            problems.append(Problem(fault, error.problem.partition(";")[0]))
        dataset = dataset_of(root, layout, None if lossy else "any", own=lossy)
    return LooseSet(dataset, tuple(problems), places)


def _guess_places(root: Path, trees: Trees) -> tuple[Place, ...]:
    """The folders of images and masks where they have other names than the known ones."""
    here = root
    for depth in range(_DEEPEST + 1):
        children = child_folders(here, trees.note_link)
        folders = [child for child in children if trees[child]]
        own = any(not inside.parts for inside in trees[here])
        if depth == _DEEPEST or len(folders) != 1 or own or folder_kind(folders[0]):
            break
        # An archive's own folder around all.
        here = folders[0]
        if places := find_places(here, trees):
            return _with_told_split(root, places)
    masks = [folder for folder in folders if folder_kind(folder) == "masks"]
    masks = masks or [folder for folder in folders if _MASK_FOLDER.search(folder.name)]
    images = [folder for folder in folders if folder_kind(folder) == "images"]
    images = images or [folder for folder in folders if folder not in masks] + [here] * own
    if not images:
        raise DatasetError(root, f"holds no images ({', '.join(SUFFIXES)})")
    if len(masks) > 1:
        raise undecided(here, masks)
    if len(images) > 1 and masks:
        known = _stems(masks[0], trees)
        known |= set(map(stripped_mask_name, known))
        images = [folder for folder in images if known & _stems(folder, trees)] or images
    if len(images) > 1:
        raise undecided(here, images)
    return _with_told_split(root, divide_by_split(images[0], (masks or images)[0], trees))


def _stems(folder: Path, trees: Trees) -> set[str]:
    return {Path(name).stem for inside in trees[folder] for name in inside.names}


def _with_told_split(root: Path, places: tuple[Place, ...]) -> tuple[Place, ...]:
    """Places whose folders' names tell a split, which an only one may, as ``test_images``."""
    if len(places) != 1 or places[0].split is not None:
        return places
    folders = (places[0].images, places[0].masks or places[0].images)
    told = {split_told(folder.relative_to(root).as_posix()) for folder in folders}
    if len(told) > 1 and None not in told:
        raise undecided(root, folders)
    return (places[0]._replace(split=next(filter(None, told), None)),)
