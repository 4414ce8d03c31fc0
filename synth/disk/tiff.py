"""TIFF and BigTIFF files: the directory, and the pixels it describes.

OpenCV decodes the layouts that it reads right, and the compressed data of others. It misreads
several layouts without an error: planar 16-bit samples, 16-bit WhiteIsZero, 16-bit grey with
alpha, packed 10- and 12-bit samples.

Tags, by number, and their values are those of the TIFF 6.0 specification (Adobe, 1992).
"""

from __future__ import annotations

import lzma
import re
import struct
import zlib
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from synth.disk import headers
from synth.disk.headers import REPLACE, SAVE_AS, require_size
from synth.errors import FrameError
from synth.opencv import silent

Image = NDArray[np.uint8] | NDArray[np.uint16]
Fields = dict[int, NDArray[np.int64]]

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_LISTS = {258, 270, 273, 279, 320, 324, 325, 338, 339}
_USED = _LISTS | {254, 256, 257, 259, 262, 266, 274, 277, 278, 284, 317, 322, 323, 32997}

_FORMS = {2: "int", 3: "float", 5: "complex int", 6: "complex"}
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_GREY = (_WHITE_IS_ZERO, _BLACK_IS_ZERO)
_JPEG_KINDS = {(1, _BLACK_IS_ZERO), (3, _RGB), (3, _YCBCR)}
_COLOURS = {
    -1: "values of unknown meaning (no PhotometricInterpretation tag)", 4: "a transparency mask",
    5: "CMYK", 6: "YCbCr", 8: "CIE L*a*b*", 9: "ICC L*a*b*", 10: "ITU L*a*b*",
    32803: "raw camera data (CFA)", 34892: "raw camera data (LinearRaw)",
}  # fmt: skip

_NONE, _LZW, _JPEG, _PACKBITS, _LZMA = 1, 5, 7, 32773, 34925
_FAX, _DEFLATED = (2, 3, 4), (8, 32946)
_COMPRESSIONS = {
    2: "fax", 3: "fax", 4: "fax", 6: "old-style JPEG", 7: "JPEG", 33003: "JPEG 2000",
    33005: "JPEG 2000", 34712: "JPEG 2000", 34713: "Nikon NEF", 34887: "LERC", 34892: "lossy JPEG",
    34934: "JPEG XR", 50000: "Zstandard", 50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL",
}  # fmt: skip
# How many bytes one byte can become, at most; deflate makes 258 bytes of two bits.
_RATIOS = {_NONE: 1, _LZW: 4096, _PACKBITS: 64, **dict.fromkeys(_DEFLATED, headers.DEFLATE)}

_MOST_PAGES = 1 << 12
_CHUNK = 1 << 20


def is_tiff(data: bytes) -> bool:
    """Whether these are the first bytes of a TIFF or BigTIFF file."""
    return data.startswith(_MAGIC)


def turn(image: Image, orientation: int) -> Image:
    """Turn a stored image, (H, W) or (H, W, C), the way that it is shown.

    The orientation is 1 to 8, as in TIFF and EXIF: where the first row and column are shown.
    """
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    down, right = (-1 if orientation in kinds else 1 for kinds in ((3, 4, 7, 8), (2, 3, 6, 7)))
    return cast(Image, np.ascontiguousarray(image[::down, ::right]))


