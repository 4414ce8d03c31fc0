"""Targets taken from their place, and put, turned and scaled, where they fit.

What is moved is the target's residual over the local background, so neither a hole nor a seam is
left: where it was, the background is continued from around with grain from beside it; where it
comes to lie, the background stays and the residual is added.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import cv2
import numpy as np
import scipy
from numpy.typing import NDArray

from synth.frames import Frame, Mask
from synth.scene import Labelled, Scene
from synth.seeds import quick_generator
from synth.steps.base import DRAWS, Choice, Step, check_range, check_span
from synth.steps.blend import span_border
from synth.targets import Target, box_window, label_targets, offsets_of

Floats = NDArray[np.float64]

# Optics spread a target beyond its mask: so many pixels around it count as its own, and over as
# many more it fades into the background.
_OWN, _FADE = 2, 3
_REACH = _OWN + _FADE

# Side of the means that a target and its blur are filled with, to see the image without them.
_AROUND = 17

# Places that are looked at, of which the one that is most like the old one is taken.
_PLACES = 48

# Clear of other targets, and of the image's border, in pixels.
_CLEAR = 4

# A residual is scaled by no more and no less, as its noise is scaled with it.
_SCALES = (0.2, 2.5)

# Neighbourhood of `synth.targets.local_scr`.
_MARGIN = 20

_FINENESS = 8

# Bins of signal-to-clutter ratios in reports begin here.
_SCR_BINS = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0)


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of a target where it comes to lie.

    Attributes
    ----------
    draw : int
        Seed of the place, 0 or more.
    angle : float
        It is turned counter-clockwise about its centre, degrees. The mask is turned by area: a
        pixel belongs to it where half of the pixel does or more. A mask that lies off its target
        lies off as before.
    scr : float
        Signal-to-clutter ratio (`synth.targets.local_scr`) that it is scaled to, as far as a
        factor between 0.2 and 2.5 does it; 0 leaves its contrast.
    zoom : float
        Factor on its size, above 0.
    """

    draw: int
    angle: float = 0.0
    scr: float = 0.0
    zoom: float = 1.0

    @classmethod
    def of(cls, choice: Choice) -> Change:
        """The change that a step's choice has."""
        return cls(
            **{key: choice[key] for key in ("draw", "angle", "scr", "zoom") if key in choice}
        )

    def __str__(self) -> str:
        """What of it is not as it was, in words that go on."""
        turned = f", turned by {self.angle:.0f}°" if self.angle else ""
        grown = f", enlarged {self.zoom:.2f} times" if self.zoom != 1 else ""
        return turned + grown + (f", to SCR {self.scr:.1f}" if self.scr else "")


