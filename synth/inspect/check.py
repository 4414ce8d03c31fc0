"""Is a labelled set sound? Every image and mask is decoded and compared with the others."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from synth.dataset import FEW_TARGETS, Dataset
from synth.disk.headers import read_header
from synth.disk.layout import Problem
from synth.disk.tiff import TiffLayout, is_tiff, turn
from synth.errors import FrameError, MaskError
from synth.frames import Frame, Mask, decode_image, to_luma
from synth.inspect.borders import SIDES, border_shares
from synth.inspect.depths import Levels, group_by_depth, measure_levels
from synth.inspect.likeness import difference_hash, nearly_equal
from synth.inspect.palettes import find_palette
from synth.inspect.splits import scene_signature
from synth.masks import FULL_SHARE, STANDARD, MaskConvention, describe_label, look_at_values
from synth.targets import find_targets, label_targets, measure_signals, offsets_of

# Beyond 80 pixels of 256x256, 0.12%, a target is no longer small (the SPIE convention). The optics
# that blur it do not shrink with the image, so in smaller ones 80 pixels, or a hundredth, count.
_LARGE_AREA, _LARGE_SHARE, _LARGEST_SHARE = 80, 80 / 256**2, 0.01

# A sensor's or a converter's limit shows as a spike in the histogram: so many of all pixels at the
# frame's lowest or highest value, and so many times as many as at the three values next to it.
_CLIPPED_SHARE, _SPIKE = 0.05, 3

# How many times greater the targets' contrast is where a mask was drawn on an unturned frame.
_BETTER_FIT = 2

# Blurred masks fade within some pixels; what is not 0 farther from the target is a JPEG's ringing.
_FADE = 3

# A filter darkens the borders of all images that went through it.
_DARK_SHARE, _FEWEST_DARK = 0.1, 3

# Masks that are drawn by hand are off to all sides alike. A set has a habit where, of at least so
# many targets, this share more has its mask on the one side than on the other.
_FEWEST, _HABIT = 30, 0.2

# Of at least so many targets, more than this share is darker than its surroundings: black-hot.
# On NUDT-SIRST and NUAA-SIRST the share is under 1%.
_FEWEST_TARGETS, _DARKER_SHARE = 10, 0.5


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault: whether it is an error or a warning, and what to do about it."""

    name: str
    error: bool
    remedy: str


_RELABEL = "write masks as PNG of 0 and 255 with `--fix`"

