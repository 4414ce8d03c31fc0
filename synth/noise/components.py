"""The seven components of a sequence's noise.

A sequence of a scene that does not change is the sum of a mean and of seven noises: one for every
way to depend on time, row and column (J. D'Agostino and C. Webb, "Three-dimensional analysis
framework and measurement methodology for imaging system noise", SPIE 1488, 1991). Their variances
are those of an analysis of variance with three random factors and no repetition.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from synth.errors import NoiseError
from synth.frames import Frame

COMPONENTS = ("tvh", "vh", "tv", "th", "t", "v", "h")
"""Time t, row v, column h: ``tvh`` differs from pixel to pixel and frame to frame, ``v`` is a
pattern of rows that stays."""

LAGS = 8
"""Greatest distance, in pixels and in frames, over which temporal noise is taken to correlate."""

Floats = NDArray[np.float64]

_ROUNDING = 1 / 12

# A pixel is bad whose noise over time differs from the others' by more than so many standard
# deviations of what chance explains, or that ever strays so many σ.
_ODD_NOISE, _ODD_VALUE = 6.0, 8.0

# What a model file holds beside σ and errors: dimensions and kind of each array.
_PLAIN = {
    "mean": (0, "f"),
    "kurtosis": (0, "f"),
    "correlation": (2, "f"),
    "bad": (2, "b"),
    "frames": (0, "i"),
    "depth": (0, "i"),
}


@dataclass(frozen=True)
class NoiseComponents:
    """What `measure_components` finds.

    Attributes
    ----------
    sigma, error : mapping of str to float
        Standard deviation of each of `COMPONENTS` and its standard error, DN. Where the estimated
        variance is not above 0, σ is 0 and the error is the σ that would stand out of it.
    mean : float
        DN.
    kurtosis : float
        Excess kurtosis of the ``tvh`` noise, 0 for normal noise.
    correlation : (3, LAGS + 1) ndarray of float64
        Autocorrelation of the ``tvh`` noise at lags 0 to `LAGS` along time, rows and columns.
    bad : (H, W) ndarray of bool
        Pixels that were left out.
    frames : int
        Their number.
    depth : int
        Bits of their type, 8 or 16.
    """

    sigma: Mapping[str, float]
    error: Mapping[str, float]
    mean: float
    kurtosis: float
    correlation: Floats
    bad: NDArray[np.bool_]
    frames: int
    depth: int

    def to_bytes(self) -> bytes:
        """The components as an ``.npz`` file; the same bytes for the same components."""
        buffer = io.BytesIO()
        columns: dict[str, Any] = {
            name: np.array([getattr(self, name)[component] for component in COMPONENTS])
            for name in ("sigma", "error")
        }
        np.savez(buffer, **columns, **{name: getattr(self, name) for name in _PLAIN})
        return buffer.getvalue()


def measure_components(sequence: NDArray[np.integer]) -> NoiseComponents:
    """Measure the seven components of a sequence's noise.

    Bad pixels are found first and replaced by their neighbours' mean. Variances are mean squares
    over their degrees of freedom, less what finer components leave in the means of coarser ones,
    which for temporal noise that correlates from pixel to pixel is more than for white noise, and
    less the twelfth of a squared DN that rounding adds to ``tvh`` (W. Sheppard, 1898).
    Standard errors are those of normal components, but that of ``tvh`` goes by its own kurtosis.

    A scene that has structure has it in ``v``, ``h`` and ``vh``: from one scene alone nobody can
    tell these from a fixed pattern of the sensor.

    Parameters
    ----------
    sequence : (T, H, W) ndarray of uint8 or uint16
        Frames of one scene by a fixed camera, DN.

    Returns
    -------
    NoiseComponents

    Raises
    ------
    NoiseError
        There are fewer than 4 frames, or fewer than 16 rows or columns.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> rows, frames = rng.normal(0, 4, (1, 64, 1)), rng.normal(1000, 3, (50, 64, 80))
    >>> found = measure_components(np.rint(frames + rows).astype(np.uint16))
    >>> round(found.sigma["tvh"], 1), abs(found.sigma["v"] - 4) < 3 * found.error["v"]
    (3.0, True)
    """
    if sequence.ndim != 3 or sequence.shape[0] < 4 or min(sequence.shape[1:]) < 16:
        shape = "x".join(map(str, sequence.shape))
        raise NoiseError(
            f"a sequence of shape {shape}: at least 4 frames of at least 16x16 pixels are needed"
        )
    bad = find_bad_pixels(sequence)
    values = fill_pixels(sequence, bad)
    parts = _split(values)
    size = dict(zip("tvh", values.shape, strict=True))
    good = 1 - bad.mean()
    correlation = _correlate(parts["tvh"])
    spread = {axis: _inflate(row, size[axis]) for axis, row in zip("tvh", correlation, strict=True)}

    square, freedom = {}, {}
    for name, part in parts.items():
        freedom[name] = float(np.prod([size[axis] - 1 for axis in name]))
        square[name] = float((part**2).sum()) / freedom[name]
    # A mean over correlated values takes more of their variance with it than one over n free ones.
    taken = np.prod([1 - (spread[axis] - 1) / (size[axis] - 1) for axis in "tvh"])
    square["tvh"] /= good * float(taken)
    freedom["tvh"] *= good
    kurtosis = _excess(parts["tvh"][:, ~bad])

    sigma, error = {}, {}
    for name in COMPONENTS:
        variance = doubt = 0.0
        for other in COMPONENTS:
            if not set(name) <= set(other):
                continue
            share = (-1.0) ** (len(other) - len(name))
            for axis in set(other) - set(name):
                share *= (spread[axis] if other == "tvh" else 1.0) / size[axis]
            variance += share * square[other]
            tails = 1 + kurtosis / 2 if other == "tvh" else 1.0
            doubt += share**2 * 2 * square[other] ** 2 / freedom[other] * max(tails, 0.1)
        if name == "tvh":
            variance -= _ROUNDING
        sigma[name] = float(np.sqrt(max(variance, 0.0)))
        wide = float(np.sqrt(doubt))
        error[name] = wide / (2 * sigma[name]) if variance > wide else float(np.sqrt(wide))
    return NoiseComponents(
        sigma=sigma,
        error=error,
        mean=float(values.mean()),
        kurtosis=kurtosis,
        correlation=correlation,
        bad=bad,
        frames=len(sequence),
        depth=8 * sequence.dtype.itemsize,
    )


def measure_gain(sequences: Sequence[NoiseComponents]) -> tuple[float, float]:
    """Measure how temporal noise grows with intensity: the photon transfer curve.

    Parameters
    ----------
    sequences : sequence of NoiseComponents
        Of one camera before flat fields of several intensities.

    Returns
    -------
    gain, error : float
        Slope of σ_tvh² over the mean, DN² per DN, and its standard error.

    Raises
    ------
    NoiseError
        There are fewer than two intensities.
    """
    mean = np.array([one.mean for one in sequences])
    if len(mean) < 2 or np.ptp(mean) <= 0:
        raise NoiseError("the gain needs sequences of at least two intensities")
    sigma = np.array([one.sigma["tvh"] for one in sequences])
    # Where a σ is too small to be told from 0, its error is that of its square's root.
    doubt = np.maximum(2 * sigma, 1e-6) * np.array([one.error["tvh"] for one in sequences])
    weight = 1 / np.maximum(doubt, 1e-9) ** 2
    centre = weight @ mean / weight.sum()
    square = weight @ (mean - centre) ** 2
    slope = float(weight @ ((mean - centre) * sigma**2) / square)
    return slope, float(1 / np.sqrt(square))


def components_from(found: Mapping[str, NDArray[Any]], path: Path) -> NoiseComponents:
    """Make of the arrays that `NoiseComponents.to_bytes` has written what they were.

    Raises
    ------
    NoiseError
        They are not of that kind; the message names `path`.
    """
    what = "a noise model; make one with `synth noise-model FRAMES --sequence --out MODEL.npz`"
    wanted = {"sigma": (1, "f"), "error": (1, "f")} | _PLAIN
    sound = found.keys() >= wanted.keys() and all(
        (found[name].ndim, found[name].dtype.kind) == of for name, of in wanted.items()
    )
    if (
        not sound
        or found["sigma"].shape != (len(COMPONENTS),)
        or found["error"].shape != (len(COMPONENTS),)
        or found["correlation"].shape != (3, LAGS + 1)
        or found["depth"] not in (8, 16)
        or not all(np.isfinite(found[name]).all() for name in wanted)
        or found["sigma"].min() < 0
    ):
        raise NoiseError(f"{path}: is not {what}")
    return NoiseComponents(
        sigma=dict(zip(COMPONENTS, found["sigma"].tolist(), strict=True)),
        error=dict(zip(COMPONENTS, found["error"].tolist(), strict=True)),
        mean=float(found["mean"]),
        kurtosis=float(found["kurtosis"]),
        correlation=found["correlation"],
        bad=found["bad"],
        frames=int(found["frames"]),
        depth=int(found["depth"]),
    )


def find_bad_pixels(sequence: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Find pixels whose noise over time is not that of the others.

    What whole frames, rows or columns do in a frame is taken off by medians. Then a pixel is bad
    whose variance over time is far from the median of its surroundings, dead ones among them, or
    that strays far from its own median in any frame, as blinking ones do.

    Parameters
    ----------
    sequence : (T, H, W) ndarray of uint8 or uint16

    Returns
    -------
    (H, W) ndarray of bool
    """
    values = sequence.astype(np.float64)
    values -= np.median(values, 0)
    values -= np.median(values, (1, 2), keepdims=True)
    values -= np.median(values, 2, keepdims=True)
    values -= np.median(values, 1, keepdims=True)
    variance = values.var(0, ddof=1)
    # The logarithm of a variance of n normal values has a standard deviation of √(2 / (n − 1)).
    # Quantisation keeps it above a twelfth where values change at all.
    level = np.log(variance + _ROUNDING)
    usual = cv2.medianBlur(level.astype(np.float32), 5).astype(np.float64)
    away = level - usual
    scale = max(
        1.4826 * float(np.median(np.abs(away - np.median(away)))),
        float(np.sqrt(2 / (len(sequence) - 1))),
    )
    strays = np.abs(values).max(0) > _ODD_VALUE * np.sqrt(np.exp(usual))
    return np.asarray((np.abs(away) > _ODD_NOISE * scale) | strays)


