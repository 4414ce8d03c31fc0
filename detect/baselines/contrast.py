"""Local contrast: a target differs from all eight cells around it.

RLCM: Han, Liang, Zhou, Zhu, Zhao and Zhao, "Infrared small target detection utilizing the
multiscale relative local contrast measure", IEEE GRSL 15(4), 2018. MPCM: Wei, You and Li,
"Multiscale patch-based contrast measure for small infrared target detection", Pattern Recognition
58, 2016.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from synth.frames import Frame

# RLCM: side of a cell in pixels, and how many of its brightest pixels count in the centre and
# around it, per scale.
_CELL = 9
_RANKS = ((2, 4), (5, 9), (9, 16))
_MOST = max(outer for _, outer in _RANKS)
# Rows whose cells are sorted at once, which bounds the memory.
_STRIP = 64

# MPCM: sides of a cell in pixels.
_CELLS = (3, 5, 7, 9)


def rlcm(frame: Frame) -> NDArray[np.float32]:
    """Compute the multiscale relative local contrast measure.

    With m the mean of the K brightest pixels of a 9 x 9 cell, the contrast of the centre cell 0
    against its eight neighbours i is the minimum of (m0 / mi)·m0 − m0. The measure is its greatest
    value over the pairs (2, 4), (5, 9), (9, 16) of K in the centre and around it, and 0 where
    that is negative. Cells are cut at the frame's border, and those beyond it have no say. A
    surrounding darker than 1 DN counts as 1 DN.

    Parameters
    ----------
    frame : (H, W) ndarray of uint8 or uint16

    Returns
    -------
    (H, W) ndarray of float32
        DN, 0 or more.
    """
    height, width = frame.shape
    sums = _sum_brightest(frame)
    counts = np.multiply.outer(*(_inside(length) for length in frame.shape))
    response = np.zeros(frame.shape)
    for inner, outer in _RANKS:
        centre = sums[inner - 1] / np.clip(counts, 1, inner)
        centre = centre[_CELL : _CELL + height, _CELL : _CELL + width]
        cells = np.where(counts > 0, sums[outer - 1] / np.clip(counts, 1, outer), -np.inf)
        around = np.max(_neighbours(cells, _CELL), axis=0)
        contrast = np.where(around >= 0, centre * centre / np.maximum(around, 1) - centre, 0)
        np.maximum(response, contrast, out=response)
    return response.astype(np.float32)


def mpcm(frame: Frame) -> NDArray[np.float32]:
    """Compute the multiscale patch-based contrast measure.

    With d_i the difference of mean between a cell and its i-th neighbour of eight, the contrast
    is the minimum over the four directions of d_i·d_(i+4), which is positive only where the cell
    is brighter than both neighbours, or darker than both. The measure is its greatest value over
    cells of 3, 5, 7 and 9 pixels, and 0 where that is negative. Dark targets stand out as bright
    ones do. Beyond its border the frame goes on as its outermost pixels.

    Parameters
    ----------
    frame : (H, W) ndarray of uint8 or uint16

    Returns
    -------
    (H, W) ndarray of float32
        DN², 0 or more.
    """
    response = np.zeros(frame.shape)
    for side in _CELLS:
        padded = np.pad(frame.astype(np.float64), 2 * side, mode="edge")
        means: NDArray[Any] = cv2.blur(padded, (side, side))[side:-side, side:-side]
        centre = means[side:-side, side:-side]
        differences = [centre - neighbour for neighbour in _neighbours(means, side)]
        opposite = zip(differences[:4], differences[:3:-1], strict=True)
        contrast = np.min([first * second for first, second in opposite], axis=0)
        np.maximum(response, contrast, out=response)
    return response.astype(np.float32)


def _neighbours(cells: NDArray[np.float64], step: int) -> list[NDArray[np.float64]]:
    """Look from every centre at the cells around it; the k-th and the (7 − k)-th are opposite.

    Parameters
    ----------
    cells : (H + 2 step, W + 2 step) ndarray
        A value for the cell around every pixel, and around those up to `step` outside the frame.

    Returns
    -------
    list of eight (H, W) ndarray
    """
    height, width = (length - 2 * step for length in cells.shape)
    starts = [(row, col) for row in (0, step, 2 * step) for col in (0, step, 2 * step)]
    starts.remove((step, step))
    return [cells[row : row + height, col : col + width] for row, col in starts]


def _sum_brightest(frame: Frame) -> NDArray[np.float64]:
    """Sum the 1, 2, … brightest pixels of every cell; outside the frame pixels are 0.

    Returns
    -------
    (K, H + 18, W + 18) ndarray of float64
    """
    padded = np.pad(frame, _CELL + _CELL // 2)
    cells = sliding_window_view(padded, (_CELL, _CELL))
    rows, cols = cells.shape[:2]
    sums = np.empty((_MOST, rows, cols))
    for start in range(0, rows, _STRIP):
        strip = cells[start : start + _STRIP].reshape(-1, cols, _CELL * _CELL)
        brightest = np.partition(strip, -_MOST, axis=-1)[..., -_MOST:]
        brightest.sort(axis=-1)
        falling = np.moveaxis(brightest[..., ::-1], -1, 0)
        np.cumsum(falling, axis=0, dtype=np.float64, out=sums[:, start : start + _STRIP])
    return sums


def _inside(length: int) -> NDArray[np.int64]:
    """Count how many of a cell's rows are in a frame of `length` rows, for every cell."""
    centres = np.arange(-_CELL, length + _CELL)
    half = _CELL // 2
    first, last = np.maximum(centres - half, 0), np.minimum(centres + half, length - 1)
    return np.maximum(last - first + 1, 0)
