"""SyncBN on the CPU."""

import torch
from torch import nn

from lightning_seg.models.normalisation import without_sync


def test_plain_batchnorm_computes_the_same() -> None:
    torch.manual_seed(0)
    sync = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.SyncBatchNorm(4, eps=1e-3, momentum=0.3)))
    with torch.no_grad():
        sync[1][0].weight.uniform_()
        sync[1][0].running_mean.uniform_()
    sync[1][0].bias.requires_grad_(False)
    names = list(sync.state_dict())
    images = torch.rand(2, 3, 5, 5)
    expected = sync.eval()(images)
    assert without_sync(sync) == 1
    assert list(sync.state_dict()) == names
    assert torch.equal(sync(images), expected)
    assert not sync[1][0].training
    assert not sync[1][0].bias.requires_grad
    assert (sync[1][0].eps, sync[1][0].momentum) == (1e-3, 0.3)
    assert without_sync(sync) == 0
