"""Make one output: a spec, its source and the bank in, image and mask out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from synth.blend import blend_mask, blend_patch
from synth.distractors import add_distractor
from synth.errors import NoiseError, RecipeError
from synth.frames import Frame, Mask
from synth.moves import Moved, Mover
from synth.negatives import keep_offset, turned
from synth.noise.bank import NoiseBank
from synth.noise.cameras import CameraNoise
from synth.noise.residual import OwnNoise, measure_own_noise, transfer_residual
from synth.noise.transfer import Mixer
from synth.recipe import MoveChoice, Spec, TurnChoice
from synth.seeds import generator
from synth.targets import Target, find_targets, target_box

# Over more pixels nothing blends better.
_MOST_RAMP = 12

LoadHost = Callable[[str], tuple[Frame, Mask]]
"""Loads the image, and the mask, that a name of `synth.recipe.Hosts` stands for."""


def realise(
    spec: Spec,
    image: Frame,
    mask: Mask,
    targets: Sequence[Target],
    bank: NoiseBank | CameraNoise | None = None,
    gain: float | None = None,
    load_host: LoadHost | None = None,
) -> tuple[Frame, Mask]:
    """Make the output that a spec describes.

    Parameters
    ----------
    spec : Spec
    image : (H, W) ndarray of uint8 or uint16
        The source, DN.
    mask : (H, W) ndarray of bool
        Its mask.
    targets : sequence of Target
        The targets of `mask` (`find_targets`); not looked at by a spec without a turn.
    bank : NoiseBank or CameraNoise, optional
        Needed by a spec with noise: the one for patches, the other for a sensor's noise.
    gain : float, optional
        Factor from the noise's DN to the image's; see `synth.noise.transfer.mixup`.
    load_host : callable, optional
        Needed by a spec whose target goes into another image.

    Returns
    -------
    image : (H, W) ndarray of the source's dtype
        Of the other image's size where a target goes into one that has targets too.
    mask : (H, W) ndarray of bool

    Raises
    ------
    NoiseError
        The patch is not in the bank, or of another depth than the image without a gain.
    RecipeError
        The target is not in the mask, or the other image is not there or of another depth.
    """
    source = Realiser(image, mask, targets, bank, gain, load_host)
    return source.image(spec), source.mask(spec)


class Realiser:
    """A source that many outputs are made from; parameters as `realise`.

    What its outputs have in common is computed once.
    """

    def __init__(
        self,
        image: Frame,
        mask: Mask,
        targets: Sequence[Target],
        bank: NoiseBank | CameraNoise | None = None,
        gain: float | None = None,
        load_host: LoadHost | None = None,
    ) -> None:
        self._load_host = load_host
        self._last_host: tuple[tuple[str, int], _Host] | None = None
        self._image = image
        self._mixer = Mixer(image)
        self._mask = mask
        self._targets = targets
        self._bank = bank
        self._last: tuple[MoveChoice, Moved] | None = None
        self._found_place = True
        self._last_mask: tuple[TurnChoice | None, Mask] | None = None
        self._last_copies: tuple[Any, Mask] | None = None
        self.facts: dict[str, Any] = {}
        """What the last image turned out to be, beyond its spec: ``noisier``, the share of pixels
        that had as much noise as was asked for already, ``shift`` of a target that was moved,
        ``place`` of one that was put into another image, row and column of its centre or null where
        none was free, and ``distractor_boxes``, null for a distractor that found no place."""

        self._gain = gain

    def image(self, spec: Spec) -> Frame:
        """The image of an output: (H, W), the source's dtype."""
        noise = spec.noise
        mixed = noise is not None and noise.mode == "mixup"
        self.facts = {}
        if spec.move is not None:
            # Where a target fits is looked for in the source, so that the mask needs no noise.
            moved = self._moved(spec)
            image = moved.image
            if spec.move.host:
                target, (down, along) = self._targets[spec.move.target], moved.shift
                at = [target.row + down, target.col + along]
                self.facts["place"] = at if self._found_place else None
            else:
                self.facts["shift"] = list(moved.shift)
            if mixed:
                image = self._mix(spec, Mixer(image))
        else:
            image = self._mix(spec, self._mixer) if mixed else self._image.copy()
        place = self._place(spec)
        if place is not None:
            turn, window = place
            patch = turned(image[window], turn.quarter_turns, turn.mirror)
            image[window] = blend_patch(image[window], patch, turn.blend, self._ramp(turn, window))
        if spec.copies:
            image, labels = self._copy(spec, image)
            self._last_copies = (spec.turn, spec.move, spec.copies), labels
        if spec.distractors:
            labels = self.mask(spec)
            boxes: list[list[int] | None] = []
            for one in spec.distractors:
                image, box = add_distractor(image, labels, one.kind, one.draw)
                boxes.append(None if box is None else list(box))
            self.facts["distractor_boxes"] = boxes
        return self._add_noise(spec, image) if noise is not None and not mixed else image

    def _mix(self, spec: Spec, mixer: Mixer) -> Frame:
        noise, bank = spec.noise, self._bank
        assert noise is not None
        if not isinstance(bank, NoiseBank) or not 0 <= noise.patch < len(bank):
            raise NoiseError(f"output {spec.id}: noise patch {noise.patch} is not in the bank")
        return mixer.mix(bank.patches[noise.patch], noise.amount, self._gain)

    def _add_noise(self, spec: Spec, image: Frame) -> Frame:
        noise, cameras = spec.noise, self._bank
        assert noise is not None
        if not isinstance(cameras, CameraNoise) or not 0 <= noise.patch < len(cameras):
            raise NoiseError(f"output {spec.id}: frame {noise.patch} is not in the noise models")
        camera, frame = cameras.generator(noise.patch)
        # An image's own noise is that of its source: a turn or a target more does not change it.
        host = self._host(spec)
        made = transfer_residual(
            image,
            camera,
            seed=noise.seed,
            frame=frame,
            strength=noise.amount,
            gain=self._gain,
            own=host.own_noise if host is not None else self._own_noise,
        )
        self.facts["noisier"] = round(made.noisier, 4)
        return made.image

    def mask(self, spec: Spec) -> Mask:
        """The mask of an output: (H, W) bool. Noise does not touch it."""
        if not spec.copies:
            return self._changed_mask(spec)
        key = spec.turn, spec.move, spec.copies
        if self._last_copies is None or self._last_copies[0] != key:
            # Where a copy comes to lie does not depend on what the image shows.
            image = self._image if self._host(spec) is None else self._moved(spec).image
            self._last_copies = key, self._copy(spec, image)[1]
        return self._last_copies[1]

    def _copy(self, spec: Spec, image: Frame) -> tuple[Frame, Mask]:
        """Put the copies into an image, and into the mask as the turn or the move left it."""
        mask = self._changed_mask(spec)
        for choice in spec.copies:
            self._require(spec, choice.target)
            made = self._put(spec, choice, image, mask)
            if made is not None:
                image, mask = made.image, made.mask
        return image, mask

    def _put(self, spec: Spec, choice: MoveChoice, image: Frame, mask: Mask) -> Moved | None:
        """Put a copy of a target into an image, its own or the host."""
        host = self._host(spec)
        try:
            return self._mover.copy(
                choice.target,
                choice.draw,
                (image, mask),
                angle=choice.angle,
                scr=choice.scr,
                zoom=choice.zoom,
                host=None if host is None else host.mover,
            )
        except ValueError as error:
            if host is None:
                raise
            raise RecipeError(f"output {spec.id}: host {host.name}: {error}") from None

    def _host(self, spec: Spec) -> _Host | None:
        """The other image that a target is put into, cut to the size of this one if it is empty."""
        move = spec.move
        if move is None or not move.host:
            return None
        key = move.host, move.draw
        if self._last_host is None or self._last_host[0] != key:
            if self._load_host is None:
                raise RecipeError(f"output {spec.id}: host {move.host} is not there")
            image, mask = self._load_host(move.host)
            if not mask.any():
                part = _draw_part(image.shape, self._mask.shape, move.draw)
                image, mask = image[part], mask[part]
            self._last_host = key, _Host(move.host, image, mask)
        return self._last_host[1]

    def _changed_mask(self, spec: Spec) -> Mask:
        if spec.move is not None:
            return self._moved(spec).mask
        if self._last_mask is None or self._last_mask[0] != spec.turn:
            self._last_mask = spec.turn, self._turned_mask(spec)
        return self._last_mask[1]

    def _turned_mask(self, spec: Spec) -> Mask:
        mask = self._mask.copy()
        place = self._place(spec)
        if place is not None:
            turn, window = place
            patch = turned(mask[window], turn.quarter_turns, turn.mirror)
            if turn.keep_offset:
                patch = self._keep_offset(patch, turn, window)
            mask[window] = blend_mask(mask[window], patch, turn.blend, self._ramp(turn, window))
        return mask

    def _require(self, spec: Spec, target: int) -> None:
        if not 0 <= target < len(self._targets):
            raise RecipeError(f"output {spec.id}: source {spec.source} has no target {target}")

    def _moved(self, spec: Spec) -> Moved:
        choice = spec.move
        assert choice is not None
        self._require(spec, choice.target)
        if self._last is None or self._last[0] != choice:
            host = self._host(spec)
            if host is not None:
                put = self._put(spec, choice, host.image, host.mask)
                self._found_place = put is not None
                moved = put or Moved(host.image.copy(), host.mask.copy(), (0, 0), 1.0)
            else:
                moved = self._mover.move(
                    choice.target,
                    choice.draw,
                    stay=choice.stay,
                    angle=choice.angle,
                    scr=choice.scr,
                    zoom=choice.zoom,
                )
            self._last = choice, moved
        return self._last[1]

    @cached_property
    def _own_noise(self) -> OwnNoise:
        return measure_own_noise(self._image)

    @cached_property
    def _mover(self) -> Mover:
        return Mover(self._image, self._mask, self._targets)

    def _ramp(self, turn: TurnChoice, window: tuple[slice, slice]) -> float:
        """Pixels between a box's border and its target: there its blending has room."""
        target = self._targets[turn.target].box
        rows, cols = window
        room = min(
            target[0] - rows.start,
            target[1] - cols.start,
            rows.stop - target[2],
            cols.stop - target[3],
        )
        return float(min(max(room, 1), _MOST_RAMP))

    def _keep_offset(self, patch: Mask, turn: TurnChoice, window: tuple[slice, slice]) -> Mask:
        """Move the turned target in the mask of its box, where all of it is in there."""
        own = self._mover.labels[window] == turn.target + 1
        if own.sum() < self._targets[turn.target].area:
            return patch
        turned_own = turned(own, turn.quarter_turns, turn.mirror)
        offset = self._mover.offsets[turn.target].tolist()
        kept = keep_offset(turned_own, offset, turn.quarter_turns, turn.mirror)
        return (patch & ~turned_own) | kept

    def _place(self, spec: Spec) -> tuple[TurnChoice, tuple[slice, slice]] | None:
        """What is turned, and where it lies."""
        turn = spec.turn
        if turn is None:
            return None
        self._require(spec, turn.target)
        height, width = self._mask.shape
        box = target_box(self._targets[turn.target], turn.side, (height, width))
        return turn, (slice(box[0], box[2]), slice(box[1], box[3]))


class _Host:
    """An image that targets of another one are put into."""

    def __init__(self, name: str, image: Frame, mask: Mask) -> None:
        self.name = name
        self.image: Frame = image.copy()
        self.mask: Mask = mask.copy()

    @cached_property
    def mover(self) -> Mover:
        return Mover(self.image, self.mask, find_targets(self.mask))

    @cached_property
    def own_noise(self) -> OwnNoise:
        return measure_own_noise(self.image)


def _draw_part(shape: tuple[int, ...], wanted: tuple[int, ...], draw: int) -> tuple[slice, slice]:
    """A part of an image that is no larger than another one."""
    rng = generator(draw, "part")
    rows, cols = (
        slice(start, start + min(size, most))
        for size, most in zip(shape, wanted, strict=True)
        for start in [int(rng.integers(max(size - most, 0) + 1))]
    )
    return rows, cols
