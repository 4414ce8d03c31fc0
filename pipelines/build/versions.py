"""What the bytes of an output may depend on beside its sources."""

from __future__ import annotations

import platform

import cv2
import numpy as np

from synth import __version__
from synth.disk.png import ENCODER


def processor() -> str:
    """The instructions that OpenCV and NumPy use here, which may decide how a value is rounded."""
    # An asterisk is for what is looked for when a program runs, a question mark for what lacks.
    named = [name.lstrip("*") for name in cv2.getCPUFeaturesLine().split()]
    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    features = [name for name in (*named, *found) if not name.endswith("?")]
    return " ".join([platform.machine(), *features])


def versions() -> dict[str, str]:
    """What the bytes of an output depend on, beside the `processor`: the same on every machine."""
    return {
        "sirst-synth": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "png": ENCODER,
    }
