"""SyncBN on the CPU, and around timm's norms."""

from copy import deepcopy

import pytest
import timm
import torch
from torch import nn

from lightning_seg.models.normalisation import with_sync, without_sync


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


@pytest.mark.parametrize("training", [False, True])
def test_timms_activations_survive_there_and_back(training: bool) -> None:
    from timm.layers import BatchNormAct2d

    torch.manual_seed(0)
    network = timm.create_model("test_efficientnet", features_only=True).train(training)
    images = torch.randn(2, 3, 64, 64)
    names, tensors = list(network.state_dict()), [id(parameter) for parameter in network.parameters()]
    reference = deepcopy(network)
    expected = [reference(images) for _ in range(3)][-1]  # statistics move in training
    network(images)
    assert any(isinstance(module, BatchNormAct2d) for module in network.modules())
    synchronised = with_sync(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in synchronised.modules())
    assert list(synchronised.state_dict()) == names
    assert [id(parameter) for parameter in synchronised.parameters()] == tensors
    synchronised(images)
    assert without_sync(synchronised) > 0
    assert [id(parameter) for parameter in synchronised.parameters()] == tensors
    for theirs, ours in zip(expected, synchronised(images), strict=True):
        assert torch.equal(theirs, ours)
    for name, value in reference.state_dict().items():
        assert torch.equal(synchronised.state_dict()[name], value), name
    assert not torch.equal(  # what torch's own conversion gives
        nn.SyncBatchNorm.convert_sync_batchnorm(network)(images)[-1], expected[-1]
    )
