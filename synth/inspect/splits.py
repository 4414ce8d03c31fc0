"""Which images are for training, validation and testing: sequences stay whole.

With one of two neighbouring frames in training and the other in testing, a score says how well a
detector remembers, not how well it finds. So groups of ids are divided: by name where names tell
sequences apart, else by likeness, the correlation of the coarse structure of two scenes.

Frames that are nearly equal have to be alike by a perceptual hash too: the difference hash has a
bit for whether a frame grows brighter from one of 16 x 16 cells to the next (N. Krawetz, "Kind of
like that", 2013). The correlation alone would take two skies over the same horizon for one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import scipy
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from synth.disk.files import making_parents, replace_file
from synth.disk.split_names import SPLITS
from synth.errors import DatasetError, RecipeError, StoreError
from synth.frames import Frame, natural_key
from synth.seeds import generator

LIKENESS = 0.7
"""Correlation of two signatures above which their frames are taken for one scene. Neighbours in a
sequence of a fixed camera came to 0.93 and more; of the 427 images of NUAA-SIRST 16 are joined."""

NEARLY = 0.95
"""Correlation of two signatures from which on their frames are nearly equal: 77 pairs of
NUDT-SIRST, none of NUAA-SIRST."""

OVERLAP = 0.6
"""Correlation above which frames are taken to show parts of one scene. Of 60 frames of four cameras
(SIRST version 2) those of two cameras came to at most 0.56, panned views to 0.6 to 0.98."""

_SIDE, _CELLS = 32, 16
# Of 256 bits. Of the 77 pairs above 76 differ in at most 25; the other, in 136, shows two skies.
_BITS_APART = 64
# Rows of a table, and pairs of them, that are compared at a time.
_ROWS, _PAIRS = 1024, 4096

# Side of a view in pixels, the part of it that must overlap, and pairs that are computed together.
_VIEW, _LEAST_OVERLAP, _AT_A_TIME = 80, 0.25, 32
_DIGITS = re.compile(r"[0-9]+$")


class Groups(NamedTuple):
    """Ids that must stay together, by what they have in common, all in natural order.

    `by` is ``pattern`` for the first group of a regular expression, ``name`` for the id without its
    trailing digits, ``likeness`` for what the frames show, ``none`` for every id a group.
    """

    by: str
    members: Mapping[str, tuple[str, ...]]


def names_tell(ids: Iterable[str]) -> bool:
    """Tell whether ids without their trailing digits form several groups, some of several ids."""
    names = [_DIGITS.sub("", id_) for id_ in ids]
    return 1 < len(set(names)) < len(names)


def group_alone(ids: Iterable[str]) -> Groups:
    """Make every id a group of its own."""
    return _group("none", ids, str)


def group_by_name(ids: Iterable[str], pattern: str | None = None) -> Groups:
    """Group ids by the sequence that their names tell.

    Ids are together in which the first group of a regular expression is equal, or without one,
    which are equal without their trailing digits. `RecipeError` where the pattern is no regular
    expression or has no group, or an id does not hold it.
    """
    if pattern is None:
        return _group("name", ids, lambda id_: _DIGITS.sub("", id_))
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise RecipeError(f"{pattern!r} is not a regular expression ({error})") from None
    if not compiled.groups:
        words = f"the pattern {pattern!r} has no group"
        raise RecipeError(f"{words}; put what names the sequence in parentheses")

    def name(id_: str) -> str:
        found = compiled.search(id_)
        if found is None or found[1] is None:
            words = f"the pattern {pattern!r} finds nothing in the id {id_!r}"
            raise RecipeError(f"{words}; every id must belong to a sequence")
        return found[1]

    return _group("pattern", ids, name)


def group_by_likeness(
    signatures: Mapping[str, NDArray[np.float32]], above: float = LIKENESS
) -> Groups:
    """Group ids whose frames show one scene, directly or through frames between them.

    Two frames are together when their signatures, see `scene_signature`, correlate by more than
    `above`. Frames without any structure, as of an empty sky, are like nothing.
    """
    ordered = sorted(signatures, key=_in_order)
    pairs = list(pairs_above(np.stack([signatures[id_] for id_ in ordered]), above))
    row, col = np.concatenate([np.empty((2, 0), np.intp), *pairs], axis=1)
    table = coo_array((np.ones(len(row), bool), (row, col)), shape=(len(ordered),) * 2)
    label = dict(zip(ordered, connected_components(table, directed=False)[1], strict=True))
    groups = _group("likeness", ordered, lambda id_: str(label[id_]))
    return Groups(groups.by, {own[0]: own for own in groups.members.values()})


def _group(by: str, ids: Iterable[str], key: Callable[[str], str]) -> Groups:
    together: dict[str, list[str]] = {}
    for id_ in sorted(ids, key=_in_order):
        together.setdefault(key(id_), []).append(id_)
    return Groups(by, {key: tuple(members) for key, members in together.items()})


def _in_order(id_: str) -> tuple[object, ...]:
    # Two ids can be equal as numbers: 1 and 01.
    return natural_key(id_), id_


def scene_signature(frame: Frame) -> NDArray[np.float32]:
    """Summarise a frame by the coarse structure of its scene.

    The frame, clipped to its 1st to 99th percentile, is averaged onto 32 x 32 cells; what changes
    more slowly than over some four of them is taken away, since two skies that grow bright towards
    the horizon are alike in nothing else. Offset, gain, size and small targets hardly count.

    Returns
    -------
    (1024,) ndarray of float32
        Mean 0 and length 1, so that the product of two is their correlation; all 0 for a constant
        frame.
    """
    clipped = frame.astype(np.float32).clip(*np.percentile(frame, (1, 99)))
    coarse = cv2.resize(clipped, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    slow = cv2.GaussianBlur(coarse, (0, 0), _SIDE / 8, borderType=cv2.BORDER_REFLECT)
    values = (coarse - slow).ravel().astype(np.float64)
    values -= values.mean()
    length = float(np.linalg.norm(values))
    # What rounding leaves of a constant frame has no meaning.
    if length <= 1e-5 * float(np.abs(coarse).max()) * _SIDE:
        return np.zeros(values.shape, np.float32)
    return (values / length).astype(np.float32)


def difference_hash(frame: Frame) -> NDArray[np.bool_]:
    """Tell where a frame grows brighter from a cell to the next: (256,) ndarray of bool."""
    cells = cv2.resize(frame.astype(np.float32), (_CELLS + 1, _CELLS), interpolation=cv2.INTER_AREA)
    return (np.diff(cells, axis=1) > 0).ravel()


def pairs_above(
    table: NDArray[np.float32], least: float
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Pairs of rows, the lower one first, whose product is above `least`, some at a time."""
    for start in range(0, len(table), _ROWS):
        rows, cols = np.nonzero(table[start : start + _ROWS] @ table.T > least)
        rows += start
        rows, cols = rows[rows < cols], cols[rows < cols]
        for at in range(0, len(rows), _PAIRS):
            yield rows[at : at + _PAIRS], cols[at : at + _PAIRS]


