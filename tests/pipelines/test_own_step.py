"""Steps that this package has never heard of do all that its own steps do."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_again import assert_made_again, read_lines, steps
from small_sets import Outcome, SmallSet

from pipelines.build.config import BuildConfig
from pipelines.build.run import ShardSize, build
from pipelines.config import load_config
from synth.dataset import open_dataset
from synth.scene import Labelled, Scene
from synth.steps import Step, register_step
from synth.steps.base import Choice, check_range

Synth = Callable[..., Outcome]


@dataclass(frozen=True)
class Darken(Step):
    """A step that draws: everything gets darker."""

    name = "darken"
    changes_mask = False

    by: float = 0.5

    def __post_init__(self) -> None:
        check_range("by", self.by, 0, 1)

    def choose(self, scene: Scene, rng: np.random.Generator, **variant: Any) -> Choice:
        return {"factor": round(float(rng.uniform(1 - self.by, 1)), 6)}

    def apply(self, scene: Scene, choice: Choice) -> tuple[Scene, dict[str, Any]]:
        image = (scene.image * choice["factor"]).astype(scene.image.dtype)
        return scene.noisy(image), {"mean": round(float(image.mean()), 3)}


@dataclass(frozen=True)
class Flip(Step):
    """A step with variants: the image is mirrored along one axis or both."""

    name = "flip"

    def variants(self, scene: Labelled) -> Sequence[Choice]:
        return [{"axes": axes} for axes in ("down", "along", "both")] if scene.targets else []

    def choose(self, scene: Scene, rng: np.random.Generator, **variant: Any) -> Choice:
        return {"axes": variant.get("axes", "both")}

    def apply(self, scene: Scene, choice: Choice) -> tuple[Scene, dict[str, Any]]:
        axes = {"down": (0,), "along": (1,), "both": (0, 1)}[choice["axes"]]
        image, mask = (np.flip(one, axes).copy() for one in (scene.image, scene.mask))
        return Scene(image, mask, scene.id, draws=scene.draws), {}


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The steps above, for one test."""
    from synth.steps import base

    monkeypatch.setattr(base, "_steps", dict(base._steps))
    for step in (Darken, Flip):
        register_step(step)


@pytest.fixture(params=["darken", "flip"])
def config(request: pytest.FixtureRequest, tmp_path: Path, small_set: SmallSet) -> Path:
    """A recipe with each of them."""
    text = {
        "darken": "count: 14\n  steps: [turn: {side: 9}, darken: {by: 0.4}]",
        "flip": "steps: [flip, distract: {count: 1}, darken]",
    }[request.param]
    path = tmp_path / f"{request.param}.yaml"
    path.write_text(f"data: {small_set.root}\nnegatives:\n  {text}\n")
    return path


def test_a_set_is_built_told_and_trained_on(
    config: Path, synth: Synth, detect: Synth, small_set: SmallSet, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    told = synth("build", config, "--out", out)
    assert told.status == 0, told.err
    made = [line for line in read_lines(out) if "steps" in line]
    assert len(made) == (14 if config.stem == "darken" else 3 * len(small_set.train))
    if config.stem == "flip":
        axes = [steps(line)["flip"]["axes"] for line in made[:3]]
        assert axes == ["down", "along", "both"]
    source = open_dataset(small_set.root)
    for line in made:
        assert_made_again(out, line, source)
        assert "mean" in line["facts"]
    for command in (
        ("verify", out),
        ("verify", out, "--recompute", "--data", small_set.root),
        ("quality", out),
        ("check", out),
        ("preview", out, "--out", tmp_path / "sheet.png"),
    ):
        told = synth(*command)
        assert told.status == 0, told.err
    told = synth("report", out, "--out", tmp_path / "page.html", "--json")
    changes = json.loads(told.out)["changes"]["change"]
    assert sum(changes.values()) == len(made)
    page = (tmp_path / "page.html").read_text()
    assert f"{'target turned' if config.stem == 'darken' else 'flip'}" in changes
    assert "darken factor " in page
    train = tmp_path / "train.yaml"
    train.write_text("network: acm\nsteps: 2\nepoch_steps: 2\nbatch: 2\naugment: {crop: 32}\n")
    options = ("--set", "sampler.originals=0.5", "--out", tmp_path / "run")
    told = detect("train", train, "--data", out, *options)
    assert told.status == 0, told.err


def test_workers_and_layouts_make_the_same(
    config: Path, tmp_path: Path, tree: Callable[[Path], dict[str, bytes]]
) -> None:
    wanted = load_config(config, BuildConfig, defaults={"name": "own"})
    build(wanted, tmp_path / "one", jobs=1)
    build(wanted, tmp_path / "two", jobs=2)
    build(wanted, tmp_path / "apart", jobs=2, backend="processes")
    assert tree(tmp_path / "one") == tree(tmp_path / "two") == tree(tmp_path / "apart")
    build(wanted, tmp_path / "shards", jobs=2, shards=ShardSize(outputs=5))
    loose, sharded = open_dataset(tmp_path / "one"), open_dataset(tmp_path / "shards")
    for id_ in loose.ids("all"):
        for ours, theirs in zip(loose.read_pair(id_), sharded.read_pair(id_), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_an_interrupted_build_goes_on(
    config: Path,
    tmp_path: Path,
    tree: Callable[[Path], dict[str, bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipelines.build.run._OUTPUTS_PER_TASK", 3)
    wanted = load_config(config, BuildConfig, defaults={"name": "own"})
    build(wanted, tmp_path / "whole", jobs=1)

    def stop(stage: str, done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(wanted, tmp_path / "out", jobs=1, progress=stop)
    assert build(wanted, tmp_path / "out", jobs=2).made > 0
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("darken: {buy: 1}", "darken.buy: unknown key; did you mean 'by'?"),
        ("darken: {by: 2}", "darken.by: must be from 0 to 1, not 2"),
        ("darkn", "no step is called 'darkn'; did you mean 'darken'?"),
    ],
)
def test_its_settings_are_tested(synth: Synth, tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(f"data: x\nnegatives: {{steps: [{text}]}}\n")
    told = synth("build", path, "--out", tmp_path / "out")
    assert (told.status, told.err.count("\n")) == (1, 1)
    assert words in told.err


def test_a_set_of_a_step_that_is_not_registered_can_be_read(
    synth: Synth, small_set: SmallSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from synth.steps import base

    values = {"name": "own", "data": small_set.root, "negatives": {"steps": ["flip"]}}
    build(BuildConfig.model_validate(values), tmp_path / "out", jobs=1)
    monkeypatch.setattr(base, "_steps", {"turn": base._steps["turn"]})
    assert synth("verify", tmp_path / "out").status == 0
    told = synth("report", tmp_path / "out", "--out", tmp_path / "page.html", "--json")
    assert json.loads(told.out)["changes"]["change"] == {"flip": 3 * len(small_set.train)}
    told = synth("verify", tmp_path / "out", "--recompute", "--data", small_set.root)
    assert told.status == 1
    assert "no step is called 'flip'" in told.err
