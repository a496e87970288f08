"""A .pth file and its YAML: Detectron2 alone loads them, and says the same."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightning_seg.errors import ConfigError
from lightning_seg.export import main
from lightning_seg.exporting.detectron2_files import config_of
from tests.conftest import MODELS
from tests.exporting.files import module_of, save
from tests.exporting.test_export import labels_of
from tests.models.networks import EOMT, overrides_of

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.runs]  # exports networks: some seconds each

ADDITIONS = {"SemSegFPN": [], "DeepLabV3Plus": ["add_deeplab_config"], "PointRend": ["add_pointrend_config"]}

PADDED = {**overrides_of("resnet18", "Mask2FormerHead"), "MODEL.MASK_FORMER.SIZE_DIVISIBILITY": 32}

RESNET = {
    "MODEL.FPN.IN_FEATURES": ["res2", "res3", "res4", "res5"],
    "MODEL.BACKBONE.NAME": "build_resnet_fpn_backbone",
    "MODEL.SEM_SEG_HEAD.IN_FEATURES": ["p2", "p3", "p4", "p5"],
    "MODEL.SEM_SEG_HEAD.COMMON_STRIDE": 4,
}


@pytest.mark.parametrize(
    "head", [pytest.param(head, marks=pytest.mark.slow if ADDITIONS[head] else ()) for head in ADDITIONS]
)
def test_detectron2_alone_gives_the_same(head: str, tmp_path: Path) -> None:
    from detectron2 import config
    from detectron2.engine import DefaultPredictor
    from detectron2.projects import deeplab, point_rend

    module = module_of({**RESNET, **MODELS[head], "INPUT.FORMAT": "RGB" if head == "DeepLabV3Plus" else "BGR"})
    checkpoint = save(module, tmp_path / "a.ckpt")
    assert main(["--ckpt_path", str(checkpoint), "--output", str(tmp_path / "a.pth")]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ckpt", "a.pth", "a.pth.parity.json", "a.yaml"]
    text = (tmp_path / "a.yaml").read_text()
    cfg = config.get_cfg()
    for name, package in (("add_deeplab_config", deeplab), ("add_pointrend_config", point_rend)):
        assert (f"{name}(cfg)" in text) == (name in ADDITIONS[head])
        if name in ADDITIONS[head]:
            getattr(package, name)(cfg)
    cfg.merge_from_file(str(tmp_path / "a.yaml"))
    predictor = DefaultPredictor(cfg)
    pixels = np.random.default_rng(0).integers(0, 256, (97, 131, 3), dtype=np.uint8)
    found = predictor(pixels[..., ::-1])["sem_seg"].argmax(0)
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    assert torch.equal(found, labels_of(module, image)[0].long())


@pytest.mark.runs
def test_what_the_yaml_says_runs_as_it_stands(tmp_path: Path) -> None:
    """Also for a backbone and a head of this project."""
    overrides = {
        "MODEL.SEM_SEG_HEAD.NAME": "UNetHead", "MODEL.SEM_SEG_HEAD.IN_FEATURES": ["stage2", "stage3"],
        "MODEL.SEM_SEG_HEAD.COMMON_STRIDE": 4, "MODEL.SEM_SEG_HEAD.DECODER_CHANNELS": [16],
    }  # fmt: skip
    checkpoint = save(module_of(overrides), tmp_path / "a.ckpt")
    assert main(["--ckpt_path", str(checkpoint), "--output", str(tmp_path / "a.pth")]) == 0
    lines = [
        line.removeprefix("#   ") for line in (tmp_path / "a.yaml").read_text().splitlines() if line.startswith("#   ")
    ]
    code = "\n".join(
        ["import numpy", "bgr_image = numpy.zeros((64, 96, 3), numpy.uint8)", *lines, "print(labels.shape)"]
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "torch.Size([64, 96])\n", done.stderr


@pytest.mark.parametrize("overrides", [EOMT, PADDED], ids=["EoMT", "a Mask2Former that pads to 32"])
def test_own_networks_are_architectures_of_detectron2s(overrides: dict[str, Any], tmp_path: Path) -> None:
    module = module_of(overrides)
    checkpoint = save(module, tmp_path / "a.ckpt")
    assert main(["--ckpt_path", str(checkpoint), "--output", str(tmp_path / "a.pth")]) == 0
    lines = [
        line.removeprefix("#   ") for line in (tmp_path / "a.yaml").read_text().splitlines() if line.startswith("#   ")
    ]
    lines = [line.replace('"a.yaml"', repr(str(tmp_path / "a.yaml"))) for line in lines]
    pixels = np.random.default_rng(0).integers(0, 256, (70, 97, 3), dtype=np.uint8)
    names: dict[str, Any] = {"bgr_image": pixels[..., ::-1]}
    exec("\n".join(lines), names)
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    assert torch.equal(names["labels"], labels_of(module, image)[0].long())


def test_a_lazy_config_is_refused() -> None:
    module: Any = module_of()
    module.recipe = object()
    with pytest.raises(ConfigError, match=r"is a LazyConfig, but a .pth file goes with a YAML: export .onnx or .pt2"):
        config_of(module, Path("a.pth"))
