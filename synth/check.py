"""Is a labelled set sound? Every image and mask is decoded and held against the others."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import cv2
import numpy as np

from synth.dataset import Dataset
from synth.errors import FrameError
from synth.frames import binarise, decode_frame, decode_image, read_bytes, to_luma
from synth.targets import find_targets, measure_offsets

# Beyond this share of the image a target is no longer small (the SPIE convention, 0.12%, is for
# 256x256; public sets hold labels up to several times that).
_LARGE_SHARE = 0.01

# Masks that are drawn by hand lie off to all sides alike. A set has a habit where, of at least so
# many targets, this share more has its mask on the one side than on the other.
_FEWEST, _HABIT = 30, 0.2


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault: whether it is an error or a warning, and what to do about it."""

    name: str
    error: bool
    remedy: str


FAULTS = (
    Fault("unreadable file", True, "replace it, or take its id off the list"),
    Fault("mask of another size", True, "cut image and mask to one size"),
    Fault("equal image in train and test", True, "take it off one of the lists"),
    Fault("equal images in one split", False, "keep one of them"),
    Fault("image in no split", False, "add it to a list, or leave it out"),
    Fault("grey mask", False, "nothing: values above half, in {0, 1} masks 1, are taken as target"),
    Fault("mask without target", False, "nothing, if there is none"),
    Fault("target larger than small", False, f"more than {_LARGE_SHARE:.0%} of the image: look"),
    Fault(
        "masks beside their targets",
        False,
        "train with augment.keep_offset, make negatives with --keep-offset",
    ),
    Fault("colour image", False, "nothing: luma is taken where channels differ"),
    Fault("image with alpha", False, "nothing: alpha is dropped"),
    Fault("constant image", False, "replace it, or take its id off the list"),
)
_BY_NAME = {fault.name: fault for fault in FAULTS}


@dataclass(frozen=True, slots=True)
class PairFindings:
    """What was seen in one pair: (name of fault, words on it), targets, size, pixel hash.

    `offsets` are those of the masks of training targets, see `measure_offsets`.
    """

    id: str
    split: str
    faults: tuple[tuple[str, str], ...]
    targets: int
    shape: tuple[int, int] | None
    dtype: str | None
    pixels: bytes | None
    offsets: tuple[tuple[float, float], ...] = ()


@dataclass
class Report:
    """All that was found.

    Attributes
    ----------
    images, targets : dict of str to int
        Number by split.
    shapes, dtypes : dict of str to int
        Number of images of each size, as ``256x256``, and type.
    faults : dict of str to list of str
        Words on every case of each fault, by its name; see `FAULTS`.
    """

    images: dict[str, int] = field(default_factory=dict)
    targets: dict[str, int] = field(default_factory=dict)
    shapes: dict[str, int] = field(default_factory=dict)
    dtypes: dict[str, int] = field(default_factory=dict)
    faults: dict[str, list[str]] = field(default_factory=dict)

    @property
    def sound(self) -> bool:
        """Whether there is no error; warnings may be there."""
        return not any(_BY_NAME[name].error for name in self.faults)

    def add(self, fault: str, words: str) -> None:
        """Note one case of a fault."""
        self.faults.setdefault(fault, []).append(words)


