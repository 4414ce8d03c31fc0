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
    require_pixels,
    require_stated_size,
    split_of_folders,
    to_numbers,
)
from pipelines.formats.shapes import Piece, cut_piece, draw_box, draw_polygon, join_pieces
from synth.disk.layout import require_one_split
from synth.disk.split_names import splits_told
from synth.errors import DatasetError
from synth.frames import SUFFIXES, Mask, frame_shape, read_bytes
from synth.targets import label_targets

_CATEGORY = {"id": 1, "name": "target", "supercategory": "target"}

# Pixels by which a box may differ from its segmentation.
_BOX_SLACK = 2.5


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
    by_name: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() in SUFFIXES:
            by_name.setdefault(path.name, []).append(path)
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
        _require_sizes(whole["annotations"], file)
        seen: set[int] = set()
        for image in only_known(whole, "images", list, file):
            number = only_known(image, "id", int, file)
            name = only_known(image, "file_name", str, file).replace("\\", "/")
            path = _find(root, file, told[0] if told else "train", name, by_name)
            split = told[0] if told else split_of_folders(path.relative_to(root), path)
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
    if told == () and all(
        split_of_folders(path.relative_to(root), path) == "train" for path in used
    ):
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
    require_pixels(numbers, file, "COCO")


def _require_sizes(notes: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Boxes whose areas are all those between two corners are corners, not sizes."""
    apart = False
    for note in notes:
        try:
            left, top, wide, high = to_numbers(note.get("bbox"), 4)
            (area,) = to_numbers([note.get("area")], 1)
        except ValueError:
            return
        if min(wide - left, high - top) <= 0 or abs((wide - left) * (high - top) - area) > 0.5:
            return
        apart |= abs(wide * high - area) > 0.5
    if apart:
        raise DatasetError(
            file,
            "has boxes that fit their areas as two corners only; COCO has left, top, width and "
            "height, so write those",
        )


def _require_box(note: Mapping[str, Any], piece: Piece, shape: tuple[int, int]) -> None:
    """Test that a box is about that of the segmentation; programs differ by a pixel or two."""
    try:
        left, top, wide, high = to_numbers(note.get("bbox"), 4)
    except ValueError:
        return
    if not note.get("segmentation") or max(wide, high) <= 0 or not piece.pixels.any():
        return
    rows, cols = np.nonzero(piece.pixels)
    row, col = (part.start or 0 for part in piece.window)
    own = [col + cols.min(), row + rows.min(), col + cols.max() + 1, row + rows.max() + 1]
    height, width = shape
    box = np.clip([left, top, left + wide, top + high], 0, [width, height, width, height])
    if np.abs(box - own).max() > _BOX_SLACK:
        raise ValueError(
            f"has the bbox {note['bbox']!r:.60}, but its segmentation is in "
            f"{[int(own[0]), int(own[1]), int(own[2] - own[0]), int(own[3] - own[1])]}; run "
            "lengths go down the columns, and a bbox is left, top, width, height; correct one"
        )


def _class_names(whole: Mapping[str, Any], file: Path) -> dict[Any, str]:
    names = {}
    categories = whole.get("categories", [])
    for category in categories if isinstance(categories, list) else []:
        number = only_known(category, "id", int, file)
        names[number] = str(category.get("name", f"category {number}"))
    return names


def _find(root: Path, file: Path, split: str, name: str, by_name: Mapping[str, list[Path]]) -> Path:
    """Find an image where the usual layouts have it."""
    # As `instances_train2017.json` has its images in `train2017`.
    own = re.sub("^instances_", "", file.stem)
    folders = (own, split, f"images/{own}", f"images/{split}", f"{split}/images")
    # A file system may keep a name in either of Unicode's forms.
    forms = (name, *(unicodedata.normalize(kind, name) for kind in ("NFC", "NFD")))
    places = [(folder, form) for folder in (*folders, "images", "data", "") for form in forms]
    there = [(folder, form) for folder, form in places if (root / folder / form).is_file()]
    if not there:
        return file_inside(file.parent, name, file)
    folder, form = there[0]
    path = file_inside(root, f"{folder}/{form}" if folder else form, file)
    others = [root / folder / form for folder, form in there]
    if folder in ("images", "data"):
        # Nothing but its name says that this is the image.
        beside = by_name.get(path.name, [])
        others += [other for other in beside if not other.is_relative_to(root / folder)]
    for other in others:
        if not other.samefile(path) and other.as_posix().endswith(f"/{form}"):
            raise DatasetError(
                file, f"names {name!r:.80}, which is {path} and {other}; keep or name one folder"
            )
    return path


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
            _require_box(note, piece, shape)
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
