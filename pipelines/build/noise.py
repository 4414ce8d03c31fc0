"""The noise of a build: a bank that is read, or sampled from frames that no test image is among."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from pipelines.build.config import NoiseSettings
from pipelines.build.parallel import Pool
from pipelines.build.sources import Source, pixel_digest
from synth.disk.folders import find_frames, group_by_folder
from synth.errors import DatasetError, NoiseError
from synth.frames import Frame, Mask, read_frame
from synth.noise.bank import NoiseBank, join_banks
from synth.noise.blocks import find_noise_blocks
from synth.noise.cameras import CameraNoise, load_cameras, load_noise
from synth.noise.learn import thin_out
from synth.noise.model import NoiseModel, fit_model, without_patches
from synth.noise.sampling import NoiseFrame, SamplingRule, sample_noise, sample_sequences
from synth.recipe import Recipe
from synth.steps import Supply


def gather_noise(
    settings: NoiseSettings,
    recipe: Recipe,
    source: Source,
    forbidden: frozenset[bytes],
    *,
    seed: int,
    jobs: int = 1,
) -> Supply:
    """Get the noise that a recipe needs: a bank of patches to mix in, or models of cameras.

    Parameters
    ----------
    settings : NoiseSettings
        Without any `frames`, noise is sampled from the source's own frames.
    recipe : Recipe
    source : Source
    forbidden : frozenset of bytes
        Pixel hashes of the test images; a frame among them is refused.
    seed : int
    jobs : int
        Threads that read ahead.

    Raises
    ------
    NoiseError
        A source gives no patch or is no noise that the steps use, or sources are of different
        depth.
    FrameError
        A file is damaged, or is a test image.
    """
    return Supply(
        _sample_bank(settings, source, forbidden, seed, jobs) if recipe.needs("bank") else None,
        _model_noise(settings, source, forbidden, jobs) if recipe.needs("cameras") else None,
    )


def _sample_bank(
    settings: NoiseSettings, source: Source, forbidden: frozenset[bytes], seed: int, jobs: int
) -> NoiseBank:
    """The patches that a build's noise is mixed from."""
    rule = settings.sample
    if not settings.frames:
        try:
            return sample_noise(_read_ahead(source.noise_frames, jobs), rule, seed=seed)
        except NoiseError as error:
            raise NoiseError(f"{source.name}: {error}; or give frames with --noise") from None
    banks = []
    for path in settings.frames:
        if path.suffix == ".npz":
            banks.append(load_bank_to_mix(path))
            continue
        for frames in _groups(path, settings, forbidden):
            try:
                banks.append(sample_frames(frames, rule, settings.sequence, seed=seed, jobs=jobs))
            except NoiseError as error:
                raise NoiseError(f"{path}: {error}") from None
    return join_banks(banks)


def load_bank_to_mix(path: Path) -> NoiseBank:
    """Read a bank; a model of noise, which cannot be mixed in, is an error that says so."""
    found = load_noise(path)
    if not isinstance(found, NoiseBank):
        raise NoiseError(
            f"{path}: is a model of noise, which has no patches to mix in; take the step residual"
        )
    return found


def fit_frames(
    frames: Sequence[NoiseFrame], jobs: int = 1, *, keep_patches: bool = False
) -> NoiseModel:
    """Fit a noise model to single frames, or to 128 evenly chosen ones of many, clear of masks."""
    blocks = find_noise_blocks(frame.load() for frame in _read_ahead(thin_out(frames), jobs))
    return fit_model(blocks, keep_patches=keep_patches)


def fit_files(
    paths: Sequence[Path],
    by_folder: bool,
    progress: Callable[[str, int, int], None],
    *,
    keep_patches: bool = False,
) -> CameraNoise:
    """Fit a model to frame files and folders, or one to each folder of frames."""
    files = find_frames(paths)
    groups = group_by_folder(files) if by_folder else [files]
    total = sum(len(thin_out(group)) for group in groups)
    done = iter(range(1, total + 1))

    def frame(file: Path) -> NoiseFrame:
        def load() -> tuple[Frame, Mask | None]:
            progress("read", next(done, total), total)
            return read_frame(file), None

        return NoiseFrame(file.name, load)

    models = []
    for group in groups:
        try:
            named = [frame(file) for file in group]
            models.append(fit_frames(named, keep_patches=keep_patches))
        except NoiseError as error:
            raise NoiseError(f"{group[0].parent}: {error}") from None
    return CameraNoise(models)


