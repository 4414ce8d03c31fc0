"""Predictions on disk, as masks or probability maps that any program wrote."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from detect.errors import PredictionError
from detect.evaluate import Case
from synth.disk.layout import file_id
from synth.errors import FrameError, LossyError, MaskError
from synth.frames import SUFFIXES, Mask, read_array, read_bytes, read_frame
from synth.masks import (
    FULL_SHARE,
    Label,
    Look,
    MaskConvention,
    convention_of,
    look_at_mask,
    look_at_values,
)

ARRAY_SUFFIX = ".npy"
# Probabilities fade: the files hold more values than this, and less than this share of the pixels
# that are neither 0 nor full scale is in blobs of one or two values, as labels' blobs are.
_FEW_VALUES, _FLAT_SHARE = 6, 0.75

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
        that can be understood; the files hold several labels, and `label` is not given;
        `label` is given, and some hold floating-point probabilities; or it is not clear which
        value of a probability counts as 1: images of 16 bits hold nothing above 255, images have
        colour or transparency, arrays are of other whole numbers than uint8 and uint16, or one
        holds a single value other than full scale beside floating-point ones.
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
    except LossyError as error:
        raise PredictionError(str(error)) from None
    except MaskError as error:
        if label is not None or not _fades(whole):
            raise PredictionError(
                f"{error}; `detect score --predicted VALUE` says which marks targets (any: all); "
                "save probabilities as floating point (.npy)"
            ) from None
        convention = None
    floating = next((files[id_] for id_, look in zip(ids, looks, strict=True) if not look), None)
    if floating is not None and label is not None:
        raise PredictionError(
            f"{floating}: holds probabilities, which have no label; leave out --predicted"
        )
    if floating is not None or (convention and label is None and convention.kind == "half"):
        convention = None
    if convention is None:
        for look in whole:
            _require_scale(look, floating is not None)
    deep = max((max(look.counts) for look in whole if look.depth > 255), default=0)
    if convention is None and 1 < deep <= 255:
        raise PredictionError(
            f"{folder}: its 16-bit images hold nothing above 255; save them as 8-bit ones, or "
            "stretch them to 65535"
        )
    return Predictions(folder, files, convention)


def _fades(looks: Sequence[Look]) -> bool:
    """Whether values fade as probabilities do; numbers of instances and labels do not."""
    values = set().union(*(look.counts for look in looks))
    flat, between = sum(look.flat for look in looks), sum(look.between for look in looks)
    return len(values) > _FEW_VALUES and max(values) <= 65535 and flat < _FLAT_SHARE * between


def _require_scale(look: Look, beside_floating: bool) -> None:
    """Refuse a file that is read as probabilities but does not say which value counts as 1."""
    marks = set(look.counts) - {0}
    kind = np.dtype(np.uint8)
    if look.path.suffix.lower() == ARRAY_SUFFIX:
        kind = np.lib.format.open_memmap(look.path, mode="r").dtype
    if not marks or kind.kind in "bf":
        return
    problem = None
    if look.alpha == "varies" or max(marks) > 65535:
        problem = "has colour or transparency"
    elif kind not in (np.uint8, np.uint16):
        problem = f"holds {kind} values, whose full scale is not known"
    elif beside_floating and len(marks) == 1 and not marks <= {255, 65535}:
        problem = f"holds nothing but 0 and {max(marks)}"
    if problem:
        raise PredictionError(
            f"{look.path}: {problem}, and the predictions are probabilities; save all as floating "
            "point from 0 to 1, or all as masks"
        )


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
    """Read uint8, uint16, or floating point from 0 to 1; bool and other numbers become these."""
    try:
        values = read_array(path)
    except FrameError as error:
        raise PredictionError(str(error)) from None
    if values.dtype in (np.uint8, np.uint16):
        return values
    if values.dtype == np.bool_:
        return values.astype(np.float32)
    if not np.issubdtype(values.dtype, np.floating):
        if values.dtype.kind not in "iu" or values.min() < 0 or values.max() > 65535:
            raise PredictionError(
                f"{path}: holds {values.dtype} values; save probabilities as floating point, "
                "uint8 or uint16, masks as bool"
            )
        return values.astype(np.uint8 if values.max() <= 255 else np.uint16)
    if not (values.min() >= 0 and values.max() <= 1):
        what = "apply the sigmoid" if values.min() < 0 else "divide by what stands for 1"
        raise PredictionError(
            f"{path}: holds {values.min():g} to {values.max():g}; probabilities are between 0 and "
            f"1 ({what} first)"
        )
    return values


@dataclass
class Extent:
    """How much predictions mark, to say where that is hardly meant."""

    pixels: int = 0
    marked: int = 0
    greatest: float = 0.0
    masks: bool = False

    def watch(self, cases: Iterable[Case]) -> Iterator[Case]:
        """Pass cases on, and look at their predictions."""
        for case in cases:
            found = case.prediction
            self.pixels += found.size
            if found.dtype == np.bool_:
                self.masks = True
                self.marked += int(np.count_nonzero(found))
            else:
                self.greatest = max(self.greatest, float(found.max()))
            yield case

    def notes(self, threshold: float) -> list[str]:
        """Say what is unusual about all predictions."""
        if not self.pixels:
            return []
        if self.marked > FULL_SHARE * self.pixels:
            share = self.marked / self.pixels
            return [f"the masks mark {share:.0%} of all pixels: inverted? then give --predicted 0"]
        if not self.masks and self.greatest <= threshold:
            return [
                f"no probability is above the threshold of {threshold:g}, the greatest is "
                f"{self.greatest:.3g}: a lower --threshold finds more"
            ]
        return []
