"""What reads files that others made, each with sound samples to damage."""

from __future__ import annotations

import base64
import json
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from click.testing import CliRunner
from fuzz_mutations import mutate
from small_sets import write_small_set

from detect.errors import DetectError
from pipelines.errors import PipelineError
from synth.dataset import Dataset
from synth.disk.png import encode_png
from synth.errors import SynthError
from synth.frames import write_frame

DOCUMENTED = (SynthError, PipelineError, DetectError)
"""The errors that a reader may raise; `pipelines.cli` makes one line of each."""

_ROOT = Path(__file__).parents[1]
_LONGEST = 2000


@dataclass(frozen=True)
class Reader:
    """A reader, and files that it reads.

    Attributes
    ----------
    name : str
    samples : sequence of Path
        Folders, of which one at a time is taken.
    read : callable
        Reads all of a folder, and uses what it found where a user would.
    ends : tuple of str
        How the names of files end that are damaged; all by default.
    share : int
        How many cases of all it gets, beside the others.
    """

    name: str
    samples: tuple[Path, ...]
    read: Callable[[Path], object]
    ends: tuple[str, ...] = ("",)
    share: int = 4
    files: list[tuple[Path, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for sample in self.samples:
            for path in sorted(sample.rglob("*")):
                if path.is_file() and path.name.endswith(self.ends):
                    self.files.append((path, path.read_bytes()))


class UndocumentedError(Exception):
    """A reader did what it must not; the text says what."""


def run_case(readers: list[Reader], seed: int, case: int) -> tuple[str, str]:
    """Damage a file and read it; the reader's name and ``read`` or ``refused``.

    Raises
    ------
    UndocumentedError
        The reader raised another error than those of `DOCUMENTED`, or one of several lines.
    """
    rng = random.Random(f"{seed} {case}")
    reader = rng.choices(readers, [one.share for one in readers])[0]
    path, sound = rng.choice(reader.files)
    sample = next(one for one in reader.samples if path.is_relative_to(one))
    damaged = mutate(sound, path.name, rng)
    path.write_bytes(damaged)
    try:
        reader.read(sample)
    except DOCUMENTED as error:
        words = str(error)
        if "\n" in words or not words or len(words) > _LONGEST:
            raise UndocumentedError(
                f"{reader.name}, {path.name}: {type(error).__name__} of {len(words)} characters, "
                f"{words.count(chr(10)) + 1} lines: {words[:200]!r}"
            ) from None
        return reader.name, "refused"
    except Exception as error:
        raise UndocumentedError(
            f"{reader.name}, {path.name}: {type(error).__name__}: {error!s:.200}"
        ) from error
    finally:
        path.write_bytes(sound)
    return reader.name, "read"


def make_readers(place: Path) -> list[Reader]:
    """Make sound samples in a folder, and the readers that read them."""
    return [
        *_image_readers(place),
        *_noise_readers(place),
        *_config_readers(place),
        *_set_readers(place),
        *_import_readers(place),
        *_detector_readers(place),
    ]


def _image_readers(place: Path) -> Iterator[Reader]:
    from image_files import decode_mask

    from synth.frames import frame_shape, read_frame

    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (24, 33)).astype(np.uint8)
    pictures = {
        "grey": grey,
        "deep": rng.integers(0, 1 << 14, (17, 20)).astype(np.uint16),
        "colour": rng.integers(0, 256, (9, 16, 3)).astype(np.uint8),
        "alpha": rng.integers(0, 256, (8, 8, 4)).astype(np.uint8),
        "mask": ((grey > 250) * 255).astype(np.uint8),
        "line": grey[:1],
    }
    options: dict[str, list[list[int]]] = {
        "png": [[], [cv2.IMWRITE_PNG_COMPRESSION, 9]],
        "tif": [[], [cv2.IMWRITE_TIFF_COMPRESSION, 1], [cv2.IMWRITE_TIFF_COMPRESSION, 8]],
        "bmp": [[]],
        "jpg": [[], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]],
    }

    def read(folder: Path) -> None:
        (path,) = folder.iterdir()
        frame = read_frame(path)
        data = path.read_bytes()
        shape = frame_shape(data, path)
        mask = decode_mask(data, path)
        if frame.dtype not in (np.uint8, np.uint16) or frame.ndim != 2 or mask.dtype != np.bool_:
            raise UndocumentedError(f"{path.name}: {frame.dtype} of shape {frame.shape}")
        if frame.shape != shape or mask.shape != shape:
            raise UndocumentedError(f"{path.name}: {frame.shape}, {shape} and {mask.shape}")

    for suffix, choices in options.items():
        folders = []
        for name, picture in pictures.items():
            if picture.dtype == np.uint16 and suffix in ("bmp", "jpg"):
                continue
            for number, choice in enumerate(choices):
                folder = place / suffix / f"{name}{number}"
                folder.mkdir(parents=True)
                cv2.imwrite(str(folder / f"frame.{suffix}"), picture, choice)
                folders.append(folder)
        yield Reader(suffix, tuple(folders), read, share=10)


