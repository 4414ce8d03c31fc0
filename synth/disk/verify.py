"""Whether a set on disk is what was built, byte by byte."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain
from pathlib import Path

from synth.disk.description import DESCRIPTION, IMAGES, MANIFEST, MASKS, SHARDS, read_description
from synth.disk.files import file_problem, link_problem
from synth.disk.names import link_inside, parts_inside
from synth.disk.shards import read_index
from synth.disk.split_names import SPLITS
from synth.disk.staging import check_line
from synth.errors import DatasetError

_LIST = re.compile(r"50_50/(train|val|test)\.txt|img_idx/(train|val|test)_[^/]*\.txt")


def verify(out: Path, threads: int) -> Iterator[tuple[int, int, str | None]]:
    """Test every file of a built set against its hash, and its split lists against its manifest.

    Yields
    ------
    done, total : int
        Progress in outputs.
    problem : str or None
        One line that names a file, for every file that is missing, changed, or not the build's,
        and for every id whose split is not the same in a list, or in a shard's name, and in the
        manifest.

    Raises
    ------
    StoreError
        ``dataset.json`` itself is missing or was changed, or names a file outside of the set.
    """
    description = read_description(out)
    files = description.get("files", {})
    # A set in shards has its outputs in these files, and no manifest of its own.
    shards = description.get("shards")
    within, total = 0, sum((shards or {}).values())
    expected, sound = {DESCRIPTION, *files}, set()
    with ThreadPoolExecutor(threads) as pool:
        problems = pool.map(lambda name: file_problem(out, name, files[name]), files)
        for name, problem in zip(files, problems, strict=True):
            if problem is None:
                sound.add(name)
            if shards and name.endswith(".tar"):
                within += shards.get(Path(name).stem, 0)
            if problem or total:
                yield within, total, problem
        if shards is not None:
            # Shards that were changed are named already, and cannot be read.
            rest = _shard_problems(out, shards) if sound.issuperset(files) else iter(())
        else:
            lines = []
            with suppress(OSError):
                lines = (out / MANIFEST).read_bytes().splitlines(keepends=True)
            total = len(lines)
            splits = {}
            checks = pool.map(lambda line: check_line(out, line), lines)
            for done, (entry, problem) in enumerate(checks, start=1):
                if entry is not None:
                    splits[entry.id] = entry.split
                    for name in entry.files:
                        with suppress(ValueError):
                            expected.add("/".join(parts_inside(name)))
                yield done, total, problem
            if MANIFEST not in sound:
                # What the build made cannot be told from the rest without its manifest.
                return
            rest = _list_problems(out, files, sound, splits)
            if not any(map(_LIST.fullmatch, files)):
                # A set that was imported undivided may have been divided since.
                expected |= {f"{split}.txt" for split in SPLITS}
    for problem in chain(rest, _other_problems(out, expected)):
        yield total, total, problem


def _other_problems(out: Path, expected: set[str]) -> Iterator[str]:
    """Find links among the folders of the expected files, and files that are not expected."""
    folders = {IMAGES, MASKS, *(str(up) for name in expected for up in Path(name).parents[:-1])}
    expected = expected | folders
    for folder in (*sorted(folders), ""):
        link = link_inside(out, Path(folder).parts)
        if link is not None:
            yield link_problem(link)
        elif (out / folder).is_dir():
            for entry in sorted(os.scandir(out / folder), key=lambda e: e.name):
                if f"{folder}/{entry.name}".lstrip("/") not in expected:
                    yield f"{out / folder / entry.name}: is not part of the build; remove it"


def _list_problems(
    out: Path, files: Mapping[str, str], sound: set[str], splits: Mapping[str, str]
) -> Iterator[str]:
    """Compare the split lists whose bytes are the build's with the splits of the manifest."""
    layouts: dict[str, dict[str, str]] = {}
    for name in files:
        if found := _LIST.fullmatch(name):
            layouts.setdefault(name.split("/")[0], {})[name] = found[1] or found[2]
    for folder, lists in layouts.items():
        listed: set[str] = set()
        for name, split in lists.items():
            if name not in sound:
                continue
            entries = (out / name).read_bytes().decode(errors="replace").splitlines()
            for id_, count in Counter(filter(None, map(str.strip, entries))).items():
                listed.add(id_)
                problem = ""
                if id_ not in splits:
                    problem = "which is no output of the set"
                elif splits[id_] != split:
                    problem = f"which {MANIFEST} has in the split {splits[id_]!r:.80}"
                elif count > 1:
                    problem = f"{count} times"
                if problem:
                    yield f"{out / name}: names {id_!r:.80}, {problem}; build the set again"
        if sound.issuperset(lists):
            for id_ in (id_ for id_ in splits if id_ not in listed):
                yield f"{out / folder}: no list names the output {id_!r:.80}; build the set again"


def _shard_problems(out: Path, shards: Mapping[str, int]) -> Iterator[str]:
    """Read a set's shards as any reader does, and compare their sizes with the description."""
    try:
        images, _, _ = read_index(out)
    except DatasetError as error:
        yield str(error)
        return
    counts = Counter(file.path.parent for file in images.values())
    for name, count in shards.items():
        tar = out / SHARDS / f"{name}.tar"
        if counts[tar] != count:
            problem = f"has {counts[tar]:,} outputs, and {DESCRIPTION} says {count:,}"
            yield f"{tar.with_suffix('.jsonl')}: {problem}; build the set again"
