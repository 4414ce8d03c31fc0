"""The card of a data set: a README that says what is in it, and what its owner has to add.

Names of folders and images are anybody's text: they go in by `plain_text` or `code_span` only.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Contents:
    """What is in a set.

    Attributes
    ----------
    images : dict of str to int
        Images by split.
    targets : dict of str to int
        Targets by split; splits whose masks nobody looked into are missing.
    areas : Counter of int
        Targets that were looked at by their pixels.
    shapes : Counter of (int, int)
        Images by size (H, W).
    """

    images: dict[str, int] = field(default_factory=dict)
    targets: dict[str, int] = field(default_factory=dict)
    areas: Counter[int] = field(default_factory=Counter)
    shapes: Counter[tuple[int, int]] = field(default_factory=Counter)


def write_card(
    name: str, layout: str, contents: Contents, origin: Sequence[str], notes: Mapping[str, int]
) -> bytes:
    """Write the card as Markdown, with the header that Hugging Face reads.

    Parameters
    ----------
    name : str
        The set's name, as it is.
    layout : str
        What lies where, one line of Markdown.
    contents : Contents
    origin : sequence of str
        Where it is from and how it was made, a line of Markdown each.
    notes : mapping of str to int
        More numbers for the table of counts, by what they count.
    """
    lines = [
        "---",
        "# The licence of the sources, which no program knows: fill it in.",
        "license: other",
        "task_categories:",
        "- object-detection",
        "- image-segmentation",
        "tags:",
        "- infrared",
        "- small-target-detection",
        "---",
        "",
        f"# {plain_text(name)}",
        "",
        "Infrared images with the masks of their small targets.",
        "",
        f"Layout: {layout}.",
        "",
        "| split | images | targets |",
        "| --- | --- | --- |",
        *(
            f"| {split} | {count:,} | {_number(contents.targets.get(split))} |"
            for split, count in contents.images.items()
        ),
        "",
    ]
    lines += [f"{count:,} {what}." for what, count in notes.items()]
    if contents.areas:
        low, middle, high = (_percentile(contents.areas, percent) for percent in (5, 50, 95))
        lines.append(
            f"Targets have {min(contents.areas)} to {max(contents.areas)} pixels: half of them up "
            f"to {middle}, nine of ten from {low} to {high}."
        )
    common = contents.shapes.most_common()
    if common:
        sizes = ", ".join(f"{h}×{w} ({count:,})" for (h, w), count in common[:3])
        more = f" and {len(common) - 3:,} other sizes" if len(common) > 3 else ""
        lines.append(f"Sizes of images, height×width: {sizes}{more}.")
    lines += ["", "## Origin", "", *(f"- {line}" for line in origin), ""]
    lines += [
        "## Licence of the sources",
        "",
        "To be filled in: who made the images and masks, under which terms, and whom to cite.",
        "",
    ]
    return "\n".join(lines).encode()


def plain_text(text: str) -> str:
    """Text as Markdown that shows it and nothing else.

    Examples
    --------
    >>> print(plain_text("<b>a*b*"))
    &lt;b&gt;a\\*b\\*
    """
    safe = re.sub(r"([\\`*_\[\]#])", r"\\\1", html.escape(one_line(text), quote=False))
    # Signs of dialects of Markdown, which not all of them let escape.
    return re.sub(r"[|~$]", lambda found: f"&#{ord(found[0])};", safe)


def code_span(text: str) -> str:
    """Text as Markdown's code, whatever is in it.

    Examples
    --------
    >>> print(code_span("<b>"), code_span("a`b"))
    `<b>` ``a`b``
    """
    text = one_line(text)
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    pad = " " if not text.strip() or text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def one_line(text: str) -> str:
    """Text with what cannot be printed, line ends included, as escapes."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def _percentile(counts: Counter[int], percent: int) -> int:
    """A percentile of numbers that are counted, linear between two of them, rounded down."""
    values = sorted(counts)
    ends = np.cumsum([counts[value] for value in values])
    place, part = divmod(percent * (int(ends[-1]) - 1), 100)
    below, above = (
        values[int(np.searchsorted(ends, at, side="right"))] for at in (place, place + (part > 0))
    )
    return below + (above - below) * part // 100


def _number(count: int | None) -> str:
    return "not looked into" if count is None else f"{count:,}"
