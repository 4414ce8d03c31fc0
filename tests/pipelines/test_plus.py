"""Sets with a sensor's noise, moved targets and distractors: from frames to files and back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from image_files import read_mask
from made_again import assert_made_again
from small_sets import Outcome, SmallSet

from pipelines.build.config import BuildConfig
from pipelines.build.run import ShardSize, build
from synth.dataset import open_dataset
from synth.disk.verify import verify
from synth.frames import read_frame
from synth.noise.blocks import find_noise_blocks
from synth.noise.cameras import CameraNoise, load_noise
from synth.noise.model import fit_model

Synth = Callable[..., Outcome]
Tree = Callable[[Path], dict[str, bytes]]

STEPS: list[Any] = [
    {
        "choose": [
            {"share": 0.5, "move": {"angle": 30, "scr": [2, 9]}},
            {"share": 0.5, "turn": {"side": "auto", "blend": "poisson", "keep_offset": True}},
        ]
    },
    {"choose": [{"share": 0.6, "move": {"copy": True, "scr": [2, 9]}}]},
    {"distract": {"count": [0, 3]}},
    {"residual": {"strength": [0.5, 2.0]}},
]


@pytest.fixture
def labelled(make_set: Callable[..., SmallSet]) -> SmallSet:
    return make_set("labelled", shapes=[(96, 112)])


@pytest.fixture
def camera(tmp_path: Path) -> Path:
    """Eight frames whose noise is 5 DN, with columns of 2 DN."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "camera"
    folder.mkdir()
    columns = rng.normal(0, 2, 128)
    for number in range(8):
        frame = rng.normal(100, 5, (96, 128)) + columns
        assert cv2.imwrite(str(folder / f"{number}.png"), frame.round().astype(np.uint8))
    return folder


def manifest(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]


def plus(source: SmallSet, camera: Path, *steps: Any) -> BuildConfig:
    values = {"name": "plus", "data": source.root, "noise": {"frames": [str(camera)]}}
    negatives = {"count": 60, "steps": list(steps or STEPS)}
    return BuildConfig.model_validate(values | {"negatives": negatives})


