"""Which predicted component answers which target: the rules behind Pd, Fa and hIoU."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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

# Distances that are computed at once, and the most of one image.
_CHUNK, _MOST_DISTANCES = 1 << 20, 1 << 28

Indices = NDArray[np.intp]
Pair = tuple[int, int]


@dataclass(frozen=True)
class Components:
    """The 8-connected components of a mask, in no particular order.

    Attributes
    ----------
    labels : (H * W,) ndarray of int32
        Of the mask's pixels in raster order: 0 for background, k + 1 for component k.
    firsts : (n,) ndarray of int
        Where the first pixel of each lies in `labels`; scikit-image numbers components by it.
    areas : (n,) ndarray of int64
        Pixels.
    centroids : (2, n) ndarray of float64
        Mean rows and mean columns: sums of whole numbers over the area, as scikit-image has them.
    """

    labels: NDArray[np.int32]
    firsts: Indices
    areas: NDArray[np.int64]
    centroids: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.areas)

    @cached_property
    def pixel_count(self) -> int:
        """Number of pixels of all components."""
        return int(self.areas.sum())

    @cached_property
    def pixels(self) -> tuple[Indices, Indices]:
        """Where in `labels` the components' pixels lie, and whose each is."""
        inside = np.flatnonzero(self.labels)
        return inside, self.labels[inside].astype(np.intp) - 1


def scan_components(mask: Mask) -> Components:
    """Find the components of a mask and measure them.

    Parameters
    ----------
    mask : (H, W) ndarray of bool

    Returns
    -------
    Components
    """
    height, width = mask.shape
    # Measured by horizontal runs, of which there are several times fewer than pixels; a column of
    # background after the last one ends those that reach the border.
    padded: NDArray[np.bool_] = np.zeros(1 + height * (width + 1), bool)
    padded[1:].reshape(height, width + 1)[:, :width] = mask
    edges = np.flatnonzero(padded[1:] != padded[:-1])
    starts, lengths = edges[::2], np.diff(edges)[::2]
    rows = starts // (width + 1)
    places = starts - rows
    # Where components are many, this algorithm takes half the time of the default one.
    number, grid = cv2.connectedComponentsWithAlgorithm(
        np.ascontiguousarray(mask).view(np.uint8), 8, cv2.CV_32S, cv2.CCL_SAUF
    )
    labels = cast(NDArray[np.int32], grid.ravel())
    owners = labels[places]
    doubled = lengths * (2 * (places - rows * width) + lengths - 1)
    areas, row_sums, col_sums = (
        np.bincount(owners, weights, number)[1:]
        for weights in (lengths, rows * lengths, doubled / 2)
    )
    firsts = np.full(number - 1, mask.size, np.intp)
    np.minimum.at(firsts, owners - 1, places)
    return Components(
        labels, firsts, areas.astype(np.int64), np.stack([row_sums, col_sums]) / areas
    )


def find_components(mask: Mask) -> Components:
    """Find the components of one mask, in raster order of their first pixels.

    Parameters
    ----------
    mask : (H, W) ndarray of bool

    Returns
    -------
    Components
        In the order of `synth.targets.find_targets`.
    """
    found = scan_components(mask)
    order = np.argsort(found.firsts)
    rank = np.zeros(len(found) + 1, np.int32)
    rank[order + 1] = np.arange(1, len(rank))
    return Components(
        rank[found.labels], found.firsts[order], found.areas[order], found.centroids[:, order]
    )


@dataclass(frozen=True)
class Contacts:
    """How predicted components lie to the targets of an image.

    Attributes
    ----------
    distances : dict
        From (target, component) to the distance of their centroids in pixels, where it is less
        than `RADIUS`. Targets come in their order, the components near one in raster order.
    shared : dict
        From (target, component) to the number of pixels that they share, where they do.
    iou : dict
        From the same pairs to their intersection over union.
    """

    distances: dict[Pair, float]
    shared: dict[Pair, int]
    iou: dict[Pair, float]

    def match(self, protocol: Protocol) -> list[Pair]:
        """Pair targets with the components that answer them, by the rules of `match`."""
        if protocol == "strict":
            return _assign(self.distances)
        answered: set[int] = set()
        taken: set[int] = set()
        pairs = []
        for target, component in self.distances:
            if target not in answered and component not in taken:
                answered.add(target)
                taken.add(component)
                pairs.append((target, component))
        return pairs


def find_contacts(truth: Components, found: Components) -> Contacts:
    """Find the components that could answer a target.

    Parameters
    ----------
    truth : Components
        Of the label, in raster order.
    found : Components
        Of the prediction, in any order.

    Returns
    -------
    Contacts
    """
    if not len(truth) or not len(found):
        return Contacts({}, {}, {})
    distances = {}
    for target, (row, col) in enumerate(truth.centroids.T.tolist()):
        # One target at a time, since components may be a million in a large image.
        gaps = np.sqrt((found.centroids[0] - row) ** 2 + (found.centroids[1] - col) ** 2)
        near = np.flatnonzero(gaps < RADIUS)
        if len(near) > 1:
            near = near[np.argsort(found.firsts[near])]
        for component, gap in zip(near.tolist(), gaps[near].tolist(), strict=True):
            distances[target, component] = gap
    inside, owners = truth.pixels
    answers = found.labels[inside]
    hit = answers > 0
    keys = owners[hit] * len(found) + answers[hit] - 1
    shared = {}
    iou = {}
    for key, count in zip(*(a.tolist() for a in np.unique(keys, return_counts=True)), strict=True):
        target, component = pair = divmod(key, len(found))
        shared[pair] = count
        iou[pair] = count / int(truth.areas[target] + found.areas[component] - count)
    return Contacts(distances, shared, iou)


