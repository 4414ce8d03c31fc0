"""The errors that the learning side raises: one line each, with the file or key and a remedy."""

from __future__ import annotations

from pathlib import Path


class DetectError(Exception):
    """Base of every error of the learning side; its text is one line for a person."""


class ModelError(DetectError):
    """A network is unknown, or weights do not fit it."""


class WeightsError(DetectError):
    """A file does not hold weights that can be used; names the file.

    Parameters
    ----------
    path : Path or str
        The file.
    problem : str
        What is wrong with it, and what to do.
    """

    def __init__(self, path: Path | str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")


class TrainingError(DetectError):
    """Training cannot start or go on: too few images, another configuration, diverged."""


class TrainingInterruptedError(DetectError):
    """Training was stopped by a signal, and what it had reached is on disk."""


class PredictionError(DetectError):
    """A prediction is missing, or does not fit its image."""
