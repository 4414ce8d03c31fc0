"""Configuration: what is wrong is told in one line that names the file and the key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.build_config import BuildConfig, NegativeSettings, NoiseSettings
from pipelines.config import load_config, validate
from pipelines.errors import ConfigError

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
Write = Callable[[str], Path]
BASE = "name: x\ndata: set\n"


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
    assert config.noise.ratio == (0.1,)
    assert (config.noise.patch, config.noise.max_var, config.noise.min_mean) == (32, 50, 0)
    negatives = config.negatives
    assert (negatives.count, negatives.side, negatives.mirror) == (4199, 32, True)
    assert negatives.turns == (0, 1, 2, 3)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nois: {}", r"nois: unknown key; did you mean 'noise'\?"),
        ("noise: {ration: 0.1}", r"noise\.ration: unknown key; did you mean 'ratio'\?"),
        ("negatives: {sides: 3}", r"negatives\.sides: unknown key; did you mean 'side'\?"),
        ("zzz: 1", "zzz: unknown key; known are name, seed, data"),
        ("seed: many", r"seed: .*\(got 'many'\)"),
        ("seed: -1", r"seed: .*\(got -1\)"),
        ("noise: {ratio: 1.5}", r"noise\.ratio\.0: .*less than or equal to 1 \(got 1\.5\)"),
        ("noise: {ratio: [0.1, -0.1]}", r"noise\.ratio\.1: .*greater than or equal to 0"),
        ("noise: {ratio: .nan}", r"noise\.ratio"),
        ("noise: {ratio: []}", r"noise\.ratio"),
        ("noise: {patch: 0}", r"noise\.patch"),
        ("noise: {gain: 0}", r"noise\.gain"),
        ("noise: {mode: poisson}", r"noise\.mode"),
        ("negatives: {side: 2.5}", r"negatives\.side"),
        ("negatives: {turns: [0, 4]}", r"negatives\.turns\.1"),
        ("negatives: {turns: [0, 0]}", r"negatives\.turns: a turn is named twice"),
        ("negatives: {mirror: sideways}", r"negatives\.mirror"),
        ("negatives: 3", "negatives: "),
        ("simulate: {train: 1, test: 0}", "data and simulate exclude each other"),
        ("name: ../up", "name: "),
        ("name: ''", "name: "),
        ("seed: true", "seed: true is not a value that it can have"),
        ("noise: {ratio: true}", r"noise\.ratio: true is not"),
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
    path = write(BASE + "seed: 1\nnoise: {patch: 16, ratio: 0.2}")
    config = load_config(
        path, BuildConfig, ["noise.patch=8", "negatives.turns=[0, 2]", "seed=2"], seed=3, data=None
    )
    assert config.noise is not None
    assert (config.noise.patch, config.noise.ratio, config.seed) == (8, (0.2,), 3)
    assert config.negatives.turns == (0, 2)


def test_an_override_may_fill_what_the_file_leaves_empty(write: Write) -> None:
    config = load_config(write(BASE + "noise:\n"), BuildConfig, ["noise.patch=8"])
    assert config.noise is not None
    assert config.noise.patch == 8


def test_without_noise_there_is_none(write: Write) -> None:
    assert load_config(write(BASE + "noise: null"), BuildConfig).noise is None


@pytest.mark.parametrize("override", ["seed", "=3", "name.inner=3", "seed=[", "sead=3"])
def test_a_wrong_override_is_told(write: Write, override: str) -> None:
    with pytest.raises(ConfigError):
        load_config(write(BASE), BuildConfig, [override])


def test_one_value_is_a_list_of_one() -> None:
    settings = validate({"ratio": 0.3, "sources": "frames"}, NoiseSettings, "here")
    assert (settings.ratio, settings.sources) == ((0.3,), (Path("frames"),))


def test_settings_become_the_plain_records() -> None:
    noise = NoiseSettings(patch=8, stride=2, max_var=9, limit=5, ratio=(0.2, 0.3))
    rule = noise.sampling_rule()
    assert (rule.side, rule.stride, rule.max_var, rule.limit) == (8, 2, 9, 5)
    recipe = NegativeSettings(side=4, turns=(1,), mirror=True, count=7).recipe(noise.noise_rule())
    assert (recipe.side, recipe.turns, recipe.mirror, recipe.count) == (4, (1,), True, 7)
    assert recipe.noise is not None
    assert recipe.noise.amounts == (0.2, 0.3)


def test_a_box_larger_than_simulated_images_is_told() -> None:
    values = {"name": "x", "simulate": {"train": 1, "test": 0, "shape": [16, 64]}}
    with pytest.raises(ConfigError, match=r"negatives\.side"):
        validate(values, BuildConfig, "here")
