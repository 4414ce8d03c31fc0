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

An estimate is the sum of mean squares that expects the variance of its component alone.

Standard errors. For normal noise a mean square over f degrees of freedom has the variance
2 (E² + L² (Π d_a - 1)) / f, with L its share of ``tvh`` noise, by which correlation lowers the
degrees of freedom: d_a = (n_a - 1) tr(Q_a R_a Q_a R_a) / tr(Q_a R_a)² over the axes that it has.
Mean squares of different components are taken to be independent. The sampling error of s_a is that
of an estimated spectrum at frequency 0 (M. S. Bartlett, JRSS Supplement 8, 1946). Where neighbours
are strongly anticorrelated (-0.5), the errors of tv, th and t come out up to 40% too small.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from synth.errors import NoiseError
from synth.frames import Frame
from synth.noise.bank import npz_bytes
from synth.noise.records import Column, from_arrays, to_arrays

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

# The axes that each component has.
_HAS = np.array([[axis in name for axis in "tvh"] for name in COMPONENTS])

_COLUMNS = {
    "sigma": Column(keys=COMPONENTS),
    "error": Column(keys=COMPONENTS),
    "mean": Column(),
    "kurtosis": Column(),
    "correlation": Column((3, LAGS + 1), -1 - 1e-6, 1 + 1e-6),
    "bad": Column("HW", kind="b"),
    "frames": Column(kind="i"),
    "depth": Column(kind="i"),
}


@dataclass(frozen=True)
class NoiseComponents:
    """What `measure_components` finds.

    Attributes
    ----------
    sigma, error : mapping of str to float
        Standard deviation of each of `COMPONENTS` and its standard error, DN; see `to_sigma`.
    mean : float
        DN.
    kurtosis : float
        Excess kurtosis of the ``tvh`` noise, 0 for normal noise.
    correlation : (3, LAGS + 1) ndarray of float64
        Autocorrelation of the ``tvh`` noise at lags 0 to `LAGS` along time, rows and columns.
    bad : (H, W) ndarray of bool
        Pixels that were left out.
    frames, depth : int
        Number of frames, and bits of their type, 8 or 16.
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
        return npz_bytes(to_arrays(self, _COLUMNS))


def measure_components(sequence: NDArray[np.integer]) -> NoiseComponents:
    """Measure the seven components of a sequence's noise.

    Bad pixels are found first and replaced by their neighbours' mean. A scene that has structure
    has it in ``v``, ``h`` and ``vh``: one scene alone does not tell these from a fixed pattern of
    the sensor.

    Parameters
    ----------
    sequence : (T, H, W) ndarray of uint8 or uint16
        Frames of one scene by a fixed camera, DN.

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
    values = _fill(sequence, bad)
    variance, error, kurtosis, correlation = estimate_variances(values, bad)
    sigma, error = to_sigma(variance, error)
    return NoiseComponents(
        sigma=dict(zip(COMPONENTS, sigma.tolist(), strict=True)),
        error=dict(zip(COMPONENTS, error.tolist(), strict=True)),
        mean=float(values.mean()),
        kurtosis=kurtosis,
        correlation=correlation,
        bad=bad,
        frames=len(sequence),
        depth=8 * sequence.dtype.itemsize,
    )


def estimate_variances(
    values: Floats, bad: NDArray[np.bool_]
) -> tuple[Floats, Floats, float, Floats]:
    """Estimate the variances of the components without bias, by the module's formulas.

    The twelfth of a squared DN that rounding adds to ``tvh`` is taken off (W. Sheppard, 1898).
    Standard errors are those of normal components, but that of ``tvh`` depends on its kurtosis.

    `values` are DN, (T, H, W), whose `bad` pixels, (H, W), were filled. Returned are variances and
    errors of `COMPONENTS`, (7,), DN², below 0 by chance, and kurtosis and correlation of ``tvh``.
    """
    parts = _split(values)
    correlation = _correlate(parts[0])
    length = np.array(values.shape, np.float64)
    spread, overlap, doubt = np.transpose(list(map(_measure_spread, correlation, values.shape)))
    freedom = np.where(_HAS, length - 1, 1).prod(1)
    # Only these differ from pixel to pixel.
    parts[:2] = (part[:, ~bad] for part in parts[:2])
    freedom[:2] *= 1 - bad.mean()
    square = np.array([(part**2).sum() for part in parts]) / freedom
    second, fourth = (float((parts[0] ** power).mean()) for power in (2, 4))
    kurtosis = fourth / second**2 - 3 if second > 0 else 0.0

    # The variance of each mean square. It is divided by f + 2, not f, for the square of a mean
    # square is too great by so much.
    leak, weight = _weigh(spread, length)
    share = square[0] * leak / leak[0]
    fewer = np.where(_HAS, overlap, 1).prod(1) - 1
    wide = 2 * square**2 / (freedom + 2) + 2 * share**2 * fewer / freedom
    wide[0] *= max(1 + kurtosis / 2, 0.1)

    # What ``tvh`` leaves is taken off last, from the sum of the others.
    variance = np.roll(weight * square, -1, 1).sum(1)
    variance[0] -= _ROUNDING
    total = np.roll(weight**2 * wide, -1, 1).sum(1)
    for axis, step in enumerate(_STEP * np.eye(3)):
        slope = (_weigh(spread + step, length)[1] - weight)[:, 0] / _STEP
        others = np.delete(overlap / (length - 1), axis)
        total += (slope * square[0]) ** 2 * np.prod([doubt[axis], *others])
    return variance, np.sqrt(total), kurtosis, correlation


