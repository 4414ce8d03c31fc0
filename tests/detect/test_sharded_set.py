"""A set in shards trains and judges as the same set in loose files does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from detect.data import hold_out, read_labelled
from detect.lineage import read_origins
from pipelines.build.config import BuildConfig
from pipelines.build.run import ShardSize, build
from pipelines.cli.detect import main
from synth.dataset import open_dataset
from synth.errors import StoreError


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same set as loose files and in shards, both of one name."""
    wanted = BuildConfig.model_validate(
        {
            "name": "tiny",
            "simulate": {"train": 6, "test": 3, "noise_frames": 2, "shape": (32, 32)},
            "noise": {"sample": {"side": 8}},
            "negatives": {"count": 20, "steps": ["mixup", {"turn": {"side": 9}}]},
        }
    )
    loose = tmp_path_factory.mktemp("loose") / "tiny"
    sharded = tmp_path_factory.mktemp("sharded") / "tiny"
    build(wanted, loose, jobs=1)
    build(wanted, sharded, jobs=1, shards=ShardSize(outputs=10))
    return loose, sharded


def test_images_masks_and_origins_are_the_same(sets: tuple[Path, Path]) -> None:
    loose, sharded = map(open_dataset, sets)
    for split in ("train", "test"):
        ids = loose.ids(split)
        assert sharded.ids(split) == ids
        assert read_labelled(sharded, ids).fingerprint() == read_labelled(loose, ids).fingerprint()
    origins = read_origins(sharded)
    assert origins == read_origins(loose)
    assert sum(origin.made for origin in origins.values()) == 20


def test_what_is_held_out_is_of_the_same_kind(sets: tuple[Path, Path]) -> None:
    dataset = open_dataset(sets[1])
    origins = read_origins(dataset)
    training, validation = hold_out(dataset, origins, 0.3, 0)
    assert validation
    assert not any(origins[id_].made for id_ in validation)
    assert not {origins[id_].source for id_ in training} & set(validation)


@pytest.mark.parametrize("line", ["{}", '{"id": "a", "steps": [1]}'])
def test_a_manifest_that_is_none_is_told(
    sets: tuple[Path, Path], tmp_path: Path, line: str
) -> None:
    shutil.copytree(sets[1], tmp_path / "set")
    dataset = open_dataset(tmp_path / "set")
    (tmp_path / "set" / "shards" / "train-000001.jsonl").write_text(f"{line}\n")
    with pytest.raises(StoreError, match=r"train-000001\.jsonl: line 1 is not one"):
        read_origins(dataset)


def run(*arguments: object) -> dict[str, Any]:
    result = CliRunner().invoke(main, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.stderr
    return dict(json.loads(result.stdout))


def test_a_detector_is_trained_on_shards_and_judged_alike(
    sets: tuple[Path, Path], tmp_path: Path
) -> None:
    loose, sharded = sets
    config = tmp_path / "tiny.yaml"
    config.write_text("steps: 4\nepoch_steps: 2\nbatch: 2\nvalidation: 0.3\naugment: {crop: 32}\n")
    common = ("--device", "cpu")
    trained = run("train", config, "--data", sharded, "--out", tmp_path / "run", *common)
    again = run("train", config, "--data", loose, "--out", tmp_path / "again", *common)
    assert Path(again["weights"]).read_bytes() == Path(trained["weights"]).read_bytes()
    scores = [run("test", trained["weights"], root, *common) for root in (sharded, loose)]
    assert scores[0]["images"] == 3
    assert {**scores[0], "dataset": ""} == {**scores[1], "dataset": ""}
