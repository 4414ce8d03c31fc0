"""How a detector is trained, as plain records; `pipelines.training` reads them from YAML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from detect.normalise import Kind

LossName = Literal["soft_iou", "soft_iou_bce", "soft_iou_hard_bce", "hard_bce"]


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
        What lies beyond the border of an image.
    mirror : {"none", "horizontal", "both"}
        Axes along which half of the windows are mirrored.
    transpose : bool
        Swap rows and columns of half of the windows; with both mirrors these are all eight
        turns and mirror images of a square.
    keep_offset : bool
        A mask that lies a fraction of a pixel beside its target lies on the same side of it in
        mirrored windows, see `detect.data.mirror_masks`: for sets whose masks have a habit.
    scale : tuple of float
        Enlargement, drawn between these; (1, 1) leaves the pixels as they are.
    shift : float
        Half of the windows are moved by up to ± this share of their side, which may take them
        beyond the image's border.
    rotation : float
        Half of the windows are rotated about their centre by up to ± this, in degrees.
    blur : float
        Half of the windows are blurred by a Gaussian of σ up to this, in pixels.
    border : float
        Share of windows whose borders are darkened as those of an image are that was filtered with
        zeros beyond it: to half in the outermost row and column at the top and left, less at the
        bottom and right, over one to four pixels. Borders of the image itself stay as they are.
    gain : float
        Contrast is multiplied by a factor between 1 / (1 + gain) and 1 + gain.
    offset : float
        Brightness is shifted by up to ± this, in units of normalised frames.
    noise : float
        White noise of σ up to this is added, in units of normalised frames.
    pick : int or None
        Of the kinds of change that are asked for (mirror, transpose, scale, shift, rotation,
        blur, gain, offset, noise), a window gets so many, drawn for it alone; None draws each
        kind by itself.
    """

    crop: int
    target_share: float
    fill: Literal["mirror", "zero"]
    mirror: Literal["none", "horizontal", "both"]
    transpose: bool
    keep_offset: bool
    scale: tuple[float, float]
    shift: float
    rotation: float
    blur: float
    border: float
    gain: float
    offset: float
    noise: float
    pick: int | None


@dataclass(frozen=True)
class Sampler:
    """Which images make a batch.

    Attributes
    ----------
    name : {"images", "sources"}
        ``images`` deals out the training images in an order of its own for every pass.
        ``sources`` does so with original images, and puts with each what was made from it.
    originals : float or None
        With ``images``: share of every batch that is dealt from the originals, the rest from what
        was made from them; None takes images as they come.
    negatives : int or None
        With ``sources``: at most so many of a source's negatives at a time, drawn afresh; None
        takes all of them.
    finish : float
        With ``originals``: share of the steps, the last ones, that see originals alone, so that
        the last word is with images that nobody changed.
    """

    name: Literal["images", "sources"]
    originals: float | None
    negatives: int | None
    finish: float = 0.0


@dataclass(frozen=True)
class Loss:
    """What is minimised; see `detect.losses`.

    Attributes
    ----------
    name : {"soft_iou", "soft_iou_bce", "soft_iou_hard_bce", "hard_bce"}
        A name of `detect.losses.LOSSES`.
    edge_weight : float
        With ``hard``: weight of the pixels on either side of a target's outline.
    hard_share : float
        With ``hard``: share of every image's pixels, those with the greatest losses, that count.
    over : {"batch", "sources"}
        ``batch`` is one loss over all pixels of the batch. ``sources`` is the sum of the losses of
        an image and its negatives, averaged over the sources (L_Neg of Lu et al., TGRS 2024).
    consistency : float
        Weight of the disagreement between a source and its negatives; see `detect.consistency`.
    """

    name: LossName
    edge_weight: float
    hard_share: float
    over: Literal["batch", "sources"]
    consistency: float


@dataclass(frozen=True)
class Optimiser:
    """What turns gradients into weights.

    Attributes
    ----------
    name : {"adamw", "adam", "adagrad"}
    lr : float
        The greatest rate of the schedule.
    weight_decay : float
    clip : float or None
        Greatest norm of a step's gradient; longer ones are scaled down to it.
    """

    name: Literal["adamw", "adam", "adagrad"]
    lr: float
    weight_decay: float
    clip: float | None


@dataclass(frozen=True)
class Schedule:
    """The learning rate over the steps.

    Attributes
    ----------
    name : {"constant", "cosine", "onecycle", "multistep"}
        ``cosine`` falls from the start; ``onecycle`` rises over `warmup` first. Both end at
        `min_lr` along half a cosine. ``multistep`` falls at once at every milestone.
    warmup : float
        Share of the steps that ``onecycle`` rises over, from 1/25 of the rate.
    min_lr : float
        Rate at the end of ``cosine`` and ``onecycle``.
    milestones : tuple of float
        Shares of the steps at which ``multistep`` multiplies the rate by `factor`.
    factor : float
    """

    name: Literal["constant", "cosine", "onecycle", "multistep"]
    warmup: float
    min_lr: float
    milestones: tuple[float, ...]
    factor: float


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
    precision : {"32-true", "bf16-mixed"}
        Arithmetic of the forward pass; weights are kept in 32 bit.
    channels_last : bool
        Memory order of images, quicker for convolutions.
    """

    device: str
    devices: int
    strategy: Literal["auto", "ddp"]
    precision: Literal["32-true", "bf16-mixed"]
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
    freeze_norms : bool
        Batch normalisation keeps the statistics that it starts with, and so does not look at the
        batch: for fine-tuning, and where every device would have statistics of its own.
    batch : int
        Images a step, over all devices; with the sampler ``sources``, sources a step.
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
    freeze_norms: bool
    batch: int
    epochs: int | None
    steps: int | None
    epoch_steps: int | None
    average: float
    validation: float
    augment: Augment
    sampler: Sampler
    loss: Loss
    optimiser: Optimiser
    schedule: Schedule
    compute: Compute
