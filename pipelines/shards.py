"""Shards: outputs that go into tar files as they are made, with no loose file in between.

A shard is the unit of work and of resumption: one worker writes it from its first byte to its
last under a name of its own, renames it, and then leaves a mark that it is whole. A shard without
a mark, or that is not what its mark says, is made again. Its bytes follow from the plan alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipelines.store import (
    PARTS,
    OutputFile,
    Staging,
    file_problem,
    place_file,
    sha256,
)
from synth.disk.manifest import Line
from synth.errors import StoreError
from synth.shards import BLOCK, FOLDER, MASK_END, member_key

MARKS = ".whole"

_NAME = tarfile.LENGTH_NAME
_MOST_SIZE = 8**11  # as many octal digits has a header for it

# Two empty blocks end a tar file.
_END = bytes(2 * BLOCK)


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
        self._partial = place / FOLDER / f".{name}.{uuid.uuid4().hex}.partial"
        self._final = place / FOLDER / f"{name}.tar"
        self._digest = hashlib.sha256()
        self._lines: list[bytes] = []
        self._noisier = 0
        self._at = 0
        try:
            self._file = self._partial.open("wb", buffering=1 << 20)
        except OSError as error:
            raise self._error(error) from None

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
        try:
            self._file.close()
            self._partial.rename(self._final)
        except OSError as error:
            raise self._error(error) from None
        parts = self._place / PARTS
        place_file(str(self._final.with_suffix(".jsonl")), manifest, parts)
        made = Shard(
            self._name, len(self._lines), self._noisier, self._digest.hexdigest(), sha256(manifest)
        )
        mark = json.dumps(asdict(made)).encode()
        place_file(str(self._place / MARKS / f"{self._name}.json"), mark, parts)
        return made

    def _write(self, data: bytes) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            raise self._error(error) from None
        self._digest.update(data)
        self._at += len(data)

    def _error(self, error: OSError) -> StoreError:
        return StoreError(self._final, f"cannot be written ({error.strerror}); nothing was kept")


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
    if len(name) > _NAME or not name.isascii() or size >= _MOST_SIZE:
        return _tarfile_header(name, size)
    # What differs between most members is put into one of `tarfile`, which takes ten times as long.
    empty = _empty_header()
    text, digits = name.encode(), b"%011o" % size
    total = int(empty[148:154], 8) + sum(text) + sum(digits) - sum(empty[124:135])
    return b"".join(
        (text.ljust(_NAME, b"\0"), empty[100:124], digits, empty[135:148], b"%06o" % total,
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
            tar = stage.place / FOLDER / f"{found.name}.tar"
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
        hashes[f"{FOLDER}/{shard.name}.tar"] = shard.tar
        hashes[f"{FOLDER}/{shard.name}.jsonl"] = shard.manifest
    there = {f"{FOLDER}/{entry.name}" for entry in os.scandir(stage.place / FOLDER)}
    for name in sorted(hashes.keys() - there):
        raise StoreError(stage.place / name, "changed while the build ran; run it again")
    for name in there - hashes.keys():
        (stage.place / name).unlink()
    for mark in (stage.place / MARKS).iterdir():
        mark.unlink()
    (stage.place / MARKS).rmdir()
    counts = {shard.name: shard.outputs for shard in shards}
    stage.publish(
        dict(description) | {"shards": counts, "folders": {FOLDER: len(hashes)}, "files": hashes},
        files,
    )
