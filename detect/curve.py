"""What a detector does as its threshold moves: the ROC, and Pd over Fa."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detect.matching import Protocol
from detect.metrics import Tally, measure_at
from synth.frames import Mask

FALSE_ALARM_RATES = (1e-6, 1e-5, 1e-4)
"""Fa, as a share of all pixels, at which the literature compares detectors."""

# Equal steps of log-odds over all that single precision tells apart from 0 and 1: dense at both
# ends, where false alarms are few or targets dim.
THRESHOLDS: tuple[float, ...] = tuple((1 / (1 + np.exp(-np.arange(-16, 16.5, 0.5)))).tolist())
"""Thresholds from 1.1e-7 to 1 - 1.1e-7, with 0.5 among them."""


class OperatingPoint(NamedTuple):
    """Where a detector keeps its false alarms below a limit.

    Attributes
    ----------
    fa : float
        The limit, as a share of all pixels.
    pd : float or None
        The greatest Pd within it: 0 where every threshold has a greater Fa, as a threshold above
        all probabilities has none; None without targets.
    threshold : float or None
        The highest that reaches it; None where there is none.
    """

    fa: float
    pd: float | None
    threshold: float | None


@dataclass(frozen=True)
class Curve:
    """What one image, or the sum of many, contributes at each of several thresholds.

    Attributes
    ----------
    thresholds : tuple of float
    tallies : tuple of Tally
        One per threshold, without histograms.
    """

    thresholds: tuple[float, ...]
    tallies: tuple[Tally, ...]

    def __add__(self, other: Curve) -> Curve:
        if self.thresholds != other.thresholds:
            raise ValueError("curves over different thresholds do not add up")
        sums = tuple(a + b for a, b in zip(self.tallies, other.tallies, strict=True))
        return Curve(self.thresholds, sums)

    def rows(self) -> list[dict[str, float | None]]:
        """List the scores at each threshold.

        Returns
        -------
        list of dict
            ``threshold``; ``fpr`` and ``tpr``, the point of the ROC curve of pixels: shares of
            background and of target pixels that are predicted; and the scores of `Tally.scores`
            but for ``auc``.
        """
        rows = []
        for threshold, tally in zip(self.thresholds, self.tallies, strict=True):
            scores = tally.scores()
            del scores["auc"]
            background = tally.pixels - tally.truth
            fpr = (tally.found - tally.both) / background if background else None
            rows.append({"threshold": threshold, "fpr": fpr, "tpr": scores["recall"]} | scores)
        return rows

    def operating_point(self, fa: float) -> OperatingPoint:
        """Find the greatest Pd among the thresholds whose Fa is at most `fa`."""
        allowed = [
            (tally.matched / tally.targets, threshold)
            for threshold, tally in zip(self.thresholds, self.tallies, strict=True)
            if tally.targets and tally.false_pixels <= fa * tally.pixels
        ]
        if allowed:
            return OperatingPoint(fa, *max(allowed))
        return OperatingPoint(fa, 0.0 if self.tallies[0].targets else None, None)


def measure_curve(
    probability: Mask | NDArray[np.floating],
    truth: Mask,
    protocol: Protocol = "strict",
    thresholds: Sequence[float] = THRESHOLDS,
) -> Curve:
    """Measure one image at every threshold.

    Parameters
    ----------
    probability : (H, W) ndarray of float
        0 to 1.
    truth : (H, W) ndarray of bool
        The label.
    protocol
        See `detect.metrics.measure`.
    thresholds : sequence of float
        At least one.

    Returns
    -------
    Curve

    Raises
    ------
    ValueError
        The prediction is a mask, the two shapes differ, or a probability is not between 0 and 1.
    """
    if probability.dtype == np.bool_:
        raise ValueError("a curve needs probabilities, not a mask")
    return Curve(tuple(thresholds), measure_at(probability, truth, thresholds, protocol))