def fill_pixels(sequence: NDArray[np.integer], bad: NDArray[np.bool_]) -> Floats:
    """Replace pixels by the mean of their good neighbours, frame by frame.

    Parameters
    ----------
    sequence : (T, H, W) ndarray of uint8 or uint16
    bad : (H, W) ndarray of bool

    Returns
    -------
    (T, H, W) ndarray of float64

    Raises
    ------
    NoiseError
        All pixels are bad.
    """
    if bad.all():
        raise NoiseError("no pixel has noise like its neighbours; is this one sequence?")
    values = sequence.astype(np.float64)
    known = ~bad
    while not known.all():
        weight = cv2.blur(known.astype(np.float64), (3, 3), borderType=cv2.BORDER_CONSTANT)
        ready = ~known & (weight > 1e-9)
        for frame in values:
            near = cv2.blur(np.where(known, frame, 0.0), (3, 3), borderType=cv2.BORDER_CONSTANT)
            frame[ready] = near[ready] / weight[ready]
        known |= ready
    return values


def generate_sequence(
    components: NoiseComponents,
    shape: tuple[int, int, int],
    rng: np.random.Generator,
) -> Frame:
    """Make a sequence of pure noise that has the components of another one.

    All components are normal; the ``tvh`` noise correlates along rows and columns as measured.

    Parameters
    ----------
    components : NoiseComponents
    shape : tuple of int
        (T, H, W).
    rng : numpy.random.Generator

    Returns
    -------
    (T, H, W) ndarray of uint8 or uint16
        DN around the mean, rounded, and clipped at the range of the type that was measured.
    """
    total = np.full(shape, components.mean)
    for name in COMPONENTS:
        size = [n if axis in name else 1 for axis, n in zip("tvh", shape, strict=True)]
        field = rng.standard_normal(size)
        if name == "tvh":
            for axis in (1, 2):
                field = _colour(field, components.correlation[axis], axis)
        total += components.sigma[name] * field
    dtype = np.uint8 if components.depth == 8 else np.uint16
    return np.rint(total).clip(0, np.iinfo(dtype).max).astype(dtype)


