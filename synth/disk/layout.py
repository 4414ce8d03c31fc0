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
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from synth.disk.folders import Folder, child_folders, folder_key, walk_folders
from synth.disk.foreign import describe_foreign
from synth.disk.split_names import SPLITS, split_named, split_told, splits_told
from synth.errors import DatasetError
from synth.frames import SUFFIXES, natural_key

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "img_dir", "irstd1k_img")
MASK_FOLDERS = (
    "masks",
    "mask",
    "labels",
    "label",
    "gt",
    "groundtruth",
    "ann_dir",
    "irstd1k_label",
)
MASK_SUFFIX = "_pixels0"

MASK_WORD = r"(?:masks?|labels?|gts?|ground_?truths?|seg(?:mentation)?s?|annotations?|pixels\d)"
_MASK_NAME = re.compile(rf"^{MASK_WORD}[-_. ]+|[-_. ]+{MASK_WORD}$", re.IGNORECASE)
_SHOWN = 6

_Key = tuple[str | None, tuple[str, ...], str]
"""Split, folders below the one of images or masks, and name: what a pair has in common."""

_Twins = tuple[_Key, Path, Path]
"""Two files that would have one id, and the key of the first one's image."""


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
    places : tuple of Place
    images, masks : mapping of str to Path
        Files by id; masks of images alone.
    splits : mapping of str to tuple of str
        Ids by split; each has an image and a mask.
    listed : bool
        Whether folders or lists give the splits; else every image is in ``train``.
    lists : mapping of str to Path
        The list of each split that has one.
    """

    places: tuple[Place, ...]
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
        self._note = note
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
        self._note(Problem(fault, f"{path} {why}", error=error))

    def note_known(self, path: Path, why: str, missing: bool) -> None:
        """The same, for links that are called as a folder of a set is; others do not matter."""
        name = path.name.lower()
        if split_named(name) or any(name in names for names in _KNOWN.values()):
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
        places = _places_of_splits(splits, trees)
        found = splits
    else:
        if splits:
            raise undecided(root, [*images, *masks, *splits])
        image_folder, mask_folder = _only(root, images, "images"), _only(root, masks, "masks")
        if image_folder is None or mask_folder is None:
            return ()
        places = divide_by_split(image_folder, mask_folder, trees)
        found = [image_folder, mask_folder]
    if places:
        known = (*IMAGE_FOLDERS, *MASK_FOLDERS)
        others = [c for c in children if c not in splits and c.name.lower() not in known]
        if others := list(filter(_is_set, others)):
            raise undecided(root, [*found, *others])
    return places


def refuse(root: Path) -> DatasetError:
    """The error of a folder in which `find_places` found nothing."""
    inside = [folder for folder in _sets_below(root, _DEEPEST) if _is_set(folder)]
    if len(inside) > 1:
        around = {folder.parent for folder in inside if split_named(folder.name)}
        if len(around) == 1 and root not in around and len({f.parent for f in inside}) == 1:
            inside = list(around)
    if len(inside) > 1:
        return undecided(root, inside)
    if inside:
        return DatasetError(
            root, f"has no images and masks right in it; give {inside[0]}, which has, as data set"
        )
    foreign = describe_foreign(root)
    if foreign is not None:
        return DatasetError(root, foreign)
    children = child_folders(root, _pass_over)
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


def _sets_below(folder: Path, deepest: int) -> Iterator[Path]:
    """Folders that have both a folder called as one of images and one of masks in them."""
    children = child_folders(folder, _pass_over)
    names = {child.name.lower() for child in children}
    if all(names & set(known) for known in _KNOWN.values()):
        yield folder
    for child in children if deepest else ():
        if child.name.lower() not in (*IMAGE_FOLDERS, *MASK_FOLDERS):
            yield from _sets_below(child, deepest - 1)


def _is_set(folder: Path) -> bool:
    children = child_folders(folder, _pass_over)
    return all(
        any(child.name.lower() in names and _holds_picture(child) for child in children)
        for names in _KNOWN.values()
    )


def _pass_over(path: Path, why: str, missing: bool) -> None:
    pass


def _holds_picture(folder: Path) -> bool:
    return any(inside.names for inside in walk_folders(folder, _pass_over))


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
    pairs: list[tuple[Path, Path | None, Path | None]] = []
    for folder in folders:
        children = child_folders(folder, trees.note_known)
        images, masks = (
            _only(folder, trees.with_pictures(children, names), wanted)
            for wanted, names in _KNOWN.items()
        )
        pairs.append((folder, images, masks))
    whole = [folder for folder, images, masks in pairs if images and masks]
    if not whole:
        return ()
    _require_one_name(folders)
    places = []
    for folder, images, masks in pairs:
        split = split_named(folder.name)
        if images is None or split is None:
            raise DatasetError(
                folder,
                f"has pictures, but no folder of images right in it, as {whole[0]} has; add one, "
                "or move it out",
            )
        places.append(Place(split, images, masks))
    return _in_order(places)


def _in_order(places: Iterable[Place]) -> tuple[Place, ...]:
    return tuple(sorted(places, key=lambda place: SPLITS.index(place.split or "train")))


def _require_one_name(folders: Sequence[Path]) -> None:
    first: dict[str | None, Path] = {}
    for folder in folders:
        other = first.setdefault(split_named(folder.name), folder)
        if other is folder and folder.name.lower() == "trainval":
            # What it holds of `val` would be in both.
            other = next((one for one in folders if split_named(one.name) == "val"), folder)
        if other is not folder:
            raise DatasetError(
                folder, f"holds the same split as {other}; put their files into one of them"
            )


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
    if not named:
        return {}
    others = [
        inside.path
        for inside in trees[folder]
        if not inside.parts or split_named(inside.parts[0]) is None
    ]
    if others:
        raise undecided(folder, [*named, *others])
    _require_one_name(named)
    return {split: path for path in named if (split := split_named(path.name))}


# Which files are in them.


def read_layout(
    root: Path,
    places: Sequence[Place],
    trees: Trees,
    note: Note,
    lists: Mapping[str, Path] | None = None,
) -> Layout:
    """Pair the files of the folders of a set, and read its splits.

    Parameters
    ----------
    root : Path
    places : sequence of Place
        See `find_places`.
    trees : Trees
    note : callable
        Called with every `Problem`.
    lists : mapping of str to Path, optional
        The list of each split, in place of looking for them; empty for none.

    Raises
    ------
    DatasetError
        A folder would be read twice, or has splits below recordings; all would be for training
        although something tells of splits, see `require_one_split`.
    """
    _require_apart(places, trees)
    given = lists is not None
    if lists is None:
        lists = _found_lists(root, note)
    images: dict[_Key, Path] = {}
    masks: dict[_Key, Path] = {}
    twins: list[_Twins] = []
    for place in places:
        images |= _files_of(place.split, trees[place.images], IMAGE_FOLDERS, twins, note)
        if place.masks == place.images:
            masks |= _take_masks(images)
        elif place.masks is not None:
            masks |= _files_of(place.split, trees[place.masks], MASK_FOLDERS, twins, note)
    by_folder = any(place.split is not None for place in places)
    pairs, renamed = _match(images, masks, bool(lists) and not by_folder, twins, note)
    ids = _name(images, twins)
    for twin in twins:
        _note_twins(twin, ids, note)
    files = {id_: images[key] for key, id_ in ids.items()}
    found = {id_: pairs[key] for key, id_ in ids.items() if key in pairs}
    names = _Names(root, ids, images, places)
    if by_folder:
        splits = _splits_of_folders(root, ids, places, lists, names, note)
    elif lists:
        splits = {split: _read_list(file, split, names, note) for split, file in lists.items()}
    else:
        _require_no_split_told(images)
        if not given:
            require_one_split(root, images.values())
        note(Problem("no list of splits", root.name))
        splits = {"train": tuple(sorted(files, key=natural_key))}
    splits = _only_pairs(splits, files, found, lists, places, note)
    used = {id_ for members in splits.values() for id_ in members}
    for key in renamed:
        words = f"is not called as its image, {images[key].name}; rename it"
        error = DatasetError(pairs[key], words) if ids.get(key) in used else None
        about = (ids.get(key, key[2]),)
        note(Problem("mask of another name", _label(key, pairs[key]), about, error))
    return Layout(tuple(places), files, found, splits, by_folder or bool(lists), lists)


def _require_no_split_told(images: Mapping[_Key, Path]) -> None:
    """Without lists all is training, so no folder may be called as what is held out."""
    for _, parts, _ in images:
        for name in parts:
            if split_told(name) in ("val", "test"):
                path = next(path for key, path in images.items() if key[1] == parts)
                raise DatasetError(
                    path.parent,
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
    own = {root / name for name in _OWN} if all((root / name).is_file() for name in _OWN) else set()
    for file in _texts_below(root, _DEEP):
        if (
            file not in own
            and file not in read
            and file.stem not in stems
            and _lists_split(file, root, stems, folders - set(IMAGE_FOLDERS))
        ):
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
    for child in child_folders(folder, _pass_over) if deepest else ():
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


def _files_of(
    split: str | None,
    folders: Iterable[Folder],
    known: Collection[str],
    twins: list[_Twins],
    note: Note,
) -> dict[_Key, Path]:
    """The pictures of a folder by what their pair has in common with them."""
    found: dict[_Key, Path] = {}
    for folder in folders:
        for name in folder.parts:
            if split_named(name) is not None:
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
                note(Problem("name that no list can hold", ascii(name), error=error))
                continue
            file = folder.path / name
            key = (split, parts, _composed(stem))
            other = found.setdefault(key, file)
            if other is not file:
                twins.append((key, other, file))
    return found


def _composed(name: str) -> str:
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def _label(key: _Key, path: Path) -> str:
    """What a row calls a file: by its name where that tells it from all others."""
    split, parts, _ = key
    return path.name if split is None and not parts else str(path)


def _note_twins(twins: _Twins, ids: Mapping[_Key, str], note: Note) -> None:
    key, first, second = twins
    same = first.parent == second.parent
    other = first.name if same else str(first)
    error = DatasetError(second, f"shares its id with {other}; remove or rename one")
    words = f"{first.name} and {second.name}" if same else f"{first} and {second}"
    note(Problem("id of two files", words, (ids.get(key, key[2]),), error))


def _take_masks(images: dict[_Key, Path], sound: Collection[_Key] = ()) -> dict[_Key, Path]:
    """Take those out of `images` that are masks of others by their names, as ``7_mask`` of ``7``.

    `sound` are keys of images that stay.
    """
    masks = {}
    for key in list(images):
        if key in sound:
            continue
        split, parts, stem = key
        name = stripped_mask_name(stem)
        if name != stem and (split, parts, name) in images:
            masks[key] = images[key]
    for key in masks:
        del images[key]
    return masks


def _match(
    images: dict[_Key, Path],
    masks: Mapping[_Key, Path],
    unlisted: bool,
    twins: list[_Twins],
    note: Note,
) -> tuple[dict[_Key, Path], list[_Key]]:
    """Masks by the keys of their images, and the keys of those that have another name.

    Masks among the images are removed from `images`.
    """
    found = {key: path for key, path in masks.items() if key in images}
    renamed: list[_Key] = []
    for key, path in masks.items():
        if key in found:
            continue
        split, parts, stem = key
        own = next(
            (
                (split, parts, name)
                for name in (stem.removesuffix(MASK_SUFFIX), stripped_mask_name(stem))
                if (split, parts, name) in images
            ),
            None,
        )
        if own is None:
            note(Problem("mask without image", _label(key, path), (stem,)))
        elif own in found:
            twins.append((own, found[own], path))
        else:
            found[own] = path
            if own[2] != stem.removesuffix(MASK_SUFFIX):
                renamed.append(own)
    for key, path in _take_masks(images, found).items():
        words = "is called as the mask of another image; move it to the masks"
        # A mask that no list names is not used.
        error = None if unlisted else DatasetError(path, words)
        note(Problem("mask among the images", _label(key, path), (key[2],), error))
    return found, renamed


def _name(images: Mapping[_Key, Path], twins: list[_Twins]) -> dict[_Key, str]:
    """The id of each image; of images that would have one id, the first has it."""
    home: dict[tuple[tuple[str, ...], str], str | None] = {}
    unique = all(home.setdefault(key[1:], key[0]) == key[0] for key in images)
    ids: dict[_Key, str] = {}
    first: dict[str, _Key] = {}
    for key, path in images.items():
        split, parts, stem = key
        id_ = "_".join((*parts, stem))
        if not unique:
            id_ = f"{split}_{id_}"
        other = first.setdefault(id_, key)
        if other is key:
            ids[key] = id_
        else:
            twins.append((other, images[other], path))
    return ids


# Which splits they are in.


class _Names:
    """What a list may call an image."""

    def __init__(
        self,
        root: Path,
        ids: Mapping[_Key, str],
        images: Mapping[_Key, Path],
        places: Sequence[Place],
    ) -> None:
        self._root = root
        self._places = places
        self._by_key = ids
        self._split = {id_: key[0] for key, id_ in ids.items()}
        self.paths = {id_: images[key] for key, id_ in ids.items()}

    def find_last(self, entry: str) -> str | None:
        """The id that the last name of a path is, where all images are in one folder."""
        name = re.split(r"[/\\]", entry)[-1]
        flat = all(split is None and not parts for split, parts, _ in self._by_key)
        return self.find(name, "") if flat else None

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
        tops = {place.split: _top(self._root, place.images) for place in self._places}
        for (split, parts, stem), id_ in self._by_key.items():
            below = "/".join((*parts, stem))
            whole = _composed(_below(self._root, self.paths[id_]).as_posix())
            top = f"{tops[split]}/{below}" if split is not None else below
            for other in {below, top, _without_suffix(whole)}:
                found.setdefault(other, []).append(id_)
        return found


def _top(root: Path, images: Path) -> str:
    """The folder of a split, wherever it is in the path."""
    names = _below(root, images).parts
    return next((name for name in names if split_named(name)), images.name)


def _below(root: Path, path: Path) -> Path:
    return path.relative_to(root) if path.is_relative_to(root) else Path(path.name)


def _without_suffix(name: str) -> str:
    end = name.rfind(".")
    return name[:end] if end > 0 and name[end:].lower() in SUFFIXES else name


def _splits_of_folders(
    root: Path,
    ids: Mapping[_Key, str],
    places: Sequence[Place],
    lists: Mapping[str, Path],
    names: _Names,
    note: Note,
) -> dict[str, tuple[str, ...]]:
    """The splits that folders give; lists beside them have to say the same."""
    inside: dict[str, list[str]] = {}
    for key, id_ in ids.items():
        if key[0] is not None:
            inside.setdefault(key[0], []).append(id_)
    splits = {split: tuple(sorted(members, key=natural_key)) for split, members in inside.items()}
    order: dict[str, tuple[str, ...]] = {}
    for split, file in [item for found in _every_list(root, lists, note) for item in found.items()]:
        listed = _read_list(file, split, names, note)
        # `trainval` holds `val` already.
        covered = (split, "val") if _is_trainval(file) else (split,)
        members = [id_ for name in covered for id_ in splits.get(name, ())]
        odd = min(set(members).symmetric_difference(listed), key=natural_key, default=None)
        if odd is None:
            order.setdefault(split, tuple(id_ for id_ in listed if id_ in splits.get(split, ())))
            continue
        path = names.paths[odd]
        words = f"names {odd!r:.80} for {split}, but the image is {path}"
        if odd in members:
            words = f"does not name {path}, which is in a folder of {split}"
        error = DatasetError(file, f"{words}; correct the list, or remove it")
        note(Problem("list against its folders", f"{file} {words}", (), error))
    return splits | order


def _every_list(root: Path, lists: Mapping[str, Path], note: Note) -> Iterator[Mapping[str, Path]]:
    """The lists that are given or found first, and all others in the set."""
    yield lists
    try:
        yield from (found for found in _all_lists(root) if lists and found != lists)
    except DatasetError as error:
        note(Problem("unreadable list", str(error), error=error))


def _only_pairs(
    splits: Mapping[str, tuple[str, ...]],
    images: Mapping[str, Path],
    masks: Mapping[str, Path],
    lists: Mapping[str, Path],
    places: Sequence[Place],
    note: Note,
) -> dict[str, tuple[str, ...]]:
    """Splits without ids that another one has, or that have no mask."""
    kept: dict[str, tuple[str, ...]] = {}
    home: dict[str, str] = {}
    bare = {place.split: place.images for place in places if place.masks is None}
    # An id in two splits stays in the one that is held out.
    for split in ("test", "val", "train"):
        ids = []
        for id_ in splits.get(split, ()):
            other = home.setdefault(id_, split)
            if other != split:
                words = f"names id {id_!r}, which is in {split} too; keep it in one"
                error = DatasetError(lists.get(other, images[id_]), words)
                note(Problem("id in two splits", f"{id_} ({split}, {other})", (id_,), error))
            elif id_ not in masks:
                rid = "take its id off the list" if split in lists else "move it out of the set"
                error = DatasetError(images[id_], f"has no mask; add one, or {rid}")
                if split in bare:
                    words = "has no folder of masks beside it; add one, or move it out of the set"
                    error = DatasetError(bare[split], words)
                flat = len({path.parent for path in images.values()}) == 1
                words = images[id_].name if flat else str(images[id_])
                note(Problem("image without mask", words, (id_,), error))
            else:
                ids.append(id_)
        if split in splits or split != "val":
            kept[split] = tuple(ids)
    return {split: kept[split] for split in SPLITS if split in kept}


def find_lists(root: Path) -> dict[str, Path]:
    """Find the list file of each split in the first layout that has any.

    Raises
    ------
    DatasetError
        ``img_idx`` has several lists of one split, and none of the folder's name, or a folder has
        two of one split.
    """
    return next(_all_lists(root), {})


def _all_lists(root: Path) -> Iterator[dict[str, Path]]:
    """The lists of each layout that has any, those that count first."""
    folders = child_folders(root, _pass_over)
    ratios = [child for child in folders if re.fullmatch(r"\d+_\d+", child.name)]
    # Half and half is what every published table uses, so it goes before other ratios.
    ratios.sort(key=lambda child: child.name != "50_50")
    for folder in [*ratios, root, *(f for f in folders if f.name.startswith("idx"))]:
        lists = _lists_in(folder)
        if lists:
            yield lists
    if (root / "img_idx").is_dir() and (
        lists := _named_lists(root / "img_idx", root.resolve().name)
    ):
        yield lists


def _found_lists(root: Path, note: Note) -> dict[str, Path]:
    try:
        return find_lists(root)
    except DatasetError as error:
        note(Problem("unreadable list", str(error), error=error))
        return {}


def _lists_in(folder: Path) -> dict[str, Path]:
    lists: dict[str, Path] = {}
    for file in _texts(folder):
        split = "train" if _is_trainval(file) else split_named(file.stem)
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


def _read_list(file: Path, split: str, names: _Names, note: Note) -> tuple[str, ...]:
    try:
        text = read_text(file)
    except DatasetError as error:
        note(Problem("unreadable list", str(error), error=error))
        return ()
    ids: dict[str, None] = {}

    def fault(name: str, entry: str, about: str, words: str) -> None:
        error = DatasetError(file, f"names {words}")
        note(Problem(name, f"{entry} in {file.name}", (about,), error))

    for line in text.splitlines():
        entry = line.strip()
        if not entry:
            continue
        id_ = names.find(entry, split)
        if id_ is None and (re.search(r"[/\\]", entry) or entry in (".", "..")):
            id_ = names.find_last(entry)
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


def read_text(file: Path) -> str:
    """Read a text file in UTF-8; `DatasetError` for one in another encoding."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise DatasetError(file, f"cannot be read ({error.strerror})") from None
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in data
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = None
    if text is None or wide:
        looks = "UTF-16" if wide else _looks_like(data)
        raise DatasetError(file, f"is not UTF-8 text (it looks like {looks}); save it as UTF-8")
    return text


def _looks_like(data: bytes) -> str:
    """Whether bytes that are no UTF-8 are Chinese or Western text."""
    try:
        data.decode("gb2312")
    except UnicodeDecodeError:
        return "Latin-1"
    return "GBK"
