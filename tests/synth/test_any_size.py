"""Whatever a frame's size and depth: type, shape and range stay, and nothing given is changed."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from movers import Mover
from numpy.typing import NDArray
from turned_patches import turn_patch

from synth.disk.png import encode_png
from synth.errors import NoiseError, QualityError
from synth.frames import Frame, Mask, decode_frame, frame_shape, to_luma
from synth.inspect.check import border_shares
from synth.inspect.quality import (
    entropy,
    local_contrast,
    normalise,
    patch_features,
    piqe,
    to_own_range,
)
from synth.inspect.seams import describe_border
from synth.inspect.splits import difference_hash, scene_signature
from synth.masks import STANDARD
from synth.noise.bank import make_bank
from synth.noise.blocks import find_noise_patches, second_differences
from synth.noise.cameras import CameraNoise
from synth.noise.components import measure_components
from synth.noise.model import make_physical_model
from synth.noise.realisation import NoiseGenerator
from synth.noise.residual import generate_frame, measure_own_noise, transfer_residual
from synth.noise.sampling import NoiseFrame, SamplingRule, sample_frames, window_statistics
from synth.noise.transfer import mixup, resize_patch
from synth.recipe import remake
from synth.scene import Scene
from synth.steps import Supply
from synth.steps.blend import BLENDS, blend_mask, blend_patch
from synth.steps.distract import KINDS, add_distractor
from synth.targets import find_targets, label_targets, measure_offsets, measure_signals, target_box

Array = NDArray[Any]

# From one pixel to long lines; the sides of the windows that are looked at, and next to them.
SIZES = [
    (1, 1), (1, 2), (2, 1), (2, 2), (1, 7), (7, 1), (3, 3), (2, 5), (5, 4), (8, 8), (9, 10),
    (1, 512), (512, 1), (512, 3), (3, 512), (15, 17), (16, 16), (31, 33), (40, 21), (64, 48),
]  # fmt: skip


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Frame, Mask]:
    """A frame of any size and contents with any mask."""
    shape = draw(st.sampled_from(SIZES) | st.tuples(st.integers(1, 40), st.integers(1, 40)))
    dtype = draw(st.sampled_from([np.uint8, np.uint16]))
    top = np.iinfo(dtype).max
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    kind = draw(st.sampled_from(["noise", "full range", "black", "white", "flat", "ends"]))
    frame = {
        "noise": lambda: rng.normal(top / 2, top / 40, shape).clip(0, top),
        "full range": lambda: rng.integers(0, top, shape, endpoint=True),
        "black": lambda: np.zeros(shape),
        "white": lambda: np.full(shape, top),
        "flat": lambda: np.full(shape, 7),
        "ends": lambda: rng.integers(0, 2, shape) * top,
    }[kind]()
    share = draw(st.sampled_from([0.0, 0.02, 0.3, 1.0]))
    return cast(Frame, frame.astype(dtype)), rng.random(shape) < share


@lru_cache(maxsize=2)
def camera(depth: int) -> NoiseGenerator:
    scale = 1 if depth == 8 else 257
    model = make_physical_model(
        sigma=2.0 * scale, gain=0.01, column=1.0 * scale, dead=0.01, blinking=0.01, depth=depth
    )
    return NoiseGenerator(model)


def frame_of(depth: int, *shape: int) -> Frame:
    rng = np.random.default_rng(sum(shape))
    return cast(Frame, rng.integers(0, 1 << depth, shape).astype(f"u{depth // 8}"))


def draw_move(frame: Frame, mask: Mask, **how: Any) -> list[Array]:
    targets = find_targets(mask)
    if not targets:
        return []
    moved = Mover(frame, mask).move(len(targets) // 2, 5, **how)
    return [moved.image, moved.mask]


def draw_outputs(frame: Frame, mask: Mask) -> list[Array]:
    """Outputs with all that steps can do."""
    depth = 8 * frame.itemsize
    supply = Supply(make_bank(frame_of(depth, 3, 5, 5)), CameraNoise([camera(depth).model]))
    items = [{"kind": kind, "draw": 3} for kind in KINDS]
    mix = ("mixup", {"patch": 1, "ratio": 0.3})
    residual = ("residual", {"frame": 0, "strength": 1.0, "seed": 9})
    chosen: list[list[tuple[str, Any]]] = [[mix, ("distract", {"items": items}), residual]]
    if mask.any():
        turn = {"target": 0, "side": min(9, *frame.shape), "quarter_turns": 1, "mirror": True}
        turn["keep_offset"] = True
        chosen += [[mix, ("turn", {**turn, "blend": blend})] for blend in BLENDS]
        move = {"target": 0, "draw": 4, "angle": 30.0, "scr": 3.0}
        chosen += [[("move", {**move, **how})] for how in ({}, {"stay": True}, {"copy": True})]
    made = [remake(Scene(frame, mask), steps, supply) for steps in chosen]
    return [array for one in made for array in (one.image, one.mask)]


def middle_box(frame: Frame) -> tuple[int, int, int, int]:
    side = max(min(frame.shape) // 2, 1)
    top, left = ((length - side) // 2 for length in frame.shape)
    return top, left, top + side, left + side


# Of each: frames or masks of the size that was given, in their type.
KEEPING: dict[str, Callable[[Frame, Mask], list[Array]]] = {
    "png": lambda f, m: [
        decode_frame(encode_png(f), "f"),
        STANDARD.mask_of(STANDARD.values(encode_png(m), "m"), "m"),
    ],
    "luma": lambda f, m: [to_luma(np.dstack([f, f, f])), to_luma(np.dstack([f, f[::-1], f, f]))],
    "turn_patch": lambda f, m: list(turn_patch(f, m, middle_box(f), 3, True)),
    "blend": lambda f, m: [blend_patch(f, f[::-1], blend) for blend in BLENDS],
    "blend_mask": lambda f, m: [blend_mask(m, m[::-1], blend) for blend in BLENDS],
    "ramp": lambda f, m: [blend_patch(f, f[:, ::-1], "poisson", ramp) for ramp in (1.0, 12.0)],
    "move": lambda f, m: draw_move(f, m),
    "turn and scale": lambda f, m: draw_move(f, m, stay=True, angle=37.0, scr=4.0),
    "distractors": lambda f, m: [add_distractor(f, m, kind, 8)[0] for kind in KINDS],
    "mixup": lambda f, m: [
        mixup(f, frame_of(8 * f.itemsize, *shape), ratio)
        for shape in ((1, 1), (3, 9), (50, 50))
        for ratio in (0.0, 0.1, 1.0)
    ],
    "mixup with gain": lambda f, m: [mixup(f, frame_of(16, 4, 4), 0.5, 3e-3)],
    "residual": lambda f, m: [
        transfer_residual(f, camera(8 * f.itemsize), seed=11, strength=s).image for s in (0.0, 2.0)
    ],
    "residual with gain": lambda f, m: [transfer_residual(f, camera(16), seed=11, gain=5e-3).image],
    "steps": draw_outputs,
}

# Of each: numbers, which are no NaN, but for what the docstring says of frames without them.
MEASURING: dict[str, Callable[[Frame, Mask], object]] = {
    "targets": lambda f, m: [t.centroid for t in find_targets(m)],
    "labels": lambda f, m: label_targets(m)[1],
    "offsets": measure_offsets,
    "borders": lambda f, m: [share for share in border_shares(f) if share is not None],
    "entropy": lambda f, m: entropy(f),
    "contrast": lambda f, m: local_contrast(f) if min(f.shape) >= 9 else 0.0,
    "own range": lambda f, m: to_own_range(f),
    "mscn": lambda f, m: [*normalise(to_own_range(f))],
    "piqe": lambda f, m: piqe(f),
    "hash": lambda f, m: difference_hash(f),
    "signature": lambda f, m: scene_signature(f),
    "own noise": lambda f, m: [o := measure_own_noise(f), o.level, o.fine, o.whole][1:],
    "second differences": lambda f, m: second_differences(f.astype(np.float32)),
    "windows": lambda f, m: [*window_statistics(f, min(f.shape))],
    "resize": lambda f, m: resize_patch(f.astype(np.float32), (3, 11)),
    "seam": lambda f, m: describe_border(f, middle_box(f)),
    "frame of noise": lambda f, m: generate_frame(
        camera(8 * f.itemsize), (f.shape[0], f.shape[1]), seed=5
    ),
}

# Of each: a result, or the one error that its docstring names.
REFUSING: dict[str, tuple[Callable[[Frame, Mask], object], type[Exception]]] = {
    "niqe": (lambda f, m: patch_features(f, 16), QualityError),
    "blocks": (lambda f, m: find_noise_patches([(f, m)], 16), NoiseError),
    "components": (lambda f, m: measure_components(np.stack([f] * 4)), NoiseError),
    "sample": (lambda f, m: sample_frames([NoiseFrame("f", lambda: (f, m))], RULE), NoiseError),
    "texture": (
        lambda f, m: sample_frames(
            [NoiseFrame("f", lambda: (f, m))], SamplingRule(side=16, rule="texture")
        ),
        NoiseError,
    ),
    "depth": (
        lambda f, m: mixup(f, frame_of(24 - 8 * f.itemsize, 2, 2), 0.1),
        NoiseError,
    ),
    "box": (
        lambda f, m: [target_box(t, 9, (f.shape[0], f.shape[1])) for t in find_targets(m)],
        ValueError,
    ),
    "signals": (lambda f, m: [s.contrast for s in measure_signals(f, m)], ValueError),
}
RULE = SamplingRule(side=8, stride=3, max_var=1e9, limit=5)


def same(one: object, other: object) -> bool:
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, np.ndarray | float):
        return np.array_equal(np.asarray(one), np.asarray(other), equal_nan=True)
    return one is None or isinstance(one, object)


def twice(operation: Callable[[Frame, Mask], Any], frame: Frame, mask: Mask) -> Any:
    """Run an operation twice on arrays that cannot be written to."""
    before = frame.copy(), mask.copy()
    for array in (frame, mask):
        array.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        first = operation(frame, mask)
        assert same(first, operation(frame, mask)), "another time, another result"
    assert np.array_equal(frame, before[0])
    assert np.array_equal(mask, before[1])
    return first


@pytest.mark.parametrize("name", KEEPING)
@settings(max_examples=15, deadline=None)
@given(pair=pairs())
def test_an_operation_keeps_type_shape_and_inputs(name: str, pair: tuple[Frame, Mask]) -> None:
    frame, mask = pair
    for made in twice(KEEPING[name], frame, mask):
        assert made.shape == frame.shape
        assert made.dtype in (frame.dtype, np.bool_)
        # Steps that find no place give what they got.
        assert name == "steps" or not (
            np.shares_memory(made, frame) or np.shares_memory(made, mask)
        )


@pytest.mark.parametrize("name", MEASURING)
@settings(max_examples=15, deadline=None)
@given(pair=pairs())
def test_a_measurement_is_a_number(name: str, pair: tuple[Frame, Mask]) -> None:
    found = twice(MEASURING[name], *pair)
    for value in found if isinstance(found, list) else [found]:
        assert value is None or np.isfinite(np.asarray(value)).all()


@pytest.mark.parametrize("name", REFUSING)
@settings(max_examples=15, deadline=None)
@given(pair=pairs())
def test_what_a_size_does_not_allow_is_refused(name: str, pair: tuple[Frame, Mask]) -> None:
    operation, error = REFUSING[name]
    with suppress(error):
        twice(operation, *pair)


@settings(max_examples=30, deadline=None)
@given(pair=pairs(), ratio=st.floats(0, 1))
def test_a_mix_stays_between_what_is_mixed(pair: tuple[Frame, Mask], ratio: float) -> None:
    frame, _ = pair
    patch = frame_of(8 * frame.itemsize, 3, 4)
    made = mixup(frame, patch, ratio)
    assert made.min() >= min(frame.min(), patch.min())
    assert made.max() <= max(frame.max(), patch.max())


@settings(max_examples=30, deadline=None)
@given(pair=pairs())
def test_a_frame_s_size_is_that_of_its_file(pair: tuple[Frame, Mask]) -> None:
    assert frame_shape(encode_png(pair[0]), "f") == pair[0].shape
