"""A run that ended inside an epoch, or goes on with other batches, sees each sample once an epoch."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import Timer

from lightning_seg.cli import main
from lightning_seg.data import SegmentationDataModule, Synthetic
from lightning_seg.data.dataset import SegmentationDataset
from lightning_seg.data.position import EpochPosition
from lightning_seg.data.sampler import TrainSampler

SAMPLES = 15


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("position")
    for part, count in (("train", SAMPLES), ("val", 1)):
        Synthetic(root=part, count=count, seed=count, size=(32, 32)).prepare(root)
    return root


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int]]:
    """(epoch, position, sample) of everything that is trained on."""
    draws: list[tuple[int, int, int]] = []
    step = SegmentationDataset.__getitem__

    def noting(self: SegmentationDataset, key: Any) -> Any:
        if hasattr(key, "position"):
            draws.append((key.epoch, key.position, key.sample))
        return step(self, key)

    monkeypatch.setattr(SegmentationDataset, "__getitem__", noting)
    return draws


@pytest.fixture
def fit(
    data: Path, experiment: Callable[..., Path], one_thread: None, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Any]]:
    """Runs or goes on with a training of two epochs, and returns ``last.ckpt``."""
    config = experiment(root=str(data), test=None)
    monkeypatch.setattr(SegmentationDataModule, "take_quick_look", lambda _: None)
    always = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]

    def run(*arguments: str, name: str = "tiny") -> dict[str, Any]:
        main(["fit", "--config", str(config), "--name", name, "--ckpt_path", "last", *always, *arguments])
        run = config.parent / "runs" / name / "version_0/checkpoints/last.ckpt"
        checkpoint: dict[str, Any] = torch.load(run, weights_only=True)
        return checkpoint

    return run


def steps(number: int, *more: str) -> tuple[str, ...]:
    return (f"--trainer.max_steps={number}", *more)


def batch(size: int, accumulate: int = 1) -> tuple[str, ...]:
    return (f"--data.batch_size={size}", f"--trainer.accumulate_grad_batches={accumulate}")


ENDLESS = "--trainer.max_epochs=-1"
NO_VAL = "--trainer.limit_val_batches=0"


@pytest.mark.parametrize(
    ("starts", "positions", "num_steps"),
    [
        pytest.param([steps(3), ()], [14, 14], 14, id="max_steps inside an epoch"),
        pytest.param([steps(3, NO_VAL), (NO_VAL,)], [14, 14], 14, id="without a validation"),
        pytest.param([steps(3, ENDLESS), steps(12, ENDLESS)], [14, 10], 12, id="more max_steps"),
        pytest.param([steps(7, ENDLESS, NO_VAL), steps(10, ENDLESS, NO_VAL)], [14, 6], 10, id="at an epoch's end"),
        pytest.param([steps(3), batch(3)], [15, 15], 3 + 3 + 5, id="larger batches"),
        pytest.param([steps(2, *batch(3)), ()], [14, 14], 2 + 4 + 7, id="smaller batches"),
        pytest.param([steps(5, *batch(1)), batch(4)], [13, 12], 5 + 2 + 3, id="a place between two batches"),
        pytest.param([steps(5, *batch(1)), steps(6, *batch(4)), ()], [15, 14], 5 + 1 + 3 + 7, id="twice in one epoch"),
        pytest.param([steps(13, *batch(1)), batch(4)], [13, 12], 13 + 0 + 3, id="no whole batch is left"),
        pytest.param([steps(2, *batch(2, 2)), batch(4)], [12, 12], 2 + 1 + 3, id="the same batch without accumulation"),
        pytest.param([steps(2, *batch(4)), batch(2, 2)], [14, 14], 2 + 2 + 4, id="the same batch with accumulation"),
        pytest.param([steps(2), batch(2, 4)], [14, 14], 2 + 2 + 2, id="more accumulation"),
    ],
)
def test_each_sample_is_seen_once_an_epoch(
    fit: Callable[..., dict[str, Any]],
    seen: list[tuple[int, int, int]],
    starts: list[tuple[str, ...]],
    positions: list[int],
    num_steps: int,
) -> None:
    for settings in starts:
        last = fit(*settings)
    check(seen, positions)
    assert last["global_step"] == num_steps


def check(seen: list[tuple[int, int, int]], positions: list[int]) -> None:
    """Every position of each epoch once, in order, and no sample twice."""
    assert [(epoch, place) for epoch, place, _ in seen] == [
        (epoch, place) for epoch, count in enumerate(positions) for place in range(count)
    ]
    for epoch in range(len(positions)):
        samples = [sample for number, _, sample in seen if number == epoch]
        assert len(set(samples)) == len(samples)


@pytest.mark.parametrize("batches", [2, 3, 9])
def test_a_limit_of_time_loses_nothing(
    fit: Callable[..., dict[str, Any]],
    seen: list[tuple[int, int, int]],
    monkeypatch: pytest.MonkeyPatch,
    batches: int,
) -> None:
    """Also inside a step of several batches, whose gradients no checkpoint holds: it is finished first."""
    limit = {"samples": 2.0 * batches}

    def check_time(_: Timer, trainer: Any) -> None:
        trainer.should_stop = trainer.should_stop or len(seen) >= limit["samples"]

    monkeypatch.setattr(Timer, "_check_time_remaining", check_time)
    settings = [*batch(2, 2), "--trainer.max_time=00:01:00:00"]
    fit(*settings)
    assert len(seen) == {2: 4, 3: 8, 9: 18}[batches]
    limit["samples"] = math.inf
    last = fit(*settings)
    check(seen, [14, 14])
    alone = fit(*settings, name="alone")
    for part in ("state_dict", "optimizer_states", "lr_schedulers"):
        assert same(last[part], alone[part])


def same(one: Any, other: Any) -> bool:
    """Equality to the bit of nested tensors and values."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@pytest.mark.parametrize("processes", [1, 2])
def test_the_rest_of_an_epoch_is_dealt_to_other_processes(processes: int) -> None:
    """With the position of a checkpoint of two processes and batches of 3, at which the third batch would begin."""
    before = EpochPosition()
    after = EpochPosition()
    after.load(before.state(6, {}))
    begun = after.start_at(4, 2, limit=31 // (2 * processes), global_batch=2 * processes, length=31)
    samplers = [
        TrainSampler(
            range(31),  # type: ignore[arg-type]  # has a length
            num_replicas=processes,
            rank=rank,
            seed=5,
            batch_size=2,
            samples_done=lambda: after.samples(4, begun, 2 * processes),
        )
        for rank in range(processes)
    ]
    positions = sorted(draw.position for sampler in samplers for draw in sampler)
    assert positions == list(range(12, {1: 30, 2: 28}[processes]))
    assert 31 // (2 * processes) - begun == len(positions) // (2 * processes)
