"""The metric's state, alone and over processes."""

import json
from pathlib import Path

import torch
import torch.distributed
import torch.multiprocessing

from lightning_seg.metrics import ConfusionMatrix, Report

IGNORE = 255


def images() -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randint(0, 4, (2, 6, 5 + index), generator=generator) for index in range(3)]
    return [(prediction, torch.where(truth == 3, IGNORE, truth)) for prediction, truth in maps]


def accumulate(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    metric = ConfusionMatrix(num_classes=4, ignore_index=IGNORE)
    for prediction, truth in pairs:
        metric.update(prediction, truth)
    return metric.compute()


def _one_process(rank: int, world_size: int, folder: str) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world_size
    )
    matrix = accumulate(images()[:1][rank::world_size])
    if rank == world_size - 1:
        torch.save(matrix, Path(folder) / "matrix.pt")
    torch.distributed.destroy_process_group()


def test_is_the_same_over_processes_even_empty_ones(tmp_path: Path) -> None:
    expected = accumulate(images()[:1])
    assert expected.dtype == torch.int64
    torch.multiprocessing.spawn(_one_process, args=(2, str(tmp_path)), nprocs=2)  # the second has no image
    assert torch.equal(torch.load(tmp_path / "matrix.pt"), expected)


def test_is_the_sum_over_images() -> None:
    parts = [accumulate([pair]) for pair in images()]
    assert torch.equal(accumulate(images()), torch.stack(parts).sum(0))


def test_report_is_valid_json_with_nulls_for_absent_classes() -> None:
    matrix = torch.tensor([[3, 1, 0], [0, 4, 0], [0, 0, 0]])
    report = Report("val", ["a", "b", "c"], matrix, 2, "detectron2").as_json()
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["IoU"] == {"a": 0.75, "b": 0.8, "c": None}
    assert report["mIoU"] == (0.75 + 0.8) / 2
    assert report["num_valid_pixels"] == 8
    assert report["confusion_matrix"] == [[3, 1, 0], [0, 4, 0], [0, 0, 0]]
