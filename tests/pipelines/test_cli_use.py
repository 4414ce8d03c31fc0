"""The commands that use what was trained: predict, export, visualize, and split before it."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import save_file
from small_sets import Outcome, SmallSet

from detect.models import build_model
from detect.normalise import Normalisation
from detect.predict import OVERLAP, TILE, load_detector
from detect.weightsfile import Weights, write_weights
from pipelines.cli.detect import main
from synth.dataset import open_dataset

Synth = Callable[..., Outcome]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that find a target here and there."""
    torch.manual_seed(0)
    network = build_model("small")
    with torch.no_grad():
        network.head.weight *= 20
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    rule = Normalisation("frame", (0.0,), (1.0,))
    write_weights(path, Weights("small", rule, network.state_dict(), {}))
    return path


@pytest.fixture
def frames(tmp_path: Path) -> dict[str, np.ndarray]:
    """A folder `in` of frames of several sizes, depths and formats, by name."""
    rng = np.random.default_rng(0)
    made = {
        "a.png": rng.integers(0, 256, (40, 50)).astype(np.uint8),
        "b.tif": rng.integers(7000, 9000, (33, 64)).astype(np.uint16),
        "night/a.bmp": rng.integers(0, 256, (20, 21)).astype(np.uint8),
        "night/flat.png": np.full((32, 32), 500, np.uint16),
    }
    for name, frame in made.items():
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), frame)
    return made


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def fails(result: Result, *parts: str, status: int = 1) -> None:
    """The command failed with one line that holds `parts`, and nothing on stdout."""
    assert result.exit_code == status, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stderr.count("\n") == 1
    for part in parts:
        assert part in result.stderr
    assert not result.stdout


def read(path: Path) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image is not None
    return image


@pytest.mark.parametrize("bits", [8, 16])
def test_predictions_are_written_and_listed(
    bits: int, weights: Path, frames: dict[str, np.ndarray], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = call(
        "predict", tmp_path / "in", "--weights", weights, "--out", out, "--bits", bits, "--json"
    )
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert json.loads((out / "targets.json").read_text()) == summary
    assert summary["weights"] == str(weights)
    assert [entry["frame"] for entry in summary["frames"]] == [
        str(tmp_path / "in" / name) for name in frames
    ]
    detector = load_detector(weights, "cpu")
    count = 0
    for entry, (name, frame) in zip(summary["frames"], frames.items(), strict=True):
        stem = name.rsplit(".", 1)[0]
        assert entry["mask"] == f"masks/{stem}.png"
        probability = detector(frame)
        mask, drawn = read(out / entry["mask"]), read(out / entry["overlay"])
        np.testing.assert_array_equal(mask, (probability > 0.5) * np.uint8(255))
        written = read(out / entry["probability"])
        assert written.dtype == (np.uint8 if bits == 8 else np.uint16)
        np.testing.assert_allclose(written / (2**bits - 1), probability, atol=0.6 / (2**bits - 1))
        assert drawn.shape == (*frame.shape, 3)
        assert (entry["height"], entry["width"]) == frame.shape
        labels, _ = cv2.connectedComponents(mask)
        assert len(entry["targets"]) == labels - 1
        count += labels - 1
        for target in entry["targets"]:
            assert set(target) == {"row", "column", "box", "area", "peak_probability", "scr"}
            top, left, bottom, right = target["box"]
            assert top <= target["row"] < bottom
            assert left <= target["column"] < right
            highest = float(probability[top:bottom, left:right].max())
            assert 0.5 < target["peak_probability"] <= highest + 1e-6
            assert name != "night/flat.png" or target["scr"] is None
    assert count > 3
    assert {p.name for p in out.iterdir()} == {"masks", "probabilities", "overlays", "targets.json"}


def test_predictions_can_be_scored_and_made_again(
    weights: Path, small_set: SmallSet, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run = ("predict", small_set.root / "images", "--weights", weights, "--out", out)
    assert "6 frames" in call(*run, "--threshold", 0.2).stdout
    assert call(*run).exit_code == 0
    scores = [
        json.loads(call(*command, "--split", "test", "--json").stdout)
        for command in (
            ("test", weights, small_set.root),
            ("score", out / "masks", small_set.root),
            ("score", out / "probabilities", small_set.root),
        )
    ]
    assert len({score["iou"] for score in scores}) == 1
    assert len({score["fa"] for score in scores}) == 1


def test_moves_change_what_is_predicted_alike_in_every_command(
    weights: Path, small_set: SmallSet, tmp_path: Path
) -> None:
    maps = []
    for tta in (1, 9):
        out = tmp_path / str(tta)
        run = ("predict", small_set.root / "images", "--weights", weights, "--out", out)
        assert json.loads(call(*run, "--tta", tta, "--json").stdout)["tta"] == tta
        maps.append(read(out / "probabilities" / f"{small_set.test[0]}.png").astype(int))
        tested = call("test", weights, small_set.root, "--tta", tta, "--json").stdout
        scored = call("score", out / "probabilities", small_set.root, "--json").stdout
        assert json.loads(tested)["tta"] == tta
        assert json.loads(tested)["iou"] == json.loads(scored)["iou"]
    assert np.abs(maps[0] - maps[1]).max() > 10


def test_large_frames_are_tiled(weights: Path, tmp_path: Path) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (40, 700)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "wide.png"), frame)
    maps = []
    for name, options in (("a", ()), ("b", ("--tile", 544, "--overlap", OVERLAP))):
        run = ("predict", tmp_path / "wide.png", "--weights", weights, "--out", tmp_path / name)
        assert call(*run, *options).exit_code == 0
        maps.append(read(tmp_path / name / "probabilities" / "wide.png").astype(int))
    assert np.abs(maps[0] - maps[1]).max() <= 1e-4 * 65535
    assert maps[0].std() > 1000
    fails(call(*run, "--tile", 256), "tile of 256 pixels is not wider than its overlap")


