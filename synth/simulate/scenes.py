"""Simulated infrared scenes with small targets: the data that needs no data.

A scene is painted as radiance (`paint_scene`), imaged by a `synth.simulate.sensor.Sensor`, and
receives targets whose brightness is solved for so that each has the local signal-to-clutter ratio
that was drawn for it (`simulate_frame`). Everything is a pure function of its arguments and of the
state of the generator that it is given.

All of it is in float64: operations of OpenCV and NumPy differ between processors in their last
digits, and in float32 that would turn a rounded pixel now and then.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from synth.frames import Frame, Mask
from synth.simulate.sensor import (
    MIN_SIDE,
    Field,
    Sensor,
    blur,
    draw_normal,
    make_sensor,
    quantise,
    respond,
    temporal_noise,
)

__all__ = [
    "SCENE_KINDS",
    "Scene",
    "Sensor",
    "SimulatedFrame",
    "make_sensor",
    "paint_scene",
    "simulate_frame",
]

Polarity = Literal["positive", "negative", "both"]

# Annotated masks of public sets end where the target has fallen to about a third of its peak.
_MASK_FRACTION = 0.35
# The neighbourhood of Gao et al. (IEEE TIP 2013), the same as in `synth.targets.local_scr`.
_NEIGHBOURHOOD = 20
_GAP = 4
_CANDIDATES = 200
_BORDER = 5
_BORDER_SHARE = 0.25
_SUPERSAMPLING = 4
# DN of 8-bit data: targets are kept below, so that few of their peaks clip.
_HEADROOM = 250.0
# The least peak of a target in DN of 8-bit data: below it rounding would eat its shape.
_LEAST_EXCESS = 2.0
# Of 8-bit data: what a noiseless background varies by once it is rounded.
_ROUNDING_VARIANCE = 1 / 12


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What is in front of the camera.

    Attributes
    ----------
    radiance : (H, W) ndarray of float64
        DN of 8-bit data, before the optics.
    density : (H, W) ndarray of float64
        How likely a target's centre lies on each pixel, relative to the others, 0 to 1.
    """

    radiance: Field
    density: Field


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedFrame:
    """One labelled frame.

    Attributes
    ----------
    image : (H, W) ndarray of uint8 or uint16
        DN.
    mask : (H, W) ndarray of bool
        True where a target's blurred contribution exceeds 0.35 of its peak; one 8-connected
        component a target.
    scr : tuple of float
        Local signal-to-clutter ratio that was set for each target, in order of insertion, before
        rounding and clipping at the camera's range.
    """

    image: Frame
    mask: Mask
    scr: tuple[float, ...]


def simulate_frame(
    kind: str,
    sensor: Sensor,
    rng: np.random.Generator,
    *,
    targets: tuple[int, int] = (1, 3),
    scr: tuple[float, float] = (2.0, 12.0),
    target_sigma: tuple[float, float] = (0.6, 2.0),
    polarity: Polarity = "positive",
) -> SimulatedFrame:
    """Simulate one labelled frame.

    A target is a point, an ellipse or an aircraft, rendered at a sub-pixel position, blurred by
    the camera's PSF and integrated over pixels. Its amplitude a solves
    |μ_t(a) − μ_b(a)| = SCR·σ_b(a), with μ_t the mean over the target's mask and μ_b, σ_b those
    over the rest of its bounding box grown by 20 pixels on each side, noise included (Gao et al.,
    IEEE TIP 2013; measured by `synth.targets.local_scr`).

    Parameters
    ----------
    kind : str
        One of `SCENE_KINDS`.
    sensor : Sensor
        The camera; it fixes shape and depth.
    rng : numpy.random.Generator
    targets : tuple of int
        Least and greatest number of targets. Fewer are inserted where no room is left.
    scr : tuple of float
        Least and greatest SCR, above 0; drawn log-uniformly. Where clutter is so strong that the
        drawn value would saturate everywhere, the target gets the greatest one that fits, or the
        least of the range.
    target_sigma : tuple of float
        Least and greatest standard deviation of a target before the optics, in pixels, 0 to 4.
    polarity : {"positive", "negative", "both"}
        Targets hotter or colder than their background, or either at random.

    Returns
    -------
    SimulatedFrame

    Raises
    ------
    ValueError
        Unknown `kind` or `polarity`, or a range that is reversed or out of bounds.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> sensor = make_sensor((64, 80), rng)
    >>> frame = simulate_frame("cloud", sensor, rng, targets=(2, 2))
    >>> frame.image.dtype.name, frame.mask.shape, len(frame.scr)
    ('uint8', (64, 80), 2)
    """
    _check_range("targets", targets, 0, math.inf)
    _check_range("scr", scr, 1e-6, math.inf)
    _check_range("target_sigma", target_sigma, 0.0, 4.0)
    signs = {"positive": 1, "negative": -1}
    if polarity not in (*signs, "both"):
        raise ValueError(f"polarity {polarity!r}: must be 'positive', 'negative' or 'both'")

    scene = paint_scene(kind, sensor.shape, rng)
    irradiance = blur(sensor, scene.radiance)
    noise = temporal_noise(sensor, rng)
    signal = respond(sensor, irradiance, noise)
    mask = np.zeros(sensor.shape, np.bool_)
    ratios: list[float] = []
    count = int(rng.integers(targets[0], targets[1] + 1))
    if count:
        places = _places(scene, signal, sensor, rng)
        for _ in range(count):
            pattern = _draw_target(target_sigma, sensor.blur_sigma, rng)
            sign = int(rng.choice((-1, 1))) if polarity == "both" else signs[polarity]
            wanted = _log_uniform(rng, *scr)
            found = _choose_place(places, mask, pattern, sign, (wanted, scr[0]), rng)
            if found is None:
                break
            row, col, ratio = found
            ratios.append(_insert(irradiance, signal, mask, pattern, (row, col), sign, ratio))
        # Read out once more, for the photon noise of the targets themselves.
        signal = respond(sensor, irradiance, noise)
    return SimulatedFrame(quantise(sensor, signal), mask, tuple(ratios))


