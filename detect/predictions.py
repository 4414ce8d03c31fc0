"""Predictions on disk, as masks or probability maps that any program wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from detect.errors import PredictionError
from synth.errors import FrameError, MaskError
from synth.frames import SUFFIXES, Mask, read_array, read_bytes, read_frame
from synth.layout import file_id
from synth.masks import (
    Label,
    Look,
    MaskConvention,
    convention_of,
    look_at_mask,
    look_at_values,
)

ARRAY_SUFFIX = ".npy"
# Files of more values than this are probabilities, of fewer labels.
_MOST_LABELS = 16

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
    convention : MaskConvention or None
        What the values of masks mean; None where they are probabilities.
    """

    folder: Path
    files: Mapping[str, Path] = field(repr=False)
    convention: MaskConvention | None

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
        path = self.files[id_]
        values = _read_values(path, self.convention)
        if values.shape != shape:
            raise PredictionError(
                f"{path}: is {values.shape[0]}x{values.shape[1]} but its label is "
                f"{shape[0]}x{shape[1]}; predict at the image's own size"
            )
        if self.convention is not None:
            return self.convention.mask_of(values, path)
        if np.issubdtype(values.dtype, np.floating):
            return cast(NDArray[np.floating], values)
        return values / float(np.iinfo(values.dtype).max)

    def require_probabilities(self) -> None:
        """Raise a `PredictionError` that names the folder where it holds masks."""
        if self.convention is not None:
            raise PredictionError(
                f"{self.folder}: holds masks, which have no curve over thresholds; give "
                "probabilities"
            )


def open_predictions(folder: Path, ids: Sequence[str], label: Label | None = None) -> Predictions:
    """Find the predictions for some images, and what their values mean.

    That is decided over all of them, by the rules of `synth.masks`: masks where all files hold one
    value or colour beside 0; else probabilities, from 0 to the greatest value of the file's type,
    or from 0 to 1 in floating point.

    Parameters
    ----------
    folder : Path
        Files named as the ids, or in folders as the images of the set are (``rec1/0001.png`` for
        ``rec1_0001``), with or without `PREDICTION_SUFFIX`: images in any format that
        frames have, or numpy arrays (``.npy``) of (H, W), of bool, whole numbers or floating point.
    ids : sequence of str
        Which images.
    label : int or "any", optional
        What marks targets in masks, see `synth.masks.parse_label`.

    Returns
    -------
    Predictions

    Raises
    ------
    PredictionError
        The folder is absent, a prediction is missing, there are two of it, or an array is none
        that can be understood; the files hold several labels, and `label` is not given; or
        probabilities of 16 bits hold nothing above 255, so that it is not clear what counts as 1.
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
    looks = [_look(files[id_]) for id_ in ids]
    whole = [look for look in looks if look is not None]
    try:
        convention = convention_of(folder, whole, label)
    except MaskError as error:
        values = set().union(*(look.counts for look in whole))
        if label is not None or len(values) <= _MOST_LABELS or max(values) > 65535:
            raise PredictionError(
                f"{error}; `detect score --predicted VALUE` says which marks targets (any: all); "
                "save probabilities as floating point (.npy)"
            ) from None
        convention = None
    if label is None and (len(whole) < len(looks) or (convention and convention.kind == "half")):
        convention = None
    deep = max((max(look.counts) for look in whole if look.depth > 255), default=0)
    if convention is None and 1 < deep <= 255:
        raise PredictionError(
            f"{folder}: its 16-bit images hold nothing above 255; save them as 8-bit ones, or "
            "stretch them to 65535"
        )
    return Predictions(folder, files, convention)


def _look(path: Path) -> Look | None:
    """See what a prediction holds; None for probabilities in floating point."""
    if path.suffix.lower() != ARRAY_SUFFIX:
        return look_at_mask(read_bytes(path), path)
    values = _read_array(path)
    if not np.issubdtype(values.dtype, np.floating):
        return look_at_values(values, path)
    if not ((values == 0) | (values == 1)).all():
        return None
    return look_at_values(values.astype(np.uint8), path)


def _find_files(folder: Path, ids: set[str]) -> dict[str, Path]:
    if not folder.is_dir():
        raise PredictionError(f"{folder}: no such folder; give the one that holds the predictions")
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in (*SUFFIXES, ARRAY_SUFFIX) or path.name.startswith("."):
            continue
        name = file_id(path, folder)
        id_ = name if name in ids else name.removesuffix(PREDICTION_SUFFIX)
        if id_ in files:
            raise PredictionError(
                f"{path}: predicts the same image as {files[id_].relative_to(folder)}; remove one"
            )
        if id_ in ids:
            files[id_] = path
    return files


def _read_values(path: Path, convention: MaskConvention | None) -> NDArray[Any]:
    """Read codes for a convention, else uint8, uint16, or floating point from 0 to 1."""
    if path.suffix.lower() == ARRAY_SUFFIX:
        values = _read_array(path)
        floating = np.issubdtype(values.dtype, np.floating)
        return values.astype(np.uint8) if floating and convention is not None else values
    return read_frame(path) if convention is None else convention.values(read_bytes(path), path)


def _read_array(path: Path) -> NDArray[Any]:
    """Read uint8, uint16, or floating point from 0 to 1; other whole numbers become these."""
    try:
        values = read_array(path)
    except FrameError as error:
        raise PredictionError(str(error)) from None
    if values.dtype in (np.uint8, np.uint16):
        return values
    if not np.issubdtype(values.dtype, np.floating):
        if values.dtype.kind not in "biu" or values.min() < 0 or values.max() > 65535:
            raise PredictionError(
                f"{path}: holds {values.dtype} values; save probabilities as floating point, "
                "uint8 or uint16, masks as bool"
            )
        return values.astype(np.uint8 if values.max() <= 255 else np.uint16)
    if not (values.min() >= 0 and values.max() <= 1):
        raise PredictionError(
            f"{path}: holds {values.min():g} to {values.max():g}; probabilities are between 0 and "
            "1 (apply the sigmoid first)"
        )
    return values
