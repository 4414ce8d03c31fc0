"""Builds: the same bytes however they are made, and nothing made from what is held out."""

from __future__ import annotations

import json
import os
import pty
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from made_again import assert_made_again, steps
from real_data import real_data
from small_sets import SmallSet

from pipelines.build.config import BuildConfig
from pipelines.build.run import BuildResult, build
from pipelines.config import load_config
from synth.dataset import Dataset, open_dataset
from synth.disk.verify import verify
from synth.errors import DatasetError, NoiseError, RecipeError, StoreError
from synth.frames import read_frame
from synth.noise.bank import load_bank, make_bank
from synth.targets import find_targets, target_box

Tree = Callable[[Path], dict[str, bytes]]
ROOT = Path(__file__).parents[2]
slow = pytest.mark.slow


def config(**changes: Any) -> BuildConfig:
    values: dict[str, Any] = {
        "name": "small",
        "noise": {"sample": {"side": 8}},
        "negatives": {"steps": ["mixup", {"turn": {"side": 9, "mirror": True}}]},
    }
    return BuildConfig.model_validate(values | changes)


def simulated(**changes: Any) -> BuildConfig:
    settings = {"train": 6, "test": 3, "noise_frames": 2, "shape": (48, 64)}
    return config(simulate=settings, **changes)


def build_from(made: SmallSet, out: Path, *, jobs: int = 1, **changes: Any) -> BuildResult:
    return build(config(data=made.root, **changes), out, jobs=jobs)


def manifest(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]


def assert_recomputed(out: Path, source: Dataset, records: list[dict[str, Any]]) -> None:
    """Make outputs again from their manifest lines, the bank and the source alone."""
    for record in records:
        assert_made_again(out, record, source)


def negatives_of(out: Path) -> list[dict[str, Any]]:
    return [record for record in manifest(out) if "turn" in steps(record)]


def test_a_built_set_is_intact_and_reads_as_one(tmp_path: Path) -> None:
    result = build(simulated(), tmp_path / "out", jobs=1)
    dataset = open_dataset(tmp_path / "out")
    assert (len(dataset.ids("train")), len(dataset.ids("test"))) == (
        result.counts["train"],
        result.counts["test"],
    )
    assert len(dataset.ids("all")) == result.made == result.counts["outputs"]
    assert set(dataset.ids("all")) == set(dataset.images) == set(dataset.masks)
    assert [problem for _, _, problem in verify(tmp_path / "out", 2) if problem] == []
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_both_kinds_of_lists_say_the_same(small_set: SmallSet, tmp_path: Path) -> None:
    build_from(small_set, tmp_path / "out")
    for split in ("train", "test"):
        lists = [
            (tmp_path / "out" / name).read_text().split()
            for name in (f"50_50/{split}.txt", f"img_idx/{split}_small.txt")
        ]
        assert lists[0] == lists[1]
        of_manifest = [r["id"] for r in manifest(tmp_path / "out") if r["split"] == split]
        assert sorted(lists[0]) == sorted(of_manifest)


def test_the_first_negatives_are_all_turns_of_all_targets(
    small_set: SmallSet, tmp_path: Path
) -> None:
    dataset = open_dataset(small_set.root)
    targets = {id_: len(find_targets(dataset.read_mask(id_))) for id_ in small_set.train}
    every = 4 * sum(targets.values())
    build_from(
        small_set,
        tmp_path / "out",
        negatives={"count": every + 5, "steps": ["mixup", {"turn": {"side": 9}}]},
    )
    made = sorted(negatives_of(tmp_path / "out"), key=lambda record: record["id"])
    turns = [(r["source"], steps(r)["turn"]) for r in made[:every]]
    assert [(id_, turn["target"], turn["quarter_turns"]) for id_, turn in turns] == [
        (id_, target, turns)
        for id_, count in targets.items()
        for target in range(count)
        for turns in range(4)
    ]
    assert [record["id"] for record in made] == [f"{7 + n:03d}" for n in range(every + 5)]
    assert {record["split"] for record in made} == {"train"}


