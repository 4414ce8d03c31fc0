"""How far a build is from the floor: the same arrays, in memory, encoded and written.

Both run in turn, each in its own process, into fresh directories, with the same number of workers.
The build is timed as a whole command, start of the interpreter included; the floor is timed inside
its process, from the first array to the last file.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import cv2
import numpy as np

from synth.dataset import open_dataset
from synth.disk.files import write_file
from synth.disk.png import encode_png
from synth.frames import read_frame

_ROOT = Path(__file__).resolve().parents[2]
_BUILD = [sys.executable, "-m", "pipelines.cli", "build"]


@click.group()
def main() -> None:
    """Time builds against the floor."""


@main.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), help="Simulated frames by default.")
@click.option("--noise", type=click.Path(path_type=Path), help="The data's own frames by default.")
@click.option("--place", default=None, type=click.Path(path_type=Path), help="Where to write.")
@click.option("--jobs", default=2, show_default=True)
@click.option("--runs", default=3, show_default=True)
@click.option("--negatives", default=(4199, 20000), multiple=True, show_default=True)
def compare(
    config: Path,
    data: Path | None,
    noise: Path | None,
    place: Path | None,
    jobs: int,
    runs: int,
    negatives: tuple[int, ...],
) -> None:
    """Median wall times, ratios in pairs, peak memory, and the cost of an output."""
    cost = {}
    with tempfile.TemporaryDirectory(dir=place) as scratch:
        if data is None:
            data = Path(scratch) / "simulated"
            _simulate(data)
        for count in negatives:
            builds, floors, ratios, peaks = [], [], [], []
            for run in range(runs + 1):
                # Nothing is removed until the end: a file system looks for room in what was just
                # freed, at several times the price of a fresh file.
                out = Path(scratch) / f"built-{count}-{run}"
                command = [
                    *_BUILD, str(config), "--data", str(data), "--out", str(out),
                    "--jobs", str(jobs), "--set", f"negatives.count={count}",
                ]  # fmt: skip
                if noise is not None:
                    command += ["--noise", str(noise)]
                os.sync()  # what the run before left to write is not this one's to wait for
                started = time.perf_counter()
                peak = _run_and_measure(command)
                build = time.perf_counter() - started
                floor = _floor(out, Path(scratch) / f"floor-{count}-{run}", jobs)
                if run:  # the first pair warms the page cache
                    builds.append(build)
                    floors.append(floor)
                    ratios.append(build / floor)
                    peaks.append(peak)
            outputs = len(open_dataset(out).ids("all"))
            cost[count] = statistics.median(builds) / outputs
            click.echo(
                f"{count:6} negatives, {outputs} outputs, {jobs} workers: "
                f"build {statistics.median(builds):.2f} s, "
                f"floor {statistics.median(floors):.2f} s, "
                f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}), "
                f"{1e3 * cost[count]:.2f} ms an output, peak {max(peaks):.0f} MB"
            )


@main.command()
@click.argument("built", type=click.Path(path_type=Path))
@click.argument("place", type=click.Path(path_type=Path))
@click.argument("jobs", type=int)
def floor(built: Path, place: Path, jobs: int) -> None:
    """Encode and write the arrays of a built set; print the seconds that took."""
    cv2.setNumThreads(1)
    dataset = open_dataset(built)
    arrays = [
        (id_, read_frame(dataset.image_path(id_)), read_frame(dataset.mask_path(id_)))
        for id_ in dataset.ids("all")
    ]

    def write(item: tuple[str, np.ndarray, np.ndarray]) -> None:
        id_, image, mask = item
        write_file(f"{place}/images/{id_}.png", encode_png(image))
        write_file(f"{place}/masks/{id_}.png", encode_png(mask))

    (place / "images").mkdir(parents=True)
    (place / "masks").mkdir()
    os.sync()
    started = time.perf_counter()
    with ThreadPoolExecutor(jobs) as pool:
        for _ in pool.map(write, arrays, chunksize=32):
            pass
    click.echo(json.dumps({"seconds": time.perf_counter() - started}))


def _simulate(data: Path) -> None:
    """As many frames as NUDT-SIRST has, of its size."""
    command = [
        *_BUILD, "configs/build/demo.yaml", "--out", str(data), "--set", "negatives.count=0",
        "--set", "simulate.train=663", "--set", "simulate.test=664",
    ]  # fmt: skip
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=_ROOT)


def _floor(built: Path, place: Path, jobs: int) -> float:
    command = [sys.executable, __file__, "floor", str(built), str(place), str(jobs)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=_ROOT)
    return float(json.loads(done.stdout)["seconds"])


def _run_and_measure(command: list[str]) -> float:
    """Run a command; return the peak resident memory of its largest process in MB."""
    code = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True,"
        " stdout=subprocess.DEVNULL);"
        " print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code, *command],
        check=True, capture_output=True, text=True, cwd=_ROOT,
    )  # fmt: skip
    return float(done.stdout) / 1024


if __name__ == "__main__":
    main()
