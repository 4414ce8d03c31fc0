"""Pages and their plots: text is never markup, and a plot shows the values that it is given."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from html_pages import Page, require_sound
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipelines.report.charts import Axis, Line, density_map, fit_axis, histogram, line_chart
from pipelines.report.page import (
    Html,
    counts_table,
    element,
    facts,
    join,
    note,
    number,
    page,
    settings_tables,
    table,
)
from pipelines.report.pictures import crop_window

# What a parser changes by itself: line ends, and characters that are none in HTML.
TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc"))).map(lambda text: f"<b>&{text}")
FLOATS = st.floats(allow_nan=True, allow_infinity=True, width=32)
ATTACK = "</title></style></pre><script>alert(1)</script><img src=x onerror=alert(1)>\"'><b>"


@given(TEXT, TEXT)
@settings(max_examples=60)
def test_text_comes_back_as_it_was_and_makes_no_element(inside: str, attribute: str) -> None:
    parsed = Page(element("p", inside, title=attribute))
    assert parsed.elements == [("p", {"title": attribute})]
    assert "".join(text for _, text in parsed.texts) == inside


def test_html_is_not_escaped_twice() -> None:
    assert join([element("b", "<"), "<"]) == "<b>&lt;</b>&lt;"
    assert isinstance(join(["a"]), Html)


def test_no_part_of_a_page_lets_markup_through() -> None:
    line = Line(ATTACK, [0.0, 1.0], [0.0, 1.0])
    axis = Axis(ATTACK, 0.0, 1.0)
    parts = [
        facts({ATTACK: ATTACK}),
        note(ATTACK),
        table([ATTACK, ATTACK], [(ATTACK, ATTACK)], ATTACK),
        counts_table(ATTACK, {ATTACK: 3}, ATTACK),
        settings_tables({ATTACK: ATTACK, "group": {ATTACK: [ATTACK]}}, ATTACK),
        line_chart(ATTACK, [line, line], axis, axis, ATTACK),
        histogram(ATTACK, [1, 2, 3], {ATTACK: [1, 2], "b": [2, 1]}, Axis(ATTACK, 1, 3), ATTACK),
        density_map(ATTACK, np.ones((2, 2), np.int64), ATTACK),
    ]
    made = Page(page(ATTACK, [], {ATTACK: join(parts)}, ATTACK))
    require_sound(made)
    assert not made.all("b")
    assert ATTACK in made.inside("title")
    assert ATTACK in made.inside("h1")


def test_a_page_forbids_what_it_does_not_need() -> None:
    made = Page(page("a", [], {}, "b"))
    policies = [meta["content"] for meta in made.all("meta") if "http-equiv" in meta]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_empty_sections_are_left_out() -> None:
    made = Page(page("a", [], {"one": element("p", "x"), "two": Html()}, "b"))
    assert made.inside("h2") == ["one"]
    assert made.inside("a") == ["one"]


def test_names_that_are_no_text_can_be_written() -> None:
    assert b"\\udcff" in page("a\udcff", [], {}, "b")


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (math.nan, "–"), (0, "0.00"), (1234.5, "1,234.50"), (0.0001234, "0.00012")],
)
def test_numbers_for_people(value: float | None, shown: str) -> None:
    assert number(value) == shown


@given(st.lists(FLOATS, max_size=8), st.booleans())
@settings(max_examples=150)
def test_an_axis_has_an_extent_and_its_ticks_lie_on_it(values: list[float], log: bool) -> None:
    axis = fit_axis("x", values, log=log)
    assert axis.low < axis.high
    assert axis.low > 0 or not log
    ticks = axis.ticks()
    assert 1 <= len(ticks) <= 8
    slack = 1e-6 * (axis.high - axis.low)
    assert all(axis.low - slack <= tick <= axis.high + slack for tick in ticks)
    known = [v for v in values if math.isfinite(v) and (v > 0 or not log)]
    assert all(axis.low <= value <= axis.high for value in known)
    places = axis.place(sorted(known))
    assert ((places >= 0) & (places <= 1)).all()
    assert (np.diff(places) >= 0).all()


@given(st.floats(-100, 100), st.floats(0.01, 100))
@settings(max_examples=60)
def test_ticks_are_equally_far_apart(low: float, extent: float) -> None:
    ticks = Axis("x", low, low + extent).ticks()
    assume(len(ticks) > 2)
    gaps = np.diff(ticks)
    np.testing.assert_allclose(gaps, gaps[0], rtol=1e-6)


def points(path: str) -> list[tuple[str, float, float]]:
    found = re.findall(r"([ML])(-?[\d.]+) (-?[\d.]+)", path)
    return [(pen, float(x), float(y)) for pen, x, y in found]


def test_a_line_goes_through_its_points_and_has_a_gap_where_one_is_missing() -> None:
    axis = Axis("x", 0.0, 4.0)
    line = Line("a", [0, 1, 2, 3, 4], [0.0, 4.0, math.nan, 2.0, 2.0])
    drawn = ElementTree.fromstring(line_chart("t", [line], axis, axis, "told"))
    (path,) = [p.get("d", "") for p in drawn.iter("path") if "stroke" in p.get("class", "")]
    found = points(path)
    assert [pen for pen, _, _ in found] == ["M", "L", "M", "L"]
    across, up = [x for _, x, _ in found], [y for _, _, y in found]
    assert across[1] - across[0] == pytest.approx((across[3] - across[0]) / 4, abs=0.2)
    assert up[1] < up[2] == up[3] < up[0]
    assert "nan" not in path


@given(st.lists(st.tuples(FLOATS, FLOATS), min_size=1, max_size=6))
@settings(max_examples=60)
def test_any_values_make_a_plot_that_is_whole(values: list[tuple[float, float]]) -> None:
    x, y = ([pair[at] for pair in values] for at in (0, 1))
    drawn = line_chart("t", [Line("a", x, y)], fit_axis("x", x), fit_axis("y", y), "told")
    ElementTree.fromstring(drawn)
    numbers = re.findall(r'(?:d|cx|cy|x|y)="([^"]*)"', drawn)
    assert not any("nan" in one or "inf" in one for one in numbers)


def test_a_histogram_is_as_high_as_its_shares() -> None:
    shares = {"a": [10.0, 40.0, 0.0]}
    drawn = ElementTree.fromstring(histogram("t", [1, 2, 3, 4], shares, Axis("x", 1, 4), "told"))
    (path,) = [p.get("d", "") for p in drawn.iter("path") if "stroke" in p.get("class", "")]
    base = float(re.findall(r"M[\d.]+ ([\d.]+)", path)[0])
    heights = [base - float(v) for v in re.findall(r"V([\d.]+)", path)]
    assert heights[1] / heights[0] == pytest.approx(4, rel=0.01)
    assert heights[2] == heights[3] == 0


def test_a_map_shades_what_is_dense() -> None:
    counts = np.array([[0, 1], [2, 4]])
    drawn = ElementTree.fromstring(density_map("t", counts, "told"))
    cells = [r for r in drawn.iter("rect") if "cell" in r.get("class", "")]
    shades = [float(cell.get("fill-opacity", "")) for cell in cells]
    assert len(cells) == 3
    assert shades == sorted(shades)
    assert shades[-1] == 1


@given(
    st.tuples(st.integers(1, 300), st.integers(1, 300)),
    st.tuples(st.floats(0, 1), st.floats(0, 1)),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
@settings(max_examples=80)
def test_a_crop_lies_in_the_frame_around_its_target(
    shape: tuple[int, int], at: tuple[float, float], size: tuple[int, int]
) -> None:
    sides = [min(side, length) for side, length in zip(size, shape, strict=True)]
    firsts = [
        int(share * (length - side)) for share, length, side in zip(at, shape, sides, strict=True)
    ]
    box = (firsts[0], firsts[1], firsts[0] + sides[0], firsts[1] + sides[1])
    top, left, bottom, right = crop_window(box, shape)
    assert 0 <= top <= box[0] < box[2] <= bottom <= shape[0]
    assert 0 <= left <= box[1] < box[3] <= right <= shape[1]
    assert bottom - top == min(shape[0], max(32, 3 * max(sides)))
