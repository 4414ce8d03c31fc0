"""Judge anything that turns frames into masks or probabilities."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detect.breakdown import Breakdown, Quality, break_down
from detect.curve import FALSE_ALARM_RATES, Curve, measure_curve
from detect.errors import DetectError, PredictionError
from detect.matching import Protocol
from detect.metrics import Tally, measure
from synth.dataset import Dataset
from synth.frames import Frame, Mask

Predict = Callable[[Frame], Mask | NDArray[np.floating]]


@dataclass(frozen=True)
class Rules:
    """How predictions are judged, and what is asked about them.

    Attributes
    ----------
    protocol, threshold
        See `detect.metrics.measure`.
    curve : bool
        Also at many thresholds; needs probabilities.
    by : tuple of {"area", "scr"}
        Also by bins of these qualities of a target.
    """

    protocol: Protocol = "strict"
    threshold: float = 0.5
    curve: bool = False
    by: tuple[Quality, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """What one image, or the sum of many, contributes to everything that was asked.

    Attributes
    ----------
    tally : Tally
    curve : Curve or None
    breakdowns : tuple of Breakdown
        In the order in which they were asked for.
    """

    tally: Tally
    curve: Curve | None = None
    breakdowns: tuple[Breakdown, ...] = ()

    def __add__(self, other: Verdict) -> Verdict:
        curve = self.curve + other.curve if self.curve and other.curve else None
        sums = (a + b for a, b in zip(self.breakdowns, other.breakdowns, strict=True))
        return Verdict(self.tally + other.tally, curve, tuple(sums))

    def report(self, rules: Rules) -> dict[str, Any]:
        """List the scores as JSON has them.

        Returns
        -------
        dict
            The keys of `report`; with a curve ``pd_at_fa``, the greatest Pd by the Fa that it
            keeps below; with breakdowns ``by_area`` and ``by_scr``, see `Breakdown.rows`.
        """
        result = report(self.tally, rules.protocol, rules.threshold)
        if self.curve is not None:
            result["pd_at_fa"] = {f"{fa:g}": self.curve.pd_at(fa) for fa in FALSE_ALARM_RATES}
        for breakdown in self.breakdowns:
            result[f"by_{breakdown.quality}"] = breakdown.rows()
        return result


def judge(
    prediction: Mask | NDArray[np.floating], truth: Mask, rules: Rules, frame: Frame | None = None
) -> Verdict:
    """Answer everything that `rules` ask about one image.

    Parameters
    ----------
    prediction, truth
        See `detect.metrics.measure`.
    rules : Rules
    frame : (H, W) ndarray of uint8 or uint16, optional
        Needed for breakdowns by ``scr``.

    Returns
    -------
    Verdict

    Raises
    ------
    PredictionError
        A curve is asked for, but the prediction is a mask.
    """
    if rules.curve and prediction.dtype == np.bool_:
        raise PredictionError(
            "these predictions are masks, which have no curve; write probabilities instead"
        )
    return Verdict(
        measure(prediction, truth, rules.protocol, rules.threshold),
        measure_curve(prediction, truth, rules.protocol) if rules.curve else None,
        tuple(
            break_down(prediction, truth, quality, frame, rules.protocol, rules.threshold)
            for quality in rules.by
        ),
    )


def sum_verdicts(verdicts: Iterable[Verdict]) -> Verdict:
    """Add up the verdicts of one or more images."""
    return reduce(add, verdicts)


def evaluate(
    predict: Predict,
    pairs: Iterable[tuple[Frame, Mask]],
    protocol: Protocol = "strict",
    threshold: float = 0.5,
) -> Tally:
    """Run a detector over labelled frames and measure its answers.

    Parameters
    ----------
    predict : callable
        From a frame to its mask or its probabilities, at the frame's own size.
    pairs : iterable of (frame, mask)
    protocol, threshold
        See `detect.metrics.measure`.

    Returns
    -------
    Tally
    """
    tally = Tally()
    for frame, truth in pairs:
        tally += measure(predict(frame), truth, protocol, threshold)
    return tally


def report(tally: Tally, protocol: Protocol, threshold: float) -> dict[str, Any]:
    """List the scores with what they were counted over, as JSON has them."""
    return {
        **tally.scores(),
        "images": tally.images,
        "targets": tally.targets,
        "protocol": protocol,
        "threshold": threshold,
    }


def require_ids(dataset: Dataset, split: str) -> tuple[str, ...]:
    """Ids of a split that has some.

    Raises
    ------
    DatasetError
        There is no such split.
    DetectError
        The split is empty.
    """
    ids = dataset.ids(split)
    if not ids:
        filled = [name for name, members in dataset.splits.items() if members]
        raise DetectError(
            f"{dataset.root}: its split {split!r} is empty; choose --split {' or '.join(filled)}"
        )
    return ids