@dataclass(frozen=True, kw_only=True)
class PlacingStep(Step):
    """Settings of the steps that put targets where they fit.

    Attributes
    ----------
    scr : tuple of float or None
        A target is scaled to a signal-to-clutter ratio drawn between these, evenly in its
        logarithm; None leaves its contrast.
    zoom : tuple of float or None
        A target is enlarged by a factor drawn between these, evenly in its logarithm; None leaves
        its size.
    angle : float
        A target is turned by up to ± this, degrees.
    """

    scr: tuple[float, float] | None = None
    zoom: tuple[float, float] | None = None
    angle: float = 0.0

    def __post_init__(self) -> None:
        check_span("scr", self.scr, 1e-3, 100)
        check_span("zoom", self.zoom, 0.25, 8)
        check_range("angle", self.angle, 0, 180)

    def variants(self, scene: Labelled) -> list[Choice]:
        """See `Step`: every target."""
        return [{"target": target.index} for target in scene.targets]

    def suits(self, scene: Scene) -> bool:
        """See `Step`: there must be a target."""
        return bool(scene.targets)

    def tally(self, choice: Choice, facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        for one in choice.get("targets", [choice]):
            change = Change.of(one)
            if change.angle:
                low = 15 * math.floor(change.angle / 15)
                yield "turn of a moved target", f"{low} to {low + 15}°"
            place = bisect.bisect(_SCR_BINS, change.scr)
            bin_ = f"{_SCR_BINS[place - 1]:g} to {[*_SCR_BINS, math.inf][place]:g}"
            yield "SCR of a moved target", bin_ if change.scr else "left as it was"
            if change.zoom != 1:
                size = 0.5 * math.floor(change.zoom / 0.5)
                yield "size of a moved target", f"{size:g} times and more"

    def draw_change(self, rng: np.random.Generator) -> Choice:
        """Draw where a target comes to lie, and what it is like there; see `Change.of`."""
        change: Choice = {"draw": int(rng.integers(DRAWS))}
        if self.angle:
            change["angle"] = round(float(rng.uniform(-self.angle, self.angle)), 3)
        if self.scr is not None:
            change["scr"] = round(float(np.exp(rng.uniform(*np.log(self.scr)))), 4)
        if self.zoom is not None:
            change["zoom"] = round(float(np.exp(rng.uniform(*np.log(self.zoom)))), 2)
        return change


class Placed(NamedTuple):
    """An image with a target at its new place.

    Attributes
    ----------
    image, mask : (H, W) ndarrays
        New arrays.
    shift : tuple of int
        Rows and columns from the old place to the new one; (0, 0) where no place fits.
    scale : float
        Factor on the target's residual.
    """

    image: Frame
    mask: Mask
    shift: tuple[int, int]
    scale: float = 1.0


def move_target(scene: Scene, target: int, change: Change, *, stay: bool = False) -> Placed:
    """Move one target within its image.

    Parameters
    ----------
    scene : Scene
    target : int
        Index of the target.
    change : Change
    stay : bool
        Leave it at its place, to turn or scale it alone.

    Returns
    -------
    Placed
    """
    lifted = _lift(scene, target, change)
    image, mask = scene.image.copy(), scene.mask.copy()
    shift = (0, 0)
    if not stay:
        shift = _find_place(scene, target, change, scene) or shift
    if shift != (0, 0):
        left = lifted.without(_find_grain(scene, lifted.window.size, target, change.draw))
    elif change.angle or change.scr or change.zoom != 1:
        left = lifted.values - lifted.residual
    else:
        return Placed(image, mask, shift)
    residual, near = _turn(scene, lifted, target, change)
    window = box_window(scene.targets[target].box)
    mask[window] &= scene.once_of_mask(label_map)[window] != target + 1
    new = lifted.window.shifted(*shift, mask.shape)
    scale = _add(image, mask, new, near, residual, change.scr, (lifted.window, left))
    return Placed(image, mask, shift, scale)


def copy_target(scene: Scene, target: int, change: Change, onto: Scene) -> Placed | None:
    """Put a copy of a target into an image, the same or another one.

    In another image places are held against the target's own by how rough they are, and by how
    bright they are within their image, for the two may be of different cameras.

    Parameters
    ----------
    scene : Scene
    target : int
        Index of the target.
    change : Change
    onto : Scene
        The image that it goes into, of the same depth.

    Returns
    -------
    Placed or None
        `onto` with the target in it; None where no place is free.
    """
    shift = _find_place(scene, target, change, onto)
    if shift is None:
        return None
    image, mask = onto.image.copy(), onto.mask.copy()
    lifted = _lift(scene, target, change)
    residual, near = _turn(scene, lifted, target, change)
    window = lifted.window.shifted(*shift, mask.shape)
    scale = _add(image, mask, window, near, residual, change.scr)
    return Placed(image, mask, shift, scale)


def label_map(mask: Mask) -> NDArray[np.int32]:
    """(H, W): 0 for background, and for each target of a mask its index plus 1."""
    return label_targets(mask)[1]


def target_offsets(scene: Scene) -> Floats:
    """(n, 2): how far the mask of each target lies beside it; see `measure_offsets`."""
    return offsets_of(scene.image, scene.targets, scene.once_of_mask(label_map))


def _lift(scene: Scene, target: int, change: Change) -> _Lifted:
    """Tell a target from its background; one that is turned or grows needs more room."""
    how = target, bool(change.angle), max(change.zoom, 1.0)
    # Zooms are all different, and a scene would remember each of them.
    return scene.once(_lift_anew, *how) if change.zoom <= 1 else _lift_anew(scene, *how)


def _lift_anew(scene: Scene, target: int, turned: bool, zoom: float) -> _Lifted:
    found = scene.targets[target]
    top, left, bottom, right = found.box
    half = max(bottom - top, right - left) // 2 + 1
    if turned:
        half = int(np.ceil(half * np.sqrt(2)))
    reach = int(np.ceil((half + _REACH) * zoom))
    window = _Window.of(found.row - reach, found.col - reach, 2 * reach + 1, scene.shape)
    # Beyond the border the image goes on as its mirror image, for the arithmetic alone.
    values = window.cut(scene.image)
    near = np.zeros(values.shape, np.bool_)
    near[window.own] = scene.once_of_mask(label_map)[window.inside] == target + 1
    weight = _weigh(near)
    background = _continue(values, weight)
    return _Lifted(window, values, near, weight, background, weight * (values - background))


def _surroundings(scene: Scene) -> tuple[Floats, Floats]:
    """Local mean and local clutter of an image, as if it had no targets."""
    values = scene.image.astype(np.float32)
    for target in scene.targets:
        _fill(values, scene.mask, target)
    mean = cv2.blur(values, (15, 15))
    values -= cv2.blur(values, (5, 5))
    clutter = cv2.blur(np.square(values, out=values), (15, 15))
    np.sqrt(np.maximum(clutter, 0, out=clutter), out=clutter)
    return cast(tuple[Floats, Floats], (mean, clutter))


def _fill(values: NDArray[np.float32], mask: Mask, target: Target) -> None:
    """Fill what a target covers, and its blur, with the mean of what is known around."""
    inner = box_window(target.box, _OWN)
    # As far as the means see, and the blur of other targets reaches there.
    outer = box_window(target.box, 2 * _OWN + _AROUND // 2)
    reach = np.ones((2 * _OWN + 1, 2 * _OWN + 1), np.uint8)
    covered = cv2.dilate(mask[outer].view(np.uint8), reach)
    known = (1 - covered).astype(np.float32)
    share = np.maximum(cv2.blur(known, (_AROUND, _AROUND)), 1e-3)
    near = cv2.blur(values[outer] * known, (_AROUND, _AROUND)) / share
    seen = _within(inner, outer)
    np.copyto(values[inner], near[seen], where=covered[seen] > 0)


def _find_place(scene: Scene, target: int, change: Change, onto: Scene) -> tuple[int, int] | None:
    """The shift to the place of an image that is most like the old one, of those that are free."""
    height, width = onto.shape
    top, left, bottom, right = _grown_box(scene.targets[target], change.zoom)
    rows, cols = bottom - top + 2 * _CLEAR, right - left + 2 * _CLEAR
    if rows >= height or cols >= width:
        return None
    rng = quick_generator(change.draw, "place")
    tops = rng.integers(0, height - rows, _PLACES)
    lefts = rng.integers(0, width - cols, _PLACES)
    taken = onto.once(_taken)
    sums, step = taken.ravel(), taken.shape[1]
    first = tops * step + lefts
    last = first + rows * step
    free = np.flatnonzero(sums[last + cols] - sums[first + cols] - sums[last] + sums[first] == 0)
    if not len(free):
        return None
    row, col = scene.targets[target].row, scene.targets[target].col
    # Targets that were put in before change nothing of what is around.
    here, there = scene.ground, onto.ground
    mean, clutter = (found[row, col] for found in here.once(_surroundings))
    means, clutters = (found.ravel() for found in there.once(_surroundings))
    down, along = tops[free] + (_CLEAR - top), lefts[free] + (_CLEAR - left)
    at = row * width + col + down * width + along
    if there is not here:
        mean += there.once(_level) - here.once(_level)
    spread = 0.05 * here.once(_range) + 1.0
    brighter = (means[at] - mean) / spread
    rougher = np.log((clutters[at] + 0.3) / (clutter + 0.3)) / 0.3
    best = int(np.argmin(brighter**2 + rougher**2))
    return int(down[best]), int(along[best])


def _grown_box(target: Target, zoom: float) -> tuple[int, int, int, int]:
    """The target's box with room for it to grow; it may reach beyond the image."""
    top, left, bottom, right = target.box
    more = max(0, int(np.ceil((zoom - 1) * max(bottom - top, right - left) / 2)))
    return top - more, left - more, bottom + more, right + more


def _range(scene: Scene) -> float:
    return float(np.ptp(scene.image))


def _level(scene: Scene) -> float:
    return float(scene.image.mean())


def _taken(scene: Scene) -> NDArray[np.int32]:
    """Sums of the mask's pixels above and left of every place."""
    return np.asarray(cv2.integral(scene.mask.view(np.uint8)), np.int32)


def _find_grain(scene: Scene, size: int, target: int, draw: int) -> Floats:
    """Fine structure of a place without targets beside the target."""
    height, width = scene.shape
    nothing = np.zeros((size, size))
    if size > min(height, width):
        return nothing
    rng = quick_generator(draw, "grain")
    row, col = scene.targets[target].row, scene.targets[target].col
    away = 3 * size
    tops = rng.integers(max(row - away, 0), min(row + away, height - size) + 1, 24)
    lefts = rng.integers(max(col - away, 0), min(col + away, width - size) + 1, 24)
    clutter = scene.ground.once(_surroundings)[1]
    half = size // 2
    order = np.argsort(
        np.abs(np.log((clutter[tops + half, lefts + half] + 0.3) / (clutter[row, col] + 0.3)))
    )
    for place in order:
        top, left = int(tops[place]), int(lefts[place])
        if not scene.mask[top : top + size, left : left + size].any():
            patch = scene.image[top : top + size, left : left + size].astype(np.float64)
            return patch - _smooth(patch)
    return nothing


def _turn(scene: Scene, lifted: _Lifted, target: int, change: Change) -> tuple[Floats, Mask]:
    """Turn and enlarge a residual, and the mask by its area, each about its own centre."""
    residual, near = lifted.residual, lifted.near
    angle, zoom = change.angle, change.zoom
    if not angle and zoom == 1:
        return residual, near
    size = len(near)
    places = np.argwhere(near)
    centre = places.mean(0)
    seen = centre - scene.once(target_offsets)[target]
    if zoom < 1:
        # Finer than its pixels will be, it would leave patterns.
        blurred = cv2.GaussianBlur(residual, (0, 0), 0.5 * float(np.sqrt(zoom**-2 - 1)))
        residual = np.asarray(blurred, np.float64)
    forth = cv2.getRotationMatrix2D((float(seen[1]), float(seen[0])), angle, zoom)
    back = np.linalg.inv(np.vstack([forth, (0, 0, 1)]))[1::-1]
    # OpenCV's warpAffine is in float32 also for float64, and so depends on the processor.
    turned = scipy.ndimage.affine_transform(
        residual, back[:, 1::-1], back[:, 2], mode="grid-constant"
    )
    fine: Any = np.kron(near, np.ones((_FINENESS, _FINENESS), np.uint8)).astype(np.uint8)
    middle = (centre + 0.5) * _FINENESS - 0.5
    fine = cv2.warpAffine(
        fine,
        cv2.getRotationMatrix2D((float(middle[1]), float(middle[0])), angle, zoom),
        fine.shape,
        flags=cv2.INTER_NEAREST,
    )
    share = fine.reshape(size, _FINENESS, size, _FINENESS).mean((1, 3))
    # As many pixels as its area asks for, those that it covers most: half of them or more, but
    # for what is a matter of a pixel.
    order = np.argsort(-share, axis=None, kind="stable")
    label = np.zeros(size * size, bool)
    order = order[: max(1, round(len(places) * zoom**2))]
    label[order] = share.ravel()[order] > 0
    return turned, label.reshape(size, size)


@dataclass(frozen=True, slots=True)
class _Window:
    """A square that may reach beyond its image.

    `inside` is the part of the image that it shows, and `own` the part of the square that this is.
    """

    top: int
    left: int
    size: int
    inside: tuple[slice, slice]
    own: tuple[slice, slice]

    @classmethod
    def of(cls, top: int, left: int, size: int, shape: tuple[int, ...]) -> _Window:
        """A window of an image of that shape."""
        rows, own_rows = _overlap(top, size, shape[0])
        cols, own_cols = _overlap(left, size, shape[1])
        return cls(top, left, size, (rows, cols), (own_rows, own_cols))

    def shifted(self, down: int, along: int, shape: tuple[int, ...]) -> _Window:
        """The window so many rows and columns on, in an image of that shape."""
        return _Window.of(self.top + down, self.left + along, self.size, shape)

    def within(self, part: tuple[slice, slice], shape: tuple[int, ...]) -> _Window:
        """The window as it is in a part of the image that is of that shape."""
        return self.shifted(-part[0].start, -part[1].start, shape)

    def cut(self, image: Frame) -> Floats:
        """What the window shows, beyond the image its mirror image."""
        if self.own == (slice(0, self.size),) * 2:
            return image[self.inside].astype(np.float64)
        missing = [(part.start, self.size - part.stop) for part in self.own]
        return np.pad(image[self.inside].astype(np.float64), missing, mode="symmetric")


@dataclass(frozen=True, slots=True)
class _Lifted:
    """A target and its background in a window around it.

    `near` is its label, and `weight` how much of the values is the target's.
    """

    window: _Window
    values: Floats
    near: Mask
    weight: Floats
    background: Floats
    residual: Floats

    def without(self, grain: Floats) -> Floats:
        """The window without the target."""
        return (1 - self.weight) * self.values + self.weight * (self.background + grain)


def _overlap(start: int, size: int, length: int) -> tuple[slice, slice]:
    """Which part of an axis a line of pixels covers, and which part of the line that is."""
    first = max(start, 0)
    last = max(min(start + size, length), first)
    return slice(first, last), slice(first - start, last - start)


def _weigh(near: NDArray[np.bool_]) -> Floats:
    """1 on a target and what its blur reaches, falling to 0 around."""
    away = cv2.distanceTransform((~near).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    fade = ((away - _OWN) / _FADE).clip(0, 1)
    return np.asarray(0.5 + 0.5 * np.cos(np.pi * fade), np.float64)


def _continue(values: Floats, weight: Floats) -> Floats:
    """Continue what surrounds a target under it: a membrane over the border of its window.

    The border's own grain is smoothed off first, or it would run on as streaks.
    """
    known = (weight <= 0).astype(np.float64)
    share = cv2.GaussianBlur(known, (0, 0), 1.0)
    smooth = cv2.GaussianBlur(values * known, (0, 0), 1.0) / np.maximum(share, 1e-6)
    return span_border(np.where(share > 0.05, smooth, values))


def _smooth(patch: Floats) -> Floats:
    return np.asarray(cv2.GaussianBlur(patch, (0, 0), 2.0))


def _within(inner: tuple[slice, slice], outer: tuple[slice, slice]) -> tuple[slice, slice]:
    """Where one part of an image lies in another."""
    rows, cols = (
        slice(part.start - whole.start, part.stop - whole.start)
        for part, whole in zip(inner, outer, strict=True)
    )
    return rows, cols


def _add(
    image: Frame,
    mask: Mask,
    window: _Window,
    near: Mask,
    residual: Floats,
    scr: float,
    left: tuple[_Window, Floats] | None = None,
) -> float:
    """Add a target to an image and to its mask, and return the factor that it is scaled by.

    `left` is what the target leaves where it was. Whatever lies near is not rounded before the
    target is added.
    """
    top, first, size = window.top, window.left, window.size
    area = box_window((top, first, top + size, first + size), _MARGIN)
    values = image[area].astype(np.float64)
    most = np.iinfo(image.dtype).max
    if left is not None:
        before, patch = left
        image[before.inside] = np.rint(patch[before.own]).clip(0, most)
        seen = before.within(area, values.shape)
        values[seen.inside] = patch[seen.own]
    here = window.within(area, values.shape)
    scale = _scale_for(scr, values, mask[area], here, near, residual) if scr > 0 else 1.0
    values[here.inside] += scale * residual[here.own]
    image[window.inside] = np.rint(values[here.inside]).clip(0, most)
    mask[window.inside] |= near[window.own]
    return scale


def _scale_for(
    scr: float, image: Floats, others: Mask, window: _Window, near: Mask, residual: Floats
) -> float:
    """Factor by which a residual is to be scaled to have an SCR over an image without it.

    `near` is its label, and `window` where the two come to lie.
    """
    mean = float(residual[near].mean()) if near.any() else 0.0
    seen = near[window.own]
    if mean == 0 or not seen.any():
        return 1.0
    rows, cols = (
        np.flatnonzero(seen.any(axis)) + part.start
        for axis, part in zip((1, 0), window.inside, strict=True)
    )
    box = int(rows[0]), int(cols[0]), int(rows[-1]) + 1, int(cols[-1]) + 1
    surroundings = box_window(box, _MARGIN)
    labels = others[surroundings].copy()
    marked = window.within(surroundings, labels.shape)
    labels[marked.inside] |= near[marked.own]
    around = image[surroundings][~labels]
    clutter = float(around.std()) if around.size else 0.0
    if clutter == 0:
        return 1.0
    wanted = float(np.sign(mean)) * scr * clutter + float(around.mean())
    scale = (wanted - float(image[window.inside][seen].mean())) / mean
    return float(np.clip(scale, *_SCALES))