class TiffLayout:
    """The directory of the TIFF file `data`, whose pixels `decode_tiff` reads.

    `FrameError` says that it is truncated or damaged, too large, has several pages, or stores its
    pixels in a way that is not read. Nothing is allocated in proportion to a number in the file.
    For `orientation` see `turn`, for `plain` `synth.frames.is_plain`.
    """

    def __init__(self, data: bytes, path: Path | str) -> None:
        self.order = "<" if data[:2] == b"II" else ">"
        self.big = data[:4] in _MAGIC[2:]
        try:
            fields, pages = self._read_pages(data, path)
        except struct.error:
            raise FrameError(path, f"is truncated: the TIFF file has no end; {REPLACE}") from None
        first = partial(_first, fields)
        self.height, self.width = first(257, 0), first(256, 0)
        self.bits, self.samples = int(np.max(fields.get(258, 1))), first(277, 1)
        self.compression, self.photometric = first(259, _NONE), first(262, -1)
        self.fill_order, self.predictor = first(266, 1), first(317, 1)
        self.planar = first(284, 1) == 2 and self.samples > 1
        self.alpha = first(338, 0) if self.samples in (2, 4) else 0
        orientation = first(274, 1)
        self.orientation = orientation if 1 <= orientation <= 8 else 1
        self.colours = _read_palette(fields.get(320), self.bits)
        # Grey with alpha becomes four channels.
        memory = max(self.bits, 8) * (4 if self.samples == 2 else max(self.samples, 1))
        shown = max(memory, 24) if self.photometric == _PALETTE else memory
        require_size(self.height, self.width, shown, path)
        # Size of a strip or tile, and how many there are.
        self.tall, self.wide = min(first(278, self.height), self.height), self.width
        self.tiled = 322 in fields or 323 in fields
        if self.tiled:
            self.tall, self.wide = first(323, 0), first(322, 0)
        down, across = -(-self.height // max(self.tall, 1)), -(-self.width // max(self.wide, 1))
        if self.tiled or self.tall < 1:
            # Tiles may reach beyond the image, and all of them are decoded.
            require_size(down * self.tall, across * self.wide, memory, path)
        self._require_known(fields, path)
        number = down * across * (self.samples if self.planar else 1)
        self.starts, self.ends = self._read_segments(fields, number, len(data), path)
        # Pillow leaves 16-bit values in the order of the file, with which PyTorch fails.
        deep = self.bits == 16 and self.order == "<"
        kind = (self.samples, self.photometric)
        usual = (kind == (1, _BLACK_IS_ZERO) and (deep or self.bits == 8)) or (
            kind == (3, _RGB) and self.bits == 8 and not self.planar
        )
        usual = usual and self.compression in _RATIOS and not (self.big or self.tiled)
        self.plain = usual and (pages, self.fill_order, orientation) == (1, 1, 1)

    def _read_pages(self, data: bytes, path: Path | str) -> tuple[Fields, int]:
        """Fields of the first page, and the number of pages; those after it are previews."""
        if self.big and struct.unpack_from(self.order + "HH", data, 4) != (8, 0):
            raise FrameError(path, f"is damaged: its BigTIFF header is none; {REPLACE}")
        (at,) = struct.unpack_from(self.order + ("Q" if self.big else "I"), data, 4 + 4 * self.big)
        top, pages = Fields(), 0
        while at or not pages:
            page = Fields()
            wanted = {254} if pages else _USED
            for tag, values in headers.read_fields(data, at, wanted, self.order, self.big):
                if tag in page or (values.size > 1 and tag not in _LISTS):
                    words = f"is damaged: its TIFF tag {tag} has several values; {REPLACE}"
                    raise FrameError(path, words)
                page[tag] = values.astype(np.int64)
            at = int(page[0][0])
            if _is_stack(page) or (pages and not _first(page, 254, 0) & 5):
                words = "holds several pages; write them as single frames into a folder"
                raise FrameError(path, words)
            top, pages = top or page, pages + 1
            if pages > _MOST_PAGES:
                raise FrameError(path, f"is damaged: its pages have no end; {REPLACE}")
        return top, pages

    def _require_known(self, fields: Fields, path: Path | str) -> None:
        """Refuse pixels that `decode_tiff` does not read right."""
        bits, samples, colour, method = self.bits, self.samples, self.photometric, self.compression
        form = next((_FORMS[int(f)] for f in fields.get(339, ()) if int(f) in _FORMS), "uint")
        if form != "uint" or bits > 16:
            raise FrameError(
                path, f"holds {form}{bits} values; frames are 8- or 16-bit unsigned; {SAVE_AS}"
            )
        grey, rgb, palette = colour in _GREY, colour in (_RGB, _YCBCR), colour == _PALETTE
        fax, jpeg = method in _FAX, method == _JPEG
        holds = _COLOURS.get(colour, f"colours of an unknown kind ({colour})")
        fits = grey or (samples == 1 and self.colours.size)
        if rgb:
            fits = samples in (3, 4) and bits >= 8
        codec = _COMPRESSIONS.get(method, f"number {method}")
        coded = method in (*_RATIOS, _LZMA)
        if fax:
            coded = bits == samples == 1 and grey
        if jpeg:
            coded = bits == 8 and not self.planar and (samples, colour) in _JPEG_KINDS
        packed = method in (_LZW, _LZMA, *_DEFLATED)
        predicted = self.predictor == 2 and bits in (8, 16) and packed
        reverse = self.fill_order != 1 and not fax and (bits > 1 or method != _NONE)
        preview = _first(fields, 254, 0) & 5
        headers.refuse_unread(
            path,
            (preview, "starts with a preview, as raw camera files (NEF, DNG) do"),
            (np.ptp(fields.get(258, 1)) > 0, "has samples of different depths"),
            (not (grey or palette or rgb) or (colour == _YCBCR and not jpeg), f"holds {holds}"),
            (bits < 8 and bits not in (1, 2, 4), f"has samples of {bits} bits"),
            (grey and samples not in (1, 2), f"has {samples} channels that are not marked as RGB"),
            (not fits, f"has {samples} channels of {bits} bits, which do not fit its colours"),
            (self.alpha == 1, "holds colours multiplied by alpha"),
            (not coded, f"is compressed by {codec}, with {samples} x {bits} bits"),
            ((fax or jpeg) and self.big, f"is a BigTIFF file compressed by {codec}"),
            (
                self.predictor != 1 and not (predicted or fax or jpeg),
                f"uses predictor {self.predictor}",
            ),
            (reverse, "stores the bits of each byte in reverse (FillOrder 2)"),
        )

    def _read_segments(
        self, fields: Fields, number: int, size: int, path: Path | str
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Places and ends of strips and tiles, all of them in the file of `size` bytes."""
        none, raw = np.zeros(0, np.int64), self.compression == _NONE
        starts = fields.get(324 if self.tiled else 273, none)[:number]
        counts = fields.get(325 if self.tiled else 279, none)[:number]
        listed = len(counts) == number
        if len(starts) < number or not (listed or raw or number == 1):
            raise FrameError(path, f"is damaged: it has too few strips or tiles; {REPLACE}")
        if self.compression in _RATIOS:
            row = self.width * self.bits * self.samples // 8
            there = min(size, int(counts.sum())) if listed and not raw else size
            headers.require_data(self.height * row, there * _RATIOS[self.compression], path)
        if starts.min() == 0 or (listed and not raw and counts.min() == 0):
            raise FrameError(path, f"has strips or tiles without data: not supported; {SAVE_AS}")
        ends = starts + (counts if listed else 0)
        if starts.min() < 0 or ends.min() < 0 or ends.max() > size:
            raise FrameError(path, f"is truncated: its pixels end after the file; {REPLACE}")
        # What has no length goes on to the end of the file.
        return starts, np.where(ends > starts, ends, size)


def _first(fields: Fields, tag: int, default: int) -> int:
    return int(fields[tag][0]) if tag in fields else default


def _read_palette(values: NDArray[np.int64] | None, bits: int) -> NDArray[np.uint8]:
    """Red, green and blue, (3, 2**bits); of no columns where they do not fit."""
    if values is None or not 0 <= bits <= 8 or values.size != 3 << bits:
        return np.zeros((3, 0), np.uint8)
    # The tag has 16 bits, but some writers put 8 there.
    return (values >> 8 if values.max() > 255 else values).astype(np.uint8).reshape(3, -1)


def _is_stack(fields: Fields) -> bool:
    """Whether one directory describes several pages, as ImageJ and tifffile write them."""
    described = (fields.get(270, np.zeros(0))[:2000]).astype(np.uint8).tobytes()
    images = re.search(rb"^ImageJ=[\s\S]*^images=(\d+)", described, re.MULTILINE)
    truncated = re.match(rb'\{"shape": \[[\d, ]+\].*"truncated": true', described)
    deep = 32997 in fields and fields[32997][0] > 1
    return bool((images and int(images[1][:9]) > 1) or truncated or deep)


def decode_tiff(data: bytes, path: Path | str) -> Image:
    """Decode a TIFF file, as `synth.frames.decode_image`.

    Samples of 9 to 15 bits keep their own values; those of 1, 2 and 4 bits are scaled to 8 bits,
    as in PNG. WhiteIsZero is inverted within the bits of a sample. A second grey channel is
    dropped unless it is marked as alpha.
    """
    layout = TiffLayout(data, path)
    unusual = layout.big or layout.planar or layout.tiled or layout.orientation > 1
    usual = (layout.samples, layout.photometric) in ((1, _BLACK_IS_ZERO), (3, _RGB))
    if layout.compression in (_JPEG, *_FAX) or (
        layout.bits == 16 and usual and not unusual and layout.compression != _LZMA
    ):
        # OpenCV reads these right, orientation included; of usual 8-bit files it overlooks damage.
        turned = -1 if layout.orientation >= 5 else 1
        shape = (layout.height, layout.width)[::turned]
        return imdecode(data, path, shape, 16 if layout.bits == 16 else 8)
    return turn(_as_shown(_read_samples(data, layout, path), layout), layout.orientation)


def read_palette_numbers(data: bytes, path: Path | str) -> Image | None:
    """Numbers (H, W) of the palette of a TIFF file; None for a file that has none."""
    layout = TiffLayout(data, path)
    if layout.photometric != _PALETTE:
        return None
    return turn(_read_samples(data, layout, path)[..., 0], layout.orientation)


def imdecode(data: bytes, path: Path | str, shape: tuple[int, ...], bits: int = 0) -> Image:
    """Decode an image file by OpenCV, as it is stored and in silence.

    `FrameError` says that it is damaged, or of another size (H, W) or depth (0 for any).
    """
    try:
        with silent:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        image = None
    if image is None or image.shape[:2] != shape or bits not in (0, 8 * image.itemsize):
        raise FrameError(path, f"is damaged: it cannot be decoded; {REPLACE}")
    return cast(Image, image)


def _as_shown(stored: Image, layout: TiffLayout) -> Image:
    if layout.photometric == _PALETTE:
        return layout.colours[::-1].T[stored[..., 0]]
    if layout.photometric == _RGB:
        code = cv2.COLOR_RGB2BGR if layout.samples == 3 else cv2.COLOR_RGBA2BGRA
        return cast(Image, cv2.cvtColor(stored, code))
    grey: NDArray[Any] = np.ascontiguousarray(stored[..., 0])
    most = (1 << layout.bits) - 1
    if layout.photometric == _WHITE_IS_ZERO:
        grey = np.subtract(most, grey, dtype=grey.dtype)
    if layout.bits < 8:
        grey = np.multiply(grey, 255 // most, dtype=grey.dtype)
    if layout.alpha == 2 and layout.bits in (8, 16):
        grey = np.dstack([grey, grey, grey, stored[..., 1]])
    return grey


def _read_samples(data: bytes, layout: TiffLayout, path: Path | str) -> Image:
    """Samples as stored, (H, W, samples), of uint8 or uint16."""
    dtype = np.uint16 if layout.bits > 8 else np.uint8
    image = np.empty((layout.height, layout.width, layout.samples), dtype)
    planes = [slice(k, k + 1) for k in range(layout.samples)] if layout.planar else [slice(None)]
    tops, lefts = range(0, layout.height, layout.tall), range(0, layout.width, layout.wide)
    for number, (plane, top, left) in enumerate(product(planes, tops, lefts)):
        there = image[top : top + layout.tall, left : left + layout.wide, plane]
        # Tiles reach beyond the image, strips do not.
        rows, samples = layout.tall if layout.tiled else len(there), there.shape[2]
        packed = memoryview(data)[layout.starts[number] : layout.ends[number]]
        try:
            row_bytes = -(-layout.wide * samples * layout.bits // 8)
            unpacked = _unpack(packed, layout.compression, rows, row_bytes)
        except (FrameError, ValueError, zlib.error, lzma.LZMAError, EOFError):
            raise FrameError(path, f"is damaged: it cannot be decoded; {REPLACE}") from None
        values = _unpack_samples(unpacked, layout, layout.wide * samples)
        values = values.reshape(rows, layout.wide, samples)
        if layout.predictor == 2:
            values = cast(Image, np.cumsum(values, axis=1, dtype=dtype))
        there[...] = values[: len(there), : there.shape[1]]
    return cast(Image, image)


def _unpack(packed: memoryview, compression: int, rows: int, row_bytes: int) -> NDArray[np.uint8]:
    """Bytes of a segment, (rows, row_bytes), decompressed; `ValueError` where there are fewer."""
    size = rows * row_bytes
    found: Any = packed
    if compression in _DEFLATED:
        found = zlib.decompressobj().decompress(packed, size)
    elif compression == _LZMA:
        found = lzma.LZMADecompressor(memlimit=1 << 28).decompress(packed, size)
    elif compression != _NONE:
        found = _unpack_by_opencv(packed, compression, rows, row_bytes)
    return np.frombuffer(found, np.uint8, size).reshape(rows, row_bytes)


def _unpack_by_opencv(
    packed: memoryview, compression: int, rows: int, row_bytes: int
) -> NDArray[np.uint8]:
    """Decompress LZW or PackBits: OpenCV reads the data as the only strip of a grey image.

    It reports damage in 16-bit images alone, so the bytes are read as 16-bit values in pairs,
    and once more as 8-bit values for those that are left over. So damage to the last byte of an
    odd number is not found.
    """

    def read(height: int, width: int, bits: int) -> NDArray[np.uint8]:
        tags = [(256, width), (257, height), (258, bits), (259, compression), (262, _BLACK_IS_ZERO)]
        tags += [(273, 122), (277, 1), (278, height), (279, len(packed))]
        directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
        head = struct.pack("<2sHIH", b"II", 42, 8, len(tags))
        file = b"".join((head, directory, bytes(4), packed))
        return imdecode(file, "", (height, width), bits).view(np.uint8).ravel()

    size = rows * row_bytes
    width = min(size // 2, 1 << 20)
    flat = read(size // 2 // width, width, 16) if width else np.zeros(0, np.uint8)
    return flat if flat.size == size else np.append(flat, read(rows, row_bytes, 8)[flat.size :])


def _unpack_samples(packed: NDArray[np.uint8], layout: TiffLayout, number: int) -> Image:
    """First `number` samples in each row of bytes."""
    bits = layout.bits
    if bits == 8:
        return packed
    if bits == 16:
        return packed.view(layout.order + "u2").astype(np.uint16, copy=False)
    if bits == 1:
        if layout.fill_order == 2:
            return np.unpackbits(packed, axis=1, count=number, bitorder="little")
        return np.unpackbits(packed, axis=1, count=number)
    values = np.empty((len(packed), number), np.uint16 if bits > 8 else np.uint8)
    first = np.arange(number) * bits
    byte, shift = first // 8, (24 - bits - first % 8).astype(np.uint32)
    step = max(_CHUNK // number, 1)
    for top in range(0, len(packed), step):
        # A value is in at most three bytes, the most significant bit first.
        part = np.pad(packed[top : top + step], ((0, 0), (0, 2))).astype(np.uint32)
        three = part[:, byte] << 16 | part[:, byte + 1] << 8 | part[:, byte + 2]
        values[top : top + step] = three >> shift & np.uint32((1 << bits) - 1)
    return cast(Image, values)
