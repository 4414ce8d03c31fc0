"""Where in an unpacked archive a public set lies, and which split it comes with."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from pipelines.build.parallel import Pool
from pipelines.errors import FetchError
from pipelines.fetch.sets import PublicSet
from synth.dataset import Dataset, open_dataset
from synth.disk.layout import IMAGE_FOLDERS, MASK_FOLDERS, find_lists
from synth.errors import RecipeError
from synth.frames import SUFFIXES, ImageFile, frame_shape, write_frame
from synth.inspect.splits import group_by_likeness, scene_signature, split_groups
from synth.masks import MaskFile

SEED = 0
TEST_SHARE = 0.2

_DEEPEST = 6


@dataclass(frozen=True)
class Place:
    """A set's folder, and those of its images and masks, below it."""

    root: Path
    images: Path
    masks: Path


def find_set(unpacked: Path, public: PublicSet) -> Place:
    """Find a public set in an unpacked archive, which may hold other sets as well.

    Raises
    ------
    FetchError
        There is no such set, or several that could be it.
    """
    pictures = list(_picture_folders(unpacked))
    masks = [f for f in pictures if f.name.lower() in MASK_FOLDERS]
    images = [f for f in pictures if public.images and f.name == public.images]
    images = images or [f for f in pictures if f.name.lower() in IMAGE_FOLDERS]
    places = [_nearest(folder, masks) for folder in images] if masks else []
    if not places:
        raise FetchError(
            f"{public.name}: the archive has no folder of images beside one of masks (looked for "
            f"as {public.images or ', '.join(IMAGE_FOLDERS)}; {', '.join(MASK_FOLDERS)}); is it "
            "the right one?"
        )
    # An archive of several sets has each in a folder of its name.
    named = [place for place in places if _is_called(place.images, unpacked, public)]
    places = named or places
    if len(places) > 1:
        names = ", ".join(str(place.images.relative_to(unpacked)) for place in places[:4])
        raise FetchError(
            f"{public.name}: the archive has several sets ({names}); unpack it, and give the "
            "folder of the right one with --archive"
        )
    return places[0]


def open_set(
    place: Place, public: PublicSet, lists: Path | None, pool: Pool
) -> tuple[Dataset, str]:
    """Open a set that was found, with the first split that there is.

    The split is of the folder `lists`, else the archive's own, else a random one of scenes.

    Returns
    -------
    Dataset
    str
        Where the split is from, for people.

    Raises
    ------
    FetchError
        `lists` has none.
    DatasetError
        Images, masks and lists do not fit together.
    """
    folders = (place.images, place.masks)
    if lists is not None:
        dataset = open_dataset(place.root, folders=folders, lists=lists_in(lists))
        return dataset, f"the lists in {lists.resolve().name}"
    own = {split: place.root / name for split, name in public.lists.items()}
    if own and all(file.is_file() for file in own.values()):
        dataset = open_dataset(place.root, folders=folders, lists=own)
        return dataset, f"the archive's own, {next(iter(public.lists.values())).split('/')[0]}"
    found = find_lists(place.root)
    if found:
        dataset = open_dataset(place.root, folders=folders, lists=found)
        folder = next(iter(found.values())).parent
        where = folder.name if folder != place.root else "beside the images"
        return dataset, f"the archive's own, {where}"
    return _split_anew(open_dataset(place.root, folders=folders, lists={}), pool)


def lists_in(folder: Path) -> dict[str, Path]:
    """The list of each split in a folder that a person gives.

    Raises
    ------
    FetchError
        There is none.
    """
    found = find_lists(folder) if folder.is_dir() else {}
    if not found:
        raise FetchError(f"{folder}: has no train.txt and test.txt; give a folder that has")
    return found


def refit_masks(dataset: Dataset, public: PublicSet, into: Path) -> tuple[Dataset, list[str]]:
    """Bring the masks that are known to have another size to that of their images.

    Only those that the set names are touched, and only where the sizes do differ; the nearest
    pixel is taken. The new files go into a folder of their own.

    Returns
    -------
    Dataset
    list of str
        The ids of these masks.
    """
    masks = dict(dataset.masks)
    changed = []
    for id_ in public.refit:
        if id_ not in dataset.images or id_ not in masks:
            continue
        image = dataset.image_file(id_)
        height, width = frame_shape(image.read(), image.path)
        mask = dataset.read_mask(id_)
        if mask.shape != (height, width):
            values = cv2.resize(
                mask.view(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST
            )
            masks[id_] = MaskFile(ImageFile(into / f"{id_}.png"))
            write_frame(masks[id_].path, values.astype(bool))
            changed.append(id_)
    return replace(dataset, masks=masks), changed


def _picture_folders(root: Path) -> Iterator[Path]:
    """Folders with image files right in them; links are not followed."""
    for folder, inside, names in os.walk(root):
        inside.sort()
        path = Path(folder)
        if len(path.relative_to(root).parts) >= _DEEPEST:
            inside.clear()
        if any(Path(name).suffix.lower() in SUFFIXES and name[0] != "." for name in names):
            yield path


def _nearest(images: Path, masks: list[Path]) -> Place:
    """The folder of masks that shares most of its path with one of images."""
    common = {folder: Path(os.path.commonpath([images, folder])) for folder in masks}
    best = max(masks, key=lambda folder: len(common[folder].parts))
    return Place(common[best], images, best)


def _is_called(folder: Path, root: Path, public: PublicSet) -> bool:
    names = (re.sub(r"[^a-z0-9]", "", part.lower()) for part in folder.relative_to(root).parts)
    return any(name in public.aliases for name in names)


def _split_anew(dataset: Dataset, pool: Pool) -> tuple[Dataset, str]:
    """A fifth of the scenes for testing."""
    ids = dataset.ids("train")
    signatures = dict(
        zip(ids, pool.map(lambda id_: scene_signature(dataset.read_image(id_)), ids), strict=True)
    )
    try:
        splits = split_groups(group_by_likeness(signatures), TEST_SHARE, seed=SEED)
    except RecipeError:
        return dataset, "none: the archive has no lists, and its images are all of one scene"
    words = f"made here: the archive has none; {TEST_SHARE:.0%} of the scenes test, seed {SEED}"
    return replace(dataset, splits=splits, listed=True), words
