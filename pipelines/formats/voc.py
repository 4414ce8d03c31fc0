"""Pascal VOC: an XML a picture with the boxes of its targets, and their masks as numbered pixels.

``SegmentationObject`` numbers the targets from 1, ``SegmentationClass`` has 1 for all of them, both
with the colours that VOC gives to numbers. Boxes count pixels from 1, ends included.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from pipelines.formats.sample import (
    Entry,
    Format,
    Found,
    Loaded,
    Sample,
    file_inside,
    images_in,
    loaded,
    plain_id,
)
from synth.dataset import require_same_size
from synth.errors import DatasetError
from synth.frames import Mask, decode_image, frame_shape, read_bytes
from synth.split_names import FOLDERS
from synth.targets import label_targets

# 255 is the border that nobody is judged on.
_MOST, _VOID = 254, 255


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


def read(root: Path) -> Iterator[Found]:
    """Every image of the lists, with its mask or, without one, its boxes.

    Raises
    ------
    DatasetError
        Images or lists are missing, or a list names what is not there.
    """
    pictures = root / "JPEGImages"
    if not pictures.is_dir() or pictures.is_symlink():
        raise DatasetError(root, "has no folder JPEGImages; give the folder of a Pascal VOC set")
    images = images_in(pictures)
    found = False
    for split in FOLDERS:
        for task in ("Segmentation", "Main"):
            name = f"ImageSets/{task}/{split}.txt"
            if not (root / name).is_file():
                continue
            found = True
            for id_ in _read_list(file_inside(root, name, root)):
                if id_ not in images:
                    raise DatasetError(root / name, f"names id {id_!r}, which has no image")
                yield Found(id_, split, partial(_load, root, images[id_]))
            break
    if not found:
        raise DatasetError(root, "has no ImageSets/Main/train.txt; which image is for what?")


def _read_list(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(file, f"cannot be read as a list of ids ({error})") from None
    # The lists of a class say in a second column whether it is there.
    ids = (re.sub(r"\s+(-1|0|1)$", "", line.strip()) for line in lines)
    return [plain_id(id_, file) for id_ in ids if id_]


def _load(root: Path, path: Path) -> Loaded:
    image = read_bytes(path)
    for folder in ("SegmentationObject", "SegmentationClass"):
        name = f"{folder}/{path.stem}.png"
        if (root / name).is_file():
            file = file_inside(root, name, root)
            return loaded(image, path, _decode_mask(file, frame_shape(image, path)))
    name = f"Annotations/{path.stem}.xml"
    return loaded(image, path, _read_boxes(file_inside(root, name, path), frame_shape(image, path)))


def _decode_mask(file: Path, shape: tuple[int, int]) -> Mask:
    """All numbered pixels of a mask, whether it holds numbers or their colours."""
    values = decode_image(read_bytes(file), file)
    require_same_size(file, values.shape[:2], shape)
    if values.ndim == 2:
        return (values > 0) & (values != _VOID)
    colours = values[:, :, :3]
    void = (colours == _colours()[_VOID, ::-1]).all(axis=2)
    return colours.any(axis=2) & ~void


def _read_boxes(file: Path, shape: tuple[int, int]) -> Mask:
    data = read_bytes(file)
    mask = np.zeros(shape, np.bool_)
    try:
        parser = ElementTree.XMLParser(target=_PlainTree())
        for box in ElementTree.fromstring(data, parser).iter("bndbox"):
            left, top, right, bottom = (
                round(float(box.findtext(key) or "none"))
                for key in ("xmin", "ymin", "xmax", "ymax")
            )
            mask[max(top - 1, 0) : max(bottom, 0), max(left - 1, 0) : max(right, 0)] = True
    except (ElementTree.ParseError, ValueError, OverflowError, LookupError) as error:
        raise DatasetError(file, f"is no annotation of Pascal VOC: {error!s:.80}") from None
    return mask


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


VOC = Format(
    "voc",
    "`JPEGImages` (in their own file format), `Annotations`, `ImageSets`, and the numbered masks "
    "of `SegmentationObject` and `SegmentationClass`",
    annotate,
    None,
    files,
    index,
    read,
)
