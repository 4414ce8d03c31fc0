from .dataset import open_dataset
from .frames import read_frame, write_frame
from .noise.learn import fit_noise, sample_noise
from .recipe import Recipe
from .scene import Scene
from .steps import (
    Choose,
    Distract,
    Mixup,
    Move,
    Physical,
    Residual,
    Step,
    Transplant,
    Turn,
    register_step,
)
from .version import __version__

__all__ = [
    "Choose",
    "Distract",
    "Mixup",
    "Move",
    "Physical",
    "Recipe",
    "Residual",
    "Scene",
    "Step",
    "Transplant",
    "Turn",
    "__version__",
    "fit_noise",
    "open_dataset",
    "read_frame",
    "register_step",
    "sample_noise",
    "write_frame",
]
