"""Frames of a simulated camera whose noise is known to the letter."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from synth.frames import Frame


@dataclass(frozen=True)
class Camera:
    """Numbers of the camera: σ² = sigma² + gain · intensity, all in DN; blur in pixels."""

    sigma: float = 2.0
    gain: float = 0.04
    column: float = 0.8
    row: float = 0.5
    blur: float = 0.5
    dn: float = 1.0

    @property
    def correlation(self) -> np.ndarray:
        """Autocorrelation of the pixels' noise along either axis, at lags 0 to 14."""
        if not self.blur:
            return np.eye(1, 15)[0]
        kernel = cv2.getGaussianKernel(15, self.blur).ravel()
        found = np.correlate(kernel, kernel, "full")[14:]
        return found / found[0]

    def sigma_at(self, intensity: float) -> float:
        """σ of the pixels' noise at an intensity, DN."""
        return float(np.hypot(self.sigma * self.dn, np.sqrt(self.gain * self.dn * intensity)))

    def frames(
        self,
        rng: np.random.Generator,
        levels: np.ndarray,
        shape: tuple[int, int] = (256, 320),
        scene: bool = False,
    ) -> list[Frame]:
        """Frames around intensities in DN of 8-bit data, with one fixed pattern."""
        columns = rng.normal(0, self.column, shape[1])
        rows = rng.normal(0, self.row, shape[0])[:, None]
        made = []
        for level in levels:
            clean = np.full(shape, float(level))
            if scene:
                clean += 500 * cv2.GaussianBlur(rng.normal(0, 1, shape), (0, 0), 25)
                clean = clean.clip(20, 230)
            white = rng.normal(0, 1, (shape[0] + 14, shape[1] + 14))
            if self.blur:
                kernel = cv2.getGaussianKernel(15, self.blur)
                white = cv2.sepFilter2D(white, -1, kernel, kernel) / (kernel**2).sum()
            white = white[7:-7, 7:-7]
            noisy = clean + np.sqrt(self.sigma**2 + self.gain * clean) * white + columns + rows
            dtype = np.uint8 if self.dn == 1 else np.uint16
            made.append(np.rint(noisy * self.dn).clip(0, 255 * self.dn).astype(dtype))
        return made
