"""YOLO: a line of text a target, its box or its outline, in shares of the image's sides.

Boxes hold no more of a mask than its extent, and are read by the rule of `shapes`. Outlines hold
all of it, and are read as the family draws them, see `outlines`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.build.card import one_line
from pipelines.config import parse_yaml
from pipelines.errors import ConfigError
from pipelines.formats.drawing import Drawing
from pipelines.formats.outlines import fill, outline
from pipelines.formats.sample import (
    IN_FOLDERS,
    Entry,
    Format,
    Found,
    Loaded,
    Sample,
    Written,
    count_unused,
    file_inside,
    files_below,
    images_below,
    loaded,
    name_key,
)
from pipelines.formats.shapes import SLACK, Piece, cut_piece, draw_box
from synth.disk.layout import read_text, require_one_split
from synth.disk.names import link_inside
from synth.disk.split_names import FOLDERS, split_told
from synth.errors import DatasetError
from synth.frames import SUFFIXES, Mask, frame_shape, read_bytes
from synth.targets import label_targets

# Of an image of 10,000 pixels a side, to a ten-thousandth of a pixel.
_DIGITS = 8

# Other programs write six digits.
_STEP = 1e-6

# Annotation tools put the names of the classes among the labels.
_NO_LABELS = ("classes.txt",)

_NO_NAMES: Mapping[int, str] = {}


def annotate_boxes(sample: Sample) -> str:
    """One line a target: class, centre x and y, width, height."""
    height, width = sample.shape
    lines = []
    for target in sample.targets:
        top, left, bottom, right = target.box
        values = (
            (left + right) / (2 * width),
            (top + bottom) / (2 * height),
            (right - left) / width,
            (bottom - top) / height,
        )
        lines.append(_line(values))
    return "".join(lines)


def annotate_outlines(sample: Sample) -> str:
    """One line a target: class and the points of its outline, x and y."""
    _, labels = label_targets(sample.mask)
    height, width = sample.shape
    lines = []
    for target in sample.targets:
        top, left, bottom, right = target.box
        points = outline(labels[top:bottom, left:right] == target.index + 1)
        shares = (points + np.array((left, top))) / (width, height)
        lines.append(_line(shares.ravel().tolist()))
    return "".join(lines)


def held(lines: str, shape: tuple[int, int]) -> Mask:
    """The mask that the lines of a label file make up; `ValueError` as `draw_lines`."""
    return draw_lines(lines, shape).mask


def draw_lines(lines: str, shape: tuple[int, int], names: Mapping[int, str] = _NO_NAMES) -> Drawing:
    """Draw the lines of a label file.

    Parameters
    ----------
    lines : str
        Its text.
    shape : tuple of int
        (H, W) of the image.
    names : mapping of int to str
        The names of the classes.

    Raises
    ------
    ValueError
        A line is neither a box nor an outline, or outside the image.
    """
    drawing = Drawing(shape)
    for number, line in enumerate(lines.splitlines(), start=1):
        values = line.split()
        if not values:
            continue
        try:
            class_, *shares = (float(value) for value in values)
        except ValueError:
            raise ValueError(f"line {number} holds text, which is no number") from None
        if not class_.is_integer() or class_ < 0:
            raise ValueError(
                f"line {number} has the class {values[0]!r:.20}, which is not a whole number"
            )
        if names and int(class_) not in names:
            raise ValueError(f"line {number} has the class {int(class_)}, which has no name")
        try:
            piece = _draw(np.array(shares), shape)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
        name = names.get(int(class_), f"class {int(class_)}")
        drawing.add(piece, name, number=int(class_))
    return drawing


def _draw(shares: NDArray[np.float64], shape: tuple[int, int]) -> Piece:
    height, width = shape
    if not np.isfinite(shares).all() or (np.abs(shares) > 2).any():
        raise ValueError("holds numbers that are no shares of the image's sides; are these pixels?")
    if len(shares) == 4:
        x, y, wide, high = (shares * (width, height, width, height)).tolist()
        slack = (max(_STEP * width, SLACK), max(_STEP * height, SLACK))
        edges = x - wide / 2, y - high / 2, x + wide / 2, y + high / 2
        return draw_box(*edges, shape, slack)
    if len(shares) == 5:
        raise ValueError(
            "has five numbers after the class, as a detection with its score; give labels, or "
            "leave the score out"
        )
    if len(shares) < 6 or len(shares) % 2:
        raise ValueError(
            f"has {len(shares)} numbers after the class, which is neither a box (4) nor an outline "
            "(6 or more, an even number)"
        )
    if _is_pose(shares):
        raise ValueError("is a box with keypoints, as of a pose; keypoints make no mask")
    points = shares.reshape(-1, 2)
    # A corner on a pixel's edge must not fall to the other side by rounding.
    drawn = fill((points + _STEP) * (width, height), shape)
    if not drawn.any():
        raise ValueError(f"is outside its image, which has {width}x{height} pixels (w x h)")
    clipped = bool((points < -_STEP).any() or (points > 1 + _STEP).any())
    return cut_piece(drawn)._replace(clipped=clipped)


def _is_pose(shares: NDArray[np.float64]) -> bool:
    """Whether numbers are a box, then points (x, y, visibility of 0, 1 or 2) inside of it."""
    if (len(shares) - 4) % 3:
        return False
    centre, size = shares[:2], shares[2:4]
    points = shares[4:].reshape(-1, 3)
    if (size <= 0).any() or not np.isin(points[:, 2], (0, 1, 2)).all():
        return False
    seen = points[points[:, 2] > 0, :2]
    return bool((np.abs(seen - centre) <= size / 2 + 0.01).all())


def files(sample: Sample, note: str) -> dict[str, bytes]:
    """The image and its label file; an image without targets has an empty one."""
    return {
        f"images/{sample.split}/{sample.id}{sample.suffix}": sample.image,
        f"labels/{sample.split}/{sample.id}.txt": note.encode(),
    }


def index(splits: Sequence[str], entries: Sequence[Entry], name: str) -> dict[str, bytes]:
    """``data.yaml``, with paths from its own folder on."""
    there = {entry.split for entry in entries}
    text = f"# {one_line(name)}\n"
    if "train" in there:
        text += "train: images/train\n"
    if "val" in there:
        text += "val: images/val\n"
    elif "train" in there:
        text += (
            "# There is no validation split, which `synth split` makes. The test split is no place "
            "to\n# choose a model by, so training images stand in.\n"
            "val: images/train\n"
        )
    if "test" in there:
        text += "test: images/test\n"
    return {"data.yaml": (text + "names:\n  0: target\n").encode()}


def read(root: Path, notes: Counter[str]) -> Iterator[Found]:
    """Every image of every split, with its label file.

    Splits are the folders that ``data.yaml`` names, those below ``images`` or above an ``images``
    whose name tells a split (``images/train2017``, ``valid/images``), or the lists ``train.txt``
    and so on of one folder ``images``. A label file is at the same place below the folder of
    labels, or beside the image. An image without one is free of targets.

    Raises
    ------
    DatasetError
        There is no such folder, no label, a label without an image, or images in no split; a list
        is against the folders, or is not read.
    """
    file = _description_file(root)
    whole = _description(root, file)
    names = _class_names(file, whole)
    places = _find_places(root, whole)
    if not places:
        raise DatasetError(root, "has no images/train; give the folder of a YOLO set")
    labels = {images: _labels_folder(root, images) for images in places}
    for folder in (*places, *labels.values()):
        _require_no_link(root, folder)
    _require_used(root, places, labels.values())
    lists: dict[Path, str] = {}
    only: dict[str, set[Path]] = {}
    if list(places) == [root / "images"]:
        pictures = images_below(root / "images").values()
        lists = _read_lists(root, file, whole, pictures)
        if not lists:
            require_one_split(root, pictures, IN_FOLDERS)
    else:
        only = _require_agreement(root, whole, places)
    labelled = {images: _labels_of(images, labels[images]) for images in places}
    if not any(labelled.values()):
        folder = next(iter(labels.values()))
        raise DatasetError(folder, "holds no label file; is it the folder of the labels?")
    _require_filled(root, labelled)
    used: set[Path] = set()
    for images, split in places.items():
        below, texts = images_below(images), labelled[images]
        if below and not texts and not labels[images].is_dir():
            raise DatasetError(
                labels[images], f"is not there, and there are no labels in {images}; add it"
            )
        for id_, path in below.items():
            label = texts.pop(name_key(path.relative_to(images)), None)
            if (lists and path not in lists) or path not in only.get(split, {path}):
                continue
            used.add(path)
            load = partial(_load, path, label, names)
            yield Found(id_, lists.get(path, split), load, source=path)
        for label in texts.values():
            raise DatasetError(label, f"is a label without an image in {images}; add or remove it")
    notes["unlisted"] += count_unused(root, used)


def _find_places(root: Path, whole: Mapping[str, Any]) -> dict[Path, str]:
    """Folders of images and their splits."""
    found: dict[Path, str] = {}
    for folder in _folders(root / "images"):
        if split := split_told(folder.name):
            found[folder] = split
    for folder in _folders(root):
        if (folder / "images").is_dir() and (split := split_told(folder.name)):
            found[folder / "images"] = split
    # Training goes last, since other splits may name its folder where they have none.
    for split in ("val", "test", "train"):
        for place in _declared(root, whole, split):
            if place is not None and place.is_dir() and place != root:
                found[place] = split
    if not found and (root / "images").is_dir():
        found[root / "images"] = "train"
    for folder, split in found.items():
        for inner in found:
            if inner != folder and inner.is_relative_to(folder):
                raise DatasetError(
                    folder, f"is for {split} and holds the split {inner.name}; keep splits apart"
                )
    return found


def _folders(root: Path) -> list[Path]:
    return [path for path in sorted(root.iterdir()) if path.is_dir()] if root.is_dir() else []


def _declared(root: Path, whole: Mapping[str, Any], split: str) -> list[Path | None]:
    """The places that ``data.yaml`` names for a split; None for one that is not in the set.

    They may be written for another folder, so that only the end of a path is there.
    """
    values = whole.get(split)
    found: list[Path | None] = []
    for value in values if isinstance(values, list) else [values]:
        if not isinstance(value, str) or not value.strip("./\\ "):
            continue
        parts = [part for part in value.replace("\\", "/").split("/") if part.strip(".")]
        ends = (root.joinpath(*parts[start:]) for start in range(len(parts)))
        found.append(next(filter(_is_there, ends), None))
    return found


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _labels_folder(root: Path, images: Path) -> Path:
    """The folder of labels: ``labels`` in place of the last ``images`` of a folder's path."""
    parts = list(images.relative_to(root).parts)
    if "images" not in parts:
        return images
    last = len(parts) - 1 - parts[::-1].index("images")
    return root.joinpath(*parts[:last], "labels", *parts[last + 1 :])


