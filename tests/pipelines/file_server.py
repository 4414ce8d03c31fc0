"""A server on this machine that serves one file, well or badly, and remembers what it was asked."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Asked:
    """One request, and the bytes of the body that were sent for it."""

    path: str
    headers: dict[str, str]
    sent: int = 0

    @property
    def range(self) -> str | None:
        """What was asked for with ``Range``."""
        return self.headers.get("range")


@dataclass
class FileServer:
    """What is served; change it between requests.

    `script` has what is done to the next requests, one each; after it all goes well. `ranges` says
    whether ranges are served, `honest` whether ``If-Range`` is looked at.
    """

    data: bytes
    etag: str | None = '"first"'
    modified: str | None = "Wed, 21 Oct 2015 07:28:00 GMT"
    ranges: bool = True
    honest: bool = True
    length: bool = True
    script: deque[Act] = field(default_factory=deque)
    asked: list[Asked] = field(default_factory=list)
    patience: threading.Event = field(default_factory=threading.Event)
    reached: threading.Event = field(default_factory=threading.Event)
    url: str = ""


Act = Callable[["Handler", FileServer], None]


class Handler(BaseHTTPRequestHandler):
    """Answers one request by the script."""

    served: FileServer

    def do_GET(self) -> None:
        served = self.served
        served.asked.append(Asked(self.path, {k.lower(): v for k, v in self.headers.items()}))
        act = served.script.popleft() if served.script else serve
        act(self, served)

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""

    def start(self, status: int, **headers: str) -> None:
        """Send the head of an answer."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def body(self, data: bytes) -> None:
        """Send a part of the body, and count it."""
        # First, since the client may look as soon as it has the last byte.
        self.served.asked[-1].sent += len(data)
        self.wfile.write(data)
        self.wfile.flush()


def serve(handler: Handler, served: FileServer, upto: int | None = None) -> None:
    """Send the file, or the range of it that is asked for; `upto` bytes of it when given."""
    data, status, headers = served.data, 200, {}
    if served.etag:
        headers["ETag"] = served.etag
    if served.modified:
        headers["Last-Modified"] = served.modified
    match = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
    fresh = handler.headers.get("If-Range") in (None, served.etag, served.modified)
    if match and served.ranges and (fresh or not served.honest):
        start = int(match[1])
        if start >= len(data):
            handler.start(416, Content_Range=f"bytes */{len(data)}")
            return
        headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        data, status = data[start:], 206
    if served.length:
        headers["Content-Length"] = str(len(data))
    handler.start(status, **{name.replace("-", "_"): value for name, value in headers.items()})
    handler.body(data if upto is None else data[:upto])


def broken(count: int) -> Act:
    """Close the connection after so many bytes of the body."""
    return lambda handler, served: serve(handler, served, count)


def stalled(count: int) -> Act:
    """Say nothing more after so many bytes."""

    def act(handler: Handler, served: FileServer) -> None:
        serve(handler, served, count)
        served.reached.set()
        served.patience.wait(60)

    return act


def dripping(handler: Handler, served: FileServer) -> None:
    """Send a byte now and then."""
    serve(handler, served, 1)
    for number in range(1, 1000):
        if served.patience.wait(0.05):
            return
        handler.body(served.data[number : number + 1])


def status(code: int, **headers: str) -> Act:
    """Answer with a status and no file."""
    return lambda handler, served: handler.start(code, Content_Length="0", **headers)


def redirect(to: str, code: int = 302) -> Act:
    """Send the client elsewhere."""
    return status(code, Location=to)


@contextmanager
def file_server(data: bytes) -> Iterator[FileServer]:
    """Serve a file on a free port until the block ends."""
    served = FileServer(data)
    handler = type("OwnHandler", (Handler,), {"served": served})

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """Clients that leave early are what is tested."""

    with Server(("127.0.0.1", 0), handler) as server:
        served.url = f"http://127.0.0.1:{server.server_port}/set.zip"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield served
        finally:
            served.patience.set()
            server.shutdown()
            thread.join()
