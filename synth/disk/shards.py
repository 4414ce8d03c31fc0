"""Labelled sets in shards: tar files that are read by an index, one image at a time.

Written by ``synth build --format webdataset``:

- ``shards/train-000000.tar`` and so on, in WebDataset's layout: the members of a sample are its
  image ``{key}.png``, its mask ``{key}.mask.png`` and ``{key}.json``. The key is the id; a dot in
  it, where WebDataset would end the key, is written ``%2E``, and ``%`` itself ``%25``;
- ``shards/train-000000.jsonl`` beside it: one line a sample, the same as in its JSON, with the
  place of image and mask in the tar file, so that reading one image takes one read;
- ``dataset.json`` names the shards.

Nothing is unpacked, so no name in a tar file can lead anywhere.

A shard is the unit of work and of resumption: one worker writes it from its first byte to its last
under a name of its own, renames it, and then leaves a mark that it is whole. A shard without a
mark, or that is not what its mark says, is made again. Its bytes follow from the plan alone.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tarfile
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from synth.disk.description import SHARDS, manifest_files
from synth.disk.files import OutputFile, file_problem, naming, place_file, sha256
from synth.disk.manifest import Line, read_as
from synth.disk.split_names import SPLITS
from synth.disk.staging import PARTS, Staging
from synth.errors import DatasetError, StoreError
from synth.frames import SUFFIXES, ImageFile
from synth.masks import MaskFile

MARKS = ".whole"
"""Folder of the staging directory for the marks of whole shards."""

MASK_END = ".mask"
"""What a mask's name has between key and suffix."""

BLOCK = 512
"""Bytes of a tar file's header, which lies right before a member's own."""

# More than an image of 16,384 x 16,384 pixels of 16 bits, and no file that would fill the memory.
_MOST_BYTES = 1 << 30


def member_key(id_: str) -> str:
    """The key of a sample's members."""
    return id_.replace("%", "%25").replace(".", "%2E")


@dataclass(frozen=True, slots=True)
class Member(ImageFile):
    """The file of an image or a mask in a tar file, which its path's parent is.

    Attributes
    ----------
    offset, size : int
        Where its content lies in the tar file, bytes.
    """

    offset: int
    size: int

    def read(self) -> bytes:
        """See `ImageFile`."""
        tar = self.path.parent
        try:
            with tar.open("rb", buffering=0) as file:
                file.seek(self.offset - BLOCK)
                data = file.read(BLOCK + self.size)
        except OSError as error:
            raise DatasetError(tar, f"cannot be read ({error.strerror})") from None
        fits = len(data) == BLOCK + self.size
        with suppress(tarfile.TarError):
            header = tarfile.TarInfo.frombuf(data[:BLOCK], "utf-8", "surrogateescape")
            if fits and header.isreg() and not header.issparse() and header.size == self.size:
                return data[BLOCK:]
        raise DatasetError(
            tar, f"has not the file {self.path.name!r} where the index says; `synth verify` the set"
        )


def read_index(
    root: Path,
) -> tuple[dict[str, Member], dict[str, MaskFile], dict[str, tuple[str, ...]]]:
    """Read where every image and mask lies; no tar file is opened.

    Returns
    -------
    images, masks : dict of str to Member and to MaskFile
        By id.
    splits : dict of str to tuple of str
        Ids by split, in the order that the lists of the same set in loose files have.

    Raises
    ------
    DatasetError
        A shard or its manifest is missing, or says what no build does.
    """
    images: dict[str, Member] = {}
    masks: dict[str, MaskFile] = {}
    turns: dict[str, dict[str, int]] = {"train": {}, "test": {}}
    for path in manifest_files(root):
        tar, split = path.with_suffix(".tar"), path.stem.partition("-")[0]
        try:
            length = tar.stat().st_size
            for line, image, mask in read_as(path, partial(_members, tar)):
                id_, told = line.id, f"{line.id!r:.80}"
                if id_ in images:
                    raise DatasetError(path, f"names id {told} twice; build the set again")
                if line.split != split:
                    words = f"in the split {line.split!r:.80}, and the shard is of {split!r}"
                    raise DatasetError(path, f"has {told} {words}; build the set again")
                if max(image.offset + image.size, mask.offset + mask.size) > length:
                    raise DatasetError(tar, f"is truncated: it ends before {told}; replace it")
                images[id_], masks[id_] = image, MaskFile(mask)
                turns.setdefault(split, {})[id_] = _turn(line)
        except OSError as error:
            raise DatasetError(tar, f"cannot be read ({error.strerror})") from None
        except StoreError as error:
            raise DatasetError(error.path, error.problem) from None
    order = {split: turns[split] for split in SPLITS if split in turns}
    splits = {split: tuple(sorted(of, key=of.__getitem__)) for split, of in order.items()}
    return images, masks, splits


