"""Mask2FormerHead against transformers' whole model with the same weights, and what it does otherwise."""

import sys
from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_seg.errors import ConfigError, DependencyError
from lightning_seg.inference.whole import label_maps
from lightning_seg.losses import CrossEntropy
from lightning_seg.models.recipe import load_recipe
from lightning_seg.models.segmentor import Segmentor
from lightning_seg.structures import MaskScores
from tests.models.networks import NUM_CLASSES, ZOO, build_segmentor, overrides_of
from tests.models.samples import IGNORE, full_batch, make_batch, transformers_labels

pytestmark = pytest.mark.usefixtures("one_thread")

HEAD, MASKS = "MODEL.SEM_SEG_HEAD.", "MODEL.MASK_FORMER."
OWN = {**overrides_of("resnet18", "Mask2FormerHead"), HEAD + "IN_FEATURES": ["res5", "res2", "res4", "res3"]}
SIZE = (68, 100)
"""Whole strides of the masks, but of no other level."""


class _Encoder(nn.Module):
    """A Detectron2 backbone in place of transformers' own."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, pixels: Tensor) -> SimpleNamespace:
        features = self.backbone(pixels)
        return SimpleNamespace(feature_maps=[features[name] for name in ("res2", "res3", "res4", "res5")])


def theirs_of(segmentor: Segmentor) -> Any:
    """``Mask2FormerForUniversalSegmentation`` with copies of a segmentor's weights."""
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, ResNetConfig

    stages = ["stage1", "stage2", "stage3", "stage4"]
    channels = ResNetConfig(
        embedding_size=64, hidden_sizes=[64, 128, 256, 512], depths=[1] * 4, layer_type="basic", out_features=stages
    )
    model = Mask2FormerForUniversalSegmentation(
        Mask2FormerConfig(
            backbone_config=channels, num_labels=NUM_CLASSES, feature_size=64, mask_feature_size=16, hidden_dim=16,
            num_queries=8, num_attention_heads=2, encoder_layers=1, encoder_feedforward_dim=16, decoder_layers=4,
            dim_feedforward=16, train_num_points=64,
        )
    )  # fmt: skip
    model.model.pixel_level_module.encoder = _Encoder(deepcopy(segmentor.network.backbone))
    head = segmentor.network.sem_seg_head
    model.model.pixel_level_module.decoder.load_state_dict(head.pixel_decoder.state_dict())
    model.model.transformer_module.load_state_dict(head.transformer_module.state_dict())
    model.class_predictor.load_state_dict(head.class_predictor.state_dict())
    return model


def their_losses(model: Any, segmentor: Segmentor, batch: list[dict[str, Any]]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}

    def keep(losses: dict[str, Tensor]) -> Any:
        found.update(losses)
        return torch.stack(list(losses.values())).sum()

    model.get_loss = keep
    model.train()(pixel_values=segmentor.inputs(batch), **transformers_labels(batch))
    return {name.replace("cross_entropy", "ce"): loss for name, loss in found.items()}


