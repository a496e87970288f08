"""A network with all that is around it as one graph: stored pixels in, label maps out, at any size."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_seg.inference.temperature import tempered
from lightning_seg.models.segmentor import Segmentor


def mask_dtype(num_classes: int) -> torch.dtype:
    """The type of an exported file's label maps: uint8 up to 256 classes, else int32."""
    return torch.uint8 if num_classes <= 256 else torch.int32


class Graph(nn.Module):
    """Images as stored to label maps: normalisation, channel order, padding, upsampling, cropping and argmax inside.

    The sizes stay free where this is traced: nothing here makes a number of a shape.

    Args:
        segmentor: in evaluation mode, on the CPU, in float32.
        probabilities: whether to give these as well.
        temperature: of the probabilities.
        half: whether the network, which is made so, computes in float16; all around it stays float32.
    """

    def __init__(
        self, segmentor: Segmentor, *, probabilities: bool = False, temperature: float = 1.0, half: bool = False
    ) -> None:
        super().__init__()
        network: Any = segmentor.network
        self.network = network
        self.head = segmentor.head
        self.padding = segmentor.padding
        self.bgr = segmentor.bgr
        self.probabilities = probabilities
        self.temperature = temperature
        self.half_network = half
        self.pixel_mean = nn.Buffer(network.pixel_mean.clone().float())
        self.pixel_std = nn.Buffer(network.pixel_std.clone().float())
        if half:
            _halve(network)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Label maps, and probabilities where they are asked for.

        Args:
            image: (N, C, H, W), the channels in the order of the file: RGB uint8, or bands of the type of the data.

        Returns:
            mask: (N, H, W) uint8 class ids; int32 for more than 256 classes.
            probabilities: (N, K, H, W) float32.
        """
        scores = self.upsampled(self.normalised(image))
        labels = scores.argmax(1)
        mask = labels.to(mask_dtype(scores.shape[1]))
        if not self.probabilities:
            return (mask,)
        return mask, tempered(self.head.as_probabilities(scores), self.temperature, classes=1)

    def normalised(self, image: Tensor) -> Tensor:
        """What the network sees of pixels as stored."""
        pixels = image.flip(1) if self.bgr else image
        return (pixels.float() - self.pixel_mean) / self.pixel_std

    def upsampled(self, pixels: Tensor) -> Tensor:
        """Scores (N, K, H, W) of normalised pixels: logits, or those of masks."""
        height, width = pixels.shape[-2:]
        padded_height, padded_width = self.padding(height, width)
        padded = F.pad(pixels, (0, padded_width - width, 0, padded_height - height))
        if self.half_network:
            padded = padded.half()
        features = self.network.backbone(padded)
        full = self.head.full_scores(features, (padded.shape[-2], padded.shape[-1]))
        return full[..., :height, :width]


def _halve(network: nn.Module) -> None:
    """Make a network's numbers float16, but for running statistics: variances of pixels from 0 to 255 are beyond it."""
    from detectron2.layers import FrozenBatchNorm2d

    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm | FrozenBatchNorm2d):
            continue
        for tensor in [*module.parameters(recurse=False), *module.buffers(recurse=False)]:
            if tensor.is_floating_point():
                tensor.data = tensor.data.half()
