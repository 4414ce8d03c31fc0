"""What the values of mask files mean, decided over all masks of a set.

Tools write the same mask as 0 and 255, 0 and 1, 0 and 38, red on black, a palette's numbers or an
alpha channel. One file cannot tell a label's value from a grey edge, so all masks of a set are
looked at first (`look_at_mask`), and one `MaskConvention` comes out of it (`convention_of`):

- one value, or one colour, beside 0 (black): it marks the targets;
- values that fade from 0 to the greatest one, as a JPEG or a smoothed mask has them: targets are
  above half;
- several labels: an error that lists them, unless the user says which of them marks targets.

A mask that holds other values than its set's convention knows, or non-zero pixels and no target, is
an error.

The code of a grey is its value; that of a colour is 1 and the hexadecimal digits of its channels,
of 8 bits each (0x1ff0000 for red), or of 16 (0x1ffff00000000).
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from synth.disk.headers import is_png
from synth.disk.tiff import is_tiff, read_palette_numbers
from synth.errors import FrameError, InvertedError, LossyError, MaskError
from synth.frames import Frame, ImageFile, Mask, decode_image, to_luma

Label = int | Literal["any"]
"""What marks targets: a code of `parse_label`, or every value but 0."""

Alpha = Literal["plain", "clear", "varies"]
"""An alpha channel: absent or of one value, 0 everywhere, or of several values."""

Key = TypeVar("Key")

FULL_SHARE = 0.5
"""Share of an image's pixels beyond which a mask is inverted, or no mask."""

_GREATEST_GREY = 65535
# Blobs of a smoothed mask hold several values each, those of labels one, or two where they touch.
_VALUES_OF_A_BLOB = 2.5
# Share of a JPEG's blobs that may have their peak near half of the greatest value.
_MOST_DIM = 0.2
# A cut-out of fewer pixels may be a target's own.
_TINY = 400
# What a JPEG leaves around a target stays below this part of the greatest value.
_RINGING = 16
# Share of a mask's pixels up to which they are kept as a list.
_FEW = 0.05
# Files that a thread looks at in one go.
_AT_A_TIME = 32
# Values that an error lists.
_LISTED = 8


@dataclass(frozen=True, slots=True)
class MaskConvention:
    """What the values of a set's masks mean.

    Attributes
    ----------
    kind : {"value", "half", "any"}
        Targets are where the value is `target`; above half of `target`; or other than 0.
    target : int
        The code of the value or colour that marks targets, see `parse_label`.
    alpha : bool
        Whether a transparent pixel is background, whatever its colour.
    chosen : bool
        Whether the user chose it; other values are background then, and no error.
    ones : bool
        Whether masks of 0 and 1 have their targets at 1, among others of 0 and 255.
    numbers : bool
        Whether `target` is the number of a colour in the files' palettes, where they have one.
    faint : int
        With ``half``, number of blobs in all masks that do not reach above half of `target`, but
        above a JPEG's ringing: they are background, though a label may be meant.
    """

    kind: Literal["value", "half", "any"] = "value"
    target: int = 255
    alpha: bool = False
    chosen: bool = False
    ones: bool = False
    numbers: bool = False
    faint: int = 0

    def read(self, data: bytes, path: Path | str) -> Mask:
        """Decode the bytes of a mask's file to (H, W) bool; `path` is for messages.

        Raises
        ------
        FrameError
            The file is damaged.
        MaskError
            It holds a value that this convention does not know, non-zero pixels and no target, or
            marks more than `FULL_SHARE` of its pixels.
        """
        mask = self.mask_of(self.values(data, path), path)
        marked = np.count_nonzero(mask)
        if marked > FULL_SHARE * mask.size and mask.size > _TINY:
            raise MaskError(
                path,
                f"marks {marked / mask.size:.0%} of its pixels as target: inverted? no mask? "
                "write it with few pixels marked, or take its id off the list",
            )
        return mask

    def values(self, data: bytes, path: Path | str) -> NDArray[Any]:
        """Decode a mask's file to the code of every pixel, (H, W); see `parse_label`."""
        if self.numbers and (numbers := palette_numbers(data, path)) is not None:
            return numbers
        image = _decode(data, path)[0]
        state = _alpha_state(image)
        if self.alpha and state == "clear":
            return np.zeros(image.shape[:2], np.uint8)
        codes = _codes(image, self.alpha and state == "varies")
        if state == "varies" and not self.alpha and not np.array_equal(codes, _codes(image, True)):
            raise MaskError(
                path,
                "shows other targets with its transparency than without, and the set's masks have "
                "none; write it as 0 and 255",
            )
        return codes

    def mask_of(self, values: NDArray[Any], path: Path | str) -> Mask:
        """Where codes are targets, see `read`."""
        if self.kind == "any":
            return values != 0
        mask: Mask
        if self.kind == "half":
            mask = values > self.target // 2
            if mask.any() or not values.any():
                return mask
            words = f"holds no value above half of {self.target}, but values up to {values.max()}"
            raise MaskError(path, f"{words}: its label is too faint; write it as 0 and 255")
        mask = values == self.target
        if self.ones and not mask.any():
            mask = values == 1
        if self.chosen or np.count_nonzero(values) == np.count_nonzero(mask):
            return mask
        others = _list_codes(sorted({*np.unique(values).tolist()} - {0, self.target}))
        known = f"0 and {describe_label(self.target)}"
        raise MaskError(
            path, f"holds {others} where the set's masks hold {known}; write it with these values"
        )

    def __str__(self) -> str:
        if self.kind == "any":
            return "every value but 0 is target"
        if self.kind == "half":
            return f"above half of {self.target} is target"
        return f"{'1 or ' if self.ones else ''}{describe_label(self.target)} is target"


