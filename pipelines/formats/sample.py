"""What goes out to another format, and what comes back from one."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipelines.formats.drawing import Class, Drawing
from synth.dataset import Dataset, require_same_size
from synth.disk.layout import IMAGE_FOLDERS, read_text
from synth.disk.names import link_inside, parts_inside
from synth.disk.png import encode_png
from synth.disk.split_names import FOLDERS, split_named, splits_told
from synth.errors import DatasetError
from synth.frames import SUFFIXES, ImageFile, Mask, frame_shape, natural_key, plain_file
from synth.masks import MaskConvention, MaskFile, decide_masks, is_standard
from synth.targets import Target, find_targets

_LONGEST_ID = 200

IN_FOLDERS = "put the files of each split into a folder of its name"
"""What to do where images of several splits cannot be told apart."""

# Folders that say what a file is, not where a frame is from.
_PLAIN_FOLDERS = {*IMAGE_FOLDERS, "jpegimages", "data", *(n for ns in FOLDERS.values() for n in ns)}


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled image on its way out.

    `image` is its file, or a PNG of it where `synth.frames.is_plain` is false. `mask_png` is the
    mask's file where that is a grey 8-bit PNG of 0 and 255, else the mask written anew.
    """

    id: str
    split: str
    image: bytes
    suffix: str
    mask: Mask
    mask_png: bytes
    targets: tuple[Target, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W)."""
        height, width = self.mask.shape
        return height, width

    @property
    def boxes(self) -> list[list[int]]:
        """Left, top, width and height of the targets, pixels."""
        boxes = (target.box for target in self.targets)
        return [[left, top, right - left, bottom - top] for top, left, bottom, right in boxes]


@dataclass(frozen=True, slots=True)
class Entry:
    """What the lists and indices of a format are made of.

    `note` is what the format's `annotate` said of the sample.
    """

    id: str
    split: str
    suffix: str
    shape: tuple[int, int]
    note: Any


@dataclass(frozen=True, slots=True)
class Loaded:
    """A pair that was read back: the image's file, its suffix, the mask, and its file.

    `facts` go into its line of the manifest; those of a drawing count its annotations.
    """

    image: bytes
    suffix: str
    mask: Mask
    mask_png: bytes
    facts: Mapping[str, Any] = field(default_factory=dict)
    drawing: Drawing | None = None

    def choose(self, kinds: Container[Class]) -> Loaded:
        """The pair with the annotations of some classes as its targets."""
        if self.drawing is None:
            return self
        drawing, left_out = self.drawing.choose(kinds)
        return replace(
            self,
            mask=drawing.mask,
            mask_png=encode_png(drawing.mask),
            facts=drawing.facts() | ({"left_out": left_out} if left_out else {}),
            drawing=drawing,
        )


@dataclass(frozen=True, slots=True)
class Found:
    """A pair that a folder of some format has, and how to load it.

    `steps` go into its line of the manifest. `source` names its image, so that one image in two
    splits is found.
    """

    id: str
    split: str
    load: Callable[[], Loaded] = field(repr=False)
    steps: tuple[tuple[str, dict[str, Any]], ...] = ()
    source: Path | None = None


@dataclass(frozen=True, slots=True)
class Format:
    """How a set is read from a format and written in it.

    Attributes
    ----------
    name : str
    read : callable
        Every pair in a folder of this format; counts what it leaves out, see
        `drawing.describe_notes`.
    written : Written or None
        How a set is written in it; None for a format that is only read.
    classes : bool
        Whether its annotations have classes.
    """

    name: str
    read: Callable[[Path, Counter[str]], Iterable[Found]]
    written: Written | None = None
    classes: bool = False


@dataclass(frozen=True, slots=True)
class Written:
    """How a set is written in a format.

    Attributes
    ----------
    says : str
        Where its files are, one line for the card.
    annotate : callable
        What the format's text says of a sample's mask; plain data.
    held : callable or None
        The mask that is left of a note, of a shape; None where masks are kept as they are.
    files : callable
        A sample's own files by their names in the export; for a sharded format by the ends of
        their names in the shard.
    index : callable
        The lists and indices of all samples, by name; takes the splits, the entries in their
        order, and the set's name.
    sharded : bool
        Whether the samples of a split are in numbered tar files.
    """

    says: str
    annotate: Callable[[Sample], Any]
    held: Callable[[Any, tuple[int, int]], Mask] | None
    files: Callable[[Sample, Any], dict[str, bytes]]
    index: Callable[[Sequence[str], Sequence[Entry], str], dict[str, bytes]]
    sharded: bool = False


def load_sample(dataset: Dataset, split: str, id_: str) -> Sample:
    """Read one pair of a data set.

    Raises
    ------
    FrameError
        A file is absent or damaged, or the mask is of another size than its image.
    """
    image_file, mask_file = dataset.image_file(id_), dataset.mask_file(id_)
    image = image_file.read()
    mask, mask_png = as_mask(mask_file.read(), mask_file.path, mask_file.convention)
    require_same_size(mask_file.path, mask.shape, frame_shape(image, image_file.path))
    image, suffix = plain_file(image, image_file.path)
    return Sample(id_, split, image, suffix, mask, mask_png, tuple(find_targets(mask)))


def as_mask(data: bytes, path: Path | str, convention: MaskConvention) -> tuple[Mask, bytes]:
    """Decode a mask's file; its bytes are kept where they are a grey PNG of 0 and 255."""
    mask = convention.read(data, path)
    grey = data.startswith(b"\x89PNG") and data[24:26] == b"\x08\0"
    return mask, data if grey and is_standard(data, mask) else encode_png(mask)


