"""Where the images and masks of a labelled set are, and which splits its folders and lists give.

Read without any setting, with folders of any of the names in `IMAGE_FOLDERS` and `MASK_FOLDERS`:

- ``images/`` and ``masks/``; ``images/rec1/0001.png`` and its mask are the pair ``rec1_0001``;
- ``<split>/images`` and ``<split>/masks``, or ``images/<split>`` and ``masks/<split>``. Where two
  splits have a file of one name, every id has its split in front, as ``train_0001``;
- masks named as their image, or with the suffix ``_pixels0``, in the same place below its folder;
- lists of splits in ``50_50/train.txt`` and ``test.txt`` (DNA-Net and its family; any ``<a>_<b>``
  folder), ``trainval.txt`` or ``train.txt`` and ``test.txt`` beside the folders or in a subfolder
  that starts with ``idx``, ``img_idx/train_<name>.txt`` (BasicIRSTD). Lists beside split folders
  have to agree with them; without both, every image is for training, see `require_one_split`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

from synth.disk.folders import Folder, child_folders, folder_key, folders_below, walk_folders
from synth.disk.foreign import describe_foreign
from synth.disk.split_names import SPLITS, split_named, split_told, splits_held, splits_told
from synth.errors import DatasetError
from synth.frames import SUFFIXES, natural_key

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "img_dir", "irstd1k_img")
MASK_FOLDERS = ("masks", "mask", "labels", "label", "gt", "groundtruth", "ann_dir", "irstd1k_label")
MASK_SUFFIX = "_pixels0"

MASK_WORD = r"(?:masks?|labels?|gts?|ground_?truths?|seg(?:mentation)?s?|annotations?|pixels\d)"
_MASK_NAME = re.compile(rf"^{MASK_WORD}[-_. ]+|[-_. ]+{MASK_WORD}$", re.IGNORECASE)
_KINDS = {"images": IMAGE_FOLDERS, "masks": MASK_FOLDERS}
_KNOWN = (*IMAGE_FOLDERS, *MASK_FOLDERS)
# Folders that are looked through for other sets and lists, and folders that an error names.
_DEEP, _DEEPEST, _SHOWN = 2, 3, 6
# What this package writes beside a set that is not divided.
_OWN = ("dataset.json", "manifest.jsonl")
_TEXTS = (".txt", ".csv", ".tsv", ".lst", ".list", ".json", ".jsonl")
# Bytes of a text file that are searched for ids and splits; longer lists are cut here.
_READ = 1 << 22

Read = TypeVar("Read")


class _Key(NamedTuple):
    """Split, folders below the one of images or masks, and name: what a pair has in common."""

    split: str | None
    parts: tuple[str, ...]
    stem: str

    def images(self) -> Iterator[_Key]:
        """What the image of such a mask may be called, the likeliest first."""
        yield self
        for name in (self.stem.removesuffix(MASK_SUFFIX), stripped_mask_name(self.stem)):
            if name != self.stem:
                yield self._replace(stem=name)


class Problem(NamedTuple):
    """One case of a fault: its name in `check.FAULTS`, words on it, the ids that it is about.

    `error` is what `open_dataset` raises for it, None where it reads on.
    """

    fault: str
    words: str
    ids: tuple[str, ...] = ()
    error: DatasetError | None = None


Note = Callable[[Problem], None]
"""Called with every problem; it raises the problem's error, or keeps it and returns."""


class Place(NamedTuple):
    """The folder of images and the folder of masks of one split, or of all where `split` is None.

    `masks` is None where there are none for these images.
    """

    split: str | None
    images: Path
    masks: Path | None


_Side = tuple[str | None, str, Path]
"""A folder of images or of masks: its split, its kind, and where it is."""


def file_id(path: Path, base: Path) -> str:
    """The id of a file below a folder: its folders and its name, joined by ``_``.

    It is in Unicode's composed form (NFC), whichever form the file system keeps.
    """
    return _composed("_".join(path.relative_to(base).with_name(path.stem).parts))


def stripped_mask_name(stem: str) -> str:
    """A mask's name without the word that says that it is one: ``7`` of ``7_mask``."""
    return _MASK_NAME.sub("", stem)


def folder_kind(folder: Path) -> str | None:
    """``"images"`` or ``"masks"`` for a folder that is called as one of them, else None."""
    name = folder.name.lower()
    return next((kind for kind, names in _KINDS.items() if name in names), None)


