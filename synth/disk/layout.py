"""Where the images and masks of a labelled set are, and which splits its folders and lists give.

Read without any setting, with folders of any of the names in `IMAGE_FOLDERS` and `MASK_FOLDERS`:

- ``images/`` and ``masks/``, with folders of recordings in both: ``images/rec1/0001.png`` and
  ``masks/rec1/0001.png`` are the pair ``rec1_0001``;
- ``<split>/images`` and ``<split>/masks``, or ``images/<split>`` and ``masks/<split>``, with the
  names in `synth.disk.split_names.FOLDERS`. Where two splits have a file of one name, every id has
  its split in front, as ``train_0001``;
- masks named as their image, or with the suffix ``_pixels0``;
- lists of splits in ``50_50/train.txt`` and ``test.txt`` (DNA-Net and its family; any ``<a>_<b>``
  folder), ``img_idx/train_<name>.txt`` (BasicIRSTD), ``trainval.txt`` or ``train.txt`` and
  ``test.txt`` beside the folders or in a subfolder that starts with ``idx``. Lists beside split
  folders have to agree with them; without both, every image is for training, unless other files
  or the images' names tell of splits, see `require_one_split`.

An image and a mask are a pair only if they are in the same place below their folders.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from synth.disk.folders import Folder, child_folders, folder_key, walk_folders
from synth.disk.foreign import describe_foreign
from synth.disk.split_names import SPLITS, split_named, split_told, splits_told
from synth.errors import DatasetError
from synth.frames import SUFFIXES, natural_key

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "img_dir", "irstd1k_img")
MASK_FOLDERS = ("masks", "mask", "labels", "label", "gt", "groundtruth", "ann_dir", "irstd1k_label")
MASK_SUFFIX = "_pixels0"

MASK_WORD = r"(?:masks?|labels?|gts?|ground_?truths?|seg(?:mentation)?s?|annotations?|pixels\d)"
_MASK_NAME = re.compile(rf"^{MASK_WORD}[-_. ]+|[-_. ]+{MASK_WORD}$", re.IGNORECASE)
_SHOWN = 6


class _Key(NamedTuple):
    """Split, folders below the one of images or masks, and name: what a pair has in common."""

    split: str | None
    parts: tuple[str, ...]
    stem: str

    def label(self, path: Path) -> str:
        """What a row calls a file: by its name where that tells it from all others."""
        return path.name if self.split is None and not self.parts else str(path)


@dataclass(frozen=True, slots=True)
class Problem:
    """One case of a fault: its name in `check.FAULTS`, words on it, the ids that it is about.

    `error` is what `open_dataset` raises for it, None where it reads on.
    """

    fault: str
    words: str
    ids: tuple[str, ...] = ()
    error: DatasetError | None = None


Note = Callable[[Problem], None]
"""Called with every problem; it raises the problem's error, or keeps it and returns."""


@dataclass(frozen=True, slots=True)
class Place:
    """The folder of images and the folder of masks of one split, or of all where `split` is None.

    `masks` is None where there are none for these images.
    """

    split: str | None
    images: Path
    masks: Path | None


@dataclass(frozen=True, slots=True)
class Layout:
    """The files and splits of a set.

    Attributes
    ----------
    images, masks : mapping of str to Path
        Files by id; masks of images alone.
    splits : mapping of str to tuple of str
        Ids by split; each has an image and a mask.
    listed : bool
        Whether folders or lists give the splits; else every image is in ``train``.
    lists : mapping of str to Path
        The list of each split that has one.
    """

    images: Mapping[str, Path]
    masks: Mapping[str, Path]
    splits: Mapping[str, tuple[str, ...]]
    listed: bool
    lists: Mapping[str, Path]


def file_id(path: Path, base: Path) -> str:
    """The id of a file below a folder: its folders and its name, joined by ``_``.

    It is in Unicode's composed form (NFC), whichever form the file system keeps.

    Examples
    --------
    >>> file_id(Path("set/images/rec1/0001.png"), Path("set/images"))
    'rec1_0001'
    """
    return _composed("_".join(path.relative_to(base).with_name(path.stem).parts))


def stripped_mask_name(stem: str) -> str:
    """A mask's name without the word that says that it is one: ``7`` of ``7_mask``."""
    return _MASK_NAME.sub("", stem)


