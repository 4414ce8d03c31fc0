"""What goes out to another format, and what comes back from one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.names import link_inside, parts_inside
from synth.dataset import Dataset, require_same_size
from synth.errors import DatasetError
from synth.frames import (
    SUFFIXES,
    Mask,
    encode_png,
    frame_shape,
)
from synth.masks import MaskConvention, MaskFile, decode_mask, is_standard
from synth.targets import Target, find_targets

_LONGEST_ID = 200


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled image on its way out.

    `image` is its file, byte for byte. `mask_png` is the mask's file where that is a grey 8-bit PNG
    of 0 and 255, else the mask written anew.
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
    """A pair that was read back: the image's file, its suffix, the mask, and a mask file as is."""

    image: bytes
    suffix: str
    mask: Mask
    mask_png: bytes


@dataclass(frozen=True, slots=True)
class Found:
    """A pair that a folder of some format has, and how to load it.

    `facts` go into its line of the manifest.
    """

    id: str
    split: str
    load: Callable[[], Loaded] = field(repr=False)
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Format:
    """How a set is written in a format and read from it.

    Attributes
    ----------
    name : str
    says : str
        What lies where, one line for the card.
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
    read : callable
        Every pair in a folder of this format.
    sharded : bool
        Whether the samples of a split lie in numbered tar files.
    """

    name: str
    says: str
    annotate: Callable[[Sample], Any]
    held: Callable[[Any, tuple[int, int]], Mask] | None
    files: Callable[[Sample, Any], dict[str, bytes]]
    index: Callable[[Sequence[str], Sequence[Entry], str], dict[str, bytes]]
    read: Callable[[Path], Iterable[Found]]
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
    suffix = image_file.path.suffix.lower()
    return Sample(id_, split, image, suffix, mask, mask_png, tuple(find_targets(mask)))


def as_mask(
    data: bytes, path: Path | str, convention: MaskConvention | None = None
) -> tuple[Mask, bytes]:
    """Decode a mask's file; its bytes are kept where they are a grey PNG of 0 and 255.

    Without a convention its values are decided on this file alone.
    """
    mask = decode_mask(data, path, convention)
    grey = data.startswith(b"\x89PNG") and data[24:26] == b"\x08\0"
    return mask, data if grey and is_standard(data, mask) else encode_png(mask)


def loaded(
    image: bytes, image_path: Path | str, mask: Mask | MaskFile | tuple[bytes, Path | str]
) -> Loaded:
    """Put a pair together that was read back; a mask is given as itself or as its file.

    Raises
    ------
    FrameError
        A file is damaged, or the mask is of another size than its image.
    """
    shape = frame_shape(image, image_path)
    where: Path | str
    if isinstance(mask, MaskFile):
        where = mask.path
        values, data = as_mask(mask.read(), where, mask.convention)
    elif isinstance(mask, tuple):
        where = mask[1]
        values, data = as_mask(*mask)
    else:
        where, values, data = image_path, mask, encode_png(mask)
    require_same_size(Path(where), values.shape, shape)
    return Loaded(image, Path(image_path).suffix.lower(), values, data)


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


def images_in(folder: Path) -> dict[str, Path]:
    """Image files of a folder, in natural order of their names, by id; links are refused."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
            continue
        id_ = plain_id(path.stem, folder)
        if id_ in found:
            raise DatasetError(path, f"shares its id with {found[id_].name}; remove one")
        found[id_] = file_inside(folder, path.name, folder)
    return found


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
