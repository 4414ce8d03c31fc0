"""Imports: annotations become the right pixels, or are refused by name, and none is lost."""

from __future__ import annotations

import base64
import json
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from foreign_sets import count_targets, make_foreign_set
from small_sets import Outcome, SmallSet

from pipelines.build.parallel import Pool
from pipelines.export import export_dataset, import_dataset
from pipelines.formats.webdataset import add_member
from synth.dataset import Dataset, open_dataset
from synth.disk.png import encode_png
from synth.errors import SynthError

Synth = Callable[..., Outcome]


def check_foreign_sets(seeds: range, place: Path) -> Counter[str]:
    """Import a set of each seed; how many were read and refused."""
    outcomes: Counter[str] = Counter()
    for seed in seeds:
        root, out = place / f"{seed}" / "set", place / f"{seed}" / "out"
        wanted = make_foreign_set(np.random.default_rng(seed), root)
        if wanted.refused:
            with pytest.raises(SynthError) as caught:
                import_dataset(root, wanted.format, out, Pool(1))
            words = str(caught.value)
            assert wanted.refused in words, (seed, words)
            assert "\n" not in words
            assert not out.exists()
            outcomes["refused"] += 1
            continue
        result = import_dataset(root, wanted.format, out, Pool(1))
        dataset = open_dataset(out)
        assert set(dataset.ids("all")) == set(wanted.masks), seed
        for id_, mask in wanted.masks.items():
            np.testing.assert_array_equal(dataset.read_mask(id_), mask, f"seed {seed}, {id_}")
        assert result.targets == sum(map(count_targets, wanted.masks.values())), seed
        assert result.annotations == wanted.annotations, seed
        if result.annotations is not None:
            explained = result.notes.get("apart", 0) - result.notes.get("joined", 0)
            assert result.targets == result.annotations + explained, seed
        outcomes["read"] += 1
    return outcomes


def test_foreign_sets_are_read_right_or_refused_by_name(tmp_path: Path) -> None:
    outcomes = check_foreign_sets(range(100), tmp_path)
    assert outcomes["read"] > 50
    assert outcomes["refused"] > 8


@pytest.mark.slow
def test_many_foreign_sets_are_read_right_or_refused_by_name(tmp_path: Path) -> None:
    outcomes = check_foreign_sets(range(1000, 3000), tmp_path)
    assert outcomes["read"] > 1100
    assert outcomes["refused"] > 200


def frame(path: Path, shape: tuple[int, int] = (20, 30), value: int = 9) -> None:
    """Write a grey image, in the file format of its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full(shape, value, np.uint8))


def write(path: Path, content: object) -> None:
    """Write text as it is, and anything else as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def coco(root: Path, notes: Sequence[dict[str, Any]], image: dict[str, Any] | None = None) -> None:
    """Write a COCO set of one image of 20x30."""
    frame(root / "images" / "a.png")
    listed = {"id": 1, "file_name": "a.png"} | (image or {})
    given = [{"id": n, "image_id": 1, "category_id": 1} | note for n, note in enumerate(notes, 1)]
    whole = {"images": [listed], "annotations": given, "categories": [{"id": 1, "name": "plane"}]}
    write(root / "annotations" / "instances_train.json", whole)


def labelme(root: Path, *shapes: dict[str, Any], **facts: Any) -> None:
    """Write a labelme set of one image of 20x30."""
    frame(root / "a.png")
    given = [
        {"label": "t", "shape_type": "rectangle", "points": [[1, 1], [4, 3]]} | s for s in shapes
    ]
    write(root / "a.json", {"shapes": given, "imagePath": "a.png", "imageData": None} | facts)


def yolo(root: Path, lines: str, names: object = ("target",)) -> None:
    """Write a YOLO set of one image of 20x30."""
    frame(root / "images" / "train" / "a.png")
    write(root / "labels" / "train" / "a.txt", lines)
    write(root / "data.yaml", {"names": names})


def voc(root: Path, mask: np.ndarray | None = None, xml: str = "", ids: str = "a") -> None:
    """Write a Pascal VOC set of images of 20x30."""
    for id_ in ids:
        frame(root / "JPEGImages" / f"{id_}.png")
        if mask is not None:
            (root / "SegmentationClass").mkdir(exist_ok=True)
            cv2.imwrite(str(root / "SegmentationClass" / f"{id_}.png"), mask)
        if xml:
            write(root / "Annotations" / f"{id_}.xml", f"<annotation>{xml}</annotation>")
    write(root / "ImageSets" / "Main" / "train.txt", "\n".join(ids))


def read_back(synth: Synth, root: Path, name: str) -> tuple[dict[str, Any], Dataset]:
    """Import a set; what is printed as JSON, and the set."""
    out = root.parent / "out"
    outcome = synth("import", root, "--format", name, "--out", out, "--json")
    assert outcome.status == 0, outcome.err
    return json.loads(outcome.out), open_dataset(out)


def refused(synth: Synth, root: Path, name: str, *words: str) -> None:
    """Test that an import is one line with some words and leaves nothing."""
    out = root.parent / "out"
    outcome = synth("import", root, "--format", name, "--out", out)
    assert outcome.status == 1, outcome
    assert outcome.out == ""
    assert outcome.err.count("\n") == 1
    for word in words:
        assert word in outcome.err
    assert not out.exists()


def box_xml(left: float, top: float, right: float, bottom: float, name: str = "t") -> str:
    """An object of VOC."""
    return (
        f"<object><name>{name}</name><bndbox><xmin>{left}</xmin><ymin>{top}</ymin>"
        f"<xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>"
    )


BOX = {"bbox": [4, 5, 3, 2]}


