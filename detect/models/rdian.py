"""RDIAN: four receptive fields side by side, guided by differences in eight directions.

H. Sun et al., "Receptive-Field and Direction Induced Attention Network for Infrared Dim Small
Target Detection With a Large-Scale Dataset IRDST", IEEE Transactions on Geoscience and Remote
Sensing 61, 2023. Built to the published count with one input channel: 0.217 M parameters, 3.718 G
multiply-accumulates. With more channels the directions are taken from their mean, of which the
paper says nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detect.models.blocks import ChannelAttention, SpatialAttention, conv_norm, enlarge, fcn_head
from detect.models.network import Network

_SLOPE = 0.01  # of the leaky rectifiers

# One of each pair of opposite neighbours, (rows, columns) away.
_DIRECTIONS = ((2, 2), (2, 0), (2, -2), (0, 2))


class RDIAN(Network):
    """Features at the image's size, branches at half of it, and a joint map of logits.

    Parameters
    ----------
    in_channels : int
        Channels of the image.
    width : int
        Channels of the branches; the first layer has half as many.
    """

    multiple = 2

    def __init__(self, in_channels: int = 1, width: int = 32) -> None:
        super().__init__()
        self.stem = conv_norm(in_channels, width // 2, slope=_SLOPE)
        self.halve = conv_norm(width // 2, width, stride=2, slope=_SLOPE)
        self.branches = nn.ModuleList(
            nn.Sequential(*(_Residual(width, side) for _ in range(depth)))
            for side, depth in ((1, 1), (3, 2), (5, 2), (7, 2))
        )
        self.join = conv_norm(4 * width, width, slope=_SLOPE)
        self.attention = nn.Sequential(
            ChannelAttention(width, reduction=32, bias=True), SpatialAttention(norm=True)
        )
        self.shallow = conv_norm(width // 2, width, side=1, slope=_SLOPE)
        self.head = fcn_head(width, dropout=0.1)

    def segment(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return one map of logits."""
        shallow = self.stem(image)
        x = self.halve(shallow * (1 + _direction_attention(image)))
        x = self.attention(self.join(torch.cat([branch(x) for branch in self.branches], 1)))
        x = enlarge(x, 2, align_corners=False)
        return (self.head(F.relu(x + self.shallow(shallow))),)


class _Residual(nn.Module):
    """Two convolutions through half the channels, and a shortcut around them."""

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            conv_norm(width, width // 2, side, slope=_SLOPE),
            conv_norm(width // 2, width, side, slope=_SLOPE),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def _direction_attention(image: Tensor) -> Tensor:
    """Weigh pixels that stand out from both neighbours of a pair, two pixels away.

    The sigmoid of the sum, over four pairs of opposite neighbours, of the product of the pixel's
    differences from the two; outside the image is 0.
    """
    grey = image.mean(1, keepdim=True)
    height, width = grey.shape[-2:]
    framed = F.pad(grey, (2, 2, 2, 2))

    def differ(rows: int, cols: int) -> Tensor:
        return grey - framed[..., 2 + rows : 2 + rows + height, 2 + cols : 2 + cols + width]

    return torch.stack([differ(r, c) * differ(-r, -c) for r, c in _DIRECTIONS]).sum(0).sigmoid()
