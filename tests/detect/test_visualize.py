import cv2
import numpy as np
import pytest

from detect.visualize import draw_overlay, draw_panels, draw_surfaces, encode_picture


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
    width = max(shape[1] * zoom, 96)
    assert found.shape == (shape[0] * zoom + 22, 3 * width + 8, 3)


@pytest.mark.parametrize("shape", [(256, 256), (300, 40)])
def test_titles_are_whole(shape: tuple[int, int]) -> None:
    picture = draw_panels(np.zeros(shape, np.uint8), np.zeros(shape, bool), np.zeros(shape))
    line = picture[:22]
    for border in (line[:2], line[-1:], line[:, -2:], *(line[:, [x]] for x in range(2))):
        assert (border >= 250).all()
    panel = (picture.shape[1] - 8) // 3
    for start in (0, panel + 4, 2 * panel + 8):
        assert (line[:, start : start + panel] < 128).any()
        assert (line[:, start + panel - 2 : start + panel] >= 250).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_overlays_outline_targets_and_leave_the_rest(dtype: type) -> None:
    frame = np.random.default_rng(0).integers(90, 110, (40, 60)).astype(dtype)
    plain = draw_overlay(frame, [])
    assert plain.shape == (40, 60, 3)
    assert not colours(plain)
    drawn = draw_overlay(frame, [(10, 20, 12, 23), (0, 0, 1, 1), (38, 57, 40, 60)])
    expected = np.zeros((40, 60), bool)
    expected[7:15, 17:26] = True
    expected[8:14, 18:25] = False
    expected[:4, :4] = expected[35:, 54:] = True
    expected[1:3, 1:3] = expected[36:39, 55:59] = False
    np.testing.assert_array_equal((drawn != plain).any(axis=2), expected)


def test_a_constant_frame_can_be_drawn() -> None:
    frame = np.full((16, 16), 9, np.uint8)
    assert not colours(draw_panels(frame, np.zeros((16, 16), bool), np.zeros((16, 16))))


def test_surfaces_are_a_picture() -> None:
    rng = np.random.default_rng(0)
    frame, truth = rng.integers(0, 9000, (300, 70)).astype(np.uint16), np.zeros((300, 70), bool)
    picture = draw_surfaces(frame, truth, rng.random((300, 70)))
    assert picture.shape == (460, 1300, 3)
    assert picture.std() > 10
    # Nothing that is written is cut off: white all around.
    for border in (picture[:8], picture[-4:], picture[:, :4], picture[:, -4:]):
        assert (border == 255).all()
    assert (picture[8:60] < 128).any()


def test_pictures_keep_their_colours_on_disk() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    read = cv2.imdecode(np.frombuffer(encode_picture(picture), np.uint8), cv2.IMREAD_COLOR_RGB)
    np.testing.assert_array_equal(read, picture)
