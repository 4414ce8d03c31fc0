"""A labelled image on its way through a recipe, and what a plan knows of it beforehand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from synth.frames import Frame, Mask
from synth.targets import Target, find_targets

Value = TypeVar("Value")
Array = TypeVar("Array", Frame, Mask)


@dataclass(frozen=True, slots=True)
class Outline:
    """A source image as a plan sees it: its size, (H, W) and its targets; no pixels."""

    id: str
    shape: tuple[int, int]
    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class Draws:
    """What a plan hands to the steps of one output beside their random generators.

    Attributes
    ----------
    noise : int
        Seed of its noise; no two outputs of a plan have the same.
    variant : int
        A seed that all outputs of one variant of one source have in common.
    repeat : int
        How many outputs of the same variant come before it.
    alike : bool
        Whether nothing that was chosen so far tells it from those for certain.
    """

    noise: int
    variant: int
    repeat: int = 0
    alike: bool = False


def _fixed(array: Array) -> Array:
    """The array, protected from steps that would change it for all that is made of it later."""
    if array.flags.writeable:
        array = array.view()
        array.flags.writeable = False
    return array


class Scene:
    """An image with its mask; nothing of it changes.

    Parameters
    ----------
    image : (H, W) ndarray of uint8 or uint16
        DN; writing to it is an error.
    mask : (H, W) ndarray of bool
        Writing to it is an error.
    id : str
        Name of the source.
    targets : sequence of Target, optional
        Those of `mask`, where they are known.
    draws : Draws, optional
        Of the output that is being made; None outside of a plan.
    """

    __slots__ = ("_ground", "_known", "_known_of_mask", "draws", "id", "image", "mask")

    def __init__(
        self,
        image: Frame,
        mask: Mask,
        id: str = "",
        *,
        targets: Sequence[Target] | None = None,
        draws: Draws | None = None,
    ) -> None:
        self.image = _fixed(image)
        self.mask = _fixed(mask)
        self.id = id
        self.draws = draws
        # None for itself: a reference to itself would keep it until the garbage is collected.
        self._ground: Scene | None = None
        self._known: dict[Any, Any] = {}
        self._known_of_mask: dict[Any, Any] = {}
        if targets is not None:
            self._known_of_mask[find_targets, ()] = targets

    @property
    def ground(self) -> Scene:
        """The scene whose background, with its own noise, this one has."""
        return self._ground or self

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W), pixels."""
        return self.mask.shape[0], self.mask.shape[1]

    @property
    def targets(self) -> Sequence[Target]:
        """The targets of the mask, in raster order."""
        return self.once_of_mask(find_targets)

    def once(self, function: Callable[..., Value], *arguments: Any) -> Value:
        """Value of ``function(scene, *arguments)``, computed when it is first asked for.

        Outputs of one source start from one scene, so they share what is computed of it. The
        function must depend on its arguments alone.
        """
        key = function, arguments
        if key not in self._known:
            self._known[key] = function(self, *arguments)
        found: Value = self._known[key]
        return found

    def once_of_mask(self, function: Callable[..., Value], *arguments: Any) -> Value:
        """The same of ``function(mask, *arguments)``, for all scenes with this mask."""
        key = function, arguments
        if key not in self._known_of_mask:
            self._known_of_mask[key] = function(self.mask, *arguments)
        found: Value = self._known_of_mask[key]
        return found

    def drawn(self, draws: Draws | None) -> Scene:
        """The same scene for another output."""
        scene = object.__new__(Scene)
        scene.image, scene.mask, scene.id, scene.draws = self.image, self.mask, self.id, draws
        scene._ground = self._ground or self
        scene._known, scene._known_of_mask = self._known, self._known_of_mask
        return scene

    def changed(self, image: Frame, mask: Mask | None = None) -> Scene:
        """The scene with another image, or another mask too, of the same background.

        For what leaves the noise of the background as it is; see `noisy` for what does not.

        Parameters
        ----------
        image : (H, W) ndarray
        mask : (H, W) ndarray of bool, optional
            The same without it.
        """
        scene = self.noisy(image) if mask is None else Scene(image, mask, self.id, draws=self.draws)
        scene._ground = self.ground
        return scene

    def noisy(self, image: Frame) -> Scene:
        """The scene with another image whose noise is no longer that of this one."""
        scene = Scene(image, self.mask, self.id, draws=self.draws)
        scene._known_of_mask = self._known_of_mask
        return scene


Labelled = Outline | Scene
"""What steps choose by: an image's `id`, `shape` and `targets`; never its pixels."""
