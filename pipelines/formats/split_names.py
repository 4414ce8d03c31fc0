"""What other tools call the splits."""

from __future__ import annotations

import re

FOLDERS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""Names of the folders of a split, ours first."""


def split_of(name: str) -> str:
    """The split that a file's name tells, as ``instances_val2017``; training where it tells none.

    Examples
    --------
    >>> [split_of(name) for name in ("instances_val2017", "valid", "shard-000001")]
    ['val', 'val', 'train']
    """
    for split, names in FOLDERS.items():
        pattern = f"(^|[^a-z])({'|'.join(names)})([^a-z]|$)"
        if re.search(pattern, name.lower()):
            return split
    return "train"
