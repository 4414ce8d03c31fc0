"""Break the disk at every change that a command makes on it, and run the command again.

    python tests/benchmarks/break_disks.py                     # at most 40 places a command
    python tests/benchmarks/break_disks.py --most 0            # all of them
    python tests/benchmarks/break_disks.py --only build train

The disk becomes full or read-only from that place on, or fails once, or the process dies there.
Then the command must have said so in one line with status 1, and the same command on a sound disk
must come to the same bytes. Ends with status 1 if any did not.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path

# Threads of OpenMP do not live on in a process that is forked, and are waited for there.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The packages beside this file, not those of another checkout that is installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from broken_disk import MODES
from disk_commands import break_at, commands, make_inputs, run_undisturbed


def main() -> None:
    """Read the options, break disks, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--most", type=int, default=40, help="places a command; 0 for all")
    parser.add_argument("--only", nargs="*", default=[], help="names of commands")
    parser.add_argument("--modes", nargs="*", default=list(MODES), choices=MODES)
    options = parser.parse_args()
    fast = Path("/dev/shm")
    table: dict[str, dict[str, object]] = {}
    total: Counter[str] = Counter()
    findings: list[str] = []
    with tempfile.TemporaryDirectory(dir=fast if fast.is_dir() else None) as name:
        inputs, disk = Path(name) / "inputs", Path(name) / "disk"
        make_inputs(inputs)
        for command in commands():
            if options.only and command.name not in options.only:
                continue
            try:
                wanted = run_undisturbed(command, inputs, disk)
            except AssertionError as error:
                findings.append(str(error))
                continue
            count = len(wanted.points)
            step = max(-(-count // options.most), 1) if options.most else 1
            found: Counter[str] = Counter()
            for mode in options.modes:
                for at in range(1, count + 1, step):
                    try:
                        outcome = break_at(command, wanted, inputs, disk, at, mode)
                    except AssertionError as error:
                        outcome = "finding"
                        cause = error.__cause__
                        place = traceback.extract_tb(cause.__traceback__)[-1] if cause else ""
                        findings.append(f"{error} {place}".strip())
                        print(findings[-1], file=sys.stderr)
                    found[f"{mode}: {outcome}"] += 1
                    total["tried"] += 1
                    total[outcome] += 1
            table[command.name] = {"changes": count, **dict(sorted(found.items()))}
            print(command.name, table[command.name], file=sys.stderr)
    print(json.dumps({"total": total, **table}, indent=1))
    print("\n".join(findings))
    raise SystemExit(1 if findings else 0)


if __name__ == "__main__":
    main()
