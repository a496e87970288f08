"""What every head promises on every backbone; a new one joins by its entry in ``HEADS`` or ``BACKBONES``.

Every pair is built, trained for a step and evaluated at odd sizes, or refused with a reason: by ``make test-all``. The
suite tries every head on one backbone, every backbone under one head, and what is refused, as does what costs more.
"""

import itertools
import math
from copy import deepcopy

import pytest
import torch

from lightning_seg.errors import ConfigError, DataError
from lightning_seg.inference.whole import label_maps, plain_scores
from lightning_seg.models.heads.dpt import DPTHead
from lightning_seg.models.segmentor import Segmentor
from lightning_seg.structures import Batch, MaskScores, summarise
from tests.models.networks import (
    BACKBONES,
    FEW,
    HEADS,
    NUM_CLASSES,
    ODD,
    PYRAMID,
    build_segmentor,
    overrides_of,
    segmentor_of,
    total_loss,
)
from tests.models.samples import IGNORE, as_detectron2, make_batch

pytestmark = pytest.mark.usefixtures("one_thread")


REFUSED = {
    ("resnet18, one level", "DeepLabV3PlusHead"): "PROJECT_CHANNELS has 1 numbers and IN_FEATURES is res5",
    ("resnet18, one level", "UNetHead"): "IN_FEATURES is res5 alone, but UNetHead joins two levels or more",
    **{
        (backbone, "Mask2FormerHead"): f"IN_FEATURES is {levels}, but Mask2FormerHead needs three levels or more"
        for backbone, levels in (
            ("resnet18, one level", "res5"),
            ("resnet50, stem of DeepLab", "res2, res5"),
            ("timm resnet, dilated", "stage2, stage5"),
        )
    },
    (
        "swin, patches of 3",
        "DPTHead",
    ): "DPTHead ends 2 times finer than .*p0, whose stride is 3, which is no whole",
    ("timm dinov2, patches of 14", "PointRendSemSegHead"): r"SUBDIVISION_STEPS is 4 .*COMMON_STRIDE 14, .*STEPS to 1",
    ("swin, patches of 3", "PointRendSemSegHead"): r"SUBDIVISION_STEPS is 2 .*COMMON_STRIDE 3, .* powers of two",
}
"""The only pairs that cannot work, and the reason that a user reads."""

PAIRS = [
    pytest.param(*pair, marks=() if pair in FEW or pair in REFUSED else pytest.mark.slow)
    for pair in itertools.product(BACKBONES, HEADS)
]

each_pair = pytest.mark.parametrize(("backbone", "head"), PAIRS)
each_of_few = pytest.mark.parametrize(("backbone", "head"), list(dict.fromkeys(FEW)))


def logits_of(segmentor: Segmentor, batch: Batch) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([plain_scores(scores).flatten() for scores in segmentor.eval().scores(batch)])


@each_pair
def test_trains_and_predicts_at_odd_sizes_or_is_refused(backbone: str, head: str) -> None:
    if (backbone, head) in REFUSED:
        with pytest.raises(ConfigError, match=REFUSED[backbone, head]):
            build_segmentor(overrides_of(backbone, head))
        return
    segmentor = segmentor_of(backbone, head)
    batch = make_batch(ODD)
    check_gradients(segmentor, batch)
    check_logits(segmentor, batch)
    check_prediction(segmentor)


def check_gradients(segmentor: Segmentor, batch: Batch) -> None:
    """They reach every trained parameter; the others are frozen and named, and nothing could reach them."""
    frozen = [name for name, parameter in segmentor.named_parameters() if not parameter.requires_grad]
    named = f"the loss does not depend on {len(frozen)} parameters, which are frozen: {summarise(frozen)}"
    assert segmentor.notices == ([named] if frozen else [])
    segmentor.requires_grad_(True)
    total_loss(segmentor, batch).backward()  # type: ignore[no-untyped-call]
    assert [name for name, parameter in segmentor.named_parameters() if parameter.grad is None] == frozen
    assert all(parameter.grad.isfinite().all() for parameter in segmentor.parameters() if parameter.grad is not None)


def check_logits(segmentor: Segmentor, batch: Batch) -> None:
    """They stand for exactly the padded input, up to the stride of a logit."""
    seen: list[torch.Size] = []
    hook = segmentor.network.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape))
    with torch.no_grad():
        output = segmentor.eval().evaluate(batch)
    hook.remove()
    head = segmentor.network.sem_seg_head
    common_stride = getattr(head, "coarse_sem_seg_head", head).common_stride
    assert len(seen) == len(output.scores) == len(batch)
    for shape, scores in zip(seen, output.scores, strict=True):
        reach = [math.ceil(side / common_stride) * common_stride for side in shape[-2:]]
        assert scores.num_classes == NUM_CLASSES
        assert list(scores.reach) == reach
        assert scores.maps.isfinite().all()
    assert output.input_sizes == ODD
    assert all(loss.isfinite() for losses in output.losses for loss in losses.values())


