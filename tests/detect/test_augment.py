from collections import Counter
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from detect.augment import (
    DRAWS,
    ImageBank,
    Views,
    choose_views,
    make_noise_field,
    shade,
    take_windows,
)
from detect.recipe import Augment

Array = NDArray[Any]


def plain(**changes: Any) -> Augment:
    base = Augment(
        crop=16,
        target_share=0.0,
        fill="mirror",
        mirror="both",
        transpose=True,
        scale=(1.0, 1.0),
        shift=0.0,
        rotation=0.0,
        blur=0.0,
        border=0.0,
        gain=0.0,
        offset=0.0,
        noise=0.0,
        keep_offset=False,
        pick=None,
    )
    return replace(base, **changes)


def still(**changes: Any) -> Augment:
    return plain(**({"mirror": "none", "transpose": False} | changes))


def make_bank(frames: list[Array], masks: list[Array] | None = None) -> ImageBank:
    masks = masks or [np.zeros(frame.shape, bool) for frame in frames]
    pixels = np.concatenate([frame.ravel() for frame in frames])
    sizes = np.array([frame.size for frame in frames])
    return ImageBank(
        torch.from_numpy(pixels.view(np.int16) if pixels.dtype == np.uint16 else pixels),
        torch.from_numpy(15 * np.concatenate([mask.ravel() for mask in masks]).view(np.uint8)),
        sizes.cumsum() - sizes,
        np.array([frame.shape for frame in frames]),
        [np.argwhere(mask).astype(float) for mask in masks],
    )


def draw(augment: Augment, bank: ImageBank, count: int, seed: int = 0) -> tuple[Array, Views]:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, len(bank.start), count)
    return images, choose_views(augment, bank, images, rng.random((count, DRAWS)))


def cut(frame: Array, views: Views, row: int, size: int, fill: str) -> Array:
    """What a window holds, by padding, slicing and turning with numpy."""
    reach = 3 * size
    mode = "symmetric" if fill == "mirror" else "constant"
    padded = np.pad(frame, reach, mode=mode)  # type: ignore[call-overload]
    top, left = views.top[row] + reach, views.left[row] + reach
    window = padded[top : top + size, left : left + size]
    if views.flip_rows[row]:
        window = window[::-1]
    if views.flip_cols[row]:
        window = window[:, ::-1]
    return window.T if views.transpose[row] else window


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    shapes=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=4),
    fill=st.sampled_from(["mirror", "zero"]),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    shift=st.sampled_from([0.0, 0.5]),
)
def test_windows_without_interpolation_hold_exact_pixels(
    seed: int, shapes: list[tuple[int, int]], fill: Any, dtype: Any, shift: float
) -> None:
    rng = np.random.default_rng(seed)
    frames = [rng.integers(0, np.iinfo(dtype).max, shape, dtype, True) for shape in shapes]
    masks = [rng.random(shape) < 0.2 for shape in shapes]
    bank = make_bank(frames, masks)
    augment = plain(fill=fill, shift=shift)
    images, views = draw(augment, bank, 6, seed)
    values, truth = take_windows(bank, images, views, augment)
    assert values.shape == truth.shape == (6, 1, 16, 16)
    for row, image in enumerate(images):
        np.testing.assert_array_equal(values[row, 0], cut(frames[image], views, row, 16, fill))
        np.testing.assert_array_equal(truth[row, 0], cut(masks[image], views, row, 16, fill))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), row=st.integers(0, 39), col=st.integers(0, 29))
def test_a_window_around_a_target_holds_it(seed: int, row: int, col: int) -> None:
    mask = np.zeros((40, 30), bool)
    mask[row, col] = True
    bank = make_bank([mask.view(np.uint8)], [mask])
    augment = plain(target_share=1.0)
    images, views = draw(augment, bank, 8, seed)
    assert (take_windows(bank, images, views, augment)[1].sum((1, 2, 3)) == 1).all()
    assert views.top.min() >= 0
    assert views.top.max() <= 24
    assert views.left.min() >= 0
    assert views.left.max() <= 14


