"""A figure of noise models: level over intensity, spectrum, distribution, patterns."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy import special

from synth.noise.model import NoiseModel


def plot_noise(models: Sequence[NoiseModel]) -> bytes:
    """Plot models of one depth, a row of four panels each.

    Parameters
    ----------
    models : sequence of NoiseModel

    Returns
    -------
    bytes
        A PNG file.
    """
    figure = Figure(figsize=(15, 3.4 * len(models)), layout="constrained")
    FigureCanvasAgg(figure)
    rows = figure.subplots(len(models), 4, squeeze=False)
    for number, (model, (level, spectrum, marginal, lines)) in enumerate(
        zip(models, rows, strict=True), start=1
    ):
        name = f"camera {number}: " if models[1:] else ""
        level.plot(model.level, model.sigma, "o-", color="tab:blue")
        for frame, factor in enumerate(model.frame_factor):
            at = model.frame_levels[frame]
            level.plot(at, factor * model.sigma_at(at), color="0.7", lw=0.8, zorder=0)
        level.set(
            title=f"{name}noise level", xlabel="intensity, DN", ylabel="σ, DN", ylim=(0, None)
        )

        power = np.average(model.spectrum, 0, np.bincount(model.frame_kind))
        shown = spectrum.imshow(
            np.log10(np.fft.fftshift(power)), cmap="viridis", extent=(-0.5, 0.5, 0.5, -0.5)
        )
        spectrum.set(
            title="power spectrum of the pixels' noise, decades",
            xlabel="along rows, cycles per pixel",
            ylabel="along columns",
        )
        figure.colorbar(shown, ax=spectrum)

        normal = special.ndtri(
            (np.arange(model.quantiles.shape[1]) + 0.5) / model.quantiles.shape[1]
        )
        marginal.plot([-3, 3], [-3, 3], color="0.7", lw=1)
        for quantiles in model.quantiles:
            marginal.plot(normal, quantiles, color="tab:blue", lw=1)
        marginal.set(
            title="distribution against the normal one", xlabel="normal quantile, σ", ylabel="σ"
        )

        half = slice(1, len(model.columns) // 2 + 1)
        frequency = np.arange(len(model.columns))[half] / len(model.columns)
        for label, line, spread in (
            ("columns", model.columns, model.frame_column),
            ("rows", model.rows, model.frame_row),
        ):
            square = float((spread**2).mean())
            lines.plot(
                frequency,
                np.sqrt(line[half] * square),
                label=f"{label}, σ {np.sqrt(square):.2f} DN",
            )
        lines.set(
            title="patterns of columns and rows",
            xlabel="cycles per pixel",
            ylabel="amplitude, DN",
            ylim=(0, None),
        )
        lines.legend(frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()
