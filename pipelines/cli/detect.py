"""The command `detect`: everything about detectors, from training to export."""

from __future__ import annotations

import csv
import io
import logging
import math
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

from pipelines.cli.console import (
    LABEL_VALUE,
    ToolGroup,
    emit_json,
    json_option,
    label_options,
    progress,
    stage_bar,
)
from pipelines.cli.report import run_report
from pipelines.cli.study import study

if TYPE_CHECKING:
    from detect.baselines import Baseline
    from detect.evaluate import Case, Verdict
    from detect.metrics import Tally
    from synth.dataset import Dataset
    from synth.masks import Label

# Torch and what needs it are imported inside the commands, so that help and usage errors are
# quick.

_PROTOCOLS = ("strict", "basicirstd", "dnanet")
_QUALITIES = ("area", "scr", "border")
_BASELINES = ("top-hat", "max-median", "rlcm", "mpcm", "ipi", "pstnn")
_INTERRUPTED = 130

_SHOWN = (
    ("IoU", "iou", 1e-2, "e-2"),
    ("nIoU", "niou", 1e-2, "e-2"),
    ("Pd", "pd", 1e-2, "e-2"),
    ("Fa", "fa", 1e-6, "e-6"),
    ("hIoU", "hiou", 1e-2, "e-2"),
    ("precision", "precision", 1e-2, "e-2"),
    ("recall", "recall", 1e-2, "e-2"),
    ("F1", "f1", 1e-2, "e-2"),
    ("target precision", "target_precision", 1e-2, "e-2"),
    ("target recall", "target_recall", 1e-2, "e-2"),
    ("target F1", "target_f1", 1e-2, "e-2"),
    ("AUC", "auc", 1e-2, "e-2"),
)

_file = click.Path(dir_okay=False, path_type=Path)
_folder = click.Path(file_okay=False, path_type=Path)


class _Number(click.FloatRange):
    """A number between two others; NaN, which lies between none, is refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value} is not a number.", param, ctx)
        return number


@dataclass(frozen=True)
class _Judging:
    """What `test` and `score` are asked about predictions, and where tables of it go."""

    split: str
    protocol: Any
    threshold: float
    thresholds: tuple[float, ...]
    curve: bool
    curve_file: Path | None
    by: tuple[Any, ...]
    images_file: Path | None

    @property
    def wants_curve(self) -> bool:
        return self.curve or bool(self.thresholds) or self.curve_file is not None


def _known_thresholds(
    context: click.Context, option: click.Parameter, text: str | None
) -> tuple[float, ...]:
    if text is None:
        return ()
    number = _Number(0, 1)
    return tuple(number.convert(part.strip(), option, context) for part in text.split(","))


def _judging(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that decide how predictions are judged; they come as one `_Judging`."""

    @wraps(command)
    def run(**given: Any) -> Any:
        judging = _Judging(**{name: given.pop(name) for name in _Judging.__dataclass_fields__})
        return command(judging=judging, **given)

    judged: Callable[..., Any] = run
    for option in (
        click.option("--images", "images_file", type=_file, help="Write each image's scores, CSV."),
        click.option("--csv", "curve_file", type=_file, help="Write the curve, CSV."),
        click.option(
            "--by",
            type=click.Choice(_QUALITIES),
            multiple=True,
            help="Also by the targets' size, signal-to-clutter ratio, or distance from the border.",
        ),
        click.option(
            "--thresholds",
            metavar="T,T,...",
            callback=_known_thresholds,
            help="Those of the curve, instead of 65 from 1e-7 to 1 - 1e-7.",
        ),
        click.option(
            "--curve",
            is_flag=True,
            help="Also at many thresholds: ROC, Pd over Fa, Pd at fixed Fa.",
        ),
        click.option(
            "--threshold",
            type=_Number(0, 1),
            default=0.5,
            show_default=True,
            help="A pixel is target where its probability is greater.",
        ),
        _protocol_option,
        _split_option,
    ):
        judged = option(judged)
    return judged


def _protocol_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--protocol",
        type=click.Choice(_PROTOCOLS),
        default="strict",
        show_default=True,
        help="Rules of Pd and Fa: best one-to-one assignment, or those of published code.",
    )(command)


