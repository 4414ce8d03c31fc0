"""Studies: does the synthesised data help? Arms × seeds × fractions, each trained and judged.

`prepare` decides everything: the images of every run, the noise, which run is evaluated on what.
`execute` makes the runs that are missing. A run has a folder of its own, and is found there when
the study is started again: trained ones are not trained again, and what was judged is never judged
a second time, so the test split is read once a run.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache, partial
from glob import escape
from itertools import groupby
from pathlib import Path
from typing import Any

from detect.errors import TrainingInterruptedError
from detect.identity import flatten, shorten
from detect.predict import Detector, load_detector
from detect.pseudo import Confidence
from detect.teachers import Teaching
from detect.train import BEST, LAST, train
from detect.tta import Moves
from pipelines.build import build
from pipelines.build.parallel import Pool
from pipelines.build.sources import pixel_digest
from pipelines.errors import ConfigError, PipelineError
from pipelines.label import label_frames
from pipelines.study_config import (
    REST,
    VALIDATION,
    Arm,
    Evaluation,
    LabelSettings,
    StudyConfig,
    evaluations,
)
from pipelines.study_helpers import (
    IDENTITY,
    RUNS,
    SCORES,
    TRAINING,
    Helper,
    describe,
    find_helper,
    forget_unknown,
    is_known,
    part_name,
    place_of,
    read_identity,
    write_seen,
)
from pipelines.study_scores import RunScores, evaluation_noise, load_scores, score_run
from pipelines.study_sets import (
    Labelled,
    NoiseSource,
    Parts,
    choose_parts,
    divide_noise,
    link_noise,
    link_set,
    open_labelled,
    open_noise,
)
from synth.dataset import Dataset, open_dataset
from synth.disk.description import read_description, require_usable, require_whole
from synth.disk.files import replace_file, sha256, write_json
from synth.errors import NoiseError, StoreError, no_such
from synth.frames import ImageFile, read_frame
from synth.inspect.splits import find_overlaps
from synth.noise.cameras import CameraNoise, load_cameras
from synth.noise.learn import fit_noise
from synth.noise.model import NoiseModel

Sources = Mapping[str, Sequence[NoiseSource]]

SETS, NOISE = "sets", "noise"
_BUILT, _LABELLED = "set", "labelled"


@dataclass(frozen=True)
class Choice:
    """Which part of a study to do; None is all of it.

    Attributes
    ----------
    arms : tuple of str or None
    seeds : tuple of int or None
    fractions : tuple of float or None
    test : bool
        Whether finished runs are judged on test splits too.
    """

    arms: tuple[str, ...] | None = None
    seeds: tuple[int, ...] | None = None
    fractions: tuple[float, ...] | None = None
    test: bool = False

    def require_known(
        self, where: str, arms: Iterable[str], seeds: Iterable[int], fractions: Iterable[float]
    ) -> None:
        """Raise a `ConfigError` at ``where`` if there is no such arm, seed or fraction."""
        for what, chosen, known in (
            ("arm", self.arms, dict.fromkeys(arms)),
            ("seed", self.seeds, dict.fromkeys(seeds)),
            ("fraction", self.fractions, dict.fromkeys(fractions)),
        ):
            for one in chosen or ():
                if one not in known:
                    raise ConfigError(f"{where}: {no_such(what, one, known)}")


@dataclass(frozen=True)
class Run:
    """One training: an arm at a fraction and a seed.

    Attributes
    ----------
    arm : Arm
        With the study's device and seed, and the noise to build with, filled in.
    fraction : float
    seed : int
    place : Path
        Its folder.
    base : Path
        The data set of its images, as links.
    identity : mapping
        Everything that decides its result.
    evaluations : tuple of (Evaluation, Path, Path or None)
        What it is judged on: the set, and the noise of a sensor.
    weights : str
        Name of the weights file that is judged.
    labellers : tuple of Helper
        Those whose detectors label frames for it.
    frames : mapping of str to ImageFile
        Those frames.
    teachers : tuple of Helper
        Those whose detectors look at every window with it.
    seen : set of bytes
        Pixel hashes of the images that it, and those who help it, learn from; None where one of
        these is not known.
    """

    arm: Arm
    fraction: float
    seed: int
    place: Path
    base: Path
    identity: Mapping[str, Any]
    evaluations: tuple[tuple[Evaluation, Path, Path | None], ...]
    weights: str
    labellers: tuple[Helper, ...] = ()
    frames: Mapping[str, ImageFile] = field(default_factory=dict)
    teachers: tuple[Helper, ...] = ()
    seen: Set[bytes] | None = frozenset()

    @property
    def turn(self) -> int:
        """In which turn it can be made: after those that it needs."""
        return max((1 + one.turn for one in (*self.labellers, *self.teachers)), default=0)

    @property
    def helper(self) -> Helper:
        """What others see of it that it labels for or teaches."""
        identity = self.identity if is_known(self.identity) else None
        return Helper(self.arm.name, identity, self.weights_path, self.seen, self.turn)

    @property
    def weights_path(self) -> Path:
        """The weights file that is judged."""
        return self.place / TRAINING / self.weights

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.arm.name}, {self.fraction:.4g} of the set, seed {self.seed}"

    @property
    def trained(self) -> bool:
        """Whether it is trained, and judged on the validation part."""
        return self.scores_path(VALIDATION).is_file()

    @property
    def finished(self) -> bool:
        """Whether it is judged on everything that was asked for."""
        return all(self.scores_path(one).is_file() for one, _, _ in self.evaluations)

    def scores_path(self, one: Evaluation) -> Path:
        """Where its scores on a split are."""
        return self.place / SCORES / f"{one.name}.npz"

    def history(self) -> list[dict[str, Any]]:
        """One entry a validation; see `detect.train.train`."""
        path = self.place / TRAINING / "history.json"
        try:
            return list(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, RecursionError):
            raise StoreError(
                path, f"cannot be read; remove {self.place} to train the run again"
            ) from None


@dataclass(frozen=True)
class Study:
    """A study that is ready to run.

    Attributes
    ----------
    config : StudyConfig
    out : Path
    data : Dataset
    parts : mapping of (fraction, seed) to Parts
    runs : tuple of Run
        All of the study, in its order.
    chosen : tuple of Run
        Those to do now.
    evaluations : tuple of Evaluation
        Every split that the study evaluates on, with and without ``--test``.
    """

    config: StudyConfig
    out: Path
    data: Dataset
    parts: Mapping[tuple[float, int], Parts]
    runs: tuple[Run, ...]
    chosen: tuple[Run, ...]
    evaluations: tuple[Evaluation, ...]


def prepare(
    config: StudyConfig,
    arms: Sequence[Arm],
    out: Path,
    *,
    data: Path,
    noise: Mapping[str, Sequence[Path]] | None = None,
    against: Mapping[str, Path] | None = None,
    runs: Mapping[str, Path] | None = None,
    choice: Choice | None = None,
    device: str | None = None,
    jobs: int = 0,
) -> Study:
    """Choose the images of every run, and check that it can be made.

    Parameters
    ----------
    config : StudyConfig
    arms : sequence of Arm
        See `pipelines.study_config.read_study`.
    out : Path
        The study's folder.
    data : Path
        The labelled set.
    noise : mapping of str to sequence of Path
        Noise sources by name.
    against : mapping of str to Path
        Further test sets by name.
    runs : mapping of str to Path
        Folders of other studies, whose runs label frames or teach, by name.
    choice : Choice, optional
    device : str, optional
        Instead of the configurations' `compute.device`.
    jobs : int
        Threads that look at images; 0 for one per processor.

    Raises
    ------
    SynthError, PipelineError
        Something that the study names is missing; a noise frame or training image is a test image.
    """
    choice = choice or Choice()
    chosen = _with_needed(_choose(config, choice), arms)
    noise, against, elsewhere = dict(noise or {}), dict(against or {}), dict(runs or {})
    pool = Pool(jobs, "threads")
    if device is not None:
        arms = [_on_device(arm, device) for arm in arms]
    asked = evaluations(config.tests, arms)
    wanted = [one for one in asked if one.split == "val" or choice.test]
    _require_known(arms, chosen, wanted, noise, against, elsewhere)

    labelled = open_labelled(data, pool)
    forbidden = {labelled.pixels[id_]: f"{id_} of {data}" for id_ in labelled.dataset.ids("test")}
    others = {name: open_dataset(path) for name, path in against.items()}
    for name, other in others.items():
        ids = other.ids("test")
        digests = pool.map(pixel_digest, map(other.read_image, ids))
        forbidden |= {pixels: f"{id_} of {name}" for id_, pixels in zip(ids, digests, strict=True)}
    _require_apart(labelled, forbidden)
    for one in wanted:
        tested = others[one.against] if one.against else labelled.dataset
        if one.split == "test" and not tested.ids("test"):
            raise ConfigError(
                f"{tested.root}: has no test split for {one.name!r}; leave --test out"
            )
    given = {
        name: [open_noise(path, forbidden, pool) for path in paths] for name, paths in noise.items()
    }
    # Of all tests, those that are not asked for now too: what is trained on depends on them.
    sources, testing = _divide(asked, arms, given, pool)

    parts = {
        (fraction, seed): choose_parts(labelled, config.validation, fraction, seed)
        for fraction in config.fractions
        for seed in config.seeds
    }
    for one in wanted:
        if one.strength:
            _require_same_noise(out, one, testing)
    # Before hours of training find out that there are too few frames; once, for the fit stays.
    for one in (one for one in asked if one.camera == "seen" and _sources_of(one, testing)):
        if not _noise_path(out, _sources_of(one, testing)).is_file():
            _fit_cameras(_sources_of(one, sources), "training")
            _fit_noise(out, _sources_of(one, testing), labelled)
    evaluated_on = tuple(
        (
            one,
            _judged_set(one, data, against),
            _fit_noise(out, _sources_of(one, testing), labelled) if one.strength else None,
        )
        for one in wanted
    )
    unlabelled = {
        name: _frames_of(others[name], others[name].ids("train"), forbidden, pool)
        for name in {arm.label.frames for arm in arms if arm.label} & others.keys()
    }
    made: dict[tuple[str, float, int], Run] = {}
    noisy = {
        pixels: f"{file}, which gives test noise"
        for source in (one for found in testing.values() for one in found)
        for file, pixels in source.frames.items()
    }

    def helpers(run: Run, names: Sequence[str]) -> tuple[Helper, ...]:
        """Runs of the same fraction and seed, of this study or another one."""
        part, images = (run.fraction, run.seed), run.identity["images"]
        held = {labelled.pixels[id_]: f"{id_}, held out" for id_ in parts[part].validation}
        needed = (run.arm.name, *part) in chosen and not run.trained
        found = []
        for name in names:
            other, apart, _ = name.partition("/")
            helper = Helper(name, None, Path(), None)
            if not apart:
                helper = made[name, *part].helper
            elif other in elsewhere:
                try:
                    kept_apart = forbidden | noisy | held
                    helper = find_helper(name, elsewhere[other], *part, images, kept_apart)
                except (ConfigError, StoreError):
                    # What is there already, or is not to be made now, may stay what it is.
                    if needed:
                        raise
            found.append(helper)
        return tuple(found)

    for fraction in config.fractions:
        for arm in arms:
            for seed in config.seeds:
                part = parts[fraction, seed]
                run = replace(
                    _run(config, arm, fraction, seed, labelled, part, sources),
                    place=place_of(out, arm.name, fraction, seed),
                    base=out / SETS / part_name(fraction, seed),
                    evaluations=evaluated_on,
                )
                seen = labelled.pixels_of(part.train)
                without = labelled.pixels_of(part.validation)
                for source in (one for name in run.identity["noise"] for one in sources[name]):
                    seen |= set(source.frames.values()) - without
                if arm.label is not None:
                    if arm.label.frames == REST:
                        frames = {id_: labelled.dataset.image_file(id_) for id_ in part.rest}
                        seen |= labelled.pixels_of(part.rest)
                    else:
                        frames, pixels = unlabelled.get(arm.label.frames, ({}, set()))
                        seen |= pixels
                    run = _with_label(run, helpers(run, arm.label.by), frames)
                if arm.teach is not None:
                    run = _with_teachers(run, helpers(run, arm.teach.by))
                run = replace(run, seen=_with_theirs(seen, (*run.labellers, *run.teachers)))
                made[arm.name, fraction, seed] = run if is_known(run.identity) else _recall(run)
    every = list(made.values())
    now = [run for run in every if (run.arm.name, run.fraction, run.seed) in chosen]
    for run in now:
        for learned in noisy.keys() & (run.seen or set()):
            raise ConfigError(
                f"{noisy[learned]}: arms.{run.arm.name} learns from it; give other frames, or do "
                "not test on this camera"
            )
        _claim(run, check=True)
    for fraction, seed in {(run.fraction, run.seed): None for run in now if not run.finished}:
        place = out / SETS / part_name(fraction, seed)
        link_set(place, labelled.dataset, parts[fraction, seed])
    ready = [run if run.trained else _with_noise(run, out, sources, labelled, parts) for run in now]
    ready.sort(key=lambda run: run.turn)
    return Study(config, out, labelled.dataset, parts, tuple(every), tuple(ready), tuple(asked))


def execute(
    study: Study,
    *,
    jobs: int = 1,
    keep_sets: bool = False,
    started: Callable[[Run], None] = lambda run: None,
    ended: Callable[[Run], None] = lambda run: None,
    watch: Callable[[range], Iterable[int]] = iter,
    log: Callable[[str], None] = lambda line: None,
) -> None:
    """Make what is missing of the chosen runs.

    Parameters
    ----------
    study : Study
    jobs : int
        Runs at a time, each in a process of its own.
    keep_sets : bool
        Whether built sets stay when their run is trained; the same ones can be built again.
    started, ended : callable
        Called with a run before and after it; with several jobs after it alone.
    watch, log : callable
        See `detect.train.train`; with one job.

    Raises
    ------
    TrainingInterruptedError
        A signal came; the same study goes on from there.
    """
    waiting = [run for run in study.chosen if not run.finished]
    if jobs == 1:
        for run in waiting:
            started(run)
            make_run(run, keep_sets=keep_sets, watch=watch, log=log)
            ended(run)
        return
    stop = study.out / f".stop.{os.getpid()}"
    stop.parent.mkdir(parents=True, exist_ok=True)
    stop.unlink(missing_ok=True)
    work = partial(_make_apart, stop=stop, keep_sets=keep_sets)
    try:
        for _, turn in groupby(waiting, lambda run: run.turn):
            with closing(Pool(jobs, "processes").map(work, list(turn), stop.touch)) as results:
                for run in results:
                    ended(run)
    except TrainingInterruptedError:
        # The others were told to stop when one failed, and one of them may come first here.
        reason = stop.read_text(encoding="utf-8") if stop.exists() else ""
        if reason:
            raise PipelineError(reason) from None
        raise
    finally:
        stop.unlink(missing_ok=True)


def make_run(
    run: Run,
    *,
    keep_sets: bool = False,
    build_jobs: int = 0,
    watch: Callable[[range], Iterable[int]] = iter,
    log: Callable[[str], None] = lambda line: None,
) -> None:
    """Build a run's set, train on it, and judge it on what it was not yet judged on."""
    _claim(run)
    built, labelled = run.place / _BUILT, run.place / _LABELLED
    training = run.place / TRAINING
    if not run.trained:
        data = run.base
        if run.arm.label is not None:
            data = _label(run, run.arm.label, labelled, Pool(build_jobs, "threads"), log)
        if run.arm.build is not None:
            config = run.arm.build.model_copy(update={"data": data.resolve()})
            if not built.exists():
                log("its set is built")
            build(config, built, jobs=build_jobs)
            data = built
        recipe = run.arm.train.recipe()
        teaching = None
        if run.arm.teach is not None:
            paths = tuple(teacher.weights for teacher in run.teachers)
            teaching = Teaching(paths, run.arm.teach.share, run.arm.teach.tta)
        train(recipe, open_dataset(data), training, run.arm.init, watch, log, teaching)
        # Before it is judged, so that a run whose sets could not be removed is not yet done.
        if not keep_sets:
            _remove(built)
            _remove(labelled)
    detectors: dict[Moves, Detector] = {}
    for one, root, noise in run.evaluations:
        path = run.scores_path(one)
        if path.is_file():
            continue
        if one.tta not in detectors:
            device = run.arm.train.compute.device
            detectors[one.tta] = load_detector(run.weights_path, device, tta=one.tta)
        dataset = open_dataset(run.base if one.split == "val" else root)
        change = evaluation_noise(_cameras(noise), one) if noise is not None else None
        score_run(detectors[one.tta], dataset, dataset.ids(one.split), change).save(path)


