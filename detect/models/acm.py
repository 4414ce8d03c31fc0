"""ACM: a small U-Net whose skip connections weigh deep and shallow features by each other.

Y. Dai et al., "Asymmetric Contextual Modulation for Infrared Small Target Detection", WACV 2021,
arXiv 2009.14530. This is the paper's U-Net (the other host network is an FPN) with three blocks a
stage: 0.398 M parameters with one input channel. The published 0.402 G multiply-accumulates count
the two transposed convolutions four times (see `detect.models`); ours are 0.343 G.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from detect.models.blocks import BatchNorm, basic_stage, channel_gate, conv_norm, enlarge, fcn_head
from detect.models.network import Network


class ACM(Network):
    """Encoder to 1/16 of the image's side, decoder to 1/4, enlarged logits.

    Parameters
    ----------
    in_channels : int
        Channels of the image.
    depth : int
        Blocks per stage.
    widths : sequence of 4 int
        Channels of the stem, and at 1/4, 1/8 and 1/16 of the image's side.
    """

    multiple = 16

    def __init__(
        self, in_channels: int = 1, depth: int = 3, widths: Sequence[int] = (8, 16, 32, 64)
    ) -> None:
        super().__init__()
        self.encoder = Encoder(in_channels, depth, widths)
        self.up = nn.ModuleList(upsampling(widths[i + 1], widths[i]) for i in (2, 1))
        self.fuse = nn.ModuleList(AsymmetricFusion(widths[i]) for i in (2, 1))
        self.refine = nn.ModuleList(basic_stage(widths[i], widths[i], depth) for i in (2, 1))
        self.head = fcn_head(widths[1], dropout=0.1)

    def segment(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return one map of logits."""
        *skips, x = self.encoder(image)
        for up, fuse, refine in zip(self.up, self.fuse, self.refine, strict=True):
            x = refine(fuse(up(x), skips.pop()))
        return (enlarge(self.head(x), 4),)


class Encoder(nn.Module):
    """A stem to 1/4 of the side and three stages of basic blocks; ALCNet's port has it too.

    The image is normalised by its batch's mean and variance first. The authors' momentum of 0.9
    is torch's 0.1: MXNet counts the part that stays.
    """

    def __init__(self, in_channels: int, depth: int, widths: Sequence[int]) -> None:
        super().__init__()
        stem, *stages = widths
        self.stem = nn.Sequential(
            BatchNorm(in_channels, affine=False),
            conv_norm(in_channels, stem, stride=2),
            conv_norm(stem, stem),
            conv_norm(stem, stages[0]),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        self.stages = nn.ModuleList(
            basic_stage(entering, width, depth, stride=1 if width == stages[0] else 2)
            for entering, width in zip((stages[0], *stages[:-1]), stages, strict=True)
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the features at 1/4, 1/8 and 1/16 of the side."""
        x = self.stem(image)
        features: list[Tensor] = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class AsymmetricFusion(nn.Module):
    """Join two maps, each weighed by the other (section 3.2 of the paper, equation 5).

    Deep features say which channels matter, over the whole image; shallow features say which
    pixels and channels matter, point by point.
    """

    def __init__(self, width: int, reduction: int = 4) -> None:
        super().__init__()
        self.top_down = channel_gate(width, reduction, pooled=True)
        self.bottom_up = channel_gate(width, reduction, pooled=False)
        self.post = conv_norm(width, width, bias=True)

    def forward(self, deep: Tensor, shallow: Tensor) -> Tensor:
        return self.post(2 * shallow * self.top_down(deep) + 2 * deep * self.bottom_up(shallow))


def upsampling(entering: int, width: int) -> nn.ConvTranspose2d:
    """Double the side of a map by a transposed convolution."""
    return nn.ConvTranspose2d(entering, width, 4, stride=2, padding=1)
