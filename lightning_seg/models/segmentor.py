"""Detectron2's segmentor behind an interface of RGB batches in, losses or logits out."""

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lightning_seg.errors import ConfigError
from lightning_seg.structures import Batch

if TYPE_CHECKING:
    from detectron2.config import CfgNode


@dataclass(frozen=True)
class Evaluation:
    """What the network says of one batch in evaluation.

    Attributes:
        logits: (N, K, h, w), at 1/stride of the padded input.
        stride: input pixels per logit, on each side.
        input_sizes: (height, width) of each image as given, without padding.
        losses: the head's losses where the batch has ``sem_seg``, scalars; else empty.
    """

    logits: Tensor
    stride: int
    input_sizes: list[tuple[int, int]]
    losses: dict[str, Tensor]


class Segmentor(nn.Module):
    """A ``SemanticSegmentor`` that Detectron2 builds from a config, on the CPU.

    Batches are lists of samples in Detectron2's dict format with RGB images; the config's ``INPUT.FORMAT``
    decides what the network gets. Pixel mean and std, size divisibility and ignore value are the config's too.

    Args:
        cfg: a full Detectron2 config; cloned.
        num_classes: of the data.
        ignore_index: of the data.

    Raises:
        ConfigError: if the config describes another kind of model, or one that Detectron2 refuses.
    """

    def __init__(self, cfg: "CfgNode", *, num_classes: int, ignore_index: int) -> None:
        super().__init__()
        cfg = cfg.clone()
        cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = num_classes
        cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE = ignore_index
        cfg.MODEL.DEVICE = "cpu"  # Lightning moves it
        _refuse_unsupported(cfg)
        self.network = _build(cfg)
        self.ignore_index = ignore_index
        self.bgr = cfg.INPUT.FORMAT == "BGR"

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The network's training losses, as ``build_model(cfg)(batch)`` gives them; zero where no pixel counts."""
        inputs = [self._as_detectron2(sample) for sample in batch]
        losses = self.network(inputs)
        counts = torch.stack([(sample["sem_seg"] != self.ignore_index).any() for sample in inputs]).any()
        # The mean over no pixel is NaN; its gradient is zero already.
        return {name: torch.where(counts, loss, loss.nan_to_num()) for name, loss in losses.items()}

    def evaluate(self, batch: Batch) -> Evaluation:
        """Logits, and losses where there are masks, from one pass; the network must be in evaluation mode."""
        from detectron2.structures import ImageList

        inputs = [self._as_detectron2(sample) for sample in batch]
        network, head = self.network, self.network.sem_seg_head
        padding = (network.backbone.size_divisibility, network.backbone.padding_constraints)
        normalised = [(sample["image"] - network.pixel_mean) / network.pixel_std for sample in inputs]
        images = ImageList.from_tensors(normalised, padding[0], padding_constraints=padding[1])
        logits = head.layers(network.backbone(images.tensor))
        losses: dict[str, Tensor] = {}
        if "sem_seg" in inputs[0]:
            masks = [sample["sem_seg"] for sample in inputs]
            padded = ImageList.from_tensors(masks, padding[0], self.ignore_index, padding[1])
            losses = head.losses(logits, padded.tensor)
        return Evaluation(logits, head.common_stride, images.image_sizes, losses)

    def _as_detectron2(self, sample: dict[str, Any]) -> dict[str, Any]:
        inputs = {**sample, "image": sample["image"].flip(0) if self.bgr else sample["image"]}
        if "sem_seg" in sample:
            inputs["sem_seg"] = sample["sem_seg"].long()
        return inputs


def _refuse_unsupported(cfg: "CfgNode") -> None:
    if cfg.MODEL.META_ARCHITECTURE != "SemanticSegmentor":
        raise ConfigError(
            f"MODEL.META_ARCHITECTURE is {cfg.MODEL.META_ARCHITECTURE}, but SemanticSegmentor is needed: "
            "choose a semantic config, such as Misc/semantic_R_50_FPN_1x.yaml"
        )
    if cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE not in ("value", "norm"):
        raise ConfigError(
            f"SOLVER.CLIP_GRADIENTS.CLIP_TYPE is {cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE!r}, but value or norm is needed; "
            "to clip by the norm of all gradients, set trainer.gradient_clip_val"
        )
    if cfg.INPUT.FORMAT not in ("RGB", "BGR"):
        raise ConfigError(f"INPUT.FORMAT is {cfg.INPUT.FORMAT!r}, but RGB or BGR is needed")
    resnets = cfg.MODEL.RESNETS
    if "resnet" in cfg.MODEL.BACKBONE.NAME and resnets.DEPTH in (18, 34) and resnets.RES2_OUT_CHANNELS != 64:
        raise ConfigError(
            f"MODEL.RESNETS.DEPTH {resnets.DEPTH} needs MODEL.RESNETS.RES2_OUT_CHANNELS 64 "
            f"(it is {resnets.RES2_OUT_CHANNELS}): add --model.overrides.MODEL.RESNETS.RES2_OUT_CHANNELS 64"
        )


def _build(cfg: "CfgNode") -> Any:
    """Build the network; Any, because Detectron2 has no types."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit.script.*", category=FutureWarning)
        from detectron2.modeling import build_model

        from lightning_seg.models.backbones import detectron2, timm  # noqa: F401  # they register their builders
    try:
        network = build_model(cfg)
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"Detectron2 refuses this model: {type(error).__name__}: {error}") from error
    head = network.sem_seg_head
    if not (hasattr(head, "layers") and hasattr(head, "losses") and hasattr(head, "common_stride")):
        raise ConfigError(
            f"head {type(head).__name__} has no layers(), losses() and common_stride, which validation needs: "
            "use MODEL.SEM_SEG_HEAD.NAME SemSegFPNHead"
        )
    return network
