from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detect import export, models
from detect.errors import DetectError
from detect.models import build_model
from detect.models.small import Small
from detect.normalise import Kind, Normalisation
from detect.predict import Detector, load_detector
from detect.weightsfile import Weights, write_weights

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

OWN = Normalisation("frame", (0.0,), (1.0,))


@pytest.fixture(scope="module", params=["shallow", pytest.param("small", marks=pytest.mark.slow)])
def name(request: pytest.FixtureRequest) -> Iterator[str]:
    """Our network, and the same with fewer levels, which takes less long to trace."""
    with pytest.MonkeyPatch.context() as patch:
        builders = models._BUILDERS | {"shallow": lambda channels: Small(channels, (16, 24, 24))}
        patch.setattr(models, "_BUILDERS", builders)
        yield request.param


@pytest.fixture(scope="module")
def weights(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = build_model(name)
    with torch.no_grad():
        # Probabilities of every size, where a fresh network has 0.01 everywhere.
        network.head.weight *= 20
        network.head.bias.zero_()
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    write_weights(path, Weights(name, OWN, network.state_dict(), {}))
    return path


@pytest.fixture(scope="module")
def model(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    path = tmp_path_factory.mktemp("onnx") / "new" / "w.onnx"
    return path, export.export_onnx(weights, path)


def frame(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    """A deep frame whose mean is far above its deviation."""
    return np.random.default_rng(seed).normal(50000, 60, shape).astype(np.uint16)


@pytest.mark.parametrize("shape", [(64, 64), (32, 96), (2, 3), (31, 140)])
def test_the_graph_answers_as_the_detector(
    shape: tuple[int, int], weights: Path, model: tuple[Path, Any]
) -> None:
    frames = [frame(shape, seed) for seed in range(2)]
    session = onnxruntime.InferenceSession(model[0], providers=["CPUExecutionProvider"])
    entering = np.stack(frames)[:, None].astype(np.float32)
    (answer,) = session.run(None, {"frame": entering})
    detector = load_detector(weights, "cpu")
    expected = np.stack([detector(one) for one in frames])
    assert expected.std() > 0.05
    np.testing.assert_allclose(answer[:, 0], expected, atol=1e-4)


def test_the_file_says_what_it_is_and_nothing_of_where_it_was_made(
    name: str, model: tuple[Path, Any]
) -> None:
    path, made = model
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    about = session.get_modelmeta().custom_metadata_map
    assert about["network"] == made.network == name
    assert json.loads(about["normalisation"]) == {"kind": "frame", "mean": [0.0], "std": [1.0]}
    assert about["input"] == made.input == "DN of any depth"
    assert [(i.name, i.shape[1], i.type) for i in session.get_inputs()] == [
        ("frame", 1, "tensor(float)")
    ]
    data = path.read_bytes()
    assert made.size == len(data)
    assert 0 <= made.difference <= 1e-4
    assert str(Path(export.__file__).parents[1]).encode() not in data
    assert b"site-packages" not in data


@pytest.mark.parametrize("kind", ["frame", "dataset"])
@pytest.mark.parametrize("network_name", ["small", "rdian"])
@pytest.mark.parametrize("shape", [(40, 33), (3, 20)])
def test_normalisation_and_padding_are_those_of_the_detector(
    kind: Kind, network_name: str, shape: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    network = build_model(network_name, 3).eval()
    rule = Normalisation(kind, (9.0, 7.0, 1.0), (20.0, 30.0, 40.0))
    eight = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    with torch.inference_mode():
        graph = export._Graph(network, rule)
        answer = graph(torch.from_numpy(eight)[None, None].float())[0, 0].numpy()
    np.testing.assert_allclose(answer, Detector(network, rule, "cpu")(eight), atol=1e-5)


def test_the_graph_averages_over_moves(weights: Path, tmp_path: Path) -> None:
    made = export.export_onnx(weights, tmp_path / "four.onnx", tta=4)
    session = onnxruntime.InferenceSession(
        tmp_path / "four.onnx", providers=["CPUExecutionProvider"]
    )
    assert session.get_modelmeta().custom_metadata_map["tta"] == "4"
    assert made.difference <= 1e-4
    for shape in ((64, 64), (31, 140)):
        one = frame(shape)
        (answer,) = session.run(None, {"frame": one[None, None].astype(np.float32)})
        single, four = (load_detector(weights, "cpu", tta=tta)(one) for tta in (1, 4))
        np.testing.assert_allclose(answer[0, 0], four, atol=1e-4)
        assert np.abs(single - four).max() > 1e-2


def test_a_constant_frame_is_no_division_by_zero() -> None:
    graph = export._Graph(build_model("small").eval(), OWN)
    with torch.inference_mode():
        assert graph(torch.full((1, 1, 32, 32), 7000.0)).isfinite().all()


def test_a_graph_that_differs_is_not_written(
    name: str,
    weights: Path,
    model: tuple[Path, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = model[0].read_bytes()
    monkeypatch.setattr(export, "_trace", lambda graph, about: data)
    other = tmp_path / "other.safetensors"
    torch.manual_seed(1)
    write_weights(other, Weights(name, OWN, build_model(name).state_dict(), {}))
    with pytest.raises(DetectError, match=r"other\.safetensors: .* differ .* nothing was written"):
        export.export_onnx(other, tmp_path / "x.onnx")
    assert not (tmp_path / "x.onnx").exists()
    export.export_onnx(weights, tmp_path / "x.onnx")
    assert (tmp_path / "x.onnx").read_bytes() == data


def test_what_is_missing_is_named(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(DetectError, match="ONNX needs onnxscript, not installed here; run: pip"):
        export.export_onnx(weights, tmp_path / "x.onnx")
