"""Hugging Face's ImageFolder: a folder a split, with ``metadata.jsonl``.

Loaded by ``datasets.load_dataset("imagefolder", data_dir=…)``: a row has ``image``, ``mask``
(from ``mask_file_name``), the id, and ``objects`` with the boxes (left, top, width, height).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pipelines.formats.sample import (
    Entry,
    Format,
    Found,
    Sample,
    Written,
    count_unused,
    file_inside,
    load_pair,
    only_known,
    plain_id,
    set_convention,
)
from synth.disk.split_names import FOLDERS
from synth.errors import DatasetError
from synth.frames import ImageFile
from synth.masks import MaskFile


def annotate(sample: Sample) -> dict[str, Any]:
    """The sample's row."""
    return {
        "file_name": f"images/{sample.id}{sample.suffix}",
        "mask_file_name": f"masks/{sample.id}.png",
        "id": sample.id,
        "objects": {"bbox": sample.boxes, "categories": [0] * len(sample.targets)},
    }


def files(sample: Sample, note: Any) -> dict[str, bytes]:
    """Image and mask."""
    return {
        f"{sample.split}/{note['file_name']}": sample.image,
        f"{sample.split}/{note['mask_file_name']}": sample.mask_png,
    }


def index(splits: Sequence[str], entries: Sequence[Entry], name: str) -> dict[str, bytes]:
    """The rows of each split that has any: a split without rows cannot be loaded."""
    rows: dict[str, list[str]] = {}
    for entry in entries:
        row = json.dumps(entry.note, separators=(",", ":"), ensure_ascii=False)
        rows.setdefault(entry.split, []).append(row + "\n")
    return {f"{split}/metadata.jsonl": "".join(lines).encode() for split, lines in rows.items()}


def read(root: Path, notes: Counter[str]) -> Iterator[Found]:
    """Every row of the metadata of every split.

    Raises
    ------
    DatasetError
        There are none, or a row names no image and mask.
    """
    places = [
        (split, root / name)
        for split, names in FOLDERS.items()
        for name in names
        if (root / name / "metadata.jsonl").exists()
    ]
    if not places and (root / "metadata.jsonl").exists():
        places = [("train", root)]
    if not places:
        raise DatasetError(root, "has no <split>/metadata.jsonl; give the folder of an ImageFolder")
    rows: list[tuple[str, str, Path, Path]] = []
    for split, folder in places:
        name = (folder / "metadata.jsonl").relative_to(root).as_posix()
        file = file_inside(root, name, root)
        for number, row in enumerate(_rows(file), start=1):
            image = file_inside(folder, only_known(row, "file_name", str, file), file)
            mask = file_inside(folder, only_known(row, "mask_file_name", str, file), file)
            id_ = row.get("id", image.stem)
            if not isinstance(id_, str):
                raise DatasetError(file, f"line {number} has an id that is no text")
            rows.append((plain_id(id_, file), split, image, mask))
    notes["unlisted"] += count_unused(
        root, {path for *_, image, mask in rows for path in (image, mask)}
    )
    convention = set_convention(root, [ImageFile(mask) for *_, mask in rows])
    for id_, split, image, mask in rows:
        load = partial(load_pair, ImageFile(image), MaskFile(ImageFile(mask), convention))
        yield Found(id_, split, load, source=image)


def _rows(file: Path) -> Iterator[Mapping[str, Any]]:
    try:
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise DatasetError(file, f"cannot be read ({error.strerror})") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, Mapping):
            raise DatasetError(file, f"line {number} is not one JSON object")
        yield row


_SAYS = "`<split>/metadata.jsonl` with the names of image and mask, the id and the boxes"
IMAGEFOLDER = Format("imagefolder", read, Written(_SAYS, annotate, None, files, index))
