"""Makes pictures for W&B, with label maps to switch on and off."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_seg.callbacks.drawing import RGBImage
from lightning_seg.structures import DatasetInfo

_LARGEST_ID = 255
"""The largest id that a mask of W&B can hold."""

ERROR_LABELS = {0: "right", 1: "wrong", 2: "ignored"}


def mask_ids(labels: NDArray[Any], info: DatasetInfo) -> tuple[NDArray[np.uint8], dict[int, str]] | None:
    """Ids for a mask of W&B, and their names; None if there are too many classes.

    Class ids stay. Ignored pixels have the ignore index if it fits into 8 bits, else the first free id.
    """
    ignored = info.ignore_index if 0 <= info.ignore_index <= _LARGEST_ID else info.num_classes
    names = dict(enumerate(info.names))
    is_class = (labels >= 0) & (labels < info.num_classes)
    if not is_class.all():
        names[ignored] = "ignored"
    if max(names) > _LARGEST_ID:
        return None
    return np.where(is_class, labels, ignored).astype(np.uint8), names


def padded(array: NDArray[Any], size: tuple[int, int], value: int) -> NDArray[Any]:
    """Pad an (H, W, …) array at the right and at the bottom: W&B shows all pictures of a list at one size."""
    height, width = array.shape[:2]
    if (height, width) == size:
        return array
    wide = array if array.ndim == 3 else array.astype(np.int64)  # the type of labels may not hold the value
    edges = [(0, size[0] - height), (0, size[1] - width), *[(0, 0)] * (array.ndim - 2)]
    return np.pad(wide, edges, constant_values=value)


def largest(arrays: Iterable[NDArray[Any]]) -> tuple[int, int]:
    """The height and width that all (H, W, …) arrays fit into."""
    heights, widths = zip(*(array.shape[:2] for array in arrays), strict=True)
    return max(heights), max(widths)


def error_ids(prediction: NDArray[Any], truth: NDArray[Any], info: DatasetInfo) -> NDArray[np.uint8]:
    """(H, W) ids of :data:`ERROR_LABELS`."""
    return np.where(truth == info.ignore_index, 2, prediction != truth).astype(np.uint8)


def wandb_image(
    image: RGBImage,
    labels: Mapping[str, NDArray[Any]],
    info: DatasetInfo,
    drawn: Callable[[], RGBImage],
    caption: str,
    errors: NDArray[np.uint8] | None = None,
) -> Any:
    """A picture with masks to switch on and off, or the picture ``drawn`` if the ids do not fit into masks."""
    import wandb
    from wandb.data_types import Classes

    masks: dict[str, Any] = {}
    classes: dict[int, str] = {}
    for kind, ids in labels.items():
        if (fitting := mask_ids(ids, info)) is None:
            return wandb.Image(drawn(), caption=caption, file_type="jpg")
        masks[kind] = {"mask_data": fitting[0], "class_labels": fitting[1]}
        classes |= fitting[1]
    if errors is not None:
        masks["errors"] = {"mask_data": errors, "class_labels": ERROR_LABELS}
    listed = Classes([{"id": number, "name": name} for number, name in sorted(classes.items())])
    return wandb.Image(image, caption=caption, masks=masks, classes=listed, file_type="jpg")
