"""Sources: what a build sees of a pair, from files and from the simulator."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from image_files import decode_mask
from scipy import ndimage
from small_sets import SmallSet

from pipelines.build import sources
from pipelines.build.config import SimulationSettings
from pipelines.build.sources import dataset_source, pixel_digest, simulated_source
from synth.dataset import open_dataset
from synth.errors import DatasetError, FrameError
from synth.frames import decode_frame
from synth.targets import find_targets

SIMULATED = SimulationSettings(train=3, test=2, noise_frames=2, shape=(32, 48))


def test_a_survey_tells_size_and_targets(small_set: SmallSet) -> None:
    dataset = open_dataset(small_set.root)
    for pair in dataset_source(dataset).splits["train"]:
        found = pair.survey(held_out=False).source
        assert found.id == pair.id
        assert found.shape == (48, 64)
        assert list(found.targets) == find_targets(dataset.read_mask(pair.id))


def test_a_pair_that_was_looked_at_is_decoded_once(small_set: SmallSet) -> None:
    source = dataset_source(open_dataset(small_set.root))
    pair = source.splits["train"][0]
    before = pair.load()
    found = pair.survey(held_out=False)
    small_set.image(pair.id).unlink()
    assert source.noise_frames[0].load()[0].tobytes() == before.image.tobytes()
    kept = pair.load()
    assert kept.files == before.files
    assert kept.targets == before.targets == found.source.targets
    with pytest.raises(FrameError):
        pair.load()


def test_what_is_kept_of_pairs_does_not_travel(small_set: SmallSet) -> None:
    pair = dataset_source(open_dataset(small_set.root)).splits["train"][0]
    size = len(pickle.dumps(pair))
    pair.survey(held_out=False)
    assert len(pickle.dumps(pair)) == size
    sent = pickle.loads(pickle.dumps(pair))
    assert sent == pair
    found = sent.survey(held_out=False)
    assert found == pair.survey(held_out=False)
    assert sent.load().files == pair.load().files


def test_no_more_pairs_are_kept_than_there_is_room_for(
    small_set: SmallSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "KEPT_BYTES", 1)
    source = dataset_source(open_dataset(small_set.root))
    for pair in source.splits["train"]:
        pair.survey(held_out=False)
        small_set.image(pair.id).unlink()
    first, second = source.splits["train"][:2]
    assert first.load().image.any()
    with pytest.raises(FrameError):
        second.load()


def test_targets_that_are_held_out_are_not_looked_at(small_set: SmallSet) -> None:
    pair = dataset_source(open_dataset(small_set.root)).splits["test"][0]
    assert pair.survey(held_out=True).source.targets == ()


def test_files_are_given_byte_for_byte(small_set: SmallSet) -> None:
    for pair in dataset_source(open_dataset(small_set.root)).splits["test"]:
        files = pair.files()
        assert files.image == small_set.image(pair.id).read_bytes()
        assert files.mask == small_set.mask(pair.id).read_bytes()


@pytest.mark.parametrize(("values", "same"), [((0, 255), True), ((0, 1), False)])
def test_a_training_mask_is_rewritten_when_it_is_not_0_and_255(
    small_set: SmallSet, values: tuple[int, int], same: bool
) -> None:
    path = small_set.mask("001")
    mask = cv2.imread(str(path), -1) > 0
    cv2.imwrite(str(path), np.where(mask, values[1], values[0]).astype(np.uint8))
    loaded = dataset_source(open_dataset(small_set.root)).splits["train"][0].load()
    np.testing.assert_array_equal(loaded.mask, mask)
    assert (loaded.files.mask == path.read_bytes()) == same
    written = decode_frame(loaded.files.mask, "mask")
    np.testing.assert_array_equal(written, np.where(mask, 255, 0))


def test_a_changed_pixel_changes_the_digest(small_set: SmallSet) -> None:
    pair = dataset_source(open_dataset(small_set.root)).splits["train"][0]
    before = pair.survey(held_out=False).digest
    image = cv2.imread(str(small_set.image("001")), -1)
    image[0, 0] ^= 1
    cv2.imwrite(str(small_set.image("001")), image)
    assert pair.survey(held_out=False).digest != before


def test_the_pixel_digest_tells_depth_and_shape_apart() -> None:
    frame = np.zeros((4, 6), np.uint8)
    others = [frame.reshape(6, 4), np.zeros((4, 3), np.uint16), frame + np.uint8(1)]
    digests = {pixel_digest(image) for image in [frame, *others]}
    assert len(digests) == 4
    assert pixel_digest(np.zeros((6, 4), np.uint8).T) == pixel_digest(frame)


@pytest.mark.parametrize("held_out", [False, True])
def test_a_mask_of_another_size_is_told_by_name(small_set: SmallSet, held_out: bool) -> None:
    cv2.imwrite(str(small_set.mask("001")), np.zeros((48, 63), np.uint8))
    pair = dataset_source(open_dataset(small_set.root)).splits["train"][0]
    with pytest.raises(DatasetError, match=r"masks/001\.png: is 48x63"):
        pair.survey(held_out)


def test_noise_frames_are_training_images_clear_of_targets(small_set: SmallSet) -> None:
    dataset = open_dataset(small_set.root)
    frames = dataset_source(dataset).noise_frames
    assert [frame.name for frame in frames] == small_set.train
    for frame in frames:
        image, avoided = frame.load()
        mask = dataset.read_mask(frame.name)
        np.testing.assert_array_equal(image, dataset.read_image(frame.name))
        # Two pixels of blur in every direction.
        wanted = ndimage.binary_dilation(mask, np.ones((5, 5)))
        np.testing.assert_array_equal(avoided, wanted)


def test_simulated_ids_are_numbers_with_training_first() -> None:
    source = simulated_source(SIMULATED, seed=0)
    ids = {split: [pair.id for pair in pairs] for split, pairs in source.splits.items()}
    assert ids == {"train": ["000001", "000002", "000003"], "test": ["000004", "000005"]}


@pytest.mark.parametrize("bits", [8, 14])
def test_a_simulated_pair_is_always_the_same(bits: int) -> None:
    settings = SIMULATED.model_copy(update={"bits": bits})
    first = simulated_source(settings, seed=5).splits["train"][1]
    again = simulated_source(settings, seed=5).splits["train"][1]
    other = simulated_source(settings, seed=6).splits["train"][1]
    assert first.files() == again.files()
    assert first.survey(False).digest == again.survey(False).digest
    assert first.files().image != other.files().image
    loaded = first.load()
    assert loaded.image.dtype == (np.uint8 if bits == 8 else np.uint16)
    np.testing.assert_array_equal(decode_frame(loaded.files.image, "image"), loaded.image)
    np.testing.assert_array_equal(decode_mask(loaded.files.mask, "mask"), loaded.mask)


def test_simulated_noise_frames_are_by_the_same_camera_without_targets() -> None:
    source = simulated_source(SIMULATED, seed=0)
    assert len(source.noise_frames) == 2
    images = [frame.load() for frame in source.noise_frames]
    assert all(image.shape == (32, 48) and avoided is None for image, avoided in images)
    assert pixel_digest(images[0][0]) != pixel_digest(images[1][0])


def test_native_sizes_are_kept(make_set: Callable[..., SmallSet]) -> None:
    made = make_set(shapes=((40, 50), (33, 70)))
    pairs = dataset_source(open_dataset(made.root)).splits["train"]
    assert [pair.survey(False).source.shape for pair in pairs[:2]] == [(40, 50), (33, 70)]
