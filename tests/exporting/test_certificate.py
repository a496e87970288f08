"""The certificate catches every planted bug of an export, allows ties, and says what is wrong."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_seg.exporting import parity
from lightning_seg.exporting.exporter import EXACT
from lightning_seg.exporting.graph import Graph
from lightning_seg.exporting.images import odd_sizes
from lightning_seg.exporting.parity import SIZES, TIE, Certificate, Images, Run, Trial, certify
from lightning_seg.exporting.tracing import free_copy
from lightning_seg.models.segmentor import Segmentor
from tests.exporting.files import RGB, certificate_of, metadata_of, shaken
from tests.models.networks import SMALLEST, build_segmentor

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def segmentor() -> Segmentor:
    return shaken(build_segmentor({**SMALLEST, "INPUT.FORMAT": "BGR"}))


def run_of(segmentor: Segmentor) -> Run:
    graph = Graph(free_copy(segmentor))
    return lambda image: graph(image)[0]


def test_a_graph_without_bugs_passes_with_every_pixel(segmentor: Segmentor) -> None:
    certificate = certificate_of(segmentor, run_of(segmentor))
    assert certificate.problems() == []
    assert [trial.size for trial in certificate.trials] == list(SIZES)
    assert certificate.pixels == sum(number * height * width for number, height, width in SIZES)
    assert certificate.wrong == 0


def without_normalisation(graph: Graph, image: Tensor) -> Tensor:
    return image.flip(1).float()


def other_order(graph: Graph, image: Tensor) -> Tensor:
    return (image.float() - graph.pixel_mean) / graph.pixel_std


def aligned_corners(graph: Graph, pixels: Tensor) -> Tensor:
    return upsampled(graph, pixels, size=None, align_corners=True)


def fixed_size(graph: Graph, pixels: Tensor) -> Tensor:
    """As ``interpolate`` frozen to the size that was traced, and a mask that is cropped to the image."""
    return upsampled(graph, pixels, size=(128, 160), align_corners=False)


def without_padding(graph: Graph, pixels: Tensor) -> Tensor:
    logits, _ = graph.head.logits(graph.network.backbone(pixels), (pixels.shape[-2], pixels.shape[-1]))
    return F.interpolate(logits, size=pixels.shape[-2:], mode="bilinear", align_corners=False)


def upsampled(graph: Graph, pixels: Tensor, size: tuple[int, int] | None, align_corners: bool) -> Tensor:
    height, width = pixels.shape[-2:]
    padded_height, padded_width = graph.padding(height, width)
    padded = F.pad(pixels, (0, padded_width - width, 0, padded_height - height))
    logits, stride = graph.head.logits(graph.network.backbone(padded), padded.shape[-2:])
    size = size or (logits.shape[-2] * stride, logits.shape[-1] * stride)
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=align_corners)[..., :height, :width]


BUGS: dict[str, tuple[str, Callable[..., Tensor], str]] = {
    "normalisation left out": ("normalised", without_normalisation, "are of another class than the network's"),
    "channels swapped": ("normalised", other_order, "are of another class than the network's"),
    "corners aligned": ("upsampled", aligned_corners, "are of another class than the network's"),
    "size frozen": ("upsampled", fixed_size, r"2 of 7×300: the mask is torch.uint8 of shape \(2, 7, 160\), but .*300"),
    "padding left out": ("upsampled", without_padding, "are of another class than the network's"),
}


@pytest.mark.parametrize("bug", BUGS)
def test_planted_bugs_are_caught(bug: str, segmentor: Segmentor, monkeypatch: pytest.MonkeyPatch) -> None:
    name, function, message = BUGS[bug]
    monkeypatch.setattr(Graph, name, function)
    problems = certificate_of(segmentor, run_of(segmentor)).problems()
    assert any(re.search(message, problem) for problem in problems), problems


def test_a_batch_traced_as_a_constant_is_caught(segmentor: Segmentor) -> None:
    run = run_of(segmentor)
    problems = certificate_of(segmentor, lambda image: run(image[:1])).problems()
    assert (
        problems[0]
        == "size, 2 of 7×300: the mask is torch.uint8 of shape (1, 7, 300), but torch.uint8 (2, 7, 300) is needed"
    )


def test_what_cannot_be_run_is_named_by_its_size(segmentor: Segmentor) -> None:
    run = run_of(segmentor)

    def of_large_ones(image: Tensor) -> Tensor:
        if image.shape[-1] == 1:
            raise RuntimeError("no such size\nat all")
        return run(image)

    problems = certificate_of(segmentor, of_large_ones).problems()
    assert len(problems) == 1
    assert problems[0].startswith("size, 1 of 1×1: it cannot be run: RuntimeError: no such size")


@pytest.mark.parametrize(("gap", "wrong"), [(0.5 * TIE, 0), (2 * TIE, 12)])
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_a_tie_is_what_rounding_decides(
    gap: float, wrong: int, scale: float, segmentor: Segmentor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other class is as good but for 1e-4 of the best logit's size, or of 1 where that is smaller."""
    logits = torch.zeros(5, 3, 4)
    logits[2], logits[4] = scale, scale * (1 - gap)
    labels = torch.full((1, 3, 4), 2, dtype=torch.uint8)
    monkeypatch.setattr(parity, "_expected", lambda *_: (labels, [logits]))
    image = Images("a", torch.zeros(1, 3, 3, 4, dtype=torch.uint8))
    certificate = certify(segmentor, lambda _: torch.full_like(labels, 4), [image], EXACT)
    assert certificate.trials == [Trial("a", (1, 3, 4), 12, 12, wrong)]
    third = certify(segmentor, lambda _: torch.full_like(labels, 1), [image], EXACT)
    assert third.wrong == 12, "a class that is far behind is no tie, however near the two best are"
    none = certify(segmentor, lambda _: torch.full_like(labels, 7), [image], EXACT)
    assert none.problems() == ["a, 1 of 3×4: the mask holds 7, which is no class"]


