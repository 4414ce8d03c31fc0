"""Commands and files that the documentation names exist, with the options that it gives them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from pipelines.cli.detect import main as detect
from pipelines.cli.synth import main as synth

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES += [ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
GROUPS: dict[str, click.Group] = {"synth": synth, "detect": detect}

_FENCE = re.compile(r"^[ ]*```.*?\n(.*?)^[ ]*```", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`]+)`")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
_PROGRAM = re.compile(r"^\s*(?:\$ )?(?:\.venv/bin/)?((?:synth|detect|make)\b.*)")


def commands(program: str) -> dict[str, click.Command]:
    """All commands of a program, by name."""
    group = GROUPS[program]
    context = click.Context(group)
    found = {name: group.get_command(context, name) for name in group.list_commands(context)}
    return {name: command for name, command in found.items() if command is not None}


def blocks(page: Path) -> Iterator[str]:
    """Commands in the fenced blocks of a page, one line each, without comments."""
    for block in _FENCE.findall(page.read_text()):
        for line in re.sub(r"\\\n\s*", "", block).splitlines():
            if found := _PROGRAM.match(line):
                yield re.sub(r"\s+#.*", "", found[1])


def spans(page: Path) -> Iterator[str]:
    """Commands in the running text and in the tables of a page."""
    for span in _SPAN.findall(_FENCE.sub("", page.read_text())):
        text = " ".join(span.split())
        if _PROGRAM.match(text) and " " in text:
            yield text.removeprefix(".venv/bin/")


def help_lines() -> Iterator[str]:
    """The examples in the help of every command."""
    for program in GROUPS:
        for name, command in commands(program).items():
            text = re.sub(r"\\\n\s*", "", f"{command.help}\n{command.epilog}")
            lines = [line.replace("Example:", "") for line in text.splitlines()]
            examples = [found[1] for found in map(_PROGRAM.match, lines) if found]
            assert examples, f"`{program} {name} --help` has no example"
            yield from examples


def find_command(program: str, name: str) -> click.Command:
    """The command of a group; it has to be there."""
    known = commands(program)
    assert name in known, f"there is no `{program} {name}`"
    return known[name]


def check_usage(line: str, whole: bool) -> None:
    """Fail where click would reject a command line; files need not exist.

    `whole` lines must give what is required too. In running text, a command may be cut short.
    """
    program, name, *words = shlex.split(line.replace("[…]", ""))
    if program == "make" or name in ("…", "--help", "--version"):
        return
    command = find_command(program, name)
    context = click.Context(command, info_name=f"{program} {name}")
    if not whole:
        check_options(command, words)
        return
    given, _, _ = command.make_parser(context).parse_args([word for word in words if word != "…"])
    for param in command.params:
        value = given.get(param.name)
        unset = value is None or "UNSET" in repr(value) or value == ()
        assert not (unset and param.required), f"`{line}` lacks {param.name}"
        if unset or isinstance(param.type, (click.Path, click.File)):
            continue
        if isinstance(value, str):
            param.type_cast_value(context, (value,) if param.multiple else value)


def check_options(command: click.Command, words: list[str]) -> None:
    known = {name for param in command.params for name in (*param.opts, *param.secondary_opts)}
    for word in words:
        for option in _OPTION.findall(word):
            assert option in known | {"--help"}, f"`{command.name}` has no {option}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_blocks_are_accepted(page: Path) -> None:
    for line in blocks(page):
        if not line.startswith("make"):
            check_usage(line, whole=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_the_text_have_their_options(page: Path) -> None:
    for line in spans(page):
        check_usage(line, whole=False)


def test_examples_of_the_help_are_accepted() -> None:
    for line in help_lines():
        check_usage(line, whole=True)


def test_the_table_of_commands_is_whole_and_names_options_that_exist() -> None:
    rows = re.findall(
        r"^\| `((synth|detect) ([a-z-]+)[^`]*)` \|(.*)\|$", PAGES[0].read_text(), re.MULTILINE
    )
    for line, program, name, text in rows:
        check_options(find_command(program, name), [line, *_SPAN.findall(text)])
    listed = {(program, name) for _, program, name, _ in rows}
    assert listed == {(p, name) for p in GROUPS for name in commands(p)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_targets_of_make_exist_with_their_variables(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):.*##", makefile, re.MULTILINE))
    variables = set(re.findall(r"^([A-Z]+) \?=", makefile, re.MULTILINE))
    lines = [line for line in (*blocks(page), *spans(page)) if line.startswith("make ")]
    for line in lines:
        words = shlex.split(line)[1:]
        assert {word for word in words if "=" not in word} <= targets, line
        assert {word.partition("=")[0] for word in words if "=" in word} <= variables, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_configurations_and_links_lead_to_files(page: Path) -> None:
    text = page.read_text()
    for name in re.findall(r"\bconfigs/[\w/-]+\.yaml", text):
        assert (ROOT / name).is_file(), name
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize(
    "line",
    [
        "synth bild configs/build/demo.yaml --out OUT",
        "synth build configs/build/demo.yaml --output OUT",
        "synth build configs/build/demo.yaml --backend cloud",
        "synth build configs/build/demo.yaml --jobs",
        "synth build",
        "detect test weights.safetensors",
        "detect test weights.safetensors DATASET --threshold high",
    ],
)
def test_a_wrong_command_would_be_found(line: str) -> None:
    with pytest.raises((AssertionError, click.UsageError)):
        check_usage(line, whole=True)
