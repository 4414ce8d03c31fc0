"""YOLO: a line of text a target, its box or its outline, in shares of the image's sides.

Boxes hold no more of a mask than its extent. Outlines hold all of it, see `outlines`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.card import one_line
from pipelines.config import parse_yaml
from pipelines.errors import ConfigError
from pipelines.formats.outlines import fill, outline
from pipelines.formats.sample import (
    Entry,
    Format,
    Found,
    Loaded,
    Sample,
    file_inside,
    images_in,
    loaded,
)
from synth.errors import DatasetError
from synth.frames import Mask, frame_shape, read_bytes
from synth.split_names import FOLDERS
from synth.targets import label_targets

# Of an image of 10,000 pixels a side, to a ten-thousandth of a pixel.
_DIGITS = 8


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
    """The mask that the lines of a label file make up.

    Raises
    ------
    ValueError
        A line is neither a box nor an outline.
    """
    height, width = shape
    mask = np.zeros(shape, np.bool_)
    for number, line in enumerate(lines.splitlines(), start=1):
        values = line.split()
        if not values:
            continue
        try:
            numbers = np.array([float(value) for value in values])
        except ValueError:
            raise ValueError(f"line {number} holds what is no number") from None
        shares = numbers[1:]
        if not np.isfinite(shares).all() or (np.abs(shares) > 2).any():
            raise ValueError(f"line {number} holds what is no share of the image's sides")
        if len(shares) == 4:
            mask |= _box(shares * (width, height, width, height), shape)
        elif len(shares) >= 6 and len(shares) % 2 == 0:
            mask |= fill(shares.reshape(-1, 2) * (width, height), shape)
        else:
            raise ValueError(f"line {number} is neither a box nor an outline")
    return mask


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


def read(root: Path) -> Iterator[Found]:
    """Every image below ``images/<split>`` (or ``<split>/images``), with its label file.

    Raises
    ------
    DatasetError
        There is no such folder, or a label is missing.
    """
    _require_one_class(root)
    places = [
        (split, root / images, root / labels)
        for split, names in FOLDERS.items()
        for name in names
        for images, labels in (
            (f"images/{name}", f"labels/{name}"),
            (f"{name}/images", f"{name}/labels"),
        )
        if (root / images).is_dir()
    ]
    if not places and (root / "images").is_dir():
        places = [("train", root / "images", root / "labels")]
    if not places:
        raise DatasetError(root, "has no images/train; give the folder of a YOLO set")
    for split, images, labels in places:
        for folder in (images, labels):
            _require_no_link(root, folder)
        for id_, path in images_in(images).items():
            # A missing label file says the same as an empty one.
            label = labels / f"{id_}.txt"
            if label.exists() or label.is_symlink():
                label = file_inside(labels, label.name, labels)
            yield Found(id_, split, partial(_load, path, label))


def _require_no_link(root: Path, folder: Path) -> None:
    for part in (folder, *folder.parents):
        if part == root:
            return
        if part.is_symlink():
            raise DatasetError(part, "is a link, which is not followed; put the folder there")


def _require_one_class(root: Path) -> None:
    """Every class counts as target, so a set of several is told once it is opened."""
    file = root / "data.yaml"
    if not file.is_file():
        return
    try:
        text = file_inside(root, "data.yaml", root).read_text(encoding="utf-8")
        names = parse_yaml(text, str(file))["names"]
        several = len(names) > 1
    except (OSError, ValueError, ConfigError, KeyError, TypeError):
        raise DatasetError(file, "is not the data.yaml of a YOLO set, with names") from None
    if several:
        raise DatasetError(file, f"has {len(names)} classes; a mask holds one, so keep one")


def _load(path: Path, label: Path) -> Loaded:
    image = read_bytes(path)
    try:
        text = label.read_text(encoding="utf-8") if label.is_file() else ""
        mask = held(text, frame_shape(image, path))
    except (OSError, ValueError) as error:
        raise DatasetError(label, f"is no label file: {error!s:.80}") from None
    return loaded(image, path, mask)


def _box(box: NDArray[np.float64], shape: tuple[int, int]) -> Mask:
    """Fill the box (centre x, y, width, height) in pixels."""
    x, y, width, height = box.tolist()
    top, left = round(y - height / 2), round(x - width / 2)
    bottom, right = round(y + height / 2), round(x + width / 2)
    mask = np.zeros(shape, np.bool_)
    mask[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = True
    return mask


def _line(values: Sequence[float]) -> str:
    return " ".join(["0", *(f"{value:.{_DIGITS}f}" for value in values)]) + "\n"


_LAYOUT = "`images/<split>`, `labels/<split>` and `data.yaml`"

YOLO = Format(
    "yolo",
    f"{_LAYOUT}: a line a target with its box, which is all that is kept of its mask",
    annotate_boxes,
    held,
    files,
    index,
    read,
)
YOLO_SEG = Format(
    "yolo-seg",
    f"{_LAYOUT}: a line a target with its outline along the edges of its pixels",
    annotate_outlines,
    held,
    files,
    index,
    read,
)
