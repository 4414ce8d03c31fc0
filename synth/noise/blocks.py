"""Blocks of frames that hold noise, and hardly any scene."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from synth.errors import NoiseError
from synth.frames import Frame, Mask
from synth.noise.bank import NoiseBank

SIDE = 32
"""Side of a block in pixels."""

Floats = NDArray[np.float64]

# Noise of one kind has about the same variance in every part of a block, with the spread that
# chance gives to the variance of 64 correlated pixels; texture has not.
_PARTS = 4
_MOST_SPREAD = 0.5

# Of a frame's blocks, which differ in texture alone, the least textured tenth tells what noise
# without any texture is like; what is more than this factor above has a scene in it. So has a frame
# that is this much above the least textured tenth of the frames altogether.
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
    frame : (N,) ndarray of int64
        Number of the frame that each is from, rising from 0 without gaps.
    col, row : (N,) ndarray of int64
        First column and row in that frame.
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


def find_noise_blocks(frames: Iterable[tuple[Frame, Mask | None]], side: int = SIDE) -> NoiseBlocks:
    """Find blocks whose residual over a local trend is noise.

    A block is kept when (1) hardly any of its pixels is clipped, (2) its residual over a quadratic
    trend has much the same variance everywhere in it, and (3) the ratio τ of that variance to the
    one that second differences in both directions see (J. Immerkær, CVIU 64, 1996), which for
    noise alone is a constant of the camera's settings and above it wherever a scene shows, is not
    far above the least that the frame has, nor very far above the least that all frames have.

    Blocks lie side by side in frames that have 256 of them, and overlap by half in smaller ones;
    at most 256 a frame are kept.

    Parameters
    ----------
    frames : iterable of (frame, mask or None)
        (H, W) ndarrays of uint8 or uint16, of one depth; blocks keep clear of the masks.
    side : int
        Of a block, in pixels, at least 16.

    Returns
    -------
    NoiseBlocks

    Raises
    ------
    NoiseError
        No block is noise, or the frames differ in depth.
    """
    windows, depth = _choose_windows(frames, side)
    return NoiseBlocks(
        np.concatenate([part.cut(chosen, side) for _, part, chosen in windows]),
        np.concatenate([part.mean[chosen] for _, part, chosen in windows]),
        np.repeat(np.arange(len(windows)), [len(chosen) for _, _, chosen in windows]),
        np.concatenate([part.row[chosen] for _, part, chosen in windows]),
        np.concatenate([part.col[chosen] for _, part, chosen in windows]),
        depth,
    )


def find_noise_patches(
    frames: Iterable[tuple[Frame, Mask | None]], side: int = SIDE
) -> list[tuple[int, NDArray[np.int64], NDArray[np.int64], Frame]]:
    """Find the blocks of `find_noise_blocks`, and cut them out as they are.

    Parameters
    ----------
    frames, side
        See `find_noise_blocks`.

    Returns
    -------
    list of (number, row, col, patches)
        Of every frame that has any: its number from 0, the blocks' first rows and columns, and
        their pixels, (N, side, side) of the frame's dtype.

    Raises
    ------
    NoiseError
        No block is noise, or the frames differ in depth.
    """
    return [
        (number, part.row[chosen], part.col[chosen], part.pixels(chosen, side))
        for number, part, chosen in _choose_windows(frames, side)[0]
    ]


def _choose_windows(
    frames: Iterable[tuple[Frame, Mask | None]], side: int
) -> tuple[list[tuple[int, _Candidates, NDArray[np.intp]]], int]:
    """Frames with noise: number, candidates, and which of them hold noise; and the depth."""
    parts: list[tuple[_Candidates, int]] = []
    depth = None
    for number, (frame, mask) in enumerate(frames):
        if depth is not None and depth != 8 * frame.dtype.itemsize:
            raise NoiseError("frames of 8 and of 16 bits have no noise in common; take one depth")
        depth = 8 * frame.dtype.itemsize
        if min(frame.shape) >= side:
            parts.append((_measure(frame, mask, side), number))
    least = [
        float(np.quantile(part.texture[part.even], _LEAST)) if part.even.any() else np.inf
        for part, _ in parts
    ]
    if depth is None or not np.isfinite(least).any():
        raise NoiseError(
            f"no {side}x{side} block of these frames is noise alone: everything is textured, "
            "clipped, or smaller than a block"
        )
    most = _MOST_FRAME_TEXTURE * float(np.quantile(np.array(least)[np.isfinite(least)], _LEAST))
    found = []
    for (part, number), own in zip(parts, least, strict=True):
        limit = min(own * _MOST_TEXTURE, most)
        chosen = np.flatnonzero(part.even & (part.texture <= limit))
        if len(chosen) > _MOST_BLOCKS:
            chosen = chosen[np.linspace(0, len(chosen) - 1, _MOST_BLOCKS).astype(np.intp)]
        if len(chosen):
            found.append((number, part, chosen))
    return found, depth


def bank_blocks(bank: NoiseBank) -> NoiseBlocks:
    """Take the patches of a bank as blocks, as they were chosen when it was sampled.

    Raises
    ------
    NoiseError
        The patches are of less than 16 pixels a side.
    """
    if bank.side < 16:
        raise NoiseError(
            f"noise patches of side {bank.side} are too small to tell what their noise is; take "
            "patches of 16 pixels or more"
        )
    values = bank.patches.reshape(len(bank), -1).astype(np.float64)
    names = np.char.add(np.char.add(bank.kind.astype(str), "/"), bank.frame)
    return NoiseBlocks(
        _detrend(values, bank.side).reshape(bank.patches.shape),
        bank.mean,
        np.unique(names, return_inverse=True)[1],
        bank.row.astype(np.int64),
        bank.col.astype(np.int64),
        8 * bank.patches.dtype.itemsize,
    )


def second_differences(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Squares of second differences in both directions: for white noise, its variance.

    Parameters
    ----------
    values : (H, W) ndarray of float32

    Returns
    -------
    (H, W) ndarray of float32
        Borders by reflection.
    """
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