# Where the folders are.


class Trees:
    """The folders of pictures below other folders; each is looked at once.

    Links that are skipped become problems.
    """

    def __init__(self, note: Note) -> None:
        self.note = note
        self._known: dict[Path, tuple[Folder, ...]] = {}

    def __getitem__(self, folder: Path) -> tuple[Folder, ...]:
        if folder not in self._known:
            found = walk_folders(folder, self.note_link)
            self._known[folder] = tuple(inside for inside in found if inside.names)
        return self._known[folder]

    def note_link(self, path: Path, why: str, missing: bool) -> None:
        """What `walk_folders` calls."""
        fault = "broken link" if missing else "folder linked twice"
        error = DatasetError(path, why) if missing else None
        self.note(Problem(fault, f"{path} {why}", error=error))

    def note_known(self, path: Path, why: str, missing: bool) -> None:
        """The same, for links that are called as a folder of a set is; others do not matter."""
        if split_named(path.name) or _is_known(path):
            self.note_link(path, why, missing)

    def with_pictures(self, folders: Iterable[Path], names: Collection[str]) -> list[Path]:
        """Those of these names that hold pictures, each under its own name if it has two."""
        found: dict[tuple[int, int], Path] = {}
        named = [folder for folder in folders if folder.name.lower() in names]
        for folder in sorted(named, key=lambda folder: (folder.is_symlink(), folder.name)):
            if self[folder]:
                found.setdefault(folder_key(folder), folder)
        return list(found.values())


def find_places(root: Path, trees: Trees) -> tuple[Place, ...]:
    """Find the folders of images and masks of a set by their names; none where there are none.

    Folders without a picture in them do not count.

    Raises
    ------
    DatasetError
        Several folders could be meant, or folders of splits do not go together.
    """
    children = child_folders(root, trees.note_known)
    images, masks = (trees.with_pictures(children, names) for names in _KNOWN.values())
    splits = [child for child in children if split_named(child.name) and _holds_picture(child)]
    if not images and not masks:
        places, found = _places_of_splits(splits, trees), splits
    else:
        if splits:
            raise undecided(root, [*images, *masks, *splits])
        image_folder, mask_folder = _only(root, images, "images"), _only(root, masks, "masks")
        if image_folder is None or mask_folder is None:
            return ()
        places = divide_by_split(image_folder, mask_folder, trees)
        found = [image_folder, mask_folder]
    unknown = [child for child in children if child not in splits and not _is_known(child)]
    if places and (others := list(filter(_is_set, unknown))):
        raise undecided(root, [*found, *others])
    return places


def refuse(root: Path) -> DatasetError:
    """The error of a folder in which `find_places` found nothing."""
    inside = [folder for folder in _sets_below(root, _DEEPEST) if _is_set(folder)]
    around = {folder.parent for folder in inside}
    if len(inside) > 1 and len(around) == 1 and root not in around:
        # The splits of one set.
        inside = list(around) if any(split_named(folder.name) for folder in inside) else inside
    if len(inside) > 1:
        return undecided(root, inside)
    if inside:
        return DatasetError(
            root, f"has no images and masks right in it; give {inside[0]}, which has, as data set"
        )
    if foreign := describe_foreign(root):
        return DatasetError(root, foreign)
    children = child_folders(root)
    for wanted, names in _KNOWN.items():
        named = [child for child in children if child.name.lower() in names]
        if not named:
            return DatasetError(
                root, f"has no folder of {wanted}; give it one of the names {', '.join(names)}"
            )
        if not any(map(_holds_picture, named)):
            return DatasetError(named[0], f"holds no images ({', '.join(SUFFIXES)}); add them")
    return DatasetError(root, "has no folder of images with one of masks beside it; add them")


def has_places(root: Path) -> bool:
    """Whether a folder, or one in it, has folders called as those of images and of masks."""
    return next(_sets_below(root, _DEEP), None) is not None


_KNOWN = {"images": IMAGE_FOLDERS, "masks": MASK_FOLDERS}
_DEEP, _DEEPEST = 2, 3


def _is_known(folder: Path) -> bool:
    return folder.name.lower() in (*IMAGE_FOLDERS, *MASK_FOLDERS)