def loaded(image: bytes, image_path: Path | str, mask: Drawing | Mask | MaskFile) -> Loaded:
    """Put a pair together that was read back; a mask is given as itself, drawn, or as its file.

    Raises
    ------
    FrameError
        A file is damaged, or the mask is of another size than its image.
    """
    shape = frame_shape(image, image_path)
    where: Path | str = image_path
    facts: Mapping[str, Any] = {}
    if isinstance(mask, MaskFile):
        where = mask.path
        values, data = as_mask(mask.read(), where, mask.convention)
    elif isinstance(mask, Drawing):
        values, data, facts = mask.mask, encode_png(mask.mask), mask.facts()
    else:
        values, data = mask, encode_png(mask)
    require_same_size(Path(where), values.shape, shape)
    drawing = mask if isinstance(mask, Drawing) else None
    return Loaded(*plain_file(image, image_path), values, data, facts, drawing)


def load_pair(image: ImageFile, mask: MaskFile) -> Loaded:
    """Read an image and its mask back, see `loaded`."""
    return loaded(image.read(), image.path, mask)


def set_convention(root: Path, files: Iterable[ImageFile]) -> MaskConvention:
    """What the values of all masks of a set that is imported mean, see `synth.masks`.

    Raises
    ------
    DatasetError
        The masks hold several labels, or mark nearly all pixels.
    """
    try:
        return decide_masks(root, dict(enumerate(files)))[1]
    except DatasetError as error:
        advice = "write masks of 0 and, for targets, 255"
        raise type(error)(root, f"{error.problem}; {advice}") from None


def require_stated_size(
    file: Path, stated: tuple[object, object], shape: tuple[int, int], image: Path | str
) -> None:
    """Test the size (H, W) that an annotation file states; a side of None is not stated.

    Raises
    ------
    DatasetError
        It is not the image's size.
    """
    if all(side is None or side == own for side, own in zip(stated, shape, strict=True)):
        return
    height, width = ("?" if side is None else _number(side) for side in stated)
    advice = "annotate the image at its own size, or give the image that was annotated"
    if tuple(stated) == shape[::-1] and not isinstance(stated[0], str):
        advice = (
            "the sides are swapped: the image may be turned by its EXIF tag; annotate it upright"
        )
    raise DatasetError(
        file,
        f"is for an image of {width}x{height} pixels (w x h), but {Path(image).name} has "
        f"{shape[1]}x{shape[0]}; {advice}",
    )


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else f"{value!s:.12}"


def split_of_folders(path: Path, place: Path) -> str:
    """The split that the folders of a path in a set tell; training where none does.

    A folder that is called as a split is counts more than a word in a name.

    Raises
    ------
    DatasetError
        The folders tell several splits.
    """
    folders = path.parts[:-1]
    told = {split for name in folders if (split := split_named(name))}
    told = told or {split for name in folders for split in splits_told(name)}
    if len(told) > 1:
        raise DatasetError(
            place, f"is in folders of several splits ({', '.join(sorted(told))}); rename them"
        )
    return next(iter(told), "train")


def require_pixels(numbers: Iterable[float], file: Path, format_: str) -> None:
    """Coordinates of at most 1 throughout, some with a fraction, are shares of the sides.

    Raises
    ------
    DatasetError
        They are such.
    """
    fraction = False
    for number in numbers:
        if number > 1:
            return
        fraction |= bool(number % 1)
    if fraction:
        raise DatasetError(
            file,
            "has no coordinate above 1, so they seem to be shares of the image's sides; "
            f"{format_} has pixels, so multiply them by width and height",
        )


def to_numbers(values: object, count: int | None = None) -> list[float]:
    """Read a list of numbers, or of numbers as text.

    Raises
    ------
    ValueError
        It is none, or not of so many.
    """
    if (
        not isinstance(values, list)
        or (count is not None and len(values) != count)
        or any(
            isinstance(value, bool) or not isinstance(value, int | float | str) for value in values
        )
    ):
        wanted = "numbers" if count is None else f"{count} numbers"
        raise ValueError(f"has {values!r:.60} in place of {wanted}")
    try:
        return [float(value) for value in values]
    except ValueError:
        raise ValueError(f"has {values!r:.60} in place of numbers") from None


