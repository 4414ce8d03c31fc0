"""Damage files of every kind that is read, and see that each is read or refused in one line.

    python tests/benchmarks/fuzz_readers.py --cases 20000
    python tests/benchmarks/fuzz_readers.py --only 1234        # one case again, with its traceback

A case follows from the seed and its number alone. Cases run in processes of their own, which may
take so many seconds a case and so much memory beyond what they start with; what ends a process,
an alarm or a crash of a library, is a finding like any other error than the documented ones. Ends
with status 1 if there was any.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import resource
import signal
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

from fuzz_cases import Reader, make_readers, run_case

_SECONDS = 20
_MEMORY = 1 << 30

_WAITING, _READ, _REFUSED, _FAILED = range(4)


def work(readers: list[Reader], seed: int, cases: range, table: mmap.mmap, said: int) -> None:
    """Run cases one after the other; a mark for each, and a line for each finding."""
    own = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (own + _MEMORY, own + _MEMORY))
    # Not caught, so that it ends what hangs inside a library too.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    for case in cases:
        signal.setitimer(signal.ITIMER_REAL, _SECONDS)
        try:
            name, outcome = run_case(readers, seed, case)
            mark = _READ if outcome == "read" else _REFUSED
        except BaseException as error:
            name, mark = "", _FAILED
            where = traceback.extract_tb((error.__cause__ or error).__traceback__)[-1]
            line = f"case {case}: {error!s:.400} ({Path(where.filename).name}:{where.lineno})\n"
            os.write(said, line.encode("utf-8", "replace"))
        number = next((i for i, one in enumerate(readers) if one.name == name), 255)
        table[2 * case : 2 * case + 2] = bytes((mark, number))
        signal.setitimer(signal.ITIMER_REAL, 0)


def fuzz(
    place: Path, seed: int, first: int, cases: int
) -> tuple[dict[str, Counter[str]], list[str]]:
    """Run cases in processes that are started again after a finding that ends one."""
    readers = make_readers(place / "samples")
    table = mmap.mmap(-1, 2 * (first + cases))
    findings = place / "findings"
    said = os.open(findings, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    start = first
    while start < first + cases:
        child = os.fork()
        if not child:
            try:
                work(readers, seed, range(start, first + cases), table, said)
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        ended = next((n for n in range(start, first + cases) if not table[2 * n]), first + cases)
        if ended < first + cases:
            why = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"status {status}"
            hang = " (took too long)" if status == signal.SIGALRM else ""
            os.write(said, f"case {ended}: its process ended by {why}{hang}\n".encode())
            table[2 * ended : 2 * ended + 2] = bytes((_FAILED, 255))
            # The file that it damaged is as it was again.
            for reader in readers:
                for path, data in reader.files:
                    path.write_bytes(data)
        start = ended + 1
    counts: dict[str, Counter[str]] = {}
    for case in range(first, first + cases):
        mark, number = table[2 * case], table[2 * case + 1]
        name = readers[number].name if number < len(readers) else "(finding)"
        counts.setdefault(name, Counter())[("waiting", "read", "refused", "findings")[mark]] += 1
    os.close(said)
    return counts, findings.read_text().splitlines()


def main() -> None:
    """Read the options, run the cases, and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="run this case alone, in this process")
    options = parser.parse_args()
    fast = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=fast if fast.is_dir() else None) as name:
        place = Path(name)
        if options.only is not None:
            print(run_case(make_readers(place / "samples"), options.seed, options.only))
            return
        counts, findings = fuzz(place, options.seed, options.first, options.cases)
    total: Counter[str] = Counter()
    for count in counts.values():
        total.update(count)
    print(json.dumps({"total": total, **counts}, indent=1))
    print("\n".join(findings))
    raise SystemExit(1 if findings else 0)


if __name__ == "__main__":
    main()
