"""NIQE: how far the statistics of a frame lie from those of a camera's pristine frames.

Mittal, Soundararajan and Bovik, "Making a completely blind image quality analyzer", IEEE Signal
Processing Letters 20(3), 2013. The published model is of photographs; what is natural to a thermal
camera is something else, so the model here is fitted on frames of one's own.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.special import gamma

from synth.disk.npz import read_npz
from synth.errors import NoiseError, QualityError
from synth.frames import Frame
from synth.inspect.mscn import normalise, to_own_range

Floats = NDArray[np.float64]

FEATURES = 36
"""Features of a patch: 18 at each of two scales."""

SIDE = 32
"""Default side of a patch, pixels: 64 patches in a frame of 256x256."""

_SHARPNESS = 0.75
_LEAST_SIDE = 16

# Shapes that are told apart; a normal distribution has 2.
_SHAPES = np.geomspace(0.2, 10.0, 10_000)
_RATIOS = gamma(2 / _SHAPES) ** 2 / (gamma(1 / _SHAPES) * gamma(3 / _SHAPES))


class Shape(NamedTuple):
    """An asymmetric generalised Gaussian distribution with its mode at 0.

    Attributes
    ----------
    exponent : ndarray of float64
        2 for a normal distribution, 1 for Laplace's; found between 0.2 and 10.
    left, right : ndarray of float64
        Scale β of the negative and the positive side.
    """

    exponent: Floats
    left: Floats
    right: Floats

    @property
    def mean(self) -> Floats:
        """The distribution's mean, 0 where both sides are alike."""
        ratio = gamma(2 / self.exponent) / gamma(1 / self.exponent)
        return np.asarray((self.right - self.left) * ratio)


@dataclass(frozen=True, eq=False)
class NiqeModel:
    """What pristine frames of a camera look like.

    Attributes
    ----------
    side : int
        Side of the patches, pixels.
    mean : (36,) ndarray of float64
    covariance : (36, 36) ndarray of float64
        Of the features of sharp patches.
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
        np.savez(
            buffer,
            side=self.side,
            mean=self.mean,
            covariance=self.covariance,
            frames=self.frames,
            patches=self.patches,
        )
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
    shapes = {
        "side": (),
        "mean": (FEATURES,),
        "covariance": (FEATURES, FEATURES),
        "frames": (),
        "patches": (),
    }
    sound = found.keys() >= shapes.keys() and all(
        found[name].shape == shape
        and found[name].dtype.kind == ("f" if shape else "i")
        and bool(np.isfinite(found[name]).all())
        for name, shape in shapes.items()
    )
    if not sound or found["side"] < _LEAST_SIDE or found["side"] % 2:
        raise QualityError(f"{path}: is not {what}")
    return NiqeModel(
        side=int(found["side"]),
        mean=found["mean"].astype(np.float64),
        covariance=found["covariance"].astype(np.float64),
        frames=int(found["frames"]),
        patches=int(found["patches"]),
    )


def fit_niqe(patches: Iterable[Floats], side: int) -> NiqeModel:
    """Fit a model on the features of pristine frames.

    Parameters
    ----------
    patches : iterable of (n, 36) ndarray of float64
        One entry a frame, `pristine_features` of it with the same `side`.
    side : int
        Side of the patches, pixels.

    Returns
    -------
    NiqeModel

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


