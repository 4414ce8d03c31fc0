"""Pascal VOC: an XML a picture with the boxes of its targets, and their masks as numbered pixels.

``SegmentationObject`` numbers the targets from 1, ``SegmentationClass`` has 1 for all of them, both
with the colours that VOC gives to numbers. Boxes count pixels from 1, ends included.
"""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from pipelines.formats.drawing import Drawing
from pipelines.formats.sample import (
    Entry,
    Format,
    Found,
    Loaded,
    Sample,
    Written,
    file_inside,
    files_by_image,
    images_below,
    loaded,
    read_list,
    require_pixels,
    require_stated_size,
    to_numbers,
)
from pipelines.formats.shapes import Piece, cut_piece, draw_box
from synth.dataset import require_same_size
from synth.errors import DatasetError
from synth.frames import SUFFIXES, decode_image, frame_shape, read_bytes
from synth.masks import MaskConvention, describe_label, palette_numbers, parse_label
from synth.targets import label_targets

_MOST = 254
_CORNERS = ("xmin", "ymin", "xmax", "ymax")

# Void, the border that no one is evaluated on: a number, and the code of its colour.
_VOIDS = (255, parse_label("#e0e0c0"))

_ANY = MaskConvention("any", alpha=True)


def annotate(sample: Sample) -> str:
    """The text of the XML file.

    Raises
    ------
    DatasetError
        There are more targets than the format has numbers for.
    """
    if len(sample.targets) > _MOST:
        raise DatasetError(
            sample.id,
            f"has {len(sample.targets)} targets, and Pascal VOC numbers no more than {_MOST} in an "
            "image; take --format coco",
        )
    height, width = sample.shape
    image = decode_image(sample.image, f"{sample.id}{sample.suffix}")
    depth = 1 if image.ndim == 2 else image.shape[2]
    lines = [
        "<annotation>",
        f"  <folder>JPEGImages</folder>\n  <filename>{escape(sample.id)}{sample.suffix}</filename>",
        f"  <size><width>{width}</width><height>{height}</height><depth>{depth}</depth></size>",
        "  <segmented>1</segmented>",
    ]
    for target in sample.targets:
        top, left, bottom, right = target.box
        truncated = int(top == 0 or left == 0 or bottom == height or right == width)
        lines += [
            "  <object>",
            "    <name>target</name><pose>Unspecified</pose>"
            f"<truncated>{truncated}</truncated><difficult>0</difficult>",
            f"    <bndbox><xmin>{left + 1}</xmin><ymin>{top + 1}</ymin>"
            f"<xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox>",
            "  </object>",
        ]
    return "\n".join([*lines, "</annotation>", ""])


def files(sample: Sample, note: str) -> dict[str, bytes]:
    """Image, XML, and both masks."""
    _, labels = label_targets(sample.mask)
    return {
        f"JPEGImages/{sample.id}{sample.suffix}": sample.image,
        f"Annotations/{sample.id}.xml": note.encode(),
        f"SegmentationObject/{sample.id}.png": _encode_indices(labels.astype(np.uint8)),
        f"SegmentationClass/{sample.id}.png": _encode_indices(sample.mask.astype(np.uint8)),
    }


def index(splits: Sequence[str], entries: Sequence[Entry], name: str) -> dict[str, bytes]:
    """The lists of ids, for detection and for segmentation; ``trainval`` where both are there."""
    lists = {split: [entry.id for entry in entries if entry.split == split] for split in splits}
    if "val" in lists:
        lists["trainval"] = lists["train"] + lists["val"]
    return {
        f"ImageSets/{task}/{split}.txt": "".join(f"{id_}\n" for id_ in ids).encode()
        for task in ("Main", "Segmentation")
        for split, ids in lists.items()
    }


