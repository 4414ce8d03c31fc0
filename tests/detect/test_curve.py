"""Curves against scores at single thresholds, and by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from detect.curve import THRESHOLDS, Curve, OperatingPoint, measure_curve
from detect.metrics import Tally, measure


def two_targets() -> tuple[np.ndarray, np.ndarray]:
    """Targets at 0.9 and 0.6, a false alarm of two pixels at 0.7 and one of a pixel at 0.3."""
    truth = np.zeros((10, 10), bool)
    truth[2, 2] = truth[7, 7] = True
    probability = np.zeros((10, 10), np.float32)
    probability[2, 2], probability[7, 7] = 0.9, 0.6
    probability[2, 7:9] = 0.7
    probability[9, 1] = 0.3
    return probability, truth


def test_thresholds_rise_through_one_half() -> None:
    assert list(THRESHOLDS) == sorted(set(THRESHOLDS))
    assert 0.5 in THRESHOLDS
    assert 0 < THRESHOLDS[0] < 2e-7
    # Single precision still tells the last one from 1.
    assert 0 < 1 - np.float32(THRESHOLDS[-1]) < 2e-7


def test_rows_by_hand() -> None:
    rows = measure_curve(*two_targets(), thresholds=(0.2, 0.5, 0.65, 0.8, 0.95)).rows()
    assert [row["threshold"] for row in rows] == [0.2, 0.5, 0.65, 0.8, 0.95]
    assert [row["pd"] for row in rows] == [1, 1, 0.5, 0.5, 0]
    assert [row["fa"] for row in rows] == [0.03, 0.02, 0.02, 0, 0]
    assert [row["tpr"] for row in rows] == [1, 1, 0.5, 0.5, 0]
    assert [row["fpr"] for row in rows] == [3 / 98, 2 / 98, 2 / 98, 0, 0]
    assert [row["precision"] for row in rows] == [2 / 5, 2 / 4, 1 / 3, 1, None]
    assert [row["target_precision"] for row in rows] == [2 / 4, 2 / 3, 1 / 2, 1, None]


@pytest.mark.parametrize(
    ("fa", "pd", "threshold"),
    [(0.03, 1.0, 0.5), (0.02, 1.0, 0.5), (0.0199, 0.5, 0.8), (0.0, 0.5, 0.8)],
)
def test_operating_point_is_the_highest_threshold_of_the_greatest_pd(
    fa: float, pd: float, threshold: float
) -> None:
    curve = measure_curve(*two_targets(), thresholds=(0.8, 0.5, 0.65, 0.2))
    assert curve.operating_point(fa) == OperatingPoint(fa, pd, threshold)


def test_operating_point_without_targets_or_thresholds_that_are_low_enough() -> None:
    probability, truth = two_targets()
    empty = measure_curve(probability, np.zeros_like(truth))
    assert empty.operating_point(1.0) == OperatingPoint(1.0, None, None)
    loud = measure_curve(probability, truth, thresholds=(0.2, 0.5))
    assert loud.operating_point(0.01) == OperatingPoint(0.01, 0.0, None)


@settings(max_examples=60, deadline=None)
@given(
    first=hnp.arrays(np.uint8, (6, 7)),
    second=hnp.arrays(np.uint8, (8, 3)),
    thresholds=st.lists(st.floats(0, 1), min_size=1, max_size=5, unique=True),
)
def test_curves_add_up_to_the_scores_at_each_threshold(
    first: np.ndarray, second: np.ndarray, thresholds: list[float]
) -> None:
    images = [(levels / 255, levels % 5 == 0) for levels in (first, second)]
    a, b = (measure_curve(p, truth, "basicirstd", thresholds) for p, truth in images)
    for row, threshold in zip((a + b).rows(), thresholds, strict=True):
        expected = sum(
            (measure(p, truth, "basicirstd", threshold) for p, truth in images), start=Tally()
        ).scores()
        del expected["auc"]
        assert {name: row[name] for name in expected} == expected
        background = [p[~truth] > threshold for p, truth in images]
        false, number = sum(map(np.sum, background)), sum(map(np.size, background))
        assert row["fpr"] == (false / number if number else None)


def test_area_of_the_curve_of_all_levels_is_the_auc() -> None:
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 256, (30, 30))
    truth = levels + rng.normal(0, 80, levels.shape) > 180
    levels = levels.astype(np.uint8)
    cuts = [-1e-9, *(np.arange(255) + 0.5) / 255, 1.0]
    tallies = [measure(levels / 255 > t, truth) for t in cuts]
    rows = Curve(tuple(cuts), tuple(tallies)).rows()
    area = -np.trapezoid([row["tpr"] for row in rows], [row["fpr"] for row in rows])
    assert measure(levels / 255, truth).scores()["auc"] == pytest.approx(area, abs=1e-12)


def test_masks_and_other_thresholds_are_refused() -> None:
    probability, truth = two_targets()
    with pytest.raises(ValueError, match="not a mask"):
        measure_curve(probability > 0.5, truth)
    with pytest.raises(ValueError, match="do not add up"):
        measure_curve(probability, truth, thresholds=(0.5,)) + measure_curve(
            probability, truth, thresholds=(0.4,)
        )
