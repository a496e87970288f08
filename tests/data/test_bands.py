"""Data sets of bands: the windows of crops, pixels without data, masks as GeoTIFFs, and their places."""

from pathlib import Path
from typing import Any

import albumentations as A
import numpy as np
import pytest
import pytorch_lightning as pl
import rasterio
import torch
from PIL import Image
from rasterio.transform import from_origin

from lightning_seg.data import Folder, MaskPerClass, RandomScaleCrop, SegmentationDataModule
from lightning_seg.data.archives.member import Member
from lightning_seg.data.evaluation import restore_evaluation
from lightning_seg.data.loading.sampler import Draw
from lightning_seg.data.reading import geotiff, read_mask
from lightning_seg.data.reading.grid import grid_problem
from lightning_seg.errors import DataError, LossyMaskError, UnfitImageError, UnreadableError
from lightning_seg.module import SegmentationModule
from tests.conftest import TINY_OVERRIDES
from tests.data.archiving import archived
from tests.geo.rasters import TURNED, UTM, regions, write

CLASSES = ["water", "meadow", "road"]
SIZE = (150, 170)
TILES = {"tiled": True, "blockxsize": 32, "blockysize": 32, "compress": "deflate"}


def made(folder: Path, form: str = "tif", mask_form: str = "tif", number: int = 3, **options: Any) -> Path:
    """Images of 4 bands of uint16 and masks; equal for any form."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for index in range(number):
        pixels = np.random.default_rng(index).integers(1, 4000, (4, *SIZE)).astype(np.uint16)
        labels = regions(*SIZE, seed=index)
        if form == "tif":
            write(folder / f"images/{index}.tif", pixels, **TILES, **UTM, **options)
        else:
            np.save(folder / f"images/{index}.npy", pixels.transpose(1, 2, 0))
        if mask_form == "tif":
            write(folder / f"masks/{index}.tif", labels[None], **TILES, **UTM)
        elif mask_form == "npy":
            np.save(folder / f"masks/{index}.npy", labels.astype(np.int64))
        else:
            Image.fromarray(labels).save(folder / f"masks/{index}.png")
    return folder


def module(folder: Path, suffix: str = ".tif", mask: str = ".tif", **settings: Any) -> SegmentationDataModule:
    reader = Folder(f"{folder}/images", f"{folder}/masks", mask_name="{stem}" + mask, image_suffixes=[suffix])
    settings = {"bands": [4, 2, 1], "num_workers": 0, "batch_size": 1, "seed": 3, **settings}
    return SegmentationDataModule(CLASSES, reader, reader, **settings)


def draws(data: SegmentationDataModule, number: int = 24) -> list[tuple[torch.Tensor, torch.Tensor]]:
    data.setup("fit")
    train = data.datasets["train"]
    items = [train[Draw(index % 3, 0, index)] for index in range(number)]
    return [(item["image"], item["sem_seg"]) for item in items]


def assert_equal(one: Any, other: Any) -> None:
    for (image, mask), (other_image, other_mask) in zip(one, other, strict=True):
        assert image.dtype == other_image.dtype
        assert torch.equal(image.view(torch.uint8), other_image.view(torch.uint8))
        assert torch.equal(mask, other_mask)


CROPS = [
    {},
    {"scale_limits": (1.0, 1.0)},
    {"scale_limits": (0.3, 0.5)},
    {"interpolation": 0},
    {"p": 0.5},
    {"max_fraction": 0.7},
]


@pytest.mark.parametrize("crop", CROPS, ids=str)
@pytest.mark.parametrize(("form", "mask"), [("tif", "tif"), ("npy", "npy"), ("tif", "png")])
def test_windows_of_crops_give_what_whole_files_give(
    tmp_path: Path, crop: dict[str, Any], form: str, mask: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(tmp_path, form, mask)
    transforms = [RandomScaleCrop(40, 48, **crop), A.HorizontalFlip()]
    by_windows = draws(module(tmp_path, f".{form}", f".{mask}", train_transforms=transforms))
    assert by_windows[0][0].shape == (3, 40, 48) or "p" in crop
    assert by_windows[0][0].dtype == torch.uint16
    cached = draws(module(tmp_path, f".{form}", f".{mask}", train_transforms=transforms, cache="ram"))
    assert_equal(by_windows, cached)


def test_masks_of_classes_are_those_of_one_file(tmp_path: Path) -> None:
    """Also where the image is read by windows; each mask lies on the grid of its image."""
    made(tmp_path)
    for path in sorted((tmp_path / "masks").iterdir()):
        with rasterio.open(path) as file:
            labels = file.read(1)
        for number, name in enumerate(CLASSES):
            (tmp_path / "classes" / name).mkdir(parents=True, exist_ok=True)
            covered = (labels == number).astype(np.uint8)[None]
            write(tmp_path / "classes" / name / path.name, covered, **TILES, **UTM)
    reader = MaskPerClass(f"{tmp_path}/images", f"{tmp_path}/classes", "{class}/{stem}.tif", rest=None)
    settings: dict[str, Any] = {"bands": [4, 2, 1], "num_workers": 0, "seed": 3}
    settings["train_transforms"] = [RandomScaleCrop(40, 48)]
    data = SegmentationDataModule(CLASSES, reader, reader, **settings)
    data.prepare_data()
    data.setup("fit")
    assert_equal(draws(data, 6), draws(module(tmp_path, train_transforms=settings["train_transforms"]), 6))
    moved = from_origin(500_010, 5_000_000, 0.5, 0.5)
    write(tmp_path / f"classes/{CLASSES[1]}/0.tif", np.zeros((1, *SIZE), np.uint8), **{**UTM, "transform": moved})
    with pytest.raises(
        DataError, match=rf"mask .*classes/{CLASSES[1]}/0\.tif begins at \(500010, 5000000\), but its image"
    ):
        draws(data, 1)


def test_only_the_window_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = module(made(tmp_path), train_transforms=[RandomScaleCrop(20, 24, scale_limits=(1.0, 1.0))])
    data.setup("fit")
    shapes = []
    read = geotiff.read_planes

    def watched(*arguments: Any) -> Any:
        planes, absent = read(*arguments)
        shapes.append((len(planes), *planes[0].shape))
        return planes, absent

    monkeypatch.setattr(geotiff, "read_planes", watched)
    draws(data, 3)
    assert shapes == [(1, 20, 24), (3, 20, 24)] * 3


class TestAbsentPixels:
    """Are the model's mean in the image, and ignored in the truth, in training and in evaluation."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        made(tmp_path, nodata=0)
        for path in sorted((tmp_path / "images").iterdir()):
            with rasterio.open(path, "r+") as file:
                pixels = file.read()
                pixels[:, 60:100, 50:120] = 0
                pixels[0, 0, 0] = pixels[2, 1, 1] = 0
                file.write(pixels)
        return tmp_path

    def trained(self, folder: Path, **settings: Any) -> SegmentationDataModule:
        reader = Folder(f"{folder}/images", f"{folder}/masks", mask_name="{stem}.tif")
        settings = {"bands": [4, 2, 1], "num_workers": 0, "batch_size": 1, **settings}
        data = SegmentationDataModule(CLASSES, reader, reader, **settings)
        mean = type("Model", (), {"image_mean": (100.0, 200.6, 300.0)})()
        data.trainer = type("T", (), {"lightning_module": mean, "world_size": 1, "global_rank": 0, "num_devices": 1})()  # type: ignore[assignment]
        data.setup("fit")
        return data

    @pytest.mark.parametrize("cache", [None, "ram"])
    def test_in_evaluation(self, folder: Path, cache: Any) -> None:
        item = self.trained(folder, cache=cache).datasets["val"][0]
        absent = np.zeros(SIZE, bool)
        absent[60:100, 50:120] = True
        for labels in (item["truth"], item["sem_seg"]):
            assert np.array_equal(labels == 255, absent)
            assert np.array_equal(np.asarray(labels)[~absent], regions(*SIZE)[~absent])
        image = item["image"].numpy()
        assert (image[:, absent].T == [100, 201, 300]).all()
        assert image[2, 0, 0] == 0  # the other bands hold something there

    @pytest.mark.parametrize("crop", [{}, {"max_fraction": 0.9}])
    def test_in_training(self, folder: Path, crop: dict[str, Any]) -> None:
        transforms = [RandomScaleCrop(100, 110, scale_limits=(1.0, 1.0), **crop)]
        data = self.trained(folder, train_transforms=transforms)
        for index in range(9):
            item = data.datasets["train"][Draw(index % 3, 0, index)]
            filled = (item["image"].to(torch.int32) == torch.tensor([100, 201, 300])[:, None, None]).all(0)
            assert filled.any()
            assert torch.equal(item["sem_seg"] == 255, filled)

    def test_a_checkpoint_keeps_it(self, folder: Path) -> None:
        data = self.trained(folder, display_bands=[1])
        record = data.describe_evaluation()
        images = restore_evaluation(record, CLASSES, 255)
        assert images.rules == data.rules
        assert images.rules.fill == (100.0, 200.6, 300.0)
        assert (images.info.channels, images.info.dtype) == (3, "uint16")


