"""The results of a study: tables of its runs, and what the arms differ by.

A folder of results holds those of many studies: ``runs.csv``, ``curves.csv``, ``arms.csv``, and
scores image by image (`pipelines.study_scores`). `recompute` reads all of it back, and nothing
else.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from pipelines.errors import ConfigError
from pipelines.study import Choice, Run, Study, read_runs
from pipelines.study_comparison import Result, compare, steps_to_reach
from pipelines.study_scores import RATIOS, RunScores, archive_path, load_scores
from synth.disk.files import alone_in, replace_file
from synth.errors import StoreError, no_such

Finished = Sequence[tuple[Run, Mapping[str, RunScores]]]
Row = Mapping[str, str]

RUN_COLUMNS = (
    *("study", "arm", "network", "fraction", "seed", "steps", "split"),
    *("iou", "pd", "fa"),
)
CURVE_COLUMNS = ("study", "arm", "fraction", "seed", "step", "iou", "pd", "fa", "loss")
ARM_COLUMNS = ("study", "arm", "baseline")

RUNS_CSV, CURVES_CSV, ARMS_CSV = "runs.csv", "curves.csv", "arms.csv"

_RUN_KEY = ("study", "arm", "fraction", "seed", "split")
_CURVE_KEY = ("study", "arm", "fraction", "seed", "step")
_ARM_KEY = ("study", "arm")
_INTEGERS, _RATIOS = {"seed", "steps", "step"}, {"fraction", *RATIOS}


def write_tables(study: Study, folder: Path) -> None:
    """Write ``runs.csv``, ``curves.csv`` and ``arms.csv``, each whole or not at all.

    Elsewhere than in the study's own folder, which has them with each run, scores image by image
    are written too. Lines of other studies that are in the files stay; so do those of runs of this
    study that were made elsewhere.

    Raises
    ------
    StoreError
        A file cannot be written, or is another kind of table.
    """
    finished = read_runs(study)
    folder.mkdir(parents=True, exist_ok=True)
    # Another study may be writing into the same tables.
    with alone_in(folder, wait=True):
        _merge(study, folder / RUNS_CSV, RUN_COLUMNS, _RUN_KEY, run_rows(study, finished))
        _merge(study, folder / CURVES_CSV, CURVE_COLUMNS, _CURVE_KEY, curve_rows(study, finished))
        _merge(study, folder / ARMS_CSV, ARM_COLUMNS, _ARM_KEY, arm_rows(study))
        if folder.resolve() != study.out.resolve():
            for run, scores in finished:
                for split, found in scores.items():
                    place = (study.config.name, run.arm.name, run.fraction, run.seed, split)
                    found.save(archive_path(folder, *place))


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


def arm_rows(study: Study) -> list[dict[str, str]]:
    """One row an arm, with what it is compared with, as ``arms.csv`` has them."""
    config = study.config
    return [
        {"study": config.name, "arm": arm, "baseline": config.baseline_of(arm)}
        for arm in config.arms
    ]


def summarise(study: Study) -> dict[str, Any]:
    """Compare the arms, as JSON.

    Returns
    -------
    dict
        ``study``, ``baseline``, ``steps``, ``batch``, ``runs`` (done and in all); ``table``, see
        `pipelines.study_comparison.compare`; ``reach``, see
        `pipelines.study_comparison.steps_to_reach`; ``images``, an entry per fraction; ``scores``,
        an entry per run and split.
    """
    finished = read_runs(study)
    config = study.config
    baselines = {arm: config.baseline_of(arm) for arm in config.arms}
    results = [
        Result(run.arm.name, run.fraction, run.seed, split, found.scores(), found)
        for run, scores in finished
        for split, found in scores.items()
    ]
    curves = {
        (run.arm.name, run.fraction, run.seed): [
            (entry["step"], entry["scores"]["iou"]) for entry in run.history()
        ]
        for run, _ in finished
    }
    splits = [one.name for one in study.evaluations]
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
        "table": compare(config.name, results, baselines, config.fractions, splits),
        "reach": steps_to_reach(curves, baselines, config.fractions, config.seeds, config.steps),
        "scores": _scores(results),
    }


def recompute(
    folder: Path, studies: Sequence[str] | None = None, choice: Choice | None = None
) -> list[dict[str, Any]]:
    """Compare the arms of studies by what a folder of results holds, without images and weights.

    Parameters
    ----------
    folder : Path
    studies : sequence of str, optional
        Their names; default: all.
    choice : Choice, optional
        Arms, beside which their baselines are shown, seeds and fractions.

    Returns
    -------
    list of dict
        For each study ``study``, ``steps``, ``runs`` (done), ``table``, ``reach`` and ``scores`` as
        `summarise` has them, with the same intervals. Where scores image by image are absent, there
        are none.

    Raises
    ------
    StoreError
        A file is missing or damaged, or two files contradict each other.
    ConfigError
        There is no such study, arm, seed or fraction.
    """
    choice = choice or Choice()
    tables = {
        name: read_table(folder / name, columns, needed=True)
        for name, columns in (
            (RUNS_CSV, RUN_COLUMNS),
            (CURVES_CSV, CURVE_COLUMNS),
            (ARMS_CSV, ARM_COLUMNS),
        )
    }
    _require_scores(folder / RUNS_CSV, tables[RUNS_CSV])
    known = list(dict.fromkeys(row["study"] for row in tables[RUNS_CSV]))
    for name in studies or ():
        if name not in known:
            raise ConfigError(f"{folder / RUNS_CSV}: {no_such('study', name, known)}")
    wanted = [name for name in known if studies is None or name in studies]
    rows = [row for row in tables[RUNS_CSV] if row["study"] in wanted]
    choice.require_known(
        str(folder / RUNS_CSV),
        (row["arm"] for row in rows),
        (int(row["seed"]) for row in rows),
        (float(row["fraction"]) for row in rows),
    )
    found = []
    for name in wanted:
        runs, curves, arms = ([r for r in rows if r["study"] == name] for rows in tables.values())
        if summary := _recompute(folder, name, runs, curves, arms, choice):
            found.append(summary)
    return found


def _recompute(
    folder: Path,
    name: str,
    runs: Iterable[Row],
    curves: Iterable[Row],
    arms: Iterable[Row],
    choice: Choice,
) -> dict[str, Any] | None:
    baselines = {row["arm"]: row["baseline"] for row in arms}
    if choice.arms is not None:
        shown = {baselines.get(arm, arm) for arm in choice.arms} | set(choice.arms)
        baselines = {arm: other for arm, other in baselines.items() if arm in shown}

    def chosen(row: Row) -> bool:
        return (
            (choice.arms is None or row["arm"] in baselines)
            and (choice.seeds is None or int(row["seed"]) in choice.seeds)
            and (choice.fractions is None or float(row["fraction"]) in choice.fractions)
        )

    runs = [row for row in runs if chosen(row)]
    if not runs:
        return None
    for row in runs:
        if row["arm"] not in baselines:
            raise StoreError(
                folder / ARMS_CSV,
                f"lacks the arm {row['arm']} of {name}; `detect study CONFIG --results {folder}` "
                "writes it",
            )
    results = [_read_result(folder, row) for row in runs]
    fractions = list(dict.fromkeys(one.fraction for one in results))
    splits = list(dict.fromkeys(one.split for one in results))
    steps = int(runs[0]["steps"])
    validations: dict[tuple[str, float, int], list[tuple[int, float | None]]] = {}
    for row in filter(chosen, curves):
        key = (row["arm"], float(row["fraction"]), int(row["seed"]))
        validations.setdefault(key, []).append((int(row["step"]), _value(row["iou"])))
    seeds = sorted({one.seed for one in results})
    return {
        "study": name,
        "steps": steps,
        "runs": {"done": len({(one.arm, one.fraction, one.seed) for one in results})},
        "table": compare(name, results, baselines, fractions, splits),
        "reach": steps_to_reach(validations, baselines, fractions, seeds, steps),
        "scores": _scores(results),
    }


def _require_scores(path: Path, rows: Sequence[Row]) -> None:
    """Raise a `StoreError` for a run that is there twice, or a score that is none."""
    seen = set()
    for row in rows:
        key = tuple(row[name] for name in _RUN_KEY)
        if key in seen:
            raise StoreError(path, f"has two rows of {', '.join(key)}; remove one of them")
        seen.add(key)
        for name in RATIOS:
            if row[name] and not 0 <= float(row[name]) <= 1:
                what = f"{', '.join(key)}: {name} is {row[name]:.20}, not in 0 to 1"
                raise StoreError(path, what)


def _read_result(folder: Path, row: Row) -> Result:
    key = (row["arm"], float(row["fraction"]), int(row["seed"]), row["split"])
    path = archive_path(folder, row["study"], *key)
    scores = {name: _value(row[name]) for name in RATIOS}
    if not path.exists():
        return Result(*key, scores, None)
    images = load_scores(path)
    exact = images.scores()
    if any(_number(exact[name]) != _number(scores[name]) for name in RATIOS):
        raise StoreError(
            path,
            f"has other scores than {RUNS_CSV} of the same run; restore both, or write them again "
            f"with `detect study CONFIG --results {folder}`",
        )
    return Result(*key, exact, images)


def _scores(results: Iterable[Result]) -> list[dict[str, Any]]:
    return [
        {"fraction": one.fraction, "arm": one.arm, "seed": one.seed, "split": one.split}
        | dict(one.scores)
        for one in results
    ]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _value(text: str) -> float | None:
    return float(text) if text else None


def _merge(
    study: Study,
    path: Path,
    columns: tuple[str, ...],
    key: tuple[str, ...],
    rows: Sequence[Row],
) -> None:
    new = {tuple(row[name] for name in key) for row in rows}

    def stays(row: Row) -> bool:
        if row["study"] != study.config.name:
            return True
        return row["arm"] in study.config.arms and tuple(row[name] for name in key) not in new

    old = [row for row in read_table(path, columns) if stays(row)]
    # In the study's order, which does not depend on which run ended first.
    place = {arm: number for number, arm in enumerate(study.config.arms)}
    splits = {one.name: number for number, one in enumerate(study.evaluations)}

    def order(row: Row) -> tuple[Any, ...]:
        return (
            row["study"],
            -float(row.get("fraction", 0)),
            place.get(row["arm"], len(place)),
            int(row.get("seed", 0)),
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


def read_table(
    path: Path, columns: tuple[str, ...], *, needed: bool = False
) -> list[dict[str, str]]:
    """Read a table of a folder of results.

    Parameters
    ----------
    path : Path
    columns : tuple of str
    needed : bool
        Whether it has to be there; otherwise none is an empty one.

    Raises
    ------
    StoreError
        It is absent although it is needed, or is no table with these columns and their numbers.
    """
    if not path.exists() and not needed:
        return []
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            table = csv.DictReader(stream)
            rows = list(table)
        if tuple(table.fieldnames or ()) != columns or any(None in row.values() for row in rows):
            raise ValueError
        for row in rows:
            _require_numbers(row)
    except FileNotFoundError:
        raise StoreError(
            path, "no such file; `detect study CONFIG --results DIR` writes it"
        ) from None
    except (OSError, ValueError, csv.Error):
        raise StoreError(
            path, f"is no table of {', '.join(columns)}; choose another folder, or remove it"
        ) from None
    return rows


def _require_numbers(row: Row) -> None:
    for name, text in row.items():
        if name in _INTEGERS:
            int(text)
        elif name in _RATIOS and (text or name == "fraction") and not isfinite(float(text)):
            raise ValueError(name)
