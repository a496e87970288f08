"""Short runs on a GPU, of several precisions, norms and strategies, end with weights that are numbers."""

from collections.abc import Callable
from typing import Any

import pytest
import torch


@pytest.mark.parametrize(
    "options",
    [
        ["--trainer.precision", "bf16-mixed", "--model.channels_last", "true", "--trainer.benchmark", "true"],
        ["--trainer.precision", "16-mixed"],
        ["--model.overrides.MODEL.RESNETS.NORM", "SyncBN", "--trainer.strategy", "ddp"],
        ["--model.overrides.MODEL.RESNETS.NORM", "GN", "--model.overrides.MODEL.SEM_SEG_HEAD.NORM", "GN",
         "--model.overrides.MODEL.SEM_SEG_HEAD.CONVS_DIM", "32", "--trainer.strategy", "sharded"],
        ["--trainer.callbacks+=lightning_seg.callbacks.EMA", "--trainer.callbacks.decay=0.9"],
    ],
    ids=["bf16, channels-last", "fp16", "SyncBN, DDP of one device", "FSDP2 of one device", "EMA"],
)  # fmt: skip
def test_a_run_ends_with_finite_weights(
    fit: Callable[..., dict[str, Any]], device: torch.device, options: list[str]
) -> None:
    if device.type == "cpu" and "16-mixed" in options:
        pytest.skip("gradients are scaled on a GPU alone")
    if device.type == "cpu" and "--trainer.strategy" in options:
        options = [*options, "--trainer.devices", "1"]
    loaded = fit(*options)
    assert loaded["global_step"] == 3
    assert all(value.isfinite().all() for value in loaded["state_dict"].values())