FAULTS = (
    Fault("unreadable file", True, "replace it, or leave it out with --fix"),
    Fault("mask of another size", True, "cut image and mask to one size, or --fix leaves it out"),
    Fault(
        "mask of the unturned frame",
        True,
        "save the frame as it is stored, without its EXIF tag; --fix leaves it out",
    ),
    Fault("image without mask", True, "add one, or --fix leaves it out"),
    Fault("mask among the images", True, "move it to the masks; --fix leaves it out"),
    Fault("several labels", True, "say which marks targets: --label VALUE, or --any-label"),
    Fault("lossy labels", True, "write the masks anew as PNG"),
    Fault("mask that is not understood", True, f"{_RELABEL}, which leaves it out"),
    Fault("no target in training", True, "wrong masks? look at some"),
    Fault("full mask", True, f"covers more than {FULL_SHARE:.0%}: --label 0 if all are inverted"),
    Fault("id of two files", True, "remove one; --fix takes the first"),
    Fault("name that no list can hold", True, "rename it; --fix leaves it out"),
    Fault("listed id without image", True, "take it off the list, as --fix does"),
    Fault("list entry with folders", True, "leave the plain name, as --fix does"),
    Fault("id listed twice", True, "remove one of the lines, as --fix does"),
    Fault("id in two splits", True, "keep it in one; --fix keeps it in the test split"),
    Fault("unreadable list", True, "write it as text, an id a line"),
    Fault("list against its folders", True, "correct or remove it; --fix goes by the folders"),
    Fault("broken link", True, "repair or remove it; --fix leaves it out"),
    Fault("folder linked twice", False, "nothing: it is read once"),
    Fault("equal image in train and test", True, "take it off one; --fix keeps the test image"),
    Fault("nearly equal images in two splits", False, "--fix takes them out of training"),
    Fault("equal images in one split", False, "keep one of them"),
    Fault("nearly equal images in one split", False, "nothing, where negatives were made"),
    Fault("image in no split", False, "add it to a list, or leave it out"),
    Fault("no list of splits", False, "all is training; `synth split` makes lists"),
    Fault("mask without image", False, "add the image, or remove the mask"),
    Fault("folders of other names", False, "call them images and masks, as --fix does"),
    Fault("mask of another name", False, "name it as its image, as --fix does"),
    Fault("lossy mask", False, f"was saved as JPEG: look, {_RELABEL}"),
    Fault("grey mask", False, f"above half is target; {_RELABEL}"),
    Fault("faint label", False, f"not above half, so background: look, {_RELABEL}"),
    Fault("mask of other values", False, "nothing, if that is right; --fix writes 0 and 255"),
    Fault("few images with a target", False, "nothing, if the others have none"),
    Fault("mask without target", False, "nothing, if there is none"),
    Fault("target larger than small", False, f"more than {_LARGE_SHARE:.2%} of the image: look"),
    Fault(
        "masks beside their targets",
        False,
        "train with augment.keep_offset, make negatives with `synth rotate --keep-offset`",
    ),
    Fault("borders darkened by a filter", False, "train with augment.border"),
    Fault(
        "turned by its EXIF tag",
        False,
        "nothing, if mask and frame agree when turned: look with `synth preview`",
    ),
    Fault("mixed depths", False, "export all frames alike, at the camera's own depth"),
    Fault(
        "black-hot frames",
        False,
        "invert them, and those for noise: the shipped detector expects bright targets, the noise "
        "model noise that grows with DN",
    ),
    Fault(
        "pseudocolour image",
        False,
        "export the frames as grey, 16-bit where the camera has it; luma is taken",
    ),
    Fault("colour image", False, "nothing: luma is taken, which --fix writes"),
    Fault("image with alpha", False, "nothing: alpha is dropped; --fix writes grey"),
    Fault("constant image", False, "replace it, or take its id off the list"),
    Fault("clipped image", False, "look: what is cut off tells nothing"),
)
_COURSES = {
    "rises": "luma rises with temperature",
    "falls": "luma falls as temperature rises",
    "turns": "luma does not rise with temperature",
}
_BY_NAME = {fault.name: fault for fault in FAULTS}


