"""COCO instances: one JSON a split, every target with its box and its mask as run lengths.

``annotations/instances_<split>.json`` beside a folder of images a split, as in COCO's releases.
Boxes are (left, top, width, height); pixel (row, col) spans [col, col + 1] by [row, row + 1].
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.formats.drawing import Drawing
from pipelines.formats.rle import decode_runs, encode_runs
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
    loaded,
    nested_id,
    only_known,
    plain_id,
    read_json,
    require_stated_size,
    to_numbers,
)
from pipelines.formats.shapes import Piece, cut_piece, draw_box, draw_polygon, join_pieces
from synth.errors import DatasetError
from synth.frames import Mask, frame_shape, read_bytes
from synth.layout import require_one_split
from synth.split_names import split_told, splits_told
from synth.targets import label_targets

_CATEGORY = {"id": 1, "name": "target", "supercategory": "target"}


def annotate(sample: Sample) -> list[dict[str, Any]]:
    """Box, area and mask of every target."""
    _, labels = label_targets(sample.mask)
    notes = []
    for target, box in zip(sample.targets, sample.boxes, strict=True):
        top, left, bottom, right = target.box
        own = labels[top:bottom, left:right] == target.index + 1
        counts = encode_runs(own, (top, left), sample.shape)
        notes.append(
            {
                "bbox": box,
                "area": target.area,
                "segmentation": {"size": list(sample.shape), "counts": counts},
            }
        )
    return notes


def held(notes: list[dict[str, Any]], shape: tuple[int, int]) -> Mask:
    """The mask that the annotations of an image make up."""
    drawing = Drawing(shape)
    for note in notes:
        drawing.add(_draw(note, shape), "target")
    return drawing.mask


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


def read(root: Path, notes: Counter[str]) -> Iterator[Found]:
    """Every image of every JSON of instances below a folder, in the order of their lists.

    Raises
    ------
    DatasetError
        There is none, or one is not as COCO has them, or names a file that is not there, an image
        twice, or an image that it does not list; its numbers are shares of the image's sides; it
        cannot be told which split it is for.
    """
    used: set[Path] = set()
    lists = _lists(root, notes)
    told: tuple[str, ...] = ()
    for file, whole in lists:
        inside = file.relative_to(root)
        told = splits_told(inside.stem) or splits_told(inside.parent.name)
        if len(told) > 1 or (not told and len(lists) > 1):
            found = f"several splits ({', '.join(told)})" if told else "no split, as others do"
            raise DatasetError(file, f"tells {found}; name it instances_train, _val or _test.json")
        classes = _class_names(whole, file)
        own: dict[int, list[Mapping[str, Any]]] = {}
        for note in only_known(whole, "annotations", list, file):
            own.setdefault(only_known(note, "image_id", int, file), []).append(note)
        _require_pixels(whole["annotations"], file)
        seen: set[int] = set()
        for image in only_known(whole, "images", list, file):
            number = only_known(image, "id", int, file)
            name = only_known(image, "file_name", str, file).replace("\\", "/")
            path = _find(root, file, told[0] if told else "train", name)
            split = told[0] if told else _split_of_folders(path.relative_to(root))
            id_ = plain_id(nested_id(Path(name)), file)
            if number in seen:
                raise DatasetError(file, f"lists image {number} twice, with the id {id_!r} again")
            seen.add(number)
            used.add(path)
            # Programs that do not know a side write 0.
            stated = image.get("height") or None, image.get("width") or None
            load = partial(_load, path, own.pop(number, []), file, stated, classes)
            yield Found(id_, split, load, source=path)
        for number, left in own.items():
            raise DatasetError(
                file,
                f"annotation {left[0].get('id')!r:.20} is of image {number}, which is not listed "
                f"({sum(map(len, own.values())):,} in all); list the image or remove them",
            )
    if told == () and all(_split_of_folders(path.relative_to(root)) == "train" for path in used):
        require_one_split(root, used, IN_FOLDERS, [file for file, _ in lists])
    notes["unlisted"] += count_unused(root, used)


def _lists(root: Path, notes: Counter[str]) -> list[tuple[Path, Mapping[str, Any]]]:
    """The JSON files of instances, at the first place that has any."""
    for pattern in ("annotations/*.json", "*/*.coco.json", "*.json"):
        files = [
            file_inside(root, path.relative_to(root).as_posix(), root)
            for path in sorted(root.glob(pattern))
            if not path.name.startswith(".")
        ]
        # A release of COCO has the same images again under captions and keypoints.
        named = [path for path in files if path.name.startswith("instances")]
        read = [(path, _parse(path)) for path in named or files]
        if pattern == "*.json":
            read = [(path, whole) for path, whole in read if "annotations" in whole]
        if read:
            notes["other_lists"] += len(files) - len(read)
            return read
    raise DatasetError(root, "has no annotations/*.json; give the folder of a COCO set")


def _split_of_folders(path: Path) -> str:
    """The split that a folder of an image's path tells; training where none does."""
    return next(filter(None, map(split_told, path.parts[:-1])), "train")


