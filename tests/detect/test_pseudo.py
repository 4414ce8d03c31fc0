"""Pseudo-labels: which answers become labels."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from skimage.measure import label, regionprops

from detect.predict import load_detector, shipped_weights
from detect.pseudo import Confidence, mean_probability, pseudo_label

maps = arrays.arrays(
    np.float32,
    arrays.array_shapes(min_dims=2, max_dims=2, max_side=9),
    elements=st.floats(0, 1, width=16),
)


@given(maps)
def test_a_label_has_the_pixels_above_the_threshold_or_there_is_none(
    probability: np.ndarray,
) -> None:
    rules = Confidence()
    found = pseudo_label(probability, rules)
    spots = regionprops(label(probability > rules.doubt, connectivity=2), probability)
    doubtful = any(spot.intensity_max < np.float32(rules.sure) for spot in spots)
    assert (found is None) == doubtful
    if found is not None:
        np.testing.assert_array_equal(found, probability > rules.threshold)


@given(maps)
def test_no_frame_is_left_out_when_nothing_has_to_be_sure(probability: np.ndarray) -> None:
    assert pseudo_label(probability, Confidence(sure=0)) is not None


def test_the_answer_of_several_detectors_is_their_mean() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (40, 56), dtype=np.uint8)
    detector = load_detector(shipped_weights(), "cpu")
    alone = detector(frame)
    np.testing.assert_allclose(mean_probability([detector], frame), alone)

    class Opposite(type(detector)):  # type: ignore[misc]
        def __call__(self, frame: np.ndarray) -> np.ndarray:
            return 1 - super().__call__(frame)

    other = Opposite(detector.network, detector.normalisation, "cpu")
    np.testing.assert_allclose(mean_probability([detector, other], frame), 0.5, atol=1e-6)