def _remove(place: Path) -> None:
    """Remove a set, under another name first, so that a part of it is never taken for whole."""
    gone = place.with_name(f".{place.name}.removed")
    try:
        if gone.exists():
            shutil.rmtree(gone)
        if place.exists():
            place.rename(gone)
            shutil.rmtree(gone)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(place)) from None


def _label(
    run: Run, settings: LabelSettings, out: Path, pool: Pool, log: Callable[[str], None]
) -> Path:
    """Let other runs label a run's frames; return the set of these and its own images."""
    if require_usable(out):
        # The folder of a run is of one identity, which the labellers and the frames are a part of.
        require_whole(out, read_description(out))
        return out
    log(f"{len(run.frames):,} frames are labelled by {' and '.join(settings.by)}")
    label_frames(
        run.frames,
        [labeller.weights for labeller in run.labellers],
        Confidence(settings.threshold, settings.doubt, settings.sure),
        out,
        root=run.base,
        base=open_dataset(run.base),
        device=run.arm.train.compute.device,
        tta=settings.tta,
        pool=pool,
    )
    return out


def read_runs(study: Study) -> list[tuple[Run, dict[str, RunScores]]]:
    """Read the scores of every run that is trained, chosen or not, on every split judged so far."""
    found = []
    for run in study.runs:
        if not run.trained or not _is_same(run):
            continue
        paths = {one.name: run.scores_path(one) for one in study.evaluations}
        found.append((run, {k: load_scores(path) for k, path in paths.items() if path.is_file()}))
    return found


