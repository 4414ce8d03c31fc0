"""Advice in messages: an option that a command may be told of is one that it has.

The sources are read, not run: from the function of a command to all functions, classes and
constants that it uses, directly or through others, and to what these say.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import click
import pytest

from pipelines.cli import detect, synth

ROOT = Path(synth.__file__).parents[2]

# Without the names of colours in a style sheet, `--ink: …` and `var(--ink)`.
OPTION = re.compile(r"(?<![\w-])(?<!var\()--[a-z][a-z-]*(?![a-z-]*:)")
COMMAND = re.compile(r"`((?:synth|detect) [a-z-]+)([^`]*)`")

UNSAID = {"synth fetch": {"synth.inspect.check:FAULTS"}}
"""What a command uses without the words in it: fetching does not print what `check` advises."""


@dataclass
class Part:
    """A function, class or constant: what it says and which parts it uses, ``module:name``."""

    where: str
    texts: list[str] = field(default_factory=list)
    uses: set[str] = field(default_factory=set)


def read_parts(source: str, module: str) -> dict[str, Part]:
    tree = ast.parse(source)
    names = imports([node for node in tree.body if isinstance(node, ast.ImportFrom)])
    own: dict[str, ast.stmt] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            own[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for name in (name for target in targets for name in ast.walk(target)):
                if isinstance(name, ast.Name):
                    own[name.id] = node
    names |= {name: f"{module}:{name}" for name in own}
    parts = {}
    for name, node in own.items():
        parts[f"{module}:{name}"] = part = Part(f"{module} line {node.lineno}")
        collect(node, part, names)
    return parts


def collect(node: ast.AST, part: Part, names: dict[str, str]) -> None:
    """Add what a piece of code says and uses, without its docstrings and annotations."""
    if isinstance(node, ast.FunctionDef | ast.Lambda):
        inside = list(ast.walk(node))[1:]
        own = {one.arg for one in inside if isinstance(one, ast.arg)}
        own |= {one.name for one in inside if isinstance(one, ast.FunctionDef)}
        own |= {n.id for n in inside if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        names = {name: of for name, of in names.items() if name not in own} | imports(inside)
    elif isinstance(node, ast.Name):
        part.uses.add(names.get(node.id, ""))
    elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        # Of an imported module.
        part.uses.add(f"{names.get(node.value.id, '').replace(':', '.')}:{node.attr}")
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        part.texts.append(node.value)
    elif isinstance(node, ast.JoinedStr):
        pieces = [v.value if isinstance(v, ast.Constant) else "…" for v in node.values]
        part.texts.append("".join(map(str, pieces)))
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(node, ast.JoinedStr) and isinstance(child, ast.Constant):
                continue
            if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
                continue
            if name == "decorator_list":
                # An option's own declaration names itself.
                declared = Part("")
                collect(child, declared, names)
                part.uses |= declared.uses
            elif isinstance(child, ast.AST):
                collect(child, part, names)


def imports(nodes: Iterable[ast.AST]) -> dict[str, str]:
    return {
        alias.asname or alias.name: f"{node.module}:{alias.name}"
        for node in nodes
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


@cache
def all_parts() -> dict[str, Part]:
    parts: dict[str, Part] = {}
    for package in ("synth", "detect", "pipelines"):
        for path in (ROOT / package).rglob("*.py"):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            parts |= read_parts(path.read_text(encoding="utf-8"), module.removesuffix(".__init__"))
    return parts


def all_commands() -> Iterator[tuple[str, click.Command]]:
    for program, group in {"synth": synth.main, "detect": detect.main}.items():
        context = click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            yield f"{program} {name}", command


COMMANDS = dict(all_commands())


def options(name: str) -> set[str]:
    known = {"--help"}
    if name in COMMANDS:
        for one in COMMANDS[name].params:
            known.update(one.opts, one.secondary_opts)
    return known


def within_reach(name: str) -> set[str]:
    callback = COMMANDS[name].callback
    assert callback is not None
    seen = set(UNSAID.get(name, ()))
    left = [f"{callback.__module__}:{callback.__name__}", "pipelines.cli.console:ToolGroup"]
    while left:
        part = left.pop()
        if part in all_parts() and part not in seen:
            seen.add(part)
            left += all_parts()[part].uses
    return seen - UNSAID.get(name, set())


def wrong_advice(text: str, known: set[str]) -> bool:
    """Whether a text names an option that is none of these, outside of a command in backticks."""
    # What begins with a space is put into a command line that is shown.
    if text.startswith(" --"):
        return False
    return not set(OPTION.findall(COMMAND.sub("", text))) <= known


@pytest.mark.parametrize("name", COMMANDS)
def test_messages_name_options_that_the_command_has(name: str) -> None:
    known = options(name)
    parts = [all_parts()[part] for part in within_reach(name)]
    wrong = [f"{p.where}: {text}" for p in parts for text in p.texts if wrong_advice(text, known)]
    assert sorted(wrong) == []


def test_commands_in_messages_have_the_options_that_stand_with_them() -> None:
    named = [
        (part.where, *found)
        for part in all_parts().values()
        for text in part.texts
        for found in COMMAND.findall(text)
    ]
    assert len(named) > 10
    wrong = [f"{w}: {name}{rest}" for w, name, rest in named
             if name not in COMMANDS or not set(OPTION.findall(rest)) <= options(name)]  # fmt: skip
    assert wrong == []


def test_messages_are_found_where_they_are_raised() -> None:
    for name, part in {
        "synth build": "synth.noise.sampling:_cut",
        "synth rotate": "synth.disk.description:require_usable",
        "detect train": "detect.checkpoint:claim_run",
        "detect study": "pipelines.label:label_frames",
    }.items():
        assert part in within_reach(name), name
    source = '''
TEXT = "lower --sure"
def shown(path):
    """Not --this."""
    raise ValueError(f"{path}: raise --max-var, or see `synth split --group none`" + TEXT)
'''
    parts = read_parts(source, "m")
    assert [wrong_advice(text, {"--sure"}) for text in parts["m:shown"].texts] == [True]
    assert "m:TEXT" in parts["m:shown"].uses
    assert parts["m:TEXT"].texts == ["lower --sure"]
