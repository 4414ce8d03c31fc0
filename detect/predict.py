"""A detector: frames in, probabilities out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from detect.errors import DetectError
from detect.models import Network
from detect.normalise import Normalisation
from detect.weightsfile import read_weights
from synth.frames import Frame


class Detector:
    """A network with its normalisation, on a device.

    Parameters
    ----------
    network : Network
        Moved onto the device; evaluation mode is set at every call.
    normalisation : Normalisation
    device : str
        As torch names it, or ``auto`` for a CUDA device where there is one.

    Raises
    ------
    DetectError
        The device is not there.
    """

    def __init__(
        self, network: Network, normalisation: Normalisation, device: str = "auto"
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
            values = torch.from_numpy(self.normalisation.apply(frame))[None].to(self.device)
            logits = self.network(values)[-1]
            probability: NDArray[np.float32] = logits[0, 0].float().sigmoid().cpu().numpy()
        return probability


def load_detector(path: Path, device: str = "auto") -> Detector:
    """Make a detector from a weights file.

    Raises
    ------
    WeightsError
        The file does not hold weights of a known network.
    DetectError
        The device is not there.
    """
    weights = read_weights(path)
    network = weights.build(path).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Detector(network, weights.normalisation, device)
