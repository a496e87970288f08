"""An evaluation gives the same integers on any number of processes, and its steps never wait for each other."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_seg.data.sampler import EvaluationSampler
from lightning_seg.inference.whole import label_maps
from lightning_seg.metrics import ConfusionMatrix, ImageIoU
from lightning_seg.metrics.functional import confusion_matrix, worst_mean
from lightning_seg.models.recipe import load_recipe
from lightning_seg.models.segmentor import Segmentor
from tests.conftest import TINY_OVERRIDES
from tests.models.test_segmentor import make_batch
from tests.processes import run_processes
from tests.test_module import make

CLASSES, IGNORE, SAMPLES = 5, 255, 7
SIZES = [(40 + 3 * index, 64 - 5 * index) for index in range(SAMPLES)]

Samples = list[dict[str, Any]]


@cache
def samples() -> Samples:
    return [make_batch([size], CLASSES, seed)[0] for seed, size in enumerate(SIZES)]


@cache
def injected() -> list[Tensor]:
    generator = torch.Generator().manual_seed(9)
    return [torch.randint(0, CLASSES, size, generator=generator, dtype=torch.uint8) for size in SIZES]


def of_model(indices: Iterator[int]) -> Iterator[tuple[int, Tensor]]:
    """What a real model predicts, one image at a time."""
    torch.manual_seed(0)
    recipe = load_recipe("Misc/semantic_R_50_FPN_1x.yaml", TINY_OVERRIDES)
    segmentor = Segmentor(recipe, num_classes=CLASSES, ignore_index=IGNORE).eval()
    with torch.no_grad():
        for index in indices:
            output = segmentor.evaluate([samples()[index]])
            yield index, label_maps(output.logits, output.stride, output.input_sizes, [SIZES[index]])[0]


def figures(world_size: int, rank: int, group: Any, real_model: bool) -> tuple[Tensor, float, float]:
    """The matrix, the mean over images and that over the worst tenth, as rank ``rank`` of a group has them."""
    matrix, images = ConfusionMatrix(CLASSES), ImageIoU("detectron2")
    matrix.process_group = images.process_group = group
    indices = iter(EvaluationSampler(samples(), num_replicas=world_size, rank=rank))  # type: ignore[arg-type]
    predictions = of_model(indices) if real_model else ((index, injected()[index]) for index in indices)
    for index, prediction in predictions:
        counts = confusion_matrix(prediction, samples()[index]["sem_seg"], CLASSES, IGNORE)
        matrix.update(counts)
        images.update(counts)
    values = images.compute()
    assert len(values) == SAMPLES
    return matrix.compute(), worst_mean(values, 1.0).item(), worst_mean(values, 0.3).item()


def _evaluate(rank: int, folder: Path) -> None:
    for world_size in (1, 2, 3, 8):
        group = dist.new_group(list(range(world_size)))
        if rank >= world_size:
            continue
        kinds = (False, True) if world_size <= 3 else (False,)
        torch.save([figures(world_size, rank, group, kind) for kind in kinds], folder / f"{world_size}-{rank}.pt")


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")  # of a rank that has no sample
def test_the_same_integers_on_1_2_3_and_8_processes(tmp_path: Path) -> None:
    run_processes(8, _evaluate, tmp_path)
    expected = [figures(1, 0, None, kind) for kind in (False, True)]
    assert expected[0][0].sum() == sum((sample["sem_seg"] != IGNORE).sum() for sample in samples())
    found = sorted(tmp_path.glob("*.pt"))
    assert len(found) == 1 + 2 + 3 + 8
    for path in found:
        for (matrix, *means), (expected_matrix, *expected_means) in zip(torch.load(path), expected, strict=False):
            assert matrix.dtype == torch.int64
            assert torch.equal(matrix, expected_matrix), path.name
            assert means == expected_means, path.name


class _Collectives(pl.Callback):
    """Counts collective calls within and outside the steps of a validation."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.within, self.outside, self.in_step = 0, 0, False
        for name in ("all_reduce", "all_gather", "all_gather_into_tensor", "all_gather_object", "broadcast", "barrier"):
            monkeypatch.setattr(dist, name, self._counting(getattr(dist, name)))

    def _counting(self, function: Any) -> Any:
        def counted(*arguments: Any, **settings: Any) -> Any:
            self.within += self.in_step
            self.outside += not self.in_step
            return function(*arguments, **settings)

        return counted

    def on_validation_batch_start(self, *_: Any) -> None:
        self.in_step = True

    def on_validation_batch_end(self, *_: Any) -> None:
        self.in_step = False


def test_no_collective_call_per_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = _Collectives(monkeypatch)
    module = make()
    module._has_weights = True
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, strategy="ddp", logger=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path, callbacks=[calls], use_distributed_sampler=False,
    )  # fmt: skip
    batches = [[{**sample, "truth": sample["sem_seg"]}] for sample in samples()]
    try:
        trainer.validate(module, DataLoader(batches, batch_size=None), verbose=False)  # type: ignore[arg-type]
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
    assert calls.within == 0
    assert calls.outside > 0
    assert module.report is not None
    assert len(module.report.image_iou) == SAMPLES
