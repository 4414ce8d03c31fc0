"""What each image of a built set was made from, as its manifest says."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detect.errors import TrainingError
from synth.dataset import Dataset


@dataclass(frozen=True)
class Turn:
    """The box that tells a negative from its source; see `synth.negatives.turn_patch`.

    Attributes
    ----------
    target : int
        Index of the source's target in the middle of the box.
    side : int
        Of the box, in pixels.
    quarter_turns : int
        Counter-clockwise.
    mirror : bool
        Whether the box was mirrored left to right before.
    """

    target: int
    side: int
    quarter_turns: int
    mirror: bool


@dataclass(frozen=True)
class Origin:
    """Where an image comes from.

    Attributes
    ----------
    source : str
        Id of the image that it was made from; its own for one that was not made from another.
    made : bool
        Whether anything was done to it; an original was only copied.
    turn : Turn or None
        What was turned, if anything was.
    host : str or None
        Id of another image of the set that it is made from too: a target of `source` was put into
        that one.
    """

    source: str
    made: bool
    turn: Turn | None
    host: str | None = None


def read_origins(dataset: Dataset) -> dict[str, Origin]:
    """Read where the images of a set come from; empty for a set without a manifest.

    Raises
    ------
    TrainingError
        The manifest cannot be read.
    """
    return {id_: origin for path in dataset.manifests() for id_, origin in _read(path)}


def _read(path: Path) -> Iterator[tuple[str, Origin]]:
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            found = str(entry["id"]), _origin(entry)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            raise TrainingError(
                f"{path}: line {number} is not one that a build writes; build the set again"
            ) from None
        yield found


# What a manifest says of every image, also of one that was only copied, or that was read from
# another format.
_PLAIN = {"id", "split", "source", "shape", "areas"} | {
    f"{what}{end}" for what in ("image", "mask") for end in ("", "_sha256", "_at")
}


def is_made(entry: Mapping[str, Any]) -> bool:
    """Whether a line of a manifest is of an image that anything was done to."""
    source = entry.get("source") or entry["id"]
    return str(source) != str(entry["id"]) or bool(entry.keys() - _PLAIN)


def _origin(entry: Mapping[str, Any]) -> Origin:
    source = str(entry.get("source") or entry["id"])
    turn = None
    if "quarter_turns" in entry:
        turn = Turn(
            int(entry["target"]), int(entry["side"]), int(entry["quarter_turns"]), entry["mirror"]
        )
    host = entry.get("host")
    return Origin(source, is_made(entry), turn, None if host is None else str(host))
