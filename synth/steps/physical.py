"""Physical: the noise of a camera that is stated in numbers is added."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from synth.noise.model import make_physical_model
from synth.noise.realisation import NoiseGenerator
from synth.scene import Scene
from synth.steps.base import Choice, check_range, register_step
from synth.steps.noise import CameraStep
from synth.steps.residual import add_noise

_MOST = {"netd": 100.0, "dead": 1.0, "blinking": 1.0}


@register_step
@dataclass(frozen=True)
class Physical(CameraStep):
    """The noise of a stated camera, see `synth.noise.model.make_physical_model`.

    Attributes
    ----------
    sigma : float
        What the read-out adds to every pixel, DN.
    netd : float
        Noise-equivalent temperature difference, K.
    responsivity : float
        DN per K.
    gain : float
        DN² per DN: the DN that one photoelectron makes.
    column, row, drift : float
        Standard deviations of the patterns of columns and rows, and of the drift from row to row,
        DN.
    dead, blinking : float
        Shares of pixels.
    depth : {8, 16}
        Bits of the images.
    strength, share
        See `CameraStep`.
    """

    name = "physical"

    sigma: float = 0.0
    netd: float = 0.0
    responsivity: float = 1.0
    gain: float = 0.0
    column: float = 0.0
    row: float = 0.0
    drift: float = 0.0
    dead: float = 0.0
    blinking: float = 0.0
    depth: Literal[8, 16] = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in _NUMBERS:
            check_range(key, getattr(self, key), 0, _MOST.get(key, 65535))
        if self.responsivity == 0:
            raise ValueError("responsivity: must be above 0")
        if self.depth not in (8, 16):
            raise ValueError(f"depth: must be 8 or 16, not {self.depth}")

    def choose(self, scene: Scene, rng: np.random.Generator, **variant: Any) -> Choice | None:
        """See `Step`: the camera's numbers, the strength, and the seed of the realisation."""
        if self.skips(scene, rng):
            return None
        camera = {key: getattr(self, key) for key in (*_NUMBERS, "depth") if getattr(self, key)}
        return {"camera": camera, **self.draw_noise(scene, rng)}

    def apply(self, scene: Scene, choice: Choice) -> tuple[Scene, dict[str, Any]]:
        return add_noise(scene, _generator(tuple(choice["camera"].items())), choice)


_NUMBERS = (
    "sigma", "netd", "responsivity", "gain", "column", "row", "drift", "dead", "blinking",
)  # fmt: skip


@lru_cache(maxsize=8)
def _generator(camera: tuple[tuple[str, Any], ...]) -> NoiseGenerator:
    return NoiseGenerator(make_physical_model(**dict(camera)))
