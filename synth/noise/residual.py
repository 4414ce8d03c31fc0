"""Transfer of the residual: put a sensor's noise on an image at native scale.

What is added has the spectrum, the distribution, the patterns and the dependence on intensity of a
`NoiseModel`, and a mean of 0; its variance is what the image lacks of the sensor's. So the result
has the sensor's noise, and not the sum of the sensor's and its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from synth.errors import NoiseError
from synth.frames import Frame
from synth.noise.blocks import second_difference_gain, second_differences
from synth.noise.model import NoiseModel
from synth.noise.realisation import NoiseGenerator, Values
from synth.seeds import generator

# Blocks in which an image's own noise is looked for, and the part of them, the least textured
# one, in which it is found.
_BLOCK, _SMOOTHEST, _LEVELS = 16, 0.25, 4

# Of blocks of white noise this quantile of the variance lies so much below the mean.
_QUANTILE_BIAS = 0.88


@dataclass(frozen=True, slots=True)
class Transferred:
    """An image with noise.

    Attributes
    ----------
    image : (H, W) ndarray of the image's dtype
    sigma : float
        Root mean square of what was added to pixels, before rounding, DN.
    noisier : float
        Share of pixels where the image had as much noise as was asked for, or more, already.
    """

    image: Frame
    sigma: float
    noisier: float


def measure_fine_noise(image: Frame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Measure what second differences see of an image's noise where they see least of its scene.

    Parameters
    ----------
    image : (H, W) ndarray of uint8 or uint16

    Returns
    -------
    level, sigma : (k,) ndarray of float64
        Standard deviations of second differences, scaled to those of white noise, without what
        rounding adds, at up to four intensities, DN.
    """
    values = image.astype(np.float32)
    rows, cols = (max(length // _BLOCK, 1) for length in image.shape)
    shrink = (cols, rows)
    fine = second_differences(values)
    variance = cv2.resize(fine, shrink, interpolation=cv2.INTER_AREA).ravel()
    mean = cv2.resize(values, shrink, interpolation=cv2.INTER_AREA).ravel()
    order = np.argsort(mean, kind="stable")
    count = int(np.clip(len(order) // 8, 1, _LEVELS))
    level, square = [], []
    for part in np.array_split(order, count):
        level.append(float(mean[part].mean()))
        square.append(_low_quantile(variance[part]) / _QUANTILE_BIAS)
    # Rounding is white, and comes again when the sum is rounded.
    return np.array(level), np.sqrt(np.maximum(np.array(square) - 1 / 12, 0))


def _low_quantile(variance: NDArray[Any]) -> float:
    """The quantile at `_SMOOTHEST`, between neighbours as numpy's, in a tenth of its time."""
    place = _SMOOTHEST * (len(variance) - 1)
    below = int(place)
    ordered = np.sort(variance)
    low, high = float(ordered[below]), float(ordered[min(below + 1, len(ordered) - 1)])
    return low + (place - below) * (high - low)


def _share_of_fine_noise(model: NoiseModel, kind: int) -> float:
    """Share of the σ of one kind of a model's noise that second differences see, above 0."""
    spectrum = model.spectrum[kind]
    seen = float((second_difference_gain(len(spectrum)) * spectrum).mean())
    return max(float(np.sqrt(seen)), 1e-6)


def transfer_residual(
    image: Frame,
    noise: NoiseGenerator,
    *,
    seed: int,
    frame: int = 0,
    strength: float = 1.0,
    gain: float | None = None,
    fine_noise: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
) -> Transferred:
    """Give an image the noise of a sensor.

    The variance that is added at a pixel is max(0, (s σ)² − σ_image²), with σ the sensor's at the
    pixel's intensity in one of the model's frames and σ_image that of the image there. Patterns
    of columns and rows are those of the frame, less in the same proportion. Near the ends of the
    range what is added is clipped on both sides alike, so that the mean stays.

    Parameters
    ----------
    image : (H, W) ndarray of uint8 or uint16
        DN.
    noise : NoiseGenerator
    seed : int
        Of this realisation, see `NoiseGenerator.draw`.
    frame : int
        Number of the model's frame whose noise it is to have.
    strength : float
        s, 0 or more; 1 is the sensor's own noise. At 0 the image is unchanged.
    gain : float, optional
        Factor from the model's DN to the image's. Without it both must be of one depth.
    fine_noise : tuple of arrays, optional
        `measure_fine_noise` of the image, where it is known already.

    Returns
    -------
    Transferred

    Raises
    ------
    NoiseError
        Model and image differ in depth and no gain was given, or there is no such frame.
    ValueError
        `strength` is below 0.

    Examples
    --------
    >>> from synth.noise.model import make_physical_model
    >>> camera = NoiseGenerator(make_physical_model(sigma=3.0))
    >>> noisy = transfer_residual(np.full((64, 64), 100, np.uint8), camera, seed=0)
    >>> bool(abs(noisy.image.std() - 3) < 0.3), round(noisy.sigma)
    (True, 3)
    """
    model = noise.model
    if not strength >= 0:
        raise ValueError(f"strength is 0 or more, not {strength}")
    if gain is None and model.depth != 8 * image.dtype.itemsize:
        raise NoiseError(
            f"noise of {model.depth} bits does not fit an image of {image.dtype}; give the gain "
            "from the noise's DN to the image's (--gain), or noise of the same depth"
        )
    if not 0 <= frame < len(model):
        raise NoiseError(f"the noise model has {len(model)} frames; there is no frame {frame}")
    if strength == 0:
        return Transferred(image.copy(), 0.0, 0.0)
    scale = 1.0 if gain is None else gain
    kind = int(model.frame_kind[frame])
    # The image's own noise is taken to be of the model's colour.
    level, fine = fine_noise if fine_noise is not None else measure_fine_noise(image)
    sigma = fine / _share_of_fine_noise(model, kind)

    darkest, brightest = (int(end) for end in cv2.minMaxLoc(image)[:2])
    # A table over all DN of 16 bits would take longer than the rest.
    first, last = (0, 255) if image.dtype == np.uint8 else (darkest, brightest)
    intensity = np.arange(first, last + 1, dtype=np.float64)
    asked = (strength * scale * model.frame_factor[frame] * model.sigma_at(intensity / scale)) ** 2
    lacking = np.maximum(asked - np.interp(intensity, level, sigma) ** 2, 0)
    pixels, columns, rows = noise.draw((image.shape[0], image.shape[1]), seed, kind)
    added = _look_up(np.sqrt(lacking), image, first)
    cv2.multiply(added, pixels, dst=added)

    found = cv2.calcHist([image], [0], None, [len(intensity)], [first, last + 1])
    hist = found.ravel().astype(np.float64)
    wanted = float(hist @ asked)
    share = np.sqrt(float(hist @ lacking) / wanted) if wanted > 0 else 0.0
    lines = np.float32(strength * scale * share)
    if lines > 0:
        added += columns * (lines * np.float32(model.frame_column[frame]))
        added += (rows * (lines * np.float32(model.frame_row[frame])))[:, None]
    added -= np.float32(cv2.mean(added)[0])
    top = np.iinfo(image.dtype).max
    if min(darkest, top - brightest) < cv2.norm(added, cv2.NORM_INF):
        room = _look_up(np.minimum(intensity, top - intensity), image, first)
        cv2.min(added, room, dst=added)
        cv2.max(added, np.negative(room, out=room), dst=added)
    power = cv2.norm(added, cv2.NORM_L2SQR) / added.size
    # Rounds, and clips to the range.
    depth = cv2.CV_8U if image.dtype == np.uint8 else cv2.CV_16U
    out = cast(Frame, cv2.add(image.astype(np.float32), added, dtype=depth))
    dead, blinking = noise.defects(out.size, seed)
    out.flat[dead] = darkest
    out.flat[blinking] = brightest
    noisier = float(hist[lacking <= 0].sum()) / image.size
    return Transferred(out, float(np.sqrt(power)), noisier)


def _look_up(table: NDArray[np.float64], image: Frame, first: int) -> Values:
    """Values of a table that begins at the DN `first`, which is 0 for 8 bits, (H, W)."""
    values = table.astype(np.float32)
    if image.dtype == np.uint8:
        return np.asarray(cv2.LUT(image, values))
    return np.take(values, image - np.uint16(first), mode="clip")


def generate_frame(
    noise: NoiseGenerator, shape: tuple[int, int], *, seed: int, frame: int = 0
) -> Frame:
    """Make a frame of noise alone, at an intensity that one of the model's frames has.

    Parameters
    ----------
    noise : NoiseGenerator
    shape : tuple of int
        (H, W).
    seed, frame : int
        See `transfer_residual`.

    Returns
    -------
    (H, W) ndarray of uint8 or uint16
        DN.
    """
    dtype = np.uint8 if noise.model.depth == 8 else np.uint16
    level = generator(seed, "level").choice(noise.model.frame_levels[frame])
    clean = cast(Frame, np.full(shape, np.rint(level).clip(0, np.iinfo(dtype).max), dtype))
    nothing = np.zeros(1), np.zeros(1)
    return transfer_residual(clean, noise, seed=seed, frame=frame, fine_noise=nothing).image
