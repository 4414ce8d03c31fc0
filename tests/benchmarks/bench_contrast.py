"""Does a camera's noise change targets by more than its variance explains?

    python tests/benchmarks/bench_contrast.py NUDT-SIRST IR-backgrounds

For every folder of frames, a camera: its noise at strength 1 on all training images, the median SCR
of their targets before and after, and what it would be if the added variance alone were to blame:
contrast / sqrt(clutter² + variance of what was added to the background).
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from synth.dataset import open_dataset
from synth.disk.folders import find_frames, group_by_folder
from synth.frames import read_frame
from synth.noise.blocks import find_noise_blocks
from synth.noise.model import fit_model
from synth.noise.realisation import NoiseGenerator, realisation_seed
from synth.noise.residual import transfer_residual
from synth.targets import box_window, find_targets, measure_signals


@click.command()
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@click.argument("noise", type=click.Path(exists=True, path_type=Path))
@click.option("--strength", default=1.0, show_default=True)
def main(data: Path, noise: Path, strength: float) -> None:
    """Measure the contrast of targets under the noise of every camera."""
    dataset = open_dataset(data)
    for paths in group_by_folder(find_frames([noise])):
        model = fit_model(find_noise_blocks((read_frame(path), None) for path in paths))
        camera = NoiseGenerator(model)
        before, after, explained, moved = [], [], [], 0.0
        for number, id_ in enumerate(dataset.ids("train")):
            image, mask = dataset.read_pair(id_)
            seed = realisation_seed(0, "contrast", number)
            made = transfer_residual(
                image, camera, seed=seed, frame=number % len(model), strength=strength
            ).image
            added = made.astype(np.float64) - image
            moved = max(moved, abs(float(added.mean())))
            targets = find_targets(mask)
            pairs = zip(measure_signals(image, mask), measure_signals(made, mask), strict=True)
            for target, (old, new) in zip(targets, pairs, strict=True):
                window = box_window(target.box, 20)
                extra = float(added[window][~mask[window]].var())
                before.append(old.scr)
                after.append(new.scr)
                explained.append(old.contrast / max(np.hypot(old.clutter, np.sqrt(extra)), 1e-9))
        medians = [float(np.median(values)) for values in (before, after, explained)]
        off = abs(medians[1] / medians[2] - 1)
        print(
            f"{paths[0].parent.name}: {len(before)} targets, SCR {medians[0]:.2f}, with noise "
            f"{medians[1]:.2f}, explained {medians[2]:.2f}, {off:.2%} off; mean moved by at most "
            f"{moved:.3f} DN",
            flush=True,
        )


if __name__ == "__main__":
    main()
