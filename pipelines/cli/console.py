"""How commands speak: errors in one line, JSON on stdout, progress on stderr."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
from tqdm import tqdm

from detect.errors import DetectError
from pipelines.errors import PipelineError
from synth.errors import SkippedWarning, SynthError

Item = TypeVar("Item")

_INTERRUPTED = "interrupted; run the same command again to go on"


class ToolGroup(click.Group):
    """A group of commands whose failures are one line on stderr and exit status 1.

    Wrong usage is one line and exit status 2, an interrupt 130. A traceback is a bug.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._later: dict[str, str] = {}

    def add_later(self, name: str, where: str) -> None:
        """Add a command that is imported when it is asked for, ``package.module:command``."""
        self._later[name] = where

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *self._later])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        # Where a name is wrong, all are needed, to suggest the right one.
        known = cmd_name in self.commands or cmd_name in self._later
        for name in [cmd_name] if known else [*self._later]:
            if name in self._later:
                module, _, command = self._later.pop(name).partition(":")
                self.add_command(getattr(import_module(module), command), name)
        return super().get_command(ctx, cmd_name)

    def main(  # type: ignore[override]
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        if not standalone_mode:
            return super().main(args, prog_name, standalone_mode=False, **extra)
        try:
            with notes_on_stderr(), _restored_interrupts():
                code = super().main(args, prog_name, standalone_mode=False, **extra)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            raise SystemExit(2) from None
        except click.UsageError as error:
            path = error.ctx.command_path if error.ctx else self.name
            fail(f"{error.format_message()} See `{path} --help`.", 2, prog_name)
        except click.ClickException as error:
            fail(error.format_message(), 1, prog_name)
        except click.Abort:
            fail(_INTERRUPTED, 130, prog_name)
        raise SystemExit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (SynthError, DetectError, PipelineError) as error:
            fail(str(error))
        except KeyboardInterrupt:
            if threading.current_thread() is threading.main_thread():
                # A second one would come on top of the line that tells of the first.
                signal.signal(signal.SIGINT, signal.SIG_IGN)
            fail(_INTERRUPTED, 130)
        except BrokenPipeError:
            # The reader of our output left (`| head`); there is nobody to tell.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(1) from None
        except MemoryError:
            fail("out of memory; use fewer workers, or smaller inputs")
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            fail(f"{where}{error.strerror or error}")


@contextmanager
def _restored_interrupts() -> Iterator[None]:
    """Leave the handling of interrupts as it was, for callers that live on."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) != before:
            signal.signal(signal.SIGINT, before)


@contextmanager
def notes_on_stderr() -> Iterator[None]:
    """Print each `SkippedWarning` as one line on stderr, once."""
    with warnings.catch_warnings():
        warnings.simplefilter("default", SkippedWarning)
        show = warnings.showwarning

        def note(message: Warning | str, category: type[Warning], *args: Any, **named: Any) -> None:
            if issubclass(category, SkippedWarning):
                click.echo(f"note: {message}", err=True)
            else:
                show(message, category, *args, **named)

        warnings.showwarning = note
        yield


def fail(message: str, status: int = 1, program: str | None = None) -> NoReturn:
    """Print one line on stderr, with the program's name, and leave."""
    context = click.get_current_context(silent=True)
    if program is None and context is not None:
        program = context.find_root().info_name
    line = " ".join(message.split())
    click.echo(f"{program or Path(sys.argv[0]).name}: {line}", err=True)
    raise SystemExit(status)


def emit_json(value: Any) -> None:
    """Print one JSON object on stdout."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def progress_bar(
    total: int | None, desc: str, unit: str = "image", *, scale: bool = False
) -> tqdm[Any]:
    """A bar with rate and remaining time on stderr, silent when that is no terminal.

    With `scale` large numbers are shown as ``1.2M``.
    """
    return tqdm(
        total=total,
        desc=desc,
        unit=unit if scale else f" {unit}",
        unit_scale=scale,
        file=sys.stderr,
        disable=not sys.stderr.isatty(),
    )


def progress(
    items: Iterable[Item], total: int | None, desc: str, unit: str = "image"
) -> Iterable[Item]:
    """Show a `progress_bar` while `items` are gone through."""
    with progress_bar(total, desc, unit) as bar:
        for item in items:
            yield item
            bar.update()


@contextmanager
def stage_bar(desc: str) -> Iterator[Callable[[str, int, int], None]]:
    """A bar that begins anew with every stage; yields what is called with stage, done and all."""
    with progress_bar(None, desc) as bar:
        stages: list[str] = []

        def report(stage: str, done: int, total: int) -> None:
            if stage not in stages:
                stages.append(stage)
                bar.reset(total)
                bar.set_description(stage)
            bar.update(done - bar.n)

        yield report


class _LabelValue(click.ParamType):
    """The value that marks targets, a number or a colour; comes as its code."""

    name = "value"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        from synth.masks import parse_label  # loads OpenCV

        try:
            return parse_label(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def label_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--label`` and ``--any-label``, which come as one `label`."""

    @wraps(command)
    def run(label: Any, any_label: bool, **given: Any) -> Any:
        if any_label and label is not None:
            raise click.UsageError("--label and --any-label exclude each other.")
        return command(label="any" if any_label else label, **given)

    named = click.option(
        "--label",
        type=_LabelValue(),
        help="The value that marks targets in masks with several labels: 2, or '#ff0000'.",
    )
    every = click.option(
        "--any-label", is_flag=True, help="Every value but 0 marks targets in the masks."
    )
    return named(every(run))


LABEL_VALUE = _LabelValue()


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """The ``--json`` flag that every command has."""
    return click.option(
        "--json", "as_json", is_flag=True, help="One JSON object on stdout, all else on stderr."
    )(command)
