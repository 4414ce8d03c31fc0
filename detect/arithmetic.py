"""Which arithmetic a device computes in by itself, and so quickly."""

from __future__ import annotations

from typing import Any, Literal

import torch

Arithmetic = Literal["32-true", "bf16-mixed"]

# What processors call their instructions for products of bfloat16, as torch names them.
_BFLOAT16 = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")


def native_arithmetic(device: str) -> Arithmetic:
    """Choose the quicker arithmetic of a device: bfloat16 where the device multiplies in it.

    A processor without such instructions computes bfloat16 several times slower than 32 bit.

    Parameters
    ----------
    device : str
        ``auto``, ``cpu``, ``mps``, ``cuda`` or ``cuda:N``.

    Returns
    -------
    {"32-true", "bf16-mixed"}

    Examples
    --------
    >>> native_arithmetic("cpu") in ("32-true", "bf16-mixed")
    True
    """
    kind = device.partition(":")[0]
    if kind in ("auto", "cuda") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(False) else "32-true"
    if kind == "mps" or (kind == "auto" and torch.backends.mps.is_available()):
        return "32-true"
    # Absent before torch 2.9.
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return "bf16-mixed" if any(map(capabilities.get, _BFLOAT16)) else "32-true"
