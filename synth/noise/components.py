"""The seven components of a sequence's noise.

A sequence of a scene that does not change is the sum of a mean and of seven noises: one for every
way to depend on time, row and column (J. D'Agostino and C. Webb, "Three-dimensional analysis
framework and measurement methodology for imaging system noise", SPIE 1488, 1991). Their variances
are those of an analysis of variance with three random factors and no repetition.

Expected mean squares. Along axis a, with n_a values, let P_a be the projection on the mean and
Q_a = I - P_a. A component's part is the sequence under Q along its own axes and under P along the
others. The six coarser components are white, and ``tvh`` has the covariance σ² R_t ⊗ R_v ⊗ R_h
with Toeplitz matrices R_a of diagonal 1. Let

    s_a = tr(P_a R_a), the inflation of the variance of a mean, 1 for white noise, and
    q_a = tr(Q_a R_a) / (n_a - 1) = (n_a - s_a) / (n_a - 1).

The mean square of a component C, per degree of freedom and in units of the part itself, expects

    Σ σ_D² / Π(n_a: a in D, not in C), over the D that contain C, ``tvh`` left out,
    + σ² Π(q_a: a in C) Π(s_a / n_a: a not in C).

An estimate is the mean square of a component less what finer components leave in it. In units of
σ² and of Π q over its own axes, ``tvh`` still leaves

    s_a / n_a                                    where axis a is missing,
    -(q_a s_b + s_a q_b - s_a s_b) / (n_a n_b)   where a and b are, after their two finer components
                                                 are taken off; q is about 1 on long axes.

Standard errors. For normal noise a mean square over f degrees of freedom has the variance
2 E² / f if it is white. In one with the share L of ``tvh`` noise it is 2 (E² + L² (Π d_a - 1)) / f,
with d_a = (n_a - 1) tr(Q_a R_a Q_a R_a) / tr(Q_a R_a)² over the axes that it has, by which
correlation lowers the degrees of freedom. Mean squares of different components are independent, as
far as a Toeplitz matrix is a circulant one. The sampling error of s_a is that of an estimated
spectrum at frequency 0 (M. S. Bartlett, JRSS Supplement 8, 1946). Where neighbours are strongly
anticorrelated (-0.5), the errors of tv, th and t come out up to 40% too small.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from synth.errors import NoiseError
from synth.frames import Frame
from synth.noise.bank import npz_bytes

COMPONENTS = ("tvh", "vh", "tv", "th", "t", "v", "h")
"""Time t, row v, column h: ``tvh`` differs from pixel to pixel and frame to frame, ``v`` is a
pattern of rows that stays."""

LAGS = 20
"""Greatest distance, in pixels and in frames, over which temporal noise is taken to correlate, or a
quarter of an axis where that is less. What correlates farther leaks into coarser components."""

Floats = NDArray[np.float64]

_ROUNDING = 1 / 12

# Frequencies of the spectra that are made of a correlation, and the step of a numerical derivative.
_GRID = 256
_STEP = 1e-4

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
        columns = {
            name: np.array([getattr(self, name)[component] for component in COMPONENTS])
            for name in ("sigma", "error")
        }
        return npz_bytes(columns | {name: getattr(self, name) for name in _PLAIN})


class Variances(NamedTuple):
    """What `estimate_variances` finds.

    Attributes
    ----------
    variance, error : dict of str to float
        Variance of each of `COMPONENTS` and its standard error, DN². Variances are unbiased, and so
        may be below 0 by chance.
    kurtosis : float
        Excess kurtosis of the ``tvh`` noise.
    correlation : (3, LAGS + 1) ndarray of float64
        Autocorrelation of the ``tvh`` noise along time, rows and columns.
    """

    variance: dict[str, float]
    error: dict[str, float]
    kurtosis: float
    correlation: Floats


def measure_components(sequence: NDArray[np.integer]) -> NoiseComponents:
    """Measure the seven components of a sequence's noise.

    Bad pixels are found first and replaced by their neighbours' mean. Variances and their errors
    are those of `estimate_variances`.

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
    found = estimate_variances(values, bad)
    sigma, error = {}, {}
    for name in COMPONENTS:
        variance, wide = found.variance[name], found.error[name]
        sigma[name] = float(np.sqrt(max(variance, 0.0)))
        error[name] = wide / (2 * sigma[name]) if variance > wide else float(np.sqrt(wide))
    return NoiseComponents(
        sigma=sigma,
        error=error,
        mean=float(values.mean()),
        kurtosis=found.kurtosis,
        correlation=found.correlation,
        bad=bad,
        frames=len(sequence),
        depth=8 * sequence.dtype.itemsize,
    )


