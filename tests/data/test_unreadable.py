"""Training samples that cannot be read: an error with their path, or another in their place."""

import json
import shutil
import warnings
from multiprocessing import active_children
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import albumentations as A
import numpy as np
import pytest
from PIL import Image

from lightning_seg.cli import main
from lightning_seg.data import Coco, RandomScaleCrop, SegmentationDataModule
from lightning_seg.data.listing.splits import list_splits
from lightning_seg.data.loading.sampler import Draw
from lightning_seg.data.reading import turbojpeg
from lightning_seg.errors import DataError, UnfitImageError, UnreadableError
from tests.conftest import train_py, write_pair
from tests.data import planted
from tests.data.modules import SEEN, epochs, make
from tests.runs import Experiment, logged

SETTINGS = [{}, {"cache": "ram"}, {"sampler": "rare_class"}]


def spoil(file: Path) -> str:
    """Cut a file off in its first bytes, so that not even a part of it can be decoded; returns its path."""
    file.write_bytes(file.read_bytes()[:64])
    return str(file)


@pytest.fixture
def broken(scenes: Path, tmp_path: Path) -> tuple[Path, list[str]]:
    """The scenes, but the second training image and the fourth training mask are cut off, with the paths of those."""
    root = tmp_path / "broken"
    shutil.copytree(scenes, root)
    images, masks = (sorted((root / "train" / kind).iterdir()) for kind in ("images", "masks"))
    return root, [spoil(images[1]), spoil(masks[3])]


def test_a_bit_that_is_turned_is_passed_over(scenes: Path, tmp_path: Path) -> None:
    """In a PNG's pixels, image or mask: it ended the process once."""
    root = tmp_path / "flipped"
    shutil.copytree(scenes, root)
    images, masks = (sorted((root / "train" / kind).iterdir()) for kind in ("images", "masks"))
    Image.fromarray(np.asarray(Image.open(images[1]))).save(images[1].with_suffix(".png"))
    images[1].unlink()
    paths = [str(planted.flip(path)) for path in (images[1].with_suffix(".png"), masks[3])]
    data = augmented(root)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        (seen,) = epochs(data, 1)
    assert len(seen) == 6
    messages = [str(warning.message) for warning in said]
    for path in paths:
        assert any(f"{path} cannot be read (its 'IDAT' chunk is damaged" in message for message in messages)


@pytest.mark.skipif(turbojpeg._library() is None, reason="libjpeg-turbo 3 is not installed here")
def test_a_jpeg_that_is_damaged_in_the_middle_is_passed_over_whether_it_is_decoded_in_part_or_whole(
    tmp_path: Path,
) -> None:
    for name in ("a", "b"):
        write_pair(tmp_path / "train", name, np.zeros((64, 64), np.uint8))
    path = tmp_path / "train/images/a.jpg"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 4] + b"\xff\xd9")
    crops: dict[str, list[Any]] = {"part": [RandomScaleCrop(64, 64, (1, 1))], "whole": [A.HorizontalFlip()]}
    for transforms in crops.values():
        data_module = make(tmp_path, val=None, train_transforms=transforms)
        data_module.setup("fit")
        with pytest.raises(UnreadableError, match=r"a\.jpg cannot be read \(Corrupt JPEG data: premature end"):
            data_module.datasets["train"][Draw(0, 0, 0)]


def test_what_is_unfit_is_no_damage(scenes: Path, tmp_path: Path) -> None:
    root = tmp_path / "deep"
    shutil.copytree(scenes, root)
    path = min((root / "train" / "images").iterdir())
    Image.fromarray(np.zeros((48, 64), np.uint16)).save(path, "PNG")
    data = augmented(root)
    data.setup("fit")
    with pytest.raises(UnfitImageError, match=r"1 band of uint16 with values from 0 to 0"):
        data.datasets["train"][0]


def augmented(root: Path, **settings: Any) -> SegmentationDataModule:
    transforms = [RandomScaleCrop(32, 40), A.RandomBrightnessContrast(p=1.0)]
    return make(root, **{"train_transforms": transforms, "seed": 4, "val": None, "unreadable": "skip", **settings})


