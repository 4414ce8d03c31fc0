"""What decides the result of a run, key by key, so that a message can name what differs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any


def flatten(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested mappings, each with its path: ``loss.name``."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def shorten(value: Any) -> str:
    """Write a value as JSON, as much of it as a message bears."""
    text = json.dumps(value)
    return text if len(text) <= 24 else f"{text[:12]}..."
