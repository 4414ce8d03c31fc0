"""Networks by name: `build_model`, `model_names`, and what each costs, `count_cost`."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from detect.errors import ModelError
from detect.models.dnanet import DNANet
from detect.models.network import Network
from detect.models.small import Small

__all__ = ["Cost", "Network", "build_model", "count_cost", "model_names", "require_known"]

_BUILDERS: dict[str, Callable[[int], Network]] = {
    "small": lambda channels: Small(channels),
    "dnanet": lambda channels: DNANet(channels, blocks=(2, 2, 2, 2)),
    "dnanet-resnet10": lambda channels: DNANet(channels, blocks=(1, 1, 1, 1)),
    "dnanet-resnet34": lambda channels: DNANet(channels, blocks=(3, 4, 6, 3)),
    "dnanet-vgg10": lambda channels: DNANet(channels, blocks=(1, 1, 1, 1), residual=False),
}


class Cost(NamedTuple):
    """What a network costs.

    Attributes
    ----------
    params : int
        Trainable parameters.
    macs : int
        Multiply-accumulate operations of one forward pass (convolutions and matrix products).
    """

    params: int
    macs: int


def model_names() -> tuple[str, ...]:
    """Names that `build_model` knows, in the order of the table."""
    return tuple(_BUILDERS)


def require_known(name: str) -> str:
    """Return `name` if a network is called so; else raise a `ModelError` that suggests one."""
    if name in _BUILDERS:
        return name
    near = difflib.get_close_matches(name, _BUILDERS, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(_BUILDERS)}"
    raise ModelError(f"no network is called {name!r}; {hint}")


def build_model(name: str, in_channels: int = 1) -> Network:
    """Build a network with fresh weights, drawn from torch's global generator.

    Parameters
    ----------
    name : str
        One of `model_names`; ``dnanet`` is the variant with ResNet-18 blocks.
    in_channels : int
        Channels of the input.

    Returns
    -------
    Network

    Raises
    ------
    ModelError
        There is no such network.
    """
    return _BUILDERS[require_known(name)](in_channels)


def count_cost(name: str, in_channels: int = 1, side: int = 256) -> Cost:
    """Count the parameters of a network and its operations on a square image.

    Nothing is computed: the network runs on torch's meta device. Torch's counter takes a
    multiply-accumulate as two operations, and leaves out additions, activations and resampling,
    as the tables of the field do.

    Parameters
    ----------
    name : str
        One of `model_names`.
    in_channels : int
        Channels of the input.
    side : int
        Side of the image in pixels.

    Returns
    -------
    Cost
    """
    with torch.device("meta"):
        network = build_model(name, in_channels).eval()
        image = torch.empty(1, in_channels, side, side)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    params = sum(p.numel() for p in network.parameters() if p.requires_grad)
    return Cost(params, counter.get_total_flops() // 2)
