"""Export and import: what goes out comes back, whole, once, and from nowhere else."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image
from pycocotools.coco import COCO
from small_sets import Outcome, SmallSet

from pipelines.build.parallel import Pool
from pipelines.export import export_dataset, import_dataset
from pipelines.formats import FORMATS, WRITTEN
from synth.dataset import open_dataset
from synth.disk.png import encode_png
from synth.disk.verify import verify
from synth.targets import find_targets, label_targets

Synth = Callable[..., Outcome]
Tree = Callable[[Path], dict[str, bytes]]
EXACT = [name for name in WRITTEN if name != "yolo"]
written_format = pytest.mark.parametrize("name", list(WRITTEN))
every_format = pytest.mark.parametrize("name", list(FORMATS))


@pytest.fixture
def odd_set(make_set: Callable[..., SmallSet]) -> SmallSet:
    """Odd names, sizes and types: 16 bits, TIFF, colour, a {0, 1} mask, one without targets."""
    made = make_set("odd", train=4, test=2, shapes=((48, 64), (60, 61)), dtype=np.uint16)
    renamed = {"001": "frame.v2 (1)", "002": "größe%2E", "005": "005"}
    for old, new in renamed.items():
        made.image(old).rename(made.image(new))
        made.mask(old).rename(made.mask(new))
    train = [renamed.get(id_, id_) for id_ in made.train]
    made.write_lists(train, made.test)
    frame = cv2.imread(str(made.image("003")), -1)
    made.image("003").unlink()
    cv2.imwrite(str(made.image("003").with_suffix(".tif")), frame)
    rng = np.random.default_rng(0)
    made.image("004").unlink()
    cv2.imwrite(
        str(made.image("004").with_suffix(".bmp")),
        rng.integers(0, 255, (60, 61, 3)).astype("uint8"),
    )
    cv2.imwrite(str(made.mask("004")), np.eye(60, 61, dtype=np.uint8))
    cv2.imwrite(str(made.mask("005")), np.zeros((48, 64), np.uint8))
    return SmallSet(made.root, train, made.test)


def same_sets(first: Path, second: Path) -> None:
    """Ids, image files and masks are the same."""
    here, there = open_dataset(first), open_dataset(second)
    assert {split: set(ids) for split, ids in here.splits.items()} == {
        split: set(ids) for split, ids in there.splits.items()
    }
    for id_ in here.ids("all"):
        assert here.image_path(id_).read_bytes() == there.image_path(id_).read_bytes()
        assert here.image_path(id_).suffix == there.image_path(id_).suffix
        np.testing.assert_array_equal(here.read_mask(id_), there.read_mask(id_))


def both_ways(synth: Synth, source: Path, name: str, place: Path) -> tuple[Path, Path]:
    away, back = place / "away", place / "back"
    for arguments in (
        ("export", source, "--format", name, "--out", away),
        ("import", away, "--format", name, "--out", back),
    ):
        outcome = synth(*arguments, "--jobs", 1)
        assert outcome.status == 0, outcome.err
    return away, back


@pytest.mark.parametrize("name", EXACT)
def test_what_goes_out_comes_back(
    synth: Synth, odd_set: SmallSet, tmp_path: Path, name: str
) -> None:
    away, back = both_ways(synth, odd_set.root, name, tmp_path)
    same_sets(odd_set.root, back)
    for folder in (away, back):
        assert [problem for _, _, problem in verify(folder, 1) if problem] == []
        assert synth("verify", folder).status == 0
        card = (folder / "README.md").read_text()
        assert "| train | 4 |" in card
        assert "Licence" in card


@given(
    st.lists(
        array_shapes(min_dims=2, max_dims=2, max_side=14).flatmap(
            lambda shape: arrays(np.bool_, shape)
        ),
        min_size=1,
        max_size=3,
    ),
    st.sampled_from(EXACT),
)
@settings(max_examples=40, deadline=None)
def test_any_masks_come_back(
    tmp_path_factory: pytest.TempPathFactory, masks: list[np.ndarray], name: str
) -> None:
    root = tmp_path_factory.mktemp("any")
    for folder in ("images", "masks"):
        (root / "set" / folder).mkdir(parents=True)
    for number, mask in enumerate(masks):
        frame = np.full(mask.shape, number, np.uint8)
        (root / "set" / "images" / f"{number}.png").write_bytes(encode_png(frame))
        (root / "set" / "masks" / f"{number}.png").write_bytes(encode_png(mask))
    result = export_dataset(open_dataset(root / "set"), name, root / "away", Pool(1))
    assert result.mask_iou == 1
    import_dataset(root / "away", name, root / "back", Pool(1))
    same_sets(root / "set", root / "back")
    shutil.rmtree(root)


def test_boxes_lose_what_is_said(
    synth: Synth, make_set: Callable[..., SmallSet], tmp_path: Path
) -> None:
    made = make_set(train=1, test=0)
    disc = np.hypot(*np.mgrid[-20:28, -30:34]) < 5
    cv2.imwrite(str(made.mask("001")), disc.astype(np.uint8) * 255)
    outcome = synth("export", made.root, "--format", "yolo", "--out", tmp_path / "a", "--json")
    # A disc of radius 5 in a box of 9 by 9.
    assert json.loads(outcome.out)["mask_iou"] == np.count_nonzero(disc) / 81
    assert synth("import", tmp_path / "a", "--format", "yolo", "--out", tmp_path / "b").status == 0
    boxes = open_dataset(tmp_path / "b").read_mask("001")
    assert [target.box for target in find_targets(boxes)] == [(16, 26, 25, 35)]
    assert np.count_nonzero(boxes) == 81


def test_coco_opens_in_its_own_tools(synth: Synth, odd_set: SmallSet, tmp_path: Path) -> None:
    away, _ = both_ways(synth, odd_set.root, "coco", tmp_path)
    dataset = open_dataset(odd_set.root)
    numbers: set[int] = set()
    for split in ("train", "test"):
        with redirect_stdout(io.StringIO()):
            tool = COCO(str(away / "annotations" / f"instances_{split}.json"))
        assert [cat["name"] for cat in tool.loadCats(tool.getCatIds())] == ["target"]
        images = tool.loadImgs(tool.getImgIds())
        assert [Path(image["file_name"]).stem for image in images] == list(dataset.ids(split))
        for image in images:
            assert (away / split / image["file_name"]).is_file()
            mask = dataset.read_mask(Path(image["file_name"]).stem)
            assert (image["height"], image["width"]) == mask.shape
            annotations = tool.loadAnns(tool.getAnnIds(imgIds=image["id"]))
            _, labels = label_targets(mask)
            for target, found in zip(find_targets(mask), annotations, strict=True):
                top, left, bottom, right = target.box
                assert found["bbox"] == [left, top, right - left, bottom - top]
                assert found["area"] == target.area
                np.testing.assert_array_equal(tool.annToMask(found), labels == target.index + 1)
            numbers |= {annotation["id"] for annotation in annotations}
    count = sum(len(find_targets(dataset.read_mask(id_))) for id_ in dataset.ids("all"))
    assert numbers == set(range(1, count + 1))


def test_yolo_lies_where_its_tools_look(synth: Synth, small_set: SmallSet, tmp_path: Path) -> None:
    away, _ = both_ways(synth, small_set.root, "yolo-seg", tmp_path)
    data = yaml.safe_load((away / "data.yaml").read_text())
    # Nobody is led to choose a model by the test split.
    assert data == {
        "train": "images/train",
        "val": "images/train",
        "test": "images/test",
        "names": {0: "target"},
    }
    for split, ids in (("train", small_set.train), ("test", small_set.test)):
        for id_ in ids:
            assert (away / data[split] / f"{id_}.png").is_file()
            lines = (away / f"labels/{split}/{id_}.txt").read_text().splitlines()
            mask = open_dataset(small_set.root).read_mask(id_)
            for line, target in zip(lines, find_targets(mask), strict=True):
                kind, *values = line.split()
                points = np.array(values, float).reshape(-1, 2)
                assert kind == "0"
                assert ((points >= 0) & (points <= 1)).all()
                top, left, bottom, right = target.box
                # The box that a client takes from an outline, within 0.6 pixels of the target's.
                first, last = points.min(axis=0) * (64, 48), points.max(axis=0) * (64, 48)
                np.testing.assert_allclose(first, (left, top), atol=0.06)
                np.testing.assert_allclose(last, (right, bottom), atol=0.56)
                assert (last > first).all()


def test_voc_numbers_its_targets(synth: Synth, odd_set: SmallSet, tmp_path: Path) -> None:
    away, _ = both_ways(synth, odd_set.root, "voc", tmp_path)
    dataset = open_dataset(odd_set.root)
    for id_ in dataset.ids("all"):
        mask = dataset.read_mask(id_)
        _, labels = label_targets(mask)
        with Image.open(away / "SegmentationObject" / f"{id_}.png") as picture:
            assert picture.mode == "P"
            np.testing.assert_array_equal(np.array(picture), labels)
            # The first colours of VOC.
            assert picture.getpalette()[:12] == [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]
        with Image.open(away / "SegmentationClass" / f"{id_}.png") as picture:
            np.testing.assert_array_equal(np.array(picture), mask)
        tree = ElementTree.parse(away / "Annotations" / f"{id_}.xml")
        assert tree.findtext("filename") == dataset.image_path(id_).name
        boxes = [
            tuple(int(box.findtext(key) or -1) for key in ("ymin", "xmin", "ymax", "xmax"))
            for box in tree.iter("bndbox")
        ]
        assert boxes == [(t.box[0] + 1, t.box[1] + 1, *t.box[2:]) for t in find_targets(mask)]
    for task in ("Main", "Segmentation"):
        listed = (away / "ImageSets" / task / "train.txt").read_text().splitlines()
        assert listed == odd_set.train


def test_voc_without_masks_is_read_from_its_boxes(
    synth: Synth, small_set: SmallSet, tmp_path: Path
) -> None:
    away, _ = both_ways(synth, small_set.root, "voc", tmp_path)
    for folder in ("SegmentationObject", "SegmentationClass"):
        shutil.rmtree(away / folder)
    assert synth("import", away, "--format", "voc", "--out", tmp_path / "boxes").status == 0
    # The targets of the small set are squares, single or joined; so are nearly all of their boxes.
    mask = open_dataset(small_set.root).read_mask("001")
    again = open_dataset(tmp_path / "boxes").read_mask("001")
    assert [t.box for t in find_targets(mask)] == [t.box for t in find_targets(again)]


@pytest.mark.parametrize(("size", "shards"), [(1, 6), (3, 3), (4, 2), (100, 2)])
def test_shards_hold_so_many_samples(
    synth: Synth, odd_set: SmallSet, tmp_path: Path, size: int, shards: int
) -> None:
    out = tmp_path / "out"
    arguments = ("export", odd_set.root, "--format", "webdataset", "--out", out)
    assert synth(*arguments, "--shard-size", size).status == 0
    files = sorted(out.glob("*.tar"))
    assert len(files) == shards
    ids = []
    for file in files:
        with tarfile.open(file, "r:") as shard:
            members = shard.getmembers()
            for member in members:
                assert (member.mtime, member.uid, member.gid) == (0, 0, 0)
                assert (member.uname, member.gname, member.mode) == ("", "", 0o644)
            # The key ends at the first dot, as WebDataset has it.
            keys = [member.name.split(".", 1)[0] for member in members]
            assert len(set(keys)) * 3 == len(keys)
            for member in members:
                if member.name.endswith(".json"):
                    stream = shard.extractfile(member)
                    assert stream is not None
                    ids.append(json.loads(stream.read())["id"])
    assert sorted(ids) == sorted([*odd_set.train, *odd_set.test])


def test_imagefolder_rows_name_their_files(synth: Synth, odd_set: SmallSet, tmp_path: Path) -> None:
    away, _ = both_ways(synth, odd_set.root, "imagefolder", tmp_path)
    for split, ids in (("train", odd_set.train), ("test", odd_set.test)):
        text = (away / split / "metadata.jsonl").read_text()
        rows = [json.loads(line) for line in text.splitlines()]
        assert [row["id"] for row in rows] == ids
        for row in rows:
            assert (away / split / row["file_name"]).is_file()
            assert (away / split / row["mask_file_name"]).is_file()
            assert len(row["objects"]["bbox"]) == len(row["objects"]["categories"])


@written_format
def test_an_export_is_the_same_however_it_went(
    odd_set: SmallSet, tmp_path: Path, tree: Tree, name: str
) -> None:
    dataset = open_dataset(odd_set.root)
    export_dataset(dataset, name, tmp_path / "once", Pool(1), shard_size=2)
    export_dataset(dataset, name, tmp_path / "two", Pool(2), shard_size=2)
    assert tree(tmp_path / "once") == tree(tmp_path / "two")

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "write" and done == 2:
            raise KeyboardInterrupt

    out = tmp_path / "torn"
    with pytest.raises(KeyboardInterrupt):
        export_dataset(dataset, name, out, Pool(1), shard_size=2, progress=stop)
    assert not out.exists()
    result = export_dataset(dataset, name, out, Pool(1), shard_size=2)
    assert 0 < result.made < result.counts["outputs"]
    assert tree(out) == tree(tmp_path / "once")
    assert export_dataset(dataset, name, out, Pool(1), shard_size=2).made == 0
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_an_import_is_the_same_however_it_went(
    odd_set: SmallSet, tmp_path: Path, tree: Tree
) -> None:
    export_dataset(open_dataset(odd_set.root), "coco", tmp_path / "away", Pool(1))
    import_dataset(tmp_path / "away", "coco", tmp_path / "one" / "set", Pool(1))

    def stop(stage: str, done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    out = tmp_path / "two" / "set"
    with pytest.raises(KeyboardInterrupt):
        import_dataset(tmp_path / "away", "coco", out, Pool(1), progress=stop)
    assert not out.exists()
    result = import_dataset(tmp_path / "away", "coco", out, Pool(1))
    assert result.made == 4
    assert tree(out) == tree(tmp_path / "one" / "set")
    again = import_dataset(tmp_path / "away", "coco", out, Pool(1))
    assert (again.made, again.targets) == (0, result.targets)


@written_format
def test_a_place_that_is_taken_is_left(
    synth: Synth, small_set: SmallSet, tmp_path: Path, tree: Tree, name: str
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").touch()
    before = tree(tmp_path)
    for command, source in (("export", small_set.root), ("import", small_set.root)):
        outcome = synth(command, source, "--format", name, "--out", tmp_path / "out")
        assert_one_line(outcome, f"{tmp_path / 'out'}: is a folder with other files")
        outcome = synth(command, source, "--format", name, "--out", small_set.root / "out")
        assert_one_line(outcome, f"{small_set.root / 'out'}: lies in")
    assert tree(tmp_path) == before


def test_an_export_of_another_set_is_not_written_over(
    synth: Synth, small_set: SmallSet, tmp_path: Path
) -> None:
    arguments = ("export", small_set.root, "--out", tmp_path / "out", "--format")
    assert synth(*arguments, "coco").status == 0
    assert_one_line(synth(*arguments, "voc"), "format is 'coco' there and 'voc' here")
    cv2.imwrite(str(small_set.mask("001")), np.zeros((48, 64), np.uint8))
    assert_one_line(synth(*arguments, "coco"), "the source's images, masks or splits")
    (tmp_path / "out" / "train" / "001.png").unlink()
    assert_one_line(synth("verify", tmp_path / "out"), "train/001.png: is missing")


@every_format
def test_an_empty_folder_is_no_set_of_any_format(synth: Synth, tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    for folder in ("empty", "absent"):
        outcome = synth("import", tmp_path / folder, "--format", name, "--out", tmp_path / "out")
        assert_one_line(outcome, str(tmp_path / folder))
    assert not (tmp_path / "out").exists()


def assert_one_line(outcome: Outcome, *words: str, status: int = 1) -> None:
    assert outcome.status == status, outcome
    assert outcome.out == ""
    assert outcome.err.count("\n") == 1
    for word in words:
        assert word in outcome.err


def change_coco(away: Path, change: Callable[[dict[str, Any]], None]) -> None:
    file = away / "annotations" / "instances_train.json"
    whole = json.loads(file.read_bytes())
    change(whole)
    file.write_text(json.dumps(whole))


def lead_out(whole: dict[str, Any]) -> None:
    whole["images"][0]["file_name"] = "../../secret.png"


def lead_to_the_root(whole: dict[str, Any]) -> None:
    whole["images"][0]["file_name"] = "/etc/passwd"


def be_large(whole: dict[str, Any]) -> None:
    whole["annotations"][0]["segmentation"] = {"size": [10**6, 10**6], "counts": [10**12]}


def be_long(whole: dict[str, Any]) -> None:
    whole["annotations"][0]["segmentation"]["counts"] = [48 * 64 + 1]


def be_text(whole: dict[str, Any]) -> None:
    whole["annotations"][0] = "text"


def be_nothing(whole: dict[str, Any]) -> None:
    del whole["images"]


def twice(whole: dict[str, Any]) -> None:
    whole["images"].append(whole["images"][0])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lead_out, "../../secret.png"),
        (lead_to_the_root, "/etc/passwd"),
        (be_large, "is not the image's"),
        (be_long, "do not make up 48x64"),
        (be_text, "'image_id'"),
        (be_nothing, "'images'"),
        (twice, "lists image 1 twice"),
    ],
)
def test_a_coco_file_that_is_wrong_is_told(
    synth: Synth,
    small_set: SmallSet,
    tmp_path: Path,
    change: Callable[[dict[str, Any]], None],
    words: str,
) -> None:
    (tmp_path / "secret.png").write_bytes(small_set.image("001").read_bytes())
    away = tmp_path / "new" / "away"
    export_dataset(open_dataset(small_set.root), "coco", away, Pool(1))
    change_coco(away, change)
    outcome = synth("import", away, "--format", "coco", "--out", tmp_path / "out")
    assert_one_line(outcome, words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", [name for name in WRITTEN if name != "webdataset"])
def test_links_are_not_followed(
    synth: Synth, small_set: SmallSet, tmp_path: Path, name: str
) -> None:
    away = tmp_path / "away"
    export_dataset(open_dataset(small_set.root), name, away, Pool(1))
    picture = next(away.rglob("001.png"))
    picture.rename(tmp_path / "elsewhere.png")
    picture.symlink_to(tmp_path / "elsewhere.png")
    outcome = synth("import", away, "--format", name, "--out", tmp_path / "out")
    assert_one_line(outcome, "001.png", "is a link")
    assert not (tmp_path / "out").exists()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type = kind
    made.linkname = link
    return made


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (member("../a.png"), "leads out"),
        (member("/a.png"), "leads out"),
        (member("b/../../a.png"), "leads out"),
        (member("a.png", tarfile.SYMTYPE, "/etc/passwd"), "no plain file"),
        (member("a.png", tarfile.LNKTYPE, "001.png"), "no plain file"),
        (member("a.png", tarfile.CHRTYPE), "no plain file"),
        (member("a.png"), "has not one image and one mask.png"),
        (member("001.png"), "twice"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_shard_with_more_than_samples_is_refused(
    synth: Synth, small_set: SmallSet, tmp_path: Path, bad: tarfile.TarInfo, words: str
) -> None:
    away = tmp_path / "away"
    export_dataset(open_dataset(small_set.root), "webdataset", away, Pool(1))
    with tarfile.open(away / "train-000000.tar", "a") as shard:
        shard.addfile(bad)
    outcome = synth("import", away, "--format", "webdataset", "--out", tmp_path / "out")
    assert_one_line(outcome, words)
    assert not (tmp_path / "out").exists()


def test_a_torn_shard_is_told(synth: Synth, small_set: SmallSet, tmp_path: Path) -> None:
    away = tmp_path / "away"
    export_dataset(open_dataset(small_set.root), "webdataset", away, Pool(1))
    shard = away / "train-000000.tar"
    data = shard.read_bytes()
    for length in (0, 100, 1000, len(data) // 2):
        shard.write_bytes(data[:length])
        outcome = synth("import", away, "--format", "webdataset", "--out", tmp_path / "out")
        assert_one_line(outcome, "train-000000.tar")


def test_an_annotation_that_grows_without_end_is_refused(
    synth: Synth, small_set: SmallSet, tmp_path: Path
) -> None:
    away = tmp_path / "away"
    export_dataset(open_dataset(small_set.root), "voc", away, Pool(1))
    for folder in ("SegmentationObject", "SegmentationClass"):
        shutil.rmtree(away / folder)
    text = '<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;">]><annotation>&c;</annotation>'
    (away / "Annotations" / "001.xml").write_text(text)
    outcome = synth("import", away, "--format", "voc", "--out", tmp_path / "out")
    assert_one_line(outcome, "001.xml", "declares a document type")


def test_shard_sizes_are_for_shards(synth: Synth, small_set: SmallSet, tmp_path: Path) -> None:
    outcome = synth(
        "export", small_set.root, "--format", "coco", "--shard-size", 3, "--out", tmp_path / "o"
    )
    assert_one_line(outcome, "--shard-size is for webdataset", status=2)


def test_coco_of_other_tools_is_read(synth: Synth, tmp_path: Path) -> None:
    # Roboflow's layout, a polygon, uncompressed run lengths, and an annotation without a mask.
    for split in ("train", "valid"):
        (tmp_path / "set" / split).mkdir(parents=True)
        frame = np.full((10, 12), 9, np.uint8)
        (tmp_path / "set" / split / f"{split}.png").write_bytes(encode_png(frame))
    square = {"id": 1, "image_id": 7, "category_id": 3, "bbox": [2, 3, 4, 2]}
    polygon = square | {"id": 2, "bbox": [8, 1, 3, 2], "segmentation": [[8, 1, 11, 1, 11, 3, 8, 3]]}
    runs = square | {
        "id": 3,
        "bbox": [0, 9, 1, 1],
        "segmentation": {"size": [10, 12], "counts": [9, 1, 110]},
    }
    for split, notes in (("train", [square, polygon, runs]), ("valid", [])):
        image = {"id": 7, "file_name": f"{split}.png", "width": 12, "height": 10}
        whole = {"images": [image], "annotations": notes, "categories": [{"id": 3}]}
        (tmp_path / "set" / split / "_annotations.coco.json").write_text(json.dumps(whole))
    out = tmp_path / "out"
    assert synth("import", tmp_path / "set", "--format", "coco", "--out", out).status == 0
    dataset = open_dataset(out)
    assert dataset.splits == {"train": ("train",), "val": ("valid",), "test": ()}
    wanted = np.zeros((10, 12), bool)
    wanted[3:5, 2:6] = wanted[1:3, 8:11] = wanted[9, 0] = True
    np.testing.assert_array_equal(dataset.read_mask("train"), wanted)
    assert not dataset.read_mask("valid").any()


@pytest.mark.parametrize("layout", ["images/{}", "{}/images"])
def test_yolo_of_other_tools_is_read(synth: Synth, tmp_path: Path, layout: str) -> None:
    root = tmp_path / "set"
    for folder in (layout.format("train"), layout.format("valid")):
        labels = folder.replace("images", "labels")
        (root / folder).mkdir(parents=True)
        (root / labels).mkdir(parents=True)
        name = folder.replace("/", "")
        (root / folder / f"{name}.png").write_bytes(encode_png(np.zeros((8, 8), np.uint8)))
    # Contours as OpenCV finds them, through the middles of the border's pixels.
    label = root / layout.format("train").replace("images", "labels")
    name = layout.format("train").replace("/", "")
    (label / f"{name}.txt").write_text(
        "0 0.25 0.25 0.5 0.25 0.5 0.375 0.25 0.375\n\n0 .9 .9 .2 .2\n"
    )
    out = tmp_path / "out"
    assert synth("import", root, "--format", "yolo", "--out", out).status == 0
    dataset = open_dataset(out)
    assert [len(dataset.ids(split)) for split in ("train", "val", "test")] == [1, 1, 0]
    wanted = np.zeros((8, 8), bool)
    wanted[2:4, 2:5] = wanted[6:, 6:] = True
    np.testing.assert_array_equal(dataset.read_mask(name), wanted)
    (label / f"{name}.txt").write_text("0 nan 1 1 1\n")
    outcome = synth("import", root, "--format", "yolo", "--out", tmp_path / "other")
    assert_one_line(outcome, f"{name}.txt", "line 1")


def test_a_full_disk_is_told_and_left_empty(
    synth: Synth, small_set: SmallSet, mount_tmpfs: Callable[[str], Path]
) -> None:
    disk = mount_tmpfs("size=16k")
    for name in WRITTEN:
        outcome = synth("export", small_set.root, "--format", name, "--out", disk / "new" / "out")
        assert_one_line(outcome, str(disk), "No space left on device")
        assert list(disk.iterdir()) == []
