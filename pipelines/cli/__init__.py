"""The commands `synth` and `detect`."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_INTERRUPTED = 130


def run_synth() -> None:
    """Run the command `synth`."""
    # Its matrices are small: threads of the linear algebra mostly wait for each other.
    for library in ("OPENBLAS", "MKL"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
    with _plain_interrupts():
        from pipelines.cli.synth import main
    _run(main, "synth")


def run_detect() -> None:
    """Run the command `detect`."""
    with _plain_interrupts():
        from pipelines.cli.detect import main
    _run(main, "detect")


def _run(main: Callable[..., Any], name: str) -> None:
    try:
        main(prog_name=name)
    except (KeyboardInterrupt, SystemExit) as leaving:
        code = _INTERRUPTED if isinstance(leaving, KeyboardInterrupt) else leaving.code
        if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
            # One that comes while the interpreter winds up has nothing to add.
            quiet = signal.SIG_IGN if code == _INTERRUPTED else signal.SIG_DFL
            signal.signal(signal.SIGINT, quiet)
        raise SystemExit(code) from None


@contextmanager
def _plain_interrupts() -> Iterator[None]:
    """Let an interrupt end the process without a word while libraries load."""
    before = signal.getsignal(signal.SIGINT)
    if before == signal.SIG_IGN:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
