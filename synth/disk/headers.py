"""Image files before they are decoded: their kind, whether they are whole, and their size.

Some decoders fill in missing data silently, and all of them allocate the size that a header
claims. So the structure of a file is checked first, and its size is compared with `MOST_PIXELS`
and `MOST_BYTES` before any memory is allocated. TIFF files are in `synth.disk.tiff`.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

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

_JPEG_UNREAD = {3: "lossless", 5: "hierarchical", 6: "hierarchical", 7: "lossless hierarchical"}

_ORIENTATION = 274

# What files with a wrong suffix turn out to be: the bytes at a place, and the name.
_OTHER_KINDS = (
    (0, b"GIF8", "a GIF image"),
    (8, b"WEBP", "a WebP image"),
    (0, b"SIMPLE  =", "a FITS file"),
    (0, (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"), "a JPEG 2000 image"),
    (0, (b"\0\0\0\x0cJXL ", b"\xff\x0a"), "a JPEG XL image"),
    (0, b"\xff\xd8\xff\xf7", "a JPEG-LS image"),
    (0, b"II\xbc", "a JPEG XR image"),
    (4, (b"ftypavif", b"ftypavis"), "an AVIF image"),
    (4, (b"ftyphei", b"ftyphev", b"ftypmif1", b"ftypmsf1"), "a HEIC image"),
    (4, b"ftypcrx", "a raw camera file (CR3)"),
    (4, b"ftyp", "a video"),
    (0, b"FUJIFILMCCD-RAW", "a raw camera file (RAF)"),
    (0, b"IIU\0", "a raw camera file (RW2)"),
    (0, (b"IIRO", b"IIRS", b"MMOR"), "a raw camera file (ORF)"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"PK\x03\x04", "a ZIP archive or an .npz file"),
    (0, b"\x1f\x8b", "a gzip file"),
    (0, b"Rar!", "a RAR archive"),
    (0, b"7z\xbc\xaf", "a 7-Zip archive"),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"MATLAB", "a MATLAB file"),
    (0, b"%PDF", "a PDF file"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"v/1\x01", "an OpenEXR image"),
    (0, b"\0\0\x01\0", "an icon"),
    (0, b"RIFF", "a video"),
    (128, b"DICM", "a DICOM file"),
    (0, (b"P1", b"P4"), "a portable anymap (PBM)"),
    (0, (b"P2", b"P5"), "a portable anymap (PGM)"),
    (0, (b"P3", b"P6"), "a portable anymap (PPM)"),
)


@dataclass(frozen=True, slots=True)
class Header:
    """Facts from the header of an image file.

    Attributes
    ----------
    height, width : int
        Pixels, as stored.
    orientation : int
        1 to 8, as in EXIF; see `synth.disk.tiff.turn`.
    has_alpha : bool
        Whether a fourth channel, if the decoder returns one, is alpha.
    plain : bool
        See `synth.frames.is_plain`.
    """

    height: int
    width: int
    orientation: int = 1
    has_alpha: bool = True
    plain: bool = True

    @property
    def shape(self) -> tuple[int, int]:
        """Size (H, W) after the orientation is applied."""
        if self.orientation >= 5:
            return self.width, self.height
        return self.height, self.width


def is_png(data: bytes) -> bool:
    """Whether these are the first bytes of a PNG file."""
    return data.startswith(_PNG)


def read_header(data: bytes, path: Path | str) -> Header:
    """Read the header of a PNG, BMP or JPEG file, and check that the file is whole.

    Parameters
    ----------
    data : bytes
        All of the file.
    path : Path or str
        For messages.

    Raises
    ------
    FrameError
        It is another kind of file, is truncated, is of a kind that is not read, holds several
        images, or would be larger than `MOST_PIXELS` or `MOST_BYTES`.
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
    for at, magic, name in _OTHER_KINDS:
        if data.startswith(magic, at):
            return f" but {name}; {SAVE_AS}"
    start = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<!--")):
        return " but an HTML page; if it was downloaded, download it again"
    if start.startswith(b"version https://git-lfs"):
        return " but a Git LFS pointer; run git lfs pull"
    if start.startswith((b"<?xml", b"<svg")):
        return f" but an XML or SVG file; {SAVE_AS}"
    if all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in data[:512]):
        return " but a text file; if it was downloaded, download it again"
    return f"; if it is raw or another format, {SAVE_AS}"