def sample_files(
    paths: Sequence[Path],
    rule: SamplingRule,
    sequence: bool,
    *,
    seed: int,
    progress: Callable[[str, int, int], None],
) -> NoiseBank:
    """Sample frame files and folders, named in the bank relative to the folder that was given."""
    frames = [
        _frame(file, path if path.is_dir() else path.parent)
        for path in paths
        for file in find_frames([path])
    ]
    # A sequence is read twice, once for its statistics and once for its patches.
    reads = len(frames) * (2 if sequence else 1)
    done = iter(range(1, reads + 1))

    def counted(frame: NoiseFrame) -> NoiseFrame:
        def load() -> tuple[Frame, Mask | None]:
            progress("sample", next(done, reads), reads)
            return frame.load()

        return NoiseFrame(frame.name, load)

    try:
        return sample_frames(
            [(file, counted(frame)) for file, frame in frames], rule, sequence, seed=seed
        )
    except NoiseError as error:
        raise NoiseError(f"{', '.join(map(str, paths))}: {error}") from None


def sample_frames(
    frames: list[tuple[Path, NoiseFrame]],
    rule: SamplingRule,
    sequence: bool,
    *,
    seed: int,
    jobs: int = 1,
) -> NoiseBank:
    """Sample frames; as a sequence, the frames of each folder are one."""
    if not sequence:
        return sample_noise(_read_ahead([frame for _, frame in frames], jobs), rule, seed=seed)
    of = dict(frames)
    folders = group_by_folder([file for file, _ in frames])
    return sample_sequences(([of[file] for file in folder] for folder in folders), rule, seed=seed)


def _model_noise(
    settings: NoiseSettings, source: Source, forbidden: frozenset[bytes], jobs: int
) -> CameraNoise:
    """Models of the cameras that a build's noise is from."""
    patches = settings.draw == "patches"
    if not settings.frames:
        try:
            return CameraNoise([fit_frames(source.noise_frames, jobs, keep_patches=patches)])
        except NoiseError as error:
            raise NoiseError(f"{source.name}: {error}; or give frames with --noise") from None
    cameras: list[tuple[Path, list[NoiseFrame] | None]] = []
    for path in settings.frames:
        if path.suffix == ".npz":
            cameras.append((path, None))
        else:
            cameras += [
                (path, [frame for _, frame in frames])
                for frames in _groups(path, settings, forbidden)
            ]

    def fit(camera: tuple[Path, list[NoiseFrame] | None]) -> tuple[NoiseModel, ...]:
        path, frames = camera
        if frames is None:
            models = load_cameras(path, keep_patches=patches).models
            if settings.draw == "spectrum":
                return tuple(map(without_patches, models))
            if patches and not all(len(model.patches) for model in models):
                raise NoiseError(
                    f"{path}: keeps no patches; write it with `synth noise-model --patches`, or "
                    "set noise.draw: spectrum"
                )
            return models
        try:
            return (fit_frames(frames, keep_patches=patches),)
        except NoiseError as error:
            raise NoiseError(f"{path}: {error}") from None

    with closing(Pool(jobs, "threads").map(fit, cameras)) as models:
        return CameraNoise([model for found in models for model in found])


def _groups(
    path: Path, settings: NoiseSettings, forbidden: frozenset[bytes]
) -> Iterator[list[tuple[Path, NoiseFrame]]]:
    """The frames below a path, or those of each of its folders."""
    files = find_frames([path])
    base = path if path.is_dir() else path.parent
    for group in group_by_folder(files) if settings.by == "folder" else [files]:
        yield [_frame(file, base, forbidden) for file in group]


def _read_ahead(frames: Sequence[NoiseFrame], jobs: int) -> Iterator[NoiseFrame]:
    """The same frames, loaded by threads while earlier ones are scored."""
    with closing(Pool(jobs, "threads").map(lambda frame: frame.load(), frames)) as loads:
        for frame, loaded in zip(frames, loads, strict=True):
            yield NoiseFrame(frame.name, partial(_given, loaded))


def _given(loaded: tuple[Frame, Mask | None]) -> tuple[Frame, Mask | None]:
    return loaded


def _frame(
    file: Path, base: Path, forbidden: frozenset[bytes] = frozenset()
) -> tuple[Path, NoiseFrame]:
    def load() -> tuple[Frame, Mask | None]:
        frame = read_frame(file)
        if forbidden and pixel_digest(frame) in forbidden:
            raise DatasetError(file, "is a test image of the data set; noise may not come from it")
        return frame, None

    return file, NoiseFrame(file.relative_to(base).as_posix(), load)
