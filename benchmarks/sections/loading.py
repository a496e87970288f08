"""Training with data: the step with the real loader, on the CPUs of the machine, against the step alone."""

import time
from collections.abc import Iterator

import albumentations as A

from lightning_seg.data import Folder, RandomScaleCrop, SegmentationDataModule
from lightning_seg.data.loading.sampler import Draw
from sections.images import CLASSES, SIZE, write_scenes
from sections.loop import WARM_UP, make_batch
from sections.steps import FPN, SHIPPED
from sections.table import Row, Settings
from sections.training import ours


def run(settings: Settings) -> Iterator[Row]:
    """The loader as it is, then with all samples in memory, where decoding is no part of it."""
    tiny, device = settings.tiny, settings.device
    batch, steps, distinct = (2, 2, 4) if tiny else (FPN.batch, 40, 32)
    size, crop = ((64, 128), (32, 64)) if tiny else (SIZE, FPN.size)
    folder = settings.folder / "loading"
    write_scenes(folder, distinct, names=distinct if tiny else batch * (steps + 8), size=size)

    def data(**options: object) -> SegmentationDataModule:
        return SegmentationDataModule(
            classes=[f"class{index}" for index in range(CLASSES)],
            train=Folder(images=str(folder / "images"), masks=str(folder / "masks")),
            train_transforms=[RandomScaleCrop(*crop), A.HorizontalFlip()],
            batch_size=batch,
            **options,  # type: ignore[arg-type]
        )

    alone = ours(
        FPN.build(channels_last=True), make_batch(batch, *crop), steps, device, batch_size=batch, **SHIPPED
    ).images_per_s
    per_sample = cpu_seconds(data(num_workers=0), tiny)
    note = f"a sample takes {1000 * per_sample:.1f} ms of a CPU: this step needs {alone * per_sample:.1f} CPUs a GPU"
    for name, options, warm_up in (
        ("the loader", {}, 2 * WARM_UP),
        ("cache: ram", {"cache": "ram"}, (distinct if tiny else batch * (steps + 8)) // batch),
    ):
        if settings.left < 10:
            yield Row(name, no_time=True)
            continue
        module = data(**options)
        found = ours(
            FPN.build(channels_last=True), module, steps, device, batch_size=batch, warm_up=warm_up, **SHIPPED
        ).images_per_s
        yield Row(
            f"{FPN.name}, batch {batch}: {name}, {module._workers()} processes", found, alone, found / alone, 0.95,
            unit="images/s", note=note,
        )  # fmt: skip


def cpu_seconds(data: SegmentationDataModule, tiny: bool) -> float:
    """Of one training sample, in this process."""
    data.setup("fit")
    data.train_dataloader()  # prepares the process
    dataset = data.datasets["train"]
    count = 4 if tiny else 32
    start = time.process_time()
    for index in range(count):
        dataset[Draw(index % len(dataset), 0, index)]
    return (time.process_time() - start) / count
