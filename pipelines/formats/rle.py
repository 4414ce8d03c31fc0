"""Masks as COCO's compressed run lengths.

A mask is read column by column; its counts are the lengths of the runs of 0, 1, 0, … pixels. The
text has 5 bits of a number a character, the low ones first, in 6-bit characters from ``0`` on; from
the fourth count on, the number is the difference from the count two before.
"""

from __future__ import annotations

from itertools import chain, pairwise

import numpy as np
from numpy.typing import NDArray

from synth.frames import Mask


def encode_runs(crop: Mask, corner: tuple[int, int], shape: tuple[int, int]) -> str:
    """Encode a mask of which only a part is not empty.

    Parameters
    ----------
    crop : (h, w) ndarray of bool
        That part.
    corner : tuple of int
        Its (top, left) in the mask.
    shape : tuple of int
        (H, W) of the mask.

    Returns
    -------
    str
        The text that COCO has under ``counts``.

    Examples
    --------
    >>> import numpy as np
    >>> encode_runs(np.ones((2, 1), bool), (1, 1), (3, 3))
    '423'
    """
    height, width = shape
    cols, rows = np.nonzero(crop.T)
    places = (cols + corner[1]) * height + rows + corner[0]
    firsts = np.flatnonzero(np.diff(places, prepend=-2) != 1)
    starts = places[firsts]
    ends = places[np.append(firsts[1:], len(places)) - 1] + 1 if len(places) else starts
    edges = [0, *chain.from_iterable(zip(starts.tolist(), ends.tolist(), strict=True))]
    if edges[-1] != height * width or len(edges) == 1:
        edges.append(height * width)
    return _to_text([after - before for before, after in pairwise(edges)])


def decode_runs(counts: object, shape: tuple[int, int]) -> Mask:
    """Decode the counts of a mask, as text or as a list of numbers.

    Raises
    ------
    ValueError
        They are not the counts of a mask of this shape.
    """
    if not isinstance(counts, str | list):
        raise ValueError("run lengths are missing")
    lengths = _from_text(counts) if isinstance(counts, str) else np.array(counts)
    if lengths.ndim != 1 or (lengths.size and lengths.dtype.kind not in "iu"):
        raise ValueError("run lengths are whole numbers")
    height, width = shape
    # Each by itself too, as the sum of great ones can come round to anything.
    fit = ((lengths >= 0) & (lengths <= height * width)).all()
    if not fit or int(lengths.sum(dtype=np.int64)) != height * width:
        raise ValueError(f"the run lengths do not make up {height}x{width} pixels")
    values = np.arange(len(lengths)) % 2 == 1
    return np.repeat(values, lengths).reshape(width, height).T.copy()


def _to_text(counts: list[int]) -> str:
    text: list[str] = []
    for place, count in enumerate(counts):
        number = count - counts[place - 2] if place > 2 else count
        while True:
            bits, number = number & 31, number >> 5
            # The fifth bit is the sign, which ends a number when nothing but it is left.
            last = number == (-1 if bits & 16 else 0)
            text.append(chr(48 + bits + (0 if last else 32)))
            if last:
                break
    return "".join(text)


def _from_text(text: str) -> NDArray[np.int64]:
    counts: list[int] = []
    number = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 40:
            raise ValueError(f"{character!r} stands where no run length has it")
        number |= (code & 31) << shift
        shift += 5
        if not code & 32:
            if code & 16:
                number -= 1 << shift
            counts.append(number + (counts[-2] if len(counts) > 2 else 0))
            number = shift = 0
    if shift:
        raise ValueError("the last run length has no end")
    return np.array(counts, np.int64)
