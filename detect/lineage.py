"""What each image of a built set was made from, as its manifest says."""

from __future__ import annotations

from dataclasses import dataclass

from synth.dataset import Dataset
from synth.disk.manifest import Line, read_as


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
    return {id_: found for path in dataset.manifests() for id_, found in read_as(path, _origin)}


def _origin(line: Line) -> tuple[str, Origin]:
    choice, put = line.choice("turn"), line.choice("transplant")
    turn = None
    if choice is not None:
        target, side, turns = (int(choice[key]) for key in ("target", "side", "quarter_turns"))
        turn = Turn(target, side, turns, choice["mirror"])
    host = None if put is None else put.get("host")
    return line.id, Origin(line.source, line.made, turn, None if host is None else str(host))
