"""Other libraries, as their own examples have it; nothing of this project is imported."""

import tempfile
import time
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from sections.loop import Batch, Clock, quiet
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from sides.counting import CLASSES, DECAY, IGNORE, LEARNING_RATE, MOMENTUM, facts, images_per_second
from sides.pairs import Pair

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def unet() -> nn.Module:
    import segmentation_models_pytorch as smp

    return smp.Unet("resnet34", encoder_weights=None, classes=CLASSES)


def fpn() -> nn.Module:
    import segmentation_models_pytorch as smp

    return smp.FPN("resnet50", encoder_weights=None, classes=CLASSES)


def deeplab() -> nn.Module:
    from torchvision.models.segmentation import deeplabv3_resnet50

    return deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=CLASSES, aux_loss=False)


def segformer() -> nn.Module:
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    return SegformerForSemanticSegmentation(SegformerConfig(num_labels=CLASSES, semantic_loss_ignore_index=IGNORE))


BUILDERS: dict[str, Callable[[], nn.Module]] = {"unet": unet, "fpn": fpn, "deeplab": deeplab, "segformer": segformer}
"""Each with random weights, by the key of its pair."""


def build(pair: Pair) -> nn.Module:
    return BUILDERS[pair.key]()


def full_logits(model: nn.Module, pixels: Tensor) -> Tensor:
    """Logits (N, K, H, W) at the size of the images, which transformers' models leave to their user."""
    found = model(pixels)
    logits: Tensor = found if isinstance(found, Tensor) else found["out"] if "out" in found else found["logits"]
    if logits.shape[-2:] != pixels.shape[-2:]:
        logits = F.interpolate(logits, pixels.shape[-2:], mode="bilinear", align_corners=False)
    return logits


def normalised(images: Tensor) -> Tensor:
    """(N, 3, H, W) uint8 as the networks want them."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    return (images / 255 - mean) / std


def tensors(batch: Batch) -> tuple[Tensor, Tensor]:
    """Normalised pixels (N, 3, H, W) and class ids (N, H, W)."""
    pixels = normalised(torch.stack([sample["image"] for sample in batch]))
    return pixels, torch.stack([sample["sem_seg"] for sample in batch]).long()


class Module(pl.LightningModule):
    """A plain one: forward, cross-entropy, SGD."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def loss(self, pixels: Tensor, truth: Tensor) -> Tensor:
        return F.cross_entropy(full_logits(self.model, pixels), truth, ignore_index=IGNORE)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        loss = self.loss(*batch)
        self.log("train/loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return sgd(self.model)


def sgd(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), LEARNING_RATE, MOMENTUM, weight_decay=DECAY)


def label_map(model: nn.Module, image: Tensor) -> Tensor:
    """(H, W) class ids of an image (3, H, W) uint8."""
    with torch.inference_mode():
        return full_logits(model, normalised(image[None]))[0].argmax(0)


def check(pair: Pair, batch: Batch) -> dict[str, Any]:
    """Parameters, FLOPs, shapes and loss."""
    model = build(pair).eval()
    pixels, truth = tensors(batch)
    labels = label_map(model, batch[0]["image"])
    with torch.no_grad():
        loss = model(pixels, labels=truth).loss if pair.by_trainer else Module(model).loss(pixels, truth)
    return facts(model, lambda: full_logits(model, pixels), pair.beside_peer, labels, loss, truth)


def train(pair: Pair, batch: Batch, steps: int, warm_up: int) -> float:
    """Images per second of training steps, by Lightning's Trainer or by transformers'."""
    model = build(pair)
    loop = by_transformers if pair.by_trainer else by_lightning
    with tempfile.TemporaryDirectory() as folder, quiet():
        return steps * len(batch) / loop(model, batch, steps, warm_up, folder)


def by_lightning(model: nn.Module, batch: Batch, steps: int, warm_up: int, folder: str) -> float:
    """Seconds of all steps after the warm-up."""
    clock = Clock("cpu", warm_up)
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, max_steps=warm_up + steps, logger=CSVLogger(folder), callbacks=[clock],
        default_root_dir=folder, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Module(model), DataLoader([tensors(batch)] * (warm_up + steps), batch_size=None))
    return clock.seconds


def by_transformers(model: nn.Module, batch: Batch, steps: int, warm_up: int, folder: str) -> float:
    """The same by transformers' Trainer, which gets the same optimiser."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    times: list[float] = []

    class Times(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            times.append(time.perf_counter())

    pixels, truth = tensors(batch)
    samples = [{"pixel_values": image, "labels": labels} for image, labels in zip(pixels, truth, strict=True)]
    samples *= warm_up + steps  # one epoch
    optimiser = sgd(model)
    constant = torch.optim.lr_scheduler.ConstantLR(optimiser, factor=1.0)
    settings = TrainingArguments(
        output_dir=folder, max_steps=warm_up + steps, per_device_train_batch_size=len(batch), use_cpu=True,
        max_grad_norm=0.0, report_to=[], save_strategy="no", dataloader_pin_memory=False,
    )  # fmt: skip
    trainer = Trainer(model, settings, train_dataset=samples, optimizers=(optimiser, constant), callbacks=[Times()])
    trainer.train()
    return times[-1] - times[warm_up - 1]


def infer(pair: Pair, batch: Batch, steps: int, warm_up: int) -> float:
    """Images per second, one at a time, from pixels to class ids."""
    model = build(pair).eval()
    images = [sample["image"] for sample in batch]
    return images_per_second(lambda: [label_map(model, image).numpy() for image in images], len(images), warm_up, steps)
