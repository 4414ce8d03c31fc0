"""The target that a step works on."""

from __future__ import annotations

import numpy as np

from synth.errors import RecipeError
from synth.scene import Scene
from synth.steps.base import Choice


def draw_target(scene: Scene, rng: np.random.Generator, variant: Choice) -> int | None:
    """Index of a variant's target, or of one that is drawn; None where the scene has none."""
    if "target" in variant:
        return int(variant["target"])
    return int(rng.integers(len(scene.targets))) if scene.targets else None


def require_target(scene: Scene, index: int) -> int:
    """The index of a target; a `RecipeError` where the scene has no such target."""
    if not 0 <= index < len(scene.targets):
        raise RecipeError(f"source {scene.id} has no target {index}")
    return index
