"""The commands `synth report` and `detect report`: one HTML file about a set or a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipelines.cli.console import emit_json, json_option, progress, progress_bar

if TYPE_CHECKING:
    from pipelines.pool import Pool
    from pipelines.quality import Item, Result, Run

# What reads, measures and draws is imported inside the commands, so that help is quick.


class _Page(click.ParamType):
    """A path that ends in ``.html``."""

    name = "file.html"

    def convert(self, value: Any, param: Any, ctx: Any) -> Path:
        if Path(value).suffix.lower() not in (".html", ".htm"):
            self.fail(f"{value} must end in .html", param, ctx)
        return Path(value)


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
    from pipelines.pool import Pool
    from pipelines.report.set_page import count_pictures, set_page
    from pipelines.report.survey import read_lineage, survey_noise, survey_set
    from pipelines.store import replace_file
    from synth.dataset import open_dataset

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


def _require_outside(out: Path, folder: Path, what: str) -> None:
    """A page inside a set would be a file that its build did not make."""
    if out.resolve().is_relative_to(folder.resolve()):
        raise click.UsageError(f"--out {out} lies in {what}; give a file outside it.")


def _with_progress(pool: Pool, total: int | None, what: str) -> Run:
    def run(work: Callable[[Item], Result], items: Iterable[Item], /) -> Iterator[Result]:
        with closing(pool.map(work, items)) as results:
            yield from progress(results, total, what, "frame")

    return run
