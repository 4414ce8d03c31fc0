"""Teachers: trained detectors whose mean answer becomes a part of the labels of another training.

A person's outline is one draw from many that are as good, and a run's own habits are a draw, too.
The mean of several detectors has less of both, and a network that is trained on it, on the very
windows that it sees itself, comes close to it alone (knowledge distillation: Hinton, Vinyals &
Dean, 2015; on the same views and for long: Beyer et al., CVPR 2022). What was synthesised gives
more to ask the teachers about than the labelled images do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from detect.errors import TrainingError
from detect.normalise import Normalisation
from detect.predict import Detector, load_detector
from detect.recipe import Compute
from detect.tta import Moves
from synth.frames import Frame

# How near to a pixel of a target an answer must be to be meant for it, in pixels.
_NEAR = 3


@dataclass(frozen=True)
class Teaching:
    """Who teaches a training, and how much.

    Attributes
    ----------
    weights : tuple of Path
        Weights files of any networks. None of them may have been trained on images that the run
        holds out; those of runs with the same data, seed and share of validation were not.
    share : float
        Of the teachers' answer in the label of a pixel; the rest is the label itself.
    tta : {1, 4, 9}
        Over how many moves of a window by a pixel they average; see `detect.tta`.
    """

    weights: tuple[Path, ...]
    share: float = 0.5
    tta: Moves = 1


class Teachers:
    """Detectors that are asked about every window of a training.

    Parameters
    ----------
    teaching : Teaching
    normalisation : Normalisation
        Of the windows.
    frames : sequence of (H, W) ndarray of uint8 or uint16
        The training images that the windows are of.
    crop : int
        Side of the windows in pixels.
    compute : Compute
        Whose arithmetic they answer in; on the processor until they are moved.

    Raises
    ------
    WeightsError
        A file does not hold weights of a known network.
    TrainingError
        A teacher's network cannot take the windows.
    """

    def __init__(
        self,
        teaching: Teaching,
        normalisation: Normalisation,
        frames: Sequence[Frame],
        crop: int,
        compute: Compute,
    ) -> None:
        self._share = teaching.share
        precision = "bfloat16" if compute.precision == "bf16-mixed" else "float32"
        self._detectors: list[Detector] = []
        self._maps: list[_Maps | None] = []
        for path in teaching.weights:
            detector = load_detector(path, "cpu", precision, tta=teaching.tta)  # type: ignore[arg-type]
            if crop % detector.multiple:
                raise TrainingError(
                    f"{path}: its network takes sides that are multiples of {detector.multiple}, "
                    f"and augment.crop is {crop}"
                )
            self._detectors.append(detector)
            theirs = detector.normalisation
            self._maps.append(
                None if theirs == normalisation else _Maps(normalisation, theirs, frames)
            )

    def to(self, device: torch.device) -> Teachers:
        """Move them to where the windows are."""
        for detector in self._detectors:
            detector.network.to(device)
            detector.device = str(device)
        return self

    def answer(self, values: Tensor, images: Sequence[int]) -> Tensor:
        """Average the teachers' answers.

        Parameters
        ----------
        values : (N, C, crop, crop) Tensor of float32
            As the run normalises them.
        images : sequence of int
            Which of the frames every window is of.

        Returns
        -------
        (N, 1, crop, crop) Tensor of float32
            0 to 1.
        """
        answers = [
            detector.probabilities(values if maps is None else maps.apply(values, images))
            for detector, maps in zip(self._detectors, self._maps, strict=True)
        ]
        return torch.stack(answers).mean(0)

    def teach(self, values: Tensor, truth: Tensor, images: Sequence[int]) -> Tensor:
        """Mix labels with the teachers' answers.

        Parameters
        ----------
        values : (N, C, crop, crop) Tensor of float32
        truth : (N, 1, crop, crop) Tensor of float32
            0 and 1.
        images : sequence of int
            See `answer`.

        Returns
        -------
        (N, 1, crop, crop) Tensor of float32
            0 to 1; the label itself on a target that the teachers do not find.
        """
        return mix(truth, self.answer(values, images), self._share)


def mix(truth: Tensor, answer: Tensor, share: float) -> Tensor:
    """Mix labels with answers, pixel by pixel.

    A target that is missing from the answers must not teach to miss it: where they are nowhere
    above 0.5 within 3 pixels, a target's pixels stay as they are.

    Parameters
    ----------
    truth, answer : (N, 1, H, W) Tensor of float32
        0 and 1, and 0 to 1.
    share : float
        Of the answer.

    Returns
    -------
    (N, 1, H, W) Tensor of float32

    Examples
    --------
    >>> import torch
    >>> truth = torch.zeros(1, 1, 1, 16)
    >>> truth[..., 2] = truth[..., 12] = 1
    >>> answer = torch.zeros(1, 1, 1, 16)
    >>> answer[..., 3] = 0.8
    >>> mixed = mix(truth, answer, 0.5)[0, 0, 0]
    >>> [round(float(mixed[at]), 2) for at in (2, 3, 12)]
    [0.5, 0.4, 1.0]
    """
    found = F.max_pool2d(answer, 2 * _NEAR + 1, stride=1, padding=_NEAR) > 0.5
    return torch.where((truth > 0.5) & ~found, truth, torch.lerp(truth, answer, share))


class _Maps:
    """From one normalisation to another: for every frame both are affine, and so is this."""

    def __init__(self, ours: Normalisation, theirs: Normalisation, frames: Sequence[Frame]) -> None:
        pairs = [(*ours.affine(frame), *theirs.affine(frame)) for frame in frames]
        offset, scale, their_offset, their_scale = (
            np.stack(column) for column in zip(*pairs, strict=True)
        )
        # Channels of a frame are equal, so that the first one says all.
        self._gain = scale[:, :1] / their_scale
        self._shift = (offset[:, :1] - their_offset) / their_scale

    def apply(self, values: Tensor, images: Sequence[int]) -> Tensor:
        gain, shift = (
            torch.from_numpy(column[list(images)]).to(values.device)[:, :, None, None]
            for column in (self._gain, self._shift)
        )
        return values[:, :1] * gain + shift
