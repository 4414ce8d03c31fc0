"""DNA-Net: a dense nested U-Net with channel and spatial attention in every block.

B. Li et al., "Dense Nested Attention Network for Infrared Small Target Detection", IEEE
Transactions on Image Processing 32, 2023, arXiv 2106.00487. The attention is CBAM (S. Woo et
al., ECCV 2018). Built to the publication's parameter count: 4.697 M with ResNet-18 blocks and
three input channels.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from detect.models.blocks import attention_stage, concatenate
from detect.models.network import Network


class DNANet(Network):
    """Five scales, each with a chain of nodes that see their row, the scale below and above.

    Node (i, j) sits at scale i (1/2^i of the image's side) and joins all earlier nodes of its
    scale, node (i+1, j−1) enlarged and, for j > 0, node (i−1, j) reduced (section III.B of the
    paper). The last node of every scale is enlarged and joined for the final map (III.C).

    Parameters
    ----------
    in_channels : int
        Channels of the image.
    blocks : sequence of 4 int
        Blocks per node at scales 1 to 4: 1 1 1 1, 2 2 2 2 and 3 4 6 3 are the publication's
        ResNet-10, -18 and -34. Nodes of scale 0 have one block.
    residual : bool
        Residual blocks; False gives the VGG variant.
    widths : sequence of 5 int
        Channels at each scale.
    """

    multiple = 16

    def __init__(
        self,
        in_channels: int,
        blocks: Sequence[int],
        residual: bool = True,
        widths: Sequence[int] = (16, 32, 64, 128, 256),
    ) -> None:
        super().__init__()
        self.nodes = nn.ModuleDict()
        depths = (1, *blocks)
        last = len(widths) - 1
        for diagonal in range(last + 1):
            for j in range(diagonal + 1):
                i = diagonal - j
                if j == 0:
                    entering = widths[i - 1] if i else in_channels
                else:
                    entering = widths[i] * j + widths[i + 1] + (widths[i - 1] if i else 0)
                self.nodes[f"{i}_{j}"] = attention_stage(entering, widths[i], depths[i], residual)
        self.reduce = nn.ModuleList(nn.Conv2d(widths[i], widths[0], 1) for i in range(1, last + 1))
        self.join = attention_stage(widths[0] * (last + 1), widths[0], 1, residual)
        self.heads = nn.ModuleList(nn.Conv2d(widths[0], 1, 1) for _ in range(last))
        self.last = last

    def segment(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return four maps of logits: after nodes (0, 1), (0, 2), (0, 3), and the final one."""
        x: dict[tuple[int, int], Tensor] = {}
        for diagonal in range(self.last + 1):
            for j in range(diagonal + 1):
                i = diagonal - j
                if j == 0:
                    entering = F.max_pool2d(x[i - 1, 0], 2) if i else image
                else:
                    parts = [x[i, k] for k in range(j)] + [_resize(x[i + 1, j - 1], 2)]
                    if i:
                        parts.append(_resize(x[i - 1, j], 0.5))
                    entering = concatenate(*parts)
                x[i, j] = self.nodes[f"{i}_{j}"](entering)
        ends = [
            _resize(reduce(x[i, self.last - i]), 2**i) for i, reduce in enumerate(self.reduce, 1)
        ]
        final = self.join(concatenate(*reversed(ends), x[0, self.last]))
        supervised = [*(x[0, j] for j in range(1, self.last)), final]
        return tuple(head(features) for head, features in zip(self.heads, supervised, strict=True))


def _resize(x: Tensor, factor: float) -> Tensor:
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=True)
