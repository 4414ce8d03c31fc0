"""Other ecosystems' formats of labelled sets, one a file: how they are written and read."""

from __future__ import annotations

from pipelines.formats.coco import COCO
from pipelines.formats.imagefolder import IMAGEFOLDER
from pipelines.formats.labelme import LABELME
from pipelines.formats.npy import NPY
from pipelines.formats.sample import Format, Written
from pipelines.formats.voc import VOC
from pipelines.formats.webdataset import WEBDATASET
from pipelines.formats.yolo import YOLO, YOLO_SEG

FORMATS: dict[str, Format] = {
    found.name: found
    for found in (COCO, YOLO, YOLO_SEG, VOC, WEBDATASET, IMAGEFOLDER, LABELME, NPY)
}
"""By the names that ``--format`` of an import takes."""

WRITTEN: dict[str, Written] = {
    name: found.written for name, found in FORMATS.items() if found.written is not None
}
"""By the names that ``--format`` of an export takes."""

__all__ = ["FORMATS", "WRITTEN", "Format", "Written"]
