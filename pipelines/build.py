"""The staged build: sample, plan, realise, write, verify.

Every stage but the last works on plain data; `prepare` decides everything, `execute` makes it. A
source image is decoded once, with all of its outputs in one task, and the same bytes come out
whatever the number and kind of workers and however often the build was interrupted.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipelines.build_config import BuildConfig, NegativeSettings, NoiseSettings
from pipelines.card import Contents, write_card
from pipelines.errors import StoreError
from pipelines.noise import gather_noise
from pipelines.pool import Backend, Pool
from pipelines.sources import (
    FilePair,
    Pair,
    PairFiles,
    Source,
    Survey,
    dataset_source,
    pixel_digest,
    simulated_source,
)
from pipelines.store import (
    CARD,
    IMAGES,
    MANIFEST,
    MASKS,
    NOISE,
    Staging,
    finished,
    manifest_line,
    sha256,
    split_lists,
    staging,
    write_file,
)
from synth import __version__
from synth.dataset import Dataset, open_dataset
from synth.errors import DatasetError, NoiseError
from synth.frames import encode_png
from synth.noise.bank import NoiseBank
from synth.noise.cameras import CameraNoise, load_noise
from synth.noise.components import NoiseComponents
from synth.realise import Realiser
from synth.recipe import MoveChoice, Spec, TurnChoice, plan_negatives, plan_transfer
from synth.targets import find_targets

Progress = Callable[[str, int, int], None]

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
    specs : list of Spec
    """

    pair: Pair
    split: str
    copy: bool
    specs: list[Spec] = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    """Everything that a build will make, decided before any pixel is touched.

    Attributes
    ----------
    name : str
        Name of the set, as in ``img_idx/train_<name>.txt``.
    groups : list of Group
    lists : dict of str to list of str
        Ids of ``train`` and ``test`` (and ``val``).
    bank : bytes or None
        The noise bank's file.
    gain : float or None
        From the noise's DN to the images'.
    forbidden : frozenset of bytes
        Pixel hashes of the test images, which nothing may be made from.
    description : dict
        What ``dataset.json`` says of configuration and origin.
    card : bytes
        The README of the set.
    """

    name: str
    groups: list[Group]
    lists: dict[str, list[str]]
    bank: bytes | None
    gain: float | None
    forbidden: frozenset[bytes]
    description: dict[str, Any]
    card: bytes

    def outputs(self) -> Iterator[tuple[str, str]]:
        """(id, split) of every output in the order of the manifest."""
        for group in self.groups:
            if group.copy:
                yield group.pair.id, group.split
            for spec in group.specs:
                yield spec.id, group.split

    def __len__(self) -> int:
        return sum(group.copy + len(group.specs) for group in self.groups)


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
    backend : {"threads", "processes"}
    progress : callable, optional
        Called with stage, outputs done, outputs in all.

    Raises
    ------
    SynthError, PipelineError
        One line that names the file at fault. Nothing is left behind then.
    """
    pool = Pool(jobs, backend)
    return execute(prepare(config, pool), out, pool, progress)


def prepare(config: BuildConfig, pool: Pool) -> Plan:
    """Decide what a build makes: survey the sources, sample the noise, plan the negatives."""
    if config.simulate is not None:
        source = simulated_source(config.simulate, config.seed)
    else:
        assert config.data is not None
        source = dataset_source(open_dataset(config.data))
    surveys = survey(source, pool)
    forbidden = _forbidden(surveys)
    bank = None
    if config.noise is not None:
        bank = gather_noise(config.noise, source, forbidden, seed=config.seed, jobs=pool.jobs)
    specs = plan_negatives(
        config.negatives.recipe(config.noise.noise_rule() if config.noise else None),
        [found.source for found in surveys["train"]],
        bank,
        seed=config.seed,
        taken_ids=[found.source.id for split in surveys.values() for found in split],
    )
    by_source: dict[str, list[Spec]] = {}
    for spec in specs:
        by_source.setdefault(spec.source, []).append(spec)
    groups = [
        Group(pair, split, True, by_source.get(pair.id, []) if split == "train" else [])
        for split in ("train", "val", "test")
        for pair in source.splits.get(split, ())
    ]
    lists = {split: [pair.id for pair in pairs] for split, pairs in source.splits.items()}
    lists["train"] += [spec.id for spec in specs]
    configuration = config.model_dump(mode="json", exclude={"data", "name", "noise"})
    if config.noise is not None:
        configuration["noise"] = config.noise.model_dump(mode="json", exclude={"sources"})
    return _plan("build", config.name, groups, lists, surveys, source.name, bank, configuration)


def prepare_transfer(
    dataset: Dataset,
    bank: NoiseBank | CameraNoise,
    noise: NoiseSettings,
    split: str,
    seed: int,
    pool: Pool,
) -> Plan:
    """Decide the noise of every image of a split; outputs keep their ids."""
    source = dataset_source(dataset)
    pairs = _split(source, split, dataset)
    surveys = survey(source, pool)
    specs = plan_transfer(noise.noise_rule(), [pair.id for pair in pairs], bank, seed=seed)
    groups = [Group(pair, split, False, [spec]) for pair, spec in zip(pairs, specs, strict=True)]
    configuration = {
        "seed": seed,
        "split": split,
        "noise": noise.model_dump(
            mode="json",
            include={"mode", "gain", "ratio" if noise.mode == "mixup" else "strength"},
        ),
    }
    return _stage_plan("transfer", dataset, groups, split, surveys, bank, configuration)


def prepare_turns(
    dataset: Dataset, negatives: NegativeSettings, split: str, seed: int, pool: Pool
) -> Plan:
    """Decide the turned negatives of every target of a split, ``{id}_k{turns}_j{target}``."""
    source = dataset_source(dataset)
    pairs = _split(source, split, dataset)
    surveys = survey(source, pool)
    specs = plan_negatives(
        negatives.recipe(None), [found.source for found in surveys[split]], None, seed=seed
    )
    groups = {pair.id: Group(pair, split, False) for pair in pairs}
    for spec in specs:
        groups[spec.source].specs.append(spec)
    configuration = {
        "split": split,
        "seed": seed,
        "negatives": negatives.model_dump(mode="json", exclude={"count"}),
    }
    made = [group for group in groups.values() if group.specs]
    return _stage_plan("rotate", dataset, made, split, surveys, None, configuration)


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
    total = len(plan)
    with staging(out, plan.description) as stage:
        done = stage.completed(plan.outputs(), pool.jobs)
        made = total - done
        report("realise", done, total)
        if plan.bank is not None:
            write_file(str(stage.place / NOISE), plan.bank)
        with closing(pool.map(_make_outputs, _tasks(plan, stage.place, done))) as results:
            for lines in results:
                stage.append(b"".join(lines))
                done += len(lines)
                report("realise", done, total)
        _check_listing(plan, stage)
        stage.publish(plan.description, split_lists(plan.name, plan.lists) | {CARD: plan.card})
    return BuildResult(out, counts, made, _count_noisier(plan, out))


def _count_noisier(plan: Plan, out: Path) -> int | None:
    noise = plan.description["configuration"].get("noise")
    if noise is None or noise["mode"] == "mixup":
        return None
    lines = (json.loads(line) for line in (out / MANIFEST).read_bytes().splitlines())
    return sum(line.get("noisier", 0.0) >= 0.5 for line in lines)


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
    dataset.ids(split)  # an unknown split is named there
    return source.splits[split]


def _stage_plan(
    command: str,
    dataset: Dataset,
    groups: list[Group],
    split: str,
    surveys: dict[str, list[Survey]],
    bank: NoiseBank | CameraNoise | None,
    configuration: dict[str, Any],
) -> Plan:
    """The plan of a single stage: what it makes is a set of its own, without a test split."""
    lists: dict[str, list[str]] = {"train": [], "test": []}
    lists[split] = [spec.id for group in groups for spec in group.specs]
    return _plan(command, dataset.name, groups, lists, surveys, dataset.name, bank, configuration)


def _plan(
    command: str,
    name: str,
    groups: list[Group],
    lists: dict[str, list[str]],
    surveys: dict[str, list[Survey]],
    source_name: str,
    bank: NoiseBank | CameraNoise | None,
    configuration: dict[str, Any],
) -> Plan:
    bank_file = bank.to_bytes() if bank is not None else None
    noise = configuration.get("noise") or {}
    counts = {
        "outputs": sum(len(ids) for ids in lists.values()),
        **{split: len(ids) for split, ids in lists.items()},
        "negatives": sum(len(group.specs) for group in groups),
    }
    description = {
        "format": 1,
        "name": name,
        "configuration": {"command": command, **configuration},
        "source": {"name": source_name, "fingerprint": _fingerprint(surveys)},
        "noise": {
            "patches" if isinstance(bank, NoiseBank) else "frames": len(bank),
            "sha256": sha256(bank_file),
        }
        if bank is not None and bank_file is not None
        else None,
        "counts": counts,
        "versions": {
            "sirst-synth": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "opencv": cv2.__version__,
        },
    }
    return Plan(
        name,
        groups,
        lists,
        bank_file,
        noise.get("gain"),
        _forbidden(surveys),
        description,
        _card(command, name, groups, lists, surveys, source_name),
    )


def _card(
    command: str,
    name: str,
    groups: list[Group],
    lists: dict[str, list[str]],
    surveys: dict[str, list[Survey]],
    source_name: str,
) -> bytes:
    """The README of the set, from the plan alone, so that it is the same however a build went."""
    sources = {found.source.id: found.source for split in surveys.values() for found in split}
    contents = Contents({split: len(ids) for split, ids in lists.items()})
    for group in groups:
        source = sources[group.pair.id]
        outputs = group.copy + len(group.specs)
        contents.shapes[source.shape] += outputs
        # Nobody looks into the masks of what is held out.
        if group.split != "test":
            areas = [target.area for target in source.targets]
            contents.targets.setdefault(group.split, 0)
            contents.targets[group.split] += len(areas) * outputs
            contents.areas += areas * outputs
    made = sum(len(group.specs) for group in groups)
    origin = [
        f"Made by `synth {command}` of sirst-synth from `{source_name}`; targets are counted, and "
        "measured, in the source of every image.",
        f"`{MANIFEST}` has every choice that made each output, and the SHA-256 of its files;"
        " `dataset.json` the configuration. `synth verify` tests all files.",
    ]
    layout = "`images`, `masks` (0 and 255), lists of ids in `50_50` and `img_idx`"
    notes = {"of the images were made from others": made}
    return write_card(name, layout, contents, origin, notes)


def _fingerprint(surveys: dict[str, list[Survey]]) -> str:
    """One hash over the files of every pair, with their ids and splits."""
    digest = hashlib.sha256()
    for split in sorted(surveys):
        for found in surveys[split]:
            digest.update(f"{split}/{found.source.id}\0".encode() + found.digest)
    return digest.hexdigest()


@dataclass(frozen=True)
class _Task:
    """A worker's share: some groups, or a part of one."""

    place: Path
    groups: list[Group]
    bank: str | None
    gain: float | None
    forbidden: frozenset[bytes]


