"""The command `detect study`: does the synthesised data help?"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

from pipelines.cli.console import emit_json, json_option, progress_bar

if TYPE_CHECKING:
    from pipelines.study import Choice, Run, Study

_INTERRUPTED = 130
_SHOWN = (("IoU", "iou", 1e-2, "e-2"), ("Pd", "pd", 1e-2, "e-2"), ("Fa", "fa", 1e-6, "e-6"))

_folder = click.Path(file_okay=False, path_type=Path)


def _words(
    context: click.Context, option: click.Parameter, text: str | None
) -> tuple[str, ...] | None:
    return None if text is None else tuple(part.strip() for part in text.split(","))


def _numbers(
    context: click.Context, option: click.Parameter, text: str | None
) -> tuple[Any, ...] | None:
    number = click.IntRange(0) if option.name == "seeds" else click.FloatRange(0, 1)
    parts = _words(context, option, text)
    return parts and tuple(number(part, option, context) for part in parts)


def _named(
    context: click.Context, option: click.Parameter, given: tuple[str, ...]
) -> dict[str, list[Path]]:
    """Paths by the name before ``=``, or by the file's or folder's own."""
    named: dict[str, list[Path]] = {}
    for text in given:
        found = None if Path(text).exists() else re.fullmatch(r"([A-Za-z0-9][\w.-]*)=(.+)", text)
        path = Path(found[2]) if found else Path(text)
        name = found[1] if found else path.resolve().name.removesuffix(".npz")
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
            raise click.BadParameter(f"{text} needs a name; give NAME={text}")
        named.setdefault(name, []).append(path)
    return named


def _named_once(
    context: click.Context, option: click.Parameter, given: tuple[str, ...]
) -> dict[str, Path]:
    named = _named(context, option, given)
    for name, paths in named.items():
        if len(paths) > 1:
            raise click.BadParameter(f"{name!r} is given twice; give each one a NAME= of its own")
    return {name: path for name, (path,) in named.items()}


def _known_device(context: click.Context, option: click.Parameter, name: str | None) -> str | None:
    if name is not None and not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        raise click.BadParameter(f"{name!r} is none of auto, cpu, cuda, cuda:1, mps.")
    return name


@click.command()
@click.argument("config", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--data", type=_folder, help="The labelled set, loose files; replaces `data`.")
@click.option(
    "--noise",
    multiple=True,
    callback=_named,
    metavar="[NAME=]FRAMES",
    help="Frames of a sensor, a noise file, or a labelled set, of which the training images are "
    "taken without their labels; may be repeated, also under one name.",
)
@click.option(
    "--against",
    multiple=True,
    callback=_named_once,
    metavar="[NAME=]SET",
    help="A further set to test on; may be repeated.",
)
@click.option(
    "--runs",
    multiple=True,
    callback=_named_once,
    metavar="[NAME=]FOLDER",
    help="The folder of another study, whose runs label frames or teach; may be repeated.",
)
@click.option("--out", type=_folder, help="The study's folder; default: runs/studies/NAME.")
@click.option(
    "--results",
    type=_folder,
    help="Write tables, and scores image by image, here too; without CONFIG: read them from here.",
)
@click.option("--test", is_flag=True, help="Judge finished runs on the test splits, once.")
@click.option(
    "--study", "studies", metavar="NAME,...", callback=_words, help="Without CONFIG: these studies."
)
@click.option("--only", metavar="ARM,...", callback=_words, help="These arms.")
@click.option("--seeds", metavar="N,...", callback=_numbers, help="These of the study's seeds.")
@click.option("--fractions", metavar="F,...", callback=_numbers, help="These fractions.")
@click.option(
    "--jobs", type=click.IntRange(1), default=1, show_default=True, help="Runs at a time."
)
@click.option("--device", callback=_known_device, help="auto, cpu, cuda, cuda:1, mps.")
@click.option("--keep-sets", is_flag=True, help="Keep the sets that were built for the runs.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Replace any key.")
@json_option
def study(
    config: Path | None,
    data: Path | None,
    noise: dict[str, list[Path]],
    against: dict[str, Path],
    runs: dict[str, Path],
    out: Path | None,
    results: Path | None,
    test: bool,
    studies: tuple[str, ...] | None,
    only: tuple[str, ...] | None,
    seeds: tuple[int, ...] | None,
    fractions: tuple[float, ...] | None,
    jobs: int,
    device: str | None,
    keep_sets: bool,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Compare ways to make a training set: arms x seeds x fractions, at equal steps.

    Every run of a seed and fraction starts from the same labelled images. Part of the training
    split is held out and judges all runs; the test split is read with --test alone, once a run. A
    study that was stopped goes on when the same command is given again; finished runs stay.

    Without CONFIG nothing is run: the tables of --results are computed again from its files alone.

    \b
    Example:
      detect study configs/study/b-nudt.yaml --data NUDT-SIRST --noise backgrounds
      detect study configs/study/b-nudt.yaml --data NUDT-SIRST --noise backgrounds \\
          --only originals,sirst5k-plus --seeds 0 --test --results docs/results
      detect study mine.yaml --data NUDT-SIRST --noise backgrounds \\
          --noise nuaa=NUAA-SIRST --against nuaa=NUAA-SIRST --test
      detect study --results docs/results --study b-wide
    """
    from pipelines.study import Choice

    choice = Choice(only, seeds, fractions, test)
    if config is None:
        _require_reading(results)
        _show(results, studies, choice, as_json)
        return
    if studies is not None:
        raise click.UsageError("--study is for results that are read; leave it or CONFIG out")
    from pipelines.study_config import read_study

    settings, arms = read_study(config, overrides)
    data = data or (settings.data and config.parent / settings.data)
    if data is None:
        raise click.UsageError(f"say on what: give --data, or set `data` in {config}")
    out = out or Path("runs/studies") / settings.name

    from detect.errors import TrainingInterruptedError
    from pipelines.study import execute, prepare
    from pipelines.study_figure import plot_study
    from pipelines.study_results import summarise, write_tables
    from synth.disk.files import replace_file, write_json

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    ready = prepare(
        settings,
        arms,
        out,
        data=data,
        noise={k: [path] for k, path in _paths(settings.noise, config).items()} | noise,
        against=_paths(settings.against, config) | against,
        runs=_paths(settings.runs, config) | runs,
        choice=choice,
        device=device,
    )
    folders = [out] if results is None else [out, results]

    def ended(run: Run) -> None:
        progress.end(run)
        for folder in folders:
            write_tables(ready, folder)

    progress = _Progress(ready)
    try:
        with closing(progress):
            execute(
                ready,
                jobs=jobs,
                keep_sets=keep_sets,
                started=progress.start,
                ended=ended,
                watch=progress.steps,
                log=progress.log,
            )
    except TrainingInterruptedError as error:
        click.echo(f"detect: {error}", err=True)
        sys.exit(_INTERRUPTED)
    for folder in folders:
        write_tables(ready, folder)
    summary = summarise(ready)
    pictures = plot_study(ready)
    for name, picture in pictures.items():
        replace_file(out / "plots" / name, picture)
    summary["out"] = str(out)
    summary["plots"] = [str(out / "plots" / name) for name in pictures]
    write_json(out / "summary.json", summary)
    if as_json:
        emit_json(summary)
        return
    for line in _table(summary):
        click.echo(line)


