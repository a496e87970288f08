"""Files of weights, and networks to read them into."""

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lightning_seg.models.recipe import load_recipe
from lightning_seg.models.segmentor import Segmentor
from tests.conftest import TINY_OVERRIDES

ZOO = "Misc/semantic_R_50_FPN_1x.yaml"

State = dict[str, Tensor]

NARROW = {
    **TINY_OVERRIDES,
    "MODEL.RESNETS.DEPTH": 50,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 8,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 16,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 4,
}


def network(seed: int, num_classes: int = 5, **overrides: Any) -> nn.Module:
    torch.manual_seed(seed)
    settings = {**NARROW, **{name.replace("__", "."): value for name, value in overrides.items()}}
    return Segmentor(load_recipe(ZOO, settings), num_classes=num_classes, ignore_index=255).network


def backbone(state: State, prefix: str = "backbone.bottom_up.") -> State:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def save_pth(state: State, path: Path) -> str:
    torch.save({"model": state, "iteration": 3}, path.with_suffix(".pth"))
    return str(path.with_suffix(".pth"))


def save_safetensors(state: State, path: Path) -> str:
    from safetensors.torch import save_file

    save_file(state, path.with_suffix(".safetensors"))
    return str(path.with_suffix(".safetensors"))


def save_pkl(state: State, path: Path) -> str:
    """As Detectron2's model zoo has them: NumPy arrays."""
    arrays = {name: value.numpy() for name, value in state.items()}
    data = {"model": arrays, "__author__": "test", "matching_heuristics": True}
    path.with_suffix(".pkl").write_bytes(pickle.dumps(data))
    return str(path.with_suffix(".pkl"))