@dataclass(frozen=True)
class _Candidates:
    """All blocks of a frame: where they are, and whether they may be noise."""

    values: Frame
    row: NDArray[np.int64]
    col: NDArray[np.int64]
    mean: Floats
    even: NDArray[np.bool_]
    texture: Floats

    def pixels(self, chosen: NDArray[np.intp], side: int) -> Frame:
        """Some of them as they are in the frame."""
        blocks = np.lib.stride_tricks.sliding_window_view(self.values, (side, side))
        return cast(Frame, blocks[self.row[chosen], self.col[chosen]])

    def cut(self, chosen: NDArray[np.intp], side: int) -> Floats:
        """Residuals of some of them."""
        flat = self.pixels(chosen, side).reshape(-1, side * side)
        return _detrend(flat.astype(np.float64), side).reshape(-1, side, side)


def _measure(frame: Frame, mask: Mask | None, side: int) -> _Candidates:
    # Side by side where there are enough of them, else overlapping by half.
    apart = (frame.shape[0] // side) * (frame.shape[1] // side)
    step = side if apart >= _MOST_BLOCKS else side // 2
    windows = np.lib.stride_tricks.sliding_window_view
    values = frame.astype(np.float32)
    grid = windows(frame, (side, side))[::step, ::step]
    shape = grid.shape[:2]
    flat = np.array(grid, np.float64).reshape(-1, side * side)
    residual = _detrend(flat, side)
    # Over its trend, which has its mean, a block has a mean of 0.
    square = residual**2
    variance = square.mean(1)
    inside = second_differences(values)[1:-1, 1:-1]
    fine_variance = _block_sums(inside, side - 2, step) / (side - 2) ** 2
    part = side // _PARTS
    spread = _unevenness(residual, square, (side, part))
    top = np.iinfo(frame.dtype).max
    ends = ((frame == 0) | (frame == top)).view(np.uint8)
    clipped = _block_sums(ends, side, step) / side**2
    even = (
        (clipped <= _MOST_CLIPPED)
        & (spread <= _MOST_SPREAD)
        & (variance > _LEAST_SIGMA**2)
        & (fine_variance > _LEAST_SIGMA**2)
    )
    if mask is not None and mask.any():
        even &= _block_sums(mask.view(np.uint8), side, step) == 0
    row, col = (axis.ravel() * step for axis in np.indices(shape))
    return _Candidates(
        frame, row, col, flat.mean(1), even, variance / np.maximum(fine_variance, 1e-12)
    )


def _block_sums(values: NDArray[Any], side: int, step: int) -> Floats:
    """Sums over the blocks that begin every `step` pixels, in raster order."""
    sums = cv2.integral(values, sdepth=cv2.CV_64F)
    ends = sums[side::step, side::step]
    rows, cols = ends.shape
    tops, lefts = slice(0, (rows - 1) * step + 1, step), slice(0, (cols - 1) * step + 1, step)
    inside = ends - sums[tops, side::step] - sums[side::step, lefts] + sums[tops, lefts]
    return np.asarray(inside.ravel(), np.float64)


def _unevenness(residual: Floats, square: Floats, sides: tuple[int, int]) -> Floats:
    """Standard deviation over mean of the variances of each block's parts."""
    side, part = sides

    def means(values: Floats) -> Floats:
        inner = values.reshape(-1, side, side)[:, : part * _PARTS, : part * _PARTS]
        lines = inner.reshape(-1, part) @ np.ones(part)
        return lines.reshape(-1, _PARTS, part, _PARTS).sum(2).reshape(-1, _PARTS**2) / part**2

    inner = means(square) - means(residual) ** 2
    return np.asarray(inner.std(1) / np.maximum(inner.mean(1), 1e-12))


def _detrend(flat: Floats, side: int) -> Floats:
    """Take quadratic trends off blocks, (N, side²)."""
    basis = trend_basis(side)
    trend = (flat @ basis) @ basis.T
    return np.asarray(np.subtract(flat, trend, out=trend))
