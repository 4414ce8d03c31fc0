"""NIQE: how far the statistics of a frame are from those of a camera's pristine frames.

Mittal, Soundararajan and Bovik, "Making a completely blind image quality analyzer", IEEE Signal
Processing Letters 20(3), 2013. The published model is of photographs; what is natural to a thermal
camera is something else, so the model here is fitted on frames of one's own.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from scipy.special import gamma

from synth.disk.npz import read_npz
from synth.errors import NoiseError, QualityError
from synth.frames import Frame
from synth.inspect.quality import Floats, normalise, to_own_range

FEATURES = 36
"""Features of a patch: 18 at each of two scales."""

SIDE = 32
"""Default side of a patch, pixels: 64 patches in a frame of 256x256."""

_LEAST_SIDE = 16

# Exponents that are told apart; a normal distribution has 2.
_EXPONENTS = np.geomspace(0.2, 10.0, 10_000)
_RATIOS = gamma(2 / _EXPONENTS) ** 2 / (gamma(1 / _EXPONENTS) * gamma(3 / _EXPONENTS))


@dataclass(frozen=True, eq=False)
class NiqeModel:
    """The features of the sharp patches of pristine frames.

    Attributes
    ----------
    side : int
        Side of the patches, pixels.
    mean, covariance : (36,) and (36, 36) ndarray of float64
    frames, patches : int
        How many it was fitted on.
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
    """Fit a model on the features of pristine frames.

    Parameters
    ----------
    patches : iterable of (n, 36) ndarray of float64
        One entry a frame, `pristine_features` of it with the same `side`.
    side : int
        Side of the patches, pixels.

    Raises
    ------
    QualityError
        There are too few patches for a covariance of 36 features.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> frames = [rng.integers(0, 4096, (128, 128)).astype(np.uint16) for _ in range(8)]
    >>> model = fit_niqe([pristine_features(frame, 32) for frame in frames], 32)
    >>> blurred = cv2.GaussianBlur(frames[0], (0, 0), 2)
    >>> niqe(model, frames[0]) < niqe(model, blurred)
    True
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

    Parameters
    ----------
    model : NiqeModel
    frame : (H, W) ndarray of uint8 or uint16
        Its own range counts, not its depth.

    Returns
    -------
    float
        0 or more, less is better; NaN for a frame without any texture.

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
    """Measure the sharp patches of a pristine frame, which a model is fitted on.

    A patch is sharp when its mean local deviation is more than 0.75 of the greatest in the frame
    (Mittal et al., 2013, section II.B).

    Returns
    -------
    (n, 36) ndarray of float64
        As those of `patch_features`; none for a frame without texture.

    Raises
    ------
    QualityError
        The frame is smaller than two patches a side.
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
        Samples along the last axis.

    Returns
    -------
    exponent, mean, left, right : (...) ndarray of float64
        2 for a normal distribution, 1 for Laplace's, found between 0.2 and 10; mean, 0 where both
        sides are alike; scale β of the negative and the positive side. NaN where all samples are
        of one sign or 0.
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
