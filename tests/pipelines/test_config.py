"""Configuration: what is wrong is told in one line that names the file and the key."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.build.config import BuildConfig, NoiseSettings
from pipelines.config import load_config, validate
from pipelines.errors import ConfigError
from synth.noise.sampling import SamplingRule
from synth.steps import Choose, Mixup, Move, Step, Turn

CONFIGS = sorted((Path(__file__).parents[2] / "configs" / "build").glob("*.yaml"))
Write = Callable[[str], Path]
BASE = "name: x\ndata: set\n"
STEP = "negatives: {steps: [%s]}"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(text: str) -> Path:
        path = tmp_path / "my.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return to_file


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configurations_are_valid(path: Path) -> None:
    simulated = "simulate:" in path.read_text()
    config = load_config(path, BuildConfig, data=None if simulated else "set")
    assert config.name == path.stem


def test_shipped_configurations_are_found() -> None:
    assert {"demo", "sirst5k", "sirst5k-01-3", "sirst5k-mixed", "nuaa"} <= {
        path.stem for path in CONFIGS
    }


def test_the_published_configuration_is_the_published_one() -> None:
    path = next(path for path in CONFIGS if path.stem == "sirst5k")
    config = load_config(path, BuildConfig, data="set")
    assert config.noise is not None
    assert config.noise.sample == SamplingRule(side=32, max_var=50, min_mean=0)
    assert config.negatives.count == 4199
    assert config.negatives.steps == (
        Mixup(ratio=0.1),
        Turn(side=32, turns=(0, 1, 2, 3), mirror=True, blend="paste"),
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nois: {}", r"nois: unknown key; did you mean 'noise'\?"),
        ("noise: {frame: a}", r"noise\.frame: unknown key; did you mean 'frames'\?"),
        (STEP % "mixup: {ration: 1}", r".*mixup\.ration: unknown key; did you mean 'ratio'\?"),
        (STEP % "turn: {sides: 3}", r"negatives\.steps: step 1: turn\.sides: .* 'side'\?"),
        (STEP % "trun", r"negatives\.steps: step 1: no step is called 'trun'; .* 'turn'\?"),
        ("negatives: {step: []}", r"negatives\.step: unknown key; did you mean 'steps'\?"),
        ("negatives: {side: 3}", r"negatives\.side: unknown key; known are count, steps"),
        ("zzz: 1", "zzz: unknown key; known are name, seed, data"),
        (r'"z\n\nz": 1', r"z\\n\\nz: unknown key"),
        (f"{'z' * 500}: 1", f"{'z' * 79}…: unknown key"),
        (STEP % r'turn: {"s\ud800\n": 3}', r".*turn\.s\\ud800\\n: unknown key"),
        ("seed: many", r"seed: .*\(got 'many'\)"),
        ("seed: -1", r"seed: .*\(got -1\)"),
        (STEP % "mixup: {ratio: 1.5}", r".*mixup\.ratio: must be from 0 to 1, not 1\.5"),
        (STEP % "mixup: {ratio: [0.1, -0.1]}", r".*mixup\.ratio: must be from 0 to 1, not -0\.1"),
        (STEP % "mixup: {ratio: .nan}", r".*mixup\.ratio"),
        (STEP % "mixup: {ratio: []}", r".*mixup\.ratio"),
        (STEP % "mixup: {gain: 0}", r".*mixup\.gain"),
        (STEP % "turn: {side: 2.5}", r".*turn\.side"),
        (STEP % "turn: {turns: [0, 4]}", r".*turn\.turns"),
        (STEP % "turn: {turns: [0, 0]}", r".*turn\.turns: must be .* each once"),
        (STEP % "turn: {mirror: sideways}", r".*turn\.mirror"),
        (STEP % "turn: {blend: glue}", r".*turn\.blend"),
        (STEP % "turn: 3", r".*turn: must hold"),
        ("negatives: {steps: turn}", r"negatives\.steps: must be a list of steps"),
        ("noise: {sample: {side: 0}}", r"noise\.sample: side: "),
        ("noise: {sample: {sied: 8}}", r"noise\.sample: sied: unknown key; .* 'side'\?"),
        ("negatives: 3", "negatives: "),
        ("simulate: {train: 1, test: 0}", "data and simulate exclude each other"),
        ("name: ../up", "name: "),
        ("name: ''", "name: "),
        ("seed: true", "seed: true is not a value that it can have"),
        (STEP % "mixup: {ratio: true}", r".*mixup\.ratio: true is not"),
        ("simulate: {train: 4, test: 1, shape: [8, 8]}", r"simulate\.shape\.0: .* 16"),
        (
            "simulate: {train: 4, test: 1, sensor: {blur_sigma: 1.0e9}}",
            r"simulate\.sensor\.blur_sigma: .* 32",
        ),
    ],
)
def test_a_wrong_key_or_value_is_told(write: Write, text: str, words: str) -> None:
    path = write(BASE + text if not text.startswith("name") else f"data: set\n{text}")
    with pytest.raises(ConfigError, match=rf"my\.yaml: {words}") as caught:
        load_config(path, BuildConfig)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["a: [", "a: 1\na: 2", "- a\n- b", "just words", "a: !!python/name:os.system", "\tx: 1",
     "? [a, b]\n: 1"],
)  # fmt: skip
def test_what_is_no_mapping_is_refused_by_name(write: Write, text: str) -> None:
    with pytest.raises(ConfigError, match=r"my\.yaml"):
        load_config(write(text), BuildConfig)


def test_a_missing_source_is_told(write: Write) -> None:
    with pytest.raises(ConfigError, match="--data"):
        load_config(write("name: x"), BuildConfig)


def test_an_absent_file_and_a_binary_one_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: cannot be read"):
        load_config(tmp_path / "absent.yaml", BuildConfig)
    (tmp_path / "odd.yaml").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ConfigError, match=r"odd\.yaml: is not a text file"):
        load_config(tmp_path / "odd.yaml", BuildConfig)


@pytest.mark.parametrize("code", ["!!python/object/apply:pathlib.Path.touch", "!!python/tuple"])
def test_no_code_in_a_file_is_run(write: Write, tmp_path: Path, code: str) -> None:
    mark = tmp_path / "executed"
    with pytest.raises(ConfigError):
        load_config(write(f"name: {code} [{mark}]"), BuildConfig)
    assert not mark.exists()


def test_overrides_go_before_the_file_and_options_before_overrides(write: Write) -> None:
    path = write(BASE + "seed: 1\nnoise: {sample: {side: 16}}\n" + STEP % "turn, mixup")
    changes = ["noise.sample.side=8", "negatives.steps.turn.turns=[0, 2]", "seed=2"]
    config = load_config(path, BuildConfig, changes, seed=3, data=None)
    assert config.noise is not None
    assert (config.noise.sample.side, config.seed) == (8, 3)
    assert config.negatives.steps == (Turn(turns=(0, 2)), Mixup())


def test_an_override_finds_a_step_by_its_name(write: Write) -> None:
    path = write(
        BASE + STEP % "mixup, choose: [{share: 0.4, move: }, {share: 0.6, turn: {side: 9}}], mixup"
    )

    def steps(*overrides: str) -> tuple[Step, ...]:
        changes = [f"negatives.steps.{one}" for one in overrides]
        return load_config(path, BuildConfig, changes).negatives.steps

    parts = ((0.4, Move()), (0.6, Turn(side=5)))
    assert steps("turn.side=5") == (Mixup(), Choose(parts), Mixup())
    assert steps("mixup.ratio=0.2", "turn.side=5")[::2] == (Mixup(ratio=0.2),) * 2
    assert steps("mixup=null", "turn.side=5") == (Choose(parts),)
    assert steps("choose=[{share: 1, move: {stay: true, angle: 90}}]")[1:2] == (
        Choose(((1.0, Move(stay=True, angle=90.0)),)),
    )
    with pytest.raises(ConfigError, match=r"no step is called 'distract'"):
        steps("distract.count=3")


def test_an_override_may_fill_what_the_file_leaves_empty(write: Write) -> None:
    config = load_config(write(BASE + "noise:\n"), BuildConfig, ["noise.sample.side=8"])
    assert config.noise is not None
    assert config.noise.sample.side == 8


def test_without_noise_there_is_none(write: Write) -> None:
    text = BASE + "noise: null\n"
    assert load_config(write(text + STEP % "turn"), BuildConfig).noise is None
    with pytest.raises(ConfigError, match="noise: is null, and a step needs some"):
        load_config(write(text + STEP % "mixup"), BuildConfig)


@pytest.mark.parametrize("override", ["seed", "=3", "name.inner=3", "seed=[", "sead=3"])
def test_a_wrong_override_is_told(write: Write, override: str) -> None:
    with pytest.raises(ConfigError):
        load_config(write(BASE), BuildConfig, [override])


def test_one_value_is_a_list_of_one() -> None:
    assert validate({"frames": "here"}, NoiseSettings, "here").frames == (Path("here"),)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_steps_survive_being_written_and_read(path: Path) -> None:
    simulated = "simulate:" in path.read_text()
    config = load_config(path, BuildConfig, data=None if simulated else "set")
    dumped = json.loads(json.dumps(config.model_dump(mode="json")))
    assert BuildConfig.model_validate(dumped) == config


def test_a_box_larger_than_simulated_images_is_told() -> None:
    values = {"name": "x", "simulate": {"train": 1, "test": 0, "shape": [16, 64]}}
    with pytest.raises(ConfigError, match=r"turn: a box of 32 pixels"):
        validate(values, BuildConfig, "here")
