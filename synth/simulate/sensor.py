"""Simulated infrared cameras: optics, fixed pattern, temporal noise, quantisation.

Radiance and noise are given in DN of 8-bit data, whatever the camera's depth; `quantise` scales
them to the camera's own range. The noise follows the three-dimensional noise model of D'Agostino
and Webb (Proc. SPIE 1488, 1991) in its parts that matter on single frames: temporal pixel noise
(TVH), fixed column and row patterns (H, V), and a fixed residual pattern (VH: gain spread, shading
left over by a one-point correction, defective pixels).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from synth.frames import Frame

Field = NDArray[np.float64]

MIN_SIDE = 16

# Share of the temporal variance at half range that is photon noise, hence grows with the signal.
# A cooled camera is background limited, an uncooled one is not; the default lies between.
_PHOTON_SHARE = 0.4
_HALF_RANGE = 127.5
# What uniformity correction leaves behind, relative to the column pattern and to unit gain.
_SHADING_PER_COLUMN_SIGMA = 0.6
_GAIN_SIGMA = 0.003
# Lag-1 correlation of temporal noise between neighbours: crosstalk and read-out filters.
_CORRELATION_RANGE = (-0.05, 0.25)


@dataclass(frozen=True, slots=True, eq=False)
class Sensor:
    """One camera. Its fixed pattern is the same in every frame.

    Attributes
    ----------
    bits : int
        Bit depth, 8 to 16; frames are uint8 at 8 bits and uint16 above.
    temporal_sigma : float
        Temporal noise at half range, in 8-bit DN.
    correlation : float
        Lag-1 correlation of the temporal noise along rows and along columns.
    blur_sigma : float
        Standard deviation of the Gaussian optical PSF in pixels.
    gain : (H, W) ndarray of float64
        Response of each pixel, near 1.
    offset : (H, W) ndarray of float64
        Fixed pattern in 8-bit DN: columns, rows and low-frequency shading.
    defects : (N,) ndarray of int64
        Flat indices of the pixels that do not respond to light.
    defect_levels : (N,) ndarray of float64
        What those pixels read, in 8-bit DN: dead ones near 0, hot ones high.
    """

    bits: int
    temporal_sigma: float
    correlation: float
    blur_sigma: float
    gain: Field
    offset: Field
    defects: NDArray[np.int64]
    defect_levels: Field

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of a frame."""
        height, width = self.gain.shape
        return height, width

    @property
    def dn_per_level(self) -> float:
        """DN of this camera for one DN of 8-bit data."""
        return (2.0**self.bits - 1.0) / 255.0


def make_sensor(
    shape: tuple[int, int],
    rng: np.random.Generator,
    *,
    bits: int = 8,
    temporal_sigma: float = 2.0,
    column_sigma: float = 1.0,
    row_sigma: float = 0.5,
    dead_fraction: float = 2e-4,
    blur_sigma: float = 0.8,
) -> Sensor:
    """Make a camera: draw its fixed pattern once.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns, each at least 16.
    rng : numpy.random.Generator
    bits : int
        Bit depth, 8 to 16.
    temporal_sigma, column_sigma, row_sigma : float
        Standard deviations of temporal noise (at half range), column and row pattern, in DN of
        8-bit data; they scale with the range of deeper data.
    dead_fraction : float
        Share of defective pixels, 0 to 0.1, rounded to a whole number of them; every second one
        is hot.
    blur_sigma : float
        Standard deviation of the optical PSF in pixels.

    Returns
    -------
    Sensor

    Raises
    ------
    ValueError
        An argument is out of its range.

    Examples
    --------
    >>> sensor = make_sensor((48, 64), np.random.default_rng(0), bits=14)
    >>> frame = quantise(sensor, blur(sensor, np.full((48, 64), 100.0)))
    >>> frame.shape, frame.dtype.name
    ((48, 64), 'uint16')
    """
    height, width = shape
    if min(height, width) < MIN_SIDE:
        raise ValueError(f"shape {height}x{width}: both sides must be at least {MIN_SIDE} pixels")
    if not 8 <= bits <= 16:
        raise ValueError(f"bits {bits}: must lie between 8 and 16")
    if not 0 <= dead_fraction <= 0.1:
        raise ValueError(f"dead_fraction {dead_fraction}: must lie between 0 and 0.1")
    for name, sigma in (
        ("temporal_sigma", temporal_sigma),
        ("column_sigma", column_sigma),
        ("row_sigma", row_sigma),
        ("blur_sigma", blur_sigma),
    ):
        if not (np.isfinite(sigma) and sigma >= 0):
            raise ValueError(f"{name} {sigma}: must be finite and not negative")

    columns = rng.normal(0.0, column_sigma, width)
    rows = rng.normal(0.0, row_sigma, (height, 1))
    coarse = rng.standard_normal((4, 4))
    shading = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    offset = columns + rows + _SHADING_PER_COLUMN_SIGMA * column_sigma * (shading - shading.mean())
    gain = 1.0 + _GAIN_SIGMA * draw_normal(rng, shape)
    count = round(dead_fraction * height * width)
    defects = np.sort(rng.choice(height * width, count, replace=False))
    levels = rng.uniform(0.0, 12.0, count)
    levels[::2] = rng.uniform(150.0, 255.0, levels[::2].size)
    return Sensor(
        bits=bits,
        temporal_sigma=float(temporal_sigma),
        correlation=float(rng.uniform(*_CORRELATION_RANGE)),
        blur_sigma=float(blur_sigma),
        gain=gain,
        offset=offset,
        defects=defects,
        defect_levels=levels,
    )


