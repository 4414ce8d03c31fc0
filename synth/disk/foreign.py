"""Sets of other tools: which format a folder holds, and which command reads it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from synth.disk.folders import folders_below
from synth.disk.split_names import split_told

_DEEPEST = 3
_HEAD = 1 << 16
_INSIDE = ("annotations", "labels", "images", "masks", "jpegimages", "segmentationclass", "ann")
_IMPORTS = ("coco", "labelme", "yolo", "voc", "imagefolder", "webdataset", "npy")


def describe_foreign(root: Path) -> str | None:
    """Say which tool wrote what is in a folder without images and masks, and how to read it.

    Names tell what to look at; the first bytes of a file tell what it is. Returns an error's words,
    None where nothing of another tool is there.
    """
    kinds = [*_TESTS]
    found: list[tuple[int, int, Path]] = []
    for folder in folders_below(root, _DEEPEST):
        kept = Counter[str]()
        for file in sorted(folder.iterdir()):
            suffix = file.suffix.lower()
            wanted = suffix in _TESTS if suffix else file.name == "JPEGImages"
            # Of many alike, the first few are enough.
            if wanted and file.name[0] != "." and kept[suffix] < 3:
                kept[suffix] += 1
                found.append((kinds.index(suffix), len(file.parts), file))
    for *_, file in sorted(found):
        name = _TESTS[file.suffix.lower()](file)
        if name is not None:
            folder = file.parent
            while folder != root and (folder.name.lower() in _INSIDE or split_told(folder.name)):
                folder = folder.parent
            advice = f"read it with `synth import {folder} --format {name} --out NEW`"
            if name not in _IMPORTS:
                read = "read that with `synth import DIR --format coco --out NEW`"
                advice = f"export it as COCO there, and {read}"
            what = f"{name} ({file.relative_to(root)})"
            return f"holds {what}, not images and masks; {advice}"
    return None


def _head(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return opened.read(_HEAD).decode("utf-8-sig", "replace").lstrip()
    except OSError:
        return ""


def _json(file: Path) -> str | None:
    head = _head(file)
    keys = set(re.findall(r'"([A-Za-z_ ]+)"\s*:', head))
    coco = keys & {"images", "annotations", "categories"}
    # Long lists may put the other keys far behind the first one.
    more = keys & {"bbox", "segmentation", "file_name", "image_id"}
    if file.name == "dataset.json" or not keys:
        return None
    if "shapes" in keys and keys & {"imagePath", "imageHeight", "version", "flags"}:
        return "labelme"
    if any(key.startswith("_via") for key in keys) or keys & {"regions", "shape_attributes"}:
        return "a project of VIA"
    if keys & {"classTitle", "classId", "projectType"} or file.parent.name.lower() == "ann":
        return "a project of Supervisely"
    if head.startswith("[") and keys & {"annotations", "completions", "annotation_id", "data"}:
        return "an export of Label Studio as JSON"
    if coco and len(coco | more) >= 2:
        return "coco"
    if keys & {"annotations", "objects", "labels", "polygon", "bbox"}:
        return "annotations in JSON that no importer reads"
    return None


def _xml(file: Path) -> str | None:
    if "<annotations" in (head := _head(file)):
        return "an export of CVAT for images"
    return "voc" if "<annotation" in head else None


def _yaml(file: Path) -> str | None:
    head = _head(file)
    wanted = (r"^\s*names\s*:", r"^\s*(train|val|path)\s*:")
    return "yolo" if all(re.search(key, head, re.MULTILINE) for key in wanted) else None


def _txt(file: Path) -> str | None:
    """A line of YOLO is a class and shares of the image's sides."""
    lines = [line.split() for line in _head(file).splitlines() if line.strip()][:20]
    try:
        shares = [float(word) for line in lines for word in line[1:]]
    except ValueError:
        return None
    boxes = all(line[0].isdigit() and len(line) > 4 for line in lines)
    return "yolo" if lines and boxes and all(0 <= share <= 1 for share in shares) else None


_TESTS: dict[str, Callable[[Path], str | None]] = {
    ".xml": _xml,
    # The folder JPEGImages.
    "": lambda _: "voc",
    ".json": _json,
    ".jsonl": lambda file: "imagefolder" if file.name == "metadata.jsonl" else None,
    ".yaml": _yaml,
    ".yml": _yaml,
    ".txt": _txt,
    ".tar": lambda _: "webdataset",
    ".npy": lambda _: "npy",
}
"""What a file of each suffix is a sign of; those that tell most come first."""
