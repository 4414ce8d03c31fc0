"""Fidelity: how close the noise of some frames is to that of others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise

import cv2
import numpy as np
import scipy
from numpy.typing import NDArray

from synth.errors import NoiseError
from synth.noise.blocks import Floats, NoiseBlocks
from synth.seeds import generator

LAGS = 8

_BINS, _LEVELS, _LEAST_BLOCKS = 61, 8, 8

# Spectra are compared where they are above the noise of rounding, 1/12 DN², by this factor.
_ABOVE_ROUNDING = 0.1

# DANet's window: OpenCV's Gaussian of 7 pixels without a σ.
_WINDOW = cv2.getGaussianKernel(7, 0).ravel()

# More variance maps of one frame add nothing but time.
_MOST_MAPS = 32

# Of frames together, these are averages; what else describes a frame is put side by side.
_AVERAGED = ("radial", "rows", "columns", "correlation", "shares")


@dataclass(frozen=True, eq=False)
class NoiseStatistics:
    """What the noise of some frames looks like; every frame counts alike.

    Attributes
    ----------
    values : (n,) ndarray of float64
        Residuals, DN: as many quantiles of every frame.
    radial, rows, columns : (k,) ndarray of float64
        Decadic logarithm of the power spectrum in DN²: in rings of the frequency's magnitude,
        along the frequencies of rows (mean over those of columns), and the other way round.
    correlation : (2, LAGS + 1) ndarray of float64
        Autocorrelation along rows and along columns.
    mean, variance : (N,) ndarray of float64
        Intensity, DN, and variance, DN², of every block.
    shares : (256,) ndarray of float64
        `residual_shares`.
    maps, map_mean : (M, side, side) and (M,) ndarray of float64
        `variance_maps` of up to 32 blocks of every frame, and their intensity, DN.
    """

    values: Floats
    radial: Floats
    rows: Floats
    columns: Floats
    correlation: Floats
    mean: Floats
    variance: Floats
    shares: Floats
    maps: Floats
    map_mean: Floats


def describe_noise(blocks: NoiseBlocks) -> NoiseStatistics:
    """Describe the noise in the blocks that `synth.noise.blocks.find_noise_blocks` finds."""
    return _join(_describe_frames(blocks))


def compare_noise(made: NoiseStatistics, real: NoiseStatistics) -> dict[str, float]:
    """Compare the noise of two sets of frames, of blocks of one side and depth.

    Scores are 0 for the same blocks:

    - ``wasserstein``: Wasserstein-1 distance of the marginals, DN.
    - ``kl``: Kullback-Leibler divergence of the marginal of `made` from that of `real`, nats,
      over 61 bins that reach over five standard deviations of `real` and are never thinner
      than a DN, with half a thousandth in every bin added.
    - ``spectrum``, ``rows``, ``columns``: root-mean-square errors of the radial spectrum and
      of the spectra along rows and along columns, decades.
    - ``correlation``: that of the autocorrelation at lags 0 to 8.
    - ``level``: that of the noise level as a function of intensity, decades, over the
      intensities that both have; NaN where they have none in common.
    - ``kld``, ``akld``: `share_divergence` and `map_divergence`, nats.

    Notes
    -----
    ``kld`` and ``akld`` are published for real and generated noise over one clean reference; here
    residuals of blocks over their trends stand for both, so noise of more than 32 pixels' extent is
    left out. ``kld`` compares the residuals of all frames together and does not depend on how noise
    varies with intensity.

    ``akld`` pairs blocks of like intensity. Up to 32 blocks of every frame, evenly chosen, are put
    into eight ranges of the intensities that both sets have, each range with as many blocks. In
    each range every real block is paired with the made one at the same quantile of intensity. It is
    NaN where fewer than 16 blocks are at common intensities, or no range has blocks of both. Two
    independent samples of white noise of equal σ are at about 0.05, because local variances of some
    25 pixels differ by chance: compare ``akld`` with `measure_floor`, not with 0.
    """
    return {
        "wasserstein": float(scipy.stats.wasserstein_distance(made.values, real.values)),
        "kl": _divergence(made, real),
        "spectrum": _rms(made.radial - real.radial),
        "rows": _rms(made.rows - real.rows),
        "columns": _rms(made.columns - real.columns),
        "correlation": _rms(made.correlation - real.correlation),
        "level": _level_error(made, real),
        "kld": share_divergence(made.shares, real.shares),
        "akld": _paired_divergence(made, real),
    }


def measure_floor(blocks: NoiseBlocks) -> dict[str, float]:
    """Measure the scores between two halves of a camera's frames: medians of 20 random halvings.

    Blocks of fewer than two frames are a `NoiseError`. Keys are those of `compare_noise`.
    """
    parts = _describe_frames(blocks)
    if len(parts) < 2:
        raise NoiseError("one frame cannot be halved; give at least two with smooth areas in them")
    rng = generator(0, "halvings")
    scores = []
    for _ in range(20):
        halves = np.array_split(rng.permutation(len(parts)), 2)
        one, other = (_join([parts[frame] for frame in half]) for half in halves)
        scores.append(compare_noise(one, other))
    defined = {name: [one[name] for one in scores if not np.isnan(one[name])] for name in scores[0]}
    return {name: float(np.median(known or [np.nan])) for name, known in defined.items()}


def residual_shares(residual: Floats, full_scale: float) -> Floats:
    """Share of residuals, DN, in each of 256 bins over [-1, 1] of full scale (255 or 65535 DN)."""
    counts = np.histogram(residual / full_scale, 256, (-1.0, 1.0))[0]
    return np.asarray(counts / residual.size)


def share_divergence(made: Floats, real: Floats) -> float:
    """Kullback-Leibler divergence of `residual_shares`, as NAFlow computes it (KLD), nats.

    Σ p ln(p / q) over the bins that both occupy, p for real residuals and q for made ones. The
    shares are not normalised again, so the sum is negative where the made noise is far too weak: a
    value below 0 does not mean near. NaN where no bin has residuals of both.

    References
    ----------
    D. Kim, D. Jung, S. Baik and T. H. Kim, "sRGB real noise modeling via noise-aware sampling with
    normalizing flows", ICLR 2024; the measure is that of A. Abdelhamed, M. A. Brubaker and
    M. S. Brown, "Noise Flow: noise modeling with conditional normalizing flows", ICCV 2019.
    """
    both = (made > 0) & (real > 0)
    if not both.any():
        return float("nan")
    return float((real[both] * np.log(real[both] / made[both])).sum())


def variance_maps(residual: Floats, full_scale: float) -> Floats:
    """Local variance of residuals, (N, H, W) in DN, in squares of full scale (255 or 65535 DN).

    The mean square in a 7x7 window, OpenCV's Gaussian of that size, with borders by reflection that
    does not repeat the edge. It is at least 1e-10, so two blocks without noise are equal.
    """
    found = (residual / full_scale) ** 2
    for axis in (-2, -1):
        found = scipy.ndimage.correlate1d(found, _WINDOW, axis, mode="mirror")
    return np.maximum(found, 1e-10)


def map_divergence(made: Floats, real: Floats) -> float:
    """Kullback-Leibler divergence of the `variance_maps` of pairs, as in DANet (AKLD), nats.

    ½ mean(ln(1 / r) + r - 1), the mean divergence of N(0, v_made) from N(0, v_real) over pixels;
    r = v_made / v_real is clamped to [0.1, 10], so it is between 0 and 3.35. NaN without any pair.

    References
    ----------
    Z. Yue, Q. Zhao, L. Zhang and D. Meng, "Dual adversarial network: toward real-world noise
    removal and noise generation", ECCV 2020.
    """
    if not made.size:
        return float("nan")
    ratio = (made / real).clip(0.1, 10.0)
    return 0.5 * float((ratio - 1 - np.log(ratio)).mean())


def _describe_frames(blocks: NoiseBlocks) -> list[NoiseStatistics]:
    side, full_scale = blocks.side, 2.0**blocks.depth - 1
    # The lowest frequency is what trends have taken off, so all of its ring and line is left out.
    frequency = np.abs(np.fft.fftfreq(side)) * side
    radius = np.rint(np.hypot(frequency[:, None], frequency)).astype(np.int64).ravel()
    above = slice(2, side // 2 + 1)
    found = []
    for frame in range(int(blocks.frame.max()) + 1):
        own = blocks.frame == frame
        residual, mean = blocks.residual[own], blocks.mean[own]
        few = np.unique(np.linspace(0, len(residual) - 1, _MOST_MAPS).astype(np.intp))
        power = (np.abs(np.fft.fft2(residual)) ** 2).mean(0) / side**2
        power = np.maximum(power, _ABOVE_ROUNDING / 12)
        one = NoiseStatistics(
            values=np.quantile(residual, (np.arange(2000) + 0.5) / 2000),
            radial=np.log10((np.bincount(radius, power.ravel()) / np.bincount(radius))[above]),
            rows=np.log10(power.mean(1)[above]),
            columns=np.log10(power.mean(0)[above]),
            correlation=_correlate(residual),
            mean=mean,
            variance=residual.var((1, 2)),
            shares=residual_shares(residual, full_scale),
            maps=variance_maps(residual[few], full_scale),
            map_mean=mean[few],
        )
        found.append(one)
    return found


def _join(frames: Sequence[NoiseStatistics]) -> NoiseStatistics:
    joined = {}
    for name in (field.name for field in fields(NoiseStatistics)):
        parts = [getattr(frame, name) for frame in frames]
        joined[name] = np.mean(parts, axis=0) if name in _AVERAGED else np.concatenate(parts)
    return NoiseStatistics(**joined)


def _correlate(residual: Floats) -> Floats:
    power = float((residual**2).mean())
    found = np.ones((2, LAGS + 1))
    for lag in range(1, LAGS + 1):
        found[0, lag] = float((residual[:, :, lag:] * residual[:, :, :-lag]).mean()) / power
        found[1, lag] = float((residual[:, lag:] * residual[:, :-lag]).mean()) / power
    return found


def _divergence(made: NoiseStatistics, real: NoiseStatistics) -> float:
    reach = max(5 * float(real.values.std()), _BINS / 2)
    edges = np.linspace(-reach, reach, _BINS + 1)
    edges[[0, -1]] = -np.inf, np.inf
    counts = [np.histogram(x, edges)[0] / len(x) + 0.0005 for x in (made.values, real.values)]
    return float(scipy.stats.entropy(*(count / count.sum() for count in counts)))


def _level_error(made: NoiseStatistics, real: NoiseStatistics) -> float:
    away = []
    for own, other in _like_intensities(made.mean, real.mean):
        if min(len(own), len(other)) >= _LEAST_BLOCKS:
            ratio = made.variance[own].mean() / real.variance[other].mean()
            away.append(0.5 * float(np.log10(ratio)))
    return _rms(np.array(away)) if away else float("nan")


def _like_intensities(
    made: Floats, real: Floats
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Which blocks are in each of eight ranges of the intensities that both sets have."""
    low, high = max(made.min(), real.min()), min(made.max(), real.max())
    both = np.concatenate([mean[(mean >= low) & (mean <= high)] for mean in (made, real)])
    if len(both) < 2 * _LEAST_BLOCKS:
        return
    edges = np.unique(np.quantile(both, np.linspace(0, 1, _LEVELS + 1)))
    for least, most in pairwise(edges):
        own, other = (np.flatnonzero((m >= least) & (m <= most)) for m in (made, real))
        yield own, other


def _paired_divergence(made: NoiseStatistics, real: NoiseStatistics) -> float:
    """Divergence of the variance maps of each real block and a made one of like intensity."""
    fake, true = [np.empty(0, np.intp)], [np.empty(0, np.intp)]
    for own, other in _like_intensities(made.map_mean, real.map_mean):
        if len(own):
            own = own[np.argsort(made.map_mean[own], kind="stable")]
            other = other[np.argsort(real.map_mean[other], kind="stable")]
            fake.append(own[(2 * np.arange(len(other)) + 1) * len(own) // (2 * len(other))])
            true.append(other)
    return map_divergence(made.maps[np.concatenate(fake)], real.maps[np.concatenate(true)])


def _rms(values: Floats) -> float:
    return float(np.sqrt((values**2).mean()))
