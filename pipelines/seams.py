"""The seam probe on a set that was built: are its changes betrayed by their borders?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from synth.dataset import open_dataset
from synth.disk.manifest import read_manifest
from synth.errors import StoreError
from synth.frames import Frame
from synth.realise import Realiser
from synth.recipe import LabelledSource, Spec, fit_side
from synth.seams import probe_seams
from synth.targets import Box, Target, find_targets, target_box

# One halving of some hundred boxes says little about chance.
_HALVINGS = 10

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
        Boxes around targets of one half of the originals against those of the other half, the mean
        over ten halvings: what chance gives, for no border of them was touched.
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

    The originals must be in the set, as a build puts them there. Targets that were put into another
    image are left out: they differ from their originals in all that is around them. Changes are
    made again from their lines without noise, which would tell them from originals whatever their
    borders are like.
    `each` is called once a target.

    Raises
    ------
    StoreError
        The folder has no manifest, or no negatives with their originals beside them.
    SynthError
        An image cannot be read.
    """
    dataset = open_dataset(root)
    lines = read_manifest(root)
    there = {line["id"] for line in lines}
    made = [
        line
        for line in lines
        if "target" in line
        and "host" not in line
        and line["source"] in there
        and line["source"] != line["id"]
    ][:limit]
    if not made:
        raise StoreError(
            root, "holds no negatives beside their originals; give a set that synth build has made"
        )
    changed: list[tuple[Frame, Box, str]] = []
    original: list[tuple[Frame, Box, str]] = []
    empty: list[tuple[Frame, Box, str]] = []
    sources: dict[str, tuple[Frame, list[Target], Realiser]] = {}
    for line in made:
        group = line["source"]
        if group not in sources:
            image, mask = dataset.read_pair(group)
            targets = find_targets(mask)
            sources[group] = image, targets, Realiser(image, mask, targets)
        image, targets, realiser = sources[group]
        if not 0 <= line["target"] < len(targets):
            raise StoreError(root, f"its manifest has no target {line['target']} for {line['id']}")
        target = targets[line["target"]]
        shape = (image.shape[0], image.shape[1])
        side = line.get("side") or fit_side(target, LabelledSource("", shape, tuple(targets)))
        original.append((image, target_box(target, side, shape), group))
        spec = replace(Spec.from_record(line), noise=None)
        after = realiser.image(spec)
        down, along = realiser.facts.get("shift", (0, 0))
        place = replace(target, row=target.row + down, col=target.col + along)
        changed.append((after, target_box(place, side, shape), group))
        boxes = realiser.facts.get("distractor_boxes", ())
        for distractor, box in zip(spec.distractors, boxes, strict=False):
            if distractor.kind == "turned" and box is not None:
                empty.append((after, tuple(box), group))
        each()
    rng = np.random.default_rng(0)
    groups = sorted(sources)
    alone = list({(group, box): (image, box, group) for image, box, group in original}.values())
    chance = []
    for _ in range(_HALVINGS):
        half = dict(zip(groups, rng.permutation(len(groups)) % 2 == 0, strict=True))
        chance.append(_probe(alone, [bool(half[group]) for _, _, group in alone]))
    return SeamScores(
        made=_probe(changed + original, [True] * len(changed) + [False] * len(original)),
        untouched=None if None in chance else float(np.mean([x for x in chance if x is not None])),
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
