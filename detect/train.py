"""Train a detector: from the first line of `train` to the last, everything that happens."""

from __future__ import annotations

import copy
import hashlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities.exceptions import MisconfigurationException
from lightning_fabric.utilities.rank_zero import rank_zero_only
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils.tensorboard import SummaryWriter

from detect.augment import Views
from detect.checkpoint import Learner, Progress, claim_run, load_state, save_state
from detect.consistency import consistency, find_turned_boxes
from detect.data import LabelledFrames, TrainingImages, hold_out, read_labelled
from detect.errors import DetectError, TrainingError, TrainingInterruptedError, WeightsError
from detect.evaluate import evaluate, report
from detect.graphs import record_graphs
from detect.lineage import Origin, read_origins
from detect.losses import make_loss
from detect.memory import keep_freed_memory
from detect.models import Network, build_model, share_tensors
from detect.models.small import Small
from detect.normalise import Normalisation, fit_normalisation
from detect.predict import Detector
from detect.recipe import Compute, Optimiser, Recipe
from detect.sampler import Entry, make_stream
from detect.schedule import learning_rate
from detect.seeds import Purpose, draw_generator
from detect.teachers import Teachers, Teaching
from detect.weightsfile import Weights, read_weights, write_weights
from synth.dataset import Dataset, require_targets
from synth.disk.files import write_json

