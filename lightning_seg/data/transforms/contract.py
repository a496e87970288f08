"""Tries out, before a run starts, that transforms do to an image and its mask only what they may do."""

import contextlib
import random
import warnings
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import albumentations as A
import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from lightning_seg.data.transforms.pipeline import leaves
from lightning_seg.errors import ConfigError

Image = NDArray[np.uint8]
Mask = NDArray[np.integer[Any]]

_CLASSES: dict[np.dtype[Any], tuple[int, ...]] = {
    np.dtype(np.uint8): (3, 40, 120, 201),
    np.dtype(np.int32): (3, 300, 20_000, 201),
}
"""Class ids for each type of mask. They are far apart, so that a mean of two is no class; three of them are used."""
_COLOURS = np.array([[200, 60, 60], [60, 190, 70], [70, 80, 210]], np.uint8)
_BLOCK = (11, 23)
"""Shortest and longest side in pixels of the blocks of one class that a probe consists of.

Sides differ, and sizes of probes are prime numbers. So no resize takes all of its samples inside of blocks.
"""
_SIZES = ((97, 131), (521, 641), (1031, 2053), (4099, 4111))
"""Height and width of probes; a larger one is taken for crops that do not fit into the one before."""
_SMALL = (41, 59)
"""Height and width of some more probes, on which a transform that moves pixels by a fixed length shows its padding."""
_DRAWS_OF_SMALL = 6
_DRAWS = 12
_DRAWS_OF_PIXEL_TRANSFORMS = 2
_SAMPLED_PIXELS = 4000
_COLOUR_LEVELS = 4
_AGREEMENT = 0.4
"""Sound transforms reach more in nearly every draw, even where they hide half of the image or blur whole blocks."""
_DISAGREEING_DRAWS = 3


_NEAREST = (cv2.INTER_NEAREST, cv2.INTER_NEAREST_EXACT)


def check_transforms(pipeline: A.Compose, ignore_index: int, dtype: np.dtype[Any], setting: str) -> None:
    """Try each transform on images that show their mask in colours.

    The pipeline stays as it is: its transforms are copied, and the copies applied always, whatever their ``p``.

    Args:
        pipeline: from :func:`~lightning_seg.data.transforms.build_pipeline`.
        ignore_index: the only value besides classes that a mask may get.
        dtype: of the masks that they will get, uint8 or int32.
        setting: name of the transforms in the configuration, for the error.

    Raises:
        ConfigError: naming the transform that changes the type of an image, interpolates a mask, puts values into it
            that it did not have, moves an image but not its mask (or the reverse), or fails.
    """
    for transform in leaves(pipeline.transforms):
        subject = f"{setting}: {type(transform).__name__}"
        if missing := sorted(set(transform.targets_as_params) - {"image", "mask"}):
            raise ConfigError(
                f"{subject} needs {', '.join(missing)}, but a transform gets an image and its mask, nothing else: "
                "leave it out"
            )
        _refuse_interpolation(transform, subject)
        _check(transform, ignore_index, dtype, subject)


def _refuse_interpolation(transform: A.BasicTransform, subject: str) -> None:
    """Raise a ConfigError where settings interpolate masks; a probe need not show that at every size."""
    by_area = getattr(transform, "area_for_downscale", None) == "image_mask"
    if by_area or getattr(transform, "mask_interpolation", cv2.INTER_NEAREST) not in _NEAREST:
        given = "area_for_downscale: image_mask" if by_area else f"mask_interpolation: {transform.mask_interpolation}"
        raise ConfigError(
            f"{subject} has {given}, which mixes the ids of neighbouring pixels to ids of other classes: "
            f"{'set it to image' if by_area else 'leave it out, or set it to 0 (nearest)'}"
        )


def _check(transform: A.BasicTransform, ignore_index: int, dtype: np.dtype[Any], subject: str) -> None:
    classes = [value for value in _CLASSES[dtype] if value != ignore_index][: len(_COLOURS)]
    invented: set[int] = set()
    disagreeing = 0
    # albumentations' own ones stay in place by definition, but some blur more than can be compared.
    in_place = isinstance(transform, A.ImageOnlyTransform) and type(transform).__module__.startswith("albumentations.")
    draws = _DRAWS_OF_PIXEL_TRANSFORMS if in_place else _DRAWS
    ids: Mask = np.array(classes, dtype)
    transform = deepcopy(transform)
    transform.p = 1.0
    transform.deterministic = False  # set by a ReplayCompose, without which it fails
    for image, mask in _draws(transform, ids, draws, subject):
        _check_arrays(image, mask, subject)
        invented.update(_values_besides(mask, [*classes, ignore_index]))
        if not in_place:
            disagreeing += _agreement(image, mask, ignore_index) < _AGREEMENT
    for mask in () if in_place else _small_masks(transform, ids):
        invented.update(_values_besides(mask, [*classes, ignore_index]))
    if len(invented) == 1:
        raise ConfigError(
            f"{subject} fills the mask with {invented.pop()}, which is taken for a class; the ignore index is "
            f"{ignore_index}: use a transform with fill_mask, which is set by itself"
        )
    if invented:
        raise ConfigError(
            f"{subject} puts values into the mask that it did not have ({', '.join(map(str, sorted(invented)[:3]))} …),"
            " as interpolation does: set its mask_interpolation to 0 (nearest), or apply it to the image alone"
        )
    if disagreeing >= _DISAGREEING_DRAWS:
        raise ConfigError(
            f"{subject} moves the image without its mask, or not alike: what moves pixels must be a DualTransform "
            "whose apply and apply_to_mask take what was drawn from the same params"
        )


