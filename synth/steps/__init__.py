"""What a recipe does to an image: one step a module."""

from synth.steps.base import Step, Supply, find_step, parse_step, register_step
from synth.steps.choose import Choose
from synth.steps.distract import Distract
from synth.steps.mixup import Mixup
from synth.steps.move import Move
from synth.steps.physical import Physical
from synth.steps.residual import Residual
from synth.steps.transplant import Hosts, Transplant
from synth.steps.turn import Turn

__all__ = [
    "Choose",
    "Distract",
    "Hosts",
    "Mixup",
    "Move",
    "Physical",
    "Residual",
    "Step",
    "Supply",
    "Transplant",
    "Turn",
    "find_step",
    "parse_step",
    "register_step",
]
