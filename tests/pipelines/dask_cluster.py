"""A Dask scheduler and its workers on this machine, for tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]


def square(number: int) -> int:
    """A task."""
    return number * number


def process_of(number: int) -> int:
    """A task that says which process it ran in."""
    time.sleep(0.05)
    return os.getpid()


class LocalCluster:
    """Processes of a cluster on the loopback device.

    Workers run elsewhere than the builds do, as on another machine, and end when their scheduler
    does.
    """

    def __init__(self, place: Path) -> None:
        self._place = place
        self._processes: list[subprocess.Popen[bytes]] = []
        file = place / "scheduler.json"
        self.scheduler = self._start(
            "dask_scheduler", "--port", "0", "--idle-timeout", "180", "--no-show",
            "--scheduler-file", str(file),
        )  # fmt: skip
        deadline = time.monotonic() + 180
        while not file.exists() or not file.read_text():
            assert self.scheduler.poll() is None, "the scheduler ended"
            assert time.monotonic() < deadline, "the scheduler does not start"
            time.sleep(0.02)
        self.address: str = json.loads(file.read_text())["address"]

    def start_worker(self, path: Path = ROOT) -> subprocess.Popen[bytes]:
        """Start a worker of one thread that finds packages in `path`."""
        return self._start(
            "dask_worker", self.address, "--nthreads", "1", "--no-nanny",
            "--death-timeout", "60", "--local-directory", str(self._place), path=path,
        )  # fmt: skip

    def stop(self) -> None:
        """End every process."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait(20)

    def _start(self, program: str, *options: str, path: Path = ROOT) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.{program}", "--host", "127.0.0.1",
             "--no-dashboard", *options],
            cwd=self._place,
            env=os.environ | {"PYTHONPATH": f"{path}{os.pathsep}{Path(__file__).parent}"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._processes.append(process)
        return process


@contextmanager
def local_cluster(place: Path, workers: int) -> Iterator[LocalCluster]:
    """A cluster that is gone afterwards, whatever happens."""
    cluster = LocalCluster(place)
    try:
        for _ in range(workers):
            cluster.start_worker()
        yield cluster
    finally:
        cluster.stop()