@pytest.mark.parametrize(
    ("note", "pixels"),
    [
        (BOX, 6),
        (BOX | {"segmentation": []}, 6),
        (BOX | {"segmentation": None}, 6),
        (BOX | {"segmentation": [[]]}, 6),
        ({"bbox": ["4", "5.0", "3", "2"]}, 6),
        ({"bbox": [4.4, 5.4, 0.3, 0.3]}, 1),
        ({"bbox": [4.6, 5.6, 0.3, 0.3]}, 1),
        ({"segmentation": [[4, 5, 7, 5, 7, 7, 4, 7]]}, 6),
        ({"segmentation": [4, 5, 7, 5, 7, 7, 4, 7]}, 6),
        ({"segmentation": [[4, 5, 7, 5, 7, 7, 4, 7], [9, 9, 11, 9, 11, 10, 9, 10]]}, 8),
        ({"segmentation": [[4, 5.1, 14, 5.1, 14, 5.4, 4, 5.4]]}, 10),
        ({"segmentation": {"size": [20, 30], "counts": [105, 2, 493]}, "iscrowd": 1}, 2),
        ({"segmentation": {"size": [20, 30], "counts": "Y32]?"}}, 2),
    ],
)
def test_coco_annotations_of_every_form(
    synth: Synth, tmp_path: Path, note: dict[str, Any], pixels: int
) -> None:
    coco(tmp_path / "set", [note])
    told, dataset = read_back(synth, tmp_path / "set", "coco")
    assert np.count_nonzero(dataset.read_mask("a")) == pixels
    assert told["annotations"] == 1
    assert told["notes"].get("crowds", 0) == note.get("iscrowd", 0)


@pytest.mark.parametrize(
    ("note", "words"),
    [
        ({}, "neither a segmentation nor a bbox"),
        ({"bbox": [4, 5, 0, 2]}, "without extent"),
        ({"bbox": [4, 5, -3, 2]}, "without extent"),
        ({"bbox": [400, 5, 3, 2]}, "outside"),
        ({"bbox": "4,5,3,2"}, "in place of 4 numbers"),
        ({"bbox": [4, 5, True, 2]}, "in place of 4 numbers"),
        ({"segmentation": "x"}, "no polygon and no mask"),
        ({"segmentation": [[1, 2, 3, 4, 5]]}, "odd"),
        ({"segmentation": [[4, 5, 7, 5]]}, "without area"),
        ({"segmentation": {"size": [20, 30], "counts": [600]}}, "holds no pixel"),
        ({"segmentation": {"size": [30, 20], "counts": [600]}}, "sides are swapped"),
        ({"segmentation": {"size": [20, 30]}}, "run lengths"),
        (BOX | {"image_id": 8}, "not listed"),
    ],
)
def test_coco_annotations_that_are_none_are_refused_by_name(
    synth: Synth, tmp_path: Path, note: dict[str, Any], words: str
) -> None:
    coco(tmp_path / "set", [BOX, note])
    refused(synth, tmp_path / "set", "coco", "instances_train.json", "annotation 2", words)


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ({"width": 60, "height": 40}, ("60x40", "30x20", "at its own size")),
        ({"width": 20, "height": 30}, ("20x30", "30x20", "EXIF")),
        ({"width": 31}, ("31x?",)),
    ],
)
def test_another_size_is_refused_with_both(
    synth: Synth, tmp_path: Path, size: dict[str, int], words: tuple[str, ...]
) -> None:
    coco(tmp_path / "set", [BOX], size)
    refused(synth, tmp_path / "set", "coco", *words)


@pytest.mark.parametrize("name", ["result.json", "labels.json", "annotations/all.json"])
def test_coco_files_of_other_names_are_found(synth: Synth, tmp_path: Path, name: str) -> None:
    coco(tmp_path / "set", [BOX], {"file_name": "images\\a.png"})
    file = tmp_path / "set" / "annotations" / "instances_train.json"
    file.rename(tmp_path / "set" / name)
    told, _ = read_back(synth, tmp_path / "set", "coco")
    assert told["targets"] == 1


def test_coco_beside_captions_and_unlisted_images_is_told(synth: Synth, tmp_path: Path) -> None:
    coco(tmp_path / "set", [BOX])
    write(tmp_path / "set" / "annotations" / "captions_train.json", {"annotations": []})
    frame(tmp_path / "set" / "images" / "b.png")
    told, dataset = read_back(synth, tmp_path / "set", "coco")
    assert dataset.ids("all") == ("a",)
    assert told["notes"] == {"other_lists": 1, "unlisted": 1}


def test_counts_in_and_out_are_printed_with_the_reasons(synth: Synth, tmp_path: Path) -> None:
    apart = {"segmentation": [[20, 1, 22, 1, 22, 3, 20, 3], [20, 9, 22, 9, 22, 12, 20, 12]]}
    notes = [BOX, {"bbox": [7, 7, 2, 2]}, {"bbox": [-2, 15, 4, 2]}, apart | {"category_id": 2}]
    coco(tmp_path / "set", notes)
    out = tmp_path / "out"
    arguments = ("import", tmp_path / "set", "--format", "coco", "--out", out)
    for _ in range(2):
        printed = synth(*arguments).out
        assert "annotations 4, targets 4\n" in printed
        assert (
            "classes merged into target: category 2 1, plane 3 "
            "(`synth import --class` takes some of them)\n" in printed
        )
        assert "1 fewer targets: annotations that touch are one target\n" in printed
        assert "1 more targets: annotations in several pieces are as many targets\n" in printed
        assert "1 annotations cut off at the edge of their image\n" in printed
    card = (out / "README.md").read_text()
    assert "classes merged into target: category 2 1, plane 3" in card


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0 0.5 0.5 0.1 0.1 0.9", "detection with its score"),
        ("0 0.5 0.5 0.1", "neither a box"),
        ("0 0.1 0.1 0.2 0.1 0.2 0.2 0.3", "neither a box"),
        ("0 0.5 0.5 0.4 0.4 0.4 0.4 2 0.6 0.6 1", "keypoints"),
        ("0 15 10 3 3", "are these pixels"),
        ("0 1.5 0.5 0.1 0.1", "outside"),
        ("0 1.5 1.5 1.6 1.5 1.6 1.6", "outside"),
        ("0 0.5 0.5 0 0.1", "without extent"),
        ("0.5 0.5 0.5 0.1 0.1", "class '0.5'"),
        ("4 0.5 0.5 0.1 0.1", "has no name"),
        ("a 0.5 0.5 0.1 0.1", "no number"),
    ],
)
def test_yolo_lines_that_are_no_labels_are_refused_by_name(
    synth: Synth, tmp_path: Path, line: str, words: str
) -> None:
    yolo(tmp_path / "set", f"0 0.5 0.5 0.1 0.1\n{line}\n")
    refused(synth, tmp_path / "set", "yolo", "a.txt", "line 2", words)


