"""Turn: the patch around a target is turned, in image and mask alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from synth.errors import RecipeError
from synth.frames import Mask
from synth.scene import Labelled, Scene
from synth.steps.base import (
    Choice,
    Step,
    as_tuple,
    check_range,
    draw_target,
    register_step,
    require_target,
)
from synth.steps.blend import BLENDS, Blend, blend_mask, blend_patch
from synth.steps.placing import label_map, target_offsets
from synth.targets import Box, Target, target_box

Array = TypeVar("Array", bound=NDArray[Any])

# Pixels of background around a target that a fitted box holds: as much as blending needs.
_MARGIN = 10

# Over more pixels nothing blends better.
_MOST_RAMP = 12


@register_step
@dataclass(frozen=True)
class Turn(Step):
    """The box around a target is turned by quarters: "negative augmentation" of Lu et al.

    Attributes
    ----------
    side : int or "auto"
        Side of the box around a target, pixels; ``auto`` fits each box to its target, see
        `fit_side`.
    turns : int or tuple of int
        Quarter turns, counter-clockwise; one variant for each and every target.
    mirror : bool
        Mirror the box left to right before it is turned.
    blend : {"paste", "feather", "poisson"}
        How the turned box is put back: as published, or without a seam; see `blend_patch`.
    keep_offset : bool
        A mask that lies a fraction of a pixel beside its target lies on the same side of it after
        the turn, see `keep_offset`: for sets whose masks have a habit.
    """

    name = "turn"

    side: int | Literal["auto"] = 32
    turns: int | tuple[int, ...] = (0, 1, 2, 3)
    mirror: bool = False
    blend: Blend = "paste"
    keep_offset: bool = False

    def __post_init__(self) -> None:
        if self.side != "auto":
            check_range("side", self.side, 1, 65536)
        turns = as_tuple(self.turns)
        if not turns or len(set(turns)) != len(turns) or not set(turns) <= {0, 1, 2, 3}:
            raise ValueError("turns: must be some of 0, 1, 2 and 3, each once")
        if self.blend not in BLENDS:
            raise ValueError(f"blend: must be one of {', '.join(BLENDS)}, not {self.blend!r}")

    @property
    def unique(self) -> bool:
        """Two turns of one target may be the same."""
        return False

    def variants(self, scene: Labelled) -> list[Choice]:
        """See `Step`: every target with every turn."""
        return [
            {"target": target.index, "quarter_turns": turns}
            for target in scene.targets
            for turns in as_tuple(self.turns)
        ]

    def suits(self, scene: Scene) -> bool:
        """See `Step`: there must be a target, and room for its box."""
        fits = self.side == "auto" or self.side <= min(scene.shape)
        return bool(scene.targets) and fits

    def choose(self, scene: Scene, rng: np.random.Generator, **variant: Any) -> Choice | None:
        """See `Step`: a target and its turn."""
        target = draw_target(scene, rng, variant)
        if target is None:
            return None
        turns = as_tuple(self.turns)
        quarter_turns = variant.get("quarter_turns")
        if quarter_turns is None:
            quarter_turns = turns[int(rng.integers(len(turns)))]
        found = scene.targets[require_target(scene, target)]
        side = fit_side(found, scene) if self.side == "auto" else self.side
        kept = {"keep_offset": True} if self.keep_offset else {}
        return {
            "target": target,
            "side": side,
            "quarter_turns": quarter_turns,
            "mirror": self.mirror,
            "blend": self.blend,
            **kept,
        }

    def apply(self, scene: Scene, choice: Choice) -> tuple[Scene, dict[str, Any]]:
        target = scene.targets[require_target(scene, choice["target"])]
        turns, mirror, blend = choice["quarter_turns"], choice["mirror"], choice["blend"]
        if not 1 <= choice["side"] <= min(scene.shape):
            raise RecipeError(f"a box of side {choice['side']} does not fit image {scene.id!r}")
        box = target_box(target, choice["side"], scene.shape)
        window = rows, cols = slice(box[0], box[2]), slice(box[1], box[3])
        top, left, bottom, right = target.box
        room = min(top - rows.start, left - cols.start, rows.stop - bottom, cols.stop - right)
        ramp = float(min(max(room, 1), _MOST_RAMP))
        image = scene.image.copy()
        image[window] = blend_patch(
            image[window], turned(image[window], turns, mirror), blend, ramp
        )
        offset: tuple[float, ...] = ()
        if choice.get("keep_offset"):
            offset = tuple(scene.once(target_offsets)[target.index].tolist())
        # Repeats have other noise but the same mask.
        how = turns, mirror, blend, ramp
        mask = scene.once_of_mask(_turn_mask, target, box, how, offset)
        return scene.changed(image, mask), {}

    def kind(self, choice: Choice) -> str:
        return "target turned"

    def describe(self, choice: Choice, facts: Mapping[str, Any]) -> str:
        mirrored = "mirrored and " if choice["mirror"] else ""
        return (
            f"target {choice['target']} {mirrored}turned by {90 * int(choice['quarter_turns'])}°, "
            f"box {choice['side']}, {choice['blend']}"
        )

    def tally(self, choice: Choice, facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        mirrored = " after mirroring" if choice["mirror"] else ""
        yield "quarter turns", f"{90 * int(choice['quarter_turns'])}°{mirrored}"
        yield "side of the box", f"{choice['side']} pixels"
        yield "blending", str(choice["blend"])

    def require(self, sources: Sequence[Labelled], repeats: int) -> None:
        """See `Step`: no box may be larger than its image."""
        for source in sources:
            if source.targets and self.side != "auto" and self.side > min(source.shape):
                raise RecipeError(
                    f"turn: a box of side {self.side} is larger than image {source.id!r} "
                    f"({source.shape[0]}x{source.shape[1]}); take a smaller side"
                )


def _turn_mask(
    mask: Mask,
    target: Target,
    box: Box,
    how: tuple[int, bool, Blend, float],
    offset: Sequence[float],
) -> Mask:
    """The mask of a turn; with an offset the target's own is kept there, see `keep_offset`."""
    turns, mirror, blend, ramp = how
    window = slice(box[0], box[2]), slice(box[1], box[3])
    patch = turned(mask[window], turns, mirror)
    if offset:
        own = label_map(mask)[window] == target.index + 1
        # Only where all of it is in the box.
        if own.sum() == target.area:
            whole = turned(own, turns, mirror)
            patch = (patch & ~whole) | keep_offset(whole, offset, turns, mirror)
    made = mask.copy()
    made[window] = blend_mask(mask[window], patch, blend, ramp)
    return made