def _check_arrays(image: Any, mask: Any, subject: str) -> None:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        raise ConfigError(
            f"{subject} returns a {getattr(image, 'dtype', type(image).__name__)} image, but a uint8 array is expected:"
            " leave Normalize, ToFloat and ToTensorV2 out, the model subtracts MODEL.PIXEL_MEAN itself"
        )
    if not isinstance(mask, np.ndarray) or mask.dtype.kind not in "iu":
        kind = getattr(mask, "dtype", type(mask).__name__)
        raise ConfigError(f"{subject} returns a {kind} mask, but an array of class ids is expected: keep them integers")
    if image.ndim != 3 or image.shape[2] != 3 or mask.shape != image.shape[:2]:
        raise ConfigError(
            f"{subject} returns an image of shape {image.shape} and a mask of shape {mask.shape}, but (height, width, "
            "3) and (height, width) are expected: resize and crop both alike, and keep three channels"
        )


def _draws(transform: A.BasicTransform, ids: Mask, count: int, subject: str) -> Iterator[tuple[Any, Any]]:
    """Apply a transform to probes, each time with other random numbers."""
    sizes = list(_SIZES)
    draw = 0
    while draw < count:
        try:
            sample = _apply(transform, sizes[0], ids, draw)
        except Exception as error:
            if len(sizes) == 1:
                reason = (str(error).splitlines() or [""])[0]
                raise ConfigError(
                    f"{subject} fails on an image and its mask, which is all that a transform gets "
                    f"({type(error).__name__}: {reason}): change its arguments or leave it out"
                ) from None
            del sizes[0]
            continue
        yield sample["image"], sample["mask"]
        draw += 1


def _small_masks(transform: A.BasicTransform, ids: Mask) -> Iterator[Mask]:
    """Apply a transform to small masks; it need not work on them."""
    with contextlib.suppress(Exception):
        for draw in range(_DRAWS_OF_SMALL):
            yield _apply(transform, _SMALL, ids, draw)["mask"]


def _apply(transform: A.BasicTransform, size: tuple[int, int], ids: Mask, draw: int) -> dict[str, Any]:
    """Apply a transform to a probe, which grows a little with each draw: else a resize to its very size would pass."""
    image, mask = _probe((size[0] + draw, size[1] + draw), ids, draw)
    transform.set_random_state(np.random.default_rng(draw), random.Random(draw))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sample: dict[str, Any] = transform(image=image, mask=mask)
    return sample


def _probe(size: tuple[int, int], ids: Mask, seed: int) -> tuple[Image, Mask]:
    """Blocks of random classes, and an image that shows each class in its colour."""
    draw = np.random.default_rng(seed)
    rows, columns = (_cut(draw, length) for length in size)
    blocks = draw.integers(0, len(ids), (len(rows), len(columns))).repeat(columns, axis=1)
    return _COLOURS[blocks].repeat(rows, axis=0), ids[blocks].repeat(rows, axis=0)


def _cut(draw: np.random.Generator, length: int) -> NDArray[np.int64]:
    """Cut a length into blocks' sides."""
    ends = np.cumsum(draw.integers(*_BLOCK, length // _BLOCK[0] + 1))
    return np.diff([0, *ends[ends < length], length])


def _values_besides(mask: Mask, known: list[int]) -> list[int]:
    foreign = np.logical_and.reduce([mask != value for value in known])
    return [int(value) for value in np.unique(mask[foreign])]


def _agreement(image: Image, mask: Mask, ignore_index: int) -> float:
    """How well colours predict labels: 1 if one follows from the other, 0 if they are independent.

    It is the mutual information, divided by the smaller entropy, of some pixels whose neighbours all have their label.
    So neither new colours nor blur, noise and holes lower it much. It is 1 where there is too little to compare.
    """
    height, width = mask.shape
    if min(height, width) < 5:
        return 1.0
    labelled = np.flatnonzero(mask[2:-2, 2:-2] != ignore_index)
    rows, columns = np.divmod(labelled[:: max(1, len(labelled) // _SAMPLED_PIXELS)], width - 4)
    labels = mask[rows + 2, columns + 2]
    alike = (sliding_window_view(mask, (5, 5))[rows, columns] == labels[:, None, None]).all(axis=(1, 2))
    rows, columns, labels = rows[alike], columns[alike], labels[alike]
    if len(labels) < 100:
        return 1.0
    colours = sliding_window_view(image, (3, 3), axis=(0, 1))[rows + 1, columns + 1].mean(axis=(2, 3))  # (n, 3)
    low, high = np.percentile(colours, [1, 99], axis=0)
    levels = _COLOUR_LEVELS * (colours - low) / np.maximum(high - low, 16)  # 16 grey levels: less is no contrast
    colour = np.ravel_multi_index(levels.clip(0, _COLOUR_LEVELS - 1).astype(int).T, (_COLOUR_LEVELS,) * 3)
    names, label = np.unique(labels, return_inverse=True)
    table = np.zeros((_COLOUR_LEVELS**3, len(names)))
    np.add.at(table, (colour, label), 1 / len(labels))
    of_colours, of_labels = _entropy(table.sum(axis=1)), _entropy(table.sum(axis=0))
    if min(of_colours, of_labels) < 0.2:  # nearly one colour, or one label
        return 1.0
    return (of_colours + of_labels - _entropy(table)) / min(of_colours, of_labels)


def _entropy(probabilities: NDArray[np.float64]) -> float:
    """In nats."""
    positive = probabilities[probabilities > 0]
    return float(-(positive * np.log(positive)).sum())
