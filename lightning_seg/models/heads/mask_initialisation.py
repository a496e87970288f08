"""First weights of Mask2Former's parts, as its own project draws them; transformers only does so in its whole model."""

import math
from typing import Any

import torch
from torch import nn
from torch.nn import init


@torch.no_grad()
def initialise(pixel_decoder: Any, transformer_module: Any) -> None:
    """Draw the weights anew, in place.

    Args:
        pixel_decoder: transformers' ``Mask2FormerPixelDecoder``.
        transformer_module: its ``Mask2FormerTransformerModule``.
    """
    init.normal_(pixel_decoder.level_embed)
    for projection, _ in pixel_decoder.input_projections:
        init.xavier_uniform_(projection.weight)
        init.zeros_(projection.bias)
    _draw_matrices(pixel_decoder.encoder)
    for layer in pixel_decoder.encoder.layers:
        _start_deformable_attention(layer.self_attn)
    pyramid = [*pixel_decoder.lateral_convolutions, *pixel_decoder.output_convolutions]
    for convolution in [pixel_decoder.mask_projection, *(sequence[0] for sequence in pyramid)]:
        _fill(convolution)
    for projection in transformer_module.input_projections:
        if isinstance(projection, nn.Conv2d):
            _fill(projection)
    for layer in transformer_module.decoder.layers:
        _draw_matrices(layer)
        attention = layer.self_attn
        for part in (attention.q_proj, attention.k_proj, attention.v_proj):
            init.xavier_uniform_(part.weight, gain=1 / math.sqrt(2))  # as parts of one matrix for all three
            init.zeros_(part.bias)
        init.zeros_(attention.out_proj.bias)


def _draw_matrices(module: nn.Module) -> None:
    for parameter in module.parameters():
        if parameter.dim() > 1:
            init.xavier_uniform_(parameter)


def _fill(convolution: nn.Conv2d) -> None:
    """As fvcore's ``c2_xavier_fill``."""
    init.kaiming_uniform_(convolution.weight, a=1)
    if convolution.bias is not None:
        init.zeros_(convolution.bias)


def _start_deformable_attention(attention: Any) -> None:
    """Each head looks into its own direction, and its points further and further (Zhu et al. 2021, Deformable DETR)."""
    angles = torch.arange(attention.n_heads) * (2 * math.pi / attention.n_heads)
    directions = torch.stack([angles.cos(), angles.sin()], -1)
    directions = directions / directions.abs().amax(-1, keepdim=True)
    steps = torch.arange(1, attention.n_points + 1)[:, None]
    offsets = (directions[:, None, None] * steps).expand(-1, attention.n_levels, -1, -1)
    init.zeros_(attention.sampling_offsets.weight)
    attention.sampling_offsets.bias.copy_(offsets.reshape(-1))
    init.zeros_(attention.attention_weights.weight)
    for part in (attention.attention_weights, attention.value_proj, attention.output_proj):
        init.zeros_(part.bias)
