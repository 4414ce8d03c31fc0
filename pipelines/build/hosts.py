"""The images that targets of other images are put into: training images, and frames without any."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from pathlib import Path

import numpy as np

from pipelines.build.config import BuildConfig
from pipelines.build.parallel import Pool
from pipelines.build.sources import KEPT_BYTES, Kept, Pair, Source, Survey, pixel_digest
from synth.disk.files import sha256
from synth.disk.folders import find_frames
from synth.errors import DatasetError, NoiseError, RecipeError
from synth.frames import Frame, Mask, read_frame
from synth.steps import Hosts, Transplant
from synth.steps.base import as_tuple

Load = Callable[[], tuple[Frame, Mask | None]]


@dataclass(frozen=True)
class HostImages:
    """All hosts of a build; see `synth.steps.transplant.Hosts`.

    Attributes
    ----------
    images : mapping of str to callable
        What loads the image of a name, and its mask where it has one.
    labelled, empty : tuple of str
        Names of training images, and of frames without targets.
    sha256 : str or None
        One hash over the pixels of the frames without targets, and their names.
    training : str
        One hash over the files of the training images. A worker that outlives a build tells by
        these that files of the same names have changed.
    """

    images: Mapping[str, Load] = field(default_factory=dict)
    labelled: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()
    sha256: str | None = None
    training: str = ""
    _kept: Kept[tuple[Frame, Mask]] = field(
        default_factory=lambda: Kept(KEPT_BYTES), init=False, repr=False, compare=False
    )

    def __reduce__(self) -> tuple[Callable[[bytes], HostImages], tuple[bytes]]:
        # Every task of a process takes them along: packed once here, and unpacked once there.
        return _unpack, (self._packed,)

    @cached_property
    def _packed(self) -> bytes:
        return pickle.dumps(
            (dict(self.images), self.labelled, self.empty, self.sha256, self.training)
        )

    def loaded(self) -> Hosts:
        """The hosts as a recipe needs them."""
        return Hosts(self._load, self.labelled, self.empty)

    def _load(self, name: str) -> tuple[Frame, Mask]:
        if name not in self.images:
            raise RecipeError(f"host {name} is not there")
        kept = self._kept.get(name)
        if kept is None:
            image, mask = self.images[name]()
            kept = image, np.zeros(image.shape, np.bool_) if mask is None else mask
            self._kept.put(name, kept, image.nbytes + kept[1].nbytes)
        return kept


NO_HOSTS = HostImages()


@lru_cache(maxsize=2)
def _unpack(packed: bytes) -> HostImages:
    return HostImages(*pickle.loads(packed))


def gather_hosts(
    config: BuildConfig,
    source: Source,
    training: Sequence[Survey],
    forbidden: frozenset[bytes],
    jobs: int,
) -> HostImages:
    """List the hosts that a configuration asks for; none where no step needs any.

    `training` is what was found of the source's training images, in their order; `jobs` threads
    read frames.

    Raises
    ------
    NoiseError
        Frames without targets are asked for, and there are none.
    DatasetError
        One of them has pixels that are `forbidden`, those of a test image, or the name of another.
    """
    steps = [step for step in config.negatives.recipe.inner() if isinstance(step, Transplant)]
    kinds = {kind for step in steps for kind in as_tuple(step.hosts)}
    labelled = training_hosts(source) if "training" in kinds else {}
    digest = sha256(b"".join(found.digest for found in training)) if labelled else ""
    frames: dict[str, Load] = {}
    hashed = None
    given = config.noise.frames if config.noise else ()
    if "noise" in kinds and config.simulate is not None and config.noise and not given:
        frames = simulated_hosts(source)
    elif "noise" in kinds:
        files = find_hosts(given)
        pool = Pool(jobs, "threads")
        digests = list(pool.map(lambda file: pixel_digest(read_frame(file)), files.values()))
        for (name, file), pixels in zip(files.items(), digests, strict=True):
            if pixels in forbidden:
                raise DatasetError(
                    file, "is a test image of the data set; nothing may come from it"
                )
            if name in labelled:
                raise DatasetError(file, "has the name of a training image; rename it")
        pairs = zip(files, digests, strict=True)
        hashed = sha256("".join(f"{name} {pixels.hex()}\n" for name, pixels in pairs).encode())
        frames = frame_hosts(files)
    return HostImages(labelled | frames, tuple(labelled), tuple(frames), hashed, digest)


def training_hosts(source: Source) -> dict[str, Load]:
    """The training images of a source, by id."""
    return {pair.id: partial(_load_pair, pair) for pair in source.splits["train"]}


def simulated_hosts(source: Source) -> dict[str, Load]:
    """The target-free frames of a simulated source, by name."""
    return {frame.name: frame.load for frame in source.noise_frames}


def frame_hosts(files: Mapping[str, Path]) -> dict[str, Load]:
    """Frames without targets in files, by name."""
    return {name: partial(_load_frame, file) for name, file in files.items()}


def find_hosts(paths: Sequence[Path]) -> dict[str, Path]:
    """The frames of all noise sources, by their names below the folders that were given."""
    files: dict[str, Path] = {}
    for path in paths:
        if path.suffix == ".npz":
            continue
        base = path if path.is_dir() else path.parent
        for file in find_frames([path]):
            name = file.relative_to(base).as_posix()
            if name in files:
                raise DatasetError(file, f"is called {name} as {files[name]} is; rename one")
            # Workers on other machines have other working directories.
            files[name] = file.absolute()
    if not files:
        raise NoiseError(
            "transplant.hosts: noise asks for frames without targets; give them with --noise, or "
            "take it out"
        )
    return files


def _load_pair(pair: Pair) -> tuple[Frame, Mask]:
    loaded = pair.load()
    return loaded.image, loaded.mask


def _load_frame(file: Path) -> tuple[Frame, None]:
    return read_frame(file), None
