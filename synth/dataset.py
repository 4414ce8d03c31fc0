"""A labelled set: its images, masks and splits; `synth.layout` finds them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from synth.errors import DatasetError, SkippedWarning
from synth.frames import SUFFIXES, Frame, ImageFile, Mask
from synth.layout import (
    Layout,
    Problem,
    Trees,
    divide_by_split,
    find_places,
    has_places,
    read_layout,
    refuse,
)
from synth.shards import is_sharded, manifest_files, read_index
from synth.split_names import SPLITS


@dataclass(frozen=True)
class Dataset:
    """A labelled set: where its images and masks are, and which ids are for what.

    Attributes
    ----------
    root : Path
        Its folder.
    name : str
        The folder's own name.
    splits : mapping of str to tuple of str
        Ids of ``train``, ``test`` and, where there is a list, ``val``, in the lists' order.
    listed : bool
        Whether lists or folders give the splits; else every image is in ``train``.
    images, masks : mapping of str to ImageFile
        Every image file of the set and its mask, by id; those in no split included.
    lists : mapping of str to Path
        The list of each split that has one.
    """

    root: Path
    name: str
    splits: Mapping[str, tuple[str, ...]]
    listed: bool
    images: Mapping[str, ImageFile] = field(repr=False)
    masks: Mapping[str, ImageFile] = field(repr=False)
    lists: Mapping[str, Path] = field(default_factory=dict, repr=False)

    def ids(self, split: str) -> tuple[str, ...]:
        """Ids of one split, or of all for ``"all"``.

        Raises
        ------
        DatasetError
            The set has no such split.
        """
        if split == "all":
            return tuple(id_ for name in SPLITS for id_ in self.splits.get(name, ()))
        if split not in self.splits:
            known = ", ".join(self.splits)
            raise DatasetError(self.root, f"has no split {split!r}; it has {known}")
        return self.splits[split]

    def filled(self, split: str) -> tuple[str, ...]:
        """Ids of one split, see `ids`; `DatasetError` that names its list if there are none."""
        ids = self.ids(split)
        if not ids and split in self.lists:
            raise DatasetError(self.lists[split], f"is empty, so {split} has no image; list some")
        if not ids:
            raise DatasetError(self.root, f"has no image in its split {split!r}; add some")
        return ids

    def image_file(self, id_: str) -> ImageFile:
        """File of an image; `DatasetError` for an id that has none."""
        return self._file(self.images, id_, "image")

    def mask_file(self, id_: str) -> ImageFile:
        """File of a mask; `DatasetError` for an id that has none."""
        return self._file(self.masks, id_, "mask")

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

    def manifests(self) -> list[Path]:
        """The files that say what each image was made from; none for a set that was not built."""
        if is_sharded(self.root):
            return manifest_files(self.root)
        path = self.root / "manifest.jsonl"
        return [path] if path.is_file() else []

    def _file(self, files: Mapping[str, ImageFile], id_: str, what: str) -> ImageFile:
        try:
            return files[id_]
        except KeyError:
            raise DatasetError(self.root, f"has no {what} for id {id_!r}") from None


class _Members(Mapping[str, ImageFile]):
    """The files of a set in shards by id; each is looked up when it is asked for."""

    def __init__(self, ids: Collection[str], find: Callable[[str], ImageFile]) -> None:
        self._ids = ids
        self._find = find

    def __getitem__(self, id_: str) -> ImageFile:
        return self._find(id_)

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)


def require_same_size(
    path: Path, mask_shape: tuple[int, ...], image_shape: tuple[int, ...]
) -> None:
    """Raise a `DatasetError` that names the mask when it is not of its image's size."""
    if mask_shape != image_shape:
        raise DatasetError(
            path,
            f"is {mask_shape[0]}x{mask_shape[1]} but its image is "
            f"{image_shape[0]}x{image_shape[1]}; every mask must have its image's size",
        )


def is_labelled(path: Path | str) -> bool:
    """Whether a folder is a labelled set, or has some in it; what it holds is not looked at."""
    root = Path(path)
    if not root.is_dir():
        return False
    return is_sharded(root) or has_places(root)


def open_dataset(
    path: Path | str,
    *,
    folders: tuple[Path, Path] | None = None,
    lists: Mapping[str, Path] | None = None,
) -> Dataset:
    """Find the images, masks and splits of a labelled set; nothing is decoded.

    Parameters
    ----------
    path : Path or str
        The set's folder, in one of the layouts of `synth.layout`, or in shards.
    folders : (Path, Path), optional
        Where its images and its masks are, in place of looking for them.
    lists : mapping of str to Path, optional
        The list of each split, in place of looking for them; empty for none.

    Returns
    -------
    Dataset

    Raises
    ------
    DatasetError
        The folder, its images or its masks are missing, or several folders could be meant; it is
        a set of another tool, which the error names; a list is no UTF-8 text, or names an image
        that is absent, that has no mask, twice or in two splits; lists and folders disagree; two
        files share one id.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> from synth.frames import write_frame
    >>> with TemporaryDirectory() as folder:
    ...     root = Path(folder)
    ...     for place in ("images", "masks"):
    ...         (root / place).mkdir()
    ...         for id_ in ("a", "b", "c"):
    ...             write_frame(root / place / f"{id_}.png", np.eye(8, dtype=bool))
    ...     _ = (root / "train.txt").write_text("a\\nb\\n")
    ...     _ = (root / "test.txt").write_text("c\\n")
    ...     dataset = open_dataset(root)
    ...     image, mask = dataset.read_pair("c")
    >>> dataset.splits
    {'train': ('a', 'b'), 'test': ('c',)}
    >>> image.dtype.name, mask.sum().item()
    ('uint8', 8)
    """
    root = Path(path)
    if not root.is_dir():
        raise DatasetError(root, "is not a folder; give the data set's own folder")
    if is_sharded(root):
        index = read_index(root)
        found = _Members(index.rows, index.image), _Members(index.rows, index.mask)
        return Dataset(root, root.resolve().name, index.splits, True, *found)
    trees = Trees(_raise)
    if folders is None:
        places = find_places(root, trees)
        if not places:
            raise refuse(root)
    else:
        for folder in folders:
            if not trees[folder]:
                raise DatasetError(folder, f"holds no images ({', '.join(SUFFIXES)}); add them")
        places = divide_by_split(*folders, trees)
    return dataset_of(root, read_layout(root, places, trees, _raise, lists))


def _raise(problem: Problem) -> None:
    if problem.error is not None:
        raise problem.error
    if problem.fault == "folder linked twice":
        warnings.warn(problem.words, SkippedWarning, stacklevel=2)


def dataset_of(root: Path, layout: Layout) -> Dataset:
    """The data set that a layout is."""
    return Dataset(
        root,
        root.resolve().name,
        layout.splits,
        layout.listed,
        {id_: ImageFile(path) for id_, path in layout.images.items()},
        mask_files(layout.masks),
        layout.lists,
    )


def mask_files(masks: Mapping[str, Path]) -> dict[str, ImageFile]:
    """The files of masks by id, from their paths."""
    return {id_: ImageFile(path) for id_, path in masks.items()}
