"""Scores of runs image by image in a folder of results: small enough to be committed.

A file a run and split, ``scores/STUDY/ARM/fFRACTION-sSEED/SPLIT.npz``. From it every score, every
interval and Pd at a limit on Fa can be computed again, without images and without weights.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detect.curve import THRESHOLDS
from pipelines.errors import StoreError
from pipelines.store import replace_file
from pipelines.study_helpers import part_name
from pipelines.study_scores import COLUMNS, RunScores
from synth.errors import NoiseError
from synth.npz import read_npz

SCORES = "scores"

_HALF = THRESHOLDS.index(0.5)


def archive_path(
    folder: Path, study: str, arm: str, fraction: float, seed: int, split: str
) -> Path:
    """Where a folder of results has the scores of a run on a split."""
    return folder / SCORES / study / arm / part_name(fraction, seed) / f"{split}.npz"


def archive(scores: RunScores, path: Path) -> None:
    """Write an ``.npz`` file, whole or not at all; one with the same scores stays as it is.

    It has the ids as UTF-8 text, a line each, an array for every one of `COLUMNS`, and the curve
    (4, T), in the smallest unsigned integers that hold them.

    Raises
    ------
    StoreError
        It cannot be written, or an id has a line break.
    """
    if any(id_.splitlines() != [id_] for id_ in scores.ids):
        raise StoreError(path, "an image's id has a line break, or is empty; rename the image")
    if path.is_file():
        try:
            same = _equal(read_archive(path), scores)
        except StoreError:
            same = False
        if same:  # the zip format keeps times, which would be all that is new
            return
    arrays: dict[str, Any] = {
        "ids": np.frombuffer("\n".join(scores.ids).encode(), np.uint8),
        **{name: _smallest(scores.counts[:, n]) for n, name in enumerate(COLUMNS)},
        "curve": _smallest(scores.curve.T),
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    replace_file(path, buffer.getvalue())


def read_archive(path: Path) -> RunScores:
    """Read what `archive` wrote; nothing in the file is executed (no pickle).

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
            path,
            "is damaged; restore it, or write it again with `detect study CONFIG --results DIR`",
        ) from None
    return RunScores(ids, counts, np.ascontiguousarray(curve))


def _equal(one: RunScores, other: RunScores) -> bool:
    return (
        one.ids == other.ids
        and np.array_equal(one.counts, other.counts)
        and np.array_equal(one.curve, other.curve)
    )


def _smallest(values: NDArray[np.int64]) -> NDArray[Any]:
    return np.ascontiguousarray(values, np.min_scalar_type(int(values.max(initial=0))))


def _whole(values: NDArray[Any]) -> NDArray[np.int64]:
    if values.dtype.kind != "u":
        raise TypeError("counts are unsigned integers")
    return values.astype(np.int64)