def draw_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Field:
    """Draw standard normal values, in single precision, which takes half the time.

    Parameters
    ----------
    rng : numpy.random.Generator
    shape : tuple of int

    Returns
    -------
    ndarray of float64
    """
    return rng.standard_normal(shape, np.float32).astype(np.float64)


def blur(sensor: Sensor, radiance: Field) -> Field:
    """Image a scene through the optics: convolve it with the PSF.

    Parameters
    ----------
    sensor : Sensor
    radiance : (H, W) ndarray of float64

    Returns
    -------
    (H, W) ndarray of float64
        Irradiance on the detector, in the units of `radiance`.

    Raises
    ------
    ValueError
        The scene has another shape than the camera.
    """
    if radiance.shape != sensor.shape:
        raise ValueError(f"a scene of {radiance.shape} does not fit a camera of {sensor.shape}")
    if sensor.blur_sigma == 0:
        return radiance
    blurred = cv2.GaussianBlur(radiance, (0, 0), sensor.blur_sigma)
    return np.asarray(blurred, np.float64)


def temporal_noise(sensor: Sensor, rng: np.random.Generator) -> Field:
    """Draw one frame of temporal noise of unit variance, with the camera's correlation.

    Parameters
    ----------
    sensor : Sensor
    rng : numpy.random.Generator

    Returns
    -------
    (H, W) ndarray of float64
        Dimensionless; `respond` scales it by the signal.
    """
    white = draw_normal(rng, sensor.shape)
    # The kernel (c, 1, c) has lag-1 correlation 2c / (1 + 2c²).
    rho = sensor.correlation
    side = rho / (1.0 + np.sqrt(1.0 - 2.0 * rho * rho))
    kernel = np.array([side, 1.0, side]) / np.sqrt(1.0 + 2.0 * side * side)
    return np.asarray(cv2.sepFilter2D(white, -1, kernel, kernel), np.float64)


def respond(sensor: Sensor, irradiance: Field, noise: Field) -> Field:
    """Turn irradiance into signal: gain, photon and read noise, fixed pattern, defects.

    The temporal variance is σ²·[(1 − s) + s·E/127.5]: a constant part and, with share s = 0.4 at
    half range, a photon part proportional to the irradiance E (the linear camera model of EMVA
    Standard 1288).

    Parameters
    ----------
    sensor : Sensor
    irradiance : (H, W) ndarray of float64
        DN of 8-bit data.
    noise : (H, W) ndarray of float64
        From `temporal_noise`.

    Returns
    -------
    (H, W) ndarray of float64
        DN of 8-bit data, neither rounded nor clipped.
    """
    photons = np.maximum(irradiance, 0) * (_PHOTON_SHARE / _HALF_RANGE)
    sigma = sensor.temporal_sigma * np.sqrt(photons + (1 - _PHOTON_SHARE))
    signal = irradiance * sensor.gain + sensor.offset + sigma * noise
    signal.flat[sensor.defects] = sensor.defect_levels
    return signal


def quantise(sensor: Sensor, signal: Field) -> Frame:
    """Convert signal to DN: scale to the camera's range, round, clip.

    Parameters
    ----------
    sensor : Sensor
    signal : (H, W) ndarray of float64
        DN of 8-bit data.

    Returns
    -------
    (H, W) ndarray of uint8 or uint16
        DN between 0 and 2**bits − 1.
    """
    counts = np.rint(signal * sensor.dn_per_level)
    clipped = np.clip(counts, 0, 2**sensor.bits - 1)
    return clipped.astype(np.uint8) if sensor.bits == 8 else clipped.astype(np.uint16)
