"""The staged build: sample, plan, realise, write, verify.

Every stage but the last works on plain data; `prepare` decides everything, `execute` makes it. A
source image is decoded once, with all of its outputs in one task, and the same bytes come out
whatever the number and kind of workers and however often the build was interrupted.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from pipelines.build.card import Contents, code_span, write_card
from pipelines.build.config import BuildConfig
from pipelines.build.hosts import NO_HOSTS, HostImages, gather_hosts
from pipelines.build.noise import gather_noise
from pipelines.build.parallel import Backend, Pool
from pipelines.build.sources import (
    FilePair,
    Pair,
    PairFiles,
    Source,
    Survey,
    dataset_source,
    pixel_digest,
    simulated_source,
)
from pipelines.build.versions import processor, versions
from pipelines.config import label_of
from synth.dataset import Dataset, open_dataset, require_targets
from synth.disk.description import (
    CARD,
    IMAGES,
    MANIFEST,
    MASKS,
    NOISE,
    SHARDS,
    finished,
    split_lists,
)
from synth.disk.files import OutputFile, place_file, sha256, write_file
from synth.disk.manifest import Line, read_as
from synth.disk.png import encode_png
from synth.disk.shards import MARKS, Shard, ShardWriter, publish_shards, whole_shards
from synth.disk.split_names import SPLITS
from synth.disk.staging import PARTS, Staging, staging
from synth.errors import DatasetError, NoiseError, RecipeError, StoreError
from synth.frames import Mask
from synth.noise.bank import NoiseBank
from synth.noise.cameras import load_parts, pack_noise
from synth.recipe import Output, Outputs, Recipe
from synth.recipe import Plan as RecipePlan
from synth.scene import Scene
from synth.steps import Physical, Residual, Supply

Progress = Callable[[str, int, int], None]

# What `dataset.json` says of a set that is built again.
_REPRODUCED = (
    "With these versions and a processor of these features all bytes are the same. On another "
    "processor images with a sensor's noise may differ by 1 DN in at most 1 of 1,000 pixels; all "
    "else was equal where it was tried. `synth verify --recompute` compares."
)

# Outputs that go to a worker at a time: enough to hide the hand-over, few enough for a smooth bar.
_OUTPUTS_PER_TASK = 48


@dataclass(frozen=True)
class Group:
    """One source with all that is made from it.

    Attributes
    ----------
    pair : Pair
    split : str
    copy : bool
        Whether the source itself goes into the set, byte for byte.
    outputs : sequence of Output or Outputs
    nbytes : int
        Of the image's pixels; 0 where nobody asks.
    """

    pair: Pair
    split: str
    copy: bool
    outputs: Sequence[Output] | Outputs = ()
    nbytes: int = 0

    def __len__(self) -> int:
        return self.copy + len(self.outputs)

    def ids(self) -> Iterator[str]:
        """Ids of the outputs."""
        if self.copy:
            yield self.pair.id
        yield from (output.id for output in self.outputs)


@dataclass(frozen=True)
class ShardSize:
    """Where one shard ends and the next begins: at so many outputs, or bytes of their pixels.

    Pixels are counted as they are in memory, before they are compressed, so that it is known where
    every shard begins before any is made.
    """

    outputs: int | None = None
    nbytes: int | None = None


@dataclass(frozen=True)
class Plan:
    """Everything that a build will make, decided before any pixel is touched.

    Attributes
    ----------
    name : str
        Name of the set, as in ``img_idx/train_<name>.txt``.
    groups : list of Group
    lists : dict of str to list of str
        Ids of ``train`` and ``test`` (and ``val``); empty for a set in shards, which has none.
    recipe : Recipe
        Without noise and hosts.
    seed : int
    noise : bytes or None
        The file of the noise.
    forbidden : frozenset of bytes
        Pixel hashes of the test images, which nothing may be made from.
    hosts : HostImages
        The images that targets of other images are put into.
    description : dict
        What ``dataset.json`` says of configuration and origin.
    card : bytes
        The README of the set.
    shards : ShardSize or None
        None for loose files.
    notes : tuple of str
        What the user should know of the source.
    """

    name: str
    groups: list[Group]
    lists: dict[str, list[str]]
    recipe: Recipe
    seed: int
    noise: bytes | None
    forbidden: frozenset[bytes]
    description: dict[str, Any]
    card: bytes
    shards: ShardSize | None = None
    hosts: HostImages = NO_HOSTS
    notes: tuple[str, ...] = ()

    def outputs(self) -> Iterator[tuple[str, str]]:
        """(id, split) of every output in the order of the manifest."""
        return ((id_, group.split) for group in self.groups for id_ in group.ids())

    def __len__(self) -> int:
        return sum(map(len, self.groups))


@dataclass(frozen=True)
class BuildResult:
    """What a build did.

    `made` outputs were written in this run; the others were whole already. `noisier` counts images
    that had as much noise as was asked for on half of their pixels or more; None where no noise
    of a sensor was asked for.
    """

    out: Path
    counts: dict[str, int]
    made: int
    noisier: int | None = None


def build(
    config: BuildConfig,
    out: Path,
    *,
    jobs: int = 0,
    backend: Backend = "threads",
    scheduler: str | None = None,
    shards: ShardSize | None = None,
    progress: Progress | None = None,
) -> BuildResult:
    """Build a whole data set.

    Parameters
    ----------
    config : BuildConfig
    out : Path
        Directory to make.
    jobs : int
        Workers; 0 for one per processor.
    backend : {"threads", "processes", "dask"}
    scheduler : str, optional
        Address of the Dask scheduler.
    shards : ShardSize, optional
        Write tar files of that size instead of loose files.
    progress : callable, optional
        Called with stage, outputs done, outputs in all.

    Raises
    ------
    SynthError, PipelineError
        One line that names the file at fault. Nothing is left behind then.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> config = BuildConfig.model_validate(
    ...     {
    ...         "name": "tiny",
    ...         "simulate": {"train": 2, "test": 1, "noise_frames": 1, "shape": [64, 64]},
    ...         "negatives": {"count": 3},
    ...     }
    ... )
    >>> with TemporaryDirectory() as folder:
    ...     result = build(config, Path(folder) / "tiny", jobs=1)
    ...     dataset = open_dataset(result.out)
    >>> result.counts
    {'outputs': 6, 'train': 5, 'test': 1, 'negatives': 3}
    >>> len(dataset.ids("train"))
    5
    """
    pool = Pool(jobs, backend, scheduler)
    return execute(prepare(config, pool, shards), out, pool, progress)


def prepare(config: BuildConfig, pool: Pool, shards: ShardSize | None = None) -> Plan:
    """Decide what a build makes: survey the sources, sample the noise, plan the negatives."""
    notes: list[str] = []
    if config.simulate is not None:
        source = simulated_source(config.simulate, config.seed)
    else:
        assert config.data is not None
        # Workers on other machines have other working directories.
        data = config.data.absolute() if pool.backend == "dask" else config.data
        opened = open_dataset(data, label=label_of(config.label))
        opened.filled("train")
        notes += opened.notes
        source = dataset_source(opened)
    surveys = survey(source, pool)
    if config.data is not None:
        marked = sum(bool(found.source.targets) for found in surveys["train"])
        note = require_targets(config.data, marked, len(surveys["train"]))
        notes += [note] if note else []
    forbidden = _forbidden(surveys)
    recipe = config.negatives.recipe
    supply = Supply()
    if config.noise is not None:
        supply = gather_noise(
            config.noise, recipe, source, forbidden, seed=config.seed, jobs=pool.jobs
        )
    hosts = gather_hosts(config, source, surveys["train"], forbidden, pool.jobs)
    training = [found.source for found in surveys["train"]]
    negatives = RecipePlan(
        recipe.bind(replace(supply, hosts=hosts.loaded())),
        training,
        seed=config.seed,
        count=config.negatives.count if recipe.steps else 0,
        taken_ids=[found.source.id for split in surveys.values() for found in split],
    )
    sizes = _pixel_bytes(source, surveys) if shards is not None and shards.nbytes else {}
    made = {found.id: negatives.of(index) for index, found in enumerate(training)}
    groups = [
        Group(
            pair,
            split,
            True,
            made[pair.id] if split == "train" else (),
            sizes.get(pair.id, 0),
        )
        for split in ("train", "val", "test")
        for pair in source.splits.get(split, ())
    ]
    counts = {split: len(pairs) for split, pairs in source.splits.items()}
    counts["train"] += len(negatives)
    lists: dict[str, list[str]] = {}
    if shards is None:
        lists = {split: [pair.id for pair in pairs] for split, pairs in source.splits.items()}
        lists["train"] += negatives.ids()
    left_out = {"data", "name", "noise"} | ({"label"} if config.label is None else set())
    configuration = config.model_dump(mode="json", exclude=left_out)
    if config.noise is not None:
        configuration["noise"] = config.noise.model_dump(mode="json", exclude={"frames"})
    if shards is not None:
        configuration["shards"] = asdict(shards)
    plan = _plan(
        "build",
        config.name,
        groups,
        lists,
        counts,
        surveys,
        source.name,
        recipe,
        supply,
        configuration,
        shards,
        hosts,
    )
    return replace(plan, notes=tuple(notes))


def _pixel_bytes(source: Source, surveys: dict[str, list[Survey]]) -> dict[str, int]:
    """Bytes of every image's pixels, of the depth that the first image has."""
    first = next((pair for pairs in source.splits.values() for pair in pairs), None)
    depth = 1 if first is None else first.load().image.itemsize
    return {
        found.source.id: depth * found.source.shape[0] * found.source.shape[1]
        for split in surveys.values()
        for found in split
    }


