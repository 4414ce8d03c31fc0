"""The data set on disk: a staging directory that becomes the output in one rename.

While a build runs its files lie in ``.<name>.partial`` beside the output. The manifest there is
the record of completion: a line is appended when the files of an output are whole, so a build
that was killed goes on after the last line whose files still have the right hash. No reader ever
sees half a set.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from pipelines.errors import ClusterError
from pipelines.lock import alone_in
from pipelines.names import link_inside, parts_inside
from synth.disk.manifest import Line, parse_line, read_lines
from synth.errors import DatasetError, StoreError
from synth.shards import is_sharded, manifest_files, read_index
from synth.split_names import SPLITS

MANIFEST = "manifest.jsonl"
DESCRIPTION = "dataset.json"
NOISE = "noise.npz"
IMAGES = "images"
MASKS = "masks"
CARD = "README.md"
PARTS = ".parts"
"""Folder of the staging directory for files that get their own name once they are whole."""

_PLAN = ".plan.json"
_LIST = re.compile(r"50_50/(train|val|test)\.txt|img_idx/(train|val|test)_[^/]*\.txt")


def write_file(path: str, data: bytes) -> None:
    """Write a file in one go, in place of any other of its name.

    Raises
    ------
    StoreError
        It cannot be written (disk full, read-only).
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            done = os.write(handle, data)
            while done < len(data):
                done += os.write(handle, data[done:])
        finally:
            os.close(handle)
    except OSError as error:
        raise _write_error(path, error) from None


def place_file(path: str, data: bytes, parts: Path) -> None:
    """Write a file under a name that no other process uses, and give it its own in one step.

    A worker that was taken for dead may still write what another one has written again since; the
    bytes are the same, but it may end at any moment.

    Parameters
    ----------
    path : str
    data : bytes
    parts : Path
        A folder of the same file system.

    Raises
    ------
    StoreError
        It cannot be written (disk full, read-only).
    """
    part = f"{parts}/{uuid.uuid4().hex}"
    try:
        write_file(part, data)
        os.rename(part, path)  # noqa: PTH104
    except OSError as error:
        raise _write_error(path, error) from None
    except StoreError as error:
        raise StoreError(path, error.problem) from None


