import json
from collections.abc import Callable
from pathlib import Path

import pytest
from small_sets import Outcome, SmallSet

from detect.lineage import Origin, Turn, read_origins
from synth.dataset import open_dataset
from synth.errors import StoreError


def test_a_built_set_says_what_was_made_from_what(
    small_set: SmallSet, synth: Callable[..., Outcome], tmp_path: Path
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("negatives: {steps: [mixup, turn: {side: 8, mirror: true, turns: [0, 3]}]}\n")
    out = tmp_path / "out"
    assert synth("build", config, "--data", small_set.root, "--out", out).status == 0
    dataset = open_dataset(out)
    origins = read_origins(dataset)
    assert set(origins) == set(dataset.ids("all"))
    for id_ in (*small_set.train, *small_set.test):
        assert origins[id_] == Origin(id_, made=False, turn=None)
    made = [origins[id_] for id_ in dataset.ids("train") if id_ not in small_set.train]
    assert {origin.source for origin in made} == set(small_set.train)
    turns = {origin.turn for origin in made}
    assert turns == {Turn(target, 8, k, True) for target in (0, 1) for k in (0, 3)}
    assert all(origin.made for origin in made)


def test_what_has_noise_is_no_original(tiny_set: Path) -> None:
    lines = [
        {"id": "001", "split": "train", "source": "001", "image": "a", "mask_sha256": "b"},
        {"id": "002", "split": "train", "source": "002", "steps": [{"mixup": {}}]},
        {"id": "003", "split": "train", "source": "001", "steps": [{"mine": {"a": 1}}]},
        {"id": "004"},
    ]
    text = "\n\n".join(json.dumps(line) for line in lines)
    (tiny_set / "manifest.jsonl").write_text(text)
    origins = read_origins(open_dataset(tiny_set))
    assert [origin.made for origin in origins.values()] == [False, True, True, False]
    assert origins["004"].source == "004"


def test_a_set_without_a_manifest_says_nothing(tiny_set: Path) -> None:
    assert read_origins(open_dataset(tiny_set)) == {}


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[]",
        b"3",
        b'{"split": "train"}',
        b'{"id": "2", "steps": {}}',
        b'{"id": "2", "steps": [{"a": {}, "b": {}}]}',
        b'{"id": "2", "steps": [{"turn": 3}]}',
        b'{"id": "2", "source": 1}',
        b'{"id": "2", "facts": 1}',
        b"\xff\xfe",
        b"[" * 5000,
    ],
)
def test_a_broken_manifest_is_named(tiny_set: Path, line: bytes) -> None:
    (tiny_set / "manifest.jsonl").write_bytes(b'{"id": "001"}\n' + line + b"\n")
    with pytest.raises(StoreError, match=r"manifest\.jsonl: line 2"):
        read_origins(open_dataset(tiny_set))


@pytest.mark.parametrize("choice", [{}, {"target": "a", "side": 3, "quarter_turns": 1}])
def test_a_turn_that_no_build_made_is_named(tiny_set: Path, choice: dict[str, object]) -> None:
    line = {"id": "2", "steps": [{"turn": choice}]}
    (tiny_set / "manifest.jsonl").write_text(json.dumps(line))
    with pytest.raises(StoreError, match=r"manifest\.jsonl: line 1 is not one"):
        read_origins(open_dataset(tiny_set))
