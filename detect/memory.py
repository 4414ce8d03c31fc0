"""Memory that is freed stays with the process."""

from __future__ import annotations

import ctypes

# Parameters of glibc's mallopt.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def keep_freed_memory() -> None:
    """Keep freed memory for the next tensor, instead of handing it back to the system.

    On a processor every step of a training makes and frees the same tensors of megabytes, and for
    each of them the system clears pages and maps them anew. The process then holds the most that
    it has ever needed. Does nothing where the C library is not glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, 2**31 - 1)
