"""`synth report`: any set makes a page that is whole, and its numbers are the set's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from html_pages import Page, require_sound
from made_again import steps
from real_data import real_data
from small_sets import Outcome, SmallSet
from test_report_page import ATTACK

from pipelines.report.survey import count_changes, describe_change
from synth.dataset import open_dataset
from synth.disk.description import describe
from synth.disk.manifest import Line, parse_line
from synth.targets import find_targets, local_scr

Synth = Callable[..., Outcome]
MakeSet = Callable[..., SmallSet]

BUILD = """
name: small
seed: 1
simulate: {train: 6, test: 2, noise_frames: 2, shape: [64, 80], targets: [1, 2]}
noise: {sample: {max_var: 5000}}
negatives:
  count: 12
  steps:
    - mixup: {ratio: [0.1, 0.3]}
    - choose: [{share: 0.5, move: {scr: [2, 8]}}, {share: 0.5, turn: {side: 16, mirror: true}}]
    - distract: {count: [0, 2]}
"""


@pytest.fixture
def built(tmp_path: Path, synth: Synth) -> Path:
    """A small simulated set, built."""
    config = tmp_path / "small.yaml"
    config.write_text(BUILD)
    outcome = synth("build", config, "--out", tmp_path / "built", "--jobs", 1)
    assert outcome.status == 0, outcome.err
    return tmp_path / "built"


@pytest.fixture
def report(tmp_path: Path, synth: Synth) -> Callable[..., tuple[dict[str, Any], Page]]:
    """Make a page, and test what all pages have in common."""

    def make(root: Path, *options: object) -> tuple[dict[str, Any], Page]:
        out = tmp_path / "page" / "report.html"
        outcome = synth("report", root, "--out", out, "--jobs", 1, "--json", *options)
        assert outcome.status == 0, outcome.err
        found = json.loads(outcome.out)
        assert found["out"] == str(out)
        assert [path.name for path in out.parent.iterdir()] == ["report.html"]
        assert out.stat().st_size < 4e6
        page = Page.read(out)
        require_sound(page)
        return found, page

    return make


Report = Callable[..., tuple[dict[str, Any], Page]]


def manifest(root: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / "manifest.jsonl").read_bytes().splitlines()]


def test_targets_are_counted_and_measured_as_they_are(make_set: MakeSet, report: Report) -> None:
    made = make_set(train=5, shapes=((48, 64), (40, 90)))
    found, _ = report(made.root)
    dataset = open_dataset(made.root)
    areas, scrs, rows = [], [], []
    for id_ in made.train:
        image, mask = dataset.read_pair(id_)
        for target in find_targets(mask):
            areas.append(target.area)
            scrs.append(local_scr(image, mask, target))
            rows.append((target.centroid[0] + 0.5) / mask.shape[0])
    assert found["targets"] == {"originals": len(areas)}
    assert (
        found["area"]["counts"]["originals"]
        == np.histogram(areas, found["area"]["edges"])[0].tolist()
    )
    clipped = np.clip(scrs, found["scr"]["edges"][0], found["scr"]["edges"][-1] - 1e-9)
    assert (
        found["scr"]["counts"]["originals"]
        == np.histogram(clipped, found["scr"]["edges"])[0].tolist()
    )
    assert found["scr"]["summary"]["originals"]["median"] == pytest.approx(np.median(scrs))
    grid = np.array(found["positions"]["originals"])
    assert grid.sum(1).tolist() == np.histogram(rows, len(grid), (0, 1))[0].tolist()
    assert found["sizes"] == {"48x64": 3, "40x90": 2}


def test_a_built_set_is_told_apart_into_originals_and_what_was_made(
    built: Path, report: Report
) -> None:
    found, page = report(built)
    lines = manifest(built)
    made = [line for line in lines if line["id"] != line["source"]]
    assert found["counts"] | {"made": len(made), "images": len(lines)} == found["counts"]
    assert found["counts"]["splits"] == {"train": 18, "test": 2}
    assert len(made) == 12
    turned = [line for line in made if "turn" in steps(line)]
    moved = [line for line in made if "move" in steps(line)]
    assert turned
    assert moved
    changes = found["changes"]
    assert changes["change"]["target turned"] == len(turned)
    assert sum(n for name, n in changes["change"].items() if name != "target turned") == len(moved)
    assert sum(changes["quarter turns"].values()) == len(turned)
    assert sum(changes["noise"].values()) == 12
    assert sum(changes["distractors"].values()) == sum(
        len(steps(line).get("distract", {}).get("items", ())) for line in made
    )
    for line in made[:3]:
        assert describe_change(parse_line(json.dumps(line))) in page.text or (
            line["id"] not in page.text
        )
    assert f"{len(made)}" in page.inside("dd")
    # Every image on the sheet, and families of one source and its negatives below it.
    assert len(page.pictures()) > 18


def test_nothing_of_the_test_split_is_read(built: Path, report: Report) -> None:
    for id_ in open_dataset(built).ids("test"):
        (built / "images" / f"{id_}.png").write_bytes(b"no image")
        (built / "masks" / f"{id_}.png").write_bytes(b"no mask")
    report(built)


@pytest.mark.parametrize(
    ("case", "keywords"),
    [
        ("sixteen bits", {"dtype": np.uint16}),
        ("no targets", {"targets": 0}),
        ("one image", {"train": 1, "test": 0}),
        ("no test split", {"test": 0}),
        ("test alone", {"train": 0}),
        ("many sizes", {"train": 6, "shapes": ((4, 200), (200, 4), (64, 64), (7, 7), (300, 40))}),
    ],
)
def test_any_set_makes_a_page(
    case: str, keywords: dict[str, Any], make_set: MakeSet, report: Report
) -> None:
    made = make_set(**keywords)
    found, page = report(made.root)
    assert found["counts"]["splits"] == {"train": len(made.train), "test": len(made.test)}
    assert len(page.pictures()) == len(made.train)
    assert found["changes"] == {}
    assert found["provenance"] is None
    assert found["noise"] is None


def test_a_set_without_lists_is_all_for_training(small_set: SmallSet, report: Report) -> None:
    for file in (small_set.root / "50_50").iterdir():
        file.unlink()
    (small_set.root / "50_50").rmdir()
    found, page = report(small_set.root)
    assert found["counts"]["splits"] == {"train": 6, "test": 0}
    assert not found["counts"]["listed"]
    assert "without a split" in page.inside("dt")


def test_a_constant_image_of_one_pixel_makes_a_page(tmp_path: Path, report: Report) -> None:
    root = tmp_path / "tiny"
    for folder, value in (("images", 7), ("masks", 255)):
        (root / folder).mkdir(parents=True)
        cv2.imwrite(str(root / folder / "a.png"), np.full((1, 1), value, np.uint8))
    found, _ = report(root)
    assert found["targets"] == {"originals": 1}
    assert found["scr"]["summary"]["originals"]["undefined"] == 1


def test_names_with_markup_are_shown_and_never_act(
    make_set: MakeSet, synth: Synth, tmp_path: Path, report: Report
) -> None:
    name = "<img src=x onerror=alert(1)><script>alert(2)<script>\"'&amp;"
    made = make_set(name, prefix=name)
    found, page = report(made.root)
    assert found["name"] == name
    assert any(name in text for text in page.inside("h1"))
    assert any(name in text for text in page.inside("strong"))
    assert any(name in image["alt"] for image in page.all("img"))


def test_what_a_manifest_says_is_text(built: Path, report: Report) -> None:
    lines = manifest(built)
    for line in lines:
        for choice in steps(line).values():
            choice |= dict.fromkeys(choice, ATTACK)
        if "steps" in line:
            line["steps"].append({ATTACK: {ATTACK: ATTACK}})
            line["facts"] = dict.fromkeys(("shift", "noisier", "distractor_boxes"), ATTACK)
    (built / "manifest.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    told = json.loads((built / "dataset.json").read_bytes())
    del told["sha256"]
    told |= {"name": ATTACK, "source": {ATTACK: [ATTACK]}, "files": {ATTACK: ATTACK}}
    (built / "dataset.json").write_bytes(describe(told))
    _, page = report(built)
    assert not page.all("b")
    assert any(ATTACK in text for text in page.inside("h1"))
    assert any(ATTACK in text for text in page.inside("td"))


def test_a_step_that_is_not_known_is_told_by_its_name_and_plain_values() -> None:
    line = Line("2", "train", "1", (("strange", {"depth": 3, "way": "up", "parts": [1]}),))
    assert describe_change(line) == "strange depth 3, way up"
    assert count_changes([line]) == {"change": {"strange": 1}}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, [], {}, "", -1, 1e300, True])
def test_odd_values_in_a_manifest_are_no_reason_to_fail(value: object, built: Path) -> None:
    line = next(line for line in manifest(built) if {"mixup", "move"} <= steps(line).keys())
    for choice in [*steps(line).values(), line["facts"]]:
        for key in list(choice):
            before, choice[key] = choice[key], value
            odd = replace(parse_line(json.dumps(line)), facts=line["facts"])
            assert describe_change(odd)
            assert count_changes([odd])
            choice[key] = before


def test_the_program_on_the_page_makes_an_output_again(
    built: Path, report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, page = report(built)
    (program,) = [text for text in page.inside("code") if text.startswith("import")]
    monkeypatch.chdir(tmp_path)
    exec(compile(program, "page", "exec"), {})  # it compares the hash itself
    id_ = next(line for line in reversed(manifest(built)) if line["source"] != line["id"])["id"]
    assert id_ in program
    made = cv2.imread(str(tmp_path / "remade.png"), cv2.IMREAD_UNCHANGED)
    stored = cv2.imread(str(built / "images" / f"{id_}.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(made, stored)


def test_the_configuration_on_the_page_builds_the_set_again(
    built: Path, report: Report, tmp_path: Path, synth: Synth
) -> None:
    _, page = report(built)
    (text,) = [text for text in page.inside("code") if text.startswith("name:")]
    assert yaml.safe_load(text)["name"] == "small"
    (tmp_path / "again.yaml").write_text(text)
    outcome = synth("build", tmp_path / "again.yaml", "--out", tmp_path / "again", "--jobs", 1)
    assert outcome.status == 0, outcome.err
    for name in ("manifest.jsonl", "dataset.json"):
        assert (tmp_path / "again" / name).read_bytes() == (built / name).read_bytes()


def test_frames_whose_noise_is_the_sets_own_are_at_no_distance(
    make_set: MakeSet, report: Report
) -> None:
    made = make_set(train=4, test=0, targets=0, shapes=((96, 96),))
    found, page = report(made.root, "--noise", made.root / "images")
    assert set(found["noise"]["scores"]["originals"].values()) == {0}
    assert found["noise"]["floor"]["wasserstein"] > 0
    assert "Noise" in page.inside("h2")
    assert len(found["noise"]["spectra"]) == 2


def test_louder_frames_have_more_power(make_set: MakeSet, report: Report, tmp_path: Path) -> None:
    made = make_set(train=3, test=0, targets=0, shapes=((96, 96),))
    rng = np.random.default_rng(0)
    (tmp_path / "loud").mkdir()
    for number in range(3):
        frame = rng.normal(100, 8, (96, 96)).clip(0, 255).astype(np.uint8)
        cv2.imwrite(str(tmp_path / "loud" / f"{number}.png"), frame)
    found, _ = report(made.root, "--noise", tmp_path / "loud")
    power = {name: np.mean(of["power"]) for name, of in found["noise"]["spectra"].items()}
    assert power["frames of loud"] / power["originals"] == pytest.approx(4, rel=0.15)


def test_the_sets_own_noise_is_compared_where_no_frames_are_given(
    built: Path, report: Report
) -> None:
    found, _ = report(built)
    assert found["noise"]["real"] == "the set's noise.npz"


def write_camera(folder: Path, sigma: float, frames: int) -> Path:
    """Flat frames with white noise."""
    rng = np.random.default_rng(frames)
    folder.mkdir(parents=True)
    for number in range(frames):
        frame = rng.normal(100, sigma, (96, 96)).clip(0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), frame)
    return folder


def test_cameras_weigh_alike_however_many_frames_they_have(
    make_set: MakeSet, report: Report, synth: Synth, tmp_path: Path
) -> None:
    made = make_set(train=3, test=0, targets=0, shapes=((96, 96),))
    cameras = tmp_path / "cameras"
    write_camera(cameras / "quiet", 4, 6)
    write_camera(cameras / "loud", 12, 2)
    write_camera(cameras / "dark", 0, 2)  # which shows nothing, and is left out
    found, _ = report(made.root, "--noise", cameras)
    name = "frames of cameras, 2 cameras alike"
    assert found["noise"]["real"] == name
    blocks = found["noise"]["blocks"]
    assert blocks[name] == pytest.approx(4 / 3 * blocks["originals"], rel=0.1)
    power = {group: np.mean(of["power"]) for group, of in found["noise"]["spectra"].items()}
    assert power[name] / power["originals"] > 2
    for folder in ("quiet", "loud"):
        shutil.rmtree(cameras / folder)
    write_camera(cameras / "night", 0, 2)
    outcome = synth("report", made.root, "--noise", cameras, "--out", tmp_path / "a.html")
    assert (outcome.status, outcome.err.count("\n")) == (1, 1)
    assert "cameras: no block of these frames shows noise alone; give others" in outcome.err


def test_the_noise_of_a_model_is_that_of_its_frames(
    make_set: MakeSet, report: Report, synth: Synth, tmp_path: Path
) -> None:
    made = make_set(train=3, test=1, shapes=((96, 96),))
    camera = write_camera(tmp_path / "camera", 9, 4)
    config = tmp_path / "my.yaml"
    config.write_text("negatives: {steps: [turn: {side: 9}, residual]}\n")
    out = tmp_path / "modelled"
    noise = ("--noise", camera, "--jobs", 1)
    assert synth("build", config, "--data", made.root, *noise, "--out", out).status == 0
    own, frames = report(out)[0]["noise"], report(out, "--noise", camera)[0]["noise"]
    assert own["real"] == "the set's noise.npz"
    powers = [np.mean(one["spectra"][one["real"]]["power"]) for one in (own, frames)]
    assert powers[0] == pytest.approx(powers[1], rel=0.15)


def test_noise_of_another_depth_is_noted_and_not_compared(
    make_set: MakeSet, report: Report
) -> None:
    deep = make_set("deep", train=2, test=0, targets=0, dtype=np.uint16, shapes=((96, 96),))
    flat = make_set("flat", train=2, test=0, targets=0, shapes=((96, 96),))
    found, page = report(flat.root, "--noise", deep.root / "images")
    assert found["noise"]["scores"] == {}
    (text,) = found["noise"]["notes"]
    assert "8 bits" in text
    assert text in page.text


@pytest.mark.parametrize("name", ["dataset.json", "manifest.jsonl"])
def test_a_file_that_no_build_left_is_noted(name: str, built: Path, report: Report) -> None:
    (built / name).write_bytes(b'{"images": []}\n')
    found, page = report(built)
    (text,) = found["notes"]
    assert name in text
    assert text in page.text


def test_the_same_set_makes_the_same_page(built: Path, synth: Synth, tmp_path: Path) -> None:
    pages = []
    for jobs in (1, 2):
        out = tmp_path / f"{jobs}.html"
        assert synth("report", built, "--out", out, "--jobs", jobs).status == 0
        pages.append(out.read_bytes())
    assert pages[0] == pages[1]


def test_wrong_usage_is_one_line(built: Path, synth: Synth, tmp_path: Path) -> None:
    for out, part in ((built / "report.html", "outside"), (tmp_path / "page.txt", ".html")):
        outcome = synth("report", built, "--out", out)
        assert outcome.status == 2
        assert part in outcome.err
        assert outcome.err.count("\n") == 1
        assert not out.exists()


def test_errors_are_one_line_that_names_the_file(
    small_set: SmallSet, synth: Synth, tmp_path: Path
) -> None:
    out = tmp_path / "page.html"
    small_set.image("002").write_bytes(b"\x89PNG\r\n\x1a\n")
    for root, part in (
        (small_set.root, "002.png"),
        (tmp_path / "absent", "absent"),
        (tmp_path, "images"),
    ):
        outcome = synth("report", root, "--out", out)
        assert outcome.status == 1
        assert outcome.err.count("\n") == 1
        assert part in outcome.err
        assert not out.exists()
    outcome = synth("report", small_set.root, "--out", out, "--noise", tmp_path / "none")
    assert outcome.status == 1
    assert outcome.err.count("\n") == 1


def test_changes_are_counted_one_by_one() -> None:
    plain = Line("a", "train", "a")
    choice = {"target": 0, "quarter_turns": 3, "side": 9, "mirror": False, "blend": "paste"}
    turned = replace(plain, steps=(("turn", choice),))
    noise = ("residual", {"frame": 1, "strength": 0.5, "seed": 1})
    noisy = replace(plain, steps=(noise,), facts={"noisier": 0.7})
    items = [{"kind": "edge", "draw": 1}, {"kind": "edge", "draw": 2}]
    lost = replace(
        plain,
        steps=(*turned.steps, ("distract", {"items": items})),
        facts={"distractor_boxes": [None, [1]]},
    )
    found = count_changes([plain, turned, noisy, lost])
    assert found == {
        "change": {"target turned": 2, "noise alone": 1},
        "quarter turns": {"270°": 2},
        "side of the box": {"9 pixels": 2},
        "blending": {"paste": 2},
        "noise": {"residual, 0.5": 1},
        "noise that was there": {"as much on half of the pixels or more": 1},
        "distractors": {"edge": 1, "edge, which found no place": 1},
    }


def test_a_step_that_is_there_twice_has_its_own_facts() -> None:
    items = [{"kind": "edge", "draw": 1}]
    moves = [("move", {"target": 0, "draw": 1}), ("move", {"target": 0, "draw": 2})]
    distract = ("distract", {"items": items})
    line = Line(
        "b",
        "train",
        "a",
        (*moves, distract, ("distract", {"items": 2 * items})),
        {
            "shift": [1, 2],
            "shift_2": [3, 4],
            "distractor_boxes": [[0, 0, 9, 9]],
            "distractor_boxes_4": [[1, 1, 9, 9], [2, 2, 9, 9]],
        },
    )
    told = describe_change(line)
    assert "moved by 1, 2" in told
    assert "moved by 3, 4" in told
    assert count_changes([line])["distractors"] == {"edge": 3}


def test_a_real_set_makes_a_page(report: Report, synth: Synth, tmp_path: Path) -> None:
    root = real_data("NUAA-SIRST")
    found, _ = report(root)
    assert found["counts"]["splits"] == {"train": 213, "test": 214}
    assert found["targets"]["originals"] > 213
    assert len(found["sizes"]) > 3