def test_a_turned_box_is_filled_as_an_outline(synth: Synth, tmp_path: Path) -> None:
    yolo(tmp_path / "set", "0 0.1 0.1 0.2 0.1 0.2 0.3 0.1 0.3\n")
    _, dataset = read_back(synth, tmp_path / "set", "yolo")
    assert np.count_nonzero(dataset.read_mask("a")) == 4 * 5


def two_classes(root: Path, name: str) -> None:
    """Write a set with one annotation of `plane` (or 1) and two of `bird` (or 2)."""
    if name == "coco":
        coco(root, [BOX, {"bbox": [12, 5, 2, 2]}, {"bbox": [20, 5, 2, 2]}])
        file = root / "annotations" / "instances_train.json"
        whole = json.loads(file.read_text())
        whole["categories"].append({"id": 2, "name": "bird"})
        for note in whole["annotations"][1:]:
            note["category_id"] = 2
        write(file, whole)
    elif name == "yolo":
        lines = "0 0.2 0.3 0.1 0.1\n1 0.5 0.3 0.1 0.1\n1 0.8 0.3 0.1 0.1\n"
        yolo(root, lines, ["plane", "bird"])
    elif name == "labelme":
        birds = [{"label": "bird", "points": [[x, 9], [x + 2, 11]]} for x in (9, 19)]
        labelme(root, {"label": "plane"}, *birds)
    elif name == "voc":
        birds_xml = box_xml(12, 5, 14, 7, "bird") + box_xml(20, 5, 22, 7, "bird")
        voc(root, xml=box_xml(4, 5, 7, 8, "plane") + birds_xml)
    else:
        mask = np.zeros((20, 30), np.uint8)
        mask[3, 3], mask[3, 9], mask[3, 20] = 1, 2, 2
        voc(root, mask)


@pytest.mark.parametrize(
    ("name", "class_", "left_out", "targets"),
    [
        ("coco", "plane", {"bird": 2}, 1),
        ("coco", "bird", {"plane": 1}, 2),
        ("yolo", "plane", {"bird": 2}, 1),
        ("yolo", "1", {"plane": 1}, 2),
        ("labelme", "plane", {"bird": 2}, 1),
        ("voc", "bird", {"plane": 1}, 2),
        ("voc masks", "2", {"class 1": 1}, 2),
        ("voc masks", "class 1", {"class 2": 2}, 1),
    ],
)
def test_a_chosen_class_is_the_target_and_others_are_counted(
    synth: Synth, tmp_path: Path, name: str, class_: str, left_out: dict[str, int], targets: int
) -> None:
    root, out, format_ = tmp_path / "set", tmp_path / "out", name.split()[0]
    two_classes(root, name)
    arguments = ("import", root, "--format", format_, "--out", out, "--class")
    for _ in range(2):
        told = json.loads(synth(*arguments, class_, "--json").out)
        assert (told["left_out"], told["targets"]) == (left_out, targets)
    assert count_targets(open_dataset(out).read_mask("a")) == targets
    outcome = synth("import", root, "--format", format_, "--out", tmp_path / "two", "--class", "x")
    assert outcome.status == 1
    assert "'x'" in outcome.err
    assert f"{next(iter(left_out))} {next(iter(left_out.values()))}" in outcome.err
    assert not (tmp_path / "two").exists()


def test_what_is_left_out_by_class_is_printed(synth: Synth, tmp_path: Path) -> None:
    two_classes(tmp_path / "set", "coco")
    arguments = ("import", tmp_path / "set", "--format", "coco", "--out", tmp_path / "out")
    assert "left out by --class: bird 2\n" in synth(*arguments, "--class", "plane").out
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["configuration"][
        "classes"
    ] == ["plane"]


def test_classes_that_the_pixels_do_not_tell_are_not_chosen(synth: Synth, tmp_path: Path) -> None:
    two_classes(tmp_path / "set", "voc masks")
    write(tmp_path / "set/Annotations/a.xml", f"<annotation>{box_xml(4, 4, 4, 4)}</annotation>")
    arguments = ("import", tmp_path / "set", "--format", "voc", "--out", tmp_path / "out")
    outcome = synth(*arguments, "--class", "t")
    assert outcome.status == 1
    assert "not tied to its pixels" in outcome.err


def test_formats_without_classes_have_none_to_choose(synth: Synth, tmp_path: Path) -> None:
    outcome = synth("import", tmp_path, "--format", "npy", "--out", tmp_path / "o", "--class", "t")
    assert outcome.status == 2
    assert "npy has none" in outcome.err


def test_yolo_classes_are_merged_and_told(synth: Synth, tmp_path: Path) -> None:
    yolo(tmp_path / "set", "0 0.2 0.5 0.1 0.1\n1 0.8 0.5 0.1 0.1\n1 0.5 0.5 0.1 0.1\n", ["a", "b"])
    told, _ = read_back(synth, tmp_path / "set", "yolo")
    assert told["classes"] == {"a": 1, "b": 2}
    assert told["targets"] == 3


