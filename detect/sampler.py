"""Which training images make the batch of a step: a function of the seed and the step alone.

Batches are dealt from endless lists. A list goes through its members again and again, every time in
another order, and what stands at a place of it depends on the seed and the place. So a run that was
stopped goes on as if it had not been, and the number of devices changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detect.errors import TrainingError
from detect.lineage import Origin
from detect.recipe import Sampler
from detect.seeds import Purpose, draw_generator


class Entry(NamedTuple):
    """One image of a batch.

    Attributes
    ----------
    image : int
        Its index among the training images.
    group : int
        Number, within the batch, of the source that it belongs to.
    key : tuple of int
        Its place in the lists, and so in the run: no other image of any batch has it.
    """

    image: int
    group: int
    key: tuple[int, int, int]


_List = tuple[Sequence[tuple[int, ...]], int]


@dataclass(frozen=True)
class Stream:
    """The batches of a run.

    Attributes
    ----------
    seed : int
    lists : tuple of (groups, count)
        From every list each batch gets `count` groups. A group is a tuple of images: one alone,
        or a source and what was made from it, the source first.
    negatives : int or None
        How many of a group's images, beside its first, come at a time; None is all.
    finish : float
        Share of the steps, the last ones, whose batches come from `last` instead.
    last : as `lists`
    """

    seed: int
    lists: tuple[_List, ...]
    negatives: int | None = None
    finish: float = 0.0
    last: tuple[_List, ...] = ()

    @property
    def pass_steps(self) -> int:
        """Steps in which as many groups are dealt as there are."""
        groups = sum(len(groups) for groups, _ in self.lists)
        return max(1, groups // sum(count for _, count in self.lists))

    def batch(self, step: int, steps: int = 0) -> list[Entry]:
        """Deal the batch of a step; the images of a group follow one another.

        Parameters
        ----------
        step : int
        steps : int
            Of the whole run; without it the run never comes to its `finish`.
        """
        entries: list[Entry] = []
        group = 0
        lists, first = self.lists, 0
        start = steps - round(self.finish * steps)
        if self.last and steps and step >= start:
            lists, first, step = self.last, len(lists), step - start
        for number, (groups, count) in enumerate(lists, first):
            for place in range(step * count, (step + 1) * count):
                turn, rank = divmod(place, len(groups))
                members = groups[_order(self.seed, number, turn, len(groups))[rank]]
                for index, image in enumerate(self._choose(members, number, place)):
                    entries.append(Entry(image, group, (number, place, index)))
                group += 1
        return entries

    def _choose(self, members: tuple[int, ...], number: int, place: int) -> tuple[int, ...]:
        if self.negatives is None or len(members) <= 1 + self.negatives:
            return members
        rng = draw_generator(Purpose.NEGATIVES, self.seed, number, place)
        chosen = np.sort(rng.choice(len(members) - 1, self.negatives, replace=False))
        return (members[0], *(members[1 + index] for index in chosen))


def make_stream(
    sampler: Sampler, ids: Sequence[str], origins: Mapping[str, Origin], batch: int, seed: int
) -> Stream:
    """Make the stream that a recipe asks for.

    Parameters
    ----------
    sampler : Sampler
    ids : sequence of str
        The training images.
    origins : mapping of str to Origin
        What they were made from, as far as it is known.
    batch : int
        Images, or sources, a step.
    seed : int

    Returns
    -------
    Stream

    Raises
    ------
    TrainingError
        The sampler tells originals from what was made from them, and the images are all of one
        kind.
    """
    if sampler.name == "images" and sampler.originals is None:
        return Stream(seed, (([(index,) for index in range(len(ids))], batch),))
    made = [id_ in origins and origins[id_].made for id_ in ids]
    if all(made) or not any(made):
        asks = "originals" if sampler.name == "images" else "name=sources"
        lack = "none is an original" if all(made) else "none was made from another"
        raise TrainingError(
            f"sampler.{asks} tells original images from what synth build made from them, but of "
            f"these {len(ids)} training images {lack}; take it out, or train on a built set"
        )
    if sampler.name == "sources":
        return Stream(seed, ((group_by_source(ids, origins), batch),), sampler.negatives)
    assert sampler.originals is not None
    share = round(sampler.originals * batch)
    parts = [
        ([(index,) for index, changed in enumerate(made) if changed == wanted], count)
        for wanted, count in ((False, share), (True, batch - share))
    ]
    last = ((parts[0][0], batch),) if sampler.finish else ()
    lists = tuple(part for part in parts if part[1])
    return Stream(seed, lists, finish=sampler.finish, last=last)


def group_by_source(ids: Sequence[str], origins: Mapping[str, Origin]) -> list[tuple[int, ...]]:
    """Put every image with its source.

    Returns
    -------
    list of tuple of int
        Indices into `ids`: the source first where it is among them, the others in their order.
    """
    groups: dict[str, list[int]] = {}
    for index, id_ in enumerate(ids):
        source = origins[id_].source if id_ in origins else id_
        group = groups.setdefault(source, [])
        group.insert(0 if source == id_ else len(group), index)
    return [tuple(group) for group in groups.values()]


@lru_cache(maxsize=8)
def _order(seed: int, number: int, turn: int, length: int) -> NDArray[np.int64]:
    return draw_generator(Purpose.ORDER, seed, number, turn).permutation(length)
