"""The licence of pretrained weights is printed, and kept through every training that began with them."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from lightning_seg.models.weights.fetch import licence_of
from lightning_seg.module import SegmentationModule
from tests.models.networks import SMALLEST, ZOO

NAME = "test_resnet.r160_in1k"


def make(weights: str) -> SegmentationModule:
    return SegmentationModule(ZOO, ["a", "b"], overrides=SMALLEST, weights=weights)


def saved(module: SegmentationModule, path: Path) -> dict[str, Any]:
    """A checkpoint as Lightning begins it and the module completes it, also written to a file."""
    checkpoint: dict[str, Any] = {"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams)}
    module.on_save_checkpoint(checkpoint)
    kept = {key: checkpoint[key] for key in ("state_dict", "weights_licence") if key in checkpoint}
    torch.save(kept, path)
    return checkpoint


def test_a_licence_is_printed_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    (tmp_path / "timm").mkdir()
    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "timm" / f"{NAME}.safetensors")
    module = make(f"timm://{NAME}")
    with caplog.at_level("INFO"):
        module.load_pretrained()
    assert "their licence: apache-2.0" in caplog.text

    checkpoint = saved(module, tmp_path / "first.ckpt")
    assert checkpoint["weights_licence"] == "apache-2.0"
    resumed = make("")
    caplog.clear()
    with caplog.at_level("INFO"):
        resumed.on_load_checkpoint(checkpoint)
    assert "licence of the weights that the checkpoint's training began with: apache-2.0" in caplog.text
    assert saved(resumed, tmp_path / "resumed.ckpt")["weights_licence"] == "apache-2.0"

    tuned = make(str(tmp_path / "first.ckpt"))
    tuned.load_pretrained()
    assert saved(tuned, tmp_path / "tuned.ckpt")["weights_licence"] == "apache-2.0"


def test_weights_of_unknown_licence_have_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "own.safetensors")
    module = make(str(tmp_path / "own.safetensors"))
    with caplog.at_level("INFO"):
        module.load_pretrained()
    assert "licence" not in caplog.text
    assert "weights_licence" not in saved(module, tmp_path / "a.ckpt")


@pytest.mark.parametrize(
    ("source", "licence"),
    [
        ("timm://vit_small_patch14_dinov2.lvd142m", "apache-2.0"),
        ("timm://vit_small_patch16_dinov3.lvd1689m", "dinov3-license"),
        ("timm://convnextv2_tiny.fcmae_ft_in1k", "cc-by-nc-4.0"),
        ("detectron2://ImageNetPretrained/MSRA/R-50.pkl", "CC BY-SA 3.0"),
        ("https://dl.fbaipublicfiles.com/maskformer/mask2former/a/model_final_94dc52.pkl", "CC BY-NC 4.0"),
        ("https://download.pytorch.org/models/resnet50-0676ba61.pth", None),
        ("weights/own.pth", None),
    ],
)
def test_licences_are_those_of_the_publishers(source: str, licence: str | None) -> None:
    assert licence_of(source) == licence
