"""Noise sampling: which windows of real frames go into the bank.

The variance rule is the published one (Lu et al., TGRS 2024); most of its windows are smooth
background. The texture rule takes windows that are noise over a local trend.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from operator import methodcaller
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from synth.errors import NoiseError
from synth.frames import Frame, Mask
from synth.noise.bank import NoiseBank, make_bank
from synth.noise.blocks import Floats, find_noise_patches, window_sums, windows
from synth.seeds import generator

# A larger bank does not fit into memory; its stride is a mistake.
MAX_BANK_BYTES = 2 << 30

_MOST = {"side": 65536, "bits": 16}


@dataclass(frozen=True, slots=True)
class SamplingRule:
    """Which windows are noise.

    Thresholds are in DN of 8-bit data (DN² for variances) and scale with the range of deeper
    data, (2^bits − 1) / 255.

    Attributes
    ----------
    side : int
        Side of the square windows, pixels.
    stride : int or None
        Step between windows, pixels; None for `side`.
    max_var, min_mean : float
        A window's population variance is below `max_var` and its mean above `min_mean`, in a
        sequence in every frame.
    max_seq_var, max_seq_mean : float
        Greatest variance of a window's variance, and of its mean, over the frames of a sequence.
    limit : int or None
        Keep a uniform sample of so many of the windows that pass.
    bits : int or None
        Depth that the thresholds scale to, where the files are deeper than the data.
    rule : {"variance", "texture"}
        As published, or the patches of `synth.noise.blocks.find_noise_patches`, for which only
        `side` (at least 16) and `limit` count.
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
        for key in (field.name for field in fields(self)[:-1]):
            value, low = getattr(self, key), 0 if key.startswith(("max", "min")) else 1
            if value is not None and not low <= value <= _MOST.get(key, sys.float_info.max):
                upper = f" and at most {_MOST[key]}" if key in _MOST else ""
                raise ValueError(f"{key}: must be {low} or more{upper}, not {value:g}")
        if self.rule == "texture" and self.side < 16:
            raise ValueError("rule: texture is for patches of 16 pixels and more")

    @property
    def step(self) -> int:
        """Step between windows, pixels."""
        return self.stride or self.side


@dataclass(frozen=True, slots=True)
class NoiseFrame:
    """A frame to learn noise from: its name in the bank, how to get it, and its file if it has one.

    `load` returns the frame and, where it has targets, the mask of pixels that no window may touch.
    """

    name: str
    load: Callable[[], tuple[Frame, Mask | None]]
    path: Path | None = None


Loader: TypeAlias = Callable[[Iterable[NoiseFrame]], Iterable[tuple[Frame, Mask | None]]]
"""How frames are loaded: in their order, perhaps ahead, or with a bar of progress."""

load_each: Loader = partial(map, methodcaller("load"))


def sample_frames(
    frames: Sequence[NoiseFrame],
    rule: SamplingRule,
    *,
    sequence: bool = False,
    seed: int = 0,
    load: Loader = load_each,
) -> NoiseBank:
    """Sample noise patches from frames, in the order of the frames, then rows, then columns.

    In a `sequence`, the frames of each folder are a recording of one scene, and are read twice. A
    window that passes in all of them and is steady gives a patch of each.

    Raises
    ------
    NoiseError
        No window passes, frames of different depth, a bank beyond the memory bound, or a sequence
        of fewer than two frames or of different shapes.
    """
    if rule.rule == "texture":
        return _sample_noise_alone(frames, rule, seed, load)

    def find() -> Iterator[tuple[str, Frame, NDArray[np.bool_]]]:
        for group in by_folder(frames).values() if sequence else [frames]:
            steady = _find_steady(group, rule, load) if sequence else None
            for source, (frame, targets) in zip(group, load(group), strict=True):
                passed = _pass(frame, targets, rule) if steady is None else steady
                yield source.name, frame, passed

    return _cut(find(), rule, seed)


def by_folder(frames: Iterable[NoiseFrame]) -> dict[Path | None, list[NoiseFrame]]:
    """The frames in each folder, in order of first appearance; those without a file together."""
    folders: dict[Path | None, list[NoiseFrame]] = {}
    for frame in frames:
        folders.setdefault(frame.path and frame.path.parent, []).append(frame)
    return folders


def window_statistics(frame: Frame, side: int, step: int = 1) -> tuple[Floats, Floats]:
    """Mean, DN, and population variance, DN², of square windows of a frame.

    Entry (r, c) belongs to the window whose first pixel is (r * step, c * step). Sums are exact
    integers as long as they stay below 2^53 (16-bit windows up to side 1448).
    """
    height, width = frame.shape
    if not 1 <= side <= min(height, width):
        raise ValueError(f"a window of side {side} does not fit a frame of {height}x{width} pixels")
    total, squares = _sums(frame, side, step)
    mean = total / side**2
    return mean, squares / side**2 - mean**2


def _sums(frame: Frame, side: int, step: int) -> tuple[Floats, Floats]:
    """Sums and sums of squares over the windows of `window_statistics`."""
    if step >= side:
        # They do not overlap, so each is added by itself.
        values = windows(frame, side)[::step, ::step].astype(np.float64)
        return values.sum((2, 3)), np.einsum("rcij,rcij->rc", values, values)
    total = window_sums(frame, side, step)
    squares = cv2.sqrBoxFilter(frame, cv2.CV_64F, (side, side), anchor=(0, 0), normalize=False)
    return total, cast(Floats, squares[: -side + 1 : step, : -side + 1 : step])