def pristine_features(frame: Frame, side: int, sharpness: float = _SHARPNESS) -> Floats:
    """Measure the sharp patches of a pristine frame, which a model is fitted on.

    Parameters
    ----------
    frame : (H, W) ndarray of uint8 or uint16
    side : int
        See `patch_features`.
    sharpness : float
        A patch counts when its mean local deviation is more than this share of the greatest in
        the frame (Mittal et al., 2013, section II.B).

    Returns
    -------
    (n, 36) ndarray of float64
        None for a frame without texture.

    Raises
    ------
    QualityError
        See `patch_features`.
    """
    features, deviation = patch_features(frame, side)
    sharp = (deviation > sharpness * deviation.max()) & np.isfinite(features).all(1)
    return features[sharp]


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
        Side of the square patches, pixels; even, 16 or more. As many as fit lie evenly spread, so
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
    ValueError
        The side is odd or less than 16.
    """
    if side < _LEAST_SIDE or side % 2:
        raise ValueError(f"a patch of side {side} is not even, or less than {_LEAST_SIDE}")
    height, width = frame.shape
    if min(height, width) < 2 * side:
        raise QualityError(
            f"a frame of {height}x{width} pixels is too small for NIQE with patches of side "
            f"{side}, which needs {2 * side}x{2 * side}"
        )
    rows, cols = _spread(height, side), _spread(width, side)
    full = to_own_range(frame)
    half = cv2.resize(
        full[: height // 2 * 2, : width // 2 * 2],
        (width // 2, height // 2),
        interpolation=cv2.INTER_AREA,
    )
    whole, small = normalise(full), normalise(np.asarray(half, np.float64))
    features = np.concatenate(
        [
            _features(_cut(whole.coefficients, rows, cols, side)),
            _features(_cut(small.coefficients, rows // 2, cols // 2, side // 2)),
        ],
        axis=1,
    )
    return features, _cut(whole.deviation, rows, cols, side).mean((1, 2))


def fit_shape(samples: Floats) -> Shape:
    """Fit an asymmetric generalised Gaussian distribution to samples, by its moments.

    (γ̂³ + 1)(γ̂ + 1) / (γ̂² + 1)² E|x|² / E x² with γ̂ = σ_l / σ_r is a function of the exponent
    alone (Lasmar, Stitou and Berthoumieu, IEEE ICIP 2009), which is solved for.

    Parameters
    ----------
    samples : (..., k) ndarray of float64
        Samples along the last axis.

    Returns
    -------
    Shape
        Of shape (...); NaN where all samples are of one sign or 0.
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
    return _shape(ratio, left, right)


def fit_symmetric_shape(samples: Floats) -> Shape:
    """Fit a generalised Gaussian distribution to samples, by its moments.

    As `fit_shape` with both sides alike (Sharifi and Leon-Garcia, IEEE TCSVT 1995).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.sqrt(_squares(samples) / samples.shape[-1])
        ratio = np.abs(samples).mean(-1) ** 2 / spread**2
    return _shape(ratio, spread, spread)


def _shape(ratio: Floats, left: Floats, right: Floats) -> Shape:
    exponent = np.interp(ratio, _RATIOS, _SHAPES)
    scale = np.sqrt(gamma(1 / exponent) / gamma(3 / exponent))
    return Shape(np.asarray(exponent), np.asarray(left * scale), np.asarray(right * scale))


def _squares(samples: Floats) -> Floats:
    return np.asarray(np.einsum("...i,...i->...", samples, samples))


def _features(patches: Floats) -> Floats:
    """The 18 features of each of (n, s, s) patches of normalised coefficients."""
    count = len(patches)
    single = fit_symmetric_shape(patches.reshape(count, -1))
    columns = [single.exponent, single.left]
    for here, there in (
        (patches[:, :, :-1], patches[:, :, 1:]),
        (patches[:, :-1], patches[:, 1:]),
        (patches[:, :-1, :-1], patches[:, 1:, 1:]),
        (patches[:, :-1, 1:], patches[:, 1:, :-1]),
    ):
        product = fit_shape((here * there).reshape(count, -1))
        columns += [product.exponent, product.mean, product.left, product.right]
    return np.stack(columns, axis=1)


def _spread(length: int, side: int) -> NDArray[np.intp]:
    """First pixels of as many windows as fit, evenly spread, on even pixels."""
    count = length // side
    steps = np.arange(count)
    gaps = steps * (length - count * side) // max(count - 1, 1)
    return steps * side + gaps // 2 * 2


def _cut(values: Floats, rows: NDArray[np.intp], cols: NDArray[np.intp], side: int) -> Floats:
    windows = np.lib.stride_tricks.sliding_window_view(values, (side, side))
    return windows[np.ix_(rows, cols)].reshape(-1, side, side)