def test_a_set_of_poses_is_refused(synth: Synth, tmp_path: Path) -> None:
    yolo(tmp_path / "set", "0 0.5 0.5 0.1 0.1 0.5 0.5\n")
    write(tmp_path / "set" / "data.yaml", {"names": ["a"], "kpt_shape": [1, 2]})
    refused(synth, tmp_path / "set", "yolo", "data.yaml", "kpt_shape")


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("images/train/rec1/0001.png", "labels/train/rec1/0001.txt"),
        ("images/rec1/0001.png", "labels/rec1/0001.txt"),
        ("train/images/rec1/0001.PNG", "train/labels/rec1/0001.TXT"),
        ("images/train/rec1/0001.png", "images/train/rec1/0001.txt"),
        ("images/rec1_0001.png", "labels/REC1_0001.txt"),
        ("images/rec1_0001.png", "labels/classes.txt labels/rec1_0001.txt"),
    ],
)
def test_yolo_labels_are_found_where_their_image_is(
    synth: Synth, tmp_path: Path, image: str, label: str
) -> None:
    frame(tmp_path / "set" / image)
    for name in label.split():
        write(tmp_path / "set" / name, "0 0.5 0.5 0.1 0.1\n")
    told, dataset = read_back(synth, tmp_path / "set", "yolo")
    assert dataset.ids("all") == ("rec1_0001",)
    assert (told["annotations"], told["targets"]) == (1, 1)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ("images/train/a.png labels/train/a.txt labels/train/b.txt", "b.txt: is a label without"),
        ("images/train/a.png labels/train/a.txt labels/val/b.txt", "b.txt: is in no split"),
        ("images/train/a.png labels/train/a.txt images/extra/b.png", "b.png: is in no split"),
        ("images/train/a.png labels/train/a.txt labels/train/A.txt", "same image"),
        ("images/train/a.png images/train/a.jpg labels/train/a.txt", "shares its id"),
        ("images/train/x/a.png images/train/x_a.png labels/train/x_a.txt", "shares its id"),
        ("images/train/a.png", "holds no label file"),
        ("images/train/a.png labels/train/a.txt images/val/b.png", "labels/val: is not there"),
    ],
)
def test_yolo_files_that_would_be_lost_are_refused(
    synth: Synth, tmp_path: Path, files: str, words: str
) -> None:
    for name in files.split():
        if name.endswith("txt"):
            write(tmp_path / "set" / name, "")
        else:
            frame(tmp_path / "set" / name)
    refused(synth, tmp_path / "set", "yolo", words)


@pytest.mark.parametrize(
    ("files", "data"),
    [
        ("images/train2017/a images/val2017/b images/test-dev/c", {}),
        ("Train/images/a Valid/images/b TEST/images/c", {}),
        ("images/one/a images/two/b images/three/c", "images/{}"),
        ("images/one/a images/two/b images/three/c", "/home/me/sets/mine/images/{}"),
        ("one/images/a two/images/b three/images/c", "../{}/images"),
        ("images/a images/b images/c train.txt:a val.txt:b test.txt:c", {}),
        ("images/a images/b images/c lists/one:a lists/two:b lists/three:c", "lists/{}"),
    ],
)
def test_yolo_splits_are_those_of_the_set(
    synth: Synth, tmp_path: Path, files: str, data: object
) -> None:
    root = tmp_path / "set"
    for name in files.split():
        place, _, listed = name.partition(":")
        if listed:
            write(root / place, f"./images/{listed}.png\n")
            continue
        frame(root / f"{place}.png")
        write(root / f"{place.replace('images', 'labels')}.txt", "0 0.5 0.5 0.1 0.1")
    if data:
        folders = zip(("train", "val", "test"), ("one", "two", "three"), strict=True)
        facts = {split: str(data).format(folder) for split, folder in folders}
        write(root / "data.yaml", facts | {"names": ["t"]})
    _, dataset = read_back(synth, root, "yolo")
    assert dataset.splits == {"train": ("a",), "val": ("b",), "test": ("c",)}


def test_a_validation_split_that_is_not_there_is_not_taken_for_training(
    synth: Synth, tmp_path: Path
) -> None:
    frame(tmp_path / "set" / "images" / "a.png")
    write(tmp_path / "set" / "labels" / "a.txt", "0 0.5 0.5 0.1 0.1")
    write(tmp_path / "set" / "data.yaml", {"val": "images/holdout", "names": ["t"]})
    refused(synth, tmp_path / "set", "yolo", "data.yaml", "names val: 'images/holdout'")


def test_training_that_stands_in_for_validation_is_training(synth: Synth, tmp_path: Path) -> None:
    yolo(tmp_path / "set", "0 0.5 0.5 0.1 0.1")
    facts = {"train": "images/train", "val": "images/train", "names": ["t"]}
    write(tmp_path / "set" / "data.yaml", facts)
    _, dataset = read_back(synth, tmp_path / "set", "yolo")
    assert dataset.splits == {"train": ("a",), "test": ()}


def test_one_of_several_coco_files_that_tells_no_split_is_refused(
    synth: Synth, tmp_path: Path
) -> None:
    coco(tmp_path / "set", [BOX])
    place = tmp_path / "set" / "annotations"
    shutil.copy(place / "instances_train.json", place / "instances_holdout.json")
    refused(synth, tmp_path / "set", "coco", "instances_holdout.json", "tells no split")


def test_images_without_a_label_file_are_counted(synth: Synth, tmp_path: Path) -> None:
    yolo(tmp_path / "set", "0 0.5 0.5 0.1 0.1")
    frame(tmp_path / "set" / "images" / "train" / "b.png")
    told, dataset = read_back(synth, tmp_path / "set", "yolo")
    assert told["notes"] == {"unlabelled": 1}
    assert not dataset.read_mask("b").any()


def test_splits_with_the_same_names_go_in_front_of_them(synth: Synth, tmp_path: Path) -> None:
    for split in ("train", "val"):
        frame(tmp_path / "set" / split / "images" / "0001.png", value=len(split))
        write(tmp_path / "set" / split / "labels" / "0001.txt", "0 0.5 0.5 0.1 0.1")
    _, dataset = read_back(synth, tmp_path / "set", "yolo")
    assert dataset.splits == {"train": ("train_0001",), "val": ("val_0001",), "test": ()}


def test_an_image_in_two_splits_is_refused(synth: Synth, tmp_path: Path) -> None:
    coco(tmp_path / "set", [BOX])
    place = tmp_path / "set" / "annotations"
    shutil.copy(place / "instances_train.json", place / "instances_val.json")
    refused(synth, tmp_path / "set", "coco", "a.png", "is in train and in val")


def numbers(*values: int, dtype: type[np.generic] = np.uint8) -> np.ndarray:
    """A mask of 20x30 with a square of 2x2 for each value."""
    mask = np.zeros((20, 30), dtype)
    for place, value in enumerate(values):
        mask[5:7, 4 * place + 2 : 4 * place + 4] = value
    return mask


