"""Folders of files: which files are in them, links followed, what operating systems leave left out.

Names that start with a dot and the folders in `JUNK` hold no data: macOS, Windows and storage
devices put previews and copies of attributes there.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from synth.errors import FrameError, SkippedWarning
from synth.frames import SUFFIXES, natural_key

JUNK = ("__macosx", "@eadir", "$recycle.bin", "system volume information")

Note = Callable[[Path, str, bool], None]
"""Called with a link that is skipped, why, and whether something is missing because of it."""


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder and the names of the picture files that are right in it.

    Attributes
    ----------
    path : Path
    parts : tuple of str
        The folders that lead to it from where the walk began; none for that folder itself.
    names : tuple of str
        Sorted. Links that have a picture's suffix are among them, even broken ones.
    """

    path: Path
    parts: tuple[str, ...]
    names: tuple[str, ...]


def warn_skipped(path: Path, why: str, missing: bool) -> None:
    """Warn of a link that was not followed; the commands print that as a note."""
    warnings.warn(f"{path}: {why}", SkippedWarning, stacklevel=2)


def pass_over(path: Path, why: str, missing: bool) -> None:
    """Say nothing of a link that was not followed."""


def child_folders(folder: Path, note: Note = pass_over) -> list[Path]:
    """List the folders right in a folder, sorted by name; see `walk_folders` for links."""
    return [folder / entry.name for entry in _scan(folder, note)[1]]


def walk_folders(start: Path, note: Note = pass_over) -> Iterator[Folder]:
    """Go through a folder and all folders below it; every folder comes once.

    Links to folders are followed, after all real folders, so that a folder that has several names
    comes under its own. A link to a folder that comes anyway, to one that the link itself is in,
    or to nothing is skipped, and `note` is called.

    Raises
    ------
    OSError
        A folder cannot be read.
    """
    seen: dict[tuple[int, int], Path] = {}
    stack: list[tuple[Path, tuple[str, ...]]] = [(start, ())]
    links: list[tuple[Path, tuple[str, ...]]] = []
    while stack or links:
        if not stack:
            links.sort(reverse=True)
            stack.append(links.pop())
        path, parts = stack.pop()
        first = seen.setdefault(folder_key(path), path)
        if first is not path:
            note(path, f"is the same folder as {first}; it is read once", False)
            continue
        names, entries = _scan(path, note)
        yield Folder(path, parts, tuple(names))
        for entry in reversed(entries):
            into = links if entry.is_symlink() else stack
            into.append((path / entry.name, (*parts, entry.name)))


def folder_key(path: Path) -> tuple[int, int]:
    """What tells a folder from others, whatever name it is given."""
    found = path.stat()
    return found.st_dev, found.st_ino


def _scan(folder: Path, note: Note) -> tuple[list[str], list[os.DirEntry[str]]]:
    """Names of the picture files of a folder, and its folders, sorted."""
    names: list[str] = []
    entries: list[os.DirEntry[str]] = []
    with os.scandir(folder) as found:
        for entry in found:
            name = entry.name
            if name[0] == ".":
                continue
            if entry.is_dir():
                if name.lower() not in JUNK and not _leads_up(entry, note):
                    entries.append(entry)
            elif name[name.rfind(".") :].lower() in SUFFIXES:
                names.append(name)
            elif entry.is_symlink() and not (link := Path(entry.path)).exists():
                note(link, f"is a link to {link.readlink()}, which is not there; remove it", True)
    return sorted(names), sorted(entries, key=lambda entry: entry.name)


def _leads_up(entry: os.DirEntry[str], note: Note) -> bool:
    """Whether a folder is a link to one that it is in itself."""
    if not entry.is_symlink():
        return False
    link = Path(entry.path)
    target = link.resolve()
    # The way here may lead through links itself.
    above = (link.parent.absolute(), *link.parent.absolute().parents)
    if not any(folder.resolve().is_relative_to(target) for folder in above):
        return False
    note(link, f"is a link to {target}, which it is in itself; it is not followed", False)
    return True


def find_frames(paths: Iterable[Path | str]) -> list[Path]:
    """List the frame files among `paths`: files as given, folders searched recursively.

    Links to folders are followed, see `walk_folders`; what is skipped is a `SkippedWarning`.

    Returns
    -------
    list of Path
        In the order of `paths`; within a folder in natural order (``S2_9`` before ``S2_10``).

    Raises
    ------
    FrameError
        A path does not exist, or a folder holds no frame.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(_frames_in(path), key=lambda p: natural_key(os.path.relpath(p, path)))
            if not inside:
                raise FrameError(path, f"holds no frames ({', '.join(SUFFIXES)})")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise FrameError(path, "no such file or folder")
    return found


def _frames_in(folder: Path) -> Iterator[Path]:
    for inside in walk_folders(folder, warn_skipped):
        for name in inside.names:
            path = inside.path / name
            if path.is_file():
                yield path
            elif path.is_symlink():
                why = f"is a link to {path.readlink()}, which is not there; remove it"
                warn_skipped(path, why, True)


def group_by_folder(paths: Sequence[Path]) -> list[list[Path]]:
    """Group frame files by the folder that they are in, folders in order of first appearance."""
    groups: dict[Path, list[Path]] = {}
    for path in paths:
        groups.setdefault(path.parent, []).append(path)
    return list(groups.values())
