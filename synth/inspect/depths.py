"""Depths: do the frames of a set have one range of DN, or were two kinds of files mixed?

Frames of one camera differ by scene, and their ranges of DN run into each other. Files of another
depth, or frames that a program scaled, stand apart from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from synth.frames import Frame

# Ranges that stand apart: a frame that 8 bits hold beside one that needs more than 10, one that 12
# bits hold beside one that needs more than 14.
_APART = ((255, 1023), (4095, 16383))

# A program that stretches frames to 16 bits uses the whole range, beside frames of up to 14 bits.
_WHOLE, _FOURTEEN = 65535, 16383

# All DN are multiples of so many, or of more, where a program scaled a frame; tested on so many
# different DN, of so many pixels.
_COARSE, _FEWEST_VALUES, _PIXELS = 4, 16, 4096


class Levels(NamedTuple):
    """The DN of a frame: bits of its type, lowest and highest value, top and step.

    A thousandth of the pixels is above the top: defects, or marks of a program. The step is the
    greatest common divisor of the differences of the values; 0 where they are too few.
    """

    bits: int
    low: int
    high: int
    top: int
    step: int


def measure_levels(image: Frame) -> Levels:
    """Measure the levels of a frame."""
    low, high = int(image.min()), int(image.max())
    if image.dtype == np.uint8:
        return Levels(8, low, high, high, 1)
    values = image.reshape(-1)
    at = values.size - 1 - int(0.001 * values.size)
    found = np.unique(values[:: max(1, values.size // _PIXELS)])
    step = int(np.gcd.reduce(np.diff(found))) if found.size >= _FEWEST_VALUES else 0
    return Levels(16, low, high, int(np.partition(values, at)[at]), step)


def group_by_depth(frames: Sequence[Levels]) -> list[tuple[list[int], Levels]]:
    """Part the frames of a set by their depths: one group for a sound set, none for an empty one.

    Types part them, and within 16-bit files ranges that stand apart, or steps: frames whose values
    are all multiples of 4 DN or more beside frames whose values are not, or frames stretched to all
    of 16 bits beside frames of up to 14. Frames of one value have no range, and are left out.
    Returns the places of each group's frames, and what their levels come to, the smallest first.

    Examples
    --------
    >>> deep = Levels(16, 6000, 12000, 11000, 1)
    >>> scaled = Levels(16, 0, 65535, 65535, 257)
    >>> [members for members, _ in group_by_depth([deep, scaled, deep])]
    [[1], [0, 2]]
    """
    table = np.array(frames, np.int64).reshape(-1, len(Levels._fields))
    varied = table[:, 1] < table[:, 2]
    deep = varied & (table[:, 0] == 16)
    odd = np.zeros(len(table), bool)
    odd[deep] = _find_odd(table[deep])
    groups = []
    for own in (varied & ~deep, odd, deep & ~odd):
        if own.any():
            bits, low, high, top, step = table[own].T
            levels = (bits[0], low.min(), high.max(), top.max(), np.gcd.reduce(step))
            groups.append((np.flatnonzero(own).tolist(), Levels(*map(int, levels))))
    return sorted(groups, key=lambda group: len(group[0]))


def _find_odd(table: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of some 16-bit frames are of another depth than the rest; none where all are alike."""
    _, low, high, top, step = table.T
    for below, above in _APART:
        small, large = high <= below, top > above
        # Scenes of one camera fill what is between.
        few = min(small.sum(), large.sum())
        if few and len(table) - small.sum() - large.sum() <= 0.1 * few:
            return small
    whole = (low == 0) & (high == _WHOLE) & (top > _FOURTEEN)
    if whole.any() and not whole.all() and (high[~whole] <= _FOURTEEN).all():
        return whole
    coarse = step >= _COARSE
    return coarse & ((step > 0) & ~coarse).any()
