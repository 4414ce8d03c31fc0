"""Training windows: what is chosen at random is a small record, what it does is a pure function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from detect.recipe import Augment
from synth.frames import Frame, Mask


@dataclass(frozen=True)
class View:
    """One window of one image, and what happens to it; see `detect.recipe.Augment`.

    Attributes
    ----------
    top, left, side : int
        The square window in pixels of the image; it may reach beyond the lower right border.
    angle : float
        Rotation about the window's centre in degrees, counter-clockwise.
    flip_rows, flip_cols, transpose : bool
        Applied in this order, after the rotation.
    blur, noise : float
        σ in pixels, and in units of normalised frames; 0 is none.
    gain, offset : float
        On normalised values.
    noise_seed : int
        Of the noise.
    """

    top: int
    left: int
    side: int
    angle: float
    flip_rows: bool
    flip_cols: bool
    transpose: bool
    blur: float
    gain: float
    offset: float
    noise: float
    noise_seed: int


def choose_view(
    augment: Augment,
    shape: tuple[int, int],
    centres: NDArray[np.float64],
    rng: np.random.Generator,
) -> View:
    """Choose a view of an image.

    Parameters
    ----------
    augment : Augment
        What may be chosen.
    shape : tuple of int
        (H, W) of the image.
    centres : (n, 2) ndarray of float
        (row, col) of its targets.
    rng : Generator
        The same number of values is drawn whatever the image, in the same order.

    Returns
    -------
    View
    """
    u = rng.random(15)
    low, high = augment.scale
    side = max(1, round(augment.crop / (low + (high - low) * u[0])))
    room = [max(length - side, 0) for length in shape]
    if len(centres) and u[1] < augment.target_share:
        centre = centres[int(u[2] * len(centres))]
        spans = [_around(int(c), side, r) for c, r in zip(centre, room, strict=True)]
    else:
        spans = [(0, r) for r in room]
    top, left = (
        first + int(x * (last - first + 1)) for (first, last), x in zip(spans, u[3:5], strict=True)
    )
    return View(
        top=top,
        left=left,
        side=side,
        angle=augment.rotation * (2 * u[14] - 1) if u[13] < 0.5 else 0.0,
        flip_rows=augment.mirror == "both" and u[5] < 0.5,
        flip_cols=augment.mirror != "none" and u[6] < 0.5,
        transpose=augment.transpose and u[7] < 0.5,
        blur=augment.blur * u[9] if u[8] < 0.5 else 0.0,
        gain=float((1 + augment.gain) ** (2 * u[10] - 1)),
        offset=augment.offset * (2 * u[11] - 1),
        noise=augment.noise * u[12],
        noise_seed=int(rng.integers(2**63)),
    )


def take_view(
    augment: Augment,
    view: View,
    frame: Frame,
    mask: Mask,
    offset: NDArray[np.float32],
    scale: NDArray[np.float32],
) -> tuple[NDArray[np.float32], Mask]:
    """Cut, turn, normalise and disturb a window.

    Parameters
    ----------
    augment : Augment
        Its `crop` and `fill`.
    view : View
    frame : (H, W) ndarray of uint8 or uint16
    mask : (H, W) ndarray of bool
    offset, scale : (C,) ndarray of float32
        The frame's normalisation, `Normalisation.affine`.

    Returns
    -------
    values : (C, crop, crop) ndarray of float32
    truth : (crop, crop) ndarray of bool
    """
    window, truth = (_cut(array, view, augment.fill) for array in (frame, mask))
    if view.side != augment.crop:
        size = (augment.crop, augment.crop)
        shrinking = view.side > augment.crop
        window = cv2.resize(
            window, size, interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
        )
        truth = cv2.resize(truth.view(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT).view(
            np.bool_
        )
    if view.angle:
        window, truth = _rotate(window, truth, view.angle, augment.fill)
    window, truth = _turn(window, view), _turn(truth, view)
    values: NDArray[Any] = window.astype(np.float32)
    if view.blur:
        values = cv2.GaussianBlur(values, (0, 0), view.blur, borderType=cv2.BORDER_REFLECT_101)
    values = (values - offset[:, None, None]) / scale[:, None, None]
    if view.gain != 1 or view.offset:
        values = values * np.float32(view.gain) + np.float32(view.offset)
    if view.noise:
        rng = np.random.default_rng(view.noise_seed)
        # One draw for all channels: they are copies of one grey frame.
        noise = rng.standard_normal(values.shape[1:], np.float32)
        values = values + np.float32(view.noise) * noise
    return values, truth


def _around(centre: int, side: int, room: int) -> tuple[int, int]:
    """First and last start of a window of `side` that holds `centre`, within 0 to `room`."""
    return min(max(centre - side + 1, 0), room), min(centre, room)


def _cut(array: NDArray[Any], view: View, fill: str) -> NDArray[Any]:
    window = array[view.top : view.top + view.side, view.left : view.left + view.side]
    below, right = (view.side - length for length in window.shape)
    if below or right:
        mode = "symmetric" if fill == "mirror" else "constant"
        return np.pad(window, ((0, below), (0, right)), mode=mode)  # type: ignore[call-overload]
    return window


def _rotate(
    window: NDArray[Any], truth: Mask, angle: float, fill: str
) -> tuple[NDArray[Any], Mask]:
    """Rotate both about the centre; a pixel is target when most of it was."""
    height, width = window.shape
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.0)
    border = cv2.BORDER_REFLECT if fill == "mirror" else cv2.BORDER_CONSTANT
    turned, share = (
        cv2.warpAffine(array, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=border)
        for array in (window, truth.astype(np.float32))
    )
    return turned, share > 0.5


def _turn(array: NDArray[Any], view: View) -> NDArray[Any]:
    if view.flip_rows:
        array = array[::-1]
    if view.flip_cols:
        array = array[:, ::-1]
    return np.ascontiguousarray(array.T if view.transpose else array)
