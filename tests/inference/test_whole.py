"""Label maps against Detectron2's own post-processing."""

import pytest
import torch
from torch.nn import functional as F

from lightning_seg.inference.whole import label_maps


@pytest.mark.parametrize("original", [(37, 53), (64, 96), (91, 40), (1, 1)])
def test_equals_detectron2(original: tuple[int, int]) -> None:
    from detectron2.modeling.postprocessing import sem_seg_postprocess

    logits = torch.randn(2, 5, 16, 24, generator=torch.Generator().manual_seed(0))
    sizes = [(61, 90), (64, 96)]
    full = F.interpolate(logits, scale_factor=4, mode="bilinear", align_corners=False)
    ours = label_maps(logits, 4, sizes, [original, original])
    for image_logits, size, labels in zip(full, sizes, ours, strict=True):
        theirs = sem_seg_postprocess(image_logits, torch.Size(size), *original).argmax(0)
        assert labels.shape == original
        assert torch.equal(labels, theirs)
