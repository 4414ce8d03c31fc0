"""Scores image by image in a folder of results: small, exact, and refused when damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from detect.curve import THRESHOLDS
from pipelines.study_scores import RunScores, archive_path, load_scores
from synth.errors import StoreError


def make_scores(images: int, rng: np.random.Generator) -> RunScores:
    """About as much as a detector of NUDT-SIRST leaves: one target an image, few false pixels."""
    targets = rng.integers(1, 4, images)
    union = rng.integers(10, 90, images)
    counts = np.stack(
        [
            union - rng.integers(0, 10, images),
            union,
            targets - (rng.random(images) < 0.05),
            targets,
            np.where(rng.random(images) < 0.05, rng.integers(1, 40, images), 0),
            np.full(images, 256 * 256),
        ],
        axis=1,
    ).astype(np.int64)
    curve = np.repeat(counts.sum(0)[None, 2:], len(THRESHOLDS), axis=0)
    curve[:, 2] += np.arange(len(THRESHOLDS) // 2, -len(THRESHOLDS) // 2, -1) * (curve[:, 2] // 40)
    ids = sorted(rng.choice(2 * images, images, replace=False))
    return RunScores(tuple(f"{id_:06}" for id_ in ids), counts, curve)


def test_a_test_split_takes_a_few_kilobytes_and_comes_back_exactly(tmp_path: Path) -> None:
    scores = make_scores(664, np.random.default_rng(0))
    path = archive_path(tmp_path, "noise", "originals", 0.1, 0, "test+seen2")
    scores.save(path)
    assert path.stat().st_size < 8192
    back = load_scores(path)
    assert back.ids == scores.ids
    assert np.array_equal(back.counts, scores.counts)
    assert np.array_equal(back.curve, scores.curve)
    assert back.scores() == scores.scores()


def test_the_same_scores_are_the_same_bytes(tmp_path: Path) -> None:
    scores = make_scores(5, np.random.default_rng(0))
    for name in ("one.npz", "other.npz"):
        scores.save(tmp_path / name)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "other.npz").read_bytes()


@pytest.mark.parametrize("ids", [("ä", "b/ c", "雲"), ()])
def test_any_ids_come_back(tmp_path: Path, ids: tuple[str, ...]) -> None:
    scores = make_scores(len(ids), np.random.default_rng(0))
    RunScores(ids, scores.counts, scores.curve).save(tmp_path / "test.npz")
    assert load_scores(tmp_path / "test.npz").ids == ids


def test_an_id_with_a_line_break_is_refused(tmp_path: Path) -> None:
    scores = make_scores(1, np.random.default_rng(0))
    with pytest.raises(StoreError, match="line break"):
        RunScores(("a\nb",), scores.counts, scores.curve).save(tmp_path / "test.npz")


def rewrite(path: Path, **changes: object) -> None:
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    kept = {name: array for name, array in {**arrays, **changes}.items() if array is not None}
    np.savez_compressed(path, **kept)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"union": None},
        {"targets": np.zeros(4, np.uint8)},
        {"targets": np.zeros(5, np.uint8)},
        {"targets": np.zeros(5, np.float64)},
        {"curve": np.zeros((4, 3), np.uint8)},
        {"ids": np.frombuffer(b"a\nb", np.uint8)},
        {"ids": np.frombuffer(b"\xff\n1\n2\n3\n4", np.uint8)},
        {"ids": np.array([{}] * 5, object)},
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    path = tmp_path / "test.npz"
    make_scores(5, np.random.default_rng(0)).save(path)
    rewrite(path, **changes)
    with pytest.raises(StoreError, match="is damaged; remove it"):
        load_scores(path)


def test_half_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "test.npz"
    make_scores(5, np.random.default_rng(0)).save(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(StoreError, match="is damaged"):
        load_scores(path)
