"""Transfer of the residual: put a sensor's noise on an image at native scale.

What is added has the spectrum, the distribution, the patterns and the dependence on intensity of a
`NoiseModel`, and a mean of 0; its variance is what the image lacks of the sensor's. So the result
has the sensor's noise, and not the sum of the sensor's and its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar, cast

import cv2
import numpy as np
import scipy
from numpy.typing import NDArray

from synth.errors import NoiseError
from synth.frames import Frame
from synth.noise.blocks import second_difference_gain, second_differences
from synth.noise.model import NoiseModel
from synth.seeds import generator

Field = NDArray[np.float32]
Spectrum = NDArray[np.complex64]
Array = TypeVar("Array", bound=NDArray[np.floating])

# Sides of the field that windows of noise are cut from, and lengths of the patterns' lines.
_SIDE, _LENGTH = 1024, 16384

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


class NoiseField:
    """A field of noise that windows of any size are cut from.

    The field goes on from its beginning after 1024 pixels, and the patterns after 16384. The same
    model makes the same field.

    Parameters
    ----------
    model : NoiseModel
    """

    def __init__(self, model: NoiseModel) -> None:
        self.model = model
        self._lines = [
            _make_lines(spectrum, generator(number, "noise lines"))
            for number, spectrum in enumerate((model.columns, model.rows))
        ]
        gain = second_difference_gain(model.spectrum.shape[-1])
        self._fine = np.sqrt((gain * model.spectrum).mean((1, 2)))
        self._pixels: dict[int, Field] = {}

    def window(
        self, shape: tuple[int, int], place: int, kind: int = 0
    ) -> tuple[Field, Field, Field]:
        """Cut noise out of the field.

        Parameters
        ----------
        shape : tuple of int
            (H, W).
        place : int
            Where, 0 or more: any number has its window.
        kind : int
            Of which of the model's spectra.

        Returns
        -------
        pixels : (H, W) ndarray of float32
            Noise of the pixels, variance 1.
        columns : (W,) ndarray of float32
        rows : (H,) ndarray of float32
            Patterns, variance 1 (0 where the model has none).
        """
        height, width = shape
        if kind not in self._pixels:
            self._pixels[kind] = _make_field(self.model, kind)
        field = self._pixels[kind]
        if 2 * max(height, width) <= _SIDE:
            # Clear of the field's end, so that nothing has to be put together.
            top, left = divmod(place % ((_SIDE - height) * (_SIDE - width)), _SIDE - width)
            pixels = field[top : top + height, left : left + width]
        else:
            top, left = divmod(place % _SIDE**2, _SIDE)
            down, along = (top + np.arange(height)) % _SIDE, (left + np.arange(width)) % _SIDE
            pixels = field[np.ix_(down, along)]
        start = (place // 7) % _LENGTH
        columns, rows = (
            line[start : start + length]
            if start + length <= _LENGTH
            else np.take(line, np.arange(start, start + length), mode="wrap")
            for line, length in zip(self._lines, (width, height), strict=True)
        )
        return pixels, columns, rows

    def image_sigma(
        self, image: Frame, kind: int = 0
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Estimate the noise that an image has already, as if it were of the model's colour.

        Second differences see noise and hardly a scene. Where they are least, they see noise
        alone, and the model says how much noise that is.

        Parameters
        ----------
        image : (H, W) ndarray of uint8 or uint16
        kind : int
            Of which of the model's spectra.

        Returns
        -------
        level, sigma : (k,) ndarray of float64
            Standard deviations at intensities, DN; k is at least 1.
        """
        level, fine = measure_fine_noise(image)
        return level, fine / self.fine_share(kind)

    def fine_share(self, kind: int = 0) -> float:
        """Share of the σ of one kind of noise that second differences see."""
        return max(float(self._fine[kind]), 1e-6)


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


