"""Reads values that a device computes on the CPU, without holding up the device; ``tensor.item()`` is the plain way."""

import torch
from torch import Tensor


class Later:
    """A copy of a tensor on its way to the CPU.

    ``tensor.item()`` makes the CPU wait for everything that was launched on a GPU, and then the GPU is idle until the
    CPU launches more. This waits only for what was launched before it was made; what is launched until it is read keeps
    the GPU busy.

    Args:
        tensor: on any device; its values at this moment are copied.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._copied: torch.cuda.Event | None = None
        tensor = tensor.detach()
        if tensor.device.type == "cuda":
            self._tensor = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._tensor.copy_(tensor, non_blocking=True)
            self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._copied.record(torch.cuda.current_stream(tensor.device))
        else:
            self._tensor = tensor.to("cpu", copy=True)

    def read(self) -> Tensor:
        """The values, on the CPU."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._tensor
