"""Realisations of a camera's noise: every call draws new noise from a generator of its own.

Two ways lead from a `NoiseModel` to pixels. From its spectra: complex normal values are drawn at
every frequency of the output, scaled by the root of the power spectrum, and transformed back; then
the values are distorted to the measured distribution. From its patches, where it has some: real
residuals, tiled and blended.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import scipy
from numpy.typing import NDArray

from synth.noise.model import LEAST_PATCHES, NoiseModel
from synth.seeds import generator

Values = NDArray[np.float32]
Floats = NDArray[np.float64]
Known = TypeVar("Known")

SEEDS = 1 << 53
"""Seeds of realisations are below this, so that every JSON reader keeps them whole."""

ORDINALS = 1 << 32
"""`realisation_seed` tells so many outputs of one build apart."""

# The transform wraps around, so more is drawn and cut off, in pixels. Beyond 16 no camera that was
# measured has an autocorrelation above 0.02.
_BEYOND = 16

# Normal values are looked up from 16 random bits, ten times as fast as numpy draws them. Each pixel
# is a sum over all frequencies, so the steps and the missing tails do not matter.
_LEVELS = 1 << 16

# The distortion is tabulated between these numbers of standard deviations.
_ENDS, _STEPS = 6.0, 1 << 14

# Orders of Hermite polynomials that describe the distortion's effect on correlations, and rounds in
# which the drawn spectrum is corrected.
_ORDERS, _CORRECTIONS = 12, 6

# Values in the gains that are kept for one camera, over its spectra and sizes of output: 64 MB.
_MOST_GAINS = 1 << 24

# Power below this, relative to the mean, is not told from none.
_FLOOR = 1e-6

# Columns of tiles with an order of patches of their own; wider outputs repeat it.
_MOST_ACROSS = 1024


def realisation_seed(seed: int, purpose: str, ordinal: int) -> int:
    """Make the seed of one output's noise; no two ordinals of one purpose have the same.

    Parameters
    ----------
    seed : int
        The build's.
    purpose : str
        The use of the noise, as ``"frames"``; other uses have other seeds.
    ordinal : int
        The output's number, 0 or more.

    Returns
    -------
    int
        0 or more, below `SEEDS`. Its low bits are the ordinal, its high bits come from the rest.

    Examples
    --------
    >>> realisation_seed(0, "negatives", 8) - realisation_seed(0, "negatives", 7)
    1
    """
    high = int(generator(seed, "noise", purpose).integers(SEEDS // ORDINALS))
    return high * ORDINALS + ordinal


class NoiseGenerator:
    """Draws realisations of one camera's noise.

    Parameters
    ----------
    model : NoiseModel
        With patches the pixels' noise is tiled from them, else it is drawn from the spectra.
    """

    def __init__(self, model: NoiseModel) -> None:
        self.model = model
        # A name that equal models have and different ones do not.
        self._camera = hashlib.sha256(
            b"".join(array.tobytes() for array in model.arrays().values())
        ).hexdigest()
        self._gains: dict[tuple[int, int, int], Values] = {}
        self._known: dict[tuple[Any, int], Any] = {}

    def cached(self, function: Callable[[NoiseModel, int], Known], kind: int) -> Known:
        """Call a function of the model and a kind of its noise, once."""
        if (function, kind) not in self._known:
            self._known[function, kind] = function(self.model, kind)
        known: Known = self._known[function, kind]
        return known

    def draw(
        self, shape: tuple[int, int], seed: int, kind: int = 0
    ) -> tuple[Values, Values, Values]:
        """Draw the noise of one output.

        Parameters
        ----------
        shape : tuple of int
            (H, W).
        seed : int
            Of this realisation, below `SEEDS`. The same seed gives the same noise, another seed or
            camera independent noise. Patches are used again, at other places; with the seeds of
            `realisation_seed` none is twice at one place until all have been there.
        kind : int
            Which of the model's spectra.

        Returns
        -------
        pixels : (H, W) ndarray of float32
            Noise of the pixels, variance 1.
        columns, rows : (W,) and (H,) ndarray of float32
            Patterns, variance 1 (0 where the model has none).
        """
        rng = generator(seed, "noise", self._camera)
        if len(self.model.patches):
            pixels = self._tile(shape, seed, kind)
        else:
            pixels = self._colour(shape, rng, kind)
        columns = _draw_line(self.model.columns, shape[1], rng)
        rows = _draw_line(self.model.rows, shape[0], rng)
        return pixels, columns, rows

    def defects(self, size: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Draw the pixels that are dead and those that blink, as indices into a flat image.

        Dead ones are the camera's own: the same for every seed, in outputs of one size.
        """

        def choose(share: float, own: int, name: str) -> NDArray[np.int64]:
            rng = generator(own, name, self._camera)
            return rng.choice(size, int(rng.binomial(size, share)), replace=False)

        dead = choose(self.model.dead, 0, "dead pixels")
        return dead, choose(self.model.blinking, seed, "blinking pixels")

    def _colour(self, shape: tuple[int, int], rng: np.random.Generator, kind: int) -> Values:
        """Noise with the model's spectrum and distribution."""
        height, width = (scipy.fft.next_fast_len(n + _BEYOND, real=True) for n in shape)
        spectrum, distortion = self.cached(_make_colour, kind)
        gain = self._gains.get((kind, height, width))
        if gain is None:
            gain = _make_gain(spectrum, height, width)
            # Threads share the gains, so one that is there now may be gone a line later.
            if gain.size + sum(other.size for other in list(self._gains.values())) > _MOST_GAINS:
                self._gains.clear()
            self._gains[kind, height, width] = gain
        bits = rng.bit_generator.random_raw(-(-gain.size // 4)).astype("<u8", copy=False)
        bits = bits.view("<u2")[: gain.size]
        values = np.take(_normal_values(), bits, mode="clip").reshape(gain.shape)
        np.multiply(values, gain, out=values)
        periodic = scipy.fft.irfft2(values.view(np.complex64), (height, width), overwrite_x=True)
        pixels: Values = periodic[: shape[0], : shape[1]]
        return np.ascontiguousarray(pixels) if distortion is None else _distort(pixels, distortion)

    def _tile(self, shape: tuple[int, int], seed: int, kind: int) -> Values:
        """Noise from real residuals.

        Tiles overlap by half, under windows whose squares add up to 1, which keeps the variance.
        The ordinal in the seed decides which patch is where: at one place the outputs of a build
        go through all patches before one comes again, and then the grid has moved, and the patches
        that are side by side are others.
        """
        tiles = self.cached(_make_tiles, kind)
        count, side = tiles.shape[:2]
        half = side // 2
        build, ordinal = divmod(seed, ORDINALS)
        again, turn = divmod(ordinal, count)
        down, along = divmod(int(_grid_places(half)[again % half**2]), half)
        rows, cols = (-(-(n + half) // half) + 1 for n in shape)
        start, step = _tile_order(f"{self._camera} {build} {again}", count, rows)
        at = np.arange(cols) % _MOST_ACROSS
        number = (start[:, at] + step[:, at] * turn) % count
        found = np.zeros(((rows + 1) * half, (cols + 1) * half), np.float32)
        for top in (0, 1):
            for left in (0, 1):
                chosen = tiles[number[top::2, left::2]]
                tall, wide = chosen.shape[0] * side, chosen.shape[1] * side
                part = found[top * half : top * half + tall, left * half : left * half + wide]
                part += chosen.swapaxes(1, 2).reshape(tall, wide)
        top, left = half + down, half + along
        return np.ascontiguousarray(found[top : top + shape[0], left : left + shape[1]])


@lru_cache(maxsize=1)
def _normal_values() -> Values:
    values = scipy.special.ndtri((np.arange(_LEVELS) + 0.5) / _LEVELS)
    return np.asarray(values / values.std(), np.float32)


def _make_colour(model: NoiseModel, kind: int) -> tuple[Floats, Values | None]:
    """Make the spectrum to draw, and the distortion to apply, for a kind of the model's noise.

    Blocks of the output must show the model's spectrum. A block shows its periodogram, and the
    distortion changes correlations; both effects are known, so the drawn spectrum is corrected
    until the blocks match.
    """
    distortion, shares = _make_distortion(model.quantiles[kind])
    spectrum = model.spectrum[kind]
    wanted = np.maximum(spectrum / spectrum.mean(), _FLOOR)
    drawn = wanted
    for _ in range(_CORRECTIONS):
        drawn = np.maximum(drawn * wanted / _shown_in_blocks(drawn, shares), _FLOOR)
        drawn = drawn / drawn.mean()
    return drawn, distortion


def _make_distortion(quantiles: Floats) -> tuple[Values | None, Floats]:
    """Make the table of new values for normal ones, None if they stay, and its cₖ².

    Distorted normal values of autocorrelation r have Σ cₖ² rᵏ, with cₖ the coefficients of the
    distortion in normalised Hermite polynomials (M. Cario and B. Nelson, "Modeling and generating
    random vectors with arbitrary marginal distributions and correlation matrix", 1997).
    """
    normal = scipy.special.ndtri((np.arange(len(quantiles)) + 0.5) / len(quantiles))
    if np.abs(quantiles - normal / normal.std()).max() < 1e-3:
        return None, np.ones(1)
    # Beyond the outermost quantiles the distribution goes on as a normal one.
    ends = quantiles[[0, -1]] * (_ENDS / -normal[0])
    values = np.concatenate([ends[:1], quantiles, ends[1:]])
    places = (np.arange(_STEPS) + 0.5) * (2 * _ENDS / _STEPS) - _ENDS
    distortion = np.interp(places, [-_ENDS, *normal, _ENDS], values)
    weight = np.exp(-(places**2) / 2)
    weight /= weight.sum()
    distortion -= weight @ distortion
    distortion /= np.sqrt(weight @ distortion**2)
    orders = np.arange(1, _ORDERS + 1)
    polynomials = scipy.special.eval_hermitenorm(orders[:, None], places)
    shares = (polynomials @ (weight * distortion)) ** 2 / scipy.special.factorial(orders)
    return distortion.astype(np.float32), shares


def _shown_in_blocks(spectrum: Floats, shares: Floats) -> Floats:
    """The spectrum that blocks show of distorted noise drawn with a spectrum, (n, n), mean 1."""
    side = len(spectrum)
    lag = np.arange(1 - side, side)
    distance = np.abs(lag) / side
    # Linear interpolation between the frequencies of a spectrum fades its autocorrelation.
    fade = np.sinc(distance) ** 2
    correlation = np.fft.ifft2(spectrum).real[np.ix_(lag % side, lag % side)] * np.outer(fade, fade)
    distorted = sum(share * correlation**order for order, share in enumerate(shares, 1))
    distorted[side - 1, side - 1] = 1.0
    # Of the pairs of pixels at a lag a block has so many, and a transform takes it as periodic.
    distorted *= np.outer(1 - distance, 1 - distance)
    folded = np.zeros((side, side))
    np.add.at(folded, np.ix_(lag % side, lag % side), distorted)
    return np.maximum(np.fft.fft2(folded).real, _FLOOR)


def _make_gain(spectrum: Floats, height: int, width: int) -> Values:
    """Roots of a spectrum at the frequencies of a real transform, twice each: for both parts."""
    side = len(spectrum)
    closed = np.pad(spectrum, ((0, 1), (0, 1)), mode="wrap")
    half = width // 2 + 1
    rows, cols = np.arange(height) * (side / height), np.arange(half) * (side / width)
    # Weights of linear interpolation between the spectrum's side + 1 values.
    down, along = (
        np.maximum(1 - np.abs(place[:, None] - np.arange(side + 1)), 0.0) for place in (rows, cols)
    )
    power = down @ closed @ along.T
    # Columns that are their own opposites count once, all others twice; and of their values the
    # transform keeps what is even, half of the power.
    own = np.zeros(half, bool)
    own[0] = True
    own[-1] |= width % 2 == 0
    mean = float(power @ np.where(own, 1.0, 2.0) @ np.ones(height)) / (height * width)
    gain = np.sqrt(power / mean * (height * width / 2) * np.where(own, 2.0, 1.0))
    return np.repeat(gain, 2, 1).astype(np.float32)


def _distort(pixels: Values, distortion: Values) -> Values:
    steps = np.float32(_STEPS / (2 * _ENDS))
    index = pixels * steps
    index += np.float32(_STEPS / 2)
    np.clip(index, 0, _STEPS - 1, out=index)
    return np.take(distortion, index.astype(np.int32), mode="clip")


def _draw_line(spectrum: Floats, length: int, rng: np.random.Generator) -> Values:
    """A pattern's line of this length, variance 1, or 0 where the spectrum has nothing."""
    if not spectrum.any():
        return np.zeros(length, np.float32)
    # A drawn line wraps around, so a slow pattern needs a period that is longer than the output.
    period = scipy.fft.next_fast_len(length + len(spectrum), real=True)
    place = np.arange(period // 2 + 1) * (len(spectrum) / period)
    power = np.interp(place, np.arange(len(spectrum) + 1), np.append(spectrum, spectrum[0]))
    twice = 2 * power.sum() - power[0] - (power[-1] if period % 2 == 0 else 0.0)
    gain = np.sqrt(power * (period / twice))
    white = scipy.fft.rfft(rng.standard_normal(period))
    return scipy.fft.irfft(white * gain, period)[:length].astype(np.float32)


def _make_tiles(model: NoiseModel, kind: int) -> Values:
    """The patches of a kind of noise under their window; those of all kinds where it has few."""
    own = model.patch_kind == kind
    patches = model.patches[own] if own.sum() >= LEAST_PATCHES else model.patches
    side = patches.shape[1]
    window = np.sin((np.arange(side) + 0.5) * np.pi / side)
    # With a prime number of patches every step from one to the next visits all of them.
    count = next(
        n for n in range(len(patches), 1, -1) if all(n % k for k in range(2, int(n**0.5) + 1))
    )
    return np.asarray(patches[:count] * np.outer(window, window), np.float32)


@lru_cache(maxsize=8)
def _tile_order(of: str, count: int, rows: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First patch of every place, and the step from an output to the next."""
    rng = generator(0, "tiles", of)
    # Row by row at one width, so that a place has the same patch in outputs of all sizes.
    drawn = rng.integers(0, count * (count - 1), (rows, _MOST_ACROSS))
    return drawn // (count - 1), drawn % (count - 1) + 1


@lru_cache(maxsize=4)
def _grid_places(half: int) -> NDArray[np.int64]:
    """Places of the grid's first tile, in the order in which they are used."""
    return generator(0, "grid of tiles").permutation(half**2)
