"""Mean-subtracted, contrast-normalised coefficients: what no-reference scores look at.

In an undistorted picture these are close to normal, whatever it shows; blur, noise and compression
change their distribution (Ruderman, Network 1994; Mittal, Moorthy and Bovik, IEEE TIP 2012).
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from synth.frames import Frame

Floats = NDArray[np.float64]

# The window of Mittal et al. (2012): 7x7 pixels, cut at three standard deviations.
_WINDOW, _SIGMA = (7, 7), 7 / 6

# On the scale 0 to 255. Less than this is the rounding of sums, which must not become a sign.
_ROUNDING = 1e-6


class Normalised(NamedTuple):
    """A frame without its local mean and contrast.

    Attributes
    ----------
    coefficients : (H, W) ndarray of float64
        (I − μ) / (σ + 1).
    deviation : (H, W) ndarray of float64
        The local standard deviation σ.
    """

    coefficients: Floats
    deviation: Floats


def to_own_range(frame: Frame) -> Floats:
    """Bring a frame to the scale 0 to 255 by its own range, so that gain and offset drop out.

    The 0.1 percentile becomes 0 and the 99.9 percentile 255, which a few hot pixels or a small
    target do not move; nothing is clipped or rounded. The published scores have constants for
    8-bit photographs, which fill their range; thermal frames do not.

    Parameters
    ----------
    frame : (H, W) ndarray of uint8 or uint16

    Returns
    -------
    (H, W) ndarray of float64
        Dimensionless; 0 everywhere for a constant frame.

    Examples
    --------
    >>> import numpy as np
    >>> frame = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    >>> bool(np.allclose(to_own_range(frame), to_own_range(7 * frame + 1000)))
    True
    """
    low, high = np.percentile(frame, (0.1, 99.9))
    if high <= low:
        low, high = float(frame.min()), float(frame.max())
    return (frame.astype(np.float64) - low) * (255.0 / ((high - low) or 1.0))


def normalise(values: Floats) -> Normalised:
    """Compute the mean-subtracted, contrast-normalised coefficients of a picture.

    (I − μ) / (σ + C) with C = 1 on the scale 0 to 255, μ and σ weighted by a normal window of 7x7
    pixels and standard deviation 7/6; edge pixels are repeated beyond the border (Mittal, Moorthy
    and Bovik, IEEE TIP 2012, equations 1 to 3).

    Parameters
    ----------
    values : (H, W) ndarray of float64
        On the scale 0 to 255, see `to_own_range`.

    Returns
    -------
    Normalised
    """
    mean = _blur(values)
    centred = values - mean
    centred[np.abs(centred) < _ROUNDING] = 0.0
    deviation = np.sqrt(np.maximum(_blur(values * values) - mean * mean, 0.0))
    return Normalised(centred / (deviation + 1.0), deviation)


def _blur(values: Floats) -> Floats:
    blurred = cv2.GaussianBlur(values, _WINDOW, _SIGMA, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(blurred, np.float64)