def _choose(config: StudyConfig, choice: Choice) -> set[tuple[str, float, int]]:
    choice.require_known(f"study {config.name}", config.arms, config.seeds, config.fractions)
    return {
        (arm, fraction, seed)
        for arm in (choice.arms or config.arms)
        for fraction in (choice.fractions or config.fractions)
        for seed in (choice.seeds or config.seeds)
    }


def _with_needed(
    chosen: set[tuple[str, float, int]], arms: Sequence[Arm]
) -> set[tuple[str, float, int]]:
    """Add the runs that label for others or teach them; they stand above those."""
    chosen = set(chosen)
    for arm in reversed(arms):
        for needed in arm.needs:
            chosen |= {(needed, *rest) for name, *rest in chosen if name == arm.name}  # type: ignore[misc]
    return chosen


def _frames_of(
    dataset: Dataset, ids: Sequence[str], forbidden: Mapping[bytes, str], pool: Pool
) -> tuple[dict[str, ImageFile], set[bytes]]:
    """Training images as frames without labels, less copies of test images; and their hashes."""
    digests = list(pool.map(pixel_digest, map(dataset.read_image, ids)))
    kept = [(i, pixels) for i, pixels in zip(ids, digests, strict=True) if pixels not in forbidden]
    return {id_: dataset.image_file(id_) for id_, _ in kept}, {pixels for _, pixels in kept}


