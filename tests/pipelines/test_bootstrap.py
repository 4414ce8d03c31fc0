"""Paired bootstrap intervals, against enumeration and the normal approximation."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from pipelines.bootstrap import paired_intervals

RATIO = {"score": (0, 1)}


def counts(rng: np.random.Generator, images: int) -> NDArray[np.int64]:
    bottom = rng.integers(5, 20, images)
    return np.stack([rng.integers(0, bottom + 1), bottom], axis=1)


def score(table: NDArray[np.int64], images: tuple[int, ...]) -> float:
    """The plain way: pick the images one by one, add up, divide."""
    return sum(table[i, 0] for i in images) / sum(table[i, 1] for i in images)


@pytest.mark.parametrize("crossed", [True, False])
def test_percentiles_are_those_of_all_resamples(crossed: bool) -> None:
    """Three images and two seeds have few enough resamples to list them all."""
    rng = np.random.default_rng(1)
    arm, baseline = ([counts(rng, 3) for _ in range(2)] for _ in range(2))
    draws = list(product(range(3), repeat=3))
    exact = []
    for first, second in product(range(2), repeat=2):
        pairs = [(d, d) for d in draws] if crossed else product(draws, repeat=2)
        for one, other in pairs:
            exact.append(
                (score(arm[first], one) - score(baseline[first], one)) / 2
                + (score(arm[second], other) - score(baseline[second], other)) / 2
            )
    found = paired_intervals(
        arm, baseline, RATIO, np.random.default_rng(0), crossed=crossed, resamples=20_000, level=0.8
    )["score"]
    everything = (0, 1, 2)
    plain = [score(a, everything) - score(b, everything) for a, b in zip(arm, baseline)]  # noqa: B905
    assert found.difference == pytest.approx(np.mean(plain))
    # The quantile of a discrete distribution jumps; the share below it must not.
    for end, share in ((found.low, 0.1), (found.high, 0.9)):
        assert end is not None
        assert np.mean(np.array(exact) < end - 1e-9) <= share + 0.015
        assert np.mean(np.array(exact) <= end + 1e-9) >= share - 0.015


def test_many_images_give_the_normal_interval() -> None:
    """Of a mean of differences between paired images, one seed: mean ± 1.96 standard errors."""
    rng = np.random.default_rng(0)
    images = 400
    arm = np.stack([rng.integers(0, 11, images), np.full(images, 10)], axis=1)
    baseline = np.stack([rng.integers(0, 9, images), np.full(images, 10)], axis=1)
    found = paired_intervals([arm], [baseline], RATIO, rng, crossed=True, resamples=4000)["score"]
    difference = (arm[:, 0] - baseline[:, 0]) / 10
    error = difference.std() / np.sqrt(images)
    low, high = stats.norm.interval(0.95, difference.mean(), error)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.15 * error)


def test_pairing_cancels_what_is_common_to_both() -> None:
    rng = np.random.default_rng(0)
    arm = [counts(rng, 30) for _ in range(3)]
    same = paired_intervals(arm, arm, RATIO, rng, crossed=True)["score"]
    assert (same.difference, same.low, same.high) == (0, 0, 0)


def test_the_interval_holds_the_spread_of_the_seeds() -> None:
    """Without any spread over images, what is left is the spread over seeds."""
    levels = (1, 2, 9)
    arm = [np.tile([[level, 10]], (50, 1)) for level in levels]
    baseline = [np.tile([[0, 10]], (50, 1)) for _ in levels]
    found = paired_intervals(
        arm, baseline, RATIO, np.random.default_rng(0), crossed=False, resamples=20_000
    )["score"]
    means = np.mean(list(product([0.1, 0.2, 0.9], repeat=3)), axis=1)
    low, high = np.quantile(means, [0.025, 0.975], method="inverted_cdf")
    assert found.difference == pytest.approx(0.4)
    assert found.low == pytest.approx(low)
    assert found.high == pytest.approx(high)


def test_without_targets_there_is_no_interval() -> None:
    empty = [np.zeros((4, 2), np.int64)]
    found = paired_intervals(empty, empty, RATIO, np.random.default_rng(0), crossed=True)["score"]
    assert (found.difference, found.low, found.high) == (None, None, None)
