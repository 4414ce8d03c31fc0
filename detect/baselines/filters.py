"""Background filters: what a smooth background cannot explain is target.

Top-Hat: Tom, Peli, Leung and Bondaryk, "Morphology-based algorithm for point target detection in
infrared backgrounds", SPIE 1954, 1993. Max-Median: Deshpande, Er, Venkateswarlu and Chan,
"Max-mean and max-median filters for detection of small targets", SPIE 3809, 1999.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from synth.frames import Frame

# Side of the square, and length of the lines, in pixels; both reproduce the published tables.
_SIDE = 5


def top_hat(frame: Frame) -> NDArray[np.float32]:
    """Subtract the morphological opening by a square of 5 x 5 pixels.

    What is brighter than its surroundings and narrower than the square remains. Pixels outside
    the frame have no say.

    Parameters
    ----------
    frame : (H, W) ndarray of uint8 or uint16

    Returns
    -------
    (H, W) ndarray of float32
        DN above the opening, 0 or more.
    """
    square = np.ones((_SIDE, _SIDE), np.uint8)
    return cv2.morphologyEx(frame, cv2.MORPH_TOPHAT, square).astype(np.float32)


def max_median(frame: Frame) -> NDArray[np.float32]:
    """Subtract the greatest of the medians along four lines of 5 pixels.

    The lines run through the pixel along the row, the column and both diagonals, so that an edge
    along any of them is background. The frame goes on as its mirror image beyond its border.

    Parameters
    ----------
    frame : (H, W) ndarray of uint8 or uint16

    Returns
    -------
    (H, W) ndarray of float32
        DN above that background, 0 or more.
    """
    diagonal = np.eye(_SIDE, dtype=bool)
    row = np.zeros_like(diagonal)
    row[_SIDE // 2] = True
    medians = (median_filter(frame, footprint=line) for line in (row, row.T, diagonal))
    background = median_filter(frame, footprint=diagonal[::-1])
    for median in medians:
        np.maximum(background, median, out=background)
    return cv2.subtract(frame, background).astype(np.float32)
