"""How much a forward pass keeps for its gradients."""

import torch

from lightning_seg.models.segmentor import Segmentor
from tests.models.samples import make_batch


def saved_bytes(segmentor: Segmentor) -> int:
    """What autograd keeps between the two passes, parameters apart, each memory once."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in segmentor.parameters()}
    seen: dict[int, int] = {}
    kept = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            seen[storage.data_ptr()] = storage.nbytes()
            kept.append(storage)  # or its address would be given away again
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        segmentor.losses(make_batch([(64, 96), (64, 96)]))
    return sum(seen.values())
