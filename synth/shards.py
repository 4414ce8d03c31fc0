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
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synth.errors import DatasetError

FOLDER = "shards"
DESCRIPTION = "dataset.json"
BLOCK = 512
"""Bytes of a tar file's header, which lies right before a member's own."""

_NAME = re.compile(r"(train|val|test)-[0-9]{6,12}")
# More than an image of 16,384 x 16,384 pixels of 16 bits, and no file that would fill the memory.
_MOST_BYTES = 1 << 30


def member_key(id_: str) -> str:
    """The key of a sample's members."""
    return id_.replace("%", "%25").replace(".", "%2E")


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
    places : (N, 5) ndarray of int64
        Index of the shard; offset and size of the image, offset and size of the mask, bytes.
    splits : mapping of str to tuple of str
        Ids by split, in the shards' order.
    """

    root: Path
    shards: tuple[str, ...]
    rows: Mapping[str, int] = field(repr=False)
    places: NDArray[np.int64] = field(repr=False)
    splits: Mapping[str, tuple[str, ...]] = field(repr=False)

    def image(self, id_: str) -> bytes:
        """The bytes of an image's file."""
        return self._member(id_, 1)

    def mask(self, id_: str) -> bytes:
        """The bytes of a mask's file."""
        return self._member(id_, 3)

    def path(self, id_: str) -> Path:
        """The tar file that an id lies in."""
        return self.root / FOLDER / f"{self.shards[self.places[self.rows[id_], 0]]}.tar"

    def _member(self, id_: str, column: int) -> bytes:
        offset, size = self.places[self.rows[id_], column : column + 2].tolist()
        path = self.path(id_)
        try:
            with path.open("rb", buffering=0) as file:
                file.seek(offset - BLOCK)
                data = file.read(BLOCK + size)
        except OSError as error:
            raise DatasetError(path, f"cannot be read ({error.strerror})") from None
        try:
            member = tarfile.TarInfo.frombuf(data[:BLOCK], "utf-8", "surrogateescape")
            fits = member.isreg() and not member.issparse() and member.size == size
        except tarfile.TarError:
            fits = False
        if not fits or len(data) != BLOCK + size:
            raise DatasetError(
                path, f"has not the file of {id_!r} where the index says; `synth verify` the set"
            )
        return data[BLOCK:]


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
    splits: dict[str, list[str]] = {"train": [], "test": []}
    for number, path in enumerate(files):
        tar = path.with_suffix(".tar")
        split = _NAME.fullmatch(path.stem)
        assert split is not None
        try:
            length = tar.stat().st_size
        except OSError as error:
            raise DatasetError(tar, f"cannot be read ({error.strerror})") from None
        found = []
        for id_, place in _read_manifest(path):
            if id_ in rows:
                raise DatasetError(path, f"names id {id_!r:.80} twice; build the set again")
            if any(place[at] + place[at + 1] > length for at in (0, 2)):
                raise DatasetError(tar, f"is truncated: it ends before {id_!r:.80}; replace it")
            rows[id_] = len(rows)
            found.append((number, *place))
            splits.setdefault(split[1], []).append(id_)
        places.append(np.array(found, np.int64).reshape(-1, 5))
    whole = np.concatenate([np.empty((0, 5), np.int64), *places])
    order: list[str] = [name for name in ("train", "val", "test") if name in splits]
    ordered = {name: tuple(splits[name]) for name in order}
    return ShardIndex(root, tuple(path.stem for path in files), rows, whole, ordered)


def _read_manifest(path: Path) -> Iterator[tuple[str, tuple[int, int, int, int]]]:
    """Yield id, offset and size of the image, offset and size of the mask."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    entry = json.loads(line)
                    id_ = entry["id"]
                    place = *_extent(entry["image_at"]), *_extent(entry["mask_at"])
                    if not isinstance(id_, str) or not id_ or id_ in (".", ".."):
                        raise TypeError("an id is a name")
                    if "/" in id_ or "\\" in id_ or not id_.isprintable():
                        raise TypeError("an id is a plain name")
                except (ValueError, KeyError, TypeError, RecursionError):
                    raise DatasetError(
                        path, f"line {number} is not one that a build writes; build the set again"
                    ) from None
                yield id_, place
    except OSError as error:
        raise DatasetError(path, f"cannot be read ({error.strerror})") from None


def _extent(value: Any) -> tuple[int, int]:
    offset, size = value
    if type(offset) is not int or type(size) is not int:
        raise TypeError("offset and size are numbers")
    if not BLOCK <= offset < 1 << 48 or not 0 < size <= _MOST_BYTES:
        raise ValueError("outside of any shard")
    return offset, size
