"""The norms that a config may name, and SyncBN where it cannot run."""

from torch import nn

from lightning_seg.errors import ConfigError

NORMS = ("BN", "SyncBN", "FrozenBN", "GN", "LN", "nnSyncBN", "naiveSyncBN", "naiveSyncBN_N", "")
"""What ``detectron2.layers.get_norm`` knows by name; empty is none."""


def require_norm(key: str, norm: str) -> None:
    """Raise a ConfigError that lists what there is unless Detectron2 knows ``norm``, the value of ``key``."""
    if norm not in NORMS:
        raise ConfigError(f"{key} is {norm!r}, but one of {', '.join(map(repr, NORMS))} is needed")


def without_sync(network: nn.Module) -> int:
    """Replace every ``SyncBatchNorm`` by a ``BatchNorm2d`` with the same parameters, statistics and names.

    On the CPU, SyncBatchNorm raises as soon as a process group exists, even one of a single process.

    Returns:
        How many were replaced.
    """
    replaced = 0
    for name, child in network.named_children():
        if isinstance(child, nn.SyncBatchNorm):
            plain = nn.BatchNorm2d(
                child.num_features, child.eps, child.momentum, child.affine, child.track_running_stats
            )
            plain.load_state_dict(child.state_dict())
            for parameter, source in zip(plain.parameters(), child.parameters(), strict=True):
                parameter.requires_grad_(source.requires_grad)
            plain.train(child.training)
            setattr(network, name, plain)
            replaced += 1
        else:
            replaced += without_sync(child)
    return replaced
