"""``dataset.json``: what a set is, which files it has, and whether it is the one that is wanted."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from synth.disk.files import sha256
from synth.disk.names import parts_inside
from synth.errors import DatasetError, StoreError

DESCRIPTION = "dataset.json"
MANIFEST = "manifest.jsonl"
NOISE = "noise.npz"
IMAGES = "images"
MASKS = "masks"
SHARDS = "shards"
CARD = "README.md"

SHARD_NAME = re.compile(r"(train|val|test)-[0-9]{6,12}")
"""What shards are called, without suffix: the split and a number."""


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
    """Refuse a set that lacks files by now, with a `StoreError`; none is read, see `verify`."""
    gone = [name for name in description.get("files", {}) if not (out / name).is_file()]
    outputs = description.get("counts", {}).get("outputs", 0)
    for name, count in description.get("folders", {IMAGES: outputs, MASKS: outputs}).items():
        folder = out / name
        if count and not (folder.is_dir() and len(os.listdir(folder)) >= count):  # noqa: PTH208
            gone.append(name)
    if gone:
        raise StoreError(
            out, f"is not whole: some of {gone[0]} is gone; remove the set to build it again"
        )


def require_usable(out: Path) -> bool:
    """Whether a built set is there, as far as a glance tells; `StoreError` for anything else."""
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
        found = dict(json.loads(data))
        body = {key: value for key, value in found.items() if key != "sha256"}
        intact = describe(body) == data and _has_types(body)
    except (ValueError, AttributeError, TypeError, RecursionError):
        intact = False
    if not intact:
        raise StoreError(path, "was changed after the build; build the set again")
    for name in (*found.get("files", {}), *found.get("folders", {})):
        try:
            parts_inside(name)
        except ValueError as error:
            raise StoreError(path, f"names {name!r:.80}, {error}; build the set again") from None
    return found


def _has_types(found: Mapping[str, Any]) -> bool:
    """Whether what is counted on has the types that a build gives it; or an `AttributeError`."""
    noises = found.get("noise"), (found.get("configuration") or {}).get("noise")
    kinds = {"files": str, "shards": int, "folders": int, "counts": int}
    return all(isinstance(noise, dict | None) for noise in noises) and all(
        isinstance(value, kind)
        for key, kind in kinds.items()
        for value in found.get(key, {}).values()
    )


def split_lists(name: str, lists: Mapping[str, Iterable[str]]) -> dict[str, bytes]:
    """The split lists of a set of that name, in both layouts that detectors read."""
    files = {}
    for split, ids in lists.items():
        text = "".join(f"{id_}\n" for id_ in ids).encode()
        files[f"50_50/{split}.txt"] = text
        files[f"img_idx/{split}_{name}.txt"] = text
    return files


def _difference_of_builds(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str | None:
    """What tells two builds apart; where their sources lie and what they run on does not."""
    keys = "format", "name", "configuration"
    for difference in (_difference(found.get(key), wanted.get(key), key) for key in keys):
        if difference:
            return difference
    source = found.get("source")
    if not isinstance(source, dict) or source.get("fingerprint") != wanted["source"]["fingerprint"]:
        return "the source's images, masks or splits are not the same"
    return None if found.get("noise") == wanted["noise"] else "the noise bank is not the same"


def _difference(found: Any, wanted: Any, key: str) -> str | None:
    """The first difference between two plain values, as words."""
    pairs: list[tuple[Any, Any, str]] | None = None
    if isinstance(found, dict) and isinstance(wanted, dict):
        names = sorted(found.keys() | wanted.keys())
        pairs = [(found.get(name), wanted.get(name), f"{key}.{name}") for name in names]
    elif isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        pairs = [(*pair, key) for pair in zip(found, wanted, strict=True)]
        # Of steps a name says more than a number.
        pairs = pairs if all(isinstance(one, dict) for one in (*found, *wanted)) else None
    if pairs is not None:
        return next(filter(None, (_difference(*pair) for pair in pairs)), None)
    key = key.removeprefix("configuration.")
    return None if found == wanted else f"{key} is {found!r} there and {wanted!r} here"


def is_sharded(root: Path) -> bool:
    """Whether a folder is a set in shards."""
    return (root / SHARDS).is_dir() and (root / DESCRIPTION).is_file()


def manifest_files(root: Path) -> list[Path]:
    """The manifest of every shard of a set, in order; `DatasetError` where none are named."""
    path = root / DESCRIPTION
    try:
        names = json.loads(path.read_bytes())["shards"]
        if not isinstance(names, dict):
            raise TypeError("not by name")
        odd = [name for name in names if not SHARD_NAME.fullmatch(name)]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise DatasetError(path, "does not name the shards; build the set again") from None
    if odd:
        raise DatasetError(path, f"names a shard {odd[0]!r:.80}; that is not one of a build")
    return [root / SHARDS / f"{name}.jsonl" for name in names]
