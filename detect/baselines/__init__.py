"""Classical detectors by name: `Baseline`, or `find_saliency` and `segment` one by one.

They need no training, and they are the check that our metrics and the literature's agree. For the
664 test images of NUDT-SIRST the BasicIRSTD toolbox publishes IoU and Pd in 1e-2 and Fa in 1e-6;
beside them stand ours, with the protocol ``basicirstd`` and the adaptive threshold, and the time
for a frame of 256 x 256 on one core:

| method | published | ours | time |
| --- | --- | --- | --- |
| top-hat | 20.72 / 78.41 / 166.7 | 20.83 / 78.41 / 166.4 | 0.002 s |
| max-median | 4.20 / 58.41 / 36.9 | 4.22 / 58.41 / 35.9 | 0.01 s |
| rlcm | 15.14 / 66.35 / 163.0 | 15.19 / 66.67 / 163.0 | 0.05 s |
| mpcm | 5.86 / 55.87 / 116.0 | 5.86 / 55.87 / 117.1 | 0.01 s |
| ipi | 17.76 / 74.49 / 41.2 | 18.67 / 73.77 / 41.2 | 1.5 s |
| pstnn | 14.85 / 66.13 / 44.2 | 14.68 / 65.82 / 46.7 | 0.12 s |

IPI was judged on every eighth of the images, 83 with 122 targets. The choices that the tables do
not state follow from the agreement: a 5 x 5 square, lines of 5 pixels, MPCM of either sign, PSTNN
with a weight of 0.6 (its authors' code has 0.7, which gives 14.30 / 64.87 / 43.2), and a threshold
of max(0.7·max, mean + 0.5·std). RLCM has the published IoU to the last digit with zeros around the
frame; here cells end at the border, so that a flat frame holds nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detect.baselines.contrast import mpcm, rlcm
from detect.baselines.filters import max_median, top_hat
from detect.baselines.lowrank import ipi, pstnn
from detect.baselines.thresholds import RULES, Rule, segment
from detect.errors import DetectError
from synth.errors import no_such
from synth.frames import Frame, Mask

__all__ = ["RULES", "Baseline", "Rule", "baseline_names", "find_saliency", "segment"]

_METHODS: dict[str, Callable[[Frame], NDArray[np.float32]]] = {
    "top-hat": top_hat,
    "max-median": max_median,
    "rlcm": rlcm,
    "mpcm": mpcm,
    "ipi": ipi,
    "pstnn": pstnn,
}


@dataclass(frozen=True)
class Baseline:
    """A classical detector: frames in, masks out, as `detect.evaluate.evaluate` takes them.

    Attributes
    ----------
    name : str
        One of `baseline_names`.
    rule, sigmas
        How its saliency becomes a mask; see `segment`.

    Examples
    --------
    >>> import numpy as np
    >>> frame = np.random.default_rng(0).normal(90, 2, (64, 64)).round().astype(np.uint8)
    >>> frame[30:33, 40:43] += 60
    >>> mask = Baseline("top-hat")(frame)
    >>> np.argwhere(mask).mean(axis=0).tolist()
    [31.0, 41.0]
    """

    name: str
    rule: Rule = "adaptive"
    sigmas: float = 5.0

    def __call__(self, frame: Frame) -> Mask:
        """Detect the targets of a frame of any size."""
        return segment(find_saliency(self.name, frame), self.rule, self.sigmas)


def baseline_names() -> tuple[str, ...]:
    """Names that `find_saliency` knows."""
    return tuple(_METHODS)


def find_saliency(name: str, frame: Frame) -> NDArray[np.float32]:
    """Compute how much every pixel looks like a target.

    Parameters
    ----------
    name : str
        One of `baseline_names`.
    frame : (H, W) ndarray of uint8 or uint16
        Any size.

    Returns
    -------
    (H, W) ndarray of float32
        0 or more, in the unit that the method's own docstring gives.

    Raises
    ------
    DetectError
        There is no such method.
    """
    if name not in _METHODS:
        raise DetectError(no_such("baseline", name, _METHODS))
    return _METHODS[name](frame)
