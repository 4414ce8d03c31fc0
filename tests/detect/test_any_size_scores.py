"""Scores of images of any size: whole numbers that add up, whatever is compared."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.curve import THRESHOLDS, measure_curve
from detect.matching import find_components
from detect.metrics import measure, measure_at

SIZES = [(1, 1), (1, 9), (9, 1), (2, 2), (1, 2048), (2048, 3), (3, 2048), (31, 17)]


@pytest.mark.parametrize("protocol", ["strict", "basicirstd", "dnanet"])
@settings(max_examples=20, deadline=None)
@given(
    shape=st.sampled_from(SIZES) | st.tuples(st.integers(1, 30), st.integers(1, 30)),
    seed=st.integers(0, 100),
    shares=st.tuples(*[st.sampled_from([0.0, 0.05, 0.5, 1.0])] * 2),
)
def test_scores_add_up(
    protocol: str, shape: tuple[int, int], seed: int, shares: tuple[float, float]
) -> None:
    rng = np.random.default_rng(seed)
    truth, answer = (rng.random(shape) < share for share in shares)
    probability = np.where(answer, rng.random(shape) / 2 + 0.5, rng.random(shape) / 2)
    before = truth.copy(), probability.copy()
    tally = measure(answer, truth, protocol)
    assert tally == measure(answer, truth, protocol)
    assert (tally.pixels, tally.truth, tally.found) == (truth.size, truth.sum(), answer.sum())
    assert tally.both == (truth & answer).sum()
    assert 0 <= tally.matched <= tally.targets == len(find_components(truth))
    assert 0 <= tally.false_pixels <= tally.found
    for name, score in tally.scores().items():
        assert score is None or np.isfinite(score), name
    for one in measure_at(probability, truth, (0.1, 0.5, 0.9), protocol):
        assert one.both <= min(one.truth, one.found)
    curve = measure_curve(probability, truth, protocol)
    assert len(curve.tallies) == len(THRESHOLDS)
    assert np.array_equal(truth, before[0])
    assert np.array_equal(probability, before[1])


@given(seed=st.integers(0, 20))
def test_what_cannot_be_compared_is_refused(seed: int) -> None:
    truth = np.zeros((3, 4), bool)
    with pytest.raises(ValueError, match="cannot answer"):
        measure(np.zeros((4, 3), bool), truth)
    wrong = np.full((3, 4), [np.nan, -0.1, 1.1, np.inf][seed % 4])
    with pytest.raises(ValueError, match="between 0 and 1"):
        measure(wrong, truth)
