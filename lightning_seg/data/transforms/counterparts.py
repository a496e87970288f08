"""Names albumentations' counterparts of other libraries' transforms, for users who bring a recipe along."""

from collections.abc import Mapping

COUNTERPARTS: Mapping[str, str] = {
    "AugmentationList": "albumentations.Sequential",
    "FixedSizeCrop": "lightning_seg.data.RandomScaleCrop",
    "MinIoURandomCrop": "albumentations.RandomResizedCrop",
    "RandomApply": "albumentations.Sequential, with p",
    "RandomBrightness": "albumentations.ColorJitter, with brightness",
    "RandomContrast": "albumentations.ColorJitter, with contrast",
    "RandomCrop": "albumentations.RandomCrop",
    "RandomCrop_CategoryAreaConstraint": "lightning_seg.data.CategoryLimitedCrop",
    "RandomExtent": "albumentations.Affine, with scale and translate_percent",
    "RandomFlip": "albumentations.HorizontalFlip or VerticalFlip",
    "RandomLighting": "albumentations.FancyPCA",
    "RandomResize": "albumentations.OneOf, of several Resize",
    "RandomRotation": "albumentations.Rotate",
    "RandomSaturation": "albumentations.ColorJitter, with saturation",
    "Resize": "albumentations.Resize",
    "ResizeScale": "lightning_seg.data.RandomScaleCrop",
    "ResizeShortestEdge": "albumentations.SmallestMaxSize",
}
"""albumentations' counterparts by the names of Detectron2's transforms (``detectron2.data.transforms``)."""


def describe_foreign(path: str) -> str:
    """Say that a class is no transform of albumentations, and which one to take.

    >>> describe_foreign("detectron2.data.transforms.RandomRotation")
    'detectron2.data.transforms.RandomRotation is not of albumentations, whose transforms are used here: take \
albumentations.Rotate'
    """
    library, name = path.partition(".")[0], path.rpartition(".")[2]
    remedy = "take albumentations' own, or derive from albumentations.DualTransform or ImageOnlyTransform"
    if library == "detectron2" and name in COUNTERPARTS:
        remedy = f"take {COUNTERPARTS[name]}"
    return f"{path} is not of albumentations, whose transforms are used here: {remedy}"
