"""The losses of a head that classifies masks: each mask of the truth is given to the query that fits it best.

They are Mask2Former's (Cheng et al. 2022, https://arxiv.org/abs/2112.01527), at points that are drawn where a mask is
least certain. Unlike there, ignored pixels are no background: points on them count in no cost and in no loss. Masks of
the truth are never made: a label is read off the label map at a point.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn import functional as F

from lightning_seg.errors import ConfigError
from lightning_seg.models.heads.mask_points import Neighbours, at_points, present

if TYPE_CHECKING:
    from detectron2.config import CfgNode

_UNMATCHED = -100
"""Target of queries of images without any pixel that counts; torch leaves it out of a cross-entropy."""


class MaskPrediction(NamedTuple):
    """What queries say.

    Attributes:
        classes: (N, Q, K + 1) logits; the last stands for no class.
        masks: (N, Q, h, w) logits.
    """

    classes: Tensor
    masks: Tensor


@dataclass(frozen=True)
class MaskLosses:
    """Settings, under the names of ``MODEL.MASK_FORMER``; a call computes the losses of predictions.

    Attributes:
        num_classes: K.
        ignore_value: class id of pixels that do not count.
        class_weight: factor of the cross-entropy of classes, in losses and in the costs of a match.
        mask_weight: likewise, of the binary cross-entropy of masks.
        dice_weight: likewise, of their Dice loss.
        no_object_weight: of queries without a mask, in the cross-entropy of classes.
        num_points: at which a mask is compared.
        oversample_ratio: points among which the uncertain ones are sought, as a multiple of ``num_points``.
        importance_sample_ratio: share of points that are uncertain ones, not random ones.
        loss_weight: factor of all losses.

    Raises:
        ConfigError: if a setting is out of range.
    """

    num_classes: int
    ignore_value: int
    class_weight: float = 2.0
    mask_weight: float = 5.0
    dice_weight: float = 5.0
    no_object_weight: float = 0.1
    num_points: int = 12544
    oversample_ratio: float = 3.0
    importance_sample_ratio: float = 0.75
    loss_weight: float = 1.0

    def __post_init__(self) -> None:
        _require("TRAIN_NUM_POINTS", self.num_points, self.num_points >= 1, "at least 1")
        _require("OVERSAMPLE_RATIO", self.oversample_ratio, self.oversample_ratio >= 1, "at least 1")
        share = self.importance_sample_ratio
        _require("IMPORTANCE_SAMPLE_RATIO", share, 0 <= share <= 1, "from 0 to 1")
        _require("NO_OBJECT_WEIGHT", self.no_object_weight, self.no_object_weight >= 0, "at least 0")
        weights = {"CLASS": self.class_weight, "MASK": self.mask_weight, "DICE": self.dice_weight}
        for name, weight in weights.items():
            _require(f"{name}_WEIGHT", weight, weight >= 0, "at least 0")
        if not any(weights.values()):
            raise ConfigError("MODEL.MASK_FORMER.CLASS_WEIGHT, MASK_WEIGHT and DICE_WEIGHT are 0: set one above 0")

    def __call__(self, predictions: Sequence[MaskPrediction], targets: Tensor) -> dict[str, Tensor]:
        """The weighted losses of training, ``loss_ce``, ``loss_mask`` and ``loss_dice``; zero if no pixel counts.

        Args:
            predictions: of all layers that are trained; those of the i-th but the last are named ``loss_ce_<i>`` ….
            targets: (N, H, W) int64 class ids.
        """
        classes = [present(target, self.ignore_value) for target in targets]
        num_masks = _over_processes(targets.new_tensor(sum(map(len, classes)), dtype=torch.float32))
        *others, last = predictions
        losses: dict[str, Tensor] = {}
        for suffix, prediction in [("", last), *((f"_{place}", other) for place, other in enumerate(others))]:
            found = self._of_layer(prediction, targets, classes, num_masks, lattice=None)
            losses.update({f"{name}{suffix}": loss for name, loss in found.items()})
        return losses

    def at_lattice(self, prediction: MaskPrediction, targets: Tensor) -> dict[str, Tensor]:
        """The weighted losses at a regular lattice of about ``num_points`` points: they leave nothing to chance."""
        classes = [present(target, self.ignore_value) for target in targets]
        num_masks = targets.new_tensor(sum(map(len, classes)), dtype=torch.float32).clamp(min=1)
        height, width = targets.shape[-2:]
        rows = max(1, min(self.num_points, round((self.num_points * height / width) ** 0.5)))
        sides = [(torch.arange(n, device=targets.device) + 0.5) / n for n in (rows, max(1, self.num_points // rows))]
        y, x = torch.meshgrid(*sides, indexing="ij")
        return self._of_layer(prediction, targets, classes, num_masks, torch.stack([x.flatten(), y.flatten()], -1))

    def _of_layer(
        self,
        prediction: MaskPrediction,
        targets: Tensor,
        classes: Sequence[Tensor],
        num_masks: Tensor,
        lattice: Tensor | None,
    ) -> dict[str, Tensor]:
        prediction = MaskPrediction(prediction.classes.float(), prediction.masks.float())
        with torch.autocast("cpu" if targets.is_meta else targets.device.type, enabled=False):
            return self._in_float32(prediction, targets, classes, num_masks, lattice)

    def _in_float32(
        self,
        prediction: MaskPrediction,
        targets: Tensor,
        classes: Sequence[Tensor],
        num_masks: Tensor,
        lattice: Tensor | None,
    ) -> dict[str, Tensor]:
        matches = self._match(prediction, targets, classes, lattice)
        device = targets.device
        counts = [len(queries) for queries, _ in matches]
        images = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)).to(device)
        queries = torch.cat([of_image for of_image, _ in matches]).to(device)
        labels = torch.cat([ids[chosen.to(device)] for ids, (_, chosen) in zip(classes, matches, strict=True)])
        masks = prediction.masks[images, queries]
        losses = {
            "loss_ce": self.class_weight * self._of_classes(prediction.classes, images, queries, labels, classes),
            **self._of_masks(masks, targets, images, labels, num_masks, lattice),
        }
        return {name: self.loss_weight * loss for name, loss in losses.items()}

    def _of_classes(
        self, logits: Tensor, images: Tensor, queries: Tensor, labels: Tensor, classes: Sequence[Tensor]
    ) -> Tensor:
        """Mean over queries, weighted; an image without any pixel that counts says nothing of its queries."""
        if not any(len(ids) for ids in classes):
            return logits.sum() * 0
        empty = [self.num_classes if len(ids) else _UNMATCHED for ids in classes]
        wanted = torch.tensor(empty, device=logits.device)[:, None].repeat(1, logits.shape[1])
        wanted[images, queries] = labels
        weights = logits.new_ones(self.num_classes + 1)
        weights[-1] = self.no_object_weight
        return F.cross_entropy(logits.transpose(1, 2), wanted, weight=weights, ignore_index=_UNMATCHED)

    def _of_masks(
        self,
        masks: Tensor,
        targets: Tensor,
        images: Tensor,
        labels: Tensor,
        num_masks: Tensor,
        lattice: Tensor | None,
    ) -> dict[str, Tensor]:
        """Of matched masks (R, h, w), the class of each, and the image that each is of."""
        with torch.no_grad():
            points = self._points(masks, targets, images) if lattice is None else lattice.expand(len(masks), -1, -1)
            neighbours = Neighbours.of(targets, images, points)
            truth, counts = neighbours.labels(labels[:, None], self.ignore_value)
        logits = at_points(masks[:, None], points)[:, 0]
        entropies = F.binary_cross_entropy_with_logits(logits, truth, reduction="none") * counts
        entropy = (entropies.sum(1) / counts.sum(1).clamp(min=1)).sum()
        shares = logits.sigmoid() * counts
        dice = 1 - (2 * (shares * truth).sum(1) + 1) / (shares.sum(1) + truth.sum(1) + 1)
        return {
            "loss_mask": self.mask_weight * (entropy / num_masks),
            "loss_dice": self.dice_weight * (dice.sum() / num_masks),
        }

    def _points(self, masks: Tensor, targets: Tensor, images: Tensor) -> Tensor:
        """Points (R, P, 2) in [0, 1]: the least certain of many that count, and random ones."""
        many, uncertain = (
            int(self.num_points * self.oversample_ratio),
            int(self.importance_sample_ratio * self.num_points),
        )
        drawn = torch.rand(len(masks), many, 2, device=masks.device)
        certainty = at_points(masks[:, None], drawn)[:, 0].abs()
        certainty = certainty.where(Neighbours.of(targets, images, drawn).counted(self.ignore_value), torch.inf)
        chosen = certainty.neg().topk(uncertain, dim=1).indices
        rest = torch.rand(len(masks), self.num_points - uncertain, 2, device=masks.device)
        return torch.cat([drawn.gather(1, chosen[..., None].expand(-1, -1, 2)), rest], 1)

    @torch.no_grad()
    def _match(
        self, prediction: MaskPrediction, targets: Tensor, classes: Sequence[Tensor], lattice: Tensor | None
    ) -> list[tuple[Tensor, Tensor]]:
        """For each image, the queries that masks of the truth are given to, and the places of these in its classes.

        Costs of all images are computed together, so that a GPU is waited for once a layer, not once an image.
        """
        from scipy.optimize import linear_sum_assignment

        masks, num_images = prediction.masks, len(targets)
        if masks.is_meta:  # a trial of shapes, without numbers to compare
            return [(torch.zeros(len(ids), dtype=torch.long),) * 2 for ids in classes]
        drawn = [
            torch.rand(1, self.num_points, 2, device=masks.device) if lattice is None else lattice[None]
            for _ in range(num_images)
        ]
        points = torch.cat(drawn)
        neighbours = Neighbours.of(targets, torch.arange(num_images, device=targets.device), points)
        ids = nn.utils.rnn.pad_sequence(list(classes), batch_first=True)  # what is padded is cut off below
        truth, counts = neighbours.of_each_class(ids, self.ignore_value)
        cost = -self.class_weight * prediction.classes.softmax(-1).gather(
            2, ids[:, None].expand(-1, masks.shape[1], -1)
        )
        cost += self._costs_of_masks(at_points(masks, points), truth, counts)
        most = torch.finfo(cost.dtype).max
        costs = cost.nan_to_num(most, most, most).cpu()
        return [
            (torch.as_tensor(queries), torch.as_tensor(places))
            for of_image, ids_of_image in zip(costs, classes, strict=True)
            for queries, places in [linear_sum_assignment(of_image[:, : len(ids_of_image)])]
        ]

    def _costs_of_masks(self, logits: Tensor, truth: Tensor, counts: Tensor) -> Tensor:
        """Of each query with each mask, (N, Q, M), at the points that count; 0 of images without one.

        Args:
            logits: of masks at points, (N, Q, P).
            truth: labels there, (N, M, P) in [0, 1], 0 where a point does not count.
            counts: 1 or 0 of each point, (N, P).
        """
        counts, others = counts[:, None], truth.transpose(1, 2)
        number = counts.sum(-1, keepdim=True)
        inside, outside = F.softplus(-logits) * counts, F.softplus(logits) * counts
        entropy = ((inside - outside) @ others + outside.sum(-1, keepdim=True)) / number.clamp(min=1)
        shares = logits.sigmoid() * counts
        dice = 1 - (2 * (shares @ others) + 1) / (shares.sum(-1, keepdim=True) + truth.sum(-1)[:, None] + 1)
        return (self.mask_weight * entropy + self.dice_weight * dice) * (number > 0)


def losses_of_config(cfg: "CfgNode") -> MaskLosses:
    """The losses that ``cfg.MODEL.MASK_FORMER`` and ``cfg.MODEL.SEM_SEG_HEAD`` describe."""
    head, masks = cfg.MODEL.SEM_SEG_HEAD, cfg.MODEL.MASK_FORMER
    return MaskLosses(
        num_classes=head.NUM_CLASSES,
        ignore_value=head.IGNORE_VALUE,
        class_weight=masks.CLASS_WEIGHT,
        mask_weight=masks.MASK_WEIGHT,
        dice_weight=masks.DICE_WEIGHT,
        no_object_weight=masks.NO_OBJECT_WEIGHT,
        num_points=masks.TRAIN_NUM_POINTS,
        oversample_ratio=masks.OVERSAMPLE_RATIO,
        importance_sample_ratio=masks.IMPORTANCE_SAMPLE_RATIO,
        loss_weight=head.LOSS_WEIGHT,
    )


def semantic_scores(prediction: MaskPrediction, stride: int) -> Tensor:
    """The scores (N, K, h · stride, w · stride) of a prediction, with all masks at that size in memory."""
    full = F.interpolate(prediction.masks, scale_factor=stride, mode="bilinear", align_corners=False)
    return torch.einsum("nqk,nqhw->nkhw", prediction.classes.softmax(-1)[..., :-1], full.sigmoid())


def _over_processes(num_masks: Tensor) -> Tensor:
    """The mean over processes, at least 1, as published: so a mask weighs the same wherever it is."""
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1 and not num_masks.is_meta:
        dist.all_reduce(num_masks)
        num_masks = num_masks / dist.get_world_size()
    return num_masks.clamp(min=1)


def _require(key: str, value: float, holds: bool, expected: str) -> None:
    if not holds:
        raise ConfigError(f"MODEL.MASK_FORMER.{key} is {value}, but must be {expected}")
