"""Mixup: a noise patch is enlarged and mixed into the image."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from synth.errors import NoiseError, RecipeError
from synth.noise.bank import NoiseBank
from synth.noise.transfer import mixup
from synth.scene import Labelled, Scene
from synth.steps.base import Choice, as_tuple, check_range, register_step
from synth.steps.noise import NoiseStep, check_gain, draw_amount, draw_member


@register_step
@dataclass(frozen=True)
class Mixup(NoiseStep):
    """``ratio · noise + (1 − ratio) · image``: "noise displacement" of Lu et al. (TGRS 2024).

    Attributes
    ----------
    noise : NoiseBank
        The patches; a build gives it.
    ratio : float or tuple of float
        Share of the noise in the mix; of several, one is drawn.
    gain : float or None
        Factor from the noise's DN to the image's, see `synth.noise.transfer.mixup`.
    share
        See `NoiseStep`.
    """

    name = "mixup"
    needs: ClassVar = {"noise": "bank"}

    noise: NoiseBank | None = field(default=None, repr=False)
    ratio: float | tuple[float, ...] = 0.1
    gain: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("ratio", self.ratio, 0, 1)
        check_gain(self.gain)

    def choose(self, scene: Scene, rng: np.random.Generator, **variant: Any) -> Choice | None:
        """See `Step`: a patch and its share. Repeats of one variant have different patches."""
        if self.skips(scene, rng):
            return None
        kinds = self._bank.members()
        if scene.draws is None:
            patch = draw_member(kinds, rng)
        else:
            patch = _draw_apart(kinds, scene.draws.variant, scene.draws.repeat)
        gain = {} if self.gain is None else {"gain": self.gain}
        return {"patch": patch, "ratio": draw_amount(as_tuple(self.ratio), rng), **gain}

    def apply(self, scene: Scene, choice: Choice) -> tuple[Scene, dict[str, Any]]:
        patches = self._bank.patches
        if not 0 <= choice["patch"] < len(patches):
            raise NoiseError(f"noise patch {choice['patch']} is not in the bank")
        patch = patches[choice["patch"]]
        image = mixup(scene.image, patch, choice["ratio"], choice.get("gain"))
        return scene.noisy(image), {}

    def require(self, sources: Sequence[Labelled], repeats: int) -> None:
        """See `Step`: there must be a patch for every repeat."""
        if repeats > len(self._bank):
            raise RecipeError(
                f"the noise bank holds {len(self._bank)} patches and a target is to be repeated "
                "with more; ask for fewer negatives, or sample more noise"
            )

    @property
    def _bank(self) -> NoiseBank:
        bank: NoiseBank = self.needed("noise")
        return bank


def _draw_apart(kinds: Sequence[NDArray[np.intp]], seed: int, number: int) -> int:
    """One patch; numbers below the count of all patches give different ones.

    Types take turns, and each goes through its patches from a place and with a step that are
    drawn, so that nothing has to be kept of the numbers before.
    """
    digest = hashlib.sha256(b"%d" % seed).digest()
    first, second, third = (int.from_bytes(digest[at : at + 8]) for at in (0, 8, 16))
    order = np.random.default_rng(third).permutation(len(kinds)) if kinds[1:] else (0,)
    left = {int(kind): len(kinds[kind]) for kind in order}
    taken = 0
    # Sweeps over all types that still have patches; the smallest ends a stretch of them.
    while True:
        sweeps = min(left.values())
        if number < sweeps * len(left):
            break
        number -= sweeps * len(left)
        taken += sweeps
        left = {kind: count - sweeps for kind, count in left.items() if count > sweeps}
    place, turn = divmod(number, len(left))
    members = kinds[list(left)[turn]]
    step = 1 + second % max(len(members) - 1, 1)
    # A step with which the ring of the patches is gone through whole.
    while math.gcd(step, len(members)) > 1:
        step += 1
    return int(members[(first + (taken + place) * step) % len(members)])
