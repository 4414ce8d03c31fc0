"""The command `synth quality`: what frames and targets are like, and against another set."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from pipelines.build.parallel import Pool
from pipelines.cli.console import emit_json, json_option, progress, progress_bar
from pipelines.quality import (
    MARGIN,
    TITLES,
    Comparison,
    Fidelity,
    FrameScores,
    FrameSet,
    Item,
    Result,
    Run,
    collect_values,
    compare_targets,
    compare_with_camera,
    draw_histograms,
    find_brisque,
    fit_model,
    open_frames,
    score_frames,
    summarise,
)
from pipelines.seams import SeamScores, measure_seams
from synth.disk.files import replace_file
from synth.disk.split_names import SPLITS
from synth.inspect.quality import SIDE, NiqeModel, load_niqe

_DISTANCES = {
    "wasserstein": "marginal W1, DN",
    "kl": "marginal KL, nats",
    "spectrum": "spectrum, decades",
    "rows": "rows, decades",
    "columns": "columns, decades",
    "correlation": "autocorrelation",
    "level": "level, decades",
    "kld": "KLD (NAFlow), nats",
    "akld": "AKLD (DANet), nats",
}

_FIT_HINT = (
    "NIQE is left out: fit it on pristine frames of the camera with --fit-niqe MODEL.npz, "
    "then give --niqe MODEL.npz"
)
_INSTALL_HINT = (
    "BRISQUE is left out: pip install 'sirst-synth[quality]' adds it, with Python 3.14 or newer"
)
_SCR = {"margin": MARGIN, "ddof": 0, "epsilon": 0}
_SCR_HINT = (
    f"SCR = |mean of target - mean of background| / σ of background, in the target's box grown by "
    f"{MARGIN} pixels; ddof 0, no ε"
)


class _File(click.ParamType):
    """A path with a given suffix."""

    def __init__(self, suffix: str) -> None:
        self.suffix = suffix
        self.name = f"file{suffix}"

    def convert(self, value: Any, param: Any, ctx: Any) -> Path:
        if Path(value).suffix.lower() != self.suffix:
            self.fail(f"{value} must end in {self.suffix}", param, ctx)
        return Path(value)


class _EvenSide(click.IntRange):
    """An even number of pixels, so that a patch can be halved."""

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        side = int(super().convert(value, param, ctx))
        if side % 2:
            self.fail(f"{side} is not even", param, ctx)
        return side


@click.command("quality")
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    help="The set that DATASET was made from: shown beside it, and its targets compared by id.",
)
@click.option(
    "--split",
    type=click.Choice([*SPLITS, "all"]),
    help="Of labelled sets; train by default.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Draw this many frames of each set.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of --limit")
@click.option("--niqe", type=_File(".npz"), help="The model of pristine frames to score with.")
@click.option(
    "--fit-niqe",
    type=_File(".npz"),
    help="Fit that model on the frames of DATASET, or of --against where given, and write it.",
)
@click.option(
    "--patch",
    type=_EvenSide(16, 1024),
    help=f"Side of the patches of --fit-niqe, pixels, {SIDE} by default; frames need twice that.",
)
@click.option("--plot", type=_File(".png"), help="Draw a histogram of every score.")
@click.option(
    "--noise",
    type=click.Path(path_type=Path),
    help="Real frames of a camera: how close to theirs is the noise of DATASET?",
)
@click.option(
    "--seams",
    is_flag=True,
    help="DATASET was built: do the borders of its changes betray them?",
)
@click.option("--jobs", type=click.IntRange(min=0), default=0, help="Workers; 0 for all.")
@json_option
def quality(
    dataset: Path,
    against: Path | None,
    split: str | None,
    limit: int | None,
    seed: int,
    niqe: Path | None,
    fit_niqe: Path | None,
    patch: int | None,
    plot: Path | None,
    noise: Path | None,
    seams: bool,
    jobs: int,
    as_json: bool,
) -> None:
    """Score the frames of DATASET, a labelled set or a plain folder, without a reference.

    NIQE and PIQE (less is better) take each frame on its own range; entropy counts DN, in 256 bins
    at most; local contrast is the mean standard deviation in windows of 9x9 pixels. Where there
    are masks, every target's signal-to-clutter ratio (SCR) is measured, and with --against what
    it gained, SCR gain = SCR / SCR before, and by how much its background was suppressed,
    BSF = σ before / σ, in its neighbourhood. A plain folder against a labelled set takes its masks.

    --noise compares residuals over local trends in blocks without texture, and shows each distance
    beside the one between two halves of the real frames. Two distances are published: KLD as in
    NAFlow, from histograms with bins of full scale / 128 (2 DN at 8 bits, 512 DN at 16), and AKLD
    as in DANet, from local variances. Residuals of DATASET are the fake noise, those of the real
    frames the real noise. For AKLD, each real block is paired with a block of DATASET of similar
    intensity ("-" if there is none). AKLD between equal cameras is above 0: compare it with the
    floor.

    --seams trains a classifier to tell made
    targets from originals by the band around their boxes alone: 0.5 is no seam, 1 an open one.

    \b
    Example: synth quality out/set --against NUDT-SIRST --niqe camera.npz --plot quality.png
    Example: synth quality out/set --seams --noise myframes
    """
    if niqe is not None and fit_niqe is not None:
        raise click.UsageError("give --niqe or --fit-niqe, not both.")
    if patch is not None and fit_niqe is None:
        raise click.UsageError("--patch is for --fit-niqe; a model that is read has its own.")
    pool = Pool(jobs)
    sets = [open_frames(dataset, split, limit, seed)]
    if against is not None:
        sets.append(open_frames(against, split, limit, seed))
        sets = [sets[0].borrow_masks(sets[1]), sets[1].borrow_masks(sets[0])]
    model = None if niqe is None else load_niqe(niqe)
    if fit_niqe is not None:
        model = fit_model(sets[-1], patch or SIDE, _with_progress(pool, sets[-1], "fit"))
        replace_file(fit_niqe, model.to_bytes())
    extra: dict[str, Any] = {}
    told: list[str] = []
    if seams:
        with progress_bar(None, "probe", "target") as bar:
            found = measure_seams(dataset, each=lambda: bar.update())
        extra["seams"] = asdict(found)
        told += _seam_table(found)
    if noise is not None:
        distances = [
            compare_with_camera(frames, noise, _with_progress(pool, None, "noise"))
            for frames in sets
        ]
        extra["noise"] = _fidelity_report(distances)
        told += _fidelity_table(sets, distances)
    brisque = find_brisque()
    scored = [
        score_frames(frames, model, brisque, _with_progress(pool, frames, "score"))
        for frames in sets
    ]
    values = [collect_values(frames) for frames in scored]
    comparison = compare_targets(*scored) if len(scored) == 2 else None
    notes = _notes(values, comparison)
    if fit_niqe is not None and model is not None:
        notes.insert(0, _describe_fit(fit_niqe, model, sets[-1]))
    if plot is not None:
        replace_file(plot, draw_histograms(_drawn(sets, values, comparison)))
        notes.append(f"{plot}: histograms")
    if as_json:
        emit_json(_report(sets, scored, values, comparison) | extra | {"notes": notes})
        return
    for line in [*_table(sets, scored, values), *_gain_table(comparison), *told, "", *notes]:
        click.echo(line)


def _seam_table(found: SeamScores) -> list[str]:
    lines = ["", f"seam probe on {found.boxes:,} made targets, area under the ROC curve"]
    for title, value in (
        ("against originals", found.made),
        ("originals alone", found.untouched),
        ("against distractors", found.distractors),
    ):
        lines.append(f"{title:<20}{_number(value):>10}")
    return lines


def _fidelity_table(sets: Sequence[FrameSet], found: Sequence[Fidelity]) -> list[str]:
    """Distances from the real noise beside the floor, a column for each set."""
    heads = "".join(f"{frames.name[-24:]:>26}" for frames in sets)
    lines = ["", f"{'distance of noise':<20}{'floor':>10}{heads}"]
    for name, title in _DISTANCES.items():
        cells = "".join(f"{_number3(one.scores[name]):>26}" for one in found)
        lines.append(f"{title:<20}{_number3(found[0].floor[name]):>10}{cells}")
    return lines


def _fidelity_report(found: Sequence[Fidelity]) -> dict[str, Any]:
    report = {
        "scores": {name: _defined(value) for name, value in found[0].scores.items()},
        "floor": {name: _defined(value) for name, value in found[0].floor.items()},
    }
    if len(found) > 1:
        report["against"] = {name: _defined(value) for name, value in found[1].scores.items()}
    return report


def _number3(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "-"


def _with_progress(pool: Pool, frames: FrameSet | None, what: str) -> Run:
    def run(work: Callable[[Item], Result], items: Iterable[Item], /) -> Iterator[Result]:
        with closing(pool.map(work, items)) as results:
            total = None if frames is None else len(frames.images)
            yield from progress(results, total, what, "frame")

    return run


def _describe_fit(path: Path, model: NiqeModel, frames: FrameSet) -> str:
    return (
        f"{path}: NIQE model of {model.patches:,} sharp patches of {model.side}x{model.side} in "
        f"{model.frames:,} frames of {frames.name}, which score better than frames it never saw"
    )


def _table(
    sets: Sequence[FrameSet],
    scored: Sequence[Sequence[FrameScores]],
    values: Sequence[Mapping[str, Sequence[float]]],
) -> list[str]:
    """A line for each score: median and 5 to 95% range, sets side by side."""
    heads = []
    for frames, results in zip(sets, scored, strict=True):
        targets = sum(len(result.signals) for result in results)
        counted = f", {targets:,} targets" if frames.masks else ""
        heads.append((frames.name, f"{len(results):,} frames{counted}"))
    lines = [_row("", [head[line] for head in heads], ">") for line in range(2)]
    lines.append(_row("", [_cells("median", "5%", "95%")] * len(sets)))
    for name, title in TITLES.items():
        if any(name in found for found in values):
            cells = [_summary_cells(found.get(name)) for found in values]
            lines.append(_row(title, cells))
    return lines


def _gain_table(comparison: Comparison | None) -> list[str]:
    if comparison is None or not comparison.pairs:
        return []
    head = f"gains of {len(comparison.pairs):,} targets"
    return [
        "",
        _row("", [head], ">"),
        *(
            _row(TITLES[name], [_summary_cells(found)])
            for name, found in comparison.values().items()
        ),
    ]


def _row(title: str, cells: Sequence[str], align: str = "<") -> str:
    width = len(_cells("", "", ""))
    shown = (
        f"{cell if len(cell) <= width else '…' + cell[1 - width :]:{align}{width}}"
        for cell in cells
    )
    return f"{title:<20}{'   '.join(shown)}".rstrip()


def _cells(*texts: str) -> str:
    return "".join(f"{text:>10}" for text in texts)


def _summary_cells(values: Sequence[float] | None) -> str:
    if values is None:
        return _cells("-", "-", "-")
    found = summarise(values)
    return _cells(*map(_number, (found.median, found.low, found.high)))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}" if abs(value) < 1e5 else f"{value:.3g}"


def _notes(
    values: Sequence[Mapping[str, Sequence[float]]], comparison: Comparison | None
) -> list[str]:
    """What a person must know about the numbers, one line each."""
    notes = []
    if not any("niqe" in found for found in values):
        notes.append(_FIT_HINT)
    if not any("brisque" in found for found in values):
        notes.append(_INSTALL_HINT)
    if any("scr" in found for found in values):
        notes.append(_SCR_HINT)
    gains = {} if comparison is None else comparison.values()
    for name, title in TITLES.items():
        odd = [summarise(found[name]) for found in [*values, gains] if name in found]
        infinite, undefined = sum(s.infinite for s in odd), sum(s.undefined for s in odd)
        if infinite or undefined:
            notes.append(f"{title}: left out {infinite:,} infinite and {undefined:,} undefined")
    if comparison is not None and comparison.without_partner:
        notes.append(f"gains: {comparison.without_partner:,} frames have no partner of their id")
    if comparison is not None and comparison.other_mask:
        notes.append(
            f"gains: {comparison.other_mask:,} frames have another mask than their partner"
        )
    return notes


def _drawn(
    sets: Sequence[FrameSet],
    values: Sequence[Mapping[str, Sequence[float]]],
    comparison: Comparison | None,
) -> dict[str, dict[str, Sequence[float]]]:
    """What `draw_histograms` draws, under names that differ."""
    names = [frames.name for frames in sets]
    if len(set(names)) < len(names):
        names = [str(frames.root) for frames in sets]
    if len(set(names)) < len(names):
        names = [names[0], f"{names[1]}, against"]
    drawn = {name: dict(found) for name, found in zip(names, values, strict=True)}
    if comparison is not None:
        drawn[names[0]] |= comparison.values()
    return drawn


def _report(
    sets: Sequence[FrameSet],
    scored: Sequence[Sequence[FrameScores]],
    values: Sequence[Mapping[str, Sequence[float]]],
    comparison: Comparison | None,
) -> dict[str, Any]:
    described = [
        {
            "path": str(frames.root),
            "split": frames.split,
            "images": len(results),
            "targets": sum(len(result.signals) for result in results) if frames.masks else None,
            "scores": {name: summarise(of).to_json() for name, of in found.items()},
            "frames": [_frame_entry(result) for result in results],
        }
        for frames, results, found in zip(sets, scored, values, strict=True)
    ]
    report: dict[str, Any] = {"dataset": described[0], "scr": _SCR}
    if comparison is not None:
        report["against"] = described[1]
        report["gains"] = {
            name: summarise(found).to_json() for name, found in comparison.values().items()
        } | {
            "without_partner": comparison.without_partner,
            "other_mask": comparison.other_mask,
            "targets": [
                {
                    "id": pair.id,
                    "target": pair.target,
                    "scr_gain": _defined(pair.scr_gain),
                    "bsf": _defined(pair.suppression),
                }
                for pair in comparison.pairs
            ],
        }
    return report


def _frame_entry(result: FrameScores) -> dict[str, Any]:
    entry: dict[str, Any] = {"id": result.id}
    entry |= {name: _defined(value) for name, value in result.scores.items()}
    if result.mask is not None:
        entry["scr"] = [_defined(signal.scr) for signal in result.signals]
    return entry


def _defined(value: float) -> float | None:
    return value if math.isfinite(value) else None