def _with_label(run: Run, labellers: tuple[Helper, ...], frames: Mapping[str, ImageFile]) -> Run:
    """A run with what labels for it, which is part of what it is."""
    assert run.arm.label is not None
    label = run.arm.label.model_dump(mode="json", exclude={"tta"}) | {
        "ids": sha256("".join(f"{id_}\n" for id_ in frames).encode()),
        "by": describe(labellers),
        **_tta(run.arm.label.tta),
    }
    identity = {**run.identity, "label": label}
    return replace(run, identity=identity, labellers=labellers, frames=frames)


def _with_teachers(run: Run, teachers: tuple[Helper, ...]) -> Run:
    """A run with what teaches it, which is part of what it is."""
    assert run.arm.teach is not None
    settings = run.arm.teach
    teach = {"share": settings.share, "by": describe(teachers), **_tta(settings.tta)}
    return replace(run, identity={**run.identity, "teach": teach}, teachers=teachers)


def _with_theirs(seen: Set[bytes], helpers: Iterable[Helper]) -> Set[bytes] | None:
    """Images that a run and its helpers learned from; None where it is not known of one of them."""
    for helper in helpers:
        if helper.seen is None:
            return None
        seen = seen | helper.seen
    return seen


def _tta(moves: Moves) -> dict[str, int]:
    """What is said of it in an identity: nothing of the frame as it is."""
    return {"tta": moves} if moves > 1 else {}


