"""Borders that a filter has darkened: beyond the image it saw zeros.

A blur of an image whose surroundings count as 0 DN leaves half of the brightness, or more, in the
outermost row and column. All images of a set that were made so have it on the same sides, and a
detector that has never seen one takes the step for targets, or the targets there for the step.
"""

from __future__ import annotations

import numpy as np

from synth.frames import Frame

SIDES = ("top", "right", "bottom", "left")

# The outermost row is compared with the one so far inside.
_INSIDE = 5
# A share of what is nearly black, in DN, means nothing.
_LEAST, _FEWEST_PIXELS = 20, 10
# A filter darkens all of a row alike; what a scene does is not the same along it.
_SHARES, _SPREAD = (0.35, 0.8), 0.15


def border_shares(frame: Frame) -> tuple[float | None, ...]:
    """Share of brightness that a filter has left in the outermost row or column of each side.

    In the order of `SIDES`: the median over the side, None where it was not darkened.
    """
    found: list[float | None] = [None] * len(SIDES)
    if min(frame.shape) <= 2 * _INSIDE:
        return tuple(found)
    for quarter in range(len(SIDES)):
        outer, inner = np.rot90(frame, quarter)[[0, _INSIDE]]
        bright = inner > _LEAST
        if np.count_nonzero(bright) >= _FEWEST_PIXELS:
            shares = np.percentile(outer[bright] / inner[bright], (25, 50, 75)).tolist()
            if _SHARES[0] <= shares[1] <= _SHARES[1] and shares[2] - shares[0] <= _SPREAD:
                found[quarter] = shares[1]
    return tuple(found)
