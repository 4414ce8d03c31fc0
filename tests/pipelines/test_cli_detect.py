import json
import signal
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from pipelines.cli.detect import main
from pipelines.config import load_config
from pipelines.training import TrainConfig

CONFIGS = sorted((Path(__file__).parents[2] / "configs" / "train").glob("*.yaml"))
SCORES = {
    "iou",
    "niou",
    "pd",
    "fa",
    "hiou",
    "precision",
    "recall",
    "f1",
    "auc",
    "target_precision",
    "target_recall",
    "target_f1",
}
COUNTS = {"images", "targets", "protocol", "threshold"}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "set"
    rng = np.random.default_rng(0)
    for folder in ("images", "masks", "50_50"):
        (root / folder).mkdir(parents=True)
    for i in range(8):
        mask = np.zeros((32, 32), np.uint8)
        mask[8 + i : 11 + i, 9:12] = 255
        image = (rng.normal(100, 4, mask.shape) + 50 * (mask > 0)).astype(np.uint8)
        cv2.imwrite(str(root / "images" / f"{i}.png"), image)
        cv2.imwrite(str(root / "masks" / f"{i}.png"), mask)
    (root / "50_50" / "train.txt").write_text("0\n1\n2\n3\n4\n")
    (root / "50_50" / "test.txt").write_text("5\n6\n7\n")
    return root


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text("steps: 4\nepoch_steps: 2\nbatch: 2\nvalidation: 0.3\naugment: {crop: 32}\n")
    return path


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def weights(dataset: Path, config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    result = call("train", config, "--data", dataset, "--out", out, "--device", "cpu", "--json")
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert summary["steps"] == 4
    assert set(summary["validation"]) == SCORES | COUNTS
    return Path(summary["weights"])


def fails(result: Result, *parts: str, status: int = 1) -> None:
    """The command failed with one line that holds `parts`, and nothing on stdout."""
    assert result.exit_code == status, result.output
    assert isinstance(result.exception, SystemExit)
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1
    for part in parts:
        assert part in lines[-1]
    assert not result.stdout


@pytest.mark.parametrize("command", ["train", "test", "score", "visualize", "models"])
def test_every_command_has_help_with_an_example(command: str) -> None:
    result = call(command, "--help")
    assert result.exit_code == 0
    assert "Example:" in result.stdout
    assert f"detect {command}" in result.stdout


def test_models_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    # A network takes up to two seconds to count.
    names = ("small", "acm", "rdian")
    monkeypatch.setattr("detect.models.model_names", lambda: names)
    models = json.loads(call("models", "--json").stdout)["models"]
    assert set(models[0]) == {"name", "params", "macs", "published_params", "published_macs"}
    assert tuple(model["name"] for model in models) == names
    monkeypatch.setattr("detect.models.model_names", lambda: ("dnanet",))
    assert "4.697" in call("models", "--in-channels", 3).stdout


@pytest.mark.parametrize("protocol", ["strict", "basicirstd", "dnanet"])
def test_weights_are_judged(weights: Path, dataset: Path, protocol: str) -> None:
    result = call("test", weights, dataset, "--protocol", protocol, "--json")
    scores = json.loads(result.stdout)
    assert set(scores) >= SCORES | COUNTS
    assert (scores["images"], scores["targets"], scores["protocol"]) == (3, 3, protocol)
    table = call("test", weights, dataset, "--protocol", protocol).stdout
    assert f"{scores['fa'] / 1e-6:.2f} e-6" in table


def test_perfect_predictions_score_one(dataset: Path) -> None:
    scores = json.loads(call("score", dataset / "masks", dataset, "--json").stdout)
    assert [scores[k] for k in ("iou", "niou", "pd", "fa", "hiou")] == [1, 1, 1, 0, 1]
    assert scores["auc"] is None
    assert scores["threshold"] == 0.5


def test_figures_are_drawn(weights: Path, dataset: Path, tmp_path: Path) -> None:
    result = call(
        "visualize", weights, dataset, "--out", tmp_path, "--count", 2, "--surface", "--json"
    )
    figures = json.loads(result.stdout)["figures"]
    assert [Path(f).name for f in figures] == ["5.png", "5_surface.png", "6.png", "6_surface.png"]
    assert all(cv2.imread(f) is not None for f in figures)
    chosen = call("visualize", weights, dataset, "--out", tmp_path / "b", "--ids", "0, 7")
    assert "2 figures" in chosen.stdout
    assert {p.name for p in (tmp_path / "b").iterdir()} == {"0.png", "7.png"}


def test_failures_are_one_line(weights: Path, dataset: Path, config: Path, tmp_path: Path) -> None:
    fails(call("test", tmp_path / "w", dataset), "no such file")
    fails(call("test", config, dataset), "tiny.yaml", "safetensors")
    fails(call("test", weights, tmp_path / "none"), "is not a folder")
    fails(call("test", weights, dataset, "--split", "val"), "no split 'val'")
    absent = "mps" if not torch.backends.mps.is_available() else "cuda:7"
    fails(call("test", weights, dataset, "--device", absent), f"'{absent}' cannot be used")
    fails(call("score", tmp_path, dataset), "5.png: is missing")
    fails(call("visualize", weights, dataset, "--out", tmp_path / "f", "--ids", "x"), "'x'")
    fails(call("train", tmp_path / "c.yaml", "--out", tmp_path / "o"), "c.yaml")
    run = ("train", config, "--data", dataset, "--out", weights.parent, "--device", "cpu")
    fails(call(*run, "--seed", 5), "seed=0, not 5")
    fails(call(*run, "--set", "augment.crops=3"), "did you mean 'crop'")
    fails(call(*run, "--set", "network=dnanett"), "did you mean 'dnanet'")
    fails(call(*run, "--set", "epochs=3"), "one of `epochs` and `steps`")
    fails(call(*run, "--init", tmp_path / "none.safetensors"), "no such file")
    fails(call(*run, "--teacher", tmp_path / "none.safetensors"), "no such file")
    fails(call(*run, "--teacher", weights), "teaching.by=null")


def test_wrong_usage_has_its_own_status(
    weights: Path, dataset: Path, config: Path, tmp_path: Path
) -> None:
    fails(call("train", config), "--data", status=2)
    fails(call("train", config, "--data", dataset), "--out", status=2)
    run = ("train", config, "--data", dataset, "--out", tmp_path / "o")
    fails(call(*run, "--teaching", 0.5), "--teacher", status=2)
    fails(call(*run, "--teacher-tta", 9), "--teacher", status=2)
    fails(call("test", weights, dataset, "--tta", 3), "--tta", status=2)
    for share in (0, "nan"):
        fails(call(*run, "--teacher", weights, "--teaching", share), "--teaching", status=2)
    fails(call("test", weights), "DATASET", status=2)
    fails(call("test", weights, dataset, "--threshold", 2), "--threshold", status=2)
    fails(call("test", weights, dataset, "--threshold", "nan"), "not a number", status=2)
    fails(call("test", weights, dataset, "--device", "meta"), "'meta' is none of auto", status=2)
    both = ("--ids", "5", "--count", 1)
    fails(call("visualize", weights, dataset, "--out", tmp_path, *both), "not both", status=2)


def test_an_interrupt_leaves_a_run_that_goes_on(
    dataset: Path, config: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(steps: range) -> Any:
        for step in steps:
            if step == 3:
                signal.raise_signal(signal.SIGINT)
            yield step

    run = ("train", config, "--data", dataset, "--out", tmp_path / "run", "--device", "cpu")
    with monkeypatch.context() as patch:
        patch.setattr("pipelines.cli.detect._steps", interrupted)
        result = call(*run)
    assert result.exit_code == 130
    assert result.stderr.strip().splitlines()[-1].endswith("run the same command again to go on")
    assert call(*run).exit_code == 0
    last = tmp_path / "run" / "last.safetensors"
    assert last.read_bytes() == (weights.parent / "last.safetensors").read_bytes()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configurations_are_valid_and_say_what_they_are(path: Path) -> None:
    assert path.read_text().startswith("# ")
    load_config(path, TrainConfig).recipe()