def prepare_stage(
    command: str,
    dataset: Dataset,
    recipe: Recipe,
    split: str,
    seed: int,
    pool: Pool,
    supply: Supply,
    *,
    keep_ids: bool = False,
) -> Plan:
    """Decide the outputs of one stage: a set of its own, without originals and test split.

    Parameters
    ----------
    command : str
        Name of the stage.
    dataset : Dataset
    recipe : Recipe
    split : str
    seed : int
    pool : Pool
    supply : Supply
        What the recipe needs.
    keep_ids : bool
        Outputs are called as their sources.
    """
    source = dataset_source(dataset)
    pairs = _split(source, split, dataset)
    surveys = survey(source, pool)
    sources = [found.source for found in surveys[split]]
    plan = RecipePlan(recipe.bind(supply), sources, seed=seed, keep_ids=keep_ids)
    configuration = {"split": split, "seed": seed, "negatives": {"steps": recipe.plain()}}
    groups = [Group(pair, split, False, plan.of(index)) for index, pair in enumerate(pairs)]
    groups = [group for group in groups if len(group)]
    lists: dict[str, list[str]] = {"train": [], "test": []}
    lists[split] = [id_ for group in groups for id_ in group.ids()]
    counts = {name: len(ids) for name, ids in lists.items()}
    name = dataset.name
    return _plan(command, name, groups, lists, counts, surveys, name, recipe, supply, configuration)


