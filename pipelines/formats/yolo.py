"""YOLO: a line of text a target, its box or its outline, in shares of the image's sides.

Boxes hold no more of a mask than its extent, and are read by the rule of `shapes`. Outlines hold
all of it, and are read as the family draws them, see `outlines`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.card import one_line
from pipelines.config import parse_yaml
from pipelines.errors import ConfigError
from pipelines.formats.drawing import Drawing
from pipelines.formats.outlines import fill, outline
from pipelines.formats.sample import (
    Entry,
    Format,
    Found,
    Loaded,
    Sample,
    Written,
    file_inside,
    files_below,
    images_below,
    loaded,
    name_key,
)
from pipelines.formats.shapes import SLACK, Piece, cut_piece, draw_box
from pipelines.formats.split_names import FOLDERS
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
            raise ValueError(f"line {number} holds what is no number") from None
        if not class_.is_integer() or class_ < 0:
            raise ValueError(f"line {number} has the class {values[0]!r:.20}, which is no number")
        if names and int(class_) not in names:
            raise ValueError(f"line {number} has the class {int(class_)}, which has no name")
        try:
            piece = _draw(np.array(shares), shape)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
        drawing.add(piece, names.get(int(class_), f"class {int(class_)}"))
    return drawing


def _draw(shares: NDArray[np.float64], shape: tuple[int, int]) -> Piece:
    height, width = shape
    if not np.isfinite(shares).all() or (np.abs(shares) > 2).any():
        raise ValueError("holds what is no share of the image's sides; are these pixels?")
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
    """Every image below ``images/<split>`` (or ``<split>/images``), with its label file.

    A label file is at the same place below the folder of labels, or beside the image where there is
    no such folder. An image without one is free of targets.

    Raises
    ------
    DatasetError
        There is no such folder, no label, a label without an image, or images in no split.
    """
    names = _class_names(root)
    places = [
        (split, root / images, root / labels)
        for split, folders in FOLDERS.items()
        for name in folders
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
    for _, *folders in places:
        for folder in folders:
            _require_no_link(root, folder)
    _require_splits(root / "images", [images for _, images, _ in places], SUFFIXES)
    _require_splits(root / "labels", [labels for _, _, labels in places], (".txt",))
    labelled = {images: _labels_of(images, labels) for _, images, labels in places}
    if not any(labelled.values()):
        raise DatasetError(places[0][2], "holds no label file; is it the folder of the labels?")
    for split, images, labels in places:
        pictures, texts = images_below(images), labelled[images]
        if pictures and not texts and not labels.is_dir():
            raise DatasetError(labels, f"is not there, and there are no labels in {images}; add it")
        for id_, path in pictures.items():
            label = texts.pop(name_key(path.relative_to(images)), None)
            yield Found(id_, split, partial(_load, path, label, names), source=path)
        for label in texts.values():
            raise DatasetError(label, f"is a label without an image in {images}; add or remove it")


def _labels_of(images: Path, labels: Path) -> dict[str, Path]:
    """Label files by their place, see `name_key`."""
    found: dict[str, Path] = {}
    folder = labels if labels.is_dir() else images
    for path in files_below(folder, (".txt",)):
        if path.name in _NO_LABELS:
            continue
        key = name_key(path.relative_to(folder))
        if key in found:
            raise DatasetError(path, f"is for the same image as {found[key].name}; remove one")
        found[key] = path
    return found


def _require_splits(folder: Path, places: Sequence[Path], suffixes: Sequence[str]) -> None:
    """What lies beside the folders of the splits would be lost."""
    if not folder.is_dir():
        return
    for path in files_below(folder, suffixes):
        beside = not any(path.is_relative_to(place) for place in places)
        if beside and path.name not in _NO_LABELS:
            raise DatasetError(path, "is in no split; move it to the folder of a split, as train")


def _require_no_link(root: Path, folder: Path) -> None:
    for part in (folder, *folder.parents):
        if part == root:
            return
        if part.is_symlink():
            raise DatasetError(part, "is a link, which is not followed; put the folder there")


def _class_names(root: Path) -> dict[int, str]:
    """Names of the classes by number; none where there is no ``data.yaml``."""
    file = root / "data.yaml"
    if not file.is_file():
        return {}
    try:
        text = file_inside(root, "data.yaml", root).read_text(encoding="utf-8-sig")
        whole = parse_yaml(text, str(file))
        names = whole["names"]
        pairs = names.items() if isinstance(names, Mapping) else enumerate(names)
        found = {int(number): str(name) for number, name in pairs}
    except (OSError, ValueError, ConfigError, KeyError, TypeError):
        raise DatasetError(file, "is not the data.yaml of a YOLO set, with names") from None
    if "kpt_shape" in whole:
        raise DatasetError(file, "is of a set of poses (kpt_shape); keypoints make no mask")
    return found


def _load(path: Path, label: Path | None, names: Mapping[int, str]) -> Loaded:
    image = read_bytes(path)
    shape = frame_shape(image, path)
    if label is None:
        drawing = Drawing(shape)
        drawing.notes["unlabelled"] += 1
        return loaded(image, path, drawing)
    try:
        text = label.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise DatasetError(label, f"is no label file: {error!s:.80}") from None
    try:
        return loaded(image, path, draw_lines(text, shape, names))
    except ValueError as error:
        raise DatasetError(label, str(error)) from None


def _line(values: Sequence[float]) -> str:
    return " ".join(["0", *(f"{value:.{_DIGITS}f}" for value in values)]) + "\n"


_LAYOUT = "`images/<split>`, `labels/<split>` and `data.yaml`"

YOLO = Format(
    "yolo",
    read,
    Written(
        f"{_LAYOUT}: a line a target with its box, which is all that is kept of its mask",
        annotate_boxes,
        held,
        files,
        index,
    ),
)
YOLO_SEG = Format(
    "yolo-seg",
    read,
    Written(
        f"{_LAYOUT}: a line a target with its outline along the edges of its pixels",
        annotate_outlines,
        held,
        files,
        index,
    ),
)
