"""Records of numbers and arrays, as a file holds them: a table says what each field is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_GREATEST = float(np.finfo(np.float64).max)


class Column(NamedTuple):
    """A field of a record.

    Attributes
    ----------
    axes : sequence of int or str
        Lengths of the axes. A letter is any length that is the same in all fields; it may be 0 if
        it is a small letter.
    least, most : float
        Finite values from the one to the other.
    kind : str
        As in `numpy.dtype.kind`.
    keys : tuple of str
        Of a mapping, whose values the array has; they may be anything.
    """

    axes: Sequence[int | str] = ()
    least: float = -_GREATEST
    most: float = _GREATEST
    kind: str = "f"
    keys: tuple[str, ...] = ()


def to_arrays(record: object, columns: Mapping[str, Column]) -> dict[str, NDArray[Any]]:
    """The fields of a record as arrays, in the order of the table."""
    fields = {name: getattr(record, name) for name in columns}
    return {
        name: np.asarray([fields[name][key] for key in column.keys] or fields[name])
        for name, column in columns.items()
    }


def from_arrays(
    found: Mapping[str, NDArray[Any]], columns: Mapping[str, Column]
) -> dict[str, Any] | None:
    """The fields of the record that `to_arrays` has made `found` of; None if it cannot have."""
    fields: dict[str, Any] = {}
    lengths: dict[str, int] = {}
    for name, (axes, least, most, kind, keys) in columns.items():
        array = found.get(name)
        axes = axes or (len(keys),) * bool(keys)
        if array is None or array.dtype.kind != kind or array.ndim != len(axes):
            return None
        for axis, length in zip(axes, array.shape, strict=True):
            wanted = axis if isinstance(axis, int) else lengths.setdefault(axis, length)
            if length != wanted or (length == 0 and not str(axis).islower()):
                return None
        if keys:
            fields[name] = dict(zip(keys, array.tolist(), strict=True))
        elif array.size and not least <= float(array.min()) <= float(array.max()) <= most:
            return None
        else:
            fields[name] = array if axes else array.item()
    return fields
