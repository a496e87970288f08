"""What is written to a checkpoint can be read again, as it was; what could not be is refused before a step."""

import argparse
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from lightning_seg.checkpoints.writing import DurableCheckpointIO
from lightning_seg.cli import main
from lightning_seg.errors import CheckpointError
from lightning_seg.module import SegmentationModule
from tests.conftest import CLASSES, TINY_OVERRIDES


class Mode(enum.Enum):
    FAST = 1


class Level(enum.IntEnum):
    LOW = 1


@dataclasses.dataclass
class Record:
    value: int = 1


Pair = collections.namedtuple("Pair", "a b")

NOW = datetime.datetime(2024, 2, 29, 1, 2, 3, 4, tzinfo=datetime.timezone.utc)
SAME = [
    None, True, 3, 2**100, float("inf"), 1j, "a", b"a", bytearray(b"a"), (1, (2,)), [1, [2]], {1: {"a": 2}}, {1, 2},
    frozenset({1}), Path("a/b"), NOW, NOW.date(), NOW.time(), datetime.timedelta(1.5), decimal.Decimal("1.5"),
    fractions.Fraction(1, 3), collections.OrderedDict(b=1, a=2), collections.Counter("aab"), torch.Size([1, 2]),
    torch.float16, torch.device("cpu"), np.random.default_rng(0).bit_generator.state,
]  # fmt: skip
SCALARS = [
    np.float64(1.1), np.float32(1.5), np.float16(1.5), np.int64(3), np.uint8(3), np.bool_(True), np.str_("a"),
    np.bytes_(b"a"), np.complex128(1j), np.datetime64(NOW.replace(tzinfo=None)), np.timedelta64(3, "s"),
]  # fmt: skip
ARRAYS = [
    np.arange(4.0), np.zeros((0, 2), np.uint8), np.array(1.5, np.float16), np.arange(6).reshape(2, 3).T,
    np.array([True]), np.arange(3, dtype=">f4"), np.random.RandomState(0).get_state()[1],
]  # fmt: skip
REFUSED = [
    Mode.FAST, Level.LOW, Record(), Pair(1, 2), collections.defaultdict(int, {1: 2}), collections.deque([1]), range(3),
    argparse.Namespace(a=1), torch.nn.Linear(1, 1), len, np.array([1, "a"], object), np.array(["a"]), lambda: None,
]  # fmt: skip


def name(value: object) -> str:
    return f"{type(value).__name__}-{value}"[:30]


def through_disk(value: Any, path: Path) -> Any:
    io = DurableCheckpointIO()
    io.save_checkpoint({"callbacks": {"Mine": {"value": value, "others": [value, (value,)]}}}, path)
    state = io.load_checkpoint(path)["callbacks"]["Mine"]
    np.testing.assert_equal(state["others"], [state["value"], (state["value"],)])
    return state["value"]


@pytest.mark.parametrize("value", SAME, ids=name)
def test_plain_values_come_back(value: Any, tmp_path: Path) -> None:
    read = through_disk(value, tmp_path / "a.ckpt")
    assert type(read) is type(value)
    assert read == value


@pytest.mark.parametrize("value", SCALARS, ids=name)
def test_scalars_of_numpy_come_back_as_equal_ones_of_python(value: np.generic, tmp_path: Path) -> None:
    read = through_disk(value, tmp_path / "a.ckpt")
    assert type(read) is type(value.item())
    assert read == value.item()


@pytest.mark.parametrize("value", ARRAYS, ids=name)
def test_arrays_come_back(value: np.ndarray, tmp_path: Path) -> None:
    read = through_disk(value, tmp_path / "a.ckpt")
    assert isinstance(read, np.ndarray)
    assert read.dtype == value.dtype.newbyteorder("=")
    np.testing.assert_array_equal(read, value)


@pytest.mark.parametrize("value", REFUSED, ids=name)
def test_what_could_not_be_read_is_not_written(value: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    through_disk(1, path)
    kind = rf"{type(value).__module__}.{type(value).__qualname__}"
    with pytest.raises(
        CheckpointError, match=rf"could not be read again: in it, callbacks → Mine → value is a {kind}\."
    ):
        through_disk(value, path)
    assert DurableCheckpointIO().load_checkpoint(path)["callbacks"]["Mine"]["value"] == 1
    assert list(tmp_path.iterdir()) == [path]


def test_keys_are_values_too_and_tensors_are_not_copied(tmp_path: Path) -> None:
    assert through_disk({np.str_("a"): {np.int64(1): np.float64(2)}}, tmp_path / "a.ckpt") == {"a": {1: 2.0}}
    weights = collections.OrderedDict(a=torch.ones(1))
    weights._metadata = {"": 1}  # type: ignore[attr-defined]  # as torch's own
    assert DurableCheckpointIO()
    read = through_disk(weights, tmp_path / "a.ckpt")
    assert read._metadata == {"": 1}
    assert torch.equal(read["a"], weights["a"])


class Watches(pl.Callback):
    """Has a state of NumPy's, or one that cannot be read."""

    def __init__(self, wrong: bool) -> None:
        self.best: Any = Mode.FAST if wrong else np.float64(0.5)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]


def test_a_callbacks_state_is_read_again_or_refused_before_a_step(
    experiment: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fit(callback: Watches, steps: int) -> None:
        monkeypatch.setattr(SegmentationModule, "configure_callbacks", lambda _: [callback])
        main([
            "fit", "--config", str(config), "--ckpt_path", "last", "--trainer.max_steps", str(steps),
            "--trainer.limit_val_batches", "0",
        ])  # fmt: skip

    config = experiment()
    with pytest.raises(SystemExit):
        fit(Watches(wrong=True), 1)
    error = (
        "error: a checkpoint could not be read again: in it, callbacks → Watches → best is a tests.test_checkpoint_io"
    )
    assert error in capsys.readouterr().err
    assert not Path("runs").exists()
    fit(first := Watches(wrong=False), 1)
    fit(second := Watches(wrong=False), 2)
    assert (first.best, second.best) == (0.5, 0.5)
    assert type(second.best) is float


def test_settings_of_other_types_are_kept_as_plain_ones(tmp_path: Path) -> None:
    names = list(np.array(CLASSES))
    weights = tmp_path / "w.ckpt"
    make = {"class_names": names, "overrides": dict(TINY_OVERRIDES), "weights": weights}
    module = SegmentationModule("Misc/semantic_R_50_FPN_1x.yaml", **make)
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(module)
    trainer.save_checkpoint(weights, weights_only=True)  # by Lightning's own plugin
    module.load_pretrained()
    read = SegmentationModule.load_from_checkpoint(weights, map_location="cpu")
    assert [type(value) for value in read.hparams.class_names] == [str] * len(CLASSES)
    assert (read.hparams.class_names, read.hparams.weights) == (CLASSES, str(weights))
