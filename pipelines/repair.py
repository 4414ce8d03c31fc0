"""A repaired copy of a labelled set: grey images, masks of 0 and 255, sound lists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from pipelines.build.card import code_span, plain_text
from pipelines.build.parallel import Pool
from pipelines.export import ExportResult, write_set
from pipelines.formats.sample import Found, Loaded, loaded
from synth.dataset import Dataset
from synth.disk.png import encode_png
from synth.errors import DatasetError
from synth.frames import ImageFile, Mask, decode_image, to_luma
from synth.inspect.check import Repair
from synth.masks import MaskFile


def write_repaired(
    dataset: Dataset,
    repair: Repair,
    out: Path,
    pool: Pool,
    *,
    progress: Callable[[str, int, int], None] | None = None,
) -> ExportResult:
    """Write the pairs that a repair keeps into a new folder.

    Images of one channel are copied byte for byte, others become grey PNGs of their luma; masks
    become PNGs of 0 and 255, named as their images.

    Raises
    ------
    DatasetError
        Nothing is worth keeping.
    StoreError
        `out` is taken, lies in the set, or cannot be written.
    """
    found = [
        found
        for split, ids in repair.splits.items()
        for found in find_grey_pairs(dataset, split, ids)
    ]
    if not found:
        raise DatasetError(dataset.root, "has no pair that is worth keeping; see what is reported")
    reasons = Counter(repair.dropped.values())
    source = code_span(dataset.root.resolve().name)
    origin = [
        f"Repaired from {source} by `synth check --fix`: images are grey, masks hold 0 and 255.",
        *(
            f"Left out: {count:,} ({plain_text(reason)})."
            for reason, count in sorted(reasons.items())
        ),
    ]
    configuration = {"command": "check", "fix": True}
    lists = {split: list(ids) for split, ids in repair.splits.items()}
    return write_set(found, lists, dataset.root, out, configuration, origin, pool, progress)


def find_grey_pairs(dataset: Dataset, split: str, ids: Iterable[str]) -> Iterator[Found]:
    """Pairs of a split, as they are written: grey images, and masks of 0 and 255."""
    for id_ in ids:
        files = dataset.image_file(id_), dataset.mask_file(id_)
        yield Found(id_, split, partial(load_grey, *files))


def load_grey(file: ImageFile, mask: Mask | MaskFile) -> Loaded:
    """Load an image as a grey one, with its mask or the file of that."""
    where = file.path
    data = file.read()
    image = decode_image(data, where)
    if image.ndim == 3:
        data, where = encode_png(to_luma(image)), where.with_suffix(".png")
    return loaded(data, where, mask)
