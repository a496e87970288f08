"""Tries out, before a run starts, that transforms do to an image and its mask only what they may do."""

import contextlib
import random
import warnings
from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any

import albumentations as A
import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from lightning_seg.data.transforms.pipeline import leaves
from lightning_seg.data.transforms.pixels import Image, Pixels, Values
from lightning_seg.errors import ConfigError

Mask = NDArray[np.integer[Any]]

_CLASSES: dict[np.dtype[Any], tuple[int, ...]] = {
    np.dtype(np.uint8): (3, 40, 120, 201),
    np.dtype(np.int32): (3, 300, 20_000, 201),
}
"""Class ids for each type of mask. They are far apart, so that a mean of two is no class; three of them are used."""
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
_DRAWS_OF_OTHER_PIXELS = 6
"""As often is what changes values of other images than RGB tried; some do it by chance to the first three channels."""
_SAMPLED_PIXELS = 4000
_COLOUR_LEVELS = 4
_AGREEMENT = 0.4
"""Sound transforms reach more in nearly every draw, even where they hide half of the image or blur whole blocks."""
_DISAGREEING_DRAWS = 3
_MOST_CHANNELS = 8
"""So many channels are compared with the mask, spread over all."""
_LEAVE_IT_OUT = "leave it out; docs/data.md names transforms for such images"


_RGB = Pixels()
_NEAREST = (cv2.INTER_NEAREST, cv2.INTER_NEAREST_EXACT)


def check_transforms(
    pipeline: A.Compose, ignore_index: int, dtype: np.dtype[Any], setting: str, pixels: Pixels = _RGB
) -> None:
    """Try each transform on images that show their mask in colours.

    The pipeline stays as it is: its transforms are copied, and the copies applied always, whatever their ``p``.

    Args:
        pipeline: from :func:`~lightning_seg.data.transforms.build_pipeline`.
        ignore_index: the only value besides classes that a mask may get.
        dtype: of the masks that they will get, uint8 or int32.
        setting: name of the transforms in the configuration, for the error.
        pixels: what the images hold.

    Raises:
        ConfigError: naming the transform that changes the type of an image or the range of its values, leaves out
            channels, interpolates a mask, puts values into it that it did not have, moves an image but not its mask (or
            the reverse), or fails.
    """
    for transform in leaves(pipeline.transforms):
        subject = f"{setting}: {type(transform).__name__}"
        if missing := sorted(set(transform.targets_as_params) - {"image", "mask"}):
            raise ConfigError(
                f"{subject} needs {', '.join(missing)}, but a transform gets an image and its mask, nothing else: "
                "leave it out"
            )
        if not pixels.is_rgb and isinstance(transform, A.Normalize | A.ToFloat | A.FromFloat):
            raise ConfigError(
                f"{subject} normalises images, but the model subtracts MODEL.PIXEL_MEAN of the values as they are "
                "stored: leave it out"
            )
        _refuse_interpolation(transform, subject)
        _check(transform, ignore_index, dtype, subject, pixels)


def _refuse_interpolation(transform: A.BasicTransform, subject: str) -> None:
    """Raise a ConfigError where settings interpolate masks; a probe need not show that at every size."""
    by_area = getattr(transform, "area_for_downscale", None) == "image_mask"
    if by_area or getattr(transform, "mask_interpolation", cv2.INTER_NEAREST) not in _NEAREST:
        given = "area_for_downscale: image_mask" if by_area else f"mask_interpolation: {transform.mask_interpolation}"
        raise ConfigError(
            f"{subject} has {given}, which mixes the ids of neighbouring pixels to ids of other classes: "
            f"{'set it to image' if by_area else 'leave it out, or set it to 0 (nearest)'}"
        )


