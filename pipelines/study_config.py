"""The configuration of a study: what `detect study CONFIG` reads.

A study compares training sets. Its arms differ in how the set is made, in the network, or in how it
is trained, and are alike in all that would make the comparison unfair: the labelled images that
they start from, the optimiser's steps, the images a step, and the seeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from detect.tta import Moves
from pipelines.build.config import BuildConfig
from pipelines.config import StrictModel, load_config
from pipelines.errors import ConfigError
from pipelines.training import TrainConfig
from synth.errors import no_such
from synth.steps import Physical

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Helpers = Annotated[
    tuple[
        Annotated[
            str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?$")
        ],
        ...,
    ],
    Field(min_length=1),
]
"""Arms above, or `STUDY/ARM` for an arm of another study."""
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Probability = Annotated[float, Field(ge=0, le=1)]

TEST_SEED = 20_170_517
"""Seed of all that is drawn for tests in noise: which recordings give it, and its realisations. No
seed of a study changes it, and nothing that is trained on is drawn with it."""

Camera = Literal["seen", "unseen"]
"""Of the noise of a test: ``seen`` is a camera that arms were built with, in other frames of it;
``unseen`` one that no arm was built with."""

REST = "rest"
"""What the training images are called that a run does not get the labels of."""

# What one arm may not have of its own, and where the study says it for all of them.
_SHARED_TRAINING = {
    "steps": "`steps` of the study",
    "epochs": "`steps` of the study",
    "batch": "`batch` of the study",
    "epoch_steps": "`epoch_steps` of the study",
    "validation": "`validation` of the study",
    "seed": "`seeds` of the study",
    "network": "`network` of the study or the arm",
    "data": "--data",
    "out": "--out",
}
_SHARED_BUILD = {
    "data": "--data",
    "simulate": "--data",
    "name": "the name of the arm",
    "seed": "`seeds` of the study",
    "noise.frames": "`noise` of the arm",
}


Strength = Annotated[float, Field(ge=0, le=100)]


class ChangedFile(StrictModel):
    """A configuration file and what is changed in it; the file's name alone will do."""

    config: Path
    set: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _file_alone(cls, given: Any) -> Any:
        return {"config": given} if isinstance(given, str | Path) else given


class ArmTraining(StrictModel):
    """How an arm is trained where it differs from the study's `train`."""

    config: Path | None = None
    set: dict[str, Any] = Field(default_factory=dict)