def test_all_eight_turns_occur_and_no_more() -> None:
    frame = np.arange(256, dtype=np.uint8).reshape(16, 16)
    bank = make_bank([frame])
    expected = {np.rot90(f, k).tobytes() for k in range(4) for f in (frame, frame[::-1])}
    values, _ = take_windows(bank, *draw(plain(), bank, 100), plain())
    assert {window.tobytes() for window in values.numpy().astype(np.uint8)} == expected


def test_windows_lie_around_every_pixel_alike_and_then_inside() -> None:
    bank = make_bank([np.zeros((20, 16), np.uint8)])
    counts = np.bincount(draw(plain(), bank, 4000)[1].top) / 4000
    # Of twenty rows in the middle of a window nine would begin it above the image, eight below it.
    assert counts == pytest.approx([9 / 20, 1 / 20, 1 / 20, 1 / 20, 8 / 20], abs=0.03)


def test_windows_around_targets_hold_the_border_as_often_as_other_windows() -> None:
    mask = np.zeros((64, 64), bool)
    mask[32, 40] = True
    bank = make_bank([mask.view(np.uint8)], [mask])
    _, views = draw(plain(crop=48, target_share=1.0), bank, 2000)
    assert (views.top == 0).mean() == pytest.approx(16 / 48, abs=0.03)
    assert (views.top == 16).mean() == pytest.approx(17 / 48, abs=0.03)


def test_a_shift_goes_beyond_the_border_half_of_the_time() -> None:
    bank = make_bank([np.zeros((16, 16), np.uint8)])
    _, views = draw(still(shift=0.25), bank, 400)
    assert set(views.top) == set(range(-4, 5))
    assert 0.4 < ((views.top != 0) | (views.left != 0)).mean() < 0.6


def test_scale_enlarges_as_opencv_does() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
    bank = make_bank([frame])
    augment = still(scale=(2.0, 2.0))
    images, views = draw(augment, bank, 5)
    assert (views.side == 8).all()
    values, _ = take_windows(bank, images, views, augment)
    for row in range(5):
        top, left = views.top[row], views.left[row]
        # One pixel more on every side, so that no border is seen.
        wide = np.pad(frame, 1, mode="symmetric")[top : top + 10, left : left + 10]
        expected = cv2.resize(wide.astype(np.float32), (20, 20))[2:-2, 2:-2]
        np.testing.assert_allclose(values[row, 0], expected, atol=0.01)


def test_scale_shrinks_by_area() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
    bank = make_bank([frame], [frame > 128])
    augment = still(scale=(0.5, 0.5))
    values, truth = take_windows(bank, *draw(augment, bank, 2), augment)
    share = frame.reshape(16, 2, 16, 2)
    np.testing.assert_allclose(values[1, 0], share.mean((1, 3)), atol=0.01)
    np.testing.assert_array_equal(truth[1, 0], (share > 128).mean((1, 3)) > 0.5)


@pytest.mark.parametrize("angle", [90.0, 30.0, -7.5])
def test_a_rotation_is_that_of_scipy(angle: float) -> None:
    frame = np.random.default_rng(1).integers(0, 256, (24, 24), np.uint8)
    bank = make_bank([frame], [frame > 128])
    augment = still(crop=24)
    images, views = draw(augment, bank, 1)
    views = replace(views, angle=np.array([angle]))
    values, truth = take_windows(bank, images, views, augment)
    for ours, theirs in ((values, frame.astype(float)), (truth, (frame > 128).astype(float))):
        turned = ndimage.rotate(theirs, angle, reshape=False, order=1, mode="reflect")
        if ours is truth:
            clear = abs(turned - 0.5) > 1e-3
            np.testing.assert_array_equal(ours[0, 0].numpy()[clear], (turned > 0.5)[clear])
        else:
            np.testing.assert_allclose(ours[0, 0], turned, atol=0.05)


