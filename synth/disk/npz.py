"""Arrays in an ``.npz`` file: read without running anything in it, or being buried by it."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from synth.errors import NoiseError

MOST_UNPACKED = 1 << 28
"""Bytes that any archive may unpack to; what unpacks to more may not be packed by more than
`MOST_PACKED`. What numpy writes by default is not packed at all."""

MOST_PACKED = 20

_MOST_ARRAYS = 1 << 16
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_PLAIN = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def read_npz(path: Path, what: str) -> dict[str, NDArray[Any]]:
    """Read the arrays of an ``.npz`` file, by name; nothing in it is executed (no pickle).

    The directory of the archive and the headers of the arrays are read first, and have to agree, so
    that a small file cannot fill the memory. `what` it should be, and how to make one, is for
    messages.

    Raises
    ------
    NoiseError
        The file is absent, unreadable, no archive of arrays and so not `what` it should be, or
        unpacks to more than it should (`MOST_UNPACKED`).
    """
    try:
        with path.open("rb") as stream:
            if not stream.seekable():
                raise NoiseError(f"{path}: is a pipe, not a file; it cannot be {what}")
            return _read(stream, path)
    except FileNotFoundError:
        raise NoiseError(f"{path}: no such file") from None
    except OSError as error:
        raise NoiseError(f"{path}: cannot be read ({error.strerror or error})") from None
    except NoiseError:
        raise
    except Exception:  # zip, zlib and npy readers raise a dozen types on damaged bytes
        raise NoiseError(f"{path}: is not {what}") from None


def _read(stream: IO[bytes], path: Path) -> dict[str, NDArray[Any]]:
    with zipfile.ZipFile(stream) as archive:
        members = archive.infolist()
        stream.seek(0, 2)
        size = sum(member.file_size for member in members)
        if size > max(MOST_UNPACKED, MOST_PACKED * stream.tell()) or len(members) > _MOST_ARRAYS:
            raise NoiseError(
                f"{path}: would unpack to {size:,} bytes; no file of noise is packed like that"
            )
        found: dict[str, NDArray[Any]] = {}
        for member in members:
            if member.compress_type not in _PLAIN or member.filename in found:
                raise ValueError("not as numpy writes it")
            with archive.open(member) as file:
                _check_header(file, member.file_size)
            with archive.open(member) as file:
                array = np.lib.format.read_array(file, allow_pickle=False)
                # The checksum is looked at when the end is reached.
                if file.read(1):
                    raise ValueError("more than an array")
            found[member.filename.removesuffix(".npy")] = array
        return found


def _check_header(file: IO[bytes], size: int) -> None:
    """Raise an error unless an array's header promises just what follows it."""
    version = np.lib.format.read_magic(file)
    shape, _, dtype = _HEADERS[version](file)
    wanted = file.tell() + math.prod(shape) * dtype.itemsize
    if dtype.hasobject or dtype.itemsize == 0 or wanted != size:
        raise ValueError("not a plain array of that size")
