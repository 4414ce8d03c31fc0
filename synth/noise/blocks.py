"""Blocks of frames that hold noise, and hardly any scene."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from synth.errors import NoiseError
from synth.frames import Frame, Mask
from synth.noise.bank import NoiseBank

SIDE = 32
"""Side of a block in pixels."""

Floats = NDArray[np.float64]

# The variance of noise is about the same in every part of a block: this is the spread that chance
# gives to the variance of 64 correlated pixels. Texture has more.
_PARTS = 4
_MOST_SPREAD = 0.5

# The least textured tenth of a frame's blocks gives τ of noise alone. A block more than this factor
# above it shows scene, and so does a frame this much above the least of all frames.
_LEAST, _MOST_TEXTURE, _MOST_FRAME_TEXTURE = 0.1, 1.4, 2.5

# More clipped pixels than this, and a block does not show its noise.
_MOST_CLIPPED = 0.01

# Below this standard deviation, in DN, rounding decides what is seen of the noise.
_LEAST_SIGMA = 0.15

# Blocks of one frame beyond this number add nothing but time.
_MOST_BLOCKS = 256

_SECOND_DIFFERENCE = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
_SECOND_DIFFERENCE_POWER = 36.0


@dataclass(frozen=True)
class NoiseBlocks:
    """Square blocks without their trends.

    Attributes
    ----------
    residual : (N, side, side) ndarray of float64
        DN less the quadratic trend of the block.
    mean : (N,) ndarray of float64
        DN.
    frame, row, col : (N,) ndarray of int64
        The frame of each, numbered from 0 without gaps, and the block's first pixel there.
    depth : int
        Bits of the frames' type, 8 or 16.
    """

    residual: Floats
    mean: Floats
    frame: NDArray[np.int64]
    row: NDArray[np.int64]
    col: NDArray[np.int64]
    depth: int

    def __len__(self) -> int:
        return len(self.mean)

    @property
    def side(self) -> int:
        """Side of a block in pixels."""
        return int(self.residual.shape[1])

    def take(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> NoiseBlocks:
        """Some of the blocks, their frames numbered anew."""
        return NoiseBlocks(
            self.residual[chosen],
            self.mean[chosen],
            np.unique(self.frame[chosen], return_inverse=True)[1],
            self.row[chosen],
            self.col[chosen],
            self.depth,
        )


def find_noise_blocks(frames: Iterable[tuple[Frame, Mask | None]]) -> NoiseBlocks:
    """The patches of `find_noise_patches`, of `SIDE` pixels, without their trends."""
    number, row, col, patches = zip(*find_noise_patches(frames), strict=True)
    return NoiseBlocks(
        np.concatenate([_detrend(one) for one in patches]),
        np.concatenate([one.mean((1, 2)) for one in patches]),
        np.unique(np.concatenate(number), return_inverse=True)[1],
        np.concatenate(row),
        np.concatenate(col),
        8 * patches[0].itemsize,
    )


def find_noise_patches(
    frames: Iterable[tuple[Frame, Mask | None]], side: int = SIDE
) -> list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], Frame]]:
    """Find blocks whose residual over a local trend is noise.

    A block is kept when (1) at most 1% of its pixels are clipped, (2) its residual over a quadratic
    trend has about the same variance in all of its parts, and (3) the ratio τ of that variance to
    the one of second differences in both directions (J. Immerkær, CVIU 64, 1996) is at most 1.4
    times that of the frame's least textured blocks, and 2.5 times that of all frames. τ is a
    constant of the camera's settings for noise alone, and greater where a scene shows.

    Blocks are side by side in frames that have 256 of them, and overlap by half in smaller ones;
    at most 256 a frame are kept. They keep clear of the masks.

    Parameters
    ----------
    frames : iterable of (frame, mask or None)
        (H, W) ndarrays of uint8 or uint16, of one depth.
    side : int
        Side of a block in pixels, at least 16.

    Returns
    -------
    list of (numbers, rows, cols, patches)
        Of every frame with blocks: its number from 0 for each, their first rows and columns, and
        their pixels, (N, side, side) of the frame's dtype.

    Raises
    ------
    NoiseError
        No block is noise, or the frames differ in depth.
    """
    seen: list[tuple[int, Frame, int, Floats, float]] = []
    depths = set()
    for number, (frame, mask) in enumerate(frames):
        depths.add(frame.dtype)
        if len(depths) > 1:
            raise NoiseError("frames of 8 and of 16 bits have no noise in common; take one depth")
        if min(frame.shape) >= side:
            # Side by side where there are enough of them, else overlapping by half.
            apart = (frame.shape[0] // side) * (frame.shape[1] // side)
            step = side if apart >= _MOST_BLOCKS else side // 2
            texture = _measure_texture(frame, mask, side, step)
            known = texture[np.isfinite(texture)]
            if len(known):
                seen.append((number, frame, step, texture, float(np.quantile(known, _LEAST))))
    if not seen:
        raise NoiseError(
            f"no {side}x{side} block of these frames is noise alone: everything is textured, "
            "clipped, or smaller than a block"
        )
    most = _MOST_FRAME_TEXTURE * float(np.quantile([least for *_, least in seen], _LEAST))
    found = []
    for number, frame, step, texture, least in seen:
        chosen = np.flatnonzero(texture <= min(least * _MOST_TEXTURE, most))
        few = min(len(chosen), _MOST_BLOCKS)
        chosen = chosen[np.linspace(0, len(chosen) - 1, few).astype(np.intp)]
        if few:
            row, col = (step * at for at in np.unravel_index(chosen, texture.shape))
            found.append((np.full(few, number), row, col, windows(frame, side)[row, col]))
    return found


def bank_blocks(bank: NoiseBank) -> NoiseBlocks:
    """The patches of a bank as blocks; `NoiseError` if they have fewer than 16 pixels a side."""
    if bank.side < 16:
        raise NoiseError(
            f"noise patches of side {bank.side} are too small to tell what their noise is; take "
            "patches of 16 pixels or more"
        )
    names = np.char.add(np.char.add(bank.kind.astype(str), "/"), bank.frame)
    return NoiseBlocks(
        _detrend(bank.patches),
        bank.mean,
        np.unique(names, return_inverse=True)[1],
        bank.row.astype(np.int64),
        bank.col.astype(np.int64),
        8 * bank.patches.itemsize,
    )


def windows(frame: Frame, side: int) -> Frame:
    """View of the square windows at every position, (rows, cols, side, side)."""
    return cast(Frame, np.lib.stride_tricks.sliding_window_view(frame, (side, side)))


def window_sums(values: Frame | NDArray[np.floating], side: int, step: int) -> Floats:
    """Sums over the square windows that begin every `step` pixels, (rows, cols)."""
    sums = cv2.boxFilter(values, cv2.CV_64F, (side, side), anchor=(0, 0), normalize=False)
    rows, cols = (length - side + 1 for length in values.shape)
    return cast(Floats, sums[:rows:step, :cols:step])


def second_differences(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Squares of second differences in both directions, (H, W): for white noise, its variance."""
    found = cv2.filter2D(values, -1, _SECOND_DIFFERENCE, borderType=cv2.BORDER_REFLECT_101)
    found = np.square(found, out=found)
    return np.asarray(np.divide(found, np.float32(_SECOND_DIFFERENCE_POWER), out=found))


