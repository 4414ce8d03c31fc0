"""Damage to files: of their bytes, and of what their formats consist of with sums put right."""

from __future__ import annotations

import io
import json
import random
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import yaml

_NUMBERS = (0, 1, 2, 3, 7, 16, 127, 128, 255, 256, 4096, 0x7FFF, 0xFFFF, 0x10000, 1 << 20, 1 << 28,
            0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)  # fmt: skip
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 0.5, -0.0, 1e308, -1e308, float("nan"), float("inf"), 2**31,
    2**63, -(2**63), 10**30, "", " ", ".", "..", "../../etc/passwd", "/etc/passwd", "a/b", "a\\b",
    "\u0000", "\ud800", "é", "x" * 5000, "1", "nan", "1e999", [], {}, [[]], [None], [{}], [1, 2],
    {"a": 1}, [[[[1]]]], "train", "test", "images", "*", "~", "%", "%2E", "None",
)  # fmt: skip


def mutate(data: bytes, name: str, rng: random.Random) -> bytes:
    """Damage a file; how depends on the end of its name, and on chance."""
    special = next((make for end, make in _SPECIAL.items() if name.endswith(end)), None)
    if special is None or rng.random() < 0.35:
        return mutate_bytes(data, rng)
    try:
        damaged = special(data, rng)
    except (ValueError, struct.error, zlib.error, LookupError, OverflowError, RecursionError):
        damaged = mutate_bytes(data, rng)
    # Damage to what was damaged.
    return mutate_bytes(damaged, rng) if rng.random() < 0.1 else damaged


def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    """Flip, overwrite, cut out, repeat and insert bytes in one to eight places."""
    made = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        # Headers are at the beginning, and directories at the end.
        size = len(made)
        reach = rng.choice((size, size, min(size, 64), min(size, 512)))
        at = rng.randrange(reach) if reach else 0
        if rng.random() < 0.15:
            at = max(size - 1 - at, 0)
        what = rng.randrange(9)
        if what == 0 and size:
            made[at] ^= 1 << rng.randrange(8)
        elif what == 1 and size:
            made[at] = rng.randrange(256)
        elif what == 2:
            order, letter = rng.choice("<>"), rng.choice("BHIQ")
            limit = 1 << (8 * struct.calcsize(letter))
            number = struct.pack(order + letter, rng.choice(_NUMBERS) % limit)
            made[at : at + len(number)] = number
        elif what == 3:
            del made[at:]
        elif what == 4:
            del made[at : at + rng.choice((1, 2, 4, 16, 200))]
        elif what == 5:
            part = made[at : at + rng.choice((1, 4, 16, 200))]
            made[at:at] = part * rng.choice((1, 2, 50))
        elif what == 6:
            made[at:at] = rng.randbytes(rng.choice((1, 4, 32)))
        elif what == 7:
            other = rng.randrange(size) if size else 0
            length = rng.choice((1, 4, 16, 200))
            made[at : at + length] = made[other : other + length]
        else:
            made[at : at + rng.choice((1, 8, 64))] = rng.choice((b"\0", b"\xff", b" ", b"\n")) * 8
    return bytes(made)


