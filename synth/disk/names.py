"""Names of files that a file names: in a manifest, an index, an archive, which anybody may write.

One rule for all readers. A name is safe when it is relative, stays below its folder, and no part
of it is a link.
"""

from __future__ import annotations

import os
from pathlib import Path


def parts_inside(name: object) -> tuple[str, ...]:
    """Split the name of a file below a folder, as it was read, at its ``/``.

    `ValueError` for what is no such name; its message goes on after the name.

    Examples
    --------
    >>> parts_inside("images/7.png")
    ('images', '7.png')
    """
    if not isinstance(name, str) or not name or "\0" in name:
        raise ValueError("which is no file's name")
    parts = name.split("/")
    if name.startswith("/") or ".." in parts:
        raise ValueError("which leads out of the folder")
    return tuple(part for part in parts if part not in ("", "."))


def link_inside(root: Path, parts: tuple[str, ...]) -> Path | None:
    """Find the first link between a folder and a file below it, the file included."""
    path = root
    for part in parts:
        path = path / part
        if os.path.islink(path):  # noqa: PTH114 (a tenth of the time, for every file of a set)
            return path
    return None
