"""Random generators that depend on a seed and a name alone, never on order or workers."""

from __future__ import annotations

import hashlib

import numpy as np


def generator(seed: int, *names: str) -> np.random.Generator:
    """Make the generator of one named thing.

    Parameters
    ----------
    seed : int
        The build's seed, 0 or more.
    *names : str
        What the generator is for, as ``"negative", "001328"``.

    Returns
    -------
    numpy.random.Generator
        Equal for equal arguments, statistically independent otherwise (``SeedSequence`` with a
        spawn key taken from the SHA-256 of the names).

    Examples
    --------
    >>> int(generator(0, "negative", "001328").integers(1000))
    661
    """
    # Names of files may hold bytes that are no text, which Python keeps as lone surrogates.
    digest = hashlib.sha256("\0".join(names).encode("utf-8", "surrogatepass")).digest()
    # The words that `SeedSequence(seed, spawn_key=...)` puts together, in half of its time.
    size = max(16, 4 * -(-seed.bit_length() // 32))
    words = np.frombuffer(seed.to_bytes(size, "little") + digest[:16], "<u4").astype(np.uint32)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))
