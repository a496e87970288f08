"""Losses and logits against Detectron2's own model, to the bit."""

from copy import deepcopy

import pytest
import torch

from lightning_seg.inference.whole import label_maps
from lightning_seg.models.recipe import load_recipe
from lightning_seg.models.segmentor import Segmentor
from tests.conftest import MODELS, TINY_OVERRIDES
from tests.models.samples import IGNORE, ZOO, as_detectron2, make_batch, pair

OTHER_SETTINGS = {
    "RGB and a weight": {
        **TINY_OVERRIDES,
        "MODEL.RESNETS.DEPTH": 34,
        "INPUT.FORMAT": "RGB",
        "MODEL.SEM_SEG_HEAD.LOSS_WEIGHT": 0.5,
    },
    "ResNet-50 of the zoo": {"MODEL.PIXEL_STD": [57.0, 58.0, 59.0]},
    "absolute crop": {
        **MODELS["DeepLabV3"],
        "INPUT.CROP.ENABLED": True,
        "INPUT.CROP.TYPE": "absolute",
        "INPUT.CROP.SIZE": [64, 96],
    },
}


@pytest.mark.parametrize("name", [*MODELS, *OTHER_SETTINGS])
def test_training_losses_are_detectron2s(name: str) -> None:
    ours, theirs, cfg = pair({**MODELS, **OTHER_SETTINGS}[name])
    batch = make_batch([(64, 96), (64, 96)])
    torch.manual_seed(1)  # PointRend's points, DeepLab's dropout
    expected = theirs.train()(as_detectron2(batch, cfg.INPUT.FORMAT))
    torch.manual_seed(1)
    found = ours.train().losses(batch)
    assert found.keys() == expected.keys()
    for part in expected:
        assert torch.equal(found[part], expected[part]), part


def test_training_losses_at_odd_sizes_are_detectron2s() -> None:
    ours, theirs, cfg = pair(TINY_OVERRIDES)
    batch = make_batch([(64, 96), (50, 71)])
    expected = theirs.train()(as_detectron2(batch, cfg.INPUT.FORMAT))
    assert torch.equal(ours.train().losses(batch)["loss_sem_seg"], expected["loss_sem_seg"])


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("size", [(64, 96), (50, 71)])
def test_predictions_are_detectron2s(name: str, size: tuple[int, int]) -> None:
    ours, theirs, cfg = pair(MODELS[name])
    batch = make_batch([size])
    batch[0].update(height=83, width=61)
    ours.eval()
    theirs.eval()
    with torch.no_grad():
        output = ours.evaluate(batch)
        expected = theirs(as_detectron2(batch, cfg.INPUT.FORMAT))[0]["sem_seg"].argmax(0)
    found = label_maps(output.scores, output.input_sizes, [(83, 61)])[0]
    assert torch.equal(found, expected)


@pytest.mark.parametrize("name", MODELS)
def test_evaluation_losses_are_the_main_training_losses(name: str) -> None:
    """With the same statistics in BatchNorm and no dropout, the only difference is which branch computes them."""
    ours, _, _ = pair({**MODELS[name], "MODEL.SEM_SEG_HEAD.ASPP_DROPOUT": 0.0})
    batch = make_batch([(64, 96)])
    ours.eval()
    with torch.no_grad():
        evaluated = ours.evaluate(batch).losses[0]["loss_sem_seg"]
        ours.network.sem_seg_head.training = True
        trained = ours.losses(batch)["loss_sem_seg"]
    assert torch.equal(evaluated, trained)


@pytest.mark.parametrize("name", ["DeepLabV3", "DeepLabV3Plus"])
def test_runs_where_detectron2_raises(name: str) -> None:
    """Odd sizes without a pyramid in training, and crops that the pooling window of the config does not divide."""
    crop = {"INPUT.CROP.ENABLED": True, "INPUT.CROP.TYPE": "absolute", "INPUT.CROP.SIZE": [128, 128]}
    ours, theirs, cfg = pair({**MODELS[name], **crop})
    batch = make_batch([(50, 71), (61, 64)])
    with pytest.raises(Exception, match=r"pool_kernel_size|[Ss]ize"):
        theirs.train()(as_detectron2(batch, cfg.INPUT.FORMAT))
    loss = torch.stack(list(ours.train().losses(batch).values())).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.isfinite()
    assert all(parameter.grad is not None for parameter in ours.parameters() if parameter.requires_grad)


@pytest.mark.parametrize("name", MODELS)
def test_channels_last_gives_the_same_to_rounding(name: str) -> None:
    ours, _, _ = pair(MODELS[name])
    other = Segmentor(load_recipe(ZOO, MODELS[name]), num_classes=5, ignore_index=IGNORE, channels_last=True)
    other.load_state_dict(ours.state_dict())
    weight = next(p for p in other.parameters() if p.ndim == 4 and p.shape[1] > 1 and p.shape[-1] > 1)
    assert weight.is_contiguous(memory_format=torch.channels_last)
    batch = make_batch([(50, 71)])
    with torch.no_grad():
        expected, found = (model.eval().evaluate(batch) for model in (ours, other))
    torch.testing.assert_close(found.losses, expected.losses, rtol=1e-4, atol=1e-5)


