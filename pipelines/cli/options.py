"""Command-line options from the settings of plain dataclasses, which are declared there alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import click

from pipelines.config import build_step, parse_yaml
from pipelines.errors import ConfigError

Settings = TypeVar("Settings")
Command = TypeVar("Command", bound=Callable[..., Any])


# In a docstring's section: names, and the lines below them.
_ATTRIBUTE = re.compile(r"^    (\w[\w, ]*?)(?: :.*)?\n((?:        .*\n?)+)", re.M)


class _Value(click.ParamType):
    """A number or a word, or several between commas."""

    name = "value"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            parts = [parse_yaml(part, "value") for part in value.split(",")]
        except ConfigError:
            self.fail(f"{value!r} is no value", param, ctx)
        return tuple(parts) if parts[1:] else parts[0]


def settings_options(
    settings: type[Any], names: Mapping[str, str] | Sequence[str]
) -> Callable[[Command], Command]:
    """Options for some fields of a dataclass, with its defaults and the words of its docstring.

    Parameters
    ----------
    settings : type
        A dataclass whose docstring has a section "Attributes".
    names : mapping of str to str, or sequence of str
        Fields, and the names of their options where those are others.
    """
    texts = _texts(settings)
    of = {field.name: field for field in fields(settings)}
    hints = get_type_hints(settings)
    renamed = names if isinstance(names, Mapping) else dict(zip(names, names, strict=True))

    def add(command: Command) -> Command:
        for name, option in reversed(list(renamed.items())):
            words = get_args(hints[name]) if get_origin(hints[name]) is Literal else ()
            named = words if all(isinstance(word, str) for word in words) else ()
            command = _option(of[name], option, texts.get(name, ""), named)(command)
        return command

    return add


def make_settings(
    settings: type[Settings], given: Mapping[str, Any], names: Mapping[str, str] | None = None
) -> Settings:
    """Make a dataclass from what its options were given; what was not keeps its default.

    Raises
    ------
    click.UsageError
        A value is wrong; the message names the option.
    """
    try:
        chosen = {key: _one(value) for key, value in given.items() if _given(value)}
        return build_step(settings, chosen)
    except ValueError as error:
        prefix = getattr(settings, "name", "")
        field, colon, words = str(error).removeprefix(f"{prefix}.").partition(":")
        option = (names or {}).get(field, field).replace("_", "-")
        raise click.UsageError(
            f"Invalid value for '--{option}'{colon}{words}" if colon else str(error)
        ) from None


def _given(value: Any) -> bool:
    return value is not None and value is not False and value != ()


def _one(value: Any) -> Any:
    """The value of an option, or all of one that was given several times."""
    if not isinstance(value, tuple):
        return value
    values = [one for part in value for one in (part if isinstance(part, tuple) else (part,))]
    return values if values[1:] else values[0]


def _option(
    field: Field[Any], name: str, text: str, words: Sequence[str]
) -> Callable[[Command], Command]:
    flag = f"--{name.replace('_', '-')}"
    kind = str(field.type)
    if kind == "bool":
        return click.option(flag, field.name, is_flag=True, help=text)
    if words:
        return click.option(
            flag, field.name, type=click.Choice(words), help=f"{text}  [default: {field.default}]"
        )
    default = "" if field.default in (None, MISSING) else f"  [default: {_shown(field.default)}]"
    several = "tuple" in kind
    return click.option(flag, field.name, type=_Value(), multiple=several, help=text + default)


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _texts(settings: type[Any]) -> dict[str, str]:
    """First sentence of what a docstring says of each attribute."""
    found: dict[str, str] = {}
    for one in reversed(settings.__mro__):
        _, _, section = (one.__doc__ or "").partition("Attributes\n    ----------\n")
        for names, text in _ATTRIBUTE.findall(section):
            words = " ".join(text.split())
            if words.startswith("See "):  # as its base says
                continue
            sentence = re.split(r"(?<=\.) |; see|, see `", words)[0].rstrip(".,") + "."
            found |= dict.fromkeys(names.split(", "), sentence.replace("`", ""))
    return found
