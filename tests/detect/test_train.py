import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_sets import SmallSet

from detect import checkpoint
from detect.errors import TrainingError, TrainingInterruptedError, WeightsError
from detect.evaluate import evaluate
from detect.predict import load_detector
from detect.recipe import Compute, Loss, Optimiser, Recipe, Sampler
from detect.tensors import read_tensors
from detect.train import Outcome, _Average, _Losses
from detect.train import train as train_any
from detect.weightsfile import read_weights
from synth.dataset import open_dataset

MakeRecipe = Callable[..., Recipe]


def train(*args: Any, **keywords: Any) -> Outcome:
    outcome = train_any(*args, **keywords)
    assert outcome is not None
    return outcome


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_training_finds_targets_that_it_never_saw(
    tmp_path: Path, write_set: Callable[..., Path], make_recipe: MakeRecipe
) -> None:
    dataset = open_dataset(write_set(tmp_path / "set", train=16, test=6))
    recipe = make_recipe(steps=80, epoch_steps=40, batch=8, average=0.9)
    recipe = replace(recipe, optimiser=Optimiser("adamw", 3e-3, 0.01, None))
    outcome = train(recipe, dataset, tmp_path / "run")
    assert outcome.scores is not None
    assert (outcome.training_images, outcome.validation_images) == (11, 5)
    detector = load_detector(outcome.weights, "cpu")
    scores = evaluate(detector, map(dataset.read_pair, dataset.ids("test"))).scores()
    assert scores["iou"] is not None
    assert scores["iou"] > 0.6


def test_the_test_split_is_never_read(
    tiny_set: Path, tmp_path: Path, make_recipe: MakeRecipe
) -> None:
    dataset = open_dataset(tiny_set)
    for id_ in dataset.ids("test"):
        dataset.image_path(id_).write_bytes(b"no image")
        dataset.mask_path(id_).write_bytes(b"no mask")
    train(make_recipe(steps=2), dataset, tmp_path / "run")


@pytest.mark.parametrize(
    "change",
    [
        {"optimiser": Optimiser("adagrad", 0.05, 0.0, 1.0), "network": "dnanet-vgg10"},
        {"normalisation": "imagenet", "in_channels": 3, "average": 0.9, "freeze_norms": True},
        {"normalisation": "dataset", "steps": None, "epochs": 2, "epoch_steps": None},
        {"optimiser": Optimiser("adam", 1e-3, 0.0, None), "validation": 0.0},
        {"compute": Compute("cpu", 1, "auto", "bf16-mixed", True)},
    ],
)
def test_a_run_that_was_stopped_ends_as_one_that_was_not(
    tiny_set: Path, tmp_path: Path, make_recipe: MakeRecipe, change: dict[str, object]
) -> None:
    dataset = open_dataset(tiny_set)
    recipe = make_recipe(**change)
    whole = train(recipe, dataset, tmp_path / "whole")

    def stop_twice(steps: range) -> Iterable[int]:
        for step in steps:
            if step in (1, 4):
                signal.raise_signal(signal.SIGINT)
            yield step

    lines: list[str] = []
    for _ in range(2 if whole.steps > 4 else 1):
        with pytest.raises(TrainingInterruptedError, match="run the same command again"):
            train(recipe, dataset, tmp_path / "parts", watch=stop_twice)
    parts = train(recipe, dataset, tmp_path / "parts", log=lines.append)
    assert lines[0].startswith("resumed at step")
    for name in ("last.safetensors", "checkpoint.safetensors", "history.json"):
        assert digest(tmp_path / "parts" / name) == digest(tmp_path / "whole" / name)
    assert digest(parts.weights) == digest(whole.weights)
    assert parts.scores == whole.scores


