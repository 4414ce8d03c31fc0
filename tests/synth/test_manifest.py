"""The one grammar of manifests: what is written is read, and what is no line is one error."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import detect
import pipelines
import synth
from synth.disk.manifest import Line, parse_line, read_manifest, refusing
from synth.errors import RecipeError, StoreError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
CHOICE = st.dictionaries(TEXT, PLAIN, max_size=3)
LINES = st.builds(
    Line,
    TEXT,
    TEXT,
    TEXT,
    st.lists(st.tuples(TEXT, CHOICE), max_size=3).map(tuple),
    CHOICE,
    st.dictionaries(TEXT.map("x".__add__), PLAIN, max_size=3),
)


@given(LINES)
def test_what_is_written_is_read(line: Line) -> None:
    written = line.to_line()
    assert written.splitlines(keepends=True) == [written]
    assert parse_line(written) == line


@given(LINES)
def test_an_output_is_made_when_it_has_steps(line: Line) -> None:
    assert line.made == ("steps" in json.loads(line.to_line()))


def test_the_choice_of_a_step_is_that_of_the_first_of_its_name() -> None:
    line = Line("2", "train", "1", (("move", {"target": 0}), ("move", {"target": 1})))
    assert line.choice("move") == {"target": 0}
    assert line.choice("turn") is None


@given(st.dictionaries(st.sampled_from(["id", "split", "source", "steps", "facts"]), PLAIN))
def test_a_line_of_other_types_is_one_error(record: dict[str, Any]) -> None:
    try:
        line = parse_line(json.dumps(record))
    except ValueError:
        return
    assert all(isinstance(text, str) for text in (line.id, line.split, line.source))
    assert all(isinstance(choice, dict) for _, choice in line.steps)
    assert line.to_line()


@given(st.binary(max_size=40))
def test_bytes_that_are_no_line_are_one_error(data: bytes) -> None:
    with suppress(ValueError):
        assert parse_line(b'{"id": "1", ' + data).to_line()


@pytest.mark.parametrize("text", [r"\ud800", r"\uDFFF"])
def test_half_a_character_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="surrogates"):
        parse_line(f'{{"id": "1", "steps": [{{"turn": {{"blend": "{text}"}}}}]}}'.encode())


def test_a_whole_character_in_two_halves_is_read() -> None:
    assert parse_line(rb'{"id": "\ud83d\ude00"}').id == "\N{GRINNING FACE}"


@pytest.mark.parametrize(
    "files",
    [
        {"files": [["a", "b"]]},
        {"files": {"a": 1}},
        {"image": {"a": []}, "image_sha256": "0", "mask": "m", "mask_sha256": "0"},
        {"image": "i", "image_sha256": "0"},
    ],
)
def test_names_and_hashes_are_text(files: dict[str, Any]) -> None:
    line = parse_line(json.dumps({"id": "1", **files}))
    with pytest.raises(ValueError, match="are text"):
        _ = line.files


def test_shards_are_read_in_order(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    names = ["train-000000", "train-000001", "test-000000"]
    (tmp_path / "dataset.json").write_text(json.dumps({"shards": dict.fromkeys(names, 1)}))
    for name in names:
        (tmp_path / "shards" / f"{name}.jsonl").write_bytes(Line(name, "", name).to_line())
    assert [line.id for line in read_manifest(tmp_path)] == names


@pytest.mark.parametrize("error", [KeyError("side"), TypeError(), RecipeError("no step is called")])
def test_a_choice_that_cannot_be_used_names_its_line(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"'000012'") as caught, refusing(tmp_path, "000012"):
        raise error
    assert re.fullmatch(f"{re.escape(str(tmp_path))}.*", str(caught.value))


def test_no_other_module_parses_the_lines_of_a_manifest() -> None:
    """Who reads a manifest's path line by line asks `synth.disk.manifest` for each of them."""
    for package in (synth, detect, pipelines):
        root = Path(str(package.__file__)).parent
        for path in root.rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            if path.name != "manifest.py" and "manifest" in text.lower():
                assert not re.search(r"json\.loads\(line|map\(json\.loads", text), path
                assert not re.search(r"""(\[|get\()["'](steps|facts|mask_sha256)["']""", text), path


def test_facts_that_are_no_plain_values_are_told() -> None:
    with pytest.raises(RecipeError, match=r"object .* is no plain value for a manifest"):
        Line("a", "train", "b", [("mine", {})], {"found": object()}).to_line()
