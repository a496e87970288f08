"""The channels and types of the images meet those of the network before a run reads the first image."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lightning_seg.cli import main
from lightning_seg.errors import ConfigError
from lightning_seg.module import SegmentationModule
from lightning_seg.structures import DatasetInfo
from tests.conftest import CLASSES, TINY_OVERRIDES
from tests.models.test_bands import PIXELS

ZOO = "Misc/semantic_R_50_FPN_1x.yaml"


def module_of(**overrides: Any) -> SegmentationModule:
    keys = {name.replace("__", "."): value for name, value in overrides.items()}
    return SegmentationModule(ZOO, CLASSES, overrides={**TINY_OVERRIDES, **keys}, weights="")


def data_of(channels: int, dtype: str = "uint8") -> Any:
    return SimpleNamespace(info=DatasetInfo(tuple(CLASSES), 255, ((0, 0, 0),) * len(CLASSES), channels, dtype))


@pytest.mark.parametrize("command", ["fit", "predict"])
def test_a_command_refuses_another_number_of_channels_with_the_audit_of_its_config(
    command: str, experiment: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = experiment()
    given = [f"--model.overrides.{key}={value}" for key, value in PIXELS.items()]
    with pytest.raises(SystemExit) as caught:
        main([command, "--config", str(config), *given, *(["--data.predict", "."] if command == "predict" else [])])
    assert caught.value.code == 1
    error = capsys.readouterr().err
    assert "MODEL.PIXEL_MEAN has 4 values, but the network gets every image with 3 channels, also a grey one" in error
    assert f"name the bands to read in data.bands (python -m lightning_seg.audit --config {config}" in error
    assert "Traceback" not in error
    assert not (tmp_path / "runs").exists()


def test_a_trainer_of_ones_own_refuses_too() -> None:
    message = (
        r"gets every image with 4 channels \(data\.bands\), but MODEL\.PIXEL_MEAN has 3 values: `python -m "
        r"lightning_seg\.audit --config …` prints the lines of MODEL\.PIXEL_MEAN and MODEL\.PIXEL_STD for model\.overr"
    )
    with pytest.raises(ConfigError, match=message):
        module_of().meet_data(data_of(4))
    module_of(**{name.replace(".", "__"): value for name, value in PIXELS.items()}).meet_data(data_of(4, "uint16"))
    module_of().meet_data(None)


@pytest.mark.parametrize(
    ("mean", "dtype", "warns"),
    [
        (None, "uint16", True),
        ([123.675, 116.28, 103.53], "float32", True),
        (None, "uint8", False),
        ([900.0, 800.0, 700.0], "uint16", False),
    ],
)
def test_the_mean_of_bytes_is_named_where_the_images_hold_more(
    mean: list[float] | None, dtype: str, warns: bool, recwarn: pytest.WarningsRecorder
) -> None:
    module = module_of(**({} if mean is None else {"MODEL__PIXEL_MEAN": mean}))
    recwarn.clear()
    module.meet_data(data_of(3, dtype))
    told = [str(one.message) for one in recwarn if "ImageNet's bytes" in str(one.message)]
    assert len(told) == warns
    assert all(f"the images hold {dtype}, but MODEL.PIXEL_MEAN is that of ImageNet's bytes" in one for one in told)


def test_forward_takes_the_type_of_the_data_alone() -> None:
    module = module_of(**{name.replace(".", "__"): value for name, value in PIXELS.items()}).eval()
    module.meet_data(data_of(4, "uint16"))
    images = torch.full((2, 4, 33, 47), 700, dtype=torch.uint16)
    with torch.no_grad():
        assert module(images).shape == (2, 33, 47)
    for other in (images.float(), images[:, :3], images[0]):
        with pytest.raises(ValueError, match=r"but uint16 \(N, 4, H, W\) is needed"):
            module(other)
