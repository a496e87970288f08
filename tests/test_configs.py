"""Every shipped config runs, from any working directory, on real data where it is there."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
import yaml

from lightning_seg.cli import main
from lightning_seg.models.recipe import load_recipe
from lightning_seg.models.segmentor import Segmentor
from lightning_seg.module import SegmentationModule
from tests.conftest import REPOSITORY
from tests.data import layouts
from tests.models.networks import SWIN

SMALL_EOMT = {
    "MODEL.EOMT.HIDDEN_SIZE": 48,
    "MODEL.EOMT.NUM_HIDDEN_LAYERS": 4,
    "MODEL.MASK_FORMER.TRAIN_NUM_POINTS": 64,
}

SMALL_MASK2FORMER = {
    "MODEL.MASK_FORMER.TRAIN_NUM_POINTS": 64,
    "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES": 8,
    "MODEL.MASK_FORMER.DEC_LAYERS": 3,
    "MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS": 1,
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": 64,
}

SMALL_SWIN = {f"MODEL.SWIN.{key}": value for key, value in SWIN.items()}

PUBLISHED = {
    "cityscapes_deeplab_v3_r103": (layouts.cityscapes, {"MODEL.RESNETS.DEPTH": 50}),
    "cityscapes_deeplab_v3_plus_r103": (layouts.cityscapes, {"MODEL.RESNETS.DEPTH": 50}),
    "cityscapes_pointrend_r101": (layouts.cityscapes, {"MODEL.RESNETS.DEPTH": 50}),
    "cocostuff_semantic_fpn_r50": (layouts.coco_stuff, {}),
    "ade20k_upernet_swin_tiny": (layouts.ade20k, {}),
    "ade20k_eomt_small": (layouts.ade20k, SMALL_EOMT),
    "ade20k_eomt_base": (layouts.ade20k, SMALL_EOMT),
    "ade20k_eomt_dinov3_large": (layouts.ade20k, SMALL_EOMT | {"MODEL.EOMT.NUM_ATTENTION_HEADS": 2}),
    "ade20k_mask2former_r50": (layouts.ade20k, SMALL_MASK2FORMER),
    "ade20k_mask2former_swin_tiny": (layouts.ade20k, SMALL_MASK2FORMER | SMALL_SWIN),
    "cityscapes_mask2former_r50": (layouts.cityscapes, SMALL_MASK2FORMER),
    "cityscapes_mask2former_swin_tiny": (layouts.cityscapes, SMALL_MASK2FORMER | SMALL_SWIN),
}
"""Recipes for public data: the layout that stands in for it, and what makes the model smaller."""

SLOW = (
    "cityscapes_deeplab_v3_r103", "cocostuff_semantic_fpn_r50", "ade20k_mask2former_r50",
    "cityscapes_mask2former_r50", "ade20k_mask2former_swin_tiny", "ade20k_eomt_base",
    "ade20k_eomt_dinov3_large",
)  # fmt: skip
"""What trains in these is in others, too: DeepLab's other head, camvid_semantic_fpn_r50, and the same model."""

CONFIGS = sorted((REPOSITORY / "configs").glob("*.yaml"))


pytestmark = [pytest.mark.runs, pytest.mark.usefixtures("two_threads", "empty_working_directory")]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_is_complete_short_and_described(config: Path) -> None:
    lines = config.read_text().splitlines()
    assert lines[0].startswith("# ")
    assert len(lines) <= 45
    assert set(yaml.safe_load(config.read_text())) == {"seed_everything", "model", "data", "trainer"}
    with pytest.raises(SystemExit) as caught:
        main(["fit", "--config", str(config), "--print_config"])
    assert caught.value.code == 0


@pytest.mark.parametrize("config", ["camvid_semantic_fpn_efficientnet_lite0", "camvid_mask2former_efficientnet_lite0"])
def test_camvid_on_timm_with_its_weights(shared: Path, config: str) -> None:
    weights = shared / "weights" / "tf_efficientnet_lite0.safetensors"
    metrics = fit(
        config, "--data.root", str(shared / "data" / "camvid" / "CamVid"),
        "--model.weights", str(weights), "--trainer.check_val_every_n_epoch", "1",
    )  # fmt: skip
    assert metrics["num_images"] == 2


def fit(config: str, *arguments: str) -> dict[str, object]:
    main(
        [
            "fit", "--config", str(REPOSITORY / "configs" / f"{config}.yaml"), "--trainer.max_epochs", "1",
            "--trainer.limit_train_batches", "2", "--trainer.limit_val_batches", "2", "--data.num_workers", "0",
            "--data.batch_size", "2", "--trainer.accelerator", "cpu", *arguments,
        ]
    )  # fmt: skip
    root = (
        arguments[arguments.index("--trainer.default_root_dir") + 1]
        if "--trainer.default_root_dir" in arguments
        else "runs"
    )
    return json.loads((Path(root) / config / "version_0" / "metrics.json").read_text())  # type: ignore[no-any-return]


