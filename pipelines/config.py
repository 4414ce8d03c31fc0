"""Typed configuration: YAML in, validated objects out.

An unknown key is an error that suggests the right one; so is a key that is given twice.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast, get_args, get_origin

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from pipelines.errors import ConfigError
from synth.errors import nearest_name
from synth.masks import Label, describe_label, parse_label

Model = TypeVar("Model", bound="StrictModel")
Settings = TypeVar("Settings")


class StrictModel(BaseModel):
    """Base of every configuration: no unknown keys, no change once made."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool):
            field = cls.model_fields[str(info.field_name)]
            if "bool" not in str(field.annotation):
                raise ValueError(f"{str(value).lower()} is not a value that it can have")
        return value


def _label_text(given: Any) -> str | None:
    return None if given is None else describe_label(parse_label(given))


def label_of(text: str | None) -> Label | None:
    """The label that a configuration's `LabelText` names."""
    return None if text is None else parse_label(text)


def label_text(label: Label | None) -> str | None:
    """A label as a configuration has it."""
    return None if label is None else describe_label(label)


LabelText = Annotated[str | None, BeforeValidator(_label_text)]
"""The value that marks targets in masks with several labels, see `synth.masks.parse_label`."""


def build_step(step: type[Settings], given: Any) -> Settings:
    """Make a step, or another plain dataclass, from a configuration's mapping.

    Raises
    ------
    ValueError
        A key is unknown, or a value is wrong: one line that names it.
    """
    name = getattr(step, "name", "")
    if not isinstance(given, Mapping):
        raise ValueError(f"{name}: must hold `key: value` pairs, not {given!r:.60}".lstrip(": "))
    name += "." * bool(name)
    filled = getattr(step, "needs", ())
    known = {field.name: field for field in fields(cast(Any, step)) if field.name not in filled}
    for key, value in given.items():
        if key not in known:
            raise ValueError(f"{name}{_unknown(str(key), list(known))}")
        if isinstance(value, bool) and "bool" not in str(known[key].type):
            raise ValueError(f"{name}{key}: {str(value).lower()} is not a value that it can have")
    try:
        return TypeAdapter(step).validate_python(dict(given))
    except ValidationError as error:
        problems = dict.fromkeys(
            name + _describe(problem) for problem in _join_alternatives(error.errors())
        )
        raise ValueError("; ".join(problems)) from None


def _unknown(key: str, known: Sequence[str]) -> str:
    return f"{_printable(key)}: unknown key; {nearest_name(key, known)}"


def _printable(key: str) -> str:
    """A key as part of a message: on one line, not too long, without half characters."""
    shown = "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in key
    )
    return shown if len(shown) <= 80 else f"{shown[:79]}…"


def load_config(
    path: Path | str,
    model: type[Model],
    overrides: Sequence[str] = (),
    *,
    defaults: Mapping[str, Any] | None = None,
    changes: Mapping[str, Any] | None = None,
    **values: Any,
) -> Model:
    """Read a YAML file into a configuration.

    Parameters
    ----------
    path : Path or str
    model : type
        A `StrictModel`.
    overrides : sequence of str
        ``key=value`` or ``outer.inner=value``, the value in YAML; as given to ``--set``.
    defaults : mapping, optional
        Top-level keys for where the file has none.
    changes : mapping, optional
        Values of keys like ``outer.inner`` that replace the file's, before `overrides` do.
    **values
        Top-level keys that replace the file's, where they are not None.

    Raises
    ------
    ConfigError
        The file is absent or no YAML mapping, or a key or value is wrong.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from pipelines.build.config import BuildConfig
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "mine.yaml"
    ...     _ = path.write_text("name: mine\\ndata: mycamera\\n")
    ...     config = load_config(path, BuildConfig, ["noise.by=folder"])
    >>> config.name, config.noise.by
    ('mine', 'folder')
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path!s:.500}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not a text file, so no configuration") from None
    loaded = parse_yaml(text, str(path))
    if loaded is None:
        loaded = {}
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path}: must hold `key: value` lines")
    loaded = {**(defaults or {}), **loaded}
    for key, value in (changes or {}).items():
        _assign(loaded, str(key), value, f"{path}: {key}")
    for override in overrides:
        _override(loaded, override)
    loaded |= {key: value for key, value in values.items() if value is not None}
    return validate(loaded, model, str(path))


def validate(values: Mapping[str, Any], model: type[Model], where: str) -> Model:
    """Turn plain values into a configuration; `where` begins the message of a `ConfigError`."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        found = _join_alternatives(error.errors())
        # A list without one valid item is also "too short"; that says nothing more.
        inner = {problem["loc"][:-1] for problem in found}
        found = [p for p in found if p["type"] != "too_short" or p["loc"] not in inner]
        problems = dict.fromkeys(_explain(problem, model) for problem in found)
        raise ConfigError(f"{where}: {'; '.join(problems)}") from None


def _join_alternatives(problems: Sequence[Any]) -> list[Any]:
    """Make one problem of those that a value has with each of several types that it may have."""
    joined: list[Any] = []
    first: dict[tuple[int | str, ...], int] = {}
    for problem in problems:
        # Pydantic names the alternative in the place: ("side", "literal['auto']").
        place = tuple(
            part
            for part in problem["loc"]
            if not str(part).startswith(("literal[", "constrained-", "tuple["))
            and part not in ("int", "float", "str")
        )
        if place == problem["loc"]:
            joined.append(problem)
        elif place in first:
            before = joined[first[place]]
            words = problem["msg"].removeprefix("Input should be ")
            joined[first[place]] = before | {"msg": f"{before['msg']}, or {words}"}
        else:
            first[place] = len(joined)
            joined.append(problem | {"loc": place})
    return joined


