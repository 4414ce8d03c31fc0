from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from detect.errors import WeightsError
from detect.models import build_model
from detect.normalise import Normalisation
from detect.predict import load_detector
from detect.tensors import write_tensors
from detect.weightsfile import Weights, average_weights, read_weights, write_weights

RULE = Normalisation("dataset", (100.5,), (17.25,))


def save(path: Path, network: str = "small") -> Path:
    write_weights(path, Weights(network, RULE, build_model("small").state_dict(), {"step": 3}))
    return path


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    network = build_model("small")
    weights = Weights("small", RULE, network.state_dict(), {"step": 3})
    write_weights(tmp_path / "a", weights)
    write_weights(tmp_path / "b", weights)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    read = read_weights(tmp_path / "a")
    assert (read.network, read.normalisation, read.card) == ("small", RULE, {"step": 3})
    rebuilt = read.build(tmp_path / "a").eval()
    image = torch.randn(1, 1, 16, 16)
    torch.testing.assert_close(rebuilt(image), network.eval()(image), rtol=0, atol=0)


@pytest.mark.parametrize("keep", [0, 5, 100, 20000])
def test_a_damaged_file_is_named(tmp_path: Path, keep: int) -> None:
    path = save(tmp_path / "w.safetensors")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(WeightsError, match=r"w\.safetensors: is not a safetensors file"):
        load_detector(path)


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    torch.save({"weights": torch.ones(3)}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="is not a safetensors file"):
        load_detector(tmp_path / "w.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_named(tmp_path: Path, value: float) -> None:
    tensors = build_model("small").state_dict()
    tensors["stem.bias"][1] = value
    write_weights(tmp_path / "w", Weights("small", RULE, tensors, {}))
    with pytest.raises(WeightsError, match=r"w: stem\.bias is not finite"):
        load_detector(tmp_path / "w")


@pytest.mark.parametrize(
    "rule",
    [
        Normalisation("foo", (1.0,), (1.0,)),  # type: ignore[arg-type]
        Normalisation("dataset", ("a",), (1.0,)),  # type: ignore[arg-type]
        Normalisation("dataset", (1.0,), (0.0,)),
        Normalisation("dataset", (1.0, 2.0), (1.0,)),
        Normalisation("dataset", (), ()),
    ],
)
def test_a_normalisation_that_cannot_be_used_is_named(tmp_path: Path, rule: Normalisation) -> None:
    write_weights(tmp_path / "w", Weights("small", rule, build_model("small").state_dict(), {}))
    with pytest.raises(WeightsError, match="w: is no weights file"):
        load_detector(tmp_path / "w")


def test_files_of_other_origin_are_named(tmp_path: Path) -> None:
    save_file({"x": torch.ones(3)}, tmp_path / "foreign")
    with pytest.raises(WeightsError, match="does not say which network"):
        load_detector(tmp_path / "foreign")
    write_tensors(tmp_path / "state", {"x": torch.ones(3)}, {"progress": {}})
    with pytest.raises(WeightsError, match="is no weights file"):
        load_detector(tmp_path / "state")
    with pytest.raises(WeightsError, match="no such file"):
        load_detector(tmp_path / "absent")
    with pytest.raises(WeightsError, match="is not a file"):
        load_detector(tmp_path)
    with pytest.raises(WeightsError, match="unknown here"):
        load_detector(save(tmp_path / "new", network="later"))
    with pytest.raises(WeightsError, match="not those of the network 'dnanet'"):
        load_detector(save(tmp_path / "mixed", network="dnanet"))


def test_the_mean_of_weights_is_that_of_their_tensors(tmp_path: Path) -> None:
    paths = []
    for number in range(3):
        torch.manual_seed(number)
        weights = Weights("small", RULE, build_model("small").state_dict(), {"step": number})
        paths.append(tmp_path / f"{number}.safetensors")
        write_weights(paths[-1], weights)
    mean = average_weights(paths)
    read = [read_weights(path).tensors for path in paths]
    for name, tensor in mean.tensors.items():
        parts = [tensors[name] for tensors in read]
        expected = sum(parts) / 3 if tensor.is_floating_point() else parts[0]
        torch.testing.assert_close(tensor, expected)
    assert mean.card == {"mean_of": [{"step": 0}, {"step": 1}, {"step": 2}]}
    write_weights(tmp_path / "mean", mean)
    load_detector(tmp_path / "mean")


def test_only_weights_of_one_network_have_a_mean(tmp_path: Path) -> None:
    ours = save(tmp_path / "ours.safetensors")
    other = tmp_path / "other.safetensors"
    write_weights(other, Weights("acm", RULE, build_model("acm").state_dict(), {}))
    with pytest.raises(WeightsError, match=r"other\.safetensors: is not of the network"):
        average_weights([ours, other])
    rule = Normalisation("dataset", (1.0,), (2.0,))
    write_weights(other, Weights("small", rule, build_model("small").state_dict(), {}))
    with pytest.raises(WeightsError, match="normalisation"):
        average_weights([ours, other])
