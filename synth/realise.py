"""Make one output: a spec, its source and the bank in, image and mask out."""

from __future__ import annotations

from collections.abc import Sequence

from synth.errors import NoiseError, RecipeError
from synth.frames import Frame, Mask
from synth.negatives import turned
from synth.noise.bank import NoiseBank
from synth.noise.transfer import mixup
from synth.recipe import Spec
from synth.targets import Target, target_box


def realise(
    spec: Spec,
    image: Frame,
    mask: Mask,
    targets: Sequence[Target],
    bank: NoiseBank | None = None,
    gain: float | None = None,
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
    bank : NoiseBank, optional
        Needed by a spec with noise.
    gain : float, optional
        Factor from the noise's DN to the image's; see `synth.noise.transfer.mixup`.

    Returns
    -------
    image : (H, W) ndarray of the source's dtype
    mask : (H, W) ndarray of bool

    Raises
    ------
    NoiseError
        The patch is not in the bank, or of another depth than the image without a gain.
    RecipeError
        The target is not in the mask.
    """
    made = realise_image(spec, image, targets, bank, gain)
    return made, realise_mask(spec, mask, targets)


def realise_image(
    spec: Spec,
    image: Frame,
    targets: Sequence[Target],
    bank: NoiseBank | None = None,
    gain: float | None = None,
) -> Frame:
    """The image of an output; see `realise`."""
    if spec.noise is not None:
        if bank is None or not 0 <= spec.noise.patch < len(bank):
            raise NoiseError(f"output {spec.id}: noise patch {spec.noise.patch} is not in the bank")
        image = mixup(image, bank.patches[spec.noise.patch], spec.noise.ratio, gain)
    else:
        image = image.copy()
    _turn_in_place(spec, image, targets)
    return image


def realise_mask(spec: Spec, mask: Mask, targets: Sequence[Target]) -> Mask:
    """The mask of an output; see `realise`. Noise does not touch it."""
    mask = mask.copy()
    _turn_in_place(spec, mask, targets)
    return mask


def _turn_in_place(spec: Spec, array: Frame | Mask, targets: Sequence[Target]) -> None:
    if spec.turn is None:
        return
    turn = spec.turn
    if not 0 <= turn.target < len(targets):
        raise RecipeError(f"output {spec.id}: source {spec.source} has no target {turn.target}")
    height, width = array.shape
    top, left, bottom, right = target_box(targets[turn.target], turn.side, (height, width))
    patch = array[top:bottom, left:right]
    patch[:] = turned(patch, turn.quarter_turns, turn.mirror)
