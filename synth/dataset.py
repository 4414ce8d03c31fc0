"""Labelled sets on disk: find images, masks and splits in every public layout.

Read without any setting:

- ``images/`` and ``masks/`` (or one of the other names in `IMAGE_FOLDERS`, `MASK_FOLDERS`, as
  ``IRSTD1k_Img`` and ``IRSTD1k_Label``), masks named as their image or with the suffix
  ``_pixels0``, PNG, BMP, JPEG or TIFF;
- splits in ``50_50/train.txt`` and ``test.txt`` (DNA-Net and its family; any ``<a>_<b>`` folder),
  ``img_idx/train_<name>.txt`` (BasicIRSTD), ``trainval.txt`` or ``train.txt`` and ``test.txt``
  beside the folders or in a subfolder that starts with ``idx``; no list at all means that every
  image is for training;
- sets in shards, see `synth.shards`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from synth.errors import DatasetError
from synth.frames import SUFFIXES, Frame, ImageFile, Mask, natural_key
from synth.masks import STANDARD, Label, MaskConvention, MaskFile, decide_convention
from synth.shards import DESCRIPTION, is_sharded, manifest_files, read_index

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "irstd1k_img")
MASK_FOLDERS = ("masks", "mask", "labels", "label", "gt", "groundtruth", "irstd1k_label")
MASK_SUFFIX = "_pixels0"
SPLITS = ("train", "val", "test")

FEW_TARGETS = 0.2
"""Share of training images with a target below which there is a warning."""

File = TypeVar("File", ImageFile, MaskFile)


@dataclass(frozen=True)
class Dataset:
    """A labelled set: where its images and masks lie, and which ids are for what.

    Attributes
    ----------
    root : Path
        Its folder.
    name : str
        The folder's own name.
    splits : mapping of str to tuple of str
        Ids of ``train``, ``test`` and, where there is a list, ``val``, in the lists' order.
    listed : bool
        Whether a split list was found; without one every image is in ``train``.
    images, masks : mapping of str to ImageFile and to MaskFile
        Every image and mask file of the set, by id; those in no split included.
    convention : MaskConvention
        What the values of its masks mean.
    """

    root: Path
    name: str
    splits: Mapping[str, tuple[str, ...]]
    listed: bool
    images: Mapping[str, ImageFile] = field(repr=False)
    masks: Mapping[str, MaskFile] = field(repr=False)
    convention: MaskConvention = STANDARD

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

    def image_file(self, id_: str) -> ImageFile:
        """File of an image; `DatasetError` for an id that has none."""
        return self._file(self.images, id_, "image")

    def mask_file(self, id_: str) -> MaskFile:
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

    @property
    def notes(self) -> list[str]:
        """What a user of its masks should know."""
        faint = self.convention.faint
        if not faint:
            return []
        return [
            f"{self.root}: {faint:,} spots in grey masks do not reach half of "
            f"{self.convention.target} and are background; `synth check` names their masks"
        ]

    def manifests(self) -> list[Path]:
        """The files that say what each image was made from; none for a set that was not built."""
        if is_sharded(self.root):
            return manifest_files(self.root)
        path = self.root / "manifest.jsonl"
        return [path] if path.is_file() else []

    def _file(self, files: Mapping[str, File], id_: str, what: str) -> File:
        try:
            return files[id_]
        except KeyError:
            raise DatasetError(self.root, f"has no {what} for id {id_!r}") from None


class _Members(Mapping[str, File], Generic[File]):
    """The files of a set in shards by id; each is looked up when it is asked for."""

    def __init__(self, ids: Collection[str], find: Callable[[str], File]) -> None:
        self._ids = ids
        self._find: Callable[[str], File] = find

    def __getitem__(self, id_: str) -> File:
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


def require_targets(root: Path | str, marked: int, total: int) -> str | None:
    """Test that training images have targets.

    Parameters
    ----------
    root : Path or str
        The set, for messages.
    marked, total : int
        Number of training images with a target, and of all.

    Returns
    -------
    str or None
        A warning where fewer than `FEW_TARGETS` of them have one.

    Raises
    ------
    DatasetError
        There are training images, and none has a target.
    """
    if total and not marked:
        raise DatasetError(
            root,
            f"none of its {total:,} training masks marks a target, so there is nothing to learn; "
            "look at the masks",
        )
    if marked < FEW_TARGETS * total:
        return f"{root}: only {marked:,} of {total:,} training images have a target"
    return None


def is_labelled(path: Path | str) -> bool:
    """Whether a folder has a folder of images and one of masks in it, or is a set in shards."""
    root = Path(path)
    if not root.is_dir():
        return False
    if is_sharded(root):
        return True
    inside = {child.name.lower() for child in root.iterdir() if child.is_dir()}
    return bool(inside & set(IMAGE_FOLDERS)) and bool(inside & set(MASK_FOLDERS))


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
        The set's folder, in one of the layouts of this module.
    folders : (Path, Path), optional
        Where its images and its masks lie, in place of looking for them.
    lists : mapping of str to Path, optional
        The list of each split, in place of looking for them; empty for none.
    label : int or "any", optional
        What marks targets, see `synth.masks.parse_label`, where masks hold several labels.

    Returns
    -------
    Dataset

    Raises
    ------
    DatasetError
        The folder, its images or its masks are missing; a list names an id that is absent, that
        has no mask, twice, in two splits, or with a path in it; two files share one id; masks hold
        several labels, see `synth.masks.decide_convention`.

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
        images: Mapping[str, ImageFile] = _Members(index.rows, index.image)
        masks: Mapping[str, MaskFile] = _Members(index.rows, index.mask)
        return Dataset(root, root.resolve().name, index.splits, True, images, masks)
    image_folder, mask_folder = folders or (
        _subfolder(root, IMAGE_FOLDERS, "images"),
        _subfolder(root, MASK_FOLDERS, "masks"),
    )
    images = _by_id(image_folder)
    found = {
        id_.removesuffix(MASK_SUFFIX) if id_.removesuffix(MASK_SUFFIX) in images else id_: file
        for id_, file in _by_id(mask_folder).items()
    }
    if lists is None:
        lists = find_lists(root)
    splits: dict[str, tuple[str, ...]]
    if lists:
        splits = {name: _read_list(file, images) for name, file in lists.items()}
        splits = {name: splits.get(name, ()) for name in SPLITS if name in splits or name != "val"}
        _require_disjoint(splits, lists)
    else:
        splits = {"train": tuple(sorted(images, key=natural_key)), "test": ()}
    for ids in splits.values():
        for id_ in ids:
            if id_ not in found:
                raise DatasetError(
                    images[id_].path, "has no mask; add one, or take its id off the list"
                )
    masks, convention = with_convention(root, found, images, label)
    return Dataset(root, root.resolve().name, splits, bool(lists), images, masks, convention)


def with_convention(
    root: Path,
    files: Mapping[str, ImageFile],
    ids: Collection[str],
    label: Label | None,
    own: bool | None = None,
) -> tuple[dict[str, MaskFile], MaskConvention]:
    """Give every mask file of a set its convention, which those of `ids` decide.

    What this package builds needs no second look, since each mask is tested when it is read; `own`
    says whether it did, where that is not to be looked for.

    Raises
    ------
    DatasetError
        See `synth.masks.decide_convention`.
    """
    convention = STANDARD
    if label is not None or not (_is_own(root) if own is None else own):
        used = [file for id_, file in files.items() if id_ in ids]
        convention = decide_convention(root, used, label)
    return {id_: MaskFile(file, convention) for id_, file in files.items()}, convention


def _is_own(root: Path) -> bool:
    """Whether this package wrote a set, as its description says; other tools have the same name."""
    try:
        return "sirst-synth" in json.loads((root / DESCRIPTION).read_bytes())["versions"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def _subfolder(root: Path, names: Sequence[str], wanted: str) -> Path:
    inside = {child.name.lower(): child for child in sorted(root.iterdir()) if child.is_dir()}
    for name in names:
        if name in inside:
            return inside[name]
    raise DatasetError(root, f"has no folder of {wanted}; it is looked for as {', '.join(names)}")


def _by_id(folder: Path) -> dict[str, ImageFile]:
    found: dict[str, ImageFile] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() not in SUFFIXES or file.name.startswith("."):
            continue
        if not file.stem.isprintable() or file.stem != file.stem.strip():
            raise DatasetError(
                folder, f"has a file called {file.name!a}, which no list can name; rename it"
            )
        if file.stem in found:
            raise DatasetError(file, f"shares its id with {found[file.stem].path.name}; remove one")
        found[file.stem] = ImageFile(file)
    if not found:
        raise DatasetError(folder, f"holds no images ({', '.join(SUFFIXES)})")
    return found


def find_lists(root: Path) -> dict[str, Path]:
    """Find the list file of each split in the first layout that has any.

    Raises
    ------
    DatasetError
        ``img_idx`` has several lists of one split, and none of the folder's name.
    """
    folders = [child for child in sorted(root.iterdir()) if child.is_dir()]
    ratios = [child for child in folders if re.fullmatch(r"\d+_\d+", child.name)]
    # Half and half is what every published table uses, so it goes before other ratios.
    ratios.sort(key=lambda child: child.name != "50_50")
    for folder in [*ratios, root, *(f for f in folders if f.name.startswith("idx"))]:
        lists = _lists_in(folder)
        if lists:
            return lists
    if (root / "img_idx").is_dir():
        return _named_lists(root / "img_idx", root.resolve().name)
    return {}


def _lists_in(folder: Path) -> dict[str, Path]:
    names = {"train": ("train.txt", "trainval.txt"), "val": ("val.txt",), "test": ("test.txt",)}
    lists = {
        split: folder / name
        for split, options in names.items()
        for name in reversed(options)
        if (folder / name).is_file()
    }
    # `trainval` holds `val` already.
    if lists.get("train", folder).name == "trainval.txt":
        lists.pop("val", None)
    return lists


def _named_lists(folder: Path, name: str) -> dict[str, Path]:
    lists: dict[str, Path] = {}
    for split in SPLITS:
        files = sorted(folder.glob(f"{split}_*.txt"))
        own = [file for file in files if file.stem == f"{split}_{name}"]
        if len(files) > 1 and not own:
            raise DatasetError(
                folder,
                f"has {len(files)} {split} lists and none is called {split}_{name}.txt; "
                "keep one, or name the folder as the list",
            )
        if files:
            lists[split] = (own or files)[0]
    return lists


def _read_list(file: Path, images: Mapping[str, ImageFile]) -> tuple[str, ...]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(file, f"cannot be read as a list of ids ({error})") from None
    ids: list[str] = []
    seen: set[str] = set()
    for line in text.splitlines():
        entry = line.strip()
        if not entry:
            continue
        # An id may itself end as a file does.
        bare = entry not in images and Path(entry).suffix.lower() in SUFFIXES
        id_ = Path(entry).stem if bare else entry
        if "/" in entry or "\\" in entry or id_ in (".", ".."):
            raise DatasetError(file, f"names {entry!r:.80}; an id is a plain name without folders")
        if id_ not in images:
            raise DatasetError(file, f"names id {id_!r:.80}, which has no image")
        if id_ in seen:
            raise DatasetError(file, f"names id {id_!r:.80} twice; remove one of the lines")
        seen.add(id_)
        ids.append(id_)
    return tuple(ids)


def _require_disjoint(splits: Mapping[str, Sequence[str]], lists: Mapping[str, Path]) -> None:
    home: dict[str, str] = {}
    for name, ids in splits.items():
        for id_ in ids:
            if id_ in home:
                raise DatasetError(
                    lists[name],
                    f"names id {id_!r}, which is in {home[id_]} too; keep it in one",
                )
            home[id_] = name
