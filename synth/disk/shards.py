"""Labelled sets in shards: tar files that are read by an index, one image at a time.

Written by ``synth build --format webdataset``:

- ``shards/train-000000.tar`` and so on, in WebDataset's layout: the members of a sample are its
  image ``{key}.png``, its mask ``{key}.mask.png`` and ``{key}.json``. The key is the id; a dot in
  it, where WebDataset would end the key, is written ``%2E``, and ``%`` itself ``%25``;
- ``shards/train-000000.jsonl`` beside it: one line a sample, the same as in its JSON, with the
  place of image and mask in the tar file, so that reading one image takes one read;
- ``dataset.json`` names the shards.

Nothing is unpacked, so no name in a tar file can lead anywhere.

Outputs go into the tar file as they are made, with no loose file in between. A shard is the unit of
work and of resumption: one worker writes it from its first byte to its last under a name of its
own, renames it, and then leaves a mark that it is whole. A shard without a mark, or that is not
what its mark says, is made again. Its bytes follow from the plan alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tarfile
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from synth.disk.description import SHARD_NAME, SHARDS, manifest_files
from synth.disk.files import OutputFile, file_problem, naming, place_file, sha256
from synth.disk.manifest import Line, read_as
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

_NUMBER = re.compile(r"[0-9]{1,18}")
_ROUND = re.compile(r"_r([0-9]{1,18})")
# More than an image of 16,384 x 16,384 pixels of 16 bits, and no file that would fill the memory.
_MOST_BYTES = 1 << 30

_MOST_NAME = tarfile.LENGTH_NAME
_MOST_SIZE = 8**11  # as many octal digits has a header for it

# Two empty blocks end a tar file.
_END = bytes(2 * BLOCK)


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
        try:
            header = tarfile.TarInfo.frombuf(data[:BLOCK], "utf-8", "surrogateescape")
            fits = header.isreg() and not header.issparse() and header.size == self.size
        except tarfile.TarError:
            fits = False
        if not fits or len(data) != BLOCK + self.size:
            raise DatasetError(
                tar,
                f"has not the file {self.path.name!r} where the index says; `synth verify` the set",
            )
        return data[BLOCK:]


@dataclass(frozen=True)
class ShardIndex:
    """Where the images and masks of a sharded set lie.

    Attributes
    ----------
    root : Path
        The set's folder.
    shards : tuple of str
        Names of the shards, without suffix, in order.
    rows : mapping of str to int
        Row of each id in `places`.
    places : (N, 7) ndarray of int64
        Index of the shard; offset and size in bytes and index of the suffix, of the image and of
        the mask.
    suffixes : tuple of str
        Every suffix that a file has.
    splits : mapping of str to tuple of str
        Ids by split, in the order that the lists of the same set in loose files have.
    """

    root: Path
    shards: tuple[str, ...]
    rows: Mapping[str, int] = field(repr=False)
    places: NDArray[np.int64] = field(repr=False)
    suffixes: tuple[str, ...]
    splits: Mapping[str, tuple[str, ...]] = field(repr=False)

    def image(self, id_: str) -> Member:
        """The file of an image; `KeyError` for an id that is not in the set."""
        return self._member(id_, 1, "")

    def mask(self, id_: str) -> MaskFile:
        """The file of a mask; `KeyError` for an id that is not in the set."""
        return MaskFile(self._member(id_, 4, MASK_END))

    def _member(self, id_: str, column: int, end: str) -> Member:
        place = self.places[self.rows[id_]]
        offset, size, suffix = place[column : column + 3].tolist()
        tar = self.root / SHARDS / f"{self.shards[place[0]]}.tar"
        return Member(tar / f"{member_key(id_)}{end}{self.suffixes[suffix]}", offset, size)


def read_index(root: Path) -> ShardIndex:
    """Read where every image and mask lies; no tar file is opened.

    Raises
    ------
    DatasetError
        A shard or its manifest is missing, or says what no build does.
    """
    files = manifest_files(root)
    rows: dict[str, int] = {}
    places: list[NDArray[np.int64]] = []
    suffixes: dict[str, int] = {}
    splits: dict[str, list[str]] = {"train": [], "test": []}
    turns: dict[str, list[int]] = {"train": [], "test": []}
    for number, path in enumerate(files):
        tar = path.with_suffix(".tar")
        split = SHARD_NAME.fullmatch(path.stem)
        assert split is not None
        try:
            length = tar.stat().st_size
        except OSError as error:
            raise DatasetError(tar, f"cannot be read ({error.strerror})") from None
        found = []
        for entry in _read_manifest(path):
            id_ = entry.id
            if id_ in rows:
                raise DatasetError(path, f"names id {id_!r:.80} twice; build the set again")
            place = [number]
            for offset, size, suffix in (entry.image, entry.mask):
                if offset + size > length:
                    raise DatasetError(tar, f"is truncated: it ends before {id_!r:.80}; replace it")
                place += [offset, size, suffixes.setdefault(suffix, len(suffixes))]
            rows[id_] = len(rows)
            found.append(place)
            splits.setdefault(split[1], []).append(id_)
            turns.setdefault(split[1], []).append(entry.turn)
        places.append(np.array(found, np.int64).reshape(-1, 7))
    whole = np.concatenate([np.empty((0, 7), np.int64), *places])
    ordered: dict[str, tuple[str, ...]] = {}
    for name in ("train", "val", "test"):
        if name in splits:
            order = np.argsort(np.array(turns[name], np.int64), kind="stable")
            ordered[name] = tuple(splits[name][at] for at in order)
    shards = tuple(path.stem for path in files)
    return ShardIndex(root, shards, rows, whole, tuple(suffixes), ordered)


class _Entry(NamedTuple):
    """A line of a shard's manifest: offset, size and suffix of each file, and when it is its turn.

    Lists have the originals first, then what was made of them, round by round, while a shard has
    all outputs of a source side by side.
    """

    id: str
    turn: int
    image: tuple[int, int, str]
    mask: tuple[int, int, str]


def _read_manifest(path: Path) -> Iterator[_Entry]:
    try:
        yield from read_as(path, _entry)
    except StoreError as error:
        raise DatasetError(error.path, error.problem) from None


def _entry(line: Line) -> _Entry:
    id_ = line.id
    if not id_ or id_ in (".", ".."):
        raise ValueError("an id is a name")
    if "/" in id_ or "\\" in id_ or not id_.isprintable():
        raise ValueError("an id is a plain name")
    key = member_key(id_)
    image = *_extent(line.more["image_at"]), _suffix(line.more["image"], key)
    mask = *_extent(line.more["mask_at"]), _suffix(line.more["mask"], key + MASK_END)
    return _Entry(id_, _turn(id_, line.source), image, mask)


def _turn(id_: str, source: str) -> int:
    """When it is an output's turn among those of its split, as `synth.recipe` names them.

    0 for an original; the number of an output that is called by one; else the round.
    """
    if source == id_:
        return 0
    if _NUMBER.fullmatch(id_):
        return 1 + int(id_)
    repeat = _ROUND.fullmatch(id_, id_.rfind("_"))
    return 1 + (int(repeat[1]) if repeat else 0)


def _suffix(name: Any, stem: str) -> str:
    if not isinstance(name, str) or not name.startswith(stem):
        raise TypeError("a member is called as its id")
    suffix = name.removeprefix(stem)
    if suffix.lower() not in SUFFIXES:
        raise ValueError("not an image")
    return suffix


def _extent(value: Any) -> tuple[int, int]:
    offset, size = value
    if type(offset) is not int or type(size) is not int:
        raise TypeError("offset and size are numbers")
    if not BLOCK <= offset < 1 << 48 or not 0 < size <= _MOST_BYTES:
        raise ValueError("outside of any shard")
    return offset, size


@dataclass(frozen=True, slots=True)
class Shard:
    """What a shard turned out to be.

    `noisier` counts outputs that had as much noise as was asked for on half of their pixels.
    """

    name: str
    outputs: int
    noisier: int
    tar: str
    manifest: str


class ShardWriter:
    """Writes one shard; a context manager that leaves nothing when it is left by an error.

    Of its outputs only their manifest lines are in memory.

    Parameters
    ----------
    place : str
        The staging directory.
    name : str
        As ``train-000000``.
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
        """Append an output.

        Parameters
        ----------
        entry : Line
            What its manifest line says, without its files.
        image, mask : OutputFile

        Raises
        ------
        StoreError
            It cannot be written (disk full, read-only).
        """
        key = member_key(entry.id)
        line: dict[str, Any] = {}
        parts: list[bytes] = []
        at = self._at
        for what, end, file in (("image", "", image), ("mask", MASK_END, mask)):
            line[what] = f"{key}{end}{file.suffix}"
            member = _member(line[what], file.data)
            line[f"{what}_at"] = [at + len(member[0]), len(file.data)]
            line[f"{what}_sha256"] = file.sha256
            at += sum(map(len, member))
            parts += member
        self._lines.append(replace(entry, more=line).to_line())
        parts += _member(f"{key}.json", self._lines[-1])
        self._write(b"".join(parts))
        self._noisier += entry.facts.get("noisier", 0.0) >= 0.5

    def finish(self) -> Shard:
        """Put the shard and its manifest in place, and mark it as whole."""
        manifest = b"".join(self._lines)
        self._write(_END)
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

    def _write(self, data: bytes) -> None:
        with naming(self._final):
            self._file.write(data)
        self._digest.update(data)
        self._at += len(data)


