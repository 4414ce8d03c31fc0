"""Figures of a study: learning curves, and Pd over Fa."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from detect.curve import THRESHOLDS
from pipelines.study import Run, Study, read_runs
from pipelines.study_results import CURVE_COLUMNS, CURVES_CSV, read_table
from pipelines.study_scores import RunScores
from synth.errors import StoreError

History = list[tuple[int, float, float]]
"""Step, IoU and loss of the validations of a run."""


def plot_study(study: Study) -> dict[str, bytes]:
    """Draw everything that the finished runs of a study give.

    Returns
    -------
    dict of str to bytes
        PNG files by name: ``curves-FRACTION.png``, and ``pd-fa-SPLIT-FRACTION.png`` of every split
        that was judged.
    """
    finished = read_runs(study)
    pictures = {}
    for fraction in study.config.fractions:
        of = {
            arm: [
                (run, scores)
                for run, scores in finished
                if (run.arm.name, run.fraction) == (arm, fraction)
            ]
            for arm in study.config.arms
        }
        title = f"{study.config.name}, {_share(fraction)} of the training images"
        if any(of.values()):
            curves = {arm: [_history(run) for run, _ in runs] for arm, runs in of.items()}
            pictures[f"curves-{fraction:g}.png"] = _plot_curves(title, curves)
        for one in study.evaluations:
            judged = {
                arm: [scores[one.name] for _, scores in runs if one.name in scores]
                for arm, runs in of.items()
            }
            if any(judged.values()):
                name = f"pd-fa-{one.name}-{fraction:g}.png"
                pictures[name] = _plot_points(f"{title}: {one.name}", judged)
    return pictures


def plot_curves(folder: Path, study: str) -> bytes:
    """Draw the learning curves of a study from a folder of results, of its largest fraction.

    Raises
    ------
    StoreError
        ``curves.csv`` is missing or damaged, or has no such study.
    """
    rows = [row for row in read_table(folder / CURVES_CSV, CURVE_COLUMNS) if row["study"] == study]
    if not rows:
        raise StoreError(folder / CURVES_CSV, f"has no study {study}")
    fraction = max(float(row["fraction"]) for row in rows)
    arms: dict[str, dict[str, History]] = {}
    for row in rows:
        if float(row["fraction"]) == fraction:
            values = (int(row["step"]), float(row["iou"] or 0), float(row["loss"] or "nan"))
            arms.setdefault(row["arm"], {}).setdefault(row["seed"], []).append(values)
    title = f"{study}, {_share(fraction)} of the training images"
    return _plot_curves(title, {arm: list(by_seed.values()) for arm, by_seed in arms.items()})


def _history(run: Run) -> History:
    return [(e["step"], e["scores"]["iou"] or 0.0, e["loss"]) for e in run.history()]


def _plot_curves(title: str, arms: Mapping[str, Sequence[History]]) -> bytes:
    """Validation IoU and training loss over steps: the mean over seeds, and their range."""
    figure, (scores, losses) = _figure(2)
    for number, (arm, histories) in enumerate(arms.items()):
        if not histories:
            continue
        steps = [step for step, _, _ in histories[0]]
        for panel, values in (
            (scores, [[100 * iou for _, iou, _ in history] for history in histories]),
            (losses, [[loss for _, _, loss in history] for history in histories]),
        ):
            table = np.array(values)
            colour = _colour(number)
            panel.plot(steps, table.mean(0), color=colour, label=f"{arm} ({len(histories)})")
            if len(table) > 1:
                panel.fill_between(
                    steps, table.min(0), table.max(0), color=colour, alpha=0.15, lw=0
                )
    figure.suptitle(title)
    # Arms lie close together: the axis begins where they do.
    scores.set(title="validation IoU, 10⁻²", xlabel="steps")
    losses.set(title="training loss", xlabel="steps")
    # Losses fall, so that this corner is free; scores may fall or rise.
    losses.legend(frameon=False, title="arm (seeds)", fontsize="small", loc="upper right")
    return _encode(figure)


def _plot_points(title: str, arms: Mapping[str, Sequence[RunScores]]) -> bytes:
    """The greatest Pd within a limit on Fa: all seeds together, and thinly each of them."""
    figure, (panel,) = _figure(1)
    floor = min(0.5 / float(found.curve[0, 3]) for all_ in arms.values() for found in all_)
    for number, (arm, all_) in enumerate(arms.items()):
        if not all_:
            continue
        colour = _colour(number)
        if len(all_) > 1:
            for found in all_:
                panel.step(
                    *_frontier(found.curve, floor), where="post", color=colour, lw=0.6, alpha=0.5
                )
        total = np.sum([found.curve for found in all_], axis=0)
        label = f"{arm} ({len(all_)})"
        panel.step(*_frontier(total, floor), where="post", color=colour, label=label)
        fa, pd = _points(total, floor)
        middle = THRESHOLDS.index(0.5)
        panel.plot(fa[middle], pd[middle], "o", color=colour, ms=5)
    panel.set(
        title=title,
        xscale="log",
        xlim=(floor, max(1e-2, 100 * floor)),
        xlabel="at most so much Fa, share of all pixels (none at the left edge)",
        ylabel="Pd, 10⁻²",
    )
    panel.grid(color="0.92")
    panel.legend(frameon=False, title="arm (seeds); dot: threshold 0.5", fontsize="small")
    return _encode(figure)


def _points(
    curve: NDArray[np.int64], floor: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fa and Pd at every threshold; no false pixel at all is drawn as half of one."""
    matched, targets, false, pixels = curve.T.astype(np.float64)
    return np.maximum(false / pixels, floor), 100 * matched / np.maximum(targets, 1)


def _frontier(
    curve: NDArray[np.int64], floor: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Limits on Fa, rising, and the greatest Pd within them."""
    fa, pd = _points(curve, floor)
    order = np.lexsort((pd, fa))
    best = np.maximum.accumulate(pd[order])
    return np.append(fa[order], 1.0), np.append(best, best[-1])


def _figure(panels: int) -> tuple[Figure, list[Any]]:
    figure = Figure(figsize=(6.4 * panels, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, panels, squeeze=False)[0])


def _colour(number: int) -> str:
    return f"C{number % 10}"


def _share(fraction: float) -> str:
    return f"{100 * fraction:.4g}%"


def _encode(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
