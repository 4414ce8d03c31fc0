"""Frames that are nearly equal: candidates by a perceptual hash, certainty by correlation.

The difference hash (N. Krawetz, "Kind of like that", 2013) has a bit for whether a frame grows
brighter from one of 16 x 16 cells to the next. It is small, and all pairs of it are compared in no
time; but smooth frames can have the same signs by chance. So what it finds alike is held against
each other by the scenes' structure, see `splits.scene_signature`; that alone would take two skies
over the same horizon for one, which the hash does not.
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
# Rows of hashes, and pairs of signatures, that are held against others at a time.
_ROWS, _PAIRS = 1024, 4096


def difference_hash(frame: Frame) -> NDArray[np.bool_]:
    """Tell where a frame grows brighter from a cell to the next one on the right.

    Parameters
    ----------
    frame : (H, W) ndarray of uint8 or uint16

    Returns
    -------
    (256,) ndarray of bool
    """
    cells = cv2.resize(frame.astype(np.float32), (_CELLS + 1, _CELLS), interpolation=cv2.INTER_AREA)
    return (np.diff(cells, axis=1) > 0).ravel()


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
    least = signs.shape[1] - 2 * _BITS_APART
    for start in range(0, len(signs), _ROWS):
        rows, cols = np.nonzero(signs[start : start + _ROWS] @ signs[start:].T >= least)
        later = rows < cols
        rows, cols = rows[later] + start, cols[later] + start
        for at in range(0, len(rows), _PAIRS):
            firsts, seconds = rows[at : at + _PAIRS], cols[at : at + _PAIRS]
            likeness = np.einsum("ij,ij->i", table[firsts], table[seconds], dtype=np.float64)
            for place in np.flatnonzero(likeness >= NEARLY).tolist():
                yield int(firsts[place]), int(seconds[place]), float(likeness[place])
