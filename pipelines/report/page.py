"""A page of a report: HTML that needs nothing but itself.

Text becomes HTML in one place, `element`, which escapes every string that is not `Html` already;
so a name that holds markup is shown and never acts. The page's own policy forbids scripts and
anything from a network besides.
"""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Number = float | int | None

_CSS = """
:root { color-scheme: light dark; --paper: #fcfcfa; --ink: #1c1d1f; --quiet: #5b5f66;
  --line: #d6d7d3; --card: #f2f2ee; --a: #0072b2; --b: #b84a00; --c: #00795c; --d: #8a4a85; }
@media (prefers-color-scheme: dark) { :root { --paper: #16181b; --ink: #e6e6e2; --quiet: #a2a7ae;
  --line: #3b3f45; --card: #1f2226; --a: #6cb8ee; --b: #f0a04b; --c: #4fcfa8; --d: #d59ad0; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
header, main, footer { max-width: 74rem; margin: 0 auto; padding: 0 1.5rem; }
header { padding-top: 2rem; }
footer { padding-top: 1rem; padding-bottom: 2rem; color: var(--quiet); }
h1 { margin: 0; font-size: 1.9rem; line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin: 2.6rem 0 .6rem; padding-top: .5rem; border-top: 1px solid var(--line);
  font-size: 1.3rem; }
h3 { margin: 1.4rem 0 .4rem; font-size: 1.02rem; overflow-wrap: anywhere; }
p { max-width: 62rem; margin: .5rem 0; }
.quiet { color: var(--quiet); }
.note { max-width: 62rem; padding: .5rem .8rem; border-left: 3px solid var(--b);
  background: var(--card); overflow-wrap: anywhere; }
nav ul { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; margin: .8rem 0 0; padding: 0;
  list-style: none; }
a { color: var(--a); }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); gap: .7rem;
  margin: 1.2rem 0 0; }
.facts div { display: flex; flex-direction: column-reverse; padding: .5rem .8rem;
  background: var(--card); border-radius: 4px; }
.facts dt { color: var(--quiet); font-size: .85rem; }
.facts dd { margin: 0; font-size: 1.35rem; font-variant-numeric: tabular-nums;
  overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: .5rem 0 1rem; font-variant-numeric: tabular-nums; }
caption { padding: .2rem 0; color: var(--quiet); text-align: left; }
th, td { padding: .22rem .9rem .22rem 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; }
thead th { color: var(--quiet); font-weight: 600; white-space: nowrap; }
tbody th { font-weight: 400; }
.number { text-align: right; white-space: nowrap; } .bars { white-space: nowrap; }
td { overflow-wrap: anywhere; }
.share { display: inline-block; min-width: 3.1em; padding-right: .7em; text-align: right; }
.bar { display: inline-block; height: .7em; min-width: 1px; background: var(--a); }
figure { margin: 0; }
figcaption { color: var(--quiet); font-size: .85rem; overflow-wrap: anywhere; }
.plots, .tables { display: grid; gap: 1.2rem; margin: .8rem 0;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 25rem), 1fr)); }
.plots figure { max-width: 36rem; }
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(10.5rem, 1fr));
  gap: .8rem .7rem; margin: .8rem 0; }
.cases { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 27rem), 1fr));
  gap: 1rem; margin: .8rem 0; }
img { display: block; max-width: 100%; height: auto; }
.sheet img { width: 100%; object-fit: contain; }
svg { display: block; width: 100%; height: auto; font: 12px system-ui, Arial, sans-serif; }
svg text { fill: var(--quiet); }
svg .title { fill: var(--ink); font-weight: 600; font-size: 13px; }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg .axis { stroke: var(--quiet); stroke-width: 1; fill: none; }
svg .s0 { --s: var(--a); } svg .s1 { --s: var(--b); } svg .s2 { --s: var(--c); }
svg .s3 { --s: var(--d); }
svg .stroke { stroke: var(--s); fill: none; stroke-width: 1.8; stroke-linejoin: round; }
svg .s1.stroke { stroke-dasharray: 7 3; } svg .s2.stroke { stroke-dasharray: 2 3; }
svg .fill { fill: var(--s); fill-opacity: .22; }
svg .solid { fill: var(--s); }
svg .cell { fill: var(--s); }
pre { overflow-x: auto; padding: .7rem .9rem; background: var(--card); border-radius: 4px;
  font: 13px/1.45 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
code { font: .92em ui-monospace, "SF Mono", Menlo, Consolas, monospace; overflow-wrap: anywhere; }
@media print {
  :root { color-scheme: light; --paper: #fff; --ink: #000; --quiet: #444; --line: #bbb;
    --card: #f4f4f4; --a: #0072b2; --b: #b84a00; --c: #00795c; --d: #8a4a85; }
  body { font-size: 10pt; } header, main, footer { max-width: none; padding: 0; }
  nav { display: none; }
  .plots, .cases { grid-template-columns: 1fr 1fr; }
  .tables { display: block; } .wide { overflow: visible; } table { font-size: 9pt; }
  h2, h3, caption, thead { break-after: avoid; } figure, tr { break-inside: avoid; }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; }
  .bar, svg, img, .facts div { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""


class Html(str):
    """Text that is HTML already, and is not escaped again."""

    __slots__ = ()


Child = str | Html


def element(tag: str, *children: Child, **attributes: str | int | float | None) -> Html:
    """Make an HTML element; the one place where text turns into HTML.

    Parameters
    ----------
    tag : str
        Its name, of ours.
    *children : str or Html
        Plain text is escaped.
    **attributes : str or number or None
        Values are escaped, None leaves one out. ``class_`` is ``class``, other underscores are
        hyphens.

    Returns
    -------
    Html

    Examples
    --------
    >>> element("p", "a < b", title='"')
    '<p title="&quot;">a &lt; b</p>'
    """
    given = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    inside = join(children)
    if tag in ("img", "meta"):
        return Html(f"<{tag}{given}>")
    return Html(f"<{tag}{given}>{inside}</{tag}>")


def join(parts: Iterable[Child]) -> Html:
    """Put pieces one after the other, what is not HTML yet escaped."""
    return Html(
        "".join(
            part if isinstance(part, Html) else html.escape(part, quote=False) for part in parts
        )
    )


def page(title: str, lead: Sequence[Child], sections: Mapping[str, Child], foot: str) -> bytes:
    """Make a whole page.

    Parameters
    ----------
    title : str
    lead : sequence of str or Html
        What stands between the title and the links to the sections.
    sections : mapping of str to Html
        Content by heading; empty ones are left out.
    foot : str
        The last line.

    Returns
    -------
    bytes
        UTF-8; what cannot be encoded, as bytes in a file's name that are no text, is shown as
        its code.
    """
    shown = {name: content for name, content in sections.items() if content}
    anchors = {name: f"s{number}" for number, name in enumerate(shown, 1)}
    links = [element("li", element("a", name, href=f"#{anchors[name]}")) for name in shown]
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        Html(f"<style>{_CSS}</style>"),
    )
    navigation = element("nav", element("ul", *links), aria_label="Sections") if shown else ""
    body = element(
        "body",
        element("header", element("h1", title), *lead, navigation),
        element(
            "main",
            *(
                element(
                    "section",
                    element("h2", name, id=anchors[name]),
                    content,
                    aria_labelledby=anchors[name],
                )
                for name, content in shown.items()
            ),
        ),
        element("footer", element("p", foot)),
    )
    whole = f'<!DOCTYPE html>\n<html lang="en">{head}{body}</html>\n'
    return whole.encode("utf-8", "backslashreplace")


def paragraph(*parts: Child) -> Html:
    """A paragraph."""
    return element("p", *parts)


def quiet(*parts: Child) -> Html:
    """A paragraph that explains."""
    return element("p", *parts, class_="quiet")


def note(text: str) -> Html:
    """What a reader must not miss."""
    return element("p", text, class_="note", role="note")


def facts(values: Mapping[str, str]) -> Html:
    """The few numbers that come first, large."""
    pairs = (
        element("div", element("dt", name), element("dd", value)) for name, value in values.items()
    )
    return element("dl", *pairs, class_="facts")


def table(
    heads: Sequence[str],
    rows: Iterable[Sequence[Child]],
    caption: str,
    *,
    text: int = 1,
    bars: Sequence[int] = (),
) -> Html:
    """A table whose first cell in a row names the row.

    Parameters
    ----------
    heads : sequence of str
    rows : iterable of sequence of str or Html
    caption : str
    text : int
        So many columns, from the first, are text; the others are numbers.
    bars : sequence of int
        Columns of `share_cell`.
    """
    kinds = ["bars" if at in bars else None if at < text else "number" for at in range(len(heads))]
    head = (
        element("th", name, scope="col", class_=kind)
        for name, kind in zip(heads, kinds, strict=True)
    )
    body = []
    for first, *rest in rows:
        cells = (
            element("td", cell, class_=kind) for cell, kind in zip(rest, kinds[1:], strict=True)
        )
        body.append(element("tr", element("th", first, scope="row"), *cells))
    whole = element(
        "table",
        element("caption", caption),
        element("thead", element("tr", *head)),
        element("tbody", *body),
    )
    return element("div", whole, class_="wide")


def counts_table(head: str, counts: Mapping[str, int], caption: str) -> Html:
    """A table of how often each thing occurs, with bars."""
    most = max(counts.values(), default=0)
    total = sum(counts.values())
    rows = [
        (name, f"{count:,}", share_cell(count / total, count / most))
        for name, count in counts.items()
        if most
    ]
    return table([head, "count", "share / %"], rows, caption, bars=[2]) if rows else Html()


def share_cell(share: float | None, length: float | None = None) -> Html:
    """A share in per cent with its bar, for a table's cell; a dash where there is none."""
    if share is None:
        return element("span", "–", class_="share")
    shown = element("span", f"{100 * share:.1f}", class_="share")
    return join([shown, bar(share if length is None else length)])


