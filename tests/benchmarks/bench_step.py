"""What a training step costs: data and augmentation beside the network, and the network itself."""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

# Before torch is loaded, as `detect` does it; workers bring their own.
if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import click
import numpy as np
import torch
from torch import Tensor

from detect.data import LabelledFrames, TrainingImages, read_labelled
from detect.lineage import Origin, read_origins
from detect.losses import make_loss
from detect.memory import keep_freed_memory
from detect.models import build_model
from detect.normalise import fit_normalisation
from detect.recipe import Recipe
from detect.sampler import make_stream
from pipelines.config import load_config
from pipelines.training import TrainConfig
from synth.dataset import open_dataset

SIDE = 256

# Changes that need interpolation, on half of the windows, and all that there are.
AUGMENTS: dict[str, dict[str, Any]] = {
    "as configured": {},
    "rotation too": {"rotation": 15.0},
    "every kind": {
        "scale": [0.8, 1.2],
        "shift": 0.1,
        "rotation": 45.0,
        "blur": 1.0,
        "border": 0.5,
        "gain": 0.3,
        "offset": 0.3,
        "noise": 0.1,
    },
}


@click.group()
def main() -> None:
    """Time training steps."""


@main.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), help="A data set; else random frames.")
@click.option("--runs", default=30, show_default=True)
@click.option("--threads", default=2, show_default=True)
def data(config: Path, data: Path | None, runs: int, threads: int) -> None:
    """Share of a training step of CONFIG's recipe that data and augmentation take."""
    _prepare(threads)
    base = load_config(config, TrainConfig).model_dump()
    frames, origins = _read(data) if data else (_random_frames(), {})
    for name, changes in AUGMENTS.items():
        settings = base | {"batch": 16, "augment": base["augment"] | {"crop": SIDE} | changes}
        recipe = TrainConfig.model_validate(settings).recipe()
        draw, step = _make_draw(recipe, frames, origins), _make_step(recipe)
        drawing, stepping = [], []
        for run in range(runs + 3):
            started = time.perf_counter()
            values, truth = draw(run)
            drawn = time.perf_counter()
            step(values, truth)
            if run >= 3:
                drawing.append(drawn - started)
                stepping.append(time.perf_counter() - drawn)
        took, total = statistics.median(drawing), statistics.median(stepping)
        click.echo(
            f"{recipe.network}, batch {recipe.batch} of {SIDE}x{SIDE}, {name}: data "
            f"{1e3 * took:.1f} ms, network {1e3 * total:.1f} ms; data is "
            f"{took / (took + total):.1%} of the step"
        )


@main.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--batch", default=4, show_default=True)
@click.option("--runs", default=9, show_default=True)
@click.option("--threads", default=2, show_default=True)
def network(config: Path, batch: int, runs: int, threads: int) -> None:
    """A step of CONFIG's network against the same in float32 and channels first, in turn.

    Twice: in a process that is left as torch comes, and in one that keeps freed memory and waits
    passively as `detect train` does, which leaves the difference that arithmetic and layout make.
    """
    configured = load_config(config, TrainConfig, ("in_channels=1",))
    plain = configured.model_copy(
        update={
            "compute": configured.compute.model_copy(
                update={"precision": "32-true", "channels_last": False}
            )
        }
    )
    values, truth = torch.randn(batch, 1, SIDE, SIDE), torch.rand(batch, 1, SIDE, SIDE) < 0.01
    names = ("plain", "plain, memory kept", "as configured")
    jobs = ((plain, False), (plain, True), (configured, True))
    seconds: dict[str, list[float]] = {name: [] for name in names}
    with ExitStack() as workers:
        ends = [
            workers.enter_context(_start_worker(job.recipe(), kept, threads, values, truth.float()))
            for job, kept in jobs
        ]
        for run in range(runs + 3):
            for name, end in zip(names, ends, strict=True):
                end.send(True)
                took = end.recv()
                if run >= 3:
                    seconds[name].append(took)
    ours = seconds["as configured"]
    click.echo(
        f"{configured.network}, batch {batch} of {SIDE}x{SIDE}, images/s: "
        + ", ".join(f"{name} {batch / statistics.median(seconds[name]):.2f}" for name in names)
    )
    for name in names[:-1]:
        ratios = [a / b for a, b in zip(seconds[name], ours, strict=True)]
        click.echo(
            f"as configured against {name}: {statistics.median(ratios):.2f} times as many "
            f"({min(ratios):.2f} to {max(ratios):.2f})"
        )


