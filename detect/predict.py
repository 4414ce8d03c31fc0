"""A detector: frames in, probabilities and targets out."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from detect.errors import DetectError
from detect.models import Network
from detect.normalise import Normalisation
from detect.weightsfile import read_weights
from synth.frames import Frame
from synth.targets import Box, find_targets, label_targets, local_scr

Precision = Literal["auto", "float32", "bfloat16"]

# Half the width of a target's neighbourhood, beyond its box, in its signal-to-clutter ratio.
_NEIGHBOURHOOD = 20


class Detector:
    """A network with its normalisation, on a device.

    Parameters
    ----------
    network : Network
        Moved onto the device and, for another precision than float32, converted; evaluation mode
        is set at every call.
    normalisation : Normalisation
    device : str
        As torch names it, or ``auto`` for a CUDA device where there is one.
    precision : {"float32", "bfloat16", "auto"}
        Arithmetic of the network; ``auto`` is bfloat16 on a processor that computes in it, which
        takes about half the time there, and else float32.
    tile : int
        Longest side in pixels of what the network sees at once; a multiple of the network's.
        Larger frames are cut into overlapping tiles, so that memory does not grow with the frame.
    margin : int
        Half of the overlap of neighbouring tiles, in pixels. A tile fades out between 1.5 and 0.5
        margins from its border, so a network that sees no farther than half a margin gives what
        it gives on the whole frame, and any other has no seams.

    Raises
    ------
    DetectError
        The device is not there.
    """

    def __init__(
        self,
        network: Network,
        normalisation: Normalisation,
        device: str = "auto",
        precision: Precision = "float32",
        tile: int = 1024,
        margin: int = 128,
    ) -> None:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            self.network = network.to(device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise DetectError(f"device {device!r} cannot be used ({reason}); try cpu") from None
        step = (tile - 2 * margin) // network.multiple * network.multiple
        if step < 1 or tile % network.multiple:
            raise ValueError(
                f"a tile of {tile} pixels must be a multiple of {network.multiple} and wider than "
                f"two margins of {margin} by as much"
            )
        self.normalisation = normalisation
        self.device = device
        self.dtype = _choose_dtype(precision, device)
        if self.dtype != torch.float32:
            self.network = self.network.to(self.dtype)
        self.tile = tile
        self.margin = margin
        self._step = step

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
        self.network.eval()
        with torch.inference_mode():
            values = torch.from_numpy(self.normalisation.apply(frame))[None]
            if max(frame.shape) <= self.tile:
                return self._infer(values).numpy()
            return self._infer_tiles(values).numpy()

    def _infer(self, values: Tensor) -> Tensor:
        """From (1, C, H, W) to the probabilities (H, W), on the processor."""
        placed = values.to(self.device, self.dtype, memory_format=torch.channels_last)
        return self.network(placed)[-1][0, 0].float().sigmoid().cpu()

    def _infer_tiles(self, values: Tensor) -> Tensor:
        height, width = values.shape[-2:]
        # Padded before it is cut, as the network would, so that every tile starts where its
        # pooling does.
        below, right = -height % self.network.multiple, -width % self.network.multiple
        values = F.pad(values, (0, right, 0, below), mode="replicate")
        rows, cols = (self._windows(length) for length in values.shape[-2:])
        total = torch.zeros(values.shape[-2:])
        weight = torch.zeros(values.shape[-2:])
        for row, fade_row in rows:
            for col, fade_col in cols:
                share = fade_row[:, None] * fade_col
                total[row, col] += share * self._infer(values[..., row, col])
                weight[row, col] += share
        return (total / weight)[:height, :width]

    def _windows(self, length: int) -> list[tuple[slice, Tensor]]:
        """Tiles along one side, and the weight of every pixel in each."""
        side = min(self.tile, length)
        windows = []
        for start in (*range(0, length - side, self._step), length - side):
            place = torch.arange(side) + 0.5
            fade = torch.ones(side)
            # The frame's own border is no seam.
            for inside, distance in ((start > 0, place), (start + side < length, side - place)):
                if inside:
                    fade *= ((distance - self.margin / 2) / self.margin).clamp(0, 1)
            windows.append((slice(start, start + side), fade))
        return windows


def load_detector(path: Path, device: str = "auto", precision: Precision = "float32") -> Detector:
    """Make a detector from a weights file.

    Its batch normalisation is folded into the convolutions: the same function but for rounding,
    with fewer passes over memory.

    Parameters
    ----------
    path : Path
    device, precision
        See `Detector`.

    Raises
    ------
    WeightsError
        The file does not hold weights of a known network.
    DetectError
        The device is not there.
    """
    weights = read_weights(path)
    network = fold_norms(weights.build(path), weights.normalisation.channels)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Detector(network, weights.normalisation, device, precision)


def shipped_weights() -> Path:
    """Find the weights that come with the package.

    Raises
    ------
    DetectError
        There are none.
    """
    found = sorted((Path(__file__).parent / "weights").glob("*.safetensors"))
    if not found:
        raise DetectError(
            "no weights come with this version; give --weights with the best.safetensors of a "
            "training run"
        )
    return found[0]


@dataclass(frozen=True)
class Detection:
    """A target that was found.

    Attributes
    ----------
    row, col : int
        Centre: the centroid rounded half up, in pixels.
    box : tuple of int
        Half-open (top, left, bottom, right).
    area : int
        Number of pixels.
    peak : float
        Greatest probability among them.
    scr : float or None
        Local signal-to-clutter ratio (`synth.targets.local_scr`); None over a background that is
        constant, or where there is none.
    """

    row: int
    col: int
    box: Box
    area: int
    peak: float
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
    """
    mask = np.asarray(probability > threshold)
    _, labels = label_targets(mask)
    found = []
    for target in find_targets(mask):
        top, left, bottom, right = target.box
        # Its neighbourhood alone: labelling the whole mask again for each of thousands of
        # components, which an untrained network gives, would take minutes.
        up, before = max(top - _NEIGHBOURHOOD, 0), max(left - _NEIGHBOURHOOD, 0)
        window = np.s_[up : bottom + _NEIGHBOURHOOD, before : right + _NEIGHBOURHOOD]
        own = labels[window] == target.index + 1
        near = np.ascontiguousarray(mask[window])
        _, inner = label_targets(near)
        box = (top - up, left - before, bottom - up, right - before)
        alone = replace(target, index=int(inner[own][0]) - 1, box=box)
        scr = local_scr(frame[window], near, alone, _NEIGHBOURHOOD)
        peak = float(probability[window][own].max())
        found.append(
            Detection(
                target.row,
                target.col,
                target.box,
                target.area,
                peak,
                scr if np.isfinite(scr) else None,
            )
        )
    return found


