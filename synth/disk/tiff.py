"""TIFF and BigTIFF files: the directory, and the pixels it describes.

OpenCV decodes the layouts that it reads right, and the compressed data of others. It misreads
several layouts without an error: planar 16-bit samples, 16-bit WhiteIsZero, 16-bit grey with
alpha, packed 10- and 12-bit samples.

Tags and values are those of the TIFF 6.0 specification (Adobe, 1992).
"""

from __future__ import annotations

import lzma
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from synth.disk.headers import DEFLATE, REPLACE, SAVE_AS, require_data, require_size
from synth.errors import FrameError
from synth.opencv import silent

Image = NDArray[np.uint8] | NDArray[np.uint16]

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION = 254, 256, 257, 258, 259
_PHOTOMETRIC, _FILL_ORDER, _DESCRIPTION, _OFFSETS = 262, 266, 270, 273
_ORIENTATION, _SAMPLES, _ROWS, _COUNTS, _PLANAR = 274, 277, 278, 279, 284
_PREDICTOR, _COLOUR_MAP, _TILE_WIDTH, _TILE_HEIGHT = 317, 320, 322, 323
_TILE_OFFSETS, _TILE_COUNTS, _EXTRA, _FORMAT, _DEPTH = 324, 325, 338, 339, 32997
_USED = {
    _SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER, _DESCRIPTION,
    _OFFSETS, _ORIENTATION, _SAMPLES, _ROWS, _COUNTS, _PLANAR, _PREDICTOR, _COLOUR_MAP,
    _TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_COUNTS, _EXTRA, _FORMAT, _DEPTH,
}  # fmt: skip
_LISTS = {
    _BITS, _DESCRIPTION, _OFFSETS, _COUNTS, _COLOUR_MAP, _TILE_OFFSETS, _TILE_COUNTS, _EXTRA,
    _FORMAT,
}  # fmt: skip
# NumPy's names for the types of whole numbers; 2 is text, 13 and 18 are offsets of directories.
_TYPES = {1: "u1", 2: "u1", 3: "u2", 4: "u4", 8: "i2", 9: "i4", 13: "u4", 16: "u8", 18: "u8"}

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_COLOURS = {
    4: "a transparency mask", 5: "CMYK", 6: "YCbCr", 8: "CIE L*a*b*", 9: "ICC L*a*b*",
    10: "ITU L*a*b*", 32803: "raw camera data (CFA)", 32844: "LogL", 32845: "LogLuv",
    34892: "raw camera data (LinearRaw)",
}  # fmt: skip

_NONE, _LZW, _PACKBITS, _LZMA = 1, 5, 32773, 34925
_DEFLATED = (8, 32946)
_FAX, _JPEG = (2, 3, 4), 7
_JPEG_COLOURS = {(1, _BLACK_IS_ZERO), (3, _RGB), (3, _YCBCR)}
_COMPRESSIONS = {
    6: "old-style JPEG", 9: "JBIG", 10: "JBIG", 32766: "NeXT", 32771: "CCITT RLE by words",
    32809: "ThunderScan", 33003: "JPEG 2000", 33005: "JPEG 2000", 34676: "SGI Log",
    34677: "SGI Log 24", 34712: "JPEG 2000", 34713: "Nikon NEF", 34887: "LERC", 34892: "lossy JPEG",
    34933: "PNG", 34934: "JPEG XR", 50000: "Zstandard", 50001: "WebP", 50002: "JPEG XL",
    52546: "JPEG XL",
}  # fmt: skip
# How many bytes one byte can become, at most.
_RATIOS = {_NONE: 1, _LZW: 4096, _PACKBITS: 64, 8: DEFLATE, 32946: DEFLATE}

