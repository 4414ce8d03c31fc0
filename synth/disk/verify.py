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

from synth.disk.description import (
    DESCRIPTION,
    IMAGES,
    MANIFEST,
    MASKS,
    manifest_files,
    read_description,
)
from synth.disk.files import file_problem, link_problem, named_file_problem
from synth.disk.manifest import parse_line, read_lines
from synth.disk.names import link_inside, parts_inside
from synth.disk.shards import read_index
from synth.disk.split_names import SPLITS
from synth.disk.staging import line_is_whole
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
    expected = {DESCRIPTION}
    files = description.get("files", {})
    sound: set[str] = set()
    splits: dict[str, str] = {}
    # A set in shards has its outputs in these files, and no manifest of its own.
    shards = description.get("shards", {})
    within, total = 0, sum(shards.values())
    with ThreadPoolExecutor(threads) as pool:
        problems = pool.map(lambda name: named_file_problem(out, name, files[name]), files)
        for name, problem in zip(files, problems, strict=True):
            expected.add(name)
            if problem is None:
                sound.add(name)
            within += shards.get(Path(name).stem, 0) if name.endswith(".tar") else 0
            if problem or total:
                yield within, total, problem
    try:
        lines = (out / MANIFEST).read_bytes().splitlines(keepends=True)
    except OSError:
        lines = []
    with ThreadPoolExecutor(threads) as pool:
        checks = pool.map(lambda line: (line, *line_is_whole(out, line)), lines)
        for done, (line, key, problem) in enumerate(checks, start=1):
            if key is not None:
                splits[key[0]] = key[1]
            with suppress(ValueError):
                for name in parse_line(line).files:
                    with suppress(ValueError):
                        expected.add("/".join(parts_inside(name)))
            yield done, len(lines), problem
    sharded = "shards" in description
    if not sharded and file_problem(out / MANIFEST, files.get(MANIFEST, "")):
        # What the build made cannot be told from the rest without its manifest.
        return
    if not sharded:
        rest = _list_problems(out, files, sound, splits)
    else:
        # Shards that were changed are named already, and cannot be read.
        rest = _shard_problems(out, shards) if sound.issuperset(files) else iter(())
    if not sharded and not any(map(_LIST.fullmatch, files)):
        # A set that was imported undivided may have been divided since.
        expected |= {f"{split}.txt" for split in SPLITS}
    for problem in chain(rest, _other_problems(out, expected)):
        yield len(lines) or total, len(lines) or total, problem


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
    """Compare the manifests of a set's shards with the shards' names and sizes."""
    try:
        read_index(out)
    except DatasetError as error:
        yield str(error)
        return
    for path in manifest_files(out):
        split, lines = path.stem.rpartition("-")[0], list(read_lines(path))
        if len(lines) != shards[path.stem]:
            yield (
                f"{path}: has {len(lines):,} outputs, and {DESCRIPTION} says "
                f"{shards[path.stem]:,}; build the set again"
            )
        for line in lines:
            if line.split != split:
                yield (
                    f"{path}: has {line.id!r:.80} in the split {line.split!r:.80}, and "
                    f"the shard is of {split!r}; build the set again"
                )