def _member(name: str, data: bytes) -> tuple[bytes, bytes, bytes]:
    """A file in a tar file: its header, its content, and what fills up the last block."""
    return member_header(name, len(data)), data, bytes(-len(data) % BLOCK)


def member_header(name: str, size: int) -> bytes:
    """The tar header of a file: without owner, group or time, and so the same bytes everywhere.

    Parameters
    ----------
    name : str
    size : int
        Bytes of its content.
    """
    if len(name) > _MOST_NAME or not name.isascii() or size >= _MOST_SIZE:
        return _tarfile_header(name, size)
    # What differs between most members is put into one of `tarfile`, which takes ten times as long.
    empty = _empty_header()
    text, digits = name.encode(), b"%011o" % size
    total = int(empty[148:154], 8) + sum(text) + sum(digits) - sum(empty[124:135])
    return b"".join(
        (text.ljust(_MOST_NAME, b"\0"), empty[100:124], digits, empty[135:148], b"%06o" % total,
         empty[154:])
    )  # fmt: skip


def _tarfile_header(name: str, size: int) -> bytes:
    header = tarfile.TarInfo(name)
    header.size = size
    header.mode = 0o644
    return header.tobuf(tarfile.PAX_FORMAT)


@lru_cache(maxsize=1)
def _empty_header() -> bytes:
    return _tarfile_header("", 0)