@pytest.mark.parametrize(
    ("mask", "targets", "void"),
    [
        (numbers(255), 1, 0),
        (numbers(1, 255), 1, 4),
        (numbers(1, 2, 15), 3, 0),
        (numbers(38), 1, 0),
        (numbers(255, dtype=np.uint16), 1, 0),
        (numbers(300, 65535, dtype=np.uint16), 2, 0),
        (np.stack([numbers(128), numbers(0), numbers(0)], -1), 1, 0),
        (np.stack([numbers(0, 192), numbers(0, 224), numbers(128, 224)], -1), 1, 4),
        (np.stack([numbers(255)] * 3, -1), 1, 0),
    ],
)
def test_voc_masks_of_every_kind(
    synth: Synth, tmp_path: Path, mask: np.ndarray, targets: int, void: int
) -> None:
    voc(tmp_path / "set", mask)
    told, _ = read_back(synth, tmp_path / "set", "voc")
    assert (told["annotations"], told["targets"]) == (targets, targets)
    assert told["notes"].get("void_pixels", 0) == void


def test_void_is_decided_over_all_masks_of_the_set(synth: Synth, tmp_path: Path) -> None:
    voc(tmp_path / "set", numbers(255), ids="ab")
    cv2.imwrite(str(tmp_path / "set" / "SegmentationClass" / "b.png"), numbers(1))
    told, dataset = read_back(synth, tmp_path / "set", "voc")
    assert not dataset.read_mask("a").any()
    assert told["notes"] == {"void_pixels": 4}


def test_voc_boxes_that_the_mask_lacks_are_counted(synth: Synth, tmp_path: Path) -> None:
    xml = box_xml(3, 6, 4, 7, "plane") + box_xml(20, 10, 22, 12, "bird")
    voc(tmp_path / "set", numbers(1), xml)
    told, _ = read_back(synth, tmp_path / "set", "voc")
    assert told["notes"] == {"outside_mask": 1}
    assert told["classes"] == {"bird": 1, "plane": 1}


@pytest.mark.parametrize(
    ("xml", "words"),
    [
        (box_xml(5, 5, 3, 9), "object 1 (t): is a box of -1x5 pixels"),
        (box_xml(50, 5, 60, 9), "outside"),
        ("<object><name>t</name></object>", "in place of 4 numbers"),
        ("<size><width>60</width><height>40</height></size>", "60x40"),
        ("<size><width>x</width><height>20</height></size>", "xx20"),
    ],
)
def test_voc_files_that_are_wrong_are_refused_by_name(
    synth: Synth, tmp_path: Path, xml: str, words: str
) -> None:
    voc(tmp_path / "set", xml=xml)
    refused(synth, tmp_path / "set", "voc", "a.xml", words)


@pytest.mark.parametrize(
    ("corners", "pixels"),
    [((0, 4, 2, 5), [[4, 0], [4, 1]]), ((2.25, 4, 4.25, 5.25), [[4, 2], [4, 3]])],
)
def test_voc_boxes_that_hold_0_or_fractions_are_edges_from_0(
    synth: Synth, tmp_path: Path, corners: tuple[float, ...], pixels: list[list[int]]
) -> None:
    voc(tmp_path / "set", xml=box_xml(7, 8, 9, 9) + box_xml(*corners))
    told, dataset = read_back(synth, tmp_path / "set", "voc")
    assert np.argwhere(dataset.read_mask("a")).tolist() == [*pixels, [8, 7], [8, 8]]
    assert told["notes"] == {"from_edges": 1}


def test_voc_trainval_stands_in_for_a_list_that_is_not_there(synth: Synth, tmp_path: Path) -> None:
    voc(tmp_path / "set", xml=box_xml(3, 4, 3, 5))
    lists = tmp_path / "set/ImageSets/Main"
    (lists / "train.txt").rename(lists / "trainval.txt")
    _, dataset = read_back(synth, tmp_path / "set", "voc")
    assert dataset.ids("train") == ("a",)


@pytest.mark.parametrize("size", ["", "<size><width>0</width><height>0</height></size>"])
def test_voc_without_a_size_is_read_with_ends_included(
    synth: Synth, tmp_path: Path, size: str
) -> None:
    part = "<part><name>wing</name><bndbox><xmin>1</xmin></bndbox></part></object>"
    voc(tmp_path / "set", xml=size + box_xml(3, 4, 3, 5).replace("</object>", part))
    told, dataset = read_back(synth, tmp_path / "set", "voc")
    assert np.argwhere(dataset.read_mask("a")).tolist() == [[3, 2], [4, 2]]
    assert told["notes"] == {"from_boxes": 1}


def png(mask: np.ndarray) -> str:
    """A PNG in base64."""
    return base64.b64encode(encode_png(mask)).decode()


