"""What scoring every window of a folder of frames costs against reading the frames."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import click
import cv2

from synth.disk.folders import find_frames
from synth.frames import read_frame, write_frame
from synth.noise.learn import sample_noise
from synth.seeds import generator
from synth.simulate.scenes import simulate_frame
from synth.simulate.sensor import make_sensor


@click.command()
@click.argument("frames", nargs=-1, type=click.Path(path_type=Path))
@click.option("--runs", default=9, show_default=True)
def main(frames: tuple[Path, ...], runs: int) -> None:
    """Medians of reading and of sampling at stride 1 with a limit, in turn, on one core."""
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as scratch:
        paths = list(frames) or [_simulated(Path(scratch))]
        files = find_frames(paths)
        reading, sampling = [], []
        for run in range(runs + 1):
            started = time.perf_counter()
            for file in files:
                read_frame(file)
            read = time.perf_counter() - started
            started = time.perf_counter()
            bank = sample_noise(paths, stride=1, limit=1000)
            if run:
                reading.append(read)
                sampling.append(time.perf_counter() - started)
        ratio = statistics.median(s / r for s, r in zip(sampling, reading, strict=True))
        click.echo(
            f"{len(files)} frames at stride 1, {len(bank)} patches kept: "
            f"reading {statistics.median(reading):.3f} s, reading and scoring "
            f"{statistics.median(sampling):.3f} s, ratio {ratio:.2f}"
        )


def _simulated(folder: Path) -> Path:
    """Sixty target-free frames of 512x640."""
    sensor = make_sensor((512, 640), generator(0, "bench"))
    for number in range(60):
        rng = generator(0, "bench", str(number))
        frame = simulate_frame("cloud", sensor, rng, targets=(0, 0))
        write_frame(folder / f"{number:03d}.png", frame.image)
    return folder


if __name__ == "__main__":
    main()