def paint_scene(kind: str, shape: tuple[int, int], rng: np.random.Generator) -> Scene:
    """Paint the radiance of one scene.

    Parameters
    ----------
    kind : str
        One of `SCENE_KINDS`: clear sky, cloud, sea, open ground, buildings, or hills and mountains.
    shape : tuple of int
        Rows and columns, each at least 16.
    rng : numpy.random.Generator

    Returns
    -------
    Scene

    Raises
    ------
    ValueError
        Unknown `kind`, or a side below 16 pixels.

    Examples
    --------
    >>> scene = paint_scene("sea", (64, 96), np.random.default_rng(0))
    >>> scene.radiance.shape, scene.radiance.dtype.name
    ((64, 96), 'float64')
    """
    if kind not in _PAINTERS:
        raise ValueError(f"kind {kind!r}: must be one of {', '.join(SCENE_KINDS)}")
    if min(shape) < MIN_SIDE:
        raise ValueError(
            f"shape {shape[0]}x{shape[1]}: both sides must be at least {MIN_SIDE} pixels"
        )
    return _PAINTERS[kind](shape, rng)


def _check_range(name: str, limits: tuple[float, float], least: float, greatest: float) -> None:
    low, high = limits
    if not least <= low <= high <= greatest:
        raise ValueError(
            f"{name} {limits}: must be (low, high) with {least:g} <= low <= high <= {greatest:g}"
        )


# Fields: the random textures that scenes are made of.


