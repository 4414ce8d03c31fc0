"""A run directory: what it belongs to, and the whole state of a run that was stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from detect.errors import TrainingError, WeightsError
from detect.identity import flatten, shorten
from detect.tensors import read_tensors, write_tensors
from synth.disk.files import alone_in, write_json

_STATE = "checkpoint.safetensors"
_RUN = "run.json"


@dataclass
class Progress:
    """How far a run has come.

    Attributes
    ----------
    step : int
        Steps done.
    loss_sum : float
        Of the steps since the last validation.
    best : dict or None
        Scores on the held-out part, at the validation whose weights are the best so far.
    history : list of dict
        One entry a validation.
    """

    step: int = 0
    loss_sum: float = 0.0
    best: dict[str, Any] | None = None
    history: list[dict[str, Any]] = field(default_factory=list)


def claim_run(out: Path, identity: Mapping[str, Any]) -> ExitStack:
    """Make a run directory, or enter one that belongs to the same run.

    Parameters
    ----------
    out : Path
        The directory.
    identity : mapping
        Everything that decides the result, as JSON.

    Returns
    -------
    ExitStack
        The run is this process's until it is left.

    Raises
    ------
    TrainingError
        The directory belongs to another run (the message names the first difference), holds
        something else, or another process is training in it.
    """
    path = out / _RUN
    wanted = dict(flatten(json.loads(json.dumps(identity))))
    if not path.exists():
        if out.is_dir() and any(not child.name.startswith(".") for child in out.iterdir()):
            raise TrainingError(f"{out}: is not empty and is no run; choose another --out")
        out.mkdir(parents=True, exist_ok=True)
        with _lock(out) as lock:
            if not path.exists():
                write_json(path, identity)
                return lock.pop_all()
        # Another process has begun, and ended, since.
    try:
        present = dict(flatten(json.loads(path.read_text(encoding="utf-8"))))
    except (ValueError, AttributeError, RecursionError):
        raise TrainingError(f"{path}: is damaged; remove {out} or choose another --out") from None
    for key in [*wanted, *present]:
        if wanted.get(key) != present.get(key):
            raise TrainingError(
                f"{out}: belongs to a run with {key}={shorten(present.get(key))}, not "
                f"{shorten(wanted.get(key))}; choose another --out, or remove it"
            )
    return _lock(out)


def _lock(out: Path) -> ExitStack:
    """Keep other processes out until it is closed, and clear what a killed one left."""
    with ExitStack() as lock:
        try:
            lock.enter_context(alone_in(out))
        except BlockingIOError:
            raise TrainingError(f"{out}: another process is training here; wait for it") from None
        for rest in out.glob(".*.partial"):
            rest.unlink()
        return lock.pop_all()


@dataclass
class Learner:
    """What a step changes.

    Attributes
    ----------
    network : Module
    averaged : Module
        Holds the running average of the weights; the network itself where there is none.
    optimiser : Optimizer
    """

    network: nn.Module
    averaged: nn.Module
    optimiser: torch.optim.Optimizer


def save_state(out: Path, progress: Progress, learner: Learner) -> None:
    """Write everything that the next step depends on, whole or not at all."""
    tensors = {f"network.{name}": value for name, value in learner.network.state_dict().items()}
    if learner.averaged is not learner.network:
        averaged = learner.averaged.state_dict()
        tensors |= {f"averaged.{name}": value for name, value in averaged.items()}
    for index, state in learner.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": value for name, value in state.items()}
    write_tensors(out / _STATE, tensors, {"progress": vars(progress)})


def load_state(out: Path, learner: Learner) -> Progress:
    """Read what `save_state` wrote into the learner; a run without a checkpoint starts at 0.

    Raises
    ------
    WeightsError
        The checkpoint is damaged, or is not one of this run.
    """
    path = out / _STATE
    if not path.exists():
        return Progress()
    tensors, details = read_tensors(path)
    try:
        learner.network.load_state_dict(_under(tensors, "network."))
        if learner.averaged is not learner.network:
            learner.averaged.load_state_dict(_under(tensors, "averaged."))
        _load_optimiser(learner.optimiser, _under(tensors, "optimiser."))
        return Progress(**details["progress"])
    except (RuntimeError, KeyError, ValueError, IndexError, TypeError):
        raise WeightsError(
            path, "is not a checkpoint of this run; remove it to start again"
        ) from None


def _load_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, key = name.split(".", 1)
        like = parameters[int(index)]
        # In the parameter's memory order, as the optimiser itself would have made it.
        same = value.shape == like.shape
        value = torch.empty_like(like).copy_(value) if same else value
        state.setdefault(int(index), {})[key] = value
    fresh = optimiser.state_dict()
    optimiser.load_state_dict({"state": state, "param_groups": fresh["param_groups"]})


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