@contextmanager
def _start_worker(
    recipe: Recipe, kept: bool, threads: int, values: Tensor, truth: Tensor
) -> Iterator[Connection]:
    """A process of its own that makes a step and sends its seconds whenever it is asked."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    policy = os.environ.pop("OMP_WAIT_POLICY", None)
    if kept:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    arguments = (there, recipe, kept, threads, values.numpy(), truth.numpy())
    worker = context.Process(target=_work, args=arguments, daemon=True)
    worker.start()
    os.environ.pop("OMP_WAIT_POLICY", None)
    if policy is not None:
        os.environ["OMP_WAIT_POLICY"] = policy
    try:
        yield here
    finally:
        here.send(False)
        worker.join()


def _work(
    end: Connection, recipe: Recipe, kept: bool, threads: int, values: np.ndarray, truth: np.ndarray
) -> None:
    torch.set_num_threads(threads)
    if kept:
        keep_freed_memory()
    step = _make_step(recipe)
    while end.recv():
        started = time.perf_counter()
        step(torch.from_numpy(values), torch.from_numpy(truth))
        end.send(time.perf_counter() - started)


def _prepare(threads: int) -> None:
    torch.set_num_threads(threads)
    keep_freed_memory()


def _make_draw(
    recipe: Recipe, frames: LabelledFrames, origins: dict[str, Origin]
) -> Callable[[int], tuple[Tensor, Tensor]]:
    """The batch of a step, as `detect.train` draws it."""
    rule = fit_normalisation(recipe.normalisation, frames.frames, recipe.in_channels)
    images = TrainingImages(frames, rule, recipe.augment, recipe.seed, torch.device("cpu"))
    stream = make_stream(recipe.sampler, frames.ids, origins, recipe.batch, recipe.seed)

    def draw(step: int) -> tuple[Tensor, Tensor]:
        entries = stream.batch(step)
        return images.take(entries, images.choose_views(entries))

    return draw


def _make_step(recipe: Recipe) -> Callable[[Tensor, Tensor], None]:
    """A step as `detect.train` makes it, on the processor."""
    torch.manual_seed(0)
    last = recipe.compute.channels_last
    layout = torch.channels_last if last else torch.contiguous_format
    network = build_model(recipe.network, recipe.in_channels).to(memory_format=layout)
    optimiser = torch.optim.AdamW(network.parameters(), 1e-4)
    loss = make_loss(recipe.loss)
    mixed = recipe.compute.precision == "bf16-mixed"

    def step(values: Tensor, truth: Tensor) -> None:
        with torch.autocast("cpu", torch.bfloat16, mixed):
            outputs = network(values.to(memory_format=layout))
        loss([logits.float() for logits in outputs], truth).backward()
        optimiser.step()
        optimiser.zero_grad()

    return step


def _read(folder: Path) -> tuple[LabelledFrames, dict[str, Origin]]:
    dataset = open_dataset(folder)
    return read_labelled(dataset, dataset.ids("train")), read_origins(dataset)


def _random_frames() -> LabelledFrames:
    rng = np.random.default_rng(0)
    frames = list(rng.integers(0, 256, (600, SIDE, SIDE), np.uint8))
    masks = [np.zeros((SIDE, SIDE), bool) for _ in frames]
    for mask in masks:
        row, col = rng.integers(4, SIDE - 4, 2)
        mask[row : row + 3, col : col + 3] = True
    centres = [np.argwhere(mask).mean(0, keepdims=True) for mask in masks]
    return LabelledFrames(tuple(map(str, range(600))), frames, masks, centres)


if __name__ == "__main__":
    main()
