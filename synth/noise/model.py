"""What the noise of a camera is, as single frames show it.

A frame is scene plus noise, and the scene hides most of the noise. What blocks without texture
show of it (`synth.noise.blocks`) is described by five things: how its standard deviation depends
on intensity, how it differs from frame to frame, its power spectrum, its distribution, and the
patterns of columns and rows on top of it.

One frame cannot tell a fixed pattern from noise that comes and goes, nor what is slower than a
block from scene. Patterns are called columns and rows here, whether they stay or not; what stays
is measured from sequences (`synth.noise.components`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from synth.errors import NoiseError
from synth.noise.blocks import NoiseBlocks, trend_basis
from synth.noise.components import to_sigma
from synth.noise.records import Column, from_arrays, to_arrays

Floats = NDArray[np.float64]

SUMMARY = ("sigma", "column", "row", "gain", "length_rows", "length_cols")
"""What `NoiseModel.summary` holds: standard deviations of the pixels' noise and of the patterns of
columns and of rows, DN; the rise of variance with intensity, DN² per DN; and the distances, along
rows and along columns, at which the pixels' noise correlates by 1/e, pixels."""

# Rounding to whole DN adds this to any variance (W. Sheppard, 1898).
_ROUNDING = 1 / 12

# A variance in DN² below which rounding hides what noise there is.
_LEAST_VARIANCE = 0.01

# What rounding, clipping and the choice of blocks may shift any number by, relative to it.
_SYSTEMATIC = 0.01

_MOST_LEVELS, _BLOCKS_PER_LEVEL = 12, 12
_QUANTILE_SHARES = (np.arange(257) + 0.5) / 257
_MOST_KINDS, _FRAMES_PER_KIND = 4, 3
_ROUNDS = 100
_GROUPS = 20

LEAST_PATCHES = 64
"""Of fewer patches the same ones would show again and again in one output."""

# More patches add nothing but bytes.
_MOST_PATCHES = 4096


