"""Move: a target comes to lie at another place of its image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from synth.scene import Scene
from synth.steps.base import Choice, draw_target, register_step, require_target
from synth.steps.placing import Change, PlacingStep, copy_target, move_target


@register_step
@dataclass(frozen=True)
class Move(PlacingStep):
    """A target is put at a place of its image that fits, turned and scaled as asked for.

    Attributes
    ----------
    scr, zoom, angle
        See `PlacingStep`.
    stay : bool
        It stays at its place, to be turned, scaled or enlarged alone.
    copy : bool
        A copy of it is put there, and the target stays where it is too.
    """

    name = "move"

    stay: bool = False
    copy: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stay and self.copy:
            raise ValueError("stay, copy: exclude each other; keep one")
        if self.stay and not (self.scr or self.zoom or self.angle):
            raise ValueError("stay: changes nothing without scr, zoom or angle")

    def choose(self, scene: Scene, rng: np.random.Generator, **variant: Any) -> Choice | None:
        """See `Step`: a target, the seed of its place, and what is drawn of the settings."""
        target = draw_target(scene, rng, variant)
        if target is None:
            return None
        how = {key: True for key in ("stay", "copy") if getattr(self, key)}
        return {"target": target, **self.draw_change(rng), **how}

    def kind(self, choice: Choice) -> str:
        if choice.get("copy"):
            return "target copied"
        return "target changed at its place" if choice.get("stay") else "target moved"

    def describe(self, choice: Choice, facts: Mapping[str, Any]) -> str:
        shift = facts.get("shift")
        by = "" if shift is None else f" by {shift[0]}, {shift[1]}"
        how = "copied" if choice.get("copy") else "moved"
        by = " nowhere" if choice.get("stay") else by
        return f"target {choice['target']} {how}{by}{Change.of(choice)}"

    def apply(self, scene: Scene, choice: Choice) -> tuple[Scene, dict[str, Any]]:
        """See `Step`. The fact ``shift`` is rows and columns from the old place to the new one."""
        target, change = require_target(scene, choice["target"]), Change.of(choice)
        if choice.get("copy"):
            made = copy_target(scene, target, change, scene)
        else:
            made = move_target(scene, target, change, stay=bool(choice.get("stay")))
        if made is None:
            return scene, {"shift": None}
        return scene.changed(made.image, made.mask), {"shift": list(made.shift)}
