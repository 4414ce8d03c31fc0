"""One process at a time: locks on folders and files, which go when their process ends."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def alone_in(folder: Path, *, wait: bool = False, follow: bool = True) -> Iterator[None]:
    """Keep other processes out of a folder, as far as they ask for it in the same way.

    Parameters
    ----------
    folder : Path
        One that is there.
    wait : bool
        Wait for a process that is at work in it.
    follow : bool
        Whether the folder may be a link to one.

    Raises
    ------
    BlockingIOError
        Another process is at work in it, or has renamed it since it was opened here.
    OSError
        It cannot be opened or locked.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    handle = os.open(folder, flags if follow else flags | os.O_NOFOLLOW)
    try:
        lock(handle, wait=wait)
        # A folder that becomes a finished set by its new name is not this process's.
        if not wait and not _is_there(folder, handle):
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), str(folder))
        yield
    finally:
        os.close(handle)


def _is_there(folder: Path, handle: int) -> bool:
    try:
        return os.path.samestat(folder.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def lock(handle: int, *, wait: bool = False) -> None:
    """Keep other processes out of an open file until it is closed; errors as `alone_in`."""
    fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
