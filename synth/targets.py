"""Targets: the connected components of a mask, and how far they stand out of their clutter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from synth.frames import Frame, Mask

Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Target:
    """One 8-connected component of a mask.

    Attributes
    ----------
    index : int
        Counts from 0 in raster order of the components' first pixels (scikit-image's order).
    row, col : int
        Centre: the centroid rounded half up, in pixels.
    centroid : tuple of float
        Mean (row, col) of the component's pixels.
    area : int
        Number of pixels.
    box : tuple of int
        Half-open bounding box (top, left, bottom, right).
    """

    index: int
    row: int
    col: int
    centroid: tuple[float, float]
    area: int
    box: Box


def label_targets(mask: Mask) -> tuple[int, NDArray[np.int32]]:
    """Label the 8-connected components of a mask in raster order of their first pixels.

    Parameters
    ----------
    mask : (H, W) ndarray of bool

    Returns
    -------
    count : int
        Number of components.
    labels : (H, W) ndarray of int32
        0 for background, 1 to `count` for the components.
    """
    found = cv2.connectedComponents(mask.view(np.uint8), connectivity=8, ltype=cv2.CV_32S)
    count, labels = found[0] - 1, cast(NDArray[np.int32], found[1])
    if count > 1:
        inside = labels[mask]
        # OpenCV scans blocks of 2 x 2 pixels, so its numbers need not follow the raster.
        _, first = np.unique(inside, return_index=True)
        rank = np.zeros(count + 1, np.int32)
        rank[inside[np.sort(first)]] = np.arange(1, count + 1)
        labels = rank[labels]
    return count, labels


def find_targets(mask: Mask) -> list[Target]:
    """List the targets of a mask.

    Parameters
    ----------
    mask : (H, W) ndarray of bool

    Returns
    -------
    list of Target
        In raster order of first pixels; empty for an empty mask.

    Examples
    --------
    >>> import numpy as np
    >>> mask = np.zeros((8, 8), bool)
    >>> mask[2:4, 5] = True
    >>> [(t.row, t.col, t.area, t.box) for t in find_targets(mask)]
    [(3, 5, 2, (2, 5, 4, 6))]
    """
    count, labels = label_targets(mask)
    if not count:
        return []
    rows, cols = np.nonzero(mask)
    of = labels[rows, cols] - 1
    order = np.argsort(of, kind="stable")
    starts = np.searchsorted(of[order], np.arange(count + 1))
    targets = []
    for index in range(count):
        member = order[starts[index] : starts[index + 1]]
        r, c = rows[member], cols[member]
        area = len(member)
        row_sum, col_sum = int(r.sum()), int(c.sum())
        targets.append(
            Target(
                index=index,
                row=(2 * row_sum + area) // (2 * area),
                col=(2 * col_sum + area) // (2 * area),
                centroid=(row_sum / area, col_sum / area),
                area=area,
                box=(int(r.min()), int(c.min()), int(r.max()) + 1, int(c.max()) + 1),
            )
        )
    return targets


def target_box(target: Target, side: int, shape: tuple[int, int]) -> Box:
    """Place the square box of a target patch.

    The box starts at ``row − side // 2``, ``col − side // 2`` and is moved inside the image
    where it would leave it (Lu et al., TGRS 2024, "negative augmentation").

    Parameters
    ----------
    target : Target
    side : int
        Side of the box in pixels.
    shape : tuple of int
        (H, W) of the image.

    Returns
    -------
    tuple of int
        Half-open (top, left, bottom, right).

    Raises
    ------
    ValueError
        The box is larger than the image.
    """
    height, width = shape
    if not 1 <= side <= min(height, width):
        raise ValueError(f"a box of side {side} does not fit an image of {height}x{width} pixels")
    top = min(max(target.row - side // 2, 0), height - side)
    left = min(max(target.col - side // 2, 0), width - side)
    return top, left, top + side, left + side


def local_scr(image: Frame, mask: Mask, target: Target, margin: int = 20) -> float:
    """Local signal-to-clutter ratio of a target.

    SCR = |μ_t − μ_b| / σ_b with the mean over the target's pixels and the mean and population
    standard deviation over the background pixels of its bounding box grown by `margin` pixels on
    each side (the neighbourhood of Gao et al., TIP 2013), all targets left out.

    Parameters
    ----------
    image : (H, W) ndarray of uint8 or uint16
    mask : (H, W) ndarray of bool
        Every target of the image.
    target : Target
    margin : int
        Width of the neighbourhood in pixels.

    Returns
    -------
    float
        Dimensionless; infinite over a constant background, NaN where none is left.
    """
    height, width = image.shape
    top, left, bottom, right = target.box
    window = (
        slice(max(top - margin, 0), min(bottom + margin, height)),
        slice(max(left - margin, 0), min(right + margin, width)),
    )
    patch = image[window].astype(np.float64)
    _, labels = label_targets(mask)
    own = labels[window] == target.index + 1
    background = patch[~mask[window]]
    if not background.size:
        return float("nan")
    contrast = abs(float(patch[own].mean()) - float(background.mean()))
    clutter = float(background.std())
    return contrast / clutter if clutter > 0 else float("inf")