def plain_id(text: object, file: Path) -> str:
    """Test that an id that was read from a file is a plain name; return it.

    Raises
    ------
    DatasetError
        It is none: with folders in it, hidden, or of characters that no list can have.
    """
    if (
        not isinstance(text, str)
        or not text
        or text.startswith(".")
        or set(text) & set("/\\")
        or not text.isprintable()
        or text != text.strip()
        or len(os.fsencode(text)) > _LONGEST_ID
    ):
        raise DatasetError(file, f"names {text!r:.80}; an id is a plain name without folders")
    return text


def file_inside(root: Path, name: object, file: Path) -> Path:
    """Find the file that a text in `file` names, below `root`.

    Raises
    ------
    DatasetError
        The name leads outside, over a link, or to nothing.
    """
    try:
        parts = parts_inside(name)
        if "\\" in "".join(parts) or not "".join(parts).isprintable():
            raise ValueError("which is no file's name")
    except ValueError as error:
        raise DatasetError(file, f"names {name!r:.80}, {error}") from None
    link = link_inside(root, parts)
    if link is not None:
        raise DatasetError(link, "is a link, which is not followed; put the file in its place")
    path = root.joinpath(*parts)
    try:
        path.lstat()
    except OSError:
        raise DatasetError(file, f"names {name!r:.80}, which is not in {root}") from None
    if not path.is_file():
        raise DatasetError(path, f"is not a file; {file.name} names it")
    return path


def images_below(folder: Path, nested: bool = True) -> dict[str, Path]:
    """Image files of a folder in natural order, by id; links are refused.

    An id is the file's name, with the names of its subfolders in front where `nested`; otherwise
    subfolders are ignored.

    Raises
    ------
    DatasetError
        Two files have one id, or a name is none that a list can have.
    """
    found: dict[str, Path] = {}
    for path in files_below(folder, SUFFIXES, nested):
        id_ = plain_id(nested_id(path.relative_to(folder)), folder)
        if id_ in found:
            raise DatasetError(path, f"shares its id with {found[id_]}; rename or remove one")
        found[id_] = path
    return found


def files_by_image(
    folder: Path, suffixes: Sequence[str], images: Container[str], ending: str = ""
) -> dict[str, Path]:
    """Files of a folder by the id of their image; `ending` may follow the id in their names.

    Raises
    ------
    DatasetError
        A file has no image, or two have one.
    """
    found: dict[str, Path] = {}
    for path in files_below(folder, suffixes, nested=False):
        id_ = plain_id(nested_id(Path(path.name)), folder)
        id_ = id_ if id_ in images else id_.removesuffix(ending)
        if id_ not in images:
            raise DatasetError(path, "has no image; add the image, or remove this file")
        if id_ in found:
            raise DatasetError(path, f"is of the same image as {found[id_].name}; remove one")
        found[id_] = path
    return found


def files_below(folder: Path, suffixes: Sequence[str], nested: bool = True) -> Iterator[Path]:
    """Files of a folder, and of its subfolders where `nested`, by suffix; links are refused."""
    for path in sorted(folder.iterdir(), key=lambda path: natural_key(path.name)):
        if path.name.startswith("."):
            continue
        if path.suffix.lower() in suffixes and not (path.is_dir() and not path.is_symlink()):
            yield file_inside(folder, path.name, folder)
        elif nested and path.is_dir():
            if path.is_symlink():
                raise DatasetError(path, "is a link, which is not followed; put the folder there")
            yield from files_below(path, suffixes)


def count_unused(root: Path, used: Container[Path]) -> int:
    """How many image files below a folder are none of those that are used."""
    return sum(
        path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path not in used
        for path in root.rglob("*")
    )


def nested_id(path: Path) -> str:
    """The id of a file below the folder of a set, as ``rec1_0001`` for ``train/rec1/0001.png``."""
    folders = list(path.parts[:-1])
    while folders and folders[0].lower() in _PLAIN_FOLDERS:
        del folders[0]
    return unicodedata.normalize("NFC", "_".join([*folders, path.stem]))


def name_key(path: Path) -> str:
    """A file's place without its suffix, the same for all spellings of a name."""
    return unicodedata.normalize("NFC", (path.parent / path.stem).as_posix()).casefold()


def read_list(file: Path) -> list[str]:
    """Read a list of ids, a line each; a second column of -1, 0 or 1 is left out.

    Raises
    ------
    DatasetError
        It is no text, or holds what is no id.
    """
    # The lists of a class say in a second column whether it is there.
    ids = (re.sub(r"\s+(-1|0|1)$", "", line.strip()) for line in read_text(file).splitlines())
    return [plain_id(id_, file) for id_ in ids if id_]


def read_json(file: Path) -> Any:
    """Parse a JSON file; `DatasetError` where it cannot be read."""
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(file, f"cannot be read as JSON ({error!s:.80})") from None


def only_known(record: Mapping[str, Any], key: str, kind: type, file: Path) -> Any:
    """The value of a key that must be there and of a type.

    Raises
    ------
    DatasetError
        It is not.
    """
    value = record.get(key) if isinstance(record, Mapping) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise DatasetError(
            file, f"has no {key!r} where a {kind.__name__} is wanted: {record!r:.80}"
        )
    return value
