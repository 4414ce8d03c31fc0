"""Imports: annotations become the right pixels, or are refused by name, and none is lost."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from foreign_sets import count_targets, make_foreign_set

from pipelines.export import import_dataset
from pipelines.pool import Pool
from synth.dataset import open_dataset
from synth.errors import SynthError


def check_foreign_sets(seeds: range, place: Path) -> Counter[str]:
    """Import a set of each seed; how many were read and refused."""
    outcomes: Counter[str] = Counter()
    for seed in seeds:
        root, out = place / f"{seed}" / "set", place / f"{seed}" / "out"
        wanted = make_foreign_set(np.random.default_rng(seed), root)
        if wanted.refused:
            with pytest.raises(SynthError) as caught:
                import_dataset(root, wanted.format, out, Pool(1))
            words = str(caught.value)
            assert wanted.refused in words, (seed, words)
            assert "\n" not in words
            assert not out.exists()
            outcomes["refused"] += 1
            continue
        result = import_dataset(root, wanted.format, out, Pool(1))
        dataset = open_dataset(out)
        assert set(dataset.ids("all")) == set(wanted.masks), seed
        for id_, mask in wanted.masks.items():
            np.testing.assert_array_equal(dataset.read_mask(id_), mask, f"seed {seed}, {id_}")
        assert result.targets == sum(map(count_targets, wanted.masks.values())), seed
        assert result.annotations == wanted.annotations, seed
        if result.annotations is not None:
            explained = result.notes.get("apart", 0) - result.notes.get("joined", 0)
            assert result.targets == result.annotations + explained, seed
        outcomes["read"] += 1
    return outcomes


def test_foreign_sets_are_read_right_or_refused_by_name(tmp_path: Path) -> None:
    outcomes = check_foreign_sets(range(60), tmp_path)
    assert outcomes["read"] > 30
    assert outcomes["refused"] > 5


@pytest.mark.slow
def test_many_foreign_sets_are_read_right_or_refused_by_name(tmp_path: Path) -> None:
    outcomes = check_foreign_sets(range(1000, 1700), tmp_path)
    assert outcomes["read"] > 400
    assert outcomes["refused"] > 80
