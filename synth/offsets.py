"""Where masks lie beside what the frames show.

Some sets have masks that were drawn, or computed, a fraction of a pixel away from the targets:
those of NUDT-SIRST's targets of 10 to 40 pixels lie half a pixel up and left. A network learns such
a habit together with the rest, as long as nothing turns it round: a frame that is mirrored with its
mask shows it on the other side.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from synth.frames import Frame, Mask
from synth.targets import find_targets, label_targets

# How far a mask may lie off, in pixels, and how much background is compared along with the target.
_REACH, _MARGIN = 2, 2

# A target's image is its mask seen through optics; this σ in pixels stands for them.
_BLUR = 0.7


def measure_offsets(image: Frame, mask: Mask) -> NDArray[np.float64]:
    """Measure how far the mask of each target lies from the target that the image shows.

    The blurred mask is moved over the image, and where the normalised cross-correlation of the two
    is greatest, it fits; a parabola through the neighbours gives the fraction of a pixel. Targets
    may be brighter or darker than their surroundings.

    Parameters
    ----------
    image : (H, W) ndarray of uint8 or uint16
    mask : (H, W) ndarray of bool

    Returns
    -------
    (n, 2) ndarray of float64
        Rows and columns from image to mask, in pixels, at most 2.5 either way; 0 for a target that
        does not stand out. In the order of `find_targets`.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.full((24, 24), 20, np.uint8)
    >>> image[10:14, 10:13] = 200
    >>> measure_offsets(image, np.roll(image > 100, -1, axis=0)).tolist()
    [[-1.0, 0.0]]
    """
    targets = find_targets(mask)
    offsets = np.zeros((len(targets), 2))
    _, labels = label_targets(mask)
    border = _REACH + _MARGIN
    frame = cv2.copyMakeBorder(
        image.astype(np.float32), *(border,) * 4, borderType=cv2.BORDER_REPLICATE
    )
    for target in targets:
        top, left, bottom, right = target.box
        own = labels[top:bottom, left:right] == target.index + 1
        template = cv2.GaussianBlur(
            np.pad(own, _MARGIN).astype(np.float32), (0, 0), _BLUR, borderType=cv2.BORDER_REPLICATE
        )
        region = frame[top : bottom + 2 * border, left : right + 2 * border]
        fit = np.nan_to_num(cv2.matchTemplate(region, template, cv2.TM_CCOEFF_NORMED))
        fit = fit * np.sign(fit[_REACH, _REACH])
        row, col = np.unravel_index(int(fit.argmax()), fit.shape)
        if fit[row, col] > 0:
            shown = row + _peak(fit[:, col], int(row)), col + _peak(fit[row], int(col))
            offsets[target.index] = _REACH - np.array(shown)
    return offsets + 0.0


def _peak(values: NDArray[np.floating], place: int) -> float:
    """Place of the vertex of the parabola through a maximum and its neighbours, from there."""
    if not 0 < place < len(values) - 1:
        return 0.0
    before, here, after = (float(value) for value in values[place - 1 : place + 2])
    bend = before - 2 * here + after
    return 0.5 * (before - after) / bend if bend < 0 else 0.0
