"""Defines what all parts of the project share: samples, batches, facts of a data set, scores of a network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

from lightning_seg.colours import IGNORE_COLOURS, Colour, free_colour
from lightning_seg.sources import AnyFile

if TYPE_CHECKING:  # the audit and the plots start without torch
    from torch import Tensor


class _HasImage(TypedDict):
    image: "Tensor"


class Item(_HasImage, total=False):
    """One sample of a batch, as Detectron2's models take it; all but the image may be absent.

    Attributes:
        image: (C, H, W), after the transforms: RGB uint8, or the bands of ``data.bands`` with their values as stored,
            uint8, uint16, int16 or float32.
        sem_seg: target: (H, W) uint8 or int32 class ids and the ignore index, after the transforms.
        truth: (height, width), the label map at the stored size; in evaluation.
        position: index of the sample in its data set; in evaluation and prediction.
        height, width: of the image as it is stored; else those of ``image``.
        placement: where ``image`` shows the stored image, if a transform has moved it.
        name: of the sample, without folder and suffix.
        file_name, sem_seg_file_name: names of image and mask for messages: their paths, where they are files.
        unreadable: messages of samples that this one stands in for.
    """

    sem_seg: "Tensor"
    truth: "Tensor"
    position: int
    height: int
    width: int
    placement: "Placement"
    name: str
    file_name: str
    sem_seg_file_name: str
    unreadable: list[str]


Batch = list[Item]
"""Samples, which may differ in size."""


class Segment(NamedTuple):
    """One annotated region of an image.

    Attributes:
        annotation: its id, as it stands in the file, for messages.
        category: the id of its category, as the source counts.
        shape: polygons (lists ``[x0, y0, x1, y1, …]`` in pixels) or a run-length encoding, as COCO writes them.
        crowd: whether it stands for a crowd; anything else in the image lies over it.
    """

    annotation: int | str
    category: int
    shape: Any
    crowd: bool = False

    @property
    def has_region(self) -> bool:
        """Whether there is a shape at all; some annotations are only boxes."""
        return any(self.shape) if isinstance(self.shape, list) else bool(self.shape)


@dataclass(frozen=True, slots=True)
class Annotations:
    """The regions of one image, in place of a mask file.

    Attributes:
        file: where they come from, for messages.
        segments: in the order of the source.
        size: height and width of the image as the source states them, or None.
        in_order: whether a segment lies over those before it; else small ones lie over large ones, and over crowds.
        image: the id of the image in that file; None if the file is of this image alone.
    """

    file: str
    segments: tuple[Segment, ...]
    size: tuple[int, int] | None = None
    in_order: bool = False
    image: int | str | None = None

    def __str__(self) -> str:
        return self.file


class Placement(NamedTuple):
    """Where a transformed image shows the stored one: all of it, scaled to a rectangle, and perhaps mirrored.

    Attributes:
        top: first row of the rectangle, in pixels of the transformed image.
        left: its first column.
        height: its rows.
        width: its columns.
        upside_down: whether the first row shows the stored image's last one.
        mirrored: whether the first column shows its last one.
    """

    top: int
    left: int
    height: int
    width: int
    upside_down: bool = False
    mirrored: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    """One image and, outside prediction, its mask.

    Attributes:
        name: the image's path relative to its folder, without suffix; unique within a data set.
        image: the image file: its path, or where else its bytes are.
        mask: the label file, or the annotated regions; None without ground truth.
        source: the place of its reader among those of its split, from 0; its labels are read by that reader's table.
        columns: names and values of what its reader was asked to keep of it; a value that is not there is empty.
    """

    name: str
    image: AnyFile
    mask: AnyFile | Annotations | None = None
    source: int = 0
    columns: tuple[tuple[str, str], ...] = ()

    @property
    def mask_file(self) -> AnyFile | None:
        """The mask, if it is a file."""
        return None if isinstance(self.mask, Annotations) else self.mask


@dataclass(frozen=True)
class SourceLabels:
    """The labels of a source, as the source describes them.

    Attributes:
        names: its classes, in the order that they are trained in where ``data.classes`` does not say.
        values: what each stored value, or category id, stands for; None: it does not count.
        palette: its usual colours, for pictures.
        rest: for regions: the name of all that no region covers; None: it does not count.
    """

    names: tuple[str, ...]
    values: Mapping[int, str | None]
    palette: Mapping[str, Colour]
    rest: str | None = None

    @property
    def all_names(self) -> set[str]:
        """Also those that only a value has."""
        return {*self.names, *(name for name in self.values.values() if name is not None)}


@dataclass(frozen=True)
class DenseScores:
    """What a network says of one image: logits of its classes.

    Attributes:
        logits: (K, h, w), of any floating type, at 1/stride of the padded input.
        stride: how many input pixels one logit stands for, on each side.
    """

    logits: "Tensor"
    stride: int

    @staticmethod
    def of(logits: "Tensor", stride: int) -> "list[DenseScores]":
        """Of each image of logits (N, K, h, w)."""
        return [DenseScores(one, stride) for one in logits]

    @property
    def num_classes(self) -> int:
        return len(self.logits)

    @property
    def maps(self) -> "Tensor":
        """What is interpolated."""
        return self.logits

    @property
    def reach(self) -> tuple[int, int]:
        """Height and width of the input that the logits stand for."""
        return self.logits.shape[-2] * self.stride, self.logits.shape[-1] * self.stride


@dataclass(frozen=True)
class MaskScores:
    """What a network that classifies masks says of one image: a pixel's score of class k is Σ_q p_qk · σ(mask_q).

    Attributes:
        probabilities: (Q, K), of any floating type: how likely the mask of query q shows class k. A row sums to 1
            together with the probability that it shows nothing.
        masks: (Q, h, w) logits, of any floating type, at 1/stride of the padded input; they are upsampled before σ.
        stride: how many input pixels one logit stands for, on each side.
    """

    probabilities: "Tensor"
    masks: "Tensor"
    stride: int

    @property
    def num_classes(self) -> int:
        return self.probabilities.shape[1]

    @property
    def maps(self) -> "Tensor":
        """What is interpolated."""
        return self.masks

    @property
    def reach(self) -> tuple[int, int]:
        """Height and width of the input that the masks stand for."""
        return self.masks.shape[-2] * self.stride, self.masks.shape[-1] * self.stride


Scores = DenseScores | MaskScores
"""How likely each class is at each pixel, as the network knows it; what ``inference`` takes."""


@dataclass(frozen=True)
class DatasetInfo:
    """The facts of a data set's labels and images.

    Attributes:
        names: class names in id order; class ``i`` is stored as value ``i``.
        ignore_index: the mask value of pixels that count neither in the loss nor in the metric.
        palette: one colour for each class, in id order.
        channels: how many channels every image has.
        dtype: NumPy's name of the type of their values: ``uint8``, ``uint16``, ``int16`` or ``float32``.
    """

    names: tuple[str, ...]
    ignore_index: int
    palette: tuple[Colour, ...]
    channels: int = 3
    dtype: str = "uint8"

    @property
    def num_classes(self) -> int:
        return len(self.names)

    @cached_property
    def ignore_colour(self) -> Colour:
        """The colour of ignored pixels in pictures: black, unless a class looks like it."""
        return free_colour(IGNORE_COLOURS, self.palette)


def summarise(items: Sequence[object], limit: int = 5) -> str:
    """List the first few items of a long list for an error message.

    >>> summarise(["a", "b", "c"], limit=2)
    'a, b and 1 more'
    """
    shown = ", ".join(str(item) for item in items[:limit])
    more = len(items) - limit
    return f"{shown} and {more} more" if more > 0 else shown


def over_classes(averaged: int, classes: int) -> str:
    """A text to follow a mean over classes: over how many it is, if it leaves some out.

    >>> over_classes(1, 2)
    ' over 1 of 2 classes'
    >>> over_classes(2, 2)
    ''
    """
    return f" over {averaged} of {classes} classes" if averaged < classes else ""
