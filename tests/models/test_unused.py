"""Keys of Detectron2 configs that count for nothing here are refused as overrides, and said of a file."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import get_cfg

from lightning_seg.errors import ConfigError
from lightning_seg.models.config import leaves
from lightning_seg.models.unused import LAZY_REPLACED, YAML_REPLACED
from lightning_seg.module import SegmentationModule
from tests.conftest import MODELS, TINY_OVERRIDES
from tests.models.lazy_configs import OPTIMIZER, TINY

ZOO = "Misc/semantic_R_50_FPN_1x.yaml"


def make(overrides: dict[str, Any], config: str = ZOO, **settings: Any) -> SegmentationModule:
    return SegmentationModule(config, ["a", "b"], overrides=overrides, weights="", **settings)


@pytest.mark.parametrize(
    ("key", "value", "instead"),
    [
        ("SOLVER.IMS_PER_BATCH", 8, "set data.batch_size instead"),
        ("TEST.EVAL_PERIOD", 500, "set trainer.check_val_every_n_epoch or trainer.val_check_interval instead"),
        ("SOLVER.CHECKPOINT_PERIOD", 500, "set every_n_steps of lightning_seg.callbacks.LastCheckpoint"),
        ("INPUT.MIN_SIZE_TRAIN", [512], "set data.train_transforms and data.eval_transforms instead"),
        ("INPUT.CROP.SIZE", [64, 64], "set data.train_transforms and data.eval_transforms instead"),
        ("DATALOADER.NUM_WORKERS", 8, "set data.num_workers instead"),
        ("SOLVER.AMP.ENABLED", True, "set trainer.precision instead"),
        ("OUTPUT_DIR", "out", "set trainer.default_root_dir instead"),
        ("SEED", 3, "set seed_everything instead"),
        ("DATASETS.TRAIN", ["a"], "set data.train, data.val and data.test instead"),
        ("TEST.AUG.ENABLED", True, "set model.inference instead"),
        ("TEST.PRECISE_BN.ENABLED", True, "leave it out"),
        ("MODEL.DEVICE", "cpu", "set trainer.accelerator and trainer.devices instead"),
    ],
)
def test_overrides_without_effect_are_refused(key: str, value: Any, instead: str) -> None:
    with pytest.raises(ConfigError, match=rf"^model\.overrides\.{key} has no effect here: {instead}"):
        make({**TINY_OVERRIDES, key: value})


def test_what_counts_in_its_place_only() -> None:
    adamw: Any = torch.optim.AdamW
    with pytest.raises(ConfigError, match=r"SOLVER\.BASE_LR has no effect here: set it in model\.optimizer instead"):
        make({**TINY_OVERRIDES, "SOLVER.BASE_LR": 0.1}, optimizer=adamw)
    ends = {"SOLVER.BASE_LR_END": 0.01, "SOLVER.LR_SCHEDULER_NAME": "WarmupCosineLR"}
    make({**TINY_OVERRIDES, **ends, "SOLVER.BASE_LR": 0.1}, optimizer=adamw)  # the cosine ends at a tenth
    make({**TINY_OVERRIDES, "SOLVER.BASE_LR": 0.1})
    make({**TINY_OVERRIDES, "SOLVER.IMS_PER_BATCH": 8}, scale_lr=True)
    crop = {"INPUT.CROP.ENABLED": True, "INPUT.CROP.TYPE": "absolute", "INPUT.CROP.SIZE": [64, 96]}
    make({**MODELS["DeepLabV3"], **crop, "INPUT.FORMAT": "RGB"})  # its pooling window


def test_a_lazy_config(tmp_path: Path) -> None:
    (tmp_path / "lazy.py").write_text(TINY + OPTIMIZER + "\ndataloader = dict(train=dict(num_workers=4))\n")
    with pytest.raises(ConfigError, match=r"dataloader\.train\.num_workers has no effect here: set data\.num_workers"):
        make({"dataloader.train.num_workers": 2}, str(tmp_path / "lazy.py"))
    with pytest.raises(ConfigError, match=r"optimizer\.lr has no effect here: set it in model\.optimizer"):
        make({"optimizer.lr": 0.1}, str(tmp_path / "lazy.py"), optimizer=torch.optim.AdamW)


def test_one_notice_lists_those_of_a_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("MODEL: {META_ARCHITECTURE: SemanticSegmentor}\nSEED: 3\nINPUT: {MIN_SIZE_TEST: 5}\n")
    levels = ["res2", "res3", "res4", "res5"]
    pyramid = {
        "MODEL.BACKBONE.NAME": "build_resnet_fpn_backbone",
        "MODEL.RESNETS.OUT_FEATURES": levels,
        "MODEL.FPN.IN_FEATURES": levels,
    }
    with caplog.at_level(logging.INFO):
        make({**TINY_OVERRIDES, **pyramid}, str(path))
    said = [record.message for record in caplog.records if "keys of the Detectron2 config" in record.message]
    assert said == [
        "The groups data and trainer replace these keys of the Detectron2 config: INPUT.MIN_SIZE_TEST, SEED"
    ]


def test_every_key_of_the_table_exists() -> None:
    known = [key for key, _ in leaves(get_cfg())]
    missing = [name for name in YAML_REPLACED if not any(f"{key}.".startswith(f"{name}.") for key in known)]
    assert not missing
    assert {name.partition(".")[0] for name in LAZY_REPLACED} == {"dataloader", "train"}
