"""ALCNet: a residual network whose feature maps become maps of local contrast; and its stand-in.

Y. Dai et al., "Attentional Local Contrast Networks for Infrared Small Target Detection", IEEE
Transactions on Geoscience and Remote Sensing 59, 2021, arXiv 2012.08573.

Two networks go by the name. `ALCNetContrast` is the paper's, with four blocks a stage, contrast at
13 and 17 pixels and bottom-up modulation: the configuration of the weights that the authors
publish, which hold 372,573 trained values with three input channels; ours has as many.

The 0.427 M parameters and 0.378 G multiply-accumulates that comparisons quote, and the scores
beside them, belong to the port in the BasicIRSTD toolbox, `ALCNet` here: a network in the manner
of ACM, which works from a quarter of the image's side and computes no contrast. Its parameters
agree; its operations are 0.295 G, since the published figure counts transposed convolutions four
times (see `detect.models`). The port also declares two decoder stages, which it never runs and
which the 0.427 M leave out; they are not built here.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from detect.models.acm import AsymmetricFusion, Encoder, upsampling
from detect.models.blocks import BatchNorm, basic_stage, channel_gate, conv_norm, enlarge, fcn_head
from detect.models.network import Network


class ALCNetContrast(Network):
    """Three scales, the local contrast of each, joined from the deepest up.

    Parameters
    ----------
    in_channels : int
        Channels of the image.
    depth : int
        Blocks per scale.
    widths : sequence of int
        Channels at 1, 1/2, 1/4, ... of the image's side.
    shifts : sequence of int
        Distances at which a pixel is compared with its surroundings, in pixels of each scale.
    """

    def __init__(
        self,
        in_channels: int = 1,
        depth: int = 4,
        widths: Sequence[int] = (16, 32, 64),
        shifts: Sequence[int] = (13, 17),
    ) -> None:
        super().__init__()
        self.multiple = 2 ** (len(widths) - 1)
        self.shifts = tuple(shifts)
        width = widths[0]
        self.stem = nn.Sequential(
            BatchNorm(in_channels, affine=False), conv_norm(in_channels, width)
        )
        self.stages = nn.ModuleList(
            basic_stage(widths[max(i - 1, 0)], widths[i], depth, stride=2 if i else 1)
            for i in range(len(widths))
        )
        self.reduce = nn.ModuleList(
            conv_norm(widths[i], width, side=1) if i else nn.Identity() for i in range(len(widths))
        )
        self.modulate = nn.ModuleList(_BottomUpModulation(width) for _ in widths[1:])
        self.head = fcn_head(width, dropout=0.1)

    def segment(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return one map of logits."""
        x = self.stem(image)
        contrasts: list[Tensor] = []
        for stage, reduce in zip(self.stages, self.reduce, strict=True):
            x = stage(x)
            contrasts.append(reduce(local_contrast(x, self.shifts)))
        x = contrasts.pop()
        for modulate in self.modulate:
            x = modulate(enlarge(x, 2), contrasts.pop())
        return (self.head(x),)


class ALCNet(Network):
    """The network that comparisons measure as ALCNet: no contrast, ACM's encoder and fusion.

    Parameters
    ----------
    in_channels : int
        Channels of the image.
    depth : int
        Blocks per stage.
    widths : sequence of 4 int
        Channels at 1/2, 1/4, 1/8 and 1/16 of the image's side.
    """

    multiple = 16

    def __init__(
        self, in_channels: int = 1, depth: int = 4, widths: Sequence[int] = (8, 16, 32, 64)
    ) -> None:
        super().__init__()
        self.encoder = Encoder(in_channels, depth, widths)
        self.up = nn.ModuleList(upsampling(widths[i + 1], widths[i]) for i in (2, 1))
        self.fuse = nn.ModuleList(AsymmetricFusion(widths[i]) for i in (2, 1))
        self.last_up = upsampling(widths[1], widths[0])
        self.head = fcn_head(widths[0], dropout=0.1)

    def segment(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return one map of logits."""
        *skips, x = self.encoder(image)
        for up, fuse in zip(self.up, self.fuse, strict=True):
            x = fuse(up(x), skips.pop())
        return (enlarge(self.head(self.last_up(x)), 2, align_corners=False),)


class _BottomUpModulation(nn.Module):
    """Add a deep map to a shallow one, weighed point by point by the shallow one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.deep_norm = BatchNorm(width)
        self.shallow_norm = BatchNorm(width)
        self.gate = channel_gate(width, reduction=1, pooled=False)

    def forward(self, deep: Tensor, shallow: Tensor) -> Tensor:
        shallow = self.shallow_norm(shallow)
        return self.gate(shallow) * self.deep_norm(deep) + shallow


def local_contrast(x: Tensor, shifts: Sequence[int]) -> Tensor:
    """Patch-based contrast of every pixel, without parameters (section III.B of the paper).

    For a distance s, the least over four pairs of opposite neighbours, s away in rows, columns or
    both, of the product of the neighbours' differences from the pixel: large and positive only
    where the pixel is above, or below, all of its surroundings. Of several distances, the
    greatest counts. Neighbours beyond an edge are taken from the opposite edge, as the authors do.

    Parameters
    ----------
    x : (N, C, H, W) Tensor
        Feature maps.
    shifts : sequence of int
        Distances in pixels.

    Returns
    -------
    (N, C, H, W) Tensor
    """

    def differ(rows: int, cols: int) -> Tensor:
        return torch.roll(x, (rows, cols), (2, 3)) - x

    scales: list[Tensor] = []
    for s in shifts:
        pairs = [differ(r, c) * differ(-r, -c) for r, c in ((s, s), (s, 0), (s, -s), (0, s))]
        scales.append(torch.stack(pairs).amin(0))
    return torch.stack(scales).amax(0)
