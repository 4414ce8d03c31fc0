"""Noise from folders, files and arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import synth
from synth.errors import FrameError, NoiseError
from synth.frames import Frame
from synth.noise.bank import NoiseBank


@pytest.fixture
def frames() -> list[Frame]:
    """Four frames of white noise, 128x128 pixels, the last two stronger."""
    rng = np.random.default_rng(0)
    return [np.rint(rng.normal(100, sigma, (128, 128))).astype(np.uint8) for sigma in (2, 2, 4, 4)]


@pytest.fixture
def folder(tmp_path: Path, frames: list[Frame]) -> Path:
    """The same frames as files, two each in two folders."""
    for number, frame in enumerate(frames):
        path = tmp_path / f"camera{number // 2}" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        synth.write_frame(path, frame)
    return tmp_path


def test_folder_paths_and_arrays_give_the_same_noise(folder: Path, frames: list[Frame]) -> None:
    files = sorted(folder.rglob("*.png"))
    sources = (folder, str(folder), files, iter(files), frames)
    banks = [synth.sample_noise(source) for source in sources]
    cameras = [synth.fit_noise(source) for source in (folder, files, frames)]
    for bank in banks:
        assert np.array_equal(bank.patches, banks[0].patches)
    for camera in cameras:
        assert camera.to_bytes() == cameras[0].to_bytes()


def test_each_folder_is_a_camera_by_folder(folder: Path) -> None:
    bank = synth.sample_noise(folder, by="folder")
    assert np.unique(bank.kind).tolist() == [0, 1]
    sigmas = [model.summary["sigma"] for model in synth.fit_noise(folder, by="folder").models]
    assert sigmas == pytest.approx([2, 4], rel=0.1)


def test_files_count_once_and_are_named_relative_to_what_was_given_first(folder: Path) -> None:
    one = folder / "camera0" / "0.png"
    bank = synth.sample_noise([folder / "camera1", one, folder])
    names = ["2.png", "3.png", "0.png", "camera0/1.png"]
    assert list(dict.fromkeys(bank.frame.tolist())) == names
    twice = synth.fit_noise([folder / "camera0", one])
    assert twice.to_bytes() == synth.fit_noise(folder / "camera0").to_bytes()


def test_settings_are_those_of_the_sampling_rule(frames: list[Frame]) -> None:
    bank = synth.sample_noise(frames, side=16, max_var=8, limit=5, seed=1)
    assert isinstance(bank, NoiseBank)
    assert (len(bank), bank.side) == (5, 16)
    assert bank.var.max() < 8
    with pytest.raises(TypeError, match="sides"):
        synth.sample_noise(frames, sides=16)


def test_a_sequence_keeps_windows_of_every_frame(frames: list[Frame]) -> None:
    bank = synth.sample_noise(frames, sequence=True, max_seq_var=200)
    places = np.stack([bank.row, bank.col]).reshape(2, len(frames), -1)
    assert (places == places[:, :1]).all()
    with pytest.raises(NoiseError, match="sequence of one frame"):
        synth.sample_noise(frames[0], sequence=True)
    with pytest.raises(ValueError, match="texture"):
        synth.sample_noise(frames, sequence=True, rule="texture")


def test_each_folder_is_a_sequence_of_its_own(folder: Path) -> None:
    bank = synth.sample_noise(folder, sequence=True, max_seq_var=200)
    of = {name: set(zip(bank.row[bank.frame == name], bank.col[bank.frame == name], strict=True))
          for name in np.unique(bank.frame).tolist()}  # fmt: skip
    assert of["camera0/0.png"] == of["camera0/1.png"]
    assert of["camera1/2.png"] == of["camera1/3.png"]
    (folder / "alone").mkdir()
    synth.write_frame(folder / "alone" / "9.png", synth.read_frame(folder / "camera0" / "0.png"))
    with pytest.raises(NoiseError, match=r"alone/9\.png: is a sequence of one frame"):
        synth.sample_noise(folder, sequence=True)


def test_patches_are_kept_when_they_are_asked_for(frames: list[Frame]) -> None:
    with_patches, without = (synth.fit_noise(frames, patches=some) for some in (True, False))
    assert len(with_patches.models[0].patches) > len(without.models[0].patches) == 0


def test_float_images_are_refused_with_what_to_do(frames: list[Frame]) -> None:
    for function in (synth.sample_noise, synth.fit_noise):
        with pytest.raises(TypeError, match=r"frame 1: has type float64.*synth\.read_frame"):
            function([frames[0], frames[1] / 255])


def test_arrays_and_paths_are_not_mixed(folder: Path, frames: list[Frame]) -> None:
    with pytest.raises(TypeError, match="frame 1"):
        synth.sample_noise([frames[0], folder])


def test_stacks_and_colour_are_refused(frames: list[Frame]) -> None:
    for array in (np.stack(frames), np.stack(frames[:3], axis=2)):
        with pytest.raises(ValueError, match=r"\(H, W\)"):
            synth.sample_noise(array)


def test_errors_name_the_source(tmp_path: Path, frames: list[Frame]) -> None:
    synth.write_frame(tmp_path / "small.png", frames[0][:8, :8])
    for function in (synth.sample_noise, synth.fit_noise):
        with pytest.raises(NoiseError, match=str(tmp_path)):
            function(tmp_path)
        with pytest.raises(FrameError, match="absent"):
            function(tmp_path / "absent")
        with pytest.raises(NoiseError, match="no frames"):
            function([])
    with pytest.raises(ValueError, match="by: must be"):
        synth.fit_noise(tmp_path, by="camera")  # type: ignore[arg-type]