def test_ids_that_are_no_numbers_name_what_was_done(
    make_set: Callable[..., SmallSet], tmp_path: Path
) -> None:
    made = make_set(prefix="Misc_", targets=1)
    build_from(made, tmp_path / "out")
    assert {record["id"] for record in negatives_of(tmp_path / "out")} == {
        f"{id_}_k{turns}_j0" for id_ in made.train for turns in range(4)
    }


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"negatives": {"steps": [{"mixup": {"ratio": [0.1, 0.3, 0.5]}}, {"turn": {"side": 9}}]}},
        {
            "noise": {"sample": {"side": 8, "limit": 9}},
            "negatives": {"count": 40, "steps": ["mixup", {"turn": {"side": 2}}]},
        },
        {
            "noise": {"sample": {"side": 16}},
            "negatives": {
                "steps": ["mixup", {"turn": {"side": 48, "turns": [1, 3], "mirror": True}}]
            },
        },
    ],
)
def test_every_negative_can_be_made_again_from_its_line(
    make_set: Callable[..., SmallSet], tmp_path: Path, changes: dict[str, Any]
) -> None:
    made = make_set(shapes=((48, 64), (70, 51)))
    build_from(made, tmp_path / "out", **changes)
    records = negatives_of(tmp_path / "out")
    assert records
    assert_recomputed(tmp_path / "out", open_dataset(made.root), records)


def test_16_bit_stays_16_bit_and_native_sizes_stay(
    make_set: Callable[..., SmallSet], tmp_path: Path
) -> None:
    made = make_set(shapes=((48, 64), (70, 51)), dtype=np.uint16)
    build_from(made, tmp_path / "out", noise={"sample": {"side": 8, "max_var": 500}})
    source = open_dataset(made.root)
    for record in manifest(tmp_path / "out"):
        image = read_frame(tmp_path / "out" / record["image"])
        assert image.dtype == np.uint16
        assert image.shape == source.read_image(record["source"]).shape
    assert_recomputed(tmp_path / "out", source, negatives_of(tmp_path / "out"))


def test_noise_of_another_depth_needs_a_gain(
    make_set: Callable[..., SmallSet], tmp_path: Path
) -> None:
    made = make_set(dtype=np.uint16)
    patches = np.random.default_rng(0).integers(90, 99, (20, 8, 8)).astype(np.uint8)
    (tmp_path / "bank.npz").write_bytes(make_bank(patches).to_bytes())
    noise = {"frames": tmp_path / "bank.npz"}
    with pytest.raises(NoiseError, match=r"001\.png: .*uint8 does not fit .* uint16"):
        build_from(made, tmp_path / "out", noise=noise)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bank.npz", "source"]
    chosen = {"steps": [{"mixup": {"gain": 100.0}}, {"turn": {"side": 9}}]}
    build_from(made, tmp_path / "out", noise=noise, negatives=chosen)
    assert_recomputed(tmp_path / "out", open_dataset(made.root), negatives_of(tmp_path / "out"))


def test_masks_keep_their_area_when_the_box_holds_its_targets_whole(tmp_path: Path) -> None:
    build(
        simulated(negatives={"steps": ["mixup", {"turn": {"side": 24}}]}), tmp_path / "out", jobs=1
    )
    dataset = open_dataset(tmp_path / "out")
    held = 0
    for record in negatives_of(tmp_path / "out"):
        mask = dataset.read_mask(record["source"])
        targets = find_targets(mask)
        turn = steps(record)["turn"]
        box = target_box(targets[turn["target"]], turn["side"], mask.shape)
        inside = np.zeros(mask.shape, bool)
        inside[box[0] : box[2], box[1] : box[3]] = True
        cut = False
        for target in targets:
            own = np.zeros(mask.shape, bool)
            own[target.box[0] : target.box[2], target.box[1] : target.box[3]] = True
            cut |= bool((own & inside).any() and (own & ~inside).any())
        if not cut:
            held += 1
            assert dataset.read_mask(record["id"]).sum() == mask.sum()
    assert held > 10


