"""The annotations of an image, drawn into one mask and counted.

No annotation is lost without a line about it: where the targets of the mask are not as many as the
annotations, the counts here say why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping
from typing import Any

import numpy as np

from pipelines.formats.shapes import Piece
from synth.frames import Mask
from synth.targets import label_targets

_WORDS = {
    "joined": "fewer targets: annotations that touch are one target",
    "apart": "more targets: annotations in several pieces are as many targets",
    "clipped": "annotations cut off at the edge of their image",
    "points": "point annotations, each one pixel: they say where a target is, not how large",
    "crowds": "annotations of crowds (iscrowd), drawn as targets",
    "void_pixels": "void pixels (255) of the masks, read as background",
    "unlabelled": "images without an annotation file, read as free of targets",
    "from_boxes": "images without a mask, read from the boxes of their XML file, which count "
    "pixels from 1, ends included",
    "from_edges": "images without a mask, read from the boxes of their XML file as edges counted "
    "from 0, since some hold 0 or fractions",
    "outside_mask": "boxes of XML files without a target in the mask, not in the set",
    "embedded": "images read from the annotation file, as there is no image file",
    "unlisted": "images that no list names, left out",
    "other_lists": "JSON files of other kinds, not read",
}
# Classes that are printed.
_LISTED = 20

Class = tuple[str, int | None]
"""Name of a class, and its number where the format has both."""


class Drawing:
    """The annotations of one image.

    Parameters
    ----------
    shape : tuple of int
        (H, W) of the image.

    Attributes
    ----------
    mask : (H, W) ndarray of bool
        All of them together.
    classes : Counter of str
        Annotations by the name of their class.
    notes : Counter of str
        What happened to them, by the keys of `_WORDS`.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self.mask: Mask = np.zeros(shape, np.bool_)
        self.classes: Counter[str] = Counter()
        self.notes: Counter[str] = Counter()
        self._pieces: list[tuple[Piece, Class, tuple[str, ...]]] = []

    def add(self, piece: Piece, class_: str, *notes: str, number: int | None = None) -> None:
        """Draw an annotation; `notes` are keys of `_WORDS` that hold for it."""
        self.mask[piece.window] |= piece.pixels
        self.classes[class_] += 1
        self.notes["clipped"] += piece.clipped
        self.notes.update(notes)
        self._pieces.append((piece, (class_, number), notes))

    def kinds(self) -> set[Class]:
        """The classes of the annotations.

        Raises
        ------
        ValueError
            The pixels do not tell which annotation is of which class.
        """
        kinds = {kind for _, kind, _ in self._pieces}
        if {name for name, _ in kinds} != set(self.classes) and kinds:
            raise ValueError(
                "has a mask, and an XML file whose names of classes are not tied to its pixels; "
                "move the masks or the Annotations out of the set"
            )
        return kinds

    def choose(self, kinds: Container[Class]) -> tuple[Drawing, dict[str, int]]:
        """The annotations of some classes, and how many of the others there are by class."""
        height, width = self.mask.shape
        chosen = Drawing((height, width))
        # What is said of the whole image stays.
        chosen.notes = self.notes.copy()
        for piece, _, notes in self._pieces:
            chosen.notes.subtract([*notes, *["clipped"] * piece.clipped])
        left_out: Counter[str] = Counter()
        for piece, kind, notes in self._pieces:
            if kind in kinds:
                chosen.add(piece, kind[0], *notes, number=kind[1])
            else:
                left_out[kind[0]] += 1
        return chosen, dict(sorted(left_out.items()))

    def facts(self) -> dict[str, Any]:
        """What the manifest holds about them: plain data."""
        notes = self.notes.copy()
        _, labels = label_targets(self.mask)
        holders: Counter[int] = Counter()
        for piece, _, _ in self._pieces:
            own = np.unique(labels[piece.window][piece.pixels]).tolist()
            holders.update(own)
            notes["apart"] += len(own) - 1
        notes["joined"] += sum(count - 1 for count in holders.values())
        return {
            "annotations": len(self._pieces),
            "classes": dict(sorted(self.classes.items())),
            "notes": {key: count for key, count in sorted(notes.items()) if count},
        }


def describe_notes(
    notes: Mapping[str, int], classes: Mapping[str, int], left_out: Mapping[str, int]
) -> list[str]:
    """The notes of a set in words, a line each."""
    lines = []
    if len(classes) > 1:
        advice = "" if left_out else " (`synth import --class` takes some of them)"
        lines.append(f"classes merged into target: {describe_classes(classes)}{advice}")
    if left_out:
        lines.append(f"left out by --class: {describe_classes(left_out)}")
    order = list(_WORDS)
    counted = sorted((key for key in notes if notes[key]), key=order.index)
    return lines + [f"{notes[key]:,} {_WORDS[key]}" for key in counted]


def describe_classes(classes: Mapping[str, int]) -> str:
    """Names of classes and how many annotations each has."""
    names = [f"{_printable(name)} {count:,}" for name, count in sorted(classes.items())]
    if len(names) > _LISTED:
        names[_LISTED:] = [f"and {len(names) - _LISTED:,} more"]
    return ", ".join(names)


def _printable(name: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in f"{name:.40}")
