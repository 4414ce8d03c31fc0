"""UIU-Net: a U-Net whose every stage is a U-Net, with cross-attention between the outer levels.

X. Wu, D. Hong and J. Chanussot, "UIU-Net: U-Net in U-Net for Infrared Small Object Detection",
IEEE Transactions on Image Processing 32, 2023, arXiv 2212.00968; the inner U-Nets are those of
U²-Net (X. Qin et al., Pattern Recognition 106, 2020). Built to the published count with one input
channel: 50.54 M parameters, 54.4 G multiply-accumulates.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detect.models.blocks import SpatialAttention, channel_gate, conv_norm, enlarge
from detect.models.network import Network


class UIUNet(Network):
    """Six stages down, five up; the six on the way up, the lowest included, predict.

    Parameters
    ----------
    in_channels : int
        Channels of the image.
    """

    multiple = 32

    def __init__(self, in_channels: int = 1) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            [
                _InnerUNet(in_channels, 32, 64, depth=7),
                _InnerUNet(64, 32, 128, depth=6),
                _InnerUNet(128, 64, 256, depth=5),
                _InnerUNet(256, 128, 512, depth=4),
                _InnerUNet(512, 256, 512, depth=4, pooled=False),
                _InnerUNet(512, 256, 512, depth=4, pooled=False),
            ]
        )
        self.join = nn.ModuleList(
            [*(_CrossAttention(width) for width in (512, 512, 256, 128)), _Concatenation()]
        )
        self.up = nn.ModuleList(
            [
                _InnerUNet(1024, 256, 512, depth=4, pooled=False),
                _InnerUNet(1024, 128, 256, depth=4),
                _InnerUNet(512, 64, 128, depth=5),
                _InnerUNet(256, 32, 64, depth=6),
                _InnerUNet(128, 16, 64, depth=7),
            ]
        )
        widths = (512, 512, 256, 128, 64, 64)
        self.heads = nn.ModuleList(nn.Conv2d(width, 1, 3, padding=1) for width in widths)
        self.final = nn.Conv2d(len(widths), 1, 1)

    def segment(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return seven maps of logits: six stages from coarse to fine, and the joint one."""
        x = image
        skips: list[Tensor] = []
        for level, stage in enumerate(self.down):
            x = stage(F.max_pool2d(x, 2) if level else x)
            skips.append(x)
        stages = [skips.pop()]
        for join, stage in zip(self.join, self.up, strict=True):
            x = stage(join(enlarge(x, 2, align_corners=False), skips.pop()))
            stages.append(x)
        sides = [
            enlarge(head(x), 2 ** (5 - i), align_corners=False)
            for i, (head, x) in enumerate(zip(self.heads, stages, strict=True))
        ]
        return (*sides, self.final(torch.cat(sides, 1)))


class _InnerUNet(nn.Module):
    """Residual U-block of `depth` layers: a U-Net around which its first layer's output goes.

    Where the map is too small to be `pooled`, dilations 1, 2, 4, ... take the place of the scales.
    """

    def __init__(
        self, entering: int, middle: int, width: int, depth: int, pooled: bool = True
    ) -> None:
        super().__init__()
        dilations = [1] * (depth - 1) if pooled else [2**i for i in range(depth - 1)]
        bottom = 2 if pooled else 2 ** (depth - 1)
        self.pooled = pooled
        self.enter = conv_norm(entering, width, bias=True)
        self.down = nn.ModuleList(
            conv_norm(middle if i else width, middle, dilation=dilation, bias=True)
            for i, dilation in enumerate(dilations)
        )
        self.bottom = conv_norm(middle, middle, dilation=bottom, bias=True)
        self.up = nn.ModuleList(
            conv_norm(2 * middle, middle if i else width, dilation=dilation, bias=True)
            for i, dilation in reversed(list(enumerate(dilations)))
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        y = x
        skips: list[Tensor] = []
        for level, layer in enumerate(self.down):
            y = layer(F.max_pool2d(y, 2) if level and self.pooled else y)
            skips.append(y)
        y = self.bottom(y)
        for level, layer in enumerate(self.up):
            if level and self.pooled:
                y = enlarge(y, 2, align_corners=False)
            y = layer(torch.cat([y, skips.pop()], 1))
        return x + y


class _CrossAttention(nn.Module):
    """Interactive cross-attention: deep features weigh channels, shallow ones weigh pixels.

    The shallow map is weighed first and its weights for pixels come from what is left; both maps
    then pass through the same convolution (section III.C of the paper).
    """

    def __init__(self, width: int, reduction: int = 4) -> None:
        super().__init__()
        self.deep = conv_norm(width, width, side=1, bias=True)
        self.channels = channel_gate(width, reduction, pooled=True)
        self.squeeze = conv_norm(width, width // reduction, side=1, bias=True)
        self.places = SpatialAttention(side=3)
        self.post = conv_norm(width, width, bias=True)

    def forward(self, deep: Tensor, shallow: Tensor) -> Tensor:
        deep = self.deep(deep)
        shallow = shallow * self.channels(deep)
        deep = deep * self.places.weigh(self.squeeze(shallow))
        return torch.cat([self.post(2 * shallow), self.post(2 * deep)], 1)


class _Concatenation(nn.Module):
    """What joins the outermost level, where the paper has no attention."""

    def forward(self, deep: Tensor, shallow: Tensor) -> Tensor:
        return torch.cat([deep, shallow], 1)
