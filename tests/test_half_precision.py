"""What is summed up in a run whose weights are of half precision has the digits of float32 at least."""

import math
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_seg.callbacks import EMA
from lightning_seg.callbacks.vitals import Vitals
from lightning_seg.errors import ConfigError
from lightning_seg.metrics import EachImage, Evaluation, ImageFigures
from lightning_seg.metrics.images import encode_image
from tests.conftest import MODELS
from tests.models.samples import make_batch
from tests.training import fit, make

HALF = ["bf16-true", "16-true"]


def evaluation_batch(seed: int) -> list[dict[str, Any]]:
    batch = make_batch([(32, 32)], seed=seed)
    return [{**sample, "truth": sample["sem_seg"], "height": 32, "width": 32} for sample in batch]


@pytest.mark.parametrize(("name", "precision"), [("SemSegFPN", "16-true"), ("DeepLabV3Plus", "bf16-true")])
def test_the_loss_of_a_validation_is_the_mean_of_its_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, precision: Any
) -> None:
    losses: list[float] = []
    update = Evaluation.update

    def spy(self: Evaluation, prediction: Tensor, truth: Tensor, position: int, loss: Tensor, *others: Any) -> None:
        losses.append(loss.item())
        update(self, prediction, truth, position, loss, *others)

    monkeypatch.setattr(Evaluation, "update", spy)
    module = make(MODELS[name])
    predictor = module.segmentor.network.sem_seg_head.predictor
    predictor.weight.data.zero_()
    predictor.bias.data = torch.tensor([20000.0, 0, 0, 0, 0])  # the loss of every pixel of another class
    module._has_weights = True
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, logger=False, enable_progress_bar=False, precision=precision,
        default_root_dir=tmp_path,
    )  # fmt: skip
    batches: Any = [evaluation_batch(seed) for seed in range(6)]
    trainer.validate(module, DataLoader(batches, batch_size=None), verbose=False)
    assert sum(losses) > torch.finfo(torch.float16).max
    assert len({loss for loss in losses if 15000 < loss < 17000}) == 6
    assert trainer.callback_metrics["val/loss"].item() == pytest.approx(math.fsum(losses) / 6, rel=1e-9)
    assert next(module.segmentor.parameters()).dtype != torch.float32


def test_what_is_kept_of_images_stays_exact_whatever_the_module_is_converted_to() -> None:
    metric = EachImage().to(torch.bfloat16)
    metric.update([])
    assert ImageFigures.decode(metric.compute(), 2, "detectron2").mean_loss == 0
    values, counts = [770.25, 0.1, 3e5], torch.tensor([[2**40 + 1, 0], [3, 0]])
    metric.update([encode_image(place, value, counts) for place, value in enumerate(values)])
    images = ImageFigures.decode(metric.half().compute(), 2, "detectron2")
    assert images.losses.tolist() == values
    assert images.mean_loss == sum(values) / 3
    assert torch.equal(images.matrix(2), counts)
    metric.reset()
    metric.update([])
    assert len(metric.compute()) == 0


def test_the_norm_of_gradients_beyond_half_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: dict[str, Tensor] = {}
    module = make()
    monkeypatch.setattr(module, "log", lambda name, value, **_: logged.update({name: value}))
    vitals = Vitals()
    trainer = pl.Trainer(accelerator="cpu", logger=False, log_every_n_steps=1, enable_checkpointing=False)
    parameter = torch.nn.Parameter(torch.zeros(100, dtype=torch.float16))
    parameter.grad = torch.full((100,), 3e4, dtype=torch.float16)
    vitals.on_before_optimizer_step(trainer, module, torch.optim.SGD([parameter], lr=1.0))
    assert logged["train/grad_norm"].item() == pytest.approx(3e5, rel=1e-3)


@pytest.mark.parametrize("precision", HALF)
def test_averaged_weights_need_more_digits(tmp_path: Path, precision: Any) -> None:
    with pytest.raises(ConfigError, match=f"precision {precision} .* choose {precision.replace('true', 'mixed')}"):
        fit(make(), [make_batch([(32, 32), (32, 32)])], tmp_path, callbacks=[EMA()], precision=precision)