def as_flags(overrides: Mapping[str, object]) -> list[str]:
    return [text for key, value in overrides.items() for text in (f"--model.overrides.{key}", str(value))]


@pytest.mark.parametrize(
    "config", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in PUBLISHED]
)
def test_recipes_for_public_data(config: str, tmp_path: Path) -> None:
    """With its own model and transforms, on a few small images, on a CPU, from random weights."""
    layout, overrides = PUBLISHED[config]
    for split in ("train", "val"):
        layout(tmp_path, ["a", "b", "c", "d"], size=(64, 96), split=split)
    crop = {"class_path": "lightning_seg.data.RandomScaleCrop", "init_args": {"height": 64, "width": 96}}
    metrics = fit(
        config, "--data.root", str(tmp_path), "--model.weights", "",
        "--trainer.default_root_dir", str(tmp_path / "runs"),
        "--trainer.val_check_interval", "2", "--trainer.max_steps", "2",
        "--data.train_transforms", json.dumps([crop]), "--data.eval_transforms", "[]",
        *as_flags(overrides),
    )  # fmt: skip
    assert metrics["num_images"] == 2


@pytest.mark.parametrize(
    ("config", "overrides"),
    [
        ("camvid_unet_efficientnet_lite0", {}),
        pytest.param("camvid_deeplab_v3_plus_r50", {}, marks=pytest.mark.slow),
        ("camvid_eomt_small", SMALL_EOMT),
    ],
)
def test_camvid_with_other_models(config: str, overrides: dict[str, int], shared: Path, tmp_path: Path) -> None:
    metrics = fit(
        config, "--data.root", str(shared / "data" / "camvid" / "CamVid"), "--model.weights", "",
        "--trainer.default_root_dir", str(tmp_path / "runs"), "--trainer.check_val_every_n_epoch", "1",
        *as_flags(overrides),
    )  # fmt: skip
    assert metrics["num_images"] == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "millions"),
    [
        ("mask2former_R_50", 44),
        ("mask2former_swin_tiny", 47),
        ("eomt_small", 24),
        ("eomt_base", 93),
        ("eomt_dinov3_large", 315),
    ],
)
def test_networks_have_the_size_of_published_ones(config: str, millions: int) -> None:
    recipe = load_recipe(str(REPOSITORY / "configs" / "detectron2" / f"{config}.yaml"), {})
    segmentor = Segmentor(recipe, num_classes=150, ignore_index=255)
    assert round(sum(parameter.numel() for parameter in segmentor.parameters()) / 1e6) == millions


def test_swin_takes_the_weights_of_its_authors(tmp_path: Path) -> None:
    """Their file has the names of Detectron2's Swin, a classifier, a mask, and no norm of a level."""
    recipe = yaml.safe_load((REPOSITORY / "configs/ade20k_mask2former_swin_tiny.yaml").read_text())["model"]
    config = str(REPOSITORY / "configs" / recipe["config"])
    classes = list(map(str, range(150)))
    module = SegmentationModule(
        config, classes, overrides=SMALL_MASK2FORMER | SMALL_SWIN, allow_missing=recipe["allow_missing"],
        weights=str(tmp_path / "swin.pth"),
    )  # fmt: skip
    backbone = module.segmentor.network.backbone
    stored = {
        name: torch.randn(tensor.shape) if tensor.is_floating_point() else tensor
        for name, tensor in backbone.state_dict().items()
        if not name.startswith("norm")
    }
    more = {
        "norm.weight": torch.ones(64),
        "head.weight": torch.ones(1000, 64),
        "layers.0.blocks.1.attn_mask": torch.ones(4),
    }
    torch.save({"model": stored | more}, tmp_path / "swin.pth")
    module.load_pretrained()
    loaded = backbone.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in stored.items())
    assert {name.split(".")[0] for name in loaded.keys() - stored.keys()} == {"norm0", "norm1", "norm2", "norm3"}


def test_published_figures_are_those_of_the_documents() -> None:
    lines = (REPOSITORY / "docs/models.md").read_text().splitlines()
    rows = [line.split("|")[1:3] for line in lines if line.startswith(("| `ade20k_", "| `cityscapes_"))]
    for recipes, figures in rows:
        for recipe in re.findall(r"`(\w+)`", recipes):
            header = (REPOSITORY / "configs" / f"{recipe}.yaml").read_text().partition("seed_everything")[0]
            assert f"publish {re.findall(r'[0-9.]{4}', figures)[0]} mIoU" in header
    assert len(rows) == 6


def test_quickstart() -> None:
    metrics = fit("quickstart")
    assert metrics["num_images"] == 8
    assert len(list(Path("data/quickstart/train/images").iterdir())) == 240


def test_camvid(shared: Path) -> None:
    metrics = fit("camvid_semantic_fpn_r50", "--data.root", str(shared / "data" / "camvid" / "CamVid"))
    assert metrics["num_images"] == 2
    assert metrics["num_valid_pixels"] <= 2 * 480 * 360  # type: ignore[operator]
