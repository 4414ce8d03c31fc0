"""Sets in shards: what the loose set holds, the same bytes however made, flipped bits found."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from small_sets import Outcome, SmallSet

from pipelines.build import run as build_module
from pipelines.build.config import BuildConfig
from pipelines.build.parallel import Pool
from pipelines.build.run import BuildResult, ShardSize, _shard_tasks, build, prepare
from synth.disk import shards as shards_module
from synth.disk.description import describe, read_description
from synth.disk.files import sha256
from synth.disk.verify import verify
from synth.errors import StoreError

Tree = Callable[[Path], dict[str, bytes]]
Synth = Callable[..., Outcome]
ROOT = Path(__file__).parents[2]


def config(**changes: Any) -> BuildConfig:
    values: dict[str, Any] = {
        "name": "small",
        "simulate": {"train": 6, "test": 3, "noise_frames": 2, "shape": (48, 64)},
        "noise": {"sample": {"side": 8}},
        "negatives": {"count": 90, "steps": ["mixup", {"turn": {"side": 9}}]},
    }
    return BuildConfig.model_validate(values | changes)


def build_shards(out: Path, outputs: int = 25, jobs: int = 1, **keywords: Any) -> BuildResult:
    return build(config(), out, jobs=jobs, shards=ShardSize(outputs=outputs), **keywords)


def members(out: Path) -> dict[str, bytes]:
    """Every member of every shard, as Python's own reader of tar files finds them."""
    found: dict[str, bytes] = {}
    for shard in sorted((out / "shards").glob("*.tar")):
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                file = tar.extractfile(member)
                assert file is not None
                assert member.name not in found
                found[member.name] = file.read()
    return found


def lines(out: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for path in sorted((out / "shards").glob("*.jsonl"))
        for line in path.read_bytes().splitlines()
    ]