def turned(patch: Array, quarter_turns: int, mirror: bool) -> Array:
    """A copy of a patch, mirrored left to right if asked for, then turned counter-clockwise.

    Examples
    --------
    >>> turned(np.array([[1, 2], [3, 4]]), 1, mirror=False).tolist()
    [[2, 4], [1, 3]]
    >>> turned(np.array([[1, 2], [3, 4]]), 0, mirror=True).tolist()
    [[2, 1], [4, 3]]
    """
    seen: Any = patch[:, ::-1] if mirror else patch
    # What np.rot90 does, in a fifth of its time.
    if quarter_turns % 2:
        seen = seen.T
    if quarter_turns % 4 in (1, 2):
        seen = seen[::-1]
    if quarter_turns % 4 in (2, 3):
        seen = seen[:, ::-1]
    return cast(Array, seen.copy())


def keep_offset(own: Mask, offset: Sequence[float], quarter_turns: int, mirror: bool) -> Mask:
    """Move the mask of a turned target to the side of it where it lay before the turn.

    A mask that is d off its target (`measure_offsets`) is R d off after the turn. It is moved by
    d − R d, rounded to whole pixels.

    Parameters
    ----------
    own : (n, n) ndarray of bool
        The turned mask of the target alone.
    offset : sequence of 2 float
        d: rows and columns, pixels.
    quarter_turns, mirror
        As it was turned.

    Returns
    -------
    (n, n) ndarray of bool
        As it was where it would leave the box.

    Examples
    --------
    >>> own = np.zeros((5, 5), bool)
    >>> own[3, 3] = True
    >>> np.argwhere(keep_offset(own, (-0.5, -0.5), 2, False)).tolist()
    [[2, 2]]
    """
    turned_row, turned_col = offset[0], -offset[1] if mirror else offset[1]
    for _ in range(quarter_turns % 4):
        turned_row, turned_col = -turned_col, turned_row
    move = np.rint(np.subtract(offset, (turned_row, turned_col))).astype(np.int64)
    if not move.any():
        return own.copy()
    places = np.argwhere(own) + move
    if places.min(initial=0) < 0 or places.max(initial=0) >= len(own):
        return own.copy()
    moved = np.zeros_like(own)
    moved[tuple(places.T)] = True
    return moved


def fit_side(target: Target, source: Labelled) -> int:
    """Choose the side of the box around a target by the target's own size.

    The box reaches `_MARGIN` pixels beyond the target all round, enough of the background to be
    turned with it, but less where another target would come into it, and at least two. It is odd,
    so that a turn leaves the target's centre where it is.

    Parameters
    ----------
    target : Target
    source : Outline or Scene
        Whose target it is.

    Returns
    -------
    int
        Pixels; at most the shorter side of the image.

    Examples
    --------
    >>> from synth.scene import Outline
    >>> alone = Target(0, 20, 30, (20.0, 30.0), 9, (19, 29, 22, 32))
    >>> fit_side(alone, Outline("a", (64, 64), (alone,)))
    23
    """
    extent = _extent(target)
    reach = extent + _MARGIN
    for other in source.targets:
        if other.index != target.index:
            top, left, bottom, right = other.box
            rows = max(top - target.row, target.row - bottom + 1)
            cols = max(left - target.col, target.col - right + 1)
            reach = min(reach, max(rows, cols) - 2)
    side = 2 * max(reach, extent + 2) + 1
    shorter = min(source.shape)
    return min(side, shorter - 1 + shorter % 2)


def _extent(target: Target) -> int:
    """How far a target reaches from its centre, along rows or columns."""
    top, left, bottom, right = target.box
    rows = max(target.row - top, bottom - 1 - target.row)
    return max(rows, target.col - left, right - 1 - target.col)
