"""The noise that a build puts on its negatives: new for every output, from spectra or patches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from shared_noise import independent_limit, pair_correlations
from small_sets import SmallSet

from pipelines.build import build
from pipelines.build.config import BuildConfig
from synth.dataset import open_dataset
from synth.errors import NoiseError
from synth.noise.cameras import CameraNoise, load_noise


@pytest.fixture
def labelled(make_set: Callable[..., SmallSet]) -> SmallSet:
    return make_set(train=27, test=1, shapes=[(64, 64)], targets=2)


@pytest.fixture
def camera(tmp_path: Path) -> Path:
    """Frames of σ 8 DN, blurred along rows."""
    folder = tmp_path / "camera"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(6):
        noise = cv2.blur(rng.normal(0, 8 * np.sqrt(2), (160, 192)), (2, 1))
        frame = np.rint(100 + noise).clip(0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), frame)
    return folder


def added_noise(labelled: SmallSet, camera: Path, tmp_path: Path, **noise: Any) -> np.ndarray:
    """What the noise of 200 negatives adds to the same negatives without it."""
    images = []
    for name, strength in (("noisy", 1.5), ("clean", 0.0)):
        out = tmp_path / name
        turn = {"turn": {"side": 16, "blend": "poisson"}}
        config = BuildConfig.model_validate(
            {
                "name": name,
                "seed": 1,
                "data": labelled.root,
                "noise": {"frames": [str(camera)], **noise},
                "negatives": {"count": 200, "steps": [turn, {"residual": {"strength": strength}}]},
            }
        )
        build(config, out, jobs=1)
        made = open_dataset(out)
        images.append(np.stack([made.read_image(i) for i in made.ids("train")[27:]]).astype(float))
    return images[0] - images[1]


@pytest.mark.parametrize("source", ["spectrum", "patches"])
def test_200_negatives_share_no_noise(
    labelled: SmallSet, camera: Path, tmp_path: Path, source: str
) -> None:
    added = added_noise(labelled, camera, tmp_path, draw=source)
    assert len(added) == 200
    # The images have a noise of σ 4, and the camera at this strength one of 12.
    assert added.std() == pytest.approx(np.sqrt(12**2 - 4**2), rel=0.05)
    centred = added - added.mean((1, 2), keepdims=True)
    along, across = (
        float((centred[:, :, 1:] * centred[:, :, :-1]).mean() / added.var()),
        float((centred[:, 1:] * centred[:, :-1]).mean() / added.var()),
    )
    assert (along, across) == (pytest.approx(0.5, abs=0.07), pytest.approx(0, abs=0.05))
    limit = independent_limit(added)
    largest = pair_correlations(added).max()
    # Two outputs may have one of their 25 tiles in common, at different places.
    assert largest < (limit if source == "spectrum" else limit + 4 / 25)


def test_patches_come_from_frames_and_from_models_that_keep_them(
    labelled: SmallSet, camera: Path, tmp_path: Path
) -> None:
    noise = {"draw": "patches"}
    plain = {
        "name": "x",
        "data": labelled.root,
        "negatives": {"count": 3, "steps": [{"turn": {"side": 16}}, "residual"]},
    }

    def built(name: str, **changes: Any) -> CameraNoise:
        config = {**plain, "noise": {**noise, **changes}}
        build(BuildConfig.model_validate(config), tmp_path / name, jobs=1)
        found = load_noise(tmp_path / name / "noise.npz")
        assert isinstance(found, CameraNoise)
        return found

    kept = built("patches", frames=[str(camera)])
    assert len(kept.models[0].patches) > 64
    again = built("again", frames=[str(tmp_path / "patches" / "noise.npz")], draw=None)
    np.testing.assert_array_equal(again.models[0].patches, kept.models[0].patches)
    for name, given in (("spectrum", camera), ("other", tmp_path / "patches" / "noise.npz")):
        without = built(name, frames=[str(given)], draw="spectrum")
        assert not len(without.models[0].patches)
    with pytest.raises(NoiseError, match="keeps no patches; write it with"):
        built("none", frames=[str(tmp_path / "spectrum" / "noise.npz")])
