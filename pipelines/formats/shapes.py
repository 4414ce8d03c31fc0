"""Boxes, polygons and discs of annotations as pixels.

Coordinates are pixels (x, y); pixel (row, col) spans [col, col + 1) by [row, row + 1). One rule
holds for every shape:

- a pixel belongs to a shape that holds its centre; left and top edges belong to the shape, right
  and bottom edges do not, so that two shapes that share an edge share no pixel;
- a shape that holds no centre is not lost. Of a box each side spans at least one pixel: the one
  that holds the middle. A polygon under 2 pixels long becomes the pixel at its middle; a longer one
  is a line thinner than a pixel, and becomes the pixels along its spine. So does a polygon thinner
  than a pixel that holds centres in several pieces, or thinner than half a pixel and more than 2
  pixels longer than the part of it that holds centres;
- what reaches outside the image is cut off; a shape that is outside, has no extent, or has numbers
  that are not finite, is a `ValueError`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from synth.frames import Mask

Points = NDArray[np.float64]

SLACK = 1e-6
"""How far, in pixels, an edge may be off by rounding without another pixel counting as held."""

# Below this length in pixels a polygon without a pixel's centre is a spot, not a line.
_SPOT = 2
# Edges times rows that are compared at once.
_MOST_AT_ONCE = 10_000_000


class Piece(NamedTuple):
    """The pixels of one annotation.

    Attributes
    ----------
    top, left : int
        Where `pixels` is in the image.
    pixels : (h, w) ndarray of bool
        At least one is True.
    clipped : bool
        Whether a part outside the image was cut off.
    """

    top: int
    left: int
    pixels: Mask
    clipped: bool = False

    @property
    def window(self) -> tuple[slice, slice]:
        """The rows and columns of the image that `pixels` covers."""
        height, width = self.pixels.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


def draw_box(
    left: float,
    top: float,
    right: float,
    bottom: float,
    shape: tuple[int, int],
    slack: tuple[float, float] = (SLACK, SLACK),
) -> Piece:
    """The pixels of a box.

    Parameters
    ----------
    left, top, right, bottom : float
        Its edges, pixels.
    shape : tuple of int
        (H, W) of the image.
    slack : tuple of float
        How far edges may be off by rounding, in x and in y. A side that is a whole number of pixels
        up to twice that has that many pixels.

    Raises
    ------
    ValueError
        It has no extent, is outside the image, or is not finite.

    Examples
    --------
    >>> draw_box(2.25, 1.75, 3.25, 2.75, (4, 5)).window
    (slice(2, 3, None), slice(2, 3, None))
    """
    if not all(map(math.isfinite, (left, top, right, bottom))):
        raise ValueError("has numbers that are not finite")
    if not (right > left and bottom > top):
        raise ValueError(f"is a box of {right - left:g}x{bottom - top:g} pixels, without extent")
    height, width = shape
    first_col, last_col = _axis(left, right, width, slack[0])
    first_row, last_row = _axis(top, bottom, height, slack[1])
    pixels = np.ones((last_row - first_row, last_col - first_col), np.bool_)
    clipped = (
        min(left / slack[0], top / slack[1]) < -1
        or right > width + slack[0]
        or bottom > height + slack[1]
    )
    return Piece(first_row, first_col, pixels, clipped)


def draw_polygon(points: Points | Sequence[Sequence[float]], shape: tuple[int, int]) -> Piece:
    """The pixels of a polygon; where it crosses itself, by the even-odd rule.

    Parameters
    ----------
    points : (N, 2) ndarray
        Corners (x, y), pixels.
    shape : tuple of int
        (H, W) of the image.

    Raises
    ------
    ValueError
        It has no area, is outside the image, or is not finite.

    Examples
    --------
    >>> draw_polygon([(1, 2.1), (6, 2.1), (6, 2.4), (1, 2.4)], (4, 8)).window
    (slice(2, 3, None), slice(1, 6, None))
    """
    points = np.asarray(points, np.float64).reshape(-1, 2)
    if not np.isfinite(points).all():
        raise ValueError("has numbers that are not finite")
    if len(points) < 3 or _is_flat(points):
        raise ValueError(
            f"is a polygon of {len(points)} points without area; draw it along the edges of its "
            "pixels, or save it as a mask"
        )
    height, width = shape
    size = np.array((width, height))
    clipped = bool((points < -SLACK).any() or (points > size + SLACK).any())
    if clipped:
        points = _clip(points, size)
        if len(points) < 3 or _is_flat(points):
            raise _outside(shape)
    corner = np.floor(points.min(axis=0)).clip(0, size - 1).astype(int)
    end = np.ceil(points.max(axis=0)).clip(corner + 1, size).astype(int)
    own = points - corner - SLACK
    window = int(end[1] - corner[1]), int(end[0] - corner[0])
    pixels = _scan(own, window)
    if not pixels.any() or _is_broken(own, pixels):
        pixels |= _spine(own, window)
    return Piece(int(corner[1]), int(corner[0]), pixels, clipped)


def draw_disc(x: float, y: float, radius: float, shape: tuple[int, int]) -> Piece:
    """The pixels of a disc; `ValueError` as `draw_polygon`.

    Examples
    --------
    >>> draw_disc(2.5, 2.5, 1.2, (5, 5)).pixels.astype(int).tolist()
    [[0, 1, 0], [1, 1, 1], [0, 1, 0]]
    """
    if not all(map(math.isfinite, (x, y, radius))):
        raise ValueError("has numbers that are not finite")
    if radius <= 0:
        raise ValueError("is a circle of radius 0; mark a single pixel by a point")
    height, width = shape
    near_x, near_y = min(max(x, 0), width), min(max(y, 0), height)
    if math.hypot(near_x - x, near_y - y) >= radius:
        raise _outside(shape)
    top, left = max(math.floor(y - radius), 0), max(math.floor(x - radius), 0)
    bottom, right = min(math.ceil(y + radius), height), min(math.ceil(x + radius), width)
    rows, cols = np.arange(top, bottom) + 0.5, np.arange(left, right) + 0.5
    pixels = np.hypot(rows[:, None] - y, cols[None, :] - x) < radius
    clipped = x - radius < 0 or y - radius < 0 or x + radius > width or y + radius > height
    if not pixels.any():
        return draw_point(near_x, near_y, shape)._replace(clipped=clipped)
    return Piece(top, left, pixels, clipped)


def draw_point(x: float, y: float, shape: tuple[int, int]) -> Piece:
    """The pixel that holds a point; `ValueError` where it is outside or not finite."""
    if not (math.isfinite(x) and math.isfinite(y)):
        raise ValueError("has numbers that are not finite")
    height, width = shape
    if not (0 <= x <= width and 0 <= y <= height):
        raise _outside(shape)
    pixel = min(math.floor(y), height - 1), min(math.floor(x), width - 1)
    return Piece(*pixel, np.ones((1, 1), np.bool_))


def cut_piece(mask: Mask, top: int = 0, left: int = 0) -> Piece:
    """The pixels of an annotation that is a mask; `ValueError` where it has none."""
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        raise ValueError("holds no pixel")
    first_row, first_col = int(rows[0]), int(cols[0])
    pixels = mask[first_row : int(rows[-1]) + 1, first_col : int(cols[-1]) + 1]
    return Piece(top + first_row, left + first_col, pixels)


def join_pieces(pieces: Sequence[Piece]) -> Piece:
    """One annotation of several parts."""
    if len(pieces) == 1:
        return pieces[0]
    windows = [piece.window for piece in pieces]
    top, left = (min(window[axis].start for window in windows) for axis in (0, 1))
    bottom, right = (max(window[axis].stop for window in windows) for axis in (0, 1))
    pixels = np.zeros((bottom - top, right - left), np.bool_)
    for piece in pieces:
        moved = piece._replace(top=piece.top - top, left=piece.left - left)
        pixels[moved.window] |= piece.pixels
    return Piece(top, left, pixels, any(piece.clipped for piece in pieces))


def _outside(shape: tuple[int, int]) -> ValueError:
    return ValueError(f"is outside its image, which has {shape[1]}x{shape[0]} pixels (w x h)")


def _axis(low: float, high: float, length: int, slack: float) -> tuple[int, int]:
    """The pixels (first, one past the last) of a side from `low` to `high`."""
    if high <= slack or low >= length - slack:
        raise ValueError(f"is outside its image: from {low:g} to {high:g} of {length} pixels")
    # So that what follows is about small numbers only.
    middle = (max(low, 0.0) + min(high, float(length))) / 2
    whole = round(min(high - low, 1e9))
    first = math.ceil(max(low, -1e9) - 0.5 - slack)
    last = math.ceil(min(high, 1e9) - 0.5 - slack)
    if whole >= 1 and abs(high - low - whole) <= 2 * slack:
        last = first + whole
    first, last = max(first, 0), min(last, length)
    if first < last:
        return first, last
    first = min(math.floor(middle + slack), length - 1)
    return first, first + 1


def _is_flat(points: Points) -> bool:
    """Whether all points are on one line, up to rounding."""
    away = points - points[0]
    far = away[np.argmax(np.hypot(*away.T))]
    length = float(np.hypot(*far))
    if length == 0:
        return True
    heights = (away[:, 0] * far[1] - away[:, 1] * far[0]) / length
    return bool(np.ptp(heights) <= 1e-9 * max(1.0, length))


def _mean_width(points: Points) -> float:
    """Area over half the perimeter: of a thin strip its width."""
    after = np.roll(points, -1, axis=0)
    area = abs(float(np.sum(points[:, 0] * after[:, 1] - points[:, 1] * after[:, 0]))) / 2
    return 2 * area / float(np.hypot(*(after - points).T).sum())


def _is_broken(points: Points, pixels: Mask) -> bool:
    """Whether a thin polygon's centres are in several pieces, or not along all of it."""
    width = _mean_width(points)
    if width >= 1:
        return False
    extent = np.ptp(points, axis=0)
    axis = int(np.argmax(extent))
    lines = np.count_nonzero(pixels.any(axis=axis))
    if width < 0.5 and lines < extent[axis] - _SPOT:
        return True
    count, _ = cv2.connectedComponents(pixels.view(np.uint8), connectivity=8)
    return bool(count > 2)


