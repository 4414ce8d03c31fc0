"""What a data set is: its targets, where they lie, what was made how, and what its noise is like.

All numbers of `synth report`, as JSON has them. The test split is counted, and nothing of it is
looked at.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter, methodcaller
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipelines.quality import (
    MARGIN,
    NOISE_FRAMES,
    FrameSet,
    Run,
    camera_noise,
    set_noise,
    summarise,
)
from synth.dataset import Dataset
from synth.disk.description import DESCRIPTION, MANIFEST, NOISE, is_sharded, read_description
from synth.disk.folders import find_frames, group_by_folder
from synth.disk.manifest import Line, read_manifest
from synth.errors import NoiseError, RecipeError, StoreError
from synth.frames import Frame
from synth.noise.bank import NoiseBank
from synth.noise.blocks import NoiseBlocks, bank_blocks, find_noise_blocks
from synth.noise.cameras import CameraNoise, load_cameras, load_noise
from synth.noise.components import NoiseComponents
from synth.noise.fidelity import (
    LAGS,
    NoiseStatistics,
    compare_noise,
    describe_noise,
    measure_floor,
)
from synth.noise.realisation import realisation_seed
from synth.noise.residual import generate_frame
from synth.steps import Step, find_step
from synth.steps.base import Choice, plain_words
from synth.targets import find_targets, measure_signals

AREA_EDGES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
"""Where the bins of a target's area begin, pixels."""

SCR_EDGES = tuple((0.25 * 2 ** (np.arange(17) / 2)).tolist())
"""Where the bins of a target's SCR begin and end; the outermost hold what is beyond them."""

CELLS = 12
"""Rows and columns of the map of where targets lie."""

GROUPS = ("originals", "made")

# Frames that are generated from a camera's model, to see its noise as that of frames is seen.
_GENERATED, _FEWEST = 24, 4

Told = TypeVar("Told")


@dataclass(frozen=True)
class Lineage:
    """What a set says of how it was made.

    Attributes
    ----------
    records : mapping of str to Line
        Lines of the manifest, by id; empty without one.
    description : mapping or None
        ``dataset.json``; None without one.
    notes : tuple of str
        What is wrong with either.
    """

    records: Mapping[str, Line]
    description: Mapping[str, Any] | None
    notes: tuple[str, ...]

    def made(self, id_: str) -> bool:
        """Whether anything was done to an image; an original was only copied."""
        record = self.records.get(id_)
        return record is not None and record.made


def read_lineage(root: Path) -> Lineage:
    """Read what a set says of how it was made.

    A file of the same name that a build did not write, or that was changed since, is no error: the
    set is looked at as one of which that is not known, and the notes say so.
    """
    notes = []
    records: dict[str, Line] = {}
    description: dict[str, Any] | None = None
    if is_sharded(root) or (root / MANIFEST).exists():
        try:
            records = {line.id: line for line in read_manifest(root)}
        except StoreError as error:
            notes.append(f"What was made is not known. {error}")
    if (root / DESCRIPTION).exists():
        try:
            description = read_description(root)
        except StoreError as error:
            notes.append(f"How the set was built is not known. {error}")
    return Lineage(records, description, tuple(notes))


