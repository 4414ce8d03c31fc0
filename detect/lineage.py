"""What each image of a built set was made from, as its manifest says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from synth.dataset import Dataset
from synth.disk.manifest import Line, read_lines
from synth.errors import StoreError


@dataclass(frozen=True)
class Turn:
    """The box that tells a negative from its source; see `synth.steps.turn`.

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
    StoreError
        The manifest cannot be read.
    """
    return {
        entry.id: _origin(entry, path) for path in dataset.manifests() for entry in read_lines(path)
    }


def _origin(entry: Line, path: Path) -> Origin:
    turn, put = entry.choice("turn"), entry.choice("transplant")
    try:
        found = turn and Turn(
            int(turn["target"]), int(turn["side"]), int(turn["quarter_turns"]), turn["mirror"]
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        raise StoreError(
            path, f"has a line of {entry.id!r:.80} that no build writes; build the set again"
        ) from None
    host = None if put is None else put.get("host")
    return Origin(entry.source, entry.made, found or None, None if host is None else str(host))