def test_a_run_that_was_killed_ends_as_one_that_was_not(
    tiny_set: Path, tmp_path: Path, make_recipe: MakeRecipe
) -> None:
    recipe = make_recipe(steps=24, epoch_steps=3, average=0.9)
    train(recipe, open_dataset(tiny_set), tmp_path / "whole")
    program = (
        "from pathlib import Path\nfrom detect.recipe import *\nfrom detect.train import train\n"
        f"from synth.dataset import open_dataset\nimport torch\n"
        f"torch.set_num_threads({torch.get_num_threads()})\n"
        f"train({recipe!r}, open_dataset({str(tiny_set)!r}), Path({str(tmp_path / 'killed')!r}))\n"
    )
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    process = subprocess.Popen(
        [sys.executable, "-c", program], env=environment, stderr=subprocess.PIPE
    )
    try:
        give_up = time.monotonic() + 60
        while not (tmp_path / "killed" / "checkpoint.safetensors").exists():
            assert process.poll() is None
            assert time.monotonic() < give_up
            time.sleep(0.002)
    finally:
        process.kill()
        process.communicate()
    assert not (tmp_path / "killed" / "last.safetensors").exists()
    train(recipe, open_dataset(tiny_set), tmp_path / "killed")
    for name in ("last.safetensors", "best.safetensors", "history.json"):
        assert digest(tmp_path / "killed" / name) == digest(tmp_path / "whole" / name)


def test_negatives_are_trained_on_beside_their_source(
    small_set: SmallSet, synth: Callable[..., Any], tmp_path: Path, make_recipe: MakeRecipe
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("negatives: {steps: [mixup, turn: {side: 8, turns: [1, 2]}]}\n")
    assert synth("build", config, "--data", small_set.root, "--out", tmp_path / "set").status == 0
    dataset = open_dataset(tmp_path / "set")
    recipe = make_recipe(sampler=Sampler("sources", None, None), validation=0.0)
    of_sources = Loss("hard_bce", 2.0, 0.3, "sources", 0.0)
    losses = []
    for weight in (1e-9, 1e6):
        recipe = replace(recipe, loss=replace(of_sources, consistency=weight))
        out = tmp_path / f"run{weight}"
        outcome = train(recipe, dataset, out)
        assert outcome.training_images == 4 * (1 + 2 * 2)
        losses.append(json.loads((out / "history.json").read_text())[0]["loss"])
        assert train(recipe, dataset, out) == outcome
    assert 0 < losses[0] < losses[1]
    with pytest.raises(TrainingError, match="none was made from another"):
        train(recipe, open_dataset(small_set.root), tmp_path / "plain")


def test_frozen_norms_keep_what_they_start_with(
    tiny_set: Path, tmp_path: Path, make_recipe: MakeRecipe
) -> None:
    dataset = open_dataset(tiny_set)
    start = train(make_recipe(), dataset, tmp_path / "first").weights
    tuned = train(make_recipe(freeze_norms=True), dataset, tmp_path / "tuned", init=start).weights
    before, after = read_weights(start).tensors, read_weights(tuned).tensors
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if "running" not in name and "num" not in name}


def test_a_clipped_gradient_is_a_short_step(
    tiny_set: Path, tmp_path: Path, make_recipe: MakeRecipe
) -> None:
    dataset = open_dataset(tiny_set)
    recipe = make_recipe(steps=1, validation=0.0)
    checkpoints = []
    for clip in (None, 1e9, 1e-3):
        recipe = replace(recipe, optimiser=Optimiser("adam", 1e-3, 0.0, clip))
        out = tmp_path / f"clip{clip}"
        train(recipe, dataset, out)
        tensors, _ = read_tensors(out / "checkpoint.safetensors")
        # Adam's first average of the gradient is a tenth of the gradient.
        gradient = [10 * value for name, value in tensors.items() if name.endswith("exp_avg")]
        checkpoints.append(torch.cat([value.flatten() for value in gradient]).norm().item())
    assert checkpoints[0] == checkpoints[1] > 0.01
    assert checkpoints[2] == pytest.approx(1e-3, rel=1e-3)


def test_a_finished_run_is_only_reported(
    tiny_set: Path, tmp_path: Path, make_recipe: MakeRecipe
) -> None:
    first = train(make_recipe(), open_dataset(tiny_set), tmp_path / "run")
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "run").iterdir()}
    (tmp_path / "run" / ".last.safetensors.partial").write_bytes(b"left by a killed run")
    assert train(make_recipe(), open_dataset(tiny_set), tmp_path / "run") == first
    assert before == {p.name: p.stat().st_mtime_ns for p in (tmp_path / "run").iterdir()}


