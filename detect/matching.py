"""Which predicted component answers which target: the rules behind Pd, Fa and hIoU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from synth.frames import Mask
from synth.targets import label_targets

Protocol = Literal["strict", "basicirstd", "dnanet"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)

RADIUS = 3.0
"""Centroids closer than this, in pixels, can belong together; the distance itself is too far."""

Pairs = tuple[NDArray[np.intp], NDArray[np.intp]]


@dataclass(frozen=True)
class Components:
    """The 8-connected components of a mask, in raster order of their first pixels.

    Attributes
    ----------
    labels : (H, W) ndarray of int32
        0 for background, k + 1 for component k.
    areas : (n,) ndarray of int64
        Pixels.
    centroids : (n, 2) ndarray of float64
        Mean (row, col).
    """

    labels: NDArray[np.int32]
    areas: NDArray[np.int64]
    centroids: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.areas)


def find_components(mask: Mask) -> Components:
    """Label a mask, and measure its components.

    Parameters
    ----------
    mask : (H, W) ndarray of bool

    Returns
    -------
    Components
    """
    count, labels = label_targets(mask)
    rows, cols = np.nonzero(mask)
    of = labels[rows, cols] - 1
    areas = np.bincount(of, minlength=count)
    sums = np.stack([np.bincount(of, x, minlength=count) for x in (rows, cols)], axis=1)
    return Components(labels, areas, sums / areas[:, None])


def match(truth: Components, found: Components, protocol: Protocol) -> Pairs:
    """Pair targets with predicted components whose centroids are closer than `RADIUS`.

    Parameters
    ----------
    truth, found : Components
        Of the label and of the prediction.
    protocol : {"strict", "basicirstd", "dnanet"}
        ``strict``: the one-to-one assignment with the most pairs and, of those, the least total
        distance. The other two: targets in label order, each takes the first predicted component
        that is near enough and not yet taken.

    Returns
    -------
    tuple of two (n,) ndarray of int
        Indices of the targets and of the components that answer them.
    """
    distances = _distances(truth, found)
    if protocol == "strict":
        return _assign(distances, distances < RADIUS)
    return _greedy(distances < RADIUS)


def false_alarm_pixels(found: Components, matched: NDArray[np.intp], protocol: Protocol) -> int:
    """Count the pixels of the components that answer no target.

    Parameters
    ----------
    found : Components
        Of the prediction.
    matched : (n,) ndarray of int
        Indices of those that answer a target.
    protocol : {"strict", "basicirstd", "dnanet"}
        ``dnanet`` looks matched components up by their area, so that it forgets a false alarm
        that is as large as any matched component of the image.

    Returns
    -------
    int
    """
    false = np.ones(len(found), bool)
    false[matched] = False
    if protocol == "dnanet":
        false &= ~np.isin(found.areas, found.areas[matched])
    return int(found.areas[false].sum())


def hierarchical_pairs(truth: Components, found: Components) -> NDArray[np.float64]:
    """Pair by overlap first, by distance what is left, and return the pairs' IoU.

    Pang et al., NeurIPS 2025: one-to-one pairs of IoU ≥ 0.5 (the most, then the greatest total
    IoU), then, among the rest, pairs with centroids closer than `RADIUS` (the most, then the
    least total distance).

    Parameters
    ----------
    truth, found : Components
        Of the label and of the prediction.

    Returns
    -------
    (n,) ndarray of float64
        Intersection over union of each pair.
    """
    iou = _overlaps(truth, found)
    rows, cols = _assign(1 - iou, iou >= 0.5)
    near = _distances(truth, found)
    allowed = near < RADIUS
    allowed[rows] = False
    allowed[:, cols] = False
    late_rows, late_cols = _assign(near, allowed)
    return np.concatenate([iou[rows, cols], iou[late_rows, late_cols]])


def _distances(truth: Components, found: Components) -> NDArray[np.float64]:
    difference = truth.centroids[:, None] - found.centroids[None]
    distances: NDArray[np.float64] = np.sqrt((difference**2).sum(axis=2))
    return distances


def _overlaps(truth: Components, found: Components) -> NDArray[np.float64]:
    both = (truth.labels > 0) & (found.labels > 0)
    flat = (truth.labels[both] - 1) * len(found) + found.labels[both] - 1
    shape = (len(truth), len(found))
    intersection = np.bincount(flat, minlength=len(truth) * len(found)).reshape(shape)
    iou: NDArray[np.float64] = intersection / (
        truth.areas[:, None] + found.areas[None] - intersection
    )
    return iou


def _assign(cost: NDArray[np.float64], allowed: NDArray[np.bool_]) -> Pairs:
    """Choose the most allowed pairs, and of those choices the one of least total cost."""
    rows, cols = np.nonzero(allowed.any(axis=1))[0], np.nonzero(allowed.any(axis=0))[0]
    part, possible = cost[np.ix_(rows, cols)], allowed[np.ix_(rows, cols)]
    # A forbidden pair costs more than all allowed ones together, so it is never worth its place.
    prohibitive = 1.0 + part[possible].sum()
    i, j = linear_sum_assignment(np.where(possible, part, prohibitive))
    taken = possible[i, j]
    return rows[i[taken]], cols[j[taken]]


def _greedy(allowed: NDArray[np.bool_]) -> Pairs:
    free = np.ones(allowed.shape[1], bool)
    rows, cols = [], []
    for row in np.nonzero(allowed.any(axis=1))[0]:
        candidates = np.nonzero(allowed[row] & free)[0]
        if len(candidates):
            free[candidates[0]] = False
            rows.append(row)
            cols.append(candidates[0])
    return np.array(rows, np.intp), np.array(cols, np.intp)
