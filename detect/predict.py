"""A detector: frames in, probabilities and targets out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from math import ceil
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.fx import symbolic_trace
from torch.fx.proxy import TraceError
from torch.nn.utils.fusion import fuse_conv_bn_eval

from detect.errors import DetectError, PredictionError
from detect.models import Network
from detect.normalise import Normalisation
from detect.tta import Moves, average_moves
from detect.weightsfile import read_weights
from synth.disk.folders import find_frames
from synth.disk.png import encode_png
from synth.frames import Frame
from synth.targets import Box, find_targets, label_targets

Precision = Literal["float32", "bfloat16"]

TILE, OVERLAP = 1536, 512
"""Default sides of tiles and of their overlap, in pixels; see `Detector`."""

# Pixels over which one tile hands over to the next; the rest of the overlap is context alone.
_FADE = 32

# Half the width of a target's neighbourhood, beyond its box, in its signal-to-clutter ratio.
_NEIGHBOURHOOD = 20


class Detector:
    """A network with its normalisation, on a device.

    A frame is padded by reflection at the bottom and the right to a multiple of what the network
    pools. One with a side above `tile` is cut into overlapping tiles, so that memory does not grow
    with it; across the middle 32 pixels of an overlap one tile fades into the next. What lies
    farther out has no weight, so a network that sees no farther than ``(overlap - 32) / 2`` pixels
    gives what it gives on the whole frame: ``small`` does with the default. The published networks
    see the whole frame (global attention, dilation); their tiles differ a little from it, without
    a seam.

    Parameters
    ----------
    network : Network
        Moved onto the device and, for another precision than float32, converted; evaluation mode
        is set at every call.
    normalisation : Normalisation
        Applied to the whole frame, before it is cut.
    device : str
        As torch names it, or ``auto`` for a CUDA device where there is one.
    precision : {"float32", "bfloat16"}
        Arithmetic of the network. A processor that computes in bfloat16 takes some 0.6 of the time
        with it, any other takes longer. Pixels at the rim of a target can change sides: 18 of 3,298
        target pixels did in 67 frames of NUDT-SIRST.
    tile : int
        Longest side in pixels of what the network sees at once; rounded down to its multiple.
    overlap : int
        Least number of pixels that neighbouring tiles share; rounded up to its multiple.
    tta : {1, 4, 9}
        Over how many moves of the frame by a pixel the answer is averaged, in so many times the
        time; see `detect.tta`.

    Raises
    ------
    DetectError
        The device is not there, or the tile is not wider than the overlap.
    """

    def __init__(
        self,
        network: Network,
        normalisation: Normalisation,
        device: str = "auto",
        precision: Precision = "float32",
        tile: int = TILE,
        overlap: int = OVERLAP,
        tta: Moves = 1,
    ) -> None:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            self.network = network.to(device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise DetectError(f"device {device!r} cannot be used ({reason}); try cpu") from None
        self.normalisation = normalisation
        self.device = device
        self.dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        self.network = self.network.to(self.dtype)
        self.multiple = network.multiple
        self.tta = tta
        self._tile = tile // self.multiple * self.multiple
        self._overlap = -(-max(overlap, _FADE) // self.multiple) * self.multiple
        if self._tile <= self._overlap:
            raise DetectError(
                f"a tile of {tile} pixels is not wider than its overlap of {self._overlap}; "
                "choose a larger tile, or a smaller overlap"
            )

    def __call__(self, frame: Frame) -> NDArray[np.float32]:
        """Compute the probability that a pixel belongs to a target.

        Parameters
        ----------
        frame : (H, W) ndarray of uint8 or uint16
            Any size.

        Returns
        -------
        (H, W) ndarray of float32
            0 to 1.
        """
        height, width = frame.shape
        values = self.normalisation.apply(frame)
        below, right = -height % self.multiple, -width % self.multiple
        if below or right:
            values = np.pad(values, ((0, 0), (0, below), (0, right)), mode="reflect")
        with torch.inference_mode():
            whole = self._infer_tiles(torch.from_numpy(values)[None])
            return whole[:height, :width].numpy()

    def probabilities(self, values: Tensor) -> Tensor:
        """Compute the answers to a batch of windows that are normalised and on the device.

        Parameters
        ----------
        values : (N, C, H, W) Tensor of float32
            H and W are multiples of what the network pools.

        Returns
        -------
        (N, 1, H, W) Tensor of float32
            0 to 1, on the device.
        """
        self.network.eval()
        with torch.no_grad():
            return average_moves(self._answer, values, self.tta)

    def _answer(self, values: Tensor) -> Tensor:
        dtype = torch.float32 if self.network.full_input else self.dtype
        placed = values.to(dtype, memory_format=torch.channels_last)
        answer: Tensor = self.network(placed)[-1].float().sigmoid()
        return answer

    def _infer(self, values: Tensor) -> Tensor:
        """From (1, C, H, W) to the probabilities (H, W), on the processor."""
        return self.probabilities(values.to(self.device))[0, 0].cpu()

    def _infer_tiles(self, values: Tensor) -> Tensor:
        rows, cols = (self._tiles(length) for length in values.shape[-2:])
        if len(rows) == len(cols) == 1:
            return self._infer(values)
        total = torch.zeros(values.shape[-2:])
        weight = torch.zeros(values.shape[-2:])
        for row, fade_row in rows:
            for col, fade_col in cols:
                share = fade_row[:, None] * fade_col
                total[row, col] += share * self._infer(values[..., row, col])
                weight[row, col] += share
        return total / weight

    def _tiles(self, length: int) -> list[tuple[slice, Tensor]]:
        """As few tiles of one size as cover a side, and the weight of every pixel in each."""
        if length <= self._tile:
            return [(slice(0, length), torch.ones(length))]
        count = ceil((length - self._overlap) / (self._tile - self._overlap))
        step = ceil((length - self._overlap) / count / self.multiple) * self.multiple
        side = step + self._overlap
        place = torch.arange(side) + 0.5
        context = (self._overlap - _FADE) / 2
        tiles = []
        for number in range(count):
            start = min(number * step, length - side)
            weight = torch.ones(side)
            # The frame's own border is no seam.
            if number > 0:
                weight *= ((place - context) / _FADE).clamp(0, 1)
            if number < count - 1:
                weight *= ((side - place - context) / _FADE).clamp(0, 1)
            tiles.append((slice(start, start + side), weight))
        return tiles


def load_detector(
    path: Path,
    device: str = "auto",
    precision: Precision = "float32",
    tile: int = TILE,
    overlap: int = OVERLAP,
    tta: Moves = 1,
) -> Detector:
    """Make a detector from a weights file.

    Where torch.fx can trace the network, its batch normalisation is folded into its convolutions:
    the same function but for rounding, with fewer passes over memory.

    Parameters
    ----------
    path : Path
    device, precision, tile, overlap, tta
        See `Detector`.

    Raises
    ------
    WeightsError
        The file does not hold weights of a known network.
    DetectError
        The device is not there, or the tile is not wider than the overlap.

    Examples
    --------
    >>> import numpy as np
    >>> detector = load_detector(shipped_weights(), device="cpu")
    >>> frame = np.full((50, 70), 90, np.uint8)
    >>> detector(frame).shape
    (50, 70)
    """
    weights = read_weights(path)
    network = fold_norms(weights.build(path))
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Detector(network, weights.normalisation, device, precision, tile, overlap, tta)


def shipped_weights() -> Path:
    """Find the weights file that comes with the package.

    Raises
    ------
    DetectError
        There is none.
    """
    path = Path(str(files("detect") / "weights" / "small.safetensors"))
    if not path.is_file():
        raise DetectError(
            f"{path}: no weights come with this version; give --weights with the "
            "best.safetensors of a training run"
        )
    return path


def name_frames(inputs: Iterable[Path]) -> dict[str, Path]:
    """Find the frames among files and folders, and name what is written about each.

    Parameters
    ----------
    inputs : iterable of Path
        Files, and folders that are searched recursively.

    Returns
    -------
    dict of str to Path
        By the file's path below the folder that was given, without its suffix.

    Raises
    ------
    FrameError
        A path does not exist, or a folder holds no frame.
    PredictionError
        Two frames would have one name.
    """
    named: dict[str, Path] = {}
    for path in inputs:
        base = path if path.is_dir() else path.parent
        for frame in find_frames([path]):
            name = frame.relative_to(base).with_suffix("").as_posix()
            if named.setdefault(name, frame).resolve() != frame.resolve():
                raise PredictionError(
                    f"{frame}: would be called {name}, as {named[name]}; give the folder above "
                    "both, or rename one"
                )
    return named


def encode_probability(probability: NDArray[np.floating], bits: int) -> bytes:
    """Encode a map of probabilities as a PNG over the whole range of its depth.

    Parameters
    ----------
    probability : (H, W) ndarray of float
        0 to 1.
    bits : {8, 16}
        Of the PNG.

    Returns
    -------
    bytes
        Halves are rounded down, so that what is above 0.5 in the file is above 0.5 in the map.

    Examples
    --------
    >>> import numpy as np
    >>> from synth.frames import decode_frame
    >>> decode_frame(encode_probability(np.array([[0.0, 0.5, 1.0]]), 8), "map.png")
    array([[  0, 127, 255]], dtype=uint8)
    """
    scaled = np.ceil(probability.astype(np.float64) * (2**bits - 1) - 0.5)
    return encode_png(scaled.astype(np.uint8) if bits == 8 else scaled.astype(np.uint16))


@dataclass(frozen=True)
class Detection:
    """A target that was found.

    Attributes
    ----------
    row, column : int
        Centre: the centroid rounded half up, in pixels.
    box : tuple of int
        Half-open (top, left, bottom, right).
    area : int
        Number of pixels.
    peak_probability : float
        Greatest among its pixels.
    scr : float or None
        Local signal-to-clutter ratio (`synth.targets.local_scr`); None over a background that is
        constant, or where there is none.
    """

    row: int
    column: int
    box: Box
    area: int
    peak_probability: float
    scr: float | None


def find_detections(
    frame: Frame, probability: NDArray[np.floating], threshold: float = 0.5
) -> list[Detection]:
    """List the targets in a map of probabilities.

    Parameters
    ----------
    frame : (H, W) ndarray of uint8 or uint16
    probability : (H, W) ndarray of float
        0 to 1.
    threshold : float
        A pixel is target where its probability is greater.

    Returns
    -------
    list of Detection
        The 8-connected components, in raster order of their first pixels.

    Examples
    --------
    >>> import numpy as np
    >>> frame = np.tile(np.array([98, 102], np.uint8), (32, 16))
    >>> frame[9:12, 20] = 140
    >>> found = find_detections(frame, (frame > 120) * 0.75)
    >>> [(one.row, one.column, one.area, one.peak_probability) for one in found]
    [(10, 20, 3, 0.75)]
    """
    mask = np.asarray(probability > threshold)
    _, labels = label_targets(mask)
    found = []
    for target in find_targets(mask):
        top, left, bottom, right = target.box
        window = (
            slice(max(top - _NEIGHBOURHOOD, 0), bottom + _NEIGHBOURHOOD),
            slice(max(left - _NEIGHBOURHOOD, 0), right + _NEIGHBOURHOOD),
        )
        own = labels[window] == target.index + 1
        found.append(
            Detection(
                target.row,
                target.col,
                target.box,
                target.area,
                float(probability[window][own].max()),
                _scr(frame[window][own], frame[window][~mask[window]]),
            )
        )
    return found


def _scr(target: NDArray[np.integer], background: NDArray[np.integer]) -> float | None:
    """`synth.targets.local_scr` of DN; that labels a whole mask for each of its targets."""
    clutter = float(background.std(dtype=np.float64)) if background.size else 0.0
    if clutter == 0.0:
        return None
    return abs(float(target.mean(dtype=np.float64) - background.mean(dtype=np.float64))) / clutter


def fold_norms(network: Network) -> Network:
    """Fold every batch normalisation that follows a convolution into it.

    Parameters
    ----------
    network : Network
        Left as it is, but for evaluation mode.

    Returns
    -------
    Network
        A folded copy, for evaluation alone; the network itself where its flow depends on its
        input, so that torch.fx cannot trace it.
    """
    try:
        return _Folded(network.eval())
    except TraceError:
        return network


class _Folded(Network):
    """A network whose batch normalisation is part of its convolutions."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.multiple = network.multiple
        self.full_input = network.full_input
        self.folded = symbolic_trace(_Segment(network))
        modules = dict(self.folded.named_modules())
        calls = [node for node in self.folded.graph.nodes if node.op == "call_module"]
        times = Counter(call.target for call in calls)
        for call in calls:
            norm, before = modules[call.target], call.args[0]
            conv = modules[before.target] if before in calls else None
            if (
                isinstance(norm, nn.BatchNorm2d)
                and norm.track_running_stats
                and isinstance(conv, nn.Conv2d)
                and times[call.target] == times[before.target] == len(before.users) == 1
            ):
                self.folded.add_submodule(before.target, fuse_conv_bn_eval(conv, norm))
                call.replace_all_uses_with(before)
                self.folded.graph.erase_node(call)
        self.folded.delete_all_unused_submodules()
        self.folded.recompile()

    def segment(self, image: Tensor) -> tuple[Tensor, ...]:
        maps: tuple[Tensor, ...] = self.folded(image)
        return maps


class _Segment(nn.Module):
    """The part of a network that does not ask for the image's size."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return self.network.segment(image)
