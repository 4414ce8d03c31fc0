"""Arrays as PNG files (PNG specification, third edition)."""

from __future__ import annotations

import struct

import cv2
import numpy as np
from numpy.typing import NDArray

try:
    from isal import __version__ as _version
    from isal.isal_zlib import compress, crc32

    ENCODER = f"isal {_version}"
except ImportError:  # no wheel for this machine: the same pixels, slower
    from zlib import ZLIB_RUNTIME_VERSION, compress, crc32

    ENCODER = f"zlib {ZLIB_RUNTIME_VERSION}"

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER = struct.Struct(">IIBBBBB")
_GREY = 0
_NO_FILTER, _UP = 0, 2
# A file may have chunks of up to 2³¹ - 1 bytes.
_CHUNK = 1 << 30


def encode_png(image: NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.bool_]) -> bytes:
    """Encode a frame or a mask, (H, W), as a grey PNG of its own depth; True becomes 255.

    The bytes are the same for the same array and the same version of isal, always. It raises
    `ValueError` for an array of another type or shape, or without pixels.
    """
    known = image.dtype.newbyteorder("=") in (np.bool_, np.uint8, np.uint16)
    if not known or image.ndim != 2 or not image.size:
        raise ValueError(f"an array of shape {image.shape} and type {image.dtype} is no PNG image")
    height, width = image.shape
    if image.dtype == np.bool_:
        values = image.view(np.uint8) * np.uint8(255)
    else:
        values = np.ascontiguousarray(image, image.dtype.newbyteorder(">")).view(np.uint8)
    lines = np.empty((height, values.shape[1] + 1), np.uint8)
    if image.dtype == np.bool_:
        # A mask has nothing but repeats, which a difference of lines would interrupt.
        lines[:, 0], lines[:, 1:] = _NO_FILTER, values
    else:
        # Differences from the line above cost one pass; the filters that look to the left save at
        # most 5% more of a frame, and Paeth's costs more than compressing does.
        lines[:, 0], lines[0, 1:] = _UP, values[0]
        np.subtract(values[1:], values[:-1], out=lines[1:, 1:])
    data = compress(lines, 1)
    chunks = [(b"IHDR", _HEADER.pack(width, height, 8 * values.shape[1] // width, _GREY, 0, 0, 0))]
    chunks += [(b"IDAT", data[at : at + _CHUNK]) for at in range(0, len(data), _CHUNK)]
    chunks += [(b"IEND", b"")]
    return _SIGNATURE + b"".join(_pack_chunk(name, content) for name, content in chunks)


def _pack_chunk(name: bytes, content: bytes) -> bytes:
    checksum = crc32(content, crc32(name))
    return b"".join((struct.pack(">I", len(content)), name, content, struct.pack(">I", checksum)))


def encode_picture(picture: NDArray[np.uint8]) -> bytes:
    """Encode a grey (H, W) or BGR (H, W, 3) picture, for people to look at, as a small PNG."""
    done, data = cv2.imencode(".png", picture, (cv2.IMWRITE_PNG_COMPRESSION, 9))
    if not done:
        raise ValueError(f"an array of shape {picture.shape} is no PNG image")
    return data.tobytes()