def bar(share: float, width: float = 5.0) -> Html:
    """A bar for a table's cell; the number that it shows stands beside it."""
    length = width * min(max(share, 0.0), 1.0)
    return element("span", class_="bar", style=f"width:{length:.2f}rem", aria_hidden="true")


def values_table(values: Mapping[str, str], caption: str) -> Html:
    """A table of names and what they are."""
    return table(["name", "value"], values.items(), caption, text=2) if values else Html()


def settings_tables(tree: Mapping[str, Any], caption: str) -> Html:
    """Tables of settings beside one another: the plain ones, then one for each group."""
    plain = {name: value for name, value in tree.items() if not isinstance(value, Mapping)}
    tables = [values_table(dict(flatten(plain)), caption)]
    tables += [
        values_table(dict(flatten(value)), name)
        for name, value in tree.items()
        if isinstance(value, Mapping)
    ]
    return group("tables", tables)


def image(data: bytes, kind: str, alt: str, size: tuple[int, int]) -> Html:
    """A picture, its bytes inside the page.

    Parameters
    ----------
    data : bytes
        The file.
    kind : str
        ``png`` or ``jpeg``.
    alt : str
        What it shows, for those who do not see it.
    size : tuple of int
        (H, W) in pixels.
    """
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
    return element("img", alt=alt, width=size[1], height=size[0], src=source)


def figure(content: Html, *caption: Child) -> Html:
    """A picture or a plot with what is said of it."""
    return element("figure", content, element("figcaption", *caption))


def group(kind: str, items: Iterable[Html]) -> Html:
    """Figures beside one another; `kind` is ``plots``, ``tables``, ``sheet`` or ``cases``."""
    inside = join(items)
    return element("div", inside, class_=kind) if inside else Html()


def number(value: Number, digits: int = 2) -> str:
    """A number for people; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    if value and abs(value) < 0.5 * 10**-digits:
        return f"{value:.2g}"
    return f"{value:,.{digits}f}"


def flatten(tree: Mapping[str, Any], above: str = "") -> list[tuple[str, str]]:
    """Names with dots, and values as text, of a tree of mappings."""
    flat: list[tuple[str, str]] = []
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat += flatten(value, f"{above}{key}.")
        elif isinstance(value, list):
            flat.append((f"{above}{key}", ", ".join(map(str, value))))
        else:
            flat.append((f"{above}{key}", "–" if value is None else str(value)))
    return flat
