"""A labelled set that nobody prepared: what can be made of it, and what is wrong with its names.

`open_dataset` refuses a set at its first fault. Here faults of folders, names and lists become
rows, and what is left is a `Dataset` whose every listed id has an image and a mask.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from synth.dataset import (
    IMAGE_FOLDERS,
    MASK_FOLDERS,
    MASK_SUFFIX,
    SPLITS,
    Dataset,
    find_lists,
    open_dataset,
    with_convention,
)
from synth.errors import DatasetError, MaskError
from synth.frames import SUFFIXES, ImageFile, natural_key
from synth.masks import Label
from synth.shards import is_sharded

_MASK_WORD = r"(?:masks?|labels?|gts?|ground_?truths?|seg(?:mentation)?s?|annotations?|pixels\d)"
_MASK_FOLDER = re.compile(rf"(?:^|[^a-z]){_MASK_WORD}(?:[^a-z]|$)", re.IGNORECASE)
_MASK_NAME = re.compile(rf"^{_MASK_WORD}[-_. ]+|[-_. ]+{_MASK_WORD}$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Problem:
    """One case of a fault: its name in `check.FAULTS`, words on it, the ids that it is about."""

    fault: str
    words: str
    ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LooseSet:
    """What a folder holds.

    Attributes
    ----------
    dataset : Dataset
        Its pairs; ids of the lists that lack an image or a mask are not in it.
    problems : tuple of Problem
        What stood in the way.
    """

    dataset: Dataset
    problems: tuple[Problem, ...]


def open_loosely(path: Path | str, label: Label | None = None) -> LooseSet:
    """Find the images, masks and splits of a folder, whatever is wrong with them.

    Folders of other names are told apart by words such as ``mask`` and ``gt`` in their names, and
    so are images and masks that lie in one folder. A set in shards has no folders, names and lists
    to be at fault: its index is right, or an error. Where masks hold several labels and none is
    chosen, all of them count as target. `label` is that of `open_dataset`.

    Raises
    ------
    DatasetError
        There is no such folder, or no image in it; the index of a set in shards is damaged.
    """
    root = Path(path)
    if not root.is_dir():
        raise DatasetError(root, "is not a folder; give the data set's own folder")
    if is_sharded(root):
        return LooseSet(open_dataset(root), ())
    problems: list[Problem] = []
    image_files, mask_files = _gather(root, problems)
    images = _by_id(image_files, problems)
    if not images:
        raise DatasetError(root, f"holds no images ({', '.join(SUFFIXES)})")
    masks = _match(images, mask_files, problems)
    splits, listed = _read_lists(root, images, masks, problems)
    try:
        read, convention = with_convention(root, _files(masks), images, label, own=False)
    except DatasetError as error:
        if label is not None:
            raise
        # Masks that are turned inside out are found one by one.
        if isinstance(error, MaskError):
            problems.append(Problem("several labels", error.problem.partition(";")[0]))
        read, convention = with_convention(root, _files(masks), images, "any")
    return LooseSet(
        Dataset(root, root.resolve().name, splits, listed, _files(images), read, convention),
        tuple(problems),
    )


def _files(paths: Mapping[str, Path]) -> dict[str, ImageFile]:
    return {id_: ImageFile(path) for id_, path in paths.items()}


def _gather(root: Path, problems: list[Problem]) -> tuple[list[Path], list[Path]]:
    """The image files and the mask files below a folder."""
    inside = {child.name.lower(): child for child in sorted(root.iterdir()) if child.is_dir()}
    image_folder = next((inside[name] for name in IMAGE_FOLDERS if name in inside), None)
    mask_folder = next((inside[name] for name in MASK_FOLDERS if name in inside), None)
    if image_folder and mask_folder:
        images, apart = _divide(_pictures(image_folder))
        for file in apart:
            problems.append(Problem("mask among the images", file.name, (_stripped(file.stem),)))
        return images, _pictures(mask_folder)
    folders = [root, *inside.values(), *(d for c in inside.values() for d in _subfolders(c))]
    pictures = {folder: found for folder in folders if (found := _pictures(folder))}
    named = [f for f in pictures if f != root and _MASK_FOLDER.search(f.name)]
    mask_folder = mask_folder or next(iter(named), None)
    others = [folder for folder in pictures if folder not in named and folder != mask_folder]
    if image_folder is None and others:
        image_folder = max(others, key=lambda folder: len(pictures[folder]))
    if image_folder is None:
        return [], []
    images, apart = _divide(pictures.get(image_folder, []))
    masks = pictures.get(mask_folder, []) if mask_folder else apart
    if masks:
        names = f"images in {image_folder.name}, masks in {(mask_folder or image_folder).name}"
        problems.append(Problem("folders of other names", names))
    return images, masks


def _divide(files: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """Part images from masks by their names: ``7_mask`` is one where there is a ``7``."""
    files = list(files)
    stems = {file.stem for file in files}
    apart = {f for f in files if _stripped(f.stem) != f.stem and _stripped(f.stem) in stems}
    return [f for f in files if f not in apart], [f for f in files if f in apart]


def _stripped(stem: str) -> str:
    """A mask's name without what says that it is one."""
    return _MASK_NAME.sub("", stem)


