"""Workers: the same map over threads, processes, or the machines of a Dask cluster."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager, nullcontext, suppress
from functools import lru_cache
from multiprocessing import resource_tracker
from typing import Any, Literal, TypeAlias, TypeVar, cast, get_args

from pipelines.errors import PipelineError
from synth.opencv import one_thread

Backend = Literal["threads", "processes", "dask"]
Item = TypeVar("Item")
Result = TypeVar("Result")

_Attempt: TypeAlias = tuple[Result, None] | tuple[None, Exception]

# Tasks for every worker that it works on or that wait.
_TASKS_A_WORKER = 4
# Results for every worker that may wait for their turn: a large task may hold up many small ones,
# and joblib looks for results every 10 ms only.
_RESULTS_A_WORKER = 64


class Pool:
    """Workers: threads or processes of joblib, or Dask; results come in the order of the tasks.

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
        if backend not in get_args(Backend):
            raise ValueError(f"a backend is one of {', '.join(get_args(Backend))}, not {backend!r}")
        if backend == "dask":
            from pipelines.build.cluster import require_dask

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

        However it ends, by an error of `work`, by an interrupt, or because the caller closes it,
        nothing is under way any more when it has ended. An interrupt is a `KeyboardInterrupt` after
        the work in hand; `interrupted` is called at once, so that work that takes long can be told
        to stop. With one worker the interrupt goes to the work itself.
        """
        with one_thread:
            if self.jobs == 1 and self._scheduler is None:
                yield from map(work, items)
                return
            stop = threading.Event()
            with _interrupts(stop, interrupted) as caught:
                if self._scheduler is not None:
                    from pipelines.build.cluster import map_on_cluster

                    run = map_on_cluster(self._scheduler, self._most, work, items, stop)
                else:
                    run = self._run(work, items, stop)
                with closing(run) as results:
                    yield from results
            if caught:
                raise KeyboardInterrupt

    def _run(
        self, work: Callable[[Item], Result], items: Iterable[Item], stop: threading.Event
    ) -> Generator[Result, None, None]:
        import joblib

        threads = self.backend == "threads"
        most = _RESULTS_A_WORKER * self.jobs
        # Results that nobody takes would fill the memory: joblib counts those that are not made.
        # A task waits for results far before its own, so that the next to be taken never waits.
        taken = 0
        took = threading.Condition()

        def attempt_in_thread(number: int, item: Item) -> _Attempt[Result]:
            if number >= taken + most:
                with took:
                    took.wait_for(lambda: number < taken + most or stop.is_set())
            # Tasks that wait, as against those in hand, are not begun after an interrupt.
            return (None, _StoppedError()) if stop.is_set() else _attempt(work, item)

        def feed() -> Iterator[Any]:
            for number, item in enumerate(items):
                if stop.is_set():
                    return
                if threads:
                    yield joblib.delayed(attempt_in_thread)(number, item)
                else:
                    yield joblib.delayed(_attempt_in_process)(os.getpid(), work, item)

        parallel = joblib.Parallel(
            n_jobs=self.jobs,
            backend="threading" if threads else "loky",
            return_as="generator",
            pre_dispatch=_TASKS_A_WORKER * self.jobs,
            batch_size=1,
        )
        with nullcontext() if threads else _held_interrupts():
            results: Generator[_Attempt[Result], None, None] = parallel(feed())
        try:
            for result, error in results:
                if isinstance(error, _StoppedError):
                    return
                if error is not None:
                    raise error
                yield cast(Result, result)
                taken += 1
                if taken % self.jobs == 0:  # waking threads for each would cost more
                    with took:
                        took.notify_all()
        except BrokenProcessPool:
            raise PipelineError(
                "a worker process was ended, perhaps for want of memory; fewer workers need less"
            ) from None
        finally:
            # What is in hand ends; its results, and further errors, are of no use any more.
            with took:
                stop.set()
                took.notify_all()
            with suppress(BrokenProcessPool):
                for _ in results:
                    pass


@contextmanager
def _interrupts(stop: threading.Event, interrupted: Callable[[], None]) -> Iterator[list[int]]:
    """Collect interrupts, and set `stop` at the first one; further ones change nothing.

    Raised in the middle, they would leave workers inside a library while the interpreter ends,
    which aborts the process. Where interrupts are ignored (a background job), they stay so.
    """
    caught: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before == signal.SIG_IGN:
        yield caught
        return

    def catch(number: int, frame: object) -> None:
        caught.append(number)
        if not stop.is_set():
            stop.set()
            interrupted()

    signal.signal(signal.SIGINT, catch)
    try:
        yield caught
    finally:
        signal.signal(signal.SIGINT, before)


class _StoppedError(Exception):
    """A task was not begun."""


@contextmanager
def _held_interrupts() -> Iterator[None]:
    """Hold interrupts back while processes start; they never get any.

    The terminal sends Ctrl-C to them too, and it is for this process to end them in order. They
    inherit what this thread holds back.
    """
    # Which lets go of them when it starts, once.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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
    with one_thread:
        return _attempt(work, item)


@lru_cache(maxsize=1)
def _end_with(parent: int) -> None:
    """End this worker process soon after its parent, which may be killed without a word."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