def survey_set(dataset: Dataset, lineage: Lineage, run: Run) -> dict[str, Any]:
    """Measure the targets of the training and validation splits.

    Parameters
    ----------
    dataset : Dataset
    lineage : Lineage
    run : callable
        A ``map`` that may work in parallel, in order.

    Returns
    -------
    dict
        ``name``, ``counts``, ``sizes``, ``dtypes``, ``targets``; ``area`` and ``scr`` (edges of
        bins, counts per group and bin, summaries), ``positions`` (per group the counts of a grid
        over the frame), ``changes`` (`count_changes`), ``provenance``, ``notes``.

    Raises
    ------
    FrameError
        A file cannot be read, or a mask is not of its image's size.
    """
    ids = [id_ for split in ("train", "val") for id_ in dataset.splits.get(split, ())]
    looks = list(run(lambda id_: _look(dataset, id_, lineage.made(id_)), ids))
    groups = {
        name: [look for look in looks if look.made == (name == "made")]
        for name in GROUPS
        if name == "originals" or any(look.made for look in looks)
    }
    listed = {id_ for members in dataset.splits.values() for id_ in members}
    targets = {name: sum(len(look.areas) for look in found) for name, found in groups.items()}
    known = {id_ for id_ in listed if lineage.made(id_)}
    return {
        "name": dataset.name,
        "counts": {
            "images": len(listed),
            "originals": len(listed) - len(known),
            "made": len(known),
            "splits": {name: len(members) for name, members in dataset.splits.items()},
            "unlisted": len(dataset.images.keys() - listed),
            "listed": dataset.listed,
        },
        "sizes": _count(f"{look.shape[0]}x{look.shape[1]}" for look in looks),
        "dtypes": _count(look.dtype for look in looks),
        "empty": {name: sum(not look.areas for look in found) for name, found in groups.items()},
        "targets": targets,
        "area": _binned(
            AREA_EDGES, {n: [a for k in f for a in k.areas] for n, f in groups.items()}
        ),
        "scr": _binned(SCR_EDGES, {n: [s for k in f for s in k.scrs] for n, f in groups.items()}),
        "positions": {name: _grid(found).tolist() for name, found in groups.items()},
        "changes": count_changes(lineage.records.values()),
        "provenance": dict(lineage.description) if lineage.description is not None else None,
        "notes": list(lineage.notes),
    }


def count_changes(records: Iterable[Line]) -> dict[str, dict[str, int]]:
    """Count what was done to the outputs that were made.

    Parameters
    ----------
    records : iterable of Line
        Lines of a manifest.

    Returns
    -------
    dict of str to dict
        How many outputs, by what was counted and then by its value; nothing that never occurs.
        A distractor counts by itself, as an output may have several.
    """
    counts: dict[str, Counter[str]] = {}
    for record in records:
        if not record.made:
            continue
        found = [("change", _kind_of_change(record))]
        for number, (name, choice) in enumerate(record.steps):
            tally = partial(_tally, choice=choice, facts=record.facts_of(number))
            found += _told(tally, name, [])
        for what, value in found:
            counts.setdefault(what, Counter())[value] += 1
    return {what: dict(_ordered(found)) for what, found in counts.items()}


def describe_change(record: Line) -> str:
    """Say in words what was done to make one output."""
    parts = [
        _told(
            methodcaller("describe", choice, record.facts_of(number)),
            name,
            plain_words(name, choice),
        )
        for number, (name, choice) in enumerate(record.steps)
    ]
    return "; ".join(parts) or "original"


def _told(tell: Callable[[Step], Told], name: str, otherwise: Told) -> Told:
    """What a step says; something else where it is not known, or its record is of no build."""
    try:
        return tell(find_step(name)())
    except (RecipeError, LookupError, TypeError, ValueError, AttributeError, OverflowError):
        return otherwise


def _tally(step: Step, choice: Choice, facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(what, str(value)) for what, value in step.tally(choice, facts)]


