"""A manifest of a stranger: whatever is in a line, readers read it or say so in one line."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from small_sets import Outcome, SmallSet

from detect.lineage import read_origins
from pipelines.report.set_page import _remake_section
from pipelines.report.survey import count_changes, describe_change, read_lineage
from pipelines.seams import measure_seams
from synth.dataset import open_dataset
from synth.disk.verify import verify
from synth.errors import SynthError

BUILD = """
negatives:
  count: 24
  steps:
    - mixup
    - choose:
        - {share: 0.4, transplant: {hosts: training}}
        - {share: 0.3, move: {}}
        - {share: 0.3, turn: {side: 8}}
    - distract: {count: [1, 1]}
"""
ODD = [None, True, "", "x", "\ud800", "a\nb", -1, 1.5, float("inf"), 10**400, [], [[]], {"": {}}]


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a plain value but itself."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, one in inner:
        yield (*at, key)
        if isinstance(one, dict | list):
            yield from places(one, (*at, key))


def changed(line: dict[str, Any], at: tuple[Any, ...], value: object) -> dict[str, Any]:
    """A line with another value at a place."""
    found = inner = copy.deepcopy(line)
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = value
    return found


def test_no_line_makes_a_reader_fail(
    small_set: SmallSet, synth: Callable[..., Outcome], tmp_path: Path
) -> None:
    config, out = tmp_path / "c.yaml", tmp_path / "out"
    config.write_text(BUILD)
    assert synth("build", config, "--data", small_set.root, "--out", out).status == 0
    texts = (out / "manifest.jsonl").read_text().splitlines()
    lines = [json.loads(text) for text in texts]
    assert {"turn", "move", "transplant", "distract"} <= {
        name for line in lines for step in line.get("steps", []) for name in step
    }
    cases = [
        (number, at, odd) for number, line in enumerate(lines) for at in places(line) for odd in ODD
    ]
    for number, at, odd in random.Random(0).sample(cases, 80):
        strange = json.dumps(changed(lines[number], at, odd))
        (out / "manifest.jsonl").write_text(
            "\n".join([*texts[:number], strange, *texts[number + 1 :]])
        )
        lineage, dataset = read_lineage(out), open_dataset(out)
        assert json.dumps(count_changes(lineage.records.values()), ensure_ascii=False).encode()
        assert all(map(describe_change, lineage.records.values()))
        assert _remake_section(dataset, lineage, {"provenance": lineage.description})
        for read in (read_origins, lambda _: list(verify(out, 1)), lambda _: measure_seams(out)):
            with suppress(SynthError):
                read(dataset)
