"""A square patch of an image and of its mask, turned in place of itself, for tests."""

from __future__ import annotations

import numpy as np

from synth.frames import Frame, Mask
from synth.steps.turn import turned
from synth.targets import Box


def turn_patch(
    image: Frame, mask: Mask, box: Box, quarter_turns: int, mirror: bool = False
) -> tuple[Frame, Mask]:
    """Copies of both with what is in the box mirrored, then turned counter-clockwise."""
    window = np.s_[box[0] : box[2], box[1] : box[3]]
    image, mask = image.copy(), mask.copy()
    image[window] = turned(image[window], quarter_turns, mirror)
    mask[window] = turned(mask[window], quarter_turns, mirror)
    return image, mask