def _fractal(
    shape: tuple[int, int],
    rng: np.random.Generator,
    beta: float,
    stretch: float = 1.0,
    angle: float = 0.0,
    step: int = 1,
) -> Field:
    """Gaussian field of power spectrum 1/f^beta, zero mean, unit variance.

    Spectral synthesis (Voss, in The Science of Fractal Images, 1988). Structures are `stretch`
    times longer along the direction `angle` (radians from the rows' direction) than across.
    Steep spectra need no more than every `step`-th pixel, the rest is interpolated.
    """
    # Synthesised larger than needed, since the field is periodic.
    rows, cols = (cv2.getOptimalDFTSize((side + side // 8) // step + 1) for side in shape)
    cols += cols % 2
    fy = np.fft.fftfreq(rows)[:, None]
    fx = np.fft.rfftfreq(cols)
    if stretch == 1.0:
        power = fy * fy + fx * fx
    else:
        along = math.cos(angle) * fx + math.sin(angle) * fy
        across = math.cos(angle) * fy - math.sin(angle) * fx
        power = along * along * (stretch * stretch) + across * across
    power[0, 0] = 1.0
    amplitude = np.exp(np.log(power) * (-beta / 4))
    amplitude[0, 0] = 0.0
    white = draw_normal(rng, (*power.shape, 2)).view(np.complex128)[..., 0]
    field = np.fft.irfft2(white * amplitude, s=(rows, cols))
    if step > 1:
        size = (cols * step, rows * step)
        field = np.asarray(cv2.resize(field, size, interpolation=cv2.INTER_CUBIC), np.float64)
    return _standardised(field[: shape[0], : shape[1]])


def _smooth(
    shape: tuple[int, int], rng: np.random.Generator, down: int, across: int | None = None
) -> Field:
    """Smooth field with about `down` by `across` bumps, unit variance at its knots."""
    knots = draw_normal(rng, (down + 1, (across or down) + 1))
    field = cv2.resize(knots, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    return np.asarray(field, np.float64)


def _standardised(field: Field) -> Field:
    mean, deviation = cv2.meanStdDev(field)
    return (field - mean[0, 0]) / (deviation[0, 0] + 1e-6)


def _profile(width: int, rng: np.random.Generator, beta: float) -> Field:
    """Random skyline: one-dimensional fractal of zero mean and unit variance."""
    frequency = np.fft.rfftfreq(2 * width)
    frequency[0] = 1.0
    white = rng.standard_normal((frequency.size, 2)).view(np.complex128)[:, 0]
    white[0] = 0.0
    line = np.fft.irfft(white * frequency ** (-beta / 2), 2 * width)[:width]
    return np.asarray((line - line.mean()) / (line.std() + 1e-9))


def _grid(shape: tuple[int, int]) -> tuple[Field, Field]:
    rows = np.arange(shape[0], dtype=np.float64)[:, None]
    cols = np.arange(shape[1], dtype=np.float64)[None, :]
    return rows, cols


def _warped(field: Field, rng: np.random.Generator, reach: float, cells: int) -> Field:
    """Shift each pixel of a field by a smooth random vector of about `reach` pixels."""
    shape = (field.shape[0], field.shape[1])
    rows, cols = _grid(shape)
    warped = cv2.remap(
        field,
        (cols + reach * _smooth(shape, rng, cells)).astype(np.float32),
        (rows + reach * _smooth(shape, rng, cells)).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return np.asarray(warped, np.float64)


def _ramp(value: Field, low: float, high: float) -> Field:
    """Smoothstep from 0 at `low` to 1 at `high`."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _softened(field: Field, sigma: float) -> Field:
    return np.asarray(cv2.GaussianBlur(field, (0, 0), sigma), np.float64)


def _relief(height: Field, rng: np.random.Generator) -> Field:
    """Slope of a height field towards a random upper side light, unit variance."""
    angle = rng.uniform(0.15, 0.85) * math.pi
    down = cv2.Sobel(height, cv2.CV_64F, 0, 1, ksize=3)
    right = cv2.Sobel(height, cv2.CV_64F, 1, 0, ksize=3)
    return _standardised(math.sin(angle) * down + math.cos(angle) * right)


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def _toned(
    picture: Field,
    rng: np.random.Generator,
    contrast: tuple[float, float],
    level: tuple[float, float],
) -> Field:
    """Map arbitrary units to DN as a camera's automatic gain does: chosen mean and deviation.

    Contrast is taken back where more than about 1% of the pixels would leave the range 6 to 215.
    """
    field = _standardised(picture)
    mean = rng.uniform(*level)
    low, high = np.percentile(field[::3, ::3], (1.0, 99.0))
    deviation = min(
        _log_uniform(rng, *contrast),
        (215.0 - mean) / max(float(high), 1e-3),
        (mean - 6.0) / max(-float(low), 1e-3),
    )
    toned = mean + deviation * field
    return np.clip(toned, 1.0, 248.0)


# Skies.


def _horizon_glow(shape: tuple[int, int], rng: np.random.Generator) -> Field:
    """Clear-sky radiance, 0 at the zenith to 1 at the horizon.

    Emissivity of a plane-parallel atmosphere, 1 − exp(−τ / sin(elevation)).
    """
    rows, cols = _grid(shape)
    roll = math.tan(rng.normal(0.0, 0.06))
    bottom = math.radians(rng.uniform(0.5, 25.0))
    span = math.radians(rng.uniform(4.0, 40.0))
    height = 1 - (rows + roll * (cols - shape[1] / 2)) / shape[0]
    elevation = np.maximum(bottom + span * height, 0.003)
    depth = rng.uniform(0.05, 0.5)
    return 1 - np.exp(-depth / np.sin(elevation))


def _clear(shape: tuple[int, int], rng: np.random.Generator) -> Scene:
    glow = _standardised(_horizon_glow(shape, rng))
    haze = _fractal(
        shape, rng, rng.uniform(2.8, 3.6), rng.uniform(1.0, 4.0), rng.normal(0.0, 0.3), step=2
    )
    picture = glow + _log_uniform(rng, 0.04, 0.6) * haze
    if rng.random() < 0.3:
        opacity, body = _cloud(shape, rng, cover=rng.uniform(0.05, 0.2))
        picture = picture + rng.uniform(0.5, 3.0) * opacity * body
    return Scene(_toned(picture, rng, (3.5, 30.0), (45.0, 165.0)), np.ones(shape, np.float64))


def _cloud(shape: tuple[int, int], rng: np.random.Generator, cover: float) -> tuple[Field, Field]:
    """Opacity (0 to 1) and brightness (about 0.3 to 1.3) of one layer of cloud."""
    form = rng.choice(("cumulus", "broken", "cirrus", "stratus"), p=(0.35, 0.3, 0.2, 0.15))
    softness, stretch, beta, billow = {
        "cumulus": (rng.uniform(0.4, 1.2), rng.uniform(1.0, 1.6), rng.uniform(3.1, 3.6), 0.25),
        "broken": (rng.uniform(0.6, 1.3), rng.uniform(1.3, 3.0), rng.uniform(2.9, 3.4), 0.1),
        "cirrus": (rng.uniform(1.5, 3.0), rng.uniform(4.0, 9.0), rng.uniform(3.0, 3.5), 0.0),
        "stratus": (rng.uniform(1.5, 3.0), rng.uniform(1.5, 4.0), rng.uniform(3.2, 3.8), 0.0),
    }[str(form)]
    side = min(shape)
    thickness = _fractal(shape, rng, beta, stretch, rng.normal(0.0, 0.4))
    if form == "cirrus":
        thickness = _warped(thickness, rng, 0.035 * side, 2)
    detail = _warped(thickness, rng, 0.15 * side, 2)[::-1, ::-1]
    if billow:
        # Folded noise makes the round heads of convection.
        folded = np.abs(_fractal(shape, rng, beta - 0.5, stretch, step=2))
        thickness = thickness + billow * (0.8 - folded)
    edge = NormalDist().inv_cdf(1 - cover)
    opacity = _ramp(thickness, edge - softness / 2, edge + softness)
    depth = np.clip(thickness - edge, 0, 2)
    rim = 4 * opacity * (1 - opacity)
    body = (
        0.6
        + rng.uniform(0.1, 0.4) * depth
        + rng.uniform(0.0, 0.25) * rim
        + rng.uniform(0.03, 0.2) * detail
    )
    if billow and rng.random() < 0.6:
        heads = _softened(thickness, max(side / 60, 0.6))
        body += rng.uniform(0.03, 0.12) * np.tanh(_relief(heads, rng))
    return opacity, body


def _cloudy(shape: tuple[int, int], rng: np.random.Generator) -> Scene:
    picture = rng.uniform(0.1, 0.5) * _horizon_glow(shape, rng)
    for cover in rng.uniform(0.25, 0.85, int(rng.integers(1, 3))):
        opacity, body = _cloud(shape, rng, cover)
        picture = picture * (1 - opacity) + opacity * body
    if rng.random() < 0.15:
        picture = -picture  # short-wave cameras and cold cloud tops: dark cloud before bright sky
    return Scene(_toned(picture, rng, (12.0, 65.0), (55.0, 160.0)), np.ones(shape, np.float64))


def _sky(shape: tuple[int, int], rng: np.random.Generator) -> Field:
    """Sky above a landscape, about 0 to 1."""
    sky = rng.uniform(0.1, 0.6) * _horizon_glow(shape, rng)
    if rng.random() < 0.5:
        opacity, body = _cloud(shape, rng, rng.uniform(0.1, 0.7))
        opacity = opacity * rng.uniform(0.2, 0.9)
        sky = sky * (1 - opacity) + opacity * body * rng.uniform(0.4, 1.0)
    return sky


# Planes: sea and open ground, seen under a grazing angle.


@dataclass(frozen=True, slots=True, eq=False)
class _Plane:
    """A horizontal plane in perspective.

    `below` is the distance below the horizon in pixels (negative in the sky); `far` and `aside`
    are coordinates on the plane, in units of the camera's height times `1 / unit`; `footprint` is
    the length of one pixel along the line of sight in the same units, one value a row.
    """

    below: Field
    far: Field
    aside: Field
    footprint: Field


def _plane(
    shape: tuple[int, int],
    rng: np.random.Generator,
    horizon: float,
    unit: float,
    focal: tuple[float, float],
) -> _Plane:
    """Plane with its horizon at row `horizon`; one unit is `unit` pixels wide at the bottom.

    `focal` is the range of focal lengths in units of the greater side: how grazing the view is.
    """
    rows, cols = _grid(shape)
    roll = math.tan(rng.normal(0.0, 0.02))
    below = rows - horizon - roll * (cols - shape[1] / 2)
    length = max(shape) * rng.uniform(*focal)
    height = (shape[0] - horizon) / unit
    depth = height / np.maximum(below, 0.5)
    return _Plane(
        below=below,
        far=depth * length,
        aside=depth * (cols - shape[1] / 2),
        footprint=np.square(depth[:, shape[1] // 2, None]) * (length / height),
    )


def _plane_texture(
    plane: _Plane, rng: np.random.Generator, octaves: int, roughness: float, stretch: float
) -> Field:
    """Texture of a plane: octaves of one unit, two, four …, each faded where pixels outgrow it."""
    side = 128
    tile = _tile(side, rng, stretch)
    texture = np.zeros_like(plane.below)
    for octave in range(octaves):
        length = 2.0**octave
        weight = np.exp(-np.square(plane.footprint / (0.7 * length)))
        rows_seen = np.flatnonzero(weight > 0.03)
        if not rows_seen.size:
            continue
        seen = slice(int(rows_seen[0]), None)
        # Eight waves to the tile.
        scale = side / 8 / length
        shift = rng.uniform(0, side, 2)
        u = plane.aside[seen] * scale + shift[0]
        v = plane.far[seen] * scale + shift[1]
        wave = cv2.remap(
            tile,
            (u - side * np.floor(u / side)).astype(np.float32),
            (v - side * np.floor(v / side)).astype(np.float32),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_WRAP,
        )
        texture[seen] += length**roughness * weight[seen] * wave
    return texture


def _tile(side: int, rng: np.random.Generator, stretch: float) -> Field:
    """Periodic band-pass field, eight waves to a side, crests `stretch` times longer than deep."""
    fy = np.fft.fftfreq(side)[:, None] * side
    fx = np.fft.rfftfreq(side) * side * stretch
    band = np.exp(-np.square(np.log2(np.hypot(fy, fx) / 8 + 1e-9) / 0.6))
    white = rng.standard_normal((side, side // 2 + 1, 2)).view(np.complex128)[..., 0]
    return _standardised(np.fft.irfft2(white * band, s=(side, side)))


def _sea(shape: tuple[int, int], rng: np.random.Generator) -> Scene:
    height, width = shape
    horizon = height * rng.uniform(-0.4, 0.55)
    plane = _plane(shape, rng, horizon, width * _log_uniform(rng, 0.008, 0.05), (2.0, 6.0))
    waves = _plane_texture(plane, rng, 5, rng.uniform(-0.3, 0.2), rng.uniform(0.5, 1.0))
    waves = waves + 0.5 * _smooth(shape, rng, 40, 4)
    _, cols = _grid(shape)
    away = np.clip(plane.below / (height - horizon), 0, 1)
    # Reflected sky near the horizon, the water's own emission below: reflectance rises at grazing.
    water = rng.uniform(-0.5, 0.6) * np.sqrt(away)
    water = water + rng.uniform(0.03, 0.15) * np.exp(0.35 * waves)
    if rng.random() < 0.4:
        middle = width * rng.uniform(0.1, 0.9)
        spread = width * rng.uniform(0.1, 0.35) * (0.5 + away)
        path = np.exp(-np.square((cols - middle) / spread) / 2)
        facets = np.maximum(waves + rng.uniform(0.0, 1.0), 0)
        water = water + rng.uniform(0.1, 0.5) * path * (0.4 + facets)
    picture = water
    if horizon > -0.02 * height:
        sky = _sky(shape, rng) + rng.uniform(-0.4, 0.4)
        edge = _ramp(plane.below, -0.7, 0.7)
        picture = sky * (1 - edge) + water * edge
    # Boats sit at and just below the horizon; some aircraft fly above it.
    sunk = np.exp(-np.maximum(plane.below, 0) / (0.3 * height))
    density = np.where(plane.below < 0, 0.25, sunk)
    return Scene(_toned(picture, rng, (9.0, 50.0), (50.0, 150.0)), density)


def _ground(shape: tuple[int, int], rng: np.random.Generator) -> Scene:
    height, width = shape
    horizon = height * rng.uniform(-1.5, 0.45)
    plane = _plane(shape, rng, horizon, width * _log_uniform(rng, 0.012, 0.05), (1.0, 3.0))
    land = _fields(plane, rng)
    land = land + _log_uniform(rng, 0.02, 0.12) * _plane_texture(
        plane, rng, 5, rng.uniform(-0.3, 0.25), 1.0
    )
    # Grass and gravel, finer than the pixels of far ground.
    speckle = _softened(draw_normal(rng, shape), 0.8)
    land = land + _log_uniform(rng, 0.02, 0.2) * speckle
    picture = land
    if horizon > 0:
        sky = _sky(shape, rng) - rng.uniform(0.0, 1.0)
        edge = _ramp(plane.below, -0.7, 0.7)
        picture = sky * (1 - edge) + land * edge
    nearest = max(horizon / height, 0.05)
    for base in np.sort(height * rng.uniform(nearest, 1.0, int(rng.integers(0, 4)))):
        size = height * rng.uniform(0.02, 0.1)
        for _ in range(int(rng.integers(0, 3))):
            broad = size * rng.uniform(1.0, 4.0)
            _build(picture, rng, broad, size * rng.uniform(0.4, 1.1), float(base))
        _plant_trees(picture, rng, float(base) + 0.3 * size, size)
    return Scene(_toned(picture, rng, (8.0, 42.0), (65.0, 155.0)), np.ones(shape, np.float64))


def _fields(plane: _Plane, rng: np.random.Generator) -> Field:
    """Fields of different crop, with roads between some of them."""
    angle = rng.uniform(0, math.pi)
    cos, sin = math.cos(angle), math.sin(angle)
    length = _log_uniform(rng, 20.0, 90.0)
    shape = (plane.below.shape[0], plane.below.shape[1])
    bend = rng.uniform(0.0, 0.3) * _smooth(shape, rng, 4)
    u = (cos * plane.aside + sin * plane.far) / length + bend
    v = (cos * plane.far - sin * plane.aside) / (length * rng.uniform(0.7, 3.0)) - bend
    crop = rng.normal(0.0, _log_uniform(rng, 0.1, 0.5), (16, 16))
    land = crop[np.floor(u).astype(np.int32) & 15, np.floor(v).astype(np.int32) & 15]
    # Fields too far to tell apart blend into one.
    land *= np.exp(-np.square(plane.footprint / (0.3 * length)))
    if rng.random() < 0.5:
        from_road = np.abs(u - np.round(u)) * length
        road = rng.choice((-1, 1)) * rng.uniform(0.2, 0.5)
        land += road * (1 - _ramp(from_road, 0.5, 1.0)) * np.exp(-np.square(plane.footprint))
    return land


def _plant_trees(picture: Field, rng: np.random.Generator, base: float, size: float) -> None:
    """Draw a line of trees about `size` pixels high that stands on row `base`."""
    height, width = picture.shape
    cols = np.arange(width, dtype=np.float64)
    count = int(np.clip(rng.uniform(1.0, 3.0) * width / size, 6, 150))
    middle = rng.uniform(0, width, (count, 1))
    tall = rng.uniform(0.3, 1.0, (count, 1)) * size
    broad = tall * rng.uniform(0.25, 0.7, (count, 1)) + 1
    crown = (tall * (1 - np.square((cols - middle) / broad))).max(axis=0)
    crown = np.maximum(crown, rng.uniform(-0.2, 0.4) * size)
    crown += (rng.uniform(0.04, 0.12) * size) * _profile(width, rng, 1.2)
    foot = base + rng.normal(0.0, 0.03) * (cols - width / 2)
    start, stop = max(int((foot - crown).min()), 0), min(int(foot.max()) + 2, height)
    if stop <= start + 1:
        return
    rows = np.arange(start, stop, dtype=np.float64)[:, None]
    above = rows - foot + crown
    inside = _ramp(above, -0.7, 0.7) * (1 - _ramp(rows - foot, -0.7, 0.7))
    leaves = draw_normal(rng, (stop - start, width))
    leaves = _softened(leaves, max(size / 14, 0.7))
    tone = rng.normal(0.1, 0.3) + 0.08 * _standardised(leaves)
    tone = tone - rng.uniform(0.0, 0.3) * np.minimum(above / size, 1)
    picture[start:stop] += inside * (tone - picture[start:stop])


def _mountain(shape: tuple[int, int], rng: np.random.Generator) -> Scene:
    height, width = shape
    rows, _ = _grid(shape)
    picture = _sky(shape, rng)
    density = np.ones(shape, np.float64)
    air = rng.uniform(0.1, 0.6)
    near = rng.uniform(-0.3, 1.1)
    slopes = _fractal(
        shape, rng, rng.uniform(3.2, 3.8), rng.uniform(1.3, 3.0), rng.uniform(0.8, 2.3), step=2
    )
    # Ridges are the folds of the field; erosion leaves them sharp.
    ridges = _softened(-np.abs(slopes), max(min(shape) / 250, 0.6))
    light = np.tanh(0.6 * _relief(ridges, rng)) + 0.5 * slopes
    layers = int(rng.integers(1, 5))
    first = rng.uniform(0.25, 0.65)
    for layer in range(layers):
        nearness = (layer + 1) / layers
        base = height * (first + (0.95 - first) * layer / layers)
        rise = height * rng.uniform(0.03, 0.13)
        crest = base - rise * _profile(width, rng, rng.uniform(2.6, 3.6))
        start = min(max(int(crest.min()) - 1, 0), height - 1)
        under = rows[start:] - crest
        edge = _ramp(under, -0.6, 0.6)
        relief = nearness * rng.uniform(0.03, 0.14)
        far = air + (near - air) * nearness
        rock = far + relief * light[start:, :: int(rng.choice((-1, 1)))]
        rock -= 0.15 * nearness * _ramp(under, 0.0, 0.4 * height)
        picture[start:] += edge * (rock - picture[start:])
        density[start:][under > 0] = 0.4
    if rng.random() < 0.4:
        size = height * rng.uniform(0.05, 0.15)
        _plant_trees(picture, rng, height * rng.uniform(1.0, 1.1), size)
    return Scene(_toned(picture, rng, (15.0, 58.0), (50.0, 150.0)), density)


def _urban(shape: tuple[int, int], rng: np.random.Generator) -> Scene:
    height, width = shape
    picture = _sky(shape, rng) * rng.uniform(0.05, 0.4)
    sky = picture.copy()
    ground = height * rng.uniform(0.8, 1.3)
    scale = _log_uniform(rng, 0.15, 0.6)
    layers = int(rng.integers(1, 4))
    for layer in range(layers):
        nearness = (layer + 1) / layers
        for _ in range(max(round(rng.uniform(0.4, 1.6) / scale / nearness), 1)):
            broad = width * scale * rng.uniform(0.6, 1.4) * nearness
            tall = height * rng.uniform(0.25, 0.85) * math.sqrt(nearness)
            _build(picture, rng, broad, tall, ground - 0.1 * height * (1 - nearness))
    if ground < height:
        yard = _smooth((height - int(ground), width), rng, 3, 5)
        picture[int(ground) :] = rng.uniform(0.1, 0.8) + 0.08 * yard
    if rng.random() < 0.6:
        size = height * rng.uniform(0.06, 0.25)
        _plant_trees(picture, rng, min(ground, height) + 0.2 * size, size)
    built = picture != sky
    stains = rng.uniform(0.01, 0.04) * _fractal(shape, rng, 2.6, step=2)
    picture = picture + stains * built
    # The camera is rolled a little and looks up: verticals converge.
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32)
    moved = corners + rng.normal(0.0, 0.02, (4, 2)) * (width, height)
    moved[:2, 0] += rng.uniform(0.0, 0.06) * width * np.array([1, -1])
    lean = cv2.getPerspectiveTransform(corners, moved.astype(np.float32))
    picture, buildings = (
        np.asarray(
            cv2.warpPerspective(field, lean, (width, height), borderMode=cv2.BORDER_REPLICATE),
            np.float64,
        )
        for field in (picture, built.astype(np.float64))
    )
    hidden = buildings > 0.5
    density = np.where(hidden, 0.2, 1.0)
    return Scene(_toned(picture, rng, (28.0, 68.0), (30.0, 130.0)), density)


def _build(
    picture: Field, rng: np.random.Generator, broad: float, tall: float, base: float
) -> None:
    """Draw a building that stands on row `base`: two walls, windows, a roof edge, structures."""
    height, width = picture.shape
    top, bottom = round(base - tall), min(round(base), height)
    left = round(rng.uniform(-0.5 * broad, width - 0.5 * broad))
    right = left + max(round(broad), 3)
    tone = float(rng.uniform(0.3, 1.1))
    corner = left + round((right - left) * rng.choice((0.0, rng.uniform(0.15, 0.6))))
    turned = tone * rng.uniform(0.45, 0.9)
    storey = max(broad * rng.uniform(0.04, 0.12), 2.5)
    window = tone * (rng.uniform(0.3, 0.85) if rng.random() < 0.75 else rng.uniform(1.1, 1.5))
    for start, stop, wall in ((left, corner, turned), (corner, right, tone)):
        _face(picture, rng, (top, start, bottom, stop), wall, window * wall / tone, storey)
    edge = max(round(0.02 * broad), 1)
    _fill(picture, (top - edge, left - edge, top, right + edge), tone * rng.uniform(0.9, 1.3))
    for _ in range(int(rng.integers(0, 3))):
        wide = max(round(broad * rng.uniform(0.05, 0.3)), 1)
        high = max(round(broad * rng.uniform(0.03, 0.15)), 1)
        at = left + round(rng.uniform(0, max(right - left - wide, 1)))
        _fill(picture, (top - edge - high, at, top - edge, at + wide), tone * rng.uniform(0.6, 1.2))


def _face(
    picture: Field,
    rng: np.random.Generator,
    box: tuple[int, int, int, int],
    wall: float,
    window: float,
    storey: float,
) -> None:
    """Draw one wall with rows of windows, warmer towards the ground or the roof."""
    top, left, bottom, right = box
    height, width = picture.shape
    rows = np.arange(max(top, 0), min(bottom, height))
    cols = np.arange(max(left, 0), min(right, width))
    if not (rows.size and cols.size):
        return
    pitch = storey * rng.uniform(0.7, 1.6)
    glass_rows = ((rows - top) / storey % 1 > rng.uniform(0.35, 0.65)).astype(np.float64)
    glass_cols = ((cols - left) / pitch % 1 > rng.uniform(0.3, 0.6)).astype(np.float64)
    # Every window has its own temperature.
    panes = (
        ((rows - top) // storey).astype(np.int64)[:, None] * 7
        + ((cols - left) // pitch).astype(np.int64) * 13
    ) % 32
    glass = window * rng.normal(1.0, 0.12, 32)[panes]
    drift = rng.normal(0.0, 0.12) * ((rows - top) / max(bottom - top, 1) - 0.5)
    face = (wall * (1 + drift))[:, None]
    opening = glass_rows[:, None] * glass_cols
    area = picture[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    area[:] = face + opening * (glass - face)


def _fill(picture: Field, box: tuple[int, int, int, int], tone: float) -> None:
    top, left, bottom, right = (max(side, 0) for side in box)
    picture[top:bottom, left:right] = tone


_PAINTERS: dict[str, Callable[[tuple[int, int], np.random.Generator], Scene]] = {
    "clear": _clear,
    "cloud": _cloudy,
    "sea": _sea,
    "ground": _ground,
    "urban": _urban,
    "mountain": _mountain,
}
SCENE_KINDS = tuple(_PAINTERS)


# Targets.


def _draw_target(sigma: tuple[float, float], blur_sigma: float, rng: np.random.Generator) -> Field:
    """Image of one target: peak 1, sub-pixel position, blurred, integrated over pixels.

    Returns an array of odd side whose central pixel holds the target's centre.
    """
    size = max(rng.uniform(*sigma), 0.2)  # a sample of the fine grid must not miss a point
    form = rng.choice(("point", "ellipse", "aircraft"), p=(0.45, 0.3, 0.25))
    aspect = 1.0 if form == "point" else rng.uniform(1.0, 2.5)
    half = math.ceil(3.0 * math.hypot(size * aspect, blur_sigma)) + 2
    side = 2 * half + 1
    axis = (np.arange(side * _SUPERSAMPLING) + 0.5) / _SUPERSAMPLING - 0.5 - half
    y, x = axis[:, None] - rng.uniform(-0.5, 0.5), axis[None, :] - rng.uniform(-0.5, 0.5)
    angle = rng.uniform(0, 2 * math.pi)
    u = (math.cos(angle) * x + math.sin(angle) * y) / size
    v = (math.cos(angle) * y - math.sin(angle) * x) / size
    if form == "aircraft":
        fuselage = np.exp(-((u / 2.6) ** 4) - (v / 0.45) ** 2)
        wings = np.exp(-(((u - 0.5 + 0.5 * np.abs(v)) / 0.5) ** 2) - (v / 2.2) ** 4)
        engine = np.exp(-((u + 1.6) ** 2 + v**2) / 0.4)
        shape = np.maximum(fuselage, 0.8 * wings) + rng.uniform(0.0, 0.6) * engine
    else:
        # Between a Gaussian and a flat disc.
        flatness = 1.0 if form == "point" else rng.uniform(1.0, 2.5)
        shape = np.exp(-((((u / aspect) ** 2 + v**2) / 2) ** flatness))
    if blur_sigma > 0:
        shape = np.asarray(cv2.GaussianBlur(shape, (0, 0), blur_sigma * _SUPERSAMPLING))
    pixels = shape.reshape(side, _SUPERSAMPLING, side, _SUPERSAMPLING).mean(axis=(1, 3))
    return np.asarray(pixels / pixels.max())


@dataclass(frozen=True, slots=True, eq=False)
class _Places:
    """Where targets can go, and the background there, in DN of 8-bit data.

    `total` is the cumulated density of target centres over the flat frame; `mean` and `clutter`
    are the mean and standard deviation of the neighbourhood, `under` the mean of 5 x 5 pixels.
    """

    total: NDArray[np.float64]
    mean: Field
    clutter: Field
    under: Field


def _places(scene: Scene, signal: Field, sensor: Sensor, rng: np.random.Generator) -> _Places:
    density = scene.density.copy()
    if rng.random() >= _BORDER_SHARE:
        density[:_BORDER] = density[-_BORDER:] = 0
        density[:, :_BORDER] = density[:, -_BORDER:] = 0
    # A pixel that does not respond would make a hole in the target.
    defects = np.zeros(sensor.shape, np.uint8)
    defects.flat[sensor.defects] = 1
    density[cv2.dilate(defects, np.ones((5, 5), np.uint8)) > 0] = 0
    window = (2 * _NEIGHBOURHOOD + 5, 2 * _NEIGHBOURHOOD + 5)
    mean = cv2.boxFilter(signal, -1, window)
    square = cv2.sqrBoxFilter(signal, -1, window)
    return _Places(
        total=np.cumsum(density, dtype=np.float64),
        mean=np.asarray(mean, np.float64),
        clutter=np.sqrt(np.maximum(square - mean * mean, 0.04)),
        under=np.asarray(cv2.blur(signal, (5, 5)), np.float64),
    )


def _choose_place(
    places: _Places,
    mask: Mask,
    pattern: Field,
    sign: int,
    scr: tuple[float, float],
    rng: np.random.Generator,
) -> tuple[int, int, float] | None:
    """Draw a place for a target, and the SCR that it can have there.

    `scr` is the wanted and the least ratio. None where no candidate keeps clear of the targets
    that `mask` already has.
    """
    if places.total[-1] <= 0:
        return None
    drawn = rng.random(_CANDIDATES) * places.total[-1]
    flat = np.minimum(np.searchsorted(places.total, drawn, side="right"), mask.size - 1)
    rows, cols = np.divmod(flat, mask.shape[1])
    core = pattern > _MASK_FRACTION
    taken = np.argwhere(mask)
    if taken.size:
        reach = int(np.abs(np.argwhere(core) - pattern.shape[0] // 2).max())
        apart = np.maximum(
            np.abs(rows[:, None] - taken[:, 0]), np.abs(cols[:, None] - taken[:, 1])
        ).min(axis=1)
        clear = apart > reach + _GAP
        rows, cols = rows[clear], cols[clear]
        if not rows.size:
            return None
    under, mean = places.under[rows, cols], places.mean[rows, cols]
    clutter = places.clutter[rows, cols]
    # The greatest SCR that does not saturate, and how far the background alone stands out.
    room = _HEADROOM - under if sign > 0 else under - (255.0 - _HEADROOM)
    excess = sign * (under - mean)
    greatest = (room * float(pattern[core].mean()) + excess) / clutter
    wanted, least = scr
    fits = np.flatnonzero((greatest >= wanted) & (excess < 0.5 * wanted * clutter))
    if fits.size:
        chosen = int(fits[0])
    else:
        chosen = int(greatest.argmax())
        wanted = min(wanted, max(0.9 * float(greatest[chosen]), least))
    return int(rows[chosen]), int(cols[chosen]), wanted


def _insert(
    irradiance: Field,
    signal: Field,
    mask: Mask,
    pattern: Field,
    place: tuple[int, int],
    sign: int,
    scr: float,
) -> float:
    """Add a target to a frame (`signal` is `irradiance` read out) and return its SCR."""
    row, col = place
    # Everything happens in a crop that holds the target and its neighbourhood.
    margin = pattern.shape[0] // 2 + _NEIGHBOURHOOD
    top, left = max(row - margin, 0), max(col - margin, 0)
    crop = (slice(top, row + margin + 1), slice(left, col + margin + 1))
    height, width = signal[crop].shape
    lift = np.pad(pattern, _NEIGHBOURHOOD)
    lift = lift[margin - row + top :, margin - col + left :][:height, :width]
    # A border can cut a mask in two: the part that holds the peak is the target's.
    _, labels = cv2.connectedComponents((lift > _MASK_FRACTION * lift.max()).view(np.uint8))
    own = np.asarray(labels == labels.flat[int(lift.argmax())])
    box = cv2.boundingRect(own.view(np.uint8))
    first = [max(side - _NEIGHBOURHOOD, 0) for side in box[:2]]
    last = [box[axis] + box[axis + 2] + _NEIGHBOURHOOD for axis in (0, 1)]
    around = ~mask[crop] & ~own
    around[: first[1]] = around[last[1] :] = False
    around[:, : first[0]] = around[:, last[0] :] = False
    peak, ratio = _peak(signal[crop], lift, own, around, sign, scr)
    irradiance[crop] += peak * lift
    signal[crop] += peak * lift
    mask[crop] |= own
    return ratio


def _peak(
    signal: Field, lift: Field, own: Mask, around: Mask, sign: int, scr: float
) -> tuple[float, float]:
    """Signed peak of a target that gives it the wanted SCR, and the SCR that it gives.

    With background b and contribution a·p, the definition is a quadratic in a:
    (μ_t − μ_b + a(p_t − p_b))² = SCR²·(var b + 2a·cov(b, p) + a²·var p), the statistics of b and p
    taken over the neighbourhood, since a target's own skirt is part of its clutter.
    """
    clutter, skirt = signal[around].astype(np.float64), lift[around].astype(np.float64)
    if not clutter.size:
        return sign * _LEAST_EXCESS, scr
    offset = float(signal[own].mean()) - float(clutter.mean())
    slope = float(lift[own].mean()) - float(skirt.mean())
    variance = max(float(clutter.var()), _ROUNDING_VARIANCE)
    shared = float(np.mean((clutter - clutter.mean()) * (skirt - skirt.mean())))
    spread = float(skirt.var())
    a = slope * slope - scr * scr * spread
    b = offset * slope - scr * scr * shared
    c = offset * offset - scr * scr * variance
    root = math.sqrt(max(b * b - a * c, 0.0))
    # A skirt bounds the ratio that any brightness can reach; then (a <= 0) leave the skirt out.
    peak = (-b + sign * root) / a if a > 0 else (sign * scr * math.sqrt(variance) - offset) / slope
    peak = sign * max(sign * peak, _LEAST_EXCESS)
    deviation = math.sqrt(max(variance + 2 * peak * shared + peak * peak * spread, 1e-12))
    return peak, abs(offset + slope * peak) / deviation
