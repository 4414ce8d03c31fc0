"""The noise of a build: where it may come from, and where never."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from small_sets import SmallSet

from pipelines.build.config import NoiseSettings
from pipelines.build.noise import gather_noise
from pipelines.build.sources import Source, dataset_source, pixel_digest
from synth.dataset import open_dataset
from synth.errors import DatasetError, NoiseError
from synth.noise.bank import NoiseBank, make_bank
from synth.noise.sampling import SamplingRule
from synth.recipe import Recipe
from synth.steps import Mixup

NOTHING: frozenset[bytes] = frozenset()


@pytest.fixture
def source(small_set: SmallSet) -> Source:
    return dataset_source(open_dataset(small_set.root))


@pytest.fixture
def cameras(tmp_path: Path) -> Path:
    """Two cameras with four and one frames; each frame's level is its own."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(["A/1", "A/2", "A/9", "A/10", "B/1"]):
        path = tmp_path / "cameras" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        frame = rng.normal(40 * (number + 1), 2, (16, 24)).astype(np.uint8)
        assert cv2.imwrite(str(path), frame)
    return tmp_path / "cameras"


MIXED = Recipe([Mixup()])


def gather(source: Source, *paths: Path, jobs: int = 1, **settings: object) -> NoiseBank:
    by = {"by": settings.pop("by")} if "by" in settings else {}
    noise = NoiseSettings.model_validate({"frames": paths, "sample": {"side": 8, **settings}, **by})
    bank = gather_noise(noise, MIXED, source, NOTHING, seed=0, jobs=jobs).bank
    assert bank is not None
    return bank


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_folder_is_searched_recursively_in_natural_order(
    source: Source, cameras: Path, jobs: int
) -> None:
    bank = gather(source, cameras, jobs=jobs)
    names = list(dict.fromkeys(bank.frame.tolist()))
    assert names == ["A/1.png", "A/2.png", "A/9.png", "A/10.png", "B/1.png"]
    assert len(bank) == 5 * 6
    assert set(bank.kind.tolist()) == {0}


def test_folders_may_be_banks_of_their_own(source: Source, cameras: Path) -> None:
    bank = gather(source, cameras, by="folder")
    assert [len(indices) for indices in bank.members()] == [24, 6]
    assert {name[0] for name in bank.frame[bank.kind == 1].tolist()} == {"B"}


def test_several_sources_are_several_kinds(source: Source, cameras: Path, tmp_path: Path) -> None:
    (tmp_path / "old.npz").write_bytes(make_bank(np.zeros((3, 8, 8), np.uint8)).to_bytes())
    bank = gather(source, cameras / "B", tmp_path / "old.npz", cameras / "A" / "1.png")
    assert [len(indices) for indices in bank.members()] == [6, 3, 6]


def test_without_sources_noise_is_of_the_training_images(
    source: Source, small_set: SmallSet
) -> None:
    bank = gather(source)
    dataset = open_dataset(small_set.root)
    assert set(bank.frame.tolist()) <= set(small_set.train)
    for name, row, col, patch in zip(bank.frame, bank.row, bank.col, bank.patches, strict=True):
        window = np.s_[row : row + 8, col : col + 8]
        np.testing.assert_array_equal(patch, dataset.read_image(str(name))[window])
        assert not dataset.read_mask(str(name))[window].any()


def test_a_test_image_is_refused_by_name(
    source: Source, small_set: SmallSet, cameras: Path
) -> None:
    path = cameras / "B" / "copy.bmp"
    image = cv2.imread(str(small_set.image(small_set.test[0])), -1)
    cv2.imwrite(str(path), image)
    settings = NoiseSettings(sample=SamplingRule(side=8), frames=(cameras,))
    with pytest.raises(DatasetError, match=r"copy\.bmp: is a test image"):
        gather_noise(settings, MIXED, source, frozenset([pixel_digest(image)]), seed=0)


def test_a_source_without_a_usable_patch_is_told_by_name(source: Source, cameras: Path) -> None:
    with pytest.raises(NoiseError, match=r"cameras.*no window"):
        gather(source, cameras, max_var=0.0)


def test_sources_of_two_depths_are_refused(source: Source, cameras: Path, tmp_path: Path) -> None:
    (tmp_path / "deep.npz").write_bytes(make_bank(np.zeros((3, 8, 8), np.uint16)).to_bytes())
    with pytest.raises(NoiseError, match="uint16 and of uint8"):
        gather(source, cameras, tmp_path / "deep.npz")


def test_what_is_sampled_does_not_depend_on_readers(
    source: Source, make_set: Callable[..., SmallSet], cameras: Path
) -> None:
    banks = [gather(source, cameras, jobs=jobs, limit=7).to_bytes() for jobs in (1, 2)]
    assert banks[0] == banks[1]