_OPTIMISERS: dict[str, type[torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "adagrad": torch.optim.Adagrad,
}
_BOARD_SCORES = ("iou", "niou", "pd", "fa", "hiou")

_BOARD = "tensorboard"

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
    teaching: Teaching | None = None,
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
        A weights file to start from, with its normalisation; of the same network, or of one with
        the same tensors.
    watch : callable
        Iterates over the steps, and may show how far it is.
    log : callable
        Gets one line per validation, and one where `init` is of another network.
    teaching : Teaching, optional
        Detectors whose answers are a part of the labels.

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
        `init`, or a teacher, cannot be used.
    TrainingInterruptedError
        A signal came; a checkpoint of the last step is in `out`.
    """
    torch.manual_seed(recipe.seed)
    fabric = _make_fabric(recipe.compute)
    first = is_first_process()

    # The training split, less the part that chooses the epoch.
    origins = read_origins(dataset)
    training_ids, validation_ids = hold_out(dataset, origins, recipe.validation, recipe.seed)
    training = read_labelled(dataset, training_ids)
    marked = sum(len(centres) > 0 for centres in training.centres)
    note = require_targets(dataset.root, marked, len(training))
    for line in (*dataset.notes, *([note] if note else [])):
        log(f"note: {line}")
    validation = read_labelled(dataset, validation_ids)
    stream = make_stream(recipe.sampler, training.ids, origins, recipe.batch, recipe.seed)
    steps = recipe.steps or (recipe.epochs or 1) * stream.pass_steps
    epoch_steps = recipe.epoch_steps or stream.pass_steps

    normalisation, network = _make_network(recipe, training, init, log if first else None)
    objective = _Objective(recipe, training, origins)
    teachers = None
    if teaching is not None:
        crop = recipe.augment.crop
        teachers = Teachers(teaching, normalisation, training.frames, crop, recipe.compute)

    # The run directory is this run's alone; then the other processes of a distributed run start.
    identity = _identify(recipe, dataset, training, validation, init, teaching) if first else {}
    with claim_run(out, identity) if first else ExitStack() as exits:
        _launch(fabric, recipe.compute)
        if fabric.device.type == "cpu":
            keep_freed_memory()
        layout = torch.channels_last if recipe.compute.channels_last else torch.contiguous_format
        network = network.to(fabric.device, memory_format=layout)  # type: ignore[call-overload]
        averaged = copy.deepcopy(network) if recipe.average else network
        learner = Learner(network, averaged, _make_optimiser(recipe.optimiser, network))
        model, optimiser = fabric.setup(network, learner.optimiser)
        images = TrainingImages(training, normalisation, recipe.augment, recipe.seed, fabric.device)
        del training  # its pixels are in `images` now
        # Larger networks compute for longer than it takes to launch them, and were not tried.
        if isinstance(network, Small) and recipe.sampler.name == "images":
            _set_mode(network, recipe.freeze_norms)
            crop = recipe.augment.crop
            record_graphs(fabric, network, (recipe.batch, recipe.in_channels, crop, crop))
        detector = Detector(averaged, normalisation, str(fabric.device))
        if teachers is not None:
            teachers.to(fabric.device)

        # Go on from where the run is.
        progress = load_state(out, learner)
        _require_weights(out, progress, steps)
        if first and progress.step:
            log(f"resumed at step {progress.step} of {steps}")
        remaining = range(progress.step, steps)
        board = exits.enter_context(_open_board(out, progress.step, first and remaining))
        signals = exits.enter_context(_catch_signals())
        clock = _Clock()
        average = _Average(averaged, network, recipe.average)
        losses = _Losses(fabric.device)

        for step in watch(remaining) if first else remaining:
            rate = learning_rate(recipe.schedule, recipe.optimiser.lr, step, steps)
            _set_rate(learner.optimiser, rate)
            # What a layer draws follows from the step, so that a run that goes on draws the same.
            draws = draw_generator(Purpose.DROPOUT, recipe.seed, step, fabric.global_rank)
            torch.manual_seed(int(draws.integers(1 << 63)))

            # Every process takes its rows of the batch, and sees the answers to all of them.
            entries = stream.batch(step, steps)
            views = images.choose_views(entries, objective.compares)
            mine = _own_rows(fabric, len(entries))
            own = [entries[row] for row in mine]
            values, truth = images.take(own, views[mine])
            if teachers is not None:
                truth = teachers.teach(values, truth, [entry.image for entry in own])
            _set_mode(network, recipe.freeze_norms)
            outputs = model(values.to(memory_format=layout))
            outputs, truth = _gather(fabric, outputs, truth, len(entries))
            loss = objective(outputs, truth, entries, views)

            fabric.backward(loss * fabric.world_size)
            if recipe.optimiser.clip:
                limit = recipe.optimiser.clip
                fabric.clip_gradients(model, optimiser, max_norm=limit, error_if_nonfinite=False)
            optimiser.step()
            optimiser.zero_grad()
            average.follow(step)

            clock.images += len(entries)
            progress.step = step + 1
            ends = progress.step % epoch_steps == 0 or progress.step == steps
            stop = _any(fabric, signals)
            if losses.add(loss) or ends or stop:
                progress.loss_sum += losses.take()
            if not math.isfinite(progress.loss_sum):
                raise TrainingError(
                    f"{out}: the loss is not finite at step {step}; lower optimiser.lr"
                )

            if ends:
                entry: dict[str, Any] = {
                    "step": progress.step,
                    "loss": progress.loss_sum / (step % epoch_steps + 1),
                    "lr": rate,
                }
                progress.loss_sum = 0.0
                if first:
                    entry["scores"] = _validate(fabric, detector, validation)
                    card = {"recipe": asdict(recipe), "data": dataset.name}
                    card |= {key: entry[key] for key in ("step", "scores")}
                    card |= {key: identity[key] for key in ("teaching",) if key in identity}
                    weights = Weights(recipe.network, normalisation, averaged.state_dict(), card)
                    # The checkpoint comes last: whatever it says is on disk.
                    _keep(out, progress, entry, weights, progress.step == steps)
                    save_state(out, progress, learner)
                    _write_board(board, out, entry)
                    log(_line(entry, steps, clock.speed()))
                fabric.barrier()
                clock = _Clock()

            if stop:
                if first:
                    save_state(out, progress, learner)
                fabric.barrier()
                raise TrainingInterruptedError(
                    f"{out}: stopped at step {progress.step} of {steps}; run the same command "
                    "again to go on"
                )

    if not first:
        return None
    return Outcome(
        weights=out / (BEST if progress.best else LAST),
        steps=steps,
        training_images=len(training_ids),
        validation_images=len(validation_ids),
        scores=progress.best,
    )


def is_first_process() -> bool:
    """Whether this process writes and speaks; the others of a distributed run only compute."""
    return getattr(rank_zero_only, "rank", 0) == 0


def _make_fabric(compute: Compute) -> Fabric:
    accelerator, _, index = compute.device.partition(":")
    try:
        return Fabric(
            accelerator=accelerator,
            devices=[int(index)] if index else compute.devices,
            strategy=compute.strategy,
            precision=compute.precision,
        )
    except (ValueError, RuntimeError, MisconfigurationException) as error:
        raise _device_error(compute, error) from None


def _launch(fabric: Fabric, compute: Compute) -> None:
    """Start the other processes of a distributed run, and wait for them."""
    try:
        fabric.launch()
        fabric.barrier()
    except (ValueError, RuntimeError) as error:
        raise _device_error(compute, error) from None


def _device_error(compute: Compute, error: Exception) -> DetectError:
    # The first sentence; the rest is about arguments of Lightning's own.
    reason = str(error).splitlines()[0].split(". ")[0]
    return DetectError(f"device {compute.device!r} cannot be used ({reason}); try cpu")


def _make_network(
    recipe: Recipe,
    training: LabelledFrames,
    init: Path | None,
    log: Callable[[str], None] | None,
) -> tuple[Normalisation, Network]:
    """Make the network and the normalisation of its input, fresh or from weights."""
    if init:
        weights = _read_init(init, recipe)
        if weights.network != recipe.network and log:
            log(f"{recipe.network} starts from weights of {weights.network}: {init}")
        return weights.normalisation, replace(weights, network=recipe.network).build(init)
    return (
        fit_normalisation(recipe.normalisation, training.frames, recipe.in_channels),
        build_model(recipe.network, recipe.in_channels),
    )


def _identify(
    recipe: Recipe,
    dataset: Dataset,
    training: LabelledFrames,
    validation: LabelledFrames,
    init: Path | None,
    teaching: Teaching | None,
) -> dict[str, Any]:
    """List everything that decides the result of a run."""
    data = {
        "name": dataset.name,
        "training": training.fingerprint(),
        "validation": validation.fingerprint(),
    }
    start = hashlib.sha256(init.read_bytes()).hexdigest() if init else None
    identity = {**asdict(recipe), "data": data, "init": start}
    if teaching is not None:
        by = [hashlib.sha256(path.read_bytes()).hexdigest() for path in teaching.weights]
        identity["teaching"] = {"by": by, "share": teaching.share}
        if teaching.tta > 1:
            identity["teaching"]["tta"] = teaching.tta
    return identity


class _Objective:
    """What is minimised: the recipe's loss, and the consistency of negatives with their source."""

    def __init__(
        self, recipe: Recipe, training: LabelledFrames, origins: Mapping[str, Origin]
    ) -> None:
        self.compares = recipe.loss.consistency > 0
        self._weight = recipe.loss.consistency
        self._by_source = recipe.loss.over == "sources"
        self._loss = make_loss(recipe.loss)
        self._boxes = (
            find_turned_boxes(training.ids, training.masks, origins) if self.compares else {}
        )

    def __call__(
        self, outputs: Sequence[Tensor], truth: Tensor, entries: Sequence[Entry], views: Views
    ) -> Tensor:
        sources = entries[-1].group + 1 if self._by_source else None
        loss = self._loss(outputs, truth, sources)
        if self.compares:
            loss = loss + self._weight * consistency(outputs[-1], entries, views, self._boxes)
        return loss


def _own_rows(fabric: Fabric, count: int) -> list[int]:
    """Rows of the batch that this process computes; all have as many, so some come twice."""
    each = -(-count // fabric.world_size)
    return [(fabric.global_rank + turn * fabric.world_size) % count for turn in range(each)]


def _gather(
    fabric: Fabric, outputs: Sequence[Tensor], truth: Tensor, count: int
) -> tuple[list[Tensor], Tensor]:
    """Put the rows of all processes in the order of the batch.

    So every process computes the loss of the whole batch, but its gradient for its own rows alone.
    DDP then takes the mean over the processes, `world_size` times less than their sum.
    """
    if fabric.world_size == 1:
        return list(outputs), truth

    def whole(rows: Tensor) -> Tensor:
        rows = rows.float().contiguous()
        parts = [torch.empty_like(rows) for _ in range(fabric.world_size)]
        torch.distributed.all_gather(parts, rows.detach())
        parts[fabric.global_rank] = rows
        return torch.stack(parts, 1).flatten(0, 1)[:count]

    return [whole(logits) for logits in outputs], whole(truth)


def _any(fabric: Fabric, signals: Sequence[int]) -> bool:
    """Whether any process got a signal; all of them learn it in the same step."""
    if fabric.world_size == 1:
        return bool(signals)
    count = fabric.all_reduce(torch.tensor(float(len(signals))), reduce_op="sum")
    assert isinstance(count, Tensor)
    return bool(count > 0)


def _require_weights(out: Path, progress: Progress, steps: int) -> None:
    """Raise a `TrainingError` unless the weights that the run has written are there."""
    for name, written in ((BEST, progress.best), (LAST, progress.step == steps)):
        if written and not (out / name).is_file():
            raise TrainingError(f"{out / name}: is gone; remove {out} to train again")


def _set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate


def _set_mode(network: nn.Module, freeze_norms: bool) -> None:
    network.train()
    if freeze_norms:
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


def _validate(
    fabric: Fabric, detector: Detector, validation: LabelledFrames
) -> dict[str, Any] | None:
    """Judge on the held-out part, if there is one."""
    if not len(validation):
        return None
    pairs = zip(validation.frames, validation.masks, strict=True)
    with fabric.autocast():
        return report(evaluate(lambda frame: detector(frame) > 0.5, pairs), "strict", 0.5)


def _keep(
    out: Path, progress: Progress, entry: dict[str, Any], weights: Weights, last: bool
) -> None:
    """Write the history, and the weights where they are the best so far or the last."""
    progress.history.append(entry)
    scores = entry["scores"]
    if scores and (scores["iou"] or 0.0) >= (progress.best or {}).get("iou", 0.0):
        progress.best = {**scores, "iou": scores["iou"] or 0.0}
        write_weights(out / BEST, weights)
    if last:
        write_weights(out / LAST, weights)
    write_json(out / "history.json", progress.history)


class _Clock:
    """Images a second since it was started."""

    def __init__(self) -> None:
        self.images = 0
        self._start = time.perf_counter()

    def speed(self) -> float:
        return self.images / (time.perf_counter() - self._start)


def _read_init(path: Path, recipe: Recipe) -> Weights:
    """Read weights to start from, and check that they fit the recipe's network and input."""
    weights = read_weights(path)
    fits = share_tensors(weights.network, recipe.network)
    for key, theirs, ours in (
        ("network", recipe.network if fits else weights.network, recipe.network),
        ("in_channels", weights.normalisation.channels, recipe.in_channels),
        ("normalisation", weights.normalisation.kind, recipe.normalisation),
    ):
        if theirs != ours:
            raise WeightsError(
                path, f"has {key}={theirs} but the configuration {key}={ours}; set {key}={theirs}"
            )
    return weights


def _make_optimiser(optimiser: Optimiser, network: nn.Module) -> torch.optim.Optimizer:
    make = _OPTIMISERS[optimiser.name]
    on_card = next(network.parameters()).device.type == "cuda"
    # One kernel for all weights; on a processor as it was, bit for bit.
    fused: dict[str, Any] = {"fused": True} if on_card and make is not torch.optim.Adagrad else {}
    return make(network.parameters(), lr=optimiser.lr, weight_decay=optimiser.weight_decay, **fused)  # type: ignore[call-arg]


class _Losses:
    """Losses of steps whose sum nobody has asked for yet.

    To read a number from a graphics card is to wait for it, so there they are read many at once.
    """

    _MOST = 50

    def __init__(self, device: torch.device) -> None:
        self._most = 1 if device.type == "cpu" else self._MOST
        self._waiting: list[Tensor] = []

    def add(self, loss: Tensor) -> bool:
        """Add the loss of a step; return whether it is time to take them."""
        self._waiting.append(loss.detach())
        return len(self._waiting) >= self._most

    def take(self) -> float:
        """Their sum, in the order of the steps."""
        total = sum(torch.stack(self._waiting).tolist())
        self._waiting.clear()
        return float(total)


class _Average:
    """The running average of a network's weights; without a decay it is the network itself."""

    def __init__(self, averaged: nn.Module, network: nn.Module, decay: float) -> None:
        self._decay = decay
        pairs = list(
            zip(averaged.state_dict().values(), network.state_dict().values(), strict=True)
        )
        self._real = [pair for pair in pairs if pair[0].is_floating_point()]
        self._counts = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Move it towards the weights; early on it forgets faster."""
        if not self._decay:
            return
        decay = min(self._decay, (1 + step) / (10 + step))
        means, values = (list(side) for side in zip(*self._real, strict=True))
        get_ema_multi_avg_fn(decay)(means, values, None)
        for mean, value in self._counts:
            mean.copy_(value)


@contextmanager
def _catch_signals() -> Iterator[list[int]]:
    """Collect the first interrupt or termination, so that a step is never cut in two.

    The second one acts at once. What is ignored (in a background job) stays so.
    """
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: old for number, old in handlers.items() if old != signal.SIG_IGN}

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
    with _naming(out / _BOARD):
        board = SummaryWriter(str(out / _BOARD), purge_step=step)
    # Its thread hands an error on to the next call here, and would print a traceback besides.
    hook = threading.excepthook

    def tell(failed: threading.ExceptHookArgs) -> None:
        if not issubclass(failed.exc_type, OSError):
            hook(failed)

    threading.excepthook = tell
    try:
        yield board
    finally:
        # All that counts was flushed.
        with suppress(OSError):
            board.close()
        threading.excepthook = hook


def _write_board(board: SummaryWriter | None, out: Path, entry: dict[str, Any]) -> None:
    if board is None:
        return
    scalars = {"loss": entry["loss"], "lr": entry["lr"]}
    scalars |= {f"validation/{key}": (entry["scores"] or {}).get(key) for key in _BOARD_SCORES}
    with _naming(out / _BOARD):
        for name, value in scalars.items():
            if value is not None:
                board.add_scalar(name, value, entry["step"])
        board.flush()


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Give an error of a write, which does not know its file, the name of a path."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def _line(entry: dict[str, Any], steps: int, speed: float) -> str:
    parts = [f"step {entry['step']}/{steps}", f"loss {entry['loss']:.4f}"]
    if entry["scores"]:
        for name, key, unit in (("IoU", "iou", 1e-2), ("Pd", "pd", 1e-2), ("Fa", "fa", 1e-6)):
            value = entry["scores"][key]
            parts.append(f"{name} -" if value is None else f"{name} {value / unit:.2f}")
    return "  ".join([*parts, f"{speed:.1f} images/s"])
