"""How alike the noise of outputs is, over all shifts, and how alike independent noise would be."""

from __future__ import annotations

import numpy as np
import scipy.fft
from numpy.typing import NDArray

Stack = NDArray[np.floating]


def pair_correlations(one: Stack, other: Stack | None = None) -> NDArray[np.float64]:
    """The largest correlation over all shifts of every pair, (pairs,).

    Of the pairs within one stack of noise (N, H, W), or of each with each of another stack.
    """
    within = other is None
    first = _transforms(one)
    second = first if other is None else _transforms(other)
    found = []
    for number, transform in enumerate(first):
        others = second[number + 1 :] if within else second
        if len(others):
            shifted = scipy.fft.irfft2(others * transform.conj())
            found.append(np.abs(shifted).max((1, 2)))
    return np.concatenate(found).astype(np.float64)


def independent_limit(stack: Stack, seed: int = 0, pairs: int | None = None) -> float:
    """What the largest correlation of all pairs stays below in 99.9% of cases, if all are
    independent noise with the spectrum of the stack, (N, H, W).

    Noise is simulated with that spectrum. The square of a correlation has an exponential tail, so
    the largest of many squares has a Gumbel distribution.
    """
    power = (np.abs(scipy.fft.fft2(_centred(stack))) ** 2).mean(0)
    white = np.random.default_rng(seed).standard_normal(stack.shape)
    simulated = scipy.fft.ifft2(scipy.fft.fft2(white) * np.sqrt(power)).real
    largest = pair_correlations(simulated) ** 2
    scale = float(largest.std()) * np.sqrt(6) / np.pi
    place = float(largest.mean()) - np.euler_gamma * scale
    number = pairs or len(largest)
    return float(np.sqrt(place - scale * np.log(-np.log(0.999) / number)))


def _centred(stack: Stack) -> Stack:
    return np.asarray(stack - stack.mean((1, 2), keepdims=True), np.float64)


def _transforms(stack: Stack) -> NDArray[np.complex64]:
    """Spectra for correlations at all shifts, without wrapping around."""
    values = _centred(stack)
    values /= np.sqrt((values**2).sum((1, 2), keepdims=True))
    size = [scipy.fft.next_fast_len(2 * n, real=True) for n in values.shape[1:]]
    size[1] += size[1] % 2
    return scipy.fft.rfft2(values.astype(np.float32), size)