def _list_files(root: Path, whole: Mapping[str, Any], split: str) -> list[Path]:
    """The lists of a split: those that ``data.yaml`` names, else those called after it."""
    found = [path for path in _declared(root, whole, split) if path and path.is_file()]
    if not found:
        found = [path for name in FOLDERS[split] if (path := root / f"{name}.txt").is_file()][:1]
    return [
        file_inside(root, path.relative_to(root).as_posix(), root) for path in dict.fromkeys(found)
    ]


def _require_agreement(
    root: Path, whole: Mapping[str, Any], places: Mapping[Path, str]
) -> dict[str, set[Path]]:
    """The images of lists beside folders of splits, which may not name those of another split."""
    listed: dict[str, set[Path]] = {}
    images = {
        path: split for place, split in places.items() for path in images_below(place).values()
    }
    for split in FOLDERS:
        for file in _list_files(root, whole, split):
            if split != "train" and file in _list_files(root, whole, "train"):
                continue
            for line in filter(None, map(str.strip, read_text(file).splitlines())):
                parts = [part for part in line.replace("\\", "/").split("/") if part.strip(".")]
                ends = (root.joinpath(*parts[start:]) for start in range(len(parts)))
                image = next((path for path in ends if path in images), None)
                if image is not None and images[image] != split:
                    raise DatasetError(
                        file,
                        f"names {image} for {split}, but it is in a folder of {images[image]}; "
                        "move it, or correct the list",
                    )
                if image is not None:
                    listed.setdefault(split, set()).add(image)
    return listed