def _tasks(plan: Plan, place: Path, done: int) -> Iterator[_Task]:
    """Cut what is left of the plan into tasks, in the order of the manifest."""
    waiting: list[Group] = []
    size = 0
    bank = sha256(plan.bank) if plan.bank is not None else None

    def task() -> _Task:
        # Only training images are held against the hashes, which have to travel to processes.
        held_out = all(group.split == "test" for group in waiting)
        forbidden = frozenset() if held_out else plan.forbidden
        return _Task(place, waiting, bank, plan.gain, forbidden)

    for group in plan.groups:
        length = group.copy + len(group.specs)
        if done >= length:
            done -= length
            continue
        if done:
            specs = group.specs[done - group.copy :]
            group = Group(group.pair, group.split, False, specs)
            done = 0
        for at in range(0, max(len(group.specs), 1), _OUTPUTS_PER_TASK):
            part = group.specs[at : at + _OUTPUTS_PER_TASK]
            waiting.append(Group(group.pair, group.split, group.copy and at == 0, part))
            size += waiting[-1].copy + len(part)
            if size >= _OUTPUTS_PER_TASK:
                yield task()
                waiting, size = [], 0
    if waiting:
        yield task()


def _make_outputs(task: _Task) -> list[bytes]:
    """Write the outputs of some groups; return their manifest lines."""
    return [line for group in task.groups for line in _make_group(task, group)]


