"""The noise of one camera or of several, as builds use it, and the files that it comes in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from synth.disk.npz import read_npz
from synth.errors import NoiseError
from synth.frames import Frame
from synth.noise.bank import NoiseBank, bank_from, npz_bytes
from synth.noise.blocks import bank_blocks
from synth.noise.components import (
    LAGS,
    NoiseComponents,
    components_from,
    measure_gain,
    spectrum_of,
)
from synth.noise.model import (
    SUMMARY,
    NoiseModel,
    correlation_length,
    fit_model,
    model_from,
    normal_quantiles,
    rounded,
)
from synth.noise.realisation import NoiseGenerator, realisation_seed
from synth.noise.residual import generate_frame

_WHAT = "noise; make some with `synth noise-sample` or `synth noise-model`"


class CameraNoise:
    """Noise models of cameras, one or more; an index counts the frames of all of them.

    Models of different depth are a `NoiseError`.
    """

    def __init__(self, models: Sequence[NoiseModel]) -> None:
        if len({model.depth for model in models}) != 1:
            raise NoiseError(
                "noise of 8 and of 16 bits cannot be mixed; build with sources of one depth"
            )
        self.models = tuple(models)
        self._start = np.cumsum([0, *map(len, self.models)])
        self._generators = [NoiseGenerator(model) for model in self.models]

    def __len__(self) -> int:
        return int(self._start[-1])

    def members(self) -> list[NDArray[np.intp]]:
        """Indices of the frames of each camera."""
        return np.split(np.arange(len(self)), self._start[1:-1])

    def generator(self, index: int) -> tuple[NoiseGenerator, int]:
        """The generator of a frame's camera, and the frame's number there."""
        camera = int(np.searchsorted(self._start, index, side="right")) - 1
        return self._generators[camera], index - int(self._start[camera])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What a file holds of them, by name."""
        return {
            f"{number}/{name}": array
            for number, model in enumerate(self.models)
            for name, array in model.arrays().items()
        }

    def to_bytes(self) -> bytes:
        """The models as one ``.npz`` file; the same bytes for the same models."""
        return pack_noise(self)


def pack_noise(*parts: NoiseBank | CameraNoise) -> bytes:
    """A bank, models, or both as one ``.npz`` file; the same bytes for the same noise."""
    return npz_bytes({name: array for part in parts for name, array in part.arrays().items()})


def load_parts(path: Path) -> tuple[NoiseBank | None, CameraNoise | None]:
    """Read what `pack_noise` has written; errors as `load_noise`."""
    return _parts_from(read_npz(path, _WHAT), path)


def load_noise(path: Path | str) -> NoiseBank | NoiseComponents | CameraNoise:
    """Read noise of any kind; nothing in the file is executed (no pickle).

    It is what ``synth noise-sample`` or ``synth noise-model`` has written, or a build; of a build
    with a bank and models it is the bank. A file that is absent, damaged, or none of these is a
    `NoiseError`.
    """
    path = Path(path)
    found = read_npz(path, _WHAT)
    if "correlation" in found:
        return components_from(found, path)
    bank, cameras = _parts_from(found, path)
    return cast(NoiseBank | CameraNoise, bank or cameras)


def _parts_from(
    found: Mapping[str, NDArray[Any]], path: Path
) -> tuple[NoiseBank | None, CameraNoise | None]:
    patches: dict[str, NDArray[Any]] = {}
    models: dict[str, dict[str, NDArray[Any]]] = {}
    for key, array in found.items():
        number, slash, name = key.partition("/")
        part = models.setdefault(number, {}) if slash else patches
        part[name or key] = array
    numbers = [str(number) for number in range(len(models))]
    if models.keys() != set(numbers) or not (models or "patches" in patches):
        raise NoiseError(f"{path}: is not {_WHAT}")
    cameras = [model_from(models[number], path) for number in numbers]
    return bank_from(patches, path) if patches else None, CameraNoise(cameras) if cameras else None


def load_cameras(path: Path | str, *, keep_patches: bool = False) -> CameraNoise:
    """Read noise of any kind as models: a bank is fitted, a sequence's noise is taken over.

    Errors are those of `load_noise` and `fit_model`, which may keep a bank's patches.
    """
    found = load_noise(path)
    if isinstance(found, CameraNoise):
        return found
    if isinstance(found, NoiseComponents):
        return CameraNoise([sequence_model(found)])
    try:
        blocks = [bank_blocks(found.take(members)) for members in found.members()]
        return CameraNoise([fit_model(part, keep_patches=keep_patches) for part in blocks])
    except NoiseError as error:
        raise NoiseError(f"{path}: {error}") from None


def sequence_model(*levels: NoiseComponents) -> NoiseModel:
    """Make a model of the noise that comes and goes in sequences of one camera.

    Its pixels' noise is ``tvh`` at each sequence's mean intensity, normal, and as correlated along
    rows and along columns as measured; its patterns are ``th`` and ``tv``, which are white. What
    stays, ``vh``, ``v`` and ``h``, is left out, as it may be scene. Several sequences are at
    several levels of light.
    """
    levels = tuple(sorted(levels, key=lambda one: one.mean))
    if len({one.depth for one in levels}) != 1:
        raise NoiseError("sequences of 8 and of 16 bits are not of one camera")
    side = 4 * LAGS
    correlation = np.mean([one.correlation for one in levels], axis=0)
    spectrum = np.outer(*(spectrum_of(line, side).clip(1e-3) for line in correlation[1:]))
    names = ("tvh", "th", "tv")
    sigma, error = (
        np.array([[numbers[name] for name in names] for numbers in table])
        for table in ([one.sigma for one in levels], [one.error for one in levels])
    )
    pixels, column, row = np.sqrt((sigma**2).mean(0))
    gain, doubt = measure_gain(levels) if len(levels) > 1 else (0.0, 0.0)
    lengths = [correlation_length(correlation[axis]) for axis in (2, 1)]
    wide = np.sqrt((error**2).mean(0) / len(levels))
    mean = np.array([max(one.mean, 0.0) for one in levels])
    apart = np.concatenate([[True], np.diff(mean) > 1e-6])
    return rounded(
        NoiseModel(
            level=mean[apart],
            sigma=sigma[apart, 0],
            frame_factor=np.ones(len(levels)),
            frame_column=sigma[:, 1],
            frame_row=sigma[:, 2],
            frame_levels=mean[:, None],
            frame_kind=np.zeros(len(levels), np.int64),
            spectrum=(spectrum / spectrum.mean())[None],
            columns=np.full(side, float(column > 0)),
            rows=np.full(side, float(row > 0)),
            quantiles=normal_quantiles()[None],
            summary=dict(zip(SUMMARY, (pixels, column, row, gain, *lengths), strict=True)),
            error=dict(zip(SUMMARY, (*wide, doubt, 0.0, 0.0), strict=True)),
            depth=levels[0].depth,
        )
    )


def generate_frames(
    cameras: CameraNoise, shape: tuple[int, int], count: int, seed: int = 0
) -> Iterator[Frame]:
    """Make frames (H, W) of noise alone, those of every camera's every frame in turn."""
    for number in range(count):
        noise, frame = cameras.generator(number % len(cameras))
        own = realisation_seed(seed, "frames", number)
        yield generate_frame(noise, shape, seed=own, frame=frame)
