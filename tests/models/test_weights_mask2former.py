"""Published Mask2Former files, of transformers and of its own project, give the published network."""

import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lightning_seg.errors import CheckpointError
from lightning_seg.inference.whole import label_maps
from lightning_seg.models.segmentor import Segmentor
from lightning_seg.models.weights import load_weights
from lightning_seg.module import SegmentationModule
from tests.models.networks import NUM_CLASSES, ZOO, build_segmentor

pytestmark = pytest.mark.usefixtures("one_thread")

HEAD, MASKS = "MODEL.SEM_SEG_HEAD.", "MODEL.MASK_FORMER."
PIXELS = {
    "INPUT.FORMAT": "RGB",
    "MODEL.PIXEL_MEAN": [123.675, 116.28, 103.53],
    "MODEL.PIXEL_STD": [58.395, 57.12, 57.375],
}
OF_HEAD = {
    **PIXELS,
    HEAD + "NAME": "Mask2FormerHead",
    HEAD + "NORM": "GN",
    HEAD + "COMMON_STRIDE": 4,
    HEAD + "CONVS_DIM": 64,
    HEAD + "MASK_DIM": 24,
    HEAD + "TRANSFORMER_ENC_LAYERS": 2,
    HEAD + "TRANSFORMER_ENC_DIM_FEEDFORWARD": 48,
    MASKS + "HIDDEN_DIM": 32,
    MASKS + "NUM_OBJECT_QUERIES": 7,
    MASKS + "NHEADS": 4,
    MASKS + "DEC_LAYERS": 4,
    MASKS + "DIM_FEEDFORWARD": 40,
    "MODEL.FPN.IN_FEATURES": [],
}
RESNET = {
    **OF_HEAD,
    "MODEL.BACKBONE.NAME": "build_resnet_backbone",
    "MODEL.RESNETS.OUT_FEATURES": ["res2", "res3", "res4", "res5"],
    "MODEL.RESNETS.DEPTH": 50,
    "MODEL.RESNETS.STRIDE_IN_1X1": False,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 8,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 16,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 4,
    HEAD + "IN_FEATURES": ["res2", "res3", "res4", "res5"],
    MASKS + "SIZE_DIVISIBILITY": 32,
}
SWIN = {
    **OF_HEAD,
    "MODEL.BACKBONE.NAME": "build_swin_backbone",
    "MODEL.SWIN.EMBED_DIM": 12,
    "MODEL.SWIN.DEPTHS": [2, 1, 2, 1],
    "MODEL.SWIN.NUM_HEADS": [2, 3, 4, 6],
    "MODEL.SWIN.WINDOW_SIZE": 2,
    HEAD + "IN_FEATURES": ["p0", "p1", "p2", "p3"],
}
CONFIGS = {"resnet": RESNET, "swin": SWIN}
SIZES = [(96, 128), (97, 131)]


def shaken(module: nn.Module) -> None:
    """Give every tensor random values, so that no two that are exchanged could give the same network."""
    generator = torch.Generator().manual_seed(3)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and "empty_weight" not in name:
            lowest = 0.6 if name.endswith("running_var") else 0.0
            noise = torch.rand(tensor.shape, generator=generator)
            tensor.copy_(tensor + 0.3 * (noise - 0.5) if lowest == 0 else lowest + noise)


def theirs(backbone: str, num_labels: int = NUM_CLASSES, **settings: Any) -> Any:
    """transformers' whole model with random weights."""
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, ResNetConfig, SwinConfig

    torch.manual_seed(4)
    stages = ["stage1", "stage2", "stage3", "stage4"]
    levels = {
        "resnet": ResNetConfig(
            embedding_size=8, hidden_sizes=[16, 32, 64, 128], depths=[3, 4, 6, 3], out_features=stages
        ),
        "swin": SwinConfig(
            embed_dim=12, depths=[2, 1, 2, 1], num_heads=[2, 3, 4, 6], window_size=2, out_features=stages
        ),
    }
    sizes = {
        "feature_size": 64, "mask_feature_size": 24, "hidden_dim": 32, "encoder_layers": 2, "decoder_layers": 4,
        "encoder_feedforward_dim": 48, "dim_feedforward": 40, "num_attention_heads": 4, "num_queries": 7, **settings,
    }  # fmt: skip
    config = Mask2FormerConfig(backbone_config=levels[backbone], num_labels=num_labels, **sizes)
    model = Mask2FormerForUniversalSegmentation(config).eval()
    shaken(model)
    return model


