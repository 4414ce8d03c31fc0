"""Teachers: whose answers become a part of the labels, and of which pixels."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from detect.errors import TrainingError, WeightsError
from detect.models import build_model
from detect.normalise import Normalisation, fit_normalisation
from detect.predict import load_detector
from detect.recipe import Compute, Recipe
from detect.teachers import Teachers, Teaching, mix
from detect.tensors import read_tensors
from detect.train import train
from detect.weightsfile import Weights, read_weights, write_weights
from synth.dataset import Dataset, open_dataset
from synth.frames import Frame

MakeRecipe = Callable[..., Recipe]

CPU = Compute("cpu", 1, "auto", "32-true", True)


def write_teacher(
    path: Path, normalisation: Normalisation, network: str = "small", seed: int = 0
) -> Path:
    torch.manual_seed(seed)
    model = build_model(network, normalisation.channels)
    write_weights(path, Weights(network, normalisation, model.state_dict(), {}))
    return path


def make_teachers(paths: list[Path], ours: Normalisation, *frames: Frame) -> Teachers:
    return Teachers(Teaching(tuple(paths)), ours, frames, 32, CPU)


maps = arrays.array_shapes(min_dims=2, max_dims=2, max_side=12).flatmap(
    lambda shape: st.tuples(
        arrays.arrays(np.bool_, shape),
        arrays.arrays(np.float32, shape, elements=st.floats(0, 1, width=16)),
        st.floats(0, 1, width=16),
    )
)


@given(maps)
def test_labels_are_mixed_but_where_a_target_is_not_found(
    given: tuple[np.ndarray, np.ndarray, float],
) -> None:
    truth, answer, share = given
    expected = (1 - share) * truth + share * answer
    near = ndimage.binary_dilation(answer > 0.5, np.ones((7, 7)))
    expected[truth & ~near] = 1
    tensors = (torch.from_numpy(a.astype(np.float32))[None, None] for a in (truth, answer))
    np.testing.assert_allclose(mix(*tensors, share)[0, 0], expected, atol=1e-6)


def test_the_answer_of_several_teachers_is_their_mean(tmp_path: Path) -> None:
    ours = fit_normalisation("frame", (), 1)
    paths = [write_teacher(tmp_path / f"{seed}.safetensors", ours, seed=seed) for seed in (0, 1)]
    frame = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
    values = torch.from_numpy(ours.apply(frame))[None].repeat(3, 1, 1, 1)
    answer = make_teachers(paths, ours, frame).answer(values, [0, 0, 0])
    expected = np.mean([load_detector(path, "cpu")(frame) for path in paths], 0)
    assert answer.shape == (3, 1, 32, 32)
    for window in answer:
        np.testing.assert_allclose(window[0], expected, atol=1e-6)


@pytest.mark.parametrize("own", ["frame", "dataset", "imagenet"])
@pytest.mark.parametrize(
    ("kind", "channels", "network"),
    [("imagenet", 3, "small"), ("dataset", 1, "small"), ("frame", 1, "small"), ("frame", 3, "acm")],
)
def test_a_teacher_sees_windows_as_it_normalises_them(
    tmp_path: Path, own: Any, kind: Any, channels: int, network: str
) -> None:
    rng = np.random.default_rng(1)
    frames = [
        rng.integers(0, 256, (32, 32), dtype=np.uint8),
        rng.integers(900, 5000, (32, 32), dtype=np.uint16),
    ]
    ours = fit_normalisation(own, frames[:1], 1)
    theirs = fit_normalisation(kind, frames, channels)
    path = write_teacher(tmp_path / "teacher.safetensors", theirs, network)
    values = torch.from_numpy(np.stack([ours.apply(frames[image]) for image in (1, 0, 1)]))
    answer = make_teachers([path], ours, *frames).answer(values, [1, 0, 1])
    detector = load_detector(path, "cpu")
    for window, image in zip(answer, (1, 0, 1), strict=True):
        np.testing.assert_allclose(window[0], detector(frames[image]), atol=2e-4)


def test_windows_that_a_network_cannot_take(tmp_path: Path) -> None:
    ours = fit_normalisation("frame", (), 1)
    path = write_teacher(tmp_path / "teacher.safetensors", ours, "acm")
    with pytest.raises(TrainingError, match=r"multiples of 16, and augment\.crop is 24"):
        Teachers(Teaching((path,)), ours, [], 24, CPU)


# What a training makes of them.


@pytest.fixture
def dataset(tiny_set: Path) -> Dataset:
    return open_dataset(tiny_set)


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    return write_teacher(tmp_path / "teacher.safetensors", fit_normalisation("frame", (), 1))


def run(
    recipe: Recipe, dataset: Dataset, out: Path, teaching: Teaching | None, **keywords: Any
) -> dict[str, torch.Tensor]:
    train(recipe, dataset, out, teaching=teaching, **keywords)
    return read_tensors(out / "last.safetensors")[0]


def equal(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_teachers_change_what_is_learned_and_their_share_how_much(
    dataset: Dataset, teacher: Path, tmp_path: Path, make_recipe: MakeRecipe
) -> None:
    recipe = make_recipe(steps=2)
    alone = run(recipe, dataset, tmp_path / "alone", None)
    taught = run(recipe, dataset, tmp_path / "taught", Teaching((teacher,)))
    more = run(recipe, dataset, tmp_path / "more", Teaching((teacher,), 0.9))
    assert not equal(alone, taught)
    assert not equal(taught, more)
    said = json.loads((tmp_path / "taught" / "run.json").read_text())
    assert said["teaching"]["share"] == 0.5
    card = read_weights(tmp_path / "taught" / "last.safetensors").card
    assert card["teaching"] == said["teaching"]
    assert "teaching" not in json.loads((tmp_path / "alone" / "run.json").read_text())


def test_a_pupil_comes_to_answer_as_its_teacher_does(
    write_set: Callable[..., Path], tmp_path: Path, make_recipe: MakeRecipe
) -> None:
    # The teacher has learned to see twice as much of a target as its label says.
    dataset = open_dataset(write_set(tmp_path / "set", train=16, test=6))
    wide = open_dataset(write_set(tmp_path / "wide", train=16, test=6))
    for id_ in wide.ids("train"):
        mask = wide.read_mask(id_).astype(np.uint8) * 255
        cv2.imwrite(str(wide.mask_path(id_)), cv2.dilate(mask, np.ones((3, 3))))
    recipe = make_recipe(steps=80, epoch_steps=80, batch=8)
    recipe = replace(recipe, optimiser=replace(recipe.optimiser, lr=3e-3))
    run(recipe, wide, tmp_path / "teacher", None)
    teaching = Teaching((tmp_path / "teacher" / "last.safetensors",), 1.0)
    run(recipe, dataset, tmp_path / "pupil", teaching)
    run(recipe, dataset, tmp_path / "alone", None)
    areas = {}
    for name in ("teacher", "pupil", "alone"):
        detector = load_detector(tmp_path / name / "last.safetensors", "cpu")
        answers = [detector(dataset.read_image(id_)) > 0.5 for id_ in dataset.ids("test")]
        areas[name] = np.mean([answer.sum() for answer in answers])
    assert areas["pupil"] > 1.5 * areas["alone"]
    assert areas["pupil"] == pytest.approx(areas["teacher"], rel=0.25)


def test_a_taught_run_that_was_stopped_ends_as_one_that_was_not(
    dataset: Dataset, teacher: Path, tmp_path: Path, make_recipe: MakeRecipe
) -> None:
    teaching = Teaching((teacher,))
    whole = run(make_recipe(), dataset, tmp_path / "whole", teaching)

    def stop(steps: range) -> Any:
        for step in steps:
            if step == 4:
                raise KeyboardInterrupt
            yield step

    with pytest.raises(KeyboardInterrupt):
        train(make_recipe(), dataset, tmp_path / "cut", watch=stop, teaching=teaching)
    assert equal(run(make_recipe(), dataset, tmp_path / "cut", teaching), whole)


def test_a_run_with_other_teachers_is_another_run(
    dataset: Dataset, teacher: Path, tmp_path: Path, make_recipe: MakeRecipe
) -> None:
    recipe = make_recipe(steps=2)
    run(recipe, dataset, tmp_path / "run", Teaching((teacher,)))
    for other in (None, Teaching((teacher,), 0.7), Teaching((teacher, teacher))):
        with pytest.raises(TrainingError, match="teaching"):
            train(recipe, dataset, tmp_path / "run", teaching=other)


def test_teachers_in_low_precision(
    dataset: Dataset, teacher: Path, tmp_path: Path, make_recipe: MakeRecipe
) -> None:
    recipe = make_recipe(steps=1, compute=replace(CPU, precision="bf16-mixed"))
    tensors = run(recipe, dataset, tmp_path / "run", Teaching((teacher,)))
    assert all(value.isfinite().all() for value in tensors.values() if value.is_floating_point())


@pytest.mark.parametrize("content", [b"no weights", None])
def test_a_teacher_that_is_none_starts_no_run(
    dataset: Dataset, tmp_path: Path, make_recipe: MakeRecipe, content: bytes | None
) -> None:
    path = tmp_path / "none.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"none\.safetensors"):
        train(make_recipe(), dataset, tmp_path / "run", teaching=Teaching((path,)))
    assert not (tmp_path / "run").exists()
