"""Unpack a zip or tar archive that anybody may have made.

Nothing leaves the folder, no link or device is made, and an archive that is larger than it should
be, in whatever way, is refused as a whole. Only images, lists and archives within are written; the
names of all other members are tested all the same.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import re
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from pipelines.errors import FetchError
from synth.disk.names import parts_inside
from synth.errors import StoreError
from synth.frames import SUFFIXES

_CHUNK = 1 << 18
_WANTED = (*SUFFIXES, ".txt")
_INNER = ".zip"
_LONGEST_NAME = 255
_DEEPEST = 32
# Longer headers than this are a way to fill the memory.
_LONGEST_HEADER = 1 << 16
_TAR_HEADERS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
_OTHERS = {
    b"Rar!": "a rar archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"<!DO": "a web page",
    b"<!do": "a web page",
    b"<htm": "a web page",
    b"<HTM": "a web page",
}
# Readers of archives stumble over what is written by hand in many ways.
_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    ValueError,
    OverflowError,
    NotImplementedError,
)


@dataclass(frozen=True)
class Limits:
    """What an archive may come to.

    Attributes
    ----------
    members : int
        Files and folders.
    total : int
        Bytes unpacked.
    ratio : int
        Bytes unpacked for each packed one, beyond the first `slack` bytes.
    slack : int
    """

    members: int = 100_000
    total: int = 16 << 30
    ratio: int = 200
    slack: int = 1 << 20


class DamagedError(FetchError):
    """An archive that is not whole: worth another download."""


class RefusedError(FetchError):
    """A file that is no archive of a kind that is known here, or one that could do harm."""


@dataclass
class _Member:
    """A file or folder of an archive, by its name as it is written there."""

    name: str
    folder: bool
    size: int
    open: Callable[[], IO[bytes]]
    packed: int | None = None


class _Budget:
    """What is left of the limits, and the names that are taken."""

    def __init__(self, archive: Path, limits: Limits) -> None:
        self.archive = archive
        self.limits = limits
        self._allowed = limits.slack + limits.ratio * archive.stat().st_size
        self._count = 0
        self._bytes = 0
        self._names: dict[tuple[str, ...], tuple[tuple[str, ...], bool]] = {}

    def refuse(self, problem: str) -> RefusedError:
        """An error that says what is wrong with the archive."""
        return RefusedError(f"{self.archive}: {problem}; nothing was unpacked")

    def count(self, member: _Member) -> None:
        """Note one more member; it may be too many, or declare too much."""
        self._count += 1
        if self._count > self.limits.members:
            raise self.refuse(f"has more than {self.limits.members:,} members")
        if self._bytes + member.size > self.limits.total:
            raise self.refuse(f"unpacks to more than {self.limits.total:,} bytes")
        packed = member.packed
        allowed = self.limits.slack + self.limits.ratio * (packed or 0)
        if packed is not None and member.size > allowed:
            raise self.refuse(f"holds {member.name!r:.80}, which is packed too well to be a frame")

    def take(self, count: int) -> None:
        """Note bytes that were unpacked."""
        self._bytes += count
        if self._bytes > self.limits.total:
            raise self.refuse(f"unpacks to more than {self.limits.total:,} bytes")
        if self._bytes > self._allowed:
            raise self.refuse("is packed too well to hold frames: a bomb")

    def watch(self, count: int) -> None:
        """Test the bytes of a stream that have come so far, those that were skipped included."""
        if count > self._allowed or count > self.limits.total + self.limits.slack:
            raise self.refuse("is packed too well to hold frames: a bomb")

    def claim(self, parts: tuple[str, ...], folder: bool) -> None:
        """Take a name and those of the folders above it; on no file system may two be one."""
        for depth in range(1, len(parts) + 1):
            part, above = parts[:depth], folder or depth < len(parts)
            key = tuple(unicodedata.normalize("NFC", text).casefold() for text in part)
            there = self._names.get(key)
            if there is None:
                self._names[key] = (part, above)
            elif there == (part, above) and not above:
                raise self.refuse(f"holds {'/'.join(part)!r:.80} twice")
            elif there != (part, above):
                raise self.refuse(
                    f"holds {'/'.join(there[0])!r:.80} and {'/'.join(part)!r:.80}, "
                    "which are one on some systems"
                )


def unpack(
    archive: Path,
    into: Path,
    limits: Limits = Limits(),
    progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> None:
    """Unpack the images and lists of an archive, and of zip archives in it, into a folder.

    Parameters
    ----------
    archive : Path
        Zip, or tar as it is or packed by gzip, bzip2 or xz, whatever its name says.
    into : Path
        A folder that is there, and empty. After an error something may be in it.
    limits : Limits
        For the archive and the archives in it together.
    progress : callable, optional
        Called with the number of files written, and None.

    Raises
    ------
    DamagedError
        The archive is cut off or damaged.
    RefusedError
        It is something else, such as a web page, or it could do harm: a name that leads outside,
        a link, two names that are one on some systems, or more of anything than the limits allow.
    FetchError
        It cannot be read.
    StoreError
        A file cannot be written.
    """
    try:
        budget = _Budget(archive, limits)
    except OSError as error:
        raise FetchError(f"{archive}: cannot be read ({error.strerror})") from None
    written = 0
    inner: list[tuple[Path, tuple[str, ...]]] = []
    for path, parts in _write_all(archive, into, (), budget, (*_WANTED, _INNER)):
        if path.suffix.lower() == _INNER:
            inner.append((path, parts))
        written += 1
        progress(written, None)
    for path, parts in inner:
        above = (*parts[:-1], Path(parts[-1]).stem)
        for _ in _write_all(path, into, above, budget, _WANTED):
            written += 1
            progress(written, None)
        path.unlink()


def _write_all(
    archive: Path, into: Path, above: tuple[str, ...], budget: _Budget, wanted: tuple[str, ...]
) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Write the wanted members of one archive below a folder; every member's name is tested."""
    try:
        with closing(_members(archive, budget)) as members:
            for member in members:
                budget.count(member)
                parts = (*above, *_parts(member.name, budget))
                if parts == above:
                    continue
                budget.claim(parts, member.folder)
                hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
                if member.folder or hidden or Path(parts[-1]).suffix.lower() not in wanted:
                    continue
                _require_plain(parts, budget)
                path = into.joinpath(*parts)
                _write(path, member, budget)
                yield path, parts
    except _DAMAGE as error:
        words = str(error) or type(error).__name__
        where = archive if archive == budget.archive else f"{archive.name} in {budget.archive}"
        raise DamagedError(f"{where}: is damaged or cut off ({words})") from None


