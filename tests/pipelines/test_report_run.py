"""`detect report`: what a run was judged on, how it scored, and where it failed worst."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from html_pages import Page, require_sound
from small_sets import SmallSet, write_small_set
from test_report_page import ATTACK

from detect.data import hold_out
from detect.evaluate import Case, evaluate
from detect.lineage import read_origins
from detect.predict import load_detector
from detect.train import BEST, LAST
from pipelines.cli.detect import main
from pipelines.report.judgement import CASES, best_entry, judge_cases
from synth.dataset import open_dataset

CONFIG = """
network: small
steps: 12
epoch_steps: 4
batch: 2
validation: {validation}
augment: {{crop: 32}}
compute: {{device: cpu}}
"""


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


def train(folder: Path, validation: float, **keywords: Any) -> tuple[SmallSet, Path]:
    made = write_small_set(folder / "set", **{"train": 8, "test": 3} | keywords)
    (folder / "train.yaml").write_text(CONFIG.format(validation=validation))
    result = call("train", folder / "train.yaml", "--data", made.root, "--out", folder / "run")
    assert result.exit_code == 0, result.output
    return made, folder / "run"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[SmallSet, Path]:
    """A set, and a short run on it."""
    return train(tmp_path_factory.mktemp("trained"), 0.3)


@pytest.fixture
def copied(trained: tuple[SmallSet, Path], tmp_path: Path) -> tuple[SmallSet, Path]:
    """The same, to be changed."""
    made, run = trained
    shutil.copytree(made.root, tmp_path / "set")
    shutil.copytree(run, tmp_path / "run")
    return SmallSet(tmp_path / "set", made.train, made.test), tmp_path / "run"


@pytest.fixture
def report(tmp_path: Path) -> Callable[..., tuple[dict[str, Any], Page]]:
    """Make a page, and test what all pages have in common."""

    def make(run: Path, *options: object) -> tuple[dict[str, Any], Page]:
        out = tmp_path / "page" / "report.html"
        result = call("report", run, "--out", out, "--device", "cpu", "--json", *options)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.stderr
        page = Page.read(out)
        require_sound(page)
        return json.loads(result.stdout), page

    return make


Report = Callable[..., tuple[dict[str, Any], Page]]


def fails(result: Result, *parts: str, status: int = 1) -> None:
    assert result.exit_code == status, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stderr.count("\n") == 1
    for part in parts:
        assert part in result.stderr
    assert not result.stdout


def test_a_run_is_judged_on_what_it_held_out(
    trained: tuple[SmallSet, Path], report: Report
) -> None:
    made, run = trained
    found, page = report(run, "--data", made.root)
    dataset = open_dataset(made.root)
    recipe = json.loads((run / "run.json").read_text())
    _, ids = hold_out(dataset, read_origins(dataset), recipe["validation"], recipe["seed"])
    assert 0 < len(ids) < len(made.train)
    detector = load_detector(run / BEST, "cpu")
    tally = evaluate(detector, (dataset.read_pair(id_) for id_ in ids))
    assert found["split"] == "held-out"
    assert found["scores"]["images"] == len(ids)
    for name, value in tally.scores().items():
        assert found["scores"][name] == value
    assert found["history"] == json.loads((run / "history.json").read_text())
    assert found["weights"]["step"] == best_entry(found["history"])["step"]
    assert found["recipe"] == recipe
    # One line of it is on the page for every point of the curve of every score.
    assert len(page.all("svg")) == 7
    assert recipe["data"]["training"] in page.text


def test_the_numbers_are_those_of_detect_test(
    trained: tuple[SmallSet, Path], report: Report
) -> None:
    made, run = trained
    options = ["--split", "test", "--protocol", "dnanet", "--threshold", 0.3]
    found, page = report(run, "--data", made.root, *options)
    result = call(
        "test", run / BEST, made.root, *options, "--curve", "--by", "area", "--by", "scr", "--json"
    )
    scores = json.loads(result.stdout)
    assert {key: scores[key] for key in found["scores"]} == found["scores"]
    assert "protocol dnanet" in page.text
    assert "above 0.3" in page.text


def test_test_images_are_not_read_unless_they_are_asked_for(
    copied: tuple[SmallSet, Path], report: Report, tmp_path: Path
) -> None:
    made, run = copied
    for id_ in made.test:
        made.image(id_).write_bytes(b"no image")
    report(run, "--data", made.root)
    result = call(
        "report", run, "--data", made.root, "--split", "test", "--out", tmp_path / "a.html"
    )
    fails(result, made.test[0])


def test_a_run_without_its_set_has_curves_alone(
    trained: tuple[SmallSet, Path], report: Report
) -> None:
    _, run = trained
    found, page = report(run)
    assert found["scores"] is None
    assert found["misses"] is None
    assert len(page.all("svg")) == 5
    assert not page.all("img")


def test_a_run_under_way_is_described_as_far_as_it_is(
    copied: tuple[SmallSet, Path], report: Report, tmp_path: Path
) -> None:
    made, run = copied
    history = json.loads((run / "history.json").read_text())
    (run / "history.json").write_text(json.dumps(history[:1]))
    (run / LAST).unlink()
    found, page = report(run, "--data", made.root)
    assert len(found["history"]) == 1
    (text,) = found["notes"]
    assert "4 of 12" in text
    assert text in page.text
    (run / BEST).unlink()
    (run / "history.json").unlink()
    found, page = report(run)
    assert found["weights"] is None
    assert found["history"] == []
    assert not page.all("svg")
    result = call("report", run, "--data", made.root, "--out", tmp_path / "a.html")
    fails(result, "no weights")


def test_a_run_that_held_nothing_out_is_judged_on_a_split_alone(
    tmp_path: Path, report: Report
) -> None:
    made, run = train(tmp_path, 0.0, shapes=((48, 64), (40, 100)), dtype=np.uint16)
    result = call("report", run, "--data", made.root, "--out", tmp_path / "a.html")
    fails(result, "held nothing out", "--split")
    found, _ = report(run, "--data", made.root, "--split", "test")
    assert found["scores"]["images"] == 3
    assert found["weights"]["file"] == LAST
    assert len(found["notes"]) == 1


def test_another_set_is_refused(
    copied: tuple[SmallSet, Path], tmp_path: Path, report: Report
) -> None:
    made, run = copied
    for id_ in made.train:
        image = cv2.imread(str(made.image(id_)), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(made.image(id_)), image // 2)
    out = tmp_path / "a.html"
    fails(call("report", run, "--data", made.root, "--out", out), "not the set")
    assert not out.exists()
    report(run, "--data", made.root, "--split", "test")


def test_images_without_targets_make_a_page(
    trained: tuple[SmallSet, Path], tmp_path: Path, report: Report
) -> None:
    empty = write_small_set(tmp_path / "empty", train=1, test=1, targets=0)
    found, page = report(trained[1], "--data", empty.root, "--split", "test")
    assert found["scores"]["pd"] is None
    assert found["misses"] == []
    assert "No target was missed." in page.text


def test_names_with_markup_are_shown_and_never_act(
    trained: tuple[SmallSet, Path], tmp_path: Path, report: Report
) -> None:
    name = "<img src=x onerror=alert(1)><script>alert(2)<script>\"'&amp;"
    odd = write_small_set(tmp_path / name, train=1, test=3, prefix=name)
    run = tmp_path / "<b>run"
    shutil.copytree(trained[1], run)
    recipe = json.loads((run / "run.json").read_text())
    recipe |= {"network": ATTACK, "data": {"name": ATTACK}, ATTACK: {ATTACK: [ATTACK]}}
    (run / "run.json").write_text(json.dumps(recipe))
    found, page = report(run, "--data", odd.root, "--split", "test", "--threshold", 0.999999)
    assert found["misses"]
    assert not page.all("b")
    assert any(name in text for text in page.inside("figcaption"))
    assert any(ATTACK in text for text in page.inside("th"))


def test_errors_are_one_line(copied: tuple[SmallSet, Path], tmp_path: Path) -> None:
    made, run = copied
    out = ("--out", tmp_path / "a.html")
    fails(call("report", tmp_path / "absent", *out), "absent")
    fails(call("report", made.root, *out), "run.json")
    fails(call("report", run, "--split", "test", *out), "--data", status=2)
    fails(call("report", run, "--out", tmp_path / "a.txt"), ".html", status=2)
    fails(call("report", run, "--data", made.root, "--out", made.root / "a.html"), status=2)
    fails(call("report", run, "--threshold", "nan", *out), "nan", status=2)
    fails(call("report", run, "--device", "tpu", *out), "tpu", status=2)
    damaged = ("{", '{"a": 1}', '[{"loss": 1}]', "[1]", '[{"step": NaN}]', '[{"step": 1.5}]')
    wrong = ('[{"step": 1, "scores": {"iou": "<b>"}}]', '[{"step": 1, "scores": 7}]')
    for text in (*damaged, *wrong):
        (run / "history.json").write_text(text)
        fails(call("report", run, *out), "history.json")
    (run / "history.json").write_text("[]")
    (run / BEST).write_bytes(b"none")
    fails(call("report", run, *out), BEST)


def case(
    id_: str, targets: list[tuple[int, int]], found: list[tuple[int, int, int, float]]
) -> Case:
    """A frame of 64x64 with squares of 3 pixels, and squares of given side and probability."""
    rng = np.random.default_rng(len(id_))
    truth, probability = np.zeros((64, 64), bool), np.zeros((64, 64), np.float32)
    for row, col in targets:
        truth[row : row + 3, col : col + 3] = True
    for row, col, side, value in found:
        probability[row : row + side, col : col + side] = value
    frame = rng.normal(100, 4, truth.shape) + 50 * truth
    return Case(id_, probability, truth, frame.astype(np.uint8))


def test_failures_are_what_is_missed_and_what_is_false() -> None:
    judged = judge_cases(
        [
            case("a", [(10, 10), (40, 40)], [(10, 10, 3, 0.9), (40, 40, 3, 0.3)]),
            case("b", [(20, 20)], [(20, 20, 3, 0.8), (50, 5, 2, 0.7), (5, 50, 4, 0.6)]),
        ],
        "strict",
        0.5,
    )
    assert judged.scores["pd"] == pytest.approx(2 / 3)
    assert judged.scores["fa"] == 20 / (2 * 64 * 64)
    (missed,) = judged.missed
    assert missed.facts["id"] == "a"
    assert missed.facts["box"] == [40, 40, 43, 43]
    assert missed.facts["peak_probability"] == pytest.approx(0.3)
    assert [one.facts["box"] for one in judged.false] == [[5, 50, 9, 54], [50, 5, 52, 7]]
    assert [one.facts["area"] for one in judged.false] == [16, 4]
    for failure in [missed, *judged.false]:
        assert failure.crop.frame.shape == failure.crop.truth.shape == (32, 32)
        assert failure.crop.probability.max() == pytest.approx(failure.facts["peak_probability"])


def test_the_worst_of_many_failures_are_kept_whatever_their_order() -> None:
    cases = [case(f"{side:02d}", [(50, 50)], [(2, 2, side, 0.9)]) for side in range(1, 31)]
    for order in (cases, cases[::-1]):
        judged = judge_cases(order, "strict", 0.5)
        assert [one.facts["id"] for one in judged.false] == [
            f"{side:02d}" for side in range(30, 30 - CASES, -1)
        ]
        scrs = [one.facts["scr"] for one in judged.missed]
        assert len(scrs) == CASES
        assert scrs == sorted(scrs, reverse=True)


def test_the_best_validation_is_the_last_one_of_the_greatest_iou() -> None:
    history = [
        {"step": step, "scores": None if iou is None else {"iou": iou}}
        for step, iou in enumerate([0.1, 0.5, None, 0.5, 0.2])
    ]
    best = best_entry(history)
    assert best is not None
    assert best["step"] == 3
    assert best_entry([{"step": 1, "scores": None}]) is None
