"""Labelled sets that tests write to disk, and what a command leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]


def labelled_frame(
    rng: np.random.Generator, shape: tuple[int, int], dtype: type[np.generic], targets: int
) -> tuple[Array, Array]:
    """A noisy frame with bright 3x3 targets and its mask of 0 and 255."""
    mask = np.zeros(shape, np.uint8)
    for _ in range(targets):
        row, col = (int(rng.integers(0, length - 3)) for length in shape)
        mask[row : row + 3, col : col + 3] = 255
    scale = 1 if dtype == np.uint8 else 100
    values = rng.normal(100, 4, shape) + 60 * (mask > 0)
    return (values.clip(0, 255) * scale).astype(dtype), mask


@dataclass(frozen=True)
class SmallSet:
    """A labelled set on disk in DNA-Net's layout, and the ids of its lists."""

    root: Path
    train: list[str]
    test: list[str]

    def image(self, id_: str) -> Path:
        """Path of an image."""
        return self.root / "images" / f"{id_}.png"

    def mask(self, id_: str) -> Path:
        """Path of a mask."""
        return self.root / "masks" / f"{id_}.png"

    def write_lists(self, train: Sequence[str], test: Sequence[str]) -> None:
        """Write other lists in place of its own."""
        for name, ids in (("train", train), ("test", test)):
            file = self.root / "50_50" / f"{name}.txt"
            file.write_text("".join(f"{id_}\n" for id_ in ids))


def write_small_set(
    root: Path,
    train: int = 4,
    test: int = 2,
    *,
    shapes: Sequence[tuple[int, int]] = ((48, 64),),
    dtype: type[np.generic] = np.uint8,
    targets: int = 2,
    prefix: str = "",
    seed: int = 0,
) -> SmallSet:
    """Write noisy frames with a few bright squares each; sizes are taken in turn."""
    rng = np.random.default_rng(seed)
    ids = [f"{prefix}{number:03d}" for number in range(1, train + test + 1)]
    for folder in ("images", "masks", "50_50"):
        (root / folder).mkdir(parents=True)
    made = SmallSet(root, ids[:train], ids[train:])
    for number, id_ in enumerate(ids):
        image, mask = labelled_frame(rng, shapes[number % len(shapes)], dtype, targets)
        cv2.imwrite(str(made.image(id_)), image)
        cv2.imwrite(str(made.mask(id_)), mask)
    made.write_lists(made.train, made.test)
    return made


@dataclass(frozen=True)
class Outcome:
    """What a command left: its exit status and all that it printed."""

    status: int
    out: str
    err: str
