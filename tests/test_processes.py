"""An evaluation gives the same integers on any number of processes, and its steps never wait for each other."""

import warnings
from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.trainer.connectors.data_connector import _resolve_overfit_batches
from pytorch_lightning.trainer.states import RunningStage
from pytorch_lightning.utilities.combined_loader import CombinedLoader
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler

from lightning_seg.data.loading.loader import build_loader
from lightning_seg.data.loading.sampler import Draw, EvaluationSampler, OverfitSampler
from lightning_seg.inference.whole import label_maps
from lightning_seg.metrics import ConfusionMatrix, EachImage, ImageFigures
from lightning_seg.metrics.functional import confusion_matrix, worst_mean
from lightning_seg.metrics.images import encode_image
from lightning_seg.models.recipe import load_recipe
from lightning_seg.models.segmentor import Segmentor
from tests.conftest import TINY_OVERRIDES
from tests.models.samples import make_batch
from tests.processes import run_processes
from tests.training import make

pytestmark = pytest.mark.runs

CLASSES, IGNORE, SAMPLES = 5, 255, 7
SIZES = [(40 + 13 * (index % 4), 84 - 15 * (index % 4)) for index in range(SAMPLES)]
"""Some are equal, and go through a network together."""
BATCH_SIZES = (1, 2, 3, 8)

Samples = list[dict[str, Any]]


@cache
def samples() -> Samples:
    return [make_batch([size], CLASSES, seed)[0] for seed, size in enumerate(SIZES)]


@cache
def injected() -> list[Tensor]:
    generator = torch.Generator().manual_seed(9)
    return [torch.randint(0, CLASSES, size, generator=generator, dtype=torch.uint8) for size in SIZES]


@cache
def segmentor() -> Segmentor:
    torch.manual_seed(0)
    recipe = load_recipe("Misc/semantic_R_50_FPN_1x.yaml", TINY_OVERRIDES)
    return Segmentor(recipe, num_classes=CLASSES, ignore_index=IGNORE).eval()


def of_model(indices: Iterator[int], batch_size: int) -> Iterator[tuple[int, Tensor]]:
    """What a real model predicts of batches of images, whatever their sizes."""
    network = segmentor()
    with torch.no_grad():
        while batch := list(islice(indices, batch_size)):
            output = network.evaluate([samples()[index] for index in batch])
            sizes = [SIZES[index] for index in batch]
            yield from zip(batch, label_maps(output.scores, output.input_sizes, sizes), strict=True)


def figures(world_size: int, rank: int, group: Any, batch_size: int | None) -> tuple[Tensor, float, float]:
    """The matrix, the mean over images and that over the worst tenth, as rank ``rank`` of a group has them.

    With a batch size, of a real model; else of predictions that are given.
    """
    matrix, images = ConfusionMatrix(CLASSES), EachImage()
    matrix.process_group = images.process_group = group
    indices = iter(EvaluationSampler(samples(), num_replicas=world_size, rank=rank))  # type: ignore[arg-type]
    predictions = of_model(indices, batch_size) if batch_size else ((index, injected()[index]) for index in indices)
    codes = []
    for index, prediction in predictions:
        counts = confusion_matrix(prediction, samples()[index]["sem_seg"], CLASSES, IGNORE)
        matrix.update(counts)
        codes.append(encode_image(index, 0.0, counts))
    images.update(codes)
    each = ImageFigures.decode(images.compute(), CLASSES, "detectron2")
    assert each.positions.tolist() == list(range(SAMPLES))
    values = each.mean_iou
    return matrix.compute(), worst_mean(values, 1.0).item(), worst_mean(values, 0.3).item()


def _evaluate(rank: int, folder: Path) -> None:
    for world_size in (1, 2, 3, 8):
        group = dist.new_group(list(range(world_size)))
        if rank >= world_size:
            continue
        kinds = (None, *BATCH_SIZES) if world_size <= 3 else (None,)
        torch.save([figures(world_size, rank, group, kind) for kind in kinds], folder / f"{world_size}-{rank}.pt")


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")  # of a rank that has no sample
def test_the_same_integers_on_1_2_3_and_8_processes(tmp_path: Path) -> None:
    """And with any batch size: an image's evaluation depends on no other image."""
    run_processes(8, _evaluate, tmp_path)
    given, one_by_one = figures(1, 0, None, None), figures(1, 0, None, 1)
    expected = [given, *[one_by_one] * len(BATCH_SIZES)]
    assert given[0].sum() == sum((sample["sem_seg"] != IGNORE).sum() for sample in samples())
    assert (one_by_one[0].sum(0) > 0).sum() > 1  # more than one class is predicted
    found = sorted(tmp_path.glob("*.pt"))
    assert len(found) == 1 + 2 + 3 + 8
    for path in found:
        for (matrix, *means), (expected_matrix, *expected_means) in zip(torch.load(path), expected, strict=False):
            assert matrix.dtype == torch.int64
            assert torch.equal(matrix, expected_matrix), path.name
            assert means == expected_means, path.name


def test_a_validation_does_not_depend_on_its_batches() -> None:
    """Padding to a common size would change logits and losses; what is padded by itself stays as it is."""
    network = segmentor()
    with torch.no_grad():
        together = network.evaluate(samples())
        alone = [network.evaluate([sample]) for sample in samples()]
    for found, losses, output in zip(together.scores, together.losses, alone, strict=True):
        torch.testing.assert_close(losses, output.losses[0], rtol=1e-5, atol=0)
        expected = output.scores[0].logits
        torch.testing.assert_close(found.logits, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    assert together.input_sizes == SIZES


def resolved(sampler: Any, mode: RunningStage) -> Any:
    """What Lightning makes of a sampler under ``trainer.overfit_batches``."""
    combined = CombinedLoader(build_loader(samples(), sampler, batch_size=1, num_workers=0))  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _resolve_overfit_batches(combined, mode)
    return combined.flattened[0].sampler


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_overfitting_uses_each_image_once(processes: int) -> None:
    """Lightning replaces samplers that are not sequential by its own, which repeats images to fill all processes."""
    evaluated: list[int] = []
    trained: dict[int, list[Draw]] = {0: [], 1: []}
    for rank in range(processes):
        where = {"num_replicas": processes, "rank": rank}
        sampler = EvaluationSampler(samples(), **where)  # type: ignore[arg-type]
        evaluated += resolved(sampler, RunningStage.VALIDATING)
        of_training = OverfitSampler(samples(), seed=5, batch_size=1, **where)  # type: ignore[arg-type]
        assert isinstance(of_training, DistributedSampler)  # which Lightning leaves alone on several processes
        for epoch in trained:
            of_training.set_epoch(epoch)
            trained[epoch] += resolved(of_training, RunningStage.TRAINING)
    assert sorted(evaluated) == list(range(SAMPLES))
    assert sorted(trained[0]) == [Draw(index, 0, index) for index in range(SAMPLES // processes * processes)]
    assert trained[0] == trained[1]


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
    assert len(module.report.images) == SAMPLES
