"""Processes that hold a part of the network each train what one process does, and their checkpoints are plain."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

from lightning_seg.callbacks import EMA
from lightning_seg.errors import ConfigError
from lightning_seg.models.recipe import load_recipe
from lightning_seg.models.segmentor import Segmentor
from lightning_seg.models.sharding import gather, scatter, shard
from lightning_seg.strategies import ShardedStrategy, register_strategies
from tests.conftest import TINY_OVERRIDES, folder, train_py
from tests.models.networks import VIT, ZOO
from tests.models.samples import IGNORE, make_batch
from tests.processes import run_processes
from tests.ranks import STEPS, losses_of

pytestmark = pytest.mark.runs

OVERRIDES = {
    "MODEL.BACKBONE.NAME": "build_vit_pyramid_backbone",
    **{f"MODEL.VIT.{key}": value for key, value in VIT.items()},
    "MODEL.FPN.IN_FEATURES": [],
    "MODEL.SEM_SEG_HEAD.NORM": "GN",
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": 32,
    "SOLVER.BASE_LR": 0.02,
    "SOLVER.CLIP_GRADIENTS.ENABLED": True,
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": "norm",
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": 0.02,
}


def run(command: str, config: Path, pairs: Path, name: str, *options: str, stop_in: int | None = None) -> Path:
    """The newest folder of ``name``, after a run to its end or one that a signal stops in a step."""
    callbacks = [{"class_path": "tests.ranks.RankFile", "init_args": {"folder": str(config.parent / name)}}]
    if stop_in is not None:
        callbacks.append({"class_path": "tests.ranks.SignalIn", "init_args": {"step": stop_in}})
    own = ("--trainer.gradient_clip_val=0.1", "--trainer.callbacks", json.dumps(callbacks)) if command == "fit" else ()
    done = train_py(
        command, "--config", str(config), "--name", name, "--data.root", str(pairs),
        *(f"--model.overrides.{key}={json.dumps(value)}" for key, value in OVERRIDES.items()),
        f"--data.val={json.dumps(folder('val'))}", *own, *options,
    )  # fmt: skip
    assert done.returncode == (0 if stop_in is None else 75), done.stderr
    return max((config.parent / "runs" / name).iterdir())


def checkpoint_of(run: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    assert loaded["global_step"] == STEPS
    return loaded


def validated(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open() as file:
        return [row for row in csv.DictReader(file) if row["val/mIoU"]]


def test_two_processes_equal_one(experiment: Callable[..., Path], pairs: Path) -> None:
    """With both ways of clipping, accumulation, recomputed blocks, and a validation that one process has no part in."""
    config = experiment()
    steps = f"--trainer.max_steps={STEPS}"
    sharded = (
        "--trainer.strategy=sharded", "--trainer.devices=2", "--data.batch_size=2",
        "--trainer.accumulate_grad_batches=2", "--model.activation_checkpointing=true",
    )  # fmt: skip
    alone = run("fit", config, pairs, "alone", "--data.batch_size=8", steps)
    together = run("fit", config, pairs, "together", *sharded, steps)
    run("fit", config, pairs, "stopped", *sharded, steps, stop_in=2)
    resumed = run("fit", config, pairs, "stopped", *sharded, steps, "--ckpt_path=last")

    for rank in range(2):
        count, held, in_all = map(int, (config.parent / "together" / f"parts_{rank}").read_text().split())
        assert count > 10
        assert 0.3 < held / in_all < 0.7  # the two have the network in halves
    assert (config.parent / "alone" / "parts_0").read_text() == "0 0 0"

    losses = losses_of(config.parent / "alone", 1)
    assert len(set(losses)) == STEPS
    for name in ("together", "stopped"):
        assert losses_of(config.parent / name, 2) == pytest.approx(losses, rel=1e-5)
    expected, found, again = (checkpoint_of(folder) for folder in (alone, together, resumed))
    for part in ("state_dict", "optimizer_states", "lr_schedulers"):
        torch.testing.assert_close(found[part], expected[part], rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(again[part], found[part], rtol=0, atol=0)
    assert len(validated(alone)) == len(validated(together)) == 2
    for one, other in zip(validated(alone), validated(together), strict=True):
        assert float(one["val/loss"]) == pytest.approx(float(other["val/loss"]), rel=1e-5)

    best = max(float(row["val/mIoU"]) for row in validated(resumed))
    metrics = json.loads((run("validate", config, pairs, "stopped", "--ckpt_path=best") / "metrics.json").read_text())
    assert metrics["mIoU"] == pytest.approx(best, abs=1e-6)


def build(overrides: dict[str, Any]) -> Segmentor:
    torch.manual_seed(0)
    return Segmentor(load_recipe(ZOO, {**TINY_OVERRIDES, **overrides}), num_classes=5, ignore_index=IGNORE)


def loss(segmentor: Segmentor) -> Tensor:
    return torch.stack(list(segmentor.train().losses(make_batch([(64, 96)])).values())).sum()


def _shard(rank: int, folder: Path) -> None:
    mesh = init_device_mesh("cpu", (2,))
    with pytest.raises(ConfigError, match=r"sharded: network\.sem_seg_head.* is a BatchNorm, whose statistics would"):
        shard(build({**OVERRIDES, "MODEL.SEM_SEG_HEAD.NORM": "BN"}), mesh)
    plain, segmentor = build(OVERRIDES), build(OVERRIDES)
    shard(segmentor, mesh)
    assert list(segmentor.state_dict()) == list(plain.state_dict())

    def held() -> int:
        """Numbers of parameters that have memory in this process now."""
        tensors = (p.to_local() if isinstance(p, DTensor) else p for p in segmentor.parameters())
        return sum(tensor.numel() for tensor in tensors)

    total = sum(parameter.numel() for parameter in plain.parameters())
    assert held() < 0.6 * total
    for _ in range(2):
        with torch.inference_mode():
            gather(segmentor)
            assert held() == total
            for _ in range(2 * rank):  # the other process has no batch
                logits = (segmentor.eval().scores(make_batch([(64, 96)]))[0].logits for segmentor in (plain, segmentor))
                torch.testing.assert_close(*logits)
            scatter(segmentor)
        assert held() < 0.6 * total
        found, expected = loss(segmentor), loss(plain)
        torch.testing.assert_close(found, expected)
        found.backward()  # type: ignore[no-untyped-call]
        assert held() < 0.6 * total
        assert all(
            isinstance(parameter.grad, DTensor) for parameter in segmentor.parameters() if parameter.requires_grad
        )


def test_processes_hold_parts_and_evaluate_alone(tmp_path: Path) -> None:
    run_processes(2, _shard, tmp_path)


def test_averaged_weights_are_refused() -> None:
    with pytest.raises(ConfigError, match="sharded does not work with averaged weights: leave out EMA or"):
        ShardedStrategy().setup(pl.Trainer(callbacks=[EMA()], accelerator="cpu", logger=False))


def test_ddp_holds_gradients_once() -> None:
    register_strategies()
    trainer = pl.Trainer(accelerator="cpu", devices=2, logger=False, enable_progress_bar=False)
    assert isinstance(trainer.strategy, DDPStrategy)
    assert trainer.strategy._ddp_kwargs["gradient_as_bucket_view"]
