"""The manifest: one line of JSON for every output."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synth.disk.description import MANIFEST, is_sharded, manifest_files
from synth.errors import StoreError

_LINES = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


def manifest_line(record: Mapping[str, Any]) -> bytes:
    """One line of the manifest."""
    return _LINES.encode(record).encode() + b"\n"


def read_manifest(out: Path) -> list[dict[str, Any]]:
    """Read the manifest, or those of all shards: a record for every output, in the build's order.

    Raises
    ------
    StoreError
        It is missing, cannot be read, or is no manifest.
    DatasetError
        ``dataset.json`` does not name the shards.
    """
    paths = manifest_files(out) if is_sharded(out) else [out / MANIFEST]
    return [line for path in paths for line in read_lines(path)]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read one manifest; errors as `read_manifest`."""
    try:
        lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    except FileNotFoundError:
        raise StoreError(path, "is missing; give a set that synth build has made") from None
    except (OSError, ValueError, RecursionError):
        raise StoreError(path, "cannot be read; see synth verify") from None
    if not all(isinstance(line, dict) and {"id", "source"} <= line.keys() for line in lines):
        raise StoreError(path, "has lines that are none of a manifest; see synth verify")
    return lines


def files_of(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and SHA-256 of the files of an output: an image and a mask, or what an export made."""
    if "files" in record:
        return list(record["files"].items())
    return [(record[key], record[f"{key}_sha256"]) for key in ("image", "mask")]
