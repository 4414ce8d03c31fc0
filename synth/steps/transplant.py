"""Transplant: targets come to lie in another image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from synth.errors import RecipeError
from synth.frames import Frame, Mask, require_frame, require_mask
from synth.scene import Labelled, Scene
from synth.seeds import quick_generator
from synth.steps.base import Choice, as_tuple, draw_target, register_step, require_target
from synth.steps.placing import Change, PlacingStep, copy_target

HostKind = Literal["training", "noise"]
Arrays = Mapping[str, Any] | Sequence[Any]


@dataclass(frozen=True)
class Hosts:
    """The images that targets are put into.

    Attributes
    ----------
    load : callable
        Gives the image, (H, W), and the mask of a name; neither is written to.
    labelled : tuple of str
        Images with targets of their own: one target of another image is put beside them.
    empty : tuple of str
        Frames without targets: all targets of an image are put into them, and they are cut to its
        size.
    """

    load: Callable[[str], tuple[Frame, Mask]]
    labelled: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()

    @classmethod
    def of(cls, images: Arrays) -> Hosts:
        """Hosts from arrays: frames without targets, or pairs of image and mask.

        Their names are the keys of a mapping, or else their numbers, from 0.

        Raises
        ------
        TypeError, ValueError
            An array is of another type or shape.
        """
        if not isinstance(images, Mapping):
            images = {str(number): one for number, one in enumerate(images)}
        pairs = {}
        for name, one in images.items():
            image, mask = one if isinstance(one, tuple | list) else (one, None)
            frame = require_frame(image, f"host {name}")
            if mask is None:
                mask = np.zeros(frame.shape, np.bool_)
            pairs[str(name)] = frame, require_mask(mask, f"mask of host {name}")
            if mask.shape != frame.shape:
                raise ValueError(f"host {name}: its mask has another shape, {mask.shape}")
        marked = [name for name, (_, mask) in pairs.items() if mask.any()]
        empty = [name for name in pairs if name not in marked]
        return cls(pairs.__getitem__, tuple(marked), tuple(empty))

    def draw(self, rng: np.random.Generator, source: str) -> tuple[str, bool] | None:
        """Draw a host for a target of an image, first its kind, and say whether it is empty."""
        kinds = [kind for kind in (self.labelled, self.empty) if kind]
        if not kinds:
            return None
        kind = kinds[int(rng.integers(len(kinds)))]
        at = int(rng.integers(len(kind)))
        if kind is self.labelled and kind[at] == source:
            # The next one in its place; an image alone has none.
            at = (at + 1) % len(kind)
            if kind[at] == source:
                return None
        return kind[at], kind is not self.labelled


@register_step
@dataclass(frozen=True)
class Transplant(PlacingStep):
    """Targets are put into another image, where they fit.

    Attributes
    ----------
    scr, zoom, angle
        See `PlacingStep`.
    images : Hosts, or sequence or mapping of ndarray
        The images that targets are put into: frames without targets, pairs of image and mask. With
        names, an image whose name is the scene's `id` gets no target of its own. A build gives
        them.
    hosts : "training", "noise", or both
        Which images a build gives: its training images, or the frames without targets that its
        noise is from.
    """

    name = "transplant"
    needs: ClassVar = {"images": "hosts"}

    images: Any = field(default=None, repr=False)
    hosts: HostKind | tuple[HostKind, ...] = "training"

    def __post_init__(self) -> None:
        super().__post_init__()
        for kind in as_tuple(self.hosts) or ("",):
            if kind not in get_args(HostKind):
                raise ValueError(f"hosts: must be training or noise, or both, not {kind!r}")
        if self.images is not None and not isinstance(self.images, Hosts):
            object.__setattr__(self, "images", Hosts.of(self.images))

    def suits(self, scene: Scene) -> bool:
        """See `Step`: there must be a target, and another image."""
        hosts = self._hosts
        others = len(hosts.labelled) > 1 or hosts.labelled not in ((), (scene.id,))
        return bool(scene.targets) and bool(hosts.empty or others)

    def choose(self, scene: Scene, rng: np.random.Generator, **variant: Any) -> Choice | None:
        """See `Step`: a host, and for each target that is put into it what a move has."""
        target = draw_target(scene, rng, variant)
        host = self._hosts.draw(rng, scene.id)
        if target is None or host is None:
            return None
        name, empty = host
        others = [one.index for one in scene.targets if empty and one.index != target]
        put = [{"target": one, **self.draw_change(rng)} for one in (target, *others)]
        return {"host": name, "targets": put}

    def apply(self, scene: Scene, choice: Choice) -> tuple[Scene, dict[str, Any]]:
        """See `Step`.

        The fact ``places`` has row and column of every target's centre, null where no place was
        free.
        """
        image, mask = self._hosts.load(choice["host"])
        if image.dtype != scene.image.dtype:
            raise RecipeError(
                f"host {choice['host']}: is of {image.dtype}; a target of {scene.image.dtype} "
                "cannot go into it"
            )
        if not mask.any():
            part = _draw_part(image.shape, scene.shape, choice["targets"][0]["draw"])
            image, mask = image[part], mask[part]
        made = Scene(image.copy(), mask.copy(), scene.id, draws=scene.draws)
        places: list[list[int] | None] = []
        for one in choice["targets"]:
            target = scene.targets[require_target(scene, one["target"])]
            put = copy_target(scene, target.index, Change.of(one), made)
            if put is None:
                places.append(None)
                continue
            made = made.changed(put.image, put.mask)
            down, along = put.shift
            places.append([target.row + down, target.col + along])
        return made, {"places": places}

    def kind(self, choice: Choice) -> str:
        return "target put into another image"

    def describe(self, choice: Choice, facts: Mapping[str, Any]) -> str:
        parts = []
        for one, place in zip(choice["targets"], facts["places"], strict=True):
            at = ", where no place was free" if place is None else f" at {place[0]}, {place[1]}"
            parts.append(f"target {one['target']} moved into {choice['host']}{at}{Change.of(one)}")
        return "; ".join(parts)

    def require(self, sources: Sequence[Labelled], repeats: int) -> None:
        hosts = self._hosts
        if len(hosts.labelled) < 2 and not hosts.empty:
            raise RecipeError(
                "transplant: there is no other image to put a target into; give frames without "
                "targets (hosts: noise), or take transplant out"
            )

    @property
    def _hosts(self) -> Hosts:
        hosts: Hosts = self.needed("images")
        return hosts


def _draw_part(shape: tuple[int, ...], wanted: tuple[int, ...], draw: int) -> tuple[slice, slice]:
    """A part of an image that is no larger than another one."""
    rng = quick_generator(draw, "part")
    rows, cols = (
        slice(start, start + min(size, most))
        for size, most in zip(shape, wanted, strict=True)
        for start in [int(rng.integers(max(size - most, 0) + 1))]
    )
    return rows, cols