def test_pads_only_where_detectron2_raises() -> None:
    """SemSegFPNHead on a ResNet without a pyramid: its levels meet at 63×95, but not at 65×97."""
    bare = {
        **TINY_OVERRIDES,
        "MODEL.BACKBONE.NAME": "build_resnet_backbone",
        "MODEL.RESNETS.OUT_FEATURES": ["res2", "res3", "res4", "res5"],
        "MODEL.SEM_SEG_HEAD.IN_FEATURES": ["res2", "res3", "res4", "res5"],
    }
    ours, theirs, cfg = pair(bare)
    small, large = (as_detectron2(make_batch([size]), cfg.INPUT.FORMAT) for size in ((63, 95), (65, 97)))
    ours.eval()
    theirs.eval()
    with torch.no_grad():
        output = ours.evaluate(make_batch([(63, 95)]))
        found = label_maps(output.scores, output.input_sizes, [(63, 95)])[0]
        assert torch.equal(found, theirs(small)[0]["sem_seg"].argmax(0))
        with pytest.raises(RuntimeError, match="must match the size"):
            theirs(large)
        assert ours.scores(make_batch([(65, 97)]))[0].logits.shape[-2:] == (24, 32)


def test_a_broken_network_still_gives_nan() -> None:
    ours, _, _ = pair(TINY_OVERRIDES)
    with torch.no_grad():
        ours.network.sem_seg_head.predictor.bias.fill_(torch.nan)
    assert ours.train().losses(make_batch([(64, 64), (64, 64)]))["loss_sem_seg"].isnan()


@pytest.mark.parametrize("name", MODELS)
def test_a_criterion_reaches_every_head(name: str) -> None:
    seen = []

    def criterion(logits: torch.Tensor, targets: torch.Tensor, ignore_index: int) -> dict[str, torch.Tensor]:
        seen.append((logits.shape[1], targets.dtype, ignore_index))
        return {"loss_mine": logits.mean() * 0 + 2.5}

    ours = Segmentor(load_recipe(ZOO, MODELS[name]), num_classes=5, ignore_index=IGNORE, criterion=criterion)
    batch = make_batch([(64, 96), (64, 96)])
    losses = ours.train().losses(batch)
    assert losses["loss_mine"].item() == 2.5
    assert "loss_sem_seg" not in losses
    assert ours.eval().evaluate(batch).losses == [{"loss_mine": 2.5}] * 2
    assert set(seen) == {(5, torch.int64, IGNORE)}
    assert "losses" not in vars(deepcopy(ours).network.sem_seg_head)


@pytest.mark.parametrize("name", MODELS)
def test_auxiliary_head_trains_the_inner_stage(name: str) -> None:
    stage = "res5" if name == "DeepLabV3" else "res2" if name == "DeepLabV3Plus" else "res4"
    ours = Segmentor(load_recipe(ZOO, MODELS[name]), num_classes=5, ignore_index=IGNORE, auxiliary_stage=stage)
    losses = ours.train().losses(make_batch([(64, 96), (64, 96)]))
    assert "loss_auxiliary" in losses
    losses["loss_auxiliary"].backward()  # type: ignore[no-untyped-call]
    assert any(parameter.grad is not None for parameter in ours.network.backbone.parameters())
    assert all(parameter.grad is None for parameter in ours.network.sem_seg_head.parameters())
    assert "loss_auxiliary" not in ours.eval().evaluate(make_batch([(64, 96)])).losses[0]


def test_parameters_without_use_are_frozen_and_named() -> None:
    ours = Segmentor(
        load_recipe(ZOO, {**TINY_OVERRIDES, "MODEL.SEM_SEG_HEAD.IN_FEATURES": ["p2", "p3"]}),
        num_classes=5,
        ignore_index=IGNORE,
    )
    assert "the loss does not depend on" in ours.notices[0]
    assert "network.backbone.fpn_output4" in ours.notices[0]
    ours.train()
    torch.stack(list(ours.losses(make_batch([(64, 64), (64, 64)])).values())).sum().backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None for parameter in ours.parameters() if parameter.requires_grad)


@pytest.mark.parametrize(
    ("config", "dropped"),
    [
        ("COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.yaml", "instance heads"),
        ("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml", "box, mask and keypoint heads"),
        ("COCO-Detection/retinanet_R_50_FPN_1x.yaml", "the box head"),
    ],
)
def test_detection_configs_give_their_semantic_part(config: str, dropped: str) -> None:
    ours = Segmentor(load_recipe(config, {}), num_classes=5, ignore_index=IGNORE)
    assert dropped in ours.notices[0]
    assert ours.train().losses(make_batch([(64, 64)]))["loss_sem_seg"].isfinite()
