"""Which predicted component answers which target: the rules behind Pd, Fa and hIoU."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, cast, get_args

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from synth.frames import Mask

Protocol = Literal["strict", "basicirstd", "dnanet"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)

RADIUS = 3.0
"""Centroids closer than this, in pixels, can belong together; the distance itself is too far."""

Indices = NDArray[np.intp]
Pairs = tuple[Indices, Indices]


@dataclass(frozen=True)
class Components:
    """The 8-connected components of a mask.

    Attributes
    ----------
    top, left : int
        Where the part of the mask begins that holds every component.
    labels : (h, w) ndarray of int32
        Of that part: 0 for background, k + 1 for component k.
    boxes : (n, 4) ndarray of int32
        Left, top, width and height within that part.
    areas : (n,) ndarray of int64
        Pixels.
    centroids : (n, 2) ndarray of float64
        Mean (row, col) in the mask.
    """

    top: int
    left: int
    labels: NDArray[np.int32]
    boxes: NDArray[np.int32]
    areas: NDArray[np.int64]
    centroids: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.areas)

    @cached_property
    def raster_order(self) -> Indices:
        """Indices of all components in raster order of their first pixels."""
        return self.in_raster_order(np.arange(len(self)))

    @cached_property
    def pixels(self) -> tuple[Indices, Indices, NDArray[np.int32]]:
        """Rows and columns in the mask of the components' pixels, and whose each is."""
        rows, cols = np.nonzero(self.labels)
        return rows + self.top, cols + self.left, self.labels[rows, cols] - 1

    def in_raster_order(self, chosen: Indices) -> Indices:
        """Sort indices of components by the components' first pixels."""
        if len(chosen) < 2:
            return chosen
        firsts = []
        for index in chosen.tolist():
            left, top, width, _ = self.boxes[index].tolist()
            row = self.labels[top, left : left + width]
            firsts.append((top, left + int((row == index + 1).argmax()), index))
        return np.array([index for _, _, index in sorted(firsts)], np.intp)

    def at(self, rows: Indices, cols: Indices) -> NDArray[np.int32]:
        """Look up which components some pixels of the mask belong to; -1 for background."""
        height, width = self.labels.shape
        rows, cols = rows - self.top, cols - self.left
        inside = (rows >= 0) & (rows < height) & (cols >= 0) & (cols < width)
        owners = np.full(len(rows), -1, np.int32)
        owners[inside] = self.labels[rows[inside], cols[inside]] - 1
        return owners


def scan_components(mask: Mask) -> Components:
    """Label a mask and measure its components, in whatever order they are found.

    A mask of an untrained network has thousands of components, and few of them are anywhere near
    a target. Their order matters for those alone, so it is left to `match`.

    Parameters
    ----------
    mask : (H, W) ndarray of bool

    Returns
    -------
    Components
    """
    pixels = np.ascontiguousarray(mask).view(np.uint8)
    # Labelling costs by the pixel, and the masks of a trained network are all but empty.
    left, top, width, height = cv2.boundingRect(pixels)
    _, labels, stats, means = cv2.connectedComponentsWithStats(
        pixels[top : top + max(height, 1), left : left + max(width, 1)],
        connectivity=8,
        ltype=cv2.CV_32S,
    )
    areas = stats[1:, cv2.CC_STAT_AREA].astype(np.int64)
    # OpenCV gives means; times the area they are whole numbers but for rounding.
    sums = np.rint(means[1:, ::-1] * areas[:, None])
    centroids = (sums + areas[:, None] * np.array([top, left])) / areas[:, None]
    return Components(
        top,
        left,
        cast(NDArray[np.int32], labels),
        cast(NDArray[np.int32], stats[1:, :4]),
        areas,
        centroids,
    )


def find_components(mask: Mask) -> Components:
    """Label a mask and measure its components, in raster order of their first pixels.

    Parameters
    ----------
    mask : (H, W) ndarray of bool

    Returns
    -------
    Components
        In the order of `synth.targets.find_targets`.
    """
    found = scan_components(mask)
    order = found.raster_order
    rank = np.zeros(len(found) + 1, np.int32)
    rank[order + 1] = np.arange(1, len(rank))
    return Components(
        found.top,
        found.left,
        rank[found.labels],
        found.boxes[order],
        found.areas[order],
        found.centroids[order],
    )


