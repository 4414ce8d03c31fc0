"""Labelled images in memory, and the batches of windows that a network is trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detect.augment import (
    DRAWS,
    GEOMETRY_DRAWS,
    ImageBank,
    Views,
    choose_views,
    make_noise_field,
    shade,
    take_windows,
)
from detect.errors import TrainingError
from detect.lineage import Origin
from detect.normalise import Normalisation
from detect.recipe import Augment
from detect.sampler import Entry
from detect.seeds import Purpose, draw_generator
from synth.dataset import Dataset
from synth.frames import Frame, Mask
from synth.targets import find_targets, label_targets, measure_offsets


@dataclass(frozen=True)
class LabelledFrames:
    """Frames and masks at native size, as bytes.

    Attributes
    ----------
    ids : tuple of str
    frames : list of (H, W) ndarray of uint8 or uint16
    masks : list of (H, W) ndarray of bool
    centres : list of (n, 2) ndarray of float64
        Centroids (row, col) of each image's targets.
    """

    ids: tuple[str, ...]
    frames: list[Frame]
    masks: list[Mask]
    centres: list[NDArray[np.float64]]

    def __len__(self) -> int:
        return len(self.ids)

    def fingerprint(self) -> str:
        """Hash ids, frames and masks: SHA-256, in hexadecimal."""
        digest = hashlib.sha256()
        for id_, frame, mask in zip(self.ids, self.frames, self.masks, strict=True):
            digest.update(f"{id_} {frame.dtype} {frame.shape}\n".encode())
            digest.update(np.ascontiguousarray(frame).data)
            digest.update(np.packbits(mask).data)
        return digest.hexdigest()


def read_labelled(dataset: Dataset, ids: Iterable[str]) -> LabelledFrames:
    """Read frames and masks of a data set into memory.

    Raises
    ------
    SynthError
        A file cannot be read, or a mask is not of its image's size.
    """
    ids = tuple(ids)
    pairs = [dataset.read_pair(id_) for id_ in ids]
    masks = [mask for _, mask in pairs]
    centres = [
        np.array([target.centroid for target in find_targets(mask)], np.float64).reshape(-1, 2)
        for mask in masks
    ]
    return LabelledFrames(ids, [frame for frame, _ in pairs], masks, centres)


def hold_out(
    dataset: Dataset, origins: Mapping[str, Origin], share: float, seed: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Divide the training split into a part to train on and a part to choose the epoch with.

    A set with a ``val`` list of its own has that part already, and it is taken as it is.
    Otherwise images that were made from one another stay on one side: a source and its outputs
    are one group, and what was made of two groups is used by neither side if they are parted.
    `share` of the groups is drawn, and of each of them the original alone is used,
    so that the choice is made on real images, or its first image where the set does not hold the
    original.

    Parameters
    ----------
    dataset : Dataset
    origins : mapping of str to Origin
        What its images were made from, `detect.lineage.read_origins`.
    share : float
        Of the groups, at least one group; 0 holds nothing out.
    seed : int

    Returns
    -------
    training, validation : tuple of str
        Ids, in the order of the split.

    Raises
    ------
    TrainingError
        The training split is empty, or too small to divide.
    """
    ids = dataset.ids("train")
    if not ids:
        where = dataset.lists.get("train", dataset.root)
        raise TrainingError(f"{where}: the training split is empty; list images in it")
    if not share:
        return ids, ()
    if dataset.splits.get("val"):
        return ids, dataset.ids("val")
    group_of = {id_: origins[id_].source if id_ in origins else id_ for id_ in ids}
    judged: dict[str, str] = {}
    for id_, group in group_of.items():
        if group == id_ or group not in judged:
            judged[group] = id_
    held = max(1, round(share * len(judged)))
    if held >= len(judged):
        raise TrainingError(
            f"{dataset.root}: its training split comes from {len(judged)} original "
            "image(s), too few to hold some out; set validation=0"
        )
    rng = draw_generator(Purpose.HOLD_OUT, seed)
    chosen = set(rng.permutation(np.array(list(judged), object))[:held])
    # A target of one image may have been put into another.
    host_of = {id_: origins[id_].host for id_ in ids if id_ in origins}
    training = tuple(
        id_
        for id_ in ids
        if group_of[id_] not in chosen and group_of.get(host_of.get(id_) or "") not in chosen
    )
    return training, tuple(id_ for id_ in ids if id_ in {judged[group] for group in chosen})