_MOST_PAGES = 1 << 12
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the pixels of a TIFF file are, and how they are stored.

    Attributes
    ----------
    order : str
        ``<`` or ``>``.
    big : bool
        Whether it is BigTIFF.
    height, width : int
        Pixels, as stored.
    bits, samples : int
        Bits of each sample, and samples of each pixel.
    photometric, compression, predictor, fill_order, orientation : int
        Values of the tags.
    planar : bool
        Whether each sample has its own segments.
    premultiplied : bool
        Whether colour is stored multiplied by alpha.
    alpha : bool
        Whether a second grey channel is alpha.
    tile, rows : (int, int) or None, int
        Size (H, W) of a tile; None where there are strips, of so many rows.
    offsets, counts : ndarray of int64
        Places and lengths of the segments.
    colours : (3, 2**bits) ndarray of uint8
        Red, green and blue of a palette; else empty.
    plain : bool
        See `synth.frames.is_plain`.
    """

    order: str
    big: bool
    height: int
    width: int
    bits: int
    samples: int
    photometric: int
    compression: int
    predictor: int
    fill_order: int
    orientation: int
    planar: bool
    premultiplied: bool
    alpha: bool
    tile: tuple[int, int] | None
    rows: int
    offsets: NDArray[np.int64]
    counts: NDArray[np.int64]
    colours: NDArray[np.uint8]
    plain: bool


def is_tiff(data: bytes) -> bool:
    """Whether these are the first bytes of a TIFF or BigTIFF file."""
    return data.startswith(_MAGIC)


def turn(image: Image, orientation: int) -> Image:
    """Turn a stored image the way that it is shown.

    Parameters
    ----------
    image : (H, W) or (H, W, C) ndarray
    orientation : int
        1 to 8, as in TIFF and EXIF: where the first row and column of the stored image are shown.
    """
    if orientation == 1:
        return image
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return cast(Image, np.ascontiguousarray(image))


def read_layout(data: bytes, path: Path | str) -> Layout:
    """Read the directory of a TIFF file, and check that `decode_tiff` reads what it describes.

    Nothing is allocated in proportion to a number in the file.

    Parameters
    ----------
    data : bytes
        All of the file.
    path : Path or str
        For messages.

    Raises
    ------
    FrameError
        The file is truncated or damaged, too large, has several pages, or stores its pixels in
        a way that is not read.
    """
    try:
        fields, pages, frames = _read_pages(data)
    except (struct.error, _TruncatedError):
        raise FrameError(path, f"is truncated: the TIFF file has no end; {REPLACE}") from None
    except _DamagedError as error:
        raise FrameError(path, f"is damaged: {error}; {REPLACE}") from None
    layout = _layout(data, fields, pages, frames, path)
    _require_known(layout, fields, path)
    _require_segments(data, layout, path)
    return layout


class _TruncatedError(Exception):
    """A place behind the end of the file."""


class _DamagedError(Exception):
    """A directory that contradicts itself; the text says how."""


Fields = dict[int, NDArray[np.int64]]


def _read_pages(data: bytes) -> tuple[Fields, int, int]:
    """Fields of the first page, the number of pages, and of those that are no previews.

    The pages after a second that is no preview are not counted.
    """
    order = "<" if data[:2] == b"II" else ">"
    big = data[:4] in _MAGIC[2:]
    if big and struct.unpack_from(order + "HH", data, 4) != (8, 0):
        raise _DamagedError("its BigTIFF header is none")
    (at,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    fields, at = _read_fields(data, order, big, at, _USED)
    pages = 1
    while at:
        page, at = _read_fields(data, order, big, at, {_SUBFILE})
        pages += 1
        if not _first(page, _SUBFILE, 0) & 5:
            return fields, pages, 2
        if pages > _MOST_PAGES:
            raise _DamagedError("its pages have no end")
    return fields, pages, 2 if _is_stack(fields) else 1


def _read_fields(
    data: bytes, order: str, big: bool, at: int, wanted: set[int]
) -> tuple[Fields, int]:
    """Fields of a directory by tag, and the place of the next directory, 0 for none."""
    head, size, form, word = (8, 20, "HHQ", "Q") if big else (2, 12, "HHI", "I")
    if at > len(data):
        raise _TruncatedError
    (entries,) = struct.unpack_from(order + ("Q" if big else "H"), data, at)
    end = at + head + size * entries
    if end > len(data):
        raise _TruncatedError
    fields: Fields = {}
    for place in range(at + head, end, size):
        tag, kind, count = struct.unpack_from(order + form, data, place)
        if tag not in wanted or kind not in _TYPES or count == 0:
            continue
        if tag in fields or (count > 1 and tag not in _LISTS):
            raise _DamagedError(f"its TIFF tag {tag} has several values")
        dtype = np.dtype(order + _TYPES[kind])
        value = place + size - (8 if big else 4)
        if count * dtype.itemsize > (8 if big else 4):
            (value,) = struct.unpack_from(order + word, data, value)
        if value + count * dtype.itemsize > len(data):
            raise _TruncatedError
        fields[tag] = np.frombuffer(data, dtype, count, value).astype(np.int64)
    (following,) = struct.unpack_from(order + word, data, end)
    return fields, following


def _is_stack(fields: Fields) -> bool:
    """Whether one directory describes several pages, as ImageJ and tifffile write them."""
    text = fields.get(_DESCRIPTION, np.zeros(0, np.int64))[:2000]
    described = (text & 0xFF).astype(np.uint8).tobytes()
    images = re.search(rb"^ImageJ=[\s\S]*^images=(\d+)", described, re.MULTILINE)
    truncated = re.match(rb'\{"shape": \[[\d, ]+\].*"truncated": true', described)
    return bool((images and int(images[1][:9]) > 1) or truncated or _first(fields, _DEPTH, 1) > 1)


def _first(fields: Fields, tag: int, default: int) -> int:
    return int(fields[tag][0]) if tag in fields else default


def _layout(data: bytes, fields: Fields, pages: int, frames: int, path: Path | str) -> Layout:
    if frames > 1:
        raise FrameError(path, "holds several pages; write them as single frames into a folder")
    height, width = _first(fields, _HEIGHT, 0), _first(fields, _WIDTH, 0)
    bits, samples = int(fields.get(_BITS, np.ones(1)).max()), _first(fields, _SAMPLES, 1)
    # Grey with alpha becomes four channels.
    memory = max(bits, 8) * (4 if samples == 2 else max(samples, 1))
    photometric = _first(fields, _PHOTOMETRIC, -1)
    require_size(height, width, max(memory, 24) if photometric == _PALETTE else memory, path)
    tile = None
    if _TILE_WIDTH in fields or _TILE_HEIGHT in fields:
        tile = _first(fields, _TILE_HEIGHT, 0), _first(fields, _TILE_WIDTH, 0)
        require_size(*tile, memory, path)
        # Tiles may reach beyond the image, and all of them are decoded.
        require_size(-(-height // tile[0]) * tile[0], -(-width // tile[1]) * tile[1], memory, path)
    orientation = _first(fields, _ORIENTATION, 1)
    compression, planar = _first(fields, _COMPRESSION, _NONE), _first(fields, _PLANAR, 1) == 2
    fill_order = _first(fields, _FILL_ORDER, 1)
    colours: NDArray[Any] = np.zeros((3, 0), np.uint8)
    if photometric == _PALETTE and bits <= 8 and fields.get(_COLOUR_MAP, colours).size == 3 << bits:
        colours = fields[_COLOUR_MAP].reshape(3, -1)
        # The tag has 16 bits, but some writers put 8 there.
        colours = (colours >> 8 if colours.max() > 255 else colours).astype(np.uint8)
    order, big = "<" if data[:2] == b"II" else ">", data[:4] in _MAGIC[2:]
    # Pillow leaves 16-bit values in the order of the file, with which PyTorch fails.
    grey = (8, order) if bits == 8 else (16, "<")
    usual = ((bits, order) == grey and samples == 1 and photometric == _BLACK_IS_ZERO) or (
        bits == 8 and samples == 3 and photometric == _RGB and not planar
    )
    first = (pages, fill_order, orientation) == (1, 1, 1)
    coded = compression in (_NONE, _LZW, _PACKBITS, *_DEFLATED)
    return Layout(
        order=order,
        big=big,
        height=height,
        width=width,
        bits=bits,
        samples=samples,
        photometric=photometric,
        compression=compression,
        predictor=_first(fields, _PREDICTOR, 1),
        fill_order=fill_order,
        orientation=orientation if 1 <= orientation <= 8 else 1,
        planar=planar and samples > 1,
        premultiplied=samples in (2, 4) and _first(fields, _EXTRA, 0) == 1,
        alpha=samples == 2 and _first(fields, _EXTRA, 0) == 2,
        tile=tile,
        rows=min(_first(fields, _ROWS, height), height),
        offsets=fields.get(_TILE_OFFSETS if tile else _OFFSETS, np.zeros(0, np.int64)),
        counts=fields.get(_TILE_COUNTS if tile else _COUNTS, np.zeros(0, np.int64)),
        colours=colours,
        plain=usual and coded and first and not (big or tile),
    )


def _require_known(layout: Layout, fields: Fields, path: Path | str) -> None:
    """Refuse pixels that `decode_tiff` does not read right."""
    bits, samples, photometric = layout.bits, layout.samples, layout.photometric
    forms = {2: "int", 3: "float", 5: "complex int", 6: "complex"}
    form = next((forms[int(f)] for f in fields.get(_FORMAT, ()) if int(f) in forms), "uint")
    if form != "uint" or bits > 16:
        raise FrameError(
            path, f"holds {form}{bits} values; frames are 8- or 16-bit unsigned; {SAVE_AS}"
        )
    faxed, jpeg = layout.compression in _FAX, layout.compression == _JPEG
    unread = None
    if _first(fields, _SUBFILE, 0) & 5:
        unread = "starts with a preview or a mask, as raw camera files (NEF, DNG) do"
    elif np.unique(fields.get(_BITS, np.ones(1))).size > 1:
        unread = "has samples of different depths"
    elif photometric < 0:
        unread = "does not say what its values mean (no PhotometricInterpretation tag)"
    elif photometric in _COLOURS and not (jpeg and photometric == _YCBCR):
        unread = f"holds {_COLOURS[photometric]}"
    elif photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _YCBCR):
        unread = f"holds colours of an unknown kind ({photometric})"
    elif bits not in (1, 2, 4) and bits < 8:
        unread = f"has samples of {bits} bits"
    elif photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO) and samples not in (1, 2):
        unread = f"has {samples} channels that are not marked as RGB"
    elif photometric in (_RGB, _YCBCR) and (samples not in (3, 4) or bits < 8):
        unread = f"has {samples} channels of {bits} bits marked as RGB"
    elif photometric == _PALETTE and (samples != 1 or not layout.colours.size):
        unread = "has a palette that does not fit its pixels"
    elif layout.compression not in (*_RATIOS, _LZMA, _JPEG, *_FAX):
        name = _COMPRESSIONS.get(layout.compression, f"number {layout.compression}")
        unread = f"is compressed by {name}"
    elif faxed and ((bits, samples) != (1, 1) or photometric > _BLACK_IS_ZERO):
        unread = f"is compressed as a fax, with {samples} x {bits} bits and colour {photometric}"
    elif jpeg and (bits != 8 or layout.planar or (samples, photometric) not in _JPEG_COLOURS):
        unread = f"is compressed by JPEG, with {samples} x {bits} bits and colour {photometric}"
    elif (faxed or jpeg) and layout.big:
        unread = "is a BigTIFF file compressed by JPEG or as a fax"
    elif layout.predictor != 1 and not (faxed or jpeg) and (
        layout.predictor != 2
        or bits not in (8, 16)
        or layout.compression not in (_LZW, _LZMA, *_DEFLATED)
    ):  # fmt: skip
        unread = f"uses predictor {layout.predictor} on {bits}-bit values"
    elif layout.fill_order != 1 and not faxed and (bits > 1 or layout.compression != _NONE):
        unread = "stores the bits of each byte in reverse (FillOrder 2)"
    if unread:
        raise FrameError(path, f"{unread}: not supported; {SAVE_AS}")


def _require_segments(data: bytes, layout: Layout, path: Path | str) -> None:
    """Refuse strips and tiles that are absent, or end after the file."""
    if layout.rows < 1:
        raise FrameError(path, f"is damaged: its strips have no rows; {REPLACE}")
    planes = layout.samples if layout.planar else 1
    height, width = layout.tile or (layout.rows, layout.width)
    number = planes * -(-layout.height // height) * -(-layout.width // width)
    whole = layout.compression == _NONE or number == 1
    counts = layout.counts
    if len(layout.offsets) < number or (len(counts) < number and not whole):
        raise FrameError(path, f"is damaged: it has too few strips or tiles; {REPLACE}")
    row = layout.width * layout.bits * layout.samples // 8
    ratio = _RATIOS.get(layout.compression)
    if ratio:
        listed = len(counts) >= number and layout.compression != _NONE
        there = min(len(data), int(counts.sum())) if listed else len(data)
        require_data(layout.height * row, there * ratio, path)
    missing = layout.offsets[:number].min() == 0
    if missing or (layout.compression != _NONE and len(counts) and counts[:number].min() == 0):
        raise FrameError(path, f"has strips or tiles without data: not supported; {SAVE_AS}")
    ends = layout.offsets[:number] + (counts[:number] if len(counts) >= number else 0)
    if layout.offsets.min() < 0 or ends.min() < 0 or ends.max() > len(data):
        raise FrameError(path, f"is truncated: its pixels end after the file; {REPLACE}")


def decode_tiff(data: bytes, layout: Layout, path: Path | str) -> Image:
    """Decode the pixels of a TIFF file.

    Samples of 9 to 15 bits keep their own values; those of 1, 2 and 4 bits are scaled to 8 bits,
    as in PNG. WhiteIsZero is inverted within the bits of a sample. A second grey channel is
    dropped unless it is marked as alpha.

    Parameters
    ----------
    data : bytes
        All of the file.
    layout : Layout
        From `read_layout`.
    path : Path or str
        For messages.

    Returns
    -------
    (H, W), (H, W, 3) or (H, W, 4) ndarray of uint8 or uint16
        Colour in OpenCV's order, BGR or BGRA.

    Raises
    ------
    FrameError
        The compressed data is damaged, or colour is stored multiplied by alpha.
    """
    unusual = layout.big or layout.planar or layout.tile or layout.orientation > 1
    colour = layout.samples, layout.photometric
    if layout.compression in (_JPEG, *_FAX) or (
        layout.bits == 16
        and not unusual
        and layout.compression != _LZMA
        and colour in ((1, _BLACK_IS_ZERO), (3, _RGB))
    ):
        return _decode_whole(data, layout, path)
    try:
        stored = _read_samples(data, layout)
    except (_DamagedError, zlib.error, lzma.LZMAError, EOFError):
        raise FrameError(path, f"is damaged: it cannot be decoded; {REPLACE}") from None
    if layout.premultiplied and int(stored[..., -1].min()) < (1 << layout.bits) - 1:
        raise FrameError(
            path, "holds colours multiplied by alpha, which is not read; save it without alpha"
        )
    return turn(_as_shown(stored, layout), layout.orientation)


def read_palette_numbers(data: bytes, path: Path | str) -> Image | None:
    """Numbers (H, W) of the palette of a sound TIFF file; None for a file that has none."""
    layout = read_layout(data, path)
    if layout.photometric != _PALETTE:
        return None
    stored = cast(Image, np.ascontiguousarray(_read_samples(data, layout)[..., 0]))
    return turn(stored, layout.orientation)


def _as_shown(stored: Image, layout: Layout) -> Image:
    if layout.photometric == _PALETTE:
        return layout.colours[::-1].T[stored[..., 0]]
    if layout.photometric == _RGB:
        code = cv2.COLOR_RGB2BGR if layout.samples == 3 else cv2.COLOR_RGBA2BGRA
        return cast(Image, cv2.cvtColor(stored, code))
    grey = cast(Image, np.ascontiguousarray(stored[..., 0]))
    most = (1 << layout.bits) - 1
    if layout.photometric == _WHITE_IS_ZERO:
        grey = cast(Image, np.subtract(most, grey, dtype=grey.dtype))
    if layout.bits < 8:
        grey = cast(Image, np.multiply(grey, 255 // most, dtype=grey.dtype))
    if layout.alpha and layout.bits in (8, 16):
        return cast(Image, np.dstack([grey, grey, grey, stored[..., 1]]))
    return grey


def _decode_whole(data: bytes, layout: Layout, path: Path | str) -> Image:
    """Decode what OpenCV reads right, orientation included.

    That is usual 16-bit samples, fax and JPEG. Of usual 8-bit samples it overlooks damage.
    """
    image = _imdecode(data)
    shape = layout.height, layout.width
    if layout.orientation >= 5:
        shape = shape[::-1]
    if image is None or image.dtype.itemsize * 8 != max(layout.bits, 8) or image.shape[:2] != shape:
        raise FrameError(path, f"is damaged: it cannot be decoded; {REPLACE}")
    return image


def _read_samples(data: bytes, layout: Layout) -> Image:
    """Samples as stored, (H, W, samples), of uint8 or uint16."""
    dtype = np.uint16 if layout.bits > 8 else np.uint8
    image = np.empty((layout.height, layout.width, layout.samples), dtype)
    for number, plane, top, left in _segments(layout):
        height, width = layout.tile or (min(layout.rows, layout.height - top), layout.width)
        samples = 1 if layout.planar else layout.samples
        row_bytes = -(-width * samples * layout.bits // 8)
        start = int(layout.offsets[number])
        length = int(layout.counts[number]) if number < len(layout.counts) else 0
        segment = memoryview(data)[start : start + length if length else None]
        packed = _unpack(segment, layout, height, row_bytes)
        there = image[top : top + height, left : left + width]
        there = there[..., plane : plane + samples]
        block = _samples(packed, layout, width, samples)
        there[...] = block[: there.shape[0], : there.shape[1]]
    return cast(Image, image)


def _segments(layout: Layout) -> Iterator[tuple[int, int, int, int]]:
    """Number, plane, top row and left column of each strip or tile."""
    number = 0
    height, width = layout.tile or (layout.rows, layout.width)
    for plane in range(layout.samples if layout.planar else 1):
        for top in range(0, layout.height, height):
            for left in range(0, layout.width, width):
                yield number, plane, top, left
                number += 1


def _unpack(packed: memoryview, layout: Layout, rows: int, row_bytes: int) -> NDArray[np.uint8]:
    """Bytes of a segment, (rows, row_bytes), decompressed."""
    size = rows * row_bytes
    if layout.compression in _DEFLATED:
        found: Any = zlib.decompressobj().decompress(packed, size)
    elif layout.compression == _LZMA:
        found = lzma.LZMADecompressor(memlimit=1 << 28).decompress(packed, size)
    elif layout.compression == _NONE:
        found = packed
    else:
        return _unpack_by_opencv(packed, layout.compression, rows, row_bytes)
    if len(found) < size:
        raise _DamagedError
    return np.frombuffer(found, np.uint8, size).reshape(rows, row_bytes)


def _unpack_by_opencv(
    packed: memoryview, compression: int, rows: int, row_bytes: int
) -> NDArray[np.uint8]:
    """Decompress LZW or PackBits: OpenCV reads the data as the only strip of a grey image.

    It reports damage in 16-bit images alone, so the bytes are read as 16-bit values in pairs,
    and once more as 8-bit values for those that are left over. So damage to the last byte of an
    odd number is not found.
    """
    size = rows * row_bytes
    pairs = min(size // 2, 1 << 20)
    lines = size // 2 // pairs if pairs else 0
    paired = 2 * pairs * lines
    flat = np.empty(size, np.uint8)
    if paired:
        flat[:paired] = _read_strip(packed, compression, lines, pairs, 16).view(np.uint8).ravel()
    if paired < size:
        flat[paired:] = _read_strip(packed, compression, rows, row_bytes, 8).ravel()[paired:]
    return flat.reshape(rows, row_bytes)


def _read_strip(packed: memoryview, compression: int, height: int, width: int, bits: int) -> Image:
    tags = (
        (_WIDTH, width), (_HEIGHT, height), (_BITS, bits), (_COMPRESSION, compression),
        (_PHOTOMETRIC, _BLACK_IS_ZERO), (_OFFSETS, 8), (_SAMPLES, 1), (_ROWS, height),
        (_COUNTS, len(packed)),
    )  # fmt: skip
    directory = struct.pack("<H", len(tags)) + b"".join(
        struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags
    )
    at = 8 + len(packed) + len(packed) % 2
    head = struct.pack("<2sHI", b"II", 42, at)
    image = _imdecode(b"".join((head, packed, bytes(len(packed) % 2), directory, bytes(4))))
    if image is None or image.shape != (height, width) or image.dtype.itemsize * 8 != bits:
        raise _DamagedError
    return image


def _imdecode(data: bytes) -> Image | None:
    try:
        with silent:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        return cast("Image | None", image)
    except cv2.error:
        return None


def _samples(packed: NDArray[np.uint8], layout: Layout, width: int, samples: int) -> Image:
    """Samples, (rows, width, samples), of the bytes of a segment."""
    rows = len(packed)
    if layout.bits == 8:
        values: Image = packed
    elif layout.bits == 16:
        values = packed.view(layout.order + "u2").astype(np.uint16, copy=False)
    else:
        if layout.fill_order == 2:
            packed = np.packbits(np.unpackbits(packed, axis=1, bitorder="little"), axis=1)
        values = _unpack_bits(packed, layout.bits, width * samples)
    values = values.reshape(rows, width, samples)
    if layout.predictor == 2:
        summed = np.empty_like(values)
        for sample in range(samples):
            # Along a strided axis of three, NumPy is several times slower.
            part = np.ascontiguousarray(values[..., sample])
            summed[..., sample] = np.cumsum(part, axis=1, dtype=part.dtype)
        return summed
    return values


def _unpack_bits(packed: NDArray[np.uint8], bits: int, number: int) -> Image:
    """First `number` values of `bits` bits in each row, most significant bit first."""
    values = np.empty((len(packed), number), np.uint16 if bits > 8 else np.uint8)
    first = np.arange(number) * bits
    byte, shift = first // 8, (24 - bits - first % 8).astype(np.uint32)
    mask = np.uint32((1 << bits) - 1)
    step = max(_CHUNK // max(number, 1), 1)
    for top in range(0, len(packed), step):
        # A value is in at most three bytes.
        part = np.pad(packed[top : top + step], ((0, 0), (0, 2))).astype(np.uint32)
        three = part[:, byte] << 16 | part[:, byte + 1] << 8 | part[:, byte + 2]
        values[top : top + step] = three >> shift & mask
    return cast(Image, values)
