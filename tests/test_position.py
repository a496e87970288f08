"""A run that ended inside an epoch, or goes on with other batches, sees each sample once an epoch."""

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Timer

from lightning_seg.callbacks import FinalValidation, LastCheckpoint, Position
from lightning_seg.data import Folder, SegmentationDataModule, Synthetic
from lightning_seg.data.dataset import SegmentationDataset
from lightning_seg.data.loading.position import EpochPosition, digest_of_names
from lightning_seg.data.loading.sampler import TrainSampler
from lightning_seg.structures import Sample
from tests.conftest import CLASSES

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


class OneWeight(pl.LightningModule):
    """Learns the mean of all images; its weight says in which steps it saw which samples."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch: Any, _: int) -> torch.Tensor:
        return torch.stack([(sample["image"].float().mean() / 255 - self.weight) ** 2 for sample in batch]).mean()

    def validation_step(self, batch: Any, _: int) -> None:
        pass

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), 0.1, momentum=0.9)
        return [optimizer], [{"scheduler": torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9), "interval": "step"}]


@pytest.fixture
def fit(data: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Runs or goes on with a training of two epochs, and returns ``last.ckpt``."""

    def run(size: int = 2, name: str = "run", locality: int | None = None, **settings: Any) -> dict[str, Any]:
        readers = {part: Folder(f"{part}/images", f"{part}/masks") for part in ("train", "val")}
        module = SegmentationDataModule(
            CLASSES, **readers, root=str(data), batch_size=size, num_workers=0, seed=3, locality=locality
        )
        last = tmp_path / name / "checkpoints/last.ckpt"
        trainer = pl.Trainer(
            accelerator="cpu", devices=1, default_root_dir=tmp_path / name, logger=False,
            enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
            callbacks=[Position(), FinalValidation(), LastCheckpoint()], **{"max_epochs": 2, **settings},
        )  # fmt: skip
        trainer.fit(OneWeight(), module, ckpt_path=last if last.exists() else None, weights_only=True)
        checkpoint: dict[str, Any] = torch.load(last, weights_only=True)
        return checkpoint

    return run


def steps(number: int, size: int = 2, **more: Any) -> dict[str, Any]:
    return {"max_steps": number, "size": size, **more}


NO_VAL = {"limit_val_batches": 0}


@pytest.mark.parametrize(
    ("starts", "positions", "num_steps"),
    [
        pytest.param([steps(3), {}], [14, 14], 14, id="max_steps inside an epoch"),
        pytest.param([steps(3, **NO_VAL), NO_VAL], [14, 14], 14, id="without a validation"),
        pytest.param([steps(3, max_epochs=-1), steps(12, max_epochs=-1)], [14, 10], 12, id="more max_steps"),
        pytest.param([steps(7, **NO_VAL), steps(10, **NO_VAL)], [14, 6], 10, id="max_steps at an epoch's end"),
        pytest.param([steps(3), {"size": 3}], [15, 15], 3 + 3 + 5, id="larger batches"),
        pytest.param([steps(2, 3), {}], [14, 14], 2 + 4 + 7, id="smaller batches"),
        pytest.param([steps(5, 1), {"size": 4}], [13, 12], 5 + 2 + 3, id="a place between two batches"),
        pytest.param([steps(5, 1), steps(6, 4), {}], [15, 14], 5 + 1 + 3 + 7, id="twice in one epoch"),
        pytest.param([steps(13, 1), {"size": 4}], [13, 12], 13 + 0 + 3, id="no whole batch is left"),
        pytest.param([steps(2, accumulate_grad_batches=2), {"size": 4}], [12, 12], 2 + 1 + 3, id="no accumulation"),
        pytest.param([steps(2, 4), {"accumulate_grad_batches": 2}], [14, 14], 2 + 2 + 4, id="accumulation"),
        pytest.param([steps(2), {"accumulate_grad_batches": 4}], [14, 14], 2 + 2 + 2, id="a step that begins inside"),
        pytest.param(
            [steps(3, limit_train_batches=4), {"limit_train_batches": 6}], [12, 12], 12, id="limit_train_batches"
        ),
        pytest.param([steps(3, val_check_interval=3), {"val_check_interval": 2}], [14, 14], 14, id="validations"),
        pytest.param(
            [steps(4, 3, max_epochs=-1), steps(9, max_epochs=-1)], [14, 8], 9, id="more max_steps and smaller batches"
        ),
    ],
)
def test_each_sample_is_seen_once_an_epoch(
    fit: Callable[..., dict[str, Any]],
    seen: list[tuple[int, int, int]],
    starts: list[dict[str, Any]],
    positions: list[int],
    num_steps: int,
) -> None:
    for settings in starts:
        last = fit(**settings)
    check(seen, positions)
    assert last["global_step"] == num_steps


def test_blocks_of_neighbours_go_on_to_the_bit(
    fit: Callable[..., dict[str, Any]], seen: list[tuple[int, int, int]]
) -> None:
    fit(**steps(3), locality=4)
    last = fit(locality=4)
    check(seen, [14, 14])
    assert [sample // 4 for _, _, sample in seen[:14]] != [sample // 4 for _, _, sample in seen[14:]]
    alone = fit(locality=4, name="alone")
    assert all(same(last[part], alone[part]) for part in ("state_dict", "optimizer_states", "lr_schedulers"))


def test_other_blocks_are_another_order() -> None:
    """Checkpoints without the setting were written with all samples shuffled."""
    order = {"seed": 1, "data.sampler": "shuffle"}
    for stored, here, changed in (({}, 1, False), ({}, 4, True), ({"data.locality": 4}, 4, False)):
        position = EpochPosition()
        position.load({"order": {**order, **stored}})
        problems = position.problems({**order, "data.locality": here}, inside=True)
        assert ["depends on data.locality, but" in problem for problem in problems] == [True] * changed
    assert EpochPosition().changes({**order, "data.locality": 4}) == []


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
    settings = {"accumulate_grad_batches": 2, "max_time": "00:01:00:00"}
    fit(**settings)
    assert len(seen) == {2: 4, 3: 8, 9: 18}[batches]
    limit["samples"] = math.inf
    last = fit(**settings)
    check(seen, [14, 14])
    alone = fit(**settings, name="alone")
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


def test_names_of_samples_have_the_digest_that_earlier_checkpoints_hold() -> None:
    samples = [Sample(name, Path(f"{name}.jpg")) for name in ("a", "b/c")]
    assert digest_of_names(samples) == hashlib.sha256(b"a\nb/c").hexdigest()


def test_another_seed_inside_an_epoch_is_one_problem() -> None:
    position = EpochPosition()
    position.load(EpochPosition().state(4, {"seed": 1, "data.sampler": "shuffle"}))
    (problem,) = position.problems({"seed": 2, "data.sampler": "shuffle"}, inside=True)
    assert problem.startswith("the checkpoint's run has the seed 1, here it is 2")
    both = position.problems({"seed": 2, "data.sampler": "rare_class"}, inside=True)
    assert len(both) == 2
    assert "depends on data.sampler, but" in both[1]


def test_an_epoch_that_is_done_has_no_batch_left() -> None:
    """Also of one sample a batch."""
    position = EpochPosition()
    position.load(EpochPosition().state(1, {}))
    assert position.batches_begun(0, 9, limit=9, global_batch=1, length=9) == 9
    assert position.batches_begun(0, 8, limit=9, global_batch=1, length=9) == 8