def match(truth: Components, found: Components, protocol: Protocol) -> tuple[Indices, Indices]:
    """Pair targets with predicted components whose centroids are closer than `RADIUS`.

    Parameters
    ----------
    truth, found : Components
        Of the label, in raster order, and of the prediction.
    protocol : {"strict", "basicirstd", "dnanet"}
        ``strict``: the one-to-one assignment with the most pairs and, of those, the least total
        distance. The other two: targets in raster order, each takes the first predicted component
        in raster order that is near enough and not yet taken.

    Returns
    -------
    tuple of two (n,) ndarray of int
        Indices of the targets and of the components that answer them.
    """
    pairs = np.array(find_contacts(truth, found).match(protocol), np.intp).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def hierarchical_iou(truth: Components, found: Components, contacts: Contacts) -> list[float]:
    """Pair targets and components for hIoU, and list the pairs' IoU.

    Two one-to-one assignments of least total distance between centroids, as many pairs as the
    smaller side has members. The first one takes all targets and components, and keeps its pairs
    of IoU ≥ 0.5. The second one takes those that are not in a kept pair, and keeps its pairs
    closer than `RADIUS`. Neither is chosen to keep as many pairs as possible: a pair that an
    assignment does not contain is lost, however well it overlaps.

    Parameters
    ----------
    truth : Components
        Of the label, in raster order.
    found : Components
        Of the prediction, in any order.
    contacts : Contacts
        Of the two.

    Returns
    -------
    list of float
        One per pair.

    Raises
    ------
    MemoryError
        Both sides have so many components that their distances would fill more than 2 GiB: more
        than 16,384 of both, for instance.

    Notes
    -----
    Pang et al., NeurIPS 2025, in the arithmetic of their program, PyIRSTDMetrics 1.0.2. Of several
    assignments of equal distance the one counts that `scipy.optimize.linear_sum_assignment` finds,
    with targets as rows and components as columns, both in raster order. The result differs from
    the program's in one thing: where an image has no label or no prediction, the program counts
    one component there that does not exist.
    """
    pairs: list[Pair] = []
    targets, components = np.arange(len(truth)), np.argsort(found.firsts)
    for valid in ({pair for pair, iou in contacts.iou.items() if iou >= 0.5}, contacts.distances):
        paired = {target for target, _ in pairs}, {component for _, component in pairs}
        # Without a pair that would be kept, none has to be made.
        if all(target in paired[0] or component in paired[1] for target, component in valid):
            continue
        rows = targets[~np.isin(targets, list(paired[0]))]
        cols = components[~np.isin(components, list(paired[1]))]
        chosen = _assign_by_distance(truth.centroids[:, rows], found.centroids[:, cols])
        places = zip(rows[chosen[0]].tolist(), cols[chosen[1]].tolist(), strict=True)
        pairs += [pair for pair in places if pair in valid]
    return [contacts.iou.get(pair, 0.0) for pair in pairs]


def _assign_by_distance(
    rows: NDArray[np.float64], cols: NDArray[np.float64]
) -> tuple[Indices, Indices]:
    """Assign points (2, n) to points (2, m) by the least total distance."""
    n, m = rows.shape[1], cols.shape[1]
    if n * m > _MOST_DISTANCES:
        raise MemoryError(f"hIoU of an image of {n:,} by {m:,} components")
    table = np.empty((n, m))
    step = max(1, _CHUNK // m)
    for start in range(0, n, step):
        part = rows[:, start : start + step, None] - cols[:, None, :]
        part *= part
        np.sqrt(part[0] + part[1], out=table[start : start + step])
    first, second = linear_sum_assignment(table)
    return first, second


def false_alarm_pixels(found: Components, matched: Sequence[int], protocol: Protocol) -> int:
    """Count the pixels of the components that answer no target.

    Parameters
    ----------
    found : Components
        Of the prediction.
    matched : sequence of int
        Indices of those that answer a target.
    protocol : {"strict", "basicirstd", "dnanet"}
        ``dnanet`` looks matched components up by their area, so that it forgets a false alarm
        that is as large as any matched component of the image.

    Returns
    -------
    int
    """
    if not matched:
        return found.pixel_count
    areas = found.areas[matched]
    if protocol == "dnanet":
        areas = found.areas[np.isin(found.areas, areas)]
    return found.pixel_count - int(areas.sum())


def _assign(costs: dict[Pair, float]) -> list[Pair]:
    """Choose the most of the pairs that are one-to-one, and of those choices the cheapest."""
    rows, cols = _ranks(row for row, _ in costs), _ranks(col for _, col in costs)
    if len(rows) == len(costs) == len(cols):
        # Nobody competes.
        return list(costs)
    # An absent pair costs more than all others together, so it is never worth its place.
    table = np.full((len(rows), len(cols)), 1.0 + sum(costs.values()))
    for (row, col), cost in costs.items():
        table[rows[row], cols[col]] = cost
    names = list(rows), list(cols)
    chosen = zip(*(a.tolist() for a in linear_sum_assignment(table)), strict=True)
    return [pair for i, j in chosen if (pair := (names[0][i], names[1][j])) in costs]


def _ranks(names: Iterable[int]) -> dict[int, int]:
    return {name: rank for rank, name in enumerate(dict.fromkeys(names))}
