"""The seam probe: can the border of a box alone tell that something was done inside?

A small classifier looks at the band of pixels around the borders of boxes, never at what is in
them. Its area under the ROC curve, cross-validated by source image, is the score: 0.5 is a border
that tells nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from synth.frames import Frame
from synth.targets import Box

Floats = NDArray[np.float64]

# Pixels that are looked at on either side of a border.
_DEPTH = 3

# What grey values are at least taken to differ by: rounding.
_LEAST = 0.3

_FOLDS, _PENALTY = 5, 1.0


def describe_border(image: Frame, box: Box) -> Floats | None:
    """Describe the band of pixels around the border of a box.

    Along each side of the box, steps from pixel to pixel across the border are held against those
    just outside and just inside of it, and so are second differences; along the border, steps
    outside are held against those inside. All are ratios, so that contrast does not matter.

    Parameters
    ----------
    image : (H, W) ndarray of uint8 or uint16
    box : tuple of int
        Half-open (top, left, bottom, right).

    Returns
    -------
    (k,) ndarray of float64 or None
        None where less than two sides of the box have room for the band.
    """
    top, left, bottom, right = box
    height, width = image.shape
    if bottom - top < 2 * _DEPTH or right - left < 2 * _DEPTH:
        return None
    values = image.astype(np.float64)
    sides = []
    for room, band in (
        (top >= _DEPTH, lambda: values[top - _DEPTH : top + _DEPTH, left:right]),
        (
            bottom + _DEPTH <= height,
            lambda: values[bottom - _DEPTH : bottom + _DEPTH, left:right][::-1],
        ),
        (left >= _DEPTH, lambda: values[top:bottom, left - _DEPTH : left + _DEPTH].T),
        (
            right + _DEPTH <= width,
            lambda: values[top:bottom, right - _DEPTH : right + _DEPTH].T[::-1],
        ),
    ):
        if room:
            sides.append(_describe_side(band()))
    if len(sides) < 2:
        return None
    found = np.sort(np.stack(sides), axis=0)
    # The most and the least conspicuous side, and all of them together.
    return np.concatenate([found[-1], found[0], found.mean(0)])


def probe_seams(
    images: Sequence[Frame],
    boxes: Sequence[Box],
    labels: ArrayLike,
    groups: ArrayLike,
) -> float:
    """Train the probe to tell two kinds of boxes apart by their borders, and judge it.

    A logistic regression with quadratic penalty over standardised features, five folds; the boxes
    of a group are in one fold.

    Parameters
    ----------
    images : sequence of (H, W) ndarray
        The image of each box.
    boxes : sequence of tuple
    labels : (n,) array-like of bool
    groups : (n,) array-like
        What each box comes from, a source image.

    Returns
    -------
    float
        Area under the ROC curve of the boxes in the folds that were held out, 0 to 1; below 0.5
        only by chance.

    Raises
    ------
    ValueError
        There are fewer than ten boxes of a kind, or fewer than five groups.
    """
    found = [describe_border(image, box) for image, box in zip(images, boxes, strict=True)]
    usable = np.array([features is not None for features in found])
    features = np.array([row for row in found if row is not None])
    truth = np.asarray(labels, bool)[usable]
    group = np.unique(np.asarray(groups)[usable], return_inverse=True)[1]
    if min(truth.sum(), (~truth).sum()) < 10 or group.max(initial=-1) + 1 < _FOLDS:
        raise ValueError(
            f"{int(truth.sum())} and {int((~truth).sum())} boxes of {group.max(initial=-1) + 1} "
            "images are too few to probe"
        )
    order = np.random.default_rng(0).permutation(group.max() + 1)
    fold = order[group] % _FOLDS
    score = np.zeros(len(truth))
    for held in range(_FOLDS):
        known = fold != held
        score[~known] = _rank(_classify(features[known], truth[known], features[~known]))
    return _area(score, truth)


def _describe_side(band: Floats) -> Floats:
    """Features of one side: rows go from outside to inside, the border between the middle ones."""
    steps = np.diff(band, axis=0)
    middle = len(steps) // 2
    across = np.abs(steps[middle])
    beside = (np.abs(steps[middle - 1]) + np.abs(steps[middle + 1])) / 2
    farther = (np.abs(steps[0]) + np.abs(steps[-1])) / 2
    bend = np.abs(np.diff(steps, axis=0))
    inner = (bend[middle - 1] + bend[middle]) / 2
    outer = (bend[0] + bend[-1]) / 2
    along = np.abs(np.diff(band, axis=1))
    return np.array(
        [
            _ratio(across, beside),
            _ratio(across, farther),
            _ratio(across**2, beside**2) / 2,
            _ratio(inner, outer),
            _ratio(inner**2, outer**2) / 2,
            np.log((across.max() + _LEAST) / (beside.max() + _LEAST)),
            np.log((abs(steps[middle].mean()) + _LEAST) / (beside.mean() + _LEAST)),
            _ratio(along[middle], along[middle + 1]),
            _ratio(along[0], along[-1]),
        ]
    )


def _ratio(one: Floats, other: Floats) -> float:
    return float(np.log((one.mean() + _LEAST) / (other.mean() + _LEAST)))


def _classify(known: Floats, truth: NDArray[np.bool_], unknown: Floats) -> Floats:
    """Log-odds of unknown rows by a logistic regression on known ones."""
    mean, spread = known.mean(0), known.std(0) + 1e-9

    def expand(rows: Floats) -> Floats:
        flat = ((rows - mean) / spread).clip(-5, 5)
        # Too little of a difference betrays as much as too much.
        return np.concatenate([flat, flat**2 - 1, np.ones((len(flat), 1))], 1)

    design, sign = expand(known), np.where(truth, 1.0, -1.0)
    balance = np.where(truth, 0.5 / truth.mean(), 0.5 / (1 - truth.mean()))

    def loss(weight: Floats) -> tuple[float, Floats]:
        margin = sign * (design @ weight)
        slope = -balance * sign * scipy.special.expit(-margin)
        free = np.append(weight[:-1], 0.0)
        value = float(balance @ np.logaddexp(0, -margin)) + _PENALTY / 2 * float(free @ free)
        return value, design.T @ slope + _PENALTY * free

    found = scipy.optimize.minimize(loss, np.zeros(design.shape[1]), jac=True, method="L-BFGS-B")
    return np.asarray(expand(unknown) @ found.x)


def _rank(values: Floats) -> Floats:
    """Ranks from 0 to 1, so that folds can be put together."""
    return np.asarray(scipy.stats.rankdata(values) / (len(values) + 1))


def _area(score: Floats, truth: NDArray[np.bool_]) -> float:
    positive, negative = int(truth.sum()), int((~truth).sum())
    above = scipy.stats.rankdata(score)[truth].sum() - positive * (positive + 1) / 2
    return float(above / (positive * negative))
