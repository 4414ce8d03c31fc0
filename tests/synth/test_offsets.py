import numpy as np
import pytest

from synth.targets import find_targets, measure_offsets


def blob(row: float, col: float, sigma: float = 1.5, contrast: float = 80.0) -> np.ndarray:
    rows, cols = np.mgrid[:48, :64]
    shown = np.exp(-((rows - row) ** 2 + (cols - col) ** 2) / (2 * sigma**2))
    slope = 100 + 0.2 * rows - 0.1 * cols
    noise = np.random.default_rng(0).normal(0, 1, shown.shape)
    return np.rint(np.clip(slope + contrast * shown + noise, 0, 255)).astype(np.uint8)


def disc(row: float, col: float, radius: float) -> np.ndarray:
    rows, cols = np.mgrid[:48, :64]
    return np.hypot(rows - row, cols - col) < radius


@pytest.mark.parametrize("contrast", [80.0, -60.0])
@pytest.mark.parametrize("away", [(0, 0), (-0.5, -0.5), (0.5, 0.0), (-1.0, 0.5), (1.3, -1.2)])
def test_an_offset_is_found_to_a_tenth_of_a_pixel(
    away: tuple[float, float], contrast: float
) -> None:
    row, col = 20.0, 30.0
    image = blob(row - away[0], col - away[1], contrast=contrast)
    found = measure_offsets(image, disc(row, col, 2.9))
    np.testing.assert_allclose(found, [away], atol=0.1)


def test_targets_come_in_their_order_and_those_at_the_border_are_let_be() -> None:
    mask = disc(0, 60, 3) | disc(20, 10, 3) | disc(40, 40, 3)
    image = np.maximum.reduce([blob(0, 60), blob(20.5, 10), blob(40, 39.5)])
    found = measure_offsets(image, mask)
    assert len(found) == len(find_targets(mask)) == 3
    np.testing.assert_allclose(found[1:], [[-0.5, 0], [0, 0.5]], atol=0.12)
    assert found[0].tolist() == [0, 0]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_nothing_is_measured_where_nothing_is_to_be_seen(dtype: type) -> None:
    flat = np.full((30, 40), 100, dtype)
    mask = np.zeros(flat.shape, bool)
    assert measure_offsets(flat, mask).shape == (0, 2)
    mask[4:7, 4:7] = True
    assert measure_offsets(flat, mask).tolist() == [[0, 0]]
    assert measure_offsets(np.ones((1, 1), dtype), np.ones((1, 1), bool)).tolist() == [[0, 0]]
