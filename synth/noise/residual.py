"""Transfer of the residual: put a sensor's noise on an image at native scale.

What is added has the spectrum, the distribution, the patterns and the dependence on intensity of a
`NoiseModel`, and a mean of 0; its variance is what the image lacks of the sensor's. So the result
has the sensor's noise, and not the sum of the sensor's and its own.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from synth.errors import NoiseError
from synth.frames import Frame
from synth.noise.blocks import second_difference_gain, second_differences, trend_basis
from synth.noise.model import NoiseModel
from synth.noise.realisation import NoiseGenerator, Values
from synth.seeds import generator

# Blocks in which an image's own noise is looked for, and the part of them, the least textured
# one, in which it is found.
_BLOCK, _SMOOTHEST, _LEVELS = 16, 0.25, 4

# Of blocks of white noise this quantile of the variance lies so much below the mean.
_QUANTILE_BIAS = 0.88


class Transferred(NamedTuple):
    """An image with noise, and the share of pixels that had as much as was asked for already."""

    image: Frame
    noisier: float


class OwnNoise(NamedTuple):
    """An image's own noise where least of its scene shows, at up to four levels of intensity, DN.

    It is seen as two standard deviations: `fine`, of second differences, scaled to those of white
    noise, and `whole`, over quadratic trends of blocks of 16x16 pixels.
    """

    level: NDArray[np.float64]
    fine: NDArray[np.float64]
    whole: NDArray[np.float64]


NO_NOISE = OwnNoise(np.zeros(1), np.zeros(1), np.zeros(1))


def measure_own_noise(image: Frame) -> OwnNoise:
    """Measure an image's own noise, without the twelfth of a squared DN that rounding adds.

    Second differences hardly see a scene, but they see the steps of a rounded ramp as up to five
    times the noise of rounding. The residual over a trend has that noise alone, and every scene.
    So the noise is at most what either shows. The image is (H, W), of uint8 or uint16.
    """
    values = image.astype(np.float32)
    rows, cols = (max(length // _BLOCK, 1) for length in image.shape)
    shrink = (cols, rows)
    fine = cv2.resize(second_differences(values), shrink, interpolation=cv2.INTER_AREA).ravel()
    mean = cv2.resize(values, shrink, interpolation=cv2.INTER_AREA).ravel()
    whole = _variances_over_trends(values) if min(image.shape) >= _BLOCK else fine
    order = np.argsort(mean, kind="stable")
    count = int(np.clip(len(order) // 8, 1, _LEVELS))
    parts = np.array_split(order, count)
    level = np.array([float(mean[part].mean()) for part in parts])

    def low_quantile(variance: NDArray[Any]) -> float:
        place = _SMOOTHEST * (len(variance) - 1)
        # As numpy's quantile, in a tenth of its time.
        return float(np.interp(place, np.arange(len(variance)), np.sort(variance)))

    found = [
        np.array([low_quantile(variance[part]) for part in parts]) / _QUANTILE_BIAS
        for variance in (fine, whole)
    ]
    # In digits that do not depend on the processor.
    sigma = (np.sqrt(np.maximum(square - 1 / 12, 0)).round(4) for square in found)
    return OwnNoise(level, *sigma)


def _variances_over_trends(values: Values) -> NDArray[np.float64]:
    """Variance of each block over its quadratic trend, in raster order."""
    rows, cols = (length // _BLOCK for length in values.shape)
    blocks = values[: rows * _BLOCK, : cols * _BLOCK].reshape(rows, _BLOCK, cols, _BLOCK)
    flat = blocks.swapaxes(1, 2).reshape(rows * cols, _BLOCK**2)
    # Squares of 16-bit values would lose the noise's digits in float32.
    flat = flat - flat[:, :1]
    trend = flat @ trend_basis(_BLOCK).astype(np.float32)
    square = np.einsum("ij,ij->i", flat, flat) - np.einsum("ij,ij->i", trend, trend)
    return np.maximum(square, 0) / (_BLOCK**2 - trend.shape[1])


def _shares_seen(model: NoiseModel, kind: int) -> tuple[float, float]:
    """Shares, above 0, of the σ of one kind of a model's noise that `OwnNoise` has of it."""
    spectrum = model.spectrum[kind] / model.spectrum[kind].mean()
    side = len(spectrum)
    fine = float((second_difference_gain(side) * spectrum).mean())
    # The power of trends in a block, from the autocorrelation of the noise and of the trends.
    basis = np.moveaxis(trend_basis(_BLOCK).reshape(_BLOCK, _BLOCK, -1), -1, 0)
    trends = np.fft.ifft2((np.abs(np.fft.fft2(basis, (2 * _BLOCK, 2 * _BLOCK))) ** 2).sum(0)).real
    lag = np.arange(-min(_BLOCK, side // 2) + 1, min(_BLOCK, side // 2))
    fade = 1 - np.abs(lag) / side
    noise = np.fft.ifft2(spectrum).real[np.ix_(lag, lag)] / np.outer(fade, fade)
    taken = float((noise * trends[np.ix_(lag, lag)]).sum())
    whole = (_BLOCK**2 - taken) / (_BLOCK**2 - len(basis))
    return max(float(np.sqrt(fine)), 1e-6), float(np.sqrt(max(whole, 0.05)))


def transfer_residual(
    image: Frame,
    noise: NoiseGenerator,
    *,
    seed: int,
    frame: int = 0,
    strength: float = 1.0,
    gain: float | None = None,
    own: OwnNoise | None = None,
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
    own : OwnNoise, optional
        `measure_own_noise` of the image, where it is known already.

    Returns
    -------
    Transferred

    Raises
    ------
    NoiseError
        Model and image differ in depth and no gain was given.

    Examples
    --------
    >>> from synth.noise.model import make_physical_model
    >>> camera = NoiseGenerator(make_physical_model(sigma=3.0))
    >>> noisy = transfer_residual(np.full((64, 64), 100, np.uint8), camera, seed=0)
    >>> bool(abs(noisy.image.std() - 3) < 0.3)
    True
    """
    model = noise.model
    if gain is None and model.depth != 8 * image.dtype.itemsize:
        raise NoiseError(
            f"noise of {model.depth} bits does not fit an image of {image.dtype}; give the gain "
            "from the noise's DN to the image's, or noise of the same depth"
        )
    if strength == 0:
        return Transferred(image.copy(), 0.0)
    scale = 1.0 if gain is None else gain
    kind = int(model.frame_kind[frame])
    # The image's own noise is taken to be of the model's colour.
    own = own or measure_own_noise(image)
    fine, whole = noise.cached(_shares_seen, kind)
    sigma = np.minimum(own.fine / fine, own.whole / whole)

    darkest, brightest = (int(end) for end in cv2.minMaxLoc(image)[:2])
    # A table over all DN of 16 bits would take longer than the rest.
    first, last = (0, 255) if image.dtype == np.uint8 else (darkest, brightest)
    intensity = np.arange(first, last + 1, dtype=np.float64)
    asked = (strength * scale * model.frame_factor[frame] * model.sigma_at(intensity / scale)) ** 2
    lacking = np.maximum(asked - np.interp(intensity, own.level, sigma) ** 2, 0)
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
    # Rounds, and clips to the range.
    depth = cv2.CV_8U if image.dtype == np.uint8 else cv2.CV_16U
    out = cast(Frame, cv2.add(image.astype(np.float32), added, dtype=depth))
    dead, blinking = noise.defects(out.size, seed)
    out.flat[dead] = darkest
    out.flat[blinking] = brightest
    return Transferred(out, float(hist[lacking <= 0].sum()) / image.size)


def _look_up(table: NDArray[np.float64], image: Frame, first: int) -> Values:
    """Values of a table that begins at the DN `first`, which is 0 for 8 bits, (H, W)."""
    values = table.astype(np.float32)
    if image.dtype == np.uint8:
        return np.asarray(cv2.LUT(image, values))
    return np.take(values, image - np.uint16(first), mode="clip")


def generate_frame(
    noise: NoiseGenerator, shape: tuple[int, int], *, seed: int, frame: int = 0
) -> Frame:
    """Make a frame (H, W) of noise alone, at an intensity that one of the model's frames has.

    The other arguments are those of `transfer_residual`.
    """
    dtype = np.uint8 if noise.model.depth == 8 else np.uint16
    level = generator(seed, "level").choice(noise.model.frame_levels[frame])
    clean = cast(Frame, np.full(shape, np.rint(level).clip(0, np.iinfo(dtype).max), dtype))
    return transfer_residual(clean, noise, seed=seed, frame=frame, own=NO_NOISE).image
