"""ISTDU-Net: split-attention groups on the way down, external attention on the skips.

Q. Hou et al., "ISTDU-Net: Infrared Small-Target Detection U-Net", IEEE Geoscience and Remote
Sensing Letters 19, 2022. The groups are those of ResNeSt (H. Zhang et al., CVPR Workshops 2022),
the attention on the skips is external attention (M.-H. Guo et al., IEEE TPAMI 45, 2023).

Built to the published count with one input channel: 2.752 M parameters, 7.944 G
multiply-accumulates. The authors' network has a second head, for detection, which that count leaves
out, as it is here.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detect.models.blocks import BatchNorm, conv_norm, enlarge, fcn_head
from detect.models.network import Network

_SPLITS = 2
_GROUPS = 4


class ISTDUNet(Network):
    """Four scales of split-attention blocks; the way up is pointwise and adds the skips.

    Parameters
    ----------
    in_channels : int
        Channels of the image.
    widths : sequence of int
        Channels at 1, 1/2, 1/4, ... of the image's side.
    depths : sequence of int
        Blocks at each scale.
    """

    def __init__(
        self,
        in_channels: int = 1,
        widths: Sequence[int] = (64, 128, 256, 512),
        depths: Sequence[int] = (1, 2, 4, 8),
    ) -> None:
        super().__init__()
        self.multiple = 2 ** (len(widths) - 1)
        stem = widths[0] // 4
        self.stem = nn.Sequential(
            BatchNorm(in_channels, affine=False), conv_norm(in_channels, stem)
        )
        self.stages = nn.ModuleList(
            _stage(entering, width, depth, halve=width != widths[0])
            for entering, width, depth in zip((stem, *widths[:-1]), widths, depths, strict=True)
        )
        self.skips = nn.ModuleList(_ExternalAttention(width) for width in widths)
        self.up = nn.ModuleList(
            conv_norm(below, width, side=1)
            for below, width in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.head = fcn_head(widths[0])

    def segment(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return one map of logits."""
        x = self.stem(image)
        skips: list[Tensor] = []
        for stage, attend in zip(self.stages, self.skips, strict=True):
            x = stage(x)
            skips.append(attend(x))
        x = skips.pop()
        for reduce in self.up:
            x = skips.pop() + enlarge(reduce(x), 2, align_corners=False)
        return (self.head(x),)


class _Bottleneck(nn.Module):
    """Reduce the channels to a quarter, weigh split groups, restore, and add a shortcut."""

    def __init__(self, entering: int, width: int, halve: bool = False) -> None:
        super().__init__()
        inner = width // 4
        layers: list[nn.Module] = [conv_norm(entering, inner, side=1), _SplitAttention(inner)]
        if halve:
            layers.append(nn.AvgPool2d(3, stride=2, padding=1))
        layers += [nn.Conv2d(inner, width, 1, bias=False), BatchNorm(width)]
        self.layers = nn.Sequential(*layers)
        self.shortcut: nn.Module = nn.Identity()
        if entering != width:
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(2) if halve else nn.Identity(),
                nn.Conv2d(entering, width, 1, bias=False),
                BatchNorm(width),
            )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.layers(x) + self.shortcut(x))


class _SplitAttention(nn.Module):
    """Two versions of the map, mixed channel by channel (ResNeSt, section 3.1).

    The softmax over the versions that mixes them comes from the pooled sum of the two.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = max(width * _SPLITS // 4, 32)
        splits = width * _SPLITS
        groups = _GROUPS * _SPLITS
        self.conv = nn.Conv2d(width, splits, 3, padding=1, groups=groups, bias=False)
        self.norm = BatchNorm(splits)
        self.squeeze = nn.Conv2d(width, inner, 1, groups=_GROUPS)
        self.squeeze_norm = BatchNorm(inner)
        self.excite = nn.Conv2d(inner, splits, 1, groups=_GROUPS)

    def forward(self, x: Tensor) -> Tensor:
        versions = F.relu(self.norm(self.conv(x))).unflatten(1, (_SPLITS, -1))
        pooled = versions.sum(1).mean((2, 3), keepdim=True)
        score = self.excite(F.relu(self.squeeze_norm(self.squeeze(pooled))))
        # A group's scores lie together, those of its first version before those of its second.
        weight = score.unflatten(1, (_GROUPS, _SPLITS, -1)).transpose(1, 2).softmax(1)
        return (versions * weight.flatten(2, 3)).sum(1)


class _ExternalAttention(nn.Module):
    """Attention to a learnt memory of `memory` entries instead of to the image's own pixels."""

    def __init__(self, width: int, memory: int = 64) -> None:
        super().__init__()
        self.query = nn.Conv2d(width, width, 1)
        self.keys = nn.Conv2d(width, memory, 1, bias=False)
        self.values = nn.Conv2d(memory, width, 1, bias=False)
        self.project = nn.Conv2d(width, width, 1, bias=False)
        self.norm = BatchNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        likeness = self.keys(self.query(x))
        # Normalised twice: over the pixels, then over the memory (external attention, section 3.2).
        attention = torch.softmax(likeness.flatten(2).float(), 2)
        attention = attention / (attention.sum(1, keepdim=True) + 1e-9)
        y = self.values(attention.to(likeness.dtype).unflatten(2, likeness.shape[2:]))
        return x + self.norm(self.project(y))


def _stage(entering: int, width: int, depth: int, halve: bool) -> nn.Sequential:
    first = _Bottleneck(entering, width, halve)
    return nn.Sequential(first, *(_Bottleneck(width, width) for _ in range(depth - 1)))
