"""Where labelled images come from: a data set on disk, or the simulator.

Both give the build the same thing, a small `Pair` per image that any worker can load.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from threading import Lock
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.build.config import SimulationSettings
from synth.dataset import Dataset, require_same_size
from synth.disk.png import encode_png
from synth.frames import Frame, ImageFile, Mask, decode_frame, frame_shape, plain_file
from synth.masks import MaskFile
from synth.noise.sampling import NoiseFrame
from synth.scene import Outline
from synth.seeds import generator
from synth.simulate.scenes import SimulatedFrame, simulate_frame
from synth.simulate.sensor import Sensor, make_sensor
from synth.targets import Target, find_targets

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class PairFiles:
    """The files of one pair as they go into a data set: bytes and suffix of each."""

    image: bytes
    image_suffix: str
    mask: bytes
    mask_suffix: str


@dataclass(frozen=True, slots=True)
class LoadedPair:
    """A pair decoded, beside its files as they are written; `packed` are the bits of its mask."""

    files: PairFiles
    image: Frame
    packed: NDArray[np.uint8]
    targets: tuple[Target, ...]

    @property
    def mask(self) -> Mask:
        """The mask, (H, W)."""
        return np.unpackbits(self.packed, axis=1, count=self.image.shape[1]).view(np.bool_)

    @property
    def nbytes(self) -> int:
        """Bytes of it in memory."""
        files = len(self.files.image) + len(self.files.mask)
        return self.image.nbytes + self.packed.nbytes + files


def _pack(files: PairFiles, image: Frame, mask: Mask, targets: Sequence[Target]) -> LoadedPair:
    return LoadedPair(files, image, np.packbits(mask, axis=1), tuple(targets))


@dataclass(frozen=True, slots=True)
class Survey:
    """What the plan needs to know of a pair.

    `digest` is of the files, `pixels` (of the image's DN, where they were decoded) tells equal
    images apart from equal files.
    """

    source: Outline
    digest: bytes
    pixels: bytes | None


# Bytes of pairs, or of hosts, that a process keeps: a thousand of 256 x 256 pixels and 8 bits.
KEPT_BYTES = 1 << 27


class Kept(dict[str, Value]):
    """What was loaded first, as far as there is room; nothing of it goes along to other processes.

    A build looks at all pairs before it makes outputs of them in the same order, so those that are
    kept until then are the first ones.
    """

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self._lock = Lock()

    def __reduce__(self) -> tuple[type[Kept[Value]], tuple[int]]:
        return Kept, (0,)

    def put(self, name: str, value: Value, nbytes: int) -> None:
        """Keep a value of so many bytes, if there is room."""
        with self._lock:
            if self.room > 0 and name not in self:
                self[name] = value
                self.room -= nbytes


@dataclass(frozen=True, slots=True)
class FilePair:
    """A pair of files of a data set.

    `kept` is where all pairs of the set are kept once they are decoded.
    """

    id: str
    image: ImageFile
    mask: MaskFile
    kept: Kept[LoadedPair] = field(repr=False, compare=False)

    def survey(self, held_out: bool) -> Survey:
        """Look at the pair; the pixels of a held-out image are decoded too.

        Damage to the container is found here, before anything is built.
        """
        data, mask_data = self.image.read(), self.mask.read()
        path, image, pixels = self.image.path, None, None
        if held_out or self.kept.room > 0:
            image = decode_frame(data, path)
        mask = self.mask.decode(mask_data)
        shape = frame_shape(data, path) if image is None else image.shape
        require_same_size(self.mask.path, mask.shape, shape)
        targets = () if held_out else find_targets(mask)
        if held_out and image is not None:
            pixels = pixel_digest(image)
        elif image is not None:
            pair = _pack(self._as_written(data, mask_data, mask), image, mask, targets)
            self.kept.put(self.id, pair, pair.nbytes)
        digests = hashlib.sha256(data).digest() + hashlib.sha256(mask_data).digest()
        outline = Outline(self.id, mask.shape, tuple(targets))
        return Survey(outline, hashlib.sha256(digests).digest(), pixels)

    def files(self) -> PairFiles:
        """Its files as they are written: those of the source where any reader reads them right.

        Else the image is a grey PNG of its pixels, and the mask a PNG of 0 and 255.
        """
        data, mask_data = self.image.read(), self.mask.read()
        return self._as_written(data, mask_data, self.mask.decode(mask_data))

    def load(self) -> LoadedPair:
        """Its image and mask as arrays, and its files."""
        kept = self.kept.pop(self.id, None)
        if kept is not None:
            return kept
        data, mask_data = self.image.read(), self.mask.read()
        image, mask = decode_frame(data, self.image.path), self.mask.decode(mask_data)
        require_same_size(self.mask.path, mask.shape, image.shape)
        files = self._as_written(data, mask_data, mask)
        return _pack(files, image, mask, find_targets(mask))

    def _as_written(self, data: bytes, mask_data: bytes, mask: Mask) -> PairFiles:
        image, suffix = plain_file(data, self.image.path)
        if self.mask.is_standard(mask_data, mask):
            return PairFiles(image, suffix, mask_data, self.mask.path.suffix)
        return PairFiles(image, suffix, encode_png(mask), ".png")


@dataclass(frozen=True, slots=True)
class SimulatedPair:
    """A pair that the simulator makes, always the same for the same settings, seed and id."""

    id: str
    settings: SimulationSettings
    seed: int

    def survey(self, held_out: bool) -> Survey:
        """See `FilePair`."""
        frame = _simulate(self.settings, self.seed, self.id, True)
        targets = () if held_out else tuple(find_targets(frame.mask))
        pixels = pixel_digest(frame.image)
        digest = hashlib.sha256(pixels + hashlib.sha256(frame.mask.tobytes()).digest()).digest()
        outline = Outline(self.id, frame.mask.shape, targets)
        return Survey(outline, digest, pixels if held_out else None)

    def files(self) -> PairFiles:
        """See `FilePair`."""
        return self.load().files

    def load(self) -> LoadedPair:
        """See `FilePair`."""
        frame = _simulate(self.settings, self.seed, self.id, True)
        files = PairFiles(encode_png(frame.image), ".png", encode_png(frame.mask), ".png")
        return _pack(files, frame.image, frame.mask, find_targets(frame.mask))


Pair = FilePair | SimulatedPair
"""One labelled image, wherever it is from."""


@dataclass(frozen=True)
class Source:
    """All pairs of a source, by split.

    `noise_frames` are frames to sample noise from when the user names none: the training images
    without the surroundings of their targets, or target-free frames of the simulated camera.
    """

    name: str
    splits: Mapping[str, tuple[Pair, ...]]
    noise_frames: tuple[NoiseFrame, ...]


def dataset_source(dataset: Dataset) -> Source:
    """The pairs of a data set on disk."""
    kept = Kept[LoadedPair](KEPT_BYTES)
    splits: dict[str, tuple[Pair, ...]] = {
        split: tuple(
            FilePair(id_, dataset.image_file(id_), dataset.mask_file(id_), kept) for id_ in ids
        )
        for split, ids in dataset.splits.items()
    }

    def load(id_: str) -> tuple[Frame, Mask]:
        pair = kept.get(id_)
        frame, mask = (pair.image, pair.mask) if pair else dataset.read_pair(id_)
        # A target's blur reaches two pixels beyond its label; noise is sampled clear of it.
        return frame, cv2.dilate(mask.view(np.uint8), np.ones((5, 5), np.uint8)).view(np.bool_)

    frames = tuple(NoiseFrame(id_, partial(load, id_)) for id_ in dataset.ids("train"))
    return Source(dataset.name, splits, frames)


def simulated_source(settings: SimulationSettings, seed: int) -> Source:
    """The pairs of a simulated data set, ids ``000001`` and on, training first."""
    numbers = range(1, settings.train + settings.test + 1)
    pairs = tuple(SimulatedPair(f"{number:06d}", settings, seed) for number in numbers)
    names = [f"noise/{number:04d}" for number in range(1, settings.noise_frames + 1)]
    return Source(
        "simulated",
        {"train": pairs[: settings.train], "test": pairs[settings.train :]},
        tuple(NoiseFrame(name, partial(_simulate_noise, settings, seed, name)) for name in names),
    )


def _simulate_noise(settings: SimulationSettings, seed: int, name: str) -> tuple[Frame, None]:
    return _simulate(settings, seed, name, False).image, None


def pixel_digest(image: Frame) -> bytes:
    """SHA-256 of an image's depth, size and DN, whatever file format it came in."""
    digest = hashlib.sha256(f"{image.dtype} {image.shape}".encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.digest()


# 256 frames of so many pixels with their masks are at most 50 MB.
_KEPT_PIXELS = 1 << 16


@lru_cache(maxsize=8)
def _camera(settings: SimulationSettings, seed: int) -> Sensor:
    return make_sensor(
        settings.shape,
        generator(seed, "sensor"),
        bits=settings.bits,
        **settings.sensor.model_dump(),
    )


def _simulate(settings: SimulationSettings, seed: int, name: str, labelled: bool) -> SimulatedFrame:
    # A build looks at every pair twice, to plan and to make. Small ones are kept meanwhile.
    small = settings.shape[0] * settings.shape[1] <= _KEPT_PIXELS
    simulate = _simulate_once if small else _simulate_once.__wrapped__
    return simulate(settings, seed, name, labelled)


@lru_cache(maxsize=256)
def _simulate_once(
    settings: SimulationSettings, seed: int, name: str, labelled: bool
) -> SimulatedFrame:
    rng = generator(seed, "frame", name)
    kind = settings.kinds[int(rng.integers(len(settings.kinds)))]
    targets = settings.targets if labelled else (0, 0)
    return simulate_frame(kind, _camera(settings, seed), rng, targets=targets, scr=settings.scr)
