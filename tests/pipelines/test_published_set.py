"""The published set, built from the real data: counts, bytes, and an independent recomputation."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_again import steps
from PIL import Image
from real_data import real_data
from skimage.measure import label, regionprops

from pipelines.build.config import BuildConfig
from pipelines.build.parallel import Pool
from pipelines.build.run import Plan, execute, prepare
from pipelines.config import load_config
from synth.dataset import open_dataset
from synth.disk.verify import verify

slow = pytest.mark.slow

_CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "build"


@pytest.fixture(scope="module")
def source() -> Path:
    return real_data("NUDT-SIRST")


@pytest.fixture(scope="module")
def plan(source: Path) -> Plan:
    """All that the build decides, before it makes 5,526 pairs of files."""
    config = load_config(
        _CONFIGS / "sirst5k.yaml",
        BuildConfig,
        [f"noise.frames={real_data('IR-backgrounds')}"],
        data=str(source),
    )
    return prepare(config, Pool(0))


@pytest.fixture(scope="module")
def built(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("published") / "sirst5k"
    execute(plan, out, Pool(0))
    return out


@pytest.fixture(scope="module")
def manifest(built: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (built / "manifest.jsonl").read_text().splitlines()]


def test_counts_are_planned_as_published(plan: Plan) -> None:
    assert {split: len(ids) for split, ids in plan.lists.items() if ids} == {
        "train": 4862,
        "test": 664,
    }
    negatives = plan.lists["train"][663:]
    assert (negatives[0], negatives[-1], len(negatives)) == ("001328", "005526", 4199)
    listed = [id_ for ids in plan.lists.values() for id_ in ids]
    assert sorted(id_ for id_, _ in plan.outputs()) == sorted(listed)


@slow
def test_counts_are_the_published_ones(built: Path) -> None:
    dataset = open_dataset(built)
    assert (len(dataset.ids("train")), len(dataset.ids("test"))) == (4862, 664)
    negatives = dataset.ids("train")[663:]
    assert (negatives[0], negatives[-1], len(negatives)) == ("001328", "005526", 4199)
    assert len(list((built / "images").iterdir())) == len(list((built / "masks").iterdir())) == 5526


@slow
def test_test_files_are_the_sources_own(built: Path, source: Path) -> None:
    for id_ in open_dataset(source).ids("test"):
        for folder in ("images", "masks"):
            name = f"{folder}/{id_}.png"
            assert (built / name).read_bytes() == (source / name).read_bytes()


def test_first_negatives_are_the_four_turns_of_every_target(
    plan: Plan,
) -> None:
    made = {
        output.id: ((group.pair.id, *sorted(output.variant.items())), output.draws)
        for group in plan.groups
        for output in group.outputs
    }
    first = dict(made[f"{number:06d}"] for number in range(1328, 1328 + 3672))
    assert len(first) == 3672
    targets = Counter((source, target) for source, _, target in first)
    assert len(targets) == 918
    assert set(targets.values()) == {4}
    for number in range(1328 + 3672, 5527):
        turn, draws = made[f"{number:06d}"]
        assert (draws.repeat, draws.variant) == (1, first[turn].variant)


@slow
def test_repeats_have_other_noise(manifest: list[dict[str, Any]]) -> None:
    patches: dict[Any, list[int]] = {}
    for line in manifest:
        if made := steps(line):
            turn = line["source"], *made["turn"].items()
            patches.setdefault(turn, []).append(made["mixup"]["patch"])
    assert Counter(map(len, patches.values())) == {1: 3672 - 527, 2: 527}
    assert all(len(set(found)) == len(found) for found in patches.values())


@slow
def test_negatives_can_be_recomputed_from_their_lines(
    built: Path, source: Path, manifest: list[dict[str, Any]]
) -> None:
    """With nothing of this project: Pillow for the files and the resizing, skimage for targets."""
    made = [line for line in manifest if "steps" in line]
    with np.load(built / "noise.npz") as bank:
        patches = bank["patches"]
    for line in np.random.default_rng(5).choice(np.array(made), 300, replace=False):
        image = np.asarray(Image.open(source / "images" / f"{line['source']}.png").convert("L"))
        mask = np.asarray(Image.open(source / "masks" / f"{line['source']}.png").convert("L")) > 127
        mix, turn = steps(line)["mixup"], steps(line)["turn"]
        patch = Image.fromarray(patches[mix["patch"]].astype(np.float32))
        noise = np.asarray(patch.resize((256, 256), Image.Resampling.BILINEAR), np.float64)
        # A share of a tenth in whole numbers, so that half up is the exact value's.
        tenths = round(mix["ratio"] * 10)
        exact = tenths * np.rint(noise * 256).astype(np.int64)
        exact += (10 - tenths) * 256 * image.astype(np.int64)
        mixed = ((2 * exact + 2560) // 5120).astype(np.uint8)
        region = regionprops(label(mask, connectivity=2))[turn["target"]]
        side = turn["side"]
        row, col = (int(np.floor(c + 0.5)) for c in region.centroid)
        top = min(max(row - side // 2, 0), 256 - side)
        left = min(max(col - side // 2, 0), 256 - side)
        window = (slice(top, top + side), slice(left, left + side))
        turned = mask.copy()
        for array in (mixed, turned):
            box = array[window][:, ::-1] if turn["mirror"] else array[window]
            array[window] = np.rot90(box, turn["quarter_turns"]).copy()
        np.testing.assert_array_equal(np.asarray(Image.open(built / line["image"])), mixed)
        np.testing.assert_array_equal(
            np.asarray(Image.open(built / line["mask"])), turned.astype(np.uint8) * 255
        )


@slow
def test_masks_keep_the_area_of_their_source(
    built: Path, source: Path, manifest: list[dict[str, Any]]
) -> None:
    """A turn in place permutes the pixels of the box, so no target pixel is won or lost."""
    originals, outputs = open_dataset(source), open_dataset(built)
    areas = {id_: int(originals.read_mask(id_).sum()) for id_ in originals.ids("train")}
    for line in manifest:
        if "target" in line:
            assert int(outputs.read_mask(line["id"]).sum()) == areas[line["source"]]


@slow
def test_every_file_is_as_the_build_left_it(built: Path) -> None:
    assert not [problem for _, _, problem in verify(built, 2) if problem]