class LabelSettings(StrictModel):
    """Frames without labels that other arms' detectors label; see `detect.pseudo.Confidence`.

    Attributes
    ----------
    frames : str
        ``rest`` for the training images that are left over at a fraction below 1, or the name of
        one of the study's further sets, for its training images. Their labels are never read.
    by : tuple of str
        Arms above this one, and ``STUDY/ARM`` for those of one of `StudyConfig.runs`; their runs of
        the same fraction and seed label together.
    threshold, doubt, sure : float
    tta : {1, 4, 9}
        Over how many moves of a frame they average; see `detect.tta`.
    """

    frames: Name = REST
    by: Helpers
    threshold: Probability = 0.5
    doubt: Probability = 0.2
    sure: Probability = 0.8
    tta: Moves = 1

    @field_validator("by", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value


class TeachSettings(StrictModel):
    """Other arms' detectors whose answers are a part of the labels; see `detect.teachers`.

    Attributes
    ----------
    by : tuple of str
        Arms above this one, and ``STUDY/ARM`` for those of one of `StudyConfig.runs`; their runs of
        the same fraction and seed teach together.
    share : float
        Of their mean answer in the label of a pixel.
    tta : {1, 4, 9}
        Over how many moves of a window they average; see `detect.tta`.
    """

    by: Helpers
    share: Annotated[float, Field(gt=0, le=1)] = 0.5
    tta: Moves = 1

    @field_validator("by", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value


class ArmSettings(StrictModel):
    """One arm. Without `build` it is trained on the labelled images themselves.

    `noise` names those of the study's noise sources that its set is built with, all by default.
    `baseline` is the arm that it is compared with instead of the study's, one with its network say.
    With `label` it is trained on frames without labels too, and its set is built from both. With
    `teach` other arms' detectors look at every window with it.
    """

    label: LabelSettings | None = None
    teach: TeachSettings | None = None
    build: ChangedFile | None = None
    noise: tuple[str, ...] | None = None
    network: str | None = None
    baseline: str | None = None
    init: Path | None = None
    train: ArmTraining = ArmTraining()

    @model_validator(mode="before")
    @classmethod
    def _nothing_said(cls, given: Any) -> Any:
        return {} if given is None else given

    @field_validator("noise", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value


class JudgingSettings(StrictModel):
    """Images that finished runs are judged on.

    Attributes
    ----------
    split : {"val", "test"}
    against : str or None
        One of the study's further sets instead of its own.
    strengths : tuple of float
        How much noise of a sensor the images get, in multiples of it; 0 is none.
    noise : str or None
        Whose, by the name of one of the study's noise sources; of all of them by default.
    label : str or None
        Tells two such sources apart in the names of splits, as in ``test+unseen-far2``.
    tta : {1, 4, 9}
        Over how many moves of a frame detectors average; see `detect.tta`.
    """

    split: Literal["val", "test"] = "test"
    against: str | None = None
    strengths: Annotated[tuple[Annotated[float, Field(ge=0, le=100)], ...], Field(min_length=1)] = (
        0.0,
    )
    noise: str | None = None
    label: Name | None = None
    tta: Moves = 1

    @field_validator("strengths", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: object) -> object:
        single = isinstance(value, int | float) and not isinstance(value, bool)
        return (value,) if single else value

    @model_validator(mode="after")
    def _fits(self) -> JudgingSettings:
        if self.noise is not None and not any(self.strengths):
            raise ValueError("noise: goes with strengths above 0")
        if self.split == "val" and self.against is not None:
            raise ValueError("against: a further set is judged on its test split; take split out")
        return self


class StudyConfig(StrictModel):
    """A study: arms, seeds, fractions of the training split, and what all of them share."""

    name: Name
    data: Path | None = None
    noise: dict[Name, Path | None] = Field(default_factory=dict)
    against: dict[Name, Path | None] = Field(default_factory=dict)
    runs: dict[Name, Path | None] = Field(default_factory=dict)
    network: str | None = None
    steps: Count
    batch: Count = 16
    epoch_steps: Count
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.15
    weights: Literal["last", "best"] = "last"
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0, 1, 2)
    fractions: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1)] = (
        1.0,
    )
    baseline: str
    train: ChangedFile
    arms: Annotated[dict[Name, ArmSettings], Field(min_length=1)]
    tests: tuple[JudgingSettings, ...] = (JudgingSettings(),)

    @field_validator("seeds", "fractions", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: object) -> object:
        single = isinstance(value, int | float) and not isinstance(value, bool)
        return (value,) if single else value

    @model_validator(mode="after")
    def _fits(self) -> StudyConfig:
        if self.baseline not in self.arms:
            raise ValueError(f"baseline: {no_such('arm', self.baseline, self.arms)}")
        names = list(self.arms)
        for name, arm in self.arms.items():
            if arm.baseline is not None and arm.baseline not in self.arms:
                raise ValueError(f"arms.{name}.baseline: {no_such('arm', arm.baseline, self.arms)}")
        for place, (name, arm) in enumerate(self.arms.items()):
            for key, wanted in (("label", arm.label), ("teach", arm.teach)):
                for other in wanted.by if wanted else ():
                    study, apart, _ = other.partition("/")
                    if apart and study not in self.runs:
                        raise ValueError(
                            f"arms.{name}.{key}.by: {no_such('study in `runs`', study, self.runs)}"
                        )
                    if not apart and other not in names[:place]:
                        raise ValueError(
                            f"arms.{name}.{key}.by: {no_such('arm above', other, names[:place])}"
                        )
        for key in ("seeds", "fractions"):
            values = getattr(self, key)
            if len(set(values)) != len(values):
                raise ValueError(f"{key}: one of them is named twice")
        return self

    def baseline_of(self, arm: str) -> str:
        """Name of the arm that an arm is compared with."""
        return self.arms[arm].baseline or self.baseline


