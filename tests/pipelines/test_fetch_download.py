"""Downloads: whatever the server does, the file that is there in the end is the server's."""

from __future__ import annotations

import fcntl
import http.client
import os
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import file_server as fs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.errors import FetchError
from pipelines.fetch import download as module
from pipelines.fetch.download import Patience, discard, download, keep, partial_path
from synth.errors import StoreError

DATA = np.random.default_rng(0).bytes(300_000)
OTHER = np.random.default_rng(1).bytes(310_000)
QUICK = Patience(pause=0.001)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def server() -> Iterator[fs.FileServer]:
    with fs.file_server(DATA) as served:
        yield served


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "set.zip"


def start(server: fs.FileServer, place: Path, received: int = 100_000) -> None:
    """Leave a part of the file from a run that failed."""
    server.script.append(fs.broken(received))
    with pytest.raises(FetchError, match="run the same command again"):
        download(server.url, place, Patience(tries=1))
    assert partial_path(place).read_bytes() == server.data[:received]


def test_a_broken_connection_is_continued_where_it_broke(
    server: fs.FileServer, place: Path
) -> None:
    server.script += [fs.broken(100_000), fs.broken(50_000)]
    lines: list[str] = []
    assert download(server.url, place, QUICK, tell=lines.append).read_bytes() == DATA
    assert [asked.range for asked in server.asked] == [None, "bytes=100000-", "bytes=150000-"]
    assert [asked.sent for asked in server.asked] == [100_000, 50_000, 150_000]
    assert server.asked[1].headers["if-range"] == server.etag
    assert len(lines) == 2
    assert "100,000 of 300,000" in lines[0]


def test_a_later_run_goes_on(server: fs.FileServer, place: Path) -> None:
    start(server, place)
    assert download(server.url, place, QUICK).read_bytes() == DATA
    assert server.asked[1].sent == 200_000


@pytest.mark.parametrize(
    ("etag", "modified", "condition"),
    [
        ('"tag"', None, '"tag"'),
        (None, "Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2015 07:28:00 GMT"),
        ('W/"weak"', "Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2015 07:28:00 GMT"),
        ('W/"weak"', None, None),
        (None, None, None),
    ],
)
def test_only_a_part_whose_version_is_known_is_continued(
    server: fs.FileServer,
    place: Path,
    etag: str | None,
    modified: str | None,
    condition: str | None,
) -> None:
    server.etag, server.modified = etag, modified
    start(server, place)
    assert download(server.url, place, QUICK).read_bytes() == DATA
    assert server.asked[1].headers.get("if-range") == condition
    assert (server.asked[1].range is None) == (condition is None)
    assert server.asked[1].sent == (200_000 if condition else 300_000)


@pytest.mark.parametrize("honest", [True, False])
def test_a_file_that_has_changed_is_fetched_anew(
    server: fs.FileServer, place: Path, honest: bool
) -> None:
    start(server, place)
    server.data, server.etag, server.honest = OTHER, '"second"', honest
    server.modified = "Thu, 22 Oct 2015 07:28:00 GMT"
    assert download(server.url, place, QUICK).read_bytes() == OTHER


@pytest.mark.parametrize("tell", ["etag", "modified", "size"])
def test_one_sign_of_change_is_enough_where_if_range_is_ignored(
    server: fs.FileServer, place: Path, tell: str
) -> None:
    start(server, place)
    server.honest = False
    server.data = OTHER[: len(DATA)] if tell != "size" else OTHER
    if tell == "etag":
        server.etag = '"second"'
    if tell == "modified":
        server.modified = "Thu, 22 Oct 2015 07:28:00 GMT"
    assert download(server.url, place, QUICK).read_bytes() == server.data


def test_a_server_without_ranges_starts_over(server: fs.FileServer, place: Path) -> None:
    server.ranges = False
    server.script += [fs.broken(100_000), fs.broken(200_000)]
    assert download(server.url, place, QUICK).read_bytes() == DATA
    assert [asked.sent for asked in server.asked] == [100_000, 200_000, 300_000]


