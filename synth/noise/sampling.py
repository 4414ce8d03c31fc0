"""Noise sampling: which windows of real frames go into the bank.

The variance rule is the published one (Lu et al., TGRS 2024), and most of what it takes is smooth
background. The texture rule takes what is noise once a local trend is off.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from synth.errors import NoiseError
from synth.frames import Frame, Mask
from synth.noise.bank import NoiseBank, make_bank
from synth.noise.blocks import find_noise_patches
from synth.seeds import generator

# A bank lives in memory; past this it is a mistake in the stride, not a wish.
MAX_BANK_BYTES = 2 << 30


_THRESHOLDS = ("max_var", "min_mean", "max_seq_var", "max_seq_mean")


@dataclass(frozen=True, slots=True)
class SamplingRule:
    """Which windows are noise.

    With the rule ``texture`` those are that `synth.noise.blocks.find_noise_blocks` finds, and of
    the other attributes only `side` (at least 16) and `limit` count.

    Thresholds are in DN of 8-bit data (DN² for variances) and scale with the range of deeper
    data, (2^bits − 1) / 255.

    Attributes
    ----------
    side : int
        Side of the square windows, pixels.
    stride : int or None
        Step between windows, pixels; they lie side by side without it.
    max_var : float
        A window is kept when its population variance is below this, in a sequence in every frame.
    min_mean : float
        A window is kept when its mean is above this, in a sequence in every frame.
    max_seq_var : float
        Greatest variance of a window's variance over the frames of a sequence.
    max_seq_mean : float
        Greatest variance of a window's mean over the frames of a sequence.
    limit : int or None
        Keep a uniform sample of so many of the windows that pass.
    bits : int or None
        Depth that the thresholds scale to, where the files are deeper than the data.
    rule : {"variance", "texture"}
        As published, which takes smooth background too, or noise alone.
    """

    side: int = 32
    stride: int | None = None
    max_var: float = 50.0
    min_mean: float = 0.0
    max_seq_var: float = 50.0
    max_seq_mean: float = 50.0
    limit: int | None = None
    bits: int | None = None
    rule: Literal["variance", "texture"] = "variance"

    # Read by pydantic's TypeAdapter.
    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    def __post_init__(self) -> None:
        most = {"side": 65536, "bits": 16}
        for key in ("side", "stride", "limit", "bits", *_THRESHOLDS):
            value, low = getattr(self, key), 0 if key in _THRESHOLDS else 1
            if value is None:
                continue
            if not low <= value <= most.get(key, value) or math.isinf(value):
                upper = f" and at most {most[key]}" if key in most else ""
                raise ValueError(f"{key}: must be {low} or more{upper}, not {value:g}")
        if self.rule == "texture" and self.side < 16:
            raise ValueError("rule: texture is for patches of 16 pixels and more")

    @property
    def step(self) -> int:
        """Step between windows, pixels."""
        return self.stride or self.side


@dataclass(frozen=True, slots=True)
class NoiseFrame:
    """A frame to sample from: its name in the bank, and how to get it.

    `load` returns the frame and, where the frame has targets, the mask of the pixels that no
    window may touch.
    """

    name: str
    load: Callable[[], tuple[Frame, Mask | None]]


def window_statistics(frame: Frame, side: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and population variance of every square window, at every position.

    Parameters
    ----------
    frame : (H, W) ndarray of uint8 or uint16
    side : int
        Side of the windows, at most min(H, W).

    Returns
    -------
    mean, var : (H - side + 1, W - side + 1) ndarray of float64
        DN and DN²; entry (r, c) belongs to the window whose first pixel is (r, c). Sums are exact
        integers as long as they stay below 2^53 (16-bit windows up to side 1448).
    """
    total, squares = _window_sums(frame, side)
    mean = total / side**2
    return mean, squares / side**2 - mean**2


def sample_noise(frames: Iterable[NoiseFrame], rule: SamplingRule, *, seed: int = 0) -> NoiseBank:
    """Sample noise patches from single, independent frames.

    Parameters
    ----------
    frames : iterable of NoiseFrame
    rule : SamplingRule
    seed : int
        Decides which windows stay when there are more than ``rule.limit``.

    Returns
    -------
    NoiseBank
        In the order of the frames, then rows, then columns.

    Raises
    ------
    NoiseError
        No window passes, frames of different depth, or a bank beyond the memory bound.

    Examples
    --------
    >>> import numpy as np
    >>> frame = np.full((64, 64), 100, np.uint8)
    >>> frame[:32, ::2] = 200
    >>> source = NoiseFrame("sky", lambda: (frame, None))
    >>> bank = sample_noise([source], SamplingRule(side=32))
    >>> len(bank), bank.row.tolist(), bank.col.tolist()
    (2, [32, 32], [0, 32])
    """
    if rule.rule == "texture":
        return _sample_noise_alone(frames, rule, seed)
    sample = _Sample(rule, seed)
    for source in frames:
        frame, targets = source.load()
        sample.add(source.name, frame, _passes(frame, targets, rule, rule.step))
    return sample.to_bank()


