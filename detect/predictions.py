"""Predictions on disk, as masks or probability images that any program wrote."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detect.errors import PredictionError
from synth.dataset import Dataset
from synth.frames import SUFFIXES, Frame, Mask, read_frame


def read_predictions(
    folder: Path, dataset: Dataset, ids: Iterable[str]
) -> Iterator[tuple[Mask | NDArray[np.float64], Mask]]:
    """Pair the predictions in a folder with the labels of a data set, by id.

    What the values mean is decided over the whole folder: masks where every image holds nothing
    but 0 and 1, or nothing but 0 and the greatest value of its type (255 or 65535); else
    probabilities from 0 to that greatest value.

    Parameters
    ----------
    folder : Path
        Images named as the ids, in any format that frames have.
    dataset : Dataset
    ids : iterable of str

    Yields
    ------
    prediction : (H, W) ndarray of bool, or of float64
        A mask, or probabilities from 0 to 1.
    truth : (H, W) ndarray of bool

    Raises
    ------
    PredictionError
        The folder is absent, a prediction is missing, there are two of it, or it is not of its
        image's size; or no image of 16 bits holds more than 255, so that it is not clear what
        counts as 1. Raised before the first pair, but for the sizes.
    """
    if not folder.is_dir():
        raise PredictionError(f"{folder}: no such folder; give the one that holds the predictions")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in SUFFIXES:
            if path.stem in files:
                raise PredictionError(
                    f"{path}: predicts the same image as {files[path.stem].name}; remove one"
                )
            files[path.stem] = path
    ids = tuple(ids)
    for id_ in ids:
        if id_ not in files:
            raise PredictionError(
                f"{folder / id_}.png: is missing; there must be a prediction for every image"
            )
    masks, deep = True, []
    for id_ in ids:
        image = read_frame(files[id_])
        masks = masks and _is_mask(image)
        if image.dtype == np.uint16:
            deep.append(int(image.max()))
    if 1 < max(deep, default=0) <= 255:
        raise PredictionError(
            f"{folder}: its 16-bit images hold nothing above 255; save them as 8-bit ones, or "
            "stretch them to 65535"
        )
    for id_ in ids:
        image, truth = read_frame(files[id_]), dataset.read_mask(id_)
        if image.shape != truth.shape:
            raise PredictionError(
                f"{files[id_]}: is {image.shape[0]}x{image.shape[1]} but its image is "
                f"{truth.shape[0]}x{truth.shape[1]}; predict at the image's own size"
            )
        yield image > 0 if masks else image / float(np.iinfo(image.dtype).max), truth


def _is_mask(image: Frame) -> bool:
    greatest = image.max()
    return greatest in (0, 1, np.iinfo(image.dtype).max) and bool(
        ((image == 0) | (image == greatest)).all()
    )