@pytest.mark.parametrize(
    ("shape", "pixels"),
    [
        ({}, 6),
        ({"points": [[4, 1], [1, 3]]}, 6),
        ({"points": [[1, 1], [4, 1], [4, 3], [1, 3]]}, 6),
        ({"shape_type": "polygon", "points": [[1, 1], [4, 1], [4, 3], [1, 3]]}, 6),
        ({"shape_type": None, "points": [[1, 1], [4, 1], [4, 3], [1, 3]]}, 6),
        ({"shape_type": "circle", "points": [[5.5, 5.5], [5.5, 6.7]]}, 5),
        ({"shape_type": "circle", "points": [[5, 5], [5, 5.2]]}, 1),
        ({"shape_type": "point", "points": [[5.9, 5.1]]}, 1),
        ({"shape_type": "mask", "points": [[2, 3], [4, 4]], "mask": png(np.ones((2, 3), bool))}, 6),
        (
            {"shape_type": "mask", "points": [[-1, 3], [1, 4]], "mask": png(np.ones((2, 3), bool))},
            4,
        ),
    ],
)
def test_labelme_shapes_of_every_kind(
    synth: Synth, tmp_path: Path, shape: dict[str, Any], pixels: int
) -> None:
    labelme(tmp_path / "set", shape, imageHeight=20, imageWidth=30)
    told, dataset = read_back(synth, tmp_path / "set", "labelme")
    assert np.count_nonzero(dataset.read_mask("a")) == pixels
    assert told["annotations"] == told["targets"] == 1


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ({"shape_type": "line"}, "has no width"),
        ({"shape_type": "linestrip"}, "has no width"),
        ({"shape_type": "cuboid"}, "is a cuboid of 2 points, which is not read"),
        ({"shape_type": "circle", "points": [[5, 5]]}, "which is not read"),
        ({"shape_type": "circle", "points": [[5, 5], [5, 5]]}, "radius 0"),
        ({"shape_type": "mask", "mask": "?"}, "no base64"),
        (
            {"shape_type": "mask", "mask": png(np.ones((2, 2), bool))},
            "2x2 pixels (w x h) for a box",
        ),
        ({"points": [[3, 3], [3, 9]]}, "without extent"),
        ({"points": [[90, 3], [93, 9]]}, "outside"),
        ({"points": [["a", 3], [93, 9]]}, "in place of"),
        ({"label": "__ignore__"}, "no object"),
        ({"label": 7}, "'label'"),
    ],
)
def test_labelme_shapes_that_are_none_are_refused_by_name(
    synth: Synth, tmp_path: Path, shape: dict[str, Any], words: str
) -> None:
    labelme(tmp_path / "set", {}, shape)
    refused(synth, tmp_path / "set", "labelme", "a.json", words)


def test_labelme_groups_are_one_annotation(synth: Synth, tmp_path: Path) -> None:
    other = {"points": [[10, 10], [12, 12]]}
    labelme(tmp_path / "set", {"group_id": 1}, other | {"group_id": 1}, {"label": "u"})
    told, _ = read_back(synth, tmp_path / "set", "labelme")
    assert (told["annotations"], told["targets"]) == (2, 2)
    assert told["classes"] == {"t": 1, "u": 1}


@pytest.mark.parametrize(
    ("image", "file", "path"),
    [
        ("rec1/0001.png", "rec1/0001.json", "0001.png"),
        ("images/rec1/0001.png", "json/rec1/0001.json", "..\\..\\images\\rec1\\0001.png"),
        ("images/rec1/0001.png", "rec1_0001.json", "images/rec1/0001.png"),
        ("images/rec1/0001.png", "labels/0001.json", "C:\\Users\\me\\0001.png"),
        ("rec1_0001.jpg", "rec1_0001.json", "renamed.jpg"),
    ],
)
def test_labelme_images_are_found(
    synth: Synth, tmp_path: Path, image: str, file: str, path: str
) -> None:
    frame(tmp_path / "set" / image)
    shape = {"label": "t", "shape_type": "rectangle", "points": [[1, 1], [4, 3]]}
    write(tmp_path / "set" / file, {"shapes": [shape], "imagePath": path})
    _, dataset = read_back(synth, tmp_path / "set", "labelme")
    assert dataset.ids("all") == ("rec1_0001",)
    assert dataset.read_mask("rec1_0001").sum() == 6


def test_labelme_images_without_json_and_other_json_are_counted(
    synth: Synth, tmp_path: Path
) -> None:
    labelme(tmp_path / "set", {})
    frame(tmp_path / "set" / "b.png")
    write(tmp_path / "set" / "config.json", {})
    told, dataset = read_back(synth, tmp_path / "set", "labelme")
    assert dataset.ids("all") == ("a", "b")
    assert told["notes"] == {"other_lists": 1, "unlabelled": 1}


def test_an_image_in_labelmes_file_stands_in_for_a_lost_one(synth: Synth, tmp_path: Path) -> None:
    labelme(tmp_path / "set", {})
    data = (tmp_path / "set" / "a.png").read_bytes()
    labelme(tmp_path / "set", {}, imageData=base64.b64encode(data).decode())
    (tmp_path / "set" / "a.png").unlink()
    told, dataset = read_back(synth, tmp_path / "set", "labelme")
    assert dataset.image_path("a").read_bytes() == data
    assert told["notes"] == {"embedded": 1}


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"imageWidth": 60, "imageHeight": 40}, "60x40"),
        ({"imageWidth": 20, "imageHeight": 30}, "EXIF"),
        ({"shapes": None}, "'shapes'"),
    ],
)
def test_labelme_files_that_are_wrong_are_refused_by_name(
    synth: Synth, tmp_path: Path, facts: dict[str, Any], words: str
) -> None:
    labelme(tmp_path / "set", {}, **facts)
    refused(synth, tmp_path / "set", "labelme", "a.json", words)


def test_two_labelme_files_of_an_image_and_one_of_none_are_refused(
    synth: Synth, tmp_path: Path
) -> None:
    labelme(tmp_path / "set", {})
    write(tmp_path / "set" / "b.json", {"shapes": [], "imagePath": "a.png"})
    refused(synth, tmp_path / "set", "labelme", "b.json", "same image")
    write(tmp_path / "set" / "b.json", {"shapes": [], "imagePath": "b.png"})
    refused(synth, tmp_path / "set", "labelme", "b.json", "'b.png', which is not there")


def npy(root: Path, *masks: np.ndarray) -> None:
    """Write a set of images of 20x30 with arrays."""
    (root / "masks").mkdir(parents=True)
    for number, mask in enumerate(masks):
        frame(root / "images" / f"{number}.png")
        np.save(root / "masks" / f"{number}.npy", mask)


@pytest.mark.parametrize("value", [1, 2, 38, 255, 65535])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64, np.uint64])
def test_arrays_of_one_value_are_masks(
    synth: Synth, tmp_path: Path, value: int, dtype: type[np.generic]
) -> None:
    mask = numbers(1).astype(dtype) * np.array(value).astype(dtype)
    npy(tmp_path / "set", mask, mask[None] * 0)
    told, dataset = read_back(synth, tmp_path / "set", "npy")
    np.testing.assert_array_equal(dataset.read_mask("0"), mask > 0)
    assert "annotations" not in told
    assert told["targets"] == 1


