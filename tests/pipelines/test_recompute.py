"""``verify --recompute``: outputs are made again, and differences in pixels are reported."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from small_sets import Outcome, SmallSet

from synth.disk.description import DESCRIPTION, MANIFEST, describe, read_description
from synth.disk.files import sha256
from synth.disk.png import encode_png
from synth.frames import read_frame
from synth.noise.bank import NoiseBank, load_bank

Synth = Callable[..., Outcome]
ROOT = Path(__file__).parents[2]
ALL = """
negatives:
  count: 14
  steps:
    - mixup
    - choose:
        - {share: 0.3, transplant: }
        - {share: 0.3, move: }
        - {share: 0.4, turn: {side: 9}}
    - choose: [{share: 0.5, move: {copy: true}}]
"""


@pytest.fixture
def built(synth: Synth, small_set: SmallSet, tmp_path: Path) -> Path:
    """A set with turns, moves, transplants and copies."""
    config = tmp_path / "c.yaml"
    config.write_text(f"noise: {{sample: {{side: 8}}}}\n{ALL}")
    out = tmp_path / "out"
    done = synth("build", config, "--data", small_set.root, "--out", out)
    assert done.status == 0, done.err
    return out


def recomputed(outcome: Outcome) -> dict[str, Any]:
    found = json.loads(outcome.out)
    assert found["intact"], found["problems"]
    return dict(found["recomputed"])


def accept(out: Path) -> None:
    """Make every hash of a set right for what is there now."""
    lines = [json.loads(line) for line in (out / MANIFEST).read_text().splitlines()]
    for line in lines:
        for key in ("image", "mask"):
            line[f"{key}_sha256"] = sha256((out / line[key]).read_bytes())
    (out / MANIFEST).write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    body = {key: value for key, value in read_description(out).items() if key != "sha256"}
    body["files"] = {name: sha256((out / name).read_bytes()) for name in body["files"]}
    (out / DESCRIPTION).write_bytes(describe(body))


def change(file: Path, by: int, pixels: int) -> None:
    """Change the first pixels of an image, each by so many DN."""
    values = read_frame(file).astype(np.int64)
    part = values.reshape(-1)[:pixels]
    part += np.where(part > 127, -by, by)
    file.write_bytes(encode_png(values.astype(np.uint8)))


def made_output(out: Path) -> dict[str, Any]:
    """An output that is no copy of its source."""
    lines = map(json.loads, (out / MANIFEST).read_text().splitlines())
    return dict(next(line for line in lines if line["id"] != line["source"]))


@pytest.mark.parametrize("options", [(), ("--format", "webdataset", "--shard-size", "5")])
def test_an_untouched_set_is_equal(
    synth: Synth, small_set: SmallSet, tmp_path: Path, options: tuple[str, ...]
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(f"noise: {{sample: {{side: 8}}}}\n{ALL}")
    out = tmp_path / "out"
    synth("build", config, "--data", small_set.root, "--out", out, *options)
    done = synth("verify", out, "--recompute", "--data", small_set.root, "--json")
    assert done.status == 0
    total = len(small_set.train) + len(small_set.test) + 14
    assert recomputed(done) == {
        "outputs": total, "differing": 0, "pixels": 0, "largest": 0, "mask_pixels": 0,
        "tolerated": True, "differences": [],
    }  # fmt: skip
    words = synth("verify", out, "--recompute", "--data", small_set.root).out
    assert f"{total} made again, all equal" in words


def test_a_simulated_set_needs_no_source(synth: Synth, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(
        "simulate: {train: 3, test: 1, noise_frames: 1, shape: [64, 64]}\n"
        "negatives: {count: 6, steps: [mixup, transplant: {hosts: [training, noise]}]}\n"
    )
    out = tmp_path / "out"
    assert synth("build", config, "--out", out).status == 0
    found = recomputed(synth("verify", out, "--recompute", "--json"))
    assert (found["outputs"], found["differing"]) == (10, 0)


@pytest.mark.parametrize("command", ["transfer", "rotate"])
def test_a_stage_alone_is_made_again(
    synth: Synth, small_set: SmallSet, tmp_path: Path, command: str
) -> None:
    bank = tmp_path / "bank.npz"
    synth("noise-sample", small_set.root / "images", "--out", bank, "--patch", 8)
    options = ("--noise", bank) if command == "transfer" else ("--side", "9")
    out = tmp_path / "out"
    assert synth(command, small_set.root, "--out", out, *options).status == 0
    done = synth("verify", out, "--recompute", "--data", small_set.root, "--json")
    assert recomputed(done)["outputs"] > 0
    assert recomputed(done)["differing"] == 0


def test_a_changed_pixel_is_reported_with_its_difference(
    synth: Synth, small_set: SmallSet, built: Path
) -> None:
    output = made_output(built)
    change(built / output["image"], by=7, pixels=2)
    accept(built)
    assert synth("verify", built).status == 0
    done = synth("verify", built, "--recompute", "--data", small_set.root, "--json")
    assert done.status == 1
    assert recomputed(done)["differences"] == [
        {
            "id": output["id"],
            "pixels": 2,
            "largest": 7,
            "mask_pixels": 0,
            "tolerated": False,
        }
    ]
    assert f"output {output['id']} differs" in done.err


@pytest.mark.parametrize(
    ("key", "by", "pixels", "status"),
    [("image", 1, 3, 0), ("image", 1, 4, 1), ("image", 2, 1, 1), ("mask", 255, 1, 1)],
)
def test_no_more_is_tolerated_than_processors_differ_by(
    synth: Synth, small_set: SmallSet, built: Path, key: str, by: int, pixels: int, status: int
) -> None:
    output = made_output(built)
    assert cv2.imread(str(built / output["image"])).shape[:2] == (48, 64)
    change(built / output[key], by, pixels)
    accept(built)
    done = synth("verify", built, "--recompute", "--data", small_set.root, "--json")
    found = recomputed(done)
    assert (done.status, found["differing"]) == (status, 1)
    assert found["pixels"] == (pixels if key == "image" else 0)
    assert found["mask_pixels"] == (pixels if key == "mask" else 0)


def test_another_noise_file_is_reported(synth: Synth, small_set: SmallSet, built: Path) -> None:
    bank = load_bank(built / "noise.npz")
    other = NoiseBank(**{**vars(bank), "patches": bank.patches[::-1]})
    (built / "noise.npz").write_bytes(other.to_bytes())
    accept(built)
    assert synth("verify", built).status == 0
    done = synth("verify", built, "--recompute", "--data", small_set.root, "--json")
    assert done.status == 1
    assert recomputed(done)["differing"] > 0


def test_a_sample_is_as_large_as_was_asked_for(
    synth: Synth, small_set: SmallSet, built: Path
) -> None:
    options = ("--recompute", "--data", small_set.root, "--count", 5, "--json")
    assert recomputed(synth("verify", built, *options))["outputs"] == 5


def test_a_set_without_its_source_says_which_is_missing(synth: Synth, built: Path) -> None:
    done = synth("verify", built, "--recompute")
    assert done.status == 1
    assert "was made from 'source'; say where that set is now, with --data" in done.err


def test_another_source_is_refused(
    synth: Synth, make_set: Callable[..., SmallSet], small_set: SmallSet, built: Path
) -> None:
    shutil.rmtree(small_set.root)
    other = make_set(seed=1)
    done = synth("verify", built, "--recompute", "--data", other.root)
    assert done.status == 1
    assert f"{other.root}: is not what {built} was made from" in done.err


def test_a_set_of_another_command_is_refused(
    synth: Synth, small_set: SmallSet, tmp_path: Path
) -> None:
    out = tmp_path / "coco"
    assert synth("export", small_set.root, "--format", "coco", "--out", out).status == 0
    done = synth("verify", out, "--recompute", "--data", small_set.root)
    assert done.status == 1
    assert "was not made by synth build" in done.err


def test_a_host_that_is_a_frame_is_asked_for(
    synth: Synth, small_set: SmallSet, tmp_path: Path
) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    values = np.random.default_rng(3).normal(100, 3, (48, 64)).clip(0, 255).astype(np.uint8)
    (frames / "f.png").write_bytes(encode_png(values))
    config = tmp_path / "c.yaml"
    config.write_text(
        "noise: {sample: {side: 8}}\n"
        "negatives: {count: 6, steps: [mixup, transplant: {hosts: noise}]}\n"
    )
    source, out = ("--data", small_set.root), tmp_path / "out"
    assert synth("build", config, *source, "--noise", frames, "--out", out).status == 0
    done = synth("verify", out, "--recompute", *source)
    assert done.status == 1
    assert "targets in the frame 'f.png'; say where it is now, with --noise" in done.err
    done = synth("verify", out, "--recompute", *source, "--noise", frames, "--json")
    assert recomputed(done)["differing"] == 0


def test_a_set_says_what_must_be_equal_for_equal_bytes(built: Path) -> None:
    description = read_description(built)
    assert set(description["versions"]) == {
        "sirst-synth", "python", "numpy", "opencv", "png", "processor"
    }  # fmt: skip
    assert platform.machine() in description["versions"]["processor"]
    assert "--recompute" in description["reproduced"]


@pytest.mark.parametrize(
    "switched_off",
    [{"OPENCV_CPU_DISABLE": "AVX2,AVX512-SKX"}, {"NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4"}],
)
def test_without_some_instructions_a_simulated_set_is_the_same(
    tmp_path: Path, synth: Synth, switched_off: dict[str, str]
) -> None:
    config = tmp_path / "c.yaml"
    # With 16 bits a difference of float32 shows in one output of ten.
    config.write_text(
        "simulate: {train: 24, test: 2, noise_frames: 2, shape: [129, 150], bits: 16}\n"
        "noise: {sample: {max_var: 1000000000}}\n"
        "negatives:\n"
        "  count: 96\n"
        "  steps:\n"
        "    - mixup\n"
        "    - choose:\n"
        "        - {share: 0.3, transplant: {scr: [2, 9], zoom: [0.8, 1.2], angle: 60}}\n"
        "        - {share: 0.5, move: {scr: [2, 9], zoom: [0.8, 1.2], angle: 60}}\n"
        "        - {share: 0.2, turn: {side: auto, blend: poisson}}\n"
        "    - choose: [{share: 0.7, move: {copy: true, angle: 60}}]\n"
        "    - distract: {count: [0, 2]}\n"
    )
    out = tmp_path / "out"
    assert synth("build", config, "--out", out).status == 0
    command = [sys.executable, "-m", "pipelines.cli", "verify", str(out), "--recompute", "--json"]
    done = subprocess.run(
        command,
        env=os.environ | switched_off,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["recomputed"]["differing"] == 0
