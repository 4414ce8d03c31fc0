"""MSHNet: a U-Net with a prediction at every scale, and one more from all of them.

Q. Liu et al., "Infrared Small Target Detection with Scale and Location Sensitivity", CVPR 2024,
arXiv 2403.19366. Built to the published count with three input channels: 4.07 M parameters, 6.11 G
multiply-accumulates. Its loss (scale and location sensitive) is another matter and not here. The
authors train the finest scale alone for five epochs and compare the coarser predictions with
masks pooled to their size; here all outputs are supervised from the start, at the image's size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detect.models.blocks import attention_stage, enlarge
from detect.models.network import Network


class MSHNet(Network):
    """Five scales down, four up; each of these four predicts.

    Parameters
    ----------
    in_channels : int
        Channels of the image.
    widths : sequence of int
        Channels at 1, 1/2, 1/4, ... of the image's side.
    depth : int
        Blocks per stage; the two stages at the image's own size have one.
    """

    def __init__(
        self,
        in_channels: int = 3,
        widths: Sequence[int] = (16, 32, 64, 128, 256),
        depth: int = 2,
    ) -> None:
        super().__init__()
        deepest = len(widths) - 1
        self.multiple = 2**deepest
        self.stem = nn.Conv2d(in_channels, widths[0], 1)
        self.down = nn.ModuleList(
            attention_stage(widths[max(i - 1, 0)], widths[i], depth if i else 1)
            for i in range(deepest + 1)
        )
        self.up = nn.ModuleList(
            attention_stage(widths[i] + widths[i + 1], widths[i], depth if i else 1)
            for i in reversed(range(deepest))
        )
        self.heads = nn.ModuleList(nn.Conv2d(widths[i], 1, 1) for i in reversed(range(deepest)))
        self.final = nn.Conv2d(deepest, 1, 3, padding=1)

    def segment(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return five maps of logits: the scales from coarse to fine, and the joint one."""
        x = self.stem(image)
        skips: list[Tensor] = []
        for level, stage in enumerate(self.down):
            x = stage(F.max_pool2d(x, 2) if level else x)
            skips.append(x)
        skips.pop()
        scales: list[Tensor] = []
        for stage, head in zip(self.up, self.heads, strict=True):
            factor = 2 ** (len(skips) - 1)
            x = stage(torch.cat([skips.pop(), enlarge(x, 2)], 1))
            scales.append(enlarge(head(x), factor))
        return (*scales, self.final(torch.cat(scales, 1)))
