from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.errors import DatasetError, RecipeError
from synth.inspect.splits import (
    Groups,
    find_overlaps,
    group_alone,
    group_by_likeness,
    group_by_name,
    names_tell,
    scene_signature,
    split_groups,
    write_lists,
)


def scene(seed: int, shape: tuple[int, int] = (120, 160)) -> np.ndarray:
    """Clouds: noise that is smooth over some 10 pixels, around 100 of 255."""
    noise = np.random.default_rng(seed).normal(size=(shape[0] + 40, shape[1] + 40))
    smooth = cv2.GaussianBlur(noise, (0, 0), 6)[20:-20, 20:-20]
    return 100 + 25 * smooth / smooth.std()


def frame(values: np.ndarray, seed: int, sigma: float = 3.0) -> np.ndarray:
    noisy = values + np.random.default_rng(seed).normal(0, sigma, values.shape)
    return noisy.clip(0, 255).astype(np.uint8)


def test_views_of_a_panned_scene_overlap_and_others_do_not() -> None:
    wide = scene(0, (300, 500))
    places = [(0, 0), (20, 90), (90, 150), (130, 340)]
    panned = [frame(wide[r : r + 160, c : c + 160], n) for n, (r, c) in enumerate(places)]
    others = [frame(scene(seed, (160, 160)), seed) for seed in (1, 2, 3)]
    found = find_overlaps([others[0], *panned, *others[1:], np.full((160, 160), 9, np.uint8)])
    # The last view has nothing in common with the first one, and too little with the third.
    assert found == [(1, 2), (1, 3), (2, 3)] or found == [(1, 2), (2, 3)]


def test_one_frame_and_none_overlap_with_nothing() -> None:
    assert find_overlaps([]) == find_overlaps([frame(scene(0), 0)]) == []


@pytest.mark.parametrize(
    ("ids", "tell"),
    [
        (["a_1", "a_2", "b_1"], True),
        (["sky001", "sky002", "sea001"], True),
        (["001", "002", "003"], False),
        (["Misc_1", "Misc_2"], False),
        (["a", "b", "c"], False),
    ],
)
def test_names_tell_where_several_sequences_have_several_frames(ids: list[str], tell: bool) -> None:
    assert names_tell(ids) is tell


def test_names_group_what_is_equal_but_for_its_number() -> None:
    groups = group_by_name(["b_2", "a_10", "a_9", "b_x_1"])
    assert groups == Groups("name", {"a_": ("a_9", "a_10"), "b_": ("b_2",), "b_x_": ("b_x_1",)})
    chosen = group_by_name(["x-day1-3", "y-day1-1", "x-day2-1"], r"(day\d+)")
    assert chosen.members == {"day1": ("x-day1-3", "y-day1-1"), "day2": ("x-day2-1",)}
    assert chosen.by == "pattern"


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("(", "is not a regular expression"),
        ("day", "has no group"),
        ("(night)", "in the id 'day1'"),
    ],
)
def test_patterns_that_do_not_group_are_one_line(pattern: str, problem: str) -> None:
    with pytest.raises(RecipeError, match=problem):
        group_by_name(["day1"], pattern)


def test_likeness_joins_frames_of_one_scene_and_no_others() -> None:
    drifting = scene(0, (120, 300))
    frames = {f"d{i}": frame(drifting[:, 2 * i : 2 * i + 160], i) for i in range(40)}
    # Another gain, offset, depth, size, and a target: the same scene still.
    same = scene(1)
    frames["s1"] = frame(same, 1)
    frames["s2"] = frame(same, 2).astype(np.uint16) * 37 + 6000
    frames["s3"] = cv2.resize(frame(same, 3), (320, 240))
    frames["s4"] = frames["s1"].copy()
    frames["s4"][50:54, 60:64] = 255
    frames |= {f"o{i}": frame(scene(10 + i), i) for i in range(12)}
    groups = group_by_likeness({id_: scene_signature(one) for id_, one in frames.items()})
    assert groups.by == "likeness"
    together = sorted(members for members in groups.members.values() if len(members) > 1)
    assert together == [tuple(f"d{i}" for i in range(40)), ("s1", "s2", "s3", "s4")]
    ends = [scene_signature(frames[f"d{i}"]) for i in (0, 39)]
    assert float(ends[0] @ ends[1]) < 0.5


def test_empty_skies_are_like_nothing() -> None:
    frames = [frame(np.full((120, 160), 100.0), i) for i in range(6)] + [
        np.full((9, 9), 200, np.uint8)
    ] * 2
    signatures = {str(i): scene_signature(one) for i, one in enumerate(frames)}
    assert len(group_by_likeness(signatures).members) == 8
    assert not signatures["7"].any()


def test_signatures_are_of_unit_length() -> None:
    signature = scene_signature(frame(scene(0), 0))
    assert signature.sum() == pytest.approx(0, abs=1e-4)
    assert np.linalg.norm(signature) == pytest.approx(1, rel=1e-5)


@settings(max_examples=150, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=3, max_size=40),
    test=st.sampled_from([0.0, 0.1, 0.3]),
    val=st.sampled_from([0.0, 0.2, 0.45]),
    seed=st.integers(0, 99),
)
def test_splits_hold_every_id_once_and_whole_groups(
    sizes: list[int], test: float, val: float, seed: int
) -> None:
    members = {f"g{g}": tuple(f"g{g}_{i}" for i in range(n)) for g, n in enumerate(sizes)}
    splits = split_groups(Groups("name", members), test, val, seed)
    shares = {"test": test, "val": val}
    assert set(splits) == {"train"} | {name for name, share in shares.items() if share}
    assert sorted(id_ for ids in splits.values() for id_ in ids) == sorted(
        id_ for ids in members.values() for id_ in ids
    )
    assert all(splits.values())
    home = {id_: name for name, ids in splits.items() for id_ in ids}
    assert all(len({home[id_] for id_ in ids}) == 1 for ids in members.values())
    # No farther from the share than half the largest group, where there are groups to choose from.
    total = sum(sizes)
    if len(sizes) > 10 and max(sizes) * 3 < total:
        for name, share in shares.items():
            if share:
                assert abs(len(splits[name]) - share * total) <= max(sizes)
    assert splits == split_groups(Groups("name", dict(reversed(members.items()))), test, val, seed)


def test_the_seed_decides() -> None:
    groups = group_alone(map(str, range(50)))
    made = [split_groups(groups, 0.2, 0.1, seed) for seed in (0, 0, 1)]
    assert made[0] == made[1] != made[2]
    assert [len(made[0][name]) for name in ("train", "val", "test")] == [35, 5, 10]
    assert made[0]["train"] == tuple(sorted(made[0]["train"], key=int))


def test_too_few_groups_are_one_line() -> None:
    groups = group_by_name(["a_1", "a_2", "b_1"])
    with pytest.raises(RecipeError, match=r"has 2 group\(s\) of images for 3 splits"):
        split_groups(groups, 0.2, 0.2)


def test_lists_are_never_written_over(tmp_path: Path) -> None:
    files = write_lists(tmp_path / "new", {"train": ("1", "2"), "test": ("3",)})
    assert [file.read_text() for file in files] == ["1\n2\n", "3\n"]
    files[0].unlink()
    with pytest.raises(DatasetError, match=r"test\.txt: is there already"):
        write_lists(tmp_path / "new", {"train": ("9",), "test": ("8",)})
    assert not files[0].exists()
    assert files[1].read_text() == "3\n"
