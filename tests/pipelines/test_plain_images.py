"""Images that other readers would show otherwise leave every command as grey PNGs of our reading.

Such an image beside masks and boxes of our reading would be a set whose labels are beside their
targets, for whoever reads it without EXIF, or with a reader that scrambles planes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from image_files import encoded, exif, png, tiff, turned
from PIL import Image
from small_sets import Outcome, SmallSet

from synth.frames import read_frame

Synth = Callable[..., Outcome]
Pixels = np.ndarray[Any, Any]


def turned_png(frame: Pixels) -> bytes:
    return png(turned(frame, 8), 8, before=((b"eXIf", exif(6)),))


def turned_jpeg(frame: Pixels) -> bytes:
    stored = Image.fromarray(np.ascontiguousarray(frame[::-1, ::-1]))
    return encoded(stored, "JPEG", quality=95, exif=b"Exif\0\0" + exif(3))


def planar_tiff(frame: Pixels) -> bytes:
    deep = frame.astype(np.uint16) * 100
    return tiff(np.dstack([deep, deep + 3, deep + 900]), 16, photometric=2, planar=True)


def palette_png(frame: Pixels) -> bytes:
    image = Image.fromarray(255 - frame)
    image.putpalette(bytes(255 - value // 3 for value in range(256 * 3)))
    return encoded(image, "PNG")


KINDS = {
    "turned.png": turned_png,
    "turned.jpg": turned_jpeg,
    "planar.tif": planar_tiff,
    "palette.png": palette_png,
}


def replace_images(root: Path, kind: str) -> dict[str, Pixels]:
    """Write all images below a folder anew; the pixels that our reader gives, by their ids."""
    read = {}
    for path in sorted(root.rglob("*.png")):
        frame = cv2.imread(str(path), -1)
        path.unlink()
        odd = path.with_suffix(Path(kind).suffix)
        odd.write_bytes(KINDS[kind](frame))
        read[path.stem] = read_frame(odd)
        assert read[path.stem].shape == frame.shape
        if kind in ("turned.png", "palette.png"):
            np.testing.assert_array_equal(read[path.stem], frame)
    return read


def assert_plain(root: Path, wanted: dict[str, Pixels]) -> None:
    """There is one file for each id, which simple readers show as our reader did."""
    for id_, pixels in wanted.items():
        (path,) = root.rglob(f"{id_}.*")
        data = path.read_bytes()
        assert path.suffix == ".png"
        assert data[:8] == b"\x89PNG\r\n\x1a\n"
        # Grey, of the frame's own depth.
        assert data[24:26] == bytes((8 * pixels.itemsize, 0))
        with Image.open(path) as image:
            assert image.getexif().get(0x0112, 1) == 1
            np.testing.assert_array_equal(np.asarray(image), pixels)
        np.testing.assert_array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), pixels)


def assert_masks_kept(made: SmallSet, masks: Path) -> None:
    for id_ in made.train + made.test:
        np.testing.assert_array_equal(
            cv2.imread(str(masks / f"{id_}.png"), -1), cv2.imread(str(made.mask(id_)), -1)
        )


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_build_writes_its_originals_plainly(
    synth: Synth, small_set: SmallSet, tmp_path: Path, kind: str
) -> None:
    wanted = replace_images(small_set.root / "images", kind)
    config = tmp_path / "c.yaml"
    config.write_text("negatives: {count: 2, steps: [mixup, turn: {side: 9}]}\n")
    done = synth("build", config, "--data", small_set.root, "--out", tmp_path / "out")
    assert done.status == 0, done.err
    assert set(wanted) == {*small_set.train, *small_set.test}
    assert_plain(tmp_path / "out" / "images", wanted)
    assert_masks_kept(small_set, tmp_path / "out" / "masks")


def test_an_export_writes_images_plainly(
    synth: Synth, small_set: SmallSet, tmp_path: Path, kind: str
) -> None:
    wanted = replace_images(small_set.root / "images", kind)
    done = synth("export", small_set.root, "--format", "yolo", "--out", tmp_path / "out")
    assert done.status == 0, done.err
    assert_plain(tmp_path / "out" / "images", wanted)


def test_an_import_writes_images_plainly(
    synth: Synth, small_set: SmallSet, tmp_path: Path, kind: str
) -> None:
    other = tmp_path / "other"
    assert synth("export", small_set.root, "--format", "yolo", "--out", other).status == 0
    wanted = replace_images(other / "images", kind)
    assert len(wanted) == 6
    done = synth("import", other, "--format", "yolo", "--out", tmp_path / "out")
    assert done.status == 0, done.err
    assert_plain(tmp_path / "out" / "images", wanted)


def test_a_repaired_copy_has_plain_images(
    synth: Synth, small_set: SmallSet, tmp_path: Path, kind: str
) -> None:
    wanted = replace_images(small_set.root / "images", kind)
    done = synth("check", small_set.root, "--fix", "--out", tmp_path / "out")
    assert done.status == 0, done.err
    assert_plain(tmp_path / "out" / "images", wanted)
    assert_masks_kept(small_set, tmp_path / "out" / "masks")
