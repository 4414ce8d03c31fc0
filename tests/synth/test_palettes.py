"""Palettes: pseudocolour is found, and photographs, grey and tinted images are not."""

from __future__ import annotations

import cv2
import matplotlib
import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray
from PIL import Image

from synth.inspect.palettes import find_palette, palette_colours

Picture = NDArray[np.uint8]
NAMES = sorted(palette_colours())
PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket", "retina", "immunohistochemistry")


def field(rng: np.random.Generator, shape: tuple[int, int], power: float) -> NDArray[np.float64]:
    """A random field from 0 to 1 whose amplitude falls with frequency, as that of scenes does."""
    frequency = np.hypot(*np.meshgrid(*map(np.fft.fftfreq, shape), indexing="ij"))
    frequency[0, 0] = np.inf
    waves = np.fft.fft2(rng.standard_normal(shape)) * frequency**-power
    values = np.fft.ifft2(waves).real
    return (values - values.min()) / np.ptp(values)


def thermal(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    """A frame from 0 to 1: a scene, a few small targets, and noise."""
    scene = field(rng, shape, float(rng.uniform(1.3, 2)))
    for _ in range(3):
        row, col = (int(rng.integers(0, side - 3)) for side in shape)
        scene[row : row + 3, col : col + 3] = 1
    return (scene + rng.normal(0, 0.004, shape)).clip(0, 1)


def compress(picture: Picture, quality: int) -> Picture:
    """A picture after JPEG compression with shared chroma; 0 is none."""
    if quality == 0:
        return picture
    options = [
        *(cv2.IMWRITE_JPEG_QUALITY, quality),
        *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420),
    ]
    data = cv2.imencode(".jpg", picture, options)[1]
    return cv2.imdecode(data, cv2.IMREAD_COLOR).astype(np.uint8)