def test_the_type_of_the_first_image_is_that_of_all(tmp_path: Path) -> None:
    made(tmp_path)
    write(tmp_path / "images/1.tif", np.zeros((4, *SIZE), np.float32), **UTM)
    (tmp_path / "images/0.tif").write_bytes(b"nothing")
    data = module(tmp_path)
    data.setup("fit")
    assert data.info.dtype == "float32"
    assert data.rules.dtype == "float32"
    with pytest.raises(UnfitImageError, match=r"2.tif has 4 bands of uint16, but the images .* are read as float32"):
        data.datasets["val"][2]


def test_prediction_needs_no_other_data(tmp_path: Path) -> None:
    made(tmp_path)
    gone = Folder("gone/images", "gone/masks")
    data = SegmentationDataModule(CLASSES, gone, gone, predict=f"{tmp_path}/images", bands=[4, 2], num_workers=0)
    data.setup("predict")
    item = data.datasets["predict"][0]
    assert item["image"].shape == (2, *SIZE)
    assert str(item["image"].dtype) == f"torch.{data.info.dtype}" == "torch.uint16"


def test_without_bands_nothing_is_read_to_find_the_type(tmp_path: Path) -> None:
    data = module(made(tmp_path), bands=None)
    data.setup("fit")
    assert (data.info.channels, data.info.dtype, data.rules.dtype) == (3, "uint8", None)


