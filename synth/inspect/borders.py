"""Borders that a filter has darkened: beyond the image it saw zeros.

A blur of an image whose surroundings count as 0 DN leaves half of the brightness, or more, in the
outermost row and column. All images of a set that were made so have it on the same sides, and a
detector that has never seen one takes the step for targets, or the targets there for the step.
"""

from __future__ import annotations

import numpy as np

from synth.frames import Frame

SIDES = ("top", "right", "bottom", "left")

# The outermost row is held against the one so far inside.
_INSIDE = 5
# What is nearly black is no measure of a share, DN.
_LEAST = 20
# A filter darkens all of a row alike; what a scene does is not the same along it.
_SHARES, _SPREAD = (0.35, 0.8), 0.15
_FEWEST_PIXELS = 10


def border_shares(frame: Frame) -> tuple[float | None, ...]:
    """Share of brightness that a filter has left in the outermost row or column of each side.

    Parameters
    ----------
    frame : (H, W) ndarray of uint8 or uint16

    Returns
    -------
    tuple of float or None
        In the order of `SIDES`: the median over the side, None where it was not darkened.

    Examples
    --------
    >>> import numpy as np
    >>> frame = np.full((32, 32), 100, np.uint8)
    >>> frame[0] = 50
    >>> border_shares(frame)
    (0.5, None, None, None)
    """
    if min(frame.shape) <= 2 * _INSIDE:
        return (None,) * len(SIDES)
    pairs = (
        (frame[0], frame[_INSIDE]),
        (frame[:, -1], frame[:, -1 - _INSIDE]),
        (frame[-1], frame[-1 - _INSIDE]),
        (frame[:, 0], frame[:, _INSIDE]),
    )
    return tuple(_share(outer, inner) for outer, inner in pairs)


def _share(outer: Frame, inner: Frame) -> float | None:
    bright = inner > _LEAST
    if np.count_nonzero(bright) < _FEWEST_PIXELS:
        return None
    low, middle, high = np.percentile(outer[bright] / inner[bright], (25, 50, 75)).tolist()
    least, most = _SHARES
    return middle if least <= middle <= most and high - low <= _SPREAD else None