# Of a configuration with all of its aliases written out: a thousand times what any has.
_MOST_VALUES = 100_000
_MOST_ALIASES = 1_000
_MOST_MERGED = 1_000
_MOST_CHARACTERS = 1 << 20


class _Loader(yaml.SafeLoader):
    """YAML without code and without repeated keys, that does not grow without bound."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._aliases = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            self._aliases += 1
            if self._aliases > _MOST_ALIASES:
                raise yaml.YAMLError(f"has more than {_MOST_ALIASES:,} aliases")
        return super().compose_node(parent, index)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        if len(node.value) > _MOST_MERGED:
            raise yaml.constructor.ConstructorError(
                None, None, f"more than {_MOST_MERGED:,} keys are merged", node.start_mark
            )

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else id(key_node)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str, where: str) -> Any:
    """Read plain values from YAML; `where` begins the message of a `ConfigError`."""
    try:
        if len(text) > _MOST_CHARACTERS:
            raise ValueError(f"it has more than {_MOST_CHARACTERS:,} characters")
        # A subclass of SafeLoader: it builds plain values only.
        loaded = yaml.load(text, Loader=_Loader)
        if _count_values(loaded, {}) > _MOST_VALUES:
            raise ValueError(f"its aliases stand for more than {_MOST_VALUES:,} values")
        return loaded
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or "it cannot be parsed"
        raise ConfigError(f"{where}{line}: is not valid YAML: {reason}") from None
    except Exception as error:  # values with tags of their own raise half a dozen types
        raise ConfigError(f"{where}: is not valid YAML: {error!s:.100}") from None


def _count_values(value: Any, known: dict[int, float]) -> float:
    """Number of values in a value, each alias written out; infinite where it holds itself."""
    if not isinstance(value, dict | list | set | tuple):
        return 1
    if id(value) not in known:
        known[id(value)] = float("inf")
        inside = [*value, *value.values()] if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_count_values(one, known) for one in inside)
    return known[id(value)]


def _override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {override}: must be key=value")
    _assign(values, key, parse_yaml(text, f"--set {override}"), f"--set {override}")


def _assign(values: dict[str, Any], key: str, value: Any, where: str) -> None:
    """Set ``outer.inner`` in nested mappings; what leads there is made.

    In a list of steps a key is the name of a step, wherever it is in there; null takes it out.
    """
    *outer, last = key.split(".")
    places: list[Any] = [values]
    for part in outer:
        places = [inner for place in places for inner in _inner(place, part, where)]
    for place in places:
        if not isinstance(place, list):
            place[last] = value
            continue
        for holder, step in list(_find_steps(place, last, where)):
            if value is None:
                holder.remove(step)
            else:
                step[last] = value


def _inner(place: Any, part: str, where: str) -> Iterator[Any]:
    holders = (
        [step for _, step in _find_steps(place, part, where)]
        if isinstance(place, list)
        else [place]
    )
    for holder in holders:
        if holder.get(part) is None:
            holder[part] = {}
        if not isinstance(holder[part], dict | list):
            raise ConfigError(f"{where}: {part!r} holds a value, not keys")
        yield holder[part]


def _find_steps(steps: list[Any], name: str, where: str) -> list[tuple[list[Any], dict[str, Any]]]:
    """The steps of a name in a list of steps, and within its steps, each with the list it is in."""

    def walk(inner: list[Any]) -> Iterator[tuple[list[Any], dict[str, Any]]]:
        # A step by its name alone is one without settings.
        inner[:] = [{one: None} if isinstance(one, str) else one for one in inner]
        for one in inner:
            if isinstance(one, dict):
                if name in one and name != "share":
                    yield inner, one
                for value in one.values():
                    if isinstance(value, list):
                        yield from walk(value)

    found = list(walk(steps))
    if not found:
        raise ConfigError(f"{where}: no step is called {name!r:.80}")
    return found


def _explain(problem: Any, model: type[BaseModel]) -> str:
    location = [str(part) for part in problem["loc"]]
    key = ".".join(location)
    if problem["type"] == "extra_forbidden":
        *outer, last = location
        known = _fields_at(model, outer)
        # A key of an inner part, given without that part.
        inside = [f"{name}.{last}" for name in known if last in _fields_at(model, [*outer, name])]
        hint = f"did you mean {inside[0]!r}?" if inside else nearest_name(last, known)
        return f"{_printable(key)}: unknown key; {hint}"
    return _describe(problem)


def _describe(problem: Any) -> str:
    """A problem of pydantic's as one line that begins with the key."""
    key = _printable(".".join(map(str, problem["loc"])))
    message = problem["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if problem["type"] == "missing":
        return f"{key}: is missing"
    given = problem.get("input")
    if isinstance(given, str | int | float | bool) and problem["type"] != "value_error":
        message += f" (got {given!r:.60})"
    return f"{key}: {message}" if key else message


def _fields_at(model: type[BaseModel], location: Sequence[str]) -> list[str]:
    """Names of the keys that are known at a place in a configuration."""
    places = iter(location)
    for part in places:
        field = model.model_fields.get(part)
        if field is None:
            return []
        options = [field.annotation, *get_args(field.annotation)]
        inner = [o for o in options if isinstance(o, type) and issubclass(o, BaseModel)]
        if not inner:
            return []
        model = inner[0]
        if get_origin(field.annotation) in (dict, tuple):
            next(places, None)  # the name or number of one among many
    return list(model.model_fields)
