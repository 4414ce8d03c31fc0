"""Other ecosystems' formats of labelled sets, one a file: how they are written and read."""

from __future__ import annotations

from pipelines.formats.coco import COCO
from pipelines.formats.imagefolder import IMAGEFOLDER
from pipelines.formats.sample import Format
from pipelines.formats.voc import VOC
from pipelines.formats.webdataset import WEBDATASET
from pipelines.formats.yolo import YOLO, YOLO_SEG

FORMATS: dict[str, Format] = {
    found.name: found for found in (COCO, YOLO, YOLO_SEG, VOC, WEBDATASET, IMAGEFOLDER)
}
"""By the names that ``--format`` takes."""

__all__ = ["FORMATS", "Format"]
