"""Networks for other bands than RGB as files: the image is what is stored, of its own type."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import yaml
from torch import Tensor

from lightning_seg.export import main
from lightning_seg.exporting.images import Kind, odd_sizes
from lightning_seg.exporting.running import ExportedNetwork, read_metadata
from lightning_seg.inference.whole import label_maps
from lightning_seg.module import SegmentationModule
from tests.banded import BANDS, MEAN, NAMES, STD, data_set, module_of, pixels_of, saved, unit
from tests.conftest import folder

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.runs]  # exports networks: some seconds each


def images_of(dtype: str) -> Tensor:
    """(2, 4, 61, 45) as stored."""
    return torch.stack([torch.from_numpy(pixels_of(61, 45, dtype, seed)).permute(2, 0, 1) for seed in (0, 1)])


def labels_of(module: SegmentationModule, images: Tensor) -> Tensor:
    size = (images.shape[2], images.shape[3])
    with torch.no_grad():
        scores = module.segmentor.evaluate([{"image": one} for one in images]).scores
    return torch.stack(label_maps(scores, [size] * len(images), [size] * len(images)))


FILES = [(".onnx", "uint16"), (".pt2", "float32"), (".onnx", "float32"), (".pt2", "uint16"), (".onnx", "int16")]


@pytest.mark.parametrize(
    ("suffix", "dtype"), [pytest.param(*one, marks=pytest.mark.slow if FILES.index(one) > 1 else ()) for one in FILES]
)
def test_the_file_takes_what_is_stored(suffix: str, dtype: str, tmp_path: Path) -> None:
    file = tmp_path / f"a{suffix}"
    assert main(["--ckpt_path", str(saved(tmp_path / "m.ckpt", dtype)), "--output", str(file)]) == 0
    said = read_metadata(file)
    assert (said.channels, said.dtype) == (("band 4", "band 3", "band 2", "band 1"), dtype)
    certificate = json.loads((tmp_path / f"a{suffix}.parity.json").read_text())
    assert certificate["passed"] is True
    assert len(certificate["trials"]) == 12
    network, images = ExportedNetwork(file), images_of(dtype)
    expected = labels_of(module_of(dtype), images)
    assert len(expected.unique()) > 1
    assert torch.equal(network(images).mask, expected)
    for other in (images.double(), images[:, :3], torch.zeros(2, 4, 61, 45, dtype=torch.uint8)):
        with pytest.raises(ValueError, match=rf"but {dtype} \(N, 4, H, W\) is needed"):
            network(other)
    if suffix == ".onnx":
        image = onnx.load(file).graph.input[0].type.tensor_type
        assert image.elem_type == onnx.TensorProto.DataType.Value(dtype.upper().replace("FLOAT32", "FLOAT"))
        assert image.shape.dim[1].dim_value == 4


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_8_bits_take_ranges_of_the_bands(dtype: str, tmp_path: Path) -> None:
    """Ranges are those of what is computed; the image itself stays of its type."""
    data_set(tmp_path / "val", dtype)
    saved(tmp_path / "run/checkpoints/last.ckpt", dtype)
    data = {"root": str(tmp_path), "classes": NAMES, "bands": BANDS, "train": folder("val"), "val": folder("val")}
    (tmp_path / "run/config.yaml").write_text(yaml.safe_dump({"data": data}))
    file = tmp_path / "a.onnx"
    assert main(["--ckpt_path", str(tmp_path / "run"), "--output", str(file), "--int8", "--max_drop", "100"]) == 0
    assert b"QuantizeLinear" in file.read_bytes()
    assert (read_metadata(file).precision, read_metadata(file).dtype) == ("int8", dtype)
    found, images = ExportedNetwork(file)(images_of(dtype)).mask, images_of(dtype)
    expected = labels_of(module_of(dtype), images)
    assert len(expected.unique()) > 1
    assert (found == expected).float().mean() > 0.9
    certificate = json.loads((tmp_path / "a.onnx.parity.json").read_text())
    assert abs(certificate["mIoU_float32"] - certificate["mIoU_int8"]) < 10


def test_detectron2_alone_takes_the_bands_as_they_are(tmp_path: Path) -> None:
    from detectron2.engine import DefaultPredictor

    from lightning_seg.models.config import default_config

    file = tmp_path / "a.pth"
    assert main(["--ckpt_path", str(saved(tmp_path / "m.ckpt", "uint16")), "--output", str(file)]) == 0
    text = (tmp_path / "a.yaml").read_text()
    assert "DefaultPredictor(cfg)(image_of_height_width_bands)" in text
    cfg = default_config()
    cfg.merge_from_file(str(tmp_path / "a.yaml"))
    pixels = pixels_of(61, 45, "uint16")
    found = DefaultPredictor(cfg)(pixels)["sem_seg"].argmax(0)
    assert torch.equal(found, labels_of(module_of("uint16"), images_of("uint16")[:1])[0].long())


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
def test_noise_is_like_the_data(dtype: str) -> None:
    mean, std = (torch.tensor(given)[:, None, None] * unit(dtype) for given in (MEAN, STD))
    largest = next(one for one in odd_sizes([], Kind(getattr(torch, dtype), mean, std)) if one.pixels.shape[-1] == 352)
    assert largest.pixels.dtype == getattr(torch, dtype)
    values = largest.pixels.float()
    assert np.allclose(values.mean((0, 2, 3)), mean.flatten(), atol=0.5 * float(std.max()))
    assert (values.std((0, 2, 3)) > 0.5 * std.flatten()).all()
