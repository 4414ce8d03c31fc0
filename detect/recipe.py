"""How a detector is trained, as plain records; `pipelines.training` reads them from YAML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from detect.normalise import Kind


@dataclass(frozen=True)
class Augment:
    """What happens to a training image before the network sees it.

    Attributes
    ----------
    crop : int
        Side of the training window in pixels.
    target_share : float
        Share of windows that are placed around a target, where the image has one.
    fill : {"mirror", "zero"}
        What lies beyond the border of an image that is smaller than the window.
    mirror : {"none", "horizontal", "both"}
        Axes along which half of the windows are mirrored.
    transpose : bool
        Swap rows and columns of half of the windows; with both mirrors these are all eight
        turns and mirror images of a square.
    scale : tuple of float
        Enlargement, drawn between these; (1, 1) leaves the pixels as they are.
    rotation : float
        Half of the windows are rotated about their centre by up to ± this, in degrees.
    blur : float
        Half of the windows are blurred by a Gaussian of σ up to this, in pixels.
    gain : float
        Contrast is multiplied by a factor between 1 / (1 + gain) and 1 + gain.
    offset : float
        Brightness is shifted by up to ± this, in units of normalised frames.
    noise : float
        White noise of σ up to this is added, in units of normalised frames.
    """

    crop: int
    target_share: float
    fill: Literal["mirror", "zero"]
    mirror: Literal["none", "horizontal", "both"]
    transpose: bool
    scale: tuple[float, float]
    rotation: float
    blur: float
    gain: float
    offset: float
    noise: float


@dataclass(frozen=True)
class Optimiser:
    """What turns gradients into weights; `lr` is the greatest rate of the schedule."""

    name: Literal["adamw", "adam", "adagrad"]
    lr: float
    weight_decay: float


@dataclass(frozen=True)
class Schedule:
    """The learning rate over the steps.

    Attributes
    ----------
    name : {"constant", "cosine", "onecycle"}
        ``cosine`` falls from the start; ``onecycle`` rises over `warmup` first. Both end at
        `min_lr` along half a cosine.
    warmup : float
        Share of the steps that ``onecycle`` rises over, from 1/25 of the rate.
    min_lr : float
        Rate at the end.
    """

    name: Literal["constant", "cosine", "onecycle"]
    warmup: float
    min_lr: float


@dataclass(frozen=True)
class Compute:
    """Where and how the arithmetic runs; see Lightning Fabric for the values.

    Attributes
    ----------
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``mps``.
    devices : int
        How many of them; a batch is shared out among them.
    strategy : {"auto", "ddp"}
        How they work together.
    precision : {"32-true", "bf16-mixed", "16-mixed"}
        Arithmetic of the forward pass; weights are kept in 32 bit.
    channels_last : bool
        Memory order of images, quicker for convolutions.
    """

    device: str
    devices: int
    strategy: Literal["auto", "ddp"]
    precision: Literal["32-true", "bf16-mixed", "16-mixed"]
    channels_last: bool


@dataclass(frozen=True)
class Recipe:
    """One training run.

    Attributes
    ----------
    seed : int
        Of the weights, the order of the images, the augmentation and the held-out part.
    network : str
        A name of `detect.models.model_names`.
    in_channels : int
        1, or 3 equal ones for networks that expect colour.
    normalisation : {"frame", "dataset", "imagenet"}
        See `detect.normalise`.
    loss : str
        A name of `detect.losses.LOSSES`.
    batch : int
        Images a step, over all devices.
    epochs, steps : int or None
        Length of the run: passes through the training images, or optimiser steps; one is None.
    epoch_steps : int or None
        Steps from one validation and checkpoint to the next; None is one pass.
    average : float
        Decay per step of the running average of the weights that is validated and saved; 0 is
        the weights themselves.
    validation : float
        Share of the training split that is held out to choose the epoch; 0 keeps the last.
    """

    seed: int
    network: str
    in_channels: int
    normalisation: Kind
    loss: str
    batch: int
    epochs: int | None
    steps: int | None
    epoch_steps: int | None
    average: float
    validation: float
    augment: Augment
    optimiser: Optimiser
    schedule: Schedule
    compute: Compute