# Where the folders are.


class Trees:
    """The folders with pictures below other folders; each is looked at once.

    Each link that is skipped becomes a problem, once.
    """

    def __init__(self, note: Note) -> None:
        self.note = note
        self._known: dict[Path, tuple[Folder, ...]] = {}
        self._links: set[Path] = set()

    def __getitem__(self, folder: Path) -> tuple[Folder, ...]:
        if folder not in self._known:
            found = walk_folders(folder, self.note_link)
            self._known[folder] = tuple(inside for inside in found if inside.names)
        return self._known[folder]

    def note_link(self, path: Path, why: str, missing: bool) -> None:
        """What `walk_folders` calls."""
        fault = "broken link" if missing else "folder linked twice"
        error = DatasetError(path, why) if missing else None
        if path not in self._links:
            self._links.add(path)
            self.note(Problem(fault, f"{path} {why}", error=error))


def find_places(root: Path, trees: Trees) -> tuple[Place, ...]:
    """Find the folders of images and masks of a set by their names; none where there are none.

    Folders without a picture in them do not count. `DatasetError` where several folders could be
    meant, or folders of splits do not go together.
    """

    def note(path: Path, why: str, missing: bool) -> None:
        """Of other links nothing is read."""
        if split_named(path.name) or folder_kind(path):
            trees.note_link(path, why, missing)

    sides: list[_Side] = []
    children = child_folders(root, note)
    for child in children:
        split = split_named(child.name)
        for folder in child_folders(child, note) if split else [child]:
            if (kind := folder_kind(folder)) and trees[folder]:
                sides.append((split, kind, folder))
    kinds = {(split, kind) for split, kind, _ in sides}
    if not any({(split, "images"), (split, "masks")} <= kinds for split in (None, *SPLITS)):
        return ()
    _require_apart(sorted({folder.parent for split, _, folder in sides if split}))
    used = {path for *_, folder in sides for path in (folder, folder.parent)}
    for child in children:
        alone = split_named(child.name) and _holds_picture(child)
        if child not in used and (alone or _is_set(child)):
            raise undecided(root, [*(folder for *_, folder in sides), child])
    return _arrange(root, sides, trees)


def divide_by_split(images: Path, masks: Path, trees: Trees) -> tuple[Place, ...]:
    """The places of one folder of images and one of masks, which may have splits in them.

    They may be one folder, where names tell masks from images. `DatasetError` where pictures are
    beside the folders of splits, or only one of the two has any.
    """
    return _arrange(images.parent, [(None, "images", images), (None, "masks", masks)], trees)


def _arrange(root: Path, sides: Iterable[_Side], trees: Trees) -> tuple[Place, ...]:
    """The places of folders of images and of masks; those of no split may have splits in them."""
    found: dict[str | None, dict[str, Path]] = {}
    # Of two names of one folder its own counts.
    for split, kind, folder in sorted(sides, key=lambda side: side[2].is_symlink()):
        tops = {folder.joinpath(*inside.parts[:1]) for inside in trees[folder] if not split}
        named = sorted(top for top in tops if top != folder and split_named(top.name))
        if named and len(tops) > len(named):
            raise undecided(folder, [*named, *sorted(tops.difference(named))])
        _require_apart(named)
        for own in named or [folder]:
            pair = found.setdefault(split_named(own.name) if named else split, {})
            if not (other := pair.setdefault(kind, own)).samefile(own):
                raise undecided(root, [other, own])
    if None in found and len(found) > 1:
        raise undecided(root, [folder for pair in found.values() for folder in pair.values()])
    for kind, least in (("images", len(found)), ("masks", 1)):
        without = [pair for pair in found.values() if kind not in pair]
        if len(found) - len(without) < least:
            other = next(iter(without[0].values()))
            raise DatasetError(other, f"is of a split that has no folder of {kind}; add one")
    ordered = {split: found[split] for split in (None, *SPLITS) if split in found}
    return tuple(Place(split, pair["images"], pair.get("masks")) for split, pair in ordered.items())


