"""A recipe: steps in the order in which they change an image, and the plan of a set made by it.

Nothing random is kept anywhere: all that an output is made with comes from the seed and its id.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synth.errors import RecipeError
from synth.frames import Frame, Mask, require_frame, require_mask
from synth.noise.realisation import SEEDS, realisation_seed
from synth.scene import Draws, Labelled, Scene
from synth.seeds import generator, quick_generator
from synth.steps.base import Choice, Step, Supply, find_step


@dataclass(frozen=True, slots=True)
class Sample:
    """What a recipe made.

    Attributes
    ----------
    image : (H, W) ndarray of the source's dtype
    mask : (H, W) ndarray of bool
    steps : tuple of (str, dict)
        Name and choice of every step that did something.
    facts : dict
        What turned out. Both are plain values, as a line of the manifest has them.
    """

    image: Frame
    mask: Mask
    steps: tuple[tuple[str, Choice], ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def record(self) -> dict[str, Any]:
        """Steps and facts as a manifest has them."""
        return {"steps": [{name: choice} for name, choice in self.steps], "facts": self.facts}


@dataclass(frozen=True, slots=True)
class Output:
    """One image that a plan makes of a source.

    Attributes
    ----------
    id : str
    variant : dict
        See `Step.variants`; empty where the recipe has none.
    draws : Draws
    """

    id: str
    variant: Choice
    draws: Draws


class Recipe:
    """Steps that change an image one after the other.

    Parameters
    ----------
    steps : sequence of Step

    Examples
    --------
    >>> from synth.steps import Turn
    >>> image = np.arange(64, dtype=np.uint8).reshape(8, 8)
    >>> mask = np.zeros((8, 8), bool)
    >>> mask[3, 3] = True
    >>> sample = Recipe([Turn(side=4, turns=2)])(image, mask, rng=np.random.default_rng(0))
    >>> np.argwhere(sample.mask).tolist()
    [[2, 2]]
    """

    def __init__(self, steps: Iterable[Step]) -> None:
        self.steps = tuple(steps)
        for step in self.steps:
            if not isinstance(step, Step):
                raise TypeError(f"a recipe is made of steps, and {step!r:.80} is none")

    def __call__(
        self,
        image: Frame | Scene,
        mask: Mask | None = None,
        rng: np.random.Generator | int | None = None,
        *,
        id: str = "",
    ) -> Sample:
        """Make one output.

        Parameters
        ----------
        image : (H, W) ndarray of uint8 or uint16, or Scene
            DN. A scene that is given again and again remembers its targets and backgrounds, in some
            fifteen times the memory of its image.
        mask : (H, W) ndarray of bool
            Not with a scene, which has its own.
        rng : numpy.random.Generator or int, optional
            One number is drawn from it, or it is a seed; without it every call is random.
        id : str
            Name of the image, for a transplant to tell it from others.

        Returns
        -------
        Sample
            Of new arrays.

        Raises
        ------
        TypeError
            An array is of another type; the message says how to convert it.
        ValueError
            The shapes are not (H, W), or not the same.
        RecipeError, NoiseError
            A step cannot work on the image.
        """
        if isinstance(image, Scene):
            if mask is not None:
                raise TypeError("mask: a scene has its own; give the one or the other")
            scene = image
            _require_pair(scene.image, scene.mask)
        else:
            scene = Scene(*_require_pair(image, mask), id)
        entropy = int(np.random.default_rng(rng).integers(SEEDS))
        made = self._apply(scene, entropy, None, {})
        # Whoever changes the result does not change what was given.
        return replace(made, image=made.image.copy(), mask=made.mask.copy())

    def bind(self, supply: Supply) -> Recipe:
        """The recipe with what its steps need."""
        return Recipe(step.bind(supply) for step in self.steps)

    def inner(self) -> Iterator[Step]:
        """All steps, and those within them."""
        for step in self.steps:
            yield from step.inner()

    def needs(self, what: str) -> bool:
        """Whether a step needs a part of the `Supply`."""
        return any(what in step.needs.values() for step in self.inner())

    def make(self, scene: Scene, output: Output, seed: int) -> Sample:
        """Make an output of a plan.

        Parameters
        ----------
        scene : Scene
            Its source; what outputs of one source have in common is computed once where they are
            given the same scene.
        output : Output
        seed : int
            The plan's.

        Raises
        ------
        RecipeError, NoiseError
            A step cannot work on the image.
        """
        digest = hashlib.sha256(f"{seed}\0{output.id}".encode("utf-8", "surrogatepass")).digest()
        entropy = int.from_bytes(digest[:16], "little")
        return self._apply(scene, entropy, output.draws, output.variant)

    def _apply(self, scene: Scene, entropy: int, draws: Draws | None, variant: Choice) -> Sample:
        steps: list[tuple[str, Choice]] = []
        facts: dict[str, Any] = {}
        alike = draws is not None and draws.repeat > 0
        for number, step in enumerate(self.steps):
            if draws is not None:
                # Two steps that add noise add different noise.
                noise = (draws.noise + number * _APART) % SEEDS
                scene = scene.drawn(Draws(noise, draws.variant + number, draws.repeat, alike))
            rng = quick_generator(entropy, step.name, str(number))
            given = variant if number == self.enumerating else {}
            try:
                found = step.resolve(scene, rng, given)
                if found is None:
                    continue
                applied, choice = found
                after, turned_out = applied.apply(scene, choice)
            except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
                words = f"{type(error).__name__}: {error}"
                raise RecipeError(f"step {step.name}: {words}") from error
            _require_sound(applied, scene, after)
            scene = after
            alike = alike and not applied.unique
            steps.append((applied.name, choice))
            for key, value in turned_out.items():
                facts[key if key not in facts else f"{key}_{len(steps)}"] = value
        return Sample(scene.image, scene.mask, tuple(steps), facts)

    @cached_property
    def enumerating(self) -> int | None:
        """Number of the step whose variants are walked through.

        The first that has some, unless one before it changes the targets that they would be of.
        """
        for number, step in enumerate(self.steps):
            if step.enumerates:
                return number
            if step.changes_mask:
                break
        return None

    def variants(self, source: Labelled) -> Sequence[Choice]:
        """What is walked through of a source: the variants of one step, or the source itself."""
        number = self.enumerating
        return ({},) if number is None else self.steps[number].variants(source)

    def plain(self) -> list[dict[str, Any]]:
        """The steps as a configuration has them."""
        return [{step.name: step.plain()} for step in self.steps]


# Between the noise seeds of the steps of one output; far above all ordinals.
_APART = 1 << 44


def remake(
    scene: Scene, steps: Iterable[tuple[str, Choice]], supply: Supply | None = None
) -> Sample:
    """Make an output again from its source and the steps of its manifest line.

    Parameters
    ----------
    scene : Scene
    steps : iterable of (str, dict)
        Name and choice of every step.
    supply : Supply, optional
        Where steps need noise or hosts.

    Raises
    ------
    RecipeError
        A step is not known, or there is no such target.
    """
    for name, choice in steps:
        step = find_step(name)().bind(supply or Supply())
        scene, _ = step.apply(scene, choice)
    return Sample(scene.image, scene.mask)


class Plan:
    """All outputs of a recipe, decided one source at a time and only when they are asked for.

    First come the variants of every source in order, once each; what `count` asks beyond them are
    repeats, chosen without replacement in rounds. What is kept grows with the variants, not with
    the outputs.

    Parameters
    ----------
    recipe : Recipe
        With what its steps need.
    sources : sequence of Outline
    seed : int
    count : int, optional
        Number of outputs; each variant once without it. Fewer are a seeded choice.
    taken_ids : iterable of str, optional
        Ids of the images that the outputs come to lie beside. When all are numbers of one width
        the outputs continue them; otherwise, and without any, an output is called after its source
        and its variant, as ``{source}_k{turns}_j{target}``, a repeat ``…_r{round}``.
    keep_ids : bool
        Outputs are called as their sources are; for recipes without variants.

    Raises
    ------
    RecipeError
        Nothing to make outputs of, or more repeats than the recipe tells apart, or a step cannot
        work on a source.
    """

    def __init__(
        self,
        recipe: Recipe,
        sources: Sequence[Labelled],
        *,
        seed: int,
        count: int | None = None,
        taken_ids: Iterable[str] | None = None,
        keep_ids: bool = False,
    ) -> None:
        self._recipe = recipe
        self._sources = sources
        self._seed = seed
        self._keep_ids = keep_ids
        self._starts = np.cumsum([0] + [len(recipe.variants(source)) for source in sources])
        self._available = available = int(self._starts[-1])
        self._wanted = wanted = available if count is None else count
        if wanted and not available:
            raise RecipeError("no training image has a target, so there is nothing to make")
        self._rounds, rest = divmod(wanted, available) if available else (0, 0)
        rounds = self._rounds + (rest > 0)
        if rounds > 1 and not any(step.unique for step in recipe.steps):
            raise RecipeError(
                f"{wanted} negatives are asked for, but {available} are all there are without a "
                "step that tells repeats apart: noise, moves, transplants or distractors"
            )
        if wanted:
            for step in recipe.steps:
                step.require(sources, rounds)
        self._last = _choose(available, rest, self._rounds, seed)
        purpose = _name_noise(recipe, sources)
        self._noise = realisation_seed(seed, purpose, 0)
        self._variant = realisation_seed(seed, f"variants {purpose}", 0)
        taken = set(taken_ids or ())
        self._first_number = None if keep_ids else _first_number(taken)
        if self._first_number is None and taken and not keep_ids:
            clash = next((id_ for id_ in self.ids() if id_ in taken), None)
            if clash is not None:
                raise RecipeError(f"the data set has an image called {clash!r} already; rename it")

    def __len__(self) -> int:
        return self._wanted

    def ids(self) -> Iterator[str]:
        """Ids of all outputs in the order of their numbers."""
        if self._first_number is not None:
            yield from (self._id("", {}, number, 0) for number in range(self._wanted))
            return
        for round_ in range(self._rounds + (len(self._last) > 0)):
            for index, source in enumerate(self._sources):
                variants = self._recipe.variants(source)
                for which, _, _ in self._members(index, (round_,)):
                    yield self._id(source.id, variants[which], 0, round_)

    def count(self, index: int) -> int:
        """Number of outputs of a source."""
        low, high = self._starts[index], self._starts[index + 1]
        last = np.searchsorted(self._last, (low, high))
        return int(self._rounds * (high - low) + last[1] - last[0])

    def of(self, index: int) -> Outputs:
        """The outputs of one source, in the order of their numbers."""
        return Outputs(self, index)

    def outputs(self, index: int) -> Iterator[Output]:
        """Decide the outputs of a source."""
        source = self._sources[index]
        variants = self._recipe.variants(source)
        start = int(self._starts[index])
        for which, number, round_ in self._members(index, range(self._rounds + 1)):
            id_ = self._id(source.id, variants[which], number, round_)
            seeds = self._noise + number, self._variant + (start + which) * len(self._recipe.steps)
            yield Output(id_, variants[which], Draws(*seeds, round_))

    def _members(self, index: int, rounds: Iterable[int]) -> Iterator[tuple[int, int, int]]:
        """(variant, number among all, round) of the outputs of a source."""
        low, high = map(int, self._starts[index : index + 2])
        for round_ in rounds:
            first = round_ * self._available
            if round_ < self._rounds:
                for which in range(low, high):
                    yield which - low, first + which, round_
                continue
            begin, end = np.searchsorted(self._last, (low, high)).tolist()
            for rank in range(begin, end):
                yield int(self._last[rank]) - low, first + rank, round_

    def _id(self, source: str, variant: Choice, number: int, round_: int) -> str:
        if self._first_number is not None:
            start, width = self._first_number
            return f"{start + number:0{width}d}"
        if self._keep_ids:
            return source
        # Without variants nothing else tells the first output from its source.
        return source + _suffix(variant) + (f"_r{round_}" if round_ or not variant else "")


@dataclass(frozen=True, slots=True)
class Outputs:
    """The outputs of one source; they are decided anew whenever they are gone through."""

    plan: Plan
    index: int

    def __len__(self) -> int:
        return self.plan.count(self.index)

    def __iter__(self) -> Iterator[Output]:
        return self.plan.outputs(self.index)


def _suffix(variant: Mapping[str, Any]) -> str:
    """What the ids of a variant's outputs end with."""
    short = {"quarter_turns": "k", "target": "j"}
    return "".join(f"_{short.get(key, key)}{variant[key]}" for key in sorted(variant))