def test_a_range_that_was_not_asked_for_is_not_taken(server: fs.FileServer, place: Path) -> None:
    start(server, place)

    def shifted(handler: fs.Handler, served: fs.FileServer) -> None:
        handler.start(
            206,
            Content_Range=f"bytes 99999-{len(DATA) - 1}/{len(DATA)}",
            Content_Length=str(len(DATA) - 99_999),
            ETag='"first"',
        )
        handler.body(DATA[99_999:])

    server.script.append(shifted)
    assert download(server.url, place, QUICK).read_bytes() == DATA


def test_a_file_that_has_shrunk_starts_over(server: fs.FileServer, place: Path) -> None:
    start(server, place)
    server.data, server.honest = OTHER[:5000], False
    assert download(server.url, place, QUICK).read_bytes() == OTHER[:5000]
    assert len(server.asked) == 3


def test_a_part_of_another_address_is_not_continued(server: fs.FileServer, place: Path) -> None:
    start(server, place)
    assert download(f"{server.url}?2", place, QUICK).read_bytes() == DATA
    assert server.asked[1].range is None


@pytest.mark.parametrize("state", [b"", b"{", b"[]", b'{"url": 1}', b'{"size": "x"}', None])
def test_a_part_without_a_readable_state_starts_over(
    server: fs.FileServer, place: Path, state: bytes | None
) -> None:
    start(server, place)
    file = place.with_name("set.zip.partial.json")
    file.unlink()
    if state is not None:
        file.write_bytes(state.replace(b"{", b'{"url": "' + server.url.encode() + b'", ', 1))
    assert download(server.url, place, QUICK).read_bytes() == DATA
    assert server.asked[1].range is None


def test_a_part_that_is_longer_than_the_file_starts_over(
    server: fs.FileServer, place: Path
) -> None:
    start(server, place)
    with partial_path(place).open("ab") as file:
        file.write(bytes(400_000))
    assert download(server.url, place, QUICK).read_bytes() == DATA


@pytest.mark.parametrize("act", [fs.stalled(100_000), fs.dripping])
def test_a_stall_is_a_broken_connection(server: fs.FileServer, place: Path, act: fs.Act) -> None:
    server.script.append(act)
    lines: list[str] = []
    patience = Patience(timeout=1, tries=9, pause=0.001)
    assert download(server.url, place, patience, tell=lines.append).read_bytes() == DATA
    assert "stalls" in lines[0] or "nothing came in time" in lines[0]


def test_a_server_that_never_answers_is_given_up(server: fs.FileServer, place: Path) -> None:
    def silent(handler: fs.Handler, served: fs.FileServer) -> None:
        served.patience.wait(60)

    server.script += [silent, silent]
    with pytest.raises(FetchError, match=r"nothing came in time.*2 times in a row"):
        download(server.url, place, Patience(timeout=0.3, tries=2, pause=0.001))


def test_tries_that_bring_something_do_not_count(server: fs.FileServer, place: Path) -> None:
    server.script += [fs.broken(20_000)] * 10
    assert download(server.url, place, Patience(tries=2, pause=0.001)).read_bytes() == DATA


def test_it_ends_when_no_try_gets_farther(server: fs.FileServer, place: Path) -> None:
    server.ranges = False
    server.script += [fs.broken(20_000)] * 10
    with pytest.raises(FetchError, match="broke at 20,000 of 300,000 bytes, 3 times in a row"):
        download(server.url, place, Patience(tries=3, pause=0.001))
    assert len(server.asked) == 3


@pytest.mark.parametrize("code", [401, 403, 404, 410, 418])
def test_what_will_not_change_is_not_tried_again(
    server: fs.FileServer, place: Path, code: int
) -> None:
    server.script.append(fs.status(code))
    with pytest.raises(FetchError, match=rf"HTTP {code}.*--url.*--archive"):
        download(server.url, place, QUICK)
    assert len(server.asked) == 1


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_what_may_change_is_tried_again(server: fs.FileServer, place: Path, code: int) -> None:
    server.script += [fs.status(code), fs.status(code)]
    assert download(server.url, place, QUICK).read_bytes() == DATA
    assert len(server.asked) == 3


