"""The seam probe on a set that was built: are its changes betrayed by their borders?"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.errors import StoreError
from pipelines.store import MANIFEST
from synth.dataset import open_dataset
from synth.frames import Frame, Mask
from synth.recipe import LabelledSource, fit_side
from synth.seams import probe_seams
from synth.targets import Box, find_targets, target_box

LIMIT = 500
"""Negatives that are looked at: the first ones of the manifest."""


@dataclass(frozen=True)
class SeamScores:
    """What the probe finds; areas under the ROC curve, None where there is too little to judge.

    Attributes
    ----------
    made : float or None
        Boxes around made targets against those around the same targets in the originals.
    untouched : float or None
        Boxes around targets of one half of the originals against those of the other half: what
        chance gives, for no border of them was touched.
    distractors : float or None
        Boxes around made targets against boxes that were turned without a target in them.
    boxes : int
        Made targets that were looked at.
    """

    made: float | None
    untouched: float | None
    distractors: float | None
    boxes: int


def measure_seams(
    root: Path, limit: int = LIMIT, each: Callable[[], object] = lambda: None
) -> SeamScores:
    """Probe the negatives of a set that `synth build` or `synth rotate` has made.

    The originals must be in the set, as a build puts them there. `each` is called once a target.

    Raises
    ------
    StoreError
        The folder has no manifest, or no negatives with their originals beside them.
    SynthError
        An image cannot be read.
    """
    dataset = open_dataset(root)
    lines = _read_manifest(root)
    there = {line["id"] for line in lines}
    made = [
        line
        for line in lines
        if "target" in line and line["source"] in there and line["source"] != line["id"]
    ][:limit]
    if not made:
        raise StoreError(
            root, "holds no negatives beside their originals; give a set that synth build has made"
        )
    images: dict[str, tuple[Frame, Mask]] = {}

    def pair(id_: str) -> tuple[Frame, Mask]:
        if id_ not in images:
            images[id_] = dataset.read_pair(id_)
        return images[id_]

    changed: list[tuple[Frame, Box, str]] = []
    original: list[tuple[Frame, Box, str]] = []
    empty: list[tuple[Frame, Box, str]] = []
    for line in made:
        source, mask = pair(line["source"])
        image, _ = dataset.read_pair(line["id"])
        targets = find_targets(mask)
        if not 0 <= line["target"] < len(targets):
            raise StoreError(root / MANIFEST, f"{line['id']}: has no target {line['target']}")
        target = targets[line["target"]]
        shape = (mask.shape[0], mask.shape[1])
        side = line.get("side") or fit_side(target, LabelledSource("", shape, tuple(targets)))
        original.append((source, target_box(target, side, shape), line["source"]))
        down, along = line.get("shift", (0, 0))
        place = replace(target, row=target.row + down, col=target.col + along)
        changed.append((image, target_box(place, side, shape), line["source"]))
        for kind, box in zip(
            line.get("distractors", ()), line.get("distractor_boxes", ()), strict=False
        ):
            if kind[0] == "turned" and box is not None:
                empty.append((image, tuple(box), line["source"]))
        each()
    rng = np.random.default_rng(0)
    sources = sorted({group for _, _, group in original})
    half = dict(zip(sources, rng.permutation(len(sources)) % 2 == 0, strict=True))
    alone = list({(group, box): (image, box, group) for image, box, group in original}.values())
    return SeamScores(
        made=_probe(changed + original, [True] * len(changed) + [False] * len(original)),
        untouched=_probe(alone, [bool(half[group]) for _, _, group in alone]),
        distractors=_probe(changed + empty, [True] * len(changed) + [False] * len(empty)),
        boxes=len(changed),
    )


def _probe(boxes: list[tuple[Frame, Box, str]], labels: list[bool]) -> float | None:
    try:
        return probe_seams(
            [image for image, _, _ in boxes],
            [box for _, box, _ in boxes],
            labels,
            [group for _, _, group in boxes],
        )
    except ValueError:  # too few boxes of a kind
        return None


def _read_manifest(root: Path) -> list[dict[str, Any]]:
    path = root / MANIFEST
    try:
        lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    except FileNotFoundError:
        raise StoreError(path, "is missing; give a set that synth build has made") from None
    except (OSError, ValueError):
        raise StoreError(path, "cannot be read; see synth verify") from None
    if not all(isinstance(line, dict) and {"id", "source"} <= line.keys() for line in lines):
        raise StoreError(path, "has lines that are none of a manifest; see synth verify")
    return lines
