"""Values that a device computes, read on the CPU without holding the device up."""

import torch
from torch import Tensor


class Later:
    """A copy of a tensor on its way to the CPU.

    ``tensor.item()`` makes the CPU wait for everything that a GPU was given to do, and the GPU then has nothing to do
    until the CPU has launched more. This waits only for what came before it, and what is launched between making and
    reading it keeps the GPU busy.

    Args:
        tensor: of any device; its values at this moment are what counts.
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