def test_a_target_stays_where_the_view_puts_it_and_keeps_its_shape() -> None:
    rng = np.random.default_rng(2)
    shape, radius = (96, 80), 4.0
    augment = plain(crop=48, scale=(0.8, 1.4), rotation=45.0, shift=0.1, target_share=1.0)
    rows, cols = np.indices(shape)
    centres = rng.uniform(20, 60, (40, 2))
    discs = [np.hypot(rows - r, cols - c) <= radius for r, c in centres]
    bank = make_bank([disc * np.uint8(200) for disc in discs], discs)
    images = np.arange(40)
    views = choose_views(augment, bank, images, rng.random((40, DRAWS)))
    values, truth = take_windows(bank, images, views, augment)
    matrix, middle = views.to_image()
    seen = 0
    for row, (disc, answer) in enumerate(zip(discs, truth[:, 0].numpy() > 0, strict=True)):
        centre = np.argwhere(disc).mean(0)
        place = np.linalg.solve(matrix[row], centre - middle[row]) * 48 + 23.5
        zoom = 48 / views.side[row]
        if (place < 1.5 * radius + 1).any() or (place > 46 - 1.5 * radius).any():
            continue
        seen += 1
        np.testing.assert_allclose(np.argwhere(answer).mean(0), place, atol=0.35)
        assert answer.sum() == pytest.approx(disc.sum() * zoom**2, rel=0.2)
        # Against the share of a pixel that lies on target, from 9 x 9 places in it.
        fine = (np.arange(48 * 9) + 0.5) / (48 * 9) - 0.5
        grid = np.stack(np.meshgrid(fine, fine, indexing="ij"), -1)
        source = np.rint(grid @ matrix[row].T + middle[row]).astype(int)
        source = np.clip(source, 0, np.array(shape) - 1)
        share = disc[source[..., 0], source[..., 1]].reshape(48, 9, 48, 9).mean((1, 3))
        clear = abs(share - 0.5) > 0.2
        np.testing.assert_array_equal(answer[clear], (share > 0.5)[clear])
        both, either = (answer & (share > 0.5)).sum(), (answer | (share > 0.5)).sum()
        assert both / either > 0.85
        brightest = values[row, 0].numpy() > 100
        assert (brightest & answer).sum() / (brightest | answer).sum() > 0.9
    assert seen > 15


def test_blur_is_that_of_opencv() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
    bank = make_bank([frame])
    augment = still(crop=32, blur=1.5)
    images, views = draw(augment, bank, 12)
    assert 2 < (views.blur == 0).sum() < 10
    values, _ = take_windows(bank, images, views, augment)
    for row, sigma in enumerate(views.blur):
        expected = frame.astype(np.float32)
        if sigma:
            expected = cv2.GaussianBlur(
                expected, (13, 13), sigma, borderType=cv2.BORDER_REFLECT_101
            )
        np.testing.assert_allclose(values[row, 0], expected, atol=0.02)


def test_darkened_borders_are_those_of_a_filter_that_sees_zeros() -> None:
    bank = make_bank([np.full((64, 64), 200, np.uint8)])
    augment = still(crop=32, border=0.5)
    images, views = draw(augment, bank, 60)
    assert 15 < (views.border == 0).sum() < 45
    values, _ = take_windows(bank, images, views, augment)
    # A step sampled 50 times a pixel and filtered half a pixel up and left.
    fine = 50
    step = np.zeros(32 * fine + 2000)
    step[1000:-1000] = 1
    middles = 1000 + fine * np.arange(32)
    for row, sigma in enumerate(views.border):
        factors = np.ones((2, 32))
        if sigma:
            smooth = ndimage.gaussian_filter1d(step, sigma * fine, truncate=8)
            share = (smooth[middles] + smooth[middles - 1]) / 2
            for axis, corner in enumerate((views.top[row], views.left[row])):
                if corner > 0:
                    factors[axis, :16] = share[:16]
                if corner < 32:
                    factors[axis, 16:] = share[16:]
        expected = 200 * factors[0][:, None] * factors[1]
        np.testing.assert_allclose(values[row, 0], expected, atol=0.2)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(16, 40))
