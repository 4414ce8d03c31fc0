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

_HEADER = """---
# The licence of the sources, which no program knows: fill it in.
license: other
task_categories:
- object-detection
- image-segmentation
tags:
- infrared
- small-target-detection
---
"""
_TITLE = "Infrared images with the masks of their small targets."
_LICENCE = """## Licence of the sources

To be filled in: who made the images and masks, under which terms, and whom to cite.
"""


@dataclass
class Contents:
    """What is in a set: images and targets by split, targets by their pixels, images by (H, W).

    Splits whose masks were not looked into are missing in `targets`.
    """

    images: dict[str, int] = field(default_factory=dict)
    targets: dict[str, int] = field(default_factory=dict)
    areas: Counter[int] = field(default_factory=Counter)
    shapes: Counter[tuple[int, int]] = field(default_factory=Counter)


def write_card(
    name: str, layout: str, contents: Contents, origin: Sequence[str], notes: Mapping[str, int]
) -> bytes:
    """Write the card as Markdown, with the header that Hugging Face reads.

    `name` is any text; `layout` says what is where, and `origin` where the set is from and how it
    was made, in lines of Markdown; `notes` are further counts, by what they count.
    """
    lines = [_HEADER, f"# {plain_text(name)}", "", _TITLE, "", f"Layout: {layout}.", ""]
    lines += ["| split | images | targets |", "| --- | --- | --- |"]
    for split, count in contents.images.items():
        targets = contents.targets.get(split)
        told = "not looked into" if targets is None else f"{targets:,}"
        lines.append(f"| {split} | {count:,} | {told} |")
    lines += ["", *(f"{count:,} {what}." for what, count in notes.items())]
    if contents.areas:
        areas = np.repeat(list(contents.areas), list(contents.areas.values()))
        # NumPy may come out just below an exact percentile that is a whole number.
        low, middle, high = (np.percentile(areas, (5, 50, 95)) + 1e-3).astype(int)
        lines.append(
            f"Targets have {min(contents.areas)} to {max(contents.areas)} pixels: half of them up "
            f"to {middle}, nine of ten from {low} to {high}."
        )
    common = contents.shapes.most_common()
    if common:
        sizes = ", ".join(f"{h}×{w} ({count:,})" for (h, w), count in common[:3])
        more = f" and {len(common) - 3:,} other sizes" if len(common) > 3 else ""
        lines.append(f"Sizes of images, height×width: {sizes}{more}.")
    lines += ["", "## Origin", "", *(f"- {line}" for line in origin), "", _LICENCE]
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
