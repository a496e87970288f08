"""Samples, batches and errors of the data module."""

import gc
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import albumentations as A
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from pytorch_lightning.trainer.states import TrainerFn

from lightning_seg.data import (
    Cityscapes,
    Coco,
    Folder,
    RandomScaleCrop,
    SegmentationDataModule,
    Split,
    Synthetic,
)
from lightning_seg.data.loading.sampler import Draw
from lightning_seg.data.readers.coco import _read
from lightning_seg.data.reading import ImageFile, read_image, read_mask, turbojpeg
from lightning_seg.errors import ConfigError, DataError, UnfitImageError
from lightning_seg.structures import Sample
from tests.conftest import CLASSES, write_pair
from tests.data.layouts import catalog_of_annotations
from tests.data.modules import epochs, make


def test_samples_are_detectron2s_format(scenes: Path) -> None:
    data = make(scenes, eval_transforms=[A.Resize(24, 40)])
    data.setup("fit")
    (sample,) = next(iter(data.val_dataloader()))  # type: ignore[misc]
    image = read_image(Path(sample["file_name"]))
    mask = read_mask(Path(sample["sem_seg_file_name"])).values
    assert sample["image"].shape == (3, 24, 40)
    assert sample["image"].dtype == torch.uint8
    assert sample["sem_seg"].shape == (24, 40)
    assert (sample["height"], sample["width"]) == (48, 64) == image.shape[:2]
    assert np.array_equal(sample["truth"], mask)


@pytest.mark.parametrize("seven", [7, "7"])
def test_classes_of_a_source_are_mapped_by_value_and_by_name(seven: int | str) -> None:
    label_map = {seven: "way", "car": "vehicle", 27: "vehicle", "sky": "ignore", 11: "ignore"}
    data = SegmentationDataModule(train=Cityscapes(root=".", split="train"), label_map=label_map)
    assert data.class_names[:3] == ["way", "sidewalk", "wall"]
    assert data.class_names.count("vehicle") == 1
    assert not {"road", "car", "truck", "sky", "building"} & set(data.class_names)


def test_the_rest_of_a_sources_classes_is_one(tmp_path: Path) -> None:
    label_map: dict[int | str, str] = {"24-25": "human", "road": "way", "rest": "other"}
    data = SegmentationDataModule(train=Cityscapes(root=".", split="train"), label_map=label_map)
    assert data.class_names == ["way", "other", "human"]
    data = SegmentationDataModule(
        classes=["road", "other"], train=Cityscapes(root=".", split="train"), label_map={"rest": "other"}
    )
    table = data.labelling.table(data.readers["train"][0].labels(tmp_path), "data.train")
    assert [table.values[value] for value in (7, 8, 24, 0)] == [0, 1, 1, 255]


def test_without_transforms_pixels_are_untouched_rgb(scenes: Path) -> None:
    data = make(scenes)
    data.setup("fit")
    sample = next(iter(data.train_dataloader()))[0]
    assert np.array_equal(sample["image"].permute(1, 2, 0), read_image(Path(sample["file_name"])))
    assert "truth" not in sample


def test_overfitting_sees_the_same_pixels_in_every_epoch(scenes: Path) -> None:
    data = make(scenes, train_transforms=[A.HorizontalFlip()], batch_size=2)
    data.trainer = SimpleNamespace(overfit_batches=1, world_size=2, global_rank=1, training=False)  # type: ignore[assignment]
    first, second = epochs(data, 2)
    assert [name for name, *_ in first] == [data.datasets["train"].samples[index].name for index in (1, 3)]
    assert first == second


