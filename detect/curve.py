"""What a detector does as its threshold moves: Pd over Fa, precision over recall."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detect.matching import Protocol
from detect.metrics import Tally, measure_at
from synth.frames import Mask

FALSE_ALARM_RATES = (1e-6, 1e-5, 1e-4)
"""Fa, as a share of all pixels, at which the literature compares detectors."""

# Equal steps of log-odds, dense at both ends, where false alarms are few or targets dim.
THRESHOLDS: tuple[float, ...] = tuple((1 / (1 + np.exp(-np.arange(-10, 10.5, 0.5)))).tolist())
"""Thresholds from 4.5e-5 to 1 - 4.5e-5, with 0.5 among them."""


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
        """List ``threshold``, ``pd``, ``fa``, ``precision``, ``recall``; the last two of pixels."""
        rows = []
        for threshold, tally in zip(self.thresholds, self.tallies, strict=True):
            scores = tally.scores()
            row: dict[str, float | None] = {"threshold": threshold}
            rows.append(row | {key: scores[key] for key in ("pd", "fa", "precision", "recall")})
        return rows

    def pd_at(self, false_alarm_rate: float) -> float | None:
        """Find the greatest Pd among the thresholds whose Fa is at most `false_alarm_rate`.

        Returns
        -------
        float or None
            0 where every threshold has a greater Fa, as a threshold above all probabilities has
            none; None without targets.
        """
        if not self.tallies[0].targets:
            return None
        allowed = [
            row["pd"] or 0.0
            for row in self.rows()
            if row["fa"] is not None and row["fa"] <= false_alarm_rate
        ]
        return max(allowed, default=0.0)


def measure_curve(
    probability: NDArray[np.floating],
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

    Returns
    -------
    Curve

    Raises
    ------
    ValueError
        The prediction is a mask, or the two shapes differ.
    """
    if probability.dtype == np.bool_:
        raise ValueError("a curve needs probabilities, not a mask")
    return Curve(tuple(thresholds), measure_at(probability, truth, thresholds, protocol))
