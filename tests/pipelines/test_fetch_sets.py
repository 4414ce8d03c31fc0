"""Public sets: from an archive in the makers' layout to a set that is read and trained on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import file_server as fs
import numpy as np
import pytest
from public_archives import Pairs, below, lists, make_pairs, tarred, write_files, zipped
from small_sets import Outcome

from pipelines.build.parallel import Pool
from pipelines.fetch import public as module
from pipelines.fetch.fingerprint import Published, digest_pair, fingerprint, published
from pipelines.fetch.layout import SEED, TEST_SHARE
from pipelines.fetch.sets import SETS
from synth.dataset import open_dataset
from synth.disk.png import encode_png
from synth.inspect.check import check_dataset
from synth.inspect.splits import group_by_likeness, scene_signature, split_groups

Synth = Callable[..., Outcome]
Tree = Callable[[Path], dict[str, bytes]]
Know = Callable[..., Published]

IDS = [f"Misc_{number}" for number in range(1, 9)]
PAIRS = make_pairs(IDS)
OTHERS = make_pairs([f"XDU{number}" for number in range(5)], seed=7)
SPLITS = {"train": IDS[:4], "val": IDS[4:6], "test": IDS[6:]}
TWO = {"train": IDS[:5], "test": IDS[5:]}
V1 = {
    **PAIRS.files("images", "masks", "_pixels0"),
    **{f"masks/{id_}.xml": b"<xml/>" for id_ in IDS},
    **lists("idx_427", **SPLITS, trainval=IDS[:6], trainvaltest=IDS),
    **lists("idx_320", train=IDS[:1], test=IDS[1:2], trainval=IDS[:1]),
    "README.md": b"text",
    "gallery.png": encode_png(np.zeros((30, 30), np.uint8)),
}


def packed_v1() -> dict[str, bytes]:
    """As the repository is today: with archives in it."""
    inner = {name: below(name.removesuffix(".zip"), {}) for name in ("images.zip", "masks.zip")}
    for name, data in V1.items():
        folder = f"{name.split('/')[0]}.zip"
        if folder in inner:
            inner[folder] |= {name: data, f"__MACOSX/{name.replace('/', '/._')}": b"\0fork"}
    loose = {
        name: data for name, data in V1.items() if name.split("/")[0] not in ("images", "masks")
    }
    return loose | {name: zipped(files) for name, files in inner.items()}


V2 = {
    **PAIRS.files("mixed", "annotations/masks", "_pixels0"),
    **{f"annotations/bboxes/{id_}.xml": b"<xml/>" for id_ in IDS},
    **{name: d for name, d in PAIRS.files("images/targets", "no").items() if "Misc_1" in name},
    **{name: d for name, d in PAIRS.files("images/backgrounds", "no").items() if "Misc_2" in name},
    **lists("splits", **{f"{name}_full": ids for name, ids in SPLITS.items()}, train_v1=IDS[:2]),
}
for _name in [name for name in V2 if name.startswith("no/")]:
    del V2[_name]
NUDT = {**PAIRS.files("images", "masks"), **lists("50_50", **TWO)}
BASIC = {
    **below("datasets/NUDT-SIRST", PAIRS.files("images", "masks")),
    **below(
        "datasets/NUDT-SIRST",
        lists("img_idx", **{f"{split}_NUDT-SIRST": ids for split, ids in TWO.items()}),
    ),
    **below("datasets/IRSTD-1K", OTHERS.files("images", "masks")),
    **below("datasets/NUDT-SIRST-Sea", OTHERS.files("images", "masks")),
}
IRSTD = below("IRSTD-1k", PAIRS.files("IRSTD1k_Img", "IRSTD1k_Label"))

LAYOUTS = {
    "v1": ("nuaa-sirst", zipped(below("sirst-84302ab", V1)), SPLITS, "idx_427"),
    "v1 packed": ("nuaa-sirst", zipped(below("sirst-master", packed_v1())), SPLITS, "idx_427"),
    "v1 tar": ("nuaa-sirst", tarred(below("sirst-84302ab", V1)), SPLITS, "idx_427"),
    "v2": ("sirst-v2", zipped(below("open-sirst-v2-a927e5c", V2)), SPLITS, "splits"),
    "nudt": ("nudt-sirst", zipped(below("NUDT-SIRST", NUDT)), TWO, "50_50"),
    "nudt bare": ("nudt-sirst", zipped(NUDT), TWO, "50_50"),
    "nudt of three": ("nudt-sirst", zipped(BASIC), TWO, "img_idx"),
    "irstd": (
        "irstd-1k",
        zipped(IRSTD | lists("IRSTD-1k", trainval=TWO["train"], test=TWO["test"])),
        TWO,
        "beside the images",
    ),
}
every_layout = pytest.mark.parametrize("layout", list(LAYOUTS))


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture(autouse=True)
def know(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Know:
    """Make some pairs the published pixels of every set."""

    def set_known(pairs: Pairs = PAIRS, only: tuple[str, ...] = tuple(SETS)) -> Published:
        root = tmp_path / "published" / f"{len(list(tmp_path.glob('published/*')))}"
        dataset = open_dataset(write_files(root, pairs.files("images", "masks")))
        digests = [digest_pair(dataset, id_) for id_ in dataset.images]
        known = Published(
            fingerprint(digests),
            "a test",
            tuple(d.image[:4] for d in digests),
            tuple(d.mask[:4] for d in digests),
        )
        monkeypatch.setattr(module, "published", lambda: dict.fromkeys(only, known))
        return known

    set_known()
    return set_known


@pytest.fixture
def server() -> Iterator[fs.FileServer]:
    with fs.file_server(LAYOUTS["v1"][1]) as served:
        yield served


def left_over(folder: Path) -> list[str]:
    """What lies beside the sets that tests write themselves."""
    return sorted(path.name for path in folder.iterdir() if path.name != "published")


def same_pixels(root: Path, pairs: Pairs) -> None:
    dataset = open_dataset(root)
    for id_ in dataset.ids("all"):
        np.testing.assert_array_equal(dataset.read_image(id_), pairs.images[id_])
        np.testing.assert_array_equal(dataset.read_mask(id_), pairs.masks[id_] > 0)


@every_layout
def test_every_layout_becomes_a_set_that_is_trained_on(
    layout: str, tmp_path: Path, synth: Synth, server: fs.FileServer
) -> None:
    from detect.data import read_labelled

    name, server.data, splits, split = LAYOUTS[layout]
    out = tmp_path / "out"
    done = synth("fetch", name, "--out", out, "--url", server.url, "--json")
    assert (done.status, done.err) == (0, "")
    told = json.loads(done.out)
    assert told["verified"] is True
    assert told["split"].endswith(split)
    assert told["counts"] == {name: len(ids) for name, ids in splits.items()}
    dataset = open_dataset(out)
    assert {name: set(ids) for name, ids in dataset.splits.items()} == {
        name: set(ids) for name, ids in splits.items()
    }
    same_pixels(out, PAIRS)
    assert set(dataset.masks) == set(dataset.images)
    assert check_dataset(dataset).sound
    frames = read_labelled(dataset, dataset.ids("train"))
    assert len(frames) == len(splits["train"])
    assert synth("verify", out).status == 0
    assert left_over(tmp_path) == ["out"]


@every_layout
def test_an_archive_by_hand_is_taken_and_left_alone(
    layout: str, tmp_path: Path, synth: Synth
) -> None:
    name, data, splits, _ = LAYOUTS[layout]
    archive = tmp_path / "mine.bin"
    archive.write_bytes(data)
    done = synth("fetch", name, "--out", tmp_path / "out", "--archive", archive)
    assert done.status == 0, done.err
    assert open_dataset(tmp_path / "out").ids("test") == tuple(splits["test"])
    assert archive.read_bytes() == data
    assert left_over(tmp_path) == ["mine.bin", "out"]


def test_an_unpacked_folder_is_taken_and_left_alone(
    tmp_path: Path, synth: Synth, tree: Tree
) -> None:
    folder = write_files(tmp_path / "mine", below("sirst-master", V1))
    before = tree(folder)
    done = synth("fetch", "nuaa-sirst", "--out", tmp_path / "out", "--archive", folder)
    assert done.status == 0, done.err
    assert tree(folder) == before
    same_pixels(tmp_path / "out", PAIRS)


@pytest.mark.parametrize("name", ["nudt-sirst", "irstd-1k"])
def test_a_set_without_a_link_says_where_it_is(name: str, tmp_path: Path, synth: Synth) -> None:
    done = synth("fetch", name, "--out", tmp_path / "out")
    assert done.status == 1
    assert SETS[name].by_hand in done.err
    assert "--archive" in done.err
    assert done.err.count("\n") == 1
    assert left_over(tmp_path) == []


def test_other_pixels_are_an_error_that_counts_them(
    tmp_path: Path, synth: Synth, server: fs.FileServer
) -> None:
    changed = dict(V1)
    for id_, folder, suffix in (("Misc_2", "images", ""), ("Misc_3", "images", "")):
        image = PAIRS.images[id_].copy()
        image[0, 0] += 1
        changed[f"{folder}/{id_}{suffix}.png"] = encode_png(image)
    mask = PAIRS.masks["Misc_7"].copy()
    mask[5, 5] = 255 - mask[5, 5]
    changed["masks/Misc_7_pixels0.png"] = encode_png(mask)
    server.data = zipped(below("sirst", changed))
    out = tmp_path / "out"
    done = synth("fetch", "nuaa-sirst", "--out", out, "--url", server.url)
    assert done.status == 1
    assert "2 images of other pixels (Misc_2, Misc_3); 1 masks of other pixels (Misc_7)" in done.err
    archive = tmp_path / "nuaa-sirst.zip"
    assert f"--archive {archive} --no-verify" in done.err
    assert left_over(tmp_path) == ["nuaa-sirst.zip"]
    done = synth("fetch", "nuaa-sirst", "--out", out, "--archive", archive, "--no-verify", "--json")
    told = json.loads(done.out)
    assert (done.status, told["verified"]) == (0, False)
    assert "Misc_7" in told["difference"]
    assert "NOT those of the published set" in (out / "README.md").read_text()
    again = synth("fetch", "nuaa-sirst", "--out", out)
    assert "NOT those of the published set" in again.out


def test_an_image_too_few_is_an_error(tmp_path: Path, synth: Synth) -> None:
    files = {name: data for name, data in NUDT.items() if "Misc_8" not in name}
    files |= lists("50_50", train=IDS[:5], test=IDS[5:7])
    (tmp_path / "a.zip").write_bytes(zipped(files))
    arguments = ("fetch", "nudt-sirst", "--out", tmp_path / "out", "--archive", tmp_path / "a.zip")
    done = synth(*arguments)
    assert done.status == 1
    assert "7 pairs in place of 8" in done.err


def test_masks_of_other_images_are_an_error(tmp_path: Path, synth: Synth, know: Know) -> None:
    pairs = make_pairs(["1", "2"])
    same = replace(
        pairs, images={id_: pairs.images["1"] + np.uint8(n) for n, id_ in enumerate("12")}
    )
    same = replace(same, masks={id_: pairs.masks[id_][:, :48] for id_ in "12"})
    know(same)
    swapped = replace(same, masks={"1": same.masks["2"], "2": same.masks["1"]})
    (tmp_path / "a.zip").write_bytes(zipped(swapped.files("images", "masks")))
    done = synth("fetch", "irstd-1k", "--out", tmp_path / "o", "--archive", tmp_path / "a.zip")
    assert done.status == 1
    assert "paired otherwise" in done.err


def test_a_set_nobody_knows_is_taken_and_says_so(
    tmp_path: Path, synth: Synth, know: Know, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = know(only=())
    monkeypatch.setitem(SETS, "irstd-1k", replace(SETS["irstd-1k"], pairs=8))
    (tmp_path / "a.zip").write_bytes(zipped(IRSTD))
    done = synth("fetch", "irstd-1k", "--out", tmp_path / "o", "--archive", tmp_path / "a.zip")
    assert done.status == 0
    assert "not verified" in done.out
    assert known.fingerprint in done.out
    again = synth("fetch", "irstd-1k", "--out", tmp_path / "o", "--json")
    assert json.loads(again.out)["verified"] is None


def test_the_number_of_pairs_counts_where_pixels_are_not_known(
    tmp_path: Path, synth: Synth, know: Know
) -> None:
    know(only=())
    (tmp_path / "a.zip").write_bytes(zipped(IRSTD))
    arguments = ("fetch", "irstd-1k", "--out", tmp_path / "o", "--archive", tmp_path / "a.zip")
    done = synth(*arguments)
    assert done.status == 1
    assert "8 pairs in place of 1,001" in done.err
    assert synth(*arguments, "--no-verify").status == 0


def test_without_lists_a_fifth_of_the_scenes_tests(tmp_path: Path, synth: Synth) -> None:
    (tmp_path / "a.zip").write_bytes(zipped(IRSTD))
    done = synth("fetch", "irstd-1k", "--out", tmp_path / "o", "--archive", tmp_path / "a.zip")
    assert done.status == 0
    assert f"20% of the scenes test, seed {SEED}" in done.out
    groups = group_by_likeness({id_: scene_signature(i) for id_, i in PAIRS.images.items()})
    wanted = split_groups(groups, TEST_SHARE, seed=SEED)
    assert {k: set(v) for k, v in open_dataset(tmp_path / "o").splits.items()} == {
        k: set(v) for k, v in wanted.items()
    }


def test_other_lists_go_before_the_archives_own(tmp_path: Path, synth: Synth) -> None:
    folder = write_files(tmp_path / "mine", lists("x", train=IDS[:1], test=IDS[1:]))
    (tmp_path / "a.zip").write_bytes(LAYOUTS["v1"][1])
    common = ("fetch", "nuaa-sirst", "--archive", tmp_path / "a.zip", "--out", tmp_path / "out")
    assert synth(*common, "--lists", folder / "x").status == 0
    assert open_dataset(tmp_path / "out").ids("train") == (IDS[0],)
    assert synth(*common, "--lists", folder / "x").status == 0
    other = write_files(tmp_path / "mine", lists("y", train=IDS[:2], test=IDS[2:]))
    done = synth(*common, "--lists", other / "y")
    assert done.status == 1
    assert "another split" in done.err
    done = synth(*common, "--lists", tmp_path / "mine")
    assert done.status == 1
    assert "no train.txt" in done.err


def test_the_mask_that_does_not_fit_is_brought_to_its_image(
    tmp_path: Path, synth: Synth, know: Know, tree: Tree
) -> None:
    pairs = make_pairs(["Misc_111", "Misc_2"])
    know(pairs)
    large = cv2.resize(pairs.masks["Misc_111"], None, fx=3, fy=3, interpolation=cv2.INTER_NEAREST)
    upstream = replace(pairs, masks=dict(pairs.masks) | {"Misc_111": large})
    files = upstream.files("images", "masks", "_pixels0")
    files |= lists("idx_427", train=["Misc_111"], val=[], test=["Misc_2"])
    folder = write_files(tmp_path / "mine", files)
    before = tree(folder)
    done = synth("fetch", "nuaa-sirst", "--archive", folder, "--out", tmp_path / "out")
    assert done.status == 0, done.err
    assert "the mask of Misc_111 has another size" in done.out
    assert tree(folder) == before
    same_pixels(tmp_path / "out", pairs)


def test_any_other_mask_of_another_size_is_an_error(tmp_path: Path, synth: Synth) -> None:
    masks = dict(PAIRS.masks) | {"Misc_3": np.zeros((9, 9), np.uint8)}
    upstream = replace(PAIRS, masks=masks)
    (tmp_path / "a.zip").write_bytes(zipped(V1 | upstream.files("images", "masks", "_pixels0")))
    common = ("fetch", "nuaa-sirst", "--archive", tmp_path / "a.zip", "--out", tmp_path / "out")
    done = synth(*common, "--no-verify")
    assert done.status == 1
    assert "mask of another size: Misc_3" in done.err
    assert left_over(tmp_path) == ["a.zip"]


def test_colour_becomes_grey_and_grey_is_copied(tmp_path: Path, synth: Synth) -> None:
    colour = cv2.imencode(".png", cv2.merge([PAIRS.images["Misc_1"]] * 3))[1].tobytes()
    files = NUDT | {"images/Misc_1.png": colour}
    (tmp_path / "a.zip").write_bytes(zipped(files))
    done = synth("fetch", "nudt-sirst", "--archive", tmp_path / "a.zip", "--out", tmp_path / "out")
    assert done.status == 0, done.err
    assert cv2.imread(str(tmp_path / "out/images/Misc_1.png"), -1).ndim == 2
    assert (tmp_path / "out/images/Misc_2.png").read_bytes() == files["images/Misc_2.png"]


def test_a_set_that_is_there_needs_no_network(tmp_path: Path, synth: Synth, tree: Tree) -> None:
    out = tmp_path / "out"
    with fs.file_server(LAYOUTS["v1"][1]) as server:
        assert synth("fetch", "nuaa-sirst", "--out", out, "--url", server.url).status == 0
    before = tree(out)
    done = synth("fetch", "nuaa-sirst", "--out", out, "--url", server.url)
    assert (done.status, "is there already" in done.out) == (0, True)
    assert tree(out) == before
    assert "another set" in synth("fetch", "sirst-v2", "--out", out).err
    (out / "images" / "Misc_1.png").unlink()
    assert "is not whole" in synth("fetch", "nuaa-sirst", "--out", out).err


def test_a_folder_of_something_else_is_left_alone(
    tmp_path: Path, synth: Synth, server: fs.FileServer, tree: Tree
) -> None:
    write_files(tmp_path / "out", {"mine.txt": b"1"})
    done = synth("fetch", "nuaa-sirst", "--out", tmp_path / "out", "--url", server.url)
    assert done.status == 1
    assert tree(tmp_path / "out") == {"mine.txt": b"1"}
    assert not server.asked
    write_files(tmp_path, {".new.unpacked/mine.txt": b"1"})
    done = synth("fetch", "nuaa-sirst", "--out", tmp_path / "new", "--url", server.url)
    assert "in the way" in done.err
    assert tree(tmp_path / ".new.unpacked") == {"mine.txt": b"1"}


@pytest.mark.parametrize("suffix", ["zip", "tar.gz"])
def test_the_archive_is_kept_where_asked_for(
    suffix: str, tmp_path: Path, synth: Synth, server: fs.FileServer
) -> None:
    url = server.url.replace("set.zip", f"set.{suffix}?x=1")
    done = synth(
        "fetch", "nuaa-sirst", "--out", tmp_path / "out", "--url", url, "--keep-archive", "--json"
    )
    kept = tmp_path / f"nuaa-sirst.{suffix}"
    assert json.loads(done.out)["archive"] == str(kept)
    assert kept.read_bytes() == server.data
    assert left_over(tmp_path) == [kept.name, "out"]


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"<!DOCTYPE html>", "a web page"), (LAYOUTS["v1"][1][:-30], "same command to get it anew")],
)
def test_what_is_no_whole_archive_is_not_kept(
    data: bytes, words: str, tmp_path: Path, synth: Synth, server: fs.FileServer
) -> None:
    whole, server.data = server.data, data
    arguments = ("fetch", "nuaa-sirst", "--out", tmp_path / "out", "--url", server.url)
    done = synth(*arguments)
    assert done.status == 1
    assert words in done.err
    assert left_over(tmp_path) == []
    server.data = whole
    assert synth(*arguments).status == 0


def test_a_hostile_archive_leaves_nothing(
    tmp_path: Path, synth: Synth, server: fs.FileServer
) -> None:
    server.data = zipped(below("sirst", V1) | {"../../evil.txt": b"x"})
    done = synth("fetch", "nuaa-sirst", "--out", tmp_path / "a" / "out", "--url", server.url)
    assert done.status == 1
    assert "leads out of the folder" in done.err
    assert not list(tmp_path.rglob("evil*"))
    assert not list((tmp_path / "a").iterdir())


def test_a_download_of_something_else_is_kept_to_be_looked_at(
    tmp_path: Path, synth: Synth, server: fs.FileServer
) -> None:
    server.data = zipped({"readme.txt": b"x"})
    done = synth("fetch", "nuaa-sirst", "--out", tmp_path / "out", "--url", server.url)
    assert done.status == 1
    assert f"the archive is {tmp_path / 'nuaa-sirst.zip'}" in done.err
    assert left_over(tmp_path) == ["nuaa-sirst.zip"]
    done = synth(
        "fetch", "nuaa-sirst", "--out", tmp_path / "o", "--url", server.url, "--lists", tmp_path
    )
    assert "no train.txt" in done.err
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"readme.txt": b"x"}, "no folder of images"),
        (PAIRS.files("images", "other"), "no folder of images"),
        (PAIRS.files("a/images", "a/masks") | PAIRS.files("b/images", "b/masks"), "several sets"),
        ({**NUDT, "images/Misc_1.png": b"\x89PNG\r\n\x1a\nno"}, "Misc_1.png"),
        ({**NUDT, **lists("50_50", train=["nobody"], test=[])}, "'nobody'"),
        ({name: d for name, d in NUDT.items() if name != "masks/Misc_1.png"}, "has no mask"),
    ],
)
def test_an_archive_of_something_else_is_one_line(
    files: dict[str, bytes], words: str, tmp_path: Path, synth: Synth
) -> None:
    (tmp_path / "a.zip").write_bytes(zipped(files))
    arguments = ("fetch", "nudt-sirst", "--out", tmp_path / "o", "--archive", tmp_path / "a.zip")
    done = synth(*arguments)
    assert done.status == 1
    assert words in done.err
    assert done.err.count("\n") == 1
    assert left_over(tmp_path) == ["a.zip"]


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("nobody",),
        ("nuaa-sirst", "--archive", "x", "--url", "http://x/"),
        ("nuaa-sirst", "--archive", "x", "--keep-archive"),
        ("nuaa-sirst", "--timeout", "0"),
    ],
)
def test_wrong_usage_is_status_2(arguments: tuple[str, ...], synth: Synth) -> None:
    done = synth("fetch", *arguments)
    assert done.status == 2
    assert done.err.count("\n") == 1


def test_the_list_tells_all_that_a_user_needs(synth: Synth) -> None:
    told = json.loads(synth("fetch", "--list", "--json").out)["sets"]
    assert [row["name"] for row in told] == ["nuaa-sirst", "sirst-v2", "nudt-sirst", "irstd-1k"]
    assert {row["name"] for row in told if row["url"]} == {"nuaa-sirst", "sirst-v2"}
    text = synth("fetch", "--list").out
    for row in told:
        assert all(row[key] in text for key in ("name", "by_hand", "paper", "licence"))


def test_the_packaged_table_fits_the_sets() -> None:
    table = published()
    assert set(table) == {"nuaa-sirst", "sirst-v2", "nudt-sirst"}
    for name, known in table.items():
        assert len(known.images) == len(known.masks) == SETS[name].pairs
        assert len(bytes.fromhex(known.fingerprint)) == 32
        assert {len(short) for short in (*known.images, *known.masks)} == {4}


@pytest.mark.parametrize("step", ["download", "unpack"])
def test_an_interrupt_leaves_what_the_next_run_goes_on_with(
    step: str, tmp_path: Path, server: fs.FileServer
) -> None:
    """Ctrl-C in another process, in the middle of the body or while the set is looked at."""
    half = len(server.data) // 2
    if step == "download":
        server.script.append(fs.stalled(half))
    out = tmp_path / "out"
    script = (
        "import sys, time\n"
        "from pipelines.cli import run_synth\n"
        "from pipelines.fetch import public\n"
        "plain = public.unpack\n"
        "def slow(*arguments):\n"
        "    plain(*arguments)\n"
        "    print('unpacked', flush=True)\n"
        "    time.sleep(60)\n"
        f"if {step!r} == 'unpack':\n"
        "    public.unpack = slow\n"
        "run_synth()\n"
    )
    arguments = ["fetch", "nuaa-sirst", "--out", str(out), "--url", server.url, "--no-verify"]
    command = [sys.executable, "-c", script, *arguments]
    environment = dict(os.environ) | {"PYTHONPATH": str(Path(module.__file__).parents[2])}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        partial = tmp_path / "nuaa-sirst.zip.partial"
        if step == "download":
            assert server.reached.wait(120)
            while not partial.exists() or partial.stat().st_size < half:
                assert process.poll() is None
        else:
            assert process.stdout.readline() == "unpacked\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert (process.returncode, "interrupted" in errors) == (130, True)
    assert "Traceback" not in errors
    assert left_over(tmp_path) == ["nuaa-sirst.zip.partial", "nuaa-sirst.zip.partial.json"]
    assert partial.read_bytes() == server.data[: half if step == "download" else None]
    asked = len(server.asked)
    source = module.Source(server.url)
    assert module.fetch_set(SETS["nuaa-sirst"], out, source, Pool(1)).verified
    again = server.asked[asked:]
    assert [x.range for x in again] == ([f"bytes={half}-"] if step == "download" else [])
    assert left_over(tmp_path) == ["out"]


def test_what_a_killed_run_left_is_cleared(
    tmp_path: Path, synth: Synth, server: fs.FileServer
) -> None:
    write_files(tmp_path, {".out.unpacked/.unpacked": b"", ".out.unpacked/nuaa-sirst/a.png": b"x"})
    done = synth("fetch", "nuaa-sirst", "--out", tmp_path / "out", "--url", server.url)
    assert done.status == 0, done.err
    assert left_over(tmp_path) == ["out"]


def test_two_processes_do_not_fetch_to_one_place(
    tmp_path: Path, synth: Synth, server: fs.FileServer
) -> None:
    out = tmp_path / "out"
    with module._workplace(out):
        done = synth("fetch", "nuaa-sirst", "--out", out, "--url", server.url)
    assert (done.status, "another process" in done.err) == (1, True)
    assert not server.asked
