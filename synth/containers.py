"""Image files before they are decoded: whole, and of a size that is meant.

Some decoders fill in what is missing, silently, and all of them make room for what a header
claims. So the structure of a file is looked at first, and its size is held against `MOST_PIXELS`
and `MOST_BYTES` before any memory is spent on it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from synth.errors import FrameError

MOST_PIXELS = 1 << 28
"""Pixels of a frame that is read: 16,384 x 16,384."""

MOST_BYTES = 1 << 30
"""Bytes of a frame in memory, in all of its channels."""

MOST_FILE_BYTES = 1 << 31
"""Bytes of an image file: twice what any frame takes."""

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# Deflate makes at most 258 bytes of two bits.
_DEFLATE = 1032

# Of a TIFF directory: tags, and struct's letters for the types of whole numbers.
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _SAMPLES = 256, 257, 258, 259, 277
_TILE_WIDTH, _TILE_HEIGHT = 322, 323
_TIFF_TYPES = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 16: "Q", 17: "q"}

_REPLACE = "replace or remove it"


def is_png(data: bytes) -> bool:
    """Whether these are the first bytes of a PNG file."""
    return data.startswith(_PNG)


def png_size(data: bytes) -> tuple[int, int]:
    """Size (H, W) that the header of a sound PNG file gives."""
    width, height = struct.unpack_from(">II", data, 16)
    return height, width


def check_image_file(data: bytes, path: Path | str) -> None:
    """Find damage, and sizes that nobody means, before a decoder does.

    Parameters
    ----------
    data : bytes
        All of the file.
    path : Path or str
        For messages.

    Raises
    ------
    FrameError
        It is not a PNG, TIFF, BMP or JPEG file, is truncated, holds several pages, or would be
        larger than `MOST_PIXELS` or `MOST_BYTES`.
    """
    if is_png(data):
        _check_png(data, path)
    elif data.startswith(b"\xff\xd8\xff"):
        _check_jpeg(data, path)
    elif data.startswith((b"II*\0", b"MM\0*")):
        _check_tiff(data, path)
    elif data.startswith(b"BM"):
        _check_bmp(data, path)
    else:
        raise FrameError(path, "is not a PNG, TIFF, BMP or JPEG image, whatever its name says")


def _require_size(height: int, width: int, pixel_bits: int, path: Path | str) -> None:
    if height < 1 or width < 1:
        raise FrameError(path, f"is damaged: its header says {height}x{width} pixels; {_REPLACE}")
    if height * width > MOST_PIXELS or height * width * pixel_bits > 8 * MOST_BYTES:
        raise FrameError(
            path,
            f"is too large: its header says {height}x{width} pixels of {pixel_bits} bits; a frame "
            f"has at most {MOST_PIXELS:,} pixels and {MOST_BYTES:,} bytes, so cut it into tiles",
        )


def _require_data(wanted: int, there: int, path: Path | str) -> None:
    if wanted > there:
        raise FrameError(
            path, f"is truncated: it holds less than the pixels that its header says; {_REPLACE}"
        )


def _check_png(data: bytes, path: Path | str) -> None:
    view = memoryview(data)
    at = len(_PNG)
    if len(data) >= at + 8 and data[at : at + 8] != b"\0\0\0\x0dIHDR":
        raise FrameError(path, f"is damaged: the PNG file has no header; {_REPLACE}")
    compressed = 0
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind = data[at + 4 : at + 8]
        end = at + 12 + length
        if end > len(data):
            break
        if zlib.crc32(view[at + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            raise FrameError(path, f"is damaged: a PNG checksum is wrong; {_REPLACE}")
        if kind == b"IDAT":
            compressed += length
        if kind == b"IEND":
            _check_png_size(data, compressed, path)
            return
        at = end
    raise FrameError(path, f"is truncated: the PNG file has no end; {_REPLACE}")


def _check_png_size(data: bytes, compressed: int, path: Path | str) -> None:
    height, width = png_size(data)
    depth, colour = data[24], data[25]
    bits = depth * _PNG_CHANNELS.get(colour, 4)
    # What is less than a byte, or a number of a palette, is more in memory.
    _require_size(height, width, max(bits, 24 if colour == 3 else 8), path)
    _require_data(height * (width * bits // 8), compressed * _DEFLATE, path)


def _check_jpeg(data: bytes, path: Path | str) -> None:
    if b"\xff\xd9" not in data[-64:]:
        raise FrameError(path, f"is truncated: the JPEG file has no end; {_REPLACE}")
    at = 2
    while 0 <= at <= len(data) - 4:
        at = data.find(b"\xff", at)
        if at < 0:
            break
        marker = data[at + 1] if at + 1 < len(data) else 0
        if marker == 0xFF:
            at += 1
            continue
        if marker == 0 or 0xD0 <= marker <= 0xD8 or marker == 1:
            at += 2
            continue
        # A start of frame says how large it is; C4, C8 and CC are something else.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and at + 10 <= len(data):
            depth, height, width, channels = struct.unpack_from(">BHHB", data, at + 4)
            # Fewer lines may be told at the end of the data; no camera does.
            _require_size(height, width, max(depth, 8) * max(channels, 1), path)
            return
        if marker in (0xD9, 0xDA) or at + 4 > len(data):
            break
        at += 2 + max(struct.unpack_from(">H", data, at + 2)[0], 2)
    raise FrameError(path, f"is damaged: the JPEG file has no header; {_REPLACE}")


def _check_bmp(data: bytes, path: Path | str) -> None:
    if len(data) < 34 or len(data) < struct.unpack_from("<I", data, 2)[0]:
        raise FrameError(path, f"is truncated: the BMP file has no end; {_REPLACE}")
    (header,) = struct.unpack_from("<I", data, 14)
    packed = 0
    if header == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
    else:
        width, height, _, bits, packed = struct.unpack_from("<iiHHI", data, 18)
    # Rows go upwards, or downwards where the height is negative.
    height = abs(height)
    _require_size(height, width, max(bits, 24), path)
    if packed != 0:
        # Runs take two bytes for up to 255 pixels; bit fields are as large as what they hold.
        bits = 0 if packed in (1, 2) else bits
    _require_data(height * (width * bits // 8), len(data), path)


def _check_tiff(data: bytes, path: Path | str) -> None:
    order = "<" if data[:2] == b"II" else ">"
    try:
        (first,) = struct.unpack_from(order + "I", data, 4)
        (entries,) = struct.unpack_from(order + "H", data, first)
        (following,) = struct.unpack_from(order + "I", data, first + 2 + 12 * entries)
        found: dict[int, int] = {}
        for tag, value in _tiff_numbers(data, order, first, entries):
            # A tag that comes twice counts by its greatest value, whichever a decoder takes.
            found[tag] = max(found.get(tag, 0), value)
    except struct.error:
        raise FrameError(path, f"is truncated: the TIFF file has no end; {_REPLACE}") from None
    if following:
        raise FrameError(path, "holds several pages; write them as single frames into a folder")
    bits = found.get(_BITS, 1) * found.get(_SAMPLES, 1)
    height, width = found.get(_HEIGHT, 0), found.get(_WIDTH, 0)
    _require_size(height, width, max(bits, 8), path)
    if _TILE_WIDTH in found or _TILE_HEIGHT in found:
        tile = found.get(_TILE_HEIGHT, 0), found.get(_TILE_WIDTH, 0)
        _require_size(*tile, max(bits, 8), path)
    if found.get(_COMPRESSION, 1) == 1:
        _require_data(height * (width * bits // 8), len(data), path)


def _tiff_numbers(data: bytes, order: str, first: int, entries: int) -> Iterator[tuple[int, int]]:
    """Tag and value, the greatest of several, of the fields that sizes follow from."""
    wanted = {_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _SAMPLES, _TILE_WIDTH, _TILE_HEIGHT}
    for number in range(entries):
        at = first + 2 + 12 * number
        tag, kind, count = struct.unpack_from(order + "HHI", data, at)
        letter = _TIFF_TYPES.get(kind)
        if tag not in wanted or letter is None or count == 0:
            continue
        # Of the samples of a pixel no frame has more than a few.
        count = min(count, 64)
        if count * struct.calcsize(letter) <= 4:
            place = at + 8
        else:
            (place,) = struct.unpack_from(order + "I", data, at + 8)
        yield tag, max(struct.unpack_from(f"{order}{count}{letter}", data, place))