def original_names(model: Any, *, first_version: bool) -> dict[str, Tensor]:
    """The weights of transformers' model by the names of Mask2Former's own project, written down by its modules."""
    found = dict[str, Tensor]()
    given = model.state_dict()

    def take(theirs: str, own: str, ends: tuple[str, ...] = ("weight", "bias")) -> None:
        found.update({f"{own}.{end}": given[f"{theirs}.{end}"] for end in ends})

    def join(theirs: list[str], own: str, separator: str) -> None:
        for end in ("weight", "bias"):
            found[f"{own}{separator}{end}"] = torch.cat([given[f"{name}.{end}"] for name in theirs])

    own, there = "sem_seg_head" if first_version else "sem_seg_head.pixel_decoder", "model.pixel_level_module.decoder"
    found[f"{own}.transformer.level_embed"] = given[f"{there}.level_embed"]
    of_pixel_decoder(take, own, there)
    of_predictor(take, join, "static_query" if first_version else "query_feat")
    for layer in range(3):
        here = f"sem_seg_head.predictor.transformer_cross_attention_layers.{layer}.multihead_attn"
        for end in ("weight", "bias"):
            there = f"model.transformer_module.decoder.layers.{layer}.cross_attn"
            found[f"{here}.in_proj_{end}"] = given[f"{there}.in_proj_{end}"]
    found["criterion.empty_weight"] = given["criterion.empty_weight"]
    levels, table = "model.pixel_level_module.encoder", "relative_position_bias_table"
    if any("swin" in name for name in given):
        of_swin(take, join, levels)
        for name in [name for name in given if name.endswith(table)]:
            stage, block = re.findall(r"\d+", name)
            found[f"backbone.layers.{stage}.blocks.{block}.attn.{table}"] = given[name]
    else:
        of_resnet(take, levels)
    return found


def of_pixel_decoder(take: Any, own: str, theirs: str) -> None:
    for place in range(3):
        for part in (0, 1):
            take(f"{theirs}.input_projections.{place}.{part}", f"{own}.input_proj.{place}.{part}")
    for layer in range(2):
        here, there = f"{own}.transformer.encoder.layers.{layer}", f"{theirs}.encoder.layers.{layer}"
        for name in ("sampling_offsets", "attention_weights", "value_proj", "output_proj"):
            take(f"{there}.self_attn.{name}", f"{here}.self_attn.{name}")
        for old, new in (("self_attn_layer_norm", "norm1"), ("fc1", "linear1"), ("fc2", "linear2")):
            take(f"{there}.{old}", f"{here}.{new}")
        take(f"{there}.final_layer_norm", f"{here}.norm2")
    take(f"{theirs}.mask_projection", f"{own}.mask_features")
    for name in ("adapter_1", "layer_1"):
        take(f"{theirs}.{name}.0", f"{own}.{name}", ("weight",))
        take(f"{theirs}.{name}.1", f"{own}.{name}.norm")


def of_predictor(take: Any, join: Any, queries: str) -> None:
    own, decoder = "sem_seg_head.predictor", "model.transformer_module"
    for layer in range(3):
        there = f"{decoder}.decoder.layers.{layer}"
        here = f"{own}.transformer_self_attention_layers.{layer}"
        join([f"{there}.self_attn.{one}_proj" for one in "qkv"], f"{here}.self_attn.in_proj", "_")
        take(f"{there}.self_attn.out_proj", f"{here}.self_attn.out_proj")
        take(f"{there}.self_attn_layer_norm", f"{here}.norm")
        here = f"{own}.transformer_cross_attention_layers.{layer}"
        take(f"{there}.cross_attn.out_proj", f"{here}.multihead_attn.out_proj")
        take(f"{there}.cross_attn_layer_norm", f"{here}.norm")
        here = f"{own}.transformer_ffn_layers.{layer}"
        for old, new in (("fc1", "linear1"), ("fc2", "linear2"), ("final_layer_norm", "norm")):
            take(f"{there}.{old}", f"{here}.{new}")
    take(f"{decoder}.decoder.layernorm", f"{own}.decoder_norm")
    for old, new in (("queries_features", queries), ("queries_embedder", "query_embed"), ("level_embed",) * 2):
        take(f"{decoder}.{old}", f"{own}.{new}", ("weight",))
    for place in range(3):
        take(f"{decoder}.input_projections.{place}", f"{own}.input_proj.{place}")
        take(f"{decoder}.decoder.mask_predictor.mask_embedder.{place}.0", f"{own}.mask_embed.layers.{place}")
    take("class_predictor", f"{own}.class_embed")


