"""A tiny labelled set on disk, and a recipe that trains on it in a second."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from detect.recipe import Augment, Compute, Loss, Optimiser, Recipe, Sampler, Schedule


def _write_set(
    root: Path, train: int = 6, test: int = 3, shape: tuple[int, int] = (32, 32), seed: int = 0
) -> Path:
    """Write a set of noisy frames with one bright square each, in DNA-Net's layout."""
    rng = np.random.default_rng(seed)
    ids = [f"{i:03d}" for i in range(1, train + test + 1)]
    for folder in ("images", "masks", "50_50"):
        (root / folder).mkdir(parents=True)
    for id_ in ids:
        mask = np.zeros(shape, np.uint8)
        row, col = (int(rng.integers(2, length - 5)) for length in shape)
        mask[row : row + 3, col : col + 3] = 255
        image = rng.normal(100, 4, shape) + 60 * (mask > 0)
        cv2.imwrite(str(root / "images" / f"{id_}.png"), image.clip(0, 255).astype(np.uint8))
        cv2.imwrite(str(root / "masks" / f"{id_}.png"), mask)
    (root / "50_50" / "train.txt").write_text("\n".join(ids[:train]) + "\n")
    (root / "50_50" / "test.txt").write_text("\n".join(ids[train:]) + "\n")
    return root


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Networks this small are quicker on one thread, above all where tests share a machine."""
    torch.set_num_threads(1)


@pytest.fixture
def write_set() -> Callable[..., Path]:
    return _write_set


@pytest.fixture
def tiny_set(tmp_path: Path) -> Path:
    return _write_set(tmp_path / "set")


@pytest.fixture
def make_recipe() -> Callable[..., Recipe]:
    base = Recipe(
        seed=3,
        network="small",
        in_channels=1,
        normalisation="frame",
        freeze_norms=False,
        batch=2,
        epochs=None,
        steps=6,
        epoch_steps=3,
        average=0.0,
        validation=0.3,
        augment=Augment(
            crop=32,
            target_share=0.5,
            fill="mirror",
            mirror="both",
            transpose=True,
            keep_offset=False,
            scale=(1.0, 1.0),
            shift=0.0,
            rotation=0.0,
            blur=0.0,
            border=0.0,
            gain=0.0,
            offset=0.0,
            noise=0.0,
            pick=None,
        ),
        sampler=Sampler("images", None, None),
        loss=Loss("soft_iou_bce", 4.0, 0.5, "batch", 0.0),
        optimiser=Optimiser("adamw", 1e-3, 0.01, None),
        schedule=Schedule("onecycle", 0.2, 1e-6, (0.5, 0.75), 0.1),
        compute=Compute("cpu", 1, "auto", "32-true", True),
    )

    def make(**changes: Any) -> Recipe:
        return replace(base, **changes)

    return make
