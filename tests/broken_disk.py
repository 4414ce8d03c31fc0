"""A disk that fails at a chosen moment: full, read-only, with an error, or with the machine."""

from __future__ import annotations

import builtins
import errno
import io
import os
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from unittest import mock

Mode = Literal["full", "read-only", "error", "kill"]
MODES: tuple[Mode, ...] = ("full", "read-only", "error", "kill")

KILLED = 137
"""Exit status of a process that died with its disk."""

_ERRORS = {"full": errno.ENOSPC, "read-only": errno.EROFS, "error": errno.EIO}
# What needs room; a full disk still renames and removes.
_GROWING = ("create", "write", "mkdir")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class BrokenDisk:
    """Counts everything that changes files below a folder, and fails from a number on.

    A write that fails has written half of its bytes. A disk that is ``full`` or ``read-only`` stays
    so; an ``error`` comes once; ``kill`` ends the process there and then.

    Parameters
    ----------
    root : Path
    at : int
        From 1; 0 for a disk that only counts.
    mode : str
    """

    def __init__(self, root: Path, at: int = 0, mode: Mode = "full") -> None:
        self.points: list[tuple[str, str]] = []
        self.failed: list[str] = []
        self._root = os.path.realpath(root)
        self._at = at
        self._mode = mode
        self._lock = threading.Lock()

    def _fails(self, kind: str, path: str) -> bool:
        """Count a change; whether it fails."""
        with self._lock:
            self.points.append((kind, path))
            number = len(self.points)
        if not self._at or number < self._at:
            return False
        lasting = self._mode == "read-only" or (self._mode == "full" and kind in _GROWING)
        if number > self._at and not lasting:
            return False
        if self._mode == "full" and kind not in _GROWING:
            return False
        self.failed.append(path)
        return True

    def _error(self, path: str | None) -> OSError:
        if self._mode == "kill":
            os._exit(KILLED)
        number = _ERRORS[self._mode]
        return OSError(number, os.strerror(number), *([path] if path else []))

    def _below(self, path: Any, dir_fd: int | None = None) -> str | None:
        """The path where it lies below the folder, else None."""
        try:
            if isinstance(path, int):
                whole = str(Path(f"/proc/self/fd/{path}").readlink())
            else:
                whole = os.fsdecode(path)
                if dir_fd is not None:
                    whole = f"{Path(f'/proc/self/fd/{dir_fd}').readlink()}/{whole}"
                whole = os.path.abspath(whole)  # noqa: PTH100
        except OSError:
            return None
        return whole if f"{whole}/".startswith(f"{self._root}/") else None

    def change(self, kind: str, path: Any, dir_fd: int | None = None, named: bool = True) -> None:
        """Count a change; raise an error where it fails."""
        below = self._below(path, dir_fd)
        if below is not None and self._fails(kind, below):
            raise self._error(below if named else None)

    def write(self, handle: int, data: Any, write: Callable[[Any], int]) -> int:
        """Write, or write half and fail."""
        below = self._below(handle)
        if below is not None and self._fails("write", below):
            write(bytes(data)[: len(data) // 2])
            raise self._error(None)
        return write(data)


class _File(io.FileIO):
    """A file whose writes go past the disk."""

    def __init__(self, disk: BrokenDisk, path: Any, mode: str, opener: Any) -> None:
        super().__init__(path, mode, opener=opener)
        self._disk = disk

    def write(self, data: Any) -> int:
        return self._disk.write(self.fileno(), data, super().write)

    def truncate(self, size: int | None = None) -> int:
        self._disk.change("truncate", self.fileno(), named=False)
        return super().truncate(size)


@contextmanager
def broken(disk: BrokenDisk) -> Iterator[BrokenDisk]:
    """Let all files be on a disk, as far as Python itself writes them."""
    plain = {name: getattr(os, name) for name in ("open", "write")}
    plain_open = io.open

    def open_handle(path: Any, flags: int, *rest: Any, dir_fd: Any = None, **more: Any) -> int:
        if flags & _WRITING:
            there = os.path.exists(path) if dir_fd is None else True  # noqa: PTH110
            disk.change("open" if there else "create", path, dir_fd)
        return int(plain["open"](path, flags, *rest, dir_fd=dir_fd, **more))

    def open_file(
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        if not set(mode) & set("wxa+") or isinstance(file, int) or disk._below(file) is None:
            return plain_open(file, mode, buffering, encoding, errors, newline, closefd, opener)
        disk.change("open" if os.path.exists(file) else "create", file)  # noqa: PTH110
        raw = _File(disk, file, mode.replace("b", "").replace("t", ""), opener)
        if buffering == 0:
            return raw
        size = buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE
        made = io.BufferedRandom(raw, size) if "+" in mode else io.BufferedWriter(raw, size)
        return made if "b" in mode else io.TextIOWrapper(made, encoding, errors, newline)

    def changing(kind: str, name: str) -> Callable[..., Any]:
        function = getattr(os, name)

        def change(path: Any, *rest: Any, **more: Any) -> Any:
            at = more.get("dir_fd", more.get("src_dir_fd"))
            disk.change(kind, path, at, named=kind != "sync")
            return function(path, *rest, **more)

        return change

    def link(target: Any, path: Any, *rest: Any, **more: Any) -> None:
        disk.change("create", path, more.get("dir_fd"))
        symlink(target, path, *rest, **more)

    symlink = os.symlink
    patches = {
        "open": open_handle,
        "write": lambda handle, data: disk.write(
            handle, data, lambda part: plain["write"](handle, part)
        ),
        "mkdir": changing("mkdir", "mkdir"),
        "symlink": link,
        "rename": changing("rename", "rename"),
        "replace": changing("rename", "replace"),
        "unlink": changing("remove", "unlink"),
        "remove": changing("remove", "remove"),
        "rmdir": changing("remove", "rmdir"),
        "fsync": changing("sync", "fsync"),
        "ftruncate": changing("truncate", "ftruncate"),
    }
    with (
        mock.patch.multiple(os, **patches),
        mock.patch.object(io, "open", open_file),
        mock.patch.object(builtins, "open", open_file),
        mock.patch.object(tarfile, "bltn_open", open_file),
    ):
        yield disk
