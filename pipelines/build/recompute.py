"""Make the outputs of a built set again, and compare them with those on disk.

Every output is made by the build's own code, from its line of the manifest, the set's noise and
the sources.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.build.config import SimulationSettings
from pipelines.build.hosts import HostImages, frame_hosts, simulated_hosts, training_hosts
from pipelines.build.parallel import Pool
from pipelines.build.run import fingerprint, read_supply, survey
from pipelines.build.sources import Pair, Source, dataset_source, simulated_source
from pipelines.config import label_of
from synth.dataset import Dataset, open_dataset
from synth.disk.description import DESCRIPTION, MANIFEST, NOISE, read_description
from synth.disk.manifest import Line, read_manifest, refusing
from synth.errors import StoreError
from synth.frames import Frame, ImageFile, decode_frame
from synth.recipe import remake
from synth.scene import Scene
from synth.seeds import generator
from synth.steps import Supply
from synth.steps.base import Choice

MOST_DN = 1
"""By how much a pixel of an image may differ that another processor made."""

MOST_SHARE = 1e-3
"""How large a share of an image's pixels may."""

_OUTPUTS_PER_TASK = 48


@dataclass(frozen=True, slots=True)
class Difference:
    """What tells an output on disk from the one that was made again.

    Attributes
    ----------
    id : str
    pixels : int
        Pixels of the image that differ; all of them where size or depth do.
    largest : int or None
        Largest difference, DN; None where size or depth differ.
    mask_pixels : int
        Pixels of the mask that differ.
    tolerated : bool
        Whether another processor may be the reason: the mask is the same, and no more than
        `MOST_SHARE` of the image's pixels differ, by `MOST_DN` at most.
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
        Frames that targets were put into (``negatives.hosts: noise``); not for others.
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
        source = _find_source(out, description, data)
        lines = _draw(read_manifest(out), count)
        surveys = survey(source, pool)
        if data is not None and fingerprint(surveys) != description["source"]["fingerprint"]:
            raise StoreError(
                data, f"is not what {out} was made from: its images, masks or splits are others"
            )
        frames = simulated_hosts(source) if data is None else {}
        frames |= frame_hosts(noise, pool.jobs) if noise else {}
        hosts = HostImages(frames | training_hosts(source, surveys["train"]))
        groups = list(_groups(out, lines, source, hosts))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise StoreError(
            out / DESCRIPTION, "is not that of a build, or its manifest is not; build the set again"
        ) from None
    supply = Supply(hosts=hosts.loaded())
    if description.get("noise"):
        supply = replace(read_supply(out / NOISE), hosts=supply.hosts)
    dataset = open_dataset(out)

    def work(group: _Group) -> list[Difference | None]:
        return list(_differences(dataset, group, supply))

    done = 0
    with closing(pool.map(work, groups)) as results:
        for differences in results:
            for difference in differences:
                done += 1
                yield done, len(lines), difference


def _draw(lines: list[Line], count: int | None) -> list[Line]:
    """As many lines as are wanted, in their order, by a seed that is always the same."""
    if count is None or count >= len(lines):
        return lines
    drawn = generator(0, "recompute").choice(len(lines), count, replace=False)
    return [lines[at] for at in sorted(drawn.tolist())]


def _find_source(out: Path, description: Mapping[str, Any], data: Path | None) -> Source:
    settings = description["configuration"]
    if settings.get("command") not in ("build", "transfer", "rotate"):
        raise StoreError(
            out, "was not made by synth build, transfer or rotate; nothing can be made again"
        )
    if data is not None:
        return dataset_source(open_dataset(data, label=label_of(settings.get("label"))))
    if settings.get("simulate") is not None:
        simulation = SimulationSettings.model_validate(settings["simulate"])
        if simulation.train + simulation.test > len(read_manifest(out)):
            raise ValueError("a set has all frames that were simulated for it")
        return simulated_source(simulation, settings["seed"])
    name = description["source"]["name"]
    raise StoreError(
        out, f"was made from {name!r:.80}; say where that set is now, with --data FOLDER"
    )


@dataclass(frozen=True)
class _Group:
    """Outputs of one source: their ids, and the steps that made them; none made an original."""

    pair: Pair
    split: str
    outputs: Sequence[tuple[str, Sequence[tuple[str, Choice]]]]


def _groups(
    out: Path, lines: Sequence[Line], source: Source, hosts: HostImages
) -> Iterator[_Group]:
    """The lines of a manifest by their sources, not too many at a time."""
    pairs: dict[str, Pair] = {pair.id: pair for some in source.splits.values() for pair in some}
    for (name, split), members in groupby(lines, lambda line: (line.source, line.split)):
        if name not in pairs:
            raise StoreError(
                out / MANIFEST, f"names the source {name!r:.80}, which {source.name!r:.80} has not"
            )
        outputs = []
        for line in members:
            for _, choice in line.steps:
                host = choice.get("host")
                if host is not None and host not in hosts.images:
                    raise StoreError(
                        out,
                        f"has targets in the frame {host!r:.80}; say where it is now, with "
                        "--noise FRAMES as for the build",
                    )
            outputs.append((line.id, line.steps))
        for at in range(0, len(outputs), _OUTPUTS_PER_TASK):
            yield _Group(pairs[name], split, outputs[at : at + _OUTPUTS_PER_TASK])


def _differences(dataset: Dataset, group: _Group, supply: Supply) -> Iterator[Difference | None]:
    scene = None
    for id_, steps in group.outputs:
        image, mask = dataset.image_file(id_), dataset.mask_file(id_).file
        if not steps:
            files = group.pair.files()
            wanted = decode_frame(files.image, image.path), decode_frame(files.mask, mask.path)
            same = files.image == image.read() and files.mask == mask.read()
            yield None if same else _compare(id_, image, mask, *wanted)
            continue
        if scene is None:
            source = group.pair.load()
            scene = Scene(source.image, source.mask, group.pair.id, targets=source.targets)
        with refusing(dataset.root, id_):
            made = remake(scene, steps, supply)
        yield _compare(id_, image, mask, made.image, made.mask.view(np.uint8) * np.uint8(255))


def _compare(
    id_: str, image: ImageFile, mask: ImageFile, wanted: Frame, wanted_mask: Frame
) -> Difference | None:
    pixels, largest, size = _difference(image, wanted)
    mask_pixels, _, _ = _difference(mask, wanted_mask)
    if not pixels and not mask_pixels:
        return None
    few = largest is not None and largest <= MOST_DN and pixels <= MOST_SHARE * size
    return Difference(id_, pixels, largest, mask_pixels, few and not mask_pixels)


def _difference(file: ImageFile, wanted: Frame) -> tuple[int, int | None, int]:
    """Pixels that differ, largest difference in DN, and pixels in all."""
    found = file.frame()
    if wanted.shape != found.shape or wanted.dtype != found.dtype:
        return wanted.size, None, wanted.size
    apart = np.abs(wanted.astype(np.int64) - found.astype(np.int64))
    return int(np.count_nonzero(apart)), int(apart.max()), wanted.size
