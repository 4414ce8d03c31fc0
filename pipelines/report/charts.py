"""Plots as inline SVG: lines, histograms and maps, in the colours of the page around them.

They hold no colour of their own. Classes of the page's style sheet give it, so that they can be
read on light paper and dark, and lines differ by their dashes too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipelines.report.page import Html, element

_WIDTH, _HEIGHT = 440, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 22, 34, 42
_LINE = 15
_LETTER = 6.6


@dataclass(frozen=True)
class Axis:
    """An axis of a plot.

    Attributes
    ----------
    label : str
        What it shows, with its unit.
    low, high : float
        Where it begins and ends; ``low < high``, both above 0 on a logarithmic one.
    log : bool
    """

    label: str
    low: float
    high: float
    log: bool = False

    def place(self, values: ArrayLike) -> NDArray[np.float64]:
        """Where values lie, 0 at the low end and 1 at the high one; what is beyond is moved in."""
        given = np.clip(np.asarray(values, np.float64), self.low, self.high)
        if self.log:
            return np.log(given / self.low) / math.log(self.high / self.low)
        return (given - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Round values between the two ends, some three to seven of them."""
        if self.log:
            return _log_ticks(self.low, self.high)
        step = _nice_step((self.high - self.low) / 5)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]

    def text(self, value: float) -> str:
        """What is written at a tick."""
        return _power(value) if self.log and self.low < 1e-3 else _tick(value)


def fit_axis(label: str, values: ArrayLike, *, log: bool = False, low: float | None = None) -> Axis:
    """Make an axis that all finite values fit on, and that is never without extent.

    Parameters
    ----------
    label : str
    values : array_like
        On a logarithmic axis what is not above 0 does not count.
    log : bool
    low : float, optional
        The axis begins here at the latest, as at 0.
    """
    given = np.asarray(values, np.float64).ravel()
    given = given[np.isfinite(given) & ((given > 0) | (not log))]
    if log:
        least, most = (float(given.min()), float(given.max())) if given.size else (1.0, 10.0)
        least, most = least / 1.1, most * 1.1
        return Axis(label, least, max(most, least * 4), True)
    least, most = (float(given.min()), float(given.max())) if given.size else (0.0, 1.0)
    least = least if low is None else min(low, least)
    if most <= least:
        pad = max(abs(least), 1.0) * 0.5
        return Axis(label, least if low is not None else least - pad, most + pad)
    pad = 0.04 * (most - least)
    return Axis(label, least if low is not None else least - pad, most + pad)


