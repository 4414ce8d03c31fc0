"""Targets: the connected components of a mask, their signal, and how far their masks are off.

The masks of some sets were drawn, or computed, a fraction of a pixel away from the targets: those
of NUDT-SIRST's targets of 10 to 40 pixels are half a pixel up and left. Turning or mirroring a
frame with its mask moves the mask to the other side, which a network that has learned this offset
counts as an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from synth.frames import Frame, Mask

Box = tuple[int, int, int, int]

# How far a mask may lie off, in pixels, and how much background is compared along with the target.
_REACH, _MARGIN = 2, 2

# A target's image is its mask seen through optics; this σ in pixels stands for them.
_BLUR = 0.7


@dataclass(frozen=True, slots=True)
class Target:
    """One 8-connected component of a mask.

    `index` counts from 0 in raster order of the components' first pixels (scikit-image's order).
    `centroid` is the mean (row, col) of its pixels, `row` and `col` are that rounded half up,
    `area` is their number, and `box` is half-open (top, left, bottom, right).
    """

    index: int
    row: int
    col: int
    centroid: tuple[float, float]
    area: int
    box: Box


@dataclass(frozen=True, slots=True)
class Signal:
    """How far a target stands out of its background.

    `contrast` is |mean of the target − mean of its background| and `clutter` the population
    standard deviation of the background, DN; `darker` targets have the lower mean.
    """

    contrast: float
    clutter: float
    darker: bool = False

    @property
    def scr(self) -> float:
        """Signal-to-clutter ratio; infinite over a constant background, NaN without any."""
        return self.contrast / self.clutter if self.clutter != 0 else float("inf")


def label_targets(mask: Mask) -> tuple[int, NDArray[np.int32]]:
    """Label the 8-connected components of a mask in raster order of their first pixels.

    Returns their number, and an (H, W) array with 0 for background and their labels from 1.
    """
    targets, labels = _find(mask)
    return len(targets), labels


def find_targets(mask: Mask) -> list[Target]:
    """List the targets of a mask, (H, W), in raster order of their first pixels.

    Examples
    --------
    >>> import numpy as np
    >>> mask = np.zeros((8, 8), bool)
    >>> mask[2:4, 5] = True
    >>> [(t.row, t.col, t.area, t.box) for t in find_targets(mask)]
    [(3, 5, 2, (2, 5, 4, 6))]
    """
    return _find(mask)[0]


def target_box(target: Target, side: int, shape: tuple[int, int]) -> Box:
    """Place the square box of a target patch, `side` pixels wide, in an image of a shape (H, W).

    The box starts at ``row − side // 2``, ``col − side // 2`` and is moved inside the image
    where it would leave it (Lu et al., TGRS 2024, "negative augmentation"). `ValueError` if it is
    larger than the image.
    """
    height, width = shape
    if not 1 <= side <= min(height, width):
        raise ValueError(f"a box of side {side} does not fit an image of {height}x{width} pixels")
    top = min(max(target.row - side // 2, 0), height - side)
    left = min(max(target.col - side // 2, 0), width - side)
    return top, left, top + side, left + side


def box_window(box: Box, margin: int = 0) -> tuple[slice, slice]:
    """The rows and columns of a box, grown by a margin in pixels as far as the image goes.

    The slices may end beyond the image.
    """
    top, left, bottom, right = box
    rows = slice(max(top - margin, 0), bottom + margin)
    return rows, slice(max(left - margin, 0), right + margin)


def local_scr(image: Frame, mask: Mask, target: Target, margin: int = 20) -> float:
    """Local signal-to-clutter ratio of a target.

    SCR = |μ_t − μ_b| / σ_b with the mean over the target's pixels and the mean and population
    standard deviation over the background pixels of its bounding box grown by `margin` pixels on
    each side (the neighbourhood of Gao et al., TIP 2013), all targets left out.
    Dimensionless; infinite over a constant background, NaN without any.
    """
    return _measure_signal(image, mask, _find(mask)[1], target, margin).scr


def measure_signals(image: Frame, mask: Mask, margin: int = 20) -> list[Signal]:
    """Measure every target, in the order of `find_targets`; parameters are those of `local_scr`."""
    targets, labels = _find(mask)
    return [_measure_signal(image, mask, labels, target, margin) for target in targets]


def measure_offsets(image: Frame, mask: Mask) -> NDArray[np.float64]:
    """Measure how far the mask of each target is from the target that the image shows.

    The blurred mask is moved over the image to the greatest normalised cross-correlation of the
    two; a parabola through the neighbours gives the fraction of a pixel. Targets may be brighter or
    darker than their surroundings.

    Returns
    -------
    (n, 2) ndarray of float64
        Rows and columns from image to mask, in pixels to 0.001, at most 2 either way; 0 for a
        target that does not stand out or that the border may cut. In the order of `find_targets`.
    """
    return offsets_of(image, *_find(mask))


def offsets_of(
    image: Frame, targets: Sequence[Target], labels: NDArray[np.int32]
) -> NDArray[np.float64]:
    """See `measure_offsets`: for targets and labels that are known already."""
    offsets = np.zeros((len(targets), 2))
    border = _REACH + _MARGIN
    height, width = labels.shape
    frame = cv2.copyMakeBorder(
        image.astype(np.float32), *(border,) * 4, borderType=cv2.BORDER_REPLICATE
    )
    for target in targets:
        top, left, bottom, right = target.box
        if top == 0 or left == 0 or bottom == height or right == width:
            continue
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
    # To a thousandth of a pixel: further digits depend on the processor, and noise says more.
    return np.round(offsets, 3) + 0.0


def _measure_signal(
    image: Frame, mask: Mask, labels: NDArray[np.int32], target: Target, margin: int
) -> Signal:
    window = box_window(target.box, margin)
    patch = image[window].astype(np.float64)
    own = labels[window] == target.index + 1
    background = patch[~mask[window]]
    if not background.size:
        return Signal(float("nan"), float("nan"))
    contrast = float(patch[own].mean()) - float(background.mean())
    return Signal(abs(contrast), float(background.std()), contrast < 0)


def _find(mask: Mask) -> tuple[list[Target], NDArray[np.int32]]:
    """Targets of a mask and their labels, (H, W)."""
    pixels = mask.view(np.uint8)
    # Labelling costs by the pixel, and targets are few and small.
    x, y, width, height = cv2.boundingRect(pixels)
    window = slice(y, y + max(height, 1)), slice(x, x + max(width, 1))
    count, found, *measured = cv2.connectedComponentsWithStats(
        pixels[window], connectivity=8, ltype=cv2.CV_32S
    )
    stats, means = (array.tolist() for array in measured)

    def first_pixel(label: int) -> tuple[int, int]:
        left, top, width, *_ = stats[label]
        return top, left + int(np.argmax(found[top, left : left + width] == label))

    # OpenCV scans blocks of 2 x 2 pixels, so its own order need not follow the raster.
    order = sorted(range(1, count), key=first_pixel)
    rank = np.zeros(count, np.int32)
    rank[order] = np.arange(1, count)
    labels = np.zeros(mask.shape, np.int32)
    labels[window] = rank[found]

    targets = []
    for index, label in enumerate(order):
        left, top, width, height, area = stats[label]
        # OpenCV gives means; times the area they are whole numbers but for rounding.
        cols, rows = (round(mean * area) for mean in means[label])
        top, left, rows, cols = top + y, left + x, rows + y * area, cols + x * area
        row, col = ((2 * total + area) // (2 * area) for total in (rows, cols))
        box = top, left, top + height, left + width
        targets.append(Target(index, row, col, (rows / area, cols / area), area, box))
    return targets, labels


def _peak(values: NDArray[np.floating], place: int) -> float:
    """Place of the vertex of the parabola through a maximum and its neighbours, from there."""
    if not 0 < place < len(values) - 1:
        return 0.0
    before, here, after = (float(value) for value in values[place - 1 : place + 2])
    bend = before - 2 * here + after
    return 0.5 * (before - after) / bend if bend < 0 else 0.0