@pytest.mark.parametrize(("wrong", "passes"), [(0, True), (10, True), (11, False)])
def test_one_pixel_in_ten_thousand_may_be_wrong(wrong: int, passes: bool) -> None:
    trials = [Trial("a", (1, 100, 500), 50000, wrong, wrong), Trial("b", (1, 100, 500), 50000)]
    problems = Certificate(EXACT, trials).problems()
    assert (problems == []) == passes
    assert passes or problems == [
        "11 of 100000 pixels are of another class than the network's and no ties, where 0.01% are allowed; most of "
        "all in a, 1 of 100×500: 11 of 50000"
    ]


def test_sizes_that_the_network_itself_refuses_are_left_out(segmentor: Segmentor) -> None:
    class Refusing:
        def evaluate(self, batch: Any) -> Any:
            raise RuntimeError("never")

    refusing: Any = Refusing()
    certificate = certify(refusing, run_of(segmentor), odd_sizes([], RGB), EXACT)
    assert len(certificate.skipped) == len(SIZES)
    assert certificate.problems() == ["there is no image that the network itself takes"]


def test_the_file_says_what_was_found(segmentor: Segmentor, tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"content")
    certificate = Certificate(EXACT, [Trial("a", (1, 2, 3), 6, 2, 1)], notes={"mIoU_int8": 3.5})
    certificate.write(tmp_path / "a.onnx.parity.json", tmp_path / "a.onnx", metadata_of())
    content = json.loads((tmp_path / "a.onnx.parity.json").read_text())
    assert content["passed"] is False
    assert content["file"] == "a.onnx"
    assert content["sha256"] == "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"
    assert (content["pixels"], content["differing"], content["differing_no_ties"]) == (6, 2, 1)
    assert content["mIoU_int8"] == 3.5
    assert content["trials"][0]["size"] == [1, 2, 3]
    assert "1 of 6 pixels" in content["problems"][0]


def test_odd_sizes_are_cut_out_of_images() -> None:
    image = torch.arange(3 * 5 * 7, dtype=torch.uint8).reshape(3, 5, 7)
    batches = list(odd_sizes([image], RGB))
    assert [(batch.pixels.shape[0], *batch.pixels.shape[2:]) for batch in batches] == list(SIZES)
    seen = {tuple(pixel.tolist()) for pixel in image.flatten(1).T}
    assert all(tuple(pixel.tolist()) in seen for batch in batches for pixel in batch.pixels[0].flatten(1).T[:50])
    noise = next(odd for odd in odd_sizes([], RGB) if odd.pixels.shape[-1] == 352)
    assert noise.pixels.float().std() > 20