def _members(tar: Path, line: Line) -> tuple[Line, Member, Member]:
    """The image and the mask of a line."""
    id_ = line.id
    if id_ in ("", ".", "..") or not id_.isprintable() or "/" in id_ or "\\" in id_:
        raise ValueError("an id is a plain name")
    found = []
    for what, end in (("image", ""), ("mask", MASK_END)):
        name, (offset, size) = line.more[what], line.more[f"{what}_at"]
        stem, dot, suffix = name.rpartition(".")
        if stem != member_key(id_) + end or dot + suffix.lower() not in SUFFIXES:
            raise ValueError("a member is called as its id")
        if type(offset) is not int or type(size) is not int:
            raise TypeError("offset and size are numbers")
        if not BLOCK <= offset < 1 << 48 or not 0 < size <= _MOST_BYTES:
            raise ValueError("outside of any shard")
        found.append(Member(tar / name, offset, size))
    return line, found[0], found[1]


def _turn(line: Line) -> int:
    """When it is an output's turn among those of its split, as `synth.recipe` names them.

    Lists have the originals first, then what was made of them, round by round, while a shard has
    all outputs of a source side by side: 0 for an original; the number of an output that is called
    by one; else the round.
    """
    if line.source == line.id:
        return 0
    named = re.fullmatch(r"(?:.*_r)?([0-9]{1,18})", line.id)
    return 1 + int(named[1]) if named else 1


@dataclass(frozen=True, slots=True)
class Shard:
    """What a shard turned out to be.

    `noisier` counts outputs that had as much noise as was asked for on half of their pixels; `tar`
    and `manifest` are SHA-256 of its files.
    """

    name: str
    outputs: int
    noisier: int
    tar: str
    manifest: str

    def files(self) -> dict[str, str]:
        """SHA-256 of its files by name."""
        stem = f"{SHARDS}/{self.name}"
        return {f"{stem}.tar": self.tar, f"{stem}.jsonl": self.manifest}


