"""Fetches pretrained weights, reads them without running any code in them, and matches them by name and shape."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor, nn

from lightning_seg.models.padding import divisibility_of
from lightning_seg.models.weights.bands import adapt_input
from lightning_seg.models.weights.eomt import eomt_tensors
from lightning_seg.models.weights.fetch import fetch_weights, licence_of, split_query
from lightning_seg.models.weights.keys import LAZY_KEYS, YAML_KEYS, ConfigKeys
from lightning_seg.models.weights.mask2former import PUBLISHED_DIVISIBILITY, is_mask2former, refuse_other_settings
from lightning_seg.models.weights.names import is_foreign_resnet, match_names, rename
from lightning_seg.models.weights.read import LICENCE, NETWORK_PREFIX, read_checkpoint, read_weights
from lightning_seg.models.weights.report import Reshaped, WeightsReport, refuse_misfit

if TYPE_CHECKING:
    from detectron2.config import CfgNode

__all__ = [
    "LAZY_KEYS",
    "LICENCE",
    "NETWORK_PREFIX",
    "YAML_KEYS",
    "ConfigKeys",
    "Reshaped",
    "WeightsReport",
    "load_weights",
    "read_checkpoint",
    "split_query",
    "warn_of_frozen_random",
]

FREEZABLE = {"resnet": "RESNETS", "regnet": "REGNET"}
"""Backbones that ``MODEL.BACKBONE.FREEZE_AT`` works for: a part of their builders' names, and their group of keys."""


def load_weights(
    network: nn.Module,
    source: str,
    *,
    fresh_head: bool = False,
    allow_missing: Sequence[str] = (),
    keys: ConfigKeys = YAML_KEYS,
    beside: Mapping[str, nn.Module] | None = None,
    bgr: bool = False,
) -> WeightsReport:
    """Load weights of a whole model or of a bare backbone into a network.

    If this raises, the network has not changed.

    Args:
        network: what Detectron2 built, with its backbone at ``backbone``.
        source: a path, ``https://…``, ``detectron2://…`` or ``timm://NAME``. Files are ``.pkl`` (Detectron2's model
            zoo, Caffe2), ``.pth``, ``.pyth`` (pycls), ``.safetensors`` or a checkpoint of this project, and may be
            ResNets of torchvision or timm, for EoMT transformers' EoMT or DINOv3 or a ViT of timm, and for
            Mask2FormerHead Mask2Formers of its own project or transformers. With
            ``?matching_heuristics=True`` at its end, or if no whole name is the same, ends of names are matched.
        fresh_head: leave a head for another number of classes random; one for the same number is loaded.
        allow_missing: beginnings of names of the network that may stay random.
        keys: of the config that the network was built from.
        beside: parts that are trained beside the network, by name. A part is loaded if the file is a checkpoint of this
            project and has all of it; else it stays as it is.
        bgr: whether weights for RGB images see them as BGR, unless they are torchvision's, timm's or transformers'. It
            counts where the images here have other bands, to which the first convolution is adapted.

    Raises:
        CheckpointError: if the file cannot be fetched or read, could run code, or does not fit.
        DependencyError: if timm is needed and missing.
    """
    place, by_suffix = split_query(source)
    stored = read_weights(fetch_weights(place), source)
    here = network.state_dict()
    of_eomt = eomt_tensors(stored.tensors, here, source)
    of_mask2former = is_mask2former(stored.tensors, here)
    renamed = of_eomt or rename(stored, here)
    if of_mask2former:
        refuse_other_settings(source, renamed, here, allow_missing)
    names = match_names(here, renamed, by_suffix=not of_mask2former and (stored.by_suffix or by_suffix))

    found = {name: renamed[end] for name, end in names.items()}
    of_rgb = of_mask2former or is_foreign_resnet(stored.tensors)
    turned = bgr and of_eomt is None and not of_rgb
    to_bands, adapted = adapt_input(network, found, source, own=stored.own, bgr=turned, keys=keys)
    fitting = {name: tensor for name, tensor in {**found, **to_bands}.items() if tensor.shape == here[name].shape}
    reshaped = [
        Reshaped(name, tuple(renamed[end].shape), tuple(here[name].shape))
        for name, end in names.items()
        if name not in fitting
    ]
    fused = set() if any(name.endswith("running_mean") for name in renamed) else _fused_statistics(network, fitting)
    missing = [name for name in here if name not in names and name not in fused]
    used = set(names.values())
    report = WeightsReport(
        source,
        matched=_without_counters([*fitting, *fused]),
        missing=_without_counters(missing),
        unexpected=_without_counters(name for name in renamed if name not in used),
        reshaped=tuple(reshaped),
        beside=tuple(_say_beside(beside or {}, stored.beside)),
        class_names=stored.class_names,
        adapted=tuple(adapted),
        licence=stored.licence or licence_of(place),
    )
    refuse_misfit(report, _without_counters(here), fresh_head=fresh_head, allow_missing=allow_missing, keys=keys)
    if of_rgb and (wrong := _other_preprocessing(network, keys, bgr=bgr, of_mask2former=of_mask2former)):
        whose = "a published Mask2Former, which expects" if of_mask2former else "torchvision's or timm's, which expect"
        rank_zero_warn(f"weights {source} are {whose} {wrong}")
    network.load_state_dict(fitting, strict=False)
    for name, part in (beside or {}).items():
        if (tensors := _of_part(name, part, stored.beside)) is not None:
            part.load_state_dict(tensors)
    return report