def _parts(name: str, budget: _Budget) -> tuple[str, ...]:
    """The parts of a member's name; tools of another system write it with backslashes."""
    plain = name.replace("\\", "/")
    if re.match(r"[A-Za-z]:", plain):
        raise budget.refuse(f"holds {name!r:.80}, which is no name within a folder")
    try:
        parts = parts_inside(plain)
    except ValueError as error:
        raise budget.refuse(f"holds {name!r:.80}, {error}") from None
    if len(parts) > _DEEPEST:
        raise budget.refuse(f"holds {name!r:.80}, which lies too deep")
    return parts


def _require_plain(parts: tuple[str, ...], budget: _Budget) -> None:
    """Refuse names that hide something or that no list can hold."""
    for part in parts:
        if not part.isprintable() or len(os.fsencode(part)) > _LONGEST_NAME or part != part.strip():
            name = "/".join(parts)
            raise budget.refuse(f"holds {name!r:.80}, which no file should be called")


def _write(path: Path, member: _Member, budget: _Budget) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.fdopen(os.open(path, flags, 0o644), "wb")
    except OSError as error:
        raise StoreError(path, f"cannot be written ({error.strerror})") from None
    with file, member.open() as stream:
        while chunk := stream.read(_CHUNK):
            budget.take(len(chunk))
            try:
                file.write(chunk)
            except OSError as error:
                raise StoreError(path, f"cannot be written ({error.strerror})") from None


