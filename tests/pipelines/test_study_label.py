"""Arms of a study that learn from other arms: their labels of frames, or their answers."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from small_sets import Outcome, write_small_set

from detect.weightsfile import read_weights
from pipelines.cli.detect import main
from pipelines.errors import ConfigError
from pipelines.study import Study, prepare
from pipelines.study_config import read_study
from synth.dataset import open_dataset

STUDY: dict[str, Any] = {
    "name": "tiny",
    "network": "small",
    "steps": 2,
    "batch": 4,
    "epoch_steps": 2,
    "validation": 0.25,
    "seeds": 0,
    "fractions": 0.4,
    "baseline": "originals",
    "against": {"other": None},
    "train": "train.yaml",
    "arms": {
        "originals": None,
        "labelled": {
            "label": {"by": "originals", "sure": 0},
            "build": {"config": "build.yaml", "set": {"noise": None}},
        },
        "twice": {
            "label": {"by": ["originals", "labelled"], "sure": 0},
            "train": {"set": {"sampler.originals": 0.5}},
        },
        "camera": {"label": {"frames": "other", "by": "originals", "sure": 0}},
        "taught": {
            "teach": {"by": ["originals", "labelled"], "share": 0.6},
            "build": {"config": "build.yaml", "set": {"noise": None}},
        },
    },
    "tests": [{"split": "test"}, {"split": "val", "tta": 9}],
}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("study")
    write_small_set(root / "set", 12, 2, shapes=[(32, 48)])
    write_small_set(root / "other", 3, 2, shapes=[(48, 32)], prefix="o", seed=1)
    (root / "study.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False))
    (root / "train.yaml").write_text(
        "steps: 100\ncompute: {device: cpu, precision: 32-true}\naugment: {crop: 32}\n"
    )
    (root / "build.yaml").write_text("name: b\nnegatives: {side: 9}\n")
    return root


def run(folder: Path, out: Path, *arguments: object, data: Path | None = None) -> Outcome:
    given = ["study", folder / "study.yaml", "--data", data or folder / "set", "--out", out]
    result = CliRunner().invoke(main, [*map(str, given), *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Outcome(result.exit_code, result.stdout, result.stderr)


def ready(folder: Path, *overrides: str, **keywords: Any) -> Study:
    config, arms = read_study(folder / "study.yaml", overrides)
    against = {"other": folder / "other"}
    return prepare(
        config, arms, folder / "ready", data=folder / "set", against=against, jobs=1, **keywords
    )


def identities(folder: Path, *overrides: str) -> dict[str, Any]:
    return {run.arm.name: dict(run.identity) for run in ready(folder, *overrides).runs}


@pytest.fixture(scope="module")
def done(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("done") / "out"
    outcome = run(folder, out, "--against", f"other={folder / 'other'}", "--keep-sets")
    assert outcome.status == 0, outcome.err
    return out


def test_frames_that_are_labelled_are_none_that_judge(folder: Path, done: Path) -> None:
    made = open_dataset(done / "runs" / "twice" / "f0.4-s0" / "labelled")
    base = open_dataset(done / "sets" / "f0.4-s0")
    added = set(made.splits["train"]) - set(base.splits["train"])
    whole = open_dataset(folder / "set")
    assert added == set(whole.splits["train"]) - set(base.splits["train"]) - set(base.splits["val"])
    assert made.splits["val"] == base.splits["val"]
    assert made.splits["test"] == base.splits["test"]


def test_teachers_label_not_people(folder: Path, done: Path) -> None:
    made = open_dataset(done / "runs" / "twice" / "f0.4-s0" / "labelled")
    whole = open_dataset(folder / "set")
    base = open_dataset(done / "sets" / "f0.4-s0")
    added = sorted(set(made.splits["train"]) - set(base.splits["train"]))
    # Two steps of training do not make the labels that people made.
    assert any((made.read_mask(id_) != whole.read_mask(id_)).any() for id_ in added)
    for id_ in base.splits["train"]:
        assert (made.read_mask(id_) == whole.read_mask(id_)).all()


def test_labels_outside_of_the_fraction_are_never_read(
    folder: Path, done: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder / "set", tmp_path / "set")
    base = open_dataset(done / "sets" / "f0.4-s0")
    rest = set(open_dataset(folder / "set").splits["train"])
    rest -= set(base.splits["train"]) | set(base.splits["val"])
    for id_ in rest:
        (tmp_path / "set" / "masks" / f"{id_}.png").write_bytes(b"no mask")
    out = tmp_path / "out"
    outcome = run(folder, out, "--only", "twice", data=tmp_path / "set")
    assert outcome.status == 0, outcome.err
    name = "runs/twice/f0.4-s0/train/last.safetensors"
    ours, theirs = (read_weights(place / name).tensors for place in (out, done))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_another_cameras_training_images_are_labelled(folder: Path, done: Path) -> None:
    made = open_dataset(done / "runs" / "camera" / "f0.4-s0" / "labelled")
    other = open_dataset(folder / "other")
    assert set(other.splits["train"]) <= set(made.splits["train"])
    assert not set(other.splits["test"]) & set(made.splits["train"])


def test_teachers_come_first_and_without_being_asked_for(folder: Path) -> None:
    from pipelines.study import Choice

    study = ready(folder, choice=Choice(arms=("twice",)))
    assert [run.arm.name for run in study.chosen] == ["originals", "labelled", "twice"]
    assert [run.turn for run in study.chosen] == [0, 1, 2]


@pytest.mark.slow
def test_runs_in_processes_wait_for_their_teachers(
    folder: Path, done: Path, tmp_path: Path
) -> None:
    outcome = run(folder, tmp_path / "out", "--only", "twice", "--jobs", 2)
    assert outcome.status == 0, outcome.err
    name = "runs/twice/f0.4-s0/train/last.safetensors"
    ours, theirs = (read_weights(place / name).tensors for place in (tmp_path / "out", done))
    assert all(torch.allclose(ours[key], theirs[key], atol=1e-5) for key in theirs)


def test_a_run_is_another_one_with_another_teacher(folder: Path) -> None:
    before = identities(folder)
    assert "label" not in before["originals"]
    assert identities(folder, "arms.labelled.label.threshold=0.6")["twice"] != before["twice"]
    assert identities(folder, "arms.camera.label.sure=0.9")["twice"] == before["twice"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("arms.labelled.label.by=twice", "no arm above is called 'twice'"),
        ("arms.labelled.label.by=labelled", "no arm above is called 'labelled'"),
        ("arms.taught.teach.by=taught", r"taught\.teach\.by.*no arm above is called 'taught'"),
        ("arms.taught.teach.share=0", r"teach\.share"),
    ],
)
def test_teachers_stand_above(folder: Path, change: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read_study(folder / "study.yaml", [change])


def test_frames_of_a_set_that_was_not_given(folder: Path, tmp_path: Path) -> None:
    outcome = run(folder, tmp_path / "out", "--only", "camera")
    assert outcome.status == 1
    assert "give --against other=SET" in outcome.err


def test_teachers_of_an_arm_are_the_runs_that_it_names(folder: Path, done: Path) -> None:
    from pipelines.study import Choice

    study = ready(folder, choice=Choice(arms=("taught",)))
    assert [run.arm.name for run in study.chosen] == ["originals", "labelled", "taught"]
    assert study.chosen[-1].turn == 2
    said = json.loads((done / "runs" / "taught" / "f0.4-s0" / "train" / "run.json").read_text())
    weights = [
        done / "runs" / arm / "f0.4-s0" / "train" / "last.safetensors"
        for arm in ("originals", "labelled")
    ]
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in weights]
    assert said["teaching"] == {"by": digests, "share": 0.6}


def test_a_run_is_another_one_with_another_share(folder: Path, done: Path) -> None:
    before, after = identities(folder), identities(folder, "arms.taught.teach.share=0.7")
    assert before["taught"] != after["taught"]
    assert {**before, "taught": None} == {**after, "taught": None}
    written = json.loads((done / "runs" / "taught" / "f0.4-s0" / "run.json").read_text())
    assert written == before["taught"]


@pytest.mark.parametrize("key", ["labelled.label", "taught.teach"])
def test_moves_are_part_of_what_a_run_is(folder: Path, key: str) -> None:
    before, after = identities(folder), identities(folder, f"arms.{key}.tta=4")
    name, part = key.split(".")
    assert after[name][part]["tta"] == 4
    assert "tta" not in before[name][part]
    assert before["originals"] == after["originals"]


def test_moves_reach_labels_teachers_and_scores(folder: Path, tmp_path: Path, done: Path) -> None:
    out = tmp_path / "out"
    moves = ("--set", "arms.labelled.label.tta=4", "--set", "arms.taught.teach.tta=9")
    outcome = run(folder, out, "--only", "taught", *moves, "--keep-sets", "--test")
    assert outcome.status == 0, outcome.err
    labels = (out / "runs" / "labelled" / "f0.4-s0" / "labelled" / "dataset.json").read_text()
    assert '"tta": 4' in labels
    place = out / "runs" / "taught" / "f0.4-s0"
    assert json.loads((place / "train" / "run.json").read_text())["teaching"]["tta"] == 9
    with (
        np.load(place / "scores" / "val.npz") as one,
        np.load(place / "scores" / "val+tta9.npz") as nine,
    ):
        assert list(one["ids"]) == list(nine["ids"])
        assert (one["curve"] != nine["curve"]).any()
