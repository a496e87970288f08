"""Lets several processes train: registers ``ddp`` with the options that these models need, and ``sharded``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
from pytorch_lightning.callbacks import WeightAveraging
from pytorch_lightning.strategies import DDPStrategy, ModelParallelStrategy, ParallelStrategy, StrategyRegistry
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer
from torch.utils._pytree import tree_map

from lightning_seg.errors import ConfigError
from lightning_seg.lightning_internals import callbacks_of
from lightning_seg.models.sharding import gather, scatter, shard
from lightning_seg.module import SegmentationModule


class ShardedStrategy(ModelParallelStrategy):
    """FSDP2: each process holds its part of weights, gradients and optimiser states.

    Checkpoints are single files. Every strategy can read them, and this one reads those of every strategy; Lightning's
    own strategy numbers the optimiser's parameters differently. In evaluation, each process holds all weights, since
    processes may have different numbers of batches.

    Raises:
        ConfigError: when a run starts, if its weights are averaged, or if its network cannot be spread, see
            :func:`lightning_seg.models.sharding.shard`.
    """

    lightning_restore_optimizer = True

    def setup_environment(self) -> None:
        self._data_parallel_size, self._tensor_parallel_size = self.num_nodes * self.num_processes, 1
        super().setup_environment()

    def setup(self, trainer: pl.Trainer) -> None:
        """Spread the network, then do what Lightning does. Its ``configure_model`` would change how EMA begins."""
        if any(isinstance(callback, WeightAveraging) for callback in callbacks_of(trainer)):
            raise ConfigError(
                "trainer.strategy sharded does not work with averaged weights: leave out EMA or the strategy"
            )
        assert self.accelerator is not None
        self.accelerator.setup(trainer)
        assert self.model is not None
        segmentor = cast(SegmentationModule, self.model).segmentor
        if not isinstance(segmentor, FSDPModule):  # it is one in a trainer's second command
            shard(segmentor, self.device_mesh["data_parallel"])
        self.model = self.precision_plugin.convert_module(self.model)
        self.model_to_device()
        self.barrier()
        if trainer.state.fn == TrainerFn.FITTING:
            self.setup_optimizers(trainer)
        self.setup_precision_plugin()

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """All weights, on the main process; the other processes contribute their parts."""
        assert self.lightning_module is not None
        state: dict[str, Any] = self._whole(self.lightning_module.state_dict())
        return state

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        state: dict[str, Any] = self._whole(optimizer.state_dict())
        return state

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: str | Path, storage_options: Any = None) -> None:
        ParallelStrategy.save_checkpoint(self, checkpoint, filepath, storage_options)

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        return ParallelStrategy.load_checkpoint(self, checkpoint_path, weights_only)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        assert self.lightning_module is not None
        own = self.lightning_module.state_dict()
        parts = {name: _part(tensor, own.get(name)) for name, tensor in checkpoint["state_dict"].items()}
        self.lightning_module.load_state_dict(parts, strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            parts = {
                number: {
                    key: _part(value, parameters[number]) if _is_like(value, parameters[number]) else value
                    for key, value in values.items()
                }
                for number, values in state["state"].items()
            }
            optimizer.load_state_dict({**state, "state": parts})

    def on_validation_start(self) -> None:
        assert self.lightning_module is not None
        gather(self.lightning_module)

    def on_validation_end(self) -> None:
        assert self.lightning_module is not None
        scatter(self.lightning_module)

    on_test_start = on_predict_start = on_validation_start
    on_test_end = on_predict_end = on_validation_end

    def _whole(self, state: Any) -> Any:
        def whole(value: Any) -> Any:
            if isinstance(value, DTensor):
                full = value.full_tensor()  # all processes take part
                return full.cpu() if self.is_global_zero else None
            return value

        return tree_map(whole, state)


def _part(whole: Any, own: Any) -> Any:
    """This process's part of a tensor that all processes have, spread like ``own``."""
    if not isinstance(own, DTensor):
        return whole
    return distribute_tensor(whole.to(own.device), own.device_mesh, own.placements)


def _is_like(value: Any, parameter: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == parameter.shape


def register_strategies() -> None:
    """Register ``sharded`` for ``Trainer(strategy=...)``, and let ``ddp`` hold gradients once, also with ``auto``.

    Buffers are broadcast, although Detectron2 switches that off. So every process validates with the BatchNorm
    statistics of the first process, which are those in the checkpoint.
    """
    StrategyRegistry.register("sharded", ShardedStrategy, override=True)
    StrategyRegistry.register("ddp", DDPStrategy, override=True, start_method="popen", gradient_as_bucket_view=True)
