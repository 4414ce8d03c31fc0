"""The field's metrics, without state: one record per image, and records add up.

>>> import numpy as np
>>> truth = np.zeros((8, 8), bool)
>>> truth[2:4, 2:4] = True
>>> found = np.zeros((8, 8), bool)
>>> found[2:4, 2:5] = True
>>> tally = measure(found, truth) + measure(truth, truth)
>>> scores = tally.scores()
>>> scores["iou"], scores["pd"], scores["fa"]
(0.8, 1.0, 0.0)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import trapezoid

from detect.matching import (
    Components,
    Protocol,
    false_alarm_pixels,
    find_components,
    find_contacts,
    hierarchical_iou,
    scan_components,
)
from synth.frames import Mask

Scores = dict[str, float | None]

# Levels of the score histogram: log-odds from -16 to 16 in steps of 1/128, fine enough to keep
# the grey levels of an 8-bit probability image apart, and as fine near 0 and 1 as networks need.
_LIMIT, _STEPS = 16.0, 128
_LEVELS = int(2 * _LIMIT * _STEPS) + 1


@dataclass(frozen=True)
class Tally:
    """What one image, or the sum of many, contributes to the metrics.

    Attributes
    ----------
    images, pixels : int
        Images and their pixels.
    both, found, truth : int
        Pixels in prediction and label, in the prediction, in the label.
    iou_sum, iou_images : float, int
        Sum of the images' own IoU, and how many images have one (some target pixel, in the label
        or the prediction).
    targets, matched : int
        Label components, and those that a predicted component answers.
    false_pixels : int
        Pixels of predicted components that answer none.
    components : int
        Predicted components.
    pairs, pair_iou_sum : int, float
        Pairs of hIoU, and the sum of their IoU.
    levels : (2, L) ndarray of int64, or None
        Histogram of the log-odds over background and target pixels; None for masks, which have
        no levels.
    """

    images: int = 0
    pixels: int = 0
    both: int = 0
    found: int = 0
    truth: int = 0
    iou_sum: float = 0.0
    iou_images: int = 0
    targets: int = 0
    matched: int = 0
    false_pixels: int = 0
    components: int = 0
    pairs: int = 0
    pair_iou_sum: float = 0.0
    levels: NDArray[np.int64] | None = None

    def __add__(self, other: Tally) -> Tally:
        sums = {
            f.name: getattr(self, f.name) + getattr(other, f.name)
            for f in fields(self)
            if f.name != "levels"
        }
        levels = (
            self.levels + other.levels
            if self.levels is not None and other.levels is not None
            else (other.levels if not self.images else self.levels if not other.images else None)
        )
        return Tally(**sums, levels=levels)

    def scores(self) -> Scores:
        """Compute every metric, as fractions; None where undefined.

        Returns
        -------
        dict
            ``iou``: intersection over union of all pixels. ``niou``: mean of the images' IoU;
            images with no target pixel in label and prediction have none. ``pd``: matched over
            all targets. ``fa``: pixels of unmatched components over all pixels. ``hiou``:
            [TP / (TP + FP + FN)] · [mean IoU of the pairs] over the components of all images
            (Pang et al., NeurIPS 2025; the pairs are those of
            `detect.matching.hierarchical_iou`). ``precision``, ``recall``, ``f1``: of pixels.
            ``target_precision``, ``target_recall``, ``target_f1``: the same of targets, where a
            true positive is a target with the component that answers it; the recall is Pd by
            another name. ``auc``: area under the ROC curve of pixels; None for masks.
        """
        union = self.found + self.truth - self.both
        objects = self.targets + self.components - self.pairs
        quality = _ratio(self.pair_iou_sum, self.pairs) or 0.0
        return {
            "iou": _ratio(self.both, union),
            "niou": _ratio(self.iou_sum, self.iou_images),
            "pd": _ratio(self.matched, self.targets),
            "fa": _ratio(self.false_pixels, self.pixels),
            "hiou": self.pairs / objects * quality if objects else None,
            "precision": _ratio(self.both, self.found),
            "recall": _ratio(self.both, self.truth),
            "f1": _ratio(2 * self.both, self.found + self.truth),
            "target_precision": _ratio(self.matched, self.components),
            "target_recall": _ratio(self.matched, self.targets),
            "target_f1": _ratio(2 * self.matched, self.components + self.targets),
            "auc": self._auc(),
        }

    def roc(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Compute the ROC curve of pixels.

        Returns
        -------
        false_rate, true_rate, thresholds : (L + 1,) ndarray of float64
            Shares of background and of target pixels whose probability is at or above each
            threshold; thresholds fall from above 1 to 0.

        Raises
        ------
        ValueError
            The tally is of masks, or one of the two classes has no pixel.
        """
        if self.levels is None or not self.levels.sum(axis=1).all():
            raise ValueError("a ROC curve needs probabilities, and pixels of both classes")
        rates = np.cumsum(self.levels[:, ::-1], axis=1) / self.levels.sum(axis=1, keepdims=True)
        rates = np.concatenate([np.zeros((2, 1)), rates], axis=1)
        log_odds = np.arange(_LEVELS)[::-1] / _STEPS - _LIMIT
        thresholds = np.concatenate([[np.inf], 1 / (1 + np.exp(-log_odds))])
        return rates[0], rates[1], thresholds

    def _auc(self) -> float | None:
        if self.levels is None or not self.levels.sum(axis=1).all():
            return None
        false_rate, true_rate, _ = self.roc()
        return float(trapezoid(true_rate, false_rate))