def estimate_variances(values: Floats, bad: NDArray[np.bool_]) -> Variances:
    """Estimate the variances of the seven components without bias, and their standard errors.

    Variances are mean squares over their degrees of freedom, less what finer components leave in
    the means of coarser ones, which for ``tvh`` noise that correlates is more than for white noise,
    and less the twelfth of a squared DN that rounding adds to ``tvh`` (W. Sheppard, 1898). The
    module's docstring has the formulas. Standard errors are those of normal components, but that of
    ``tvh`` depends on its own kurtosis.

    Parameters
    ----------
    values : (T, H, W) ndarray of float64
        Rounded DN, bad pixels filled.
    bad : (H, W) ndarray of bool
        Pixels that were filled.

    Returns
    -------
    Variances
    """
    parts = _split(values)
    correlation = _correlate(parts["tvh"])
    axes = {
        axis: _Axis.of(row, length)
        for axis, row, length in zip("tvh", correlation, values.shape, strict=True)
    }
    square, freedom = {}, {}
    for name, part in parts.items():
        freedom[name] = float(np.prod([axes[axis].length - 1 for axis in name]))
        if name in ("tvh", "vh"):
            part = part[:, ~bad]
            freedom[name] *= float(1 - bad.mean())
        square[name] = float((part**2).sum()) / freedom[name]
    fourth = float((parts["tvh"][:, ~bad] ** 4).mean())
    second = float((parts["tvh"][:, ~bad] ** 2).mean())
    kurtosis = fourth / second**2 - 3 if second > 0 else 0.0

    # The variance of each mean square. It is divided by f + 2, not f, for the square of a mean
    # square is too great by so much.
    leak = _leaks(axes)
    doubt = {}
    for name in COMPONENTS:
        share = square["tvh"] * leak[name] / leak["tvh"]
        fewer = float(np.prod([axes[axis].overlap for axis in name])) - 1
        doubt[name] = 2 * square[name] ** 2 / (freedom[name] + 2)
        doubt[name] += 2 * share**2 * fewer / freedom[name]
    doubt["tvh"] *= max(1 + kurtosis / 2, 0.1)

    variance, error = {}, {}
    for name in COMPONENTS:
        weight = _weights(name, axes)
        variance[name] = sum(share * square[other] for other, share in weight.items())
        total = sum(share**2 * doubt[other] for other, share in weight.items())
        for axis in "tvh":
            moved = axes | {axis: replace(axes[axis], spread=axes[axis].spread + _STEP)}
            slope = (_weights(name, moved)["tvh"] - weight["tvh"]) / _STEP
            width = axes[axis].doubt
            for other in "tvh".replace(axis, ""):
                width *= axes[other].overlap / (axes[other].length - 1)
            total += (slope * square["tvh"]) ** 2 * width
        error[name] = float(np.sqrt(total))
    variance["tvh"] -= _ROUNDING
    return Variances(variance, error, kurtosis, correlation)


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
        or not found["sigma"].shape == found["error"].shape == (len(COMPONENTS),)
        or found["correlation"].shape != (3, LAGS + 1)
        or found["depth"] not in (8, 16)
        or not all(np.isfinite(found[name]).all() for name in wanted)
        or found["sigma"].min() < 0
        or np.abs(found["correlation"]).max() > 1 + 1e-6
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
    for axes in (0, (1, 2), 2, 1):
        values -= np.median(values, axes, keepdims=True)
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

    All components are normal. The ``tvh`` noise correlates along rows and columns as measured, and
    is independent from frame to frame.

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
    frames, height, width = shape
    dtype = np.uint8 if components.depth == 8 else np.uint16
    parts = {}
    for name in COMPONENTS[1:]:
        size = [n if axis in name else 1 for axis, n in zip("tvh", shape, strict=True)]
        parts[name] = components.sigma[name] * rng.standard_normal(size)
    fixed = components.mean + parts["vh"][0] + parts["v"][0] + parts["h"][0]
    down, along = (_kernel(row) for row in components.correlation[1:])
    made = np.empty(shape, dtype)
    for frame in range(frames):
        white = rng.standard_normal((height + len(down) - 1, width + len(along) - 1))
        # Cropped where the filter has all its values, so that the variance is the same everywhere.
        noise = cv2.sepFilter2D(white, -1, along, down, borderType=cv2.BORDER_CONSTANT)
        noise = noise[len(down) // 2 :, len(along) // 2 :][:height, :width]
        total = fixed + parts["tv"][frame] + parts["th"][frame] + parts["t"][frame]
        total += components.sigma["tvh"] * noise
        made[frame] = np.rint(total).clip(0, np.iinfo(dtype).max)
    return made


def _split(values: Floats) -> dict[str, Floats]:
    """The deviations that belong to each component, with axes of length 1 where it has none."""
    parts: dict[str, Floats] = {}
    rest = values - values.mean()
    for name in ("t", "v", "h", "tv", "th", "vh"):
        over = tuple(number for number, axis in enumerate("tvh") if axis not in name)
        parts[name] = rest.mean(over, keepdims=True)
        # Means over an axis of what is left are 0, so the order does not matter.
        rest = rest - parts[name]
    parts["tvh"] = rest
    return parts


@dataclass(frozen=True)
class _Axis:
    """Effect of the correlation of ``tvh`` noise along one axis on means and variances.

    In the terms of the module's docstring `spread` is s, `kept` q and `overlap` d. `doubt` is the
    variance of `spread` as measured from one line of values.
    """

    length: int
    spread: float
    overlap: float
    doubt: float

    @property
    def kept(self) -> float:
        return (self.length - self.spread) / (self.length - 1)

    @classmethod
    def of(cls, correlation: Floats, length: int) -> _Axis:
        """Make it of the autocorrelation at lags 0 to `LAGS` and the number of values."""
        lags = np.arange(len(correlation))
        fade = np.where(lags == 0, 1.0, 2 * np.maximum(1 - lags / length, 0))
        sums = correlation @ _sums_of_lags(length)
        spread = max(float(sums.mean()), 0.0)
        squares = length * float(fade @ correlation**2) - 2 * float((sums**2).mean()) + spread**2
        wave = np.cos(2 * np.pi * np.outer(np.fft.fftfreq(_GRID), lags))
        spectrum = wave @ np.where(lags == 0, 1.0, 2 * correlation)
        # Only lags that were measured have an error.
        window = wave @ np.where(lags <= _most_lag(length), fade, 0.0)
        return cls(
            length=length,
            spread=spread,
            overlap=max((length - 1) * squares / (length - spread) ** 2, 1.0),
            doubt=2 * float(((window - spread) ** 2 * spectrum**2).mean()) / length,
        )


def _leaks(axes: Mapping[str, _Axis]) -> dict[str, float]:
    """Share of the variance of ``tvh`` noise in the mean square of each component."""
    return {
        name: math.prod(
            one.kept if axis in name else one.spread / one.length for axis, one in axes.items()
        )
        for name in COMPONENTS
    }


def _weights(name: str, axes: Mapping[str, _Axis]) -> dict[str, float]:
    """The weights with which mean squares add up to an unbiased estimate of a variance."""
    leak = _leaks(axes)
    if name == "tvh":
        return {"tvh": 1 / leak["tvh"]}
    weight = {
        other: float(np.prod([-1 / axes[axis].length for axis in other if axis not in name]))
        for other in COMPONENTS[1:]
        if set(name) <= set(other)
    }
    weight["tvh"] = -sum(share * leak[other] for other, share in weight.items()) / leak["tvh"]
    return weight


def _most_lag(length: int) -> int:
    """The greatest lag at which correlation along an axis of that length is measured."""
    return min(LAGS, length // 4)


def _sums_of_lags(length: int) -> Floats:
    """Row sums of the Toeplitz matrices that are 1 at lags 0 to `LAGS`, (LAGS + 1, length)."""
    place, lag = np.arange(length), np.arange(LAGS + 1)[:, None]
    sums = (place >= lag).astype(np.float64) + (place < length - lag)
    sums[0] = 1
    return sums


def _correlate(residual: Floats) -> Floats:
    """Autocorrelation along each axis, without bias from the means that were taken off."""
    found = np.zeros((3, LAGS + 1))
    found[:, 0] = 1
    for axis, length in enumerate(residual.shape):
        lags = np.arange(_most_lag(length) + 1)
        moved = np.moveaxis(residual, axis, 0)
        seen = np.array([(moved[lag:] * moved[: length - lag]).mean() for lag in lags])
        if seen[0] == 0:
            continue
        # How the autocovariance at each lag spreads over the lags when the mean is subtracted: QRQ
        # with that of the noise, R, and the projection Q. The measured one is proportional to it.
        sums = _sums_of_lags(length)[lags] / length
        left = np.array([np.eye(len(lags))[lag] - 2 * sums[:, lag:].mean(1) for lag in lags])
        left += sums.mean(1)
        system = left - np.outer(seen / seen[0], left[0])
        found[axis, lags[1:]] = np.linalg.solve(system[1:, 1:], -system[1:, 0]).clip(-1, 1)
    return found


def _kernel(correlation: Floats) -> Floats:
    """A short filter that makes white noise correlate as given, its variance unchanged.

    It is the one of least phase, from the cepstrum, for that of a correlation that ends at some lag
    ends there too (A. Oppenheim and R. Schafer, Discrete-Time Signal Processing, 1989, chapter 12).
    """
    lags = np.arange(1, len(correlation))
    wave = np.cos(2 * np.pi * np.outer(np.fft.fftfreq(_GRID), lags))
    spectrum = 1 + 2 * wave @ correlation[1:]
    # Correlation that was measured, or cut off at a lag, may have a spectrum below 0.
    cepstrum = np.fft.ifft(np.log(spectrum.clip(1e-3)) / 2).real
    cepstrum[1 : _GRID // 2] *= 2
    cepstrum[_GRID // 2 + 1 :] = 0
    kernel = np.fft.ifft(np.exp(np.fft.fft(cepstrum))).real[: 2 * len(lags) + 1]
    return np.asarray(kernel / np.sqrt(kernel @ kernel))
