"""What is the same in a source and its negatives must be seen as the same.

A negative differs from its source in a box around a target, which was turned (Lu et al., TGRS
2024). A detector's answer should turn with it. This term asks for that: the probabilities on the
negative, turned back inside the box, against those on the source.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from detect.augment import Views
from detect.errors import TrainingError
from detect.lineage import Origin, Turn
from detect.sampler import Entry
from synth.frames import Mask
from synth.targets import Box, find_targets, target_box

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TurnedBox:
    """A box of a negative that is its source's, turned.

    Attributes
    ----------
    box : tuple of int
        Half-open (top, left, bottom, right), square.
    turn : Turn
    """

    box: Box
    turn: Turn

    def places(self) -> tuple[Floats, Floats]:
        """Match the pixels of the source's box with those of the negative.

        Returns
        -------
        source, negative : (side², 2) ndarray of float
            (row, col) in the image; what lies at one was put at the other.
        """
        top, left, bottom, right = self.box
        rows, cols = np.arange(top, bottom), np.arange(left, right)
        grid = np.stack(np.meshgrid(rows, cols, indexing="ij"), -1)
        mirrored = grid[:, ::-1] if self.turn.mirror else grid
        # The negative has at `grid` what the source has at `turned`.
        turned = np.rot90(mirrored, self.turn.quarter_turns)
        return turned.reshape(-1, 2).astype(float), grid.reshape(-1, 2).astype(float)


def find_turned_boxes(
    ids: Sequence[str], masks: Sequence[Mask], origins: Mapping[str, Origin]
) -> dict[int, TurnedBox]:
    """Find the box of every negative whose source is there too.

    Parameters
    ----------
    ids : sequence of str
    masks : sequence of (H, W) ndarray of bool
    origins : mapping of str to Origin

    Returns
    -------
    dict of int to TurnedBox
        By the negative's index in `ids`.

    Raises
    ------
    TrainingError
        A turn names a target that its source does not have, or a box larger than the image.
    """
    place = {id_: index for index, id_ in enumerate(ids)}
    boxes = {}
    for index, id_ in enumerate(ids):
        origin = origins.get(id_)
        if origin is None or origin.turn is None or origin.source not in place:
            continue
        mask = masks[place[origin.source]]
        targets = find_targets(mask)
        try:
            box = target_box(targets[origin.turn.target], origin.turn.side, mask.shape)
        except (IndexError, ValueError):
            raise TrainingError(
                f"manifest.jsonl: {id_} is {origin.source} with the box of target "
                f"{origin.turn.target} turned, and there is no such box; build the set again"
            ) from None
        boxes[index] = TurnedBox(box, origin.turn)
    return boxes


def consistency(
    logits: Tensor, entries: Sequence[Entry], views: Views, boxes: Mapping[int, TurnedBox]
) -> Tensor:
    """Measure how far the answers on negatives are from those on their sources.

    Parameters
    ----------
    logits : (N, 1, crop, crop) Tensor
        Of a whole batch.
    entries : sequence of Entry
        The batch; a source comes before its negatives.
    views : Views
        Its windows, the same for a source and its negatives.
    boxes : mapping of int to TurnedBox
        `find_turned_boxes`.

    Returns
    -------
    scalar Tensor
        Mean squared difference of the probabilities over all pixels of the boxes that the windows
        hold; 0 where there are none.
    """
    first: dict[int, int] = {}
    for row, entry in enumerate(entries):
        first.setdefault(entry.group, row)
    rows = [
        row
        for row, entry in enumerate(entries)
        if row != first[entry.group] and entry.image in boxes
    ]
    if not rows:
        return logits.sum() * 0.0
    probability = logits.float().sigmoid()
    matrix, centre = views.to_image()
    inverse = np.linalg.inv(matrix)
    places = [boxes[entries[row].image].places() for row in rows]
    answers, inside = [], torch.ones(())
    for side, seen in enumerate(([first[entries[row].group] for row in rows], rows)):
        at = _stack([place[side] for place in places])
        shares = (at - centre[rows, None]) @ inverse[rows].transpose(0, 2, 1)
        # From -1 at the window's first edge to 1 at its last, column before row.
        grid = torch.from_numpy(2 * shares[..., ::-1].astype(np.float32)).to(logits.device)
        taken = F.grid_sample(probability[seen], grid[:, :, None], align_corners=False)
        answers.append(taken[:, 0, :, 0])
        # Half a pixel in from the edges are the centres of the outermost pixels.
        inside = inside.to(grid) * (grid.abs() <= 1 - 0.99 / logits.shape[-1]).all(-1)
    difference = (answers[0] - answers[1]).square() * inside
    return difference.sum() / inside.sum().clamp(min=1)


def _stack(places: Sequence[Floats]) -> Floats:
    """Stack lists of places of several lengths, the shorter ones filled up with far away ones."""
    longest = max(map(len, places))
    stacked = np.full((len(places), longest, 2), 1e9)
    for row, at in enumerate(places):
        stacked[row, : len(at)] = at
    return stacked
