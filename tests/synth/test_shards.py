"""Sets in shards are read as what they are, and nothing in them leads astray."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.dataset import is_labelled, open_dataset
from synth.disk.looseset import open_loosely
from synth.disk.png import encode_png
from synth.disk.shards import member_key
from synth.errors import DatasetError, FrameError

ids = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc", "Zl", "Zp", "Zs", "Cf", "Cn",
                                                     "Co"], exclude_characters="/\\"),
    min_size=1,
    max_size=150,
).filter(lambda text: text not in (".", ".."))  # fmt: skip


def pair(id_: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(list(id_.encode()))
    return rng.integers(0, 1 << 16, (9, 7), np.uint16), rng.random((9, 7)) > 0.8


def write_shard(root: Path, name: str, names: list[str]) -> list[dict[str, Any]]:
    """Write a shard with Python's own writer of tar files, and the index of what that wrote."""
    tar_path = root / "shards" / f"{name}.tar"
    tar_path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(tar_path, "w") as tar:
        for id_ in names:
            image, mask = pair(id_)
            for end, array in ((".png", image), (".mask.png", mask)):
                member = tarfile.TarInfo(member_key(id_) + end)
                data = encode_png(array)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    lines: list[dict[str, Any]] = [
        {"id": id_, "split": name.split("-")[0], "source": id_} for id_ in names
    ]
    with tarfile.open(tar_path) as tar:
        found = {member.name: [member.offset_data, member.size] for member in tar}
    for line in lines:
        for what, end in (("image", ".png"), ("mask", ".mask.png")):
            line[what] = member_key(line["id"]) + end
            line[f"{what}_at"] = found[line[what]]
    write_index(root, name, lines)
    return lines


def write_index(root: Path, name: str, lines: list[Any]) -> None:
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (root / "shards" / f"{name}.jsonl").write_text(text)


def write_set(root: Path, **shards: list[str]) -> None:
    for name, names in shards.items():
        write_shard(root, name.replace("_", "-"), names)
    (root / "dataset.json").write_text(
        json.dumps({"shards": {name.replace("_", "-"): len(x) for name, x in shards.items()}})
    )


@given(st.lists(ids, min_size=1, max_size=5, unique=True))
@settings(max_examples=40, deadline=None)
def test_every_pair_is_found_whatever_its_id(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    root = tmp_path_factory.mktemp("set")
    write_set(root, train_000000=names)
    dataset = open_dataset(root)
    assert dataset.ids("train") == tuple(names)
    for id_ in names:
        image, mask = dataset.read_pair(id_)
        np.testing.assert_array_equal(image, pair(id_)[0])
        np.testing.assert_array_equal(mask, pair(id_)[1])


@given(st.lists(ids, min_size=2, max_size=9, unique=True))
def test_keys_are_as_many_as_ids_and_have_no_dot(names: list[str]) -> None:
    assert len({member_key(id_) for id_ in names}) == len(names)
    assert not any("." in member_key(id_) for id_ in names)


def test_splits_are_those_of_the_shards_in_their_order(tmp_path: Path) -> None:
    write_set(tmp_path, train_000000=["b", "a"], train_000001=["c"], val_000000=["v"],
              test_000000=["t"])  # fmt: skip
    dataset = open_dataset(tmp_path)
    assert dict(dataset.splits) == {"train": ("b", "a", "c"), "val": ("v",), "test": ("t",)}
    assert dataset.ids("all") == ("b", "a", "c", "v", "t")
    assert set(dataset.images) == set(dataset.masks) == {"a", "b", "c", "v", "t"}
    assert len(dataset.manifests()) == 4


def test_an_id_that_is_not_there_is_told(tmp_path: Path) -> None:
    write_set(tmp_path, train_000000=["a"])
    with pytest.raises(DatasetError, match="has no image for id 'b'"):
        open_dataset(tmp_path).read_image("b")


def test_files_know_their_bytes_and_their_names(tmp_path: Path) -> None:
    write_set(tmp_path, train_000000=["a.1"])
    dataset = open_dataset(tmp_path)
    tar = tmp_path / "shards" / "train-000000.tar"
    assert dataset.image_file("a.1").read() == encode_png(pair("a.1")[0])
    assert dataset.mask_file("a.1").read() == encode_png(pair("a.1")[1])
    assert dataset.image_path("a.1") == tar / "a%2E1.png"
    assert dataset.mask_path("a.1") == tar / "a%2E1.mask.png"
    assert pickle.loads(pickle.dumps(dataset.image_file("a.1"))) == dataset.image_file("a.1")


def test_a_set_in_shards_is_a_labelled_one(tmp_path: Path) -> None:
    assert not is_labelled(tmp_path)
    write_set(tmp_path, train_000000=["a"])
    assert is_labelled(tmp_path)
    loose = open_loosely(tmp_path)
    assert loose.problems == ()
    np.testing.assert_array_equal(loose.dataset.read_pair("a")[0], pair("a")[0])


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        (["a_k0_j0", "a_k1_j0_r2", "a_k1_j0_r1", "b_k0_j0"], [0, 3, 2, 1]),
        (["7", "12", "9", "10"], [0, 2, 3, 1]),
        (["a_r1_k0_j0", "x_r", "9" * 150, "_r0"], [0, 1, 2, 3]),
    ],
)
def test_lists_have_originals_first_and_then_rounds(
    tmp_path: Path, made: list[str], wanted: list[int]
) -> None:
    write_set(tmp_path, train_000000=[*made[:2], "a"], train_000001=[*made[2:], "b"])
    for name in ("train-000000", "train-000001"):
        path = tmp_path / "shards" / f"{name}.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line in lines[:-1]:
            line["source"] = lines[-1]["id"]
        write_index(tmp_path, name, lines)
    assert open_dataset(tmp_path).ids("train") == ("a", "b", *(made[at] for at in wanted))


