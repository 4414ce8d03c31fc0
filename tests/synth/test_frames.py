"""One frame: what is read is what other readers read, and what is damaged is refused."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image
from real_data import real_data

from synth.errors import FrameError
from synth.folders import find_frames, group_by_folder
from synth.frames import (
    decode_frame,
    encode_png,
    frame_shape,
    natural_key,
    read_frame,
    to_luma,
    write_frame,
)
from synth.masks import STANDARD, decode_mask, read_mask

shapes = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24)
frames = st.sampled_from([np.uint8, np.uint16]).flatmap(lambda dtype: hnp.arrays(dtype, shapes))
masks = hnp.arrays(np.bool_, shapes)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def some_frame(dtype: type[np.generic] = np.uint8) -> NDArray[np.generic]:
    rng = np.random.default_rng(0)
    return rng.integers(0, np.iinfo(dtype).max, (20, 30), endpoint=True).astype(dtype)


@given(frames)
@settings(max_examples=60, deadline=None)
def test_a_frame_survives_its_file(frame: NDArray[np.uint8]) -> None:
    back = decode_frame(encode_png(frame), "x.png")
    assert back.dtype == frame.dtype
    np.testing.assert_array_equal(back, frame)


@given(frames)
@settings(max_examples=30, deadline=None)
def test_another_reader_sees_the_same_frame(frame: NDArray[np.uint8]) -> None:
    with Image.open(io.BytesIO(encode_png(frame))) as image:
        np.testing.assert_array_equal(np.asarray(image), frame)


@given(masks)
@settings(max_examples=30, deadline=None)
def test_a_mask_is_written_as_0_and_255(mask: NDArray[np.bool_]) -> None:
    with Image.open(io.BytesIO(encode_png(mask))) as image:
        assert image.mode == "L"
        np.testing.assert_array_equal(np.asarray(image), np.where(mask, 255, 0))
    values = STANDARD.values(encode_png(mask), "x.png")
    np.testing.assert_array_equal(STANDARD.mask_of(values, "x.png"), mask)


@given(frames)
@settings(max_examples=20, deadline=None)
def test_size_is_known_without_decoding(frame: NDArray[np.uint8]) -> None:
    assert frame_shape(encode_png(frame), "x.png") == frame.shape


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "JPEG"])
def test_size_of_other_formats(kind: str) -> None:
    assert frame_shape(encoded(Image.fromarray(some_frame()), kind), "x") == (20, 30)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_keep_8_bit_dn(kind: str, tmp_path: Path) -> None:
    frame = some_frame()
    path = tmp_path / f"x.{kind.lower()}"
    path.write_bytes(encoded(Image.fromarray(frame), kind))
    np.testing.assert_array_equal(read_frame(path), frame)


@pytest.mark.parametrize(
    ("kind", "options"),
    [("PNG", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"})],
)
def test_16_bit_stays_16_bit(kind: str, options: dict[str, str]) -> None:
    frame = some_frame(np.uint16)
    back = decode_frame(encoded(Image.fromarray(frame), kind, **options), "x")
    assert back.dtype == np.uint16
    np.testing.assert_array_equal(back, frame)


def test_jpeg_is_near_what_pillow_decodes() -> None:
    data = encoded(Image.fromarray(some_frame()), "JPEG", quality=95)
    with Image.open(io.BytesIO(data)) as image:
        wanted = np.asarray(image).astype(int)
    assert np.abs(decode_frame(data, "x.jpg").astype(int) - wanted).max() <= 2


@given(hnp.arrays(np.uint8, (5, 7, 3)))
@settings(max_examples=40, deadline=None)
def test_luma_of_8_bit_colour_is_pillows(rgb: NDArray[np.uint8]) -> None:
    image = Image.fromarray(rgb)
    wanted = np.asarray(image.convert("L"))
    np.testing.assert_array_equal(decode_frame(encoded(image, "PNG"), "x.png"), wanted)


@given(hnp.arrays(np.uint16, (3, 4, 3)))
@settings(max_examples=40, deadline=None)
def test_luma_of_16_bit_colour_is_the_weighted_sum_rounded(bgr: NDArray[np.uint16]) -> None:
    weights = (Fraction(114, 1000), Fraction(587, 1000), Fraction(299, 1000))
    luma = to_luma(bgr)
    assert luma.dtype == np.uint16
    for where in np.ndindex(3, 4):
        exact = sum(int(value) * w for value, w in zip(bgr[where], weights, strict=True))
        # Half a step for rounding, and the fixed-point weights are off by at most 2^-17 each.
        assert abs(int(luma[where]) - exact) <= Fraction(1, 2) + Fraction(3 * 65535, 2**17)


@given(frames)
@settings(max_examples=30, deadline=None)
def test_equal_channels_keep_their_value(frame: NDArray[np.uint8]) -> None:
    np.testing.assert_array_equal(to_luma(np.dstack([frame] * 3)), frame)
    np.testing.assert_array_equal(to_luma(np.dstack([frame] * 4)), frame)


def test_alpha_is_dropped() -> None:
    rgba = np.random.default_rng(1).integers(0, 255, (6, 5, 4), endpoint=True).astype(np.uint8)
    wanted = np.asarray(Image.fromarray(rgba[..., :3]).convert("L"))
    data = encoded(Image.fromarray(rgba), "PNG")
    np.testing.assert_array_equal(decode_frame(data, "x.png"), wanted)


def test_grey_with_alpha_is_its_grey() -> None:
    frame = some_frame()
    image = Image.merge("LA", (Image.fromarray(frame), Image.fromarray(255 - frame)))
    np.testing.assert_array_equal(decode_frame(encoded(image, "PNG"), "x.png"), frame)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_palette_is_looked_up(kind: str) -> None:
    rgb = np.random.default_rng(2).integers(0, 4, (9, 8, 3)).astype(np.uint8) * 80
    image = Image.fromarray(rgb).quantize(16)
    wanted = np.asarray(image.convert("RGB").convert("L"))
    np.testing.assert_array_equal(decode_frame(encoded(image, kind), "x"), wanted)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_one_bit_masks_are_read(kind: str) -> None:
    mask = np.random.default_rng(3).random((9, 13)) > 0.5
    np.testing.assert_array_equal(decode_mask(encoded(Image.fromarray(mask), kind), "x"), mask)


FORMATS = [
    ("PNG", {}),
    ("BMP", {}),
    ("JPEG", {}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
]


@pytest.mark.parametrize(("kind", "options"), FORMATS)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.99])
def test_a_truncated_file_is_refused_by_name(
    kind: str, options: dict[str, str], share: float, tmp_path: Path
) -> None:
    data = encoded(Image.fromarray(some_frame()), kind, **options)
    path = tmp_path / "torn.png"
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(FrameError, match=r"torn\.png: is"):
        read_frame(path)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_one_flipped_byte_of_a_png_is_found(data: st.DataObject) -> None:
    raw = bytearray(encode_png(some_frame()))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(FrameError):
        decode_frame(bytes(raw), "x.png")


def test_damage_is_told_by_the_error_alone(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    data = encoded(Image.fromarray(some_frame()), "TIFF")
    path = tmp_path / "torn.tif"
    path.write_bytes(data[:400])
    with pytest.raises(FrameError):
        read_frame(path)
    assert capfd.readouterr() == ("", "")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "none.png"
    path.touch()
    with pytest.raises(FrameError, match=r"none\.png: is empty"):
        read_frame(path)


@pytest.mark.parametrize("text", ["hello", "GIF89a", "BM", "II*\0"])
def test_text_is_no_image_whatever_its_name(text: str, tmp_path: Path) -> None:
    path = tmp_path / "text.png"
    path.write_text(text)
    with pytest.raises(FrameError, match=r"text\.png"):
        read_frame(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FrameError, match=r"absent\.png: no such file"):
        read_mask(tmp_path / "absent.png")
    with pytest.raises(FrameError, match="is a folder"):
        read_frame(tmp_path)


def test_floating_point_is_refused() -> None:
    data = encoded(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF")
    with pytest.raises(FrameError, match="float32"):
        decode_frame(data, "x.tif")


def test_several_pages_are_refused() -> None:
    page = Image.fromarray(some_frame())
    data = encoded(page, "TIFF", save_all=True, append_images=[page])
    with pytest.raises(FrameError, match="several pages"):
        decode_frame(data, "x.tif")


def test_frames_are_written_as_png_alone(tmp_path: Path) -> None:
    frame = some_frame(np.uint16)
    write_frame(tmp_path / "x.png", frame)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "x.png"), -1), frame)
    with pytest.raises(FrameError, match=r"\.png"):
        write_frame(tmp_path / "x.tif", frame)


def test_folders_are_searched_recursively_in_natural_order(tmp_path: Path) -> None:
    names = ["S10/a_1.png", "S2/a_10.png", "S2/a_9.PNG", "S2/deep/b.tif"]
    for name in [*names, "S2/notes.txt", "S2/.hidden.png"]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = [path.relative_to(tmp_path).as_posix() for path in find_frames([tmp_path])]
    assert found == ["S2/a_9.PNG", "S2/a_10.png", "S2/deep/b.tif", "S10/a_1.png"]


def test_a_file_that_is_named_is_taken_whatever_its_suffix(tmp_path: Path) -> None:
    (tmp_path / "frame.raw").touch()
    assert find_frames([tmp_path / "frame.raw"]) == [tmp_path / "frame.raw"]


def test_an_empty_folder_and_an_absent_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FrameError, match="holds no frames"):
        find_frames([tmp_path])
    with pytest.raises(FrameError, match="absent: no such"):
        find_frames([tmp_path / "absent"])


def test_frames_are_grouped_by_the_folder_that_they_lie_in() -> None:
    paths = [Path("b/1.png"), Path("a/1.png"), Path("b/2.png")]
    assert group_by_folder(paths) == [[paths[0], paths[2]], [paths[1]]]


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=20))
@settings(max_examples=30, deadline=None)
def test_numbers_in_names_are_ordered_by_value(numbers: list[int]) -> None:
    ordered = sorted((f"S2_{number}_a" for number in numbers), key=natural_key)
    assert [int(name.split("_")[1]) for name in ordered] == sorted(numbers)


def test_a_damaged_frame_error_survives_another_process() -> None:
    import pickle

    error = FrameError("a.png", "is empty")
    assert str(pickle.loads(pickle.dumps(error))) == str(error) == "a.png: is empty"


def test_real_16_bit_frames_are_as_pillow_reads_them() -> None:
    for path in find_frames([real_data("IR-raw")])[::40]:
        with Image.open(path) as image:
            wanted = np.asarray(image)
        frame = read_frame(path)
        assert frame.dtype == np.uint16
        np.testing.assert_array_equal(frame, wanted)
