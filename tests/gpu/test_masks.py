"""Networks that classify masks compute on a GPU what they do on a CPU, in little memory, and say where they wait."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_seg.inference import Augmented, Inference, SlidingWindow
from lightning_seg.inference.whole import label_maps, probability_bands
from lightning_seg.models.segmentor import Segmentor
from lightning_seg.structures import MaskScores
from tests.gpu.devices import assert_best, on
from tests.gpu.waiting import noted_waits
from tests.models.networks import EOMT, build_segmentor, overrides_of
from tests.models.samples import make_batch

pytest.importorskip("transformers", reason="heads that classify masks are built of transformers' layers")

KINDS = {"Mask2FormerHead": overrides_of("resnet18", "Mask2FormerHead"), "EoMT": EOMT}
SIZES = [(64, 96), (64, 96)]

of_each = pytest.mark.parametrize("name", KINDS)

WAITS = {"mask_points.present", "mask_losses._match", "mask_losses._in_float32", "mask_losses._of_classes",
         "mask_losses.__call__", "segmentor._targets"}  # fmt: skip
"""Masks are given to queries on the CPU, by SciPy: it needs the costs, and the GPU the queries."""


@pytest.fixture
def same_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """Points are drawn on the CPU, so that they are the same for every device."""
    rand = torch.rand

    def drawn(*size: int, device: Any = None, **settings: Any) -> Tensor:
        return rand(*size, **settings).to(device)

    monkeypatch.setattr(torch, "rand", drawn)


def trained(segmentor: Segmentor, device: torch.device, precision: torch.dtype | None = None) -> dict[str, Tensor]:
    """Losses of one step; gradients are left in the weights."""
    torch.manual_seed(1)
    with torch.autocast(device.type, precision or torch.bfloat16, enabled=precision is not None):
        losses = segmentor.to(device).train().losses(on(device, make_batch(SIZES)))
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    return losses


def gradients(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.grad for name, value in network.named_parameters() if value.grad is not None}


@of_each
@pytest.mark.usefixtures("same_points")
def test_losses_and_gradients_are_those_of_the_cpu(device: torch.device, name: str) -> None:
    on_cpu = build_segmentor(KINDS[name])
    there = deepcopy(on_cpu)
    expected, found = trained(on_cpu, torch.device("cpu")), trained(there, device)
    assert found.keys() == expected.keys()
    for loss, value in expected.items():
        torch.testing.assert_close(found[loss].cpu(), value, rtol=1e-3, atol=1e-5, msg=lambda m, n=loss: f"{n}: {m}")
    total = torch.cat([value.flatten() for value in gradients(on_cpu).values()])
    difference = total - torch.cat([value.cpu().flatten() for value in gradients(there).values()])
    assert difference.norm() < 1e-2 * total.norm()


@of_each
def test_losses_and_labels_of_an_evaluation_are_those_of_the_cpu(device: torch.device, name: str) -> None:
    segmentor, batch = build_segmentor(KINDS[name]).eval(), make_batch([(65, 97)])
    with torch.no_grad():
        expected = segmentor.evaluate(batch)
        found = deepcopy(segmentor).to(device).evaluate(on(device, batch))
    for loss, value in expected.losses[0].items():
        torch.testing.assert_close(found.losses[0][loss].cpu(), value, rtol=1e-3, atol=1e-5)
    for output in ((65, 97), (130, 50)):
        bands = probability_bands(expected.scores[0], (65, 97), output)
        (labels,) = label_maps(found.scores, found.input_sizes, [output])
        assert_best(labels, torch.cat([band for _, band in bands], 1))


@of_each
@pytest.mark.usefixtures("same_points")
def test_bf16_is_near_float32(device: torch.device, name: str) -> None:
    """A query may look elsewhere, or get another mask, where two are nearly as good."""
    losses = [
        torch.stack(list(trained(build_segmentor(KINDS[name]), device, precision).values()))
        for precision in (None, torch.bfloat16)
    ]
    assert losses[1].isfinite().all()
    torch.testing.assert_close(losses[1].sum(), losses[0].sum(), rtol=0.1, atol=0)


@of_each
@pytest.mark.parametrize("way", [SlidingWindow((40, 56), 0.5), Augmented([1.0, 0.75])], ids=["windows", "views"])
def test_windows_and_views_have_the_labels_of_the_cpu(device: torch.device, name: str, way: Inference) -> None:
    segmentor = build_segmentor(KINDS[name]).eval()
    sample: Any = {"image": make_batch([(65, 97)])[0]["image"], "height": 80, "width": 70}
    with torch.no_grad():
        (expected,) = way.probabilities(segmentor.evaluate, [sample])
        there = deepcopy(segmentor).to(device)
        (labels,), _ = way.evaluate(there.evaluate, on(device, [sample]))
    assert_best(labels, expected, 4e-3)


def mask_scores(device: torch.device, queries: int, classes: int, height: int, width: int) -> MaskScores:
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.randn(queries, classes + 1, generator=generator).softmax(-1)[:, :-1]
    masks = 4 * torch.randn(queries, height // 4, width // 4, generator=generator)
    return MaskScores(probabilities.to(device), masks.to(device), 4)


@pytest.mark.parametrize("resized", [False, True])
def test_label_maps_by_bands_are_the_plain_ones_in_a_fraction_of_their_memory(
    device: torch.device, resized: bool
) -> None:
    small = device.type == "cpu"
    size = (64, 128) if small else (1024, 2048)
    output = (size[0] * 3 // 4, size[1] // 2) if resized else size
    scores = mask_scores(device, *((10, 19) if small else (100, 150)), *size)

    def plain() -> Tensor:
        full = F.interpolate(scores.masks[None], scale_factor=4, mode="bilinear", align_corners=False)
        if resized:
            full = F.interpolate(full, size=output, mode="bilinear", align_corners=False)
        return torch.einsum("qk,qhw->khw", scores.probabilities, full[0].sigmoid())

    assert_best(label_maps([scores], [size], [output])[0], plain().cpu(), 1e-4)
    if device.type == "cuda":
        peaks = []
        for way in (plain, lambda: label_maps([scores], [size], [output])):
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            way()
            peaks.append(torch.cuda.max_memory_allocated() - before)
        assert peaks[1] < peaks[0] / 2, f"{peaks[1] / 2**20:.0f} of {peaks[0] / 2**20:.0f} MiB"


@of_each
def test_a_step_waits_only_where_masks_are_given_to_queries(device: torch.device, name: str) -> None:
    """And in the pixel decoder of transformers, which looks for infinite numbers in training."""
    if device.type == "cpu":
        pytest.skip("a CPU waits for itself")
    segmentor = build_segmentor(KINDS[name]).to(device)
    batch = on(device, make_batch(SIZES))

    def step() -> None:
        losses = segmentor.train().losses(batch)
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]

    for _ in range(2):
        step()
    with noted_waits() as where:
        step()
    others = {place for place in where if not place.startswith("modeling_mask2former.")} - WAITS
    assert not others, f"{len(where)} waits: " + ", ".join(f"{place} {where.count(place)}" for place in set(where))
