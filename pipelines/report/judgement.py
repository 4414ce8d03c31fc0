"""What a training run has led to: its history, its scores, and where it fails worst.

All numbers of `detect report`, as JSON has them.
"""

from __future__ import annotations

import heapq
import json
import math
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from detect.curve import THRESHOLDS
from detect.data import hold_out, read_labelled
from detect.errors import DetectError
from detect.evaluate import Case, Rules, Verdict, judge, require_ids
from detect.lineage import read_origins
from detect.matching import Protocol, find_components, match
from detect.metrics import to_mask
from detect.models import count_cost, model_names
from detect.train import BEST, LAST
from detect.weightsfile import read_weights
from pipelines.report.pictures import FALSE, FOUND, MISSED, Crop, crop_window, take_crop
from synth.dataset import Dataset
from synth.disk.files import sha256
from synth.targets import Box, find_targets, label_targets, measure_signals

Split = Literal["held-out", "train", "val", "test", "all"]

_SHOWN = ("iou", "niou", "pd", "fa")

CASES = 12
"""At most so many misses, and so many false alarms, are kept to be shown."""


@dataclass(frozen=True)
class Run:
    """What lies in the folder of a training run.

    Attributes
    ----------
    root : Path
    recipe : mapping
        ``run.json``.
    history : list of mapping
        ``history.json``, one entry a validation; empty before the first.
    weights : Path or None
        Of the best epoch, or else the last ones; None while there are none.
    """

    root: Path
    recipe: Mapping[str, Any]
    history: list[Mapping[str, Any]]
    weights: Path | None


@dataclass(frozen=True, order=True)
class Failure:
    """A target that was missed, or a false alarm; the greater, the worse.

    Attributes
    ----------
    rank : tuple of float
        What it is ordered by.
    number : int
        Order of appearance, earlier ones greater.
    facts : dict
        ``id``, ``box``, ``area``, ``peak_probability`` and, of a miss, ``scr``.
    crop : Crop
    """

    rank: tuple[float, ...]
    number: int
    facts: dict[str, Any] = field(compare=False)
    crop: Crop = field(compare=False)


@dataclass(frozen=True)
class Judgement:
    """What became of judging a run's weights.

    Attributes
    ----------
    scores : dict
        Of `detect.evaluate.Verdict.report`.
    missed, false : list of Failure
        The worst first.
    """

    scores: dict[str, Any]
    missed: list[Failure]
    false: list[Failure]


def open_run(root: Path) -> Run:
    """Read the folder of a training run, which may still be under way.

    Raises
    ------
    DetectError
        The folder is none of a run, or a file in it is damaged.
    """
    if not root.is_dir():
        raise DetectError(f"{root}: is not a folder; give the folder of a training run")
    recipe = _read_json(root / "run.json", dict)
    if recipe is None:
        raise DetectError(f"{root}: has no run.json; give the folder that detect train wrote")
    history = _read_json(root / "history.json", list) or []
    if not all(isinstance(entry, dict) and _is_entry(entry) for entry in history):
        raise DetectError(f"{root / 'history.json'}: is damaged; train again")
    weights = next((root / name for name in (BEST, LAST) if (root / name).is_file()), None)
    return Run(root, recipe, history, weights)


def choose_images(run: Run, dataset: Dataset, split: Split) -> tuple[str, ...]:
    """Choose what a run is judged on.

    Parameters
    ----------
    run : Run
    dataset : Dataset
    split : {"held-out", "train", "val", "test", "all"}
        ``held-out`` is the part of the training split that the run held out to choose its epoch;
        that it is the same part is tested.

    Raises
    ------
    DetectError
        The run held nothing out, or the set is not the one that it was trained on; the split is
        empty.
    DatasetError
        There is no such split.
    """
    if split != "held-out":
        return require_ids(dataset, split)
    share, seed = run.recipe.get("validation"), run.recipe.get("seed")
    if not _is_number(share) or not isinstance(seed, int) or seed < 0:
        raise DetectError(f"{run.root / 'run.json'}: does not say what was held out; give --split")
    if not share:
        raise DetectError(
            f"{run.root}: the run held nothing out to be judged on; give --split val or test"
        )
    _, ids = hold_out(dataset, read_origins(dataset), float(share), seed)
    data = run.recipe.get("data")
    wanted = data.get("validation") if isinstance(data, dict) else None
    if read_labelled(dataset, ids).fingerprint() != wanted:
        raise DetectError(
            f"{dataset.root}: is not the set that {run.root} was trained on, so what was held out "
            "is not known; give that set, or --split"
        )
    return ids


