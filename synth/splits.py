"""Which images are for training, validation and testing: sequences stay whole."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from synth.dataset import SPLITS
from synth.errors import RecipeError
from synth.frames import natural_key
from synth.seeds import generator

Grouping = Literal["pattern", "prefix", "alone"]

_DIGITS = re.compile(r"[0-9]+$")


@dataclass(frozen=True)
class Groups:
    """Ids that must stay together.

    Attributes
    ----------
    by : {"pattern", "prefix", "alone"}
        The first group of a regular expression, the id without its trailing digits, or every id
        a group of its own.
    members : mapping of str to tuple of str
        Ids by what they have in common, all in natural order.
    """

    by: Grouping
    members: Mapping[str, tuple[str, ...]]


def group_ids(
    ids: Iterable[str], pattern: str | re.Pattern[str] | None = None, by_prefix: bool = False
) -> Groups:
    """Group ids by the sequence that they come from.

    Without a wish, ids are grouped by what stays of them without their trailing digits where that
    gives several groups of several ids; else, as for ``000001`` and ``000002``, each is a group of
    its own.

    Parameters
    ----------
    ids : iterable of str
    pattern : str or Pattern, optional
        Regular expression that is found in every id; ids are together whose first group is equal.
    by_prefix : bool
        Take the id without its trailing digits even where that leaves one group.

    Returns
    -------
    Groups

    Raises
    ------
    RecipeError
        The pattern has no group, or an id does not hold it.

    Examples
    --------
    >>> group_ids(["a_1", "a_2", "b_1"]).members
    {'a_': ('a_1', 'a_2'), 'b_': ('b_1',)}
    >>> group_ids(["001", "002"]).by
    'alone'
    """
    ordered = sorted(ids, key=_in_order)
    if pattern is not None:
        return Groups("pattern", _collect(ordered, _pattern_keys(ordered, pattern)))
    prefixes = [_DIGITS.sub("", id_) for id_ in ordered]
    if by_prefix or 1 < len(set(prefixes)) < len(ordered):
        return Groups("prefix", _collect(ordered, prefixes))
    return Groups("alone", {id_: (id_,) for id_ in ordered})


def split_groups(
    groups: Groups, test: float, val: float = 0.0, seed: int = 0
) -> dict[str, tuple[str, ...]]:
    """Divide groups of ids among training, validation and testing.

    Groups are gone through in a random order; each goes to the test split where that brings its
    number of ids nearer to the share that was asked for, then likewise to the validation split,
    and else to training.

    Parameters
    ----------
    groups : Groups
    test, val : float
        Shares of the ids, 0 to 1, together less than 1; the nearest that whole groups allow, and
        at least one group where a share is not 0.
    seed : int

    Returns
    -------
    dict of str to tuple of str
        Ids of ``train``, ``test`` and, where it has a share, ``val``, in natural order.

    Raises
    ------
    RecipeError
        There are fewer groups than splits.
    ValueError
        The shares are not as above.
    """
    if not (0 <= test and 0 <= val and test + val < 1):
        raise ValueError(f"shares of {test} and {val} leave nothing for training")
    wanted = {name: share for name, share in (("test", test), ("val", val)) if share}
    if len(groups.members) < len(wanted) + 1:
        raise RecipeError(
            f"there are {len(groups.members)} group(s) of images for {len(wanted) + 1} splits; "
            "group them otherwise, or split them by hand"
        )
    order = sorted(groups.members)
    generator(seed, "split").shuffle(order)
    total = sum(map(len, groups.members.values()))
    taken: dict[str, list[str]] = {"test": []}
    for place, (name, share) in enumerate(wanted.items()):
        # Each later split needs a group too.
        taken[name] = _take(groups.members, order, share * total, keep=len(wanted) - place)
        order = [key for key in order if key not in set(taken[name])]
    taken["train"] = order
    return {
        name: tuple(
            sorted((id_ for key in taken[name] for id_ in groups.members[key]), key=_in_order)
        )
        for name in SPLITS
        if name in taken
    }


def _take(
    members: Mapping[str, Sequence[str]], order: Sequence[str], wanted: float, keep: int
) -> list[str]:
    """Choose groups, in order, whose ids come nearest to a number; leave `keep` groups."""
    taken: list[str] = []
    count = 0
    for key in order:
        size = len(members[key])
        if len(order) - len(taken) > keep and abs(count + size - wanted) < abs(count - wanted):
            taken.append(key)
            count += size
    return taken or [min(order, key=lambda key: len(members[key]))]


def _pattern_keys(ids: Sequence[str], pattern: str | re.Pattern[str]) -> list[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise RecipeError(f"{pattern!r} is not a regular expression ({error})") from None
    if not compiled.groups:
        raise RecipeError(
            f"the pattern {compiled.pattern!r} has no group; put what names the sequence in "
            "parentheses"
        )
    keys = []
    for id_ in ids:
        found = compiled.search(id_)
        if found is None or found.group(1) is None:
            raise RecipeError(
                f"the pattern {compiled.pattern!r} finds nothing in the id {id_!r}; every id must "
                "belong to a sequence"
            )
        keys.append(found.group(1))
    return keys


def _collect(ids: Sequence[str], keys: Sequence[str]) -> dict[str, tuple[str, ...]]:
    together: dict[str, list[str]] = {}
    for id_, key in zip(ids, keys, strict=True):
        together.setdefault(key, []).append(id_)
    return {key: tuple(members) for key, members in together.items()}


def _in_order(id_: str) -> tuple[object, ...]:
    # Two ids can be equal as numbers: 1 and 01.
    return natural_key(id_), id_
