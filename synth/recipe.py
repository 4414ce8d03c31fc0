"""What to make: a recipe and the targets become one spec per output, before any pixel is touched.

A spec is plain data. Its record is what the manifest keeps, and all that is needed, with the
source and the bank, to make the output again (`synth.realise`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from synth.blend import Blend
from synth.distractors import KINDS, Kind
from synth.errors import RecipeError
from synth.noise.realisation import realisation_seed
from synth.seeds import generator
from synth.targets import Target

NoiseMode = Literal["mixup", "residual", "physical"]
NOISE_MODES: tuple[NoiseMode, ...] = get_args(NoiseMode)

# Seeds of random choices within an output.
_DRAWS = 1 << 31

# Ids that negatives get where numbers cannot be continued.
_ID = re.compile(r"_k\d_j\d+(_r\d+)?$")

# Pixels of background around a target that a fitted box holds: as much as blending needs.
_MARGIN = 10


@dataclass(frozen=True, slots=True)
class NoiseChoice:
    """Which noise an output gets.

    Attributes
    ----------
    patch : int
        Index of the patch in the bank, or of the frame in the models of the cameras.
    amount : float
        Share of the noise in the mix (``mixup``), or strength relative to the sensor's own noise.
    mode : {"mixup", "residual", "physical"}
    seed : int
        Of this realisation of the camera's noise, see `synth.noise.realisation`; not used by
        ``mixup``.
    """

    patch: int
    amount: float
    mode: NoiseMode = "mixup"
    seed: int = 0


@dataclass(frozen=True, slots=True)
class TurnChoice:
    """Which target patch is turned, and how; see `synth.negatives` and `synth.blend`."""

    target: int
    side: int
    quarter_turns: int
    mirror: bool
    blend: Blend = "paste"
    keep_offset: bool = False


@dataclass(frozen=True, slots=True)
class MoveChoice:
    """Which target is moved, turned or scaled, and how; see `synth.moves`.

    Attributes
    ----------
    target : int
    draw : int
        Seed of the place.
    stay : bool
        It stays at its place.
    angle : float
        Degrees, counter-clockwise.
    scr : float
        That it is scaled to; 0 leaves its contrast.
    zoom : float
        Factor on its size.
    host : str
        Name of the image that it is put into instead of its own; see `Hosts`.
    """

    target: int
    draw: int
    stay: bool = False
    angle: float = 0.0
    scr: float = 0.0
    zoom: float = 1.0
    host: str = ""

    def as_copy(self) -> list[Any]:
        """What a manifest line says of it as one of `Spec.copies`."""
        plain = [self.target, self.draw, self.angle, self.scr]
        return plain if self.zoom == 1 else [*plain, self.zoom]


@dataclass(frozen=True, slots=True)
class DistractorChoice:
    """A distractor; see `synth.distractors`."""

    kind: Kind
    draw: int


@dataclass(frozen=True, slots=True)
class Spec:
    """One output to make from one source.

    A patch that is mixed in comes first, then the turn, as published. A sensor's noise comes after
    the turn: its stripes do not turn with a target.
    """

    id: str
    source: str
    noise: NoiseChoice | None = None
    turn: TurnChoice | None = None
    move: MoveChoice | None = None
    distractors: tuple[DistractorChoice, ...] = ()
    copies: tuple[MoveChoice, ...] = ()

    def record(self) -> dict[str, Any]:
        """The choices as the keys of a manifest line."""
        line: dict[str, Any] = {"id": self.id, "source": self.source}
        if self.noise is not None:
            line |= {"mode": self.noise.mode, "noise_patch": self.noise.patch}
            if self.noise.mode == "mixup":
                line["ratio"] = self.noise.amount
            else:
                line |= {"strength": self.noise.amount, "noise_seed": self.noise.seed}
        if self.turn is not None:
            line |= {
                "target": self.turn.target,
                "side": self.turn.side,
                "quarter_turns": self.turn.quarter_turns,
                "mirror": self.turn.mirror,
                "blend": self.turn.blend,
            }
            if self.turn.keep_offset:
                line["keep_offset"] = True
        if self.move is not None:
            line |= {
                "target": self.move.target,
                "move": self.move.draw,
                "stay": self.move.stay,
                "angle": self.move.angle,
                "scr": self.move.scr,
            }
            if self.move.zoom != 1:
                line["zoom"] = self.move.zoom
            if self.move.host:
                line["host"] = self.move.host
        if self.copies:
            line["copies"] = [one.as_copy() for one in self.copies]
        if self.distractors:
            line["distractors"] = [[one.kind, one.draw] for one in self.distractors]
        return line

    @classmethod
    def from_record(cls, line: dict[str, Any]) -> Spec:
        """Read the choices back from a manifest line.

        Raises
        ------
        RecipeError
            A key is missing.
        """
        try:
            noise = turn = move = None
            if "noise_patch" in line:
                mixed = line["mode"] == "mixup"
                noise = NoiseChoice(
                    line["noise_patch"],
                    line["ratio" if mixed else "strength"],
                    line["mode"],
                    0 if mixed else line["noise_seed"],
                )
            if "move" in line:
                move = MoveChoice(
                    line["target"],
                    line["move"],
                    line["stay"],
                    line["angle"],
                    line["scr"],
                    line.get("zoom", 1.0),
                    line.get("host", ""),
                )
            elif "target" in line:
                turn = TurnChoice(
                    target=line["target"],
                    side=line["side"],
                    quarter_turns=line["quarter_turns"],
                    mirror=line["mirror"],
                    blend=line["blend"],
                    keep_offset=bool(line.get("keep_offset", False)),
                )
            distractors = tuple(DistractorChoice(*one) for one in line.get("distractors", ()))
            copies = tuple(
                MoveChoice(target, draw, False, angle, scr, *zoom)
                for target, draw, angle, scr, *zoom in line.get("copies", ())
            )
            return cls(line["id"], line["source"], noise, turn, move, distractors, copies)
        except KeyError as error:
            raise RecipeError(
                f"a manifest line lacks {error}; it is from no build, or from one of another "
                "version of sirst-synth"
            ) from None


@dataclass(frozen=True, slots=True)
class NoiseRule:
    """How an output gets its noise: one of the amounts, one of the bank's patches or frames.

    With several types of noise, first a type is drawn, then one of its patches or frames, so a
    camera with many of them does not crowd out the others.

    `share` of the outputs get noise, and the others none. A turn that is repeated is told from its
    first by its noise, and so always gets some.
    """

    amounts: tuple[float, ...]
    mode: NoiseMode = "mixup"
    share: float = 1.0

    def require(self, kinds: Sequence[NDArray[np.intp]], repeats: int) -> None:
        """Raise a `RecipeError` unless there are patches for so many repeats of a target."""
        patches = sum(map(len, kinds))
        if self.mode == "mixup" and repeats > patches:
            raise RecipeError(
                f"the noise bank holds {patches} patches and a target is to be repeated with "
                "more; ask for fewer negatives, or sample more noise"
            )

    def draw(
        self,
        rng: np.random.Generator,
        kinds: Sequence[NDArray[np.intp]],
        used: Set[int],
        seed: int,
    ) -> NoiseChoice:
        """Draw amount and patch, none of the patches in `used`; `seed` is the realisation's."""
        self.require(kinds, len(used) + 1)
        amount = (
            self.amounts[int(rng.integers(len(self.amounts)))]
            if self.amounts[1:]
            else (self.amounts[0])
        )
        while True:
            kind = kinds[int(rng.integers(len(kinds)))] if kinds[1:] else kinds[0]
            patch = int(kind[int(rng.integers(len(kind)))])
            if self.mode != "mixup":
                return NoiseChoice(patch, amount, self.mode, seed)
            # Drawn until it is a new one: few patches of a bank are used for one turn.
            if patch not in used:
                return NoiseChoice(patch, amount)


