"""Workers: the same map over threads, processes, or the machines of a Dask cluster."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import lru_cache
from itertools import islice
from typing import Any, Literal, TypeAlias, TypeVar, cast

import cv2

from pipelines.cluster import map_on_cluster, require_dask

Backend = Literal["threads", "processes", "dask"]
Item = TypeVar("Item")
Result = TypeVar("Result")

_Attempt: TypeAlias = tuple[Result, None] | tuple[None, Exception]

# Tasks for every worker, those that it works on and those that wait: a large one may hold up the
# results of many small ones.
_TASKS_A_WORKER = 4


class Pool:
    """Workers: threads, processes of joblib, or Dask; results come in the order of the tasks.

    Threads are the default: OpenCV, NumPy, hashing and files release the interpreter's lock, and
    nothing has to be started or copied.

    Parameters
    ----------
    jobs : int
        Workers; 0 for one per processor, or for all that a cluster has.
    backend : {"threads", "processes", "dask"}
    scheduler : str, optional
        Address of the Dask scheduler; for ``dask`` alone.

    Raises
    ------
    ClusterError
        Dask is not installed.
    """

    def __init__(
        self, jobs: int = 0, backend: Backend = "threads", scheduler: str | None = None
    ) -> None:
        if (backend == "dask") != (scheduler is not None):
            raise ValueError("a scheduler is for the backend dask, and that needs one")
        if backend == "dask":
            require_dask()
        # Of this machine: what is done here is little when the rest is done by a cluster.
        self.jobs = jobs if jobs > 0 and backend != "dask" else _count_processors()
        self.backend = backend
        self._scheduler = scheduler
        self._most = jobs

    @property
    def apart(self) -> bool:
        """Whether workers are processes of their own, which may outlive this one."""
        return self.backend != "threads"

    def map(
        self,
        work: Callable[[Item], Result],
        items: Iterable[Item],
        interrupted: Callable[[], None] = lambda: None,
    ) -> Generator[Result, None, None]:
        """Apply `work` to every item; for processes and a cluster it is a function of a module.

        `interrupted` is called at once when an interrupt comes, so that work that takes long can
        be told to stop; with one worker the interrupt goes to the work itself.

        However it ends, by an error of `work` or because the caller closes it, nothing is under
        way any more when it has ended.
        """
        # Workers are the parallelism; OpenCV's own threads would only get in their way.
        cv2.setNumThreads(1)
        if self._scheduler is not None:
            yield from self._map_on_cluster(self._scheduler, work, items, interrupted)
            return
        if self.jobs == 1:
            yield from map(work, items)
            return
        stop = threading.Event()
        with _interrupts(stop, interrupted) as caught:
            run = self._run_threads if self.backend == "threads" else self._run_processes
            with closing(run(work, items, stop)) as results:
                for result, error in results:
                    if isinstance(error, _StoppedError):
                        break
                    if error is not None:
                        raise error
                    yield cast(Result, result)
        if caught:
            raise KeyboardInterrupt

    def _run_threads(
        self, work: Callable[[Item], Result], items: Iterable[Item], stop: threading.Event
    ) -> Generator[_Attempt[Result], None, None]:
        def attempt(item: Item) -> _Attempt[Result]:
            return (None, _StoppedError()) if stop.is_set() else _attempt(work, item)

        left = iter(items)
        waiting: deque[Future[_Attempt[Result]]] = deque()
        with ThreadPoolExecutor(self.jobs) as executor:
            try:
                while True:
                    room = 0 if stop.is_set() else _TASKS_A_WORKER * self.jobs - len(waiting)
                    waiting += (executor.submit(attempt, item) for item in islice(left, room))
                    if not waiting:
                        return
                    yield waiting.popleft().result()
            finally:
                stop.set()

    def _run_processes(
        self, work: Callable[[Item], Result], items: Iterable[Item], stop: threading.Event
    ) -> Generator[_Attempt[Result], None, None]:
        import joblib

        def feed() -> Iterator[Any]:
            for item in items:
                if stop.is_set():
                    return
                yield joblib.delayed(_attempt_in_process)(os.getpid(), work, item)

        run = joblib.Parallel(
            n_jobs=self.jobs,
            backend="loky",
            return_as="generator",
            pre_dispatch=f"{_TASKS_A_WORKER}*n_jobs",
            batch_size=1,
        )
        # Workers that start while interrupts are ignored ignore them for good: the terminal
        # sends Ctrl-C to them too, and it is for this process to end them in order.
        with _ignored_interrupts():
            results = run(feed())
        try:
            # Not `yield from`, which would close the results before they are waited for.
            for result in results:  # noqa: UP028
                yield result
        finally:
            stop.set()
            for _ in results:
                pass

    def _map_on_cluster(
        self,
        scheduler: str,
        work: Callable[[Item], Result],
        items: Iterable[Item],
        interrupted: Callable[[], None],
    ) -> Generator[Result, None, None]:
        stop = threading.Event()
        with (
            _interrupts(stop, interrupted) as caught,
            closing(map_on_cluster(scheduler, self._most, work, items, stop)) as results,
        ):
            yield from results
        if caught:
            raise KeyboardInterrupt


@contextmanager
def _interrupts(stop: threading.Event, interrupted: Callable[[], None]) -> Iterator[list[int]]:
    """Collect the first interrupt, and set `stop`; the second one ends the process at once.

    Raised in the middle, it would leave workers inside a library while the interpreter ends,
    which aborts the process. Where interrupts are ignored (a background job), they stay so.
    """
    caught: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before == signal.SIG_IGN:
        yield caught
        return

    def catch(number: int, frame: object) -> None:
        if caught:
            os._exit(128 + number)
        caught.append(number)
        stop.set()
        interrupted()

    signal.signal(signal.SIGINT, catch)
    try:
        yield caught
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _ignored_interrupts() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class _StoppedError(Exception):
    """In place of a result that nobody waits for any more."""


def _count_processors() -> int:
    """Of those that this process may use."""
    import joblib

    return int(joblib.cpu_count())


def _attempt(work: Callable[[Item], Result], item: Item) -> _Attempt[Result]:
    """An error comes back as a value: raised in a worker, it would leave the others running."""
    try:
        return work(item), None
    except Exception as error:
        return None, error


def _attempt_in_process(
    parent: int, work: Callable[[Item], Result], item: Item
) -> _Attempt[Result]:
    _end_with(parent)
    return _attempt(work, item)


@lru_cache(maxsize=1)
def _end_with(parent: int) -> None:
    """End this worker process soon after its parent, which may be killed without a word."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
