"""What the runs of a study start from: the same labelled images for every arm, and nothing else.

Every seed holds a validation part out of the whole training split, and every fraction is a part of
what is left, the smaller ones within the larger ones. A run's images lie in a folder of their own,
as links, in the layout of a data set; what is built for the run is built from that folder, so it
cannot be made from an image that is not the run's. Images are told apart by their pixels: a copy of
an image that judges is no more trained on than the image itself.
"""

from __future__ import annotations

import glob
import os
import platform
import shutil
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from detect.lineage import read_origins
from pipelines.build.parallel import Pool
from pipelines.build.sources import pixel_digest
from pipelines.errors import ConfigError
from pipelines.study_config import TEST_SEED
from synth.dataset import Dataset, is_labelled, open_dataset
from synth.disk.description import IMAGES, MASKS, SHARDS, is_sharded
from synth.disk.files import alone_in, sha256
from synth.disk.folders import find_frames, group_by_folder
from synth.errors import DatasetError
from synth.frames import read_bytes, read_frame
from synth.inspect.splits import (
    Groups,
    find_overlaps,
    group_by_likeness,
    group_by_name,
    names_tell,
    scene_signature,
    split_groups,
)
from synth.seeds import generator


@dataclass(frozen=True)
class Labelled:
    """A labelled set with what tells its images apart.

    Attributes
    ----------
    dataset : Dataset
    originals : tuple of str
        Ids of the training split, without what `synth build` has made.
    pixels : mapping of str to bytes
        Hash of each image's DN: of originals, and of the lists ``val`` and ``test``.
    masks : mapping of str to str
        Hash of each mask's file.
    """

    dataset: Dataset
    originals: tuple[str, ...]
    pixels: Mapping[str, bytes]
    masks: Mapping[str, str]

    def pixels_of(self, ids: Sequence[str]) -> set[bytes]:
        """Hashes of some images."""
        return {self.pixels[id_] for id_ in ids}

    def fingerprint(self, parts: Parts) -> str:
        """One hash over everything that a run learns from or is watched with."""
        lines = [
            f"{name} {id_} {self.pixels[id_].hex()} {self.masks[id_]}\n"
            for name, ids in (("train", parts.train), ("val", parts.validation))
            for id_ in ids
        ]
        return sha256("".join(lines).encode())


@dataclass(frozen=True)
class Parts:
    """The images of one seed and fraction, the same for every arm.

    Attributes
    ----------
    train, validation : tuple of str
        Ids, in the order of the set's lists.
    rest : tuple of str
        What the fraction leaves of the training part.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    rest: tuple[str, ...] = ()

    @property
    def whole(self) -> int:
        """How many images the training part has at the fraction 1."""
        return len(self.train) + len(self.rest)


def open_labelled(path: Path, pool: Pool) -> Labelled:
    """Open a labelled set and look at all of its images.

    Raises
    ------
    DatasetError
        The set is unsound or in shards, or a training image has the pixels of a test image.
    """
    _require_loose(path)
    dataset = open_dataset(path)
    origins = read_origins(dataset)
    originals = tuple(
        id_ for id_ in dataset.ids("train") if id_ not in origins or not origins[id_].made
    )
    ids = (*originals, *dataset.splits.get("val", ()), *dataset.ids("test"))

    def look(id_: str) -> tuple[bytes, str]:
        mask = sha256(dataset.mask_file(id_).read())
        return pixel_digest(dataset.read_image(id_)), mask

    looks = dict(zip(ids, pool.map(look, ids), strict=True))
    pixels = {id_: found for id_, (found, _) in looks.items()}
    test = {pixels[id_]: id_ for id_ in dataset.ids("test")}
    for id_ in (*originals, *dataset.splits.get("val", ())):
        if pixels[id_] in test:
            raise DatasetError(
                dataset.image_path(id_),
                f"has the same pixels as the test image {test[pixels[id_]]!r}; take it off one "
                "of the lists",
            )
    return Labelled(dataset, originals, pixels, {id_: mask for id_, (_, mask) in looks.items()})


def choose_parts(labelled: Labelled, validation: float, fraction: float, seed: int) -> Parts:
    """Choose the validation part and a fraction of the rest.

    Parameters
    ----------
    labelled : Labelled
    validation : float
        Share of the training split that is held out where the set has no ``val`` list.
    fraction : float
        Of what is left, at least one image.
    seed : int

    Returns
    -------
    Parts
        The same for the same seed; of two fractions the smaller one is part of the larger one.

    Raises
    ------
    DatasetError
        The training split is too small to hold something out.
    """
    dataset, ids = labelled.dataset, labelled.originals
    held = dataset.splits.get("val", ())
    if not held:
        count = share_of(validation, len(ids))
        order = generator(seed, "study", "validation").permutation(len(ids))
        held = tuple(ids[at] for at in sorted(order[:count]))
    judging = labelled.pixels_of(held)
    rest = [id_ for id_ in ids if labelled.pixels[id_] not in judging]
    if not rest:
        raise DatasetError(
            dataset.root,
            f"its training split of {len(ids)} original image(s) is too small to hold some out",
        )
    order = generator(seed, "study", "fraction").permutation(len(rest))
    count = share_of(fraction, len(rest))
    chosen, left = (tuple(rest[at] for at in sorted(part)) for part in np.split(order, [count]))
    return Parts(chosen, held, left)


def share_of(share: float, images: int) -> int:
    """Return how many images a share of a list is: at least one."""
    return max(1, round(share * images))


def link_set(place: Path, dataset: Dataset, parts: Parts) -> None:
    """Make a folder that is a data set of the run's images and the test images, as links."""
    lists = {"train": parts.train, "val": parts.validation, "test": dataset.ids("test")}
    files = {}
    for id_ in (id_ for ids in lists.values() for id_ in ids):
        for folder, path in (
            (IMAGES, dataset.image_path(id_)),
            (MASKS, dataset.mask_path(id_)),
        ):
            files[f"{folder}/{id_}{path.suffix}"] = path
    texts = {f"50_50/{name}.txt": "".join(f"{i}\n" for i in ids) for name, ids in lists.items()}
    _link(place, files, texts)


