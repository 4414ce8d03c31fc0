"""Two processes on one machine compute what one computes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_sets import SmallSet

from detect.predict import shipped_weights
from detect.teachers import Teaching
from detect.tensors import read_tensors
from detect.train import train
from pipelines.config import load_config
from pipelines.training import TrainConfig
from synth.dataset import open_dataset

pytestmark = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="this build of torch has no gloo",
)

ROOT = Path(__file__).parents[2]

# A small rate: AdamW makes full steps of gradients that are nothing but rounding.
CONFIG = """
steps: 6
optimiser: {lr: 3.0e-4}
epoch_steps: 2
batch: 5
average: 0.9
validation: 0.3
freeze_norms: true
augment: {crop: 32, rotation: 20, gain: 0.2, noise: 0.1}
compute: {precision: 32-true}
"""

TWO = ("compute.devices=2", "compute.strategy=ddp")


def launch(
    config: Path, data: Path, out: Path, *changes: str, teachers: tuple[Path, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run `detect train` as a user does, so that Lightning can start it once more."""
    program = config.with_name("detect")
    program.write_text("from pipelines.cli.detect import main\nmain()\n")
    given = [f"--set={change}" for change in changes]
    given += [f"--teacher={teacher}" for teacher in teachers]
    command = [sys.executable, program, "train", config, "--data", data, "--out", out]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*map(str, command), "--device", "cpu", "--json", *given],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.fixture
def built(small_set: SmallSet, synth: Callable[..., object], tmp_path: Path) -> Path:
    """A set of originals and negatives: groups of images that do not divide by two."""
    config = tmp_path / "build.yaml"
    config.write_text("negatives: {steps: [mixup, turn: {side: 8, turns: [1, 3]}]}\n")
    synth("build", config, "--data", small_set.root, "--out", tmp_path / "built")
    return tmp_path / "built"


@pytest.mark.parametrize(
    ("changes", "teachers"),
    [
        (("loss=soft_iou_hard_bce",), ()),
        pytest.param(
            (
                "sampler=sources",
                "loss={name: soft_iou_bce, over: sources, consistency: 1}",
                "batch=1",
            ),
            (),
            marks=pytest.mark.slow,
        ),
        pytest.param((), (shipped_weights(),), marks=pytest.mark.slow),
    ],
)
def test_two_processes_have_the_loss_of_one(
    built: Path, tmp_path: Path, changes: tuple[str, ...], teachers: tuple[Path, ...]
) -> None:
    config = tmp_path / "train.yaml"
    config.write_text(CONFIG)
    one, two = tmp_path / "one", tmp_path / "two"
    recipe = load_config(config, TrainConfig, (*changes, "compute.device=cpu")).recipe()
    train(recipe, open_dataset(built), one, teaching=Teaching(teachers) if teachers else None)
    done = launch(config, built, two, *changes, *TWO, teachers=teachers)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == 6
    histories = [json.loads((out / "history.json").read_text()) for out in (one, two)]
    assert len(histories[0]) == len(histories[1]) == 3
    for alone, shared in zip(*histories, strict=True):
        assert shared["loss"] == pytest.approx(alone["loss"], abs=1e-4)
        assert shared["scores"] == alone["scores"]
    # Weights, and the optimiser's averages of gradients, which are as long as the gradients.
    states = [read_tensors(out / "checkpoint.safetensors")[0] for out in (one, two)]
    assert any(name.endswith("exp_avg") for name in states[0])
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_a_failure_is_one_line_of_the_first_process(built: Path, tmp_path: Path) -> None:
    config = tmp_path / "train.yaml"
    config.write_text(CONFIG)
    out = tmp_path / "run"
    done = launch(config, built, out, "optimiser.lr=1.0e+30", *TWO)
    assert done.returncode == 1
    assert done.stdout == ""
    assert [line for line in done.stderr.splitlines() if "lower optimiser.lr" in line] == [
        done.stderr.splitlines()[-1]
    ]
    assert "Traceback" not in done.stderr
    done = launch(config, built, out, "seed=4", *TWO)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"detect: {out}: belongs to a run with seed=0, not 4; choose another --out, or remove it"
    ]
