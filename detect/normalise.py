"""From DN to what a network sees; part of the weights file, so that no one has to remember it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from synth.frames import Frame

Kind = Literal["frame", "dataset", "imagenet"]

# Means and standard deviations of ImageNet's red, green and blue, on the scale 0 to 255, which
# networks with a pretrained past are fed with.
_IMAGENET_MEAN = (123.675, 116.28, 103.53)
_IMAGENET_STD = (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class Normalisation:
    """A rule that gives every frame its own affine map.

    ``frame`` takes the frame's own mean and standard deviation, so that gain, offset and bit
    depth drop out. ``dataset`` and ``imagenet`` take fixed ones on the scale 0 to 255, onto which
    a 16-bit frame is stretched first, from its own minimum and maximum.

    Attributes
    ----------
    kind : {"frame", "dataset", "imagenet"}
    mean, std : tuple of float
        One entry per input channel, on the scale 0 to 255; 0 and 1 for ``frame``.
    """

    kind: Kind
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def channels(self) -> int:
        """Channels of the input."""
        return len(self.mean)

    def affine(self, frame: Frame) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Compute a frame's map, normalised = (DN − offset) / scale.

        Parameters
        ----------
        frame : (H, W) ndarray of uint8 or uint16
            The whole frame, not a window of it.

        Returns
        -------
        offset, scale : (C,) ndarray of float32
            In DN.
        """
        if self.kind == "frame":
            origin, unit = float(frame.mean(dtype=np.float64)), float(frame.std(dtype=np.float64))
        else:
            origin, unit = _to_eight_bits(frame)
        unit = unit or 1.0
        offset = origin + unit * np.array(self.mean)
        return offset.astype(np.float32), (unit * np.array(self.std)).astype(np.float32)

    def apply(self, frame: Frame) -> NDArray[np.float32]:
        """Normalise a whole frame to (C, H, W) float32."""
        offset, scale = self.affine(frame)
        normalised: NDArray[np.float32] = (
            frame.astype(np.float32) - offset[:, None, None]
        ) / scale[:, None, None]
        return normalised


def fit_normalisation(kind: Kind, frames: Iterable[Frame], channels: int) -> Normalisation:
    """Make the normalisation of a training set.

    Parameters
    ----------
    kind : {"frame", "dataset", "imagenet"}
    frames : iterable of (H, W) ndarray
        Training frames; looked at for ``dataset`` alone.
    channels : int
        1 or 3; with ``imagenet``, one channel takes the mean of the three.

    Returns
    -------
    Normalisation
    """
    if kind == "frame":
        return Normalisation(kind, (0.0,) * channels, (1.0,) * channels)
    if kind == "imagenet":
        if channels == 3:
            return Normalisation(kind, _IMAGENET_MEAN, _IMAGENET_STD)
        mean, std = float(np.mean(_IMAGENET_MEAN)), float(np.mean(_IMAGENET_STD))
        return Normalisation(kind, (mean,) * channels, (std,) * channels)
    count, total, squares = 0, 0.0, 0.0
    for frame in frames:
        origin, unit = _to_eight_bits(frame)
        stretched = (frame.astype(np.float64) - origin) / (unit or 1.0)
        count += stretched.size
        total += float(stretched.sum())
        squares += float((stretched**2).sum())
    mean = total / max(count, 1)
    std = float(np.sqrt(max(squares / max(count, 1) - mean**2, 0.0))) or 1.0
    return Normalisation(kind, (mean,) * channels, (std,) * channels)


def _to_eight_bits(frame: Frame) -> tuple[float, float]:
    """Return origin and unit in DN of the scale 0 to 255."""
    if frame.dtype == np.uint8:
        return 0.0, 1.0
    low, high = int(frame.min()), int(frame.max())
    return float(low), (high - low) / 255
