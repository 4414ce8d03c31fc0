"""Residual: what an image lacks of a camera's noise is added, at native scale."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from synth.errors import NoiseError
from synth.noise.cameras import CameraNoise
from synth.noise.realisation import NoiseGenerator
from synth.noise.residual import OwnNoise, measure_own_noise, transfer_residual
from synth.scene import Scene
from synth.steps.base import Choice, register_step
from synth.steps.noise import CameraStep, check_gain, draw_member


@register_step
@dataclass(frozen=True)
class Residual(CameraStep):
    """The noise of a camera, see `synth.noise.residual`.

    Attributes
    ----------
    noise : CameraNoise
        Models of cameras; a build gives them.
    gain : float or None
        Factor from the noise's DN to the image's, where their depths differ.
    strength, share
        See `CameraStep`.
    """

    name = "residual"
    needs: ClassVar = {"noise": "cameras"}

    noise: CameraNoise | None = field(default=None, repr=False)
    gain: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_gain(self.gain)

    def choose(self, scene: Scene, rng: np.random.Generator, **variant: Any) -> Choice | None:
        """See `Step`: a frame of the models, the strength, and the seed of the realisation."""
        if self.skips(scene, rng):
            return None
        gain = {} if self.gain is None else {"gain": self.gain}
        frame = draw_member(self._cameras.members(), rng)
        return {"frame": frame, **self.draw_noise(scene, rng), **gain}

    def apply(self, scene: Scene, choice: Choice) -> tuple[Scene, dict[str, Any]]:
        cameras = self._cameras
        if not 0 <= choice["frame"] < len(cameras):
            raise NoiseError(f"frame {choice['frame']} is not in the noise models")
        camera, frame = cameras.generator(choice["frame"])
        return add_noise(scene, camera, choice, frame)

    @property
    def _cameras(self) -> CameraNoise:
        cameras: CameraNoise = self.needed("noise")
        return cameras


def add_noise(
    scene: Scene, camera: NoiseGenerator, choice: Choice, frame: int = 0
) -> tuple[Scene, dict[str, Any]]:
    """Give a scene the noise of a camera, with the strength, seed and gain of a choice.

    The fact ``noisier`` is the share of pixels that had as much noise as was asked for already.
    """
    made = transfer_residual(
        scene.image,
        camera,
        seed=choice["seed"],
        frame=frame,
        strength=choice["strength"],
        gain=choice.get("gain"),
        # A turn or a target more does not change a background's own noise.
        own=scene.ground.once(_own_noise),
    )
    return scene.noisy(made.image), {"noisier": round(made.noisier, 4)}


def _own_noise(scene: Scene) -> OwnNoise:
    return measure_own_noise(scene.image)
