"""Weights: what loads, what is left, and that no file runs code."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightning_seg.errors import CheckpointError
from lightning_seg.models.config import load_config
from lightning_seg.models.segmentor import Segmentor
from lightning_seg.models.weights import NETWORK_PREFIX, load_weights, warn_of_frozen_random
from tests.conftest import TINY_OVERRIDES

ZOO = "Misc/semantic_R_50_FPN_1x.yaml"


def network(seed: int, num_classes: int = 5) -> torch.nn.Module:
    torch.manual_seed(seed)
    segmentor = Segmentor(load_config(ZOO, TINY_OVERRIDES), num_classes=num_classes, ignore_index=255)
    return segmentor.network  # type: ignore[no-any-return]


def save_pth(state: dict[str, torch.Tensor], path: Path) -> Path:
    torch.save({"model": state}, path.with_suffix(".pth"))
    return path.with_suffix(".pth")


def save_ckpt(state: dict[str, torch.Tensor], path: Path) -> Path:
    torch.save(
        {"state_dict": {NETWORK_PREFIX + name: value for name, value in state.items()}}, path.with_suffix(".ckpt")
    )
    return path.with_suffix(".ckpt")


def save_pkl(state: dict[str, torch.Tensor], path: Path) -> Path:
    """As Detectron2's model zoo has them: NumPy arrays, matched by the suffix of a bare backbone's names."""
    arrays = {name.removeprefix("backbone.bottom_up."): value.numpy() for name, value in state.items()}
    data = {"model": arrays, "__author__": "test", "matching_heuristics": True}
    path.with_suffix(".pkl").write_bytes(pickle.dumps(data))
    return path.with_suffix(".pkl")


@pytest.mark.parametrize("save", [save_pth, save_ckpt, save_pkl])
def test_loads_every_tensor(tmp_path: Path, save: Callable[[dict[str, torch.Tensor], Path], Path]) -> None:
    source, target = network(0), network(1)
    said = load_weights(target, str(save(source.state_dict(), tmp_path / "w")))
    count = sum(not name.endswith("num_batches_tracked") for name in source.state_dict())
    assert f"{count} of {count} tensors loaded" in said
    for name, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], value), name


def test_says_what_does_not_fit(tmp_path: Path) -> None:
    state = network(0, num_classes=7).state_dict()
    state.pop("sem_seg_head.p2.0.weight")
    said = load_weights(network(1), str(save_pth(state, tmp_path / "w")))
    assert "not in the file: sem_seg_head.p2.0.weight" in said
    assert "of another shape: sem_seg_head.predictor.weight, sem_seg_head.predictor.bias" in said


class Evil:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (Path.touch, (Path("evil"),))  # type: ignore[return-value]


@pytest.mark.parametrize("suffix", [".pkl", ".pth"])
def test_no_file_runs_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    monkeypatch.chdir(tmp_path)
    data = {"model": {"a": np.zeros(1), "b": Evil()}, "__author__": "x"}
    path = tmp_path / f"w{suffix}"
    path.write_bytes(pickle.dumps(data)) if suffix == ".pkl" else torch.save(data, path)
    with pytest.raises(CheckpointError, match=r"cannot be read: it (asks for|holds a)"):
        load_weights(network(0), str(path))
    assert not Path("evil").exists()


def test_refuses_files(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.pth do not exist"):
        load_weights(network(0), str(tmp_path / "none.pth"))
    (tmp_path / "torn.pth").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_weights(network(0), str(tmp_path / "torn.pth"))
    torch.save({"model": {"encoder.weight": torch.zeros(3)}}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"nothing in .* fits this network.*encoder\.weight"):
        load_weights(network(0), str(tmp_path / "other.pth"))


def test_warns_where_frozen_layers_would_stay_random() -> None:
    warning = warn_of_frozen_random(load_config(ZOO, {}))
    assert warning is not None
    assert "MODEL.BACKBONE.FREEZE_AT 2 and MODEL.RESNETS.NORM FrozenBN" in warning
    assert warn_of_frozen_random(load_config(ZOO, TINY_OVERRIDES)) is None
    regnet = {"MODEL.BACKBONE.NAME": "build_regnet_fpn_backbone"}
    warning = warn_of_frozen_random(load_config(ZOO, regnet))
    assert warning is not None
    assert "FREEZE_AT 2 would keep them random: set MODEL.BACKBONE.FREEZE_AT 0 and MODEL.REGNET.NORM BN" in warning
    assert warn_of_frozen_random(load_config(ZOO, {**regnet, "MODEL.BACKBONE.FREEZE_AT": 0})) is None
    assert warn_of_frozen_random(load_config(ZOO, {"MODEL.BACKBONE.NAME": "build_swin_fpn_backbone"})) is None
