"""How good frames are without a reference: NIQE, PIQE, information, contrast, what targets gained.

NIQE is the distance of a frame's statistics from those of pristine frames (Mittal, Soundararajan
and Bovik, "Making a completely blind image quality analyzer", IEEE Signal Processing Letters 20(3),
2013). The published model is of photographs; what is natural to a thermal camera is something else,
so the model here is fitted on frames of one's own.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.special import gamma

from synth.disk.npz import read_npz
from synth.errors import NoiseError, QualityError
from synth.frames import Frame
from synth.noise.sampling import window_statistics
from synth.targets import Signal

Floats = NDArray[np.float64]

FEATURES = 36
"""Features of a patch: 18 at each of two scales."""

SIDE = 32
"""Default side of a patch, pixels: 64 patches in a frame of 256x256."""

_LEAST_SIDE = 16

# Exponents that are told apart; a normal distribution has 2.
_EXPONENTS = np.geomspace(0.2, 10.0, 10_000)
_RATIOS = gamma(2 / _EXPONENTS) ** 2 / (gamma(1 / _EXPONENTS) * gamma(3 / _EXPONENTS))

# PIQE's blocks and segments, windows of local contrast, pixels; bins of entropy.
_BLOCK, _SEGMENT, _WINDOW, _BINS = 16, 6, 9, 256


def to_own_range(frame: Frame) -> Floats:
    """Bring a frame to the scale 0 to 255 by its own range, so that gain and offset drop out.

    The 0.1 percentile becomes 0 and the 99.9 percentile 255, which a few hot pixels or a small
    target do not move; nothing is clipped or rounded. The published scores have constants for
    8-bit photographs, which fill their range; thermal frames do not. A constant frame is 0.
    """
    low, high = np.percentile(frame, (0.1, 99.9))
    if high <= low:
        low, high = float(frame.min()), float(frame.max())
    return (frame.astype(np.float64) - low) * (255.0 / ((high - low) or 1.0))


def normalise(values: Floats) -> tuple[Floats, Floats]:
    """Compute the mean-subtracted, contrast-normalised coefficients of a picture.

    (I − μ) / (σ + 1), μ and σ weighted by a normal window of 7x7 pixels and standard deviation 7/6;
    edge pixels are repeated beyond the border (Mittal, Moorthy and Bovik, IEEE TIP 2012, equations
    1 to 3). In an undistorted picture they are close to normal, whatever it shows. Takes
    (H, W) values on the scale 0 to 255, see `to_own_range`, and returns the coefficients and σ.
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
    of sky the score falls before it rises with noise. Read it beside NIQE. Less is better: 0 to
    100, and rarely a little outside; 100 for a frame without active blocks. The frame's own range
    counts, not its depth.
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
    """Shannon entropy of the distribution of a frame's DN: 0 for a constant frame to 8 bits.

    −Σ p log₂ p over a histogram with one bin a DN where the frame spans 256 DN or fewer, as any
    8-bit frame does; else over 256 bins of equal width from its least to its greatest DN, as one
    bin a DN would count pixels rather than grey values.
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
    """Mean local RMS contrast of a frame, DN; NaN for a frame smaller than the window.

    The population standard deviation of DN in every window of 9x9 pixels that is inside the
    frame, averaged over the windows: RMS contrast (Peli, J. Opt. Soc. Am. A 7, 1990) taken
    locally (Frazor and Geisler, Vision Research 46, 2006), but not divided by the mean, as the DN
    of thermal cameras have no absolute zero.
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
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = np.float64(after.scr) / before.scr
        return float(gain), float(np.float64(before.clutter) / after.clutter)


@dataclass(frozen=True, eq=False)
class NiqeModel:
    """Mean (36,) and covariance (36, 36) of the features of the sharp patches of pristine frames.

    `side` is that of the patches, in pixels; it was fitted on so many `frames` and `patches`.
    """

    side: int
    mean: Floats
    covariance: Floats
    frames: int
    patches: int

    def to_bytes(self) -> bytes:
        """The model as an ``.npz`` file; the same bytes for the same model."""
        buffer = io.BytesIO()
        np.savez(buffer, **vars(self))
        return buffer.getvalue()


