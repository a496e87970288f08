"""Matches the tensors of a file to those of a network, also by other libraries' names and for bare backbones."""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from typing import TypeVar

from torch import Tensor

from lightning_seg.errors import CheckpointError
from lightning_seg.models.weights.mask2former import is_mask2former, mask2former_tensors
from lightning_seg.models.weights.read import StoredWeights
from lightning_seg.models.weights.segformer import is_segformer, segformer_tensors
from lightning_seg.structures import summarise

Value = TypeVar("Value")

_RESNET_KEYS = {"conv1.weight", "bn1.weight", "layer1.0.conv1.weight", "layer4.0.conv1.weight"}
_TO_DETECTRON2 = (  # after layer1 has become res2
    (re.compile(r"^(conv1|bn1)\."), r"stem.\1."),
    (re.compile(r"\bdownsample\.0\."), "shortcut."),
    (re.compile(r"\bdownsample\.1\."), "shortcut.norm."),
    (re.compile(r"\bbn(\d)\."), r"conv\1.norm."),
)


def rename(stored: StoredWeights, network: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a file's tensors to the names, or the ends of the names, that the network has.

    Detectron2 translates Caffe2's names (``detectron2/checkpoint/c2_model_loading.py``). Names of torchvision's and
    timm's ResNets become Detectron2's if the network has a ResNet of Detectron2. timm's ``stages.0`` becomes the
    ``stages_0`` of its ``features_only`` models if the network has that. transformers' names of SegFormer become those
    of a MiT backbone; those of Mask2Former, transformers' and its own project's, those of this project's.

    Raises:
        CheckpointError: if Caffe2's names do not translate.
    """
    if is_mask2former(stored.tensors, network):
        return mask2former_tensors(stored.tensors, network)
    if stored.caffe2:
        from detectron2.checkpoint.c2_model_loading import convert_c2_detectron_names

        try:
            return dict(convert_c2_detectron_names(stored.tensors)[0])
        except AssertionError:
            raise CheckpointError("two of the file's names are the same in Detectron2") from None
    if is_foreign_resnet(stored.tensors) and any(name.endswith("stem.conv1.weight") for name in network):
        return {resnet_name(name): tensor for name, tensor in stored.tensors.items()}
    if is_segformer(stored.tensors, network):
        return segformer_tensors(stored.tensors, network)
    parts = {part for name in network for part in name.split(".")}

    def flatten(match: re.Match[str]) -> str:
        flat = f"{match[1]}_{match[2]}"
        return flat if flat in parts else match[0]

    return {re.sub(r"^(\w+)\.(\d+)(?=\.)", flatten, name): tensor for name, tensor in stored.tensors.items()}


def is_foreign_resnet(names: Collection[str]) -> bool:
    """Whether these are the names of a ResNet of torchvision or timm."""
    return set(names) >= _RESNET_KEYS


def resnet_name(name: str) -> str:
    """Translate a name from torchvision's and timm's ResNets to Detectron2's.

    >>> resnet_name("layer1.0.bn2.running_mean")
    'res2.0.conv2.norm.running_mean'
    >>> resnet_name("layer4.0.downsample.0.weight")
    'res5.0.shortcut.weight'
    >>> resnet_name("bn1.bias")
    'stem.conv1.norm.bias'
    """
    name = re.sub(r"^layer(\d)\.", lambda match: f"res{int(match[1]) + 1}.", name)
    for pattern, replacement in _TO_DETECTRON2:
        name = pattern.sub(replacement, name)
    return name


def match_names(network: Collection[str], stored: Mapping[str, Value], *, by_suffix: bool) -> dict[str, str]:
    """Find the file's name for each name of the network.

    Names match if they are the same. With ``by_suffix``, or if no name is the same, a file's name matches if it is the
    end of the network's; the longest end counts, as in Detectron2's ``align_and_update_state_dicts``. If it is the end
    of several, the one counts whose prefix most other names need. Prefixes that begin with another part than that one
    do not count, so that no decoder gets a backbone's tensor.

    Args:
        network: the network's names.
        stored: has the file's names as keys.
        by_suffix: whether the file's names are known to be ends.

    Returns:
        The file's names by the network's names.

    Raises:
        CheckpointError: if a name of the file may stand for several of the network.

    >>> match_names(["body.stem.conv.weight", "head.weight"], {"stem.conv.weight": 0}, by_suffix=True)
    {'body.stem.conv.weight': 'stem.conv.weight'}
    """
    exact = {name: name for name in network if name in stored}
    if exact and not by_suffix:
        return exact
    ends = {name: end for name in network if name not in exact and (end := _longest_end(name, stored)) is not None}
    votes = Counter(name.removesuffix(end) for name, end in ends.items())
    first_part = votes.most_common(1)[0][0].split(".")[0] if votes else ""
    rivals: dict[str, list[str]] = defaultdict(list)
    for name, end in ends.items():
        if name.split(".")[0] == first_part and end not in exact:
            rivals[end].append(name)
    found = dict(exact)
    for end, names in rivals.items():
        most = max(votes[name.removesuffix(end)] for name in names)
        winners = [name for name in names if votes[name.removesuffix(end)] == most]
        if len(winners) > 1:
            raise CheckpointError(f"{end} in the file may be {summarise(winners)}: rename it in the file")
        found[winners[0]] = end
    return found


def _longest_end(name: str, stored: Mapping[str, Value]) -> str | None:
    parts = name.split(".")
    return next((end for start in range(1, len(parts)) if (end := ".".join(parts[start:])) in stored), None)
