from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

from detect import predict
from detect.errors import DetectError, PredictionError
from detect.models import Network, build_model
from detect.normalise import Normalisation
from detect.predict import (
    Detection,
    Detector,
    encode_probability,
    find_detections,
    fold_norms,
    load_detector,
    name_frames,
    shipped_weights,
)
from detect.weightsfile import Weights, write_weights
from synth.errors import FrameError
from synth.targets import find_targets, local_scr

PLAIN = Normalisation("imagenet", (0.0,), (255.0,))
OWN = Normalisation("frame", (0.0,), (1.0,))


class Identity(Network):
    """Logits are the image; sees one pixel, pools nothing, remembers the sides it was given."""

    def __init__(self, multiple: int = 1) -> None:
        super().__init__()
        self.multiple = multiple
        self.sides: list[int] = []

    def segment(self, image: Tensor) -> tuple[Tensor, ...]:
        assert all(side % self.multiple == 0 for side in image.shape[-2:])
        self.sides += image.shape[-2:]
        return (image,)


class Pooling(Network):
    """A U-Net of one level: sees some pixels around, from places that pooling decides."""

    multiple = 4

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.deep, self.head = (
            nn.Conv2d(a, b, 3, padding=1) for a, b in ((1, 4), (4, 4), (4, 1))
        )

    def segment(self, image: Tensor) -> tuple[Tensor, ...]:
        x = F.relu(self.stem(image))
        below = F.interpolate(F.relu(self.deep(F.max_pool2d(x, 4))), scale_factor=4)
        return (self.head(x + below),)


class Mean(Network):
    """Every logit is the mean of all that it was given."""

    def segment(self, image: Tensor) -> tuple[Tensor, ...]:
        return (image.mean((2, 3), keepdim=True).expand(-1, 1, *image.shape[-2:]),)


