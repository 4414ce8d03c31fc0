"""The noise of a build: a bank that is read, or sampled from frames that no test image is among."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from pipelines.build_config import NoiseSettings
from pipelines.pool import Pool
from pipelines.sources import Source, pixel_digest
from synth.errors import DatasetError, NoiseError
from synth.frames import Frame, Mask, find_frames, group_by_folder, read_frame
from synth.noise.bank import NoiseBank, join_banks, load_bank
from synth.noise.sampling import NoiseFrame, SamplingRule, sample_noise, sample_sequences


def gather_noise(
    settings: NoiseSettings,
    source: Source,
    forbidden: frozenset[bytes],
    *,
    seed: int,
    jobs: int = 1,
) -> NoiseBank:
    """Get the noise bank of a build.

    Parameters
    ----------
    settings : NoiseSettings
        Its sources are banks (``.npz``), frames, and folders of frames. Without any, noise is
        sampled from the source's own frames.
    source : Source
    forbidden : frozenset of bytes
        Pixel hashes of the test images; a frame among them is refused.
    seed : int
    jobs : int
        Threads that read ahead.

    Raises
    ------
    NoiseError
        A source gives no patch, or sources of different depth.
    FrameError
        A file is damaged, or is a test image.
    """
    rule = settings.sampling_rule()
    if not settings.sources:
        try:
            return sample_noise(_read_ahead(source.noise_frames, jobs), rule, seed=seed)
        except NoiseError as error:
            raise NoiseError(f"{source.name}: {error}; or give frames with --noise") from None
    banks = []
    for path in settings.sources:
        if path.suffix == ".npz":
            banks.append(load_bank(path))
            continue
        groups = [find_frames([path])]
        if settings.banks == "folder":
            groups = group_by_folder(groups[0])
        base = path if path.is_dir() else path.parent
        for group in groups:
            frames = [_frame(file, base, forbidden) for file in group]
            try:
                banks.append(sample_frames(frames, rule, settings.sequence, seed=seed, jobs=jobs))
            except NoiseError as error:
                raise NoiseError(f"{path}: {error}") from None
    return join_banks(banks)


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