def _read_lists(
    root: Path, description: Path, whole: Mapping[str, Any], images: Iterable[Path]
) -> dict[Path, str]:
    """Splits of images by lists of their paths; empty where there are no lists.

    Raises
    ------
    DatasetError
        A list names what is not there, an image is in two lists, or ``data.yaml`` names a split
        that is not in the set.
    """
    files: dict[str, list[Path]] = {}
    for split in FOLDERS:
        if None in _declared(root, whole, split) and split != "train":
            raise DatasetError(
                description, f"names {split}: {whole[split]!r:.60}, which is not in the set"
            )
        files[split] = _list_files(root, whole, split)
    by_key = {name_key(path.relative_to(root / "images")): path for path in images}
    splits: dict[Path, str] = {}
    for split in ("train", "test", "val"):
        for file in files[split]:
            stands_in = split != "train" and file in files["train"]
            for line in [] if stands_in else read_text(file).splitlines():
                if not line.strip():
                    continue
                parts = line.strip().replace("\\", "/").split("/")
                if "images" in parts:
                    parts = parts[len(parts) - parts[::-1].index("images") :]
                keys = [name_key(Path(*names)) for names in (parts, parts[-1:]) if any(names)]
                image = next((by_key[key] for key in keys if key in by_key), None)
                if image is None:
                    raise DatasetError(file, f"names {line.strip()!r:.80}, which is not in images")
                if splits.setdefault(image, split) != split:
                    raise DatasetError(file, f"names {image.name}, which is in {splits[image]} too")
    return splits