def _require_apart(folders: Iterable[Path]) -> None:
    """Test that no two folders hold images of one split by their names."""
    taken: dict[str, Path] = {}
    for folder in folders:
        for split in splits_held(folder.name):
            if (other := taken.setdefault(split, folder)) is not folder:
                words = f"is of the same split as {other}; put all into one of them"
                raise DatasetError(folder, words)


def undecided(root: Path, folders: Sequence[Path]) -> DatasetError:
    """The error of a folder in which several others could be meant."""
    shown = ", ".join(map(str, folders[:_SHOWN])) + (", …" if len(folders) > _SHOWN else "")
    words = f"has several folders that could be meant ({shown})"
    return DatasetError(root, f"{words}; move all but one out, or give one as data set")


def refuse(root: Path) -> DatasetError:
    """The error of a folder in which `find_places` found nothing."""
    inside = [folder for folder in folders_below(root, _DEEPEST, _KNOWN) if _is_set(folder)]
    around = {folder.parent for folder in inside}
    if len(around) == 1 and root not in around and any(split_named(own.name) for own in inside):
        inside = list(around)
    if len(inside) > 1:
        return undecided(root, inside)
    if inside:
        return DatasetError(root, f"has no images and masks right in it; give {inside[0]}")
    if foreign := describe_foreign(root):
        return DatasetError(root, foreign)
    held = {folder_kind(child) for child in child_folders(root) if _holds_picture(child)}
    kind = "masks" if "images" in held else "images"
    words = f"has no folder of {kind} with any in it; add one, called {', '.join(_KINDS[kind])}"
    return DatasetError(root, words)


def has_places(root: Path) -> bool:
    """Whether a folder, or one in it, has folders called as those of images and of masks."""
    return any(map(_is_set, folders_below(root, _DEEP, _KNOWN)))


def _is_set(folder: Path) -> bool:
    """Whether a folder has one of images and one of masks in it."""
    named = [child for child in child_folders(folder) if folder_kind(child)]
    return len({folder_kind(child) for child in named if _holds_picture(child)}) == 2


def _holds_picture(folder: Path) -> bool:
    return any(inside.names for inside in walk_folders(folder))


# Which files are in them.


def read_layout(
    root: Path, places: Sequence[Place], trees: Trees, lists: Mapping[str, Path] | None = None
) -> Layout:
    """Pair the files of the folders of a set (see `find_places`), and read its splits.

    `lists` are the lists in place of looking for them, empty for none. `DatasetError` where a
    folder would be read twice, or has splits below recordings; without any splits that of
    `require_one_split`; and what the `note` of `trees` raises for a problem.
    """
    layout = Layout(root, places, trees)
    layout.lists = (layout.readable(find_lists, root) or {}) if lists is None else lists
    layout.find_images()
    layout.find_masks()
    by_folder = any(place.split is not None for place in places)
    layout.listed = by_folder or bool(layout.lists)
    if by_folder:
        layout.splits = layout.splits_of_folders()
    elif layout.lists:
        layout.splits = {
            split: layout.read_list(file, split) for split, file in layout.lists.items()
        }
    else:
        if lists is None:
            require_one_split(root, layout.images.values())
        trees.note(Problem("no list of splits", root.name))
        layout.splits = {"train": tuple(sorted(layout.images, key=natural_key))}
    layout.keep_pairs()
    return layout


def _composed(name: str) -> str:
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def _without_suffix(name: str) -> str:
    end = name.rfind(".")
    return name[:end] if end > 0 and name[end:].lower() in SUFFIXES else name