def check_dataset(
    dataset: Dataset,
    run: Callable[
        [Callable[[tuple[str, str]], PairFindings], Iterable[tuple[str, str]]],
        Iterable[PairFindings],
    ] = map,
) -> Report:
    """Look at every pair of a data set.

    Parameters
    ----------
    dataset : Dataset
    run : callable
        A ``map`` that may work in parallel, in order.

    Returns
    -------
    Report
    """
    report = Report()
    work = [(split, id_) for split, ids in dataset.splits.items() for id_ in ids]
    listed = {id_ for _, id_ in work}
    for id_ in dataset.images:
        if id_ not in listed:
            report.add("image in no split", dataset.images[id_].name)
    seen: dict[bytes, tuple[str, str]] = {}
    offsets: list[tuple[float, float]] = []
    for found in run(lambda item: check_pair(dataset, *item), work):
        report.images[found.split] = report.images.get(found.split, 0) + 1
        report.targets[found.split] = report.targets.get(found.split, 0) + found.targets
        if found.shape is not None and found.dtype is not None:
            size = f"{found.shape[0]}x{found.shape[1]}"
            report.shapes[size] = report.shapes.get(size, 0) + 1
            report.dtypes[found.dtype] = report.dtypes.get(found.dtype, 0) + 1
        for fault, words in found.faults:
            report.add(fault, words)
        if found.pixels is not None:
            split, id_ = seen.setdefault(found.pixels, (found.split, found.id))
            if id_ != found.id:
                apart = "test" in (split, found.split) and split != found.split
                fault = "equal image in train and test" if apart else "equal images in one split"
                report.add(fault, f"{id_} ({split}) and {found.id} ({found.split})")
        offsets += found.offsets
    for words in _describe_habit(offsets):
        report.add("masks beside their targets", words)
    return report


def _describe_habit(offsets: list[tuple[float, float]]) -> Iterable[str]:
    """Say along which axis masks lie to one side of their targets more often than to the other."""
    if len(offsets) < _FEWEST:
        return
    for axis, (before, after) in enumerate((("top", "bottom"), ("left", "right"))):
        values = np.array(offsets)[:, axis]
        shares = {before: (values < -0.25).mean(), after: (values > 0.25).mean()}
        most = max(shares, key=lambda side: shares[side])
        least = after if most == before else before
        if shares[most] - shares[least] > _HABIT:
            yield (
                f"a quarter of a pixel or more to the {most} of {shares[most]:.0%}, "
                f"to the {least} of {shares[least]:.0%}"
            )


def check_pair(dataset: Dataset, split: str, id_: str) -> PairFindings:
    """Look at one pair: every fault that can be told from it alone."""
    faults: list[tuple[str, str]] = []
    targets = 0
    shape = dtype = pixels = None
    try:
        image_path, mask_path = dataset.image_path(id_), dataset.mask_path(id_)
        colour = decode_image(read_bytes(image_path), image_path)
        image = to_luma(colour)
        values = decode_frame(read_bytes(mask_path), mask_path)
    except FrameError as error:
        return PairFindings(id_, split, (("unreadable file", str(error)),), 0, None, None, None)
    shape, dtype = (image.shape[0], image.shape[1]), str(image.dtype)
    pixels = hashlib.sha256(f"{dtype} {shape}".encode() + image.tobytes()).digest()
    if colour.ndim == 3 and colour.shape[2] >= 3:
        if colour.shape[2] == 4:
            faults.append(("image with alpha", image_path.name))
        blue, green, red = cv2.split(colour)[:3]
        if cv2.norm(blue, green, cv2.NORM_INF) or cv2.norm(blue, red, cv2.NORM_INF):
            faults.append(("colour image", image_path.name))
    if image.min() == image.max():
        faults.append(("constant image", f"{image_path.name}, {int(image.min())} DN"))
    mask = binarise(values)
    levels = np.unique(values)
    if not set(levels.tolist()) <= {0, np.iinfo(values.dtype).max}:
        words = "0 and 1" if levels.max() == 1 else f"{len(levels)} values"
        faults.append(("grey mask", f"{mask_path.name}, {words}"))
    if mask.shape != image.shape:
        sizes = f"{mask.shape[0]}x{mask.shape[1]} for an image of {shape[0]}x{shape[1]}"
        faults.append(("mask of another size", f"{mask_path.name}, {sizes}"))
    found = find_targets(mask)
    targets = len(found)
    if not found:
        faults.append(("mask without target", mask_path.name))
    elif max(target.area for target in found) > _LARGE_SHARE * mask.size:
        area = max(target.area for target in found)
        faults.append(("target larger than small", f"{mask_path.name}, {area} pixels"))
    offsets: list[tuple[float, float]] = []
    if split == "train" and mask.shape == image.shape:
        offsets = [(row, col) for row, col in measure_offsets(image, mask).tolist()]
    return PairFindings(id_, split, tuple(faults), targets, shape, dtype, pixels, tuple(offsets))