def test_pauses_double_and_the_server_may_ask_for_more(
    server: fs.FileServer, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(module.time, "sleep", pauses.append)
    server.script += [fs.status(503)] * 3 + [fs.status(429, Retry_After="17")]
    server.script += [fs.status(429, Retry_After="99999"), fs.status(503, Retry_After="soon")]
    with pytest.raises(FetchError, match="503"):
        download(server.url, place, Patience(tries=6, pause=1))
    assert pauses == [1, 2, 4, 17, 60]


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirects_are_followed_and_continued(
    server: fs.FileServer, place: Path, code: int
) -> None:
    to = server.url.replace("set.zip", "elsewhere")
    server.script += [fs.redirect(to, code), fs.broken(100_000), fs.redirect(to, code)]
    assert download(server.url, place, QUICK).read_bytes() == DATA
    assert [asked.path for asked in server.asked] == ["/set.zip", "/elsewhere"] * 2
    assert server.asked[3].sent == 200_000


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x"])
def test_redirects_lead_to_http_only(server: fs.FileServer, place: Path, to: str) -> None:
    server.script.append(fs.redirect(to))
    with pytest.raises(FetchError):
        download(server.url, place, QUICK)
    assert len(server.asked) == 1
    assert partial_path(place).stat().st_size == 0


def test_a_redirect_does_not_lead_from_https_to_http(server: fs.FileServer) -> None:
    headers = http.client.HTTPMessage()
    handler = module._Redirects()
    secure, plain = (f"{kind}://example.org/x" for kind in ("https", "http"))
    request = urllib.request.Request(secure)
    with pytest.raises(FetchError, match="not followed"):
        handler.redirect_request(request, open(os.devnull, "rb"), 302, "", headers, plain)  # noqa: SIM115, PTH123
    for before, after in ((secure, secure), (plain, plain), (plain, secure)):
        request = urllib.request.Request(before)
        with open(os.devnull, "rb") as body:  # noqa: PTH123
            assert handler.redirect_request(request, body, 302, "", headers, after) is not None


def test_a_circle_of_redirects_ends(server: fs.FileServer, place: Path) -> None:
    server.script += [fs.redirect(server.url)] * 50
    with pytest.raises(FetchError):
        download(server.url, place, QUICK)
    assert len(server.asked) < 20


def test_a_file_of_unknown_length_is_taken_and_not_continued_blindly(
    server: fs.FileServer, place: Path
) -> None:
    server.length = False
    totals: set[int | None] = set()
    download(server.url, place, QUICK, lambda done, total: totals.add(total))
    assert partial_path(place).read_bytes() == DATA
    assert totals == {None}


def test_a_chunked_body_that_breaks_off_is_noticed(server: fs.FileServer, place: Path) -> None:
    def chunked(handler: fs.Handler, served: fs.FileServer) -> None:
        handler.start(200, Transfer_Encoding="chunked", ETag='"first"')
        handler.wfile.write(b"%x\r\n" % 100_000 + DATA[:70_000])

    server.script.append(chunked)
    assert download(server.url, place, QUICK).read_bytes() == DATA
    assert server.asked[1].range == "bytes=70000-"


def test_nothing_larger_than_the_limit_is_taken(server: fs.FileServer, place: Path) -> None:
    limit = Patience(limit=100_000)
    with pytest.raises(FetchError, match="300,000 bytes, more than the limit"):
        download(server.url, place, limit)
    server.length = False
    with pytest.raises(FetchError, match="cut off"):
        download(server.url, place, limit)
    assert partial_path(place).stat().st_size < 250_000


def test_a_body_that_was_compressed_anew_is_refused(server: fs.FileServer, place: Path) -> None:
    def packed(handler: fs.Handler, served: fs.FileServer) -> None:
        handler.start(200, Content_Encoding="gzip", Content_Length="4")
        handler.body(b"1234")

    server.script.append(packed)
    with pytest.raises(FetchError, match="compressed"):
        download(server.url, place, QUICK)
    assert server.asked[0].headers["accept-encoding"] == "identity"


def test_a_complete_download_needs_no_network(place: Path) -> None:
    with fs.file_server(DATA) as server:
        download(server.url, place, QUICK)
    seen: list[tuple[int, int | None]] = []
    path = download(server.url, place, QUICK, lambda *numbers: seen.append(numbers))
    assert path.read_bytes() == DATA
    assert seen == [(300_000, 300_000)]


def test_a_server_that_is_not_there_is_named(place: Path) -> None:
    with fs.file_server(DATA) as server:
        pass
    with pytest.raises(FetchError, match=r"cannot be reached.*2 times in a row.*another --url"):
        download(server.url, place, Patience(tries=2, pause=0.001))


@pytest.mark.parametrize(
    "url",
    ["", "set.zip", "file:///etc/passwd", "ftp://x/y", "http://", "http://[x/", "http://x:y/"],
)
def test_only_addresses_of_http_are_taken(place: Path, url: str) -> None:
    with pytest.raises(FetchError, match="no address that starts with http"):
        download(url, place, QUICK)
    assert not list(place.parent.iterdir())


def test_an_address_with_spaces_and_umlauts_works(server: fs.FileServer, place: Path) -> None:
    download(server.url.replace("set.zip", "a b ü%20.zip"), place, QUICK)
    assert server.asked[0].path == "/a%20b%20%C3%BC%20.zip"


def test_progress_counts_what_was_there(server: fs.FileServer, place: Path) -> None:
    start(server, place)
    seen: list[tuple[int, int | None]] = []
    download(server.url, place, QUICK, lambda *numbers: seen.append(numbers))
    assert seen[0] == (100_000, 300_000)
    assert seen[-1] == (300_000, 300_000)


def test_two_processes_do_not_write_one_file(server: fs.FileServer, place: Path) -> None:
    with partial_path(place).open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match="another process"):
            download(server.url, place, QUICK)
    assert not server.asked


