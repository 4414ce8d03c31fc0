"""Where a set's images, masks and splits are: read right, or refused by name with a way out."""

from __future__ import annotations

import json
import unicodedata
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import pytest
from layout_cases import PICTURE, make_case
from small_sets import Outcome, SmallSet

from synth.dataset import Dataset, is_labelled, open_dataset
from synth.disk.folders import find_frames
from synth.disk.layout import file_id
from synth.disk.looseset import open_loosely
from synth.errors import DatasetError, FrameError, SkippedWarning
from synth.frames import SUFFIXES

Synth = Callable[..., Outcome]

# What a person can do about it.
WAYS_OUT = (
    "give",
    "move",
    "remove",
    "rename",
    "add",
    "save",
    "correct",
    "put",
    "keep",
    "list",
    "have their own",
    "write its id",
    "synth import",
    "call",
)


def write(root: Path, *names: str) -> Path:
    """Make pictures, and files of other suffixes without anything in them."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        picture = Path(name).suffix.lower() in SUFFIXES
        (root / name).write_bytes(PICTURE if picture else b"")
    return root


def pairs(root: Path, folder: str, *names: str) -> Path:
    """Make files in ``images`` and ``masks`` of a folder of the set."""
    for side in ("images", "masks"):
        write(root / folder / side, *names)
    return root


def pairs_of(dataset: Dataset, ids: Iterable[str] | None = None) -> dict[Path, tuple[str, Path]]:
    """Split and mask of each image that is in a split."""
    return {
        dataset.image_path(id_).resolve(): (split, dataset.mask_path(id_).resolve())
        for split, members in dataset.splits.items()
        for id_ in members
        if ids is None or id_ in ids
    }


def refusal(root: Path) -> str:
    """The words of the error, which both ways of opening a set give."""
    with pytest.raises(DatasetError) as error:
        open_dataset(root)
    assert str(root) in str(error.value)
    assert any(way in str(error.value) for way in WAYS_OUT)
    return str(error.value)


def agree(seed: int, place: Path) -> bool:
    """Whether a random layout is read; a wrong reading fails."""
    case = make_case(place, seed)
    dataset, error = None, None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SkippedWarning)
        try:
            dataset = open_dataset(case.root)
        except DatasetError as raised:
            error = str(raised)
    if error is not None:
        assert case.faults, f"seed {seed}: {error}"
        assert str(case.root) in error
        assert any(way in error for way in WAYS_OUT), error
    if dataset is not None:
        assert not case.faults, f"seed {seed}: {case.faults} is read"
        assert pairs_of(dataset) == case.truth, f"seed {seed}"
        ids = {dataset.image_path(id_).resolve(): id_ for id_ in dataset.images}
        assert ids == case.ids, f"seed {seed}"
    loose = None
    with suppress(DatasetError):
        loose = open_loosely(case.root)
    if loose is None:
        assert case.faults, f"seed {seed} is refused"
        return dataset is not None
    # Of two files of one id, check tells which it takes.
    twice = {
        id_ for found in loose.problems if found.fault == "id of two files" for id_ in found.ids
    }
    read = pairs_of(loose.dataset, set(loose.dataset.images) - twice)
    assert read.items() <= case.truth.items(), f"seed {seed}"
    assert case.faults or read == case.truth, f"seed {seed}"
    return dataset is not None


@pytest.mark.parametrize("seed", range(40))
def test_a_random_layout_is_read_right_or_refused(tmp_path: Path, seed: int) -> None:
    agree(seed, tmp_path)


def count_pictures(root: Path) -> int:
    return sum(path.suffix.lower() in SUFFIXES for path in root.rglob("*"))


def test_a_few_random_layouts_have_100_files(tmp_path: Path) -> None:
    for seed in range(40):
        make_case(tmp_path / str(seed), seed)
    assert count_pictures(tmp_path) >= 100


@pytest.mark.slow
def test_many_random_layouts_are_read_right_or_refused(tmp_path: Path) -> None:
    read = [agree(seed, tmp_path / str(seed)) for seed in range(40, 540)]
    assert 300 < sum(read) < 400
    assert count_pictures(tmp_path) >= 2000


@pytest.mark.parametrize("names", [("train", "test"), ("Training", "TESTING"), ("TRAIN", "Test")])
@pytest.mark.parametrize("order", ["{0}/{1}/{2}", "{1}/{0}/{2}"])
@pytest.mark.parametrize("sides", [("images", "masks"), ("img", "gt"), ("Imgs", "Labels")])
def test_split_folders_are_the_splits(
    tmp_path: Path, names: tuple[str, str], order: str, sides: tuple[str, str]
) -> None:
    for split, file in zip(names, ("1.png", "2.png"), strict=True):
        write(tmp_path, *(order.format(split, side, file) for side in sides))
    dataset = open_dataset(tmp_path)
    assert dict(dataset.splits) == {"train": ("1",), "test": ("2",)}
    assert dataset.listed
    assert dataset.mask_path("2") == tmp_path / order.format(names[1], sides[1], "2.png")
    assert open_loosely(tmp_path).dataset == dataset


@pytest.mark.parametrize("name", ["val", "valid", "Validation"])
def test_a_validation_folder_is_a_split_of_its_own(tmp_path: Path, name: str) -> None:
    pairs(tmp_path, "train", "1.png")
    pairs(tmp_path, name, "2.png")
    assert dict(open_dataset(tmp_path).splits) == {"train": ("1",), "val": ("2",), "test": ()}


def test_equal_names_in_two_splits_have_the_split_in_front(tmp_path: Path) -> None:
    pairs(tmp_path, "train", "0001.png", "0002.png")
    pairs(tmp_path, "test", "0001.png")
    assert dict(open_dataset(tmp_path).splits) == {
        "train": ("train_0001", "train_0002"),
        "test": ("test_0001",),
    }


def test_a_test_split_alone_is_no_training_split(tmp_path: Path) -> None:
    pairs(tmp_path, "test", "1.png")
    for dataset in (open_dataset(tmp_path), open_loosely(tmp_path).dataset):
        assert dict(dataset.splits) == {"train": (), "test": ("1",)}


@pytest.mark.parametrize("parts", ["rec1", "day/rec1", "a/b/c"])
def test_folders_of_recordings_are_in_the_id(tmp_path: Path, parts: str) -> None:
    pairs(tmp_path, ".", f"{parts}/0001.png", "other/0001.png")
    id_ = parts.replace("/", "_") + "_0001"
    dataset = open_dataset(tmp_path)
    assert set(dataset.ids("train")) == {id_, "other_0001"}
    assert dataset.mask_path(id_) == tmp_path / "masks" / parts / "0001.png"
    assert file_id(tmp_path / "images" / parts / "0001.png", tmp_path / "images") == id_


def test_recordings_may_have_images_and_masks_once_more(tmp_path: Path) -> None:
    write(tmp_path, "images/rec1/images/1.png", "masks/rec1/masks/1.png")
    assert open_dataset(tmp_path).ids("train") == ("rec1_1",)


@pytest.mark.parametrize(
    "entry",
    ["rec1/0001", "rec1/0001.png", "images/rec1/0001.png", "./images/rec1/0001.png", "rec1_0001"],
)
def test_a_list_may_name_a_nested_image_in_every_way(tmp_path: Path, entry: str) -> None:
    pairs(tmp_path, ".", "rec1/0001.png", "rec2/0001.png")
    (tmp_path / "train.txt").write_text(f"{entry}\n")
    (tmp_path / "test.txt").write_text("rec2\\0001.png\n")
    for dataset in (open_dataset(tmp_path), open_loosely(tmp_path).dataset):
        assert dict(dataset.splits) == {"train": ("rec1_0001",), "test": ("rec2_0001",)}


def test_a_list_cannot_name_what_is_outside_of_the_set(tmp_path: Path) -> None:
    pairs(tmp_path / "set", ".", "rec1/1.png")
    pairs(tmp_path / "other", ".", "1.png")
    for entry in ("../other/images/1.png", str(tmp_path / "other/images/1.png")):
        (tmp_path / "set" / "train.txt").write_text(f"{entry}\n")
        assert "path of no image of the set" in refusal(tmp_path / "set")
        assert open_loosely(tmp_path / "set").dataset.ids("all") == ()


@pytest.mark.parametrize("entry", ["test/1.png", "masks/1.png", "test/images/1"])
def test_a_list_cannot_name_a_path_that_is_of_no_image(tmp_path: Path, entry: str) -> None:
    pairs(tmp_path, ".", "1.png", "rec1/2.png")
    (tmp_path / "train.txt").write_text(f"{entry}\n")
    assert "path of no image of the set" in refusal(tmp_path)


def test_a_list_of_a_split_cannot_name_a_path_in_another(tmp_path: Path) -> None:
    pairs(tmp_path, "train", "1.png")
    pairs(tmp_path, "test", "1.png")
    (tmp_path / "train.txt").write_text("test/images/1.png\n")
    assert "train.txt: " in refusal(tmp_path)
    (tmp_path / "train.txt").write_text("1\n")
    assert open_dataset(tmp_path).splits == {"train": ("train_1",), "test": ("test_1",)}


AMBIGUOUS = {
    "two folders of images": ["images/1.png", "imgs/1.png", "masks/1.png"],
    "two folders of masks": ["images/1.png", "masks/1.png", "gt/1.png"],
    "two cameras": [f"{c}/{s}/1.png" for c in ("cam1", "cam2") for s in ("images", "masks")],
    "a pair beside splits": [f"{c}/{s}/1.png" for c in (".", "train") for s in ("images", "masks")],
    "splits in one side": ["images/train/1.png", "masks/1.png"],
    "splits in the other side": ["images/1.png", "masks/train/1.png"],
    "pictures beside splits": [
        f"{s}/{n}" for s in ("images", "masks") for n in ("train/1.png", "2.png")
    ],
    "recordings beside splits": [
        f"{s}/{n}/1.png" for s in ("images", "masks") for n in ("train", "rec1")
    ],
    "splits below recordings": [
        f"{s}/rec1/{n}/1.png" for s in ("images", "masks") for n in ("train", "test")
    ],
    "two folders of a split": [
        f"{n}/{s}/1.png" for s in ("images", "masks") for n in ("val", "valid")
    ],
    "a split of recordings": [
        *(f"train/{s}/1.png" for s in ("images", "masks")),
        *(f"test/rec1/{s}/1.png" for s in ("images", "masks")),
    ],
    "a pair beside a pair": [f"{c}/{s}/1.png" for c in (".", "cam1") for s in ("images", "masks")],
    "another pair beside splits": [
        f"{c}/{s}/1.png" for c in ("train", "dev") for s in ("images", "masks")
    ],
    "splits of other names": [
        f"{s}/{n}/1.png" for s in ("images", "masks") for n in ("train2017", "val2017")
    ],
    "splits below another folder": [
        f"data/{n}/{s}/1.png" for s in ("images", "masks") for n in ("train", "TestHalf")
    ],
    "images of one, masks of the other": ["train/images/1.png", "test/masks/1.png"],
}


@pytest.mark.parametrize("layout", AMBIGUOUS)
def test_what_cannot_be_told_apart_is_refused_with_full_folders(
    tmp_path: Path, layout: str
) -> None:
    write(tmp_path, *AMBIGUOUS[layout])
    words = refusal(tmp_path)
    assert str(tmp_path / AMBIGUOUS[layout][0].split("/")[0]) in words or str(tmp_path) in words
    with pytest.raises(DatasetError, match="; "):
        open_loosely(tmp_path)


@pytest.mark.parametrize("layout", ["two cameras", "two folders of images", "two folders of masks"])
def test_all_folders_that_could_be_meant_are_named(tmp_path: Path, layout: str) -> None:
    write(tmp_path, *AMBIGUOUS[layout])
    words = refusal(tmp_path)
    for name in {
        "two cameras": ("cam1", "cam2"),
        "two folders of images": ("images", "imgs"),
        "two folders of masks": ("masks", "gt"),
    }[layout]:
        assert str(tmp_path / name) in words


def test_a_test_split_without_masks_is_named_and_left_out_of_a_repair(tmp_path: Path) -> None:
    pairs(tmp_path, "train", "1.png")
    write(tmp_path, "test/images/2.png")
    assert str(tmp_path / "test" / "images") in refusal(tmp_path)
    loose = open_loosely(tmp_path)
    assert dict(loose.dataset.splits) == {"train": ("1",), "test": ()}
    assert [p.fault for p in loose.problems] == ["image without mask"]


def test_a_folder_of_a_known_name_without_pictures_is_no_candidate(tmp_path: Path) -> None:
    pairs(tmp_path, ".", "1.png")
    write(tmp_path, "labels/1.txt", "img/notes.md", "train/notes.txt")
    assert open_dataset(tmp_path).mask_path("1") == tmp_path / "masks" / "1.png"


def test_images_and_masks_of_other_places_are_no_pair(tmp_path: Path) -> None:
    write(
        tmp_path, "images/rec1/1.png", "images/rec2/1.png", "masks/rec1/1.png", "masks/rec2_1.png"
    )
    assert "rec2/1.png: has no mask" in refusal(tmp_path)
    assert open_loosely(tmp_path).dataset.ids("all") == ("rec1_1",)


@pytest.mark.parametrize("names", [("test_images", "test_masks"), ("test", "test/gts")])
def test_a_folder_that_is_called_after_a_split_stays_that_split(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    write(tmp_path, f"{names[0]}/a.png", f"{names[1]}/a.png")
    try:
        splits = open_loosely(tmp_path).dataset.splits
    except DatasetError:
        return
    assert dict(splits) == {"train": (), "test": ("a",)}


def test_lists_that_agree_with_the_folders_give_the_order(tmp_path: Path) -> None:
    pairs(tmp_path, "train", "1.png", "2.png")
    pairs(tmp_path, "test", "3.png")
    (tmp_path / "train.txt").write_text("2.png\ntrain/images/1.png\n")
    assert dict(open_dataset(tmp_path).splits) == {"train": ("2", "1"), "test": ("3",)}


@pytest.mark.parametrize("text", ["1\n2\n3\n", "1\n", "3\n", ""])
@pytest.mark.parametrize("place", ["train.txt", "50_50/train.txt", "img_idx/train_x.txt"])
def test_lists_that_disagree_with_the_folders_are_named_with_them(
    tmp_path: Path, text: str, place: str
) -> None:
    pairs(tmp_path, "train", "1.png", "2.png")
    pairs(tmp_path, "test", "3.png")
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text(text)
    words = refusal(tmp_path)
    assert str(tmp_path / place) in words
    assert str(tmp_path / "train" / "images") in words or str(tmp_path / "test/images") in words
    assert dict(open_loosely(tmp_path).dataset.splits) == {"train": ("1", "2"), "test": ("3",)}


def test_trainval_is_both_folders(tmp_path: Path) -> None:
    for split, name in (("train", "1.png"), ("val", "2.png"), ("test", "3.png")):
        pairs(tmp_path, split, name)
    (tmp_path / "trainval.txt").write_text("2\n1\n")
    assert dict(open_dataset(tmp_path).splits) == {"train": ("1",), "val": ("2",), "test": ("3",)}


@pytest.mark.parametrize(
    ("train", "test"), [("Train.txt", "TEST.txt"), ("training.txt", "testing.txt")]
)
def test_lists_may_be_called_as_folders_of_splits_are(
    tmp_path: Path, train: str, test: str
) -> None:
    pairs(tmp_path, ".", "1.png", "2.png")
    (tmp_path / train).write_text("1\n")
    (tmp_path / test).write_text("2\n")
    assert dict(open_dataset(tmp_path).splits) == {"train": ("1",), "test": ("2",)}


def test_two_lists_of_one_split_are_refused(tmp_path: Path) -> None:
    pairs(tmp_path, ".", "1.png", "2.png")
    (tmp_path / "val.txt").write_text("1\n")
    (tmp_path / "valid.txt").write_text("2\n")
    words = refusal(tmp_path)
    assert "val.txt" in words
    assert "valid.txt" in words


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "gbk", "latin-1"])
def test_a_list_in_another_encoding_is_named_with_the_way_out(
    tmp_path: Path, encoding: str
) -> None:
    name = {"gbk": "红外目标", "latin-1": "Müller"}.get(encoding, "a")
    pairs(tmp_path, ".", f"{name}.png")
    (tmp_path / "train.txt").write_bytes(f"{name}\r\n".encode(encoding))
    assert "train.txt: is not UTF-8 text; save it as UTF-8" in refusal(tmp_path)
    assert [p.fault for p in open_loosely(tmp_path).problems] == ["unreadable list"]


@pytest.mark.parametrize("image", ["NFC", "NFD"])
@pytest.mark.parametrize("mask", ["NFC", "NFD"])
@pytest.mark.parametrize("entry", ["NFC", "NFD"])
def test_composed_and_decomposed_names_match(
    tmp_path: Path, image: str, mask: str, entry: str
) -> None:
    name = "Übung é"
    write(tmp_path, f"images/{unicodedata.normalize(image, name)}.png")
    write(tmp_path, f"masks/{unicodedata.normalize(mask, name)}.png")
    (tmp_path / "test.txt").write_text(unicodedata.normalize(entry, name))
    dataset = open_dataset(tmp_path)
    assert dataset.ids("test") == (unicodedata.normalize("NFC", name),)
    assert dataset.image_path(dataset.ids("test")[0]).exists()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (unicodedata.normalize("NFC", "é.png"), unicodedata.normalize("NFD", "é.png")),
        ("rec_1.png", "rec/1.png"),
        ("1.png", "1.bmp"),
    ],
)
def test_two_files_of_one_id_are_both_named(tmp_path: Path, first: str, second: str) -> None:
    pairs(tmp_path, ".", first)
    write(tmp_path, f"images/{second}", f"masks/{second}")
    words = refusal(tmp_path)
    assert Path(first).name in words
    assert Path(second).name in words
    assert "id of two files" in {p.fault for p in open_loosely(tmp_path).problems}


def test_what_operating_systems_leave_is_ignored(tmp_path: Path) -> None:
    pairs(tmp_path, ".", "1.png")
    for side in ("images", "masks"):
        write(
            tmp_path / side,
            *(".DS_Store", "._1.png", "Thumbs.db", "desktop.ini", "__MACOSX/._1.png"),
            *("@eaDir/1.png/SYNOPHOTO_THUMB_M.jpg", ".ipynb_checkpoints/1-checkpoint.png"),
        )
    write(tmp_path, "__MACOSX/images/1.png", "__MACOSX/masks/1.png")
    assert list(open_dataset(tmp_path).images) == ["1"]
    assert open_loosely(tmp_path).dataset == open_dataset(tmp_path)
    assert find_frames([tmp_path / "images"]) == [tmp_path / "images" / "1.png"]


# Links.


def test_links_to_folders_are_followed(tmp_path: Path) -> None:
    pairs(tmp_path / "other", ".", "1.png", "2.png")
    write(tmp_path / "frames", "own/0.png")
    (tmp_path / "frames" / "more").symlink_to(tmp_path / "other" / "images")
    found = [
        path.relative_to(tmp_path / "frames").as_posix()
        for path in find_frames([tmp_path / "frames"])
    ]
    assert found == ["more/1.png", "more/2.png", "own/0.png"]
    (tmp_path / "set").mkdir()
    for side in ("images", "masks"):
        (tmp_path / "set" / side).symlink_to(tmp_path / "other" / side)
    assert open_dataset(tmp_path / "set").ids("train") == ("1", "2")


@pytest.mark.parametrize(
    ("name", "target", "words"),
    [
        ("self", ".", "which it is in itself"),
        ("up", "..", "which it is in itself"),
        ("twin", "rec1", "it is read once"),
        ("gone", "nothing", "which is not there"),
        ("gone.png", "nothing.png", "which is not there"),
    ],
)
def test_a_link_that_is_skipped_is_named(
    tmp_path: Path, name: str, target: str, words: str
) -> None:
    write(tmp_path / "frames", "rec1/0.png")
    (tmp_path / "frames" / name).symlink_to(tmp_path / "frames" / target)
    with pytest.warns(SkippedWarning, match=words) as found:
        assert find_frames([tmp_path / "frames"]) == [tmp_path / "frames" / "rec1" / "0.png"]
    assert len(found) == 1
    assert str(tmp_path / "frames" / name) in str(found[0].message)


def test_a_skipped_link_is_one_note_of_a_command(
    tmp_path: Path, synth: Synth, small_set: SmallSet
) -> None:
    frames = small_set.root / "images"
    (frames / "again").symlink_to(frames)
    options = ("--patch", 8, "--max-var", 1000)
    outcome = synth("noise-sample", frames, "--out", tmp_path / "bank.npz", *options)
    assert outcome.status == 0
    assert [line for line in outcome.err.splitlines() if line.startswith("note: ")] == [
        f"note: {frames / 'again'}: is a link to {frames.resolve()}, which it is in itself; "
        "it is not followed"
    ]


def test_a_circle_of_links_below_a_set_is_a_warning(tmp_path: Path) -> None:
    pairs(tmp_path, ".", "rec1/1.png")
    (tmp_path / "images" / "rec1" / "back").symlink_to(tmp_path)
    with pytest.warns(SkippedWarning, match="back"):
        assert open_dataset(tmp_path).ids("train") == ("rec1_1",)
    assert {p.fault for p in open_loosely(tmp_path).problems} == {
        "folder linked twice",
        "no list of splits",
    }


@pytest.mark.parametrize("link", ["images/rec2", "masks"])
def test_a_broken_link_to_a_folder_is_an_error(tmp_path: Path, link: str) -> None:
    write(tmp_path, "images/rec1/1.png")
    if link != "masks":
        write(tmp_path, "masks/rec1/1.png")
    (tmp_path / link).symlink_to(tmp_path / "gone")
    assert f"{tmp_path / link}: is a link to {tmp_path / 'gone'}, which is not there" in refusal(
        tmp_path
    )
    assert "broken link" in {p.fault for p in open_loosely(tmp_path).problems}


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("masks", "images"),
        ("test", "train"),
        ("test/images", "train/images"),
        ("test/images/rec1", "train/images/rec1"),
    ],
)
def test_one_folder_is_never_two_things(tmp_path: Path, link: str, target: str) -> None:
    if link == "masks":
        write(tmp_path, "images/1.png")
    else:
        pairs(tmp_path, "train", "rec1/1.png")
        if link != "test":
            write(tmp_path, "test/masks/rec1/1.png")
    (tmp_path / link).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / link).symlink_to(tmp_path / target)
    assert "is the same folder as" in refusal(tmp_path)


def test_two_names_of_one_folder_of_images_are_one(tmp_path: Path) -> None:
    pairs(tmp_path, ".", "1.png")
    (tmp_path / "image").symlink_to(tmp_path / "images")
    assert open_dataset(tmp_path).image_path("1") == tmp_path / "images" / "1.png"


# Sets of other tools.

COCO = json.dumps({"images": [], "annotations": [], "categories": []})
LABELME = json.dumps({"version": "5", "shapes": [], "imagePath": "1.png"})
FOREIGN: dict[str, tuple[str, dict[str, str]]] = {
    "coco of FiftyOne": ("coco", {"data/1.png": "", "labels.json": COCO}),
    "coco of Label Studio": ("coco", {"images/1.png": "", "result.json": COCO}),
    "coco": ("coco", {"images/1.png": "", "annotations/instances_train.json": COCO}),
    "coco of Roboflow": ("coco", {"train/1.jpg": "", "train/_annotations.coco.json": COCO}),
    "labelme beside images": ("labelme", {"images/1.png": "", "images/1.json": LABELME}),
    "labelme in one folder": ("labelme", {"1.png": "", "1.json": LABELME}),
    "labelme in the masks": ("labelme", {"images/1.png": "", "masks/1.json": LABELME}),
    "yolo": (
        "yolo",
        {"images/train/1.png": "", "labels/train/1.txt": "0 0.5 0.5 0.1 0.1\n"},
    ),
    "yolo of Roboflow": (
        "yolo",
        {
            "train/images/1.png": "",
            "train/labels/1.txt": "0 0.5 0.5 0.1 0.1\n",
            "data.yaml": "train: ../train/images\nnc: 1\nnames: ['t']\n",
        },
    ),
    "yolo without boxes": (
        "yolo",
        {"images/1.png": "", "labels/1.txt": "", "data.yaml": "path: .\ntrain: images\nnames:\n"},
    ),
    "voc": ("voc", {"JPEGImages/1.jpg": "", "Annotations/1.xml": "<annotation></annotation>"}),
    "voc with masks": ("voc", {"JPEGImages/1.jpg": "", "SegmentationClass/1.png": ""}),
    "voc below a folder": (
        "voc",
        {"VOC2012/JPEGImages/1.jpg": "", "VOC2012/Annotations/1.xml": "<annotation>"},
    ),
    "imagefolder": ("imagefolder", {"train/1.png": "", "train/metadata.jsonl": "{}\n"}),
    "numpy masks": ("npy", {"images/1.png": "", "masks/1.npy": "\x93NUMPY"}),
    "webdataset": ("webdataset", {"train-000000.tar": "", "train-000001.tar": ""}),
    "VIA": ("", {"images/1.png": "", "via.json": '{"_via_settings": {}, "_via_img_metadata": {}}'}),
    "VIA regions": (
        "",
        {
            "images/1.png": "",
            "via_region_data.json": '{"1.png99": {"filename": "1.png", "regions": []}}',
        },
    ),
    "Label Studio": (
        "",
        {
            "images/1.png": "",
            "project.json": '[{"id": 1, "annotations": [{"result": []}], "data": {}}]',
        },
    ),
    "CVAT": (
        "",
        {"images/1.png": "", "annotations.xml": "<?xml version='1.0'?><annotations><version>"},
    ),
    "Supervisely": (
        "",
        {
            "meta.json": '{"classes": [], "projectType": "images"}',
            "ds/img/1.png": "",
            "ds/ann/1.png.json": '{"objects": []}',
        },
    ),
}


@pytest.mark.parametrize("tool", FOREIGN)
def test_a_set_of_another_tool_is_named_with_the_way_out(
    tmp_path: Path, synth: Synth, tool: str
) -> None:
    wanted, files = FOREIGN[tool]
    for name, text in files.items():
        write(tmp_path, name)
        if text:
            (tmp_path / name).write_text(text)
    words = refusal(tmp_path)
    place = tmp_path / "VOC2012" if "VOC2012" in str(files) else tmp_path
    if wanted:
        assert f"`synth import {place} --format {wanted} --out NEW`" in words
    else:
        assert tool.split()[0] in words
        assert "export it as COCO" in words
    outcome = synth("check", tmp_path)
    assert outcome.status == 1
    assert words in outcome.err


@pytest.mark.parametrize("tool", FOREIGN)
def test_a_sound_pair_of_folders_is_read_whatever_is_beside_it(tmp_path: Path, tool: str) -> None:
    pairs(tmp_path, ".", "a.png")
    for name, text in FOREIGN[tool][1].items():
        if not name.endswith((".png", ".jpg")):
            write(tmp_path, name)
            (tmp_path / name).write_text(text)
    assert open_dataset(tmp_path).ids("train") == ("a",)
    assert {p.fault for p in open_loosely(tmp_path).problems} == {"no list of splits"}


# What commands say.


def test_check_prints_the_folders_that_it_read(
    make_set: Callable[..., SmallSet], synth: Synth
) -> None:
    made = make_set()
    tree = made.root.parent / "tree"
    for split, ids in (("train", made.train), ("test", made.test)):
        for id_ in ids:
            for side, file in (("images", made.image(id_)), ("masks", made.mask(id_))):
                (tree / split / side).mkdir(parents=True, exist_ok=True)
                file.rename(tree / split / side / file.name)
    outcome = synth("check", tree)
    assert outcome.status == 0
    for split in ("train", "test"):
        line = (
            f"{split:6} images from {tree / split / 'images'}, masks from {tree / split / 'masks'}"
        )
        assert line in outcome.out.splitlines()
    folders = json.loads(synth("check", tree, "--json").out)["folders"]
    assert [row["split"] for row in folders] == ["train", "test"]
    copy = made.root.parent / "copy"
    assert synth("check", tree, "--fix", "--out", copy).status == 0
    assert dict(open_dataset(copy).splits) == dict(open_dataset(tree).splits)


def test_an_empty_training_list_is_named(small_set: SmallSet, tmp_path: Path, synth: Synth) -> None:
    small_set.write_lists([], small_set.test)
    config = tmp_path / "c.yaml"
    config.write_text(f"data: {small_set.root}\nnegatives: {{count: 0}}\n")
    outcome = synth("build", config, "--out", tmp_path / "out")
    assert outcome.status == 1
    assert f"{small_set.root / '50_50' / 'train.txt'}: is empty" in outcome.err


def test_a_folder_of_sets_is_not_taken_for_plain_frames(tmp_path: Path) -> None:
    write(tmp_path, *AMBIGUOUS["two cameras"])
    assert is_labelled(tmp_path)
    assert is_labelled(tmp_path / "cam1")
    assert not is_labelled(tmp_path / "cam1" / "images")


def test_a_folder_that_is_absent_is_no_frames(tmp_path: Path) -> None:
    with pytest.raises(FrameError, match="no such file or folder"):
        find_frames([tmp_path / "absent"])


UNREAD = {
    "train.csv": "a\nb\n",
    "test_names.txt": "c.png\n",
    "splits.json": '{"train": ["a", "b"], "test": ["c"]}',
    "meta.csv": "name,split\na,train\nb,train\nc,test\n",
    "splits/val.txt": "c\n",
    "ImageSets/Segmentation/test.txt": "c\n",
    "images/test.txt": "images/c.png masks/c.png\n",
    "folds/test_ids.lst": "rec\n",
}


@pytest.mark.parametrize("name", UNREAD)
def test_a_list_that_is_not_read_is_refused_where_all_would_be_training(
    tmp_path: Path, name: str
) -> None:
    pairs(tmp_path, "", "a.png", "b.png", "c.png", "rec/d.png")
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(UNREAD[name])
    assert str(tmp_path / name) in refusal(tmp_path)
    with pytest.raises(DatasetError, match="not read as a list"):
        open_loosely(tmp_path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("README.txt", "Frames of a flight.\nThe test was in May.\na\nSee there.\n"),
        ("train_log.txt", "epoch 1\nepoch 2\n"),
        ("names.txt", "a\nb\n"),
        ("info.json", '{"camera": "a", "date": "May"}'),
        ("train_all.csv", "a\nb\n"),
    ],
)
def test_other_texts_do_not_stop_a_set_without_lists(tmp_path: Path, name: str, text: str) -> None:
    pairs(tmp_path, "", "a.png", "b.png")
    (tmp_path / name).write_text(text)
    assert open_dataset(tmp_path).splits["train"] == ("a", "b")


def test_images_that_are_all_called_as_splits_need_lists(tmp_path: Path) -> None:
    pairs(tmp_path, "", "train_1.png", "test_1.png")
    assert "test_1.png" in refusal(tmp_path)
    (tmp_path / "train.txt").write_text("train_1\n")
    (tmp_path / "test.txt").write_text("test_1\n")
    assert open_dataset(tmp_path).splits == {"train": ("train_1",), "test": ("test_1",)}


def test_trainval_folders_are_for_training(tmp_path: Path) -> None:
    pairs(tmp_path, "trainval", "1.png")
    pairs(tmp_path, "test", "2.png")
    assert open_dataset(tmp_path).splits == {"train": ("1",), "test": ("2",)}
    pairs(tmp_path, "val", "3.png")
    assert str(tmp_path / "trainval") in refusal(tmp_path)


def test_folders_of_mmsegmentation_are_known(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write(tmp_path, f"img_dir/{split}/1.png", f"ann_dir/{split}/1.png")
    assert open_dataset(tmp_path).splits["val"] == ("val_1",)
