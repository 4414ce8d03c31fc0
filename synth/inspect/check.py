"""Is a labelled set sound, and what of it is worth keeping?

Every image and mask is decoded and compared with the others.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from synth.dataset import Dataset, require_targets
from synth.disk.headers import read_header
from synth.disk.layout import Problem
from synth.disk.split_names import SPLITS
from synth.disk.tiff import TiffLayout, is_tiff, turn
from synth.errors import DatasetError, FrameError, MaskError
from synth.frames import Frame, ImageFile, Mask, decode_image, to_luma
from synth.inspect.depths import Levels, group_by_depth, measure_levels
from synth.inspect.palettes import find_palette
from synth.inspect.splits import difference_hash, nearly_equal, scene_signature
from synth.masks import FULL_SHARE, STANDARD, MaskConvention, describe_label, look_at_values
from synth.targets import Target, find_targets, measure_offsets, measure_signals

# Beyond 80 pixels of 256x256, 0.12%, a target is no longer small (the SPIE convention). The optics
# that blur it do not shrink with the image, so in smaller ones 80 pixels, or a hundredth, count.
_LARGE_AREA, _LARGE_SHARE, _LARGEST_SHARE = 80, 80 / 256**2, 0.01

SIDES = ("top", "right", "bottom", "left")

_RELABEL = "write masks as PNG of 0 and 255 with `--fix`"
_ERRORS = {
    "unreadable file": "replace it, or leave it out with --fix",
    "mask of another size": "cut image and mask to one size, or --fix leaves it out",
    "mask of the unturned frame": "save the frame as stored, without EXIF; --fix leaves it out",
    "image without mask": "add one, or --fix leaves it out",
    "mask among the images": "move it to the masks; --fix leaves it out",
    "several labels": "say which marks targets: --label VALUE, or --any-label",
    "lossy labels": "write the masks anew as PNG",
    "mask that is not understood": f"{_RELABEL}, which leaves it out",
    "no target in training": "wrong masks? look at some",
    "full mask": f"covers more than {FULL_SHARE:.0%}: --label 0 if all are inverted",
    "id of two files": "remove one; --fix takes the first",
    "name that no list can hold": "rename it; --fix leaves it out",
    "listed id without image": "take it off the list, as --fix does",
    "list entry with folders": "leave the plain name, as --fix does",
    "id listed twice": "remove one of the lines, as --fix does",
    "id in two splits": "keep it in one; --fix keeps it in the test split",
    "unreadable list": "write it as text, an id a line",
    "list against its folders": "correct or remove it; --fix goes by the folders",
    "broken link": "repair or remove it; --fix leaves it out",
    "equal image in train and test": "take it off one; --fix keeps the test image",
}
_WARNINGS = {
    "folder linked twice": "nothing: it is read once",
    "nearly equal images in two splits": "--fix takes them out of training",
    "equal images in one split": "keep one of them",
    "nearly equal images in one split": "nothing, where negatives were made",
    "image in no split": "add it to a list, or leave it out",
    "no list of splits": "all is training; `synth split` makes lists",
    "mask without image": "add the image, or remove the mask",
    "folders of other names": "call them images and masks, as --fix does",
    "mask of another name": "name it as its image, as --fix does",
    "lossy mask": f"was saved as JPEG: look, {_RELABEL}",
    "grey mask": f"above half is target; {_RELABEL}",
    "faint label": f"not above half, so background: look, {_RELABEL}",
    "mask of other values": "nothing, if that is right; --fix writes 0 and 255",
    "few images with a target": "nothing, if the others have none",
    "mask without target": "nothing, if there is none",
    "target larger than small": f"more than {_LARGE_SHARE:.2%} of the image: look",
    "masks beside their targets": "train with augment.keep_offset, `synth rotate --keep-offset`",
    "borders darkened by a filter": "train with augment.border",
    "turned by its EXIF tag": "nothing, if mask and frame agree: look with `synth preview`",
    "mixed depths": "export all frames alike, at the camera's own depth",
    "black-hot frames": "invert them, and those for noise: bright targets are expected",
    "pseudocolour image": "export grey frames, 16-bit where the camera has it; luma is taken",
    "colour image": "nothing: luma is taken, which --fix writes",
    "image with alpha": "nothing: alpha is dropped; --fix writes grey",
    "constant image": "replace it, or take its id off the list",
    "clipped image": "look: what is cut off tells nothing",
}
# Whether two images are equal, and whether they are in one split.
_ALIKE = {
    (True, False): "equal image in train and test",
    (True, True): "equal images in one split",
    (False, False): "nearly equal images in two splits",
    (False, True): "nearly equal images in one split",
}
_COURSES = {
    "rises": "luma rises with temperature",
    "falls": "luma falls as temperature rises",
    "turns": "luma does not rise with temperature",
}


class Fault(NamedTuple):
    """A kind of fault: whether it is an error or a warning, and what to do about it."""

    name: str
    error: bool
    remedy: str


FAULTS = tuple(
    Fault(name, name in _ERRORS, remedy) for name, remedy in (_ERRORS | _WARNINGS).items()
)

# What puts an id out of its split, which of two equal images is the less held out one.
_LEFT_OUT = (
    *("unreadable file", "mask of another size", "mask of the unturned frame"),
    *("mask among the images", "mask that is not understood", "full mask", "image without mask"),
    *("equal image in train and test", "nearly equal images in two splits"),
    *("image in no split", "mask without image", "listed id without image"),
)

Case = tuple[str, str, Sequence[str]]
"""Name of a fault, words on it, and the ids that it is about."""


class PairFindings(NamedTuple):
    """What was seen in one pair; of one that cannot be read, the faults alone.

    `faults` are names with words on each, and `pixels` is a hash. `offsets` and `darker` are those
    of training targets, see `measure_offsets` and `Signal`; `look` and `scene` see `nearly_equal`.
    """

    id: str
    split: str
    faults: Sequence[tuple[str, str]]
    targets: int = 0
    size: str = ""
    dtype: str = ""
    pixels: bytes = b""
    look: NDArray[np.bool_] = np.empty(0, np.bool_)
    scene: NDArray[np.float16] = np.empty(0, np.float16)
    levels: Levels = Levels(8, 0, 0, 0, 0)
    borders: tuple[float | None, ...] = ()
    offsets: NDArray[np.float64] = np.empty((0, 2))
    darker: Sequence[bool] = ()


@dataclass
class Report:
    """All that was found: counts by split, by size as ``256x256``, and by type.

    By the name of a fault (see `FAULTS`), `faults` has words on every case, `ids` what it is about
    (of pairs, the one that is to go), and `splits` how many of these ids are in each split.
    """

    images: Counter[str] = field(default_factory=Counter)
    targets: Counter[str] = field(default_factory=Counter)
    shapes: Counter[str] = field(default_factory=Counter)
    dtypes: Counter[str] = field(default_factory=Counter)
    faults: dict[str, list[str]] = field(default_factory=dict)
    ids: dict[str, list[str]] = field(default_factory=dict)
    splits: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def sound(self) -> bool:
        """Whether there is no error; warnings may be there."""
        return not any(fault.error and fault.name in self.faults for fault in FAULTS)

    def add(self, fault: str, words: str, ids: Iterable[str] = ()) -> None:
        """Note one case of a fault."""
        self.faults.setdefault(fault, []).append(words)
        known = self.ids.setdefault(fault, [])
        known += [id_ for id_ in dict.fromkeys(ids) if id_ not in known]


class Repair(NamedTuple):
    """The ids by split that stay, and by which fault each other id goes."""

    splits: Mapping[str, tuple[str, ...]]
    dropped: Mapping[str, str]


def plan_repair(dataset: Dataset, report: Report) -> Repair:
    """Decide which pairs a repaired copy has.

    Broken pairs go, and so do images of the training (or validation) split that are equal, or
    nearly so, to one that is held out.
    """
    dropped: dict[str, str] = {}
    for fault in _LEFT_OUT:
        for id_ in report.ids.get(fault, []):
            dropped.setdefault(id_, fault)
    kept = {
        split: tuple(id_ for id_ in ids if id_ not in dropped)
        for split, ids in dataset.splits.items()
    }
    return Repair(kept, dropped)


def check_dataset(
    dataset: Dataset,
    run: Callable[..., Iterable[PairFindings]] = map,
    problems: Sequence[Problem] = (),
) -> Report:
    """Look at every pair of a data set.

    `run` is a ``map`` over `check_pair` that may work in parallel, in order. The `problems` that
    `open_loosely` found go into the report.
    """
    report = Report()
    for problem in problems:
        report.add(problem.fault, problem.words, problem.ids)
    home = {id_: split for split, ids in dataset.splits.items() for id_ in ids}
    for id_ in dataset.images:
        if id_ not in home and id_ not in report.ids.get("image without mask", ()):
            report.add(*_look_at_unlisted(dataset.images[id_]), (id_,))
    work = [(split, id_) for id_, split in home.items()]
    findings = list(run(lambda item: check_pair(dataset, *item), work))
    for found in findings:
        report.images[found.split] += 1
        report.targets[found.split] += found.targets
        for fault, words in found.faults:
            report.add(fault, words, (found.id,))
    read = [found for found in findings if found.pixels]
    report.shapes.update(found.size for found in read)
    report.dtypes.update(found.dtype for found in read)
    for case in chain(
        _few_targets(findings, dataset.root),
        _alike(read),
        _habit(read),
        _dark_borders(read),
        _mixed_depths(read, dataset),
        _polarity(read),
    ):
        report.add(*case)
    for fault, members in report.ids.items():
        report.splits[fault] = dict(Counter(home[id_] for id_ in members if id_ in home))
    return report


def _look_at_unlisted(file: ImageFile) -> tuple[str, str]:
    """An image that no list names may be there by chance, or be a mask in the wrong folder."""
    with suppress(FrameError):
        colour = decode_image(file.read(), file.path)
        for fault, words in _image_faults(colour, to_luma(colour), file.path.name):
            if fault == "mask among the images":
                return fault, words
    return "image in no split", file.path.name


def _few_targets(findings: Sequence[PairFindings], root: Path) -> Iterator[Case]:
    marked = [found.targets > 0 for found in findings if found.split == "train"]
    words = f"{sum(marked):,} of {len(marked):,} training images"
    try:
        if require_targets(root, sum(marked), len(marked)):
            yield "few images with a target", words, ()
    except DatasetError:
        yield "no target in training", words, ()


def _alike(findings: Sequence[PairFindings]) -> Iterator[Case]:
    """Name images that are equal to others, or nearly so: of two the one that is less held out."""
    first: dict[bytes, PairFindings] = {}
    equal = [(first.setdefault(found.pixels, found), found, "") for found in findings]
    each: dict[tuple[bytes, str], PairFindings] = {}
    for found in findings:
        each.setdefault((found.pixels, found.split), found)
    alone = list(each.values())
    near = nearly_equal([found.look for found in alone], [found.scene for found in alone])
    pairs = ((alone[one], alone[other], f", {likeness:.3f}") for one, other, likeness in near)
    told: set[tuple[str, str]] = set()
    for one, other, likeness in chain(equal, pairs):
        # Never a test image before others.
        goes = min(other, one, key=lambda found: SPLITS.index(found.split))
        stays = one if goes is other else other
        fault = _ALIKE[one.pixels == other.pixels, one.split == other.split]
        # A scene of n frames is n - 1 too many, not n (n - 1) / 2 pairs.
        if one is not other and (fault, goes.id) not in told:
            told.add((fault, goes.id))
            words = f"{goes.id} ({goes.split}) and {stays.id} ({stays.split}){likeness}"
            yield fault, words, [goes.id]


def _dark_borders(findings: Sequence[PairFindings]) -> Iterator[Case]:
    """Say on which sides of how many images the outermost row or column is darkened."""
    shares = np.array([found.borders for found in findings], float).reshape(-1, len(SIDES))
    dark = ~np.isnan(shares)
    # A filter darkens the borders of all images that went through it.
    if dark.sum(axis=0).max() >= max(3, 0.1 * len(dark)):
        means = zip(SIDES, dark.mean(axis=0), strict=True)
        sides = ", ".join(f"{side} {mean:.0%}" for side, mean in means)
        words = f"{sides} of images, to {np.nanmedian(shares):.2f} of what is inside"
        ids = [found.id for found, own in zip(findings, dark, strict=True) if own.any()]
        yield "borders darkened by a filter", words, ids


def border_shares(frame: Frame) -> tuple[float | None, ...]:
    """Share of brightness that a filter has left in the outermost row or column of each side.

    A blur of an image whose surroundings count as 0 DN leaves half of the brightness, or more, in
    the outermost row and column. A detector that has never seen one takes the step for targets, or
    the targets there for the step.

    In the order of `SIDES`: the median over the side, None where it was not darkened.
    """
    found: list[float | None] = [None] * len(SIDES)
    # The row so far inside is compared with; a share of what is nearly black means nothing.
    inside, least_bright, fewest = 5, 20, 10
    if min(frame.shape) <= 2 * inside:
        return tuple(found)
    for quarter in range(len(SIDES)):
        outer, inner = np.rot90(frame, quarter)[[0, inside]]
        bright = inner > least_bright
        if np.count_nonzero(bright) >= fewest:
            low, median, high = np.percentile(outer[bright] / inner[bright], (25, 50, 75)).tolist()
            # A filter darkens all of a row alike; what a scene does is not the same along it.
            if 0.35 <= median <= 0.8 and high - low <= 0.15:
                found[quarter] = median
    return tuple(found)


def _habit(findings: Sequence[PairFindings]) -> Iterator[Case]:
    """Say along which axis masks are to one side of their targets more often than to the other."""
    offsets = np.concatenate([np.empty((0, 2)), *(found.offsets for found in findings)])
    if len(offsets) < 30:
        return
    for values, sides in zip(offsets.T, (("top", "bottom"), ("left", "right")), strict=True):
        shares = (values < -0.25).mean(), (values > 0.25).mean()
        (low, least), (high, most) = sorted(zip(shares, sides, strict=True))
        # Masks that are drawn by hand are off to all sides alike.
        if high - low > 0.2:
            words = f"a quarter of a pixel or more to the {most} of {high:.0%}, "
            yield "masks beside their targets", f"{words}to the {least} of {low:.0%}", ()


def _mixed_depths(findings: Sequence[PairFindings], dataset: Dataset) -> Iterator[Case]:
    """Name the groups of images that differ in depth, and some of each; ids of the smaller."""
    groups = group_by_depth([found.levels for found in findings])
    parts = []
    for places, levels in groups:
        steps = f" in steps of {levels.step}" if levels.step > 1 else ""
        files = [dataset.image_path(findings[at].id) for at in places[:2]]
        names = ", ".join(os.path.relpath(file, dataset.root) for file in files)
        more = ", …" if len(places) > 2 else ""
        parts.append(
            f"{len(places):,} of {levels.bits} bits, {levels.low:,} to {levels.high:,} DN{steps}: "
            f"{names}{more}"
        )
    if len(groups) > 1:
        ids = [findings[at].id for places, _ in groups[:-1] for at in places]
        yield "mixed depths", "; ".join(parts), ids


def _polarity(findings: Sequence[PairFindings]) -> Iterator[Case]:
    """Say how many targets are darker than their surroundings, where most of at least ten are.

    On NUDT-SIRST and NUAA-SIRST the share is under 1%.
    """
    count = sum(len(found.darker) for found in findings)
    dark = [found.id for found in findings for darker in found.darker if darker]
    if count >= 10 and len(dark) > count / 2:
        share = f"{len(dark) / count:.0%} of {count:,} training targets"
        yield "black-hot frames", f"{share} are darker than their surroundings", dark


def check_pair(dataset: Dataset, split: str, id_: str) -> PairFindings:
    """Look at one pair: every fault that can be told from it alone."""
    file, mask_file = dataset.image_file(id_), dataset.mask_file(id_)
    convention, name = mask_file.convention, mask_file.path.name
    try:
        data, mask_data = file.read(), mask_file.read()
        colour = decode_image(data, file.path)
        tag, mask_tag = _orientation(data, file.path), _orientation(mask_data, mask_file.path)
        values = convention.values(mask_data, mask_file.path)
        mask = convention.mask_of(values, mask_file.path)
    except (MaskError, FrameError) as error:
        unclear = isinstance(error, MaskError)
        fault = "mask that is not understood" if unclear else "unreadable file"
        return PairFindings(id_, split, [(fault, str(error))])
    image = to_luma(colour)
    faults = list(_image_faults(colour, image, file.path.name))
    for path, own in ((file.path, tag), (mask_file.path, mask_tag)):
        if own != 1:
            faults.append(("turned by its EXIF tag", f"{path.name}, orientation {own}"))
    fits = mask.shape == image.shape
    if tag != 1 and _fits_unturned(image, mask, tag):
        fits = False
        faults.append(("mask of the unturned frame", f"{name}, orientation {tag}"))
    elif not fits:
        sizes = "{}x{} for an image of {}x{}".format(*mask.shape, *image.shape)
        faults.append(("mask of another size", f"{name}, {sizes}"))
    jpeg = mask_data.startswith(b"\xff\xd8")
    faults += _value_faults(values, mask, convention, jpeg, mask_file.path)
    targets = find_targets(mask)
    of_mask = list(_mask_faults(mask, targets, name))
    offsets, darker = np.empty((0, 2)), []
    if split == "train" and fits:
        offsets = measure_offsets(image, mask)
        if not any(fault == "full mask" for fault, _ in of_mask):
            darker = [signal.darker for signal in measure_signals(image, mask)]
    return PairFindings(
        id_,
        split,
        faults + of_mask,
        len(targets),
        "{}x{}".format(*image.shape),
        str(image.dtype),
        hashlib.sha256(f"{image.dtype} {image.shape}".encode() + image.tobytes()).digest(),
        difference_hash(image),
        scene_signature(image).astype(np.float16),
        measure_levels(image),
        border_shares(image),
        offsets,
        darker,
    )


def _fits_unturned(image: Frame, mask: Mask, orientation: int) -> bool:
    """Whether a mask was drawn on the pixels as stored, before their tag turned them."""
    # A quarter turn is undone by the opposite one, all else by itself.
    stored = turn(image, {6: 8, 8: 6}.get(orientation, orientation))
    if stored.shape != mask.shape or image.shape != mask.shape:
        return stored.shape == mask.shape
    if not mask.any():
        return False
    # Without a neighbourhood to compare with, a target has no contrast.
    as_stored, turned = (
        np.median(np.nan_to_num([signal.contrast for signal in measure_signals(frame, mask)]))
        for frame in (stored, image)
    )
    return bool(as_stored > 2 * turned)


def _orientation(data: bytes, path: Path) -> int:
    """Orientation, 1 to 8, by which `decode_image` turns an image file."""
    return (TiffLayout if is_tiff(data) else read_header)(data, path).orientation


def _image_faults(colour: Frame, image: Frame, name: str) -> Iterator[tuple[str, str]]:
    if colour.ndim == 3 and colour.shape[2] >= 3:
        if colour.shape[2] == 4:
            yield "image with alpha", name
        blue, green, red = cv2.split(colour)[:3]
        if cv2.norm(blue, green, cv2.NORM_INF) or cv2.norm(blue, red, cv2.NORM_INF):
            palette = find_palette(colour)
            if palette is None:
                yield "colour image", name
            else:
                yield "pseudocolour image", f"{name}, {palette.name}: {_COURSES[palette.luma]}"
    low, high = int(image.min()), int(image.max())
    if low == high:
        yield "constant image", f"{name}, {low} DN"
        return
    ends = np.count_nonzero(image == low), np.count_nonzero(image == high)
    if low == 0 and high in (1, np.iinfo(image.dtype).max) and sum(ends) == image.size:
        yield "mask among the images", f"{name}, nothing but {low} and {high}"
        return
    # A sensor's or a converter's limit is a spike in the histogram: 5% of all pixels, and three
    # times as many as at the three values next to it.
    for value, count, first in ((low, ends[0], low + 1), (high, ends[1], max(high - 3, 0))):
        last = first + 2 if value == low else high - 1
        near = np.count_nonzero((image >= first) & (image <= last)) / 3
        if count > max(0.05 * image.size, 3 * near):
            yield "clipped image", f"{name}, {count / image.size:.0%} at {value} DN"


def _value_faults(
    values: NDArray[Any], mask: Mask, convention: MaskConvention, jpeg: bool, path: Path
) -> Iterator[tuple[str, str]]:
    """Say where a mask holds more than 0 and 255."""
    deep = values.dtype == np.uint16 and (convention.kind, convention.target) == ("value", 255)
    if convention.kind == "any" or (convention == STANDARD and not deep):
        return
    look = look_at_values(values, path)
    levels = sorted(look.counts)
    if set(levels) <= {0, 255} and not deep:
        return
    if convention.kind != "half":
        held = ", ".join(describe_label(level) for level in levels[:4])
        more = ", …" if len(levels) > 4 else " in 16 bits" if deep else ""
        yield "mask of other values", f"{path.name}, {held}{more}: {convention}"
        return
    # Blurred masks fade within three pixels; what is not 0 beyond is a JPEG's ringing.
    near = cv2.dilate(mask.view(np.uint8), np.ones((7, 7), np.uint8))
    ringing = bool(values[near == 0].any()) and len(levels) > 2 and mask.any()
    words = f"{path.name}, {len(levels)} values"
    yield "lossy mask" if jpeg or ringing else "grey mask", words
    if look.faint_blobs:
        yield "faint label", f"{path.name}, {look.faint_blobs} spots"


def _mask_faults(mask: Mask, targets: Sequence[Target], name: str) -> Iterator[tuple[str, str]]:
    covered = np.count_nonzero(mask)
    if covered == 0:
        yield "mask without target", name
    elif covered > FULL_SHARE * mask.size:
        yield "full mask", f"{name}, {covered / mask.size:.0%}"
    else:
        area = max(target.area for target in targets)
        if area > max(_LARGE_SHARE * mask.size, min(_LARGE_AREA, _LARGEST_SHARE * mask.size)):
            yield "target larger than small", f"{name}, {area} pixels"
