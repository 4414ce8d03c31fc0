"""Judge anything that turns frames into masks or probabilities."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detect.errors import DetectError
from detect.matching import Protocol
from detect.metrics import Tally, measure
from synth.dataset import Dataset
from synth.frames import Frame, Mask

Predict = Callable[[Frame], Mask | NDArray[np.floating]]


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
