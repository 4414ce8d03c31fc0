"""What runs start from: paired over arms, nested over fractions, and apart from what judges."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_sets import Outcome, SmallSet

from pipelines.build.parallel import Pool
from pipelines.build.sources import pixel_digest
from pipelines.errors import ConfigError
from pipelines.study_sets import (
    Labelled,
    choose_parts,
    link_noise,
    link_set,
    open_labelled,
    open_noise,
)
from synth.dataset import Dataset, open_dataset
from synth.errors import DatasetError
from synth.frames import read_frame

POOL = Pool(1)


@st.composite
def labelled_sets(draw: st.DrawFn) -> Labelled:
    """Sets of ids alone, some of whose images are equal."""
    count = draw(st.integers(4, 40))
    ids = tuple(f"{number:03d}" for number in range(count))
    pixels = {id_: bytes([draw(st.integers(0, 2 * count))]) for id_ in ids}
    held = draw(st.sampled_from([0, 0, 2]))
    splits = {"train": ids[held:], "test": ()} | ({"val": ids[:held]} if held else {})
    dataset = Dataset(Path("set"), "set", splits, True, {}, {})
    return Labelled(dataset, ids[held:], pixels, dict.fromkeys(ids, ""))


@given(labelled_sets(), st.integers(0, 99), st.floats(0.05, 0.5), st.floats(0.01, 1))
def test_parts_are_disjoint_in_pixels_and_nested(
    labelled: Labelled, seed: int, validation: float, fraction: float
) -> None:
    try:
        part = choose_parts(labelled, validation, fraction, seed)
    except DatasetError:
        return
    whole = choose_parts(labelled, validation, 1.0, seed)
    assert part == choose_parts(labelled, validation, fraction, seed)
    assert part.validation == whole.validation
    assert set(part.train) <= set(whole.train) <= set(labelled.originals)
    assert not labelled.pixels_of(whole.train) & labelled.pixels_of(whole.validation)
    assert len(part.train) == max(1, round(fraction * part.whole))
    assert len(whole.train) == whole.whole
    if "val" in labelled.dataset.splits:
        assert part.validation == labelled.dataset.ids("val")
    else:
        assert len(part.validation) == max(1, round(validation * len(labelled.originals)))


def test_seeds_choose_other_images(make_set: Callable[..., SmallSet]) -> None:
    labelled = open_labelled(make_set(train=20).root, POOL)
    parts = [choose_parts(labelled, 0.2, 0.5, seed) for seed in range(5)]
    assert len({part.validation for part in parts}) > 1
    assert len({part.train for part in parts}) > 1


def test_the_run_s_folder_holds_its_images_and_no_others(
    make_set: Callable[..., SmallSet], tmp_path: Path
) -> None:
    source = make_set(train=10, test=3)
    labelled = open_labelled(source.root, POOL)
    parts = choose_parts(labelled, 0.2, 0.5, 0)
    place = tmp_path / "run"
    link_set(place, labelled.dataset, parts)
    made = open_dataset(place)
    assert made.ids("train") == parts.train
    assert made.ids("val") == parts.validation
    assert made.ids("test") == tuple(source.test)
    assert set(made.images) == {*parts.train, *parts.validation, *source.test} == set(made.masks)
    for id_ in made.images:
        np.testing.assert_array_equal(made.read_pair(id_)[0], read_frame(source.image(id_)))
    before = (place / "images").stat().st_mtime_ns
    link_set(place, labelled.dataset, parts)
    assert (place / "images").stat().st_mtime_ns == before
    # Other images take the place of the old ones.
    other = choose_parts(labelled, 0.2, 0.25, 0)
    link_set(place, labelled.dataset, other)
    assert open_dataset(place).ids("train") == other.train


def test_processes_that_begin_together_read_what_one_of_them_made(
    make_set: Callable[..., SmallSet], tmp_path: Path
) -> None:
    labelled = open_labelled(make_set(train=40, test=10).root, POOL)
    parts = choose_parts(labelled, 0.25, 1.0, 0)

    def begin(place: Path) -> int:
        link_set(place, labelled.dataset, parts)
        return (place / "50_50").stat().st_ino

    with ThreadPoolExecutor(8) as pool:
        for round_ in range(5):
            places = list(pool.map(begin, [tmp_path / str(round_) / "run"] * 8))
            # A folder that was made once more is another one, and was away in between.
            assert len(set(places)) == 1


def test_what_a_build_made_is_no_labelled_image(
    make_set: Callable[..., SmallSet], tmp_path: Path, synth: Callable[..., Outcome]
) -> None:
    source = make_set(train=4)
    config = tmp_path / "c.yaml"
    config.write_text("name: c\nnegatives: {steps: [turn: {side: 8}]}\n")
    built = tmp_path / "built"
    assert synth("build", config, "--data", source.root, "--out", built).status == 0
    assert len(open_dataset(built).ids("train")) > 4
    assert open_labelled(built, POOL).originals == tuple(source.train)


def test_a_training_image_that_is_a_test_image_is_refused(
    make_set: Callable[..., SmallSet],
) -> None:
    source = make_set()
    shutil.copy(source.image("006"), source.image("002"))
    with pytest.raises(
        DatasetError, match=r"002\.png: has the same pixels as the test image '006'"
    ):
        open_labelled(source.root, POOL)


def test_noise_frames_that_judge_are_refused_or_left_out(
    make_set: Callable[..., SmallSet], tmp_path: Path
) -> None:
    source = make_set(train=6)
    folder = tmp_path / "frames" / "camera"
    folder.mkdir(parents=True)
    for id_ in ("001", "002", "003"):
        shutil.copy(source.image(id_), folder / f"copy of {id_}.png")
    judging = {pixel_digest(read_frame(source.image("002")))}
    noise = open_noise(tmp_path / "frames", {}, POOL)
    place = link_noise(tmp_path / "links", noise, judging)
    found = sorted(path.relative_to(place).as_posix() for path in place.rglob("*.png"))
    assert found == ["camera/copy of 001.png", "camera/copy of 003.png"]
    assert noise.fingerprint() != noise.fingerprint(judging)
    with pytest.raises(DatasetError, match=r"copy of 002\.png: is a test image \(x\)"):
        open_noise(tmp_path / "frames", dict.fromkeys(judging, "x"), POOL)
    with pytest.raises(ConfigError, match="all of its frames judge"):
        link_noise(tmp_path / "none", noise, set(noise.frames.values()))


def test_of_a_labelled_set_the_training_frames_are_the_noise(
    make_set: Callable[..., SmallSet],
) -> None:
    source = make_set()
    noise = open_noise(source.root, {}, POOL)
    assert [path.stem for path in noise.frames] == source.train


def test_what_a_killed_process_left_is_removed_and_what_others_make_is_not(
    make_set: Callable[..., SmallSet], tmp_path: Path
) -> None:
    labelled = open_labelled(make_set(train=4, test=1).root, POOL)
    place = tmp_path / "runs" / "f1-s0"
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left, alive, elsewhere = (
        place.with_name(f".f1-s0.{host}.{pid}.partial")
        for host, pid in (
            (platform.node(), ended.pid),
            (platform.node(), os.getppid()),
            ("elsewhere", ended.pid),
        )
    )
    for folder in (left, alive, elsewhere):
        (folder / "images").mkdir(parents=True)
    link_set(place, labelled.dataset, choose_parts(labelled, 0.25, 1.0, 0))
    assert set(place.parent.iterdir()) == {place, alive, elsewhere}
