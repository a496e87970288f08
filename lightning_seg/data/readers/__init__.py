"""Reads source formats, one a file."""

from lightning_seg.data.readers.ade20k import ADE20K
from lightning_seg.data.readers.camvid import CamVid
from lightning_seg.data.readers.catalog import Catalog
from lightning_seg.data.readers.cityscapes import Cityscapes
from lightning_seg.data.readers.coco import Coco
from lightning_seg.data.readers.coco_stuff import CocoStuff
from lightning_seg.data.readers.folder import Folder
from lightning_seg.data.readers.labelled import Labelled
from lightning_seg.data.readers.labelme import Labelme
from lightning_seg.data.readers.manifest import Manifest
from lightning_seg.data.readers.mask_per_class import MaskPerClass
from lightning_seg.data.readers.reader import Reader
from lightning_seg.data.readers.split import Split
from lightning_seg.data.readers.synthetic import Synthetic
from lightning_seg.data.readers.voc import VOC

__all__ = [
    "ADE20K",
    "VOC",
    "CamVid",
    "Catalog",
    "Cityscapes",
    "Coco",
    "CocoStuff",
    "Folder",
    "Labelled",
    "Labelme",
    "Manifest",
    "MaskPerClass",
    "Reader",
    "Split",
    "Synthetic",
]
