"""Challenging negatives: turn the patch around a target, in image and mask alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from synth.frames import Frame, Mask
from synth.targets import Box

Array = TypeVar("Array", bound=NDArray[Any])


def turn_patch(
    image: Frame, mask: Mask, box: Box, quarter_turns: int, mirror: bool = False
) -> tuple[Frame, Mask]:
    """Turn a square patch of an image and of its mask in place of itself.

    "Negative augmentation" of Lu et al. (TGRS 2024): the patch is first mirrored left to right
    when `mirror` is set (the published box of side 32), then turned counter-clockwise.

    Parameters
    ----------
    image : (H, W) ndarray of uint8 or uint16
    mask : (H, W) ndarray of bool
    box : tuple of int
        Half-open (top, left, bottom, right), square, inside the image.
    quarter_turns : int
        Number of 90° turns, any sign.
    mirror : bool
        Mirror left to right before turning.

    Returns
    -------
    image, mask : copies of the inputs with the patch turned

    Raises
    ------
    ValueError
        The box is not square or leaves the image, or the sizes differ.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.arange(4, dtype=np.uint8).reshape(2, 2)
    >>> turn_patch(image, image > 2, (0, 0, 2, 2), 1)[0]
    array([[1, 3],
           [0, 2]], dtype=uint8)
    """
    top, left, bottom, right = box
    if image.shape != mask.shape:
        raise ValueError(f"image of shape {image.shape} and mask of shape {mask.shape}")
    if bottom - top != right - left or bottom <= top:
        raise ValueError(f"box {box} is not square")
    if top < 0 or left < 0 or bottom > image.shape[0] or right > image.shape[1]:
        raise ValueError(f"box {box} leaves the image of shape {image.shape}")
    window = (slice(top, bottom), slice(left, right))
    image, mask = image.copy(), mask.copy()
    image[window] = turned(image[window], quarter_turns, mirror)
    mask[window] = turned(mask[window], quarter_turns, mirror)
    return image, mask


def turned(patch: Array, quarter_turns: int, mirror: bool) -> Array:
    """A patch of an image or of a mask, mirrored and then turned; a copy. See `turn_patch`.

    Examples
    --------
    >>> import numpy as np
    >>> turned(np.array([[1, 2], [3, 4]]), 1, mirror=False).tolist()
    [[2, 4], [1, 3]]
    >>> turned(np.array([[1, 2], [3, 4]]), 0, mirror=True).tolist()
    [[2, 1], [4, 3]]
    """
    seen: Any = patch[:, ::-1] if mirror else patch
    # What np.rot90 does, in a fifth of its time.
    if quarter_turns % 2:
        seen = seen.T
    if quarter_turns % 4 in (1, 2):
        seen = seen[::-1]
    if quarter_turns % 4 in (2, 3):
        seen = seen[:, ::-1]
    return cast(Array, seen.copy())


def keep_offset(own: Mask, offset: Sequence[float], quarter_turns: int, mirror: bool) -> Mask:
    """Move the mask of a turned target to the side of it where it lay before the turn.

    Where the mask of a target lies d beside what the image shows (`measure_offsets`), the turned
    mask lies R d beside the turned target. It is moved by d − R d, rounded to whole pixels.

    Parameters
    ----------
    own : (n, n) ndarray of bool
        The turned mask of the target alone.
    offset : sequence of 2 float
        d: rows and columns, pixels.
    quarter_turns, mirror
        As it was turned.

    Returns
    -------
    (n, n) ndarray of bool
        As it was where it would leave the box.

    Examples
    --------
    >>> import numpy as np
    >>> own = np.zeros((5, 5), bool)
    >>> own[3, 3] = True
    >>> np.argwhere(keep_offset(own, (-0.5, -0.5), 2, False)).tolist()
    [[2, 2]]
    """
    turned_row, turned_col = offset[0], -offset[1] if mirror else offset[1]
    for _ in range(quarter_turns % 4):
        turned_row, turned_col = -turned_col, turned_row
    move = np.rint(np.subtract(offset, (turned_row, turned_col))).astype(np.int64)
    if not move.any():
        return own.copy()
    places = np.argwhere(own) + move
    if places.min(initial=0) < 0 or places.max(initial=0) >= len(own):
        return own.copy()
    moved = np.zeros_like(own)
    moved[tuple(places.T)] = True
    return moved