def judge_cases(cases: Iterable[Case], protocol: Protocol, threshold: float) -> Judgement:
    """Judge predictions, and keep the worst failures.

    The worst misses are the targets that stand out the most (by SCR, then by area); the worst false
    alarms are the largest, which weigh the most in Fa, then the surest.

    Parameters
    ----------
    cases : iterable of Case
        At least one, with frames.
    protocol, threshold
        See `detect.metrics.measure`.
    """
    rules = Rules(protocol, threshold, THRESHOLDS, ("area", "scr"))
    total: Verdict | None = None
    missed: list[Failure] = []
    false: list[Failure] = []
    number = 0
    for case in cases:
        verdict = judge(case.prediction, case.truth, rules, case.frame)
        total = verdict if total is None else total + verdict
        number -= 1
        for kept, found in zip((missed, false), _failures(case, rules, number), strict=True):
            kept[:] = heapq.nlargest(CASES, [*kept, *found])
    assert total is not None
    return Judgement(total.report(rules), missed, false)


def describe_weights(path: Path) -> dict[str, Any]:
    """What a weights file says of itself, with its network's cost and its hash.

    Raises
    ------
    WeightsError
        It cannot be read.
    """
    weights = read_weights(path)
    channels = weights.normalisation.channels
    cost = count_cost(weights.network, channels) if weights.network in model_names() else None
    return {
        "file": path.name,
        "sha256": sha256(path.read_bytes()),
        "network": weights.network,
        "params": None if cost is None else cost.params,
        "macs": None if cost is None else cost.macs,
        "step": weights.card.get("step"),
        "normalisation": weights.normalisation.kind,
        "mean": list(weights.normalisation.mean),
        "std": list(weights.normalisation.std),
    }


def describe_machine(device: str) -> dict[str, Any]:
    """The machine that judges; a run does not record where it was trained."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "processors": os.cpu_count(),
        "memory_bytes": _memory(),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def best_entry(history: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The entry whose weights `detect.train` keeps as the best: the last with the greatest IoU."""
    best = None
    for entry in history:
        scores = entry.get("scores")
        if not scores:
            continue
        if best is None or (scores.get("iou") or 0.0) >= (best["scores"].get("iou") or 0.0):
            best = entry
    return best


def _failures(case: Case, rules: Rules, number: int) -> tuple[list[Failure], list[Failure]]:
    """The targets of one image that are missed, and its false alarms."""
    frame, truth = case.frame, case.truth
    assert frame is not None
    answer = to_mask(case.prediction, rules.threshold)
    probability = case.prediction.astype(np.float32)
    matched, answering = match(find_components(truth), find_components(answer), rules.protocol)
    targets, alarms = find_targets(truth), find_targets(answer)
    hit, right = set(matched.tolist()), set(answering.tolist())
    if len(hit) == len(targets) and len(right) == len(alarms):
        return [], []
    boxes: list[tuple[tuple[int, int, int], Box]] = [
        (FALSE, alarm.box) for alarm in alarms if alarm.index not in right
    ]
    boxes += [(FOUND if t.index in hit else MISSED, t.box) for t in targets]

    def failure(box: Box, rank: tuple[float, ...], facts: dict[str, Any]) -> Failure:
        window = crop_window(box, (frame.shape[0], frame.shape[1]))
        told = {"id": case.id, "box": list(box)} | facts
        return Failure(rank, number, told, take_crop(frame, truth, probability, window, boxes))

    missed, false = [], []
    if len(hit) < len(targets):
        signals = measure_signals(frame, truth)
        _, labels = label_targets(truth)
        for target, signal in zip(targets, signals, strict=True):
            if target.index not in hit:
                peak = float(probability[labels == target.index + 1].max())
                scr = signal.scr if math.isfinite(signal.scr) else None
                order = math.inf if math.isinf(signal.scr) else scr if scr is not None else -1.0
                facts = {"area": target.area, "peak_probability": peak, "scr": scr}
                missed.append(failure(target.box, (order, target.area), facts))
    worst = heapq.nlargest(
        CASES, (alarm for alarm in alarms if alarm.index not in right), key=lambda one: one.area
    )
    if worst:
        _, labels = label_targets(answer)
        for alarm in worst:
            peak = float(probability[labels == alarm.index + 1].max())
            facts = {"area": alarm.area, "peak_probability": peak}
            false.append(failure(alarm.box, (alarm.area, peak), facts))
    return missed, false


def _read_json(path: Path, kind: type) -> Any:
    """A JSON file of one kind of value; None where there is none."""
    try:
        value = json.loads(path.read_bytes(), parse_constant=_refuse)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError):
        raise DetectError(f"{path}: is damaged; train again") from None
    if not isinstance(value, kind):
        raise DetectError(f"{path}: is not what detect train writes; train again")
    return value


def _refuse(constant: str) -> None:
    """NaN and its like are no JSON, and no run writes them."""
    raise ValueError(constant)


def _is_entry(entry: Mapping[str, Any]) -> bool:
    """Whether an entry of a history has what is shown of it, each a number or nothing."""
    scores = entry.get("scores") or {}
    if not isinstance(scores, dict) or not isinstance(entry.get("step"), int):
        return False
    shown = [entry.get("loss"), entry.get("lr"), *(scores.get(name) for name in _SHOWN)]
    return all(value is None or _is_number(value) for value in shown)


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None
