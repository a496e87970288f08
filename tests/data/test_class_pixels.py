"""Pixels of each class, counted by several processes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_seg.data import Coco
from lightning_seg.data.datamodule import SegmentationDataModule
from lightning_seg.data.loading.ranks import gather
from lightning_seg.errors import DataError
from tests.conftest import write_pair
from tests.data.modules import make


@pytest.mark.parametrize("workers", [0, 2])
def test_counts_are_those_of_the_masks(tmp_path: Path, workers: int) -> None:
    masks = np.random.default_rng(0).choice([0, 1, 5, 255], (5, 12, 20)).astype(np.uint8)
    for number, mask in enumerate(masks):
        write_pair(tmp_path / "train", str(number), mask)
    data = make(tmp_path, val=None, sampler="rare_class", num_workers=workers)
    data.setup("fit")
    assert data.class_pixels is not None
    assert data.class_pixels.tolist() == [[int((mask == index).sum()) for index in range(6)] for mask in masks]
    draws = [sample["name"] for batch in data.train_dataloader() for sample in batch]
    assert len(draws) == 4


def test_regions_are_counted_too(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    write_pair(tmp_path, "a", np.zeros((8, 10), np.uint8))
    (tmp_path / "coco.json").write_text(
        '{"images": [{"id": 1, "file_name": "a.jpg"}], "categories": [{"id": 3, "name": "cat"}], "annotations": '
        '[{"id": 1, "image_id": 1, "category_id": 3, "segmentation": [[0, 0, 4, 0, 4, 8, 0, 8]]}]}'
    )
    reader = Coco(annotations="coco.json", images="images")
    data = SegmentationDataModule(train=reader, root=str(tmp_path), sampler="rare_class", num_workers=0, batch_size=1)
    data.setup("fit")
    assert data.class_pixels is not None
    assert dict(zip(data.class_names, data.class_pixels[0].tolist(), strict=True)) == {"background": 48, "cat": 32}


def test_bad_masks_and_masks_without_labels_are_named(tmp_path: Path) -> None:
    write_pair(tmp_path / "train", "a", np.full((8, 8), 255, np.uint8))
    with pytest.raises(DataError, match=r"no pixel of data\.train is labelled"):
        make(tmp_path, val=None, sampler="rare_class").setup("fit")
    write_pair(tmp_path / "train", "b", np.full((8, 8), 9, np.uint8))
    with pytest.raises(DataError, match=r"b\.png has class id 9 in 64 pixels"):
        make(tmp_path, val=None, sampler="rare_class", num_workers=1).setup("fit")


def _rank(rank: int, file: str, out: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)

    def fail_on_the_second() -> int:
        if rank == 1:
            raise DataError("bad mask")
        return rank

    results = gather(lambda: 10 + rank)
    try:
        gather(fail_on_the_second)
    except DataError as error:
        Path(out, str(rank)).write_text(f"{results} {error}")


def test_ranks_share_results_and_errors(tmp_path: Path) -> None:
    torch.multiprocessing.start_processes(_rank, (str(tmp_path / "meet"), str(tmp_path)), nprocs=2, start_method="fork")
    assert (tmp_path / "0").read_text() == (tmp_path / "1").read_text() == "[10, 11] bad mask"