def draw_overlay(rng: np.random.Generator, picture: Picture) -> None:
    """A logo and letters, as cameras draw them into their frames."""
    height, width = picture.shape[:2]
    logo = tuple(int(value) for value in rng.integers(0, 256, 3))
    cv2.rectangle(picture, (0, height), (width // 4, height - height // 6), logo, -1)
    cv2.putText(picture, "25.3 C", (4, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255,) * 3, 1)


def show(rng: np.random.Generator, colours: Picture, part: float) -> Picture:
    """A thermal frame of some size through a part of a palette, compressed, with an overlay."""
    shape = tuple(int(side) for side in rng.integers(96, 400, 2))
    start = rng.uniform(0, 1 - part)
    place = np.rint(255 * (start + part * thermal(rng, (shape[0], shape[1])))).astype(int)
    picture = colours[place]
    if rng.random() < 0.3:
        draw_overlay(rng, picture)
    return compress(picture, int(rng.choice([0, 60, 75, 85, 95])))


def photograph(rng: np.random.Generator, name: str) -> Picture:
    """A part of a photograph, compressed or not."""
    whole = getattr(skimage.data, name)()[..., 2::-1]
    height, width = (int(rng.integers(side // 3, side)) for side in whole.shape[:2])
    row, col = (
        int(rng.integers(0, side - own))
        for side, own in zip(whole.shape, (height, width), strict=False)
    )
    picture = np.ascontiguousarray(whole[row : row + height, col : col + width])
    return compress(picture, int(rng.choice([0, 75, 95])))


def landscape(rng: np.random.Generator) -> Picture:
    """A made picture: common brightness, and colours that vary by themselves."""
    shape = (int(rng.integers(64, 300)), int(rng.integers(64, 300)))
    common = field(rng, shape, 1.3)
    own = [field(rng, shape, 1.3) for _ in range(3)]
    share = rng.uniform(0.15, 0.6)
    layers = [255 * ((1 - share) * common + share * layer) for layer in own]
    return compress(np.dstack(layers).astype(np.uint8), int(rng.choice([0, 60, 95])))


def tinted(rng: np.random.Generator) -> Picture:
    """A grey frame, or one with a tint as of sepia prints and of sensors with unequal channels."""
    grey = 255 * thermal(rng, (120, 160))
    tint = rng.uniform(0.85, 1, 3) if rng.random() < 0.7 else np.ones(3)
    return compress(np.rint(grey[..., None] * tint).astype(np.uint8), int(rng.choice([0, 75])))


@pytest.mark.parametrize("name", NAMES)
def test_every_palette_is_found(name: str) -> None:
    rng = np.random.default_rng(NAMES.index(name))
    frames = [show(rng, palette_colours()[name], part) for part in (1.0, 0.9, 0.8, 0.7, 0.6)]
    # Noise and strong compression hide single frames of palettes with many bends.
    assert sum(find_palette(frame) is not None for frame in frames) >= 4


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_palette_is_found_many_times(name: str) -> None:
    rng = np.random.default_rng([7, NAMES.index(name)])
    found = [
        find_palette(show(rng, palette_colours()[name], float(rng.uniform(0.5, 1))))
        for _ in range(60)
    ]
    assert sum(palette is not None for palette in found) >= 57


@pytest.mark.parametrize("quality", [0, 75])
@pytest.mark.parametrize(
    ("name", "luma"),
    [
        ("jet", "turns"),
        ("turbo", "turns"),
        ("hsv", "turns"),
        ("nipy_spectral", "turns"),
        ("hot", "rises"),
        ("inferno", "rises"),
        ("magma", "rises"),
        ("plasma", "rises"),
        ("viridis", "rises"),
        ("gnuplot2", "rises"),
        ("CMRmap", "rises"),
        ("cool", "falls"),
    ],
)
def test_the_palettes_of_matplotlib_are_named_with_the_course_of_their_luma(
    name: str, luma: str, quality: int
) -> None:
    scene = thermal(np.random.default_rng(3), (240, 320))
    colours = np.rint(255 * matplotlib.colormaps[name](scene)[..., 2::-1]).astype(np.uint8)
    palette = find_palette(compress(colours, quality))
    assert palette is not None
    assert (palette.name, palette.luma) == (name, luma)


@pytest.mark.parametrize("name", NAMES)
def test_the_course_of_luma_is_that_of_pillow(name: str) -> None:
    colours = palette_colours()[name]
    frame = np.repeat(np.arange(256, dtype=np.uint8)[None], 64, axis=0)
    palette = find_palette(colours[frame])
    assert palette is not None
    luma = np.asarray(Image.fromarray(colours[None, :, ::-1]).convert("L"), int)[0]
    turns = abs(int(luma[-1]) - int(luma[0])) < 0.9 * np.abs(np.diff(luma)).sum()
    course = "turns" if turns else "rises" if luma[-1] > luma[0] else "falls"
    assert palette.luma == course


def test_sixteen_bits_and_alpha_change_nothing() -> None:
    picture = show(np.random.default_rng(5), palette_colours()["iron"], 1.0)
    wide = picture.astype(np.uint16) * 257
    opaque = np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8)])
    assert find_palette(picture) == find_palette(wide) == find_palette(opaque)


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_photographs_have_no_palette(name: str) -> None:
    rng = np.random.default_rng(11)
    for _ in range(5):
        assert find_palette(photograph(rng, name)) is None


def test_made_pictures_and_tinted_frames_have_no_palette() -> None:
    rng = np.random.default_rng(12)
    for _ in range(20):
        assert find_palette(landscape(rng)) is None
        assert find_palette(tinted(rng)) is None


@pytest.mark.slow
def test_few_of_many_pictures_have_a_palette() -> None:
    rng = np.random.default_rng(13)
    pictures = [photograph(rng, PHOTOGRAPHS[number % 6]) for number in range(600)]
    pictures += [landscape(rng) for _ in range(300)] + [tinted(rng) for _ in range(300)]
    assert sum(find_palette(picture) is not None for picture in pictures) <= 2


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (2, 2), (3, 200), (16, 16)])
def test_any_size_is_taken(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    find_palette(rng.integers(0, 256, (*shape, 3)).astype(np.uint8))
    find_palette(np.zeros((*shape, 3), np.uint8))