@dataclass(frozen=True, slots=True)
class Recipe:
    """Which negatives to make.

    Attributes
    ----------
    side : int or "auto"
        Side of the box around a target, pixels; ``auto`` fits each box to its target, see
        `fit_side`.
    turns : tuple of int
        Quarter turns, counter-clockwise; one negative for each and every target.
    mirror : bool
        Mirror the box left to right before it is turned.
    count : int or None
        Number of negatives; None for each turn of every target once. Fewer are a seeded choice;
        more repeat targets, chosen by seed, each time with another noise patch.
    noise : NoiseRule or None
        None leaves the images as they are.
    blend : {"paste", "feather", "poisson"}
        How the turned box is put back; see `synth.blend`.
    keep_offset : bool
        A mask that lies a fraction of a pixel beside its target lies on the same side of it after
        the turn, see `synth.negatives.keep_offset`: for sets whose masks have a habit.
    moves : float
        Share of the negatives whose target is put at another place of its image, where it fits,
        instead of being turned with its surroundings.
    angle : float
        A target that is moved is turned by up to ± this, degrees.
    any_angle : float
        Share of the negatives whose target is not moved in which it alone is turned, by any angle,
        and its surroundings stay; the others' boxes are turned by quarters.
    scr : tuple of float or None
        A target that is moved is scaled to a signal-to-clutter ratio drawn between these, evenly
        in its logarithm; None leaves its contrast.
    zoom : tuple of float or None
        A target that is moved is enlarged by a factor drawn between these, evenly in its
        logarithm; None leaves its size.
    transplants : float
        Share of the negatives whose target is put into another image instead, where it fits.
    copies : tuple of int
        How many copies of its image's targets a negative gets beside them, at places that fit:
        drawn between these. They are turned and scaled as moved targets are.
    distractors : tuple of int
        How many a negative gets: drawn between these.
    distractor_kinds : tuple of str
        Kinds that are drawn from, see `synth.distractors`.
    """

    side: int | Literal["auto"] = 32
    turns: tuple[int, ...] = (0, 1, 2, 3)
    mirror: bool = False
    count: int | None = None
    noise: NoiseRule | None = None
    blend: Blend = "paste"
    keep_offset: bool = False
    moves: float = 0.0
    angle: float = 0.0
    any_angle: float = 0.0
    scr: tuple[float, float] | None = None
    zoom: tuple[float, float] | None = None
    transplants: float = 0.0
    copies: tuple[int, int] = (0, 0)
    distractors: tuple[int, int] = (0, 0)
    distractor_kinds: tuple[Kind, ...] = KINDS


