"""Builds that put targets into other images: same bytes anywhere, and no test image among them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from made_again import assert_made_again, read_lines, steps
from small_sets import SmallSet, write_small_set

from pipelines.build.config import BuildConfig
from pipelines.build.run import ShardSize, build
from pipelines.report.set_page import remake_script
from pipelines.seams import measure_seams
from synth.dataset import open_dataset
from synth.errors import DatasetError, NoiseError, RecipeError
from synth.frames import read_frame

Tree = Callable[[Path], dict[str, bytes]]


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """Two cameras with frames that show no targets."""
    rng = np.random.default_rng(5)
    for name in ("north/1.png", "north/2.png", "south/1.png"):
        file = tmp_path / "frames" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), rng.normal(90, 5, (96, 120)).clip(0, 255).astype(np.uint8))
    return tmp_path / "frames"


def config(data: Path, *frames: Path, noise: bool = True, hosts: Any = None) -> BuildConfig:
    put = {"scr": [2, 8], "zoom": [1, 2]}
    hosts = ["training", "noise"] if hosts is None else hosts
    steps: list[Any] = [
        {
            "choose": [
                {"share": 0.8, "transplant": {**put, "hosts": hosts}},
                {"share": 0.2, "move": put},
            ]
        },
        {"distract": {"count": [0, 1]}},
    ]
    return BuildConfig.model_validate(
        {
            "name": "hosted",
            "data": data,
            "noise": {"frames": list(frames)} if noise or "noise" in hosts else None,
            "negatives": {
                "count": 60,
                "steps": steps + [{"residual": {"share": 0.5}}] * noise,
            },
        }
    )


def records(out: Path) -> list[dict[str, Any]]:
    return [line for line in read_lines(out) if "transplant" in steps(line)]


def test_the_same_bytes_come_from_all_workers_and_layouts(
    small_set: SmallSet, frames: Path, tmp_path: Path, tree: Tree
) -> None:
    settings = config(small_set.root, frames)
    build(settings, tmp_path / "one", jobs=1)
    build(settings, tmp_path / "threads", jobs=3)
    build(settings, tmp_path / "processes", jobs=2, backend="processes")
    for name in ("threads", "processes"):
        assert tree(tmp_path / name) == tree(tmp_path / "one")
    build(settings, tmp_path / "shards", jobs=2, shards=ShardSize(outputs=20))
    loose, sharded = open_dataset(tmp_path / "one"), open_dataset(tmp_path / "shards")
    for id_ in loose.ids("train"):
        for ours, theirs in zip(loose.read_pair(id_), sharded.read_pair(id_), strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("noise", [False, True])
def test_every_output_is_made_again_from_its_line(
    small_set: SmallSet, frames: Path, tmp_path: Path, noise: bool
) -> None:
    kinds = ["training", "noise"] if noise else ["training"]
    out = tmp_path / "out"
    build(config(small_set.root, frames, noise=noise, hosts=kinds), out, jobs=1)
    source = open_dataset(small_set.root)

    def load(name: str) -> tuple[Any, Any]:
        if name in source.images:
            return source.read_pair(name)
        frame = read_frame(frames / name)
        return frame, np.zeros(frame.shape, bool)

    found = records(out)
    assert len(found) > 30
    for line in found:
        assert_made_again(out, line, source, load)
        label = open_dataset(out).read_mask(line["id"])
        for place in line["facts"]["places"]:
            assert place is None or label[tuple(place)]
    names = {"north/1.png", "north/2.png", "south/1.png"} if noise else set()
    hosts = {steps(line)["transplant"]["host"] for line in found}
    assert hosts == {*small_set.train} | names
    assert {read_frame(out / line["image"]).shape for line in found} == {(48, 64)}


def test_the_page_says_how_an_output_is_made_again(
    small_set: SmallSet, frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "set"
    build(config(small_set.root, frames), out, jobs=1)
    own = [one for one in records(out) if steps(one)["transplant"]["host"] in small_set.train]
    line = own[0]
    description = json.loads((out / "dataset.json").read_text())
    monkeypatch.chdir(tmp_path)
    exec(remake_script(out, line["id"], description), {})
    assert (tmp_path / "remade.png").read_bytes() == (out / line["image"]).read_bytes()


def test_other_frames_make_another_set(small_set: SmallSet, frames: Path, tmp_path: Path) -> None:
    described = []
    for number in range(2):
        out = tmp_path / f"set{number}"
        build(config(small_set.root, frames), out, jobs=1)
        described.append(json.loads((out / "dataset.json").read_text())["hosts"])
        frame = read_frame(frames / "north" / "1.png").copy()
        frame[0, 0] += 1
        cv2.imwrite(str(frames / "north" / "1.png"), frame)
    assert [one["frames"] for one in described] == [3, 3]
    assert described[0]["sha256"] != described[1]["sha256"]


def test_a_frame_that_is_a_test_image_is_refused(
    small_set: SmallSet, frames: Path, tmp_path: Path
) -> None:
    shutil.copy(small_set.image(small_set.test[0]), frames / "south" / "2.png")
    with pytest.raises(DatasetError, match="is a test image of the data set"):
        build(config(small_set.root, frames), tmp_path / "out", jobs=1)


def test_names_tell_hosts_apart(small_set: SmallSet, frames: Path, tmp_path: Path) -> None:
    shutil.copytree(frames, tmp_path / "more")
    with pytest.raises(DatasetError, match=r"is called north/1\.png as .* is; rename one"):
        build(config(small_set.root, frames, tmp_path / "more"), tmp_path / "out", jobs=1)


def test_what_cannot_be_a_host_is_told(small_set: SmallSet, frames: Path, tmp_path: Path) -> None:
    with pytest.raises(NoiseError, match="asks for frames without targets"):
        build(config(small_set.root), tmp_path / "out", jobs=1)
    alone = write_small_set(tmp_path / "alone", 1, 1)
    with pytest.raises(RecipeError, match="no other image to put a target into"):
        build(config(alone.root, frames, hosts="training"), tmp_path / "out", jobs=1)


@pytest.mark.parametrize(
    ("noise", "settings", "message"),
    [
        (None, {"hosts": ["noise"]}, "noise: is null, and a step needs some"),
        ({}, {"hosts": []}, "hosts"),
        ({}, {"hosts": "nobody"}, "hosts"),
        ({}, {"zoom": [2, 1]}, "zoom: must be two numbers"),
        ({}, {"zoom": [0, 1]}, "zoom: must be two numbers from 0.25"),
        ({"frames": "x"}, {}, "no step uses noise"),
    ],
)
def test_settings_that_make_no_sense(noise: Any, settings: dict[str, Any], message: str) -> None:
    values = {"name": "x", "data": "y", "noise": noise}
    with pytest.raises(ValueError, match=message):
        BuildConfig.model_validate(values | {"negatives": {"steps": [{"transplant": settings}]}})


def test_frames_of_the_simulator_are_hosts_too(tmp_path: Path) -> None:
    settings = BuildConfig.model_validate(
        {
            "name": "simulated",
            "simulate": {"train": 4, "test": 1, "noise_frames": 2, "shape": [48, 64]},
            "noise": {"sample": {"side": 8}},
            "negatives": {"count": 12, "steps": ["mixup", {"transplant": {"hosts": "noise"}}]},
        }
    )
    build(settings, tmp_path / "out", jobs=1)
    assert {steps(line)["transplant"]["host"] for line in records(tmp_path / "out")} <= {
        "noise/0001",
        "noise/0002",
    }
    build(settings, tmp_path / "apart", jobs=2, backend="processes")
    ours, theirs = (tmp_path / name / "manifest.jsonl" for name in ("out", "apart"))
    assert ours.read_bytes() == theirs.read_bytes()


def test_the_probe_of_seams_leaves_them_out(
    small_set: SmallSet, frames: Path, tmp_path: Path
) -> None:
    build(config(small_set.root, frames), tmp_path / "out", jobs=1)
    found = measure_seams(tmp_path / "out")
    assert found.boxes == 60 - len(records(tmp_path / "out"))
