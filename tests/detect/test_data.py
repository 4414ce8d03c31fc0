import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_sets import SmallSet

from detect import data
from detect.data import LabelledFrames, TrainingImages, mirror_masks, read_labelled
from detect.errors import TrainingError
from detect.lineage import read_origins
from detect.normalise import Kind, fit_normalisation
from detect.recipe import Augment, Recipe
from detect.sampler import Entry
from synth.dataset import Dataset, open_dataset
from synth.targets import measure_offsets

WriteSet = Callable[..., Path]


def hold_out(dataset: Dataset, share: float, seed: int) -> tuple[tuple[str, ...], ...]:
    return data.hold_out(dataset, read_origins(dataset), share, seed)


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


def test_what_was_made_of_two_images_is_on_no_side_that_holds_one_of_them_out(
    tmp_path: Path, write_set: WriteSet
) -> None:
    root = write_set(tmp_path / "set", train=12)
    ids = [f"{i:03d}" for i in range(1, 5)]
    lines: list[dict[str, Any]] = [{"id": i, "split": "train", "source": i} for i in ids]
    made_of = {}
    for i in range(5, 13):
        source, host = f"{(i - 1) % 4 + 1:03d}", f"{(i + (i > 8)) % 4 + 1:03d}"
        put = [{"transplant": {"host": host}}]
        lines.append({"id": f"{i:03d}", "split": "train", "source": source, "steps": put})
        made_of[f"{i:03d}"] = {source, host}
    put[0]["transplant"]["host"] = "S2/frame.png"
    made_of["012"] = {lines[-1]["source"]}
    (root / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    training, validation = hold_out(open_dataset(root), 0.25, 1)
    assert len(validation) == 1
    made = {id_ for id_, both in made_of.items() if not both & set(validation)}
    assert set(training) == {"001", "002", "003", "004"} - set(validation) | made
    assert made


def test_a_set_of_negatives_alone_is_divided_by_source(tmp_path: Path, write_set: WriteSet) -> None:
    root = write_set(tmp_path / "set", train=12)
    source = {f"{i:03d}": f"original{i % 4}" for i in range(1, 13)}
    lines = [{"id": id_, "split": "train", "source": of} for id_, of in source.items()]
    (root / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    training, validation = hold_out(open_dataset(root), 0.5, 1)
    assert (len(training), len(validation)) == (6, 2)
    assert not {source[id_] for id_ in training} & {source[id_] for id_ in validation}


def test_too_few_images_to_hold_out(tmp_path: Path, write_set: WriteSet) -> None:
    dataset = open_dataset(write_set(tmp_path / "set", train=1))
    with pytest.raises(TrainingError, match="validation=0"):
        hold_out(dataset, 0.1, 0)
    assert hold_out(dataset, 0, 0) == (("001",), ())


def test_an_empty_training_split_is_an_error(tmp_path: Path, write_set: WriteSet) -> None:
    with pytest.raises(TrainingError, match="empty"):
        hold_out(open_dataset(write_set(tmp_path / "set", train=0)), 0, 0)


def everything(recipe: Recipe) -> Augment:
    """Every kind of change at once."""
    return replace(
        recipe.augment,
        scale=(0.4, 1.5),
        shift=0.2,
        rotation=30.0,
        blur=1.0,
        gain=0.3,
        offset=0.3,
        noise=0.2,
    )


def load(root: Path, augment: Augment, seed: int = 5, kind: Kind = "frame") -> TrainingImages:
    dataset = open_dataset(root)
    frames = read_labelled(dataset, dataset.ids("train"))
    rule = fit_normalisation(kind, frames.frames, 3 if kind == "imagenet" else 1)
    return TrainingImages(frames, rule, augment, seed, torch.device("cpu"))


def entries(count: int, images: int) -> list[Entry]:
    return [Entry(place % images, place, (0, place, 0)) for place in range(count)]


def test_windows_do_not_depend_on_how_batches_are_cut(
    tiny_set: Path, make_recipe: Callable[..., Recipe]
) -> None:
    images = load(tiny_set, everything(make_recipe()))
    batch = entries(12, 6)
    views = images.choose_views(batch)
    whole = images.take(batch, views)
    rows = [3, 11, 0]
    part = images.take([batch[row] for row in rows], views[rows])
    torch.testing.assert_close(part[0], whole[0][rows], rtol=1e-5, atol=1e-5)
    assert torch.equal(part[1], whole[1][rows])
    again = load(tiny_set, everything(make_recipe())).take(batch, views)
    assert torch.equal(again[0], whole[0])
    other = load(tiny_set, everything(make_recipe()), seed=6)
    assert not torch.equal(other.take(batch, other.choose_views(batch))[0], whole[0])


def test_an_image_is_seen_anew_every_time(
    tiny_set: Path, make_recipe: Callable[..., Recipe]
) -> None:
    images = load(tiny_set, everything(make_recipe()))
    batch = [Entry(2, 0, (0, place, 0)) for place in range(8)]
    values, _ = images.take(batch, images.choose_views(batch))
    assert len({window.numpy().tobytes() for window in values}) == 8


def test_a_group_can_be_seen_through_one_window(
    tiny_set: Path, make_recipe: Callable[..., Recipe]
) -> None:
    images = load(tiny_set, everything(make_recipe()))
    batch = [Entry(image, group, (0, group, image)) for image, group in ((0, 0), (1, 0), (2, 1))]
    views = images.choose_views(batch, together=True)
    moves = ("top", "left", "side", "angle", "flip_rows", "flip_cols", "transpose")
    assert all(getattr(views, name)[0] == getattr(views, name)[1] for name in moves)
    assert any(getattr(views, name)[1] != getattr(views, name)[2] for name in moves)
    assert views.gain[0] != views.gain[1]
    alone = images.choose_views(batch)
    np.testing.assert_array_equal(views.top[[0, 2]], alone.top[[0, 2]])
    np.testing.assert_array_equal(views.gain, alone.gain)


@pytest.mark.parametrize("kind", ["frame", "dataset", "imagenet"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_whole_image_is_what_a_detector_sees(
    make_set: Callable[..., SmallSet], make_recipe: Callable[..., Recipe], kind: Kind, dtype: type
) -> None:
    root = make_set("set", shapes=[(32, 32)], dtype=dtype).root
    still = replace(make_recipe().augment, mirror="none", transpose=False)
    images = load(root, still, kind=kind)
    batch = entries(4, 4)
    values, truth = images.take(batch, images.choose_views(batch))
    dataset = open_dataset(root)
    frames = read_labelled(dataset, dataset.ids("train"))
    rule = fit_normalisation(kind, frames.frames, values.shape[1])
    for row, (frame, mask) in enumerate(zip(frames.frames, frames.masks, strict=True)):
        np.testing.assert_allclose(values[row], rule.apply(frame), rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(truth[row, 0], mask)


def test_a_mask_beside_its_target_stays_on_its_side_when_mirrored() -> None:
    rows, cols = np.mgrid[:40, :40]

    def draw(row: float, col: float) -> np.ndarray:
        return 200 * np.exp(-((rows - row) ** 2 + (cols - col) ** 2) / 4)

    frame = (20 + draw(12.5, 11.5) + draw(30, 29)).astype(np.uint8)
    # The first is labelled half a pixel up and left of where it is, the second where it is.
    mask = (np.hypot(rows - 12, cols - 11) < 2.5) | (np.hypot(rows - 30, cols - 29) < 2.5)
    found = mirror_masks(frame, mask, keep_offset=True)
    assert ((found & 1) == mask).all()
    for bit, axes in ((1, (0,)), (2, (1,)), (3, (0, 1))):
        seen, shown = np.flip(frame, axes), np.flip(found >> bit & 1 == 1, axes)
        order = 1 if 0 in axes else 0
        offsets = measure_offsets(seen, shown)
        np.testing.assert_allclose(offsets[order], [-0.5, -0.5], atol=0.1)
        np.testing.assert_allclose(offsets[1 - order], [0, 0], atol=0.1)
    np.testing.assert_array_equal(mirror_masks(frame, mask, keep_offset=False), 15 * mask)


def test_windows_are_given_the_masks_of_their_way_to_mirror(
    make_recipe: Callable[..., Recipe],
) -> None:
    rows, cols = np.mgrid[:40, :40]
    frame = (20 + 200 * np.exp(-((rows - 20.5) ** 2 + (cols - 17.5) ** 2) / 4)).astype(np.uint8)
    mask = np.hypot(rows - 20, cols - 17) < 2.5
    read = LabelledFrames(("a",), [frame], [mask], [np.array([[20.0, 17.0]])])
    rule = fit_normalisation("dataset", read.frames, 1)
    for changes in ({}, {"rotation": 5.0}):
        augment = replace(make_recipe().augment, crop=40, mirror="both", transpose=True)
        augment = replace(augment, keep_offset=True, **changes)
        images = TrainingImages(read, rule, augment, 0, torch.device("cpu"))
        batch = entries(24, 1)
        views = images.choose_views(batch)
        assert set(views.mirrored) == {0, 1, 2, 3}
        values, truth = images.take(batch, views)
        for value, shown in zip(values[:, 0].numpy(), truth[:, 0].numpy() > 0, strict=True):
            grey = np.rint(value * rule.std[0] + rule.mean[0]).astype(np.uint8)
            np.testing.assert_allclose(measure_offsets(grey, shown), [[-0.5, -0.5]], atol=0.25)


def test_frames_of_any_size_and_depth_make_one_batch(
    make_set: Callable[..., SmallSet], make_recipe: Callable[..., Recipe]
) -> None:
    small = make_set("a", shapes=[(20, 90), (64, 33), (5, 7)], dtype=np.uint8)
    deep = make_set("b", shapes=[(40, 41)], dtype=np.uint16, prefix="d")
    parts = [open_dataset(made.root) for made in (small, deep)]
    read = [read_labelled(dataset, dataset.ids("train")) for dataset in parts]
    both = LabelledFrames(
        read[0].ids + read[1].ids,
        read[0].frames + read[1].frames,
        read[0].masks + read[1].masks,
        read[0].centres + read[1].centres,
    )
    rule = fit_normalisation("frame", [], 1)
    recipe = make_recipe()
    images = TrainingImages(both, rule, everything(recipe), 0, torch.device("cpu"))
    batch = entries(16, 8)
    values, truth = images.take(batch, images.choose_views(batch))
    assert values.shape == truth.shape == (16, 1, 32, 32)
    assert values.isfinite().all()
    assert values.std() < 10


def test_a_changed_pixel_changes_the_fingerprint(tiny_set: Path) -> None:
    dataset = open_dataset(tiny_set)
    before, after = (read_labelled(dataset, dataset.ids("train")) for _ in range(2))
    assert before.fingerprint() == after.fingerprint()
    after.masks[1][0, 0] ^= True
    assert before.fingerprint() != after.fingerprint()