def test_the_options_name_the_defaults() -> None:
    defaults = {option.name: option.default for option in main.commands["predict"].params}
    assert (defaults["tile"], defaults["overlap"]) == (TILE, OVERLAP)


def test_the_shipped_weights_are_the_default(
    weights: Path, frames: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detect.predict.files", lambda package: tmp_path)
    run = ("predict", tmp_path / "in", "--out", tmp_path / "out", "--json")
    fails(call(*run), "small.safetensors: no weights come with this version; give --weights")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "small.safetensors").write_bytes(weights.read_bytes())
    assert json.loads(call(*run).stdout)["weights"].endswith("weights/small.safetensors")


def test_wrong_frames_are_one_line(weights: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    run = ("predict", "--weights", weights, "--out", tmp_path / "out")
    fails(call(*run, folder), "folder: holds no frames")
    fails(call(*run, tmp_path / "none"), "none: no such file or folder")
    (folder / "notes.txt").write_text("nothing")
    fails(call(*run, folder), "folder: holds no frames")
    fails(call(*run, folder / "notes.txt"), "notes.txt: is not a PNG")
    (folder / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n1234")
    fails(call(*run, folder), "x.png: is truncated")
    inside = ("predict", folder, "--weights", weights, "--out", folder / "out")
    fails(call(*inside), "lies in the folder of frames")
    fails(call(*run), "FRAMES", status=2)
    fails(call("predict", folder, "--weights", weights), "--out", status=2)
    assert not (tmp_path / "out").exists()


class _Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def _pickled(path: Path, trap: Path) -> None:
    path.write_bytes(pickle.dumps(_Trap(trap)))


def _torch_checkpoint(path: Path, trap: Path) -> None:
    torch.save({"state_dict": build_model("small").state_dict(), "trap": _Trap(trap)}, path)


def _text(path: Path, trap: Path) -> None:
    path.write_text("network: small\n")


def _empty(path: Path, trap: Path) -> None:
    path.touch()


def _folder(path: Path, trap: Path) -> None:
    path.mkdir()


def _foreign_tensors(path: Path, trap: Path) -> None:
    save_file({"weight": torch.zeros(3)}, path)


def _another_format(path: Path, trap: Path) -> None:
    save_file({"weight": torch.zeros(3)}, path, {"detect": "[1, 2]"})


def _another_network(path: Path, trap: Path) -> None:
    rule = Normalisation("frame", (0.0,), (1.0,))
    write_weights(path, Weights("small", rule, build_model("rdian").state_dict(), {}))


def _other_channels(path: Path, trap: Path) -> None:
    rule = Normalisation("frame", (0.0,) * 3, (1.0,) * 3)
    write_weights(path, Weights("small", rule, build_model("small").state_dict(), {}))


def _unknown_network(path: Path, trap: Path) -> None:
    rule = Normalisation("frame", (0.0,), (1.0,))
    write_weights(path, Weights("larger", rule, build_model("small").state_dict(), {}))


def _state_of_a_run(path: Path, trap: Path) -> None:
    save_file({"network.stem.weight": torch.zeros(3)}, path, {"detect": '{"progress": {}}'})


@pytest.mark.parametrize(
    ("write", "problem"),
    [
        (_pickled, "is not a safetensors file"),
        (_torch_checkpoint, "is not a safetensors file"),
        (_text, "is not a safetensors file"),
        (_empty, "is not a safetensors file"),
        (_folder, ""),
        (_foreign_tensors, "does not say which network it belongs to"),
        (_another_format, "is no weights file"),
        (_another_network, "its tensors are not those of the network 'small'"),
        (_other_channels, "its tensors are not those of the network 'small'"),
        (_unknown_network, "is of the network 'larger', which is unknown here"),
        (_state_of_a_run, "is no weights file"),
    ],
    ids=lambda value: value.__name__[1:] if callable(value) else "",
)
@pytest.mark.parametrize("command", ["predict", "export", "visualize", "test"])
def test_wrong_weights_are_one_line_and_never_unpickled(
    command: str,
    write: Callable[[Path, Path], None],
    problem: str,
    frames: object,
    small_set: SmallSet,
    tmp_path: Path,
) -> None:
    path, trap = tmp_path / "best.pt", tmp_path / "trap"
    write(path, trap)
    arguments = {
        "predict": ("predict", tmp_path / "in", "--weights", path, "--out", tmp_path / "out"),
        "export": ("export", path, "--out", tmp_path / "out.onnx"),
        "visualize": ("visualize", path, small_set.root, "--out", tmp_path / "out"),
        "test": ("test", path, small_set.root),
    }[command]
    fails(call(*arguments), "best.pt", problem, status=2 if write is _folder else 1)
    assert not trap.exists()
    assert not (tmp_path / "out.onnx").exists()


def test_the_trap_would_have_shown_it(tmp_path: Path) -> None:
    _pickled(tmp_path / "w", tmp_path / "trap")
    pickle.loads((tmp_path / "w").read_bytes())
    assert (tmp_path / "trap").exists()


def test_export_tells_what_it_wrote(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from detect import export

    # The export itself is tested beside it; it takes seconds.
    made = export.Exported("small", "DN of any depth", 1_800_000, 2.5e-6)
    monkeypatch.setattr(export, "export_onnx", lambda path, out, tta: made)
    out = tmp_path / "w.onnx"
    assert "1.8 MB, at most 2.5e-06 from torch" in call("export", weights, "--out", out).stdout
    told = json.loads(call("export", weights, "--out", out, "--json").stdout)
    assert told == {
        "onnx": str(out),
        "network": "small",
        "input": "DN of any depth",
        "size": 1_800_000,
        "difference": 2.5e-6,
    }
    fails(call("export", weights, "--out", tmp_path / "w.pt"), "must end in .onnx", status=2)


def lists(folder: Path) -> dict[str, list[str]]:
    return {path.stem: path.read_text().split() for path in sorted(folder.glob("*.txt"))}


def unlisted(made: SmallSet) -> Path:
    for path in (made.root / "50_50").iterdir():
        path.unlink()
    return made.root


def test_a_set_is_split(make_set: Callable[..., SmallSet], synth: Synth, tmp_path: Path) -> None:
    root = unlisted(make_set(train=20, test=0))
    outcome = synth("split", root, "--val", 0.1, "--test", 0.2, "--group", "none", "--json")
    told = json.loads(outcome.out)
    assert told["images"] == {"train": 14, "val": 2, "test": 4}
    assert (told["grouped_by"], told["groups"], told["largest_group"]) == ("none", 20, 1)
    opened = open_dataset(root)
    assert {name: list(ids) for name, ids in opened.splits.items()} == lists(root)
    assert sorted(opened.ids("all")) == sorted(opened.images)
    again = ("split", root, "--group", "none", "--out")
    assert "14 train, 2 val, 4 test; 20 groups by none" in synth(*again, tmp_path / "same").out
    assert lists(tmp_path / "same") == lists(root)
    assert synth(*again, tmp_path / "other", "--seed", 1).status == 0
    assert lists(tmp_path / "other") != lists(root)


def test_sequences_stay_whole(make_set: Callable[..., SmallSet], synth: Synth) -> None:
    made = make_set(train=24, test=0)
    for number, id_ in enumerate(made.train):
        for path in (made.image(id_), made.mask(id_)):
            path.rename(path.with_name(f"{'abcdef'[number // 4]}_{number:02d}.png"))
    root = unlisted(made)
    assert json.loads(synth("split", root, "--json").out)["grouped_by"] == "name"
    home = {id_[0]: set() for id_ in open_dataset(root).images}
    for name, ids in lists(root).items():
        for id_ in ids:
            home[id_[0]].add(name)
    assert all(len(names) == 1 for names in home.values())
    chosen = ("split", root, "--pattern", r"(\d)$", "--test", 0.3, "--val", 0, "--out")
    told = json.loads(synth(*chosen, root / "x", "--json").out)
    assert (told["grouped_by"], set(told["lists"])) == ("pattern", {"train", "test"})


def test_near_duplicates_stay_together(make_set: Callable[..., SmallSet], synth: Synth) -> None:
    made = make_set(train=12, test=0, shapes=((64, 80),))
    rng = np.random.default_rng(0)
    for number, id_ in enumerate(made.train):
        if number % 3 == 0:
            blocks = rng.normal(size=(8, 10)).repeat(8, 0).repeat(8, 1) * 30
        frame = 100 + blocks + rng.normal(0, 3, blocks.shape)
        cv2.imwrite(str(made.image(id_)), frame.clip(0, 255).astype(np.uint8))
    root = unlisted(made)
    told = json.loads(synth("split", root, "--test", 0.25, "--val", 0.25, "--json").out)
    assert (told["grouped_by"], told["groups"], told["largest_group"]) == ("likeness", 4, 3)
    for ids in lists(root).values():
        assert len(ids) % 3 == 0
        assert len({(int(id_) - 1) // 3 for id_ in ids}) == len(ids) // 3


def test_wrong_splits_are_one_line(
    make_set: Callable[..., SmallSet], small_set: SmallSet, synth: Synth, tmp_path: Path
) -> None:
    def refused(words: str, *arguments: object, status: int = 1) -> None:
        outcome = synth("split", *arguments)
        assert (outcome.status, outcome.out) == (status, "")
        assert outcome.err.count("\n") == 1
        assert re.search(words, outcome.err), outcome.err

    before = lists(small_set.root / "50_50")
    refused("source: has lists already; .*--out", small_set.root)
    assert lists(small_set.root / "50_50") == before
    once = (small_set.root, "--group", "none", "--out", tmp_path / "l")
    assert synth("split", *once).status == 0
    refused(r"train\.txt: is there already", *once)
    assert sum(map(len, lists(tmp_path / "l").values())) == 6
    refused("none: is not a folder", tmp_path / "none")
    refused("leave nothing for training", small_set.root, "--test", 0.5, "--val", 0.5, status=2)
    refused("not both", small_set.root, "--pattern", "(a)", "--group", "name", status=2)
    free = unlisted(make_set("free"))
    refused(r"free: has 1 group\(s\) of images for 3 splits", free, "--group", "name")
    refused("free: the pattern '0' has no group", free, "--pattern", "0")
    assert not lists(free)
    (free / "manifest.jsonl").touch()
    refused("free: is a built set", free)
