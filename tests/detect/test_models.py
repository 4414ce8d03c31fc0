import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.errors import ModelError
from detect.models import build_model, count_cost, model_names


def test_dnanet_has_the_published_number_of_parameters() -> None:
    params, macs = count_cost("dnanet", in_channels=3)
    assert round(params / 1e6, 3) == 4.697
    # The published 14.3 G count normalisation and resampling too; ours are the convolutions.
    assert macs == pytest.approx(14.3e9, rel=0.04)


def test_variants_are_ordered_by_depth() -> None:
    with torch.device("meta"):
        networks = [build_model(f"dnanet{v}") for v in ("-vgg10", "-resnet10", "", "-resnet34")]
    params = [sum(p.numel() for p in network.parameters()) for network in networks]
    assert params == sorted(params)


def test_small_is_small() -> None:
    params, macs = count_cost("small")
    assert params <= 0.5e6
    assert macs <= 1e9


def test_operations_of_a_convolution_are_counted_by_hand() -> None:
    # Twice the side, four times the work, once the sides are multiples of what pooling needs.
    one, two = (count_cost("small", side=side).macs for side in (64, 128))
    assert two == 4 * one


@pytest.mark.parametrize("name", [n for n in model_names() if n != "uiunet"])
def test_every_network_learns_with_all_its_parameters(name: str) -> None:
    network = build_model(name, 1)
    outputs = network(torch.randn(2, 1, 32, 32))
    assert {tuple(o.shape) for o in outputs} == {(2, 1, 32, 32)}
    sum(o.sum() for o in outputs).backward()
    assert all(p.grad is not None for p in network.parameters())


def test_dnanet_supervises_four_outputs() -> None:
    assert len(build_model("dnanet-resnet10", 3)(torch.randn(2, 3, 16, 16))) == 4


@settings(max_examples=15, deadline=None)
@given(height=st.integers(1, 70), width=st.integers(1, 70))
def test_any_size_comes_back_as_it_went_in(height: int, width: int) -> None:
    network = build_model("small").eval()
    image = torch.randn(1, 1, height, width)
    with torch.no_grad():
        logits = network(image)[-1]
        below, right = -height % network.multiple, -width % network.multiple
        rows = torch.arange(height + below).clamp(max=height - 1)
        cols = torch.arange(width + right).clamp(max=width - 1)
        padded = network.segment(image[:, :, rows][..., cols])[-1]
    assert logits.shape == image.shape
    torch.testing.assert_close(logits, padded[..., :height, :width])


def test_unknown_network_suggests_the_right_one() -> None:
    with pytest.raises(ModelError, match="did you mean 'dnanet'"):
        build_model("dna-net")
