"""Shapes of annotations as pixels: held centres, nothing lost, nothing twice."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from foreign_sets import box_mask, count_targets, polygon_mask
from hypothesis import assume, given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from pipelines.formats.shapes import Piece, draw_box, draw_disc, draw_point, draw_polygon
from pipelines.formats.yolo import draw_lines
from synth.frames import Mask

SHAPE = (30, 40)
quarters = st.integers(0, 4 * 40).map(lambda value: value / 4)
places = st.tuples(st.floats(-3, 43), st.floats(-3, 33))


def whole(piece: Piece, shape: tuple[int, int] = SHAPE) -> Mask:
    mask = np.zeros(shape, bool)
    mask[piece.window] = piece.pixels
    return mask


@pytest.mark.parametrize("shape", [(100, 80), (512, 640), (1080, 1920)])
@pytest.mark.parametrize("digits", [6, 8, 17])
def test_a_yolo_box_of_a_pixel_is_a_pixel_wherever_it_is(
    shape: tuple[int, int], digits: int
) -> None:
    height, width = shape
    for row in range(0, 4 * height - 3, 4 * height // 11):
        for quarter in range(20):
            left, top = (row + quarter) % (4 * (width - 1)) / 4, row / 4
            values = ((left + 0.5) / width, (top + 0.5) / height, 1 / width, 1 / height)
            line = "0 " + " ".join(f"{value:.{digits}f}" for value in values)
            assert np.count_nonzero(draw_lines(line, shape).mask) == 1, (line, left, top)


@given(quarters, quarters, st.integers(1, 24), st.integers(1, 24))
def test_a_box_holds_the_centres_that_exact_arithmetic_finds(
    left: float, top: float, width: int, height: int
) -> None:
    assume(left < 40 and top < 30)
    edges = (left, top, left + width / 4, top + height / 4)
    wanted = box_mask(*map(Fraction, edges), SHAPE)
    np.testing.assert_array_equal(whole(draw_box(*edges, SHAPE)), wanted)


@given(st.lists(quarters, min_size=4, max_size=4, unique=True), quarters, quarters)
def test_boxes_that_share_an_edge_share_no_pixel(
    edges: list[float], top: float, bottom: float
) -> None:
    edges.sort()
    assume(edges[-2] < 40 and min(top, bottom) < 30 and top != bottom)
    # Narrower than a pixel, both may be all that there is of a target.
    assume(min(np.diff(edges)) >= 1)
    masks = [
        whole(draw_box(low, min(top, bottom), high, max(top, bottom), SHAPE))
        for low, high in pairwise(edges)
        if low < 40
    ]
    assert np.sum(masks, axis=0).max() == 1


@given(st.lists(places, min_size=3, max_size=8))
def test_a_polygon_holds_all_centres_in_it_and_never_vanishes(
    points: list[tuple[float, float]],
) -> None:
    corners = np.array(points)
    try:
        mask = whole(draw_polygon(corners, SHAPE))
    except ValueError as error:
        refused = str(error)
    else:
        refused = ""
    if refused:
        # A line, there and back, has no area; scikit-image marks the pixels that it crosses.
        assert "without area" in refused or not polygon_mask(corners, SHAPE).any()
        return
    assert mask.any()
    # Pixels that scikit-image counts by rounding on an edge are as right as ours.
    shifts = [(x, y) for x in (-1e-5, 1e-5) for y in (-1e-5, 1e-5)]
    inner = np.logical_and.reduce([polygon_mask(corners + shift, SHAPE) for shift in shifts])
    assert (mask | ~inner).all()
    rows, cols = np.nonzero(mask)
    low, high = corners.min(axis=0), corners.max(axis=0)
    assert (cols >= math.floor(low[0] - 1e-5)).all()
    assert (cols <= max(0, high[0] + 1e-5)).all()
    assert (rows >= math.floor(low[1] - 1e-5)).all()
    assert (rows <= max(0, high[1] + 1e-5)).all()


@pytest.mark.parametrize("degrees", range(0, 180, 7))
@pytest.mark.parametrize("width", [0.02, 0.3, 0.7])
def test_a_line_thinner_than_a_pixel_comes_in_one_piece_of_its_length(
    degrees: int, width: float
) -> None:
    along = np.array((math.cos(math.radians(degrees)), math.sin(math.radians(degrees))))
    across = np.array((-along[1], along[0])) * width / 2
    for shift in np.linspace(0, 1, 7):
        middle = np.array((20 + shift, 15 + shift / 3))
        corners = [middle + a * 5 * along + b * across for a, b in ((1, 1), (1, -1), (-1, -1))]
        mask = whole(draw_polygon([*corners, middle - 5 * along + across], SHAPE))
        assert count_targets(mask) == 1
        longer = 10 * np.abs(along).max()
        least = longer - 2.5 if width < 0.5 else longer / 2
        assert least <= np.count_nonzero(mask) <= 20


@pytest.mark.parametrize("side", [0.1, 0.4, 0.8])
def test_a_spot_without_a_centre_is_the_pixel_that_holds_it(side: float) -> None:
    corner = np.array((3 - side - 0.05, 5 + 0.05))
    spot = corner + side * np.array([(0, 0), (1, 0), (0.5, 1)])
    mask = whole(draw_polygon(spot, SHAPE))
    assert np.argwhere(mask).tolist() == [[5, 2]]


@given(st.lists(st.tuples(st.floats(1, 39), st.floats(1, 29)), min_size=3, max_size=3))
def test_polygons_are_those_of_coco_but_for_their_border(points: list[tuple[float, float]]) -> None:
    corners = np.array(points)
    try:
        mask = whole(draw_polygon(corners, SHAPE))
    except ValueError:
        return
    runs = coco_mask.frPyObjects([corners.ravel().tolist()], *SHAPE)
    theirs = np.asarray(coco_mask.decode(runs))[:, :, 0] > 0
    for row, col in np.argwhere(mask != theirs):
        centre = np.array((col + 0.5, row + 0.5))
        gaps = []
        for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            way = end - start
            share = np.clip((centre - start) @ way / max(way @ way, 1e-12), 0, 1)
            gaps.append(np.hypot(*(centre - start - share * way)))
        assert min(gaps) <= 1.5


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ([(1, 1), (5, 5)], "without area"),
        ([(1, 1), (5, 5), (3, 3)], "without area"),
        ([(1, 1), (1, 1), (1, 1)], "without area"),
        ([(1, 1), (5, math.nan), (3, 4)], "not finite"),
        ([(50, 1), (55, 2), (53, 4)], "outside"),
        ([(-9, -1), (20, -8), (15, -0.5)], "outside"),
        # Its box meets the image, it does not.
        ([(35, 40), (50, 25), (50, 40)], "outside"),
    ],
)
def test_a_polygon_that_is_none_is_refused(points: list[tuple[float, float]], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        draw_polygon(points, SHAPE)


@pytest.mark.parametrize(
    ("edges", "words"),
    [
        ((3, 3, 3, 5), "without extent"),
        ((3, 3, 2, 5), "without extent"),
        ((40, 3, 45, 5), "outside"),
        ((-5, 3, 0, 5), "outside"),
        ((3, 3, math.inf, 5), "not finite"),
    ],
)
def test_a_box_that_is_none_is_refused(
    edges: tuple[float, float, float, float], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        draw_box(*edges, SHAPE)


def test_what_reaches_outside_is_cut_off_and_told() -> None:
    for piece in (
        draw_box(-5, -5, 3, 0.2, SHAPE),
        draw_polygon([(-5, -5), (3, -5), (3, 0.2), (-5, 0.2)], SHAPE),
    ):
        assert piece.clipped
        assert whole(piece)[0, :3].all()
        assert np.count_nonzero(whole(piece)) == 3
    assert not draw_box(0, 0, 40, 30, SHAPE).clipped


@given(st.floats(-2, 42), st.floats(-2, 32), st.floats(0.01, 6))
def test_a_disc_holds_the_centres_that_are_nearer_than_its_radius(
    x: float, y: float, radius: float
) -> None:
    rows, cols = np.mgrid[0.5:30, 0.5:40]
    wanted = np.hypot(cols - x, rows - y) < radius
    try:
        mask = whole(draw_disc(x, y, radius, SHAPE))
    except ValueError:
        assert not wanted.any()
        return
    assert mask.any()
    if wanted.any():
        np.testing.assert_array_equal(mask, wanted)


def test_a_point_is_a_pixel() -> None:
    assert np.argwhere(whole(draw_point(39.99, 0, SHAPE))).tolist() == [[0, 39]]
    with pytest.raises(ValueError, match="outside"):
        draw_point(41, 0, SHAPE)