def transfer_residual(
    image: Frame,
    field: NoiseField,
    *,
    frame: int = 0,
    place: int = 0,
    strength: float = 1.0,
    gain: float | None = None,
    own: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
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
    field : NoiseField
    frame : int
        Number of the model's frame whose noise it is to have.
    place : int
        Which window of the field.
    strength : float
        s, 0 or more; 1 is the sensor's own noise.
    gain : float, optional
        Factor from the model's DN to the image's. Without it both must be of one depth.
    own : tuple of arrays, optional
        `NoiseField.image_sigma` of the image, where it is known already.

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
    >>> field = NoiseField(make_physical_model(sigma=3.0))
    >>> noisy = transfer_residual(np.full((64, 64), 100, np.uint8), field)
    >>> bool(abs(noisy.image.std() - 3) < 0.3), round(noisy.sigma)
    (True, 3)
    """
    model = field.model
    if not strength >= 0:
        raise ValueError(f"strength is 0 or more, not {strength}")
    if gain is None and model.depth != 8 * image.dtype.itemsize:
        raise NoiseError(
            f"noise of {model.depth} bits does not fit an image of {image.dtype}; give the gain "
            "from the noise's DN to the image's (--gain), or noise of the same depth"
        )
    if not 0 <= frame < len(model):
        raise NoiseError(f"the noise model has {len(model)} frames; there is no frame {frame}")
    scale = 1.0 if gain is None else gain
    kind = int(model.frame_kind[frame])
    level, sigma = own if own is not None else field.image_sigma(image, kind)

    top = np.iinfo(image.dtype).max
    intensity = np.arange(top + 1, dtype=np.float64)
    asked = (strength * scale * model.frame_factor[frame] * model.sigma_at(intensity / scale)) ** 2
    lacking = np.maximum(asked - np.interp(intensity, level, sigma) ** 2, 0)
    noise = _look_up(np.sqrt(lacking), image)
    pixels, columns, rows = field.window((image.shape[0], image.shape[1]), place, kind)
    cv2.multiply(noise, pixels, dst=noise)

    if image.dtype == np.uint8:
        hist = cv2.calcHist([image], [0], None, [256], [0, 256]).ravel().astype(np.float64)
    else:
        hist = np.bincount(image.ravel(), minlength=top + 1).astype(np.float64)
    wanted = float(hist @ asked)
    share = np.sqrt(float(hist @ lacking) / wanted) if wanted > 0 else 0.0
    lines = np.float32(strength * scale * share)
    if lines > 0:
        noise += columns * (lines * np.float32(model.frame_column[frame]))
        noise += (rows * (lines * np.float32(model.frame_row[frame])))[:, None]
    noise -= np.float32(cv2.mean(noise)[0])
    darkest, brightest, *_ = cv2.minMaxLoc(image)
    if min(darkest, top - brightest) < cv2.norm(noise, cv2.NORM_INF):
        room = _look_up(np.minimum(intensity, top - intensity), image)
        cv2.min(noise, room, dst=noise)
        cv2.max(noise, np.negative(room, out=room), dst=noise)
    power = cv2.norm(noise, cv2.NORM_L2SQR) / noise.size
    # Rounds, and clips to the range.
    depth = cv2.CV_8U if image.dtype == np.uint8 else cv2.CV_16U
    out = cast(Frame, cv2.add(image.astype(np.float32), noise, dtype=depth))
    if model.dead > 0:
        out.flat[_draw_pixels(out.size, model.dead, 0)] = image.min()
    if model.blinking > 0:
        out.flat[_draw_pixels(out.size, model.blinking, 1 + place)] = image.max()
    noisier = float(hist[lacking <= 0].sum()) / image.size if strength > 0 else 0.0
    return Transferred(out, float(np.sqrt(power)), noisier)


def _look_up(table: NDArray[np.float64], image: Frame) -> Field:
    """What a table has for each pixel's DN."""
    values = table.astype(np.float32)
    return np.asarray(cv2.LUT(image, values) if image.dtype == np.uint8 else values[image])


def generate_frame(field: NoiseField, shape: tuple[int, int], frame: int, place: int) -> Frame:
    """Make a frame of noise alone, at an intensity that one of the model's frames has.

    Parameters
    ----------
    field : NoiseField
    shape : tuple of int
        (H, W).
    frame, place : int
        See `transfer_residual`.

    Returns
    -------
    (H, W) ndarray of uint8 or uint16
        DN.
    """
    dtype = np.uint8 if field.model.depth == 8 else np.uint16
    level = generator(place, "level").choice(field.model.frame_levels[frame])
    clean = cast(Frame, np.full(shape, np.rint(level).clip(0, np.iinfo(dtype).max), dtype))
    nothing = np.zeros(1), np.zeros(1)
    return transfer_residual(clean, field, frame=frame, place=place, own=nothing).image


def _make_field(model: NoiseModel, kind: int) -> Field:
    """Noise of one of the model's spectra and distributions, variance 1.

    White normal noise is coloured, then bent to the distribution. Bending whitens it a little, so
    it is coloured a second time by what was lost of the spectrum the first time.
    """
    wanted = np.maximum(model.spectrum[kind], 1e-6)
    bend = _bending(model.quantiles[kind])
    white = _white_noise(kind)
    power = np.log(wanted)
    field = _bent(_coloured(white, power), bend)
    power = power + np.log(wanted / _spectrum(field, len(wanted)))
    return _bent(_coloured(white, power), bend)


# As many as a fitted model has kinds at most.
@lru_cache(maxsize=4)
def _white_noise(number: int) -> Spectrum:
    """The transform of a field of white normal noise; cameras share it."""
    values = generator(number, "noise field").standard_normal((_SIDE, _SIDE), np.float32)
    return np.asarray(scipy.fft.rfft2(values))


def _coloured(white: Spectrum, power: NDArray[np.float64]) -> Field:
    """Give white noise a spectrum, of which the logarithm is given."""
    gain = _enlarge(power)
    np.exp(np.divide(gain, 2, out=gain), out=gain)
    return np.asarray(scipy.fft.irfft2(white * gain, (_SIDE, _SIDE), overwrite_x=True))


def _bent(coloured: Field, bend: Field) -> Field:
    """Bend noise to a distribution; what is given is overwritten."""
    return _standardise(bend[_place(_standardise(coloured))])


# What is beyond six standard deviations of normal noise is not drawn in a field's lifetime.
_ENDS, _STEPS = 6.0, 1 << 14


def _place(normal: Field) -> NDArray[np.int32]:
    """Index of values among `_STEPS` equal ones between the ends."""
    steps = normal + np.float32(_ENDS)
    steps *= np.float32(_STEPS / (2 * _ENDS))
    return steps.clip(0, _STEPS - 1, out=steps).astype(np.int32)


def _bending(quantiles: NDArray[np.float64]) -> Field:
    """What normal values become so that they have the quantiles, at `_STEPS` of them."""
    normal = scipy.special.ndtri((np.arange(len(quantiles)) + 0.5) / len(quantiles))
    # Beyond the outermost quantiles the distribution goes on as a normal one.
    ends = quantiles[[0, -1]] * (_ENDS / -normal[0])
    values = np.concatenate([ends[:1], quantiles, ends[1:]])
    normal = np.concatenate([[-_ENDS], normal, [_ENDS]])
    steps = (np.arange(_STEPS) + 0.5) * (2 * _ENDS / _STEPS) - _ENDS
    return np.interp(steps, normal, values).astype(np.float32)


def _enlarge(spectrum: NDArray[np.float64]) -> Field:
    """Interpolate a spectrum to the field's frequencies, those of a real transform."""
    side = len(spectrum)
    closed = np.pad(spectrum, ((0, 1), (0, 1)), mode="wrap").astype(np.float32)
    along, down = _frequencies(side)
    return np.asarray(cv2.remap(closed, along, down, cv2.INTER_LINEAR), np.float32)


@lru_cache(maxsize=1)
def _frequencies(side: int) -> tuple[Field, Field]:
    """Where in a (side, side) spectrum the field's frequencies lie: columns and rows."""
    place = (np.arange(_SIDE) * (side / _SIDE)).astype(np.float32)
    along, down = np.meshgrid(place[: _SIDE // 2 + 1], place)
    return along, down


def _spectrum(field: NDArray[np.floating], side: int) -> NDArray[np.float64]:
    """The power spectrum of a field by its blocks, (side, side), mean 1."""
    blocks = field[: _SIDE // side * side, : _SIDE // side * side]
    blocks = blocks.reshape(_SIDE // side, side, _SIDE // side, side).swapaxes(1, 2)
    half = (np.abs(scipy.fft.rfft2(blocks)) ** 2).mean((0, 1))
    # The rest is that of the opposite frequencies, in the columns that are their own opposites too.
    beyond, before = slice(side // 2 + 1, None), slice((side - 1) // 2, 0, -1)
    own = [0] if side % 2 else [0, -1]
    half[beyond, own] = half[before, own]
    opposite = np.roll(half[::-1, before], 1, 0)
    power = np.concatenate([half, opposite], 1)
    return np.asarray(power / power.mean(), np.float64)


def _make_lines(spectrum: NDArray[np.float64], rng: np.random.Generator) -> Field:
    """One long line of a pattern, variance 1, or 0 where the spectrum has nothing."""
    if not spectrum.any():
        return np.zeros(_LENGTH, np.float32)
    place = np.arange(_LENGTH // 2 + 1) * (len(spectrum) / _LENGTH)
    power = np.interp(place, np.arange(len(spectrum) + 1), np.append(spectrum, spectrum[0]))
    line = scipy.fft.irfft(scipy.fft.rfft(rng.standard_normal(_LENGTH)) * np.sqrt(power), _LENGTH)
    return _standardise(line).astype(np.float32)


def _standardise(values: Array) -> Array:
    """Give values a mean of 0 and a variance of 1, in their place."""
    np.subtract(values, float(values.mean()), out=values)
    spread = max(float(np.sqrt(np.square(values).mean())), 1e-12)
    np.divide(values, spread, out=values)
    return values


def _draw_pixels(size: int, share: float, number: int) -> NDArray[np.int64]:
    """Draw pixels that are defective; the same ones for the same size and number."""
    rng = generator(number, "defective pixels")
    return rng.choice(size, int(rng.binomial(size, share)), replace=False)
