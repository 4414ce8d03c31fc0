"""Targets: the connected components of a mask, what they stand out of, and where they really lie.

Some sets have masks that were drawn, or computed, a fraction of a pixel away from the targets:
those of NUDT-SIRST's targets of 10 to 40 pixels lie half a pixel up and left. A network learns such
a habit together with the rest, as long as nothing turns it round: a frame that is mirrored with its
mask shows it on the other side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

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

    Attributes
    ----------
    index : int
        Counts from 0 in raster order of the components' first pixels (scikit-image's order).
    row, col : int
        Centre: the centroid rounded half up, in pixels.
    centroid : tuple of float
        Mean (row, col) of the component's pixels.
    area : int
        Number of pixels.
    box : tuple of int
        Half-open bounding box (top, left, bottom, right).
    """

    index: int
    row: int
    col: int
    centroid: tuple[float, float]
    area: int
    box: Box


@dataclass(frozen=True, slots=True)
class Signal:
    """What a target stands out by.

    Attributes
    ----------
    contrast : float
        |mean of the target − mean of its background|, DN.
    clutter : float
        Population standard deviation of its background, DN.
    darker : bool
        Whether the target's mean is below that of its background.
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

    Parameters
    ----------
    mask : (H, W) ndarray of bool

    Returns
    -------
    count : int
        Number of components.
    labels : (H, W) ndarray of int32
        0 for background, 1 to `count` for the components.
    """
    components = _components(mask)
    return len(components.order), _labels(mask, components)


def find_targets(mask: Mask) -> list[Target]:
    """List the targets of a mask.

    Parameters
    ----------
    mask : (H, W) ndarray of bool

    Returns
    -------
    list of Target
        In raster order of first pixels; empty for an empty mask.

    Examples
    --------
    >>> import numpy as np
    >>> mask = np.zeros((8, 8), bool)
    >>> mask[2:4, 5] = True
    >>> [(t.row, t.col, t.area, t.box) for t in find_targets(mask)]
    [(3, 5, 2, (2, 5, 4, 6))]
    """
    return _targets(_components(mask))


def _targets(components: _Components) -> list[Target]:
    targets = []
    for index, label in enumerate(components.order):
        left, top, width, height, area = components.stats[label].tolist()
        # OpenCV gives means; times the area they are whole numbers but for rounding.
        col_sum, row_sum = np.rint(components.means[label] * area).astype(np.int64).tolist()
        top, left = top + components.top, left + components.left
        row_sum, col_sum = row_sum + area * components.top, col_sum + area * components.left
        targets.append(
            Target(
                index=index,
                row=(2 * row_sum + area) // (2 * area),
                col=(2 * col_sum + area) // (2 * area),
                centroid=(row_sum / area, col_sum / area),
                area=area,
                box=(top, left, top + height, left + width),
            )
        )
    return targets


