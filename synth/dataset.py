"""A labelled set: its images, masks and splits; `synth.disk.layout` finds them."""

from __future__ import annotations

import json
import shlex
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from synth.disk.description import DESCRIPTION, is_sharded, manifest_files
from synth.disk.layout import (
    Layout,
    Problem,
    Trees,
    divide_by_split,
    find_places,
    has_places,
    read_layout,
    refuse,
)
from synth.disk.shards import read_index
from synth.disk.split_names import SPLITS
from synth.errors import DatasetError, InvertedError, MaskError, SkippedWarning
from synth.frames import SUFFIXES, Frame, ImageFile, Mask
from synth.masks import STANDARD, Label, MaskConvention, MaskFile, decide_masks

_FEW_TARGETS = 0.2


@dataclass(frozen=True)
class Dataset:
    """A labelled set: where its images and masks are, and which ids are for what.

    Attributes
    ----------
    root, name : Path and str
        Its folder, and the folder's own name.
    splits : mapping of str to tuple of str
        Ids of ``train``, ``test`` and, where there is a list, ``val``, in the lists' order.
    listed : bool
        Whether lists or folders give the splits; else every image is in ``train``.
    images, masks : mapping of str to ImageFile and to MaskFile
        Every image file of the set and its mask, by id; those in no split included.
    convention : MaskConvention
        What the values of its masks mean.
    lists : mapping of str to Path
        The list of each split that has one.
    """

    root: Path
    name: str
    splits: Mapping[str, tuple[str, ...]]
    listed: bool
    images: Mapping[str, ImageFile] = field(repr=False)
    masks: Mapping[str, MaskFile] = field(repr=False)
    convention: MaskConvention = STANDARD
    lists: Mapping[str, Path] = field(default_factory=dict, repr=False)

    def ids(self, split: str) -> tuple[str, ...]:
        """Ids of one split, or of all for ``"all"``; `DatasetError` for another."""
        if split == "all":
            return tuple(id_ for name in SPLITS for id_ in self.splits.get(name, ()))
        if split not in self.splits:
            known = ", ".join(self.splits)
            raise DatasetError(self.root, f"has no split {split!r}; it has {known}")
        return self.splits[split]

    def filled(self, split: str) -> tuple[str, ...]:
        """Ids of one split, see `ids`; `DatasetError` that names its list if there are none."""
        ids = self.ids(split)
        if not ids:
            where = self.lists.get(split, self.root)
            raise DatasetError(where, f"is empty for {split}, which has no image; add some")
        return ids

    def image_file(self, id_: str) -> ImageFile:
        """File of an image; `DatasetError` for an id that has none."""
        if id_ in self.images:
            return self.images[id_]
        raise DatasetError(self.root, f"has no image for id {id_!r}")

    def mask_file(self, id_: str) -> MaskFile:
        """File of a mask; `DatasetError` for an id that has none."""
        if id_ in self.masks:
            return self.masks[id_]
        raise DatasetError(self.root, f"has no mask for id {id_!r}")

    def image_path(self, id_: str) -> Path:
        """Path of an image, see `ImageFile`."""
        return self.image_file(id_).path

    def mask_path(self, id_: str) -> Path:
        """Path of a mask, see `ImageFile`."""
        return self.mask_file(id_).path

    def read_image(self, id_: str) -> Frame:
        """Read an image: (H, W) uint8 or uint16, DN."""
        return self.image_file(id_).frame()

    def read_mask(self, id_: str) -> Mask:
        """Read a mask: (H, W) bool."""
        return self.mask_file(id_).mask()

    def read_pair(self, id_: str) -> tuple[Frame, Mask]:
        """Read an image and its mask, which must be of one size."""
        image, mask = self.read_image(id_), self.read_mask(id_)
        require_same_size(self.mask_path(id_), mask.shape, image.shape)
        return image, mask

    @property
    def notes(self) -> list[str]:
        """What a user of its masks should know."""
        faint, target = self.convention.faint, self.convention.target
        words = f"{faint:,} spots in grey masks do not reach half of {target} and are background"
        return [f"{self.root}: {words}; `synth check` names their masks"] if faint else []

    def manifests(self) -> list[Path]:
        """The files that say what each image was made from; none for a set that was not built."""
        if is_sharded(self.root):
            return manifest_files(self.root)
        path = self.root / "manifest.jsonl"
        return [path] if path.is_file() else []


def require_same_size(path: Path, mask: tuple[int, ...], image: tuple[int, ...]) -> None:
    """Raise a `DatasetError` that names the mask when its shape is not that of its image."""
    if mask != image:
        advice = "every mask must have its image's size"
        if mask == image[::-1]:
            advice += ", and the image may be turned by its EXIF tag: save it without the tag"
        sizes = "is {}x{} but its image is {}x{}".format(*mask, *image)
        raise DatasetError(path, f"{sizes}; {advice}")


