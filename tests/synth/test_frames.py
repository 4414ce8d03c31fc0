"""One frame: what is read is what other readers read, and what is damaged is refused."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections import Counter
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from image_files import (
    ImageCase,
    bmp,
    decode_mask,
    encoded,
    exif,
    make_case,
    plain_readers,
    png,
    read_mask,
    tiff,
    turned,
)
from numpy.typing import NDArray
from PIL import Image, ImageOps
from real_data import real_data

from synth.disk.folders import find_frames, group_by_folder
from synth.disk.png import encode_png
from synth.errors import FrameError
from synth.frames import (
    decode_frame,
    decode_image,
    frame_shape,
    is_plain,
    natural_key,
    read_frame,
    require_frame,
    require_mask,
    to_luma,
    write_frame,
)
from synth.masks import STANDARD

shapes = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24)
frames = st.sampled_from([np.uint8, np.uint16]).flatmap(lambda dtype: hnp.arrays(dtype, shapes))
masks = hnp.arrays(np.bool_, shapes)


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


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"hello", "but a text file; if it was downloaded, download it again"),
        (b"\n<!DOCTYPE html><html>404", "but an HTML page; if it was downloaded, download it"),
        (b"<html><body>Sign in", "but an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "run git lfs pull"),
        (b"GIF89a\1\0\1\0", "but a GIF image; save it as"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "but a WebP image; save it as"),
        (b"SIMPLE  =                    T", "but a FITS file; save it as"),
        (b"\0\0\0\x18ftypheic\0\0", "but a HEIC image; save it as"),
        (b"\0\0\0\x20ftypavif\0\0", "but an AVIF image; save it as"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "but a JPEG 2000 image; save it as"),
        (b"\x93NUMPY\1\0", "but a NumPy array; save it as"),
        (b"P5 4 4 255\n", r"but a portable anymap \(PBM, PGM or PPM\); save it as"),
        (b"FUJIFILMCCD-RAW 0201", "but a raw camera file"),
        (b"\x07\xff" * 300, "if it is raw or another format, save it as"),
    ],
)
def test_another_kind_of_file_is_named(start: bytes, kind: str) -> None:
    with pytest.raises(FrameError, match=rf"^x\.png: is not a PNG, TIFF, BMP or JPEG.*{kind}"):
        decode_frame(start, "x.png")


@pytest.mark.parametrize("text", ["BM", "II*\0", "MM\0+", "\x89PNG"])
def test_a_beginning_is_no_image(text: str) -> None:
    with pytest.raises(FrameError, match=r"^x\.png"):
        decode_frame(text.encode("latin-1"), "x.png")


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


def assert_read_right(case: ImageCase) -> bool:
    """Whether it is to be read, and not refused; fail where it is not, or its pixels differ."""
    if case.pixels is None:
        with pytest.raises(FrameError, match=rf"^{re.escape(case.name)}: .+\Z"):
            decode_image(case.data, case.name)
        with pytest.raises(FrameError):
            frame_shape(case.data, case.name)
        assert not is_plain(case.data)
        return False
    image = decode_image(case.data, case.name)
    assert frame_shape(case.data, case.name) == case.pixels.shape[:2], case.name
    assert_same(image, case.pixels, case)
    if is_plain(case.data):
        for read in plain_readers(case.data):
            assert_same(image, read, case)
    return True


def assert_same(image: NDArray[np.generic], wanted: NDArray[np.generic], case: ImageCase) -> None:
    """Compare BGR with RGB, in the channels that both have; grey is RGB of equal channels."""
    assert image.dtype == wanted.dtype, case.name
    shown = image[..., [2, 1, 0, 3][: image.shape[2]]] if image.ndim == 3 else image
    shown, wanted = (a if a.ndim == 3 else np.dstack([a] * 3) for a in (shown, wanted))
    channels = min(shown.shape[2], wanted.shape[2])
    difference = shown[..., :channels].astype(int) - wanted[..., :channels]
    assert np.abs(difference).max() <= case.near, case.name


def test_100_files_drawn_at_random_are_read_right_or_refused() -> None:
    read = sum(assert_read_right(make_case(number)) for number in range(100))
    assert 70 <= read < 100


@pytest.mark.slow
def test_2000_files_drawn_at_random_are_read_right_or_refused() -> None:
    outcomes = Counter(assert_read_right(make_case(number)) for number in range(1000, 3000))
    assert outcomes[True] >= 1500
    assert outcomes[False] >= 150


ORIENTATIONS = range(1, 9)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_turns_jpeg_and_png_as_it_turns_tiff(orientation: int, order: str) -> None:
    frame = some_frame()
    wanted = turned(frame, orientation)
    block = exif(orientation, order)
    for data in (
        png(frame, 8, before=((b"eXIf", block),)),
        png(frame, 8, after=((b"eXIf", block),)),
        tiff(frame, 8, more=((274, orientation),)),
    ):
        np.testing.assert_array_equal(decode_frame(data, "x"), wanted)
        assert frame_shape(data, "x") == wanted.shape
        assert is_plain(data) == (orientation == 1)
    data = encoded(Image.fromarray(frame), "JPEG", exif=b"Exif\0\0" + block)
    with Image.open(io.BytesIO(data)) as image:
        shown = np.asarray(ImageOps.exif_transpose(image)).astype(int)
    assert np.abs(decode_frame(data, "x").astype(int) - shown).max() <= 2
    assert frame_shape(data, "x") == wanted.shape
    assert is_plain(data) == (orientation == 1)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_exif_in_a_text_chunk_turns_a_png(orientation: int) -> None:
    block = b"Exif\0\0" + exif(orientation)
    text = b"\nexif\n%8d\n%s\n" % (len(block), block.hex().encode())
    name = b"Raw profile type exif\0"
    for chunk in ((b"tEXt", name + text), (b"zTXt", name + b"\0" + zlib.compress(text))):
        data = png(some_frame(), 8, before=(chunk,))
        with Image.open(io.BytesIO(data)) as image:
            wanted = np.asarray(ImageOps.exif_transpose(image))
        np.testing.assert_array_equal(decode_frame(data, "x"), wanted)
        assert frame_shape(data, "x") == wanted.shape
        assert is_plain(data) == (orientation == 1)


@pytest.mark.parametrize("text_first", [False, True])
@pytest.mark.parametrize(("chunk_tag", "text_tag"), [(6, 3), (1, 6), (6, 1), (8, 5)])
def test_the_exif_chunk_of_a_png_comes_before_the_text(
    text_first: bool, chunk_tag: int, text_tag: int
) -> None:
    block = b"Exif\0\0" + exif(text_tag)
    text = b"Raw profile type exif\0\nexif\n%8d\n%s\n" % (len(block), block.hex().encode())
    chunks = ((b"eXIf", exif(chunk_tag)), (b"tEXt", text))
    data = png(some_frame(), 8, before=chunks[::-1] if text_first else chunks)
    wanted = turned(some_frame(), chunk_tag)
    np.testing.assert_array_equal(decode_frame(data, "x"), wanted)
    assert frame_shape(data, "x") == wanted.shape
    assert is_plain(data) == (chunk_tag == 1)


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"II",
        b"XX*\0\x08\0\0\0",
        exif(6)[:-8],
        exif(6).replace(b"*", b"+"),
        exif(0),
        exif(9),
        struct.pack("<2sHIH", b"II", 42, 8, 9999),
        struct.pack("<2sHI", b"II", 42, 0xFFFFFFFF),
        exif(6).replace(struct.pack("<HI", 3, 1), struct.pack("<HI", 3, 9)),
    ],
)
def test_damaged_exif_is_ignored(block: bytes) -> None:
    frame = some_frame()
    data = png(frame, 8, before=((b"eXIf", block),))
    np.testing.assert_array_equal(decode_frame(data, "x"), frame)
    data = encoded(Image.fromarray(frame), "JPEG", exif=b"Exif\0\0" + block)
    assert decode_frame(data, "x").shape == frame.shape


def as_tiff(pixels: NDArray[np.generic], **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **options)
    return buffer.getvalue()


def test_planar_16_bit_is_not_scrambled() -> None:
    rgb = np.stack([some_frame(np.uint16), some_frame(np.uint16) // 2, some_frame(np.uint16) // 3])
    data = as_tiff(rgb, photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(decode_image(data, "x"), np.moveaxis(rgb[::-1], 0, 2))


@pytest.mark.parametrize("extra", ["unassalpha", "unspecified"])
def test_16_bit_with_a_second_channel_stays_16_bit(extra: str) -> None:
    frame = some_frame(np.uint16)
    data = as_tiff(np.dstack([frame, frame // 7]), planarconfig="contig", extrasamples=[extra])
    np.testing.assert_array_equal(decode_frame(data, "x"), frame)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_alpha_of_a_grey_tiff_is_decoded(dtype: type[np.generic]) -> None:
    frame = some_frame(dtype)
    alpha = frame[::-1]
    data = as_tiff(np.dstack([frame, alpha]), planarconfig="contig", extrasamples=["unassalpha"])
    image = decode_image(data, "x")
    np.testing.assert_array_equal(image, np.dstack([frame, frame, frame, alpha]))


@pytest.mark.parametrize("appended", [b"", bytes(5000), b"SEFT" * 40])
def test_what_a_camera_appends_to_a_jpeg_is_passed_over(appended: bytes) -> None:
    whole = encoded(Image.fromarray(some_frame()), "JPEG", quality=100)
    np.testing.assert_array_equal(decode_frame(whole + appended, "x"), decode_frame(whole, "x"))


def test_the_end_of_a_thumbnail_is_not_the_end_of_a_jpeg() -> None:
    thumbnail = encoded(Image.fromarray(some_frame()), "JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", 2 + len(thumbnail)) + thumbnail
    whole = thumbnail[:2] + segment + thumbnail[2:]
    decode_frame(whole, "x")
    for torn in (whole[:-2], whole[: len(whole) - len(thumbnail) // 4] + bytes(100)):
        with pytest.raises(FrameError, match="truncated: the JPEG file has no end"):
            decode_frame(torn, "x")


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 10, 12, 14, 16])
@pytest.mark.parametrize("big", [False, True])
def test_white_is_zero_is_inverted_within_its_bits(bits: int, big: bool) -> None:
    most = (1 << bits) - 1
    stored = some_frame(np.uint16) & most
    scale = 255 // most if bits < 8 else 1
    frame = decode_frame(tiff(stored, bits, photometric=0, big=big), "x")
    np.testing.assert_array_equal(frame, (most - stored) * scale)
    assert frame.dtype == (np.uint16 if bits > 8 else np.uint8)


@pytest.mark.parametrize("bits", [9, 10, 11, 12, 13, 14, 15])
@pytest.mark.parametrize("order", ["<", ">"])
def test_packed_samples_keep_their_values(bits: int, order: str) -> None:
    stored = some_frame(np.uint16) >> (16 - bits)
    data = tiff(stored, bits, order=order, rows=7)
    np.testing.assert_array_equal(decode_frame(data, "x"), stored)
    assert not is_plain(data)


@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("width", [8, 13, 30])
def test_bits_in_reverse_are_put_in_order(photometric: int, big: bool, width: int) -> None:
    stored = some_frame()[:, :width] & 1
    usual = tiff(stored, 1, photometric=photometric, rows=7, big=big)
    data = tiff(stored, 1, photometric=photometric, rows=7, big=big, more=((266, 2),))
    start, length = 16 if big else 8, len(stored) * -(-width // 8)
    backwards = bytes(int(f"{byte:08b}"[::-1], 2) for byte in usual[start : start + length])
    data = data[:start] + backwards + data[start + length :]
    np.testing.assert_array_equal(decode_frame(data, "x"), decode_frame(usual, "x"))
    np.testing.assert_array_equal(decode_frame(data, "x"), 255 * (stored == photometric))
    assert not is_plain(data)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        np.testing.assert_array_equal(file.asarray(), stored)


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate"])
@pytest.mark.parametrize("width", [2, 7, 30])
@pytest.mark.parametrize("rows", [1, 5, 20])
def test_damage_to_compressed_data_is_found(compression: str, width: int, rows: int) -> None:
    frame = some_frame()[:, :width]
    data = encoded(Image.fromarray(frame), "TIFF", compression=compression, tiffinfo={278: rows})
    np.testing.assert_array_equal(decode_frame(data, "x"), frame)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        counts = file.pages[0].tags[279]
    # One byte of the first strip is too little for any of these.
    one = struct.pack("<H" if counts.dtype == 3 else "<I", 1)
    short = data[: counts.valueoffset] + one + data[counts.valueoffset + len(one) :]
    with pytest.raises(FrameError, match=r"^x: is (damaged|truncated)"):
        decode_frame(short, "x")


def test_a_palette_of_a_tiff_is_looked_up_whatever_its_depth() -> None:
    for bits in (1, 2, 4, 8):
        most = (1 << bits) - 1
        index = some_frame() & most
        colours = np.random.default_rng(4).integers(0, 256, (3, most + 1)).astype(np.uint16)
        data = tiff(index, bits, photometric=3, lists=((320, (colours * 257).ravel().tolist()),))
        np.testing.assert_array_equal(decode_image(data, "x"), colours[::-1].T[index])


def test_a_preview_after_the_frame_is_no_second_page() -> None:
    frame = some_frame()
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(frame)
        writer.write(frame[::2, ::2], subfiletype=1)
    np.testing.assert_array_equal(decode_frame(buffer.getvalue(), "x"), frame)
    assert not is_plain(buffer.getvalue())


def test_a_stack_with_one_directory_is_refused() -> None:
    stack = np.stack([some_frame()] * 3)
    data = as_tiff(some_frame(), description="ImageJ=1.53\nimages=3\n", metadata=None)
    with pytest.raises(FrameError, match="several pages"):
        decode_frame(data, "x.tif")
    data = as_tiff(stack, photometric="minisblack", metadata={"truncate": True})
    with pytest.raises(FrameError, match="several pages"):
        decode_frame(data, "x.tif")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (as_tiff(some_frame().astype(np.int16)), "int16"),
        (as_tiff(some_frame().astype(np.float64)), "float64"),
        (as_tiff(some_frame().astype(np.uint32), bigtiff=True), "uint32"),
        (tiff(some_frame(), 8, photometric=5), "CMYK"),
        (tiff(some_frame(), 8, photometric=32803), "raw camera data"),
        (tiff(some_frame(), 8, more=((254, 1),)), "preview"),
        (tiff(some_frame(), 8, more=((259, 50000),)), "Zstandard"),
        (tiff(some_frame(), 8, more=((259, 34712),)), "JPEG 2000"),
        (tiff(some_frame(), 8, more=((259, 12345),)), "number 12345"),
        (tiff(some_frame(), 8, big=True, more=((259, 7),)), "BigTIFF file compressed by JPEG"),
        (tiff(some_frame(), 8, more=((317, 3),)), "predictor 3"),
        (tiff(some_frame(), 8, more=((266, 2),)), "FillOrder 2"),
        (tiff(some_frame() & 31, 5), "5 bits"),
        (tiff(np.dstack([some_frame()] * 3), 8), "3 channels that are not marked as RGB"),
        (tiff(np.dstack([some_frame()] * 4), 8, photometric=2, more=((338, 1),)), "by alpha"),
        (bmp(bytes(60 * 20), 30, 20, 16), "16-bit colour"),
        (encoded(Image.fromarray(some_frame()).convert("CMYK"), "JPEG"), "CMYK"),
    ],
)
def test_what_is_not_read_is_named_with_a_way_out(data: bytes, words: str) -> None:
    for read in (decode_frame, frame_shape):
        with pytest.raises(FrameError, match=rf"^a/x\.tif: .*{words}.*; save it "):
            read(data, "a/x.tif")
    assert words == "by alpha" or not is_plain(data)


@pytest.mark.parametrize("marker", [0xC3, 0xC5, 0xC7, 0xC9, 0xCA, 0xCB])
def test_jpeg_codings_that_decoders_differ_on_are_refused(marker: int) -> None:
    data = bytearray(encoded(Image.fromarray(some_frame()), "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 1] = marker
    with pytest.raises(FrameError, match=r"lossless|hierarchical|arithmetic"):
        decode_frame(bytes(data), "x.jpg")
    data[at + 1], data[at + 4] = 0xC1, 12
    with pytest.raises(FrameError, match="12 bits"):
        decode_frame(bytes(data), "x.jpg")


def test_an_animated_png_is_refused() -> None:
    first = Image.fromarray(some_frame())
    rest = [Image.fromarray(255 - some_frame())]
    data = encoded(first, "PNG", save_all=True, append_images=rest)
    for read in (decode_frame, frame_shape):
        with pytest.raises(FrameError, match=r"animated PNG.*into a folder"):
            read(data, "x.png")


def test_rows_of_a_bmp_may_go_downwards() -> None:
    rows = bytes(range(256))
    for height in (8, -8):
        data = bmp(rows, 10, height, 24)
        with Image.open(io.BytesIO(data)) as image:
            np.testing.assert_array_equal(decode_image(data, "x")[..., ::-1], np.asarray(image))


def test_the_unused_byte_of_a_32_bit_bmp_is_no_alpha() -> None:
    masks = struct.pack("<III", 0xFF0000, 0xFF00, 0xFF)
    rows = np.random.default_rng(5).integers(0, 256, 4 * 30).astype(np.uint8).tobytes()
    for packed, more in ((0, b""), (3, masks)):
        assert decode_image(bmp(rows, 5, 6, 32, packed, more), "x").shape == (6, 5, 3)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "JPEG"])
def test_usual_files_are_plain(kind: str) -> None:
    assert is_plain(encoded(Image.fromarray(np.dstack([some_frame()] * 3)), kind))
    if kind != "BMP":
        assert is_plain(encoded(Image.fromarray(some_frame()), kind))
    if kind in ("PNG", "TIFF"):
        assert is_plain(encoded(Image.fromarray(some_frame(np.uint16)), kind))


def test_nothing_is_printed_about_files_that_are_refused(
    capfd: pytest.CaptureFixture[str],
) -> None:
    whole = tiff(some_frame(np.uint16), 16, big=True, deflate=True, rows=4)
    for size in range(0, len(whole), 40):
        with pytest.raises(FrameError):
            decode_frame(whole[:size], "x.tif")
    lzw = encoded(Image.fromarray(some_frame()), "TIFF", compression="tiff_lzw")
    for at in range(8, 120):
        damaged = lzw[:at] + b"\xff" + lzw[at + 1 :]
        try:
            decode_frame(damaged, "x.tif")
        except FrameError:
            continue
    assert capfd.readouterr() == ("", "")


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


def test_arrays_that_are_frames_and_masks_are_returned() -> None:
    for dtype in (np.uint8, np.uint16):
        frame = np.zeros((2, 3), dtype)
        assert require_frame(frame, "sky") is frame
    mask = np.zeros((2, 3), bool)
    assert require_mask(mask, "target") is mask


@pytest.mark.parametrize(
    ("array", "advice"),
    [
        (np.ones((2, 2)), "np.rint(255 * array).astype(np.uint8)"),
        (np.ones((2, 2), np.float32), "synth.read_frame"),
        (np.ones((2, 2, 4), np.float32), "synth.read_frame"),
        (np.ones((2, 2), np.int64), "array.astype(np.uint16)"),
        (np.ones((2, 2), ">u2"), "array.astype(np.uint16)"),
        (np.ones((2, 2), bool), "synth.read_frame"),
        ([[1, 2]], "np.asarray"),
        (None, "NoneType"),
    ],
)
def test_no_other_type_is_a_frame(array: object, advice: str, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=f"^sky: .*{re.escape(advice)}"):
        require_frame(array, "sky")
    if not (isinstance(array, np.ndarray) and array.dtype.kind == "b"):
        with pytest.raises(TypeError):
            write_frame(tmp_path / "sky.png", array)  # type: ignore[arg-type]
        assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("array", "advice"),
    [
        (np.ones((2, 2), np.uint8), "array > 127"),
        (np.ones((2, 2), np.int64), "array == 1"),
        (np.ones((2, 2)), "array > 0.5"),
        ([[True]], "np.asarray"),
    ],
)
def test_no_other_type_is_a_mask(array: object, advice: str) -> None:
    with pytest.raises(TypeError, match=f"^target: .*{re.escape(advice)}"):
        require_mask(array, "target")


@pytest.mark.parametrize("shape", [(), (4,), (4, 4, 1), (4, 4, 3), (2, 4, 4), (0, 4)])
def test_frames_and_masks_have_rows_and_columns(shape: tuple[int, ...], tmp_path: Path) -> None:
    for array in (np.zeros(shape, np.uint16), np.zeros(shape, bool)):
        with pytest.raises(ValueError, match=re.escape(f"image: has shape {shape}")):
            write_frame(tmp_path / "image.png", array)