def measure(
    prediction: Mask | NDArray[np.floating],
    truth: Mask,
    protocol: Protocol = "strict",
    threshold: float = 0.5,
) -> Tally:
    """Measure one image.

    Parameters
    ----------
    prediction : (H, W) ndarray of bool, or of float
        A mask, or probabilities from 0 to 1.
    truth : (H, W) ndarray of bool
        The label.
    protocol : {"strict", "basicirstd", "dnanet"}
        Rules of Pd and Fa; see `detect.matching`.
    threshold : float
        A pixel is target where its probability is greater; unused for a mask.

    Returns
    -------
    Tally

    Raises
    ------
    ValueError
        The two shapes differ, or a probability is not between 0 and 1.
    """
    require_comparable(prediction, truth)
    tally = _compare(to_mask(prediction, threshold), find_components(truth), protocol)
    if prediction.dtype == np.bool_:
        return tally
    return replace(tally, levels=count_log_odds(prediction, truth))


def measure_at(
    probability: Mask | NDArray[np.floating],
    truth: Mask,
    thresholds: Sequence[float],
    protocol: Protocol = "strict",
) -> tuple[Tally, ...]:
    """Measure one image at several thresholds; what they share is done once.

    Parameters
    ----------
    probability : (H, W) ndarray of float
        0 to 1.
    truth : (H, W) ndarray of bool
        The label.
    thresholds : sequence of float
        In any order; see `to_mask`.
    protocol
        See `measure`.

    Returns
    -------
    tuple of Tally
        One per threshold, as `measure` gives it but for the histogram, which they would share.

    Raises
    ------
    ValueError
        The two shapes differ, or a probability is not between 0 and 1.
    """
    require_comparable(probability, truth)
    targets = find_components(truth)
    tallies: dict[float, Tally] = {}
    tally, count = Tally(), -1
    for threshold in sorted(set(thresholds)):
        mask = to_mask(probability, threshold)
        # Masks shrink as the threshold rises, so one of as many pixels is the same one.
        if count != (count := int(np.count_nonzero(mask))):
            tally = _compare(mask, targets, protocol)
        tallies[threshold] = tally
    return tuple(tallies[threshold] for threshold in thresholds)


def to_mask(prediction: Mask | NDArray[np.floating], threshold: float) -> Mask:
    """Decide which pixels are predicted, those above the threshold; a mask is returned as it is.

    The threshold is rounded to the precision of the probabilities, as torch does it.
    """
    if prediction.dtype == np.bool_:
        return cast(Mask, prediction)
    return np.greater(prediction, float(threshold))


def count_log_odds(probability: NDArray[Any], truth: Mask) -> NDArray[np.int64]:
    """Count background and target pixels by the log-odds of their probability, `Tally.levels`."""
    # Single precision keeps the levels of a 16-bit image apart, and is several times as fast.
    p = probability if probability.dtype == np.float32 else probability.astype(np.float64)
    with np.errstate(divide="ignore"):
        log_odds = np.clip(np.log(p) - np.log1p(-p), -_LIMIT, _LIMIT)
    level = np.rint((log_odds + _LIMIT) * _STEPS).astype(np.int32)
    level += truth * np.int32(_LEVELS)
    return np.bincount(level.ravel(), minlength=2 * _LEVELS).reshape(2, _LEVELS)


def require_comparable(prediction: NDArray[Any], truth: Mask) -> None:
    """Refuse what is not of its label's shape, and what is no probability, with a ValueError."""
    if prediction.shape != truth.shape:
        raise ValueError(f"a prediction of {prediction.shape} cannot answer {truth.shape}")
    if prediction.size and not (prediction.min() >= 0 and prediction.max() <= 1):
        raise ValueError("probabilities must lie between 0 and 1")


def _compare(mask: Mask, targets: Components, protocol: Protocol) -> Tally:
    found = scan_components(mask)
    contacts = find_contacts(targets, found)
    both, positive, label = sum(contacts.shared.values()), found.pixel_count, targets.pixel_count
    union = positive + label - both
    matched = [component for _, component in contacts.match(protocol)]
    pair_iou = hierarchical_iou(targets, found, contacts)
    return Tally(
        images=1,
        pixels=mask.size,
        both=both,
        found=positive,
        truth=label,
        iou_sum=both / union if union else 0.0,
        iou_images=int(union > 0),
        targets=len(targets),
        matched=len(matched),
        false_pixels=false_alarm_pixels(found, matched, protocol),
        components=len(found),
        pairs=len(pair_iou),
        pair_iou_sum=sum(pair_iou),
    )


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