def _sets_below(folder: Path, deepest: int) -> Iterator[Path]:
    """Folders that have both a folder called as one of images and one of masks in them."""
    children = child_folders(folder)
    names = {child.name.lower() for child in children}
    if all(names & set(known) for known in _KNOWN.values()):
        yield folder
    for child in children if deepest else ():
        if not _is_known(child):
            yield from _sets_below(child, deepest - 1)


def _is_set(folder: Path) -> bool:
    children = child_folders(folder)
    return all(
        any(child.name.lower() in names and _holds_picture(child) for child in children)
        for names in _KNOWN.values()
    )


def _holds_picture(folder: Path) -> bool:
    return any(inside.names for inside in walk_folders(folder))


def undecided(root: Path, folders: Sequence[Path]) -> DatasetError:
    """The error of a folder in which several others could be meant."""
    more = f" and {len(folders) - _SHOWN} more" if len(folders) > _SHOWN else ""
    shown = ", ".join(map(str, folders[:_SHOWN])) + more
    return DatasetError(
        root,
        f"has several folders that could be meant ({shown}); give one of them as data set, or move "
        "the others out",
    )


def _only(root: Path, folders: Sequence[Path], wanted: str) -> Path | None:
    if len(folders) > 1:
        shown = ", ".join(map(str, folders))
        raise DatasetError(
            root, f"has several folders of {wanted} ({shown}); keep one, and move the others out"
        )
    return folders[0] if folders else None


def _places_of_splits(folders: Sequence[Path], trees: Trees) -> tuple[Place, ...]:
    """``train/{images,masks}`` beside ``test/{images,masks}``."""
    pairs = []
    for folder in folders:
        children = child_folders(folder, trees.note_known)
        pairs.append(
            [
                _only(folder, trees.with_pictures(children, names), wanted)
                for wanted, names in _KNOWN.items()
            ]
        )
    whole = next((folder for folder, pair in zip(folders, pairs, strict=True) if all(pair)), None)
    if whole is None:
        return ()
    places = []
    for (split, folder), (images, masks) in zip(_by_split(folders).items(), pairs, strict=True):
        if images is None:
            raise DatasetError(
                folder,
                f"has pictures, but no folder of images right in it, as {whole} has; add one, "
                "or move it out",
            )
        places.append(Place(split, images, masks))
    return _in_order(places)


def _in_order(places: Iterable[Place]) -> tuple[Place, ...]:
    return tuple(sorted(places, key=lambda place: SPLITS.index(place.split or "train")))


def _by_split(folders: Sequence[Path]) -> dict[str, Path]:
    """Folders by the split that each is called after; no two may be of one."""
    found: dict[str, Path] = {}
    for folder in folders:
        split = str(split_named(folder.name))
        other = found.setdefault(split, folder)
        if other is folder and folder.name.lower() == "trainval":
            # What it holds of `val` would be in both.
            other = next((one for one in folders if split_named(one.name) == "val"), folder)
        if other is not folder:
            raise DatasetError(
                folder, f"holds the same split as {other}; put their files into one of them"
            )
    return found


def divide_by_split(images: Path, masks: Path, trees: Trees) -> tuple[Place, ...]:
    """The places of one folder of images and one of masks, which may have splits in them.

    They may be one folder, where names tell masks from images.

    Raises
    ------
    DatasetError
        There are pictures beside the folders of splits, or only one of the two has any.
    """
    of_images, of_masks = (_split_folders(folder, trees) for folder in (images, masks))
    if not of_images and not of_masks:
        return (Place(None, images, masks),)
    for split, folder in of_masks.items():
        if split not in of_images:
            raise DatasetError(
                folder, f"has no folder beside it in {images}; put the images of {split} into one"
            )
    if not of_masks:
        raise DatasetError(
            masks,
            f"has no folders of splits, as {images} has; put the masks into {', '.join(of_images)}",
        )
    return _in_order(Place(split, of_images[split], of_masks.get(split)) for split in of_images)


