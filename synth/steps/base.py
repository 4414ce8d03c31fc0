"""What every step is, and the names by which configurations and manifests know them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from synth.errors import RecipeError, no_such
from synth.scene import Labelled, Scene

if TYPE_CHECKING:
    from synth.noise.bank import NoiseBank
    from synth.noise.cameras import CameraNoise
    from synth.steps.transplant import Hosts

Choice = dict[str, Any]
"""What was drawn for one output: plain values, as a line of the manifest has them."""

_WORDS = {
    "bank": "a noise bank",
    "cameras": "models of cameras",
    "hosts": "images to put targets into",
}

DRAWS = 1 << 31
"""Seeds of random choices within an output are below this."""


@dataclass(frozen=True, slots=True)
class Supply:
    """What steps work with that a configuration cannot hold.

    Attributes
    ----------
    bank : NoiseBank or None
    cameras : CameraNoise or None
    hosts : Hosts or None
    """

    bank: NoiseBank | None = None
    cameras: CameraNoise | None = None
    hosts: Hosts | None = None


class Step:
    """One change of an image; subclasses are frozen dataclasses whose fields are its settings.

    A setting is tested in ``__post_init__``, which raises a `ValueError` that names it.

    Attributes
    ----------
    needs : mapping of str to str
        Fields that the build fills, each with an attribute of `Supply`; no configuration has them.
    changes_mask : bool
        Whether targets may be others afterwards.
    unique : bool
        Whether two outputs that are the same before it are never the same after it.
    """

    # Read by pydantic's TypeAdapter.
    __pydantic_config__ = {"extra": "forbid", "arbitrary_types_allowed": True}  # noqa: RUF012

    name: ClassVar[str]
    needs: ClassVar[Mapping[str, str]] = {}
    changes_mask: ClassVar[bool] = True

    @property
    def unique(self) -> bool:
        """See above; true unless a step says otherwise."""
        return True

    @property
    def enumerates(self) -> bool:
        """Whether it has variants."""
        return type(self).variants is not Step.variants

    def variants(self, scene: Labelled) -> Sequence[Choice]:
        """What can be enumerated: keyword arguments of `choose`, each of them one variant."""
        return ()

    def choose(self, scene: Scene, rng: np.random.Generator, **variant: Any) -> Choice | None:
        """Draw what is random; None leaves the image as it is, as a draw that was lost does.

        Parameters
        ----------
        scene : Scene
        rng : numpy.random.Generator
        **variant
            One of the recipe's variants, of this step or of one that it is chosen among; what it
            does not say is drawn.

        Returns
        -------
        dict or None
            All that `apply` has to know beside the scene, in plain values, and so the step's
            settings as far as they matter.
        """
        return {}

    def suits(self, scene: Scene) -> bool:
        """Whether it can do something to a scene at all; `Choose` takes another step otherwise."""
        return True

    def apply(self, scene: Scene, choice: Choice) -> tuple[Scene, dict[str, Any]]:
        """Change a scene; a function of its arguments, and of what the step `needs`, alone.

        Returns
        -------
        scene : Scene
        facts : dict
            What turned out, in plain values.
        """
        raise NotImplementedError

    def describe(self, choice: Choice, facts: Mapping[str, Any]) -> str:
        """Say in words what was done, for a person who looks at an output."""
        return plain_words(self.name, choice)

    def kind(self, choice: Choice) -> str:
        """What outputs are counted under that this step was the first to change."""
        return self.name

    def tally(self, choice: Choice, facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """What a report counts of an output, and the value of each."""
        yield from ()

    def resolve(
        self, scene: Scene, rng: np.random.Generator, variant: Choice
    ) -> tuple[Step, Choice] | None:
        """The step that is applied, and its choice; see `choose`."""
        choice = self.choose(scene, rng, **variant)
        return None if choice is None else (self, choice)

    def require(self, sources: Sequence[Labelled], repeats: int) -> None:
        """Raise a `RecipeError` where sources cannot be worked on, or not so many times each."""

    def bind(self, supply: Supply) -> Step:
        """The step with what it needs; what it has already stays."""
        if not self.needs or not is_dataclass(self):
            return self
        given = {
            field: getattr(supply, what)
            for field, what in self.needs.items()
            if getattr(self, field) is None
        }
        bound: Step = replace(self, **given)
        return bound

    def needed(self, field: str) -> Any:
        """What a field of `needs` holds; a `RecipeError` where nothing was given for it."""
        found = getattr(self, field)
        if found is None:
            raise RecipeError(f"{self.name}: needs {_WORDS[self.needs[field]]}; give `{field}`")
        return found

    def inner(self) -> Iterator[Step]:
        """The step, and those within it."""
        yield self

    @classmethod
    def parse(cls, given: Any, build: Callable[[type[Step], Any], Step]) -> Step:
        """Make the step from its settings as a configuration has them; see `parse_step`."""
        return build(cls, {} if given is None else given)

    def plain(self) -> Any:
        """What a configuration holds for the step."""
        if not is_dataclass(self):
            return {}
        return {
            field.name: _plain(getattr(self, field.name))
            for field in fields(self)
            if field.name not in self.needs
        }


Registered = TypeVar("Registered", bound=type[Step])

_steps: dict[str, type[Step]] = {}


def register_step(step: Registered) -> Registered:
    """Make a step known by its `name`, to configurations and to readers of manifests.

    A class of the same name takes the place of the one before. Its settings need defaults: outputs
    are made again from their choices alone.

    Raises
    ------
    TypeError
        It is no dataclass that inherits `Step`, or has no name.

    Examples
    --------
    >>> @register_step
    ... @dataclass(frozen=True)
    ... class Invert(Step):
    ...     name = "invert"
    ...     changes_mask = False
    ...
    ...     def apply(self, scene, choice):
    ...         return scene.noisy(~scene.image), {}
    >>> find_step("invert").name
    'invert'
    """
    if not is_dataclass(step) or not issubclass(step, Step):
        raise TypeError(f"{step.__name__}: a step is a dataclass that inherits Step")
    if not isinstance(getattr(step, "name", None), str):
        raise TypeError(f"{step.__name__}: a step has a `name`, by which configurations know it")
    _steps[step.name] = step
    return step


def find_step(name: str) -> type[Step]:
    """The step of a name; `RecipeError` with the nearest name where there is none."""
    if name in _steps:
        return _steps[name]
    raise RecipeError(no_such("step", name, _steps))


def parse_step(given: Any, build: Callable[[type[Step], Any], Step]) -> Step:
    """Make a step from what a configuration holds: its name alone, or ``{name: settings}``.

    Parameters
    ----------
    given : object
        A plain value.
    build : callable
        Makes a step of a class from its settings, and raises a `ValueError` where it cannot.

    Raises
    ------
    ValueError
        It is no step, or one of its settings is wrong.
    """
    if isinstance(given, str):
        given = {given: None}
    if not isinstance(given, Mapping) or len(given) != 1:
        raise ValueError(f"each step is one `name: {{settings}}`, not {given!r:.80}")
    ((name, settings),) = given.items()
    try:
        step = find_step(str(name))
    except RecipeError as error:
        raise ValueError(str(error)) from None
    return step.parse(settings, build)


def draw_target(scene: Scene, rng: np.random.Generator, variant: Choice) -> int | None:
    """Index of a variant's target, or of one that is drawn; None where the scene has none."""
    if "target" in variant:
        return int(variant["target"])
    return int(rng.integers(len(scene.targets))) if scene.targets else None


