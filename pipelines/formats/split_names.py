"""What other tools call the splits."""

from __future__ import annotations

import re

FOLDERS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""Names of the folders of a split, ours first."""


def find_split(name: str) -> str | None:
    """The split that a name tells by a whole word in it, in any case; None where it tells none.

    Examples
    --------
    >>> [find_split(name) for name in ("instances_val2017", "Test", "latest", "rec1")]
    ['val', 'test', None, None]
    """
    for split, names in FOLDERS.items():
        pattern = f"(^|[^a-z])({'|'.join(names)})([^a-z]|$)"
        if re.search(pattern, name.lower()):
            return split
    return None


def split_of(name: str) -> str:
    """As `find_split`, with training where a name tells none.

    Examples
    --------
    >>> [split_of(name) for name in ("instances_val2017", "valid", "shard-000001")]
    ['val', 'val', 'train']
    """
    return find_split(name) or "train"
