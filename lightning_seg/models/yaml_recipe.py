"""Turns a Detectron2 YAML config into a recipe."""

import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightning_seg.errors import FOREIGN, ConfigError, describe
from lightning_seg.models import solver
from lightning_seg.models.architectures import EOMT, architecture_of
from lightning_seg.models.backbones import register_backbones
from lightning_seg.models.backbones.resnet import refuse_resnet
from lightning_seg.models.config import default_config, leaves
from lightning_seg.models.heads import register_heads
from lightning_seg.models.registry import require_registered
from lightning_seg.models.unused import CROP_FREE, YAML_OPTIMIZER, YAML_REPLACED, replacement
from lightning_seg.models.weights import YAML_KEYS, warn_of_frozen_random

if TYPE_CHECKING:
    from detectron2.config import CfgNode

_DROPPED_PARTS = {
    "GeneralizedRCNN": "proposals and box, mask and keypoint heads are",
    "ProposalNetwork": "proposals are",
    "PanopticFPN": "proposals, instance heads and the merging of both are",
    "RetinaNet": "the box head is",
    "FCOS": "the box head is",
}
"""Architectures whose backbone a semantic head can use, and their parts that are not used."""


class YamlRecipe:
    """Implements :class:`lightning_seg.models.recipe.Recipe`.

    Args:
        cfg: a full Detectron2 config; cloned.
        values: of the file before any override, for checkpoints.

    Raises:
        ConfigError: if the config describes another kind of model, or settings that cannot work.
    """

    keys = YAML_KEYS
    reference_batch_key = "SOLVER.IMS_PER_BATCH"

    def __init__(self, cfg: "CfgNode", values: Mapping[str, Any] | None = None) -> None:
        self._cfg = cfg.clone()
        self.values = values
        notice = _keep_semantic_part(self._cfg)
        self.notices = () if notice is None else (notice,)
        _refuse_unsupported(self._cfg)
        self.bgr: bool = cfg.INPUT.FORMAT == "BGR"
        self.weights: str = cfg.MODEL.WEIGHTS
        self.reference_batch: int | None = cfg.SOLVER.IMS_PER_BATCH

    def build_network(self, num_classes: int, ignore_index: int) -> Any:
        return _build(self.config_of(num_classes, ignore_index))

    def config_of(self, num_classes: int, ignore_index: int) -> "CfgNode":
        """The config of the network for these classes, as ``build_model`` takes it."""
        cfg = self._cfg.clone()
        cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = cfg.MODEL.POINT_HEAD.NUM_CLASSES = num_classes
        cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE = ignore_index
        return cfg

    def build_optimizer(self, network: nn.Module, lr_scale: float = 1.0) -> Optimizer:
        return solver.build_optimizer(solver.scale_rate(self._cfg, lr_scale), network)

    def build_lr_scheduler(self, optimizer: Optimizer, total_steps: float, lr_scale: float = 1.0) -> LRScheduler:
        return solver.build_lr_scheduler(solver.scale_rate(self._cfg, lr_scale), optimizer, total_steps)

    def schedule_problem(self) -> str | None:
        return solver.schedule_problem(self._cfg)

    @property
    def clips_gradients(self) -> bool:
        return bool(self._cfg.SOLVER.CLIP_GRADIENTS.ENABLED)

    def changed_keys(self) -> list[str]:
        defaults = dict(leaves(default_config()))
        return [key for key, value in leaves(self._cfg) if value != defaults.get(key)]

    def unused(self, keys: Iterable[str], *, scales_rate: bool, own_optimizer: bool) -> dict[str, str]:
        replaced = {key: name for key in keys if (name := replacement(key, YAML_REPLACED)) is not None}
        if scales_rate:
            replaced.pop(self.reference_batch_key, None)
        if self._cfg.MODEL.SEM_SEG_HEAD.NAME not in CROP_FREE:  # other heads may take a pooling window from the crop
            replaced = {key: name for key, name in replaced.items() if not key.startswith("INPUT.CROP.")}
        if own_optimizer:
            of_optimizer = {f"SOLVER.{name}" for name in YAML_OPTIMIZER}
            if self._cfg.SOLVER.BASE_LR_END:  # the schedule ends at the ratio of the two
                of_optimizer.remove("SOLVER.BASE_LR")
            replaced |= {key: "it in model.optimizer" for key in keys if key in of_optimizer}
        return replaced

    def clip_gradients(self, optimizer: Optimizer) -> None:
        solver.clip_gradients(self._cfg, optimizer)

    def warn_of_frozen_random(self) -> str | None:
        return warn_of_frozen_random(self._cfg)