@pytest.mark.parametrize("settings", [{}, {"cache": "ram"}, {"sampler": "rare_class"}], ids=["plain", "cache", "rare"])
class TestAugmentationDependsOnSeedEpochAndPositionAlone:
    def make(self, root: Path, settings: dict[str, Any], **more: Any) -> SegmentationDataModule:
        transforms = [RandomScaleCrop(32, 40), A.HorizontalFlip(), A.RandomBrightnessContrast(p=1.0)]
        return make(root, **{"train_transforms": transforms, "seed": 4, "val": None, **settings, **more})

    @pytest.mark.parametrize("workers", [1, 2, 3])
    def test_not_on_workers(self, scenes: Path, settings: dict[str, Any], workers: int) -> None:
        alone = epochs(self.make(scenes, settings), 3)
        assert epochs(self.make(scenes, settings, num_workers=workers), 3) == alone

    def test_not_on_ranks(self, scenes: Path, settings: dict[str, Any]) -> None:
        alone = epochs(self.make(scenes, settings, batch_size=2), 2)
        ranks = []
        for rank in range(2):
            data = self.make(scenes, settings, batch_size=1)
            data.setup("fit")  # as one process: the counts and the cache of a real rank are those of all
            data.trainer = SimpleNamespace(
                overfit_batches=0, world_size=2, global_rank=rank, num_devices=2, training=False
            )  # type: ignore[assignment]
            ranks.append(epochs(data, 2))
        for epoch in range(2):
            steps = [set(alone[epoch][start : start + 2]) for start in range(0, 6, 2)]
            assert [set(step) for step in zip(ranks[0][epoch], ranks[1][epoch], strict=True)] == steps

    def test_on_the_seed_and_epoch(self, scenes: Path, settings: dict[str, Any]) -> None:
        first = epochs(self.make(scenes, settings), 3)
        assert epochs(self.make(scenes, settings), 3) == first
        other = epochs(self.make(scenes, settings, seed=5), 3)
        looks = [look for seen in (*first, *other) for look in seen]
        assert len(set(looks)) == len(looks)


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_reach_the_user_without_a_workers_stack_trace(tmp_path: Path, workers: int) -> None:
    write_pair(tmp_path / "train", "a", np.zeros((8, 8), np.uint8))
    write_pair(tmp_path / "train", "b", np.full((8, 8), 7, np.uint8))
    data = make(tmp_path, val=None, num_workers=workers)
    data.setup("fit")
    with pytest.raises(DataError) as caught:
        list(data.train_dataloader())
    assert str(caught.value).startswith(str(tmp_path / "train/masks/b.png") + " has class id 7 in 64 pixels")
    assert "Traceback" not in str(caught.value)


def test_size_mismatch_is_named(tmp_path: Path) -> None:
    write_pair(tmp_path / "train", "a", np.zeros((8, 6), np.uint8), image_size=(8, 8))
    data = make(tmp_path, val=None, batch_size=1)
    data.setup("fit")
    with pytest.raises(DataError, match=r"mask .*a\.png is 6×8 pixels, but its image .*a\.jpg is 8×8"):
        list(data.train_dataloader())


def test_normalising_twice_is_refused(scenes: Path) -> None:
    with pytest.raises(ConfigError, match=r"data.train_transforms: Normalize returns a float32 image.*leave Normalize"):
        make(scenes, train_transforms=[A.Normalize()]).setup("fit")


