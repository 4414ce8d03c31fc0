"""Losses on maps of logits; each is averaged over the outputs of deep supervision."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor
from torch.nn import functional as F

Loss = Callable[[Sequence[Tensor], Tensor], Tensor]


def soft_iou(outputs: Sequence[Tensor], truth: Tensor) -> Tensor:
    """Soft intersection over union, as DNA-Net is trained with it.

    1 − (Σ p·t + 1) / (Σ p + Σ t − Σ p·t + 1) with p the sigmoid of the logits and the sums over
    the whole batch (B. Li et al., IEEE TIP 2023, equation 9; the smoothing of 1 is that of the
    published code), averaged over the outputs.

    Parameters
    ----------
    outputs : sequence of (N, 1, H, W) Tensor
        Logits.
    truth : (N, 1, H, W) Tensor of float
        1 on targets, 0 elsewhere.

    Returns
    -------
    scalar Tensor
        Between 0 and 1.
    """
    return _mean([_soft_iou(logits.float(), truth) for logits in outputs])


def soft_iou_bce(outputs: Sequence[Tensor], truth: Tensor) -> Tensor:
    """Soft IoU plus binary cross-entropy; parameters as `soft_iou`.

    Soft IoU sees the balance of a whole batch and hardly feels one lost target; the
    cross-entropy gives every pixel a gradient of its own.
    """
    return _mean(
        [
            _soft_iou(logits.float(), truth)
            + F.binary_cross_entropy_with_logits(logits.float(), truth)
            for logits in outputs
        ]
    )


def soft_iou_hard_bce(outputs: Sequence[Tensor], truth: Tensor) -> Tensor:
    """Soft IoU plus cross-entropy of the hardest half of the pixels; parameters as `soft_iou`.

    Pixels on either side of a target's outline weigh four times as much, and of every image
    only the half with the greatest losses counts, so that easy background does not drown the
    rest (the loss of PAL, ICCV 2025, beside soft IoU).
    """
    neighbourhood = F.max_pool2d(truth, 3, 1, 1) + F.max_pool2d(1 - truth, 3, 1, 1)
    weight = 1 + (_EDGE_WEIGHT - 1) * (neighbourhood > 1).float()
    return _mean(
        [
            _soft_iou(logits.float(), truth) + _hard_bce(logits.float(), truth, weight)
            for logits in outputs
        ]
    )


LOSSES: dict[str, Loss] = {
    "soft_iou": soft_iou,
    "soft_iou_bce": soft_iou_bce,
    "soft_iou_hard_bce": soft_iou_hard_bce,
}

_EDGE_WEIGHT = 4.0
_HARD_SHARE = 0.5


def _hard_bce(logits: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    each = F.binary_cross_entropy_with_logits(logits, truth, weight, reduction="none").flatten(1)
    return each.topk(max(1, int(_HARD_SHARE * each.shape[1])), dim=1, sorted=False).values.mean()


def _soft_iou(logits: Tensor, truth: Tensor) -> Tensor:
    probability = logits.sigmoid()
    both = (probability * truth).sum()
    return 1 - (both + 1) / (probability.sum() + truth.sum() - both + 1)


def _mean(losses: Sequence[Tensor]) -> Tensor:
    total = losses[0]
    for loss in losses[1:]:
        total = total + loss
    return total / len(losses)
