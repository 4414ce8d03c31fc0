"""The networks of the literature: what they cost, what they return, and that they learn."""

import json

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

from detect.losses import soft_iou_bce
from detect.models import build_model, count_cost, published_cost
from detect.models.alcnet import local_contrast
from detect.models.blocks import BatchNorm
from pipelines.cli.detect import main

OUTPUTS = {
    "acm": 1,
    "alcnet": 1,
    "alcnet-contrast": 1,
    "istdunet": 1,
    "rdian": 1,
    "mshnet": 5,
    "uiunet": 7,
}
# UIU-Net has 50 million parameters: its gradients are followed without being computed.
COMPUTED = [name for name in OUTPUTS if name != "uiunet"]
CHANNELS = {"dnanet": 3, "mshnet": 3, "alcnet-contrast": 3}


@pytest.mark.parametrize("name", [*OUTPUTS, "dnanet"])
def test_parameters_agree_with_the_published_count(name: str) -> None:
    params, _ = count_cost(name, CHANNELS.get(name, 1))
    assert params == pytest.approx(published_cost(name).params, rel=0.01)


@pytest.mark.parametrize("name", ["acm", "alcnet", "istdunet", "rdian", "uiunet"])
def test_published_operations_are_ours_and_what_their_counter_adds(name: str) -> None:
    extra = 0

    def add(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal extra
        if isinstance(module, nn.BatchNorm2d):
            extra += 4 * output.numel()
        elif isinstance(module, nn.ConvTranspose2d):
            extra += 3 * inputs[0].numel() * module.weight[0].numel()

    with torch.device("meta"):
        network = build_model(name).eval()
        image = torch.empty(1, 1, 256, 256)
    for module in network.modules():
        module.register_forward_hook(add)
    network(image)
    assert count_cost(name).macs + extra == pytest.approx(published_cost(name).macs, rel=0.002)


def test_a_network_of_our_own_has_no_published_figures() -> None:
    assert published_cost("small") == (None, None)


@pytest.mark.parametrize("name", COMPUTED)
@pytest.mark.parametrize(("height", "width"), [(7, 5), (33, 47)])
def test_one_image_of_any_size_trains(name: str, height: int, width: int) -> None:
    network = build_model(name)
    outputs = network(torch.randn(1, 1, height, width))
    assert [tuple(o.shape) for o in outputs] == [(1, 1, height, width)] * OUTPUTS[name]
    torch.stack(outputs).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_uiunet_returns_seven_maps_of_any_size_and_all_its_parameters_have_gradients() -> None:
    with torch.device("meta"):
        network = build_model("uiunet")
        outputs = network(torch.empty(1, 1, 33, 47))
    assert [tuple(o.shape) for o in outputs] == [(1, 1, 33, 47)] * OUTPUTS["uiunet"]
    torch.stack(outputs).sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_uiunet_computes() -> None:
    network = build_model("uiunet").eval()
    with torch.no_grad():
        outputs = network(torch.randn(1, 1, 64, 64))
    assert all(o.isfinite().all() and o.std() > 0 for o in outputs)


@pytest.mark.parametrize("name", COMPUTED)
def test_a_few_steps_reduce_the_loss_on_one_image(name: str) -> None:
    torch.manual_seed(0)
    truth = torch.zeros(1, 1, 48, 48)
    truth[..., 20:24, 30:33] = 1
    image = 3 * truth + 0.1 * torch.randn_like(truth)
    network = build_model(name)
    optimiser = torch.optim.Adam(network.parameters(), 5e-3)
    losses: list[float] = []
    for _ in range(30):
        loss = soft_iou_bce(network(image), truth)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        if losses[-1] < 0.8 * losses[0]:
            break
    assert losses[-1] < 0.9 * losses[0]


def test_normalisation_of_a_single_value_uses_the_running_statistics_and_keeps_them() -> None:
    norm = BatchNorm(3)
    norm(torch.randn(2, 3, 4, 4) + 5)
    before = norm.running_mean.clone()
    one = torch.randn(1, 3, 1, 1)
    trained = norm.train()(one)
    assert torch.equal(norm.running_mean, before)
    torch.testing.assert_close(trained, norm.eval()(one))


def test_normalisation_of_more_values_is_that_of_torch() -> None:
    ours, theirs = BatchNorm(3), nn.BatchNorm2d(3)
    x = torch.randn(2, 3, 1, 1)
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.running_var, theirs.running_var)


def test_local_contrast_agrees_with_its_definition_pixel_by_pixel() -> None:
    height, width = 9, 7
    x = torch.randn(1, 1, height, width)
    grey = x[0, 0].tolist()

    def differ(r: int, c: int, rows: int, cols: int) -> float:
        return grey[(r + rows) % height][(c + cols) % width] - grey[r][c]

    def contrast(r: int, c: int, s: int) -> float:
        pairs = [(s, s), (s, 0), (s, -s), (0, s)]
        return min(differ(r, c, dr, dc) * differ(r, c, -dr, -dc) for dr, dc in pairs)

    expected = [
        [max(contrast(r, c, s) for s in (2, 3)) for c in range(width)] for r in range(height)
    ]
    torch.testing.assert_close(local_contrast(x, (2, 3))[0, 0], torch.tensor(expected))


def test_the_command_lists_published_figures_beside_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detect.models.model_names", lambda: ("small", "acm"))
    rows = json.loads(CliRunner().invoke(main, ["models", "--json"]).stdout)["models"]
    keys = ["name", "params", "macs", "published_params", "published_macs"]
    assert [list(row) for row in rows] == [keys, keys]
    assert [row["published_params"] for row in rows] == [None, 398_000]
    table = CliRunner().invoke(main, ["models"]).stdout.splitlines()
    assert [line.split()[0] for line in table] == ["network", "small", "acm"]
    assert table[2].split()[1:] == ["0.398", "0.398", "0.343", "0.402"]
