"""A short part of the fuzzing of all readers; `tests/benchmarks/fuzz_readers.py` has the rest."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz_cases import Reader, make_readers, run_case

CASES = 700


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> list[Reader]:
    return make_readers(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_damaged_files_are_read_or_refused_in_one_line(readers: list[Reader]) -> None:
    # The page of a report takes as long as fifty other cases.
    quick = [reader for reader in readers if reader.name != "report"]
    outcomes: dict[str, set[str]] = {}
    for case in range(CASES):
        name, outcome = run_case(quick, 100, case)
        outcomes.setdefault(name, set()).add(outcome)
    assert outcomes.keys() == {reader.name for reader in quick}
    assert {outcome for found in outcomes.values() for outcome in found} == {"read", "refused"}


def test_samples_are_whole_again_after_a_case(readers: list[Reader], tmp_path: Path) -> None:
    for case in range(20):
        run_case(readers, 101, case)
    for reader in readers:
        assert all(path.read_bytes() == data for path, data in reader.files)
