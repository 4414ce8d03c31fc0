"""Frames that are nearly equal: candidates by a perceptual hash, certainty by correlation.

The difference hash (N. Krawetz, "Kind of like that", 2013) has a bit for whether a frame grows
brighter from one of 16 x 16 cells to the next. All pairs are compared by it in no time; but smooth
frames can have the same signs by chance. So the scenes' structure, see `splits.scene_signature`, is
compared too; that alone would take two skies over the same horizon for one, which the hash does
not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from synth.frames import Frame

NEARLY = 0.95
"""Correlation of two signatures from which on their frames are nearly equal. Of NUDT-SIRST, which
reuses backgrounds, 77 pairs of images come to it, of NUAA-SIRST, of single frames, none."""

_CELLS = 16
# Of 256 bits. Of the 77 pairs above 76 differ in at most 25; the other, in 136, shows two skies.
_BITS_APART = 64
# Rows, and pairs of them, that are compared at a time.
_ROWS, _PAIRS = 1024, 4096


def difference_hash(frame: Frame) -> NDArray[np.bool_]:
    """Tell where a frame grows brighter from a cell to the next: (256,) ndarray of bool."""
    cells = cv2.resize(frame.astype(np.float32), (_CELLS + 1, _CELLS), interpolation=cv2.INTER_AREA)
    return (np.diff(cells, axis=1) > 0).ravel()


def pairs_above(
    table: NDArray[np.float32], least: float
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Pairs of rows, the lower one first, whose product is above `least`, some at a time."""
    for start in range(0, len(table), _ROWS):
        rows, cols = np.nonzero(table[start : start + _ROWS] @ table.T > least)
        rows += start
        rows, cols = rows[rows < cols], cols[rows < cols]
        for at in range(0, len(rows), _PAIRS):
            yield rows[at : at + _PAIRS], cols[at : at + _PAIRS]


def nearly_equal(
    hashes: Sequence[NDArray[np.bool_]], signatures: Sequence[NDArray[np.floating]]
) -> Iterator[tuple[int, int, float]]:
    """Find the pairs of frames that are nearly equal.

    Parameters
    ----------
    hashes, signatures : sequences of ndarray
        From `difference_hash` and `splits.scene_signature`, a frame each.

    Yields
    ------
    first, second : int
        Places of a pair, the lower one first.
    likeness : float
        Correlation of their signatures, at least `NEARLY`.
    """
    if not hashes:
        return
    # The product of two rows of ±1 is the number of bits less twice those that differ.
    signs = np.where(np.stack(hashes), np.float32(1), np.float32(-1))
    table = np.stack(signatures)
    for rows, cols in pairs_above(signs, signs.shape[1] - 2 * _BITS_APART - 1):
        likeness = np.einsum("ij,ij->i", table[rows], table[cols], dtype=np.float64)
        near = likeness >= NEARLY
        pairs = (part[near].tolist() for part in (rows, cols, likeness))
        yield from zip(*pairs, strict=True)
