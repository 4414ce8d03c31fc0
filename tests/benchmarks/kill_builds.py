"""Kill builds with SIGKILL at random moments, run them again, and compare bytes.

    python tests/benchmarks/kill_builds.py --kills 200

A build of loose files or of shards, by threads or by processes, is killed once to three times, at
moments drawn evenly from how long it takes, and is then run to its end; every byte of the result
must be that of a build that nothing disturbed. Processes are killed alone, when their workers
have to find out by themselves, or with their workers. Ends with status 1 if any build differed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from pipelines.cli.synth import main as synth

_CONFIG = """\
simulate: {train: 8, test: 4, noise_frames: 2, shape: [96, 96], targets: [2, 3]}
noise: {sample: {side: 16}}
negatives: {count: 600, steps: [mixup, turn: {side: 16}]}
"""
_SHARDS = ("--format", "webdataset", "--shard-size", "25")


@dataclass(frozen=True)
class Kind:
    """A way to build."""

    name: str
    options: tuple[str, ...]
    shards: bool


KINDS = (
    Kind("loose files, threads", ("--backend", "threads"), False),
    Kind("shards, threads", ("--backend", "threads", *_SHARDS), True),
    Kind("loose files, processes", ("--backend", "processes"), False),
    Kind("shards, processes", ("--backend", "processes", *_SHARDS), True),
)


def start(config: Path, out: Path, kind: Kind) -> int:
    """Start a build as a process that leads a group of its own."""
    # A copy of this process has the libraries already, so that moments fall into the build.
    child = os.fork()
    if child:
        return child
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1):
        os.dup2(null, number)
    status = 99
    try:
        synth(["build", str(config), "--out", str(out), "--jobs", "2", *kind.options])
    except SystemExit as leaving:
        status = int(leaving.code or 0)
    finally:
        os._exit(status)


def run(config: Path, out: Path, kind: Kind) -> float:
    """Build to the end; how long that took, seconds."""
    begun = time.monotonic()
    _, status = os.waitpid(start(config, out, kind), 0)
    if status:
        raise SystemExit(f"{kind.name}: a build that was let alone ended with {status}")
    return time.monotonic() - begun


def kill(config: Path, out: Path, kind: Kind, after: float, group: bool) -> bool:
    """Kill a build after some seconds; whether it was still running."""
    child = start(config, out, kind)
    time.sleep(after)
    if group:
        try:
            os.killpg(child, signal.SIGKILL)
        except ProcessLookupError:
            os.kill(child, signal.SIGKILL)
    else:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def digest(folder: Path) -> str:
    """One hash over names and bytes of all files of a folder."""
    whole = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        whole.update(path.relative_to(folder).as_posix().encode() + b"\0")
        if path.is_file():
            whole.update(hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()


def kill_builds(place: Path, kills: int, seed: int, process_share: float) -> dict[str, object]:
    """Kill builds in a folder until there were so many kills; count what came of it."""
    config = place / "small.yaml"
    config.write_text(_CONFIG)
    rng = random.Random(seed)
    wanted: dict[str, str] = {}
    length: dict[str, float] = {}
    counts: Counter[str] = Counter()
    differing: list[str] = []
    done = builds = late = before_staging = 0
    while done < kills:
        kind = KINDS[rng.randrange(2) + 2 * (rng.random() < process_share)]
        if kind.name not in wanted:
            length[kind.name] = run(config, place / "wanted", kind)
            wanted[kind.name] = digest(place / "wanted")
            shutil.rmtree(place / "wanted")
        out = place / "out"
        said = []
        for _ in range(min(rng.randint(1, 3), kills - done)):
            moment = rng.random() * length[kind.name]
            group = rng.random() < 0.5
            said.append(f"{moment:.3f}{'g' if group else ''}")
            if not kill(config, out, kind, moment, group):
                late += 1
                break
            done += 1
            counts[kind.name] += 1
            before_staging += not (place / ".out.partial").exists()
        run(config, out, kind)
        builds += 1
        left = sorted(entry.name for entry in place.iterdir())
        if digest(out) != wanted[kind.name] or left != ["out", "small.yaml"]:
            differing.append(f"{kind.name}: killed after {', '.join(said)} s; {left}")
        shutil.rmtree(out)
        print(f"{done} of {kills} kills, {len(differing)} differ", file=sys.stderr, flush=True)
    return {
        "kills": done,
        "by kind": dict(counts),
        "before anything was written": before_staging,
        "builds run to their end": builds,
        "kills that came too late and do not count": late,
        "differing": differing,
    }


def main() -> None:
    """Read the options, kill, and print what was counted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--process-share", type=float, default=0.25, help="share of builds by processes"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        found = kill_builds(Path(place), options.kills, options.seed, options.process_share)
    print(json.dumps(found, indent=1))
    raise SystemExit(1 if found["differing"] else 0)


if __name__ == "__main__":
    main()
