"""The page of results says what the committed files say, and nothing else."""

from __future__ import annotations

import csv
import io
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from real_data import real_data

from detect.curve import THRESHOLDS
from docs.results_page import DAGGER, Files, draw, fill, loose_numbers, main
from pipelines.study_results import ARM_COLUMNS, CURVE_COLUMNS, RUN_COLUMNS, recompute
from pipelines.study_scores import RunScores, archive_path
from synth.dataset import open_dataset
from synth.errors import StoreError
from synth.inspect.check import check_dataset

DOCS = Path(__file__).parents[2] / "docs"
COMMITTED = Files(DOCS / "results", DOCS.parent / "configs" / "study")


# Studies that were run before scores of images were kept.
BEFORE = {
    *("a-full", "a-leave-one-out", "a-long", "a-wide", "acm", "acm-few", "acm-long", "acm-taught"),
    *("b-again", "b-long", "b-nuaa", "b-nudt", "b-wide", "e-few", "e-own"),
}


def read_page() -> str:
    return (DOCS / "results.md").read_text(encoding="utf-8")


def test_tables_and_settings_are_those_of_the_committed_files() -> None:
    assert fill(read_page(), COMMITTED) == read_page(), "run `make results`"


def test_the_text_has_no_numbers_that_are_not_filled() -> None:
    assert loose_numbers(read_page()) == []


def test_pictures_are_those_that_the_files_give() -> None:
    shown = re.findall(r"\]\(results/([\w.-]+\.png)\)", read_page())
    assert sorted(shown) == sorted(path.name for path in COMMITTED.results.glob("*.png"))
    drawn = draw(read_page(), COMMITTED)
    assert sorted(drawn) == sorted(shown)
    for name, picture in drawn.items():
        # Pixels: the bytes also name the version of matplotlib.
        ours, theirs = Image.open(io.BytesIO(picture)), Image.open(COMMITTED.results / name)
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs), f"{name}: make results")


def test_the_short_table_has_every_tested_arm() -> None:
    compared = {
        (summary["study"], entry["arm"], entry["split"])
        for summary in recompute(COMMITTED.results)
        for entry in summary["table"]
        if entry["arm"] != entry["baseline"] and entry["split"] != "val"
        if "+tta" not in entry["split"] and summary["study"] != "a-leave-one-out"
    }
    lines = re.findall(r"^[^|\n]+\|([^|\n]+)\|([^|\n]+)\|([^|\n]+)$", read_page(), re.MULTILINE)
    listed = {tuple(name.strip() for name in line) for line in lines}
    assert compared <= listed


@pytest.mark.parametrize("name", ["NUDT-SIRST", "NUAA-SIRST"])
def test_sizes_and_near_duplicates_of_sets_are_those_of_the_data(name: str) -> None:
    with (COMMITTED.results / "sets.csv").open(newline="") as stream:
        (row,) = (row for row in csv.DictReader(stream) if row["set"] == name)
    dataset = open_dataset(real_data(name))
    found = {split: len(dataset.ids(split)) for split in ("train", "test")}
    cases = check_dataset(dataset).faults.get("nearly equal images in two splits", [])
    assert found | {"near_duplicates": len(cases)} == {
        key: int(row[key]) for key in row if key != "set"
    }


def test_committed_runs_have_their_scores_of_images() -> None:
    with (COMMITTED.results / "runs.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    known = {
        archive_path(
            COMMITTED.results,
            *(row["study"], row["arm"], float(row["fraction"]), int(row["seed"]), row["split"]),
        )
        for row in rows
    }
    found = {path for path in (COMMITTED.results / "scores").rglob("*") if path.is_file()}
    assert found <= known
    assert {path for path in known if path.parents[2].name not in BEFORE} <= found


def write(path: Path, columns: tuple[str, ...], *lines: str) -> None:
    path.write_text("\n".join([",".join(columns), *lines, ""]))


