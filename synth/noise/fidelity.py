"""Fidelity: how close the noise of some frames is to that of others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import scipy
from numpy.typing import NDArray

from synth.errors import NoiseError
from synth.noise.blocks import NoiseBlocks
from synth.seeds import generator

Floats = NDArray[np.float64]

SCORES = ("wasserstein", "kl", "spectrum", "rows", "columns", "correlation", "level")
"""What `compare_noise` gives: Wasserstein-1 distance of the marginals, DN; their Kullback-Leibler
divergence, nats; root-mean-square errors of the radial spectrum, of the spectra along rows and
along columns, all in decades, of the autocorrelation at lags 0 to 8, and of the noise level as a
function of intensity, decades."""

LAGS = 8

_BINS = 61
_LEVELS = 8
_LEAST_BLOCKS = 8

# Spectra are compared where they are above the noise of rounding, 1/12 DN², by this factor.
_ABOVE_ROUNDING = 0.1


@dataclass(frozen=True, eq=False)
class NoiseStatistics:
    """What the noise of some frames looks like; every frame counts alike.

    Attributes
    ----------
    values : (n,) ndarray of float64
        Residuals, DN: as many quantiles of every frame.
    radial, rows, columns : (k,) ndarray of float64
        Decadic logarithm of the power spectrum in DN², averaged over frames: in rings of the
        frequency's magnitude, along the frequencies of rows (summed over those of columns), and
        the other way round.
    correlation : (2, LAGS + 1) ndarray of float64
        Autocorrelation along rows and along columns.
    mean, variance : (N,) ndarray of float64
        Intensity, DN, and variance, DN², of every block.
    """

    values: Floats
    radial: Floats
    rows: Floats
    columns: Floats
    correlation: Floats
    mean: Floats
    variance: Floats


def describe_noise(blocks: NoiseBlocks) -> NoiseStatistics:
    """Describe the noise in blocks.

    Parameters
    ----------
    blocks : NoiseBlocks
        What `synth.noise.blocks.find_noise_blocks` finds in frames.

    Returns
    -------
    NoiseStatistics
    """
    return _describe(_PerFrame.of(blocks), np.arange(blocks.frame.max() + 1))


def compare_noise(made: NoiseStatistics, real: NoiseStatistics) -> dict[str, float]:
    """Compare the noise of two sets of frames.

    Parameters
    ----------
    made, real : NoiseStatistics
        Of blocks of one side.

    Returns
    -------
    dict of str to float
        `SCORES`, 0 for equal noise. ``level`` is over the intensities that both have, NaN where
        they have none in common. ``kl`` is of `made` from `real`, over 61 bins that reach over
        five standard deviations of `real` and are never thinner than a DN, with half a
        thousandth in every bin added.
    """
    return {
        "wasserstein": float(scipy.stats.wasserstein_distance(made.values, real.values)),
        "kl": _divergence(made, real),
        "spectrum": _rms(made.radial - real.radial),
        "rows": _rms(made.rows - real.rows),
        "columns": _rms(made.columns - real.columns),
        "correlation": _rms(made.correlation - real.correlation),
        "level": _level_error(made, real),
    }


def measure_floor(blocks: NoiseBlocks, halvings: int = 20, seed: int = 0) -> dict[str, float]:
    """Measure what the scores are between two halves of the same camera's frames.

    Parameters
    ----------
    blocks : NoiseBlocks
    halvings : int
        Random halvings of the frames.
    seed : int

    Returns
    -------
    dict of str to float
        `SCORES`: the median over the halvings.

    Raises
    ------
    NoiseError
        The blocks are from fewer than two frames.
    """
    frames = int(blocks.frame.max()) + 1
    if frames < 2:
        raise NoiseError("one frame cannot be halved; give at least two with smooth areas in them")
    parts = _PerFrame.of(blocks)
    rng = generator(seed, "halvings")
    found = []
    for _ in range(halvings):
        order = rng.permutation(frames)
        one, other = (_describe(parts, half) for half in np.array_split(order, 2))
        found.append(compare_noise(one, other))
    return {name: _median([scores[name] for scores in found]) for name in SCORES}


@dataclass(frozen=True)
class _PerFrame:
    """Each frame's own statistics."""

    values: list[Floats]
    power: Floats
    correlation: Floats
    mean: list[Floats]
    variance: list[Floats]

    @classmethod
    def of(cls, blocks: NoiseBlocks) -> _PerFrame:
        values, power, correlation, mean, variance = [], [], [], [], []
        for frame in range(int(blocks.frame.max()) + 1):
            own = blocks.frame == frame
            residual = blocks.residual[own]
            spectrum = (np.abs(np.fft.fft2(residual)) ** 2).mean(0) / residual[0].size
            values.append(np.quantile(residual, (np.arange(2000) + 0.5) / 2000))
            power.append(spectrum)
            correlation.append(_correlate(residual))
            mean.append(blocks.mean[own])
            variance.append(residual.var((1, 2)))
        return cls(values, np.stack(power), np.stack(correlation), mean, variance)


