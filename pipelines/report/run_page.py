"""The page of a training run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipelines.report.charts import Axis, Line, fit_axis, line_chart
from pipelines.report.judgement import Failure, Judgement, Run, best_entry
from pipelines.report.page import (
    Child,
    Html,
    facts,
    figure,
    flatten,
    group,
    join,
    note,
    number,
    page,
    paragraph,
    quiet,
    settings_tables,
    share_cell,
    table,
    values_table,
)
from pipelines.report.pictures import show_crop
from synth import __version__

_SCORES = (
    ("IoU", "iou", 1e-2, "10⁻²"),
    ("nIoU", "niou", 1e-2, "10⁻²"),
    ("Pd", "pd", 1e-2, "10⁻²"),
    ("Fa", "fa", 1e-6, "10⁻⁶"),
    ("hIoU", "hiou", 1e-2, "10⁻²"),
    ("precision of pixels", "precision", 1e-2, "10⁻²"),
    ("recall of pixels", "recall", 1e-2, "10⁻²"),
    ("F1 of pixels", "f1", 1e-2, "10⁻²"),
    ("precision of targets", "target_precision", 1e-2, "10⁻²"),
    ("recall of targets", "target_recall", 1e-2, "10⁻²"),
    ("F1 of targets", "target_f1", 1e-2, "10⁻²"),
    ("AUC", "auc", 1e-2, "10⁻²"),
)

# What has no false alarm is drawn here, as zero has no place on a logarithmic axis.
_LEAST_FA = 1e-7


def run_page(
    run: Run,
    weights: Mapping[str, Any] | None,
    judged: Judgement | None,
    on: Mapping[str, Any] | None,
    machine: Mapping[str, Any],
    notes: Sequence[str],
) -> bytes:
    """Make the page of a training run.

    Parameters
    ----------
    run : Run
    weights : mapping or None
        Of `pipelines.report.judgement.describe_weights`.
    judged : Judgement or None
        None where nothing was judged.
    on : mapping or None
        ``dataset`` and ``split`` that were judged.
    machine : mapping
        Of `pipelines.report.judgement.describe_machine`.
    notes : sequence of str
        What a reader must know first.

    Returns
    -------
    bytes
        An HTML file.
    """
    scores = judged.scores if judged is not None else None
    numbers = {"network": str(run.recipe.get("network", "–"))}
    if run.history:
        numbers["steps"] = f"{run.history[-1]['step']:,}"
    shown = scores or (best_entry(run.history) or {}).get("scores")
    if shown:
        for name, key, unit, suffix in _SCORES[:4]:
            if key != "niou":
                numbers[f"{name} / {suffix}"] = number(_scaled(shown.get(key), unit))
    data = run.recipe.get("data")
    trained_on = data.get("name") if isinstance(data, Mapping) else None
    lead: list[Child] = [facts(numbers)]
    if on is not None:
        lead.append(quiet(f"Judged on {on['dataset']}, {on['split']}: {_what(on['split'])}"))
    elif shown:
        lead.append(
            quiet("Scores of the best validation during training, as history.json has them.")
        )
    lead += [note(text) for text in notes]
    sections = {
        "Training": _training_section(run),
        "Scores": _score_section(scores, on) if scores is not None and on is not None else Html(),
        "Pd over Fa": _curve_section(scores) if scores is not None else Html(),
        "By size and contrast": _breakdown_section(scores) if scores is not None else Html(),
        "Worst misses": _failure_section(
            judged.missed if judged is not None else None,
            "No target was missed.",
            "Missed targets, those that stand out the most first: the frame, the label, and the "
            "predicted probability. Red: missed; green: found; yellow: false alarms.",
            "Missed target",
        ),
        "Worst false alarms": _failure_section(
            judged.false if judged is not None else None,
            "There was no false alarm.",
            "False alarms, the largest first, as they weigh the most in Fa: the frame, the label, "
            "and the predicted probability. Yellow: false alarms; green: found; red: missed.",
            "False alarm",
        ),
        "Recipe and provenance": _provenance_section(run, weights),
        "Machine": _machine_section(machine),
    }
    title = f"{run.root.resolve().name}: training run" + (f" on {trained_on}" if trained_on else "")
    return page(title, lead, sections, f"detect report, sirst-synth {__version__}.")


def _training_section(run: Run) -> Html:
    if not run.history:
        return paragraph("The run has not been validated yet, so there are no curves.")
    steps = [float(entry["step"]) for entry in run.history]
    x = fit_axis("step", steps, low=0.0)
    best = best_entry(run.history)
    plots = [
        _history_plot("Training loss", run, x, {"loss": lambda entry: entry.get("loss")}, "loss"),
        _history_plot(
            "IoU on the held-out part",
            run,
            x,
            {name: _score_of(key, 1e-2) for name, key in (("IoU", "iou"), ("nIoU", "niou"))},
            "10⁻²",
            best,
        ),
        _history_plot(
            "Pd on the held-out part", run, x, {"Pd": _score_of("pd", 1e-2)}, "10⁻²", best
        ),
        _history_plot(
            "Fa on the held-out part", run, x, {"Fa": _score_of("fa", 1e-6)}, "10⁻⁶", best, low=0.0
        ),
        _history_plot(
            "Learning rate", run, x, {"rate": lambda entry: entry.get("lr")}, "rate", low=0.0
        ),
    ]
    told = "The ring marks the validation whose weights were kept as the best." if best else ""
    return join([quiet(f"{len(steps)} validations. {told}"), group("plots", plots)])


def _history_plot(
    title: str,
    run: Run,
    x: Axis,
    values: Mapping[str, Callable[[Mapping[str, Any]], Any]],
    unit: str,
    best: Mapping[str, Any] | None = None,
    low: float | None = None,
) -> Html:
    steps = [float(entry["step"]) for entry in run.history]
    lines = [
        Line(name, steps, [_number(of(entry)) for entry in run.history])
        for name, of in values.items()
    ]
    known = [value for line in lines for value in line.y if value == value]
    if not known:
        return Html()
    first = next(iter(values.values()))
    mark = _number(first(best)) if best is not None else float("nan")
    marks = [(float(best["step"]), mark)] if best is not None and mark == mark else []
    last = next((value for value in reversed(lines[0].y) if value == value), float("nan"))
    own = [value for value in lines[0].y if value == value] or known
    digits = 4 if best is None else 2
    told = f"{lines[0].name}: {number(min(own), digits)} to {number(max(own), digits)}"
    told += f", at the end {number(last, digits)}"
    if marks:
        told += f", {number(mark, digits)} at step {int(marks[0][0]):,}, whose weights were kept"
    chart = line_chart(title, lines, x, fit_axis(unit, known, low=low), told, marks)
    return figure(chart, f"{told}.")


def _score_section(scores: Mapping[str, Any], on: Mapping[str, Any]) -> Html:
    rows = [
        (name, number(_scaled(scores.get(key), unit)), suffix)
        for name, key, unit, suffix in _SCORES
    ]
    told = (
        f"{scores['images']:,} images, {scores['targets']:,} targets; protocol "
        f"{scores['protocol']}, a pixel is target where its probability is above "
        f"{scores['threshold']:g}; images at their own size"
    )
    return join([quiet(f"{told}."), table(["score", on["split"], "unit"], rows, "Scores")])


def _curve_section(scores: Mapping[str, Any]) -> Html:
    curve = [row for row in scores["curve"] if row["pd"] is not None and row["fa"] is not None]
    if not curve:
        return paragraph("Without targets there is no Pd.")
    curve = sorted(curve, key=lambda row: -row["threshold"])
    fa = [max(row["fa"], _LEAST_FA) for row in curve]
    chosen = (max(scores["fa"], _LEAST_FA), 100 * scores["pd"])
    x = fit_axis("Fa (share of all pixels)", [*fa, chosen[0], 1e-4], log=True)
    x = Axis(x.label, min(x.low, _LEAST_FA), x.high, log=True)
    told = (
        f"Pd {number(chosen[1])} at Fa {number(1e6 * scores['fa'])}·10⁻⁶, the threshold of the "
        "scores (the ring)"
    )
    pd = Line("Pd", fa, [100 * row["pd"] for row in curve])
    chart = line_chart("Pd over Fa", [pd], x, Axis("Pd / 10⁻²", 0.0, 104.0), told, [chosen])
    thresholds = [row["threshold"] for row in curve]
    over = [
        Line(name, thresholds, [_number(_scaled(row[key], 1e-2)) for row in curve])
        for name, key in (("IoU", "iou"), ("Pd", "pd"))
    ]
    best = max(curve, key=lambda row: row["iou"] or 0.0)
    over_told = f"IoU {number(_scaled(best['iou'], 1e-2))} at most, above {best['threshold']:.3g}"
    over_chart = line_chart(
        "IoU and Pd over the threshold",
        over,
        Axis("threshold", 0.0, 1.0),
        Axis("10⁻²", 0.0, 104.0),
        over_told,
    )
    rows = [
        (
            f"{point['fa'] / 1e-6:g}",
            number(_scaled(point["pd"], 1e-2)),
            "–" if point["threshold"] is None else f"{point['threshold']:.7g}",
        )
        for point in scores["pd_at_fa"]
    ]
    return join(
        [
            group(
                "plots",
                [
                    figure(chart, f"{told}. No false alarm at all is drawn at 10⁻⁷."),
                    figure(over_chart, f"{over_told}."),
                ],
            ),
            table(
                ["Fa at most / 10⁻⁶", "Pd / 10⁻²", "threshold"], rows, "The greatest Pd at given Fa"
            ),
        ]
    )


def _breakdown_section(scores: Mapping[str, Any]) -> Html:
    tables = []
    for key, head, told in (
        ("by_area", "area / pixels", "Targets by their area"),
        ("by_scr", "local SCR", "Targets by their signal-to-clutter ratio"),
    ):
        rows = [
            (
                _bin_name(row),
                f"{row['targets']:,}",
                share_cell(row["pd"]),
                number(_scaled(row["recall"], 1e-2)),
                number(_scaled(row["iou"], 1e-2)),
            )
            for row in scores.get(key, ())
        ]
        heads = [head, "targets", "Pd / 10⁻²", "recall / 10⁻²", "IoU / 10⁻²"]
        if rows:
            tables.append(table(heads, rows, told, bars=[2]))
    explained = quiet(
        "Recall is of the targets' pixels; IoU is the mean overlap of those that were found."
    )
    return (
        join([explained, group("tables", tables)])
        if tables
        else paragraph("There were no targets.")
    )


def _failure_section(failures: Sequence[Failure] | None, none: str, told: str, alt: str) -> Html:
    if failures is None:
        return Html()
    if not failures:
        return paragraph(none)
    cases = []
    for failure in failures:
        known = failure.facts
        row, col = ((known["box"][at] + known["box"][at + 2] - 1) // 2 for at in (0, 1))
        scr = ""
        if "scr" in known:
            scr = f", SCR {'–' if known['scr'] is None else number(known['scr'])}"
        caption = (
            f"{known['id']}: row {row}, column {col}, {known['area']:,} pixels{scr}, probability "
            f"up to {number(known['peak_probability'], 3)}"
        )
        cases.append(figure(show_crop(failure.crop, f"{alt} in image {caption}"), caption))
    return join([quiet(told), group("cases", cases)])


def _provenance_section(run: Run, weights: Mapping[str, Any] | None) -> Html:
    parts: list[Html] = []
    if weights is not None:
        shown = {
            "file": str(weights["file"]),
            "SHA-256": str(weights["sha256"]),
            "after step": "–" if weights["step"] is None else f"{weights['step']:,}",
            "parameters": "–" if weights["params"] is None else f"{weights['params']:,}",
            "multiply-accumulates at 256x256": "–"
            if weights["macs"] is None
            else f"{weights['macs'] / 1e9:.2f} G",
            "normalisation": f"{weights['normalisation']}, mean "
            f"{', '.join(f'{v:.6g}' for v in weights['mean'])}, σ "
            f"{', '.join(f'{v:.6g}' for v in weights['std'])}",
        }
        parts.append(values_table(shown, "The weights"))
    flat = dict(flatten(run.recipe))
    origin = {
        label: flat[key]
        for key, label in (
            ("data.name", "data set"),
            ("data.training", "SHA-256 of the training images"),
            ("data.validation", "SHA-256 of the held-out images"),
            ("init", "SHA-256 of the weights that it began with"),
        )
        if key in flat
    }
    recipe = {key: value for key, value in run.recipe.items() if key not in ("data", "init")}
    parts.append(values_table(origin, "What the run began with"))
    parts.append(settings_tables(recipe, "The recipe, run.json"))
    return join(parts)


def _machine_section(machine: Mapping[str, Any]) -> Html:
    memory = machine["memory_bytes"]
    shown = {
        "system": str(machine["system"]),
        "processor": f"{machine['processor']}, {machine['processors']} threads",
        "memory": "–" if memory is None else f"{memory / 2**30:.1f} GiB",
        "device": str(machine["device"]),
        "versions": f"python {machine['python']}, torch {machine['torch']}, "
        f"numpy {machine['numpy']}, sirst-synth {__version__}",
    }
    told = "Where this page was made; a run does not record where it was trained"
    return values_table(shown, told)


def _what(split: str) -> str:
    if split == "held-out":
        return "the part of the training split that the run held out to choose its epoch."
    if split == "test":
        return "the test split, which the run has not seen."
    if split == "val":
        return "the validation split, which chooses the epoch."
    return "with images that the run was trained on, so the scores say little of others."


def _bin_name(row: Mapping[str, Any]) -> str:
    if row["from"] is None:
        return "no background"
    return f"{row['from']} and more" if row["below"] is None else f"{row['from']} to {row['below']}"


def _score_of(key: str, unit: float) -> Callable[[Mapping[str, Any]], Any]:
    return lambda entry: _scaled((entry.get("scores") or {}).get(key), unit)


def _scaled(value: float | None, unit: float) -> float | None:
    return None if value is None else value / unit


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")