def problems(out: Path) -> list[str]:
    return [problem for _, _, problem in verify(out, 2) if problem is not None]


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set in shards of 25 outputs, made by one worker without a stop."""
    out = tmp_path_factory.mktemp("wanted") / "out"
    build_shards(out)
    return out


def test_shards_hold_what_the_loose_set_holds(wanted: Path, tmp_path: Path, tree: Tree) -> None:
    build(config(), tmp_path / "loose", jobs=1)
    loose = tree(tmp_path / "loose")
    assert (wanted / "noise.npz").read_bytes() == loose["noise.npz"]
    inside = members(wanted)
    records = [json.loads(line) for line in loose["manifest.jsonl"].splitlines()]
    assert len(inside) == 3 * len(records) == 3 * 99
    for record in records:
        id_ = record["id"]
        assert inside[f"{id_}.png"] == loose[record["image"]]
        assert inside[f"{id_}.mask.png"] == loose[record["mask"]]
        line = json.loads(inside[f"{id_}.json"])
        places = line.pop("image_at"), line.pop("mask_at")
        assert [size for _, size in places] == [
            len(loose[record["image"]]), len(loose[record["mask"]])
        ]  # fmt: skip
        names = {"image": f"{id_}.png", "mask": f"{id_}.mask.png"}
        assert line == record | names


def test_the_manifest_of_a_shard_is_its_json_members(wanted: Path) -> None:
    for tar in (wanted / "shards").glob("*.tar"):
        with tarfile.open(tar) as opened:
            inside = [opened.extractfile(m) for m in opened if m.name.endswith(".json")]
            text = b"".join(file.read() for file in inside if file is not None)
        assert tar.with_suffix(".jsonl").read_bytes() == text
        data = tar.read_bytes()
        for line in map(json.loads, text.splitlines()):
            for what in ("image", "mask"):
                offset, size = line[f"{what}_at"]
                assert shards_module.sha256(data[offset : offset + size]) == line[f"{what}_sha256"]


def test_a_shard_says_nothing_of_who_made_it_and_when(wanted: Path) -> None:
    for tar in (wanted / "shards").glob("*.tar"):
        with tarfile.open(tar) as opened:
            for member in opened:
                assert member.isreg()
                assert (member.mtime, member.uid, member.gid, member.mode) == (0, 0, 0, 0o644)
                assert (member.uname, member.gname) == ("", "")


@given(
    st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=130),
    st.integers(0, 9 * 8**11) | st.sampled_from([0, 8**11 - 1, 8**11]),
)
@example("a" * 100, 1)
@example("a" * 101, 1)
@example("é", 1)
def test_headers_are_those_of_python(name: str, size: int) -> None:
    wanted = tarfile.TarInfo(name)
    wanted.size = size
    assert shards_module.member_header(name, size) == wanted.tobuf(tarfile.PAX_FORMAT)


def test_shards_are_of_one_split_and_of_the_size_that_was_asked_for(wanted: Path) -> None:
    counts = json.loads((wanted / "dataset.json").read_bytes())["shards"]
    assert counts == {
        "train-000000": 25, "train-000001": 25, "train-000002": 25, "train-000003": 21,
        "test-000000": 3,
    }  # fmt: skip
    for path in (wanted / "shards").glob("*.jsonl"):
        found = [json.loads(line) for line in path.read_bytes().splitlines()]
        assert len(found) == counts[path.stem]
        assert {line["split"] for line in found} == {path.stem.split("-")[0]}


@pytest.mark.parametrize("size", [ShardSize(outputs=1), ShardSize(nbytes=40 * 48 * 64)])
def test_the_size_of_shards_changes_no_output(
    wanted: Path, tmp_path: Path, size: ShardSize
) -> None:
    build(config(), tmp_path / "out", jobs=1, shards=size)

    def content(out: Path) -> dict[str, bytes]:
        return {name: data for name, data in members(out).items() if name.endswith(".png")}

    assert content(tmp_path / "out") == content(wanted)
    counts = json.loads((tmp_path / "out" / "dataset.json").read_bytes())["shards"]
    largest = size.outputs or 40
    assert max(counts.values()) == largest
    assert len(counts) == -(-96 // largest) + -(-3 // largest)


@pytest.mark.parametrize(("jobs", "backend"), [(2, "threads"), (3, "threads"), (2, "processes")])
def test_workers_do_not_change_a_byte(
    wanted: Path, tmp_path: Path, tree: Tree, jobs: int, backend: Any
) -> None:
    build_shards(tmp_path / "out", jobs=jobs, backend=backend)
    assert tree(tmp_path / "out") == tree(wanted)


def test_files_of_the_source_keep_their_bytes_and_suffix(
    small_set: SmallSet, tmp_path: Path
) -> None:
    import cv2

    frame = cv2.imread(str(small_set.image("005")), -1)
    small_set.image("005").unlink()
    cv2.imwrite(str(small_set.image("005").with_suffix(".bmp")), frame)
    wanted = BuildConfig.model_validate(
        {"name": "x", "data": small_set.root, "noise": {"sample": {"side": 8}}}
    )
    build(wanted, tmp_path / "out", jobs=1, shards=ShardSize(outputs=9))
    inside = members(tmp_path / "out")
    assert inside["005.bmp"] == small_set.image("005").with_suffix(".bmp").read_bytes()
    assert inside["006.mask.png"] == small_set.mask("006").read_bytes()


def test_a_dot_in_an_id_does_not_end_its_key(
    make_set: Callable[..., SmallSet], tmp_path: Path
) -> None:
    made = make_set(prefix="a.b%", train=1, test=0)
    wanted = BuildConfig.model_validate(
        {"name": "x", "data": made.root, "negatives": {"steps": ["turn"]}}
    )
    build(wanted, tmp_path / "out", jobs=1, shards=ShardSize(outputs=9))
    assert "a%2Eb%25001.mask.png" in members(tmp_path / "out")
    assert {line["id"].split("_")[0] for line in lines(tmp_path / "out")} == {"a.b%001"}


def test_verify_finds_a_flipped_bit_anywhere(wanted: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(wanted, out)
    assert problems(out) == []
    seed = random.SystemRandom().randrange(10**6)
    rng = random.Random(seed)
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        if path.name == "dataset.json":
            continue
        kept = path.read_bytes()
        # The very first and last byte, padding between members included, and some in between.
        for at in {0, len(kept) - 1, *(rng.randrange(len(kept)) for _ in range(3))}:
            changed = bytearray(kept)
            changed[at] ^= 1 << rng.randrange(8)
            path.write_bytes(changed)
            assert problems(out) == [f"{path}: was changed after the build"], f"seed {seed}"
        path.write_bytes(kept)
    (out / "dataset.json").write_bytes((out / "dataset.json").read_bytes()[:-1])
    with pytest.raises(StoreError, match=r"dataset\.json: was changed"):
        problems(out)


def test_verify_names_what_is_missing_or_additional(wanted: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(wanted, out)
    (out / "shards" / "train-000001.tar").unlink()
    (out / "shards" / "train-000009.tar").touch()
    (out / "notes.txt").touch()
    assert sorted(line.removeprefix(f"{out}/").split(":")[0] for line in problems(out)) == [
        "notes.txt", "shards/train-000001.tar", "shards/train-000009.tar"
    ]  # fmt: skip


def edit_line(out: Path, **changes: Any) -> Path:
    """Change the first line of a training shard, and all hashes with it."""
    path = out / "shards" / "train-000000.jsonl"
    first, *rest = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(json.dumps(json.loads(first) | changes).encode() + b"\n" + b"".join(rest))
    found = read_description(out)
    found.pop("sha256")
    found["files"]["shards/train-000000.jsonl"] = sha256(path.read_bytes())
    (out / "dataset.json").write_bytes(describe(found))
    return path


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"split": "test"}, "in the split 'test', and the shard is of 'train'"),
        ({"split": "odd"}, "in the split 'odd', and the shard is of 'train'"),
        ({"id": "/etc/passwd"}, "line 1 is not one that a build writes"),
    ],
)
def test_verify_finds_a_line_that_does_not_belong_in_its_shard(
    wanted: Path, tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    out = tmp_path / "out"
    shutil.copytree(wanted, out)
    path = edit_line(out, **changes)
    (found,) = problems(out)
    assert found.startswith(f"{path}: ")
    assert problem in found


def test_verify_reports_outputs(wanted: Path) -> None:
    steps = [step[:2] for step in verify(wanted, 1)]
    assert steps[-1] == (99, 99)
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)


class _StopError(Exception):
    pass


def stop_after(shards: int, out: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Interrupt a build after some shards; return its staging directory."""
    made = 0
    finish = shards_module.ShardWriter.finish

    def count(self: shards_module.ShardWriter) -> shards_module.Shard:
        nonlocal made
        if made == shards:
            raise KeyboardInterrupt
        made += 1
        return finish(self)

    with monkeypatch.context() as patch:
        patch.setattr(shards_module.ShardWriter, "finish", count)
        with pytest.raises(KeyboardInterrupt):
            build_shards(out)
    return out.parent / f".{out.name}.partial"