@dataclass(frozen=True)
class NoiseSource:
    """Frames, or a file of noise, that the sets of a study may be built with.

    Attributes
    ----------
    path : Path
        As it was given.
    frames : mapping of Path to bytes
        Frames with the hashes of their pixels; empty for a ``.npz`` file.
    base : Path
        The folder that the frames lie below.
    labelled : bool
        Whether they are training images of a labelled set, with targets in them.
    """

    path: Path
    frames: Mapping[Path, bytes]
    base: Path
    labelled: bool = False

    def fingerprint(self, without: Set[bytes] = frozenset()) -> str:
        """One hash over the noise."""
        if not self.frames:
            return sha256(read_bytes(self.path))
        lines = [
            f"{file.relative_to(self.base).as_posix()} {pixels.hex()}\n"
            for file, pixels in self.frames.items()
            if pixels not in without
        ]
        return sha256("".join(lines).encode())


def open_noise(path: Path, forbidden: Mapping[bytes, str], pool: Pool) -> NoiseSource:
    """Look at noise frames; of a labelled set only the training images are used, without labels.

    Parameters
    ----------
    path : Path
        A ``.npz`` file, a frame, a folder of frames, or a labelled set.
    forbidden : mapping of bytes to str
        Pixel hashes of test images, and what they are called.
    pool : Pool

    Raises
    ------
    DatasetError
        One of the frames is a test image, or the set is in shards.
    """
    if path.suffix == ".npz":
        read_bytes(path)
        return NoiseSource(path, {}, path.parent)
    labelled = is_labelled(path)
    if labelled:
        _require_loose(path)
        dataset = open_dataset(path)
        files = [dataset.image_path(id_) for id_ in dataset.ids("train")]
        base = Path(os.path.commonpath([file.parent for file in files])) if files else path
    else:
        files = find_frames([path])
        base = path if path.is_dir() else path.parent
    digests = pool.map(lambda file: pixel_digest(read_frame(file)), files)
    frames = dict(zip(files, digests, strict=True))
    for file, pixels in frames.items():
        if pixels in forbidden:
            raise DatasetError(
                file, f"is a test image ({forbidden[pixels]}); noise may not come from it"
            )
    return NoiseSource(path, frames, base, labelled)


def divide_noise(
    sources: Sequence[NoiseSource], pool: Pool
) -> tuple[list[NoiseSource], list[NoiseSource]]:
    """Divide frames between training noise and test noise, recording by recording.

    Every camera, which is a folder of frames, gives about half of its frames to either side. Frames
    are of one recording as in ``synth split``: where names tell recordings apart, by name, else by
    likeness. Copies are of one recording, and so are frames that show parts of one scene, as a
    camera that pans takes them. The same frames are always divided alike.

    Parameters
    ----------
    sources : sequence of NoiseSource
        What one name stands for.
    pool : Pool

    Returns
    -------
    training, test : list of NoiseSource
        With the frames of that side alone, less those that have none.

    Raises
    ------
    ConfigError
        A source is a noise file, a camera has one recording, or a frame is there twice.
    """
    for source in sources:
        if not source.frames:
            raise ConfigError(
                f"{source.path}: is a noise file, whose frames are not known, so it cannot give "
                "noise both to train with and to test with; give the camera's frames instead, or "
                "test on another source"
            )
    pixels = {file: found for source in sources for file, found in source.frames.items()}
    test: set[Path] = set()
    for files in group_by_folder(list(pixels)):
        recordings = _recordings(files, pixels, pool)
        if len(recordings.members) < 2:
            raise ConfigError(
                f"{files[0].parent}: its {len(files)} frame(s) are one recording, which cannot "
                "give noise both to train with and to test with; give frames of more recordings, "
                "or do not test on this camera"
            )
        ids = split_groups(recordings, 0.5, seed=TEST_SEED)["test"]
        test |= {files[int(id_)] for id_ in ids}
    twice = {pixels[file] for file in pixels.keys() - test} & {pixels[file] for file in test}
    for file, found in pixels.items():
        if found in twice:
            raise ConfigError(
                f"{file}: is there twice, in two folders, and would give noise both to train with "
                "and to test with; remove one of the copies"
            )

    def side(of_test: bool) -> list[NoiseSource]:
        parts = [
            {file: found for file, found in source.frames.items() if (file in test) is of_test}
            for source in sources
        ]
        return [
            replace(source, frames=frames)
            for source, frames in zip(sources, parts, strict=True)
            if frames
        ]

    return side(False), side(True)


