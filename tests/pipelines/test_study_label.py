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

from detect.predict import shipped_weights
from detect.weightsfile import read_weights
from pipelines.cli.detect import main
from pipelines.errors import ConfigError
from pipelines.study import Study, prepare
from pipelines.study_config import read_study
from synth.dataset import open_dataset
from synth.errors import StoreError

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
            "build": {"config": "build.yaml", "set": {"negatives.steps.mixup": None}},
        },
        "twice": {
            "label": {"by": ["originals", "labelled"], "sure": 0},
            "train": {"set": {"sampler.originals": 0.5}},
        },
        "camera": {"label": {"frames": "other", "by": "originals", "sure": 0}},
        "taught": {
            "teach": {"by": ["originals", "labelled"], "share": 0.6},
            "build": {"config": "build.yaml", "set": {"negatives.steps.mixup": None}},
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
    (root / "build.yaml").write_text("name: b\nnegatives: {steps: [mixup, turn: {side: 9}]}\n")
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


def test_an_interrupted_run_keeps_its_labels(
    folder: Path, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    shutil.copytree(done, out)
    place = out / "runs" / "twice" / "f0.4-s0"
    monkeypatch.setattr("pipelines.study.label_frames", lambda *given, **options: 1 / 0)

    def forget_training() -> None:
        shutil.rmtree(place / "train")
        shutil.rmtree(place / "scores")

    forget_training()
    again = run(folder, out, "--only", "twice", "--keep-sets")
    assert again.status == 0, again.err
    assert "are labelled" not in again.err
    forget_training()
    next((place / "labelled" / "masks").iterdir()).unlink()
    again = run(folder, out, "--only", "twice")
    assert again.status == 1
    assert again.err.endswith("some of masks is gone; remove the set to build it again\n")
    shutil.rmtree(place / "labelled")
    with pytest.raises(ZeroDivisionError):
        run(folder, out, "--only", "twice")


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


@pytest.fixture(scope="module")
def second(folder: Path) -> Path:
    """A study whose arms are helped by runs of the first one."""
    help_ = ["first/labelled", "originals"]
    arms = {
        "originals": None,
        "helped": {"label": {"by": help_, "sure": 0}, "teach": {"by": "first/twice"}},
        "later": {"label": {"by": "helped", "sure": 0}},
    }
    study = STUDY | {"name": "second", "runs": {"first": None}, "arms": arms, "tests": []}
    (folder / "second.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    return folder / "second.yaml"


def prepared(second: Path, *overrides: str, **keywords: Any) -> Study:
    config, arms = read_study(second, overrides)
    folder = second.parent
    return prepare(config, arms, folder / "two", data=folder / "set", jobs=1, **keywords)


def test_runs_of_another_study_label_and_teach(
    second: Path, folder: Path, done: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    given = ("study", second, "--data", folder / "set", "--out", out, "--runs", f"first={done}")
    result = CliRunner().invoke(main, [*map(str, given), "--only", "later", "--keep-sets"])
    assert result.exit_code == 0, result.stderr
    place = out / "runs" / "helped" / "f0.4-s0"
    teacher = done / "runs" / "twice" / "f0.4-s0" / "train" / "last.safetensors"
    said = json.loads((place / "train" / "run.json").read_text())["teaching"]
    assert said["by"] == [hashlib.sha256(teacher.read_bytes()).hexdigest()]
    identity = json.loads((place / "run.json").read_text())
    assert list(identity["label"]["by"]) == ["first/labelled", "originals"]
    assert list(identity["teach"]["by"]) == ["first/twice"]
    # The same command again finds everything done, and an arm that nobody else helps needs no more.
    assert CliRunner().invoke(main, [*map(str, given), "--only", "later"]).exit_code == 0

    def shown(*more: str) -> set[str]:
        alone = [*map(str, given[:6]), "--only", "originals", "--json", *more]
        result = CliRunner().invoke(main, alone)
        assert result.exit_code == 0, result.stderr
        return {row["arm"] for row in json.loads(result.stdout)["table"]}

    assert shown() == {"originals", "helped", "later"}
    # With another share they would be other runs, whoever helps.
    assert shown("--set", "arms.helped.teach.share=0.9") == {"originals"}
    # What is finished needs the other study no more.
    gone = [*map(str, given[:6]), "--runs", f"first={tmp_path / 'gone'}", "--only", "later"]
    assert CliRunner().invoke(main, gone).exit_code == 0


def test_labels_are_those_of_the_other_study_s_run(
    second: Path, folder: Path, done: Path, tmp_path: Path
) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    given = ("study", second, "--data", folder / "set", "--only", "helped", "--keep-sets")
    only = ("--set", "arms.helped.label.by=first/labelled")
    shutil.copytree(done, other, symlinks=True)
    weights = other / "runs" / "labelled" / "f0.4-s0" / "train" / "last.safetensors"
    shutil.copy(shipped_weights(), weights)
    masks = []
    for number, study in enumerate((done, other)):
        place = ("--out", out / str(number), "--runs", f"first={study}")
        result = CliRunner().invoke(main, [*map(str, (*given, *only, *place))])
        assert result.exit_code == 0, result.stderr
        made = out / str(number) / "runs" / "helped" / "f0.4-s0" / "labelled"
        masks.append({path.name: path.read_bytes() for path in (made / "masks").iterdir()})
    assert masks[0] != masks[1]


def test_turns_do_not_count_what_is_there(second: Path, done: Path) -> None:
    study = prepared(second, runs={"first": done})
    assert [run.turn for run in study.chosen] == [0, 1, 2]
    alone = prepared(second, "arms.helped.label.by=first/labelled", runs={"first": done})
    assert [run.turn for run in alone.chosen] == [0, 0, 1]


def test_a_run_is_another_one_with_another_study_s_run(
    second: Path, done: Path, tmp_path: Path
) -> None:
    def identity(runs: Path) -> dict[str, Any]:
        return dict(prepared(second, runs={"first": runs}).runs[1].identity)

    shutil.copytree(done, tmp_path / "other", symlinks=True)
    assert identity(tmp_path / "other") == identity(done)
    path = tmp_path / "other" / "runs" / "twice" / "f0.4-s0" / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"init": "another start"}))
    assert identity(tmp_path / "other") != identity(done)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("validation=0.3",), "may have seen what judges here"),
        (("seeds=[1]",), "no finished run is there"),
        (("arms.helped.teach.by=first/camel",), "no finished run is there"),
    ],
)
def test_runs_that_may_not_help(
    second: Path, done: Path, overrides: tuple[str, ...], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        prepared(second, *overrides, runs={"first": done})


def test_a_study_that_was_not_given(second: Path, done: Path) -> None:
    from pipelines.study import Choice

    with pytest.raises(ConfigError, match="give --runs first=FOLDER"):
        prepared(second)
    with pytest.raises(ConfigError, match="did you mean 'first'"):
        read_study(second, ["arms.helped.teach.by=frist/twice"])
    assert prepared(second, choice=Choice(arms=("originals",))).chosen


def test_a_helper_that_lost_its_weights(second: Path, done: Path, tmp_path: Path) -> None:
    shutil.copytree(done, tmp_path / "other", symlinks=True)
    weights = tmp_path / "other" / "runs" / "twice" / "f0.4-s0" / "train" / "last.safetensors"
    weights.unlink()
    with pytest.raises(ConfigError, match=r"last\.safetensors: the run's weights are gone"):
        prepared(second, runs={"first": tmp_path / "other"})
    run_json = tmp_path / "other" / "runs" / "labelled" / "f0.4-s0" / "run.json"
    run_json.write_text("{")
    with pytest.raises(StoreError, match="is damaged"):
        prepared(second, runs={"first": tmp_path / "other"})


def test_a_helper_that_learned_from_an_image_that_judges(
    second: Path, folder: Path, done: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder / "set", tmp_path / "set")
    whole, base = open_dataset(folder / "set"), open_dataset(done / "sets" / "f0.4-s0")
    known = {*base.splits["train"], *base.splits["val"]}
    # One of the frames that `labelled` saw without its label is corrected to be a test image.
    rest = next(id_ for id_ in whole.splits["train"] if id_ not in known)
    test = whole.splits["test"][0]
    lists = tmp_path / "set" / "50_50"
    for name, old, new in (("train", rest, test), ("test", test, rest)):
        path = lists / f"{name}.txt"
        path.write_text("".join(f"{new if i == old else i}\n" for i in path.read_text().split()))
    config, arms = read_study(second)
    with pytest.raises(ConfigError, match=rf"learned from an image that judges here \({rest}"):
        prepare(config, arms, tmp_path / "two", data=tmp_path / "set", runs={"first": done}, jobs=1)


def test_runs_say_what_they_learned_from(folder: Path, done: Path, tmp_path: Path) -> None:
    from pipelines.build.sources import pixel_digest

    def seen(arm: str, study: Path = done) -> set[str]:
        return set(json.loads((study / "runs" / arm / "f0.4-s0" / "seen.json").read_text()))

    whole, base = open_dataset(folder / "set"), open_dataset(done / "sets" / "f0.4-s0")
    pixels = {id_: pixel_digest(whole.read_image(id_)).hex() for id_ in whole.images}
    held = {pixels[id_] for id_ in (*base.splits["val"], *whole.splits["test"])}
    assert seen("originals") == {pixels[id_] for id_ in base.splits["train"]}
    assert seen("taught") == seen("labelled") == set(pixels.values()) - held
    other = open_dataset(folder / "other")
    added = {pixel_digest(other.read_image(id_)).hex() for id_ in other.ids("train")}
    assert seen("camera") == seen("originals") | added
    # Runs from before they did say it when their command is given again.
    shutil.copytree(done, tmp_path / "old", symlinks=True)
    path = tmp_path / "old" / "runs" / "labelled" / "f0.4-s0" / "seen.json"
    path.unlink()
    assert run(folder, tmp_path / "old", "--only", "labelled").status == 0
    assert seen("labelled", tmp_path / "old") == seen("labelled")


def test_a_helper_that_does_not_say_what_it_learned_from(
    second: Path, done: Path, tmp_path: Path
) -> None:
    from pipelines.study import Choice

    shutil.copytree(done, tmp_path / "old", symlinks=True)
    path = tmp_path / "old" / "runs" / "twice" / "f0.4-s0" / "seen.json"
    path.unlink()
    with pytest.raises(ConfigError, match="give the command of its study again"):
        prepared(second, runs={"first": tmp_path / "old"})
    path.write_text("[1]")
    with pytest.raises(StoreError, match=r"seen\.json: is damaged"):
        prepared(second, runs={"first": tmp_path / "old"})
    # Nobody asks it here.
    only = Choice(arms=("originals",))
    assert prepared(second, runs={"first": tmp_path / "old"}, choice=only).chosen
