"""Trains and evaluates heads that classify masks: they find and weigh their losses themselves."""

from typing import Any

import torch
from torch import Tensor

from lightning_seg.errors import ConfigError
from lightning_seg.models.adapters.adapter import Adapter, Features, Found, Losses, LossFunction, Size
from lightning_seg.models.heads.mask_losses import MaskPrediction, semantic_scores
from lightning_seg.structures import MaskScores


class MaskClassification(Adapter):
    """``Mask2FormerHead``."""

    def refuse(self, *, criterion: Any, auxiliary_stage: str | None) -> None:
        name = type(self.head).__name__
        if criterion is not None:
            raise ConfigError(
                f"model.criterion is {type(criterion).__name__}, also with low_memory, but {name} has no logits of "
                "pixels to give it: it matches masks to queries and computes its own losses. Leave it out; their "
                "weights are CLASS_WEIGHT, MASK_WEIGHT and DICE_WEIGHT of MODEL.MASK_FORMER"
            )
        if auxiliary_stage is not None:
            raise ConfigError(
                f"model.auxiliary_stage is {auxiliary_stage}, but {name} already trains what each of its layers says: "
                "leave it out"
            )

    def training_losses(self, features: Features, targets: Tensor, criterion: LossFunction | None) -> Losses:
        losses: Losses = self.head.criterion(self.head.predictions(features), targets)
        return losses

    def evaluate(self, features: Features, input_size: Size) -> list[Found]:
        (prediction,) = self.head.predictions(features)
        probabilities = prediction.classes.softmax(-1)[..., :-1]
        return [
            Found(MaskScores(of_image, masks, self.stride), MaskPrediction(classes[None], masks[None]))
            for of_image, masks, classes in zip(probabilities, prediction.masks, prediction.classes, strict=True)
        ]

    def evaluation_losses(self, found: Found, targets: Tensor, criterion: LossFunction | None) -> Losses:
        losses: Losses = self.head.criterion.at_lattice(found.of_loss, targets)
        return losses

    def full_scores(self, features: Features, input_size: Size) -> Tensor:
        (prediction,) = self.head.predictions(features)
        return semantic_scores(MaskPrediction(prediction.classes.float(), prediction.masks.float()), self.stride)

    def as_probabilities(self, full: Tensor) -> Tensor:
        full = full + torch.finfo(full.dtype).tiny  # all alike where their sum is 0
        return full / full.sum(1, keepdim=True)


class EoMTMasks(MaskClassification):
    """EoMT's head, which anneals over the run."""

    def at_step(self, step: int, total_steps: float) -> None:
        self.head.step, self.head.total_steps = step, total_steps
