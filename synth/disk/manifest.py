"""The manifest: one line of JSON for every output; the one place that writes and reads them.

A line is ``{"id", "split", "source", "image", "image_sha256", "mask", "mask_sha256", "steps":
[{"turn": {…}}, …], "facts": {…}}``. An output was made from its source when it has steps, and for
no other reason. In shards ``image_at`` and ``mask_at`` say where the files lie in the tar file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from synth.disk.description import MANIFEST, is_sharded, manifest_files
from synth.errors import RecipeError, StoreError


def _plain_number(value: Any) -> Any:
    """A number of NumPy as one of Python, for steps that draw with its generators."""
    if isinstance(value, np.generic):
        return value.item()
    words = f"{type(value).__name__} {value!r:.60} is no plain value for a manifest"
    raise RecipeError(f"{words}; choices and facts are numbers, texts, lists and mappings")


_LINES = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, default=_plain_number)
# What fails on a line that says what none should.
_ODD = (TypeError, ValueError, LookupError, OverflowError, AttributeError)

Choice = dict[str, Any]
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Line:
    """One output.

    Attributes
    ----------
    id, split, source : str
        The source is the output itself, where nothing was done to it.
    steps : tuple of (str, dict)
        Name and choice of every step that made it, in order; see `synth.steps`.
    facts : mapping
        What turned out.
    more : mapping
        The files, and what exports and imports add.
    """

    id: str
    split: str
    source: str
    steps: tuple[tuple[str, Choice], ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def made(self) -> bool:
        """Whether it was made from its source; else it is a copy."""
        return bool(self.steps)

    def choice(self, step: str) -> Choice | None:
        """What was chosen for the first step of a name; None where there is none."""
        return next((choice for name, choice in self.steps if name == step), None)

    def facts_of(self, number: int) -> dict[str, Any]:
        """The facts of one of its steps: those of a later step of a name end with its number."""
        end = f"_{number + 1}"
        own = {
            key.removesuffix(end): value for key, value in self.facts.items() if key.endswith(end)
        }
        return {**self.facts, **own}

    @property
    def files(self) -> dict[str, str]:
        """SHA-256 of its files by name: an image and a mask, or what an export made.

        `ValueError` where the line does not say.
        """
        more = self.more
        if "files" in more:
            files = more["files"]
            pairs = list(files.items()) if isinstance(files, dict) else [(None, None)]
        else:
            pairs = [(more.get(key), more.get(f"{key}_sha256")) for key in ("image", "mask")]
        if not all(isinstance(text, str) for pair in pairs for text in pair):
            raise ValueError("names and hashes are text")
        return dict(pairs)

    def to_line(self) -> bytes:
        """The line."""
        record: dict[str, Any] = {"id": self.id, "split": self.split, "source": self.source}
        record |= self.more
        if self.steps:
            record["steps"] = [{name: choice} for name, choice in self.steps]
        if self.facts:
            record["facts"] = self.facts
        return _LINES.encode(record).encode() + b"\n"


def parse_line(line: bytes | str) -> Line:
    """Read a line; `ValueError` where it is not one that a build writes."""
    text = line if isinstance(line, str) else line.decode()
    try:
        record = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if not isinstance(record, dict):
        raise ValueError("it is no object")
    if r"\u" in text:
        # Half a character can be neither printed nor written to a file.
        _LINES.encode(record).encode()
    take = record.pop
    id_ = take("id", None)
    split, source = take("split", ""), take("source", id_)
    facts, listed = take("facts", {}), take("steps", [])
    if not (isinstance(id_, str) and isinstance(split, str) and isinstance(source, str)):
        raise ValueError("id, split and source are text")
    if not isinstance(facts, dict) or not isinstance(listed, list):
        raise ValueError("facts are an object, and steps a list")
    if not all(isinstance(step, dict) and len(step) == 1 for step in listed):
        raise ValueError("a step is one name with its choice")
    steps = tuple(next(iter(step.items())) for step in listed)
    if not all(isinstance(choice, dict) for _, choice in steps):
        raise ValueError("a step's choice is an object")
    return Line(id_, split, source, steps, facts, record)


def read_as(path: Path, convert: Callable[[Line], Value]) -> Iterator[Value]:
    """Read one manifest, and make something of each of its lines.

    `convert` raises a `ValueError` or the like for a line that says what none should.

    Raises
    ------
    StoreError
        It is missing, cannot be read, or has a line that no build writes.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    found = convert(parse_line(line))
                except _ODD:
                    raise StoreError(
                        path, f"line {number} is not one that a build writes; build the set again"
                    ) from None
                yield found
    except FileNotFoundError:
        raise StoreError(path, "is missing; give a set that synth build has made") from None
    except OSError as error:
        raise StoreError(path, f"cannot be read ({error.strerror})") from None


def read_manifest(out: Path) -> list[Line]:
    """Read the manifest, or those of all shards: an entry for every output, in the build's order.

    Raises
    ------
    StoreError
        It is missing, cannot be read, or is no manifest.
    DatasetError
        ``dataset.json`` does not name the shards.
    """
    paths = manifest_files(out) if is_sharded(out) else [out / MANIFEST]
    return [entry for path in paths for entry in read_as(path, lambda line: line)]


@contextmanager
def refusing(out: Path, id_: str) -> Iterator[None]:
    """Work on what a line chose: choices are tested where they are used, by failing.

    A `StoreError` says so where a step is not known, or its choice is none that it makes.
    """
    line = f"has a manifest line of {id_!r:.80}"
    try:
        yield
    except RecipeError as error:
        raise StoreError(out, f"{line} with other steps: {error}") from None
    except _ODD:
        raise StoreError(out, f"{line} that no build writes; build the set again") from None