def survey_noise(
    dataset: Dataset, lineage: Lineage, camera: Path | None, run: Run
) -> dict[str, Any] | None:
    """Compare the noise of a set's images with the real one.

    Parameters
    ----------
    dataset : Dataset
    lineage : Lineage
    camera : Path or None
        Real frames, each folder of them a camera's. Without them what the set's own
        ``noise.npz`` holds is taken for real: patches of frames, or frames that are generated
        from a model of a camera.
    run : callable
        A ``map`` that may work in parallel, in order.

    Returns
    -------
    dict or None
        ``real`` says what stands for the real noise; ``spectra`` has power over frequency by group,
        ``correlation`` the autocorrelation, ``scores`` the distances of
        `synth.noise.fidelity.compare_noise` from the real noise, ``floor`` those between two halves
        of it, ``notes`` why anything is missing. None where no real noise is known.

    Raises
    ------
    NoiseError
        The frames that were given show no noise.
    """
    if camera is None and not (dataset.root / NOISE).is_file():
        return None
    notes: list[str] = []
    try:
        real = _stored_noise(dataset.root / NOISE) if camera is None else _real_noise(camera, run)
    except NoiseError as error:
        if camera is not None:
            raise
        return {"real": "the set's noise.npz", "notes": [str(error)]}
    blocks, cameras = _pool(real)
    what = "the set's noise.npz" if camera is None else f"frames of {camera.resolve().name}"
    name = f"{what}, {cameras} cameras alike" if cameras > 1 else what
    found = {name: blocks}
    for group, wanted in (("originals", False), ("made", True)):
        ids = [
            id_
            for split in ("train", "val")
            for id_ in dataset.splits.get(split, ())
            if lineage.made(id_) == wanted
        ]
        if not ids:
            continue
        images = {id_: dataset.image_file(id_) for id_ in ids}
        masks = {id_: dataset.mask_file(id_) for id_ in ids}
        try:
            found[group] = set_noise(FrameSet(dataset.root, None, images, masks), run)
        except NoiseError as error:
            notes.append(f"{group}: {error}")
    return {"real": name, **_compare(found, name, notes), "notes": notes}


def _compare(found: Mapping[str, NoiseBlocks], real: str, notes: list[str]) -> dict[str, Any]:
    """Spectra, correlations and distances of the noise of several groups, one of them real."""
    alike = {}
    for group, blocks in found.items():
        if blocks.depth == found[real].depth:
            alike[group] = blocks
        else:
            notes.append(f"{group}: {blocks.depth} bits, but {real}: {found[real].depth} bits")
    told: dict[str, NoiseStatistics] = {name: describe_noise(b) for name, b in alike.items()}
    scores, floor = {}, None
    for group, statistics in told.items():
        # Blocks of other sides have other frequencies.
        if group != real and alike[group].side == alike[real].side:
            scores[group] = _defined(compare_noise(statistics, told[real]))
    try:
        floor = _defined(measure_floor(found[real]))
    except NoiseError as error:
        notes.append(f"{real}: {error}")
    return {
        "blocks": {name: len(blocks) for name, blocks in alike.items()},
        "spectra": {
            name: {
                "frequency": [
                    (2 + step) / alike[name].side for step in range(len(statistics.radial))
                ],
                "power": (10**statistics.radial).tolist(),
            }
            for name, statistics in told.items()
        },
        "correlation": {
            "lag": list(range(LAGS + 1)),
            **{
                name: {"rows": one.correlation[0].tolist(), "columns": one.correlation[1].tolist()}
                for name, one in told.items()
            },
        },
        "scores": scores,
        "floor": floor,
    }


def _real_noise(camera: Path, run: Run) -> list[NoiseBlocks]:
    """The noise in real frames, each folder of them a camera's; those that show none are left."""
    folders = group_by_folder(find_frames([camera]))
    if len(folders) == 1:
        return [camera_noise(camera, folders[0], run, NOISE_FRAMES)]
    found = []
    for files in folders:
        try:
            found.append(camera_noise(files[0].parent, files, run, NOISE_FRAMES))
        except NoiseError:
            continue
    if not found:
        raise NoiseError(f"{camera}: no block of these frames shows noise alone; give others")
    return found


def _stored_noise(path: Path) -> list[NoiseBlocks]:
    """The noise of each camera in a set's ``noise.npz``, as blocks."""
    noise = load_noise(path)
    if isinstance(noise, NoiseBank):
        blocks = bank_blocks(noise)
        return [blocks.take(members) for members in noise.members()]
    cameras = load_cameras(path) if isinstance(noise, NoiseComponents) else noise
    found = []
    for members in cameras.members():
        few = members[np.unique(np.linspace(0, len(members) - 1, _GENERATED).astype(int))]
        # A camera of one frame is generated several times, each time with new noise.
        turns = [int(few[turn % len(few)]) for turn in range(max(len(few), _FEWEST))]
        found.append(
            find_noise_blocks((_generate(cameras, *one), None) for one in enumerate(turns))
        )
    return found


