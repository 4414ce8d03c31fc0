"""The card of a set says what is in it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import yaml
from hypothesis import given
from hypothesis import strategies as st
from small_sets import Outcome, SmallSet

from pipelines.card import Contents, write_card
from synth.dataset import open_dataset
from synth.targets import find_targets


def test_the_card_of_a_build_counts_what_is_there(
    synth: Callable[..., Outcome], small_set: SmallSet, tmp_path: Path
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("negatives: {side: 9, count: 7}\nnoise: {patch: 8}\n")
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
    config.write_text("negatives: {side: 9, count: 7}\nnoise: {patch: 8}\n")
    cards = []
    for options in ((), ("--format", "webdataset")):
        out = tmp_path / f"out{len(cards)}"
        assert synth("build", config, "--data", small_set.root, "--out", out, *options).status == 0
        cards.append((out / "README.md").read_text().splitlines())
    differing = [(one, other) for one, other in zip(*cards, strict=True) if one != other]
    assert len(differing) == 2
    assert "shards/<split>-<number>.tar" in differing[0][1]
    assert "`shards/*.jsonl` has every choice" in differing[1][1]
