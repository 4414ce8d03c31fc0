"""Tests in noise: of frames that nothing was trained with, drawn anew, from a known camera."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from shared_noise import independent_limit, pair_correlations
from simulated_noise import Camera
from small_sets import write_small_set

from pipelines.build import build
from pipelines.build.parallel import Pool
from pipelines.build.sources import pixel_digest
from pipelines.errors import ConfigError
from pipelines.study import Choice, Run, Study, prepare
from pipelines.study_config import Evaluation, read_study
from pipelines.study_scores import evaluation_noise
from pipelines.study_sets import NoiseSource, divide_noise, open_noise
from synth.dataset import open_dataset
from synth.errors import NoiseError
from synth.frames import Frame, read_frame
from synth.noise.cameras import CameraNoise, load_cameras
from synth.noise.learn import fit_noise
from synth.noise.model import make_physical_model
from synth.steps import Residual

POOL = Pool(1)
STUDY: dict[str, Any] = {
    "name": "noisy",
    "network": "small",
    "steps": 2,
    "batch": 4,
    "epoch_steps": 2,
    "validation": 0.25,
    "seeds": 0,
    "baseline": "originals",
    "train": "train.yaml",
    "arms": {
        "originals": None,
        "noisy": {
            "build": "build.yaml",
            "noise": "seen",
            "train": {"set": {"sampler.originals": 0.5}},
        },
    },
    "tests": [{"noise": "seen", "strengths": 1}, {"noise": "unseen", "strengths": 1}],
}
BUILD = {
    "name": "b",
    "noise": {"by": "folder"},
    "negatives": {
        "steps": [
            {
                "choose": [
                    {"share": 0.5, "transplant": {"hosts": ["training", "noise"]}},
                    {"share": 0.5, "turn": {"side": 9}},
                ]
            },
            "residual",
        ]
    },
}


def write_camera(folder: Path, seed: int, recordings: int = 6, frames: int = 3) -> list[Path]:
    """Frames of a simulated camera; a recording each is a scene and a name."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    files = []
    for recording in range(recordings):
        levels = np.full(frames, rng.uniform(60, 160))
        for number, frame in enumerate(Camera().frames(rng, levels, (96, 128))):
            files.append(folder / f"{folder.name}-{recording}_{number}.png")
            assert cv2.imwrite(str(files[-1]), frame)
    return files


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A labelled set without noise of its own, three cameras, and a study's files."""
    root = tmp_path_factory.mktemp("noisy")
    made = write_small_set(root / "set", 12, 10, shapes=[(96, 96)])
    for number, id_ in enumerate([*made.train, *made.test]):
        target = cv2.imread(str(made.mask(id_)), cv2.IMREAD_UNCHANGED) > 0
        ramp = np.linspace(90, 100 + number, 96)[None] + 40 * target
        assert cv2.imwrite(str(made.image(id_)), ramp.round().astype(np.uint8))
    for seed, name in enumerate(("near", "far", "other")):
        write_camera(root / "frames" / name, seed)
    (root / "train.yaml").write_text("steps: 9\ncompute: {device: cpu}\naugment: {crop: 32}\n")
    (root / "build.yaml").write_text(yaml.safe_dump(BUILD))
    (root / "study.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False))
    return root


Prepare = Callable[..., Study]


@pytest.fixture
def ready(root: Path, tmp_path: Path) -> Prepare:
    def make(
        noise: Mapping[str, Sequence[Path]] | None = None, *overrides: str, test: bool = True
    ) -> Study:
        frames = root / "frames"
        noise = noise or {"seen": [frames / "near", frames / "far"], "unseen": [frames / "other"]}
        config, arms = read_study(root / "study.yaml", overrides)
        choice = Choice(test=test)
        return prepare(
            config, arms, tmp_path / "out", data=root / "set", noise=noise, choice=choice, jobs=1
        )

    return make


def run_of(study: Study, arm: str) -> Run:
    (run,) = (run for run in study.chosen if run.arm.name == arm)
    return run


def trained_with(study: Study) -> list[Path]:
    """Frames that the arm with noise is built with."""
    run = run_of(study, "noisy")
    assert run.arm.build is not None
    assert run.arm.build.noise is not None
    return [file for path in run.arm.build.noise.frames for file in sorted(path.rglob("*.png"))]


def noise_of_test(study: Study, camera: str) -> Path:
    """The noise model of a test."""
    (found,) = (noise for one, _, noise in study.chosen[0].evaluations if one.camera == camera)
    assert found is not None
    return found


def pixels(files: Sequence[Path]) -> set[bytes]:
    return {pixel_digest(read_frame(file)) for file in files}


def same(one: CameraNoise, other: CameraNoise) -> bool:
    return one.to_bytes() == other.to_bytes()


def test_frames_that_train_and_frames_that_test_share_no_pixels_and_no_recording(
    ready: Prepare, root: Path
) -> None:
    study = ready()
    training = trained_with(study)
    left = []
    for name in ("near", "far"):
        files = sorted((root / "frames" / name).iterdir())
        own = [file for file in files if pixel_digest(read_frame(file)) in pixels(training)]
        other = [file for file in files if file not in own]
        assert len(own) == len(other) == 9
        assert not pixels(own) & pixels(other)
        recordings = [{file.stem.split("_")[0] for file in side} for side in (own, other)]
        assert not recordings[0] & recordings[1]
        left += other
    wanted = fit_noise(left, by="folder")
    assert same(load_cameras(noise_of_test(study, "seen")), wanted)
    assert not pixels(left) & (run_of(study, "noisy").seen or set())


def test_what_is_trained_with_does_not_depend_on_whether_tests_are_made_now(ready: Prepare) -> None:
    now, later = ready(test=True), ready(test=False)
    assert trained_with(now) == trained_with(later)
    assert [run.identity for run in now.runs] == [run.identity for run in later.runs]


def test_without_a_test_in_noise_all_frames_train(ready: Prepare, root: Path) -> None:
    everything = [file for name in ("near", "far") for file in (root / "frames" / name).iterdir()]
    study = ready(None, "tests=[{noise: unseen, strengths: 1}]")
    assert pixels(trained_with(study)) == pixels(everything)


def test_all_frames_of_an_unseen_camera_give_test_noise(ready: Prepare, root: Path) -> None:
    found = load_cameras(noise_of_test(ready(), "unseen"))
    everything = fit_noise(root / "frames" / "other", by="folder")
    assert same(found, everything)


def test_a_noise_file_may_be_an_unseen_camera_and_none_that_trains_too(
    ready: Prepare, root: Path, tmp_path: Path
) -> None:
    files = [tmp_path / "one.npz", tmp_path / "copy.npz", tmp_path / "other.npz"]
    for file, sigma in zip(files, (2.0, 2.0, 3.0), strict=True):
        file.write_bytes(CameraNoise([make_physical_model(sigma=sigma)]).to_bytes())
    one, copy, other = files
    build = (
        "arms.noisy.build={config: build.yaml, set: {negatives.steps.transplant.hosts: training}}"
    )
    unseen = "tests=[{noise: unseen, strengths: 1}]"
    study = ready({"seen": [one], "unseen": [other]}, build, unseen)
    assert same(load_cameras(noise_of_test(study, "unseen")), load_cameras(other))
    with pytest.raises(ConfigError, match=r"one\.npz: is a noise file, .*test on another source"):
        ready({"seen": [one], "unseen": [other]}, build)
    with pytest.raises(ConfigError, match=r"copy\.npz: is noise of 'seen' too"):
        ready({"seen": [one], "unseen": [copy]}, build, unseen)


def test_an_unseen_camera_shows_no_scene_of_one_that_trains(
    ready: Prepare, root: Path, tmp_path: Path
) -> None:
    write_camera(tmp_path / "camera", 2)
    frame = cv2.imread(str(root / "frames" / "near" / "near-0_0.png"), cv2.IMREAD_UNCHANGED)
    assert cv2.imwrite(str(tmp_path / "camera" / "cut.png"), frame[5:, 9:] + 1)
    with pytest.raises(ConfigError, match=r"cut\.png: shows the scene of .*near-0_0\.png; .*other"):
        ready({"seen": [root / "frames" / "near"], "unseen": [tmp_path / "camera"]})


def test_noise_of_another_depth_is_refused_before_anything_is_trained(
    ready: Prepare, root: Path, tmp_path: Path
) -> None:
    deep = tmp_path / "deep.npz"
    deep.write_bytes(CameraNoise([make_physical_model(sigma=90.0, depth=16)]).to_bytes())
    unseen = "tests=[{noise: unseen, strengths: 1}]"
    with pytest.raises(ConfigError, match=r"deep\.npz: has noise of 16 bits, and the images .* 8;"):
        ready({"seen": [root / "frames" / "near"], "unseen": [deep]}, unseen)


def test_an_unseen_camera_has_no_frame_of_one_that_trains(
    ready: Prepare, root: Path, tmp_path: Path
) -> None:
    write_camera(tmp_path / "camera", 2)
    shutil.copy(root / "frames" / "near" / "near-0_0.png", tmp_path / "camera" / "a.png")
    with pytest.raises(ConfigError, match=r"a\.png: is a frame of 'seen' too; .* different camera"):
        ready({"seen": [root / "frames" / "near"], "unseen": [tmp_path / "camera"]})


def test_no_arm_learns_from_a_frame_that_gives_test_noise(
    ready: Prepare, root: Path, tmp_path: Path
) -> None:
    shutil.copytree(root / "frames" / "other", tmp_path / "camera")
    shutil.copy(root / "set" / "images" / "001.png", tmp_path / "camera")
    shutil.copy(root / "set" / "images" / "002.png", tmp_path / "camera")
    with pytest.raises(ConfigError, match=r"00[12]\.png, which gives test noise: arms\.originals"):
        ready(
            {"seen": [root / "frames" / "near"], "unseen": [tmp_path / "camera"]},
            "validation=0.1",
        )


def test_runs_are_not_compared_in_noise_of_different_cameras(
    ready: Prepare, root: Path, tmp_path: Path
) -> None:
    study = ready()
    scores = [study.chosen[0].scores_path(one) for one in study.evaluations if one.camera]
    for path in scores:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    ready()
    write_camera(tmp_path / "camera", 9)
    frames = root / "frames"
    noise = {"seen": [frames / "near", frames / "far"], "unseen": [tmp_path / "camera"]}
    with pytest.raises(ConfigError, match=r"test\+unseen1\.npz: is of other test noise.*--noise"):
        ready(noise)


def test_too_few_frames_to_know_the_noise_is_said_before_training(
    ready: Prepare, root: Path, tmp_path: Path
) -> None:
    (tmp_path / "camera").mkdir()
    rng = np.random.default_rng(0)
    for number in range(2):
        frame = rng.integers(0, 255, (32, 32), np.uint8)
        assert cv2.imwrite(str(tmp_path / "camera" / f"{number}.png"), frame)
    noise = {"seen": [tmp_path / "camera"], "unseen": [root / "frames" / "other"]}
    with pytest.raises(NoiseError, match=r"camera: .*give more frames.*do not test on this camera"):
        ready(noise, test=False)


def scenes(folder: Path, recordings: int, frames: int) -> NoiseSource:
    """Frames whose names tell nothing: neighbours show one scene."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(recordings)
    number = 0
    for _ in range(recordings):
        scene = 100 + 300 * cv2.GaussianBlur(rng.normal(0, 1, (64, 80)), (0, 0), 4)
        for _ in range(frames):
            number += 1
            frame = (scene + rng.normal(0, 1, scene.shape)).clip(0, 255).round().astype(np.uint8)
            assert cv2.imwrite(str(folder / f"f{number}.png"), frame)
    return open_noise(folder, {}, POOL)


def numbers(sources: Sequence[NoiseSource]) -> list[int]:
    return sorted(int(file.stem[1:]) for source in sources for file in source.frames)


@pytest.mark.parametrize(("recordings", "frames"), [(2, 1), (2, 4), (5, 2), (9, 1)])
def test_frames_that_look_alike_stay_together(tmp_path: Path, recordings: int, frames: int) -> None:
    source = scenes(tmp_path / "camera", recordings, frames)
    training, test = (numbers(side) for side in divide_noise([source], POOL))
    assert sorted([*training, *test]) == [*range(1, recordings * frames + 1)]
    of = [{(number - 1) // frames for number in side} for side in (training, test)]
    assert not of[0] & of[1]
    assert abs(len(training) - len(test)) <= frames
    again = [numbers(side) for side in divide_noise([source], POOL)]
    assert again == [training, test]


def test_every_camera_is_divided_by_itself(tmp_path: Path) -> None:
    for name, recordings in (("a", 4), ("b", 3)):
        scenes(tmp_path / "cameras" / name, recordings, 1)
    training, test = divide_noise([open_noise(tmp_path / "cameras", {}, POOL)], POOL)
    for side in (training, test):
        (one,) = side
        assert {file.parent.name for file in one.frames} == {"a", "b"}


def test_a_camera_that_cannot_be_divided_is_named(tmp_path: Path) -> None:
    source = scenes(tmp_path / "camera", 1, 3)
    with pytest.raises(ConfigError, match=r"camera: its 3 frame\(s\) are one recording, .*do not"):
        divide_noise([source], POOL)
    two = scenes(tmp_path / "two", 2, 1)
    shutil.copytree(tmp_path / "two", tmp_path / "again")
    (tmp_path / "again" / "f2.png").replace(tmp_path / "again" / "f0.png")
    with pytest.raises(ConfigError, match=r"is there twice, in two folders"):
        divide_noise([two, open_noise(tmp_path / "again", {}, POOL)], POOL)


CAMERAS = CameraNoise([make_physical_model(sigma=4.0)])
GREY = np.full((64, 64), 100, np.uint8)


def added(one: Evaluation, id_: str) -> NDArray[np.float64]:
    return difference(evaluation_noise(CAMERAS, one)(id_, GREY), GREY)


def difference(noisy: Frame, clean: Frame) -> NDArray[np.float64]:
    return noisy.astype(np.float64) - clean


def test_an_image_has_the_same_noise_in_every_run_and_no_other_image_has_it() -> None:
    one = Evaluation("test", strength=1.0, noise="far", camera="seen")
    np.testing.assert_array_equal(added(one, "001"), added(one, "001"))
    near = Evaluation("test", strength=1.0, noise="near", camera="unseen")
    other_set = Evaluation("test", "nuaa", 1.0, noise="far", camera="seen")
    images = ((one, 60), (near, 10), (other_set, 10))
    noise = np.stack([added(of, f"{id_:03d}") for of, count in images for id_ in range(count)])
    assert pair_correlations(noise).max() < independent_limit(noise)


def test_twice_the_strength_is_the_same_noise_twice() -> None:
    once, twice = (
        added(Evaluation("test", strength=strength, noise="far", camera="seen"), "001")
        for strength in (1.0, 2.0)
    )
    assert np.corrcoef(once.ravel(), twice.ravel())[0, 1] > 0.99


@pytest.fixture
def noise(ready: Prepare, tmp_path: Path) -> dict[str, list[NDArray[np.float64]]]:
    """What is added to the training images of the arm with noise, and to the test images."""
    study = ready()
    config, data = run_of(study, "noisy").arm.build, study.data
    assert config is not None
    assert config.noise is not None
    built = {}
    for strength in (0.0, 1.0):
        steps = (*config.negatives.steps[:-1], Residual(strength=strength))
        negatives = config.negatives.model_copy(update={"steps": steps})
        place = tmp_path / f"built{strength:g}"
        build(config.model_copy(update={"negatives": negatives}), place, jobs=1)
        built[strength] = open_dataset(place)
    originals = set(open_dataset(run_of(study, "noisy").base).ids("train"))
    made = [id_ for id_ in built[1.0].ids("train") if id_ not in originals]
    pairs = [(built[1.0].read_image(id_), built[0.0].read_image(id_)) for id_ in made]
    # Frames of the camera itself, as backgrounds, may lack nothing of its noise.
    found = {"training": [difference(*pair) for pair in pairs if (pair[0] != pair[1]).any()]}
    for one, _, file in study.chosen[0].evaluations:
        if one.camera is None or file is None:
            continue
        add = evaluation_noise(load_cameras(file), one)
        images = [(id_, data.read_image(id_)) for id_ in data.ids("test")]
        found[one.camera] = [difference(add(id_, image), image) for id_, image in images]
    return found


def test_images_of_either_side_have_the_camera_s_noise(
    noise: dict[str, list[NDArray[np.float64]]],
) -> None:
    assert {name: len(fields) for name, fields in noise.items() if name != "training"} == {
        "seen": 10,
        "unseen": 10,
    }
    assert len(noise["training"]) >= 36
    for fields in noise.values():
        assert 2 < np.median([field.std() for field in fields]) < 5


def test_test_noise_is_as_independent_of_training_noise_as_noise_can_be(
    noise: dict[str, list[NDArray[np.float64]]],
) -> None:
    training = np.stack(noise["training"])
    for camera in ("seen", "unseen"):
        test = np.stack(noise[camera])
        # A window that is cut from the same field elsewhere would correlate at some shift.
        found = pair_correlations(test, training)
        assert found.max() <= independent_limit(np.concatenate([test, training]), pairs=len(found))
