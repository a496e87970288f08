"""Parts of Detectron2's ViT and MViT that make numbers of sizes, as what gives the same and keeps sizes free."""

import math
from typing import Any

import torch
from torch import SymInt, Tensor
from torch.nn import functional as F


def replacements() -> list[tuple[Any, str, Any]]:
    """Modules of Detectron2, names in them, and what stands for these while a graph is traced."""
    from detectron2.modeling.backbone import mvit, utils, vit

    return [
        *((owner, "window_partition", split_windows) for owner in (vit, mvit)),
        *((owner, "window_unpartition", join_windows) for owner in (vit, mvit)),
        (utils, "get_rel_pos", relative_positions),
        (mvit, "np", math),  # of whose functions it takes the product of sizes alone
    ]


def split_windows(x: Tensor, window_size: int) -> tuple[Tensor, tuple[Any, Any]]:
    """Takes and gives what ``window_partition`` does, which asks whether there is something to pad."""
    number, height, width, channels = x.shape
    rows, columns = ((side + window_size - 1) // window_size for side in (height, width))
    padded = rows * window_size, columns * window_size
    x = F.pad(x, (0, 0, 0, padded[1] - width, 0, padded[0] - height))
    cells = x.view(number, rows, window_size, columns, window_size, channels).permute(0, 1, 3, 2, 4, 5)
    return cells.contiguous().view(-1, window_size, window_size, channels), padded


def join_windows(windows: Tensor, window_size: int, pad_hw: tuple[Any, Any], hw: tuple[Any, Any]) -> Tensor:
    """Takes and gives what ``window_unpartition`` does, which finds the number of images by dividing."""
    rows, columns = (side // window_size for side in pad_hw)
    cells = windows.view(-1, rows, columns, window_size, window_size, windows.shape[-1]).permute(0, 1, 3, 2, 4, 5)
    x = cells.contiguous().view(-1, rows * window_size, columns * window_size, windows.shape[-1])
    return x[:, : hw[0], : hw[1]].contiguous()


def relative_positions(q_size: Any, k_size: Any, rel_pos: Tensor) -> Tensor:
    """Takes and gives what ``get_rel_pos`` does: (q_size, k_size, C) of (L, C), for sizes that may be free."""
    length = 2 * torch.sym_max(q_size, k_size) - 1
    if isinstance(length, SymInt) or rel_pos.shape[0] != length:
        rel_pos = F.interpolate(rel_pos.t()[None], size=length, mode="linear")[0].t()
    queries, keys = (torch.scalar_tensor(size, dtype=torch.float64) for size in (q_size, k_size))
    q_step, k_step = ((one / other).clamp(min=1.0) for one, other in ((keys, queries), (queries, keys)))
    # As there: positions are float32, their steps float64.
    q_places = torch.arange(q_size)[:, None] * q_step.float()
    k_places = torch.arange(k_size)[None, :] * k_step.float()
    distance = (q_places - k_places) + ((keys - 1) * k_step).float()
    return rel_pos[distance.long()]
