"""A detector as ONNX, for programs that have no torch."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from detect.errors import DetectError
from detect.models import Network
from detect.normalise import Normalisation
from detect.predict import Detector
from detect.tta import Moves, average_moves
from detect.weightsfile import read_weights
from synth.disk.files import replace_file
from synth.frames import Frame

_EXTRA = ("onnx", "onnxscript", "onnxruntime")

# One as networks are trained on, and two that are no multiple of what any network needs.
_CHECKED_SHAPES = ((256, 256), (70, 101), (53, 38))
_TOLERANCE = 1e-4


class Exported(NamedTuple):
    """What was written.

    Attributes
    ----------
    network : str
        Its name.
    input : str
        What the graph's input holds, in words.
    size : int
        Bytes of the file.
    difference : float
        Greatest difference of its probabilities from torch's, on the frames of the check.
    """

    network: str
    input: str
    size: int
    difference: float


def export_onnx(path: Path, out: Path, tta: Moves = 1) -> Exported:
    """Write a detector as ONNX, once it is known to answer as torch does.

    The graph takes ``frame``, (N, 1, H, W) float32 of any batch and of any height and width from
    2, and gives ``probability``, (N, 1, H, W) float32 from 0 to 1. Normalisation and padding are
    part of it. With normalisation ``frame``, DN of any depth are taken as they are; with fixed
    statistics a deep frame is stretched to the scale 0 to 255 first, which depends on the type of
    its file and so is left to the caller. The model's metadata says which, and names network and
    normalisation.

    Parameters
    ----------
    path : Path
        Weights.
    out : Path
        The file to write; its folder is made.
    tta : {1, 4, 9}
        Over how many moves of a frame the graph averages; see `detect.tta`.

    Returns
    -------
    Exported

    Raises
    ------
    DetectError
        ONNX is not installed or lacks an operation of the network, or the graph's probabilities
        differ from torch's by more than 1e-4.
    WeightsError
        The file does not hold weights of a known network.
    """
    missing = [name for name in _EXTRA if find_spec(name) is None]
    if missing:
        raise DetectError(
            f"ONNX needs {' and '.join(missing)}, not installed here; "
            f"run: pip install {' '.join(_EXTRA)}"
        )
    weights = read_weights(path)
    network, rule = weights.build(path).eval(), weights.normalisation
    takes = (
        "DN of any depth"
        if rule.kind == "frame"
        else "grey levels from 0 to 255; stretch deeper frames from their own minimum and maximum"
    )
    about = {
        "network": weights.network,
        "normalisation": json.dumps(asdict(rule)),
        "input": takes,
        "output": "probability that a pixel belongs to a target",
        "tta": str(tta),
    }
    try:
        data = _trace(_Graph(network, rule, tta), about)
    except torch.onnx.OnnxExporterError as error:
        reason = str(error).splitlines()[0]
        raise DetectError(f"{path}: {weights.network} has no ONNX form here ({reason})") from None
    difference = _compare(data, Detector(network, rule, "cpu", tta=tta))
    if not difference <= _TOLERANCE:
        raise DetectError(
            f"{path}: as ONNX its probabilities differ from torch's by up to {difference:.3g}; "
            "nothing was written"
        )
    replace_file(out, data, sync=True)
    return Exported(weights.network, takes, len(data), difference)


class _Graph(nn.Module):
    """From DN to probabilities, in operations that depend on no size."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: Network, rule: Normalisation, tta: Moves = 1) -> None:
        super().__init__()
        self.network = network
        self.tta = tta
        self.own = rule.kind == "frame"
        self.register_buffer("mean", torch.tensor(rule.mean)[:, None, None])
        self.register_buffer("std", torch.tensor(rule.std)[:, None, None])

    def forward(self, frame: Tensor) -> Tensor:
        if self.own:
            # Twice: a mean of 65,535 is known to 0.004 DN in float32, a deviation's much better.
            frame = frame - frame.mean((2, 3), keepdim=True)
            frame = frame - frame.mean((2, 3), keepdim=True)
            spread = frame.square().mean((2, 3), keepdim=True).sqrt()
            frame = frame / torch.where(spread > 0, spread, 1.0)
        values = (frame - self.mean) / self.std
        height, width = values.shape[-2:]
        rows = _reflected(height, self.network.multiple)
        cols = _reflected(width, self.network.multiple)
        values = values[:, :, rows][..., cols]
        return average_moves(self._answer, values, self.tta)[..., :height, :width]

    def _answer(self, values: Tensor) -> Tensor:
        return self.network.segment(values)[-1].sigmoid()


def _reflected(length: int, multiple: int) -> Tensor:
    """Places 0 to `length` - 1 and back again, up to a multiple: padding without a branch."""
    place = torch.arange((length + multiple - 1) // multiple * multiple)
    period = torch.full_like(place, 2 * length - 2)
    place = place % period
    return torch.where(place < length, place, period - place)


def _trace(graph: nn.Module, about: dict[str, str]) -> bytes:
    import onnx

    size = torch.export.Dim
    example = torch.rand(2, 1, 70, 45, generator=torch.Generator().manual_seed(0)) * 255
    with _quiet():
        program = torch.onnx.export(
            graph.eval(),
            (example,),
            dynamo=True,
            verbose=False,
            input_names=["frame"],
            output_names=["probability"],
            dynamic_shapes=({0: size("batch"), 2: size("height"), 3: size("width")},),
        )
    assert program is not None
    model = program.model_proto
    # The exporter notes where in the source every node comes from, with this machine's paths.
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    del model.graph.metadata_props[:]
    onnx.helper.set_model_props(model, about)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def _compare(data: bytes, detector: Detector) -> float:
    """Greatest difference from torch, over frames of several sizes, in batches of one to three."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    greatest = 0.0
    for batch, shape in enumerate(_CHECKED_SHAPES, 1):
        frames = [_frame_with_targets(shape, rng) for _ in range(batch)]
        if detector.normalisation.kind == "frame":
            frames = [frame.astype(np.uint16) * 40 + 3000 for frame in frames]
        entering = np.stack(frames)[:, None].astype(np.float32)
        answers: Any = session.run(None, {"frame": entering})[0]
        for frame, answer in zip(frames, answers[:, 0], strict=True):
            # NaN counts as a difference.
            apart = np.abs(answer - detector(frame)).max()
            greatest = max(greatest, float(np.nan_to_num(apart, nan=np.inf)))
    return greatest


def _frame_with_targets(shape: tuple[int, int], rng: np.random.Generator) -> Frame:
    """Clouds, noise and bright spots, so that probabilities of every size come out."""
    noise = rng.normal(0, 3, shape)
    frame = 90 + noise + gaussian_filter(rng.normal(0, 1, shape), 12) * 400
    for _ in range(4):
        row, col = (int(rng.integers(2, length - 4)) for length in shape)
        frame[row : row + 3, col : col + 3] += rng.uniform(10, 120)
    return frame.clip(0, 255).astype(np.uint8)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the exporter says about itself to itself."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
