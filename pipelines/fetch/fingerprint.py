"""What a set's pixels are, whatever archive, encoder or names they came with.

A pair's digest is the SHA-256 of those of its frame (grey) and of its mask (bool), as
`synth.frames` reads them; the fingerprint of a set is the SHA-256 of its pairs' digests in sorted
order. Of known sets the packaged table has the fingerprint, and four bytes of the digest of every
frame and mask, which tell how many files are others.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np

from synth.dataset import Dataset
from synth.frames import Frame, Mask

_TABLE = "fingerprints.json"
_SHORT = 4


@dataclass(frozen=True, slots=True)
class PairDigest:
    """SHA-256 of the frame and of the mask of one pair."""

    id: str
    image: bytes
    mask: bytes

    @property
    def pair(self) -> bytes:
        """SHA-256 of both."""
        return hashlib.sha256(self.image + self.mask).digest()


@dataclass(frozen=True)
class Published:
    """What is known of a published set's pixels.

    Attributes
    ----------
    fingerprint : str
        64 hexadecimal digits.
    computed_from : str
        Of which copy, in words.
    images, masks : tuple of bytes
        The first four bytes of the digest of every frame and its mask.
    """

    fingerprint: str
    computed_from: str
    images: tuple[bytes, ...]
    masks: tuple[bytes, ...]


def digest_pair(dataset: Dataset, id_: str) -> PairDigest:
    """Read one pair and take its digests.

    Raises
    ------
    FrameError
        A file is damaged.
    """
    return PairDigest(
        id_, digest_frame(dataset.read_image(id_)), digest_mask(dataset.read_mask(id_))
    )


def digest_frame(frame: Frame) -> bytes:
    """SHA-256 of a frame's depth, size and DN."""
    order = frame.astype(frame.dtype.newbyteorder("<"), copy=False)
    header = f"frame {frame.dtype.name} {frame.shape[0]}x{frame.shape[1]}\n"
    return hashlib.sha256(header.encode() + order.tobytes()).digest()


def digest_mask(mask: Mask) -> bytes:
    """SHA-256 of a mask's size and pixels."""
    header = f"mask {mask.shape[0]}x{mask.shape[1]}\n"
    return hashlib.sha256(header.encode() + np.packbits(mask).tobytes()).digest()


def fingerprint(digests: Iterable[PairDigest]) -> str:
    """The fingerprint of a set, 64 hexadecimal digits; the order and the ids do not matter."""
    return hashlib.sha256(b"".join(sorted(digest.pair for digest in digests))).hexdigest()


@lru_cache(maxsize=1)
def published() -> Mapping[str, Published]:
    """The packaged table, by the names of the sets."""
    table = json.loads((files("pipelines.fetch") / _TABLE).read_text(encoding="utf-8"))
    return {name: _from_entry(entry) for name, entry in table.items()}


def table_entry(digests: Iterable[PairDigest], computed_from: str) -> dict[str, object]:
    """What the packaged table has on a set; see `published`."""
    ordered = sorted(digests, key=lambda digest: digest.pair)
    short = b"".join(digest.image[:_SHORT] + digest.mask[:_SHORT] for digest in ordered)
    return {
        "computed_from": computed_from,
        "pairs": len(ordered),
        "fingerprint": fingerprint(ordered),
        "digests": base64.b85encode(short).decode("ascii"),
    }


def differences(digests: Sequence[PairDigest], wanted: Published) -> str | None:
    """Say how a set differs from the published one, in words; None when it does not."""
    if fingerprint(digests) == wanted.fingerprint:
        return None
    images = _strange([(d.id, d.image) for d in digests], wanted.images)
    masks = _strange([(d.id, d.mask) for d in digests], wanted.masks)
    words = []
    if len(digests) != len(wanted.images):
        words.append(f"{len(digests):,} pairs in place of {len(wanted.images):,}")
    for what, ids in (("images", images), ("masks", masks)):
        if ids:
            shown = ", ".join(ids[:3]) + (", …" if len(ids) > 3 else "")
            words.append(f"{len(ids):,} {what} of other pixels ({shown})")
    return "; ".join(words) or "images and masks are paired otherwise"


def _strange(found: Iterable[tuple[str, bytes]], wanted: Iterable[bytes]) -> list[str]:
    """The ids whose digest is not among those that are wanted, each of which serves once."""
    left = Counter(wanted)
    strange = []
    for id_, digest in found:
        short = digest[:_SHORT]
        if left[short]:
            left[short] -= 1
        else:
            strange.append(id_)
    return strange


def _from_entry(entry: Mapping[str, str]) -> Published:
    short = base64.b85decode(entry["digests"])
    parts = [short[at : at + _SHORT] for at in range(0, len(short), _SHORT)]
    return Published(
        entry["fingerprint"], entry["computed_from"], tuple(parts[::2]), tuple(parts[1::2])
    )