def _keep_semantic_part(cfg: "CfgNode") -> str | None:
    """Make a detection or panoptic config a semantic one, in place; return what was dropped, None if nothing.

    Raises:
        ConfigError: if the config has no backbone that a semantic head fits.
    """
    architecture = cfg.MODEL.META_ARCHITECTURE
    if architecture == "SemanticSegmentor":
        return None
    if architecture == EOMT:
        cfg.MODEL.BACKBONE.NAME = EOMT  # it builds its own; nothing of another's settings is checked
        return None
    dropped = _DROPPED_PARTS.get(architecture)
    if dropped is None:
        if architecture_of(architecture) is not None:
            return None
        raise ConfigError(
            f"MODEL.META_ARCHITECTURE is {architecture}, but one of SemanticSegmentor, {EOMT}, "
            f"{', '.join(_DROPPED_PARTS)}, or a class of your own that derives from SemanticSegmentor (model.imports), "
            "is needed: choose a semantic config, such as Misc/semantic_R_50_FPN_1x.yaml"
        )
    if not cfg.MODEL.BACKBONE.NAME.endswith("fpn_backbone"):
        raise ConfigError(
            f"{architecture} on {cfg.MODEL.BACKBONE.NAME} has no feature pyramid for the semantic head: choose an FPN "
            "config, or name the backbone's levels in MODEL.SEM_SEG_HEAD.IN_FEATURES under "
            "MODEL.META_ARCHITECTURE SemanticSegmentor"
        )
    cfg.MODEL.META_ARCHITECTURE = "SemanticSegmentor"
    if cfg.MODEL.BACKBONE.NAME.startswith("build_retinanet") and "res2" not in cfg.MODEL.FPN.IN_FEATURES:
        head = cfg.MODEL.SEM_SEG_HEAD  # reads p2 by default, which this pyramid lacks
        head.IN_FEATURES = [name for name in head.IN_FEATURES if name != "p2"]
    return f"{architecture}: backbone and semantic head are used, {dropped} dropped"


def _refuse_unsupported(cfg: "CfgNode") -> None:
    if cfg.SOLVER.MAX_ITER < 1:
        raise ConfigError(
            f"SOLVER.MAX_ITER is {cfg.SOLVER.MAX_ITER}, but must be at least 1: the steps that the schedule is written "
            "for, which is stretched to the run"
        )
    if cfg.SOLVER.LR_SCHEDULER_NAME not in solver.SCHEDULES:
        raise ConfigError(
            f"SOLVER.LR_SCHEDULER_NAME is {cfg.SOLVER.LR_SCHEDULER_NAME!r}, but one of {', '.join(solver.SCHEDULES)} "
            "is needed; for another schedule of torch's, set model.lr_scheduler"
        )
    if cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE not in ("value", "norm"):
        raise ConfigError(
            f"SOLVER.CLIP_GRADIENTS.CLIP_TYPE is {cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE!r}, but value or norm is needed; "
            "to clip by the norm of all gradients, set trainer.gradient_clip_val"
        )
    if cfg.INPUT.FORMAT not in ("RGB", "BGR"):
        raise ConfigError(f"INPUT.FORMAT is {cfg.INPUT.FORMAT!r}, but RGB or BGR is needed")
    refuse_resnet(cfg)


def _build(cfg: "CfgNode") -> Any:
    """Build the network as ``build_model`` does, on the CPU; Any, because Detectron2 has no types."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit.script.*", category=FutureWarning)
        from detectron2.modeling import BACKBONE_REGISTRY, build_backbone, build_sem_seg_head
        from detectron2.projects import deeplab, point_rend  # noqa: F401  # registers their heads and backbones

        register_heads()
        register_backbones()
        from lightning_seg.models.architectures.mask_segmentor import segmentor_of
        from lightning_seg.models.heads.requirements import refuse_head
    architecture = cfg.MODEL.META_ARCHITECTURE
    if architecture != EOMT:
        require_registered("MODEL.BACKBONE.NAME", cfg.MODEL.BACKBONE.NAME, BACKBONE_REGISTRY)
    try:
        if architecture != "SemanticSegmentor":
            return architecture_of(architecture)(cfg)
        backbone = build_backbone(cfg)
        refuse_head(cfg, backbone.output_shape())
        return segmentor_of(cfg, backbone, build_sem_seg_head(cfg, backbone.output_shape()))
    except FOREIGN as error:
        raise ConfigError(f"Detectron2 refuses this model: {describe(error)}") from error
