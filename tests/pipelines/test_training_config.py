from pathlib import Path

import pytest
import torch

from detect.losses import LOSSES, make_loss
from detect.recipe import Loss, Sampler
from pipelines.config import load_config
from pipelines.errors import ConfigError
from pipelines.training import ComputeSettings, TrainConfig

CONFIGS = Path(__file__).parents[2] / "configs" / "train"


def read(tmp_path: Path, text: str, *overrides: str) -> TrainConfig:
    path = tmp_path / "c.yaml"
    path.write_text("steps: 1\n" + text)
    return load_config(path, TrainConfig, overrides)


def test_a_name_alone_stands_for_its_settings(tmp_path: Path) -> None:
    short = read(tmp_path, "loss: hard_bce\nsampler: sources\noptimiser: adam\nschedule: cosine")
    long = read(
        tmp_path,
        "loss: {name: hard_bce}\nsampler: {name: sources}\n"
        "optimiser: {name: adam}\nschedule: {name: cosine}",
    )
    assert short == long
    assert short.recipe().loss == Loss("hard_bce", 4.0, 0.5, "batch", 0.0)
    assert short.recipe().sampler == Sampler("sources", None, None)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_can_be_asked_for(tmp_path: Path, name: str) -> None:
    assert make_loss(read(tmp_path, f"loss: {name}").recipe().loss)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("loss: {over: sources}", r"loss\.over needs .*sampler=sources"),
        ("loss: {consistency: 1}", r"loss\.consistency needs .*sampler=sources"),
        ("sampler: {negatives: 3}", "negatives: goes with name: sources"),
        ("sampler: {name: sources, originals: 0.5}", "originals: .*set negatives"),
        ("sampler: {originals: 1.5}", r"sampler\.originals"),
        ("loss: soft_io", r"loss\.name"),
        ("loss: {hard_share: 0}", r"loss\.hard_share"),
        ("augment: {pick: 0}", r"augment\.pick"),
        ("augment: {shift: 2}", r"augment\.shift"),
        ("optimiser: {clip: 0}", r"optimiser\.clip"),
        ("schedule: {milestones: [0.5, 2]}", r"schedule\.milestones"),
        ("sampler: {negative: 3}", "did you mean 'negatives'"),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)
    assert "c.yaml" in str(caught.value)


def test_the_strong_recipes_are_those_of_the_literature() -> None:
    toolbox = load_config(CONFIGS / "dnanet-strong.yaml", TrainConfig).recipe()
    assert (toolbox.network, toolbox.in_channels, toolbox.normalisation) == ("dnanet", 1, "dataset")
    assert (toolbox.batch, toolbox.epochs, toolbox.validation) == (16, 400, 0)
    assert (toolbox.augment.crop, toolbox.augment.target_share) == (256, 0.5)
    assert (toolbox.optimiser.name, toolbox.optimiser.lr) == ("adam", 5e-4)
    assert (toolbox.schedule.milestones, toolbox.schedule.factor) == ((0.5, 0.75), 0.1)
    assert toolbox.loss.name == "soft_iou"
    pal = load_config(CONFIGS / "dnanet-pal.yaml", TrainConfig).recipe()
    assert (pal.optimiser.name, pal.optimiser.lr, pal.schedule.name) == ("adamw", 1e-3, "constant")
    assert pal.loss == Loss("hard_bce", 4.0, 0.5, "batch", 0.0)
    assert (pal.augment.pick, pal.augment.rotation, pal.augment.scale) == (3, 45, (0.8, 1.2))


@pytest.mark.parametrize(
    ("capabilities", "arithmetic"),
    [({"avx512_bf16": True}, "bf16-mixed"), ({"avx2": True, "amx_bf16": False}, "32-true")],
)
def test_precision_is_what_the_processor_multiplies_in(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], arithmetic: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert ComputeSettings(device="cpu").settle().precision == arithmetic
    asked = ComputeSettings(device="cpu", precision="bf16-mixed")
    assert asked.settle().precision == "bf16-mixed"
