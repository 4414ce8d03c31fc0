"""One infrared frame or mask: from a file to an array of DN, and back.

A frame in memory is ``uint8`` or ``uint16`` of shape (H, W), in DN; a mask is ``bool`` of shape
(H, W). Colour files become grey by the luma of ITU-R Recommendation BT.601; alpha is dropped.
"""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from synth.disk.headers import MOST_FILE_BYTES, REPLACE, is_png, read_header
from synth.disk.png import encode_png
from synth.disk.tiff import TiffLayout, decode_tiff, imdecode, is_tiff, turn
from synth.errors import FrameError

Frame = NDArray[np.uint8] | NDArray[np.uint16]
Mask = NDArray[np.bool_]

SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".jpg", ".jpeg")


@dataclass(frozen=True, slots=True)
class ImageFile:
    """The file of an image or a mask, or a member of a tar file (`synth.disk.shards`).

    Only `read` knows how to open it: the path of a member is that of the tar file and, below it,
    the member's name.
    """

    path: Path

    def read(self) -> bytes:
        """Read its bytes; `FrameError` where that cannot be done."""
        return read_bytes(self.path)

    def frame(self) -> Frame:
        """Read it as a frame, see `read_frame`."""
        return decode_frame(self.read(), self.path)


def read_frame(path: Path | str) -> Frame:
    """Read one frame.

    Parameters
    ----------
    path : Path or str
        A PNG, BMP, TIFF or JPEG file of up to 16 bits, grey, palette, RGB or RGBA.

    Returns
    -------
    (H, W) ndarray of uint8 or uint16
        DN as stored: uint8 up to 8 bits, where 1, 2 and 4 bits are scaled to 0 to 255; uint16
        above, where 12 bits stay 0 to 4095. Turned by the orientation tag of TIFF or EXIF.

    Raises
    ------
    FrameError
        The file is absent, empty, damaged, of another type or depth, or too large
        (`synth.disk.headers`, `synth.disk.tiff`).

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> with TemporaryDirectory() as folder:
    ...     write_frame(f"{folder}/sky.png", np.array([[7000, 7250]], np.uint16))
    ...     read_frame(f"{folder}/sky.png")
    array([[7000, 7250]], dtype=uint16)
    """
    return ImageFile(Path(path)).frame()


def decode_frame(data: bytes, path: Path | str) -> Frame:
    """Decode the bytes of an image file to a frame, as `read_frame`; `path` is for messages."""
    return to_luma(decode_image(data, path))


def decode_image(data: bytes, path: Path | str) -> Frame:
    """Decode the bytes of an image file as `decode_frame`, but keep its colours and alpha.

    Returns
    -------
    (H, W), (H, W, 3) or (H, W, 4) ndarray of uint8 or uint16
        Colour in OpenCV's order, BGR or BGRA.
    """
    if not data:
        raise FrameError(path, f"is empty; {REPLACE}")
    if is_tiff(data):
        return decode_tiff(data, path)
    header = read_header(data, path)
    image = imdecode(data, path, (header.height, header.width))
    if image.ndim == 3 and image.shape[2] == 4 and not header.has_alpha:
        image = cast(Frame, np.ascontiguousarray(image[..., :3]))
    return turn(image, header.orientation)


def frame_shape(data: bytes, path: Path | str) -> tuple[int, int]:
    """Size (H, W) of the frame in the bytes of an image file, as `decode_frame` returns it.

    Of a PNG, only the structure and the checksums are tested; other kinds are decoded.
    """
    if is_png(data):
        header = read_header(data, path)
        size = header.height, header.width
        return size[::-1] if header.orientation >= 5 else size
    height, width = decode_image(data, path).shape[:2]
    return height, width


def is_plain(data: bytes) -> bool:
    """Whether simple readers return the pixels that `decode_image` returns.

    True where Pillow (without EXIF) and OpenCV (``IMREAD_UNCHANGED``) both do so: grey of 8 or
    16 bits, or 8-bit RGB, stored the usual way. False of an image turned by its orientation tag, a
    palette, WhiteIsZero, planar or packed samples, BigTIFF, 16-bit RGB; and where `decode_image`
    refuses the header. Only header and checksums are tested: the pixels may be damaged.
    """
    try:
        return (TiffLayout if is_tiff(data) else read_header)(data, "").plain
    except FrameError:
        return False


def plain_file(data: bytes, path: Path | str) -> tuple[bytes, str]:
    """Bytes and suffix under which an image file goes into another set.

    They are its own where it is plain, see `is_plain`; else a grey PNG of its pixels, or a
    `FrameError` where it cannot be read.
    """
    if is_plain(data):
        return data, Path(path).suffix
    return encode_png(decode_frame(data, path)), ".png"


