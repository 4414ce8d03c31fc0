"""The data set on disk: whole or not there, and every changed byte is found."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.disk.description import (
    DESCRIPTION,
    MANIFEST,
    describe,
    finished,
    read_description,
    split_lists,
)
from synth.disk.files import lock, replace_file, sha256, write_file
from synth.disk.manifest import Line, parse_line
from synth.disk.staging import Staging, new_folder, staging
from synth.disk.verify import verify
from synth.errors import StoreError

Tree = Callable[[Path], dict[str, bytes]]


def description(**changes: Any) -> dict[str, Any]:
    return {
        "format": 1,
        "name": "x",
        "configuration": {"seed": 0, "noise": {"ratio": [0.1]}},
        "source": {"name": "s", "fingerprint": "f"},
        "noise": None,
    } | changes


def add_output(stage: Staging, id_: str, split: str = "train") -> None:
    """Write the two files of an output and record it."""
    record: dict[str, Any] = {}
    for key, folder in (("image", "images"), ("mask", "masks")):
        name, data = f"{folder}/{id_}.png", f"{key} of {id_}".encode()
        write_file(str(stage.place / name), data)
        record |= {key: name, f"{key}_sha256": sha256(data)}
    stage.append(Line(id_, split, id_, more=record).to_line())


def build(out: Path, ids: tuple[str, ...] = ("a", "b"), **changes: Any) -> None:
    with staging(out, description(**changes)) as stage:
        for id_ in ids:
            add_output(stage, id_)
        stage.publish(description(**changes), {"50_50/train.txt": "\n".join(ids).encode()})


def stop(out: Path, ids: tuple[str, ...], how: BaseException) -> None:
    """Begin a build that ends by an exception after some outputs."""
    with staging(out, description()) as stage:
        for id_ in ids:
            add_output(stage, id_)
        raise how


def problems(out: Path) -> list[str]:
    return [problem for _, _, problem in verify(out, 2) if problem is not None]


def test_nothing_shows_before_the_whole_does(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with staging(out, description()) as stage:
        add_output(stage, "a")
        assert not out.exists()
        stage.publish(description(), {})
        assert out.is_dir()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert problems(out) == []


def test_an_error_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="here"):
        stop(tmp_path / "new" / "folder" / "out", ("a",), RuntimeError("here"))
    assert list(tmp_path.iterdir()) == []


def test_an_error_leaves_what_was_there_before(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(RuntimeError, match="here"):
        stop(tmp_path / "out", ("a",), RuntimeError("here"))
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_an_interrupt_leaves_what_is_whole_for_the_next_run(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        stop(out, ("a",), KeyboardInterrupt())
    assert not out.exists()
    with staging(out, description()) as stage:
        assert stage.completed([("a", "train"), ("b", "train")], 1) == 1


def test_what_another_description_left_is_cleared(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        stop(out, ("a",), KeyboardInterrupt())
    with staging(out, description(name="y")) as stage:
        assert stage.completed([("a", "train")], 1) == 0
        assert list((stage.place / "images").iterdir()) == []


def truncate(place: Path) -> None:
    os.truncate(place / "images" / "b.png", 3)


def change(place: Path) -> None:
    (place / "masks" / "b.png").write_bytes(b"mask of c")


def remove(place: Path) -> None:
    (place / "masks" / "b.png").unlink()


def tear_line(place: Path) -> None:
    lines = (place / MANIFEST).read_bytes().splitlines(keepends=True)
    (place / MANIFEST).write_bytes(lines[0] + lines[1][:-1])


def garble_line(place: Path) -> None:
    lines = (place / MANIFEST).read_bytes().splitlines(keepends=True)
    (place / MANIFEST).write_bytes(lines[0] + b"\0" * len(lines[1]) + b"\n" + lines[2])


@pytest.mark.parametrize("tear", [truncate, change, remove, tear_line, garble_line])
def test_a_build_goes_on_before_the_first_output_that_is_not_whole(
    tmp_path: Path, tear: Callable[[Path], None], tree: Tree
) -> None:
    build(tmp_path / "wanted", ("a", "b", "c"))
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        stop(out, ("a", "b", "c"), KeyboardInterrupt())
    tear(tmp_path / ".out.partial")
    with staging(out, description()) as stage:
        done = stage.completed([("a", "train"), ("b", "train"), ("c", "train")], 2)
        assert done == 1
        for id_ in ("b", "c"):
            add_output(stage, id_)
        stage.publish(description(), {"50_50/train.txt": b"a\nb\nc"})
    assert tree(out) == tree(tmp_path / "wanted")


def test_outputs_of_another_order_are_not_taken_for_whole(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        stop(tmp_path / "out", ("a",), KeyboardInterrupt())
    with staging(tmp_path / "out", description()) as stage:
        assert stage.completed([("b", "train")], 1) == 0
        assert (stage.place / MANIFEST).read_bytes() == b""


@pytest.mark.parametrize("name", ["notes.txt", "dataset.json"])
def test_a_folder_in_the_place_of_staging_is_not_cleared(tmp_path: Path, name: str) -> None:
    theirs = tmp_path / ".out.partial" / name
    theirs.parent.mkdir()
    theirs.write_text("mine")
    with (
        pytest.raises(StoreError, match=r"\.out\.partial: is in the way"),
        staging(tmp_path / "out", description()),
    ):
        pass
    assert theirs.read_text() == "mine"


def test_a_build_that_was_killed_while_publishing_is_made_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    build(out, ("a",))
    out.rename(tmp_path / ".out.partial")
    build(out, ("a", "b"))
    assert not (tmp_path / ".out.partial").exists()


def test_a_second_build_into_one_place_is_told(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with staging(out, description()) as stage:
        add_output(stage, "a")
        with (
            pytest.raises(StoreError, match="out: is being built by another process"),
            staging(out, description()),
        ):
            pass
        # The first one is not disturbed.
        stage.publish(description(), {})
    assert problems(out) == []


def test_a_build_that_another_one_finished_meanwhile_is_told(tmp_path: Path, tree: Tree) -> None:
    out = tmp_path / "out"
    build(out)
    before = tree(tmp_path)
    with (
        pytest.raises(StoreError, match="was built by another process in the meantime"),
        staging(out, description()),
    ):
        pass
    assert tree(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_that_is_published_while_it_is_locked_is_let_alone(
    tmp_path: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, place = tmp_path / "out", tmp_path / ".out.partial"
    build(out)
    before = tree(out)
    out.rename(place)
    lock = fcntl.flock

    def publish_first(handle: int, how: int) -> None:
        place.rename(out)
        lock(handle, how)

    monkeypatch.setattr(fcntl, "flock", publish_first)
    with (
        pytest.raises(StoreError, match="is being built by another process"),
        staging(out, description()),
    ):
        pass
    assert tree(out) == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"configuration": {"seed": 1, "noise": {"ratio": [0.1]}}}, "seed is 0 there and 1 here"),
        (
            {"configuration": {"seed": 0, "noise": {"ratio": [0.2]}}},
            r"noise\.ratio is \[0\.1\] there and \[0\.2\] here",
        ),
        ({"configuration": {"seed": 0, "noise": None}}, "noise is"),
        ({"name": "y"}, "name is 'x' there and 'y' here"),
        ({"source": {"name": "s", "fingerprint": "g"}}, "the source's images, masks or splits"),
        ({"noise": {"patches": 3, "sha256": "h"}}, "the noise bank is not the same"),
    ],
)
def test_a_finished_set_of_another_build_is_told_apart(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    build(tmp_path / "out")
    with pytest.raises(StoreError, match=f"out: was built by another configuration: {words}"):
        finished(tmp_path / "out", description(**changes))


def test_versions_and_places_do_not_tell_builds_apart(tmp_path: Path) -> None:
    build(tmp_path / "out", versions={"numpy": "1"})
    wanted = description(versions={"numpy": "2"}, source={"name": "moved", "fingerprint": "f"})
    assert finished(tmp_path / "out", wanted) is not None


def test_a_place_that_is_free_is_not_finished(tmp_path: Path) -> None:
    assert finished(tmp_path / "absent", description()) is None
    (tmp_path / "empty").mkdir()
    assert finished(tmp_path / "empty", description()) is None


def test_an_empty_folder_may_become_the_set(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    build(tmp_path / "out")
    assert problems(tmp_path / "out") == []


@pytest.mark.parametrize("kind", ["file", "folder with files", "link to nothing"])
def test_a_place_that_is_taken_is_refused(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    if kind == "file":
        out.touch()
    elif kind == "folder with files":
        out.mkdir()
        (out / "notes.txt").touch()
    else:
        out.symlink_to(tmp_path / "absent")
    with pytest.raises(StoreError, match=r"out: is .*choose another --out"):
        finished(out, description())


def rename_in_manifest(out: Path, before: str, after: str) -> None:
    """Let the manifest name another file; every hash of the set is right again."""
    manifest = out / MANIFEST
    manifest.write_text(manifest.read_text().replace(json.dumps(before), json.dumps(after)))
    found = read_description(out)
    files = found["files"] | {MANIFEST: sha256(manifest.read_bytes())}
    body = {key: value for key, value in found.items() if key != "sha256"}
    (out / DESCRIPTION).write_bytes(describe(body | {"files": files}))


@pytest.mark.parametrize("name", ["../a.png", "images/../../a.png", "{outside}/a.png", "/dev/zero"])
def test_a_manifest_that_names_a_file_outside_is_refused(tmp_path: Path, name: str) -> None:
    out, name = tmp_path / "out", name.replace("{outside}", str(tmp_path))
    build(out)
    # Only its place is wrong with it.
    (out / "images" / "a.png").rename(tmp_path / "a.png")
    rename_in_manifest(out, "images/a.png", name)
    assert problems(out) == [
        f"{out / MANIFEST}: names {name!r}, which leads out of the folder; build the set again"
    ]


@pytest.mark.parametrize("key", ["files", "folders"])
def test_a_description_that_names_a_file_outside_is_refused(tmp_path: Path, key: str) -> None:
    out = tmp_path / "out"
    build(out)
    body = {name: value for name, value in read_description(out).items() if name != "sha256"}
    body[key] = body.get(key, {}) | {"../x": sha256(b"") if key == "files" else 0}
    (tmp_path / "x").touch()
    (out / DESCRIPTION).write_bytes(describe(body))
    with pytest.raises(StoreError, match=r"dataset\.json: names '\.\./x', which leads out"):
        read_description(out)


@pytest.mark.parametrize("name", ["images/a.png", "images", "50_50/train.txt", MANIFEST])
def test_a_link_in_a_set_is_no_part_of_it(tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    build(out)
    (out / name).rename(tmp_path / "elsewhere")
    (out / name).symlink_to(tmp_path / "elsewhere")
    found = problems(out)
    assert found
    assert all(f"{out / name}: is a link" in problem for problem in found)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


# Keys whose values have a type of their own.
KNOWN = {"sha256", "files", "shards", "folders", "counts", "configuration", "noise"}


@given(st.dictionaries(st.text().filter(lambda key: key not in KNOWN), values, max_size=4))
@settings(max_examples=40, deadline=None)
def test_a_description_survives_its_file(
    tmp_path_factory: pytest.TempPathFactory, body: Mapping[str, Any]
) -> None:
    folder = tmp_path_factory.mktemp("set")
    (folder / DESCRIPTION).write_bytes(describe(body))
    found = read_description(folder)
    assert {key: value for key, value in found.items() if key != "sha256"} == body


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_changed_byte_of_a_description_is_found(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    raw = bytearray(describe(description()))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    folder = tmp_path_factory.mktemp("set")
    (folder / DESCRIPTION).write_bytes(raw)
    with pytest.raises(StoreError, match=r"dataset\.json: was changed"):
        read_description(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"noise": "bank"},
        {"configuration": "build"},
        {"configuration": {"noise": [1]}},
        {"files": {"a": 1}},
    ],
)
def test_a_description_of_other_types_is_refused_though_its_hash_is_right(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    (tmp_path / DESCRIPTION).write_bytes(describe({**description(), **change}))
    with pytest.raises(StoreError, match=r"dataset\.json: was changed"):
        read_description(tmp_path)


def test_a_changed_missing_or_additional_file_is_named(tmp_path: Path) -> None:
    out = tmp_path / "out"
    build(out)
    (out / "images" / "a.png").write_bytes(b"other")
    (out / "masks" / "b.png").unlink()
    (out / "50_50" / "train.txt").write_text("a")
    for extra in ("images/new.png", "50_50/val.txt", "notes.txt"):
        (out / extra).touch()
    found = sorted(problem.removeprefix(f"{out}/") for problem in problems(out))
    assert [problem.split(":")[0] for problem in found] == sorted(
        ["50_50/train.txt", "50_50/val.txt", "images/a.png", "images/new.png", "masks/b.png",
         "notes.txt"]
    )  # fmt: skip


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    build(tmp_path / "out")
    (tmp_path / "out" / MANIFEST).unlink()
    assert any("manifest.jsonl: is missing" in problem for problem in problems(tmp_path / "out"))


def test_a_folder_that_is_no_set_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"dataset\.json: cannot be read"):
        problems(tmp_path)


def rehash(out: Path, name: str, data: bytes) -> None:
    """Change a file of a set, and its hash with it, as someone does who edits a set by hand."""
    (out / name).write_bytes(data)
    found = read_description(out)
    found.pop("sha256")
    found["files"][name] = sha256(data)
    (out / DESCRIPTION).write_bytes(describe(found))


def build_splits(out: Path) -> None:
    """Two training images and a test image, with the lists of both layouts."""
    with staging(out, description()) as stage:
        for id_, split in (("a", "train"), ("b", "train"), ("c", "test")):
            add_output(stage, id_, split)
        stage.publish(description(), split_lists("out", {"train": ["a", "b"], "test": ["c"]}))


@pytest.mark.parametrize("folder", ["50_50/{}.txt", "img_idx/{}_out.txt"])
@pytest.mark.parametrize(
    ("split", "text", "wanted"),
    [
        ("train", "a\nb\nc\n", "names 'c', which manifest.jsonl has in the split 'test'"),
        ("test", "c\na\n", "names 'a', which manifest.jsonl has in the split 'train'"),
        ("train", "a\nb\n/etc/passwd\n", "names '/etc/passwd', which is no output"),
        ("train", "a\nb\n../masks/c\n", "names '../masks/c', which is no output"),
        ("train", "a\nb\nb\n", "names 'b', 2 times"),
        ("train", "a\nb\n\xff\n", "which is no output"),
        ("train", "a\n", "no list names the output 'b'"),
        ("test", "", "no list names the output 'c'"),
    ],
)
def test_verify_finds_a_list_that_is_not_the_manifests(
    tmp_path: Path, folder: str, split: str, text: str, wanted: str
) -> None:
    out = tmp_path / "out"
    build_splits(out)
    assert problems(out) == []
    name = folder.format(split)
    rehash(out, name, text.encode("latin-1"))
    found = problems(out)
    assert len(found) == 1
    assert wanted in found[0]
    assert found[0].startswith((f"{out / name}: ", f"{(out / name).parent}: "))


def test_verify_finds_a_manifest_line_of_another_split(tmp_path: Path) -> None:
    out = tmp_path / "out"
    build_splits(out)
    changed = (out / MANIFEST).read_bytes().replace(b'"split":"test"', b'"split":"train"')
    rehash(out, MANIFEST, changed)
    assert problems(out) == [
        f"{out / name}: names 'c', which manifest.jsonl has in the split 'train'; "
        "build the set again"
        for name in ("50_50/test.txt", "img_idx/test_out.txt")
    ]


def test_verify_reports_progress_to_the_end(tmp_path: Path) -> None:
    build(tmp_path / "out", ("a", "b", "c"))
    assert [step[:2] for step in verify(tmp_path / "out", 2)] == [(1, 3), (2, 3), (3, 3)]


def test_manifest_lines_are_json_lines() -> None:
    written = Line("ä\n", "train", "b", (("turn", {"side": 3}),), {"noisier": 0.5}, {"image": "a"})
    line = written.to_line()
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert parse_line(line) == written
    assert json.loads(line)["steps"] == [{"turn": {"side": 3}}]


def test_a_replaced_file_makes_its_folder_and_leaves_no_part(tmp_path: Path) -> None:
    path = tmp_path / "new" / "bank.npz"
    replace_file(path, b"one")
    replace_file(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]
    assert stat.S_IMODE(path.stat().st_mode) & 0o444 == 0o444


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_file_that_cannot_be_replaced_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "bank.npz"
    replace_file(path, b"one")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, step, full)
        with pytest.raises(StoreError, match=r"/bank\.npz: cannot be written \(No space left"):
            replace_file(path, b"two", sync=True)
    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]


def test_processes_that_write_one_file_do_so_in_turn(tmp_path: Path) -> None:
    path, partial = tmp_path / "bank.npz", tmp_path / ".bank.npz.partial"
    with partial.open("wb") as file:
        lock(file.fileno())
        file.write(b"half of anoth")
        second = Thread(target=replace_file, args=(path, b"two"))
        second.start()
        second.join(0.2)
        assert second.is_alive()
        assert not path.exists()
        file.write(b"er")
        file.flush()
        partial.rename(path)
        assert path.read_bytes() == b"half of another"
    second.join(10)
    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_beside_a_file_is_used_up(tmp_path: Path) -> None:
    path = tmp_path / "bank.npz"
    (tmp_path / ".bank.npz.partial").write_bytes(b"half of a longer one")
    replace_file(path, b"one")
    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_in_the_place_of_a_part_is_not_followed(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_bytes(b"theirs")
    (tmp_path / ".bank.npz.partial").symlink_to(theirs)
    with pytest.raises(StoreError, match=r"/bank\.npz: cannot be written"):
        replace_file(tmp_path / "bank.npz", b"one")
    assert theirs.read_bytes() == b"theirs"


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[:7]))
    write_file(str(tmp_path / "file"), bytes(range(100)))
    assert (tmp_path / "file").read_bytes() == bytes(range(100))


def test_a_store_error_survives_another_process() -> None:
    import pickle

    error = StoreError("out", "is a file")
    assert str(pickle.loads(pickle.dumps(error))) == str(error) == "out: is a file"


def test_a_new_folder_appears_whole_and_is_filled_by_one(tmp_path: Path) -> None:
    out, place = tmp_path / "new" / "out", tmp_path / "new" / ".out.partial"
    place.mkdir(parents=True)
    (place / "9.png").write_bytes(b"of a run that was killed")
    with new_folder(out) as inside:
        (inside / "1.png").write_bytes(b"1")
        assert not out.exists()
        with pytest.raises(StoreError, match="another process"), new_folder(out):
            pass
    assert [path.name for path in out.iterdir()] == ["1.png"]
    with pytest.raises(ZeroDivisionError), new_folder(tmp_path / "a" / "b"):
        raise ZeroDivisionError
    assert not (tmp_path / "a").exists()
    place.mkdir()
    (place / "mine.txt").write_text("somebody's")
    with pytest.raises(StoreError, match="in the way"), new_folder(out):
        pass
    assert (place / "mine.txt").exists()