def whole_shards(stage: Staging, threads: int) -> dict[str, Shard]:
    """The shards that an earlier run left whole, by name; every byte of them is looked at."""

    def check(mark: Path) -> Shard | None:
        try:
            found = Shard(**json.loads(mark.read_bytes()))
            tar = stage.place / SHARDS / f"{found.name}.tar"
            if mark.stem != found.name or file_problem(tar, found.tar):
                return None
            return None if file_problem(tar.with_suffix(".jsonl"), found.manifest) else found
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            return None

    marks = sorted((stage.place / MARKS).iterdir())
    with ThreadPoolExecutor(threads) as pool:
        return {shard.name: shard for shard in pool.map(check, marks) if shard is not None}


def publish_shards(
    stage: Staging,
    shards: list[Shard],
    description: Mapping[str, Any],
    files: Mapping[str, bytes],
) -> None:
    """Put a set whose shards are all made in its place; what else lies among them is removed.

    Raises
    ------
    StoreError
        A shard is missing, or the set cannot be put in place.
    """
    hashes = {}
    for shard in shards:
        hashes[f"{SHARDS}/{shard.name}.tar"] = shard.tar
        hashes[f"{SHARDS}/{shard.name}.jsonl"] = shard.manifest
    there = {f"{SHARDS}/{entry.name}" for entry in os.scandir(stage.place / SHARDS)}
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
