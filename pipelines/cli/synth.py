"""The command `synth`: from frames to a data set."""

from __future__ import annotations

import hashlib
import math
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, cast

import click
import numpy as np
import yaml

from pipelines.build.config import BuildConfig
from pipelines.build.parallel import Backend, Pool
from pipelines.build.recompute import Difference, recompute
from pipelines.build.run import (
    BuildResult,
    Plan,
    Progress,
    ShardSize,
    execute,
    prepare,
    prepare_stage,
)
from pipelines.cli.console import (
    ToolGroup,
    emit_json,
    json_option,
    label_options,
    progress_bar,
)
from pipelines.cli.options import make_settings, settings_options
from pipelines.config import label_text, load_config
from synth import __version__
from synth.dataset import open_dataset
from synth.disk.description import read_description, require_usable
from synth.disk.files import replace_file
from synth.disk.folders import find_frames
from synth.disk.png import encode_png
from synth.disk.staging import new_folder
from synth.disk.verify import verify
from synth.errors import DatasetError, FrameError, RecipeError, StoreError
from synth.frames import Frame, Mask, read_frame
from synth.masks import Label
from synth.noise.bank import load_bank
from synth.noise.cameras import (
    CameraNoise,
    generate_frames,
    load_cameras,
    load_noise,
    sequence_model,
)
from synth.noise.components import (
    COMPONENTS,
    NoiseComponents,
    generate_sequence,
    measure_components,
    measure_gain,
)
from synth.noise.learn import find_cameras
from synth.noise.model import SUMMARY, correlation_length
from synth.noise.sampling import Loader, NoiseFrame, SamplingRule
from synth.recipe import Recipe
from synth.seeds import generator
from synth.steps import Choose, Mixup, Move, Residual, Step, Supply, Turn

_EXAMPLES = {"max_content_width": 100}
_POSITIVE = click.IntRange(min=1)

# Options of a sampling rule, by the names of its fields.
_SAMPLING = {field.name: field.name for field in fields(SamplingRule)} | {"side": "patch"}
_MIXUP = ("ratio", "gain")
_RESIDUAL = ("strength",)
_TURN = ("side", "turns", "mirror", "blend", "keep_offset")


class _Finite(click.FloatRange):
    """A number in a range; click's own lets nan and inf through."""

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number


_OF_FRAMES = {
    "sigma": ("DN", "noise of the pixels"),
    "column": ("DN", "pattern of columns, fixed or not"),
    "row": ("DN", "pattern of rows, fixed or not"),
    "gain": ("DN² per DN", "rise of the variance with intensity"),
    "length_rows": ("pixels", "distance along rows at which noise correlates by 1/e"),
    "length_cols": ("pixels", "the same along columns"),
}

_MEANING = {
    "tvh": "pixel and frame: temporal noise",
    "vh": "pixel: fixed pattern, or scene",
    "tv": "row and frame: flickering rows",
    "th": "column and frame: flickering columns",
    "t": "frame: flicker of the whole frame",
    "v": "row: fixed rows, or scene",
    "h": "column: fixed columns, or scene",
}


class _NoiseFile(click.ParamType):
    """A path that ends in ``.npz``."""

    name = "file.npz"

    def convert(self, value: Any, param: Any, ctx: Any) -> Path:
        if Path(value).suffix != ".npz":
            self.fail(f"{value} must end in .npz", param, ctx)
        return Path(value)


class _ShardSize(click.ParamType):
    """A number of outputs, or of bytes as ``100MB``."""

    name = "outputs|MB"

    def convert(self, value: Any, param: Any, ctx: Any) -> ShardSize:
        if isinstance(value, ShardSize):
            return value
        match = re.fullmatch(r"([0-9]{1,9})(MB|GB)?", value)
        if match is None or not int(match[1]):
            self.fail(f"{value!r} is no number of outputs, nor one of MB or GB", param, ctx)
        if match[2] is None:
            return ShardSize(outputs=int(match[1]))
        return ShardSize(nbytes=int(match[1]) * {"MB": 10**6, "GB": 10**9}[match[2]])