def _labels_of(images: Path, labels: Path) -> dict[str, Path]:
    """Label files by their place, see `name_key`."""
    found: dict[str, Path] = {}
    for folder in dict.fromkeys((labels, images)):
        for path in files_below(folder, (".txt",)) if folder.is_dir() else ():
            if path.name in _NO_LABELS:
                continue
            key = name_key(path.relative_to(folder))
            if key in found:
                raise DatasetError(path, f"is for the same image as {found[key]}; remove one")
            found[key] = path
    return found


def _require_used(root: Path, images: Iterable[Path], labels: Iterable[Path]) -> None:
    """Refuse images and labels beside the folders of the splits: they would be lost."""
    used = [*images, *labels]
    beside = list(files_below(root / "images", SUFFIXES)) if (root / "images").is_dir() else []
    for folder in (root / "labels", *(folder / "labels" for folder in _folders(root))):
        if folder.is_dir():
            beside += files_below(folder, (".txt",))
    for path in beside:
        if not any(path.is_relative_to(place) for place in used) and path.name not in _NO_LABELS:
            raise DatasetError(path, "is in no split; move it to the folder of a split, as train")


def _require_filled(root: Path, labelled: Mapping[Path, Mapping[str, Path]]) -> None:
    """Refuse empty labels beside filled ones of a folder of another name, as ``labels_seg``."""
    if any(path.stat().st_size for texts in labelled.values() for path in texts.values()):
        return
    for folder in _folders(root):
        if folder.name == "labels" or not folder.name.lower().startswith("labels"):
            continue
        if any(path.stat().st_size for path in files_below(folder, (".txt",))):
            raise DatasetError(
                root / "labels", f"has empty labels only, but {folder} has some; keep one"
            )


def _require_no_link(root: Path, folder: Path) -> None:
    link = link_inside(root, folder.relative_to(root).parts)
    if link is not None:
        raise DatasetError(link, "is a link, which is not followed; put the folder there")


def _description_file(root: Path) -> Path:
    """``data.yaml``; without it the file of another name that is one."""
    others = [
        file
        for suffix in ("yaml", "yml")
        for file in sorted(root.glob(f"*.{suffix}"))
        if not file.name.startswith(".") and _names_splits(file)
    ]
    file = root / "data.yaml"
    if file.is_file() or not others:
        return file
    if len(others) > 1:
        raise DatasetError(
            others[1], f"describes a YOLO set, as {others[0].name} does; call the one data.yaml"
        )
    return others[0]


def _names_splits(file: Path) -> bool:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return False
    return all(re.search(rf"^{key}\s*:", text, re.MULTILINE) for key in ("names", "train"))


def _description(root: Path, file: Path) -> Mapping[str, Any]:
    """What ``data.yaml`` holds; nothing where there is none."""
    if not file.is_file():
        return {}
    try:
        whole = parse_yaml(read_text(file_inside(root, file.name, root)), str(file))
    except ConfigError:
        whole = None
    if not isinstance(whole, Mapping) or "names" not in whole:
        raise DatasetError(file, "is not the data.yaml of a YOLO set, with names")
    return whole


def _class_names(file: Path, whole: Mapping[str, Any]) -> dict[int, str]:
    """Names of the classes by number; none where there is no ``data.yaml``."""
    if "kpt_shape" in whole:
        raise DatasetError(file, "is of a set of poses (kpt_shape); keypoints make no mask")
    names = whole.get("names", {})
    try:
        pairs = names.items() if isinstance(names, Mapping) else enumerate(names)
        return {int(number): str(name) for number, name in pairs}
    except (TypeError, ValueError):
        raise DatasetError(file, "is not the data.yaml of a YOLO set, with names") from None


def _load(path: Path, label: Path | None, names: Mapping[int, str]) -> Loaded:
    image = read_bytes(path)
    shape = frame_shape(image, path)
    if label is None:
        drawing = Drawing(shape)
        drawing.notes["unlabelled"] += 1
        return loaded(image, path, drawing)
    text = read_text(label)
    try:
        return loaded(image, path, draw_lines(text, shape, names))
    except ValueError as error:
        raise DatasetError(label, str(error)) from None


def _line(values: Sequence[float]) -> str:
    return " ".join(["0", *(f"{value:.{_DIGITS}f}" for value in values)]) + "\n"


_LAYOUT = "`images/<split>`, `labels/<split>` and `data.yaml`: a line a target"
_BOXES = f"{_LAYOUT} with its box, which is all that is kept of its mask"
_OUTLINES = f"{_LAYOUT} with its outline along the edges of its pixels"

YOLO = Format("yolo", read, Written(_BOXES, annotate_boxes, held, files, index), True)
YOLO_SEG = Format("yolo-seg", read, Written(_OUTLINES, annotate_outlines, held, files, index), True)