def execute(plan: Plan, out: Path, pool: Pool, progress: Progress | None = None) -> BuildResult:
    """Make what a plan says, or what is still missing of it."""
    report = progress or (lambda stage, done, total: None)
    out = Path(out)
    if out.is_symlink() or not out.name:
        out = out.resolve()
    counts = plan.description["counts"]
    there = finished(out, plan.description)
    if there is not None:
        return BuildResult(out, counts, 0)
    if plan.shards is not None:
        return _execute_shards(plan, plan.shards, out, pool, report)
    total = len(plan)
    with staging(out, plan.description) as stage:
        done = stage.completed(plan.outputs(), pool.jobs)
        made = total - done
        report("realise", done, total)
        if plan.noise is not None:
            write_file(str(stage.place / NOISE), plan.noise)
        tasks = _tasks(plan, stage.place, done, pool.apart)
        with closing(pool.map(_make_outputs, tasks)) as results:
            for lines in results:
                stage.append(b"".join(lines))
                done += len(lines)
                report("realise", done, total)
        _check_listing(plan, stage)
        stage.publish(plan.description, split_lists(plan.name, plan.lists) | {CARD: plan.card})
    return BuildResult(out, counts, made, _count_noisier(plan, out))


def _execute_shards(
    plan: Plan, size: ShardSize, out: Path, pool: Pool, report: Progress
) -> BuildResult:
    total = len(plan)
    with staging(out, plan.description, (SHARDS, MARKS)) as stage:
        whole = whole_shards(stage, pool.jobs)
        done = found = sum(shard.outputs for shard in whole.values())
        report("realise", done, total)
        if plan.noise is not None:
            write_file(str(stage.place / NOISE), plan.noise)
        shards: list[Shard] = []

        def tasks() -> Iterator[_ShardTask]:
            for task in _shard_tasks(plan, size, stage.place):
                if task.name not in whole:
                    yield task

        with closing(pool.map(_make_shard, tasks())) as results:
            for shard in results:
                shards.append(shard)
                done += shard.outputs
                report("realise", done, total)
        shards += whole.values()
        shards.sort(key=_place_of_shard)
        publish_shards(stage, shards, plan.description, {CARD: plan.card})
    noisier = sum(shard.noisier for shard in shards) if _adds_noise(plan) else None
    return BuildResult(out, plan.description["counts"], total - found, noisier)


