"""Wraps Detectron2's segmentor: it takes batches of images as stored, and returns losses or scores."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_seg.errors import FOREIGN, ConfigError, describe
from lightning_seg.models.adapters import Found, adapt, pad_targets
from lightning_seg.models.auxiliary import AuxiliaryHead
from lightning_seg.models.batches import (
    as_computed,
    normalise,
    refuse_misshapen,
    refuse_other_input,
    refuse_unusable_pixels,
    stack,
)
from lightning_seg.models.padding import Padding
from lightning_seg.models.pooling import pool_any_size
from lightning_seg.models.recipe import Recipe
from lightning_seg.models.recompute import recompute_blocks
from lightning_seg.models.weights.keys import ConfigKeys
from lightning_seg.structures import Batch, Item, Scores, summarise

LossOfLogits = Callable[[Tensor, Tensor, int], dict[str, Tensor]]

_PROBE_SIZE = (129, 193)
"""Height and width of the input that a new network is tried on; one more than sizes that all strides divide."""


@dataclass(frozen=True)
class Evaluation:
    """Scores and losses of each image of a batch, in evaluation.

    Attributes:
        scores: of each image.
        input_sizes: (height, width) of each image as given, without padding.
        losses: the head's main losses of each image, scalars by name; empty if the batch has no ``sem_seg``.
    """

    scores: list[Scores]
    input_sizes: list[tuple[int, int]]
    losses: list[dict[str, Tensor]]


class Segmentor(nn.Module):
    """A ``SemanticSegmentor`` that Detectron2 builds from a config, on the CPU.

    Batches are lists of samples in Detectron2's dict format with images as stored: RGB, or bands of uint8, uint16,
    int16 or float32, as many as the config's pixel mean has values. The network gets them with the config's pixel mean
    and std and its size divisibility, and RGB in its input format.

    Args:
        recipe: builds the network, see :func:`lightning_seg.models.recipe.load_recipe`.
        num_classes: of the data.
        ignore_index: of the data.
        criterion: replaces the head's main loss and its ``LOSS_WEIGHT``. It takes logits (N, K, h, w) at 1/stride,
            targets (N, H, W) int64 and the ignore index, and returns named scalars.
        auxiliary_stage: the backbone's stage, such as ``res4``, that gets an :class:`AuxiliaryHead`, or None.
        auxiliary_weight: multiplies the loss of the auxiliary head.
        channels_last: keeps weights and features in that memory format. The numbers are the same to rounding.
            Depthwise convolutions and tensor cores are much faster. Evaluation on a CPU keeps features so anyway.
        activation_checkpointing: keeps only the inputs of the backbone's blocks; the backward pass computes the rest
            again. It takes less memory and more time, and gives the same numbers.

    Raises:
        ConfigError: if the config describes another kind of model, one that Detectron2 refuses, or one whose logits
            have a wrong size; or if the ignore index is the id of a class.

    Attributes:
        channels: of every image.
        bgr: whether the three channels of RGB are turned around for the network; bands never are.
        whole_levels: whether inputs are padded to a multiple of the backbone's coarsest stride although its
            ``size_divisibility`` is less; some heads cannot combine their levels at other sizes.
        notices: what a user should know of the model: which parts of the config are not used, and which parameters are
            frozen because the loss does not depend on them.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        num_classes: int,
        ignore_index: int,
        criterion: LossOfLogits | None = None,
        auxiliary_stage: str | None = None,
        auxiliary_weight: float = 0.4,
        channels_last: bool = False,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if 0 <= ignore_index < num_classes:
            raise ConfigError(
                f"ignore_index {ignore_index} is the id of one of {num_classes} classes, whose pixels would not count: "
                f"choose a value outside 0 to {num_classes - 1}"
            )
        self.notices = list(recipe.notices)
        self.network = recipe.build_network(num_classes, ignore_index)
        for name in ("pixel_mean", "pixel_std"):  # of whole numbers, Detectron2 makes integers
            setattr(self.network, name, getattr(self.network, name).float())
        refuse_unusable_pixels(self.network.pixel_mean, self.network.pixel_std, recipe.keys)
        self.channels = len(self.network.pixel_mean)
        self.head = adapt(self.network.sem_seg_head, ignore_index)
        self.head.refuse(criterion=criterion, auxiliary_stage=auxiliary_stage)
        self.ignore_index = ignore_index
        self.bgr = recipe.bgr and self.channels == 3
        self.criterion = criterion
        self.auxiliary = (
            None if auxiliary_stage is None else AuxiliaryHead(self.network.backbone, auxiliary_stage, num_classes)
        )
        self.auxiliary_weight = auxiliary_weight
        pool_any_size(self.network)
        self.whole_levels = False
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        if channels_last:
            self.to(memory_format=torch.channels_last)
        self._try_on_probe(recipe.keys)
        if activation_checkpointing:
            recompute_blocks(self.network.backbone)

    @property
    def padding(self) -> Padding:
        """What images, each batch as one, are padded to."""
        return Padding(self.network.backbone, self.head.stride, whole_levels=self.whole_levels)

    def trained_parts(self) -> nn.Module:
        """All that an optimiser trains: the network, under its own names, and the parts beside it."""
        beside = self.parts_beside()
        if not beside:
            return cast(nn.Module, self.network)
        parts = nn.Module()
        for name, part in [*self.network.named_children(), *beside.items()]:
            parts.add_module(name, part)
        return parts

    def parts_beside(self) -> dict[str, nn.Module]:
        """Parts with weights beside the network, by their names here: an auxiliary head, a criterion that is learnt."""
        parts = {"auxiliary": self.auxiliary, "criterion": self.criterion}
        return {
            name: part for name, part in parts.items() if isinstance(part, nn.Module) and len(part.state_dict()) > 0
        }

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The network's training losses, as ``build_model(cfg)(batch)`` gives them; zero if no pixel counts."""
        for sample in batch:
            refuse_misshapen(sample, self.channels)
        inputs, targets = self.inputs(batch), self._targets(batch)
        losses = self.head.training_losses(self.network.backbone(inputs), targets, self._own_criterion())
        if self.auxiliary is not None:
            logits = self.auxiliary()
            if self.criterion is None:
                logits = F.interpolate(logits, targets.shape[-2:], mode="bilinear", align_corners=False)
            parts = self._criterion_losses(logits, targets)
            losses["loss_auxiliary"] = self.auxiliary_weight * total_loss(parts)
        return losses

    def scores(self, batch: Batch) -> list[Scores]:
        """The scores of each image; the network must be in evaluation mode."""
        return self.evaluate([{"image": sample["image"]} for sample in batch]).scores

    def evaluate(self, batch: Batch) -> Evaluation:
        """The scores of each image, and its losses if there are masks; the network must be in evaluation mode.

        Images of one size take one pass. Images of different sizes are not padded to a common size, since that would
        change their scores. So the scores and losses of an image do not depend on its neighbours, up to rounding.
        """
        for sample in batch:
            refuse_misshapen(sample, self.channels)
        sizes = [(sample["image"].shape[1], sample["image"].shape[2]) for sample in batch]
        found: dict[int, Found] = {}
        losses: dict[int, dict[str, Tensor]] = {}
        for size in dict.fromkeys(sizes):
            places = [place for place, other in enumerate(sizes) if other == size]
            group = [batch[place] for place in places]
            inputs = self.inputs(group)
            of_group = self.head.evaluate(self.network.backbone(inputs), (inputs.shape[-2], inputs.shape[-1]))
            found.update(zip(places, of_group, strict=True))
            if "sem_seg" in batch[0]:
                for place, target in zip(places, self._targets(group), strict=True):
                    losses[place] = self.head.evaluation_losses(found[place], target[None], self._own_criterion())
        scores = [found[place].scores for place in range(len(batch))]
        return Evaluation(scores, sizes, [losses.get(place, {}) for place in range(len(batch))])

    def _own_criterion(self) -> Callable[[Tensor, Tensor], dict[str, Tensor]] | None:
        return None if self.criterion is None else self._criterion_losses

    def _criterion_losses(self, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
        if self.criterion is not None:
            return self.criterion(logits, targets, self.ignore_index)
        counted = (targets != self.ignore_index).sum().clamp(min=1)
        summed = F.cross_entropy(logits.float(), targets, ignore_index=self.ignore_index, reduction="sum")
        return {"loss_cross_entropy": summed / counted}

    def inputs(self, batch: Batch) -> Tensor:
        """Normalised and padded images (N, C, H, W), as in ``SemanticSegmentor.forward``."""
        mean, std = self.network.pixel_mean, self.network.pixel_std
        memory_format = self.memory_format
        if not self.training and batch[0]["image"].device.type == "cpu":
            memory_format = torch.channels_last  # convolutions are a fifth faster; training is Detectron2's to the bit
        images = [as_computed(sample["image"]) for sample in batch]
        stacks = [stack.contiguous(memory_format=memory_format) for stack in stack(images)]
        if self.bgr:
            stacks = [stack.flip(1) for stack in stacks]
        padded = self._padded([normalise(stack, mean, std) for stack in stacks], 0.0)
        return padded.contiguous(memory_format=memory_format)

    def _targets(self, batch: Batch) -> Tensor:
        masks = self._padded([stack.long() for stack in stack([s["sem_seg"] for s in batch])], self.ignore_index)
        return pad_targets(masks, self.head.stride, self.ignore_index)

    def _padded(self, stacks: list[Tensor], value: float) -> Tensor:
        """Put stacks (n, …, h, w) into one (N, …, H, W), padded at the right and at the bottom."""
        height, width = self.padding(*(max(stack.shape[axis] for stack in stacks) for axis in (-2, -1)))
        padded = [
            F.pad(stack, (0, width - stack.shape[-1], 0, height - stack.shape[-2]), value=value)
            if stack.shape[-2:] != (height, width)
            else stack
            for stack in stacks
        ]
        return padded[0] if len(padded) == 1 else torch.cat(padded)

    def _try_on_probe(self, keys: ConfigKeys) -> None:
        """Run a copy on the meta device, without data, to find logits of a wrong size and parameters without use."""
        probe = deepcopy(self).to("meta")
        height, width = _PROBE_SIZE
        sample: Item = {
            "image": torch.empty(self.channels, height, width, device="meta", dtype=torch.uint8),
            "sem_seg": torch.empty(height, width, device="meta", dtype=torch.int64),
        }
        try:
            try:
                _refuse_wrong_size(probe.eval(), [sample, sample])
            except (*FOREIGN, ConfigError):  # perhaps the coarsest stride must divide the input
                self.whole_levels = probe.whole_levels = True
                _refuse_wrong_size(probe, [sample, sample])
            self.head.stride = probe.head.stride
            losses = probe.train().losses([sample, sample])
        except FOREIGN as error:
            refuse_other_input(self.network, self.channels, keys)
            raise ConfigError(f"this backbone and head do not fit: {describe(error)}{self.head.hint}") from error
        self._settle_head(probe, [sample, sample])
        total_loss(losses).backward()  # type: ignore[no-untyped-call]  # torch's own
        used = {name for name, parameter in probe.named_parameters() if parameter.grad is not None}
        unused = {
            name: parameter
            for name, parameter in self.named_parameters()
            if parameter.requires_grad and name not in used
        }
        for parameter in unused.values():
            parameter.requires_grad_(False)
        if unused:
            self.notices.append(
                f"the loss does not depend on {len(unused)} parameters, which are frozen: {summarise(list(unused))}"
            )

    def _settle_head(self, probe: "Segmentor", batch: Batch) -> None:
        """Find out how to evaluate an unknown head, with random features."""
        inputs = probe.inputs(batch)

        def features() -> dict[str, Tensor]:
            shapes = {name: feature.shape for name, feature in probe.eval().network.backbone(inputs).items()}
            return {name: torch.randn(shape) for name, shape in shapes.items()}

        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)
            if notice := self.head.settle(features, (inputs.shape[-2], inputs.shape[-1])):
                self.notices.append(notice)


def total_loss(losses: Mapping[str, Tensor]) -> Tensor:
    """The sum of scalars, at least in float32."""
    return torch.stack([loss.to(torch.promote_types(loss.dtype, torch.float32)) for loss in losses.values()]).sum()


def _refuse_wrong_size(segmentor: Segmentor, batch: Batch) -> None:
    """Raise a ConfigError unless the scores cover exactly the padded input, up to whole strides."""
    inputs = segmentor.inputs(batch)
    backbone = segmentor.network.backbone
    levels = [shape.stride for shape in backbone.output_shape().values()]
    with torch.no_grad():
        features = backbone(inputs)
        segmentor.head.check(features, segmentor._targets(batch), (inputs.shape[-2], inputs.shape[-1]), levels)
