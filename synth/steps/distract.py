"""Distract: what disturbs an image as a made target does, and is none.

A detector that is shown made targets alone may learn how they were made. Distractors carry the
same marks without a label: backgrounds that were cut, turned and blended as targets are, bad
pixels, streaks, edges of clutter, fragments of cloud. None may look like a target: what an optical
blur spot explains of it is bounded, and none lies near a label.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal, cast, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from synth.frames import Frame, Mask
from synth.scene import Scene
from synth.seeds import quick_generator
from synth.steps.base import DRAWS, Choice, Step, as_tuple, register_step
from synth.steps.blend import blend_patch
from synth.steps.turn import turned
from synth.targets import Box, box_window

Kind = Literal["turned", "bad-pixels", "streak", "edge", "cloud"]
KINDS: tuple[Kind, ...] = get_args(Kind)

Field = NDArray[np.float64]

MOST_LIKE_A_SPOT = 0.7
"""Greatest `spot_likeness` of a distractor."""

# Clear of any label, pixels.
_CLEAR = 6

# Places that are tried until one is free.
_TRIES = 16

# Distractors stand out of the local clutter by so many of its standard deviations.
_CONTRAST = (2.0, 6.0)

# As boxes around targets have for blending.
_RAMP = 10.0

_SPOTS = (0.7, 1.0, 1.4, 2.0)


@register_step
@dataclass(frozen=True)
class Distract(Step):
    """Distractors are added, see `add_distractor`.

    Attributes
    ----------
    count : int or tuple of int
        How many an output gets; of two numbers, drawn between them.
    kinds : tuple of str
        Kinds that are drawn from: turned, bad-pixels, streak, edge, cloud.
    """

    name = "distract"
    changes_mask: ClassVar[bool] = False

    count: int | tuple[int, int] = (0, 1)
    kinds: Kind | tuple[Kind, ...] = KINDS

    def __post_init__(self) -> None:
        span = as_tuple(self.count)
        if len(span) not in (1, 2) or not 0 <= span[0] <= span[-1] <= 1000:
            raise ValueError("count: must be one or two numbers from 0 to 1000, the smaller first")
        kinds = as_tuple(self.kinds)
        if not kinds or not set(kinds) <= set(KINDS):
            raise ValueError(f"kinds: must be some of {', '.join(KINDS)}")

    @property
    def _span(self) -> tuple[int, int]:
        span = as_tuple(self.count)
        return span[0], span[-1]

    @property
    def unique(self) -> bool:
        """There may be none."""
        return self._span[0] > 0

    def choose(self, scene: Scene, rng: np.random.Generator, **variant: Any) -> Choice | None:
        """See `Step`: kind of every distractor, and the seed of its place and form."""
        few, many = self._span
        kinds = as_tuple(self.kinds)
        items = [
            {"kind": kinds[int(rng.integers(len(kinds)))], "draw": int(rng.integers(DRAWS))}
            for _ in range(int(rng.integers(few, many + 1)))
        ]
        return {"items": items} if items else None

    def apply(self, scene: Scene, choice: Choice) -> tuple[Scene, dict[str, Any]]:
        """See `Step`.

        The fact ``distractor_boxes`` has the box of each, null for one that found no place.
        """
        image = scene.image
        boxes: list[list[int] | None] = []
        for one in choice["items"]:
            image, box = add_distractor(image, scene.mask, one["kind"], one["draw"])
            boxes.append(None if box is None else list(box))
        return scene.changed(image), {"distractor_boxes": boxes}

    def kind(self, choice: Choice) -> str:
        return "distractors alone"

    def describe(self, choice: Choice, facts: Mapping[str, Any]) -> str:
        return f"distractors: {', '.join(one['kind'] for one in choice['items'])}"

    def tally(self, choice: Choice, facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        for one, box in zip(choice["items"], facts["distractor_boxes"], strict=True):
            yield "distractors", one["kind"] if box else f"{one['kind']}, which found no place"


def add_distractor(image: Frame, mask: Mask, kind: Kind, draw: int) -> tuple[Frame, Box | None]:
    """Add one distractor.

    Parameters
    ----------
    image : (H, W) ndarray of uint8 or uint16
    mask : (H, W) ndarray of bool
        All labels; the distractor keeps 6 pixels away from them.
    kind : {"turned", "bad-pixels", "streak", "edge", "cloud"}
    draw : int
        Seed of its place and form, 0 or more.

    Returns
    -------
    image : (H, W) ndarray of the image's dtype
        A copy.
    box : tuple of int or None
        Where it was added, half-open (top, left, bottom, right). None where no place was free, or
        none of the forms tried was unlike a target: then the image is as it was.
    """
    rng = quick_generator(draw, "distractor", kind)
    out: NDArray[Any] = image.copy()
    for _ in range(_TRIES):
        side = int(rng.integers(*_SIDES[kind]))
        if side >= min(image.shape):
            continue
        top, left = (int(rng.integers(0, length - side + 1)) for length in image.shape)
        bottom, right = top + side, left + side
        box = top, left, bottom, right
        if mask[box_window(box, _CLEAR)].any():
            continue
        window = box_window(box)
        patch = image[window]
        if kind == "turned":
            # The cut must be one that a target's box could be: it is blended in the same way.
            change = turned(patch, int(rng.integers(1, 4)), bool(rng.integers(2)))
            made = blend_patch(patch, change, "poisson", _RAMP)
        else:
            form = _FORMS[kind](side, rng) * _contrast(patch, rng)
            most = np.iinfo(image.dtype).max
            made = cast(Frame, np.rint(patch + form).clip(0, most).astype(image.dtype))
        added = made.astype(np.float64) - patch
        if added.any() and spot_likeness(added) <= MOST_LIKE_A_SPOT:
            out[window] = made
            return cast(Frame, out), box
    return cast(Frame, out), None


def spot_likeness(added: Field) -> float:
    """Tell how much of what was added an optical blur spot explains.

    That is the greatest correlation of it with a Gaussian of σ 0.7 to 2 pixels anywhere, over its
    own norm: 1 for a spot, and less the more there is beside one.

    Parameters
    ----------
    added : (h, w) ndarray of float64

    Returns
    -------
    float
        0 to 1.

    Examples
    --------
    >>> spot = cv2.getGaussianKernel(15, 1.0) @ cv2.getGaussianKernel(15, 1.0).T
    >>> round(spot_likeness(spot), 2)
    1.0
    """
    norm = float(cv2.norm(added))
    if norm == 0:
        return 0.0
    found = 0.0
    for line in _spot_lines():
        spots = cv2.sepFilter2D(added, -1, line, line, borderType=cv2.BORDER_CONSTANT)
        found = max(found, cv2.norm(spots, cv2.NORM_INF))
    return min(found / norm, 1.0)


@lru_cache(maxsize=1)
def _spot_lines() -> tuple[NDArray[np.float64], ...]:
    """Blur spots, each the product of its line with itself, of norm 1."""
    lines = (cv2.getGaussianKernel(2 * int(np.ceil(4 * sigma)) + 1, sigma) for sigma in _SPOTS)
    return tuple(np.asarray(line / np.linalg.norm(line)) for line in lines)


def _contrast(patch: Frame, rng: np.random.Generator) -> float:
    """How far a distractor stands out, DN, either way."""
    values = patch.astype(np.float64)
    clutter = float((values - cv2.blur(values, (5, 5))).std())
    size = rng.uniform(*_CONTRAST) * max(clutter, 1.0)
    return float(size if rng.random() < 0.7 else -size)


def _bad_pixels(side: int, rng: np.random.Generator) -> Field:
    """Two to six pixels that read wrong, in a row or about; one alone could be a target."""
    field = np.zeros((side, side))
    count = int(rng.integers(2, 7))
    if rng.random() < 0.5:
        row, col = int(rng.integers(side)), int(rng.integers(max(side - count, 1)))
        field[row, col : col + count] = rng.uniform(0.7, 1.3, field[row, col : col + count].shape)
    else:
        where = rng.choice(side * side, count, replace=False)
        field.flat[where] = rng.choice([-1.0, 1.0], count) * rng.uniform(0.7, 1.3, count)
    return 2 * field


def _axes(side: int, angle: float) -> tuple[Field, Field]:
    """Coordinates along a direction and across it, pixels from the middle of a square."""
    place = np.arange(side) - (side - 1) / 2
    cos, sin = np.cos(angle), np.sin(angle)
    return cos * place + sin * place[:, None], -sin * place + cos * place[:, None]


def _streak(side: int, rng: np.random.Generator) -> Field:
    """A thin straight line with soft ends: a satellite, a wire, a read-out line."""
    along, across = _axes(side, rng.choice([0.0, np.pi / 2, rng.uniform(0, np.pi)]))
    length = rng.uniform(0.25, 0.4) * side
    thin = np.exp(-0.5 * (across / rng.uniform(0.4, 0.9)) ** 2)
    ends = 1 / (1 + np.exp(np.abs(along) - length))
    return np.asarray(thin * ends * _window(side))


def _edge(side: int, rng: np.random.Generator) -> Field:
    """A soft step that fades out: the rim of a cloud, a ridge, a roof."""
    across, along = _axes(side, rng.uniform(0, 2 * np.pi))
    bend = rng.uniform(-0.02, 0.02) * along**2
    return np.asarray(np.tanh((across + bend) / rng.uniform(0.7, 2.0)) * _window(side))


def _cloud(side: int, rng: np.random.Generator) -> Field:
    """A patch of noise that is smooth at the scale of clouds."""
    coarse = rng.normal(0, 1, (side, side))
    field: NDArray[Any] = cv2.GaussianBlur(coarse, (0, 0), rng.uniform(0.12, 0.2) * side)
    fine: NDArray[Any] = cv2.GaussianBlur(coarse, (0, 0), 2.0)
    field = field / max(float(field.std()), 1e-6) + 0.3 * fine / max(float(fine.std()), 1e-6)
    return np.asarray(field * _window(side))


@lru_cache(maxsize=64)
def _window(side: int) -> NDArray[np.float64]:
    """Weights that fall to 0 at the border of a square."""
    wave = np.sin(np.pi * (np.arange(side) + 0.5) / side)
    return np.asarray(np.outer(wave, wave))


_SIDES: dict[Kind, tuple[int, int]] = {
    "turned": (23, 40),
    "bad-pixels": (8, 24),
    "streak": (24, 64),
    "edge": (24, 48),
    "cloud": (24, 64),
}
_FORMS = {"bad-pixels": _bad_pixels, "streak": _streak, "edge": _edge, "cloud": _cloud}
