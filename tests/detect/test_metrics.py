"""Metrics against the published arithmetic, written anew on scikit-image's region properties."""

import itertools
from collections.abc import Iterator
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import linear_sum_assignment
from scipy.stats import mannwhitneyu
from skimage.measure import label, regionprops

from detect.matching import (
    Components,
    find_components,
    find_contacts,
    hierarchical_iou,
    scan_components,
)
from detect.metrics import Tally, measure, measure_at

TARGET_NAMES = {"target_precision", "target_recall", "target_f1"}
NAMES = {"iou", "niou", "pd", "fa", "hiou", "precision", "recall", "f1", "auc"} | TARGET_NAMES


@st.composite
def masks(draw: Any, count: int = 2) -> tuple[np.ndarray, ...]:
    """Masks of one shape with some blobs each, often close to one another."""
    shape = draw(st.tuples(st.integers(1, 24), st.integers(1, 24)))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    share = draw(st.sampled_from([0.0, 0.03, 0.08, 0.2, 0.5]))
    first = rng.random(shape) < share
    result = [first]
    for _ in range(count - 1):
        shift = rng.integers(-2, 3, 2)
        moved = np.roll(first, shift, (0, 1)) ^ (rng.random(shape) < share / 4)
        result.append(moved)
    return tuple(result)


def regions(mask: np.ndarray) -> list[Any]:
    return regionprops(label(mask, connectivity=2))


def walk(found: np.ndarray, truth: np.ndarray) -> tuple[int, list[Any], list[Any]]:
    """Targets of one image, and the components that the published walk matches and leaves."""
    left, matched = list(regions(found)), []
    targets = regions(truth)
    for target in targets:
        for place, candidate in enumerate(left):
            gap = np.linalg.norm(np.array(candidate.centroid) - np.array(target.centroid))
            if gap < 3:
                matched.append(left.pop(place))
                break
    return len(targets), matched, left


def published_counts(found: np.ndarray, truth: np.ndarray) -> dict[str, int]:
    """What public code of the two protocols adds up of one image."""
    targets, matched, left = walk(found, truth)
    areas = [region.area for region in matched]
    kept = np.zeros(found.shape)
    for region in matched:
        kept[tuple(region.coords.T)] = 1
    return {
        "both": int((found & truth).sum()),
        "union": int(found.sum() + truth.sum() - (found & truth).sum()),
        "pixels": truth.size,
        "targets": targets,
        "matched": len(matched),
        "basicirstd": int((found.astype(int) - kept).sum()),
        "dnanet": int(sum(r.area for r in [*matched, *left] if r.area not in areas)),
    }


