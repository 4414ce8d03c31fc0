"""How sure a difference between two ways to train is: a paired bootstrap over seeds and images.

A score of a run is a ratio of sums over images, as IoU = Σ intersection / Σ union. Two arms are
compared on the same images and, seed by seed, from the same labelled images on; the difference is

    D = mean over seeds s of [ R(Σ_i a_si) - R(Σ_i b_si) ]

with a_si and b_si what image i contributes for the arm and the baseline, and R the ratio. A
replicate draws as many seeds as there are, with replacement, and as many images as there are, with
replacement, takes the same draw for both arms, and computes D anew. The interval is from the 2.5th
to the 97.5th percentile of the replicates (Efron & Tibshirani, An Introduction to the Bootstrap,
1993: sections 8.4 on data of more than one level, 13.3 on percentiles).

With one seed only the images are drawn, and the interval says nothing of what another seed would
do. With few seeds it is too narrow: the spread over S seeds comes out √(1 - 1/S) times as large.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]

LEVEL = 0.95
"""Of the intervals of studies."""

# Numbers of one block of replicates at a time.
_BLOCK = 1 << 21


@dataclass(frozen=True)
class Interval:
    """A difference with its percentile interval; None where no replicate is defined.

    Attributes
    ----------
    difference, low, high : float or None
    """

    difference: float | None
    low: float | None
    high: float | None


def paired_intervals(
    arm: Sequence[Counts],
    baseline: Sequence[Counts],
    ratios: Mapping[str, tuple[int, int]],
    rng: np.random.Generator,
    *,
    crossed: bool,
    resamples: int = 2000,
    level: float = LEVEL,
) -> dict[str, Interval]:
    """Compute the differences between two arms, with intervals.

    Parameters
    ----------
    arm, baseline : sequence of (N, C) ndarray of int64
        One a seed, in the same order: what each image contributes. The images of a seed are the
        same in both.
    ratios : mapping of str to (int, int)
        Scores by name: columns of numerator and denominator.
    rng : numpy.random.Generator
    crossed : bool
        Whether the seeds have the same images, which are drawn once for all of them; otherwise
        every drawn seed draws from images of its own.
    resamples : int
    level : float
        Of the interval.

    Returns
    -------
    dict of str to Interval
    """
    seeds = len(arm)
    blocks = {name: [] for name in ratios}  # type: dict[str, list[NDArray[np.float64]]]
    size = max(1, _BLOCK // max(len(counts) for counts in arm))
    for start in range(0, resamples, size):
        count = min(size, resamples - start)
        drawn = rng.integers(seeds, size=(count, seeds))
        values = {name: np.empty((count, seeds)) for name in ratios}
        if crossed:
            weights = _draw(rng, len(arm[0]), count)
            every = [
                _differences(weights, a, b, ratios) for a, b in zip(arm, baseline, strict=True)
            ]
            for name in ratios:
                table = np.stack([found[name] for found in every], axis=1)
                values[name] = np.take_along_axis(table, drawn, axis=1)
        else:
            for place in range(seeds):
                for seed in range(seeds):
                    rows = np.flatnonzero(drawn[:, place] == seed)
                    weights = _draw(rng, len(arm[seed]), len(rows))
                    found = _differences(weights, arm[seed], baseline[seed], ratios)
                    for name in ratios:
                        values[name][rows, place] = found[name]
        for name in ratios:
            blocks[name].append(values[name].mean(axis=1))
    once = [
        _differences(np.ones((1, len(a)), np.int64), a, b, ratios)
        for a, b in zip(arm, baseline, strict=True)
    ]
    tail = (1 - level) / 2
    return {
        name: _interval(
            float(np.mean([found[name][0] for found in once])),
            np.concatenate(blocks[name]),
            tail,
        )
        for name in ratios
    }


def _draw(rng: np.random.Generator, images: int, count: int) -> NDArray[np.int64]:
    """How often each image is drawn, (count, images)."""
    return rng.multinomial(images, np.full(images, 1 / images), size=count)


def _differences(
    weights: NDArray[np.int64],
    arm: Counts,
    baseline: Counts,
    ratios: Mapping[str, tuple[int, int]],
) -> dict[str, NDArray[np.float64]]:
    sums = [weights.astype(np.float64) @ counts.astype(np.float64) for counts in (arm, baseline)]
    return {
        name: np.subtract(*(_ratio(found[:, top], found[:, bottom]) for found in sums))
        for name, (top, bottom) in ratios.items()
    }


def _ratio(top: NDArray[np.float64], bottom: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(top, bottom, out=np.full(len(top), np.nan), where=bottom > 0)


def _interval(difference: float, replicates: NDArray[np.float64], tail: float) -> Interval:
    defined = replicates[~np.isnan(replicates)]
    if np.isnan(difference) or not len(defined):
        return Interval(None, None, None)
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Interval(difference, float(low), float(high))
