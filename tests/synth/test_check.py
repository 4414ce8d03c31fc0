"""Soundness: each fault is found and named, and sound sets have none."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from PIL import Image
from small_sets import SmallSet

from synth.dataset import open_dataset
from synth.disk.tiff import turn
from synth.inspect.check import FAULTS, Report, check_dataset
from synth.targets import find_targets


def check(made: SmallSet) -> Report:
    return check_dataset(open_dataset(made.root))


def put(path: object, values: np.ndarray) -> None:
    assert cv2.imwrite(str(path), values)


def no_end(made: SmallSet) -> None:
    made.image("001").write_bytes(made.image("001").read_bytes()[:-20])


def other_size(made: SmallSet) -> None:
    put(made.mask("001"), np.full((5, 5), 255, np.uint8))


def test_again(made: SmallSet) -> None:
    shutil.copy(made.image(made.test[0]), made.image("001"))


test_again.__test__ = False  # type: ignore[attr-defined]


def twice(made: SmallSet) -> None:
    shutil.copy(made.image("002"), made.image("001"))


def unlisted(made: SmallSet) -> None:
    made.write_lists(made.train[1:], made.test)


def grey(made: SmallSet) -> None:
    mask = cv2.imread(str(made.mask("001")), -1)
    put(made.mask("001"), np.maximum(cv2.GaussianBlur(mask, (3, 3), 0.5), mask // 4 * 3))


def empty(made: SmallSet) -> None:
    put(made.mask("001"), np.zeros((48, 64), np.uint8))


def large(made: SmallSet) -> None:
    mask = np.zeros((48, 64), np.uint8)
    mask[:7, :7] = 255
    put(made.mask("001"), mask)


def colour(made: SmallSet) -> None:
    put(made.image("001"), np.random.default_rng(9).integers(0, 255, (48, 64, 3)).astype(np.uint8))


def alpha(made: SmallSet) -> None:
    grey_ = cv2.imread(str(made.image("001")), -1)
    put(made.image("001"), cv2.cvtColor(grey_, cv2.COLOR_GRAY2BGRA))


def constant(made: SmallSet) -> None:
    put(made.image("001"), np.full((48, 64), 77, np.uint8))


@pytest.mark.parametrize(
    ("break_it", "fault"),
    [
        (no_end, "unreadable file"),
        (other_size, "mask of another size"),
        (test_again, "equal image in train and test"),
        (twice, "equal images in one split"),
        (unlisted, "image in no split"),
        (grey, "grey mask"),
        (empty, "mask without target"),
        (large, "target larger than small"),
        (colour, "colour image"),
        (alpha, "image with alpha"),
        (constant, "constant image"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_fault_is_found_and_its_file_named(
    small_set: SmallSet, break_it: Callable[[SmallSet], None], fault: str
) -> None:
    assert fault not in check(small_set).faults
    break_it(small_set)
    report = check(small_set)
    assert len(report.faults[fault]) == 1
    assert "001" in report.faults[fault][0]
    # Only the large mask and the one of another size bring a second fault with them.
    assert report.sound == (not next(f.error for f in FAULTS if f.name == fault))


def test_a_sound_set_has_no_fault_and_right_counts(
    make_set: Callable[..., SmallSet],
) -> None:
    made = make_set(train=5, test=3, shapes=((48, 64), (60, 61)), dtype=np.uint16)
    dataset = open_dataset(made.root)
    report = check(made)
    assert report.faults == {}
    assert report.sound
    assert report.images == {"train": 5, "test": 3}
    assert report.targets == {
        split: sum(len(find_targets(dataset.read_mask(id_))) for id_ in dataset.ids(split))
        for split in ("train", "test")
    }
    assert report.shapes == {"48x64": 4, "60x61": 4}
    assert report.dtypes == {"uint16": 8}


def test_equal_pixels_are_found_whatever_the_file_type(small_set: SmallSet) -> None:
    frame = cv2.imread(str(small_set.image(small_set.test[0])), -1)
    small_set.image("001").unlink()
    put(small_set.image("001").with_suffix(".bmp"), frame)
    assert list(check(small_set).faults) == ["equal image in train and test"]


def test_masks_of_0_and_1_are_reported(small_set: SmallSet) -> None:
    # "Anything else read is binarised [...], and `synth check` reports it."
    for id_ in small_set.train:
        mask = cv2.imread(str(small_set.mask(id_)), -1)
        put(small_set.mask(id_), (mask > 0).astype(np.uint8))
    report = check(small_set)
    assert report.sound
    assert any(len(cases) == len(small_set.train) for cases in report.faults.values())


@pytest.mark.parametrize(
    ("offset", "words"),
    [
        ((0.0, 0.0), []),
        ((-0.5, 0.0), ["to the top of 100%, to the bottom of 0%"]),
        ((0.4, 0.5), ["to the bottom of 100%, to the top of 0%", "to the right of 100%"]),
    ],
)
def test_a_habit_of_the_masks_is_told(
    make_set: Callable[..., SmallSet], offset: tuple[float, float], words: list[str]
) -> None:
    made = make_set(train=32)
    rows, cols = np.mgrid[:48, :64]
    for number, id_ in enumerate(made.train):
        row, col = 15 + number % 16, 20 + number % 23
        shown = np.exp(-((rows - row + offset[0]) ** 2 + (cols - col + offset[1]) ** 2) / 4)
        put(made.image(id_), np.rint(30 + 150 * shown + number).astype(np.uint8))
        disc = np.hypot(rows - row, cols - col) < 2.5
        put(made.mask(id_), disc.astype(np.uint8) * 255)
    found = check(made).faults.get("masks beside their targets", [])
    assert len(found) == len(words)
    for line, wanted in zip(found, words, strict=True):
        assert wanted in line


def test_mixed_depths_are_one_warning_that_names_both_groups(
    make_set: Callable[..., SmallSet],
) -> None:
    made = make_set(train=5, test=3, dtype=np.uint16)
    assert "mixed depths" not in check(made).faults
    for id_ in made.test:
        frame = cv2.imread(str(made.image(id_)), -1)
        put(made.image(id_), (frame // 100).astype(np.uint16))
    report = check(made)
    assert report.sound
    (words,) = report.faults["mixed depths"]
    shallow, deep = words.split("; ")
    assert shallow.startswith("3 of 16 bits, ")
    assert shallow.endswith(": images/006.png, images/007.png, …")
    assert deep.startswith("5 of 16 bits, ")
    assert deep.endswith(": images/001.png, images/002.png, …")
    assert report.ids["mixed depths"] == made.test


@pytest.mark.parametrize("seed", range(4))
def test_mixed_types_are_counted_whatever_the_split(
    make_set: Callable[..., SmallSet], seed: int
) -> None:
    made = make_set(train=6, test=4, seed=seed)
    rng = np.random.default_rng(seed)
    wide = sorted(rng.permutation(made.train + made.test)[: int(rng.integers(1, 5))].tolist())
    for id_ in wide:
        frame = cv2.imread(str(made.image(id_)), -1)
        put(made.image(id_), frame.astype(np.uint16) * 64)
    report = check(made)
    (words,) = report.faults["mixed depths"]
    assert words.startswith(f"{len(wide)} of 16 bits, ")
    assert f"; {10 - len(wide)} of 8 bits, " in words
    assert sorted(report.ids["mixed depths"]) == wide


@pytest.mark.parametrize(
    ("palette", "words"),
    [
        (cv2.COLORMAP_JET, "jet: luma does not rise with temperature"),
        (cv2.COLORMAP_INFERNO, "inferno: luma rises with temperature"),
        (cv2.COLORMAP_COOL, "cool: luma falls as temperature rises"),
    ],
)
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_pseudocolour_is_told_in_place_of_colour(
    small_set: SmallSet, palette: int, words: str, suffix: str
) -> None:
    rows, cols = np.mgrid[:48, :64]
    frame = (3 * rows + cols + 20 * np.sin(cols / 7)).clip(0, 255).astype(np.uint8)
    small_set.image("001").unlink()
    path = small_set.image("001").with_suffix(suffix)
    put(path, cv2.applyColorMap(frame, palette))
    report = check(small_set)
    assert report.faults["pseudocolour image"] == [f"{path.name}, {words}"]
    assert "colour image" not in report.faults


@pytest.mark.parametrize("train", [4, 8])
def test_black_hot_frames_are_told_with_their_share(
    make_set: Callable[..., SmallSet], train: int
) -> None:
    made = make_set(train=train)
    assert "black-hot frames" not in check(made).faults
    for id_ in made.train:
        put(made.image(id_), 255 - cv2.imread(str(made.image(id_)), -1))
    found = check(made).faults.get("black-hot frames", [])
    # Eight targets are too few to say so, sixteen are enough.
    count = check(made).targets["train"]
    expected = [f"100% of {count} training targets are darker than their surroundings"]
    assert found == (expected if count >= 10 else [])


@pytest.mark.parametrize(("dark", "warned"), [(9, False), (10, False), (11, True)])
def test_frames_are_black_hot_where_more_than_half_of_the_targets_are_dark(
    make_set: Callable[..., SmallSet], dark: int, warned: bool
) -> None:
    made = make_set(train=20, targets=1)
    for id_ in made.train[:dark]:
        put(made.image(id_), 255 - cv2.imread(str(made.image(id_)), -1))
    words = [f"{5 * dark}% of 20 training targets are darker than their surroundings"]
    assert check(made).faults.get("black-hot frames", []) == (words if warned else [])


@pytest.mark.parametrize("tag", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_a_turned_image_is_told_with_its_tag(small_set: SmallSet, suffix: str, tag: int) -> None:
    frame = cv2.imread(str(small_set.image("001")), -1)
    stored = np.ascontiguousarray(frame.T if tag >= 5 else frame)
    exif = Image.Exif()
    exif[0x0112] = tag
    small_set.image("001").unlink()
    path = small_set.image("001").with_suffix(suffix)
    Image.fromarray(stored).save(path, exif=exif)
    cases = check(small_set).faults.get("turned by its EXIF tag", [])
    assert cases == ([f"{path.name}, orientation {tag}"] if tag != 1 else [])


@pytest.mark.parametrize("tag", range(2, 9))
@pytest.mark.parametrize("drawn_turned", [False, True])
def test_a_mask_of_the_unturned_frame_is_an_error(
    make_set: Callable[..., SmallSet], tag: int, drawn_turned: bool
) -> None:
    made = make_set(shapes=((47, 64),), seed=tag)
    stored = cv2.imread(str(made.image("001")), -1)
    exif = Image.Exif()
    exif[0x0112] = tag
    Image.fromarray(stored).save(made.image("001"), exif=exif)
    if drawn_turned:
        mask = cv2.imread(str(made.mask("001")), -1)
        put(made.mask("001"), np.ascontiguousarray(turn(mask, tag)))
    report = check(made)
    named = report.ids.get("mask of the unturned frame", [])
    assert named == ([] if drawn_turned else ["001"])
    assert "mask of another size" not in report.faults
    assert "black-hot frames" not in report.faults


@pytest.mark.slow
def test_faults_of_look_in_a_set_of_300_files(make_set: Callable[..., SmallSet]) -> None:
    made = make_set(train=200, test=100, dtype=np.uint16)
    assert check(made).faults == {}
    rng = np.random.default_rng(1)
    ids = rng.permutation(made.train + made.test).tolist()
    wide, shown, turned = ids[:40], ids[40:80], ids[80:120]
    for id_ in wide:
        frame = cv2.imread(str(made.image(id_)), -1)
        put(made.image(id_), (frame // 100).astype(np.uint16))
    rows, cols = np.mgrid[:48, :64]
    for number, id_ in enumerate(shown):
        frame = (2 * rows + cols * (1 + number / 20) + rng.normal(0, 2, rows.shape)).clip(0, 255)
        put(made.image(id_), cv2.applyColorMap(frame.astype(np.uint8), cv2.COLORMAP_TURBO))
    for number, id_ in enumerate(turned):
        exif = Image.Exif()
        exif[0x0112] = 2 + number % 3
        frame = Image.open(made.image(id_))
        frame.load()
        frame.save(made.image(id_), exif=exif)
    report = check(made)
    assert set(report.ids["pseudocolour image"]) == set(shown)
    assert set(report.ids["turned by its EXIF tag"]) == set(turned)
    assert set(report.ids["mixed depths"]) == {*wide, *shown}
    (words,) = report.faults["mixed depths"]
    assert [part.split(",")[0] for part in words.split("; ")] == [
        *("40 of 8 bits", "40 of 16 bits", "220 of 16 bits"),
    ]


@pytest.mark.parametrize("tag", [2, 3, 4])
def test_a_turned_mask_is_told_with_its_tag(small_set: SmallSet, tag: int) -> None:
    path = small_set.mask("001")
    mask = Image.open(path)
    mask.load()
    exif = Image.Exif()
    exif[0x0112] = tag
    mask.save(path, exif=exif)
    cases = check(small_set).faults["turned by its EXIF tag"]
    assert cases == [f"{path.name}, orientation {tag}"]
