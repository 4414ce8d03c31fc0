"""Losses on maps of logits; each is averaged over the outputs of deep supervision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from detect.recipe import Loss


class LossFunction(Protocol):
    """A loss of this module, with its numbers filled in."""

    def __call__(
        self, outputs: Sequence[Tensor], truth: Tensor, sources: int | None = None
    ) -> Tensor:
        """See `soft_iou`."""


def soft_iou(outputs: Sequence[Tensor], truth: Tensor, sources: int | None = None) -> Tensor:
    """Soft intersection over union, as DNA-Net is trained with it.

    1 − (Σ p·t + 1) / (Σ p + Σ t − Σ p·t + 1) with p the sigmoid of the logits (B. Li et al., IEEE
    TIP 2023, equation 9; the smoothing of 1 is that of the published code). The lesser of p and t
    stands for their product, which is the same where t is 0 or 1, so that it is least at p = t for
    a truth in between, too (a Jaccard metric loss: Wang, Ning & Blaschko, NeurIPS 2023).

    Parameters
    ----------
    outputs : sequence of (N, 1, H, W) Tensor
        Logits.
    truth : (N, 1, H, W) Tensor of float32
        1 on targets, 0 elsewhere; in between where it is a probability (`detect.teachers`).
    sources : int, optional
        None makes one loss of all pixels of the batch. A number says how many images the batch
        was made from: then every image has a loss of its own, and what is returned is the sum of
        the losses of a source and its negatives, averaged over the sources (L_Neg of Lu et al.,
        IEEE TGRS 2024).

    Returns
    -------
    scalar Tensor
    """
    return _average(outputs, truth, sources, _soft_iou)


def soft_iou_bce(outputs: Sequence[Tensor], truth: Tensor, sources: int | None = None) -> Tensor:
    """Soft IoU plus binary cross-entropy; parameters as `soft_iou`.

    Soft IoU sees the balance of a whole batch and hardly feels one lost target; the
    cross-entropy gives every pixel a gradient of its own. It is counted from its least value, which
    is above 0 where the truth is a probability.
    """
    return _average(outputs, truth, sources, _soft_iou, _bce)


def soft_iou_hard_bce(
    outputs: Sequence[Tensor],
    truth: Tensor,
    sources: int | None = None,
    *,
    edge_weight: float = 4.0,
    hard_share: float = 0.5,
) -> Tensor:
    """Soft IoU plus `hard_bce`; parameters as there."""
    hard = _make_hard_bce(truth, edge_weight, hard_share)
    return _average(outputs, truth, sources, _soft_iou, hard)


def hard_bce(
    outputs: Sequence[Tensor],
    truth: Tensor,
    sources: int | None = None,
    *,
    edge_weight: float = 4.0,
    hard_share: float = 0.5,
) -> Tensor:
    """Binary cross-entropy of the hardest pixels, with weighted outlines.

    The loss of PAL (Yu et al., ICCV 2025), which takes the hardest half of a batch, where this
    takes the hardest half of each of its images.

    Parameters
    ----------
    outputs, truth, sources
        See `soft_iou`.
    edge_weight : float
        Weight of the pixels on either side of a target's outline, among 1 for the rest.
    hard_share : float
        Of an image's pixels only this share counts, those with the greatest losses (and any that
        equal the least of them), so that easy background does not drown the rest.
    """
    return _average(outputs, truth, sources, _make_hard_bce(truth, edge_weight, hard_share))


LOSSES: dict[str, Callable[..., Tensor]] = {
    "soft_iou": soft_iou,
    "soft_iou_bce": soft_iou_bce,
    "soft_iou_hard_bce": soft_iou_hard_bce,
    "hard_bce": hard_bce,
}


def make_loss(loss: Loss) -> LossFunction:
    """Make the loss that a recipe names."""
    if "hard" not in loss.name:
        return LOSSES[loss.name]
    return partial(LOSSES[loss.name], edge_weight=loss.edge_weight, hard_share=loss.hard_share)


# From logits and truth, (N, pixels), to one loss a row.
_RowLoss = Callable[[Tensor, Tensor], Tensor]


def _average(
    outputs: Sequence[Tensor], truth: Tensor, sources: int | None, *terms: _RowLoss
) -> Tensor:
    """Add up the terms, each averaged over outputs and images, or summed over each source's."""
    flat = truth.flatten(1)
    total = flat.new_zeros(())
    for logits in outputs:
        rows = logits.float().flatten(1)
        for term in terms:
            if sources is not None:
                total = total + term(rows, flat).sum() / sources
            elif term is _soft_iou:
                total = total + term(rows.reshape(1, -1), flat.reshape(1, -1)).sum()
            else:
                total = total + term(rows, flat).mean()
    return total / len(outputs)


def _soft_iou(logits: Tensor, truth: Tensor) -> Tensor:
    probability = logits.sigmoid()
    both = torch.minimum(probability, truth).sum(1)
    return 1 - (both + 1) / (probability.sum(1) + truth.sum(1) - both + 1)


def _bce(logits: Tensor, truth: Tensor) -> Tensor:
    each = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    return (each - _entropy(truth)).mean(1)


def _make_hard_bce(truth: Tensor, edge_weight: float, hard_share: float) -> _RowLoss:
    weight = 1 + (edge_weight - 1) * _outlines(truth).flatten(1).to(truth.dtype)

    def hard(logits: Tensor, truth: Tensor) -> Tensor:
        each = F.binary_cross_entropy_with_logits(logits, truth, weight, reduction="none")
        # A pixel that nobody can be sure of is not hard for that.
        each = each - weight * _entropy(truth)
        least = _greatest(each.detach(), max(1, int(hard_share * each.shape[1])))
        chosen = (each >= least).to(each.dtype)
        return (each * chosen).sum(1) / chosen.sum(1)

    return hard


def _entropy(truth: Tensor) -> Tensor:
    """The least cross-entropy that any answer has, 0 where the truth is 0 or 1."""
    return -(torch.xlogy(truth, truth) + torch.xlogy(1 - truth, 1 - truth))


def _outlines(truth: Tensor) -> Tensor:
    """Where the 3 x 3 neighbourhood holds both kinds of pixel."""
    near = F.pad((truth > 0.5).to(truth.dtype), (1, 1, 1, 1), mode="replicate")
    near = near[..., :-2] + near[..., 1:-1] + near[..., 2:]
    near = near[..., :-2, :] + near[..., 1:-1, :] + near[..., 2:, :]
    return (near > 0) & (near < 9)


def _greatest(values: Tensor, count: int) -> Tensor:
    """The least of the `count` greatest values of every row, (N, 1)."""
    place = values.shape[1] - count
    if values.device.type == "cpu":
        # Numpy's selection takes a tenth of the time of torch's.
        found = np.partition(values.numpy(), place, axis=1)[:, place]
        return torch.from_numpy(found)[:, None]
    return values.kthvalue(place + 1, dim=1, keepdim=True).values
