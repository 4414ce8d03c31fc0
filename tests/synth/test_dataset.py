"""Labelled sets in every public layout, and every fault of a set told by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from real_data import real_data
from small_sets import SmallSet

from synth.dataset import is_labelled, open_dataset
from synth.errors import DatasetError, FrameError

FRAME = np.arange(48, dtype=np.uint8).reshape(6, 8)
MASK = np.where(FRAME == 20, 255, 0).astype(np.uint8)


def write_pairs(
    root: Path,
    ids: list[str],
    *,
    images: str = "images",
    masks: str = "masks",
    suffix: str = ".png",
    mask_suffix: str = ".png",
) -> Path:
    """Write equal pairs with the names that a layout gives them."""
    (root / images).mkdir(parents=True)
    (root / masks).mkdir()
    for id_ in ids:
        Image.fromarray(FRAME).save(root / images / f"{id_}{suffix}")
        Image.fromarray(MASK).save(root / masks / f"{id_}{mask_suffix}")
    return root


def write_list(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode())


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("images", "masks"),
        ("image", "mask"),
        ("IRSTD1k_Img", "IRSTD1k_Label"),
        ("Images", "GT"),
        ("imgs", "labels"),
    ],
)
def test_folders_of_every_layout(tmp_path: Path, images: str, masks: str) -> None:
    write_pairs(tmp_path, ["XDU1"], images=images, masks=masks)
    image, mask = open_dataset(tmp_path).read_pair("XDU1")
    np.testing.assert_array_equal(image, FRAME)
    np.testing.assert_array_equal(mask, MASK > 0)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".tiff", ".PNG"])
@pytest.mark.parametrize("mask_suffix", [".png", ".bmp", "_pixels0.png", "_pixels0.bmp"])
def test_file_types_and_mask_names(tmp_path: Path, suffix: str, mask_suffix: str) -> None:
    write_pairs(tmp_path, ["Misc_1", "Misc_2"], suffix=suffix, mask_suffix=mask_suffix)
    dataset = open_dataset(tmp_path)
    assert dataset.ids("train") == ("Misc_1", "Misc_2")
    image, mask = dataset.read_pair("Misc_2")
    np.testing.assert_array_equal(image, FRAME)
    np.testing.assert_array_equal(mask, MASK > 0)


def test_jpeg_images_beside_png_masks(tmp_path: Path) -> None:
    write_pairs(tmp_path, ["a"], suffix=".jpg")
    image, mask = open_dataset(tmp_path).read_pair("a")
    assert np.abs(image.astype(int) - FRAME).max() <= 4
    assert mask.sum() == 1


def test_an_id_may_end_as_a_mask_name_does(tmp_path: Path) -> None:
    write_pairs(tmp_path, ["a_pixels0"])
    assert open_dataset(tmp_path).mask_path("a_pixels0").stem == "a_pixels0"


LISTS = {
    "dna-net": ("50_50/train.txt", "50_50/test.txt"),
    "other ratio": ("80_20/train.txt", "80_20/test.txt"),
    "basicirstd": ("img_idx/train_{name}.txt", "img_idx/test_{name}.txt"),
    "basicirstd of another name": ("img_idx/train_Other.txt", "img_idx/test_Other.txt"),
    "beside the folders": ("trainval.txt", "test.txt"),
    "train beside the folders": ("train.txt", "test.txt"),
    "idx folder": ("idx_427/trainval.txt", "idx_427/test.txt"),
}


@pytest.mark.parametrize("layout", LISTS)
def test_lists_of_every_layout(tmp_path: Path, layout: str) -> None:
    root = write_pairs(tmp_path / "set", ["a", "b", "c"])
    for name, text in zip(LISTS[layout], ("c\na\n", "b\n"), strict=True):
        write_list(root / name.format(name=root.name), text)
    dataset = open_dataset(root)
    assert dataset.listed
    assert dict(dataset.splits) == {"train": ("c", "a"), "test": ("b",)}
    assert dataset.ids("all") == ("c", "a", "b")


def test_half_and_half_goes_before_other_lists(tmp_path: Path) -> None:
    root = write_pairs(tmp_path / "set", ["a", "b"])
    for folder, text in (("50_50", "a\n"), ("20_80", "b\n"), (".", "b\n")):
        write_list(root / folder / "train.txt", text)
    assert open_dataset(root).ids("train") == ("a",)


def test_among_named_lists_the_sets_own_is_read(tmp_path: Path) -> None:
    root = write_pairs(tmp_path / "mine", ["a", "b"])
    write_list(root / "img_idx" / "train_mine.txt", "b\n")
    write_list(root / "img_idx" / "train_another.txt", "a\n")
    assert open_dataset(root).ids("train") == ("b",)


def test_named_lists_of_others_are_not_guessed_among(tmp_path: Path) -> None:
    root = write_pairs(tmp_path / "mine", ["a", "b"])
    write_list(root / "img_idx" / "train_one.txt", "b\n")
    write_list(root / "img_idx" / "train_two.txt", "a\n")
    with pytest.raises(DatasetError, match="img_idx"):
        open_dataset(root)


def test_a_validation_list_is_a_split_of_its_own(tmp_path: Path) -> None:
    root = write_pairs(tmp_path, ["a", "b", "c"])
    for name, id_ in (("train", "a"), ("val", "b"), ("test", "c")):
        write_list(root / "50_50" / f"{name}.txt", id_)
    assert dict(open_dataset(root).splits) == {"train": ("a",), "val": ("b",), "test": ("c",)}


def test_trainval_holds_val_already(tmp_path: Path) -> None:
    root = write_pairs(tmp_path, ["a", "b", "c"])
    for name, text in (("trainval", "a\nb\n"), ("val", "b\n"), ("test", "c\n")):
        write_list(root / f"{name}.txt", text)
    assert dict(open_dataset(root).splits) == {"train": ("a", "b"), "test": ("c",)}


def test_without_lists_every_image_is_for_training_in_natural_order(tmp_path: Path) -> None:
    dataset = open_dataset(write_pairs(tmp_path, ["a10", "a9", "a1"]))
    assert not dataset.listed
    assert dict(dataset.splits) == {"train": ("a1", "a9", "a10"), "test": ()}


@pytest.mark.parametrize(
    "text",
    ["a\r\nb\r\n", "\ufeffa\nb", "\n\na\n\n\nb\n\n", "  a  \nb\t\n", "a.png\nb.png\n"],
    ids=["CRLF", "BOM", "blank lines", "spaces", "suffixes"],
)
def test_ways_to_write_a_list(tmp_path: Path, text: str) -> None:
    root = write_pairs(tmp_path, ["a", "b"])
    write_list(root / "50_50" / "train.txt", text)
    assert open_dataset(root).ids("train") == ("a", "b")


def test_an_empty_list_is_legal(tmp_path: Path) -> None:
    root = write_pairs(tmp_path, ["a"])
    write_list(root / "50_50" / "train.txt", "")
    write_list(root / "50_50" / "test.txt", "a\n")
    assert dict(open_dataset(root).splits) == {"train": (), "test": ("a",)}


@pytest.mark.parametrize(
    ("train", "test", "words"),
    [
        ("a\nghost\n", "b\n", r"train\.txt: names id 'ghost'"),
        ("a\na\n", "b\n", r"train\.txt: names id 'a' twice"),
        ("a\na.png\n", "b\n", r"train\.txt: names id 'a' twice"),
        ("a\nb\n", "b\n", r"test\.txt: names id 'b', which is in train too"),
        ("../a\n", "b\n", r"train\.txt: names '\.\./a'"),
        ("a\n", "sub/b\n", r"test\.txt: names 'sub/b'"),
        ("a\\b\n", "b\n", r"train\.txt: names"),
        ("..\n", "b\n", r"train\.txt: names id '\.\.'"),
        ("lonely\n", "b\n", r"lonely\.png: has no mask"),
    ],
)
def test_a_fault_in_a_list_is_told_by_name(
    tmp_path: Path, train: str, test: str, words: str
) -> None:
    root = write_pairs(tmp_path, ["a", "b", "lonely"])
    (root / "masks" / "lonely.png").unlink()
    write_list(root / "50_50" / "train.txt", train)
    write_list(root / "50_50" / "test.txt", test)
    with pytest.raises(DatasetError, match=words):
        open_dataset(root)


def test_an_image_off_the_lists_needs_no_mask(tmp_path: Path) -> None:
    root = write_pairs(tmp_path, ["a", "lonely"])
    (root / "masks" / "lonely.png").unlink()
    write_list(root / "50_50" / "train.txt", "a\n")
    assert open_dataset(root).ids("train") == ("a",)


def test_a_list_that_is_no_text_is_told_by_name(tmp_path: Path) -> None:
    root = write_pairs(tmp_path, ["a"])
    (root / "train.txt").write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(DatasetError, match=r"train\.txt: is not UTF-8 text"):
        open_dataset(root)


def test_two_files_of_one_id_are_told_by_name(tmp_path: Path) -> None:
    root = write_pairs(tmp_path, ["a"])
    Image.fromarray(FRAME).save(root / "images" / "a.bmp")
    with pytest.raises(DatasetError, match=r"a\.png: shares its id with a\.bmp"):
        open_dataset(root)


@pytest.mark.parametrize("folder", ["images", "masks"])
def test_a_missing_folder_is_told(tmp_path: Path, folder: str) -> None:
    root = write_pairs(tmp_path, ["a"])
    (root / folder).rename(root / "elsewhere")
    with pytest.raises(DatasetError, match=f"no folder of {folder}"):
        open_dataset(root)


def test_a_folder_without_images_is_told(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    with pytest.raises(DatasetError, match="no folder of images with any in it"):
        open_dataset(tmp_path)


def test_a_set_that_is_no_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="absent: is not a folder"):
        open_dataset(tmp_path / "absent")


def test_an_unknown_split_is_told_with_the_known_ones(small_set: SmallSet) -> None:
    with pytest.raises(DatasetError, match="no split 'valid'; it has train, test"):
        open_dataset(small_set.root).ids("valid")


def test_an_unknown_id_is_told(small_set: SmallSet) -> None:
    with pytest.raises(DatasetError, match="no image for id 'ghost'"):
        open_dataset(small_set.root).read_pair("ghost")


def test_an_id_may_end_as_a_file_does(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        for id_ in ("a.tif", "b"):
            Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / folder / f"{id_}.png")
    (tmp_path / "train.txt").write_text("a.tif\nb.png\n")
    assert open_dataset(tmp_path).ids("train") == ("a.tif", "b")


def test_a_mask_of_another_size_is_told_by_name(small_set: SmallSet) -> None:
    Image.fromarray(MASK).save(small_set.mask("001"))
    with pytest.raises(DatasetError, match=r"001\.png: is 6x8 but its image is 48x64"):
        open_dataset(small_set.root).read_pair("001")


def test_nothing_is_decoded_to_open_a_set(small_set: SmallSet) -> None:
    small_set.image("001").write_bytes(b"")
    dataset = open_dataset(small_set.root)
    with pytest.raises(FrameError, match="is empty"):
        dataset.read_image("001")


def test_16_bit_and_native_sizes_are_kept(make_set: Callable[..., SmallSet]) -> None:
    made = make_set(shapes=((20, 31), (40, 17)), dtype=np.uint16)
    dataset = open_dataset(made.root)
    read = [dataset.read_image(id_) for id_ in dataset.ids("train")]
    assert [(image.shape, image.dtype) for image in read[:2]] == [
        ((20, 31), np.uint16),
        ((40, 17), np.uint16),
    ]


def test_the_public_split_has_its_published_numbers() -> None:
    from synth.targets import find_targets

    dataset = open_dataset(real_data("NUDT-SIRST"))
    assert (len(dataset.ids("train")), len(dataset.ids("test"))) == (663, 664)
    assert sum(len(find_targets(dataset.read_mask(id_))) for id_ in dataset.ids("train")) == 918


def test_a_labelled_set_is_told_from_a_plain_folder(tmp_path: Path) -> None:
    write_pairs(tmp_path / "set", ["a"], images="Images", masks="GT")
    assert is_labelled(tmp_path / "set")
    assert not is_labelled(tmp_path / "set" / "Images")
    assert not is_labelled(tmp_path / "set" / "Images" / "a.png")
    assert not is_labelled(tmp_path / "none")
