"""`synth check`: what is wrong with a labelled set, and a repaired copy of it."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from pipelines.build.parallel import Pool
from pipelines.cli.console import emit_json, fail, json_option, label_options, progress_bar
from pipelines.export import ExportResult
from pipelines.repair import write_repaired
from synth.dataset import Dataset
from synth.disk.description import require_usable
from synth.disk.layout import Place
from synth.disk.looseset import open_loosely
from synth.inspect.check import (
    FAULTS,
    PairFindings,
    Repair,
    Report,
    check_dataset,
    plan_repair,
)
from synth.masks import Label

_NARROW = 100


@click.command("check")
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--fix", is_flag=True, help="Write a repaired copy; DATASET is never changed.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the repaired copy.")
@click.option("--jobs", type=click.IntRange(min=0), default=0, help="Workers; 0 for all.")
@label_options
@json_option
def check_command(
    dataset: Path, fix: bool, out: Path | None, jobs: int, label: Label | None, as_json: bool
) -> None:
    """Look for faults in the images, masks and lists of DATASET, whatever state it is in.

    Exit status 1 when there is an error; warnings alone are 0. With --fix a repaired copy is
    written: grey images, masks of 0 and 255, broken and unlisted pairs left out, and out of
    training what is equal, or nearly so, to a held-out image. Exit status 0 then.

    A set in shards has no names and lists that could be at fault; its copy is in loose files.

    \b
    Example: synth check NUDT-SIRST
             synth check downloads/frames --fix --out frames
    """
    if fix != (out is not None):
        raise click.UsageError("--fix and --out go together.")
    loose = open_loosely(dataset, label)
    if out is not None:
        require_usable(out)
        for problem in loose.problems:
            if problem.fault == "several labels":
                fail(f"{dataset}: {problem.words}; say which with --label VALUE, or --any-label")
            if problem.fault == "lossy labels":
                fail(f"{dataset}: {problem.words}; write the masks anew as PNG")
    pool = Pool(jobs)
    report = _check(loose.dataset, pool, loose.problems)
    repair = result = None
    if out is not None:
        repair = plan_repair(loose.dataset, report)
        with progress_bar(None, "fix") as bar:

            def tell(stage: str, done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            result = write_repaired(loose.dataset, repair, out, pool, progress=tell)
    if as_json:
        emit_json(_as_json(dataset, loose.places, report) | _fix_json(repair, result))
    else:
        _print(loose.places, report)
        if repair is not None and result is not None:
            _print_fix(repair, result)
    if result is None and not report.sound:
        worst = next(f for f in FAULTS if f.error and f.name in report.faults)
        fail(f"{dataset}: {worst.name}: {report.faults[worst.name][0]}")
    if not as_json and report.sound:
        click.echo(f"{dataset}: sound")


def _check(dataset: Dataset, pool: Pool, problems: Iterable[Any]) -> Report:
    total = sum(map(len, dataset.splits.values()))
    with progress_bar(total, "check") as bar:

        def run(
            work: Callable[[tuple[str, str]], PairFindings], items: Iterable[tuple[str, str]]
        ) -> Iterator[PairFindings]:
            with closing(pool.map(work, items)) as results:
                for result in results:
                    bar.update()
                    yield result

        return check_dataset(dataset, run, tuple(problems))


def _as_json(dataset: Path, places: Iterable[Place], report: Report) -> dict[str, Any]:
    return {
        "dataset": str(dataset),
        "sound": report.sound,
        "folders": [
            {
                "split": place.split,
                "images": str(place.images),
                "masks": None if place.masks is None else str(place.masks),
            }
            for place in places
        ],
        "images": report.images,
        "targets": report.targets,
        "shapes": report.shapes,
        "dtypes": report.dtypes,
        "faults": [
            {
                "fault": fault.name,
                "severity": "error" if fault.error else "warning",
                "count": len(report.faults[fault.name]),
                "cases": report.faults[fault.name],
                "ids": report.ids[fault.name],
                "splits": report.splits[fault.name],
                "remedy": fault.remedy,
            }
            for fault in FAULTS
            if fault.name in report.faults
        ],
    }


def _fix_json(repair: Repair | None, result: ExportResult | None) -> dict[str, Any]:
    if repair is None or result is None:
        return {}
    return {
        "fixed": {
            "out": str(result.out),
            "counts": result.counts,
            "dropped": dict(repair.dropped),
        }
    }


def _print(places: Iterable[Place], report: Report) -> None:
    for place in places:
        masks = "no masks" if place.masks is None else f"masks from {place.masks}"
        click.echo(f"{place.split or 'set':6} images from {place.images}, {masks}")
    for split, count in report.images.items():
        click.echo(f"{split:6} {count:7,} images {report.targets[split]:7,} targets")
    common = sorted(report.shapes.items(), key=lambda item: -item[1])
    sizes = ", ".join(f"{size} ({count:,})" for size, count in common[:3])
    more = f" and {len(common) - 3} other sizes" if len(common) > 3 else ""
    if common:
        click.echo(f"sizes  {sizes}{more}; {', '.join(report.dtypes)}")
    rows = [
        (
            "error" if fault.error else "warning",
            f"{len(report.faults[fault.name]):,}",
            fault.name,
            _examples(report, fault.name),
            fault.remedy,
        )
        for fault in FAULTS
        if fault.name in report.faults
    ]
    if rows:
        click.echo()
        for line in _table([("", "cases", "fault", "examples", "what to do"), *rows]):
            click.echo(line)
        click.echo()


def _examples(report: Report, fault: str) -> str:
    cases = report.faults[fault]
    shown = ", ".join(cases[:3]) + (", …" if len(cases) > 3 else "")
    counts = [f"{count:,} {split}" for split, count in report.splits[fault].items()]
    return f"{', '.join(counts)}: {shown}" if len(counts) > 1 else shown


def _table(rows: list[tuple[str, str, str, str, str]]) -> Iterator[str]:
    """Lay rows out in columns; the last two wrap within the terminal's width."""
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    fixed = sum(widths) + 2 * len(widths)
    left = max(shutil.get_terminal_size((_NARROW, 24)).columns, _NARROW) - fixed - 2
    examples = left * 11 // 20
    for row in rows:
        shown = textwrap.wrap(row[3], examples, max_lines=6, placeholder=" …") or [""]
        remedy = textwrap.wrap(row[4], left - examples) or [""]
        for number in range(max(len(shown), len(remedy))):
            first = row if number == 0 else ("", "", "")
            yield (
                f"{first[0]:{widths[0]}}  {first[1]:>{widths[1]}}  {first[2]:{widths[2]}}  "
                f"{shown[number] if number < len(shown) else '':{examples}}  "
                f"{remedy[number] if number < len(remedy) else ''}"
            ).rstrip()


def _print_fix(repair: Repair, result: ExportResult) -> None:
    counts = ", ".join(
        f"{count:,} {split}" for split, count in result.counts.items() if split != "outputs"
    )
    click.echo(f"{result.out}: repaired copy, {counts}; {len(repair.dropped):,} left out")
    for id_, why in list(repair.dropped.items())[:20]:
        click.echo(f"  left out: {id_} ({why})")
    if len(repair.dropped) > 20:
        click.echo(f"  and {len(repair.dropped) - 20:,} more, which --json lists")
