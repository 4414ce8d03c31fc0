"""Random layouts of labelled sets, with the pairs and splits that a person sees in them."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

IMAGES = ("images", "image", "imgs", "img", "IRSTD1k_Img")
MASKS = ("masks", "mask", "labels", "label", "gt", "groundtruth", "IRSTD1k_Label")
SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
SUFFIXES = (".png", ".bmp", ".tif", ".jpg", ".PNG")


PICTURE = cv2.imencode(".png", np.diag([255, 0, 0, 0, 0]).astype(np.uint8))[1].tobytes()
"""A file that can be an image or a mask; its bytes tell its type, whatever the suffix."""


@dataclass
class Case:
    """A set on disk: the split and the mask of every image that has one, by real paths."""

    root: Path
    truth: dict[Path, tuple[str, Path]] = field(default_factory=dict)
    ids: dict[Path, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)


def make_case(root: Path, seed: int) -> Case:
    """Write a random layout; two of five have a fault, for which no reading is right."""
    rng = random.Random(seed)
    case = Case(root / "set")
    _Maker(case, rng, root / "elsewhere").make()
    return case


def _cased(rng: random.Random, name: str) -> str:
    return rng.choice((name, name, name.upper(), name.capitalize()))


class _Maker:
    def __init__(self, case: Case, rng: random.Random, elsewhere: Path) -> None:
        self.case, self.rng, self.elsewhere = case, rng, elsewhere
        self.root = case.root
        self.images = _cased(rng, rng.choice(IMAGES))
        self.masks = _cased(rng, rng.choice(MASKS))
        self.pairs: list[tuple[str | None, tuple[str, ...], str, Path, Path]] = []
        self.folders: dict[str | None, tuple[Path, Path]] = {}

    def make(self) -> None:
        rng = self.rng
        self.root.mkdir(parents=True)
        style = rng.choice(("one", "parents", "below"))
        splits: list[str | None] = [None]
        if style != "one":
            splits = list(rng.choice((("train", "test"), ("train", "val", "test"), ("test",))))
        self.style = style
        self.case.words += [style, self.images, self.masks]
        nested = rng.random() < 0.4
        same = rng.random() < 0.3
        for number, split in enumerate(splits):
            name = None if split is None else _cased(rng, rng.choice(SPLITS[split]))
            if name is None:
                places = (self.root / self.images, self.root / self.masks)
            elif style == "parents":
                places = (self.root / name / self.images, self.root / name / self.masks)
            else:
                places = (self.root / self.images / name, self.root / self.masks / name)
            self.folders[split] = places
            recordings = [(), ("rec1",)] if nested else [()]
            if nested:
                recordings = rng.choice(
                    ([("rec1",), ("rec2",)], [(), ("day", "rec1")], [("Straße",), ("b c",)])
                )
            self.write(split, places, recordings, 0 if same else 100 * number)
        for (split, _, _, image, mask), id_ in zip(self.pairs, self.ids(), strict=True):
            self.case.truth[image.resolve()] = (split or "train", mask.resolve())
            self.case.ids[image.resolve()] = id_
        if rng.random() < 0.5:
            self.lists()
        for act in (self.junk, self.strays, self.links):
            if rng.random() < 0.4:
                act()
        if rng.random() < 0.4:
            options = [f for f in _FAULTS if f is not split_twice or style != "one"]
            fault = rng.choice(options)
            if fault(self):
                self.case.faults.append(fault.__name__)

    def write(
        self,
        split: str | None,
        places: tuple[Path, Path],
        recordings: list[tuple[str, ...]],
        first: int,
    ) -> None:
        rng = self.rng
        suffix, mask_suffix = rng.choice(SUFFIXES), rng.choice(SUFFIXES[:3])
        end = rng.choice(("", "", "_pixels0"))
        kind = rng.choice(("{:04d}", "frame {}", "Misc_{}", "é{}", "a.{}"))
        forms = rng.choice(("NFC", "NFD")), rng.choice(("NFC", "NFD"))
        linked = rng.random() < 0.15 and not any(recordings)
        for parts in recordings:
            for number in range(first, first + rng.randint(1, 4)):
                stem = kind.format(number)
                files = []
                for place, form, name in (
                    (places[0], forms[0], stem + suffix),
                    (places[1], forms[1], stem + end + mask_suffix),
                ):
                    folder = place.joinpath(*parts)
                    if linked and not place.exists():
                        target = self.elsewhere / f"{split}{place.name}{place.parent.name}"
                        target.mkdir(parents=True)
                        place.parent.mkdir(parents=True, exist_ok=True)
                        place.symlink_to(target)
                    folder.mkdir(parents=True, exist_ok=True)
                    file = folder / unicodedata.normalize(form, name)
                    file.write_bytes(PICTURE)
                    files.append(file)
                self.pairs.append((split, parts, stem, files[0], files[1]))

    def ids(self) -> list[str]:
        homes: dict[tuple[tuple[str, ...], str], set[str | None]] = {}
        for split, parts, stem, *_ in self.pairs:
            homes.setdefault((parts, stem), set()).add(split)
        twice = any(len(found) > 1 for found in homes.values())
        made = []
        for split, parts, stem, *_ in self.pairs:
            id_ = "_".join((*parts, stem))
            made.append(unicodedata.normalize("NFC", f"{split}_{id_}" if twice else id_))
        return made

    def lists(self) -> None:
        """Lists in one of the layouts and styles; beside split folders they say the same."""
        rng = self.rng
        if self.style == "one":
            names = ["train", "test"] + (["val"] if rng.random() < 0.3 else [])
            for image in self.case.truth:
                mask = self.case.truth[image][1]
                self.case.truth[image] = (rng.choice(names), mask)
            # A list has to be there for each.
            for name in names:
                if not any(split == name for split, _ in self.case.truth.values()):
                    image = rng.choice(list(self.case.truth))
                    self.case.truth[image] = (name, self.case.truth[image][1])
        where = rng.choice(("50_50", "80_20", ".", "idx_7", "img_idx"))
        ways = ("id", "file", "path", "below") if any(p[1] for p in self.pairs) else ("id", "file")
        way = rng.choice(ways)
        ending, mark = rng.choice(("\n", "\r\n", " \n", "\t\n")), rng.choice(("", "\ufeff"))
        form = rng.choice(("NFC", "NFD"))
        lines: dict[str, list[str]] = {}
        for _, parts, stem, image, _ in self.pairs:
            real = image.resolve()
            entry = {
                "id": self.case.ids[real],
                "file": self.case.ids[real] + image.suffix,
                "path": image.relative_to(self.root).as_posix(),
                "below": "/".join((*parts, stem)),
            }[way]
            lines.setdefault(self.case.truth[real][0], []).append(
                unicodedata.normalize(form, entry)
            )
        for split, entries in lines.items():
            rng.shuffle(entries)
            name = f"{split}_set" if where == "img_idx" else split
            file = self.root / where / f"{name}.txt"
            file.parent.mkdir(exist_ok=True)
            file.write_bytes((mark + "".join(e + ending for e in entries)).encode())
        self.case.words += [where, way]

    def junk(self) -> None:
        """What macOS, Windows and storage devices leave."""
        for images, masks in self.folders.values():
            for folder in (images, masks):
                (folder / ".DS_Store").touch()
                (folder / "._0001.png").write_bytes(PICTURE)
                (folder / "Thumbs.db").touch()
                (folder / "@eaDir" / "0001.png").mkdir(parents=True)
                (folder / "@eaDir" / "0001.png" / "SYNOPHOTO_THUMB_M.jpg").write_bytes(PICTURE)
        (self.root / "__MACOSX" / "images").mkdir(parents=True)
        (self.root / "__MACOSX" / "images" / "._1.png").write_bytes(PICTURE)

    def strays(self) -> None:
        """Files and folders that are not part of the set."""
        taken = {child.name.lower() for child in self.root.iterdir()}
        (self.root / "README.md").touch()
        if "visual" not in taken:
            (self.root / "visual").mkdir()
            (self.root / "visual" / "0001.png").write_bytes(PICTURE)
        empty = next(n for n in ("labels", "label", "gt") if n not in taken)
        (self.root / empty).mkdir()
        (self.root / empty / "0001.txt").write_text("0 0.5 0.5 0.1 0.1\n")

    def links(self) -> None:
        """Links that lead in a circle, or to a folder that is read anyway."""
        images, masks = next(iter(self.folders.values()))
        (images / "again").symlink_to(images.resolve(), target_is_directory=True)
        (masks / "up").symlink_to(self.root.resolve(), target_is_directory=True)


def more_images(maker: _Maker) -> bool:
    images, _ = next(iter(maker.folders.values()))
    place = images.parent if maker.style != "below" else images.parent.parent
    taken = {child.name.lower() for child in place.iterdir()}
    name = next(n for n in IMAGES if n.lower() not in taken)
    (place / name).mkdir()
    (place / name / "x.png").write_bytes(PICTURE)
    return True


def more_masks(maker: _Maker) -> bool:
    _, masks = next(iter(maker.folders.values()))
    place = masks.parent if maker.style != "below" else masks.parent.parent
    taken = {child.name.lower() for child in place.iterdir()}
    name = next(n for n in MASKS if n.lower() not in taken)
    (place / name).mkdir()
    stem = maker.pairs[0][2]
    (place / name / f"{stem}.png").write_bytes(PICTURE)
    return True


def set_beside_splits(maker: _Maker) -> bool:
    place = maker.root if maker.style == "parents" else maker.root / "train"
    if place != maker.root and any(c.name.lower() == "train" for c in maker.root.iterdir()):
        return False
    for name in ("images", "masks"):
        (place / name).mkdir(parents=True)
        (place / name / "0000.png").write_bytes(PICTURE)
    return True


def no_mask(maker: _Maker) -> bool:
    *_, image, mask = maker.rng.choice(maker.pairs)
    mask.unlink()
    del maker.case.truth[image.resolve()]
    return True


def mask_elsewhere(maker: _Maker) -> bool:
    """A mask of the right name in another folder of masks."""
    split, _, _, image, mask = maker.rng.choice(maker.pairs)
    other = maker.folders[split][1] / "other"
    other.mkdir()
    mask.rename(other / mask.name)
    del maker.case.truth[image.resolve()]
    return True


def one_id_twice(maker: _Maker) -> bool:
    *_, image, _ = maker.rng.choice(maker.pairs)
    other = image.with_suffix(".jpeg")
    if other.exists():
        return False
    other.write_bytes(PICTURE)
    maker.case.truth.pop(image.resolve())
    return True


def wide_list(maker: _Maker) -> bool:
    found = [file for file in maker.root.rglob("*.txt") if file.stem.split("_")[0] in SPLITS]
    if not found:
        return False
    file = maker.rng.choice(found)
    text = file.read_bytes().decode("utf-8-sig")
    file.write_bytes(text.encode(maker.rng.choice(("utf-16", "utf-16-le", "utf-16-be"))))
    return True


def val_is_a_link(maker: _Maker) -> bool:
    """A split that is a link to another one."""
    taken = {child.name.lower() for child in maker.root.iterdir()}
    if maker.style != "parents" or taken & set(SPLITS["val"]):
        return False
    folder = maker.folders[next(iter(maker.folders))][0].parent
    (maker.root / "val").symlink_to(folder.resolve(), target_is_directory=True)
    return True


def split_twice(maker: _Maker) -> bool:
    """Two folders of one split."""
    split, (images, masks) = next(iter(maker.folders.items()))
    assert split is not None
    where = (maker.root,) if maker.style == "parents" else (images.parent, masks.parent)
    taken = {child.name.lower() for place in where for child in place.iterdir()}
    name = next((n for n in SPLITS[split] if n not in taken), None)
    if name is None:
        return False
    for folder in (images, masks):
        own = maker.root / name / folder.name if len(where) == 1 else folder.parent / name
        own.mkdir(parents=True)
        (own / "extra.png").write_bytes(PICTURE)
    return True


def split_below_recording(maker: _Maker) -> bool:
    for folder in next(iter(maker.folders.values())):
        (folder / "rec9" / "test").mkdir(parents=True)
        (folder / "rec9" / "test" / "1.png").write_bytes(PICTURE)
    return True


def mask_of_two_names(maker: _Maker) -> bool:
    *_, stem, image, mask = maker.rng.choice(maker.pairs)
    stem = unicodedata.normalize("NFC", mask.stem.removesuffix("_pixels0"))
    name = f"{stem}.png" if mask.stem.endswith("_pixels0") else f"{stem}_pixels0.png"
    (mask.parent / name).write_bytes(PICTURE)
    maker.case.truth.pop(image.resolve())
    return True


def broken_folder(maker: _Maker) -> bool:
    images, _ = next(iter(maker.folders.values()))
    (images / "rec7").symlink_to(maker.root / "gone")
    return True


def list_that_disagrees(maker: _Maker) -> bool:
    if maker.style == "one" or any(maker.root.rglob("*train*.txt")):
        return False
    id_ = next(iter(maker.case.ids.values()))
    split = maker.pairs[0][0]
    other = "val" if split == "train" else "train"
    (maker.root / f"{other}.txt").write_text(f"{id_}\n")
    return True


_FAULTS: tuple[Callable[[_Maker], bool], ...] = (
    more_images,
    more_masks,
    set_beside_splits,
    no_mask,
    mask_elsewhere,
    one_id_twice,
    wide_list,
    val_is_a_link,
    split_twice,
    split_below_recording,
    mask_of_two_names,
    broken_folder,
    list_that_disagrees,
)