def _split_folders(folder: Path, trees: Trees) -> dict[str, Path]:
    """The folders of splits in a folder of images or masks, which hold all of its pictures."""
    tops = {inside.parts[0] for inside in trees[folder] if inside.parts}
    named = [folder / name for name in sorted(tops) if split_named(name)]
    others = [
        inside.path
        for inside in trees[folder]
        if not inside.parts or split_named(inside.parts[0]) is None
    ]
    if named and others:
        raise undecided(folder, [*named, *others])
    return _by_split(named)


# Which files are in them.


def read_layout(
    root: Path, places: Sequence[Place], trees: Trees, lists: Mapping[str, Path] | None = None
) -> Layout:
    """Pair the files of the folders of a set, and read its splits.

    Parameters
    ----------
    root : Path
    places : sequence of Place
        See `find_places`.
    trees : Trees
        Its `note` is called with every `Problem`.
    lists : mapping of str to Path, optional
        The list of each split, in place of looking for them; empty for none.

    Raises
    ------
    DatasetError
        A folder would be read twice, or has splits below recordings; all would be for training
        although something tells of splits, see `require_one_split`.
    """
    _require_apart(places, trees)
    reading = _Reading(root, places, trees, lists)
    reading.find_files()
    reading.match()
    reading.name()
    if reading.by_folder:
        splits = reading.splits_of_folders()
    elif reading.lists:
        splits = {split: reading.read_list(file, split) for split, file in reading.lists.items()}
    else:
        _require_no_split_told(reading.images)
        if lists is None:
            require_one_split(root, reading.images.values())
        trees.note(Problem("no list of splits", root.name))
        splits = {"train": tuple(sorted(reading.paths, key=natural_key))}
    splits = reading.only_pairs(splits)
    reading.note_renamed({id_ for members in splits.values() for id_ in members})
    listed = reading.by_folder or bool(reading.lists)
    return Layout(reading.paths, reading.masks_by_id(), splits, listed, reading.lists)


def _require_no_split_told(images: Mapping[_Key, Path]) -> None:
    """Without lists all is training, so no folder may be called as what is held out."""
    for key in images:
        for name in key.parts:
            if split_told(name) in ("val", "test"):
                raise DatasetError(
                    images[key].parent,
                    f"is called {name}, as a split, but is in no split; call the folders of splits "
                    "train, val and test, or write lists beside images and masks",
                )


def require_one_split(
    root: Path,
    images: Iterable[Path],
    advice: str = "write ids to train.txt and test.txt in the set's folder",
    read: Collection[Path] = (),
) -> None:
    """Test that nothing tells of splits in a set whose images are all for training.

    Parameters
    ----------
    root : Path
        The set, in which lists are looked for.
    images : iterable of Path
    advice : str
        What the error says to do.
    read : collection of Path
        Files that have been read, and are no lists that were missed.

    Raises
    ------
    DatasetError
        Each image's name has a split in it, and not all the same; or a file of text names some of
        the images, and its name or a word in it is a split's.
    """
    stems: set[str] = set()
    folders: set[str] = set()
    told: dict[str | None, Path] = {}
    for path in images:
        stems.add(_composed(path.stem))
        folders.add(_composed(path.parent.name))
        told.setdefault(split_told(path.stem), path)
    if len(told) > 1 and None not in told:
        shown = ", ".join(path.name for path in told.values())
        raise DatasetError(root, f"has images called as splits ({shown}) and no lists; {advice}")
    # What this package writes beside a set that is not divided.
    own = {root / name for name in _OWN}
    passed = {*read, *own} if all(file.is_file() for file in own) else {*read}
    for file in _texts_below(root, _DEEP):
        known = file in passed or file.stem in stems
        if not known and _lists_split(file, root, stems, folders - set(IMAGE_FOLDERS)):
            raise DatasetError(
                file,
                f"names images and a split, and is not read as a list; {advice}, or move the "
                "file out",
            )


_OWN = ("dataset.json", "manifest.jsonl")
_TEXTS = (".txt", ".csv", ".tsv", ".lst", ".list", ".json", ".jsonl")
# Bytes of a text file that are searched for ids and splits; longer lists are cut here.
_READ = 1 << 22


def _texts_below(folder: Path, deepest: int) -> Iterator[Path]:
    for name in sorted(child.name for child in folder.iterdir()):
        if name[0] != "." and name[name.rfind(".") :].lower() in _TEXTS:
            yield folder / name
    for child in child_folders(folder) if deepest else ():
        yield from _texts_below(child, deepest - 1)