@dataclass(frozen=True)
class Contacts:
    """The targets of an image, and those predicted components that could answer one.

    Attributes
    ----------
    targets : (m,) ndarray of int
        Indices of all targets, in raster order.
    candidates : (c,) ndarray of int
        Indices of the components that share a pixel with a target or lie nearer than `RADIUS`
        to one, in raster order.
    distances : (m, c) ndarray of float64
        Between centroids, in pixels.
    shared : (m, c) ndarray of int64
        Common pixels.
    iou : (m, c) ndarray of float64
        Intersection over union.
    """

    targets: Indices
    candidates: Indices
    distances: NDArray[np.float64]
    shared: NDArray[np.int64]
    iou: NDArray[np.float64]

    def match(self, protocol: Protocol) -> Pairs:
        """Pair as `match` does, in positions along the two axes of the tables."""
        near = self.distances < RADIUS
        return _assign(self.distances, near) if protocol == "strict" else _greedy(near)

    def hierarchical_iou(self) -> NDArray[np.float64]:
        """Pair by overlap first, by distance what is left, and return the pairs' IoU.

        Pang et al., NeurIPS 2025: one-to-one pairs of IoU ≥ 0.5 (the most, then the greatest
        total IoU), then, among the rest, pairs with centroids closer than `RADIUS` (the most,
        then the least total distance).
        """
        rows, cols = _assign(1 - self.iou, self.iou >= 0.5)
        allowed = self.distances < RADIUS
        allowed[rows] = False
        allowed[:, cols] = False
        late_rows, late_cols = _assign(self.distances, allowed)
        return np.concatenate([self.iou[rows, cols], self.iou[late_rows, late_cols]])


def find_contacts(truth: Components, found: Components) -> Contacts:
    """Find the components that could answer a target, and how they lie to each of them.

    Parameters
    ----------
    truth, found : Components
        Of the label and of the prediction.

    Returns
    -------
    Contacts
    """
    targets = truth.raster_order
    possible: NDArray[np.bool_] = np.zeros(len(found), bool)
    if len(targets) and len(found):
        rows = truth.centroids[:, :1] - found.centroids[:, 0]
        cols = truth.centroids[:, 1:] - found.centroids[:, 1]
        # A little more than the radius: the exact comparison is made on the few that remain.
        close = rows * rows + cols * cols < (RADIUS + 0.01) ** 2
        possible |= close.any(axis=0)
    y, x, owner = truth.pixels
    answer = found.at(y, x)
    hit = answer >= 0
    owner, answer = owner[hit], answer[hit]
    possible[answer] = True
    candidates = found.in_raster_order(np.nonzero(possible)[0])

    difference = truth.centroids[targets, None] - found.centroids[None, candidates]
    distances = np.sqrt((difference**2).sum(axis=2))
    row = np.empty(len(truth), np.intp)
    row[targets] = np.arange(len(targets))
    col = np.empty(len(found), np.intp)
    col[candidates] = np.arange(len(candidates))
    shape = (len(targets), len(candidates))
    shared = np.bincount(row[owner] * shape[1] + col[answer], minlength=shape[0] * shape[1])
    shared = shared.reshape(shape)
    iou = shared / (truth.areas[targets, None] + found.areas[None, candidates] - shared)
    return Contacts(targets, candidates, distances, shared, iou)


def match(truth: Components, found: Components, protocol: Protocol) -> Pairs:
    """Pair targets with predicted components whose centroids are closer than `RADIUS`.

    Parameters
    ----------
    truth, found : Components
        Of the label and of the prediction.
    protocol : {"strict", "basicirstd", "dnanet"}
        ``strict``: the one-to-one assignment with the most pairs and, of those, the least total
        distance. The other two: targets in raster order, each takes the first predicted component
        that is near enough and not yet taken.

    Returns
    -------
    tuple of two (n,) ndarray of int
        Indices of the targets and of the components that answer them.
    """
    contacts = find_contacts(truth, found)
    rows, cols = contacts.match(protocol)
    return contacts.targets[rows], contacts.candidates[cols]


def false_alarm_pixels(found: Components, matched: Indices, protocol: Protocol) -> int:
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
    if protocol == "dnanet" and len(matched):
        return int(found.areas[~np.isin(found.areas, found.areas[matched])].sum())
    return int(found.areas.sum() - found.areas[matched].sum())


def _assign(cost: NDArray[np.float64], allowed: NDArray[np.bool_]) -> Pairs:
    """Choose the most allowed pairs, and of those choices the one of least total cost."""
    rows, cols = np.nonzero(allowed)
    if len(set(rows.tolist())) == len(rows) == len(set(cols.tolist())):
        # Nobody competes: every allowed pair is made.
        return rows, cols
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