def _place_of_shard(shard: Shard) -> tuple[int, int]:
    split, number = shard.name.split("-")
    return SPLITS.index(split), int(number)


def _count_noisier(plan: Plan, out: Path) -> int | None:
    if not _adds_noise(plan):
        return None
    return sum(read_as(out / MANIFEST, lambda line: line.facts.get("noisier", 0.0) >= 0.5))


def _adds_noise(plan: Plan) -> bool:
    """Whether a step adds what images lack of a camera's noise."""
    return any(isinstance(step, Residual | Physical) for step in plan.recipe.inner())


def survey(source: Source, pool: Pool) -> dict[str, list[Survey]]:
    """Look at every pair: sizes, targets, hashes; nothing that is damaged gets past here."""
    flat = [(pair, split) for split, pairs in source.splits.items() for pair in pairs]
    chunks = [flat[at : at + 64] for at in range(0, len(flat), 64)]
    with closing(pool.map(_survey_chunk, chunks)) as results:
        found = [result for chunk in results for result in chunk]
    surveys: dict[str, list[Survey]] = {split: [] for split in source.splits}
    for (_, split), result in zip(flat, found, strict=True):
        surveys[split].append(result)
    return surveys


def _survey_chunk(chunk: Sequence[tuple[Pair, str]]) -> list[Survey]:
    return [pair.survey(held_out=split == "test") for pair, split in chunk]


def _forbidden(surveys: dict[str, list[Survey]]) -> frozenset[bytes]:
    return frozenset(found.pixels for found in surveys.get("test", ()) if found.pixels is not None)


def _split(source: Source, split: str, dataset: Dataset) -> tuple[Pair, ...]:
    if not dataset.ids(split):
        raise DatasetError(dataset.root, f"its split {split!r} is empty; choose another --split")
    return source.splits[split]


def _plan(
    command: str,
    name: str,
    groups: list[Group],
    lists: dict[str, list[str]],
    split_counts: dict[str, int],
    surveys: dict[str, list[Survey]],
    source_name: str,
    recipe: Recipe,
    supply: Supply,
    configuration: dict[str, Any],
    shards: ShardSize | None = None,
    hosts: HostImages | None = None,
) -> Plan:
    parts = [part for part in (supply.bank, supply.cameras) if part is not None]
    noise_file = pack_noise(*parts) if parts else None
    counts = {
        "outputs": sum(split_counts.values()),
        **split_counts,
        "negatives": sum(len(group.outputs) for group in groups),
    }
    description = {
        "format": 1,
        "name": name,
        "configuration": {"command": command, **configuration},
        "source": {"name": source_name, "fingerprint": fingerprint(surveys)},
        "noise": {
            **{"patches" if isinstance(part, NoiseBank) else "frames": len(part) for part in parts},
            "sha256": sha256(noise_file),
        }
        if noise_file is not None
        else None,
        "counts": counts,
        "versions": versions() | {"processor": processor()},
        "reproduced": _REPRODUCED,
    }
    if hosts is not None and hosts.sha256 is not None:
        description["hosts"] = {"frames": len(hosts.empty), "sha256": hosts.sha256}
    return Plan(
        name,
        groups,
        lists,
        recipe,
        configuration["seed"],
        noise_file,
        _forbidden(surveys),
        description,
        _card(command, name, groups, split_counts, surveys, source_name, shards),
        shards,
        hosts or NO_HOSTS,
    )


