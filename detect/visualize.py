"""Figures: what a detector found, on its frame, beside what is there, and as surfaces."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from io import BytesIO

import cv2
import numpy as np
from numpy.typing import NDArray

from detect.matching import find_components, match
from synth.frames import Frame, Mask
from synth.targets import Box, find_targets

# RGB; told apart by people who do not see red and green too.
_FOUND, _MISSED, _FALSE = (0, 158, 115), (213, 94, 0), (240, 228, 66)
_GAP = 4
_MARGIN = 3
_TITLES = ("frame", "truth", "prediction")
# Pixels: the line of titles, and the least width that none of them is cut off at.
_TITLE_HEIGHT = 22
_TITLE_WIDTH = 96

Picture = NDArray[np.uint8]


def draw_overlay(frame: Frame, boxes: Iterable[Box]) -> Picture:
    """Outline what a detector found on its frame.

    Parameters
    ----------
    frame : (H, W) ndarray of uint8 or uint16
        Shown from its 0.1st to its 99.9th percentile.
    boxes : iterable of (top, left, bottom, right)
        Half-open; the outlines are 3 pixels wider on each side.

    Returns
    -------
    (H, W, 3) ndarray of uint8
        RGB.
    """
    picture = _to_rgb(_stretch(frame))
    for box in boxes:
        _outline(picture, box, _FOUND)
    return picture


def draw_panels(frame: Frame, truth: Mask, probability: NDArray[np.floating]) -> Picture:
    """Put a frame, its label and a prediction side by side, targets outlined.

    In the frame and the label, targets that the prediction answers (protocol ``strict``, at 0.5)
    are outlined in green and those it misses in red; in the prediction, false alarms in yellow.

    Parameters
    ----------
    frame : (H, W) ndarray of uint8 or uint16
        Shown from its 0.1st to its 99.9th percentile.
    truth : (H, W) ndarray of bool
    probability : (H, W) ndarray of float
        0 to 1.

    Returns
    -------
    (h, w, 3) ndarray of uint8
        RGB; frames that are smaller than 256 pixels are enlarged by a whole factor.
    """
    answer = probability > 0.5
    matched, answering = match(find_components(truth), find_components(answer), "strict")
    targets = {target.index: target.box for target in find_targets(truth)}
    found = {target.index: target.box for target in find_targets(answer)}
    true_colours = {i: _FOUND if i in set(matched.tolist()) else _MISSED for i in targets}
    found_colours = {i: _FOUND if i in set(answering.tolist()) else _FALSE for i in found}
    zoom = max(1, round(256 / max(frame.shape)))
    panels = []
    for title, grey, boxes, colours in zip(
        _TITLES,
        (_stretch(frame), truth * np.uint8(255), _to_eight_bits(probability)),
        (targets, targets, found),
        (true_colours, true_colours, found_colours),
        strict=True,
    ):
        panel = _to_rgb(np.repeat(np.repeat(grey, zoom, 0), zoom, 1))
        for index, box in boxes.items():
            _outline(panel, box, colours[index], zoom)
        panels.append(_entitle(panel, title))
    height = panels[0].shape[0]
    gap = np.full((height, _GAP, 3), 255, np.uint8)
    return np.concatenate([panels[0], gap, panels[1], gap, panels[2]], axis=1)


def draw_surfaces(frame: Frame, truth: Mask, probability: NDArray[np.floating]) -> Picture:
    """Draw a frame, its label and a prediction as three surfaces, as the field's papers do.

    Parameters
    ----------
    frame, truth, probability
        See `draw_panels`.

    Returns
    -------
    (h, w, 3) ndarray of uint8
        RGB.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(13, 4.6), dpi=100)
    # Three-dimensional axes keep no room for what is written around them, so it is made here.
    figure.subplots_adjust(left=0.01, right=0.96, bottom=0.06, top=0.92, wspace=0.12)
    for place, (title, height) in enumerate(
        zip(_TITLES, (frame, truth, probability), strict=True), 1
    ):
        axes = figure.add_subplot(1, 3, place, projection="3d")
        # Block maxima: a plain subsample would step over targets of a few pixels.
        step = max(1, max(frame.shape) // 128)
        below, right = (-length % step for length in height.shape)
        padded = np.pad(height.astype(np.float32), ((0, below), (0, right)), mode="edge")
        rows, cols = (length // step for length in padded.shape)
        peaks = padded.reshape(rows, step, cols, step).max(axis=(1, 3))
        x, y = np.meshgrid(np.arange(cols) * step, np.arange(rows) * step)
        surface = axes.plot_surface(
            x, y, peaks, cmap="viridis", rcount=128, ccount=128, linewidth=0
        )
        axes.set_title("frame, DN" if title == "frame" else title, pad=0)
        axes.set(xlabel="column", ylabel="row")
        axes.invert_yaxis()
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(5, integer=True))
        if title != "frame":
            axes.set_zlim(0, 1)
            surface.set_clim(0, 1)
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    picture = cv2.imdecode(np.frombuffer(buffer.getvalue(), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return np.ascontiguousarray(picture[..., ::-1], np.uint8)


def encode_picture(picture: Picture) -> bytes:
    """Encode an RGB picture as PNG."""
    done, data = cv2.imencode(".png", np.ascontiguousarray(picture[..., ::-1]))
    if not done:
        raise ValueError(f"an array of shape {picture.shape} is no picture")
    return bytes(data)


def _stretch(frame: Frame) -> NDArray[np.uint8]:
    low, high = np.percentile(frame, (0.1, 99.9))
    if high <= low:
        low, high = float(frame.min()), float(frame.max())
    scaled = (frame.astype(np.float32) - low) / max(high - low, 1e-6)
    return np.rint(np.clip(scaled, 0, 1) * 255).astype(np.uint8)


def _to_eight_bits(probability: NDArray[np.floating]) -> NDArray[np.uint8]:
    return np.rint(np.clip(probability, 0, 1) * 255).astype(np.uint8)


def _to_rgb(grey: NDArray[np.uint8]) -> Picture:
    return np.repeat(grey[..., None], 3, axis=2)


def _outline(picture: Picture, box: Box, colour: Sequence[int], zoom: int = 1) -> None:
    """Draw around a box of the frame, inside the picture; `zoom` is its pixels a frame's pixel."""
    height, width = picture.shape[:2]
    top, left, bottom, right = box
    first = max((left - _MARGIN) * zoom, 0), max((top - _MARGIN) * zoom, 0)
    last = (
        min((right + _MARGIN) * zoom, width) - 1,
        min((bottom + _MARGIN) * zoom, height) - 1,
    )
    cv2.rectangle(picture, first, last, tuple(colour), 1)


def _entitle(panel: Picture, title: str) -> Picture:
    """Put a title above a panel, which is made as wide as the title needs."""
    height, width = panel.shape[:2]
    wide = max(width, _TITLE_WIDTH)
    titled = np.full((height + _TITLE_HEIGHT, wide, 3), 255, np.uint8)
    titled[_TITLE_HEIGHT:, :width] = panel
    place = 2, _TITLE_HEIGHT - 7
    cv2.putText(titled, title, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    return titled
