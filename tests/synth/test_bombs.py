"""Small files that claim to be large are refused before any memory is spent on them."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from image_files import decode_mask

from synth.disk.headers import MOST_BYTES, MOST_PIXELS
from synth.disk.npz import MOST_UNPACKED, read_npz
from synth.disk.png import encode_png
from synth.errors import FrameError, NoiseError, QualityError
from synth.frames import decode_frame, frame_shape, read_frame
from synth.inspect.quality import load_niqe
from synth.noise.bank import load_bank, make_bank
from synth.noise.cameras import load_noise

SIDE = 1 << 16


def png(width: int, height: int, depth: int = 8, colour: int = 0, data: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(data)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def tiff(width: int, height: int, bits: int = 8, samples: int = 1, order: str = "<") -> bytes:
    entries = (
        (256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 5), (262, 3, 1), (273, 4, 8),
        (277, 3, samples), (278, 4, height), (279, 4, 4),
    )  # fmt: skip
    body = struct.pack(order + "H", len(entries))
    for tag, kind, value in entries:
        packed = struct.pack(order + ("H" if kind == 3 else "I"), value).ljust(4, b"\0")
        body += struct.pack(order + "HHI", tag, kind, 1) + packed
    magic = b"II*\0" if order == "<" else b"MM\0*"
    return magic + struct.pack(order + "I", 12) + b"data" + body + bytes(4)


def bigtiff(*fields: tuple[int, int, int, int], following: int = 0, body: bytes = b"") -> bytes:
    """A BigTIFF file of the fields given: tag, type, count, and value or place."""
    entries = b"".join(struct.pack("<HHQQ", *field) for field in fields)
    start = 16 + len(body)
    head = struct.pack("<2sHHHQ", b"II", 43, 8, 0, start) + body
    return head + struct.pack("<Q", len(fields)) + entries + struct.pack("<Q", following)


def big_size(
    height: int,
    width: int,
    *more: tuple[int, int, int, int],
    body: bytes = b"data",
    method: int = 5,
) -> bytes:
    """A BigTIFF file in one compressed strip, or as `more` says."""
    fields = {
        256: (256, 16, 1, width), 257: (257, 16, 1, height), 258: (258, 3, 1, 8),
        259: (259, 3, 1, method), 262: (262, 3, 1, 1), 273: (273, 16, 1, 16), 277: (277, 3, 1, 1),
        278: (278, 16, 1, height), 279: (279, 16, 1, len(body)),
    }  # fmt: skip
    fields.update({field[0]: field for field in more})
    return bigtiff(*fields.values(), body=body)


def tiled(side: int) -> bytes:
    """A TIFF file of 8x8 pixels in tiles of any side."""
    whole = tiff(8, 8)
    for old, new in ((struct.pack("<HHIHH", 277, 3, 1, 1, 0), 322), (_field(278, 8), 323)):
        assert old in whole
        whole = whole.replace(old, _field(new, side))
    return whole


def _field(tag: int, value: int) -> bytes:
    return struct.pack("<HHII", tag, 4, 1, value)


def bmp(width: int, height: int, bits: int = 24, packed: int = 0) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, packed, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 14 + len(info), 0, 0, 14 + len(info)) + info


def jpeg(width: int, height: int) -> bytes:
    done, data = cv2.imencode(".jpg", np.zeros((8, 8), np.uint8))
    assert done
    made = bytearray(data.tobytes())
    at = made.index(b"\xff\xc0")
    made[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(made)


@pytest.fixture
def no_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("a decoder was asked")

    monkeypatch.setattr(cv2, "imdecode", refuse)


@pytest.mark.usefixtures("no_decoder")
@pytest.mark.parametrize(
    "data",
    [
        png(SIDE, SIDE),
        png(0x7FFFFFFF, 0x7FFFFFFF),
        png(1, MOST_PIXELS + 1),
        png(16384, 16384, 16, 6),
        tiff(SIDE, SIDE),
        tiff(0xFFFFFFFF, 0xFFFFFFFF),
        tiff(SIDE, SIDE, order=">"),
        tiff(16384, 16384, bits=16, samples=4),
        tiled(1 << 20),
        big_size(SIDE, SIDE),
        big_size(1 << 62, 1 << 62),
        big_size(16384, 16384, (258, 3, 1, 16), (277, 3, 1, 4)),
        big_size(8, 8, (322, 16, 1, 1 << 40), (323, 16, 1, 1 << 40)),
        # Tiles that are nearly all beyond the image.
        big_size(1 << 20, 1, (322, 16, 1, 1 << 14), (323, 16, 1, 1 << 14)),
        bmp(SIDE, SIDE),
        bmp(SIDE, -SIDE, packed=1, bits=8),
        jpeg(0xFFFF, 0xFFFF),
    ],
)
def test_a_gigantic_size_is_refused_by_the_header(data: bytes) -> None:
    for read in (decode_frame, decode_mask, frame_shape):
        with pytest.raises(FrameError, match=r"^x\.png: is too large: .* cut it into tiles$"):
            read(data, "x.png")


@pytest.mark.usefixtures("no_decoder")
@pytest.mark.parametrize(
    "data",
    [
        png(16384, 16384),
        png(4000, 4000, 16, 2, bytes(1000)),
        tiff(16384, 16384).replace(
            struct.pack("<HHI", 259, 3, 1) + struct.pack("<I", 5),
            struct.pack("<HHI", 259, 3, 1) + struct.pack("<I", 1),
        ),
        bmp(8000, 8000),
        big_size(8192, 8192),
        big_size(16384, 16384, method=8),
        big_size(4000, 4000, method=32773),
        big_size(100, 100, method=1),
    ],
)
def test_a_file_that_holds_less_than_its_header_says_is_truncated(data: bytes) -> None:
    with pytest.raises(FrameError, match="holds less than the pixels that its header says"):
        decode_frame(data, "x.png")


@pytest.mark.usefixtures("no_decoder")
@pytest.mark.parametrize(
    "data",
    [
        png(0, 5),
        png(5, 0),
        bmp(0, 4),
        bmp(4, 0),
        tiff(0, 1),
        big_size(0, 4),
        big_size(4, 0),
        big_size(4, 1 << 63),
    ],
)
def test_a_size_of_nothing_is_damage(data: bytes) -> None:
    with pytest.raises(FrameError, match="is damaged"):
        decode_frame(data, "x.png")


@pytest.mark.parametrize(
    "data",
    [
        # As many fields, values, strips and pages as a number can say.
        bigtiff()[:16] + struct.pack("<Q", 1 << 60),
        big_size(8, 8, (273, 16, 1 << 60, 16)),
        big_size(8, 8, (279, 16, 1 << 61, 16)),
        big_size(8, 8, (320, 3, 1 << 63, 16)),
        big_size(8, 8, (258, 8, 1, 0xFFFF), (320, 3, 3, 1)),
        big_size(8, 8, (273, 16, 1, 1 << 63)),
        big_size(8, 8, (273, 16, 1, (1 << 64) - 1), (279, 16, 1, 2)),
        big_size(8, 8, (278, 16, 1, 0)),
        big_size(1 << 26, 1, (278, 16, 1, 1)),
        bigtiff((254, 4, 1, 1), following=16),
        big_size(8, 8, body=b"\x80\x3f\xe0" * 9),
        big_size(8, 8, body=b"\x80", method=32773),
        big_size(8, 8, body=b"none", method=34925),
    ],
)
def test_what_a_header_claims_is_not_made_room_for(data: bytes) -> None:
    import tracemalloc

    tracemalloc.start()
    try:
        with pytest.raises(FrameError, match=r"^x\.tif: "):
            decode_frame(data, "x.tif")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_no_more_is_unpacked_than_a_strip_holds() -> None:
    import tracemalloc

    body = zlib.compress(bytes(1 << 26))
    tracemalloc.start()
    try:
        frame = decode_frame(big_size(16, 64, body=body, method=8), "x")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert frame.shape == (16, 64)
    assert not frame.any()


def test_a_frame_may_be_long() -> None:
    frame = np.arange(1 << 16, dtype=np.uint16)[None]
    assert np.array_equal(decode_frame(encode_png(frame), "x"), frame)
    assert MOST_PIXELS * 4 <= MOST_BYTES


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "jpg"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 2048), (1, 999), (64, 48, 3), (5, 4, 4)])
def test_sound_files_of_every_kind_pass(suffix: str, shape: tuple[int, ...]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    done, data = cv2.imencode(f".{suffix}", picture)
    assert done
    assert decode_frame(data.tobytes(), "x").shape == shape[:2]
    assert frame_shape(data.tobytes(), "x") == shape[:2]


def test_pipes_and_devices_are_no_frames(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", Path("/dev/zero")):
        with pytest.raises(FrameError, match="is a pipe or a device"):
            read_frame(path)


def test_a_gigantic_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "long.png"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # no block of it is on the disk
    with pytest.raises(FrameError, match="which no frame has"):
        read_frame(path)


def npy(shape: str, descr: str = "|u1", body: bytes = b"") -> bytes:
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header + body


def archive(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as made:
        for name, data in members.items():
            made.writestr(name, data)
    return path


@pytest.mark.parametrize("read", [load_bank, load_noise, lambda path: read_npz(path, "noise")])
def test_a_zip_bomb_is_refused_by_its_directory(
    tmp_path: Path, read: Callable[[Path], object]
) -> None:
    size = MOST_UNPACKED + 1
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made,
        made.open(zipfile.ZipInfo("patches.npy"), "w", force_zip64=True) as member,
    ):
        member.write(npy(f"(1, {size})"))
    # The directory alone says how much it would be.
    data = bytearray(buffer.getvalue())
    at = data.index(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<I", size)
    path = tmp_path / "bomb.npz"
    path.write_bytes(data)
    with pytest.raises(NoiseError, match=r"bomb\.npz: would unpack to 268,435,\d+ bytes"):
        read(path)


def test_a_packed_bomb_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as made:
        # Several members, none of which is large by itself.
        for number in range(9):
            made.writestr(f"{number}.npy", bytes(MOST_UNPACKED // 8))
    with pytest.raises(NoiseError, match="would unpack to"):
        load_noise(path)
    with pytest.raises(QualityError, match="would unpack to"):
        load_niqe(path)


@pytest.mark.parametrize(
    "member",
    [
        npy("(1000000000000, 9, 9)"),
        npy("(99999999999999999999999,)"),
        npy("(2, 4, 4)", body=bytes(31)),
        npy("(2, 4, 4)", body=bytes(33)),
        npy("(-1, 4, 4)"),
        npy("(1,)", "|O", b"cos\nsystem\n(S'true'\ntR."),
        npy("(9999999999,)", "<U0"),
        b"cos\nsystem\n(S'true'\ntR.",
        b"",
    ],
)
def test_an_array_that_is_not_what_its_header_says_is_refused(
    tmp_path: Path, member: bytes
) -> None:
    path = archive(tmp_path / "odd.npz", {"patches.npy": member})
    with pytest.raises(NoiseError, match=r"odd\.npz: is not noise"):
        load_noise(path)


def test_a_packed_bank_is_read(tmp_path: Path) -> None:
    bank = make_bank(np.zeros((50, 32, 32), np.uint8))
    with zipfile.ZipFile(io.BytesIO(bank.to_bytes())) as stored:
        members = {name: stored.read(name) for name in stored.namelist()}
    path = archive(tmp_path / "packed.npz", members, zipfile.ZIP_DEFLATED)
    assert np.array_equal(load_bank(path).patches, bank.patches)
