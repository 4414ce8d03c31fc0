"""The outline of a target as one polygon that gives back its very pixels.

Targets of one to ten pixels leave no room for a polygon that is nearly right. The YOLO family draws
outlines with ``cv2.fillPoly``, which fills up to and including the pixels of the corners; some
programs cut corners to whole numbers before, others round them. So every corner of this polygon is
in the upper left quarter of a pixel of the target, around its index + 1/4, where both give the
pixel. Within that quarter corners keep to the pixel's sides, so that the polygon and its bounding
box have an area: the box is the target's but for 0.05 pixels at the left and top and 0.55 at the
right and bottom.

Where pixels touch only by their corners, the polygon goes straight from the one to the other and
comes back the same way; to a hole it goes along the column above it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from synth.frames import Mask

MIDDLE = 0.25
"""Where in a pixel, from its left and top, the corners of the polygon are on average, in pixels."""

REACH = 0.2
"""How far from there they keep to the sides that they follow, in pixels; less than `MIDDLE`."""

# A side of a pixel (row, column, side) that is the mask's border. Sides are named by the direction
# in which one walks them with the mask to the right: 0 the top, eastward; 1 the right, southward; 2
# the bottom, westward; 3 the left, northward.
_Side = tuple[int, int, int]
_STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0))
# The corner of a pixel at the end of each side: (row, column) from its own.
_ENDS = ((0, 1), (1, 1), (1, 0), (0, 0))
# A point (x, y), or a walk to take before going on.
_Step: TypeAlias = "tuple[float, float] | Iterator[_Step]"


def outline(component: Mask) -> NDArray[np.float64]:
    """Walk round an 8-connected component, its holes included.

    Parameters
    ----------
    component : (H, W) ndarray of bool
        One component; nothing else is in the array.

    Returns
    -------
    (N, 2) ndarray of float64
        Points (x, y) in pixels; pixel (row, col) spans [col, col + 1] by [row, row + 1].

    Examples
    --------
    >>> import numpy as np
    >>> outline(np.ones((1, 1), bool)).round(2).tolist()
    [[0.45, 0.05], [0.45, 0.45], [0.05, 0.45], [0.05, 0.05]]
    """
    padded = np.pad(component, 1)
    # Counting starts with the padding.
    return np.array([(x - 1, y - 1) for x, y in _walk(padded)])


def fill(polygon: NDArray[np.floating], shape: tuple[int, int]) -> Mask:
    """Draw a polygon as the YOLO family does: its points cut to whole pixels, the border included.

    Parameters
    ----------
    polygon : (N, 2) ndarray
        Points (x, y) in pixels. Those on the image's right and bottom edges count as inside.
    shape : tuple of int
        (H, W) of the mask.
    """
    drawn = np.zeros(shape, np.uint8)
    size = np.array((shape[1], shape[0]))
    points = np.floor(polygon)
    points = np.where((points == size) & (polygon <= size + 0.01), size - 1, points)
    cv2.fillPoly(drawn, [points.astype(np.int32)], 1)
    return drawn.view(np.bool_)


def _walk(padded: Mask) -> Iterator[tuple[float, float]]:
    loops = _loops(padded)
    # A hole hangs on the first border above its highest side: the outside, or a higher hole's.
    hanging: dict[_Side, tuple[_Side, list[_Side]]] = {}
    for loop in loops[1:]:
        place = min((at for at in range(len(loop)) if loop[at][2] == 2), key=loop.__getitem__)
        row, col, _ = highest = loop[place]
        while padded[row - 1, col]:
            row -= 1
        hanging[row, col, 0] = highest, loop[place:] + loop[:place]

    def round_loop(loop: list[_Side]) -> Iterator[_Step]:
        for here, following in zip(loop, [*loop[1:], loop[0]], strict=True):
            if here in hanging:
                above = here[1] + MIDDLE, here[0] + MIDDLE - REACH
                yield above
                yield round_hole(*hanging[here])
                yield above
            yield from _turn(padded, here, following)

    def round_hole(highest: _Side, loop: list[_Side]) -> Iterator[_Step]:
        below = highest[1] + MIDDLE, highest[0] + MIDDLE + REACH
        yield below
        yield from round_loop(loop)
        yield below

    # Holes can hang on holes to any depth, so walks wait on a list and not on each other.
    walks = [round_loop(loops[0])]
    while walks:
        step = next(walks[-1], None)
        if step is None:
            walks.pop()
        elif isinstance(step, tuple):
            yield step
        else:
            walks.append(step)


def _loops(padded: Mask) -> list[list[_Side]]:
    """The closed walks along all borders, the outer one first."""
    sides: dict[_Side, None] = {}
    for row, col in np.argwhere(padded).tolist():
        for side, (down, right) in enumerate(((-1, 0), (0, 1), (1, 0), (0, -1))):
            if not padded[row + down, col + right]:
                sides[row, col, side] = None
    loops = []
    while sides:
        here = next(iter(sides))
        loop = []
        while here in sides:
            del sides[here]
            loop.append(here)
            here = _following(padded, here)
        loops.append(loop)
    return loops


def _following(padded: Mask, here: _Side) -> _Side:
    """The next side of a walk that turns left where it can, so that corners connect."""
    row, col, side = here
    ahead = row + _STEPS[side][0], col + _STEPS[side][1]
    left = ahead[0] + _STEPS[side - 1][0], ahead[1] + _STEPS[side - 1][1]
    if padded[left]:
        return *left, (side - 1) % 4
    if padded[ahead]:
        return *ahead, side
    return row, col, (side + 1) % 4


def _turn(padded: Mask, here: _Side, following: _Side) -> Iterator[tuple[float, float]]:
    """The points at the corner between two sides: none, one, or the two ends of a bridge."""
    row, col, side = here
    if following[2] == side:
        return
    corner = row + _ENDS[side][0], col + _ENDS[side][1]
    ahead = row + _STEPS[side][0], col + _STEPS[side][1]
    if following[:2] == (row, col):
        pixels = [(row, col)]
    elif padded[ahead]:
        pixels = [ahead]
    else:
        pixels = [(row, col), following[:2]]
    for down, right in pixels:
        # Towards the corner that is turned at, which is 0 or 1 from the pixel's own.
        yield (
            right + MIDDLE + REACH * (2 * (corner[1] - right) - 1),
            down + MIDDLE + REACH * (2 * (corner[0] - down) - 1),
        )
