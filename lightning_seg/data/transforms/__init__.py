"""Applies albumentations pipelines to images and masks, and adds transforms that albumentations does not have."""

from lightning_seg.data.transforms.category_limited_crop import CategoryLimitedCrop
from lightning_seg.data.transforms.contract import check_transforms
from lightning_seg.data.transforms.counterparts import describe_foreign
from lightning_seg.data.transforms.pipeline import Transform, apply, build_pipeline, coming_pixels, leading_crop, reseed
from lightning_seg.data.transforms.placing import Placements
from lightning_seg.data.transforms.random_scale_crop import RandomScaleCrop

__all__ = [
    "CategoryLimitedCrop",
    "Placements",
    "RandomScaleCrop",
    "Transform",
    "apply",
    "build_pipeline",
    "check_transforms",
    "coming_pixels",
    "describe_foreign",
    "leading_crop",
    "reseed",
]
