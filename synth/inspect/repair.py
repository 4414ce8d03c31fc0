"""What of a faulty set is worth keeping: decided from what the check found, before any writing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from synth.dataset import Dataset
from synth.inspect.check import Report

# Faults that put an id out of every split.
_BROKEN = (
    "unreadable file",
    "mask of another size",
    "mask of the unturned frame",
    "mask among the images",
    "mask that is not understood",
    "full mask",
    "image without mask",
)
# Faults that put an id out of the split that it is in, which is less held out than the other one.
_LEAKS = ("equal image in train and test", "nearly equal images in two splits")
# Files that are in no split at all.
_UNUSED = ("image in no split", "mask without image", "listed id without image")


@dataclass(frozen=True, slots=True)
class Repair:
    """A set's repair.

    Attributes
    ----------
    splits : mapping of str to tuple of str
        The ids that stay.
    dropped : mapping of str to str
        Why each other id goes; the name of the fault.
    """

    splits: Mapping[str, tuple[str, ...]]
    dropped: Mapping[str, str]


def plan_repair(dataset: Dataset, report: Report) -> Repair:
    """Decide which pairs a repaired copy has.

    Broken pairs go, and so do images of the training (or validation) split that are equal, or
    nearly so, to one that is held out.
    """
    dropped: dict[str, str] = {}
    for fault in (*_BROKEN, *_LEAKS, *_UNUSED):
        for id_ in report.ids.get(fault, []):
            dropped.setdefault(id_, fault)
    splits = {
        split: tuple(id_ for id_ in ids if id_ not in dropped)
        for split, ids in dataset.splits.items()
    }
    return Repair(splits, dropped)