def require_targets(root: Path | str, marked: int, total: int) -> str | None:
    """Test that training images of a set have targets: `marked` of them, out of `total`.

    Returns a warning where fewer than a fifth of them have one; `DatasetError` where there are
    training images, and none has a target.
    """
    if total and not marked:
        words = f"none of its {total:,} training masks marks a target, so there is nothing to learn"
        raise DatasetError(root, f"{words}; look at the masks")
    if marked < _FEW_TARGETS * total:
        return f"{root}: only {marked:,} of {total:,} training images have a target"
    return None


def is_labelled(path: Path | str) -> bool:
    """Whether a folder is a labelled set, or has some in it; no file is opened."""
    root = Path(path)
    return root.is_dir() and (is_sharded(root) or has_places(root))


def open_dataset(
    path: Path | str,
    *,
    folders: tuple[Path, Path] | None = None,
    lists: Mapping[str, Path] | None = None,
    label: Label | None = None,
) -> Dataset:
    """Find the images, masks and splits of a labelled set, and what its masks' values mean.

    All masks are decoded for that, but for a set that this package has built.

    Parameters
    ----------
    path : Path or str
        The set's folder, in one of the layouts of `synth.disk.layout`, or in shards.
    folders : (Path, Path), optional
        Where its images and its masks are, in place of looking for them.
    lists : mapping of str to Path, optional
        The list of each split, in place of looking for them; empty for none.
    label : int or "any", optional
        What marks targets, see `synth.masks.parse_label`, where masks hold several labels.

    Raises
    ------
    DatasetError
        It is no set, or one of another tool; files, folders and lists do not fit together; masks
        hold several labels, see `synth.masks.decide_masks`.

    Examples
    --------
    >>> import numpy as np
    >>> from tempfile import TemporaryDirectory
    >>> from synth.frames import write_frame
    >>> with TemporaryDirectory() as folder:
    ...     for kind in ("images", "masks"):
    ...         Path(folder, kind).mkdir()
    ...         write_frame(f"{folder}/{kind}/a.png", np.eye(8, dtype=bool))
    ...     dataset = open_dataset(folder)
    ...     image, mask = dataset.read_pair("a")
    >>> dataset.splits
    {'train': ('a',), 'test': ()}
    >>> image.dtype.name, mask.sum().item()
    ('uint8', 8)
    """
    root = Path(path)
    if not root.is_dir():
        raise DatasetError(root, "is not a folder; give the data set's own folder")
    if is_sharded(root):
        images, masks, splits = read_index(root)
        return Dataset(root, root.resolve().name, splits, True, images, masks)
    trees = Trees(_raise)
    for folder in folders or ():
        if not trees[folder]:
            raise DatasetError(folder, f"holds no images ({', '.join(SUFFIXES)}); add them")
    places = divide_by_split(*folders, trees) if folders else find_places(root, trees)
    if not places:
        raise refuse(root)
    return dataset_of(root, read_layout(root, places, trees, lists), label, _is_own(root))


def _raise(problem: Problem) -> None:
    if problem.error is not None:
        raise problem.error
    if problem.fault == "folder linked twice":
        warnings.warn(problem.words, SkippedWarning, stacklevel=2)


def dataset_of(root: Path, layout: Layout, label: Label | None, own: bool) -> Dataset:
    """Make a data set of a layout, and decide what its masks' values mean.

    A set that this package built (`own`) needs no look at all masks, since each is tested when it
    is read. `DatasetError` as of `synth.masks.decide_masks`.
    """
    images = {id_: ImageFile(path) for id_, path in layout.images.items()}
    files = {id_: ImageFile(path) for id_, path in layout.masks.items()}
    masks, convention = {id_: MaskFile(file) for id_, file in files.items()}, STANDARD
    where = shlex.quote(str(root))
    try:
        if label is not None or not own:
            masks, convention = decide_masks(root, files, label)
    except InvertedError as error:
        advice = f"`synth check {where} --fix --out NEW --label 0` turns them"
        raise InvertedError(root, f"{error.problem}; {advice}") from None
    except MaskError as error:
        if label is not None:
            raise
        advice = (
            f"`synth check {where} --fix --out NEW --label VALUE` writes a set whose targets are "
            "VALUE, `synth check … --any-label` one in which they are every value but 0"
        )
        raise MaskError(root, f"{error.problem}; {advice}") from None
    name = root.resolve().name
    return Dataset(
        root, name, layout.splits, layout.listed, images, masks, convention, layout.lists
    )


def _is_own(root: Path) -> bool:
    """Whether this package wrote a set, as its description says; other tools have the same name."""
    try:
        return "sirst-synth" in json.loads((root / DESCRIPTION).read_bytes())["versions"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
