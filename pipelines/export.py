"""A data set in another format, and back: staged, resumable, and byte-identical however often.

Both ways go through the staging directory of a build, so that an export is whole or absent, goes on
where it was interrupted, and can be verified file by file.
"""

from __future__ import annotations

import hashlib
import os
import platform
import stat
import tarfile
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.build.card import Contents, code_span, plain_text, write_card
from pipelines.build.parallel import Pool
from pipelines.formats import FORMATS, WRITTEN, Written
from pipelines.formats.drawing import Class, describe_classes, describe_notes
from pipelines.formats.sample import Entry, Found, load_sample
from pipelines.formats.webdataset import add_member
from synth import __version__
from synth.dataset import Dataset
from synth.disk.description import CARD, IMAGES, MANIFEST, MASKS, finished, split_lists
from synth.disk.files import sha256, write_file
from synth.disk.manifest import Line, parse_line
from synth.disk.split_names import SPLITS
from synth.disk.staging import Staging, staging
from synth.errors import DatasetError, StoreError
from synth.targets import find_targets

Progress = Callable[[str, int, int], None]

SHARD_SIZE = 1000

# What an import says of its annotations, in `ExportResult` and in ``dataset.json``.
_FACTS = ("annotations", "classes", "left_out", "notes")


@dataclass(frozen=True)
class ExportResult:
    """What an export or import did.

    `made` units (samples, shards) were written in this run; the others were whole already.
    `mask_iou` is the intersection over union of all masks with what the format keeps of them; 1 for
    none at all, None for what was there already. `annotations` counts what an import read, None for
    a format of masks; `classes` has them by class, `left_out` those of classes that
    were not chosen, and `notes` by what else happened to them
    (`pipelines.formats.drawing`).
    """

    out: Path
    counts: dict[str, int]
    targets: int
    made: int
    mask_iou: float | None
    annotations: int | None = None
    classes: Mapping[str, int] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    notes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Looked:
    """What the first look at a sample found."""

    entry: Entry
    areas: list[int]
    digest: bytes
    shared: int
    either: int


@dataclass(frozen=True)
class _Unit:
    """What is written at once: a sample or a shard."""

    key: str
    split: str
    ids: tuple[str, ...]


def export_dataset(
    dataset: Dataset,
    name: str,
    out: Path,
    pool: Pool,
    *,
    shard_size: int = SHARD_SIZE,
    progress: Progress | None = None,
) -> ExportResult:
    """Write every listed pair of a data set in another format.

    Image files are copied; those that simple readers read wrongly (turned by a tag, palettes,
    unusual TIFF) are written as PNG. Masks that are grey PNGs of 0 and 255 are copied as well.

    Parameters
    ----------
    dataset : Dataset
    name : str
        One of `WRITTEN`.
    out : Path
        Folder to make.
    pool : Pool
    shard_size : int
        Samples in a tar file, for formats that have them.
    progress : callable, optional
        Called with stage, units done, units in all.

    Raises
    ------
    FrameError
        A file is damaged, or a mask of another size.
    StoreError
        `out` is taken, is in the data set, or cannot be written.
    """
    report = progress or _silent
    format_ = WRITTEN[name]
    out = _place(out, dataset.root)
    work = [(split, id_) for split, ids in dataset.splits.items() for id_ in ids]
    looked = []
    with closing(pool.map(lambda item: _look(dataset, format_, *item), work)) as results:
        for done, result in enumerate(results, start=1):
            looked.append(result)
            report("look", done, len(work))
    units = list(_units(dataset, shard_size if format_.sharded else None))
    counts = {
        "outputs": len(units),
        **{split: len(ids) for split, ids in dataset.splits.items()},
    }
    configuration: dict[str, Any] = {"command": "export", "format": name}
    if format_.sharded:
        configuration["shard_size"] = shard_size
    digest = hashlib.sha256()
    for (split, id_), found in zip(work, looked, strict=True):
        digest.update(f"{split}/{id_}\0".encode() + found.digest)
    description = _describe(dataset.name, configuration, dataset.name, digest.hexdigest(), counts)
    shared, either = sum(x.shared for x in looked), sum(x.either for x in looked)
    targets = sum(len(x.areas) for x in looked)
    iou = shared / either if either else 1.0
    if finished(out, description) is not None:
        return ExportResult(out, counts, targets, 0, iou)
    notes = {item: x.entry.note for item, x in zip(work, looked, strict=True)}
    with staging(out, description, ()) as stage:
        done = stage.completed(((unit.key, unit.split) for unit in units), pool.jobs)
        made = len(units) - done

        def write(unit: _Unit) -> bytes:
            return _write_unit(dataset, format_, stage.place, unit, notes)

        with closing(pool.map(write, units[done:])) as lines:
            for line in lines:
                stage.append(line)
                done += 1
                report("write", done, len(units))
        entries = [found.entry for found in looked]
        files = format_.index(list(dataset.splits), entries, dataset.name)
        files[CARD] = _card(dataset, name, looked, iou)
        stage.publish(description | {"folders": _folders(stage)}, files)
    return ExportResult(out, counts, targets, made, iou)


