"""Nothing that is read is run: no pickle, no YAML tags, no entities, no archive unpacked."""

from __future__ import annotations

import io
import pickle
import re
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from detect.errors import WeightsError
from detect.predictions import PredictionError, open_predictions
from detect.weightsfile import read_weights
from pipelines.build.config import BuildConfig
from pipelines.config import load_config, parse_yaml
from pipelines.errors import ConfigError
from synth.errors import NoiseError
from synth.noise.cameras import load_noise

ROOT = Path(__file__).parents[2]

# What can run what it reads, or write where it likes.
_UNSAFE = re.compile(
    r"torch\.load|pickle|marshal|shelve|dill|\beval\(|\bexec\(|yaml\.(unsafe_|full_)?load\(|"
    r"allow_pickle=True|extractall|unpack_archive|os\.system|shell=True|Loader=yaml\.(Unsafe|Full)?"
    r"Loader|np\.load\(|joblib\.load"
)
# Tasks travel to workers as pickles; they come from this very program.
_KNOWN = {
    "pipelines/build/hosts.py": r"pickle\.(dumps|loads)\(|import pickle",
    "pipelines/build/cluster.py": r"pickle\.(dumps|loads)\(|import pickle",
    "pipelines/config.py": r"yaml\.load\(text, Loader=_Loader\)",
    "synth/disk/npz.py": r"allow_pickle=False|no pickle",
}


def test_the_packages_read_nothing_that_runs() -> None:
    found = []
    for package in ("synth", "pipelines", "detect"):
        for path in sorted((ROOT / package).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
                plain = re.sub(r"no pickle|network\.eval\(\)|\.eval\(\)|def eval", "", line)
                known = name in _KNOWN and re.search(_KNOWN[name], line)
                if _UNSAFE.search(plain) and not known:
                    found.append(f"{name}:{number}: {line.strip()}")
    assert found == []


class _Trap:
    """What touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> object:
        return Path.touch, (self._path,)


@pytest.fixture
def trap(tmp_path: Path) -> tuple[bytes, Path]:
    return pickle.dumps(_Trap(tmp_path / "sprung")), tmp_path / "sprung"


def test_pickles_are_not_run(tmp_path: Path, trap: tuple[bytes, Path]) -> None:
    data, sprung = trap
    weights = tmp_path / "best.safetensors"
    weights.write_bytes(data)
    with pytest.raises(WeightsError, match="is not a safetensors file"):
        read_weights(weights)
    buffer = io.BytesIO()
    torch.save({"x": _Trap(sprung)}, buffer)
    weights.write_bytes(buffer.getvalue())
    with pytest.raises(WeightsError, match="is not a safetensors file"):
        read_weights(weights)
    objects = np.array([_Trap(sprung)], object)
    np.savez(tmp_path / "bank.npz", patches=objects)
    with pytest.raises(NoiseError, match="is not noise"):
        load_noise(tmp_path / "bank.npz")
    (tmp_path / "answers").mkdir()
    np.save(tmp_path / "answers" / "a.npy", objects)
    with pytest.raises(PredictionError, match="no numpy array"):
        open_predictions(tmp_path / "answers", ["a"])
    assert not sprung.exists()


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.system ['touch {}']",
        "!!python/object/new:pathlib.Path ['{}']",
        "!!python/name:os.system ''",
        "!!timestamp 1",
        "!!binary x",
    ],
)
def test_tags_of_yaml_are_refused(tmp_path: Path, tag: str) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(f"name: {tag.format(tmp_path / 'sprung')}\n")
    with pytest.raises(ConfigError, match=r"odd\.yaml"):
        load_config(path, BuildConfig)
    assert not (tmp_path / "sprung").exists()


def laughs(inner: str, first: str) -> str:
    text = f"a: &a {first}\n"
    for before, name in zip("abcdefghij", "bcdefghijk", strict=True):
        text += f"{name}: &{name} {inner.format(','.join([f'*{before}'] * 9))}\n"
    return text


@pytest.mark.parametrize(
    "text",
    [
        laughs("[{}]", "[x]"),
        laughs("{{<<: [{}]}}", "{x: 1}"),
        "a: &a [*a]\n",
        "a: &a {b: *a}\n",
        "a: " + "[" * 10_000,
        "a: &a 1\nb: [" + "*a," * 5000 + "]\n",
        "a: " + "x" * (2 << 20),
    ],
)
def test_yaml_that_grows_without_end_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    begun = time.process_time()
    with pytest.raises(ConfigError, match=r"odd\.yaml.*is not valid YAML"):
        load_config(path, BuildConfig)
    assert time.process_time() - begun < 30


def test_our_own_configurations_are_within_the_limits() -> None:
    for path in sorted((ROOT / "configs").rglob("*.yaml")):
        assert isinstance(parse_yaml(path.read_text(encoding="utf-8"), path.name), dict)