def test_transforms_must_leave_the_type(tmp_path: Path) -> None:
    data = module(made(tmp_path))
    data.setup("fit")
    data.datasets["train"].pipeline = A.Compose([A.ToFloat(max_value=4000)])
    with pytest.raises(DataError, match="the transforms return a float32 image, but uint16 is expected"):
        data.datasets["train"][Draw(0, 0, 0)]


class TestMasks:
    @pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32"])
    @pytest.mark.parametrize(
        "options", [{}, TILES, {"compress": "lzw"}, {"compress": "zstd", "bigtiff": "YES"}], ids=str
    )
    def test_geotiffs(self, tmp_path: Path, dtype: str, options: dict[str, Any]) -> None:
        labels = regions(*SIZE)
        path = write(tmp_path / "m.tif", labels[None].astype(dtype), **UTM, **options)
        assert np.array_equal(read_mask(path).values, labels)

    def test_a_geotiff_of_4_bits(self, tmp_path: Path) -> None:
        labels = regions(*SIZE)
        assert np.array_equal(read_mask(write(tmp_path / "m.tif", labels[None], nbits=4, **UTM)).values, labels)

    @pytest.mark.parametrize("dtype", ["uint8", "bool", "int64", "uint16"])
    def test_arrays(self, tmp_path: Path, dtype: str) -> None:
        labels = regions(*SIZE, labels=2 if dtype == "bool" else 3).clip(0, 1 if dtype == "bool" else 3)
        np.save(tmp_path / "m.npy", labels.astype(dtype))
        assert np.array_equal(read_mask(tmp_path / "m.npy").values, labels)

    def test_an_array_of_values_beyond_31_bits(self, tmp_path: Path) -> None:
        np.save(tmp_path / "m.npy", np.array([[2**40]]))
        with pytest.raises(UnreadableError, match="has values of more than 31 bits: expected class ids"):
            read_mask(tmp_path / "m.npy")

    def test_one_of_another_size(self, tmp_path: Path) -> None:
        made(tmp_path)
        write(tmp_path / "masks/0.tif", regions(20, 30)[None], **TILES)
        data = module(tmp_path, train_transforms=[RandomScaleCrop(20, 24)])
        with pytest.raises(
            DataError, match=r"0.tif is 30×20 pixels, but its image .*0.tif is 170×150: they must be of"
        ):
            draws(data, 1)

    def test_a_lossy_one_is_refused_by_windows_too(self, tmp_path: Path) -> None:
        made(tmp_path)
        write(tmp_path / "masks/0.tif", regions(*SIZE)[None], **{**TILES, **UTM, "compress": "jpeg"})
        data = module(tmp_path, train_transforms=[RandomScaleCrop(20, 24)])
        with pytest.raises(LossyMaskError, match="whose pixels are compressed as JPEG, which changes label values"):
            draws(data, 1)

    def test_unknown_values_are_named(self, tmp_path: Path) -> None:
        made(tmp_path)
        write(tmp_path / "masks/0.tif", np.full((1, *SIZE), 9, np.uint8), **TILES, **UTM)
        data = module(tmp_path, train_transforms=[RandomScaleCrop(20, 24, scale_limits=(1.0, 1.0))])
        with pytest.raises(DataError, match="has class id 9 in 480 pixels"):
            draws(data, 1)