def test_a_shard_that_is_whole_is_not_made_again(
    wanted: Path, tmp_path: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    place = stop_after(2, out, monkeypatch)
    before = {path.name: path.stat().st_ino for path in (place / "shards").iterdir()}
    assert len(before) == 4  # and nothing of the shard that was under way
    result = build_shards(out)
    assert result.made == 99 - 50
    assert tree(out) == tree(wanted)
    for name, inode in before.items():
        assert (out / "shards" / name).stat().st_ino == inode


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "tear",
    [
        lambda place: os.truncate(place / "shards" / "train-000001.tar", 3000),
        lambda place: flip(place / "shards" / "train-000001.tar"),
        lambda place: (place / "shards" / "train-000001.tar").unlink(),
        lambda place: flip(place / "shards" / "train-000001.jsonl"),
        lambda place: (place / "shards" / "train-000001.jsonl").unlink(),
        lambda place: (place / ".whole" / "train-000001.json").unlink(),
        lambda place: os.truncate(place / ".whole" / "train-000001.json", 9),
        lambda place: (place / ".whole" / "train-000001.json").write_text("[1]"),
        lambda place: (place / "shards" / ".train-000001.x.partial").write_bytes(b"half"),
    ],
)
def test_a_torn_shard_is_made_again(
    wanted: Path,
    tmp_path: Path,
    tree: Tree,
    monkeypatch: pytest.MonkeyPatch,
    tear: Callable[[Path], object],
) -> None:
    out = tmp_path / "out"
    tear(stop_after(3, out, monkeypatch))
    assert build_shards(out, jobs=2).made in (99 - 50, 99 - 75)
    assert tree(out) == tree(wanted)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.slow
def test_a_killed_build_ends_with_the_same_bytes(tmp_path: Path, tree: Tree) -> None:
    file = tmp_path / "my.yaml"
    file.write_text(
        "simulate: {train: 8, test: 4, noise_frames: 2, shape: [128, 128], targets: [2, 3]}\n"
        "noise: {sample: {side: 16}}\nnegatives: {count: 800, steps: [mixup, turn: {side: 16}]}\n"
    )
    command = [sys.executable, "-m", "pipelines.cli", "build", file, "--jobs", "2", "--format",
               "webdataset", "--shard-size", "20", "--out"]  # fmt: skip
    subprocess.run([*command, tmp_path / "wanted"], cwd=ROOT, check=True, capture_output=True)
    out, marks = tmp_path / "out", tmp_path / ".out.partial" / ".whole"
    seed = random.SystemRandom().randrange(10**6)
    rng = random.Random(seed)
    kills = 0
    for part in (0, 1):
        least = int(41 * (part + rng.random()) / 2)
        process = subprocess.Popen([*command, out], cwd=ROOT, stdout=subprocess.DEVNULL)
        while process.poll() is None:
            if marks.is_dir() and len(list(marks.iterdir())) > least:
                process.kill()
                kills += 1
                break
            time.sleep(0.001)
        process.wait()
    assert kills, f"seed {seed}: no kill fell into the build"
    subprocess.run([*command, out], cwd=ROOT, check=True, capture_output=True)
    assert tree(out) == tree(tmp_path / "wanted"), f"seed {seed}"


