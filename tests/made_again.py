"""Lines of manifests, and outputs that are made again from them, for tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.build.run import read_supply
from synth.dataset import Dataset
from synth.disk.png import encode_png
from synth.frames import Frame, Mask, read_frame
from synth.recipe import Sample, remake
from synth.scene import Scene
from synth.steps import Hosts, Supply

Line = dict[str, Any]


def read_lines(out: Path) -> list[Line]:
    """The lines of a manifest."""
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]


def steps(line: Line) -> dict[str, dict[str, Any]]:
    """The choices of a line by the names of their steps."""
    return {name: choice for step in line.get("steps", ()) for name, choice in step.items()}


def remade(
    out: Path,
    line: Line,
    source: Dataset,
    load: Callable[[str], tuple[Frame, Mask]] | None = None,
    without: tuple[str, ...] = (),
) -> Sample:
    """Make an output again from its line, the noise and the source alone."""
    noise = out / "noise.npz"
    supply = read_supply(noise, line["image_sha256"]) if noise.exists() else Supply()
    supply = replace(supply, hosts=Hosts(load or source.read_pair))
    scene = Scene(*source.read_pair(line["source"]), line["source"])
    chosen = [pair for step in line["steps"] for pair in step.items() if pair[0] not in without]
    return remake(scene, chosen, supply)


def assert_made_again(
    out: Path,
    line: Line,
    source: Dataset,
    load: Callable[[str], tuple[Frame, Mask]] | None = None,
) -> None:
    """An output has the bytes that its line gives."""
    sample = remade(out, line, source, load)
    assert (out / line["image"]).read_bytes() == encode_png(sample.image)
    assert (out / line["mask"]).read_bytes() == encode_png(sample.mask)
    np.testing.assert_array_equal(read_frame(out / line["image"]), sample.image)
