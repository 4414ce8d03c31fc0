"""The configuration of a build: what `synth build CONFIG` reads."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    InstanceOf,
    PlainSerializer,
    model_validator,
)

from pipelines.config import LabelText, StrictModel, build_step
from synth.errors import no_such
from synth.noise.sampling import SamplingRule
from synth.recipe import Recipe
from synth.simulate.scenes import SCENE_KINDS
from synth.steps import Mixup, Step, Transplant, Turn, parse_step
from synth.steps.base import as_tuple

Ratio = Annotated[float, Field(ge=0, le=1)]
FrameSide = Annotated[int, Field(ge=16, le=16384)]
Count = Annotated[int, Field(ge=0)]
Few = Annotated[int, Field(ge=0, le=1000)]
Positive = Annotated[int, Field(ge=1)]
Sigma = Annotated[float, Field(ge=0, le=65535)]


def _known_kind(kind: str) -> str:
    if kind not in SCENE_KINDS:
        raise ValueError(no_such("scene", kind, SCENE_KINDS))
    return kind


SceneKind = Annotated[str, AfterValidator(_known_kind)]


class SensorSettings(StrictModel):
    """A simulated camera; σ in DN of 8-bit data, blur in pixels."""

    temporal_sigma: Sigma = 2.0
    column_sigma: Sigma = 1.0
    row_sigma: Sigma = 0.5
    dead_fraction: Ratio = 2e-4
    blur_sigma: Annotated[float, Field(ge=0, le=32)] = 0.8


class SimulationSettings(StrictModel):
    """A simulated data set: how many frames, of what, by which camera."""

    train: Positive
    test: Count
    noise_frames: Positive = 12
    shape: tuple[FrameSide, FrameSide] = (256, 256)
    bits: Annotated[int, Field(ge=8, le=16)] = 8
    kinds: Annotated[tuple[SceneKind, ...], Field(min_length=1)] = SCENE_KINDS
    targets: tuple[Few, Few] = (1, 3)
    scr: tuple[Sigma, Sigma] = (2.0, 12.0)
    sensor: SensorSettings = SensorSettings()

    @model_validator(mode="after")
    def _ranges(self) -> SimulationSettings:
        if self.targets[0] > self.targets[1]:
            raise ValueError("targets: the least number is above the greatest")
        if not 0 < self.scr[0] <= self.scr[1]:
            raise ValueError("scr: must be two numbers above 0, the smaller one first")
        return self


def _parse_sampling(given: Any) -> Any:
    return given if isinstance(given, SamplingRule) else build_step(SamplingRule, given)


Sampling = Annotated[
    InstanceOf[SamplingRule], BeforeValidator(_parse_sampling), PlainSerializer(asdict)
]


def _as_list(given: object) -> object:
    return (given,) if isinstance(given, str | Path) else given


class NoiseSettings(StrictModel):
    """Where noise is from; which noise of it an output gets is for the steps to say.

    Attributes
    ----------
    frames : tuple of Path
        Frames, folders of frames, noise banks and noise models. Without any, noise is that of the
        set's own training images.
    by : {"source", "folder"}
        Whether each of them, or each folder of frames, is a camera, and a bank, of its own.
    sequence : bool
        Whether the frames of a folder are one recording of a scene that does not move.
    sample : SamplingRule
        What is noise for `mixup`.
    draw : {"spectrum", "patches"} or None
        How `residual` makes noise: from the cameras' spectra, or from their patches. None takes a
        model's patches where it has some.
    """

    frames: Annotated[tuple[Path, ...], BeforeValidator(_as_list)] = ()
    by: Literal["source", "folder"] = "source"
    sequence: bool = False
    sample: Sampling = SamplingRule()
    draw: Literal["spectrum", "patches"] | None = None

    @model_validator(mode="after")
    def _single_frames(self) -> NoiseSettings:
        if self.sample.rule == "texture" and self.sequence:
            raise ValueError("sample.rule: texture is for single frames; take sequence out")
        return self


def _parse_steps(given: Any) -> Any:
    if not isinstance(given, list | tuple):
        raise ValueError("must be a list of steps, as `- turn: {side: 32}`")
    steps = []
    for number, one in enumerate(given, 1):
        try:
            step = one if isinstance(one, Step) else parse_step(one, build_step)
            for inner in step.inner():
                filled = [key for key in inner.needs if getattr(inner, key) is not None]
                if filled:
                    raise ValueError(f"{inner.name}.{filled[0]}: is for the build to fill in")
            steps.append(step)
        except ValueError as error:
            raise ValueError(f"step {number}: {error}") from None
    return tuple(steps)


Steps = Annotated[
    tuple[InstanceOf[Step], ...],
    BeforeValidator(_parse_steps),
    PlainSerializer(lambda steps: Recipe(steps).plain()),
]
"""Steps of a recipe, as a list of ``{name: settings}``; see `synth.steps`."""


class NegativeSettings(StrictModel):
    """Which negatives are made from the training images.

    A `count` of None is for each variant of the steps once, as each turn of every target.
    """

    count: Count | None = None
    steps: Steps = (Mixup(), Turn())

    @property
    def recipe(self) -> Recipe:
        """The recipe, without noise and hosts."""
        return Recipe(self.steps)


class BuildConfig(StrictModel):
    """A whole data set: real images (`data`) or simulated ones, noise, negatives."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    seed: Count = 0
    data: Path | None = None
    label: LabelText = None
    simulate: SimulationSettings | None = None
    noise: NoiseSettings | None = NoiseSettings()
    negatives: NegativeSettings = NegativeSettings()

    @model_validator(mode="after")
    def _one_source(self) -> BuildConfig:
        if self.data is None and self.simulate is None:
            raise ValueError("data: is missing; give the data set's folder (--data), or `simulate`")
        if self.data is not None and self.simulate is not None:
            raise ValueError("data and simulate exclude each other; keep one")
        if self.noise is None and self.takes_noise:
            raise ValueError("noise: is null, and a step needs some; take that step out")
        if self.noise is not None and self.noise.frames and not self.takes_noise:
            raise ValueError("noise.frames: no step uses noise; add mixup or residual")
        if self.negatives.count and not self.negatives.steps:
            raise ValueError("negatives.steps: has no step to make negatives by")
        rows, cols = self.simulate.shape if self.simulate is not None else (math.inf, math.inf)
        for step in self.negatives.recipe.inner():
            if isinstance(step, Turn) and step.side != "auto" and step.side > min(rows, cols):
                raise ValueError(
                    f"negatives.steps: turn: a box of {step.side} pixels is larger than the "
                    f"simulated images of {rows}x{cols}"
                )
        return self

    @property
    def hosts_from_noise(self) -> bool:
        """Whether targets are put into the frames that noise is from."""
        steps = self.negatives.recipe.inner()
        return any(isinstance(one, Transplant) and "noise" in as_tuple(one.hosts) for one in steps)

    @property
    def takes_noise(self) -> bool:
        """Whether a step uses the frames that noise is from."""
        recipe = self.negatives.recipe
        return recipe.needs("bank") or recipe.needs("cameras") or self.hosts_from_noise