@dataclass(frozen=True, slots=True)
class Hosts:
    """Names of the images that targets are put into.

    Attributes
    ----------
    labelled : tuple of str
        Images with targets of their own: one target of another image is put beside them.
    empty : tuple of str
        Frames without targets: all targets of an image are put into them, and they are cut to its
        size.
    """

    labelled: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()

    def draw(self, rng: np.random.Generator, source: str) -> tuple[str, bool] | None:
        """Draw a host for a target of an image, first its kind, and say whether it is empty."""
        kinds = [kind for kind in (self.labelled, self.empty) if kind]
        if not kinds:
            return None
        kind = kinds[int(rng.integers(len(kinds)))]
        name = kind[int(rng.integers(len(kind)))]
        if kind is self.labelled and name == source:
            # The next one in its place; an image alone has none.
            name = kind[(kind.index(name) + 1) % len(kind)]
            if name == source:
                return None
        return name, kind is not self.labelled


@dataclass(frozen=True, slots=True)
class LabelledSource:
    """A source image as the plan sees it: its size and its targets, no pixels."""

    id: str
    shape: tuple[int, int]
    targets: tuple[Target, ...]


class NoiseSupply(Protocol):
    """What noise is drawn from: a bank, or the noise of cameras."""

    def members(self) -> list[NDArray[np.intp]]:
        """Indices of the patches or frames of each type."""


