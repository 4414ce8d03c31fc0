"""Cost of one output's noise: median milliseconds of one core, by size, depth and source.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_residual.py FRAMES [--repeats 200]

FRAMES is a folder of frames of one camera. `measure` looks for the image's own noise, which a build
does once a source; `transfer` is the rest of `transfer_residual`, which it does for every output.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from synth.disk.folders import find_frames
from synth.frames import Frame, read_frame
from synth.noise.blocks import find_noise_blocks
from synth.noise.model import fit_model
from synth.noise.realisation import NoiseGenerator
from synth.noise.residual import measure_own_noise, transfer_residual


def median_ms(work: Callable[[int], object], repeats: int) -> float:
    taken = []
    for turn in range(repeats + 3):
        begin = time.process_time()
        work(turn)
        taken.append(time.process_time() - begin)
    return 1e3 * float(np.median(taken[3:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("frames", type=Path)
    parser.add_argument("--repeats", type=int, default=200)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    blocks = find_noise_blocks((read_frame(file), None) for file in find_frames([options.frames]))
    rng = np.random.default_rng(0)
    for keep_patches in (False, True):
        model = fit_model(blocks, keep_patches=keep_patches)
        for shape in ((256, 256), (512, 640)):
            scene = cv2.GaussianBlur(rng.normal(0, 400, shape), (0, 0), 15) + 110
            small = scene.clip(0, 255).astype(np.uint8)
            deep: Frame = (small.astype(np.uint16) + 4000).astype(np.uint16)
            for image in (small, deep):
                camera = NoiseGenerator(replace(model, depth=8 * image.itemsize))
                own = measure_own_noise(image)

                def transfer(turn: int) -> None:
                    transfer_residual(
                        image,  # noqa: B023
                        camera,  # noqa: B023
                        seed=turn,
                        frame=turn % len(model),  # noqa: B023
                        strength=2.0,
                        own=own,  # noqa: B023
                    )

                def measure(_: int) -> None:
                    measure_own_noise(image)  # noqa: B023

                print(
                    f"{'patches' if keep_patches else 'spectrum':8} {shape[0]}x{shape[1]} "
                    f"{image.dtype}: transfer {median_ms(transfer, options.repeats):.2f} ms, "
                    f"measure {median_ms(measure, options.repeats):.2f} ms",
                    flush=True,
                )


if __name__ == "__main__":
    main()
