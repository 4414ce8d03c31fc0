"""Training images in memory, and batches of them that depend on the seed and the step alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detect.augment import choose_view, take_view
from detect.errors import TrainingError
from detect.normalise import Normalisation
from detect.recipe import Augment
from synth.dataset import Dataset
from synth.frames import Frame, Mask
from synth.targets import find_targets

# First entries of the seed sequences, so that no two purposes share one.
_HOLD_OUT, _ORDER, _VIEW = range(3)


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


def hold_out(dataset: Dataset, share: float, seed: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Divide the training split into a part to train on and a part to choose the epoch with.

    A set with a ``val`` list of its own has that part already, and it is taken as it is.
    Otherwise images that were made from one another stay on one side: where the set has a
    ``manifest.jsonl``, the outputs of one ``source`` are one group. `share` of the groups is drawn,
    and of each of them the original alone is used, so that the choice is made on real images, or
    its first image where the set does not hold the original.

    Parameters
    ----------
    dataset : Dataset
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
        The training split is empty, too small to divide, or the manifest cannot be read.
    """
    ids = dataset.ids("train")
    if not ids:
        raise TrainingError(f"{dataset.root}: its training split is empty; there is nothing to do")
    if not share:
        return ids, ()
    if dataset.splits.get("val"):
        return ids, dataset.ids("val")
    source = _sources(dataset)
    group_of = {id_: source.get(id_, id_) for id_ in ids}
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
    rng = np.random.default_rng((_HOLD_OUT, seed))
    chosen = set(rng.permutation(np.array(list(judged), object))[:held])
    training = tuple(id_ for id_ in ids if group_of[id_] not in chosen)
    return training, tuple(id_ for id_ in ids if id_ in {judged[group] for group in chosen})


def draw_batch(
    images: LabelledFrames,
    maps: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]],
    augment: Augment,
    seed: int,
    positions: Iterable[int],
) -> tuple[Tensor, Tensor]:
    """Draw augmented training images.

    The stream of training images is one endless list: every pass holds each image once, in an
    order of its own. An entry depends on `seed` and its position alone, so a run that was
    stopped goes on as if it had not been, and the number of devices changes nothing.

    Parameters
    ----------
    images : LabelledFrames
    maps : sequence of (offset, scale)
        Each frame's normalisation, `Normalisation.affine`.
    augment : Augment
    seed : int
    positions : iterable of int
        Places in the stream.

    Returns
    -------
    values : (N, C, crop, crop) Tensor of float32
    truth : (N, 1, crop, crop) Tensor of float32
        0 and 1.
    """
    values, truths = [], []
    orders: dict[int, NDArray[np.int64]] = {}
    for position in positions:
        turn, place = divmod(position, len(images))
        if turn not in orders:
            orders[turn] = np.random.default_rng((_ORDER, seed, turn)).permutation(len(images))
        index = int(orders[turn][place])
        frame, mask = images.frames[index], images.masks[index]
        rng = np.random.default_rng((_VIEW, seed, position))
        height, width = frame.shape
        view = choose_view(augment, (height, width), images.centres[index], rng)
        value, truth = take_view(augment, view, frame, mask, *maps[index])
        values.append(value)
        truths.append(truth)
    return (
        torch.from_numpy(np.stack(values)),
        torch.from_numpy(np.stack(truths)[:, None].astype(np.float32)),
    )


def affine_maps(
    images: LabelledFrames, normalisation: Normalisation
) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Compute each frame's normalisation, from the whole frame and not from a window."""
    return [normalisation.affine(frame) for frame in images.frames]


def _sources(dataset: Dataset) -> dict[str, str]:
    """Read which source each image was made from; empty without a manifest."""
    path = dataset.root / "manifest.jsonl"
    if not path.is_file():
        return {}
    sources = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            sources[str(entry["id"])] = str(entry.get("source") or entry["id"])
        except (ValueError, KeyError, TypeError, AttributeError):
            raise TrainingError(
                f"{path}: line {number} is not a JSON object with an id; build the set again"
            ) from None
    return sources
