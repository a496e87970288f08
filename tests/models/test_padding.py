"""What images are padded to: as Detectron2 does, and by one rule for the segmentor and an exported graph."""

import itertools
import pickle
from copy import deepcopy
from typing import Any

import pytest
import torch
from detectron2.structures import ImageList

from lightning_seg.models.architectures.mask_segmentor import MaskSegmentor
from lightning_seg.models.padding import Padding, divisibility_of, pad_to
from lightning_seg.models.segmentor import Segmentor
from tests.models.networks import build_segmentor, overrides_of, segmentor_of
from tests.models.samples import make_batch

pytestmark = pytest.mark.usefixtures("one_thread")

SIDES = (*range(1, 9), *range(28, 37), *range(60, 67), 96, 97, 129)
DIVISIBILITY = "MODEL.MASK_FORMER.SIZE_DIVISIBILITY"
MASKS = overrides_of("resnet18", "Mask2FormerHead")


def of_detectron2(segmentor: Segmentor, size: tuple[int, int], **constraints: int) -> tuple[int, ...]:
    backbone = segmentor.network.backbone
    found = ImageList.from_tensors(
        [torch.empty(size, device="meta")],
        backbone.size_divisibility,
        padding_constraints={**backbone.padding_constraints, **constraints},
    )
    return tuple(found.tensor.shape[-2:])


@pytest.mark.parametrize(
    ("backbone", "head", "whole"),
    [
        ("regnet FPN", "SemSegFPNHead", None),
        ("resnet18", "SemSegFPNHead", 32),
        ("resnet18, one level", "SemSegFPNHead", None),
        ("swin, patches of 3", "SemSegFPNHead", None),
    ],
)
def test_pads_as_detectron2_does(backbone: str, head: str, whole: int | None) -> None:
    segmentor = segmentor_of(backbone, head)
    assert segmentor.whole_levels == (whole is not None)
    for size in itertools.product(SIDES, (1, 3, 31, 32, 33, 61, 64, 97)):
        lacking = whole is not None and any(-side % whole >= segmentor.head.stride for side in size)
        constraints = {"size_divisibility": whole} if whole is not None and lacking else {}
        assert segmentor.padding(*size) == of_detectron2(segmentor, size, **constraints), size


def test_pads_to_a_square_where_the_backbone_asks_for_one() -> None:
    segmentor = segmentor_of("regnet FPN", "SemSegFPNHead")
    segmentor.network.backbone._square_pad = 256
    assert segmentor.padding(33, 200) == of_detectron2(segmentor, (33, 200)) == (256, 256)


def test_a_batch_is_padded_as_its_largest_sides() -> None:
    segmentor = build_segmentor({**MASKS, DIVISIBILITY: 32})
    inputs = segmentor.inputs(make_batch([(33, 64), (64, 20)]))
    assert inputs.shape[-2:] == (64, 64)
    assert segmentor._targets(make_batch([(33, 70)])).shape[-2:] == (64, 96)


@pytest.mark.parametrize(("multiple", "expected"), [(-1, (33, 70)), (1, (33, 70)), (24, (48, 72)), (32, (64, 96))])
def test_mask2former_pads_to_its_key_alone(multiple: int, expected: tuple[int, int]) -> None:
    segmentor = build_segmentor({**MASKS, DIVISIBILITY: multiple})
    assert segmentor.padding(33, 70) == of_detectron2(segmentor, (33, 70)) == expected
    assert isinstance(segmentor.network, MaskSegmentor) == (multiple > 1)


def test_the_key_and_the_backbone_both_divide() -> None:
    segmentor = build_segmentor({**overrides_of("swin, patches of 3", "Mask2FormerHead"), DIVISIBILITY: 32})
    assert divisibility_of(segmentor.network.backbone) == 96


def test_other_heads_do_not_read_the_key() -> None:
    segmentor = build_segmentor({**overrides_of("resnet18, one level", "SemSegFPNHead"), DIVISIBILITY: 32})
    assert segmentor.padding(33, 70) == (33, 70)


def test_copies_and_pickles_pad_alike_and_give_the_same() -> None:
    segmentor = build_segmentor({**MASKS, DIVISIBILITY: 32}).eval()
    backbone: Any = segmentor.network.backbone
    pad_to(backbone, 32)  # again: nothing changes
    images = torch.randn(1, 3, 64, 96)
    for copy in (deepcopy(backbone), pickle.loads(pickle.dumps(backbone))):
        assert type(copy) is type(backbone)
        assert type(copy).__name__ == "ResNet"
        assert Padding(copy, 4)(33, 70) == (64, 96)
        with torch.no_grad():
            for one, other in zip(copy(images).values(), backbone(images).values(), strict=True):
                assert torch.equal(one, other)
