"""One file over HTTP, however often the connection breaks.

What has come so far lies in ``<name>.partial``, and beside it ``<name>.partial.json`` says of which
version of which file it is a part. A part is only continued with ``Range`` and ``If-Range``, and
only when the answer is of the same version; in every other case the download starts over.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from email.message import Message
from io import FileIO
from pathlib import Path
from typing import IO
from urllib.parse import quote, urlsplit

from pipelines.errors import FetchError
from synth import __version__
from synth.disk.files import lock, replace_file
from synth.errors import StoreError

Progress = Callable[[int, int | None], None]
Response = http.client.HTTPResponse

_CHUNK = 1 << 16
# Fewer bytes than this within the time-out are a stall, even when some come.
_TRICKLE = 1 << 10
_LONGEST_PAUSE = 60.0
_TRANSIENT = {408, 425, 429, 500, 502, 503, 504}
_WORDS = {
    401: "needs a login",
    403: "is not allowed",
    404: "is not there",
    410: "is not there any more",
}


@dataclass(frozen=True)
class Patience:
    """How long to wait and how often to try.

    Attributes
    ----------
    timeout : float
        Seconds without data after which a connection counts as dead.
    tries : int
        Tries one after the other that bring nothing new, before giving up.
    pause : float
        Seconds before the second try; doubled for each further one.
    limit : int
        Bytes of the largest file that is taken.
    """

    timeout: float = 30.0
    tries: int = 6
    pause: float = 1.0
    limit: int = 8 << 30


@dataclass(frozen=True)
class _Version:
    """Of which file a part is; `size` is None while the server has not told."""

    url: str
    etag: str | None = None
    modified: str | None = None
    size: int | None = None

    @property
    def condition(self) -> str | None:
        """What ``If-Range`` takes: a strong entity tag, else a date."""
        strong = self.etag if self.etag and not self.etag.startswith("W/") else None
        return strong or self.modified


class _TransientError(Exception):
    """Worth another try; `pause` is what the server asked for, in seconds."""

    def __init__(self, problem: str, pause: float = 0.0) -> None:
        super().__init__(problem)
        self.pause = pause


def partial_path(path: Path) -> Path:
    """Where a download of this name lies until it is wanted no more."""
    return path.with_name(f"{path.name}.partial")


def discard(path: Path) -> None:
    """Remove what a download of this name has left."""
    partial = partial_path(path)
    partial.unlink(missing_ok=True)
    _state(partial).unlink(missing_ok=True)


def keep(path: Path) -> None:
    """Give a complete download its own name."""
    partial = partial_path(path)
    partial.replace(path)
    _state(partial).unlink(missing_ok=True)


def check_url(url: str) -> str:
    """Test that a text is an address that can be fetched; return it in plain ASCII.

    Raises
    ------
    FetchError
        It is none, or not of http or https.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise FetchError(f"{url}: is no address that starts with http:// or https://")
    return quote(url, safe="%/:=&?~#+!$,;'@()*[]")


def download(
    url: str,
    path: Path,
    patience: Patience = Patience(),
    progress: Progress = lambda done, total: None,
    tell: Callable[[str], None] = lambda line: None,
) -> Path:
    """Fetch a file whole; go on where an earlier run, or a broken connection, has stopped.

    Parameters
    ----------
    url : str
        Of http or https; redirects are followed, but not from https to http.
    path : Path
        Name of the file in the end; see `keep` and `discard`.
    patience : Patience
    progress : callable, optional
        Called with the bytes that are there and the bytes in all, None where nobody knows.
    tell : callable, optional
        Called with a line before every further try.

    Returns
    -------
    Path
        ``<path>.partial``, which is complete. A second call finds it without the network.

    Raises
    ------
    FetchError
        The address is wrong, the file is not there or too large, or no try got farther.
    StoreError
        The file cannot be written, or another process is writing it.
    """
    url = check_url(url)
    partial = partial_path(path)
    with _locked(partial) as file:
        best, failures = -1, 0
        while True:
            try:
                _attempt(url, partial, file, patience, progress)
                return partial
            except _TransientError as error:
                size = os.fstat(file.fileno()).st_size
                failures = 1 if size > best else failures + 1
                best = max(best, size)
                if failures >= patience.tries:
                    kept = "what has come is kept: run the same command again to go on"
                    raise FetchError(
                        f"{url}: {error}, {failures} times in a row; "
                        f"{kept if size else 'try again later, or another --url'}"
                    ) from None
                pause = max(error.pause, patience.pause * 2 ** (failures - 1))
                pause = min(pause, _LONGEST_PAUSE)
                tell(f"{url}: {error}; trying again in {pause:.0f} s")
                time.sleep(pause)


def _attempt(url: str, partial: Path, file: FileIO, patience: Patience, progress: Progress) -> None:
    """Bring a part as far as one connection goes; return when it is the whole."""
    known = _read_state(partial, url)
    have = file.seek(0, os.SEEK_END)
    if have and known.size == have:
        progress(have, have)
        return
    if known.condition is None or have > (have if known.size is None else known.size):
        have = 0
    headers = {"User-Agent": f"sirst-synth/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": known.condition or ""}
    response = _open(url, headers, patience, partial)
    with response:
        have, version = _start(url, response, known, have, partial)
        if version.size is not None and version.size > patience.limit:
            raise FetchError(f"{url}: has {version.size:,} bytes, more than the limit")
        _resize(file, have, partial)
        _write_state(partial, version)
        done = _receive(url, response, file, partial, have, version.size, patience, progress)
    if version.size is not None and done < version.size:
        raise _TransientError(f"the connection broke at {done:,} of {version.size:,} bytes")
    _write_state(partial, replace(version, size=done))


