"""Learn a camera's noise from what a user has: a folder, files or arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import numpy as np

from synth.disk.folders import find_frames
from synth.errors import NoiseError
from synth.frames import Frame, Mask, read_frame, require_frame
from synth.noise.bank import NoiseBank, join_banks
from synth.noise.blocks import find_noise_blocks
from synth.noise.cameras import CameraNoise
from synth.noise.model import NoiseModel, fit_model
from synth.noise.sampling import (
    Loader,
    NoiseFrame,
    SamplingRule,
    by_folder,
    load_each,
    sample_frames,
)

Frames = str | Path | Frame | Iterable[str | Path | Frame]
"""A folder, a file, an (H, W) array, or several of these."""

By = Literal["source", "folder"]

# More frames of a camera say nothing new about its noise, and take their time.
_MOST_FRAMES = 128


def sample_noise(
    source: Frames,
    *,
    by: By = "source",
    sequence: bool = False,
    seed: int = 0,
    **settings: Any,
) -> NoiseBank:
    """Sample noise patches from frames.

    Parameters
    ----------
    source : path, (H, W) ndarray of uint8 or uint16, or several of these
        Frames without targets; folders are searched recursively. A file counts once.
    by : {"source", "folder"}
        Whether all frames are of one camera, or those of each folder.
    sequence : bool
        Whether the frames of a folder, or the arrays given, are one recording of a scene that
        does not move.
    seed : int
        Decides which windows stay when there are more than ``limit``.
    **settings
        Attributes of `synth.noise.sampling.SamplingRule`, such as ``side`` and ``max_var``.

    Returns
    -------
    NoiseBank

    Raises
    ------
    NoiseError
        No window passes, frames of different depth, or a sequence of one frame.
    FrameError
        A file is absent or damaged, or a folder holds no frame.
    TypeError, ValueError
        An array is no frame, or a setting is unknown or out of range.

    Examples
    --------
    >>> import numpy as np
    >>> sky = np.random.default_rng(0).integers(98, 103, (64, 64), np.uint8)
    >>> sample_noise(sky, side=16).patches.shape
    (16, 16, 16)
    """
    rule = SamplingRule(**settings)
    if sequence and rule.rule == "texture":
        raise ValueError("rule: texture is for single frames; leave sequence out")
    cameras = find_cameras(source, by)
    return join_banks([camera.sample(rule, sequence=sequence, seed=seed) for camera in cameras])


def fit_noise(source: Frames, *, by: By = "source", patches: bool = False) -> CameraNoise:
    """Fit noise models to frames.

    Parameters
    ----------
    source, by
        See `sample_noise`; of many frames of a camera, 128 are read.
    patches : bool
        Keep patches of real noise to draw from, not only its spectrum.

    Returns
    -------
    CameraNoise

    Raises
    ------
    NoiseError
        The frames hold too little noise without scene, or are of different depth.
    FrameError, TypeError, ValueError
        As `sample_noise`.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> frames = [np.rint(rng.normal(100, 3, (128, 128))).astype(np.uint8) for _ in range(4)]
    >>> round(fit_noise(frames).models[0].summary["sigma"], 1)
    3.0
    """
    return CameraNoise([camera.fit(patches=patches) for camera in find_cameras(source, by)])


class Camera(NamedTuple):
    """Frames of one camera, and what they are from, for messages."""

    name: str
    frames: Sequence[NoiseFrame]

    def sample(
        self, rule: SamplingRule, *, sequence: bool, seed: int, load: Loader = load_each
    ) -> NoiseBank:
        """See `synth.noise.sampling.sample_frames`; errors name the camera."""
        with _named(self.name):
            return sample_frames(self.frames, rule, sequence=sequence, seed=seed, load=load)

    def few(self) -> list[NoiseFrame]:
        """The frames that a model is fitted to: all, or 128 evenly chosen ones of many."""
        chosen = np.unique(np.linspace(0, len(self.frames) - 1, _MOST_FRAMES).astype(int))
        return [self.frames[at] for at in chosen]

    def fit(self, *, patches: bool, load: Loader = load_each) -> NoiseModel:
        """See `synth.noise.model.fit_model`; errors name the camera."""
        with _named(self.name):
            return fit_model(find_noise_blocks(load(self.few())), keep_patches=patches)


@contextmanager
def _named(camera: str) -> Iterator[None]:
    try:
        yield
    except NoiseError as error:
        raise NoiseError(f"{camera}: {error}" if camera else str(error)) from None


def find_cameras(source: Frames, by: By = "source") -> list[Camera]:
    """List frames by camera, named relative to the folder that is given; see `sample_noise`."""
    if by not in ("source", "folder"):
        raise ValueError(f"by: must be 'source' or 'folder', not {by!r:.80}")
    alone = isinstance(source, str | Path | np.ndarray)
    given: list[Any] = [source] if alone else list(cast(Iterable[Any], source))
    if not given:
        raise NoiseError("there are no frames; give some")
    if any(isinstance(one, np.ndarray) for one in given):
        names = ["frame"] if alone else [f"frame {number}" for number in range(len(given))]
        loads = [partial(_load, array) for array in map(require_frame, given, names)]
        return [Camera("", list(map(NoiseFrame, names, loads)))]
    found: dict[Path, NoiseFrame] = {}
    for path in map(Path, given):
        base = path if path.is_dir() else path.parent
        for file in find_frames([path]):
            name = file.relative_to(base).as_posix()
            found.setdefault(file, NoiseFrame(name, partial(_load, file), file))
    if by == "folder":
        return [Camera(f"{folder}", frames) for folder, frames in by_folder(found.values()).items()]
    return [Camera(", ".join(map(str, given[:3])) + ", …" * (len(given) > 3), [*found.values()])]


def _load(frame: Path | Frame) -> tuple[Frame, Mask | None]:
    return read_frame(frame) if isinstance(frame, Path) else frame, None
