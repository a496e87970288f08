"""Lets ASPP pool over inputs of any size; at sizes that Detectron2 accepts, the bits are the same."""

from torch import Tensor, nn


def pool_any_size(network: nn.Module) -> None:
    """Let ASPP pool over inputs of any size.

    Detectron2 takes the pooling window from ``INPUT.CROP.SIZE`` and raises if the input is no multiple of it. Here the
    window is clamped to the input. At sizes that Detectron2 accepts, the bits are the same.
    """
    from detectron2.layers import ASPP

    for module in network.modules():
        if isinstance(module, ASPP) and module.pool_kernel_size is not None:
            module.pool_kernel_size = None  # forward uses it only to raise
            module.convs[-1][0] = ClampedAveragePool(module.convs[-1][0].kernel_size)


class ClampedAveragePool(nn.Module):
    """Average pooling with stride 1, whose window is at most the input."""

    def __init__(self, window: tuple[int, int]) -> None:
        super().__init__()
        self.window = window

    def forward(self, features: Tensor) -> Tensor:
        height, width = features.shape[-2:]
        window = (min(self.window[0], height), min(self.window[1], width))
        return nn.functional.avg_pool2d(features, window, stride=1)