class NegativePlan:
    """All negatives, decided one source at a time and only when they are asked for.

    First come the turns of every target in the order of sources, targets and turns, once each;
    what ``recipe.count`` asks beyond them are repeats, chosen without replacement in rounds. What
    is kept grows with the targets, not with the negatives.

    Parameters
    ----------
    recipe : Recipe
    sources : sequence of LabelledSource
        Training images.
    bank : NoiseBank or CameraNoise or None
        Needed when the recipe has noise.
    seed : int
    hosts : Hosts, optional
        Needed when the recipe has transplants.
    taken_ids : iterable of str, optional
        Ids of the images that the negatives come to lie beside. When all are numbers of one
        width the negatives continue them; otherwise, and without any, a negative is called
        ``{source}_k{turns}_j{target}``, a repeat ``…_r{round}``.

    Raises
    ------
    RecipeError
        No target to turn, a box larger than an image, or more repeats than the bank has patches.
    """

    def __init__(
        self,
        recipe: Recipe,
        sources: Sequence[LabelledSource],
        bank: NoiseSupply | None,
        *,
        seed: int,
        hosts: Hosts | None = None,
        taken_ids: Iterable[str] | None = None,
    ) -> None:
        hosts = hosts or Hosts()
        if recipe.transplants and len(hosts.labelled) < 2 and not hosts.empty:
            raise RecipeError(
                "there is no other image to put a target into; give frames without targets, or "
                "take transplants out"
            )
        for source in sources:
            if source.targets and recipe.side != "auto" and recipe.side > min(source.shape):
                raise RecipeError(
                    f"a box of side {recipe.side} is larger than image {source.id!r} "
                    f"({source.shape[0]}x{source.shape[1]}); take a smaller side"
                )
        turns = len(recipe.turns)
        self._starts = np.cumsum([0] + [turns * len(source.targets) for source in sources])
        available = int(self._starts[-1])
        wanted = available if recipe.count is None else recipe.count
        if wanted and not available:
            raise RecipeError("no training image has a target, so there is nothing to turn")
        # What has a place of its own in every negative tells repeats apart, as noise does.
        always = recipe.moves == 1 or recipe.transplants == 1
        apart = recipe.copies[0] or recipe.distractors[0] or always
        if wanted > available and recipe.noise is None and not apart:
            raise RecipeError(
                f"{wanted} negatives are asked for, but {available} turns of targets are all "
                "there are without noise, moves, transplants, copies or distractors to tell "
                "repeats apart"
            )
        self._recipe = recipe
        self._sources = sources
        self._seed = seed
        self._purpose = _name_noise("negatives", repr(recipe), map(_describe, sources))
        self._hosts = hosts
        self._kinds = bank.members() if bank is not None else []
        self._available, self._wanted = available, wanted
        self._rounds, rest = divmod(wanted, available) if available else (0, 0)
        self._last = _choose(available, rest, self._rounds, seed)
        if recipe.noise is not None:
            recipe.noise.require(self._kinds, self._rounds + (rest > 0))
        taken = set(taken_ids or ())
        self._first_number = _first_number(taken)
        if self._first_number is None and any(map(_ID.search, taken)):
            clash = next((id_ for id_ in self.ids() if id_ in taken), None)
            if clash is not None:
                raise RecipeError(f"the data set has an image called {clash!r} already; rename it")

    def __len__(self) -> int:
        return self._wanted

    def ids(self) -> Iterator[str]:
        """Ids of all negatives in the order of their numbers."""
        if self._first_number is not None:
            yield from (self._id("", 0, 0, number, 0) for number in range(self._wanted))
            return
        for round_ in range(self._rounds + 1):
            chosen = range(self._available) if round_ < self._rounds else self._last.tolist()
            index = 0
            for which in chosen:
                while which >= self._starts[index + 1]:
                    index += 1
                target, turn = self._split(index, which)
                yield self._id(self._sources[index].id, target.index, turn, 0, round_)

    def count(self, index: int) -> int:
        """Number of negatives of a source."""
        low, high = self._starts[index], self._starts[index + 1]
        last = np.searchsorted(self._last, (low, high))
        return int(self._rounds * (high - low) + last[1] - last[0])

    def of(self, index: int) -> Negatives:
        """The negatives of one source, in the order of their numbers."""
        return Negatives(self, index)

    def numbered(self, index: int) -> Iterator[tuple[int, Spec]]:
        """Decide the negatives of a source; each comes with its number among all."""
        used: dict[int, set[int]] = {}
        for which, number, round_ in self._members(index):
            yield number, self._decide(index, which, number, round_, used)

    def ids_of(self, index: int) -> Iterator[str]:
        """Ids of the negatives of a source; nothing else is decided."""
        source = self._sources[index].id
        for which, number, round_ in self._members(index):
            target, turn = self._split(index, which)
            yield self._id(source, target.index, turn, number, round_)

    def _members(self, index: int) -> Iterator[tuple[int, int, int]]:
        """(combination, number, round) of the negatives of a source."""
        low, high = map(int, self._starts[index : index + 2])
        for round_ in range(self._rounds):
            for which in range(low, high):
                yield which, round_ * self._available + which, round_
        begin, end = np.searchsorted(self._last, (low, high)).tolist()
        for rank in range(begin, end):
            yield int(self._last[rank]), self._rounds * self._available + rank, self._rounds

    def _decide(
        self, index: int, which: int, number: int, round_: int, used: dict[int, set[int]]
    ) -> Spec:
        recipe, source, seed = self._recipe, self._sources[index], self._seed
        target, turn = self._split(index, which)
        id_ = self._id(source.id, target.index, turn, number, round_)
        side = fit_side(target, source) if recipe.side == "auto" else recipe.side
        choice = TurnChoice(
            target.index, side, turn, recipe.mirror, recipe.blend, recipe.keep_offset
        )
        move: MoveChoice | None = None
        distractors: tuple[DistractorChoice, ...] = ()
        if recipe.moves > 0 or recipe.any_angle > 0 or recipe.distractors[1]:
            rng = generator(seed, "changes", id_)
            move, distractors = _draw_changes(recipe, target.index, rng)
        copies: tuple[MoveChoice, ...] = ()
        if recipe.copies[1]:
            copies = _draw_copies(recipe, len(source.targets), generator(seed, "copies", id_))
        if recipe.transplants:
            rng = generator(seed, "transplant", id_)
            host = self._hosts.draw(rng, source.id) if rng.random() < recipe.transplants else None
            if host is not None:
                move = replace(_draw_move(recipe, target.index, rng), host=host[0])
                others = (one.index for one in source.targets if one.index != target.index)
                if host[1]:
                    copies = (*(_draw_move(recipe, one, rng) for one in others), *copies)
        noise = None
        rule = recipe.noise
        if rule is not None and (
            rule.share == 1
            or (round_ and move is None)
            or generator(seed, "noisy", id_).random() < rule.share
        ):
            before = used.setdefault(which, set())
            rng = generator(seed, "negative", id_)
            # By number, not by id: numbers cannot collide, and tiles of noise go by them in turn.
            own = realisation_seed(seed, self._purpose, number)
            noise = rule.draw(rng, self._kinds, before, own)
            # Where no patch may come twice, there are no more of them than the bank holds.
            if noise.mode == "mixup":
                before.add(noise.patch)
        turn_choice = choice if move is None else None
        return Spec(id_, source.id, noise, turn_choice, move, distractors, copies)

    def _split(self, index: int, which: int) -> tuple[Target, int]:
        """Target and turn of a combination."""
        turns = self._recipe.turns
        target, turn = divmod(which - int(self._starts[index]), len(turns))
        return self._sources[index].targets[target], turns[turn]

    def _id(self, source: str, target: int, turn: int, number: int, round_: int) -> str:
        if self._first_number is not None:
            start, width = self._first_number
            return f"{start + number:0{width}d}"
        return f"{source}_k{turn}_j{target}" + (f"_r{round_}" if round_ else "")


