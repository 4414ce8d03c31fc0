"""The commands: examples, JSON, exit statuses, and what each leaves on disk."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import pytest
from image_files import read_mask
from made_again import assert_made_again, steps
from shared_noise import independent_limit, pair_correlations
from small_sets import Outcome, SmallSet

from pipelines.cli.synth import main
from synth.dataset import open_dataset
from synth.frames import read_frame
from synth.noise.bank import load_bank
from synth.noise.transfer import mixup
from synth.targets import find_targets

ROOT = Path(__file__).parents[2]
COMMANDS = main.list_commands(click.Context(main))
Synth = Callable[..., Outcome]


@pytest.fixture
def bank(small_set: SmallSet, tmp_path: Path, synth: Synth) -> Path:
    """A bank of 8x8 patches of the set's own images."""
    path = tmp_path / "bank.npz"
    done = synth("noise-sample", small_set.root / "images", "--out", path, "--patch", 8)
    assert done.status == 0, done.err
    return path


@pytest.fixture
def config(small_set: SmallSet, tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(
        f"data: {small_set.root}\nnoise: {{sample: {{side: 8}}}}\n"
        "negatives: {steps: [mixup, turn: {side: 9}]}\n"
    )
    return path


def manifest(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]


def only_json(outcome: Outcome) -> dict[str, Any]:
    """The object on stdout, when there is nothing else."""
    assert outcome.status == 0, outcome.err
    found = json.loads(outcome.out)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_of_the_command(synth: Synth, command: str) -> None:
    outcome = synth(command, "--help")
    assert outcome.status == 0
    assert f"Example: synth {command} " in outcome.out
    assert outcome.err == ""


def _command(name: str) -> click.Command:
    found = main.get_command(click.Context(main), name)
    assert found is not None
    return found


def test_a_mistyped_command_is_told_those_like_it(synth: Synth) -> None:
    outcome = synth("expot")
    assert outcome.status == 2
    assert "'export'" in outcome.err


def test_a_build_imports_nothing_that_it_does_not_use() -> None:
    code = (
        "import sys; from pipelines.cli.synth import main;"
        " main(['build', '--help'], standalone_mode=False); print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    loaded = set(done.stderr.decode().split())
    unwanted = {
        "torch",
        "joblib",
        "matplotlib",
        "skimage",
        "scipy.fft",
        "scipy.stats",
        "distributed",
    }
    assert "pipelines.build.run" in loaded
    assert not loaded & unwanted


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_speaks_json(command: str) -> None:
    assert "--json" in [name for param in _command(command).params for name in param.opts]


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_name_options_that_exist(command: str) -> None:
    text = _command(command).help or ""
    words = text[text.index("Example: ") :].split()[3:]
    known = {name for param in _command(command).params for name in param.opts}
    assert {word for word in words if word.startswith("--")} <= known


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_a_command_is_in_its_help(synth: Synth, command: str) -> None:
    shown = synth(command, "--help").out
    for param in _command(command).params:
        if isinstance(param, click.Option):
            assert param.opts[0] in shown


def test_help_lists_every_command(synth: Synth) -> None:
    outcome = synth("--help")
    assert outcome.status == 0
    for command in COMMANDS:
        assert f"\n  {command} " in outcome.out


def test_the_published_commands_are_there() -> None:
    assert {"noise-sample", "transfer", "rotate", "build", "check", "verify", "preview"} <= set(
        COMMANDS
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("unknown",),
        ("build",),
        ("build", "a.yaml", "--unknown"),
        ("build", "a.yaml", "--jobs", "-1"),
        ("build", "a.yaml", "--jobs", "two"),
        ("build", "a.yaml", "--backend", "mpi"),
        ("build", "a.yaml", "--seed", "-1"),
        ("noise-sample", "--out", "x.npz"),
        ("noise-sample", "frames", "--out", "x.png"),
        ("noise-sample", "frames", "--out", "x.npz", "--patch", "0"),
        ("noise-sample", "frames", "--out", "x.npz", "--max-var", "-1"),
        ("noise-sample", "frames", "--out", "x.npz", "--bits", "17"),
        ("transfer", "set", "--noise", "x.npz"),
        ("transfer", "set", "--noise", "x.npz", "--out", "o", "--ratio", "1.1"),
        ("transfer", "set", "--noise", "x.npz", "--out", "o", "--gain", "0"),
        ("transfer", "set", "--noise", "x.npz", "--out", "o", "--gain", "inf"),
        ("transfer", "set", "--noise", "x.npz", "--out", "o", "--split", "test"),
        ("rotate", "set", "--out", "o", "--turns", "0,4"),
        ("rotate", "set", "--out", "o", "--turns", "1,1"),
        ("rotate", "set", "--out", "o", "--turns", ""),
        ("rotate", "set", "--out", "o", "--side", "0"),
        ("rotate", "set", "--out", "o", "--side", "large"),
        ("rotate", "set", "--out", "o", "--blend", "glue"),
        ("preview", "set", "--out", "sheet.jpg"),
        ("preview", "set", "--out", "sheet.png", "--cell", "3"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(
    synth: Synth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = synth(*arguments)
    assert outcome.status == 2
    assert outcome.out == ""
    assert outcome.err.count("\n") == 1
    assert "--help`" in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_noise_sample_writes_a_bank(synth: Synth, small_set: SmallSet, tmp_path: Path) -> None:
    path = tmp_path / "new" / "bank.npz"
    arguments = ("noise-sample", small_set.root / "images", "--out", path, "--patch", 8)
    told = only_json(synth(*arguments, "--limit", 5, "--json"))
    bank = load_bank(path)
    assert (len(bank), bank.side) == (told["patches"], told["side"]) == (5, 8)
    assert told["mean"] == pytest.approx(bank.mean.mean())
    for name, row, col, patch in zip(bank.frame, bank.row, bank.col, bank.patches, strict=True):
        frame = read_frame(small_set.root / "images" / str(name))
        np.testing.assert_array_equal(patch, frame[row : row + 8, col : col + 8])
    before = path.read_bytes()
    assert synth(*arguments, "--limit", 5).status == 0
    assert path.read_bytes() == before
    assert synth(*arguments, "--limit", 5, "--seed", 1).status == 0
    assert path.read_bytes() != before


def test_noise_sample_of_a_sequence(synth: Synth, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "camera").mkdir()
    for number in range(3):
        frame = rng.normal(100, 2, (16, 16))
        frame[:, 8:] += 30 * number
        assert cv2.imwrite(str(tmp_path / "camera" / f"{number}.png"), frame.astype(np.uint8))
    out = tmp_path / "bank.npz"
    arguments = ("noise-sample", tmp_path / "camera", "--out", out, "--patch", 8)
    assert only_json(synth(*arguments, "--json"))["patches"] == 12
    # The right half drifts, so that over time only the left one is noise.
    assert only_json(synth(*arguments, "--sequence", "--json"))["patches"] == 6
    assert set(load_bank(out).col.tolist()) == {0}


def test_transfer_keeps_ids_and_tells_the_patch(
    synth: Synth, small_set: SmallSet, bank: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = ("transfer", small_set.root, "--noise", bank, "--out", out, "--ratio", 0.3)
    told = only_json(synth(*arguments, "--json"))
    assert told["counts"]["outputs"] == told["made"] == 4
    patches = load_bank(bank).patches
    records = manifest(out)
    assert [record["id"] for record in records] == small_set.train
    for record in records:
        mix = steps(record)["mixup"]
        assert (record["source"], mix["ratio"]) == (record["id"], 0.3)
        image = read_frame(small_set.image(record["id"]))
        wanted = mixup(image, patches[mix["patch"]], 0.3)
        np.testing.assert_array_equal(read_frame(out / record["image"]), wanted)
        mask = read_mask(small_set.mask(record["id"]))
        np.testing.assert_array_equal(read_mask(out / record["mask"]), mask)
    assert open_dataset(out).ids("train") == tuple(small_set.train)
    assert synth("verify", out).status == 0


def test_transfer_draws_one_of_the_ratios(
    synth: Synth, make_set: Callable[..., SmallSet], bank: Path, tmp_path: Path
) -> None:
    made = make_set("more", train=30, shapes=((16, 16),))
    out = tmp_path / "out"
    ratios = ("--ratio", 0.1, "--ratio", 0.5)
    assert synth("transfer", made.root, "--noise", bank, "--out", out, *ratios).status == 0
    assert {steps(record)["mixup"]["ratio"] for record in manifest(out)} == {0.1, 0.5}


def test_noise_is_measured_and_made_again(synth: Synth, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    folder, model, made = (tmp_path / name for name in ("frames", "model.npz", "made"))
    folder.mkdir()
    frames = rng.normal(3000, 6, (40, 32, 48)) + rng.normal(0, 3, (1, 32, 1))
    for number, frame in enumerate(np.rint(frames).astype(np.uint16)):
        assert cv2.imwrite(str(folder / f"{number}.png"), frame)
    measured = only_json(synth("noise-model", folder, "--sequence", "--out", model, "--json"))
    assert measured["sigma"]["tvh"] == pytest.approx(6, rel=0.02)
    assert measured["sigma"]["v"] == pytest.approx(3, rel=0.4)
    assert (measured["frames"], measured["shape"]) == (40, [32, 48])
    assert "σ_tvh" in synth("noise-model", folder, "--sequence").out

    arguments = ("noise-generate", model, "--out", made, "--frames", 30, "--shape", 64, 40)
    assert only_json(synth(*arguments, "--json"))["shape"] == [64, 40]
    files = sorted(made.iterdir())
    assert [files[0].name, files[-1].name, len(files)] == ["0001.png", "0030.png", 30]
    assert read_frame(files[0]).dtype == np.uint16
    again = only_json(synth("noise-model", made, "--sequence", "--json"))
    assert again["sigma"]["tvh"] == pytest.approx(6, rel=0.02)
    assert "is there already" in synth(*arguments).err
    before = [file.read_bytes() for file in files]
    shutil.rmtree(made)
    assert synth(*arguments).status == 0
    assert [file.read_bytes() for file in files] == before


def test_sequences_of_two_cameras_and_of_two_seeds_share_no_noise(
    synth: Synth, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    made = []
    for name, seeds in (("one", (0, 1)), ("other", (0,))):
        folder, model = tmp_path / name, tmp_path / f"{name}.npz"
        folder.mkdir()
        frames = rng.normal(3000, 6, (12, 32, 32))
        for number, frame in enumerate(np.rint(frames).astype(np.uint16)):
            assert cv2.imwrite(str(folder / f"{number}.png"), frame)
        assert synth("noise-model", folder, "--sequence", "--out", model).status == 0
        for seed in seeds:
            out = tmp_path / f"{name}{seed}"
            arguments = ("--out", out, "--frames", 12, "--seed", seed)
            assert synth("noise-generate", model, *arguments).status == 0
            made += [read_frame(file).astype(float) for file in sorted(out.iterdir())]
    stack = np.stack(made)
    assert pair_correlations(stack).max() < independent_limit(stack)


def test_frames_that_are_no_sequence_are_refused(
    synth: Synth, small_set: SmallSet, tmp_path: Path
) -> None:
    for side in (20, 24):
        assert cv2.imwrite(str(tmp_path / f"{side}.png"), np.zeros((side, side), np.uint8))
    told = synth("noise-model", tmp_path, "--sequence")
    assert told.status == 1
    assert "24.png: is not of the size and depth of 20.png" in told.err
    told = synth("noise-model", tmp_path / "20.png", "--sequence")
    assert (told.status, told.err.count("\n")) == (1, 1)
    assert "at least 4 frames" in told.err


@pytest.mark.parametrize("blend", ["feather", "poisson"])
def test_rotate_fits_and_blends_as_its_manifest_says(
    synth: Synth, small_set: SmallSet, tmp_path: Path, blend: str
) -> None:
    out = tmp_path / "out"
    fitted = ("--side", "auto", "--blend", blend, "--turns", "0,1")
    assert synth("rotate", small_set.root, "--out", out, *fitted).status == 0
    records = manifest(out)
    for record in records:
        turn = steps(record)["turn"]
        assert turn["blend"] == blend
        assert turn["side"] % 2
        assert_made_again(out, record, open_dataset(small_set.root))
        if turn["quarter_turns"] == 0:
            made, source = out / record["image"], small_set.image(record["source"])
            np.testing.assert_array_equal(read_frame(made), read_frame(source))


def test_rotate_names_what_was_done(synth: Synth, small_set: SmallSet, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ("rotate", small_set.root, "--out", out, "--side", 9, "--turns", "1,3", "--mirror")
    told = only_json(synth(*arguments, "--json"))
    targets = {id_: find_targets(read_mask(small_set.mask(id_))) for id_ in small_set.train}
    wanted = [
        f"{id_}_k{turns}_j{target.index}"
        for id_ in small_set.train
        for target in targets[id_]
        for turns in (1, 3)
    ]
    assert sorted(path.stem for path in (out / "images").iterdir()) == sorted(wanted)
    assert {path.suffix for path in (out / "images").iterdir()} == {".png"}
    assert told["counts"]["negatives"] == len(wanted)
    for record in manifest(out):
        turn = steps(record)["turn"]
        assert (turn["mirror"], turn["side"], turn["blend"]) == (True, 9, "paste")
        # A turn moves pixels and changes none.
        source = read_frame(small_set.image(record["source"]))
        made = read_frame(out / record["image"])
        np.testing.assert_array_equal(np.sort(made, axis=None), np.sort(source, axis=None))
    assert synth("verify", out).status == 0


def test_build_tells_what_it_made(synth: Synth, config: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    told = only_json(synth("build", config, "--out", out, "--json"))
    counts = told["counts"]
    assert counts["outputs"] == counts["train"] + counts["test"] == told["made"]
    assert counts["negatives"] == counts["train"] - 4
    assert told["out"] == str(out)
    again = only_json(synth("build", config, "--out", out, "--json"))
    assert (again["made"], again["counts"]) == (0, counts)
    assert "is there already" in synth("build", config, "--out", out).out


@pytest.mark.parametrize("lost", ["50_50/train.txt", "noise.npz", "images/*", "masks"])
def test_a_set_that_lost_files_is_not_called_built(
    synth: Synth, config: Path, tmp_path: Path, lost: str
) -> None:
    out = tmp_path / "out"
    assert synth("build", config, "--out", out).status == 0
    gone = next(iter(out.glob(lost)))
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    told = synth("build", config, "--out", out)
    assert told.status == 1
    assert f"is not whole: some of {lost.rstrip('/*')} is gone" in told.err


def test_a_place_that_is_taken_is_told_before_anything_is_read(
    synth: Synth, config: Path, small_set: SmallSet, tmp_path: Path
) -> None:
    (tmp_path / "notes").touch()
    for command in (
        ("build", config, "--data", tmp_path / "absent"),
        ("rotate", tmp_path / "absent"),
        ("transfer", small_set.root, "--noise", tmp_path / "absent.npz"),
    ):
        told = synth(*command, "--out", tmp_path)
        assert told.status == 1
        assert "is a folder with other files in it; choose another --out" in told.err


def test_data_and_settings_of_the_simulation_exclude_each_other(
    synth: Synth, config: Path, small_set: SmallSet, tmp_path: Path
) -> None:
    given = ("--data", small_set.root, "--set", "simulate.train=5", "--out", tmp_path / "out")
    told = synth("build", config, *given)
    assert told.status == 2
    assert "simulate.train=5" in told.err


def test_options_go_before_the_file(
    synth: Synth, config: Path, small_set: SmallSet, bank: Path, tmp_path: Path
) -> None:
    options = ("--set", "negatives.count=3", "--noise", bank, "--seed", 7, "--jobs", 1)
    out = tmp_path / "out"
    assert synth("build", config, "--data", small_set.root, "--out", out, *options).status == 0
    described = json.loads((out / "dataset.json").read_text())
    assert described["configuration"]["seed"] == 7
    assert described["configuration"]["negatives"]["count"] == 3
    assert (out / "noise.npz").read_bytes() == bank.read_bytes()
    assert described["name"] == "config"


def test_data_takes_the_place_of_a_simulation(
    synth: Synth, small_set: SmallSet, tmp_path: Path
) -> None:
    path = tmp_path / "demo.yaml"
    path.write_text(
        "simulate: {train: 3, test: 1}\nnoise: {sample: {side: 8}}\n"
        "negatives: {steps: [mixup, turn: {side: 9}]}\n"
    )
    out = tmp_path / "out"
    assert synth("build", path, "--data", small_set.root, "--out", out).status == 0
    assert open_dataset(out).ids("test") == tuple(small_set.test)


@pytest.mark.parametrize("name", ["it's", 'a "b"', "a\\b", "a: b", "ä#", " a", "bi 😀"])
def test_noise_may_have_any_name(synth: Synth, config: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    cv2.imwrite(str(tmp_path / "frame.png"), np.full((8, 8), 90, np.uint8))
    (tmp_path / "frame.png").rename(folder / "frame.png")
    outcome = synth("build", config, "--noise", folder, "--out", tmp_path / "out")
    assert outcome.status == 0, outcome.err


def test_the_default_place_is_named_after_the_configuration(
    synth: Synth, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert synth("build", config).status == 0
    assert (tmp_path / "out" / "config" / "dataset.json").is_file()


def test_verify_names_what_was_changed(synth: Synth, config: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert synth("build", config, "--out", out).status == 0
    assert only_json(synth("verify", out, "--json"))["intact"]
    (out / "masks" / "001.png").unlink()
    outcome = synth("verify", out)
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err.count("\n") == 1
    assert "masks/001.png: is missing" in outcome.err
    outcome = synth("verify", out, "--json")
    told = json.loads(outcome.out)
    assert (outcome.status, told["intact"], len(told["problems"])) == (1, False, 1)


def test_without_its_manifest_no_file_of_a_set_is_called_foreign(
    synth: Synth, config: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    synth("build", config, "--out", out)
    (out / "manifest.jsonl").unlink()
    outcome = synth("verify", out)
    assert outcome.status == 1
    assert "manifest.jsonl: is missing" in outcome.err
    assert "not part of the build" not in outcome.err


@pytest.mark.parametrize(
    "line",
    [
        '{"id":"a","split":"train","image":5,"image_sha256":"x","mask":"m","mask_sha256":"x"}',
        '{"id":"a","split":"train","image":"a\\u0000b","image_sha256":"","mask":"","mask_sha256":""}',
        '{"id":"a","split":"train","image":"\\ud800","image_sha256":"","mask":"","mask_sha256":""}',
        "[" * 200_000,
    ],
)
def test_a_line_that_is_no_build_s_is_told(
    synth: Synth, config: Path, tmp_path: Path, line: str
) -> None:
    out = tmp_path / "out"
    synth("build", config, "--out", out)
    (out / "manifest.jsonl").write_text(line + "\n")
    outcome = synth("verify", out)
    assert outcome.status == 1
    assert "Traceback" not in outcome.err


def test_a_link_to_an_empty_folder_is_filled(synth: Synth, config: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert synth("build", config, "--out", tmp_path / "link").status == 0
    assert (tmp_path / "real" / "dataset.json").is_file()


def test_verify_finds_a_changed_line_of_the_manifest(
    synth: Synth, config: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert synth("build", config, "--out", out).status == 0
    records = manifest(out)
    made = next(record for record in records if "steps" in record)
    steps(made)["mixup"]["ratio"] = 0.2
    (out / "manifest.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in records))
    outcome = synth("verify", out)
    assert outcome.status == 1
    assert "manifest.jsonl: was changed after the build" in outcome.err


def test_check_tells_faults_by_severity(synth: Synth, small_set: SmallSet) -> None:
    assert only_json(synth("check", small_set.root, "--json"))["faults"] == []
    cv2.imwrite(str(small_set.mask("001")), np.zeros((48, 64), np.uint8))
    warned = only_json(synth("check", small_set.root, "--json"))
    assert warned["sound"]
    assert [(f["fault"], f["severity"], f["count"]) for f in warned["faults"]] == [
        ("mask without target", "warning", 1)
    ]
    small_set.image("002").write_bytes(b"")
    outcome = synth("check", small_set.root, "--json")
    assert outcome.status == 1
    assert outcome.err.count("\n") == 1
    assert "002.png" in outcome.err
    assert not json.loads(outcome.out)["sound"]


@pytest.mark.parametrize(
    ("options", "images", "size"),
    [
        (("--split", "train"), 4, (6 + 6 + 64 + 18, 4 * (64 + 6) + 6)),
        (("--split", "all", "--columns", 3), 6, (6 + 2 * (6 + 64 + 18), 3 * (64 + 6) + 6)),
        (("--count", 2), 2, (6 + 6 + 64 + 18, 2 * (64 + 6) + 6)),
        (("--ids", "005,001"), 2, (6 + 6 + 64 + 18, 2 * (64 + 6) + 6)),
    ],
)
def test_preview_draws_a_sheet_with_outlined_targets(
    synth: Synth,
    small_set: SmallSet,
    tmp_path: Path,
    options: tuple[object, ...],
    images: int,
    size: tuple[int, int],
) -> None:
    out = tmp_path / "sheet.png"
    outcome = synth("preview", small_set.root, "--out", out, "--cell", 64, *options, "--json")
    told = only_json(outcome)
    sheet = cv2.imread(str(out), cv2.IMREAD_UNCHANGED)
    assert len(told["ids"]) == images
    assert sheet.shape == (*told["shape"], 3) == (*size, 3)
    blue, green, red = cv2.split(sheet.astype(int))
    boxes, _ = cv2.connectedComponents(
        ((green > blue + 50) & (green > red + 50)).astype(np.uint8), connectivity=8
    )
    assert boxes - 1 >= images / 2


def test_preview_refuses_what_is_not_there(
    synth: Synth, small_set: SmallSet, tmp_path: Path
) -> None:
    out = tmp_path / "sheet.png"
    for options in (("--split", "val"), ("--ids", "ghost")):
        outcome = synth("preview", small_set.root, "--out", out, *options)
        assert outcome.status == 1
        assert outcome.err.count("\n") == 1
        assert not out.exists()


def test_a_module_run_is_the_command(config: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pipelines.cli"]
    done = subprocess.run(
        [*command, "build", str(config), "--out", str(tmp_path / "out"), "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["out"] == str(tmp_path / "out")
    assert done.stderr == ""
    wrong = subprocess.run(
        [*command, "build", str(tmp_path / "absent.yaml")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (wrong.returncode, wrong.stdout) == (1, "")
    told = f"synth: {tmp_path}/absent.yaml: cannot be read (No such file or directory)\n"
    assert wrong.stderr == told


def test_rotate_turns_targets_alone_by_any_angle(
    synth: Synth, small_set: SmallSet, tmp_path: Path
) -> None:
    out = tmp_path / "turned"
    arguments = ("rotate", small_set.root, "--out", out, "--side", "auto", "--any-angle", 1)
    assert synth(*arguments, "--seed", 3).status == 0
    lines = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    made = [line for line in lines if "move" in steps(line)]
    assert made
    assert all(steps(line)["move"]["stay"] and steps(line)["move"]["angle"] for line in made)
    source, result = open_dataset(small_set.root), open_dataset(out)
    for line in made:
        before, after = source.read_pair(line["source"])[1], result.read_pair(line["id"])[1]
        assert after.sum() == pytest.approx(before.sum(), abs=2)
    assert synth("verify", out).status == 0