def _noise_readers(place: Path) -> Iterator[Reader]:
    from synth.inspect.quality import fit_niqe, load_niqe, niqe, pristine_features
    from synth.noise.bank import NoiseBank, make_bank
    from synth.noise.cameras import CameraNoise, load_noise
    from synth.noise.components import NoiseComponents, generate_sequence, measure_components
    from synth.noise.model import make_physical_model
    from synth.noise.transfer import mixup

    rng = np.random.default_rng(1)
    patches = rng.integers(90, 110, (5, 8, 8)).astype(np.uint8)
    sequence = rng.normal(100, 3, (6, 16, 16)).astype(np.uint8)
    frames = [rng.integers(0, 4096, (96, 96)).astype(np.uint16) for _ in range(4)]
    made = {
        "bank": make_bank(patches, [f"f{n}.png" for n in range(5)]).to_bytes(),
        "components": measure_components(sequence).to_bytes(),
        "model": CameraNoise(
            [make_physical_model(sigma=2.0), make_physical_model(sigma=3.0, column=1.0)]
        ).to_bytes(),
        "niqe": fit_niqe([pristine_features(frame, 16) for frame in frames], 16).to_bytes(),
    }
    image = np.full((20, 24), 100, np.uint8)

    def read(folder: Path) -> None:
        (path,) = folder.iterdir()
        found = load_noise(path)
        if isinstance(found, NoiseBank):
            mixup(image, found.patches[-1], 0.1, 1.0)
            found.members()
        elif isinstance(found, NoiseComponents):
            generate_sequence(found, (2, 5, 6), np.random.default_rng(0))
        else:
            for model in found.models:
                model.sigma_at(np.arange(256.0))

    def read_niqe(folder: Path) -> None:
        (path,) = folder.iterdir()
        niqe(load_niqe(path), frames[0])

    for name, data in made.items():
        folder = place / "npz" / name
        folder.mkdir(parents=True)
        (folder / f"{name}.npz").write_bytes(data)
        yield Reader(
            f"npz: {name}", (folder,), read_niqe if name == "niqe" else read,
            share=8 if name == "bank" else 5,
        )  # fmt: skip


def _config_readers(place: Path) -> Iterator[Reader]:
    from pipelines.build.config import BuildConfig
    from pipelines.config import load_config
    from pipelines.study_config import read_study
    from pipelines.training import TrainConfig

    def copy(kind: str, names: list[str]) -> tuple[Path, ...]:
        folders = []
        for name in names:
            folder = place / "yaml" / kind / name.replace("/", "-")
            shutil.copytree(_ROOT / "configs", folder / "configs")
            for path in (folder / "configs").rglob("*.yaml"):
                if path != folder / "configs" / name:
                    path.rename(path.with_suffix(".rest"))
            folders.append(folder)
        return tuple(folders)

    def the(folder: Path) -> Path:
        (path,) = folder.rglob("*.yaml")
        return path

    def read_build(folder: Path) -> None:
        config = load_config(the(folder), BuildConfig, defaults={"name": "x"})
        config.model_dump(mode="json")
        list(config.negatives.recipe.inner())

    def read_training(folder: Path) -> None:
        load_config(the(folder), TrainConfig).recipe()

    names = ("demo", "sirst5k", "sirst5k-plus", "sirst5k-mixed")
    builds = [f"build/{name}.yaml" for name in names]
    trainings = ["train/demo.yaml", "train/dnanet-strong.yaml", "train/nudt.yaml"]
    yield Reader("yaml: build", copy("build", builds), read_build, (".yaml",), 8)
    yield Reader("yaml: train", copy("train", trainings), read_training, (".yaml",), 6)

    folder = place / "yaml" / "study"
    shutil.copytree(_ROOT / "configs", folder)
    study = folder / "study" / "demo.yaml"
    yield Reader(
        "yaml: study",
        (folder,),
        lambda _: read_study(study),
        ("demo.yaml",),
        3,
    )


