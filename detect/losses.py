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


LOSSES: dict[str, Loss] = {"soft_iou": soft_iou, "soft_iou_bce": soft_iou_bce}


def _soft_iou(logits: Tensor, truth: Tensor) -> Tensor:
    probability = logits.sigmoid()
    both = (probability * truth).sum()
    return 1 - (both + 1) / (probability.sum() + truth.sum() - both + 1)


def _mean(losses: Sequence[Tensor]) -> Tensor:
    total = losses[0]
    for loss in losses[1:]:
        total = total + loss
    return total / len(losses)
