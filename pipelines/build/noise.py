"""The noise of a build: a bank that is read, or sampled from frames that no test image is among."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TypeVar

from pipelines.build.config import NoiseSettings
from pipelines.build.parallel import Pool
from pipelines.build.sources import Source, pixel_digest
from synth.errors import DatasetError, NoiseError
from synth.frames import Frame, Mask
from synth.noise.bank import NoiseBank, join_banks, load_bank
from synth.noise.cameras import CameraNoise, load_cameras
from synth.noise.learn import Camera, find_cameras
from synth.noise.model import NoiseModel, without_patches
from synth.noise.sampling import Loader, NoiseFrame
from synth.recipe import Recipe
from synth.steps import Supply

Item = TypeVar("Item")
Result = TypeVar("Result")


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

    Without any frames in the settings it is that of the source's own. `forbidden` are pixel hashes
    of the test images, and `jobs` the threads that read.

    Raises
    ------
    NoiseError
        A source gives no patch or is no noise that the steps use, or sources are of different
        depth.
    FrameError
        A file is damaged, or is a test image.
    """
    origins: list[Path | Camera] = []
    for path in settings.frames:
        origins += [path] if path.suffix == ".npz" else find_cameras([path], settings.by)
    if not settings.frames:
        origins = [Camera(source.name, source.noise_frames)]
    sequence = settings.sequence and bool(settings.frames)
    pool, running = Pool(jobs, "threads"), ExitStack()
    patches = settings.draw == "patches"

    def read(frame: NoiseFrame) -> tuple[Frame, Mask | None]:
        loaded = frame.load()
        if forbidden and frame.path and pixel_digest(loaded[0]) in forbidden:
            raise DatasetError(
                frame.path, "is a test image of the data set; noise may not come from it"
            )
        return loaded

    def threads(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        return running.enter_context(closing(pool.map(work, items)))

    ahead: Loader = partial(threads, read)
    # Threads read the frames of one camera ahead, or take a camera each.
    several = len(origins) > 1

    def sample(origin: Path | Camera) -> NoiseBank:
        if isinstance(origin, Path):
            return load_bank(origin)
        return origin.sample(settings.sample, sequence=sequence, seed=seed, load=ahead)

    def fit(origin: Path | Camera) -> tuple[NoiseModel, ...]:
        if not isinstance(origin, Path):
            return (origin.fit(patches=patches, load=partial(map, read) if several else ahead),)
        models = load_cameras(origin, keep_patches=patches).models
        if settings.draw == "spectrum":
            return tuple(map(without_patches, models))
        if patches and not all(len(model.patches) for model in models):
            raise NoiseError(
                f"{origin}: keeps no patches; write it with `synth noise-model --patches`, or set "
                "noise.draw: spectrum"
            )
        return models

    bank, cameras = None, None
    try:
        with running:
            if recipe.needs("bank"):
                bank = join_banks([sample(origin) for origin in origins])
            if recipe.needs("cameras"):
                fitted = threads(fit, origins) if several else map(fit, origins)
                cameras = CameraNoise([*chain.from_iterable(fitted)])
    except NoiseError as error:
        if settings.frames:
            raise
        raise NoiseError(f"{error}; or give frames with --noise") from None
    return Supply(bank, cameras)