def _workers(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option(
        "--backend",
        type=click.Choice(["threads", "processes"]),
        default="threads",
        show_default=True,
        help="What the workers are.",
    )(command)
    return click.option(
        "--jobs", type=click.IntRange(min=0), default=0, help="Workers; 0, the default, for all."
    )(command)


def _workers_anywhere(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--scheduler", metavar="tcp://HOST:PORT", help="Of the Dask cluster."),
        click.option(
            "--backend",
            type=click.Choice(["threads", "processes", "dask"]),
            default="threads",
            show_default=True,
            help="What the workers are; dask for the machines of a cluster.",
        ),
        click.option(
            "--jobs",
            type=click.IntRange(min=0),
            default=0,
            help="Workers; 0, the default, for all.",
        ),
    ):
        command = option(command)
    return command


@click.group(cls=ToolGroup, context_settings=_EXAMPLES)
@click.version_option(__version__, prog_name="synth")
def main() -> None:
    """Synthesise labelled infrared small-target data from real or simulated frames."""


main.add_later("quality", "pipelines.cli.quality:quality")
main.add_later("check", "pipelines.cli.check:check_command")
main.add_later("export", "pipelines.cli.export:export_command")
main.add_later("import", "pipelines.cli.export:import_command")
main.add_later("report", "pipelines.cli.report:set_report")
main.add_later("fetch", "pipelines.cli.fetch:fetch_command")


@main.command("noise-sample")
@click.argument("frames", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=_NoiseFile(), help="The bank to write.")
@settings_options(SamplingRule, _SAMPLING)
@click.option(
    "--sequence", is_flag=True, help="The frames of each folder are one sequence of a fixed camera."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@json_option
def noise_sample(
    frames: tuple[Path, ...],
    out: Path,
    sequence: bool,
    seed: int,
    as_json: bool,
    **settings: Any,
) -> None:
    """Sample noise patches from FRAMES, files and folders (searched recursively).

    A window is kept when its variance is below --max-var and its mean above --min-mean, in DN of
    8-bit data (they scale with the range of deeper data); in a --sequence, in every frame, and
    when its variance and mean vary by no more than --max-seq-var and --max-seq-mean over time.

    With --rule texture a window is kept when what is left of it without its trend is noise: even
    over the window, and hardly coarser than second differences say that noise is here. It chooses
    its own thresholds.

    \b
    Example: synth noise-sample backgrounds/ --out bank.npz --patch 32 --limit 2000
    Example: synth noise-sample backgrounds/ --out bank.npz --rule texture
    """
    chosen = make_settings(SamplingRule, settings, _SAMPLING)
    if chosen.rule == "texture" and sequence:
        raise click.UsageError(
            "--rule texture is for single frames; sequences are sampled with --rule variance, or "
            "modelled with `synth noise-model`."
        )
    (camera,) = find_cameras(frames)
    # A sequence is read twice, once for its statistics and once for its patches.
    with _loading("sample", len(camera.frames) * (2 if sequence else 1)) as load:
        bank = camera.sample(chosen, sequence=sequence, seed=seed, load=load)
    replace_file(out, bank.to_bytes())
    if as_json:
        emit_json(
            {
                "out": str(out),
                "patches": len(bank),
                "side": bank.side,
                "dtype": str(bank.patches.dtype),
                "frames": len(set(bank.frame.tolist())),
                "mean": float(bank.mean.mean()),
                "var": float(bank.var.mean()),
            }
        )
    else:
        click.echo(
            f"{out}: {len(bank):,} patches of {bank.side}x{bank.side} {bank.patches.dtype} from "
            f"{len(set(bank.frame.tolist())):,} frames, mean variance {bank.var.mean():.1f} DN²"
        )


@main.command("noise-model")
@click.argument("frames", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--sequence",
    is_flag=True,
    help="FRAMES are a sequence of a fixed camera; several folders are sequences of one camera "
    "at several levels of light.",
)
@click.option("--by-folder", is_flag=True, help="Every folder of frames is a camera of its own.")
@click.option(
    "--patches",
    is_flag=True,
    help="Keep the noise of the blocks; noise is then tiled from it, not drawn from its spectrum.",
)
@click.option("--out", type=_NoiseFile(), help="The model to write.")
@click.option("--plot", type=click.Path(path_type=Path), help="A figure to write, PNG.")
@json_option
def noise_model(
    frames: tuple[Path, ...],
    sequence: bool,
    by_folder: bool,
    patches: bool,
    out: Path | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Measure what the noise in FRAMES is.

    Of single frames: how it depends on intensity, its spectrum, its distribution, patterns of
    columns and rows, from blocks without texture. With --sequence: the seven components of
    three-dimensional noise, and how many pixels are bad. All in DN with standard errors.

    One frame cannot tell a pattern that stays from one that goes, nor can a sequence of one scene
    tell v, h and vh from the scene.

    \b
    Example: synth noise-model backgrounds/ --by-folder --out cameras.npz --plot cameras.png
    Example: synth noise-model recording/ --sequence --out camera.npz
    """
    if sequence:
        if by_folder or patches or plot is not None:
            raise click.UsageError("--by-folder, --patches and --plot are for single frames.")
        _model_sequences(frames, out, as_json)
        return
    found = find_cameras(frames, "folder" if by_folder else "source")
    with _loading("read", sum(len(camera.few()) for camera in found)) as load:
        cameras = CameraNoise([camera.fit(patches=patches, load=load) for camera in found])
    if out is not None:
        replace_file(out, cameras.to_bytes())
    if plot is not None:
        from pipelines.noise_figure import plot_noise

        replace_file(plot, plot_noise(cameras.models))
    if as_json:
        emit_json(
            {
                "out": None if out is None else str(out),
                "cameras": [
                    {
                        "frames": len(model),
                        "depth": model.depth,
                        **{
                            name: {
                                "value": model.summary[name],
                                "error": _finite(model.error[name]),
                            }
                            for name in SUMMARY
                        },
                        "level": model.level.tolist(),
                        "level_sigma": model.sigma.tolist(),
                    }
                    for model in cameras.models
                ],
            }
        )
        return
    for number, model in enumerate(cameras.models, start=1):
        name = f"camera {number}: " if cameras.models[1:] else ""
        click.echo(f"{name}noise found in {len(model)} frames, {model.depth} bits")
        for key, (unit, meaning) in _OF_FRAMES.items():
            error = model.error[key]
            doubt = f"± {error:.3f}" if math.isfinite(error) else "(one frame: no error)"
            click.echo(f"{key:12} {model.summary[key]:9.3f} {doubt} {unit}  {meaning}")
        click.echo(
            "noise level  "
            + ", ".join(
                f"{sigma:.2f} at {level:.0f}"
                for level, sigma in zip(model.level, model.sigma, strict=True)
            )
            + " DN"
        )
    if out is not None:
        click.echo(f"{out}: written")


def _model_sequences(paths: tuple[Path, ...], out: Path | None, as_json: bool) -> None:
    """Measure one sequence, or one in each of several folders."""
    apart = len(paths) > 1 and all(path.is_dir() for path in paths)
    found = [
        measure_components(_read_sequence([path] if apart else paths))
        for path in (paths if apart else paths[:1])
    ]
    gain = measure_gain(found) if apart else None
    if out is not None:
        made = CameraNoise([sequence_model(*found)]) if apart else found[0]
        replace_file(out, made.to_bytes())
    if as_json:
        sequences = [
            {
                "frames": one.frames,
                "shape": list(one.bad.shape),
                "mean": one.mean,
                "sigma": dict(one.sigma),
                "error": dict(one.error),
                "kurtosis": one.kurtosis,
                "correlation": one.correlation.tolist(),
                "length_rows": correlation_length(one.correlation[2]),
                "length_cols": correlation_length(one.correlation[1]),
                "bad_pixels": np.argwhere(one.bad).tolist(),
            }
            for one in found
        ]
        first = {"out": None if out is None else str(out)}
        if gain is None:
            emit_json(first | sequences[0])
        else:
            emit_json(
                first | {"gain": {"value": gain[0], "error": gain[1]}, "sequences": sequences}
            )
        return
    for path, one in zip(paths, found, strict=False):
        height, width = one.bad.shape
        click.echo(
            (f"{path}: " if apart else "")
            + f"{one.frames} frames of {height}x{width}, mean {one.mean:,.1f} DN, "
            f"{int(one.bad.sum())} bad pixels left out"
        )
        for name in COMPONENTS:
            click.echo(
                f"σ_{name:4} {one.sigma[name]:9.3f} ± {one.error[name]:.3f} DN  {_MEANING[name]}"
            )
        click.echo(f"excess kurtosis of σ_tvh {one.kurtosis:.2f}")
    if gain is not None:
        click.echo(f"gain {gain[0]:.4f} ± {gain[1]:.4f} DN² per DN, over {len(found)} levels")
    if out is not None:
        click.echo(f"{out}: written")


@main.command("noise-generate")
@click.argument("model", type=_NoiseFile())
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A folder to make.")
@click.option("--frames", type=click.IntRange(1, 100_000), default=100, show_default=True)
@click.option(
    "--shape",
    type=(click.IntRange(16, 16384), click.IntRange(16, 16384)),
    metavar="ROWS COLS",
    help="Of a frame; by default that of the sequence that was measured, or 256 256.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@json_option
def noise_generate(
    model: Path, out: Path, frames: int, shape: tuple[int, int] | None, seed: int, as_json: bool
) -> None:
    """Make frames of pure noise like that of MODEL, as PNG files.

    Of a sequence's model a sequence with its seven components; of other noise independent frames,
    each at an intensity that a frame of the model has, its cameras and frames in turn.

    \b
    Example: synth noise-generate camera.npz --out noise --frames 50 --shape 256 256
    """
    noise = load_noise(model)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StoreError(out, "is there already; choose another --out")
    made: Iterable[Frame]
    if isinstance(noise, NoiseComponents):
        rows, cols = shape or noise.bad.shape
        # Two cameras have no noise in common, with the same seed too.
        camera = hashlib.sha256(noise.to_bytes()).hexdigest()
        rng = generator(seed, "sequence", camera)
        made = generate_sequence(noise, (frames, rows, cols), rng)
    else:
        cameras = load_cameras(model)
        rows, cols = shape or (256, 256)
        made = generate_frames(cameras, (rows, cols), frames, seed)
    width = max(4, len(str(frames)))
    with new_folder(out) as place, progress_bar(frames, "write", "frame") as bar:
        for number, frame in enumerate(made, start=1):
            replace_file(place / f"{number:0{width}d}.png", encode_png(frame))
            bar.update()
    if as_json:
        emit_json({"out": str(out), "frames": frames, "shape": [rows, cols]})
    else:
        click.echo(f"{out}: {frames} frames of {rows}x{cols}")


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _read_sequence(paths: Iterable[Path]) -> Frame:
    """Read the frames of one sequence, in natural order."""
    files = find_frames(paths)
    with progress_bar(len(files), "read", "frame") as bar:
        frames: list[Frame] = []
        for file in files:
            frames.append(read_frame(file))
            if (frames[-1].shape, frames[-1].dtype) != (frames[0].shape, frames[0].dtype):
                raise FrameError(
                    file, f"is not of the size and depth of {files[0].name}; one sequence has one"
                )
            bar.update()
    return cast(Frame, np.stack(frames))


@main.command()
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option(
    "--noise", required=True, type=_NoiseFile(), help="A noise bank, or a noise model (residual)."
)
@click.option("--out", required=True, type=click.Path(path_type=Path))
@click.option(
    "--mode",
    type=click.Choice(["mixup", "residual"]),
    default="mixup",
    show_default=True,
    help="Mix enlarged patches in, as published, or add what an image lacks of the sensor's noise.",
)
@settings_options(Mixup, _MIXUP)
@settings_options(Residual, _RESIDUAL)
@click.option(
    "--split",
    type=click.Choice(["train", "val"]),
    default="train",
    show_default=True,
    help="Test images are never synthesised from.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@_workers
@json_option
def transfer(
    dataset: Path,
    noise: Path,
    out: Path,
    mode: str,
    split: str,
    seed: int,
    jobs: int,
    backend: Backend,
    as_json: bool,
    **settings: Any,
) -> None:
    """Put noise on every image of a split of DATASET; outputs keep their ids.

    The manifest records which patch, or which frame of a model and which realisation of its noise,
    each output got.

    \b
    Example: synth transfer NUDT-SIRST --noise bank.npz --out noisy --mode mixup --ratio 0.1
    Example: synth transfer NUDT-SIRST --noise cameras.npz --out noisy --mode residual
    """
    require_usable(out)
    pool = Pool(jobs, backend)
    amount = settings.pop("ratio" if mode == "residual" else "strength")
    if amount:
        other = ("ratio", "mixup") if mode == "residual" else ("strength", "residual")
        raise click.UsageError("--{} is for --mode {}.".format(*other))
    step = make_settings(Mixup if mode == "mixup" else Residual, settings)
    if mode == "mixup":
        supply = Supply(bank=load_bank(noise))
    else:
        supply = Supply(cameras=load_cameras(noise))
    plan = prepare_stage(
        "transfer", open_dataset(dataset), Recipe([step]), split, seed, pool, supply, keep_ids=True
    )
    _run(plan, out, pool, as_json)


@main.command()
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path))
@settings_options(Turn, _TURN)
@click.option(
    "--any-angle",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Share of the negatives whose target alone is turned, by any angle.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--split", type=click.Choice(["train", "val"]), default="train", show_default=True)
@_workers
@json_option
def rotate(
    dataset: Path,
    out: Path,
    any_angle: float,
    seed: int,
    split: str,
    jobs: int,
    backend: Backend,
    as_json: bool,
    **settings: Any,
) -> None:
    """Make negatives by turning the patch around every target of DATASET.

    Outputs are called {id}_k{turns}_j{target}.

    \b
    Example: synth rotate noisy --out negatives --side 32 --turns 0,1,2,3 --mirror
    """
    require_usable(out)
    pool = Pool(jobs, backend)
    step: Step = make_settings(Turn, settings)
    if any_angle:
        alone = Move(stay=True, angle=180.0)
        step = Choose(((1 - any_angle, step), (any_angle, alone)))
    plan = prepare_stage(
        "rotate", open_dataset(dataset), Recipe([step]), split, seed, pool, Supply()
    )
    _run(plan, out, pool, as_json)


@main.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), help="The labelled set to start from.")
@click.option(
    "--noise",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Frames, a folder of frames, or a bank; given several times, several types of noise.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Default: out/NAME.")
@click.option("--seed", type=click.IntRange(min=0))
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a key.")
@click.option(
    "--format",
    "layout",
    type=click.Choice(["files", "webdataset"]),
    default="files",
    show_default=True,
    help="Loose files, or tar files of many outputs each.",
)
@click.option(
    "--shard-size",
    type=_ShardSize(),
    help="Outputs a tar file, or pixels as 100MB or 1GB, counted before compression; 1000.",
)
@label_options
@_workers_anywhere
@json_option
def build(
    config: Path,
    data: Path | None,
    noise: tuple[Path, ...],
    out: Path | None,
    seed: int | None,
    overrides: tuple[str, ...],
    layout: str,
    shard_size: ShardSize | None,
    label: Label | None,
    jobs: int,
    backend: Backend,
    scheduler: str | None,
    as_json: bool,
) -> None:
    """Build the data set that CONFIG describes.

    A build that was interrupted goes on when the same command is run again, and ends with the
    same bytes.

    \b
    Example: synth build configs/build/sirst5k.yaml --data NUDT-SIRST --noise backgrounds
    Example: synth build my.yaml --format webdataset --shard-size 5000
    Example: synth build my.yaml --backend dask --scheduler tcp://HOST:8786
    """
    if (backend == "dask") != (scheduler is not None):
        raise click.UsageError("--backend dask and --scheduler ADDRESS need each other.")
    if shard_size is not None and layout == "files":
        raise click.UsageError("--shard-size is for --format webdataset.")
    shards = (shard_size or ShardSize(outputs=1000)) if layout == "webdataset" else None
    values = [*overrides]
    if noise:
        # YAML's own escapes: a name may hold any character, or bytes that are none.
        names = yaml.safe_dump([str(path) for path in noise], default_flow_style=True, width=10**9)
        values.append(f"noise.frames={names}")
    if data is not None:
        lost = next((value for value in overrides if value.startswith("simulate")), None)
        if lost:
            raise click.UsageError(f"--set {lost} says what to simulate, but --data is given.")
        values.append("simulate=null")
    loaded = load_config(
        config,
        BuildConfig,
        values,
        data=None if data is None else str(data),
        seed=seed,
        label=label_text(label),
        defaults={"name": config.stem},
    )
    out = out or Path("out") / loaded.name
    for source in loaded.noise.frames if loaded.noise else ():
        if out.resolve().is_relative_to(source.resolve()):
            raise StoreError(out, f"lies in {source}, where noise is sampled; choose another --out")
    require_usable(out)
    pool = Pool(jobs, backend, scheduler)
    started = time.perf_counter()
    _run(prepare(loaded, pool, shards), out, pool, as_json, started)


@main.command("verify")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--jobs", type=click.IntRange(min=0), default=0, help="Workers; 0 for all.")
@click.option(
    "--recompute", "again", is_flag=True, help="Make the outputs again, and compare their pixels."
)
@click.option("--data", type=click.Path(path_type=Path), help="Where the set's source is now.")
@click.option(
    "--noise",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Where the frames are now that targets were put into.",
)
@click.option("--count", type=_POSITIVE, help="Make a sample of so many outputs again, not all.")
@json_option
def verify_command(
    out: Path,
    jobs: int,
    again: bool,
    data: Path | None,
    noise: tuple[Path, ...],
    count: int | None,
    as_json: bool,
) -> None:
    """Test whether every file of a built set is as the build left it.

    With --recompute every output is also made again, from its line of the manifest, the set's noise
    and the source. Status 1 when a mask differs, or more than 0.1% of an image's pixels, or any by
    more than 1 DN: that much another processor may explain.

    \b
    Example: synth verify out/sirst5k
    Example: synth verify out/sirst5k --recompute --data NUDT-SIRST --count 500
    """
    if (data or noise or count) and not again:
        raise click.UsageError("--data, --noise and --count are for --recompute.")
    problems: list[str] = []
    total = 0
    with _bar("verify") as report:
        for done, total, problem in verify(out, Pool(jobs).jobs):
            report("verify", done, total)
            if problem is not None:
                problems.append(problem)
    result: dict[str, Any] = {"out": str(out), "intact": not problems, "outputs": total}
    result["problems"] = problems
    if again and not problems:
        # What was changed after the build need not be made to see that.
        done, differences = _recompute(out, Pool(jobs), data, noise, count)
        result["recomputed"] = {
            "outputs": done,
            "differing": len(differences),
            "pixels": sum(found.pixels for found in differences),
            "largest": max((found.largest or 0 for found in differences), default=0),
            "mask_pixels": sum(found.mask_pixels for found in differences),
            "tolerated": all(found.tolerated for found in differences),
            "differences": [asdict(found) for found in differences],
        }
        problems = [_difference_words(out, one) for one in differences if not one.tolerated]
    if as_json:
        emit_json(result)
    for problem in problems[:20]:
        click.echo(f"synth: {problem}", err=True)
    if len(problems) > 20:
        click.echo(f"synth: and {len(problems) - 20} more", err=True)
    if problems:
        raise SystemExit(1)
    if not as_json:
        click.echo(f"{out}: intact, {total:,} outputs{_recomputed_words(result)}")


def _recompute(
    out: Path, pool: Pool, data: Path | None, noise: tuple[Path, ...], count: int | None
) -> tuple[int, list[Difference]]:
    done = 0
    differences = []
    with _bar("recompute") as report:
        for done, total, difference in recompute(out, pool, data=data, noise=noise, count=count):
            report("recompute", done, total)
            if difference is not None:
                differences.append(difference)
    return done, differences


def _difference_words(out: Path, found: Difference) -> str:
    size = "is of another size or depth than" if found.largest is None else "differs from"
    most = "" if found.largest is None else f" by up to {found.largest:,} DN"
    return (
        f"{out}: output {found.id} {size} the one made again: {found.pixels:,} pixels{most}, "
        f"{found.mask_pixels:,} of its mask"
    )


def _recomputed_words(result: dict[str, Any]) -> str:
    found = result.get("recomputed")
    if found is None:
        return ""
    if not found["differing"]:
        return f"; {found['outputs']:,} made again, all equal"
    return (
        f"; {found['outputs']:,} made again, of which {found['differing']:,} differ as those of "
        f"another processor do: {found['pixels']:,} pixels by {found['largest']} DN"
    )


def _is_copy(root: Path) -> bool:
    """Whether a set was imported or repaired, so that no image was made from another one."""
    try:
        return read_description(root)["configuration"].get("command") in ("import", "check")
    except (StoreError, KeyError, AttributeError):
        return False


@main.command("split")
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the lists; DATASET itself.")
@click.option("--test", type=_Finite(0, 1), default=0.2, show_default=True, help="Share.")
@click.option("--val", type=_Finite(0, 1), default=0.1, show_default=True, help="Share.")
@click.option(
    "--group",
    type=click.Choice(["auto", "name", "likeness", "none"]),
    default="auto",
    show_default=True,
    help="What tells which images stay together.",
)
@click.option("--pattern", help="Regular expression; its first group names the sequence of an id.")
@click.option(
    "--above",
    type=_Finite(0, 1),
    help="Correlation above which two images are alike; 0.7 by default.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@label_options
@json_option
def split_command(
    dataset: Path,
    out: Path | None,
    test: float,
    val: float,
    group: str,
    pattern: str | None,
    above: float | None,
    seed: int,
    label: Label | None,
    as_json: bool,
) -> None:
    """Divide the images of DATASET among training, validation and testing.

    Writes train.txt, val.txt and test.txt, never over a list that is there. Images of one sequence
    stay together: those whose names are equal but for the number at their end, where that gives
    several sequences of several images (name), else those that show the same scene (likeness).

    \b
    Example: synth split mycamera --val 0.1 --test 0.2
    """
    from synth.inspect.splits import (
        LIKENESS,
        group_alone,
        group_by_likeness,
        group_by_name,
        names_tell,
        scene_signature,
        split_groups,
        write_lists,
    )

    if test + val >= 1:
        raise click.UsageError("--test and --val leave nothing for training; give less than 1.")
    if pattern is not None and group != "auto":
        raise click.UsageError("give --pattern or --group, not both.")
    opened = open_dataset(dataset, label=label)
    if opened.manifests() and not _is_copy(dataset):
        raise DatasetError(
            dataset,
            "is a built set; divide the labelled set that it was built from, and build it again",
        )
    folder = dataset if out is None else out
    if opened.listed and folder.resolve() == dataset.resolve():
        raise DatasetError(dataset, "has lists already; give new ones another folder with --out")
    ids = [id_ for id_ in opened.images if id_ in opened.masks]
    try:
        if pattern is not None or group == "name" or (group == "auto" and names_tell(ids)):
            groups = group_by_name(ids, pattern)
        elif group == "none":
            groups = group_alone(ids)
        else:
            with progress_bar(len(ids), "compare") as bar:
                signatures = {}
                for id_ in ids:
                    signatures[id_] = scene_signature(opened.read_image(id_))
                    bar.update()
            groups = group_by_likeness(signatures, LIKENESS if above is None else above)
        splits = split_groups(groups, test, val, seed)
    except RecipeError as error:
        raise DatasetError(dataset, str(error)) from None
    files = write_lists(folder, splits)
    if as_json:
        emit_json(
            {
                "lists": {name: str(file) for name, file in zip(splits, files, strict=True)},
                "images": {name: len(members) for name, members in splits.items()},
                "grouped_by": groups.by,
                "groups": len(groups.members),
                "largest_group": max(map(len, groups.members.values())),
            }
        )
        return
    counts = ", ".join(f"{len(members):,} {name}" for name, members in splits.items())
    largest = max(map(len, groups.members.values()))
    click.echo(
        f"{folder}: {counts}; {len(groups.members):,} groups by {groups.by}, "
        f"the largest of {largest:,} images"
    )


@main.command()
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A .png file.")
@click.option("--split", default="train", show_default=True, help="train, val, test or all.")
@click.option("--count", type=_POSITIVE, default=24, show_default=True, help="Images on the sheet.")
@click.option("--columns", type=_POSITIVE, default=6, show_default=True)
@click.option(
    "--cell", type=click.IntRange(32, 1024), default=192, show_default=True, help="Pixels a side."
)
@click.option("--ids", help="Ids to show, separated by commas, in place of an even selection.")
@label_options
@json_option
def preview(
    dataset: Path,
    out: Path,
    split: str,
    count: int,
    columns: int,
    cell: int,
    ids: str | None,
    label: Label | None,
    as_json: bool,
) -> None:
    """Draw a contact sheet of DATASET with its targets outlined.

    \b
    Example: synth preview out/demo --out sheet.png --count 24
    """
    from pipelines.preview import contact_sheet
    from synth.disk.png import encode_picture

    if out.suffix.lower() != ".png":
        raise click.BadParameter(f"{out} must end in .png", param_hint="--out")
    opened = open_dataset(dataset, label=label)
    shown = tuple(ids.split(",")) if ids else _evenly(opened.ids(split), count)
    if not shown:
        raise DatasetError(dataset, f"has no image in its split {split!r}; choose another --split")
    items = [(id_, *opened.read_pair(id_)) for id_ in shown]
    sheet = contact_sheet(items, min(columns, len(items)), cell)
    replace_file(out, encode_picture(sheet))
    if as_json:
        emit_json({"out": str(out), "ids": list(shown), "shape": list(sheet.shape[:2])})
    else:
        click.echo(f"{out}: {len(shown)} images of {dataset}")


def _evenly(ids: tuple[str, ...], count: int) -> tuple[str, ...]:
    """`count` ids spread evenly over a split, so that every part of a set is seen."""
    if len(ids) <= count:
        return ids
    return tuple(ids[number * len(ids) // count] for number in range(count))


def _run(plan: Plan, out: Path, pool: Pool, as_json: bool, started: float | None = None) -> None:
    started = time.perf_counter() if started is None else started
    for note in plan.notes:
        click.echo(f"note: {note}", err=True)
    with _bar("build") as report:
        result = execute(plan, out, pool, report)
    _tell(result, time.perf_counter() - started, as_json)


def _tell(result: BuildResult, seconds: float, as_json: bool) -> None:
    if as_json:
        emit_json(
            {
                "out": str(result.out),
                "counts": result.counts,
                "made": result.made,
                "seconds": round(seconds, 3),
                **({} if result.noisier is None else {"noisier": result.noisier}),
            }
        )
        return
    counts = ", ".join(
        f"{count:,} {name}" for name, count in result.counts.items() if name != "outputs"
    )
    total = result.counts["outputs"]
    if result.made == 0 and total:
        click.echo(f"{result.out}: is there already; {total:,} outputs ({counts})")
        return
    went_on = f", {result.made:,} of them now" if result.made < total else ""
    click.echo(f"{result.out}: {total:,} outputs ({counts}) in {seconds:.1f} s{went_on}")
    if result.noisier:
        click.echo(
            f"{result.noisier:,} of the images had as much noise already on half of their pixels "
            "or more, and got none there"
        )


@contextmanager
def _loading(desc: str, total: int) -> Iterator[Loader]:
    """A way to load frames that moves a bar on."""
    with progress_bar(total, desc, "frame") as bar:

        def load(frames: Iterable[NoiseFrame]) -> Iterator[tuple[Frame, Mask | None]]:
            for frame in frames:
                bar.update()
                yield frame.load()

        yield load


@contextmanager
def _bar(desc: str) -> Iterator[Progress]:
    with progress_bar(None, desc) as bar:

        def report(stage: str, done: int, total: int) -> None:
            if bar.total != total:
                bar.total = total
            if done > bar.n:
                bar.update(done - bar.n)

        yield cast(Progress, report)
