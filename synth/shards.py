"""Labelled sets in shards: tar files that are read by an index, one image at a time.

Written by ``synth build --format webdataset``:

- ``shards/train-000000.tar`` and so on, in WebDataset's layout: the members of a sample are its
  image ``{key}.png``, its mask ``{key}.mask.png`` and ``{key}.json``. The key is the id; a dot in
  it, where WebDataset would end the key, is written ``%2E``, and ``%`` itself ``%25``;
- ``shards/train-000000.jsonl`` beside it: one line a sample, the same as in its JSON, with the
  place of image and mask in the tar file, so that reading one image takes one read;
- ``dataset.json`` names the shards.

Nothing is unpacked, so no name in a tar file can lead anywhere.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from synth.disk.manifest import Line, read_as
from synth.errors import DatasetError, StoreError
from synth.frames import SUFFIXES, ImageFile
from synth.masks import MaskFile

FOLDER = "shards"
DESCRIPTION = "dataset.json"
MASK_END = ".mask"
"""What a mask's name has between key and suffix."""

BLOCK = 512
"""Bytes of a tar file's header, which lies right before a member's own."""

_NAME = re.compile(r"(train|val|test)-[0-9]{6,12}")
_NUMBER = re.compile(r"[0-9]{1,18}")
_ROUND = re.compile(r"_r([0-9]{1,18})")
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
        tar = self.root / FOLDER / f"{self.shards[place[0]]}.tar"
        return Member(tar / f"{member_key(id_)}{end}{self.suffixes[suffix]}", offset, size)


def is_sharded(root: Path) -> bool:
    """Whether a folder is a set in shards."""
    return (root / FOLDER).is_dir() and (root / DESCRIPTION).is_file()


def manifest_files(root: Path) -> list[Path]:
    """The manifest of every shard of a set, in order.

    Raises
    ------
    DatasetError
        ``dataset.json`` cannot be read, or names something that is no shard.
    """
    path = root / DESCRIPTION
    try:
        names = json.loads(path.read_bytes())["shards"]
        if not isinstance(names, dict):
            raise TypeError("not by name")
        odd = [name for name in names if not _NAME.fullmatch(name)]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise DatasetError(path, "does not name the shards; build the set again") from None
    if odd:
        raise DatasetError(path, f"names a shard {odd[0]!r:.80}; that is not one of a build")
    return [root / FOLDER / f"{name}.jsonl" for name in names]


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
        split = _NAME.fullmatch(path.stem)
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
