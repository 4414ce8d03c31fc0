"""Judge anything that turns frames into masks or probabilities."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detect.breakdown import Breakdown, Quality, break_down
from detect.curve import FALSE_ALARM_RATES, Curve, measure_curve
from detect.errors import DetectError
from detect.matching import Protocol
from detect.metrics import Tally, measure
from synth.dataset import Dataset
from synth.frames import Frame, Mask

Predict = Callable[[Frame], Mask | NDArray[np.floating]]


class Case(NamedTuple):
    """A prediction, and what it is judged by.

    Attributes
    ----------
    id : str
    prediction : (H, W) ndarray of bool, or of float
        A mask, or probabilities from 0 to 1.
    truth : (H, W) ndarray of bool
    frame : (H, W) ndarray of uint8 or uint16, or None
        None where nobody asks about it.
    """

    id: str
    prediction: Mask | NDArray[np.floating]
    truth: Mask
    frame: Frame | None


@dataclass(frozen=True)
class Rules:
    """How predictions are judged, and what is asked about them.

    Attributes
    ----------
    protocol, threshold
        See `detect.metrics.measure`.
    thresholds : tuple of float
        Those of the curve; empty for none. A curve needs probabilities.
    by : tuple of {"area", "scr", "border"}
        Also by bins of these qualities of a target.
    """

    protocol: Protocol = "strict"
    threshold: float = 0.5
    thresholds: tuple[float, ...] = ()
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
            The keys of `report`; with a curve ``pd_at_fa``, its `OperatingPoint` at each of
            `FALSE_ALARM_RATES`, and ``curve``, see `Curve.rows`; with breakdowns ``by_area``,
            ``by_scr`` and ``by_border``, see `Breakdown.rows`.
        """
        result = report(self.tally, rules.protocol, rules.threshold)
        for breakdown in self.breakdowns:
            result[f"by_{breakdown.quality}"] = breakdown.rows()
        if self.curve is not None:
            points = [self.curve.operating_point(fa) for fa in FALSE_ALARM_RATES]
            result["pd_at_fa"] = [point._asdict() for point in points]
            result["curve"] = self.curve.rows()
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
    ValueError
        See `detect.metrics.measure`; or a curve is asked for, but the prediction is a mask.

    Examples
    --------
    >>> import numpy as np
    >>> truth = np.zeros((16, 16), bool)
    >>> truth[4:7, 4:7] = True
    >>> rules = Rules(protocol="basicirstd", threshold=0.5)
    >>> verdict = judge(truth * 0.9, truth, rules)
    >>> verdict.report(rules)["iou"]
    1.0
    """
    protocol, threshold = rules.protocol, rules.threshold
    return Verdict(
        measure(prediction, truth, protocol, threshold),
        measure_curve(prediction, truth, protocol, rules.thresholds) if rules.thresholds else None,
        tuple(
            break_down(prediction, truth, quality, frame, protocol, threshold)
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

    Examples
    --------
    >>> import numpy as np
    >>> frame = np.zeros((16, 16), np.uint8)
    >>> frame[4:7, 4:7] = 200
    >>> frame[12, 12] = 90
    >>> tally = evaluate(lambda frame: frame > 50, [(frame, frame > 100)])
    >>> scores = tally.scores()
    >>> scores["pd"], scores["iou"], scores["fa"] == 1 / frame.size
    (1.0, 0.9, True)
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
        other = f"--split {' or '.join(filled)}" if filled else "another set"
        raise DetectError(f"{dataset.root}: its split {split!r} is empty; choose {other}")
    return ids
