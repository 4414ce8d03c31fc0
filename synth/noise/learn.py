"""Learn a camera's noise from what a user has: a folder, files or arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import numpy as np

from synth.disk.folders import find_frames, group_by_folder
from synth.errors import NoiseError
from synth.frames import Frame, Mask, read_frame, require_frame
from synth.noise.bank import NoiseBank, join_banks
from synth.noise.blocks import find_noise_blocks
from synth.noise.cameras import CameraNoise
from synth.noise.model import NoiseModel, fit_model
from synth.noise.sampling import NoiseFrame, SamplingRule, sample_sequences
from synth.noise.sampling import sample_noise as sample_frames

Item = TypeVar("Item")

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
        Frames without targets; folders are searched recursively.
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
    banks = []
    for name, folders in _cameras(source, by):
        try:
            if sequence:
                banks.append(sample_sequences(folders, rule, seed=seed))
            else:
                frames = [frame for folder in folders for frame in folder]
                banks.append(sample_frames(frames, rule, seed=seed))
        except NoiseError as error:
            raise _named(error, name) from None
    return join_banks(banks)


def fit_noise(source: Frames, *, by: By = "source", patches: bool = False) -> CameraNoise:
    """Fit noise models to frames.

    Parameters
    ----------
    source : path, (H, W) ndarray of uint8 or uint16, or several of these
        Frames without targets; folders are searched recursively. Of many, 128 are read.
    by : {"source", "folder"}
        Whether all frames are of one camera, or those of each folder.
    patches : bool
        Keep patches of real noise to draw from, not only its spectrum.

    Returns
    -------
    CameraNoise

    Raises
    ------
    NoiseError
        The frames hold too little noise without scene, or are of different depth.
    FrameError
        A file is absent or damaged, or a folder holds no frame.
    TypeError, ValueError
        An array is no frame.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> frames = [np.rint(rng.normal(100, 3, (128, 128))).astype(np.uint8) for _ in range(4)]
    >>> round(fit_noise(frames).models[0].summary["sigma"], 1)
    3.0
    """
    models: list[NoiseModel] = []
    for name, folders in _cameras(source, by):
        few = thin_out([frame for folder in folders for frame in folder])
        try:
            blocks = find_noise_blocks(frame.load() for frame in few)
            models.append(fit_model(blocks, keep_patches=patches))
        except NoiseError as error:
            raise _named(error, name) from None
    return CameraNoise(models)


def thin_out(frames: Sequence[Item]) -> list[Item]:
    """Choose as many frames as a model is fitted to: all, or 128 evenly chosen ones of many."""
    chosen = np.unique(np.linspace(0, len(frames) - 1, _MOST_FRAMES).astype(int))
    return [frames[at] for at in chosen]


def _cameras(source: Frames, by: By) -> list[tuple[str, list[list[NoiseFrame]]]]:
    """The frames of each camera by folder, each camera with a name for messages."""
    if by not in ("source", "folder"):
        raise ValueError(f"by: must be 'source' or 'folder', not {by!r:.80}")
    alone = isinstance(source, str | Path | np.ndarray)
    given: list[Any] = [source] if alone else list(cast(Iterable[Any], source))
    if not given:
        raise NoiseError("there are no frames; give some")
    if any(isinstance(one, np.ndarray) for one in given):
        names = ["frame"] if alone else [f"frame {number}" for number in range(len(given))]
        return [("", [[_in_memory(*one) for one in zip(given, names, strict=True)]])]
    frames: dict[Path, NoiseFrame] = {}
    for path in map(Path, given):
        base = path if path.is_dir() else path.parent
        for file in find_frames([path]):
            frames[file] = _on_disk(file, file.relative_to(base).as_posix())
    folders = group_by_folder(list(frames))
    parts = [[frames[file] for file in folder] for folder in folders]
    if by == "source":
        return [(", ".join(map(str, given[:3])) + ", …" * (len(given) > 3), parts)]
    return [(str(folder[0].parent), [own]) for folder, own in zip(folders, parts, strict=True)]


def _in_memory(array: Frame, name: str) -> NoiseFrame:
    frame = require_frame(array, name)
    return NoiseFrame(name, lambda: (frame, None))


def _on_disk(file: Path, name: str) -> NoiseFrame:
    def load() -> tuple[Frame, Mask | None]:
        return read_frame(file), None

    return NoiseFrame(name, load)


def _named(error: NoiseError, name: str) -> NoiseError:
    return NoiseError(f"{name}: {error}") if name else error
