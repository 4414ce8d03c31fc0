"""OpenCV's settings, which hold for a whole process: changed while needed, then as before."""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import Lock
from types import TracebackType

import cv2


class Borrowed:
    """A setting of the process that has another value inside of ``with`` blocks.

    Blocks may overlap in threads: the first one changes the setting, the last one restores it.

    Parameters
    ----------
    read, write : callable
        Get and set it.
    value : int
        What it is inside.
    """

    def __init__(self, read: Callable[[], int], write: Callable[[int], object], value: int) -> None:
        self._read, self._write, self._value = read, write, value
        self._users = 0
        self._before = value
        self._renew_lock()
        # A forked process has no thread that could release the lock.
        os.register_at_fork(after_in_child=self._renew_lock)

    def _renew_lock(self) -> None:
        self._lock = Lock()

    def __enter__(self) -> None:
        with self._lock:
            if not self._users:
                self._before = self._read()
                self._write(self._value)
            self._users += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                self._write(self._before)


one_thread = Borrowed(cv2.getNumThreads, cv2.setNumThreads, 1)
"""Where workers are the parallelism, OpenCV's own threads only get in their way."""

silent = Borrowed(
    cv2.utils.logging.getLogLevel,
    cv2.utils.logging.setLogLevel,
    cv2.utils.logging.LOG_LEVEL_SILENT,
)
"""What OpenCV prints about a damaged file goes to the error that names it instead."""
