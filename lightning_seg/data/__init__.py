"""From files on disk to batches in Detectron2's format."""

from lightning_seg.data.datamodule import SegmentationDataModule
from lightning_seg.data.readers import (
    ADE20K,
    VOC,
    Catalog,
    Cityscapes,
    Coco,
    CocoStuff,
    Folder,
    Manifest,
    Reader,
    Split,
    Synthetic,
)

__all__ = [
    "ADE20K",
    "VOC",
    "Catalog",
    "Cityscapes",
    "Coco",
    "CocoStuff",
    "Folder",
    "Manifest",
    "Reader",
    "SegmentationDataModule",
    "Split",
    "Synthetic",
]
