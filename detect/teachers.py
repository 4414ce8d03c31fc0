"""Teachers: trained detectors whose mean answer becomes a part of the labels of another training.

A person's outline is one draw from many that are as good, and a run's own habits are a draw, too.
The mean of several detectors has less of both, and a network that is trained on it, on the very
windows that it sees itself, comes close to it alone (knowledge distillation: Hinton, Vinyals &
Dean, 2015; on the same views and for long: Beyer et al., CVPR 2022). What was synthesised gives
more to ask the teachers about than the labelled images do.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from detect.errors import TrainingError
from detect.normalise import Normalisation
from detect.predict import Detector, load_detector
from detect.recipe import Compute

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
    """

    weights: tuple[Path, ...]
    share: float = 0.5


class Teachers:
    """Detectors that are asked about every window of a training.

    Parameters
    ----------
    teaching : Teaching
    normalisation : Normalisation
        Of the windows.
    crop : int
        Side of the windows in pixels.
    compute : Compute
        Whose arithmetic they answer in; on the processor until they are moved.

    Raises
    ------
    WeightsError
        A file does not hold weights of a known network.
    TrainingError
        A teacher takes frames that are normalised one by one and the run does not, or the other
        way round; or its network cannot take the windows.
    """

    def __init__(
        self,
        teaching: Teaching,
        normalisation: Normalisation,
        crop: int,
        compute: Compute,
    ) -> None:
        self._share = teaching.share
        self._normalisation = normalisation
        precision = "bfloat16" if compute.precision == "bf16-mixed" else "float32"
        self._detectors: list[Detector] = []
        for path in teaching.weights:
            detector = load_detector(path, "cpu", precision)  # type: ignore[arg-type]
            _require_fitting(path, detector, normalisation, crop)
            self._detectors.append(detector)

    def to(self, device: torch.device) -> Teachers:
        """Move them to where the windows are."""
        for detector in self._detectors:
            detector.network.to(device)
            detector.device = str(device)
        return self

    def answer(self, values: Tensor) -> Tensor:
        """Average the teachers' answers.

        Parameters
        ----------
        values : (N, C, crop, crop) Tensor of float32
            As the run normalises them.

        Returns
        -------
        (N, 1, crop, crop) Tensor of float32
            0 to 1.
        """
        answers = [
            detector.probabilities(_renormalise(values, self._normalisation, detector))
            for detector in self._detectors
        ]
        return torch.stack(answers).mean(0)

    def teach(self, values: Tensor, truth: Tensor) -> Tensor:
        """Mix labels with the teachers' answers.

        Parameters
        ----------
        values : (N, C, crop, crop) Tensor of float32
        truth : (N, 1, crop, crop) Tensor of float32
            0 and 1.

        Returns
        -------
        (N, 1, crop, crop) Tensor of float32
            0 to 1; the label itself on a target that the teachers do not find.
        """
        return mix(truth, self.answer(values), self._share)


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


def _require_fitting(
    path: Path, detector: Detector, normalisation: Normalisation, crop: int
) -> None:
    kinds = {kind.kind for kind in (detector.normalisation, normalisation)}
    if "frame" in kinds and len(kinds) > 1:
        raise TrainingError(
            f"{path}: has normalisation={detector.normalisation.kind} and the run "
            f"{normalisation.kind}; a teacher sees what the run sees, so train it with the same"
        )
    if crop % detector.multiple:
        raise TrainingError(
            f"{path}: its network takes sides that are multiples of {detector.multiple}, and "
            f"augment.crop is {crop}"
        )


def _renormalise(values: Tensor, ours: Normalisation, detector: Detector) -> Tensor:
    """Windows as the teacher normalises them: both rules are affine on the scale 0 to 255."""
    theirs = detector.normalisation
    if ours == theirs:
        return values
    grey = values[:, :1] * ours.std[0] + ours.mean[0]
    mean, std = (
        torch.tensor(column, device=values.device)[None, :, None, None]
        for column in (theirs.mean, theirs.std)
    )
    return (grey - mean) / std
