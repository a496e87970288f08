"""Tensors of sizes are what torch makes of numbers, and sizes stay free."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_seg.exporting.sizes import FreeSizes, spaced, stacked


@pytest.mark.parametrize(("start", "end", "steps"), [(0.5, 4.5, 5), (0.5, 0.5, 1), (-1.0, 1.0, 7), (2, 3, 1)])
def test_spaces_as_torch_does(start: float, end: float, steps: int) -> None:
    torch.testing.assert_close(
        spaced(start, end, steps, dtype=torch.float32), torch.linspace(start, end, steps, dtype=torch.float32)
    )


@pytest.mark.parametrize("values", [[[3, 4], [5, 6]], [1.5, 2.0], 7])
def test_stacks_as_torch_does(values: Any) -> None:
    found, expected = stacked(values), torch.tensor(values)
    assert found.dtype == expected.dtype
    assert torch.equal(found, expected)


class _Sizes(nn.Module):
    """What the mode is for, all at once."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2, 3, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        height, width = x.shape[-2:]
        return (
            torch.tensor([[height, width]]),
            torch.linspace(0.5, height - 0.5, height),
            torch.arange(0.5, width),
            self.convolution(x.permute(0, 1, 3, 2)),
        )


def test_sizes_stay_free_and_outside_the_mode_they_do_not() -> None:
    network = _Sizes().eval()
    dim = torch.export.Dim
    free = ({2: dim("height", min=2, max=64), 3: dim("width", min=2, max=64)},)

    def traced() -> Any:
        with torch.no_grad(), torch.fx.experimental._config.patch(backed_size_oblivious=True):
            return torch.export.export(network, (torch.zeros(2, 2, 12, 17),), dynamic_shapes=free).module()

    with pytest.raises(Exception, match="height"):
        traced()
    with FreeSizes():
        program = traced()
    for height, width in ((12, 17), (5, 2), (9, 30)):
        x = torch.randn(2, 2, height, width, generator=torch.Generator().manual_seed(0))
        for found, expected in zip(program(x), network(x), strict=True):
            torch.testing.assert_close(found, expected)
