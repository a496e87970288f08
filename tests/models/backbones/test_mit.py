"""MiT is transformers'; with a SegFormerHead and published files, it is transformers' SegFormer."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from lightning_seg.errors import CheckpointError, ConfigError, DependencyError
from lightning_seg.models.weights import load_weights
from tests.models.backbones.building import build
from tests.models.networks import MIT, NUM_CLASSES, STAGES, build_segmentor, detectron2

SEGFORMER = {
    **detectron2("build_mit_backbone", "MIT", **MIT),
    "MODEL.SEM_SEG_HEAD.NAME": "SegFormerHead",
    "MODEL.SEM_SEG_HEAD.IN_FEATURES": list(STAGES)[:4],
    "MODEL.SEM_SEG_HEAD.COMMON_STRIDE": 4,
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": 16,
    "MODEL.SEM_SEG_HEAD.NORM": "BN",
}
OLD = {
    "encoder.block.1.0.attention.self.query.weight": "stages.1.blocks.0.attention.q_proj.weight",
    "encoder.block.1.0.attention.self.sr.bias": (
        "stages.1.blocks.0.attention.sequence_reduction.sequence_reduction.bias"
    ),
    "encoder.patch_embeddings.3.proj.weight": "stages.3.patch_embeddings.proj.weight",
    "encoder.layer_norm.2.bias": "stages.2.layer_norm.bias",
    "encoder.block.0.0.layer_norm_2.weight": "stages.0.blocks.0.layernorm_after.weight",
    "encoder.block.0.0.mlp.dense1.weight": "stages.0.blocks.0.mlp.fc1.weight",
}


def published(folder: Path, *, num_labels: int = NUM_CLASSES, old_names: bool = True) -> tuple[Any, Path]:
    """transformers' SegFormer with random weights, and a file of them by the names that published files have."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    torch.manual_seed(5)
    config = SegformerConfig(
        hidden_sizes=MIT["EMBED_DIMS"], depths=MIT["DEPTHS"], num_attention_heads=MIT["NUM_HEADS"],
        decoder_hidden_size=16, num_labels=num_labels,
    )  # fmt: skip
    model = SegformerForSemanticSegmentation(config).eval()
    model.decode_head.batch_norm.running_mean.uniform_(-0.1, 0.1)
    if old_names:
        model.save_pretrained(folder)
        return model, folder / "model.safetensors"
    save_file(model.state_dict(), folder / "new.safetensors")
    return model, folder / "new.safetensors"


@pytest.mark.parametrize("old_names", [True, False])
@pytest.mark.parametrize("size", [(64, 96), (65, 97)])
def test_published_weights_give_the_published_network(tmp_path: Path, size: tuple[int, int], old_names: bool) -> None:
    model, file = published(tmp_path, old_names=old_names)
    segmentor = build_segmentor(SEGFORMER).eval()
    report = load_weights(segmentor.network, str(file))
    assert not report.missing
    assert not report.unexpected
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    inputs = segmentor.inputs([{"image": image}])
    with torch.no_grad():
        expected = model(inputs).logits
        found = segmentor.scores([{"image": image}])[0].maps
    torch.testing.assert_close(found, expected[0], rtol=1e-5, atol=1e-5)


def test_the_names_of_published_files_are_the_old_ones(tmp_path: Path) -> None:
    """Else the test above would try the same names twice."""
    from safetensors.torch import load_file

    model, file = published(tmp_path)
    stored, here = load_file(file), model.segformer.state_dict()
    for old, new in OLD.items():
        assert torch.equal(stored[f"segformer.{old}"], here[new]), old
    assert "decode_head.linear_c.0.proj.weight" in stored


def test_another_head_takes_the_encoder_and_other_classes_need_a_fresh_head(tmp_path: Path) -> None:
    model, file = published(tmp_path, num_labels=7)
    segmentor = build_segmentor(SEGFORMER)
    with pytest.raises(CheckpointError, match=r"a head for other classes: .*predictor.*model\.fresh_head"):
        load_weights(segmentor.network, str(file))
    report = load_weights(segmentor.network, str(file), fresh_head=True)
    assert {one.name for one in report.reshaped} == {"sem_seg_head.predictor.weight", "sem_seg_head.predictor.bias"}

    pyramid = build_segmentor(
        {
            **SEGFORMER,
            "MODEL.BACKBONE.NAME": "build_mit_fpn_backbone",
            "MODEL.FPN.IN_FEATURES": [],
            "MODEL.SEM_SEG_HEAD.NAME": "SemSegFPNHead",
            "MODEL.SEM_SEG_HEAD.IN_FEATURES": ["p2", "p3", "p4", "p5"],
        }
    )
    report = load_weights(pyramid.network, str(file), allow_missing=["sem_seg_head", "backbone.fpn"])
    inside = pyramid.network.backbone.bottom_up.network.state_dict()
    assert all(torch.equal(tensor, inside[name]) for name, tensor in model.segformer.state_dict().items())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"DEPTHS": [2, 2]}, r"MODEL\.MIT\.DEPTHS is .*, but four whole numbers above 0, one a stage, are needed"),
        ({"EMBED_DIMS": [8, 16, 0, 32]}, r"MODEL\.MIT\.EMBED_DIMS is .*, but four whole numbers"),
        ({"NUM_HEADS": [3, 2, 2, 4]}, r"EMBED_DIMS is .*, which NUM_HEADS, .*, does not divide: change either"),
        (
            {"OUT_FEATURES": ["res2"]},
            r"OUT_FEATURES is .*res2.*, but some of stage1, stage2, stage3, stage4",
        ),
        ({"OUT_FEATURES": []}, r"OUT_FEATURES is .*, but some of stage1"),
    ],
)
def test_refuses(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(detectron2("build_mit_backbone", "MIT", **{**MIT, **settings}))


def test_stages_after_the_last_level_are_left_out() -> None:
    backbone = build(detectron2("build_mit_backbone", "MIT", **MIT, OUT_FEATURES=["stage2"]))
    assert list(backbone.output_shape()) == ["stage2"]
    assert backbone.size_divisibility == 8
    assert len(backbone.network.stages) == 2


def test_missing_transformers_prints_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers.models.segformer.modeling_segformer", None)
    with pytest.raises(DependencyError, match=r"pip install 'lightning_seg\[transformers\]'"):
        build(detectron2("build_mit_backbone", "MIT", **MIT))
