"""COCO instances: one JSON a split, every target with its box and its mask as run lengths.

``annotations/instances_<split>.json`` beside a folder of images a split, as in COCO's releases.
Boxes are (left, top, width, height); pixel (row, col) spans [col, col + 1] by [row, row + 1].
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from skimage.draw import polygon2mask

from pipelines.formats.rle import decode_runs, encode_runs
from pipelines.formats.sample import (
    Entry,
    Format,
    Found,
    Loaded,
    Sample,
    file_inside,
    loaded,
    only_known,
    plain_id,
)
from synth.errors import DatasetError
from synth.frames import Mask, frame_shape, read_bytes
from synth.split_names import split_of
from synth.targets import label_targets

_CATEGORY = {"id": 1, "name": "target", "supercategory": "target"}


def annotate(sample: Sample) -> list[dict[str, Any]]:
    """Box, area and mask of every target."""
    _, labels = label_targets(sample.mask)
    notes = []
    for target in sample.targets:
        top, left, bottom, right = target.box
        own = labels[top:bottom, left:right] == target.index + 1
        counts = encode_runs(own, (top, left), sample.shape)
        notes.append(
            {
                "bbox": [left, top, right - left, bottom - top],
                "area": target.area,
                "segmentation": {"size": list(sample.shape), "counts": counts},
            }
        )
    return notes


def held(notes: list[dict[str, Any]], shape: tuple[int, int]) -> Mask:
    """The mask that the annotations of an image make up."""
    mask = np.zeros(shape, np.bool_)
    for note in notes:
        mask |= _drawn(note, shape)
    return mask


def files(sample: Sample, note: Any) -> dict[str, bytes]:
    """The image."""
    return {f"{sample.split}/{sample.id}{sample.suffix}": sample.image}


def index(splits: Sequence[str], entries: Sequence[Entry], name: str) -> dict[str, bytes]:
    """One JSON a split; ids of images and annotations count through all splits."""
    numbered = list(enumerate(entries, start=1))
    first = 1
    made = {}
    for split in splits:
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number, entry in numbered:
            if entry.split != split:
                continue
            height, width = entry.shape
            file_name = f"{entry.id}{entry.suffix}"
            images.append({"id": number, "file_name": file_name, "width": width, "height": height})
            for note in entry.note:
                place = {"id": first + len(annotations), "image_id": number, "category_id": 1}
                annotations.append(place | note | {"iscrowd": 0})
        first += len(annotations)
        whole = {
            "info": {"description": f"{name}, {split} split"},
            "licenses": [],
            "categories": [_CATEGORY],
            "images": images,
            "annotations": annotations,
        }
        text = json.dumps(whole, separators=(",", ":"), ensure_ascii=False)
        made[f"annotations/instances_{split}.json"] = text.encode() + b"\n"
    return made


def read(root: Path) -> Iterator[Found]:
    """Every image of every JSON of instances below a folder, in the order of their lists.

    Raises
    ------
    DatasetError
        There is none, or one is not as COCO has them, or names a file that is not there.
    """
    lists = sorted((root / "annotations").glob("*.json")) or sorted(root.glob("*/*.coco.json"))
    if not lists:
        raise DatasetError(root, "has no annotations/*.json; give the folder of a COCO set")
    for file in lists:
        whole = _parse(file_inside(root, file.relative_to(root).as_posix(), root))
        split = split_of(f"{file.parent.name} {file.stem}")
        notes: dict[Any, list[Mapping[str, Any]]] = {}
        for note in only_known(whole, "annotations", list, file):
            notes.setdefault(only_known(note, "image_id", int, file), []).append(note)
        for image in only_known(whole, "images", list, file):
            name = only_known(image, "file_name", str, file)
            path = _find(root, file, split, name)
            own = notes.get(only_known(image, "id", int, file), [])
            yield Found(plain_id(path.stem, file), split, partial(_load, path, own, file))


def _find(root: Path, file: Path, split: str, name: str) -> Path:
    """Find an image where the usual layouts have it."""
    # As `instances_train2017.json` has its images in `train2017`.
    own = re.sub("^instances_", "", file.stem)
    for folder in (own, split, f"images/{own}", f"images/{split}", "images", ""):
        if (root / folder / name).is_file():
            return file_inside(root, f"{folder}/{name}".lstrip("/") if folder else name, file)
    return file_inside(file.parent, name, file)


def _parse(file: Path) -> Mapping[str, Any]:
    try:
        whole = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(file, f"cannot be read as JSON ({error!s:.80})") from None
    if not isinstance(whole, Mapping):
        raise DatasetError(file, "is not one JSON object, as COCO has them")
    return whole


def _load(path: Path, notes: list[Mapping[str, Any]], file: Path) -> Loaded:
    image = read_bytes(path)
    shape = frame_shape(image, path)
    mask = np.zeros(shape, np.bool_)
    for note in notes:
        try:
            mask |= _drawn(note, shape)
        except (ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
            number = note.get("id")
            raise DatasetError(
                file, f"annotation {number!r:.20} of {path.name} is wrong: {error!s:.80}"
            ) from None
    return loaded(image, path, mask)


def _drawn(note: Mapping[str, Any], shape: tuple[int, int]) -> Mask:
    """The mask of an annotation: its run lengths, else its polygons, else its box."""
    parts = note.get("segmentation")
    if isinstance(parts, Mapping):
        if list(parts["size"]) != list(shape):
            raise ValueError(f"its size {parts['size']!r} is not the image's, {list(shape)}")
        return decode_runs(parts["counts"], shape)
    mask = np.zeros(shape, np.bool_)
    if parts:
        for part in parts:
            points = np.array(part, np.float64).reshape(-1, 2)
            # A pixel belongs to a polygon that holds its centre.
            mask |= polygon2mask(shape, points[:, ::-1] - 0.5)
        return mask
    left, top, width, height = (round(float(value)) for value in note["bbox"])
    mask[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)] = True
    return mask


COCO = Format(
    "coco",
    "`annotations/instances_<split>.json`: boxes (left, top, width, height) and masks as "
    "compressed run lengths, one annotation a target; images in a folder a split",
    annotate,
    held,
    files,
    index,
    read,
)
