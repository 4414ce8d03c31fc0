"""Every command takes a set in shards as it takes the same set in loose files."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest
import yaml
from html_pages import Page
from small_sets import Outcome, SmallSet, write_small_set

from detect.lineage import read_origins
from pipelines.build.config import BuildConfig
from pipelines.build.parallel import Pool
from pipelines.build.run import ShardSize, build
from pipelines.build.sources import dataset_source
from pipelines.quality import open_frames, score_frames
from pipelines.seams import measure_seams
from pipelines.study_sets import open_labelled, open_noise
from synth.dataset import open_dataset
from synth.disk.looseset import open_loosely
from synth.errors import DatasetError
from synth.inspect.check import check_dataset

Synth = Callable[..., Outcome]
Tree = Callable[[Path], dict[str, bytes]]
Sets = tuple[Path, Path]


def write_source(root: Path, prefix: str) -> SmallSet:
    """Images of several types, masks of odd values, a copy of a test image in no list."""
    made = write_small_set(root, train=5, test=3, shapes=((48, 64), (60, 61)), prefix=prefix)
    for id_, suffix in ((made.train[1], ".TIF"), (made.train[2], ".bmp"), (made.test[0], ".jpg")):
        frame = cv2.imread(str(made.image(id_)), -1)
        made.image(id_).unlink()
        # OpenCV knows no type in capitals.
        written = made.image(id_).with_suffix(suffix.lower())
        cv2.imwrite(str(written), frame)
        written.rename(made.image(id_).with_suffix(suffix))
    colour = cv2.cvtColor(cv2.imread(str(made.image(made.train[3])), -1), cv2.COLOR_GRAY2BGR)
    colour[..., 0] //= 2
    cv2.imwrite(str(made.image(made.train[3])), colour)
    mask = cv2.imread(str(made.mask(made.test[1])), -1)
    cv2.imwrite(str(made.mask(made.test[1])), mask // 255)
    return made


@pytest.fixture(scope="module", params=["", "frame.v2 %"], ids=["numbers", "names"])
def sets(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Sets:
    """The same set as loose files and in shards; negatives are called by numbers or by names."""
    place = tmp_path_factory.mktemp("sets")
    source = write_source(place / "source", request.param)
    config = BuildConfig.model_validate(
        {
            "name": "small",
            "data": source.root,
            "noise": {"sample": {"side": 8, "max_var": 5000}},
            # Two rounds and a half of the turns of ten targets.
            "negatives": {
                "count": 100,
                "steps": [
                    "mixup",
                    {
                        "choose": [
                            {"share": 0.3, "move": {}},
                            {"share": 0.7, "turn": {"side": 9, "mirror": True}},
                        ]
                    },
                ],
            },
        }
    )
    loose, sharded = place / "loose" / "small", place / "sharded" / "small"
    build(config, loose, jobs=1)
    build(config, sharded, jobs=1, shards=ShardSize(outputs=17))
    return loose, sharded


def said(outcome: Outcome) -> dict[str, Any]:
    assert outcome.status == 0, outcome.err
    return dict(json.loads(outcome.out))


def test_ids_files_and_origins_are_the_same(sets: Sets) -> None:
    loose, sharded = map(open_dataset, sets)
    assert dict(sharded.splits) == dict(loose.splits)
    assert read_origins(sharded) == read_origins(loose)
    assert [path.name for path in sharded.manifests()][:2] == [
        "train-000000.jsonl",
        "train-000001.jsonl",
    ]
    for id_ in loose.ids("all"):
        for one, other in (
            (loose.image_file(id_), sharded.image_file(id_)),
            (loose.mask_file(id_), sharded.mask_file(id_)),
        ):
            assert one.read() == other.read()
            assert one.path.suffix == other.path.suffix


def test_check_finds_the_same(sets: Sets, synth: Synth) -> None:
    def faults(root: Path) -> dict[str, Any]:
        outcome = synth("check", root, "--json")
        found = dict(json.loads(outcome.out)) | {"dataset": "", "status": outcome.status}
        # Members have other names than files, and no folders.
        del found["folders"]
        for fault in found["faults"]:
            del fault["cases"]
        return found

    loose, sharded = map(faults, sets)
    assert loose == sharded
    names = {fault["fault"] for fault in loose["faults"]}
    assert {"colour image", "nearly equal images in one split"} <= names


def test_check_names_the_member(sets: Sets) -> None:
    report = check_dataset(open_loosely(sets[1]).dataset)
    assert report.faults["colour image"][0].endswith("004.png")


def test_check_repairs_into_the_same_loose_files(
    sets: Sets, synth: Synth, tree: Tree, tmp_path: Path
) -> None:
    repaired = []
    for number, root in enumerate(sets):
        out = tmp_path / str(number) / "fixed"
        found = said(synth("check", root, "--fix", "--out", out, "--json"))["fixed"]
        files = tree(out)
        # Where it is from tells the sets apart.
        del files["dataset.json"]
        repaired.append((found["counts"], found["dropped"], files))
    assert repaired[0] == repaired[1]


def test_quality_is_the_same(sets: Sets, synth: Synth, tmp_path: Path) -> None:
    def scores(root: Path) -> dict[str, Any]:
        model = tmp_path / "niqe.npz"
        options = ["--split", "all", "--limit", 40, "--fit-niqe", model, "--patch", 16]
        found = said(synth("quality", root, "--against", sets[0], *options, "--json"))
        found["dataset"]["path"] = found["against"]["path"] = ""
        return found | {"model": model.read_bytes()}

    loose, sharded = map(scores, sets)
    assert sharded == loose
    assert sharded["gains"]["without_partner"] == sharded["gains"]["other_mask"] == 0
    assert {pair["scr_gain"] for pair in sharded["gains"]["targets"]} == {1.0}


def test_seams_are_the_same(sets: Sets) -> None:
    assert measure_seams(sets[1], limit=40) == measure_seams(sets[0], limit=40)


def test_noise_on_it_and_turns_of_it_are_the_same(
    sets: Sets, synth: Synth, tree: Tree, tmp_path: Path
) -> None:
    noise = sets[0] / "noise.npz"
    for command in (["transfer", "--noise", noise], ["rotate", "--side", 9, "--seed", 3]):
        made = []
        for number, root in enumerate(sets):
            out = tmp_path / f"{command[0]}{number}" / "out"
            said(synth(command[0], root, *command[1:], "--out", out, "--json"))
            made.append(tree(out))
        assert made[0] == made[1]


@pytest.mark.parametrize("name", ["coco", "yolo-seg", "webdataset"])
def test_exports_are_the_same(
    sets: Sets, synth: Synth, tree: Tree, tmp_path: Path, name: str
) -> None:
    made = []
    for number, root in enumerate(sets):
        out = tmp_path / str(number) / "out"
        said(synth("export", root, "--format", name, "--out", out, "--json"))
        made.append(tree(out))
    assert made[0] == made[1]


@pytest.mark.parametrize("backend", ["threads", "processes"])
def test_builds_from_it_are_the_same(
    sets: Sets, synth: Synth, tree: Tree, tmp_path: Path, backend: str
) -> None:
    config = tmp_path / "again.yaml"
    # Negatives that are called by names would be called as those that are there.
    count = 900 if open_dataset(sets[0]).ids("train")[0].isdigit() else 0
    settings = {
        "noise": {"sample": {"side": 8, "max_var": 5000}},
        "negatives": {"count": count, "steps": ["mixup", {"turn": {"side": 9}}]},
    }
    config.write_text(yaml.safe_dump(settings))
    made = []
    for number, root in enumerate(sets):
        out = tmp_path / str(number) / "out"
        workers = ("--jobs", 2, "--backend", backend)
        said(synth("build", config, "--data", root, "--out", out, *workers, "--json"))
        made.append(tree(out))
    assert made[0] == made[1]
    # A build that is there is that of either.
    found = said(synth("build", config, "--data", sets[1], "--out", tmp_path / "0/out", "--json"))
    assert found["made"] == 0


def test_reports_are_the_same(sets: Sets, synth: Synth, tmp_path: Path) -> None:
    found, pages = [], []
    for root in sets:
        out = tmp_path / "report.html"
        one = said(synth("report", root, "--out", out, "--json"))
        assert one["provenance"].pop("sha256")
        for key in ("files", "folders", "shards"):
            one["provenance"].pop(key, None)
        one["provenance"]["configuration"].pop("shards", None)
        found.append(one | {"dataset": ""})
        pages.append(Page.read(out))
    assert found[0] == found[1]
    assert found[0]["counts"]["made"] == 100
    assert pages[0].all("img") == pages[1].all("img")
    assert len(pages[0].all("img")) > 24


def test_the_report_says_how_to_make_it_again(
    sets: Sets, synth: Synth, tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said(synth("report", sets[1], "--out", tmp_path / "report.html", "--json"))
    page = Page.read(tmp_path / "report.html")
    assert "--format webdataset --shard-size 17 --out again" in page.text
    blocks = page.inside("code")
    (tmp_path / "again.yaml").write_text(next(one for one in blocks if one.startswith("name:")))
    again = ("--data", sets[0].parents[1] / "source", "--shard-size", 17)
    config = tmp_path / "again.yaml"
    said(synth("build", config, *again, "--format", "webdataset", "--out", tmp_path / "again",
               "--json"))  # fmt: skip
    assert tree(tmp_path / "again") == tree(sets[1])
    program = next(one for one in blocks if one.startswith("import hashlib"))
    monkeypatch.chdir(tmp_path)
    exec(compile(program, "remake.py", "exec"), {})
    assert (tmp_path / "remade.png").is_file()


def test_what_makes_no_sense_is_told(sets: Sets, synth: Synth, tmp_path: Path) -> None:
    sharded = sets[1]
    outcome = synth("split", sharded, "--out", tmp_path / "lists")
    assert outcome.status == 1
    assert "is a built set" in outcome.err
    for call in (
        lambda: open_labelled(sharded, Pool(1, "threads")),
        lambda: open_noise(sharded, {}, Pool(1, "threads")),
    ):
        with pytest.raises(DatasetError, match="is in shards, and a study links to files"):
            call()


def test_one_image_is_in_memory_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_small_set(tmp_path / "source", train=24, test=2, shapes=((512, 512),))
    config = BuildConfig.model_validate(
        {
            "name": "large",
            "data": source.root,
            "noise": None,
            "negatives": {"steps": [{"turn": {"side": 9}}]},
        }
    )
    build(config, tmp_path / "out", jobs=1, shards=ShardSize(outputs=200))
    frame = 512 * 512

    def peak(work: Callable[[], object]) -> int:
        tracemalloc.start()
        work()
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    dataset = open_dataset(tmp_path / "out")
    assert len(dataset.ids("all")) == 26 + 24 * 2 * 4
    frames = open_frames(tmp_path / "out", "train", 20)
    assert peak(lambda: open_frames(tmp_path / "out")) < 4 * frame
    assert peak(lambda: score_frames(frames, None, None, map)) < 60 * frame
    # Of a survey as many pairs are kept for the workers as there is room for.
    for room in (0, 20 * frame):
        monkeypatch.setattr("pipelines.build.sources.KEPT_BYTES", room)
        pairs = dataset_source(dataset).splits["train"]
        used = peak(lambda: [pair.survey(held_out=False).digest for pair in pairs])  # noqa: B023
        assert room <= used < room + 12 * frame


def test_images_of_a_set_that_was_read_from_another_format_are_originals(
    synth: Synth, small_set: SmallSet, tmp_path: Path
) -> None:
    out = tmp_path / "fixed"
    said(synth("check", small_set.root, "--fix", "--out", out, "--json"))
    assert not any(origin.made for origin in read_origins(open_dataset(out)).values())
    found = said(synth("report", out, "--out", tmp_path / "page.html", "--json"))
    assert found["counts"]["originals"] == 6