def sample_sequences(
    sequences: Iterable[Sequence[NoiseFrame]], rule: SamplingRule, *, seed: int = 0
) -> NoiseBank:
    """Sample noise patches from sequences of a fixed camera.

    A window is kept when it passes the single-frame rule in every frame and is steady over the
    sequence: variance over the frames of its variance at most ``max_seq_var``, of its mean at
    most ``max_seq_mean``. A window that is kept gives one patch from every frame.

    Parameters
    ----------
    sequences : iterable of sequences of NoiseFrame
        Frames of one sequence have one shape. They are read twice, one at a time.
    rule : SamplingRule
    seed : int

    Raises
    ------
    NoiseError
        A sequence of fewer than two frames (it would pass every test over time), frames of
        different shape, or as `sample_noise`.
    """
    sample = _Sample(rule, seed)
    for sequence in sequences:
        if len(sequence) < 2:
            raise NoiseError(
                f"{sequence[0].name}: is a sequence of one frame, which nothing can be said of "
                "over time; give more frames, or take each frame by itself"
            )
        steady = _steady_windows(sequence, rule)[:: rule.step, :: rule.step]
        for source in sequence:
            sample.add(source.name, source.load()[0], steady)
    return sample.to_bank()


def _sample_noise_alone(frames: Iterable[NoiseFrame], rule: SamplingRule, seed: int) -> NoiseBank:
    """Sample patches of noise without texture."""
    names = []

    def load() -> Iterable[tuple[Frame, Mask | None]]:
        for source in frames:
            names.append(source.name)
            yield source.load()

    found = find_noise_patches(load(), rule.side)
    patches = np.concatenate([pixels for _, _, _, pixels in found])
    row = np.concatenate([rows for _, rows, _, _ in found])
    col = np.concatenate([cols for _, _, cols, _ in found])
    name = [names[number] for number, rows, _, _ in found for _ in rows]
    chosen = np.arange(len(patches))
    if rule.limit is not None and rule.limit < len(patches):
        chosen = np.sort(generator(seed, "noise").choice(len(patches), rule.limit, replace=False))
    return make_bank(
        cast(Frame, patches[chosen]), [name[which] for which in chosen], row[chosen], col[chosen]
    )