def mutate_value(value: Any, rng: random.Random) -> Any:
    """Change one part of a plain value: replace, remove, repeat, rename."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        what = rng.random()
        rest = dict(value)
        if what < 0.1:
            del rest[key]
        elif what < 0.15:
            rest[str(rng.choice(_VALUES))[:50]] = rest.pop(key)
        elif what < 0.2:
            rest[str(rng.choice(_VALUES))[:50]] = rng.choice(_VALUES)
        else:
            rest[key] = mutate_value(value[key], rng)
        return rest
    if isinstance(value, list) and value and rng.random() < 0.85:
        at = rng.randrange(len(value))
        what = rng.random()
        if what < 0.15:
            return value[:at] + value[at + 1 :]
        if what < 0.3:
            return [*value[:at], rng.choice((value[at], rng.choice(_VALUES))), *value[at:]]
        return [*value[:at], mutate_value(value[at], rng), *value[at + 1 :]]
    if isinstance(value, int | float) and rng.random() < 0.5:
        return rng.choice((value + 1, value - 1, -value, value * 1000, value / 2, value + 0.5))
    return rng.choice(_VALUES)


def _json(data: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.03:
        return rng.choice((b"[", b'{"a":')) * rng.choice((500, 100_000))
    value = json.loads(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        value = mutate_value(value, rng)
    return json.dumps(value, indent=rng.choice((None, 2))).encode()


def _dataset_json(data: bytes, rng: random.Random) -> bytes:
    """As `_json`, and half of them with their hash put right."""
    damaged = _json(data, rng)
    if rng.random() < 0.5:
        return damaged
    from synth.disk.description import describe

    value = json.loads(damaged)
    if not isinstance(value, dict):
        return damaged
    return describe({key: one for key, one in value.items() if key != "sha256"})


def _json_lines(data: bytes, rng: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    at = rng.randrange(len(lines))
    what = rng.random()
    if what < 0.1:
        lines.insert(at, lines[at])
    elif what < 0.2:
        del lines[at]
    elif what < 0.3:
        rng.shuffle(lines)
    else:
        lines[at] = _json(lines[at], rng) + b"\n"
    return b"".join(lines)


def _yaml(data: bytes, rng: random.Random) -> bytes:
    value = yaml.safe_load(data)
    what = rng.random()
    if what < 0.05:
        alike = ",".join(["*a"] * rng.choice((2, 9, 2000)))
        return data + f"\nx: &a [1, 2]\ny: &b [{alike}]\nz: [*b, *b]\n".encode()
    if what < 0.1:
        return data + rng.choice(
            (b"\n<<: *none\n", b"\n? [1]\n: 2\n", b"\na: !!python/object:os.system x\n",
             b"\na: !!binary x\n", b"\na: 2020-99-99\n", b"\n1: 2\n", b"\n~: 1\n", b"\n- 1\n",
             b"\na: !!int x\n", b"\na: 0x\n", b"\na: 1:99999999999:2\n", b"\n--- {}\n",
             b"\n? {a: 1}\n: b\n", b"\na: !!set {x, y}\n", b"\na: !!timestamp 1\n")
        )  # fmt: skip
    for _ in range(rng.choice((1, 1, 2, 4))):
        value = mutate_value(value, rng)
    return yaml.safe_dump(value, allow_unicode=True).encode("utf-8", "replace")


def _text(data: bytes, rng: random.Random) -> bytes:
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    extra = str(rng.choice(_VALUES)).encode("utf-8", "surrogatepass")
    words = lines[at].split(b" ")
    words[rng.randrange(len(words))] = extra
    lines[at] = rng.choice(
        (extra, lines[at] * 2, lines[at] + b".png", b" " + lines[at], b"", b"\xff\xfe",
         lines[at] + extra, b" ".join(words))
    )  # fmt: skip
    if rng.random() < 0.2:
        lines.insert(at, rng.choice(lines))
    return b"\n".join(lines)


def _xml(data: bytes, rng: random.Random) -> bytes:
    what = rng.randrange(5)
    if what == 0:
        return re.sub(rb">[^<>]+<", b">" + str(rng.choice(_VALUES)).encode("utf-8", "replace")
                      .replace(b"\\", b"") + b"<", data, count=rng.choice((1, 3)))  # fmt: skip
    if what == 1:
        encoding = rng.choice(("utf-16", "utf-16-be", "utf-32", "utf-7", "no-such"))
        head = f'<?xml version="1.0" encoding="{encoding}"?>'
        return (head + data.decode()).encode("utf-16" if encoding == "no-such" else encoding)
    if what == 2:
        names = re.findall(rb"<(\w+)", data)
        return data.replace(rng.choice(names), rng.choice(names))
    if what == 3:
        body = b'<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;&b;">]>'
        return body + data.replace(b"target", b"&c;")
    return b"<a>" * rng.choice((10, 100_000)) + data


def _png(data: bytes, rng: random.Random) -> bytes:
    chunks: list[tuple[bytes, bytes]] = []
    at = 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    what = rng.randrange(8)
    place = rng.randrange(len(chunks))
    if what == 0:
        header = bytearray(chunks[0][1])
        field = rng.randrange(3)
        if field < 2:
            struct.pack_into(">I", header, 4 * field, rng.choice(_NUMBERS))
        else:
            header[8 + rng.randrange(5)] = rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))
        chunks[0] = (chunks[0][0], bytes(header))
    elif what == 1:
        chunks[place] = (chunks[place][0], mutate_bytes(chunks[place][1], rng))
    elif what == 2:
        del chunks[place]
    elif what == 3:
        chunks.insert(place, rng.choice(chunks))
    elif what in (4, 5):
        # The pixels themselves: fewer, more or other ones, compressed soundly.
        raw = zlib.decompress(b"".join(body for kind, body in chunks if kind == b"IDAT"))
        raw = mutate_bytes(raw, rng) if what == 4 else raw * rng.choice((0, 2, 100))
        rest = [chunk for chunk in chunks if chunk[0] != b"IDAT"]
        chunks = [*rest[:-1], (b"IDAT", zlib.compress(raw)), *rest[-1:]]
    elif what == 6:
        kinds = (b"iCCP", b"tRNS", b"PLTE", b"acTL", b"fcTL", b"fdAT", b"gAMA", b"eXIf", b"zTXt",
                 b"iTXt", b"sBIT", b"hIST", b"bKGD", b"cHRM", b"pHYs", b"IEND", b"IHDR", b"cICP",
                 b"XXXX", b"aaaa", b"CgBI")  # fmt: skip
        body = rng.randbytes(rng.choice((0, 1, 2, 4, 8, 13, 26, 64, 768)))
        if rng.random() < 0.5:
            body = b"a\0\0" + zlib.compress(bytes(rng.choice((10, 1 << 20))))
        chunks.insert(rng.randint(1, len(chunks)), (rng.choice(kinds), body))
    else:
        rng.shuffle(chunks)
    return data[:8] + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def _tiff(data: bytes, rng: random.Random) -> bytes:
    made = bytearray(data)
    order = "<" if data[:2] == b"II" else ">"
    (first,) = struct.unpack_from(order + "I", data, 4)
    (entries,) = struct.unpack_from(order + "H", data, first)
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = first + 2 + 12 * rng.randrange(entries)
        what = rng.randrange(4)
        if what == 0:
            tags = (256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 320, 322, 323, 324, 325,
                    330, 338, 339, 347, 530, 532, 34675)  # fmt: skip
            struct.pack_into(order + "H", made, at, rng.choice(tags))
        elif what == 1:
            struct.pack_into(order + "H", made, at + 2, rng.randrange(20))
        elif what == 2:
            struct.pack_into(order + "I", made, at + 4, rng.choice(_NUMBERS))
        else:
            letter = rng.choice("HI")
            number = rng.choice(_NUMBERS) % (1 << (8 * struct.calcsize(letter)))
            struct.pack_into(order + letter, made, at + 8, number)
    return bytes(made)


def _bmp(data: bytes, rng: random.Random) -> bytes:
    made = bytearray(data)
    for _ in range(rng.choice((1, 1, 2))):
        at = rng.choice((2, 10, 14, 18, 22, 26, 28, 30, 34, 46, 50))
        letter = "H" if at in (26, 28) else "I"
        number = rng.choice((*_NUMBERS, 4, 8, 12, 24, 32, 40, 64, 108, 124))
        struct.pack_into("<" + letter, made, at, number % (1 << (8 * struct.calcsize(letter))))
    return bytes(made)


def _jpeg(data: bytes, rng: random.Random) -> bytes:
    made = bytearray(data)
    markers = [at for at in range(len(data) - 1) if data[at] == 0xFF and data[at + 1] >= 0xC0]
    at = rng.choice(markers)
    what = rng.randrange(4)
    if what == 0:
        made[at + 1] = rng.randrange(0xC0, 0x100)
    elif what == 1:
        struct.pack_into(">H", made, at + 2, rng.choice(_NUMBERS) & 0xFFFF)
    elif what == 2:
        place = at + 4 + rng.randrange(12)
        made[place % len(made)] = rng.randrange(256)
    else:
        size = struct.unpack_from(">H", data, at + 2)[0] + 2
        made[at:at] = made[at : at + size]
    return bytes(made)


def _npz(data: bytes, rng: random.Random) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(list(members))
    what = rng.randrange(7)
    if what == 0:
        members[name] = mutate_bytes(members[name], rng)
    elif what == 1:
        del members[name]
    elif what == 2:
        members[rng.choice((*members, "x.npy", "../x.npy", "/x", "0/0/0.npy", ".npy"))] = members[
            name
        ]
    elif what == 3:
        # A header that promises something else than what follows it.
        length = struct.unpack_from("<H", members[name], 8)[0]
        header = members[name][10 : 10 + length].decode("latin-1")
        shape = rng.choice(("()", "(0,)", "(1,)", "(-1,)", "(1000000000,)", "(3, 0, 9)", "(True,)",
                            "(99999999999999999999,)", "None"))  # fmt: skip
        kind = rng.choice(("|u1", "<u2", "<f8", "|O", "<U0", "<U1", "|V0", "<M8[s]", "<c16", ">i4",
                           "[('a','<i4')]", "|b1"))  # fmt: skip
        if rng.random() < 0.5:
            header = re.sub(r"'shape': \([^)]*\)", f"'shape': {shape}", header)
        else:
            header = re.sub(r"'descr': '[^']*'", f"'descr': '{kind}'", header)
        header = header.rstrip().ljust(length - 1)[: max(length - 1, 0)] + "\n"
        members[name] = members[name][:10] + header.encode("latin-1") + members[name][10 + length :]
    else:
        array = np.lib.format.read_array(io.BytesIO(members[name]))
        change = rng.randrange(6)
        if change == 0:
            array = array.astype(rng.choice(("u1", "u2", "i8", "f4", "f8", "U3", "?", "c16")))
        elif change == 1:
            array = array.reshape(-1)[: rng.choice((0, 1, 2))]
        elif change == 2:
            array = array[None]
        elif change == 3 and array.dtype.kind == "f":
            array = np.where(rng.random() < 0.5, array, rng.choice((np.nan, np.inf, -1.0, 1e300)))
        elif change == 4:
            array = np.concatenate([array.reshape(-1), array.reshape(-1)])
        else:
            array = np.zeros(rng.choice(((), (1,), (4, 4), (0, 3))), array.dtype)
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, array)
        members[name] = buffer.getvalue()
    buffer = io.BytesIO()
    method = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for key, body in members.items():
            archive.writestr(key, body)
    return buffer.getvalue()


def _npy(data: bytes, rng: random.Random) -> bytes:
    array = np.lib.format.read_array(io.BytesIO(data))
    change = rng.randrange(3)
    if change == 0:
        array = array.astype(rng.choice(("u1", "u2", "i8", "f2", "f8", "U3", "?", "c16")))
    elif change == 1:
        array = array.reshape(-1)[: rng.choice((0, 1, 2))]
    else:
        array = array * rng.choice((0.0, np.nan, np.inf, -1.0))
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array)
    return buffer.getvalue()


def _tar(data: bytes, rng: random.Random) -> bytes:
    made = bytearray(data)
    places = [at for at in range(0, len(data) - 512, 512) if data[at + 257 : at + 262] == b"ustar"]
    at = rng.choice(places)
    what = rng.randrange(5)
    if what == 0:
        made[at + 156] = rng.choice(b"0123456789xgLKSV\0A")
    elif what == 1:
        sizes = (b"00000000000\0", b"77777777777\0", b"-0000000001\0", b"\x80" + b"\0" * 3 + b"\xff"
                 * 8, b"\xff" * 12, b"00000001000\0", b"xxxxxxxxxxx\0")  # fmt: skip
        made[at + 124 : at + 136] = rng.choice(sizes)
    elif what == 2:
        names = (b"../x.png", b"/etc/passwd", b"a\\b.png", b".", b"", b"x" * 100, b"a.png",
                 b"\xff\xfe.png", b"a.json", b"a.mask.png", b"./a.png",
                 b"a/../../b.png")  # fmt: skip
        made[at : at + 100] = rng.choice(names).ljust(100, b"\0")
    elif what == 3:
        made[at + 100 + rng.randrange(56)] = rng.randrange(256)
    else:
        del made[at : at + 512 * rng.choice((1, 2, 3))]
        return bytes(made)
    # The sum of a header counts itself as spaces.
    made[at + 148 : at + 156] = b" " * 8
    made[at + 148 : at + 156] = b"%06o\0 " % sum(made[at : at + tarfile.BLOCKSIZE])
    return bytes(made)


def _safetensors(data: bytes, rng: random.Random) -> bytes:
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    if rng.random() < 0.5 and "detect" in header.get("__metadata__", {}):
        details = json.loads(header["__metadata__"]["detect"])
        for _ in range(rng.choice((1, 2))):
            details = mutate_value(details, rng)
        header["__metadata__"]["detect"] = json.dumps(details)
    else:
        header = mutate_value(header, rng)
    body = json.dumps(header).encode()
    return struct.pack("<Q", len(body)) + body + data[8 + length :]


_SPECIAL: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "dataset.json": _dataset_json,
    ".json": _json,
    ".jsonl": _json_lines,
    ".yaml": _yaml,
    ".txt": _text,
    ".xml": _xml,
    ".png": _png,
    ".tif": _tiff,
    ".bmp": _bmp,
    ".jpg": _jpeg,
    ".npz": _npz,
    ".npy": _npy,
    ".tar": _tar,
    ".safetensors": _safetensors,
}
