"""Contact sheets: images of a set beside each other, their targets outlined."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from synth.frames import Frame, Mask
from synth.targets import find_targets

_OUTLINE = (64, 224, 64)
_INK = (235, 235, 235)
_PAPER = (24, 24, 24)
_GAP = 6
_CAPTION = 18


def contact_sheet(
    items: Sequence[tuple[str, Frame, Mask]], columns: int, cell: int
) -> NDArray[np.uint8]:
    """Lay out captioned images in a grid.

    Parameters
    ----------
    items : sequence of (caption, image, mask)
        Images of any size and depth; each is stretched from its own 0.1 to its 99.9 percentile.
    columns : int
    cell : int
        Side of the square that an image is fitted into, pixels.

    Returns
    -------
    (H, W, 3) ndarray of uint8
        BGR. A box, clear of the target by two pixels of the image, is drawn around every target.
    """
    rows = -(-len(items) // columns)
    step = cell + _GAP
    height = rows * (step + _CAPTION) + _GAP
    sheet = np.full((height, columns * step + _GAP, 3), _PAPER, np.uint8)
    for number, (caption, image, mask) in enumerate(items):
        top = _GAP + number // columns * (step + _CAPTION)
        left = _GAP + number % columns * step
        picture = outlined(image, mask, cell)
        h, w = picture.shape[:2]
        y, x = top + (cell - h) // 2, left + (cell - w) // 2
        sheet[y : y + h, x : x + w] = picture
        _write(sheet, caption, (left + 2, top + cell + _CAPTION - 5), cell - 4)
    return sheet


def outlined(image: Frame, mask: Mask, cell: int) -> NDArray[np.uint8]:
    """Fit one image into a square of `cell` pixels, (h, w, 3) BGR, its targets outlined."""
    scale = cell / max(image.shape)
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    low, high = np.percentile(image, (0.1, 99.9))
    grey = (image.astype(np.float32) - low) * (255.0 / max(float(high - low), 1.0))
    # Enlarged pixels stay squares: a target's few pixels are what the sheet is looked at for.
    how = cv2.INTER_NEAREST if scale > 1 else cv2.INTER_AREA
    grey = cv2.resize(np.clip(grey, 0, 255).astype(np.uint8), size, interpolation=how)
    picture = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)
    for target in find_targets(mask):
        top, left, bottom, right = target.box
        corner = (round((left - 2) * scale), round((top - 2) * scale))
        opposite = (round((right + 2) * scale), round((bottom + 2) * scale))
        cv2.rectangle(picture, corner, opposite, _OUTLINE, 1)
    return picture


def _write(sheet: NDArray[np.uint8], text: str, where: tuple[int, int], width: int) -> None:
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.38
    while len(text) > 4 and cv2.getTextSize(text, font, scale, 1)[0][0] > width:
        text = text[: len(text) - 4] + "..."
    cv2.putText(sheet, text, where, font, scale, _INK, 1, cv2.LINE_AA)
