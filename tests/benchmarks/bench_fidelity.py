"""How faithful is transferred noise? Each score beside its floor, camera by camera.

A model is fitted to a random half of a camera's frames. The noise that it gives to constant images,
drawn from its spectrum or tiled from patches, and to ramps around the camera's own intensities is
scored against the other half, beside the published mixup and white noise of the right σ. The floor
is the same score between two halves. All numbers are medians over the halvings.

    python tests/benchmarks/bench_fidelity.py FRAMES [--halvings 20]

FRAMES is a folder with a folder of frames for every camera.
"""

from __future__ import annotations

import argparse
from contextlib import suppress
from pathlib import Path

import numpy as np

from synth.disk.folders import find_frames, group_by_folder
from synth.errors import NoiseError
from synth.frames import Frame, read_frame
from synth.noise.bank import make_bank
from synth.noise.blocks import SIDE, NoiseBlocks, bank_blocks, find_noise_blocks
from synth.noise.cameras import CameraNoise, generate_frames
from synth.noise.fidelity import compare_noise, describe_noise, measure_floor
from synth.noise.model import NoiseModel, fit_model
from synth.noise.realisation import NoiseGenerator, realisation_seed
from synth.noise.residual import transfer_residual
from synth.noise.transfer import mixup

FRAMES, SHAPE = 40, (256, 256)


def all_blocks(frames: list[Frame]) -> NoiseBlocks:
    """Every block, also of frames without noise, where the rule finds none."""
    try:
        return find_noise_blocks((frame, None) for frame in frames)
    except NoiseError:
        cut = [p for f in frames for r in np.split(f, 8) for p in np.split(r, 8, 1)]
        return bank_blocks(make_bank(np.stack(cut), [f"{k // 64:03d}" for k in range(len(cut))]))


def ramps(model: NoiseModel, seed: int) -> list[Frame]:
    """Noise on ramps in any direction around intensities that the model's frames have.

    They rise by 16 DN, or by less in dark frames: a ramp that is cut at 0 has a bend, which is no
    noise.
    """
    camera, rng = NoiseGenerator(model), np.random.default_rng(seed)
    down, along = np.mgrid[: SHAPE[0], : SHAPE[1]]
    made = []
    for k in range(FRAMES):
        frame = k % len(model)
        angle = rng.uniform(0, 2 * np.pi)
        rise = np.cos(angle) * down + np.sin(angle) * along
        rise = (rise - rise.min()) / np.ptp(rise) - 0.5
        level = rng.choice(model.frame_levels[frame])
        clean = np.rint(level + min(16, 2 * level - 4, 2 * (253 - level)) * rise)
        own = realisation_seed(seed, "ramps", k)
        made.append(
            transfer_residual(
                clean.clip(0, 255).astype(np.uint8), camera, seed=own, frame=frame
            ).image
        )
    return made


def white(model: NoiseModel, rng: np.random.Generator) -> list[Frame]:
    made = []
    for k in range(FRAMES):
        level = rng.choice(model.frame_levels[k % len(model)])
        sigma = model.frame_factor[k % len(model)] * model.sigma_at(level)
        noisy = np.rint(level + rng.normal(0, 1, SHAPE) * sigma)
        made.append(noisy.clip(0, 255).astype(np.uint8))
    return made


def mixed(blocks: NoiseBlocks, ratio: float, rng: np.random.Generator) -> list[Frame]:
    made = []
    for k in range(FRAMES):
        own = np.flatnonzero(blocks.frame == k % (blocks.frame.max() + 1))
        block = rng.choice(own)
        patch = np.rint(blocks.residual[block] + blocks.mean[block]).clip(0, 255).astype(np.uint8)
        made.append(mixup(np.full(SHAPE, np.rint(blocks.mean[block]), np.uint8), patch, ratio))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("frames", type=Path)
    parser.add_argument("--halvings", type=int, default=20)
    options = parser.parse_args()
    for files in group_by_folder(find_frames([options.frames])):
        frames = [read_frame(file) for file in files]
        blocks = find_noise_blocks((frame, None) for frame in frames)
        floor = measure_floor(blocks, options.halvings)
        scores: dict[str, list[dict[str, float]]] = {"halves": []}
        for halving in range(options.halvings):
            rng = np.random.default_rng(halving)
            order = rng.permutation(len(frames))
            known, aside = (
                find_noise_blocks((frames[k], None) for k in half)
                for half in np.array_split(order, 2)
            )
            real = describe_noise(aside)
            scores["halves"].append(compare_noise(describe_noise(known), real))
            model = fit_model(known)
            made = {"residual": list(generate_frames(CameraNoise([model]), SHAPE, FRAMES, halving))}
            made["ramps"] = ramps(model, halving)
            made["white"] = white(model, rng)
            made["mixup 0.1"] = mixed(known, 0.1, rng)
            made["mixup 0.5"] = mixed(known, 0.5, rng)
            # Half of a camera of few frames may have too few blocks to tile from.
            with suppress(NoiseError):
                tiled = CameraNoise([fit_model(known, keep_patches=True)])
                made["patches"] = list(generate_frames(tiled, SHAPE, FRAMES, halving))
            for name, images in made.items():
                found = compare_noise(describe_noise(all_blocks(images)), real)
                scores.setdefault(name, []).append(found)
        print(f"{files[0].parent.name}: {len(frames)} frames, blocks of {SIDE} pixels")
        print(f"  {'floor':10}" + "".join(f"{name} {floor[name]:.3f}  " for name in floor))
        for name, found in scores.items():
            middle = {key: float(np.nanmedian([one[key] for one in found])) for key in floor}
            print(
                f"  {name:10}"
                + "".join(
                    f"{key} {middle[key]:.3f} ({middle[key] / floor[key]:.2f})  " for key in floor
                ),
                flush=True,
            )


if __name__ == "__main__":
    main()
