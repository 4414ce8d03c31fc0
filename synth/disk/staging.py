"""A staging directory that becomes the output in one rename.

While a build runs its files lie in ``.<name>.partial`` beside the output. The manifest there is
the record of completion: a line is appended when the files of an output are whole, so a build
that was killed goes on after the last line whose files still have the right hash. No reader ever
sees half a set.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synth.disk.description import (
    DESCRIPTION,
    IMAGES,
    MANIFEST,
    MASKS,
    NOISE,
    describe,
    read_description,
)
from synth.disk.files import (
    alone_in,
    file_problem,
    file_sha256,
    making_parents,
    naming,
    sha256,
    write_file,
)
from synth.disk.manifest import Line, parse_line
from synth.disk.names import parts_inside
from synth.errors import ResumableError, StoreError

PARTS = ".parts"
"""Folder of the staging directory for files that get their own name once they are whole."""

_PLAN = ".plan.json"


@dataclass(frozen=True)
class Staging:
    """The staging directory of one build, `place`, which becomes `out`; made by `staging`."""

    out: Path
    place: Path

    def completed(self, expected: Iterable[tuple[str, str]], threads: int) -> int:
        """Number of outputs, from the first, that are whole; the rest of the manifest is cut off.

        `expected` is the (id, split) of all in the order of the plan; so many `threads` read.
        """
        path = self.place / MANIFEST
        whole = size = 0
        with naming(path), path.open("a+b") as file, ThreadPoolExecutor(threads) as pool:
            file.seek(0)
            lines = file.read().splitlines(keepends=True)
            checks = pool.map(lambda line: check_line(self.place, line), lines)
            for line, (found, problem), key in zip(lines, checks, expected, strict=False):
                torn = problem or not line.endswith(b"\n")
                if torn or found is None or (found.id, found.split) != key:
                    break
                whole += 1
                size += len(line)
            file.truncate(size)
        return whole

    def append(self, lines: bytes) -> None:
        """Record outputs as complete."""
        path = self.place / MANIFEST
        with naming(path), path.open("ab") as file:
            file.write(lines)

    def publish(self, description: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        """Write the lists and ``dataset.json``, then rename the directory to the output.

        Hashes of files that are there already may be in the description's ``files``.
        """
        # Twice, as a worker of a killed build may put a last file there.
        shutil.rmtree(self.place / PARTS, ignore_errors=True)
        if (self.place / PARTS).exists():
            shutil.rmtree(self.place / PARTS)
        hashes = dict(description.get("files", {}))
        for name, data in files.items():
            path = self.place / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_file(str(path), data)
            hashes[name] = sha256(data)
        for name in (NOISE, MANIFEST):
            if (self.place / name).exists():
                hashes[name] = file_sha256(self.place / name)
        whole = describe({**description, "files": dict(sorted(hashes.items()))})
        write_file(str(self.place / DESCRIPTION), whole)
        (self.place / _PLAN).unlink()
        try:
            self.place.rename(self.out)
        except OSError as error:
            raise StoreError(self.out, f"cannot be put in place ({error.strerror})") from None


@contextmanager
def staging(
    out: Path, description: Mapping[str, Any], folders: Sequence[str] = (IMAGES, MASKS)
) -> Iterator[Staging]:
    """Open the staging directory of an output with these folders, and keep other builds out of it.

    What an interrupted build of the same description left is kept, of another one is cleared. An
    error removes the directory; an interrupt (Ctrl-C, a killed process, a cluster that is lost)
    leaves it for the next run.

    Raises
    ------
    StoreError
        Another build is writing this output, or the place cannot be written, or holds what no
        build left there.
    """
    plan = json.dumps(description, sort_keys=True).encode()
    with _place_of(out) as place:
        if (out / DESCRIPTION).is_file():
            with suppress(OSError):  # what is not empty is not this run's
                place.rmdir()
            raise StoreError(
                out, "was built by another process in the meantime; run the same command again"
            )
        if any(place.iterdir()) and not _is_staging(place):
            raise StoreError(place, "is in the way and no build's; remove it")
        try:
            with naming(place):
                _prepare(place, plan, folders)
            yield Staging(out, place)
        except ResumableError:
            raise
        except Exception as error:
            shutil.rmtree(place, ignore_errors=True)
            # A read or a flush that fails does not know its file's name.
            if isinstance(error, OSError) and error.filename is None:
                with naming(out):
                    raise
            raise


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Fill a folder of frames elsewhere; it becomes `out` when the block ends without an error.

    What a killed run has left there is removed first.

    Raises
    ------
    StoreError
        It cannot be written, another process is filling it, or something else lies there.
    """
    with _place_of(out) as place:
        for left in place.iterdir():
            if left.suffix not in (".png", ".partial"):
                raise StoreError(place, "is in the way and not of this command; remove it")
            left.unlink()
        try:
            yield place
            place.replace(out)
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise


@contextmanager
def _place_of(out: Path) -> Iterator[Path]:
    """Make the directory that becomes an output, and keep other processes out of it."""
    place = out.with_name(f".{out.name}.partial")
    with making_parents(out), ExitStack() as alone:
        with naming(place):
            place.mkdir(parents=True, exist_ok=True)
            try:
                alone.enter_context(alone_in(place))
            except BlockingIOError:
                raise StoreError(
                    out, "is being built by another process; wait until it ends"
                ) from None
        yield place


def _is_staging(place: Path) -> bool:
    """Whether a build left this folder: with its plan, or killed while it was published."""
    names = {entry.name for entry in place.iterdir()}
    try:
        # The plan comes first, so one that was cut short lies there alone.
        if _PLAN in names:
            return names == {_PLAN} or isinstance(json.loads((place / _PLAN).read_bytes()), dict)
        return bool(read_description(place))
    except (OSError, ValueError, TypeError, StoreError):
        return False


def _prepare(place: Path, plan: bytes, folders: Sequence[str]) -> None:
    """Clear what is of another plan, and make the folders."""
    path = place / _PLAN
    if not path.is_file() or path.read_bytes() != plan:
        # The plan last: it is what tells this folder from anybody's.
        for entry in sorted(place.iterdir(), key=lambda entry: entry.name == _PLAN):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        write_file(str(path), plan)
    for folder in (*folders, PARTS):
        (place / folder).mkdir(parents=True, exist_ok=True)


def check_line(root: Path, line: bytes) -> tuple[Line | None, str | None]:
    """Read a manifest line; it, and what is wrong with it or with its files."""
    try:
        entry = parse_line(line)
        files = entry.files
    except ValueError:
        return None, f"{root / MANIFEST}: holds a line that is not the build's"
    for name, wanted in files.items():
        try:
            parts_inside(name)
        except ValueError as error:
            return entry, f"{root / MANIFEST}: names {name!r:.80}, {error}; build the set again"
        problem = file_problem(root, name, wanted)
        if problem:
            return entry, problem
    return entry, None