@pytest.mark.parametrize("workers", [0, 2])
def test_refused_with_its_path(broken: tuple[Path, list[str]], workers: int) -> None:
    root, paths = broken
    data = make(root, val=None, num_workers=workers)
    data.setup("fit")
    before = set(active_children())
    loader = data.train_dataloader()
    with pytest.raises(UnreadableError) as caught:
        list(loader)
    assert any(path in str(caught.value) for path in paths)
    assert set(active_children()) <= before, "loading processes that the error leaves behind"


@pytest.mark.filterwarnings("ignore:.*data.unreadable is skip")
@pytest.mark.parametrize("settings", SETTINGS, ids=["plain", "cache", "rare"])
class TestOthersInTheirPlace:
    def test_the_next_one_with_the_same_draw(self, broken: tuple[Path, list[str]], settings: dict[str, Any]) -> None:
        data = augmented(broken[0], **settings)
        (seen,) = epochs(data, 1)
        train = data.datasets["train"]
        order = data.train_dataloader().sampler.order()  # type: ignore[union-attr]
        if not settings:
            assert sorted(order) == list(range(6))
        for position, (index, (name, image, _)) in enumerate(zip(order, seen, strict=True)):
            there = {1: 2, 3: 4}.get(index, index)
            expected = train[Draw(there, 0, position)]
            assert (name, image) == (expected["name"], expected["image"].numpy().tobytes())

    def test_whatever_the_workers_and_ranks(self, broken: tuple[Path, list[str]], settings: dict[str, Any]) -> None:
        alone = epochs(augmented(broken[0], **settings), 2)
        assert epochs(augmented(broken[0], num_workers=2, **settings), 2) == alone
        ranks: list[SEEN] = []
        for rank in range(2):
            data = augmented(broken[0], batch_size=1, **settings)
            data.setup("fit")
            data.trainer = SimpleNamespace(
                overfit_batches=0, world_size=2, global_rank=rank, num_devices=2, training=False
            )  # type: ignore[assignment]
            ranks.append(epochs(data, 2))
        for epoch in range(2):
            pairs = zip(ranks[0][epoch], ranks[1][epoch], strict=True)
            assert [sample for pair in pairs for sample in pair] == alone[epoch]


def test_each_file_is_named_once(broken: tuple[Path, list[str]]) -> None:
    root, paths = broken
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        epochs(augmented(root, num_workers=1), 3)
    messages = [str(warning.message) for warning in said if "data.unreadable is skip" in str(warning.message)]
    assert sorted(path for path in paths for message in messages if path in message) == paths
    assert len(messages) == 2


def test_too_many_in_a_row_are_no_accident(broken: tuple[Path, list[str]]) -> None:
    for file in (broken[0] / "train" / "images").iterdir():
        spoil(file)
    data = augmented(broken[0])
    data.setup("fit")
    with pytest.raises(DataError, match=r"^6 samples in a row cannot be read, the first and the last of them: image "):
        list(data.train_dataloader())


def test_what_can_be_read_and_is_wrong_is_refused(broken: tuple[Path, list[str]]) -> None:
    root, _ = broken
    write_pair(root / "train", "0", np.full((8, 8), 77, np.uint8))
    data = augmented(root)
    data.setup("fit")
    with pytest.raises(DataError, match="class id 77"):
        data.datasets["train"][0]


def test_evaluation_refuses(broken: tuple[Path, list[str]]) -> None:
    root, _ = broken
    path = spoil(min((root / "val" / "masks").iterdir()))
    data = make(root, train=None, unreadable="skip")
    data.setup("validate")
    with pytest.raises(UnreadableError, match=path):
        list(data.val_dataloader())


