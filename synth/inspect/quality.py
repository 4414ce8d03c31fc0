"""What can be said of a frame without a model: information, contrast, and what targets gained."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from synth.frames import Frame
from synth.noise.sampling import window_statistics
from synth.targets import Signal

WINDOW = 9
"""Side of the windows of `local_contrast`, pixels."""

BINS = 256
"""The most bins that `entropy` counts in."""


class Gain(NamedTuple):
    """What became of a target between two versions of a frame.

    Attributes
    ----------
    scr_gain : float
        SCR_out / SCR_in; infinite or NaN where a ratio of SCRs is.
    suppression : float
        Background suppression factor, σ_in / σ_out, over the neighbourhood of the SCR; infinite
        where the background became constant, NaN where it always was.
    """

    scr_gain: float
    suppression: float


def entropy(frame: Frame) -> float:
    """Shannon entropy of the distribution of a frame's DN.

    −Σ p log₂ p over a histogram with one bin a DN where the frame spans 256 DN or fewer, as any
    8-bit frame does; else over 256 bins of equal width from its least to its greatest DN, as one
    bin a DN would count pixels rather than grey values.

    Parameters
    ----------
    frame : (H, W) ndarray of uint8 or uint16

    Returns
    -------
    float
        Bits, 0 for a constant frame to 8.

    Examples
    --------
    >>> import numpy as np
    >>> entropy(np.array([[7, 7], [9, 9]], np.uint8))
    1.0
    """
    low = int(frame.min())
    span = int(frame.max()) - low + 1
    level = frame.astype(np.int64) - low
    if span > BINS:
        level = level * BINS // span
    share = np.bincount(level.ravel()) / frame.size
    share = share[share > 0]
    # Not −Σ p log p, which is −0 for a single bin.
    return float((share * np.log2(1 / share)).sum())


def local_contrast(frame: Frame, side: int = WINDOW) -> float:
    """Mean local RMS contrast of a frame.

    The population standard deviation of DN in every window of side×side pixels that lies inside
    the frame, averaged over the windows: RMS contrast (Peli, J. Opt. Soc. Am. A 7, 1990) taken
    locally (Frazor and Geisler, Vision Research 46, 2006), but not divided by the mean, as the DN
    of thermal cameras have no absolute zero.

    Parameters
    ----------
    frame : (H, W) ndarray of uint8 or uint16
    side : int
        Pixels.

    Returns
    -------
    float
        DN of the frame's depth; NaN for a frame smaller than the window.
    """
    if min(frame.shape) < side:
        return float("nan")
    _, variance = window_statistics(frame, side)
    return float(np.sqrt(np.maximum(variance, 0.0)).mean())


def compare_signals(before: Signal, after: Signal) -> Gain:
    """Compare one target in two versions of a frame.

    SCR gain and background suppression factor (Gao et al., IEEE TIP 2013), both over the target's
    own neighbourhood, see `synth.targets.measure_signals`; so the gain is the product of the
    suppression factor and of what the target's contrast was multiplied by.

    Parameters
    ----------
    before, after : Signal
        In the frame that went in, and in the one that came out.

    Returns
    -------
    Gain

    Examples
    --------
    >>> compare_signals(Signal(10.0, 4.0), Signal(20.0, 2.0))
    Gain(scr_gain=4.0, suppression=2.0)
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return Gain(
            float(np.float64(after.scr) / before.scr),
            float(np.float64(before.clutter) / after.clutter),
        )