def target_box(target: Target, side: int, shape: tuple[int, int]) -> Box:
    """Place the square box of a target patch.

    The box starts at ``row − side // 2``, ``col − side // 2`` and is moved inside the image
    where it would leave it (Lu et al., TGRS 2024, "negative augmentation").

    Parameters
    ----------
    target : Target
    side : int
        Side of the box in pixels.
    shape : tuple of int
        (H, W) of the image.

    Returns
    -------
    tuple of int
        Half-open (top, left, bottom, right).

    Raises
    ------
    ValueError
        The box is larger than the image.

    Examples
    --------
    >>> import numpy as np
    >>> mask = np.zeros((64, 64), bool)
    >>> mask[2, 40] = True
    >>> target_box(find_targets(mask)[0], 32, mask.shape)
    (0, 24, 32, 56)
    """
    height, width = shape
    if not 1 <= side <= min(height, width):
        raise ValueError(f"a box of side {side} does not fit an image of {height}x{width} pixels")
    top = min(max(target.row - side // 2, 0), height - side)
    left = min(max(target.col - side // 2, 0), width - side)
    return top, left, top + side, left + side


def box_window(box: Box, margin: int = 0) -> tuple[slice, slice]:
    """The part of an image that a box covers, grown by a margin as far as the image goes.

    Parameters
    ----------
    box : tuple of int
        Half-open (top, left, bottom, right), inside the image.
    margin : int
        Pixels all round.

    Returns
    -------
    rows, cols : slice
        They may end beyond the image.
    """
    top, left, bottom, right = box
    return (
        slice(max(top - margin, 0), bottom + margin),
        slice(max(left - margin, 0), right + margin),
    )


def local_scr(image: Frame, mask: Mask, target: Target, margin: int = 20) -> float:
    """Local signal-to-clutter ratio of a target.

    SCR = |μ_t − μ_b| / σ_b with the mean over the target's pixels and the mean and population
    standard deviation over the background pixels of its bounding box grown by `margin` pixels on
    each side (the neighbourhood of Gao et al., TIP 2013), all targets left out.

    Parameters
    ----------
    image : (H, W) ndarray of uint8 or uint16
    mask : (H, W) ndarray of bool
        Every target of the image.
    target : Target
    margin : int
        Width of the neighbourhood in pixels.

    Returns
    -------
    float
        Dimensionless; infinite over a constant background, NaN where none is left.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.tile(np.array([98, 102], np.uint8), (32, 16))
    >>> image[10, 10] = 120
    >>> mask = image == 120
    >>> round(local_scr(image, mask, find_targets(mask)[0]), 1)
    10.0
    """
    _, labels = label_targets(mask)
    return _measure_signal(image, mask, labels, target, margin).scr


def measure_signals(image: Frame, mask: Mask, margin: int = 20) -> list[Signal]:
    """Measure what every target of an image stands out by, over the background of `local_scr`.

    Parameters
    ----------
    image : (H, W) ndarray of uint8 or uint16
    mask : (H, W) ndarray of bool
    margin : int
        Width of the neighbourhood in pixels.

    Returns
    -------
    list of Signal
        In the order of `find_targets`.
    """
    components = _components(mask)
    labels = _labels(mask, components)
    return [_measure_signal(image, mask, labels, target, margin) for target in _targets(components)]


def measure_offsets(image: Frame, mask: Mask) -> NDArray[np.float64]:
    """Measure how far the mask of each target is from the target that the image shows.

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
        Rows and columns from image to mask, in pixels, at most 2 either way; 0 for a target that
        does not stand out or that the border may cut. In the order of `find_targets`.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.full((24, 24), 20, np.uint8)
    >>> image[10:14, 10:13] = 200
    >>> measure_offsets(image, np.roll(image > 100, -1, axis=0)).tolist()
    [[-1.0, 0.0]]
    """
    return offsets_of(image, find_targets(mask), label_targets(mask)[1])


def offsets_of(
    image: Frame, targets: Sequence[Target], labels: NDArray[np.int32]
) -> NDArray[np.float64]:
    """Measure the offsets of targets that are known already; see `measure_offsets`.

    Parameters
    ----------
    image : (H, W) ndarray of uint8 or uint16
    targets : sequence of Target
        All targets of the image.
    labels : (H, W) ndarray of int32
        As `label_targets` gives them.

    Returns
    -------
    (n, 2) ndarray of float64
        Rows and columns from image to mask, in pixels, to 0.001.
    """
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


class _Components(NamedTuple):
    """OpenCV's labelling of the part of a mask that holds all of its targets.

    `order` has the labels in raster order of the components' first pixels.
    """

    top: int
    left: int
    order: list[int]
    labels: NDArray[np.int32]
    stats: NDArray[np.int32]
    means: NDArray[np.float64]


def _components(mask: Mask) -> _Components:
    pixels = mask.view(np.uint8)
    # Labelling costs by the pixel, and targets are few and small.
    left, top, width, height = cv2.boundingRect(pixels)
    count, labels, stats, means = cv2.connectedComponentsWithStats(
        pixels[top : top + max(height, 1), left : left + max(width, 1)],
        connectivity=8,
        ltype=cv2.CV_32S,
    )

    def first_pixel(label: int) -> tuple[int, int]:
        x, y, w = stats[label, :3]
        return int(y), int(x + np.argmax(labels[y, x : x + w] == label))

    # OpenCV scans blocks of 2 x 2 pixels, so its own order need not follow the raster.
    order = sorted(range(1, count), key=first_pixel)
    return _Components(
        top,
        left,
        order,
        cast(NDArray[np.int32], labels),
        cast(NDArray[np.int32], stats),
        cast(NDArray[np.float64], means),
    )


def _labels(mask: Mask, components: _Components) -> NDArray[np.int32]:
    rank = np.zeros(len(components.order) + 1, np.int32)
    rank[components.order] = np.arange(1, len(rank))
    labels = np.zeros(mask.shape, np.int32)
    height, width = components.labels.shape
    window = (
        slice(components.top, components.top + height),
        slice(components.left, components.left + width),
    )
    labels[window] = rank[components.labels]
    return labels


def _peak(values: NDArray[np.floating], place: int) -> float:
    """Place of the vertex of the parabola through a maximum and its neighbours, from there."""
    if not 0 < place < len(values) - 1:
        return 0.0
    before, here, after = (float(value) for value in values[place - 1 : place + 2])
    bend = before - 2 * here + after
    return 0.5 * (before - after) / bend if bend < 0 else 0.0
