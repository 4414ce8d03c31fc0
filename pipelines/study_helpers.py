"""Runs whose detectors label frames or teach for a run of a study, its own or another study's.

A run of another study may help where it saw the same labelled images and was watched with the same
validation part: then it has seen no more of what judges than the study's own runs have.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detect.train import BEST, LAST
from pipelines.errors import ConfigError, StoreError
from pipelines.store import sha256
from pipelines.study_config import VALIDATION

RUNS, IDENTITY, SCORES, TRAINING = "runs", "run.json", "scores", "train"
"""A run is ``runs/ARM/fF-sS`` in its study's folder, and these are in it."""


@dataclass(frozen=True)
class Helper:
    """A run that labels frames for another one or teaches it.

    Attributes
    ----------
    name : str
        Its arm, as the configuration names it: ``ARM``, or ``STUDY/ARM``.
    identity : mapping
        Everything that decides its result.
    weights : Path
        The weights file that is judged.
    turn : int
        In which turn of the study it is made; -1 for what is there already.
    """

    name: str
    identity: Mapping[str, Any]
    weights: Path
    turn: int = -1


def describe(helpers: Iterable[Helper]) -> dict[str, str]:
    """A hash of each one's identity, for the identity of the run that they help."""
    return {
        one.name: sha256(json.dumps(dict(one.identity), sort_keys=True).encode()) for one in helpers
    }


def part_name(fraction: float, seed: int) -> str:
    """What folders are called that belong to a fraction and seed."""
    return f"f{fraction:g}-s{seed}"


def place_of(study: Path, arm: str, fraction: float, seed: int) -> Path:
    """Where a study keeps a run."""
    return study / RUNS / arm / part_name(fraction, seed)


def read_identity(path: Path) -> dict[str, Any]:
    """Read what decides a run's result.

    Raises
    ------
    StoreError
        The file cannot be read.
    """
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        raise StoreError(path, f"is damaged; remove {path.parent}") from None


def find_helper(name: str, study: Path, fraction: float, seed: int, images: str) -> Helper:
    """Find a finished run of another study.

    Parameters
    ----------
    name : str
        ``STUDY/ARM``.
    study : Path
        The other study's folder.
    fraction : float
    seed : int
    images : str
        See `pipelines.study_sets.Labelled.fingerprint`.

    Raises
    ------
    ConfigError
        There is no such run, it is not finished, or it saw other images.
    StoreError
        It is damaged.
    """
    place = place_of(study, name.partition("/")[2], fraction, seed)
    if not (place / SCORES / f"{VALIDATION.name}.npz").is_file():
        raise ConfigError(
            f"{place}: no finished run is there, and {name!r} is to help; run that study first, "
            "or give its folder with --runs"
        )
    identity = read_identity(place / IDENTITY)
    if identity.get("images") != images:
        raise ConfigError(
            f"{place}: is a run on other images than those of this study, and may have seen what "
            "judges here; give both the same set, `validation`, seeds and fractions"
        )
    weights = place / TRAINING / (BEST if identity.get("weights") == "best" else LAST)
    if not weights.is_file():
        raise ConfigError(f"{weights}: the run's weights are gone; run its study again")
    return Helper(name, identity, weights)
