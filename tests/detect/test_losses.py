import numpy as np
import pytest
import torch

from detect.losses import LOSSES, hard_bce, make_loss, soft_iou, soft_iou_bce, soft_iou_hard_bce
from detect.recipe import Loss


def test_soft_iou_is_the_published_formula() -> None:
    rng = np.random.default_rng(0)
    logits, truth = rng.normal(size=(2, 1, 5, 6)), rng.random((2, 1, 5, 6)) < 0.3
    p = 1 / (1 + np.exp(-logits))
    expected = 1 - ((p * truth).sum() + 1) / (p.sum() + truth.sum() - (p * truth).sum() + 1)
    given = soft_iou([torch.tensor(logits)], torch.tensor(truth, dtype=torch.float32))
    assert given.item() == pytest.approx(expected, rel=1e-5)
    bce = -np.where(truth, np.log(p), np.log(1 - p)).mean()
    both = soft_iou_bce([torch.tensor(logits)], torch.tensor(truth, dtype=torch.float32))
    assert both.item() == pytest.approx(expected + bce, rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_deep_supervision_is_the_mean(name: str) -> None:
    loss = LOSSES[name]
    first, second = torch.randn(2, 2, 1, 4, 4)
    truth = (torch.rand(2, 1, 4, 4) < 0.2).float()
    mean = (loss([first], truth) + loss([second], truth)) / 2
    torch.testing.assert_close(loss([first, second], truth), mean)


@pytest.mark.parametrize("name", LOSSES)
def test_a_perfect_answer_costs_nothing_and_low_precision_is_no_harm(name: str) -> None:
    truth = (torch.rand(2, 1, 8, 8) < 0.2).float()
    assert LOSSES[name]([(truth - 0.5).bfloat16() * 80], truth).item() == pytest.approx(0, abs=1e-5)


def test_hard_cross_entropy_weighs_outlines_and_drops_the_easy_half() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(2, 1, 7, 9))
    truth = np.zeros((2, 1, 7, 9), bool)
    truth[0, 0, 2:5, 3:6] = True
    p = 1 / (1 + np.exp(-logits))
    plain = -np.where(truth, np.log(p), np.log(1 - p))
    given = torch.tensor(logits), torch.tensor(truth, dtype=torch.float32)
    for edge, share in ((4.0, 0.5), (2.5, 0.2), (1.0, 1.0)):
        each = plain.copy()
        # The outline: every pixel of the 3 x 3 target but its middle, and the ring around it.
        each[0, 0, 1:6, 2:7] *= edge
        each[0, 0, 3, 4] /= edge
        hardest = [np.sort(image.ravel())[::-1][: int(63 * share)].mean() for image in each]
        alone = hard_bce([given[0]], given[1], edge_weight=edge, hard_share=share).item()
        assert alone == pytest.approx(np.mean(hardest), rel=1e-5)
        recipe = Loss("soft_iou_hard_bce", edge, share, "batch", 0.0)
        both = make_loss(recipe)([given[0]], given[1]).item()
        assert both == pytest.approx(alone + soft_iou([given[0]], given[1]).item(), rel=1e-5)
    assert soft_iou_hard_bce([given[0]], given[1]).item() == pytest.approx(
        soft_iou([given[0]], given[1]).item() + hard_bce([given[0]], given[1]).item(), rel=1e-5
    )


@pytest.mark.parametrize("name", LOSSES)
def test_over_sources_images_are_summed_and_sources_averaged(name: str) -> None:
    # Two sources, of three images and of two: the published sum over an image and its negatives.
    logits = torch.randn(5, 1, 6, 7)
    truth = (torch.rand(5, 1, 6, 7) < 0.2).float()
    loss = LOSSES[name]
    alone = [loss([logits[i : i + 1]], truth[i : i + 1]) for i in range(5)]
    expected = (sum(alone[:3]) + sum(alone[3:])) / 2
    torch.testing.assert_close(loss([logits], truth, 2), expected)


@pytest.mark.parametrize("name", LOSSES)
def test_nothing_is_lost_on_an_answer_that_is_the_truth_even_if_that_is_a_probability(
    name: str,
) -> None:
    truth = torch.rand(2, 1, 8, 8, dtype=torch.float64)
    logits = truth.logit().requires_grad_()
    loss = LOSSES[name]([logits], truth)
    assert loss.item() == pytest.approx(0, abs=1e-5)
    for _ in range(5):
        other = LOSSES[name]([truth.logit() + torch.randn_like(truth) / 3], truth)
        assert other > loss


def test_hard_cross_entropy_takes_the_outline_of_what_is_probable() -> None:
    logits = torch.randn(1, 1, 9, 9)
    truth = torch.zeros(1, 1, 9, 9)
    truth[0, 0, 3:6, 3:6] = 1
    soft = truth * 0.98 + 0.01
    # As if it were a label, but for what the softness itself is worth.
    ratio = hard_bce([logits], soft, hard_share=1.0) / hard_bce([logits], truth, hard_share=1.0)
    assert ratio.item() == pytest.approx(1, abs=0.1)
