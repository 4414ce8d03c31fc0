"""The configuration of studies: what is shared stays shared, and mistakes are told in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.errors import ConfigError
from pipelines.study_config import Arm, StudyConfig, evaluations, read_study

CONFIGS = sorted((Path(__file__).parents[2] / "configs" / "study").glob("*.yaml"))

STUDY: dict[str, Any] = {
    "name": "tiny",
    "steps": 6,
    "batch": 4,
    "epoch_steps": 3,
    "seeds": [0, 1],
    "baseline": "originals",
    "train": "train.yaml",
    "arms": {"originals": None, "turned": {"build": "build.yaml"}},
}
Read = Callable[..., tuple[StudyConfig, list[Arm]]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def write(*overrides: str, **changes: Any) -> tuple[StudyConfig, list[Arm]]:
        (tmp_path / "train.yaml").write_text("steps: 100\nbatch: 24\naugment: {crop: 32}\n")
        (tmp_path / "build.yaml").write_text("name: other\nnoise: {sample: {side: 8}}\n")
        path = tmp_path / "study.yaml"
        path.write_text(yaml.safe_dump(STUDY | changes, sort_keys=False))
        return read_study(path, overrides)

    return write


def arm(**settings: Any) -> dict[str, Any]:
    return {"arms": {"originals": None, "turned": {"build": "build.yaml"} | settings}}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_studies_are_fair_and_say_what_they_answer(path: Path) -> None:
    head = path.read_text().split("\nname:")[0]
    assert head.startswith("# ")
    assert "?" in head or "question" in head
    assert f"configs/study/{path.name}" in head
    assert "minutes" in head
    study, arms = read_study(path)
    assert study.name == path.stem
    assert {one.name for one in arms} == set(study.arms)
    for one in arms:
        images = one.train.batch * (1 + (one.train.sampler.negatives or 0))
        assert (one.train.steps, images) == (study.steps, study.batch)
        assert one.train.epochs is None
        if one.build is not None and one.train.sampler.name == "images":
            assert one.train.sampler.originals == 0.5


def test_the_study_in_the_documentation_is_valid(tmp_path: Path) -> None:
    root = CONFIGS[0].parents[2]
    text = (root / "docs" / "studies.md").read_text().split("```yaml\n")[1].split("```")[0]
    (tmp_path / "study").mkdir()
    (tmp_path / "build").mkdir()
    (tmp_path / "train").symlink_to(root / "configs" / "train")
    (tmp_path / "build" / "own.yaml").symlink_to(root / "configs" / "build" / "own.yaml")
    path = tmp_path / "study" / "mine.yaml"
    path.write_text(text)
    assert [one.name for one in read_study(path)[1]] == ["originals", "turned", "no-noise"]


def test_shipped_studies_are_found() -> None:
    wanted = {"a-full", "a-leave-one-out", "a-long", "a-wide", "b-nudt"}
    wanted |= {"b-nuaa", "b-long", "b-wide", "b-again", "e-own", "e-few"}
    wanted |= {"acm", "acm-taught", "acm-long", "acm-few"}
    assert wanted | {"dnanet", "noise", "demo"} == {path.stem for path in CONFIGS}


def test_every_arm_has_the_study_s_steps_and_batch(read: Read) -> None:
    pairs = arm(train={"set": {"sampler": {"name": "sources", "negatives": 1}}})
    for one in read(**pairs)[1]:
        assert (one.train.steps, one.train.epoch_steps) == (6, 3)
        assert one.train.batch * (1 + (one.train.sampler.negatives or 0)) == 4
        assert one.train.augment.crop == 32
    assert read("steps=9")[1][1].train.steps == 9


def test_changes_are_those_of_the_study_then_those_of_the_arm(read: Read) -> None:
    changed = arm(
        train={"set": {"optimiser.lr": 0.5}},
        build={"config": "build.yaml", "set": {"noise.by": "folder"}},
    )
    shared = {"config": "train.yaml", "set": {"optimiser.lr": 0.25, "augment.border": 0.5}}
    originals, turned = read(train=shared, **changed)[1]
    assert (originals.train.optimiser.lr, turned.train.optimiser.lr) == (0.25, 0.5)
    assert originals.train.augment.border == turned.train.augment.border == 0.5
    assert turned.build is not None
    assert turned.build.noise is not None
    assert turned.build.noise.by == "folder"
    assert turned.build.name == "turned"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (arm(train={"set": {"steps": 9}}), r"arms\.turned\.train\.set\.steps: .*same for every"),
        (arm(train={"set": {"batch": 9}}), r"train\.set\.batch: .*`batch` of the study"),
        (arm(train={"set": {"epochs": 9}}), r"train\.set\.epochs: .*`steps` of the study"),
        (arm(train={"set": {"seed": 9}}), r"train\.set\.seed: .*`seeds` of the study"),
        (arm(build={"config": "build.yaml", "set": {"data": "x"}}), r"build\.set\.data"),
        (
            arm(build={"config": "build.yaml", "set": {"noise": {"frames": "x"}}}),
            r"build\.set\.noise\.frames",
        ),
        ({"train": {"config": "train.yaml", "set": {"steps": 9}}}, r"train\.set\.steps"),
        (arm(train={"set": {"sampler": "sources"}}), r"arms\.turned: sampler\.negatives"),
        (
            arm(train={"set": {"sampler": {"name": "sources", "negatives": 2}}}),
            r"arms\.turned: sampler\.negatives: .*batch of 4 evenly",
        ),
        (arm(build=None, train={"set": {"sampler.originals": 0.5}}), r"turned: .*has no build"),
        (arm(train={"set": {"compute.devices": 2}}), r"turned: compute\.devices"),
        (arm(train={"set": {"sampler.orginals": 0.5}}), r"did you mean 'originals'"),
        (arm(train={"sett": {}}), r"arms\.turned\.train\.sett: unknown key; did you mean 'set'"),
        (arm(bild="x"), r"arms\.turned\.bild: unknown key; did you mean 'build'"),
        (arm(build="absent.yaml"), r"arms\.turned: .*absent\.yaml: cannot be read"),
        (arm(build={"config": "build.yaml", "set": {"negative.side": 3}}), r"mean 'negatives'"),
        (arm(network="smal"), r"did you mean 'small'"),
        (arm(build=None, noise="x"), r"arms\.turned\.noise: nothing is built with noise"),
        ({"baseline": "original"}, r"baseline: no arm is called 'original'; did you mean"),
        (arm(baseline="turnt"), r"arms\.turned\.baseline: .*did you mean 'turned'"),
        ({"fractions": [0.5, 2]}, r"fractions\.1"),
        ({"fractions": [0.5, 0.5]}, r"fractions: one of them is named twice"),
        ({"seeds": []}, r"seeds"),
        ({"tests": [{"splt": "test"}]}, r"tests\.0\.splt: unknown key; did you mean 'split'"),
        ({"tests": [{}, {"strengths": 0}]}, r"tests: 'test' is asked for twice"),
        ({"tests": [{"noise": "x"}]}, r"tests\.0: noise: goes with strengths"),
        ({"tests": [{"tta": 2}]}, r"tests\.0\.tta"),
        ({"stepps": 3}, r"stepps: unknown key; did you mean 'steps'"),
    ],
)
def test_what_is_wrong_or_unfair_is_one_line(
    read: Read, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        read(**changes)
    assert "\n" not in str(caught.value)
    assert "study.yaml" in str(caught.value)


def test_splits_are_named_after_set_and_noise(read: Read) -> None:
    tests = [
        {"strengths": [0, 1, 2.5]},
        {"against": "nuaa"},
        {"against": "nuaa", "strengths": 2, "noise": "camera", "label": "cam"},
        {"split": "val", "strengths": [0, 2]},
        {"strengths": [0, 2], "tta": 9},
        {"split": "val", "tta": 4},
    ]
    assert splits(read, tests) == [
        *("val", "test", "test+seen1", "test+seen2.5"),
        *("test@nuaa", "test@nuaa+seen-cam2", "val+seen2"),
        *("test+tta9", "test+seen2+tta9", "val+tta4"),
    ]


def splits(read: Read, tests: list[dict[str, Any]], **arms: Any) -> list[str]:
    """Names of the splits of a study with these tests, and these arms beside its own."""
    study, found = read(tests=tests, arms=STUDY["arms"] | arms)
    return [one.name for one in evaluations(study.tests, found)]


IN_NOISE = [{"noise": "far", "strengths": 1}]
TURNS = {"negatives.steps": [{"turn": {"side": 8}}]}
NOISELESS = {"turned": {"build": {"config": "build.yaml", "set": TURNS}}}
NUMBERS = {"negatives.steps": [{"turn": {"side": 8}}, {"physical": {"sigma": 2.0}}]}


@pytest.mark.parametrize(
    ("arms", "camera"),
    [
        ({}, "seen"),  # built with all sources
        ({"turned": {"build": "build.yaml", "noise": ["near", "far"]}}, "seen"),
        ({"turned": {"build": "build.yaml", "noise": "near"}}, "unseen"),
        (NOISELESS, "unseen"),
        ({"turned": {"build": {"config": "build.yaml", "set": NUMBERS}}}, "unseen"),
        (
            {
                "turned": {"build": "build.yaml", "noise": "far"},
                "taught": {
                    "teach": {"by": "turned"},
                    "build": "build.yaml",
                    "noise": "near",
                },
            },
            "seen",
        ),
    ],
)
def test_whether_a_camera_is_unseen_follows_from_what_the_arms_are_built_with(
    read: Read, arms: dict[str, Any], camera: str
) -> None:
    assert splits(read, IN_NOISE, **arms) == ["val", f"test+{camera}1"]


@pytest.mark.parametrize("noise", ["far", None])
def test_a_table_does_not_mix_seen_and_unseen_cameras(read: Read, noise: str | None) -> None:
    arms = {"far": {"build": "build.yaml", "noise": "far"}}
    arms["turned"] = {"build": "build.yaml", "noise": "near"}
    message = r"study\.yaml: tests: noise .*would mix a seen camera with an unseen"
    with pytest.raises(ConfigError, match=message):
        splits(read, [{"noise": noise, "strengths": 1}], **arms)
    if noise is not None:
        arms["turned"] = {"build": {"config": "build.yaml", "set": NUMBERS}}
        with pytest.raises(ConfigError, match=message):
            splits(read, [{"noise": noise, "strengths": 1}], **arms)