def _describe(parts: _PerFrame, frames: NDArray[np.intp] | Sequence[int]) -> NoiseStatistics:
    values = np.concatenate([parts.values[frame] for frame in frames])
    power = np.maximum(parts.power[frames], _ABOVE_ROUNDING / 12)
    side = power.shape[-1]
    # The lowest frequency is what trends have taken off, so all of its ring and line is left out.
    frequency = np.abs(np.fft.fftfreq(side)) * side
    radius = np.rint(np.hypot(frequency[:, None], frequency)).astype(np.int64)
    rings = np.stack([power[:, radius == r].mean(1) for r in range(2, side // 2 + 1)], 1)
    half = slice(2, side // 2 + 1)
    return NoiseStatistics(
        values=values,
        radial=np.log10(rings).mean(0),
        rows=np.log10(power.mean(2)[:, half]).mean(0),
        columns=np.log10(power.mean(1)[:, half]).mean(0),
        correlation=parts.correlation[frames].mean(0),
        mean=np.concatenate([parts.mean[frame] for frame in frames]),
        variance=np.concatenate([parts.variance[frame] for frame in frames]),
    )


def _correlate(residual: Floats) -> Floats:
    power = float((residual**2).mean())
    found = np.ones((2, LAGS + 1))
    for lag in range(1, LAGS + 1):
        found[0, lag] = float((residual[:, :, lag:] * residual[:, :, :-lag]).mean()) / power
        found[1, lag] = float((residual[:, lag:] * residual[:, :-lag]).mean()) / power
    return found


def _divergence(made: NoiseStatistics, real: NoiseStatistics) -> float:
    spread = max(float(real.values.std()), 1e-6)
    reach = max(5 * spread, _BINS / 2)
    edges = np.linspace(-reach, reach, _BINS + 1)
    edges[[0, -1]] = -np.inf, np.inf
    share = []
    for one in (made, real):
        count = np.histogram(one.values, edges)[0] / len(one.values) + 0.0005
        share.append(count / count.sum())
    return float(scipy.stats.entropy(share[0], share[1]))


def _level_error(made: NoiseStatistics, real: NoiseStatistics) -> float:
    low = max(made.mean.min(), real.mean.min())
    high = min(made.mean.max(), real.mean.max())
    both = np.concatenate(
        [one.mean[(one.mean >= low) & (one.mean <= high)] for one in (made, real)]
    )
    if len(both) < 2 * _LEAST_BLOCKS:
        return float("nan")
    edges = np.unique(np.quantile(both, np.linspace(0, 1, _LEVELS + 1)))
    away = []
    for least, most in pairwise(edges):
        found = [one.variance[(one.mean >= least) & (one.mean <= most)] for one in (made, real)]
        if min(map(len, found)) >= _LEAST_BLOCKS:
            away.append(0.5 * float(np.log10(found[0].mean() / found[1].mean())))
    return _rms(np.array(away)) if away else float("nan")


def _median(values: list[float]) -> float:
    """The median of what is defined, NaN where nothing is."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.median(known)) if known else float("nan")


def _rms(values: Floats) -> float:
    return float(np.sqrt((values**2).mean()))