def radius(network: Network, side: int) -> int:
    """How far along a row a pixel is seen: where a not-a-number comes out that was put in."""
    far = 0
    for place in range(side // 2, side // 2 + network.multiple):
        image = torch.ones(1, 1, network.multiple, side)
        image[..., 0, place] = torch.nan
        with torch.inference_mode():
            seen = network.eval()(image)[-1][0, 0].isnan().any(0).nonzero()
        assert int(seen.min()) > 0
        assert int(seen.max()) < side - 1
        far = max(far, place - int(seen.min()), int(seen.max()) - place)
    return far


def trained(name: str = "small", seed: int = 0) -> Network:
    """A network whose normalisation does something, as after training."""
    torch.manual_seed(seed)
    network = build_model(name)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
        if isinstance(module, nn.BatchNorm2d) and module.affine:
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    return network.eval()


def noise(shape: tuple[int, int], dtype: type = np.uint8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(64, 96), (1, 1), (5, 9), (33, 70), (1, 100)])
def test_frames_of_any_size_are_padded_by_reflection(shape: tuple[int, int], dtype: type) -> None:
    network, frame = trained(), noise(shape, dtype)
    values = (frame - frame.mean()) / (frame.std() or 1)
    rows, cols = (-(-length // network.multiple) * network.multiple for length in shape)

    def mirrored(length: int, wanted: int) -> list[int]:
        there_and_back = [*range(length), *range(length - 2, 0, -1)] or [0]
        return [there_and_back[i % len(there_and_back)] for i in range(wanted)]

    padded = values[np.ix_(mirrored(shape[0], rows), mirrored(shape[1], cols))]
    with torch.inference_mode():
        logits = network(torch.from_numpy(padded.astype(np.float32))[None, None])[-1][0, 0]
    expected = logits.sigmoid().numpy()[: shape[0], : shape[1]]
    np.testing.assert_allclose(Detector(network, OWN, "cpu")(frame), expected, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    multiple=st.sampled_from([1, 4, 16]),
    overlap=st.integers(0, 90),
    more=st.integers(16, 150),
)
def test_tiles_cover_every_frame(
    shape: tuple[int, int], multiple: int, overlap: int, more: int
) -> None:
    network, frame = Identity(multiple), noise(shape)
    tile = max(overlap, 32) + 2 * more
    answer = Detector(network, PLAIN, "cpu", tile=tile, overlap=overlap)(frame)
    np.testing.assert_allclose(answer, 1 / (1 + np.exp(frame / -255.0)), atol=1e-5)
    assert max(network.sides) <= tile


def test_tiles_give_what_the_whole_frame_gives() -> None:
    torch.manual_seed(0)
    network, frame = Pooling(), noise((210, 301))
    nn.init.normal_(network.head.weight, 0, 2)
    far = radius(network, 64)
    whole = Detector(network, PLAIN, "cpu")(frame)
    assert whole.std() > 0.05
    tiled = Detector(network, PLAIN, "cpu", tile=128, overlap=32 + 2 * far)(frame)
    np.testing.assert_allclose(tiled, whole, atol=1e-5)
    short = Detector(network, PLAIN, "cpu", tile=128, overlap=32)(frame)
    assert np.abs(short - whole).max() > 1e-4


def test_the_default_overlap_is_enough_for_our_network() -> None:
    network = build_model("small")
    assert radius(network, 512) <= (predict.OVERLAP - 32) / 2


def test_networks_that_see_everything_leave_no_seam() -> None:
    frame = np.zeros((60, 500), np.uint8)
    frame[:, 250:] = 255
    whole = Detector(Mean(), PLAIN, "cpu", tile=200, overlap=64)(frame)
    assert np.ptp(whole) > 0.1
    assert np.abs(np.diff(whole, axis=1)).max() <= np.ptp(whole) / 32 + 1e-6
    np.testing.assert_array_equal(whole, np.repeat(whole[:1], 60, 0))


def test_a_tile_must_be_wider_than_its_overlap() -> None:
    with pytest.raises(DetectError, match="64 pixels is not wider than its overlap of 64"):
        Detector(Identity(32), PLAIN, "cpu", tile=64, overlap=40)


def test_norms_are_folded_into_convolutions() -> None:
    network = trained()
    folded = fold_norms(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    image = torch.randn(1, 1, 64, 96)
    with torch.inference_mode():
        torch.testing.assert_close(folded(image)[-1], network(image)[-1], atol=1e-4, rtol=1e-4)
    assert any(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def test_a_convolution_that_something_else_uses_is_not_folded_into() -> None:
    class Forked(Network):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(1, 1, 3, padding=1), nn.BatchNorm2d(1)
            self.norm.running_mean.fill_(0.5)
            self.norm.running_var.fill_(4.0)

        def segment(self, image: Tensor) -> tuple[Tensor, ...]:
            once = self.conv(image)
            return (self.norm(once) + once + self.norm(self.conv(once)),)

    network = Forked().eval()
    image = torch.randn(1, 1, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(fold_norms(network)(image)[0], network(image)[0])


def test_what_cannot_be_traced_stays_as_it_is() -> None:
    class Branching(Identity):
        def segment(self, image: Tensor) -> tuple[Tensor, ...]:
            return (image if image.mean() > 0 else -image,)

    network = Branching()
    assert fold_norms(network) is network


@pytest.mark.parametrize("name", ["small", "acm"])
def test_weights_become_a_detector(name: str, tmp_path: Path) -> None:
    network, path = trained(name), tmp_path / "w.safetensors"
    write_weights(path, Weights(name, OWN, network.state_dict(), {}))
    frame = noise((70, 90))
    plain = Detector(network, OWN, "cpu")(frame)
    np.testing.assert_allclose(load_detector(path, "cpu")(frame), plain, atol=1e-4)
    coarse = load_detector(path, "cpu", "bfloat16")
    assert coarse.network is not network
    assert 0 < np.abs(coarse(frame) - plain).max() < 0.1


def test_unknown_devices_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(DetectError, match="device 'gpu' cannot be used"):
        Detector(Identity(), PLAIN, "gpu")


def test_shipped_weights_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict, "files", lambda package: tmp_path / package)
    with pytest.raises(DetectError, match=r"small\.safetensors: no weights .* give --weights"):
        shipped_weights()
    path = tmp_path / "detect" / "weights" / "small.safetensors"
    path.parent.mkdir(parents=True)
    path.touch()
    assert shipped_weights() == path


def by_hand(frame: np.ndarray, probability: np.ndarray, threshold: float) -> list[Detection]:
    """Detections by SciPy's labelling, in raster order, one after the other."""
    mask = probability > threshold
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    found = []
    for label in range(1, count + 1):
        rows, cols = np.nonzero(labels == label)
        top, left, bottom, right = rows.min(), cols.min(), rows.max() + 1, cols.max() + 1
        near = np.zeros(mask.shape, bool)
        near[max(top - 20, 0) : bottom + 20, max(left - 20, 0) : right + 20] = True
        around = frame[near & ~mask].astype(float)
        own = frame[rows, cols].astype(float)
        flat = not around.size or around.std() == 0
        found.append(
            (
                rows[0] * mask.shape[1] + cols[0],
                Detection(
                    int(np.floor(rows.mean() + 0.5)),
                    int(np.floor(cols.mean() + 0.5)),
                    (int(top), int(left), int(bottom), int(right)),
                    len(rows),
                    float(probability[rows, cols].max()),
                    None if flat else abs(own.mean() - around.mean()) / around.std(),
                ),
            )
        )
    return [detection for _, detection in sorted(found, key=lambda item: item[0])]


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    share=st.sampled_from([0.0, 0.02, 0.3, 1.0]),
    threshold=st.sampled_from([0.1, 0.5]),
    seed=st.integers(0, 9),
)
def test_detections_are_the_components(
    shape: tuple[int, int], share: float, threshold: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    frame = rng.integers(0, 60000, shape).astype(np.uint16)
    probability = np.where(
        rng.random(shape) < share, rng.uniform(0.5, 1, shape), rng.uniform(0, 0.4, shape)
    ).astype(np.float32)
    expected = by_hand(frame, probability, threshold)
    found = find_detections(frame, probability, threshold)
    assert len(found) == len(expected)
    if found and found[0].scr is not None:
        mask = np.asarray(probability > threshold)
        ratio = local_scr(frame, mask, find_targets(mask)[0])
        assert found[0].scr == pytest.approx(ratio, rel=1e-9)
    for one, other in zip(found, expected, strict=True):
        assert one.scr == (None if other.scr is None else pytest.approx(other.scr, rel=1e-9))
        assert (*vars(one).values(),)[:-1] == (*vars(other).values(),)[:-1]


def test_a_constant_background_has_no_ratio() -> None:
    frame, probability = np.full((50, 50), 7, np.uint8), np.zeros((50, 50))
    frame[20, 30], probability[20, 30] = 90, 0.75
    assert find_detections(frame, probability) == [
        Detection(20, 30, (20, 30, 21, 31), 1, 0.75, None)
    ]


@pytest.mark.parametrize("bits", [8, 16])
def test_probability_maps_say_what_the_map_says(bits: int) -> None:
    half = np.float32(0.5)
    probability = np.array(
        [[0, 1, half, np.nextafter(half, np.float32(1)), np.nextafter(half, np.float32(0))]],
        np.float32,
    )
    probability = np.hstack([probability, np.random.default_rng(0).random((1, 500), np.float32)])
    data = encode_probability(probability, bits)
    read = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert read.dtype == (np.uint8 if bits == 8 else np.uint16)
    back = read / (2**bits - 1)
    assert np.abs(back - probability).max() <= 0.5 / (2**bits - 1) + 1e-9
    np.testing.assert_array_equal(back > 0.5, probability > 0.5)


def test_frames_are_named_below_the_folder_that_was_given(tmp_path: Path) -> None:
    files = [tmp_path / "a" / "x.png", tmp_path / "a" / "b.c" / "x.2.tif", tmp_path / "y.png"]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    assert name_frames([tmp_path / "a", files[2]]) == {
        "b.c/x.2": files[1],
        "x": files[0],
        "y": files[2],
    }
    assert name_frames([files[2], files[2]]) == {"y": files[2]}
    other = tmp_path / "x.tif"
    other.touch()
    with pytest.raises(PredictionError, match=r"x\.tif: would be called x, as .*x\.png; give"):
        name_frames([tmp_path / "a", other])
    (tmp_path / "none").mkdir()
    with pytest.raises(FrameError, match="none: holds no frames"):
        name_frames([tmp_path / "none"])
