"""Values that are read later are those of the moment at which they were asked for."""

import torch

from lightning_seg.transfers import Later


def test_values_of_the_moment() -> None:
    counts = torch.arange(3)
    later = Later(counts)
    counts += 1
    assert torch.equal(later.read(), torch.arange(3))
    loss = torch.ones((), requires_grad=True)
    assert not Later(loss).read().requires_grad
