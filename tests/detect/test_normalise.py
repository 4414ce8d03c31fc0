import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.normalise import fit_normalisation
from detect.predict import Detector


@settings(max_examples=50, deadline=None)
@given(gain=st.integers(1, 200), offset=st.integers(0, 14000), seed=st.integers(0, 999))
def test_frame_does_not_see_gain_offset_or_depth(gain: int, offset: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    frame = rng.integers(0, 256, (9, 13), np.uint8)
    deep = (frame.astype(np.int64) * gain + offset).astype(np.uint16)
    rule = fit_normalisation("frame", [], 1)
    np.testing.assert_allclose(rule.apply(deep), rule.apply(frame), atol=2e-3)


@pytest.mark.parametrize("kind", ["dataset", "imagenet"])
def test_fixed_statistics_see_a_deep_frame_from_its_own_range(kind: str) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (9, 13), np.uint8)
    frame[0, :2] = 0, 255
    rule = fit_normalisation(kind, [frame], 3)  # type: ignore[arg-type]
    deep = frame.astype(np.uint16) * 60 + 500
    np.testing.assert_allclose(rule.apply(deep), rule.apply(frame), atol=2e-3)


def test_imagenet_is_what_torchvision_does() -> None:
    frame = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    expected = (frame[None] / 255 - mean[:, None, None]) / std[:, None, None]
    given = fit_normalisation("imagenet", [], 3).apply(frame)
    np.testing.assert_allclose(given, expected, atol=1e-5)


def test_dataset_makes_the_training_pixels_standard() -> None:
    rng = np.random.default_rng(1)
    frames = [rng.integers(20, 90, (8, 9), np.uint8), rng.integers(60, 200, (5, 7), np.uint8)]
    rule = fit_normalisation("dataset", frames, 1)
    pixels = np.concatenate([rule.apply(frame).ravel() for frame in frames])
    assert pixels.mean() == pytest.approx(0, abs=1e-5)
    assert pixels.std() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("kind", ["frame", "dataset", "imagenet"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_constant_frame_is_finite(kind: str, dtype: type) -> None:
    frame = np.full((4, 5), 7, dtype)
    rule = fit_normalisation(kind, [frame], 1)  # type: ignore[arg-type]
    assert np.isfinite(rule.apply(frame)).all()


def test_a_detector_answers_deep_frames_as_shallow_ones() -> None:
    from detect.models import build_model

    detector = Detector(build_model("small"), fit_normalisation("frame", [], 1), "cpu")
    frame = np.random.default_rng(0).integers(0, 256, (33, 21), np.uint8)
    deep = frame.astype(np.uint16) * 64 + 100
    np.testing.assert_allclose(detector(deep), detector(frame), atol=1e-3)
    assert detector(frame).shape == frame.shape