def test_a_run_of_another_configuration_is_refused(
    tiny_set: Path, tmp_path: Path, make_recipe: MakeRecipe
) -> None:
    dataset = open_dataset(tiny_set)
    recipe = make_recipe(steps=1)
    train(recipe, dataset, tmp_path / "run")
    with pytest.raises(TrainingError, match=r"seed=3, not 4"):
        train(replace(recipe, seed=4), dataset, tmp_path / "run")
    wider = replace(recipe, augment=replace(recipe.augment, crop=48))
    with pytest.raises(TrainingError, match=r"augment\.crop=32, not 48"):
        train(wider, dataset, tmp_path / "run")
    for id_ in dataset.ids("train")[:3]:
        dataset.mask_path(id_).write_bytes(dataset.mask_path(dataset.ids("train")[3]).read_bytes())
    with pytest.raises(TrainingError, match=r"data\.\w+="):
        train(recipe, dataset, tmp_path / "run")


def test_a_run_is_one_process_s_own(
    tiny_set: Path, tmp_path: Path, make_recipe: MakeRecipe
) -> None:
    dataset, out = open_dataset(tiny_set), tmp_path / "run"

    def intrude(steps: range) -> Iterable[int]:
        with pytest.raises(TrainingError, match="another process is training here"):
            train(make_recipe(), dataset, out)
        return steps

    train(make_recipe(), dataset, out, watch=intrude)
    assert train(make_recipe(), dataset, out).steps == 6


def test_a_run_that_cannot_be_begun_is_nobody_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, content: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as full:
        full.setattr(checkpoint, "write_json", fail)
        with pytest.raises(OSError, match="No space left"):
            checkpoint.claim_run(tmp_path / "run", {"seed": 3})
    with checkpoint.claim_run(tmp_path / "run", {"seed": 3}):
        pass


@pytest.mark.parametrize("name", ["best.safetensors", "last.safetensors"])
def test_weights_that_are_gone_are_missed(
    tiny_set: Path, tmp_path: Path, make_recipe: MakeRecipe, name: str
) -> None:
    dataset, out = open_dataset(tiny_set), tmp_path / "run"
    train(make_recipe(), dataset, out)
    (out / name).unlink()
    with pytest.raises(TrainingError, match=rf"{name}: is gone"):
        train(make_recipe(), dataset, out)


@pytest.mark.parametrize("name", ["best.safetensors", "other.safetensors"])
def test_a_checkpoint_of_something_else_is_named(
    tiny_set: Path, tmp_path: Path, make_recipe: MakeRecipe, name: str
) -> None:
    dataset, out = open_dataset(tiny_set), tmp_path / "run"
    train(make_recipe(), dataset, out)
    other = tmp_path / "other"
    train(make_recipe(in_channels=3, normalisation="imagenet"), dataset, other)
    (out / "other.safetensors").write_bytes((other / "checkpoint.safetensors").read_bytes())
    (out / "checkpoint.safetensors").write_bytes((out / name).read_bytes())
    with pytest.raises(WeightsError, match=r"checkpoint\.safetensors: is not a checkpoint of this"):
        train(make_recipe(), dataset, out)


def test_a_folder_that_is_no_run_is_left_alone(
    tiny_set: Path, tmp_path: Path, make_recipe: MakeRecipe
) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "text.txt").write_text("mine")
    with pytest.raises(TrainingError, match="is no run"):
        train(make_recipe(), open_dataset(tiny_set), tmp_path / "notes")
    assert [p.name for p in (tmp_path / "notes").iterdir()] == ["text.txt"]


def test_fine_tuning_starts_from_the_given_weights(
    tiny_set: Path, tmp_path: Path, make_recipe: MakeRecipe
) -> None:
    dataset = open_dataset(tiny_set)
    recipe = make_recipe(normalisation="dataset")
    start = train(recipe, dataset, tmp_path / "first").weights
    # A rate of almost nothing: what comes out must be what went in.
    still = replace(recipe, optimiser=Optimiser("adam", 1e-12, 0.0, None), seed=9, steps=1)
    tuned = read_weights(train(still, dataset, tmp_path / "tuned", init=start).weights)
    given = read_weights(start)
    assert tuned.normalisation == given.normalisation
    for name, value in given.tensors.items():
        if "norm" not in name:
            torch.testing.assert_close(tuned.tensors[name], value)
    for change in ({"network": "dnanet"}, {"normalisation": "frame"}, {"in_channels": 3}):
        with pytest.raises(WeightsError, match=f"has {next(iter(change))}="):
            train(make_recipe(**change), dataset, tmp_path / "other", init=start)


