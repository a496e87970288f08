"""Every head gives the same in ONNX Runtime and as .pt2 as in torch, at twelve sizes from 1×1 on."""

from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_seg.exporting.graph import Graph
from lightning_seg.exporting.parity import SIZES
from lightning_seg.exporting.tracing import free_copy, trace
from lightning_seg.inference.whole import probability_bands
from tests.exporting.files import certificate_of, files_of, running, shaken
from tests.models.networks import BACKBONES, EOMT, EOMT_DINOV3, HEADS, build_segmentor, overrides_of, segmentor_of

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.runs]  # exports networks: some seconds each

BACKBONE = "timm resnet"

UNIFORM = {"INPUT.CROP.ENABLED": True, "INPUT.CROP.TYPE": "absolute", "INPUT.CROP.SIZE": [64, 96]}
"""For DeepLab to pool over windows, which most sizes are no multiple of and some are smaller than."""

IN_SUITE = ("UPerNetHead",)
"""It pools over grids that no size divides; what is slow tries all."""


@pytest.mark.parametrize(
    "head", [pytest.param(head, marks=() if head in IN_SUITE else pytest.mark.slow) for head in HEADS]
)
def test_every_head_gives_the_same_in_every_file(head: str, tmp_path: Path) -> None:
    crop = UNIFORM if head.startswith("DeepLab") else {}
    segmentor = shaken(build_segmentor({**overrides_of(BACKBONE, head), **crop}))
    graph = Graph(free_copy(segmentor))
    runs = {"float32": lambda image: graph(image)[0]}
    runs |= {suffix: running(file) for suffix, file in files_of(segmentor, tmp_path).items()}
    assert list(runs) == ["float32", ".onnx", ".pt2"]
    for kind, run in runs.items():
        certificate = certificate_of(segmentor, run)
        assert certificate.problems() == [], kind
        assert certificate.wrong == 0, kind
        assert [trial.size for trial in certificate.trials] == list(SIZES), kind


@pytest.mark.slow
@pytest.mark.parametrize("annealed", [True, False])
@pytest.mark.parametrize("vit", ["DINOv2", "DINOv3"])
def test_eomt_gives_the_same_in_every_file(vit: str, annealed: bool, tmp_path: Path) -> None:
    overrides = {**EOMT, "MODEL.EOMT.VIT": vit}
    segmentor = shaken(build_segmentor({**overrides, "MODEL.EOMT.ATTN_MASK_ANNEALING_ENABLED": annealed}))
    for suffix, file in files_of(segmentor, tmp_path).items():
        certificate = certificate_of(segmentor, running(file))
        assert certificate.problems() == [], suffix
        assert certificate.wrong == 0, suffix


@pytest.mark.parametrize(
    "overrides",
    [
        EOMT,
        EOMT_DINOV3,
        {**overrides_of(BACKBONE, "Mask2FormerHead"), "MODEL.MASK_FORMER.SIZE_DIVISIBILITY": 64},
    ],
    ids=["EoMT", "EoMT, DINOv3", "Mask2Former that pads"],
)
def test_heads_of_masks_are_traced_at_free_sizes(overrides: dict[str, Any]) -> None:
    segmentor = shaken(build_segmentor(overrides))
    graph = Graph(free_copy(segmentor), probabilities=True)
    traced = trace(graph).module()
    for size in ((1, 1, 1), (3, 33, 70), (1, 64, 64)):
        image = torch.randint(0, 256, (size[0], 3, *size[1:]), dtype=torch.uint8)
        (mask, probabilities), (expected, wanted) = traced(image), graph(image)
        torch.testing.assert_close(probabilities, wanted, rtol=1e-4, atol=1e-5)
        assert (mask != expected).float().mean() < 0.001
        torch.testing.assert_close(probabilities.sum(1), torch.ones_like(probabilities[:, 0]))
    batch = [{"image": image[0]}]
    (scores,) = segmentor.eval().scores(batch)  # type: ignore[arg-type]
    own = torch.cat([band for _, band in probability_bands(scores, (64, 64), (64, 64))], 1)
    torch.testing.assert_close(probabilities[0], own, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_gives_the_same_in_every_file(backbone: str, tmp_path: Path) -> None:
    segmentor = shaken(segmentor_of(backbone, "SemSegFPNHead"))
    for suffix, file in files_of(segmentor, tmp_path).items():
        assert certificate_of(segmentor, running(file)).problems() == [], suffix