def test_the_image_s_own_borders_are_never_darkened(seed: int, size: int) -> None:
    frame = np.full((40, 40), 100, np.uint8)
    frame[[0, -1]] = 250
    frame[:, [0, -1]] = 250
    bank = make_bank([frame])
    augment = plain(crop=size, border=1.0)
    images, views = draw(augment, bank, 6, seed)
    values, _ = take_windows(bank, images, views, augment)
    for window in values[:, 0].numpy():
        # Far from the corners, where only one border reaches.
        for line in (window[size // 2], window[:, size // 2]):
            assert all(end == 250 or end < 100 for end in (line[0], line[-1]))
            assert (line[6:-6] == 100).all()


def test_grey_changes_stay_within_what_was_asked() -> None:
    bank = make_bank([np.full((16, 16), 3, np.uint8)])
    augment = still(gain=0.5, offset=0.2, noise=0.1)
    images, views = draw(augment, bank, 200)
    assert 1 / 1.5 <= views.gain.min() < 0.75 < 1.4 < views.gain.max() <= 1.5
    assert -0.2 <= views.offset.min() < -0.15 < 0.15 < views.offset.max() <= 0.2
    values, _ = take_windows(bank, images, views, augment)
    offset, scale = np.full((200, 1), 1, np.float32), np.full((200, 1), 2, np.float32)
    shaded = shade(values, offset, scale, views, make_noise_field(16, 0))
    residual = shaded[:, 0].numpy() - (views.gain + views.offset)[:, None, None]
    assert residual.std((1, 2)) == pytest.approx(views.noise, rel=0.25, abs=1e-6)
    unit = residual[views.noise > 0.01] / views.noise[views.noise > 0.01, None, None]
    correlation = np.corrcoef(unit.reshape(len(unit), -1))
    assert abs(correlation[~np.eye(len(unit), dtype=bool)]).max() < 0.4


def test_the_noise_field_is_white_and_the_seed_s_own() -> None:
    field = make_noise_field(16, 3)
    assert torch.equal(field, make_noise_field(16, 3))
    assert not torch.equal(field, make_noise_field(16, 4))
    assert field.mean().item() == pytest.approx(0, abs=5e-3)
    assert field.std().item() == pytest.approx(1, abs=5e-3)
    assert (field[1:] * field[:-1]).mean().item() == pytest.approx(0, abs=5e-3)


def test_channels_are_copies_of_one_grey_frame() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (16, 16), np.uint8)
    bank = make_bank([frame])
    images, views = draw(plain(noise=1.0, blur=1.0), bank, 4)
    values, _ = take_windows(bank, images, views, plain(blur=1.0))
    three = np.zeros((4, 3), np.float32), np.ones((4, 3), np.float32)
    shaded = shade(values, *three, views, make_noise_field(16, 0))
    assert shaded.shape == (4, 3, 16, 16)
    assert (shaded == shaded[:, :1]).all()


def test_so_many_kinds_are_picked_each_as_often_as_the_others() -> None:
    augment = plain(
        scale=(0.5, 0.9), shift=0.1, rotation=10.0, gain=0.5, offset=0.5, noise=0.5, pick=3
    )
    bank = make_bank([np.zeros((64, 64), np.uint8)])
    _, views = draw(replace(augment, mirror="none"), bank, 900)
    changed = {
        "transpose": views.transpose,
        "scale": views.side != 16,
        "rotation": views.angle != 0,
        "gain": views.gain != 1,
        "offset": views.offset != 0,
        "noise": views.noise != 0,
    }
    counts = Counter({kind: int(rows.sum()) for kind, rows in changed.items()})
    # Of seven kinds, the shift cannot be told from a place that was drawn.
    assert set(sum(changed.values()).tolist()) == {2, 3}  # type: ignore[attr-defined]
    assert min(counts.values()) > 0.8 * 900 * 3 / 7
    assert max(counts.values()) < 1.2 * 900 * 3 / 7


def test_more_picks_than_kinds_are_all_kinds() -> None:
    bank = make_bank([np.zeros((16, 16), np.uint8)])
    _, views = draw(still(gain=0.5, noise=0.5, pick=5), bank, 50)
    assert (views.gain != 1).all()
    assert (views.noise > 0).all()
    assert not views.turns.any()