@dataclass
class Layout:
    """The files and splits of a set, see `synth.dataset.Dataset`; every step notes its problems.

    `images` and `masks` are by id, and so are the `keys` of images; ids are `fronted` that have
    their split in front. When all is read, each mask is one of an image, and each id of a split has
    an image and a mask.
    """

    root: Path
    places: Sequence[Place]
    trees: Trees
    lists: Mapping[str, Path] = field(default_factory=dict)
    listed: bool = False
    fronted: bool = False
    images: dict[str, Path] = field(default_factory=dict)
    masks: dict[str, Path] = field(default_factory=dict)
    keys: dict[str, _Key] = field(default_factory=dict)
    splits: dict[str, tuple[str, ...]] = field(default_factory=dict)
    seen: dict[tuple[int, int], Path] = field(default_factory=dict)

    def note(self, fault: str, path: Path, says: str, *ids: str, read: bool = False) -> None:
        """Note a problem of a file; `read` where the set can be read in spite of it."""
        words = f"{_below(self.root, path)}: {says.partition(';')[0]}"
        self.trees.note(Problem(fault, words, ids, None if read else DatasetError(path, says)))

    def readable(self, read: Callable[[Path], Read], path: Path) -> Read | None:
        """Read lists; note one that cannot be read, or not be told from another."""
        try:
            return read(path)
        except DatasetError as error:
            self.note("unreadable list", error.path, error.problem)
            return None

    def pictures(self, split: str | None, kind: str, top: Path) -> Iterator[tuple[_Key, Path]]:
        """The pictures of a place below a folder, under their own names."""
        for folder in self.trees[top]:
            other = self.seen.setdefault(folder_key(folder.path), folder.path)
            if other != folder.path:
                raise DatasetError(folder.path, f"is the same folder as {other}; remove one")
            for name in folder.parts:
                held_out = not (split or self.lists) and split_told(name) in ("val", "test")
                if held_out or split_named(name):
                    says = f"is in a folder {name}, as of a split; put splits right into images "
                    says += "and masks, write lists of splits, or call it otherwise"
                    raise DatasetError(folder.path, says)
            parts = tuple(map(_composed, folder.parts))
            # As `images/rec1/images/0001.png`.
            if parts and folder_kind(folder.path) == kind:
                parts = parts[:-1]
            for name in folder.names:
                stem = name[: name.rindex(".")]
                if stem.isprintable() and stem == stem.strip():
                    yield _Key(split, parts, _composed(stem)), folder.path / name
                else:
                    says = f"has a file called {name!a}, which no list can name; rename it"
                    self.note("name that no list can hold", folder.path, says)

    def find_images(self) -> None:
        """Give each image its id; of images that would have one id, the first has it."""
        found: list[tuple[_Key, Path]] = []
        for split, folder, _ in self.places:
            found += self.pictures(split, "images", folder)
        keys = {key for key, _ in found}
        self.fronted = len({(key.parts, key.stem) for key in keys}) < len(keys)
        for key, path in found:
            front = (str(key.split),) if self.fronted else ()
            id_ = "_".join((*front, *key.parts, key.stem))
            if self.take(self.images, id_, path):
                self.keys[id_] = key

    def take(self, files: dict[str, Path], id_: str, path: Path) -> bool:
        """Add a file; note that the id has one already."""
        first = files.setdefault(id_, path)
        if first is not path:
            shown = first.name if first.parent == path.parent else first
            says = f"shares its id with {shown}; remove or rename one"
            self.note("id of two files", path, says, id_)
        return first is path

    def find_masks(self) -> None:
        """Give each image its mask, and remove masks from the images."""
        masks: list[tuple[_Key, Path]] = []
        for split, images, folder in self.places:
            if folder is not None and folder != images:
                masks += self.pictures(split, "masks", folder)
        together = {place.split for place in self.places if place.masks == place.images}
        ids = {key: id_ for id_, key in self.keys.items()}
        # Images that are called as masks of others, unless they have masks themselves.
        odd = {key: id_ for key, id_ in ids.items() if any(k in ids for k in [*key.images()][1:])}
        sound = {image for key, _ in masks for image in key.images()} if odd else ()
        for key, id_ in odd.items():
            if key in sound:
                continue
            path = self.images.pop(id_)
            del self.keys[id_]
            if key.split in together:
                masks.append((key, path))
            else:
                # A mask that no list names is not used.
                says = "is called as the mask of another image; move it to the masks"
                self.note("mask among the images", path, says, id_, read=bool(self.lists))
        # Masks that are called as their images come before others.
        for key, path in sorted(masks, key=lambda mask: mask[0] not in ids):
            own = next((ids[k] for k in key.images() if ids.get(k) in self.images), None)
            if own is None:
                self.note("mask without image", path, "has no image", key.stem, read=True)
            else:
                self.take(self.masks, own, path)

    # Which splits they are in.

    def find(self, entry: str, split: str) -> str | None:
        """The id that an entry of a list names: an id or a path, with or without suffix."""
        *folders, last = _composed(entry).replace("\\", "/").removeprefix("./").split("/")
        told = next(filter(None, map(split_named, folders)), None)
        plain = [f for f in folders if not (split_named(f) or f.lower() in IMAGE_FOLDERS)]
        for name in (last, _without_suffix(last)):
            id_ = "_".join((*plain, name))
            for own in (id_, f"{told or split}_{id_}") if self.fronted else (id_,):
                if own in self.images and told in (None, self.keys[own].split):
                    return own
        return None

    def splits_of_folders(self) -> dict[str, tuple[str, ...]]:
        """The splits that folders give; lists beside them have to say the same."""
        splits: dict[str, tuple[str, ...]] = {}
        for split in SPLITS:
            if ids := [id_ for id_, key in self.keys.items() if key.split == split]:
                splits[split] = tuple(sorted(ids, key=natural_key))
        for split, file in self.lists.items():
            listed = self.read_list(file, split)
            held = {split, *splits_held(file.stem)}
            members = {id_ for name in held for id_ in splits.get(name, ())}
            odd = min(members.symmetric_difference(listed), key=natural_key, default=None)
            if odd is None:
                splits[split] = tuple(id_ for id_ in listed if self.keys[id_].split == split)
            else:
                verb = "does not name" if odd in members else "names"
                says = f"{verb} {self.images[odd]}, against its folder; correct the list"
                self.note("list against its folders", file, says)
        return splits

    def read_list(self, file: Path, split: str) -> tuple[str, ...]:
        """The ids that a list names."""
        ids: dict[str, None] = {}
        flat = not any(key.split or key.parts for key in self.keys.values())
        text = self.readable(read_text, file) or ""
        for entry in filter(None, map(str.strip, text.splitlines())):
            id_ = self.find(entry, split)
            *folders, last = re.split(r"[/\\]", entry)
            if id_ is None and folders:
                # Where all images are in one folder, the last name tells which is meant.
                id_ = self.find(last, split) if flat else None
                says = f"names {entry!r:.80}, which is the path of no image of the set"
                self.note("list entry with folders", file, f"{says}; write its id", id_ or entry)
            if id_ is None:
                says = f"names id {entry!r:.80}, which has no image; remove the line"
                self.note("listed id without image", file, says, entry)
            elif id_ in ids:
                says = f"names id {id_!r:.80} twice; remove one of the lines"
                self.note("id listed twice", file, says, id_)
            else:
                ids[id_] = None
        return tuple(ids)

    def keep_pairs(self) -> None:
        """Leave ids out of splits that another one has, or that have no mask."""
        kept: dict[str, list[str]] = {name: [] for name in ("train", "test", *self.splits)}
        home: dict[str, str] = {}
        # An id in two splits stays in the one that is held out.
        for split in ("test", "val", "train"):
            for id_ in self.splits.get(split, ()):
                path, other = self.images[id_], home.setdefault(id_, split)
                if other != split:
                    says = f"names id {id_!r}, which is in {split} too; keep it in one"
                    self.note("id in two splits", self.lists.get(other, path), says, id_)
                elif id_ in self.masks:
                    kept[split].append(id_)
                else:
                    says = "has no mask; add one, or leave the image out of folders and lists"
                    self.note("image without mask", path, says, id_)
        for id_, mask in self.masks.items():
            stem = self.keys[id_].stem
            if _composed(mask.stem) not in (stem, stem + MASK_SUFFIX):
                says = f"is not called as its image, {self.images[id_].name}; rename it"
                self.note("mask of another name", mask, says, id_, read=id_ not in home)
        self.splits = {split: tuple(kept[split]) for split in SPLITS if split in kept}