@pytest.mark.filterwarnings("ignore:.*data.unreadable is skip")
def test_regions_that_cannot_be_painted(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_pair(tmp_path, name, np.zeros((8, 10), np.uint8))
    region = {"category_id": 3, "iscrowd": 0}
    content = {
        "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
        "categories": [{"id": 3, "name": "cat"}],
        "annotations": [
            {"id": 7, "image_id": 1, "segmentation": [[0, 0, 4, 0]], **region},
            {"id": 8, "image_id": 2, "segmentation": [[0, 0, 4, 0, 4, 8]], **region},
        ],
    }
    (tmp_path / "coco.json").write_text(json.dumps(content))
    reader = Coco(annotations="coco.json", images="images")
    data = SegmentationDataModule(train=reader, root=str(tmp_path), num_workers=0, batch_size=2, unreadable="skip")
    data.setup("fit")
    (batch,) = data.train_dataloader()
    assert [sample["name"] for sample in batch] == ["b", "b"]
    assert [message for sample in batch for message in sample.get("unreadable", [])] == [
        f"{tmp_path / 'coco.json'}, annotation 7 has a polygon [0, 0, 4, 0]: expected [x0, y0, x1, y1, …], three "
        "points or more"
    ]


def boxes(root: Path) -> Coco:
    """Three images, each with one region and, the first two, with boxes that have none."""
    for name in ("a", "b", "c"):
        write_pair(root, name, np.zeros((8, 10), np.uint8))
    box = {"category_id": 3, "iscrowd": 0, "bbox": [0, 0, 4, 4]}
    content = {
        "images": [{"id": number, "file_name": f"{name}.jpg"} for number, name in enumerate("abc")],
        "categories": [{"id": 3, "name": "cat"}],
        "annotations": [
            *({"id": 7 + n, "image_id": n % 2, **box, **shape} for n, shape in enumerate([{}, *EMPTY_SHAPES])),
            *({"id": 20 + n, "image_id": n, "segmentation": [[0, 0, 4, 0, 4, 8, 0, 8]], **box} for n in range(3)),
        ],
    }
    (root / "coco.json").write_text(json.dumps(content))
    return Coco(annotations="coco.json", images="images")


EMPTY_SHAPES = [{"segmentation": shape} for shape in (None, [], [[]], [[], []], {})]


def test_boxes_without_a_region_are_refused_with_their_number(tmp_path: Path) -> None:
    data = SegmentationDataModule(train=boxes(tmp_path), root=str(tmp_path), num_workers=0, batch_size=3)
    with pytest.raises(
        DataError,
        match=r"6 annotations of .*coco\.json have no region, such as annotation 7: give them a segmentation, or leave "
        r"them out with data\.unreadable: skip",
    ):
        data.setup("fit")


def test_boxes_without_a_region_are_left_out_and_counted_in_every_split(tmp_path: Path) -> None:
    reader = boxes(tmp_path)
    data = SegmentationDataModule(
        train=reader, val=reader, root=str(tmp_path), num_workers=0, batch_size=3, unreadable="skip"
    )
    with pytest.warns(UserWarning, match="have no region") as told:
        data.setup("fit")
    said = f"6 annotations of {tmp_path / 'coco.json'} have no region, such as annotation 7: they are left out"
    assert [str(warning.message) for warning in told] == [f"data.train: {said}", f"data.val: {said}"]
    for split in ("train", "val"):
        samples = [data.datasets[split][index] for index in range(3)]
        assert [sample["name"] for sample in samples] == ["a", "b", "c"]
        assert [int((sample["sem_seg"] == 1).sum()) for sample in samples] == [32, 32, 32]
        assert not any("unreadable" in sample for sample in samples)


def test_the_audit_lists_boxes_that_are_left_out(tmp_path: Path) -> None:
    data = SegmentationDataModule(train=boxes(tmp_path), root=str(tmp_path), unreadable="skip")
    listing = list_splits(data.readers, data.root, data.labelling)["train"]
    (defect,) = listing.defects
    assert (defect.kind, defect.refused, defect.path) == ("unreadable", False, str(tmp_path / "coco.json"))
    assert "6 annotations" in defect.detail
    assert listing.refusal is None


def test_a_run_passes_over_them_and_counts(
    experiment: Experiment, broken: tuple[Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, paths = broken
    config = str(experiment(root=str(root)))
    with pytest.raises(SystemExit):
        main(["fit", "--config", config])
    assert paths[0] in capsys.readouterr().err

    command = ["fit", "--config", config, "--name", "skip", "--data.unreadable", "skip", "--ckpt_path", "last"]
    with pytest.warns(UserWarning, match=r"passed over: data\.unreadable is skip"):
        main([*command, "--trainer.max_epochs", "1"])
    done = train_py(*command, "--trainer.devices", "2", "--data.batch_size", "1")  # the same batches
    assert done.returncode == 0, done.stderr
    counts = logged(tmp_path / "runs/skip/version_0", "data/skipped")
    assert len(counts) == 6
    assert counts == sorted(counts)
    assert [counts[2], counts[5]] == [2, 4]
