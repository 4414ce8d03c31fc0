"""Choose: one of several steps, each for its share of the outputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from synth.scene import Labelled, Scene
from synth.steps.base import Choice, Step, Supply, parse_step, register_step


@register_step
@dataclass(frozen=True)
class Choose(Step):
    """One of some steps is drawn for every output; where it can do nothing, the next one that can.

    Attributes
    ----------
    options : sequence of (float, Step)
        Shares, whose sum is at most 1, and steps. What is left of the shares gets none of them.
    """

    name = "choose"

    options: tuple[tuple[float, Step], ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", tuple((share, step) for share, step in self.options))
        shares = [share for share, _ in self.options]
        if not shares or not all(0 <= share <= 1 for share in shares) or sum(shares) > 1 + 1e-9:
            raise ValueError("choose: needs steps with shares of 0 or more whose sum is at most 1")

    @property
    def changes_mask(self) -> bool:  # type: ignore[override]
        return any(step.changes_mask for _, step in self.options)

    @property
    def unique(self) -> bool:
        whole = sum(share for share, _ in self.options) > 1 - 1e-9
        return whole and all(step.unique for share, step in self.options if share)

    @property
    def enumerates(self) -> bool:
        return any(step.enumerates for _, step in self.options)

    def variants(self, scene: Labelled) -> Sequence[Choice]:
        """See `Step`: those of the step that has most; the others get what they know of them."""
        return max((step.variants(scene) for _, step in self.options), key=len)

    def resolve(
        self, scene: Scene, rng: np.random.Generator, variant: Choice
    ) -> tuple[Step, Choice] | None:
        at = float(rng.random())
        for first, (share, _) in enumerate(self.options):
            at -= share
            if at < 0:
                steps = [step for _, step in self.options[first:] + self.options[:first]]
                for step in steps:
                    if step.suits(scene):
                        return step.resolve(scene, rng, _known(step, scene, variant))
        return None

    def suits(self, scene: Scene) -> bool:
        return any(step.suits(scene) for _, step in self.options)

    def require(self, sources: Sequence[Labelled], repeats: int) -> None:
        for _, step in self.options:
            step.require(sources, repeats)

    def bind(self, supply: Supply) -> Step:
        return Choose(tuple((share, step.bind(supply)) for share, step in self.options))

    def inner(self) -> Iterator[Step]:
        yield self
        for _, step in self.options:
            yield from step.inner()

    @classmethod
    def parse(cls, given: Any, build: Any) -> Step:
        """See `Step`: a list of ``{share: …, STEP: …}``."""
        if not isinstance(given, list | tuple) or not all(isinstance(one, dict) for one in given):
            raise ValueError("choose: must be a list of {share: …, STEP: {…}}")
        options = []
        for one in given:
            rest = dict(one)
            share = rest.pop("share", None)
            if isinstance(share, bool) or not isinstance(share, int | float):
                raise ValueError("choose: every step needs its share, a number")
            options.append((float(share), parse_step(rest, build)))
        return cls(tuple(options))

    def plain(self) -> Any:
        return [{"share": share, step.name: step.plain()} for share, step in self.options]


def _known(step: Step, scene: Scene, variant: Choice) -> Choice:
    """What of a variant is one of a step's own; of the others' their target alone."""
    if not variant or variant in step.variants(scene):
        return variant
    return {key: value for key, value in variant.items() if key == "target"}
