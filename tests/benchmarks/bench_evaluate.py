"""What judging probability maps takes at several thresholds, against labelling every map anew."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from skimage.measure import label, regionprops

from detect.curve import measure_curve
from detect.evaluate import require_ids
from detect.models import build_model
from detect.normalise import Normalisation
from detect.predict import Detector, load_detector, shipped_weights
from synth.dataset import open_dataset
from synth.frames import Frame, Mask

# Eleven, as many as the field's scripts go through.
THRESHOLDS = (0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99)

Counts = tuple[int, int, int, int]


@click.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--split", default="test", show_default=True)
@click.option("--maps", default=24, show_default=True, help="Also judged the slow way.")
@click.option("--untrained", default="small", show_default=True, help="A network's first weights.")
def main(data: Path, split: str, maps: int, untrained: str) -> None:
    """Judge every map of DATA at 11 thresholds, and some of them again by skimage.

    Both ways count matched targets, false pixels and overlap by the protocol `basicirstd`, and
    must agree. The ratio is the median over the maps of the times that both took for the same map.
    """
    torch.set_num_threads(2)
    dataset = open_dataset(data)
    pairs = [dataset.read_pair(id_) for id_ in require_ids(dataset, split)]
    torch.manual_seed(0)
    fresh = Detector(build_model(untrained), Normalisation("frame", (0.0,), (1.0,)), "cpu")
    for name, detector in (
        (f"{untrained}, untrained", fresh),
        ("shipped weights", load_detector(shipped_weights(), "cpu")),
    ):
        _compare(name, detector, pairs, max(1, len(pairs) // maps))


def _compare(name: str, detector: Detector, pairs: list[tuple[Frame, Mask]], every: int) -> None:
    ours, ratios, components = 0.0, [], []
    for number, (frame, truth) in enumerate(pairs):
        probability = detector(frame)
        if "untrained" in name:
            probability = _spread_out(probability)
        started = time.perf_counter()
        curve = measure_curve(probability, truth, "basicirstd", THRESHOLDS)
        took = time.perf_counter() - started
        ours += took
        if number % every:
            continue
        started = time.perf_counter()
        expected = [_label_anew(probability > level, truth) for level in THRESHOLDS]
        ratios.append((time.perf_counter() - started) / took)
        counted = [(t.matched, t.targets, t.false_pixels, t.both) for t in curve.tallies]
        if counted != expected:
            raise click.ClickException(f"map {number}: {counted} is not {expected}")
        components.append(statistics.mean(tally.components for tally in curve.tallies))
    click.echo(
        f"{name}: {len(pairs)} maps in {ours:.1f} s at {len(THRESHOLDS)} thresholds; "
        f"{len(ratios)} of them (median {statistics.median(components):.0f} components a "
        f"threshold) the slow way too: equal, {statistics.median(ratios):.1f} times as long "
        f"({min(ratios):.1f} to {max(ratios):.1f})"
    )


def _spread_out(probability: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give untrained probabilities, which lie close together, all values between 0 and 1.

    Their order stays, and so do the components of every level set; but now each of the thresholds
    has some.
    """
    rank = np.empty(probability.size, np.float32)
    rank[probability.ravel().argsort(kind="stable")] = np.linspace(0, 1, probability.size)
    return rank.reshape(probability.shape)


def _label_anew(found: Mask, truth: Mask) -> Counts:
    """Matched targets, targets, false pixels and overlap, as the published code walks them."""
    regions = regionprops(label(found, connectivity=2))
    targets = regionprops(label(truth, connectivity=2))
    free = list(regions)
    matched = 0
    for target in targets:
        for region in free:
            gap = np.array(region.centroid) - np.array(target.centroid)
            if np.sqrt((gap**2).sum()) < 3:
                matched += 1
                free.remove(region)
                break
    wrong = sum(int(region.area) for region in free)
    return matched, len(targets), wrong, int((found & truth).sum())


if __name__ == "__main__":
    main()
