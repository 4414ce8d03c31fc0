"""Where the real data are that some tests need."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def real_data(name: str) -> Path:
    """Find a folder of real data; skip the test that asks where there is none.

    Parameters
    ----------
    name : str
        Folder below ``$SIRST_DATA``, or else below ``../shared/data`` beside the repository.
    """
    given = os.environ.get("SIRST_DATA")
    root = Path(given) if given else Path(__file__).parents[2] / "shared" / "data"
    folder = root / name
    if not folder.is_dir():
        pytest.skip(f"{name} is in neither $SIRST_DATA nor ../shared/data")
    return folder
