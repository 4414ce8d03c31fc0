"""Locks keep others out until they are left, and not longer."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from synth.disk.files import alone_in, lock


def test_a_folder_is_one_s_until_it_is_left(tmp_path: Path) -> None:
    with alone_in(tmp_path):
        with pytest.raises(BlockingIOError), alone_in(tmp_path):
            pass
        # Who was refused does not let others in.
        with pytest.raises(BlockingIOError), alone_in(tmp_path):
            pass
    with pytest.raises(ZeroDivisionError), alone_in(tmp_path):
        raise ZeroDivisionError
    with alone_in(tmp_path):
        pass


def test_one_that_waits_comes_after(tmp_path: Path) -> None:
    order: list[str] = []

    def second() -> None:
        with alone_in(tmp_path, wait=True):
            order.append("second")

    thread = threading.Thread(target=second)
    with alone_in(tmp_path):
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_a_link_is_followed_where_it_may_be(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "folder")
    with alone_in(link), pytest.raises(BlockingIOError), alone_in(tmp_path / "folder"):
        pass
    with pytest.raises(OSError, match="link"), alone_in(link, follow=False):
        pass


def test_a_file_is_one_s_until_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as first, path.open("wb") as second:
        lock(first.fileno())
        with pytest.raises(BlockingIOError):
            lock(second.fileno())
        first.close()
        lock(second.fileno())