@pytest.mark.parametrize("suffix", [".png", ".bmp"])
def test_test_files_are_those_of_the_source(
    small_set: SmallSet, tmp_path: Path, suffix: str
) -> None:
    for id_ in small_set.test:
        image, mask = small_set.image(id_), small_set.mask(id_)
        # A type of its own and a suffix of the mask's name.
        values = cv2.imread(str(mask), -1)
        frame = cv2.imread(str(image), -1)
        image.unlink(), mask.unlink()
        cv2.imwrite(str(image.with_suffix(suffix)), frame)
        cv2.imwrite(str(mask.with_name(f"{id_}_pixels0{suffix}")), values)
    build_from(small_set, tmp_path / "out")
    for id_ in small_set.test:
        for name, source in (
            (f"images/{id_}{suffix}", f"images/{id_}{suffix}"),
            (f"masks/{id_}{suffix}", f"masks/{id_}_pixels0{suffix}"),
        ):
            assert (tmp_path / "out" / name).read_bytes() == (small_set.root / source).read_bytes()


def test_test_masks_of_other_values_become_0_and_255(small_set: SmallSet, tmp_path: Path) -> None:
    # Else the set would hold masks of two conventions.
    wanted = {}
    for id_ in (*small_set.train, *small_set.test):
        wanted[id_] = cv2.imread(str(small_set.mask(id_)), -1)
        cv2.imwrite(str(small_set.mask(id_)), wanted[id_] // 255 * 38)
    build_from(small_set, tmp_path / "out")
    for id_ in small_set.test:
        written = cv2.imread(str(tmp_path / "out" / "masks" / f"{id_}.png"), -1)
        np.testing.assert_array_equal(written, wanted[id_])


def test_training_masks_of_0_and_1_become_0_and_255(small_set: SmallSet, tmp_path: Path) -> None:
    masks = {}
    for id_ in small_set.train:
        masks[id_] = cv2.imread(str(small_set.mask(id_)), -1) > 0
        cv2.imwrite(str(small_set.mask(id_)), masks[id_].astype(np.uint8))
    build_from(small_set, tmp_path / "out")
    for id_, mask in masks.items():
        written = cv2.imread(str(tmp_path / "out" / "masks" / f"{id_}.png"), -1)
        np.testing.assert_array_equal(written, np.where(mask, 255, 0))
        image = (tmp_path / "out" / "images" / f"{id_}.png").read_bytes()
        assert image == small_set.image(id_).read_bytes()


def test_nothing_is_made_from_test_images(small_set: SmallSet, tmp_path: Path) -> None:
    build_from(small_set, tmp_path / "out")
    for record in manifest(tmp_path / "out"):
        if record["source"] in small_set.test:
            assert (record["split"], record["id"]) == ("test", record["source"])
            assert "steps" not in record
    bank = load_bank(tmp_path / "out" / "noise.npz")
    assert not set(bank.frame.tolist()) & set(small_set.test)


@pytest.mark.parametrize(
    ("suffix", "split"), [(".png", "train"), (".bmp", "train"), (".png", "val")]
)
def test_an_image_that_is_a_test_image_is_refused(
    small_set: SmallSet, tmp_path: Path, suffix: str, split: str
) -> None:
    if split == "val":
        small_set.write_lists([id_ for id_ in small_set.train if id_ != "002"], small_set.test)
        (small_set.root / "50_50" / "val.txt").write_text("002")
    frame = cv2.imread(str(small_set.image(small_set.test[0])), -1)
    small_set.image("002").unlink()
    cv2.imwrite(str(small_set.image("002").with_suffix(suffix)), frame)
    with pytest.raises(DatasetError, match=rf"002\{suffix}: has the same pixels as a test image"):
        build_from(small_set, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_validation_split_is_kept_as_it_is(small_set: SmallSet, tmp_path: Path) -> None:
    small_set.write_lists(small_set.train[:3], small_set.test)
    (small_set.root / "50_50" / "val.txt").write_text(small_set.train[3])
    build_from(small_set, tmp_path / "out")
    dataset = open_dataset(tmp_path / "out")
    assert dataset.ids("val") == (small_set.train[3],)
    assert small_set.train[3] not in {r["source"] for r in negatives_of(tmp_path / "out")}


def test_an_empty_test_list_is_legal(small_set: SmallSet, tmp_path: Path) -> None:
    small_set.write_lists(small_set.train, [])
    result = build_from(small_set, tmp_path / "out")
    assert result.counts["test"] == 0
    assert (tmp_path / "out" / "50_50" / "test.txt").read_bytes() == b""


def test_without_noise_there_is_no_bank(small_set: SmallSet, tmp_path: Path) -> None:
    turn = {"steps": [{"turn": {"side": 9}}]}
    build_from(small_set, tmp_path / "out", noise=None, negatives=turn)
    assert not (tmp_path / "out" / "noise.npz").exists()
    assert all("mixup" not in steps(record) for record in manifest(tmp_path / "out"))


def test_a_box_larger_than_an_image_is_told(small_set: SmallSet, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="side 49 is larger than image '001'"):
        build_from(small_set, tmp_path / "out", negatives={"steps": [{"turn": {"side": 49}}]})


@pytest.mark.parametrize("where", ["simulated", "files"])
def test_workers_do_not_change_a_byte(
    make_set: Callable[..., SmallSet], tmp_path: Path, tree: Tree, where: str
) -> None:
    # More outputs than go to a worker at a time, and one source with more than go to one task.
    settings = {"negatives": {"count": 500, "steps": ["mixup", {"turn": {"side": 9}}]}}
    if where == "files":
        source = make_set(train=3, targets=20, shapes=((64, 80),))
        wanted = config(data=source.root, **settings)
    else:
        wanted = simulated(**settings)
    trees = []
    for jobs, backend in ((1, "threads"), (2, "threads"), (3, "threads"), (2, "processes")):
        out = tmp_path / f"{jobs}{backend}"
        build(wanted, out, jobs=jobs, backend=backend)  # type: ignore[arg-type]
        trees.append(tree(out))
    assert trees[0] == trees[1] == trees[2] == trees[3]


def test_another_seed_is_another_set(small_set: SmallSet, tmp_path: Path, tree: Tree) -> None:
    for seed in (0, 1):
        build_from(small_set, tmp_path / str(seed), seed=seed)
    one, other = tree(tmp_path / "0"), tree(tmp_path / "1")
    assert one.keys() == other.keys()
    assert one["images/007.png"] != other["images/007.png"]
    assert one["images/001.png"] == other["images/001.png"]


def test_a_place_may_be_built_again_by_another_configuration(
    small_set: SmallSet, tmp_path: Path, tree: Tree
) -> None:
    build_from(small_set, tmp_path / "fresh", noise={"sample": {"side": 4}})
    build_from(small_set, tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    build_from(small_set, tmp_path / "out", noise={"sample": {"side": 4}})
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


def test_a_finished_build_is_left_as_it_is(small_set: SmallSet, tmp_path: Path, tree: Tree) -> None:
    build_from(small_set, tmp_path / "out")
    before, times = tree(tmp_path / "out"), (tmp_path / "out" / "images").stat().st_mtime_ns
    assert build_from(small_set, tmp_path / "out", jobs=2).made == 0
    assert tree(tmp_path / "out") == before
    assert (tmp_path / "out" / "images").stat().st_mtime_ns == times


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": 1}, "seed is 0 there and 1 here"),
        ({"noise": {"sample": {"side": 4}}}, r"noise\.sample\.side is 8 there and 4 here"),
        (
            {"negatives": {"steps": ["mixup", {"turn": {"side": 8, "mirror": True}}]}},
            r"negatives\.steps\.turn\.side is 9 there and 8 here",
        ),
    ],
)
def test_a_finished_set_is_not_changed_by_another_configuration(
    small_set: SmallSet, tmp_path: Path, tree: Tree, changes: dict[str, Any], words: str
) -> None:
    build_from(small_set, tmp_path / "out")
    before = tree(tmp_path)
    with pytest.raises(StoreError, match=f"out: was built by another configuration: {words}"):
        build_from(small_set, tmp_path / "out", **changes)
    assert tree(tmp_path) == before


def test_a_finished_set_of_another_source_is_told(small_set: SmallSet, tmp_path: Path) -> None:
    build_from(small_set, tmp_path / "out")
    frame = cv2.imread(str(small_set.image("001")), -1)
    frame[0, 0] ^= 1
    cv2.imwrite(str(small_set.image("001")), frame)
    with pytest.raises(StoreError, match="source's images, masks or splits are not the same"):
        build_from(small_set, tmp_path / "out")


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("backend", ["threads", "processes"])
def test_an_error_among_workers_leaves_nothing_behind(
    make_set: Callable[..., SmallSet], tmp_path: Path, backend: str
) -> None:
    made = make_set(train=60, shapes=((96, 96),), targets=4)
    # Found by a worker, while the others write.
    shutil.copy(made.image(made.test[0]), made.image("030"))
    wanted = config(data=made.root)
    for _ in range(2 if backend == "threads" else 1):
        with pytest.raises(DatasetError, match=r"030\.png"):
            build(wanted, tmp_path / "out", jobs=4, backend=backend)  # type: ignore[arg-type]
        time.sleep(0.05)
        assert [path.name for path in tmp_path.iterdir()] == ["source"]


def flip_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_verify_names_every_kind_of_file_after_one_flipped_byte(
    small_set: SmallSet, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    build_from(small_set, out)
    names = [
        "images/001.png", "masks/001.png", "images/007.png", "masks/007.png", "images/006.png",
        "masks/006.png", "50_50/train.txt", "50_50/test.txt", "img_idx/train_small.txt",
        "img_idx/test_small.txt", "manifest.jsonl", "noise.npz",
    ]  # fmt: skip
    for name in names:
        kept = (out / name).read_bytes()
        flip_byte(out / name)
        found = [problem for _, _, problem in verify(out, 1) if problem]
        assert any(problem.startswith(f"{out / name}: ") for problem in found), name
        (out / name).write_bytes(kept)
    flip_byte(out / "dataset.json")
    with pytest.raises(StoreError, match=r"dataset\.json: was changed"):
        list(verify(out, 1))


def run_build(
    config_file: Path, out: Path, *options: str, errors: int = subprocess.PIPE
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pipelines.cli", "build", str(config_file), "--out", str(out)]
    return subprocess.Popen(
        [*command, *options],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        start_new_session=True,
    )


@pytest.mark.parametrize(
    ("backend", "times"),
    [
        ("threads", 1),
        ("processes", 1),
        pytest.param("threads", 3, marks=slow),
        pytest.param("processes", 3, marks=slow),
    ],
)
def test_an_error_among_workers_is_one_line_and_status_1(
    make_set: Callable[..., SmallSet], tmp_path: Path, backend: str, times: int
) -> None:
    made = make_set(train=120, shapes=((96, 96),), targets=4)
    shutil.copy(made.image(made.test[0]), made.image("030"))
    file = tmp_path / "my.yaml"
    file.write_text(
        f"data: {made.root}\nnoise: {{sample: {{side: 8}}}}\n"
        "negatives: {steps: [mixup, turn: {side: 9}]}\n"
    )
    for _ in range(times):
        process = run_build(file, tmp_path / "out", "--jobs", "2", "--backend", backend)
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors.decode().count("\n")) == (1, 1), errors.decode()
        assert "030.png: has the same pixels" in errors.decode()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["my.yaml", "source"]


@pytest.fixture
def large_config(tmp_path: Path) -> Path:
    path = tmp_path / "large.yaml"
    path.write_text(
        "simulate: {train: 8, test: 4, noise_frames: 2, shape: [128, 128], targets: [2, 3]}\n"
        "noise: {sample: {side: 16}}\n"
        "negatives: {count: 1200, steps: [mixup, turn: {side: 16}]}\n"
    )
    return path


@pytest.mark.parametrize("backend", [pytest.param("threads", marks=slow), "processes"])
def test_a_build_that_is_killed_and_run_again_ends_with_the_same_bytes(
    large_config: Path, tmp_path: Path, tree: Tree, backend: str
) -> None:
    config_ = load_config(large_config, BuildConfig, defaults={"name": "large"})
    build(config_, tmp_path / "wanted", jobs=2)
    out, partial = tmp_path / "out", tmp_path / ".out.partial" / "manifest.jsonl"
    seed = random.SystemRandom().randrange(10**6)
    rng = random.Random(seed)
    options = large_config, out, "--jobs", "2", "--backend", backend
    kills = 0
    total = 1212
    for part in (0, 1, 2):
        # A moment between the outputs that the last run left and the next third of the whole.
        wanted = int(total * (part + rng.random()) / 3)
        process = run_build(*options, errors=subprocess.DEVNULL)
        while process.poll() is None:
            done = partial.read_bytes().count(b"\n") if partial.exists() else 0
            if done > wanted:
                # The build alone: its workers, if they are processes, find out by themselves.
                process.kill()
                kills += 1
                break
            time.sleep(0.002)
        process.wait()
    assert kills >= 2, f"seed {seed}: too few kills fell into the builds"
    process = run_build(*options)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert tree(out) == tree(tmp_path / "wanted"), f"seed {seed}"
    assert not partial.parent.exists()


def wait_for_outputs(process: subprocess.Popen[bytes], out: Path) -> None:
    """Wait until a build has recorded its first outputs."""
    manifest = out.parent / f".{out.name}.partial" / "manifest.jsonl"
    while process.poll() is None and not (manifest.exists() and manifest.stat().st_size):
        time.sleep(0.002)


@pytest.mark.parametrize("backend", ["threads", "processes"])
@pytest.mark.parametrize("times", [(), (0.0,), (0.1, 0.5)], ids=["once", "twice", "thrice"])
def test_interrupts_are_one_line_and_leave_what_the_next_run_needs(
    large_config: Path, tmp_path: Path, backend: str, times: tuple[float, ...]
) -> None:
    out = tmp_path / "out"
    process = run_build(large_config, out, "--jobs", "2", "--backend", backend)
    wait_for_outputs(process, out)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to the workers too
    for pause in times:
        time.sleep(pause)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.decode() == "synth: interrupted; run the same command again to go on\n"
    left = (tmp_path / ".out.partial" / "manifest.jsonl").read_bytes().count(b"\n")
    # Those of processes may all have ended by then.
    assert 0 < left <= 1212
    again = build(load_config(large_config, BuildConfig, defaults={"name": "large"}), out)
    assert again.made == 1212 - left
    assert not [problem for _, _, problem in verify(out, 2) if problem]


def read_until(terminal: int, words: bytes) -> bytes:
    """What a terminal shows up to some words, or to its end."""
    seen = b""
    while words not in seen:
        try:
            part = os.read(terminal, 1024)
        except OSError:  # the other end was closed
            break
        if not part:
            break
        seen += part
    return seen


def test_ctrl_c_in_a_terminal(large_config: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    child, terminal = pty.fork()
    if child == 0:
        command = [sys.executable, "-m", "pipelines.cli", "build", str(large_config), "--out"]
        os.chdir(ROOT)
        os.execv(sys.executable, [*command, str(out), "--jobs", "2"])
    manifest = tmp_path / ".out.partial" / "manifest.jsonl"
    while not (manifest.exists() and manifest.stat().st_size):
        time.sleep(0.002)
    os.write(terminal, b"\x03\x03")
    seen = read_until(terminal, b"to go on")
    read_until(terminal, b"nothing comes any more")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 130
    os.close(terminal)
    assert b"Traceback" not in seen
    config = load_config(large_config, BuildConfig, defaults={"name": "large"})
    assert 0 < build(config, out).made < 1212


@pytest.mark.parametrize("backend", ["threads", "processes"])
def test_ctrl_c_in_an_interactive_session_ends_the_build_and_not_the_session(
    large_config: Path, tmp_path: Path, backend: str
) -> None:
    program = f"""
from pathlib import Path
import cv2
before = cv2.getNumThreads(), cv2.utils.logging.getLogLevel()
from pipelines.build.run import BuildConfig, build
from pipelines.config import load_config
config = load_config({str(large_config)!r}, BuildConfig, defaults={{"name": "large"}})
def begun(stage, done, total):
    if 0 < done < total:
        print("begun", flush=True)
try:
    build(config, Path({str(tmp_path / "out")!r}), jobs=2, backend={backend!r}, progress=begun)
except KeyboardInterrupt:
    print("caught", before == (cv2.getNumThreads(), cv2.utils.logging.getLogLevel()), flush=True)
"""
    (tmp_path / "program.py").write_text(program)
    session = subprocess.Popen(
        [sys.executable, "-i", str(tmp_path / "program.py")],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert session.stdout is not None
    assert session.stdout.readline() == b"begun\n"
    for _ in range(2):
        os.killpg(session.pid, signal.SIGINT)
        time.sleep(0.05)
    told, errors = session.communicate(b"print('here', 6 * 7)\n", timeout=60)
    assert told.splitlines()[-2:] == [b"caught True", b"here 42"], errors
    assert session.returncode == 0


@slow
def test_a_background_build_is_not_interrupted(large_config: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as `nohup ... &` hands it down
    try:
        process = run_build(large_config, out, "--jobs", "2", errors=subprocess.DEVNULL)
    finally:
        signal.signal(signal.SIGINT, before)
    wait_for_outputs(process, out)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == 0


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_workers_end_with_a_build_that_is_killed(large_config: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = run_build(
        large_config, out, "--jobs", "2", "--backend", "processes", errors=subprocess.DEVNULL
    )
    wait_for_outputs(process, out)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while _group_lives(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _group_lives(process.pid)


def test_a_second_build_while_one_runs_is_told(large_config: Path, tmp_path: Path) -> None:
    out, partial = tmp_path / "out", tmp_path / ".out.partial" / "manifest.jsonl"
    first = run_build(large_config, out, "--jobs", "1")
    try:
        while not partial.exists() and first.poll() is None:
            time.sleep(0.002)
        os.killpg(first.pid, signal.SIGSTOP)
        second = run_build(large_config, out, "--jobs", "1")
        _, errors = second.communicate(timeout=60)
        assert second.returncode == 1
        assert errors.decode().count("\n") == 1
        assert "out: is being built by another process" in errors.decode()
    finally:
        os.killpg(first.pid, signal.SIGCONT)
        _, errors = first.communicate(timeout=60)
    assert first.returncode == 0, errors
    assert [problem for _, _, problem in verify(out, 2) if problem] == []


def test_a_part_of_the_published_set_is_made_as_published(tmp_path: Path) -> None:
    data, noise = real_data("NUDT-SIRST"), real_data("IR-backgrounds")
    source = open_dataset(data)
    part = tmp_path / "part"
    for folder in ("images", "masks", "50_50"):
        (part / folder).mkdir(parents=True)
    lists = {"train": source.ids("train")[:20], "test": source.ids("test")[:10]}
    for split, ids in lists.items():
        (part / "50_50" / f"{split}.txt").write_text("\n".join(ids))
        for id_ in ids:
            shutil.copy(source.image_path(id_), part / "images")
            shutil.copy(source.mask_path(id_), part / "masks")
    wanted = load_config(
        ROOT / "configs" / "build" / "sirst5k.yaml",
        BuildConfig,
        ["negatives.count=null", f"noise.frames=['{noise / 'S2'}']"],
        data=part,
    )
    build(wanted, tmp_path / "out", jobs=2)
    records = negatives_of(tmp_path / "out")
    targets = sum(len(find_targets(source.read_mask(id_))) for id_ in lists["train"])
    assert len(records) == 4 * targets
    assert {steps(r)["mixup"]["ratio"] for r in records} == {0.1}
    assert {(turn["side"], turn["mirror"]) for r in records for turn in [steps(r)["turn"]]} == {
        (32, True)
    }
    assert_recomputed(tmp_path / "out", source, records)
    for id_ in lists["test"]:
        for folder, path in (("images", source.image_path(id_)), ("masks", source.mask_path(id_))):
            assert (tmp_path / "out" / folder / path.name).read_bytes() == path.read_bytes()
