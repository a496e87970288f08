"""A model of bands predicts from files, arrays and tensors of them, by windows, exported and over HTTP."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import lightning_seg
from lightning_seg import Predictor
from lightning_seg.data.reading import ReadingRules, read_image
from lightning_seg.data.reading.display import as_shown
from lightning_seg.errors import DataError, UnfitImageError
from lightning_seg.geo.windows import WindowedImage
from lightning_seg.inference import Augmented, SlidingWindow
from lightning_seg.inference.whole import label_maps
from tests.banded import BANDS, MEAN, file_of, module_of, pixels_of, saved
from tests.serving import predict, served

pytestmark = pytest.mark.usefixtures("one_thread")

TYPES = ["uint16", "float32"]


@pytest.fixture(scope="module", params=TYPES)
def dtype(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def predictor(dtype: str, tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return lightning_seg.load(saved(tmp_path_factory.mktemp("model") / "m.ckpt", dtype), "cpu")


def labels_of(pixels: Any, dtype: str) -> Any:
    image, segmentor = torch.from_numpy(pixels).permute(2, 0, 1), module_of(dtype).segmentor
    with torch.no_grad():
        scores = segmentor.evaluate([{"image": image}]).scores
    return label_maps(scores, [pixels.shape[:2]], [pixels.shape[:2]])[0].numpy()


def test_a_file_an_array_and_a_tensor_give_the_same(predictor: Predictor, dtype: str, tmp_path: Path) -> None:
    pixels = pixels_of(61, 45, dtype)
    path = file_of(tmp_path / "a.tif", pixels)
    expected = labels_of(pixels, dtype)
    assert len(np.unique(expected)) > 1
    results = predictor([path, pixels, torch.from_numpy(pixels).permute(2, 0, 1)])
    for result in results:
        assert np.array_equal(result.mask, expected)
        assert np.array_equal(result.image, pixels)
        assert result.image.dtype == dtype
    assert results[0].probabilities.shape == (3, 61, 45)
    results[0].save(tmp_path / "out")
    assert sorted(file.name for file in (tmp_path / "out").rglob("*.*")) == ["a.jpg", "a.tif"]
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out/masks/a.tif")), expected)


def test_pictures_show_the_first_three_bands_stretched(predictor: Predictor, dtype: str) -> None:
    result = predictor(pixels_of(61, 45, dtype))
    picture = np.asarray(result.overlay(opacity=0))
    for band in range(3):
        low, high = np.percentile(result.image[..., band], (2, 98))
        expected = np.clip((result.image[..., band].astype(float) - low) / (high - low) * 255, 0, 255)
        assert np.abs(picture[..., band] - expected).max() < 0.51


def test_shows_the_display_bands_or_grey() -> None:
    pixels = pixels_of(9, 8)
    rules = ReadingRules(bands=(4, 3, 2, 1), display_bands=(1, 4, 3))
    assert np.array_equal(as_shown(pixels, rules), as_shown(pixels[..., [3, 0, 1]], ReadingRules(bands=(1, 2, 3))))
    grey = as_shown(pixels, ReadingRules(bands=(4, 3, 2, 1), display_bands=(2,)))
    assert np.array_equal(grey, as_shown(pixels[..., 2:3], ReadingRules(bands=(7,))))
    assert (grey == grey[..., :1]).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            np.zeros((8, 9, 4), np.uint8),
            r"an array of shape \(8, 9, 4\) uint8, but \(H, W, 4\) TYPE \(bands 4, 3, 2, 1",
        ),
        (np.zeros((8, 9, 5), np.uint16), r"shape \(8, 9, 5\) uint16, but \(H, W, 4\) TYPE \(bands 4, 3, 2, 1\)"),
        (np.zeros((4, 9, 8), np.float32), "is needed: move the channels to the end"),
        (
            torch.zeros(9, 8, 4),
            r"tensor of shape \(9, 8, 4\) float32, but \(4, H, W\) TYPE .*: move the channels to the f",
        ),
        (np.zeros((8, 9), np.float32), r"shape \(8, 9\) float32, but"),
        (
            Image.new("RGB", (8, 9)),
            r"PIL image, which does not hold bands .* but a path, an \(H, W, 4\) TYPE .* array or",
        ),
        (7, r"of type int, but a path, an \(H, W, 4\) TYPE \(bands 4, 3, 2, 1\) array or a \(4, H, W\) TYPE"),
    ],
)
def test_refuses_other_bands(predictor: Predictor, dtype: str, given: Any, message: str) -> None:
    with pytest.raises(DataError, match=message.replace("TYPE", dtype)):
        predictor(given)


def test_refuses_files_of_another_type(predictor: Predictor, dtype: str, tmp_path: Path) -> None:
    other = "float32" if dtype == "uint16" else "uint16"
    path = file_of(tmp_path / "a.tif", pixels_of(20, 30, other))
    with pytest.raises(UnfitImageError, match=rf"has 5 bands of {other}, but the images .* are read as {dtype}"):
        predictor(path)


def test_floats_of_64_bits_are_read_as_files_of_them() -> None:
    from lightning_seg.data.reading.given import read_given, refuse_given

    rules = ReadingRules(bands=(1, 2), dtype="float32", fill=(5.0, 6.0))
    given = np.arange(12.0).reshape(2, 3, 2)
    given[1, 2] = [np.nan, 3.0]
    refuse_given(given, rules)
    found = read_given(given, rules)
    assert found.dtype == np.float32
    assert found[1, 2].tolist() == [5.0, 6.0]
    assert np.array_equal(found[0], given[0])
    assert np.isnan(given[1, 2, 0])  # the caller's own
    tensor = torch.from_numpy(given).permute(2, 0, 1)
    assert np.array_equal(read_given(tensor.bfloat16(), rules), found)
    with pytest.raises(DataError, match=r"but \(H, W, 2\) uint16 .*: convert values to the units that"):
        refuse_given(given, ReadingRules(bands=(1, 2), dtype="uint16"))
    with pytest.raises(DataError, match=r"float64, but .* uint8"):  # nothing maps its values to bytes
        refuse_given(given, ReadingRules(ranges=((0.0, 9.0),), bands=(1, 2), dtype="uint8"))


LAYOUTS: dict[str, dict[str, Any]] = {
    "strips": {},
    "tiles": {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"},
    "planes": {"interleave": "band", "compress": "lzw"},
    "nodata": {"nodata": 0},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_windows_have_the_pixels_of_the_whole_file(layout: str, dtype: str, tmp_path: Path) -> None:
    pixels = pixels_of(131, 97, dtype)
    pixels[20:50, 30:70] = 0
    if dtype == "float32":
        pixels[3, 5, 1] = np.nan
    path = file_of(tmp_path / "a.tif", pixels, **LAYOUTS[layout])
    rules = ReadingRules(bands=tuple(BANDS), dtype=dtype, fill=tuple(MEAN))
    whole = read_image(path, rules)
    assert (whole[30, 40] == np.array(MEAN, dtype)).all() == (layout == "nodata")
    with WindowedImage(path, rules) as image:
        assert image.shape == (4, 131, 97)
        rows, columns = slice(2, 99), slice(5, 83)
        window = image.window(rows, columns)
        assert window.dtype == getattr(torch, dtype)
        assert np.array_equal(window.permute(1, 2, 0).numpy(), whole[rows, columns])
        absent = image.nodata(rows, columns)
        expected = np.zeros((131, 97), bool)
        expected[20:50, 30:70] = layout == "nodata"
        expected[3, 5] = dtype == "float32"
        found = np.zeros_like(expected[rows, columns]) if absent is None else absent
        assert np.array_equal(found, expected[rows, columns])
        shown = image.preview(60)
        assert (shown.shape, shown.dtype) == ((60, 44, 3), np.uint8)


def test_bands_in_pages_have_no_windows(tmp_path: Path) -> None:
    pages = [Image.fromarray(pixels_of(20, 30)[..., band]) for band in range(3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    rules = ReadingRules(bands=(1, 3))
    assert read_image(tmp_path / "a.tif", rules).shape == (20, 30, 2)
    with pytest.raises(UnfitImageError, match="has 3 pages, which cannot be read by windows"):
        WindowedImage(tmp_path / "a.tif", rules)


def test_windows_and_views_of_an_image_keep_its_type(dtype: str, tmp_path: Path) -> None:
    pixels = pixels_of(70, 90, dtype)
    path = file_of(tmp_path / "a.tif", pixels)
    module = module_of(dtype).eval()
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    seen: set[torch.dtype] = set()

    def ask(batch: Any) -> Any:
        seen.update(item["image"].dtype for item in batch)
        return module.segmentor.evaluate(batch)

    way = Augmented([0.5, 1.0], of=SlidingWindow([40, 40]))
    with WindowedImage(path, ReadingRules(bands=tuple(BANDS), dtype=dtype)) as image:
        from_file, from_memory = (way.probabilities(ask, [{"image": one}])[0] for one in (image, tensor))
    assert seen == {getattr(torch, dtype)}
    assert torch.equal(from_file, from_memory)
    assert torch.allclose(from_file.sum(0), torch.ones(70, 90), atol=1e-5)


@pytest.fixture(scope="module")
def port(predictor: Predictor) -> Iterator[int]:
    network: Any = predictor._network
    network.go = threading.Event()
    with served(network) as (port, _):
        yield port


def test_a_server_takes_files_of_bands(port: int, predictor: Predictor, dtype: str, tmp_path: Path) -> None:
    pixels = pixels_of(40, 50, dtype)
    expected = predictor(pixels).mask
    path = file_of(tmp_path / "a.tif", pixels)
    assert np.array_equal(predict(port, path.read_bytes()).mask, expected)
    stored = np.zeros((40, 50, 4), dtype)
    stored[..., [band - 1 for band in BANDS]] = pixels
    np.save(tmp_path / "a.npy", stored)
    assert np.array_equal(predict(port, (tmp_path / "a.npy").read_bytes()).mask, expected)
    picture = predict(port, path.read_bytes(), Accept="image/jpeg")
    assert (picture.status, picture.headers["content-type"]) == (200, "image/jpeg")


def test_a_server_names_the_bands_that_are_missing(port: int, dtype: str, tmp_path: Path) -> None:
    Image.new("RGB", (9, 8)).save(tmp_path / "a.png")
    answer = predict(port, (tmp_path / "a.png").read_bytes())
    assert answer.status == 422
    assert b"has 3 bands of uint8, but data.bands asks for band 4" in answer.body


@pytest.mark.runs
def test_an_exported_file_says_what_it_takes(tmp_path: Path) -> None:
    from lightning_seg.export import main

    dtype = "uint16"
    checkpoint, file = saved(tmp_path / "m.ckpt", dtype), tmp_path / "a.pt2"
    images = tmp_path / "images"
    images.mkdir()
    pixels = pixels_of(61, 45, dtype)
    file_of(images / "a.tif", pixels)
    given = ["--ckpt_path", str(checkpoint), "--output", str(file), "--images", str(images)]
    assert main(given) == 0
    predictor = lightning_seg.load(file)
    assert np.array_equal(predictor(images / "a.tif").mask, labels_of(pixels, dtype))
    with pytest.raises(DataError, match=rf"\(H, W, 4\) {dtype} \(bands 4, 3, 2, 1\) is needed"):
        predictor(pixels[..., :3])


def test_the_command_predict_reads_the_bands_of_an_exported_file(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from lightning_seg.colours import default_palette
    from lightning_seg.data import SegmentationDataModule
    from lightning_seg.data.evaluation import EvaluationImages
    from lightning_seg.errors import CheckpointError
    from lightning_seg.running.exported import ExportedModule
    from lightning_seg.structures import DatasetInfo

    info = DatasetInfo(("a", "b"), 255, default_palette(2), 2, "uint16")
    rules = ReadingRules(bands=(4, 3), dtype="uint16")
    network = SimpleNamespace(images=EvaluationImages(info, rules=rules))
    monkeypatch.setattr("lightning_seg.trained.file_network.FileNetwork", lambda *_: network)
    for bands, expected in ((None, rules), ([7, 2], ReadingRules(bands=(7, 2), dtype="uint16"))):
        data = SegmentationDataModule(["a", "b"], bands=bands)
        ExportedModule(["a", "b"]).open(Path("a.onnx"), data, on_cpu=True)
        assert (data.rules, data.info) == (expected, info)
    with pytest.raises(CheckpointError, match=r"a\.onnx takes images of 2 channels, but data\.bands names 3: leave"):
        ExportedModule(["a", "b"]).open(
            Path("a.onnx"), SegmentationDataModule(["a", "b"], bands=[1, 2, 3]), on_cpu=True
        )