def second_difference_gain(side: int) -> Floats:
    """Power gain of `second_differences` at the frequencies of a (side, side) spectrum."""
    wave = (2 - 2 * np.cos(2 * np.pi * np.fft.fftfreq(side))) ** 2
    return np.asarray(np.outer(wave, wave) / _SECOND_DIFFERENCE_POWER)


@lru_cache(maxsize=16)
def trend_basis(side: int) -> Floats:
    """Orthonormal quadratic polynomials over a block, (side², 6)."""
    place = np.linspace(-1, 1, side)
    row, col = (axis.ravel() for axis in np.meshgrid(place, place, indexing="ij"))
    powers = np.stack([np.ones_like(row), row, col, row * col, row**2, col**2], -1)
    return np.asarray(np.linalg.qr(powers)[0])


def _detrend(blocks: Frame) -> Floats:
    """Take quadratic trends off blocks, (…, side, side); gives (N, side, side)."""
    side = blocks.shape[-1]
    flat, basis = blocks.reshape(-1, side**2).astype(np.float64), trend_basis(side)
    trend = (flat @ basis) @ basis.T
    return np.subtract(flat, trend, out=trend).reshape(-1, side, side)


def _measure_texture(frame: Frame, mask: Mask | None, side: int, step: int) -> Floats:
    """τ of the blocks that begin every `step` pixels, (rows, cols); inf where one is no noise."""
    grid = windows(frame, side)[::step, ::step]
    residual = _detrend(grid).reshape(-1, side**2)
    # Over its trend, which has its mean, a block has a mean of 0.
    square = residual**2
    variance = square.mean(1).reshape(grid.shape[:2])
    parts = square @ _part_means(side) - (residual @ _part_means(side)) ** 2
    spread = (parts.std(1) / np.maximum(parts.mean(1), 1e-12)).reshape(variance.shape)
    inside = second_differences(frame.astype(np.float32))[1:-1, 1:-1]
    fine = window_sums(inside, side - 2, step) / (side - 2) ** 2
    ends = (frame == 0) | (frame == np.iinfo(frame.dtype).max)
    noise = (
        (window_sums(ends.view(np.uint8), side, step) / side**2 <= _MOST_CLIPPED)
        & (spread <= _MOST_SPREAD)
        & (np.minimum(variance, fine) > _LEAST_SIGMA**2)
    )
    if mask is not None:
        noise &= window_sums(mask.view(np.uint8), side, step) == 0
    return np.where(noise, variance / np.maximum(fine, 1e-12), np.inf)


@lru_cache(maxsize=16)
def _part_means(side: int) -> Floats:
    """Means over the parts of a block, as a matrix (side², `_PARTS`²)."""
    part = side // _PARTS
    line = np.zeros((side, _PARTS))
    line[: part * _PARTS] = np.kron(np.eye(_PARTS), np.ones((part, 1)) / part)
    return np.asarray(np.kron(line, line), np.float64)