def _generate(cameras: CameraNoise, turn: int, index: int) -> Frame:
    noise, frame = cameras.generator(index)
    seed = realisation_seed(0, "report", turn)
    return generate_frame(noise, (256, 256), seed=seed, frame=frame)


def _pool(found: Sequence[NoiseBlocks]) -> tuple[NoiseBlocks, int]:
    """Put the noise of several cameras together, as many frames of each, and count the cameras.

    A build draws cameras alike, however many frames each has.
    """
    if len({(blocks.depth, blocks.side) for blocks in found}) != 1:
        raise NoiseError("the real noise is of several depths; give the frames of one camera")
    if len(found) == 1:
        return found[0], 1
    least = min(int(blocks.frame.max()) + 1 for blocks in found)
    chosen = []
    for blocks in found:
        last = int(blocks.frame.max())
        frames = np.unique(np.linspace(0, last, least).astype(int))
        chosen.append(blocks.take(np.isin(blocks.frame, frames)))
    starts = np.cumsum([0, *(int(blocks.frame.max()) + 1 for blocks in chosen)])
    frame = np.concatenate([b.frame + start for b, start in zip(chosen, starts, strict=False)])
    parts = {
        name: np.concatenate([getattr(blocks, name) for blocks in chosen])
        for name in ("residual", "mean", "row", "col")
    }
    return NoiseBlocks(**parts, frame=frame, depth=found[0].depth), len(found)


@dataclass(frozen=True)
class _Look:
    """What was seen of one image."""

    made: bool
    shape: tuple[int, int]
    dtype: str
    areas: list[int]
    scrs: list[float]
    places: list[tuple[float, float]]


def _look(dataset: Dataset, id_: str, made: bool) -> _Look:
    frame, mask = dataset.read_pair(id_)
    height, width = frame.shape
    targets = find_targets(mask)
    return _Look(
        made,
        (height, width),
        str(frame.dtype),
        [target.area for target in targets],
        [signal.scr for signal in measure_signals(frame, mask, MARGIN)] if targets else [],
        [
            ((target.centroid[0] + 0.5) / height, (target.centroid[1] + 0.5) / width)
            for target in targets
        ],
    )


def _binned(edges: Sequence[float], values: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Counts of values in bins, by group; what lies beyond the bins is in the outermost ones."""
    starts = np.asarray(edges, np.float64)
    counts = {}
    for name, given in values.items():
        array = np.asarray(given, np.float64)
        bins = np.clip(np.searchsorted(starts, array[~np.isnan(array)], "right") - 1, 0, None)
        bins = np.minimum(bins, len(starts) - 2)
        counts[name] = np.bincount(bins, minlength=len(starts) - 1).tolist()
    summaries = {name: summarise(given).to_json() for name, given in values.items()}
    return {"edges": list(edges), "counts": counts, "summary": summaries}


def _grid(looks: Sequence[_Look]) -> NDArray[np.int64]:
    places = np.array([place for look in looks for place in look.places]).reshape(-1, 2)
    cells = np.minimum((places * CELLS).astype(np.int64), CELLS - 1)
    grid = np.zeros((CELLS, CELLS), np.int64)
    np.add.at(grid, (cells[:, 0], cells[:, 1]), 1)
    return grid


def _count(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _kind_of_change(record: Line) -> str:
    """What the first step that changes targets did, or else the first of all."""
    kinds: dict[bool, str] = {}
    for name, choice in record.steps:
        kind = _told(methodcaller("kind", choice), name, name)
        kinds.setdefault(_told(attrgetter("changes_mask"), name, True), kind)
    return kinds[True in kinds]


def _ordered(counts: Counter[str]) -> list[tuple[str, int]]:
    """By the number that each value begins with, or else the commonest first."""

    def leading(name: str) -> float | None:
        try:
            return float(name.replace("°", " ").split(",")[0].split()[0])
        except (ValueError, IndexError):
            return None

    numbers = {name: leading(name) for name in counts}
    if None in numbers.values():
        return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return sorted(counts.items(), key=lambda item: (numbers[item[0]], item[0]))


def _defined(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
