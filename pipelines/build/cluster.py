"""Workers of a Dask cluster: the same map, past one machine.

A task goes to the cluster as bytes and comes back as a result or an error, so a worker that lacks
the package says so instead of dying of it. A task whose worker is lost is done by another one.

joblib has a backend for Dask too. It waits for ever for a task whose workers keep dying, and works
in the calling process when the cluster has one worker.
"""

from __future__ import annotations

import gc
import logging
import pickle
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from pipelines.build.versions import versions
from pipelines.errors import ClusterError
from synth.opencv import one_thread

if TYPE_CHECKING:
    from distributed import Client

Item = TypeVar("Item")
Result = TypeVar("Result")

# Tasks for every thread of the cluster: one that it works on, and one that waits for it.
_TASKS_A_THREAD = 2
# Seconds to find a scheduler, at first or again, and to see a worker, the first or others.
_PATIENCE, _WORKER_PATIENCE = 10.0, 30.0
# Seconds between looks at the number of workers, and at whether the scheduler is there.
_EVERY, _WATCH = 2.0, 0.5


def require_dask() -> None:
    """Raise a `ClusterError` that says how to install Dask where it is missing."""
    try:
        import distributed  # noqa: F401
    except ImportError:
        raise ClusterError(
            "the backend dask needs Dask; install it with pip install 'sirst-synth[dask]'"
        ) from None


def map_on_cluster(
    scheduler: str,
    most: int,
    work: Callable[[Item], Result],
    items: Iterable[Item],
    stop: threading.Event,
) -> Generator[Result, None, None]:
    """Apply `work`, a function of a module, to every item; results come in the items' order.

    However it ends, no task is under way any more when it has ended, unless the cluster is lost.

    Parameters
    ----------
    scheduler : str
        Address, as ``tcp://HOST:8786``.
    most : int
        Tasks at a time; 0 for as many as the cluster likes.
    work : callable
    items : iterable
    stop : Event
        Ends it early when it is set.

    Raises
    ------
    ClusterError
        The scheduler cannot be reached, has no workers, or is lost; a worker has not the same
        versions; one task killed several workers.
    """
    with _connected(scheduler) as client:
        run, size = _remote_call(), _Size(client, scheduler)
        waiting: deque[Any] = deque()
        left = iter(items)
        try:
            while not stop.is_set():
                room = (most or _TASKS_A_THREAD * size.threads()) - len(waiting)
                for item in islice(left, max(room, 0)):
                    task = pickle.dumps((versions(), work, item))
                    waiting.append(client.submit(run, task, pure=False))
                if not waiting:
                    return
                result = _result(client, scheduler, size, waiting[0], stop)
                if stop.is_set():
                    return
                waiting.popleft().release()
                yield result
        finally:
            _wait(client, size, waiting)


def _remote_call() -> Callable[[bytes], tuple[Any, Exception | str | None]]:
    """The function that a worker runs. It comes as code, so that it can say what a worker lacks."""

    def call(task: bytes) -> tuple[Any, Exception | str | None]:
        import pickle
        import socket

        try:
            from pipelines.build.cluster import attempt

            loaded = pickle.loads(task)
        except (ImportError, AttributeError) as error:
            return None, f"worker {socket.gethostname()}: {error}"
        return attempt(*loaded)

    return call


def attempt(
    wanted: Mapping[str, str], work: Callable[[Item], Result], item: Item
) -> tuple[Result, None] | tuple[None, Exception]:
    """Do a task on a worker; an error comes back as a value."""
    own = versions()
    for name, version in wanted.items():
        if own[name] != version:
            problem = f"a worker has {name} {own[name]}, this machine has {version}"
            return None, ClusterError(f"{problem}; the same must be installed on both")
    try:
        with one_thread:
            return work(item), None
    except Exception as error:
        return None, error


@contextmanager
def _connected(scheduler: str) -> Iterator[Client]:
    require_dask()
    from distributed import Client

    # What matters of its messages comes out as an error of one line.
    for name in ("distributed", "tornado"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    # A client that could not connect takes a lock when it is collected, which it waits for for ever
    # where that happens while the next one holds it.
    gc.collect()
    try:
        client = Client(scheduler, timeout=_PATIENCE, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise ClusterError(f"the scheduler {scheduler} cannot be reached") from error
    try:
        yield client
    finally:
        client.close(timeout=_PATIENCE)


class _Size:
    """Threads of all workers, asked for now and then, for workers come and go."""

    def __init__(self, client: Client, scheduler: str) -> None:
        self._client = client
        self._scheduler = scheduler
        self._threads = 0
        self._asked = -_EVERY

    def threads(self) -> int:
        """The number; where there is no worker, one is waited for."""
        begun = time.monotonic()
        while not self.look():
            if time.monotonic() - begun > _WORKER_PATIENCE:
                raise ClusterError(
                    f"the scheduler {self._scheduler} has no workers; start some with "
                    f"`dask worker {self._scheduler}`, and run the same command again"
                )
            time.sleep(0.1)
        return self._threads

    def look(self) -> int:
        """The number as it is now, or was a moment ago."""
        if time.monotonic() - self._asked > _EVERY or not self._threads:
            self._asked = time.monotonic()
            try:
                self._threads = sum(self._client.nthreads().values())
            except (OSError, TimeoutError):
                raise _lost(self._scheduler) from None
        return self._threads


def _result(client: Client, scheduler: str, size: _Size, future: Any, stop: threading.Event) -> Any:
    """Wait for a task."""
    from distributed import CancelledError
    from distributed.scheduler import KilledWorker

    seen = time.monotonic()
    while not stop.is_set():
        try:
            result, error = future.result(timeout=_WATCH)
        except KilledWorker:
            raise ClusterError(
                "a task ended several workers one after the other; have they enough memory? "
                "What is whole is kept, run the same command again"
            ) from None
        except CancelledError:
            raise _lost(scheduler) from None
        except TimeoutError:
            if client.status == "running":
                seen = time.monotonic()
                size.threads()
            elif time.monotonic() - seen > _PATIENCE:
                raise _lost(scheduler) from None
            continue
        if isinstance(error, str):
            raise ClusterError(f"{error}; install sirst-synth on every worker")
        if error is not None:
            raise error
        return result
    return None


def _lost(scheduler: str) -> ClusterError:
    return ClusterError(
        f"the scheduler {scheduler} was lost; what is whole is kept, run the same command again"
    )


def _wait(client: Client, size: _Size, futures: Iterable[Any]) -> None:
    """Wait until none of these is under way, as long as there are a scheduler and workers."""
    with suppress(ClusterError):
        for future in futures:
            while client.status == "running" and not future.done() and size.look():
                time.sleep(0.02)
