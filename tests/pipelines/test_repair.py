"""The doctor: each fault of a set is found, none is seen in a sound one, a copy is repaired."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from real_data import real_data
from small_sets import Outcome

from synth.dataset import Dataset, open_dataset
from synth.disk.looseset import open_loosely
from synth.frames import read_frame
from synth.inspect.check import FAULTS, check_dataset

Synth = Callable[..., Outcome]
Tree = Callable[[Path], dict[str, bytes]]
Plant = Callable[[Path], None]


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of simulated frames, without negatives, which would be like their sources."""
    from click.testing import CliRunner

    from pipelines.cli.synth import main

    place = tmp_path_factory.mktemp("simulated")
    (place / "c.yaml").write_text(
        "simulate: {train: 8, test: 4, shape: [96, 96]}\nnegatives: {count: 0}\n"
    )
    arguments = ["build", str(place / "c.yaml"), "--out", str(place / "set"), "--jobs", "1"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    return place / "set"


@pytest.fixture
def sick(simulated: Path, tmp_path: Path) -> Path:
    """A copy to plant faults in."""
    shutil.copytree(simulated, tmp_path / "sick")
    return tmp_path / "sick"


def image(root: Path, number: int) -> Path:
    return root / "images" / f"{number:06d}.png"


def mask(root: Path, number: int) -> Path:
    return root / "masks" / f"{number:06d}.png"


def put(path: Path, values: np.ndarray) -> None:
    assert cv2.imwrite(str(path), values)


def relist(root: Path, split: str, change: Callable[[list[str]], list[str]]) -> None:
    file = root / "50_50" / f"{split}.txt"
    file.write_text("".join(f"{id_}\n" for id_ in change(file.read_text().split())))


def torn_image(root: Path) -> None:
    image(root, 1).write_bytes(image(root, 1).read_bytes()[:-30])


def torn_mask(root: Path) -> None:
    mask(root, 1).write_bytes(b"\x89PNG")


def mismatched(root: Path) -> None:
    put(mask(root, 1), cv2.imread(str(mask(root, 1)), -1)[1:])


def empty_mask(root: Path) -> None:
    put(mask(root, 1), np.zeros((96, 96), np.uint8))


def full_mask(root: Path) -> None:
    put(mask(root, 1), np.full((96, 96), 255, np.uint8))


def inverted_mask(root: Path) -> None:
    put(mask(root, 1), 255 - cv2.imread(str(mask(root, 1)), -1))


def soft_mask(root: Path) -> None:
    values = cv2.imread(str(mask(root, 1)), -1)
    soft = cv2.GaussianBlur(values, (3, 3), 0.5)
    put(mask(root, 1), np.maximum(soft, values // 2 + values // 4))


def jpeg_mask(root: Path) -> None:
    values = cv2.imread(str(mask(root, 1)), -1)
    mask(root, 1).unlink()
    put(mask(root, 1).with_suffix(".jpg"), values)


def jpeg_mask_as_png(root: Path) -> None:
    _, data = cv2.imencode(".jpg", cv2.imread(str(mask(root, 1)), -1))
    put(mask(root, 1), cv2.imdecode(data, -1))


def mask_as_image(root: Path) -> None:
    shutil.copy(mask(root, 1), image(root, 1))


def unlisted_mask_as_image(root: Path) -> None:
    shutil.copy(mask(root, 1), root / "images" / "stray.png")


def unequal_channels(root: Path) -> None:
    frame = cv2.imread(str(image(root, 1)), 1)
    frame[:, :, 0] //= 2
    put(image(root, 1), frame)


def rgba(root: Path) -> None:
    put(image(root, 1), cv2.cvtColor(cv2.imread(str(image(root, 1)), -1), cv2.COLOR_GRAY2BGRA))


def constant(root: Path) -> None:
    put(image(root, 1), np.full((96, 96), 90, np.uint8))


def saturated(root: Path) -> None:
    frame = cv2.imread(str(image(root, 1)), -1).astype(int)
    put(image(root, 1), (frame + 255 - np.percentile(frame, 80)).clip(0, 255).astype(np.uint8))


def same_in_test(root: Path) -> None:
    shutil.copy(image(root, 9), image(root, 1))


def same_in_training(root: Path) -> None:
    shutil.copy(image(root, 2), image(root, 1))


def alike(root: Path, first: int, second: int) -> None:
    """The same scene with other noise, another gain, and a target elsewhere."""
    frame = cv2.imread(str(image(root, first)), -1).astype(float)
    frame = frame * 0.9 + 4 + np.random.default_rng(0).normal(0, 1, frame.shape)
    frame[60:63, 12:15] = 250
    put(image(root, second), np.rint(frame).clip(0, 255).astype(np.uint8))


def alike_in_test(root: Path) -> None:
    alike(root, 9, 1)


def alike_in_training(root: Path) -> None:
    alike(root, 2, 1)


def large_target(root: Path) -> None:
    values = np.zeros((96, 96), np.uint8)
    values[40:50, 40:50] = 255
    put(mask(root, 1), values)


def unlisted(root: Path) -> None:
    relist(root, "train", lambda ids: ids[1:])


def listed_twice(root: Path) -> None:
    relist(root, "train", lambda ids: [*ids, ids[0]])


def in_two_splits(root: Path) -> None:
    relist(root, "test", lambda ids: [*ids, "000001"])


def ghost(root: Path) -> None:
    relist(root, "train", lambda ids: [*ids, "000001x"])


def maskless(root: Path) -> None:
    mask(root, 1).unlink()


def imageless(root: Path) -> None:
    shutil.copy(mask(root, 1), root / "masks" / "000001x.png")


def twins(root: Path) -> None:
    put(image(root, 1).with_suffix(".bmp"), cv2.imread(str(image(root, 1)), -1))


def dark_borders(root: Path) -> None:
    for number in range(1, 9):
        frame = cv2.imread(str(image(root, number)), -1)
        frame[0] //= 2
        frame[:, 0] //= 2
        put(image(root, number), frame)


PLANTED: list[tuple[Plant, str]] = [
    (torn_image, "unreadable file"),
    (torn_mask, "unreadable file"),
    (mismatched, "mask of another size"),
    (empty_mask, "mask without target"),
    (full_mask, "full mask"),
    (inverted_mask, "full mask"),
    (soft_mask, "grey mask"),
    (jpeg_mask, "lossy mask"),
    (jpeg_mask_as_png, "lossy mask"),
    (mask_as_image, "mask among the images"),
    (unlisted_mask_as_image, "mask among the images"),
    (unequal_channels, "colour image"),
    (rgba, "image with alpha"),
    (constant, "constant image"),
    (saturated, "clipped image"),
    (same_in_test, "equal image in train and test"),
    (same_in_training, "equal images in one split"),
    (alike_in_test, "nearly equal images in two splits"),
    (alike_in_training, "nearly equal images in one split"),
    (large_target, "target larger than small"),
    (unlisted, "image in no split"),
    (listed_twice, "id listed twice"),
    (in_two_splits, "id in two splits"),
    (ghost, "listed id without image"),
    (maskless, "image without mask"),
    (imageless, "mask without image"),
    (twins, "id of two files"),
    (dark_borders, "borders darkened by a filter"),
]
every_fault = pytest.mark.parametrize(
    ("plant", "fault"), PLANTED, ids=[plant.__name__ for plant, _ in PLANTED]
)


def checked(root: Path) -> dict[str, list[str]]:
    loose = open_loosely(root)
    return check_dataset(loose.dataset, problems=loose.problems).faults


def test_nothing_is_seen_in_a_sound_set(synth: Synth, simulated: Path) -> None:
    outcome = synth("check", simulated, "--json")
    assert outcome.status == 0
    assert json.loads(outcome.out)["faults"] == []


@every_fault
def test_a_planted_fault_is_found_alone(synth: Synth, sick: Path, plant: Plant, fault: str) -> None:
    plant(sick)
    outcome = synth("check", sick, "--json")
    found = json.loads(outcome.out)["faults"]
    assert [row["fault"] for row in found] == [fault]
    assert found[0]["count"] == 1
    # Of two equal images of one split the first may stay.
    assert any("000001" in text or "stray" in text for text in found[0]["ids"] + found[0]["cases"])
    error = next(f.error for f in FAULTS if f.name == fault)
    assert outcome.status == int(error)
    assert found[0]["severity"] == ("error" if error else "warning")


@every_fault
def test_a_repaired_copy_is_sound_and_the_set_untouched(
    synth: Synth, sick: Path, tmp_path: Path, tree: Tree, plant: Plant, fault: str
) -> None:
    plant(sick)
    before = tree(sick)
    out = tmp_path / "copy"
    outcome = synth("check", sick, "--fix", "--out", out, "--json", "--jobs", 1)
    assert outcome.status == 0, outcome.err
    assert tree(sick) == before
    fixed = json.loads(outcome.out)["fixed"]
    left = checked(out)
    judged_by_eye = {
        "mask without target",
        "constant image",
        "clipped image",
        "target larger than small",
        "equal images in one split",
        "nearly equal images in one split",
        "borders darkened by a filter",
    }
    assert set(left) == {fault} & judged_by_eye
    assert synth("verify", out).status == 0
    was, now = open_loosely(sick).dataset, open_dataset(out)
    for id_ in now.ids("all"):
        # What a reader sees is the same.
        np.testing.assert_array_equal(now.read_image(id_), was.read_image(id_))
        np.testing.assert_array_equal(now.read_mask(id_), was.read_mask(id_))
        assert cv2.imread(str(now.image_path(id_)), -1).ndim == 2
        assert set(np.unique(cv2.imread(str(now.mask_path(id_)), -1))) <= {0, 255}
    assert set(now.ids("all")) | set(fixed["dropped"]) >= set(was.ids("all"))
    assert set(now.ids("test")) >= set(was.ids("test")) - set(fixed["dropped"])
    assert not set(now.ids("all")) & set(fixed["dropped"])


def test_a_set_with_every_fault_is_reported_and_repaired(
    synth: Synth, sick: Path, tmp_path: Path
) -> None:
    torn_image(sick)
    put(mask(sick, 2), np.zeros((5, 5), np.uint8))
    shutil.copy(image(sick, 9), image(sick, 3))
    alike(sick, 10, 4)
    mask(sick, 5).unlink()
    rename = sick / "masks" / "000006_mask.png"
    mask(sick, 6).rename(rename)
    (sick / "images").rename(sick / "Frames")
    (sick / "50_50" / "val.txt").write_text("000007\n000008\nnobody\n")
    outcome = synth("check", sick)
    assert outcome.status == 1
    assert outcome.err.count("\n") == 1
    assert "Traceback" not in outcome.out + outcome.err
    rows = [line for line in outcome.out.splitlines() if line.startswith(("error", "warning"))]
    assert len(rows) >= 8
    out = tmp_path / "copy"
    assert synth("check", sick, "--fix", "--out", out).status == 0
    dataset = open_dataset(out)
    assert dataset.splits == {
        "train": ("000006",),
        "val": ("000007", "000008"),
        "test": ("000009", "000010", "000011", "000012"),
    }
    assert checked(out) == {}
    # Run again, it is there already; the copy is not written over by another.
    assert synth("check", sick, "--fix", "--out", out).status == 0
    mask(sick, 7).unlink()
    again = synth("check", sick, "--fix", "--out", out)
    assert again.status == 1
    assert str(out) in again.err


@pytest.mark.parametrize("arguments", [("--fix",), ("--out", "x")])
def test_fix_needs_a_place(synth: Synth, simulated: Path, arguments: tuple[str, ...]) -> None:
    assert synth("check", simulated, *arguments).status == 2


def test_a_copy_is_not_written_into_the_set(synth: Synth, sick: Path, tree: Tree) -> None:
    before = tree(sick)
    outcome = synth("check", sick, "--fix", "--out", sick / "copy")
    assert outcome.status == 1
    assert "lies in" in outcome.err
    assert tree(sick) == before


def reported(synth: Synth, folder: Path) -> dict[str, Any]:
    outcome = synth("check", folder, "--json")
    assert outcome.status == 0, outcome.err
    return {row["fault"]: row for row in json.loads(outcome.out)["faults"]}


def seen_by_pillow(dataset: Dataset) -> dict[str, Counter[str]]:
    """Images with unequal channels, and with alpha, by split; another decoder's opinion."""
    counts: dict[str, Counter[str]] = {"colour": Counter(), "alpha": Counter()}
    for split, ids in dataset.splits.items():
        for id_ in ids:
            with Image.open(dataset.image_path(id_)) as picture:
                alpha = picture.mode in ("RGBA", "LA") or "transparency" in picture.info
                counts["alpha"][split] += alpha
                red, green, blue = np.moveaxis(np.array(picture.convert("RGB")), 2, 0)
            counts["colour"][split] += not ((red == green) & (red == blue)).all()
    return counts


@pytest.mark.parametrize("name", [pytest.param("NUDT-SIRST", marks=pytest.mark.slow), "NUAA-SIRST"])
def test_real_sets_are_reported_as_they_are(synth: Synth, name: str) -> None:
    folder = real_data(name)
    found = reported(synth, folder)
    pillow = seen_by_pillow(open_dataset(folder))
    for fault, kind in (("colour image", "colour"), ("image with alpha", "alpha")):
        counts = found.get(fault, {"splits": {}})["splits"]
        assert counts == {split: n for split, n in pillow[kind].items() if n}
    if name == "NUDT-SIRST":
        assert found["colour image"]["splits"]["train"] == 5
        assert "top 65%" in found["borders darkened by a filter"]["cases"][0]
        # It reuses backgrounds, in training and testing.
        assert found["nearly equal images in two splits"]["count"] > 20
    else:
        assert found["image with alpha"]["count"] > 0
        assert "borders darkened by a filter" not in found
        assert "nearly equal images in two splits" not in found


def test_frames_of_real_sets_stay_what_they_are_when_repaired(synth: Synth, tmp_path: Path) -> None:
    source = open_dataset(real_data("NUAA-SIRST"))
    few = tmp_path / "few"
    for kind in ("images", "masks"):
        (few / kind).mkdir(parents=True)
    for id_ in source.ids("train")[:12]:
        shutil.copy(source.image_path(id_), few / "images")
        shutil.copy(source.mask_path(id_), few / "masks")
    assert synth("check", few, "--fix", "--out", tmp_path / "out").status == 0
    fixed = open_dataset(tmp_path / "out")
    assert len(fixed.ids("train")) == 12
    for id_ in fixed.ids("train"):
        np.testing.assert_array_equal(read_frame(fixed.image_path(id_)), source.read_image(id_))