def to_luma(image: Frame) -> Frame:
    """Reduce an image, (H, W), or (H, W, 3) or (H, W, 4) in OpenCV's channel order, to grey.

    Luma of ITU-R BT.601, Y = 0.299 R + 0.587 G + 0.114 B, in 16-bit fixed point with rounding
    (the weights 19595, 38470, 7471 of 65536, as Pillow uses them), so equal channels keep
    their value exactly.
    """
    if image.ndim == 2:
        return image
    blue, green, red = cv2.split(image)[:3]
    if cv2.norm(blue, green, cv2.NORM_INF) == 0 and cv2.norm(blue, red, cv2.NORM_INF) == 0:
        return cast(Frame, blue)
    # In one expression, NumPy reuses the memory of its parts.
    weighted = (
        red.astype(np.uint32) * np.uint32(19595)
        + green.astype(np.uint32) * np.uint32(38470)
        + blue.astype(np.uint32) * np.uint32(7471)
        + np.uint32(1 << 15)
    )
    return cast(Frame, (weighted >> 16).astype(image.dtype))


def write_frame(path: Path | str, image: Frame | Mask) -> None:
    """Write a frame (uint8 or uint16) or a mask (bool), (H, W), as PNG.

    It raises `TypeError` and `ValueError` as `require_frame`, `FrameError` where the path does not
    end in ``.png``, and `OSError` where the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise FrameError(path, "frames are written as PNG; name the file .png")
    is_mask = isinstance(image, np.ndarray) and image.dtype == np.bool_
    image = (require_mask if is_mask else require_frame)(image, "image")
    path.write_bytes(encode_png(image))


def read_bytes(path: Path) -> bytes:
    """Read a file whole; a file that is absent or unreadable is a `FrameError`."""
    try:
        found = path.stat()
        # A pipe would be waited for, and a device never ends.
        if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
            raise FrameError(path, "is a pipe or a device, not an image file")
        if found.st_size > MOST_FILE_BYTES:
            raise FrameError(path, f"has {found.st_size:,} bytes, which no frame has; remove it")
        data = path.read_bytes()
    except FileNotFoundError:
        raise FrameError(path, "no such file") from None
    except IsADirectoryError:
        raise FrameError(path, "is a folder, not an image file") from None
    except OSError as error:
        raise FrameError(path, f"cannot be read ({error.strerror})") from None
    if not data:
        raise FrameError(path, f"is empty; {REPLACE}")
    return data


def read_array(path: Path) -> NDArray[Any]:
    """Read a NumPy file (``.npy``), (H, W), of bool, whole or floating-point numbers.

    Leading axes of length 1 are dropped. Nothing in the file is executed. A `FrameError` says that
    it cannot be read, is damaged, or has another shape.
    """
    try:
        # Mapped first, which finds a header that promises more than the file holds.
        values: NDArray[Any] = np.array(np.lib.format.open_memmap(path, mode="r"))
    except OSError as error:
        raise FrameError(path, f"cannot be read ({error.strerror})") from None
    except Exception as error:  # the reader of the header raises half a dozen types
        words = (str(error).splitlines() or [""])[0]
        raise FrameError(path, f"is damaged, or no numpy array ({words:.100}); {REPLACE}") from None
    shape = values.shape
    while values.ndim > 2 and len(values) == 1:
        values = values[0]
    if values.ndim != 2 or not values.size:
        raise FrameError(
            path, f"is an array of shape {shape}, not of rows and columns; save it as (H, W)"
        )
    return values


def natural_key(name: str) -> tuple[tuple[int, int | str], ...]:
    """Sort key that orders runs of digits by value: ``a2`` before ``a10``."""
    parts = filter(None, re.split(r"([0-9]+)", name))
    return tuple((0, int(part)) if part.isdigit() else (1, part) for part in parts)


def require_frame(array: object, what: str) -> Frame:
    """Return an array that is a frame, and refuse any other; `what` names it in messages.

    `TypeError` says that it is no array, or of another type, and how to convert it; `ValueError`
    that it has another shape than (H, W), or no pixels.
    """
    advice = "read the file with synth.read_frame"
    kind = array.dtype.kind if isinstance(array, np.ndarray) else ""
    if kind == "f":
        advice = (
            "Matplotlib reads images as floats from 0 to 1: read the file with synth.read_frame, "
            "or convert such an array with np.rint(255 * array).astype(np.uint8)"
        )
    elif kind and kind in "ui":
        advice = "convert it with array.astype(np.uint16) if its values are from 0 to 65535"
    return _require(array, what, "a frame has uint8 or uint16", (np.uint8, np.uint16), advice)


def require_mask(array: object, what: str) -> Mask:
    """Return an array that is a mask, and refuse any other, as `require_frame`."""
    advice = "convert it: array > 127 where 255 marks targets, array == 1 where 1 does"
    if isinstance(array, np.ndarray) and array.dtype.kind == "f":
        advice = "convert it: array > 0.5 where 1.0 marks targets"
    return _require(array, what, "a mask has bool", (np.bool_,), advice)


def _require(
    array: object, what: str, wanted: str, types: tuple[type[np.generic], ...], advice: str
) -> NDArray[Any]:
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{what}: is no array but a {type(array).__name__}; use np.asarray")
    if array.dtype not in types:
        raise TypeError(f"{what}: has type {array.dtype}, and {wanted}; {advice}")
    if array.ndim != 2 or not array.size:
        raise ValueError(
            f"{what}: has shape {array.shape}, and one of (H, W) is needed; give each frame of a "
            "stack by itself, and read colour files with synth.read_frame"
        )
    return array
