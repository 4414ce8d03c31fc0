"""Networks by name: `build_model`, `model_names`; what each costs, `count_cost`, `published_cost`.

Published multiply-accumulates are those of the field's tables, at 256 x 256, which come from the
tool thop. It counts more than torch's counter, by which ours are counted: four operations for every
value that batch normalisation puts out, eleven for every value that an upsampling layer does, and
transposed convolutions at every pixel of their output, which for a stride of two is four times
what they compute. That explains the differences: 14.3 G there and 13.9 G here for DNA-Net, 0.40 G
and 0.34 G for ACM.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from detect.errors import ModelError
from detect.models.acm import ACM
from detect.models.alcnet import ALCNet, ALCNetContrast
from detect.models.dnanet import DNANet
from detect.models.istdunet import ISTDUNet
from detect.models.mshnet import MSHNet
from detect.models.network import Network
from detect.models.rdian import RDIAN
from detect.models.small import Small
from detect.models.uiunet import UIUNet
from synth.errors import no_such

__all__ = [
    "Cost",
    "Network",
    "PublishedCost",
    "build_model",
    "count_cost",
    "model_names",
    "published_cost",
    "require_known",
    "share_tensors",
]

_BUILDERS: dict[str, Callable[[int], Network]] = {
    "small": lambda channels: Small(channels),
    "small-blurpool": lambda channels: Small(channels, blur=True),
    "dnanet": lambda channels: DNANet(channels, blocks=(2, 2, 2, 2)),
    "dnanet-resnet10": lambda channels: DNANet(channels, blocks=(1, 1, 1, 1)),
    "dnanet-resnet34": lambda channels: DNANet(channels, blocks=(3, 4, 6, 3)),
    "dnanet-vgg10": lambda channels: DNANet(channels, blocks=(1, 1, 1, 1), residual=False),
    "acm": lambda channels: ACM(channels),
    "alcnet": lambda channels: ALCNet(channels),
    "alcnet-contrast": lambda channels: ALCNetContrast(channels),
    "uiunet": lambda channels: UIUNet(channels),
    "istdunet": lambda channels: ISTDUNet(channels),
    "rdian": lambda channels: RDIAN(channels),
    "mshnet": lambda channels: MSHNet(channels),
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


class PublishedCost(NamedTuple):
    """What the literature says of a network's cost; None where it says nothing.

    Attributes
    ----------
    params, macs : int or None
        As in `Cost`.
    """

    params: int | None
    macs: int | None


# From the table of the BasicIRSTD toolbox, at one input channel, but for MSHNet (its paper, three
# channels) and ALCNet with contrast (the weights that its authors publish, three channels).
_PUBLISHED: dict[str, PublishedCost] = {
    "dnanet": PublishedCost(4_697_000, 14_261_000_000),
    "acm": PublishedCost(398_000, 402_000_000),
    "alcnet": PublishedCost(427_000, 378_000_000),
    "alcnet-contrast": PublishedCost(373_000, None),
    "uiunet": PublishedCost(50_540_000, 54_426_000_000),
    "istdunet": PublishedCost(2_752_000, 7_944_000_000),
    "rdian": PublishedCost(217_000, 3_718_000_000),
    "mshnet": PublishedCost(4_070_000, 6_110_000_000),
}


def model_names() -> tuple[str, ...]:
    """Names that `build_model` knows, in the order of the table."""
    return tuple(_BUILDERS)


def require_known(name: str) -> str:
    """Return `name` if a network is called so; else raise a `ModelError` that suggests one."""
    if name in _BUILDERS:
        return name
    raise ModelError(no_such("network", name, _BUILDERS))


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

    Examples
    --------
    >>> import torch
    >>> network = build_model("small")
    >>> maps = network(torch.zeros(1, 1, 64, 64))
    >>> tuple(maps[-1].shape)
    (1, 1, 64, 64)
    """
    return _BUILDERS[require_known(name)](in_channels)


@cache
def share_tensors(one: str, other: str) -> bool:
    """Whether two networks have the same tensors, so that one can start from the other's weights.

    Parameters
    ----------
    one, other : str
        Two of `model_names`.

    Returns
    -------
    bool

    Examples
    --------
    >>> share_tensors("small", "small-blurpool")
    True
    """
    with torch.device("meta"):
        states = [build_model(name).state_dict() for name in (one, other)]
    first, second = ({key: value.shape for key, value in state.items()} for state in states)
    return first == second


@cache
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

    Examples
    --------
    >>> cost = count_cost("acm")
    >>> f"{cost.params / 1e6:.3f} M, {cost.macs / 1e9:.2f} G"
    '0.398 M, 0.34 G'
    """
    with torch.device("meta"):
        network = build_model(name, in_channels).eval()
        image = torch.empty(1, in_channels, side, side)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    params = sum(p.numel() for p in network.parameters() if p.requires_grad)
    return Cost(params, counter.get_total_flops() // 2)


def published_cost(name: str) -> PublishedCost:
    """Look up what the field's tables say a network costs, at 256 x 256."""
    return _PUBLISHED.get(require_known(name), PublishedCost(None, None))
