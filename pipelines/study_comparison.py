"""What arms of a study differ by: means over seeds, paired differences, intervals, steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detect.curve import FALSE_ALARM_RATES
from pipelines.bootstrap import Interval, paired_intervals
from pipelines.study_scores import RATIOS, RunScores
from synth.errors import StoreError
from synth.seeds import generator

Curves = Mapping[tuple[str, float, int], Sequence[tuple[int, float | None]]]
"""Steps and IoU of the validations, by arm, fraction and seed."""


@dataclass(frozen=True)
class Result:
    """A run on one split.

    Attributes
    ----------
    arm : str
    fraction : float
    seed : int
    split : str
    scores : mapping of str to float or None
        IoU, Pd and Fa as fractions; None where undefined.
    images : RunScores or None
        The same image by image; None where that was not kept.
    """

    arm: str
    fraction: float
    seed: int
    split: str
    scores: Mapping[str, float | None]
    images: RunScores | None


def compare(
    study: str,
    results: Iterable[Result],
    baselines: Mapping[str, str],
    fractions: Sequence[float],
    splits: Sequence[str],
) -> list[dict[str, Any]]:
    """Compare every arm with its baseline.

    Parameters
    ----------
    study : str
        Its name, which seeds the bootstrap: the same results give the same intervals.
    results : iterable of Result
    baselines : mapping of str to str
        What every arm is compared with, in the order of the study.
    fractions, splits : sequence
        In the order of the table.

    Returns
    -------
    list of dict
        An entry per fraction, split and arm: ``seeds``; ``baseline``; per score ``mean`` and
        ``std`` over seeds, ``difference`` to the baseline over the seeds that both have,
        ``by_seed``, the difference of each of these seeds, and ``low`` and ``high``, its 95%
        interval (`pipelines.bootstrap`), None unless all of these runs have scores image by image;
        ``pd_at_fa``, the greatest Pd of all seeds together within limits on Fa.

    Raises
    ------
    StoreError
        Two arms were evaluated on different images.
    """
    found: dict[tuple[float, str, str], dict[int, Result]] = {}
    for result in results:
        found.setdefault((result.fraction, result.split, result.arm), {})[result.seed] = result
    table = []
    for fraction in fractions:
        for split in splits:
            for arm, baseline in baselines.items():
                ours = found.get((fraction, split, arm))
                if not ours:
                    continue
                theirs = {} if arm == baseline else found.get((fraction, split, baseline), {})
                table.append(
                    {"fraction": fraction, "split": split, "arm": arm}
                    | {"seeds": sorted(ours), "baseline": baseline}
                    | _compare((study, f"{fraction:g}", split, arm), ours, theirs)
                )
    return table


def _compare(
    names: tuple[str, ...], ours: Mapping[int, Result], theirs: Mapping[int, Result]
) -> dict[str, Any]:
    entry: dict[str, Any] = {}
    common = sorted(ours.keys() & theirs.keys())
    intervals = _intervals(names, [ours[seed] for seed in common], [theirs[s] for s in common])
    for name in RATIOS:
        values = [value for one in ours.values() if (value := one.scores[name]) is not None]
        by_seed = {
            str(seed): a - b
            for seed in common
            if (a := ours[seed].scores[name]) is not None
            and (b := theirs[seed].scores[name]) is not None
        }
        whole = bool(common) and len(by_seed) == len(common)
        entry[name] = {
            "mean": fmean(values) if values else None,
            "std": stdev(values) if len(values) > 1 else None,
            **asdict(Interval(fmean(by_seed.values()) if whole else None, None, None)),
            "by_seed": by_seed,
        }
        if name in intervals:
            entry[name] |= asdict(intervals[name])
    kept = [one.images for one in ours.values() if one.images is not None]
    total = np.sum([one.curve for one in kept], axis=0) if len(kept) == len(ours) else None
    entry["pd_at_fa"] = [
        {"fa": fa, "pd": None if total is None else _best_pd(total, fa)} for fa in FALSE_ALARM_RATES
    ]
    return entry


def _intervals(
    names: tuple[str, ...], ours: Sequence[Result], theirs: Sequence[Result]
) -> dict[str, Interval]:
    """By score, where every run has scores image by image."""
    pairs = [
        (one.images, other.images)
        for one, other in zip(ours, theirs, strict=True)
        if one.images is not None and other.images is not None
    ]
    if not pairs or len(pairs) < len(ours):
        return {}
    for one, other in pairs:
        if one.ids != other.ids:
            raise StoreError(
                names[2], "two arms were evaluated on different images; evaluate both again"
            )
    return paired_intervals(
        [one.counts for one, _ in pairs],
        [other.counts for _, other in pairs],
        RATIOS,
        generator(0, "bootstrap", *names),
        crossed=len({one.ids for one, _ in pairs}) == 1,
    )


def _best_pd(curve: NDArray[np.int64], limit: float) -> float | None:
    """See `detect.curve.Curve.operating_point`."""
    matched, targets, false, pixels = curve.T
    if not targets.any():
        return None
    return float(max((matched / targets)[false <= limit * pixels], default=0.0))


def steps_to_reach(
    curves: Curves,
    baselines: Mapping[str, str],
    fractions: Sequence[float],
    seeds: Sequence[int],
    budget: int,
) -> list[dict[str, Any]]:
    """How soon arms are where their baseline ends.

    Returns
    -------
    list of dict
        Per fraction and arm: ``steps``, by seed the first validation at which IoU is at least that
        of the baseline's last one with the same seed, None where there is none or that IoU is 0;
        ``reached``, in how many of the seeds; ``mean`` and ``ratio``, mean steps and their share of
        the study's budget, None unless all seeds reached it.
    """
    rows = []
    for fraction in fractions:
        for arm, baseline in baselines.items():
            steps: dict[int, int | None] = {}
            for seed in seeds:
                own = curves.get((arm, fraction, seed))
                goal = curves.get((baseline, fraction, seed))
                if own and goal:
                    wanted = goal[-1][1] or 0.0
                    at = (step for step, iou in own if (iou or 0.0) >= wanted)
                    steps[seed] = next(at, None) if wanted else None
            if not steps:
                continue
            there = [step for step in steps.values() if step is not None]
            mean = fmean(there) if len(there) == len(steps) else None
            rows.append(
                {
                    "fraction": fraction,
                    "arm": arm,
                    "baseline": baseline,
                    "steps": {str(seed): step for seed, step in steps.items()},
                    "reached": len(there),
                    "seeds": len(steps),
                    "mean": mean,
                    "ratio": None if mean is None else mean / budget,
                }
            )
    return rows
