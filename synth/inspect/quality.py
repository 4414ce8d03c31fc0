"""What can be said of a frame without a model: PIQE, information, contrast, what targets gained."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from synth.frames import Frame
from synth.noise.sampling import window_statistics
from synth.targets import Signal

Floats = NDArray[np.float64]

_BLOCK, _SEGMENT = 16, 6
_WINDOW = 9
_BINS = 256


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


def normalise(values: Floats) -> tuple[Floats, Floats]:
    """Compute the mean-subtracted, contrast-normalised coefficients of a picture.

    (I − μ) / (σ + 1), μ and σ weighted by a normal window of 7x7 pixels and standard deviation 7/6;
    edge pixels are repeated beyond the border (Mittal, Moorthy and Bovik, IEEE TIP 2012, equations
    1 to 3). In an undistorted picture they are close to normal, whatever it shows.

    Parameters
    ----------
    values : (H, W) ndarray of float64
        On the scale 0 to 255, see `to_own_range`.

    Returns
    -------
    coefficients, deviation : (H, W) ndarray of float64
        The latter is σ.
    """
    mean, square = (
        np.asarray(cv2.GaussianBlur(of, (7, 7), 7 / 6, borderType=cv2.BORDER_REPLICATE), np.float64)
        for of in (values, values * values)
    )
    centred = values - mean
    # The rounding of sums must not become a sign.
    centred[np.abs(centred) < 1e-6] = 0.0
    deviation = np.sqrt(np.maximum(square - mean * mean, 0.0))
    return centred / (deviation + 1.0), deviation


def piqe(frame: Frame) -> float:
    """PIQE: the mean distortion of a frame's active blocks of 16x16 pixels, in percent.

    A block of normalised coefficients is active when its variance v is above 0.1. It has artefacts
    when 6 pixels in a row on one of its edges have a standard deviation below 0.1, which counts
    1 − v, and noise when σ > 2β, which counts v; both count 1. β = |r − σ| / max(r, σ) compares
    the block's σ = √v with the ratio r of the standard deviations of its two middle columns and of
    the others. The score is 100 (1 + Σ) / (1 + number of active blocks), all variances with
    ddof 1. Frames whose sides are no multiples of 16 are mirrored beyond their right and lower
    border (Venkatanath, Praneeth, Chandrasekhar, Channappayya and Medasani, NCC 2015).

    Smooth blocks count as artefacts, and a little noise takes that from them: over thermal frames
    of sky the score falls before it rises with noise. Read it beside NIQE.

    Parameters
    ----------
    frame : (H, W) ndarray of uint8 or uint16
        Its own range counts, not its depth, see `to_own_range`.

    Returns
    -------
    float
        Less is better: 0 to 100, and rarely a little outside; 100 for a frame without active
        blocks.

    Examples
    --------
    >>> import numpy as np
    >>> piqe(np.full((64, 64), 7, np.uint8))
    100.0
    """
    beyond = [(0, -length % _BLOCK) for length in frame.shape]
    grid, _ = normalise(np.pad(to_own_range(frame), beyond, "symmetric"))
    grid = grid.reshape(-1, _BLOCK, grid.shape[1] // _BLOCK, _BLOCK)
    blocks = grid.swapaxes(1, 2).reshape(-1, _BLOCK, _BLOCK)
    variance = blocks.var((1, 2), ddof=1)
    active = variance > 0.1
    blocks, variance = blocks[active], variance[active]
    edges = np.stack([blocks[:, 0], blocks[:, -1], blocks[:, :, 0], blocks[:, :, -1]], axis=1)
    segments = np.lib.stride_tricks.sliding_window_view(edges, _SEGMENT, axis=2)
    artefacts = (segments.std(-1, ddof=1) < 0.1).any((1, 2))
    middle = slice(_BLOCK // 2 - 1, _BLOCK // 2 + 1)
    centre = blocks[:, :, middle].std((1, 2), ddof=1)
    around = np.delete(blocks, middle, axis=2).std((1, 2), ddof=1)
    ratio = np.divide(centre, around, out=np.zeros_like(centre), where=around > 0)
    deviation = np.sqrt(variance)
    noisy = deviation > 2 * np.abs(ratio - deviation) / np.maximum(ratio, deviation)
    distortion = (1 - variance) * artefacts + variance * noisy
    return float(100 * (distortion.sum() + 1) / (len(blocks) + 1))


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
    if span > _BINS:
        level = level * _BINS // span
    share = np.bincount(level.ravel()) / frame.size
    share = share[share > 0]
    # Not −Σ p log p, which is −0 for a single bin.
    return float((share * np.log2(1 / share)).sum())


def local_contrast(frame: Frame) -> float:
    """Mean local RMS contrast of a frame.

    The population standard deviation of DN in every window of 9x9 pixels that lies inside the
    frame, averaged over the windows: RMS contrast (Peli, J. Opt. Soc. Am. A 7, 1990) taken
    locally (Frazor and Geisler, Vision Research 46, 2006), but not divided by the mean, as the DN
    of thermal cameras have no absolute zero.

    Parameters
    ----------
    frame : (H, W) ndarray of uint8 or uint16

    Returns
    -------
    float
        DN of the frame's depth; NaN for a frame smaller than the window.
    """
    if min(frame.shape) < _WINDOW:
        return float("nan")
    _, variance = window_statistics(frame, _WINDOW)
    return float(np.sqrt(np.maximum(variance, 0.0)).mean())


def compare_signals(before: Signal, after: Signal) -> tuple[float, float]:
    """Compare one target in the frame that went in, and in the one that came out.

    SCR gain and background suppression factor (Gao et al., IEEE TIP 2013), both over the target's
    own neighbourhood, see `synth.targets.measure_signals`; so the gain is the product of the
    suppression factor and of what the target's contrast was multiplied by.

    Returns
    -------
    scr_gain : float
        SCR_out / SCR_in; infinite or NaN where a ratio of SCRs is.
    suppression : float
        σ_in / σ_out; infinite where the background became constant, NaN where it always was.

    Examples
    --------
    >>> compare_signals(Signal(10.0, 4.0), Signal(20.0, 2.0))
    (4.0, 2.0)
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = np.float64(after.scr) / before.scr
        return float(gain), float(np.float64(before.clutter) / after.clutter)
