"""Train a detector: from the first line of `train` to the last, everything that happens."""

from __future__ import annotations

import copy
import hashlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from detect.checkpoint import claim_run, load_state, save_state
from detect.data import affine_maps, draw_batch, hold_out, read_labelled
from detect.errors import DetectError, TrainingError, TrainingInterruptedError, WeightsError
from detect.evaluate import evaluate, report
from detect.files import write_json
from detect.losses import LOSSES
from detect.models import build_model
from detect.normalise import fit_normalisation
from detect.predict import Detector
from detect.recipe import Compute, Optimiser, Recipe
from detect.schedule import learning_rate
from detect.weightsfile import Weights, read_weights, write_weights
from synth.dataset import Dataset

_OPTIMISERS: dict[str, type[torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "adagrad": torch.optim.Adagrad,
}
_BOARD_SCORES = ("iou", "niou", "pd", "fa", "hiou")

BEST, LAST = "best.safetensors", "last.safetensors"
"""Weights of the best epoch on the held-out part, and of the last one."""


@dataclass(frozen=True)
class Outcome:
    """What a run has led to.

    Attributes
    ----------
    weights : Path
        The weights to use: of the best epoch on the held-out part, or the last ones where
        nothing was held out.
    steps : int
        Optimiser steps in all.
    training_images, validation_images : int
    scores : dict or None
        On the held-out part, at the best epoch.
    """

    weights: Path
    steps: int
    training_images: int
    validation_images: int
    scores: dict[str, Any] | None


def train(
    recipe: Recipe,
    dataset: Dataset,
    out: Path,
    init: Path | None = None,
    watch: Callable[[range], Iterable[int]] = iter,
    log: Callable[[str], None] = lambda line: None,
) -> Outcome | None:
    """Train a detector on the training split of a data set.

    The test split is never read. A run that was killed goes on from its last checkpoint when
    `train` is called again with the same arguments, and ends with the same weights, bit for bit.

    Parameters
    ----------
    recipe : Recipe
    dataset : Dataset
    out : Path
        The run directory: ``best.safetensors``, ``last.safetensors``, ``history.json``,
        ``run.json``, ``checkpoint.safetensors``, and TensorBoard's ``tensorboard/``.
    init : Path, optional
        A weights file of the same network to start from, with its normalisation.
    watch : callable
        Iterates over the steps, and may show how far it is.
    log : callable
        Gets one line per validation.

    Returns
    -------
    Outcome or None
        None in the processes of a distributed run that are not its first.

    Raises
    ------
    TrainingError
        The set is too small, `out` belongs to another run or is in use, or the loss became
        infinite.
    WeightsError
        `init` cannot be used.
    TrainingInterruptedError
        A signal came; a checkpoint of the last step is in `out`.
    """
    fabric = _start_fabric(recipe.compute)
    if recipe.batch % fabric.world_size:
        raise TrainingError(f"batch={recipe.batch} does not divide by {fabric.world_size} devices")
    torch.manual_seed(recipe.seed)

    # Data: the training split, less the part that chooses the epoch.
    training_ids, validation_ids = hold_out(dataset, recipe.validation, recipe.seed)
    training = read_labelled(dataset, training_ids)
    validation = read_labelled(dataset, validation_ids)
    epoch_steps = recipe.epoch_steps or max(1, len(training) // recipe.batch)
    steps = recipe.steps or (recipe.epochs or 1) * max(1, len(training) // recipe.batch)

    # Network, input, optimiser.
    if init:
        started = _read_init(init, recipe)
        normalisation, network = started.normalisation, started.build(init)
    else:
        normalisation = fit_normalisation(recipe.normalisation, training.frames, recipe.in_channels)
        network = build_model(recipe.network, recipe.in_channels)
    layout = torch.channels_last if recipe.compute.channels_last else torch.contiguous_format
    network = network.to(fabric.device, memory_format=layout)  # type: ignore[call-overload]
    averaged = copy.deepcopy(network) if recipe.average else network
    raw_optimiser = _build_optimiser(recipe.optimiser, network)
    model, optimiser = fabric.setup(network, raw_optimiser)
    detector = Detector(averaged, normalisation, str(fabric.device))
    maps = affine_maps(training, normalisation)
    loss_of = LOSSES[recipe.loss]

    # The run directory: enter it, and go on from where it is.
    first = fabric.is_global_zero
    if first:
        data = {"name": dataset.name, "training": training.fingerprint()}
        data["validation"] = validation.fingerprint()
        start = hashlib.sha256(init.read_bytes()).hexdigest() if init else None
        claim = claim_run(out, {**asdict(recipe), "data": data, "init": start})
    else:
        claim = ExitStack()
    fabric.barrier()
    progress = load_state(out, network, averaged, raw_optimiser)
    for name, wanted in ((BEST, progress.best), (LAST, progress.step == steps)):
        if wanted and not (out / name).is_file():
            raise TrainingError(f"{out / name}: is gone; remove {out} to train again")
    if first and progress.step:
        log(f"resumed at step {progress.step} of {steps}")
    remaining = range(progress.step, steps)
    clock, clock_step = time.perf_counter(), progress.step

    with (
        claim,
        _catch_signals() as signals,
        _open_board(out, progress.step, first and remaining) as board,
    ):
        for step in watch(remaining) if first else remaining:
            rate = learning_rate(recipe.schedule, recipe.optimiser.lr, step, steps)
            for group in raw_optimiser.param_groups:
                group["lr"] = rate
            positions = range(step * recipe.batch, (step + 1) * recipe.batch)
            mine = positions[fabric.global_rank :: fabric.world_size]
            values, truth = draw_batch(training, maps, recipe.augment, recipe.seed, mine)
            values, truth = fabric.to_device((values.to(memory_format=layout), truth))

            model.train()
            loss = loss_of(model(values), truth)
            fabric.backward(loss)
            optimiser.step()
            optimiser.zero_grad()
            if recipe.average:
                _follow(averaged, network, recipe.average, step)

            progress.step = step + 1
            progress.loss_sum += float(loss.detach())
            if not math.isfinite(progress.loss_sum):
                raise TrainingError(
                    f"{out}: the loss is not finite at step {step}; lower optimiser.lr"
                )

            whole = progress.step % epoch_steps == 0
            if first and (whole or progress.step == steps):
                # Validate, keep the best, write the checkpoint last: whatever it says is on disk.
                speed = (progress.step - clock_step) * recipe.batch / (time.perf_counter() - clock)
                scores: dict[str, Any] | None = None
                if len(validation):
                    with fabric.autocast():
                        tally = evaluate(
                            lambda frame: detector(frame) > 0.5,
                            zip(validation.frames, validation.masks, strict=True),
                        )
                    scores = report(tally, "strict", 0.5)
                entry = {
                    "step": progress.step,
                    "loss": progress.loss_sum / ((step % epoch_steps) + 1),
                    "lr": rate,
                    "scores": scores,
                }
                progress.history.append(entry)
                progress.loss_sum = 0.0
                card = {
                    "recipe": asdict(recipe),
                    "data": dataset.name,
                    "step": progress.step,
                    "scores": scores,
                }
                weights = Weights(recipe.network, normalisation, averaged.state_dict(), card)
                if scores and (scores["iou"] or 0.0) >= (progress.best or {}).get("iou", 0.0):
                    progress.best = {**scores, "iou": scores["iou"] or 0.0}
                    write_weights(out / BEST, weights)
                if progress.step == steps:
                    write_weights(out / LAST, weights)
                write_json(out / "history.json", progress.history)
                save_state(out, progress, network, averaged, raw_optimiser)
                _write_board(board, entry)
                log(_line(entry, steps, speed))
            if whole:
                fabric.barrier()
                clock, clock_step = time.perf_counter(), progress.step

            if signals:
                if first:
                    save_state(out, progress, network, averaged, raw_optimiser)
                raise TrainingInterruptedError(
                    f"{out}: stopped at step {progress.step} of {steps}; run the same command "
                    "again to go on"
                )

    if not first:
        return None
    return Outcome(
        weights=out / (BEST if progress.best else LAST),
        steps=steps,
        training_images=len(training),
        validation_images=len(validation),
        scores=progress.best,
    )


def _start_fabric(compute: Compute) -> Fabric:
    accelerator, _, index = compute.device.partition(":")
    try:
        fabric = Fabric(
            accelerator=accelerator,
            devices=[int(index)] if index else compute.devices,
            strategy=compute.strategy,
            precision=compute.precision,
        )
        fabric.launch()
    except (ValueError, RuntimeError) as error:
        # The first sentence; the rest is about arguments of Lightning's own.
        reason = str(error).splitlines()[0].split(". ")[0]
        raise DetectError(f"device {compute.device!r} cannot be used ({reason}); try cpu") from None
    return fabric


def _read_init(path: Path, recipe: Recipe) -> Weights:
    """Read weights to start from, and check that they are of the recipe's network and input."""
    weights = read_weights(path)
    for key, theirs, ours in (
        ("network", weights.network, recipe.network),
        ("in_channels", weights.normalisation.channels, recipe.in_channels),
        ("normalisation", weights.normalisation.kind, recipe.normalisation),
    ):
        if theirs != ours:
            raise WeightsError(
                path, f"has {key}={theirs} but the configuration {key}={ours}; set {key}={theirs}"
            )
    return weights


def _build_optimiser(optimiser: Optimiser, network: nn.Module) -> torch.optim.Optimizer:
    make = _OPTIMISERS[optimiser.name]
    return make(network.parameters(), lr=optimiser.lr, weight_decay=optimiser.weight_decay)  # type: ignore[call-arg]


@torch.no_grad()
def _follow(averaged: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Move the running average of the weights towards them; early on it forgets faster."""
    decay = min(decay, (1 + step) / (10 + step))
    for mean, value in zip(
        averaged.state_dict().values(), network.state_dict().values(), strict=True
    ):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)


@contextmanager
def _catch_signals() -> Iterator[list[int]]:
    """Collect the first interrupt or termination, so that a step is never cut in two.

    The second one acts at once.
    """
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def catch(number: int, frame: object) -> None:
        caught.append(number)
        restore()

    for number in before:
        signal.signal(number, catch)
    try:
        yield caught
    finally:
        restore()


@contextmanager
def _open_board(out: Path, step: int, wanted: object) -> Iterator[SummaryWriter | None]:
    if not wanted:
        yield None
        return
    board = SummaryWriter(str(out / "tensorboard"), purge_step=step)
    try:
        yield board
    finally:
        board.close()


def _write_board(board: SummaryWriter | None, entry: dict[str, Any]) -> None:
    if board is None:
        return
    scalars = {"loss": entry["loss"], "lr": entry["lr"]}
    scalars |= {f"validation/{key}": (entry["scores"] or {}).get(key) for key in _BOARD_SCORES}
    for name, value in scalars.items():
        if value is not None:
            board.add_scalar(name, value, entry["step"])
    board.flush()


def _line(entry: dict[str, Any], steps: int, speed: float) -> str:
    parts = [f"step {entry['step']}/{steps}", f"loss {entry['loss']:.4f}"]
    if entry["scores"]:
        for name, key, unit in (("IoU", "iou", 1e-2), ("Pd", "pd", 1e-2), ("Fa", "fa", 1e-6)):
            value = entry["scores"][key]
            parts.append(f"{name} -" if value is None else f"{name} {value / unit:.2f}")
    return "  ".join([*parts, f"{speed:.1f} images/s"])
