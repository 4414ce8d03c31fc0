"""Noise transfer: put a noise patch on an image."""

from __future__ import annotations

from functools import lru_cache
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from synth.errors import NoiseError
from synth.frames import Frame

# A tenth is no binary fraction, so 0.1 · 135 + 0.9 · 130 may come out just below 130.5. Half up
# is meant for the exact value; this is far above the error of the sum, and far below the step of
# 1/2560 DN between exact values at the published ratios and sizes.
_TIE = 2.0**-13


def mixup(image: Frame, patch: Frame, ratio: float, gain: float | None = None) -> Frame:
    """Mix a noise patch into an image: ``ratio · noise + (1 − ratio) · image``.

    "Noise displacement" of Lu et al. (TGRS 2024), on an image of any size: the patch is resized
    bilinearly to the image, the mix is clipped to the image's range and rounded half up, by the
    exact value.

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
    return Mixer(image).mix(patch, ratio, gain)


class Mixer:
    """An image that is mixed with many patches; see `mixup`.

    Parameters
    ----------
    image : (H, W) ndarray of uint8 or uint16
        DN.
    """

    def __init__(self, image: Frame) -> None:
        self._image = image
        self._precise = np.float32 if image.dtype == np.uint8 else np.float64
        self._faded: dict[float, NDArray[np.floating]] = {}

    def mix(self, patch: Frame, ratio: float, gain: float | None = None) -> Frame:
        """Mix one patch in; parameters, result and errors as `mixup`."""
        image = self._image
        if not 0.0 <= ratio <= 1.0:
            raise ValueError(f"a mixing ratio is between 0 and 1, not {ratio}")
        if gain is None and patch.dtype != image.dtype:
            raise NoiseError(
                f"noise of {patch.dtype} does not fit an image of {image.dtype}; give the gain "
                "from the noise's DN to the image's (--gain), or noise of the same depth"
            )
        # Share and rounding go onto the small patch: resizing is linear and keeps constants.
        share = np.multiply(patch, ratio if gain is None else ratio * gain, dtype=self._precise)
        noise = resize_patch(share + self._precise(_TIE), image.shape)
        faded = self._faded.get(ratio)
        if faded is None:
            faded = np.multiply(image, 1.0 - ratio, dtype=self._precise)
            self._faded = {ratio: faded}
        depth = cv2.CV_8U if image.dtype == np.uint8 else cv2.CV_16U
        # Rounds to the nearest and clips to the range, in the one pass that adds.
        return cast(Frame, cv2.add(faded, noise, dtype=depth))


def resize_patch(patch: NDArray[np.floating], shape: tuple[int, ...]) -> NDArray[np.floating]:
    """Resize a patch bilinearly, pixel centres at half integers, edges repeated.

    Where it shrinks, the triangle filter is widened by the factor (antialiasing), as Pillow and
    torchvision do.

    Parameters
    ----------
    patch : (h, w) ndarray of float32 or float64
    shape : tuple of int
        (H, W) of the result.

    Returns
    -------
    (H, W) ndarray of the patch's dtype
    """
    height, width = shape
    if patch.shape == (height, width):
        return patch.copy()
    if patch.shape[0] <= height and patch.shape[1] <= width:
        enlarged = cv2.resize(patch, (width, height), interpolation=cv2.INTER_LINEAR)
        return cast("NDArray[np.floating]", enlarged)
    rows = _triangle_weights(patch.shape[0], height)
    cols = _triangle_weights(patch.shape[1], width)
    return (rows @ patch @ cols.T).astype(patch.dtype)


@lru_cache(maxsize=64)
def _triangle_weights(size: int, wanted: int) -> NDArray[np.float64]:
    """(wanted, size) matrix of bilinear weights, widened where it shrinks."""
    factor = size / wanted
    support = max(factor, 1.0)
    centre = (np.arange(wanted)[:, None] + 0.5) * factor
    distance = np.abs(np.arange(size)[None, :] + 0.5 - centre) / support
    weights = np.maximum(1.0 - distance, 0.0)
    return weights / weights.sum(axis=1, keepdims=True)