@dataclass(frozen=True)
class Evaluation:
    """One split that runs are judged on; see `JudgingSettings`."""

    split: Literal["val", "test"]
    against: str | None = None
    strength: float = 0.0
    noise: str | None = None
    camera: Camera | None = None
    label: str | None = None
    tta: Moves = 1

    @property
    def name(self) -> str:
        """Its name in tables: ``val``, ``test``, ``test@other``, ``test+seen2``, ``test+tta9``."""
        other = f"@{self.against}" if self.against else ""
        label = f"-{self.label}" if self.label else ""
        noise = f"+{self.camera}{label}{self.strength:g}" if self.strength else ""
        tta = f"+tta{self.tta}" if self.tta > 1 else ""
        return f"{self.split}{other}{noise}{tta}"


VALIDATION = Evaluation("val")
"""What every run is judged on, whether the study asks or not."""


@dataclass(frozen=True)
class Arm:
    """An arm with its files read.

    Attributes
    ----------
    name : str
    build : BuildConfig or None
        Its `data`, `seed`, and noise sources are for every run to fill in.
    noise : tuple of str or None
        Names of noise sources; None is all of them.
    train : TrainConfig
        Complete but for the seed.
    init : Path or None
    label : LabelSettings or None
    teach : TeachSettings or None
    """

    name: str
    build: BuildConfig | None
    noise: tuple[str, ...] | None
    train: TrainConfig
    init: Path | None
    label: LabelSettings | None = None
    teach: TeachSettings | None = None

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the study's arms whose detectors it is made with."""
        return tuple(name for name in self._helpers if "/" not in name)

    @property
    def elsewhere(self) -> tuple[str, ...]:
        """The same for arms of other studies, each ``STUDY/ARM``."""
        return tuple(name for name in self._helpers if "/" in name)

    @property
    def _helpers(self) -> tuple[str, ...]:
        return tuple(name for one in (self.label, self.teach) if one for name in one.by)

    @property
    def with_frames(self) -> bool:
        """Whether frames of noise sources go into its set."""
        return self.build is not None and self.build.takes_noise


def evaluations(tests: Iterable[JudgingSettings], arms: Iterable[Arm]) -> list[Evaluation]:
    """List every split that a study evaluates its runs on, the validation part first.

    Whether a test's noise is of a seen or an unseen camera follows from what the arms are built
    with, their helpers' sets included. Arms without noise have seen none of the cameras.

    Raises
    ------
    ConfigError
        A split is asked for twice, or noise is of a camera that one arm has seen and another one,
        built with other noise, has not: one table would mix both.
    """
    arms = list(arms)
    found = [VALIDATION]
    for test in tests:
        for strength in test.strengths:
            one = Evaluation(test.split, test.against, strength, tta=test.tta)
            if strength:
                camera = _camera_of(test.noise, arms)
                one = replace(one, noise=test.noise, camera=camera, label=test.label)
            if one == VALIDATION:
                continue
            if one.name in [other.name for other in found]:
                raise ConfigError(
                    f"tests: {one.name!r} is asked for twice; give one of them another `label`"
                )
            found.append(one)
    return found


def _camera_of(noise: str | None, arms: Iterable[Arm]) -> Camera:
    """Tell what a source's camera is to the arms; `noise` None is all sources."""
    # What every arm and its helpers are built with: None is all sources, "" noise of no source.
    given: dict[str, set[str | None]] = {}
    for arm in arms:
        own: set[str | None] = set()
        if arm.with_frames:
            own = {None} if arm.noise is None else {*arm.noise} or {""}
        elif arm.build is not None and any(
            isinstance(step, Physical) for step in arm.build.negatives.recipe.inner()
        ):
            own = {""}
        given[arm.name] = own.union(*(given[name] for name in arm.needs))
    seen = {name for name, names in given.items() if names & {noise, None}}
    others = {name for name, names in given.items() if names} - seen
    # All sources are those that some arms name, and perhaps more.
    some = noise is None and any(given[name] != {""} for name in others)
    if not seen and not some:
        return "unseen"
    if not others:
        return "seen"
    which = "of all sources" if noise is None else repr(noise)
    raise ConfigError(
        f"tests: noise {which} would mix a seen camera with an unseen one in one table: arms "
        f"{', '.join(sorted(others))} are not built with it, or not with all of it; name another "
        "source with `noise`, or test these arms in a study of their own"
    )


