"""Small labelled sets on disk, and the commands in-process."""

from __future__ import annotations

import os

# Before NumPy and torch are there: their threads cost more than they save on arrays this small,
# above all where tests run side by side.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from joblib import cpu_count
from small_sets import Outcome, SmallSet, write_small_set

from pipelines.cli.synth import main


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """`-n auto`: the processors that are ours, not all that the machine has."""
    return int(cpu_count())


@pytest.fixture(scope="session", autouse=True)
def _interrupts() -> Iterator[None]:
    """Let interrupts through, also where the tests run as a background job, which ignores them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def make_set(tmp_path: Path) -> Callable[..., SmallSet]:
    """Write a set into a folder below the test's own; keywords as `write_small_set`."""

    def make(name: str = "source", **keywords: object) -> SmallSet:
        return write_small_set(tmp_path / name, **keywords)  # type: ignore[arg-type]

    return make


@pytest.fixture
def small_set(make_set: Callable[..., SmallSet]) -> SmallSet:
    """Four training and two test pairs of 48x64 pixels, 8 bit."""
    return make_set()


@pytest.fixture
def synth() -> Callable[..., Outcome]:
    """Run a command of `synth` in this process; a traceback fails the test."""

    def run(*arguments: object) -> Outcome:
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Outcome(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def detect() -> Callable[..., Outcome]:
    """Run a command of `detect` in this process; a traceback fails the test."""
    from pipelines.cli.detect import main as detect_main

    def run(*arguments: object) -> Outcome:
        result = CliRunner().invoke(detect_main, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Outcome(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def tree() -> Callable[[Path], dict[str, bytes]]:
    """Read every file below a folder, by its relative path."""

    def read(folder: Path) -> dict[str, bytes]:
        return {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }

    return read


@pytest.fixture
def mount_tmpfs(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount small memory disks, given their options; skip where that is not permitted."""
    mounted: list[Path] = []

    def mount(options: str) -> Path:
        place = tmp_path / f"disk{len(mounted)}"
        place.mkdir()
        if shutil.which("mount") is None:
            pytest.skip("there is no `mount` here")
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"a tmpfs cannot be mounted here ({done.stderr.strip()})")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", "-l", str(place)], check=True)
