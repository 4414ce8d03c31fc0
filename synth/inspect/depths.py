"""Depths: do the frames of a set have one range of DN, or were two kinds of files mixed?

Frames of one camera differ by scene, and their ranges of DN run into each other. Files of another
depth, or frames that a program scaled, stand apart from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synth.frames import Frame

# Ranges that stand apart: a frame that 8 bits hold beside one that needs more than 10, one that 12
# bits hold beside one that needs more than 14.
_APART = ((255, 1023), (4095, 16383))

# A program that stretches frames to 16 bits uses the whole range, beside frames of up to 14 bits.
_WHOLE, _FOURTEEN = (0, 65535), 16383

# Scenes of one camera fill what is between; of frames of two depths, at most so many are there for
# one of the smaller group.
_BETWEEN = 0.1

# Pixels above a frame's top, which may be defects of the sensor or marks of a program.
_ABOVE = 0.001

# All DN are multiples of so many, or of more, where a program scaled a frame; tested on so many
# different DN, of so many pixels.
_COARSE, _FEWEST_VALUES, _PIXELS = 4, 16, 4096


@dataclass(frozen=True, slots=True)
class Levels:
    """The DN of a frame.

    Attributes
    ----------
    bits : int
        8 or 16, of the frame's type.
    low, high : int
        Lowest and highest value, DN.
    top : int
        The value that a thousandth of the pixels is above, DN.
    step : int
        Greatest common divisor of the differences of its values, DN; 0 where they are too few.
    """

    bits: int
    low: int
    high: int
    top: int
    step: int


@dataclass(frozen=True, slots=True)
class DepthGroup:
    """Frames of one depth: their places in the sequence, bits of the type, range and step in DN."""

    members: tuple[int, ...]
    bits: int
    low: int
    high: int
    step: int


def measure_levels(image: Frame) -> Levels:
    """Measure the levels of a frame.

    Parameters
    ----------
    image : (H, W) ndarray of uint8 or uint16

    Examples
    --------
    >>> import numpy as np
    >>> measure_levels(16 * np.arange(2000, dtype=np.uint16).reshape(40, 50))
    Levels(bits=16, low=0, high=31984, top=31952, step=16)
    """
    low, high = int(image.min()), int(image.max())
    if image.dtype == np.uint8:
        return Levels(8, low, high, high, 1)
    values = image.reshape(-1)
    at = values.size - 1 - int(_ABOVE * values.size)
    top = int(np.partition(values, at)[at])
    found = np.unique(values[:: max(1, values.size // _PIXELS)])
    step = int(np.gcd.reduce(np.diff(found))) if found.size >= _FEWEST_VALUES else 0
    return Levels(16, low, high, top, step)


def group_by_depth(frames: Sequence[Levels]) -> list[DepthGroup]:
    """Part the frames of a set by their depths.

    Types part them, and within 16-bit files ranges that stand apart, or steps: frames whose values
    are all multiples of 4 DN or more beside frames whose values are not, or frames stretched to all
    of 16 bits beside frames of up to 14.

    Parameters
    ----------
    frames : sequence of Levels
        Frames of one value have no range, and are left out.

    Returns
    -------
    list of DepthGroup
        One group for a sound set, none for an empty one; the smallest group first.

    Examples
    --------
    >>> deep = Levels(16, 6000, 12000, 11000, 1)
    >>> scaled = Levels(16, 0, 65535, 65535, 257)
    >>> [group.members for group in group_by_depth([deep, scaled, deep])]
    [(1,), (0, 2)]
    """
    varied = [at for at, levels in enumerate(frames) if levels.low < levels.high]
    shallow = [at for at in varied if frames[at].bits == 8]
    deep = [at for at in varied if frames[at].bits == 16]
    parts = [part for part in (shallow, *_part_deep(frames, deep)) if part]
    groups = [_describe([frames[at] for at in part], part) for part in parts]
    return sorted(groups, key=lambda group: len(group.members))


def _part_deep(frames: Sequence[Levels], deep: list[int]) -> list[list[int]]:
    for below, above in _APART:
        small = [at for at in deep if frames[at].high <= below]
        large = [at for at in deep if frames[at].top > above]
        between = len(deep) - len(small) - len(large)
        if small and large and between <= _BETWEEN * min(len(small), len(large)):
            return [small, [at for at in deep if frames[at].high > below]]
    whole = [
        at
        for at in deep
        if (frames[at].low, frames[at].high) == _WHOLE and frames[at].top > _FOURTEEN
    ]
    rest = [at for at in deep if frames[at].high <= _FOURTEEN]
    if whole and rest and len(whole) + len(rest) == len(deep):
        return [whole, rest]
    coarse = [at for at in deep if frames[at].step >= _COARSE]
    fine = [at for at in deep if 0 < frames[at].step < _COARSE]
    if coarse and fine:
        return [coarse, [at for at in deep if frames[at].step < _COARSE]]
    return [deep]


def _describe(levels: Sequence[Levels], members: Sequence[int]) -> DepthGroup:
    return DepthGroup(
        tuple(members),
        levels[0].bits,
        min(own.low for own in levels),
        max(own.high for own in levels),
        int(np.gcd.reduce([own.step for own in levels])),
    )
