"""Image files of many kinds, with the pixels that an independent reader finds in them."""

from __future__ import annotations

import io
import random
import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageOps

from synth.frames import Mask, read_bytes
from synth.masks import convention_of, look_at_mask

Pixels = NDArray[Any]


@dataclass(frozen=True)
class ImageCase:
    """A file, and the pixels in it.

    Attributes
    ----------
    name : str
        A file name that says what is special.
    data : bytes
    pixels : ndarray or None
        (H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA; None where the file is to be refused.
    near : int
        How much a value may differ: JPEG decoders differ by rounding.
    """

    name: str
    data: bytes
    pixels: Pixels | None
    near: int = 0


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The file that Pillow writes."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned(pixels: Pixels, orientation: int) -> Pixels:
    """Pixels the way that an orientation tag shows them, by the steps of the EXIF standard."""
    return {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: lambda a: np.rot90(a, 1),
    }[orientation](pixels)


def exif(orientation: int, order: str = "<") -> bytes:
    """A block of EXIF data with one tag."""
    mark = b"II" if order == "<" else b"MM"
    entry = struct.pack(order + "HHIHH", 274, 3, 1, orientation, 0)
    return mark + struct.pack(order + "HIH", 42, 8, 1) + entry + bytes(4)


def png(
    pixels: Pixels,
    depth: int,
    colour: int = 0,
    before: tuple[tuple[bytes, bytes], ...] = (),
    after: tuple[tuple[bytes, bytes], ...] = (),
) -> bytes:
    """A PNG file of any depth and colour type, with further chunks before and after its data."""
    height, width = pixels.shape[:2]
    body = b"".join(b"\0" + row for row in _packed_rows(pixels, depth))
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), *before, (b"IDAT", zlib.compress(body)), *after, (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def _packed_rows(pixels: Pixels, bits: int) -> list[bytes]:
    """Rows of samples of `bits` bits each, most significant bit first, each row from a byte on."""
    rows = []
    for row in pixels.reshape(len(pixels), -1):
        digits = "".join(format(int(value), f"0{bits}b") for value in row)
        digits = digits.ljust(-(-len(digits) // 8) * 8, "0")
        rows.append(int(digits, 2).to_bytes(len(digits) // 8, "big"))
    return rows


def tiff(
    pixels: Pixels,
    bits: int,
    *,
    photometric: int = 1,
    order: str = "<",
    big: bool = False,
    planar: bool = False,
    deflate: bool = False,
    rows: int = 0,
    more: tuple[tuple[int, int], ...] = (),
    lists: tuple[tuple[int, list[int]], ...] = (),
) -> bytes:
    """A TIFF file of samples of any depth, in strips of `rows` rows.

    `more` are further tags of one value, which may replace those that are there, and `lists`
    tags of several.
    """
    height, width = pixels.shape[:2]
    samples = pixels.shape[2] if pixels.ndim == 3 else 1
    rows = rows or height
    layers = [pixels[..., k] for k in range(samples)] if planar else [pixels]
    strips = []
    for layer in layers:
        for top in range(0, height, rows):
            part = layer[top : top + rows]
            if bits == 16:
                strip = part.astype(order + "u2").tobytes()
            else:
                strip = b"".join(_packed_rows(part, bits))
            strips.append(zlib.compress(strip) if deflate else strip)
    base = 16 if big else 8
    starts = [base + sum(map(len, strips[:k])) for k in range(len(strips))]
    tags: dict[int, tuple[int, list[int]]] = {
        256: (4, [width]), 257: (4, [height]), 258: (3, [bits] * samples),
        259: (3, [8 if deflate else 1]), 262: (3, [photometric]), 273: (4, starts),
        277: (3, [samples]), 278: (4, [rows]), 279: (4, [len(strip) for strip in strips]),
        284: (3, [2 if planar else 1]),
    }  # fmt: skip
    tags.update({tag: (3, [value]) for tag, value in more})
    tags.update({tag: (3, values) for tag, values in lists})
    body = b"".join(strips)
    body += bytes(len(body) % 2)
    far = b""
    at = base + len(body)
    entries = b""
    room = 8 if big else 4
    for tag, (kind, values) in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(values)}{'H' if kind == 3 else 'I'}", *values)
        entries += struct.pack(order + ("HHQ" if big else "HHI"), tag, kind, len(values))
        if len(packed) > room:
            entries += struct.pack(order + ("Q" if big else "I"), at + len(far))
            far += packed + bytes(len(packed) % 2)
        else:
            entries += packed.ljust(room, b"\0")
    first = at + len(far)
    mark = b"II" if order == "<" else b"MM"
    if big:
        head = mark + struct.pack(order + "HHHQ", 43, 8, 0, first)
        return head + body + far + struct.pack(order + "Q", len(tags)) + entries + bytes(8)
    head = mark + struct.pack(order + "HI", 42, first)
    return head + body + far + struct.pack(order + "H", len(tags)) + entries + bytes(4)


def bmp(
    rows: bytes, width: int, height: int, bits: int, packed: int = 0, more: bytes = b""
) -> bytes:
    """A BMP file of the rows given; `more` are masks and palette."""
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, packed, len(rows), 0, 0, 0, 0)
    start = 14 + len(info) + len(more)
    return b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + info + more + rows


def make_case(number: int) -> ImageCase:
    """A file drawn at random; the same for the same number."""
    rng = random.Random(f"image {number}")
    make = rng.choice((_tifffile, _tifffile, _pillow_tiff, _packed_tiff, _png, _jpeg, _bmp, _odd))
    return make(rng)


def _pixels(rng: random.Random, bits: int, channels: int = 1) -> Pixels:
    """Noise, a gradient or a mask in part of a range of values."""
    shape = (rng.randint(1, 40), rng.randint(1, 50), channels)[: 2 if channels == 1 else 3]
    draw = np.random.default_rng(rng.getrandbits(32))
    most = (1 << bits) - 1
    low = rng.choice((0, 0, most // 3))
    high = rng.choice((most, most, most // 2, 1))
    low, high = min(low, high), max(low, high)
    if rng.random() < 0.2:
        values = np.where(draw.random(shape) < 0.05, high, low)
    elif rng.random() < 0.2:
        values = np.sort(draw.integers(low, high, shape, endpoint=True), axis=1)
    else:
        values = draw.integers(low, high, shape, endpoint=True)
    return values.astype(np.uint8 if bits <= 8 else np.uint16)


def _tifffile(rng: random.Random) -> ImageCase:
    bits = rng.choice((8, 8, 10, 12, 14, 16, 16))
    samples = rng.choice((1, 1, 1, 2, 3, 3, 4))
    pixels = _pixels(rng, bits, samples)
    planar = samples > 1 and rng.random() < 0.5
    white = samples <= 2 and rng.random() < 0.4
    orientation = rng.choice((1, 1, rng.randint(1, 8)))
    compression = rng.choice((None, None, "zlib", "lzma"))
    options: dict[str, Any] = {
        "photometric": "rgb" if samples > 2 else "miniswhite" if white else "minisblack",
        "bigtiff": rng.random() < 0.3,
        "byteorder": rng.choice("<>"),
        "compression": compression,
        "predictor": rng.random() < 0.4 if compression else None,
        "metadata": None,
        "extratags": [(274, 3, 1, orientation, True)],
    }
    if samples > 1:
        options["planarconfig"] = "separate" if planar else "contig"
    if samples in (2, 4):
        options["extrasamples"] = [rng.choice(("unassalpha", "unspecified"))]
    if rng.random() < 0.3:
        options["tile"] = (rng.choice((16, 32)), rng.choice((16, 48)))
    else:
        options["rowsperstrip"] = rng.choice((1, 3, 16, 1000))
    buffer = io.BytesIO()
    stored = np.moveaxis(pixels, 2, 0) if planar else pixels
    tifffile.imwrite(buffer, np.ascontiguousarray(stored), **options)
    read = tifffile.imread(io.BytesIO(buffer.getvalue())).reshape(stored.shape)
    if planar:
        read = np.moveaxis(read, 0, 2)
    if white:
        read = np.iinfo(read.dtype).max - read
    if samples == 2:
        read = read[..., 0]
    name = "-".join(f"{value}" for value in (bits, samples, *options.values()) if value)
    name = "".join(letter if letter.isalnum() else "_" for letter in name)
    return ImageCase(f"{name}.tif", buffer.getvalue(), turned(read, orientation))


def _pillow_image(rng: random.Random) -> Image.Image:
    mode = rng.choice(("1", "L", "L", "P", "RGB", "RGBA", "I;16", "I;16"))
    if mode == "1":
        return Image.fromarray(_pixels(rng, 1).astype(bool))
    if mode == "I;16":
        return Image.fromarray(_pixels(rng, rng.choice((10, 12, 14, 16))))
    if mode == "P":
        return Image.fromarray(_pixels(rng, 8, 3)).quantize(rng.choice((2, 13, 200)))
    return Image.fromarray(_pixels(rng, 8, {"L": 1, "RGB": 3, "RGBA": 4}[mode]))


def _seen(data: bytes) -> Pixels:
    """What Pillow shows, turned by its orientation."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        shown = ImageOps.exif_transpose(image)
    if shown.mode == "1":
        return np.asarray(shown.convert("L"))
    if shown.mode == "LA":
        return np.asarray(shown)[..., 0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(shown.convert("RGB") if shown.mode == "P" else shown)


def _pillow_tiff(rng: random.Random) -> ImageCase:
    image = _pillow_image(rng)
    choices = ["raw", "tiff_lzw", "packbits", "tiff_adobe_deflate", "tiff_deflate", "lzma"]
    if image.mode == "1":
        choices += ["group4", "group3"]
    if image.mode in ("L", "RGB"):
        choices.append("jpeg")
    compression = rng.choice(choices)
    tags: dict[int, Any] = {278: rng.choice((1, 7, 64))} if rng.random() < 0.5 else {}
    if compression == "jpeg":
        tags = {}
    tags[274] = rng.randint(1, 8)
    options: dict[str, Any] = {}
    if compression != "raw":
        options["compression"] = compression
    if compression in ("tiff_lzw", "tiff_adobe_deflate") and image.mode != "1":
        tags[317] = rng.choice((1, 2))
    data = encoded(image, "TIFF", tiffinfo=tags, **options)
    near = 4 if compression == "jpeg" else 0
    name = f"pillow-{image.mode.replace(';', '')}-{compression}-{tags[274]}.tif"
    return ImageCase(name, data, _seen(data), near)


def _packed_tiff(rng: random.Random) -> ImageCase:
    bits = rng.choice((1, 2, 4, 10, 12, 12, 14, 16))
    samples = 1 if bits < 8 else rng.choice((1, 1, 1, 2, 3))
    pixels = _pixels(rng, bits, samples)
    white = samples < 3 and rng.random() < 0.4
    orientation = rng.choice((1, 1, rng.randint(1, 8)))
    options: dict[str, Any] = {
        "order": rng.choice("<>"),
        "big": rng.random() < 0.3,
        "planar": samples > 1 and rng.random() < 0.5,
        "deflate": rng.random() < 0.4,
        "rows": rng.choice((0, 1, 5)),
    }
    photometric = 2 if samples == 3 else 0 if white else 1
    more = ((274, orientation),) + (((338, 2),) if samples == 2 else ())
    data = tiff(pixels, bits, photometric=photometric, more=more, **options)
    meant = pixels[..., 0] if samples == 2 else pixels
    most = (1 << bits) - 1
    meant = most - meant if white else meant
    meant = meant * (255 // most) if bits < 8 else meant
    chosen = "-".join(map(str, options.values()))
    name = f"packed-{bits}-{samples}-{photometric}-{orientation}-{chosen}"
    return ImageCase(
        f"{name}.tif".replace("<", "II").replace(">", "MM"),
        data,
        turned(meant, orientation).astype(np.uint16 if bits > 8 else np.uint8),
    )


def _png(rng: random.Random) -> ImageCase:
    orientation = rng.randint(0, 9)
    exif_data = exif(orientation, rng.choice("<>"))
    valid = orientation if 1 <= orientation <= 8 else 1
    chunks: tuple[tuple[bytes, bytes], ...] = ((b"eXIf", exif_data),)
    if rng.random() < 0.3:
        depth = rng.choice((1, 2, 4, 8, 16))
        pixels = _pixels(rng, depth)
        if rng.random() < 0.3:
            chunks += ((b"tRNS", b"\0\1"),)
        data = png(pixels, depth, after=(), before=chunks)
        scaled = pixels * (255 // ((1 << depth) - 1)) if depth < 8 else pixels
        return ImageCase(f"grey{depth}-{orientation}.png", data, turned(scaled, valid))
    if rng.random() < 0.3:
        colour, channels = rng.choice(((2, 3), (4, 2), (6, 4)))
        pixels = _pixels(rng, 16, channels)
        swapped = pixels.astype(">u2")
        data = png(np.frombuffer(swapped.tobytes(), np.uint8).reshape(len(pixels), -1), 8)
        # The bytes of 16-bit samples are those of twice as many 8-bit samples.
        header = struct.pack(">IIBBBBB", pixels.shape[1], len(pixels), 16, colour, 0, 0, 0)
        end = struct.pack(">I", zlib.crc32(b"IHDR" + header))
        body = struct.pack(">I", len(exif_data)) + b"eXIf" + exif_data
        body += struct.pack(">I", zlib.crc32(b"eXIf" + exif_data))
        data = data[:16] + header + end + body + data[33:]
        meant = pixels[..., 0] if channels == 2 else pixels
        return ImageCase(f"deep{channels}-{orientation}.png", data, turned(meant, valid))
    image = _pillow_image(rng)
    options: dict[str, Any] = {"exif": exif_data}
    if image.mode == "P" and rng.random() < 0.5:
        options["transparency"] = rng.choice((0, bytes((0, 128))))
    data = encoded(image, "PNG", **options)
    name = f"pillow-{image.mode.replace(';', '')}-{orientation}.png"
    if 1 <= orientation <= 8:
        return ImageCase(name, data, _seen(data))
    return ImageCase(name, data, _seen(encoded(image, "PNG")))


def _jpeg(rng: random.Random) -> ImageCase:
    image = Image.fromarray(_pixels(rng, 8, rng.choice((1, 3))))
    if rng.random() < 0.1:
        return ImageCase("cmyk.jpg", encoded(image.convert("CMYK"), "JPEG"), None)
    orientation = rng.randint(1, 8)
    data = encoded(
        image,
        "JPEG",
        quality=rng.randint(20, 100),
        progressive=rng.random() < 0.4,
        subsampling=rng.randint(0, 2),
        exif=b"Exif\0\0" + exif(orientation, rng.choice("<>")),
    )
    return ImageCase(f"{image.mode}-{orientation}.jpg", data, _seen(data), near=4)


def _bmp(rng: random.Random) -> ImageCase:
    if rng.random() < 0.6:
        image = _pillow_image(rng)
        image = image.convert("L") if image.mode == "I;16" else image
        data = encoded(image, "BMP")
        seen = _seen(data)
        return ImageCase(f"pillow-{image.mode}.bmp", data, seen)
    bits = rng.choice((4, 16, 24, 32))
    width, height = rng.randint(1, 40), rng.randint(1, 30)
    rows = rng.randbytes(-(-width * bits // 32) * 4 * height)
    down = rng.random() < 0.4
    palette = rng.randbytes(64) if bits == 4 else b""
    masks = (
        struct.pack("<III", 0xFF0000, 0xFF00, 0xFF) if bits == 32 and rng.random() < 0.5 else b""
    )
    data = bmp(rows, width, -height if down else height, bits, 3 if masks else 0, masks + palette)
    return ImageCase(f"own{bits}-{down}.bmp", data, None if bits == 16 else _seen(data))


def _odd(rng: random.Random) -> ImageCase:
    """A file that is to be refused, by name."""
    # Three pages of three columns would be taken for one page of RGB.
    pixels = np.tile(_pixels(rng, 8), (5, 5))
    page = Image.fromarray(pixels)

    def by_tifffile(values: Pixels, **options: Any) -> bytes:
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, values, **options)
        return buffer.getvalue()

    makers = {
        "float.tif": lambda: by_tifffile(pixels.astype(rng.choice((np.float32, np.float16)))),
        "signed.tif": lambda: by_tifffile(pixels.astype(rng.choice((np.int8, np.int16, np.int32)))),
        "wide.tif": lambda: by_tifffile(pixels.astype(np.uint32), bigtiff=rng.random() < 0.5),
        "complex.tif": lambda: by_tifffile(pixels.astype(np.complex64)),
        "stack.tif": lambda: by_tifffile(
            np.stack([pixels] * 3), photometric="minisblack", bigtiff=rng.random() < 0.5
        ),
        "imagej.tif": lambda: by_tifffile(np.stack([pixels] * 3), imagej=True),
        "ome.ome.tif": lambda: by_tifffile(np.stack([pixels] * 3), ome=True),
        "short.tif": lambda: by_tifffile(
            np.stack([pixels] * 3), photometric="minisblack", metadata={"truncate": True}
        ),
        "zstd.tif": lambda: tiff(pixels, 8, more=((259, rng.choice((34712, 50000, 50001))),)),
        "cmyk.tif": lambda: encoded(page.convert("CMYK"), "TIFF"),
        "lab.tif": lambda: encoded(Image.fromarray(_pixels(rng, 8, 3), "LAB"), "TIFF"),
        "fax.tif": lambda: tiff(_pixels(rng, 1), 1, big=True, more=((259, 4),)),
        "bands.tif": lambda: tiff(_pixels(rng, 12, 5), 12),
        "cfa.tif": lambda: tiff(_pixels(rng, 12), 12, photometric=32803),
        "preview.nef": lambda: tiff(pixels, 8, more=((254, 1),)),
        "mixed.tif": lambda: tiff(pixels, 5),
        "animated.png": lambda: encoded(
            page, "PNG", save_all=True, append_images=[Image.fromarray(255 - pixels)]
        ),
        "gif.png": lambda: encoded(page, "GIF"),
        "webp.png": lambda: encoded(page, "WEBP"),
        "anymap.bmp": lambda: encoded(page, "PPM"),
        "array.tif": lambda: _npy(pixels),
        "page.png": lambda: b"<!DOCTYPE html><html><body>404</body></html>",
        "jpeg2000.tif": lambda: encoded(page, "JPEG2000"),
    }  # fmt: skip
    name = rng.choice(sorted(makers))
    return ImageCase(name, makers[name](), None)


def _npy(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, pixels)
    return buffer.getvalue()


def plain_readers(data: bytes) -> list[Pixels]:
    """What OpenCV and Pillow return without further thought, grey or RGB."""
    read = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert read is not None
    with Image.open(io.BytesIO(data)) as image:
        stored = np.asarray(image)
    if stored.ndim == 3 and stored.shape[2] == 2:
        stored = stored[..., 0]
    return [
        read if read.ndim == 2 else read[..., 2::-1],
        stored[..., :3] if stored.ndim == 3 else stored,
    ]


def decode_mask(data: bytes, path: Path | str) -> Mask:
    """Decode a mask's file, whose values are decided on this file alone."""
    return convention_of(path, [look_at_mask(data, Path(path))]).read(data, path)


def read_mask(path: Path) -> Mask:
    """Read a mask, see `decode_mask`."""
    return decode_mask(read_bytes(path), path)