def _subfolders(folder: Path) -> list[Path]:
    return [child for child in sorted(folder.iterdir()) if child.is_dir()]


def _pictures(folder: Path) -> list[Path]:
    return [
        file
        for file in sorted(folder.iterdir())
        if file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and not file.is_dir()
    ]


def _by_id(files: Iterable[Path], problems: list[Problem]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for file in files:
        if not file.stem.isprintable() or file.stem != file.stem.strip():
            problems.append(Problem("name that no list can hold", ascii(file.name)))
        elif file.stem in found:
            words = f"{found[file.stem].name} and {file.name}"
            problems.append(Problem("id of two files", words, (file.stem,)))
        else:
            found[file.stem] = file
    return found


def _match(
    images: Mapping[str, Path], files: Iterable[Path], problems: list[Problem]
) -> dict[str, Path]:
    """Masks by the ids of their images."""
    found: dict[str, Path] = {}
    for stem, file in _by_id(files, problems).items():
        id_ = stem
        if stem not in images:
            id_ = stem.removesuffix(MASK_SUFFIX)
            if id_ not in images and (id_ := _stripped(stem)) in images:
                problems.append(Problem("mask of another name", file.name, (id_,)))
        if id_ not in images:
            problems.append(Problem("mask without image", file.name, (stem,)))
        elif id_ in found:
            words = f"{found[id_].name} and {file.name}"
            problems.append(Problem("id of two files", words, (id_,)))
        else:
            found[id_] = file
    return found


def _read_lists(
    root: Path, images: Mapping[str, Path], masks: Mapping[str, Path], problems: list[Problem]
) -> tuple[dict[str, tuple[str, ...]], bool]:
    try:
        lists = find_lists(root)
    except DatasetError as error:
        problems.append(Problem("unreadable list", str(error)))
        lists = {}
    read = {split: _read_list(file, images, problems) for split, file in lists.items()}
    if not lists:
        problems.append(Problem("no list of splits", root.name))
        read = {"train": sorted(images, key=natural_key)}
    splits: dict[str, tuple[str, ...]] = {}
    home: dict[str, str] = {}
    # What is in two splits stays in the one that judges.
    for split in ("test", "val", "train"):
        kept = []
        for id_ in read.get(split, []):
            if home.setdefault(id_, split) != split:
                problems.append(
                    Problem("id in two splits", f"{id_} ({split}, {home[id_]})", (id_,))
                )
            elif id_ not in masks:
                problems.append(Problem("image without mask", images[id_].name, (id_,)))
            else:
                kept.append(id_)
        if split in read or split != "val":
            splits[split] = tuple(kept)
    return {split: splits[split] for split in SPLITS if split in splits}, bool(lists)


def _read_list(file: Path, images: Mapping[str, Path], problems: list[Problem]) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        problems.append(Problem("unreadable list", f"{file} ({error})"))
        return []
    ids: dict[str, None] = {}
    for line in text.splitlines():
        entry = line.strip()
        if not entry:
            continue
        name = re.split(r"[/\\]", entry)[-1]
        bare = name not in images and Path(name).suffix.lower() in SUFFIXES
        id_ = Path(name).stem if bare else name
        if name != entry:
            words = f"{entry} in {file.name}"
            problems.append(Problem("list entry with folders", words, (id_,)))
        if id_ not in images:
            problems.append(Problem("listed id without image", f"{id_} in {file.name}", (id_,)))
        elif id_ in ids:
            problems.append(Problem("id listed twice", f"{id_} in {file.name}", (id_,)))
        else:
            ids[id_] = None
    return list(ids)