def nearly_equal(
    hashes: Sequence[NDArray[np.bool_]], signatures: Sequence[NDArray[np.floating]]
) -> Iterator[tuple[int, int, float]]:
    """Find the pairs of frames that are nearly equal, by `difference_hash` and `scene_signature`.

    Yields the places of a pair, the lower one first, and the correlation, at least `NEARLY`.
    """
    if not hashes:
        return
    # The product of two rows of ±1 is the number of bits less twice those that differ.
    signs = np.where(np.stack(hashes), np.float32(1), np.float32(-1))
    table = np.stack(signatures)
    for rows, cols in pairs_above(signs, signs.shape[1] - 2 * _BITS_APART - 1):
        likeness = np.einsum("ij,ij->i", table[rows], table[cols], dtype=np.float64)
        near = likeness >= NEARLY
        pairs = (part[near].tolist() for part in (rows, cols, likeness))
        yield from zip(*pairs, strict=True)


def find_overlaps(frames: Iterable[Frame]) -> list[tuple[int, int]]:
    """Find pairs of frames that show parts of one scene, as a camera that pans takes them.

    They correlate by more than `OVERLAP` at some shift at which a quarter of the smaller one
    overlaps. Returns their numbers, the smaller one first. The time grows with the square of the
    number of frames: a second for 40.
    """
    frames = list(frames)
    if len(frames) < 2:
        return []
    # One scale for all, so that a part of a frame is like the whole.
    factor = min(1.0, _VIEW / max(max(frame.shape) for frame in frames))
    shapes = [[max(1, round(length * factor)) for length in frame.shape] for frame in frames]
    views = np.zeros((len(frames), *np.max(shapes, axis=0)), np.float32)
    inside = np.zeros_like(views)
    for number, (frame, (height, width)) in enumerate(zip(frames, shapes, strict=True)):
        small = cv2.resize(frame.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
        fine = small - cv2.GaussianBlur(small, (0, 0), 3, borderType=cv2.BORDER_REFLECT)
        spread = float(fine.std())
        views[number, :height, :width] = fine / spread if spread > 1e-3 else 0
        inside[number, :height, :width] = 1
    size = [scipy.fft.next_fast_len(2 * length, real=True) for length in views.shape[1:]]
    spectra = [scipy.fft.rfft2(part, size) for part in (views, views**2, inside)]
    areas = inside.sum((1, 2))
    pairs = []
    for second in range(1, len(views)):
        for first in range(0, second, _AT_A_TIME):
            few = slice(first, min(first + _AT_A_TIME, second))
            both, one, other, one_square, other_square, count = (
                scipy.fft.irfft2(spectra[theirs][few] * spectra[ours][second].conj(), size)
                for theirs, ours in ((0, 0), (0, 2), (2, 0), (1, 2), (2, 1), (2, 2))
            )
            count = np.maximum(count, 1)
            spread = (one_square - one**2 / count) * (other_square - other**2 / count)
            found = (both - one * other / count) / np.sqrt(np.maximum(spread, 1e-6))
            least = _LEAST_OVERLAP * np.minimum(areas[few], areas[second])
            found[count < least[:, None, None]] = 0
            alike = np.flatnonzero(found.max((1, 2)) > OVERLAP) + first
            pairs += [(number, second) for number in alike.tolist()]
    return pairs


def split_groups(
    groups: Groups, test: float, val: float = 0.0, seed: int = 0
) -> dict[str, tuple[str, ...]]:
    """Divide groups of ids among training, validation and testing.

    Groups are gone through in a random order; each goes to the test split where that brings its
    number of ids nearer to the share that was asked for, then likewise to the validation split,
    and else to training. A share that is not 0 is at least one group; `RecipeError` where there are
    fewer groups than splits. Ids of a split are in natural order.
    """
    members = groups.members
    shares = {name: share for name, share in (("test", test), ("val", val)) if share}
    if len(members) <= len(shares):
        words = f"has {len(members)} group(s) of images for {len(shares) + 1} splits"
        raise RecipeError(f"{words}; group them by another rule, or ask for fewer splits")
    order = sorted(members)
    generator(seed, "split").shuffle(order)
    total = sum(map(len, members.values()))
    taken: dict[str, list[str]] = {}
    for place, (name, share) in enumerate(shares.items()):
        own: list[str] = []
        count, wanted = 0, share * total
        for key in order:
            more = count + len(members[key])
            # Each later split needs a group too.
            left = len(order) - len(own) > len(shares) - place
            if left and abs(more - wanted) < abs(count - wanted):
                own.append(key)
                count = more
        taken[name] = own or [min(order, key=lambda key: len(members[key]))]
        order = [key for key in order if key not in set(taken[name])]
    taken["train"] = order
    ids = {name: [id_ for key in keys for id_ in members[key]] for name, keys in taken.items()}
    return {name: tuple(sorted(ids[name], key=_in_order)) for name in SPLITS if name in ids}


def write_lists(folder: Path, splits: Mapping[str, Sequence[str]]) -> list[Path]:
    """Write ``train.txt``, ``val.txt`` and ``test.txt``, one id a line; the folder is made.

    `DatasetError` where one is there already, and `StoreError` where they cannot be written; none
    is written then.
    """
    files = {
        folder / f"{name}.txt": "".join(f"{id_}\n" for id_ in ids).encode()
        for name, ids in splits.items()
    }
    # Training last: until it is there, no image of another split is trained on. What a run left
    # that was killed is part of the lists.
    new = [file for file in reversed(files) if not file.exists()]
    for file, data in files.items():
        if file not in new and not (new and file.read_bytes() == data):
            raise DatasetError(file, "is there already; choose another --out, or remove it")
    with making_parents(folder / "lists"):
        try:
            for file in new:
                replace_file(file, files[file])
        except StoreError:
            with suppress(OSError):
                for file in new:
                    file.unlink(missing_ok=True)
            raise
    return list(files)