def _of_part(name: str, part: nn.Module, stored: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """The tensors of a part beside the network; None if some are missing or have another shape."""
    tensors = {key: stored.get(f"{name}.{key}") for key in part.state_dict()}
    fits = all(tensor is not None and tensor.shape == part.state_dict()[key].shape for key, tensor in tensors.items())
    return {key: tensor for key, tensor in tensors.items() if tensor is not None} if fits else None


def _say_beside(parts: Mapping[str, nn.Module], stored: Mapping[str, Tensor]) -> Iterator[str]:
    """What becomes of the parts beside the network, in words."""
    for name, part in parts.items():
        count = len(part.state_dict())
        loaded = _of_part(name, part, stored) is not None
        yield (
            f"{name}: {count} of {count} tensors loaded"
            if loaded
            else f"{name}: not in the file, or of another shape: stays as it is"
        )


def warn_of_frozen_random(cfg: "CfgNode") -> str | None:
    """A warning if the config freezes weights that are random; None if it does not."""
    family = next((family for family in FREEZABLE if family in cfg.MODEL.BACKBONE.NAME), None)
    if family is None:
        return None
    norm = f"MODEL.{FREEZABLE[family]}.NORM"
    frozen = [
        setting
        for setting, applies in (
            (f"MODEL.BACKBONE.FREEZE_AT {cfg.MODEL.BACKBONE.FREEZE_AT}", cfg.MODEL.BACKBONE.FREEZE_AT > 0),
            (f"{norm} FrozenBN", cfg.MODEL[FREEZABLE[family]].NORM == "FrozenBN"),
        )
        if applies
    ]
    if not frozen:
        return None
    return (
        f"the backbone starts from random weights, but {' and '.join(frozen)} would keep them random: "
        f"write model.overrides: {{MODEL.BACKBONE.FREEZE_AT: 0, {norm}: BN}}, or give model.weights"
    )


def _without_counters(names: Iterable[str]) -> tuple[str, ...]:
    """Tensor names without BatchNorm's counters, which old checkpoints lack and nothing here uses."""
    return tuple(name for name in names if not name.endswith("num_batches_tracked"))


def _fused_statistics(network: nn.Module, fitting: Iterable[str]) -> set[str]:
    """Mean and variance of frozen norms whose factor was loaded. Caffe2's files lack them, and they become 0 and 1.

    Detectron2's loading does that (``FrozenBatchNorm2d._load_from_state_dict``).
    """
    from detectron2.layers import FrozenBatchNorm2d

    loaded = set(fitting)
    return {
        f"{name}.{statistic}"
        for name, module in network.named_modules()
        if isinstance(module, FrozenBatchNorm2d) and f"{name}.weight" in loaded
        for statistic in ("running_mean", "running_var")
    }


def _other_preprocessing(network: Any, keys: ConfigKeys, *, bgr: bool, of_mask2former: bool) -> str | None:
    """Settings that weights for normalised RGB expect and that this network's config lacks; None without any."""
    wrong = []
    std = getattr(network, "pixel_std", None)
    if std is not None and len(std) == 3 and (bgr or not all(50 < value < 65 for value in std.flatten().tolist())):
        wrong.append(
            f"{keys.input_format} RGB, {keys.pixel_mean} [123.675, 116.28, 103.53] and "
            f"{keys.pixel_std} [58.395, 57.12, 57.375]"
        )
    modules = dict(network.named_modules())
    first = modules.get("backbone.bottom_up.res3.0.conv1", modules.get("backbone.res3.0.conv1"))
    if first is not None and getattr(first, "kernel_size", None) == (1, 1) and first.stride == (2, 2):
        wrong.append(f"{keys.stride_in_1x1} False")
    if of_mask2former and divisibility_of(network.backbone) % PUBLISHED_DIVISIBILITY:
        wrong.append(f"MODEL.MASK_FORMER.SIZE_DIVISIBILITY {PUBLISHED_DIVISIBILITY}")
    return " and ".join(wrong) or None