def _members(archive: Path, budget: _Budget) -> Generator[_Member, None, None]:
    with archive.open("rb") as file:
        start = file.read(512)
    if not start:
        raise DamagedError(f"{archive}: is empty")
    if zipfile.is_zipfile(archive) and start.startswith(b"PK"):
        yield from _zip_members(archive, budget)
        return
    for begin, unpacked in (
        (b"\x1f\x8b", gzip.open),
        (b"BZh", bz2.open),
        (b"\xfd7zXZ\0", lzma.open),
    ):
        if start.startswith(begin):
            with unpacked(archive, "rb") as file:
                yield from _tar_members(file, budget)
            return
    if start[257:262] == b"ustar":
        with archive.open("rb") as file:
            yield from _tar_members(file, budget)
        return
    what = _OTHERS.get(start.lstrip()[:4], "neither a zip nor a tar archive")
    if start.startswith(b"PK"):
        raise zipfile.BadZipFile("it has no end")
    remedy = "get it in a browser" if what == "a web page" else "unpack it by hand"
    raise RefusedError(f"{archive}: is {what}; {remedy}, and give that with --archive")


def _zip_members(archive: Path, budget: _Budget) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            # Only Unix writes a mode there.
            if info.create_system == 3 and kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise budget.refuse(f"holds {info.filename!r:.80}, a link or a device")
            if info.flag_bits & 1:
                raise budget.refuse("is encrypted: unpack it by hand, and give the folder")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise budget.refuse("is packed in an unusual way: unpack it by hand")

            def open_member(info: zipfile.ZipInfo = info) -> IO[bytes]:
                return opened.open(info)

            folder = info.is_dir() or kind == stat.S_IFDIR
            yield _Member(info.filename, folder, info.file_size, open_member, info.compress_size)


def _tar_members(file: Any, budget: _Budget) -> Iterator[_Member]:
    """Members of a tar stream; what is skipped is unpacked too, and counts."""
    counted = _Counted(file, budget)
    ended = False

    class Header(tarfile.TarInfo):
        """A header that is tested before tarfile acts on it."""

        @classmethod
        def frombuf(cls, buf: Any, encoding: str, errors: str) -> Header:
            # tarfile takes damage after the first member for the end; the end is zeros.
            nonlocal ended
            ended = ended or not any(buf)
            found = super().frombuf(buf, encoding, errors)
            if found.type in _TAR_HEADERS and found.size > _LONGEST_HEADER:
                # It would be in memory at once.
                raise tarfile.ReadError("a name of impossible length")
            return found

    class Archive(tarfile.TarFile):
        tarinfo = Header

    with Archive.open(fileobj=cast(IO[bytes], counted), mode="r|") as opened:
        for info in opened:
            if not info.isreg() and not info.isdir():
                raise budget.refuse(f"holds {info.name!r:.80}, a link or a device")
            if info.issparse():
                raise budget.refuse(f"holds {info.name!r:.80}, a file with holes")

            def open_member(info: tarfile.TarInfo = info) -> IO[bytes]:
                stream = opened.extractfile(info)
                assert stream is not None
                return stream

            yield _Member(info.name, info.isdir(), info.size, open_member)
    if not ended:
        raise tarfile.ReadError("the tar archive has no end")
    # The checksum comes last.
    while counted.read(_CHUNK):
        pass


class _Counted:
    """A stream for tarfile that is refused when it gets too long."""

    def __init__(self, file: Any, budget: _Budget) -> None:
        self._file = file
        self._budget = budget
        self._bytes = 0

    def read(self, count: int) -> bytes:
        """Read up to `count` bytes."""
        try:
            data: bytes = self._file.read(count)
        except (OSError, EOFError) as error:
            raise tarfile.ReadError(str(error)) from None
        self._bytes += len(data)
        self._budget.watch(self._bytes)
        return data