def scores_of(intersection: int) -> RunScores:
    """Eight images with the same IoU, `intersection` in 100, so that intervals have no width."""
    counts = np.tile(np.array([intersection, 100, 1, 1, 0, 1000], np.int64), (8, 1))
    curve = np.tile(counts.sum(0)[2:], (len(THRESHOLDS), 1))
    return RunScores(tuple("abcdefgh"), counts, curve)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """A study of two seeds in which `good` gains and `bad` loses ten points in every image."""
    results, configs = tmp_path / "results", tmp_path / "configs" / "study"
    results.mkdir()
    configs.mkdir(parents=True)
    iou = {"originals": (50, 52), "good": (60, 62), "bad": (40, 42)}
    lines = []
    for arm, values in iou.items():
        for seed, value in enumerate(values):
            lines.append(f"mine,{arm},small,0.1,{seed},4,test,0.{value},1,0")
            path = archive_path(results, "mine", arm, 0.1, seed, "test")
            scores_of(value).save(path)
    write(results / "runs.csv", RUN_COLUMNS, *lines)
    write(
        results / "curves.csv",
        CURVE_COLUMNS,
        *(f"mine,{arm},0.1,0,{step},0.{step},1,0,1" for arm in iou for step in (2, 4)),
    )
    write(results / "arms.csv", ARM_COLUMNS, *(f"mine,{arm},originals" for arm in iou))
    write(results / "late.csv", ("study", "arm", "split"), "mine,bad,")
    sets = ("set", "train", "test", "near_duplicates")
    write(results / "sets.csv", sets, "FRAMES,1200,400,40")
    (configs / "train.yml").write_text("steps: 4\n")
    (configs / "mine.yaml").write_text(
        "name: mine\nsteps: 4\nbatch: 4\nepoch_steps: 2\nvalidation: 0.3\nseeds: [0, 1, 2]\n"
        "fractions: [0.1]\nbaseline: originals\n"
        "train: train.yml\narms: {originals: , good: , bad: , other: }\n"
    )
    return Files(results, configs)


def table(marker: str, files: Files) -> str:
    page = f"# A page\n\n<!-- table: {marker} -->\n<!-- end -->\n"
    filled = fill(page, files)
    assert fill(filled, files) == filled
    return filled


def test_an_interval_without_0_is_bold_whichever_way_it_points(files: Files) -> None:
    text = table("scores mine", files)
    assert "**+10.0 [+10.0, +10.0]**" in text
    assert "**−10.0 [−10.0, −10.0]**" in text
    assert "| 0.0 [0.0, 0.0] |" in text


def test_an_arm_that_was_planned_late_has_a_dagger(files: Files) -> None:
    text = table("scores mine", files)
    assert f"`bad` {DAGGER} |" in text
    assert text.count(DAGGER) == 1


def test_without_scores_of_images_there_are_differences_by_seed(files: Files) -> None:
    shutil.rmtree(files.results / "scores" / "mine" / "good")
    text = table("scores mine arms=good,bad", files)
    assert "| +10.0 (+10.0, +10.0) |" in text
    assert "**−10.0 [−10.0, −10.0]**" in text
    assert "`originals` | 100.0 |" in table("pd-at-fa mine", files)
    assert "`good`" not in table("pd-at-fa mine", files)


def test_a_line_of_the_short_table_is_that_of_the_long_one(files: Files) -> None:
    lines = (
        "\nIs it good? | mine | good | test\nIs it bad? | mine | bad | test\nAnd? | no | a | test\n"
    )
    text = table(f"short{lines}", files)
    assert (
        "| Is it good? | `mine`: `good` | 10% | `test` | 0, 1 | **+10.0 [+10.0, +10.0]** |" in text
    )
    assert f"| Is it bad? | `mine`: `bad` {DAGGER} | 10% | `test` | 0, 1 | **−10.0" in text
    assert "| And? | `no`: `a` |  | `test` |  | *not run yet* |" in text


def test_what_was_not_run_is_listed(files: Files) -> None:
    (row,) = [line for line in table("missing", files).splitlines() if "`other`" in line]
    assert row == "| `mine` | 10% | `other` | 0 to 2 | all |"
    rows = [line for line in table("missing", files).splitlines() if "`good`" in line]
    assert "| `mine` | 10% | `originals`, `good`, `bad` | 2 | `test` |" in rows


def test_a_study_without_results_says_so(files: Files) -> None:
    assert "*Not run yet.*" in table("scores noise", files)


@pytest.mark.parametrize(
    ("marker", "words"),
    [
        ("scores mine arms=god", "there is no arm 'god'; there are originals, good, bad"),
        ("scores mine splits=tset", "there is no split 'tset'; there are test"),
        ("scrs mine", "there is no such table; there are scores"),
        ("scores mine yours", "give one study"),
        ("short\nIs it? | mine | god | test\n", "there is no god of mine on test"),
    ],
)
def test_a_marker_that_asks_for_what_is_not_there_is_an_error(
    files: Files, marker: str, words: str
) -> None:
    with pytest.raises(StoreError, match=words):
        table(marker, files)