def import_dataset(
    root: Path,
    name: str,
    out: Path,
    pool: Pool,
    *,
    classes: Sequence[str] = (),
    progress: Progress | None = None,
) -> ExportResult:
    """Read a folder of another format and write it as a data set of ours.

    Image files are copied; those that simple readers read wrongly (turned by a tag, palettes,
    unusual TIFF) are written as PNG. No link is followed, nothing outside of the folder is read,
    and nothing is unpacked. `classes` names the classes of the targets, all by default; other
    annotations are background.

    Raises
    ------
    FrameError
        The folder is not of that format, a file in it is damaged, missing, or a link, or no
        annotation is of a class that was asked for.
    StoreError
        `out` is taken, is in the folder, or cannot be written.
    """
    out = _place(out, root)
    if not root.is_dir():
        raise DatasetError(root, "is not a folder; give the folder that holds the set")
    notes: Counter[str] = Counter()
    found = _own_ids(root, list(FORMATS[name].read(root, notes)))
    lists = _lists(root, found)
    origin = [f"Read from {code_span(root.resolve().name)}, a folder of the format {name}."]
    configuration: dict[str, Any] = {"command": "import", "format": name}
    kinds = None
    if classes:
        configuration["classes"] = sorted(set(classes))
        kinds = _chosen_kinds(root, found, classes, pool)
    return write_set(found, lists, root, out, configuration, origin, pool, progress, notes, kinds)


def _chosen_kinds(
    root: Path, found: Sequence[Found], classes: Sequence[str], pool: Pool
) -> set[Class]:
    """The classes of a set that names or, where none is called so, numbers choose."""
    there: set[Class] = set()
    counts: Counter[str] = Counter()
    with closing(pool.map(_look_at_classes, found)) as results:
        for kinds, own in results:
            there |= kinds
            counts.update(own)
    chosen: set[Class] = set()
    for wanted in classes:
        named = {kind for kind in there if kind[0] == wanted}
        named = named or {kind for kind in there if str(kind[1]) == wanted}
        if not named:
            raise DatasetError(
                root,
                f"has no annotation of the class {wanted!r:.60}; choose --class from "
                f"{describe_classes(counts) or 'none: the set has no annotation'}",
            )
        chosen |= named
    return chosen


def _look_at_classes(item: Found) -> tuple[set[Class], Counter[str]]:
    pair = item.load()
    if pair.drawing is None:
        return set(), Counter()
    try:
        return pair.drawing.kinds(), pair.drawing.classes
    except ValueError as error:
        raise DatasetError(item.source or item.id, str(error)) from None


def write_set(
    found: Sequence[Found],
    lists: dict[str, list[str]],
    root: Path,
    out: Path,
    configuration: dict[str, Any],
    origin: Sequence[str],
    pool: Pool,
    progress: Progress | None = None,
    notes: Mapping[str, int] | None = None,
    kinds: Container[Class] | None = None,
) -> ExportResult:
    """Write pairs that were found in a folder as a data set of ours, with its card.

    Parameters
    ----------
    found : sequence of Found
    lists : dict of str to list of str
        Their ids by split.
    root : Path
        The folder, whose bytes tell this set from another one.
    out : Path
    configuration : dict
        What goes into ``dataset.json``.
    origin : sequence of str
        What the card says on where the set is from.
    pool : Pool
    progress : callable, optional
        Called with stage, pairs done, pairs in all.
    notes : mapping of str to int, optional
        What was left out while the pairs were looked for, see `ExportResult`.
    kinds : container of Class, optional
        The classes whose annotations are targets; all by default.
    """
    report = progress or _silent
    out = _place(out, root)
    ordered = sorted(found, key=lambda item: SPLITS.index(item.split))
    counts = {"outputs": len(found), **{split: len(ids) for split, ids in lists.items()}}
    fingerprint = _fingerprint(root, pool)
    description = _describe(out.name, configuration, root.resolve().name, fingerprint, counts)
    there = finished(out, description)
    if there is not None:
        facts: dict[str, Any] = {key: there[key] for key in _FACTS if key in there}
        return ExportResult(out, counts, int(there.get("targets", 0)), 0, None, **facts)
    with staging(out, description) as stage:
        done = stage.completed(((item.id, item.split) for item in ordered), pool.jobs)
        made = len(ordered) - done

        def write(item: Found) -> bytes:
            return _write_found(stage.place, item, kinds)

        with closing(pool.map(write, ordered[done:])) as lines:
            for line in lines:
                stage.append(line)
                done += 1
                report("write", done, len(ordered))
        contents = _contents(stage, lists)
        # Where all is for training nothing is split yet: no list stands in the way of new ones.
        divided = any(ids for split, ids in lists.items() if split != "train")
        files = split_lists(out.name, lists) if divided else {}
        layout = "`images`, `masks` (0 and 255)"
        if divided:
            layout += ", lists of ids in `50_50` and `img_idx`"
        facts = _facts(stage, notes or {})
        words = describe_notes(*(facts.get(key, {}) for key in ("notes", "classes", "left_out")))
        origin = [*origin, *(f"{plain_text(line)}." for line in words)]
        files[CARD] = write_card(out.name, layout, contents, origin, {})
        targets = sum(contents.targets.values())
        stage.publish(description | {"targets": targets} | facts, files)
    return ExportResult(out, counts, targets, made, None, **facts)


