"""The results of a study: tables of its runs, and what the arms differ by."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detect.curve import FALSE_ALARM_RATES
from pipelines.bootstrap import Interval, paired_intervals
from pipelines.errors import StoreError
from pipelines.lock import alone_in
from pipelines.store import replace_file
from pipelines.study import Run, Study, read_runs
from pipelines.study_scores import RATIOS, RunScores
from synth.seeds import generator

Finished = Sequence[tuple[Run, Mapping[str, RunScores]]]

RUN_COLUMNS = (
    *("study", "arm", "network", "fraction", "seed", "steps", "split"),
    *("iou", "pd", "fa"),
)
CURVE_COLUMNS = ("study", "arm", "fraction", "seed", "step", "iou", "pd", "fa", "loss")

RUNS, CURVES = "runs.csv", "curves.csv"

_RUN_KEY = ("study", "arm", "fraction", "seed", "split")
_CURVE_KEY = ("study", "arm", "fraction", "seed", "step")


def write_tables(study: Study, folder: Path) -> None:
    """Write ``runs.csv`` and ``curves.csv``, each whole or not at all.

    Lines of other studies that are in the files stay; so do those of runs of this study that were
    made elsewhere.

    Raises
    ------
    StoreError
        A file cannot be written, or is another kind of table.
    """
    finished = read_runs(study)
    folder.mkdir(parents=True, exist_ok=True)
    # Another study may be writing into the same tables.
    with alone_in(folder, wait=True):
        _merge(study, folder / RUNS, RUN_COLUMNS, _RUN_KEY, run_rows(study, finished))
        _merge(study, folder / CURVES, CURVE_COLUMNS, _CURVE_KEY, curve_rows(study, finished))


def run_rows(study: Study, finished: Finished) -> list[dict[str, str]]:
    """One row a run and split, as ``runs.csv`` has them."""
    return [
        {
            "study": study.config.name,
            "arm": run.arm.name,
            "network": run.arm.train.network,
            "fraction": _number(run.fraction),
            "seed": str(run.seed),
            "steps": str(study.config.steps),
            "split": split,
        }
        | {name: _number(value) for name, value in found.scores().items()}
        for run, scores in finished
        for split, found in scores.items()
    ]


def curve_rows(study: Study, finished: Finished) -> list[dict[str, str]]:
    """One row a run and validation, as ``curves.csv`` has them."""
    return [
        {
            "study": study.config.name,
            "arm": run.arm.name,
            "fraction": _number(run.fraction),
            "seed": str(run.seed),
            "step": str(entry["step"]),
        }
        | {name: _number(entry["scores"][name]) for name in RATIOS}
        | {"loss": _number(entry["loss"])}
        for run, _ in finished
        for entry in run.history()
    ]


def summarise(study: Study) -> dict[str, Any]:
    """Compare the arms, as JSON.

    Returns
    -------
    dict
        ``study``, ``baseline``, ``steps``, ``batch``, ``runs`` (done and in all); ``table``, an
        entry per fraction, split and arm with the scores' mean and standard deviation over seeds,
        ``baseline``, the difference to it with its 95% interval (`pipelines.bootstrap`), and
        ``pd_at_fa``, the greatest Pd of all seeds together within limits on Fa; ``reach``, an
        entry per fraction and arm, see `steps_to_reach`; ``images``, an entry per fraction;
        ``scores``, an entry per run and split.
    """
    finished = read_runs(study)
    config = study.config
    table = []
    splits = [one.name for one in study.evaluations]
    for fraction in config.fractions:
        for split in splits:
            of = {
                arm: {
                    run.seed: scores[split]
                    for run, scores in finished
                    if (run.arm.name, run.fraction) == (arm, fraction) and split in scores
                }
                for arm in config.arms
            }
            for arm, by_seed in of.items():
                if by_seed:
                    table.append(
                        {"fraction": fraction, "split": split, "arm": arm}
                        | {"seeds": sorted(by_seed), "baseline": config.baseline_of(arm)}
                        | _compare(
                            config.name, fraction, split, arm, by_seed, of[config.baseline_of(arm)]
                        )
                    )
    return {
        "study": config.name,
        "baseline": config.baseline,
        "steps": config.steps,
        "batch": config.batch,
        "runs": {"done": len(finished), "all": len(study.runs)},
        "images": [
            {
                "fraction": fraction,
                "train": len(study.parts[fraction, config.seeds[0]].train),
                "of": study.parts[fraction, config.seeds[0]].whole,
                "validation": len(study.parts[fraction, config.seeds[0]].validation),
            }
            for fraction in config.fractions
        ],
        "table": table,
        "reach": steps_to_reach(study, finished),
        "scores": [
            {"fraction": run.fraction, "arm": run.arm.name, "seed": run.seed, "split": split}
            | found.scores()
            for run, scores in finished
            for split, found in scores.items()
        ],
    }


def steps_to_reach(study: Study, finished: Finished) -> list[dict[str, Any]]:
    """How soon arms are where their baseline ends.

    Returns
    -------
    list of dict
        Per fraction and arm: ``steps``, by seed the first validation at which IoU is at least that
        of the baseline's last one with the same seed, None where there is none or that IoU is 0;
        ``reached``, in how many of the seeds; ``mean`` and ``ratio``, mean steps and their share of
        the study's budget, None unless all seeds reached it.
    """
    curves = {(run.arm.name, run.fraction, run.seed): run.history() for run, _ in finished}
    config, rows = study.config, []
    for fraction in config.fractions:
        for arm in config.arms:
            steps: dict[int, int | None] = {}
            for seed in config.seeds:
                own = curves.get((arm, fraction, seed))
                goal = curves.get((config.baseline_of(arm), fraction, seed))
                if own and goal:
                    wanted = goal[-1]["scores"]["iou"] or 0.0
                    at = (e["step"] for e in own if (e["scores"]["iou"] or 0.0) >= wanted)
                    steps[seed] = next(at, None) if wanted else None
            if not steps:
                continue
            there = [step for step in steps.values() if step is not None]
            mean = fmean(there) if len(there) == len(steps) else None
            rows.append(
                {
                    "fraction": fraction,
                    "arm": arm,
                    "baseline": config.baseline_of(arm),
                    "steps": {str(seed): step for seed, step in steps.items()},
                    "reached": len(there),
                    "seeds": len(steps),
                    "mean": mean,
                    "ratio": None if mean is None else mean / config.steps,
                }
            )
    return rows


def _compare(
    study: str,
    fraction: float,
    split: str,
    arm: str,
    by_seed: Mapping[int, RunScores],
    baseline: Mapping[int, RunScores],
) -> dict[str, Any]:
    """Scores of an arm on a split over seeds, and its difference to the baseline."""
    entry: dict[str, Any] = {}
    scores = [found.scores() for found in by_seed.values()]
    for name in RATIOS:
        values = [value for score in scores if (value := score[name]) is not None]
        entry[name] = {
            "mean": fmean(values) if values else None,
            "std": stdev(values) if len(values) > 1 else None,
        }
    common = sorted(by_seed.keys() & baseline.keys())
    intervals = dict.fromkeys(RATIOS, Interval(None, None, None))
    if common and by_seed is not baseline:
        ours = [by_seed[seed] for seed in common]
        theirs = [baseline[seed] for seed in common]
        for one, other in zip(ours, theirs, strict=True):
            if one.ids != other.ids:
                raise StoreError(split, "two arms were judged on different images; judge again")
        intervals = paired_intervals(
            [found.counts for found in ours],
            [found.counts for found in theirs],
            RATIOS,
            generator(0, "bootstrap", study, f"{fraction:g}", split, arm),
            crossed=len({found.ids for found in ours}) == 1,
        )
    for name, interval in intervals.items():
        entry[name] |= asdict(interval)
    total = np.sum([found.curve for found in by_seed.values()], axis=0)
    entry["pd_at_fa"] = [{"fa": fa, "pd": _best_pd(total, fa)} for fa in FALSE_ALARM_RATES]
    return entry


def _best_pd(curve: NDArray[np.int64], limit: float) -> float | None:
    """See `detect.curve.Curve.operating_point`."""
    matched, targets, false, pixels = curve.T
    if not targets.any():
        return None
    return float(max((matched / targets)[false <= limit * pixels], default=0.0))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _merge(
    study: Study,
    path: Path,
    columns: tuple[str, ...],
    key: tuple[str, ...],
    rows: Sequence[Mapping[str, str]],
) -> None:
    new = {tuple(row[name] for name in key) for row in rows}

    def stays(row: Mapping[str, str]) -> bool:
        if row["study"] != study.config.name:
            return True
        return row["arm"] in study.config.arms and tuple(row[name] for name in key) not in new

    old = [row for row in _read_table(path, columns) if stays(row)]
    # In the study's order, which does not depend on which run ended first.
    place = {arm: number for number, arm in enumerate(study.config.arms)}
    splits = {one.name: number for number, one in enumerate(study.evaluations)}

    def order(row: Mapping[str, str]) -> tuple[Any, ...]:
        return (
            row["study"],
            -float(row["fraction"]),
            place.get(row["arm"], len(place)),
            int(row["seed"]),
            int(row.get("step", 0)),
            splits.get(row.get("split", ""), len(splits)),
        )

    others = [row for row in old if row["study"] != study.config.name]
    own = sorted([row for row in [*old, *rows] if row["study"] == study.config.name], key=order)
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    table.writerows([*others, *own])
    replace_file(path, text.getvalue().encode())


def _read_table(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    if not path.exists():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            table = csv.DictReader(stream)
            rows = list(table)
        if tuple(table.fieldnames or ()) != columns or any(None in row.values() for row in rows):
            raise ValueError
        for row in rows:
            float(row["fraction"]), int(row["seed"])
    except (OSError, ValueError, csv.Error):
        raise StoreError(
            path, f"is no table of {', '.join(columns)}; choose another folder, or remove it"
        ) from None
    return rows
