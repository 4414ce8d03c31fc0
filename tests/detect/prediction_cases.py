"""Folders of predictions of many kinds, with what they mean; one kind a folder."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
import tifffile
from image_files import encoded, exif, png, tiff, turned
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[Any]
Verdict = Literal["read", "refused", "either"]


@dataclass(frozen=True)
class PredictionCase:
    """A folder.

    Attributes
    ----------
    kind : str
    files : dict of str to bytes
        By name; the stem is the id.
    meant : list of ndarray
        (H, W) bool for masks, float for probabilities, in the order of the files.
    verdict : {"read", "refused", "either"}
        What must become of it.
    step : float
        How far a probability may be from the one meant.
    label : int, "any" or None
        What is said to mark targets.
    """

    kind: str
    files: dict[str, bytes]
    meant: list[Pixels]
    verdict: Verdict = "read"
    step: float = 0.0
    label: Any = None


@dataclass
class Draw:
    """Chance, and the shapes that predictions have; `turn` counts the folders of a kind."""

    rng: np.random.Generator
    count: int
    turn: int = 0

    def one(self, *choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def shape(self) -> tuple[int, int]:
        return int(self.rng.integers(16, 70)), int(self.rng.integers(16, 70))

    def masks(self) -> list[Pixels]:
        """Few blobs each; some masks are empty, but not the first one."""
        made = []
        for number in range(self.count):
            mask = np.zeros(self.shape(), bool)
            blobs = int(self.rng.integers(0 if number else 1, 5))
            for _ in range(blobs):
                row, col = (int(self.rng.integers(1, length - 7)) for length in mask.shape)
                height, width = self.rng.integers(1, 7, 2)
                mask[row : row + height, col : col + width] = True
            made.append(mask)
        return made

    def maps(self, peak: float = 1.0, noise: float = 0.02) -> list[Pixels]:
        """Blobs that fade, of a peak that differs, on a floor of noise."""
        made = []
        for _ in range(self.count):
            shape = self.shape()
            rows, cols = np.indices(shape)
            found = noise * self.rng.random(shape)
            for _ in range(int(self.rng.integers(1, 5))):
                row, col = (self.rng.uniform(0, length) for length in shape)
                far = ((rows - row) ** 2 + (cols - col) ** 2) / self.rng.uniform(2, 12)
                found = np.maximum(found, self.rng.uniform(0.5, 1) * np.exp(-far))
            made.append(peak * found)
        return made


def as_npy(values: Pixels) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def as_image(draw: Draw, values: Pixels) -> tuple[str, bytes]:
    """A suffix and a lossless file of grey values (H, W) or RGB (H, W, 3) of 8 or 16 bits."""
    deep, grey = values.dtype == np.uint16, values.ndim == 2
    stored = values if grey else np.ascontiguousarray(values[..., ::-1])
    turn = draw.one(1, 1, 1, 3, 6, 8)
    # What a reader turns by `turn` was turned the other way before.
    back = turned(values, {6: 8, 8: 6}.get(turn, turn))
    kind = draw.one("png", "tif", "own tif", "bmp", "turned png")
    if kind == "bmp" and not deep:
        return ".bmp", cv2.imencode(".bmp", stored)[1].tobytes()
    if kind == "tif":
        buffer = io.BytesIO()
        order = np.moveaxis(values, 2, 0) if not grey and draw.one(0, 1) else values
        tifffile.imwrite(
            buffer,
            np.ascontiguousarray(order),
            photometric="minisblack" if grey else "rgb",
            planarconfig=None if grey else "contig" if order is values else "separate",
            bigtiff=bool(draw.one(0, 1)),
            byteorder=draw.one("<", ">"),
            compression=draw.one(None, "zlib"),
            metadata=None,
        )
        return draw.one(".tif", ".tiff"), buffer.getvalue()
    if kind == "own tif" and grey:
        white = draw.one(False, True)
        back = np.iinfo(values.dtype).max - back if white else back
        options = {"photometric": 0 if white else 1, "more": ((274, turn),)}
        bits = 16 if deep else 8
        return ".tif", tiff(back, bits, order=draw.one("<", ">"), big=draw.one(0, 1), **options)
    if kind == "turned png" and grey:
        return ".png", png(back, 16 if deep else 8, before=((b"eXIf", exif(turn)),))
    return draw.one(".png", ".PNG"), cv2.imencode(".png", stored)[1].tobytes()


def folder(
    kind: str,
    draw: Draw,
    stored: list[Pixels],
    meant: list[Pixels],
    write: Callable[[Pixels], tuple[str, bytes]],
    **more: Any,
) -> PredictionCase:
    end = draw.one("", "", "_Pred")
    files = {}
    for number, values in enumerate(stored):
        suffix, data = write(values)
        files[f"{number:04d}{end}{suffix}"] = data
    return PredictionCase(kind, files, meant, **more)


def images(kind: str, draw: Draw, stored: list[Pixels], meant: list[Pixels], **more: Any) -> Any:
    return folder(kind, draw, stored, meant, lambda values: as_image(draw, values), **more)


def arrays(kind: str, draw: Draw, stored: list[Pixels], meant: list[Pixels], **more: Any) -> Any:
    axes = draw.one(0, 0, 1, 2)
    return folder(
        kind,
        draw,
        stored,
        meant,
        lambda values: (".npy", as_npy(values[(None,) * axes])),
        **more,
    )


def mask_of_a_value(draw: Draw) -> PredictionCase:
    dtype = draw.one(np.uint8, np.uint16)
    most = np.iinfo(dtype).max
    value = draw.one(1, 2, 38, 127, 128, 255, most, int(draw.rng.integers(1, most + 1)))
    masks = draw.masks()
    stored = [(mask * dtype(value)).astype(dtype) for mask in masks]
    kind = f"mask of {value} in {np.dtype(dtype)}"
    return draw.one(images, images, arrays)(kind, draw, stored, masks)


def mask_in_three_channels(draw: Draw) -> PredictionCase:
    colour = draw.rng.integers(0, 256, 3).astype(draw.one(np.uint8, np.uint16))
    colour[0] = max(colour[0], 1)
    if draw.one(0, 1):
        colour[:] = colour[0]
    elif draw.one(0, 1):
        colour[1:] = 0
    masks = draw.masks()
    stored = [mask[..., None] * colour for mask in masks]
    return images(f"mask of colour {colour.tolist()}, {colour.dtype}", draw, stored, masks)


def mask_with_a_palette(draw: Draw) -> PredictionCase:
    number = int(draw.rng.integers(1, 256))
    palette = draw.rng.integers(1, 256, (256, 3)).astype(np.uint8)
    palette[0] = 0
    # With all colours black, the numbers are what tells a target.
    palette *= draw.one(np.uint8(1), np.uint8(1), np.uint8(0))
    ending = draw.one("PNG", "BMP", "TIFF")

    def write(mask: Pixels) -> tuple[str, bytes]:
        image = Image.fromarray((mask * number).astype(np.uint8))
        image.putpalette(palette.tobytes())
        return f".{ending.lower()}", encoded(image, ending)

    masks = draw.masks()
    return folder(f"mask of palette number {number}, {ending}", draw, masks, masks, write)


def mask_in_alpha(draw: Draw) -> PredictionCase:
    value = draw.one(255, 128, int(draw.rng.integers(1, 256)))
    shade = draw.one(0, 255)
    ending, deep = draw.one("PNG", "TIFF"), draw.one(False, True)

    def write(mask: Pixels) -> tuple[str, bytes]:
        if deep:
            tint = np.full((*mask.shape, 3), 257 * shade, np.uint16)
            values = np.dstack([tint, mask * np.uint16(257 * value)])
            return ".png", cv2.imencode(".png", values)[1].tobytes()
        alpha = (mask * value).astype(np.uint8)
        return f".{ending.lower()}", encoded(
            Image.fromarray(np.dstack([np.full((*mask.shape, 3), shade, np.uint8), alpha])), ending
        )

    masks = draw.masks()
    return folder(f"mask in alpha {value} over {shade}, {ending}", draw, masks, masks, write)


def mask_of_one_bit(draw: Draw) -> PredictionCase:
    ending = draw.one("PNG", "BMP", "TIFF")
    masks = draw.masks()
    return folder(
        f"mask of one bit, {ending}",
        draw,
        masks,
        masks,
        lambda mask: (f".{ending.lower()}", encoded(Image.fromarray(mask), ending)),
    )


def mask_array(draw: Draw) -> PredictionCase:
    names = "bool int8 int16 uint32 int32 int64 uint64 float16 float32 float64 >i4 >f4"
    dtype = np.dtype(draw.one(*names.split()))
    value = draw.one(1, 1, 7, 127) if dtype.kind in "iu" else 1
    masks = draw.masks()
    stored = [(mask * value).astype(dtype) for mask in masks]
    return arrays(f"array of {value} in {dtype}", draw, stored, masks)


def mask_as_jpeg(draw: Draw) -> PredictionCase:
    """Its edges fade, so that it may be taken for probabilities; either is half at the edge."""
    masks = [np.kron(mask, np.ones((3, 3), bool)) for mask in draw.masks()]
    quality, value = int(draw.rng.integers(60, 101)), draw.one(255, 255, 180, 220)
    stored = [mask * np.uint8(value) for mask in masks]

    def write(values: Pixels) -> tuple[str, bytes]:
        return ".jpg", encoded(Image.fromarray(values), "JPEG", quality=quality)

    return folder(
        f"mask of {value} as JPEG", draw, stored, masks, write, verdict="either", step=0.49
    )


def two_labels(draw: Draw) -> PredictionCase:
    low, high = sorted(draw.rng.choice(np.arange(1, 255), 2, replace=False).tolist())
    masks = draw.masks()
    stored = [(mask * np.uint8(low)).astype(np.uint8) for mask in masks]
    stored[0][0, 0], stored[1][-1, -1] = low, high
    label = draw.one(None, low, high, "any")
    meant = [values > 0 if label == "any" else values == label for values in stored]
    verdict = "refused" if label is None else "read"
    kind = f"labels {low} and {high}, {label}"
    make = draw.one(images, arrays)
    return make(kind, draw, stored, meant, verdict=verdict, label=label)


def instances(draw: Draw) -> PredictionCase:
    stored, number = [], int(draw.rng.integers(3, 40))
    dtype = draw.one(np.uint8, np.uint16)
    for _ in range(draw.count):
        values = np.zeros(draw.shape(), dtype)
        places = [(r, c) for r in range(0, values.shape[0] - 2, 3) for c in range(0, 60, 3)]
        for at, (row, col) in enumerate(places[:number]):
            values[row : row + 2, col : col + 2] = at + 1
        stored.append(values)
    label = draw.one(None, "any")
    meant = [values > 0 for values in stored]
    verdict = "refused" if label is None else "read"
    make = draw.one(images, arrays)
    return make(f"{number} instances", draw, stored, meant, verdict=verdict, label=label)


def scaled_map(draw: Draw) -> PredictionCase:
    dtype = draw.one(np.uint8, np.uint16)
    most = np.iinfo(dtype).max
    stored = [(found * most).round().astype(dtype) for found in draw.maps()]
    meant = [values / most for values in stored]
    kind = f"probabilities in {np.dtype(dtype)}"
    make = draw.one(images, images, arrays, in_equal_channels)
    return make(kind, draw, stored, meant, step=1e-12)


def in_equal_channels(
    kind: str, draw: Draw, stored: list[Pixels], meant: list[Pixels], **more: Any
) -> PredictionCase:
    return images(kind, draw, [np.dstack([values] * 3) for values in stored], meant, **more)


def floating_map(draw: Draw) -> PredictionCase:
    dtype = np.dtype(draw.one("float16", "float32", "float64", ">f4", ">f8"))
    stored = [found.astype(dtype) for found in draw.maps(draw.one(1.0, 0.9, 0.01, 1e-4))]
    if draw.one(0, 1):
        stored[0] = (stored[0] > 0.5).astype(draw.one(dtype, bool))
    meant = [values.astype(float) for values in stored]
    return arrays(f"probabilities in {dtype}", draw, stored, meant, step=1e-12)


def faint_map(draw: Draw) -> PredictionCase:
    """Few values, which might be labels: read as probabilities, or refused."""
    peak = draw.rng.uniform(0.01, 0.25)
    stored = [(found * 255).astype(np.uint8) for found in draw.maps(peak)]
    meant = [values / 255 for values in stored]
    make = draw.one(images, arrays)
    return make(f"faint {peak:.2f}", draw, stored, meant, verdict="either", step=1e-12)


def faint_deep_map(draw: Draw) -> PredictionCase:
    """Of 16 bits, but no more than 8-bit values."""
    stored = [(found * 255).astype(np.uint16) for found in draw.maps()]
    meant = [values / 65535 for values in stored]
    return draw.one(images, arrays)("8 bits in 16", draw, stored, meant, verdict="refused")


def saturated_map(draw: Draw) -> PredictionCase:
    """Next to no values between 0 and 1: a mask of the same pixels differs by its edges."""
    dtype = draw.one(np.uint8, np.uint16)
    most = np.iinfo(dtype).max
    steep = draw.rng.uniform(20, 400)
    found = [1 / (1 + np.exp(-steep * (values - 0.4))) for values in draw.maps()]
    stored = [(values * most).round().astype(dtype) for values in found]
    meant = [values / most for values in stored]
    make = draw.one(images, arrays)
    return make(f"saturated {steep:.0f}", draw, stored, meant, verdict="either", step=1e-12)


def no_probabilities(draw: Draw) -> PredictionCase:
    found = draw.maps()
    makers: tuple[tuple[str, Callable[[Pixels], Pixels]], ...] = (
        ("logits", lambda values: 12 * values - 6),
        ("not a number", lambda values: np.where(values > 0.4, np.nan, values)),
        ("infinite", lambda values: np.where(values > 0.4, np.inf, values)),
        ("percent", lambda values: 100 * values + 1),
        ("up to 255", lambda values: (255 * values).round()),
        ("int32", lambda values: (255 * values).astype(np.int32)),
        ("int64", lambda values: (65535 * values).astype(np.int64)),
        ("negative", lambda values: (20 * values - 10).astype(np.int16)),
        ("two classes", lambda values: np.stack([1 - values, values])),
        ("a pixel list", lambda values: np.argwhere(values > 0.4).T.ravel().astype(float)),
        ("complex", lambda values: values * 1j),
        ("words", lambda values: (values > 0.4).astype("U5")),
    )
    kind, make = makers[draw.turn % len(makers)]
    stored = [make(values) for values in found]
    return arrays(kind, draw, stored, found, verdict="refused")


def coloured_map(draw: Draw) -> PredictionCase:
    palette = draw.one(cv2.COLORMAP_JET, cv2.COLORMAP_HOT, cv2.COLORMAP_VIRIDIS)
    found = draw.maps()
    stored = [cv2.applyColorMap((255 * f).astype(np.uint8), palette)[..., ::-1] for f in found]
    return images("pseudocolour", draw, stored, found, verdict="refused")


def one_without_a_scale(draw: Draw) -> PredictionCase:
    """Floating-point probabilities, and a file whose 1 is not known."""
    stored = [found.astype(np.float32) for found in draw.maps()]
    blob = np.zeros(stored[0].shape, bool)
    blob[3:6, 4:8] = True
    odd: tuple[Pixels, ...] = (
        blob * np.uint8(38),
        blob * np.uint16(1),
        (stored[0] * 255).astype(np.int32),
        blob.astype(np.int64),
    )
    stored[0] = odd[draw.turn % len(odd)]
    kind = f"{stored[0].dtype} among floats"
    return arrays(kind, draw, stored, stored, verdict="refused")


def broken(draw: Draw) -> PredictionCase:
    """One file of a sound folder is torn, of another size, missing, or there twice."""
    case = draw.one(scaled_map, floating_map, mask_of_a_value)(draw)
    names = sorted(case.files)
    name = names[int(draw.rng.integers(len(names)))]
    files, meant = dict(case.files), list(case.meant)
    fault = draw.one("torn", "empty", "another size", "missing", "twice", "a page")
    if fault == "torn":
        files[name] = files[name][: len(files[name]) // 2]
    elif fault == "empty":
        files[name] = b""
    elif fault == "another size":
        meant[names.index(name)] = np.zeros((9, 9))
    elif fault == "missing":
        del files[name]
    elif fault == "twice":
        files[f"{name[:4]}.jpeg"] = files[name]
    else:
        files[name] = b"<!DOCTYPE html><html><body>404</body></html>"
    return PredictionCase(f"{case.kind}, {fault}", files, meant, "refused")


KINDS: tuple[Callable[[Draw], PredictionCase], ...] = (
    mask_of_a_value,
    mask_of_a_value,
    mask_in_three_channels,
    mask_with_a_palette,
    mask_in_alpha,
    mask_of_one_bit,
    mask_array,
    mask_as_jpeg,
    two_labels,
    instances,
    scaled_map,
    scaled_map,
    floating_map,
    faint_map,
    faint_deep_map,
    saturated_map,
    no_probabilities,
    coloured_map,
    one_without_a_scale,
    broken,
)


def make_case(number: int, count: int) -> PredictionCase:
    """A folder of so many files; the kinds in turn, the rest drawn, the same for a number."""
    turn, kind = divmod(number, len(KINDS))
    return KINDS[kind](Draw(np.random.default_rng(number), count, turn))