def fold_norms(network: Network, channels: int) -> Network:
    """Fold every batch normalisation that follows a convolution into it.

    Which ones do is seen in a run over noise, whatever the modules are called, and the folded
    network must answer that noise as the network itself.

    Parameters
    ----------
    network : Network
        Left as it is, but for evaluation mode.
    channels : int
        Of its input.

    Returns
    -------
    Network
        A folded copy; where nothing can be folded without a change, the network.
    """
    network.eval()
    probe = torch.randn(1, channels, 32, 32, generator=torch.Generator().manual_seed(0))
    pairs, answer = _followers(network, probe)
    if not pairs:
        return network
    folded = deepcopy(network)
    for conv_name, norm_name in pairs.items():
        conv, norm = folded.get_submodule(conv_name), folded.get_submodule(norm_name)
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        _replace(folded, conv_name, fuse_conv_bn_eval(conv, norm))
        _replace(folded, norm_name, nn.Identity())
    with torch.inference_mode():
        same = torch.allclose(folded(probe)[-1], answer, rtol=1e-3, atol=1e-3)
    return folded if same else network


def _choose_dtype(precision: Precision, device: str) -> torch.dtype:
    if precision == "auto":
        # Elsewhere bfloat16 is computed through float32, which is slower than float32 alone.
        native = device == "cpu" and any(
            torch.cpu.get_capabilities().get(name) for name in ("avx512_bf16", "amx_bf16", "bf16")
        )
        return torch.bfloat16 if native else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def _followers(network: Network, probe: Tensor) -> tuple[dict[str, str], Tensor]:
    """Run a network; list which batch normalisation took the output of which convolution."""
    calls: Counter[str] = Counter()
    made: dict[int, tuple[str, Tensor]] = {}
    pairs: dict[str, str] = {}
    hooks = []

    def watch(name: str, module: nn.Module) -> None:
        def seen(_: nn.Module, entered: tuple[Any, ...], left: Tensor) -> None:
            calls[name] += 1
            if isinstance(module, nn.Conv2d):
                # The tensor is kept, so that no later one has its identity.
                made[id(left)] = name, left
            elif id(entered[0]) in made:
                pairs[made[id(entered[0])][0]] = name

        hooks.append(module.register_forward_hook(seen))

    for name, module in network.named_modules():
        if type(module) is nn.Conv2d or (
            type(module) is nn.BatchNorm2d and module.track_running_stats
        ):
            watch(name, module)
    try:
        with torch.inference_mode():
            answer = network(probe)[-1]
    finally:
        for hook in hooks:
            hook.remove()
    once = {a: b for a, b in pairs.items() if calls[a] == calls[b] == 1}
    return once, answer


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, attribute = name.rpartition(".")
    setattr(network.get_submodule(parent), attribute, module)