def _silent(stage: str, done: int, total: int) -> None:
    pass


def _place(out: Path, source: Path) -> Path:
    """Where an output goes, which may not be inside of what it is read from."""
    if out.is_symlink() or not out.name:
        out = out.resolve()
    if out.resolve().is_relative_to(source.resolve()):
        raise StoreError(out, f"lies in {source}, which is read; choose another --out")
    return out


def _look(dataset: Dataset, format_: Written, split: str, id_: str) -> _Looked:
    sample = load_sample(dataset, split, id_)
    note = format_.annotate(sample)
    shared = either = int(np.count_nonzero(sample.mask))
    if format_.held is not None:
        kept = format_.held(note, sample.shape)
        shared = int(np.count_nonzero(kept & sample.mask))
        either = int(np.count_nonzero(kept | sample.mask))
    digest = hashlib.sha256(hashlib.sha256(sample.image).digest())
    digest.update(sample.suffix.encode() + hashlib.sha256(sample.mask_png).digest())
    areas = [target.area for target in sample.targets]
    entry = Entry(id_, split, sample.suffix, sample.shape, note)
    return _Looked(entry, areas, digest.digest(), shared, either)


def _units(dataset: Dataset, shard_size: int | None) -> Iterator[_Unit]:
    for split, ids in dataset.splits.items():
        if shard_size is None:
            yield from (_Unit(id_, split, (id_,)) for id_ in ids)
            continue
        for number, at in enumerate(range(0, len(ids), shard_size)):
            yield _Unit(f"{split}-{number:06d}.tar", split, ids[at : at + shard_size])


def _write_unit(
    dataset: Dataset,
    format_: Written,
    place: Path,
    unit: _Unit,
    notes: dict[tuple[str, str], Any],
) -> bytes:
    """Write the files of a unit; return its line of the manifest."""
    samples = ((load_sample(dataset, unit.split, id_), notes[unit.split, id_]) for id_ in unit.ids)
    hashes = {}
    if format_.sharded:
        path = place / unit.key
        try:
            with tarfile.open(path, "w", format=tarfile.GNU_FORMAT, encoding="utf-8") as shard:
                for sample, note in samples:
                    for name, data in format_.files(sample, note).items():
                        add_member(shard, name, data)
            with path.open("rb") as stream:
                hashes[unit.key] = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise StoreError(path, f"cannot be written ({error.strerror})") from None
    else:
        for sample, note in samples:
            for name, data in format_.files(sample, note).items():
                _make_parent(place / name)
                write_file(f"{place}/{name}", data)
                hashes[name] = sha256(data)
    return Line(unit.key, unit.split, unit.key, more={"files": hashes}).to_line()