STANDARD = MaskConvention()
"""0 and 255, as this package writes masks."""


class Drawn(NamedTuple):
    """A mask of few targets: its shape, and where their pixels are in raster order.

    `crc` is the CRC-32 of its file, which may change after its set was opened.
    """

    shape: tuple[int, int]
    places: NDArray[np.int32]
    crc: int


@dataclass(frozen=True, slots=True)
class MaskFile:
    """The file of a mask, and what its values mean in its set.

    `drawn` is what it holds where that was kept when its set was opened: nothing but 0 and 255.
    """

    file: ImageFile
    convention: MaskConvention = STANDARD
    drawn: Drawn | None = field(default=None, repr=False, compare=False)

    @property
    def path(self) -> Path:
        """Path of the file, see `ImageFile`."""
        return self.file.path

    def read(self) -> bytes:
        """Read its bytes; `FrameError` where that cannot be done."""
        return self.file.read()

    def mask(self) -> Mask:
        """Read it as a mask, see `MaskConvention.read`."""
        return self.decode(self.read())

    def decode(self, data: bytes) -> Mask:
        """Decode its bytes, see `MaskConvention.read`."""
        kept = self.kept(data)
        return self.convention.read(data, self.path) if kept is None else kept

    def kept(self, data: bytes) -> Mask | None:
        """The mask of its bytes where it was kept."""
        if self.drawn is None or self.drawn.crc != zlib.crc32(data):
            return None
        mask = np.zeros(self.drawn.shape, np.bool_)
        mask.reshape(-1)[self.drawn.places] = True
        return mask

    def is_standard(self, data: bytes, mask: Mask) -> bool:
        """Whether any reader finds 0 and 255 in its bytes, where `mask` is what they read as."""
        return self.kept(data) is not None or is_standard(data, mask)


@dataclass(frozen=True, slots=True)
class Look:
    """What one mask file holds.

    Attributes
    ----------
    counts : dict of int to int
        Number of pixels by code.
    depth : int
        Greatest value of the file's type, 255 or 65535.
    jpeg : bool
        Whether it is a JPEG file, whose values are never exact.
    numbers : collection of int
        The numbers of its pixels in its palette, if it has one.
    blobs, dim_blobs, faint_blobs : int
        Connected blobs of non-zero pixels that reach above half of the greatest value, that reach
        near half of it, and that reach at most half but are more than a JPEG's ringing.
    blob_values : int
        The numbers of values in each of `blobs`, summed.
    flat, between : int
        Pixels that are neither 0 nor full scale in blobs of one or two values, and in all blobs.
    drawn : Drawn or None
        The mask, where the file holds 0, and 255 in few pixels.
    """

    path: Path
    counts: dict[int, int] = field(repr=False)
    depth: int
    alpha: Alpha = "plain"
    jpeg: bool = False
    numbers: Collection[int] = ()
    blobs: int = 0
    blob_values: int = 0
    dim_blobs: int = 0
    faint_blobs: int = 0
    flat: int = 0
    between: int = 0
    drawn: Drawn | None = field(default=None, repr=False)