def _require_pixels(notes: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Coordinates of at most 1 throughout, some with a fraction, are shares of the sides."""
    numbers: list[float] = []
    for note in notes:
        parts = note.get("segmentation")
        if isinstance(parts, Mapping):
            return
        # Polygons are lists in a list; what is no list at all is refused when it is drawn.
        for values in parts if isinstance(parts, list) and parts else [note.get("bbox")]:
            own = values if isinstance(values, list) else [values]
            numbers += [number for number in own if isinstance(number, int | float)]
        if numbers and max(numbers) > 1:
            return
    if any(number % 1 for number in numbers):
        raise DatasetError(
            file,
            "has no coordinate above 1, so they seem to be shares of the image's sides; COCO has "
            "pixels, so multiply them by width and height",
        )


def _class_names(whole: Mapping[str, Any], file: Path) -> dict[Any, str]:
    names = {}
    categories = whole.get("categories", [])
    for category in categories if isinstance(categories, list) else []:
        number = only_known(category, "id", int, file)
        names[number] = str(category.get("name", f"category {number}"))
    return names


def _find(root: Path, file: Path, split: str, name: str) -> Path:
    """Find an image where the usual layouts have it."""
    # As `instances_train2017.json` has its images in `train2017`.
    own = re.sub("^instances_", "", file.stem)
    folders = (own, split, f"images/{own}", f"images/{split}", f"{split}/images")
    for folder in (*folders, "images", "data", ""):
        # A file system may keep a name in either of Unicode's forms.
        for form in (name, *(unicodedata.normalize(kind, name) for kind in ("NFC", "NFD"))):
            if (root / folder / form).is_file():
                return file_inside(root, f"{folder}/{form}" if folder else form, file)
    return file_inside(file.parent, name, file)


def _parse(file: Path) -> Mapping[str, Any]:
    whole = read_json(file)
    if not isinstance(whole, Mapping):
        raise DatasetError(file, "is not one JSON object, as COCO has them")
    return whole


def _load(
    path: Path,
    notes: list[Mapping[str, Any]],
    file: Path,
    stated: tuple[object, object],
    classes: Mapping[Any, str],
) -> Loaded:
    image = read_bytes(path)
    shape = frame_shape(image, path)
    require_stated_size(file, stated, shape, path)
    drawing = Drawing(shape)
    for note in notes:
        category = note.get("category_id")
        try:
            piece = _draw(note, shape)
            name = classes.get(category, f"category {category!s:.20}")
            drawing.add(piece, name, *["crowds"] * bool(note.get("iscrowd")))
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise DatasetError(
                file, f"annotation {note.get('id')!r:.20} of {path.name}: {error!s:.200}"
            ) from None
    return loaded(image, path, drawing)


def _draw(note: Mapping[str, Any], shape: tuple[int, int]) -> Piece:
    """The pixels of an annotation: its run lengths, else its polygons, else its box."""
    parts = note.get("segmentation")
    if isinstance(parts, Mapping):
        size = parts.get("size")
        if not isinstance(size, list) or size != list(shape):
            advice = ", but its sides are swapped" if size == list(shape[::-1]) else ""
            raise ValueError(
                f"has a mask of {size!r:.40} (h, w), which is not the image's {list(shape)}{advice}"
                "; annotate the image at its own size"
            )
        return cut_piece(decode_runs(parts.get("counts"), shape))
    if parts is not None and not isinstance(parts, list):
        raise ValueError(f"has the segmentation {parts!r:.40}, which is no polygon and no mask")
    if parts and all(isinstance(part, int | float) for part in parts):
        parts = [parts]
    polygons = [part for part in parts or [] if part != []]
    if polygons:
        return join_pieces([_draw_part(part, shape) for part in polygons])
    if note.get("bbox") is None:
        raise ValueError("has neither a segmentation nor a bbox; only instances make a mask")
    left, top, width, height = to_numbers(note["bbox"], 4)
    return draw_box(left, top, left + width, top + height, shape)


def _draw_part(part: object, shape: tuple[int, int]) -> Piece:
    numbers = to_numbers(part)
    if len(numbers) % 2:
        raise ValueError(f"has a polygon of {len(numbers)} numbers, which is odd")
    return draw_polygon(np.array(numbers).reshape(-1, 2), shape)


_SAYS = (
    "`annotations/instances_<split>.json`: boxes (left, top, width, height) and masks as "
    "compressed run lengths, one annotation a target; images in a folder a split"
)
COCO = Format("coco", read, Written(_SAYS, annotate, held, files, index), True)
