from collections import Counter

import pytest

from detect.errors import TrainingError
from detect.lineage import Origin
from detect.recipe import Sampler
from detect.sampler import group_by_source, make_stream

PLAIN = Sampler("images", None, None)

# Four originals; a has three negatives, b one, c and d none.
SET = {
    "a1": Origin("a", True, None),
    "a": Origin("a", False, None),
    "b": Origin("b", False, None),
    "c": Origin("c", False, None),
    "a2": Origin("a", True, None),
    "b1": Origin("b", True, None),
    "d": Origin("d", False, None),
    "a3": Origin("a", True, None),
}
IDS = tuple(SET)


def test_every_pass_holds_every_image_once_in_another_order() -> None:
    stream = make_stream(PLAIN, "abcde", {}, 5, 0)
    passes = [[entry.image for entry in stream.batch(step)] for step in range(3)]
    assert [Counter(drawn) for drawn in passes] == [Counter(range(5))] * 3
    assert len(set(map(tuple, passes))) == 3
    assert stream.pass_steps == 1


@pytest.mark.parametrize("sampler", [PLAIN, Sampler("images", 0.5, None)])
def test_the_stream_goes_on_where_a_batch_ends(sampler: Sampler) -> None:
    large, small = (make_stream(sampler, IDS, SET, batch, 3) for batch in (12, 4))
    whole = {entry.key: entry.image for step in range(2) for entry in large.batch(step)}
    parts = {entry.key: entry.image for step in range(6) for entry in small.batch(step)}
    assert whole == parts
    assert len(whole) == 24


def test_a_source_stays_with_what_was_made_from_it() -> None:
    stream = make_stream(Sampler("sources", None, None), IDS, SET, 2, 1)
    assert stream.pass_steps == 2
    seen: Counter[str] = Counter()
    for step in range(4):
        batch = stream.batch(step)
        assert [entry.group for entry in batch] == sorted(entry.group for entry in batch)
        for group in (0, 1):
            names = [IDS[entry.image] for entry in batch if entry.group == group]
            assert names[0] in "abcd"
            assert names[1:] == [id_ for id_ in IDS if id_[0] == names[0] and id_ != names[0]]
            seen.update(names)
    assert set(seen.values()) == {2}
    assert set(seen) == set(IDS)


def test_so_many_negatives_come_at_a_time_and_all_in_turn() -> None:
    stream = make_stream(Sampler("sources", None, 2), IDS, SET, 4, 1)
    chosen = Counter()
    for step in range(60):
        names = [IDS[entry.image] for entry in stream.batch(step)]
        assert len(names) == 4 + 2 + 1
        assert set("abcd") <= set(names)
        chosen.update(name for name in names if name[0] == "a" and name != "a")
    assert set(chosen) == {"a1", "a2", "a3"}
    assert min(chosen.values()) > 25
    assert [len(make_stream(Sampler("sources", None, 0), IDS, SET, 4, 1).batch(0))] == [4]


@pytest.mark.parametrize(("share", "count"), [(0.25, 2), (0.5, 4), (1.0, 8), (0.0, 0)])
def test_a_share_of_every_batch_is_originals(share: float, count: int) -> None:
    stream = make_stream(Sampler("images", share, None), IDS, SET, 8, 2)
    seen: Counter[str] = Counter()
    for step in range(12):
        names = [IDS[entry.image] for entry in stream.batch(step)]
        assert len(names) == 8
        assert sum(name in "abcd" for name in names) == count
        seen.update(names)
    # Each kind is dealt out evenly.
    for kind in (set("abcd"), set(IDS) - set("abcd")):
        assert len({seen[name] for name in kind}) == 1


def test_keys_are_an_image_s_own() -> None:
    for sampler in (PLAIN, Sampler("images", 0.5, None), Sampler("sources", None, None)):
        stream = make_stream(sampler, IDS, SET, 4, 0)
        keys = [entry.key for step in range(9) for entry in stream.batch(step)]
        assert len(set(keys)) == len(keys)


def test_the_last_steps_see_originals_alone() -> None:
    stream = make_stream(Sampler("images", 0.5, None, finish=0.25), IDS, SET, 4, 0)
    before = make_stream(Sampler("images", 0.5, None), IDS, SET, 4, 0)
    batches = [stream.batch(step, 12) for step in range(12)]
    made = [sum(IDS[entry.image] not in "abcd" for entry in batch) for batch in batches]
    assert made == [2] * 9 + [0] * 3
    assert batches[:9] == [before.batch(step) for step in range(9)]
    keys = [entry.key for batch in batches for entry in batch]
    assert len(set(keys)) == len(keys)


def test_another_seed_is_another_order() -> None:
    orders = {
        tuple(entry.image for entry in make_stream(PLAIN, IDS, {}, 8, seed).batch(0))
        for seed in range(5)
    }
    assert len(orders) == 5


def test_negatives_without_their_source_are_a_group() -> None:
    ids = ("a1", "b1", "a2", "x")
    assert group_by_source(ids, SET) == [(0, 2), (1,), (3,)]


@pytest.mark.parametrize("sampler", [Sampler("images", 0.5, None), Sampler("sources", None, None)])
@pytest.mark.parametrize(("ids", "lack"), [("abcd", "none was made"), (("a1", "b1"), "original")])
def test_a_set_of_one_kind_is_named(sampler: Sampler, ids: str, lack: str) -> None:
    with pytest.raises(TrainingError, match=rf"sampler\.(name|originals).*{lack}"):
        make_stream(sampler, tuple(ids), SET, 4, 0)
