"""Builds that are killed at random; `tests/benchmarks/kill_builds.py` kills hundreds."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_builds_end_with_the_same_bytes(kills: int) -> None:
    seed = random.SystemRandom().randrange(10**6)
    # In a process of its own, since it goes on in copies of itself.
    script = ROOT / "tests" / "benchmarks" / "kill_builds.py"
    options = ["--kills", str(kills), "--seed", str(seed), "--process-share", "0"]
    command = [sys.executable, script, *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"seed {seed}: {done.stdout}{done.stderr}"
    assert json.loads(done.stdout)["kills"] == kills
