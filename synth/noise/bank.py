"""The noise bank: patches of real frames with where they came from."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from synth.disk.npz import read_npz
from synth.errors import NoiseError
from synth.frames import Frame

# Patches whose variance is computed together; it takes eight times their memory.
_AT_A_TIME = 256


@dataclass(frozen=True, eq=False)
class NoiseBank:
    """Noise patches and their origin, one entry a patch; empty names and zeros if not known.

    Attributes
    ----------
    patches : (N, side, side) ndarray of uint8 or uint16
        DN, in the frames' own depth.
    frame : (N,) ndarray of str
        The frame that the patch was cut from, relative to the folder that was sampled.
    row, col : (N,) ndarray of int32
        The patch's first pixel in that frame.
    mean, var : (N,) ndarray of float64
        Mean (DN) and population variance (DN²) of the patch.
    kind : (N,) ndarray of int32
        Type of noise: which of the joined banks (or cameras) the patch is from, from 0.
    """

    patches: NDArray[np.uint8] | NDArray[np.uint16]
    frame: NDArray[np.str_]
    row: NDArray[np.int32]
    col: NDArray[np.int32]
    mean: NDArray[np.float64]
    var: NDArray[np.float64]
    kind: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.patches)

    @property
    def side(self) -> int:
        """Side of a patch in pixels."""
        return int(self.patches.shape[1])

    def members(self) -> list[NDArray[np.intp]]:
        """Indices of the patches of each kind."""
        return self._members

    @cached_property
    def _members(self) -> list[NDArray[np.intp]]:
        return [np.flatnonzero(self.kind == kind) for kind in np.unique(self.kind)]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What a file holds of it, by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def take(self, chosen: NDArray[np.intp]) -> NoiseBank:
        """Some of the patches."""
        return NoiseBank(*(array[chosen] for array in self.arrays().values()))

    def to_bytes(self) -> bytes:
        """The bank as an ``.npz`` file; the same bytes for the same bank."""
        return npz_bytes(self.arrays())


def npz_bytes(arrays: Mapping[str, ArrayLike]) -> bytes:
    """Arrays as an ``.npz`` file; the same bytes for the same arrays."""
    buffer = io.BytesIO()
    np.savez(buffer, **cast(Any, arrays))
    return buffer.getvalue()


def load_bank(path: Path | str) -> NoiseBank:
    """Read a bank, of ``patches`` alone too; nothing in the file is executed (no pickle).

    `NoiseError` if the file is absent, damaged, or not a bank.
    """
    what = "a noise bank; make one with `synth noise-sample FRAMES --out BANK.npz`"
    return bank_from(read_npz(Path(path), what), Path(path))


def bank_from(found: Mapping[str, NDArray[Any]], path: Path) -> NoiseBank:
    """Make a bank of the arrays in a file; `NoiseError` if they are not those of a bank."""
    patches = found.get("patches", np.zeros(0))
    if not patches.size and any("/" in name for name in found):
        raise NoiseError(
            f"{path}: is a model of noise, which has no patches to mix in; take the step residual"
        )
    square = patches.ndim == 3 and patches.shape[1] == patches.shape[2]
    if patches.dtype not in (np.uint8, np.uint16) or not square or not patches.size:
        raise NoiseError(
            f"{path}: is no noise bank, whose `patches` are (N, side, side) of uint8 or uint16"
        )
    names = [column.name for column in fields(NoiseBank)[1:]]
    # What a bank has in common with all others is known from one of a single patch.
    columns = make_bank(patches[:1] if found.keys() >= set(names) else patches).arrays()
    columns["patches"] = patches
    for name in names:
        values = found.get(name, columns[name])
        wanted = "US" if name == "frame" else "iuf"
        if values.shape != (len(patches),) or values.dtype.kind not in wanted:
            raise NoiseError(f"{path}: `{name}` must have one entry for every patch")
        columns[name] = values if name == "frame" else values.astype(columns[name].dtype)
    return NoiseBank(**columns)


def make_bank(
    patches: Frame, frame: ArrayLike = "", row: ArrayLike = 0, col: ArrayLike = 0
) -> NoiseBank:
    """Put (N, side, side) patches and their origin into a bank; mean and variance are computed."""
    count = len(patches)
    flat = patches.reshape(count, -1)
    mean, var = np.zeros((2, count))
    for at in range(0, count, _AT_A_TIME):
        some = slice(at, at + _AT_A_TIME)
        mean[some] = flat[some].mean(axis=1, dtype=np.float64)
        var[some] = flat[some].var(axis=1, dtype=np.float64)
    names = np.asarray(frame, np.str_)
    rows, cols, kind = (np.full(count, value, np.int32) for value in (row, col, 0))
    return NoiseBank(patches, np.full(count, names, names.dtype), rows, cols, mean, var, kind)


def join_banks(banks: Sequence[NoiseBank]) -> NoiseBank:
    """Join banks to one; each keeps its type of noise as `NoiseBank.kind`.

    `NoiseError` if they differ in depth or in the side of their patches.
    """
    depths = {str(bank.patches.dtype) for bank in banks}
    unlike = sorted(depths if len(depths) > 1 else {f"side {bank.side}" for bank in banks})
    if len(unlike) > 1:
        raise NoiseError(
            f"noise patches of {' and of '.join(unlike)} cannot be mixed; give sources of one "
            "depth with patches of one side"
        )
    columns = zip(*(bank.arrays().values() for bank in banks), strict=True)
    joined = NoiseBank(*map(np.concatenate, columns))
    starts = np.cumsum([0, *(int(bank.kind.max()) + 1 for bank in banks[:-1])])
    shift = np.repeat(starts, [len(bank) for bank in banks]).astype(np.int32)
    return replace(joined, kind=joined.kind + shift)