def _require_reading(results: Path | None) -> None:
    """Reject options that need CONFIG."""
    context = click.get_current_context()
    if results is None:
        raise click.UsageError("give CONFIG to run a study, or --results to read results")
    reading = {"config", "results", "studies", "only", "seeds", "fractions", "as_json"}
    for option in context.command.params:
        name = option.name or ""
        given = context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT
        if given and name not in reading:
            raise click.UsageError(f"{option.opts[0]} needs CONFIG, the study to run")


def _show(
    results: Path | None, studies: tuple[str, ...] | None, choice: Choice, as_json: bool
) -> None:
    """Print what a folder of results holds."""
    from pipelines.study_results import recompute

    assert results is not None
    found = recompute(results, studies, choice)
    if as_json:
        emit_json({"results": str(results), "studies": found})
        return
    for number, summary in enumerate(found):
        if number:
            click.echo()
        for line in _table(summary):
            click.echo(line)


def _paths(settings: dict[str, Path | None], config: Path) -> dict[str, Path]:
    """What a study's file gives; without a path a name is for the command line to fill in."""
    return {name: config.parent / path for name, path in settings.items() if path is not None}


class _Progress:
    """Says on stderr which run is under way, how it does, and how long the rest will take."""

    def __init__(self, study: Study) -> None:
        self._waiting = [run for run in study.chosen if not run.finished]
        self._all = len(study.chosen)
        self._budget = study.config.steps
        self._left = {run.place: self._budget for run in self._waiting if not run.trained}
        self._done = 0
        self._begin = time.monotonic()
        self._bar = progress_bar(sum(self._left.values()), "study", "step")
        self._ended = self._all - len(self._waiting)
        self._now: Run | None = None
        if self._ended:
            self.log(f"{self._ended} of {self._all} runs are finished")

    def start(self, run: Run) -> None:
        self._now = run
        self.log(f"[{self._ended + 1}/{self._all}] {run.name}")

    def steps(self, steps: range) -> Iterator[int]:
        assert self._now is not None
        place = self._now.place
        self._bar.update(self._left[place] - len(steps))
        self._left[place] = len(steps)
        for step in steps:
            yield step
            self._left[place] -= 1
            self._done += 1
            self._bar.update()

    def end(self, run: Run) -> None:
        left = self._left.pop(run.place, 0)
        self._done += left  # in a process of its own
        self._bar.update(left)
        self._ended += 1
        if run is not self._now:
            self.log(f"[{self._ended}/{self._all}] {run.name}: done")

    def log(self, line: str) -> None:
        left = sum(self._left.values())
        rest = ""
        if self._done and left:
            seconds = left * (time.monotonic() - self._begin) / self._done
            rest = f"  {_duration(seconds)} left"
        tqdm.write(line + rest, file=sys.stderr)

    def close(self) -> None:
        self._bar.close()


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute"
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


