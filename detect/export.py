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
from torch import Tensor, nn

from detect.errors import DetectError
from detect.files import write_whole
from detect.models import Network
from detect.normalise import Normalisation
from detect.predict import Detector
from detect.weightsfile import read_weights
from synth.frames import Frame

_EXTRA = ("onnx", "onnxscript", "onnxruntime")

# Neither is a multiple of what any network needs, and they are not of one shape.
_CHECKED_SHAPES = ((70, 101), (53, 38))
_TOLERANCE = 1e-3


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


def export_onnx(path: Path, out: Path) -> Exported:
    """Write a detector as ONNX, once it is known to answer as torch does.

    The graph takes ``frame``, (N, 1, H, W) float32 of any batch, height and width, and gives
    ``probability``, (N, 1, H, W) float32 from 0 to 1. The normalisation is part of it. With kind
    ``frame``, DN of any depth are taken as they are; with fixed statistics the range of the file
    decides how a deep frame is stretched, which an array of numbers does not tell, so the input
    is on the scale 0 to 255. The model's metadata says which.

    Parameters
    ----------
    path : Path
        Weights.
    out : Path
        The file to write; its folder is made.

    Returns
    -------
    Exported

    Raises
    ------
    DetectError
        ONNX is not installed, or the graph differs from torch by more than 0.001.
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
    }
    data = _trace(_Graph(network, rule), about)
    difference = _compare(data, Detector(network, rule, "cpu"))
    if not difference <= _TOLERANCE:
        raise DetectError(
            f"{path}: as ONNX its probabilities differ from torch's by up to {difference:.3g}; "
            "nothing was written"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, data)
    return Exported(weights.network, takes, len(data), difference)


class _Graph(nn.Module):
    """From DN to probabilities, in operations that depend on no size."""

    def __init__(self, network: Network, rule: Normalisation) -> None:
        super().__init__()
        self.network = network
        self.own = rule.kind == "frame"
        self.register_buffer("mean", torch.tensor(rule.mean)[:, None, None])
        self.register_buffer("std", torch.tensor(rule.std)[:, None, None])

    def forward(self, frame: Tensor) -> Tensor:
        if self.own:
            frame = frame - frame.mean((2, 3), keepdim=True)
            spread = frame.square().mean((2, 3), keepdim=True).sqrt()
            frame = frame / torch.where(spread > 0, spread, 1.0)
        values = (frame - self.mean) / self.std
        height, width = values.shape[-2:]
        # The edge repeated up to the multiple, as Network.forward does, without a branch.
        multiple = self.network.multiple
        rows = torch.arange((height + multiple - 1) // multiple * multiple)
        cols = torch.arange((width + multiple - 1) // multiple * multiple)
        values = values[:, :, rows.clamp(max=height - 1)][..., cols.clamp(max=width - 1)]
        return self.network.segment(values)[-1][..., :height, :width].sigmoid()


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
    """Greatest difference from torch, over frames of two sizes, in batches of one and two."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    greatest = 0.0
    for batch, shape in enumerate(_CHECKED_SHAPES, 1):
        frames: list[Frame] = [rng.integers(0, 256, shape, np.uint8) for _ in range(batch)]
        if detector.normalisation.kind == "frame":
            frames = [frame.astype(np.uint16) * 40 + 3000 for frame in frames]
        entering = np.stack(frames)[:, None].astype(np.float32)
        answers: Any = session.run(None, {"frame": entering})[0]
        for frame, answer in zip(frames, answers[:, 0], strict=True):
            # NaN counts as a difference.
            apart = np.abs(answer - detector(frame)).max()
            greatest = max(greatest, float(np.nan_to_num(apart, nan=np.inf)))
    return greatest


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