def _below(root: Path, path: Path) -> Path:
    return path.relative_to(root) if path.is_relative_to(root) else Path(path.name)


def find_lists(root: Path) -> dict[str, Path]:
    """Find the list file of each split in the first layout that has any.

    `DatasetError` where a folder has several of one split, in ``img_idx`` none of the set's name.
    """
    folders = child_folders(root)
    ratios = [child for child in folders if re.fullmatch(r"\d+_\d+", child.name)]
    # Half and half is what every published table uses, so it goes before other ratios.
    ratios.sort(key=lambda child: child.name != "50_50")
    for folder in [*ratios, root, *(f for f in folders if f.name.startswith("idx"))]:
        if lists := _lists_in(folder):
            return lists
    named = root / "img_idx"
    return _lists_in(named, root.resolve().name) if named.is_dir() else {}


def _lists_in(folder: Path, name: str | None = None) -> dict[str, Path]:
    """The lists called as splits, or as a split and a name (`img_idx`), in a folder."""
    lists: dict[str, Path] = {}
    for split in SPLITS:
        stems = {file: file.stem.partition("_" if name else "\0") for file in _texts(folder)}
        files = [file for file, (first, _, _) in stems.items() if split_named(first) == split]
        # Beside `trainval`, `train` is the training split.
        best = [f for f in files if (stems[f][2] == name if name else len(splits_held(f.stem)) < 2)]
        files = best or files
        if len(files) > 1:
            words = f"has several lists of {split} ({', '.join(file.name for file in files)})"
            raise DatasetError(folder, f"{words}; remove all but one")
        for file in files:
            lists[split] = file
    # `trainval` holds `val` already.
    if "train" in lists and "val" in splits_held(lists["train"].stem):
        lists.pop("val", None)
    return lists


