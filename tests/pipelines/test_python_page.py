"""The page on Python: its blocks are one program that runs, and loaders do as it says."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from small_sets import SmallSet
from torch.utils.data import DataLoader, Dataset

import synth

PAGE = Path(__file__).parents[2] / "docs" / "python.md"


@pytest.fixture
def place(
    tmp_path: Path, make_set: Callable[..., SmallSet], monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder with a set and frames of the names on the page."""
    made = make_set("labelled", train=6, shapes=((64, 80),))
    made.root.rename(tmp_path / "NUDT-SIRST")
    rng = np.random.default_rng(0)
    (tmp_path / "backgrounds").mkdir()
    for number in range(1, 5):
        frame = rng.normal(100, 3, (128, 160)).round().astype(np.uint8)
        assert cv2.imwrite(str(tmp_path / "backgrounds" / f"{number:04d}.png"), frame)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_block_runs(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("synth.steps.base._steps", dict(synth.steps.base._steps))
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 7
    program = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", program)
    exec(compile("\n".join(blocks), str(PAGE), "exec"), program.__dict__)
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("(64, 80) [{'mixup': ")
    assert last == "26"
    assert (place / "out" / "mine" / "manifest.jsonl").read_text().count('"darken"') == 20


class Online(Dataset[Any]):
    """Samples made as they are asked for."""

    def __init__(self, root: Path, recipe: synth.Recipe, epoch: int) -> None:
        dataset = synth.open_dataset(root)
        ids = dataset.ids("train")
        self.scenes = [synth.Scene(*dataset.read_pair(id_), id_) for id_ in ids]
        self.recipe, self.epoch = recipe, epoch

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng((5, self.epoch, number))
        made = self.recipe(self.scenes[number], rng=rng)
        return torch.from_numpy(made.image), torch.from_numpy(made.mask)


def test_workers_of_a_loader_make_the_samples_that_one_process_makes(place: Path) -> None:
    recipe = synth.Recipe(
        [
            synth.Choose([(0.5, synth.Move(scr=(2, 8))), (0.5, synth.Turn(side=16))]),
            synth.Distract(count=(0, 2)),
            synth.Residual(synth.fit_noise("backgrounds"), strength=(0.5, 2.0)),
        ]
    )
    epochs = []
    for epoch in range(2):
        online = Online(place / "NUDT-SIRST", recipe, epoch)
        alone, shared = (
            list(DataLoader(online, batch_size=2, num_workers=workers)) for workers in (0, 2)
        )
        for one, other in zip(alone, shared, strict=True):
            for ours, theirs in zip(one, other, strict=True):
                assert torch.equal(ours, theirs)
        epochs.append(torch.cat([images for images, _ in alone]))
    assert not torch.equal(*epochs)
