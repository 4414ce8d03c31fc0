"""Moves of single targets, for tests: an image whose targets are moved and copied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from synth.frames import Frame, Mask
from synth.scene import Scene
from synth.steps.placing import Change, Placed, copy_target, move_target
from synth.targets import Target


class Mover:
    """A scene, with the arguments of a change as keywords."""

    def __init__(self, image: Frame, mask: Mask, targets: Sequence[Target] | None = None) -> None:
        self.scene = Scene(image, mask, targets=targets)

    def move(self, target: int, draw: int, *, stay: bool = False, **change: Any) -> Placed:
        return move_target(self.scene, target, Change(draw, **change), stay=stay)

    def copy(
        self, target: int, draw: int, onto: Scene | tuple[Frame, Mask], **change: Any
    ) -> Placed | None:
        if not isinstance(onto, Scene):
            onto = self.scene.changed(*onto)
        return copy_target(self.scene, target, Change(draw, **change), onto)
