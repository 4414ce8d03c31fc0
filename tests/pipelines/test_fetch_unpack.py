"""Archives: nothing leaves the folder, nothing is a link, nothing is larger than it may be."""

from __future__ import annotations

import io
import os
import struct
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from pipelines.errors import FetchError
from pipelines.fetch.unpack import DamagedError, Limits, RefusedError, unpack

Tree = Callable[[Path], dict[str, bytes]]
Members = Sequence[tuple[str, bytes]]

NOISE = np.random.default_rng(0).bytes(20_000)
KINDS = ("zip", "tar", "tar.gz", "tar.bz2", "tar.xz")
TIGHT = Limits(members=50, total=1 << 20, ratio=20, slack=10_000)
every_kind = pytest.mark.parametrize("kind", KINDS)
# Archives are written here that the library warns of.
pytestmark = pytest.mark.filterwarnings("ignore:Duplicate name")
zip_and_tar = pytest.mark.parametrize("kind", ["zip", "tar.gz"])


def pack(path: Path, members: Members, kind: str) -> Path:
    """Write an archive, whatever its members are called."""
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for name, data in members:
                info = zipfile.ZipInfo(name)
                # ZipInfo tidies names up on some systems; hostile tools do not.
                info.filename = name
                info.compress_type = zipfile.ZIP_DEFLATED
                info.external_attr = 0o755 << 16
                file.writestr(info, data)
        return path
    packing = kind.partition(".")[2]
    with tarfile.open(path, f"w:{packing}") as file:  # type: ignore[call-overload]
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o755
            file.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture
def into(tmp_path: Path) -> Path:
    """The folder to unpack to, in one that nothing may be written to."""
    folder = tmp_path / "outside" / "into"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def refused(tmp_path: Path, into: Path, tree: Tree) -> Callable[..., str]:
    """Unpack what must be refused; return the message."""

    def attempt(archive: Path, limits: Limits = TIGHT) -> str:
        before = {name: data for name, data in tree(tmp_path).items() if "into" not in name}
        with pytest.raises(RefusedError) as caught:
            unpack(archive, into, limits)
        after = {name: data for name, data in tree(tmp_path).items() if "into" not in name}
        assert after == before
        assert not [path for path in into.rglob("*") if path.is_symlink()]
        message = str(caught.value)
        assert "\n" not in message
        return message

    return attempt


@every_kind
def test_images_and_lists_come_out_and_nothing_else(
    kind: str, tmp_path: Path, into: Path, tree: Tree
) -> None:
    wanted = {"set/images/a.png": NOISE, "set/b.BMP": b"b", "set/train.txt": b"a\n"}
    others = [
        "set/run.py",
        "set/m.xml",
        "set/Icon\r",
        "set/.hidden.png",
        "__MACOSX/set/a.png",
        "set/.git/a.txt",
    ]
    members = [*wanted.items(), *((name, b"no") for name in others)]
    unpack(pack(tmp_path / "any", members, kind), into)
    assert tree(into) == wanted
    assert {path.stat().st_mode & 0o777 for path in into.rglob("*") if path.is_file()} == {0o644}