@dataclass(frozen=True, eq=False)
class NoiseModel:
    """The noise of a camera.

    Attributes
    ----------
    level, sigma : (K,) ndarray of float64
        Intensities, rising, and the standard deviation of the pixels' noise there, DN; between
        them it is linear, beyond them constant.
    frame_factor : (F,) ndarray of float64
        Standard deviation of each frame's noise relative to `sigma`: cameras change their gain.
    frame_column, frame_row : (F,) ndarray of float64
        Standard deviations of each frame's patterns of columns and of rows, DN.
    frame_levels : (F, 9) ndarray of float64
        Intensities of each frame's blocks, DN: their quantiles at 1/18, 3/18, …
    frame_kind : (F,) ndarray of int64
        Which of the spectra and distributions is each frame's.
    spectrum : (G, n, n) ndarray of float64
        Power spectra of the pixels' noise in numpy's order of frequencies, mean 1.
    columns, rows : (n,) ndarray of float64
        Power spectra of the patterns of columns and of rows, mean 1, or 0 where there is none.
    quantiles : (G, 257) ndarray of float64
        Of the pixels' noise at equal steps of probability, from 1/514 on, scaled to variance 1.
    summary, error : mapping of str to float
        `SUMMARY` and its standard errors, by leaving out frames; of patterns see `to_sigma`.
    depth : int
        Bits of the frames' type, 8 or 16.
    dead, blinking : float
        Shares of pixels that do not show the scene: always the same ones, which read as dark as
        any pixel of the image, and others in every image, which read as bright as any.
    patches : (P, n, n) ndarray of float32
        Residuals of the pixels' noise, variance 1, for cameras whose noise no spectrum describes;
        empty where noise is drawn from the spectra.
    patch_kind : (P,) ndarray of int64
        Kind of each patch's frame.

    Examples
    --------
    >>> import numpy as np
    >>> model = make_physical_model(sigma=3.0, depth=16)
    >>> model.sigma_at(np.array([0.0, 40000.0])).tolist()
    [3.0, 3.0]
    """

    level: Floats
    sigma: Floats
    frame_factor: Floats
    frame_column: Floats
    frame_row: Floats
    frame_levels: Floats
    frame_kind: NDArray[np.int64]
    spectrum: Floats
    columns: Floats
    rows: Floats
    quantiles: Floats
    summary: Mapping[str, float]
    error: Mapping[str, float]
    depth: int
    dead: float = 0.0
    blinking: float = 0.0
    patches: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 2, 2), np.float32))
    patch_kind: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def __len__(self) -> int:
        return len(self.frame_factor)

    def sigma_at(self, intensity: Floats) -> Floats:
        """Standard deviation of the pixels' noise at intensities in DN, in DN."""
        return np.asarray(np.interp(intensity, self.level, self.sigma))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What a file holds of it, by name."""
        return to_arrays(self, _COLUMNS)


_MOST_DN = 65536
_COLUMNS = {
    "level": Column("K", 0, _MOST_DN),
    "sigma": Column("K", 0, _MOST_DN),
    "frame_factor": Column("F", 0, _MOST_DN),
    "frame_column": Column("F", 0, _MOST_DN),
    "frame_row": Column("F", 0, _MOST_DN),
    "frame_levels": Column("FL", 0),
    "frame_kind": Column("F", 0, kind="i"),
    "spectrum": Column("GNN", 0),
    "columns": Column("N", 0, _MOST_DN),
    "rows": Column("N", 0, _MOST_DN),
    "quantiles": Column("GQ"),
    "dead": Column("", 0, 1),
    "blinking": Column("", 0, 1),
    "patches": Column("pSS"),
    "patch_kind": Column("p", 0, kind="i"),
    "summary": Column(keys=SUMMARY),
    "error": Column(keys=SUMMARY),
    "depth": Column(kind="i"),
}


def fit_model(blocks: NoiseBlocks, *, keep_patches: bool = False) -> NoiseModel:
    """Fit a model to blocks of noise.

    The variance of a block is taken as a product of one number for its intensity and one for its
    frame, as far as intensity alone does not explain it. Spectra are those of the blocks over
    these variances. Along the axes of the spectrum patterns of columns and rows add to the pixels'
    noise, which is continued there from beside the axes. Blocks have lost their trends: of the
    pixels' noise this is computed from its spectrum, of the patterns as of white ones.

    Parameters
    ----------
    blocks : NoiseBlocks
    keep_patches : bool
        Keep the blocks' residuals as `NoiseModel.patches`.

    Returns
    -------
    NoiseModel

    Raises
    ------
    NoiseError
        There are fewer than 8 blocks, or fewer than 64 to keep.
    """
    if len(blocks) < 8:
        raise NoiseError(
            f"only {len(blocks)} blocks of noise were found, too few to tell what it is; give more "
            "frames, with smooth areas in them"
        )
    if keep_patches and len(blocks) < LEAST_PATCHES:
        raise NoiseError(
            f"only {len(blocks)} blocks of noise were found, and {LEAST_PATCHES} patches are "
            "needed; give more frames, or draw the noise from its spectrum"
        )
    row, column = blocks.residual.mean(2), blocks.residual.mean(1)
    pixels = blocks.residual - column[:, None, :] - row[:, :, None]
    # On the axes of its spectrum nothing is left; the rest has all the variance of white noise.
    variance = (pixels**2).sum((1, 2)) / (blocks.side - 1) ** 2
    variance = np.maximum(variance - _ROUNDING, _LEAST_VARIANCE)
    level, sigma, factor = _fit_levels(blocks, variance)
    expected = np.interp(blocks.mean, level, sigma) * factor[blocks.frame]
    frames = [np.flatnonzero(blocks.frame == number) for number in range(len(factor))]

    def average(values: Floats) -> Floats:
        return np.stack([values[own].mean(0) for own in frames])

    power = _put_back(np.abs(np.fft.fft2(pixels)) ** 2 / blocks.side**2) - _ROUNDING
    rounding = _ROUNDING * _kept_of_lines(blocks.side).sum(1)
    near = (power[:, 1] + power[:, -1], power[:, :, 1] + power[:, :, -1])
    parts = _Spectra(
        power=average(power / expected[:, None, None] ** 2),
        lines=np.stack([average(np.abs(np.fft.fft(w)) ** 2) for w in (column, row)]) - rounding,
        near=np.stack([average(one / 2) for one in near]),
        variance=average(variance),
    )
    whole = parts.pool(np.ones(len(factor)))
    patterns = parts.patterns(whole)
    summary, error = _summarise(blocks, variance, parts)
    kind = _group(parts.power, len(factor))
    spectra, quantiles = [], []
    for number in range(int(kind.max()) + 1):
        spectrum = parts.pool((kind == number).astype(np.float64))
        own = kind[blocks.frame] == number
        spectra.append(spectrum / spectrum.mean())
        quantiles.append(_quantiles(pixels[own] / expected[own, None, None]))
    columns, rows = map(_shape, patterns)
    frame_column, frame_row = map(_frame_patterns, patterns.mean(2))
    nine = (np.arange(9) + 0.5) / 9
    return rounded(
        NoiseModel(
            level=level,
            sigma=sigma * np.sqrt(float(whole.mean())),
            frame_factor=factor,
            frame_column=frame_column,
            frame_row=frame_row,
            frame_levels=np.stack([np.quantile(blocks.mean[own], nine) for own in frames]),
            frame_kind=kind,
            spectrum=np.stack(spectra),
            columns=columns,
            rows=rows,
            quantiles=np.stack(quantiles),
            summary=summary,
            error=error,
            depth=blocks.depth,
            **(_keep_patches(blocks, expected, patterns, kind) if keep_patches else {}),
        )
    )


def _keep_patches(
    blocks: NoiseBlocks, expected: Floats, patterns: Floats, kind: NDArray[np.int64]
) -> dict[str, Any]:
    """Residuals without the patterns of columns and rows, which are drawn for whole outputs."""
    few = min(len(blocks), _MOST_PATCHES)
    chosen = np.linspace(0, len(blocks) - 1, few).astype(np.intp)
    frame, expected = blocks.frame[chosen], expected[chosen]
    count = np.maximum(np.bincount(frame), 1)
    # Tiles overlap by half, so their side is even.
    side = blocks.side // 2 * 2
    pixels = blocks.residual[chosen, :side, :side] / expected[:, None, None]
    for axis, lines in enumerate(patterns, 1):
        # Of the mean along a line the share stays that is the pixels' own.
        mean = pixels.mean(axis, keepdims=True)
        whole = np.bincount(frame, (mean**2).mean((1, 2))) / count
        pattern = lines.mean(1).clip(0)[: len(count)] * np.bincount(frame, 1 / expected**2) / count
        own = np.sqrt((1 - pattern / np.maximum(whole, 1e-12)).clip(0))
        pixels -= (1 - own[frame])[:, None, None] * mean
    of = kind[frame]
    power = np.bincount(of, (pixels**2).mean((1, 2))) / np.maximum(np.bincount(of), 1)
    pixels /= np.sqrt(np.maximum(power, 1e-12))[of, None, None]
    return {"patches": pixels.astype(np.float32), "patch_kind": of}


def make_physical_model(
    *,
    sigma: float = 0.0,
    netd: float = 0.0,
    responsivity: float = 1.0,
    gain: float = 0.0,
    column: float = 0.0,
    row: float = 0.0,
    drift: float = 0.0,
    dead: float = 0.0,
    blinking: float = 0.0,
    depth: int = 8,
) -> NoiseModel:
    """Make the model of a camera from chosen numbers, without any frame of it.

    The variance of the pixels' noise at intensity I is σ² + (NETD · responsivity)² + gain · I: what
    the read-out adds, what stands for a temperature difference, and photon noise. It is white and
    normal, and so are the patterns, but for the drift of the read-out from row to row, whose
    spectrum is 1/f.

    The parameters are those of the step `synth.steps.physical.Physical`, in DN, K and DN per K.

    Examples
    --------
    >>> import numpy as np
    >>> model = make_physical_model(netd=0.05, responsivity=60.0, gain=0.1, depth=16)
    >>> model.sigma_at(np.array([0.0, 160.0])).round(1).tolist()
    [3.0, 5.0]
    """
    side = 64
    top = 2.0**depth - 1
    # Between knots σ is linear; these lie so that the root of a line is met to a thousandth.
    level = top * np.linspace(0, 1, 129) ** 2
    frequency = np.maximum(np.abs(np.fft.fftfreq(side)), 1 / side)
    rows = row**2 + drift**2 * (1 / frequency) / (1 / frequency).mean()
    square = sigma**2 + (netd * responsivity) ** 2
    numbers = (np.sqrt(square + gain * top / 2), column, np.hypot(row, drift), gain, 0.0, 0.0)
    return NoiseModel(
        level=level,
        sigma=np.sqrt(square + gain * level),
        frame_factor=np.ones(1),
        frame_column=np.full(1, float(column)),
        frame_row=np.full(1, float(np.hypot(row, drift))),
        frame_levels=np.full((1, 9), top / 2),
        frame_kind=np.zeros(1, np.int64),
        spectrum=np.ones((1, side, side)),
        columns=np.full(side, float(column > 0)),
        rows=rows / rows.mean() if rows.any() else rows,
        quantiles=normal_quantiles()[None],
        summary=dict(zip(SUMMARY, map(float, numbers), strict=True)),
        error=dict.fromkeys(SUMMARY, 0.0),
        depth=depth,
        dead=dead,
        blinking=blinking,
    )


def normal_quantiles() -> Floats:
    """`NoiseModel.quantiles` of a normal distribution, (257,)."""
    normal = scipy.special.ndtri(_QUANTILE_SHARES)
    return np.asarray(normal / normal.std())


def rounded(model: NoiseModel) -> NoiseModel:
    """Round a measured model: arrays to 6 decimals, the summary and its errors to 6 digits.

    Threads and processors choose the order of sums, and with it their last digits. So the same
    frames make the same model everywhere.
    """
    arrays: dict[str, Any] = {
        name: getattr(model, name).round(6) for name, column in _COLUMNS.items() if column.axes
    }
    # Beyond these decimals a float32 of several units holds errors of arithmetic.
    arrays["patches"] = model.patches.round(4)
    for name in ("summary", "error"):
        arrays[name] = {key: float(f"{one:.6g}") for key, one in getattr(model, name).items()}
    return replace(model, **arrays)


def without_patches(model: NoiseModel) -> NoiseModel:
    """The same model, whose noise is drawn from its spectra."""
    return replace(model, patches=model.patches[:0], patch_kind=model.patch_kind[:0])


def model_from(found: Mapping[str, NDArray[Any]], path: Path) -> NoiseModel:
    """Make a model of the arrays of a file; a `NoiseError` names it if they are not of a model."""
    fields = from_arrays(found, _COLUMNS)
    if fields is None or not _fit_together(NoiseModel(**fields)):
        raise NoiseError(
            f"{path}: is not a noise model; make one with `synth noise-model FRAMES --out FILE.npz`"
        )
    return NoiseModel(**fields)


def _fit_together(model: NoiseModel) -> bool:
    count, side = model.patches.shape[:2]
    powers = [*model.spectrum.mean((1, 2)), *model.quantiles.var(1)]
    powers += [model.patches.var()] if count else []
    return bool(
        model.depth in (8, 16)
        and len(model.columns) >= 4
        and model.quantiles.shape[1] > 1
        and model.frame_kind.max() < len(model.spectrum)
        and not 0 < count < LEAST_PATCHES
        and side % 2 == 0
        and all(0.25 < power < 4 for power in powers)
        and (np.diff(model.level) > 0).all()
        and (np.diff(model.quantiles) >= 0).all()
    )


def _put_back(power: Floats) -> Floats:
    """Correct spectra beside the axes for the trends that were subtracted, (N, n, n).

    Beside the axes only one trend counts, the product of row and column. Let b be the share of its
    power at each frequency, sum 1. Noise of spectrum S has, without its part along the trend, the
    spectrum S (1 - 2 b) + b Σ b S, which is solved for S.
    """
    side = power.shape[-1]
    place = np.arange(side) - (side - 1) / 2
    line = np.abs(np.fft.fft(place)) ** 2 / (side * (place @ place))
    taken = np.outer(line, line)
    rest = 1 - 2 * taken
    along = np.tensordot(power, taken / rest) / (1 + (taken**2 / rest).sum())
    return np.asarray((power - taken * along[:, None, None]) / rest)


def _kept_of_lines(side: int) -> Floats:
    """The spectrum along an axis after quadratic trends are subtracted, as a matrix (n, n).

    Multiplied by a spectrum of noise it gives the spectrum of the residual; its row sums are the
    share of white noise in the residual. Noise is not periodic in a block, so low frequencies,
    which look like trends, lose more than a periodic spectrum says. The matrix therefore goes
    through the autocovariance; the one that belongs to a block's spectrum fades with the lag.
    """
    basis = trend_basis(side).reshape(side, side, -1).mean(0) * np.sqrt(side)
    waves = np.fft.fft(np.eye(side) - basis @ basis.T, axis=0)
    overlap = np.fft.ifft(np.abs(np.fft.fft(waves, 2 * side, axis=1)) ** 2, axis=1).real
    # Lags beyond half a block are mixed with shorter ones, and taken as 0.
    lags = np.arange(1, (side + 1) // 2)
    covariance = np.fft.ifft(np.eye(side), axis=0).real
    kept = np.outer(overlap[:, 0], covariance[0])
    kept += 2 * (overlap[:, lags] / (1 - lags / side)) @ covariance[lags]
    return np.asarray(kept / side)


def _fit_levels(blocks: NoiseBlocks, variance: Floats) -> tuple[Floats, Floats, Floats]:
    """Intensities, σ there, and the factor of every frame."""
    count = int(np.clip(len(blocks) // _BLOCKS_PER_LEVEL, 1, _MOST_LEVELS))
    edges = np.unique(np.quantile(blocks.mean, np.linspace(0, 1, count + 1)[1:-1]))
    where = np.searchsorted(edges, blocks.mean, side="right")
    where = np.unique(where, return_inverse=True)[1]
    number = np.bincount(where)
    level = np.bincount(where, blocks.mean) / number
    factor = np.ones(blocks.frame.max() + 1)
    # From equal frames on, so that intensity explains what it can before frames do.
    for _ in range(_ROUNDS):
        square = np.bincount(where, variance) / np.bincount(where, factor[blocks.frame])
        factor = np.bincount(blocks.frame, variance) / np.bincount(blocks.frame, square[where])
    square *= np.bincount(where, factor[blocks.frame]) / number
    factor = np.bincount(blocks.frame, variance) / np.bincount(blocks.frame, square[where])
    order = np.argsort(level)
    level, square = level[order], square[order]
    apart = np.concatenate([[True], np.diff(level) > 1e-6])
    return level[apart], np.sqrt(square[apart]), np.sqrt(factor)


@dataclass(frozen=True)
class _Spectra:
    """What every frame's blocks say, averaged over them, without the noise of rounding.

    `power`, of the pixels' noise, is in units of the expected variance. In DN² are its `variance`,
    and along the axes of columns and of rows, (2, F, n), the spectra of all noise, `lines`, and
    those of the pixels' noise right beside, `near`. `lines` lack what the trends took.
    """

    power: Floats
    lines: Floats
    near: Floats
    variance: Floats

    def pool(self, weight: Floats) -> Floats:
        """The spectrum of the pixels' noise over weighted frames, (n, n)."""
        power = np.tensordot(weight / weight.sum(), self.power, 1)
        power = np.maximum(power, 0.02 * max(float(power[1:, 1:].mean()), 1e-12))
        # A spectrum of real values is the same at opposite frequencies.
        power = (power + np.roll(power[::-1, ::-1], 1, (0, 1))) / 2
        power[0, 1:], power[1:, 0] = _continue(power[:, 1:]), _continue(power.T[:, 1:])
        power[0, 0] = np.sqrt(_continue(power[0]) * _continue(power[:, 0]))
        return np.asarray(power)

    def patterns(self, power: Floats) -> Floats:
        """Every frame's spectra of the patterns of columns and of rows, (2, F, n), DN².

        They are what the axes have beyond the pixels' noise, and so may be below 0 by chance. From
        beside an axis to the axis, a frame's noise rises as that of all frames.
        """
        kept = _kept_of_lines(len(power))
        pooled = np.stack([power, power.T])[:, None]
        beside = pooled[:, :, 1] + pooled[:, :, -1]
        noise = self.near * 2 * pooled[:, :, 0] / beside
        # The subtracted means leave nothing at frequency 0 to start from.
        near, beside = (one[..., 1] + one[..., -1] for one in (self.near, beside))
        noise[..., 0] = near * 2 * pooled[:, :, 0, 0] / beside
        found = (self.lines - noise @ kept.T) / np.maximum(kept.sum(1), 0.05) / len(power)
        found[..., 0] = (found[..., 1] + found[..., 2]) / 2
        return np.asarray(found)


