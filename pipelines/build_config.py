"""The configuration of a build: what `synth build CONFIG` reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from pipelines.config import LabelText, StrictModel
from synth.blend import Blend
from synth.distractors import KINDS, Kind
from synth.noise.sampling import SamplingRule
from synth.recipe import NoiseMode, NoiseRule, Recipe
from synth.scenes import SCENE_KINDS

Ratio = Annotated[float, Field(ge=0, le=1)]
Side = Annotated[int, Field(ge=1, le=65536)]
FrameSide = Annotated[int, Field(ge=16, le=16384)]
Count = Annotated[int, Field(ge=0)]
Few = Annotated[int, Field(ge=0, le=1000)]
Positive = Annotated[int, Field(ge=1)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Sigma = Annotated[float, Field(ge=0, le=65535)]
Strength = Annotated[float, Field(ge=0, le=100)]
Zoom = Annotated[float, Field(ge=0.25, le=8)]
HostKind = Literal["training", "noise"]


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
    kinds: Annotated[tuple[str, ...], Field(min_length=1)] = SCENE_KINDS
    targets: tuple[Few, Few] = (1, 3)
    scr: tuple[Sigma, Sigma] = (2.0, 12.0)
    sensor: SensorSettings = SensorSettings()

    @field_validator("kinds")
    @classmethod
    def _known_kinds(cls, kinds: tuple[str, ...]) -> tuple[str, ...]:
        for kind in kinds:
            if kind not in SCENE_KINDS:
                raise ValueError(f"no scene is called {kind!r}; known are {', '.join(SCENE_KINDS)}")
        return kinds

    @model_validator(mode="after")
    def _ranges(self) -> SimulationSettings:
        if self.targets[0] > self.targets[1]:
            raise ValueError("targets: the least number is above the greatest")
        if not 0 < self.scr[0] <= self.scr[1]:
            raise ValueError("scr: must be two numbers above 0, the smaller one first")
        return self


class PhysicalSettings(StrictModel):
    """A camera's noise in numbers; see `synth.noise.model.make_physical_model`."""

    sigma: Sigma = 0.0
    netd: Annotated[float, Field(ge=0, le=100)] = 0.0
    responsivity: Annotated[float, Field(gt=0, le=65535)] = 1.0
    gain: Annotated[float, Field(ge=0, le=65535)] = 0.0
    column: Sigma = 0.0
    row: Sigma = 0.0
    drift: Sigma = 0.0
    dead: Ratio = 0.0
    blinking: Ratio = 0.0
    depth: Literal[8, 16] = 8


class NoiseSettings(StrictModel):
    """Where noise is sampled, by which rule, and how much of it an output gets."""

    sources: tuple[Path, ...] = ()
    banks: Literal["source", "folder"] = "source"
    sequence: bool = False
    rule: Literal["variance", "texture"] = "variance"
    patch: Side = 32
    stride: Positive | None = None
    max_var: NonNegative = 50.0
    min_mean: NonNegative = 0.0
    max_seq_var: NonNegative = 50.0
    max_seq_mean: NonNegative = 50.0
    limit: Positive | None = None
    bits: Annotated[int, Field(ge=1, le=16)] | None = None
    mode: NoiseMode = "mixup"
    source: Literal["spectrum", "patches"] | None = None
    ratio: Annotated[tuple[Ratio, ...], Field(min_length=1)] = (0.1,)
    strength: Annotated[tuple[Strength, ...], Field(min_length=1)] = (1.0,)
    share: Ratio = 1.0
    physical: PhysicalSettings | None = None
    gain: Annotated[float, Field(gt=0, le=65536)] | None = None

    @field_validator("sources", "ratio", "strength", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: object) -> object:
        single = isinstance(value, str | int | float | Path) and not isinstance(value, bool)
        return (value,) if single else value

    @model_validator(mode="after")
    def _of_the_mode(self) -> NoiseSettings:
        if self.mode == "physical" and self.sources:
            raise ValueError("sources: mode physical needs none; take mode residual, or no --noise")
        if (self.mode == "physical") != (self.physical is not None):
            raise ValueError("physical: numbers are for mode physical, and that needs them")
        if self.source == "patches" and self.mode != "residual":
            raise ValueError("source: patches are tiled in mode residual; set that, or take it out")
        if self.rule == "texture" and (self.sequence or self.patch < 16):
            raise ValueError("rule: texture is for single frames and a patch of 16 or more")
        return self

    def sampling_rule(self) -> SamplingRule:
        """The rule for `synth.noise.sampling`."""
        return SamplingRule(
            side=self.patch,
            stride=self.stride,
            max_var=self.max_var,
            min_mean=self.min_mean,
            max_seq_var=self.max_seq_var,
            max_seq_mean=self.max_seq_mean,
            limit=self.limit,
            bits=self.bits,
            rule=self.rule,
        )

    def noise_rule(self) -> NoiseRule:
        """The rule for `synth.recipe`."""
        amounts = self.ratio if self.mode == "mixup" else self.strength
        return NoiseRule(amounts, self.mode, self.share)