class ShardWriter:
    """Writes one shard into a staging directory; leaves nothing when it is left by an error.

    Of its outputs only their manifest lines are in memory.
    """

    def __init__(self, place: Path, name: str) -> None:
        self._place = place
        self._name = name
        # A worker that was taken for dead may still write, so no two write under one name.
        self._partial = place / SHARDS / f".{name}.{uuid.uuid4().hex}.partial"
        self._final = place / SHARDS / f"{name}.tar"
        self._digest = hashlib.sha256()
        self._lines: list[bytes] = []
        self._noisier = 0
        self._at = 0
        with naming(self._final):
            self._file = self._partial.open("wb", buffering=1 << 20)

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *error: object) -> None:
        with suppress(OSError):  # what could not be written is told already
            self._file.close()
        self._partial.unlink(missing_ok=True)

    def add(self, entry: Line, image: OutputFile, mask: OutputFile) -> None:
        """Append an output: its files, and what its manifest line says without them."""
        key = member_key(entry.id)
        line: dict[str, Any] = {}
        for what, end, file in (("image", "", image), ("mask", MASK_END, mask)):
            line[what] = f"{key}{end}{file.suffix}"
            line[f"{what}_at"] = [self._add_member(line[what], file.data), len(file.data)]
            line[f"{what}_sha256"] = file.sha256
        self._lines.append(replace(entry, more=line).to_line())
        self._add_member(f"{key}.json", self._lines[-1])
        self._noisier += entry.facts.get("noisier", 0.0) >= 0.5

    def finish(self) -> Shard:
        """Put the shard and its manifest in place, and mark it as whole."""
        manifest = b"".join(self._lines)
        self._write(bytes(2 * BLOCK))  # two empty blocks end a tar file
        with naming(self._final):
            self._file.close()
            self._partial.rename(self._final)
        parts = self._place / PARTS
        place_file(str(self._final.with_suffix(".jsonl")), manifest, parts)
        made = Shard(
            self._name, len(self._lines), self._noisier, self._digest.hexdigest(), sha256(manifest)
        )
        mark = json.dumps(asdict(made)).encode()
        place_file(str(self._place / MARKS / f"{self._name}.json"), mark, parts)
        return made

    def _add_member(self, name: str, data: bytes) -> int:
        """Append a file; where its content begins."""
        self._write(member_header(name, len(data)))
        begin = self._at
        self._write(data + bytes(-len(data) % BLOCK))
        return begin

    def _write(self, data: bytes) -> None:
        with naming(self._final):
            self._file.write(data)
        self._digest.update(data)
        self._at += len(data)


def member_header(name: str, size: int) -> bytes:
    """The tar header of a file: without owner, group or time, and so the same bytes everywhere."""
    if len(name) > tarfile.LENGTH_NAME or not name.isascii() or size >= 8**11:
        return _tarfile_header(name, size)
    # What differs between most members is put into one of `tarfile`, which takes ten times as long.
    header = bytearray(_tarfile_header("", 0))
    header[: len(name)] = name.encode()
    header[124:135] = b"%011o" % size
    header[148:156] = b" " * 8
    header[148:155] = b"%06o\0" % sum(header)
    return bytes(header)


@lru_cache(maxsize=8)
def _tarfile_header(name: str, size: int) -> bytes:
    header = tarfile.TarInfo(name)
    header.size = size
    return header.tobuf(tarfile.PAX_FORMAT)


def whole_shards(stage: Staging, threads: int) -> dict[str, Shard]:
    """The shards that an earlier run left whole, by name; every byte of them is looked at."""

    def check(mark: Path) -> Shard | None:
        try:
            found = Shard(**json.loads(mark.read_bytes()))
            sound = mark.stem == found.name and not any(
                file_problem(stage.place, name, wanted) for name, wanted in found.files().items()
            )
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            return None
        return found if sound else None

    marks = sorted((stage.place / MARKS).iterdir())
    with ThreadPoolExecutor(threads) as pool:
        return {shard.name: shard for shard in pool.map(check, marks) if shard is not None}


def publish_shards(
    stage: Staging, shards: list[Shard], description: Mapping[str, Any], files: Mapping[str, bytes]
) -> None:
    """Put a set whose shards are all made in its place; what else lies among them is removed.

    Raises
    ------
    StoreError
        A shard is missing, or the set cannot be put in place.
    """
    hashes = {name: found for shard in shards for name, found in shard.files().items()}
    there = {f"{SHARDS}/{entry.name}" for entry in (stage.place / SHARDS).iterdir()}
    for name in sorted(hashes.keys() - there):
        raise StoreError(stage.place / name, "changed while the build ran; run it again")
    for name in there - hashes.keys():
        (stage.place / name).unlink()
    shutil.rmtree(stage.place / MARKS)
    counts = {shard.name: shard.outputs for shard in shards}
    stage.publish(
        dict(description) | {"shards": counts, "folders": {SHARDS: len(hashes)}, "files": hashes},
        files,
    )
