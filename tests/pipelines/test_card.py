"""The card of a set says what is in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import yaml
from small_sets import Outcome, SmallSet

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