def _clip(points: Points, size: NDArray[np.int_]) -> Points:
    """Cut a polygon at the image's edges, one after the other (Sutherland and Hodgman 1974)."""
    for axis, sign, limit in ((0, 1, 0), (1, 1, 0), (0, -1, -size[0]), (1, -1, -size[1])):
        depth = sign * points[:, axis] - limit
        after, depth_after = np.roll(points, -1, axis=0), np.roll(depth, -1)
        crosses = (depth >= 0) != (depth_after >= 0)
        share = np.divide(depth, depth - depth_after, out=np.zeros_like(depth), where=crosses)
        cuts = points + share[:, None] * (after - points)
        cuts[:, axis] = sign * limit
        # Each point that is inside, then the cut of the edge that follows it.
        both = np.stack((points, cuts), axis=1).reshape(-1, 2)
        points = both[np.stack((depth >= 0, crosses), axis=1).ravel()]
        if len(points) < 3:
            break
    return points


def _crossings(points: Points, count: int) -> tuple[NDArray[np.intp], Points]:
    """Where the edges cross the middle lines of `count` rows: row and x of each crossing."""
    before, after = points, np.roll(points, -1, axis=0)
    lines = np.arange(count) + 0.5
    rows, places = [], []
    for start in range(0, len(points), step := max(1, _MOST_AT_ONCE // count)):
        (x0, y0), (x1, y1) = before[start : start + step].T, after[start : start + step].T
        edge, row = np.nonzero((y0[:, None] <= lines) != (y1[:, None] <= lines))
        share = (lines[row] - y0[edge]) / (y1[edge] - y0[edge])
        rows.append(row)
        places.append(x0[edge] + share * (x1[edge] - x0[edge]))
    return np.concatenate(rows), np.concatenate(places)


def _scan(points: Points, shape: tuple[int, int]) -> Mask:
    """The pixels whose centres a polygon holds."""
    height, width = shape
    rows, places = _crossings(points, height)
    turns = np.zeros((height, width + 1), np.int32)
    np.add.at(turns, (rows, np.ceil(places - 0.5).clip(0, width).astype(int)), 1)
    return np.asarray(np.cumsum(turns, axis=1)[:, :width] % 2 == 1)


def _spine(points: Points, shape: tuple[int, int]) -> Mask:
    """The pixels at the middles of a thin polygon's cuts along the middle lines of the pixels."""
    drawn = np.zeros(shape, np.bool_)
    extent = np.ptp(points, axis=0)
    if extent.max() >= _SPOT:
        for turned, own in ((drawn, points), (drawn.T, points[:, ::-1])):
            rows, places = _crossings(own, turned.shape[0])
            order = np.lexsort((places, rows))
            rows, low, high = rows[order][::2], places[order][::2], places[order][1::2]
            cols = np.floor((low + high) / 2 + SLACK).clip(0, turned.shape[1] - 1).astype(int)
            held = np.ceil(low - 0.5) < np.ceil(high - 0.5)
            turned[rows[~held], cols[~held]] = True
    if not drawn.any():
        # Across the middle of the longer side, so that the pixel is one that the polygon touches.
        axis = int(np.argmax(extent))
        own, turned = (points[:, ::-1], drawn.T) if axis == 0 else (points, drawn)
        middle = float(own[:, 1].min() + own[:, 1].max()) / 2
        _, places = _crossings(own - (0, middle - 0.5), 1)
        cuts = np.sort(places).reshape(-1, 2)
        if not len(cuts):
            cuts = own[:, :1].mean(axis=0, keepdims=True).repeat(2, axis=1)
        low, high = cuts[np.argmax(np.ptp(cuts, axis=1))]
        row = min(max(math.floor(middle + SLACK), 0), turned.shape[0] - 1)
        col = min(max(math.floor((low + high) / 2 + SLACK), 0), turned.shape[1] - 1)
        turned[row, col] = True
    return drawn