def load_niqe(path: Path | str) -> NiqeModel:
    """Read what `NiqeModel.to_bytes` has written; nothing in the file is executed (no pickle).

    Raises
    ------
    QualityError
        The file is absent, damaged, or not of that kind.
    """
    path = Path(path)
    what = "a NIQE model; make one with `synth quality FRAMES --fit-niqe MODEL.npz`"
    try:
        found = read_npz(path, what)
    except NoiseError as error:
        raise QualityError(str(error)) from None
    arrays = {"mean": (FEATURES,), "covariance": (FEATURES, FEATURES)}
    shapes = {"side": (), **arrays, "frames": (), "patches": ()}
    sound = found.keys() >= shapes.keys() and all(
        found[name].shape == shape
        and found[name].dtype.kind == ("f" if shape else "i")
        and bool(np.isfinite(found[name]).all())
        for name, shape in shapes.items()
    )
    if not sound or found["side"] < _LEAST_SIDE or found["side"] % 2:
        raise QualityError(f"{path}: is not {what}")
    mean, covariance = (found[name].astype(np.float64) for name in arrays)
    side, frames, patches = (int(found[name]) for name in ("side", "frames", "patches"))
    return NiqeModel(side, mean, covariance, frames, patches)


def fit_niqe(patches: Iterable[Floats], side: int) -> NiqeModel:
    """Fit a model on pristine frames, given the `pristine_features` of each with the same `side`.

    Raises
    ------
    QualityError
        There are too few patches for a covariance of 36 features.
    """
    found = list(patches)
    features = np.concatenate([np.empty((0, FEATURES)), *found])
    if len(features) <= FEATURES:
        raise QualityError(
            f"{len(found)} frames have {len(features)} sharp patches of {side}x{side} pixels, and "
            f"NIQE needs more than {FEATURES}; give more frames, or a smaller side"
        )
    return NiqeModel(side, features.mean(0), np.cov(features.T), len(found), len(features))


def niqe(model: NiqeModel, frame: Frame) -> float:
    """Score a frame: the distance of its statistics from those of pristine frames.

    √((ν₁ − ν₂)ᵀ ((Σ₁ + Σ₂) / 2)⁻¹ (ν₁ − ν₂)) between the normal distributions of the features
    of pristine patches and of all patches of the frame (Mittal et al., 2013, equation 10).
    Small frames have few patches, which alone makes scores greater: compare frames of one size.
    Less is better, from 0 on; NaN for a frame without any texture.

    Raises
    ------
    QualityError
        The frame is smaller than two patches a side.
    """
    features, _ = patch_features(frame, model.side)
    features = features[np.isfinite(features).all(1)]
    if not len(features):
        return float("nan")
    away = features.mean(0) - model.mean
    own = np.cov(features.T) if len(features) > 1 else np.zeros_like(model.covariance)
    spread = (model.covariance + own) / 2
    return float(np.sqrt(max(away @ np.linalg.pinv(spread, hermitian=True) @ away, 0.0)))


def pristine_features(frame: Frame, side: int) -> Floats:
    """The `patch_features` of the sharp patches of a pristine frame, which a model is fitted on.

    A patch is sharp when its mean local deviation is more than 0.75 of the greatest in the frame
    (Mittal et al., 2013, section II.B); a frame without texture has none.
    """
    features, deviation = patch_features(frame, side)
    return features[(deviation > 0.75 * deviation.max()) & np.isfinite(features).all(1)]