def crowded_pairs(count: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Predictions and labels with many components at about the radius; some of them empty."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        shape = tuple(rng.integers(1, 28, 2))
        share = rng.choice([0.0, 0.02, 0.06, 0.12, 0.3])
        truth = rng.random(shape) < share
        if rng.random() < 0.5:
            # Bars and squares, whose centroids lie between pixels.
            truth = np.maximum(truth, np.roll(truth, 1, int(rng.integers(2))))
        found = np.roll(truth, rng.integers(-3, 4, 2), (0, 1)) ^ (rng.random(shape) < share / 3)
        if rng.random() < 0.1:
            found[:] = False
        if rng.random() < 0.1:
            truth = np.zeros(shape, bool)
        yield found, truth


def test_published_protocols_agree_with_public_code_to_the_last_digit() -> None:
    pairs = list(crowded_pairs(500, seed=1))
    assert sum(not found.any() for found, _ in pairs) > 20
    assert sum(not truth.any() for _, truth in pairs) > 20
    counts = [published_counts(found, truth) for found, truth in pairs]
    assert sum(c["basicirstd"] != c["dnanet"] for c in counts) > 20
    for protocol in ("basicirstd", "dnanet"):
        tallies = [measure(found, truth, protocol) for found, truth in pairs]
        # Image by image, and over sets of images.
        for start, end in [*((i, i + 1) for i in range(len(pairs))), (0, 30), (0, 300), (0, 500)]:
            scores = reduce(add, tallies[start:end]).scores()
            sums = {name: sum(c[name] for c in counts[start:end]) for name in counts[0]}
            assert scores["fa"] == sums[protocol] / sums["pixels"]
            if sums["targets"]:
                assert scores["pd"] == sums["matched"] / sums["targets"]
            # np.spacing(1), which keeps the published quotient defined, is lost from 2 on.
            if sums["union"] > 1:
                assert scores["iou"] == 1.0 * sums["both"] / (np.spacing(1) + sums["union"])


@settings(max_examples=100, deadline=None)
@given(pair=masks(), turn=st.booleans())
def test_components_are_those_of_scikit_image(pair: tuple[np.ndarray, ...], turn: bool) -> None:
    mask = pair[0].T if turn else pair[0][::-1]
    for found in (find_components(mask), scan_components(mask)):
        order = np.argsort(found.firsts)
        expected = regions(mask)
        assert len(found) == len(expected)
        assert found.areas[order].tolist() == [region.area for region in expected]
        # Equal to the last bit, so that what lies at the radius is decided as there.
        assert found.centroids.T[order].tolist() == [list(r.centroid) for r in expected]
        for index, region in zip(order, expected, strict=True):
            np.testing.assert_array_equal(
                found.labels.reshape(mask.shape) == index + 1,
                label(mask, connectivity=2) == region.label,
            )
    order = np.argsort(find_components(mask).firsts)
    np.testing.assert_array_equal(order, np.arange(len(order)))


@settings(max_examples=100, deadline=None)
@given(
    levels=hnp.arrays(np.uint8, (9, 11), elements=st.integers(0, 10)),
    truth=hnp.arrays(np.bool_, (9, 11)),
    thresholds=st.lists(st.integers(0, 10).map(lambda i: i / 10), min_size=1, max_size=14),
    protocol=st.sampled_from(["strict", "basicirstd", "dnanet"]),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_many_thresholds_are_measured_as_one_by_one(
    levels: np.ndarray, truth: np.ndarray, thresholds: list[float], protocol: Any, dtype: Any
) -> None:
    probability = (levels / 10).astype(dtype)
    tallies = measure_at(probability, truth, thresholds, protocol)
    assert len(tallies) == len(thresholds)
    for tally, threshold in zip(tallies, thresholds, strict=True):
        assert tally == measure(levels > 10 * threshold + 1e-9, truth, protocol)


def best_assignment(allowed: np.ndarray, cost: np.ndarray) -> tuple[int, float]:
    """Most pairs and their least cost, by trying every assignment."""
    n, m = allowed.shape
    best = (0, 0.0)
    for columns in itertools.product(range(-1, m), repeat=n):
        used = [c for c in columns if c >= 0]
        if len(set(used)) < len(used) or not all(
            allowed[r, c] for r, c in enumerate(columns) if c >= 0
        ):
            continue
        best = min(best, (-len(used), sum(cost[r, c] for r, c in enumerate(columns) if c >= 0)))
    return -best[0], best[1]


@settings(max_examples=80, deadline=None)
@given(pair=masks())
def test_strict_is_the_best_assignment(pair: tuple[np.ndarray, ...]) -> None:
    found, truth = pair
    targets, candidates = regions(truth), regions(found)
    if max(len(targets), len(candidates)) > 5:
        return
    gaps = np.array(
        [[np.linalg.norm(np.subtract(t.centroid, c.centroid)) for c in candidates] for t in targets]
    ).reshape(len(targets), len(candidates))
    pairs, distance = best_assignment(gaps < 3, gaps)
    tally = measure(found, truth, "strict")
    assert tally.matched == pairs
    # Components that some assignment of that many pairs and that distance leaves out.
    left_out = {
        sum(c.area for j, c in enumerate(candidates) if j not in columns)
        for chosen in itertools.combinations(range(len(targets)), pairs)
        for columns in itertools.permutations(range(len(candidates)), pairs)
        if all(gaps[i, j] < 3 for i, j in zip(chosen, columns, strict=True))
        and sum(gaps[i, j] for i, j in zip(chosen, columns, strict=True)) <= distance + 1e-9
    }
    assert tally.false_pixels in left_out


def test_strict_takes_the_nearest_where_the_walk_takes_the_first() -> None:
    truth, found = np.zeros((2, 9, 9), bool)
    truth[4, 4] = True
    found[2, 4:6] = True
    found[4, 4] = True
    found[3, 4] = False
    assert measure(found, truth, "basicirstd").false_pixels == 1
    assert measure(found, truth, "strict").false_pixels == 2


def test_strict_finds_both_targets_where_the_walk_loses_one() -> None:
    truth, found = np.zeros((2, 9, 9), bool)
    truth[4, 4] = truth[5, 2] = True
    found[3, 2] = found[4, 6] = True
    # The first target takes the first component near it, the only one near the second target.
    assert measure(found, truth, "basicirstd").matched == 1
    assert measure(found, truth, "strict").matched == 2


def test_three_pixels_are_too_far() -> None:
    truth, found = np.zeros((2, 8, 8), bool)
    truth[2, 2] = True
    found[2, 5] = True
    assert measure(found, truth).matched == 0
    assert measure(found, np.roll(truth, 1, 1)).matched == 1


def test_dnanet_forgets_a_false_alarm_of_a_matched_size() -> None:
    truth, found = np.zeros((2, 32, 32), bool)
    truth[4:6, 4:6] = found[4:6, 4:6] = found[20:22, 20:22] = True
    assert measure(found, truth, "dnanet").scores()["fa"] == 0
    assert measure(found, truth, "basicirstd").scores()["fa"] == 4 / 32**2


@settings(max_examples=80, deadline=None)
@given(pair=masks())
def test_pixel_scores(pair: tuple[np.ndarray, ...]) -> None:
    found, truth = pair
    scores = measure(found, truth).scores()
    both, either = (found & truth).sum(), (found | truth).sum()
    assert scores["iou"] == scores["niou"] == (both / either if either else None)
    assert scores["precision"] == (both / found.sum() if found.any() else None)
    assert scores["recall"] == (both / truth.sum() if truth.any() else None)
    assert scores["auc"] is None
    assert set(scores) == NAMES


@settings(max_examples=80, deadline=None)
@given(pair=masks(), protocol=st.sampled_from(["basicirstd", "dnanet"]))
def test_target_scores(pair: tuple[np.ndarray, ...], protocol: Any) -> None:
    found, truth = pair
    targets, matched, left = walk(found, truth)
    scores = measure(found, truth, protocol).scores()
    hits, misses, false = len(matched), targets - len(matched), len(left)
    assert scores["target_recall"] == scores["pd"] == (hits / targets if targets else None)
    assert scores["target_precision"] == (hits / (hits + false) if hits + false else None)
    objects = 2 * hits + misses + false
    assert scores["target_f1"] == (2 * hits / objects if objects else None)


def published_pairs(found: np.ndarray, truth: np.ndarray) -> tuple[int, int, list[float]]:
    """Targets, components and the IoU of the pairs of hIoU, by its published rule."""
    targets, candidates = regions(truth), regions(found)
    cells = [[set(map(tuple, r.coords)) for r in side] for side in (targets, candidates)]
    overlap = np.array([[len(a & b) / len(a | b) for b in cells[1]] for a in cells[0]])
    gap = np.array(
        [[np.linalg.norm(np.subtract(t.centroid, c.centroid)) for c in candidates] for t in targets]
    )
    rows, cols = linear_sum_assignment(gap)
    pairs = [(i, j) for i, j in zip(rows, cols, strict=True) if overlap[i, j] >= 0.5]
    free_rows = [i for i in range(len(targets)) if i not in {i for i, _ in pairs}]
    free_cols = [j for j in range(len(candidates)) if j not in {j for _, j in pairs}]
    rows, cols = linear_sum_assignment(gap[np.ix_(free_rows, free_cols)])
    left = [(free_rows[i], free_cols[j]) for i, j in zip(rows, cols, strict=True)]
    pairs += [pair for pair in left if gap[pair] < 3]
    return len(targets), len(candidates), [overlap[pair] for pair in pairs]


def blobs(rng: np.random.Generator, shape: tuple[int, int], count: int) -> np.ndarray:
    """Discs and boxes of 1 to 7 pixels a side, close to one another; some touch."""
    mask = np.zeros(shape, bool)
    rows, cols = np.indices(shape)
    for row, col in rng.integers(0, shape, (count, 2)):
        half = rng.integers(0, 7, 2) / 2
        inside = (np.abs(rows - row) <= half[0]) & (np.abs(cols - col) <= half[1])
        if rng.random() < 0.5:
            inside &= (rows - row) ** 2 + (cols - col) ** 2 <= half.max() ** 2
        mask |= inside
    return mask


def blob_pairs(count: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Labels of several blobs, and predictions that move, lose, add, join and cut them."""
    rng = np.random.default_rng(seed)
    while count:
        shape = (int(rng.integers(12, 60)), int(rng.integers(12, 60)))
        truth = blobs(rng, shape, int(rng.integers(1, 12)))
        found = np.roll(truth, rng.integers(-2, 3, 2), (0, 1))
        found &= ~blobs(rng, shape, int(rng.integers(0, 4)))
        found |= blobs(rng, shape, int(rng.integers(0, 8)))
        if found.any():
            count -= 1
            yield found, truth


def test_hiou_is_the_published_one() -> None:
    pairs = [
        *blob_pairs(300, seed=3),
        *(p for p in crowded_pairs(300, 4) if p[0].any() & p[1].any()),
    ]
    tallies = [measure(found, truth) for found, truth in pairs]
    counts = [published_pairs(found, truth) for found, truth in pairs]
    assert sum(0 < len(ious) < min(n, m) for n, m, ious in counts) > 100
    for start, end in [*((i, i + 1) for i in range(len(pairs))), (0, 300), (0, len(pairs))]:
        n, m, ious = reduce(lambda a, b: tuple(map(add, a, b)), counts[start:end])
        hiou = reduce(add, tallies[start:end]).scores()["hiou"]
        mean = np.mean(ious) if ious else 0.0
        assert hiou == pytest.approx(len(ious) / (n + m - len(ious)) * mean, rel=0, abs=1e-12)


def test_hiou_loses_a_good_overlap_to_a_nearer_centroid() -> None:
    truth, found = np.zeros((2, 24, 24), bool)
    # Two corners that overlap by 17 of 21 pixels, and a target that is nearer to the predicted
    # one's centroid: the most and best overlaps would come to 1/2 x 17/21.
    truth[10, 4:17] = truth[10:19, 4] = truth[12, 6] = True
    found[10, 4:13] = found[10:19, 4] = True
    assert published_pairs(found, truth) == (2, 1, [0.0])
    tally = measure(found, truth)
    assert (tally.pairs, tally.scores()["hiou"]) == (1, 0.0)


def test_an_overlap_of_exactly_half_counts_however_far_the_centroids_are() -> None:
    truth, found = np.zeros((2, 4, 24), bool)
    # 10 of 20 pixels, and 5 pixels from centroid to centroid.
    truth[2, 0:15] = found[2, 5:20] = True
    assert published_pairs(found, truth) == (1, 1, [0.5])
    tally = measure(found, truth)
    assert (tally.pairs, tally.scores()["hiou"]) == (1, 0.5)
    found[2, 5] = False
    assert measure(found, truth).pairs == 0


def reorder(components: Components, order: np.ndarray) -> Components:
    """The same components under other numbers."""
    rank = np.zeros(len(components) + 1, np.int32)
    rank[order + 1] = np.arange(1, len(rank))
    return Components(
        rank[components.labels],
        components.firsts[order],
        components.areas[order],
        components.centroids[:, order],
    )


def test_hiou_of_equal_distances_is_that_of_the_raster_order() -> None:
    rng = np.random.default_rng(8)
    truth, found = np.zeros((2, 8, 8), bool)
    # One target of 2 x 3 pixels, and two components at the same distance from it.
    truth[3, 2:5] = truth[4, 2:5] = True
    found[3, :3] = found[5:7, 2:4] = True
    cases = [(truth, found)]
    for _ in range(1500):
        truth, found = np.zeros((2, 8, 8), bool)
        for mask in (truth, found, found, found):
            (row, col), (height, width) = rng.integers(0, 6, 2), rng.integers(1, 4, 2)
            mask[row : row + height, col : col + width] = True
        cases.append((truth, found))
    differ = 0
    for truth, found in cases:
        targets, components = find_components(truth), find_components(found)
        wanted = published_pairs(found, truth)[2]
        for order in map(np.array, itertools.permutations(range(len(components)))):
            other = reorder(components, order)
            ious = hierarchical_iou(targets, other, find_contacts(targets, other))
            assert ious == pytest.approx(wanted, abs=1e-12)
        backwards = published_pairs(found[::-1, ::-1], truth[::-1, ::-1])[2]
        differ += backwards != wanted
    assert differ >= 3


@pytest.mark.parametrize("swap", [False, True])
def test_hiou_of_thousands_of_components_is_that_of_the_whole_table(swap: bool) -> None:
    rng = np.random.default_rng(5)
    few, many = np.zeros((2, 600, 600), bool)
    # On a lattice, with equal distances everywhere, and crowded in one corner.
    many[::3, ::3] = rng.random((200, 200)) < 0.9
    few[2 + 3 * rng.integers(0, 190, 60), 1 + 3 * rng.integers(0, 190, 60)] = True
    few[:24:3, 1:24:3] = True
    found, truth = (few, many) if swap else (many, few)
    centres = [np.argwhere(mask).astype(float) for mask in (truth, found)]
    gap = np.sqrt(((centres[0][:, None] - centres[1][None]) ** 2).sum(2))
    rows, cols = linear_sum_assignment(gap)
    assert not (truth & found).any()
    assert measure(found, truth).pairs == (gap[rows, cols] < 3).sum()


@pytest.mark.parametrize("protocol", ["strict", "basicirstd", "dnanet"])
def test_images_without_targets_or_predictions(protocol: Any) -> None:
    empty, some = np.zeros((2, 6, 6), bool)
    some[2, 2] = True
    nothing = measure(empty, empty, protocol).scores()
    assert nothing["fa"] == 0
    assert {k for k, v in nothing.items() if v is None} == NAMES - {"fa"}
    lost = measure(empty, some, protocol).scores()
    assert (lost["iou"], lost["pd"], lost["fa"], lost["hiou"]) == (0, 0, 0, 0)
    false = measure(some, empty, protocol).scores()
    assert (false["iou"], false["pd"], false["fa"], false["hiou"]) == (0, None, 1 / 36, 0)
    # An image with nothing in it must not move the mean over images.
    both = measure(some, some, protocol) + measure(empty, empty, protocol)
    assert both.scores()["niou"] == 1


@settings(max_examples=40, deadline=None)
@given(first=masks(), second=masks())
def test_tallies_add_up_in_any_order(
    first: tuple[np.ndarray, ...], second: tuple[np.ndarray, ...]
) -> None:
    a, b = measure(*first), measure(*second)
    assert (a + b).scores() == (b + a).scores() == (Tally() + a + b).scores()
    both = sum((f & t).sum() for f, t in (first, second))
    either = sum((f | t).sum() for f, t in (first, second))
    assert (a + b).scores()["iou"] == (both / either if either else None)


@settings(max_examples=40, deadline=None)
@given(
    levels=hnp.arrays(np.uint8, (7, 9)),
    truth=hnp.arrays(np.bool_, (7, 9)),
)
def test_auc_is_the_probability_that_a_target_pixel_scores_higher(
    levels: np.ndarray, truth: np.ndarray
) -> None:
    probability = levels / 255
    scores = measure(probability, truth).scores()
    if truth.all() or not truth.any():
        assert scores["auc"] is None
        return
    wins = mannwhitneyu(probability[truth], probability[~truth], method="asymptotic").statistic
    assert scores["auc"] == pytest.approx(wins / (truth.sum() * (~truth).sum()))


@settings(max_examples=40, deadline=None)
@given(levels=hnp.arrays(np.uint8, (7, 9)), threshold=st.floats(0.01, 0.99))
def test_roc_gives_the_rates_at_each_threshold(levels: np.ndarray, threshold: float) -> None:
    truth = np.zeros(levels.shape, bool)
    truth[:3] = True
    probability = levels / 255
    false_rate, true_rate, thresholds = measure(probability, truth).roc()
    # The first threshold that is below every probability above `threshold` and none below it.
    above = probability[probability > threshold]
    if not above.size:
        return
    at = np.searchsorted(-thresholds, -(above.min() - 1e-3))
    assert true_rate[at] == pytest.approx((probability > threshold)[truth].mean())
    assert false_rate[at] == pytest.approx((probability > threshold)[~truth].mean())


def test_threshold_is_exclusive() -> None:
    probability = np.array([[0.5, 0.51]])
    assert measure(probability, np.array([[True, True]])).both == 1


@pytest.mark.parametrize("value", [-0.1, 1.2, np.nan])
def test_probabilities_lie_between_0_and_1(value: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        measure(np.array([[0.5, value]]), np.array([[True, False]]))


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="cannot answer"):
        measure(np.zeros((2, 3), bool), np.zeros((3, 2), bool))
