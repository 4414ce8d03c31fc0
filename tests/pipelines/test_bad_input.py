"""Bad input: one line that names the file, exit status 1, and nothing left behind."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from small_sets import Outcome, SmallSet

Synth = Callable[..., Outcome]
Break = Callable[[SmallSet], None]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "my.yaml"
    path.write_text("noise: {sample: {side: 8}}\nnegatives: {steps: [mixup, turn: {side: 9}]}\n")
    return path


@pytest.fixture
def bank(small_set: SmallSet, tmp_path: Path, synth: Synth) -> Path:
    path = tmp_path / "bank.npz"
    assert synth("noise-sample", small_set.image("001"), "--out", path, "--patch", 8).status == 0
    return path


def listing(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def assert_one_line(outcome: Outcome, *words: str, status: int = 1) -> None:
    assert outcome.status == status
    assert outcome.out == ""
    assert outcome.err.count("\n") == 1
    assert outcome.err.endswith("\n")
    assert "Traceback" not in outcome.err
    for word in words:
        assert word in outcome.err


def missing_mask(made: SmallSet) -> None:
    made.mask("002").unlink()


def mask_of_another_size(made: SmallSet) -> None:
    cv2.imwrite(str(made.mask("002")), np.zeros((47, 64), np.uint8))


def mask_of_another_size_in_test(made: SmallSet) -> None:
    cv2.imwrite(str(made.mask("005")), np.zeros((47, 64), np.uint8))


def truncated_image(made: SmallSet) -> None:
    data = made.image("002").read_bytes()
    made.image("002").write_bytes(data[: len(data) // 2])


def headless_image(made: SmallSet) -> None:
    data = made.image("002").read_bytes()
    made.image("002").write_bytes(data[:8] + data[-12:])


def truncated_mask(made: SmallSet) -> None:
    made.mask("002").write_bytes(made.mask("002").read_bytes()[:-5])


def truncated_test_image(made: SmallSet) -> None:
    made.image("005").write_bytes(made.image("005").read_bytes()[:-5])


def truncated_tiff(made: SmallSet) -> None:
    image = cv2.imread(str(made.image("002")), -1)
    made.image("002").unlink()
    path = made.image("002").with_suffix(".tif")
    cv2.imwrite(str(path), image, [cv2.IMWRITE_TIFF_COMPRESSION, 1])
    path.write_bytes(path.read_bytes()[:200])


def flipped_byte(made: SmallSet) -> None:
    data = bytearray(made.image("002").read_bytes())
    data[len(data) // 2] ^= 255
    made.image("002").write_bytes(data)


def empty_file(made: SmallSet) -> None:
    made.image("002").write_bytes(b"")


def empty_test_mask(made: SmallSet) -> None:
    made.mask("005").write_bytes(b"")


def text_file(made: SmallSet) -> None:
    made.image("002").write_text("this is no image")


def absent_id(made: SmallSet) -> None:
    made.write_lists([*made.train, "ghost"], made.test)


def id_twice(made: SmallSet) -> None:
    made.write_lists([*made.train, "002"], made.test)


def id_in_both(made: SmallSet) -> None:
    made.write_lists(made.train, [*made.test, "002"])


def id_with_a_path(made: SmallSet) -> None:
    made.write_lists(["../images/002", *made.train], made.test)


def test_pixels_in_training(made: SmallSet) -> None:
    shutil.copy(made.image("005"), made.image("002"))


test_pixels_in_training.__test__ = False  # type: ignore[attr-defined]

BROKEN: list[tuple[Break, str]] = [
    (missing_mask, "images/002.png: has no mask"),
    (mask_of_another_size, "masks/002.png: is 47x64 but its image is 48x64"),
    (mask_of_another_size_in_test, "masks/005.png: is 47x64 but its image is 48x64"),
    (truncated_image, "images/002.png: is truncated"),
    (headless_image, "images/002.png: is damaged: the PNG file has no header"),
    (truncated_mask, "masks/002.png: is truncated"),
    (truncated_test_image, "images/005.png: is truncated"),
    (truncated_tiff, "images/002.tif: is"),
    (flipped_byte, "images/002.png: is"),
    (empty_file, "images/002.png: is empty"),
    (empty_test_mask, "masks/005.png: is empty"),
    (text_file, "images/002.png: is not a PNG, TIFF, BMP or JPEG"),
    (absent_id, "50_50/train.txt: names id 'ghost', which has no image"),
    (id_twice, "50_50/train.txt: names id '002' twice"),
    (id_in_both, "50_50/test.txt: names id '002', which is in train too"),
    (id_with_a_path, "50_50/train.txt: names '../images/002'"),
]
named = pytest.mark.parametrize(
    ("break_it", "words"), BROKEN, ids=[break_it.__name__ for break_it, _ in BROKEN]
)


@named
def test_a_broken_set_is_not_built(
    synth: Synth, config: Path, small_set: SmallSet, tmp_path: Path, break_it: Break, words: str
) -> None:
    break_it(small_set)
    before = listing(tmp_path)
    out = tmp_path / "new" / "out"
    assert_one_line(synth("build", config, "--data", small_set.root, "--out", out), words)
    assert listing(tmp_path) == before


@named
def test_no_noise_is_put_on_a_broken_set(
    synth: Synth, bank: Path, small_set: SmallSet, tmp_path: Path, break_it: Break, words: str
) -> None:
    break_it(small_set)
    before = listing(tmp_path)
    outcome = synth("transfer", small_set.root, "--noise", bank, "--out", tmp_path / "new" / "out")
    assert_one_line(outcome, words)
    assert listing(tmp_path) == before


@named
def test_targets_of_a_broken_set_are_not_turned(
    synth: Synth, small_set: SmallSet, tmp_path: Path, break_it: Break, words: str
) -> None:
    break_it(small_set)
    before = listing(tmp_path)
    out = tmp_path / "new" / "out"
    assert_one_line(synth("rotate", small_set.root, "--out", out, "--side", 9), words)
    assert listing(tmp_path) == before


@pytest.mark.parametrize("command", ["build", "transfer"])
def test_a_test_image_in_training_is_told(
    synth: Synth, config: Path, bank: Path, small_set: SmallSet, tmp_path: Path, command: str
) -> None:
    test_pixels_in_training(small_set)
    before = listing(tmp_path)
    arguments: tuple[object, ...] = ("build", config, "--data", small_set.root)
    if command == "transfer":
        arguments = ("transfer", small_set.root, "--noise", bank)
    outcome = synth(*arguments, "--out", tmp_path / "out", "--jobs", 1)
    assert_one_line(outcome, "images/002.png: has the same pixels as a test image")
    assert listing(tmp_path) == before


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (truncated_image, "images/002.png: is truncated"),
        (empty_file, "images/002.png: is empty"),
        (text_file, "images/002.png: is not a PNG"),
        (truncated_tiff, "images/002.tif: is"),
    ],
)
def test_no_noise_is_sampled_from_broken_frames(
    synth: Synth, small_set: SmallSet, tmp_path: Path, break_it: Break, words: str
) -> None:
    break_it(small_set)
    before = listing(tmp_path)
    out = tmp_path / "new" / "bank.npz"
    outcome = synth("noise-sample", small_set.root / "images", "--out", out, "--patch", 8)
    assert_one_line(outcome, words)
    assert listing(tmp_path) == before


def test_a_noise_folder_without_a_usable_patch_is_told(
    synth: Synth, config: Path, small_set: SmallSet, tmp_path: Path
) -> None:
    (tmp_path / "rough").mkdir()
    frame = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "rough" / "frame.png"), frame)
    before = listing(tmp_path)
    noise = ("--noise", tmp_path / "rough")
    outcome = synth("build", config, "--data", small_set.root, *noise, "--out", tmp_path / "out")
    assert_one_line(outcome, f"{tmp_path / 'rough'}: ", "frame.png", "no window of side 8")
    outcome = synth("noise-sample", tmp_path / "rough", "--out", tmp_path / "bank.npz")
    assert_one_line(outcome, "rough", "frame.png", "no window of side 32")
    demanding = ("--set", "noise.sample.max_var=0")
    outcome = synth(
        "build", config, "--data", small_set.root, *demanding, "--out", tmp_path / "out"
    )
    assert_one_line(outcome, f"{small_set.root.name}: no window of side 8", "--noise")
    assert listing(tmp_path) == before


def test_an_empty_training_list_is_told(
    synth: Synth, config: Path, small_set: SmallSet, tmp_path: Path
) -> None:
    (small_set.root / "50_50" / "train.txt").write_text("")
    before = listing(tmp_path)
    for command in (("build", config, "--data", small_set.root), ("rotate", small_set.root)):
        outcome = synth(*command, "--out", tmp_path / "out")
        assert_one_line(outcome, str(small_set.root), "train", "is empty")
    assert listing(tmp_path) == before


def test_an_output_may_not_lie_where_noise_is_sampled(
    synth: Synth, config: Path, small_set: SmallSet
) -> None:
    frames = small_set.image("001").parent
    before = listing(small_set.root)
    noise = ("--noise", frames, "--out", frames / "out")
    outcome = synth("build", config, "--data", small_set.root, *noise)
    assert_one_line(outcome, f"{frames / 'out'}: lies in {frames}")
    assert listing(small_set.root) == before


@pytest.mark.parametrize("content", [None, b"", b"text", b"PK\3\4text"])
def test_a_bank_that_is_none_is_told(
    synth: Synth, config: Path, small_set: SmallSet, tmp_path: Path, content: bytes | None
) -> None:
    bank = tmp_path / "odd.npz"
    if content is not None:
        bank.write_bytes(content)
    before = listing(tmp_path)
    for command in (
        ("build", config, "--data", small_set.root, "--noise", bank),
        ("transfer", small_set.root, "--noise", bank),
    ):
        assert_one_line(synth(*command, "--out", tmp_path / "out"), f"{bank}: ")
    assert listing(tmp_path) == before


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nois: {}", "nois: unknown key; did you mean 'noise'?"),
        ("negatives: {steps: [turn: {sied: 9}]}", "turn.sied: unknown key; did you mean 'side'?"),
        ("negatives: {steps: [turn: {side: nine}]}", "turn.side: "),
        ("negatives: {steps: [mixup: {ratio: 1.5}]}", "mixup.ratio"),
        ("noise: [", "is not valid YAML"),
        ("simulate: {train: 1, test: 0, shape: [16, 16]}\ndata:", "turn: a box of 32"),
    ],
)
def test_a_wrong_configuration_is_told(
    synth: Synth, small_set: SmallSet, tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(f"data: {small_set.root}\n{text}\n" if "data:" not in text else text)
    before = listing(tmp_path)
    outcome = synth("build", path, "--out", tmp_path / "new" / "out")
    assert_one_line(outcome, f"{path}", words)
    assert listing(tmp_path) == before


@pytest.mark.parametrize("ratio", ["1.5", "-0.1", "nan", "much"])
def test_a_ratio_outside_0_to_1_is_wrong_usage(
    synth: Synth, small_set: SmallSet, bank: Path, tmp_path: Path, ratio: str
) -> None:
    before = listing(tmp_path)
    out = ("--out", tmp_path / "out", "--ratio", ratio)
    outcome = synth("transfer", small_set.root, "--noise", bank, *out)
    assert_one_line(outcome, "--ratio", status=2)
    assert listing(tmp_path) == before


def test_a_box_larger_than_an_image_is_told(
    synth: Synth, config: Path, small_set: SmallSet, tmp_path: Path
) -> None:
    before = listing(tmp_path)
    larger = ("--set", "negatives.steps.turn.side=49", "--out", tmp_path / "out")
    words = "side 49 is larger than image '001'"
    assert_one_line(synth("build", config, "--data", small_set.root, *larger), words)
    outcome = synth("rotate", small_set.root, "--side", 49, "--out", tmp_path / "out")
    assert_one_line(outcome, words)
    assert listing(tmp_path) == before


def test_a_set_of_another_configuration_is_not_changed(
    synth: Synth,
    config: Path,
    small_set: SmallSet,
    tmp_path: Path,
    tree: Callable[[Path], dict[str, bytes]],
) -> None:
    arguments = ("build", config, "--data", small_set.root, "--out", tmp_path / "out")
    assert synth(*arguments).status == 0
    before = tree(tmp_path)
    outcome = synth(*arguments, "--set", "negatives.steps.mixup.ratio=0.3")
    assert_one_line(
        outcome, f"{tmp_path / 'out'}: ", "negatives.steps.mixup.ratio is 0.1 there and 0.3 here"
    )
    assert tree(tmp_path) == before


@pytest.mark.parametrize("taken", ["file", "folder"])
def test_a_place_that_is_taken_is_left(
    synth: Synth, config: Path, small_set: SmallSet, tmp_path: Path, taken: str
) -> None:
    out = tmp_path / "out"
    (out / "notes.txt").parent.mkdir() if taken == "folder" else out.touch()
    if taken == "folder":
        (out / "notes.txt").touch()
    before = listing(tmp_path)
    assert_one_line(synth("build", config, "--data", small_set.root, "--out", out), f"{out}: is a")
    assert listing(tmp_path) == before


def test_a_folder_below_a_file_is_told(
    synth: Synth, config: Path, small_set: SmallSet, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    before = listing(tmp_path)
    out = tmp_path / "file" / "out"
    assert_one_line(synth("build", config, "--data", small_set.root, "--out", out), "file/")
    assert listing(tmp_path) == before


def test_a_read_only_place_is_told(
    synth: Synth,
    config: Path,
    small_set: SmallSet,
    bank: Path,
    mount_tmpfs: Callable[[str], Path],
) -> None:
    disk = mount_tmpfs("size=2m,ro")
    data, noise = small_set.root, ("--noise", bank)
    for command in (
        ("build", config, "--data", data, "--out", disk / "out"),
        ("build", config, "--data", data, "--out", disk / "new" / "out"),
        ("transfer", data, *noise, "--out", disk / "out"),
        ("rotate", data, "--side", 9, "--out", disk / "out"),
        ("noise-sample", data / "images", "--patch", 8, "--out", disk / "bank.npz"),
        ("preview", data, "--out", disk / "sheet.png"),
    ):
        assert_one_line(synth(*command), str(disk), "Read-only file system")
    assert listing(disk) == set()


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("free", ["64k", "400k", "1200k"])
def test_a_full_disk_is_told_and_left_empty(
    synth: Synth,
    config: Path,
    small_set: SmallSet,
    mount_tmpfs: Callable[[str], Path],
    free: str,
    jobs: int,
) -> None:
    disk = mount_tmpfs(f"size={free}")
    for out in (disk / "out", disk / "new" / "out"):
        options = ("--data", small_set.root, "--out", out, "--set", "negatives.count=400")
        outcome = synth("build", config, *options, "--jobs", jobs)
        assert_one_line(outcome, str(disk), "No space left on device")
        assert listing(disk) == set()


def test_a_disk_without_inodes_is_told_and_left_empty(
    synth: Synth, config: Path, small_set: SmallSet, mount_tmpfs: Callable[[str], Path]
) -> None:
    for inodes in (3, 6, 20, 40):
        disk = mount_tmpfs(f"size=20m,nr_inodes={inodes}")
        options = ("--data", small_set.root, "--out", disk / "out", "--jobs", 1)
        assert_one_line(synth("build", config, *options), str(disk), "No space left on device")
        assert listing(disk) == set()


def test_a_full_disk_keeps_the_bank_that_was_there(
    synth: Synth, small_set: SmallSet, mount_tmpfs: Callable[[str], Path]
) -> None:
    disk = mount_tmpfs("size=32k")
    bank = disk / "bank.npz"
    arguments = ("noise-sample", small_set.root / "images", "--out", bank, "--patch", 8)
    assert synth(*arguments, "--limit", 3).status == 0
    before = bank.read_bytes()
    assert_one_line(synth(*arguments, "--stride", 1), "bank.npz: cannot be written (No space")
    assert bank.read_bytes() == before
    assert listing(disk) == {bank}
    new = disk / "new" / "bank.npz"
    outcome = synth("noise-sample", small_set.root / "images", "--out", new, "--stride", 1)
    assert_one_line(outcome, "No space")
    assert listing(disk) == {bank}


def test_a_place_that_turns_read_only_is_told(
    synth: Synth, config: Path, small_set: SmallSet, mount_tmpfs: Callable[[str], Path]
) -> None:
    disk = mount_tmpfs("size=20m")
    arguments = ("build", config, "--data", small_set.root, "--out", disk / "out")
    assert synth(*arguments).status == 0
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    # A finished set needs no writing.
    assert synth(*arguments).status == 0
    assert synth("verify", disk / "out").status == 0