@pytest.mark.parametrize(
    "name", ["../train-000000", "/etc/passwd", "train-000000/../x", "train-1", "other-000000", ""]
)
def test_a_shard_lies_nowhere_but_among_the_shards(tmp_path: Path, name: str) -> None:
    write_set(tmp_path, train_000000=["a"])
    (tmp_path / "dataset.json").write_text(json.dumps({"shards": {name: 1}}))
    with pytest.raises(DatasetError, match=r"dataset\.json: names a shard"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"shards": 3}', '{"shards": ["a"]}'])
def test_a_description_without_shards_is_told(tmp_path: Path, text: str) -> None:
    write_set(tmp_path, train_000000=["a"])
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(DatasetError, match=r"dataset\.json: does not name the shards"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("end", [".tar", ".jsonl"])
def test_a_missing_shard_is_named(tmp_path: Path, end: str) -> None:
    write_set(tmp_path, train_000000=["a"], train_000001=["b"])
    (tmp_path / "shards" / f"train-000001{end}").unlink()
    with pytest.raises(DatasetError, match=rf"train-000001\{end}: (cannot be read|is missing)"):
        open_dataset(tmp_path)


places = st.one_of(
    st.none(),
    st.integers(),
    st.text(max_size=3),
    st.lists(st.one_of(st.integers(-5, 1 << 62), st.floats(), st.booleans(), st.none())),
)


@given(
    st.sampled_from(["id", "source", "image", "image_at", "mask", "mask_at"]),
    st.one_of(places, st.text()),
    st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_an_odd_index_is_an_error_of_one_line_or_the_right_pair(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: Any, gone: bool
) -> None:
    root = tmp_path_factory.mktemp("set")
    write_set(root, train_000000=["a", "b"])
    path = root / "shards" / "train-000000.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    if gone:
        del lines[1][key]
    else:
        lines[1][key] = value
    write_index(root, "train-000000", lines)
    problem = ""
    try:
        dataset = open_dataset(root)
        image, mask = dataset.read_pair(dataset.ids("train")[1])
    except FrameError as error:
        problem = str(error)
    assert "\n" not in problem
    if not problem:
        np.testing.assert_array_equal(image, pair("b")[0])
        np.testing.assert_array_equal(mask, pair("b")[1])


@pytest.mark.parametrize("line", ["null", "3", '{"id": "a"', "[" * 100_000, "\x00"])
def test_a_garbled_line_is_named(tmp_path: Path, line: str) -> None:
    write_set(tmp_path, train_000000=["a"])
    path = tmp_path / "shards" / "train-000000.jsonl"
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(DatasetError, match=r"train-000000\.jsonl: line 2 is not one that a build"):
        open_dataset(tmp_path)


def test_an_id_in_two_shards_is_told(tmp_path: Path) -> None:
    write_set(tmp_path, train_000000=["a"], test_000000=["a"])
    with pytest.raises(DatasetError, match=r"test-000000\.jsonl: names id 'a' twice"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("id_", ["../a", "a/b", "a\\b", "..", ".", "", "a\nb"])
def test_an_id_with_a_path_in_it_is_told(tmp_path: Path, id_: str) -> None:
    write_set(tmp_path, train_000000=["a"])
    path = tmp_path / "shards" / "train-000000.jsonl"
    key = member_key(id_)
    files = {"image": f"{key}.png", "mask": f"{key}.mask.png"}
    line = json.loads(path.read_text()) | {"id": id_} | files
    write_index(tmp_path, "train-000000", [line])
    with pytest.raises(DatasetError, match="line 1 is not one that a build writes"):
        open_dataset(tmp_path)


def test_a_truncated_shard_is_named_when_the_set_is_opened(tmp_path: Path) -> None:
    write_set(tmp_path, train_000000=["a", "b"])
    path = tmp_path / "shards" / "train-000000.tar"
    line = json.loads((path.with_suffix(".jsonl")).read_text().splitlines()[1])
    with path.open("r+b") as file:
        file.truncate(line["mask_at"][0] + 1)
    with pytest.raises(DatasetError, match=r"train-000000\.tar: is truncated: it ends before 'b'"):
        open_dataset(tmp_path)


def test_a_member_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    lines = write_shard(tmp_path, "train-000000", ["a"])
    (tmp_path / "dataset.json").write_text('{"shards": {"train-000000": 1}}')
    lines[0]["image_at"][1] = 1 << 31
    write_index(tmp_path, "train-000000", lines)
    # As large a file, without a byte in it.
    with (tmp_path / "shards" / "train-000000.tar").open("r+b") as file:
        file.truncate(1 << 33)
    with pytest.raises(DatasetError, match="line 1 is not one that a build writes"):
        open_dataset(tmp_path)


def make_link(header: tarfile.TarInfo) -> None:
    header.type, header.linkname = tarfile.SYMTYPE, "/etc/passwd"


def make_device(header: tarfile.TarInfo) -> None:
    header.type = tarfile.CHRTYPE


def make_longer(header: tarfile.TarInfo) -> None:
    header.size += 1


@pytest.mark.parametrize("change", [make_link, make_device, make_longer, None])
def test_what_lies_in_a_shard_must_be_a_plain_file(
    tmp_path: Path, change: Callable[[tarfile.TarInfo], None] | None
) -> None:
    write_set(tmp_path, train_000000=["a"])
    path = tmp_path / "shards" / "train-000000.tar"
    data = bytearray(path.read_bytes())
    line = json.loads(path.with_suffix(".jsonl").read_text())
    begin = line["image_at"][0] - 512
    if change is None:
        data[begin + 7] ^= 1  # the header's own checksum is wrong then
    else:
        header = tarfile.TarInfo.frombuf(bytes(data[begin : begin + 512]), "utf-8", "strict")
        change(header)
        data[begin : begin + 512] = header.tobuf(tarfile.USTAR_FORMAT)
    path.write_bytes(data)
    dataset = open_dataset(tmp_path)
    with pytest.raises(DatasetError, match=r"train-000000\.tar: has not the file 'a\.png' where"):
        dataset.read_image("a")
    assert dataset.read_mask("a").shape == (9, 7)