def _window_sums(frame: Frame, side: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    height, width = frame.shape
    if not 1 <= side <= min(height, width):
        raise ValueError(f"a window of side {side} does not fit a frame of {height}x{width} pixels")
    inside = (slice(height - side + 1), slice(width - side + 1))
    size, first = (side, side), (0, 0)
    total = cv2.boxFilter(frame, cv2.CV_64F, size, anchor=first, normalize=False)[inside]
    squares = cv2.sqrBoxFilter(frame, cv2.CV_64F, size, anchor=first, normalize=False)[inside]
    return cast(NDArray[np.float64], total), cast(NDArray[np.float64], squares)


def _sums_on_grid(
    frame: Frame, side: int, step: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums and sums of squares of every `step`-th window."""
    if step < side:
        total, squares = _window_sums(frame, side)
        return total[::step, ::step], squares[::step, ::step]
    # They do not overlap, so that no more than each by itself is to be added.
    values = _windows(frame, side)[::step, ::step].astype(np.float64)
    return values.sum((2, 3)), np.einsum("rcij,rcij->rc", values, values)


def _windows(values: NDArray[Any], side: int) -> NDArray[Any]:
    """(rows, cols, side, side) view of all square windows."""
    return np.lib.stride_tricks.sliding_window_view(values, (side, side))


def _passes(frame: Frame, targets: Mask | None, rule: SamplingRule, step: int) -> NDArray[np.bool_]:
    """Which windows of a grid pass in this frame; compared as integers, so without rounding."""
    if min(frame.shape) < rule.side:
        return np.zeros((0, 0), bool)
    total, squares = _sums_on_grid(frame, rule.side, step)
    count = rule.side**2
    scale = _scale(frame, rule)
    # n Σx² − (Σx)² < v n²  is  var < v
    spread = squares * count
    spread -= total * total
    passed = (spread < rule.max_var * scale**2 * count**2) & (total > rule.min_mean * scale * count)
    return passed if targets is None else passed & _free_of(targets, rule.side, step)


def _scale(frame: Frame, rule: SamplingRule) -> float:
    bits = rule.bits if rule.bits is not None else 8 * frame.dtype.itemsize
    return float(2**bits - 1) / 255.0


def _free_of(targets: Mask, side: int, step: int) -> NDArray[np.bool_]:
    if step < side:
        return _window_sums(targets.view(np.uint8), side)[0][::step, ::step] == 0
    return np.logical_not(_windows(targets, side)[::step, ::step].any((2, 3)))


def _steady_windows(sequence: Sequence[NoiseFrame], rule: SamplingRule) -> NDArray[np.bool_]:
    """Windows that pass in every frame and whose statistics hardly move (Welford's update)."""
    passed: NDArray[np.bool_] | None = None
    mean, total, scale = np.zeros(()), np.zeros(()), 1.0
    for number, source in enumerate(sequence, start=1):
        frame, targets = source.load()
        here = _passes(frame, targets, rule, 1)
        if not here.size:
            return here
        if passed is None:
            passed, scale = here, _scale(frame, rule)
            mean, total = np.zeros((2, 2, *here.shape))
        elif here.shape != passed.shape:
            raise NoiseError(
                f"{source.name}: differs in size from its sequence's first frame, "
                f"{sequence[0].name}; keep one sequence in a folder"
            )
        else:
            passed &= here
        statistics = np.stack(window_statistics(frame, rule.side))
        step = statistics - mean
        mean += step / number
        total += step * (statistics - mean)
    assert passed is not None
    var_of_mean, var_of_var = total / len(sequence)
    passed &= var_of_mean <= rule.max_seq_mean * scale**2
    passed &= var_of_var <= rule.max_seq_var * scale**4
    return passed


@dataclass(frozen=True, slots=True)
class _Found:
    """Windows that passed in one frame, with the priority that decides who stays in a sample."""

    frame: int
    row: NDArray[np.intp]
    col: NDArray[np.intp]
    priority: NDArray[np.float64]
    patches: Frame

    def where(self, stay: NDArray[np.bool_]) -> _Found:
        return _Found(
            self.frame, self.row[stay], self.col[stay], self.priority[stay], self.patches[stay]
        )


class _Sample:
    """The windows kept so far.

    With a limit it is a bottom-k sample: every window that passes draws a priority, and the
    `limit` least ones stay. So memory is bounded, and every window has the same chance.
    """

    def __init__(self, rule: SamplingRule, seed: int) -> None:
        self._rule = rule
        self._seed = seed
        self._names: list[str] = []
        self._kept: list[_Found] = []
        self._count = 0
        self._bound = np.inf

    def add(self, name: str, frame: Frame, passed: NDArray[np.bool_]) -> None:
        """Cut the windows of the grid that passed, or those of them that may still stay."""
        number = len(self._names)
        self._names.append(name)
        side, limit, step = self._rule.side, self._rule.limit, self._rule.step
        chosen = np.flatnonzero(passed)
        priority = np.zeros(len(chosen))
        if limit is not None:
            priority = generator(self._seed, "noise", name, str(number)).random(len(chosen))
            below = np.flatnonzero(priority <= self._bound)
            chosen, priority = chosen[below], priority[below]
        if not len(chosen):
            return
        if limit is not None and len(chosen) > limit:
            stay = np.sort(np.argpartition(priority, limit)[:limit])
            chosen, priority = chosen[stay], priority[stay]
        row, col = np.unravel_index(chosen, passed.shape)
        row, col = row * step, col * step
        self._require_room(len(chosen), frame.itemsize)
        patches = _windows(frame, side)[row, col]
        self._kept.append(_Found(number, row, col, priority, cast(Frame, patches)))
        self._count += len(chosen)
        # Pruning costs a pass over all that is kept, so it waits until there is enough to drop.
        if limit is not None and self._count > 2 * limit:
            self._prune(limit)

    def to_bank(self) -> NoiseBank:
        """The bank of what stayed; `NoiseError` when nothing passed."""
        if self._rule.limit is not None and self._count > self._rule.limit:
            self._prune(self._rule.limit)
        if not self._names:
            raise NoiseError("there are no frames to sample; give some")
        if not self._kept:
            raise NoiseError(
                f"no window of side {self._rule.side} passes in {len(self._names)} frames "
                f"({self._names[0]} …); allow a greater variance, or take smaller patches"
            )
        depths = {str(found.patches.dtype) for found in self._kept}
        if len(depths) > 1:
            raise NoiseError(
                f"frames of {' and '.join(sorted(depths))}; sample each depth by itself"
            )
        return make_bank(
            cast(Frame, np.concatenate([found.patches for found in self._kept])),
            [self._names[found.frame] for found in self._kept for _ in found.row],
            np.concatenate([found.row for found in self._kept]),
            np.concatenate([found.col for found in self._kept]),
        )

    def _prune(self, limit: int) -> None:
        priority = np.concatenate([found.priority for found in self._kept])
        self._bound = float(np.partition(priority, limit - 1)[limit - 1])
        pruned = [found.where(found.priority <= self._bound) for found in self._kept]
        self._kept = [found for found in pruned if len(found.row)]
        self._count = sum(len(found.row) for found in self._kept)

    def _require_room(self, more: int, itemsize: int) -> None:
        count = self._count + more
        size = count * self._rule.side**2 * itemsize
        if size > MAX_BANK_BYTES:
            raise NoiseError(
                f"{count:,} windows and more pass, a bank of over {size / 2**30:.1f} GiB; "
                "limit their number, or take a larger stride"
            )