def _sample_noise_alone(
    frames: Sequence[NoiseFrame], rule: SamplingRule, seed: int, load: Loader
) -> NoiseBank:
    """Sample patches of noise without texture."""
    found = find_noise_patches(load(frames), rule.side)
    columns: list[NDArray[Any]] = [np.concatenate(column) for column in zip(*found, strict=True)]
    count = len(columns[0])
    if rule.limit is not None and rule.limit < count:
        chosen = np.sort(generator(seed, "noise").choice(count, rule.limit, replace=False))
        columns = [column[chosen] for column in columns]
    number, row, col, patches = columns
    return make_bank(patches, [frames[which].name for which in number], row, col)


def _pass(frame: Frame, targets: Mask | None, rule: SamplingRule) -> NDArray[np.bool_]:
    """Which windows of the rule's grid pass in this frame."""
    side, count = rule.side, rule.side**2
    if min(frame.shape) < side:
        return np.zeros((0, 0), bool)
    total, squares = _sums(frame, side, rule.step)
    scale = _scale(frame, rule)
    # n Σx² − (Σx)² < v n²  is  var < v, in whole numbers, so without rounding.
    squares *= count
    squares -= total * total
    passed = squares < rule.max_var * scale**2 * count**2
    passed &= total > rule.min_mean * scale * count
    if targets is not None:
        passed &= window_sums(targets.view(np.uint8), side, rule.step) == 0
    return passed


def _scale(frame: Frame, rule: SamplingRule) -> float:
    bits = rule.bits if rule.bits is not None else 8 * frame.dtype.itemsize
    return float(2**bits - 1) / 255.0


def _find_steady(
    sequence: Sequence[NoiseFrame], rule: SamplingRule, load: Loader
) -> NDArray[np.bool_]:
    """Windows that pass in every frame and whose statistics hardly move (Welford's update)."""
    first = sequence[0].name
    if len(sequence) < 2:
        raise NoiseError(
            f"{first}: is a sequence of one frame; give more frames, or sample frames one by one"
        )
    passed, mean, total, scale = np.ones((), bool), np.zeros(()), np.zeros((2, 1, 1)), 1.0
    shape = None
    for number, (frame, targets) in enumerate(load(sequence), start=1):
        if frame.shape != (shape := shape or frame.shape):
            raise NoiseError(
                f"{sequence[number - 1].name}: differs in size from its sequence's first frame, "
                f"{first}; keep one sequence in a folder"
            )
        passed = passed & _pass(frame, targets, rule)
        if passed.size:
            scale = _scale(frame, rule)
            statistics = np.stack(window_statistics(frame, rule.side, rule.step))
            step = statistics - mean
            mean = mean + step / number
            total = total + step * (statistics - mean)
    var_of_mean, var_of_var = total / len(sequence)
    passed = passed & (var_of_mean <= rule.max_seq_mean * scale**2)
    return passed & (var_of_var <= rule.max_seq_var * scale**4)


def _cut(
    found: Iterable[tuple[str, Frame, NDArray[np.bool_]]], rule: SamplingRule, seed: int
) -> NoiseBank:
    """Cut the windows that passed out of named frames.

    Every window draws a priority, and the `limit` least ones stay (a bottom-k sample). So memory
    is bounded, and every window has the same chance.
    """
    side, limit = rule.side, rule.limit or sys.maxsize
    names: list[str] = []
    # Of windows: number of the frame, row, column, priority, patch.
    kept: list[list[NDArray[Any]]] = []
    count, bound = 0, np.inf
    for number, (name, frame, passed) in enumerate(found):
        names.append(name)
        chosen = np.flatnonzero(passed)
        priority = generator(seed, "noise", name, str(number)).random(len(chosen))
        stay = _least(priority, limit) & (priority <= bound)
        chosen, priority = chosen[stay], priority[stay]
        if not len(chosen):
            continue
        if kept and kept[0][-1].dtype != frame.dtype:
            raise NoiseError("frames of uint16 and uint8; sample each depth by itself")
        count += len(chosen)
        size = count * side**2 * frame.itemsize
        if size > MAX_BANK_BYTES:
            raise NoiseError(
                f"{count:,} windows and more pass, a bank of over {size / 2**30:.1f} GiB; "
                "limit their number, or take a larger stride"
            )
        row, col = (rule.step * at for at in np.unravel_index(chosen, passed.shape))
        patches = windows(frame, side)[row, col]
        kept.append([np.full(len(chosen), number), row, col, priority, patches])
        # Pruning costs a pass over all that is kept, so it waits until there is enough to drop.
        if count > 2 * limit:
            kept = [_prune(kept, limit)]
            count, bound = limit, kept[0][3].max()
    if not names:
        raise NoiseError("there are no frames to sample; give some")
    if not kept:
        raise NoiseError(
            f"no window of side {side} passes in {len(names)} frames ({names[0]} …); allow a "
            "greater variance, or take smaller patches"
        )
    numbers, row, col, _, patches = _prune(kept, limit)
    return make_bank(patches, [names[number] for number in numbers], row, col)


def _prune(kept: list[list[NDArray[Any]]], limit: int) -> list[NDArray[Any]]:
    whole = [np.concatenate(column) for column in zip(*kept, strict=True)]
    stay = _least(whole[3], limit)
    return whole if stay.all() else [column[stay] for column in whole]


def _least(priority: Floats, limit: int) -> NDArray[np.bool_]:
    if len(priority) <= limit:
        return np.ones(len(priority), bool)
    return np.asarray(priority <= np.partition(priority, limit - 1)[limit - 1])
