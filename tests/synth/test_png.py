from __future__ import annotations

import builtins
import importlib
import io
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from PIL import Image

import synth.disk.png
from synth.disk.png import encode_png

ANY = st.sampled_from((np.uint8, np.uint16, np.bool_)).flatmap(
    lambda kind: arrays(kind, array_shapes(min_dims=2, max_dims=2, max_side=40))
)


def seen_by_pillow(data: bytes) -> NDArray[Any]:
    with Image.open(io.BytesIO(data)) as image:
        image.verify()  # checksums of all chunks
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def as_values(image: NDArray[Any]) -> NDArray[Any]:
    return image * np.uint8(255) if image.dtype == np.bool_ else image


@pytest.fixture
def without_isal(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module as it is on a machine that isal has no wheel for."""
    real = builtins.__import__

    def refuse(name: str, *given: Any) -> ModuleType:
        if name.startswith("isal"):
            raise ImportError(name)
        return real(name, *given)

    before = sys.modules["synth.disk.png"]
    monkeypatch.setattr(builtins, "__import__", refuse)
    monkeypatch.delitem(sys.modules, "synth.disk.png")
    yield importlib.import_module("synth.disk.png")
    sys.modules["synth.disk.png"] = synth.disk.png = before


@given(ANY)
@settings(max_examples=200, deadline=None)
def test_pillow_sees_the_same_values(image: NDArray[Any]) -> None:
    back = seen_by_pillow(encode_png(image))
    assert back.dtype == (np.uint16 if image.dtype == np.uint16 else np.uint8)
    np.testing.assert_array_equal(back, as_values(image))


@given(ANY)
@settings(max_examples=50, deadline=None)
def test_the_order_of_bytes_in_memory_does_not_matter(image: NDArray[Any]) -> None:
    other = np.asfortranarray(image).astype(image.dtype.newbyteorder(">"))
    assert encode_png(other) == encode_png(image)
    assert encode_png(image[::-1, ::-1].copy()) == encode_png(image[::-1, ::-1])


def test_without_isal_the_pixels_are_the_same(without_isal: ModuleType) -> None:
    assert without_isal.ENCODER.startswith("zlib ")
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 65535, (33, 47), endpoint=True).astype(np.uint16)
    for image in (frame, (frame >> 8).astype(np.uint8), frame > 40000):
        np.testing.assert_array_equal(
            seen_by_pillow(without_isal.encode_png(image)), as_values(image)
        )


def test_large_data_are_divided_into_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synth.disk.png, "_CHUNK", 100)
    frame = np.random.default_rng(0).integers(0, 255, (40, 40)).astype(np.uint8)
    data = encode_png(frame)
    assert data.count(b"IDAT") > 10
    np.testing.assert_array_equal(seen_by_pillow(data), frame)


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((4, 4)), np.zeros((4, 4), np.int32), np.zeros((4, 4, 3), np.uint8),
     np.zeros((0, 4), np.uint8), np.zeros(4, np.uint16)],
)  # fmt: skip
def test_other_arrays_are_refused(wrong: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match="is no PNG image"):
        encode_png(wrong)
