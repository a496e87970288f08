"""Finds the layers of a network that see the image itself."""

from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import nn


def image_layers(network: Any, channels: int) -> list[str]:
    """Names of the convolutions that see the image itself, as a trial without data shows.

    Layers that see what was made of it, such as blocks of pixels laid side by side, are not among them.

    Args:
        network: what Detectron2 built, with its backbone at ``backbone``.
        channels: of the image.
    """
    backbone = deepcopy(network.backbone).to("meta").eval()
    found: list[str] = []

    def note(name: str, _: nn.Module, inputs: tuple[Any, ...]) -> None:
        if inputs and inputs[0] is image:
            found.append(f"backbone.{name}")

    for name, module in backbone.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_pre_hook(partial(note, name))
    try:
        side = 8 * max(backbone.size_divisibility, *(shape.stride for shape in backbone.output_shape().values()))
        image = torch.empty(1, channels, side, side, device="meta")
        with torch.no_grad():
            backbone(image)
    except Exception:  # of a user's backbone, anything; what came before it holds
        return found
    return found