def _check(transform: A.BasicTransform, ignore_index: int, dtype: np.dtype[Any], subject: str, pixels: Pixels) -> None:
    classes = [value for value in _CLASSES[dtype] if value != ignore_index][:3]
    invented: set[int] = set()
    disagreeing = 0
    # albumentations' own ones stay in place by definition, but some blur more than can be compared.
    in_place = isinstance(transform, A.ImageOnlyTransform) and type(transform).__module__.startswith("albumentations.")
    draws = _DRAWS if not in_place else _DRAWS_OF_PIXEL_TRANSFORMS if pixels.is_rgb else _DRAWS_OF_OTHER_PIXELS
    values = Values(pixels)
    ids: Mask = np.array(classes, dtype)
    transform = deepcopy(transform)
    transform.p = 1.0
    transform.deterministic = False  # set by a ReplayCompose, without which it fails
    sizes = _SIZES[:1] if in_place and not pixels.is_rgb else _SIZES
    for given, image, mask in _draws(transform, ids, draws, subject, pixels, sizes):
        _check_arrays(image, mask, subject, pixels)
        invented.update(_values_besides(mask, [*classes, ignore_index]))
        if not pixels.is_rgb:
            values.see(given, image)
        if not in_place:
            disagreeing += _least_agreement(image, mask, ignore_index, pixels) < _AGREEMENT
    for mask in () if in_place else _small_masks(transform, ids, pixels):
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
    if not pixels.is_rgb and (fault := values.fault()):
        raise ConfigError(f"{subject} {fault}: {_remedy(transform, pixels)}")
    if disagreeing >= _DISAGREEING_DRAWS:
        raise ConfigError(
            f"{subject} moves the image without its mask, or not alike: what moves pixels must be a DualTransform "
            "whose apply and apply_to_mask take what was drawn from the same params"
        )


def _remedy(transform: A.BasicTransform, pixels: Pixels) -> str:
    """What to do about a transform that makes something else of values that it is not made for."""
    if getattr(transform, "brightness_by_max", False) and pixels.dtype == "uint16":
        return "set its brightness_by_max to false, or leave it out"
    if isinstance(getattr(transform, "fill", None), str):
        return "set its fill to a number, or leave it out"
    return _LEAVE_IT_OUT


def _check_arrays(image: Any, mask: Any, subject: str, pixels: Pixels) -> None:
    if not isinstance(image, np.ndarray) or image.dtype != pixels.dtype:
        found = getattr(image, "dtype", type(image).__name__)
        if not pixels.is_rgb:
            raise ConfigError(
                f"{subject} returns a {found} image of {pixels}, but an array of {pixels.dtype} is expected, and the "
                f"model subtracts MODEL.PIXEL_MEAN itself: {_LEAVE_IT_OUT}"
            )
        raise ConfigError(
            f"{subject} returns a {found} image, but a uint8 array is expected:"
            " leave Normalize, ToFloat and ToTensorV2 out, the model subtracts MODEL.PIXEL_MEAN itself"
        )
    if not isinstance(mask, np.ndarray) or mask.dtype.kind not in "iu":
        kind = getattr(mask, "dtype", type(mask).__name__)
        raise ConfigError(f"{subject} returns a {kind} mask, but an array of class ids is expected: keep them integers")
    if image.ndim != 3 or image.shape[2] != pixels.channels or mask.shape != image.shape[:2]:
        kept = {1: "one channel", 3: "three channels"}.get(pixels.channels, f"{pixels.channels} channels")
        raise ConfigError(
            f"{subject} returns an image of shape {image.shape} and a mask of shape {mask.shape}, but (height, width, "
            f"{pixels.channels}) and (height, width) are expected: resize and crop both alike, and keep {kept}"
        )


def _draws(
    transform: A.BasicTransform, ids: Mask, count: int, subject: str, pixels: Pixels, tried: Sequence[tuple[int, int]]
) -> Iterator[tuple[Image, Any, Any]]:
    """Apply a transform to probes, each time with other random numbers; gives the probe, its image and its mask."""
    sizes = list(tried)
    draw = 0
    while draw < count:
        try:
            given, sample = _apply(transform, sizes[0], ids, draw, pixels)
        except Exception as error:
            if len(sizes) == 1:
                reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
                if not pixels.is_rgb and _works_on_rgb(transform, ids):
                    raise ConfigError(f"{subject} fails on {pixels} ({reason}): {_LEAVE_IT_OUT}") from None
                raise ConfigError(
                    f"{subject} fails on an image and its mask, which is all that a transform gets ({reason}): "
                    "change its arguments or leave it out"
                ) from None
            del sizes[0]
            continue
        yield given, sample["image"], sample["mask"]
        draw += 1


