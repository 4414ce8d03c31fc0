"""Disks that break while a command writes; `tests/benchmarks/break_disks.py` tries every place."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from broken_disk import MODES, Mode
from disk_commands import Command, break_at, commands, make_inputs, run_undisturbed
from small_sets import write_small_set

ROOT = Path(__file__).parents[2]
COMMANDS = {command.name: command for command in commands()}

# Of each command and each way to break: the first change and the last.
SHORT = ("build", "build of shards", "export as coco", "import", "check --fix", "split",
         "noise-sample", "preview")  # fmt: skip


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("inputs")
    make_inputs(place)
    return place


def break_some(command: Command, inputs: Path, disk: Path, mode: Mode, places: int) -> None:
    wanted = run_undisturbed(command, inputs, disk)
    count = len(wanted.points)
    assert count > 2
    for part in range(places):
        at = 1 + part * (count - 1) // max(places - 1, 1)
        break_at(command, wanted, inputs, disk, at, mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", SHORT)
def test_a_broken_disk_is_told_and_the_same_command_comes_to_the_same_bytes(
    inputs: Path, tmp_path: Path, name: str, mode: Mode
) -> None:
    break_some(COMMANDS[name], inputs, tmp_path / "disk", mode, 2)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in SHORT])
def test_every_command_that_writes_survives_a_broken_disk(
    inputs: Path, tmp_path: Path, name: str, mode: Mode
) -> None:
    break_some(COMMANDS[name], inputs, tmp_path / "disk", mode, 3)


@pytest.mark.parametrize("shards", [(), ("--format", "webdataset", "--shard-size", "50")])
def test_a_limit_on_files_is_told_and_nothing_is_left(
    tmp_path: Path, shards: tuple[str, ...]
) -> None:
    made = write_small_set(tmp_path / "set", shapes=((300, 300),))
    config = tmp_path / "my.yaml"
    config.write_text(
        "noise: {sample: {side: 8, max_var: 500}}\n"
        "negatives: {count: 5, steps: [mixup, turn: {side: 9}]}\n"
    )
    command = [sys.executable, "-m", "pipelines.cli", "build", config, "--data", made.root, "--out",
               tmp_path / "out", "--jobs", "1", *shards]  # fmt: skip

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, preexec_fn=limit)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert "cannot be written (File too large)" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my.yaml", "set"]


def test_a_full_disk_is_told_by_an_export(inputs: Path, mount_tmpfs: Callable[[str], Path]) -> None:
    disk = mount_tmpfs("size=24k")
    for name in ("export as coco", "import"):
        command = COMMANDS[name]
        outcome = command.run(inputs, disk)
        assert outcome.status == 1, name
        assert outcome.err.count("\n") == 1
        assert "No space left on device" in outcome.err
        assert list(disk.iterdir()) == []
