"""Where labelled images come from: a data set on disk, or the simulator.

Both give the build the same thing, a small `Pair` per image that any worker can load.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from threading import Lock
from typing import Protocol

import cv2
import numpy as np

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


@dataclass(frozen=True, slots=True)
class PairFiles:
    """The files of one pair as they go into a data set: bytes and suffix of each."""

    image: bytes
    image_suffix: str
    mask: bytes
    mask_suffix: str


@dataclass(frozen=True, slots=True)
class LoadedPair:
    """A pair decoded, beside its files.

    A mask's file is the source's own where that holds nothing but 0 and 255, else the mask
    written anew.
    """

    files: PairFiles
    image: Frame
    mask: Mask
    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class Survey:
    """What the plan needs to know of a pair.

    `digest` is of the files, `pixels` (of the image's DN, where they were decoded) tells equal
    images apart from equal files.
    """

    source: Outline
    digest: bytes
    pixels: bytes | None


class Pair(Protocol):
    """One labelled image, wherever it is from."""

    @property
    def id(self) -> str:
        """Its id."""

    def survey(self, held_out: bool) -> Survey:
        """Look at the pair; the pixels of a held-out image are decoded too."""

    def files(self) -> PairFiles:
        """Its files as they are written: those of the source where any reader reads them right.

        Else the image is a grey PNG of its pixels, and the mask a PNG of 0 and 255.
        """

    def load(self) -> LoadedPair:
        """Its image and mask as arrays, and its files."""


# Bytes of pairs that a build keeps: eight hundred of 256 x 256 pixels and 8 bits.
_KEPT_BYTES = 1 << 27


class _Kept:
    """Pairs that were decoded to be looked at, until they are made into outputs.

    It keeps the first ones, as they come back in the same order. Nothing of it goes along to
    another process.
    """

    def __init__(self, room: int = 0) -> None:
        self._room = room
        self._pairs: dict[str, LoadedPair] = {}
        self._lock = Lock()

    def __reduce__(self) -> tuple[type[_Kept], tuple[()]]:
        return _Kept, ()

    @property
    def full(self) -> bool:
        return self._room <= 0

    def put(self, id_: str, pair: LoadedPair) -> None:
        with self._lock:
            if not self.full and id_ not in self._pairs:
                self._pairs[id_] = pair
                self._room -= _nbytes(pair)

    def get(self, id_: str) -> LoadedPair | None:
        return self._pairs.get(id_)

    def take(self, id_: str) -> LoadedPair | None:
        return self._pairs.pop(id_, None)


def _nbytes(pair: LoadedPair) -> int:
    files = len(pair.files.image) + len(pair.files.mask)
    return pair.image.nbytes + pair.mask.nbytes + files


@dataclass(frozen=True, slots=True)
class FilePair:
    """A pair of files of a data set.

    `kept` is where all pairs of the set are kept once they are decoded.
    """

    id: str
    image: ImageFile
    mask: MaskFile
    kept: _Kept = field(default_factory=_Kept, repr=False, compare=False)

    def survey(self, held_out: bool) -> Survey:
        """See `Pair`. Damage to the container is found here, before anything is built."""
        files = self._read()
        targets: tuple[Target, ...] = ()
        pixels = None
        if held_out:
            image = decode_frame(files.image, self.image.path)
            shape, pixels = (image.shape[0], image.shape[1]), pixel_digest(image)
            require_same_size(self.mask.path, self._mask(files).shape, shape)
        elif self.kept.full:
            mask = self._mask(files)
            shape = frame_shape(files.image, self.image.path)
            require_same_size(self.mask.path, mask.shape, shape)
            targets = tuple(find_targets(mask))
        else:
            pair = self._decode(files)
            self.kept.put(self.id, pair)
            shape, targets = pair.mask.shape, pair.targets
        digest = hashlib.sha256(hashlib.sha256(files.image).digest())
        digest.update(hashlib.sha256(files.mask).digest())
        return Survey(Outline(self.id, shape, targets), digest.digest(), pixels)

    def files(self) -> PairFiles:
        """See `Pair`."""
        files = self._read()
        return self._as_written(files, self._mask(files))

    def load(self) -> LoadedPair:
        """See `Pair`."""
        kept = self.kept.take(self.id)
        return kept if kept is not None else self._decode(self._read())

    def _read(self) -> PairFiles:
        return PairFiles(
            self.image.read(), self.image.path.suffix, self.mask.read(), self.mask.path.suffix
        )

    def _mask(self, files: PairFiles) -> Mask:
        return self.mask.decode(files.mask)

    def _as_written(self, files: PairFiles, mask: Mask) -> PairFiles:
        image, suffix = plain_file(files.image, f"{self.image.path}")
        if self.mask.is_standard(files.mask, mask):
            return replace(files, image=image, image_suffix=suffix)
        return PairFiles(image, suffix, encode_png(mask), ".png")

    def _decode(self, files: PairFiles) -> LoadedPair:
        image = decode_frame(files.image, self.image.path)
        mask = self._mask(files)
        require_same_size(self.mask.path, mask.shape, image.shape)
        return LoadedPair(self._as_written(files, mask), image, mask, tuple(find_targets(mask)))


@dataclass(frozen=True, slots=True)
class SimulatedPair:
    """A pair that the simulator makes, always the same for the same settings, seed and id."""

    id: str
    settings: SimulationSettings
    seed: int

    def survey(self, held_out: bool) -> Survey:
        """See `Pair`."""
        frame = _simulate(self.settings, self.seed, self.id, True)
        height, width = frame.mask.shape
        targets = () if held_out else tuple(find_targets(frame.mask))
        pixels = pixel_digest(frame.image)
        digest = hashlib.sha256(pixels + hashlib.sha256(frame.mask.tobytes()).digest()).digest()
        return Survey(
            Outline(self.id, (height, width), targets), digest, pixels if held_out else None
        )

    def files(self) -> PairFiles:
        """See `Pair`."""
        return self.load().files

    def load(self) -> LoadedPair:
        """See `Pair`."""
        frame = _simulate(self.settings, self.seed, self.id, True)
        files = PairFiles(encode_png(frame.image), ".png", encode_png(frame.mask), ".png")
        return LoadedPair(files, frame.image, frame.mask, tuple(find_targets(frame.mask)))


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
    kept = _Kept(_KEPT_BYTES)
    splits: dict[str, tuple[Pair, ...]] = {
        split: tuple(
            FilePair(id_, dataset.image_file(id_), dataset.mask_file(id_), kept) for id_ in ids
        )
        for split, ids in dataset.splits.items()
    }

    def wrap(id_: str) -> NoiseFrame:
        def load() -> tuple[Frame, Mask]:
            pair = kept.get(id_)
            frame, mask = (pair.image, pair.mask) if pair else dataset.read_pair(id_)
            return frame, _grown(mask)

        return NoiseFrame(id_, load)

    return Source(dataset.name, splits, tuple(wrap(id_) for id_ in dataset.ids("train")))


def simulated_source(settings: SimulationSettings, seed: int) -> Source:
    """The pairs of a simulated data set, ids ``000001`` and on, training first."""
    ids = [f"{number:06d}" for number in range(1, settings.train + settings.test + 1)]
    pairs = [SimulatedPair(id_, settings, seed) for id_ in ids]

    def wrap(number: int) -> NoiseFrame:
        name = f"noise/{number:04d}"
        return NoiseFrame(name, partial(_noise_of, settings, seed, name))

    return Source(
        "simulated",
        {"train": tuple(pairs[: settings.train]), "test": tuple(pairs[settings.train :])},
        tuple(wrap(number) for number in range(1, settings.noise_frames + 1)),
    )


def _noise_of(settings: SimulationSettings, seed: int, name: str) -> tuple[Frame, None]:
    return _simulate(settings, seed, name, False).image, None


def pixel_digest(image: Frame) -> bytes:
    """SHA-256 of an image's depth, size and DN, whatever file format it came in."""
    digest = hashlib.sha256(f"{image.dtype} {image.shape}".encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.digest()


def _grown(mask: Mask, pixels: int = 2) -> Mask:
    """A target's blur reaches beyond its label; noise is sampled clear of it."""
    kernel = np.ones((2 * pixels + 1, 2 * pixels + 1), np.uint8)
    return cv2.dilate(mask.view(np.uint8), kernel).view(np.bool_)


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
    height, width = settings.shape
    if height * width > _KEPT_PIXELS:
        return _simulate_anew(settings, seed, name, labelled)
    return _simulate_once(settings, seed, name, labelled)


def _simulate_anew(
    settings: SimulationSettings, seed: int, name: str, labelled: bool
) -> SimulatedFrame:
    rng = generator(seed, "frame", name)
    kind = settings.kinds[int(rng.integers(len(settings.kinds)))]
    return simulate_frame(
        kind,
        _camera(settings, seed),
        rng,
        targets=settings.targets if labelled else (0, 0),
        scr=settings.scr,
    )


_simulate_once = lru_cache(maxsize=256)(_simulate_anew)
