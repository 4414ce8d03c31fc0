"""PIQE: how much of what catches the eye in a frame is distorted.

Venkatanath, Praneeth, Chandrasekhar, Channappayya and Medasani, "Blind image quality evaluation
using perception based features", National Conference on Communications (NCC), 2015. There is
nothing to train.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from synth.frames import Frame
from synth.inspect.mscn import normalise, to_own_range

Floats = NDArray[np.float64]

_BLOCK = 16
_SEGMENT = 6
_ACTIVE_VARIANCE = 0.1
_FLAT_DEVIATION = 0.1


def piqe(frame: Frame) -> float:
    """Score a frame: the mean distortion of its active blocks of 16x16 pixels, in percent.

    A block of normalised coefficients is active when its variance v is above 0.1. It has artefacts
    when 6 pixels in a row on one of its edges have a standard deviation below 0.1, which counts
    1 − v, and noise when σ > 2β, which counts v; both count 1. β = |r − σ| / max(r, σ) compares
    the block's σ = √v with the ratio r of the standard deviations of its two middle columns and of
    the others. The score is 100 (1 + Σ) / (1 + number of active blocks), all variances with
    ddof 1. Frames whose sides are no multiples of 16 are mirrored beyond their
    right and lower border.

    Smooth blocks count as artefacts, and a little noise takes that from them: over thermal frames
    of sky the score falls before it rises with noise. Read it beside NIQE.

    Parameters
    ----------
    frame : (H, W) ndarray of uint8 or uint16
        Its own range counts, not its depth, see `synth.inspect.mscn.to_own_range`.

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
    blocks = _blocks(to_own_range(frame))
    variance = blocks.var((1, 2), ddof=1)
    active = variance > _ACTIVE_VARIANCE
    blocks, variance = blocks[active], variance[active]
    distortion = np.where(_has_artefacts(blocks), 1 - variance, 0.0)
    distortion += np.where(_has_noise(blocks, np.sqrt(variance)), variance, 0.0)
    return float(100 * (distortion.sum() + 1) / (len(blocks) + 1))


def _blocks(values: Floats) -> Floats:
    """Cut the normalised coefficients of a picture into (n, 16, 16) blocks."""
    below, right = (-length % _BLOCK for length in values.shape)
    coefficients = normalise(np.pad(values, ((0, below), (0, right)), "symmetric")).coefficients
    rows, cols = (length // _BLOCK for length in coefficients.shape)
    grid = coefficients.reshape(rows, _BLOCK, cols, _BLOCK)
    return grid.swapaxes(1, 2).reshape(-1, _BLOCK, _BLOCK)


def _has_artefacts(blocks: Floats) -> NDArray[np.bool_]:
    edges = np.stack([blocks[:, 0], blocks[:, -1], blocks[:, :, 0], blocks[:, :, -1]], axis=1)
    segments = np.lib.stride_tricks.sliding_window_view(edges, _SEGMENT, axis=2)
    flat: NDArray[np.bool_] = (segments.std(-1, ddof=1) < _FLAT_DEVIATION).any((1, 2))
    return flat


def _has_noise(blocks: Floats, deviation: Floats) -> NDArray[np.bool_]:
    middle = slice(_BLOCK // 2 - 1, _BLOCK // 2 + 1)
    centre = blocks[:, :, middle].std((1, 2), ddof=1)
    around = np.delete(blocks, middle, axis=2).std((1, 2), ddof=1)
    ratio = np.divide(centre, around, out=np.zeros_like(centre), where=around > 0)
    beta = np.abs(ratio - deviation) / np.maximum(ratio, deviation)
    noisy: NDArray[np.bool_] = deviation > 2 * beta
    return noisy