def parse_label(text: str | int) -> Label:
    """Read the value that marks targets as a user gives it, to its code.

    It is a number from 0 to 65535, a colour as ``#ff0000`` (or ``#ffff00000000`` of 16 bits), or
    ``any``. Equal channels are a grey. `ValueError` for anything else.

    Examples
    --------
    >>> parse_label("38"), describe_label(parse_label("#ff0000")), parse_label("any")
    (38, '#ff0000', 'any')
    """
    words = str(text).strip().lower()
    if words == "any":
        return "any"
    if re.fullmatch(r"[0-9]{1,5}", words) and int(words) <= _GREATEST_GREY:
        return int(words)
    if re.fullmatch(r"#([0-9a-f]{6}){1,2}", words):
        digits = words[1:]
        grey = digits[: len(digits) // 3]
        return int(grey if digits == 3 * grey else f"1{digits}", 16)
    words = f"{str(text)!r:.40} is no label; give a value from 0 to 65535, a colour as '#ff0000'"
    raise ValueError(f"{words}, or any")


def describe_label(code: Label) -> str:
    """Write a label as `parse_label` reads it."""
    grey = code == "any" or code <= _GREATEST_GREY
    return str(code) if grey else f"#{code:x}".replace("1", "", 1)


def decide_masks(
    root: Path | str, files: Mapping[Key, ImageFile], label: Label | None = None
) -> tuple[dict[Key, MaskFile], MaskConvention]:
    """Decide what the values of a set's masks mean, and keep small masks.

    Parameters
    ----------
    root : Path or str
        The set, for messages.
    files : mapping of ImageFile
        All of its masks; those that cannot be read are passed over, since reading them later is an
        error.
    label : int or "any", optional
        What marks targets, from `parse_label`, where the user says so.

    Returns
    -------
    dict of MaskFile, MaskConvention
        By the keys of `files`. Small masks of 0 and 255 are kept, and not decoded again.

    Raises
    ------
    MaskError
        The masks hold several labels, and `label` is not given, or no mask holds it.
    LossyError
        They are JPEG files of other values than 0 and 255, or `label` is given for JPEG files.
    InvertedError
        They mark more than `FULL_SHARE` of all pixels.
    """

    def look_at(file: ImageFile) -> Look | None:
        try:
            return look_at_mask(file.read(), file.path)
        except FrameError:
            return None

    every = [*files.values()]

    def look_at_some(start: int) -> list[Look | None]:
        return [look_at(file) for file in every[start : start + _AT_A_TIME]]

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        found = chain.from_iterable(pool.map(look_at_some, range(0, len(every), _AT_A_TIME)))
        looks = dict(zip(files, found, strict=True))
    seen = [look for look in looks.values() if look is not None]
    convention = convention_of(root, seen, label)
    pixels = sum(sum(look.counts.values()) for look in seen)
    shown = [look.counts for look in seen if look.alpha != "clear"]
    marked = sum(sum(counts.values()) - counts.get(0, 0) for counts in shown)
    if not convention.chosen and marked > FULL_SHARE * pixels and pixels > _TINY:
        words = f"its masks mark {marked / pixels:.0%} of all pixels as target, as inverted ones do"
        raise InvertedError(root, words)
    if convention.numbers or (convention.kind != "any" and convention.target != 255):
        looks = {}
    return {
        key: MaskFile(file, convention, look.drawn if (look := looks.get(key)) else None)
        for key, file in files.items()
    }, convention


def convention_of(
    root: Path | str, looks: Sequence[Look], label: Label | None = None
) -> MaskConvention:
    """Decide what masks mean that have been looked at, see `decide_masks`."""
    alpha = any(look.alpha == "varies" for look in looks)
    graded = _is_graded(looks)
    faded = [look for look in looks if look.jpeg and len(look.counts) > 2]
    if faded and (label is not None or not graded):
        held = f"{faded[0].path.name} holds {len(faded[0].counts)} values"
        words = "of which above half is target; leave out the label, or write"
        words = words if graded else f"whose values are no labels ({held}); write"
        raise LossyError(root, f"its masks are JPEG files, {words} the masks anew as PNG")
    if label == "any":
        return MaskConvention("any", alpha=alpha, chosen=True)
    shown = [{0} if alpha and look.alpha == "clear" else look.counts for look in looks]
    found = sorted(set().union(*shown))
    if label is not None:
        if label in found or not looks:
            return MaskConvention("value", label, alpha, chosen=True)
        if any(label in look.numbers for look in looks):
            return MaskConvention("value", label, chosen=True, numbers=True)
        held = _list_codes(found, looks)
        raise MaskError(root, f"no mask holds the label {describe_label(label)}; they hold {held}")
    marks = [code for code in found if code != 0]
    marked = [look for look in looks if look.counts.keys() - {0}]
    if marks and max(marks) <= 255 // _RINGING and all(look.jpeg for look in marked):
        words = f"nothing above {max(marks)}, by which the compression may have changed any value"
        raise LossyError(root, f"its JPEG masks hold {words}; write the masks anew as PNG")
    if len(marks) <= 1:
        return MaskConvention("value", marks[0] if marks else 255, alpha)
    if marks == [1, 255] and not any({1, 255} <= look.counts.keys() for look in looks):
        return MaskConvention("value", 255, alpha, ones=True)
    if graded and len({look.depth for look in marked}) == 1:
        faint = sum(look.faint_blobs for look in looks)
        return MaskConvention("half", _full(max(marks)), alpha, faint=faint)
    what = "several labels," if len(marks) <= _LISTED else f"{len(marks):,} values,"
    raise MaskError(root, f"its masks hold {what} {_list_codes(marks, looks)}")


def _is_graded(looks: Sequence[Look]) -> bool:
    """Whether values fade into one another, as those of a JPEG or a smoothed mask.

    A label's blob holds one value. A smoothed one holds several, and its set reaches (nearly) the
    greatest value that its type, or an 8-bit mask stored in 16 bits, can have.
    """
    greatest = max((max(look.counts) for look in looks), default=0)
    if greatest > _GREATEST_GREY or greatest <= 3 * _full(greatest) // 4:
        return False
    several = [look for look in looks if len(look.counts.keys() - {0}) > 1]
    blobs = sum(look.blobs for look in several)
    if several and all(look.jpeg for look in several):
        # A JPEG's labels fade too; a label of half the greatest value keeps its middle.
        return sum(look.dim_blobs for look in several) <= _MOST_DIM * blobs
    return sum(look.blob_values for look in several) >= _VALUES_OF_A_BLOB * blobs > 0


def _full(greatest: int) -> int:
    """What a mask's greatest value is out of: 16-bit files may hold 8-bit values."""
    return 255 if greatest <= 255 else 65535


def _list_codes(codes: Sequence[int], looks: Sequence[Look] = ()) -> str:
    """The first codes as words, with the number of masks that hold each and the first of them."""
    words = []
    for code in codes[:_LISTED]:
        holders = [look for look in looks if code in look.counts]
        masks = "1 mask" if len(holders) == 1 else f"{len(holders):,} masks"
        where = f" ({masks}, {holders[0].path.name})" if holders else ""
        words.append(describe_label(code) + where)
    if len(codes) > _LISTED:
        words.append(f"{len(codes) - _LISTED:,} more")
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def look_at_mask(data: bytes, path: Path) -> Look:
    """See what one mask file holds; `FrameError` for one that is damaged."""
    image, numbers = _decode(data, path)
    jpeg = data.startswith(b"\xff\xd8")
    if image.ndim == 2 and image.dtype == np.uint8 and not numbers:
        # Nearly all masks hold 0 and 255, which is quickly seen.
        marked = cv2.countNonZero(image)
        if marked == np.count_nonzero(image == 255):
            drawn = None
            if marked <= _FEW * image.size:
                places = np.flatnonzero(image).astype(np.int32)
                drawn = Drawn(image.shape, places, zlib.crc32(data))
            counts = {0: image.size - marked, 255: marked}
            counts = {code: count for code, count in counts.items() if count}
            return Look(path, counts, 255, jpeg=jpeg, drawn=drawn)
    alpha = _alpha_state(image)
    values = _codes(image, alpha == "varies")
    return look_at_values(values, path, alpha=alpha, jpeg=jpeg, numbers=numbers)


def look_at_values(values: NDArray[Any], path: Path, **kinds: Any) -> Look:
    """See what the values of a mask are; (H, W) ndarray of integers from 0 on.

    `kinds` are the `alpha`, `jpeg` and `numbers` of its file.
    """
    codes, counts = np.unique(values, return_counts=True)
    depth = 65535 if values.dtype.itemsize > 1 else 255
    held = dict(zip(codes.tolist(), counts.tolist(), strict=True))
    full = _full(greatest := max(held))
    between = sum(count for code, count in held.items() if code not in (0, full))
    if len(codes) <= 2 or greatest > _GREATEST_GREY:
        return Look(path, held, depth, **kinds, flat=between, between=between)
    marked = values > 0
    _, labels = cv2.connectedComponents(marked.view(np.uint8), connectivity=8)
    owned = labels[marked].astype(np.int64) << 16 | values[marked].astype(np.int64)
    pairs, counts = np.unique(owned, return_counts=True)
    owners, values_there = (pairs >> 16) - 1, pairs & 65535
    several = np.bincount(owners)
    peaks = values_there[np.cumsum(several) - 1]
    high = peaks > full // 2
    return Look(
        path,
        held,
        depth,
        **kinds,
        blobs=int(np.count_nonzero(high)),
        blob_values=int(several[high].sum()),
        dim_blobs=int(np.count_nonzero((peaks > 0.4 * full) & (peaks <= 0.6 * full))),
        faint_blobs=int(np.count_nonzero((peaks > full // _RINGING) & ~high)),
        flat=int(counts[(several[owners] <= 2) & (values_there != full)].sum()),
        between=between,
    )


def is_standard(data: bytes, mask: Mask) -> bool:
    """Whether any reader finds 0 and 255 in a mask's file, where `mask` is what it reads as."""
    values = to_luma(decode_image(data, "mask"))
    return values.dtype == np.uint8 and np.array_equal(values, mask.view(np.uint8) * np.uint8(255))


def _decode(data: bytes, path: Path | str) -> tuple[Frame, Collection[int]]:
    """Decode a mask's file; a palette whose colours do not tell its numbers apart gives numbers.

    Also the numbers of its pixels in its palette, none where it has none.
    """
    image = decode_image(data, path)
    numbers = palette_numbers(data, path)
    if numbers is None:
        return image, ()
    used, first = np.unique(numbers, return_index=True)
    colours = np.unique(image.reshape(numbers.size, -1)[first], axis=0)
    return numbers if len(colours) < len(used) else image, used.tolist()


def palette_numbers(data: bytes, path: Path | str) -> Frame | None:
    """Numbers (H, W) that a sound image file has for its palette; None for one without."""
    if is_tiff(data):
        return read_palette_numbers(data, path)
    # The same file with its numbers for colours.
    if is_png(data) and data[25] == 3:
        at = 8
        while data[at + 4 : at + 8] != b"PLTE":
            at += 12 + int.from_bytes(data[at : at + 4], "big")
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        ramp = b"PLTE" + b"".join(bytes((number,) * 3) for number in range(1 << data[24]))
        chunk = struct.pack(">I", len(ramp) - 4) + ramp + struct.pack(">I", zlib.crc32(ramp))
        return to_luma(decode_image(data[:at] + chunk + data[end:], path))
    bits = int.from_bytes(data[28:30], "little")
    if data.startswith(b"BM") and bits <= 8:
        start = 14 + int.from_bytes(data[14:18], "little")
        end = int.from_bytes(data[10:14], "little")
        ramp = b"".join(bytes((number, number, number, 0)) for number in range((end - start) // 4))
        return to_luma(decode_image(data[:start] + ramp + data[start + len(ramp) :], path))
    return None


def _alpha_state(image: Frame) -> Alpha:
    if image.ndim == 2 or image.shape[2] != 4:
        return "plain"
    low, high = int(image[..., 3].min()), int(image[..., 3].max())
    return "varies" if low != high else "plain" if high else "clear"


def _codes(image: Frame, alpha: bool) -> NDArray[Any]:
    """The code of every pixel, (H, W): uint8 or uint16 for greys, else int64."""
    if image.ndim == 2:
        return _narrow(image)
    colours = image[..., :3]
    if alpha:
        opacity, full = image[..., 3], np.iinfo(image.dtype).max
        shown = opacity > 0
        tint = colours[shown]
        if not tint.any() or (tint == full).all():
            return _narrow(opacity)
        if (tint == tint[0]).all() and len(np.unique(opacity)) > 2:
            # An edge that fades out: a colour's code cannot fade, so half of it marks the target.
            shown = opacity > full // 2
            if not shown.any():
                return _narrow(opacity)
        colours = np.where(shown[..., None], colours, 0)
    grey = (colours == colours[..., :1]).all(2)
    if grey.all():
        return _narrow(colours[..., 0])
    deep = colours.dtype == np.uint16
    if deep and not (colours % 257).any():
        colours, deep = colours // 257, False
    blue, green, red = np.moveaxis(colours.astype(np.int64), 2, 0)
    bits = 16 if deep else 8
    return np.where(grey, red, 1 << 3 * bits | red << 2 * bits | green << bits | blue)


def _narrow(values: Frame) -> Frame:
    """16-bit values that are 0 or the greatest one are those of 8 bits."""
    if values.dtype == np.uint16 and bool(((values == 0) | (values == 65535)).all()):
        return (values != 0).view(np.uint8) * np.uint8(255)
    return values
