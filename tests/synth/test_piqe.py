"""PIQE against the published definition, block by block, and against what was done to a frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from synth.inspect.quality import piqe

Frame = NDArray[np.integer[Any]]


def scene(seed: int, shape: tuple[int, int] = (96, 112)) -> NDArray[np.uint8]:
    """Smooth structure with a little grain."""
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.standard_normal(shape), 3)
    field = 128 + 60 * field / np.abs(field).max() + rng.normal(0, 0.7, shape)
    return np.rint(field).clip(0, 255).astype(np.uint8)


def published(frame: Frame) -> float:
    """The score in plain loops, from SciPy's filters; sides are multiples of 16."""
    low, high = np.percentile(frame, (0.1, 99.9))
    values = (frame - low) * 255 / (high - low)

    def blur(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return ndimage.gaussian_filter(x, 7 / 6, radius=3, mode="nearest")

    mean = blur(values)
    sigma = np.sqrt(np.maximum(blur(values**2) - mean**2, 0))
    coefficients = (values - mean) / (sigma + 1)
    active, total = 0, 0.0
    for top in range(0, frame.shape[0], 16):
        for left in range(0, frame.shape[1], 16):
            block = coefficients[top : top + 16, left : left + 16]
            variance = block.var(ddof=1)
            if variance <= 0.1:
                continue
            active += 1
            flat = any(
                edge[start : start + 6].std(ddof=1) < 0.1
                for edge in (block[0], block[15], block[:, 0], block[:, 15])
                for start in range(11)
            )
            others = np.concatenate([block[:, :7], block[:, 9:]], axis=1)
            ratio = block[:, 7:9].std(ddof=1) / others.std(ddof=1)
            deviation = np.sqrt(variance)
            beta = abs(ratio - deviation) / max(ratio, deviation)
            total += (1 - variance) * flat + variance * (deviation > 2 * beta)
    return 100 * (total + 1) / (active + 1)


@pytest.mark.parametrize("seed", range(6))
def test_the_score_is_that_of_the_published_loops(seed: int) -> None:
    frame = scene(seed)
    if seed % 2:
        frame[20:60, 30:70] = 255
    assert piqe(frame) == pytest.approx(published(frame), rel=1e-9)


def texture(seed: int) -> NDArray[np.uint8]:
    """A frame whose spectrum falls with frequency as that of natural scenes."""
    rng = np.random.default_rng(seed)
    distance = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.rfftfreq(128))
    spectrum = np.fft.rfft2(rng.standard_normal((128, 128))) / (0.01 + distance) ** 1.5
    field = np.fft.irfft2(spectrum, (128, 128))
    return np.rint(128 + 45 * field / field.std()).clip(0, 255).astype(np.uint8)


def compressed(frame: Frame, percent: float) -> Frame:
    _, data = cv2.imencode(".jpg", frame, (cv2.IMWRITE_JPEG_QUALITY, int(percent)))
    decoded = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
    assert decoded is not None
    return decoded.astype(np.uint8)


def noisy(frame: Frame, sigma: float) -> Frame:
    noise = np.random.default_rng(0).normal(0, sigma, frame.shape)
    return np.rint(frame + noise).clip(0, 255).astype(np.uint8)


def blurred(frame: Frame, sigma: float) -> Frame:
    return cv2.GaussianBlur(frame, (0, 0), sigma).astype(np.uint8)


@pytest.mark.parametrize(
    ("distort", "levels"),
    [(noisy, (10, 20, 40)), (blurred, (1, 2, 4)), (compressed, (10, 5))],
)
def test_distortion_makes_it_worse(
    distort: Callable[[Frame, float], Frame], levels: tuple[float, ...]
) -> None:
    frames = [texture(seed) for seed in range(3)]
    scores = [np.mean([piqe(frame) for frame in frames])]
    scores += [np.mean([piqe(distort(frame, level)) for frame in frames]) for level in levels]
    assert scores == sorted(scores)


def test_depth_gain_and_offset_do_not_count() -> None:
    frame = scene(2)
    assert piqe(frame.astype(np.uint16) * 200 + 999) == pytest.approx(piqe(frame), rel=1e-9)


@pytest.mark.parametrize("shape", [(1, 1), (3, 50), (16, 16), (17, 33)])
def test_any_size_has_a_score(shape: tuple[int, int]) -> None:
    frame = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    assert 0 <= piqe(frame) <= 120


@pytest.mark.parametrize("level", [0, 7, 65_535])
def test_a_constant_frame_has_nothing_to_look_at(level: int) -> None:
    assert piqe(np.full((40, 40), level, np.uint16)) == 100
