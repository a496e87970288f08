"""albumentations pipelines for images and their masks, and transforms that albumentations does not have."""

from lightning_seg.data.transforms.category_limited_crop import CategoryLimitedCrop
from lightning_seg.data.transforms.contract import check_transforms
from lightning_seg.data.transforms.pipeline import Transform, build_pipeline, coming_pixels, leading_crop, reseed
from lightning_seg.data.transforms.random_scale_crop import RandomScaleCrop

__all__ = [
    "CategoryLimitedCrop",
    "RandomScaleCrop",
    "Transform",
    "build_pipeline",
    "check_transforms",
    "coming_pixels",
    "leading_crop",
    "reseed",
]