def _set_readers(place: Path) -> Iterator[Reader]:
    from detect.lineage import read_origins
    from pipelines.build.config import BuildConfig
    from pipelines.build.run import ShardSize, build
    from pipelines.cli.synth import main
    from pipelines.report.survey import count_changes, describe_change, read_lineage
    from synth.dataset import open_dataset
    from synth.disk.description import read_description
    from synth.disk.looseset import open_loosely
    from synth.disk.manifest import read_manifest
    from synth.disk.verify import verify
    from synth.inspect.check import check_dataset

    source = write_small_set(place / "sets" / "plain", 3, 2, shapes=((24, 32),), targets=1)
    config = BuildConfig.model_validate(
        {
            "name": "built",
            "data": source.root,
            "noise": {"sample": {"side": 8}},
            "negatives": {"steps": ["mixup", {"turn": {"side": 9}}]},
        }
    )
    build(config, place / "sets" / "built", jobs=1)
    build(config, place / "sets" / "shards", jobs=1, shards=ShardSize(outputs=4))

    def read_all(root: Path) -> None:
        dataset = open_dataset(root)
        for id_ in dataset.ids("all"):
            dataset.read_pair(id_)

    def read_loosely(root: Path) -> None:
        loose = open_loosely(root)
        report = check_dataset(loose.dataset)
        report.sound  # noqa: B018

    def read_records(root: Path) -> None:
        read_description(root)
        read_manifest(root)
        records = read_lineage(root).records.values()
        count_changes(records)
        for record in records:
            describe_change(record)
        read_origins(open_dataset(root))

    def read_hashes(root: Path) -> None:
        list(verify(root, 1))

    def read_shards(root: Path) -> None:
        dataset = open_dataset(root)
        read_origins(dataset)
        for id_ in dataset.ids("all"):
            dataset.read_pair(id_)
        read_loosely(root)

    def report(root: Path) -> None:
        page = root.parent / "page.html"
        outcome = CliRunner().invoke(main, ["report", str(root), "--out", str(page)])
        if outcome.exception is not None and not isinstance(outcome.exception, SystemExit):
            raise outcome.exception
        if outcome.exit_code not in (0, 1):
            raise UndocumentedError(f"report ended with {outcome.exit_code}: {outcome.stderr}")
        if outcome.exit_code:
            raise SynthError(outcome.stderr.rstrip("\n"))

    plain, built, shards = (place / "sets" / name for name in ("plain", "built", "shards"))
    yield Reader("split lists", (plain, built), read_all, (".txt",), 8)
    yield Reader("a set, as it is", (plain,), read_all, share=3)
    yield Reader("a set, checked", (plain,), read_loosely, share=4)
    yield Reader("manifest and dataset.json", (built,), read_records, (".jsonl", ".json"), 8)
    yield Reader("verify", (built, shards), read_hashes, (".jsonl", ".json"), 4)
    yield Reader("shards", (shards,), read_shards, (".tar", ".jsonl", ".json"), 10)
    yield Reader("report", (built, shards), report, (".jsonl", ".json", ".npz"), 1)


def write_foreign_set(dataset: Dataset, name: str, root: Path) -> None:
    """Write a set in a format that is only read: labelme's or NumPy's."""
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    for id_ in dataset.ids("all"):
        image, mask = dataset.read_pair(id_)
        write_frame(root / "images" / f"{id_}.png", image)
        if name == "npy":
            np.save(root / "masks" / f"{id_}.npy", mask)
            continue
        text = base64.b64encode(encode_png(mask)).decode()
        height, width = mask.shape
        shape = {"label": "target", "shape_type": "mask", "mask": text}
        shape |= {"points": [[0, 0], [width - 1, height - 1]]}
        record = {"shapes": [shape] if mask.any() else [], "imagePath": f"{id_}.png"}
        record |= {"imageData": None, "imageHeight": height, "imageWidth": width}
        (root / "images" / f"{id_}.json").write_text(json.dumps(record))


