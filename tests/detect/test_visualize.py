import cv2
import numpy as np
import pytest

from detect.visualize import draw_panels, draw_surfaces, encode_picture


def colours(picture: np.ndarray) -> set[tuple[int, ...]]:
    flat = picture.reshape(-1, 3)
    return set(map(tuple, flat[(flat != flat[:, :1]).any(axis=1)].tolist()))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(64, 64), (300, 40), (5, 600)])
def test_outlines_say_what_was_found(dtype: type, shape: tuple[int, int]) -> None:
    frame = np.random.default_rng(0).integers(90, 110, shape).astype(dtype)
    truth = np.zeros(shape, bool)
    truth[2, 3] = True
    nothing = np.zeros(shape)
    red, green, yellow = (213, 94, 0), (0, 158, 115), (240, 228, 66)
    assert colours(draw_panels(frame, truth, nothing)) == {red}
    found = draw_panels(frame, truth, truth.astype(float))
    assert colours(found) == {green}
    false = nothing.copy()
    false[2, -3] = 0.9
    assert colours(draw_panels(frame, truth, false)) == {red, yellow}
    zoom = max(1, round(256 / max(shape)))
    assert found.shape == (shape[0] * zoom, 3 * shape[1] * zoom + 8, 3)


def test_a_constant_frame_can_be_drawn() -> None:
    frame = np.full((16, 16), 9, np.uint8)
    assert not colours(draw_panels(frame, np.zeros((16, 16), bool), np.zeros((16, 16))))


def test_surfaces_are_a_picture() -> None:
    rng = np.random.default_rng(0)
    frame, truth = rng.integers(0, 9000, (300, 70)).astype(np.uint16), np.zeros((300, 70), bool)
    picture = draw_surfaces(frame, truth, rng.random((300, 70)))
    assert picture.shape == (400, 1200, 3)
    assert picture.std() > 10


def test_pictures_keep_their_colours_on_disk() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    read = cv2.imdecode(np.frombuffer(encode_picture(picture), np.uint8), cv2.IMREAD_COLOR_RGB)
    np.testing.assert_array_equal(read, picture)
