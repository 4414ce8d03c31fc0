"""`synth export` and `synth import`: to other ecosystems' formats, and back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from pipelines.build.parallel import Pool
from pipelines.cli.console import emit_json, json_option, label_options, stage_bar
from pipelines.export import SHARD_SIZE, ExportResult, export_dataset, import_dataset
from pipelines.formats import FORMATS, WRITTEN
from pipelines.formats.drawing import describe_notes
from synth.dataset import open_dataset
from synth.disk.description import require_usable
from synth.masks import Label


def _format_and_out(names: Iterable[str]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        command = click.option("--out", type=click.Path(path_type=Path), required=True)(command)
        return click.option(
            "--format",
            "name",
            type=click.Choice(list(names)),
            required=True,
            help="The other format.",
        )(command)

    return add


_jobs = click.option("--jobs", type=click.IntRange(min=0), default=0, help="Workers; 0 for all.")


@click.command("export")
@click.argument("dataset", type=click.Path(path_type=Path))
@_format_and_out(WRITTEN)
@click.option(
    "--shard-size",
    type=click.IntRange(min=1),
    help=f"Samples in a tar file of webdataset; {SHARD_SIZE} by default.",
)
@_jobs
@label_options
@json_option
def export_command(
    dataset: Path,
    name: str,
    out: Path,
    shard_size: int | None,
    jobs: int,
    label: Label | None,
    as_json: bool,
) -> None:
    """Write DATASET in the format of another ecosystem.

    Image files are copied; those that simple readers read wrongly (turned by a tag, palettes,
    unusual TIFF) are written as PNG. All formats keep the masks as they are but yolo, which has no
    more than boxes. An export that was interrupted goes on when the same command is run again.

    \b
    Example: synth export out/demo --format coco --out demo-coco
    """
    if shard_size is not None and not WRITTEN[name].sharded:
        raise click.UsageError(f"--shard-size is for webdataset; {name} has no shards.")
    opened = open_dataset(dataset, label=label)
    require_usable(out)
    started = time.perf_counter()
    with stage_bar("export") as report:
        result = export_dataset(
            opened, name, out, Pool(jobs), shard_size=shard_size or SHARD_SIZE, progress=report
        )
    _tell(result, name, time.perf_counter() - started, as_json)


@click.command("import")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@_format_and_out(FORMATS)
@click.option(
    "--class",
    "classes",
    multiple=True,
    metavar="NAME",
    help="Class whose annotations are targets, all by default; may be repeated.",
)
@_jobs
@json_option
def import_command(
    folder: Path, name: str, out: Path, classes: tuple[str, ...], jobs: int, as_json: bool
) -> None:
    """Read a set of another format in DIR, and write it as a data set with images and masks.

    All classes, or those of --class, are merged into one, target; the numbers of annotations and
    targets, and why they differ, are printed. Links are not followed, and nothing outside of DIR is
    read.

    \b
    Example: synth import demo-coco --format coco --out demo-again
    """
    if classes and not FORMATS[name].classes:
        raise click.UsageError(f"--class is for annotations with classes; {name} has none.")
    require_usable(out)
    started = time.perf_counter()
    with stage_bar("import") as report:
        result = import_dataset(folder, name, out, Pool(jobs), classes=classes, progress=report)
    _tell(result, name, time.perf_counter() - started, as_json)


def _tell(result: ExportResult, name: str, seconds: float, as_json: bool) -> None:
    if as_json:
        emit_json(
            {
                "out": str(result.out),
                "format": name,
                "counts": result.counts,
                **({} if result.annotations is None else {"annotations": result.annotations}),
                "targets": result.targets,
                "classes": dict(result.classes),
                **({"left_out": dict(result.left_out)} if result.left_out else {}),
                "notes": dict(result.notes),
                "made": result.made,
                "seconds": round(seconds, 3),
                **({} if result.mask_iou is None else {"mask_iou": result.mask_iou}),
            }
        )
        return
    counts = ", ".join(
        f"{count:,} {split}" for split, count in result.counts.items() if split != "outputs"
    )
    if result.made == 0 and result.counts["outputs"]:
        click.echo(f"{result.out}: is there already ({counts})")
    else:
        click.echo(f"{result.out}: {name}, {counts}, {result.targets:,} targets in {seconds:.1f} s")
    if result.annotations is not None:
        click.echo(f"annotations {result.annotations:,}, targets {result.targets:,}")
    for line in describe_notes(result.notes, result.classes, result.left_out):
        click.echo(f"  {line}")
    if result.mask_iou is not None and result.mask_iou < 1:
        click.echo(f"IoU of all masks with what {name} keeps of them: {result.mask_iou:.4f}")