def test_every_output_can_be_made_again_from_its_line(
    labelled: SmallSet, camera: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    build(plus(labelled, camera), out, jobs=1)
    assert not [problem for _, _, problem in verify(out, 1) if problem]
    assert isinstance(load_noise(out / "noise.npz"), CameraNoise)
    source = open_dataset(labelled.root)
    kinds = {"moved": 0, "turned": 0, "distractors": 0, "copies": 0}
    for line in manifest(out):
        if line["source"] == line["id"]:
            continue
        assert_made_again(out, line, source)
        mask, before = read_mask(out / line["mask"]), source.read_mask(line["source"])
        chosen = [pair for step in line["steps"] for pair in step.items()]
        copies = sum(choice.get("copy", False) for name, choice in chosen if name == "move")
        assert mask.sum() >= before.sum() if copies else mask.sum() == before.sum()
        kinds["copies"] += copies
        kinds["turned" if "turn" in dict(chosen) else "moved"] += 1
        kinds["distractors"] += len(dict(chosen).get("distract", {}).get("items", ()))
        assert dict(chosen)["residual"]["strength"] in (0.5, 2.0)
    assert min(kinds.values()) > 15


def test_workers_and_interrupts_change_no_byte(
    labelled: SmallSet, camera: Path, tmp_path: Path, tree: Tree
) -> None:
    outs = [tmp_path / name for name in ("one", "two", "processes")]
    build(plus(labelled, camera), outs[0], jobs=1)
    build(plus(labelled, camera), outs[1], jobs=2)
    build(plus(labelled, camera), outs[2], jobs=2, backend="processes")
    assert tree(outs[0]) == tree(outs[1]) == tree(outs[2])


def test_shards_hold_and_count_what_loose_files_do(
    labelled: SmallSet, camera: Path, tmp_path: Path
) -> None:
    wanted = plus(labelled, camera, *STEPS[:-1], {"residual": {"strength": [0.3, 2.0]}})
    loose = build(wanted, tmp_path / "loose", jobs=2)
    shards = build(wanted, tmp_path / "shards", jobs=2, shards=ShardSize(outputs=16))
    assert loose.noisier
    assert shards.noisier == loose.noisier
    one, other = open_dataset(tmp_path / "loose"), open_dataset(tmp_path / "shards")
    for id_ in one.ids("all"):
        for made, expected in zip(other.read_pair(id_), one.read_pair(id_), strict=True):
            np.testing.assert_array_equal(made, expected)


def test_one_recipe_may_use_both_kinds_of_noise(
    labelled: SmallSet, camera: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    either = {"choose": [{"share": 0.5, "mixup": {}}, {"share": 0.5, "residual": {}}]}
    build(plus(labelled, camera, {"turn": {"side": 16}}, either), out, jobs=2)
    told = json.loads((out / "dataset.json").read_text())["noise"]
    assert told["patches"] > 0
    assert told["frames"] == 8
    made = [line for line in manifest(out) if "steps" in line]
    kinds = [name for line in made for step in line["steps"] for name in step]
    assert min(kinds.count("mixup"), kinds.count("residual")) > 15
    for line in made:
        assert_made_again(out, line, open_dataset(labelled.root))


def test_transferred_noise_is_the_camera_s(
    labelled: SmallSet, camera: Path, tmp_path: Path, synth: Synth
) -> None:
    model, out = tmp_path / "model.npz", tmp_path / "noisy"
    told = synth("noise-model", camera, "--out", model, "--plot", tmp_path / "model.png")
    assert told.status == 0, told.err
    assert "noise of the pixels" in told.out
    assert cv2.imread(str(tmp_path / "model.png")) is not None
    # The set's own noise is 4 DN; what it lacks of 5 DN is added.
    arguments = ("--noise", model, "--out", out, "--mode", "residual", "--strength", 1)
    done = synth("transfer", labelled.root, *arguments)
    assert done.status == 0, done.err
    before, after = (
        fit_model(
            find_noise_blocks(
                (read_frame(root / "images" / f"{id_}.png"), None) for id_ in labelled.train
            )
        ).summary["sigma"]
        for root in (labelled.root, out)
    )
    assert before == pytest.approx(4, rel=0.1)
    assert after == pytest.approx(5, rel=0.1)
    weak = tmp_path / "weak"
    arguments = ("--noise", model, "--out", weak, "--mode", "residual", "--strength", 0.3)
    told = synth("transfer", labelled.root, *arguments)
    assert {line["facts"]["noisier"] for line in manifest(weak)} == {1.0}
    assert "4 of the images had as much noise already" in told.out


def test_a_bank_can_be_fitted_and_a_model_not_mixed_in(
    labelled: SmallSet, camera: Path, tmp_path: Path, synth: Synth
) -> None:
    bank, model = tmp_path / "bank.npz", tmp_path / "model.npz"
    assert synth("noise-sample", camera, "--out", bank, "--patch", 16).status == 0
    assert synth("noise-model", camera, "--out", model).status == 0
    fitted = ("--noise", bank, "--out", tmp_path / "a", "--mode", "residual")
    assert synth("transfer", labelled.root, *fitted).status == 0
    told = synth("transfer", labelled.root, "--noise", model, "--out", tmp_path / "b")
    assert (told.status, told.err.count("\n")) == (1, 1)
    assert "model.npz: is a model of noise, which has no patches to mix in" in told.err


def test_noise_is_generated_from_frames_and_from_several_sequences(
    camera: Path, tmp_path: Path, synth: Synth
) -> None:
    model = tmp_path / "model.npz"
    assert synth("noise-model", camera.parent / "camera", "--by-folder", "--out", model).status == 0
    assert synth("noise-generate", model, "--out", tmp_path / "made", "--frames", 5).status == 0
    frames = [read_frame(file) for file in sorted((tmp_path / "made").iterdir())]
    assert np.mean([frame.std() for frame in frames]) == pytest.approx(np.hypot(5, 2), rel=0.1)
    rng = np.random.default_rng(0)
    for level in (1000, 4000):
        folder = tmp_path / f"at {level}"
        folder.mkdir()
        for number in range(30):
            frame = rng.normal(level, np.sqrt(0.25 * level), (40, 48))
            assert cv2.imwrite(str(folder / f"{number}.png"), frame.round().astype(np.uint16))
    levels = (tmp_path / "at 1000", tmp_path / "at 4000")
    found = json.loads(synth("noise-model", *levels, "--sequence", "--out", model, "--json").out)
    assert found["gain"]["value"] == pytest.approx(0.25, rel=0.05)
    assert "DN² per DN, over 2 levels" in synth("noise-model", *levels, "--sequence").out
    made = tmp_path / "both"
    assert synth("noise-generate", model, "--out", made, "--frames", 4).status == 0
    spread = sorted(read_frame(file).std() for file in made.iterdir())
    np.testing.assert_allclose(spread, [15.8, 15.8, 31.6, 31.6], rtol=0.05)


def test_a_twelve_bit_camera_keeps_its_sigma_all_the_way(
    make_set: Callable[..., SmallSet], tmp_path: Path, synth: Synth
) -> None:
    """From frames to the model, its file, the transfer, and the written images."""
    rng = np.random.default_rng(0)
    sigma, column, row = 24.0, 12.0, 8.0
    folder = tmp_path / "deep"
    folder.mkdir()
    for number in range(20):
        frame = rng.normal(2000 + 40 * number, sigma, (160, 160))
        frame += rng.normal(0, column, 160) + rng.normal(0, row, (160, 1))
        assert cv2.imwrite(str(folder / f"{number}.png"), frame.round().astype(np.uint16))
    model, out = tmp_path / "model.npz", tmp_path / "out"
    assert synth("noise-model", folder, "--out", model).status == 0
    clean = tmp_path / "clean"
    for name in ("images", "masks", "50_50"):
        (clean / name).mkdir(parents=True)
    ids = [f"{number:02d}" for number in range(30)]
    down, along = np.mgrid[0:128, 0:128]
    for number, id_ in enumerate(ids):
        scene = 2200 + 300 * np.sin(down / 40 + number) * np.cos(along / 50)
        mask = np.zeros((128, 128), np.uint8)
        mask[60:63, 60:63] = 255
        assert cv2.imwrite(str(clean / "images" / f"{id_}.png"), scene.astype(np.uint16))
        assert cv2.imwrite(str(clean / "masks" / f"{id_}.png"), mask)
    (clean / "50_50" / "train.txt").write_text("\n".join(ids))
    (clean / "50_50" / "test.txt").write_text("")
    done = synth("transfer", clean, "--noise", model, "--out", out, "--mode", "residual")
    assert done.status == 0, done.err
    added = []
    for id_ in ids:
        noisy = read_frame(out / "images" / f"{id_}.png")
        assert noisy.dtype == np.uint16
        added.append(noisy.astype(float) - read_frame(clean / "images" / f"{id_}.png"))
    columns = np.array([field.mean(0) for field in added])
    rows = np.array([field.mean(1) for field in added])
    pixels = [field - field.mean(0) - field.mean(1)[:, None] + field.mean() for field in added]
    found = float(np.sqrt(np.mean(np.square(pixels))))
    assert found == pytest.approx(sigma, rel=0.05)
    assert np.sqrt(np.square(columns).mean() - sigma**2 / 128) == pytest.approx(column, rel=0.05)
    assert np.sqrt(np.square(rows).mean() - sigma**2 / 128) == pytest.approx(row, rel=0.05)


@pytest.mark.parametrize(
    ("step", "why"),
    [
        ({"physical": {"sigma": -2}}, "physical.sigma"),
        ({"physical": {"sources": ["x"]}}, "physical.sources: unknown key"),
        ({"residual": {"strength": -1}}, "residual.strength"),
        ({"residual": {"noise": "x"}}, "residual.noise: unknown key"),
        ({"move": {"scr": [5, 2]}}, "move.scr"),
        ({"move": {"stay": True}}, "move.stay"),
        ({"move": {"angle": 400}}, "move.angle"),
        ({"distract": {"count": [3, 1]}}, "distract.count"),
        ({"distract": {"kinds": ["ghost"]}}, "distract.kinds"),
        ({"choose": []}, "choose"),
        ({"choose": [{"share": 0.7, "move": {}}, {"share": 0.7, "turn": {}}]}, "choose"),
        ({"choose": [{"move": {}}]}, "choose: every step needs its share"),
        ({"trun": {}}, "did you mean 'turn'"),
        ({"turn": {}, "move": {}}, "each step is one"),
        ({"turn": {"side": True}}, "turn.side: true is not"),
        ([], "each step is one"),
    ],
)
def test_steps_that_make_no_sense_are_refused(step: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        BuildConfig.model_validate({"name": "x", "data": "y", "negatives": {"steps": [step]}})


def test_seams_and_fidelity_are_told(
    make_set: Callable[..., SmallSet], camera: Path, tmp_path: Path, synth: Synth
) -> None:
    source = make_set("many", train=24, shapes=[(96, 112)])
    out = tmp_path / "out"
    build(plus(source, camera, *STEPS[:-1], {"residual": {"share": 0}}), out, jobs=1)
    found = synth("quality", out, "--seams", "--noise", camera, "--json")
    assert found.status == 0, found.err
    report = json.loads(found.out)
    assert report["seams"]["boxes"] == 60
    assert 0.2 < report["seams"]["made"] < 0.75
    assert set(report["noise"]["scores"]) == set(report["noise"]["floor"])
    assert report["noise"]["scores"]["wasserstein"] > report["noise"]["floor"]["wasserstein"]
    told = synth("quality", out, "--seams", "--noise", camera)
    assert "seam probe on 60 made targets" in told.out
    assert "spectrum, decades" in told.out
    told = synth("quality", source.root, "--seams")
    assert (told.status, told.err.count("\n")) == (1, 1)
    assert "manifest.jsonl: is missing" in told.err