class TestGrids:
    """A mask lies where its image does."""

    def problem(self, tmp_path: Path, image: dict[str, Any], mask: dict[str, Any]) -> str | None:
        paths = (
            write(tmp_path / "i.tif", np.zeros((2, *SIZE), np.uint16), **image),
            write(tmp_path / "m.tif", np.zeros((1, *SIZE), np.uint8), **mask),
        )
        return grid_problem(*paths)

    def test_the_same(self, tmp_path: Path) -> None:
        assert self.problem(tmp_path, UTM, UTM) is None
        moved = from_origin(500_000.0000001, 5_000_000, 0.5, 0.5)
        assert self.problem(tmp_path, UTM, {**UTM, "transform": moved}) is None
        turned = {**UTM, "transform": TURNED}
        assert self.problem(tmp_path, turned, turned) is None

    @pytest.mark.parametrize("mask", [{}, {"crs": "EPSG:32632"}])
    def test_one_that_does_not_say(self, tmp_path: Path, mask: dict[str, Any]) -> None:
        assert self.problem(tmp_path, UTM, mask) is None
        assert self.problem(tmp_path, mask, UTM) is None

    def test_another_place(self, tmp_path: Path) -> None:
        moved = from_origin(500_010, 5_000_000, 0.5, 0.5)
        assert self.problem(tmp_path, UTM, {**UTM, "transform": moved}) == (
            f"mask {tmp_path}/m.tif begins at (500010, 5000000), but its image {tmp_path}/i.tif at (500000, 5000000), "
            "and their pixels are up to 20 pixels apart: reproject it to the grid of its image, or correct what one of "
            "them says"
        )

    def test_another_resolution(self, tmp_path: Path) -> None:
        finer = from_origin(500_000, 5_000_000, 0.25, 0.25)
        assert "up to 85 pixels apart" in str(self.problem(tmp_path, UTM, {**UTM, "transform": finer}))

    def test_turned(self, tmp_path: Path) -> None:
        assert "pixels apart" in str(self.problem(tmp_path, UTM, {**UTM, "transform": TURNED}))

    def test_another_reference_system(self, tmp_path: Path) -> None:
        problem = self.problem(tmp_path, UTM, {**UTM, "crs": "EPSG:32633"})
        assert f"mask {tmp_path}/m.tif is in EPSG:32633, but its image {tmp_path}/i.tif in EPSG:32632: " in str(problem)

    def test_half_a_pixel_between_areas_and_points(self, tmp_path: Path) -> None:
        image = write(tmp_path / "i.tif", np.zeros((2, *SIZE), np.uint16), **UTM)
        mask = write(tmp_path / "m.tif", np.zeros((1, *SIZE), np.uint8), **UTM)
        with rasterio.open(mask, "r+") as file:
            file.update_tags(AREA_OR_POINT="Point")  # which moves what is stored, so that the place stays
        assert grid_problem(image, mask) is None

    def test_an_image_that_is_no_tiff(self, tmp_path: Path) -> None:
        np.save(tmp_path / "i.npy", np.zeros(SIZE))
        mask = write(tmp_path / "m.tif", np.zeros((1, *SIZE), np.uint8), **UTM)
        assert grid_problem(tmp_path / "i.npy", mask) is None

    def test_reading_refuses_it(self, tmp_path: Path) -> None:
        made(tmp_path)
        moved = {**UTM, "transform": from_origin(0, 0, 1, 1)}
        write(tmp_path / "masks/0.tif", regions(*SIZE)[None], **TILES, **moved)
        data = module(tmp_path, train_transforms=[RandomScaleCrop(20, 24)])
        with pytest.raises(
            DataError, match=r"mask .*0.tif begins at \(0, 0\), but its image .* at \(500000, 5000000\)"
        ):
            draws(data, 1)
        with pytest.raises(DataError, match=r"mask .*0.tif begins at \(0, 0\)"):
            data.datasets["val"][0]


