"""Noise transfer: put a noise patch on an image."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from synth.errors import NoiseError
from synth.frames import Frame

# Rounding operations in a computed sum, each of at most half a unit in the last place.
_ROUNDINGS = 12


def mixup(image: Frame, patch: Frame, ratio: float, gain: float | None = None) -> Frame:
    """Mix a noise patch into an image: ``ratio · noise + (1 − ratio) · image``.

    "Noise displacement" of Lu et al. (TGRS 2024), on an image of any size: the patch is resized
    bilinearly to the image, the mix is clipped to the image's range and rounded half up.

    What is rounded is the exact value, where ratio and gain are the decimals that they are written
    as (0.1 is 1/10). This holds while exact values are further apart than the error of float64:
    with an enlarged patch of 16 bits, while pixels times the denominator of ratio · gain are fewer
    than 10⁹; with 8 bits 256 times as many. So the result does not depend on the processor.
    Beyond that, values closer to a half than the error may round up.

    Parameters
    ----------
    image : (H, W) ndarray of uint8 or uint16
        DN.
    patch : (h, w) ndarray of uint8 or uint16
        Noise patch, DN.
    ratio : float
        Share of the noise, 0 to 1.
    gain : float, optional
        Factor from the patch's DN to the image's. Without it both must be of one depth.

    Returns
    -------
    (H, W) ndarray of the image's dtype

    Raises
    ------
    NoiseError
        Patch and image differ in depth and no gain was given.
    ValueError
        `ratio` is outside 0 to 1.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.full((2, 2), 100, np.uint8)
    >>> mixup(image, np.full((1, 1), 150, np.uint8), 0.1)
    array([[105, 105],
           [105, 105]], dtype=uint8)
    """
    if not 0.0 <= ratio <= 1.0:
        raise ValueError(f"a mixing ratio is between 0 and 1, not {ratio}")
    if gain is None and patch.dtype != image.dtype:
        raise NoiseError(
            f"noise of {patch.dtype} does not fit an image of {image.dtype}; give the gain "
            "from the noise's DN to the image's, or noise of the same depth"
        )
    factor = 1.0 if gain is None else gain
    tie, precise = _tie(
        (patch.shape, image.shape), (patch.dtype, image.dtype), float(ratio), float(factor)
    )
    # Share and rounding go onto the small patch: resizing is linear and keeps constants.
    noise = resize_patch(
        np.multiply(patch, ratio * factor, dtype=precise) + precise(tie), image.shape
    )
    depth = cv2.CV_8U if image.dtype == np.uint8 else cv2.CV_16U
    # Rounds to the nearest and clips to the range, in the one pass that adds.
    return cast(Frame, cv2.addWeighted(image, 1 - ratio, noise, 1, 0, dtype=depth))


@lru_cache(maxsize=64)
def _tie(
    sizes: tuple[tuple[int, ...], tuple[int, ...]],
    depths: tuple[np.dtype[Any], np.dtype[Any]],
    ratio: float,
    gain: float,
) -> tuple[float, type[np.floating]]:
    """What to add to a sum so that halves round up, and the type in which that is safe.

    Sizes and depths are those of patch and image. A sum is an integer over an even denominator of
    at most `finest`. So if it is no half, it is at least 1 / finest away from one. Half of that is
    added: smaller errors of the sum then change nothing.
    """
    # The numbers that the floats are written as.
    part, factor = Fraction(repr(ratio)), Fraction(repr(gain))
    finest = math.lcm((part * factor).denominator, part.denominator, 2)
    for size, wanted in zip(*sizes, strict=True):
        finest *= _weights(size, wanted)[1]
    tie = float(Fraction(1, 2 * finest))
    noise, image = (int(np.iinfo(depth).max) for depth in depths)
    largest = max(float(noise * part * factor), image)
    single, double = (
        _ROUNDINGS * largest * float(np.finfo(precise).eps) / 2
        for precise in (np.float32, np.float64)
    )
    if tie > single and _is_exact(*sizes):
        return tie, np.float32
    return max(tie, double), np.float64


def resize_patch(patch: NDArray[np.floating], shape: tuple[int, ...]) -> NDArray[np.floating]:
    """Resize a patch bilinearly to (H, W), pixel centres at half integers, edges repeated.

    Where it shrinks, the triangle filter is widened by the factor (antialiasing), as Pillow and
    torchvision do. The type, float32 or float64, stays.
    """
    height, width = shape
    if patch.shape == (height, width):
        return patch.copy()
    if _is_exact(patch.shape, shape):
        enlarged = cv2.resize(patch, (width, height), interpolation=cv2.INTER_LINEAR)
        return cast("NDArray[np.floating]", enlarged)
    rows, _ = _weights(patch.shape[0], height)
    cols, _ = _weights(patch.shape[1], width)
    return (rows @ (patch @ cols.T)).astype(patch.dtype, copy=False)


def _is_exact(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether all lines become a power of two as many, so that weights are exact in float32."""
    return all(
        new % old == 0 and (new // old).bit_count() == 1
        for old, new in zip(shape, wanted, strict=True)
    )


@lru_cache(maxsize=64)
def _weights(size: int, wanted: int) -> tuple[NDArray[np.float64], int]:
    """(wanted, size) matrix of bilinear weights, widened where it shrinks; largest denominator."""
    centre = (2 * np.arange(wanted)[:, None] + 1) * size
    distance = np.abs((2 * np.arange(size)[None, :] + 1) * wanted - centre)
    # In integers up to the one division, so that each weight is right to its last digit.
    parts = np.maximum(2 * max(size, wanted) - distance, 0)
    sums = parts.sum(axis=1, keepdims=True)
    common = np.gcd.reduce(parts, axis=1, keepdims=True)
    return parts / sums, int((sums // common).max())