@dataclass(frozen=True, slots=True)
class Negatives:
    """The negatives of one source; they are decided anew whenever they are gone through."""

    plan: NegativePlan
    index: int

    def __len__(self) -> int:
        return self.plan.count(self.index)

    def __iter__(self) -> Iterator[Spec]:
        return (spec for _, spec in self.plan.numbered(self.index))

    def ids(self) -> Iterator[str]:
        """Their ids."""
        return self.plan.ids_of(self.index)


def plan_negatives(
    recipe: Recipe,
    sources: Sequence[LabelledSource],
    bank: NoiseSupply | None,
    *,
    seed: int,
    taken_ids: Iterable[str] | None = None,
) -> list[Spec]:
    """Decide every negative at once; parameters and errors as `NegativePlan`.

    Returns
    -------
    list of Spec
        In the order of their ids' numbers.
    """
    plan = NegativePlan(recipe, sources, bank, seed=seed, taken_ids=taken_ids)
    found = [pair for index in range(len(sources)) for pair in plan.numbered(index)]
    return [spec for _, spec in sorted(found, key=lambda pair: pair[0])]


def _draw_changes(
    recipe: Recipe, target: int, rng: np.random.Generator
) -> tuple[MoveChoice | None, tuple[DistractorChoice, ...]]:
    """Whether a negative's target is moved, or turned alone, and what else is put in."""
    move = None
    if recipe.moves > 0 and rng.random() < recipe.moves:
        move = _draw_move(recipe, target, rng)
    elif recipe.any_angle > 0 and rng.random() < recipe.any_angle:
        angle = round(float(rng.uniform(-180, 180)), 3)
        move = MoveChoice(target, int(rng.integers(_DRAWS)), True, angle)
    few, many = recipe.distractors
    number = int(rng.integers(few, many + 1)) if many else 0
    kinds = recipe.distractor_kinds
    return move, tuple(
        DistractorChoice(kinds[int(rng.integers(len(kinds)))], int(rng.integers(_DRAWS)))
        for _ in range(number)
    )


