"""The commands `synth report` and `detect report`: one HTML file about a set or a run."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipelines.cli.console import emit_json, json_option, progress, progress_bar

if TYPE_CHECKING:
    from pipelines.build.parallel import Pool
    from pipelines.quality import Item, Result
    from pipelines.quality import Run as Map
    from pipelines.report.judgement import Judgement, Run
    from synth.dataset import Dataset

# What reads, measures and draws is imported inside the commands, so that help is quick.


class _Page(click.ParamType):
    """A path that ends in ``.html``."""

    name = "file.html"

    def convert(self, value: Any, param: Any, ctx: Any) -> Path:
        if Path(value).suffix.lower() not in (".html", ".htm"):
            self.fail(f"{value} must end in .html", param, ctx)
        return Path(value)


class _Device(click.ParamType):
    """A device as torch names it."""

    name = "device"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value):
            self.fail(f"{value!r} is none of auto, cpu, cuda, cuda:1, mps", param, ctx)
        return str(value)


_out_option = click.option(
    "--out",
    type=_Page(),
    default="report.html",
    show_default=True,
    help="The page to write; one that is there is replaced.",
)


@click.command("report")
@click.argument("dataset", metavar="OUT", type=click.Path(path_type=Path))
@click.option(
    "--noise",
    type=click.Path(path_type=Path),
    help="Real frames: is the noise of the set like theirs? By default the set's own noise.npz.",
)
@_out_option
@click.option("--jobs", type=click.IntRange(min=0), default=0, help="Workers; 0 for all.")
@json_option
def set_report(dataset: Path, noise: Path | None, out: Path, jobs: int, as_json: bool) -> None:
    """Describe the set OUT, built or merely labelled, in one HTML file that needs no network.

    Pictures, targets by size and signal-to-clutter ratio, where they lie, what was made how, the
    noise against the real one, where everything comes from and how it is made again. The test split
    is counted, and nothing of it is looked at.

    \b
    Example: synth report out/demo --out demo.html
    Example: synth report out/plus --noise backgrounds/ --out plus.html
    """
    from pipelines.build.parallel import Pool
    from pipelines.report.set_page import count_pictures, set_page
    from pipelines.report.survey import read_lineage, survey_noise, survey_set
    from synth.dataset import open_dataset
    from synth.disk.files import replace_file

    opened = open_dataset(dataset)
    _require_outside(out, dataset, "the set")
    pool = Pool(jobs)
    lineage = read_lineage(dataset)
    total = sum(len(opened.splits.get(split, ())) for split in ("train", "val"))
    found = survey_set(opened, lineage, _with_progress(pool, total, "survey"))
    about_noise = survey_noise(opened, lineage, noise, _with_progress(pool, None, "noise"))
    with progress_bar(count_pictures(opened, lineage), "draw", "picture") as bar:
        data = set_page(opened, lineage, found, about_noise, lambda: bar.update())
    replace_file(out, data)
    if as_json:
        emit_json({"out": str(out), "dataset": str(dataset)} | found | {"noise": about_noise})
        return
    for text in [*found["notes"], *(about_noise or {}).get("notes", ())]:
        click.echo(f"note: {text}", err=True)
    click.echo(f"{out}: {found['counts']['images']:,} images, {len(data) / 1e6:.1f} MB")


@click.command("report")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="The set that the run was trained on, to judge it; without one there are curves alone.",
)
@click.option(
    "--split",
    type=click.Choice(["held-out", "train", "val", "test", "all"]),
    default="held-out",
    show_default=True,
    help="What is judged; held-out is the part that the run itself held out to choose its epoch.",
)
@click.option(
    "--protocol",
    type=click.Choice(["strict", "basicirstd", "dnanet"]),
    default="strict",
    show_default=True,
    help="Rules of Pd and Fa.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="A pixel is target where its probability is greater.",
)
@_out_option
@click.option(
    "--device",
    type=_Device(),
    default="auto",
    show_default=True,
    help="auto, cpu, cuda, cuda:1, mps.",
)
@json_option
def run_report(
    run: Path,
    data: Path | None,
    split: Any,
    protocol: Any,
    threshold: float,
    out: Path,
    device: str,
    as_json: bool,
) -> None:
    """Describe the training run in the folder RUN in one HTML file that needs no network.

    Curves over the steps; with --data also the scores of its weights, Pd over Fa, scores by size
    and signal-to-clutter ratio of the targets, and the worst misses and false alarms as pictures;
    the recipe and where everything comes from. The test split is judged only when --split test
    (or all) asks for it. A run that is still under way is described as far as it is.

    \b
    Example: detect report runs/demo --data out/demo --out demo.html
    Example: detect report runs/demo --data out/demo --split test --json
    """
    if data is None and split != "held-out":
        raise click.UsageError(f"--split {split} is of a set; give it with --data.")
    if math.isnan(threshold):
        raise click.UsageError("--threshold nan is not a number.")

    from pipelines.report.judgement import describe_machine, describe_weights, open_run
    from pipelines.report.run_page import run_page
    from synth.disk.files import replace_file

    opened = open_run(run)
    if data is not None:
        _require_outside(out, data, "the set")
    notes, judged, on = [], None, None
    if opened.weights is None:
        notes.append("The run has written no weights yet.")
    elif opened.weights.name != "best.safetensors":
        notes.append("Nothing was held out to choose an epoch: these are the last weights.")
    steps = opened.recipe.get("steps")
    if isinstance(steps, int) and (not opened.history or opened.history[-1]["step"] < steps):
        done = opened.history[-1]["step"] if opened.history else 0
        notes.append(f"The run is not at its end: {done:,} of {steps:,} steps are validated.")
    if data is not None:
        judged, where = _judge_run(opened, data, split, protocol, threshold, device)
        on = {"dataset": where.name, "split": split}
    else:
        where = None
    weights = None if opened.weights is None else describe_weights(opened.weights)
    machine = describe_machine(_resolve(device))
    page = run_page(opened, weights, judged, on, machine, notes)
    replace_file(out, page)
    if as_json:
        emit_json(
            {
                "out": str(out),
                "run": str(run),
                "dataset": None if data is None else str(data),
                "split": None if data is None else split,
                "weights": weights,
                "history": opened.history,
                "scores": None if judged is None else judged.scores,
                "misses": None if judged is None else [one.facts for one in judged.missed],
                "false_alarms": None if judged is None else [one.facts for one in judged.false],
                "recipe": opened.recipe,
                "machine": machine,
                "notes": notes,
            }
        )
        return
    for text in notes:
        click.echo(f"note: {text}", err=True)
    click.echo(f"{out}: {len(opened.history)} validations, {len(page) / 1e6:.1f} MB")


def _judge_run(
    run: Run, data: Path, split: Any, protocol: Any, threshold: float, device: str
) -> tuple[Judgement, Dataset]:
    from detect.errors import DetectError
    from detect.evaluate import Case
    from detect.predict import load_detector
    from pipelines.report.judgement import choose_images, judge_cases
    from synth.dataset import open_dataset

    if run.weights is None:
        raise DetectError(f"{run.root}: has no weights yet to judge; leave out --data, or wait")
    dataset = open_dataset(data)
    ids = choose_images(run, dataset, split)
    detector = load_detector(run.weights, device)

    def cases() -> Iterator[Case]:
        for id_ in ids:
            frame, truth = dataset.read_pair(id_)
            yield Case(id_, detector(frame), truth, frame)

    return judge_cases(progress(cases(), len(ids), "judge"), protocol, threshold), dataset


def _resolve(device: str) -> str:
    """The device that ``auto`` is."""
    import torch

    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def _require_outside(out: Path, folder: Path, what: str) -> None:
    """A page inside a set would be a file that its build did not make."""
    if out.resolve().is_relative_to(folder.resolve()):
        raise click.UsageError(f"--out {out} lies in {what}; give a file outside it.")


def _with_progress(pool: Pool, total: int | None, what: str) -> Map:
    def run(work: Callable[[Item], Result], items: Iterable[Item], /) -> Iterator[Result]:
        with closing(pool.map(work, items)) as results:
            yield from progress(results, total, what, "frame")

    return run
