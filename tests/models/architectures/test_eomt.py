"""EoMT against transformers' whole model with the same weights, and what it does otherwise."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.modeling import META_ARCH_REGISTRY, SemanticSegmentor
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_seg.errors import CheckpointError, ConfigError, DependencyError
from lightning_seg.losses import CrossEntropy
from lightning_seg.models.architectures.annealing import Annealing
from lightning_seg.models.architectures.vits import turns
from lightning_seg.models.heads.mask_losses import semantic_scores
from lightning_seg.models.rates import Rates, split_groups
from lightning_seg.models.recipe import load_recipe
from lightning_seg.models.segmentor import Segmentor
from lightning_seg.models.weights import load_weights
from lightning_seg.models.weights.eomt import eomt_name
from lightning_seg.structures import MaskScores
from tests.models.networks import EOMT, EOMT_DINOV3, NUM_CLASSES, SMALLEST, ZOO, build_segmentor
from tests.models.samples import IGNORE, as_detectron2, full_batch, make_batch, transformers_labels

pytestmark = pytest.mark.usefixtures("one_thread")

KEY = "MODEL.EOMT."
MASKED = {KEY + "ATTN_MASK_ANNEALING_ENABLED": False}
SIDE = 64

each_vit = pytest.mark.parametrize("vit", [EOMT, EOMT_DINOV3], ids=["DINOv2", "DINOv3"])


def theirs_of(segmentor: Segmentor, share: float, image_size: int = SIDE) -> Any:
    """transformers' whole model with copies of a segmentor's weights; queries kept to masks by that share."""
    import transformers

    own = segmentor.network.state_dict()
    dinov2 = "backbone.embeddings.position_embeddings.weight" in own
    kind, of_kind = ("Eomt", {}) if dinov2 else ("EomtDinov3", {"intermediate_size": 128})
    config = getattr(transformers, f"{kind}Config")(
        image_size=image_size, hidden_size=32, num_hidden_layers=4, num_attention_heads=2, num_blocks=2,
        num_queries=8, num_labels=NUM_CLASSES, train_num_points=64, **of_kind,
    )  # fmt: skip
    model = getattr(transformers, f"{kind}ForUniversalSegmentation")(config)
    state = {name: own.get(eomt_name(name), tensor).clone() for name, tensor in model.state_dict().items()}
    if image_size != SIDE and dinov2:
        positions = own["backbone.embeddings.position_embeddings.weight"].T.reshape(1, 32, 4, 4)
        larger = F.interpolate(positions, (image_size // 16, image_size // 16), mode="bicubic")
        state["embeddings.position_embeddings.weight"] = larger.flatten(2)[0].T.contiguous()
    assert {eomt_name(name) for name in state} >= set(own)
    model.load_state_dict(state)
    model.attn_mask_probs.fill_(share)
    return model


def their_losses(model: Any, segmentor: Segmentor, batch: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Of the last layer first, as here, since points are drawn in that order."""
    own, layers = model.get_loss_dict, []
    model.get_loss_dict = lambda **layer: layers.append(layer) or {}
    model.train()(pixel_values=segmentor.inputs(batch), **transformers_labels(batch))
    model.get_loss_dict = own
    found: dict[str, Tensor] = {}
    *others, last = layers
    for suffix, layer in [("", last), *((f"_{place}", other) for place, other in enumerate(others))]:
        losses = own(**layer)
        found.update({name.replace("cross_entropy", "ce") + suffix: loss for name, loss in losses.items()})
    return found


def our_losses(segmentor: Segmentor, batch: list[dict[str, Any]], share: float) -> dict[str, Tensor]:
    head = segmentor.network.sem_seg_head
    head.annealing = _Constant(share)
    return segmentor.train().losses(batch)  # type: ignore[arg-type]


class _Constant:
    enabled = True

    def __init__(self, share: float) -> None:
        self.share = share

    def shares(self, step: int, total_steps: float) -> list[float]:
        return [self.share] * 2


