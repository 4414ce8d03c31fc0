"""The card of a set says what is in it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from small_sets import Outcome, SmallSet

from pipelines.build.card import Contents, code_span, write_card
from synth.dataset import open_dataset
from synth.targets import find_targets


def test_the_card_of_a_build_counts_what_is_there(
    synth: Callable[..., Outcome], small_set: SmallSet, tmp_path: Path
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(
        "negatives: {count: 7, steps: [mixup, turn: {side: 9}]}\nnoise: {sample: {side: 8}}\n"
    )
    out = tmp_path / "out"
    assert synth("build", config, "--data", small_set.root, "--out", out).status == 0
    card = (out / "README.md").read_text()
    dataset = open_dataset(out)
    targets = sum(len(find_targets(dataset.read_mask(id_))) for id_ in dataset.ids("train"))
    assert f"| train | 11 | {targets} |" in card
    # What is held out is copied, and not looked into.
    assert "| test | 2 | not looked into |" in card
    assert "7 of the images were made from others." in card
    assert "48×64 (13)" in card
    assert "To be filled in" in card
    header = yaml.safe_load(card.split("---")[1])
    assert "infrared" in header["tags"]
    # The card is a part of the build like any other file.
    assert "README.md" in json.loads((out / "dataset.json").read_text())["files"]
    (out / "README.md").write_text(card + "Mine.\n")
    assert synth("verify", out).status == 1


@given(st.lists(st.integers(1, 30), min_size=1, max_size=40))
def test_the_sizes_of_targets_are_those_of_a_list_of_them(areas: list[int]) -> None:
    card = write_card("x", "y", Contents(areas=Counter(areas)), [], {}).decode()
    # A hair more: NumPy may come out just below where the exact percentile is a whole number.
    low, middle, high = (int(x + 5e-4) for x in np.percentile(areas, (5, 50, 95)))
    assert f"Targets have {min(areas)} to {max(areas)} pixels: half of them up to {middle}," in card
    assert f"nine of ten from {low} to {high}." in card


def test_the_card_of_a_set_in_shards_says_where_things_lie(
    synth: Callable[..., Outcome], small_set: SmallSet, tmp_path: Path
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(
        "negatives: {count: 7, steps: [mixup, turn: {side: 9}]}\nnoise: {sample: {side: 8}}\n"
    )
    cards = []
    for options in ((), ("--format", "webdataset")):
        out = tmp_path / f"out{len(cards)}"
        assert synth("build", config, "--data", small_set.root, "--out", out, *options).status == 0
        cards.append((out / "README.md").read_text().splitlines())
    differing = [(one, other) for one, other in zip(*cards, strict=True) if one != other]
    assert len(differing) == 2
    assert "shards/<split>-<number>.tar" in differing[0][1]
    assert "`shards/*.jsonl` has every choice" in differing[1][1]


class Shown(HTMLParser):
    """The elements of a page, and the text in each kind of them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.texts: dict[str, str] = {}
        self._open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self._open.remove(tag)

    def handle_data(self, data: str) -> None:
        for tag in self._open:
            self.texts[tag] = self.texts.get(tag, "") + data


HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "a`<b>`c",
    "``",
    "a | b",
    "a\n\n# b\n<script>",
    "![x](javascript:alert(1))",
    "&lt;b&gt;",
    "*a* __b__ \\*c\\*",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_shows_as_text_whatever_is_in_it(name: str) -> None:
    markdown = pytest.importorskip("markdown")
    card = write_card(name, "y", Contents(), [f"From {code_span(name)} and on."], {}).decode()
    shown = Shown(markdown.markdown(card.split("---", 2)[2]))
    assert shown.tags == {"h1", "h2", "p", "ul", "li", "code"}
    line = name.replace("\n", "\\n")
    assert shown.texts["h1"] == line
    assert shown.texts["li"] == f"From {line} and on."


@given(st.text())
def test_no_name_opens_an_element_or_a_line(name: str) -> None:
    card = write_card(name, "y", Contents(), [], {}).decode()
    plain = write_card("x", "y", Contents(), [], {}).decode()
    assert "<" not in card
    assert len(card.splitlines()) == len(plain.splitlines())


def test_a_folder_of_any_name_makes_a_card(
    synth: Callable[..., Outcome], small_set: SmallSet, tmp_path: Path
) -> None:
    source = tmp_path / "<img src=x onerror=alert(1)>"
    small_set.root.rename(source)
    out = tmp_path / "out"
    assert synth("rotate", source, "--out", out).status == 0
    card = (out / "README.md").read_text()
    assert card.replace("`<img src=x onerror=alert(1)>`", "").count("<img") == 0
    assert "# &lt;img src=x onerror=alert(1)&gt;" in card
