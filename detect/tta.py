"""Test-time augmentation: the mean of a network's answers to a frame that is moved by a pixel.

A network that pools, or takes squares of pixels for channels as `small` does, does not answer to a
frame that lies one pixel to the right with the same answer one pixel to the right (aliasing: Zhang,
ICML 2019; Azulay & Weiss, JMLR 2019). Over a target of nine pixels a changed rim is a third of its
IoU. The mean over the moves is steadier, and better than the answer to the frame as it is. Mirror
images and turns would be further views, but masks that lie half a pixel beside their targets,
always to one side, as those of NUDT-SIRST do, contradict each other in them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Moves = Literal[1, 4, 9]
"""How many: 1 is the frame as it is; 4 are the places in a square of 2 x 2 pixels, 9 those in one
of 3 x 3 with the frame's own in its middle."""

# Rows down, columns to the right. The frame as it is comes first.
_PLACES: dict[int, list[tuple[int, int]]] = {
    1: [(0, 0)],
    4: [(0, 0), (0, 1), (1, 0), (1, 1)],
    9: [(0, 0), (0, 1), (1, 0), (1, 1), (0, -1), (-1, 0), (-1, -1), (-1, 1), (1, -1)],
}


def average_moves(answer: Callable[[Tensor], Tensor], values: Tensor, moves: Moves) -> Tensor:
    """Average a network's answers to images that are moved, each moved back.

    What comes in at a border repeats it. A pixel that a move pushes out of the image has the mean
    of the other answers.

    Parameters
    ----------
    answer : callable
        From (N, C, H, W) to (N, 1, H, W).
    values : (N, C, H, W) Tensor of float
    moves : {1, 4, 9}
        See `Moves`.

    Returns
    -------
    (N, 1, H, W) Tensor of float

    Examples
    --------
    >>> import torch
    >>> image = torch.tensor([[[[0.0, 0.0, 8.0, 0.0]]]])
    >>> average_moves(lambda values: values[..., :1].expand(1, 1, 1, 4), image, 1)
    tensor([[[[0., 0., 0., 0.]]]])
    >>> average_moves(lambda values: values, image, 9)
    tensor([[[[0., 0., 8., 0.]]]])
    """
    if moves == 1:
        return answer(values)
    total, count = answer(values), torch.ones_like(values[:1, :1])
    height, width = values.shape[-2:]

    def shift(image: Tensor, down: int, right: int) -> Tensor:
        """Cut an image with a border of one pixel to its size again, somewhere else."""
        return image[..., 1 - down : 1 - down + height, 1 - right : 1 - right + width]

    inside, padded = (
        F.pad(one, (1, 1, 1, 1), mode=mode)
        for one, mode in ((count, "constant"), (values, "replicate"))
    )
    for down, right in _PLACES[moves][1:]:
        found = F.pad(answer(shift(padded, down, right)), (1, 1, 1, 1))
        total = total + shift(found, -down, -right)
        count = count + shift(inside, -down, -right)
    return total / count