@pytest.mark.parametrize(
    ("masks", "words"),
    [
        ([numbers(1), numbers(2)], ("2 labels, 1 (0.npy), 2 (1.npy)",)),
        ([numbers(1, 255)], ("2 labels",)),
        ([numbers(1) * 0.5], ("0.npy", "float64")),
        ([-numbers(1).astype(int)], ("0.npy", "-1")),
        ([numbers(1)[:, :-1]], ("0.npy", "20x29", "20x30")),
        ([np.stack([numbers(1)] * 3)], ("0.npy", "shape")),
        ([np.array([{}], object)], ("0.npy", "damaged")),
    ],
)
def test_arrays_that_are_no_masks_are_refused_by_name(
    synth: Synth, tmp_path: Path, masks: list[np.ndarray], words: tuple[str, ...]
) -> None:
    npy(tmp_path / "set", *masks)
    refused(synth, tmp_path / "set", "npy", *words)


def test_arrays_keep_the_splits_of_their_lists_and_folders(synth: Synth, tmp_path: Path) -> None:
    npy(tmp_path / "set", numbers(1), numbers(1), numbers(1))
    write(tmp_path / "set" / "train.txt", "0\n")
    write(tmp_path / "set" / "test.txt", "2\n")
    told, dataset = read_back(synth, tmp_path / "set", "npy")
    assert dataset.splits == {"train": ("0",), "test": ("2",)}
    assert told["notes"] == {"unlisted": 1}
    shutil.rmtree(tmp_path / "out")
    for split in ("train", "val"):
        npy(tmp_path / "tree" / split, numbers(1))
    _, dataset = read_back(synth, tmp_path / "tree", "npy")
    assert dataset.splits == {"train": ("train_0",), "val": ("val_0",), "test": ()}


@pytest.mark.parametrize("name", ["imagefolder", "webdataset"])
def test_masks_of_other_tools_are_decided_over_the_set(
    synth: Synth, small_set: SmallSet, tmp_path: Path, name: str
) -> None:
    root = tmp_path / "set"
    export_dataset(open_dataset(small_set.root), name, root, Pool(1), shard_size=2)
    for same in (True, False):
        if name == "imagefolder":
            for number, file in enumerate(sorted(root.rglob("masks/*.png"))):
                mask = cv2.imread(str(file), -1) > 0
                cv2.imwrite(str(file), mask.astype(np.uint8) * (38 if same or number else 7))
        else:
            for shard in sorted(root.glob("*.tar")):
                with tarfile.open(shard) as tar:
                    members = [(m.name, tar.extractfile(m)) for m in tar.getmembers()]
                    files = [(n, stream.read()) for n, stream in members if stream]
                with tarfile.open(shard, "w") as tar:
                    for number, (member, data) in enumerate(files):
                        if member.endswith("mask.png"):
                            mask = cv2.imdecode(np.frombuffer(data, np.uint8), -1) > 0
                            value = 38 if same or number > 3 else 7
                            data = encode_png(mask.astype(np.uint8) * np.uint8(value))
                        add_member(tar, member, data)
        if same:
            _, dataset = read_back(synth, root, name)
            for id_ in small_set.train:
                wanted = open_dataset(small_set.root).read_mask(id_)
                np.testing.assert_array_equal(dataset.read_mask(id_), wanted)
            shutil.rmtree(tmp_path / "out")
        else:
            refused(
                synth, root, name, "several labels, 7", "write masks of 0 and, for targets, 255"
            )


def coco_json(root: Path, name: str, *files: str, **facts: Any) -> None:
    """Write a COCO list of images of 20x30 with a box each."""
    images = [{"id": n, "file_name": file} | facts for n, file in enumerate(files, 1)]
    boxes = [{"id": n, "image_id": n, "category_id": 1} | BOX for n in range(1, len(files) + 1)]
    write(root / name, {"images": images, "annotations": boxes, "categories": []})


def test_a_coco_list_without_a_split_takes_those_of_folders(synth: Synth, tmp_path: Path) -> None:
    for place in ("train/a", "images/test/b"):
        frame(tmp_path / "set" / f"{place}.png")
    coco_json(tmp_path / "set", "annotations/instances_default.json", "train/a.png", "test/b.png")
    _, dataset = read_back(synth, tmp_path / "set", "coco")
    assert dataset.splits == {"train": ("a",), "test": ("b",)}


@pytest.mark.parametrize("names", [["train_test_1.json"], ["a_train.json", "train_test_1.json"]])
def test_a_coco_list_called_after_two_splits_is_refused(
    synth: Synth, tmp_path: Path, names: list[str]
) -> None:
    for number, name in enumerate(names):
        frame(tmp_path / f"set/images/{number}.png")
        coco_json(tmp_path / "set", name, f"{number}.png")
    refused(synth, tmp_path / "set", "coco", "train_test_1.json", "several splits (train, test)")


@pytest.mark.parametrize(
    "note",
    [
        {"bbox": [0.2, 0.25, 0.1, 0.1]},
        BOX | {"segmentation": [[0.2, 0.25, 0.3, 0.25, 0.3, 0.5]]},
    ],
)
def test_coco_shares_of_sides_are_no_pixels(
    synth: Synth, tmp_path: Path, note: dict[str, Any]
) -> None:
    coco(tmp_path / "set", [note])
    refused(synth, tmp_path / "set", "coco", "instances_train.json", "shares", "multiply")


def test_a_coco_set_of_one_pixel_in_the_corner_is_read(synth: Synth, tmp_path: Path) -> None:
    coco(tmp_path / "set", [{"bbox": [0, 0, 1, 1]}], {"width": 0, "height": 0})
    _, dataset = read_back(synth, tmp_path / "set", "coco")
    assert np.argwhere(dataset.read_mask("a")).tolist() == [[0, 0]]


def test_coco_finds_names_of_the_other_form_of_unicode(synth: Synth, tmp_path: Path) -> None:
    frame(tmp_path / "set/images/e\u0301.png")
    coco_json(tmp_path / "set", "annotations/instances_train.json", "\u00e9.png")
    _, dataset = read_back(synth, tmp_path / "set", "coco")
    assert dataset.ids("train") == ("\u00e9",)


