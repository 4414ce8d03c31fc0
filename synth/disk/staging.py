"""A staging directory that becomes the output in one rename.

While a build runs its files lie in ``.<name>.partial`` beside the output. The manifest there is
the record of completion: a line is appended when the files of an output are whole, so a build
that was killed goes on after the last line whose files still have the right hash. No reader ever
sees half a set.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import cached_property
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
    file_sha256,
    missing_parents,
    named_file_problem,
    naming,
    remove_empty,
    sha256,
    write_all,
    write_file,
)
from synth.disk.manifest import parse_line
from synth.disk.names import parts_inside
from synth.errors import ResumableError, StoreError

PARTS = ".parts"
"""Folder of the staging directory for files that get their own name once they are whole."""

_PLAN = ".plan.json"


class Staging:
    """The staging directory of one build; made by `staging`."""

    def __init__(self, out: Path, place: Path) -> None:
        self.out = out
        self.place = place

    @cached_property
    def _manifest(self) -> int:
        """The manifest's handle; it is made when a first line is looked for or written."""
        path = self.place / MANIFEST
        with naming(path):
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def completed(self, expected: Iterable[tuple[str, str]], threads: int) -> int:
        """Number of outputs, from the first, that are whole; the rest of the manifest is cut off.

        Parameters
        ----------
        expected : iterable of (id, split)
            The outputs in the order of the plan.
        threads : int
            How many files are read at once.
        """
        with open(self._manifest, "rb", closefd=False) as stream:
            stream.seek(0)
            lines = stream.read().splitlines(keepends=True)
        whole = 0
        size = 0
        with ThreadPoolExecutor(threads) as pool:
            checks = pool.map(lambda line: line_is_whole(self.place, line), lines)
            for line, (found, problem), key in zip(lines, checks, expected, strict=False):
                if problem or not line.endswith(b"\n") or found != key:
                    break
                whole += 1
                size += len(line)
        os.ftruncate(self._manifest, size)
        return whole

    def append(self, lines: bytes) -> None:
        """Record outputs as complete."""
        with naming(self.place / MANIFEST):
            write_all(self._manifest, lines)

    def publish(self, description: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        """Write the lists and ``dataset.json``, then rename the directory to the output.

        Hashes of files that are there already may be in the description's ``files``.
        """
        # Twice, as a worker of a killed build may put a last file there.
        shutil.rmtree(self.place / PARTS, ignore_errors=True)
        if (self.place / PARTS).exists():
            shutil.rmtree(self.place / PARTS)
        if "_manifest" in vars(self):
            os.fsync(self._manifest)
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

    def close(self) -> None:
        """Close the manifest."""
        if "_manifest" in vars(self):
            os.close(self._manifest)


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
            with closing(_open_staging(out, place, description, folders)) as stage:
                yield stage
        except ResumableError:
            raise
        except Exception as error:
            shutil.rmtree(place, ignore_errors=True)
            # A write or a flush that fails does not know its file's name.
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
    """Make the directory that becomes an output, and keep other processes out of it.

    The folders above it are removed after an error, if nothing is in them.
    """
    place = out.with_name(f".{out.name}.partial")
    made = missing_parents(out)
    with ExitStack() as alone:
        try:
            with naming(place):
                place.mkdir(parents=True, exist_ok=True)
                try:
                    alone.enter_context(alone_in(place))
                except BlockingIOError:
                    raise StoreError(
                        out, "is being built by another process; wait until it ends"
                    ) from None
            yield place
        except BaseException:
            remove_empty(made)
            raise


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


def _open_staging(
    out: Path, place: Path, description: Mapping[str, Any], folders: Sequence[str]
) -> Staging:
    plan = json.dumps(description, sort_keys=True).encode()
    try:
        same = (place / _PLAN).read_bytes() == plan
    except OSError:
        same = False
    with naming(place):
        if not same:
            # The plan last: it is what tells this folder from anybody's.
            for entry in sorted(place.iterdir(), key=lambda entry: entry.name == _PLAN):
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            write_file(str(place / _PLAN), plan)
        for folder in (*folders, PARTS):
            (place / folder).mkdir(parents=True, exist_ok=True)
    return Staging(out, place)


def line_is_whole(root: Path, line: bytes) -> tuple[tuple[str, str] | None, str | None]:
    """The (id, split) of a manifest line, and what is wrong with its files."""
    try:
        entry = parse_line(line)
        files = entry.files
    except ValueError:
        return None, f"{root / MANIFEST}: holds a line that is not the build's"
    key = entry.id, entry.split
    for name, wanted in files.items():
        try:
            parts_inside(name)
        except ValueError as error:
            return key, f"{root / MANIFEST}: names {name!r:.80}, {error}; build the set again"
        problem = named_file_problem(root, name, wanted)
        if problem:
            return key, problem
    return key, None
