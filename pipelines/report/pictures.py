"""Pictures of a report: images of a set with outlined targets, and crops of what was predicted."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.preview import outlined
from pipelines.report.page import Html, image
from synth.disk.png import encode_picture
from synth.frames import Frame, Mask
from synth.targets import Box

# BGR of the outlines; told apart by people who do not see red and green too.
FOUND, MISSED, FALSE = (115, 158, 0), (0, 94, 213), (66, 228, 240)

_QUALITY = 88
_PANEL = 176
_GAP = 6
_LEAST_CROP = 32


@dataclass(frozen=True)
class Crop:
    """A window of a frame, of its label, and of what was predicted there.

    Attributes
    ----------
    frame : (h, w) ndarray of uint8
        Shown from its own 0.1st to its 99.9th percentile.
    truth : (h, w) ndarray of bool
    probability : (h, w) ndarray of float
    boxes : list of (colour, box)
        What to outline; boxes are in the window's pixels, and may reach beyond it.
    """

    frame: NDArray[np.uint8]
    truth: Mask
    probability: NDArray[np.floating]
    boxes: list[tuple[tuple[int, int, int], Box]]


def show_frame(frame: Frame, mask: Mask, cell: int, alt: str) -> Html:
    """Show an image of a set, fitted into a square of `cell` pixels, its targets outlined."""
    picture = outlined(frame, mask, cell)
    done, data = cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, _QUALITY))
    if not done:
        raise ValueError(f"a picture of shape {picture.shape} cannot be encoded")
    height, width = picture.shape[:2]
    return image(data.tobytes(), "jpeg", alt, (height, width))


def crop_window(box: Box, shape: tuple[int, int], least: int = _LEAST_CROP) -> Box:
    """Place a window around a box, three times as wide, and inside the frame where it fits.

    Parameters
    ----------
    box : (top, left, bottom, right)
        Half-open.
    shape : tuple of int
        (H, W) of the frame.
    least : int
        Side of the smallest window, pixels.

    Returns
    -------
    tuple of int
        Half-open (top, left, bottom, right); no larger than the frame.
    """
    side = max(least, 3 * max(box[2] - box[0], box[3] - box[1]))
    ends = []
    for first, last, length in zip(box[:2], box[2:], shape, strict=True):
        size = min(side, length)
        start = min(max((first + last - size) // 2, 0), length - size)
        ends.append((start, start + size))
    (top, bottom), (left, right) = ends
    return top, left, bottom, right


def take_crop(
    frame: Frame,
    truth: Mask,
    probability: NDArray[np.floating],
    window: Box,
    boxes: list[tuple[tuple[int, int, int], Box]],
) -> Crop:
    """Cut a window out of a frame and what belongs to it; `boxes` are in the frame's pixels."""
    top, left, bottom, right = window
    part = slice(top, bottom), slice(left, right)
    inside = [
        (colour, (box[0] - top, box[1] - left, box[2] - top, box[3] - left))
        for colour, box in boxes
        if box[0] < bottom and box[2] > top and box[1] < right and box[3] > left
    ]
    # Copies: a view would keep the whole frame in memory.
    return Crop(_stretch(frame[part]), truth[part].copy(), probability[part].copy(), inside)


def show_crop(crop: Crop, alt: str) -> Html:
    """Show a crop three times, enlarged: the frame with its outlines, the label, the prediction."""
    height, width = crop.frame.shape
    zoom = max(1, _PANEL // max(height, width))
    grey = np.rint(np.clip(crop.probability, 0, 1) * 255).astype(np.uint8)
    panels = [
        cv2.cvtColor(_enlarge(values, zoom), cv2.COLOR_GRAY2BGR)
        for values in (crop.frame, crop.truth.view(np.uint8) * np.uint8(255), grey)
    ]
    for panel in (panels[0], panels[2]):
        for colour, (top, left, bottom, right) in crop.boxes:
            corner = round((left - 1.5) * zoom), round((top - 1.5) * zoom)
            opposite = round((right + 1.5) * zoom) - 1, round((bottom + 1.5) * zoom) - 1
            cv2.rectangle(panel, corner, opposite, colour, 1)
    high, wide = panels[0].shape[:2]
    # Mid-grey between the panels is seen on light paper and on dark.
    sheet = np.full((high, 3 * wide + 2 * _GAP, 3), 128, np.uint8)
    for place, panel in enumerate(panels):
        sheet[:, place * (wide + _GAP) : place * (wide + _GAP) + wide] = panel
    return image(encode_picture(sheet), "png", alt, (high, 3 * wide + 2 * _GAP))


def _stretch(frame: Frame) -> NDArray[np.uint8]:
    low, high = np.percentile(frame, (0.1, 99.9))
    if high <= low:
        low, high = float(frame.min()), float(frame.max())
    scaled = (frame.astype(np.float32) - low) * (255.0 / max(float(high - low), 1.0))
    return np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)


def _enlarge(values: NDArray[np.uint8], zoom: int) -> NDArray[np.uint8]:
    return np.repeat(np.repeat(values, zoom, 0), zoom, 1)
