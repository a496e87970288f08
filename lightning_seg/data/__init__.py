"""From files on disk to batches in Detectron2's format."""

from lightning_seg.data.datamodule import SegmentationDataModule
from lightning_seg.data.readers import Folder, Reader, Synthetic

__all__ = ["Folder", "Reader", "SegmentationDataModule", "Synthetic"]