def _recordings(files: Sequence[Path], pixels: Mapping[Path, bytes], pool: Pool) -> Groups:
    """Group a camera's frames, by their numbers in `files`."""
    frames = list(pool.map(read_frame, files))
    names = [file.stem for file in files]
    if names_tell(names):
        members = group_by_name(set(names)).members.values()
        alike = [[n for n, name in enumerate(names) if name in one] for one in members]
    else:
        signatures = {str(n): scene_signature(frame) for n, frame in enumerate(frames)}
        alike = [[int(n) for n in one] for one in group_by_likeness(signatures).members.values()]
    copies: dict[bytes, list[int]] = {}
    for number, file in enumerate(files):
        copies.setdefault(pixels[file], []).append(number)
    pairs = find_overlaps(frames)
    pairs += [(one[0], other) for one in (*alike, *copies.values()) for other in one]
    first, second = np.array(pairs).T
    table = coo_array((np.ones(len(pairs), bool), (first, second)), shape=(len(files),) * 2)
    labels = connected_components(table, directed=False)[1]
    return Groups(
        "likeness",
        {str(label): tuple(map(str, np.flatnonzero(labels == label))) for label in set(labels)},
    )


def link_noise(place: Path, source: NoiseSource, without: Set[bytes]) -> Path:
    """Make a folder of links to noise frames, less those that judge; return what to build with.

    Raises
    ------
    ConfigError
        No frame is left.
    """
    if not source.frames:
        return source.path.resolve()
    files = {
        file.relative_to(source.base).as_posix(): file
        for file, pixels in source.frames.items()
        if pixels not in without
    }
    if not files:
        raise ConfigError(f"{source.path}: all of its frames judge the runs; give other frames")
    _link(place, files, {})
    return place.resolve()


def _require_loose(path: Path) -> None:
    if is_sharded(path):
        raise DatasetError(
            path,
            "is in shards, and a study links to files: make loose ones of it with `synth import "
            f"{path / SHARDS} --format webdataset`",
        )


def _link(place: Path, files: Mapping[str, Path], texts: Mapping[str, str]) -> None:
    """Make a folder of links and small files, or leave it where it is right already."""
    wanted = {name: os.path.realpath(file) for name, file in files.items()}
    if _holds(place, wanted, texts):
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    # Processes of one study may make it at a time, and the first one reads it by then.
    with alone_in(place.parent, wait=True):
        if not _holds(place, wanted, texts):
            _replace(place, wanted, texts)


def _replace(place: Path, wanted: Mapping[str, str], texts: Mapping[str, str]) -> None:
    ours = f".{place.name}.{platform.node()}."
    partial = place.with_name(f"{ours}{os.getpid()}.partial")
    for other in place.parent.glob(f"{glob.escape(ours)}*.partial"):
        if not _is_alive(other.name.removeprefix(ours).removesuffix(".partial")):
            shutil.rmtree(other, ignore_errors=True)
    shutil.rmtree(partial, ignore_errors=True)
    try:
        _fill(partial, wanted, texts)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise OSError(error.errno, error.strerror, str(place)) from None
    shutil.rmtree(place, ignore_errors=True)
    try:
        partial.rename(place)
    except OSError:
        # A process on another machine was quicker.
        shutil.rmtree(partial)
        if not _holds(place, wanted, texts):
            raise


def _is_alive(pid: str) -> bool:
    """Whether a process of this machine is, or may be, under way."""
    if not pid.isdecimal() or os.name != "posix":
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _fill(place: Path, links: Mapping[str, str], texts: Mapping[str, str]) -> None:
    for name, target in links.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.symlink_to(target)
        except OSError:
            # Some file systems have no links.
            shutil.copyfile(target, path)
    for name, text in texts.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _holds(place: Path, links: Mapping[str, str], texts: Mapping[str, str]) -> bool:
    try:
        return _is_made_of(place, links, texts)
    except OSError:
        # Another process is removing it.
        return False


def _is_made_of(place: Path, links: Mapping[str, str], texts: Mapping[str, str]) -> bool:
    if not place.is_dir():
        return False
    found = {
        path.relative_to(place).as_posix()
        for path in place.rglob("*")
        if path.is_symlink() or path.is_file()
    }
    return (
        found == links.keys() | texts.keys()
        and all(
            (place / name).is_symlink() and str((place / name).readlink()) == target
            for name, target in links.items()
        )
        and all((place / name).read_text(encoding="utf-8") == text for name, text in texts.items())
    )
