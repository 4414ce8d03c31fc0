"""Arrays as PNG files."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

_Grey = NDArray[np.uint8] | NDArray[np.uint16]

# A noisy frame holds no repeats to look for: prediction and Huffman codes alone make it a fifth
# smaller than OpenCV's default does, in the same time. A mask is nothing but repeats.
_FRAME = cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY, cv2.IMWRITE_PNG_FILTER_PAETH
_MASK = cv2.IMWRITE_PNG_STRATEGY_RLE, cv2.IMWRITE_PNG_FILTER_NONE


def encode_png(image: _Grey | NDArray[np.bool_]) -> bytes:
    """Encode a frame or a mask, (H, W), as a grey PNG of its own depth; True becomes 255.

    The bytes are the same for the same array, always.
    """
    strategy, prediction = _FRAME
    if image.dtype == np.bool_:
        strategy, prediction = _MASK
        image = image.view(np.uint8) * np.uint8(255)
    options = (cv2.IMWRITE_PNG_STRATEGY, strategy, cv2.IMWRITE_PNG_FILTER, prediction)
    return _encode(cast(_Grey, image), 1, *options)


def encode_picture(picture: NDArray[np.uint8]) -> bytes:
    """Encode a grey (H, W) or BGR (H, W, 3) picture, for people to look at, as a small PNG."""
    return _encode(picture, 9)


def _encode(image: _Grey, level: int, *options: int) -> bytes:
    done, data = cv2.imencode(".png", image, (cv2.IMWRITE_PNG_COMPRESSION, level, *options))
    if not done:
        raise ValueError(f"an array of shape {image.shape} and type {image.dtype} is no PNG image")
    return data.tobytes()