def test_an_error_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tree: Tree
) -> None:
    def fail(self: object) -> None:
        raise _StopError

    monkeypatch.setattr(shards_module.ShardWriter, "finish", fail)
    with pytest.raises(_StopError):
        build_shards(tmp_path / "new" / "out", jobs=2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("free", ["96k", "400k"])
def test_a_full_disk_is_told_and_left_empty(
    synth: Synth, small_set: SmallSet, mount_tmpfs: Callable[[str], Path], free: str
) -> None:
    disk = mount_tmpfs(f"size={free}")
    file = small_set.root.parent / "my.yaml"
    file.write_text(
        "noise: {sample: {side: 8}}\nnegatives: {count: 400, steps: [mixup, turn: {side: 9}]}\n"
    )
    outcome = synth(
        "build", file, "--data", small_set.root, "--out", disk / "new" / "out",
        "--format", "webdataset", "--jobs", 2,
    )  # fmt: skip
    assert outcome.status == 1
    assert outcome.err.count("\n") == 1
    assert "No space left on device" in outcome.err
    assert list(disk.iterdir()) == []


def test_other_shards_are_another_configuration(wanted: Path) -> None:
    with pytest.raises(StoreError, match=r"shards\.outputs is 25 there and 24 here"):
        build_shards(wanted, outputs=24)
    with pytest.raises(StoreError, match="was built by another configuration: shards is"):
        build(config(), wanted, jobs=1)
    assert build_shards(wanted).made == 0


def test_a_finished_set_that_lost_a_shard_is_told(wanted: Path, tmp_path: Path) -> None:
    shutil.copytree(wanted, tmp_path / "out")
    (tmp_path / "out" / "shards" / "test-000000.tar").unlink()
    with pytest.raises(StoreError, match=r"is not whole: some of shards/test-000000\.tar"):
        build_shards(tmp_path / "out")


def test_a_worker_has_at_most_one_file_of_the_set_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 0
    beside: list[int] = []
    add, load = shards_module.ShardWriter.add, build_module.load_parts

    def count() -> int:
        return sum(".out.partial/" in name for name in open_files())

    def watch(self: shards_module.ShardWriter, *arguments: Any) -> None:
        nonlocal most
        add(self, *arguments)
        most = max(most, count())

    def watch_load(path: Path) -> Any:
        beside.append(count())
        return load(path)

    monkeypatch.setattr(shards_module.ShardWriter, "add", watch)
    monkeypatch.setattr(build_module, "load_parts", watch_load)
    build_shards(tmp_path / "out")
    assert most == 1
    # The noise is a file of the set too.
    assert beside == [0]


def open_files() -> list[str]:
    links = Path("/proc/self/fd")
    if not links.is_dir():
        pytest.skip("open files cannot be listed here")
    return [str(link.readlink()) for link in links.iterdir() if link.is_symlink()]


def test_a_plan_does_not_grow_with_the_outputs(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        negatives = {"count": count, "steps": ["mixup", {"turn": {"side": 9}}]}
        sample = {"side": 8, "max_var": 1e6, "stride": 1}
        wanted = config(negatives=negatives, noise={"sample": sample})
        size = ShardSize(outputs=100)
        tracemalloc.start()
        plan = prepare(wanted, Pool(1), size)
        outputs = 0
        for task in _shard_tasks(plan, size, tmp_path):
            outputs += sum(map(len, task.task.groups))
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert outputs == count + 9
        return top

    peak(100)  # what is kept once for all
    small, large = peak(1000), peak(8000)
    # 7,000 negatives more, as specs and ids, would be 4 MB and more.
    assert large < small + 300_000


def test_bad_sizes_are_wrong_usage(synth: Synth, tmp_path: Path) -> None:
    for options in (
        ("--format", "webdataset", "--shard-size", "0"),
        ("--format", "webdataset", "--shard-size", "5KB"),
        ("--shard-size", "100"),
        ("--backend", "dask"),
        ("--scheduler", "tcp://127.0.0.1:1"),
    ):
        outcome = synth(
            "build", ROOT / "configs" / "build" / "demo.yaml", "--out", tmp_path / "o", *options
        )
        assert outcome.status == 2
        assert outcome.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_an_import_makes_loose_files_of_it(
    synth: Synth, wanted: Path, tmp_path: Path, tree: Tree
) -> None:
    out = tmp_path / "loose"
    arguments = ("--format", "webdataset", "--out", out)
    assert synth("import", wanted / "shards", *arguments).status == 0
    loose, inside = tree(out), members(wanted)
    for line in lines(wanted):
        assert loose[f"images/{line['id']}.png"] == inside[line["image"]]
        assert loose[f"masks/{line['id']}.png"] == inside[line["mask"]]
        assert line["id"] in loose[f"50_50/{line['split']}.txt"].decode().split()