def mirror_masks(frame: Frame, mask: Mask, keep_offset: bool) -> NDArray[np.uint8]:
    """Make the masks of a frame for all ways to mirror it.

    Parameters
    ----------
    frame : (H, W) ndarray of uint8 or uint16
    mask : (H, W) ndarray of bool
    keep_offset : bool
        A target's mask that lies off along an axis (`measure_offsets`) is moved, by twice that in
        whole pixels, to where it lies off to the same side once it is mirrored along this axis.

    Returns
    -------
    (H, W) ndarray of uint8
        See `ImageBank.masks`.
    """
    plain = mask.view(np.uint8)
    moves = -np.rint(2 * measure_offsets(frame, mask)).astype(np.int64) if keep_offset else None
    if moves is None or not moves.any():
        return plain * np.uint8(0b1111)
    _, labels = label_targets(mask)
    rows, cols = np.nonzero(labels)
    move_row, move_col = moves[labels[rows, cols] - 1].T
    masks = plain.copy()
    for bit, down, along in ((2, move_row, 0), (4, 0, move_col), (8, move_row, move_col)):
        row, col = rows + down, cols + along
        inside = (row >= 0) & (row < mask.shape[0]) & (col >= 0) & (col < mask.shape[1])
        masks[row[inside], col[inside]] |= bit
    return masks


class TrainingImages:
    """Training images on the device that trains, as bytes.

    Parameters
    ----------
    images : LabelledFrames
    normalisation : Normalisation
        Every frame's own map is taken from the whole frame, not from a window.
    augment : Augment
    seed : int
    device : torch.device
    """

    def __init__(
        self,
        images: LabelledFrames,
        normalisation: Normalisation,
        augment: Augment,
        seed: int,
        device: torch.device,
    ) -> None:
        shape = np.array([frame.shape for frame in images.frames], np.int64)
        ends = shape.prod(1).cumsum()
        pixels = np.concatenate([frame.ravel() for frame in images.frames])
        if pixels.dtype == np.uint16:
            pixels = pixels.view(np.int16)
        masks = np.concatenate(
            [
                mirror_masks(frame, mask, augment.keep_offset).ravel()
                for frame, mask in zip(images.frames, images.masks, strict=True)
            ]
        )
        self.bank = ImageBank(
            torch.from_numpy(pixels).to(device),
            torch.from_numpy(masks).to(device),
            ends - shape.prod(1),
            shape,
            images.centres,
        )
        maps = [normalisation.affine(frame) for frame in images.frames]
        self._offset, self._scale = (np.stack(column) for column in zip(*maps, strict=True))
        self._noise_field = make_noise_field(augment.crop, seed).to(device)
        self._augment = augment
        self._seed = seed

    def choose_views(self, entries: Sequence[Entry], together: bool = False) -> Views:
        """Choose the windows of a batch.

        Parameters
        ----------
        entries : sequence of Entry
        together : bool
            The images of a group are seen through the same window, turned and scaled alike; their
            grey values change each in its own way.

        Returns
        -------
        Views
        """
        draws = np.stack([self._draw(entry) for entry in entries])
        images = np.array([entry.image for entry in entries])
        if together:
            groups = np.array([entry.group for entry in entries])
            _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
            draws[:, :GEOMETRY_DRAWS] = draws[first[inverse], :GEOMETRY_DRAWS]
            images = images[first[inverse]]
        return choose_views(self._augment, self.bank, images, draws)

    def take(self, entries: Sequence[Entry], views: Views) -> tuple[Tensor, Tensor]:
        """Take the windows of images, one each.

        Returns
        -------
        values : (N, C, crop, crop) Tensor of float32
            Normalised.
        truth : (N, 1, crop, crop) Tensor of float32
            0 and 1.
        """
        images = np.array([entry.image for entry in entries])
        values, truth = take_windows(self.bank, images, views, self._augment)
        offset, scale = self._offset[images], self._scale[images]
        return shade(values, offset, scale, views, self._noise_field), truth

    def _draw(self, entry: Entry) -> NDArray[np.float64]:
        return draw_generator(Purpose.VIEW, self._seed, *entry.key).random(DRAWS)
