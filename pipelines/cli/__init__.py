"""The commands `synth` and `detect`."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


def run_synth() -> None:
    """Run the command `synth`."""
    with _plain_interrupts():
        from pipelines.cli.synth import main
    main(prog_name="synth")


def run_detect() -> None:
    """Run the command `detect`."""
    with _plain_interrupts():
        from pipelines.cli.detect import main
    main(prog_name="detect")


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