@each_vit
@pytest.mark.parametrize("share", [1.0, 0.4, 0.0])
def test_losses_are_those_of_transformers(vit: dict[str, Any], share: float) -> None:
    segmentor = build_segmentor(vit)
    model, batch = theirs_of(segmentor, share), full_batch((SIDE, SIDE))
    torch.manual_seed(7)
    ours = our_losses(segmentor, batch, share)
    torch.manual_seed(7)
    theirs = their_losses(model, segmentor, batch)
    names = [f"loss_{part}{layer}" for layer in ("", "_0", "_1") for part in ("ce", "dice", "mask")]
    assert sorted(ours) == sorted(theirs) == sorted(names)
    for name, loss in theirs.items():
        torch.testing.assert_close(ours[name], loss, rtol=1e-5, atol=0, msg=lambda m, n=name: f"{n}: {m}")


@each_vit
@pytest.mark.parametrize(("settings", "share"), [({}, 0.0), (MASKED, 1.0)], ids=["annealed", "masked"])
def test_logits_are_those_of_transformers_at_any_size(
    vit: dict[str, Any], settings: dict[str, Any], share: float
) -> None:
    segmentor = build_segmentor({**vit, **settings}).eval()
    for side in (SIDE, 96):
        batch = full_batch((side, side))
        with torch.no_grad():
            expected = theirs_of(segmentor, share, side).eval()(pixel_values=segmentor.inputs(batch))
            found = segmentor.scores(batch)  # type: ignore[arg-type]
        for place, scores in enumerate(found):
            assert isinstance(scores, MaskScores)
            classes = expected.class_queries_logits[place].softmax(-1)[:, :-1]
            torch.testing.assert_close(scores.probabilities, classes, rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(scores.masks, expected.masks_queries_logits[place], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [(64, 96), (33, 70)])
def test_rotary_positions_follow_any_size(size: tuple[int, int]) -> None:
    """Theirs only asks for squares where it shapes its masks."""
    segmentor = build_segmentor(EOMT_DINOV3).eval()
    model, batch = theirs_of(segmentor, 0.0).eval(), make_batch([size])
    inputs = segmentor.inputs(batch)
    model.grid_size = (inputs.shape[-2] // 16, inputs.shape[-1] // 16)
    with torch.no_grad():
        expected = model(pixel_values=inputs)
        (scores,) = segmentor.scores(batch)
    torch.testing.assert_close(scores.maps, expected.masks_queries_logits[0], rtol=1e-5, atol=1e-5)
    assert scores.reach == tuple(inputs.shape[-2:])


def test_training_scales_rotary_positions_unless_the_key_is_one() -> None:
    """By a factor that it draws."""
    images = torch.randn(1, 3, SIDE, SIDE)
    for rescale, drawn in ((2.0, True), (1.0, False)):
        backbone = build_segmentor({**EOMT_DINOV3, KEY + "POS_EMBED_RESCALE": rescale}).network.backbone
        with torch.no_grad():
            first, again = (backbone.train()(images)["patches"] for _ in range(2))
            assert torch.equal(first, again) is not drawn
            assert torch.equal(backbone.eval()(images)["patches"], first) is not drawn


def test_masks_change_what_is_said() -> None:
    batch = full_batch((SIDE, SIDE))
    scores = [build_segmentor(settings).eval().scores(batch)[0] for settings in (EOMT, {**EOMT, **MASKED})]  # type: ignore[arg-type]
    assert (scores[0].maps - scores[1].maps).abs().max() > 1e-3


@each_vit
def test_ten_steps_give_the_weights_of_transformers(vit: dict[str, Any]) -> None:
    segmentor = build_segmentor(vit)
    model = theirs_of(segmentor, 1.0)
    start = {name: tensor.clone() for name, tensor in segmentor.network.state_dict().items()}
    optimisers = [torch.optim.AdamW(one.parameters(), lr=1e-4) for one in (segmentor, model)]
    for step in range(10):
        batch, share = full_batch((SIDE, SIDE), step), 1 - step / 10
        model.attn_mask_probs.fill_(share)
        torch.manual_seed(step)
        ours = torch.stack(list(our_losses(segmentor, batch, share).values())).sum()
        torch.manual_seed(step)
        theirs = torch.stack(list(their_losses(model, segmentor, batch).values())).sum()
        for loss, optimiser in zip((ours, theirs), optimisers, strict=True):
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    assert float(ours.detach()) == pytest.approx(float(theirs.detach()), rel=1e-5)
    found = segmentor.network.state_dict()
    for name, weight in model.named_parameters():
        own = found[eomt_name(name)]
        torch.testing.assert_close(own, weight, rtol=0, atol=0, msg=lambda m, n=name: f"{n}: {m}")
        assert not torch.equal(own, start[eomt_name(name)]), name


def test_position_embeddings_of_the_trained_size_are_as_interpolated(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, images = build_segmentor(EOMT).network.backbone.eval(), torch.randn(1, 3, SIDE, SIDE)
    with torch.no_grad():
        expected = backbone(images)
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
        found = backbone(images)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_detectron2s_own_forward_gives_the_same() -> None:
    segmentor, batch = build_segmentor(EOMT).eval(), full_batch((SIDE, SIDE))
    with torch.no_grad():
        found = segmentor.network(as_detectron2(batch, "BGR"))
        head, backbone = segmentor.network.sem_seg_head, segmentor.network.backbone
        (prediction,) = head.predictions(backbone(segmentor.inputs(batch)))  # type: ignore[arg-type]
        expected = semantic_scores(prediction, 4)
        for one, scores in zip(found, expected, strict=True):
            torch.testing.assert_close(one["sem_seg"], scores)
        segmentor.network.train()
        assert len(segmentor.network(as_detectron2(batch, "BGR"))) == 9


def test_annealing_over_the_run() -> None:
    """Steps of the published recipe for ADE20K, four layers and 31 epochs of 1264 steps."""
    starts = [6520, 13040, 19560, 26080]
    annealing = Annealing(4, start_steps=starts, end_steps=[*starts[1:], 32600], max_iter=39184)
    assert annealing.shares(0, 39184) == annealing.shares(6520, 39184) == [1, 1, 1, 1]
    assert annealing.shares(9780, 39184) == pytest.approx([0.5**0.9, 1, 1, 1])
    assert (
        annealing.shares(2 * 9780, 2 * 39184) == annealing.shares(9780, float("inf")) == annealing.shares(9780, 39184)
    )
    assert annealing.shares(32600, 39184) == annealing.shares(39184, 39184) == [0, 0, 0, 0]
    assert Annealing(2, enabled=False).shares(7, 8) == [1, 1]


@pytest.mark.parametrize(
    ("starts", "ends"),
    [([14782, 36955, 59128], [29564, 51737, 73910]), ([14782, 29564, 44346, 59128], [29564, 44346, 59128, 73910])],
    ids=["S and B", "L"],
)
def test_steps_of_itself_are_those_of_published_models(starts: list[int], ends: list[int]) -> None:
    """Of COCO's configs: 12 epochs of 7391 steps."""
    run = 12 * 7391
    published, of_itself = Annealing(len(starts), True, starts, ends, run), Annealing(len(starts), max_iter=run)
    for step in range(0, run, 977):
        assert of_itself.shares(step, run) == pytest.approx(published.shares(step, run), abs=1e-9)


def test_step_and_run_reach_the_head() -> None:
    segmentor = build_segmentor(EOMT)
    segmentor.head.at_step(3, 12)
    head = segmentor.network.sem_seg_head
    assert head.annealing.shares(head.step, head.total_steps) == pytest.approx([0.5**0.9, 1])
    build_segmentor(SMALLEST).head.at_step(3, 12)  # other heads do not care


@each_vit
def test_rates_decay_over_all_blocks(vit: dict[str, Any]) -> None:
    segmentor = build_segmentor(vit)
    optimizer = torch.optim.AdamW(segmentor.parameters(), lr=1.0)
    split_groups(optimizer, segmentor.network.backbone, Rates(layer_decay=0.5))
    names = {id(parameter): name for name, parameter in segmentor.network.named_parameters()}
    rates = {names[id(one)]: group["lr"] for group in optimizer.param_groups for one in group["params"]}
    for name, rate in rates.items():
        block = next((place for place in range(4) if f"blocks.{place}." in name and "upscale" not in name), None)
        stem = name.startswith("backbone.embeddings.")
        assert rate == (0.5 ** (4 - block) if block is not None else 0.5**5 if stem else 1), name


@each_vit
def test_activation_checkpointing_gives_the_same_gradients(vit: dict[str, Any]) -> None:
    gradients = []
    for recomputed in (False, True):
        torch.manual_seed(0)
        segmentor = Segmentor(
            load_recipe(ZOO, vit), num_classes=NUM_CLASSES, ignore_index=IGNORE, activation_checkpointing=recomputed
        )
        torch.manual_seed(1)
        torch.stack(list(segmentor.train().losses(full_batch((SIDE, SIDE))).values())).sum().backward()  # type: ignore
        gradients.append([parameter.grad for parameter in segmentor.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))  # type: ignore[arg-type]


@each_vit
def test_weights_of_transformers_load(tmp_path: Path, vit: dict[str, Any]) -> None:
    segmentor = build_segmentor(vit)
    model = theirs_of(build_segmentor(vit, seed=5), 0.0)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    report = load_weights(segmentor.network, str(tmp_path / "model.safetensors"))
    assert (report.missing, report.unexpected, report.reshaped) == ((), (), ())
    found = segmentor.network.state_dict()
    assert all(torch.equal(found[eomt_name(name)], weight) for name, weight in model.named_parameters())


@pytest.mark.parametrize(
    ("vit", "other", "kind"), [(EOMT, EOMT_DINOV3, "DINOv3"), (EOMT_DINOV3, EOMT, "DINOv2")], ids=["DINOv2", "DINOv3"]
)
def test_weights_of_the_other_kind_are_refused(
    tmp_path: Path, vit: dict[str, Any], other: dict[str, Any], kind: str
) -> None:
    save_file(theirs_of(build_segmentor(other), 0.0).state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=f"is a ViT of {kind}'s kind: in .*set MODEL.EOMT.VIT to {kind}$"):
        load_weights(build_segmentor(vit).network, str(tmp_path / "model.safetensors"))


def test_a_head_for_other_classes_is_left_out_on_demand(tmp_path: Path) -> None:
    segmentor = build_segmentor(EOMT)
    state = theirs_of(segmentor, 0.0).state_dict()
    state.update({"class_predictor.weight": torch.zeros(8, 32), "class_predictor.bias": torch.zeros(8)})
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"head for other classes: sem_seg_head.class_predictor.weight is \(8"):
        load_weights(segmentor.network, str(tmp_path / "model.safetensors"))
    report = load_weights(segmentor.network, str(tmp_path / "model.safetensors"), fresh_head=True)
    assert [one.name.rpartition(".")[0] for one in report.reshaped] == ["sem_seg_head.class_predictor"] * 2


@pytest.mark.parametrize("registers", [4, 0], ids=["registers", "none, and a position of the class token"])
@pytest.mark.parametrize(("side", "patch"), [(64, 16), (70, 14)])
def test_a_vit_of_timm_gives_its_features(tmp_path: Path, registers: int, side: int, patch: int) -> None:
    from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn

    kind = {
        "embed_dim": 32, "depth": 4, "num_heads": 2, "reg_tokens": registers, "no_embed_class": registers > 0,
        "init_values": 1.0, "num_classes": 0,
    }  # fmt: skip
    torch.manual_seed(3)
    stored = VisionTransformer(img_size=side, patch_size=patch, **kind)
    nn.init.normal_(stored.patch_embed.proj.bias)
    save_file(stored.state_dict(), tmp_path / "vit.safetensors")
    resized = VisionTransformer(img_size=SIDE, patch_size=16, **kind).eval()
    resized.load_state_dict(checkpoint_filter_fn(stored.state_dict(), resized))
    network = build_segmentor({**EOMT, KEY + "NUM_REGISTER_TOKENS": registers}).network.eval()
    report = load_weights(network, str(tmp_path / "vit.safetensors"))
    assert report.unexpected == ()
    assert all(name.startswith("sem_seg_head.") for name in report.missing)
    images = torch.randn(2, 3, SIDE, SIDE)
    with torch.no_grad():
        torch.testing.assert_close(tokens_of(network, images), resized.forward_features(images))


def tokens_of(network: Any, images: Tensor) -> Tensor:
    """What all layers make of an image without queries."""
    features = network.backbone(images)
    tokens = torch.cat([features["prefix"], features["patches"].flatten(2).transpose(1, 2)], 1)
    for block in network.backbone.last_blocks:
        tokens = block(tokens, **turns(features))
    found: Tensor = network.backbone.layernorm(tokens)
    return found


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("size", [(64, 64), (48, 80)])
def test_dinov3_of_timm_gives_its_features(tmp_path: Path, bias: bool, size: tuple[int, int]) -> None:
    from timm.models.eva import Eva

    torch.manual_seed(3)
    stored = Eva(
        img_size=SIDE, patch_size=16, embed_dim=32, depth=4, num_heads=2, qkv_bias=bias, init_values=0.5, num_classes=0,
        rope_type="dinov3", rope_temperature=100, rope_rotate_half=True, use_rot_pos_emb=True, use_abs_pos_emb=False,
        num_reg_tokens=4, use_fc_norm=False, dynamic_img_size=True,
    ).eval()  # fmt: skip
    for name, tensor in stored.named_parameters():
        nn.init.normal_(tensor, mean=float("norm" in name), std=0.2)
    save_file(stored.state_dict(), tmp_path / "vit.safetensors")
    network = build_segmentor(EOMT_DINOV3).network.eval()
    report = load_weights(network, str(tmp_path / "vit.safetensors"))
    assert report.unexpected == ()
    assert all(name.startswith("sem_seg_head.") for name in report.missing)
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        torch.testing.assert_close(tokens_of(network, images), stored.forward_features(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("older", [True, False])
def test_dinov3_of_transformers_gives_its_features(tmp_path: Path, older: bool) -> None:
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    torch.manual_seed(3)
    kind = {"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 2}
    stored = DINOv3ViTModel(DINOv3ViTConfig(**kind, num_register_tokens=4, layer_norm_eps=1e-6)).eval()
    for name, tensor in stored.named_parameters():
        nn.init.normal_(tensor, mean=float("norm" in name), std=0.2)
    state = stored.state_dict()
    assert any(name.startswith("model.layer.") for name in state)
    if older:
        state = {name.removeprefix("model."): tensor for name, tensor in state.items()}
    save_file(state, tmp_path / "vit.safetensors")
    network = build_segmentor(EOMT_DINOV3).network.eval()
    report = load_weights(network, str(tmp_path / "vit.safetensors"))
    assert report.unexpected == ()
    assert all(name.startswith("sem_seg_head.") for name in report.missing)
    images = torch.randn(2, 3, SIDE, 96)
    with torch.no_grad():
        expected = stored(images).last_hidden_state
        torch.testing.assert_close(tokens_of(network, images), expected, rtol=1e-4, atol=1e-4)


def test_a_vit_of_timm_needs_timm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensor = torch.zeros(1)
    save_file(
        {"blocks.0.attn.qkv.weight": tensor, "pos_embed": tensor.clone(), "cls_token": tensor.clone()},
        tmp_path / "vit.safetensors",
    )
    network = build_segmentor(EOMT).network
    monkeypatch.setitem(sys.modules, "timm.layers", None)
    with pytest.raises(
        DependencyError, match=r"fitted to EoMT's patches by timm, .*pip install 'lightning_seg\[timm\]'"
    ):
        load_weights(network, str(tmp_path / "vit.safetensors"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({KEY + "IMAGE_SIZE": 60}, "IMAGE_SIZE is 60, but a multiple of PATCH_SIZE, 16, is needed"),
        ({KEY + "NUM_ATTENTION_HEADS": 3}, "HIDDEN_SIZE is 32, but a multiple of NUM_ATTENTION_HEADS, 3, is needed"),
        ({KEY + "NUM_UPSCALE_BLOCKS": 5}, r"PATCH_SIZE is 16, but a multiple of 2 \*\* NUM_UPSCALE_BLOCKS, 32"),
        ({KEY + "NUM_BLOCKS": 5}, "NUM_BLOCKS is 5, but there are only NUM_HIDDEN_LAYERS 4"),
        ({KEY + "NUM_QUERIES": 0}, "NUM_QUERIES is 0, but must be at least 1"),
        ({KEY + "NUM_REGISTER_TOKENS": -1}, "NUM_REGISTER_TOKENS is -1, but must be at least 0"),
        ({KEY + "POLY_POWER": 0.0}, "POLY_POWER is 0, but must be above 0"),
        ({KEY + "POLY_POWER": float("nan")}, "POLY_POWER is nan, but must be above 0"),
        (
            {KEY + "ATTN_MASK_ANNEALING_START_STEPS": [1]},
            "START_STEPS has 1 steps and .*END_STEPS 0, but both need one for each of MODEL.EOMT.NUM_BLOCKS 2",
        ),
        (
            {KEY + "ATTN_MASK_ANNEALING_START_STEPS": [1, 5], KEY + "ATTN_MASK_ANNEALING_END_STEPS": [5, 5]},
            "START_STEPS has 5 and .*END_STEPS 5 for the same layer, but an end must come after its start",
        ),
        ({KEY + "VIT": "DINO"}, "VIT is 'DINO', but one of DINOv2, DINOv3 is needed"),
        (
            {KEY + "VIT": "DINOv3", KEY + "USE_SWIGLU_FFN": True},
            "USE_SWIGLU_FFN is True, but EoMT's ViTs of DINOv3 have none",
        ),
        (
            {KEY + "VIT": "DINOv3", KEY + "NUM_ATTENTION_HEADS": 16},
            r"HIDDEN_SIZE is 32, but rotary positions need a multiple of 4 · NUM_ATTENTION_HEADS, 64",
        ),
        ({KEY + "VIT": "DINOv3", KEY + "POS_EMBED_RESCALE": 0.5}, "POS_EMBED_RESCALE is 0.5, but must be at least 1"),
        (
            {"MODEL.MASK_FORMER.SIZE_DIVISIBILITY": 32},
            "SIZE_DIVISIBILITY is 32, but EoMT pads to whole patches, MODEL.EOMT.PATCH_SIZE: leave the key out",
        ),
        ({"MODEL.BACKBONE.FREEZE_AT": 1}, "FREEZE_AT is 1, but EoMT trains every stage"),
        ({"MODEL.MASK_FORMER.TRAIN_NUM_POINTS": 0}, "TRAIN_NUM_POINTS is 0"),
    ],
)
def test_refuses(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_segmentor({**EOMT, **settings})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"criterion": CrossEntropy(low_memory=True)},
            "CrossEntropy, also with low_memory, but EoMTHead has no logits",
        ),
        ({"auxiliary_stage": "patches"}, "auxiliary_stage is patches, but EoMTHead already trains what each"),
    ],
)
def test_settings_of_dense_heads_are_refused_with_the_reason(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Segmentor(load_recipe(ZOO, EOMT), num_classes=NUM_CLASSES, ignore_index=IGNORE, **settings)


def test_without_transformers_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers.models.eomt.modeling_eomt", None)
    with pytest.raises(DependencyError, match=r"EoMT is built of .*pip install 'lightning_seg\[transformers\]'"):
        build_segmentor(EOMT)


class _Own(SemanticSegmentor):  # type: ignore[misc]
    """A user's own architecture."""


class _OwnForward(SemanticSegmentor):  # type: ignore[misc]
    def forward(self, batch: Any) -> Any:
        return batch


class _Other(nn.Module):
    """No segmentor."""


def test_own_architectures_work_where_they_derive_from_detectron2s(monkeypatch: pytest.MonkeyPatch) -> None:
    for cls in (_Own, _OwnForward, _Other):
        monkeypatch.setitem(META_ARCH_REGISTRY._obj_map, cls.__name__, cls)
    overrides = {**SMALLEST, "MODEL.META_ARCHITECTURE": "_Own"}
    segmentor = build_segmentor(overrides)
    assert type(segmentor.network) is _Own
    batch = full_batch((SIDE, SIDE))
    assert set(segmentor.train().losses(batch)) == {"loss_sem_seg"}  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="_OwnForward has a forward of its own, which would not be called"):
        build_segmentor({**overrides, "MODEL.META_ARCHITECTURE": "_OwnForward"})
    with pytest.raises(ConfigError, match=r"_Other, but one of SemanticSegmentor, EoMT, .* a class of your own"):
        build_segmentor({**overrides, "MODEL.META_ARCHITECTURE": "_Other"})
