"""Blocks that more than one network is made of.

What looks roundabout here serves training in bfloat16 with channels last on a processor. There
torch reduces and broadcasts over the channels element by element where they are few, takes the
two layouts of one tensor apart the same way, and writes the gradient of a mean in the other
layout. Written with that in mind, the operations besides the convolutions take a third of the time
(`tests/benchmarks/bench_training.py` measures the whole step), with the same results.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation that also trains on a single value per channel.

    A map that is pooled to one pixel has no variance when the batch is a single image, and torch
    refuses it. Here such a map is normalised by the running statistics, which it leaves alone.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.numel() == x.shape[1]:
            mean, var = self.running_mean, self.running_var
            return F.batch_norm(x, mean, var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


def conv_norm(
    entering: int,
    width: int,
    side: int = 3,
    stride: int = 1,
    dilation: int = 1,
    bias: bool = False,
    slope: float = 0.0,
) -> nn.Sequential:
    """Convolution that keeps the size (over its stride), batch normalisation, rectifier.

    Parameters
    ----------
    entering, width : int
        Channels in and out.
    side, stride, dilation : int
        Of the convolution.
    bias : bool
        Whether the convolution has one, as some publications count it; the normalisation undoes
        it.
    slope : float
        Of the rectifier for negative values.
    """
    return nn.Sequential(
        nn.Conv2d(entering, width, side, stride, dilation * (side // 2), dilation, bias=bias),
        BatchNorm(width),
        nn.LeakyReLU(slope, inplace=True) if slope else nn.ReLU(inplace=True),
    )


class BasicBlock(nn.Module):
    """Two convolutions and a shortcut (K. He et al., CVPR 2016, figure 5, left)."""

    def __init__(self, entering: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.enter = conv_norm(entering, width, stride=stride)
        self.conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = BatchNorm(width)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or entering != width:
            projection = nn.Conv2d(entering, width, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, BatchNorm(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(self.enter(x))) + self.shortcut(x))


def basic_stage(entering: int, width: int, depth: int, stride: int = 1) -> nn.Sequential:
    """Chain `depth` basic blocks, of which the first has the stride."""
    first = BasicBlock(entering, width, stride)
    return nn.Sequential(first, *(BasicBlock(width, width) for _ in range(depth - 1)))


class ChannelAttention(nn.Module):
    """Weigh channels by their mean and their maximum over the image (CBAM, section 3)."""

    def __init__(self, width: int, reduction: int = 16, bias: bool = False) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(width, width // reduction, 1, bias=bias)
        self.excite = nn.Conv2d(width // reduction, width, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        # The gradient of a sum is expanded, not written out as that of a mean is.
        mean = x.sum((2, 3), keepdim=True) / (x.shape[2] * x.shape[3])
        peak = F.adaptive_max_pool2d(x, 1)
        weight = sum(self.excite(F.relu(self.squeeze(pooled))) for pooled in (mean, peak))
        return x * torch.sigmoid(weight)


class SpatialAttention(nn.Module):
    """Weigh pixels by the mean and the maximum of their channels (CBAM, section 3)."""

    def __init__(self, side: int = 7, norm: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, side, padding=side // 2, bias=False)
        self.norm: nn.Module = BatchNorm(1) if norm else nn.Identity()

    def weigh(self, x: Tensor) -> Tensor:
        """Return the weights alone, (N, 1, H, W) between 0 and 1."""
        return torch.sigmoid(self.norm(self.conv(pool_channels(x))))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weigh(x)
        return x * (_spread(weight, x.shape[1]) if _has_channels_last(x) else weight)


def pool_channels(x: Tensor) -> Tensor:
    """Reduce (N, C, H, W) to the mean and the maximum of its channels, (N, 2, H, W).

    Channels that share a pixel's maximum share its gradient, as `torch.amax` has it.
    """
    if not _has_channels_last(x):
        return torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
    pooled: Tensor = _ChannelPool.apply(x)
    return pooled


def concatenate(*maps: Tensor) -> Tensor:
    """Stack maps on top of each other; every map's gradient is a tensor of its own.

    `torch.cat` hands out slices of the whole gradient, in which all that follows is slow.
    """
    joined: Tensor = _Concatenation.apply(*maps)
    return joined


def _has_channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def _spread(x: Tensor, width: int) -> Tensor:
    """Repeat a map of one channel on `width` channels, which are last."""
    return (x.permute(0, 2, 3, 1) @ x.new_ones(1, width)).permute(0, 3, 1, 2)


class _ChannelPool(torch.autograd.Function):
    """`pool_channels` where the channels of a pixel lie side by side, one row a pixel."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        width = x.shape[1]
        mean = x.permute(0, 2, 3, 1) @ x.new_full((width,), 1 / width)
        peak = x.contiguous().amax(1)
        ctx.save_for_backward(x, peak)
        return torch.stack([mean, peak], -1).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        x, peak = ctx.saved_tensors
        width = x.shape[1]
        rows = x.permute(0, 2, 3, 1).reshape(-1, width)
        ones = rows.new_ones(1, width)
        mean_grad, peak_grad = grad.permute(0, 2, 3, 1).reshape(-1, 2).split(1, 1)
        at_peak = torch.empty_like(rows)
        torch.ge(rows, peak.reshape(-1, 1) @ ones, out=at_peak)
        share = peak_grad / (at_peak @ ones.t())
        total = (at_peak * (share @ ones)).addmm_(mean_grad / width, ones)
        return total.view(x.shape[0], *x.shape[2:], width).permute(0, 3, 1, 2)


