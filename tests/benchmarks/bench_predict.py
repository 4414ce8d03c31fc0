"""What one prediction takes: our network against DNA-Net, in turn, one frame at a time."""

from __future__ import annotations

import statistics
import time
from typing import get_args

import click
import numpy as np
import torch

from detect.models import build_model
from detect.normalise import Normalisation
from detect.predict import Detector, Precision, fold_norms


@click.command()
@click.option("--network", default="small", show_default=True)
@click.option("--against", default="dnanet", show_default=True)
@click.option("--side", default=256, show_default=True, help="Of the frame, pixels.")
@click.option("--threads", default=2, show_default=True)
@click.option("--runs", default=21, show_default=True)
def main(network: str, against: str, side: int, threads: int, runs: int) -> None:
    """Medians from a frame in memory to its probabilities, normalisation included.

    A run times both networks in both precisions, ours five times for each time of the other; the
    first run warms up. The ratio is the median of the runs' own ratios; the least time is what an
    idle machine would take, where others use it too.
    """
    torch.set_num_threads(threads)
    frame = np.random.default_rng(0).integers(0, 256, (side, side), np.uint8)
    click.echo(f"one frame of {side}x{side}, {threads} threads, medians of {runs} runs")
    for precision in get_args(Precision):
        ours, theirs = (_detector(name, precision) for name in (network, against))
        pairs = [
            (statistics.median(_time(ours, frame) for _ in range(5)), _time(theirs, frame))
            for _ in range(runs + 1)
        ][1:]
        first, second = (1e3 * statistics.median(times) for times in zip(*pairs, strict=True))
        ratio = statistics.median(second / first for first, second in pairs)
        click.echo(
            f"{precision:9} {network} {first:.1f} ms (least {1e3 * min(pairs)[0]:.1f}), "
            f"{against} {second:.0f} ms, ratio {ratio:.1f}"
        )


def _detector(name: str, precision: Precision) -> Detector:
    torch.manual_seed(0)
    network = fold_norms(build_model(name)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Detector(network, Normalisation("frame", (0.0,), (1.0,)), "cpu", precision)


def _time(detector: Detector, frame: np.ndarray) -> float:
    started = time.perf_counter()
    detector(frame)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
