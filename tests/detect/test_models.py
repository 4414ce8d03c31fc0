import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.errors import ModelError
from detect.models import build_model, count_cost, model_names, share_tensors


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


@settings(max_examples=30, deadline=None)
@given(
    name=st.sampled_from(["small", "small-blurpool"]),
    height=st.integers(1, 70),
    width=st.integers(1, 70),
)
def test_any_size_comes_back_as_it_went_in(name: str, height: int, width: int) -> None:
    network = build_model(name).eval()
    image = torch.randn(1, 1, height, width)
    with torch.no_grad():
        logits = network(image)[-1]
        below, right = -height % network.multiple, -width % network.multiple
        rows = torch.arange(height + below).clamp(max=height - 1)
        cols = torch.arange(width + right).clamp(max=width - 1)
        padded = network.segment(image[:, :, rows][..., cols])[-1]
    assert logits.shape == image.shape
    torch.testing.assert_close(logits, padded[..., :height, :width])


def test_smoothed_pooling_is_the_mean_of_maxima_around_each_square() -> None:
    x = torch.randn(2, 3, 8, 12)
    pooled = build_model("small-blurpool").pool(x)
    beyond = torch.full((2, 3, 10, 14), -torch.inf)
    beyond[..., 1:-1, 1:-1] = x
    for row, col in ((0, 0), (1, 2), (3, 5)):
        squares = [
            beyond[..., 2 * row + down : 2 * row + down + 2, 2 * col + along : 2 * col + along + 2]
            for down in range(3)
            for along in range(3)
        ]
        mean = torch.stack([square.amax((-1, -2)) for square in squares]).mean(0)
        torch.testing.assert_close(pooled[..., row, col], mean)


def test_smoothed_pooling_follows_a_pixel_that_moves_by_one() -> None:
    # The maximum alone stays for one pixel and jumps by two at the next.
    for name, short, long in (("small", 2, 0), ("small-blurpool", 2 / 3, 4 / 3)):
        pool = build_model(name).pool
        centres = []
        for at in range(7, 12):
            x = torch.zeros(1, 1, 16, 16)
            x[..., 8, at] = 1
            answer = pool(x)[0, 0].sum(0)
            assert float(answer.sum()) == pytest.approx(1)
            centres.append((answer * (2 * torch.arange(8) + 0.5)).sum())
        assert torch.stack(centres).diff().tolist() == pytest.approx([short, long] * 2, abs=1e-5)


def test_networks_that_differ_in_pooling_alone_share_their_tensors() -> None:
    assert share_tensors("small", "small-blurpool")
    assert not share_tensors("small", "acm")
    assert not share_tensors("dnanet", "dnanet-vgg10")


def test_unknown_network_suggests_the_right_one() -> None:
    with pytest.raises(ModelError, match="did you mean 'dnanet'"):
        build_model("dna-net")
