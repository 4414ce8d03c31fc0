"""Fingerprints: what must not matter does not, and one pixel does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from public_archives import Pairs, make_pairs, write_files
from real_data import real_data
from small_sets import Array

from pipelines.fetch.fingerprint import (
    PairDigest,
    _from_entry,
    differences,
    digest_frame,
    digest_mask,
    digest_pair,
    fingerprint,
    published,
    table_entry,
)
from synth.dataset import open_dataset

PAIRS = make_pairs(["1", "2", "3"])
Write = Callable[..., list[PairDigest]]


@pytest.fixture
def digests(tmp_path: Path) -> Write:
    """Write pairs into a folder, and take their digests."""
    made: list[Path] = []

    def write(pairs: Pairs = PAIRS, **files: bytes) -> list[PairDigest]:
        root = write_files(tmp_path / str(len(made)), pairs.files("images", "masks"))
        made.append(root)
        for name, data in files.items():
            (root / f"{name.replace('__', '/')}.png").write_bytes(data)
        dataset = open_dataset(root)
        return [digest_pair(dataset, id_) for id_ in dataset.images]

    return write


def png(image: Array, *options: int) -> bytes:
    return bytes(cv2.imencode(".png", image, options)[1])


def test_names_and_their_order_do_not_matter(digests: Write) -> None:
    names = {"1": "z", "2": "y", "3": "x"}
    renamed = Pairs(
        {names[id_]: image for id_, image in PAIRS.images.items()},
        {names[id_]: mask for id_, mask in PAIRS.masks.items()},
    )
    assert fingerprint(digests()) == fingerprint(digests(renamed))
    assert fingerprint(digests()) == fingerprint(reversed(digests()))


def test_how_a_file_is_written_does_not_matter(digests: Write) -> None:
    image, mask = PAIRS.images["1"], PAIRS.masks["1"]
    grey = png(image, cv2.IMWRITE_PNG_COMPRESSION, 9)
    rgb = png(cv2.merge([image] * 3))
    alpha = png(cv2.merge([image, image, image, mask]))
    files = [grey, rgb, alpha]
    wanted = fingerprint(digests())
    assert len(set(files)) == 3
    assert {fingerprint(digests(images__1=data)) for data in files} == {wanted}
    assert fingerprint(digests(masks__1=png(mask // 255))) == wanted


@pytest.mark.parametrize("folder", ["images", "masks"])
def test_one_pixel_matters(folder: str, digests: Write) -> None:
    values = getattr(PAIRS, folder)["2"].copy()
    values[-1, -1] = values[-1, -1] + 1 if folder == "images" else 255 - values[-1, -1]
    assert fingerprint(digests(**{f"{folder}__2": png(values)})) != fingerprint(digests())


def test_depth_and_shape_matter() -> None:
    frame = np.arange(12, dtype=np.uint8).reshape(3, 4)
    others = [frame.astype(np.uint16), frame.reshape(4, 3), frame.reshape(2, 6)]
    assert len({digest_frame(frame), *map(digest_frame, others)}) == 4
    mask = np.zeros((3, 4), bool)
    assert len({digest_mask(mask), digest_mask(mask.T), digest_mask(mask[:, :3])}) == 3


def test_the_order_of_bytes_in_memory_does_not_matter() -> None:
    frame = np.arange(12, dtype=np.uint16).reshape(3, 4)
    assert digest_frame(frame) == digest_frame(np.asfortranarray(frame))
    assert digest_frame(frame) == digest_frame(frame.astype(">u2"))


def test_which_mask_is_whose_matters(digests: Write) -> None:
    first, second, third = digests()
    swapped = [
        PairDigest("1", first.image, second.mask),
        PairDigest("2", second.image, first.mask),
        third,
    ]
    assert fingerprint(swapped) != fingerprint(digests())


def test_the_table_keeps_what_differences_need(digests: Write) -> None:
    found = digests()
    entry: Mapping[str, Any] = table_entry(found, "a test")
    known = _from_entry(entry)
    assert (known.fingerprint, known.computed_from) == (fingerprint(found), "a test")
    assert differences(found, known) is None
    changed = [PairDigest("1", b"x" * 32, found[0].mask), *found[1:]]
    assert differences(changed, known) == "1 images of other pixels (1)"
    assert differences(found[1:], known) == "2 pairs in place of 3"
    more = [*found, PairDigest("9", b"x" * 32, b"y" * 32)]
    told = differences(more, known)
    assert told is not None
    assert told.startswith("4 pairs in place of 3; 1 images of other pixels (9); 1 masks")


def test_an_image_that_is_there_twice_counts_once(digests: Write) -> None:
    found = digests()
    known = _from_entry(table_entry(found, "a test"))  # type: ignore[arg-type]
    twice = [found[0], PairDigest("2", found[0].image, found[0].mask), found[2]]
    told = differences(twice, known)
    assert told == "1 images of other pixels (2); 1 masks of other pixels (2)"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "name"), [("NUAA-SIRST", "nuaa-sirst"), ("NUDT-SIRST", "nudt-sirst")]
)
def test_the_real_sets_have_their_fingerprints(folder: str, name: str) -> None:
    dataset = open_dataset(real_data(folder))
    found = [digest_pair(dataset, id_) for id_ in dataset.images]
    assert differences(found, published()[name]) is None