def _card(
    command: str,
    name: str,
    groups: list[Group],
    counts: dict[str, int],
    surveys: dict[str, list[Survey]],
    source_name: str,
    shards: ShardSize | None,
) -> bytes:
    """The README of the set, from the plan alone, so that it is the same however a build went."""
    sources = {found.source.id: found.source for split in surveys.values() for found in split}
    contents = Contents(counts)
    for group in groups:
        source = sources[group.pair.id]
        outputs = len(group)
        contents.shapes[source.shape] += outputs
        # Nobody looks into the masks of what is held out.
        if group.split != "test":
            areas = [target.area for target in source.targets]
            contents.targets.setdefault(group.split, 0)
            contents.targets[group.split] += len(areas) * outputs
            for area in areas:
                contents.areas[area] += outputs
    made = sum(len(group.outputs) for group in groups)
    manifest = MANIFEST if shards is None else f"{SHARDS}/*.jsonl"
    origin = [
        f"Made by `synth {command}` of sirst-synth from {code_span(source_name)}; targets are "
        "counted, and measured, in the source of every image.",
        f"`{manifest}` has every choice that made each output, and the SHA-256 of its files;"
        " `dataset.json` the configuration. `synth verify` tests all files.",
    ]
    layout = "`images`, `masks` (0 and 255), lists of ids in `50_50` and `img_idx`"
    if shards is not None:
        layout = "`shards/<split>-<number>.tar`: of every image its file, `mask.png` and `json`"
    notes = {"of the images were made from others": made}
    return write_card(name, layout, contents, origin, notes)


def fingerprint(surveys: dict[str, list[Survey]]) -> str:
    """One hash over the files of every pair, with their ids and splits."""
    digest = hashlib.sha256()
    for split in sorted(surveys):
        for found in surveys[split]:
            digest.update(f"{split}/{found.source.id}\0".encode() + found.digest)
    return digest.hexdigest()


@dataclass(frozen=True)
class Task:
    """A worker's share: some groups, or a part of one.

    Workers that are `apart`, each a process of its own, may outlive the build.
    """

    place: Path
    groups: list[Group]
    recipe: Recipe
    seed: int
    noise: str | None
    forbidden: frozenset[bytes]
    apart: bool
    hosts: HostImages


def _tasks(plan: Plan, place: Path, done: int, apart: bool) -> Iterator[Task]:
    """Cut what is left of the plan into tasks, in the order of the manifest."""
    waiting: list[Group] = []
    size = 0
    for group in plan.groups:
        if done >= len(group):
            done -= len(group)
            continue
        copy, outputs = group.copy and not done, iter(group.outputs)
        for _ in islice(outputs, max(done - group.copy, 0)):
            pass
        done = 0
        while (part := list(islice(outputs, _OUTPUTS_PER_TASK))) or copy:
            waiting.append(Group(group.pair, group.split, copy, part))
            size += len(waiting[-1])
            copy = False
            if size >= _OUTPUTS_PER_TASK:
                yield _task(plan, place, waiting, apart)
                waiting, size = [], 0
    if waiting:
        yield _task(plan, place, waiting, apart)


def _task(plan: Plan, place: Path, groups: list[Group], apart: bool = True) -> Task:
    noise = plan.description["noise"]["sha256"] if plan.noise is not None else None
    # Only training images are held against the hashes, which have to travel to processes.
    held_out = all(group.split == "test" for group in groups)
    forbidden = frozenset() if held_out else plan.forbidden
    # And so do the hosts.
    hosts = plan.hosts if any(group.outputs for group in groups) else NO_HOSTS
    return Task(place.absolute(), groups, plan.recipe, plan.seed, noise, forbidden, apart, hosts)


@dataclass(frozen=True)
class _ShardTask:
    """A worker's share of a set in shards: one of them."""

    name: str
    task: Task


def _shard_tasks(plan: Plan, size: ShardSize, place: Path) -> Iterator[_ShardTask]:
    """Cut the plan into shards, each of one split."""
    for split, groups in groupby(plan.groups, key=lambda group: group.split):
        for number, share in enumerate(_shares(groups, size)):
            yield _ShardTask(f"{split}-{number:06d}", _task(plan, place, share))


