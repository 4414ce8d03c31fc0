"""Image files before they are decoded: their kind, whether they are whole, and their size.

Some decoders fill in missing data silently, and all of them allocate the size that a header
claims. So the structure of a file is checked first, and its size is compared with `MOST_PIXELS`
and `MOST_BYTES` before any memory is allocated. TIFF files are in `synth.disk.tiff`.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synth.errors import FrameError

MOST_PIXELS = 1 << 28
"""Pixels of a frame that is read: 16,384 x 16,384."""

MOST_BYTES = 1 << 30
"""Bytes of a frame in memory, in all of its channels."""

MOST_FILE_BYTES = 1 << 31
"""Bytes of an image file: twice what any frame takes."""

REPLACE = "replace or remove it"
SAVE_AS = "save it as an uncompressed TIFF or a PNG, 8 or 16 bits, grey or RGB"
DEFLATE = 1032
"""Deflate makes at most 258 bytes of two bits."""

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# Depth and colour type whose values every reader returns as they are stored.
_PNG_PLAIN = {(8, 0), (16, 0), (8, 2), (8, 4), (8, 6)}

_RAW_EXIF = b"Raw profile type exif\0"

_JPEG_UNREAD = {3: "lossless", 5: "hierarchical", 6: "hierarchical", 7: "hierarchical"}

# That of an 8-bit BMP file whose numbers are greys.
_GREY_PALETTE = bytes(value for number in range(256) for value in (number, number, number, 0))

_ORIENTATION = 274
# NumPy's names for the types of whole numbers; 2 is text, 13 and 18 are offsets of directories.
_TYPES = {1: "u1", 2: "u1", 3: "u2", 4: "u4", 8: "i2", 9: "i4", 13: "u4", 16: "u8", 18: "u8"}

# What files with a wrong suffix turn out to be: the bytes at a place, and the name.
_OTHER_KINDS = (
    (0, (b"GIF8",), "a GIF image"),
    (8, (b"WEBP",), "a WebP image"),
    (0, (b"SIMPLE  =",), "a FITS file"),
    (0, (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"), "a JPEG 2000 image"),
    (0, (b"\0\0\0\x0cJXL ", b"\xff\x0a"), "a JPEG XL image"),
    (0, (b"\xff\xd8\xff\xf7", b"II\xbc"), "a JPEG-LS or JPEG XR image"),
    (4, (b"ftypavif", b"ftypavis"), "an AVIF image"),
    (4, (b"ftyphei", b"ftyphev", b"ftypmif1", b"ftypmsf1"), "a HEIC image"),
    (4, (b"ftypcrx",), "a raw camera file"),
    (0, (b"FUJIFILMCCD-RAW", b"IIU\0", b"IIRO", b"IIRS", b"MMOR"), "a raw camera file"),
    (4, (b"ftyp",), "a video"),
    (0, (b"RIFF",), "a video"),
    (0, (b"\x93NUMPY",), "a NumPy array"),
    (0, (b"PK\x03\x04", b"\x1f\x8b", b"Rar!", b"7z\xbc\xaf"), "an archive or an .npz file"),
    (0, (b"\x89HDF", b"MATLAB"), "an HDF5 or MATLAB file"),
    (128, (b"DICM",), "a DICOM file"),
    (0, (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"), "a portable anymap (PBM, PGM or PPM)"),
)


@dataclass(frozen=True, slots=True)
class Header:
    """Facts from the header of an image file.

    Height and width are those of the pixels as stored, and `orientation` is 1 to 8, as in EXIF
    (`synth.disk.tiff.turn`). For `plain` see `synth.frames.is_plain`. Without `has_alpha`, the
    fourth channel that a decoder returns is no alpha.
    """

    height: int
    width: int
    orientation: int
    plain: bool
    has_alpha: bool = True


def is_png(data: bytes) -> bool:
    """Whether these are the first bytes of a PNG file."""
    return data.startswith(_PNG)


def read_header(data: bytes, path: Path | str) -> Header:
    """Read the header of a PNG, BMP or JPEG file, `data`, and check that the file is whole.

    `FrameError` says that it is another kind of file, is truncated, is of a kind that is not read,
    holds several images, or would be larger than `MOST_PIXELS` or `MOST_BYTES`.
    """
    if is_png(data):
        return _read_png(data, path)
    if data.startswith(b"\xff\xd8\xff") and data[3:4] != b"\xf7":
        return _read_jpeg(data, path)
    if data.startswith(b"BM"):
        return _read_bmp(data, path)
    raise FrameError(path, f"is not a PNG, TIFF, BMP or JPEG image{_other_kind(data)}")


def _other_kind(data: bytes) -> str:
    """What a file is instead, and what to do; to be appended to a message."""
    for at, starts, name in _OTHER_KINDS:
        if data.startswith(starts, at):
            return f" but {name}; {SAVE_AS}"
    start = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith(b"version https://git-lfs"):
        return " but a Git LFS pointer; run git lfs pull"
    html = start.startswith((b"<!doctype html", b"<html", b"<head", b"<!--"))
    if html or all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in data[:512]):
        kind = "an HTML page" if html else "a text file"
        return f" but {kind}; if it was downloaded, download it again"
    return f"; if it is raw or another format, {SAVE_AS}"


def read_fields(
    data: bytes, at: int, wanted: Container[int], order: str, big: bool = False
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Wanted tags and their whole numbers, of a directory of TIFF, BigTIFF or EXIF.

    `at` is its place, and `order` ``<`` or ``>``. At the end come 0 and the place of the next
    directory. `struct.error` says that something is behind the end of the data.
    """
    head, size, room, form, word = (8, 20, 8, "HHQ", "Q") if big else (2, 12, 4, "HHI", "I")

    def values(place: int, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
        if not 0 <= place <= len(data) - count * dtype.itemsize:
            raise struct.error
        return np.frombuffer(data, dtype, count, place)

    entries = int(values(at, np.dtype(f"{order}u{head}"), 1)[0])
    end = at + head + size * entries
    for place in range(at + head, end, size):
        tag, kind, count = struct.unpack_from(order + form, data, place)
        if tag in wanted and kind in _TYPES and count:
            dtype = np.dtype(order + _TYPES[kind])
            start = place + size - room
            if count * dtype.itemsize > room:
                (start,) = struct.unpack_from(order + word, data, start)
            yield tag, values(start, dtype, count)
    yield 0, values(end, np.dtype(order + word), 1)


def _exif_orientation(exif: bytes) -> int:
    """Orientation, 1 to 8, in a block of EXIF data; 1 where it has none or is damaged."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    try:
        if order:
            (first,) = struct.unpack_from(order + "I", exif, 4)
            tag, values = next(read_fields(exif, first, {_ORIENTATION}, order))
            if tag == _ORIENTATION and values.size == 1 and 1 <= values[0] <= 8:
                return int(values[0])
    except struct.error:
        pass
    return 1


def require_size(height: int, width: int, pixel_bits: int, path: Path | str) -> None:
    """Raise `FrameError` for a size of nothing, or one above `MOST_PIXELS` or `MOST_BYTES`."""
    if height < 1 or width < 1:
        raise FrameError(path, f"is damaged: its header says {height}x{width} pixels; {REPLACE}")
    if height * width > MOST_PIXELS or height * width * pixel_bits > 8 * MOST_BYTES:
        raise FrameError(
            path,
            f"is too large: its header says {height}x{width} pixels of {pixel_bits} bits; a frame "
            f"has at most {MOST_PIXELS:,} pixels and {MOST_BYTES:,} bytes, so cut it into tiles",
        )


def require_data(wanted: int, there: int, path: Path | str) -> None:
    """Raise `FrameError` where fewer bytes are there than the header needs."""
    if wanted > there:
        raise FrameError(
            path, f"is truncated: it holds less than the pixels that its header says; {REPLACE}"
        )


def refuse_unread(path: Path | str, *cases: tuple[object, str]) -> None:
    """Raise `FrameError` for the first case that is true, with what it says of the file."""
    for unread, words in cases:
        if unread:
            raise FrameError(path, f"{words}: not supported; {SAVE_AS}")


def _read_png(data: bytes, path: Path | str) -> Header:
    compressed, orientation, turned_by_text = 0, None, 1
    kinds = set()
    for kind, start, end in _png_chunks(data, path):
        kinds.add(kind)
        if kind == b"IDAT":
            compressed += end - start
        elif kind == b"eXIf":
            orientation = _exif_orientation(data[start:end])
        elif kind in (b"tEXt", b"zTXt") and data.startswith(_RAW_EXIF, start):
            profile = _raw_profile(data[start + len(_RAW_EXIF) : end], kind == b"zTXt")
            turned_by_text = _exif_orientation(profile)
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    bits = depth * _PNG_CHANNELS.get(colour, 4)
    # What is less than a byte, or a number of a palette, is more in memory.
    require_size(height, width, max(bits, 24 if colour == 3 else 8), path)
    require_data(height * (width * bits // 8), compressed * DEFLATE, path)
    if b"acTL" in kinds:
        raise FrameError(
            path, "is an animated PNG (APNG); write its frames as single files into a folder"
        )
    orientation = orientation or turned_by_text
    plain = (depth, colour) in _PNG_PLAIN and b"tRNS" not in kinds and orientation == 1
    return Header(height, width, orientation, plain)


def _png_chunks(data: bytes, path: Path | str) -> Iterator[tuple[bytes, int, int]]:
    """Kind of each chunk, and where its data start and end."""
    at = len(_PNG)
    if len(data) >= at + 8 and data[at : at + 8] != b"\0\0\0\x0dIHDR":
        raise FrameError(path, f"is damaged: the PNG file has no header; {REPLACE}")
    view = memoryview(data)
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        end = at + 8 + length
        if end + 4 > len(data):
            break
        if zlib.crc32(view[at + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            raise FrameError(path, f"is damaged: a PNG checksum is wrong; {REPLACE}")
        kind = data[at + 4 : at + 8]
        yield kind, at + 8, end
        if kind == b"IEND":
            return
        at = end + 4
    raise FrameError(path, f"is truncated: the PNG file has no end; {REPLACE}")


def _raw_profile(text: bytes, packed: bool) -> bytes:
    """EXIF data of a text chunk, as ImageMagick wrote it before PNG had a chunk for it."""
    try:
        if packed:
            text = zlib.decompressobj().decompress(text[1:], 1 << 17)
        # A line with the name, one with the length, and lines of hexadecimal digits.
        return bytes.fromhex("".join(text.decode("ascii").split()[2:]))
    except (zlib.error, ValueError):
        return b""


def _read_jpeg(data: bytes, path: Path | str) -> Header:
    at, orientation, header = 2, None, None
    while 0 <= (at := data.find(b"\xff", at)) <= len(data) - 4:
        marker, length = struct.unpack_from(">BH", data, at + 1)
        if marker == 0xD9:
            break
        if marker in (0, 1, 0xFF) or 0xD0 <= marker <= 0xD8:
            at += 1 if marker == 0xFF else 2
            continue
        at += 4
        if marker == 0xE1 and orientation is None and data[at : at + 6] == b"Exif\0\0":
            orientation = _exif_orientation(data[at : at - 2 + length])
        # A start of frame says how large it is; C4, C8 and CC are something else.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and at + 6 <= len(data):
            depth, height, width, channels = struct.unpack_from(">BHHB", data, at)
            # A DNL marker after the data may state fewer lines; no camera writes one.
            require_size(height, width, max(depth, 8) * max(channels, 1), path)
            coding = _JPEG_UNREAD.get(marker % 8)
            refuse_unread(
                path,
                (coding, f"is a {coding} JPEG"),
                (marker > 0xC8, "is a JPEG with arithmetic coding"),
                (channels == 4, "is a CMYK JPEG"),
                (depth != 8 or channels not in (1, 3), f"is a JPEG of {channels} x {depth} bits"),
            )
            orientation = orientation or 1
            header = Header(height, width, orientation, orientation == 1)
        if marker == 0xDA:
            # A thumbnail before the pixels has an end too; cameras append data after the end.
            if header and data.find(b"\xff\xd9", at) >= 0:
                return header
            break
        at += max(length, 2) - 2
    if header is None and b"\xff\xd9" in data:
        raise FrameError(path, f"is damaged: the JPEG file has no header; {REPLACE}")
    raise FrameError(path, f"is truncated: the JPEG file has no end; {REPLACE}")


def _read_bmp(data: bytes, path: Path | str) -> Header:
    if len(data) < 34 or len(data) < struct.unpack_from("<I", data, 2)[0]:
        raise FrameError(path, f"is truncated: the BMP file has no end; {REPLACE}")
    (header,) = struct.unpack_from("<I", data, 14)
    old = header == 12
    width, height, _, bits, *more = struct.unpack_from("<HHHH" if old else "<iiHHI", data, 18)
    packed = more[0] if more else 0
    # Rows go upwards, or downwards where the height is negative.
    height = abs(height)
    require_size(height, width, max(bits, 24), path)
    # Runs take two bytes for up to 255 pixels; bit fields are as large as what they hold.
    stored = 0 if packed in (1, 2) else bits
    require_data(height * (width * stored // 8), len(data), path)
    masks = struct.unpack_from("<IIII", data.ljust(70, b"\0"), 54) if packed == 3 else None
    fits = bits in (1, 4, 8, 24, 32) and packed <= 3 and not old
    if masks is not None:
        fits = bits == 32 and masks[:3] == (0xFF0000, 0xFF00, 0xFF)
    refuse_unread(
        path,
        (bits == 16, "is a BMP image of 16-bit colour"),
        (not fits, f"is an unusual BMP image, of {bits} bits"),
    )
    has_alpha = masks is not None and header >= 56 and masks[3] == 0xFF000000
    grey = bits == 8 and data.startswith(_GREY_PALETTE, 14 + header)
    return Header(height, width, 1, packed == 0 and (bits == 24 or grey), has_alpha)
