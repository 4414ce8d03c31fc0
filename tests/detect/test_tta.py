from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from detect.models import Network, build_model
from detect.normalise import Normalisation, fit_normalisation
from detect.predict import Detector, load_detector
from detect.recipe import Compute
from detect.teachers import Teachers, Teaching
from detect.tta import Moves, average_moves
from detect.weightsfile import Weights, write_weights
from pipelines.cli.detect import main

PLACES = {
    1: {(0, 0)},
    4: {(down, right) for down in (0, 1) for right in (0, 1)},
    9: {(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)},
}
PLAIN = Normalisation("imagenet", (0.0,), (255.0,))

moves_of = st.sampled_from(get_args(Moves))


class Squares(Network):
    """Every answer is about a square of 2 x 2 pixels, which begin at the even ones."""

    multiple = 2

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def segment(self, image: Tensor) -> tuple[Tensor, ...]:
        return (F.pixel_shuffle(self.conv(F.pixel_unshuffle(image, 2)), 2),)


def uneven(image: np.ndarray) -> np.ndarray:
    """An answer that depends on where a pixel lies, and on its neighbours."""
    rows, cols = np.indices(image.shape)
    return image * (1 + rows % 2 + 2 * (cols % 3)) + np.roll(image, 1, 0)


def moved(image: np.ndarray, down: int, right: int) -> np.ndarray:
    """Moved, with its borders repeated."""
    rows = (np.arange(image.shape[0]) - down).clip(0, image.shape[0] - 1)
    cols = (np.arange(image.shape[1]) - right).clip(0, image.shape[1] - 1)
    return image[np.ix_(rows, cols)]


@settings(deadline=None)
@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)), moves=moves_of, seed=st.integers(0, 9)
)
def test_answers_are_moved_back_and_averaged(
    shape: tuple[int, int], moves: Moves, seed: int
) -> None:
    image = np.random.default_rng(seed).normal(size=shape)
    answers = np.full((len(PLACES[moves]), *shape), np.nan)
    for answer, (down, right) in zip(answers, PLACES[moves], strict=True):
        of_moved = uneven(moved(image, down, right))
        for row in range(shape[0]):
            for col in range(shape[1]):
                if 0 <= row + down < shape[0] and 0 <= col + right < shape[1]:
                    answer[row, col] = of_moved[row + down, col + right]
    found = average_moves(
        lambda values: torch.from_numpy(uneven(values[0, 0].numpy()))[None, None],
        torch.from_numpy(image)[None, None],
        moves,
    )
    np.testing.assert_allclose(found[0, 0], np.nanmean(answers, 0), rtol=1e-9, atol=1e-12)


@settings(deadline=None, max_examples=25)
@given(
    shape=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    moves=moves_of,
    tile=st.sampled_from([128, 1536]),
)
def test_what_answers_to_every_pixel_alike_answers_the_same(
    shape: tuple[int, int], moves: Moves, tile: int
) -> None:
    class Identity(Network):
        multiple = 8

        def segment(self, image: Tensor) -> tuple[Tensor, ...]:
            return (image,)

    frame = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    answer = Detector(Identity(), PLAIN, "cpu", tile=tile, overlap=32, tta=moves)(frame)
    np.testing.assert_allclose(answer, 1 / (1 + np.exp(frame / -255.0)), atol=1e-5)


def test_a_network_of_squares_no_longer_minds_where_they_begin() -> None:
    torch.manual_seed(0)
    network = Squares()
    nn.init.normal_(network.conv.weight, 0, 1)
    frame = np.random.default_rng(1).integers(0, 256, (40, 52), np.uint8)
    inside = (slice(8, -8), slice(8, -8))

    def unlike(tta: Moves) -> float:
        detector = Detector(network, PLAIN, "cpu", tta=tta)
        apart = moved(detector(frame), 1, 1) - detector(moved(frame, 1, 1))
        return float(np.abs(apart[inside]).max())

    assert unlike(1) > 0.1
    assert unlike(4) < 1e-6


def test_an_answer_is_left_as_it_is() -> None:
    kept = torch.ones(1, 1, 3, 3)
    average_moves(lambda values: kept, torch.zeros(1, 1, 3, 3), 9)
    assert bool((kept == 1).all())


@pytest.mark.parametrize("moves", [4, 9])
def test_teachers_average_over_moves_of_a_window(tmp_path: Path, moves: Moves) -> None:
    torch.manual_seed(0)
    ours = fit_normalisation("frame", (), 1)
    path = tmp_path / "teacher.safetensors"
    write_weights(path, Weights("small", ours, build_model("small").state_dict(), {}))
    frame = np.random.default_rng(0).integers(0, 256, (32, 64), dtype=np.uint8)
    compute = Compute("cpu", 1, "auto", "32-true", True)
    teachers = Teachers(Teaching((path,), tta=moves), ours, [frame], 32, compute)
    answer = teachers.answer(torch.from_numpy(ours.apply(frame))[None], [0])[0, 0]
    np.testing.assert_allclose(answer, load_detector(path, "cpu", tta=moves)(frame), atol=1e-6)
    assert np.abs(answer.numpy() - load_detector(path, "cpu")(frame)).max() > 1e-4


@pytest.mark.parametrize("name", ["test", "predict", "visualize", "label", "train", "export"])
def test_commands_offer_the_moves_that_there_are(name: str) -> None:
    (option,) = (
        option for option in main.commands[name].params if (option.name or "").endswith("tta")
    )
    assert option.type.choices == tuple(map(str, get_args(Moves)))  # type: ignore[attr-defined]
