"""Moved targets: a target is taken from its place and put, turned and scaled, where it fits.

What is moved is the target's residual over the local background, so neither a hole nor a seam is
left: where it was, the background is continued from around with grain from beside it; where it
comes to lie, the background stays and the residual is added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import cv2
import numpy as np
import scipy
from numpy.typing import NDArray

from synth.blend import span_border
from synth.frames import Frame, Mask
from synth.seeds import generator
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


@dataclass(frozen=True, slots=True)
class Moved:
    """An image after a move.

    Attributes
    ----------
    image : (H, W) ndarray of the image's dtype
    mask : (H, W) ndarray of bool
    shift : tuple of int
        Rows and columns from the old place to the new one; (0, 0) where no place fits.
    scale : float
        Factor on the residual.
    """

    image: Frame
    mask: Mask
    shift: tuple[int, int]
    scale: float


class Mover:
    """An image whose targets are moved, each time one; what moves have in common is computed once.

    Parameters
    ----------
    image : (H, W) ndarray of uint8 or uint16
    mask : (H, W) ndarray of bool
    targets : sequence of Target
        Those of `mask`.
    """

    def __init__(self, image: Frame, mask: Mask, targets: Sequence[Target]) -> None:
        self._image = image
        self._mask = mask
        self._targets = targets
        self._lifted: dict[tuple[int, bool, float], _Lifted] = {}

    def move(
        self,
        target: int,
        draw: int,
        *,
        stay: bool = False,
        angle: float = 0.0,
        scr: float = 0.0,
        zoom: float = 1.0,
    ) -> Moved:
        """Move one target.

        Parameters
        ----------
        target : int
            Index of the target.
        draw : int
            Seed of the place, 0 or more.
        stay : bool
            Leave it at its place, to turn or scale it alone.
        angle : float
            Turn it counter-clockwise about its centre, degrees. The mask is turned by area: a
            pixel belongs to it where half of the pixel does or more. A mask that lies off its
            target lies off as before.
        scr : float
            Signal-to-clutter ratio (`synth.targets.local_scr`) that it is scaled to, as far as a
            factor between 0.2 and 2.5 does it; 0 leaves its contrast.
        zoom : float
            Factor on its size, above 0.

        Returns
        -------
        Moved

        Raises
        ------
        ValueError
            There is no such target.
        """
        self._require(target)
        lifted = self._lift(target, angle, zoom)
        shift = (0, 0)
        if not stay:
            shift = self._find_place(target, draw, self._taken, self, zoom) or shift
        if shift != (0, 0):
            left = lifted.without(self._find_grain(lifted.window.size, target, draw))
        elif angle or scr or zoom != 1:
            left = lifted.values - lifted.residual
        else:
            return Moved(self._image.copy(), self._mask.copy(), (0, 0), 1.0)
        residual, near = self._turn(lifted, angle, zoom, target)
        image, mask = self._image.copy(), self._without(target)
        new = lifted.window.shifted(shift)
        scale = _add(image, mask, new, near, residual, scr, (lifted.window, left))
        return Moved(image, mask, shift, scale)

    def copy(
        self,
        target: int,
        draw: int,
        onto: tuple[Frame, Mask],
        *,
        angle: float = 0.0,
        scr: float = 0.0,
        zoom: float = 1.0,
        host: Mover | None = None,
    ) -> Moved | None:
        """Put a copy of a target into a changed version of the image, and leave the target.

        Parameters
        ----------
        target, draw, angle, scr, zoom
            As for `move`.
        onto : tuple of image and mask
            (H, W) ndarrays, what the image and its mask have become.
        host : Mover, optional
            `onto` is another image, and this is what it was like to begin with. Its places are
            held against the target's own by how rough they are, and by how bright they are within
            their image, for the two may be of different cameras.

        Returns
        -------
        Moved or None
            Copies of both with the target in them; None where no place is free.

        Raises
        ------
        ValueError
            There is no such target, or the images are of different depths.
        """
        self._require(target)
        host = host or self
        if onto[0].dtype != self._image.dtype:
            raise ValueError(f"a target of {self._image.dtype} cannot go into {onto[0].dtype}")
        taken = np.asarray(cv2.integral(onto[1].view(np.uint8)), np.int32)
        shift = self._find_place(target, draw, taken, host, zoom)
        if shift is None:
            return None
        image, mask = onto[0].copy(), onto[1].copy()
        lifted = self._lift(target, angle, zoom)
        residual, near = self._turn(lifted, angle, zoom, target)
        window = lifted.window.shifted(shift, mask.shape)
        scale = _add(image, mask, window, near, residual, scr)
        return Moved(image, mask, shift, scale)

    def _require(self, target: int) -> None:
        if not 0 <= target < len(self._targets):
            raise ValueError(f"there is no target {target} among {len(self._targets)}")

    def _without(self, target: int) -> Mask:
        """The mask of the other targets."""
        mask = self._mask.copy()
        window = box_window(self._targets[target].box)
        mask[window] &= self.labels[window] != target + 1
        return mask

    def _lift(self, target: int, angle: float, zoom: float) -> _Lifted:
        """Tell a target from its background, once; one that is turned or grows needs more room."""
        key = target, bool(angle), max(zoom, 1.0)
        if key not in self._lifted:
            self._lifted[key] = self._lift_anew(*key)
        return self._lifted[key]

    def _lift_anew(self, target: int, turned: bool, zoom: float) -> _Lifted:
        top, left, bottom, right = self._targets[target].box
        half = max(bottom - top, right - left) // 2 + 1
        if turned:
            half = int(np.ceil(half * np.sqrt(2)))
        reach = int(np.ceil((half + _REACH) * zoom))
        row, col = self._targets[target].row, self._targets[target].col
        window = _Window.of(row - reach, col - reach, 2 * reach + 1, self._mask.shape)
        # Beyond the border the image goes on as its mirror image, for the arithmetic alone.
        values = window.cut(self._image).astype(np.float64)
        near = (window.cut(self.labels) == target + 1) & window.covers()
        weight = _weigh(near)
        background = _continue(values, weight)
        return _Lifted(window, values, near, weight, background, weight * (values - background))

    @cached_property
    def _range(self) -> float:
        return float(np.ptp(self._image))

    @cached_property
    def labels(self) -> NDArray[np.int32]:
        """(H, W): 0 for background, and for each target its index plus 1."""
        return label_targets(self._mask)[1]

    @cached_property
    def offsets(self) -> Floats:
        """(n, 2): how far the mask of each target lies beside it; see `measure_offsets`."""
        return offsets_of(self._image, self._targets, self.labels)

    @cached_property
    def _surroundings(self) -> tuple[Floats, Floats]:
        """Local mean and local clutter of the image, as if it had no targets."""
        values = self._image.astype(np.float32)
        for target in self._targets:
            self._fill(values, target)
        mean = cv2.blur(values, (15, 15))
        values -= cv2.blur(values, (5, 5))
        clutter = cv2.blur(np.square(values, out=values), (15, 15))
        np.sqrt(np.maximum(clutter, 0, out=clutter), out=clutter)
        return cast(tuple[Floats, Floats], (mean, clutter))

    def _fill(self, values: NDArray[np.float32], target: Target) -> None:
        """Fill what a target covers, and its blur, with the mean of what is known around."""
        inner = box_window(target.box, _OWN)
        # As far as the means see, and the blur of other targets reaches there.
        outer = box_window(target.box, 2 * _OWN + _AROUND // 2)
        reach = np.ones((2 * _OWN + 1, 2 * _OWN + 1), np.uint8)
        covered = cv2.dilate(self._mask[outer].view(np.uint8), reach)
        known = (1 - covered).astype(np.float32)
        share = np.maximum(cv2.blur(known, (_AROUND, _AROUND)), 1e-3)
        near = cv2.blur(values[outer] * known, (_AROUND, _AROUND)) / share
        seen = _within(inner, outer)
        np.copyto(values[inner], near[seen], where=covered[seen] > 0)

    def _find_place(
        self, target: int, draw: int, taken: NDArray[np.int32], host: Mover, zoom: float
    ) -> tuple[int, int] | None:
        """The shift to the place of an image that is most like the old one, of those that are free.

        `taken` are the sums of the mask that the image has by now.
        """
        height, width = host._mask.shape
        top, left, bottom, right = self._grown_box(target, zoom)
        rows, cols = bottom - top + 2 * _CLEAR, right - left + 2 * _CLEAR
        if rows >= height or cols >= width:
            return None
        rng = generator(draw, "place")
        tops = rng.integers(0, height - rows, _PLACES)
        lefts = rng.integers(0, width - cols, _PLACES)
        sums, step = taken.ravel(), taken.shape[1]
        first = tops * step + lefts
        last = first + rows * step
        free = np.flatnonzero(
            sums[last + cols] - sums[first + cols] - sums[last] + sums[first] == 0
        )
        if not len(free):
            return None
        row, col = self._targets[target].row, self._targets[target].col
        mean, clutter = (found[row, col] for found in self._surroundings)
        means, clutters = (found.ravel() for found in host._surroundings)
        down, along = tops[free] + (_CLEAR - top), lefts[free] + (_CLEAR - left)
        at = row * width + col + down * width + along
        if host is not self:
            mean += host._level - self._level
        spread = 0.05 * self._range + 1.0
        brighter = (means[at] - mean) / spread
        rougher = np.log((clutters[at] + 0.3) / (clutter + 0.3)) / 0.3
        best = int(np.argmin(brighter**2 + rougher**2))
        return int(down[best]), int(along[best])

    def _grown_box(self, target: int, zoom: float) -> tuple[int, int, int, int]:
        """The target's box with room for it to grow; it may reach beyond the image."""
        top, left, bottom, right = self._targets[target].box
        more = max(0, int(np.ceil((zoom - 1) * max(bottom - top, right - left) / 2)))
        return top - more, left - more, bottom + more, right + more

    @cached_property
    def _level(self) -> float:
        return float(self._image.mean())

    @cached_property
    def _taken(self) -> NDArray[np.int32]:
        """Sums of the mask's pixels above and left of every place."""
        return np.asarray(cv2.integral(self._mask.view(np.uint8)), np.int32)

    def _find_grain(self, size: int, target: int, draw: int) -> Floats:
        """Fine structure of a place without targets beside the target."""
        height, width = self._image.shape
        nothing = np.zeros((size, size))
        if size > min(height, width):
            return nothing
        rng = generator(draw, "grain")
        row, col = self._targets[target].row, self._targets[target].col
        away = 3 * size
        tops = rng.integers(max(row - away, 0), min(row + away, height - size) + 1, 24)
        lefts = rng.integers(max(col - away, 0), min(col + away, width - size) + 1, 24)
        clutter = self._surroundings[1]
        half = size // 2
        order = np.argsort(
            np.abs(np.log((clutter[tops + half, lefts + half] + 0.3) / (clutter[row, col] + 0.3)))
        )
        for place in order:
            top, left = int(tops[place]), int(lefts[place])
            if not self._mask[top : top + size, left : left + size].any():
                patch = self._image[top : top + size, left : left + size].astype(np.float64)
                return patch - _smooth(patch)
        return nothing

    def _turn(self, lifted: _Lifted, angle: float, zoom: float, target: int) -> tuple[Floats, Mask]:
        """Turn and enlarge a residual, and the mask by its area, each about its own centre."""
        residual, near = lifted.target
        if not angle and zoom == 1:
            return residual, near
        size = len(near)
        places = np.argwhere(near)
        centre = places.mean(0)
        seen = centre - self.offsets[target]
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
    """A square of an image that may reach beyond it.

    `inside` is the part of the image that it shows, and `own` the part of the window that this is.
    """

    top: int
    left: int
    size: int
    shape: tuple[int, ...]
    inside: tuple[slice, slice]
    own: tuple[slice, slice]

    @classmethod
    def of(cls, top: int, left: int, size: int, shape: tuple[int, ...]) -> _Window:
        """A window of an image of that shape."""
        rows, own_rows = _overlap(top, size, shape[0])
        cols, own_cols = _overlap(left, size, shape[1])
        return cls(top, left, size, shape, (rows, cols), (own_rows, own_cols))

    def shifted(self, shift: tuple[int, int], shape: tuple[int, ...] | None = None) -> _Window:
        """The window so many rows and columns on, in an image of another shape if one is given."""
        shape = self.shape if shape is None else shape
        return _Window.of(self.top + shift[0], self.left + shift[1], self.size, shape)

    def cut(self, image: Any) -> Any:
        """What the window shows, beyond the image its mirror image; not to be written to."""
        if self.own == (slice(0, self.size),) * 2:
            return image[self.inside]
        rows, cols = (
            _mirrored(start + np.arange(self.size), length)
            for start, length in zip((self.top, self.left), image.shape, strict=True)
        )
        return image[np.ix_(rows, cols)]

    def covers(self) -> Mask:
        """Which of its pixels are in the image."""
        found = np.zeros((self.size, self.size), bool)
        found[self.own] = True
        return found

    def within(self, part: tuple[slice, slice], shape: tuple[int, ...]) -> _Window:
        """The window as it lies in a part of the image that is of that shape."""
        rows, cols = part
        return _Window.of(self.top - rows.start, self.left - cols.start, self.size, shape)

    def put(self, image: NDArray[Any], patch: NDArray[Any]) -> None:
        image[self.inside] = patch[self.own]

    def add(self, image: Floats, patch: Floats) -> None:
        image[self.inside] += patch[self.own]

    def mark(self, mask: Mask, near: Mask) -> None:
        """Put a label into a mask."""
        mask[self.inside] |= near[self.own]

    def put_rounded(self, image: Frame, patch: Floats) -> None:
        """Put a patch into an image, as whole numbers in the image's range."""
        image[self.inside] = np.rint(patch[self.own]).clip(0, np.iinfo(image.dtype).max)


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

    @property
    def target(self) -> tuple[Floats, Mask]:
        """Its residual, and its label."""
        return self.residual, self.near

    def without(self, grain: Floats) -> Floats:
        """The window without the target."""
        return (1 - self.weight) * self.values + self.weight * (self.background + grain)


def _overlap(start: int, size: int, length: int) -> tuple[slice, slice]:
    """Which part of an axis a line of pixels covers, and which part of the line that is."""
    first = max(start, 0)
    last = max(min(start + size, length), first)
    return slice(first, last), slice(first - start, last - start)


def _mirrored(places: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Indices along an axis that goes on as its mirror image at both ends."""
    places = places % (2 * length)
    return np.minimum(places, 2 * length - 1 - places)


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
    if left is not None:
        before, patch = left
        before.put_rounded(image, patch)
        before.within(area, values.shape).put(values, patch)
    here = window.within(area, values.shape)
    scale = _scale_for(scr, values, mask[area], here, near, residual) if scr > 0 else 1.0
    here.add(values, scale * residual)
    window.put_rounded(image, here.cut(values))
    window.mark(mask, near)
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
    window.within(surroundings, labels.shape).mark(labels, near)
    around = image[surroundings][~labels]
    clutter = float(around.std()) if around.size else 0.0
    if clutter == 0:
        return 1.0
    wanted = float(np.sign(mean)) * scr * clutter + float(around.mean())
    scale = (wanted - float(image[window.inside][seen].mean())) / mean
    return float(np.clip(scale, *_SCALES))
