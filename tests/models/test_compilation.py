"""A compiled network computes what a plain one does; where nothing can be compiled, one line says so.

That ``model.compile`` really compiles, with inductor, is in tests/test_switches.py.
"""

from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_seg.errors import ConfigError
from lightning_seg.models import compilation
from lightning_seg.models.compilation import compile_network, compiler_problem
from lightning_seg.models.recipe import load_recipe
from lightning_seg.models.segmentor import Segmentor
from tests.conftest import MODELS
from tests.models.memory import saved_bytes
from tests.models.networks import EOMT, EOMT_DINOV3, ZOO, overrides_of
from tests.models.samples import IGNORE, make_batch
from tests.training import fit, make

pytestmark = [pytest.mark.runs, pytest.mark.usefixtures("one_thread")]

SIZES = [(64, 96), (64, 96)]


def build(overrides: dict[str, Any], **settings: Any) -> Segmentor:
    torch.manual_seed(0)
    return Segmentor(load_recipe(ZOO, overrides), num_classes=5, ignore_index=IGNORE, **settings)


def train(segmentor: Segmentor) -> dict[str, Tensor]:
    """Losses and gradients of one step, and what norms have counted."""
    torch.manual_seed(1)  # the points of PointRend
    losses = segmentor.train().losses(make_batch(SIZES))
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    gradients = {f"{name}.grad": p.grad for name, p in segmentor.named_parameters() if p.grad is not None}
    return {**losses, **gradients, **dict(segmentor.named_buffers())}


def logits(segmentor: Segmentor, size: tuple[int, int]) -> Tensor:
    torch.manual_seed(2)
    with torch.no_grad():
        return segmentor.eval().scores(make_batch([size]))[0].logits


def distance(found: Tensor, expected: Tensor) -> float:
    found, expected = found.detach().double(), expected.detach().double()
    return float((found - expected).norm() / expected.norm().clamp(min=1e-12))


@pytest.fixture
def without_inductor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trace alone, forward and backward; the traced operators are then run as they are."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    torch._dynamo.reset()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if "DeepLab" in name else ()) for name in MODELS]
)
def test_heads_are_traced(without_inductor: None, name: str) -> None:
    plain, compiled = build(MODELS[name]), build(MODELS[name])
    compile_network(compiled.network)
    copy = deepcopy(compiled)
    expected, found = train(plain), train(compiled)
    assert max(distance(found[name], expected[name]) for name in expected) < 1e-5
    for size in [(64, 96), (65, 97)]:
        assert distance(logits(compiled, size), logits(plain, size)) < 1e-5
    before = logits(compiled, (64, 96))
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.zero_()
    assert not logits(copy, (64, 96)).any()
    assert torch.equal(logits(compiled, (64, 96)), before)


def test_refuses_to_count_batches_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    make(compile=True, activation_checkpointing=False)
    monkeypatch.setattr(compilation, "_TORCH", (2, 8))
    make(compile=True, activation_checkpointing=False)
    with pytest.raises(ConfigError, match=r"counts each batch twice .* install torch 2\.9 or newer, or leave one"):
        make(compile=True, activation_checkpointing=True)


@pytest.mark.skipif(compilation._TORCH < (2, 9), reason="refused, see above")
def test_recomputed_blocks_are_traced(without_inductor: None) -> None:
    settings = {**MODELS["SemSegFPN"], "MODEL.SEM_SEG_HEAD.IN_FEATURES": ["p5"]}
    plain, compiled, kept = build(settings), build(settings, activation_checkpointing=True), build(settings)
    compile_network(compiled.network)
    compile_network(kept.network)
    expected, found = train(plain), train(compiled)
    assert max(distance(found[name], expected[name]) for name in expected) < 1e-5
    assert saved_bytes(compiled) < 0.75 * saved_bytes(kept)


def test_goes_on_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch._dynamo.reset()  # what is compiled needs no compiler, neither does what a cache on the disk holds
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    with torch._inductor.config.patch({"cpp.cxx": (None, str(tmp_path / "none"))}):
        assert "InvalidCxxCompiler" in str(compiler_problem(torch.device("cpu")))
        modules = {compiled: make(compile=compiled) for compiled in (True, False)}
        fit(modules[False], [make_batch(SIZES)], tmp_path)
        with pytest.warns(UserWarning, match=r"model\.compile has no effect here, .*: .*InvalidCxxCompiler") as said:
            fit(modules[True], [make_batch(SIZES)], tmp_path)
        assert not any("\n" in str(warning.message) for warning in said if "model.compile" in str(warning.message))
    weights = modules[False].state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in modules[True].state_dict().items())


@pytest.mark.parametrize(
    "overrides",
    [overrides_of("resnet18", "Mask2FormerHead"), EOMT, {**EOMT_DINOV3, "MODEL.EOMT.POS_EMBED_RESCALE": 1.0}],
    ids=["Mask2Former", "EoMT", "EoMT, DINOv3"],
)
def test_heads_of_masks_train_on_what_is_traced(without_inductor: None, overrides: dict[str, Any]) -> None:
    plain, compiled = build(overrides), build(overrides)
    compile_network(compiled.network)
    expected, found = train(plain), train(compiled)
    assert max(distance(found[name], expected[name]) for name in expected) < 1e-5
    with torch.no_grad():
        for size in [(64, 96), (65, 97)]:
            maps = [one.eval().scores(make_batch([size]))[0].maps for one in (compiled, plain)]
            assert distance(*maps) < 1e-5
