"""Studies from the command to the tables, on sets of a dozen small images."""

from __future__ import annotations

import csv
import json
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from small_sets import Outcome, write_small_set

import pipelines.study as study_module
from detect.errors import TrainingInterruptedError
from pipelines.build.parallel import Pool
from pipelines.cli.detect import main
from pipelines.cli.study import _Progress
from pipelines.study import Run, Study, _make_apart, execute, make_run, prepare
from pipelines.study_config import read_study
from pipelines.study_results import CURVE_COLUMNS, RUN_COLUMNS
from pipelines.study_scores import RunScores, load_scores, score_run
from pipelines.study_sets import choose_parts, open_labelled
from synth.dataset import open_dataset

STUDY: dict[str, Any] = {
    "name": "tiny",
    "network": "small",
    "steps": 4,
    "batch": 4,
    "epoch_steps": 2,
    "validation": 0.3,
    "seeds": [0, 1],
    "fractions": [0.5],
    "baseline": "originals",
    "train": "train.yaml",
    "arms": {
        "originals": None,
        "turned": {
            "build": {"config": "build.yaml", "set": {"negatives.steps.mixup": None}},
            "train": {"set": {"sampler.originals": 0.5}},
        },
        "pairs": {
            "build": "build.yaml",
            "train": {
                "set": {"sampler": {"name": "sources", "negatives": 1}, "loss.consistency": 1}
            },
        },
    },
}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the figures, which take longer than runs as short as these."""
    monkeypatch.setattr("pipelines.study_figure.plot_study", lambda study: {})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A labelled set, another one, frames without targets, and a study's files."""
    root = tmp_path_factory.mktemp("study")
    write_small_set(root / "set", 12, 4, shapes=[(32, 48)])
    write_small_set(root / "other", 2, 3, shapes=[(48, 32)], seed=1)
    (root / "camera").mkdir()
    rng = np.random.default_rng(5)
    for number in range(3):
        frame = rng.normal(100, 6, (64, 64)).round().astype(np.uint8)
        assert cv2.imwrite(str(root / "camera" / f"{number}.png"), frame)
    (root / "study.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False))
    (root / "train.yaml").write_text(
        "steps: 100\ncompute: {device: cpu, precision: 32-true}\naugment: {crop: 32}\n"
    )
    (root / "build.yaml").write_text(
        "name: b\nnoise: {sample: {side: 8}}\nnegatives: {steps: [mixup, turn: {side: 9}]}\n"
    )
    return root


def call(*arguments: object) -> Outcome:
    result = CliRunner().invoke(main, ["study", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Outcome(result.exit_code, result.stdout, result.stderr)


def run(folder: Path, out: Path, *arguments: object) -> Outcome:
    return call(folder / "study.yaml", "--data", folder / "set", "--out", out, *arguments)


def ready(folder: Path, out: Path, **keywords: Any) -> Study:
    config, arms = read_study(folder / "study.yaml")
    return prepare(config, arms, out, data=folder / "set", jobs=1, **keywords)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def done(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole study, tested, with its sets kept."""
    out = tmp_path_factory.mktemp("done") / "out"
    outcome = run(folder, out, "--keep-sets", "--test", "--results", out / "results", "--json")
    assert outcome.status == 0, outcome.err
    (out / "told.json").write_text(outcome.out)
    return out


def test_tables_have_a_line_for_every_run_and_split(done: Path) -> None:
    rows = table(done / "runs.csv")
    assert tuple(rows[0]) == RUN_COLUMNS
    assert ",".join(RUN_COLUMNS) == "study,arm,network,fraction,seed,steps,split,iou,pd,fa"
    assert ",".join(CURVE_COLUMNS) == "study,arm,fraction,seed,step,iou,pd,fa,loss"
    assert [(r["arm"], r["seed"], r["split"]) for r in rows] == [
        (arm, seed, split) for arm in STUDY["arms"] for seed in "01" for split in ("val", "test")
    ]
    assert {(r["study"], r["network"], r["fraction"], r["steps"]) for r in rows} == {
        ("tiny", "small", "0.5", "4")
    }
    curves = table(done / "curves.csv")
    assert tuple(curves[0]) == CURVE_COLUMNS
    assert len(curves) == 3 * 2 * 2
    assert all(0 <= float(row["iou"]) <= 1 for row in [*rows, *curves])
    for name in ("runs.csv", "curves.csv"):
        assert (done / "results" / name).read_bytes() == (done / name).read_bytes()


def test_scores_are_those_of_detect_test(done: Path, folder: Path) -> None:
    for row in table(done / "runs.csv"):
        if row["split"] != "test":
            continue
        weights = done / "runs" / row["arm"] / f"f0.5-s{row['seed']}" / "train/last.safetensors"
        arguments = ["test", str(weights), str(folder / "set"), "--json", "--device", "cpu"]
        scores = json.loads(CliRunner().invoke(main, arguments).stdout)
        for name in ("iou", "pd", "fa"):
            assert float(row[name]) == pytest.approx(scores[name], rel=1e-5)


@pytest.mark.usefixtures("undrawn")
def test_pd_within_limits_on_fa_is_that_of_detect_test(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    one = ("--only", "originals", "--seeds", 0, "--test", "--json")
    summary = json.loads(run(folder, out, *one).out)
    weights = out / "runs/originals/f0.5-s0/train/last.safetensors"
    arguments = ["test", str(weights), str(folder / "set"), "--json", "--curve", "--device", "cpu"]
    wanted = json.loads(CliRunner().invoke(main, arguments).stdout)["pd_at_fa"]
    found = next(row for row in summary["table"] if row["split"] == "test")["pd_at_fa"]
    assert found == [{"fa": point["fa"], "pd": point["pd"]} for point in wanted]


def test_arms_are_trained_from_the_same_images_for_the_same_steps(done: Path, folder: Path) -> None:
    labelled = open_labelled(folder / "set", Pool(1))
    for seed in (0, 1):
        parts = choose_parts(labelled, 0.3, 0.5, seed)
        seen = []
        for arm in STUDY["arms"]:
            place = done / "runs" / arm / f"f0.5-s{seed}"
            data = place / "set" if arm != "originals" else done / "sets" / f"f0.5-s{seed}"
            dataset = open_dataset(data)
            assert dataset.ids("val") == parts.validation
            assert dataset.ids("train")[: len(parts.train)] == parts.train
            recipe = json.loads((place / "train" / "run.json").read_text())
            each = 1 + (recipe["sampler"]["negatives"] or 0)
            seen.append((recipe["steps"], recipe["batch"] * each, recipe["seed"]))
            assert json.loads((place / "train/history.json").read_text())[-1]["step"] == 4
        assert set(seen) == {(4, 4, seed)}


def test_nothing_is_made_from_an_image_that_judges(done: Path, folder: Path) -> None:
    labelled = open_labelled(folder / "set", Pool(1))
    for seed in (0, 1):
        parts = choose_parts(labelled, 0.3, 0.5, seed)
        for arm in ("turned", "pairs"):
            manifest = done / "runs" / arm / f"f0.5-s{seed}" / "set" / "manifest.jsonl"
            lines = [json.loads(line) for line in manifest.read_text().splitlines()]
            made = [line for line in lines if line["id"] != line["source"]]
            assert len(made) >= len(parts.train)
            assert {line["source"] for line in made} <= set(parts.train)
            assert {line["split"] for line in made} == {"train"}


def test_what_judges_has_no_say_in_what_is_made(done: Path, folder: Path, tmp_path: Path) -> None:
    """Other pixels in all images that judge, and what is trained on keeps every byte."""
    other = tmp_path / "set"
    shutil.copytree(folder / "set", other)
    parts = choose_parts(open_labelled(folder / "set", Pool(1)), 0.3, 0.5, 0)
    rng = np.random.default_rng(9)
    judging = [*parts.validation, *open_dataset(other).ids("test")]
    for id_ in judging:
        noise = rng.integers(0, 256, (32, 48), np.uint8)
        assert cv2.imwrite(str(other / "images" / f"{id_}.png"), noise)
        assert cv2.imwrite(str(other / "masks" / f"{id_}.png"), (noise > 250) * np.uint8(255))
    config, arms = read_study(folder / "study.yaml")
    changed = prepare(config, arms, tmp_path / "out", data=other, jobs=1)
    for one in changed.chosen:
        if one.arm.name == "pairs" and one.seed == 0:
            study_module.build(one.arm.build, tmp_path / "built", jobs=1)  # type: ignore[arg-type]
    before = done / "runs/pairs/f0.5-s0/set"
    ids = open_dataset(before).ids("train")
    assert ids == open_dataset(tmp_path / "built").ids("train")
    assert len(ids) > len(parts.train)
    for id_ in ids:
        for kind in ("images", "masks"):
            name = f"{kind}/{id_}.png"
            assert (before / name).read_bytes() == (tmp_path / "built" / name).read_bytes()


def test_a_second_start_trains_nothing_and_reads_no_test_image(
    done: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*arguments: object, **keywords: object) -> None:
        raise AssertionError("this was done before")

    before = (done / "runs.csv").read_bytes()
    for name in ("train", "score_run", "build"):
        monkeypatch.setattr(study_module, name, never)
    outcome = run(folder, done, "--test", "--keep-sets", "--json")
    assert outcome.status == 0, outcome.err
    assert "6 of 6 runs are finished" in outcome.err
    assert (done / "runs.csv").read_bytes() == before
    again, told = json.loads(outcome.out), json.loads((done / "told.json").read_text())
    assert again["table"] == told["table"]


def test_the_summary_compares_with_the_baseline(done: Path) -> None:
    summary = json.loads((done / "summary.json").read_text())
    rows = {(row["arm"], row["split"]): row for row in summary["table"]}
    csv_rows = table(done / "runs.csv")
    for (arm, split), row in rows.items():
        values = [float(r["iou"]) for r in csv_rows if (r["arm"], r["split"]) == (arm, split)]
        assert row["iou"]["mean"] == pytest.approx(np.mean(values), rel=1e-4)
        assert row["iou"]["std"] == pytest.approx(np.std(values, ddof=1), rel=1e-3, abs=1e-6)
        if arm == "originals":
            assert row["iou"]["difference"] is None
        else:
            theirs = rows["originals", split]["iou"]["mean"]
            assert row["iou"]["difference"] == pytest.approx(row["iou"]["mean"] - theirs)
            assert row["iou"]["low"] <= row["iou"]["difference"] <= row["iou"]["high"]
    assert [f"{entry['iou']:.6g}" for entry in summary["scores"]] == [r["iou"] for r in csv_rows]
    curves = table(done / "curves.csv")
    for entry in summary["reach"]:
        for seed, step in entry["steps"].items():
            final = [
                float(row["iou"])
                for row in curves
                if (row["arm"], row["seed"], row["step"]) == ("originals", seed, "4")
            ]
            reached = [
                int(row["step"])
                for row in curves
                if (row["arm"], row["seed"]) == (entry["arm"], seed)
                and float(row["iou"]) >= final[0] > 0
            ]
            assert step == (reached[0] if reached else None)
    assert len(summary["plots"]) == 3
    for name in summary["plots"]:
        assert cv2.imread(name) is not None


def test_the_table_is_told(done: Path, folder: Path) -> None:
    outcome = run(folder, done, "--test", "--keep-sets")
    lines = outcome.out.splitlines()
    assert lines[0] == (
        "tiny: 6 of 6 runs, 4 steps of 4 images; differences to originals with 95% intervals"
    )
    assert "test, trained from 50% (4 of 8 labelled images)" in lines
    assert [line.split()[0] for line in lines[3:7]] == ["arm", *STUDY["arms"]]


@pytest.mark.usefixtures("undrawn")
def test_an_arm_may_have_a_baseline_of_its_own(done: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(done, out, symlinks=True)
    before = json.loads((done / "summary.json").read_text())
    outcome = run(folder, out, "--test", "--keep-sets", "--set", "arms.pairs.baseline=turned")
    assert "[" not in outcome.err  # nothing was trained or judged anew
    assert [line.split("  ")[0] for line in outcome.out.splitlines()[3:7]] == [
        *("arm", "originals", "turned", "pairs (to turned)")
    ]
    after = json.loads((out / "summary.json").read_text())
    means = {(row["arm"], row["split"]): row["iou"]["mean"] for row in after["table"]}
    for old, new in zip(before["table"], after["table"], strict=True):
        if new["arm"] != "pairs":
            assert old == new
            continue
        theirs = means["turned", new["split"]]
        assert new["baseline"] == "turned"
        assert new["iou"]["difference"] == pytest.approx(new["iou"]["mean"] - theirs)
    curves = {(run.arm.name, run.seed): run.history() for run in ready(folder, out).runs}
    (reach,) = (row for row in after["reach"] if row["arm"] == "pairs")
    for seed, step in reach["steps"].items():
        goal = curves["turned", int(seed)][-1]["scores"]["iou"]
        own = [e["step"] for e in curves["pairs", int(seed)] if e["scores"]["iou"] >= goal > 0]
        assert step == (own[0] if own else None)


def interrupt(at: int, kill: bool) -> Callable[..., Iterator[int]]:
    """Interrupt the fourth run, by Ctrl-C or as a killed process that could write nothing."""
    runs = iter(range(100))

    def steps(self: _Progress, steps: range) -> Iterator[int]:
        number = next(runs)
        for step in steps:
            if (number, step) == (3, at):
                if kill:
                    raise KeyboardInterrupt
                signal.raise_signal(signal.SIGINT)
            yield step

    return steps


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("kill", [pytest.param(False, marks=pytest.mark.slow), True])
def test_an_interrupted_study_ends_with_the_same_tables(
    done: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill: bool
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(_Progress, "steps", interrupt(3, kill))
        outcome = run(folder, out, "--test")
    assert outcome.status == 130
    assert outcome.err.strip().endswith("run the same command again to go on")
    assert len(table(out / "runs.csv")) == 3 * 2
    assert not list((out / "runs").rglob("set"))[1:]
    outcome = run(folder, out, "--test")
    assert outcome.status == 0, outcome.err
    for name in ("runs.csv", "curves.csv"):
        assert (out / name).read_bytes() == (done / name).read_bytes()
    assert not list((out / "runs").rglob("set"))


@pytest.mark.usefixtures("undrawn")
def test_a_part_of_a_study_can_be_done_and_tested_later(
    done: Path, folder: Path, tmp_path: Path
) -> None:
    out, results = tmp_path / "out", tmp_path / "results"
    results.mkdir()
    theirs = ",".join(RUN_COLUMNS) + "\nother,a,small,1,0,9,val,0.5,1,0\n"
    stale = "tiny,gone,small,0.5,0,9,val,0.5,1,0\n"
    (results / "runs.csv").write_text(theirs + stale)
    part = ("--only", "turned", "--seeds", "1", "--results", results)
    assert run(folder, out, *part).status == 0
    assert [(r["arm"], r["seed"], r["split"]) for r in table(out / "runs.csv")] == [
        ("turned", "1", "val")
    ]
    assert [row["study"] for row in table(results / "runs.csv")] == ["other", "tiny"]
    assert run(folder, out, *part, "--test").status == 0
    rows = [r for r in table(done / "runs.csv") if (r["arm"], r["seed"]) == ("turned", "1")]
    assert table(out / "runs.csv") == rows
    assert (results / "runs.csv").read_text().startswith(theirs)


@pytest.mark.usefixtures("undrawn")
def test_a_split_is_judged_once_though_others_are_added(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[tuple[str, ...]] = []

    def counted(detector: Any, dataset: Any, ids: tuple[str, ...], noise: Any) -> RunScores:
        judged.append(ids)
        return score_run(detector, dataset, ids, noise)

    monkeypatch.setattr(study_module, "score_run", counted)
    out, one = tmp_path / "out", ("--only", "originals", "--seeds", 0)
    other = ("--against", folder / "other", "--set", "tests=[{}, {against: other}]", "--test")
    for arguments, wanted in ((one, 1), ((*one, "--test"), 2), ((*one, *other), 3)):
        assert run(folder, out, *arguments).status == 0
        assert len(judged) == wanted
    assert judged[1] == open_dataset(folder / "set").ids("test")
    assert judged[2] == open_dataset(folder / "other").ids("test")


def test_noise_and_further_sets_are_judged_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (folder / "study.yaml").read_text()
    config = folder / "tests.yaml"
    tests = [{"strengths": [0, 3]}, {"against": "other"}, {"split": "val", "strengths": 3}]
    config.write_text(text + yaml.safe_dump({"tests": tests}))
    arguments = ("--data", folder / "set", "--noise", folder / "camera", "--only", "originals")
    outs = [tmp_path / "one", tmp_path / "two"]
    for out in outs:
        against = ("--against", f"other={folder / 'other'}", "--seeds", 0, "--test")
        outcome = call(config, *arguments, *against, "--out", out, "--set", "steps=2", "--json")
        assert outcome.status == 0, outcome.err
        assert len(json.loads(outcome.out)["plots"]) == (6 if out is outs[0] else 0)
        monkeypatch.setattr("pipelines.study_figure.plot_study", lambda study: {})
    rows = {row["split"]: row for row in table(outs[0] / "runs.csv")}
    assert list(rows) == ["val", "test", "test+seen3", "test@other", "val+seen3"]
    assert (outs[0] / "runs.csv").read_bytes() == (outs[1] / "runs.csv").read_bytes()
    scores = outs[0] / "runs/originals/f0.5-s0/scores"
    plain, noisy = (load_scores(scores / f"{split}.npz") for split in ("test", "test+seen3"))
    assert plain.ids == noisy.ids
    assert plain.counts[:, 3].tolist() == noisy.counts[:, 3].tolist()
    assert (plain.curve != noisy.curve).any()
    assert len(load_scores(scores / "test@other.npz").ids) == 3


def test_a_negatives_count_shrinks_with_the_images(folder: Path, tmp_path: Path) -> None:
    config, arms = read_study(
        folder / "study.yaml", ["arms.turned.build.set={negatives.count: 60}"]
    )
    study = prepare(config, arms, tmp_path, data=folder / "set", jobs=1)
    counts = {
        run.arm.build.negatives.count
        for run in study.runs
        if run.arm.name == "turned" and run.arm.build
    }
    assert counts == {20}  # 4 of the 12 training images


def test_another_configuration_is_told_and_nothing_is_lost(done: Path, folder: Path) -> None:
    outcome = run(folder, done, "--set", "steps=5")
    assert outcome.status == 1
    assert "is a run with train.steps=4, not 5; choose another --out" in outcome.err
    assert outcome.err.count("\n") == 1


@pytest.fixture
def chosen(folder: Path, tmp_path: Path) -> Run:
    return ready(folder, tmp_path / "out").chosen[0]


def test_a_worker_stops_with_a_checkpoint_when_it_is_told(chosen: Run, tmp_path: Path) -> None:
    stop = tmp_path / "stop"

    def touched(steps: range) -> Iterator[int]:
        for step in study_module._watched(chosen, stop, steps):
            if step == 1:
                stop.touch()
            yield step

    with pytest.raises(TrainingInterruptedError, match="stopped at step 3 of 4"):
        make_run(chosen, watch=touched)
    with pytest.raises(TrainingInterruptedError, match="stopped; run the same command"):
        _make_apart(chosen, stop=stop, keep_sets=False)
    stop.unlink()
    assert _make_apart(chosen, stop=stop, keep_sets=False).finished


def test_a_worker_that_fails_stops_the_others(chosen: Run, tmp_path: Path) -> None:
    (chosen.base / "50_50" / "val.txt").write_text("nobody\n")
    stop = tmp_path / "stop"
    with pytest.raises(Exception, match="nobody"):
        _make_apart(chosen, stop=stop, keep_sets=False)
    assert "nobody" in stop.read_text()


@pytest.mark.parametrize(
    ("arguments", "words", "status"),
    [
        (("--only", "turnd"), "no arm is called 'turnd'; did you mean 'turned'?", 1),
        (("--seeds", "7"), "no seed is called '7'; known are 0, 1", 1),
        (("--fractions", "0.3"), "no fraction is called '0.3'", 1),
        (("--fractions", "3"), "--fractions", 2),
        (("--seeds", "one"), "--seeds", 2),
        (("--noise", "absent"), "absent: no such file or folder", 1),
        (("--against", "x=absent"), "absent: is not a folder", 1),
        (("--against", "x=a", "--against", "x=b"), "'x' is given twice", 2),
        (("--set", "stepss=3"), "stepss: unknown key; did you mean 'steps'?", 1),
        (("--set", "arms.turned.noise=cam"), "no noise is called 'cam'; known are none", 1),
        (("--set", "arms.turned.init=absent"), "absent: no such file", 1),
        (("--set", "tests=[{strengths: 2}]", "--test"), "'test+seen2' needs noise", 1),
        (("--set", "tests=[{against: nuaa}]", "--test"), "--against nuaa=SET", 1),
        (("--data", "absent"), "absent: is not a folder", 1),
        (("--device", "gpu"), "'gpu' is none of auto", 2),
    ],
)
def test_mistakes_are_one_line(
    folder: Path, tmp_path: Path, arguments: tuple[str, ...], words: str, status: int
) -> None:
    # `turned` has noise here, so that it may name some.
    base = ("--set", "arms.turned.build=build.yaml")
    outcome = run(folder, tmp_path / "out", *base, *arguments)
    assert outcome.status == status, outcome.err
    assert words in outcome.err
    assert (outcome.err.count("\n"), outcome.out) == (1, "")
    assert not (tmp_path / "out").exists()


def test_it_says_on_what_and_what_is_in_the_way(folder: Path, tmp_path: Path) -> None:
    outcome = call(folder / "study.yaml")
    assert (outcome.status, outcome.err.count("\n")) == (2, 1)
    assert "--data" in outcome.err
    (tmp_path / "runs.csv").write_text("a,b\n1,2\n")
    outcome = run(
        folder, tmp_path / "out", "--only", "originals", "--seeds", 0, "--results", tmp_path
    )
    assert outcome.status == 1
    assert "runs.csv: is no table of study, arm" in outcome.err.splitlines()[-1]


def test_no_labelled_image_may_be_a_test_image_of_a_further_set(
    folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder / "other", other)
    shutil.copy(folder / "set/images/001.png", other / "images/005.png")
    shutil.copy(folder / "set/masks/001.png", other / "masks/005.png")
    outcome = run(folder, tmp_path / "out", "--against", other)
    assert (outcome.status, outcome.err.count("\n")) == (1, 1)
    assert "001.png: has the same pixels as the test image 005 of other" in outcome.err


@pytest.mark.slow
def test_two_runs_at_a_time_give_the_same_scores(done: Path, folder: Path, tmp_path: Path) -> None:
    from pipelines.study_results import write_tables

    study = ready(folder, tmp_path / "out")
    ended: list[Run] = []
    execute(study, jobs=2, ended=ended.append)
    assert [one.place for one in ended] == [one.place for one in study.chosen]
    write_tables(study, tmp_path)
    wanted = [row for row in table(done / "runs.csv") if row["split"] == "val"]
    assert table(tmp_path / "runs.csv") == wanted


def recomputed(results: Path, *arguments: object) -> dict[str, Any]:
    outcome = call("--results", results, "--json", *arguments)
    assert outcome.status == 0, outcome.err
    (found,) = json.loads(outcome.out)["studies"]
    return dict(found)


def test_committed_results_say_what_the_study_said(done: Path, tmp_path: Path) -> None:
    told = json.loads((done / "told.json").read_text())
    results = shutil.copytree(done / "results", tmp_path / "results")
    found = recomputed(results)
    for key in ("study", "steps", "table", "reach", "scores"):
        assert found[key] == told[key]
    seed = recomputed(results, "--study", "tiny", "--only", "turned", "--seeds", 1)
    assert {(row["arm"], *row["seeds"]) for row in seed["table"]} == {
        ("originals", 1),
        ("turned", 1),
    }


def test_without_scores_of_images_means_stay_and_intervals_go(done: Path, tmp_path: Path) -> None:
    results = shutil.copytree(done / "results", tmp_path / "results")
    shutil.rmtree(results / "scores" / "tiny" / "turned" / "f0.5-s1")
    told = {
        (row["arm"], row["split"]): row["iou"]
        for row in json.loads((done / "told.json").read_text())["table"]
    }
    for row in recomputed(results)["table"]:
        score, whole = row["iou"], told[row["arm"], row["split"]]
        assert score["mean"] == pytest.approx(whole["mean"], abs=1e-6)
        if row["arm"] == "turned":
            assert score["difference"] == pytest.approx(whole["difference"], abs=1e-5)
            assert np.mean([*score["by_seed"].values()]) == pytest.approx(score["difference"])
            assert score["low"] is score["high"] is None
        else:
            assert score == whole


def test_results_that_contradict_each_other_are_refused(done: Path, tmp_path: Path) -> None:
    results = shutil.copytree(done / "results", tmp_path / "results")
    lines = (results / "runs.csv").read_text().splitlines()
    lines[1] = ",".join([*lines[1].split(",")[:-3], "0.9", "0.9", "0.9"])
    (results / "runs.csv").write_text("\n".join(lines) + "\n")
    outcome = call("--results", results)
    assert (outcome.status, outcome.out) == (1, "")
    assert "val.npz: has other scores than runs.csv of the same run" in outcome.err
    (results / "runs.csv").write_text("\n".join([*lines, lines[1]]) + "\n")
    assert "runs.csv: has two rows of tiny, " in call("--results", results).err
    lines[1] = lines[1].replace("0.9", "-5e300")
    (results / "runs.csv").write_text("\n".join(lines) + "\n")
    assert ": iou is -5e300, not in 0 to 1" in call("--results", results).err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give CONFIG to run a study, or --results"),
        (["--results", ".", "--test"], "--test needs CONFIG"),
        (["--results", "nowhere"], "runs.csv: no such file"),
    ],
)
def test_reading_results_asks_for_results(arguments: list[str], words: str) -> None:
    outcome = call(*arguments)
    assert outcome.status != 0
    assert words in outcome.err


def test_results_of_other_studies_and_machines_stay(
    done: Path, folder: Path, tmp_path: Path
) -> None:
    results = shutil.copytree(done / "results", tmp_path / "results")
    other = results / "scores/other/a/f1-s0/test.npz"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"theirs")
    before = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
    part = ("--only", "originals", "--seeds", 0, "--results", results)
    assert run(folder, tmp_path / "out", *part).status == 0
    assert {path: path.read_bytes() for path in results.rglob("*") if path.is_file()} == before


def test_asking_for_an_unknown_arm_names_a_known_one(done: Path) -> None:
    outcome = call("--results", done / "results", "--only", "turnd")
    assert outcome.status == 1
    assert "no arm is called 'turnd'; did you mean 'turned'?" in outcome.err