def patch_features(frame: Frame, side: int) -> tuple[Floats, Floats]:
    """Measure the patches of a frame at full and at half size.

    At each scale two features are the shape and scale of a generalised Gaussian distribution that
    is fitted to the patch's normalised coefficients, and four for each of the neighbours to the
    right, below and on both diagonals are exponent, mean, left and right scale of the asymmetric
    one that is fitted to the products with that neighbour (Mittal et al., 2013, section II.C).

    Parameters
    ----------
    frame : (H, W) ndarray of uint8 or uint16
    side : int
        Side of the square patches, pixels; even, 16 or more. As many as fit are evenly spread, so
        that they reach all four borders.

    Returns
    -------
    features : (n, 36) ndarray of float64
        NaN where the patch has nothing to fit, as where it is constant.
    deviation : (n,) ndarray of float64
        Mean local standard deviation of each patch in 1/255 of the frame's range.

    Raises
    ------
    QualityError
        The frame is smaller than two patches a side.
    """
    height, width = frame.shape
    if min(height, width) < 2 * side:
        raise QualityError(
            f"a frame of {height}x{width} pixels is too small for NIQE with patches of side "
            f"{side}, which needs {2 * side}x{2 * side}"
        )
    starts = []
    for length in (height, width):
        count = length // side
        gaps = np.arange(count) * (length - count * side) // max(count - 1, 1)
        # On even pixels, which half the size has too.
        starts.append(np.arange(count) * side + gaps // 2 * 2)

    def cut(values: Floats, scale: int) -> Floats:
        size = side // scale
        windows = np.lib.stride_tricks.sliding_window_view(values, (size, size))
        return windows[np.ix_(*(start // scale for start in starts))].reshape(-1, size, size)

    full = to_own_range(frame)
    even = full[: height // 2 * 2, : width // 2 * 2]
    half = cv2.resize(even, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    whole, deviation = normalise(full)
    small, _ = normalise(np.asarray(half, np.float64))
    features = np.concatenate([_features(cut(whole, 1)), _features(cut(small, 2))], axis=1)
    return features, cut(deviation, 1).mean((1, 2))


def _features(patches: Floats) -> Floats:
    """The 18 features of each of (n, s, s) patches of normalised coefficients."""
    count = len(patches)
    columns = list(fit_symmetric_shape(patches.reshape(count, -1)))
    for here, there in (
        (patches[:, :, :-1], patches[:, :, 1:]),
        (patches[:, :-1], patches[:, 1:]),
        (patches[:, :-1, :-1], patches[:, 1:, 1:]),
        (patches[:, :-1, 1:], patches[:, 1:, :-1]),
    ):
        columns += fit_shape((here * there).reshape(count, -1))
    return np.stack(columns, axis=1)


def fit_shape(samples: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Fit an asymmetric generalised Gaussian distribution with its mode at 0, by its moments.

    (γ̂³ + 1)(γ̂ + 1) / (γ̂² + 1)² E|x|² / E x² with γ̂ = σ_l / σ_r is a function of the exponent
    alone (Lasmar, Stitou and Berthoumieu, IEEE ICIP 2009), which is solved for.

    Parameters
    ----------
    samples : (..., k) ndarray of float64

    Returns
    -------
    exponent, mean, left, right : (...) ndarray of float64
        The exponent is 2 for a normal distribution, found between 0.2 and 10; left and right are
        the scales β of both sides. NaN where all samples are of one sign or 0.
    """
    negative, positive = np.minimum(samples, 0.0), np.maximum(samples, 0.0)
    below, above = _squares(negative), _squares(positive)
    count = samples.shape[-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        left = np.sqrt(below / np.count_nonzero(negative, axis=-1))
        right = np.sqrt(above / np.count_nonzero(positive, axis=-1))
        lean = left / right
        ratio = (positive.sum(-1) - negative.sum(-1)) ** 2 / (count * (below + above))
        ratio = ratio * (lean**3 + 1) * (lean + 1) / (lean**2 + 1) ** 2
    exponent, scale = _solve(ratio)
    left, right = left * scale, right * scale
    return exponent, (right - left) * (gamma(2 / exponent) / gamma(1 / exponent)), left, right


def fit_symmetric_shape(samples: Floats) -> tuple[Floats, Floats]:
    """Fit the exponent and the scale of a generalised Gaussian distribution to samples.

    As `fit_shape` with both sides alike (Sharifi and Leon-Garcia, IEEE TCSVT 1995).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.sqrt(_squares(samples) / samples.shape[-1])
        exponent, scale = _solve(np.abs(samples).mean(-1) ** 2 / spread**2)
    return exponent, spread * scale


def _solve(ratio: Floats) -> tuple[Floats, Floats]:
    """The exponent of a ratio of moments, and the scale β of standard deviation 1."""
    exponent = np.asarray(np.interp(ratio, _RATIOS, _EXPONENTS))
    return exponent, np.sqrt(gamma(1 / exponent) / gamma(3 / exponent))


def _squares(samples: Floats) -> Floats:
    return np.asarray(np.einsum("...i,...i->...", samples, samples))