def _lists_split(file: Path, root: Path, stems: Collection[str], folders: Collection[str]) -> bool:
    """Whether a file names images of a set, or recordings, and a split that not all are in."""
    try:
        with file.open("rb") as opened:
            data = opened.read(_READ)
    except OSError:
        return False
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = data.decode("utf-16" if wide else "utf-8-sig", "replace")
    if file.suffix.lower().startswith(".json"):
        lines = [[word] for word in re.findall(r'"((?:[^"\\]|\\.)*)"', text)]
    else:
        lines = [re.split(r"[\s,;|\"']+", line) for line in text.splitlines() if line.strip()]
    named: set[str] = set()
    inside = file.relative_to(root).with_suffix("")
    told = {split for part in inside.parts for split in splits_told(part)}
    count = 0
    for line in lines:
        ends = {_composed(_without_suffix(re.split(r"[/\\]", word)[-1])) for word in line}
        own = {end for end in ends if end in stems or end in folders}
        told |= {split for split in map(split_named, line) if split}
        named |= own
        count += bool(own)
    # Prose may hold a number that is an id.
    if not named or (not file.suffix.lower().startswith(".json") and 2 * count <= len(lines)):
        return False
    return bool(told & {"val", "test"}) or (bool(told) and not named.issuperset(stems))


def _require_apart(places: Sequence[Place], trees: Trees) -> None:
    """No folder may be read twice, as images and masks or in two splits."""
    first: dict[tuple[int, int], Path] = {}
    for place in places:
        for folder in {place.images: None, place.masks: None}:
            for inside in trees[folder] if folder is not None else ():
                other = first.setdefault(folder_key(inside.path), inside.path)
                if other != inside.path:
                    raise DatasetError(
                        inside.path,
                        f"is the same folder as {other}; images, masks and splits have their own",
                    )


def _composed(name: str) -> str:
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def _take_masks(images: dict[_Key, Path], sound: Collection[_Key] = ()) -> dict[_Key, Path]:
    """Take those out of `images` that are masks of others by their names, as ``7_mask`` of ``7``.

    `sound` are keys of images that stay.
    """
    masks = {}
    for key, path in images.items():
        name = stripped_mask_name(key.stem)
        if key not in sound and name != key.stem and key._replace(stem=name) in images:
            masks[key] = path
    for key in masks:
        del images[key]
    return masks


