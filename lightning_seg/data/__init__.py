"""From files on disk to batches in Detectron2's format."""

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # asks a server for a newer version at every import otherwise

from lightning_seg.data.datamodule import SegmentationDataModule
from lightning_seg.data.readers import Folder, Reader, Synthetic
from lightning_seg.data.transforms import CategoryLimitedCrop, RandomScaleCrop

__all__ = ["CategoryLimitedCrop", "Folder", "RandomScaleCrop", "Reader", "SegmentationDataModule", "Synthetic"]
