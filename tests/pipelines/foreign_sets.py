"""Sets as other tools write them, drawn at random, each with what a right reading of it is.

What is right comes from other programs (pycocotools, scikit-image, Pillow) and, for boxes, from
exact arithmetic on the centres of the pixels.
"""

from __future__ import annotations

import base64
import io
import json
import math
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask
from skimage.draw import disk
from skimage.measure import label, points_in_poly

Bools = NDArray[np.bool_]
KINDS = ("yolo", "yolo-seg", "coco", "voc", "voc-mask", "labelme", "npy")


@dataclass
class Wanted:
    """What is right for a set.

    Attributes
    ----------
    format : str
        The name that ``--format`` takes.
    masks : dict of str to ndarray
        By id.
    annotations : int or None
        How many there are.
    refused : str
        A text in the message of the error; empty for a set that is read.
    """

    format: str
    masks: dict[str, Bools] = field(default_factory=dict)
    annotations: int | None = 0
    refused: str = ""


def box_mask(
    left: Fraction, top: Fraction, right: Fraction, bottom: Fraction, shape: tuple[int, int]
) -> Bools:
    """The pixels whose centres a box holds; along a side that holds none, the one in the middle."""
    mask = np.zeros(shape, bool)
    held = []
    for low, high, length in ((top, bottom, shape[0]), (left, right, shape[1])):
        places = [p for p in range(length) if low <= p + Fraction(1, 2) < high]
        middle = (max(low, Fraction(0)) + min(high, Fraction(length))) / 2
        held.append(places or [min(math.floor(middle), length - 1)])
    mask[np.ix_(*held)] = True
    return mask


def polygon_mask(points: NDArray[np.float64], shape: tuple[int, int]) -> Bools:
    """The pixels whose centres a polygon holds, by scikit-image."""
    cols, rows = np.meshgrid(np.arange(shape[1]) + 0.5, np.arange(shape[0]) + 0.5)
    return points_in_poly(np.stack((cols, rows), -1).reshape(-1, 2), points).reshape(shape)


def count_targets(mask: Bools) -> int:
    """8-connected components, by scikit-image."""
    return int(label(mask, connectivity=2).max())


def make_foreign_set(rng: np.random.Generator, root: Path) -> Wanted:
    """Write a random set, sound or with one fault, into a new folder."""
    kind = KINDS[rng.integers(len(KINDS))]
    maker = _Maker(rng, root, kind)
    maker.write(FAULTS[rng.integers(len(FAULTS))] if rng.random() < 0.35 else "")
    return maker.wanted


FAULTS = ("size", "outside", "no extent", "not finite", "orphan", "form")


