"""Make the outputs of a built set again, and compare them with those on disk.

Every output is made by the build's own code, from its line of the manifest, the set's noise and
the sources.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.build.config import SimulationSettings
from pipelines.build.hosts import (
    HostImages,
    find_hosts,
    frame_hosts,
    simulated_hosts,
    training_hosts,
)
from pipelines.build.parallel import Pool
from pipelines.build.run import fingerprint, read_supply, survey
from pipelines.build.sources import Pair, Source, dataset_source, simulated_source
from pipelines.config import label_of
from synth.dataset import Dataset, open_dataset
from synth.disk.description import DESCRIPTION, MANIFEST, NOISE, read_description
from synth.disk.manifest import Line, read_manifest, refusing
from synth.errors import StoreError
from synth.frames import Frame
from synth.recipe import Sample, remake
from synth.scene import Scene
from synth.seeds import generator
from synth.steps import Supply

MOST_DN = 1
"""By how much a pixel of an image may differ that another processor made."""

MOST_SHARE = 1e-3
"""How large a share of an image's pixels may."""

_OUTPUTS_PER_TASK = 48


@dataclass(frozen=True, slots=True)
class Difference:
    """What tells an output on disk from the one that was made again.

    `pixels` and `mask_pixels` differ, all of them where size or depth do, those of the image by
    `largest` DN at most (None where size or depth differ). It is `tolerated` where another
    processor may be the reason: the mask is the same, and no more than `MOST_SHARE` of the image's
    pixels differ, by `MOST_DN` at most.
    """

    id: str
    pixels: int
    largest: int | None
    mask_pixels: int
    tolerated: bool


def recompute(
    out: Path,
    pool: Pool,
    *,
    data: Path | None = None,
    noise: Sequence[Path] = (),
    count: int | None = None,
) -> Iterator[tuple[int, int, Difference | None]]:
    """Make outputs of a set again, by threads, and compare their pixels.

    Parameters
    ----------
    out : Path
        A set that ``synth build``, ``transfer`` or ``rotate`` made, in loose files or in shards.
    pool : Pool
        Of threads.
    data : Path, optional
        Where the set that it was made from is; not for simulated frames.
    noise : sequence of Path, optional
        Frames that targets were put into (``hosts: noise``); not for others.
    count : int, optional
        A sample of so many outputs, always the same one.

    Yields
    ------
    done, total : int
    difference : Difference or None

    Raises
    ------
    StoreError
        The set was made by another command, or its sources are not given, or others than it was
        made from.
    SynthError, PipelineError
        A source cannot be read.
    """
    description = read_description(out)
    try:
        lines = read_manifest(out)
        source = _find_source(out, description, data, len(lines))
        if count is not None and count < len(lines):
            drawn = generator(0, "recompute").choice(len(lines), count, replace=False)
            lines = [lines[at] for at in sorted(drawn.tolist())]
        if data is not None:
            found = fingerprint(survey(source, pool))
            if found != description["source"]["fingerprint"]:
                raise StoreError(
                    data, f"is not what {out} was made from: its images, masks or splits are others"
                )
        frames = frame_hosts(find_hosts(noise)) if noise else {}
        frames |= simulated_hosts(source) if data is None else {}
        hosts = HostImages(frames | training_hosts(source))
        tasks = list(_tasks(out, lines, source, hosts))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise StoreError(
            out / DESCRIPTION, "is not that of a build, or its manifest is not; build the set again"
        ) from None
    supply = read_supply(out / NOISE) if description.get("noise") else Supply()
    supply = replace(supply, hosts=hosts.loaded())
    dataset = open_dataset(out)

    def work(task: tuple[Pair, Sequence[Line]]) -> list[Difference | None]:
        pair, members = task
        loaded = pair.load()
        scene = Scene(loaded.image, loaded.mask, pair.id, targets=loaded.targets)
        found = []
        for line in members:
            with refusing(out, line.id):
                made = remake(scene, line.steps, supply)
            found.append(_compare(dataset, line.id, made))
        return found

    done = 0
    with closing(pool.map(work, tasks)) as results:
        for difference in chain.from_iterable(results):
            done += 1
            yield done, len(lines), difference


def _find_source(
    out: Path, description: Mapping[str, Any], data: Path | None, outputs: int
) -> Source:
    settings = description["configuration"]
    if settings.get("command") not in ("build", "transfer", "rotate"):
        raise StoreError(
            out, "was not made by synth build, transfer or rotate; nothing can be made again"
        )
    if data is not None:
        return dataset_source(open_dataset(data, label=label_of(settings.get("label"))))
    if settings.get("simulate") is not None:
        simulation = SimulationSettings.model_validate(settings["simulate"])
        if simulation.train + simulation.test > outputs:
            raise ValueError("a set has all frames that were simulated for it")
        return simulated_source(simulation, settings["seed"])
    name = description["source"]["name"]
    raise StoreError(
        out, f"was made from {name!r:.80}; say where that set is now, with --data FOLDER"
    )


def _tasks(
    out: Path, lines: Sequence[Line], source: Source, hosts: HostImages
) -> Iterator[tuple[Pair, Sequence[Line]]]:
    """The lines of a manifest by their sources, not too many at a time."""
    pairs = {pair.id: pair for some in source.splits.values() for pair in some}
    for name, group in groupby(lines, lambda line: line.source):
        if name not in pairs:
            raise StoreError(
                out / MANIFEST, f"names the source {name!r:.80}, which {source.name!r:.80} has not"
            )
        members = list(group)
        for host in (choice.get("host") for line in members for _, choice in line.steps):
            if host is not None and host not in hosts.images:
                raise StoreError(
                    out,
                    f"has targets in the frame {host!r:.80}; say where it is now, with "
                    "--noise FRAMES as for the build",
                )
        for at in range(0, len(members), _OUTPUTS_PER_TASK):
            yield pairs[name], members[at : at + _OUTPUTS_PER_TASK]


def _compare(dataset: Dataset, id_: str, made: Sample) -> Difference | None:
    image, mask = dataset.image_file(id_).frame(), dataset.mask_file(id_).file.frame()
    size = made.image.size
    pixels, largest = _apart(image, made.image)
    mask_pixels, _ = _apart(mask, made.mask.view(np.uint8) * np.uint8(255))
    few = largest is not None and largest <= MOST_DN and pixels <= MOST_SHARE * size
    found = Difference(id_, pixels, largest, mask_pixels, few and not mask_pixels)
    return found if pixels or mask_pixels else None


def _apart(found: Frame, wanted: Frame) -> tuple[int, int | None]:
    """Pixels that differ, and the largest difference in DN."""
    if wanted.shape != found.shape or wanted.dtype != found.dtype:
        return wanted.size, None
    apart = np.abs(wanted.astype(np.int64) - found.astype(np.int64))
    return int(np.count_nonzero(apart)), int(apart.max())