def _table(summary: dict[str, Any]) -> Iterator[str]:
    runs, images = summary["runs"], {one["fraction"]: one for one in summary.get("images", ())}
    whole = f" of {runs['all']}" if "all" in runs else ""
    batch = f" of {summary['batch']} images" if "batch" in summary else ""
    # A folder of results does not have the study's own, but what every arm was compared with.
    named = {row["baseline"] for row in summary["table"]}
    baseline = summary.get("baseline") or (named.pop() if len(named) == 1 else None)
    yield (
        f"{summary['study']}: {runs['done']}{whole} runs, {summary['steps']} steps{batch}; "
        f"differences to {baseline or 'the baseline of each arm'} with 95% intervals"
    )
    scores = [row[key] for row in summary["table"] for _, key, _, _ in _SHOWN]
    if any(one["difference"] is not None and one["low"] is None for one in scores):
        yield "(in round brackets: by seed, where scores image by image were not kept)"
    for (fraction, split), rows in groupby(
        summary["table"], key=lambda row: (row["fraction"], row["split"])
    ):
        yield ""
        of = images.get(fraction)
        yield f"{split}, trained from {100 * fraction:.4g}%" + (
            f" ({of['train']} of {of['of']} labelled images)" if of else " of the labelled images"
        )
        head = ["arm", "seeds"]
        for name, _, _, unit in _SHOWN:
            head += [f"{name} / {unit}", "difference"]
        yield from _align(
            [
                head,
                *(
                    [_arm(row, baseline), str(len(row["seeds"]))]
                    + [cell for _, key, unit, _ in _SHOWN for cell in _cells(row[key], unit)]
                    for row in rows
                ),
            ]
        )
    if summary["reach"]:
        yield ""
        yield "steps to the baseline's last validation IoU, and their share of the budget"
        yield from _align(
            [
                ["arm", "of the set", "steps", "share", "reached in"],
                *(
                    [
                        _arm(row, baseline),
                        f"{100 * row['fraction']:.4g}%",
                        "-" if row["mean"] is None else f"{row['mean']:.0f}",
                        "-" if row["ratio"] is None else f"{row['ratio']:.2f}",
                        f"{row['reached']} of {row['seeds']} seeds",
                    ]
                    for row in summary["reach"]
                ),
            ]
        )


def _arm(row: dict[str, Any], baseline: str | None) -> str:
    """An arm, and what it is compared with where that is not the study's baseline."""
    own = row["baseline"] in (baseline, row["arm"])
    return row["arm"] if own else f"{row['arm']} (to {row['baseline']})"


def _align(rows: list[list[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = (f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True))
        yield "  ".join([f"{first:<{widths[0]}}", *cells]).rstrip()


def _cells(score: dict[str, Any], unit: float) -> tuple[str, str]:
    def show(value: float | None, sign: str = "") -> str:
        return "-" if value is None else f"{value / unit:{sign}.2f}"

    spread = "" if score["std"] is None else f" ± {show(score['std'])}"
    change = ""
    if score["difference"] is not None:
        change = f"{show(score['difference'], '+')} "
        if score["low"] is None:
            change += f"({', '.join(show(one, '+') for one in score['by_seed'].values())})"
        else:
            change += f"[{show(score['low'], '+')}, {show(score['high'], '+')}]"
    return show(score["mean"]) + spread, change
