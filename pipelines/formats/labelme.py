"""labelme: a JSON an image, with the shapes that were drawn on it; only read.

``shapes`` holds a record a shape: ``label``, ``shape_type``, ``points`` (x, y), and for a mask a
PNG in base64, whose box is given by ``points``, both ends included. Shapes of one ``group_id`` and
label are one annotation. ``imagePath`` leads from the JSON's folder to the image; ``imageData``
may hold the image's file in base64.
"""

from __future__ import annotations

import base64
import binascii
import math
import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.formats.drawing import Drawing
from pipelines.formats.sample import (
    IN_FOLDERS,
    Format,
    Found,
    Loaded,
    files_below,
    loaded,
    name_key,
    nested_id,
    only_known,
    plain_id,
    read_json,
    require_pixels,
    require_stated_size,
    split_of_folders,
    to_numbers,
)
from pipelines.formats.shapes import (
    Piece,
    cut_piece,
    draw_box,
    draw_disc,
    draw_point,
    draw_polygon,
    join_pieces,
)
from synth.disk.layout import require_one_split
from synth.errors import DatasetError
from synth.frames import SUFFIXES, decode_image, frame_shape, read_bytes

# What labelme's own tools take for pixels that are no object.
_NO_OBJECTS = ("__ignore__", "_background_")

_SIGNATURES = {b"\x89PNG": ".png", b"\xff\xd8": ".jpg", b"BM": ".bmp", b"II": ".tif", b"MM": ".tif"}


def read(root: Path, notes: Counter[str]) -> Iterator[Found]:
    """Every image below a folder with its JSON, which is beside it or in another folder.

    Raises
    ------
    DatasetError
        There is no JSON of labelme, one is damaged or is of no image, or two are of one image.
    """
    images = {path.relative_to(root): path for path in files_below(root, SUFFIXES)}
    by_key = {name_key(path): path for path in images}
    owners: dict[Path, Path] = {}
    coordinates: list[float] = []
    lone: list[tuple[Path, str, bytes]] = []
    for file in files_below(root, (".json",)):
        whole = _parse(file)
        if whole is None:
            notes["other_lists"] += 1
            continue
        coordinates += _coordinates(whole)
        inside = file.relative_to(root)
        image = _find(inside, whole.get("imagePath"), images, by_key)
        beside = by_key.get(name_key(inside), image)
        if image != beside:
            raise DatasetError(
                file,
                f"is of {image} by its imagePath, and of {beside} by its own name; correct the "
                "imagePath, or move one of the images out",
            )
        if image is None:
            lone.append((file, *_embedded(file, whole)))
        elif image in owners:
            raise DatasetError(file, f"is of the same image as {owners[image]}; remove one")
        else:
            owners[image] = file
    if not owners and not lone:
        raise DatasetError(root, "holds no JSON of labelme (with shapes); give the set's folder")
    require_pixels(coordinates, next(iter(owners.values()), root), "labelme")
    splits = {path: split_of_folders(path, place) for path, place in images.items()}
    if set(splits.values()) == {"train"}:
        require_one_split(root, images.values(), IN_FOLDERS, [*owners.values()])
    for path, place in images.items():
        load = partial(_load, place, owners.get(path))
        yield Found(plain_id(nested_id(path), root), splits[path], load, source=place)
    for file, suffix, data in lone:
        inside = file.relative_to(root)
        load = partial(_load, file.with_suffix(suffix), file, data)
        yield Found(
            plain_id(nested_id(inside), root), split_of_folders(inside, file), load, source=file
        )


def _parse(file: Path) -> Mapping[str, Any] | None:
    """A JSON of labelme; None for one of something else."""
    whole = read_json(file)
    return whole if isinstance(whole, Mapping) and "shapes" in whole else None


def _coordinates(whole: Mapping[str, Any]) -> list[float]:
    """The numbers of all points; what is none is refused when it is drawn."""
    records = whole["shapes"] if isinstance(whole["shapes"], list) else []
    found = [record.get("points") for record in records if isinstance(record, Mapping)]
    points = [point for points in found if isinstance(points, list) for point in points]
    numbers = [number for point in points if isinstance(point, list) for number in point]
    return [number for number in numbers if isinstance(number, int | float)]


def _find(
    file: Path, name: object, images: Mapping[Path, Path], by_key: Mapping[str, Path]
) -> Path | None:
    """The image of a JSON: where ``imagePath`` leads, else the one of the same name."""
    names = []
    if isinstance(name, str) and name:
        # It may be written on Windows, and lead through folders that no longer exist.
        path = posixpath.join(file.parent.as_posix(), name.replace("\\", "/"))
        names = [Path(posixpath.normpath(path)), file.parent / posixpath.basename(path)]
    names.append(file)
    for wanted in names:
        if wanted in images:
            return wanted
        if (found := by_key.get(name_key(wanted))) is not None:
            return found
    wanted = names[-2] if len(names) > 1 else file
    same = [path for path in images if name_key(Path(path.name)) == name_key(Path(wanted.name))]
    return same[0] if len(same) == 1 else None


