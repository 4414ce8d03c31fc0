"""Training windows: what is chosen at random is a record, what it does is a pure function.

Both work on whole batches. The images lie one behind the other in one tensor, on the device that
trains, so a window is a matter of indices: one look-up cuts, mirrors and transposes the windows of
a batch, whatever the sizes of their images, and moves pixels without changing them. Only windows
that are scaled or rotated are interpolated, again in one go.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr
from torch import Tensor
from torch.nn import functional as F

from detect.recipe import Augment

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

_KINDS = ("mirror", "transpose", "scale", "shift", "rotation", "blur", "gain", "offset", "noise")

GEOMETRY_DRAWS = 13 + len(_KINDS)
"""Random numbers that decide where a window lies and which kinds of change it gets."""

DRAWS = GEOMETRY_DRAWS + 8
"""Random numbers that decide all of a window."""

# More than half of a pixel; the bit more keeps rounding from deciding where it is just half.
_MOST = 0.5001

_NOISE_FIELD = 1 << 22

# σ in pixels of the filters that darken borders. Those of NUDT-SIRST's images, whose outermost row
# keeps 0.5 of its value at the top and 0.85 to 0.93 at the bottom, the next one 0.87 to 0.98 and
# 0.95 to 0.99, lie between them.
_BORDER_FILTERS = 0.4, 1.2

# So many pixels from the border a filter of the greatest σ has no effect any more.
_BORDER_DEPTH = 6


@dataclass(frozen=True)
class ImageBank:
    """Labelled images of any sizes, one behind the other.

    Attributes
    ----------
    pixels : (P,) Tensor of uint8 or int16
        DN in raster order; 16-bit ones as the integers of the same bits.
    masks : (P,) Tensor of uint8
        Masks for the four ways to mirror: bit 0 is set on targets of windows that are not
        mirrored, bit 1 with `Views.flip_rows`, bit 2 with `Views.flip_cols`, bit 3 with both.
    start : (n,) ndarray of int
        Where each image begins.
    shape : (n, 2) ndarray of int
        (H, W) of each.
    centres : sequence of (k, 2) ndarray of float
        Centroids (row, col) of each image's targets.
    """

    pixels: Tensor
    masks: Tensor
    start: Integers
    shape: Integers
    centres: Sequence[Floats]


@dataclass(frozen=True)
class Views:
    """Windows of N images, and what happens to them; see `detect.recipe.Augment`.

    Attributes
    ----------
    top, left, side : (N,) ndarray of int
        Square windows in pixels of their images; they may reach beyond the borders.
    angle : (N,) ndarray of float
        Rotation about the window's centre in degrees, counter-clockwise.
    flip_rows, flip_cols, transpose : (N,) ndarray of bool
        Applied in this order, after the rotation.
    blur, noise : (N,) ndarray of float
        σ in pixels, and in units of normalised frames; 0 is none.
    border : (N,) ndarray of float
        σ in pixels of the filter that has darkened the window's borders; 0 is none.
    gain, offset : (N,) ndarray of float
        On normalised values.
    noise_start : (N,) ndarray of float
        Place in the field of noise, from 0 to 1.
    """

    top: Integers
    left: Integers
    side: Integers
    angle: Floats
    flip_rows: Booleans
    flip_cols: Booleans
    transpose: Booleans
    blur: Floats
    border: Floats
    gain: Floats
    offset: Floats
    noise: Floats
    noise_start: Floats

    def __len__(self) -> int:
        return len(self.top)

    def __getitem__(self, rows: Integers | Sequence[int]) -> Views:
        return Views(*(getattr(self, field.name)[rows] for field in fields(self)))

    @property
    def corner(self) -> Integers:
        """First row and column, (N, 2)."""
        return np.stack([self.top, self.left], 1)

    @property
    def mirrored(self) -> Integers:
        """Which bit of the masks is theirs, (N,)."""
        return self.flip_rows + 2 * self.flip_cols.astype(np.int64)

    @property
    def turns(self) -> Booleans:
        """`flip_rows`, `flip_cols` and `transpose`, (N, 3)."""
        return np.stack([self.flip_rows, self.flip_cols, self.transpose], 1)

    def to_image(self) -> tuple[Floats, Floats]:
        """Compute where windows come from.

        Returns
        -------
        matrix : (N, 2, 2) ndarray of float
        centre : (N, 2) ndarray of float
            A place (row, col) in the window, from its centre and in units of its side, goes to
            `matrix` times it plus `centre`, in pixels of the image.
        """
        cosine, sine = np.cos(np.radians(self.angle)), np.sin(np.radians(self.angle))
        rotation = np.stack([cosine, sine, -sine, cosine], -1).reshape(-1, 2, 2)
        flips = np.where(self.turns[:, :2], -1.0, 1.0)
        matrix = rotation * flips[:, None, :]
        matrix = np.where(self.transpose[:, None, None], matrix[:, :, ::-1], matrix)
        return matrix * self.side[:, None, None], self.corner + (self.side[:, None] - 1) / 2


def choose_views(augment: Augment, bank: ImageBank, images: Integers, draws: Floats) -> Views:
    """Choose views of images.

    A window is placed as if the image went on for ever, around any of its pixels (or targets)
    alike, and is then moved inside the image. So the pixels at an image's border, and what lies
    near them, are seen often; of windows that lie everywhere inside alike hardly any has them.

    Parameters
    ----------
    augment : Augment
        What may be chosen.
    bank : ImageBank
    images : (N,) ndarray of int
        Which of its images.
    draws : (N, DRAWS) ndarray of float
        Uniform between 0 and 1; the first `GEOMETRY_DRAWS` decide all but the grey values.

    Returns
    -------
    Views
    """
    u = draws.T
    picked = _pick(augment, draws[:, 13:GEOMETRY_DRAWS])
    half = 0.5 if augment.pick is None else 1.0

    low, high = augment.scale
    zoom = np.where(picked["scale"], low + (high - low) * u[0], 1.0)
    side = np.maximum(np.rint(augment.crop / zoom), 1).astype(np.int64)
    extent = bank.shape[images]
    first, places = np.repeat(-(side // 2)[:, None], 2, 1), extent.copy()
    for row, image in enumerate(images):
        centres = bank.centres[image]
        if len(centres) and u[1, row] < augment.target_share:
            centre = centres[int(u[2, row] * len(centres))].astype(np.int64)
            first[row], places[row] = centre - side[row] + 1, side[row]
    corner = first + (draws[:, 3:5] * places).astype(np.int64)
    corner = np.clip(corner, 0, np.maximum(extent - side[:, None], 0))
    shifted = picked["shift"] & (u[5] < half)
    away = augment.shift * (2 * draws[:, 6:8] - 1) * side[:, None]
    corner += np.where(shifted[:, None], np.rint(away), 0).astype(np.int64)

    rotated = picked["rotation"] & (u[8] < half)
    blurred = picked["blur"] & (u[-6] < half)
    weakest, strongest = _BORDER_FILTERS
    border = weakest + (strongest - weakest) * u[-7]
    return Views(
        top=corner[:, 0],
        left=corner[:, 1],
        side=side,
        angle=np.where(rotated, augment.rotation * (2 * u[9] - 1), 0.0),
        flip_rows=picked["mirror"] & (augment.mirror == "both") & (u[10] < 0.5),
        flip_cols=picked["mirror"] & (u[11] < 0.5),
        transpose=picked["transpose"] & (u[12] < half),
        blur=np.where(blurred, augment.blur * u[-5], 0.0),
        border=np.where(u[-8] < augment.border, border, 0.0),
        gain=np.where(picked["gain"], (1 + augment.gain) ** (2 * u[-4] - 1), 1.0),
        offset=np.where(picked["offset"], augment.offset * (2 * u[-3] - 1), 0.0),
        noise=np.where(picked["noise"], augment.noise * u[-2], 0.0),
        noise_start=u[-1],
    )


def take_windows(
    bank: ImageBank, images: Integers, views: Views, augment: Augment
) -> tuple[Tensor, Tensor]:
    """Cut windows out of images, turn, scale and blur them, and darken their borders.

    Parameters
    ----------
    bank : ImageBank
    images : (N,) ndarray of int
    views : Views
        One of each image.
    augment : Augment
        Its `crop`, its `fill`, and the greatest `blur`.

    Returns
    -------
    values : (N, 1, crop, crop) Tensor of float32
        DN.
    truth : (N, 1, crop, crop) Tensor of float32
        0 and 1. A pixel that is interpolated is target where more than half of it is.
    """
    size = augment.crop
    moved = (views.angle != 0) | (views.side != size)
    if not moved.any():
        windows = _look_up(
            bank, images, views.corner, size, augment.fill, views.mirrored, views.turns
        )
    else:
        windows = torch.empty(len(views), 2, size, size, device=bank.pixels.device)
        # A window that shrinks to half its side is sampled at two by two places a pixel.
        fineness = np.where(moved, np.maximum(np.rint(views.side / size), 1), 0).astype(np.int64)
        for fine in np.unique(fineness):
            rows = np.flatnonzero(fineness == fine)
            part, of = views[rows], images[rows]
            windows[_send(rows, windows)] = (
                _interpolate(bank, of, part, size, augment.fill, int(fine))
                if fine
                else _look_up(bank, of, part.corner, size, augment.fill, part.mirrored, part.turns)
            )
    values, truth = windows[:, :1], windows[:, 1:]
    blurred = np.flatnonzero(views.blur)
    if len(blurred):
        index = _send(blurred, windows)
        values[index] = _blur(values[index], views.blur[blurred], augment.blur)
    dimmed = np.flatnonzero(views.border)
    if len(dimmed):
        cut = _find_cuts(views[dimmed], bank.shape[images[dimmed]])
        _darken_borders(values, dimmed, views.border[dimmed], cut)
    return values, truth


def shade(
    values: Tensor,
    offset: NDArray[np.float32],
    scale: NDArray[np.float32],
    views: Views,
    noise_field: Tensor,
) -> Tensor:
    """Normalise windows, and disturb their grey values.

    Parameters
    ----------
    values : (N, 1, H, W) Tensor of float32
        DN.
    offset, scale : (N, C) ndarray of float32
        The frames' normalisation, `Normalisation.affine`.
    views : Views
    noise_field : (K,) Tensor of float32
        `make_noise_field`.

    Returns
    -------
    (N, C, H, W) Tensor of float32
    """
    gain = views.gain[:, None] / scale
    shift = views.offset[:, None] - gain * offset
    gain_, shift_ = (_tensor(array, values)[..., None, None] for array in (gain, shift))
    values = torch.addcmul(shift_, values, gain_)
    if views.noise.any():
        count = values[0, 0].numel()
        starts = (views.noise_start * (len(noise_field) - count)).astype(np.int64)
        places = _send(starts, values)
        noise = noise_field.unfold(0, count, 1).index_select(0, places)
        # The same for all channels: they are copies of one grey frame.
        values.addcmul_(
            noise.view_as(values[:, :1]), _tensor(views.noise, values)[:, None, None, None]
        )
    return values


def make_noise_field(crop: int, seed: int) -> Tensor:
    """Draw the white noise, σ = 1, that windows take theirs from.

    Millions of normal numbers are drawn once, and a window takes a stretch of them: that is some
    ten times as quick as drawing for every window, and the same on all devices.
    """
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(max(_NOISE_FIELD, 4 * crop * crop), generator=generator)


def _pick(augment: Augment, draws: Floats) -> dict[str, Booleans]:
    """Which kinds of change every window gets."""
    asked = {
        "mirror": augment.mirror != "none",
        "transpose": augment.transpose,
        "scale": augment.scale != (1.0, 1.0),
        "shift": augment.shift > 0,
        "rotation": augment.rotation > 0,
        "blur": augment.blur > 0,
        "gain": augment.gain > 0,
        "offset": augment.offset > 0,
        "noise": augment.noise > 0,
    }
    wanted = np.array([asked[kind] for kind in _KINDS])
    chosen = np.broadcast_to(wanted, draws.shape)
    if augment.pick is not None:
        rank = np.where(wanted, draws, 2.0).argsort(1).argsort(1)
        chosen = chosen & (rank < augment.pick)
    return dict(zip(_KINDS, chosen.T, strict=True))


def _look_up(
    bank: ImageBank,
    images: Integers,
    corner: Integers,
    size: int,
    fill: str,
    mirrored: Integers,
    turns: Booleans | None = None,
) -> Tensor:
    """Values and truth of windows of `size` pixels from (N, 2) corners: (N, 2, size, size).

    `mirrored` chooses the masks, and `turns` are flip_rows, flip_cols and transpose, (N, 3).
    """
    if turns is None:
        turns = np.zeros((len(images), 3), bool)
    height, width = bank.shape[images].T
    rows, row_inside = _axis(corner[:, 0], height, size, turns[:, 0], fill)
    cols, col_inside = _axis(corner[:, 1], width, size, turns[:, 1], fill)
    # A pixel's index is a number of its row plus a number of its column.
    rows = rows * width[:, None] + bank.start[images][:, None]
    across = turns[:, 2:]
    device = bank.pixels.device
    dtype = np.int32 if len(bank.pixels) < 2**31 else np.int64
    down = _send(np.where(across, cols, rows).astype(dtype), bank.pixels)
    along = _send(np.where(across, rows, cols).astype(dtype), bank.pixels)
    index = (down[:, :, None] + along[:, None, :]).view(-1)
    shape = len(images), size, size
    pixels = bank.pixels.index_select(0, index).view(shape)
    if pixels.dtype == torch.int16:
        pixels = pixels.int().bitwise_and_(0xFFFF)
    windows = torch.empty(len(images), 2, size, size, device=device)
    windows[:, 0] = pixels
    bit = _send((1 << mirrored).astype(np.uint8), bank.masks)
    masks = bank.masks.index_select(0, index).view(shape)
    windows[:, 1] = masks.bitwise_and_(bit[:, None, None]) != 0
    if not (row_inside.all() and col_inside.all()):
        down = _send(np.where(across, col_inside, row_inside), windows)
        along = _send(np.where(across, row_inside, col_inside), windows)
        windows *= (down[:, :, None] & along[:, None, :])[:, None]
    return windows


def _axis(
    start: Integers, length: Integers, size: int, flip: Booleans, fill: str
) -> tuple[Integers, Booleans]:
    """Indices along one axis of windows, (N, size), and whether the image is there."""
    place = np.arange(size)
    index = start[:, None] + np.where(flip[:, None], place[::-1], place)
    length = length[:, None]
    if fill == "zero":
        return np.clip(index, 0, length - 1), (index >= 0) & (index < length)
    index = index % (2 * length)
    return np.minimum(index, 2 * length - 1 - index), np.ones(index.shape, bool)


def _interpolate(
    bank: ImageBank, images: Integers, views: Views, size: int, fill: str, fine: int
) -> Tensor:
    """Scaled and rotated windows as `_look_up` has them, from `fine` by `fine` places a pixel."""
    matrix, centre = views.to_image()
    reach = int(np.ceil(abs(matrix).sum(2).max() / 2)) + 1
    corner = np.floor(centre).astype(np.int64) - reach
    extent = 2 * reach + 2
    region = _look_up(bank, images, corner, extent, fill, views.mirrored)
    # Where the samples lie in the region, from -1 at its first edge to 1 at its last.
    place = _tensor((np.arange(size * fine) + 0.5) / (size * fine) - 0.5, region)
    step = _tensor(matrix * 2 / extent, region)
    begin = _tensor((centre - corner + 0.5) * 2 / extent - 1, region)
    grid = region.new_empty(len(images), size * fine, size * fine, 2)
    for axis in (0, 1):
        down = place * step[:, axis, :1] + begin[:, axis, None]
        along = place * step[:, axis, 1:]
        torch.add(down[:, :, None], along[:, None, :], out=grid[..., 1 - axis])
    taken = F.grid_sample(region, grid, align_corners=False)
    if fine > 1:
        taken = F.avg_pool2d(taken, fine)
    taken[:, 1] = taken[:, 1] > _MOST
    return taken


def _blur(values: Tensor, sigma: Floats, greatest: float) -> Tensor:
    """Blur (N, 1, H, W) by a Gaussian of a σ of its own each, cut at four times the greatest."""
    radius = min(math.ceil(4 * greatest), min(values.shape[-2:]) - 1)
    weight = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma[:, None]) ** 2)
    kernel = _tensor(weight / weight.sum(1, keepdims=True), values)[:, None]
    stacked = F.pad(values.transpose(0, 1), (radius,) * 4, mode="reflect")
    for shaped in (kernel[:, :, None, :], kernel[:, :, :, None]):
        stacked = F.conv2d(stacked, shaped, groups=len(values))
    return stacked.transpose(0, 1)


def _find_cuts(views: Views, shape: Integers) -> Booleans:
    """Which borders of windows cut through their image: first and last row and column, (N, 2, 2).

    The axes are those of the window, and of each its first and its last border.
    """
    first = views.corner > 0
    last = views.corner + views.side[:, None] < shape
    cut = np.stack([first, last], 2)
    flips = np.stack([views.flip_rows, views.flip_cols], 1)
    cut = np.where(flips[:, :, None], cut[:, :, ::-1], cut)
    return np.where(views.transpose[:, None, None], cut[:, ::-1], cut)


def _darken_borders(values: Tensor, rows: Integers, sigma: Floats, cut: Booleans) -> None:
    """Scale the outermost pixels of windows as a filter does that sees zeros beyond them.

    A Gaussian filter with an even number of taps, whose centre lies half a pixel up and left of
    the pixel, leaves of a constant image at its border what share of the Gaussian is inside.
    """
    depth = min(_BORDER_DEPTH, *values.shape[-2:])
    distance = np.arange(depth) / sigma[:, None]
    first = np.where(cut[:, :, :1], ndtr(distance)[:, None], 1.0)
    last = np.where(cut[:, :, 1:], ndtr(distance + 1 / sigma[:, None])[:, None], 1.0)
    index = _send(rows, values)
    windows = values[index]
    windows[:, 0, :depth] *= _tensor(first[:, 0], values)[:, :, None]
    windows[:, 0, -depth:] *= _tensor(last[:, 0, ::-1], values)[:, :, None]
    windows[:, 0, :, :depth] *= _tensor(first[:, 1], values)[:, None]
    windows[:, 0, :, -depth:] *= _tensor(last[:, 1, ::-1], values)[:, None]
    values[index] = windows


def _tensor(array: NDArray[np.floating], like: Tensor) -> Tensor:
    return _send(array.astype(np.float32), like)


def _send(array: NDArray[Any], like: Tensor) -> Tensor:
    """Put an array where a tensor is, without waiting for what the device is at."""
    return torch.from_numpy(array).to(like.device, non_blocking=True)