@zip_and_tar
@pytest.mark.parametrize(
    "name",
    [
        "../x.png",
        "a/../../x.png",
        "a/../x.png",
        "/x.png",
        "//x.png",
        "C:\\x.png",
        "c:/x.png",
        "..\\x.png",
        "a\\..\\..\\x.png",
        "\\x.png",
    ],
)
def test_no_name_leads_outside(
    kind: str, name: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    message = refused(pack(tmp_path / "any", [("good.png", b"1"), (name, b"2")], kind))
    assert "leads out of the folder" in message or "no name within a folder" in message


@zip_and_tar
@pytest.mark.parametrize("name", ["../run.py", "/etc/x", "a/../../folder/"])
def test_names_of_what_is_not_written_are_tested_too(
    kind: str, name: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    refused(pack(tmp_path / "any", [(name, b"")], kind))


@zip_and_tar
@pytest.mark.parametrize(
    "name", ["a\nb.png", "a\x1b[2J.png", " a.png", "a /b.png", "é" * 200 + ".png"]
)
def test_odd_names_are_refused(
    kind: str, name: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    assert "no file should be called" in refused(pack(tmp_path / "any", [(name, b"2")], kind))


@zip_and_tar
def test_a_folder_in_a_folder_in_a_folder_ends(
    kind: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    assert "too deep" in refused(pack(tmp_path / "any", [("a/" * 40 + "x.png", b"2")], kind))


@pytest.mark.parametrize(
    "type_",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE],
)
@pytest.mark.parametrize("target", ["/etc", "..", "good.png"])
def test_no_link_or_device_comes_out_of_a_tar(
    type_: bytes, target: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    with tarfile.open(tmp_path / "any", "w") as file:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = type_, target
        file.addfile(link)
        inside = tarfile.TarInfo("link/x.png")
        inside.size = 1
        file.addfile(inside, io.BytesIO(b"1"))
    assert "a link or a device" in refused(tmp_path / "any")


@pytest.mark.parametrize("mode", [0o120777, 0o020666, 0o010666])
def test_no_link_or_device_comes_out_of_a_zip(
    mode: int, tmp_path: Path, refused: Callable[..., str]
) -> None:
    with zipfile.ZipFile(tmp_path / "any", "w") as file:
        info = zipfile.ZipInfo("link.png")
        info.create_system, info.external_attr = 3, mode << 16
        file.writestr(info, "/etc/passwd")
    assert "a link or a device" in refused(tmp_path / "any")


@zip_and_tar
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a.png", "a.png"),
        ("a.png", "./a.png"),
        ("a.png", "A.PNG"),
        ("images/a.png", "Images/b.png"),
        ("\u00e9.png", "e\u0301.png"),
        ("stra\u00dfe.png", "STRASSE.png"),
        ("a.png", "a.png/b.png"),
        ("a.png/b.png", "a.png"),
    ],
)
def test_two_names_that_are_one_somewhere_are_refused(
    kind: str, first: str, second: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    message = refused(pack(tmp_path / "any", [(first, b"1"), (second, b"2")], kind))
    assert "which are one" in message or "twice" in message


def test_a_folder_may_be_named_often(tmp_path: Path, into: Path, tree: Tree) -> None:
    members = [("a/", b""), ("a/b.png", b"1"), ("a/", b""), ("a/c.png", b"2")]
    unpack(pack(tmp_path / "any", members, "zip"), into)
    assert tree(into) == {"a/b.png": b"1", "a/c.png": b"2"}


def written(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.bz2", "tar.xz"])
@pytest.mark.parametrize("name", ["zeros.png", "zeros.bin"])
def test_what_is_packed_too_well_is_refused(
    kind: str, name: str, tmp_path: Path, into: Path, refused: Callable[..., str]
) -> None:
    limits = Limits(total=1 << 30, ratio=20, slack=10_000)
    archive = pack(tmp_path / "any", [(name, bytes(8 << 20))], kind)
    assert "packed too well" in refused(archive, limits)
    assert written(into) <= limits.slack + 20 * archive.stat().st_size + (1 << 18)


@zip_and_tar
def test_many_small_members_are_a_bomb_too(
    kind: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    members = [(f"{number}.png", bytes(9_000)) for number in range(200)]
    archive = pack(tmp_path / "any", members, kind)
    assert "a bomb" in refused(archive, Limits(ratio=20 if kind == "zip" else 200, slack=10_000))


@every_kind
def test_the_whole_has_a_limit(kind: str, tmp_path: Path, refused: Callable[..., str]) -> None:
    members = [(f"{number}.png", NOISE) for number in range(10)]
    limits = Limits(total=150_000)
    assert "more than 150,000 bytes" in refused(pack(tmp_path / "any", members, kind), limits)


@every_kind
def test_the_number_of_members_has_a_limit(
    kind: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    members = [(f"{number}.xml", b"") for number in range(60)]
    archive = pack(tmp_path / "any", members, kind)
    assert "more than 50 members" in refused(archive, Limits(members=50))


def test_a_size_that_lies_does_not_help(tmp_path: Path, into: Path) -> None:
    archive = pack(tmp_path / "any", [("zeros.png", bytes(5 << 20))], "zip")
    data = archive.read_bytes()
    size = struct.pack("<I", 5 << 20)
    assert data.count(size) == 2
    archive.write_bytes(data.replace(size, struct.pack("<I", 9)))
    with pytest.raises(FetchError):
        unpack(archive, into, TIGHT)
    assert written(into) < 1 << 20


def test_an_archive_in_an_archive_shares_its_limits(
    tmp_path: Path, refused: Callable[..., str]
) -> None:
    zeros = pack(tmp_path / "inner", [("zeros.png", bytes(9_000_000))], "zip").read_bytes()
    outer = pack(tmp_path / "any", [("inner.zip", zeros), ("noise.png", NOISE * 3)], "zip")
    message = refused(outer, Limits(ratio=50, slack=10_000))
    assert "packed too well" in message


def test_archives_within_are_unpacked_once(tmp_path: Path, into: Path, tree: Tree) -> None:
    deep = pack(tmp_path / "deep", [("x.png", b"x")], "zip").read_bytes()
    inner = pack(tmp_path / "in", [("images/a.png", b"a"), ("deep.zip", deep)], "zip").read_bytes()
    unpack(pack(tmp_path / "any", [("set/images.zip", inner)], "zip"), into)
    assert tree(into) == {"set/images/images/a.png": b"a"}


def test_an_archive_within_that_leads_outside_is_refused(
    tmp_path: Path, refused: Callable[..., str]
) -> None:
    inner = pack(tmp_path / "in", [("../../../x.png", b"a")], "zip").read_bytes()
    message = refused(pack(tmp_path / "any", [("set/images.zip", inner)], "zip"))
    assert "leads out of the folder" in message


def test_an_archive_within_does_not_write_over_what_is_there(
    tmp_path: Path, refused: Callable[..., str]
) -> None:
    inner = pack(tmp_path / "in", [("a.png", b"2")], "zip").read_bytes()
    members = [("x/a.png", b"1"), ("x.zip", inner)]
    assert "twice" in refused(pack(tmp_path / "any", members, "zip"))


@every_kind
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_what_is_cut_off_is_damaged(kind: str, share: float, tmp_path: Path, into: Path) -> None:
    members = [(f"{number}.png", NOISE) for number in range(4)]
    archive = pack(tmp_path / "any", members, kind)
    data = archive.read_bytes()
    archive.write_bytes(data[: int(len(data) * share)])
    if kind == "tar" and share == 0.95:
        pytest.skip("what is missing is padding")
    with pytest.raises(DamagedError, match="damaged or cut off"):
        unpack(archive, into)


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.bz2", "tar.xz"])
@pytest.mark.parametrize("at", [0.2, 0.5, 0.8])
def test_a_byte_that_was_changed_is_damage(
    kind: str, at: float, tmp_path: Path, into: Path
) -> None:
    archive = pack(tmp_path / "any", [("a.png", NOISE * 4)], kind)
    data = bytearray(archive.read_bytes())
    data[int(len(data) * at)] ^= 1
    archive.write_bytes(data)
    with pytest.raises(DamagedError):
        unpack(archive, into)


def test_damage_between_the_members_of_a_tar_is_not_its_end(tmp_path: Path, into: Path) -> None:
    archive = pack(tmp_path / "any", [("a.png", b"1"), ("b.png", b"2")], "tar")
    data = bytearray(archive.read_bytes())
    data[1024 + 10] ^= 1
    archive.write_bytes(data)
    with pytest.raises(DamagedError, match="no end"):
        unpack(archive, into)


def test_the_checksum_at_the_end_of_a_gzip_is_tested(tmp_path: Path, into: Path) -> None:
    archive = pack(tmp_path / "any", [("a.png", b"1")], "tar.gz")
    data = bytearray(archive.read_bytes())
    data[-8] ^= 1
    archive.write_bytes(data)
    with pytest.raises(DamagedError):
        unpack(archive, into)


def test_a_name_of_gigabytes_is_not_read(tmp_path: Path, into: Path) -> None:
    header = tarfile.TarInfo("long")
    header.type, header.size = tarfile.XHDTYPE, 8 << 30
    (tmp_path / "any").write_bytes(header.tobuf(tarfile.GNU_FORMAT) + bytes(4096))
    with pytest.raises(DamagedError, match="impossible length"):
        unpack(tmp_path / "any", into)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"\n\n<html>", "a web page"),
        (b"Rar!\x1a\x07\x01\x00", "a rar archive"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
        (NOISE, "neither a zip nor a tar"),
        (b"\x89PNG", "neither a zip nor a tar"),
    ],
)
def test_what_is_no_archive_is_named(data: bytes, words: str, tmp_path: Path, into: Path) -> None:
    (tmp_path / "set.zip").write_bytes(data)
    with pytest.raises(RefusedError, match=f"set.zip: is {words}.*--archive"):
        unpack(tmp_path / "set.zip", into)


def test_an_empty_file_is_damaged(tmp_path: Path, into: Path) -> None:
    (tmp_path / "set.zip").touch()
    with pytest.raises(DamagedError, match="is empty"):
        unpack(tmp_path / "set.zip", into)


def test_a_page_with_a_zip_behind_it_is_no_archive(tmp_path: Path, into: Path) -> None:
    archive = pack(tmp_path / "any", [("a.png", b"1")], "zip")
    archive.write_bytes(b"<html>" + archive.read_bytes())
    with pytest.raises(RefusedError):
        unpack(archive, into)


def test_an_encrypted_zip_is_refused(tmp_path: Path, refused: Callable[..., str]) -> None:
    archive = pack(tmp_path / "any", [("a.png", b"1")], "zip")
    data = bytearray(archive.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    archive.write_bytes(data)
    assert "encrypted" in refused(archive)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_unusual_ways_of_packing_are_refused(
    method: int, tmp_path: Path, refused: Callable[..., str]
) -> None:
    with zipfile.ZipFile(tmp_path / "any", "w", method) as file:
        file.writestr("a.png", NOISE)
    assert "unusual" in refused(tmp_path / "any")


def test_members_that_share_their_bytes_are_refused(tmp_path: Path, into: Path) -> None:
    """One block of zeros that many members unpack: the bomb without a bomb within."""
    archive = pack(tmp_path / "any", [(f"{n}.png", bytes(50_000)) for n in range(40)], "zip")
    with zipfile.ZipFile(archive) as file:
        offsets = [info.header_offset for info in file.infolist()]
    data = bytearray(archive.read_bytes())
    at = -1
    for _ in offsets:
        at = data.index(b"PK\x01\x02", at + 1)
        data[at + 42 : at + 46] = struct.pack("<I", offsets[0])
    archive.write_bytes(data)
    with pytest.raises(FetchError):
        unpack(archive, into)


def test_an_archive_that_is_not_there_is_named(tmp_path: Path, into: Path) -> None:
    with pytest.raises(FetchError, match="nowhere"):
        unpack(tmp_path / "nowhere", into)


def test_umask_and_owner_do_not_come_from_the_archive(tmp_path: Path, into: Path) -> None:
    with tarfile.open(tmp_path / "any", "w") as file:
        info = tarfile.TarInfo("a.png")
        info.size, info.mode, info.uid = 1, 0o4777, 12345
        file.addfile(info, io.BytesIO(b"1"))
    unpack(tmp_path / "any", into)
    found = (into / "a.png").stat()
    assert (found.st_mode & 0o7777, found.st_uid) == (0o644, os.getuid())