def test_logits_losses_and_label_maps_are_those_of_transformers() -> None:
    segmentor = build_segmentor(OWN)
    model, batch = theirs_of(segmentor), full_batch(SIZE)
    torch.manual_seed(7)
    ours = segmentor.train().losses(batch)
    torch.manual_seed(7)
    theirs = their_losses(model, segmentor, batch)
    names = [f"loss_{part}{layer}" for layer in ("", "_0", "_1", "_2") for part in ("ce", "dice", "mask")]
    assert sorted(ours) == sorted(theirs) == sorted(names)
    for name, loss in theirs.items():
        torch.testing.assert_close(ours[name], loss, rtol=1e-5, atol=0, msg=lambda m, n=name: f"{n}: {m}")

    for size in (SIZE, (65, 97), (33, 127)):
        batch = make_batch([size])
        with torch.no_grad():
            expected = model.eval()(pixel_values=segmentor.inputs(batch))
            evaluated = segmentor.eval().evaluate(batch)
        (found,) = evaluated.scores
        assert isinstance(found, MaskScores)
        classes = expected.class_queries_logits[0].softmax(-1)[:, :-1]
        torch.testing.assert_close(found.probabilities, classes, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(found.masks, expected.masks_queries_logits[0], rtol=1e-5, atol=1e-5)
        full = torch.nn.functional.interpolate(
            expected.masks_queries_logits, scale_factor=4, mode="bilinear", align_corners=False
        )[0, :, : size[0], : size[1]]
        scores = torch.einsum("qk,qhw->khw", classes, full.sigmoid())
        (labels,) = label_maps([found], [size], [size])
        chosen = scores.gather(0, labels.long()[None])[0]
        assert (scores.amax(0) - chosen).max() < 1e-5
        assert (labels.long() == scores.argmax(0)).float().mean() > 0.999


def test_ten_steps_give_the_weights_of_transformers() -> None:
    segmentor = build_segmentor(OWN)
    model = theirs_of(segmentor)
    optimisers = [torch.optim.AdamW(one.parameters(), lr=1e-4) for one in (segmentor, model)]
    for step in range(10):
        batch = full_batch(SIZE, step)
        torch.manual_seed(step)
        ours = torch.stack(list(segmentor.train().losses(batch).values())).sum()
        torch.manual_seed(step)
        theirs = torch.stack(list(their_losses(model, segmentor, batch).values())).sum()
        for loss, optimiser in zip((ours, theirs), optimisers, strict=True):
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    assert float(ours.detach()) == pytest.approx(float(theirs.detach()), rel=1e-5)
    network, parts, start = segmentor.network, model.model, build_segmentor(OWN).network
    for mine, own, at_first in (
        (network.sem_seg_head.pixel_decoder, parts.pixel_level_module.decoder, start.sem_seg_head.pixel_decoder),
        (network.sem_seg_head.transformer_module, parts.transformer_module, start.sem_seg_head.transformer_module),
        (network.sem_seg_head.class_predictor, model.class_predictor, start.sem_seg_head.class_predictor),
        (network.backbone, parts.pixel_level_module.encoder.backbone, start.backbone),
    ):
        expected, before = dict(own.named_parameters()), dict(at_first.named_parameters())
        for name, weight in mine.named_parameters():
            torch.testing.assert_close(weight, expected[name], rtol=0, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")
        assert any(not torch.equal(weight, before[name]) for name, weight in mine.named_parameters())


def test_first_weights_are_those_of_the_original_project() -> None:
    """Offsets that point outward, and matrices of Xavier's size; transformers draws them in its whole model alone."""
    head = build_segmentor({**OWN, MASKS + "HIDDEN_DIM": 64, MASKS + "NHEADS": 4}).network.sem_seg_head
    attention = head.pixel_decoder.encoder.layers[0].self_attn
    offsets = attention.sampling_offsets.bias.view(4, 3, 4, 2)
    assert offsets[0, 0].tolist() == [[1, 0], [2, 0], [3, 0], [4, 0]]
    assert torch.equal(offsets[:, 0], offsets[:, 2])
    assert all(
        (weight == 0).all() for weight in (attention.sampling_offsets.weight, attention.attention_weights.weight)
    )
    layer = head.transformer_module.decoder.layers[0]
    for weight in (layer.self_attn.q_proj.weight, layer.cross_attn.in_proj_weight):
        assert float(weight.detach().abs().max()) == pytest.approx((6 / (4 * 64)) ** 0.5, rel=0.02)
    assert float(layer.fc1.weight.detach().abs().max()) == pytest.approx((6 / (64 + 16)) ** 0.5, rel=0.02)
    assert float(head.pixel_decoder.level_embed.detach().std()) == pytest.approx(1, abs=0.2)
    assert all((part.bias == 0).all() for part in (layer.self_attn.v_proj, layer.self_attn.out_proj))


def test_fewer_layers_and_no_deep_supervision() -> None:
    segmentor = build_segmentor({**OWN, MASKS + "DEEP_SUPERVISION": False, MASKS + "DEC_LAYERS": 2})
    assert len(segmentor.network.sem_seg_head.transformer_module.decoder.layers) == 1
    assert list(segmentor.train().losses(full_batch(SIZE))) == ["loss_ce", "loss_mask", "loss_dice"]
    assert ["frozen: network.sem_seg_head.transformer_module" in notice for notice in segmentor.notices] == [True]


def test_dropout_never_skips_a_layer() -> None:
    """transformers takes it for the share of layers that training leaves out, too."""
    segmentor = build_segmentor({**OWN, MASKS + "DROPOUT": 0.9})
    torch.manual_seed(0)
    batch = full_batch(SIZE)
    assert [len(segmentor.train().losses(batch)) for _ in range(5)] == [12] * 5
    assert segmentor.train().losses(batch)["loss_ce"] != segmentor.train().losses(batch)["loss_ce"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({HEAD + "NORM": "BN"}, r"NORM is 'BN', but Mask2FormerHead has GN alone"),
        ({HEAD + "CONVS_DIM": 48}, "CONVS_DIM is 48, but .* a multiple of 32, .* of at least 64"),
        ({HEAD + "CONVS_DIM": 32}, "CONVS_DIM is 32, but .* of at least 64"),
        ({HEAD + "COMMON_STRIDE": 8}, "COMMON_STRIDE is 8, but Mask2FormerHead ends at .*res2, whose stride is 4"),
        ({HEAD + "IN_FEATURES": ["res2", "res5"]}, "IN_FEATURES is res2, res5, but Mask2FormerHead needs three levels"),
        (
            {HEAD + "DEFORMABLE_TRANSFORMER_ENCODER_IN_FEATURES": ["res2", "res3", "res4"]},
            "ENCODER_IN_FEATURES is res2, res3, res4, but .* the three coarsest of IN_FEATURES, res3, res4, res5",
        ),
        ({HEAD + "TRANSFORMER_ENC_LAYERS": 0}, "TRANSFORMER_ENC_LAYERS is 0, but must be at least 1"),
        ({MASKS + "DEC_LAYERS": 1}, "DEC_LAYERS is 1, but must be at least 2"),
        ({MASKS + "NHEADS": 3}, "CONVS_DIM is 64 and MODEL.MASK_FORMER.NHEADS 3, but an even number"),
        ({MASKS + "HIDDEN_DIM": 15, MASKS + "NHEADS": 1}, "HIDDEN_DIM is 15 and .*NHEADS 1, but an even number"),
        ({MASKS + "NUM_OBJECT_QUERIES": 0}, "NUM_OBJECT_QUERIES is 0"),
        ({MASKS + "OVERSAMPLE_RATIO": 0.5}, "OVERSAMPLE_RATIO is 0.5, but must be at least 1"),
        ({MASKS + "IMPORTANCE_SAMPLE_RATIO": 1.5}, "IMPORTANCE_SAMPLE_RATIO is 1.5, but must be from 0 to 1"),
        ({MASKS + "TRAIN_NUM_POINTS": 0}, "TRAIN_NUM_POINTS is 0, but must be at least 1"),
        ({MASKS + "MASK_WEIGHT": -1.0}, "MASK_WEIGHT is -1.0, but must be at least 0"),
        ({MASKS + f"{name}_WEIGHT": 0.0 for name in ("CLASS", "MASK", "DICE")}, "are 0: set one above 0"),
    ],
)  # fmt: skip
def test_refuses(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_segmentor({**OWN, **settings})


def test_published_names_of_levels_are_taken() -> None:
    build_segmentor({**OWN, HEAD + "DEFORMABLE_TRANSFORMER_ENCODER_IN_FEATURES": ["res3", "res4", "res5"]})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"criterion": CrossEntropy()},
            "model.criterion is CrossEntropy, also with low_memory, but Mask2FormerHead",
        ),
        ({"criterion": CrossEntropy(low_memory=True)}, "no logits of pixels .* Leave it out"),
        ({"auxiliary_stage": "res4"}, r"auxiliary_stage is res4, but Mask2FormerHead already trains"),
    ],
)
def test_settings_of_dense_heads_are_refused_with_the_reason(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Segmentor(load_recipe(ZOO, OWN), num_classes=NUM_CLASSES, ignore_index=IGNORE, **settings)


def test_without_transformers_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers.models.mask2former.modeling_mask2former", None)
    with pytest.raises(DependencyError, match=r"transformers' layers, .*pip install 'lightning_seg\[transformers\]'"):
        build_segmentor(OWN)


def test_pointrend_cannot_refine_it() -> None:
    overrides = overrides_of("resnet18", "PointRendSemSegHead")
    with pytest.raises(ConfigError, match="is Mask2FormerHead, which has no layers"):
        build_segmentor({**overrides, "MODEL.POINT_HEAD.COARSE_SEM_SEG_HEAD_NAME": "Mask2FormerHead"})


def test_an_evaluation_does_not_spoil_the_training_after_it() -> None:
    """transformers keeps the last position embedding, which inference mode would make useless for gradients."""
    segmentor, batch = build_segmentor(OWN), full_batch(SIZE)
    with torch.inference_mode():
        segmentor.eval().evaluate(batch)
    torch.stack(list(segmentor.train().losses(batch).values())).sum().backward()  # type: ignore[no-untyped-call]


def test_projections_are_trained_where_transformers_keeps_them_in_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.models.mask2former import modeling_mask2former as parts

    class Older(parts.Mask2FormerTransformerModule):
        """As before transformers 5.24."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            projections = list(self.input_projections)
            del self.input_projections
            self.input_projections = projections

    monkeypatch.setattr(parts, "Mask2FormerTransformerModule", Older)
    projections = [name for name, _ in build_segmentor(OWN).named_parameters() if "module.input_projections" in name]
    assert len(projections) == 6  # weight and bias of each level