def _draw_move(recipe: Recipe, target: int, rng: np.random.Generator) -> MoveChoice:
    angle, scr = 0.0, 0.0
    if recipe.angle > 0:
        angle = round(float(rng.uniform(-recipe.angle, recipe.angle)), 3)
    if recipe.scr is not None:
        scr = round(float(np.exp(rng.uniform(*np.log(recipe.scr)))), 4)
    draw = int(rng.integers(_DRAWS))
    zoom = 1.0
    if recipe.zoom is not None:
        zoom = round(float(np.exp(rng.uniform(*np.log(recipe.zoom)))), 2)
    return MoveChoice(target, draw, False, angle, scr, zoom)


def _draw_copies(recipe: Recipe, targets: int, rng: np.random.Generator) -> tuple[MoveChoice, ...]:
    few, many = recipe.copies
    return tuple(
        _draw_move(recipe, int(rng.integers(targets)), rng)
        for _ in range(int(rng.integers(few, many + 1)))
    )


def fit_side(target: Target, source: LabelledSource) -> int:
    """Choose the side of the box around a target by the target's own size.

    The box reaches `_MARGIN` pixels beyond the target all round, enough of the background to be
    turned with it, but less where another target would come into it, and at least two. It is odd,
    so that a turn leaves the target's centre where it is.

    Parameters
    ----------
    target : Target
    source : LabelledSource
        Whose target it is.

    Returns
    -------
    int
        Pixels; at most the shorter side of the image.

    Examples
    --------
    >>> alone = Target(0, 20, 30, (20.0, 30.0), 9, (19, 29, 22, 32))
    >>> fit_side(alone, LabelledSource("a", (64, 64), (alone,)))
    23
    """
    extent = _extent(target)
    reach = extent + _MARGIN
    for other in source.targets:
        if other.index != target.index:
            top, left, bottom, right = other.box
            rows = max(top - target.row, target.row - bottom + 1)
            cols = max(left - target.col, target.col - right + 1)
            reach = min(reach, max(rows, cols) - 2)
    side = 2 * max(reach, extent + 2) + 1
    shorter = min(source.shape)
    return min(side, shorter - 1 + shorter % 2)


def _extent(target: Target) -> int:
    """How far a target reaches from its centre, along rows or columns."""
    top, left, bottom, right = target.box
    rows = max(target.row - top, bottom - 1 - target.row)
    return max(rows, target.col - left, right - 1 - target.col)


def plan_transfer(
    rule: NoiseRule, ids: Sequence[str], bank: NoiseSupply, *, seed: int
) -> list[Spec]:
    """Decide the noise of every image; outputs keep their ids."""
    kinds = bank.members()
    purpose = _name_noise("transfer", repr(rule), ids)
    found = []
    for number, id_ in enumerate(ids):
        own = realisation_seed(seed, purpose, number)
        noise = rule.draw(generator(seed, "transfer", id_), kinds, frozenset(), own)
        found.append(Spec(id_, id_, noise))
    return found


def _name_noise(kind: str, recipe: str, sources: Iterable[str]) -> str:
    """Name the use of noise, so that different builds with one seed have no noise in common."""
    digest = hashlib.sha256("\0".join((recipe, *sources)).encode("utf-8", "surrogatepass"))
    return f"{kind} {digest.hexdigest()}"


def _describe(source: LabelledSource) -> str:
    return f"{source.id} {source.shape} {[target.box for target in source.targets]}"


def _choose(available: int, wanted: int, round_: int, seed: int) -> NDArray[np.intp]:
    """The combinations of the last round, in order; it alone is a choice."""
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
