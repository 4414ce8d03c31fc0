"""Figures: what a detector found beside what is there, and both as surfaces."""

from __future__ import annotations

from io import BytesIO

import cv2
import numpy as np
from numpy.typing import NDArray

from detect.matching import find_components, match
from synth.frames import Frame, Mask
from synth.targets import find_targets

# RGB; told apart by people who do not see red and green too.
_FOUND, _MISSED, _FALSE = (0, 158, 115), (213, 94, 0), (240, 228, 66)
_GAP = 4
_MARGIN = 3

Picture = NDArray[np.uint8]


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
    for grey, boxes, colours in (
        (_stretch(frame), targets, true_colours),
        (truth * np.uint8(255), targets, true_colours),
        (np.rint(np.clip(probability, 0, 1) * 255).astype(np.uint8), found, found_colours),
    ):
        panel = np.repeat(np.repeat(grey, zoom, 0), zoom, 1)[..., None].repeat(3, 2)
        for index, (top, left, bottom, right) in boxes.items():
            first = (left - _MARGIN) * zoom, (top - _MARGIN) * zoom
            last = (right + _MARGIN) * zoom - 1, (bottom + _MARGIN) * zoom - 1
            cv2.rectangle(panel, first, last, colours[index], 1)
        panels += [panel, np.full((panel.shape[0], _GAP, 3), 255, np.uint8)]
    return np.concatenate(panels[:-1], axis=1)


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

    figure = Figure(figsize=(12, 4), dpi=100, layout="constrained")
    for place, (title, height) in enumerate(
        (("frame", frame), ("label", truth), ("prediction", probability)), 1
    ):
        axes = figure.add_subplot(1, 3, place, projection="3d")
        # Block maxima: a plain subsample would step over targets of a few pixels.
        step = max(1, max(frame.shape) // 128)
        below, right = (-length % step for length in height.shape)
        padded = np.pad(height.astype(np.float32), ((0, below), (0, right)), mode="edge")
        rows, cols = (length // step for length in padded.shape)
        peaks = padded.reshape(rows, step, cols, step).max(axis=(1, 3))
        x, y = np.meshgrid(np.arange(cols) * step, np.arange(rows) * step)
        axes.plot_surface(x, y, peaks, cmap="viridis", rcount=128, ccount=128, linewidth=0)
        axes.set(title=title, xlabel="column", ylabel="row")
        if title != "frame":
            axes.set_zlim(0, 1)
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
