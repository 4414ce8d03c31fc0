"""Noise sampling against loops over windows."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from synth.errors import NoiseError
from synth.noise.bank import NoiseBank
from synth.noise.sampling import (
    NoiseFrame,
    SamplingRule,
    sample_frames,
    window_statistics,
)

Frame = NDArray[np.uint8] | NDArray[np.uint16]


def as_frame(
    frame: Frame, name: str = "frame", targets: NDArray[np.bool_] | None = None
) -> NoiseFrame:
    return NoiseFrame(name, lambda: (frame, targets))


def places(bank: NoiseBank) -> list[tuple[str, int, int]]:
    return list(zip(bank.frame.tolist(), bank.row.tolist(), bank.col.tolist(), strict=True))


def rough_frame(seed: int, shape: tuple[int, int], dtype: type[np.generic] = np.uint8) -> Frame:
    """Noise whose strength grows to the right, so that some windows pass and some do not."""
    rng = np.random.default_rng(seed)
    scale = 1 if dtype == np.uint8 else 257
    sigma = np.linspace(0, 14, shape[1])
    values = 128 + sigma * rng.standard_normal(shape)
    return (values.clip(0, 255) * scale).astype(dtype)


@given(st.integers(0, 2**32), st.integers(1, 9), st.sampled_from([np.uint8, np.uint16]))
@settings(max_examples=40, deadline=None)
def test_statistics_of_every_window_are_numpys(seed: int, side: int, dtype: type) -> None:
    rng = np.random.default_rng(seed)
    shape = side + int(rng.integers(0, 9)), side + int(rng.integers(0, 9))
    # Deep data on a high pedestal, where floating point would lose the variance.
    low = 0 if seed % 2 else int(np.iinfo(dtype).max) - 20
    frame = rng.integers(low, np.iinfo(dtype).max, shape, endpoint=True).astype(dtype)
    mean, var = window_statistics(frame, side)
    assert mean.shape == var.shape == (shape[0] - side + 1, shape[1] - side + 1)
    for row, col in np.ndindex(mean.shape):
        window = frame[row : row + side, col : col + side].astype(np.int64)
        total, squares = int(window.sum()), int((window**2).sum())
        assert mean[row, col] == total / side**2
        exact = (squares * side**2 - total**2) / side**4
        assert var[row, col] == pytest.approx(exact, rel=1e-9, abs=2e-6)


@pytest.mark.parametrize("side", [0, 6])
def test_a_window_larger_than_the_frame_is_refused(side: int) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        window_statistics(np.zeros((5, 9), np.uint8), side)


@given(
    st.integers(0, 2**32),
    st.integers(2, 8),
    st.sampled_from([None, 1, 3]),
    st.sampled_from([np.uint8, np.uint16]),
    st.sampled_from([20.0, 50.0]),
)
@example(seed=36166473, side=3, stride=None, dtype=np.uint8, max_var=20.0)
@settings(max_examples=40, deadline=None)
def test_the_windows_that_pass_are_those_of_a_loop(
    seed: int, side: int, stride: int | None, dtype: type, max_var: float
) -> None:
    frame = rough_frame(seed, (20, 27), dtype)
    scale = np.iinfo(dtype).max // 255
    step, count = stride or side, side**2

    def passes(window: Frame) -> bool:
        # In whole numbers: a variance of exactly 20 is a little less in floating point.
        values = window.astype(int)
        total, squares = int(values.sum()), int((values**2).sum())
        spread = count * squares - total**2
        return spread < max_var * (scale * count) ** 2 and total > 127 * scale * count

    wanted = [
        ("frame", row, col)
        for row in range(0, 20 - side + 1, step)
        for col in range(0, 27 - side + 1, step)
        if passes(frame[row : row + side, col : col + side])
    ]
    rule = SamplingRule(side, stride, max_var, min_mean=127.0)
    if not wanted:
        with pytest.raises(NoiseError, match="no window"):
            sample_frames([as_frame(frame)], rule)
        return
    bank = sample_frames([as_frame(frame)], rule)
    assert places(bank) == wanted
    assert bank.patches.dtype == dtype
    for patch, row, col in zip(bank.patches, bank.row, bank.col, strict=True):
        np.testing.assert_array_equal(patch, frame[row : row + side, col : col + side])


def test_windows_reach_the_last_row_and_column() -> None:
    bank = sample_frames([as_frame(np.full((64, 96), 9, np.uint8))], SamplingRule(32))
    assert places(bank) == [("frame", row, col) for row in (0, 32) for col in (0, 32, 64)]
    every = sample_frames([as_frame(np.full((7, 9), 9, np.uint8))], SamplingRule(4, stride=1))
    assert (every.row.max(), every.col.max(), len(every)) == (3, 5, 4 * 6)


def test_thresholds_are_strict() -> None:
    # Population variance of {0, 2} is 1, mean is 1.
    frame = np.array([[0, 2], [2, 0]], np.uint8)
    assert len(sample_frames([as_frame(frame)], SamplingRule(2, max_var=1.0001))) == 1
    with pytest.raises(NoiseError):
        sample_frames([as_frame(frame)], SamplingRule(2, max_var=1.0))
    with pytest.raises(NoiseError):
        sample_frames([as_frame(frame)], SamplingRule(2, min_mean=1.0))


def test_black_windows_do_not_pass() -> None:
    frame = np.zeros((4, 8), np.uint8)
    frame[:, 4:] = 1
    assert places(sample_frames([as_frame(frame)], SamplingRule(4))) == [("frame", 0, 4)]


@given(st.integers(0, 2**32), st.sampled_from([10, 12, 14, 16]))
@settings(max_examples=20, deadline=None)
def test_thresholds_scale_with_the_depth_that_is_told(seed: int, bits: int) -> None:
    shallow = rough_frame(seed, (24, 40))
    scale = (2**bits - 1) / 255
    deep = np.rint(shallow * scale).astype(np.uint16)
    rule = SamplingRule(8, bits=bits)
    step = rule.side
    wanted = [
        ("frame", row, col)
        for row in range(0, 24, step)
        for col in range(0, 40, step)
        if np.var(deep[row : row + 8, col : col + 8]) < 50 * scale**2
    ]
    assert places(sample_frames([as_frame(deep)], rule)) == wanted


def test_the_whole_depth_of_the_files_is_the_default() -> None:
    frame = rough_frame(5, (24, 40), np.uint16)
    default = sample_frames([as_frame(frame)], SamplingRule(8))
    assert places(default) == places(sample_frames([as_frame(frame)], SamplingRule(8, bits=16)))


@given(st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_windows_that_touch_a_target_are_left_out(seed: int) -> None:
    rng = np.random.default_rng(seed)
    targets = rng.random((12, 16)) < 0.03
    frame = np.full((12, 16), 7, np.uint8)
    wanted = [
        ("frame", row, col)
        for row in range(9)
        for col in range(13)
        if not targets[row : row + 4, col : col + 4].any()
    ]
    if wanted:
        bank = sample_frames([as_frame(frame, targets=targets)], SamplingRule(4, stride=1))
        assert places(bank) == wanted


@pytest.mark.parametrize("limit", [1, 7, 30, 31, 1000])
def test_a_limit_keeps_a_part_of_what_passes(limit: int) -> None:
    frames = [as_frame(rough_frame(seed, (32, 40)), f"f{seed}") for seed in range(3)]
    everything = places(sample_frames(frames, SamplingRule(6)))
    kept = places(sample_frames(frames, SamplingRule(6, limit=limit)))
    assert len(kept) == min(limit, len(everything))
    assert kept == [place for place in everything if place in set(kept)]


def test_the_seed_decides_what_a_limit_keeps() -> None:
    frames = [as_frame(rough_frame(0, (40, 60)))]
    rule = SamplingRule(4, stride=2, limit=10)
    assert places(sample_frames(frames, rule, seed=1)) == places(
        sample_frames(frames, rule, seed=1)
    )
    assert places(sample_frames(frames, rule, seed=1)) != places(
        sample_frames(frames, rule, seed=2)
    )


def test_a_limit_gives_every_window_the_same_chance() -> None:
    # Two frames of 12 windows and one of 24; 4 of 48 windows stay, so each with chance 1/12.
    sizes = {"a": (6, 8), "b": (6, 8), "c": (12, 8)}
    frames = [as_frame(np.full(shape, 9, np.uint8), name) for name, shape in sizes.items()]
    rule = SamplingRule(2, limit=4)
    runs = 600
    hits = Counter(
        place for seed in range(runs) for place in places(sample_frames(frames, rule, seed=seed))
    )
    assert sum(hits.values()) == 4 * runs
    assert len(hits) == 48
    expected = runs / 12
    # Chi-squared with 47 degrees of freedom (a little less spread, as they sum to a constant):
    # 95 is beyond its 99.99% point.
    assert sum((count - expected) ** 2 / expected for count in hits.values()) < 95


@given(st.integers(0, 2**32), st.integers(2, 5), st.sampled_from([np.uint8, np.uint16]))
@settings(max_examples=40, deadline=None)
def test_a_sequence_keeps_the_windows_that_are_steady(seed: int, count: int, dtype: type) -> None:
    rng = np.random.default_rng(seed)
    scale = np.iinfo(dtype).max / 255
    shape, side = (12, 24), 4
    # Blocks whose level drifts, or whose noise comes and goes, beside steady ones.
    drift = np.kron(rng.choice([0, 4, 12], (3, 6)), np.ones((side, side)))
    breath = np.kron(rng.choice([0, 2, 6], (3, 6)), np.ones((side, side)))
    stack = [
        ((100 + drift * n + (1 + breath * (n % 2)) * rng.standard_normal(shape)).clip(0, 255))
        for n in range(count)
    ]
    frames = [(frame * scale).astype(dtype) for frame in stack]
    wanted = []
    for row in range(0, 12, side):
        for col in range(0, 24, side):
            windows = [frame[row : row + side, col : col + side] for frame in frames]
            means = np.array([window.mean(dtype=np.float64) for window in windows]) / scale
            vars_ = np.array([window.var(dtype=np.float64) for window in windows]) / scale**2
            if (vars_ < 50).all() and np.var(vars_) <= 50 and np.var(means) <= 50:
                wanted.append((row, col))
    sequence = [as_frame(frame, f"{n}") for n, frame in enumerate(frames)]
    if not wanted:
        with pytest.raises(NoiseError, match="no window"):
            sample_frames(sequence, SamplingRule(side), sequence=True)
        return
    bank = sample_frames(sequence, SamplingRule(side), sequence=True)
    assert places(bank) == [(f"{n}", *place) for n in range(count) for place in wanted]
    for patch, name, row, col in zip(bank.patches, bank.frame, bank.row, bank.col, strict=True):
        np.testing.assert_array_equal(patch, frames[int(name)][row : row + side, col : col + side])


@pytest.mark.parametrize(
    ("rule", "passes"),
    [
        (SamplingRule(2, max_seq_mean=4.0), True),
        (SamplingRule(2, max_seq_mean=3.99), False),
    ],
)
def test_a_mean_that_varies_by_just_the_threshold_passes(rule: SamplingRule, passes: bool) -> None:
    # Means 10 and 14: their variance is 4.
    sequence = [as_frame(np.full((2, 2), level, np.uint8)) for level in (10, 14)]
    if passes:
        assert len(sample_frames(sequence, rule, sequence=True)) == 2
    else:
        with pytest.raises(NoiseError):
            sample_frames(sequence, rule, sequence=True)


def test_a_variance_that_varies_too_much_fails() -> None:
    # Variances 0 and 16: their variance is 64.
    still, loud = np.full((2, 2), 10, np.uint8), np.array([[6, 14], [14, 6]], np.uint8)
    sequence = [as_frame(still), as_frame(loud)]
    assert len(sample_frames(sequence, SamplingRule(2, max_seq_var=64.0), sequence=True)) == 2
    with pytest.raises(NoiseError):
        sample_frames(sequence, SamplingRule(2), sequence=True)


def test_a_sequence_of_one_frame_is_refused() -> None:
    with pytest.raises(NoiseError, match="one frame"):
        sample_frames([as_frame(np.ones((8, 8), np.uint8), "only")], SamplingRule(4), sequence=True)


def test_a_sequence_of_unlike_sizes_is_refused_by_name() -> None:
    sequence = [as_frame(np.ones((8, 8), np.uint8), "a"), as_frame(np.ones((8, 9), np.uint8), "b")]
    with pytest.raises(NoiseError, match="b: differs in size"):
        sample_frames(sequence, SamplingRule(4), sequence=True)


def test_targets_in_any_frame_of_a_sequence_keep_their_windows_out() -> None:
    frame, targets = np.full((4, 8), 9, np.uint8), np.zeros((4, 8), bool)
    targets[1, 1] = True
    sequence = [as_frame(frame, "a"), as_frame(frame, "b", targets)]
    assert places(sample_frames(sequence, SamplingRule(4), sequence=True)) == [
        ("a", 0, 4),
        ("b", 0, 4),
    ]


def test_frames_of_two_depths_are_refused() -> None:
    frames = [as_frame(np.full((4, 4), 9, dtype)) for dtype in (np.uint8, np.uint16)]
    with pytest.raises(NoiseError, match="uint16 and uint8"):
        sample_frames(frames, SamplingRule(4))


def test_frames_smaller_than_a_window_are_passed_over() -> None:
    frames = [
        as_frame(np.full((3, 9), 9, np.uint8), "small"),
        as_frame(np.full((4, 9), 9, np.uint8), "large"),
    ]
    assert set(sample_frames(frames, SamplingRule(4)).frame.tolist()) == {"large"}


def test_a_bank_beyond_the_memory_bound_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synth.noise.sampling.MAX_BANK_BYTES", 100)
    frames = [as_frame(np.full((20, 20), 9, np.uint8))]
    with pytest.raises(NoiseError, match="limit their number"):
        sample_frames(frames, SamplingRule(4, stride=1))
    assert len(sample_frames(frames, SamplingRule(4, stride=1, limit=5))) == 5


def mixed_frame(seed: int) -> Frame:
    """Noise of 3 DN on a ramp, with texture of the same strength in the lower half."""
    rng = np.random.default_rng(seed)
    rows, cols = np.indices((128, 256))
    clean = 90.0 + 0.3 * cols + np.where(rows >= 64, 6 * np.sin(cols / 2.5) * np.sin(rows / 2.5), 0)
    return (clean + 3 * rng.standard_normal(clean.shape)).round().clip(0, 255).astype(np.uint8)


def test_the_texture_rule_takes_noise_on_a_ramp_and_leaves_texture() -> None:
    frames = [as_frame(mixed_frame(seed), f"frame{seed}") for seed in range(3)]
    bank = sample_frames(frames, SamplingRule(rule="texture"))
    assert set(bank.frame.tolist()) == {"frame0", "frame1", "frame2"}
    assert (bank.row + 32 <= 64 + 16).all()
    assert len(bank) >= 3 * 8
    for name, row, col, patch in zip(bank.frame, bank.row, bank.col, bank.patches, strict=True):
        frame = mixed_frame(int(name[-1]))
        np.testing.assert_array_equal(patch, frame[row : row + 32, col : col + 32])
    # The published rule refuses every one of them: the ramp alone has a variance of 8.
    with pytest.raises(NoiseError):
        sample_frames(frames, SamplingRule(max_var=9.0))


def test_frames_without_noise_of_their_own_are_passed_over_by_the_texture_rule() -> None:
    empty = np.full((64, 64), 7, np.uint8)
    frames = [as_frame(empty, "empty"), as_frame(mixed_frame(0), "noisy"), as_frame(empty, "last")]
    assert set(sample_frames(frames, SamplingRule(rule="texture")).frame.tolist()) == {"noisy"}
    with pytest.raises(NoiseError, match="no 32x32 block"):
        sample_frames(frames[:1], SamplingRule(rule="texture"))


def test_the_texture_rule_keeps_clear_of_targets_and_to_its_limit() -> None:
    targets = np.zeros((128, 256), bool)
    targets[30:34, 100:104] = True
    frame = as_frame(mixed_frame(1), "frame", targets)
    whole = sample_frames([frame], SamplingRule(rule="texture"))
    assert not any(
        targets[row : row + 32, col : col + 32].any()
        for row, col in zip(whole.row, whole.col, strict=True)
    )
    some = sample_frames([frame], SamplingRule(rule="texture", limit=5), seed=3)
    assert len(some) == 5
    assert set(places(some)) <= set(places(whole))
    again = sample_frames([frame], SamplingRule(rule="texture", limit=5), seed=3)
    assert places(some) == places(again)
    assert places(some) != places(sample_frames([frame], SamplingRule(rule="texture", limit=5)))
