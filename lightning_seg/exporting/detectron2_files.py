"""Writes a plain Detectron2 checkpoint beside its YAML, and runs them as Detectron2 does."""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lightning_seg.errors import ConfigError
from lightning_seg.exporting.graph import mask_dtype
from lightning_seg.exporting.writing import quiet
from lightning_seg.files import replacing
from lightning_seg.models.architectures import EOMT
from lightning_seg.models.config import default_config, leaves
from lightning_seg.models.recipe import Recipe
from lightning_seg.models.yaml_recipe import YamlRecipe
from lightning_seg.module import SegmentationModule

if TYPE_CHECKING:
    from detectron2.config import CfgNode

_HEADER = """# Written by lightning_seg, beside {name}. Detectron2 loads it so; images are not resized:
#   from detectron2.config import get_cfg
#   from detectron2.engine import DefaultPredictor
{imports}#   cfg = get_cfg()
{calls}#   cfg.merge_from_file("{yaml}")
#   labels = DefaultPredictor(cfg)({image})["sem_seg"].argmax(0)
# On a GPU, set MODEL.DEVICE to cuda.
"""

_ADDITIONS = {
    "add_deeplab_config": "detectron2.projects.deeplab",
    "add_pointrend_config": "detectron2.projects.point_rend",
    "add_heads_config": "lightning_seg.models.heads",
    "add_backbones_config": "lightning_seg.models.backbones",
    "add_architectures_config": "lightning_seg.models.architectures",
}
"""Functions that add keys that Detectron2 itself does not know, and where they are."""

_REGISTRATIONS = {
    "add_heads_config": "register_heads",
    "add_backbones_config": "register_backbones",
    "add_architectures_config": "register_architectures",
}
"""Functions that add the parts that read these keys, where importing the others does not."""

_OWN = ("detectron2.", "lightning_seg.")
"""How the names of modules begin whose parts read known keys alone."""


def config_of(module: SegmentationModule, weights: Path) -> "CfgNode":
    """The config that the network is built from, for prediction with these weights at the stored size.

    Raises:
        ConfigError: if the network comes from a LazyConfig, which no YAML can describe.
    """
    recipe: Recipe = module.recipe
    if not isinstance(recipe, YamlRecipe):
        raise ConfigError(
            f"{module.hparams['config']} is a LazyConfig, but a .pth file goes with a YAML: export .onnx or .pt2"
        )
    cfg = recipe.config_of(len(module.class_names), module.segmentor.ignore_index)
    cfg.MODEL.WEIGHTS, cfg.MODEL.DEVICE = str(weights.absolute()), "cpu"
    cfg.INPUT.MIN_SIZE_TEST = 0
    if module.segmentor.channels != 3:
        cfg.INPUT.FORMAT = "BGR"  # which Detectron2 reads: it turns the channels around for RGB alone
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ()
    cfg.MODEL.META_ARCHITECTURE = type(module.segmentor.network).__name__
    return cfg


def write_detectron2(module: SegmentationModule, path: Path, final: Path) -> None:
    """Write ``<name>.pth`` and ``<name>.yaml``.

    Args:
        module: on the CPU.
        path: of the checkpoint, for now.
        final: of the checkpoint in the end, which the YAML names.

    Raises:
        ConfigError: as of :func:`config_of`.
    """
    cfg = config_of(module, final)
    tensors = {name: tensor.contiguous() for name, tensor in module.segmentor.network.state_dict().items()}
    torch.save({"model": tensors, "__author__": "lightning_seg"}, path)
    additions = _additions(cfg)
    functions = [name for one in additions for name in (one, _REGISTRATIONS.get(one)) if name is not None]
    header = _HEADER.format(
        name=final.name,
        yaml=final.with_suffix(".yaml").name,
        image="bgr_image" if module.segmentor.channels == 3 else "image_of_height_width_bands",
        imports="".join(
            f"#   from {_ADDITIONS[one]} import {', '.join(filter(None, (one, _REGISTRATIONS.get(one))))}\n"
            for one in additions
        ),
        calls="".join(f"#   {name}({'cfg' if name in _ADDITIONS else ''})\n" for name in functions),
    )
    with replacing(path.with_suffix(".yaml"), "w") as file:
        file.write(header + _without_unknown(cfg, additions).dump())


def open_detectron2(path: Path) -> Any:
    """What runs the written files: Detectron2's ``DefaultPredictor``, image by image."""
    from detectron2.engine import DefaultPredictor

    with quiet():
        cfg = default_config()
        cfg.merge_from_file(str(path.with_suffix(".yaml")))
        cfg.MODEL.WEIGHTS = str(path)
        predictor = DefaultPredictor(cfg)

    def run(image: Tensor) -> Tensor:
        turned = image.flip(1) if image.shape[1] == 3 else image
        found = [predictor(one.permute(1, 2, 0).numpy())["sem_seg"].argmax(0) for one in turned]
        return torch.stack(found).to(mask_dtype(cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES))

    return run


def _additions(cfg: "CfgNode") -> list[str]:
    """Which functions must add keys for the parts that a config names; all where one is a user's."""
    from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY, SEM_SEG_HEADS_REGISTRY

    if cfg.MODEL.META_ARCHITECTURE == EOMT:
        return ["add_heads_config", "add_architectures_config"]  # the heads' for its losses
    head, backbone = cfg.MODEL.SEM_SEG_HEAD.NAME, cfg.MODEL.BACKBONE.NAME
    heads = [head, cfg.MODEL.POINT_HEAD.COARSE_SEM_SEG_HEAD_NAME] if head == "PointRendSemSegHead" else [head]
    whole = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)
    parts = [whole, BACKBONE_REGISTRY.get(backbone), *(SEM_SEG_HEADS_REGISTRY.get(name) for name in heads)]
    modules = [part.__module__ for part in parts]
    return [
        name
        for name, place in _ADDITIONS.items()
        if any(module.startswith(place) or not module.startswith(_OWN) for module in modules)
    ]


def _keys_of(*additions: str) -> set[str]:
    """Keys that functions add to Detectron2's own."""
    from detectron2.config import get_cfg

    plain, cfg = {key for key, _ in leaves(get_cfg())}, get_cfg()
    for name in additions:
        getattr(importlib.import_module(_ADDITIONS[name]), name)(cfg)
    return {key for key, _ in leaves(cfg)} - plain


def _without_unknown(cfg: "CfgNode", additions: list[str]) -> "CfgNode":
    """The config with those keys alone that Detectron2 and the additions know."""
    from detectron2.config import get_cfg

    known = {key for key, _ in leaves(get_cfg())} | _keys_of(*additions)
    kept = cfg.clone()
    for key, _ in list(leaves(cfg)):
        if key not in known:
            *groups, last = key.split(".")
            node = kept
            for group in groups:
                node = node[group]
            del node[last]
    _drop_empty(kept)
    return kept


def _drop_empty(node: "CfgNode") -> None:
    from detectron2.config import CfgNode

    for name, value in list(node.items()):
        if isinstance(value, CfgNode):
            _drop_empty(value)
            if not value:
                del node[name]
