"""Pseudo-labels: the answers of a detector, taken for labels of frames that have none.

A detector that was trained on few labelled frames finds most targets in frames that nobody has
labelled. Trained anew on both, it has seen the backgrounds of all of them (self-training: Lee, ICML
2013 workshop on representation learning; Xie et al., CVPR 2020). Frames in which it doubts are left
out: a target that is missing from a label teaches to miss, and a spot that is none teaches false
alarms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detect.predict import Detector
from synth.frames import Frame, Mask
from synth.targets import label_targets


@dataclass(frozen=True)
class Confidence:
    """When an answer is good enough to be a label.

    Attributes
    ----------
    threshold : float
        A pixel is target where its probability is greater.
    doubt : float
        A spot whose probability is somewhere greater than this is one that the detector thinks of.
    sure : float
        And here one that it is sure of. A frame with a spot in between is left out.
    """

    threshold: float = 0.5
    doubt: float = 0.2
    sure: float = 0.8


def mean_probability(detectors: Sequence[Detector], frame: Frame) -> NDArray[np.float32]:
    """Average the answers of several detectors.

    Parameters
    ----------
    detectors : sequence of Detector
        At least one.
    frame : (H, W) ndarray of uint8 or uint16

    Returns
    -------
    (H, W) ndarray of float32
        0 to 1.
    """
    total = detectors[0](frame)
    for detector in detectors[1:]:
        total = total + detector(frame)
    return total / np.float32(len(detectors))


def pseudo_label(probability: NDArray[np.floating], confidence: Confidence) -> Mask | None:
    """Make a label of an answer.

    Parameters
    ----------
    probability : (H, W) ndarray of float
        0 to 1.
    confidence : Confidence

    Returns
    -------
    (H, W) ndarray of bool or None
        None where the detector doubts.

    Examples
    --------
    >>> import numpy as np
    >>> probability = np.zeros((5, 5))
    >>> probability[2, 2] = 0.9
    >>> int(pseudo_label(probability, Confidence()).sum())
    1
    >>> probability[4, 4] = 0.4
    >>> pseudo_label(probability, Confidence()) is None
    True
    """
    count, labels = label_targets(probability > confidence.doubt)
    if count:
        peaks = np.zeros(count + 1)
        np.maximum.at(peaks, labels.ravel(), probability.ravel())
        if (peaks[1:] < confidence.sure).any():
            return None
    return probability > confidence.threshold
