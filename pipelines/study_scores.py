"""What a finished run scores on a split, image by image, so that arms are compared in pairs."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detect.curve import THRESHOLDS
from detect.evaluate import Rules, judge
from pipelines.study_config import TEST_SEED, Evaluation
from pipelines.study_helpers import part_name
from synth.dataset import Dataset
from synth.disk.files import replace_file
from synth.disk.npz import read_npz
from synth.errors import NoiseError, StoreError
from synth.frames import Frame, Mask
from synth.noise.cameras import CameraNoise
from synth.noise.realisation import SEEDS
from synth.noise.residual import transfer_residual
from synth.seeds import generator

COLUMNS = ("intersection", "union", "matched", "targets", "false_pixels", "pixels")
"""What is kept of an image: target pixels in prediction and label, in either; label components that
are answered, and all; pixels of predicted components that answer none, and all."""

RATIOS = {"iou": (0, 1), "pd": (2, 3), "fa": (4, 5)}
"""Scores as ratios of sums of these columns; see `detect.metrics`."""

_RULES = Rules("strict", 0.5, THRESHOLDS)
_HALF = THRESHOLDS.index(0.5)


@dataclass(frozen=True)
class RunScores:
    """A run on one split.

    Attributes
    ----------
    ids : tuple of str
        The images.
    counts : (N, 6) ndarray of int64
        `COLUMNS`, at the threshold 0.5.
    curve : (T, 4) ndarray of int64
        Matched, targets, false pixels and pixels, summed over the images, at every threshold of
        `detect.curve.THRESHOLDS`.
    """

    ids: tuple[str, ...]
    counts: NDArray[np.int64]
    curve: NDArray[np.int64]

    def scores(self) -> dict[str, float | None]:
        """IoU, Pd and Fa as fractions; None where undefined."""
        total = self.counts.sum(0)
        return {
            name: float(total[top] / total[bottom]) if total[bottom] else None
            for name, (top, bottom) in RATIOS.items()
        }

    def save(self, path: Path) -> None:
        """Write a small ``.npz`` file, whole or not at all; the same bytes for the same scores.

        It has the ids as UTF-8 text, a line each, an array for every one of `COLUMNS`, and the
        curve (4, T), in the smallest unsigned integers that hold them.

        Raises
        ------
        StoreError
            It cannot be written, or an id has a line break.
        """
        if any(id_.splitlines() != [id_] for id_ in self.ids):
            raise StoreError(path, "an image's id has a line break, or is empty; rename the image")
        arrays: dict[str, Any] = {
            "ids": np.frombuffer("\n".join(self.ids).encode(), np.uint8),
            **{name: _smallest(self.counts[:, n]) for n, name in enumerate(COLUMNS)},
            "curve": _smallest(self.curve.T),
        }
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        replace_file(path, buffer.getvalue())


def load_scores(path: Path) -> RunScores:
    """Read what `RunScores.save` wrote; nothing in the file is executed (no pickle).

    Raises
    ------
    StoreError
        The file is damaged: an array is missing, of another length or kind, or the curve at the
        threshold 0.5 is not the sum over the images.
    """
    try:
        found = read_npz(path, "scores of a study")
        ids = tuple(found["ids"].astype(np.uint8, casting="no").tobytes().decode().splitlines())
        counts = np.stack([_whole(found[name]) for name in COLUMNS], axis=1)
        curve = _whole(found["curve"]).T
        if counts.shape != (len(ids), len(COLUMNS)) or curve.shape != (len(THRESHOLDS), 4):
            raise ValueError
        if (curve[_HALF] != counts.sum(axis=0)[2:]).any():
            raise ValueError
    except (NoiseError, ValueError, KeyError, TypeError):
        raise StoreError(
            path, "is damaged; remove it, and `detect study CONFIG --test` writes it again"
        ) from None
    return RunScores(ids, counts, np.ascontiguousarray(curve))


def archive_path(
    folder: Path, study: str, arm: str, fraction: float, seed: int, split: str
) -> Path:
    """Where a folder of results has the scores of a run on a split."""
    return folder / "scores" / study / arm / part_name(fraction, seed) / f"{split}.npz"


def _smallest(values: NDArray[np.int64]) -> NDArray[Any]:
    return np.ascontiguousarray(values, np.min_scalar_type(int(values.max(initial=0))))


def _whole(values: NDArray[Any]) -> NDArray[np.int64]:
    if values.dtype.kind != "u":
        raise TypeError("counts are unsigned integers")
    return values.astype(np.int64)


def score_run(
    detector: Callable[[Frame], NDArray[np.float32]],
    dataset: Dataset,
    ids: Iterable[str],
    noise: Callable[[str, Frame], Frame] | None = None,
) -> RunScores:
    """Judge a detector on some images, at the rules `strict` and the threshold 0.5.

    Parameters
    ----------
    detector : callable
        From a frame to probabilities.
    dataset : Dataset
    ids : iterable of str
    noise : callable, optional
        Changes a frame, given its id, before the detector sees it.
    """
    ids = tuple(ids)
    counts = np.zeros((len(ids), len(COLUMNS)), np.int64)
    curve = np.zeros((len(THRESHOLDS), 4), np.int64)
    for row, id_ in enumerate(ids):
        frame, truth = dataset.read_pair(id_)
        found, points = _measure(detector(noise(id_, frame) if noise else frame), truth)
        counts[row] = found
        curve += points
    return RunScores(ids, counts, curve)


def _measure(probability: NDArray[np.float32], truth: Mask) -> tuple[list[int], NDArray[np.int64]]:
    verdict = judge(probability, truth, _RULES)
    assert verdict.curve is not None
    one = verdict.tally
    union = one.found + one.truth - one.both
    points = [[t.matched, t.targets, t.false_pixels, t.pixels] for t in verdict.curve.tallies]
    counts = [one.both, union, one.matched, one.targets, one.false_pixels, one.pixels]
    return counts, np.array(points, np.int64)


def evaluation_noise(cameras: CameraNoise, one: Evaluation) -> Callable[[str, Frame], Frame]:
    """Make what puts a sensor's noise on frames.

    The same id of a set gets the same noise in every run, whatever the strength, and other ids and
    other cameras get noise of their own. No generator of a build has this seed and name.
    """
    names = ("evaluation noise", one.against or "", one.noise or "")

    def add(id_: str, frame: Frame) -> Frame:
        rng = generator(TEST_SEED, *names, id_)
        index, seed = int(rng.integers(len(cameras))), int(rng.integers(SEEDS))
        camera, number = cameras.generator(index)
        return transfer_residual(
            frame, camera, seed=seed, frame=number, strength=one.strength
        ).image

    return add
