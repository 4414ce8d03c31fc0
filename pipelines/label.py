"""A labelled set, and frames without labels that a detector has labelled, as one set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from detect.errors import PredictionError
from detect.predict import load_detector, name_frames
from detect.pseudo import Confidence, mean_probability, pseudo_label
from detect.tta import Moves
from detect.weightsfile import read_weights
from pipelines.build.card import code_span
from pipelines.build.parallel import Pool
from pipelines.build.sources import pixel_digest
from pipelines.errors import ConfigError
from pipelines.export import ExportResult, write_set
from pipelines.formats.sample import Found
from pipelines.repair import find_grey_pairs, load_grey
from synth.dataset import Dataset, is_labelled, open_dataset
from synth.disk.files import sha256
from synth.frames import Frame, ImageFile, decode_image, to_luma
from synth.seeds import generator
from synth.targets import find_targets

LABEL = "label"
"""Key, in the manifest, of images that nobody has looked at: which weights labelled them."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Labelling:
    """What became of the frames.

    Attributes
    ----------
    written : ExportResult
        The set.
    labelled, targets : int
        Frames with a label now, and targets in them.
    doubtful : tuple of str
        Frames that were left out because the detector doubts.
    known : tuple of str
        Frames that were left out because the labelled set has them.
    """

    written: ExportResult
    labelled: int
    targets: int
    doubtful: tuple[str, ...]
    known: tuple[str, ...]


def find_unlabelled(inputs: Sequence[Path]) -> dict[str, ImageFile]:
    """Find frames in files, in folders, and among the training images of labelled sets.

    Raises
    ------
    FrameError
        A path does not exist, or a folder holds no frame.
    PredictionError
        Two frames would have one name.
    """
    frames: dict[str, ImageFile] = {}
    for path in inputs:
        if is_labelled(path):
            dataset = open_dataset(path)
            found = {id_: dataset.image_file(id_) for id_ in dataset.ids("train")}
        else:
            found = {name: ImageFile(file) for name, file in name_frames([path]).items()}
        for name, file in found.items():
            if name in frames:
                raise PredictionError(
                    f"{file.path}: would be called {name}, as {frames[name].path}; give the "
                    "folder above both, or rename one"
                )
            frames[name] = file
    return frames


def label_frames(
    frames: Mapping[str, ImageFile],
    weights: Sequence[Path],
    confidence: Confidence,
    out: Path,
    *,
    root: Path,
    base: Dataset | None = None,
    validation: float = 0.1,
    device: str = "auto",
    tta: Moves = 1,
    pool: Pool | None = None,
    progress: Progress | None = None,
) -> Labelling:
    """Label frames, and write them and a labelled set as one set.

    The labelled set's lists stay what they are; the frames join ``train``. Where it has no ``val``
    list, one is drawn from its training images, so that no pseudo-label ever judges a training.
    A frame with the pixels of an image of any list is left out.

    Parameters
    ----------
    frames : mapping of str to ImageFile
        By id.
    weights : sequence of Path
        Of the detectors whose mean answer is taken.
    confidence : Confidence
    out : Path
    root : Path
        The folder that is read.
    base : Dataset, optional
    validation : float
        Share of the labelled set's training images that is held out.
    device : str
    tta : {1, 4, 9}
        Over how many moves of a frame by a pixel every detector averages; see `detect.tta`.
    pool : Pool, optional
        Reads and writes.
    progress : callable, optional
        Called with stage, images done, images in all.

    Returns
    -------
    Labelling

    Raises
    ------
    ConfigError
        No frame is left.
    SynthError, DetectError
        A file cannot be read, or the device is not there.
    StoreError
        `out` is taken, lies in `root`, or cannot be written.
    """
    pool = pool or Pool()
    report = progress or (lambda stage, done, total: None)
    lists = _lists(base, validation)
    pairs = [
        pair
        for split, ids in lists.items()
        for pair in (find_grey_pairs(base, split, ids) if base is not None else ())
    ]
    seen = set() if base is None else set(pool.map(partial(_digest, base), [p.id for p in pairs]))
    taken = {pair.id for pair in pairs}

    detectors = [load_detector(path, device, tta=tta) for path in weights]
    by = sha256("".join(sha256(path.read_bytes()) for path in weights).encode())[:12]
    found: list[Found] = []
    doubtful, known = [], []
    digests, targets = [], 0
    for number, (name, file) in enumerate(frames.items(), 1):
        report("label", number, len(frames))
        data = file.read()
        image = decode_image(data, file.path)
        # What is trained on later is what is labelled here.
        frame: Frame = image if image.ndim == 2 else to_luma(image)
        digest = pixel_digest(frame)
        if digest in seen:
            known.append(name)
            continue
        seen.add(digest)
        mask = pseudo_label(mean_probability(detectors, frame), confidence)
        if mask is None:
            doubtful.append(name)
            continue
        id_ = _free_id(name, taken)
        taken.add(id_)
        digests.append(digest)
        targets += len(find_targets(mask))
        load = partial(load_grey, file, mask)
        found.append(Found(id_, "train", load, ((LABEL, {"by": by}),)))
    if not found:
        raise ConfigError(
            f"none of {len(frames)} frames is left: the labelled set has {len(known)} of them, and "
            f"of {len(doubtful)} the detector is not sure; lower `sure`, or raise `doubt`"
        )
    lists["train"] = [*lists["train"], *(item.id for item in found)]
    configuration = {
        "command": "label",
        "confidence": asdict(confidence),
        "weights": by,
        "tta": tta,
        "frames": sha256(b"".join(digests)),
        "validation": validation if base is not None else None,
    }
    names = ", ".join(read_weights(path).network for path in weights)
    origin = [
        f"{len(found):,} images have labels that a detector gave ({names}; the step `{LABEL}` in "
        "the manifest), not a person.",
        *([f"The others are those of {code_span(base.name)}."] if base is not None else []),
    ]
    written = write_set([*pairs, *found], lists, root, out, configuration, origin, pool, report)
    return Labelling(written, len(found), targets, tuple(doubtful), tuple(known))


def _lists(base: Dataset | None, validation: float) -> dict[str, list[str]]:
    """The labelled set's lists, with one to validate on."""
    if base is None:
        return {"train": [], "test": []}
    lists = {split: list(ids) for split, ids in base.splits.items()}
    lists.setdefault("train", [])
    train = lists["train"]
    if not lists.get("val") and validation and len(train) > 1:
        count = min(max(1, round(validation * len(train))), len(train) - 1)
        chosen = generator(0, "label", "validation").permutation(len(train))[:count]
        held = set(chosen.tolist())
        lists["val"] = [id_ for at, id_ in enumerate(train) if at in held]
        lists["train"] = [id_ for at, id_ in enumerate(train) if at not in held]
    return {split: ids for split, ids in lists.items() if ids or split != "val"}


def _digest(dataset: Dataset, id_: str) -> bytes:
    return pixel_digest(dataset.read_image(id_))


def _free_id(name: str, taken: set[str]) -> str:
    """A name that no other image has."""
    stem = name.replace("/", "-")
    if stem not in taken:
        return stem
    number = 2
    while f"{stem}-{number}" in taken:
        number += 1
    return f"{stem}-{number}"
