"""Turns images and masks, wherever their bytes are, into batches in Detectron2's format."""

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # asks a server for a newer version at every import otherwise

from lightning_seg.data.datamodule import SegmentationDataModule
from lightning_seg.data.readers import (
    ADE20K,
    VOC,
    CamVid,
    Catalog,
    Cityscapes,
    Coco,
    CocoStuff,
    Folder,
    Labelled,
    Labelme,
    Manifest,
    MaskPerClass,
    Reader,
    Split,
    Synthetic,
)
from lightning_seg.data.transforms import CategoryLimitedCrop, RandomScaleCrop
from lightning_seg.sources import ByteSource

__all__ = [
    "ADE20K",
    "VOC",
    "ByteSource",
    "CamVid",
    "Catalog",
    "CategoryLimitedCrop",
    "Cityscapes",
    "Coco",
    "CocoStuff",
    "Folder",
    "Labelled",
    "Labelme",
    "Manifest",
    "MaskPerClass",
    "RandomScaleCrop",
    "Reader",
    "SegmentationDataModule",
    "Split",
    "Synthetic",
]