def require_target(scene: Scene, index: int) -> int:
    """The index of a target; a `RecipeError` where the scene has no such target."""
    if not 0 <= index < len(scene.targets):
        raise RecipeError(f"source {scene.id} has no target {index}")
    return index


def as_tuple(value: Any) -> tuple[Any, ...]:
    """One value, or several, as several."""
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def check_range(name: str, values: float | Sequence[float], low: float, high: float) -> None:
    """Raise a `ValueError` that names a setting unless it is one number or several in a range."""
    if not as_tuple(values):
        raise ValueError(f"{name}: needs a number")
    for value in as_tuple(values):
        if not low <= value <= high:
            raise ValueError(f"{name}: must be from {low:g} to {high:g}, not {value:g}")


def check_span(name: str, span: Sequence[float] | None, low: float, high: float) -> None:
    """Raise a `ValueError` unless a setting is two numbers in a range, the smaller one first."""
    if span is None:
        return
    if len(span) != 2 or not low <= span[0] <= span[1] <= high:
        raise ValueError(
            f"{name}: must be two numbers from {low:g} to {high:g}, the smaller one first"
        )


def plain_words(name: str, choice: Choice) -> str:
    """Say what was chosen for a step of which no more than its name is known."""
    plain = {key: value for key, value in choice.items() if isinstance(value, str | int | float)}
    return f"{name} {', '.join(f'{key} {value}' for key, value in plain.items())}".rstrip()


def _plain(value: Any) -> Any:
    return [_plain(one) for one in value] if isinstance(value, tuple | list) else value
