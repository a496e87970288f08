"""Other precisions and memory formats, and a compiled network, compute on a GPU what float32 does."""

from copy import deepcopy

import pytest
import torch

from lightning_seg.models.compilation import compile_network, compiler_problem
from tests.conftest import MODELS
from tests.gpu.devices import on
from tests.models.samples import make_batch, pair

SIZES = [(64, 96), (64, 96)]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", MODELS)
def test_half_precision_is_near_float32(device: torch.device, name: str, dtype: torch.dtype) -> None:
    ours, _, _ = pair(MODELS[name])
    batch = on(device, make_batch(SIZES))
    torch.manual_seed(1)
    expected = ours.to(device).train().losses(batch)
    torch.manual_seed(1)
    with torch.autocast(device.type, dtype):
        found = ours.losses(batch)
    for loss, value in expected.items():
        assert found[loss].isfinite()
        torch.testing.assert_close(found[loss].float(), value, rtol=0.1, atol=0.05)


@pytest.mark.parametrize("name", MODELS)
def test_channels_last_changes_nothing_but_rounding(device: torch.device, name: str) -> None:
    """In evaluation: in training, dropout and points are drawn in the order in which features lie in memory."""
    ours, _, _ = pair(MODELS[name])
    ours = ours.to(device).eval()
    other = deepcopy(ours)
    other.memory_format = torch.channels_last
    other = other.to(memory_format=torch.channels_last)
    batch = on(device, make_batch(SIZES))
    with torch.no_grad():
        both = [[scores.logits for scores in segmentor.scores(batch)] for segmentor in (ours, other)]
    for expected, found in zip(*both, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_a_compiled_network_computes_the_same(device: torch.device) -> None:
    if device.type == "cpu":
        pytest.skip("tests/test_switches.py compiles on the CPU")
    assert compiler_problem(device) is None
    ours, _, _ = pair(MODELS["SemSegFPN"])
    ours = ours.to(device).train()
    compiled = deepcopy(ours)
    compile_network(compiled.network)
    batch = on(device, make_batch(SIZES))
    for segmentor in (ours, compiled):
        torch.stack(list(segmentor.losses(batch).values())).sum().backward()  # type: ignore[no-untyped-call]
    for (name, expected), found in zip(ours.named_parameters(), compiled.parameters(), strict=True):
        if expected.grad is not None:
            assert found.grad is not None
            distance = (found.grad - expected.grad).norm() / expected.grad.norm().clamp(min=1e-6)
            assert distance < 1e-2, f"{name}: {distance}"