def read_study(path: Path, overrides: Iterable[str] = ()) -> tuple[StudyConfig, list[Arm]]:
    """Read a study and the files that it names, which are looked for from its own folder.

    Raises
    ------
    ConfigError
        A file is absent, a key or value is wrong, an arm has what all arms must share, or a test
        cannot be made of these arms; see `evaluations`.
    """
    study = load_config(path, StudyConfig, tuple(overrides))
    arms = [_read_arm(path, study, name) for name in study.arms]
    try:
        evaluations(study.tests, arms)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return study, arms


def _read_arm(path: Path, study: StudyConfig, name: str) -> Arm:
    settings, folder = study.arms[name], path.parent
    where = f"{path}: arms.{name}"
    _refuse_own(f"{path}: train.set", study.train.set, _SHARED_TRAINING)
    _refuse_own(f"{where}.train.set", settings.train.set, _SHARED_TRAINING)
    network = settings.network or study.network
    shared = {
        "steps": study.steps,
        "epochs": None,
        "batch": study.batch,
        "epoch_steps": study.epoch_steps,
        "validation": study.validation,
        "data": None,
        "out": None,
    } | ({"network": network} if network else {})
    build = None
    try:
        if settings.build is not None:
            _refuse_own(f"{where}.build.set", settings.build.set, _SHARED_BUILD)
            changes = settings.build.set | {"name": name, "data": Path(), "simulate": None}
            build = load_config(folder / settings.build.config, BuildConfig, changes=changes)
        file = settings.train.config or study.train.config
        own = study.train.set | settings.train.set
        train = load_config(folder / file, TrainConfig, changes=own | shared)
    except ConfigError as error:
        if str(error).startswith(f"{path}: "):
            raise
        raise ConfigError(f"{where}: {error}") from None
    if settings.noise is not None and (build is None or build.noise is None):
        raise ConfigError(f"{where}.noise: nothing is built with noise here; take it out")
    return Arm(
        name,
        build,
        settings.noise,
        _share_batch(where, train, build is not None or settings.label is not None),
        None if settings.init is None else folder / settings.init,
        settings.label,
        settings.teach,
    )


def _refuse_own(where: str, given: Mapping[str, Any], shared: Mapping[str, str]) -> None:
    flat = [*given]
    for key, value in given.items():
        flat += [f"{key}.{inner}" for inner in value] if isinstance(value, dict) else []
    for key in flat:
        if key in shared:
            raise ConfigError(f"{where}.{key}: is the same for every arm; set {shared[key]}")


def _share_batch(where: str, train: TrainConfig, built: bool) -> TrainConfig:
    """Make sure that a step sees as many images in this arm as in the others."""
    sampler = train.sampler
    if train.compute.devices != 1 or train.compute.strategy != "auto":
        raise ConfigError(f"{where}: compute.devices: a run of a study has one device; set 1")
    if not built and (sampler.name == "sources" or sampler.originals is not None):
        raise ConfigError(
            f"{where}: the sampler tells originals from what was made, and this arm has no build "
            "and no label; set sampler to images"
        )
    if sampler.name != "sources":
        return train
    each = 1 + (sampler.negatives or 0)
    if sampler.negatives is None or train.batch % each:
        raise ConfigError(
            f"{where}: sampler.negatives: a source and its negatives must fill a batch of "
            f"{train.batch} evenly; set 1, or another number that does"
        )
    return train.model_copy(update={"batch": train.batch // each})
