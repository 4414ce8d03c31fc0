"""Tensors and a JSON object beside them in one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from detect.errors import WeightsError
from synth.disk.files import replace_file


def write_tensors(path: Path, tensors: Mapping[str, Tensor], details: Mapping[str, Any]) -> None:
    """Write tensors and a JSON object beside them as one safetensors file, whole or not at all.

    The same content gives the same bytes.
    """
    # One metadata entry, since safetensors does not keep the order of several.
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    data = save(plain, metadata={"detect": json.dumps(details)})
    replace_file(path, data, sync=True)


def read_tensors(path: Path, device: str = "cpu") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file of `write_tensors`.

    Raises
    ------
    WeightsError
        The file is absent, damaged, of another format, or of another program.
    """
    if not path.is_file():
        raise WeightsError(path, "is not a file" if path.exists() else "no such file")
    try:
        with safe_open(path, framework="pt", device=device) as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            path, f"is not a safetensors file, or is damaged ({str(error).splitlines()[0]:.100})"
        ) from None
    try:
        details = json.loads(metadata["detect"])
    except (KeyError, ValueError, RecursionError):
        raise WeightsError(
            path, "does not say which network it belongs to; give a file that detect train wrote"
        ) from None
    return tensors, details
