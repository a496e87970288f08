"""Who judges what, and where."""

import pytest
import torch

from lightning_seg.reviewing.judging import Processes


def test_processes_take_gpus_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    several = [Processes(rank, 3, rank) for rank in range(3)]
    for name in ("auto", "cuda"):
        assert [str(one.device(name)) for one in several] == ["cuda:0", "cuda:1", "cuda:0"]
        assert str(Processes().device(name)) == "cuda"
    assert [str(one.device("cuda:1")) for one in several] == ["cuda:1"] * 3
    assert str(several[1].device("cpu")) == "cpu"
