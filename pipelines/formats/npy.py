"""Images beside masks that are NumPy arrays (``.npy``); only read.

The folders are named as those of any labelled set (`synth.dataset`), at the top or in a folder a
split. A mask is bool or of whole numbers, (H, W) or (1, H, W). One value beside 0 marks targets,
decided over all masks of the set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.formats.sample import (
    Format,
    Found,
    Loaded,
    count_unused,
    files_by_image,
    images_below,
    loaded,
    read_list,
)
from synth.dataset import require_same_size
from synth.disk.layout import (
    IMAGE_FOLDERS,
    MASK_FOLDERS,
    MASK_SUFFIX,
    find_lists,
    require_one_split,
)
from synth.disk.split_names import split_told
from synth.errors import DatasetError
from synth.frames import frame_shape, read_array, read_bytes

# Values that an error lists.
_LISTED = 8


def read(root: Path, notes: Counter[str]) -> Iterator[Found]:
    """Every image with its array, in the splits of the set's lists or of its folders.

    Raises
    ------
    DatasetError
        There are no such folders, an image or an array has no partner, a list names what is not
        there, or the arrays hold several labels.
    """
    places = [
        (split, place)
        for place in (sorted(root.iterdir()) if root.is_dir() else [])
        if (split := split_told(place.name)) and _subfolder(place, IMAGE_FOLDERS)
    ]
    used: set[Path] = set()
    for split, place in places or [("train", root)]:
        images = _images(place)
        arrays = _arrays(place, images)
        splits = {split: list(images)}
        if not places and (lists := find_lists(root)):
            splits = {name: read_list(file) for name, file in lists.items()}
        elif not places:
            require_one_split(root, images.values())
        _require_one_label(root, arrays)
        for name, ids in splits.items():
            for id_ in ids:
                if id_ not in images:
                    raise DatasetError(root, f"has no image for id {id_!r:.80} of its lists")
                used.add(images[id_])
                load = partial(_load, images[id_], arrays[id_])
                yield Found(id_, name, load, source=images[id_])
    notes["unlisted"] += count_unused(root, used)


def _subfolder(root: Path, names: tuple[str, ...]) -> Path | None:
    inside = {path.name.lower(): path for path in root.iterdir()} if root.is_dir() else {}
    return next((inside[name] for name in names if name in inside), None)


def _images(root: Path) -> Mapping[str, Path]:
    folder = _subfolder(root, IMAGE_FOLDERS)
    if folder is None or not folder.is_dir() or folder.is_symlink():
        raise DatasetError(root, f"has no folder of images ({', '.join(IMAGE_FOLDERS)})")
    return images_below(folder, nested=False)


def _arrays(root: Path, images: Mapping[str, Path]) -> dict[str, Path]:
    """The arrays by the ids of their images."""
    folder = _subfolder(root, MASK_FOLDERS)
    if folder is None or not folder.is_dir() or folder.is_symlink():
        raise DatasetError(root, f"has no folder of masks ({', '.join(MASK_FOLDERS)})")
    found = files_by_image(folder, (".npy",), images, MASK_SUFFIX)
    for id_, image in images.items():
        if id_ not in found:
            raise DatasetError(image, f"has no mask {folder.name}/{id_}.npy; add one")
    return found


def _require_one_label(root: Path, arrays: Mapping[str, Path]) -> None:
    holders: dict[int, Path] = {}
    for path in arrays.values():
        for value in np.unique(_read_array(path)).tolist():
            if value:
                holders.setdefault(int(value), path)
    if len(holders) > 1:
        values = ", ".join(f"{v} ({holders[v].name})" for v in sorted(holders)[:_LISTED])
        raise DatasetError(
            root,
            f"its masks hold {len(holders):,} labels, {values}; save those of one as bool",
        )


def _read_array(path: Path) -> NDArray[Any]:
    """Read an array (H, W) of bool or whole numbers from 0 on."""
    values = read_array(path)
    if values.dtype.kind not in "biu":
        raise DatasetError(path, f"holds {values.dtype} values; save the mask as bool")
    if values.dtype.kind == "i" and values.min() < 0:
        raise DatasetError(path, f"holds {values.min()}; save the mask as bool")
    return values


def _load(image_path: Path, path: Path) -> Loaded:
    image = read_bytes(image_path)
    shape = frame_shape(image, image_path)
    values = _read_array(path)
    require_same_size(path, values.shape, shape)
    return loaded(image, image_path, values != 0)


NPY = Format("npy", read)