def _texts(folder: Path, suffixes: Collection[str] = (".txt",)) -> list[Path]:
    return sorted(
        file
        for file in folder.iterdir()
        if file.suffix.lower() in suffixes and not file.name.startswith(".") and file.is_file()
    )


def read_text(file: Path) -> str:
    """Read a text file in UTF-8; `DatasetError` for one in another encoding."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise DatasetError(file, f"cannot be read ({error.strerror})") from None
    # UTF-16 has bytes of 0.
    with suppress(UnicodeDecodeError):
        if b"\0" not in data:
            return data.decode("utf-8-sig")
    raise DatasetError(file, "is not UTF-8 text; save it as UTF-8")


# Whether a set without lists was meant to be divided.


def require_one_split(
    root: Path,
    images: Iterable[Path],
    advice: str = "write ids to train.txt and test.txt in the set's folder",
    read: Collection[Path] = (),
) -> None:
    """Test that nothing tells of splits in a set whose `images` are all for training.

    `root` is the set, in which lists are looked for, `advice` what the error says to do, and `read`
    are files that have been read, and are no lists that were missed. `DatasetError` where each
    image's name has a split in it, and not all the same; or where a file of text names some of the
    images, and its name or a word in it is a split's.
    """
    images = list(images)
    told: dict[str | None, str] = {}
    for path in images:
        told.setdefault(split_told(path.stem), path.name)
    if len(told) > 1 and None not in told:
        shown = ", ".join(told.values())
        raise DatasetError(root, f"has images called as splits ({shown}) and no lists; {advice}")
    stems = {_composed(path.stem) for path in images}
    folders = {_composed(path.parent.name) for path in images} - {*IMAGE_FOLDERS}
    own = {root / name for name in _OWN}
    passed = {*read, *own} if all(file.is_file() for file in own) else {*read}
    below = folders_below(root, _DEEP)
    for file in (file for folder in below for file in _texts(folder, _TEXTS)):
        known = file in passed or file.stem in stems
        if not known and _lists_split(file, root, stems, folders):
            says = f"names images and a split, and is not read as a list; {advice}"
            raise DatasetError(file, f"{says}, or move the file out")


def _lists_split(file: Path, root: Path, stems: Collection[str], folders: Collection[str]) -> bool:
    """Whether a file names images of a set, or recordings, and a split that not all are in."""
    try:
        with file.open("rb") as opened:
            data = opened.read(_READ)
    except OSError:
        return False
    wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    text = data.decode("utf-16" if wide else "utf-8-sig", "replace")
    json = file.suffix.lower().startswith(".json")
    if json:
        lines = [[word] for word in re.findall(r'"((?:[^"\\]|\\.)*)"', text)]
    else:
        lines = [re.split(r"[\s,;|\"']+", line) for line in text.splitlines() if line.strip()]
    known = {*stems, *folders}
    named = [
        known & {_composed(_without_suffix(re.split(r"[/\\]", word)[-1])) for word in line}
        for line in lines
    ]
    # Prose may hold a number that is an id.
    if not any(named) or (not json and 2 * sum(map(bool, named)) <= len(lines)):
        return False
    names = file.relative_to(root).with_suffix("").parts
    told = {split for name in names for split in splits_told(name)}
    told |= {split for line in lines for split in map(split_named, line) if split}
    return bool(told & {"val", "test"}) or (bool(told) and not set().union(*named) >= set(stems))
