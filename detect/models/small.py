"""A small residual U-Net of our own, for processors without a graphics card.

The first layer works at half the image's side on the four pixels of every 2 x 2 square as
channels, the last puts four logits back as such a square (pixel shuffle: W. Shi et al., CVPR
2016), so no pixel is averaged away, and no layer runs at full resolution, which is what makes a
U-Net slow on a processor. Beside the grey values it sees their local contrast, which is taken in
single precision whatever the rest computes in: the rim of a dim target is a few grey levels above
its surroundings, less than bfloat16 tells apart in bright ones. On the way up, what comes from
below is brought to the width of the level by a 1 x 1 convolution before it is enlarged, and is
added to the skip connection instead of being stacked on it: this takes as many training steps to
the same accuracy and half the time. Less than half a million parameters and 0.66 G
multiply-accumulates at 256 x 256.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detect.models.network import Network

# Share of target pixels before anything is learnt: a fresh network that says "no target" with
# this confidence does not spend its first steps on unlearning one half everywhere.
_PRIOR = 0.01

# Grey values, in units of normalised frames, are compared with their mean over squares of so many
# pixels; differences beyond 1 / _GAIN count by their logarithm.
_SQUARE, _GAIN = 8, 16.0


class Small(Network):
    """Residual U-Net between a pixel-unshuffle stem and a pixel-shuffle head.

    Parameters
    ----------
    in_channels : int
        Channels of the image.
    widths : sequence of int
        Channels at 1/2, 1/4, 1/8, ... of the image's side.
    blur : bool
        Smooth what is pooled before every second value of it is dropped, so that an answer depends
        less on whether a target begins at an even or at an odd pixel (max-blur-pooling: Zhang,
        ICML 2019). The parameters are the same.
    """

    full_input = True

    def __init__(
        self,
        in_channels: int = 1,
        widths: Sequence[int] = (16, 48, 64, 64, 64),
        blur: bool = False,
    ) -> None:
        super().__init__()
        self.multiple = 2 ** len(widths)
        self.pool = _max_blur_pool if blur else _max_pool
        self.stem = nn.Conv2d(8 * in_channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList(
            _Residual(entering, width)
            for entering, width in zip((widths[0], *widths[:-1]), widths, strict=True)
        )
        self.narrow = nn.ModuleList(
            nn.Conv2d(below, width, 1, bias=False)
            for below, width in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.up = nn.ModuleList(_Residual(width, width) for width in widths[-2::-1])
        self.head = nn.Conv2d(widths[0], 4, 3, padding=1)
        nn.init.constant_(self.head.bias, math.log(_PRIOR / (1 - _PRIOR)))  # type: ignore[arg-type]

    def segment(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return one map of logits."""
        seen = torch.cat([image, _contrast(image)], 1).to(self.stem.weight.dtype)
        x = self.stem(F.pixel_unshuffle(seen, 2))
        skips: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(self.pool(x) if level else x)
            skips.append(x)
        skips.pop()
        for narrow, block in zip(self.narrow, self.up, strict=True):
            x = block(F.interpolate(narrow(x), scale_factor=2.0, mode="nearest") + skips.pop())
        return (F.pixel_shuffle(self.head(x), 2),)


def _max_pool(x: Tensor) -> Tensor:
    """The greatest of every square of 2 x 2."""
    return F.max_pool2d(x, 2)


def _max_blur_pool(x: Tensor) -> Tensor:
    """The mean of the greatest of the nine squares of 2 x 2 that overlap one of `_max_pool`.

    The nine are those around it in steps of one pixel, so that the centre is the same.
    """
    return F.avg_pool2d(F.max_pool2d(x, 2, stride=1, padding=1), 3, stride=2)


def _contrast(image: Tensor) -> Tensor:
    """Logarithmic difference of grey values from the mean around them."""
    level = F.interpolate(
        F.avg_pool2d(image, _SQUARE), scale_factor=float(_SQUARE), mode="bilinear"
    )
    return torch.asinh(_GAIN * (image - level))


class _Residual(nn.Module):
    """Two convolutions with batch normalisation, and a shortcut around them."""

    def __init__(self, entering: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(entering, width, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.shortcut: nn.Module = (
            nn.Identity() if entering == width else nn.Conv2d(entering, width, 1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))