def test_a_link_in_the_place_is_not_written_through(server: fs.FileServer, place: Path) -> None:
    victim = place.with_name("victim")
    victim.write_bytes(b"mine")
    partial_path(place).symlink_to(victim)
    with pytest.raises(StoreError):
        download(server.url, place, QUICK)
    assert victim.read_bytes() == b"mine"


def test_a_full_disk_is_said_in_one_line(
    server: fs.FileServer, mount_tmpfs: Callable[[str], Path]
) -> None:
    place = mount_tmpfs("size=128k") / "set.zip"
    with pytest.raises(StoreError, match="cannot be written"):
        download(server.url, place, QUICK)


def test_keep_and_discard_leave_nothing_else(server: fs.FileServer, place: Path) -> None:
    download(server.url, place, QUICK)
    keep(place)
    assert [path.name for path in place.parent.iterdir()] == ["set.zip"]
    assert place.read_bytes() == DATA
    download(server.url, place, QUICK)
    discard(place)
    assert [path.name for path in place.parent.iterdir()] == ["set.zip"]


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    breaks=st.lists(st.integers(0, len(DATA)), max_size=5),
    ranges=st.booleans(),
    honest=st.booleans(),
    changes=st.integers(-1, 5),
)
def test_whatever_breaks_the_bytes_are_those_of_one_version(
    tmp_path_factory: pytest.TempPathFactory,
    breaks: list[int],
    ranges: bool,
    honest: bool,
    changes: int,
) -> None:
    with fs.file_server(DATA) as server:
        server.ranges, server.honest = ranges, honest

        def act(number: int, count: int) -> fs.Act:
            def change(handler: fs.Handler, served: fs.FileServer) -> None:
                if number == changes:
                    served.data, served.etag = OTHER, '"second"'
                fs.serve(handler, served, count)

            return change

        server.script += [act(number, count) for number, count in enumerate(breaks)]
        place = tmp_path_factory.mktemp("any") / "set.zip"
        found = download(server.url, place, Patience(tries=9, pause=0.0)).read_bytes()
        assert found == server.data