def _name_noise(recipe: Recipe, sources: Sequence[Labelled]) -> str:
    """Name the use of noise, so that different builds with one seed have no noise in common."""
    texts = (f"{one.id} {one.shape} {[target.box for target in one.targets]}" for one in sources)
    text = "\0".join((repr(recipe.plain()), *texts))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _choose(available: int, wanted: int, round_: int, seed: int) -> NDArray[np.intp]:
    """The variants of the last round, in order; it alone is a choice."""
    if not wanted:
        return np.empty(0, np.intp)
    order = generator(seed, "round", str(round_)).permutation(available)
    return np.sort(order[:wanted])


def _first_number(taken: set[str]) -> tuple[int, int] | None:
    """First free number and the width of the numbers, when every id is a number of one width."""
    widths = {len(id_) for id_ in taken}
    if len(widths) != 1 or not all(id_.isascii() and id_.isdigit() for id_ in taken):
        return None
    return max(int(id_) for id_ in taken) + 1, widths.pop()


def _require_sound(step: Step, before: Scene, after: Scene) -> None:
    """Raise a `RecipeError` unless what a step made is an image with its mask."""
    image, mask = after.image, after.mask
    if image.dtype != before.image.dtype or mask.dtype != np.bool_ or image.shape != mask.shape:
        raise RecipeError(
            f"step {step.name}: gave an image of {image.dtype} and shape {image.shape} and a mask "
            f"of {mask.dtype} and shape {mask.shape}; the image keeps its type, and the mask is "
            "bool, of the same shape"
        )


def _require_pair(image: object, mask: object) -> tuple[Frame, Mask]:
    frame, label = require_frame(image, "image"), require_mask(mask, "mask")
    if frame.shape != label.shape:
        raise ValueError(f"image of shape {frame.shape} and mask of shape {label.shape}")
    return frame, label