def _works_on_rgb(transform: A.BasicTransform, ids: Mask) -> bool:
    for size in _SIZES:
        with contextlib.suppress(Exception):
            _apply(transform, size, ids, 0, _RGB)
            return True
    return False


def _small_masks(transform: A.BasicTransform, ids: Mask, pixels: Pixels) -> Iterator[Mask]:
    """Apply a transform to small masks; it need not work on them."""
    with contextlib.suppress(Exception):
        for draw in range(_DRAWS_OF_SMALL):
            yield _apply(transform, _SMALL, ids, draw, pixels)[1]["mask"]


def _apply(
    transform: A.BasicTransform, size: tuple[int, int], ids: Mask, draw: int, pixels: Pixels
) -> tuple[Image, dict[str, Any]]:
    """Apply a transform to a probe, which grows a little with each draw: else a resize to its very size would pass."""
    image, mask = _probe((size[0] + draw, size[1] + draw), ids, draw, pixels)
    transform.set_random_state(np.random.default_rng(draw), random.Random(draw))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sample: dict[str, Any] = transform(image=image, mask=mask)
    return image, sample


def _probe(size: tuple[int, int], ids: Mask, seed: int, pixels: Pixels) -> tuple[Image, Mask]:
    """Blocks of random classes, and an image that shows each class in its colour."""
    draw = np.random.default_rng(seed)
    rows, columns = (_cut(draw, length) for length in size)
    blocks = draw.integers(0, len(ids), (len(rows), len(columns)))
    return pixels.painted(blocks, columns, rows, draw), ids[blocks.repeat(columns, axis=1)].repeat(rows, axis=0)


def _cut(draw: np.random.Generator, length: int) -> NDArray[np.int64]:
    """Cut a length into blocks' sides."""
    ends = np.cumsum(draw.integers(*_BLOCK, length // _BLOCK[0] + 1))
    return np.diff([0, *ends[ends < length], length])


def _values_besides(mask: Mask, known: list[int]) -> list[int]:
    foreign = np.logical_and.reduce([mask != value for value in known])
    return [int(value) for value in np.unique(mask[foreign])]


def _least_agreement(image: Image, mask: Mask, ignore_index: int, pixels: Pixels) -> float:
    """The agreement of an RGB image; of others that of the channel that agrees least, since any may be left behind."""
    if pixels.is_rgb:
        return _agreement(image, mask, ignore_index, pixels.contrast)
    tried = np.unique(np.linspace(0, pixels.channels - 1, _MOST_CHANNELS).round().astype(int))
    margin = 4 * pixels.contrast  # a fill far from all values would make them look alike
    shown = image[..., tried].clip(pixels.low - margin, pixels.high + margin)
    return min(_agreement(shown[..., at : at + 1], mask, ignore_index, pixels.contrast) for at in range(len(tried)))


def _agreement(image: Image, mask: Mask, ignore_index: int, contrast: float) -> float:
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
    colours = sliding_window_view(image, (3, 3), axis=(0, 1))[rows + 1, columns + 1].mean(axis=(2, 3))  # (n, C)
    low, high = np.percentile(colours, [1, 99], axis=0)
    levels = _COLOUR_LEVELS * (colours - low) / np.maximum(high - low, contrast)
    channels = image.shape[2]
    colour = np.ravel_multi_index(levels.clip(0, _COLOUR_LEVELS - 1).astype(int).T, (_COLOUR_LEVELS,) * channels)
    names, label = np.unique(labels, return_inverse=True)
    table = np.zeros((_COLOUR_LEVELS**channels, len(names)))
    np.add.at(table, (colour, label), 1 / len(labels))
    of_colours, of_labels = _entropy(table.sum(axis=1)), _entropy(table.sum(axis=0))
    if min(of_colours, of_labels) < 0.2:  # nearly one colour, or one label
        return 1.0
    return (of_colours + of_labels - _entropy(table)) / min(of_colours, of_labels)


def _entropy(probabilities: NDArray[np.float64]) -> float:
    """In nats."""
    positive = probabilities[probabilities > 0]
    return float(-(positive * np.log(positive)).sum())
