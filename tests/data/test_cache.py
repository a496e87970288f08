"""Samples that are decoded once: the same as without, in all processes, and gone with them."""

import os
import shutil
from pathlib import Path

import albumentations as A
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from lightning_seg.data import RandomScaleCrop
from lightning_seg.data.loading import cache
from lightning_seg.data.loading.cache import GIB, SampleCache, share_caches
from lightning_seg.data.loading.sampler import Draw
from lightning_seg.errors import ConfigError, DataError
from lightning_seg.structures import Sample
from tests.conftest import write_pair
from tests.data.modules import epochs, make


@pytest.fixture
def files(scenes: Path, tmp_path: Path) -> Path:
    shutil.copytree(scenes, tmp_path / "scenes")
    return tmp_path / "scenes"


@pytest.mark.parametrize("workers", [0, 2])
def test_samples_are_the_same_and_decoded_once(files: Path, workers: int) -> None:
    transforms = [RandomScaleCrop(32, 40), A.HorizontalFlip()]
    settings = {"num_workers": workers, "train_transforms": transforms, "seed": 3}
    without = epochs(make(files, **settings), 3)
    data = make(files, cache="ram", **settings)

    def lose_the_files(epoch: int) -> None:
        if epoch == 1:
            shutil.rmtree(files)

    assert epochs(data, 3, before=lose_the_files) == without


def test_a_transform_that_writes_into_its_input_does_no_harm(files: Path) -> None:
    def blacken(image: np.ndarray, **_: object) -> np.ndarray:
        image[:] = 0
        return image

    data = make(files, cache="ram", train_transforms=[A.Lambda(image=blacken, p=0.5)])
    epochs(data, 2)
    cached = data.datasets["train"].cache
    assert cached is not None
    for index in range(6):
        kept = cached.get(index)
        assert kept is not None
        assert kept[0].any()


def test_truth_of_validation_is_kept_too(files: Path) -> None:
    without, data = make(files), make(files, cache="ram")
    without.setup("fit")
    data.setup("fit")
    for _ in range(2):
        for mine, theirs in zip(data.val_dataloader(), without.val_dataloader(), strict=True):  # type: ignore[arg-type]
            assert all(torch.equal(mine[0][key], theirs[0][key]) for key in ("image", "sem_seg", "truth"))
    shutil.rmtree(files)
    assert len(list(data.val_dataloader())) == 3


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.runs)])
def test_loading_processes_share_it(files: Path, method: str) -> None:
    data = make(files, cache="ram")
    data.setup("fit")
    dataset = data.datasets["train"]
    assert dataset.cache is not None
    keys = [Draw(index, 0, index) for index in range(6)]
    loader = DataLoader(
        dataset, sampler=keys, batch_size=None, num_workers=1, multiprocessing_context=method, collate_fn=_as_it_is
    )
    assert len(list(loader)) == 6
    assert all(dataset.cache.get(index) is not None for index in range(6))


def _as_it_is(item: object) -> object:
    return item


@pytest.mark.parametrize("channels", [3, 5])
def test_wide_ids_and_odd_sizes(channels: int) -> None:
    kept = SampleCache.create([15, 7], 4, channels)
    rng = np.random.default_rng(0)
    samples = [
        (rng.integers(0, 256, (*size, channels), np.uint8), rng.integers(-9, 999, size, np.int32))
        for size in ((3, 5), (7, 1))
    ]
    assert kept.get(0) is None
    for index, sample in enumerate(samples):
        kept.put(index, *sample)
    other = SampleCache(os.open(kept.path, os.O_RDWR))
    for index, sample in enumerate(samples):
        found = other.get(index)
        assert found is not None
        assert np.array_equal(found[0], sample[0])
        assert np.array_equal(found[1], sample[1])


def test_the_file_has_no_name_that_could_stay_behind(files: Path) -> None:
    data = make(files, cache="ram")
    epochs(data, 1)
    cached = data.datasets["train"].cache
    assert cached is not None
    assert "(deleted)" in str(Path(cached.path).readlink())  # as Linux says of a file without a name


def test_size_is_announced_and_refused(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(cache, "rank_zero_info", said.append)
    monkeypatch.setattr(cache, "usable_memory", lambda: 2 * GIB)
    make(files, cache="ram").setup("fit")
    assert said == ["data.cache: ram will take 0.0 GiB of the 2.0 GiB that are free, for 9 decoded samples"]
    monkeypatch.setattr(cache, "usable_memory", lambda: 9 * 48 * 64 * 4)
    with pytest.raises(
        ConfigError, match=r"data\.cache: ram needs 0\.0 GiB for 9 decoded samples, but 0\.0 GiB .* are free"
    ):
        make(files, cache="ram").setup("fit")


def test_bad_images_are_named(tmp_path: Path) -> None:
    write_pair(tmp_path / "train", "a", np.zeros((8, 8), np.uint8))
    (tmp_path / "train/images/a.jpg").write_text("none")
    with pytest.raises(DataError, match=r"image .*a\.jpg cannot be read"):
        make(tmp_path, val=None, cache="ram").setup("fit")


def _rank(rank: int, file: str, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    samples = [Sample(str(number), Path(folder, f"train/images/{number}.jpg")) for number in range(3)]
    (kept,) = share_caches([samples], [1], [False])
    if rank == 0:
        kept.put(1, np.full((8, 8, 3), 7, np.uint8), np.full((8, 8), 2, np.uint8))
    torch.distributed.barrier()
    found = kept.get(1)
    Path(folder, str(rank)).write_text("none" if found is None else f"{found[0].mean()} {found[1].mean()}")
    torch.distributed.barrier()


def test_ranks_of_a_machine_share_it(tmp_path: Path) -> None:
    for number in range(3):
        write_pair(tmp_path / "train", str(number), np.zeros((8, 8), np.uint8))
    arguments = (str(tmp_path / "meet"), str(tmp_path))
    torch.multiprocessing.start_processes(_rank, arguments, nprocs=2, start_method="fork")
    assert (tmp_path / "0").read_text() == (tmp_path / "1").read_text() == "7.0 2.0"
