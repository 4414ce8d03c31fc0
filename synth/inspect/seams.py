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

_FOLDS, _PENALTY, _FEWEST = 5, 1.0, 10


def describe_border(image: Frame, box: Box) -> Floats | None:
    """Describe the band of pixels around the border of a box.

    Along each side of the box, steps from pixel to pixel across the border are compared with those
    just outside and just inside of it, and so are second differences; along the border, steps
    outside with those inside. All are ratios, so that contrast does not matter.

    Returns the features of the most and the least conspicuous side and the mean of all, or None
    where less than two sides of the box have room for the band.
    """
    top, left, bottom, right = box
    if bottom - top < 2 * _DEPTH or right - left < 2 * _DEPTH:
        return None
    around = np.pad(image.astype(np.float64), _DEPTH, constant_values=np.nan)
    around = around[top : bottom + 2 * _DEPTH, left : right + 2 * _DEPTH]
    inner = slice(_DEPTH, -_DEPTH)
    bands = (
        around[: 2 * _DEPTH, inner],
        around[: -2 * _DEPTH - 1 : -1, inner],
        around[inner, : 2 * _DEPTH].T,
        around[inner, : -2 * _DEPTH - 1 : -1].T,
    )
    sides = [_describe_side(band) for band in bands if not np.isnan(band).any()]
    if len(sides) < 2:
        return None
    found = np.sort(np.stack(sides), axis=0)
    return np.concatenate([found[-1], found[0], found.mean(0)])


def probe_seams(
    images: Sequence[Frame], boxes: Sequence[Box], labels: ArrayLike, groups: ArrayLike
) -> float:
    """Train the probe to tell two kinds of boxes apart by their borders, and evaluate it.

    A logistic regression with quadratic penalty over standardised features, five folds; the boxes
    of a group are in one fold. For each box there are its image, its kind (bool), and what it comes
    from, a source image.

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
    usable = np.array([row is not None for row in found])
    features = np.array([row for row in found if row is not None])
    truth = np.asarray(labels, bool)[usable]
    names, group = np.unique(np.asarray(groups)[usable], return_inverse=True)
    positive, negative = int(truth.sum()), int((~truth).sum())
    if min(positive, negative) < _FEWEST or len(names) < _FOLDS:
        raise ValueError(
            f"{positive} and {negative} boxes of {len(names)} images are too few to probe"
        )
    fold = np.random.default_rng(0).permutation(len(names))[group] % _FOLDS
    score = np.zeros(len(truth))
    for held in range(_FOLDS):
        known = fold != held
        odds = _classify(features[known], truth[known], features[~known])
        # Ranks from 0 to 1, so that folds can be put together.
        score[~known] = scipy.stats.rankdata(odds) / (len(odds) + 1)
    above = scipy.stats.mannwhitneyu(score[truth], score[~truth]).statistic
    return float(above / (positive * negative))


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
            _ratio(across.max(), beside.max()),
            _ratio(abs(steps[middle].mean()), beside),
            _ratio(along[middle], along[middle + 1]),
            _ratio(along[0], along[-1]),
        ]
    )


def _ratio(one: Floats | float, other: Floats | float) -> float:
    return float(np.log((np.mean(one) + _LEAST) / (np.mean(other) + _LEAST)))


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
