"""From a saliency map to a mask."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from synth.frames import Mask

Rule = Literal["adaptive", "sigma"]
RULES: tuple[Rule, ...] = get_args(Rule)


def segment(saliency: NDArray[np.floating], rule: Rule = "adaptive", sigmas: float = 5.0) -> Mask:
    """Take the pixels that stand out from their frame.

    Parameters
    ----------
    saliency : (H, W) ndarray of float
        0 or more, in any unit.
    rule : {"adaptive", "sigma"}
        The threshold, from the map's own mean and standard deviation. ``adaptive``: max(0.7·max,
        mean + 0.5·std), as the tables of DNA-Net (Li et al., IEEE TIP 2023) and of the BasicIRSTD
        toolbox have it. ``sigma``: mean + `sigmas`·std, the form that most of the methods' own
        papers use, each with its number.
    sigmas : float
        For the rule ``sigma``.

    Returns
    -------
    (H, W) ndarray of bool
        Saliency above the threshold; nothing in a map that is constant.
    """
    values = saliency.astype(np.float64)
    mean, std = values.mean(), values.std()
    threshold = max(0.7 * values.max(), mean + 0.5 * std)
    if rule == "sigma":
        threshold = mean + sigmas * std
    return values > threshold