class _Reading:
    """The files of a set, and what becomes of them step by step; every step notes its problems.

    Attributes
    ----------
    by_folder : bool
        Whether folders give the splits.
    images, masks : dict of _Key to Path
        By the key of the image, once `match` is done.
    ids : dict of _Key to str
    paths : dict of str to Path
        Images by id.
    """

    def __init__(
        self, root: Path, places: Sequence[Place], trees: Trees, lists: Mapping[str, Path] | None
    ) -> None:
        self.root, self.places, self.trees, self.note = root, places, trees, trees.note
        self.by_folder = any(place.split is not None for place in places)
        self.images: dict[_Key, Path] = {}
        self.masks: dict[_Key, Path] = {}
        self.ids: dict[_Key, str] = {}
        self.paths: dict[str, Path] = {}
        self._split: dict[str, str | None] = {}
        self._twins: list[tuple[_Key, Path, Path]] = []
        """Two files that would have one id, and the key of the first one's image."""
        self._renamed: list[_Key] = []
        self.lists: Mapping[str, Path] = {} if lists is None else lists
        if lists is None:
            with self._unreadable():
                self.lists = find_lists(root)

    @contextmanager
    def _unreadable(self) -> Iterator[None]:
        """Note that a list cannot be read, or not be told from another."""
        try:
            yield
        except DatasetError as error:
            self.note(Problem("unreadable list", str(error), error=error))

    def find_files(self) -> None:
        """Find the pictures of all places; masks still have their own keys."""
        for place in self.places:
            self.images |= self._files_of(place.split, place.images, IMAGE_FOLDERS)
            if place.masks == place.images:
                self.masks |= _take_masks(self.images)
            elif place.masks is not None:
                self.masks |= self._files_of(place.split, place.masks, MASK_FOLDERS)

    def _files_of(self, split: str | None, top: Path, known: Collection[str]) -> dict[_Key, Path]:
        found: dict[_Key, Path] = {}
        for folder in self.trees[top]:
            for name in filter(split_named, folder.parts):
                raise DatasetError(
                    folder.path,
                    f"has a folder {name} of a split in its path, where none is expected; put "
                    "the splits right into images and masks, or call it otherwise",
                )
            parts = tuple(map(_composed, folder.parts))
            # As `images/rec1/images/0001.png`.
            if parts and parts[-1].lower() in known:
                parts = parts[:-1]
            for name in folder.names:
                stem = name[: name.rindex(".")]
                if not stem.isprintable() or stem != stem.strip():
                    words = f"has a file called {name!a}, which no list can name; rename it"
                    error = DatasetError(folder.path, words)
                    self.note(Problem("name that no list can hold", ascii(name), error=error))
                    continue
                key = _Key(split, parts, _composed(stem))
                if key in found:
                    self._twins.append((key, found[key], folder.path / name))
                else:
                    found[key] = folder.path / name
        return found

    def match(self) -> None:
        """Give masks the keys of their images, and remove masks from the images."""
        found = {key: path for key, path in self.masks.items() if key in self.images}
        for key, path in self.masks.items():
            if key in found:
                continue
            plain = key._replace(stem=key.stem.removesuffix(MASK_SUFFIX))
            named = (plain, key._replace(stem=stripped_mask_name(key.stem)))
            own = next((name for name in named if name in self.images), None)
            if own is None:
                self.note(Problem("mask without image", key.label(path), (key.stem,)))
            elif own in found:
                self._twins.append((own, found[own], path))
            else:
                found[own] = path
                if own != plain:
                    self._renamed.append(own)
        self.masks = found
        for key, path in _take_masks(self.images, found).items():
            words = "is called as the mask of another image; move it to the masks"
            # A mask that no list names is not used.
            error = None if self.lists and not self.by_folder else DatasetError(path, words)
            self.note(Problem("mask among the images", key.label(path), (key.stem,), error))

    def name(self) -> None:
        """Give each image its id; of images that would have one id, the first has it."""
        home: dict[_Key, str | None] = {}
        unique = all(
            home.setdefault(key._replace(split=None), key.split) == key.split for key in self.images
        )
        first: dict[str, _Key] = {}
        for key, path in self.images.items():
            id_ = "_".join((*key.parts, key.stem))
            if not unique:
                id_ = f"{key.split}_{id_}"
            other = first.setdefault(id_, key)
            if other is key:
                self.ids[key] = id_
            else:
                self._twins.append((other, self.images[other], path))
        self.paths = {id_: self.images[key] for key, id_ in self.ids.items()}
        self._split = {id_: key.split for key, id_ in self.ids.items()}
        for key, one, other_path in self._twins:
            shown = [str(one), str(other_path)]
            if one.parent == other_path.parent:
                shown = [one.name, other_path.name]
            error = DatasetError(other_path, f"shares its id with {shown[0]}; remove or rename one")
            about = (self.ids.get(key, key.stem),)
            self.note(Problem("id of two files", " and ".join(shown), about, error))

    def masks_by_id(self) -> dict[str, Path]:
        """The mask of each image that has one."""
        return {id_: self.masks[key] for key, id_ in self.ids.items() if key in self.masks}

    def note_renamed(self, used: Collection[str]) -> None:
        """Note masks that are not called as their images; an error where the pair is used."""
        for key in self._renamed:
            mask, id_ = self.masks[key], self.ids.get(key, key.stem)
            words = f"is not called as its image, {self.images[key].name}; rename it"
            error = DatasetError(mask, words) if self.ids.get(key) in used else None
            self.note(Problem("mask of another name", key.label(mask), (id_,), error))

    # Which splits they are in.

    def find(self, entry: str, split: str) -> str | None:
        """The id that an entry of a list of a split names, None if it names none.

        An entry is an id, or an image's path below the set or its folder of images, with or
        without suffix.
        """
        entry = _composed(entry)
        if entry in self.paths:
            return entry
        entry = entry.replace("\\", "/").removeprefix("./")
        for name in (entry, _without_suffix(entry)):
            found = [name] if name in self.paths else self._called.get(name, [])
            if len(found) > 1:
                found = [id_ for id_ in found if self._split[id_] == split]
            if len(found) == 1:
                return found[0]
        return None

    @cached_property
    def _called(self) -> dict[str, list[str]]:
        """Ids by their images' paths without suffix, from the set's folder on and from others."""
        found: dict[str, list[str]] = {}
        tops = {place.split: _top(self.root, place.images) for place in self.places}
        for (split, parts, stem), id_ in self.ids.items():
            below = "/".join((*parts, stem))
            whole = _composed(_below(self.root, self.paths[id_]).as_posix())
            top = f"{tops[split]}/{below}" if split is not None else below
            for other in {below, top, _without_suffix(whole)}:
                found.setdefault(other, []).append(id_)
        return found

    def splits_of_folders(self) -> dict[str, tuple[str, ...]]:
        """The splits that folders give; lists beside them have to say the same."""
        splits: dict[str, tuple[str, ...]] = {}
        for split in SPLITS:
            if ids := [id_ for id_, own in self._split.items() if own == split]:
                splits[split] = tuple(sorted(ids, key=natural_key))
        every = [self.lists]
        with self._unreadable():
            for found in _all_lists(self.root):
                if self.lists and found and found != self.lists:
                    every.append(found)
        order: dict[str, tuple[str, ...]] = {}
        for split, file in [item for found in every for item in found.items()]:
            listed = self.read_list(file, split)
            # `trainval` holds `val` already.
            covered = (split, "val") if _is_trainval(file) else (split,)
            members = [id_ for name in covered for id_ in splits.get(name, ())]
            odd = min(set(members).symmetric_difference(listed), key=natural_key, default=None)
            if odd is None:
                own = splits.get(split, ())
                order.setdefault(split, tuple(id_ for id_ in listed if id_ in own))
                continue
            path = self.paths[odd]
            words = f"names {odd!r:.80} for {split}, but the image is {path}"
            if odd in members:
                words = f"does not name {path}, which is in a folder of {split}"
            error = DatasetError(file, f"{words}; correct the list, or remove it")
            self.note(Problem("list against its folders", f"{file} {words}", (), error))
        return splits | order

    def read_list(self, file: Path, split: str) -> tuple[str, ...]:
        """The ids that a list names."""
        text = ""
        with self._unreadable():
            text = read_text(file)
        ids: dict[str, None] = {}
        flat = not any(key.split or key.parts for key in self.ids)

        def fault(name: str, entry: str, about: str, words: str) -> None:
            error = DatasetError(file, f"names {words}")
            self.note(Problem(name, f"{entry} in {file.name}", (about,), error))

        for entry in filter(None, map(str.strip, text.splitlines())):
            id_ = self.find(entry, split)
            path = re.split(r"[/\\]", entry)
            if id_ is None and (len(path) > 1 or entry in (".", "..")):
                # Where all images are in one folder, the last name tells which is meant.
                id_ = self.find(path[-1], "") if flat else None
                words = f"{entry!r:.80}, which is the path of no image of the set; write its id"
                fault("list entry with folders", entry, id_ or entry, words)
            if id_ is None:
                name = _without_suffix(entry)
                words = f"id {name!r:.80}, which has no image"
                fault("listed id without image", name, name, words)
            elif id_ in ids:
                fault("id listed twice", id_, id_, f"id {id_!r:.80} twice; remove one of the lines")
            else:
                ids[id_] = None
        return tuple(ids)

    def only_pairs(self, splits: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        """Splits without ids that another one has, or that have no mask."""
        kept: dict[str, tuple[str, ...]] = {}
        home: dict[str, str] = {}
        masks = self.masks_by_id()
        bare = {place.split: place.images for place in self.places if place.masks is None}
        flat = len({path.parent for path in self.paths.values()}) == 1
        # An id in two splits stays in the one that is held out.
        for split in ("test", "val", "train"):
            ids = []
            for id_ in splits.get(split, ()):
                path, other = self.paths[id_], home.setdefault(id_, split)
                if other != split:
                    words = f"names id {id_!r}, which is in {split} too; keep it in one"
                    error = DatasetError(self.lists.get(other, path), words)
                    words = f"{id_} ({split}, {other})"
                    self.note(Problem("id in two splits", words, (id_,), error))
                elif id_ in masks:
                    ids.append(id_)
                else:
                    rid = "move it out of the set"
                    error = DatasetError(path, f"has no mask; add one, or {rid}")
                    if split in bare:
                        words = f"has no folder of masks beside it; add one, or {rid}"
                        error = DatasetError(bare[split], words)
                    elif split in self.lists:
                        words = "has no mask; add one, or take its id off the list"
                        error = DatasetError(path, words)
                    shown = path.name if flat else str(path)
                    self.note(Problem("image without mask", shown, (id_,), error))
            if split in splits or split != "val":
                kept[split] = tuple(ids)
        return {split: kept[split] for split in SPLITS if split in kept}


def _top(root: Path, images: Path) -> str:
    """The folder of a split, wherever it is in the path."""
    names = _below(root, images).parts
    return next((name for name in names if split_named(name)), images.name)


def _below(root: Path, path: Path) -> Path:
    return path.relative_to(root) if path.is_relative_to(root) else Path(path.name)


def _without_suffix(name: str) -> str:
    end = name.rfind(".")
    return name[:end] if end > 0 and name[end:].lower() in SUFFIXES else name


def find_lists(root: Path) -> dict[str, Path]:
    """Find the list file of each split in the first layout that has any.

    Raises
    ------
    DatasetError
        ``img_idx`` has several lists of one split, and none of the folder's name, or a folder has
        two of one split.
    """
    return next(filter(None, _all_lists(root)), {})


def _all_lists(root: Path) -> Iterator[dict[str, Path]]:
    """The lists of each layout, none where it has none, those that count first."""
    folders = child_folders(root)
    ratios = [child for child in folders if re.fullmatch(r"\d+_\d+", child.name)]
    # Half and half is what every published table uses, so it goes before other ratios.
    ratios.sort(key=lambda child: child.name != "50_50")
    for folder in [*ratios, root, *(f for f in folders if f.name.startswith("idx"))]:
        yield _lists_in(folder)
    if (root / "img_idx").is_dir():
        yield _named_lists(root / "img_idx", root.resolve().name)


def _lists_in(folder: Path) -> dict[str, Path]:
    lists: dict[str, Path] = {}
    for file in _texts(folder):
        split = split_named(file.stem)
        other = lists.get(split) if split is not None else None
        if split is None or (other is not None and _is_trainval(file)):
            continue
        if other is not None and not _is_trainval(other):
            raise DatasetError(file, f"is a list of {split} as {other.name} is; remove one of them")
        lists[split] = file
    # `trainval` holds `val` already.
    if "train" in lists and _is_trainval(lists["train"]):
        lists.pop("val", None)
    return {split: lists[split] for split in SPLITS if split in lists}


def _texts(folder: Path) -> list[Path]:
    return sorted(
        file
        for file in folder.iterdir()
        if file.suffix.lower() == ".txt" and not file.name.startswith(".") and file.is_file()
    )


def _is_trainval(file: Path) -> bool:
    return file.stem.lower() == "trainval"


def _named_lists(folder: Path, name: str) -> dict[str, Path]:
    lists: dict[str, Path] = {}
    for split in SPLITS:
        files = [f for f in _texts(folder) if split_named(f.stem.partition("_")[0]) == split]
        own = [file for file in files if file.stem.partition("_")[2] == name]
        if len(files) > 1 and len(own) != 1:
            raise DatasetError(
                folder,
                f"has {len(files)} {split} lists and none is called {split}_{name}.txt; "
                "keep one, or name the folder as the list",
            )
        if files:
            lists[split] = (own or files)[0]
    return lists


def read_text(file: Path) -> str:
    """Read a text file in UTF-8; `DatasetError` for one in another encoding."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise DatasetError(file, f"cannot be read ({error.strerror})") from None
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in data
    looks = "UTF-16" if wide else "Latin-1"
    if not wide:
        with suppress(UnicodeDecodeError):
            return data.decode("utf-8-sig")
        with suppress(UnicodeDecodeError):
            data.decode("gb2312")
            looks = "GBK"
    raise DatasetError(file, f"is not UTF-8 text (it looks like {looks}); save it as UTF-8")