def _make_group(task: _Task, group: Group) -> Iterator[bytes]:
    # What is held out is only ever copied, a mask of odd values included.
    if group.split == "test":
        yield _copy(task, group, group.pair.files())
        return
    source = group.pair.load()
    if pixel_digest(source.image) in task.forbidden:
        raise DatasetError(
            _where(group.pair), "has the same pixels as a test image; take it off one of the lists"
        )
    if group.copy:
        yield _copy(task, group, source.files)
    if not group.specs:
        return
    bank = _bank(task.place / NOISE, task.bank) if task.bank is not None else None
    made = Realiser(source.image, source.mask, find_targets(source.mask), bank, task.gain)
    masks: dict[TurnChoice | MoveChoice | None, _File] = {}
    for spec in group.specs:
        try:
            image = made.image(spec)
        except NoiseError as error:
            raise NoiseError(f"{_where(group.pair)}: {error}") from None
        # A repeat has other noise but the mask of the turn that it repeats.
        change = spec.turn or spec.move
        mask = masks.get(change)
        if mask is None:
            mask = _File(encode_png(made.mask(spec)), ".png")
            masks[change] = mask
        record = {"id": spec.id, "split": group.split} | spec.record() | made.facts
        yield _write_pair(task.place, record, _File(encode_png(image), ".png"), mask)


