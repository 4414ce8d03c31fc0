"""The command `detect`: train, test, score, visualize, models."""

from __future__ import annotations

import logging
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from pipelines.cli.console import ToolGroup, emit_json, json_option, progress

# Torch and what needs it are imported inside the commands, so that help and usage errors are
# quick.

_PROTOCOLS = ("strict", "basicirstd", "dnanet")
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


def _judging(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that decide how predictions are judged."""
    for option in (
        click.option(
            "--threshold",
            type=_Number(0, 1),
            default=0.5,
            show_default=True,
            help="A pixel is target where its probability is greater.",
        ),
        click.option(
            "--protocol",
            type=click.Choice(_PROTOCOLS),
            default="strict",
            show_default=True,
            help="Rules of Pd and Fa: best one-to-one assignment, or those of published code.",
        ),
        _split_option,
    ):
        command = option(command)
    return command


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


@main.command()
@click.argument("config", type=_file)
@click.option("--data", type=_folder, help="The data set's folder; replaces `data`.")
@click.option("--out", type=_folder, help="The run's folder; replaces `out`.")
@click.option("--init", type=_file, help="Start from these weights instead of fresh ones.")
@click.option("--seed", type=click.IntRange(0), help="Replaces `seed`.")
@click.option("--device", help="auto, cpu, cuda, cuda:1, mps; replaces `compute.device`.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Replace any key.")
@json_option
def train(
    config: Path,
    data: Path | None,
    out: Path | None,
    init: Path | None,
    seed: int | None,
    device: str | None,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Train a detector on the training split of a data set.

    Part of that split is held out and chooses the epoch; the test split is not read. A run that
    was stopped goes on when the same command is given again.

    \b
    Example:
      detect train configs/train/demo.yaml --data out/demo --out runs/demo
      detect train configs/train/demo.yaml --data out/demo --out runs/long --set steps=2000
      detect train configs/train/dnanet-published.yaml --data out/set --out runs/tuned \\
          --init runs/dnanet/best.safetensors
    """
    from pipelines.config import load_config
    from pipelines.training import TrainConfig

    if device is not None:
        overrides = (*overrides, f"compute.device={device}")
    settings = load_config(config, TrainConfig, overrides, data=data, out=out, seed=seed)
    for name, value in (("data", settings.data), ("out", settings.out)):
        if value is None:
            raise click.UsageError(f"say where: give --{name}, or set `{name}` in {config}")
    assert settings.data is not None
    assert settings.out is not None

    from detect.errors import TrainingInterruptedError
    from detect.train import train as run
    from synth.dataset import open_dataset

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    try:
        outcome = run(
            settings.recipe(), open_dataset(settings.data), settings.out, init, _steps, _log
        )
    except TrainingInterruptedError as error:
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
    click.echo(f"judge it: detect test {outcome.weights} {settings.data}")


@main.command()
@click.argument("weights", type=_file)
@click.argument("dataset", type=_folder)
@_judging
@_device_option
@json_option
def test(
    weights: Path,
    dataset: Path,
    split: str,
    protocol: Any,
    threshold: float,
    device: str,
    as_json: bool,
) -> None:
    """Judge trained weights on a split of a data set, at the images' own size.

    \b
    Example:
      detect test runs/demo/best.safetensors out/demo
      detect test runs/demo/best.safetensors out/demo --protocol dnanet --json
    """
    from detect.evaluate import evaluate, report, require_ids
    from detect.predict import load_detector
    from synth.dataset import open_dataset

    opened = open_dataset(dataset)
    ids = require_ids(opened, split)
    detector = load_detector(weights, device)
    pairs = progress((opened.read_pair(id_) for id_ in ids), len(ids), "test")
    scores = report(evaluate(detector, pairs, protocol, threshold), protocol, threshold)
    origin = {"weights": str(weights), "dataset": str(dataset), "split": split}
    _show_scores(scores | origin, f"{weights} on {opened.name} {split}", as_json)


@main.command()
@click.argument("predictions", type=_folder)
@click.argument("dataset", type=_folder)
@_judging
@json_option
def score(
    predictions: Path,
    dataset: Path,
    split: str,
    protocol: Any,
    threshold: float,
    as_json: bool,
) -> None:
    """Judge masks or probability images that any program made.

    PREDICTIONS holds one image per id, named as the id: masks (0 and 1, or 0 and 255), or
    probabilities over the range of an 8- or 16-bit image.

    \b
    Example:
      detect score results/masks data/NUDT-SIRST --protocol basicirstd
    """
    from detect.evaluate import report, require_ids
    from detect.metrics import Tally, measure
    from detect.predictions import read_predictions
    from synth.dataset import open_dataset

    opened = open_dataset(dataset)
    ids = require_ids(opened, split)
    tally = Tally()
    for answer, truth in progress(read_predictions(predictions, opened, ids), len(ids), "score"):
        tally += measure(answer, truth, protocol, threshold)
    scores = report(tally, protocol, threshold)
    origin = {"predictions": str(predictions), "dataset": str(dataset), "split": split}
    _show_scores(scores | origin, f"{predictions} on {opened.name} {split}", as_json)


@main.command()
@click.argument("weights", type=_file)
@click.argument("dataset", type=_folder)
@click.option("--out", type=_folder, required=True, help="Folder of the figures.")
@_split_option
@click.option("--ids", help="These images, separated by commas.")
@click.option("--count", type=click.IntRange(1), help="The first so many of the split.")
@click.option("--surface", is_flag=True, help="Three-dimensional surfaces, as ID_surface.png.")
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
    from detect.files import write_whole
    from detect.predict import load_detector
    from detect.visualize import draw_panels, draw_surfaces, encode_picture
    from synth.dataset import open_dataset

    opened = open_dataset(dataset)
    chosen = (
        tuple(id_.strip() for id_ in ids.split(",") if id_.strip())
        if ids is not None
        else require_ids(opened, split)[:count]
    )
    if not chosen:
        raise click.UsageError("--ids names no image")
    detector = load_detector(weights, device)
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for id_ in progress(chosen, len(chosen), "visualize"):
        frame, truth = opened.read_pair(id_)
        drawn = {f"{id_}.png": draw_panels}
        if surface:
            drawn[f"{id_}_surface.png"] = draw_surfaces
        probability = detector(frame)
        for name, draw in drawn.items():
            write_whole(out / name, encode_picture(draw(frame, truth, probability)))
            written.append(str(out / name))
    if as_json:
        emit_json({"figures": written})
    else:
        click.echo(f"{len(written)} figures in {out}")


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

    \b
    Example:
      detect models
      detect models --in-channels 3 --json
    """
    from detect.models import count_cost, model_names

    costs = {name: count_cost(name, in_channels, side) for name in model_names()}
    if as_json:
        rows = [{"name": n, "params": c.params, "macs": c.macs} for n, c in costs.items()]
        emit_json({"models": rows})
        return
    width = max(map(len, costs))
    click.echo(f"{'network':<{width}}  {'params / M':>10}  {f'MACs / G at {side}²':>18}")
    for name, cost in costs.items():
        click.echo(f"{name:<{width}}  {cost.params / 1e6:>10.3f}  {cost.macs / 1e9:>18.3f}")


def _show_scores(scores: dict[str, Any], title: str, as_json: bool) -> None:
    if as_json:
        emit_json(scores)
        return
    click.echo(
        f"{title}: {scores['images']} images, {scores['targets']} targets, "
        f"protocol {scores['protocol']}, threshold {scores['threshold']:g}"
    )
    for name, key, unit, suffix in _SHOWN:
        value = scores[key]
        click.echo(
            f"{name:<9}  " + ("     -" if value is None else f"{value / unit:6.2f} {suffix}")
        )


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
