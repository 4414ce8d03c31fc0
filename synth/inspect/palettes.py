"""Pseudocolour: does a colour image show one quantity through a palette, and through which one?

The colours of such an image are on one curve in RGB, the palette. JPEG compression moves them off
the curve by some DN, mostly in chroma, which it shares among 2 x 2 pixels. Noise makes this worse.
So smooth blocks of 2 x 2 pixels are compared, by their means.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from synth.frames import to_luma

# OpenCV's palettes; those of Matplotlib and MATLAB with these names are the same. Left out are
# "bone", which is grey but for a tint, "pink", whose colours are those of sepia prints, and
# "twilight" and "cividis", whose colours are pale.
_OPENCV = (
    *("JET", "TURBO", "RAINBOW", "HSV", "HOT", "INFERNO", "MAGMA", "PLASMA", "VIRIDIS"),
    *("PARULA", "COOL", "AUTUMN", "WINTER", "SUMMER", "SPRING", "OCEAN", "DEEPGREEN"),
)

# Other palettes by the RGB at their bends, cold to hot, with straight lines between. Cameras write
# the first nine, in FLIR's files from 16 to 235; viewers draw the next five, and Matplotlib the
# rest. Bends were read off the palettes so that no colour is more than 10 DN off in a channel.
_BENDS: dict[str, tuple[str, ...]] = {
    "iron": (
        "001f25 07164d 230f6e 530994 7d0ca2 8f11a1 ae1f92 c53276 d84b54 ec7225 f18e0f f5a908",
        "f4c116 f0d73f ecdf5f e4ecb9",
    ),
    "rainbow HC": ("101010 d90ed8 101798 0cd6d6 17590e d5d706 7c1011 cd4344 e8e4e4",),
    "arctic": ("0f1092 1019f0 27a8ed 39e3e6 4fc1c0 6b6561 ec690d ebca0c ebe5bf",),
    "lava": ("101010 294c9c 0e7298 188284 823670 cd292e ed4723 ed7b0d ebca0c ebebeb",),
    "glowbow": ("101010 c52630 eb770c eccc13 ebebeb",),
    "blue-red": ("1340ce 1b7dec 3fcebe 80ea70 d0bb30 ea6e18 b7300f 7e1c0f",),
    "double rainbow": (
        "120f12 9b2a88 3b67ee 0e9851 c2c10d ba641b a92d2d c192ee cba8ec 0eacbb 8fc70e ece50d",
        "e96334 e13034 e8b3b7 ebe8eb",
    ),
    "amber": ("3e100f 483b0f dd980b eac10b d4eb0b",),
    "ironbow": ("000000 240078 bd0a89 e44727 f2820c ffe327 fffdeb",),
    "lepton rainbow": (
        "01034a 001362 0057c6 0178db 078db2 229e65 69b91a c7d400 f5c80a ff871e fb1f3c f72355",
        "ffb8a0 ffe9d0",
    ),
    "purple-red-yellow": ("000000 800080 ff0000 ff8000 ffff00 ffffff",),
    "blue-magenta-yellow": ("000000 0000ff ff00ff ff0000 ffff00 ffffff",),
    "blue-purple-orange": ("000000 200080 a000a0 ff4000 ffa000 ffff80 ffffff",),
    "full spectrum": ("000000 0000ff 00ffff 00ff00 ffff00 ff0000 ffffff",),
    "gnuplot2": ("000000 0400ff 9408f7 ff52ad ffff05 ffffff",),
    "CMRmap": ("000000 2b2688 5027bd c1385d fe4324 e68703 e6c322 f1f1bb ffffff",),
    "nipy_spectral": (
        "000000 770088 83009a 0000ad 0000dd 007add 009cd3 00aa88 009a00 00ff00 bcff00 f3e500",
        "ff9900 fe0000 cc0000 cccccc",
    ),
}

# Blocks that are compared, of the smoothest _SMOOTH of a frame.
_BLOCKS, _SMOOTH = 512, 0.5

# Colour: largest minus smallest channel, DN. Less is grey, where it is dark or bright a border or
# letters, which belong to no palette.
_CHROMA, _BLACK, _WHITE = 32, 48, 208

# How near to the palette, in DN of RGB, the colours have to be, with what median.
_NEAR, _MEDIAN = 18.0, 12.0

# The share of the smooth blocks that has to be so near, by the length of the palette that they
# show, in DN. Photographs have a smaller share, or few colours.
_SHARES = ((110.0, 0.8), (500.0, 0.7))

# The same share of all blocks, also of those at edges and in noise.
_LEAST = 0.5

# Without compression colours are the palette's own, and less of its length tells enough.
_EXACT, _EXACT_SHARE, _SHORT = 5.0, 0.8, 50.0

# Fewer coloured blocks than this share are a logo, or coloured letters, on a grey frame.
_COLOURED = 0.1

# Palettes are first compared by every so many of their colours, and the likeliest by all.
_COARSE, _LIKELY = 4, 4

# So many DN may luma fall on its way up.
_FALL = 6


class Palette(NamedTuple):
    """A palette, and what luma does as the temperature rises: ``rises``, ``falls``, ``turns``."""

    name: str
    luma: str


@cache
def palette_colours() -> dict[str, NDArray[np.uint8]]:
    """All palettes that `find_palette` knows, by name: (256, 3) ndarrays in BGR, cold to hot."""
    ramp = np.arange(256, dtype=np.uint8)[:, None]
    found: dict[str, NDArray[np.uint8]] = {}
    for name in _OPENCV:
        colours = cv2.applyColorMap(ramp, getattr(cv2, f"COLORMAP_{name}"))[:, 0]
        found[name.lower()] = colours.astype(np.uint8)
    for name, lines in _BENDS.items():
        bends = np.array([list(bytes.fromhex(colour)) for colour in " ".join(lines).split()])
        steps = np.abs(np.diff(bends, axis=0)).sum(axis=1)
        place = np.concatenate([[0], np.cumsum(steps)])
        at = np.linspace(0, place[-1], 256)
        channels = [np.interp(at, place, bends[:, channel]) for channel in (2, 1, 0)]
        found[name] = np.rint(np.stack(channels, axis=1)).astype(np.uint8)
    return found


def _course(colours: NDArray[np.uint8]) -> str:
    luma = to_luma(colours[None])[0].astype(int)
    if (np.maximum.accumulate(luma) - luma).max() <= _FALL:
        return "rises"
    return "falls" if (luma - np.minimum.accumulate(luma)).max() <= _FALL else "turns"


def find_palette(image: NDArray[np.uint8] | NDArray[np.uint16]) -> Palette | None:
    """Find the palette through which a colour image shows one quantity.

    Parameters
    ----------
    image : (H, W, 3) or (H, W, 4) ndarray of uint8 or uint16
        BGR or BGRA; of 16 bits, the upper 8 are compared.

    Returns
    -------
    Palette or None
        None for photographs, tinted grey images, and images that show too little of a palette.
    """
    blocks, noise = _take_blocks(image)
    if not len(blocks):
        return None
    chroma = blocks.max(axis=1) - blocks.min(axis=1)
    coloured = chroma >= _CHROMA
    if coloured.mean() < _COLOURED:
        return None
    seen = coloured | ((blocks.max(axis=1) >= _BLACK) & (blocks.min(axis=1) <= _WHITE))
    smooth = (noise <= np.quantile(noise[coloured], _SMOOTH))[seen]
    blocks, coloured = blocks[seen], coloured[seen]
    known = palette_colours()
    colours = np.stack(list(known.values())).astype(np.float32)
    rough, _ = _compare(blocks[smooth], colours[:, ::_COARSE])
    likely = np.argsort(_cost(rough))[:_LIKELY]
    distance, place = _compare(blocks, colours[likely])
    first = int(_cost(distance[smooth]).argmin())
    name, near, away = (
        list(known)[likely[first]],
        distance[:, first] < _NEAR,
        distance[smooth, first],
    )
    steps = np.linalg.norm(np.diff(colours[likely[first]], axis=0), axis=1)
    shown = np.append(0, np.cumsum(steps))[place[near & coloured, first]]
    if near.mean() < _LEAST or not shown.size:
        return None
    span = float(np.subtract(*np.quantile(shown, (0.97, 0.03))))
    share = near[smooth].mean()
    exact = span >= _SHORT and (away < _EXACT).mean() >= _EXACT_SHARE
    close = np.median(away) <= _MEDIAN and any(span >= s and share >= of for s, of in _SHARES)
    return Palette(name, _course(known[name])) if exact or close else None


def _compare(
    colours: NDArray[np.float32], palettes: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Distance (m, p) from m colours to the nearest one of p palettes, and its place in them."""
    flat = palettes.reshape(-1, 3)
    squares = (colours**2).sum(axis=1)[:, None] + (flat**2).sum(axis=1) - 2 * (colours @ flat.T)
    squares = squares.reshape(len(colours), *palettes.shape[:2])
    return np.sqrt(np.maximum(squares.min(axis=2), 0)), squares.argmin(axis=2)


def _cost(distance: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean distance to each palette; what is far from all, such as a logo, counts little."""
    return np.minimum(distance, 2 * _NEAR).mean(axis=0)


def _take_blocks(
    image: NDArray[np.uint8] | NDArray[np.uint16],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Means of blocks of 2 x 2 pixels, BGR, on a grid over the frame, and the range in each."""
    height, width = (side // 2 * 2 for side in image.shape[:2])
    step = 2 * max(1, round((height * width / (4 * _BLOCKS / _SMOOTH)) ** 0.5))
    pixels = np.stack(
        [image[row:height:step, col:width:step, :3] for row in (0, 1) for col in (0, 1)]
    ).astype(np.float32)
    if image.dtype == np.uint16:
        pixels /= 257
    pixels = pixels.reshape(4, -1, 3)
    return pixels.mean(axis=0), np.ptp(pixels, axis=0).max(axis=1)