class _Concatenation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *maps: Tensor) -> Tensor:
        ctx.widths = [x.shape[1] for x in maps]
        return torch.cat(maps, 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        layout = torch.channels_last if _has_channels_last(grad) else torch.contiguous_format
        return tuple(part.contiguous(memory_format=layout) for part in grad.split(ctx.widths, 1))


class AttentionBlock(nn.Module):
    """Two convolutions, channel attention, spatial attention, and a shortcut when residual.

    The attention is CBAM (S. Woo et al., ECCV 2018). DNA-Net and MSHNet are made of this block.
    """

    def __init__(self, entering: int, width: int, residual: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(entering, width, 3, padding=1)
        self.norm1 = BatchNorm(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.norm2 = BatchNorm(width)
        self.channels = ChannelAttention(width)
        self.places = SpatialAttention()
        self.residual = residual
        self.shortcut: nn.Module = nn.Identity()
        if residual and entering != width:
            self.shortcut = nn.Sequential(nn.Conv2d(entering, width, 1), BatchNorm(width))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        y = self.places(self.channels(self.norm2(self.conv2(y))))
        return F.relu(y + self.shortcut(x) if self.residual else y)


def attention_stage(entering: int, width: int, depth: int, residual: bool = True) -> nn.Sequential:
    """Chain `depth` attention blocks."""
    first = AttentionBlock(entering, width, residual)
    return nn.Sequential(first, *(AttentionBlock(width, width, residual) for _ in range(depth - 1)))


def channel_gate(width: int, reduction: int, pooled: bool) -> nn.Sequential:
    """Weights between 0 and 1 for every channel, from two pointwise convolutions.

    One weight a channel when the map is `pooled` over the image first, else one a channel and
    pixel (Y. Dai et al., WACV 2021, equations 2 and 4).
    """
    inner = width // reduction
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(1) if pooled else nn.Identity(),
        conv_norm(width, inner, side=1, bias=True),
        nn.Conv2d(inner, width, 1),
        BatchNorm(width),
        nn.Sigmoid(),
    )


def fcn_head(entering: int, dropout: float = 0.0) -> nn.Sequential:
    """A map of logits: a convolution to a quarter of the channels, and one to a single channel."""
    return nn.Sequential(
        conv_norm(entering, entering // 4),
        nn.Dropout(dropout),
        nn.Conv2d(entering // 4, 1, 1),
    )


def enlarge(x: Tensor, factor: int, align_corners: bool = True) -> Tensor:
    """Enlarge a map bilinearly."""
    if factor == 1:
        return x
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=align_corners)
