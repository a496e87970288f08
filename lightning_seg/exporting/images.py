"""What an exported file is tried with: images of a data set, and images of odd sizes."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_seg.data.dataset import SegmentationDataset
from lightning_seg.exporting.parity import SIZES, Images


def spread(dataset: SegmentationDataset, most: int) -> list[int]:
    """Indices of at most so many samples, spread evenly over a data set."""
    count = len(dataset)
    if count <= most:
        return list(range(count))
    return [round(place * (count - 1) / max(1, most - 1)) for place in range(most)]


def images_of(dataset: SegmentationDataset, indices: Sequence[int]) -> Iterator[Images]:
    """Images as the network gets them, after the data set's transforms, one a batch."""
    for index in indices:
        item = dataset[index]
        yield Images(item.get("name", str(index)), item["image"][None])


class Kind(NamedTuple):
    """What the images of a network are like.

    Attributes:
        dtype: of their values.
        mean: of each channel, (C, 1, 1).
        std: likewise.
    """

    dtype: torch.dtype
    mean: Tensor
    std: Tensor

    def of_bytes(self, pixels: Tensor) -> Tensor:
        """Images (…, C, H, W) from 0 to 255 as such images; bytes stay, others spread over 5 standard deviations."""
        if self.dtype == torch.uint8:
            return pixels.clamp(0, 255).to(torch.uint8)
        values = (pixels / 255 - 0.5) * 5 * self.std + self.mean
        if self.dtype.is_floating_point:
            return values.to(self.dtype)
        ends = torch.iinfo(self.dtype)
        return values.round().clamp(ends.min, ends.max).to(self.dtype)


def odd_sizes(sources: Sequence[Tensor], kind: Kind) -> Iterator[Images]:
    """Batches of :data:`SIZES`, cut out of images (C, H, W), or of coloured noise where there are none."""
    channels = len(kind.mean)
    generator = torch.Generator().manual_seed(0)
    for place, (number, height, width) in enumerate(SIZES):
        if sources:
            one = sources[place % len(sources)]
            pixels = torch.stack([_cut(one, height, width, 37 * place + 11 * image) for image in range(number)])
        else:
            coarse = torch.rand(number, channels, -(-height // 16), -(-width // 16), generator=generator) * 255
            smooth = F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)
            noise = torch.rand(number, channels, height, width, generator=generator) * 48 - 24
            pixels = kind.of_bytes(smooth + noise)
        yield Images("size", pixels)


def _cut(image: Tensor, height: int, width: int, offset: int) -> Tensor:
    """A part of an image, which is repeated where it is smaller."""
    rows = (torch.arange(height) + offset) % image.shape[1]
    columns = (torch.arange(width) + offset) % image.shape[2]
    return image[:, rows][:, :, columns]
