"""transformers' own networks that classify masks, with copies of a segmentor's weights."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lightning_seg.models.segmentor import Segmentor
from lightning_seg.models.weights.eomt import eomt_name
from lightning_seg.models.weights.mask2former import mask2former_name
from sections.loop import Batch

OF_NO_LAYER = {"pixel_mean", "pixel_std"}


class Peer:
    """The loss of transformers' model of a segmentor's kind and sizes, for one batch without ignored pixels.

    Points are drawn in another order there, so that the loss is the same but for what points say.

    Args:
        segmentor: on its device; its batch norms are frozen, and so are the peer's.
        batch: on the same device.

    Raises:
        ValueError: if a weight of the segmentor has no place in the peer.

    Attributes:
        model: transformers' model, in training.
    """

    def __init__(self, segmentor: Segmentor, batch: Batch) -> None:
        head: Any = segmentor.network.sem_seg_head
        build, name_here = (_eomt, eomt_name) if hasattr(head, "vit") else (_mask2former, mask2former_name)
        with torch.device("cpu"):
            self.model = build(head)
        copy_weights(segmentor.network, self.model, name_here)
        self.model = self.model.to(batch[0]["image"].device).train()
        for module in self.model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval().requires_grad_(False)
        self.pixels = segmentor.inputs(batch)
        self.classes = [sample["sem_seg"].long().unique() for sample in batch]
        self.masks = [
            (sample["sem_seg"][None] == ids[:, None, None]).float()
            for sample, ids in zip(batch, self.classes, strict=True)
        ]

    def __call__(self) -> list[Tensor]:
        return [self.model(pixel_values=self.pixels, mask_labels=self.masks, class_labels=self.classes).loss]

    @torch.no_grad()
    def difference(self, segmentor: Segmentor) -> float:
        """Of the last logits of classes and of masks, in evaluation and float32, as a share of the peer's."""
        tf32, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
        precision = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        network, model = segmentor.eval().network, self.model.eval()
        kept = getattr(model, "attn_mask_probs", None)  # EoMT's: trained networks have no masks in evaluation
        if kept is not None:
            kept.fill_(0 if network.sem_seg_head.annealing.enabled else 1)
        expected = model(pixel_values=self.pixels)
        found = network.sem_seg_head.predictions(network.backbone(self.pixels))[-1]
        pairs = [
            (found.classes, expected.class_queries_logits),
            (found.masks, expected.masks_queries_logits),
        ]
        if kept is not None:
            kept.fill_(1)
        torch.backends.cudnn.allow_tf32 = tf32
        torch.set_float32_matmul_precision(precision)
        segmentor.train()
        for module in model.train().modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return max(float((own - other).norm() / other.norm()) for own, other in pairs)


def copy_weights(network: nn.Module, model: nn.Module, name_here: Callable[[str], str]) -> None:
    """Give the model the network's weights, by names that ``name_here`` translates."""
    own = network.state_dict()
    names = {name: name_here(name) for name in model.state_dict()}
    lost = own.keys() - set(names.values()) - OF_NO_LAYER
    if lost:
        raise ValueError(f"transformers' model has no place for {', '.join(sorted(lost)[:5])}")
    model.load_state_dict({name: own.get(names[name], tensor).clone() for name, tensor in model.state_dict().items()})


def _eomt(head: Any) -> Any:
    from transformers import EomtConfig, EomtForUniversalSegmentation

    vit = head.vit
    return EomtForUniversalSegmentation(
        EomtConfig(
            image_size=vit.grid * vit.patch_size, hidden_size=vit.channels, num_hidden_layers=len(vit.blocks),
            num_attention_heads=vit.blocks[0].attention.num_heads, num_blocks=len(vit.last_blocks),
            num_queries=head.query.num_embeddings, num_labels=head.criterion.num_classes,
            train_num_points=head.criterion.num_points, attn_implementation="sdpa",
        )
    )  # fmt: skip


def _mask2former(head: Any) -> Any:
    """On transformers' ResNet-50; sizes beside these are as published on both sides."""
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, ResNetConfig, logging

    logging.set_verbosity_error()  # it warns of every backbone but Swin; whether it fits is measured here
    return Mask2FormerForUniversalSegmentation(
        Mask2FormerConfig(
            backbone_config=ResNetConfig(out_features=["stage1", "stage2", "stage3", "stage4"]),
            num_queries=head.transformer_module.queries_features.num_embeddings,
            num_labels=head.criterion.num_classes, train_num_points=head.criterion.num_points,
        )
    )  # fmt: skip
