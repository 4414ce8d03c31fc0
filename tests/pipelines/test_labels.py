"""Masks with several labels, or without a target, through the commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from small_sets import Outcome, SmallSet

Command = Callable[..., Outcome]


@pytest.fixture
def classes(small_set: SmallSet) -> SmallSet:
    """A set whose masks hold two labels: a target of value 2, and something else of value 1."""
    for id_ in (*small_set.train, *small_set.test):
        mask = cv2.imread(str(small_set.mask(id_)), -1) // 255 * 2
        mask[40:44, :5] = 1
        cv2.imwrite(str(small_set.mask(id_)), mask)
    return small_set


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def build_config(folder: Path) -> str:
    return write(
        folder / "c.yaml", "negatives: {count: 3, steps: [turn: {side: 8}]}\nnoise: null\n"
    )


def train_config(folder: Path) -> str:
    return write(
        folder / "t.yaml",
        "{network: small, steps: 1, batch: 2, augment: {crop: 32}, validation: 0}",
    )


def test_several_labels_stop_every_command(
    classes: SmallSet, tmp_path: Path, synth: Command, detect: Command
) -> None:
    root = str(classes.root)
    out = str(tmp_path / "out")
    for done in (
        synth("check", root),
        synth("build", build_config(tmp_path), "--data", root, "--out", out),
        synth("export", root, "--format", "coco", "--out", out),
        detect("train", train_config(tmp_path), "--data", root, "--out", out),
        detect("baseline", "top-hat", root),
    ):
        assert done.status == 1
        assert "1 (6 masks, 001.png) and 2 (" in done.err, done.err
        assert "--label" in done.out + done.err
        assert not (tmp_path / "out").exists()


def test_a_repair_needs_to_know_the_label(
    classes: SmallSet, tmp_path: Path, synth: Command
) -> None:
    root, out = str(classes.root), tmp_path / "out"
    done = synth("check", root, "--fix", "--out", str(out))
    assert done.status == 1
    assert "--label VALUE" in done.err
    assert not out.exists()
    assert synth("check", root, "--fix", "--out", str(out), "--label", "2").status == 0
    for id_ in (*classes.train, *classes.test):
        before = cv2.imread(str(classes.mask(id_)), -1)
        after = cv2.imread(str(out / "masks" / f"{id_}.png"), -1)
        np.testing.assert_array_equal(after, np.where(before == 2, 255, 0))


def test_a_label_goes_from_the_command_into_the_set_and_its_recomputation(
    classes: SmallSet, tmp_path: Path, synth: Command
) -> None:
    root, out = str(classes.root), tmp_path / "out"
    config = build_config(tmp_path)
    done = synth("build", config, "--data", root, "--out", str(out), "--label", "2")
    assert done.status == 0, done.err
    assert json.loads((out / "dataset.json").read_text())["configuration"]["label"] == "2"
    for id_ in (*classes.train, *classes.test):
        before = cv2.imread(str(classes.mask(id_)), -1)
        after = cv2.imread(str(out / "masks" / f"{id_}.png"), -1)
        np.testing.assert_array_equal(after, np.where(before == 2, 255, 0))
    again = synth("verify", str(out), "--recompute", "--data", root)
    assert again.status == 0, again.err


def test_label_and_any_label_exclude_each_other(classes: SmallSet, synth: Command) -> None:
    assert synth("check", str(classes.root), "--label", "2", "--any-label").status == 2
    assert synth("check", str(classes.root), "--label", "red").status == 2


def test_a_detector_is_trained_and_scored_on_a_label(
    classes: SmallSet, tmp_path: Path, detect: Command
) -> None:
    root, run = str(classes.root), tmp_path / "run"
    config = train_config(tmp_path)
    done = detect("train", config, "--data", root, "--out", str(run), "--label", "2")
    assert done.status == 0, done.err
    masks = tmp_path / "masks"
    masks.mkdir()
    for id_ in classes.test:
        cv2.imwrite(str(masks / f"{id_}.png"), cv2.imread(str(classes.mask(id_)), -1))
    assert detect("score", str(masks), root, "--label", "2").status == 1
    done = detect("score", str(masks), root, "--label", "2", "--predicted", "2", "--json")
    assert json.loads(done.out)["iou"] == 1
    done = detect("score", str(masks), root, "--label", "2", "--predicted", "any", "--json")
    assert json.loads(done.out)["iou"] < 1


def clear_masks(made: SmallSet, kept: int) -> None:
    for id_ in made.train[kept:]:
        cv2.imwrite(str(made.mask(id_)), np.zeros((48, 64), np.uint8))


def test_training_images_without_any_target_are_an_error(
    small_set: SmallSet, tmp_path: Path, synth: Command, detect: Command
) -> None:
    clear_masks(small_set, 0)
    root, out = str(small_set.root), str(tmp_path / "out")
    for done in (
        synth("build", build_config(tmp_path), "--data", root, "--out", out),
        detect("train", train_config(tmp_path), "--data", root, "--out", out),
    ):
        assert done.status == 1
        assert f"{root}: none of its 4 training masks marks a target" in done.err
        assert not (tmp_path / "out").exists()
    assert "no target in training" in synth("check", root).err


def test_few_training_images_with_a_target_are_a_warning(
    make_set: Callable[..., SmallSet], tmp_path: Path, synth: Command, detect: Command
) -> None:
    made = make_set(train=6)
    clear_masks(made, 1)
    root, out = str(made.root), tmp_path / "out"
    for done in (
        synth("build", build_config(tmp_path), "--data", root, "--out", str(out / "a")),
        detect("train", train_config(tmp_path), "--data", root, "--out", str(out / "b")),
    ):
        assert done.status == 0, done.err
        assert "only 1 of 6 training images have a target" in done.err
    assert "few images with a target" in synth("check", root).out


def test_a_repaired_set_can_be_divided(small_set: SmallSet, tmp_path: Path, synth: Command) -> None:
    for file in small_set.root.glob("50_50/*.txt"):
        file.unlink()
    (small_set.root / "50_50").rmdir()
    fixed = str(tmp_path / "fixed")
    assert synth("check", str(small_set.root), "--fix", "--out", fixed).status == 0
    assert "no list of splits" in synth("check", fixed).out
    assert synth("split", fixed, "--test", "0.4", "--val", "0", "--group", "none").status == 0
    assert synth("verify", fixed).status == 0
    found = json.loads(synth("check", fixed, "--json").out)
    assert found["images"] == {"train": 4, "test": 2}
    assert "has lists already" in synth("split", fixed, "--test", "0.4").err


def test_a_set_with_negatives_is_not_divided(
    small_set: SmallSet, tmp_path: Path, synth: Command
) -> None:
    out = str(tmp_path / "out")
    synth("build", build_config(tmp_path), "--data", str(small_set.root), "--out", out)
    assert "is a built set" in synth("split", out, "--test", "0.4").err


def test_a_score_says_how_predictions_were_read(
    small_set: SmallSet, tmp_path: Path, detect: Command
) -> None:
    root = str(small_set.root)
    for name, make in (
        ("masks", lambda mask: mask // 255 * 38),
        ("inverted", lambda mask: 255 - mask),
        ("weak", lambda mask: np.where(mask, 60, np.arange(64, dtype=np.uint8) // 2)),
    ):
        (tmp_path / name).mkdir()
        for id_ in small_set.test:
            mask = cv2.imread(str(small_set.mask(id_)), -1)
            cv2.imwrite(str(tmp_path / name / f"{id_}.png"), make(mask).astype(np.uint8))
    done = detect("score", str(tmp_path / "masks"), root)
    assert "(masks, 38 is target)" in done.out
    assert not done.err
    done = detect("score", str(tmp_path / "inverted"), root)
    assert "inverted? then give --predicted 0" in done.err
    done = detect("score", str(tmp_path / "inverted"), root, "--predicted", "0", "--json")
    assert json.loads(done.out)["iou"] == 1
    done = detect("score", str(tmp_path / "weak"), root)
    assert "(probabilities)" in done.out
    assert "no probability is above the threshold of 0.5, the greatest is 0.235" in done.err
    done = detect("score", str(tmp_path / "weak"), root, "--threshold", "0.2", "--json")
    assert json.loads(done.out)["iou"] == 1


def test_jpeg_masks_of_another_value_are_no_set(
    small_set: SmallSet, tmp_path: Path, synth: Command
) -> None:
    for id_ in (*small_set.train, *small_set.test):
        mask = cv2.imread(str(small_set.mask(id_)), -1)
        small_set.mask(id_).unlink()
        cv2.imwrite(str(small_set.mask(id_).with_suffix(".jpg")), mask // 255 * 38)
    root, out = str(small_set.root), str(tmp_path / "out")
    for options in ([], ["--label", "38"], ["--any-label"]):
        done = synth("check", root, *options)
        assert done.status == 1
        assert "its masks are JPEG files" in done.out + done.err
        done = synth("check", root, "--fix", "--out", out, *options)
        assert done.status == 1
        assert "as PNG" in done.err
        assert not (tmp_path / "out").exists()
