"""The images that targets of other images are put into: training images, and frames without any."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from threading import Lock
from typing import Protocol

import numpy as np

from pipelines.build.config import BuildConfig
from pipelines.build.parallel import Pool
from pipelines.build.sources import Pair, Source, Survey, pixel_digest
from synth.disk.files import sha256
from synth.disk.folders import find_frames
from synth.errors import DatasetError, NoiseError, RecipeError
from synth.frames import Frame, Mask, read_frame
from synth.noise.sampling import NoiseFrame
from synth.steps import Hosts, Transplant
from synth.steps.base import as_tuple

# Bytes of hosts that a process keeps: a thousand images of 256 x 256 pixels and 8 bits.
_KEPT = 1 << 27


class Host(Hashable, Protocol):
    """One image, wherever it is from; equal ones have the same pixels."""

    def load(self) -> tuple[Frame, Mask]:
        """Image and mask; not to be written to."""


@dataclass(frozen=True, slots=True)
class PairHost:
    """A training image, and the hash of its files as they were looked at."""

    pair: Pair
    digest: bytes

    def load(self) -> tuple[Frame, Mask]:
        """See `Host`."""
        loaded = self.pair.load()
        return loaded.image, loaded.mask


@dataclass(frozen=True, slots=True)
class FrameHost:
    """A frame without targets, in a file, and the hash of its pixels."""

    path: Path
    pixels: bytes

    def load(self) -> tuple[Frame, Mask]:
        """See `Host`."""
        frame = read_frame(self.path)
        return frame, np.zeros(frame.shape, np.bool_)


@dataclass(frozen=True, slots=True)
class SimulatedHost:
    """A frame without targets that the simulator makes."""

    frame: NoiseFrame

    def load(self) -> tuple[Frame, Mask]:
        """See `Host`."""
        image, _ = self.frame.load()
        return image, np.zeros(image.shape, np.bool_)


@dataclass(frozen=True)
class HostImages:
    """All hosts of a build; see `synth.steps.transplant.Hosts`.

    Attributes
    ----------
    images : mapping of str to Host
        By name.
    labelled, empty : tuple of str
        Names of training images, and of frames without targets.
    sha256 : str or None
        One hash over the pixels of the frames without targets, and their names.
    """

    images: Mapping[str, Host] = field(default_factory=dict)
    labelled: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()
    sha256: str | None = None

    def __reduce__(self) -> tuple[Callable[[bytes], HostImages], tuple[bytes]]:
        # Every task of a process takes them along: packed once here, and unpacked once there.
        return _unpack, (self._packed,)

    @cached_property
    def _packed(self) -> bytes:
        return pickle.dumps((dict(self.images), self.labelled, self.empty, self.sha256))

    def loaded(self) -> Hosts:
        """The hosts as a recipe needs them."""

        def load(name: str) -> tuple[Frame, Mask]:
            if name not in self.images:
                raise RecipeError(f"host {name} is not there")
            return load_host(self.images[name])

        return Hosts(load, self.labelled, self.empty)


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

    Parameters
    ----------
    config : BuildConfig
    source : Source
    training : sequence of Survey
        What was found of its training images, in their order.
    forbidden : frozenset of bytes
        Pixel hashes of the test images; a frame among them is refused.
    jobs : int
        Threads that read frames.

    Raises
    ------
    NoiseError
        Frames without targets are asked for, and there are none.
    DatasetError
        One of them is a test image, or two have the same name.
    """
    steps = [step for step in config.negatives.recipe.inner() if isinstance(step, Transplant)]
    kinds = {kind for step in steps for kind in as_tuple(step.hosts)}
    images: dict[str, Host] = {}
    if "training" in kinds:
        images |= training_hosts(source, training)
    labelled = tuple(images)
    if "noise" not in kinds:
        return HostImages(images, labelled)
    if config.simulate is not None and config.noise and not config.noise.frames:
        frames = simulated_hosts(source)
        return HostImages(images | frames, labelled, tuple(frames))
    files = frame_hosts(config.noise.frames if config.noise else (), jobs)
    lines = []
    for name, host in files.items():
        if host.pixels in forbidden:
            raise DatasetError(
                host.path, "is a test image of the data set; nothing may come from it"
            )
        if name in images:
            raise DatasetError(host.path, "has the name of a training image; rename it")
        images[name] = host
        lines.append(f"{name} {host.pixels.hex()}\n")
    return HostImages(images, labelled, tuple(files), sha256("".join(lines).encode()))


def training_hosts(source: Source, training: Sequence[Survey]) -> dict[str, Host]:
    """The training images of a source, by id, with what was found of each in their order."""
    pairs = zip(source.splits["train"], training, strict=True)
    return {pair.id: PairHost(pair, found.digest) for pair, found in pairs}


def simulated_hosts(source: Source) -> dict[str, Host]:
    """The target-free frames of a simulated source, by name."""
    return {frame.name: SimulatedHost(frame) for frame in source.noise_frames}


def frame_hosts(paths: Sequence[Path], jobs: int) -> dict[str, FrameHost]:
    """The frames below some folders, by name, read by so many threads."""
    files = _find_files(paths)
    digests = Pool(jobs, "threads").map(_hash_frame, files.values())
    found = zip(files.items(), digests, strict=True)
    return {name: FrameHost(file, pixels) for (name, file), pixels in found}


def load_host(host: Host) -> tuple[Frame, Mask]:
    """Load a host, or give what was loaded before; not to be written to."""
    return _kept.get(host)


class _Kept:
    """What was loaded last, as far as there is room for it."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._size = 0
        self._loaded: OrderedDict[Host, tuple[Frame, Mask]] = OrderedDict()
        self._lock = Lock()

    def get(self, host: Host) -> tuple[Frame, Mask]:
        with self._lock:
            if host in self._loaded:
                self._loaded.move_to_end(host)
                return self._loaded[host]
        image, mask = host.load()
        with self._lock:
            # Another thread may have loaded it meanwhile.
            if host not in self._loaded:
                self._loaded[host] = image, mask
                self._size += image.nbytes + mask.nbytes
            while self._size > self._most:
                _, (old, old_mask) = self._loaded.popitem(last=False)
                self._size -= old.nbytes + old_mask.nbytes
        return image, mask


_kept = _Kept(_KEPT)


def _hash_frame(file: Path) -> bytes:
    return pixel_digest(read_frame(file))


def _find_files(paths: Sequence[Path]) -> dict[str, Path]:
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
