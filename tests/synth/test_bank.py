"""The noise bank: what is saved comes back, and nothing in a file is executed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from synth.errors import NoiseError
from synth.noise.bank import NoiseBank, join_banks, load_bank, make_bank

COLUMNS = ("patches", "frame", "row", "col", "mean", "var", "kind")


def some_bank(
    count: int = 3, side: int = 4, dtype: type[np.generic] = np.uint8, seed: int = 0
) -> NoiseBank:
    rng = np.random.default_rng(seed)
    patches = rng.integers(0, np.iinfo(dtype).max, (count, side, side)).astype(dtype)
    names = [f"camera/{seed}_{number}.png" for number in range(count)]
    return make_bank(patches, names, np.arange(count), 2 * np.arange(count))


def assert_equal_banks(one: NoiseBank, other: NoiseBank) -> None:
    for column in COLUMNS:
        assert getattr(one, column).dtype == getattr(other, column).dtype
        np.testing.assert_array_equal(getattr(one, column), getattr(other, column))


@given(st.integers(1, 5), st.integers(1, 6), st.sampled_from([np.uint8, np.uint16]))
@settings(max_examples=25, deadline=None)
def test_a_bank_survives_its_file(
    tmp_path_factory: pytest.TempPathFactory, count: int, side: int, dtype: type
) -> None:
    bank = some_bank(count, side, dtype)
    path = tmp_path_factory.mktemp("bank") / "bank.npz"
    path.write_bytes(bank.to_bytes())
    assert_equal_banks(load_bank(path), bank)
    assert (len(bank), bank.side) == (count, side)


def test_the_file_has_the_published_columns(tmp_path: Path) -> None:
    (tmp_path / "bank.npz").write_bytes(some_bank().to_bytes())
    with np.load(tmp_path / "bank.npz", allow_pickle=False) as stored:
        assert {"patches", "frame", "row", "col", "mean", "var"} <= set(stored.files)
        assert all(len(stored[name]) == 3 for name in stored.files)


@given(hnp.arrays(np.uint16, (3, 5, 5)))
@settings(max_examples=25, deadline=None)
def test_mean_and_variance_are_numpys(patches: np.ndarray) -> None:
    bank = make_bank(patches)
    for number, patch in enumerate(patches.astype(np.float64)):
        assert bank.mean[number] == pytest.approx(patch.mean())
        assert bank.var[number] == pytest.approx(patch.var(), abs=1e-6)


def test_equal_banks_are_equal_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    first = some_bank().to_bytes()
    monkeypatch.setattr("time.time", lambda: 2e9)
    assert some_bank().to_bytes() == first
    assert some_bank(seed=1).to_bytes() != first


def test_patches_alone_are_a_bank(tmp_path: Path) -> None:
    bank = some_bank()
    np.savez(tmp_path / "patches.npz", patches=bank.patches)
    loaded = load_bank(tmp_path / "patches.npz")
    assert_equal_banks(loaded, make_bank(bank.patches))


def test_compressed_files_are_read(tmp_path: Path) -> None:
    bank = some_bank()
    columns = {name: getattr(bank, name) for name in COLUMNS}
    np.savez_compressed(tmp_path / "bank.npz", **columns)
    assert_equal_banks(load_bank(tmp_path / "bank.npz"), bank)


class Trap:
    """What unpickles by creating a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("column", ["patches", "frame", "extra"])
def test_pickled_objects_are_refused_and_not_run(tmp_path: Path, column: str) -> None:
    mark = tmp_path / "executed"
    columns = {"patches": some_bank().patches, column: np.array([Trap(mark)], dtype=object)}
    np.savez(tmp_path / "trap.npz", allow_pickle=True, **columns)
    with pytest.raises(NoiseError, match=r"trap\.npz"):
        load_bank(tmp_path / "trap.npz")
    assert not mark.exists()


@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"patches": np.zeros((2, 4, 4), np.float32)},
        {"patches": np.zeros((2, 4, 4), np.int16)},
        {"patches": np.zeros((2, 4, 5), np.uint8)},
        {"patches": np.zeros((4, 4), np.uint8)},
        {"patches": np.zeros((0, 4, 4), np.uint8)},
        {"patches": np.zeros((2, 4, 4), np.uint8), "row": np.zeros(3, int)},
        {"patches": np.zeros((2, 4, 4), np.uint8), "frame": np.zeros(2)},
        {"patches": np.zeros((2, 4, 4), np.uint8), "kind": np.array(["a", "b"])},
    ],
    ids=["none", "float", "signed", "oblong", "flat", "empty", "short", "unnamed", "kinds"],
)
def test_what_is_no_bank_is_refused_by_name(tmp_path: Path, columns: dict) -> None:
    np.savez(tmp_path / "odd.npz", **columns)
    with pytest.raises(NoiseError, match=r"odd\.npz: "):
        load_bank(tmp_path / "odd.npz")


@pytest.mark.parametrize("data", [b"", b"text", b"PK\3\4", b"PK\3\4" + b"\0" * 100, b"\x93NUMPY"])
def test_other_files_are_refused_by_name(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "odd.npz").write_bytes(data)
    with pytest.raises(NoiseError, match=r"odd\.npz: "):
        load_bank(tmp_path / "odd.npz")


def test_a_single_array_named_npz_is_refused_by_name(tmp_path: Path) -> None:
    with (tmp_path / "odd.npz").open("wb") as stream:
        np.save(stream, some_bank().patches)
    with pytest.raises(NoiseError, match=r"odd\.npz: "):
        load_bank(tmp_path / "odd.npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_flipped_byte_gives_a_bank_or_an_error_never_a_traceback(
    tmp_path: Path, save: object
) -> None:
    path = tmp_path / "bank.npz"
    save(path, patches=some_bank().patches)  # type: ignore[operator]
    raw = path.read_bytes()
    refused = 0
    for at in range(len(raw)):
        flipped = bytearray(raw)
        flipped[at] ^= 0x41
        path.write_bytes(flipped)
        try:
            load_bank(path)
        except NoiseError:
            refused += 1
    assert refused > len(raw) // 3


def test_a_missing_bank_is_told_by_name(tmp_path: Path) -> None:
    with pytest.raises(NoiseError, match=r"absent\.npz: no such file"):
        load_bank(tmp_path / "absent.npz")


def test_joined_banks_keep_their_kinds_apart() -> None:
    one, two, three = some_bank(2), some_bank(3, seed=1), some_bank(1, seed=2)
    joined = join_banks([join_banks([one, two]), three])
    assert joined.kind.tolist() == [0, 0, 1, 1, 1, 2]
    assert [indices.tolist() for indices in joined.members()] == [[0, 1], [2, 3, 4], [5]]
    for column in COLUMNS[:-1]:
        parts = [getattr(bank, column) for bank in (one, two, three)]
        np.testing.assert_array_equal(getattr(joined, column), np.concatenate(parts))


@pytest.mark.parametrize("other", [some_bank(dtype=np.uint16), some_bank(side=5)])
def test_unlike_banks_cannot_be_joined(other: NoiseBank) -> None:
    with pytest.raises(NoiseError, match="cannot be mixed"):
        join_banks([some_bank(), other])