def _split_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--split",
        type=click.Choice(["train", "val", "test", "all"]),
        default="test",
        show_default=True,
        help="Which images.",
    )(command)


def _known_device(context: click.Context, option: click.Parameter, name: str | None) -> str | None:
    if name is not None and not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        raise click.BadParameter(f"{name!r} is none of auto, cpu, cuda, cuda:1, mps.")
    return name


def _moves(context: click.Context, option: click.Parameter, count: str | None) -> int | None:
    return None if count is None else int(count)


_tta_option = click.option(
    "--tta",
    type=click.Choice(["1", "4", "9"]),
    default="1",
    show_default=True,
    callback=_moves,
    help="Average the answers to a frame in so many places, a pixel apart: better outlines and "
    "fewer false alarms, in so many times the time.",
)


_device_option = click.option(
    "--device",
    default="auto",
    show_default=True,
    callback=_known_device,
    help="auto, cpu, cuda, cuda:1, mps.",
)


@click.group(cls=ToolGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sirst-synth")
def main() -> None:
    """Train detectors of infrared small targets, and judge them.

    \b
    Example:
      detect train configs/train/demo.yaml --data out/demo --out runs/demo
      detect test runs/demo/best.safetensors out/demo
    """
    # Read when torch is loaded. Threads that wait asleep instead of spinning cost little on a quiet
    # machine, and on one that is shared they make training several times as fast.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


main.add_command(study)
main.add_command(run_report)


@main.command()
@click.argument("config", type=_file)
@click.option("--data", type=_folder, help="The data set's folder; replaces `data`.")
@click.option("--out", type=_folder, help="The run's folder; replaces `out`.")
@click.option("--init", type=_file, help="Start from these weights instead of fresh ones.")
@click.option(
    "--teacher",
    "teachers",
    type=_file,
    multiple=True,
    help="Weights whose answers are mixed into the labels; give several for their mean.",
)
@click.option(
    "--teaching",
    type=_Number(0, 1, min_open=True),
    help="Share of the teachers' answers in the labels, 0.5 unless given.",
)
@click.option(
    "--teacher-tta",
    type=click.Choice(["1", "4", "9"]),
    callback=_moves,
    help="Places of a window, a pixel apart, over which teachers average; 1 unless given.",
)
@click.option("--seed", type=click.IntRange(0), help="Replaces `seed`.")
@click.option("--device", help="auto, cpu, cuda, cuda:1, mps; replaces `compute.device`.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Replace any key.")
@label_options
@json_option
def train(
    config: Path,
    data: Path | None,
    out: Path | None,
    init: Path | None,
    teachers: tuple[Path, ...],
    teaching: float | None,
    teacher_tta: Any,
    seed: int | None,
    device: str | None,
    overrides: tuple[str, ...],
    label: Label | None,
    as_json: bool,
) -> None:
    """Train a detector on the training split of a data set.

    Part of that split is held out and chooses the epoch; the test split is not read. A run that
    was stopped goes on when the same command is given again.

    \b
    Example:
      detect train configs/train/demo.yaml --data out/demo --out runs/demo
      detect train configs/train/demo.yaml --data out/demo --out runs/long --set steps=2000
      detect train configs/train/demo.yaml --data out/demo --out runs/two --set compute.devices=2
      detect train configs/train/dnanet-published.yaml --data out/set --out runs/tuned \\
          --init runs/dnanet/best.safetensors
      detect train configs/train/demo.yaml --data out/demo --out runs/pupil \\
          --teacher runs/demo/last.safetensors --teacher runs/other/last.safetensors

    Teachers must not know the images that the run holds out: train them on the same data with the
    same `seed` and `validation`.
    """
    from pipelines.config import label_of, label_text, load_config
    from pipelines.training import TrainConfig

    if teaching is not None and not teachers:
        raise click.UsageError("--teaching is a share of teachers' answers; give --teacher too")
    if teacher_tta is not None and not teachers:
        raise click.UsageError("--teacher-tta is how teachers answer; give --teacher too")

    if device is not None:
        overrides = (*overrides, f"compute.device={device}")
    settings = load_config(
        config, TrainConfig, overrides, data=data, label=label_text(label), out=out, seed=seed
    )
    for name, value in (("data", settings.data), ("out", settings.out)):
        if value is None:
            raise click.UsageError(f"say where: give --{name}, or set `{name}` in {config}")
    assert settings.data is not None
    assert settings.out is not None

    from detect.errors import DetectError, TrainingInterruptedError
    from detect.teachers import Teaching
    from detect.train import is_first_process
    from detect.train import train as run
    from synth.dataset import open_dataset

    taught = None
    if teachers:
        share = 0.5 if teaching is None else teaching
        taught = Teaching(teachers, share, teacher_tta or 1)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    opened = open_dataset(settings.data, label=label_of(settings.label))
    try:
        outcome = run(
            settings.recipe(),
            opened,
            settings.out,
            init,
            _steps,
            _log,
            taught,
        )
    except DetectError as error:
        interrupted = isinstance(error, TrainingInterruptedError)
        if not is_first_process():
            # What stops all processes of a distributed run is for the first one to say.
            sys.exit(_INTERRUPTED if interrupted else 1)
        if not interrupted:
            raise
        click.echo(f"detect: {error}", err=True)
        sys.exit(_INTERRUPTED)
    if outcome is None:
        return
    if as_json:
        emit_json(
            {
                "weights": str(outcome.weights),
                "steps": outcome.steps,
                "training_images": outcome.training_images,
                "validation_images": outcome.validation_images,
                "validation": outcome.scores,
            }
        )
        return
    click.echo(f"{outcome.weights}: after {outcome.steps} steps")
    given = "" if settings.label is None else f" --label {shlex.quote(settings.label)}"
    if settings.label == "any":
        given = " --any-label"
    if opened.splits.get("test"):
        where = shlex.quote(str(settings.data))
        click.echo(f"evaluate it: detect test {outcome.weights} {where}{given}")
    else:
        click.echo("the set has no test split to evaluate it on; `synth split` makes one")


@main.command()
@click.argument("weights", type=_file)
@click.argument("dataset", type=_folder)
@_judging
@_tta_option
@_device_option
@label_options
@json_option
def test(
    weights: Path,
    dataset: Path,
    judging: _Judging,
    tta: Any,
    device: str,
    label: Label | None,
    as_json: bool,
) -> None:
    """Judge trained weights on a split of a data set, at the images' own size.

    \b
    Example:
      detect test runs/demo/best.safetensors out/demo
      detect test runs/demo/best.safetensors out/demo --protocol dnanet --json
      detect test runs/demo/best.safetensors out/demo --csv curve.csv --by area --by scr
      detect test runs/demo/best.safetensors out/demo --tta 9
    """
    from detect.evaluate import Case, require_ids
    from detect.predict import load_detector
    from synth.dataset import open_dataset

    opened = open_dataset(dataset, label=label)
    ids = require_ids(opened, judging.split)
    detector = load_detector(weights, device, tta=tta)

    def cases() -> Iterator[Case]:
        for id_ in ids:
            frame, truth = opened.read_pair(id_)
            yield Case(id_, detector(frame), truth, frame)

    scores = _judge(progress(cases(), len(ids), "test"), judging)
    origin = {"weights": str(weights), "dataset": str(dataset), "split": judging.split, "tta": tta}
    moved = f", mean of {tta} moves" if tta > 1 else ""
    _show_scores(scores | origin, f"{weights} on {opened.name} {judging.split}{moved}", as_json)


@main.command()
@click.argument("predictions", type=_folder)
@click.argument("dataset", type=_folder)
@_judging
@click.option(
    "--predicted",
    type=LABEL_VALUE,
    help="The value that marks targets in PREDICTIONS with several labels, or any.",
)
@label_options
@json_option
def score(
    predictions: Path,
    dataset: Path,
    judging: _Judging,
    predicted: Label | None,
    label: Label | None,
    as_json: bool,
) -> None:
    """Judge masks or probability maps that any program made.

    PREDICTIONS holds one file per id, named as the id (or ID_Pred): masks (one value or colour
    beside 0), probabilities over the range of an 8- or 16-bit image, or numpy arrays (.npy) of
    either.

    \b
    Example:
      detect score results/masks data/NUDT-SIRST --protocol basicirstd
      detect score results/maps data/NUDT-SIRST --csv curve.csv --images images.csv --by area
    """
    from detect.evaluate import Case, require_ids
    from detect.predictions import Extent, open_predictions
    from synth.dataset import open_dataset

    opened = open_dataset(dataset, label=label)
    ids = require_ids(opened, judging.split)
    answers = open_predictions(predictions, ids, predicted)
    if judging.wants_curve:
        answers.require_probabilities()

    def cases() -> Iterator[Case]:
        for id_ in ids:
            frame, truth = (
                opened.read_pair(id_) if "scr" in judging.by else (None, opened.read_mask(id_))
            )
            yield Case(id_, answers.read(id_, truth.shape), truth, frame)

    seen = Extent()
    scores = _judge(progress(seen.watch(cases()), len(ids), "score"), judging)
    for note in seen.notes(judging.threshold):
        click.echo(f"note: {note}", err=True)
    origin = {"predictions": str(predictions), "dataset": str(dataset), "split": judging.split}
    read_as = "probabilities"
    if answers.convention is not None:
        read_as = f"masks, {answers.convention}"
    title = f"{predictions} ({read_as}) on {opened.name} {judging.split}"
    _show_scores(scores | origin | {"read_as": read_as}, title, as_json)


def _judge(cases: Iterable[Case], judging: _Judging) -> dict[str, Any]:
    """Judge predictions one by one, and write the tables that are asked for."""
    from detect.curve import THRESHOLDS
    from detect.evaluate import Rules, judge, sum_verdicts

    rules = Rules(
        judging.protocol,
        judging.threshold,
        (judging.thresholds or THRESHOLDS) if judging.wants_curve else (),
        judging.by,
    )
    images: list[dict[str, Any]] = []

    def verdicts() -> Iterator[Verdict]:
        for case in cases:
            verdict = judge(case.prediction, case.truth, rules, case.frame)
            images.append({"id": case.id} | verdict.tally.scores())
            yield verdict

    scores = sum_verdicts(verdicts()).report(rules)
    if judging.images_file is not None:
        _write_table(judging.images_file, images)
    if judging.curve_file is not None:
        _write_table(judging.curve_file, scores["curve"])
    return scores


def _write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write a CSV file; None is an empty cell."""
    from synth.disk.files import replace_file

    text = io.StringIO(newline="")
    table = csv.DictWriter(text, rows[0])
    table.writeheader()
    table.writerows(rows)
    replace_file(path, text.getvalue().encode())


@main.command()
@click.argument("weights", type=_file)
@click.argument("dataset", type=_folder)
@click.option("--out", type=_folder, required=True, help="Folder of the figures.")
@_split_option
@click.option("--ids", help="These images, separated by commas.")
@click.option("--count", type=click.IntRange(1), help="The first so many of the split.")
@click.option("--surface", is_flag=True, help="Three-dimensional surfaces, as ID_surface.png.")
@_tta_option
@_device_option
@json_option
def visualize(
    weights: Path,
    dataset: Path,
    out: Path,
    split: str,
    ids: str | None,
    count: int | None,
    surface: bool,
    tta: Any,
    device: str,
    as_json: bool,
) -> None:
    """Draw frame, label and prediction side by side, one PNG an image.

    Targets that are found are outlined in green, missed ones in red, false alarms in yellow.

    \b
    Example:
      detect visualize runs/demo/best.safetensors out/demo --out figures --count 8
      detect visualize runs/demo/best.safetensors out/demo --out figures --ids 000121 --surface
    """
    if ids is not None and count is not None:
        raise click.UsageError("give --ids or --count, not both")

    from detect.evaluate import require_ids
    from detect.predict import load_detector
    from detect.visualize import draw_panels, draw_surfaces, encode_picture
    from synth.dataset import open_dataset
    from synth.disk.files import replace_file

    opened = open_dataset(dataset)
    chosen = (
        tuple(id_.strip() for id_ in ids.split(",") if id_.strip())
        if ids is not None
        else require_ids(opened, split)[:count]
    )
    if not chosen:
        raise click.UsageError("--ids names no image")
    detector = load_detector(weights, device, tta=tta)
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for id_ in progress(chosen, len(chosen), "visualize"):
        frame, truth = opened.read_pair(id_)
        drawn = {f"{id_}.png": draw_panels}
        if surface:
            drawn[f"{id_}_surface.png"] = draw_surfaces
        probability = detector(frame)
        for name, draw in drawn.items():
            replace_file(out / name, encode_picture(draw(frame, truth, probability)))
            written.append(str(out / name))
    if as_json:
        emit_json({"figures": written})
    else:
        click.echo(f"{len(written)} figures in {out}")


def _require_outside(out: Path, inputs: Iterable[Path]) -> None:
    from detect.errors import PredictionError

    for path in inputs:
        if path.is_dir() and out.resolve().is_relative_to(path.resolve()):
            raise PredictionError(
                f"{out}: lies in the folder of frames {path}, where results would be taken for "
                "frames next time; choose another --out"
            )


@main.command()
@click.argument(
    "inputs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FRAMES..."
)
@click.option("--out", type=_folder, required=True, help="Folder of the results.")
@click.option("--weights", type=_file, help="Of a training run; those that come with the package.")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="A pixel is target where its probability is greater.",
)
@click.option(
    "--bits",
    type=click.Choice(["8", "16"]),
    default="16",
    show_default=True,
    help="Depth of the probability maps.",
)
@click.option(
    "--tile",
    type=click.IntRange(64),
    default=1536,
    show_default=True,
    help="Longest side that is not cut into tiles, pixels; less takes less memory.",
)
@click.option(
    "--overlap",
    type=click.IntRange(32),
    default=512,
    show_default=True,
    help="What neighbouring tiles share, pixels.",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16"]),
    default="float32",
    show_default=True,
    help="bfloat16 is quicker on processors that compute in it; rims of targets may differ.",
)
@_tta_option
@_device_option
@json_option
def predict(
    inputs: tuple[Path, ...],
    out: Path,
    weights: Path | None,
    threshold: float,
    bits: str,
    tile: int,
    overlap: int,
    precision: Any,
    tta: Any,
    device: str,
    as_json: bool,
) -> None:
    """Find the targets in FRAMES: files, and folders (searched recursively).

    Frames are 8- or 16-bit and of any size. For each, a mask, a map of probabilities, and the frame
    with its targets outlined are written to masks, probabilities and overlays below --out, named as
    the frame; targets.json lists every target (centre, half-open box, area, peak probability, local
    signal-to-clutter ratio). Files that are there under these names are replaced.

    \b
    Example:
      detect predict frames/ --out found
      detect predict night.tif --weights runs/demo/best.safetensors --out found --threshold 0.3
    """
    from detect.predict import (
        encode_probability,
        find_detections,
        load_detector,
        name_frames,
        shipped_weights,
    )
    from detect.visualize import draw_overlay, encode_picture
    from synth.disk.files import replace_file, write_json
    from synth.disk.png import encode_png
    from synth.frames import read_frame

    _require_outside(out, inputs)
    frames = name_frames(inputs)
    chosen = weights if weights is not None else shipped_weights()
    detector = load_detector(chosen, device, precision, tile, overlap, tta)
    entries: list[dict[str, Any]] = []
    for name, path in progress(frames.items(), len(frames), "predict"):
        frame = read_frame(path)
        probability = detector(frame)
        found = find_detections(frame, probability, threshold)
        results = {
            "mask": (f"masks/{name}.png", encode_png(probability > threshold)),
            "probability": (
                f"probabilities/{name}.png",
                encode_probability(probability, int(bits)),
            ),
            "overlay": (
                f"overlays/{name}.png",
                encode_picture(draw_overlay(frame, [target.box for target in found])),
            ),
        }
        for file, data in results.values():
            replace_file(out / file, data)
        height, width = frame.shape
        entries.append(
            {"frame": str(path), "height": height, "width": width}
            | {kind: file for kind, (file, _) in results.items()}
            | {"targets": [vars(target) for target in found]}
        )
    summary = {
        "weights": str(chosen),
        "threshold": threshold,
        "tta": tta,
        "frames": entries,
    }
    write_json(out / "targets.json", summary)
    if as_json:
        emit_json(summary)
        return
    count = sum(len(entry["targets"]) for entry in entries)
    click.echo(f"{out}: {len(entries):,} frames, {count:,} targets")


@main.command()
@click.argument(
    "inputs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FRAMES..."
)
@click.option("--out", type=_folder, required=True, help="The new set's folder.")
@click.option(
    "--with",
    "labelled",
    type=_folder,
    help="A labelled set, loose or in shards, that goes into the new set too.",
)
@click.option(
    "--weights",
    multiple=True,
    type=_file,
    help="Of a training run; of several, by giving it again, the mean answer counts. Those that "
    "come with the package by default.",
)
@click.option(
    "--threshold",
    type=_Number(0, 1),
    default=0.5,
    show_default=True,
    help="A pixel is target where its probability is greater.",
)
@click.option(
    "--doubt",
    type=_Number(0, 1),
    default=0.2,
    show_default=True,
    help="Spots with a probability greater than this ...",
)
@click.option(
    "--sure",
    type=_Number(0, 1),
    default=0.8,
    show_default=True,
    help="... must reach this one, or their frame is left out. 0 keeps all frames.",
)
@click.option(
    "--validation",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.1,
    show_default=True,
    help="Share of the labelled set's training images for its list val, where it has none.",
)
@_tta_option
@_device_option
@json_option
def label(
    inputs: tuple[Path, ...],
    out: Path,
    labelled: Path | None,
    weights: tuple[Path, ...],
    threshold: float,
    doubt: float,
    sure: float,
    validation: float,
    tta: Any,
    device: str,
    as_json: bool,
) -> None:
    """Let a detector label FRAMES that nobody has labelled, and make a set to train on.

    FRAMES are files, folders (searched recursively), and labelled sets, of which the training
    images are taken without their labels. Frames in which the detector doubts are left out, and
    listed by --json: they are those to label by hand. What is in the labelled set already is not
    taken again; its own lists judge a training, never a label that a detector gave.

    \b
    Example:
      detect train configs/train/own.yaml --data mine --out runs/first
      detect label night/ --with mine --weights runs/first/last.safetensors --out out/more
      synth build configs/build/own.yaml --data out/more --out out/set
    """
    from detect.predict import shipped_weights
    from detect.pseudo import Confidence
    from pipelines.label import find_unlabelled, label_frames
    from synth.dataset import open_dataset
    from synth.disk.description import require_usable

    if doubt > threshold:
        raise click.BadParameter(f"{doubt} is above --threshold {threshold}", param_hint="--doubt")
    _require_outside(out, inputs)
    require_usable(out)
    frames = find_unlabelled(inputs)
    with stage_bar("label") as report:
        found = label_frames(
            frames,
            weights or (shipped_weights(),),
            Confidence(threshold, doubt, sure),
            out,
            root=labelled or inputs[0],
            base=None if labelled is None else open_dataset(labelled),
            validation=validation,
            device=device,
            tta=tta,
            progress=report,
        )
    if as_json:
        facts = {"set": str(out), "labelled": found.labelled, "targets": found.targets}
        facts |= {"doubtful": list(found.doubtful), "known": list(found.known)}
        emit_json(facts | {"counts": found.written.counts})
        return
    click.echo(
        f"{out}: {found.labelled:,} of {len(frames):,} frames labelled, {found.targets:,} targets; "
        f"left out: {len(found.doubtful):,} with doubts, {len(found.known):,} known"
    )


@main.command()
@click.argument("weights", nargs=-1, required=True, type=_file)
@click.option("--out", type=_file, required=True, help="A .safetensors file.")
@json_option
def average(weights: tuple[Path, ...], out: Path, as_json: bool) -> None:
    """Write the mean of several WEIGHTS of one network.

    For weights that were trained from one another, such as the best and the last of a run, or two
    runs that began with the same weights: their mean is often better than either.

    \b
    Example:
      detect average runs/a/best.safetensors runs/a/last.safetensors --out mean.safetensors
    """
    if out.suffix != ".safetensors":
        raise click.BadParameter(f"{out} must end in .safetensors", param_hint="--out")

    from detect.weightsfile import average_weights, write_weights

    mean = average_weights(weights)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_weights(out, mean)
    if as_json:
        emit_json({"weights": str(out), "network": mean.network, "files": len(weights)})
        return
    click.echo(f"{out}: {mean.network}, the mean of {len(weights)} files")


@main.command()
@click.argument("weights", type=_file)
@click.option("--out", type=_file, required=True, help="An .onnx file.")
@_tta_option
@json_option
def export(weights: Path, out: Path, tta: Any, as_json: bool) -> None:
    """Write a detector as ONNX, for programs that have no torch.

    The graph takes frames of any size as float32 and gives probabilities; normalisation and padding
    are part of it. It is run beside torch on the same frames first, and is written when no
    probability differs by more than 0.0001. Needs the extra `onnx`.

    \b
    Example:
      detect export runs/demo/best.safetensors --out demo.onnx
    """
    if out.suffix.lower() != ".onnx":
        raise click.BadParameter(f"{out} must end in .onnx", param_hint="--out")

    from detect.export import export_onnx

    made = export_onnx(weights, out, tta)
    if as_json:
        emit_json({"onnx": str(out), **made._asdict()})
        return
    click.echo(
        f"{out}: {made.network}, {made.size / 1e6:.1f} MB, at most {made.difference:.1e} from torch"
    )
    click.echo(f"input: {made.input}")


@main.command()
@click.option(
    "--in-channels",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Channels of the input.",
)
@click.option(
    "--side",
    type=click.IntRange(16),
    default=256,
    show_default=True,
    help="Side of the image for MACs.",
)
@json_option
def models(in_channels: int, side: int, as_json: bool) -> None:
    """List the networks with their parameters and multiply-accumulate operations.

    Beside ours stand the published figures, at one input channel (MSHNet: three) and 256 x 256.
    Ours are counted by torch: convolutions and matrix products. The published ones count
    normalisation, upsampling layers and strided transposed convolutions more generously (DNA-Net:
    14.3 G there, 13.9 G here).

    \b
    Example:
      detect models
      detect models --in-channels 3 --json
    """
    from detect.models import count_cost, model_names, published_cost

    names = model_names()
    rows: list[dict[str, Any]] = []
    for name in names:
        cost, published = count_cost(name, in_channels, side), published_cost(name)
        figures = {"published_params": published.params, "published_macs": published.macs}
        rows.append({"name": name, **cost._asdict(), **figures})
    if as_json:
        emit_json({"models": rows})
        return
    width = max(map(len, names))
    macs = f"MACs / G at {side}²"
    click.echo(f"{'network':<{width}}  params / M  published  {macs:>18}  published (256²)")
    for row in rows:
        click.echo(
            f"{row['name']:<{width}}  {_show_count(row['params'], 1e6):>10}  "
            f"{_show_count(row['published_params'], 1e6):>9}  "
            f"{_show_count(row['macs'], 1e9):>18}  {_show_count(row['published_macs'], 1e9):>16}"
        )


@main.command()
@click.argument("name", type=click.Choice(_BASELINES), metavar="NAME")
@click.argument("dataset", type=_folder)
@click.option(
    "--threshold-rule",
    "rule",
    type=click.Choice(["adaptive", "sigma"]),
    default="adaptive",
    show_default=True,
    help="Threshold of a frame: max(0.7·max, mean + 0.5·std), or mean + SIGMAS·std.",
)
@click.option(
    "--sigmas", type=_Number(0), default=5.0, show_default=True, help="For the rule sigma."
)
@_protocol_option
@_split_option
@click.option("--out", type=_folder, help="Write the masks into this folder.")
@click.option("--jobs", type=click.IntRange(min=0), default=0, help="Workers; 0 for all.")
@label_options
@json_option
def baseline(
    name: str,
    dataset: Path,
    rule: Any,
    sigmas: float,
    protocol: Any,
    split: str,
    out: Path | None,
    jobs: int,
    label: Label | None,
    as_json: bool,
) -> None:
    """Judge a detector that needs no training, at the images' own size.

    \b
    NAME is one of
      top-hat     what is brighter and narrower than a square of 5 x 5 pixels
      max-median  what stands out from the medians of four lines of 5 pixels
      rlcm        relative contrast of a cell of 9 x 9 pixels with the eight around it
      mpcm        contrast of cells of 3 to 9 pixels with opposite neighbours
      ipi         sparse part of the matrix of overlapping patches; seconds a frame
      pstnn       sparse part of the tensor of patches

    \b
    Example:
      detect baseline top-hat data/NUDT-SIRST --protocol basicirstd
      detect baseline ipi data/NUDT-SIRST --out results/ipi --jobs 2
    """
    from detect.baselines import Baseline
    from detect.evaluate import report, require_ids
    from detect.metrics import Tally
    from pipelines.build.parallel import Pool
    from synth.dataset import open_dataset

    opened = open_dataset(dataset, label=label)
    ids = require_ids(opened, split)
    if out is not None:
        if out.resolve().is_relative_to(dataset.resolve()):
            raise click.UsageError("--out lies in the data set; give a folder outside it")
        out.mkdir(parents=True, exist_ok=True)
    judge = partial(_judge_baseline, Baseline(name, rule, sigmas), opened, protocol, out)
    tallies = Pool(jobs, "processes").map(judge, ids)
    tally = sum(progress(tallies, len(ids), "baseline"), start=Tally())
    scores = report(tally, protocol, 0.5)
    origin = {"baseline": name, "threshold_rule": rule, "dataset": str(dataset), "split": split}
    _show_scores(scores | origin, f"{name} ({rule}) on {opened.name} {split}", as_json)


def _judge_baseline(
    baseline: Baseline, dataset: Dataset, protocol: Any, out: Path | None, id_: str
) -> Tally:
    """Judge one image, and write its mask where a folder is given."""
    from detect.metrics import measure
    from synth.frames import write_frame

    frame, truth = dataset.read_pair(id_)
    mask = baseline(frame)
    if out is not None:
        write_frame(out / f"{id_}.png", mask)
    return measure(mask, truth, protocol)


def _show_count(count: int | None, unit: float) -> str:
    return "-" if count is None else f"{count / unit:.3f}"


def _show_scores(scores: dict[str, Any], title: str, as_json: bool) -> None:
    if as_json:
        emit_json(scores)
        return
    click.echo(
        f"{title}: {scores['images']} images, {scores['targets']} targets, "
        f"protocol {scores['protocol']}, threshold {scores['threshold']:g}"
    )
    for name, key, unit, suffix in _SHOWN:
        click.echo(f"{name:<16}  {_show(scores[key], unit)} {suffix}")
    for point in scores.get("pd_at_fa", ()):
        at = "" if point["threshold"] is None else f"  above {point['threshold']:.7g}"
        click.echo(f"{'Pd at Fa ' + format(point['fa'], 'g'):<16}  {_show(point['pd'])} e-2{at}")
    for quality in _QUALITIES:
        rows = scores.get(f"by_{quality}", ())
        if rows:
            click.echo(f"{quality:<16}  targets  Pd / e-2  recall / e-2  IoU / e-2")
        for row in rows:
            click.echo(
                f"{_show_bin(row):<16}  {row['targets']:>7}  {_show(row['pd']):>8}  "
                f"{_show(row['recall']):>12}  {_show(row['iou']):>9}"
            )


def _show(value: float | None, unit: float = 1e-2) -> str:
    return "     -" if value is None else f"{value / unit:6.2f}"


def _show_bin(row: dict[str, Any]) -> str:
    if row["from"] is None:
        return "no background"
    return f"{row['from']} and more" if row["below"] is None else f"{row['from']} to {row['below']}"


def _steps(steps: range) -> Iterator[int]:
    """Show the steps of a run, which may begin in its middle."""
    bar: Iterable[int] = tqdm(
        steps,
        desc="train",
        unit=" step",
        initial=steps.start,
        total=steps.stop,
        file=sys.stderr,
        disable=not sys.stderr.isatty(),
    )
    yield from bar


def _log(line: str) -> None:
    tqdm.write(line, file=sys.stderr)
