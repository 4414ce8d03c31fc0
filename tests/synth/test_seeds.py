"""Generators that depend on a seed and names alone."""

from __future__ import annotations

import hashlib

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from synth.seeds import generator

names = st.lists(st.text(st.characters(exclude_characters="\0"), max_size=8), max_size=3)
seeds = st.integers(0, 2**64)


@given(seeds, names)
@settings(max_examples=40, deadline=None)
def test_equal_arguments_give_equal_streams(seed: int, of: list[str]) -> None:
    first, second = generator(seed, *of), generator(seed, *of)
    assert first.integers(2**63, size=4).tolist() == second.integers(2**63, size=4).tolist()


@example(0, ["\ud800"])
@given(st.integers(0, 2**140), names)
@settings(max_examples=40, deadline=None)
def test_streams_are_those_of_a_spawn_key(seed: int, of: list[str]) -> None:
    digest = hashlib.sha256("\0".join(of).encode("utf-8", "surrogatepass")).digest()
    key = tuple(int.from_bytes(digest[at : at + 4], "little") for at in range(0, 16, 4))
    wanted = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
    assert generator(seed, *of).integers(2**63, size=4).tolist() == (
        wanted.integers(2**63, size=4).tolist()
    )


@given(seeds, seeds, names, names)
@settings(max_examples=40, deadline=None)
def test_other_arguments_give_other_streams(a: int, b: int, of: list[str], also: list[str]) -> None:
    if (a, "\0".join(of)) == (b, "\0".join(also)):
        return
    first, second = generator(a, *of), generator(b, *also)
    assert first.integers(2**63, size=4).tolist() != second.integers(2**63, size=4).tolist()


def test_a_stream_does_not_depend_on_what_was_drawn_before() -> None:
    alone = generator(3, "negative", "b").random()
    generator(3, "negative", "a").random(100)
    assert generator(3, "negative", "b").random() == alone


def test_draws_are_uniform_over_names() -> None:
    draws = [generator(0, "image", str(number)).random() for number in range(2000)]
    # The mean of 2,000 uniform draws has a standard deviation of 0.0065.
    assert abs(sum(draws) / len(draws) - 0.5) < 0.033