def of_swin(take: Any, join: Any, levels: str) -> None:
    take(f"{levels}.swin.embeddings.patch_embeddings.projection", "backbone.patch_embed.proj")
    take(f"{levels}.swin.embeddings.norm", "backbone.patch_embed.norm")
    for stage, depth in enumerate((2, 1, 2, 1)):
        take(f"{levels}.hidden_states_norms.stage{stage + 1}", f"backbone.norm{stage}")
        for block in range(depth):
            there = f"{levels}.swin.encoder.layers.{stage}.blocks.{block}"
            here = f"backbone.layers.{stage}.blocks.{block}"
            join([f"{there}.attention.{one}_proj" for one in "qkv"], f"{here}.attn.qkv", ".")
            names = {"attention.o_proj": "attn.proj", "layernorm_before": "norm1", "layernorm_after": "norm2"}
            for old, new in {**names, "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}.items():
                take(f"{there}.{old}", f"{here}.{new}")
        if stage < 3:
            there, here = f"{levels}.swin.encoder.layers.{stage}.downsample", f"backbone.layers.{stage}.downsample"
            take(f"{there}.reduction", f"{here}.reduction", ("weight",))
            take(f"{there}.norm", f"{here}.norm")


def of_resnet(take: Any, levels: str) -> None:
    norm = ("weight", "bias", "running_mean", "running_var")
    take(f"{levels}.embedder.embedder.convolution", "backbone.stem.conv1", ("weight",))
    take(f"{levels}.embedder.embedder.normalization", "backbone.stem.conv1.norm", norm)
    for stage, depth in enumerate((3, 4, 6, 3)):
        for block in range(depth):
            there, here = f"{levels}.encoder.stages.{stage}.layers.{block}", f"backbone.res{stage + 2}.{block}"
            parts = {f"layer.{place}": f"conv{place + 1}" for place in range(3)}
            for old, new in {**parts, **({"shortcut": "shortcut"} if block == 0 else {})}.items():
                take(f"{there}.{old}.convolution", f"{here}.{new}", ("weight",))
                take(f"{there}.{old}.normalization", f"{here}.{new}.norm", norm)


def save(model: Any, kind: str, folder: Path) -> str:
    """A file as transformers writes it, with old names or new ones, or as Mask2Former's own project does."""
    if kind == "transformers":
        model.save_pretrained(folder)
        return str(folder / "model.safetensors")
    if kind == "transformers, new names":
        save_file(model.state_dict(), folder / "new.safetensors")
        return str(folder / "new.safetensors")
    tensors = original_names(model, first_version=kind == "first version")
    if kind == "pth":
        torch.save({"model": tensors, "iteration": 7}, folder / "model.pth")
        return str(folder / "model.pth")
    stored = {"model": {name: tensor.numpy() for name, tensor in tensors.items()}, "__author__": "third_party"}
    (folder / "model.pkl").write_bytes(pickle.dumps(stored))
    return str(folder / "model.pkl")


KINDS = ["transformers", "transformers, new names", "pkl", "first version", "pth"]


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    return {name: theirs(name) for name in CONFIGS}


@pytest.fixture(scope="module")
def segmentors() -> dict[str, Segmentor]:
    return {name: build_segmentor(config).eval() for name, config in CONFIGS.items()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backbone", CONFIGS)
def test_published_weights_give_the_published_network(
    tmp_path: Path, models: dict[str, Any], segmentors: dict[str, Segmentor], backbone: str, kind: str
) -> None:
    model, segmentor = models[backbone], segmentors[backbone]
    shaken(segmentor.network)  # what is not loaded would show
    report = load_weights(segmentor.network, save(model, kind, tmp_path))
    assert not report.missing
    assert not report.unexpected
    assert not report.reshaped
    for size in SIZES:
        image = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
        inputs = segmentor.inputs([{"image": image}])
        with torch.no_grad():
            expected = model(inputs)
            features = segmentor.network.backbone(inputs)
            found = segmentor.network.sem_seg_head.predictions(features)[-1]
        classes, masks = expected.class_queries_logits, expected.masks_queries_logits
        torch.testing.assert_close(found.classes, classes, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found.masks, masks, rtol=1e-5, atol=1e-5 * float(masks.abs().max()))
        probabilities = classes.softmax(-1)[..., :-1]
        stride = segmentor.network.sem_seg_head.common_stride
        large = nn.functional.interpolate(masks, scale_factor=stride, mode="bilinear", align_corners=False).sigmoid()
        scores = torch.einsum("nqk,nqhw->nkhw", probabilities, large)[0, :, : size[0], : size[1]]
        with torch.no_grad():
            own = segmentor.network.sem_seg_head(features)[0][0, :, : size[0], : size[1]]
        torch.testing.assert_close(own, scores, rtol=1e-5, atol=1e-5)
        best = scores.topk(2, dim=0).values
        clear = best[0] - best[1] > 1e-5
        assert clear.float().mean() > 0.9
        assert torch.equal(own.argmax(0)[clear], scores.argmax(0)[clear])


@pytest.mark.parametrize("size", [(97, 131), (64, 70), (33, 96), (5, 3)])
@pytest.mark.parametrize("backbone", CONFIGS)
def test_label_maps_of_odd_sizes_are_the_published_ones(
    tmp_path: Path, models: dict[str, Any], segmentors: dict[str, Segmentor], backbone: str, size: tuple[int, int]
) -> None:
    """As Mask2Former's own project makes them: padded to 32, masks of the padded size, what was padded cut off."""
    from detectron2.structures import ImageList

    model, segmentor = models[backbone], segmentors[backbone]
    load_weights(segmentor.network, save(model, "pkl", tmp_path))
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(6))
    mean, std = (torch.tensor(PIXELS[f"MODEL.PIXEL_{name}"])[:, None, None] for name in ("MEAN", "STD"))
    padded = ImageList.from_tensors([(image - mean) / std], 32).tensor
    with torch.no_grad():
        published = model(padded)
        found = segmentor.evaluate([{"image": image}])
        own_forward = segmentor.network([{"image": image}])[0]["sem_seg"]
    masks = nn.functional.interpolate(
        published.masks_queries_logits, padded.shape[-2:], mode="bilinear", align_corners=False
    )
    classes = published.class_queries_logits.softmax(-1)[..., :-1]
    scores = torch.einsum("nqk,nqhw->nkhw", classes, masks.sigmoid())[0, :, : size[0], : size[1]]
    torch.testing.assert_close(own_forward, scores, rtol=1e-5, atol=1e-5)
    best = scores.topk(2, dim=0).values
    clear = best[0] - best[1] > 1e-5
    assert clear.float().mean() > 0.9
    labels = label_maps(found.scores, found.input_sizes, [size])[0]
    assert torch.equal(labels[clear], scores.argmax(0)[clear])


def test_names_of_files_differ_as_the_test_above_supposes(tmp_path: Path, models: dict[str, Any]) -> None:
    swin = models["swin"]
    old = load_file(save(swin, "transformers", tmp_path))
    block = "model.pixel_level_module.encoder.encoder.layers.0.blocks.1."
    new = swin.state_dict()
    assert torch.equal(
        old[block + "attention.self.query.weight"],
        new[block.replace("encoder.encoder", "encoder.swin.encoder") + "attention.q_proj.weight"],
    )
    assert len(original_names(swin, first_version=True)) == len(original_names(swin, first_version=False))
    unused = [name for name in new if ".swin.layernorm." in name]
    split = sum(re.search(r"\.(q|k|v)_proj\.", name) is not None for name in new)
    assert len(original_names(swin, first_version=False)) == len(new) - len(unused) - split * 2 // 3


def test_the_setting_model_weights_takes_such_a_file(tmp_path: Path, models: dict[str, Any]) -> None:
    file = save(models["resnet"], "first version", tmp_path)
    names = [f"class{place}" for place in range(NUM_CLASSES)]
    module = SegmentationModule(ZOO, names, weights=file, overrides=RESNET)
    module.load_pretrained()
    head = module.segmentor.network.sem_seg_head
    assert torch.equal(head.class_predictor.weight, models["resnet"].class_predictor.weight)


@pytest.mark.parametrize("kind", ["transformers", "pkl"])
def test_other_classes_need_a_fresh_head(tmp_path: Path, segmentors: dict[str, Segmentor], kind: str) -> None:
    model = theirs("resnet", num_labels=NUM_CLASSES + 2)
    file, network = save(model, kind, tmp_path), segmentors["resnet"].network
    with pytest.raises(CheckpointError, match=r"a head for other classes: .*class_predictor.*model\.fresh_head"):
        load_weights(network, file)
    report = load_weights(network, file, fresh_head=True)
    assert {one.name for one in report.reshaped} == {
        "sem_seg_head.class_predictor.weight",
        "sem_seg_head.class_predictor.bias",
    }
    assert not report.missing
    queries = model.model.transformer_module.queries_features.weight
    assert torch.equal(network.sem_seg_head.transformer_module.queries_features.weight, queries)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_queries": 9}, r"set MODEL\.MASK_FORMER\.NUM_OBJECT_QUERIES 9 \(7 here\)$"),
        ({"hidden_dim": 48}, r"set MODEL\.MASK_FORMER\.HIDDEN_DIM 48 \(32 here\)$"),
        ({"decoder_layers": 3}, r"set MODEL\.MASK_FORMER\.DEC_LAYERS 3 \(4 here\)$"),
        ({"dim_feedforward": 44}, r"set MODEL\.MASK_FORMER\.DIM_FEEDFORWARD 44 \(40 here\)$"),
        ({"num_attention_heads": 8}, r"set MODEL\.MASK_FORMER\.NHEADS 8 \(4 here\)$"),
        ({"encoder_layers": 1}, r"set MODEL\.SEM_SEG_HEAD\.TRANSFORMER_ENC_LAYERS 1 \(2 here\)$"),
        (
            {"encoder_feedforward_dim": 52, "mask_feature_size": 16},
            r"set MODEL\.SEM_SEG_HEAD\.MASK_DIM 16 \(24 here\), "
            r"MODEL\.SEM_SEG_HEAD\.TRANSFORMER_ENC_DIM_FEEDFORWARD 52 \(48 here\)$",
        ),
        ({"feature_size": 96}, r"set MODEL\.SEM_SEG_HEAD\.CONVS_DIM 96 \(64 here\)$"),
    ],
)
def test_other_settings_are_named_with_the_value_to_set(
    tmp_path: Path, segmentors: dict[str, Segmentor], settings: dict[str, int], message: str
) -> None:
    file = save(theirs("resnet", **settings), "transformers", tmp_path)
    before = {name: tensor.clone() for name, tensor in segmentors["resnet"].network.state_dict().items()}
    with pytest.raises(CheckpointError, match=message):
        load_weights(segmentors["resnet"].network, file)
    assert all(torch.equal(tensor, before[name]) for name, tensor in segmentors["resnet"].network.state_dict().items())