def _on_device(arm: Arm, device: str) -> Arm:
    compute = arm.train.compute.model_copy(update={"device": device})
    return replace(arm, train=arm.train.model_copy(update={"compute": compute}))


def _require_known(
    arms: Sequence[Arm],
    chosen: set[tuple[str, float, int]],
    wanted: Sequence[Evaluation],
    noise: Mapping[str, Sequence[Path]],
    against: Mapping[str, Path],
    runs: Mapping[str, Path],
) -> None:
    """Raise a `ConfigError` for noise, a test set or a study that is named but not given."""
    names = {name for name, _, _ in chosen}
    for arm in arms:
        if arm.name not in names:
            continue
        for name in arm.noise or ():
            if name not in noise:
                raise ConfigError(
                    f"arms.{arm.name}.noise: {no_such('noise', name, noise)}; "
                    f"give --noise {name}=FRAMES"
                )
        frames = arm.label.frames if arm.label is not None else REST
        if frames != REST and frames not in against:
            raise ConfigError(
                f"arms.{arm.name}.label.frames: {no_such('further set', frames, against)}; "
                f"give --against {frames}=SET"
            )
        for name in {one.partition("/")[0] for one in arm.elsewhere}:
            if name not in runs:
                raise ConfigError(
                    f"arms.{arm.name}: {no_such('other study', name, runs)}; "
                    f"give --runs {name}=FOLDER"
                )
        if arm.init is not None and not arm.init.is_file():
            raise ConfigError(f"{arm.init}: no such file; arms.{arm.name}.init names it")
    for one in wanted:
        if one.strength and not noise:
            raise ConfigError(f"tests: {one.name!r} needs noise; give --noise FRAMES")
        if one.noise is not None and one.noise not in noise:
            raise ConfigError(
                f"tests: {no_such('noise', one.noise, noise)}; give --noise {one.noise}=FRAMES"
            )
        if one.against is not None and one.against not in against:
            raise ConfigError(
                f"tests: {no_such('further set', one.against, against)}; "
                f"give --against {one.against}=SET"
            )


