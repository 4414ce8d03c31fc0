import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from detect.data import affine_maps, draw_batch, hold_out, read_labelled
from detect.errors import TrainingError
from detect.normalise import fit_normalisation
from detect.recipe import Recipe
from synth.dataset import open_dataset

WriteSet = Callable[..., Path]


def test_what_is_held_out_is_never_trained_on(tiny_set: Path) -> None:
    dataset = open_dataset(tiny_set)
    training, validation = hold_out(dataset, 0.3, 0)
    assert sorted(training + validation) == sorted(dataset.ids("train"))
    assert len(validation) == 2
    assert hold_out(dataset, 0.3, 0) == (training, validation)
    assert {hold_out(dataset, 0.3, seed)[1] for seed in range(9)} > {validation}


def test_a_listed_validation_split_is_taken_as_it_is(tiny_set: Path) -> None:
    lists = tiny_set / "50_50"
    ids = (lists / "train.txt").read_text().split()
    (lists / "train.txt").write_text("\n".join(ids[:4]))
    (lists / "val.txt").write_text("\n".join(ids[4:]))
    assert hold_out(open_dataset(tiny_set), 0.3, 0) == (tuple(ids[:4]), tuple(ids[4:]))


def test_everything_made_from_a_held_out_source_is_held_out(
    tmp_path: Path, write_set: WriteSet
) -> None:
    root = write_set(tmp_path / "set", train=12)
    source = {f"{i:03d}": f"{(i - 1) % 4 + 1:03d}" for i in range(1, 13)}
    lines = [{"id": id_, "split": "train", "source": of} for id_, of in source.items()]
    (root / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    training, validation = hold_out(open_dataset(root), 0.5, 1)
    assert len(validation) == 2
    assert all(source[id_] == id_ for id_ in validation)
    assert not {source[id_] for id_ in training} & set(validation)
    assert len(training) == 6


def test_a_set_of_negatives_alone_is_divided_by_source(tmp_path: Path, write_set: WriteSet) -> None:
    root = write_set(tmp_path / "set", train=12)
    source = {f"{i:03d}": f"original{i % 4}" for i in range(1, 13)}
    lines = [{"id": id_, "split": "train", "source": of} for id_, of in source.items()]
    (root / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    training, validation = hold_out(open_dataset(root), 0.5, 1)
    assert (len(training), len(validation)) == (6, 2)
    assert not {source[id_] for id_ in training} & {source[id_] for id_ in validation}


@pytest.mark.parametrize("line", ["{", "[]", "3", '{"split": "train"}'])
def test_a_broken_manifest_is_named(tiny_set: Path, line: str) -> None:
    (tiny_set / "manifest.jsonl").write_text('{"id": "001"}\n' + line + "\n")
    with pytest.raises(TrainingError, match=r"manifest\.jsonl: line 2"):
        hold_out(open_dataset(tiny_set), 0.3, 0)


def test_too_few_images_to_hold_out(tmp_path: Path, write_set: WriteSet) -> None:
    dataset = open_dataset(write_set(tmp_path / "set", train=1))
    with pytest.raises(TrainingError, match="validation=0"):
        hold_out(dataset, 0.1, 0)
    assert hold_out(dataset, 0, 0) == (("001",), ())


def test_an_empty_training_split_is_an_error(tmp_path: Path, write_set: WriteSet) -> None:
    with pytest.raises(TrainingError, match="empty"):
        hold_out(open_dataset(write_set(tmp_path / "set", train=0)), 0, 0)


def test_batches_do_not_depend_on_how_they_are_cut(
    tiny_set: Path, make_recipe: Callable[..., Recipe]
) -> None:
    dataset = open_dataset(tiny_set)
    images = read_labelled(dataset, dataset.ids("train"))
    maps = affine_maps(images, fit_normalisation("frame", [], 1))
    augment = make_recipe().augment
    whole = draw_batch(images, maps, augment, 5, range(4, 10))
    parts = [draw_batch(images, maps, augment, 5, [position]) for position in range(4, 10)]
    for index in range(2):
        joined = torch.cat([part[index] for part in parts])
        torch.testing.assert_close(whole[index], joined, rtol=0, atol=0)
    other = draw_batch(images, maps, augment, 6, range(4, 10))
    assert not torch.equal(whole[0], other[0])


def test_every_pass_holds_every_image_once(
    tmp_path: Path, write_set: WriteSet, make_recipe: Callable[..., Recipe]
) -> None:
    dataset = open_dataset(write_set(tmp_path / "set", train=5))
    images = read_labelled(dataset, dataset.ids("train"))
    # Constant frames of their own value, so that an image is known by what is drawn.
    for index, frame in enumerate(images.frames):
        frame[...] = index
    unit = [(np.zeros(1, np.float32), np.ones(1, np.float32))] * 5
    values, _ = draw_batch(images, unit, make_recipe().augment, 0, range(15))
    drawn = values[:, 0, 0, 0].int().tolist()
    assert [Counter(drawn[i : i + 5]) for i in (0, 5, 10)] == [Counter(range(5))] * 3
    assert drawn[:5] != drawn[5:10]


def test_frames_of_any_size_make_one_batch(
    tmp_path: Path, write_set: WriteSet, make_recipe: Callable[..., Recipe]
) -> None:
    small = open_dataset(write_set(tmp_path / "a", train=2, shape=(20, 90)))
    large = open_dataset(write_set(tmp_path / "b", train=2, shape=(64, 33)))
    parts = [read_labelled(d, d.ids("train")) for d in (small, large)]
    for part in parts:
        maps = affine_maps(part, fit_normalisation("imagenet", [], 3))
        values, truth = draw_batch(part, maps, make_recipe().augment, 0, range(4))
        assert values.shape == (4, 3, 32, 32)
        assert truth.shape == (4, 1, 32, 32)


def test_a_changed_pixel_changes_the_fingerprint(tiny_set: Path) -> None:
    dataset = open_dataset(tiny_set)
    before, after = (read_labelled(dataset, dataset.ids("train")) for _ in range(2))
    assert before.fingerprint() == after.fingerprint()
    after.masks[1][0, 0] ^= True
    assert before.fingerprint() != after.fingerprint()