class NegativeSettings(StrictModel):
    """Which negatives are made from the training targets."""

    side: Side | Literal["auto"] = 32
    turns: Annotated[tuple[Annotated[int, Field(ge=0, le=3)], ...], Field(min_length=1)] = (
        0,
        1,
        2,
        3,
    )
    mirror: bool = False
    blend: Blend = "paste"
    keep_offset: bool = False
    moves: Ratio = 0.0
    angle: Annotated[float, Field(ge=0, le=180)] = 0.0
    any_angle: Ratio = 0.0
    scr: tuple[Strength, Strength] | None = None
    zoom: tuple[Zoom, Zoom] | None = None
    transplants: Ratio = 0.0
    hosts: Annotated[tuple[HostKind, ...], Field(min_length=1)] = ("training",)
    copies: tuple[Few, Few] = (0, 0)
    distractors: tuple[Few, Few] = (0, 0)
    distractor_kinds: Annotated[tuple[Kind, ...], Field(min_length=1)] = KINDS
    count: Count | None = None

    @field_validator("hosts", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("turns")
    @classmethod
    def _distinct(cls, turns: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(turns)) != len(turns):
            raise ValueError("a turn is named twice")
        return turns

    @model_validator(mode="after")
    def _ranges(self) -> NegativeSettings:
        if self.scr is not None and not 0 < self.scr[0] <= self.scr[1]:
            raise ValueError("scr: must be two numbers above 0, the smaller one first")
        if self.zoom is not None and self.zoom[0] > self.zoom[1]:
            raise ValueError("zoom: must be two numbers, the smaller one first")
        for key in ("copies", "distractors"):
            few, many = getattr(self, key)
            if few > many:
                raise ValueError(f"{key}: the least number is above the greatest")
        moved = self.moves or self.transplants or self.copies[1]
        if not moved and (self.scr is not None or self.zoom is not None or self.angle):
            raise ValueError(
                "scr, zoom, angle: are for targets that are moved; set moves, transplants or "
                "copies too"
            )
        return self

    def recipe(self, noise: NoiseRule | None) -> Recipe:
        """The recipe for `synth.recipe`."""
        return Recipe(
            side=self.side,
            turns=self.turns,
            mirror=self.mirror,
            count=self.count,
            noise=noise,
            blend=self.blend,
            keep_offset=self.keep_offset,
            moves=self.moves,
            angle=self.angle,
            any_angle=self.any_angle,
            scr=self.scr,
            zoom=self.zoom,
            transplants=self.transplants,
            copies=self.copies,
            distractors=self.distractors,
            distractor_kinds=self.distractor_kinds,
        )


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
        negatives = self.negatives
        frames = self.noise is not None and self.noise.mode != "physical"
        if negatives.transplants and "noise" in negatives.hosts and not frames:
            raise ValueError(
                "negatives.hosts: noise are the frames that noise is taken from, and there "
                "are none; take it out"
            )
        side = negatives.side
        if self.simulate is not None and side != "auto" and side > min(self.simulate.shape):
            raise ValueError(
                f"negatives.side: a box of {side} pixels is larger than the "
                f"simulated images of {self.simulate.shape[0]}x{self.simulate.shape[1]}"
            )
        return self