@pytest.mark.parametrize(("scale", "reductions"), [(0.6, []), (0.5, [2]), (0.3, [2]), (0.25, [4]), (0.1, [8])])
def test_reduced_decoding_looks_almost_the_same(
    tmp_path: Path, scale: float, reductions: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    ramp = np.linspace(0, 255, 200).astype(np.uint8)
    image = np.stack([np.broadcast_to(ramp, (120, 200)), np.broadcast_to(ramp[:120, None], (120, 200))], axis=2)
    write_pair(tmp_path / "train", "a", np.arange(120 * 200).reshape(120, 200).astype(np.uint8) % 6)
    Image.fromarray(np.dstack([image, image[..., :1]])).save(tmp_path / "train/images/a.jpg", quality=95)
    taken: list[int] = []
    reduced_by = ImageFile.reduced
    monkeypatch.setattr(ImageFile, "reduced", lambda file, by: taken.append(by) or reduced_by(file, by))

    def sample(reduced_decoding: bool) -> dict[str, Any]:
        crop = RandomScaleCrop(24, 24, (scale, scale))
        data = make(tmp_path, val=None, batch_size=1, train_transforms=[crop], reduced_decoding=reduced_decoding)
        data.setup("fit")
        return next(iter(data.train_dataloader()))[0]

    whole, reduced = sample(False), sample(True)
    assert taken == reductions
    assert (reduced["height"], reduced["width"]) == (120, 200)
    assert torch.equal(whole["sem_seg"], reduced["sem_seg"])
    assert (whole["image"].float() - reduced["image"].float()).abs().mean() < 1.5


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("max_fraction", [1.0, 0.75])
def test_samples_are_the_same_whether_all_of_a_jpeg_is_decoded(
    tmp_path: Path, orientation: int, max_fraction: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    write_pair(tmp_path / "train", "a", rng.integers(0, 6, (90, 120), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    noise = rng.integers(0, 256, (90, 120, 3) if orientation == 1 else (120, 90, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "train/images/a.jpg", exif=exif)
    crop = RandomScaleCrop(24, 40, (0.3, 3.0), max_fraction=max_fraction)
    data = make(tmp_path, val=None, batch_size=1, train_transforms=[crop])
    data.setup("fit")
    decoded: list[bool] = []

    decode_part = turbojpeg.decode_part

    def partly(data: bytes, rows: slice, columns: slice) -> NDArray[np.uint8] | None:
        part = decode_part(data, rows, columns)
        decoded.append(part is not None)
        if part is None:
            return None
        rest = rng.integers(0, 256, part.shape, np.uint8)  # whatever may be there is not what the sample shows
        rest[rows, columns] = part[rows, columns]
        return rest

    def samples() -> list[dict[str, Any]]:
        return [data.datasets["train"][Draw(0, 0, position)] for position in range(60)]

    monkeypatch.setattr(turbojpeg, "decode_part", partly)
    ours = samples()
    monkeypatch.setattr(turbojpeg, "decode_part", lambda *arguments: None)
    for part, whole in zip(ours, samples(), strict=True):
        assert torch.equal(part["image"], whole["image"])
        assert torch.equal(part["sem_seg"], whole["sem_seg"])
        assert (part["height"], part["width"]) == (90, 120)
    assert bool(decoded) == (orientation == 1)


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_reduced_decoding_shifts_nothing(tmp_path: Path, orientation: int) -> None:
    """Where the factor does not divide the size, too: the last columns stay the last."""
    height, width = 101, 213
    ramp = np.broadcast_to(np.linspace(10, 240, width), (height, width))
    stored = {1: ramp, 3: ramp[::-1, ::-1], 6: np.rot90(ramp)}[orientation]
    write_pair(tmp_path / "train", "a", np.zeros((height, width), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored.astype(np.uint8)).save(tmp_path / "train/images/a.jpg", quality=98, exif=exif)
    for scale in (0.5, 0.25, 0.125):
        crop = RandomScaleCrop(round(height * scale), round(width * scale), (scale, scale))
        looks = []
        for reduced_decoding in (False, True):
            data = make(tmp_path, val=None, batch_size=1, train_transforms=[crop], reduced_decoding=reduced_decoding)
            data.setup("fit")
            looks.append(data.datasets["train"][Draw(0, 0, 0)]["image"].float())
        inner = slice(1, -1)  # at the border there is less than a block to interpolate with
        assert (looks[0] - looks[1])[..., inner].abs().max() < 2.1


def test_value_range_reaches_every_sample(tmp_path: Path) -> None:
    write_pair(tmp_path / "train", "a", np.zeros((8, 8), np.uint8))
    (tmp_path / "train/images/a.jpg").unlink()
    values = np.arange(64, dtype=np.uint16).reshape(8, 8) * 64
    Image.fromarray(values).save(tmp_path / "train/images/a.png")
    expected = np.rint(values / 4032 * 255)
    for settings in ({}, {"cache": "ram"}, {"train_transforms": [RandomScaleCrop(8, 8, (1, 1))]}):
        data = make(tmp_path, val=None, batch_size=1, value_range=[0, 4032], **settings)
        data.setup("fit")
        image = data.datasets["train"][0]["image"].numpy()
        assert np.array_equal(image, np.broadcast_to(expected, (3, 8, 8)))
    data = make(tmp_path, val=None, batch_size=1, max_pixels=63)
    data.setup("fit")
    with pytest.raises(UnfitImageError, match=r"a\.png is 8×8 pixels, but data\.max_pixels allows 63"):
        data.datasets["train"][0]


def test_reduced_decoding_compares_whole_sizes(tmp_path: Path) -> None:
    write_pair(tmp_path / "train", "a", np.zeros((40, 30), np.uint8), image_size=(80, 60))
    crop = RandomScaleCrop(8, 8, (0.5, 0.5))
    data = make(tmp_path, val=None, batch_size=1, train_transforms=[crop], reduced_decoding=True)
    data.setup("fit")
    with pytest.raises(DataError, match=r"mask .*a\.png is 30×40 pixels, but its image .*a\.jpg is 60×80"):
        list(data.train_dataloader())


@pytest.mark.parametrize("ignore_index", [-1, 1000])
def test_ignore_index_beyond_8_bits_pads_exactly(tmp_path: Path, ignore_index: int) -> None:
    write_pair(tmp_path / "train", "a", np.ones((8, 8), np.uint8))
    data = make(tmp_path, val=None, batch_size=1, ignore_index=ignore_index, train_transforms=[A.PadIfNeeded(16, 16)])
    data.setup("fit")
    mask = next(iter(data.train_dataloader()))[0]["sem_seg"]
    assert mask.shape == (16, 16)
    assert set(mask.unique().tolist()) == {1, ignore_index}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": []}, r"data\.classes is empty"),
        ({"classes": ["a", "b", "a"]}, "names a more than once"),
        ({"ignore_index": 2}, r"data\.ignore_index 2 is the id of class 'hill'"),
        ({"palette": {"sea": "#000000"}}, r"data\.palette colours sea"),
        ({"palette": {"sky": "blue"}}, r"data.palette, sky: colour 'blue' is not of the form '#rrggbb'"),
        ({"reduced_decoding": True}, "put lightning_seg.data.RandomScaleCrop first in data.train_transforms"),
        (
            {"reduced_decoding": True, "cache": "ram", "train_transforms": [RandomScaleCrop(8, 8)]},
            r"data\.reduced_decoding would do nothing: choose one",
        ),
        ({"batch_size": 0}, r"data\.batch_size is 0"),
        ({"value_range": [5, 5]}, r"data\.value_range is \[5, 5\], but must be two numbers, the lower one first"),
        ({"max_pixels": 0}, r"data\.max_pixels is 0, but must be at least 1"),
    ],
)
def test_settings_that_cannot_work(scenes: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(scenes, **settings)


def test_batch_larger_than_the_data(scenes: Path) -> None:
    data = make(scenes, batch_size=7)
    data.setup("fit")
    with pytest.raises(DataError, match=r"6 samples, fewer than one batch of 7 .* lower data\.batch_size"):
        data.train_dataloader()


class Counted(Folder):
    """Counts how often it is asked."""

    listed = 0

    def samples(self, root: Path | None) -> list[Sample]:
        self.listed += 1
        return super().samples(root)


def test_lists_a_split_once(scenes: Path) -> None:
    readers = {part: Counted(images=f"{part}/images", masks=f"{part}/masks") for part in ("train", "val")}
    data = make(scenes, **readers)
    data.trainer = SimpleNamespace(state=SimpleNamespace(fn=TrainerFn.FITTING))  # type: ignore[assignment]
    assert data.count_samples("train") == 6
    data.prepare_data()
    data.setup("fit")
    assert [reader.listed for reader in readers.values()] == [1, 1]


def test_what_was_read_to_list_the_samples_is_released(tmp_path: Path) -> None:
    registered = catalog_of_annotations(tmp_path, ["a", "b"])
    whole = Coco(annotations="all.json", images="i", background=None)
    parts = {"train": Split(of=whole, part="train", fractions=[0.5, 0.5]), "val": registered}
    content = weakref.ref(_read(tmp_path / "all.json"))
    data = SegmentationDataModule(**parts, root=str(tmp_path), num_workers=0)
    data.setup("fit")
    gc.collect()
    assert content() is None
    assert registered._loaded is None


def test_a_trainer_that_only_evaluated_may_write_a_checkpoint(scenes: Path) -> None:
    data = make(scenes)
    data.setup("validate")
    assert data.state_dict() == {}
    data.load_state_dict({})
    data.setup("fit")
    assert data.state_dict()["ahead"] == 0


def test_stage_without_reader(scenes: Path) -> None:
    with pytest.raises(ConfigError, match=r"test needs data\.test"):
        make(scenes).setup("test")
    with pytest.raises(ConfigError, match=r"--data\.predict"):
        make(scenes).setup("predict")
    with pytest.raises(DataError, match=r"data\.root .* does not exist"):
        make(scenes / "nowhere").prepare_data()


def test_a_root_that_a_reader_makes(tmp_path: Path) -> None:
    reader = Synthetic(root="painted", count=2, seed=0, size=(32, 32))
    data = SegmentationDataModule(classes=CLASSES, train=reader, root=str(tmp_path / "new"), num_workers=0)
    data.prepare_data()
    assert len(list((tmp_path / "new" / "painted" / "images").iterdir())) == 2


def test_images_to_predict_keep_folders_and_never_collide(tmp_path: Path) -> None:
    folder = tmp_path / "all"
    for name in ("a.jpg", "a.png", "sub/a.jpg", "sub/b.jpg", "._b.jpg", ".trash/c.jpg"):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        Image.new("RGB", (4, 4)).save(folder / name)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "there").symlink_to(folder / "sub")

    def names(predict: Path) -> list[str]:
        data = SegmentationDataModule(classes=CLASSES, predict=str(predict), num_workers=0)
        data.setup("predict")
        return [sample.name for sample in data.datasets["predict"].samples]

    assert names(folder) == ["a.jpg", "a.png", "sub/a", "sub/b"]
    assert names(tmp_path / "linked") == ["there/a", "there/b"]
    assert names(folder / "sub" / "a.jpg") == ["a"]
    assert names(folder / "sub" / "*.jpg") == ["a", "b"]
    with pytest.raises(DataError, match="matches no image"):
        names(folder / "*.bmp")