def exif_orientation(exif: bytes) -> int:
    """Orientation, 1 to 8, in a block of EXIF data; 1 where it has none or is damaged.

    Parameters
    ----------
    exif : bytes
        The block from its byte order mark on, with or without ``Exif\\0\\0`` in front.
    """
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        magic, first = struct.unpack_from(order + "HI", exif, 2)
        (entries,) = struct.unpack_from(order + "H", exif, first)
        if magic != 42:
            return 1
        for at in range(first + 2, first + 2 + 12 * entries, 12):
            tag, kind, count = struct.unpack_from(order + "HHI", exif, at)
            if tag == _ORIENTATION:
                letter = {1: "B", 3: "H", 4: "I"}.get(kind)
                if letter is None or count != 1:
                    return 1
                (value,) = struct.unpack_from(order + letter, exif, at + 8)
                return int(value) if 1 <= value <= 8 else 1
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


def _read_png(data: bytes, path: Path | str) -> Header:
    view = memoryview(data)
    at = len(_PNG)
    if len(data) >= at + 8 and data[at : at + 8] != b"\0\0\0\x0dIHDR":
        raise FrameError(path, f"is damaged: the PNG file has no header; {REPLACE}")
    compressed = 0
    orientation, turned_by_text = None, 1
    transparent = animated = False
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind = data[at + 4 : at + 8]
        end = at + 12 + length
        if end > len(data):
            break
        if zlib.crc32(view[at + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            raise FrameError(path, f"is damaged: a PNG checksum is wrong; {REPLACE}")
        if kind == b"IDAT":
            compressed += length
        elif kind == b"eXIf":
            orientation = exif_orientation(data[at + 8 : end - 4])
        elif kind in (b"tEXt", b"zTXt") and data.startswith(_RAW_EXIF, at + 8):
            profile = _raw_profile(data[at + 8 + len(_RAW_EXIF) : end - 4], kind == b"zTXt")
            turned_by_text = exif_orientation(profile)
        elif kind == b"acTL":
            animated = True
        elif kind == b"tRNS":
            transparent = True
        elif kind == b"IEND":
            orientation = orientation or turned_by_text
            header = _png_header(data, compressed, orientation, not transparent, path)
            if animated:
                raise FrameError(
                    path,
                    "is an animated PNG (APNG); write its frames as single files into a folder",
                )
            return header
        at = end
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


def _png_header(
    data: bytes, compressed: int, orientation: int, opaque: bool, path: Path | str
) -> Header:
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    bits = depth * _PNG_CHANNELS.get(colour, 4)
    # What is less than a byte, or a number of a palette, is more in memory.
    require_size(height, width, max(bits, 24 if colour == 3 else 8), path)
    require_data(height * (width * bits // 8), compressed * DEFLATE, path)
    plain = (depth, colour) in _PNG_PLAIN and opaque and orientation == 1
    return Header(height, width, orientation, plain=plain)


def _read_jpeg(data: bytes, path: Path | str) -> Header:
    orientation = header = None
    for marker, at in _jpeg_segments(data):
        if marker == 0xE1 and orientation is None and data[at : at + 6] == b"Exif\0\0":
            (length,) = struct.unpack_from(">H", data, at - 2)
            orientation = exif_orientation(data[at : at - 2 + length])
        # A start of frame says how large it is; C4, C8 and CC are something else.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and at + 6 <= len(data):
            depth, height, width, channels = struct.unpack_from(">BHHB", data, at)
            # A DNL marker after the data may state fewer lines; no camera writes one.
            require_size(height, width, max(depth, 8) * max(channels, 1), path)
            _refuse_odd_jpeg(marker - 0xC0, depth, channels, path)
            orientation = orientation or 1
            header = Header(height, width, orientation, plain=orientation == 1)
        # A thumbnail before the pixels has an end too; cameras append data after the end.
        if marker == 0xDA and header is not None and data.find(b"\xff\xd9", at) >= 0:
            return header
    if header is None and b"\xff\xd9" in data:
        raise FrameError(path, f"is damaged: the JPEG file has no header; {REPLACE}")
    raise FrameError(path, f"is truncated: the JPEG file has no end; {REPLACE}")


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Marker, and the place behind the length, of the segments up to the first pixels."""
    at = 2
    while 0 <= at <= len(data) - 4:
        at = data.find(b"\xff", at)
        if at < 0:
            return
        marker = data[at + 1] if at + 1 < len(data) else 0
        if marker == 0xFF:
            at += 1
        elif marker == 0 or 0xD0 <= marker <= 0xD8 or marker == 1:
            at += 2
        elif marker == 0xD9 or at + 4 > len(data):
            return
        else:
            yield marker, at + 4
            if marker == 0xDA:
                return
            at += 2 + max(struct.unpack_from(">H", data, at + 2)[0], 2)


def _refuse_odd_jpeg(coding: int, depth: int, channels: int, path: Path | str) -> None:
    if coding % 8 in _JPEG_UNREAD:
        kind = f"{_JPEG_UNREAD[coding % 8]} JPEG"
    elif coding > 8:
        kind = "JPEG with arithmetic coding"
    elif depth != 8:
        kind = f"JPEG of {depth} bits"
    elif channels not in (1, 3):
        kind = "CMYK JPEG" if channels == 4 else f"JPEG of {channels} channels"
    else:
        return
    raise FrameError(path, f"is a {kind}: not supported; {SAVE_AS}")


def _read_bmp(data: bytes, path: Path | str) -> Header:
    if len(data) < 34 or len(data) < struct.unpack_from("<I", data, 2)[0]:
        raise FrameError(path, f"is truncated: the BMP file has no end; {REPLACE}")
    (header,) = struct.unpack_from("<I", data, 14)
    packed = 0
    if header == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
    else:
        width, height, _, bits, packed = struct.unpack_from("<iiHHI", data, 18)
    # Rows go upwards, or downwards where the height is negative.
    height = abs(height)
    require_size(height, width, max(bits, 24), path)
    # Runs take two bytes for up to 255 pixels; bit fields are as large as what they hold.
    stored = 0 if packed in (1, 2) else bits
    require_data(height * (width * stored // 8), len(data), path)
    masks = struct.unpack_from("<IIII", data.ljust(70, b"\0"), 54) if packed == 3 else None
    if header == 12:
        kind = "an OS/2 BMP image"
    elif packed > 3:
        kind = "a BMP image that contains another format"
    elif bits == 16:
        kind = "a BMP image of 16-bit colour"
    elif bits not in (1, 4, 8, 24, 32):
        kind = f"a BMP image of {bits} bits"
    elif masks is not None and (bits != 32 or masks[:3] != (0xFF0000, 0xFF00, 0xFF)):
        kind = "a BMP image with unusual bit fields"
    else:
        has_alpha = masks is not None and header >= 56 and masks[3] == 0xFF000000
        plain = packed == 0 and (bits == 24 or (bits == 8 and _is_grey(data, 14 + header)))
        return Header(height, width, 1, has_alpha, plain)
    raise FrameError(path, f"is {kind}: not supported; {SAVE_AS}")


def _is_grey(data: bytes, at: int) -> bool:
    """Whether the palette at this place of an 8-bit BMP file has each number's own grey."""
    ramp = bytes(value for number in range(256) for value in (number, number, number, 0))
    return data[at : at + len(ramp)] == ramp