def _require_apart(labelled: Labelled, forbidden: Mapping[bytes, str]) -> None:
    """Raise a `ConfigError` when an image to train on is a test image of a further set."""
    for id_ in labelled.originals:
        if labelled.pixels[id_] in forbidden:
            raise ConfigError(
                f"{labelled.dataset.image_path(id_)}: has the same pixels as the test image "
                f"{forbidden[labelled.pixels[id_]]}; take it off one of the lists"
            )


def _judged_set(one: Evaluation, data: Path, against: Mapping[str, Path]) -> Path:
    return (against[one.against] if one.against is not None else data).resolve()


def _run(
    config: StudyConfig,
    arm: Arm,
    fraction: float,
    seed: int,
    labelled: Labelled,
    parts: Parts,
    sources: Sources,
) -> Run:
    """A run without its folders."""
    train_config = arm.train.model_copy(update={"seed": seed})
    build_config = arm.build
    noise: dict[str, str] = {}
    if build_config is not None:
        negatives = build_config.negatives
        if negatives.count is not None:
            # A count is for the whole split; a part of it gets its share.
            count = round(negatives.count * len(parts.train) / len(labelled.originals))
            negatives = negatives.model_copy(update={"count": count})
        build_config = build_config.model_copy(update={"seed": seed, "negatives": negatives})
        if arm.with_frames:
            without = labelled.pixels_of(parts.validation)
            noise = {
                name: _fingerprint(sources[name], without)
                for name in (sources if arm.noise is None else arm.noise)
                if name in sources
            }
            if build_config.hosts_from_noise:
                _require_empty(arm, [source for name in noise for source in sources[name]])
    init = sha256(arm.init.read_bytes()) if arm.init and arm.init.is_file() else None
    recipe = asdict(train_config.recipe())
    del recipe["compute"]  # where, not what
    identity = {
        "study": config.name,
        "arm": arm.name,
        "fraction": fraction,
        "images": labelled.fingerprint(parts),
        "train": recipe,
        "init": init,
        "build": build_config and build_config.model_dump(mode="json", exclude={"data"}),
        "noise": noise,
        "weights": config.weights,
    }
    return Run(
        arm=replace(arm, train=train_config, build=build_config),
        fraction=fraction,
        seed=seed,
        place=Path(),
        base=Path(),
        identity=json.loads(json.dumps(identity)),
        evaluations=(),
        weights=BEST if config.weights == "best" else LAST,
    )