def test_a_marker_without_an_end_is_an_error(files: Files) -> None:
    page = "<!-- table: scores mine -->\n\n<!-- table: reach mine -->\n<!-- end -->\n"
    with pytest.raises(StoreError, match="has no <!-- end -->"):
        fill(page, files)


TRUE = """
## Good

The study has <!-- = mine.steps -->4<!-- = --> steps with windows
of <!-- = mine.augment.crop -->256<!-- = --> pixels.
It has <!-- = mine.images of FRAMES -->84<!-- = --> labelled images
of <!-- = FRAMES.train -->1,200<!-- = -->, or <!-- = mine.labels -->10%<!-- = --> of the labels.
There are <!-- = FRAMES.near_duplicates -->40<!-- = --> pairs of nearly equal images (`test+tta9`).
With negatives it is ahead in every seed; with bad ones it is behind in both.

<!-- table: scores mine -->

<!-- end -->
"""


def is_true(page: str, files: Files) -> bool:
    return fill(page, files) == page and loose_numbers(page) == []


@pytest.mark.parametrize(
    ("was", "is_"),
    [
        ("ahead in every seed", "ahead in every seed, by up to 5.7 in the mean"),
        ("ahead in every seed", "ahead in every seed: IoU +9.5"),
        ("ahead in every seed", "ahead in every seed: IoU −10.0"),
        ("ahead in every seed", "ahead in every seed: IoU `+10.0`"),
        ("ahead in every seed", "ahead in every seed: IoU +10.0"),  # true, but for how long?
        ("behind in both", "behind in both, at a cost of 0.1"),
        ("ahead in every seed", "ahead in every seed, by half a point"),
        ("ahead in every seed", "ahead in every seed, by two"),
        ("->40<!", "->95<!"),
        ("->84<!", "->45<!"),
        ("->1,200<!", "->1,300<!"),
        ("->10%<!", "->25%<!"),
        ("->4<!", "->5<!"),
        ("| **+10.0 [", "| **−10.0 ["),
        ("**−10.0 [−10.0, −10.0]**", "−10.0 [−10.0, +10.0]"),
        ("## Good", "## Good in 9 seeds"),
    ],
)
def test_a_changed_number_is_found(files: Files, was: str, is_: str) -> None:
    page = fill(TRUE, files)
    assert is_true(page, files)
    assert was in page
    assert not is_true(page.replace(was, is_, 1), files)


def test_a_question_of_the_short_table_is_text(files: Files) -> None:
    page = table("short\nGood by 10.0? | mine | good | test\n", files)
    assert loose_numbers(page) == ["A page: 10.0"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("x <!-- = mine.stepps --><!-- = -->", "there is no such value"),
        ("x <!-- = yours.steps --><!-- = -->", "there is no such value"),
        ("x <!-- = mine.images of OTHERS --><!-- = -->", "there is no such value"),
        ("x <!-- = mine.seeds --><!-- = -->", "there is no such value"),
        ("x <!-- = mine.steps -->", "has no <!-- = --> on its line"),
        ("- <!-- = mine.steps --><!-- = -->", "begins a line"),
    ],
)
def test_a_value_that_cannot_be_filled_is_an_error(files: Files, value: str, words: str) -> None:
    with pytest.raises(StoreError, match=words):
        fill(f"# A page\n\n{value}\n", files)


def test_the_command_fills_a_page_and_lists_its_loose_numbers(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    page = files.results.with_suffix(".md").parent / "docs" / "results.md"
    page.parent.mkdir()
    files.results.rename(page.with_suffix(""))
    page.write_text(TRUE.replace("84", "85"), encoding="utf-8")
    assert main([str(page)]) == 0
    assert "of FRAMES -->84<" in page.read_text(encoding="utf-8")
    page.write_text(page.read_text(encoding="utf-8") + "By 3.\n", encoding="utf-8")
    assert main([str(page)]) == 1
    assert "Good: 3 is no value" in capsys.readouterr().err


def test_a_missing_page_is_an_error_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "none.md")]) == 1
    assert "none.md: cannot be read" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([])
    assert "usage:" in capsys.readouterr().err


def test_filling_agrees_with_recomputing(files: Files) -> None:
    (summary,) = recompute(files.results)
    good = next(row for row in summary["table"] if row["arm"] == "good")
    assert f"| {100 * good['iou']['mean']:.1f} |" in table("scores mine arms=good", files)