@pytest.fixture
def scenes_of_bytes(tmp_path: Path) -> Path:
    """The same three scenes of RGB bytes in ``png`` and, as tiled GeoTIFFs, in ``tif``."""
    for name in ("png", "tif"):
        for part in ("images", "masks"):
            (tmp_path / name / part).mkdir(parents=True)
    for index in range(3):
        pixels = np.random.default_rng(index).integers(0, 256, (*SIZE, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"png/images/{index}.png")
        write(tmp_path / f"tif/images/{index}.tif", pixels.transpose(2, 0, 1), photometric="rgb", **TILES, **UTM)
        Image.fromarray(regions(*SIZE)).save(tmp_path / f"png/masks/{index}.png")
        write(tmp_path / f"tif/masks/{index}.tif", regions(*SIZE)[None], **TILES, **UTM)
    return tmp_path


def test_geotiffs_of_three_bytes_give_the_items_of_pngs(scenes_of_bytes: Path) -> None:
    transforms = [RandomScaleCrop(40, 48), A.HorizontalFlip(), A.RandomBrightnessContrast()]
    pngs = draws(module(scenes_of_bytes / "png", ".png", ".png", bands=None, train_transforms=transforms))
    assert pngs[0][0].dtype == torch.uint8
    for bands in (None, [1, 2, 3]):
        assert_equal(draws(module(scenes_of_bytes / "tif", bands=bands, train_transforms=transforms)), pngs)


def trained(data: SegmentationDataModule, means: list[float]) -> dict[str, torch.Tensor]:
    """The weights after some steps."""
    pl.seed_everything(0)
    keys = {**TINY_OVERRIDES, "MODEL.PIXEL_MEAN": means, "MODEL.PIXEL_STD": [means[0]] * len(means)}
    model = SegmentationModule("Misc/semantic_R_50_FPN_1x.yaml", CLASSES, overrides=keys, weights="")
    quiet: dict[str, Any] = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "accelerator": "cpu",
    }
    trainer = pl.Trainer(max_epochs=2, num_sanity_val_steps=0, enable_checkpointing=False, **quiet)
    trainer.fit(model, data)
    return model.state_dict()


@pytest.mark.runs
def test_a_training_on_geotiffs_of_three_bytes_is_that_on_pngs(scenes_of_bytes: Path) -> None:
    settings: dict[str, Any] = {"train_transforms": [RandomScaleCrop(40, 48)], "batch_size": 3}
    means = [120.0, 110.0, 100.0]
    pngs = trained(module(scenes_of_bytes / "png", ".png", ".png", bands=None, **settings), means)
    tiffs = trained(module(scenes_of_bytes / "tif", bands=[1, 2, 3], num_workers=2, **settings), means)
    assert all(torch.equal(tiffs[name], weights) for name, weights in pngs.items())


@pytest.mark.runs
@pytest.mark.parametrize("form", ["uint16", "float32"])
def test_bands_train_the_same_with_any_number_of_workers(tmp_path: Path, form: str) -> None:
    """Twelve bands of floats with holes, and of whole numbers with nodata."""
    made(tmp_path, nodata=7)
    for path in sorted((tmp_path / "images").iterdir()):
        with rasterio.open(path) as file:
            pixels = np.concatenate([file.read()] * 3).astype(form)
        pixels[:, 20:50, 30:70] = np.nan if form == "float32" else 7
        write(path, pixels, nodata=7, **TILES, **UTM)
    settings: dict[str, Any] = {
        "bands": list(range(12, 0, -1)),
        "train_transforms": [RandomScaleCrop(64, 64)],
        "batch_size": 3,
    }
    means = [2000.0] * 12
    alone, helped = (trained(module(tmp_path, num_workers=workers, **settings), means) for workers in (0, 2))
    assert all(torch.isfinite(values).all() for values in alone.values())
    assert all(torch.equal(helped[name], values) for name, values in alone.items())


@pytest.mark.parametrize("form", ["zip", "tar"])
@pytest.mark.parametrize("transforms", [[], [RandomScaleCrop(40, 48)]], ids=["whole", "windows"])
def test_samples_in_archives_are_those_of_files(
    tmp_path: Path, form: str, transforms: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made(tmp_path / "d")
    archive = archived(tmp_path / "d", tmp_path / f"a.{form}")
    files = draws(module(tmp_path / "d", train_transforms=transforms))
    opened = []
    opening = Member.open
    monkeypatch.setattr(Member, "open", lambda member: [opened.append(member.name), opening(member)][1])
    data = module(archive, train_transforms=transforms)
    data.setup("fit")
    opened.clear()
    assert_equal(draws(data), files)
    assert len(opened) == 2 * len(files)  # image and mask once each
