"""`synth fetch`: public sets, downloaded or from an archive, as sets of ours."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from pipelines.build.parallel import Pool
from pipelines.cli.console import emit_json, json_option, progress_bar
from pipelines.fetch.download import Patience
from pipelines.fetch.fingerprint import published
from pipelines.fetch.public import Fetched, Source, fetch_set
from pipelines.fetch.sets import SETS, PublicSet

_PATH = click.Path(path_type=Path)


@click.command("fetch")
@click.argument("name", required=False, type=click.Choice(list(SETS)))
@click.option("--out", type=_PATH, help="Folder to make; named as the set by default.")
@click.option("--url", help="Another address of the archive, http or https.")
@click.option("--archive", type=_PATH, help="An archive that is here, or a folder of one unpacked.")
@click.option("--lists", type=_PATH, help="Folder of train.txt and test.txt, for another split.")
@click.option("--keep-archive", is_flag=True, help="Leave the downloaded archive beside the set.")
@click.option("--no-verify", is_flag=True, help="Take pixels that are not the published ones.")
@click.option(
    "--timeout",
    type=click.FloatRange(0.1, 3600),
    default=30.0,
    show_default=True,
    help="Seconds without data until a connection counts as dead.",
)
@click.option("--jobs", type=click.IntRange(min=0), default=0, help="Workers; 0 for all.")
@click.option("--list", "as_list", is_flag=True, help="Tell which sets there are, and leave.")
@json_option
def fetch_command(
    name: str | None,
    out: Path | None,
    url: str | None,
    archive: Path | None,
    lists: Path | None,
    keep_archive: bool,
    no_verify: bool,
    timeout: float,
    jobs: int,
    as_list: bool,
    as_json: bool,
) -> None:
    """Download the public set NAME and write it as a data set with images, masks and lists.

    Its pixels are held against those of the published set, where they are known; others are an
    error. A download that was interrupted goes on when the same command is run again. Of sets
    without a link that a program can fetch the archive is downloaded by hand and given with
    --archive; `synth fetch --list` says where it is. The makers' terms are yours to keep: see
    docs/fetch.md.

    \b
    Example: synth fetch nuaa-sirst --out NUAA-SIRST
             synth fetch nudt-sirst --archive NUDT-SIRST.zip
    """
    if as_list:
        _list(as_json)
        return
    if name is None:
        raise click.UsageError(f"Give the NAME of a set: {', '.join(SETS)}.")
    if archive is not None and (url is not None or keep_archive):
        raise click.UsageError("--archive takes a file that is here; leave --url, --keep-archive.")
    public = SETS[name]
    started = time.perf_counter()
    with _bars() as report:
        result = fetch_set(
            public,
            out or Path(public.title),
            Source(url, archive, lists, Patience(timeout=timeout)),
            Pool(jobs),
            keep_archive=keep_archive,
            verify=not no_verify,
            progress=report,
            tell=lambda line: click.echo(line, err=True),
        )
    _tell(public, result, time.perf_counter() - started, as_json)


def _list(as_json: bool) -> None:
    known = published()
    if as_json:
        keys = ("name", "title", "pairs", "url", "by_hand", "paper", "licence")
        rows = [
            {key: getattr(public, key) for key in keys}
            | {"fingerprint": known[public.name].fingerprint if public.name in known else None}
            for public in SETS.values()
        ]
        emit_json({"sets": rows})
        return
    for public in SETS.values():
        way = "downloaded" if public.url else "by hand, then --archive"
        pixels = "known" if public.name in known else "not known"
        click.echo(f"{public.name:11} {public.pairs:5,} images; {way}; pixels {pixels}")
        click.echo(f"{'':11} from {public.by_hand}")
        click.echo(f"{'':11} cite {public.paper}")
        click.echo(f"{'':11} licence: {public.licence}")


def _tell(public: PublicSet, result: Fetched, seconds: float, as_json: bool) -> None:
    if as_json:
        emit_json(
            {
                "set": public.name,
                "out": str(result.out),
                "made": result.made,
                "counts": result.counts,
                "targets": result.targets,
                "split": result.split,
                "fingerprint": result.fingerprint,
                "verified": result.verified,
                "difference": result.difference,
                "refit": list(result.refit),
                "faults": result.faults,
                "archive": None if result.archive is None else str(result.archive),
                "paper": public.paper,
                "licence": public.licence,
                "seconds": round(seconds, 3),
            }
        )
        return
    counts = ", ".join(f"{count:,} {split}" for split, count in result.counts.items())
    if result.made:
        click.echo(f"{result.out}: {counts}, {result.targets:,} targets in {seconds:.1f} s")
    else:
        click.echo(f"{result.out}: is there already ({counts}, {result.targets:,} targets)")
    click.echo(f"split: {result.split}")
    click.echo(f"pixels: {_on_pixels(result)}")
    for id_ in result.refit:
        click.echo(f"the mask of {id_} has another size than its image there; it was brought to it")
    if result.faults:
        faults = ", ".join(f"{count:,} {fault}" for fault, count in result.faults.items())
        click.echo(f"`synth check {result.out}` tells more of: {faults}")
    if result.archive is not None:
        click.echo(f"archive: {result.archive}")
    click.echo(f"cite {public.paper}")
    click.echo(f"licence: {public.licence}")


def _on_pixels(result: Fetched) -> str:
    if result.verified:
        return f"those of the published set ({result.fingerprint})"
    if result.difference is not None:
        return f"NOT those of the published set: {result.difference} ({result.fingerprint})"
    return (
        f"not verified, nobody knows what they should be; the fingerprint is {result.fingerprint}"
    )


@contextmanager
def _bars() -> Iterator[Callable[[str, int, int | None], None]]:
    """A bar for each stage, one after the other."""
    bars: dict[str, Any] = {}

    def report(stage: str, done: int, total: int | None) -> None:
        if stage not in bars:
            for bar in bars.values():
                bar.close()
            loads = stage == "download"
            bars[stage] = progress_bar(total, stage, "B" if loads else "file", scale=loads)
        bar = bars[stage]
        bar.total = total
        if done < bar.n:
            # It starts over.
            bar.reset(total)
        bar.update(done - bar.n)

    try:
        yield report
    finally:
        for bar in bars.values():
            bar.close()
