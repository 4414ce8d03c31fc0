"""Masks in other formats' words: run lengths, outlines, boxes."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco_mask

from pipelines.formats.outlines import MIDDLE, REACH, fill, outline
from pipelines.formats.rle import decode_runs, encode_runs
from pipelines.formats.sample import Sample, plain_id
from pipelines.formats.yolo import annotate_boxes, annotate_outlines, held
from synth.disk.png import encode_png
from synth.disk.split_names import split_told
from synth.errors import DatasetError
from synth.frames import Mask
from synth.targets import find_targets, label_targets

masks = array_shapes(min_dims=2, max_dims=2, max_side=16).flatmap(
    lambda shape: st.one_of(
        arrays(np.bool_, shape), arrays(np.bool_, shape, fill=st.just(True), elements=st.booleans())
    )
)


def components(mask: Mask) -> list[Mask]:
    count, labels = label_targets(mask)
    return [labels == number for number in range(1, count + 1)]


def sample(mask: Mask) -> Sample:
    png = encode_png(mask)
    return Sample("a", "train", png, ".png", mask, png, tuple(find_targets(mask)))


@given(masks)
def test_run_lengths_are_those_of_coco(mask: Mask) -> None:
    text = encode_runs(mask, (0, 0), mask.shape)
    wanted = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert text == wanted["counts"].decode()
    np.testing.assert_array_equal(decode_runs(text, mask.shape), mask)


@given(masks, st.integers(0, 300), st.integers(0, 300), st.integers(0, 300), st.integers(0, 300))
def test_run_lengths_of_a_part_are_those_of_the_whole(
    part: Mask, top: int, left: int, below: int, beside: int
) -> None:
    mask = np.pad(part, ((top, below), (left, beside)))
    text = encode_runs(part, (top, left), mask.shape)
    decoded = coco_mask.decode({"size": list(mask.shape), "counts": text})
    np.testing.assert_array_equal(decoded, mask)


@pytest.mark.parametrize("counts", ["", "é", "o", "1", [1, 2], [-1, 10], [[9]], [4.5, 4.5]])
def test_run_lengths_of_another_mask_are_told(counts: str | list[int]) -> None:
    with pytest.raises(ValueError, match="run length"):
        decode_runs(counts, (3, 3))


@pytest.mark.parametrize("cut", [np.floor, np.round, np.trunc], ids=lambda cut: cut.__name__)
@given(masks)
@settings(max_examples=150)
def test_an_outline_gives_its_pixels_back_however_it_is_drawn(cut: Any, mask: Mask) -> None:
    for own in components(mask):
        polygon = outline(own)
        np.testing.assert_array_equal(fill(polygon, own.shape), own)
        # Through the text of a label file and single precision, as clients read it.
        height, width = own.shape
        shares = np.array(
            [[float(f"{value:.8f}") for value in p] for p in polygon / (width, height)]
        )
        points = cut(shares.astype(np.float32) * np.float32([width, height]))
        drawn = np.zeros(own.shape, np.uint8)
        cv2.fillPoly(drawn, [points.astype(np.int32)], 1)
        np.testing.assert_array_equal(drawn == 1, own)


@given(masks)
def test_an_outline_spans_the_box_of_its_target(mask: Mask) -> None:
    for own, target in zip(components(mask), find_targets(mask), strict=True):
        points = outline(own)
        top, left, bottom, right = target.box
        first, last = MIDDLE - REACH, MIDDLE + REACH
        np.testing.assert_allclose(points.min(axis=0), (left + first, top + first))
        np.testing.assert_allclose(points.max(axis=0), (right - 1 + last, bottom - 1 + last))


def test_holes_on_holes_are_no_matter_of_depth() -> None:
    mask = np.ones((2401, 3), bool)
    mask[1::2, 1] = False
    np.testing.assert_array_equal(fill(outline(mask), mask.shape), mask)


@given(masks)
def test_a_yolo_segment_file_holds_the_whole_mask(mask: Mask) -> None:
    lines = annotate_outlines(sample(mask))
    np.testing.assert_array_equal(held(lines, mask.shape), mask)


@given(masks)
def test_a_yolo_box_file_holds_the_boxes_and_no_more(mask: Mask) -> None:
    wanted = np.zeros(mask.shape, bool)
    for target in find_targets(mask):
        top, left, bottom, right = target.box
        wanted[top:bottom, left:right] = True
    np.testing.assert_array_equal(held(annotate_boxes(sample(mask)), mask.shape), wanted)


@given(st.text(max_size=40))
def test_lines_that_are_no_labels_are_told(text: str) -> None:
    try:
        mask = held(text, (4, 5))
    except ValueError:
        return
    assert mask.shape == (4, 5)


@pytest.mark.parametrize(
    "text", ["", ".", "..", ".hidden", "a/b", "a\\b", "a\n", " a", "a\0", "a" * 201, None, 7]
)
def test_an_id_with_a_way_in_it_is_refused(text: object, tmp_path: object) -> None:
    with pytest.raises(DatasetError, match="an id is a plain name"):
        plain_id(text, tmp_path)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("annotations instances_train2017", "train"),
        ("annotations instances_val2017", "val"),
        ("valid _annotations.coco", "val"),
        ("test-000003", "test"),
        ("latest", "train"),
    ],
)
def test_splits_are_told_by_whole_words(name: str, split: str) -> None:
    assert (split_told(name) or "train") == split