def to_sigma(variance: Floats, error: Floats) -> tuple[Floats, Floats]:
    """Standard deviations and their errors of variances that may be below 0 by chance.

    Where the variance is not above its error, the error is the σ that would stand out.
    """
    sigma = np.sqrt(np.maximum(variance, 0))
    wide = np.where(variance > error, error / np.maximum(2 * sigma, 1e-30), np.sqrt(error))
    return sigma, wide


def measure_gain(sequences: Sequence[NoiseComponents]) -> tuple[float, float]:
    """Measure how temporal noise grows with intensity: the photon transfer curve.

    The sequences are of one camera before flat fields. Returned are the slope of σ_tvh² over the
    mean, DN² per DN, and its standard error; fewer than two intensities are a `NoiseError`.
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
    """Make components of the arrays of a file; a `NoiseError` names it if they are others."""
    fields = from_arrays(found, _COLUMNS)
    if (
        fields is None
        or fields["depth"] not in (8, 16)
        or not np.isfinite([*fields["sigma"].values(), *fields["error"].values()]).all()
        or min(fields["sigma"].values()) < 0
    ):
        raise NoiseError(
            f"{path}: is not a noise model; make one with "
            "`synth noise-model FRAMES --sequence --out MODEL.npz`"
        )
    return NoiseComponents(**fields)


def find_bad_pixels(sequence: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Find pixels whose noise over time is not that of the others.

    What whole frames, rows or columns do in a frame is taken off by medians. Then a pixel is bad
    whose variance over time is far from the median of its surroundings, dead ones among them, or
    that strays far from its own median in any frame, as blinking ones do. (T, H, W) give (H, W).
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


def _fill(sequence: NDArray[np.integer], bad: NDArray[np.bool_]) -> Floats:
    """Replace pixels by the mean of their good neighbours, frame by frame."""
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
    components: NoiseComponents, shape: tuple[int, int, int], rng: np.random.Generator
) -> Frame:
    """Make a sequence of pure noise that has the components of another one.

    All components are normal. The ``tvh`` noise correlates along rows and columns as measured, and
    is independent from frame to frame. The shape is (T, H, W), the result DN around the mean,
    rounded, and clipped at the range of the type that was measured.
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


def _split(values: Floats) -> list[Floats]:
    """The deviations that belong to each component, with axes of length 1 where it has none."""
    parts: dict[str, Floats] = {}
    rest = values - values.mean()
    # Means over an axis of what is left are 0, so finer ones need no more than to come later.
    for name in ("t", "v", "h", "tv", "th", "vh"):
        over = tuple(number for number, axis in enumerate("tvh") if axis not in name)
        parts[name] = rest.mean(over, keepdims=True)
        rest = rest - parts[name]
    return [rest, *(parts[name] for name in COMPONENTS[1:])]


def _measure_spread(correlation: Floats, length: int) -> tuple[float, float, float]:
    """s and d of the module's formulas for an axis, and the variance of s from a line of values."""
    lags = np.arange(len(correlation))
    fade = np.maximum(1 - lags / length, 0)
    sums = correlation @ _sums_of_lags(length)
    spread = max(float(sums.mean()), 0.0)
    both = np.where(lags == 0, 1, 2) * fade
    squares = length * float(both @ correlation**2) - 2 * float((sums**2).mean()) + spread**2
    # Only lags that were measured have an error.
    window = spectrum_of(np.where(lags <= min(LAGS, length // 4), fade, 0.0), _GRID)
    away = (window - spread) ** 2 * spectrum_of(correlation, _GRID) ** 2
    overlap = max((length - 1) * squares / (length - spread) ** 2, 1.0)
    return spread, overlap, 2 * float(away.mean()) / length


def spectrum_of(correlation: Floats, size: int) -> Floats:
    """The power spectrum, (size,), of an autocorrelation at lags 0, 1, 2, …"""
    lags = np.arange(len(correlation))
    wave = np.cos(2 * np.pi * np.outer(np.fft.fftfreq(size), lags))
    return np.asarray(wave @ (np.where(lags == 0, 1, 2) * correlation))


def _weigh(spread: Floats, length: Floats) -> tuple[Floats, Floats]:
    """Shares of ``tvh`` noise in the mean squares, and the weights of these in every estimate."""
    leak = np.where(_HAS, (length - spread) / (length - 1), spread / length).prod(1)
    missing = _HAS & ~_HAS[:, None]
    weight = np.where(missing, -1 / length, 1).prod(2) * (_HAS[:, None] <= _HAS).all(2)
    weight[:, 0] = 0
    weight[:, 0] = -(weight * leak).sum(1) / leak[0]
    weight[0, 0] = 1 / leak[0]
    return leak, weight


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
        lags = np.arange(min(LAGS, length // 4) + 1)
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
    # Correlation that was measured, or cut off at a lag, may have a spectrum below 0.
    cepstrum = np.fft.ifft(np.log(spectrum_of(correlation, _GRID).clip(1e-3)) / 2).real
    cepstrum[1 : _GRID // 2] *= 2
    cepstrum[_GRID // 2 + 1 :] = 0
    kernel = np.fft.ifft(np.exp(np.fft.fft(cepstrum))).real[: 2 * len(correlation) - 1]
    return np.asarray(kernel / np.sqrt(kernel @ kernel))
