"""Small archives in the layouts of the public sets, and what is in them."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from small_sets import Array, labelled_frame

from synth.disk.png import encode_png

Files = Mapping[str, bytes]


@dataclass(frozen=True)
class Pairs:
    """Frames and masks by id."""

    images: Mapping[str, Array]
    masks: Mapping[str, Array]

    def files(self, images: str, masks: str, suffix: str = "") -> dict[str, bytes]:
        """Their files, in folders of these names."""
        found = {f"{images}/{id_}.png": encode_png(image) for id_, image in self.images.items()}
        found |= {f"{masks}/{id_}{suffix}.png": encode_png(m) for id_, m in self.masks.items()}
        return found


def make_pairs(ids: Iterable[str], seed: int = 0) -> Pairs:
    """Frames of 40x48 and one more column each."""
    rng = np.random.default_rng(seed)
    made = {id_: labelled_frame(rng, (40, 48 + n), np.uint8, 2) for n, id_ in enumerate(ids)}
    return Pairs({i: a for i, (a, _) in made.items()}, {i: m for i, (_, m) in made.items()})


def lists(folder: str, **splits: Iterable[str]) -> dict[str, bytes]:
    """List files; names as given, without a line's end after the last as upstream has them."""
    return {f"{folder}/{name}.txt": "\n".join(ids).encode() for name, ids in splits.items()}


def zipped(files: Files) -> bytes:
    """A zip archive."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in files.items():
            file.writestr(name, data)
    return stream.getvalue()


def tarred(files: Files) -> bytes:
    """A tar archive packed by gzip."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as file:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def below(folder: str, files: Files) -> dict[str, bytes]:
    """The files in a folder."""
    return {f"{folder}/{name}": data for name, data in files.items()}


def write_files(root: Path, files: Files) -> Path:
    """The files on disk."""
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root