def _require_empty(arm: Arm, sources: Sequence[NoiseSource]) -> None:
    for source in sources:
        if source.labelled:
            raise ConfigError(
                f"arms.{arm.name}: {source.path} is a labelled set, and targets are to be put into "
                "its frames without looking at its labels; set hosts: training for transplant"
            )


def _with_noise(
    run: Run,
    out: Path,
    sources: Sources,
    labelled: Labelled,
    parts: Mapping[tuple[float, int], Parts],
) -> Run:
    """The run with everything that its set is built from in place."""
    if run.arm.build is None:
        return run
    changes: dict[str, Any] = {"data": run.base.resolve()}
    if run.identity["noise"]:
        assert run.arm.build.noise is not None
        without = labelled.pixels_of(parts[run.fraction, run.seed].validation)
        paths = tuple(
            link_noise(out / NOISE / f"s{run.seed}" / f"{name}-{number}", source, without)
            for name in run.identity["noise"]
            for number, source in enumerate(sources[name])
        )
        changes["noise"] = run.arm.build.noise.model_copy(update={"frames": paths})
    return replace(run, arm=replace(run.arm, build=run.arm.build.model_copy(update=changes)))


def _fingerprint(sources: Sequence[NoiseSource], without: Set[bytes] = frozenset()) -> str:
    return sha256("".join(source.fingerprint(without) for source in sources).encode())


def _sources_of(one: Evaluation, sources: Sources) -> list[NoiseSource]:
    """The sources, of those that are given, whose noise a test has."""
    names = list(sources) if one.noise is None else [one.noise]
    return [source for name in names for source in sources.get(name, ())]


def _divide(
    asked: Sequence[Evaluation], arms: Sequence[Arm], sources: Sources, pool: Pool
) -> tuple[Sources, Sources]:
    """Split every tested source that an arm has seen into training frames and test frames.

    Returns
    -------
    training, test : mapping of str to sequence of NoiseSource
        By name. For a seen camera the two have no frame in common.

    Raises
    ------
    ConfigError
        A source cannot be divided, or two that train and test have frames in common.
    """
    training: dict[str, Sequence[NoiseSource]] = dict(sources)
    test: dict[str, Sequence[NoiseSource]] = {}
    for one in (one for one in asked if one.strength):
        for name in [one.noise] if one.noise is not None else sources:
            if name not in sources or name in test:
                continue
            test[name] = sources[name]
            if one.camera == "seen":
                training[name], test[name] = divide_noise(sources[name], pool)
    given = {
        name
        for arm in arms
        if arm.with_frames
        for name in (sources if arm.noise is None else arm.noise)
    }
    for name in test:
        for other in sources.keys() & given - {name}:
            _require_other(name, sources[name], other, sources[other], pool)
    return training, test


def _require_other(
    name: str, tests: Sequence[NoiseSource], other: str, trains: Sequence[NoiseSource], pool: Pool
) -> None:
    """Raise a `ConfigError` where noise of one name to test with is noise of another to train."""
    hint = (
        f"{name!r}, which is tested on, and {other!r}, which arms are built with, are to be "
        "different cameras; give other frames, or one name to both"
    )
    files = {source.fingerprint() for source in trains if not source.frames}
    known = {pixels for source in trains for pixels in source.frames.values()}
    for source in tests:
        if not source.frames and source.fingerprint() in files:
            raise ConfigError(f"{source.path}: is noise of {other!r} too; {hint}")
        for file, pixels in source.frames.items():
            if pixels in known:
                raise ConfigError(f"{file}: is a frame of {other!r} too; {hint}")
    # Copies that were cut or brightened are other pixels of the same scene.
    ours, theirs = ([file for source in side for file in source.frames] for side in (tests, trains))
    frames = list(pool.map(read_frame, [*ours, *theirs]))
    for first, second in find_overlaps(frames):
        if first < len(ours) <= second:
            raise ConfigError(
                f"{ours[first]}: shows the scene of {theirs[second - len(ours)]}; {hint}"
            )


def _noise_path(out: Path, sources: Sequence[NoiseSource]) -> Path:
    return out / NOISE / f"test-{_fingerprint(sources)[:12]}.npz"