def test_weights_of_a_network_with_the_same_tensors_start_another(
    tiny_set: Path, tmp_path: Path, make_recipe: MakeRecipe
) -> None:
    dataset = open_dataset(tiny_set)
    start = train(make_recipe(), dataset, tmp_path / "first").weights
    lines: list[str] = []
    still = make_recipe(
        network="small-blurpool", optimiser=Optimiser("adam", 1e-12, 0.0, None), steps=1
    )
    tuned = read_weights(
        train(still, dataset, tmp_path / "tuned", init=start, log=lines.append).weights
    )
    assert tuned.network == "small-blurpool"
    given = read_weights(start).tensors
    torch.testing.assert_close(tuned.tensors["stem.weight"], given["stem.weight"])
    assert lines[0] == f"small-blurpool starts from weights of small: {start}"


def test_a_loss_that_explodes_is_reported(
    tiny_set: Path, tmp_path: Path, make_recipe: MakeRecipe
) -> None:
    recipe = make_recipe(optimiser=Optimiser("adamw", 1e30, 0.0, None), steps=20)
    with pytest.raises(TrainingError, match="lower optimiser"):
        train(recipe, open_dataset(tiny_set), tmp_path / "run")


def test_everything_on_disk_is_tensors_and_text(
    tiny_set: Path, tmp_path: Path, make_recipe: MakeRecipe
) -> None:
    out = tmp_path / "run"
    train(make_recipe(), open_dataset(tiny_set), out)
    for path in out.iterdir():
        if path.suffix == ".safetensors":
            assert read_tensors(path)[0]
        elif path.is_file():
            json.loads(path.read_text())
    card = read_weights(out / "best.safetensors").card
    assert card["recipe"]["seed"] == 3
    assert card["data"] == "set"
    assert set(card["scores"]) > {"iou", "pd", "fa"}


def test_training_works_outside_the_main_thread(
    tiny_set: Path, tmp_path: Path, make_recipe: MakeRecipe
) -> None:
    failures: list[BaseException] = []

    def run() -> None:
        try:
            train(make_recipe(steps=1), open_dataset(tiny_set), tmp_path / "run")
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert not failures


def test_losses_are_read_at_once_on_a_processor_and_together_on_a_card() -> None:
    losses = [torch.tensor(value) for value in (0.5, 0.25, 2.0)]
    here, card = (_Losses(torch.device(kind)) for kind in ("cpu", "cuda"))
    for loss in losses:
        assert here.add(loss)
        assert here.take() == float(loss)
        assert not card.add(loss)
    assert card.take() == 2.75
    for count in range(1, 51):
        assert card.add(losses[0]) == (count == 50)
    assert card.take() == 25


def test_the_average_follows_weights_and_takes_counts_over() -> None:
    network, averaged = (torch.nn.BatchNorm1d(2) for _ in range(2))
    with torch.no_grad():
        network.weight.fill_(3.0)
        network.running_mean.fill_(8.0)  # type: ignore[union-attr]
        network.num_batches_tracked.fill_(7)  # type: ignore[union-attr]
    average = _Average(averaged, network, 0.75)
    average.follow(1000)
    assert averaged.weight.tolist() == [1.5, 1.5]
    assert averaged.running_mean.tolist() == [2.0, 2.0]  # type: ignore[union-attr]
    assert int(averaged.num_batches_tracked) == 7  # type: ignore[arg-type]
    # At the first step a tenth of what was is kept.
    average.follow(0)
    assert averaged.weight.tolist() == pytest.approx([2.85, 2.85])
    _Average(network, network, 0.0).follow(5)
    assert network.weight.tolist() == [3.0, 3.0]
