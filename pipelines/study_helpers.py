"""Runs whose detectors label frames or teach for a run of a study, its own or another study's.

A run of another study may help where it had the same labelled images and the same validation
part, and learned from no image that judges here: every run keeps a list of the images that it
learned from, its helpers' among them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detect.train import BEST, LAST
from pipelines.errors import ConfigError
from pipelines.study_config import VALIDATION
from synth.disk.files import sha256, write_json
from synth.errors import StoreError

RUNS, IDENTITY, SEEN, SCORES, TRAINING = "runs", "run.json", "seen.json", "scores", "train"
"""A run is ``runs/ARM/fF-sS`` in its study's folder, and these are in it."""


@dataclass(frozen=True)
class Helper:
    """A run that labels frames for another one or teaches it.

    Attributes
    ----------
    name : str
        Its arm, as the configuration names it: ``ARM``, or ``STUDY/ARM``.
    identity : mapping or None
        Everything that decides its result; None where it is not known.
    weights : Path
        The weights file that is judged.
    seen : set of bytes or None
        Pixel hashes of the images that it learned from; None where it is not known.
    turn : int
        In which turn of the study it is made; -1 for what is there already.
    """

    name: str
    identity: Mapping[str, Any] | None
    weights: Path
    seen: Set[bytes] | None
    turn: int = -1


def describe(helpers: Iterable[Helper]) -> dict[str, str | None]:
    """A hash of each one's identity, for the identity of the run that they help; None if unknown.

    Like a run itself, a helper is what it was made from, not the bytes of its weights, which
    another device makes a little different.
    """
    return {
        one.name: None
        if one.identity is None
        else sha256(json.dumps(dict(one.identity), sort_keys=True).encode())
        for one in helpers
    }


def is_known(identity: Mapping[str, Any]) -> bool:
    """Whether all helpers in a run's identity are known."""
    return None not in [hash_ for by in _helpers_in(identity) for hash_ in by.values()]


def forget_unknown(identity: Mapping[str, Any], like: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out of an identity hashes of other studies' runs that are unknown in another one."""
    unknown = {
        name
        for by in _helpers_in(like)
        for name, hash_ in by.items()
        if hash_ is None and "/" in name
    }
    found = dict(identity)
    for key in ("label", "teach"):
        if isinstance(found.get(key), dict):
            by = {n: None if n in unknown else hash_ for n, hash_ in found[key]["by"].items()}
            found[key] = {**found[key], "by": by}
    return found


def _helpers_in(identity: Mapping[str, Any]) -> list[Mapping[str, str | None]]:
    return [identity[key]["by"] for key in ("label", "teach") if key in identity]


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


def write_seen(place: Path, seen: Set[bytes] | None) -> None:
    """Keep which images a run learned from, if it is known and its folder does not say so."""
    if seen is not None and not (place / SEEN).exists():
        write_json(place / SEEN, sorted(pixels.hex() for pixels in seen))


def _read_seen(place: Path) -> set[bytes]:
    path = place / SEEN
    if not path.is_file():
        raise ConfigError(
            f"{place}: does not say which images it learned from; give the command of its study "
            "again, which trains nothing anew"
        )
    try:
        return {bytes.fromhex(pixels) for pixels in json.loads(path.read_text(encoding="utf-8"))}
    except (OSError, ValueError, TypeError, RecursionError):
        raise StoreError(
            path, "is damaged; remove it, and give its study's command again"
        ) from None


def find_helper(
    name: str,
    study: Path,
    fraction: float,
    seed: int,
    images: str,
    judging: Mapping[bytes, str],
) -> Helper:
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
    judging : mapping of bytes to str
        Pixel hashes of all images that judge here, and what they are called.

    Raises
    ------
    ConfigError
        There is no such run, it is not finished, it had other labelled images, or it learned from
        one that judges.
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
    seen = _read_seen(place)
    for pixels in seen & judging.keys():
        raise ConfigError(
            f"{place}: learned from an image that judges here ({judging[pixels]}); {name!r} cannot "
            "help"
        )
    weights = place / TRAINING / (BEST if identity.get("weights") == "best" else LAST)
    if not weights.is_file():
        raise ConfigError(f"{weights}: the run's weights are gone; run its study again")
    return Helper(name, identity, weights, seen)
