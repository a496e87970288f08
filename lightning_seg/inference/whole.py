"""From the logits of a whole image to its label map."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

Size = tuple[int, int]
"""Height and width in pixels."""


def label_maps(logits: Tensor, stride: int, input_sizes: Sequence[Size], output_sizes: Sequence[Size]) -> list[Tensor]:
    """Upsample logits as Detectron2 does and take the best class of every pixel.

    Args:
        logits: (N, K, h, w) float, at 1/stride of the padded input.
        stride: how many input pixels one logit stands for, on each side.
        input_sizes: of each image as the network saw it, without padding.
        output_sizes: of each label map, usually the image's stored size.

    Returns:
        N maps (height, width) int64 of class ids. They equal the argmax of what
        ``detectron2.modeling.postprocessing.sem_seg_postprocess`` makes of the head's output.
    """
    full = F.interpolate(logits.float(), scale_factor=stride, mode="bilinear", align_corners=False)
    maps = []
    for image_logits, (height, width), output_size in zip(full, input_sizes, output_sizes, strict=True):
        cropped = image_logits[None, :, :height, :width]
        maps.append(F.interpolate(cropped, size=output_size, mode="bilinear", align_corners=False)[0].argmax(dim=0))
    return maps
