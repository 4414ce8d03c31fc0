"""Put a changed patch back into its image so that no seam is left around it."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, get_args

import numpy as np
import scipy
from numpy.typing import NDArray

from synth.frames import Frame, Mask

Blend = Literal["paste", "feather", "poisson"]
BLENDS: tuple[Blend, ...] = get_args(Blend)


def blend_patch(before: Frame, after: Frame, blend: Blend, ramp: float | None = None) -> Frame:
    """Blend a changed patch into the place that it came from.

    ``paste`` takes the changed patch as it is. ``feather`` goes over from the one to the other
    along the square of half a cosine from the border.
    ``poisson`` does so too, but goes over to the changed patch with what differs at the border
    taken off: the membrane (∇²h = 0) that spans the differences along it is added (P. Pérez et
    al., "Poisson Image Editing", SIGGRAPH 2003), so grain and contrast stay. The membrane alone
    leaves the texture broken along the border, by which a probe finds nine boxes in ten.

    Parameters
    ----------
    before, after : (h, w) ndarray of uint8 or uint16
        The patch as it is in the image, and changed.
    blend : {"paste", "feather", "poisson"}
    ramp : float, optional
        Pixels from the border over which it goes over; a quarter of the shorter side by default.

    Returns
    -------
    (h, w) ndarray of the same dtype
        Within the values of the two patches, rounded.

    Examples
    --------
    >>> import numpy as np
    >>> before = np.full((5, 5), 10, np.uint8)
    >>> blend_patch(before, before + 40, "poisson")[2].tolist()
    [10, 10, 10, 10, 10]
    """
    if blend == "paste" or min(before.shape) < 3:
        return after.copy() if blend == "paste" else before.copy()
    old, new = before.astype(np.float64), after.astype(np.float64)
    least, most = min(old.min(), new.min()), max(old.max(), new.max())
    if blend == "poisson":
        new = new + span_border(old - new)
    blended = old + _feather(before.shape, ramp) * (new - old)
    return np.rint(blended.clip(least, most)).astype(before.dtype)


def blend_mask(before: Mask, after: Mask, blend: Blend, ramp: float | None = None) -> Mask:
    """Blend the masks of two patches: each pixel is labelled as the patch that prevails there.

    Parameters
    ----------
    before, after : (h, w) ndarray of bool
    blend : {"paste", "feather", "poisson"}
    ramp : float, optional
        As the images were blended.

    Returns
    -------
    (h, w) ndarray of bool
    """
    if blend == "paste":
        return after.copy()
    if min(before.shape) < 3:
        return before.copy()
    inside = _feather(before.shape, ramp) > 0.5
    return np.where(inside, after, before)


@lru_cache(maxsize=64)
def _feather(shape: tuple[int, int], ramp: float | None) -> NDArray[np.float64]:
    """Weights of the changed patch: from near 0 at the border to 1 inside."""
    width = max(1.0, min(shape) / 4 if ramp is None else ramp)

    def rise(length: int) -> NDArray[np.float64]:
        place = np.arange(length)
        depth = np.minimum(place, place[::-1]) + 0.5
        # Squared, so that next to nothing happens in the first pixels, where a seam would show.
        return np.asarray((0.5 - 0.5 * np.cos(np.pi * (depth / width).clip(0, 1))) ** 2)

    return np.minimum(rise(shape[0])[:, None], rise(shape[1]))


def span_border(border: NDArray[np.float64]) -> NDArray[np.float64]:
    """Span a membrane over the border of an array.

    Parameters
    ----------
    border : (h, w) ndarray of float64
        Of which the outermost pixels are looked at; at least 3 a side.

    Returns
    -------
    (h, w) ndarray of float64
        The values there, and inside the solution of ∇²h = 0.
    """
    height, width = border.shape
    load = np.zeros((height - 2, width - 2))
    load[0] += border[0, 1:-1]
    load[-1] += border[-1, 1:-1]
    load[:, 0] += border[1:-1, 0]
    load[:, -1] += border[1:-1, -1]
    spanned = border.copy()
    # The five-point Laplacian is diagonal in sines.
    spectrum = scipy.fft.dstn(load, type=1, norm="ortho") / _eigenvalues(height - 2, width - 2)
    spanned[1:-1, 1:-1] = scipy.fft.dstn(spectrum, type=1, norm="ortho")
    return spanned


@lru_cache(maxsize=64)
def _eigenvalues(height: int, width: int) -> NDArray[np.float64]:
    rows, cols = (
        2 - 2 * np.cos(np.pi * np.arange(1, length + 1) / (length + 1))
        for length in (height, width)
    )
    return np.asarray(rows[:, None] + cols)