@dataclass(frozen=True, slots=True)
class PairFindings:
    """What was seen in one pair: (name of fault, words on it), targets, size, pixel hash.

    `offsets` are those of the masks of training targets, see `measure_offsets`; `look` and `scene`
    tell frames that are nearly equal, see `likeness`; `borders` are from `border_shares`;
    `darker` says of each training target whether it is darker than its surroundings.
    """

    id: str
    split: str
    faults: tuple[tuple[str, str], ...]
    targets: int = 0
    shape: tuple[int, int] | None = None
    dtype: str | None = None
    pixels: bytes | None = None
    offsets: tuple[tuple[float, float], ...] = ()
    look: NDArray[np.bool_] | None = None
    scene: NDArray[np.float16] | None = None
    borders: tuple[float | None, ...] = ()
    levels: Levels | None = None
    darker: tuple[bool, ...] = ()


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
    ids : dict of str to list of str
        The ids that each fault is about; of pairs, the one that is to go.
    splits : dict of str to dict of str to int
        How many of these ids are in each split, by fault.
    """

    images: dict[str, int] = field(default_factory=dict)
    targets: dict[str, int] = field(default_factory=dict)
    shapes: dict[str, int] = field(default_factory=dict)
    dtypes: dict[str, int] = field(default_factory=dict)
    faults: dict[str, list[str]] = field(default_factory=dict)
    ids: dict[str, list[str]] = field(default_factory=dict)
    splits: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def sound(self) -> bool:
        """Whether there is no error; warnings may be there."""
        return not any(_BY_NAME[name].error for name in self.faults)

    def add(self, fault: str, words: str, ids: Iterable[str] = ()) -> None:
        """Note one case of a fault."""
        self.faults.setdefault(fault, []).append(words)
        known = self.ids.setdefault(fault, [])
        known += [id_ for id_ in ids if id_ not in known]


def check_dataset(
    dataset: Dataset,
    run: Callable[
        [Callable[[tuple[str, str]], PairFindings], Iterable[tuple[str, str]]],
        Iterable[PairFindings],
    ] = map,
    problems: Sequence[Problem] = (),
) -> Report:
    """Look at every pair of a data set.

    Parameters
    ----------
    dataset : Dataset
    run : callable
        A ``map`` that may work in parallel, in order.
    problems : sequence of Problem
        What `open_loosely` found, which goes into the report.

    Returns
    -------
    Report
    """
    report = Report()
    for problem in problems:
        report.add(problem.fault, problem.words, problem.ids)
    work = [(split, id_) for split, ids in dataset.splits.items() for id_ in ids]
    home = {id_: split for split, id_ in work}
    for id_ in dataset.images:
        if id_ not in home and id_ not in report.ids.get("image without mask", ()):
            report.add(*_look_at_unlisted(dataset, id_), (id_,))
    findings = []
    for found in run(lambda item: check_pair(dataset, *item), work):
        findings.append(found)
        report.images[found.split] = report.images.get(found.split, 0) + 1
        report.targets[found.split] = report.targets.get(found.split, 0) + found.targets
        if found.shape is not None and found.dtype is not None:
            size = f"{found.shape[0]}x{found.shape[1]}"
            report.shapes[size] = report.shapes.get(size, 0) + 1
            report.dtypes[found.dtype] = report.dtypes.get(found.dtype, 0) + 1
        for fault, words in found.faults:
            report.add(fault, words, (found.id,))
    for fault, words in _few_targets(findings):
        report.add(fault, words)
    _report_equal(findings, report)
    _report_nearly_equal(findings, report)
    for words in _describe_habit([offset for found in findings for offset in found.offsets]):
        report.add("masks beside their targets", words)
    for words, ids in _describe_borders(findings):
        report.add("borders darkened by a filter", words, ids)
    for words, ids in _describe_depths(dataset, findings):
        report.add("mixed depths", words, ids)
    for words, ids in _describe_polarity(findings):
        report.add("black-hot frames", words, ids)
    for fault, members in report.ids.items():
        report.splits[fault] = dict(Counter(home[id_] for id_ in members if id_ in home))
    return report


def _few_targets(findings: Iterable[PairFindings]) -> Iterator[tuple[str, str]]:
    training = [found for found in findings if found.split == "train"]
    marked = sum(found.targets > 0 for found in training)
    words = f"{marked:,} of {len(training):,} training images"
    if training and not marked:
        yield "no target in training", words
    elif marked < FEW_TARGETS * len(training):
        yield "few images with a target", words


def _look_at_unlisted(dataset: Dataset, id_: str) -> tuple[str, str]:
    """An image that no list names may be there by chance, or be a mask in the wrong folder."""
    file = dataset.images[id_]
    path = file.path
    try:
        colour = decode_image(file.read(), path)
    except FrameError:
        return "image in no split", path.name
    for fault, words in _image_faults(colour, to_luma(colour), path.name):
        if fault == "mask among the images":
            return fault, words
    return "image in no split", path.name


def _report_equal(findings: Iterable[PairFindings], report: Report) -> None:
    seen: dict[bytes, PairFindings] = {}
    for found in findings:
        if found.pixels is None:
            continue
        first = seen.setdefault(found.pixels, found)
        if first is not found:
            fault = "equal images in one split"
            if first.split != found.split:
                fault = "equal image in train and test"
            words = f"{first.id} ({first.split}) and {found.id} ({found.split})"
            report.add(fault, words, (_less_held_out(first, found).id,))


def _report_nearly_equal(findings: Iterable[PairFindings], report: Report) -> None:
    seen: dict[tuple[bytes, str], PairFindings] = {}
    for found in findings:
        if found.pixels is not None and found.look is not None and found.scene is not None:
            seen.setdefault((found.pixels, found.split), found)
    alone = list(seen.values())
    looks = [found.look for found in alone if found.look is not None]
    scenes = [found.scene for found in alone if found.scene is not None]
    told: set[tuple[str, str]] = set()
    for first, second, likeness in nearly_equal(looks, scenes):
        one, other = alone[first], alone[second]
        if one.pixels == other.pixels:
            continue
        fault = "nearly equal images in one split"
        if one.split != other.split:
            fault = "nearly equal images in two splits"
        goes = _less_held_out(one, other)
        # A scene of n frames is n - 1 too many, not n (n - 1) / 2 pairs.
        if (fault, goes.id) not in told:
            told.add((fault, goes.id))
            stays = one if goes is other else other
            words = f"{goes.id} ({goes.split}) and {stays.id} ({stays.split}), {likeness:.3f}"
            report.add(fault, words, (goes.id,))


def _less_held_out(first: PairFindings, second: PairFindings) -> PairFindings:
    """Which of two equal images can go: never a test image before others."""
    order = ("test", "val", "train")
    return first if order.index(first.split) > order.index(second.split) else second


def _describe_borders(
    findings: Sequence[PairFindings],
) -> Iterator[tuple[str, list[str]]]:
    """Say on which sides of how many images the outermost row or column is darkened."""
    looked = [found for found in findings if found.borders]
    dark: Counter[str] = Counter()
    shares = []
    for found in looked:
        for side, share in zip(SIDES, found.borders, strict=True):
            if share is not None:
                dark[side] += 1
                shares.append(share)
    most = max(dark.values(), default=0)
    if most >= max(_FEWEST_DARK, _DARK_SHARE * len(looked)):
        sides = ", ".join(f"{side} {dark[side] / len(looked):.0%}" for side in SIDES)
        words = f"{sides} of images, to {np.median(shares):.2f} of what is inside"
        yield (
            words,
            [found.id for found in looked if any(share is not None for share in found.borders)],
        )


def _describe_habit(offsets: Sequence[tuple[float, float]]) -> Iterator[str]:
    """Say along which axis masks are to one side of their targets more often than to the other."""
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


def _describe_depths(
    dataset: Dataset, findings: Iterable[PairFindings]
) -> Iterator[tuple[str, list[str]]]:
    """Name the groups of images that differ in depth, and where each is; ids of the smaller."""
    frames = [(found, found.levels) for found in findings if found.levels is not None]
    groups = group_by_depth([levels for _, levels in frames])
    if len(groups) < 2:
        return
    members = [[frames[at][0] for at in group.members] for group in groups]
    splits = [{found.split for found in own} for own in members]
    folders = [{_folder(dataset, found.id) for found in own} for own in members]
    several_types = len({group.bits for group in groups}) > 1
    parts = []
    for number, group in enumerate(groups):
        words = f"{len(group.members):,}"
        if several_types:
            words += f" of {group.bits} bits"
        words += f", {group.low:,} to {group.high:,} DN"
        if group.step > 1:
            words += f" in steps of {group.step}"
        places = [
            ", ".join(sorted(kinds[number]))
            for kinds in (splits, folders)
            if _apart(kinds) and len(kinds[number]) <= 2
        ]
        if places:
            words += f", in {' and '.join(places)}"
        files = [dataset.image_file(found.id).path.name for found in members[number]]
        parts.append(f"{words}: {', '.join(files[:2])}{', …' if len(files) > 2 else ''}")
    yield "; ".join(parts), [found.id for own in members[:-1] for found in own]


def _folder(dataset: Dataset, id_: str) -> str:
    folder = dataset.image_file(id_).path.parent
    return folder.relative_to(dataset.root).as_posix() if dataset.root in folder.parents else ""


def _apart(kinds: Sequence[set[str]]) -> bool:
    """Whether no two groups share a split, or a folder."""
    return sum(map(len, kinds)) == len(set().union(*kinds))


def _describe_polarity(findings: Iterable[PairFindings]) -> Iterator[tuple[str, list[str]]]:
    """Say how many targets are darker than their surroundings, where most are."""
    seen = [(found.id, darker) for found in findings for darker in found.darker]
    dark = [id_ for id_, darker in seen if darker]
    if len(seen) >= _FEWEST_TARGETS and len(dark) > _DARKER_SHARE * len(seen):
        share = f"{len(dark) / len(seen):.0%}"
        words = f"{share} of {len(seen):,} training targets are darker than their surroundings"
        yield words, list(dict.fromkeys(dark))


def check_pair(dataset: Dataset, split: str, id_: str) -> PairFindings:
    """Look at one pair: every fault that can be told from it alone."""
    try:
        image_file, mask_file = dataset.image_file(id_), dataset.mask_file(id_)
        image_data = image_file.read()
        colour = decode_image(image_data, image_file.path)
        image = to_luma(colour)
        tag = _read_orientation(image_data, image_file.path)
        data = mask_file.read()
        mask_tag = _read_orientation(data, mask_file.path)
        values, kept = None, mask_file.kept(data)
        if kept is None:
            values = mask_file.convention.values(data, mask_file.path)
            kept = mask_file.convention.mask_of(values, mask_file.path)
        mask = kept
    except MaskError as error:
        return PairFindings(id_, split, (("mask that is not understood", str(error)),))
    except FrameError as error:
        return PairFindings(id_, split, (("unreadable file", str(error)),))
    faults = [(fault, words) for fault, words in _image_faults(colour, image, image_file.path.name)]
    for path, own in ((image_file.path, tag), (mask_file.path, mask_tag)):
        if own != 1:
            faults.append(("turned by its EXIF tag", f"{path.name}, orientation {own}"))
    unturned = tag != 1 and _fits_unturned(image, mask, tag)
    if unturned:
        faults.append(("mask of the unturned frame", f"{mask_file.path.name}, orientation {tag}"))
    elif mask.shape != image.shape:
        sizes = "{}x{} for an image of {}x{}".format(*mask.shape, *image.shape)
        faults.append(("mask of another size", f"{mask_file.path.name}, {sizes}"))
    if values is not None:
        jpeg = data.startswith(b"\xff\xd8")
        faults += _value_faults(values, mask, mask_file.convention, jpeg, mask_file.path)
    faults += _mask_faults(mask, mask_file.path.name)
    targets = find_targets(mask)
    offsets: list[tuple[float, float]] = []
    darker: list[bool] = []
    if split == "train" and mask.shape == image.shape and not unturned:
        _, labels = label_targets(mask)
        offsets = [(row, col) for row, col in offsets_of(image, targets, labels).tolist()]
        if not any(fault == "full mask" for fault, _ in faults):
            darker = [signal.darker for signal in measure_signals(image, mask)]
    return PairFindings(
        id_,
        split,
        tuple(faults),
        len(targets),
        (image.shape[0], image.shape[1]),
        str(image.dtype),
        hashlib.sha256(f"{image.dtype} {image.shape}".encode() + image.tobytes()).digest(),
        tuple(offsets),
        difference_hash(image),
        scene_signature(image).astype(np.float16),
        border_shares(image),
        measure_levels(image),
        tuple(darker),
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
    return bool(as_stored > _BETTER_FIT * turned)


def _read_orientation(data: bytes, path: Path) -> int:
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
    for value, count, inward in ((low, ends[0], 1), (high, ends[1], -1)):
        if count <= _CLIPPED_SHARE * image.size:
            continue
        first, last = sorted((value + inward, value + 3 * inward))
        near = np.count_nonzero((image >= max(first, 0)) & (image <= last)) / 3
        if count > _SPIKE * near:
            yield "clipped image", f"{name}, {count / image.size:.0%} at {value} DN"


def _value_faults(
    values: NDArray[Any], mask: Mask, convention: MaskConvention, jpeg: bool, path: Path
) -> Iterator[tuple[str, str]]:
    """Say where a mask holds more than 0 and 255."""
    exact = convention.kind == "value" and convention.target == 255
    if exact and values.dtype == np.uint16:
        yield "mask of other values", f"{path.name}, 0 and 255 in 16 bits: {convention}"
        return
    if convention == STANDARD or convention.kind == "any":
        return
    look = look_at_values(values, path)
    levels = sorted(look.counts)
    if set(levels) <= {0, 255}:
        return
    if convention.kind != "half":
        held = ", ".join(describe_label(level) for level in levels[:4])
        more = ", …" if len(levels) > 4 else ""
        yield "mask of other values", f"{path.name}, {held}{more}: {convention}"
        return
    near = cv2.dilate(mask.view(np.uint8), np.ones((2 * _FADE + 1,) * 2, np.uint8))
    ringing = bool(values[near == 0].any()) and len(levels) > 2 and mask.any()
    words = f"{path.name}, {len(levels)} values"
    yield "lossy mask" if jpeg or ringing else "grey mask", words
    if look.faint_blobs:
        yield "faint label", f"{path.name}, {look.faint_blobs} spots"


def _mask_faults(mask: Mask, name: str) -> Iterator[tuple[str, str]]:
    covered = np.count_nonzero(mask)
    if covered == 0:
        yield "mask without target", name
    elif covered > FULL_SHARE * mask.size:
        yield "full mask", f"{name}, {covered / mask.size:.0%}"
    else:
        area = max(target.area for target in find_targets(mask))
        if area > max(_LARGE_SHARE * mask.size, min(_LARGE_AREA, _LARGEST_SHARE * mask.size)):
            yield "target larger than small", f"{name}, {area} pixels"