def _require_same_noise(out: Path, one: Evaluation, testing: Sources) -> None:
    """Raise a `ConfigError` when runs were tested in other noise that has the same name."""
    if _noise_path(out, _sources_of(one, testing)).is_file():
        return
    for scores in (out / RUNS).glob(f"*/*/{SCORES}/{escape(one.name)}.npz"):
        raise ConfigError(
            f"{scores}: is of other test noise, and runs in different noise cannot be compared; "
            "give the same --noise, or choose another --out"
        )


def _fit_noise(out: Path, sources: Sequence[NoiseSource], labelled: Labelled) -> Path:
    """Fit the cameras whose noise test images get; fitted once, and then read."""
    path = _noise_path(out, sources)
    if not path.is_file():
        cameras = _fit_cameras(sources, "test")
        depth = 8 * labelled.dataset.read_image(labelled.originals[0]).itemsize
        if cameras.models[0].depth != depth:
            raise ConfigError(
                f"{sources[0].path}: has noise of {cameras.models[0].depth} bits, and the images "
                f"of {labelled.dataset.root} have {depth}; give noise of the same depth"
            )
        replace_file(path, cameras.to_bytes())
    return path


def _fit_cameras(sources: Sequence[NoiseSource], purpose: str) -> CameraNoise:
    """Fit a model to each folder of frames, and read those of noise files."""
    models: list[NoiseModel] = []
    for source in sources:
        if not source.frames:
            models += load_cameras(source.path).models
            continue
        try:
            models += fit_noise(source.frames, by="folder").models
        except NoiseError as error:
            raise NoiseError(
                f"{error} ({len(source.frames)} of its frames give {purpose} noise); or do not "
                "test on this camera"
            ) from None
    return CameraNoise(models)


@lru_cache(maxsize=4)
def _cameras(path: Path) -> CameraNoise:
    return load_cameras(path)


def _claim(run: Run, check: bool = False) -> None:
    """Make the run's folder, unless to check is all, or enter one that belongs to the same run.

    Raises
    ------
    StoreError
        It belongs to another one; the message names the first difference.
    """
    path = run.place / IDENTITY
    if not path.exists():
        if not check:
            run.place.mkdir(parents=True, exist_ok=True)
            write_json(path, dict(run.identity))
            write_seen(run.place, run.seen)
        return
    present, wanted = dict(flatten(read_identity(path))), dict(flatten(run.identity))
    for key in [*wanted, *present]:
        if wanted.get(key) != present.get(key):
            other = "give the same --noise, " if key.startswith("noise.") else ""
            raise StoreError(
                run.place,
                f"is a run with {key}={shorten(present.get(key))}, not {shorten(wanted.get(key))}; "
                f"{other}choose another --out, or remove it",
            )
    write_seen(run.place, run.seen)


def _is_same(run: Run) -> bool:
    """Whether the folder is of this run; which noise it had is not asked, it may not be given."""
    path = run.place / IDENTITY
    apart = {"noise": None}
    return path.is_file() and read_identity(path) | apart == {**run.identity} | apart


def _recall(run: Run) -> Run:
    """A run whose helpers are not known, as its folder has it, if that is else the same run."""
    path = run.place / IDENTITY
    if not path.is_file():
        return run
    identity, apart = read_identity(path), {"noise": None}
    if forget_unknown(identity, run.identity) | apart != {**run.identity} | apart:
        return run
    return replace(run, identity=identity)


def _make_apart(run: Run, *, stop: Path, keep_sets: bool) -> Run:
    """Make a run in a worker process, which stops with a checkpoint when the file is there."""
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    _watch_for(run, stop, range(0))
    try:
        make_run(run, keep_sets=keep_sets, build_jobs=1, watch=partial(_watched, run, stop))
    except TrainingInterruptedError:
        stop.touch()
        raise
    except Exception as error:
        with suppress(OSError):  # on a full disk the others find out by themselves
            stop.write_text(str(error), encoding="utf-8")
        raise
    return run


def _watched(run: Run, stop: Path, steps: range) -> Iterator[int]:
    for step in steps:
        yield step
        _watch_for(run, stop, range(step + 1, steps.stop))


def _watch_for(run: Run, stop: Path, left: range) -> None:
    if not stop.exists():
        return
    if left and threading.current_thread() is threading.main_thread():
        # Training catches it, and ends its next step with a checkpoint.
        signal.raise_signal(signal.SIGTERM)
        return
    raise TrainingInterruptedError(f"{run.place}: stopped; run the same command again to go on")