def read(root: Path, notes: Counter[str]) -> Iterator[Found]:
    """Every image of the lists, with its mask or, without one, its boxes.

    255 is void where the set's masks hold other numbers too; where there is nothing but 255, it is
    the target. Boxes count pixels from 1, ends included, unless some of the set hold a left or
    upper end below 1, or fractions: then they are edges, counted from 0, as CVAT writes them.

    Raises
    ------
    DatasetError
        Images or lists are missing, a list names what is not there, or a mask or an XML file is of
        no image.
    """
    pictures = root / "JPEGImages"
    if not pictures.is_dir() or pictures.is_symlink():
        raise DatasetError(root, "has no folder JPEGImages; give the folder of a Pascal VOC set")
    images = images_below(pictures, nested=False)
    lists: list[tuple[str, str]] = []
    for split in ("val", "test", "train"):
        # `trainval` holds `val` already, and stands in for `train`.
        for stem in (split, "trainval") if split == "train" else (split,):
            name = _list_of(root, stem)
            if name is None:
                continue
            for id_ in read_list(file_inside(root, name, root)):
                if id_ not in images:
                    raise DatasetError(root / name, f"names id {id_!r}, which has no image")
                if stem == split or ("val", id_) not in lists:
                    lists.append((split, id_))
            break
    if not lists:
        raise DatasetError(root, "has no ImageSets/Main/train.txt; which image is for what?")
    boxes: dict[str, Path] = {}
    if (annotations := root / "Annotations").is_dir():
        boxes = files_by_image(annotations, (".xml",), images)
    masks: dict[str, Path] = {}
    for folder in (root / "SegmentationClass", root / "SegmentationObject"):
        masks |= files_by_image(folder, SUFFIXES, images) if folder.is_dir() else {}
    listed = dict.fromkeys(id_ for _, id_ in lists)
    notes["unlisted"] += len(images) - len(listed)
    void = any(_holds_numbers(masks[id_]) for id_ in listed if id_ in masks)
    named = [boxes[id_] for id_ in listed if id_ in boxes]
    if named:
        require_pixels(chain.from_iterable(map(_coordinates, named)), named[0], "Pascal VOC")
    edges = any(_holds_edges(boxes[id_]) for id_ in listed if id_ in boxes)
    for split, id_ in lists:
        load = partial(_load, images[id_], masks.get(id_), boxes.get(id_), void, edges)
        yield Found(id_, split, load, source=images[id_])


def _list_of(root: Path, stem: str) -> str | None:
    """The name of a list in the set."""
    names = (f"ImageSets/{task}/{stem}.txt" for task in ("Segmentation", "Main"))
    return next((name for name in names if (root / name).is_file()), None)


def _load(path: Path, mask: Path | None, xml: Path | None, void: bool, edges: bool) -> Loaded:
    image = read_bytes(path)
    shape = frame_shape(image, path)
    objects = _read_objects(xml, shape, path, edges) if xml is not None else []
    drawing = Drawing(shape)
    if mask is not None:
        numbers = _decode_numbers(mask)
        require_same_size(mask, numbers.shape, shape)
        if void:
            dropped = np.isin(numbers, _VOIDS)
            drawing.notes["void_pixels"] += int(np.count_nonzero(dropped))
            numbers = np.where(dropped, 0, numbers)
        numbered = mask.parent.name == "SegmentationObject"
        for number in np.unique(numbers[numbers > 0]).tolist():
            own = numbers == number
            # Objects of a class have one number where only classes are numbered.
            count, labels = (1, own.astype(np.int32)) if numbered else label_targets(own)
            for label in range(1, count + 1):
                name = describe_label(number)
                told = int(name) if name.isdigit() else None
                drawing.add(cut_piece(labels == label), f"class {name}", number=told)
        # Numbers of objects say nothing of their classes, which the XML file has.
        if numbered or objects:
            drawing.classes = Counter(name for name, _ in objects)
        for _, piece in objects:
            drawing.notes["outside_mask"] += not (drawing.mask[piece.window] & piece.pixels).any()
    elif xml is not None:
        drawing.notes["from_edges" if edges else "from_boxes"] += 1
        for name, piece in objects:
            drawing.add(piece, name)
    else:
        drawing.notes["unlabelled"] += 1
    return loaded(image, path, drawing)