def test_another_backbone_is_named(tmp_path: Path, models: dict[str, Any], segmentors: dict[str, Segmentor]) -> None:
    file = save(models["swin"], "pkl", tmp_path)
    expected = r"set MODEL\.BACKBONE\.NAME build_swin_backbone \(build_resnet_backbone here\)$"
    with pytest.raises(CheckpointError, match=expected):
        load_weights(segmentors["resnet"].network, file)
    report = load_weights(segmentors["resnet"].network, file, allow_missing=["backbone", "sem_seg_head.pixel_decoder"])
    assert "sem_seg_head.class_predictor.weight" in report.matched
    swin = build_segmentor({**SWIN, "MODEL.SWIN.WINDOW_SIZE": 3, "MODEL.SWIN.DEPTHS": [2, 2, 2, 1]}).network
    expected = r"set MODEL\.SWIN\.DEPTHS \(2, 1, 2, 1\) \(\(2, 2, 2, 1\) here\), MODEL\.SWIN\.WINDOW_SIZE 2 \(3 here\)$"
    with pytest.raises(CheckpointError, match=expected):
        load_weights(swin, file)


def test_what_is_allowed_to_miss_may_have_other_settings(tmp_path: Path, segmentors: dict[str, Segmentor]) -> None:
    file = save(theirs("resnet", num_queries=9), "pkl", tmp_path)
    queries = "sem_seg_head.transformer_module.queries"
    report = load_weights(segmentors["resnet"].network, file, allow_missing=[queries])
    assert {one.name for one in report.reshaped} == {f"{queries}_features.weight", f"{queries}_embedder.weight"}