class _Maker:
    """Writes one set."""

    def __init__(self, rng: np.random.Generator, root: Path, kind: str) -> None:
        self.rng = rng
        self.root = root
        self.kind = kind
        names = {"voc-mask": "voc"}
        self.wanted = Wanted(names.get(kind, kind))

    def write(self, fault: str) -> None:
        """Write all of it; a kind that cannot have the fault is written soundly."""
        self.root.mkdir(parents=True)
        ids = [f"f{number}" for number in range(int(self.rng.integers(1, 4)))]
        shapes = {
            id_: (int(self.rng.integers(9, 70)), int(self.rng.integers(9, 70))) for id_ in ids
        }
        getattr(self, f"_write_{self.kind.replace('-', '_')}")(shapes, fault)

    def _frame(self, folder: str, id_: str, shape: tuple[int, int]) -> str:
        """Write an image in a container and a depth of its own; its name."""
        suffix = (".png", ".bmp", ".tif", ".jpg")[self.rng.integers(4)]
        deep = suffix in (".png", ".tif") and self.rng.random() < 0.5
        frame = self.rng.integers(0, 255, shape).astype(np.uint16 if deep else np.uint8)
        (self.root / folder).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(self.root / folder / f"{id_}{suffix}"), frame * (200 if deep else 1))
        return f"{id_}{suffix}"

    def _box(self, shape: tuple[int, int], step: int = 4) -> tuple[Fraction, ...]:
        """A box at the quarters of pixels, some of it in the image: left, top, right, bottom."""
        edges: list[Fraction] = []
        for length in shape[::-1]:
            side = Fraction(int(self.rng.integers(1, 6 * step)), step)
            low = Fraction(int(self.rng.integers(-step, (length - 1) * step)), step)
            if low + side <= 0:
                low = Fraction(0)
            edges += [low, low + side]
        left, right, top, bottom = edges
        return left, top, right, bottom

    def _add(self, id_: str, mask: Bools) -> None:
        self.wanted.masks[id_] |= mask
        if self.wanted.annotations is not None:
            self.wanted.annotations += 1

    def _refuse(self, text: str) -> None:
        self.wanted.refused = text

    def _write_yolo(self, shapes: dict[str, tuple[int, int]], fault: str) -> None:
        classes = int(self.rng.integers(1, 4))
        nested = "rec1/" if self.rng.random() < 0.3 else ""
        for number, (id_, shape) in enumerate(shapes.items()):
            own = f"rec1_{id_}" if nested else id_
            self.wanted.masks[own] = np.zeros(shape, bool)
            self._frame(f"images/train/{nested}", id_, shape)
            height, width = shape
            lines = []
            name = id_.upper() if self.rng.random() < 0.2 else id_
            for _ in range(int(self.rng.integers(0 if number else 1, 5))):
                box = self._box(shape)
                self._add(own, box_mask(*box, shape))
                left, top, right, bottom = box
                values = (
                    (left + right) / 2 / width,
                    (top + bottom) / 2 / height,
                    (right - left) / width,
                    (bottom - top) / height,
                )
                digits = (6, 8, 12)[self.rng.integers(3)]
                words = [f"{float(value):.{digits}f}" for value in values]
                lines.append(f"{self.rng.integers(classes)} {' '.join(words)}")
            if number == 0 and fault:
                bad = {
                    "outside": "0 1.2 0.5 0.1 0.1",
                    "no extent": "0 0.5 0.5 0 0.1",
                    "not finite": "0 nan 0.5 0.1 0.1",
                    "form": "0 0.5 0.5 0.1 0.1 0.93",
                }.get(fault)
                if bad is not None:
                    lines.append(bad)
                    self._refuse(f"{name}.txt")
            place = self.root / f"labels/train/{nested}"
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{name}.txt").write_text("\n".join(lines))
        if fault == "orphan":
            (self.root / "labels/train/lone.txt").write_text("0 0.5 0.5 0.1 0.1\n")
            self._refuse("lone.txt")
        names = ["target", "plane", "bird"][:classes]
        (self.root / "data.yaml").write_text(json.dumps({"names": names}))

    def _write_yolo_seg(self, shapes: dict[str, tuple[int, int]], fault: str) -> None:
        for number, (id_, shape) in enumerate(shapes.items()):
            height, width = shape
            self.wanted.masks[id_] = np.zeros(shape, bool)
            self._frame("train/images", id_, shape)
            lines = []
            for _ in range(int(self.rng.integers(0 if number else 1, 4))):
                centre = self.rng.uniform((1, 1), (width - 1, height - 1))
                points = centre + self.rng.normal(0, 3, (int(self.rng.integers(3, 7)), 2))
                shares = (points.clip(0, (width - 0.01, height - 0.01)) / (width, height)).round(7)
                drawn = np.zeros(shape, np.uint8)
                # As the YOLO family draws it.
                cv2.fillPoly(drawn, [(shares * (width, height)).astype(np.int32)], 1)
                self._add(id_, drawn > 0)
                lines.append("0 " + " ".join(f"{value:.7f}" for value in shares.ravel()))
            if number == 0 and fault in ("outside", "not finite", "form"):
                values = {"outside": "1.5 1.5 1.6 1.5 1.6 1.6", "not finite": "inf 0 0 1 1 1"}
                lines.append("0 " + values.get(fault, "0.1 0.1 0.2 0.1 0.2 0.2 0.1"))
                self._refuse(f"{id_}.txt")
            (self.root / "train/labels").mkdir(parents=True, exist_ok=True)
            (self.root / f"train/labels/{id_}.txt").write_text("\n".join(lines))

    def _write_coco(self, shapes: dict[str, tuple[int, int]], fault: str) -> None:
        images, notes = [], []
        for number, (id_, shape) in enumerate(shapes.items(), start=1):
            self.wanted.masks[id_] = np.zeros(shape, bool)
            name = self._frame("images", id_, shape)
            height, width = shape
            images.append({"id": number, "file_name": name, "width": width, "height": height})
            if self.rng.random() < 0.2:
                del images[-1]["width"], images[-1]["height"]
            for _ in range(int(self.rng.integers(0, 5))):
                notes.append(
                    {"id": len(notes) + 1, "image_id": number, "category_id": 1, "iscrowd": 0}
                    | self._coco_shape(id_, shape)
                )
        extra: dict[str, Any] = {"id": 99, "image_id": 1, "category_id": 1}
        bad = {
            "outside": {"bbox": [500, 5, 3, 3]},
            "no extent": {"bbox": [5, 5, 0, 3], "segmentation": []},
            "not finite": {"bbox": [5, 5, math.inf, 3]},
            "orphan": {"bbox": [5, 5, 3, 3], "image_id": 77},
            "form": {"bbox": [5, 5, 3]},
        }.get(fault)
        if bad is not None:
            notes.append(extra | bad)
            self._refuse("instances_train.json")
        if fault == "size":
            images[0] |= {"width": 640, "height": 512}
            self._refuse("640x512")
        whole = {"images": images, "annotations": notes, "categories": [{"id": 1, "name": "t"}]}
        (self.root / "annotations").mkdir()
        (self.root / "annotations/instances_train.json").write_text(json.dumps(whole))

    def _coco_shape(self, id_: str, shape: tuple[int, int]) -> dict[str, Any]:
        form = ("bbox", "text", "polygon", "runs", "counts")[self.rng.integers(5)]
        if form in ("bbox", "text"):
            box = self._box(shape)
            self._add(id_, box_mask(*box, shape))
            left, top, right, bottom = box
            values = [float(value) for value in (left, top, right - left, bottom - top)]
            listed = [str(value) for value in values] if form == "text" else values
            return {"bbox": listed, "segmentation": []}
        if form == "polygon":
            parts = [self._polygon(shape) for _ in range(int(self.rng.integers(1, 3)))]
            self._add(id_, np.logical_or.reduce([polygon_mask(part, shape) for part in parts]))
            return {"segmentation": [part.ravel().tolist() for part in parts]}
        mask = box_mask(*self._box(shape), shape) & (self.rng.random(shape) < 0.8)
        mask[shape[0] // 2, shape[1] // 2] = True
        self._add(id_, mask)
        if form == "counts":
            flat = mask.T.ravel()
            edges = np.flatnonzero(np.diff(flat, prepend=False))
            counts = np.diff([0, *edges.tolist(), flat.size]).tolist()
            return {"segmentation": {"size": list(shape), "counts": counts}}
        packed = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        return {"segmentation": {"size": list(shape), "counts": packed["counts"].decode()}}

    def _polygon(self, shape: tuple[int, int]) -> NDArray[np.float64]:
        """A star-shaped polygon that is wide enough to hold centres in one piece."""
        height, width = shape
        count = int(self.rng.integers(5, 9))
        angles = (np.arange(count) + self.rng.uniform(0, 0.5, count)) * 2 * np.pi / count
        centre = self.rng.uniform((1, 1), (width - 1, height - 1))
        radii = self.rng.uniform(2, 5, count)
        return centre + np.stack((np.cos(angles), np.sin(angles)), -1) * radii[:, None]

    def _write_voc(self, shapes: dict[str, tuple[int, int]], fault: str) -> None:
        drawn: dict[str, list[tuple[Fraction, ...]]] = {}
        for number, (id_, shape) in enumerate(shapes.items()):
            count = int(self.rng.integers(0 if number else 1, 5))
            steps = (1, 4)[self.rng.integers(2)]
            drawn[id_] = [self._box(shape, steps) for _ in range(count)]
        every = [box for boxes in drawn.values() for box in boxes]
        # Pixels that are counted from 1 have no fractions and none before the first.
        first = int(all(v.denominator == 1 for box in every for v in box))
        if any(min(box[:2]) < 0 for box in every) or (
            any(min(box[:2]) == 0 for box in every) and self.rng.random() < 0.5
        ):
            first = 0
        for number, (id_, shape) in enumerate(shapes.items()):
            self.wanted.masks[id_] = np.zeros(shape, bool)
            name = self._frame("JPEGImages", id_, shape)
            height, width = shape
            objects = []
            for left, top, right, bottom in drawn[id_]:
                self._add(id_, box_mask(left, top, right, bottom, shape))
                objects.append([float(v) for v in (left + first, top + first, right, bottom)])
            if number == 0 and fault in ("outside", "no extent", "not finite", "form"):
                values: dict[str, list[Any]] = {
                    "outside": [900, 3, 904, 9],
                    "no extent": [5, 5, 3, 9],
                    "not finite": ["nan", 1, 2, 3],
                    "form": ["", 1, 2, 3],
                }
                objects.append(values[fault])
                self._refuse(f"{id_}.xml")
            size = f"<size><width>{width}</width><height>{height}</height><depth>1</depth></size>"
            if number == 0 and fault == "size":
                size = "<size><width>640</width><height>512</height></size>"
                self._refuse("640x512")
            elif self.rng.random() < 0.3:
                size = ""
            boxes = "".join(
                f"<object><name>t</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax>"
                f"<ymax>{d}</ymax></bndbox></object>"
                for a, b, c, d in objects
            )
            (self.root / "Annotations").mkdir(exist_ok=True)
            text = f"<annotation><filename>{name}</filename>{size}{boxes}</annotation>"
            (self.root / f"Annotations/{id_}.xml").write_text(text)
        if fault == "orphan":
            (self.root / "Annotations/lone.xml").write_text("<annotation></annotation>")
            self._refuse("lone.xml")
        self._write_voc_list(list(shapes))

    def _write_voc_list(self, ids: list[str]) -> None:
        place = self.root / "ImageSets/Main"
        place.mkdir(parents=True)
        (place / "train.txt").write_text("\n".join(ids))

    def _write_voc_mask(self, shapes: dict[str, tuple[int, int]], fault: str) -> None:
        """Numbers in grey or palette, with a void border or with nothing but 255."""
        only_white = self.rng.random() < 0.3
        form = ("grey", "deep", "palette")[self.rng.integers(3)]
        (self.root / "SegmentationObject").mkdir()
        for id_, shape in shapes.items():
            self._frame("JPEGImages", id_, shape)
            numbers = np.zeros(shape, np.uint8)
            for number in range(1, int(self.rng.integers(2, 6))):
                mask = box_mask(*self._box(shape), shape)
                if only_white:
                    numbers[mask] = 255
                    continue
                edge = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
                numbers[edge] = 255
                numbers[mask] = number
            self.wanted.masks[id_] = numbers > 0 if only_white else (numbers > 0) & (numbers < 255)
            held = np.unique(numbers[self.wanted.masks[id_]])
            self.wanted.annotations = (self.wanted.annotations or 0) + len(held)
            if fault == "size":
                numbers = np.pad(numbers, 3)
                self._refuse("its image is")
            picture = Image.fromarray(numbers.astype(np.uint16) if form == "deep" else numbers)
            if form == "palette":
                picture = Image.fromarray(numbers, "P")
                picture.putpalette([0, 0, 0, *self.rng.integers(1, 256, 765).tolist()])
            picture.save(self.root / f"SegmentationObject/{id_}.png")
        if fault == "orphan":
            Image.new("L", (9, 9)).save(self.root / "SegmentationObject/lone.png")
            self._refuse("lone.png")
        self._write_voc_list(list(shapes))

    def _write_labelme(self, shapes: dict[str, tuple[int, int]], fault: str) -> None:
        apart = self.rng.random() < 0.4
        folder = "images" if apart else "."
        for number, (id_, shape) in enumerate(shapes.items()):
            self.wanted.masks[id_] = np.zeros(shape, bool)
            name = self._frame(folder, id_, shape)
            drawn = [
                self._labelme_shape(id_, shape)
                for _ in range(int(self.rng.integers(0 if number else 1, 5)))
            ]
            record: dict[str, Any] = {
                "version": "5.5.0",
                "shapes": drawn,
                "imagePath": f"..\\images\\{name}" if apart else name,
                "imageData": None,
                "imageHeight": shape[0],
                "imageWidth": shape[1],
            }
            if number == 0 and fault:
                bad = {
                    "outside": ("rectangle", [[-9, 1], [-2, 4]]),
                    "no extent": ("rectangle", [[3, 1], [3, 4]]),
                    "not finite": ("polygon", [[1, 1], [math.nan, 4], [3, 3]]),
                    "form": ("linestrip", [[1, 1], [4, 4]]),
                }.get(fault)
                if bad is not None:
                    drawn.append({"label": "t", "shape_type": bad[0], "points": bad[1]})
                    self._refuse(f"{id_}.json")
                if fault == "size":
                    record["imageWidth"] = 640
                    self._refuse("640x")
                if fault == "orphan":
                    record["imagePath"] = "lone.png"
                    (self.root / folder / name).unlink()
                    self._refuse("lone.png")
            place = self.root / ("json" if apart else ".")
            place.mkdir(exist_ok=True)
            (place / f"{id_}.json").write_text(json.dumps(record))

    def _labelme_shape(self, id_: str, shape: tuple[int, int]) -> dict[str, Any]:
        form = ("polygon", "rectangle", "circle", "point", "mask")[self.rng.integers(5)]
        made: dict[str, Any] = {"label": "t", "shape_type": form, "group_id": None, "flags": {}}
        height, width = shape
        if form == "polygon":
            points = self._polygon(shape)
            self._add(id_, polygon_mask(points, shape))
            return made | {"points": points.tolist()}
        if form == "rectangle":
            left, top, right, bottom = box = self._box(shape)
            self._add(id_, box_mask(*box, shape))
            # From any corner to the one across.
            corners = [[float(right), float(top)], [float(left), float(bottom)]]
            return made | {"points": corners}
        x, y = self.rng.uniform((0, 0), (width, height)).tolist()
        if form == "circle":
            radius = self.rng.uniform(1, 5)
            mask = np.zeros(shape, bool)
            mask[disk((y - 0.5, x - 0.5), radius, shape=shape)] = True
            self._add(id_, mask)
            return made | {"points": [[x, y], [x, y + radius]]}
        mask = np.zeros(shape, bool)
        if form == "point":
            mask[math.floor(y), math.floor(x)] = True
            self._add(id_, mask)
            return made | {"points": [[x, y]]}
        side = self.rng.integers(1, 6, 2)
        top, left = (int(v) for v in self.rng.integers((0, 0), np.array(shape) - side))
        part = self.rng.random(tuple(side)) < 0.7
        part[0, 0] = True
        mask[top : top + side[0], left : left + side[1]] = part
        self._add(id_, mask)
        stream = io.BytesIO()
        Image.fromarray(part).save(stream, "PNG")
        ends = [[left, top], [left + int(side[1]) - 1, top + int(side[0]) - 1]]
        return made | {"points": ends, "mask": base64.b64encode(stream.getvalue()).decode()}

    def _write_npy(self, shapes: dict[str, tuple[int, int]], fault: str) -> None:
        self.wanted.annotations = None
        (self.root / "masks").mkdir()
        value = (1, 255, 38)[self.rng.integers(3)]
        dtype = (bool, np.uint8, np.int64, np.uint16)[self.rng.integers(4)]
        for number, (id_, shape) in enumerate(shapes.items()):
            self._frame("images", id_, shape)
            mask = box_mask(*self._box(shape), shape)
            self.wanted.masks[id_] = mask
            values: NDArray[Any] = mask.astype(dtype) * (1 if dtype is bool else dtype(value))
            if self.rng.random() < 0.3:
                values = values[None]
            if number == 0 and fault in ("size", "form", "not finite"):
                if fault == "size":
                    values = values[..., :-1]
                elif fault == "form":
                    values = np.arange(mask.size).reshape(shape)
                else:
                    values = mask.astype(np.float32) * np.nan
                self._refuse(f"{id_}.npy" if fault != "form" else "labels")
            np.save(self.root / f"masks/{id_}.npy", values)
        if fault == "orphan":
            np.save(self.root / "masks/lone.npy", np.ones((9, 9), bool))
            self._refuse("lone.npy")