def test_a_labelme_file_of_two_images_is_refused(synth: Synth, tmp_path: Path) -> None:
    frame(tmp_path / "set/b.png")
    labelme(tmp_path / "set", {}, imagePath="b.png")
    refused(synth, tmp_path / "set", "labelme", "a.json", "b.png", "a.png")


def test_yolo_lists_against_folders_are_refused(synth: Synth, tmp_path: Path) -> None:
    yolo(tmp_path / "set", "0 0.5 0.5 0.2 0.2\n")
    write(tmp_path / "set/val.txt", "./images/train/a.png\n")
    refused(synth, tmp_path / "set", "yolo", "val.txt", "a.png for val", "folder of train")


@pytest.mark.parametrize("name", ["ours.yaml", "set.yml"])
def test_a_yolo_description_has_any_name(synth: Synth, tmp_path: Path, name: str) -> None:
    for folder in "ab":
        frame(tmp_path / f"set/images/{folder}/{folder}.png")
        write(tmp_path / f"set/labels/{folder}/{folder}.txt", "0 0.5 0.5 0.2 0.2\n")
    write(tmp_path / "set" / name, "train: images/a\ntest: images/b\nnames: [t]\n")
    write(tmp_path / "set/hyp.yaml", "lr0: 0.1\n")
    _, dataset = read_back(synth, tmp_path / "set", "yolo")
    assert dataset.splits == {"train": ("a",), "test": ("b",)}
    write(tmp_path / "set/other.yaml", "train: images\nnames: [t]\n")
    shutil.rmtree(tmp_path / "out")
    refused(synth, tmp_path / "set", "yolo", "call the one data.yaml")


@pytest.mark.parametrize("name", ["yolo", "labelme", "npy"])
def test_lists_that_are_not_read_are_refused(synth: Synth, tmp_path: Path, name: str) -> None:
    root = tmp_path / "set"
    if name == "npy":
        npy(root, numbers(1))
    elif name == "yolo":
        yolo(root, "0 0.5 0.5 0.2 0.2\n")
    else:
        labelme(root)
    if name == "yolo":
        for file in ("images/train/a.png", "labels/train/a.txt"):
            (root / file).rename((root / file).parent.parent / Path(file).name)
            (root / file).parent.rmdir()
    write(root / "splits/test.txt", "0.png\n" if name == "npy" else "a.png\n")
    refused(synth, root, name, "splits/test.txt", "not read as a list")


def test_trainval_folders_of_arrays_are_for_training(synth: Synth, tmp_path: Path) -> None:
    npy(tmp_path / "set/trainval", numbers(1))
    _, dataset = read_back(synth, tmp_path / "set", "npy")
    assert dataset.ids("train") == ("0",)


def test_shares_of_the_sides_are_refused_where_pixels_are_wanted(
    synth: Synth, tmp_path: Path
) -> None:
    labelme(tmp_path / "l" / "set", {"points": [[0.1, 0.2], [0.3, 0.4]]})
    refused(synth, tmp_path / "l" / "set", "labelme", "a.json", "shares of the image's sides")
    voc(tmp_path / "v" / "set", xml=box_xml(0.1, 0.2, 0.3, 0.4))
    refused(synth, tmp_path / "v" / "set", "voc", "a.xml", "shares of the image's sides")


@pytest.mark.parametrize(
    ("note", "words"),
    [
        ({"bbox": [14, 5, 17, 8], "area": 9}, "as two corners"),
        (BOX | {"segmentation": {"size": [20, 30], "counts": [154, 3, 27, 3, 413]}}, "columns"),
        ({"bbox": [4, 5, 14, 15], "segmentation": [[4, 5, 14, 5, 14, 15, 4, 15]]}, None),
    ],
)
def test_coco_boxes_that_contradict_their_pixels_are_refused(
    synth: Synth, tmp_path: Path, note: dict[str, Any], words: str | None
) -> None:
    coco(tmp_path / "set", [note])
    refused(synth, tmp_path / "set", "coco", "instances_train.json", words or "has the bbox")


def test_a_coco_name_in_several_folders_is_refused(synth: Synth, tmp_path: Path) -> None:
    coco(tmp_path / "set", [BOX])
    frame(tmp_path / "set" / "validation" / "a.png")
    refused(synth, tmp_path / "set", "coco", "images/a.png", "validation/a.png")


def test_a_folder_called_as_a_split_counts_more_than_a_word(synth: Synth, tmp_path: Path) -> None:
    labelme(tmp_path / "set" / "my_test_flight" / "train")
    labelme(tmp_path / "set" / "my_test_flight" / "val")
    _, dataset = read_back(synth, tmp_path / "set", "labelme")
    assert {split: len(ids) for split, ids in dataset.splits.items() if ids} == {
        "train": 1,
        "val": 1,
    }


@pytest.mark.parametrize("folder", ["train_test", "train/test"])
def test_folders_that_tell_several_splits_are_refused(
    synth: Synth, tmp_path: Path, folder: str
) -> None:
    labelme(tmp_path / "set" / folder)
    refused(synth, tmp_path / "set", "labelme", "several splits (test, train)")


def test_yolo_images_that_a_partial_list_leaves_out_are_counted(
    synth: Synth, tmp_path: Path
) -> None:
    yolo(tmp_path / "set", "0 0.5 0.5 0.1 0.1\n")
    frame(tmp_path / "set" / "images" / "train" / "b.png")
    write(tmp_path / "set" / "data.yaml", {"names": ["t"], "train": "some.txt"})
    write(tmp_path / "set" / "some.txt", "./images/train/a.png\n")
    told, dataset = read_back(synth, tmp_path / "set", "yolo")
    assert dataset.ids("all") == ("a",)
    assert told["notes"] == {"unlisted": 1}


def test_empty_yolo_labels_beside_filled_ones_are_refused(synth: Synth, tmp_path: Path) -> None:
    yolo(tmp_path / "set", "")
    write(tmp_path / "set" / "labels_seg" / "train" / "a.txt", "0 0.5 0.5 0.1 0.1\n")
    refused(synth, tmp_path / "set", "yolo", "labels_seg")