def _frame_patterns(variance: Floats) -> Floats:
    """Standard deviations of the frames' patterns from variances that may be below 0 by chance.

    Their mean square is the mean of the variances. Clipping alone would raise it.
    """
    found = variance.clip(0)
    return np.asarray(np.sqrt(found * max(float(variance.mean()), 0.0) / max(found.mean(), 1e-12)))


def _group(power: Floats, frames: int) -> NDArray[np.int64]:
    """Put frames with like spectra together, as their cameras' settings changed: a number each."""
    if frames < 2 * _FRAMES_PER_KIND:
        return np.zeros(frames, np.int64)
    level = np.maximum(power[:, 1:, 1:], 0.02)
    side = level.shape[-1]
    frequency = np.minimum(np.arange(1, side + 1), side - np.arange(side))
    radius = np.rint(np.hypot(frequency[:, None], frequency)).astype(np.int64)
    rings = [level[:, radius == r].mean(1) for r in range(1, side // 2 + 1)]
    shape = np.log(np.stack([*rings, *level.mean(1).T, *level.mean(2).T], 1))
    shape -= shape.mean(1, keepdims=True)
    most = min(_MOST_KINDS, frames // _FRAMES_PER_KIND)
    tree = scipy.cluster.hierarchy.linkage(shape, "ward")
    return np.asarray(scipy.cluster.hierarchy.fcluster(tree, most, "maxclust") - 1, np.int64)


def _shape(lines: Floats) -> Floats:
    """The spectrum of a pattern over all frames, mean 1."""
    line = lines.mean(0)
    line = np.maximum((line + np.roll(line[::-1], 1)) / 2, 0)
    return np.asarray(line / line.mean() if line.any() else line)


def _continue(power: Floats) -> Floats:
    """Continue an even spectrum to frequency 0: in logarithms a parabola through both sides."""
    near, far = ((np.log(power[at]) + np.log(power[-at])) / 2 for at in (1, 2))
    return np.asarray(np.exp(near + np.clip((near - far) / 3, -0.35, 0.35)))


def _summarise(
    blocks: NoiseBlocks, variance: Floats, parts: _Spectra
) -> tuple[dict[str, float], dict[str, float]]:
    """Numbers of the whole, and their errors by the jackknife over groups of frames."""
    frames = len(parts.variance)

    def numbers(weight: Floats) -> Floats:
        power = parts.pool(weight)
        share = weight / weight.sum()
        chosen = weight[blocks.frame] > 0
        correlation = np.fft.ifft2(power).real / power.mean()
        fade = 1 - np.arange(len(power) // 2) / len(power)
        return np.array(
            [
                np.sqrt(share @ parts.variance * power.mean()),
                *parts.patterns(power).mean(2) @ share,
                _gain(blocks.mean[chosen], variance[chosen]) * power.mean(),
                correlation_length(correlation[0, : len(fade)] / fade),
                correlation_length(correlation[: len(fade), 0] / fade),
            ]
        )

    whole = numbers(np.ones(frames))
    wide = np.full(len(SUMMARY), np.nan)
    if frames > 1:
        group = np.arange(frames) % _GROUPS
        left = [numbers((group != out).astype(np.float64)) for out in range(min(frames, _GROUPS))]
        wide = np.hypot(np.sqrt((len(left) - 1) * np.var(left, 0)), _SYSTEMATIC * whole)
    # Up to here patterns are variances: the root of a noisy variance near 0 is biased, and the
    # jackknife gives it too small an error. Patterns that stay are the same in all frames: their
    # error is that of so many lines.
    lines = [len(np.unique(place)) * blocks.side / 2 for place in (blocks.col, blocks.row)]
    square = whole[1:3].clip(0)
    doubt = np.hypot(wide[1:3], square * np.sqrt(2 / np.maximum(lines, 1)))
    whole[1:3], wide[1:3] = to_sigma(square, doubt)
    summary, error = (dict(zip(SUMMARY, one.tolist(), strict=True)) for one in (whole, wide))
    return summary, error


def correlation_length(correlation: Floats) -> float:
    """Distance in pixels at which an autocorrelation, at lags 0, 1, 2, …, has fallen to 1/e.

    Between lags its logarithm is linear in the squared distance, as that of noise that a Gaussian
    has blurred, so that for such noise the length is right below one pixel too: it is twice the
    Gaussian's σ. It is 0 where it is below half a pixel, neighbours correlate by less than 0.02
    then, and the last lag where the autocorrelation stays above 1/e.
    """
    if correlation[1] <= np.exp(-4):
        return 0.0
    level = np.log(np.maximum(correlation, 1e-6))
    below = np.flatnonzero(level <= -1)
    if not len(below):
        return float(len(correlation) - 1)
    after = int(below[0])
    step = (level[after - 1] + 1) / (level[after - 1] - level[after])
    square = (after - 1) ** 2 + step * (after**2 - (after - 1) ** 2)
    return float(np.sqrt(square))


def _gain(mean: Floats, variance: Floats) -> float:
    """Slope of variance over intensity, blocks weighted by what their variances tell."""
    mean = mean - mean.mean()
    if np.ptp(mean) < 1e-6:
        return 0.0
    line = np.array([0.0, variance.mean()])
    for _ in range(4):
        wide = np.maximum(np.polyval(line, mean), 0.05 * variance.mean())
        line = np.polyfit(mean, variance, 1, w=1 / wide)
    return float(line[0])


def _quantiles(values: Floats) -> Floats:
    """Quantiles of values, scaled to mean 0 and variance 1 as the distribution that they make."""
    # Sorted first, for numpy is slow to part unsorted values at so many places.
    found = np.quantile(np.sort(values, axis=None), _QUANTILE_SHARES)
    found = found - found.mean()
    return np.asarray(found / max(float(found.std()), 1e-12))
