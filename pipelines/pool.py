"""Workers: the same map over threads or processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, TypeVar

import cv2
import joblib

Backend = Literal["threads", "processes"]
Item = TypeVar("Item")
Result = TypeVar("Result")

_JOBLIB_NAMES = {"threads": "threading", "processes": "loky"}


class Pool:
    """Workers over joblib; results come in the order of the tasks.

    Threads are the default: OpenCV, NumPy, hashing and files release the interpreter's lock, and
    nothing has to be started or copied.
    """

    def __init__(self, jobs: int = 0, backend: Backend = "threads") -> None:
        self.jobs = jobs if jobs > 0 else joblib.cpu_count()
        self.backend = backend

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Apply `work` to every item."""
        # Workers are the parallelism; OpenCV's own threads would only get in their way.
        cv2.setNumThreads(1)
        if self.jobs == 1:
            yield from map(work, items)
            return
        run = joblib.Parallel(
            n_jobs=self.jobs,
            backend=_JOBLIB_NAMES[self.backend],
            return_as="generator",
            pre_dispatch="4*n_jobs",
            batch_size=1,
        )
        yield from run(joblib.delayed(work)(item) for item in items)
