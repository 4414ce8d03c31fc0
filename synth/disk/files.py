"""Files that are whole or absent, and folders and files that one process has for itself."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from synth.disk.names import link_inside, parts_inside
from synth.errors import StoreError


@contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Make a `StoreError` with a path of an error of the system, which may not know its file."""
    try:
        yield
    except OSError as error:
        raise StoreError(path, f"cannot be written ({error.strerror}); nothing was kept") from None


def write_file(path: str, data: bytes) -> None:
    """Write a file in one go, in place of any other; `StoreError` where that cannot be done."""
    with naming(path):
        _write_file(path, data)


def place_file(path: str, data: bytes, parts: Path) -> None:
    """Write a file under a name that no other process uses, and give it its own in one step.

    A worker that was taken for dead may still write what another one has written again since; the
    bytes are the same, but it may end at any moment. `parts` is a folder of the same file system;
    errors are those of `write_file`.
    """
    part = f"{parts}/{uuid.uuid4().hex}"
    with naming(path):
        _write_file(part, data)
        os.rename(part, path)  # noqa: PTH104


def replace_file(path: Path, data: bytes, *, sync: bool = False) -> None:
    """Write a file, and its folder, so that its name never shows a part of it.

    Processes that write one file do so in turn. What a killed one leaves beside it, the next one
    to write it uses up. With `sync` the bytes are on the disk then, so that not even a failing
    machine leaves a part.

    Raises
    ------
    StoreError
        It cannot be written; what was there before is still there.
    """
    partial = path.with_name(f".{path.name}.partial")
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW
    with making_parents(path), naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone_with(partial, flags, wait=True) as handle:
            try:
                os.ftruncate(handle, 0)
                _write_all(handle, data)
                if sync:
                    os.fsync(handle)
                partial.replace(path)
            except OSError:
                partial.unlink(missing_ok=True)
                raise


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file as `replace_file` does, on to the disk."""
    replace_file(path, (json.dumps(value, indent=1) + "\n").encode(), sync=True)


def _write_file(path: str, data: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        _write_all(handle, data)
    finally:
        os.close(handle)


def _write_all(handle: int, data: bytes) -> None:
    """Write all bytes to an open file: the system may take only some of them at a time."""
    done = os.write(handle, data)
    while done < len(data):
        done += os.write(handle, data[done:])


@contextmanager
def making_parents(path: Path) -> Iterator[None]:
    """Remove folders above a path again that were made in this block, if it ends by an error."""
    made = [folder for folder in path.parents if not folder.exists()]
    try:
        yield
    except BaseException:
        with suppress(OSError):  # what is not empty is needed, and so is what is above it
            for folder in made:
                folder.rmdir()
        raise


@contextmanager
def alone_in(folder: Path, *, wait: bool = False, follow: bool = True) -> Iterator[None]:
    """Keep other processes out of a folder, as far as they ask for it in the same way.

    With `wait` a process that is at work in it is waited for; `follow` says whether the folder may
    be a link to one.

    Raises
    ------
    BlockingIOError
        Another process is at work in it, or has renamed it since it was opened here.
    OSError
        It cannot be opened or locked.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | (0 if follow else os.O_NOFOLLOW)
    with _alone_with(folder, flags, wait=wait):
        yield


@contextmanager
def _alone_with(path: Path, flags: int, *, wait: bool) -> Iterator[int]:
    """Open a file or a folder, and keep other processes out of it."""
    while True:
        handle = os.open(path, flags | os.O_CLOEXEC, 0o644)
        try:
            lock(handle, wait=wait)
            # What another process has renamed since, as it was whole, is not this one's.
            if _is_there(path, handle):
                yield handle
                return
            if not wait:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), str(path))
        finally:
            os.close(handle)


def _is_there(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def lock(handle: int, *, wait: bool = False) -> None:
    """Keep other processes out of an open file until it is closed; errors as `alone_in`.

    The lock goes when the process ends.
    """
    fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)


def sha256(data: bytes) -> str:
    """SHA-256 as hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, which is never in memory whole."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class OutputFile:
    """The bytes of an output's file, with their suffix and their SHA-256."""

    __slots__ = ("data", "sha256", "suffix")

    def __init__(self, data: bytes, suffix: str) -> None:
        self.data = data
        self.suffix = suffix
        self.sha256 = sha256(data)


def file_problem(root: Path, name: str, wanted: str) -> str | None:
    """What is wrong with a file of a set that should have this SHA-256; no link is followed."""
    path = root / name
    try:
        link = link_inside(root, parts_inside(name))
        if link is not None:
            return link_problem(link)
        # A manifest that others wrote may name a pipe, or a device that never ends.
        if not path.is_file() and path.exists():
            return f"{path}: is not a file"
        found = file_sha256(path)
    except FileNotFoundError:
        return f"{path}: is missing"
    except OSError as error:
        return f"{path}: cannot be read ({error.strerror})"
    except ValueError:
        return f"{str(path)!r}: is no name that a file can have"
    return None if found == wanted else f"{path}: was changed after the build"


def link_problem(link: Path) -> str:
    """What is wrong with a link in a set."""
    return f"{link}: is a link, which no build makes; put what it leads to in its place"