def replace_file(path: Path, data: bytes) -> None:
    """Write a file so that its name never shows a part of it.

    Raises
    ------
    StoreError
        It cannot be written; what was there before is still there.
    """
    partial = path.with_name(f".{path.name}.partial")
    made = _missing_parents(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(str(partial), data)
        partial.replace(path)
    except (OSError, StoreError) as error:
        partial.unlink(missing_ok=True)
        _remove_empty(made)
        if isinstance(error, StoreError):
            raise StoreError(path, error.problem) from None
        raise _write_error(path, error) from None


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Fill a folder of frames elsewhere; it becomes `out` when the block ends without an error.

    What a killed run has left there is removed first.

    Raises
    ------
    StoreError
        It cannot be written, another process is filling it, or something else lies there.
    """
    place = out.with_name(f".{out.name}.partial")
    made = _missing_parents(place)
    with ExitStack() as alone:
        try:
            place.mkdir(parents=True, exist_ok=True)
            alone.enter_context(alone_in(place))
        except BlockingIOError:
            raise StoreError(out, "is being written by another process") from None
        except OSError as error:
            _remove_empty(made)
            raise _write_error(place, error) from None
        for left in place.iterdir():
            if left.suffix not in (".png", ".partial"):
                raise StoreError(place, "is in the way and not of this command; remove it")
            left.unlink()
        try:
            yield place
            place.replace(out)
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            _remove_empty(made)
            raise


def sha256(data: bytes) -> str:
    """SHA-256 as hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


class OutputFile:
    """The bytes of an output's file, with their suffix."""

    __slots__ = ("_sha256", "data", "suffix")

    def __init__(self, data: bytes, suffix: str) -> None:
        self.data = data
        self.suffix = suffix
        self._sha256 = ""

    @property
    def sha256(self) -> str:
        """Its hash; a mask that several outputs have is hashed once."""
        self._sha256 = self._sha256 or sha256(self.data)
        return self._sha256


def describe(description: Mapping[str, Any]) -> bytes:
    """The bytes of ``dataset.json``: the description with the SHA-256 of itself as last key."""
    body = json.dumps(description, indent=2, ensure_ascii=False)
    whole = dict(description) | {"sha256": sha256(body.encode())}
    return (json.dumps(whole, indent=2, ensure_ascii=False) + "\n").encode()


def finished(out: Path, description: Mapping[str, Any]) -> dict[str, Any] | None:
    """The description of an output that is there already, None when there is none.

    Raises
    ------
    StoreError
        The path is taken by something else, or by a set of another configuration, where the
        message names the first difference, or by one that lacks files by now.
    """
    if not require_usable(out):
        return None
    found = read_description(out)
    difference = _difference_of_builds(found, description)
    if difference:
        raise StoreError(
            out, f"was built by another configuration: {difference}; choose another --out"
        )
    require_whole(out, found)
    return found


def require_whole(out: Path, description: Mapping[str, Any]) -> None:
    """Refuse a set that lacks files by now; none is read, which `verify` is for.

    Raises
    ------
    StoreError
        The message names what is gone.
    """
    gone = [name for name in description.get("files", {}) if not (out / name).is_file()]
    outputs = description.get("counts", {}).get("outputs", 0)
    for folder, count in description.get("folders", {IMAGES: outputs, MASKS: outputs}).items():
        there = sum(1 for _ in (out / folder).iterdir()) if (out / folder).is_dir() else 0
        if there < count:
            gone.append(folder)
    if gone:
        raise StoreError(
            out, f"is not whole: some of {gone[0]} is gone; remove the set to build it again"
        )


def require_usable(out: Path) -> bool:
    """Whether a built set is there, as far as a glance tells.

    Raises
    ------
    StoreError
        Something else is there.
    """
    if not out.exists():
        if out.is_symlink():
            raise StoreError(out, "is a link to nothing; remove it, or choose another --out")
        return False
    if not out.is_dir():
        raise StoreError(out, "is a file; choose another --out")
    if (out / DESCRIPTION).is_file():
        return True
    if any(out.iterdir()):
        raise StoreError(out, "is a folder with other files in it; choose another --out")
    return False


def read_description(out: Path) -> dict[str, Any]:
    """Read ``dataset.json`` and test it against its own hash.

    Raises
    ------
    StoreError
        It is missing or was changed, or names a file outside of the set.
    """
    path = out / DESCRIPTION
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StoreError(
            path, f"cannot be read ({error.strerror}); the folder is not a built data set"
        ) from None
    try:
        found = json.loads(data)
        body = {key: value for key, value in found.items() if key != "sha256"}
        intact = describe(body) == data and _is_description(body)
    except (ValueError, AttributeError, TypeError, RecursionError):
        intact = False
    if not intact:
        raise StoreError(path, "was changed after the build; build the set again")
    for name in (*found.get("files", {}), *found.get("folders", {})):
        try:
            parts_inside(name)
        except ValueError as error:
            raise StoreError(path, f"names {name!r:.80}, {error}; build the set again") from None
    return dict(found)


def _is_description(found: Mapping[str, Any]) -> bool:
    """Whether what is counted on has the types that a build gives it."""
    kinds = {"files": str, "shards": int, "folders": int, "counts": int}
    parts = {key: found.get(key, {}) for key in kinds}
    settings = found.get("configuration") or {}
    if not isinstance(settings, dict) or not all(
        isinstance(noise, dict | None) for noise in (found.get("noise"), settings.get("noise"))
    ):
        return False
    return all(
        isinstance(part, dict) and all(isinstance(value, kinds[key]) for value in part.values())
        for key, part in parts.items()
    )


def split_lists(name: str, lists: Mapping[str, Iterable[str]]) -> dict[str, bytes]:
    """The split lists of a set of that name, in both layouts that detectors read."""
    files = {}
    for split, ids in lists.items():
        text = "".join(f"{id_}\n" for id_ in ids).encode()
        files[f"50_50/{split}.txt"] = text
        files[f"img_idx/{split}_{name}.txt"] = text
    return files


def read_manifest(out: Path) -> list[Line]:
    """Read the manifest, or those of all shards: an entry for every output, in the build's order.

    Raises
    ------
    StoreError
        It is missing, cannot be read, or is no manifest.
    DatasetError
        ``dataset.json`` does not name the shards.
    """
    paths = manifest_files(out) if is_sharded(out) else [out / MANIFEST]
    return [entry for path in paths for entry in read_lines(path)]


class Staging:
    """The staging directory of one build; made by `staging`."""

    def __init__(self, out: Path, place: Path) -> None:
        self.out = out
        self.place = place
        self._handle = -1

    @property
    def _manifest(self) -> int:
        """The manifest's handle; it is made when a first line is looked for or written."""
        path = self.place / MANIFEST
        if self._handle < 0:
            try:
                self._handle = os.open(
                    path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644
                )
            except OSError as error:
                raise _write_error(path, error) from None
        return self._handle

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
            checks = pool.map(lambda line: _line_is_whole(self.place, line), lines)
            for line, (found, problem), key in zip(lines, checks, expected, strict=False):
                if problem or not line.endswith(b"\n") or found != key:
                    break
                whole += 1
                size += len(line)
        os.ftruncate(self._manifest, size)
        return whole

    def append(self, lines: bytes) -> None:
        """Record outputs as complete."""
        try:
            done = os.write(self._manifest, lines)
            while done < len(lines):
                done += os.write(self._manifest, lines[done:])
        except OSError as error:
            raise _write_error(self.place / MANIFEST, error) from None

    def publish(self, description: dict[str, Any], files: Mapping[str, bytes]) -> None:
        """Write the lists and ``dataset.json``, then rename the directory to the output.

        Hashes of files that are there already may be in the description's ``files``.
        """
        # Twice, as a worker of a killed build may put a last file there.
        shutil.rmtree(self.place / PARTS, ignore_errors=True)
        if (self.place / PARTS).exists():
            shutil.rmtree(self.place / PARTS)
        if self._handle >= 0:
            os.fsync(self._handle)
        hashes = dict(description.get("files", {}))
        hashes |= {name: sha256(data) for name, data in files.items()}
        for name, data in files.items():
            path = self.place / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_file(str(path), data)
        for name in (NOISE, MANIFEST):
            if (self.place / name).exists():
                with (self.place / name).open("rb") as stream:
                    hashes[name] = hashlib.file_digest(stream, "sha256").hexdigest()
        whole = describe(description | {"files": dict(sorted(hashes.items()))})
        write_file(str(self.place / DESCRIPTION), whole)
        (self.place / _PLAN).unlink()
        try:
            self.place.rename(self.out)
        except OSError as error:
            raise StoreError(self.out, f"cannot be put in place ({error.strerror})") from None

    def close(self) -> None:
        """Close the manifest."""
        if self._handle >= 0:
            os.close(self._handle)


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
    place = out.parent / f".{out.name}.partial"
    made = _missing_parents(out)
    with ExitStack() as alone:
        try:
            try:
                out.parent.mkdir(parents=True, exist_ok=True)
                place.mkdir(exist_ok=True)
                alone.enter_context(alone_in(place))
            except BlockingIOError:
                made = []
                raise StoreError(
                    out, "is being built by another process; wait until it ends"
                ) from None
            except OSError as error:
                raise _write_error(place, error) from None
            if (out / DESCRIPTION).is_file():
                made = []
                with suppress(OSError):  # what is not empty is not this run's
                    place.rmdir()
                raise StoreError(
                    out, "was built by another process in the meantime; run the same command again"
                )
            if any(place.iterdir()) and not _is_staging(place):
                made = []
                raise StoreError(place, "is in the way and no build's; remove it")
            try:
                opened = _open_staging(out, place, description, folders)
                try:
                    yield opened
                finally:
                    opened.close()
            except ClusterError:
                raise
            except Exception as error:
                shutil.rmtree(place, ignore_errors=True)
                # A write or a flush that fails does not know its file's name.
                if isinstance(error, OSError) and error.filename is None:
                    raise _write_error(out, error) from None
                raise
        except Exception:
            _remove_empty(made)
            raise


def verify(out: Path, threads: int) -> Iterator[tuple[int, int, str | None]]:
    """Test every file of a built set against its hash, and its split lists against its manifest.

    Yields
    ------
    done, total : int
        Progress in outputs.
    problem : str or None
        One line that names a file, for every file that is missing, changed, or not the build's,
        and for every id whose split is not the same in a list, or in a shard's name, and in the
        manifest.

    Raises
    ------
    StoreError
        ``dataset.json`` itself is missing or was changed, or names a file outside of the set.
    """
    description = read_description(out)
    expected = {DESCRIPTION}
    files = description.get("files", {})
    sound: set[str] = set()
    splits: dict[str, str] = {}
    # A set in shards has its outputs in these files, and no manifest of its own.
    shards = description.get("shards", {})
    within, total = 0, sum(shards.values())
    with ThreadPoolExecutor(threads) as pool:
        problems = pool.map(lambda name: _named_file_problem(out, name, files[name]), files)
        for name, problem in zip(files, problems, strict=True):
            expected.add(name)
            if problem is None:
                sound.add(name)
            within += shards.get(Path(name).stem, 0) if name.endswith(".tar") else 0
            if problem or total:
                yield within, total, problem
    try:
        lines = (out / MANIFEST).read_bytes().splitlines(keepends=True)
    except OSError:
        lines = []
    with ThreadPoolExecutor(threads) as pool:
        checks = pool.map(lambda line: (line, *_line_is_whole(out, line)), lines)
        for done, (line, key, problem) in enumerate(checks, start=1):
            if key is not None:
                splits[key[0]] = key[1]
            with suppress(ValueError):
                for name in parse_line(line).files:
                    with suppress(ValueError):
                        expected.add("/".join(parts_inside(name)))
            yield done, len(lines), problem
    if "shards" not in description and file_problem(out / MANIFEST, files.get(MANIFEST, "")):
        # What the build made cannot be told from the rest without its manifest.
        return
    if "shards" not in description:
        other = _list_problems(out, files, sound, splits)
    else:
        # Shards that were changed are named already, and cannot be read.
        other = _shard_problems(out, shards) if sound.issuperset(files) else iter(())
    for problem in other:
        yield len(lines) or total, len(lines) or total, problem
    if "shards" not in description and not any(map(_LIST.fullmatch, files)):
        # A set that was imported undivided may have been divided since.
        expected |= {f"{split}.txt" for split in SPLITS}
    folders = {IMAGES, MASKS, *(str(up) for name in expected for up in Path(name).parents[:-1])}
    for folder in sorted(folders):
        link = link_inside(out, parts_inside(folder))
        if link is not None:
            yield len(lines) or total, len(lines) or total, _link_problem(link)
        elif (out / folder).is_dir():
            for entry in sorted(os.scandir(out / folder), key=lambda e: e.name):
                if f"{folder}/{entry.name}" not in expected | folders:
                    problem = f"{out / folder / entry.name}: is not part of the build; remove it"
                    yield len(lines) or total, len(lines) or total, problem
    for entry in sorted(os.scandir(out), key=lambda e: e.name):
        if entry.name not in expected | folders:
            problem = f"{out / entry.name}: is not part of the build; remove it"
            yield len(lines) or total, len(lines) or total, problem


def _list_problems(
    out: Path, files: Mapping[str, str], sound: set[str], splits: Mapping[str, str]
) -> Iterator[str]:
    """Compare the split lists whose bytes are the build's with the splits of the manifest."""
    layouts: dict[str, dict[str, str]] = {}
    for name in files:
        if found := _LIST.fullmatch(name):
            layouts.setdefault(name.split("/")[0], {})[name] = found[1] or found[2]
    for folder, lists in layouts.items():
        listed: set[str] = set()
        for name, split in lists.items():
            if name not in sound:
                continue
            entries = (out / name).read_bytes().decode(errors="replace").splitlines()
            for id_, count in Counter(filter(None, map(str.strip, entries))).items():
                listed.add(id_)
                problem = ""
                if id_ not in splits:
                    problem = "which is no output of the set"
                elif splits[id_] != split:
                    problem = f"which {MANIFEST} has in the split {splits[id_]!r:.80}"
                elif count > 1:
                    problem = f"{count} times"
                if problem:
                    yield f"{out / name}: names {id_!r:.80}, {problem}; build the set again"
        if sound.issuperset(lists):
            for id_ in (id_ for id_ in splits if id_ not in listed):
                yield f"{out / folder}: no list names the output {id_!r:.80}; build the set again"


def _shard_problems(out: Path, shards: Mapping[str, int]) -> Iterator[str]:
    """Compare the manifests of a set's shards with the shards' names and sizes."""
    try:
        read_index(out)
    except DatasetError as error:
        yield str(error)
        return
    for path in manifest_files(out):
        split, lines = path.stem.rpartition("-")[0], list(read_lines(path))
        if len(lines) != shards[path.stem]:
            yield (
                f"{path}: has {len(lines):,} outputs, and {DESCRIPTION} says "
                f"{shards[path.stem]:,}; build the set again"
            )
        for line in lines:
            if line.split != split:
                yield (
                    f"{path}: has {line.id!r:.80} in the split {line.split!r:.80}, and "
                    f"the shard is of {split!r}; build the set again"
                )


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
    try:
        if not same:
            # The plan last: it is what tells this folder from anybody's.
            for entry in sorted(place.iterdir(), key=lambda entry: entry.name == _PLAN):
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            write_file(str(place / _PLAN), plan)
        for folder in (*folders, PARTS):
            (place / folder).mkdir(parents=True, exist_ok=True)
        return Staging(out, place)
    except OSError as error:
        raise _write_error(place, error) from None


def _missing_parents(path: Path) -> list[Path]:
    """The folders above a path that are not there yet, from the inside out."""
    return [folder for folder in path.parents if not folder.exists()]


def _remove_empty(folders: Iterable[Path]) -> None:
    """Remove the folders that were made for nothing."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            break


def _line_is_whole(root: Path, line: bytes) -> tuple[tuple[str, str] | None, str | None]:
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
        problem = _named_file_problem(root, name, wanted)
        if problem:
            return key, problem
    return key, None


def _named_file_problem(root: Path, name: str, wanted: str) -> str | None:
    """What is wrong with a file of a set that should have this SHA-256; no link is followed."""
    link = link_inside(root, parts_inside(name))
    return file_problem(root / name, wanted) if link is None else _link_problem(link)


def _link_problem(link: Path) -> str:
    return f"{link}: is a link, which no build makes; put what it leads to in its place"


def file_problem(path: Path, wanted: str) -> str | None:
    """What is wrong with a file that should have this SHA-256; it is never in memory whole."""
    try:
        # A manifest that others wrote may name a pipe, or a device that never ends.
        if not path.is_file() and path.exists():
            return f"{path}: is not a file"
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return f"{path}: is missing"
    except OSError as error:
        return f"{path}: cannot be read ({error.strerror})"
    except ValueError:
        return f"{str(path)!r}: is no name that a file can have"
    return None if found == wanted else f"{path}: was changed after the build"


def _difference_of_builds(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str | None:
    """What tells two builds apart; where their sources lie and what they run on does not."""
    for key in ("format", "name", "configuration"):
        difference = _difference(found.get(key), wanted.get(key), key)
        if difference:
            return difference
    source = found.get("source")
    same = isinstance(source, dict) and source.get("fingerprint") == wanted["source"]["fingerprint"]
    if not same:
        return "the source's images, masks or splits are not the same"
    if found.get("noise") != wanted["noise"]:
        return "the noise bank is not the same"
    return None


def _difference(found: Any, wanted: Any, key: str) -> str | None:
    """The first difference between two plain values, as words."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for name in sorted(found.keys() | wanted.keys()):
            difference = _difference(found.get(name), wanted.get(name), f"{key}.{name}")
            if difference:
                return difference
        return None
    if isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        # Of steps a name says more than a number.
        pairs = zip(found, wanted, strict=True)
        if all(isinstance(one, dict) for pair in zip(found, wanted, strict=True) for one in pair):
            return next(filter(None, (_difference(*pair, key) for pair in pairs)), None)
    key = key.removeprefix("configuration.")
    return None if found == wanted else f"{key} is {found!r} there and {wanted!r} here"


def _write_error(path: Path | str, error: OSError) -> StoreError:
    return StoreError(path, f"cannot be written ({error.strerror}); nothing was kept")
