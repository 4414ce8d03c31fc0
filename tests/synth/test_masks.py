"""What the values of masks mean: any one value or colour is read, several are refused."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from image_files import read_mask
from numpy.typing import NDArray
from PIL import Image

from synth.dataset import open_dataset
from synth.disk.png import encode_png
from synth.errors import DatasetError, FrameError, LossyError, MaskError
from synth.masks import (
    MaskConvention,
    decide_masks,
    describe_label,
    parse_label,
)

Masks = list[NDArray[np.bool_]]
Writer = Callable[[NDArray[np.bool_]], bytes]


def draw_masks(rng: np.random.Generator, count: int, shape: tuple[int, int]) -> Masks:
    """Masks with zero to four small targets each, the first one with at least one."""
    masks = []
    for number in range(count):
        mask = np.zeros(shape, bool)
        for _ in range(int(rng.integers(number == 0, 5))):
            height, width = rng.integers(1, 6, 2)
            top, left = (int(rng.integers(0, length - 6)) for length in shape)
            mask[top : top + height, left : left + width] = True
        masks.append(mask)
    return masks


class Bytes:
    """A file that is not on disk."""

    def __init__(self, name: str, data: bytes) -> None:
        self.path = Path(name)
        self._data = data

    def read(self) -> bytes:
        return self._data


def read_set(files: list[bytes], label: Any = None) -> Masks:
    """Read files as masks of one set."""
    held = [Bytes(f"masks/{number}.png", data) for number, data in enumerate(files)]
    convention = decide_masks("set", dict(enumerate(held)), label)[1]
    return [convention.read(file.read(), file.path) for file in held]


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def tiff(values: NDArray[Any], **options: Any) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, values, **options)
    return stream.getvalue()


def grey(value: int, dtype: Any, kind: str = ".png") -> Writer:
    def write(mask: NDArray[np.bool_]) -> bytes:
        values = np.where(mask, value, 0).astype(dtype)
        if kind == ".tif":
            return tiff(values)
        done, data = cv2.imencode(kind, values)
        assert done
        return data.tobytes()

    return write


def coloured(colour: tuple[int, ...], kind: str = "PNG") -> Writer:
    return lambda mask: saved(
        Image.fromarray((mask[..., None] * np.array(colour)).astype(np.uint8)), kind
    )


def deep_colour(mask: NDArray[np.bool_]) -> bytes:
    values = (mask[..., None] * np.array([0, 0, 40000])).astype(np.uint16)
    return cv2.imencode(".png", values)[1].tobytes()


def with_palette(
    index: int, colour: tuple[int, int, int], kind: str = "PNG", background: int = 0
) -> Writer:
    def write(mask: NDArray[np.bool_]) -> bytes:
        image = Image.fromarray(np.where(mask, index, background).astype(np.uint8))
        entries = np.zeros((256, 3), np.uint8)
        entries[index] = colour
        image.putpalette(entries.ravel().tolist())
        return saved(image, kind)

    return write


def in_alpha(value: int, beneath: tuple[int, int, int], background: int = 0) -> Writer:
    def write(mask: NDArray[np.bool_]) -> bytes:
        values = np.empty((*mask.shape, 4), np.uint8)
        values[..., :3] = beneath
        values[..., 3] = np.where(mask, value, background)
        return saved(Image.fromarray(values))

    return write


def opaque(mask: NDArray[np.bool_]) -> bytes:
    values = np.full((*mask.shape, 4), 255, np.uint8)
    values[..., :3] = mask[..., None] * np.array([200, 0, 90], np.uint8)
    return saved(Image.fromarray(values))


def red_on_clear_white(mask: NDArray[np.bool_]) -> bytes:
    values = np.where(mask[..., None], [255, 0, 0, 255], [255, 255, 255, 0]).astype(np.uint8)
    return saved(Image.fromarray(values))


def jpeg(quality: int) -> Writer:
    return lambda mask: cv2.imencode(
        ".jpg", np.where(mask, 255, 0).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )[1].tobytes()


ONE_VALUE: dict[str, Writer] = {
    "0 and 255": grey(255, np.uint8),
    "0 and 1": grey(1, np.uint8),
    "38": grey(38, np.uint8),
    "127": grey(127, np.uint8),
    "128": grey(128, np.uint8),
    "1 of 16 bits": grey(1, np.uint16),
    "255 of 16 bits": grey(255, np.uint16),
    "65535": grey(65535, np.uint16),
    "1000 of 16 bits": grey(1000, np.uint16),
    "BMP": grey(2, np.uint8, ".bmp"),
    "TIFF": grey(7, np.uint16, ".tif"),
    "one bit": lambda mask: saved(Image.fromarray(mask)),
    "one bit BMP": lambda mask: saved(Image.fromarray(mask), "BMP"),
    "one bit TIFF": lambda mask: saved(Image.fromarray(mask), "TIFF"),
    "red": coloured((255, 0, 0)),
    "dark green BMP": coloured((0, 20, 0), "BMP"),
    "white RGB": coloured((255, 255, 255)),
    "dark blue of 16 bits": deep_colour,
    "VOC's palette": with_palette(1, (128, 0, 0)),
    "palette BMP": with_palette(3, (0, 90, 0), "BMP"),
    "palette TIFF": with_palette(1, (128, 0, 0), "TIFF"),
    "palette of one colour": with_palette(1, (0, 0, 0)),
    "palette without colours": lambda mask: saved(Image.fromarray(mask.astype(np.uint8), "P")),
    "alpha over black": in_alpha(255, (0, 0, 0)),
    "alpha over white": in_alpha(255, (255, 255, 255)),
    "half transparent red": in_alpha(128, (255, 0, 0)),
    "opaque colour": opaque,
    "red on clear white": red_on_clear_white,
    "colour with an alpha of 0": coloured((0, 255, 0, 0)),
}


@pytest.mark.parametrize("kind", list(ONE_VALUE))
def test_one_value_beside_0_marks_targets(kind: str) -> None:
    masks = draw_masks(np.random.default_rng(1), 4, (31, 40))
    for found, wanted in zip(read_set(list(map(ONE_VALUE[kind], masks))), masks, strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("quality", [60, 85, 95, 100])
@pytest.mark.parametrize("again", [False, True])
def test_a_jpeg_is_taken_above_half(quality: int, again: bool) -> None:
    masks = draw_masks(np.random.default_rng(2), 6, (48, 48))
    files = [jpeg(quality)(mask) for mask in masks]
    values = [cv2.imdecode(np.frombuffer(data, np.uint8), -1) for data in files]
    if again:
        files = [encode_png(value) for value in values]
    if again and quality == 100:
        # Hardly any value is between 0 and 255, so they could be labels: refusing is right too.
        with suppress(MaskError):
            read_set(files)
        return
    for mask, value in zip(read_set(files), values, strict=True):
        np.testing.assert_array_equal(mask, value > 127)


@pytest.mark.parametrize("blur", [0.6, 1.0])
def test_a_smoothed_mask_is_taken_above_half(blur: float) -> None:
    masks = [np.zeros((40, 40), bool) for _ in range(3)]
    for number, mask in enumerate(masks):
        mask[10 : 16 + number, 20:27] = True
    values = [cv2.GaussianBlur(mask * np.uint8(255), (0, 0), blur) for mask in masks]
    for found, value in zip(read_set([encode_png(v) for v in values]), values, strict=True):
        np.testing.assert_array_equal(found, value > 127)


def test_smoothed_masks_of_16_bits_are_taken_above_half_of_their_range() -> None:
    mask = np.zeros((40, 40), np.uint16)
    mask[10:16, 20:27] = 65535
    values = cv2.GaussianBlur(mask, (0, 0), 1.0)
    np.testing.assert_array_equal(read_set([encode_png(values)])[0], values > 32767)


def labelled(values: list[int], dtype: Any = np.uint8) -> list[bytes]:
    """Files with one target of each value, well apart."""
    files = []
    for number in range(3):
        mask = np.zeros((64, 64 + 8 * len(values)), dtype)
        for at, value in enumerate(values):
            mask[8 + number : 11 + number, 8 * at + 4 : 8 * at + 8] = value
        files.append(encode_png(mask))
    return files


SEVERAL = [[1, 2], [38, 75], [128, 255], [1, 255], [127, 128, 129], [50, 100, 150, 200, 250]]


@pytest.mark.parametrize("values", [*SEVERAL, list(range(1, 256, 6))])
def test_several_labels_are_refused_and_listed(values: list[int]) -> None:
    with pytest.raises(MaskError, match=r"several labels|values,") as caught:
        read_set(labelled(values))
    assert "set: " in str(caught.value)
    for value in values[:4]:
        assert re.search(rf"\b{value} \(3 masks, 0\.png\)", str(caught.value))


@pytest.mark.parametrize("values", SEVERAL)
def test_a_label_that_is_chosen_marks_targets(values: list[int]) -> None:
    files = labelled(values)
    planes = [cv2.imdecode(np.frombuffer(data, np.uint8), -1) for data in files]
    for label in (*values, "any"):
        for found, plane in zip(read_set(files, label), planes, strict=True):
            np.testing.assert_array_equal(found, plane != 0 if label == "any" else plane == label)
    with pytest.raises(MaskError, match="no mask holds the label 3"):
        read_set(files, 3)


def test_colours_are_labels_too() -> None:
    mask = np.zeros((20, 20, 3), np.uint8)
    mask[3:6, 3:6], mask[10:12, 10:12] = (255, 0, 0), (0, 255, 0)
    data = saved(Image.fromarray(mask))
    with pytest.raises(MaskError, match=r"#00ff00 .* and #ff0000"):
        read_set([data])
    (found,) = read_set([data], parse_label("#00ff00"))
    np.testing.assert_array_equal(found, (mask == (0, 255, 0)).all(2))


def on_clear(mask: NDArray[np.bool_], colour: tuple[int, int, int], soft: bool) -> bytes:
    alpha = np.where(mask, 255, 0).astype(np.uint8)
    alpha = cv2.blur(alpha, (2, 2)) if soft else alpha
    return saved(Image.fromarray(np.dstack([np.full((*mask.shape, 3), colour, np.uint8), alpha])))


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize(
    ("one", "other"), [((255, 0, 0), (0, 255, 0)), ((1, 1, 1), (2, 2, 2)), ((9, 0, 0), (0, 0, 0))]
)
def test_labels_on_transparent_ground_are_told_apart_by_their_colours(
    one: tuple[int, int, int], other: tuple[int, int, int], soft: bool
) -> None:
    mask = np.zeros((20, 20), bool)
    mask[3:7, 3:7] = True
    files = [on_clear(mask, one, soft), on_clear(mask, other, soft)]
    with pytest.raises(MaskError, match=r"hold (several labels|\d+ values)"):
        read_set(files)
    colour = "#{:02x}{:02x}{:02x}".format(*one)
    first, second = read_set(files, parse_label(colour))
    near = cv2.dilate(mask.view(np.uint8), np.ones((3, 3), np.uint8)) > 0
    assert first.any()
    assert not (first & ~near).any()
    assert not second.any()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("ground", [0, 128, 255])
def test_grey_with_alpha_is_taken_by_its_alpha(kind: str, ground: int) -> None:
    masks = draw_masks(np.random.default_rng(3), 6, (30, 40))
    files = []
    for mask in masks:
        grey = Image.new("L", (40, 30), ground)
        alpha = Image.fromarray(mask.view(np.uint8) * np.uint8(255))
        files.append(saved(Image.merge("LA", (grey, alpha)), kind))
    for found, mask in zip(read_set(files), masks, strict=True):
        np.testing.assert_array_equal(found, mask)


def test_transparency_that_a_set_does_not_have_is_an_error() -> None:
    mask = np.zeros((20, 20), bool)
    mask[3:7, 3:7] = True
    white = np.where(mask[..., None], np.full(3, 255, np.uint8), np.uint8(0))
    erased = np.dstack([white, np.where(mask, 0, 255).astype(np.uint8)])
    drawn = np.dstack([white * 0, np.where(mask, 255, 0).astype(np.uint8)])
    for values in (erased, drawn):
        with pytest.raises(MaskError, match=r"^masks/1\.png: shows other targets"):
            MaskConvention().read(saved(Image.fromarray(values)), "masks/1.png")
    plain = np.dstack([white, np.where(mask, 255, 0).astype(np.uint8)])
    found = MaskConvention().read(saved(Image.fromarray(plain)), "masks/1.png")
    np.testing.assert_array_equal(found, mask)


def test_jpeg_masks_whose_labels_the_compression_may_have_lost_are_refused() -> None:
    masks = draw_masks(np.random.default_rng(4), 6, (48, 64))
    files = [saved(Image.fromarray(mask.view(np.uint8)), "JPEG", quality=95) for mask in masks]
    for label in (None, 1, "any"):
        with pytest.raises(LossyError, match=r"as PNG"):
            read_set(files, label)


@pytest.mark.parametrize("value", [38, 127, 255])
@pytest.mark.parametrize("label", ["value", "any"])
def test_a_label_is_not_looked_for_in_a_jpeg(value: int, label: str) -> None:
    # No value of a JPEG is exact, and it leaves other values around a target.
    masks = draw_masks(np.random.default_rng(5), 6, (48, 64))
    files = [grey(value, np.uint8, ".jpg")(mask) for mask in masks]
    with pytest.raises(LossyError, match=r"^set: its masks are JPEG files.* as PNG"):
        read_set(files, value if label == "value" else "any")


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_a_label_may_be_a_palette_s_number(kind: str) -> None:
    numbers = np.zeros((20, 24), np.uint8)
    numbers[3:6, 3:6], numbers[10:12, 10:12] = 1, 2
    image = Image.fromarray(numbers)
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, *[0] * 759])
    data = saved(image, kind)
    with pytest.raises(MaskError, match=r"#008000 .* and #800000"):
        read_set([data])
    for label in (1, 2):
        np.testing.assert_array_equal(read_set([data], label)[0], numbers == label)
    np.testing.assert_array_equal(read_set([data], parse_label("#008000"))[0], numbers == 2)
    with pytest.raises(MaskError, match="no mask holds the label 3"):
        read_set([data], 3)


def test_an_instance_s_number_is_no_grey_level() -> None:
    # The masks reach 255, so that half of the range would cut most targets off.
    files = labelled([*range(5, 200, 10), 255])
    with pytest.raises(MaskError, match=r"labels|values"):
        read_set(files)


def test_one_odd_mask_is_enough_to_refuse_a_set() -> None:
    masks = draw_masks(np.random.default_rng(4), 5, (31, 40))
    files = [grey(255, np.uint8)(mask) for mask in masks[1:]]
    with pytest.raises(MaskError, match=r"38 \(1 mask, 4\.png\) and 255"):
        read_set([*files, grey(38, np.uint8)(masks[0])])


def test_masks_of_0_and_1_among_masks_of_0_and_255() -> None:
    masks = draw_masks(np.random.default_rng(5), 6, (31, 40))
    masks[1][3, 3] = True
    files = [grey(255 if number % 2 else 1, np.uint8)(mask) for number, mask in enumerate(masks)]
    for found, wanted in zip(read_set(files), masks, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_masks_turned_inside_out_are_refused_until_0_is_chosen() -> None:
    masks = draw_masks(np.random.default_rng(7), 4, (31, 40))
    files = [grey(255, np.uint8)(~mask) for mask in masks]
    with pytest.raises(DatasetError, match="inverted"):
        read_set(files)
    for found, wanted in zip(read_set(files, 0), masks, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_one_mask_turned_inside_out_is_named() -> None:
    masks = draw_masks(np.random.default_rng(8), 4, (31, 40))
    masks[2] = ~masks[2]
    with pytest.raises(MaskError, match=r"masks/2\.png: .*inverted\?"):
        read_set([grey(255, np.uint8)(mask) for mask in masks])


def test_a_mask_that_fades_away_is_an_error() -> None:
    sharp = np.zeros((40, 40), np.uint8)
    sharp[10:16, 20:27] = 255
    fading = cv2.GaussianBlur(sharp, (0, 0), 1.0)
    faint = fading // 3
    with pytest.raises(MaskError, match=r"masks/1\.png: .*too faint"):
        read_set([encode_png(fading), encode_png(faint)])


def test_spots_below_half_are_counted() -> None:
    values = np.zeros((40, 60), np.uint8)
    values[10:16, 20:27] = 255
    values = cv2.GaussianBlur(values, (0, 0), 1.0)
    values[30, 50] = 100
    convention = decide_masks("set", {"a": Bytes("a.png", encode_png(values))})[1]
    assert (convention.kind, convention.faint) == ("half", 1)


def test_a_value_that_its_set_does_not_have_is_an_error() -> None:
    data = grey(38, np.uint8)(np.eye(8, dtype=bool))
    with pytest.raises(MaskError, match=r"m\.png: holds 38 where the set's masks hold 0 and 255"):
        MaskConvention().read(data, "m.png")


def test_damaged_masks_are_passed_over_until_they_are_read() -> None:
    good = grey(38, np.uint8)(np.eye(8, dtype=bool))
    files = {"a": Bytes("a.png", good[:40]), "b": Bytes("b.png", good)}
    convention = decide_masks("set", files)[1]
    assert convention.read(good, "b.png").any()
    with pytest.raises(FrameError, match=r"a\.png"):
        convention.read(good[:40], "a.png")


@pytest.mark.parametrize(
    "text", ["", "red", "-1", "65536", "#12", "#ggffaa", "1.5", "any label", "#ff00"]
)
def test_labels_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no label"):
        parse_label(text)


@pytest.mark.parametrize("text", ["0", "38", "65535", "#ff0000", "#ffff00000100", "any"])
def test_a_label_is_written_as_it_is_read(text: str) -> None:
    assert describe_label(parse_label(text)) == text


def test_a_grey_colour_is_its_value() -> None:
    assert parse_label("#262626") == 38


def test_a_set_is_opened_by_its_own_values(tmp_path: Path) -> None:
    masks = draw_masks(np.random.default_rng(6), 3, (31, 40))
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for number, mask in enumerate(masks):
        (tmp_path / "images" / f"{number}.png").write_bytes(encode_png(mask * np.uint8(90)))
        (tmp_path / "masks" / f"{number}.png").write_bytes(with_palette(1, (128, 0, 0))(mask))
    # nnU-Net has a file of this name too.
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0}}')
    dataset = open_dataset(tmp_path)
    for number, mask in enumerate(masks):
        np.testing.assert_array_equal(dataset.read_mask(str(number)), mask)
        np.testing.assert_array_equal(read_mask(tmp_path / "masks" / f"{number}.png"), mask)


# A generator that knows what it wrote.


def random_writer(rng: np.random.Generator) -> Writer:
    """A way to write masks of one value or colour, drawn at random."""
    colour = tuple(int(value) for value in rng.integers(0, 256, 3))
    if max(colour) == 0:
        colour = (0, 0, 1)
    kind = int(rng.integers(0, 9))
    if kind == 0:
        return grey(int(rng.integers(1, 256)), np.uint8, str(rng.choice([".png", ".bmp", ".tif"])))
    if kind == 1:
        return grey(int(rng.integers(1, 65536)), np.uint16, str(rng.choice([".png", ".tif"])))
    if kind == 2:
        return coloured(colour, str(rng.choice(["PNG", "BMP", "TIFF"])))
    if kind == 3:
        return with_palette(
            int(rng.integers(1, 256)),
            colour,
            str(rng.choice(["PNG", "BMP", "TIFF"])),
        )
    if kind == 4:
        return in_alpha(int(rng.integers(1, 256)), colour)
    if kind == 5:
        return coloured((*colour, 255))
    if kind == 6:
        return lambda mask: saved(Image.fromarray(mask), str(rng.choice(["PNG", "BMP", "TIFF"])))
    if kind == 7:
        return with_palette(int(rng.integers(1, 256)), (0, 0, 0))
    value = int(rng.integers(1, 65536))
    return lambda mask: cv2.imencode(
        ".png", (mask[..., None] * np.array([0, value, value // 2])).astype(np.uint16)
    )[1].tobytes()


def try_sets(seed: int, count: int) -> tuple[int, int]:
    """Read sets of one value, and of two; return the number of files and of those refused."""
    rng = np.random.default_rng(seed)
    tried = refused = 0
    while tried < count:
        shape = (int(rng.integers(20, 90)), int(rng.integers(20, 90)))
        masks = draw_masks(rng, int(rng.integers(1, 7)), shape)
        writer = random_writer(rng)
        files = [writer(mask) for mask in masks]
        tried += len(files)
        for found, wanted in zip(read_set(files), masks, strict=True):
            np.testing.assert_array_equal(found, wanted)
        low, high = sorted(rng.choice(np.arange(1, 256), 2, replace=False).tolist())
        if (low, high) == (1, 255):
            continue
        both = [grey(low if number % 2 else high, np.uint8) for number in range(len(masks) + 1)]
        files = [
            write(mask | (np.arange(mask.size).reshape(shape) == 5))
            for write, mask in zip(both, [*masks, masks[0]], strict=True)
        ]
        tried += len(files)
        with pytest.raises(MaskError, match=rf"{low} .* and {high} "):
            read_set(files)
        refused += len(files)
    return tried, refused


def test_masks_drawn_at_random_are_read_or_refused() -> None:
    tried, refused = try_sets(0, 100)
    assert tried >= 100
    assert refused > 20


@pytest.mark.slow
def test_many_masks_drawn_at_random_are_read_or_refused() -> None:
    tried, refused = try_sets(1, 2000)
    assert tried >= 2000
    assert refused > 400


def test_a_mask_that_changes_after_its_set_was_opened_is_read_anew(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.png").write_bytes(encode_png(np.eye(40, dtype=bool)))
    dataset = open_dataset(tmp_path)
    assert dataset.read_mask("1").sum() == 40
    other = np.zeros((40, 40), bool)
    other[3:5, 3:5] = True
    (tmp_path / "masks" / "1.png").write_bytes(encode_png(other))
    np.testing.assert_array_equal(dataset.read_mask("1"), other)
