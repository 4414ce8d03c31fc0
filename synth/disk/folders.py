"""Folders of files: which files are in them, links followed, what operating systems leave left out.

Names that start with a dot and the folders in `JUNK` hold no data: macOS, Windows and storage
devices put previews and copies of attributes there.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from synth.errors import FrameError, SkippedWarning
from synth.frames import SUFFIXES, natural_key

JUNK = ("__macosx", "@eadir", "$recycle.bin", "system volume information")

Note = Callable[[Path, str, bool], None]
"""Called with a link that is skipped, why, and whether something is missing because of it."""


class Folder(NamedTuple):
    """A folder, the folders that lead to it from where a walk began, and the pictures right in it.

    `names` are sorted.
    """

    path: Path
    parts: tuple[str, ...]
    names: tuple[str, ...]


def child_folders(folder: Path, note: Note = lambda *_: None) -> list[Path]:
    """List the folders right in a folder, sorted by name; see `walk_folders` for links."""
    return _scan(folder, note)[1]


def folders_below(folder: Path, deepest: int, closed: Collection[str] = ()) -> Iterator[Path]:
    """A folder and those below it, so many levels deep, but for those of the `closed` names."""
    yield folder
    for child in child_folders(folder) if deepest else ():
        if child.name.lower() not in closed:
            yield from folders_below(child, deepest - 1, closed)


def walk_folders(start: Path, note: Note = lambda *_: None) -> Iterator[Folder]:
    """Go through a folder and all folders below it; every folder comes once.

    Links to folders are followed, after all real folders, so that a folder that has several names
    comes under its own. A link to a folder that comes anyway, to one that the link itself is in,
    or to nothing is skipped, and `note` is called; `OSError` for a folder that cannot be read.
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
        names, folders = _scan(path, note)
        yield Folder(path, parts, names)
        for folder in reversed(folders):
            (links if folder.is_symlink() else stack).append((folder, (*parts, folder.name)))


def folder_key(path: Path) -> tuple[int, int]:
    """What tells a folder from others, whatever name it is given."""
    found = path.stat()
    return found.st_dev, found.st_ino


def _scan(folder: Path, note: Note) -> tuple[tuple[str, ...], list[Path]]:
    """Names of the picture files of a folder, and its folders, sorted."""
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    names: list[str] = []
    folders: list[Path] = []
    for entry in entries:
        name = entry.name
        if name[0] == "." or name.lower() in JUNK:
            continue
        link = folder / name if entry.is_symlink() else None
        if link and not link.exists():
            note(link, f"is a link to {link.readlink()}, which is not there; remove it", True)
        elif not entry.is_dir():
            if name[name.rfind(".") :].lower() in SUFFIXES:
                names.append(name)
        elif link and _leads_up(link):
            why = f"is a link to {link.resolve()}, which it is in itself; it is not followed"
            note(link, why, False)
        else:
            folders.append(folder / name)
    return tuple(names), folders


def _leads_up(link: Path) -> bool:
    """Whether a link leads to a folder that it is in itself."""
    target, above = link.resolve(), link.parent.absolute()
    # The way here may lead through links itself.
    return any(folder.resolve().is_relative_to(target) for folder in (above, *above.parents))


def find_frames(paths: Iterable[Path | str]) -> list[Path]:
    """List the frame files among `paths`: files as given, folders searched recursively.

    They are in the order of `paths`, within a folder in natural order (``S2_9`` before ``S2_10``).
    Links to folders are followed, see `walk_folders`; what is skipped is a `SkippedWarning`.
    `FrameError` where a path does not exist, or a folder holds no frame.
    """

    def warn(path: Path, why: str, missing: bool) -> None:
        warnings.warn(f"{path}: {why}", SkippedWarning, stacklevel=2)

    found: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise FrameError(path, "no such file or folder")
        if not path.is_dir():
            found.append(path)
            continue
        folders = walk_folders(path, warn)
        inside = [folder.path / name for folder in folders for name in folder.names]
        if not inside:
            raise FrameError(path, f"holds no frames ({', '.join(SUFFIXES)})")
        found += sorted(inside, key=lambda file: natural_key(os.path.relpath(file, path)))
    return found


def group_by_folder(paths: Sequence[Path]) -> list[list[Path]]:
    """Group frame files by the folder that they are in, folders in order of first appearance."""
    groups: dict[Path, list[Path]] = {}
    for path in paths:
        groups.setdefault(path.parent, []).append(path)
    return list(groups.values())