def _make_parent(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(path.parent, f"cannot be made ({error.strerror})") from None


def _folders(stage: Staging) -> dict[str, int]:
    """Files of the samples by folder, for a glance at whether all are there."""
    folders: Counter[str] = Counter()
    for line in (stage.place / MANIFEST).read_bytes().splitlines():
        folders.update(str(Path(name).parent) for name in parse_line(line).files)
    return dict(sorted(folders.items()))


def _card(dataset: Dataset, name: str, looked: Sequence[_Looked], iou: float) -> bytes:
    contents = Contents({split: len(ids) for split, ids in dataset.splits.items()})
    contents.targets = dict.fromkeys(contents.images, 0)
    for found in looked:
        contents.targets[found.entry.split] += len(found.areas)
        contents.areas.update(found.areas)
        contents.shapes[found.entry.shape] += 1
    kept = "all of every mask" if iou == 1 else f"masks at an IoU of {iou:.3f} with the originals"
    origin = [
        f"Exported from {code_span(dataset.name)} by sirst-synth; the format {name} keeps {kept}.",
        "Image files are copied; those that simple readers read wrongly (turned by a tag, "
        "palettes, unusual TIFF) are written as PNG.",
        f"`{MANIFEST}` has the SHA-256 of every file; `synth verify` tests them.",
    ]
    return write_card(dataset.name, WRITTEN[name].says, contents, origin, {})


def _describe(
    name: str, configuration: dict[str, Any], source: str, fingerprint: str, counts: dict[str, int]
) -> dict[str, Any]:
    return {
        "format": 1,
        "name": name,
        "configuration": configuration,
        "source": {"name": source, "fingerprint": fingerprint},
        "noise": None,
        "counts": counts,
        "versions": {"sirst-synth": __version__, "python": platform.python_version()},
    }


def _own_ids(root: Path, found: Sequence[Found]) -> list[Found]:
    """The split goes in front of every id where two splits have one.

    Raises
    ------
    DatasetError
        One image is in two splits.
    """
    homes: dict[str, Found] = {}
    shared = False
    for item in found:
        other = homes.setdefault(item.id, item)
        if other.split == item.split:
            continue
        if item.source is not None and other.source == item.source:
            raise DatasetError(
                item.source, f"is in {other.split} and in {item.split}; keep it in one split"
            )
        shared = True
    if not shared:
        return list(found)
    return [replace(item, id=f"{item.split}_{item.id}") for item in found]


def _lists(root: Path, found: Sequence[Found]) -> dict[str, list[str]]:
    """Ids by split; every id once, in any letters' case."""
    if not found:
        raise DatasetError(root, "holds no image; give the folder of a set that has some")
    lists: dict[str, list[str]] = {split: [] for split in SPLITS}
    seen: set[str] = set()
    for item in found:
        if item.id in seen:
            raise DatasetError(root, f"has the id {item.id!r} twice; rename or remove one")
        seen.add(item.id)
        lists[item.split].append(item.id)
    return {split: ids for split, ids in lists.items() if ids or split != "val"}


def _fingerprint(root: Path, pool: Pool) -> str:
    """One hash over names and bytes of all files of a folder; links are not followed."""
    files = []
    for folder, inside, names in os.walk(root):
        inside.sort()
        files += [Path(folder) / name for name in sorted(names)]
    regular = [path for path in files if stat.S_ISREG(path.lstat().st_mode)]
    digest = hashlib.sha256()
    with closing(pool.map(_digest_file, regular)) as results:
        for path, found in zip(regular, results, strict=True):
            digest.update(os.fsencode(path.relative_to(root)) + b"\0" + found)
    return digest.hexdigest()


def _digest_file(path: Path) -> bytes:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def _write_found(place: Path, item: Found, kinds: Container[Class] | None) -> bytes:
    pair = item.load()
    if kinds is not None:
        pair = pair.choose(kinds)
    targets = find_targets(pair.mask)
    record: dict[str, Any] = {}
    for key, folder, suffix, data in (
        ("image", IMAGES, pair.suffix, pair.image),
        ("mask", MASKS, ".png", pair.mask_png),
    ):
        name = f"{folder}/{item.id}{suffix}"
        write_file(f"{place}/{name}", data)
        record[key] = name
        record[f"{key}_sha256"] = sha256(data)
    record["shape"] = list(pair.mask.shape)
    record["areas"] = [target.area for target in targets]
    return Line(item.id, item.split, item.id, item.steps, pair.facts, record).to_line()


def _facts(stage: Staging, notes: Mapping[str, int]) -> dict[str, Any]:
    """What became of the annotations of all pairs; nothing for pairs that have none."""
    counted: int | None = None
    classes: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    found: Counter[str] = Counter(notes)
    for line in (stage.place / MANIFEST).read_bytes().splitlines():
        record = parse_line(line).facts
        if "annotations" in record:
            counted = (counted or 0) + record["annotations"]
            classes.update(record["classes"])
            left_out.update(record.get("left_out", {}))
            found.update(record["notes"])
    facts: dict[str, Any] = {} if counted is None else {"annotations": counted}
    if classes:
        facts["classes"] = dict(sorted(classes.items()))
    if left_out:
        facts["left_out"] = dict(sorted(left_out.items()))
    if any(found.values()):
        facts["notes"] = {key: count for key, count in sorted(found.items()) if count}
    return facts


def _contents(stage: Staging, lists: dict[str, list[str]]) -> Contents:
    contents = Contents({split: len(ids) for split, ids in lists.items()})
    contents.targets = dict.fromkeys(contents.images, 0)
    for line in (stage.place / MANIFEST).read_bytes().splitlines():
        entry = parse_line(line)
        record = entry.more
        contents.targets[entry.split] += len(record["areas"])
        contents.areas.update(record["areas"])
        height, width = record["shape"]
        contents.shapes[height, width] += 1
    return contents