def _copy(task: _Task, group: Group, files: PairFiles) -> bytes:
    record = {"id": group.pair.id, "split": group.split, "source": group.pair.id}
    image = _File(files.image, files.image_suffix)
    return _write_pair(task.place, record, image, _File(files.mask, files.mask_suffix))


def _where(pair: Pair) -> Path | str:
    return pair.image_path if isinstance(pair, FilePair) else pair.id


class _File:
    """The bytes of an output's file, with their suffix and hash."""

    __slots__ = ("data", "sha256", "suffix")

    def __init__(self, data: bytes, suffix: str) -> None:
        self.data = data
        self.suffix = suffix
        self.sha256 = sha256(data)


def _write_pair(place: Path, record: dict[str, Any], image: _File, mask: _File) -> bytes:
    for key, folder, file in (("image", IMAGES, image), ("mask", MASKS, mask)):
        name = f"{folder}/{record['id']}{file.suffix}"
        write_file(f"{place}/{name}", file.data)
        record[key] = name
        record[f"{key}_sha256"] = file.sha256
    return manifest_line(record)


# One bank a process: written once to the staging directory, so that no task carries it. Its hash
# tells it from the bank of another build in the same place.
@lru_cache(maxsize=1)
def _bank(path: Path, sha256: str) -> NoiseBank | CameraNoise:
    found = load_noise(path)
    assert not isinstance(found, NoiseComponents)
    return found


def _check_listing(plan: Plan, stage: Staging) -> None:
    """Every output has its two files, and nothing else lies beside them."""
    wanted = {id_ for id_, _ in plan.outputs()}
    for folder in (IMAGES, MASKS):
        found = {Path(entry).stem for entry in (stage.place / folder).iterdir()}
        missing = wanted - found
        if missing or len(found) != len(wanted):
            odd = sorted(missing or found - wanted)[0]
            raise StoreError(
                stage.place / folder / odd, "changed while the build ran; run it again"
            )
