"""Commands that write, and what must be true of each when its disk breaks."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from broken_disk import KILLED, BrokenDisk, Mode, broken
from click.testing import CliRunner
from small_sets import Outcome, write_small_set

# Seconds that a command has in a process that dies with its disk.
_PATIENCE = 120

_WORDS = {
    "full": "No space left on device",
    "read-only": "Read-only file system",
    "error": "Input/output error",
}


@dataclass(frozen=True)
class Command:
    """A command whose output lies on the disk.

    Attributes
    ----------
    name : str
    main : click.Command
        `synth` or `detect`.
    arguments : callable
        Its arguments, given the inputs' folder and the disk.
    prepare : callable
        Puts on the disk what the command changes there.
    loose : tuple of str
        Names of folders whose bytes differ from run to run.
    once : bool
        Whether it refuses what it has written, when it is run again.
    """

    name: str
    main: click.Command
    arguments: Callable[[Path, Path], list[object]]
    prepare: Callable[[Path, Path], object] = lambda inputs, disk: None
    loose: tuple[str, ...] = ()
    once: bool = False

    def run(self, inputs: Path, disk: Path) -> Outcome:
        """Run it in this process."""
        arguments = [str(one) for one in self.arguments(inputs, disk)]
        result = CliRunner().invoke(self.main, arguments)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise AssertionError(f"{self.name}: {result.exception!r}") from result.exception
        return Outcome(result.exit_code, result.stdout, result.stderr)

    def tree(self, disk: Path) -> dict[str, bytes | None]:
        """What lies on the disk, folders too."""
        found: dict[str, bytes | None] = {}
        for path in sorted(disk.rglob("*")):
            name = path.relative_to(disk)
            if not set(self.loose) & set(name.parts):
                found[name.as_posix()] = path.read_bytes() if path.is_file() else None
        return found


@dataclass(frozen=True)
class Undisturbed:
    """What a command does on a sound disk."""

    points: list[tuple[str, str]]
    tree: dict[str, bytes | None]


def fresh_disk(command: Command, inputs: Path, disk: Path) -> None:
    """Clear the disk, and put on it what the command needs."""
    shutil.rmtree(disk, ignore_errors=True)
    disk.mkdir()
    command.prepare(inputs, disk)


def run_undisturbed(command: Command, inputs: Path, disk: Path) -> Undisturbed:
    """Run a command on a sound disk, and count what it changes there."""
    fresh_disk(command, inputs, disk)
    with broken(BrokenDisk(disk)) as sound:
        outcome = command.run(inputs, disk)
    assert outcome.status == 0, f"{command.name}: {outcome.err}"
    return Undisturbed(sound.points, command.tree(disk))


def break_at(
    command: Command, wanted: Undisturbed, inputs: Path, disk: Path, at: int, mode: Mode
) -> str:
    """Run a command on a disk that breaks, then on one that was mended, and hold it to its word.

    Returns
    -------
    str
        ``told``; ``done`` where what failed was not needed, as the removal of a leftover;
        ``untouched`` where nothing failed; ``killed``.

    Raises
    ------
    AssertionError
        It said something else than one line with the reason, left half of a file that the next run
        took for whole, or the next run came to other bytes.
    """
    fresh_disk(command, inputs, disk)
    kind, path = wanted.points[at - 1]
    where = f"{command.name}, {mode} at {kind} {path} ({at} of {len(wanted.points)})"
    if mode == "kill":
        _wait_for_threads()
        child = os.fork()
        if not child:
            # A child that hangs ends by this signal, and its status says so.
            signal.alarm(_PATIENCE)
            try:
                with broken(BrokenDisk(disk, at, mode)):
                    command.run(inputs, disk)
            finally:
                os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, KILLED), f"{where}: status {status}"
        what = "killed" if status else "untouched"
    else:
        with broken(BrokenDisk(disk, at, mode)) as damaged:
            outcome = command.run(inputs, disk)
        what = _judge(command, wanted, outcome, damaged, disk, mode, where)
    if not command.once or what in ("told", "killed"):
        again = command.run(inputs, disk)
        assert again.status == 0, f"{where}: run again, {again.err}"
    found = command.tree(disk)
    odd = sorted(
        name for name in found.keys() | wanted.tree.keys()
        if found.get(name, "no") != wanted.tree.get(name, "no")
    )  # fmt: skip
    assert not odd, f"{where}: run again, {odd[0]} is not as it should be"
    return what


def _wait_for_threads() -> None:
    """Wait until the threads of the last command are gone.

    Python calls a thread ended before its native one is: that still holds locks of libraries, as
    OpenCV's, which nobody would release in a child that is forked in this moment.
    """
    tasks = Path("/proc/self/task")
    before = -1
    while tasks.is_dir() and (now := len(list(tasks.iterdir()))) != before:
        before = now
        time.sleep(0.01)


def _judge(
    command: Command,
    wanted: Undisturbed,
    outcome: Outcome,
    damaged: BrokenDisk,
    disk: Path,
    mode: Mode,
    where: str,
) -> str:
    if not damaged.failed:
        assert outcome.status == 0, f"{where}: {outcome.err}"
        return "untouched"
    if outcome.status == 0:
        # A leftover that cannot be removed is no reason to fail, but then all must be there.
        found = command.tree(disk)
        missing = [name for name, data in wanted.tree.items() if found.get(name, "no") != data]
        assert not missing, f"{where}: said that all is well, and {missing[0]} is not"
        return "done"
    assert outcome.status == 1, f"{where}: status {outcome.status}, {outcome.err}"
    # Training tells how far it is, a line a validation.
    last = outcome.err.splitlines()[-1]
    assert outcome.err.endswith("\n"), where
    assert _WORDS[mode] in last, f"{where}: {outcome.err}"
    assert str(disk) in last, f"{where}: {outcome.err}"
    assert outcome.out == "", f"{where}: {outcome.out}"
    more = outcome.err.count("\n") - 1
    assert not more or command.loose, f"{where}: {outcome.err}"
    return "told"


def make_inputs(inputs: Path) -> None:
    """Write what the commands read."""
    from pipelines.cli.detect import main as detect
    from pipelines.cli.synth import main as synth

    def run(main: click.Command, *arguments: object) -> None:
        result = CliRunner().invoke(main, [str(one) for one in arguments])
        assert result.exit_code == 0, result.stderr

    write_small_set(inputs / "set", 3, 2, shapes=((32, 40),), targets=1)
    write_small_set(inputs / "odd", 3, 2, shapes=((32, 40),), targets=1, seed=1)
    (inputs / "odd" / "masks" / "002.png").unlink()
    write_small_set(inputs / "sharp", 4, 0, shapes=((96, 96),), targets=0)
    (inputs / "my.yaml").write_text(
        "noise: {sample: {side: 8}}\nnegatives: {count: 6, steps: [mixup, turn: {side: 9}]}\n"
    )
    (inputs / "train.yaml").write_text(
        "network: acm\nsteps: 4\nepoch_steps: 2\nbatch: 2\nvalidation: 0.4\n"
        "augment: {crop: 32}\ncompute: {device: cpu, precision: 32-true}\n"
    )
    (inputs / "study.yaml").write_text(
        "name: tiny\nnetwork: acm\nsteps: 2\nbatch: 2\nepoch_steps: 2\nvalidation: 0.4\n"
        "seeds: [0]\nfractions: [1.0]\nbaseline: originals\ntrain: train.yaml\n"
        "arms: {originals: null, turned: {build: my.yaml}}\n"
    )
    frames = ("--patch", 8, "--max-var", 500)
    run(synth, "noise-sample", inputs / "set" / "images", *frames, "--out", inputs / "bank.npz")
    run(synth, "export", inputs / "set", "--format", "coco", "--out", inputs / "coco")
    sequence = write_small_set(inputs / "sequence", 5, 0, shapes=((32, 40),), targets=0)
    run(synth, "noise-model", sequence.root / "images", "--sequence", "--out", inputs / "m.npz")
    run(
        detect, "train", inputs / "train.yaml", "--data", inputs / "set", "--out", inputs / "run"
    )  # fmt: skip


def commands() -> Iterator[Command]:
    """Every command that writes."""
    from pipelines.cli.detect import main as detect
    from pipelines.cli.synth import main as synth

    def on(main: click.Command, name: str, *arguments: object, **more: Any) -> Command:
        """`IN` and `OUT` at the beginning of arguments stand for the inputs and the disk."""

        def filled(inputs: Path, disk: Path) -> list[object]:
            return [
                str(one).replace("IN/", f"{inputs}/").replace("OUT/", f"{disk}/")
                for one in arguments
            ]

        return Command(name, main, filled, **more)

    build = ("build", "IN/my.yaml", "--data", "IN/set", "--jobs", 1, "--out", "OUT/new/out")
    yield on(synth, "build", *build)
    yield on(synth, "build of shards", *build, "--format", "webdataset", "--shard-size", 3)
    transfer = ("transfer", "IN/set", "--noise", "IN/bank.npz", "--jobs", 1)
    yield on(synth, "transfer", *transfer, "--out", "OUT/out")
    yield on(synth, "rotate", "rotate", "IN/set", "--side", 9, "--jobs", 1, "--out", "OUT/out")
    for name in ("coco", "webdataset", "voc", "imagefolder", "yolo-seg"):
        export = ("export", "IN/set", "--format", name, "--out", "OUT/out")
        yield on(synth, f"export as {name}", *export)
    imported = ("import", "IN/coco", "--format", "coco", "--out", "OUT/out")
    yield on(synth, "import", *imported)
    yield on(synth, "check --fix", "check", "IN/odd", "--fix", "--out", "OUT/out")
    yield on(
        synth, "split", "split", "IN/set", "--out", "OUT/lists", "--test", 0.4, once=True,
    )  # fmt: skip
    frames = ("IN/set/images", "--patch", 8, "--max-var", 500, "--out", "OUT/new/bank.npz")
    yield on(synth, "noise-sample", "noise-sample", *frames)
    model = ("IN/sequence/images", "--sequence", "--out", "OUT/new/model.npz")
    yield on(synth, "noise-model", "noise-model", *model)
    generate = ("IN/m.npz", "--frames", 4, "--shape", 16, 20, "--out", "OUT/new/frames")
    yield on(synth, "noise-generate", "noise-generate", *generate, once=True)
    yield on(synth, "preview", "preview", "IN/set", "--out", "OUT/new/sheet.png")
    yield on(synth, "report", "report", "IN/set", "--out", "OUT/new/page.html")
    fit = ("--fit-niqe", "OUT/new/niqe.npz", "--patch", 16, "--plot", "OUT/new/plots/quality.png")
    yield on(synth, "quality --fit-niqe", "quality", "IN/sharp", *fit, "--jobs", 1)
    train = ("IN/train.yaml", "--data", "IN/set", "--out", "OUT/new/run")
    yield on(detect, "train", "train", *train, loose=("tensorboard",))
    weights = "IN/run/best.safetensors"
    yield on(detect, "average", "average", weights, weights, "--out", "OUT/new/w.safetensors")
    predict = ("IN/set/images", "--weights", weights, "--device", "cpu", "--out", "OUT/new/found")
    yield on(detect, "predict", "predict", *predict)
    label = ("IN/sequence/images", "--with", "IN/set", "--weights", weights, "--sure", 0)
    yield on(detect, "label", "label", *label, "--device", "cpu", "--out", "OUT/out")
    tables = ("--images", "OUT/new/images.csv", "--csv", "OUT/new/curve.csv", "--device", "cpu")
    yield on(detect, "test with tables", "test", weights, "IN/set", *tables)
    visualize = (weights, "IN/set", "--device", "cpu", "--out", "OUT/new/figures")
    yield on(detect, "visualize", "visualize", *visualize)
    page = ("IN/run", "--data", "IN/set", "--device", "cpu", "--out", "OUT/new/page.html")
    yield on(detect, "report of a run", "report", *page)
    study = ("IN/study.yaml", "--data", "IN/set", "--device", "cpu", "--out", "OUT/new/study")
    yield on(
        detect, "study", "study", *study, "--test", "--results", "OUT/tables",
        loose=("tensorboard",),
    )  # fmt: skip