def test_pixels_and_strides_that_published_networks_do_not_expect_are_named(
    tmp_path: Path, models: dict[str, Any], recwarn: pytest.WarningsRecorder
) -> None:
    file = save(models["resnet"], "pkl", tmp_path)
    overrides = {**RESNET, "MODEL.RESNETS.STRIDE_IN_1X1": True, "MODEL.PIXEL_STD": [1.0, 1.0, 1.0]}
    expected = r"expects INPUT\.FORMAT RGB, .*PIXEL_STD \[58.395.*\] and MODEL\.RESNETS\.STRIDE_IN_1X1 False$"
    with pytest.warns(UserWarning, match=expected):
        load_weights(build_segmentor(overrides).network, file)
    unpadded = build_segmentor({**RESNET, MASKS + "SIZE_DIVISIBILITY": -1}).network
    with pytest.warns(UserWarning, match=r"Mask2Former, which expects MODEL\.MASK_FORMER\.SIZE_DIVISIBILITY 32$"):
        load_weights(unpadded, file)
    network = build_segmentor(RESNET).network
    with pytest.warns(UserWarning, match=r"a published Mask2Former, which expects INPUT\.FORMAT RGB"):
        load_weights(network, file, bgr=True)
    recwarn.clear()
    load_weights(network, file)
    assert not [one for one in recwarn if "expects" in str(one.message)]
