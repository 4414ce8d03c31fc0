"""WebDataset: tar files of so many samples, for reading in one sweep from far away.

A sample is ``<key>.<png or the image's own suffix>``, ``<key>.mask.png`` and ``<key>.json``. The
key is the id; a dot in it, where WebDataset would end the key, is written ``%2E``.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pipelines.formats.sample import (
    Entry,
    Format,
    Found,
    Sample,
    Written,
    file_inside,
    load_pair,
    plain_id,
    set_convention,
)
from synth.disk.names import parts_inside
from synth.disk.split_names import SPLITS, split_told
from synth.errors import DatasetError
from synth.frames import SUFFIXES, ImageFile
from synth.masks import MaskFile


def annotate(sample: Sample) -> dict[str, Any]:
    """What the sample's JSON says: id, split, size, and the targets' boxes."""
    shape, boxes = list(sample.shape), sample.boxes
    return {"id": sample.id, "split": sample.split, "shape": shape, "boxes": boxes}


def files(sample: Sample, note: dict[str, Any]) -> dict[str, bytes]:
    """The three members of a sample, by name in the shard."""
    key = sample.id.replace("%", "%25").replace(".", "%2E")
    return {
        f"{key}{sample.suffix}": sample.image,
        f"{key}.mask.png": sample.mask_png,
        f"{key}.json": json.dumps(note, separators=(",", ":"), ensure_ascii=False).encode(),
    }


def index(splits: Sequence[str], entries: Sequence[Entry], name: str) -> dict[str, bytes]:
    """Nothing beside the shards."""
    return {}


def add_member(shard: tarfile.TarFile, name: str, data: bytes) -> None:
    """Append a member whose header holds nothing but its name and size."""
    # A fresh header has no owner, no group and no time, and so the same bytes on every machine.
    member = tarfile.TarInfo(name)
    member.size = len(data)
    member.mode = 0o644
    shard.addfile(member, io.BytesIO(data))


def read(root: Path, notes: Counter[str]) -> Iterator[Found]:
    """Every sample of every tar file of a folder; members are read in place, never unpacked.

    Raises
    ------
    DatasetError
        There is no tar file, one is damaged, holds links or names that lead out, or a sample
        lacks its image or mask.
    """
    shards = sorted(root.glob("*.tar")) or sorted(root.glob("*/*.tar"))
    if not shards:
        raise DatasetError(root, "has no tar files; give the folder of the shards")
    rows: list[tuple[str, str, _Member, _Member]] = []
    for path in shards:
        shard = file_inside(root, path.relative_to(root).as_posix(), root)
        for key, parts in _members(shard).items():
            note = _note(shard, key, parts.pop("json", None))
            mask = parts.pop("mask.png", None)
            images = {end: place for end, place in parts.items() if f".{end}" in SUFFIXES}
            if mask is None or len(images) != 1:
                raise DatasetError(shard, f"sample {key!r} has not one image and one mask.png")
            id_ = plain_id(note.get("id", Path(key).name), shard)
            split = note.get("split", split_told(shard.stem) or "train")
            if split not in SPLITS:
                raise DatasetError(shard, f"sample {key!r} is of the unknown split {split!r:.20}")
            ((end, place),) = images.items()
            members = (
                _Member(Path(f"{shard}:{key}.{name}"), shard, at)
                for name, at in ((end, place), ("mask.png", mask))
            )
            rows.append((id_, split, *members))
    convention = set_convention(root, [mask for *_, mask in rows])
    for id_, split, picture, labels in rows:
        yield Found(id_, split, partial(load_pair, picture, MaskFile(labels, convention)))


_Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Member(ImageFile):
    """A file in a shard; `path` names both, for messages."""

    shard: Path
    place: _Place

    def read(self) -> bytes:
        return _cut(self.shard, self.place)


def _members(shard: Path) -> dict[str, dict[str, _Place]]:
    """Offset and size of the members of a shard, by key and the end of their names."""
    found: dict[str, dict[str, _Place]] = {}
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                name = member.name
                if member.isdir():
                    continue
                if not member.isreg() or member.issparse():
                    raise DatasetError(shard, f"{name!r:.80} is no plain file; links are no data")
                try:
                    parts_inside(name.replace("\\", "/"))
                except ValueError as error:
                    raise DatasetError(shard, f"holds {name!r:.80}, {error}") from None
                name = name.removeprefix("./")
                match = re.fullmatch(r"((?:.*/)?[^/.]+)\.([^/]+)", name)
                if match is None:
                    continue
                ends = found.setdefault(match[1], {})
                if match[2].lower() in ends:
                    raise DatasetError(shard, f"has {name!r:.80} twice")
                ends[match[2].lower()] = member.offset_data, member.size
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise DatasetError(shard, f"is no whole tar file ({error!s:.80})") from None
    return found


def _note(shard: Path, key: str, place: _Place | None) -> Mapping[str, Any]:
    if place is None:
        return {}
    try:
        note = json.loads(_cut(shard, place))
    except (ValueError, RecursionError):
        note = None
    if not isinstance(note, Mapping):
        raise DatasetError(shard, f"{key}.json is not one JSON object")
    return note


def _cut(shard: Path, place: _Place) -> bytes:
    offset, size = place
    with shard.open("rb") as file:
        file.seek(offset)
        data = file.read(size)
    if len(data) != size:
        raise DatasetError(shard, "is truncated; replace it")
    return data


_SAYS = "`<split>-<number>.tar`: of every sample the image, `mask.png` and `json`"
WEBDATASET = Format("webdataset", read, Written(_SAYS, annotate, None, files, index, sharded=True))
