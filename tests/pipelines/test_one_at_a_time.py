"""Two commands into one place: the second is told in one line, and changes nothing."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner
from small_sets import Outcome, SmallSet

from pipelines.cli.detect import main as detect

Synth = Callable[..., Outcome]
Tree = Callable[[Path], dict[str, bytes]]


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Another process is at work in a folder; what it holds is what commands hold."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(handle)


@pytest.mark.parametrize(
    "options",
    [
        ("--backend", "threads"),
        ("--backend", "processes", "--jobs", 2),
        ("--format", "webdataset", "--shard-size", 4),
        ("--jobs", 1),
    ],
)
def test_a_second_build_is_told(
    synth: Synth, small_set: SmallSet, tmp_path: Path, tree: Tree, options: tuple[object, ...]
) -> None:
    config = tmp_path / "my.yaml"
    config.write_text("noise: {sample: {side: 8}}\nnegatives: {steps: [mixup, turn: {side: 9}]}\n")
    command = ("build", config, "--data", small_set.root, "--out", tmp_path / "out", *options)
    with held(tmp_path / ".out.partial"):
        before = tree(tmp_path)
        outcome = synth(*command)
        assert outcome.status == 1
        assert outcome.err.count("\n") == 1
        assert f"{tmp_path / 'out'}: is being built by another process; wait" in outcome.err
        assert tree(tmp_path) == before
    assert synth(*command).status == 0


def test_a_second_export_import_repair_or_transfer_is_told(
    synth: Synth, small_set: SmallSet, tmp_path: Path
) -> None:
    bank, coco = tmp_path / "bank.npz", tmp_path / "coco"
    sample = ("--patch", 8, "--max-var", 500)
    assert synth("noise-sample", small_set.image("001"), *sample, "--out", bank).status == 0
    assert synth("export", small_set.root, "--format", "coco", "--out", coco).status == 0
    commands: list[tuple[object, ...]] = [
        ("export", small_set.root, "--format", "voc"),
        ("export", small_set.root, "--format", "webdataset"),
        ("import", coco, "--format", "coco"),
        ("check", small_set.root, "--fix"),
        ("transfer", small_set.root, "--noise", bank),
        ("rotate", small_set.root, "--side", 9),
    ]
    with held(tmp_path / ".out.partial"):
        for command in commands:
            outcome = synth(*command, "--out", tmp_path / "out")
            assert outcome.status == 1, command
            assert outcome.err.count("\n") == 1, outcome.err
            assert "is being built by another process" in outcome.err
            assert not (tmp_path / "out").exists()


def test_a_second_training_is_told(small_set: SmallSet, tmp_path: Path, tree: Tree) -> None:
    config = tmp_path / "train.yaml"
    config.write_text(
        "network: acm\nsteps: 1\nbatch: 2\nvalidation: 0\naugment: {crop: 32}\n"
        "compute: {device: cpu, precision: 32-true}\n"
    )
    run = tmp_path / "run"
    command = ["train", str(config), "--data", str(small_set.root), "--out", str(run)]
    with held(run):
        outcome = CliRunner().invoke(detect, command)
        assert outcome.exit_code == 1
        assert outcome.stderr.count("\n") == 1
        assert f"{run}: another process is training here; wait for it" in outcome.stderr
        assert tree(run) == {}
    assert CliRunner().invoke(detect, command).exit_code == 0
