"""Switches do what they say when a user sets them: through the command, each is seen at work, not only accepted."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from lightning_seg.cli import main
from lightning_seg.data.reading import turbojpeg
from lightning_seg.inference import kernel
from lightning_seg.inference.kernel import just_in_time
from lightning_seg.module import SegmentationModule
from tests.conftest import write_pair
from tests.models.networks import SMALLEST

Experiment = Callable[..., Path]

pytestmark = [pytest.mark.runs, pytest.mark.usefixtures("one_thread")]

ONE_STAGE = {
    "MODEL.TIMM.OUT_INDICES": [1],
    "MODEL.SEM_SEG_HEAD.IN_FEATURES": ["stage2"],
    "MODEL.SEM_SEG_HEAD.COMMON_STRIDE": 4,
}
"""Each kernel takes a second to compile."""
SMALL = [text for key, value in {**SMALLEST, **ONE_STAGE}.items() for text in (f"--model.overrides.{key}", str(value))]
STEPS = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2"]


class Witness(pl.Callback):
    """Keeps what a training made and how its features lie in memory."""

    def __init__(self) -> None:
        self.weights: dict[str, Tensor] = {}
        self.validation: dict[str, float] = {}
        self.channels_last: dict[bool, list[bool]] = {True: [], False: []}  # by whether the network is trained

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, SegmentationModule)
        pl_module.segmentor.network.backbone.register_forward_hook(
            lambda backbone, inputs, features: self.channels_last[backbone.training].extend(
                tensor.is_contiguous(memory_format=torch.channels_last)
                for tensor in (*inputs, *features.values())
                if tensor.shape[-1] > 1  # one column lies in memory as both formats say
            )
        )

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.weights = {name: value.clone() for name, value in pl_module.state_dict().items()}
        self.validation = {
            name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")
        }


@pytest.fixture
def watch(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Witness]:
    """Train the small experiment with some options, and return what there was to see."""

    def train(*options: str) -> Witness:
        witness = Witness()
        monkeypatch.setattr(SegmentationModule, "configure_callbacks", lambda self: [witness])
        main(["fit", "--config", str(experiment()), *STEPS, *options])
        return witness

    return train


def test_compile(
    watch: Callable[..., Witness], capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    """Training and validation run in compiled graphs, to the same weights and figures."""
    plain = watch(*SMALL)
    assert not counters["stats"]["unique_graphs"]
    compiled = watch(*SMALL, "--model.compile", "true")
    if any("InvalidCxxCompiler" in str(warning.message) for warning in recwarn):
        pytest.skip("there is no working C++ compiler")
    assert not [str(warning.message) for warning in recwarn if "model.compile" in str(warning.message)]
    assert counters["stats"]["unique_graphs"] >= 4  # backbone and head, in training and in evaluation
    assert compiled.weights.keys() == plain.weights.keys()
    for name, value in plain.weights.items():
        torch.testing.assert_close(compiled.weights[name], value, rtol=1e-3, atol=1e-4, msg=name)
    assert compiled.validation["val/loss"] == pytest.approx(plain.validation["val/loss"], rel=1e-3)


@pytest.fixture(autouse=True)
def nothing_compiled_before() -> None:
    torch._dynamo.reset()
    counters.clear()


@pytest.mark.parametrize("switch", ["true", "false"])
def test_channels_last(watch: Callable[..., Witness], switch: str) -> None:
    seen = watch("--model.channels_last", switch).channels_last
    assert len(seen[True]) >= 2 * 2
    assert set(seen[True]) == {switch == "true"}
    assert set(seen[False]) == {True}  # an evaluation on a CPU


def test_the_kernel_of_the_evaluation_compiles(watch: Callable[..., Witness], monkeypatch: pytest.MonkeyPatch) -> None:
    """In a validation that is worth it."""
    monkeypatch.setattr(kernel, "_SMALLEST", 1)
    monkeypatch.setattr(just_in_time, "threshold", 0)
    monkeypatch.setattr(just_in_time, "_compiled", None)
    monkeypatch.setattr(just_in_time, "failed", False)
    watch()
    if just_in_time.failed:
        pytest.skip("there is no working C++ compiler")
    assert just_in_time._compiled is not None
    assert counters["stats"]["unique_graphs"] == 2


def test_of_a_jpeg_only_what_the_crop_shows_is_decoded(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where RandomScaleCrop comes first, and libjpeg-turbo 3 is there."""
    for number in range(4):
        write_pair(tmp_path / "jpegs/train", str(number), np.full((96, 128), number, np.uint8))
        write_pair(tmp_path / "jpegs/val", str(number), np.full((96, 128), number, np.uint8))
    parts: list[tuple[slice, slice]] = []
    decode_part = turbojpeg.decode_part

    def watched(data: bytes, rows: slice, columns: slice) -> Any:
        pixels = decode_part(data, rows, columns)
        if pixels is not None:
            parts.append((rows, columns))
        return pixels

    monkeypatch.setattr(turbojpeg, "decode_part", watched)
    crop = {"class_path": "lightning_seg.data.RandomScaleCrop", "init_args": {"height": 32, "width": 32}}
    config = experiment(root=str(tmp_path / "jpegs"), train_transforms=[crop])
    main(["fit", "--config", str(config), "--trainer.max_epochs", "1", "--trainer.limit_val_batches", "0"])
    if turbojpeg.decode_whole(next((tmp_path / "jpegs/train/images").iterdir()).read_bytes()) is None:
        pytest.skip("libjpeg-turbo 3 is not installed")
    assert len(parts) >= 4  # the quick look before the run reads whole images
    assert all(rows.stop - rows.start < 96 or columns.stop - columns.start < 128 for rows, columns in parts)


def test_a_refusal_of_torch_compile_itself_is_loud(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of this project must not pass for a machine without a compiler."""

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("Unexpected optimization option")

    monkeypatch.setattr(torch, "compile", refuse)
    with pytest.raises(RuntimeError, match="Unexpected optimization option"):
        main(["fit", "--config", str(experiment()), *STEPS, "--model.compile", "true"])


def test_what_has_no_deterministic_form_is_named(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In torch's words, which only a GPU gives."""

    def refuse(*_: Any) -> Tensor:
        raise RuntimeError("nll_loss2d_forward_out_cuda_template does not have a deterministic implementation, but …")

    monkeypatch.setattr(SegmentationModule, "training_step", refuse)
    with pytest.raises(SystemExit):
        main(["fit", "--config", str(experiment()), *STEPS, "--trainer.deterministic", "true"])
    assert "error: trainer.deterministic is true, but nll_loss2d_forward_out_cuda_t" in capsys.readouterr().err
    torch.use_deterministic_algorithms(False)
