"""Random generators that depend on the seed and what they are for alone."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What random numbers are for, so that no two purposes share them."""

    HOLD_OUT = 0
    ORDER = 1
    VIEW = 2
    NEGATIVES = 3
    NOISE = 4
    DROPOUT = 5


def draw_generator(purpose: Purpose, seed: int, *place: int) -> np.random.Generator:
    """Make the generator of one purpose, at one place of a run (numpy's SeedSequence).

    Parameters
    ----------
    purpose : Purpose
    seed, *place : int
        0 or more; as many for one purpose every time.

    Returns
    -------
    numpy.random.Generator
    """
    return np.random.default_rng((purpose, seed, *place))