def _embedded(file: Path, whole: Mapping[str, Any]) -> tuple[str, bytes]:
    """Suffix and bytes of the image that a JSON holds itself."""
    text = whole.get("imageData")
    if not isinstance(text, str):
        raise DatasetError(
            file, f"is of the image {whole.get('imagePath')!r:.80}, which is not there; add it"
        )
    data = _decode(text, file)
    for start, suffix in _SIGNATURES.items():
        if data.startswith(start):
            return suffix, data
    raise DatasetError(file, "has imageData that is no image file; add the image itself")


def _decode(text: object, file: Path) -> bytes:
    try:
        return base64.b64decode(text if isinstance(text, str) else "?", validate=True)
    except (binascii.Error, ValueError):
        raise DatasetError(file, "has imageData or a mask that is no base64") from None


def _load(place: Path, file: Path | None, data: bytes | None = None) -> Loaded:
    image = read_bytes(place) if data is None else data
    shape = frame_shape(image, place)
    drawing = Drawing(shape)
    if file is None:
        drawing.notes["unlabelled"] += 1
        return loaded(image, place, drawing)
    drawing.notes["embedded"] += data is not None
    whole = _parse(file) or {}
    require_stated_size(file, (whole.get("imageHeight"), whole.get("imageWidth")), shape, place)
    own: tuple[object, ...]
    groups: dict[tuple[object, ...], list[Piece]] = {}
    points: dict[tuple[object, ...], int] = {}
    for number, record in enumerate(only_known(whole, "shapes", list, file), start=1):
        label = only_known(record, "label", str, file)
        kind = record.get("shape_type") or "polygon"
        try:
            piece = _draw(record, kind, label, shape, file)
        except (ValueError, TypeError) as error:
            raise DatasetError(file, f"shape {number} ({label:.20}): {error!s:.160}") from None
        group = record.get("group_id")
        own = ("group", label, str(group)) if group is not None else ("shape", label, number)
        groups.setdefault(own, []).append(piece)
        points[own] = points.get(own, 0) + (kind == "point")
    for own, pieces in groups.items():
        drawing.add(join_pieces(pieces), str(own[1]), *["points"] * points[own])
    return loaded(image, place, drawing)


def _draw(
    record: Mapping[str, Any], kind: object, label: str, shape: tuple[int, int], file: Path
) -> Piece:
    if label in _NO_OBJECTS:
        raise ValueError("marks pixels that are no object; remove it or give it another label")
    listed = record.get("points")
    points = [to_numbers(point, 2) for point in listed if point] if isinstance(listed, list) else []
    # Programs after labelme write all corners of a rectangle, which may be turned.
    if kind == "polygon" or (kind in ("rectangle", "rotation") and len(points) == 4):
        return draw_polygon(points, shape)
    if kind == "point" and len(points) == 1:
        return draw_point(points[0][0], points[0][1], shape)
    if kind in ("rectangle", "circle", "mask") and len(points) == 2:
        (x0, y0), (x1, y1) = points
        if kind == "rectangle":
            return draw_box(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1), shape)
        if kind == "circle":
            return draw_disc(x0, y0, math.hypot(x1 - x0, y1 - y0), shape)
        return _paste(record, (x0, y0, x1, y1), shape, file)
    if kind in ("line", "linestrip"):
        raise ValueError(f"is a {kind}, which has no width; draw a polygon round the target")
    raise ValueError(f"is a {kind!s:.20} of {len(points)} points, which is not read")


def _paste(
    record: Mapping[str, Any],
    box: tuple[float, float, float, float],
    shape: tuple[int, int],
    file: Path,
) -> Piece:
    """The pixels of a mask, at its box."""
    if not np.isfinite(box).all() or max(map(abs, box)) > 1e6:
        raise ValueError("has a box that is no part of an image")
    left, top, right, bottom = (int(side) for side in box)
    values = decode_image(_decode(record.get("mask"), file), file)
    if values.ndim == 3:
        values = values[:, :, :3].max(axis=2)
    if values.shape != (bottom - top + 1, right - left + 1):
        raise ValueError(
            f"has a mask of {values.shape[1]}x{values.shape[0]} pixels (w x h) for a box of "
            f"{right - left + 1}x{bottom - top + 1}"
        )
    height, width = shape
    first_row, first_col = max(-top, 0), max(-left, 0)
    inside = values[first_row : max(height - top, 0), first_col : max(width - left, 0)] > 0
    clipped = bool(np.count_nonzero(inside) < np.count_nonzero(values))
    piece = cut_piece(inside, top + first_row, left + first_col)
    return piece._replace(clipped=clipped)


LABELME = Format("labelme", read, classes=True)
