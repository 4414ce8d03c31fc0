"""The learning rate as a function of the step, with no state to save."""

from __future__ import annotations

import math

from detect.recipe import Schedule

_RISE_FROM = 1 / 25


def learning_rate(schedule: Schedule, peak: float, step: int, steps: int) -> float:
    """Compute the rate of a step.

    Parameters
    ----------
    schedule : Schedule
    peak : float
        The greatest rate.
    step, steps : int
        From 0 to `steps` − 1.

    Returns
    -------
    float
    """
    if schedule.name == "constant":
        return peak
    if schedule.name == "multistep":
        passed = sum(step >= milestone * steps for milestone in schedule.milestones)
        return float(peak * schedule.factor**passed)
    rise = schedule.warmup * steps if schedule.name == "onecycle" else 0.0
    if step < rise:
        return _cosine(_RISE_FROM * peak, peak, step / rise)
    return _cosine(peak, schedule.min_lr, (step - rise) / (steps - rise))


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
