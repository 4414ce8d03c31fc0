"""Workers: the same map over threads or processes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, Literal, TypeVar

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

    def map(
        self, work: Callable[[Item], Result], items: Iterable[Item]
    ) -> Generator[Result, None, None]:
        """Apply `work` to every item.

        However it ends, by an error of `work` or because the caller closes it, nothing is under
        way any more when it has ended.
        """
        # Workers are the parallelism; OpenCV's own threads would only get in their way.
        cv2.setNumThreads(1)
        if self.jobs == 1:
            yield from map(work, items)
            return
        stopped = threading.Event()

        def feed() -> Iterator[Any]:
            for item in items:
                if stopped.is_set():
                    return
                yield joblib.delayed(_attempt)(work, item)

        results = joblib.Parallel(
            n_jobs=self.jobs,
            backend=_JOBLIB_NAMES[self.backend],
            return_as="generator",
            pre_dispatch="4*n_jobs",
            batch_size=1,
        )(feed())
        try:
            for result, error in results:
                if error is not None:
                    raise error
                yield result
        finally:
            stopped.set()
            for _ in results:
                pass


def _attempt(
    work: Callable[[Item], Result], item: Item
) -> tuple[Result, None] | tuple[None, Exception]:
    """An error comes back as a value: raised in a worker, it would leave the others running."""
    try:
        return work(item), None
    except Exception as error:
        return None, error
