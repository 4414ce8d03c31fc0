"""What the steps that add noise have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from synth.noise.realisation import SEEDS
from synth.scene import Scene
from synth.steps.base import Choice, Step, as_tuple, check_range


@dataclass(frozen=True, kw_only=True)
class NoiseStep(Step):
    """Settings of the steps that add noise.

    Attributes
    ----------
    share : float
        Share of the outputs that get noise. One that nothing else tells from an earlier repeat of
        it always gets some.
    """

    changes_mask: ClassVar[bool] = False

    share: float = 1.0

    def __post_init__(self) -> None:
        check_range("share", self.share, 0, 1)

    @property
    def unique(self) -> bool:
        return self.share > 0

    def kind(self, choice: Choice) -> str:
        return "noise alone"

    def describe(self, choice: Choice, facts: Mapping[str, Any]) -> str:
        number = choice.get("patch", choice.get("frame"))
        which = "" if number is None else f" no. {number}"
        return f"noise{which}, {self.name} {choice.get('ratio', choice.get('strength')):g}"

    def tally(self, choice: Choice, facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        name, amount = self.name, choice.get("ratio", choice.get("strength"))
        yield "noise", f"{name}, {amount:g}"
        if facts.get("noisier", 0.0) >= 0.5:
            yield "noise that was there", "as much on half of the pixels or more"

    def skips(self, scene: Scene, rng: np.random.Generator) -> bool:
        """Whether an output gets no noise."""
        alike = self.share > 0 and scene.draws is not None and scene.draws.alike
        return not alike and self.share < 1 and bool(rng.random() >= self.share)


@dataclass(frozen=True, kw_only=True)
class CameraStep(NoiseStep):
    """Settings of the steps that add a camera's noise.

    Attributes
    ----------
    strength : float or tuple of float
        Relative to the camera's own noise; of several, one is drawn.
    share
        See `NoiseStep`.
    """

    strength: float | tuple[float, ...] = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("strength", self.strength, 0, 100)

    @property
    def unique(self) -> bool:
        """See `Step`: noise of strength 0 is none."""
        return super().unique and all(as_tuple(self.strength))

    def draw_noise(self, scene: Scene, rng: np.random.Generator) -> Choice:
        """Draw the strength, and the seed of the realisation; of a plan it is the output's."""
        seed = scene.draws.noise if scene.draws is not None else int(rng.integers(SEEDS))
        return {"strength": draw_amount(as_tuple(self.strength), rng), "seed": seed}


def check_gain(gain: float | None) -> None:
    """Raise a `ValueError` unless a factor between the DN of two depths is one."""
    if gain is not None and not 0 < gain <= 65536:
        raise ValueError(f"gain: must be above 0 and at most 65536, not {gain:g}")


def draw_amount(amounts: Sequence[float], rng: np.random.Generator) -> float:
    """One of some amounts of noise."""
    return float(amounts[int(rng.integers(len(amounts)))] if amounts[1:] else amounts[0])


def draw_member(kinds: Sequence[NDArray[np.intp]], rng: np.random.Generator) -> int:
    """Index of a patch or frame: first its type is drawn, so that none is crowded out."""
    kind = kinds[int(rng.integers(len(kinds)))] if kinds[1:] else kinds[0]
    return int(kind[int(rng.integers(len(kind)))])
