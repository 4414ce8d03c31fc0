"""`detect label`: frames without labels join a labelled set."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from small_sets import SmallSet, write_small_set

import pipelines.label as label_module
from detect.data import hold_out
from detect.lineage import read_origins
from pipelines.cli.detect import main
from synth.dataset import open_dataset


class Bright:
    """A detector that is sure of what is bright, and doubts what is less so."""

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        return np.select([frame > 130, frame > 120], [0.95, 0.4], 0.01).astype(np.float32)


@pytest.fixture
def bright(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_module, "load_detector", lambda path, device, tta: Bright())


@pytest.fixture
def labelled(tmp_path: Path) -> SmallSet:
    return write_small_set(tmp_path / "set", 5, 2)


def write_frames(folder: Path, peaks: dict[str, int]) -> None:
    """Flat frames of 100 DN with one bright square each."""
    for name, peak in peaks.items():
        frame = np.full((40, 50), 100, np.uint8)
        frame[0, 0] = len(name)  # no two are alike
        frame[10:13, 20:24] = peak
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), frame)


def call(*arguments: object) -> Any:
    return CliRunner().invoke(main, ["label", *map(str, arguments)])


def test_sure_frames_join_the_training_images(
    bright: None, labelled: SmallSet, tmp_path: Path
) -> None:
    write_frames(tmp_path / "night", {"001": 200, "b/2": 210, "doubt": 125, "emptyy": 100})
    shutil.copy(labelled.image(labelled.test[0]), tmp_path / "night" / "known.png")
    out = tmp_path / "out"
    result = call(tmp_path / "night", "--with", labelled.root, "--out", out, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["labelled"], told["targets"]) == (3, 2)
    assert (told["doubtful"], told["known"]) == (["doubt"], ["known"])

    made = open_dataset(out)
    assert made.splits["test"] == tuple(labelled.test)
    assert len(made.splits["val"]) == 1
    assert set(made.splits["val"]) <= set(labelled.train)
    # The name 001 is that of an image of the set already.
    assert set(made.splits["train"]) - set(labelled.train) == {"001-2", "b-2", "emptyy"}
    frame, mask = made.read_pair("001-2")
    np.testing.assert_array_equal(mask, frame > 130)
    first = open_dataset(labelled.root)
    for id_ in labelled.train:
        np.testing.assert_array_equal(made.read_mask(id_), first.read_mask(id_))
    marks = {
        line["id"]: line.get("steps")
        for line in map(json.loads, (out / "manifest.jsonl").read_text().splitlines())
    }
    assert {id_ for id_, mark in marks.items() if mark} == {"001-2", "b-2", "emptyy"}


def test_only_labels_of_people_choose_the_epoch(
    bright: None, labelled: SmallSet, tmp_path: Path
) -> None:
    write_frames(tmp_path / "night", {"x" * n: 200 for n in range(1, 9)})
    out = tmp_path / "out"
    assert call(tmp_path / "night", "--with", labelled.root, "--out", out).exit_code == 0
    made = open_dataset(out)
    _, validation = hold_out(made, read_origins(made), 0.5, seed=3)
    assert set(validation) <= set(labelled.train)


def test_labels_of_a_labelled_set_are_not_read(
    bright: None, labelled: SmallSet, tmp_path: Path
) -> None:
    other = write_small_set(tmp_path / "other", 3, 2, prefix="o", seed=4)
    shutil.copytree(other.root, tmp_path / "wrong")
    for path in (tmp_path / "wrong" / "masks").iterdir():
        path.write_bytes(b"no mask")
    masks = []
    for source in (other.root, tmp_path / "wrong"):
        out = tmp_path / f"out-{source.name}"
        result = call(source, "--with", labelled.root, "--sure", 0, "--out", out)
        assert result.exit_code == 0, result.output
        made = open_dataset(out)
        masks.append({id_: made.read_mask(id_).tolist() for id_ in other.train})
        assert not set(other.test) & {id_ for ids in made.splits.values() for id_ in ids}
    assert masks[0] == masks[1]


def test_frames_alone_make_a_set(bright: None, tmp_path: Path) -> None:
    write_frames(tmp_path / "night", {"a": 200, "bb": 210})
    assert call(tmp_path / "night", "--out", tmp_path / "out").exit_code == 0
    assert open_dataset(tmp_path / "out").splits["train"] == ("a", "bb")


def test_the_detector_averages_over_moves_when_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = []

    def load(path: Path, device: str, tta: int) -> Bright:
        asked.append(tta)
        return Bright()

    monkeypatch.setattr(label_module, "load_detector", load)
    write_frames(tmp_path / "night", {"a": 200})
    for name, options in (("one", ()), ("nine", ("--tta", 9))):
        assert call(tmp_path / "night", "--out", tmp_path / name, *options).exit_code == 0
    assert asked == [1, 9]
    said = [(tmp_path / name / "dataset.json").read_text() for name in ("one", "nine")]
    assert '"tta": 9' in said[1]
    assert said[0] != said[1]


def test_a_second_run_finds_the_set_there(bright: None, tmp_path: Path) -> None:
    write_frames(tmp_path / "night", {"a": 200})
    for _ in range(2):
        assert call(tmp_path / "night", "--out", tmp_path / "out").exit_code == 0
    result = call(tmp_path / "night", "--out", tmp_path / "out", "--threshold", 0.6)
    assert result.exit_code == 1
    assert "threshold" in result.stderr


def test_colour_frames_become_grey(bright: None, tmp_path: Path) -> None:
    write_frames(tmp_path / "night", {"a": 200})
    frame = cv2.imread(str(tmp_path / "night" / "a.png"))
    assert frame.ndim == 3
    assert cv2.imwrite(str(tmp_path / "night" / "a.png"), frame)
    assert call(tmp_path / "night", "--out", tmp_path / "out").exit_code == 0
    assert open_dataset(tmp_path / "out").read_image("a").ndim == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (lambda root: [root / "night"], "none of 1 frames is left"),
        (lambda root: [root / "nowhere"], "nowhere"),
        (lambda root: [root / "night", root / "again"], "would be called doubt"),
    ],
)
def test_errors_say_what_to_do(
    arguments: Callable[[Path], list[Path]], words: str, bright: None, tmp_path: Path
) -> None:
    for folder in ("night", "again"):
        write_frames(tmp_path / folder, {"doubt": 125})
    result = call(*arguments(tmp_path), "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert words in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_set_is_not_written_among_the_frames(
    bright: None, labelled: SmallSet, tmp_path: Path
) -> None:
    write_frames(tmp_path / "night", {"a": 200})
    out = tmp_path / "night" / "out"
    result = call(tmp_path / "night", "--with", labelled.root, "--out", out)
    assert result.exit_code == 1
    assert "choose another --out" in result.stderr
    assert not out.exists()


def test_doubt_lies_below_the_threshold(tmp_path: Path) -> None:
    result = call(tmp_path, "--out", tmp_path / "out", "--doubt", 0.6)
    assert result.exit_code == 2
    assert "--doubt" in result.stderr


def test_the_shipped_detector_labels_simulated_targets(tmp_path: Path) -> None:
    """End to end: bright spots of three pixels on a smooth background."""
    rows, cols = np.mgrid[:96, :96]
    frame = 90 + 8 * np.sin(rows / 30) + np.random.default_rng(2).normal(0, 1.5, (96, 96))
    for row, col in ((30, 40), (70, 60)):
        frame += 110 * np.exp(-((rows - row) ** 2 + (cols - col) ** 2) / 3)
    (tmp_path / "night").mkdir()
    cv2.imwrite(str(tmp_path / "night" / "a.png"), frame.round().clip(0, 255).astype(np.uint8))
    result = call(tmp_path / "night", "--sure", 0, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    mask = open_dataset(tmp_path / "out").read_mask("a")
    assert mask[30, 40]
    assert mask[70, 60]
    assert mask.sum() < 80