def _import_readers(place: Path) -> Iterator[Reader]:
    from pipelines.build.parallel import Pool
    from pipelines.export import export_dataset, import_dataset
    from pipelines.formats import FORMATS, WRITTEN
    from synth.dataset import open_dataset

    source = write_small_set(place / "exports" / "source", 2, 1, shapes=((16, 20),), targets=2)
    dataset = open_dataset(source.root)
    pool = Pool(1)
    for name in FORMATS:
        root = place / "exports" / name
        if name in WRITTEN:
            export_dataset(dataset, name, root, pool)
            (root / "dataset.json").unlink()
            (root / "manifest.jsonl").unlink()
        else:
            write_foreign_set(dataset, name, root)

        def read(root: Path, name: str = name) -> None:
            out = root.parent / "imported"
            try:
                import_dataset(root, name, out, pool)
            finally:
                shutil.rmtree(out, ignore_errors=True)

        yield Reader(f"import: {name}", (root,), read, share=5)


def _detector_readers(place: Path) -> Iterator[Reader]:
    import torch
    from torch import nn

    from detect.checkpoint import Learner, Progress, claim_run, load_state, save_state
    from detect.models import build_model
    from detect.normalise import Normalisation
    from detect.predictions import open_predictions
    from detect.weightsfile import Weights, read_weights, write_weights
    from pipelines.report.judgement import best_entry, open_run

    torch.manual_seed(0)
    run = place / "run"
    run.mkdir(parents=True)
    tensors = build_model("acm", 1).state_dict()
    rule = Normalisation("frame", (0.0,), (1.0,))
    weights = place / "weights"
    weights.mkdir()
    write_weights(
        weights / "best.safetensors", Weights("acm", rule, tensors, {"step": 1, "scores": None})
    )

    def learner() -> Learner:
        network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
        return Learner(network, network, torch.optim.AdamW(network.parameters()))

    state = learner()
    state.network(torch.ones(4, 3)).sum().backward()
    state.optimiser.step()
    save_state(run, Progress(3, 0.5, {"iou": 0.5}, [{"step": 3}]), state)
    identity = {"network": "small", "seed": 0, "data": {"name": "x"}}
    runs = place / "identity"
    with claim_run(runs, identity):
        pass
    entry: dict[str, Any] = {"step": 3, "loss": 0.5, "lr": 0.1, "scores": {"iou": 0.5, "pd": None}}
    (runs / "history.json").write_text(f"[{entry}]".replace("'", '"').replace("None", "null"))

    rng = np.random.default_rng(2)
    predictions = place / "predictions"
    predictions.mkdir()
    np.save(predictions / "a.npy", rng.random((8, 9)).astype(np.float32))
    np.save(predictions / "b.npy", rng.random((8, 9)) > 0.5)
    cv2.imwrite(str(predictions / "c.png"), rng.integers(0, 255, (8, 9)).astype(np.uint8))

    def read_file(folder: Path) -> None:
        path = folder / "best.safetensors"
        read_weights(path).build(path)

    def read_run(folder: Path) -> None:
        with claim_run(folder, identity):
            pass

    def read_history(folder: Path) -> None:
        best_entry(open_run(folder).history)

    def read_predictions(folder: Path) -> None:
        found = open_predictions(folder, ["a", "b", "c"])
        for id_ in "abc":
            found.read(id_, (8, 9))

    yield Reader("safetensors: weights", (weights,), read_file, share=5)
    yield Reader("safetensors: checkpoint", (run,), lambda root: load_state(root, learner()))
    yield Reader("run.json", (runs,), read_run, ("run.json",), 2)
    yield Reader("history.json", (runs,), read_history, (".json",), 2)
    yield Reader("predictions", (predictions,), read_predictions, share=4)
