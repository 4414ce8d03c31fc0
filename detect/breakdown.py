"""Which targets are found: by their size, how far they stand out, and how near to a border."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from detect.matching import Protocol, find_components, find_contacts, scan_components
from detect.metrics import require_comparable, to_mask
from synth.frames import Frame, Mask
from synth.targets import find_targets, local_scr

Quality = Literal["area", "scr", "border"]

EDGES: dict[Quality, tuple[float, ...]] = {
    # Squares of 3, 5 and 7 pixels, and the 80 pixels (0.12% of 256 x 256) up to which SPIE calls
    # a target small.
    "area": (1, 10, 26, 50, 81),
    "scr": (0, 1, 2, 4, 8),
    "border": (0, 8, 16, 32, 64),
}
"""Where the bins begin, in pixels, as a ratio, and in pixels; each ends where the next begins."""

_COLUMNS = 5


@dataclass(frozen=True)
class Breakdown:
    """Sums over the targets of one image, or of many, by bins.

    Attributes
    ----------
    quality : {"area", "scr", "border"}
        What the bins are of.
    sums : (B + 1, 5) ndarray of float64
        Per bin: targets, those that are answered, their pixels, those of them that are predicted,
        and the sum of the answered targets' IoU with their answer. The last row is of targets
        whose quality is undefined: there is no background around them.
    """

    quality: Quality
    sums: NDArray[np.float64]

    def __add__(self, other: Breakdown) -> Breakdown:
        if self.quality != other.quality:
            raise ValueError(f"targets by {self.quality} and by {other.quality} do not add up")
        return Breakdown(self.quality, self.sums + other.sums)

    def rows(self) -> list[dict[str, float | None]]:
        """List the bins that hold targets.

        Returns
        -------
        list of dict
            ``from`` and ``below`` bound the bin (``below`` is None for the last one, both are for
            targets whose quality is undefined), ``targets`` counts. ``pd``: share of the targets
            that are answered. ``recall``: share of the targets' pixels that are predicted.
            ``iou``: mean over the answered targets of the overlap with their answer; None where
            there are none.
        """
        starts = EDGES[self.quality]
        bounds = [*zip(starts, [*starts[1:], None], strict=True), (None, None)]
        rows: list[dict[str, float | None]] = []
        for (start, end), sums in zip(bounds, self.sums.tolist(), strict=True):
            targets, matched, pixels, covered, iou_sum = sums
            if targets:
                rows.append(
                    {
                        "from": start,
                        "below": end,
                        "targets": int(targets),
                        "pd": matched / targets,
                        "recall": covered / pixels,
                        "iou": iou_sum / matched if matched else None,
                    }
                )
        return rows


def break_down(
    prediction: Mask | NDArray[np.floating],
    truth: Mask,
    quality: Quality,
    frame: Frame | None = None,
    protocol: Protocol = "strict",
    threshold: float = 0.5,
) -> Breakdown:
    """Sort the targets of one image into bins.

    Parameters
    ----------
    prediction, truth, protocol, threshold
        See `detect.metrics.measure`.
    quality : {"area", "scr", "border"}
        Pixels of the target, its `synth.targets.local_scr` in `frame`, or the distance of its
        centroid from the nearest border of the image, in pixels.
    frame : (H, W) ndarray of uint8 or uint16, optional
        Needed for ``scr``.

    Returns
    -------
    Breakdown

    Raises
    ------
    ValueError
        Shapes differ, or ``scr`` is asked for without a frame.
    """
    require_comparable(prediction, truth)
    targets = find_components(truth)
    found = scan_components(to_mask(prediction, threshold))
    if quality == "area":
        values = targets.areas.astype(np.float64)
    elif quality == "border":
        away = np.array(truth.shape)[:, None] - 1 - targets.centroids
        values = np.minimum(targets.centroids, away).min(0)
    elif frame is not None:
        # In raster order too.
        values = np.array([local_scr(frame, truth, target) for target in find_targets(truth)])
    else:
        raise ValueError("the signal-to-clutter ratio of a target needs its frame")
    starts = EDGES[quality]
    bins = np.searchsorted(starts, values, side="right") - 1
    bins[np.isnan(values)] = len(starts)
    contacts = find_contacts(targets, found)
    columns = np.zeros((len(targets), _COLUMNS))
    counted, matched, pixels, covered, iou_sum = columns.T
    counted[:] = 1
    pixels[:] = targets.areas
    for (target, _), shared in contacts.shared.items():
        covered[target] += shared
    for target, component in contacts.match(protocol):
        matched[target] = 1
        iou_sum[target] = contacts.iou.get((target, component), 0.0)
    sums = np.zeros((len(starts) + 1, _COLUMNS))
    np.add.at(sums, bins, columns)
    return Breakdown(quality, sums)
