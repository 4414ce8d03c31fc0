"""Predictions on disk, as masks or probability maps that any program wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from detect.errors import PredictionError
from synth.frames import SUFFIXES, Mask, read_frame

ARRAY_SUFFIX = ".npy"
PREDICTION_SUFFIX = "_Pred"
"""What DNA-Net and its family append to the id of an image, in a folder shared with the labels."""


@dataclass(frozen=True)
class Predictions:
    """The predictions in a folder.

    Attributes
    ----------
    folder : Path
    files : mapping of str to Path
        By the id of the image that they predict.
    masks : bool
        Whether they are masks; else probabilities.
    """

    folder: Path
    files: Mapping[str, Path] = field(repr=False)
    masks: bool

    def read(self, id_: str, shape: tuple[int, ...]) -> Mask | NDArray[np.floating]:
        """Read the prediction for an image.

        Parameters
        ----------
        id_ : str
        shape : tuple of int
            (H, W) of the image's label.

        Returns
        -------
        (H, W) ndarray of bool, or of float
            A mask, or probabilities from 0 to 1.

        Raises
        ------
        PredictionError
            It is not of that shape.
        """
        values = _read_values(self.files[id_])
        if values.shape != shape:
            raise PredictionError(
                f"{self.files[id_]}: is {values.shape[0]}x{values.shape[1]} but its label is "
                f"{shape[0]}x{shape[1]}; predict at the image's own size"
            )
        if self.masks:
            return values > 0
        if np.issubdtype(values.dtype, np.floating):
            return cast(NDArray[np.floating], values)
        return values / float(np.iinfo(values.dtype).max)

    def require_probabilities(self) -> None:
        """Raise a `PredictionError` that names the folder where it holds masks."""
        if self.masks:
            raise PredictionError(
                f"{self.folder}: holds masks, which have no curve over thresholds; give "
                "probabilities"
            )


def open_predictions(folder: Path, ids: Sequence[str]) -> Predictions:
    """Find the predictions for some images, and what their values mean.

    That is decided over all of them: masks where every file holds nothing but 0 and 1, or nothing
    but 0 and the greatest value of its type (255 or 65535); else probabilities, from 0 to that
    greatest value, or from 0 to 1 in floating point.

    Parameters
    ----------
    folder : Path
        Files named as the ids, with or without `PREDICTION_SUFFIX`: images in any format that
        frames have, or numpy arrays (``.npy``) of (H, W), of bool, uint8, uint16 or floating point.
    ids : sequence of str
        Which images.

    Returns
    -------
    Predictions

    Raises
    ------
    PredictionError
        The folder is absent, a prediction is missing, there are two of it, or an array is none
        that can be understood; or no image of 16 bits holds more than 255, so that it is not clear
        what counts as 1.
    FrameError
        An image cannot be read.
    """
    files = _find_files(folder, set(ids))
    missing = [id_ for id_ in ids if id_ not in files]
    if missing:
        others = f" ({len(missing):,} are missing)" if len(missing) > 1 else ""
        raise PredictionError(
            f"{folder / missing[0]}.png: is missing; there must be a prediction for every "
            f"image{others}"
        )
    masks, deep = True, 0
    for id_ in ids:
        values = _read_values(files[id_])
        masks = masks and _is_mask(values)
        if values.dtype == np.uint16:
            deep = max(deep, int(values.max()))
    if 1 < deep <= 255:
        raise PredictionError(
            f"{folder}: its 16-bit images hold nothing above 255; save them as 8-bit ones, or "
            "stretch them to 65535"
        )
    return Predictions(folder, files, masks)


def _find_files(folder: Path, ids: set[str]) -> dict[str, Path]:
    if not folder.is_dir():
        raise PredictionError(f"{folder}: no such folder; give the one that holds the predictions")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in (*SUFFIXES, ARRAY_SUFFIX):
            continue
        id_ = path.stem if path.stem in ids else path.stem.removesuffix(PREDICTION_SUFFIX)
        if id_ in files:
            raise PredictionError(
                f"{path}: predicts the same image as {files[id_].name}; remove one"
            )
        if id_ in ids:
            files[id_] = path
    return files


def _read_values(path: Path) -> NDArray[Any]:
    """Read uint8, uint16, or floating point from 0 to 1; bool becomes uint8."""
    if path.suffix.lower() != ARRAY_SUFFIX:
        return read_frame(path)
    try:
        # Mapped first, which finds a header that promises more than the file holds.
        values = np.array(np.lib.format.open_memmap(path, mode="r"))
    except OSError as error:
        raise PredictionError(f"{path}: cannot be read ({error.strerror})") from None
    except Exception as error:  # the reader of the header raises half a dozen types
        raise PredictionError(
            f"{path}: is damaged, or no numpy array ({(str(error).splitlines() or [''])[0]:.100})"
        ) from None
    while values.ndim > 2 and len(values) == 1:
        values = values[0]
    if values.ndim != 2 or not values.size:
        raise PredictionError(
            f"{path}: is an array of shape {values.shape}; a prediction has rows and columns"
        )
    if values.dtype in (np.uint8, np.uint16):
        return values
    if not np.issubdtype(values.dtype, np.floating):
        if values.dtype.kind not in "biu" or not ((values == 0) | (values == 1)).all():
            raise PredictionError(
                f"{path}: holds {values.dtype} values; save probabilities as floating point, "
                "uint8 or uint16, masks as bool"
            )
        return values.astype(np.uint8)
    if not (values.min() >= 0 and values.max() <= 1):
        raise PredictionError(
            f"{path}: holds {values.min():g} to {values.max():g}; probabilities lie between 0 and "
            "1 (apply the sigmoid first)"
        )
    return values


def _is_mask(values: NDArray[Any]) -> bool:
    greatest = values.max()
    whole = 1 if np.issubdtype(values.dtype, np.floating) else np.iinfo(values.dtype).max
    return greatest in (0, 1, whole) and bool(((values == 0) | (values == greatest)).all())