def _holds_numbers(file: Path) -> bool:
    """Whether a mask holds other numbers than 0 and void."""
    return bool(set(np.unique(_decode_numbers(file)).tolist()) - {0, *_VOIDS})


def _decode_numbers(file: Path) -> NDArray[Any]:
    """The numbers of a mask's pixels; for a mask of colours a code of each, see `synth.masks`."""
    data = read_bytes(file)
    codes = _ANY.values(data, file)
    numbers = palette_numbers(data, file)
    if numbers is None:
        return codes
    background = codes[numbers == 0]
    if background.any() and (codes[numbers > 0] == 0).any():
        raise DatasetError(
            file, "has a palette in which black is not number 0; save the mask as grey numbers"
        )
    return numbers


def _parse(file: Path) -> ElementTree.Element:
    data = read_bytes(file)
    try:
        return ElementTree.fromstring(data, ElementTree.XMLParser(target=_PlainTree()))
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise DatasetError(file, f"is no annotation of Pascal VOC: {error!s:.80}") from None


def _corners(item: ElementTree.Element) -> list[float]:
    """Left, top, right and bottom of an object's box; `ValueError` where it has none."""
    return to_numbers([item.findtext(f"bndbox/{key}") for key in _CORNERS], 4)


def _coordinates(file: Path) -> Iterator[float]:
    """The corners of all boxes of a file; what is no box is refused when it is read."""
    for item in _parse(file).iter("object"):
        try:
            yield from _corners(item)
        except ValueError:
            continue


def _holds_edges(file: Path) -> bool:
    """Whether a box cannot be one that counts whole pixels from 1."""
    for item in _parse(file).iter("object"):
        try:
            corners = _corners(item)
        except ValueError:
            continue  # named when it is read
        if min(corners[:2]) < 1 or any(corner % 1 for corner in corners):
            return True
    return False


def _read_objects(
    file: Path, shape: tuple[int, int], image: Path, edges: bool
) -> list[tuple[str, Piece]]:
    """Name and box of every object of an XML file."""
    root = _parse(file)
    # Pixels count from 1, and the last one belongs to the box.
    first = 0 if edges else 1
    stated = [_side(root.findtext(f"size/{key}")) for key in ("height", "width")]
    require_stated_size(file, (stated[0], stated[1]), shape, image)
    found = []
    for number, item in enumerate(root.iter("object"), start=1):
        name = (item.findtext("name") or "unnamed").strip()
        try:
            left, top, right, bottom = _corners(item)
            found.append((name, draw_box(left - first, top - first, right, bottom, shape)))
        except ValueError as error:
            raise DatasetError(file, f"object {number} ({name:.20}): {error}") from None
    return found


def _side(text: str | None) -> object:
    """A stated side; None where there is none, or 0, which programs write that do not know it."""
    text = (text or "").strip()
    try:
        return float(text) or None
    except ValueError:
        return text or None


class _PlainTree(ElementTree.TreeBuilder):
    """Refuses declarations: an annotation needs none, and entities can grow without end."""

    def doctype(self, name: str, pubid: str, system: str) -> None:
        raise ValueError("it declares a document type")


def _colours() -> NDArray[np.uint8]:
    """The colours (256, 3) of the numbers: their bits, dealt in turn to the high bits of RGB."""
    numbers = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for place in range(8):
        for channel in range(3):
            bit = numbers >> (3 * place + channel) & 1
            colours[:, channel] |= (bit << (7 - place)).astype(np.uint8)
    return colours


def _encode_indices(indices: NDArray[np.uint8]) -> bytes:
    """A PNG with a palette, which OpenCV does not write."""
    height, width = indices.shape
    rows = np.pad(indices, ((0, 0), (1, 0))).tobytes()
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        (b"PLTE", _colours().tobytes()),
        (b"IDAT", zlib.compress(rows, 9)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


_SAYS = (
    "`JPEGImages` (in their own file format), `Annotations`, `ImageSets`, and the numbered "
    "masks of `SegmentationObject` and `SegmentationClass`"
)
VOC = Format("voc", read, Written(_SAYS, annotate, None, files, index), True)