def _open(url: str, headers: dict[str, str], patience: Patience, partial: Path) -> Response:
    try:
        request = urllib.request.Request(url, headers=headers)
        response: Response = _opener().open(request, timeout=patience.timeout)
        return response
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416:
                # What is there is no part of what the server has.
                _state(partial).unlink(missing_ok=True)
                raise _TransientError("the server has no more of this file") from None
            if error.code in _TRANSIENT:
                problem = f"the server answers {error.code} ({error.reason})"
                raise _TransientError(problem, _wanted_pause(error.headers)) from None
            words = _WORDS.get(error.code, error.reason)
            raise FetchError(
                f"{url}: {words} (HTTP {error.code}); give another address with --url, or an "
                "archive with --archive"
            ) from None
    except ssl.SSLCertVerificationError as error:
        raise FetchError(f"{url}: {error.verify_message}; the server is not trusted") from None
    except urllib.error.URLError as error:
        reason = error.reason
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise FetchError(f"{url}: {reason.verify_message}; the server is not trusted") from None
        raise _TransientError(f"cannot be reached ({_words(reason)})") from None
    except http.client.InvalidURL as error:
        raise FetchError(f"{url}: is no address ({error})") from None
    except (OSError, http.client.HTTPException) as error:
        raise _TransientError(f"cannot be reached ({_words(error)})") from None


def _start(
    url: str, response: Response, known: _Version, have: int, partial: Path
) -> tuple[int, _Version]:
    """Where the answer goes on, and of which version it is."""
    headers = response.headers
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        raise FetchError(f"{url}: the server sends it compressed anew; give another --url")
    etag, modified = headers.get("ETag"), headers.get("Last-Modified")
    if response.status == 206:
        match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", headers.get("Content-Range", "").strip())
        # Some servers send a range whatever If-Range says.
        same = etag in (None, known.etag) and modified in (None, known.modified)
        fits = match and int(match[1]) == have and known.size in (None, int(match[3]))
        if not match or not fits or not same:
            _state(partial).unlink(missing_ok=True)
            raise _TransientError("the file there is another one by now")
        return have, replace(known, size=int(match[3]))
    length = headers.get("Content-Length", "")
    chunked = "chunked" in headers.get("Transfer-Encoding", "").lower()
    size = int(length) if length.isdigit() and not chunked else None
    return 0, _Version(url, etag, modified, size)


def _receive(
    url: str,
    response: Response,
    file: FileIO,
    partial: Path,
    done: int,
    total: int | None,
    patience: Patience,
    progress: Progress,
) -> int:
    """Append what comes to the file; return its size."""
    progress(done, total)
    since, then = time.monotonic(), done
    while True:
        try:
            chunk = response.read1(_CHUNK)
        except (OSError, http.client.HTTPException) as error:
            problem = f"the connection broke at {done:,} bytes ({_words(error)})"
            raise _TransientError(problem) from None
        if not chunk:
            return done
        _append(file, chunk, partial)
        done += len(chunk)
        if done > (patience.limit if total is None else total):
            raise FetchError(f"{url}: sends more than {done - len(chunk):,} bytes; it is cut off")
        progress(done, total)
        now = time.monotonic()
        if done - then >= _TRICKLE:
            since, then = now, done
        elif now - since > patience.timeout:
            raise _TransientError(f"the connection stalls at {done:,} bytes")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Redirects to http and https, and from https to https alone."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        target = urlsplit(newurl).scheme
        if target not in ("http", "https") or (target == "http" and req.type == "https"):
            fp.close()
            raise FetchError(f"{req.full_url}: leads to {newurl}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        _Redirects(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


@contextmanager
def _locked(partial: Path) -> Iterator[FileIO]:
    """The partial file, open to be read and written, and closed to other processes."""
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        handle = os.open(partial, flags, 0o644)
    except OSError as error:
        raise StoreError(partial, f"cannot be written ({error.strerror})") from None
    # Without a buffer: an interrupt leaves what has come.
    with FileIO(handle, "r+b") as file:
        try:
            lock(handle)
        except BlockingIOError:
            raise StoreError(partial, "is being fetched by another process") from None
        except OSError as error:
            raise StoreError(partial, f"cannot be locked ({error.strerror})") from None
        yield file


def _append(file: FileIO, chunk: bytes, partial: Path) -> None:
    rest = memoryview(chunk)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError as error:
        problem = f"cannot be written ({error.strerror}); what has come is kept"
        raise StoreError(partial, problem) from None


def _resize(file: FileIO, size: int, partial: Path) -> None:
    try:
        file.truncate(size)
        file.seek(size)
    except OSError as error:
        raise StoreError(partial, f"cannot be written ({error.strerror})") from None


def _state(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.json")


def _read_state(partial: Path, url: str) -> _Version:
    """What the part is of; a fresh version when that is not known, or was another address."""
    try:
        found = _Version(**json.loads(_state(partial).read_bytes()))
    except (OSError, ValueError, TypeError, RecursionError):
        return _Version(url)
    texts = (found.etag, found.modified)
    sound = isinstance(found.size, int | None) and all(isinstance(x, str | None) for x in texts)
    return found if sound and found.url == url else _Version(url)


def _write_state(partial: Path, version: _Version) -> None:
    replace_file(_state(partial), json.dumps(asdict(version), indent=2).encode())


def _wanted_pause(headers: Message) -> float:
    """Seconds that ``Retry-After`` asks for; dates are not looked at."""
    value = headers.get("Retry-After", "")
    return float(value) if value.isdigit() else 0.0


def _words(error: object) -> str:
    if isinstance(error, TimeoutError):
        return "nothing came in time"
    if isinstance(error, http.client.IncompleteRead):
        return "it ended too early"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