def _split(values: Floats) -> dict[str, Floats]:
    """The deviations that belong to each component, with axes of length 1 where it has none."""
    axes = {"t": 0, "v": 1, "h": 2}
    parts: dict[str, Floats] = {}
    rest = values - values.mean()
    for name in ("t", "v", "h", "tv", "th", "vh"):
        over = tuple(axes[axis] for axis in "tvh" if axis not in name)
        part = rest.mean(over, keepdims=True)
        parts[name] = part
        # Means over an axis of what is left are 0, so the order does not matter.
        rest = rest - part
    parts["tvh"] = rest
    return parts


def _correlate(residual: Floats) -> Floats:
    """Autocorrelation along each axis, freed of what the subtracted means take off."""
    power = float((residual**2).mean())
    found = np.zeros((3, LAGS + 1))
    found[:, 0] = 1
    for axis, length in enumerate(residual.shape):
        lags = np.arange(1, min(LAGS, length // 4) + 1)
        if power == 0:
            continue
        moved = np.moveaxis(residual, axis, 0)
        raw = np.array([(moved[lag:] * moved[:-lag]).mean() / power for lag in lags])
        # Taking the mean of n values off lowers every autocovariance by σ² c / n, that at lag 0
        # too, with c = 1 + 2 Σ ρ (1 − k / n). In units of what is left at lag 0 that is x.
        weight = 2 * (1 - lags / length)
        x = (1 + weight @ raw) / (length - 1 - weight.sum())
        found[axis, lags] = (raw + x) / (1 + x)
    return found


def _inflate(correlation: Floats, length: int) -> float:
    """How much greater the variance of a mean of so many values is than that of white noise."""
    lags = np.arange(len(correlation))
    weight = np.where(lags == 0, 1.0, 2 * np.maximum(1 - lags / length, 0))
    return max(float(weight @ correlation), 0.0)


def _colour(field: Floats, correlation: Floats, axis: int) -> Floats:
    """Filter white noise so that it correlates along an axis as given, its variance unchanged."""
    length = field.shape[axis]
    frequency = np.fft.rfftfreq(length)
    lags = np.arange(1, len(correlation))
    spectrum = 1 + 2 * np.cos(2 * np.pi * np.outer(frequency, lags)) @ correlation[1:]
    gain = np.sqrt(spectrum.clip(0))
    gain /= np.sqrt(np.fft.irfft(gain**2, length)[0])
    shaped = gain.reshape([-1 if a == axis else 1 for a in range(field.ndim)])
    return np.asarray(np.fft.irfft(np.fft.rfft(field, axis=axis) * shaped, length, axis=axis))


def _excess(values: Floats) -> float:
    square = float((values**2).mean())
    return float((values**4).mean()) / square**2 - 3 if square > 0 else 0.0
