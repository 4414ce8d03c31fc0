"""What folders, files and lists of a split are called, here and by other tools."""

from __future__ import annotations

import re

SPLITS = ("train", "val", "test")
FOLDERS = {
    "train": ("train", "training", "trainval", "trainset"),
    "val": ("val", "valid", "validation", "valset"),
    "test": ("test", "testing", "testset"),
}
"""Names of the folders of a split, ours first."""


def split_named(name: str) -> str | None:
    """The split that a folder or a list is called after, in any letter case; None for others."""
    return next((split for split, names in FOLDERS.items() if name.lower() in names), None)


def splits_held(name: str) -> tuple[str, ...]:
    """The splits whose images a folder or a list of a name holds: two for ``trainval``."""
    split = split_named(name)
    return ("train", "val") if name.lower() == "trainval" else (split,) if split else ()


def split_told(name: str) -> str | None:
    """The split that a word in a name stands for, None where there is none, or several.

    Examples
    --------
    >>> [split_told(name) for name in ("instances_val2017", "TestImages", "latest")]
    ['val', 'test', None]
    """
    told = splits_told(name)
    return told[0] if len(told) == 1 else None


def splits_told(name: str) -> tuple[str, ...]:
    """Every split that a word in a name tells, as ``train_test_1`` two."""
    words = re.sub("(?<=[a-z])(?=[A-Z])", "_", name).lower()
    return tuple(
        split
        for split, names in FOLDERS.items()
        if re.search(f"(^|[^a-z])({'|'.join(names)})([^a-z]|$)", words)
    )