def check_prediction(segmentor: Segmentor) -> None:
    """At the stored size, and Detectron2's own wherever that runs; it resizes scores where we resize masks.

    It evaluates DPT's head without the padding that it trains with, and drops logits: the same at whole sizes only.
    """
    runs_unpadded = segmentor.whole_levels and isinstance(segmentor.network.sem_seg_head, DPTHead)
    given = (64, 96) if runs_unpadded else ODD[0]
    batch = make_batch([given])
    segmentor.eval()
    with torch.no_grad():
        output = segmentor.evaluate(batch)
        size = given if isinstance(output.scores[0], MaskScores) else (83, 61)
        batch[0].update(height=size[0], width=size[1])
        found = label_maps(output.scores, output.input_sizes, [size])[0]
        assert found.shape == size
        theirs = as_detectron2(batch, "BGR" if segmentor.bgr else "RGB")
        if segmentor.whole_levels and not runs_unpadded:
            with pytest.raises(RuntimeError, match="must match the size"):
                segmentor.network(theirs)
        else:
            assert torch.equal(found, segmentor.network(theirs)[0]["sem_seg"].argmax(0))


@each_of_few
def test_the_seed_decides_weights_and_losses(backbone: str, head: str) -> None:
    first, again = segmentor_of(backbone, head), build_segmentor(overrides_of(backbone, head))
    for (name, tensor), other in zip(first.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(tensor, other), name
    batch = make_batch(ODD)
    assert torch.equal(total_loss(first, batch), total_loss(again, batch))


@each_of_few
def test_mixed_precision_stays_near(backbone: str, head: str) -> None:
    segmentor, batch = segmentor_of(backbone, head), make_batch(ODD)
    expected = logits_of(segmentor, batch)
    with torch.autocast("cpu", torch.bfloat16):
        found = logits_of(segmentor, batch)
    assert (found.float() - expected).norm() < 0.15 * expected.norm()
    loss = total_loss(segmentor, batch)
    with torch.autocast("cpu", torch.bfloat16):
        mixed_loss = total_loss(segmentor, batch)
    mixed_loss.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(mixed_loss, loss, rtol=0.1, atol=0)


@each_of_few
def test_copies_and_states_give_the_same_logits(backbone: str, head: str) -> None:
    segmentor, batch = segmentor_of(backbone, head), make_batch(ODD)
    total_loss(segmentor, batch)  # moves the running statistics
    twin, restored = deepcopy(segmentor), deepcopy(segmentor)
    for tensor in restored.state_dict().values():
        tensor.zero_()
    restored.load_state_dict(segmentor.state_dict())
    expected = logits_of(segmentor, batch)
    assert torch.equal(logits_of(twin, batch), expected)
    assert torch.equal(logits_of(restored, batch), expected)


@each_of_few
def test_a_batch_without_any_label_does_no_harm(backbone: str, head: str) -> None:
    segmentor, batch = segmentor_of(backbone, head), make_batch(ODD)
    for sample in batch:
        sample["sem_seg"].fill_(IGNORE)
    loss = total_loss(segmentor, batch)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    gradients = [parameter.grad for parameter in segmentor.parameters() if parameter.requires_grad]
    assert all(gradient is not None and (gradient == 0).all() for gradient in gradients)
    assert all(part == 0 for losses in segmentor.eval().evaluate(batch).losses for part in losses.values())


@pytest.mark.parametrize("coarse", ["SemSegFPNHead", "DeepLabV3PlusHead", "UNetHead", "UPerNetHead", "SegFormerHead"])
def test_pointrend_refines_the_logits_of_other_heads(coarse: str) -> None:
    choose, own = HEADS[coarse]
    segmentor = build_segmentor(
        {
            **overrides_of("regnet FPN", "PointRendSemSegHead"),
            **own,
            "MODEL.POINT_HEAD.COARSE_SEM_SEG_HEAD_NAME": coarse,
            "MODEL.SEM_SEG_HEAD.IN_FEATURES": choose(list(PYRAMID)),
        }
    )
    batch = make_batch(ODD)
    check_gradients(segmentor, batch)
    check_logits(segmentor, batch)
    check_prediction(segmentor)


@pytest.mark.parametrize("steps", range(6))
def test_pointrend_may_stop_before_the_size_of_the_image(steps: int) -> None:
    """Detectron2 would stretch the prediction."""
    overrides = overrides_of("resnet18, one level", "PointRendSemSegHead")
    segmentor = build_segmentor({**overrides, "MODEL.POINT_HEAD.SUBDIVISION_STEPS": steps})
    check_logits(segmentor, make_batch(ODD))
    assert segmentor.scores(make_batch(ODD))[0].stride == 32 // 2**steps


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"image": torch.zeros(1, 65, 97)},
            r"image a\.jpg is a tensor of shape \(1, 65, 97\), but \(3, height, width\)",
        ),
        ({"image": torch.zeros(4, 65, 97)}, r"image a\.jpg is a tensor of shape \(4, 65, 97\)"),
        ({"image": torch.zeros(65, 97)}, r"image a\.jpg is a tensor of shape \(65, 97\)"),
        ({"sem_seg": torch.zeros(64, 97)}, r"mask of image a\.jpg has shape \(64, 97\), but the image \(65, 97\)"),
        ({"sem_seg": torch.zeros(1, 65, 97)}, r"mask of image a\.jpg has shape \(1, 65, 97\)"),
    ],
)
def test_refuses_misshapen_samples(change: dict[str, torch.Tensor], message: str) -> None:
    segmentor, batch = segmentor_of("regnet FPN", "SemSegFPNHead"), make_batch(ODD)
    batch[0].update(file_name="a.jpg", **change)
    for use in (segmentor.train().losses, segmentor.eval().evaluate):
        with pytest.raises(DataError, match=message):
            use(batch)
