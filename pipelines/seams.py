"""The seam probe on a set that was built: are its changes betrayed by their borders?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from operator import index
from pathlib import Path

import numpy as np

from synth.dataset import open_dataset
from synth.disk.manifest import Line, read_manifest, refusing
from synth.errors import StoreError
from synth.frames import Frame
from synth.inspect.seams import probe_seams
from synth.recipe import remake
from synth.scene import Scene
from synth.steps import find_step
from synth.steps.base import Choice, require_target
from synth.steps.noise import NoiseStep
from synth.steps.turn import fit_side
from synth.targets import Box, target_box

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
    there = {line.id for line in lines}
    made = [
        (line, steps)
        for line in lines
        for steps in [_without_noise(root, line)]
        if line.source in there
        and line.source != line.id
        and any("target" in choice for _, choice in steps)
        and not any(name == "transplant" for name, _ in steps)
    ][:limit]
    if not made:
        raise StoreError(
            root, "holds no negatives beside their originals; give a set that synth build has made"
        )
    changed: list[tuple[Frame, Box, str]] = []
    original: list[tuple[Frame, Box, str]] = []
    empty: list[tuple[Frame, Box, str]] = []
    sources: dict[str, Scene] = {}
    for line, steps in made:
        group = line.source
        if group not in sources:
            sources[group] = Scene(*dataset.read_pair(group), group)
        scene = sources[group]
        with refusing(root, line.id):
            choice = next(choice for _, choice in steps if "target" in choice)
            target = scene.targets[require_target(scene, choice["target"])]
            side = choice.get("side") or fit_side(target, scene)
            original.append((scene.image, target_box(target, side, scene.shape), group))
            after = remake(scene, steps)
            down, along = map(index, line.facts.get("shift") or (0, 0))
            place = replace(target, row=target.row + down, col=target.col + along)
            changed.append((after.image, target_box(place, side, scene.shape), group))
            items = next((choice["items"] for name, choice in steps if name == "distract"), ())
            for one, box in zip(items, line.facts.get("distractor_boxes", ()), strict=False):
                if one["kind"] == "turned" and box is not None:
                    top, left, bottom, right = map(index, box)
                    empty.append((after.image, (top, left, bottom, right), group))
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


def _without_noise(root: Path, line: Line) -> list[tuple[str, Choice]]:
    """The steps of a manifest line that change more than noise."""
    with refusing(root, line.id):
        return [step for step in line.steps if not issubclass(find_step(step[0]), NoiseStep)]


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
