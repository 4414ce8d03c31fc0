"""The configuration of a training run: what `detect train CONFIG` reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from detect.recipe import Augment, Compute, Loss, LossName, Optimiser, Recipe, Sampler, Schedule
from pipelines.config import LabelText, StrictModel

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class AugmentSettings(StrictModel):
    """What happens to training images; see `detect.recipe.Augment`."""

    crop: Annotated[int, Field(ge=16, le=4096)] = 256
    target_share: Share = 0.5
    fill: Literal["mirror", "zero"] = "mirror"
    mirror: Literal["none", "horizontal", "both"] = "both"
    transpose: bool = True
    keep_offset: bool = False
    scale: tuple[Positive, Positive] = (1.0, 1.0)
    shift: Share = 0.0
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    blur: NonNegative = 0.0
    border: Share = 0.0
    gain: NonNegative = 0.0
    offset: NonNegative = 0.0
    noise: NonNegative = 0.0
    pick: Count | None = None

    @model_validator(mode="after")
    def _range(self) -> AugmentSettings:
        if self.scale[0] > self.scale[1]:
            raise ValueError("scale: the smaller number comes first")
        return self


class NamedSettings(StrictModel):
    """Settings of something that is chosen by name; the name alone will do."""

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, given: Any) -> Any:
        return {"name": given} if isinstance(given, str) else given


class SamplerSettings(NamedSettings):
    """Which images make a batch; see `detect.recipe.Sampler`."""

    name: Literal["images", "sources"] = "images"
    originals: Share | None = None
    negatives: Annotated[int, Field(ge=0)] | None = None
    finish: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @model_validator(mode="after")
    def _fits(self) -> SamplerSettings:
        if self.name == "sources" and self.originals is not None:
            raise ValueError("originals: every source comes with its negatives here; set negatives")
        if self.name == "images" and self.negatives is not None:
            raise ValueError("negatives: goes with name: sources")
        if self.finish and self.originals is None:
            raise ValueError("finish: ends a run on originals alone; set originals too")
        return self


class LossSettings(NamedSettings):
    """What is minimised; see `detect.recipe.Loss`."""

    name: LossName = "soft_iou_bce"
    edge_weight: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 4.0
    hard_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    over: Literal["batch", "sources"] = "batch"
    consistency: NonNegative = 0.0


class OptimiserSettings(NamedSettings):
    """What turns gradients into weights; see `detect.recipe.Optimiser`."""

    name: Literal["adamw", "adam", "adagrad"] = "adamw"
    lr: Positive = 3e-3
    weight_decay: NonNegative = 0.01
    clip: Positive | None = None


class ScheduleSettings(NamedSettings):
    """The learning rate over the steps; see `detect.recipe.Schedule`."""

    name: Literal["constant", "cosine", "onecycle", "multistep"] = "onecycle"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.2
    min_lr: NonNegative = 1e-6
    milestones: tuple[Share, ...] = (0.5, 0.75)
    factor: Annotated[float, Field(gt=0, le=1)] = 0.1


class ComputeSettings(StrictModel):
    """Where and how the arithmetic runs; see `detect.recipe.Compute`."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")] = "auto"
    devices: Count = 1
    strategy: Literal["auto", "ddp"] = "auto"
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    channels_last: bool = True

    def settle(self) -> Compute:
        """Make the plain record; ``auto`` becomes the arithmetic of this machine's device."""
        settings = self.model_dump()
        if self.precision == "auto":
            from detect.arithmetic import native_arithmetic  # loads torch

            settings["precision"] = native_arithmetic(self.device)
        return Compute(**settings)


class TrainConfig(StrictModel):
    """One training run: where the data are, where the run goes, and a `detect.recipe.Recipe`."""

    data: Path | None = None
    label: LabelText = None
    out: Path | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    network: str = "small"
    in_channels: Literal[1, 3] = 1
    normalisation: Literal["frame", "dataset", "imagenet"] = "frame"
    freeze_norms: bool = False
    batch: Count = 16
    epochs: Count | None = None
    steps: Count | None = None
    epoch_steps: Count | None = None
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.1
    augment: AugmentSettings = AugmentSettings()
    sampler: SamplerSettings = SamplerSettings()
    loss: LossSettings = LossSettings()
    optimiser: OptimiserSettings = OptimiserSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    compute: ComputeSettings = ComputeSettings()

    @field_validator("network")
    @classmethod
    def _known_network(cls, name: str) -> str:
        # Here, so that reading a configuration's type does not load torch.
        from detect.errors import ModelError
        from detect.models import require_known

        try:
            return require_known(name)
        except ModelError as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _one_length(self) -> TrainConfig:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give the length of the run as one of `epochs` and `steps`")
        return self

    @model_validator(mode="after")
    def _negatives_with_sources(self) -> TrainConfig:
        by_source = self.loss.over == "sources" or self.loss.consistency > 0
        if by_source and self.sampler.name != "sources":
            key = "consistency" if self.loss.consistency else "over"
            raise ValueError(f"loss.{key} needs negatives beside their source: set sampler=sources")
        return self

    def recipe(self) -> Recipe:
        """Make the plain record that `detect.train` works from."""
        settings = {name: getattr(self, name) for name in Recipe.__dataclass_fields__}
        return Recipe(
            **settings
            | {
                "augment": Augment(**self.augment.model_dump()),
                "sampler": Sampler(**self.sampler.model_dump()),
                "loss": Loss(**self.loss.model_dump()),
                "optimiser": Optimiser(**self.optimiser.model_dump()),
                "schedule": Schedule(**self.schedule.model_dump()),
                "compute": self.compute.settle(),
            }
        )