def _shares(groups: Iterator[Group], size: ShardSize) -> Iterator[list[Group]]:
    """Cut groups so that each share is of the size of a shard; there is always one output."""
    share: list[Group] = []
    outputs = nbytes = 0
    for group in groups:
        copy, left = group.copy, iter(group.outputs)
        while True:
            room = 1 << 62
            if size.outputs is not None:
                room = size.outputs - outputs
            if size.nbytes is not None:
                room = min(room, (size.nbytes - nbytes) // max(group.nbytes, 1))
            if room < 1 and share:
                yield share
                share, outputs, nbytes = [], 0, 0
                continue
            part = list(islice(left, max(room, 1) - copy))
            if not part and not copy:
                break
            share.append(Group(group.pair, group.split, copy, part))
            outputs += len(share[-1])
            nbytes += len(share[-1]) * group.nbytes
            copy = False
    if share:
        yield share


def _make_outputs(task: Task) -> list[bytes]:
    """Write the outputs of some groups; return their manifest lines."""
    return [
        _write_pair(task, entry, image, mask)
        for group in task.groups
        for entry, image, mask in make_group(task, group)
    ]


def _make_shard(shard: _ShardTask) -> Shard:
    """Write a shard; one output after the other is in memory."""
    task = shard.task
    if task.noise is not None and any(group.outputs for group in task.groups):
        read_supply(
            task.place / NOISE, task.noise
        )  # so that no other file is open beside the shard
    with ShardWriter(task.place, shard.name) as writer:
        for group in task.groups:
            for entry, image, mask in make_group(task, group):
                writer.add(entry, image, mask)
        return writer.finish()


Made = tuple[Line, OutputFile, OutputFile]


def make_group(task: Task, group: Group) -> Iterator[Made]:
    """Make the outputs of a group: the entry of each, its image and its mask."""
    # Held-out pairs are only copied; their masks are written as 0 and 255 where they are not.
    if group.split == "test":
        yield _copy(group, group.pair.files())
        return
    source = group.pair.load()
    if pixel_digest(source.image) in task.forbidden:
        raise DatasetError(
            _where(group.pair), "has the same pixels as a test image; take it off one of the lists"
        )
    if group.copy:
        yield _copy(group, source.files)
    if not group.outputs:
        return
    supply = read_supply(task.place / NOISE, task.noise) if task.noise is not None else Supply()
    recipe = task.recipe.bind(replace(supply, hosts=task.hosts.loaded()))
    scene = Scene(source.image, source.mask, group.pair.id, targets=source.targets)
    masks: dict[int, tuple[Mask, OutputFile]] = {}
    for output in group.outputs:
        try:
            sample = recipe.make(scene, output, task.seed)
        except (NoiseError, RecipeError) as error:
            raise type(error)(f"{_where(group.pair)}: output {output.id}: {error}") from None
        # Repeats, and outputs with noise alone, have one mask between them.
        known = masks.get(id(sample.mask))
        if known is None:
            known = sample.mask, OutputFile(encode_png(sample.mask), ".png")
            masks[id(sample.mask)] = known
        entry = Line(output.id, group.split, group.pair.id, sample.steps, sample.facts)
        yield entry, OutputFile(encode_png(sample.image), ".png"), known[1]


def _copy(group: Group, files: PairFiles) -> Made:
    entry = Line(group.pair.id, group.split, group.pair.id)
    image = OutputFile(files.image, files.image_suffix)
    return entry, image, OutputFile(files.mask, files.mask_suffix)


def _where(pair: Pair) -> Path | str:
    return pair.image.path if isinstance(pair, FilePair) else pair.id


def _write_pair(task: Task, entry: Line, image: OutputFile, mask: OutputFile) -> bytes:
    files: dict[str, str] = {}
    for key, folder, file in (("image", IMAGES, image), ("mask", MASKS, mask)):
        name = f"{folder}/{entry.id}{file.suffix}"
        if task.apart:
            place_file(f"{task.place}/{name}", file.data, task.place / PARTS)
        else:
            write_file(f"{task.place}/{name}", file.data)
        files |= {key: name, f"{key}_sha256": file.sha256}
    return Line(entry.id, entry.split, entry.source, entry.steps, entry.facts, files).to_line()


# Noise is read once a process: it lies in the staging directory, so that no task carries it. Its
# hash tells it from that of another build in the same place.
@lru_cache(maxsize=1)
def read_supply(path: Path, sha256: str = "") -> Supply:
    """Read the noise of a build."""
    return Supply(*load_parts(path))


def _check_listing(plan: Plan, stage: Staging) -> None:
    """Every output has its two files, and nothing else lies beside them."""
    ids = {id_ for id_, _ in plan.outputs()}
    for folder in (IMAGES, MASKS):
        missing = ids.copy()
        odd = []
        with os.scandir(stage.place / folder) as entries:
            for entry in entries:
                stem = entry.name.rpartition(".")[0]
                if stem in missing:
                    missing.remove(stem)
                else:
                    odd.append(stem)
        if missing or odd:
            name = min(missing or odd)
            raise StoreError(
                stage.place / folder / name, "changed while the build ran; run it again"
            )