@dataclass(frozen=True)
class Line:
    """A line of a plot; points that are not finite are gaps in it."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


def line_chart(
    title: str,
    lines: Sequence[Line],
    x: Axis,
    y: Axis,
    told: str,
    marks: Sequence[tuple[float, float]] = (),
) -> Html:
    """Plot lines.

    Parameters
    ----------
    title : str
    lines : sequence of Line
        At most four.
    x, y : Axis
    told : str
        What the plot shows, in words, for those who do not see it.
    marks : sequence of (x, y)
        Points to mark with a ring.

    Returns
    -------
    Html
        An ``svg`` element.
    """
    legend = [line.name for line in lines] if len(lines) > 1 else []
    frame = _Frame(legend)
    parts = []
    for number, line in enumerate(lines):
        across, up = frame.across(x.place(line.x)), frame.up(y.place(line.y))
        known = np.isfinite(np.asarray(line.y, np.float64)) & np.isfinite(
            np.asarray(line.x, np.float64)
        )
        path = _path(across, up, known)
        parts.append(element("path", d=path, class_=f"stroke s{number}"))
        if known.sum() < 40:
            parts += [
                element("circle", cx=_short(px), cy=_short(py), r=2.2, class_=f"solid s{number}")
                for px, py in zip(across[known], up[known], strict=True)
            ]
    for mark_x, mark_y in marks:
        px, py = frame.across(x.place([mark_x]))[0], frame.up(y.place([mark_y]))[0]
        parts.append(
            element("circle", cx=_short(px), cy=_short(py), r=6, class_="axis", stroke_width=2)
        )
    return frame.draw(title, x, y, parts, told)


def histogram(
    title: str, edges: Sequence[float], shares: Mapping[str, Sequence[float]], x: Axis, told: str
) -> Html:
    """Plot histograms over each other.

    Parameters
    ----------
    title : str
    edges : sequence of float
        B + 1 of them, rising.
    shares : mapping of str to sequence of float
        The B heights of each, in per cent; at most four.
    x : Axis
    told : str
        See `line_chart`.
    """
    top = max((max(values, default=0.0) for values in shares.values()), default=0.0)
    y = Axis("share of targets / %", 0.0, max(1.08 * top, 1.0))
    frame = _Frame(list(shares) if len(shares) > 1 else [])
    across = frame.across(x.place(edges))
    base = frame.up(np.zeros(1))[0]
    parts = []
    for number, values in enumerate(shares.values()):
        up = frame.up(y.place(values))
        steps = "".join(
            f"V{_short(height)}H{_short(right)}"
            for height, right in zip(up, across[1:], strict=True)
        )
        outline = f"M{_short(across[0])} {_short(base)}{steps}V{_short(base)}"
        parts += [
            element("path", d=f"{outline}Z", class_=f"fill s{number}"),
            element("path", d=outline, class_=f"stroke s{number}"),
        ]
    return frame.draw(title, x, y, parts, told)


def density_map(
    title: str, counts: NDArray[np.int64], told: str, series: int = 0, aspect: float = 1.0
) -> Html:
    """Plot how often something lies where in a frame.

    Parameters
    ----------
    title : str
    counts : (R, C) ndarray of int
        The denser the fuller is the cell's colour.
    told : str
        See `line_chart`.
    series : int
        Which colour.
    aspect : float
        Height of the frame over its width.
    """
    aspect = min(max(aspect, 0.25), 2.0)
    width = min(300.0, 300.0 / aspect)
    height = width * aspect
    rows, cols = counts.shape
    most = max(int(counts.max()), 1)
    parts = [element("text", title, x=0, y=16, class_="title")]
    for row, col in np.argwhere(counts > 0).tolist():
        count = int(counts[row, col])
        parts.append(
            element(
                "rect",
                element("title", f"{count:,} targets"),
                x=_short(col * width / cols),
                y=_short(26 + row * height / rows),
                width=_short(width / cols),
                height=_short(height / rows),
                class_=f"cell s{series}",
                fill_opacity=f"{0.08 + 0.92 * count / most:.3f}",
            )
        )
    parts.append(
        element("rect", x=0.5, y=26, width=_short(width - 1), height=_short(height), class_="axis")
    )
    view = f"0 0 {_short(width)} {_short(height + 28)}"
    return element(
        "svg", *parts, viewBox=view, role="img", aria_label=told, style="max-width:20rem"
    )


class _Frame:
    """The frame of a plot, and the legend above it."""

    def __init__(self, legend: Sequence[str]) -> None:
        self._legend = legend
        self._rows = _wrap_legend(legend)
        self._top = _TOP + _LINE * len(self._rows)
        self._height = _HEIGHT + _LINE * len(self._rows)

    def across(self, places: NDArray[np.float64]) -> NDArray[np.float64]:
        return _LEFT + places * (_WIDTH - _LEFT - _RIGHT)

    def up(self, places: NDArray[np.float64]) -> NDArray[np.float64]:
        low = self._height - _BOTTOM
        return low - places * (low - self._top)

    def draw(self, title: str, x: Axis, y: Axis, parts: Sequence[Html], told: str) -> Html:
        low, right = self._height - _BOTTOM, _WIDTH - _RIGHT
        around: list[Html] = [element("text", title, x=_LEFT, y=16, class_="title")]
        for line, row in enumerate(self._rows, 1):
            at = float(_LEFT)
            height = 16 + _LINE * line
            for number in row:
                name = _shorten(self._legend[number])
                sample = f"M{_short(at)} {height - 4}h18"
                around.append(element("path", d=sample, class_=f"stroke s{number}"))
                around.append(element("text", name, x=_short(at + 23), y=height))
                at += 36 + _LETTER * len(name)
        for value in y.ticks():
            up = _short(self.up(y.place([value]))[0])
            around.append(element("path", d=f"M{_LEFT} {up}H{right}", class_="grid"))
            label = element("text", y.text(value), x=_LEFT - 6, y=up, dy=4, text_anchor="end")
            around.append(label)
        for value in x.ticks():
            across = _short(self.across(x.place([value]))[0])
            around.append(element("path", d=f"M{across} {low}v4", class_="axis"))
            around.append(
                element("text", x.text(value), x=across, y=low + 17, text_anchor="middle")
            )
        middle = (_LEFT + right) / 2
        around.append(
            element("text", x.label, x=_short(middle), y=self._height - 6, text_anchor="middle")
        )
        half = _short((self._top + low) / 2)
        around.append(
            element(
                "text",
                y.label,
                transform=f"translate(11 {half}) rotate(-90)",
                text_anchor="middle",
            )
        )
        axis = element("path", d=f"M{_LEFT} {self._top}V{low}H{right}", class_="axis")
        return element(
            "svg",
            *around,
            *parts,
            axis,
            viewBox=f"0 0 {_WIDTH} {self._height}",
            role="img",
            aria_label=f"{title}: {told}",
        )


def _wrap_legend(names: Sequence[str]) -> list[list[int]]:
    """Numbers of the names that stand in each row of a legend."""
    rows: list[list[int]] = []
    room = 0.0
    for number, name in enumerate(names):
        need = 36 + _LETTER * len(_shorten(name))
        if not rows or need > room:
            rows.append([])
            room = float(_WIDTH - _LEFT)
        rows[-1].append(number)
        room -= need
    return rows


def _shorten(name: str, longest: int = 46) -> str:
    return name if len(name) <= longest else f"{name[: longest - 1]}…"


def _path(across: NDArray[np.float64], up: NDArray[np.float64], known: NDArray[np.bool_]) -> str:
    parts = []
    pen = "M"
    for px, py, there in zip(across, up, known, strict=True):
        parts.append(f"{pen}{_short(px)} {_short(py)}" if there else "")
        pen = "L" if there else "M"
    return "".join(parts)


def _short(value: float) -> str:
    return f"{float(value):.1f}".removesuffix(".0")


def _tick(value: float) -> str:
    if value and not 1e-4 <= abs(value) < 1e5:
        return _power(value)
    return f"{value:,.10g}" if abs(value) >= 1 else f"{value:.4g}"


def _power(value: float) -> str:
    digits, exponent = f"{value:.0e}".split("e")
    power = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{power}" if digits == "1" else f"{digits}·10{power}"


def _nice_step(step: float) -> float:
    power: float = 10.0 ** math.floor(math.log10(step))
    return next(power * nice for nice in (1, 2, 5, 10) if step <= power * nice * (1 + 1e-9))


def _log_ticks(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for nice, skip in (((1, 2, 5), 1), ((1,), 1), ((1,), 2), ((1,), 4), ((1,), 8), ((1,), 32)):
        found = [
            digit * 10.0**power
            for power in range(first, last + 1)
            if power % skip == 0
            for digit in nice
            if low <= digit * 10.0**power <= high
        ]
        if len(found) <= 7:
            break
    return found
